"""What was written of a span's decisions, as whoever holds a shard remembers it.

Of most decisions of which something is said nothing was said before, and hardly a name means two of
them: to ask the store for each took it longer than to write. So the names under which something was
written are remembered, in a few bits each: a name may be taken for one of them, rarely, and then
the store is asked in vain; none of them is ever missed. Only of spans that begin here: of what was
written before nothing is known.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

FIRST_BITS, LAST_BITS = 16, 26
GROWTH = 2
"""Bits of a number of one: each filter is four times as large as the one before it."""
BITS_A_NAME = 16
MOST_BYTES = 16 << 20
"""Of a shard: some seven million names."""
_MIX = np.array(
    [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93],
    dtype=np.uint64,
)
"""Odd multipliers, one for each bit of a name; with 16 bits a name 1 in 400 is taken for another,
once a filter is full."""
_REST = np.uint64(0xFF51AFD7ED558CCD)


def _words(names: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return (n,) words that depend on all bytes of names, (n, 8 to 16)."""
    first = np.ascontiguousarray(names[:, :8]).view("<u8").reshape(-1)
    rest = np.zeros((len(names), 8), dtype=np.uint8)
    rest[:, : names.shape[1] - 8] = names[:, 8:]
    return np.asarray(first ^ (rest.view("<u8").reshape(-1) * _REST))


@dataclass(slots=True)
class NameFilter:
    """A Bloom filter of a fixed size.

    Ref: Bloom (1970), Communications of the ACM 13(7), method 2.
    """

    n_bits: int  # of a number of a bit
    n_names: int = 0
    bits: NDArray[np.uint8] = field(init=False)

    def __post_init__(self) -> None:
        self.bits = np.zeros(1 << (self.n_bits - 3), dtype=np.uint8)

    @property
    def is_full(self) -> bool:
        """Return whether there is a better place for more names."""
        return self.n_names * BITS_A_NAME >= 1 << self.n_bits

    def add(self, words: NDArray[np.uint64]) -> None:
        """Remember names, by their words."""
        places, masks = self._places(words)
        np.bitwise_or.at(self.bits, places, masks)
        self.n_names += len(words)

    def may_hold(self, words: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Return (n,) which names may be among those that were added."""
        places, masks = self._places(words)
        found = (self.bits[places] & masks) > 0
        return np.asarray(found.reshape(len(_MIX), -1).all(axis=0))

    def _places(self, words: NDArray[np.uint64]) -> tuple[NDArray[np.intp], NDArray[np.uint8]]:
        """Return bytes and bits of them, those of the first multiplier first."""
        bit = ((words * _MIX[:, None]) >> np.uint64(64 - self.n_bits)).reshape(-1)
        masks = np.left_shift(np.uint8(1), (bit & np.uint64(7)).astype(np.uint8))
        return (bit >> np.uint64(3)).astype(np.intp), masks


@dataclass(slots=True)
class SpanNames:
    """The names of one span; it grows with them."""

    filters: list[NameFilter] = field(default_factory=lambda: [NameFilter(FIRST_BITS)])

    def add(self, names: NDArray[np.uint8]) -> None:
        """Remember names, (n, n_bytes)."""
        last = self.filters[-1]
        if last.is_full and last.n_bits < LAST_BITS:
            last = NameFilter(last.n_bits + GROWTH)
            self.filters.append(last)
        last.add(_words(names))

    def may_hold(self, names: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return (n,) which names may be among those that were added."""
        words, out = _words(names), np.zeros(len(names), dtype=bool)
        for one in self.filters:
            out |= one.may_hold(words)
        return out

    @property
    def n_bytes(self) -> int:
        """What it takes."""
        return sum(one.bits.nbytes for one in self.filters)


@dataclass(slots=True)
class WrittenNames:
    """Under which names something of a shard was written, by sort of hashes and span."""

    most_bytes: int = MOST_BYTES
    _spans: dict[tuple[str, int], SpanNames] = field(default_factory=dict)

    def begin(self, sort: str, span: int) -> None:
        """Note that nothing is written yet."""
        self._spans[sort, span] = SpanNames()

    def add(self, sort: str, span: int, names: NDArray[np.uint8]) -> None:
        """Note that something is written under names, (n, n_bytes)."""
        if (own := self._spans.get((sort, span))) is None:
            return
        own.add(names)
        while sum(known.n_bytes for known in self._spans.values()) > self.most_bytes:
            del self._spans[min(self._spans, key=lambda of: of[1])]

    def may_hold(self, sort: str, span: int, names: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return (n,) under which names something may be written: where not, nothing is."""
        own = self._spans.get((sort, span))
        return np.ones(len(names), dtype=bool) if own is None else own.may_hold(names)

    def are_new(self, sort: str, span: int, names: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return (n,) under which names nothing is written, and that stand here once."""
        first = np.ascontiguousarray(names[:, :8]).view("<u8").reshape(-1)
        placed = np.sort(first)
        again = placed[1:][placed[1:] == placed[:-1]]
        out = ~self.may_hold(sort, span, names)
        return np.asarray(out & ~np.isin(first, again)) if len(again) else out

    def forget(self, spans: set[int]) -> None:
        """Note that spans are gone."""
        self._spans = {of: own for of, own in self._spans.items() if of[1] not in spans}
