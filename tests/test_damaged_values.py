"""What is damaged in the store's hashes and streams stops nobody who reads them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from test_trials import guarded, trial_of

from router.beliefs.release_log import read_release_log
from router.config.notices import Receiver
from router.notices.backlog import Backlog
from router.notices.trials import TrialEvents
from router.report.page_changes import read_proposals
from telemetry import changes, clock, keys, routers
from telemetry.trials import VERSION, change, look, read_trials, start
from workers.jobs.comparisons import look_at

DEEP = b'{"x":' + b"[" * 100_000
NO_TEXT = b'{"id":"\xff","at_ms":1,"kind":"switch","subject":"\xff","text":"t"}'
DAMAGED = [b"", b"\xff\xfe", b"null", b"[]", b"5", DEEP, NO_TEXT]
"""Values that no version ever wrote."""

GOOD = {
    "at_ms": 1,
    "app": "default",
    "strategy": "q",
    "model": None,
    "task": "code",
    "before": "a",
    "after": "b",
    "reason": "better",
    "p_better": 0.9,
    "labels": {},
    "id": "0a1b2c3d",
}


def test_damaged_trials_stop_neither_choices_nor_notices_nor_the_job(
    client: Any, state_dir: Path
) -> None:
    sound = trial_of(guarded(state_dir))
    start(client, sound)
    for number, raw in enumerate(DAMAGED):
        client.hset(keys.TRIALS, f"x{number}", raw)
    plain = json.loads(client.hget(keys.TRIALS, sound.id))
    for name, value in (
        ("began_ms", 10**30),
        ("ends_ms", 10**30),
        ("ended_ms", -1),
        ("release_key", 1 << 64),
        ("release_key", -1),
    ):
        odd = f"{name}{value}"
        client.hset(keys.TRIALS, odd, json.dumps({**plain, "id": odd, name: value}))

    assert list(read_trials(client)) == [sound.id]
    assert [told.subject for told in TrialEvents().settle(client)] == ["general"]
    for raw in DAMAGED:
        client.hset(keys.COMPARED, "state", raw)
        client.set(keys.VERDICTS, raw)
        found = look_at(client, ["0-0"], now_ms=sound.began_ms)
        assert found is not None
        assert (found.state, found.told) == ({}, {})


def test_a_damaged_version_of_the_trials_holds_up_no_change(client: Any, state_dir: Path) -> None:
    client.hset(keys.TRIALS, VERSION, b"\xff")
    sound = trial_of(guarded(state_dir))
    start(client, sound)
    before = look(client)
    assert change(client, sound)
    assert look(client) != before


def test_damaged_entries_are_passed_over_and_the_next_notice_is_sent(client: Any) -> None:
    backlog = Backlog(client, Receiver("http://127.0.0.1:9/", b"s"), "here")
    now_ms = int(time.time() * 1000)
    assert backlog.read(now_ms=now_ms) == []
    far = {**GOOD, "at_ms": 10**30, "p_better": float("inf"), "labels": {"a": float("inf")}}
    for raw in [*DAMAGED, json.dumps(far).encode()]:
        for stream, field in (
            (keys.RELEASES, "release"),
            (keys.RELEASES, "note"),
            (keys.ALARMS, "alarm"),
        ):
            client.xadd(stream, {field: raw})
    late = {"id": "x", "at_ms": 10**30, "kind": "switch", "subject": "s", "text": "t"}
    for raw in [*DAMAGED, json.dumps(late).encode()]:
        client.xadd(keys.CHANGES, {"change": raw})
    alarm = {"kind": "down", "endpoint": "a", "factor": 0.5, "labels": 9, "since_ms": 10**30}
    client.xadd(keys.ALARMS, {"alarm": json.dumps(alarm)})
    client.xadd(keys.RELEASES, {"release": json.dumps(GOOD)})
    client.hset(keys.NOTICES, b"\xff:used", b"1")
    client.hset(keys.NOTICES, b"other:used", b"9" * 5000)

    found = [one.notice for one in backlog.read(now_ms=now_ms) if one.notice is not None]
    assert [one.undo for one in found] == ["pointsman release undo 0a1b2c3d"]
    assert changes.read_changes(client) == []
    assert [one["id"] for one in read_release_log(client, [], most=99)] == ["0a1b2c3d"]

    for field in client.hkeys(keys.NOTICES):
        client.hset(keys.NOTICES, field, b"\xffnonsense")
    assert backlog.read(now_ms=now_ms) == []  # it begins with what happens from now on
    client.xadd(keys.RELEASES, {"release": json.dumps(GOOD)})
    assert [one.notice.text for one in backlog.read(now_ms=now_ms) if one.notice] == [
        "task code goes to b instead of a"
    ]


def test_a_routers_word_that_cannot_be_is_not_shown_and_goes(client: Any) -> None:
    now_ms = int(time.time() * 1000)
    word = {"version": "1", "configuration": "ab", "apps": {}, "troubles": []}
    for number, seen_ms in enumerate((10**30, -(10**30), now_ms + 10**9)):
        client.hset(keys.ROUTERS, f"r{number}", json.dumps({**word, "seen_ms": seen_ms}))
    for number, raw in enumerate(DAMAGED):
        client.hset(keys.ROUTERS, f"x{number}", raw)
    client.hset(keys.ROUTERS, "sound", json.dumps({**word, "seen_ms": now_ms}))

    assert [one.name for one in routers.read_routers(client, now_ms=now_ms)] == ["sound"]
    routers.prune(client, now_ms=now_ms)
    assert client.hkeys(keys.ROUTERS) == [b"sound"]


def test_a_damaged_proposal_is_not_shown(client: Any) -> None:
    for number, raw in enumerate(DAMAGED):
        client.hset(keys.PROPOSALS, f"x{number}", raw)
    client.hset(keys.PROPOSALS, "0a1b2c3d", json.dumps(GOOD))
    assert [one["id"] for one in read_proposals(client)] == ["0a1b2c3d"]


def test_a_trials_moments_are_of_the_stores_clock(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    an_hour_ahead = clock.StoreClock(own=lambda: time.time() + 3600)
    monkeypatch.setattr(clock, "StoreClock", lambda: an_hour_ahead)
    seconds, _ = client.time()
    assert abs(clock.store_now_ms(client) - int(seconds) * 1000) < 5000
