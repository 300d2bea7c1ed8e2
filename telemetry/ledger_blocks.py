"""Blocks of the ledger: the rows of a shard's closed day, column by column.

A block is a head and parts: the spans; of each field of the keys its distinct values and, row by
row, which of them; each column of sums. A part is bytes of numbers, lowest bytes of all numbers
first and no more of them than the largest needs, deflated. Who wants few columns inflates few.
The same rows always make the same bytes.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from telemetry.ledger_rows import (
    DAY_MS,
    KEYS,
    MOST_SUM,
    N_LEDGER_COLUMNS,
    SPAN_MS,
    LedgerColumn,
    LedgerRows,
    LedgerTable,
    packed,
    sums_at,
    unpacked,
)

MAGIC = b"PML1"
_HEAD = struct.Struct("<4scBHIq")
"""Magic, table, whether hours were rolled up, number of columns, number of rows, first span."""
_PART = struct.Struct("<BII")
"""Bytes a number, numbers, bytes as they lie there."""
DIGEST_BYTES = 16
LEVEL = 6


class DamagedBlock(ValueError):
    """Bytes that are no block of this table."""


@dataclass(frozen=True, slots=True)
class BlockEntry:
    """What `keys.spent_blocks` says of a block."""

    digest: bytes
    is_daily: bool  # the hours of its calls were rolled up
    sums: NDArray[np.int64]  # (N_LEDGER_COLUMNS,) of all rows

    @classmethod
    def of(cls, data: bytes, block: LedgerBlock) -> BlockEntry:
        """Return the entry of a block."""
        return cls(block_digest(data), block.is_daily, block.sums())

    @classmethod
    def parse(cls, value: bytes) -> BlockEntry:
        """Return the entry in a stored value."""
        digest, is_daily = value[:DIGEST_BYTES], value[DIGEST_BYTES] == 1
        return cls(digest, is_daily, unpacked([value[DIGEST_BYTES + 1 :]])[0])

    def pack(self) -> bytes:
        """Return the value to store."""
        return self.digest + bytes([self.is_daily]) + packed(self.sums[None])[0]


def block_digest(data: bytes) -> bytes:
    """Return the digest that names a block."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def block_field(table: LedgerTable, day: int) -> bytes:
    """Return under which field of `keys.spent_blocks` a block is entered."""
    return f"{table}:{day}".encode()


def parse_field(name: bytes) -> tuple[LedgerTable, int]:
    """Return table and day, or span, that a field names."""
    table, _, number = name.decode().partition(":")
    return LedgerTable(table), int(number)


def day_of(table: LedgerTable, span: int) -> int:
    """Return the day, since the epoch, in which a span of a table lies."""
    return span * SPAN_MS[table] // DAY_MS


def block_of(rows: LedgerRows, table: LedgerTable, *, is_daily: bool = False) -> bytes:
    """Return rows as one block, those of one span and key added up.

    Args:
        is_daily: hours are rolled up: each row lies in the first hour of its day.
    """
    spans = rows.spans
    if is_daily:
        spans = spans * SPAN_MS[table] // DAY_MS * (DAY_MS // SPAN_MS[table])
    rows = LedgerRows(spans, rows.keys, rows.values).summed()
    fields = [np.ascontiguousarray(rows.keys[name]) for name in KEYS[table].names or ()]
    order = np.lexsort([rows.spans, *fields[::-1]])
    first = int(rows.spans.min()) if len(order) else 0
    parts = [(rows.spans - first)[order]]
    for one in fields:
        values, codes = np.unique(one[order], return_inverse=True)
        parts += [values, codes.reshape(-1)]
    parts += list(rows.values[order].T)
    bodies = [_deflated(part) for part in parts]
    head = _HEAD.pack(MAGIC, table.encode(), is_daily, N_LEDGER_COLUMNS, len(order), first)
    index = b"".join(_PART.pack(width, n, len(body)) for width, n, body in bodies)
    return b"".join([head, index, *(body for *_, body in bodies)])


class LedgerBlock:
    """A block, of which only what is asked for is inflated."""

    def __init__(self, data: bytes, table: LedgerTable) -> None:
        """Read the head.

        Raises:
            DamagedBlock: it is none of this table, or is cut.
        """
        self._data, self._fields = data, KEYS[table].names or ()
        try:
            magic, letter, is_daily, self._n_columns, self.n_rows, self._first = _HEAD.unpack_from(
                data
            )
            n_parts = 1 + 2 * len(self._fields) + self._n_columns
            size = _PART.size
            begins = range(_HEAD.size, _HEAD.size + n_parts * size, size)
            self._parts = [_PART.unpack_from(data, at) for at in begins]
        except struct.error as error:
            raise DamagedBlock(str(error)) from None
        ends = accumulate((n for *_, n in self._parts), initial=_HEAD.size + n_parts * _PART.size)
        self._places = list(pairwise(ends))
        if magic != MAGIC or letter != table.encode() or self._places[-1][1] != len(data):
            raise DamagedBlock(f"no block of table {table}")
        self.table, self.is_daily = table, bool(is_daily)

    def rows(
        self,
        columns: Iterable[LedgerColumn] | None = None,
        keys: Iterable[str] | None = None,
    ) -> LedgerRows:
        """Return all rows; in fields of the keys and columns not asked for stands 0.

        Raises:
            DamagedBlock: a part does not hold what its head says.
        """
        found = np.zeros(self.n_rows, dtype=KEYS[self.table])
        for name in self._fields if keys is None else keys:
            values, codes = self._field(name)
            found[name] = values[codes]
        return LedgerRows(self._spans(), found, self._values(columns))

    def grouped(
        self,
        columns: Iterable[LedgerColumn] | None = None,
        keys: Iterable[str] = (),
        *,
        by_span: bool = False,
    ) -> LedgerRows:
        """Return the sums of rows that are alike in these fields, and span; one row each.

        In the other fields stands 0, and in place of the span the first one, unless `by_span`.

        Raises:
            DamagedBlock: a part does not hold what its head says.
        """
        spans, names = self._spans(), list(keys)
        groups = spans - self._first if by_span else np.zeros(self.n_rows, dtype=np.int64)
        columns_of_keys = [self._field(name) for name in names]
        for values, codes in columns_of_keys:
            # At most n_rows groups before times n_rows values: it stays within 64 bits.
            _, groups = np.unique(groups, return_inverse=True)
            groups = groups.reshape(-1) * max(len(values), 1) + codes
        order = np.argsort(groups, kind="stable")
        groups = groups[order]
        is_new = np.ones(self.n_rows, dtype=bool)
        is_new[1:] = groups[1:] != groups[:-1]
        starts = np.flatnonzero(is_new)
        one_each = order[starts]
        found = np.zeros(len(starts), dtype=KEYS[self.table])
        for name, (values, codes) in zip(names, columns_of_keys, strict=True):
            found[name] = values[codes[one_each]]
        own = spans[one_each] if by_span else np.full(len(starts), self._first, dtype=np.int64)
        return LedgerRows(own, found, sums_at(self._values(columns)[order], starts))

    def names(self, field: str) -> NDArray[np.uint64]:
        """Return the distinct values of one field of the keys, in order."""
        return self._numbers(1 + 2 * self._fields.index(field)).view(np.uint64)

    def sums(self) -> NDArray[np.int64]:
        """Return (N_LEDGER_COLUMNS,) what all rows add up to."""
        if not self.n_rows:
            return np.zeros(N_LEDGER_COLUMNS, dtype=np.int64)
        return sums_at(self._values(None), np.zeros(1, dtype=np.intp)).reshape(-1)

    def _values(self, columns: Iterable[LedgerColumn] | None) -> NDArray[np.int64]:
        out = np.zeros((self.n_rows, N_LEDGER_COLUMNS), dtype=np.int64)
        for column in range(self._n_columns) if columns is None else columns:
            place = 1 + 2 * len(self._fields) + column
            if column < self._n_columns and self._parts[place][0]:
                out[:, column] = np.minimum(self._numbers(place), MOST_SUM)
        return out

    def _spans(self) -> NDArray[np.int64]:
        return np.asarray(self._numbers(0) + self._first)

    def _field(self, name: str) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Return the distinct values of one field of the keys, and which of them each row has."""
        values, codes = self.names(name), self._numbers(2 + 2 * self._fields.index(name))
        if len(codes) and int(codes.max()) >= len(values):
            raise DamagedBlock(f"a row with a {name} that the block does not have")
        return values, codes

    def _numbers(self, place: int) -> NDArray[np.int64]:
        (width, n, _), (begin, end) = self._parts[place], self._places[place]
        out = np.zeros((n, 8), dtype=np.uint8)
        if width:
            try:
                data = zlib.decompress(self._data[begin:end])
                out[:, :width] = np.frombuffer(data, dtype=np.uint8).reshape(width, n).T
            except (zlib.error, ValueError) as error:
                raise DamagedBlock(str(error)) from None
        return np.asarray(out.view("<i8").reshape(n))


def _deflated(numbers: NDArray[np.generic]) -> tuple[int, int, bytes]:
    """Return bytes a number, numbers, and what holds them."""
    n = len(numbers)
    whole = np.ascontiguousarray(numbers).astype("<u8", copy=False)
    width = (int(whole.max()).bit_length() + 7) // 8 if n else 0
    if not width:
        return 0, n, b""
    planes = whole.view(np.uint8).reshape(n, 8)[:, :width].T
    return width, n, zlib.compress(np.ascontiguousarray(planes).tobytes(), LEVEL)
