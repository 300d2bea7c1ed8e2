"""For how many hours decisions are young where the store's memory would not hold more. Pure.

What is young is made old earlier, since the archive has it; after that new draws are kept in the
processes only, and last new ids of responses. Nothing else is ever given up for memory: no event,
no row, no budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from telemetry.young import HOUR_MS, SPAN_MS

LEAST_HOURS = 1
DOWN_TO = 0.9
"""Of what may be used: so much is left once something went, so that it does not go bit by bit."""
UP_TO = 0.8
"""Only what would leave so much room is young for longer again."""
REST_MS = HOUR_MS
"""Between two changes at least, where nothing is short: each is remembered with the archive."""
FAR_BEYOND = 1.1
PATIENCE_MS = 600_000
"""What is due to go may have to wait for the archive; beyond so much, and so long, draws do not."""

DRAWS_END_MS = 24 * HOUR_MS
"""Draws are kept for a day at most: so long after the last new one there may be room again."""


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """What the store keeps."""

    young_hours: int
    keeps_draws: bool = True
    changed_at_ms: int = 0
    keeps_ids: bool = True  # of what lies at providers


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of a store."""

    at_ms: int
    used_bytes: int
    passing_bytes: int  # of that, what goes by itself within minutes: records beyond their share
    full_bytes: int  # beyond it something must go; 0: there is no limit
    young_bytes: Mapping[int, int]  # by span, over all shards

    def going_bytes(self, hours: int) -> int:
        """Return what goes by itself where decisions are young for so long."""
        until = self.at_ms - hours * HOUR_MS
        return sum(n for span, n in self.young_bytes.items() if (span + 1) * SPAN_MS <= until)

    def left_bytes(self, hours: int) -> int:
        """Return what is used once that is gone."""
        return self.used_bytes - self.passing_bytes - self.going_bytes(hours)

    @property
    def bytes_an_hour(self) -> float:
        """How much becomes young in an hour: the most of the last spans that are complete."""
        now = self.at_ms // SPAN_MS
        last = [self.young_bytes.get(span, 0) for span in range(now - 3, now)]
        return max(*last, self.young_bytes.get(now, 0)) * HOUR_MS / SPAN_MS


def weigh(before: MemoryBudget, measured: Measured, *, configured_hours: int) -> MemoryBudget:
    """Return what the store keeps from now on.

    Args:
        before: as it was so far.
        configured_hours: never more than these.
    """
    if not measured.full_bytes:
        found = MemoryBudget(configured_hours)
    else:
        hours = min(before.young_hours, configured_hours)
        if measured.left_bytes(hours) > measured.full_bytes:
            hours = _fewer(measured, hours)
        elif not 0 <= measured.at_ms - before.changed_at_ms < REST_MS:  # or a clock went back
            hours = _more(measured, hours, configured_hours)
        keeps_draws = _keeps_draws(before, measured, hours)
        keeps_ids = keeps_draws or _keeps_ids(before, measured, hours)
        found = MemoryBudget(hours, keeps_draws, keeps_ids=keeps_ids)
    if found == replace(before, changed_at_ms=0):
        return before
    return replace(found, changed_at_ms=measured.at_ms)


def _fewer(measured: Measured, hours: int) -> int:
    """Return for how many hours decisions can be young, so that there is room again.

    Where that is not to be had, since others take the memory, what would not help stays.
    """
    wanted = max(DOWN_TO * measured.full_bytes, measured.left_bytes(LEAST_HOURS))
    fits = (h for h in range(hours, LEAST_HOURS, -1) if measured.left_bytes(h) <= wanted)
    return next(fits, LEAST_HOURS)


def _more(measured: Measured, hours: int, configured_hours: int) -> int:
    """Return for how many hours decisions may be young.

    An hour more takes an hour to fill, so all that fits is granted at once.
    """
    room = max(UP_TO * measured.full_bytes - measured.used_bytes, 0.0)
    longer = room / max(measured.bytes_an_hour, 1.0)
    return min(configured_hours, hours + int(min(longer, configured_hours)))


def _keeps_draws(before: MemoryBudget, measured: Measured, hours: int) -> bool:
    """Return whether the store takes new draws: they stay out where nothing else can go."""
    if hours != before.young_hours:
        return before.keeps_draws  # what goes first is to be seen first
    is_patient = 0 <= measured.at_ms - before.changed_at_ms < PATIENCE_MS
    if measured.left_bytes(hours) > measured.full_bytes:
        return False
    staying = measured.used_bytes - measured.passing_bytes
    if staying > FAR_BEYOND * measured.full_bytes and not is_patient:
        return False
    return before.keeps_draws or measured.used_bytes <= DOWN_TO * measured.full_bytes


def _keeps_ids(before: MemoryBudget, measured: Measured, hours: int) -> bool:
    """Return whether the store takes new ids where it takes no draws: until those have ended."""
    if before.keeps_draws:
        return before.keeps_ids
    if not before.keeps_ids:
        return measured.used_bytes <= DOWN_TO * measured.full_bytes
    is_patient = 0 <= measured.at_ms - before.changed_at_ms < DRAWS_END_MS
    return is_patient or measured.left_bytes(hours) <= measured.full_bytes
