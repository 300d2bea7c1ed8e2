"""How long decisions were young, entry by entry: by which feedback is *cold* that comes later.

What was said of a decision lies in the store while it is young, and in the archive after that.
Feedback for an older one must not be folded as if nothing had been said before; it is kept until
somebody has put back what was. Which feedback that is follows from the entries and this history
alone, which the learner writes in its own commits: so it is the same in an audit. Pure.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from telemetry.young import HOUR_MS, SPAN_MS

DAY_MS = 24 * HOUR_MS
Position = tuple[int, int]
"""Of an entry: its time in milliseconds, and its number within it."""
BEGIN: Position = (0, 0)
EVERYTHING_HOURS = 31 * 24
"""All that feedback is heard for at all: up to the end of the 30th day after."""
MOST_CHANGES = 100
"""That are remembered beside the first: a file of the archive carries those by which its entries
were folded, and there are not so many within one. Of earlier ones it is known what was old."""


@dataclass(frozen=True, slots=True)
class History:
    """For how many hours decisions are young, from which entry on."""

    items: tuple[tuple[Position, int], ...] = ()
    began: Position | None = None  # before the first of these, where some are not remembered
    floor_ms: int = 0  # what was made before was old by then

    @classmethod
    def parse(cls, value: bytes | None) -> History:
        """Return the history in a stored value; none where an earlier version wrote the state."""
        items, began, floor_ms = [], None, 0
        for part in (value or b"").split():
            entry, _, number = part.partition(b":")
            ms, _, count = entry.partition(b"-")
            if ms == b"floor":
                floor_ms = int(number)
            elif number == b"began":
                began = int(ms), int(count)
            else:
                items.append(((int(ms), int(count)), int(number)))
        return cls(tuple(items), began, floor_ms)

    def pack(self) -> bytes:
        """Return the value to store."""
        parts = [b"%d-%d:%d" % (*entry, hours) for entry, hours in self.items]
        if self.began is not None:
            parts = [b"%d-%d:began" % self.began, b"floor:%d" % self.floor_ms, *parts]
        return b" ".join(parts)

    def going_on(self, entry: Position, hours: int) -> History:
        """Return the history once decisions are young for `hours` from an entry on."""
        if self.items and self.items[-1][1] == hours:
            return self
        items, began, floor_ms = [*self.items, (entry, hours)], self.began, self.floor_ms
        while len(items) > MOST_CHANGES + 1:
            (begin, for_hours), (end, _) = items[:2]
            began = began if began is not None else begin
            floor_ms = max(floor_ms, end[0] - for_hours * HOUR_MS)
            items.pop(0)
        return History(tuple(items), began, floor_ms)

    @property
    def since_ms(self) -> int | None:
        """Time from which on decisions lie by span; None: none do.

        The first whole span after the store was taken over, as a span lies in one place only. What
        was decided before stays where it lay, and is never cold.
        """
        if not self.items:
            return None
        began_ms = (self.began or self.items[0][0])[0]
        return (began_ms // SPAN_MS + 1) * SPAN_MS if began_ms else 0

    def oldest_ms(self, entry: Position) -> int:
        """Return before which time decisions were not young any more when an entry came.

        What was dropped once does not come back where more is kept from some entry on: so this
        never falls.
        """
        n = bisect_right([begin for begin, _ in self.items], entry)
        ends = [*(begin for begin, _ in self.items[1:n]), entry]
        each = (
            end[0] - hours * HOUR_MS for (_, hours), end in zip(self.items[:n], ends, strict=False)
        )
        return max(self.floor_ms, *each, 0)


def lies_by_span(span: int, history: History) -> bool:
    """Return whether decisions of a span lie by span, and not by day as up to schema 4."""
    return history.since_ms is not None and span * SPAN_MS >= history.since_ms


def may_lie_by_day(span: int, history: History) -> bool:
    """Return whether something of a span's decisions may lie by day.

    Also of those made up to the end of the next day, as a clock may have been ahead by that.
    """
    since_ms = history.since_ms
    if since_ms is None:
        return True
    return since_ms > 0 and span * SPAN_MS // DAY_MS <= since_ms // DAY_MS + 1
