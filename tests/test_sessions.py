"""What a session said holds for its later calls, at every router of a store."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from conftest import Provider, Sidecar, endpoint, serving, until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_router_units import configuration

from bandit.steps import Step
from router.decision.draws import Draws
from router.decision.said import FirstCall, SessionKinds
from router.decision.sessions import Sessions
from router.decision.shared_draws import StoredDraw
from router.decision.units import Unit, session_keys, user_hash
from router.endpoints.data_classes import DataClass, DataClasses
from telemetry import keys, session_notes
from telemetry.secret import UnitSecrets
from telemetry.session_notes import OPENED, SessionNote
from telemetry.store import Address

ALL = "restricted"
TOOL = {"type": "function", "function": {"name": "run", "parameters": {"type": "object"}}}
CLASSES = DataClasses()


def value(provider: Provider) -> dict[str, Any]:
    """One endpoint takes everything, and two what is internal at most."""
    return {
        "providers": {
            "outside": {"base_url": provider.url("outside"), "auth": "none", "passthrough": True}
        },
        "endpoints": [
            endpoint(provider, "a", dialects=["chat", "messages"]),
            endpoint(provider, "b"),
            endpoint(provider, "safe", zone="local", max_data_class=ALL),
        ],
        "tasks": {"code": {"match": {"tools": ["run"]}}, "chat": None},
        "strategies": {"learn": {"objective": "quality", "incumbent": "none"}},
        "apps": {"default": {"mode": "route", "strategy": "learn"}},
    }


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy this machine is, a store that is there is heard."""
    monkeypatch.setattr("router.decision.sessions.LOOK_UP_S", 5.0)
    monkeypatch.setattr("router.decision.shared_draws.LOOK_UP_S", 5.0)


@pytest.fixture
def first(
    provider: Provider, state_dir: Path, address: Address, store: object
) -> Iterator[Sidecar]:
    with serving(value(provider), state_dir / "a", address) as found:
        found.until(lambda: found.app.keeper.store_up)
        yield found


@pytest.fixture
def second(
    provider: Provider, state_dir: Path, address: Address, first: Sidecar
) -> Iterator[Sidecar]:
    with serving(value(provider), state_dir / "b", address) as found:
        users = [one.app.keeper.secrets.users for one in (first, found)]
        found.until(lambda: found.app.keeper.store_up)
        found.until(lambda: all(one.is_known for one in users))
        assert users[0].of_units.now == users[1].of_units.now
        yield found


def call(
    sidecar: Sidecar, session: str | None = "s", *, user: str | None = None, **more: Any
) -> Any:
    headers = {"x-router-user": user, "x-router-session-id": session}
    headers |= {f"x-router-{name}": said for name, said in more.pop("said", {}).items()}
    own = {name: said for name, said in headers.items() if said is not None}
    return sidecar.chat(headers=own, **more)


def dry(sidecar: Sidecar, session: str = "s", **more: Any) -> Any:
    got = call(sidecar, session, said={"dry-run": "1", **more.pop("said", {})}, **more)
    assert got.status_code == 200, got.text
    return got.json()


def class_of(sidecar: Sidecar, session: str = "s", **more: Any) -> tuple[str, str]:
    """The class of a call that would come now, and who says so."""
    told = dry(sidecar, session, **more)["policy"]["data_class"]
    by = next(one["by"] for one in told["said"] if one["value"] == told["value"])
    return str(told["value"]), str(by)


def notes_in(client: Any) -> list[SessionNote | None]:
    return [SessionNote.unpack(client.get(name)) for name in client.scan_iter("pm:draw:*:said")]


# -- data classes ---------------------------------------------------------------------------------


def test_the_highest_class_that_a_call_named_holds_for_those_after_it(first: Sidecar) -> None:
    assert class_of(first) == ("internal", "built_in")
    assert call(first, said={"data-class": "confidential"}).headers["x-router-endpoint"] == "safe"

    assert class_of(first) == ("confidential", "session")
    served = [call(first, text=f"{i}").headers["x-router-endpoint"] for i in range(6)]
    assert set(served) == {"safe"}
    assert call(first, said={"data-class": ALL}).status_code == 200
    assert call(first, said={"data-class": "public"}).headers["x-router-endpoint"] == "safe"
    assert class_of(first) == (ALL, "session")
    assert call(first, model="a").status_code == 409, "nor may what it names by name"


def test_it_holds_for_no_other_session(first: Sidecar) -> None:
    call(first, "s", user="ann", said={"data-class": ALL})

    assert class_of(first, "s", user="ann") == (ALL, "session")
    assert class_of(first, "t", user="ann") == ("internal", "built_in")
    assert call(first, None, user="ann", said={"dry-run": "1"}).json()["exclusions"] == {}


def test_whoever_a_call_of_the_session_names_or_names_nobody_it_holds(first: Sidecar) -> None:
    call(first, "s", user="ann", said={"data-class": ALL})

    assert class_of(first, "s") == class_of(first, "s", user="bob") == (ALL, "session")


def test_a_refused_call_has_raised_it_as_well(first: Sidecar) -> None:
    assert call(first, model="a", said={"data-class": ALL}).status_code == 409

    assert class_of(first) == (ALL, "session")


PROFILE = {"profile": "1"}


def test_a_call_of_a_profile_hears_the_class_of_the_session_that_it_names(first: Sidecar) -> None:
    call(first, said={"data-class": "confidential"})

    assert call(first, model="a", said=PROFILE).status_code == 409
    assert call(first, model="a", router={"profile": True}).status_code == 409
    said = {"anthropic-version": "2023-06-01", "x-router-session-id": "s", "x-router-profile": "1"}
    body = {"model": "a", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
    got = first.http.post("/v1/messages", json=body, headers=said)
    assert got.status_code == 409, got.text
    assert call(first, model="safe", said=PROFILE).status_code == 200
    assert call(first, "t", model="a", said=PROFILE).status_code == 200


def test_the_class_that_a_call_of_a_profile_names_stays_whatever_became_of_it(
    first: Sidecar,
) -> None:
    said = {"data-class": "confidential", **PROFILE}
    for session, model, status in (("s", "safe", 200), ("t", "a", 409), ("u", "auto", 400)):
        assert call(first, session, model=model, said=said).status_code == status

        assert class_of(first, session) == ("confidential", "session")
        assert call(first, session, model="a").status_code == 409


def test_a_call_of_a_profile_hears_the_task_of_the_session_that_it_names(first: Sidecar) -> None:
    assert found_in(first, tools=[TOOL]) == ("code", "rule")

    assert found_in(first, model="a", said=PROFILE) == ("code", "session")
    assert found_in(first, "t", model="a", said=PROFILE, tools=[TOOL]) == ("code", "rule")
    assert found_in(first, "t") == ("general", "general")


def test_limits_are_the_requests_own(first: Sidecar, client: Any) -> None:
    said = {"max-cost-usd": "5", "max-latency-ms": "60000", "explore": "0"}
    assert call(first, said=said).status_code == 200

    assert not dry(first)["policy"].keys() & {"cost_usd", "latency_ms", "no_exploring"}
    assert notes_in(client) == []


def test_a_dry_run_leaves_nothing(first: Sidecar, client: Any) -> None:
    dry(first, said={"data-class": ALL}, tools=[TOOL])

    found = dry(first)
    assert (found["task"], found["found_by"]) == ("general", "general")
    assert class_of(first) == ("internal", "built_in")
    assert notes_in(client) == []


def test_what_is_passed_on_in_the_session_is_held_to_it(first: Sidecar, provider: Provider) -> None:
    assert call(first, model="unlisted").status_code == 200
    n_seen = len(provider.calls)
    call(first, said={"data-class": ALL})
    assert len(provider.calls) == n_seen + 1

    assert call(first, model="unlisted").status_code == 409
    assert len(provider.calls) == n_seen + 1
    refused = call(first, "u", model="unlisted", said={"data-class": "confidential"})
    assert refused.status_code == 409
    assert class_of(first, "u") == ("confidential", "session")


def test_another_router_knows(first: Sidecar, second: Sidecar, client: Any) -> None:
    call(first, user="ann", said={"data-class": "confidential"})
    until(lambda: len(notes_in(client)) == 1)

    assert class_of(second, user="ann") == ("confidential", "session")
    assert call(second, user="ann").headers["x-router-endpoint"] == "safe"
    (note,) = notes_in(client)
    assert note is not None
    assert (note.task, note.classes) == ("general", ("confidential",))


def test_a_router_that_knew_the_session_hears_of_a_class_soon(
    first: Sidecar, second: Sidecar, client: Any
) -> None:
    for sidecar in (first, second):
        assert class_of(sidecar) == ("internal", "built_in")
        call(sidecar)
    call(second, said={"data-class": ALL})

    first.until(lambda: class_of(first) == (ALL, "session"), within_s=5)
    assert call(first).headers["x-router-endpoint"] == "safe"
    # And the other way, by a session that both know.
    call(first, "t", said={"data-class": "confidential"})
    second.until(lambda: class_of(second, "t") == ("confidential", "session"), within_s=5)
    call(second, "t", said={"data-class": ALL})
    first.until(lambda: class_of(first, "t") == (ALL, "session"), within_s=5)
    assert 0 < client.pttl(keys.RAISED) <= session_notes.TOLD_MS


def test_after_a_restart_the_store_says_it(
    provider: Provider, state_dir: Path, address: Address, store: object, client: Any
) -> None:
    with serving(value(provider), state_dir, address) as sidecar:
        sidecar.until(lambda: sidecar.app.keeper.store_up)
        call(sidecar, said={"data-class": ALL}, tools=[TOOL])
        until(lambda: len(notes_in(client)) == 1)
    with serving(value(provider), state_dir, address) as sidecar:
        found = dry(sidecar)

        assert (found["task"], found["found_by"]) == ("code", "session")
        assert class_of(sidecar) == (ALL, "session")


# -- the task -------------------------------------------------------------------------------------


def found_in(sidecar: Sidecar, session: str = "s", **more: Any) -> tuple[str, str]:
    got = call(sidecar, session, **more)
    assert got.status_code == 200, got.text
    return got.headers["x-router-task"], got.headers["x-router-task-found-by"]


def decided(sidecar: Sidecar) -> str:
    return str(call(sidecar).headers["x-router-decision-id"])


def test_the_task_of_its_first_call_stays_the_sessions(first: Sidecar) -> None:
    assert found_in(first, tools=[TOOL]) == ("code", "rule")
    assert found_in(first) == ("code", "session")
    assert found_in(first, said={"task": "chat"}) == ("chat", "hint")
    assert found_in(first) == ("code", "session")
    assert found_in(first, model="auto/chat") == ("chat", "hint")
    assert found_in(first, said={"complexity": "hard"}) == ("code/hard", "session")

    told = first.http.get(f"/v1/router/decisions/{decided(first)}").json()
    assert (told["task"], told["task_found_by"]) == ("code", "session")
    assert found_in(first, "t") == ("general", "general")
    assert found_in(first, "t", tools=[TOOL]) == ("general", "session")


def test_what_a_hint_said_is_that_calls_alone(first: Sidecar) -> None:
    assert found_in(first, said={"task": "chat"}) == ("chat", "hint")
    assert found_in(first, said={"task": "unknown"}) == ("general", "general")
    assert found_in(first, tools=[TOOL], said={"complexity": "hard"}) == ("code/hard", "rule")
    assert found_in(first) == ("code", "session")


def test_only_what_a_rule_found_is_kept_in_the_store(
    first: Sidecar, second: Sidecar, client: Any
) -> None:
    found_in(first, "plain", user="ann")
    found_in(first, "tools", user="ann", tools=[TOOL])

    until(lambda: len(notes_in(client)) == 1)
    (note,) = notes_in(client)
    assert note is not None
    assert (note.task, note.classes) == ("code", ())
    (name,) = client.scan_iter("pm:draw:*:said")
    assert len(client.get(name)) < 40
    assert 1_700_000 < client.pttl(name) <= 1_800_000
    assert keys.is_draw(name), "it counts in the store's memory"
    assert found_in(second, "tools", user="ann") == ("code", "session")
    assert found_in(second, "plain", user="ann", tools=[TOOL]) == ("code", "rule")


def test_role_key_and_app_come_before_the_session_and_leave_none(
    provider: Provider, state_dir: Path, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "the-key")
    entries = value(provider)
    entries["roles"] = {"coder": {"tasks": ["chat", "code"]}}
    held = {"key": {"env": "KEY"}, "task": "chat"}
    entries["apps"]["desk"] = {"mode": "route", "strategy": "learn", "keys": [held]}
    monkeypatch.setenv("OWN", "own")
    entries["apps"]["default"]["keys"] = [{"env": "OWN"}]
    with serving(entries, state_dir, address) as sidecar:
        sidecar.http.headers["x-router-key"] = "own"
        assert found_in(sidecar, model="role:coder", tools=[TOOL]) == ("code", "rule")
        assert found_in(sidecar) == ("general", "general"), "a role's rule leaves no task"
        assert found_in(sidecar, tools=[TOOL]) == ("general", "session")
        assert found_in(sidecar, model="role:coder") == ("chat", "role")
        sidecar.http.headers["x-router-key"] = "the-key"
        assert found_in(sidecar, tools=[TOOL]) == ("chat", "key")


# -- forgetting -----------------------------------------------------------------------------------


def test_forget_leaves_the_class_of_a_session_whose_conversation_goes_on(
    first: Sidecar, second: Sidecar, client: Any
) -> None:
    call(first, user="ann", said={"data-class": ALL})
    until(lambda: len(notes_in(client)) == 1)

    deleted = first.http.post("/v1/router/forget", json={"user": "ann"}).json()

    assert deleted["draws"] == 0, "what the session drew is not the user's"
    for sidecar in (first, second):
        assert class_of(sidecar, user="ann") == (ALL, "session")


def test_nothing_in_the_store_tells_user_or_session(first: Sidecar, client: Any) -> None:
    call(first, "the-session", user="ann.unlikely", said={"data-class": ALL}, tools=[TOOL])

    until(lambda: len(notes_in(client)) == 1)
    (name,) = client.scan_iter("pm:draw:*:said")
    told = name + client.get(name) + b"".join(client.zrange(keys.RAISED, 0, -1))
    assert b"ann" not in told
    assert b"the-session" not in told
    secret = first.app.keeper.secrets.users.of_units.now
    assert user_hash(secret, "default", "ann.unlikely").hex().encode() not in name


# -- the user of a key ----------------------------------------------------------------------------


def test_a_keys_user_identifies_and_a_label_beside_it_does_not(
    provider: Provider, state_dir: Path, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "anns-key")
    monkeypatch.setenv("OWN", "own")
    entries = value(provider)
    entries["users"] = {
        "ann": {"keys": [{"env": "KEY"}]},
        "strict": {"data_class": ALL},
    }
    entries["apps"]["default"] |= {"keys": [{"env": "OWN"}], "raters": True}
    with serving(entries, state_dir, address) as sidecar:
        sidecar.until(lambda: sidecar.app.keeper.secrets.users.is_known)
        secret = sidecar.app.keeper.secrets.users.of_units.now

        def user_in(key: str, user: str | None, **more: Any) -> int:
            sidecar.http.headers["x-router-key"] = key
            got = call(sidecar, more.pop("session", None), user=user, **more)
            assert got.status_code == 200, got.text
            seal = sidecar.app.feedback._seal
            return seal.open(got.headers["x-router-decision-id"])[0].user

        def hashed(user: str) -> int:
            return int.from_bytes(user_hash(secret, "default", user), "little")

        assert user_in("own", "bob") == hashed("bob")
        assert user_in("anns-key", None) == hashed("ann")
        assert user_in("anns-key", "bob") == hashed("ann")
        assert user_in("own", "ann") == hashed("ann"), "a label means the same user"
        # With a user, the prompt's cache key is a session's id: so is it with a key's.
        sidecar.http.headers["x-router-key"] = "anns-key"
        n_known = sidecar.app.sessions.n_known
        sidecar.chat(prompt_cache_key="k")
        assert sidecar.app.sessions.n_known == n_known + 1
        # One session, whatever label comes beside the key; the label tightens all the same.
        call(sidecar, "x", user="bob", said={"data-class": "confidential"})
        assert class_of(sidecar, "x") == ("confidential", "session")
        assert class_of(sidecar, "y", user="strict") == (ALL, "user")
        assert class_of(sidecar, "y") == ("internal", "built_in")


# -- pure, and where the store is away -----------------------------------------------------------


def test_of_a_class_that_is_gone_the_highest_holds() -> None:
    kinds = configuration(tasks={"code": None}).derive(SessionKinds)

    assert kinds.of(b"") is kinds.of(b"")
    assert kinds.of(b"code\x1fpublic\x1fconfidential").task == "code"
    assert kinds.of(b"code\x1fpublic\x1fconfidential").level == 2
    assert kinds.of(b"gone\x1fgone").rules.data_class == CLASSES.by_name[ALL]
    assert kinds.of(b"gone\x1fgone").task is None


def test_a_note_is_read_as_it_was_written_and_nothing_else_is() -> None:
    note = SessionNote(1, "code/hard", ("public", "eigene Klasse"))

    assert SessionNote.unpack(note.pack()) == note
    assert SessionNote.unpack(SessionNote(7).pack()) == SessionNote(7)
    for raw in (b"", b"x", b"1", b"x\x1fcode", b"1\x1f\xff"):
        assert SessionNote.unpack(raw) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 9), st.sampled_from(["", "t"]), st.sampled_from(["", "x", "xy"])),
        min_size=1,
        max_size=5,
    )
)
@pytest.mark.usefixtures("store")
def test_in_whatever_order_routers_write_all_that_they_say_is_kept(
    client: Any, said: list[tuple[int, str, str]]
) -> None:
    key = bytes(16)
    client.delete(keys.session(key.hex()))
    for began_ms, task, data_class in said:
        command = session_notes.note(
            key, began_ms=began_ms, task=task, data_class=data_class, ttl_ms=9_000
        )
        reply = client.execute_command(*command)

    note = SessionNote.unpack(client.execute_command(*session_notes.look_up(key)))
    assert note is not None
    assert reply == note.pack()
    assert note.began_ms == said[0][0], "since when it runs, the first says"
    assert note.task == ("t" if any(task for _, task, _ in said) else "")
    assert sorted(note.classes) == sorted({name for *_, name in said if name})


class App:
    name, digest = "shop", 1


SECRETS = UnitSecrets(b"k" * 32)


async def asked(sessions: Sessions, now: float, *, session: str = "s") -> Any:
    given = configuration(tasks={"code": None})
    app: Any = App()
    return await sessions.of(given, SECRETS, app, session, now=now)


def told(sessions: Sessions, key: bytes, now: float, **more: Any) -> None:
    said: dict[str, Any] = {"task": None, "data_class": None, **more}
    sessions.note(key, **said, now=now, now_ms=int(now * 1000))


RESTRICTED: DataClass = CLASSES.by_name[ALL]


def test_with_the_store_away_a_process_goes_by_what_it_knows() -> None:
    """A session lasts for 30 min after its last call, and for a day in all."""

    async def run() -> None:
        sessions, now = Sessions(Address("unix:///nowhere")), 1e9
        found = await asked(sessions, now)
        told(sessions, found.key, now, task="code", data_class=RESTRICTED)
        for i in range(1, 48):
            found = await asked(sessions, now + i * 1790)
            assert (found.said.task, found.said.level) == ("code", 3)
        assert (await asked(sessions, now + 86_401)).said.level == -1
        other = await asked(sessions, now, session="t")
        told(sessions, other.key, now, data_class=RESTRICTED)
        assert (await asked(sessions, now + 1801, session="t")).said.level == -1
        assert sessions.n_unwritten == 4

    asyncio.run(run())


def test_what_was_said_while_the_store_was_away_is_written_later(
    client: Any, store: object, address: Address
) -> None:
    async def run() -> None:
        sessions, now = Sessions(address), time.time()
        found = await asked(sessions, now)
        told(sessions, found.key, now, task="code")
        told(sessions, found.key, now, data_class=CLASSES.by_name["confidential"])
        client.execute_command(
            *session_notes.note(
                found.key, began_ms=int(now * 1000), task="", data_class=ALL, ttl_ms=60_000
            )
        )
        sessions.start()
        while sessions.n_unwritten:
            await asyncio.sleep(0.01)
        # What another said by then is known here, too.
        assert (await asked(sessions, now)).said.level == 3
        assert (await asked(sessions, now)).said.task == "code"
        await sessions.stop()

    asyncio.run(run())
    (note,) = notes_in(client)
    assert note is not None
    assert sorted(note.classes) == ["confidential", ALL]


def test_a_session_that_is_old_ends_in_the_store_as_well(
    client: Any, store: object, address: Address
) -> None:
    async def run() -> None:
        sessions, now = Sessions(address), time.time()
        key = (await asked(sessions, now)).key
        sessions.note(key, task="code", data_class=None, now=now, now_ms=int(1000 * (now - 86_000)))
        sessions.start()
        while sessions.n_unwritten:
            await asyncio.sleep(0.01)
        await sessions.stop()

    asyncio.run(run())
    (name,) = client.scan_iter("pm:draw:*:said")
    assert 300_000 < client.pttl(name) <= 400_000


def test_under_the_secret_before_a_session_is_found(
    client: Any, store: object, address: Address
) -> None:
    before = UnitSecrets(b"b" * 32)
    now = time.time()
    moved = UnitSecrets(b"k" * 32, before.now, since_ms=int(now * 1000) - 1000)
    app: Any = App()
    (old,) = session_keys(before, 1, "s", now=now)
    client.execute_command(
        *session_notes.note(old, began_ms=1, task="code", data_class=ALL, ttl_ms=60_000)
    )

    async def run() -> None:
        sessions = Sessions(address)
        sessions.start()
        given = configuration(tasks={"code": None})
        found = await sessions.of(given, moved, app, "s", now=now)
        assert (found.said.task, found.said.level) == ("code", 3)
        await sessions.stop()

    asyncio.run(run())


def test_a_store_that_hangs_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("sessions", "shared_draws"):
        monkeypatch.setattr(f"router.decision.{module}.LOOK_UP_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as hung:
        address = Address(f"redis://127.0.0.1:{hung.getsockname()[1]}")

        async def run() -> None:
            sessions, draws = Sessions(address), Draws(address)
            sessions._line.start()
            draws.start()
            given = StoredDraw(1, 0.5, 0, 1, Step.SAMPLE)
            for i in range(3):
                began = time.monotonic()
                found = await asked(sessions, 1e9, session=str(i))
                assert found.waited_s == pytest.approx(0.0 if i else 0.5, abs=0.2)
                unit = Unit(bytes([i] * 16), True, 0.0)
                kept = await draws.claim(
                    unit.key or b"", given, unit, now=1e9, waited_s=found.waited_s
                )
                waited_s = time.monotonic() - began
                assert kept == given
                assert waited_s < (0.25 if i else 0.85), "two waits would be 1 s"
            await asyncio.gather(sessions.stop(), draws.stop())

        asyncio.run(run())


# -- where the words of the first call may give the task ------------------------------------------


async def opened(sessions: Sessions, task: str | None, *, claims: bool = True) -> tuple[Any, bool]:
    """Its task before the call, and whether the call is the first."""
    given = configuration(tasks={"code": None, "chat": None})
    app: Any = App()
    now = time.time()
    first = FirstCall(int(now * 1000), lambda: task, claims)
    found = await sessions.of(given, SECRETS, app, "s", now=now, first=first)
    assert found.settles
    return found.said.task, found.is_first


def at_two_routers(address: Address, run: Callable[[Sessions, Sessions], Awaitable[None]]) -> None:
    async def both() -> None:
        sessions = Sessions(address), Sessions(address)
        for one in sessions:
            one.start()
        await run(*sessions)
        for one in sessions:
            await one.stop()

    asyncio.run(both())


@pytest.mark.usefixtures("store")
def test_of_calls_that_come_together_one_is_the_first_and_all_have_its_task(
    address: Address,
) -> None:
    async def run(one: Sessions, other: Sessions) -> None:
        tasks = ("code", "chat", "code", "chat")
        found = await asyncio.gather(
            *(
                opened(sessions, task)
                for sessions, task in zip((one, other) * 2, tasks, strict=True)
            )
        )
        (given,) = [task for task, (_, first) in zip(tasks, found, strict=True) if first]
        assert sorted(found, key=str) == [(given, False)] * 3 + [(None, True)]
        assert await opened(one, "chat") == await opened(other, "chat") == (given, False)

    at_two_routers(address, run)


@pytest.mark.usefixtures("store")
def test_a_first_call_that_gives_no_task_is_the_first_all_the_same(address: Address) -> None:
    async def run(one: Sessions, other: Sessions) -> None:
        assert await opened(one, "chat", claims=False) == (None, True), "a dry run"
        assert await opened(one, None) == (None, False), "it is refused, or passed on"
        assert await opened(other, OPENED) == (None, True), "somebody named its task"
        assert await opened(one, "chat", claims=False) == (None, False)
        assert await opened(one, "chat") == await opened(other, "chat") == (None, False)

    at_two_routers(address, run)


@pytest.mark.usefixtures("store")
def test_a_class_alone_makes_no_call_the_first_and_stays(address: Address, client: Any) -> None:
    async def run(one: Sessions, other: Sessions) -> None:
        key = (await asked(one, time.time())).key
        told(one, key, time.time(), data_class=RESTRICTED)
        while one.n_unwritten:
            await asyncio.sleep(0.01)
        assert await opened(other, "code") == (None, True)
        assert await opened(one, "chat") == ("code", False)
        assert (await asked(other, time.time())).said.level == 3

    at_two_routers(address, run)
    (note,) = notes_in(client)
    assert note is not None
    assert (note.task, note.classes) == ("code", (ALL,))


def test_where_the_store_does_not_say_so_no_call_is_the_first(
    address: Address, client: Any, store: object
) -> None:
    """Nor is a later one; what the store still hears of the call is taken back."""

    async def run() -> None:
        sessions = Sessions(address)  # which does not talk to it yet
        assert await opened(sessions, "code") == (None, False)
        assert await opened(sessions, "chat") == (None, False)
        known, _ = sessions._note_of(session_keys(SECRETS, 1, "s", now=0)[0], time.time())
        assert known is not None
        key = session_keys(SECRETS, 1, "s", now=0)[0]
        client.execute_command(
            *session_notes.open_first(key, at_ms=known.began_ms, task="code", ttl_ms=60_000)
        )
        sessions.start()
        while sessions.n_unwritten:
            await asyncio.sleep(0.01)
        assert await opened(sessions, "chat") == (None, False)
        await sessions.stop()

    asyncio.run(run())
    (note,) = notes_in(client)
    assert note is not None
    assert note.task == OPENED


@pytest.mark.usefixtures("store")
def test_a_store_without_room_makes_no_call_the_first(address: Address, client: Any) -> None:
    async def run() -> None:
        sessions = Sessions(address, has_room=lambda: False)
        sessions.start()
        assert await opened(sessions, "code") == await opened(sessions, "code") == (None, False)
        await sessions.stop()

    asyncio.run(run())
    assert notes_in(client) == []


@pytest.mark.usefixtures("store")
def test_a_session_that_began_under_the_secret_before_is_not_new(
    address: Address, client: Any
) -> None:
    before, now = UnitSecrets(b"b" * 32), time.time()
    moved = UnitSecrets(b"k" * 32, before.now, since_ms=int(now * 1000) - 1000)
    (old,) = session_keys(before, 1, "s", now=now)
    client.execute_command(
        *session_notes.note(old, began_ms=1, task=OPENED, data_class="", ttl_ms=60_000)
    )

    async def run() -> None:
        sessions = Sessions(address)
        sessions.start()
        app: Any = App()
        first = FirstCall(int(now * 1000), lambda: "code")
        given = configuration(tasks={"code": None})
        found = await sessions.of(given, moved, app, "s", now=now, first=first)
        assert not found.is_first
        await sessions.stop()

    asyncio.run(run())


def test_a_known_session_costs_little() -> None:
    """Some microseconds, however many are known; the limit allows for a busy machine."""

    async def run() -> float:
        sessions = Sessions(Address("unix:///nowhere"))
        given, app = configuration(tasks={"code": None}), cast(Any, App())
        found = await sessions.of(given, SECRETS, app, "s", now=1e9)
        sessions._put(found.key, SessionNote(10**12), now=1e9, renewed_at=0, asked_at=1)
        spent = []
        for _ in range(5):
            began = time.perf_counter()
            for _ in range(2000):
                await sessions.of(given, SECRETS, app, "s", now=1e9)
            spent.append((time.perf_counter() - began) / 2000)
        return min(spent)

    spent_s = asyncio.run(run())
    print(json.dumps({"session_us": round(spent_s * 1e6, 2)}))
    assert spent_s < 40e-6
