"""From records to sums of two sides: exactly once, by unit, side, stratum and cluster."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from compared import (
    AT_MS,
    CONTROL,
    DAY,
    DAY_MS,
    PRICED,
    RELEASE,
    TASK,
    WEB,
    asked_again,
    of_app,
    outcome,
    trial,
    word,
)
from numpy.typing import NDArray

from bandit.compared import COMPARED, EPISODES, N_BUCKETS
from bandit.compared_sums import added, coarser, fewer_buckets
from bandit.saving_sums import SAVING_ROW
from telemetry import decoding
from telemetry.digests import digest8
from telemetry.events import FeedbackKind, Flag, Match, Result, Source
from telemetry.trials import Trial, TrialState
from workers.jobs.compared_records import Told, told_in
from workers.jobs.compared_state import FINE_DAYS, KeptSums, renewed, settled_day
from workers.jobs.comparing import SIGNAL_ROW, SLOT_MS, Compared, compare
from workers.jobs.sequences_known import SETTLING_MS, sequences_of
from workers.jobs.traffic import traffic

NOW_MS = AT_MS + DAY_MS
OF_TRIAL, OF_HOLDOUT = digest8("trial", "trial0000001"), digest8("holdout", "trial0000001")


def told(*records: bytes, since_ms: int = 0, **more: Any) -> Told:
    batches = [decoding.decode(record)[0] for record in records]
    about: dict[str, Any] = {"since_ms": since_ms, "traffic_since_ms": since_ms, **more}
    return told_in(batches, **about)


def found(*records: bytes, trials: Sequence[Trial] = (), now_ms: int = NOW_MS) -> Compared:
    trials = trials or [trial()]
    apps = frozenset({WEB} if any(t.is_of_app for t in trials) else ())
    return compare(told(*records, episodes_of=apps), sequences_of(trials), now_ms=now_ms)


def side(rows: NDArray[np.void], *, is_control: bool) -> dict[str, Any]:
    own = rows.compress(rows["is_control"] == is_control)
    names = ("units", "calls", "unpriced", "labelled", "reward", "cost_usd", "labelled_cost_usd")
    return {name: pytest.approx(float(own[name].sum())) for name in names}


def test_sums_are_those_of_each_sides_units_calls_labels_and_costs() -> None:
    failed = {"result": Result.SERVER, "flags": PRICED & ~int(Flag.FINAL), "cost_nano": 5_000_000}

    rows = found(
        outcome(1, unit=7, **failed),
        outcome(1, unit=7, attempt=2),
        outcome(2, unit=7),
        outcome(3, unit=8, side=CONTROL, cost_nano=4_000_000),
        outcome(4, unit=9, side=0),
        word(1, 0.25),
        word(1, 0.75, revision=1),
        word(3, 1.0),
        word(4, 1.0),
    ).rows

    treated, control = rows[~rows["is_control"]][0], rows[rows["is_control"]][0]
    assert len(rows) == 2
    assert (treated["sequence"], treated["task"], treated["day"]) == (OF_TRIAL, TASK, DAY)
    assert (treated["bucket"], control["bucket"]) == (7, 8)
    names = ["units", "calls", "labelled", "reward"]
    assert [treated[name] for name in names] == [1, 2, 1, 0.75]
    assert [control[name] for name in names] == [1, 1, 1, 1.0]
    assert treated["cost_usd"] == pytest.approx(0.007), "of all attempts"
    assert treated["labelled_cost_usd"] == pytest.approx(0.006)
    assert control["cost_usd"] == control["labelled_cost_usd"] == pytest.approx(0.004)


def test_what_is_told_twice_in_whatever_order_counts_once() -> None:
    records = [outcome(n, unit=n // 3, side=CONTROL if n // 3 % 2 else 1 << 29) for n in range(60)]
    records += [word(n, n / 60, unit=n // 3) for n in range(0, 60, 3)]
    records += [asked_again(n, unit=n // 3) for n in range(0, 60, 6)]
    wanted = found(*records)
    random.Random(1).shuffle(records)

    again = found(*records, *records[:50])

    assert wanted.rows["calls"].sum() == 50
    for name in COMPARED.names or ():
        assert again.rows[name] == pytest.approx(wanted.rows[name]), name
    assert again.signals.tolist() == wanted.signals.tolist()


def test_a_call_that_asks_the_same_again_counts_with_the_first_one() -> None:
    """Both cost, and are one task: cost by call is that of the whole chain."""
    rows = found(
        outcome(1, unit=7),
        outcome(2, unit=7),
        outcome(3, unit=7),
        asked_again(1, unit=7),
        asked_again(3, unit=7),
        asked_again(3, unit=7, back=True),
        asked_again(99, unit=7),
    ).rows

    assert (rows["calls"].tolist(), rows["units"].tolist()) == ([2], [1])
    assert rows["cost_usd"][0] == pytest.approx(0.003)


def test_calls_without_a_price_are_counted_apart_and_their_labels_count() -> None:
    unpriced = PRICED & ~int(Flag.PRICED)

    rows = found(outcome(1, flags=unpriced), outcome(2), word(1, 1.0)).rows

    assert side(rows, is_control=False) == {
        **{"units": 2, "calls": 1, "unpriced": 1, "labelled": 1},
        **{"reward": 1.0, "cost_usd": 0.001, "labelled_cost_usd": 0.0},
    }


def test_profiles_and_calls_that_others_dispatched_are_in_no_comparison() -> None:
    flags = (int(Flag.PROFILE), int(Flag.INGESTED))
    assert not len(found(*(outcome(n, flags=PRICED | f) for n, f in enumerate(flags))).rows)
    assert not len(found().rows)


def test_clusters_are_users_else_sessions_else_slots() -> None:
    ann, session = 5 * N_BUCKETS + 11, 3 * N_BUCKETS + 12
    rows = found(
        outcome(1, unit=100, user=ann),
        outcome(2, unit=200, episode=9),
        outcome(3, unit=200, user=ann),
        outcome(4, unit=300, episode=session),
        outcome(5, unit=400),
    ).rows

    buckets = dict(zip(rows["bucket"].tolist(), rows["units"].tolist(), strict=True))
    assert buckets == {11: 2, 12: 1, 400: 1}, "a session is the user's whom any call of it names"


def test_a_unit_counts_on_its_first_side_and_day() -> None:
    rows = found(
        outcome(1, unit=7, side=CONTROL),
        outcome(2, unit=7, at_ms=AT_MS + 1),
        outcome(3, unit=7, side=CONTROL, at_ms=AT_MS + DAY_MS),
    ).rows

    assert rows[["day", "is_control", "units", "calls"]].tolist() == [(DAY, True, 1, 3)]


def ended(**more: Any) -> Trial:
    return trial(state=TrialState.WON, ended_ms=AT_MS + 60_000, holdout=0.02, **more)


def test_a_unit_of_the_trial_is_never_its_hold_outs() -> None:
    rows = found(
        outcome(1, unit=7),
        outcome(2, unit=7, at_ms=AT_MS + 120_000),
        outcome(3, unit=8, at_ms=AT_MS + 60_000 + SETTLING_MS // 2),
        outcome(4, unit=9, at_ms=AT_MS + 60_000 + SETTLING_MS, side=CONTROL),
        trials=[ended()],
    ).rows

    by_sequence = {
        int(row["sequence"]): (int(row["units"]), int(row["calls"]), bool(row["is_control"]))
        for row in rows
    }
    assert by_sequence == {OF_TRIAL: (1, 2, False), OF_HOLDOUT: (1, 1, True)}


def test_a_hold_out_rests_while_another_trial_of_its_key_runs() -> None:
    later_ms = AT_MS + 600_000
    second = trial(
        id="trial0000002",
        began_ms=later_ms,
        state=TrialState.ENDED,
        ended_ms=later_ms + 600_000,
    )
    minutes = {4: OF_HOLDOUT, 12: digest8("trial", "trial0000002"), 22: OF_HOLDOUT}

    rows = found(
        *(outcome(n, unit=n, at_ms=AT_MS + n * 60_000) for n in minutes), trials=[ended(), second]
    ).rows

    assert {int(row["bucket"]): int(row["sequence"]) for row in rows} == minutes


def test_units_are_those_of_their_own_key_and_of_nobody_where_no_trial_runs() -> None:
    other = trial(id="trial0000002", release_key=77)

    rows = found(
        outcome(1, unit=7),
        outcome(2, unit=7, release=77),
        outcome(3, unit=8, release=78),
        outcome(4, unit=9, at_ms=AT_MS - 5000),
        trials=[trial(), other],
    ).rows

    assert sorted(rows["sequence"].tolist()) == sorted([OF_TRIAL, digest8("trial", other.id)])
    assert rows["units"].tolist() == [1, 1]


def test_signals_are_counted_by_side_and_kind() -> None:
    derived = {"kind": FeedbackKind.DERIVED, "source": Source.TOOL_CALL}
    signals = found(
        outcome(1),
        outcome(2),
        outcome(3, side=CONTROL),
        word(1, 1.0),
        word(1, 0.0, **derived),
        word(2, 0.0, **derived),
        word(3, 1.0, kind=FeedbackKind.TEST),
    ).signals

    assert signals[["is_control", "kind", "n"]].tolist() == [
        (False, FeedbackKind.HUMAN, 1),
        (True, FeedbackKind.TEST, 1),
    ], "figures rest on none that was derived"


def test_a_derived_label_is_no_reward() -> None:
    rows = found(outcome(1), word(1, 0.0, kind=FeedbackKind.DERIVED)).rows
    assert (rows["labelled"][0], rows["reward"][0]) == (0, 0.0)


# -- an app's whole map ---------------------------------------------------------------------------


def test_an_episode_is_one_observation_of_all_that_it_took() -> None:
    whole = {"episode": 900, "unit": 7}
    compared = found(
        outcome(1, **whole, latency_s=1.0),
        outcome(2, episode=900, task=99, release=5, unit=8),
        outcome(3, episode=900, side=0, unit=9, at_ms=AT_MS + 60_000, latency_s=2.0),
        outcome(4, episode=901, side=CONTROL),
        outcome(5, episode=902, side=CONTROL, at_ms=NOW_MS - 1000),
        word(2, 0.5, episode=900, match=Match.EPISODE),
        trials=[of_app()],
    )

    rows = compared.rows.compress(compared.rows["task"] == EPISODES)
    treated, control = rows[~rows["is_control"]], rows[rows["is_control"]]
    assert len(treated) == len(control) == 1
    names = ["bucket", "units", "calls", "labelled", "reward"]
    assert treated[names].tolist() == [(900, 1, 1, 1, 0.5)]
    assert treated["cost_usd"][0] == treated["labelled_cost_usd"][0] == pytest.approx(0.003)
    assert treated["wall_s"][0] == pytest.approx(62.0)
    assert control[names].tolist() == [(901, 1, 1, 0, 0.0)], "one that may go on is not over"
    of_whole = compared.signals.compress(compared.signals["of_episodes"])
    assert of_whole[["is_control", "kind", "n"]].tolist() == [(False, FeedbackKind.HUMAN, 1)]


def test_without_an_episode_a_users_day_is_the_unit_else_ten_minutes_of_the_app() -> None:
    rows = found(
        outcome(1, user=5, unit=1),
        outcome(2, user=5, unit=2, task=99, release=6, side=CONTROL),
        outcome(3, user=5, unit=3, at_ms=AT_MS + DAY_MS),
        outcome(4, unit=4, side=CONTROL),
        outcome(5, unit=5, at_ms=AT_MS + SLOT_MS - 1),
        outcome(6, unit=6, at_ms=AT_MS + SLOT_MS),
        trials=[of_app()],
    ).rows

    slot = AT_MS // SLOT_MS % N_BUCKETS
    names = ["task", "day", "bucket", "is_control", "units", "calls"]
    assert rows[names].tolist() == [
        (TASK, DAY, 5, False, 1, 1),
        (TASK, DAY, slot, True, 1, 2),
        (TASK, DAY, slot + 1, False, 1, 1),
        (TASK, DAY + 1, 5, False, 1, 1),
        (99, DAY, 5, False, 0, 1),
    ]


def test_a_call_that_stands_for_itself_is_a_unit_of_its_own() -> None:
    """Its nonce is in the place of a session, whatever else it names."""
    alone = [int.from_bytes(n.to_bytes(16, "big")[:8], "little") for n in (1 << 70, 1 << 80)]
    rows = found(
        outcome(1 << 70, unit=alone[0], episode=900),
        outcome(1 << 80, unit=alone[1], episode=900, side=CONTROL),
        trials=[of_app()],
    ).rows

    assert rows[["task", "is_control", "units"]].tolist() == [(TASK, False, 1), (TASK, True, 1)]


# -- how sums are kept ----------------------------------------------------------------------------


NO_DRAWS = np.empty(0, SAVING_ROW)


def kept(days: dict[int, int], *, n_buckets: int = N_BUCKETS) -> KeptSums:
    rows = np.zeros(len(days), dtype=COMPARED)
    rows["sequence"], rows["day"], rows["calls"] = OF_TRIAL, list(days), list(days.values())
    return KeptSums(rows, np.empty(0, SIGNAL_ROW), NO_DRAWS, n_buckets)


def of_days(sums: KeptSums) -> dict[int, int]:
    return dict(zip(sums.rows["day"].tolist(), sums.rows["calls"].tolist(), strict=True))


def test_days_that_were_read_take_the_place_of_those_before() -> None:
    old, new = kept({1: 5, 2: 5, 3: 5, 9: 4, 10: 4}), kept({2: 2, 3: 9, 9: 3, 10: 3, 11: 1})
    look = Compared(new.rows, new.signals, new.draws)

    after = renewed(old, look, OF_TRIAL, settled=4, today=11)

    assert of_days(after) == {1: 5, 2: 5, 3: 5, 9: 3, 10: 3, 11: 1}
    assert of_days(renewed(kept({}), look, OF_TRIAL, settled=4, today=11)) == of_days(new)
    narrow = renewed(old, look, OF_TRIAL, settled=12, today=11)
    assert of_days(narrow) == {1: 5, 2: 5, 3: 5, 9: 4, 10: 4, 11: 1}, "the fuller look counts"
    assert not len(renewed(kept({}), look, OF_HOLDOUT, settled=0, today=11).rows)


def test_days_settle_only_where_the_beginning_of_what_is_read_moves_on() -> None:
    since_ms = DAY * DAY_MS + 5
    assert settled_day(0, None, since_ms) == 0
    assert settled_day(0, since_ms, since_ms) == 0
    assert settled_day(0, since_ms - 1, since_ms) == DAY + 2, "a unit of before lasts a day"
    assert settled_day(DAY + 2, since_ms, since_ms - DAY_MS) == DAY + 2


def test_sums_stay_bounded_and_keep_what_they_sum_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.jobs.compared_state.MOST_ROWS", 1000)
    rng = np.random.default_rng(1)
    rows = np.zeros(9000, dtype=COMPARED)
    rows["sequence"], rows["calls"], rows["reward"] = OF_TRIAL, 1, rng.random(9000)
    rows["bucket"], rows["day"] = rng.integers(0, N_BUCKETS, 9000), 1000 + np.arange(9000) % 3
    signals = np.zeros(2, dtype=SIGNAL_ROW)
    signals["day"], signals["n"], signals["sequence"] = [1000, 1001], 1, OF_TRIAL
    today = 1001 + FINE_DAYS

    look = Compared(added(rows), signals, NO_DRAWS)
    after = renewed(kept({}), look, OF_TRIAL, settled=0, today=today)

    assert after.n_buckets == 256
    assert after.rows["calls"].sum() == 9000
    assert after.rows["reward"].sum() == pytest.approx(rows["reward"].sum())
    assert sorted(set(after.rows["day"].tolist())) == [990, 1001, 1002]
    assert after.rows["bucket"].max() < 256
    assert after.signals[["day", "n"]].tolist() == [(990, 1), (1001, 1)]


def test_joined_rows_are_the_sums_of_their_parts() -> None:
    rows = kept({1: 5, 2: 6, 40: 7}).rows
    rows["bucket"] = [3, 3 + 256, 3]
    joined = coarser(fewer_buckets(rows, 256), before_day=30, span_days=30)
    assert joined[["day", "bucket", "calls"]].tolist() == [(0, 3, 11), (40, 3, 7)]
    assert rows["bucket"].tolist() == [3, 259, 3], "the argument is left as it is"


# -- traffic --------------------------------------------------------------------------------------


def test_traffic_tells_units_labels_and_how_much_a_units_mean_varies() -> None:
    records = [outcome(n, unit=n // 2, side=0) for n in range(8)]
    records += [word(n, value) for n, value in enumerate([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])]
    records.append(outcome(50, side=0, flags=PRICED & ~int(Flag.ROUTED)))
    records.append(outcome(51, side=0, at_ms=AT_MS - 5))

    week = traffic(told(*records).calls, since_ms=AT_MS, now_ms=AT_MS + 2 * DAY_MS)

    (row,) = week["keys"].values()  # type: ignore[attr-defined]
    assert list(week["keys"]) == [f"{RELEASE:016x}"]  # type: ignore[call-overload]
    assert week["days"] == 2.0
    assert (row["calls"], row["units"], row["labelled"], row["labelled_units"]) == (8, 4, 6, 3)
    assert row["quality"] == 0.5
    assert row["variance"] == pytest.approx(np.var([1.0, 0.5, 0.0], ddof=1))
    assert traffic(told().calls, since_ms=AT_MS, now_ms=AT_MS)["keys"] == {}


@pytest.mark.slow
def test_many_calls_are_summed_up_at_once() -> None:
    """As arrays: were it call by call this test would take a minute."""
    n = 200_000
    one = decoding.decode(outcome(1))[0]
    records = np.repeat(one, n)
    nonces = np.zeros((n, 2), dtype="<u8")
    nonces[:, 1] = np.arange(n)
    records["token"]["nonce"] = nonces.view("V16").reshape(-1)
    records["token"]["session"] = np.arange(n) // 5
    records["flags"] |= np.where(np.arange(n) // 5 % 2, CONTROL, 0).astype(np.uint32)

    told_all = told_in([records], since_ms=0, traffic_since_ms=0)
    rows = compare(told_all, sequences_of([trial()]), now_ms=NOW_MS).rows

    assert rows["calls"].sum() == n
    assert rows["units"].sum() == n // 5
    assert rows["units"][rows["is_control"]].sum() == n // 10
    assert len(rows) <= 2 * N_BUCKETS
