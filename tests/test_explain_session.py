"""A session's decisions, in order: which followed, which failed over, and what is missing."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import msgspec
import pytest
from conftest import LEARN, ROUTED, Provider, Reply, Sidecar, endpoint, pointsman, serving
from test_stand_ins import back, out

from bandit.steps import Step
from router.decision.shared_draws import DrawEnding
from router.decision.ways import DecisionWay, way_in_the_end, way_of
from router.errors import RequestRejected
from router.explain import session as of_session
from router.explain.asked import asked_session
from router.explain.explanation import session_name
from router.explain.files import DecisionFiles
from router.explain.rows import SESSION_BYTES, DecisionRow, PackedRows, pack
from telemetry import explained
from telemetry.digests import episode_digest
from telemetry.embedded import PrivateServer
from telemetry.store import Address

ROLES = ("planner", "coder")
FAILURE = Reply(status=500, body=b"{}")


def value_of(provider: Provider, **more: Any) -> dict[str, Any]:
    return {
        "endpoints": [endpoint(provider, name) for name in "abc"],
        "tasks": {"chat": None, "code": None},
        "roles": {role: {} for role in ROLES},
        "strategies": LEARN,
        "apps": ROUTED,
        **more,
    }


def call(sidecar: Sidecar, session: str = "one", role: str = "coder", **more: str) -> Any:
    said = {"x-router-session-id": session, "x-router-role": role, "x-router-task": "code"}
    got = sidecar.chat(headers={**said, **more})
    assert got.status_code == 200, got.text
    return got


def listed(sidecar: Sidecar, session: str = "one", status: int = 200, **headers: str) -> Any:
    got = sidecar.http.get(
        "/v1/router/decisions", params={"session": session}, headers=dict(headers)
    )
    assert got.status_code == status, got.text
    return got.json()


def ids(answers: list[httpx.Response]) -> list[str]:
    return [answer.headers["x-request-id"][:10] for answer in answers]


def ways(found: dict[str, Any]) -> dict[str, int]:
    return {way: n for way, n in found["counts"].items() if n}


@contextmanager
def routers(
    provider: Provider, state_dir: Path, address: Address, **more: Any
) -> Iterator[tuple[Sidecar, Sidecar]]:
    value = value_of(provider, **more)
    with (
        serving(value, state_dir / "one", address) as one,
        serving(value, state_dir / "other", address) as other,
    ):
        yield one, other


@pytest.fixture
def router(provider: Provider, state_dir: Path, address: Address) -> Iterator[Sidecar]:
    with serving(value_of(provider), state_dir, address) as found:
        yield found


def test_twenty_calls_in_two_roles_are_listed_in_order_at_any_router(
    provider: Provider, state_dir: Path, store: PrivateServer, address: Address
) -> None:
    """The draws are the first of each role; the eleventh call's endpoint does not answer."""
    with routers(provider, state_dir, address) as (one, other):
        answers = []
        for number in range(20):
            role, other_session = ROLES[number % 2], f"another {number}"
            if number == 10:
                failing = answers[0].headers["x-router-endpoint"]
                provider.on(failing, FAILURE)
            answers.append(call(one, role=role))
            if number == 10:
                del provider.replies[failing]
                answered_by = answers[10].headers["x-router-endpoint"]
            call(one, other_session)
        found = listed(one)
        elsewhere = listed(other)

    rows = found["decisions"]
    assert elsewhere["decisions"] == rows
    assert [row["id"] for row in rows] == ids(answers)
    assert [row["role"] for row in rows] == list(ROLES) * 10
    assert {(row["task"], row["app"]) for row in rows} == {("code", "default")}
    assert [row["way"] for row in rows] == (
        ["drew"] * 2 + ["followed"] * 8 + ["failover"] + ["followed"] * 9
    )
    assert (rows[10]["drawn"], rows[10]["answered_by"]) == (failing, answered_by)
    assert rows[10]["decided"] == "followed"
    assert rows[10]["why"] == f"{failing} did not answer, and {answered_by} did"
    assert all(row["why"] is None for row in rows[:10] + rows[11:])
    for row, answer in zip(rows, answers, strict=True):
        assert row["answered_by"] == answer.headers["x-router-endpoint"]
        assert f"{row['propensity']:.6g}" == answer.headers["x-router-propensity"]
    assert found["counts"] == dict.fromkeys(DecisionWay, 0) | {
        "drew": 2, "followed": 17, "failover": 1,
    }  # fmt: skip
    assert (found["n"], found["session"]) == (20, "one")
    whole = {"draws": 0, "not_listed": 0, "damaged": 0, "unread": []}
    assert found["missing"] == elsewhere["missing"] == whole
    assert found["since_ms"]["files"]
    assert not elsewhere["since_ms"]["files"]
    assert found["since_ms"]["store"] == elsewhere["since_ms"]["store"] <= rows[0]["decided_at_ms"]


def test_an_episode_is_listed_like_a_session_and_one_decision_tells_its_way(
    router: Sidecar,
) -> None:
    said = {"x-router-episode-id": "e/1 ü".encode()}
    first, second = (router.chat(headers=said) for _ in range(2))
    found = router.http.get("/v1/router/decisions", params={"episode": "e/1 ü"}).json()

    assert ways(found) == {"drew": 1, "followed": 1}
    assert [row["id"] for row in found["decisions"]] == ids([first, second])
    got = router.http.get("/v1/router/decisions", params={"id": found["decisions"][1]["id"]})
    assert (got.json()["way"], got.json()["draw_of"]["way"]) == ("followed", "drew")


def test_what_a_breaker_or_a_rule_forbids_is_failover_with_its_reason(router: Sidecar) -> None:
    drawn = call(router).headers["x-router-endpoint"]
    out(router, drawn, for_s=30)
    answer = call(router)

    row = listed(router)["decisions"][1]
    why = router.http.get("/v1/router/decisions", params={"id": row["id"]}).json()

    other = answer.headers["x-router-endpoint"]
    assert (row["drawn"], row["answered_by"], row["way"]) == (drawn, other, "failover")
    assert row["why"] == f"{drawn} may not serve this call (breaker), and {other} did"
    assert (why["way"], why["sentence"]) == ("failover", f"failover: {row['why']}.")


def test_stand_ins_and_what_is_not_routed_have_ways_of_their_own(router: Sidecar) -> None:
    drawn = call(router).headers["x-router-endpoint"]
    out(router, drawn, for_s=76)
    stand_in = [call(router).headers["x-router-endpoint"] for _ in range(2)]
    back(router, drawn, ago_s=1e9)
    named = router.chat("b", headers={"x-router-session-id": "one"})

    found = listed(router)

    assert [row["way"] for row in found["decisions"]] == [
        "drew", "stand-in", "stand-in", "not routed",
    ]  # fmt: skip
    assert {row["drawn"] for row in found["decisions"][1:3]} == set(stand_in) != {drawn}
    why = f"{stand_in[0]} stands in for {drawn}, whose breaker is open"
    assert [row["why"] for row in found["decisions"]] == [None, why, why, None]
    assert found["decisions"][3]["id"] == ids([named])[0]
    assert found["missing"]["draws"] == 0


@pytest.mark.parametrize("ending", [DrawEnding.GAIN, DrawEnding.DOMINATED])
def test_a_draw_that_ended_is_told_apart_from_a_first_one(ending: DrawEnding) -> None:
    context = SimpleNamespace(route=SimpleNamespace(law=object()))
    decision: Any = SimpleNamespace(
        context=context, plan=SimpleNamespace(step=Step.SAMPLE), held=None, stands_in_for=None
    )
    decision.ending, decision.replaces = None, False
    assert way_of(decision) is DecisionWay.DREW
    decision.ending = ending

    assert way_of(decision) == f"{ending.value} ending"
    assert way_in_the_end(way_of(decision), drawn="a", answered_by=None) == way_of(decision)
    assert way_in_the_end(way_of(decision), drawn="a", answered_by="b") == "failover"


# -- who may ask, and for what -------------------------------------------------------------------


def test_an_app_sees_its_own_sessions_alone(
    provider: Provider, state_dir: Path, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    apps = {}
    for name in ("mine", "theirs", "owner"):
        monkeypatch.setenv(name.upper(), f"key-of-{name}")
    for name in ("mine", "theirs"):
        apps[name] = {"mode": "route", "strategy": "learn", "keys": [{"env": name.upper()}]}
    value = value_of(provider, apps=apps, server={"admin_key": {"env": "OWNER"}})
    key = {name: {"x-router-key": f"key-of-{name}"} for name in ("mine", "theirs", "owner", "no")}
    with serving(value, state_dir, address) as sidecar:
        mine = [call(sidecar, **key["mine"]) for _ in range(2)]
        theirs = [call(sidecar, **key["theirs"])]
        call(sidecar, "of mine", **key["mine"])

        seen = {name: listed(sidecar, **key[name])["decisions"] for name in ("mine", "theirs")}
        both = listed(sidecar, **key["owner"])["decisions"]
        hidden = listed(sidecar, "of mine", 404, **key["theirs"])["error"]
        nobody = listed(sidecar, "of nobody", 404, **key["theirs"])["error"]
        listed(sidecar, "one", 401, **key["no"])
        listed(sidecar, "one", 401)
        one = sidecar.http.get(
            "/v1/router/decisions", params={"id": ids(mine)[0]}, headers=key["mine"]
        )
        shown = pointsman(
            "explain", "--session", "one", "--url", sidecar.url, "--key", "key-of-mine"
        )

    assert [row["id"] for row in seen["mine"]] == ids(mine)
    assert [row["id"] for row in seen["theirs"]] == ids(theirs)
    assert [row["id"] for row in both] == ids(mine + theirs)
    assert [row["app"] for row in both] == ["mine", "mine", "theirs"]
    assert hidden["message"].replace("of mine", "of nobody") == nobody["message"]
    assert one.status_code == 401, "a decision by its id stays with the owner"
    assert ids(theirs)[0] not in shown.stdout
    assert ids(mine)[1] in shown.stdout


def test_without_app_keys_the_admin_key_is_needed(
    provider: Provider, state_dir: Path, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OWNER", "key-owner")
    value = value_of(provider, server={"admin_key": {"env": "OWNER"}})
    with serving(value, state_dir, address) as sidecar:
        call(sidecar)
        listed(sidecar, status=401)
        assert listed(sidecar, authorization="Bearer key-owner")["n"] == 1


def test_an_unknown_session_is_said_to_be_unknown_and_since_when_any_is_kept(
    router: Sidecar,
) -> None:
    call(router)
    listed(router)
    error = listed(router, "x" * 400, 404)["error"]
    shown = pointsman("explain", "--session", "nobody's", "--url", router.url)

    assert error["code"] == "decision_not_kept"
    assert error["param"] == "session"
    assert "of a session 'xxx" in error["message"]
    assert len(error["message"]) < 400
    assert "the oldest decision kept here is of" in error["message"]
    assert error["since_ms"] > 0
    assert (shown.exit_code, "nobody's" in shown.stderr) == (2, True)


@pytest.mark.parametrize(
    ("path", "query", "found"),
    [
        ("", b"session=a%2Fb", "a/b"),
        ("/", b"episode=+a%20", "a"),
        ("", b"id=a", None),
        ("/d-1", b"", None),
    ],
)
def test_a_session_is_named_by_session_or_episode(path: str, query: bytes, found: str) -> None:
    assert asked_session(path, query) == found


@pytest.mark.parametrize(
    ("path", "query", "what"),
    [
        ("", b"session=", "session is empty"),
        ("", b"episode=%20", "episode is empty"),
        ("", b"session=a&session=a", "session is there twice"),
        ("", b"session=a&episode=b", "session is there twice"),
        ("/d-1", b"session=a", "session is there beside a decision"),
        ("", b"episode=a&id=b", "episode is there beside a decision"),
    ],
)
def test_a_question_that_is_not_one_is_refused(path: str, query: bytes, what: str) -> None:
    with pytest.raises(RequestRejected, match=what) as refused:
        asked_session(path, query)

    assert (refused.value.status, refused.value.code) == (400, "invalid_request")


@pytest.mark.parametrize(
    "words",
    [(), ("a", "--session", "s"), ("--last", "--episode", "s"), ("--session", "")],
)
def test_the_verb_wants_one_thing(words: tuple[str, ...]) -> None:
    said = pointsman("explain", *words)

    assert said.exit_code == 2
    assert "--session ID" in said.stderr


# -- the verb ------------------------------------------------------------------------------------


def test_the_verb_prints_a_table_or_one_object_with_or_without_a_sidecar(
    provider: Provider, state_dir: Path, store: PrivateServer, address: Address,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with serving(value_of(provider), state_dir / "one", address) as one:
        drawn = call(one).headers["x-router-endpoint"]
        provider.on(drawn, FAILURE)
        answers = [call(one)]
        found = listed(one)
        shown = pointsman("explain", "--session", "one", "--url", one.url)
    file, elsewhere = state_dir / "pointsman.yaml", state_dir / "elsewhere"
    elsewhere.mkdir()
    server = {"port": 1, "state_dir": str(elsewhere)}
    file.write_text(json.dumps({**value_of(provider), "server": server, "store": {"shards": 2}}))
    monkeypatch.setenv("REDIS_URL", address.url)
    alone = pointsman("explain", "--episode", "one", "--config", file, "--json")

    lines = shown.stdout.splitlines()
    assert lines[0] == "session one: 2 decisions: 1 drew, 1 failover"
    (line,) = [line for line in lines if ids(answers)[0] in line and "failover" in line]
    assert [cell.strip() for cell in line.strip("│").split("│")][1:] == [
        ids(answers)[0], "coder", "code", drawn, answers[0].headers["x-router-endpoint"],
        f"{found['decisions'][1]['propensity']:.4f}", "failover",
    ]  # fmt: skip
    assert f"{ids(answers)[0]}: {found['decisions'][1]['why']}" in lines
    assert lines[-2].startswith("kept in this sidecar's files since 20")
    assert lines[-1].startswith("kept in the store since 20")
    told = json.loads(alone.stdout)
    assert told["decisions"] == found["decisions"]
    assert told["since_ms"] == {"files": None, "store": found["since_ms"]["store"]}


# -- what is missing -----------------------------------------------------------------------------


def test_of_very_many_the_newest_are_listed_and_all_are_counted(
    router: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [call(router) for _ in range(6)]
    monkeypatch.setattr(of_session, "MOST_LISTED", 2)

    found = listed(router)

    assert [row["id"] for row in found["decisions"]] == ids(answers[-2:])
    assert (found["n"], ways(found)) == (6, {"drew": 1, "followed": 5})
    assert found["missing"]["not_listed"] == 4
    assert "4 earlier ones" in pointsman("explain", "--session", "one", "--url", router.url).stdout


def test_of_a_place_that_is_too_large_to_look_through_it_is_said_that_some_was_not_read(
    router: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    call(router)
    assert listed(router)["missing"]["unread"] == []
    monkeypatch.setattr(of_session, "MOST_S", 0.0)

    assert listed(router)["missing"]["unread"] == ["files", "store"]
    assert listed(router)["n"] == 1
    shown = pointsman("explain", "--session", "one", "--url", router.url).stdout
    assert "not everything was read in this sidecar's files and in the store" in shown


def test_a_draw_that_is_not_kept_any_more_is_said_to_be_missing(
    provider: Provider, state_dir: Path, store: PrivateServer, address: Address, client: Any
) -> None:
    with routers(provider, state_dir, address) as (one, other):
        call(one)
        listed(one)
        for key in client.scan_iter("{pm:explain}*"):
            client.delete(key)
        listed(other, status=404)
        call(one)

        assert ways(listed(one)) == {"drew": 1, "followed": 1}
        found = listed(other)
        assert ways(found) == {"followed": 1}
        assert found["missing"]["draws"] == 1


def test_what_a_store_that_is_away_has_is_said_to_be_missing(
    provider: Provider, state_dir: Path
) -> None:
    with ExitStack() as running:
        server = running.enter_context(PrivateServer(state_dir / "store"))
        address = Address(f"unix://{server.socket_path}")
        with serving(value_of(provider), state_dir / "one", address) as one:
            call(one)
            assert listed(one)["missing"]["unread"] == []
            running.close()
            assert listed(one)["missing"]["unread"] == ["store"]
            assert listed(one)["n"] == 1
            missing = listed(one, "nobody", 404)["error"]["message"]
            assert "not all of the store was read" in missing


# -- how it is kept ------------------------------------------------------------------------------

EARLIER = bytes.fromhex(
    "0104000000000000000000010101010101010102020202020202020303030303030303009fcf000001a3185c5000"
    "9400070e15c4100909090009090900090909010909090192c4080000000000000000c40801010101010101019400"
    "01000192c4080707070707070707c400940001000192cb3fd0000000000000cb3ff0000000000000940000010191"
    "2894000000009201039207159227279103"
)
"""Four rows as they were packed before sessions were kept."""


def test_batches_of_before_sessions_were_kept_are_read_on_as_of_none() -> None:
    earlier = PackedRows(EARLIER)
    rows = earlier.rows()

    assert rows == [
        DecisionRow(
            bytes([i] * 8),
            1_800_000_000_000 + 7 * i,
            bytes([i % 2] * 8),
            bytes([9, 9, 9, i // 2]),
            b"" if i % 2 else bytes([7] * 8),
            0.25 if i < 2 else 1.0,
            40,
            1_800_000_000_000 if i % 2 else 0,
            39 if i % 2 else 0,
            i == 3,
        )
        for i in range(4)
    ]
    assert earlier.of_sessions([bytes([1] * SESSION_BYTES)]) == []
    assert earlier.named(bytes([2] * 8)) == [2]


def test_files_and_segments_of_before_are_read_beside_new_ones(
    provider: Provider, state_dir: Path, store: PrivateServer, address: Address, client: Any
) -> None:
    given: dict[str, Any] = {"first_ms": 1_800_000_000_000, "max_bytes": 1 << 20, "keep_s": 60}
    assert explained.write(client, EARLIER, {}, **given)
    (state_dir / "decisions").mkdir()
    day = time.strftime("%Y-%m-%d", time.gmtime())
    with serving(value_of(provider), state_dir, address) as sidecar:
        call(sidecar)
        listed(sidecar)
        with closing(sqlite3.connect(state_dir / "decisions" / f"{day}.0.sqlite")) as file, file:
            file.execute("insert into batch values (?, ?)", (1_800_000_000, EARLIER))
        call(sidecar)

        found = listed(sidecar)

    assert ways(found) == {"drew": 1, "followed": 1}
    assert found["missing"] == dict.fromkeys(found["missing"], 0) | {"unread": []}


def rows_of(sessions: list[bytes]) -> list[DecisionRow]:
    return [
        DecisionRow(os.urandom(8), 1000 + i, bytes(8), session=session)
        for i, session in enumerate(sessions)
    ]


def test_rows_are_found_by_their_session_and_by_no_other_bytes() -> None:
    one, two = b"\1" * SESSION_BYTES, b"\2" * SESSION_BYTES
    rows = rows_of([one, b"", two, one])
    packed = PackedRows(pack(rows))

    assert packed.rows() == rows
    assert packed.of_sessions([one]) == [0, 3]
    assert packed.of_sessions([two, one]) == [0, 2, 3]
    between = PackedRows(pack(rows_of([b"\3\3\3" + one[:3], one[3:] + b"\4\4\4"])))
    assert between.of_sessions([one]) == []


def units_of(units: list[int], sessions: list[int]) -> list[DecisionRow]:
    """Rows by unit and session, 0: of none."""
    session = [bytes([n] * SESSION_BYTES) if n else b"" for n in sessions]
    pairs = zip(rows_of(session), units, strict=True)
    return [msgspec.structs.replace(row, unit=bytes([9, 9, 9, unit])) for row, unit in pairs]


@pytest.mark.parametrize(
    ("units", "sessions"),
    [
        ([1, 2, 1, 3], [1, 2, 1, 3]),
        ([1, 2, 1, 3], [4, 0, 4, 4]),
        ([1, 1, 1, 2], [0, 0, 0, 0]),
        ([1, 1, 2, 2], [1, 2, 2, 2]),  # units whose first bytes are alike
        ([1, 1, 2, 2], [0, 2, 2, 2]),
        ([1, 2, 3, 4], [5, 5, 5, 0]),
        ([1, 2], [0, 1]),
        ([1], [1]),
    ],
)
def test_sessions_are_told_by_units_and_come_back_as_they_were(
    units: list[int], sessions: list[int]
) -> None:
    rows = units_of(units, sessions)
    packed = PackedRows(pack(rows))

    assert packed.rows() == rows
    for wanted in {*sessions} - {0}:
        places = [i for i, own in enumerate(sessions) if own == wanted]
        assert packed.of_sessions([bytes([wanted] * SESSION_BYTES)]) == places


def test_a_session_costs_its_bytes_once_a_batch() -> None:
    units = [random.Random(n).randrange(50) for n in range(250)]
    none, told = (pack(units_of(units, own)) for own in ([0] * 250, [u + 1 for u in units]))

    assert len(told) - len(none) < 50 * (SESSION_BYTES + 1)


def test_the_store_looks_for_a_session_itself_and_sends_those_batches_alone(
    store: PrivateServer, client: Any
) -> None:
    wanted = b"wanted"
    batches = [
        pack(rows_of([wanted if n % 100 == 99 else os.urandom(SESSION_BYTES)])) for n in range(1000)
    ]
    for batch in batches:
        explained.write(client, batch, {}, first_ms=1, max_bytes=1 << 26, keep_s=60)
    (segment,) = explained.segments(client)

    assert segment.holding(client, [b"absent", wanted]) == batches[99::100]
    assert segment.holding(client, [b"absent"]) == []
    before, explained.AT_ONCE_BYTES = explained.AT_ONCE_BYTES, 1
    try:
        assert segment.holding(client, [wanted]) == batches[99::100]
    finally:
        explained.AT_ONCE_BYTES = before


def test_files_pass_batches_over_that_do_not_hold_a_session(tmp_path: Path) -> None:
    files = DecisionFiles(tmp_path, days=30, max_bytes=1 << 30)
    now_ms = int(time.time() * 1000)
    for n in range(20):
        row = DecisionRow(os.urandom(8), now_ms, bytes(8), session=bytes([n] * SESSION_BYTES))
        files.write([row], {})

    found = [batch for group in files.holding([bytes([7] * 6), b"absent"]) for batch in group]

    assert [len(batch.rows()) for batch in found] == [1]
    assert files.holding([b"absent"])
    assert not [b for g in files.holding([b"absent"]) for b in g]


def test_a_session_s_bytes_are_of_its_episode_s_digest() -> None:
    digest = episode_digest("default", "one")

    assert session_name(digest) == digest.to_bytes(8, "little")[:SESSION_BYTES]
