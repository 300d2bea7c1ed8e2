"""What episodes came to, by the archived records of the last days. Pure.

An episode is a declared session of an app. It is *completed* once an outcome of the whole was told
and not taken back, and *ended* once it was idle for half an hour.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from telemetry.events import FeedbackKind, Flag, Kind
from workers.archive.columns import NamePairs, find
from workers.folding.hearing import hear
from workers.jobs.episode_records import ATTEMPT, WORD, attempts_of, each_once, words_of
from workers.jobs.ways import CALL, calls_of, count_ways, starts

DAYS = 30
IDLE_MS = 30 * 60_000
"""As long as a session's draw is kept without a call."""
LEAST_SESSIONS = 20
"""Of so many the median of what remains is worth something."""
MOST_MAPS = 12
INTERVAL_SD = 1.645
"""Of a normal distribution 90 % lie within."""
NANO = 1e9
SEVERAL = 0
"""In place of an endpoint's digest, where several answered in a role."""

Places = NDArray[np.intp]
Figures = dict[str, Any]
PAIR = np.dtype([("episode", "<i8"), ("role", "<u8"), ("executed", "<u8")])
"""Who answered in a role of an episode."""


def figures(
    batches: Iterable[NDArray[np.void]], *, since_ms: int, now_ms: int
) -> dict[str, Figures]:
    """Return for each app what its episodes came to, by the 16 hex digits of its digest.

    What is told twice counts once. Of an episode that began before, what came later counts. Calls
    of a profile or a check are no app's traffic, and count nowhere.

    Args:
        batches: of RECORD, in any order.
        since_ms: decisions from then on count.
    """
    calls, attempts, words = [np.empty(0, CALL)], [np.empty(0, ATTEMPT)], [np.empty(0, WORD)]
    for records in batches:
        mine = records.compress(records["token"]["decided_at_ms"] >= since_ms)
        is_traffic = (mine["flags"] & int(Flag.PROFILE)) == 0
        outcomes = mine.compress((mine["kind"] == Kind.OUTCOME) & is_traffic)
        calls.append(calls_of(outcomes))
        attempts.append(attempts_of(outcomes))
        words.append(words_of(mine))
    ways = count_ways(_joined(calls))
    table = Episodes.of(each_once(_joined(attempts)), _joined(words), now_ms=now_ms)
    return {f"{app:016x}": {**table.figures(app), "ways": ways[app]} for app in sorted(ways)}


@dataclass(frozen=True, slots=True)
class Episodes:
    """Episodes, (n,) each; those of one app lie beside each other."""

    app: NDArray[np.uint64]
    calls: NDArray[np.int64]
    attempts: NDArray[np.int64]
    unpriced: NDArray[np.int64]  # attempts
    cost_nano: NDArray[np.float64]  # of all attempts
    wall_s: NDArray[np.float64]
    is_ended: NDArray[np.bool_]
    success: NDArray[np.float64]  # in [0, 1]; 0 where no outcome holds
    kind: NDArray[np.uint8]  # which the outcome is of; 0: none holds
    mapping: NDArray[np.uint64]  # equal where the same endpoints answered in the same roles
    pairs: NDArray[np.void]  # of PAIR, by episode and role

    @classmethod
    def of(cls, rows: NDArray[np.void], words: NDArray[np.void], *, now_ms: int) -> Episodes:
        """Return the episodes of attempts, with what was said of each as a whole.

        Args:
            rows: of ATTEMPT, as `each_once` returns them.
            words: of WORD; those of other decisions say nothing.
        """
        first = np.flatnonzero(starts(rows["app"], rows["episode"]))
        n_each = np.diff(first, append=len(rows))
        place = np.repeat(np.arange(len(first)), n_each)
        is_call = starts(rows["nonce"], rows["nonce_rest"])
        end_ms = np.maximum.reduceat(rows["end_ms"], first)
        success, kind = _heard(words, rows.compress(is_call), place[is_call], len(first))
        pairs = _pairs(rows, place)
        return cls(
            app=rows["app"][first],
            calls=np.add.reduceat(is_call.astype(np.int64), first),
            attempts=n_each,
            unpriced=np.add.reduceat((~rows["is_priced"]).astype(np.int64), first),
            cost_nano=np.add.reduceat(rows["cost_nano"], first),
            wall_s=(end_ms - np.minimum.reduceat(rows["began_ms"], first)) / 1000,
            is_ended=now_ms - end_ms >= IDLE_MS,
            success=success,
            kind=kind,
            mapping=_mappings(pairs, len(first)),
            pairs=pairs,
        )

    def figures(self, app: int) -> Figures:
        """Return what an app's episodes came to; costs in USD, of all attempts."""
        mine = np.flatnonzero(self.app == app)
        completed, ended = mine[self.kind[mine] > 0], mine[self.is_ended[mine]]
        won = float(self.success[completed].sum())
        spent = self._usd(completed)
        kinds = [kind for kind in FeedbackKind if (self.kind[completed] == kind).any()]
        return {
            "episodes": len(mine),
            "ended": len(ended),
            "completed": len(completed),
            "calls": int(self.calls[mine].sum()),
            "attempts": int(self.attempts[mine].sum()),
            "unpriced_attempts": int(self.unpriced[mine].sum()),
            "cost_usd": self._usd(mine),
            "success": self._success(completed),
            "success_by_kind": {
                kind.name.lower(): self._success(completed[self.kind[completed] == kind])
                for kind in kinds
            },
            "cost_per_success_usd": spent / won if won > 0 else None,
            "of_completed": self._sizes(completed),
            "of_ended": self._sizes(ended),
            "maps": self._maps(mine),
            "remaining": remaining(self.calls[ended]),
        }

    def _usd(self, mine: Places) -> float:
        return float(self.cost_nano[mine].sum()) / NANO

    def _success(self, completed: Places) -> Figures | None:
        """Return the mean of outcomes with its 90 % interval; None where there are none."""
        n, mean = len(completed), float(self.success[completed].mean()) if len(completed) else 0.0
        if not n:
            return None
        low, high = interval(mean, n)
        return {"n": n, "mean": mean, "low": low, "high": high}

    def _sizes(self, mine: Places) -> Figures | None:
        if not len(mine):
            return None
        cost, wall = self.cost_nano[mine] / NANO, self.wall_s[mine]
        return {
            "cost_usd": float(cost.sum()),
            "cost_usd_mean": float(cost.mean()),
            "cost_usd_median": float(np.median(cost)),
            "wall_s_median": float(np.median(wall)),
            "wall_s_p90": float(np.quantile(wall, 0.9)),
            "calls_median": float(np.median(self.calls[mine])),
        }

    def _maps(self, mine: Places) -> list[Figures]:
        """Return who answered in which role, the most used map first.

        Costs are of completed episodes, as successes are. An endpoint is None where several
        answered in the role; roles without an answer are left out.
        """
        answered = mine[self.mapping[mine] != 0]
        maps, first, n_each = np.unique(
            self.mapping[answered], return_index=True, return_counts=True
        )
        out = []
        for k in np.lexsort((first, -n_each))[:MOST_MAPS]:
            own = answered[self.mapping[answered] == maps[k]]
            completed = own[self.kind[own] > 0]
            out.append(
                {
                    "roles": self._roles(int(own[0])),
                    "episodes": len(own),
                    "completed": len(completed),
                    "success": self._success(completed),
                    "cost_usd_mean": self._usd(completed) / len(completed)
                    if len(completed)
                    else None,
                }
            )
        return out

    def _roles(self, episode: int) -> dict[str, str | None]:
        begin, end = np.searchsorted(self.pairs["episode"], [episode, episode + 1])
        return {
            f"{int(pair['role']):016x}": f"{int(pair['executed']):016x}"
            if pair["executed"] != SEVERAL
            else None
            for pair in self.pairs[begin:end]
        }


def interval(mean: float, n: int) -> tuple[float, float]:
    """Return within what a mean of `n` values in [0, 1] lies with 90 %.

    Of values between 0 and 1 it is wider than need be.

    Ref: Wilson (1927), J. Am. Stat. Assoc. 22, the score interval.
    """
    z2 = INTERVAL_SD**2
    middle = (mean + z2 / (2 * n)) / (1 + z2 / n)
    half = INTERVAL_SD / (1 + z2 / n) * np.sqrt(mean * (1 - mean) / n + z2 / (4 * n * n))
    return float(max(middle - half, 0.0)), float(min(middle + half, 1.0))


def remaining(calls: NDArray[np.int64]) -> list[list[float]]:
    """Return `[calls so far, median of the calls that were yet to come]`, by calls so far.

    Args:
        calls: of sessions that ended, (n,).
    """
    out: list[list[float]] = []
    so_far, following = 1, 2  # 1 2 3 4 6 8 12 16 24 …
    while len(more := calls[calls >= so_far] - so_far) >= LEAST_SESSIONS:
        out.append([so_far, float(np.median(more))])
        so_far, following = following, max(2 * so_far, 3)
    return out


def _joined(parts: list[NDArray[np.void]]) -> NDArray[np.void]:
    """Return parts as one, and let go of them: there may be millions of rows."""
    whole = np.concatenate(parts)
    parts.clear()
    return whole


def _pairs(rows: NDArray[np.void], place: Places) -> NDArray[np.void]:
    """Return who answered in each role of each episode."""
    answers, episode = rows.compress(rows["is_answer"]), place[rows["is_answer"]]
    order = np.lexsort((answers["executed"], answers["role"], episode))
    role, executed, episode = answers["role"][order], answers["executed"][order], episode[order]
    first = np.flatnonzero(starts(episode, role))
    last = np.append(first[1:], len(role))[: len(first)] - 1
    out = np.empty(len(first), dtype=PAIR)
    out["episode"], out["role"] = episode[first], role[first]
    is_one = executed[first] == executed[last]
    out["executed"] = np.where(is_one, executed[first], SEVERAL)
    return out


def _mappings(pairs: NDArray[np.void], n: int) -> NDArray[np.uint64]:
    """Return of each of `n` episodes a number that stands for its pairs of role and endpoint."""
    out = np.zeros(n, dtype=np.uint64)
    if len(pairs):
        mixed = _mixed(pairs["executed"] + _mixed(pairs["role"]))
        first = np.flatnonzero(starts(pairs["episode"]))
        out[pairs["episode"][first]] = np.add.reduceat(mixed, first)
    return out


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return numbers of which every bit hangs on every bit of what came in.

    Ref: Steele, Lea, Flood (2014), OOPSLA, the finaliser of SplitMix64.
    """
    out = numbers + np.uint64(0x9E3779B97F4A7C15)
    out = (out ^ (out >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    out = (out ^ (out >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(out ^ (out >> np.uint64(31)))


def _heard(
    words: NDArray[np.void], calls: NDArray[np.void], place: Places, n: int
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Return what holds of each of `n` episodes, and of which kind that is.

    One outcome an episode, however many of its calls it was sent to: of each kind the last word,
    and of those the strongest kind's, as of a single decision.

    Args:
        calls: of ATTEMPT, each once.
        place: (n_calls,) which episode each is of.
    """
    names = NamePairs(calls["nonce"].copy(), calls["nonce_rest"].copy())
    order = names.order()
    said, found = find(
        names.take(order).first,
        names.take(order).rest,
        NamePairs(words["nonce"].copy(), words["nonce_rest"].copy()),
    )
    held = hear([None] * n, place[order[found]], words["word"][said]).after
    return held.reward, held.kind
