"""What a batch of records changes. Pure: the same records change the same, now and in an audit.

What is known already (labels, raters' rows) is passed in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from bandit import cells, owned
from telemetry.events import Flag, Kind
from workers.folding import hearing, raters
from workers.folding.batch import (
    DAY_MS,
    LABEL_DAYS,
    Batch,
    Decision,
    decisions_of,
    owners_of,
    tokens_in,
)
from workers.folding.chains import repeat_terms
from workers.folding.history import History
from workers.folding.raters import Seat
from workers.folding.terms import Owners, label_terms, outcome_terms

NO_HISTORY = History()
_NOTHING = cells.merge([])


@dataclass(frozen=True, slots=True)
class Known:
    """What must be known of a shard before its batch can be folded."""

    stored: Mapping[Decision, bytes | None]
    """The labels rows of `batch.decisions()`, and of those that `seated` names beside them; of
    those not named nothing was said yet."""
    history: History = NO_HISTORY  # for how long decisions were young when these entries came
    seated: Mapping[Seat, bytes | None] = field(default_factory=dict)  # of `batch.seats()`
    raters_key: bytes = b""  # of the store; only where there are such seats


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

    @property
    def n_outcomes(self) -> int:
        """How many of its records are outcomes."""
        return len(self.outcomes)


def effects(
    batch: Batch,
    stored: Mapping[Decision, bytes | None],
    *,
    history: History = NO_HISTORY,
    seated: Mapping[Seat, bytes | None] = MappingProxyType({}),
    raters_key: bytes = b"",
) -> Effects:
    """Return what a batch changes; the arguments are as in `Known`."""
    return effects_of_each([batch], [Known(stored, history, seated, raters_key)], batch)[0]


def effects_of_each(
    batches: Sequence[Batch], known: Sequence[Known], whole: Batch
) -> list[Effects]:
    """Return what batches of several shards change, each as if it were alone, worked out at once.

    Args:
        known: of each.
        whole: the records of all of them, in their order.
    """
    out = list(map(_nothing_yet, batches))
    owner = owners_of(batches)
    terms = _hear(out, *_refuse(out, batches, known, whole, owner), known)
    if len(outcomes := whole.of_kind(Kind.OUTCOME)):
        terms += outcome_terms(outcomes, _owners(whole, owner, Kind.OUTCOME))
    if len(repeats := whole.of_kind(Kind.REPEAT)):
        terms += repeat_terms(repeats, _owners(whole, owner, Kind.REPEAT))
    for found, own in zip(out, owned.split(cells.merge(terms), len(out)), strict=True):
        found.terms = own
        found.counts["dead"] = len(found.dead)
    return out


def _nothing_yet(batch: Batch) -> Effects:
    outcomes, waiting = batch.of_kind(Kind.OUTCOME), batch.of_kind(Kind.REFERENCE_FEEDBACK)
    counts: Counter[str] = Counter(
        repeated=batch.n_repeated,
        missing=batch.n_missing,
        bytes=batch.n_bytes,
        outcomes=len(outcomes),
        held=len(waiting),
    )
    none = batch.records[:0]
    return Effects(_NOTHING, {}, {}, outcomes, waiting, none, list(batch.dead), counts)


def _owners(whole: Batch, owner: Owners, kind: Kind) -> Owners:
    """Return (n,) whose the records of a kind are."""
    if owner is None or len(whole.contents.kinds) == 1:
        return owner
    return owner.compress(whole.records["kind"] == kind)


def _refuse(
    out: Sequence[Effects],
    batches: Sequence[Batch],
    known: Sequence[Known],
    whole: Batch,
    owner: Owners,
) -> tuple[NDArray[np.void], Owners]:
    """Return the feedback that counts: of a decision of the last 30 days, and not a cold one."""
    if not whole.contents.says:
        return whole.records[:0], owner
    is_said = whole.is_said
    said, today = whole.records.compress(is_said), whole.today[is_said]
    owner = None if owner is None else owner[is_said]
    today = _days_when_heard(said, today) if whole.contents.has(Flag.THAWED) else today
    age = today - said["token"]["decided_at_ms"] // DAY_MS
    counts = is_heard(age)
    for place in np.flatnonzero(~counts).tolist():
        when = "over 30 days ago" if age[place] > LABEL_DAYS else "the future"
        found = out[0 if owner is None else int(owner[place])]
        found.dead.append((f"feedback for a decision of {when}", said[place].tobytes()))
    cold = [batch.is_cold(own.history) for batch, own in zip(batches, known, strict=True)]
    is_cold = np.concatenate(cold)[is_said]
    if is_cold.any():
        left = said.compress(counts & is_cold)
        whose = np.zeros(len(left)) if owner is None else owner[counts & is_cold]
        for number, found in enumerate(out):
            found.cold = np.asarray(left.compress(whose == number))
            found.counts["cold"] = len(found.cold)
        counts &= ~is_cold
    if counts.all():
        return said, owner
    return np.asarray(said.compress(counts)), None if owner is None else owner[counts]


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
    out: Sequence[Effects], said: NDArray[np.void], owner: Owners, known: Sequence[Known]
) -> list[cells.Terms]:
    """Note what feedback says; return what it adds to the cells.

    A decision changes once a batch: what was said and taken back between adds exactly nothing, so
    that how records are grouped into batches shows nowhere.
    """
    if not len(said):
        return []
    distinct, whose, slots = _distinct(said, owner)
    first = np.empty(len(distinct), dtype=np.intp)
    first[slots[::-1]] = np.arange(len(said))[::-1]
    tokens = tokens_in(said).take(first)
    are_rated = bool(raters.is_rated(tokens).any())
    if are_rated:
        distinct, whose, tokens = _with_who_sits_beside(distinct, whose, tokens, known)
    stored = [own.stored.get for own in known]
    if owner is None:
        before = list(map(stored[0], distinct))
    else:
        before = [stored[of](decision) for of, decision in zip(whose, distinct, strict=True)]
    heard = hearing.hear(before, slots, said)
    _count_news(out, owner, heard.is_news)
    changed = np.zeros(len(distinct), dtype=bool)
    changed[slots[heard.is_news]] = True
    labels = [found.labels for found in out]
    for number, decision, row in compress(zip(whose, distinct, heard.rows, strict=True), changed):
        labels[number][decision] = row
    old, new = heard.before, heard.after
    if are_rated:
        counted, displaced = _seated(out, whose, tokens, before, heard.rows, known)
        old, new = old.without_rewards(~counted[0]), new.without_rewards(~counted[1])
        changed |= displaced  # perhaps without a word
    owners = None
    if owner is not None:
        owners = np.array(whose, dtype=np.uint64)[changed]
    if not changed.all():
        tokens, old, new = tokens.compress(changed), old.of(changed), new.of(changed)
    return label_terms(tokens, old, new, owners)


def _distinct(
    said: NDArray[np.void], owner: Owners
) -> tuple[list[Decision], list[int], NDArray[np.intp]]:
    """Return of which decisions something is said, whose each is, and (n,) which one it is."""
    decisions = decisions_of(said["token"])
    if owner is None:
        distinct, slots = hearing.slots_of(decisions)
        return distinct, [0] * len(distinct), slots
    pairs, slots = hearing.slots_of(list(zip(owner.tolist(), decisions, strict=True)))
    return [decision for _, decision in pairs], [number for number, _ in pairs], slots


def _count_news(out: Sequence[Effects], owner: Owners, is_news: NDArray[np.bool_]) -> None:
    whose = np.zeros(len(is_news), dtype=np.intp) if owner is None else owner.astype(np.intp)
    n_said = np.bincount(whose, minlength=len(out)).tolist()
    n_news = np.bincount(whose[is_news], minlength=len(out)).tolist()
    for found, of_all, of_news in zip(out, n_said, n_news, strict=True):
        found.counts["feedback"], found.counts["feedback_outdated"] = of_news, of_all - of_news


def _with_who_sits_beside(
    distinct: list[Decision],
    whose: list[int],
    tokens: NDArray[np.void],
    known: Sequence[Known],
) -> tuple[list[Decision], list[int], NDArray[np.void]]:
    """Return decisions and tokens with those behind them that one of them may displace."""
    rated = raters.is_rated(tokens).tolist()
    more, numbers, parts = list[Decision](), list[int](), [tokens]
    for number, own in enumerate(known):
        mine = [one == number and r for one, r in zip(whose, rated, strict=True)]
        seats = set(raters.seats_of(tokens.compress(mine)))
        rows = {seat: own.seated.get(seat) for seat in seats}
        beside = raters.sitting_beside(
            rows, set(compress(distinct, [one == number for one in whose]))
        )
        more += beside
        numbers += [number] * len(beside)
        parts.append(raters.tokens_of(beside.values()))
    return [*distinct, *more], [*whose, *numbers], np.concatenate(parts)


def _seated(
    out: Sequence[Effects],
    whose: list[int],
    tokens: NDArray[np.void],
    before: list[bytes | None],
    after: list[bytes],
    known: Sequence[Known],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which decisions count before and after, (2, n), and which are displaced, (n,)."""
    counted = np.ones((2, len(whose)), dtype=bool)
    for number, own in enumerate(known):
        places = [i for i, one in enumerate(whose) if one == number]
        rows = [before[i] for i in places], [after[i] for i in places]
        seating = raters.seat(tokens.take(places), *rows, own.seated, key=own.raters_key)
        counted[:, places] = seating.before, seating.after
        out[number].raters = seating.rows
        counts = out[number].counts
        counts["not_counted"], counts["unnamed"] = seating.n_beyond, seating.n_unnamed
    return counted, counted[0] & ~counted[1]
