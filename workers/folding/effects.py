"""What a batch of records changes. Pure: the same records change the same, now and in an audit.

What is known already (labels, raters' rows) is passed in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import compress
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from bandit import cells
from telemetry.events import Flag, Kind
from workers.folding import hearing, raters
from workers.folding.batch import DAY_MS, LABEL_DAYS, Batch, Decision, decisions_of
from workers.folding.chains import repeat_terms
from workers.folding.history import History
from workers.folding.raters import Seat
from workers.folding.terms import label_terms, outcome_terms

NO_HISTORY = History()
_NOTHING = cells.merge([])


@dataclass(slots=True)
class Effects:
    """What a batch changes, beside the numbers of its producers."""

    terms: cells.Terms  # one a row
    labels: dict[Decision, bytes]  # rows that changed
    raters: dict[Seat, bytes]  # rows that changed
    outcomes: NDArray[np.void]
    waiting: NDArray[np.void]  # feedback whose decision is not known yet
    cold: NDArray[np.void]  # what says something of a decision that is not young any more
    dead: list[tuple[str, bytes]]
    counts: Counter[str]


def effects(
    batch: Batch,
    stored: Mapping[Decision, bytes | None],
    *,
    history: History = NO_HISTORY,
    seated: Mapping[Seat, bytes | None] = MappingProxyType({}),
    raters_key: bytes = b"",
) -> Effects:
    """Return what a batch changes.

    Args:
        stored: the labels rows of `batch.decisions()`, and of those that `seated` names beside
            them; of those not named nothing was said yet.
        history: for how long decisions were young when these entries came.
        seated: the raters' rows of `batch.seats()`.
        raters_key: of the store; only where there are such seats.
    """
    outcomes, waiting = batch.of_kind(Kind.OUTCOME), batch.of_kind(Kind.REFERENCE_FEEDBACK)
    counts: Counter[str] = Counter(
        repeated=batch.n_repeated,
        missing=batch.n_missing,
        bytes=batch.n_bytes,
        outcomes=len(outcomes),
        held=len(waiting),
    )
    none = batch.records[:0]
    out = Effects(_NOTHING, {}, {}, outcomes, waiting, none, list(batch.dead), counts)
    terms = _hear(out, _refuse(out, batch, history), stored, seated, raters_key)
    if len(outcomes):
        terms += outcome_terms(outcomes)
    terms += repeat_terms(batch.of_kind(Kind.REPEAT))
    out.terms = cells.merge(terms)
    counts["dead"] = len(out.dead)
    return out


def _refuse(out: Effects, batch: Batch, history: History) -> NDArray[np.void]:
    """Return the feedback that counts: of a decision of the last 30 days, and not a cold one."""
    is_said = batch.is_said
    said, today = batch.records.compress(is_said), batch.today[is_said]
    age = _days_when_heard(said, today) - said["token"]["decided_at_ms"] // DAY_MS
    for wrong, when in ((age > LABEL_DAYS, "over 30 days ago"), (age < -1, "the future")):
        reason = f"feedback for a decision of {when}"
        out.dead += [(reason, record.tobytes()) for record in said[wrong]]
    counts, is_cold = is_heard(age), batch.is_cold(history)[is_said]
    if is_cold.any():
        out.cold = np.asarray(said.compress(counts & is_cold))
        counts &= ~is_cold
    out.counts["cold"] = len(out.cold)
    return said if counts.all() else np.asarray(said.compress(counts))


def _days_when_heard(said: NDArray[np.void], today: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return (n,) on which day each was heard: what is sent again, once its decision was put back,
    was heard when it was received.
    """
    received = said["received_at_ms"].astype(np.int64) // DAY_MS
    again = ((said["flags"] & Flag.THAWED) > 0) & (received > 0) & (received < today)
    return np.where(again, received, today)


def is_heard(age_days: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return of which decisions feedback counts, by their age on the day it came."""
    return np.asarray((age_days <= LABEL_DAYS) & (age_days >= -1))


def _hear(
    out: Effects,
    said: NDArray[np.void],
    stored: Mapping[Decision, bytes | None],
    seated: Mapping[Seat, bytes | None],
    raters_key: bytes,
) -> list[cells.Terms]:
    """Note what feedback says; return what it adds to the cells.

    A decision changes once a batch: what was said and taken back between adds exactly nothing, so
    that how records are grouped into batches shows nowhere.
    """
    if not len(said):
        return []
    distinct, slots = hearing.slots_of(decisions_of(said["token"]))
    first = np.empty(len(distinct), dtype=np.intp)
    first[slots[::-1]] = np.arange(len(said))[::-1]
    tokens = said.take(first)["token"]
    are_rated = bool(raters.is_rated(tokens).any())
    if are_rated:
        distinct, tokens = _with_who_sits_beside(distinct, tokens, seated)
    before = [stored.get(decision) for decision in distinct]
    heard = hearing.hear(before, slots, said)
    out.counts["feedback"] = int(heard.is_news.sum())
    out.counts["feedback_outdated"] = int((~heard.is_news).sum())
    changed = np.zeros(len(distinct), dtype=bool)
    changed[slots[heard.is_news]] = True
    out.labels = dict(compress(zip(distinct, heard.rows, strict=True), changed))
    old, new = heard.before, heard.after
    if are_rated:
        seating = raters.seat(tokens, before, heard.rows, seated, key=raters_key)
        old, new = old.without_rewards(~seating.before), new.without_rewards(~seating.after)
        changed |= seating.before & ~seating.after  # displaced, perhaps without a word
        out.raters = seating.rows
        out.counts["not_counted"], out.counts["unnamed"] = seating.n_beyond, seating.n_unnamed
    return label_terms(tokens.compress(changed), old.of(changed), new.of(changed))


def _with_who_sits_beside(
    distinct: list[Decision], tokens: NDArray[np.void], seated: Mapping[Seat, bytes | None]
) -> tuple[list[Decision], NDArray[np.void]]:
    """Return decisions and tokens with those behind them that one of them may displace."""
    seats = set(raters.seats_of(tokens.compress(raters.is_rated(tokens))))
    rows = {seat: seated.get(seat) for seat in seats}
    beside = raters.sitting_beside(rows, set(distinct))
    return [*distinct, *beside], np.concatenate([tokens, raters.tokens_of(beside.values())])
