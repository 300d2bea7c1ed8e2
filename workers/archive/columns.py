"""Sorted columns of names, and how many names at once are found in them. Pure.

A name of 16 bytes is a pair of numbers, and a column of names two columns, sorted by the first and
then by the second: so a search is numpy's own over plain numbers. The first one is of bytes that
hardly any two names share (digests and nonces are random), the rest settles the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from telemetry.young import NAME_BYTES

DIGEST_REST = np.dtype("<u4")
"""Of a digest 12 bytes are kept. Of 10^8 references in all files one shares them by chance with a
digest that is looked up in one of 10^20 look-ups; the other 4 bytes would make that no rarer than
what else may go wrong, and a month of references a third of a gigabyte larger."""

Places = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class NamePairs:
    """NamePairs as two numbers each."""

    first: NDArray[np.uint64]  # (n,)
    rest: NDArray[Any]  # (n,) unsigned

    def order(self) -> Places:
        """Return their order; equal ones stay as they are."""
        return np.asarray(np.lexsort((self.rest, self.first)))

    def take(self, places: Places) -> NamePairs:
        """Return some of them."""
        return NamePairs(self.first[places], self.rest[places])

    def in_order(self) -> NamePairs:
        """Return them sorted."""
        return self.take(self.order())

    def are_new(self) -> NDArray[np.bool_]:
        """Return which sorted names are not the one before them."""
        out = np.ones(len(self.first), dtype=bool)
        out[1:] = (self.first[1:] != self.first[:-1]) | (self.rest[1:] != self.rest[:-1])
        return out

    def shortened(self) -> NamePairs:
        """Return nonces of which only the last `NAME_BYTES` are not 0."""
        mask = np.frombuffer(bytes(16 - NAME_BYTES) + b"\xff" * (NAME_BYTES - 8), dtype="<u8")[0]
        return NamePairs(self.first, self.rest & mask)

    def as_nonces(self) -> NDArray[np.void]:
        """Return nonces as the (n,) 16 bytes that they were."""
        both = np.stack([self.rest, self.first], axis=1).astype("<u8")
        return both.view("V16").reshape(-1)


def nonces_in(raw: Iterable[bytes]) -> NamePairs:
    """Return nonces of 16 bytes each as names."""
    return nonces_of(np.frombuffer(b"".join(raw), dtype="V16"))


def digests_in(raw: Iterable[bytes]) -> NamePairs:
    """Return digests of 16 bytes each as names."""
    return digests_of(np.frombuffer(b"".join(raw), dtype="V16"))


def nonces_of(raw: NDArray[np.void]) -> NamePairs:
    """Return (n,) nonces of 16 bytes as names; nothing of them is left out."""
    halves = np.ascontiguousarray(raw).view("<u8").reshape(-1, 2)
    return NamePairs(halves[:, 1].copy(), halves[:, 0].copy())


def digests_of(raw: NDArray[np.void]) -> NamePairs:
    """Return (n,) digests of 16 bytes as names, by their last 12."""
    whole = np.ascontiguousarray(raw)
    first = whole.view("<u8").reshape(-1, 2)[:, 1].copy()
    return NamePairs(first, whole.view(DIGEST_REST).reshape(-1, 4)[:, 1].copy())


def find(first: NDArray[Any], rest: NDArray[Any], names: NamePairs) -> tuple[Places, Places]:
    """Return where names stand in a sorted column.

    Args:
        names: sorted ones are found faster.

    Returns:
        places in `names`, rising, and beside them the places in the column: all of each name, in
        the order of the column.
    """
    low = np.searchsorted(first, names.first)
    slots = np.flatnonzero(low < len(first))
    slots = slots[first[low[slots]] == names.first[slots]]
    if not len(slots):
        return slots, slots
    low = low[slots]
    high = np.searchsorted(first, names.first[slots], side="right")
    wanted = names.rest[slots]
    begin, end = _bisect(rest, wanted, low, high), _bisect(rest, wanted, low, high, behind=True)
    sizes = end - begin
    skipped = np.cumsum(sizes) - sizes
    return np.repeat(slots, sizes), np.repeat(begin - skipped, sizes) + np.arange(sizes.sum())


def _bisect(
    column: NDArray[Any], wanted: NDArray[Any], low: Places, high: Places, *, behind: bool = False
) -> Places:
    """Return where each number belongs within its own sorted part of a column.

    Args:
        low, high: (n,) where the parts begin and end.
        behind: behind equal numbers rather than before them.
    """
    while (is_open := low < high).any():
        middle = (low + high) // 2
        there = column[np.where(is_open, middle, 0)]
        is_before = (there <= wanted) if behind else (there < wanted)
        low = np.where(is_open & is_before, middle + 1, low)
        high = np.where(is_open & ~is_before, middle, high)
    return low


def from_end(groups: list[NDArray[Any]]) -> Places:
    """Return how many of its group come behind each: 0 of the last one.

    Args:
        groups: (n,) each; those of one group are equal in all of them.
    """
    n = len(groups[0])
    order = np.lexsort(groups)
    is_last = np.zeros(n, dtype=bool)
    is_last[-1:] = True
    for group in groups:
        placed = group[order]
        is_last[:-1] |= placed[1:] != placed[:-1]
    ends = np.flatnonzero(is_last)
    behind = np.empty(n, dtype=np.intp)
    behind[order] = np.repeat(ends, np.diff(ends, prepend=-1)) - np.arange(n)
    return behind
