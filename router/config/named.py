"""Names of entries that other entries mention."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator

from router.config.masking import Place


def check_name(
    where: Place, value: str | None, known: Collection[str], what: str
) -> Iterator[tuple[Place, str, str]]:
    """Yield a name that nothing has: place, value, hint."""
    if value is not None and value not in known:
        yield where, value, f"no such {what}{did_you_mean(value, list(known))}"


def did_you_mean(value: str, known: list[str]) -> str:
    """Return the end of a hint: the name that was likely meant, else those that there are."""
    for written in (value, value.lower()):
        for close in difflib.get_close_matches(written, known, n=1):
            return f"; did you mean {close!r}?"
    return f"; known: {', '.join(sorted(set(known))[:12])}" if known else ""
