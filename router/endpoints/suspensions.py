"""What an endpoint does not take and others do: a parameter, one value of it, or its model.

Three refusals in a row, each of a call that another endpoint then answered, suspend the endpoint
for calls that carry the same; after ten minutes such a call probes it again. Pure, `now` is
passed in (monotonic seconds). Values are kept as digests: they may be anybody's words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

REFUSALS_TO_SUSPEND = 3
"""One may be a mistake of that very call; three in a row that others took are the endpoint's."""
SUSPENDED_S = 600.0
MAX_NAME = 64
"""Of a parameter: what is longer, or no name, is not repeated in log and metrics."""
MAX_MARKS = 64
"""Parameters and values remembered of one endpoint; whatever was refused least goes."""
FORGOTTEN_S = 3600.0
"""What was not refused for an hour is no news of today; looking for it costs each call."""

Fields = Mapping[str, bytes]
"""Top-level fields of a body as it is sent: name to JSON."""


class Refused(NamedTuple):
    """What an endpoint refused."""

    parameter: str
    value: bytes | None = None  # digest; None where it takes none at all


def refused_in(fields: Fields, path: str, *, of_value: bool) -> Refused | None:
    """Return what of a body was refused; None where that says nothing of other bodies.

    It says nothing where the body has no such field, nor of messages: no two calls' are alike.

    Args:
        path: where the refusal points: a field, or a place within one. A place within a field
            is about what that field held.
        of_value: the field is known, and only what it held was refused.
    """
    name = path.split(".")[0].split("[")[0]
    is_name = name.isidentifier() and len(name) <= MAX_NAME
    if name not in fields or name == "messages" or not is_name:
        return None
    if name != "model" and (of_value or name != path):
        return Refused(name, _digest(fields[name]))
    return Refused(name)


@dataclass(slots=True)
class Mark:
    """How often something was refused in a row, when last, and until when it suspends."""

    refusals: int = 0
    refused_at: float = float("-inf")
    until: float = float("-inf")


class Suspensions:
    """Those of one endpoint."""

    __slots__ = ("marks",)

    def __init__(self) -> None:
        self.marks: dict[Refused, Mark] = {}

    def note_refusal(self, refused: Refused, now: float) -> bool:
        """Note a refusal that another endpoint made good; return whether it suspends anew."""
        mark = self.marks.setdefault(refused, Mark())
        mark.refusals, mark.refused_at = mark.refusals + 1, now
        if len(self.marks) > MAX_MARKS:  # the first of those that were refused least
            del self.marks[min(self.marks, key=lambda known: self.marks[known].refusals)]
        if mark.refusals < REFUSALS_TO_SUSPEND or now < mark.until:
            return False
        mark.until = now + SUSPENDED_S
        return True

    def note_accepted(self, fields: Fields, now: float) -> None:
        """Note that the endpoint took a body: what of it was refused before is no rule."""
        taken = carried(fields, self.marks)
        old = [r for r, mark in self.marks.items() if now - mark.refused_at >= FORGOTTEN_S]
        for refused in {*taken, *old}:
            del self.marks[refused]

    def holds(self, fields: Callable[[], Fields], now: float) -> bool:
        """Return whether the endpoint is suspended for a body."""
        standing = [r for r, mark in self.marks.items() if now < mark.until]
        return bool(standing) and bool(carried(fields(), standing))

    def suspended(self, now: float) -> list[tuple[Refused, float]]:
        """Return what is suspended, and until when."""
        return [(r, mark.until) for r, mark in self.marks.items() if now < mark.until]


def carried(fields: Fields, of: Iterable[Refused]) -> list[Refused]:
    """Return which of these a body carries; each field is looked at once, it may be long."""
    known = list(of)
    hashed = {r.parameter for r in known if r.value is not None and r.parameter in fields}
    digests = {name: _digest(fields[name]) for name in hashed}
    return [
        r
        for r in known
        if r.parameter in fields and (r.value is None or r.value == digests[r.parameter])
    ]


def _digest(value: bytes) -> bytes:
    return blake2b(value, digest_size=8).digest()
