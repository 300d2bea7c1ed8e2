"""Work that takes longer than a lease: it is kept meanwhile, or whoever does it loses the shard.

A day of 400,000 rows takes seconds to pack. Who lost its lease over that would begin anew, and so
would everybody after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

KEEP_EVERY_S = 0.3
"""Half of the time between two renewals."""

Step = TypeVar("Step")


def kept(steps: Iterable[Step], keep: Callable[[], object] | None) -> Iterator[Step]:
    """Yield what `steps` does, each made in a thread beside this one, which calls `keep`.

    While its caller has one, the next is not begun.

    Args:
        keep: renews leases that are due; None: there is nothing to keep.
    """
    if keep is None:
        yield from steps
        return
    found = iter(steps)
    with ThreadPoolExecutor(1) as beside:
        while True:
            step = beside.submit(_next_of, found)
            while not wait((step,), KEEP_EVERY_S).done:
                keep()
            made = step.result()
            yield from made
            if not made:
                return


def _next_of(found: Iterator[Step]) -> list[Step]:
    """Return the next one, or none at the end."""
    return list(islice(found, 1))
