"""What `forget` does to the rows of raters: those of the user go. Pure.

An event of it takes effect once, behind all that its stream entry holds; so a batch ends with it,
whoever folds and however entries are grouped. What the user's labels added to cells stays: sums
name nobody. Of what counted nothing is said twice: a later word on one of those decisions changes
nothing, and the user's next labels count as if those were the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from telemetry.events import Kind
from telemetry.frames import holds
from telemetry.rater_rows import is_row_of
from workers.folding.batch import Batch, Entries
from workers.folding.effects import Effects
from workers.folding.hearing import pieces
from workers.folding.raters import Seat


def parts_of(entries: Entries) -> Iterator[Entries]:
    """Yield entries in parts: each ends with one that has somebody forgotten, but the last."""
    begin = 0
    for i, (_, fields) in enumerate(entries):
        if holds(fields.get(b"f", b""), Kind.FORGET):
            yield entries[begin : i + 1]
            begin = i + 1
    if begin < len(entries):
        yield entries[begin:]


def forgotten_in(batch: Batch) -> set[bytes]:
    """Return the users that new records of a batch have forgotten, by keyed hash; mostly none."""
    return set(pieces(batch.of_kind(Kind.FORGET)["token"]["user"]))


def forget(found: Effects, stored: Mapping[Seat, bytes], users: set[bytes]) -> list[Seat]:
    """Take the rows of these users out of what a batch changes; return those that are to go.

    Args:
        stored: rows before the batch, those of these users at least.
    """
    gone = {seat for seat, row in stored.items() if is_row_of(row, users)}
    fresh = {seat for seat, row in found.raters.items() if is_row_of(row, users)}
    found.raters = {seat: row for seat, row in found.raters.items() if seat not in fresh}
    found.counts["forgotten"], found.counts["forgotten_rows"] = len(users), len(gone | fresh)
    return sorted(gone | fresh)
