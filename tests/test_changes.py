"""What changed is told once, whoever sees it; routers say that they are there, and how they are."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import yaml
from conftest import (
    SHARDS,
    Provider,
    Reply,
    Sidecar,
    endpoint,
    pointsman,
    serving,
    until,
)

from router.beliefs.kept import ReviewKey
from router.config import watch
from router.config.compiled import Configuration, compile_text
from router.endpoints import breaker
from router.endpoints.rates import begins
from router.notices import chronicle, troubles
from router.notices.events import DAY_MS, LEFT_AFTER_MS, ListedEvents, RoomEvents
from router.notices.trials import TrialEvents
from telemetry import changes, keys, routers
from telemetry.changes import MAX_CHANGES, ChangeRecord, append, change_id, note, read_changes
from telemetry.embedded import PrivateServer
from telemetry.routers import (
    GONE_AFTER_MS,
    PRUNED_AFTER_MS,
    RouterPresence,
    RouterTrouble,
    conflicting_apps,
    read_routers,
)
from telemetry.store import Address, connect
from telemetry.trials import VERSION, Trial, TrialState
from workers.folding.learner import Learner


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "STILL_S", 0.05)
    monkeypatch.setattr(watch, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(chronicle, "LOOK_EVERY_S", 0.05)


@pytest.fixture
def seen(address: Address) -> Iterator[Any]:
    with closing(connect(address)) as found:
        yield found


def record(subject: str = "a", cause: str = "1", **more: Any) -> ChangeRecord:
    known = {"at_ms": 1000, "kind": "price", "text": "t", **more}
    return ChangeRecord(id=change_id("price", subject, cause), subject=subject, **known)


def said(client: Any) -> list[tuple[str, str, str]]:
    """What was told so far, the oldest first."""
    return [(one.kind, one.subject, one.text) for one in reversed(read_changes(client))]


def config(provider: Provider, *listed: dict[str, Any], **more: Any) -> dict[str, Any]:
    apps = {"default": {"mode": "route"}}
    return {"endpoints": list(listed), "apps": apps, **more}


def rewrite(file: Path, value: dict[str, Any]) -> None:
    same = {"server": {"port": 0, "state_dir": str(file.parent)}, "store": {"shards": SHARDS}}
    fresh = file.with_suffix(".tmp")
    fresh.write_text(yaml.safe_dump({**same, **value}, sort_keys=False))
    fresh.replace(file)


# -- the stream ---------------------------------------------------------------------------------


def test_an_event_is_appended_once_however_often_it_is_told(client: Any) -> None:
    first, second = record("a"), record("b")

    assert append(client, [first]) == [first]
    assert append(client, [first, second]) == [second]
    assert read_changes(client) == [second, first]


def test_who_saw_what_is_no_longer_so_tells_nothing(client: Any) -> None:
    assert note(client, "f", seen=b"", value=b"1", records=[record("a")])
    assert not note(client, "f", seen=b"", value=b"2", records=[record("b")])
    assert note(client, "f", seen=b"1", value=b"", records=[record("c")])

    assert changes.read_known(client) == {}
    assert [subject for _, subject, _ in said(client)] == ["a", "c"]


def test_changes_are_read_from_a_moment_on_and_up_to_a_number(client: Any) -> None:
    for n in range(5):
        client.xadd(keys.CHANGES, {"change": _json(record(str(n)))}, id=f"{1000 * (n + 1)}-1")
    client.xadd(keys.CHANGES, {"change": b"\x1b[31mno json"}, id="9000-1")

    assert [one.subject for one in read_changes(client, since_ms=3000)] == ["4", "3", "2"]
    assert [one.subject for one in read_changes(client, limit=3)] == ["4", "3"]


def test_the_stream_and_its_ids_are_bounded(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "MAX_CHANGES", 200)
    monkeypatch.setattr(changes, "MAX_IDS", 300)
    for n in range(600):
        append(client, [record(str(n), at_ms=n)])

    assert MAX_CHANGES == 10_000
    assert client.xlen(keys.CHANGES) <= 400
    assert client.zcard(keys.CHANGE_IDS) == 300


def _json(one: ChangeRecord) -> bytes:
    return msgspec.json.encode(one)


# -- who is there -------------------------------------------------------------------------------


def word(name: str, seen_ms: int, **apps: str) -> RouterPresence:
    return RouterPresence(
        name=name, version="1", configuration="abc", apps=dict(apps), seen_ms=seen_ms
    )


def test_routers_that_were_silent_for_a_minute_are_gone_and_for_a_day_forgotten(
    client: Any,
) -> None:
    for name, age_ms in (("new", 10), ("old", GONE_AFTER_MS), ("ancient", PRUNED_AFTER_MS)):
        routers.say(client, word(name, 10**12 - age_ms))
    client.hset(keys.ROUTERS, "odd", b"\xffno")

    (only,) = read_routers(client, now_ms=10**12)
    assert (only.name, only.age_s(10**12)) == ("new", 0.01)
    routers.prune(client, now_ms=10**12)
    assert set(client.hkeys(keys.ROUTERS)) == {b"new", b"old"}


def test_apps_that_routers_define_otherwise_are_named_with_the_routers() -> None:
    known = [word("r1", 1, shop="aa", web="cc"), word("r2", 1, shop="bb"), word("r3", 1, shop="aa")]

    assert conflicting_apps(known) == {"shop": {"aa": ["r1", "r3"], "bb": ["r2"]}}


def test_a_router_says_what_it_goes_by_and_takes_it_back_at_its_end(
    provider: Provider, state_dir: Path, address: Address, seen: Any
) -> None:
    with serving(config(provider, endpoint(provider, "a")), state_dir, address) as sidecar:
        until(lambda: client_names(seen))
        (found,) = read_routers(seen, now_ms=int(time.time() * 1000))
        assert found.name == sidecar.app.chronicle.name
        configuration = sidecar.app.keeper.current.configuration
        assert found.configuration == f"{configuration.version:016x}"[:12]
        assert list(found.apps) == ["default"]
        assert found.troubles == []

    assert client_names(seen) == set()


def client_names(client: Any) -> set[bytes]:
    return set(client.hkeys(keys.ROUTERS))


def test_the_same_app_written_otherwise_has_another_digest(
    provider: Provider, tmp_path: Path, state_dir: Path, address: Address, seen: Any
) -> None:
    one = config(provider, endpoint(provider, "a"))
    other = {**one, "apps": {"default": {"mode": "observe"}}}
    (state_dir / "2").mkdir()
    with serving(one, state_dir, address), serving(other, state_dir / "2", address):
        until(lambda: len(client_names(seen)) == 2)
        found = conflicting_apps(read_routers(seen, now_ms=int(time.time() * 1000)))

    assert list(found) == ["default"]
    assert len(found["default"]) == 2


# -- endpoints and prices -----------------------------------------------------------------------


def test_a_reload_tells_newcomers_prices_and_who_is_gone(
    provider: Provider, state_dir: Path, address: Address, seen: Any
) -> None:
    a, b, c = (endpoint(provider, name) for name in "abc")
    dearer = {**b, "prices": {"input_usd_per_mtok": 1.5, "output_usd_per_mtok": 2}}
    file = state_dir / "pointsman.yaml"
    with serving(config(provider, a, b), state_dir, address, file=file):
        until(lambda: seen.hget(keys.CHANGES_KNOWN, "configurations"))
        assert said(seen) == []  # of the first configuration nothing is news
        rewrite(file, config(provider, dearer, c))
        until(lambda: len(said(seen)) == 3)

    assert said(seen) == [
        ("newcomer", "c", "is new: it is tried within the room for exploring"),
        ("price", "b", "input $1 → $1.5 a million tokens"),
        ("gone", "a", "is listed no more"),
    ]


def test_two_routers_of_one_configuration_tell_its_change_once(
    provider: Provider, state_dir: Path, address: Address, seen: Any
) -> None:
    a, b = (endpoint(provider, name) for name in "ab")
    files = [state_dir / n / "pointsman.yaml" for n in "12"]
    for file in files:
        file.parent.mkdir()
    first = config(provider, a)
    with (
        serving(first, files[0].parent, address, file=files[0]) as one,
        serving(first, files[1].parent, address, file=files[1]) as two,
    ):
        until(lambda: len(client_names(seen)) == 2)
        for file in files:
            same = {"server": {"port": 0, "state_dir": str(state_dir / "1")}}
            rewrite(file, {**config(provider, a, b), **same})
        for sidecar in (one, two):
            sidecar.until(lambda s=sidecar: _lists(s) == ["a", "b"])  # type: ignore[misc]
        until(lambda: said(seen))
        time.sleep(0.4)

    assert [(kind, subject) for kind, subject, _ in said(seen)] == [("newcomer", "b")]


def _lists(sidecar: Sidecar) -> list[str]:
    return [e.id for e in sidecar.app.keeper.current.configuration.catalog.endpoints]


def test_a_configuration_that_another_router_still_goes_by_loses_nobody(
    provider: Provider, client: Any
) -> None:
    before, after = (_compiled(endpoint(provider, name)) for name in "ab")
    other = msgspec.structs.replace(word("r2", 1), configuration=_hex(before))
    events = ListedEvents("r1")

    assert events.settle(client, before, [other], now_ms=DAY_MS) == []
    told = events.settle(client, after, [other], now_ms=DAY_MS + 1)
    assert [(one.kind, one.subject) for one in told] == [("newcomer", "b")]

    # The other one was restarted: nobody says any more that it goes by that.
    known = changes.read_known(client)
    assert events.sweep(client, known, now_ms=DAY_MS + LEFT_AFTER_MS - 1) == []
    (gone,) = events.sweep(client, known, now_ms=DAY_MS + LEFT_AFTER_MS)
    assert (gone.kind, gone.subject) == ("gone", "a")
    assert "in_force:" + _hex(before) not in changes.read_known(client)


def test_prices_that_come_into_force_with_a_day_are_told_under_the_same_text(
    provider: Provider, client: Any
) -> None:
    prices = [
        {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2},
        {"from": "2026-07-02", "input_usd_per_mtok": 0.5, "output_usd_per_mtok": 1},
    ]
    same = _compiled(endpoint(provider, "a", prices=prices))
    morning_ms = int(begins(date(2026, 7, 2)) * 1000)
    events, late = ListedEvents("r1"), ListedEvents("r2")

    assert events.settle(client, same, [], now_ms=morning_ms - 1) == []
    assert late.settle(client, same, [], now_ms=morning_ms - 1) == []
    (told,) = events.settle(client, same, [], now_ms=morning_ms)
    assert told.text == "input $1 → $0.5, output $2 → $1 a million tokens"
    assert late.settle(client, same, [], now_ms=morning_ms + 5) == []


def test_many_newcomers_are_one_line(provider: Provider, client: Any) -> None:
    events = ListedEvents("r1")
    events.settle(client, _compiled(endpoint(provider, "old")), [], now_ms=DAY_MS)
    many = [endpoint(provider, f"n{i}") for i in range(7)]

    told = events.settle(client, _compiled(endpoint(provider, "old"), *many), [], now_ms=DAY_MS + 1)

    assert [(one.subject, one.text) for one in told] == [
        ("7 endpoints", "endpoints are new: n0, n1, n2, n3, n4 and 2 more")
    ]


def _compiled(*listed: dict[str, Any]) -> Configuration:
    return compile_text(yaml.safe_dump({"endpoints": list(listed)}), file="test.yaml")


def _hex(configuration: Configuration) -> str:
    return f"{configuration.version:016x}"[:12]


# -- outages ------------------------------------------------------------------------------------


def test_a_wrong_key_is_told_at_once_and_once_by_two_routers_and_so_is_its_end(
    provider: Provider, state_dir: Path, address: Address, seen: Any
) -> None:
    provider.on("a", Reply(status=401, body=b'{"error": {"message": "bad key"}}'))
    value = config(provider, endpoint(provider, "a"))
    (state_dir / "2").mkdir()
    with (
        serving(value, state_dir, address) as one,
        serving(value, state_dir / "2", address) as two,
    ):
        until(lambda: len(client_names(seen)) == 2)
        for sidecar in (one, two):
            sidecar.chat()
            sidecar.until(lambda s=sidecar: s.app.chronicle.troubles())  # type: ignore[misc]
        until(lambda: all(r.troubles for r in read_routers(seen, now_ms=_now())))
        time.sleep(0.2)
        assert said(seen) == [("outage", "a", "wrong key")]
        (trouble,) = one.app.chronicle.troubles()
        assert (trouble.subject, trouble.text, trouble.is_urgent) == ("a", "wrong key", True)
        assert abs(trouble.since_ms - _now()) < 20_000

        provider.replies.pop("a")
        _heal(one)
        until(lambda: not one.app.chronicle.troubles())
        time.sleep(0.3)
        assert len(said(seen)) == 1  # the other one still says that it is out
        _heal(two)
        until(lambda: len(said(seen)) == 2)

    kind, subject, text = said(seen)[1]
    assert (kind, subject) == ("recovery", "a")
    assert text.startswith("serves again after ")
    assert text.endswith("(wrong key)")


def _now() -> int:
    return int(time.time() * 1000)


def _heal(sidecar: Sidecar) -> None:
    for one in sidecar.app.health.breakers.values():
        for circuit in one.circuits.values():
            circuit.open_until = float("-inf")
    assert sidecar.chat().status_code == 200


def test_who_does_not_answer_for_a_minute_is_out(
    provider: Provider,
    state_dir: Path,
    address: Address,
    seen: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(troubles, "OUTAGE_S", 0.5)
    provider.on("a", Reply(status=500))
    with serving(config(provider, endpoint(provider, "a")), state_dir, address) as sidecar:
        for _ in range(breaker.RULES[breaker.Trouble.FAILING].failures):
            sidecar.chat()
        until(lambda: said(seen))

    assert said(seen) == [("outage", "a", "does not answer")]


def test_what_a_killed_router_had_is_over_once_nobody_has_it(
    provider: Provider,
    state_dir: Path,
    address: Address,
    seen: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chronicle, "LEFT_AFTER_S", 0.0)
    monkeypatch.setattr(chronicle, "SWEEP_EVERY_S", 0.05)
    trouble = RouterTrouble(kind="failing", subject="a", text="does not answer")
    killed = RouterPresence(
        name="killed", version="1", configuration="x", apps={}, seen_ms=_now(), troubles=[trouble]
    )
    routers.say(seen, killed)
    held = {"since_ms": _now(), "subject": "a", "text": "does not answer", "kind": "failing"}
    note(seen, "trouble:failing:a", seen=b"", value=json.dumps(held).encode())
    with serving(config(provider, endpoint(provider, "a")), state_dir, address):
        time.sleep(0.5)
        assert said(seen) == []
        routers.leave(seen, "killed")
        until(lambda: said(seen))

    ((kind, subject, text),) = said(seen)
    assert (kind, subject) == ("recovery", "a")
    assert text.startswith("no router says any more that it is out")


def test_a_refused_file_is_a_trouble_until_it_is_sound(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    file = state_dir / "pointsman.yaml"
    value = config(provider, endpoint(provider, "a"))
    with serving(value, state_dir, address, file=file) as sidecar:
        file.write_text("endpoints: [")
        sidecar.until(lambda: bool(sidecar.app.chronicle.troubles()))
        (trouble,) = sidecar.app.chronicle.troubles()
        assert trouble.subject == str(file)
        assert "refused" in trouble.text
        assert "line" in trouble.fix
        rewrite(file, value)
        sidecar.until(lambda: not sidecar.app.chronicle.troubles())


# -- the switch, and spent allowances -----------------------------------------------------------


def test_each_word_of_the_switch_is_told_with_its_way_back(
    provider: Provider, state_dir: Path, address: Address, seen: Any
) -> None:
    file = state_dir / "pointsman.yaml"
    with serving(config(provider, endpoint(provider, "a")), state_dir, address, file=file) as s:
        pointsman("off", "--config", file)
        s.until(lambda: s.app.keeper.off)
        until(lambda: len(said(seen)) == 1)
        pointsman("off", "--config", file)  # the same word again is no news
        pointsman("on", "--config", file)
        until(lambda: len(said(seen)) == 2)

    assert [(one.text, one.undo) for one in reversed(read_changes(seen))] == [
        ("routing is off", "pointsman on"),
        ("routing is on again", "pointsman off"),
    ]


def test_a_spent_budget_is_told_without_its_user(
    provider: Provider, state_dir: Path, address: Address, seen: Any, learner: Learner
) -> None:
    budgets = {"daily": {"app": "default", "user": "each", "calls": 1, "per": "day"}}
    value = config(provider, endpoint(provider, "a"), budgets=budgets)
    with serving(value, state_dir, address) as sidecar:
        assert sidecar.chat(headers={"x-router-user": "anna"}).status_code == 200
        until(lambda: said(seen), within_s=15)

    ((kind, subject, text),) = said(seen)
    assert (kind, subject, read_changes(seen)[0].app) == ("budget", "daily", "default")
    assert text == "a user's budget of this day is spent"
    assert b"anna" not in b"".join(v for _, f in seen.xrange(keys.CHANGES) for v in f.values())


def test_a_spent_room_is_told_once_a_day_and_not_before_it_holds_a_success_again(
    provider: Provider, client: Any
) -> None:
    key = ReviewKey("shop", "balanced", "", "a")
    first, second = RoomEvents(), RoomEvents()

    def stands_at(room: float) -> dict[ReviewKey, Any]:
        return {key: SimpleNamespace(room=room)}

    assert first.settle(client, stands_at(0.5), now_ms=1) == []
    (told,) = first.settle(client, stands_at(-0.1), now_ms=2)
    assert (told.kind, told.app, told.subject) == ("budget", "shop", "exploring (balanced)")
    assert second.settle(client, stands_at(-0.1), now_ms=3) == []
    assert first.settle(client, stands_at(0.5), now_ms=4) == []
    assert first.settle(client, stands_at(-0.1), now_ms=5) == []  # it was at its edge
    assert first.settle(client, stands_at(1.5), now_ms=6) == []
    assert first.settle(client, stands_at(-0.1), now_ms=7) == []  # nor does it come back so soon
    day_ms = 86_400_000
    for events in (first, second):
        assert events.settle(client, stands_at(1.5), now_ms=day_ms + 2) == []
    assert len(second.settle(client, stands_at(0.0), now_ms=day_ms + 3)) == 1


# -- trials -------------------------------------------------------------------------------------


def test_a_trial_is_told_at_its_beginning_and_at_its_end_by_one_router(client: Any) -> None:
    first, second = TrialEvents(), TrialEvents()
    trial = Trial(
        id="t1", app="shop", strategy="balanced", task="chat", incumbent="a", challenger="b",
        began_ms=1000, ends_ms=1_782_000_000_000,
    )  # fmt: skip

    def put(trial: Trial) -> None:
        client.hset(keys.TRIALS, trial.id, msgspec.json.encode(trial))
        client.hincrby(keys.TRIALS, VERSION, 1)

    assert first.settle(client) == []
    put(trial)
    (began,) = first.settle(client)
    assert began.text == "a trial began: b against a, half of the sessions each, until 2026-06-21"
    assert (began.kind, began.app, began.undo) == ("trial", "shop", "pointsman trial stop t1")
    assert second.settle(client) == first.settle(client) == []
    put(msgspec.structs.replace(trial, state=TrialState.WON, ended_ms=2000, reason="decided"))
    (won,) = second.settle(client)
    assert (won.text, won.at_ms, won.reason) == (
        "a trial ended with a gain: b against a",
        2000,
        "decided",
    )
    assert first.settle(client) == []
    client.delete(keys.TRIALS)
    first.settle(client)
    assert changes.read_known(client) == {}


# -- a store that is away -----------------------------------------------------------------------


def test_a_change_that_a_store_missed_is_told_when_it_is_back(
    provider: Provider, state_dir: Path, store: PrivateServer, address: Address
) -> None:
    file = state_dir / "pointsman.yaml"
    with (
        closing(connect(address)) as seen,
        serving(config(provider, endpoint(provider, "a")), state_dir, address, file=file) as s,
    ):
        until(lambda: seen.hget(keys.CHANGES_KNOWN, "configurations"))
        seen.execute_command("CLIENT", "PAUSE", "3000", "ALL")
        rewrite(file, config(provider, endpoint(provider, "a"), endpoint(provider, "b")))
        s.until(lambda: _lists(s) == ["a", "b"])
        assert s.chat().status_code == 200
        until(lambda: said(seen), within_s=20)

        assert [(kind, subject) for kind, subject, _ in said(seen)] == [("newcomer", "b")]
