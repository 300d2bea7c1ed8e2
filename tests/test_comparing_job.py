"""Trials from records to what the store tells of them, and how they end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compared import CONTROL, DAY_MS, RELEASE, TASK, WEB, outcome, trial, word
from msgspec import structs
from test_workers_archive import Life

from bandit.compared import COMPARED, N_BUCKETS
from bandit.told_verdicts import from_plain
from bandit.verdict import Basis, Verdict, VerdictKind
from telemetry import keys, trials
from telemetry.embedded import PrivateServer
from telemetry.events import Flag
from telemetry.saving_state import STATE_FIELD, pack_day, unpack_day
from telemetry.store import Address
from telemetry.trials import Trial, TrialState
from workers.archive.retention import Keep
from workers.jobs import jobs
from workers.jobs.jobs import Place
from workers.jobs.trial_ends import ended

HOUR_MS = 3_600_000
SEEN = 400
"""Units of a side."""


@pytest.fixture
def life(store: PrivateServer, client: Any, address: Address, state_dir: Path) -> Life:
    jobs.work_at(Place(address, state_dir / "archive", 1, Keep(30, 1 << 30)))
    return Life(client, state_dir / "archive")


def begun(client: Any, **more: Any) -> Trial:
    """Start a trial an hour ago."""
    began_ms = jobs._now_ms() - HOUR_MS
    told = {"began_ms": began_ms, "ends_ms": began_ms + 14 * DAY_MS, "holdout": 0.02, **more}
    one = trial(**told)
    trials.start(client, one)
    return one


def calls(
    life: Life, *, control: float, treated: float, first: int = 0, n: int = SEEN, **more: Any
) -> None:
    """Send calls of as many units on each side, with these shares of good answers, and fold."""
    at_ms = more.pop("at_ms", jobs._now_ms() - HOUR_MS // 2)
    records = []
    for k in range(first, first + 2 * n):
        side, share = (CONTROL, control) if k % 2 else (int(Flag.ASSIGNED), treated)
        about = {"unit": k, "at_ms": at_ms, **more}
        records.append(outcome(k, side=side, **about))
        records.append(word(k, float(k // 2 % 100 < 100 * share), **about))
    life.send(*records)
    life.fold()


def look_again(client: Any) -> dict[str, Any]:
    """Let the next look be due, and return what it leaves."""
    raw = client.hget(keys.COMPARED, STATE_FIELD)
    if raw is not None:
        state = json.loads(raw) | {"took_s": 0.0, "marks": []}
        client.hset(keys.COMPARED, STATE_FIELD, json.dumps(state))
    jobs.compare()
    found: dict[str, Any] = json.loads(client.get(keys.VERDICTS))
    return found


def state_of(client: Any, one: Trial) -> tuple[TrialState, str]:
    now = trials.read_trials(client)[one.id]
    return now.state, now.reason


def verdict_in(told: Any) -> Verdict:
    found = from_plain(told)
    assert found is not None
    return found


def test_the_job_tells_what_files_and_what_is_in_none_yet_come_to(life: Life, client: Any) -> None:
    one = begun(client)
    now_ms = jobs._now_ms()
    life.send(outcome(1, at_ms=now_ms - 2000), outcome(2, at_ms=now_ms - 2000, side=CONTROL))
    life.fold()
    life.take()
    life.send(outcome(3, at_ms=now_ms), word(2, 0.5, at_ms=now_ms - 2000))
    life.fold()

    told = look_again(client)["trials"][one.id]

    treated, control = told["treated"], told["control"]
    assert (treated["units"], treated["labelled"], control["units"]) == (2, 0, 1)
    assert (control["labelled"], control["quality"], control["signals"]) == (1, 0.5, {"human": 1})
    assert treated["cost_usd"] == pytest.approx(0.002)
    assert control["cost_per_success_usd"] == pytest.approx(0.002)
    verdict = verdict_in(told["verdict"])
    assert (verdict.kind, verdict.basis) == (VerdictKind.NOT_SHOWN, Basis.TRIAL)
    assert (verdict.units, verdict.differences) == ((1, 2), ())
    rows = unpack_day(client.hget(keys.COMPARED, one.id), COMPARED)
    assert rows["units"].sum() == 3
    assert jobs.compare() == {}, "nothing came"


def test_a_late_label_counts_and_the_same_words_again_do_not(life: Life, client: Any) -> None:
    one = begun(client)
    at_ms = jobs._now_ms() - 1000
    life.send(outcome(1, at_ms=at_ms))
    life.fold()
    assert look_again(client)["trials"][one.id]["treated"]["labelled"] == 0

    for _ in range(2):
        life.send(outcome(1, at_ms=at_ms), word(1, 1.0, at_ms=at_ms))
        life.fold()
        treated = look_again(client)["trials"][one.id]["treated"]
        assert (treated["calls"], treated["labelled"], treated["quality"]) == (1, 1, 1.0)


def test_a_gain_wins_the_trial_and_begins_its_hold_out(life: Life, client: Any) -> None:
    one = begun(client)
    calls(life, control=0.5, treated=0.95)

    told = look_again(client)["trials"][one.id]

    verdict = verdict_in(told["verdict"])
    assert (verdict.kind, verdict.units) == (VerdictKind.GAINS, (SEEN, SEEN))
    assert verdict.labelled == (SEEN, SEEN)
    now = trials.read_trials(client)[one.id]
    assert (now.state, now.reason, now.holdout) == (TrialState.WON, "gains", 0.02)
    assert verdict.ended_ms == now.ended_ms > one.began_ms
    assert told["holdout"] is None

    at_ms = now.ended_ms + 60_000
    calls(life, control=0.5, treated=0.95, first=5000, n=10, at_ms=at_ms)
    after = look_again(client)["trials"][one.id]
    holdout = verdict_in(after["holdout"])
    assert (holdout.basis, holdout.units, holdout.ended_ms) == (Basis.HOLDOUT, (10, 10), 0)
    assert after["verdict"] == told["verdict"]
    assert after["of_holdout"]["control"]["units"] == 10


def test_what_a_decided_trial_says_stays(life: Life, client: Any) -> None:
    one = begun(client)
    calls(life, control=0.5, treated=0.95)
    told = look_again(client)["trials"][one.id]
    sums = client.hget(keys.COMPARED, one.id)
    calls(life, control=1.0, treated=0.0, first=5000)

    after = look_again(client)

    assert after["trials"][one.id]["verdict"] == told["verdict"]
    assert client.hget(keys.COMPARED, one.id) == sums


def test_what_is_not_worth_it_ends_the_trial(life: Life, client: Any) -> None:
    one = begun(client)
    calls(life, control=0.95, treated=0.5)

    told = look_again(client)["trials"][one.id]

    assert verdict_in(told["verdict"]).kind is VerdictKind.KEEP
    assert state_of(client, one) == (TrialState.ENDED, "not worth it")


def test_a_value_of_a_success_makes_one_measure_of_both(life: Life, client: Any) -> None:
    one = begun(client, value_usd=0.1)
    calls(life, control=0.5, treated=0.95)

    verdict = verdict_in(look_again(client)["trials"][one.id]["verdict"])

    assert [d.measure for d in verdict.differences] == ["utility"]


def test_costs_decide_nothing_where_a_side_has_no_price(life: Life, client: Any) -> None:
    one = begun(client, value_usd=0.1)
    flags = int(Flag.ROUTED | Flag.USAGE_KNOWN | Flag.FINAL)
    calls(life, control=0.5, treated=0.95, flags=flags)

    told = look_again(client)["trials"][one.id]

    assert told["is_priced"] is False
    assert [d.measure for d in verdict_in(told["verdict"]).differences] == ["quality"]
    assert (told["control"]["calls"], told["control"]["unpriced"]) == (0, SEEN)


def test_a_trial_ends_when_its_time_is_up_and_late_labels_count_a_day(
    life: Life, client: Any
) -> None:
    now_ms = jobs._now_ms()
    one = begun(client, ends_ms=now_ms - 60_000)
    life.send(outcome(1, at_ms=now_ms - HOUR_MS // 2))
    life.fold()

    told = look_again(client)["trials"][one.id]

    assert state_of(client, one) == (TrialState.ENDED, "time")
    ended_ms = trials.read_trials(client)[one.id].ended_ms
    assert verdict_in(told["verdict"]).ended_ms == ended_ms
    life.send(word(1, 1.0, at_ms=now_ms - HOUR_MS // 2))
    life.fold()
    assert look_again(client)["trials"][one.id]["treated"]["labelled"] == 1

    long_ago = structs.replace(trials.read_trials(client)[one.id], ended_ms=ended_ms - 2 * DAY_MS)
    assert trials.change(client, long_ago)
    client.hset(keys.COMPARED, STATE_FIELD, b'{"at_ms": 0, "took_s": 0, "marks": []}')
    look_again(client)
    life.send(outcome(2, at_ms=now_ms - HOUR_MS // 2))
    life.fold()
    sums = client.hget(keys.COMPARED, one.id)
    look_again(client)
    assert client.hget(keys.COMPARED, one.id) == sums, "it is settled for good"


def test_a_gain_that_late_labels_show_still_wins(life: Life, client: Any) -> None:
    one = begun(client, ends_ms=jobs._now_ms() - 60_000)
    look_again(client)
    assert state_of(client, one) == (TrialState.ENDED, "time")
    calls(life, control=0.5, treated=0.95)

    look_again(client)

    assert state_of(client, one) == (TrialState.WON, "gains")


def test_a_trial_ends_once_its_challenger_cost_its_cap(life: Life, client: Any) -> None:
    one = begun(client, cap_usd=0.003)
    at_ms = jobs._now_ms() - 1000
    life.send(*(outcome(k, at_ms=at_ms, cost_nano=2_000_000, side=CONTROL) for k in range(9)))
    life.send(outcome(10, at_ms=at_ms))
    life.fold()
    look_again(client)
    assert state_of(client, one) == (TrialState.RUNNING, "")
    life.send(outcome(11, at_ms=at_ms, cost_nano=2_000_000))
    life.fold()

    look_again(client)

    assert state_of(client, one) == (TrialState.ENDED, "money")


def test_who_changed_a_trial_meanwhile_is_not_overruled(
    life: Life, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job decides on what it read; the next look decides on what is there then."""
    one = begun(client)
    calls(life, control=0.5, treated=0.95)
    change = trials.change

    def stopped_by_hand(client: Any, wanted: Trial) -> bool:
        about = {"ended_ms": jobs._now_ms(), "reason": "stopped"}
        by_hand = structs.replace(one, state=TrialState.ENDED, **about)
        assert change(client, by_hand)
        return change(client, wanted)

    with monkeypatch.context() as patch:
        patch.setattr(trials, "change", stopped_by_hand)
        look_again(client)

    look_again(client)
    assert state_of(client, one) == (TrialState.ENDED, "stopped")


def test_traffic_of_the_week_is_told_though_no_trial_runs(life: Life, client: Any) -> None:
    calls(life, control=1.0, treated=0.0, n=4)

    week = look_again(client)["traffic"]

    assert week["days"] == 1.0
    (row,) = week["keys"].values()
    assert (row["calls"], row["labelled_units"], row["quality"]) == (8, 8, 0.5)
    assert list(week["keys"]) == [f"{RELEASE:016x}"]
    assert list(week["apps"]) == [f"{WEB:016x}"]
    life.send(outcome(99, at_ms=jobs._now_ms()))
    life.fold()
    assert jobs.compare() == {}, "without a trial once an hour is enough"
    begun(client)
    assert jobs.compare() != {}, "one that began is due at once"


def test_where_nothing_is_archived_a_trial_ends_by_time_alone(
    store: PrivateServer, client: Any, address: Address, state_dir: Path
) -> None:
    jobs.work_at(Place(address, state_dir / "archive", 1, Keep(0, 1 << 30)))
    running = begun(client)
    over = begun(client, id="trial0000002", release_key=5, ends_ms=jobs._now_ms() - 1)

    assert jobs.compare() == {}

    assert state_of(client, running) == (TrialState.RUNNING, "")
    assert state_of(client, over) == (TrialState.ENDED, "time")
    assert client.get(keys.VERDICTS) is None


def test_trials_that_ended_long_ago_are_forgotten_unless_a_hold_out_goes_on(
    life: Life, client: Any
) -> None:
    long_ago = jobs._now_ms() - 401 * DAY_MS
    for id, state, holdout in (
        ("lost", TrialState.ENDED, 0.02),
        ("held", TrialState.WON, 0.02),
        ("left", TrialState.WON, 0.0),
    ):
        about = {"id": id, "began_ms": long_ago - 1, "ends_ms": long_ago, "ended_ms": long_ago}
        trials.start(client, trial(**about, state=state, holdout=holdout))
        client.hset(keys.COMPARED, id, b"sums")

    look_again(client)

    assert list(trials.read_trials(client)) == ["held"]
    names = {name.decode() for name in client.hkeys(keys.COMPARED)}
    assert not {"lost", "left", "lost:s"} & names


def test_damaged_sums_are_begun_anew(life: Life, client: Any) -> None:
    one = begun(client)
    client.hset(keys.COMPARED, one.id, b"damaged")
    life.send(outcome(1, at_ms=jobs._now_ms()))
    life.fold()

    assert look_again(client)["trials"][one.id]["treated"]["units"] == 1


def test_sums_of_a_version_without_a_column_are_read(life: Life, client: Any) -> None:
    """Days before those that are read stay, and what they lack is 0."""
    one = begun(client, began_ms=jobs._now_ms() - 40 * DAY_MS)
    names = [name for name in COMPARED.names or () if name != "unpriced"]
    older = np.zeros(1, dtype=[(name, COMPARED[name]) for name in names])
    older["task"] = TASK
    older["day"], older["units"], older["calls"] = jobs._now_ms() // DAY_MS - 39, 7, 9
    client.hset(keys.COMPARED, one.id, pack_day(older))
    known = {"at_ms": 0, "took_s": 0, "marks": [], "since_ms": 1}
    client.hset(keys.COMPARED, STATE_FIELD, json.dumps(known))
    life.send(outcome(1, at_ms=jobs._now_ms()))
    life.fold()

    treated = look_again(client)["trials"][one.id]["treated"]

    assert (treated["units"], treated["calls"], treated["unpriced"]) == (8, 10, 0)


# -- how a trial ends -----------------------------------------------------------------------------


def shown(kind: VerdictKind, *, units: int = 200) -> Verdict:
    return Verdict(kind, Basis.TRIAL, units=(units, units))


@pytest.mark.parametrize(
    ("verdict", "spent_usd", "late_ms", "wanted"),
    [
        (shown(VerdictKind.GAINS), 9.0, 1, (TrialState.WON, "gains")),
        (shown(VerdictKind.KEEP), 9.0, 1, (TrialState.ENDED, "not worth it")),
        (shown(VerdictKind.TRADE), 9.0, 1, (TrialState.ENDED, "money")),
        (shown(VerdictKind.TRADE), 1.0, 0, (TrialState.ENDED, "time")),
        (shown(VerdictKind.TRADE), 1.0, -1, None),
        (shown(VerdictKind.GAINS, units=199), 1.0, -1, None),
        (None, 1.0, -1, None),
        (None, 2.0, -1, (TrialState.ENDED, "money")),
    ],
)
def test_a_trial_ends_by_its_verdict_then_its_money_then_its_time(
    verdict: Verdict | None, spent_usd: float, late_ms: int, wanted: Any
) -> None:
    one = trial(cap_usd=2.0, holdout=0.01)
    now_ms = one.ends_ms + late_ms

    end = ended(one, verdict, spent_usd=spent_usd, now_ms=now_ms)

    assert (end and (end.state, end.reason)) == wanted
    if end:
        assert (end.ended_ms, end.holdout) == (now_ms, 0.01)


@pytest.mark.parametrize(
    ("reason", "days", "is_won"),
    [("time", 0.9, True), ("money", 0.9, True), ("time", 1.1, False), ("stopped", 0.1, False)],
)
def test_a_trial_that_ended_undecided_may_be_won_for_a_day(
    reason: str, days: float, is_won: bool
) -> None:
    one = trial(state=TrialState.ENDED, ended_ms=1000, reason=reason)
    now_ms = 1000 + int(days * DAY_MS)

    end = ended(one, shown(VerdictKind.GAINS), spent_usd=0.0, now_ms=now_ms)

    assert (end is not None) is is_won
    if end:
        assert (end.state, end.ended_ms) == (TrialState.WON, 1000)


def test_what_is_over_ends_no_more() -> None:
    for state in (TrialState.WON, TrialState.ENDED):
        one = trial(state=state, ended_ms=1, reason="gains")
        assert ended(one, shown(VerdictKind.KEEP), spent_usd=99.0, now_ms=1 << 50) is None
    assert N_BUCKETS == 4096, "as many as stored sums are in"
