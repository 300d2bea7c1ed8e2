"""Journals that ended processes left behind, within a bound while nobody can send them."""

from __future__ import annotations

import shutil
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import structlog

from telemetry import journal
from telemetry.journal import Dropped

log = structlog.get_logger()


def shorten_orphans(
    root: Path, dropped: Counter[str], max_bytes: int, *, own: Path | None = None
) -> int:
    """Drop the oldest segments that ended processes left, beyond `max_bytes`; return their records.

    Records of a segment that was being sent count as dropped too, as nobody knows how far it was.
    """
    total = 0
    with ExitStack() as held:
        sizes: list[tuple[Path, int]] = []
        for directory, let_go in journal.orphans(root, own=own):
            held.callback(let_go)
            sizes += journal.sizes(directory)
        sizes.sort(key=lambda item: (journal.written_at(item[0]), item[0]), reverse=True)
        left = sum(size for _, size in sizes)
        while left > max_bytes:
            path, size = sizes.pop()
            total += journal.n_records(path)
            path.unlink(missing_ok=True)
            left -= size
            if not journal.segments(path.parent):
                shutil.rmtree(path.parent, ignore_errors=True)
    if total:
        dropped[Dropped.ORPHANED] += total
        log.error("records of the journal were dropped", reason=Dropped.ORPHANED, records=total)
    return total
