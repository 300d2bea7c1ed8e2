"""The two endings of stored draws that are nobody's fault. Pure, no I/O.

A session's draw ends for gain: another group is better with .95, and what the median of its calls
that are still to come would gain is above what the lost prompt cache is worth. A slot's draw ends
as dominated: another is better with .95, and shown to be so by labels alone that came since.

What was known when a draw was made ends none: an exploring draw was made in spite of it. Each draw
ends so once, and what is drawn then never does.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import TypeVar

from bandit.draws import Law
from bandit.limits import NO_LIMITS
from bandit.steps import KEPT
from router.beliefs.beliefs import Beliefs
from router.beliefs.episodes import EpisodeLengths
from router.beliefs.history import BeliefHistory, Snapshot
from router.decision.better import (
    Better,
    best_group,
    find_better,
    gains_since,
    odds_since,
)
from router.decision.context import CallContext
from router.decision.ended import EndedDraw, dominated_by, gained_by
from router.decision.progress import SessionProgress
from router.decision.shared_draws import DrawEnding, StoredDraw
from router.endpoints.catalog import Endpoint

V = TypeVar("V")
MAX_REMEMBERED = 4096
"""Tasks under a strategy, and kinds of calls and draws of one."""
FRESH_S = 10.0
"""While labels pour in, beliefs change many times a second. What was found out of one kind of call
holds so long, so that its cost is bounded; snapshots of what was believed are a minute apart."""
_Kind = tuple[object, ...]
_NOT_ENDED = DrawEnding.NONE
_KEPT = tuple(KEPT)  # to compare with two or three takes less than to hash one


class _Compared:
    """Who is better than the endpoint of a draw under a law; and since each snapshot asked for."""

    __slots__ = ("better", "dominated", "gains_usd", "law")

    def __init__(self, law: Law, better: tuple[Better, ...]) -> None:
        self.law = law
        self.better = better
        self.dominated: dict[int, EndedDraw | None] = {}
        self.gains_usd: dict[int, tuple[float, ...]] = {}


class _Ranked:
    """A task under one strategy: the best group, and what was found out of others."""

    __slots__ = ("best", "compared")

    def __init__(self, best: int | None) -> None:
        self.best = best
        self.compared: dict[_Kind, _Compared] = {}


class Endings:
    """Says of calls that follow a draw whether that ends; one for the process.

    What is found out is remembered by the kind of call for ten seconds, and as long as
    beliefs stay the same: of most calls that follow, nothing is worked out.
    """

    def __init__(
        self,
        history: BeliefHistory,
        lengths: Callable[[], EpisodeLengths],
        progress: SessionProgress,
    ) -> None:
        self._history = history
        self._lengths = lengths
        self._progress = progress
        self._beliefs: Beliefs | None = None  # that nothing is remembered from before
        self._fresh_until = 0.0  # monotonic seconds
        self._tasks: dict[_Kind, _Ranked] = {}

    def of(self, context: CallContext, held: StoredDraw, endpoint: Endpoint) -> EndedDraw | None:
        """Return why a draw ends now; None where it goes on, as most do.

        Args:
            context: of a call for which something may be drawn.
            held: the unit's own draw, that no stand-in serves for.
            endpoint: that it names.
        """
        eligibility, route, law = context.eligibility, context.route, context.route.law
        if held.ending is not _NOT_ENDED or held.step in _KEPT or law is None:
            return None
        if eligibility.reasons[endpoint.index] is not None:
            return None  # an outage ends no stored draw, nor does what this call alone asks for
        if context.beliefs is not self._beliefs:
            self._follow(context)
        task = (context.category, context.strategy.digest, route.first or route.listed[0])
        ranked = self._tasks.get(task)
        if ranked is None:
            ranked = _remember(self._tasks, task, _Ranked(best_group(context)))
        if ranked.best == endpoint.group:
            return None  # most often
        kind = (
            endpoint.index,
            route.groups,
            route.preferred,
            context.explore,
            eligibility.mask.tobytes(),
            None if eligibility.limits is NO_LIMITS else eligibility.limits,
        )
        found = ranked.compared.get(kind)
        if found is None or found.law is not law:
            found = _Compared(law, find_better(context, endpoint))
            _remember(ranked.compared, kind, found)
        if not found.better or context.is_locked:
            return None
        at_ms = held.decided_at_ms - context.at.ahead_ms
        snapshot = self._history.first_since(context.beliefs, at_ms)
        if snapshot is None:
            return None
        if context.unit.is_session:
            return self._for_gain(context, endpoint, found, snapshot)
        return _as_dominated(context, endpoint, found, snapshot)

    def _follow(self, context: CallContext) -> None:
        """Forget what was found out by other beliefs, but for what is of just now."""
        before, now = self._beliefs, context.at.monotonic_s
        is_other = before is None or before.configuration is not context.beliefs.configuration
        if is_other or now >= self._fresh_until:
            self._beliefs, self._fresh_until = context.beliefs, now + FRESH_S
            self._tasks.clear()

    def _for_gain(
        self, context: CallContext, endpoint: Endpoint, found: _Compared, snapshot: Snapshot
    ) -> EndedDraw | None:
        gains_usd = found.gains_usd.get(snapshot.at_ms)
        if gains_usd is None:
            gains_usd = gains_since(found.better, snapshot, context, endpoint)
            found.gains_usd[snapshot.at_ms] = gains_usd
        progress, app = self._progress.of(context), context.caller.app.digest
        if progress is None:
            return None
        whole = self._lengths().remaining(app, progress.session_calls)
        if whole is None:
            return None
        remaining = whole * progress.calls / progress.session_calls
        return gained_by(
            context, endpoint, found.better, gains_usd, progress=progress, remaining=remaining
        )


def _as_dominated(
    context: CallContext, endpoint: Endpoint, found: _Compared, snapshot: Snapshot
) -> EndedDraw | None:
    known, at_ms = found.dominated, snapshot.at_ms
    if at_ms not in known:
        odds = odds_since(found.better, snapshot, context, endpoint)
        known[at_ms] = dominated_by(context, endpoint, found.better, odds)
    return known[at_ms]


def seed_of(unit_key: bytes, held: StoredDraw) -> bytes:
    """Return what the draw after an ended one follows from: its luck is its own."""
    return blake2b(held.pack(), key=unit_key, digest_size=16, person=b"ending").digest()


def _remember(known: dict[_Kind, V], key: _Kind, value: V) -> V:
    if len(known) >= MAX_REMEMBERED:
        known.clear()
    known[key] = value
    return value
