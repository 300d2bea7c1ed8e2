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

Position = tuple[int, int]
"""Of an entry: its time in milliseconds, and its number within it."""
BEGIN: Position = (0, 0)
EVERYTHING_HOURS = 31 * 24
"""All that feedback is heard for at all: up to the end of the 30th day after."""
MOST_CHANGES = 100
"""Of a configuration, that are remembered beside the first one: a file of the archive carries those
by which its own entries were folded, and nobody changes it so often within one."""


@dataclass(frozen=True, slots=True)
class History:
    """For how many hours decisions are young, from which entry on."""

    items: tuple[tuple[Position, int], ...] = ()

    @classmethod
    def parse(cls, value: bytes | None) -> History:
        """Return the history in a stored value; none where an earlier version wrote the state."""
        items = []
        for part in (value or b"").split():
            entry, _, hours = part.partition(b":")
            ms, _, number = entry.partition(b"-")
            items.append(((int(ms), int(number)), int(hours)))
        return cls(tuple(items))

    def pack(self) -> bytes:
        """Return the value to store."""
        return b" ".join(b"%d-%d:%d" % (*entry, hours) for entry, hours in self.items)

    def going_on(self, entry: Position, hours: int) -> History:
        """Return the history once decisions are young for `hours` from an entry on."""
        if self.items and self.items[-1][1] == hours:
            return self
        first, rest = self.items[:1], self.items[1:]
        return History((*first, *rest[1 - MOST_CHANGES :], (entry, hours)))

    @property
    def since_ms(self) -> int | None:
        """Time from which on decisions lie by span; None: none do.

        The first whole span after the store was taken over, as a span lies in one place only. What
        was decided before stays where it lay, and is never cold.
        """
        if not self.items:
            return None
        began_ms = self.items[0][0][0]
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
        return max(each, default=0)
