"""Trials and hold-outs from records to what they show, kept in the store; and the end of trials.

A comparison that is over stays as it was. Calls and labels of its units are added for one day more,
unless its verdict was what ended it: that is what it says from then on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import structlog
from msgspec import Struct, convert
from numpy.typing import NDArray

from bandit.compared import N_BUCKETS
from bandit.verdict import Verdict
from telemetry import keys, trials
from telemetry.damaged import DAMAGED, Moment, object_of
from telemetry.digests import digest8
from telemetry.saving_state import STATE_FIELD
from telemetry.store import Client
from telemetry.trials import Trial, TrialState
from workers.folding.batch import DAY_MS, LABEL_DAYS
from workers.jobs import recent, traffic
from workers.jobs.compared_records import told_in
from workers.jobs.compared_state import SUFFIXES, KeptSums, read_sums, renewed, settled_day
from workers.jobs.comparing import Compared, compare
from workers.jobs.sequences_known import HOLDOUT_SUFFIX, KnownSequence, sequences_of
from workers.jobs.shown import Told, shown, spent_usd
from workers.jobs.trial_ends import GAINS, NOT_WORTH, ended

log = structlog.get_logger()

KEPT_DAYS = 400
"""So long a trial that is over is shown."""
DECIDED = (GAINS, NOT_WORTH)


@dataclass(frozen=True, slots=True)
class Look:
    """What the store says before records are read."""

    trials: dict[str, Trial]
    version: str  # of all trials together
    state: dict[str, Any]
    told: dict[str, Told]  # by trial, as of the last look
    sequences: list[KnownSequence]
    live: frozenset[str]  # fields of those that are not settled for good
    days: int  # to be read
    now_ms: int


def look_at(client: Client, marks: list[str], *, now_ms: int) -> Look | None:
    """Return what is to be compared, or None where nothing is due.

    Where nothing is live, last week's traffic is counted anew once an hour. A trial that began or
    ended, or whose time is up, is due at once.

    Args:
        now_ms: on the store's clock.

    Raises:
        redis.RedisError: the store is away.
    """
    raw = client.hget(keys.COMPARED, STATE_FIELD)
    state = _state_of(raw)
    known = trials.read_trials(client)
    version = (trials.look(client) or b"").decode("utf-8", "replace")
    sequences, frozen = sequences_of(known.values()), set(state.get("frozen", ()))
    running = {t.id for t in known.values() if t.state is TrialState.RUNNING}
    live = [s for s in sequences if s.field not in frozen or s.field in running]
    is_overdue = any(known[id].ends_ms <= now_ms for id in running)
    if raw and state and state.get("version") == version and not is_overdue:
        is_quiet = not live and now_ms - state["at_ms"] < recent.QUIET_MS
        if is_quiet or not recent.is_due(raw, marks, now_ms=now_ms):
            return None
    since_ms = min((s.since_ms for s in live), default=now_ms)
    days = min(LABEL_DAYS, max(traffic.DAYS, (now_ms - since_ms) // DAY_MS + 3))
    told = told_verdicts(client)
    fields = frozenset(s.field for s in live)
    return Look(known, version, state, told, sequences, fields, days, now_ms)


class _State(Struct):
    """What a look leaves to the next one, as far as it is there."""

    at_ms: Moment
    marks: list[str]
    took_s: float
    since_ms: Moment = 0
    settled_day: int = 0
    version: str = ""
    frozen: list[str] = []
    over: dict[str, Moment] = {}
    buckets: dict[str, int] = {}


def _state_of(raw: bytes | None) -> dict[str, Any]:
    """Return what the last look left; nothing where that cannot be read, and all begins anew."""
    state = object_of(raw)
    try:
        convert(state, _State)
    except DAMAGED as error:
        if raw:
            log.error("the last look at trials cannot be read", error=type(error).__name__)
        return {}
    return state


def told_verdicts(client: Client) -> dict[str, Told]:
    """Return what was last told of trials; of what cannot be read nothing was."""
    told = object_of(client.get(keys.VERDICTS)).get("trials")
    every = told.items() if isinstance(told, dict) else ()
    return {id: one for id, one in every if isinstance(one, dict)}


@dataclass(frozen=True, slots=True)
class LookResult:
    """What a look came to."""

    sums: dict[str, KeptSums]  # of live comparisons, by field
    told: dict[str, Told]  # by trial
    traffic: dict[str, object]
    ended: list[Trial]  # as they are to be from now on
    state: dict[str, Any]


def work_out(
    client: Client, look: Look, batches: Iterable[NDArray[np.void]], *, since_ms: int
) -> LookResult:
    """Return what records come to.

    Args:
        batches: of RECORD, in any order.
        since_ms: since when all that came is among them.

    Raises:
        redis.RedisError: the store is away.
    """
    week_ms = max(since_ms, look.now_ms - traffic.DAYS * DAY_MS)
    apps = {digest8("app", t.app) for t in look.trials.values() if t.is_of_app}
    records = told_in(
        batches, since_ms=since_ms, traffic_since_ms=week_ms, episodes_of=frozenset(apps)
    )
    of_week = traffic.traffic(records.calls, since_ms=week_ms, now_ms=look.now_ms)
    sums = _sums(client, look, compare(records, look.sequences, now_ms=look.now_ms), since_ms)
    return _shown(look, sums, of_week, since_ms=since_ms)


def keep(client: Client, look: Look, found: LookResult, **state: object) -> list[Trial]:
    """Store what was found, then end trials that are over; return those that did end.

    Raises:
        redis.RedisError: the store is away.
    """
    gone = [t for t in look.trials.values() if _is_old(t, look.now_ms)]
    fields = [t.id + end for t in gone for end in ("", HOLDOUT_SUFFIX)]
    pipeline = client.pipeline(transaction=False)
    packed = {STATE_FIELD: json.dumps(found.state | state).encode()}
    for field, sums in found.sums.items():
        packed |= sums.packed(field)
    pipeline.hset(keys.COMPARED, mapping=packed)  # at once: sums, and as of when they are
    if gone:
        pipeline.hdel(keys.COMPARED, *(field + of for field in fields for of in SUFFIXES))
        pipeline.hdel(keys.TRIALS, *(t.id for t in gone))
        pipeline.hincrby(keys.TRIALS, trials.VERSION, 1)
    shown_now = {"at_ms": look.now_ms, "trials": found.told, "traffic": found.traffic}
    pipeline.set(keys.VERDICTS, json.dumps(shown_now))
    pipeline.execute()
    # Last: who sees that a trial ended finds what it shows. If this fails the next look does it.
    return [trial for trial in found.ended if trials.change(client, trial)]


def end_by_time(client: Client, *, now_ms: int) -> list[Trial]:
    """End the trials whose time is up, where no records are kept; nothing is shown of them.

    Raises:
        redis.RedisError: the store is away.
    """
    over = [
        ended(t, None, spent_usd=0.0, now_ms=now_ms) for t in trials.read_trials(client).values()
    ]
    return [t for t in over if t is not None and trials.change(client, t)]


def _sums(client: Client, look: Look, new: Compared, since_ms: int) -> dict[str, KeptSums]:
    state, out = look.state, {}
    settled = settled_day(state.get("settled_day", 0), state.get("since_ms"), since_ms)
    for sequence in look.sequences:
        if sequence.field in look.live:
            n_buckets = state.get("buckets", {}).get(sequence.field, N_BUCKETS)
            old = read_sums(client, sequence.field, n_buckets)
            today = look.now_ms // DAY_MS
            out[sequence.field] = renewed(old, new, sequence.digest, settled=settled, today=today)
    return out


def _shown(
    look: Look, sums: dict[str, KeptSums], of_week: dict[str, object], *, since_ms: int
) -> LookResult:
    told = {id: look.told[id] for id in look.trials if id in look.told}
    over = {f: ms for f, ms in look.state.get("over", {}).items() if f in look.live}
    frozen, ends = [s.field for s in look.sequences if s.field not in look.live], []
    n_compared = len({s.key for s in look.sequences})
    for sequence in look.sequences:
        field, trial = sequence.field, sequence.trial
        if field not in sums:
            continue
        found, about = shown(sequence, sums[field], n_compared=n_compared, at_ms=look.now_ms)
        end = None if sequence.is_holdout else _end(trial, found, sums[field], look)
        if end:
            ends.append(end)
            as_ended = replace(sequence, trial=end)
            _, about = shown(as_ended, sums[field], n_compared=n_compared, at_ms=look.now_ms)
        told[trial.id] = _told(told.get(trial.id), about, sums[field], sequence)
        if _is_over(sequence) and field not in over:
            over[field] = look.now_ms if sequence.is_holdout else trial.ended_ms
        if (end and end.reason in DECIDED) or look.now_ms - over.get(field, look.now_ms) > DAY_MS:
            frozen.append(field)
    state = look.state
    settled = settled_day(state.get("settled_day", 0), state.get("since_ms"), since_ms)
    buckets = {f: s.n_buckets for f, s in sums.items() if s.n_buckets < N_BUCKETS}
    new: dict[str, Any] = {"at_ms": look.now_ms, "since_ms": since_ms, "settled_day": settled}
    new |= {"version": look.version, "frozen": frozen, "over": over, "buckets": buckets}
    return LookResult(sums, told, of_week, ends, new)


def _told(before: Told | None, about: Told, sums: KeptSums, sequence: KnownSequence) -> Told:
    """Return what is told of a trial, with what its own comparison or its hold-out shows now."""
    if not sequence.is_holdout:
        holdout = {name: (before or {}).get(name) for name in ("holdout", "of_holdout")}
        return {**about, **holdout}
    if not len(sums.rows):
        return before or {}
    return {**(before or {}), "holdout": about["verdict"], "of_holdout": about}


def _end(trial: Trial, found: Verdict, sums: KeptSums, look: Look) -> Trial | None:
    """Return a trial as it ends now; one whose key has another one by now is not won any more."""
    end = ended(trial, found, spent_usd=spent_usd(sums.rows), now_ms=look.now_ms)
    if end is None or trial.state is TrialState.RUNNING:
        return end
    later = (t for t in look.trials.values() if t.began_ms > trial.began_ms and t.app == trial.app)
    return None if any(t.release_key in (trial.release_key, 0) for t in later) else end


def _is_over(sequence: KnownSequence) -> bool:
    trial = sequence.trial
    return trial.holdout <= 0 if sequence.is_holdout else trial.state is not TrialState.RUNNING


def _is_old(trial: Trial, now_ms: int) -> bool:
    keeps = trial.state is TrialState.RUNNING or (
        trial.state is TrialState.WON and trial.holdout > 0
    )
    return not keeps and now_ms - trial.ended_ms > KEPT_DAYS * DAY_MS
