"""Where everything in the file stands, how it is written, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field

from router.config.masking import Place
from router.errors import Problem

MAX_SHOWN = 1024
"""Characters of what is looked through for secrets before it is shown."""


@dataclass(frozen=True, slots=True)
class Spot:
    """Where an entry stands, and how it is written."""

    line: int  # of its key, where it has one
    start: int  # in characters; of one node that aliases bring to several places it is the same
    text: str | None = None  # of a scalar, without its quotes
    quote: str | None = None  # of a scalar that has some
    kind: str = ""  # of what is no scalar: a mapping, a list

    @property
    def shown(self) -> str:
        """What stands there, as it is written."""
        if self.text is None:
            return self.kind
        if len(self.text) > MAX_SHOWN:
            return f"{len(self.text)} characters"
        if self.quote is None:
            return self.text or "nothing"
        if self.quote in ("'", '"') and self.quote not in self.text and self.text.isprintable():
            return f"{self.quote}{self.text}{self.quote}"
        return repr(self.text)


Spots = dict[Place, Spot]


@dataclass(slots=True)
class Findings:
    """What is wrong, each thing once: what an alias brings to several places is wrong in one."""

    spots: Spots = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    _told: set[object] = field(default_factory=set)

    def add(
        self,
        where: Place,
        value: str,
        hint: str,
        *,
        spot: Spot | None = None,
        told: Place | None = None,
    ) -> None:
        """Note a problem.

        Args:
            spot: where it stands, if not where `where` does.
            told: the place as it may be shown, if not as it is.
        """
        spot = spot or spot_of(self.spots, where)
        key = (spot.start, where[-1:], value, hint)
        if key not in self._told:
            self._told.add(key)
            field_ = shown(where if told is None else told)
            self.problems.append(Problem(spot.line, field_, value, hint))


NOWHERE = Spot(0, -1)


def spot_of(spots: Spots, where: Place) -> Spot:
    """Return the spot of a place, else of the nearest entry around it; line 0 if none is known."""
    while where not in spots and where:
        where = where[:-1]
    return spots.get(where, NOWHERE)


def shown(where: Place) -> str:
    """Return a place as a user writes it: `apps.default.keys[0]`."""
    out = ""
    for part in where:
        part = "…" if isinstance(part, str) and len(part) > MAX_SHOWN else part
        out += f"[{part}]" if isinstance(part, int) else f".{part}" if out else part
    return out or "file"
