"""From assigned calls to sums of two sides, by trial and hold-out. Pure.

A unit counts for the side that chance gave it, whoever served in the end, and in the day in which
it began. It belongs to the comparison that was in force at its first assigned call; so a unit of a
trial is never its hold-out's. Of an app's trial an episode is one observation once it is over; its
calls are summed up by task as well, for apps of which no episode was ever completed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bandit.compared import COMPARED, EPISODES, N_BUCKETS
from bandit.compared_sums import added
from bandit.saving_sums import CALL, sums_of
from workers.archive.columns import NamePairs, find
from workers.folding.batch import DAY_MS
from workers.folding.hearing import hear
from workers.jobs.compared_records import Told
from workers.jobs.episodes import IDLE_MS
from workers.jobs.sequences_known import KnownSequence, timelines
from workers.jobs.ways import starts

SLOT_MS = 600_000
"""In an app's trial all calls without session and user are on one side for so long."""
Places = NDArray[np.intp]
SIGNAL_ROW = np.dtype(
    [
        ("sequence", "<u8"),
        ("day", "<i4"),
        ("is_control", "?"),
        ("of_episodes", "?"),  # said of episodes as a whole
        ("kind", "u1"),  # FeedbackKind of what holds
        ("n", "<u4"),
    ]
)
"""How many labels of a kind hold; they add."""
_SIGNAL_PLACES = ("sequence", "day", "is_control", "of_episodes", "kind")


@dataclass(frozen=True, slots=True)
class Compared:
    """What a look finds, of all comparisons together."""

    rows: NDArray[np.void]  # of COMPARED
    signals: NDArray[np.void]  # of SIGNAL_ROW
    draws: NDArray[np.void]  # of SAVING_ROW, the sequence in place of the app


@dataclass(frozen=True, slots=True)
class Groups:
    """Rows by what they share; in each the earliest comes first."""

    of_row: Places  # (n_rows,) which group each is of
    first: Places  # (n_groups,) the row that comes first


def compare(told: Told, sequences: list[KnownSequence], *, now_ms: int) -> Compared:
    """Return the sums of the calls that belong to one of the sequences.

    Args:
        now_ms: an episode is over once nothing of it came for half an hour before.
    """
    calls = told.calls
    which = _membership(calls, sequences)
    digests = np.array([sequence.digest for sequence in sequences], dtype=np.uint64)
    mine = np.flatnonzero(which >= 0)
    own = calls.take(mine)
    rows, signals = _of_calls(own, which[mine], digests, sequences)
    draws = _draws(own, digests[which[mine]])
    of_app = np.array([s.trial.is_of_app for s in sequences], dtype=bool)
    if not of_app.any():
        return Compared(added(rows), counted(signals), draws)
    whole = _Episodes.of(calls, which, of_app, told.of_episodes)
    episodes, said = whole.rows(digests, now_ms=now_ms)
    return Compared(
        added(np.concatenate([rows, episodes])), counted(np.concatenate([signals, said])), draws
    )


def counted(signals: NDArray[np.void]) -> NDArray[np.void]:
    """Return one row a place of the rows of SIGNAL_ROW."""
    rows = signals.take(np.lexsort([signals[name] for name in _SIGNAL_PLACES[::-1]]))
    first = np.flatnonzero(starts(*(rows[name] for name in _SIGNAL_PLACES)))
    out = rows.take(first)
    if len(first):
        out["n"] = np.add.reduceat(rows["n"], first)
    return out


def grouped(*columns: NDArray[np.generic], by: NDArray[np.generic]) -> Groups:
    """Return rows by columns that are equal; in each group the lowest `by` comes first."""
    order = np.lexsort([by, *columns[::-1]])
    is_first = starts(*(column[order] for column in columns))
    of_row = np.empty(len(order), dtype=np.intp)
    of_row[order] = np.cumsum(is_first) - 1
    return Groups(of_row, order[is_first])


def units_of_key(calls: NDArray[np.void]) -> Groups:
    """Return calls by the unit of their release key."""
    return grouped(calls["release"], calls["session"], by=calls["at_ms"])


def units_of_app(calls: NDArray[np.void]) -> Groups:
    """Return calls by the unit of their app: an episode, else a user's day, else ten minutes.

    A call that stands for itself is a unit of its own.
    """
    alone, user = _stands_alone(calls), calls["user"]
    has_episode, has_user = (calls["episode"] != 0) & ~alone, (user != 0) & ~alone
    kind = np.select([alone, has_episode, has_user], [0, 1, 2], 3)
    unit = np.select(
        [alone, has_episode, has_user], [calls["session"], calls["episode"], user], _slots(calls)
    )
    day = np.where(kind == 2, calls["at_ms"] // DAY_MS, -1)
    return grouped(calls["app"], kind, unit, day, by=calls["at_ms"])


def _stands_alone(calls: NDArray[np.void]) -> NDArray[np.bool_]:
    """Return which calls share a draw with no other: their nonce is in the place of a session."""
    return np.asarray(calls["session"] == calls["nonce"])


def _slots(calls: NDArray[np.void]) -> NDArray[np.uint64]:
    return np.asarray((calls["at_ms"] // SLOT_MS).astype(np.uint64))


def _membership(calls: NDArray[np.void], sequences: list[KnownSequence]) -> NDArray[np.int64]:
    """Return (n_calls,) which sequence each belongs to; -1 of none.

    Where a comparison of its release key and one of its app were in force, the later one counts.
    """
    which = np.full(len(calls), -1, dtype=np.int64)
    mine = np.flatnonzero(calls["is_assigned"])
    own = calls.take(mine)
    found, since_ms = np.full(len(own), -1, dtype=np.int64), np.full(len(own), -1, dtype=np.int64)
    for of_app, units in ((False, units_of_key(own)), (True, units_of_app(own))):
        began_ms = own["at_ms"][units.first][units.of_row]
        column = own["app" if of_app else "release"]
        for (is_app, key), timeline in timelines(sequences).items():
            if is_app is not of_app:
                continue
            there = np.flatnonzero(column == key)
            sequence, began = timeline.at(began_ms[there])
            later = (sequence >= 0) & (began > since_ms[there])
            found[there[later]], since_ms[there[later]] = sequence[later], began[later]
    which[mine] = found
    return which


def _of_calls(
    calls: NDArray[np.void],
    which: NDArray[np.int64],
    digests: NDArray[np.uint64],
    sequences: list[KnownSequence],
) -> tuple[NDArray[np.void], NDArray[np.void]]:
    """Return sums of each unit's calls in a task, and one row of signals for each label."""
    of_app = np.array([s.trial.is_of_app for s in sequences], dtype=bool)[which]
    by_key, by_app = units_of_key(calls), units_of_app(calls)
    unit = np.where(of_app, by_app.of_row + len(by_key.first), by_key.of_row)
    units = grouped(which, unit, by=calls["at_ms"])
    began = units.first[units.of_row]  # (n_calls,) the first call of each one's unit
    day, is_control = calls["at_ms"][began] // DAY_MS, calls["is_control"][began]
    parts = grouped(units.of_row, calls["task"], by=calls["at_ms"])
    n = len(parts.first)

    def total(values: NDArray[np.generic]) -> NDArray[np.float64]:
        whole = np.bincount(parts.of_row, weights=values.astype(np.float64), minlength=n)
        return whole.astype(np.float64)

    is_said, priced = ~np.isnan(calls["reward"]), calls["is_priced"]
    n_priced = total(priced)
    out = np.zeros(n, dtype=COMPARED)
    out["sequence"] = digests[which[parts.first]]
    out["task"], out["day"] = calls["task"][parts.first], day[parts.first]
    by_slot = of_app & ~_stands_alone(calls)
    other = np.where(by_slot, _slots(calls), calls["session"])[units.first]
    out["bucket"] = (_clusters(calls, units, other)[units.of_row] % N_BUCKETS)[parts.first]
    out["is_control"] = is_control[parts.first]
    out["units"] = parts.first == began[parts.first]
    out["calls"] = np.maximum(n_priced - total(calls["repeats"]), np.minimum(n_priced, 1))
    out["unpriced"], out["labelled"] = total(~priced), total(is_said)
    out["reward"] = total(np.where(is_said, calls["reward"], 0.0))
    cost_usd = np.where(priced, calls["cost_usd"], 0.0)
    out["cost_usd"], out["labelled_cost_usd"] = total(cost_usd), total(cost_usd * is_said)
    return out, _signals(calls, digests[which], day, is_control)


def _clusters(
    calls: NDArray[np.void], units: Groups, other: NDArray[np.uint64]
) -> NDArray[np.uint64]:
    """Return (n_units,) whose each unit is: the user, else the session, else `other`, its slot."""
    user = np.zeros(len(units.first), dtype=np.uint64)
    np.maximum.at(user, units.of_row, calls["user"])  # a session may name one in some calls alone
    first = calls.take(units.first)
    return np.select([user != 0, first["episode"] != 0], [user, first["episode"]], other)


def _signals(
    calls: NDArray[np.void],
    digests: NDArray[np.uint64],
    day: NDArray[np.int64],
    is_control: NDArray[np.bool_],
) -> NDArray[np.void]:
    """Return a row for each label that a reward is of.

    What was derived from calls is none of them: it says whether an answer could be used.
    """
    places = np.flatnonzero(calls["kind"] > 0)
    out = np.zeros(len(places), dtype=SIGNAL_ROW)
    out["sequence"], out["day"] = digests[places], day[places]
    out["is_control"], out["n"] = is_control[places], 1
    out["kind"] = calls["kind"][places]
    return out


def _draws(calls: NDArray[np.void], digests: NDArray[np.uint64]) -> NDArray[np.void]:
    """Return sums by who was drawn with which propensity, costs aside."""
    out = np.zeros(len(calls), dtype=CALL)
    out["app"], out["unit"], out["is_priced"] = digests, calls["session"], True
    out["day"] = calls["at_ms"] // DAY_MS
    for name in ("task", "endpoint", "by_incumbent", "propensity", "predicted", "reward"):
        out[name] = calls[name]
    return sums_of(out)


def _spans(
    calls: NDArray[np.void], groups: Groups
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (n_groups,) when the first call of each began, and when the last one ended, in ms."""
    begins, ends = np.full(len(groups.first), np.inf), np.zeros(len(groups.first))
    np.minimum.at(begins, groups.of_row, calls["at_ms"])
    np.maximum.at(ends, groups.of_row, calls["end_ms"])
    return begins, ends


@dataclass(frozen=True, slots=True)
class _Episodes:
    """Episodes with a call of an app's comparison, (n,) each."""

    which: NDArray[np.int64]
    day: NDArray[np.int64]
    is_control: NDArray[np.bool_]
    cluster: NDArray[np.uint64]
    cost_usd: NDArray[np.float64]  # of all their calls, assigned or not
    is_priced: NDArray[np.bool_]
    wall_s: NDArray[np.float64]
    end_ms: NDArray[np.float64]
    success: NDArray[np.float64]
    kind: NDArray[np.uint8]  # of what was told of the whole; 0: nothing

    @classmethod
    def of(
        cls,
        calls: NDArray[np.void],
        which: NDArray[np.int64],
        of_app: NDArray[np.bool_],
        words: NDArray[np.void],
    ) -> _Episodes:
        has = np.flatnonzero((calls["episode"] != 0) & ~_stands_alone(calls))
        own = calls.take(has)
        belongs = (which[has] >= 0) & of_app[which[has]]
        # Assigned calls first, so that the first of each group tells side and day.
        by = np.where(belongs, own["at_ms"], np.iinfo(np.int64).max)
        groups = grouped(own["app"], own["episode"], by=by)
        names = NamePairs(words["nonce"].copy(), words["nonce_rest"].copy())
        said, place = find(own["nonce"], own["nonce_rest"], names)
        n = len(groups.first)
        held = hear([None] * n, groups.of_row[place], words["word"][said]).after
        begins, ends = _spans(own, groups)
        unpriced = np.bincount(groups.of_row, ~own["is_priced"], n)
        table = cls(
            which=which[has][groups.first],
            day=own["at_ms"][groups.first] // DAY_MS,
            is_control=own["is_control"][groups.first],
            cluster=_clusters(own, groups, own["episode"][groups.first]),
            cost_usd=np.bincount(groups.of_row, own["cost_usd"], n).astype(np.float64),
            is_priced=unpriced == 0,
            wall_s=(ends - begins) / 1000,
            end_ms=ends,
            success=held.reward,
            kind=held.kind,
        )
        return table.some(belongs[groups.first])

    def some(self, of: NDArray[np.bool_]) -> _Episodes:
        """Return some of them."""
        return _Episodes(*(getattr(self, name)[of] for name in self.__slots__))

    def rows(
        self, digests: NDArray[np.uint64], *, now_ms: int
    ) -> tuple[NDArray[np.void], NDArray[np.void]]:
        """Return those that are over as COMPARED, and what was told of them as SIGNAL_ROW."""
        over = self.some((self.kind > 0) | (now_ms - self.end_ms >= IDLE_MS))
        out = np.zeros(len(over.which), dtype=COMPARED)
        out["sequence"], out["task"] = digests[over.which], EPISODES
        out["day"], out["bucket"] = over.day, over.cluster % N_BUCKETS
        out["is_control"], out["units"] = over.is_control, 1
        is_told = over.kind > 0
        out["calls"], out["unpriced"], out["labelled"] = over.is_priced, ~over.is_priced, is_told
        out["reward"] = np.where(is_told, over.success, 0.0)
        out["cost_usd"] = np.where(over.is_priced, over.cost_usd, 0.0)
        out["labelled_cost_usd"] = out["cost_usd"] * is_told
        out["wall_s"] = np.where(is_told, over.wall_s, 0.0)
        told = over.some(is_told)
        signals = np.zeros(len(told.which), dtype=SIGNAL_ROW)
        signals["sequence"], signals["day"] = digests[told.which], told.day
        signals["is_control"], signals["of_episodes"] = told.is_control, True
        signals["kind"], signals["n"] = told.kind, 1
        return out, signals
