"""What an endpoint does not take and others do: a parameter, one value of it, or its model.

Three refusals in a row, each of a call that another endpoint then answered, suspend the endpoint
for calls that carry the same; after ten minutes such a call probes it again. Pure, `now` is
passed in (monotonic seconds). Values are kept as digests: they may be anybody's words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

REFUSALS_TO_SUSPEND = 3
"""One may be a mistake of that very call; three in a row that others took are the endpoint's."""
SUSPENDED_S = 600.0
MAX_NAME = 64
"""Of a parameter: what is longer, or no name, is not repeated in log and metrics."""
MAX_MARKS = 64
"""Parameters and values remembered of one endpoint; the oldest goes."""

Fields = Mapping[str, bytes]
"""Top-level fields of a body as it is sent: name to JSON."""


class Refused(NamedTuple):
    """What an endpoint refused."""

    parameter: str
    value: bytes | None = None  # digest; None where it takes none at all

    def is_in(self, fields: Fields) -> bool:
        """Return whether a body carries it."""
        sent = fields.get(self.parameter)
        return sent is not None and (self.value is None or self.value == _digest(sent))


def refused_in(fields: Fields, path: str, *, of_value: bool) -> Refused | None:
    """Return what of a body was refused; None where the body has no such field.

    Args:
        path: where the refusal points: a field, or a place within one. A place within a field
            is about what that field held.
        of_value: the field is known, and only what it held was refused.
    """
    name = path.split(".")[0].split("[")[0]
    if name not in fields or not (name.isidentifier() and len(name) <= MAX_NAME):
        return None
    within = name != path or name == "messages"
    if name != "model" and (of_value or within):
        return Refused(name, _digest(fields[name]))
    return Refused(name)


@dataclass(slots=True)
class Mark:
    """How often something was refused in a row, and until when it suspends."""

    refusals: int = 0
    until: float = float("-inf")


class Suspensions:
    """Those of one endpoint."""

    __slots__ = ("marks",)

    def __init__(self) -> None:
        self.marks: dict[Refused, Mark] = {}

    def note_refusal(self, refused: Refused, now: float) -> bool:
        """Note a refusal that another endpoint made good; return whether it suspends anew."""
        mark = self.marks.pop(refused, None) or Mark()
        self.marks[refused] = mark
        while len(self.marks) > MAX_MARKS:
            del self.marks[next(iter(self.marks))]
        mark.refusals += 1
        if mark.refusals < REFUSALS_TO_SUSPEND or now < mark.until:
            return False
        mark.until = now + SUSPENDED_S
        return True

    def note_accepted(self, fields: Fields) -> None:
        """Note that the endpoint took a body: what of it was refused before is no rule."""
        for refused in [r for r in self.marks if r.is_in(fields)]:
            del self.marks[refused]

    def holds(self, fields: Callable[[], Fields], now: float) -> bool:
        """Return whether the endpoint is suspended for a body."""
        standing = [r for r, mark in self.marks.items() if now < mark.until]
        return bool(standing) and any(r.is_in(fields()) for r in standing)

    def suspended(self, now: float) -> list[tuple[Refused, float]]:
        """Return what is suspended, and until when."""
        return [(r, mark.until) for r, mark in self.marks.items() if now < mark.until]


def _digest(value: bytes) -> bytes:
    return blake2b(value, digest_size=8).digest()
