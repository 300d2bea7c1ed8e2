"""What the doors for others' words share: whom a path names, and what is counted of refusals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote

from router.errors import RequestRejected
from router.net.paths import below_version

_BEFORE, _AFTER = ("router", "episodes"), "outcome"


def episode_in(raw_path: bytes) -> str | None:
    """Return the id in `/v1/router/episodes/{id}/outcome`, decoded; None of any other path.

    A slash of the id's own is written `%2F`.
    """
    parts = [part for part in below_version(raw_path).split("/") if part]
    if len(parts) != 4 or (*parts[:2], parts[3]) != (*_BEFORE, _AFTER):
        return None
    return unquote(parts[2], errors="strict")


@contextmanager
def counting_refusals(counts: Counter[str]) -> Iterator[None]:
    """Count by its code what is refused inside."""
    try:
        yield
    except RequestRejected as error:
        counts[error.code] += 1
        raise
