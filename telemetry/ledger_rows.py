"""Rows of the ledger: what calls cost, as integers that only ever add up.

Four tables: *calls* by hour, app, role, task, strategy, endpoint and served model; *users* by day,
app and user; *tags* by day, app and the app's declared tag; *prices* by day, endpoint and price
entry, of attempts alone whose cost the provider tells as well. A row is a key of digests and a
vector of `LedgerColumn`. The time of a row is that of the decision, so that it does not matter
when, and in which order, records are folded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum

import numpy as np
from numpy.typing import NDArray

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
HOURS = 24


class LedgerTable(StrEnum):
    """The tables, by the letter under which their rows lie."""

    CALLS = "c"
    USERS = "u"
    TAGS = "t"
    PRICES = "p"


class LedgerColumn(IntEnum):
    """What a row adds up. Money is in nano-USD."""

    CALLS = 0  # whose client got an answer, or was told that there is none; each once
    ATTEMPTS = 1
    FAILED = 2  # of the attempts
    UNPRICED = 3  # attempts that used something for which no price is known
    ESTIMATED = 4  # attempts of which nobody told what they used
    TOKENS_IN = 5
    TOKENS_CACHED = 6  # of those in
    TOKENS_CACHE_WRITE = 7  # of those in
    TOKENS_OUT = 8
    TOKENS_REASONING = 9  # of those out
    COST = 10  # all of it
    COST_ESTIMATED = 11  # of it, what rests on estimated tokens
    COST_BY_KNOWN_PRICES = 12  # of it, by prices that the user did not write
    COST_BY_PROVIDER = 13  # of it, by the provider's word alone
    COST_PROFILED = 14  # of it, by profiles and checks
    N_REPORTED = 15  # of `PRICES`: attempts whose cost both the provider and a price tell
    REPORTED = 16  # their cost by the provider's word
    REPORTED_BY_PRICE = 17  # their cost by the price
    LATENCY_US = 18  # of the attempts
    ROWS = 19  # of the row of others: how many names of its app have rows of their own
    FAILED_CALLS = 20  # of the calls; of those before schema 8 nobody counted them


N_LEDGER_COLUMNS = len(LedgerColumn)
MASK_BYTES = 3
"""A stored row begins with a bit for each column that is not 0."""
UNPACKED_AT_ONCE = 10_000
"""Rows: each takes some hundred bytes for every byte that it has, while it is unpacked."""
MOST_SUM = (1 << 62) - 1
"""No sum goes beyond it: two of them still are a number of 64 bits."""
HALF_BITS = 31
SINCE_FIELD = "ledger"
"""Of a shard's meta: the mark behind which everything is in the ledger."""
BEGUN_FIELD = "ledger_begun"
"""Beside it, in epoch milliseconds: when the first was folded that this sidecar's own calls wrote.
Apps may tell of earlier ones."""
OTHERS = 0
"""In place of a user or a tag: all that have no row of their own."""
CALLS_KEY = np.dtype(
    [(name, "<u8") for name in ("app", "role", "task", "strategy", "endpoint", "model")]
)
NAMED_KEY = np.dtype([("app", "<u8"), ("name", "<u8")])
"""`name` is a user's keyed hash, or the digest of a tag."""
PRICE_KEY = np.dtype([("endpoint", "<u8"), ("price", "<u8")])
KEYS = {
    LedgerTable.CALLS: CALLS_KEY,
    LedgerTable.USERS: NAMED_KEY,
    LedgerTable.TAGS: NAMED_KEY,
    LedgerTable.PRICES: PRICE_KEY,
}
SPAN_MS = dict.fromkeys(LedgerTable, DAY_MS) | {LedgerTable.CALLS: HOUR_MS}
"""For how long the rows of a table are open together."""


@dataclass(frozen=True, slots=True)
class LedgerRows:
    """Rows of one table."""

    spans: NDArray[np.int64]  # (n,) since the epoch, each as long as `SPAN_MS` says
    keys: NDArray[np.void]  # (n,) of `KEYS`
    values: NDArray[np.int64]  # (n, N_LEDGER_COLUMNS)

    def summed(self) -> LedgerRows:
        """Return one row for each span and key, in an order of their own."""
        return self.summed_with_first()[0]

    def summed_with_first(
        self, owners: NDArray[np.uint64] | None = None
    ) -> tuple[LedgerRows, NDArray[np.intp]]:
        """Return `summed`, and (n,) which of these rows was the first of each.

        Args:
            owners: (n,) whose each is: rows of several stay apart, those of the first stand first.
        """
        if not len(self.keys):
            return self, np.empty(0, dtype=np.intp)
        words = np.ascontiguousarray(self.keys).view("<u8").reshape(len(self.keys), -1)
        order = np.lexsort([*words.T, self.spans, *([] if owners is None else [owners])])
        words, spans = words[order], self.spans[order]
        is_new = np.ones(len(order), dtype=bool)
        is_new[1:] = (spans[1:] != spans[:-1]) | (words[1:] != words[:-1]).any(axis=1)
        if owners is not None:
            placed = owners[order]
            is_new[1:] |= placed[1:] != placed[:-1]
        (starts,) = is_new.nonzero()
        sums, first = sums_at(self.values[order], starts), order[starts]
        return LedgerRows(spans[starts], self.keys[first], sums), first


def added(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the sums of two; beyond `MOST_SUM` they stay there, in whichever order they come."""
    return np.asarray(np.minimum(one + other, MOST_SUM))


def sums_at(values: NDArray[np.int64], starts: NDArray[np.intp]) -> NDArray[np.int64]:
    """Return the sums of rows that lie beside each other, as `added` would have them.

    Args:
        values: (n, n_columns), none below 0 or above `MOST_SUM`.
        starts: where each group begins.
    """
    if not len(values):
        return values[:0]
    if values.max() <= MOST_SUM // len(values):
        return np.asarray(np.add.reduceat(values, starts, axis=0))
    high = np.add.reduceat(values >> HALF_BITS, starts, axis=0)
    low = np.add.reduceat(values & ((1 << HALF_BITS) - 1), starts, axis=0)
    high += low >> HALF_BITS
    is_beyond = high > MOST_SUM >> HALF_BITS
    whole = (np.where(is_beyond, 0, high) << HALF_BITS) + (low & ((1 << HALF_BITS) - 1))
    return np.where(is_beyond, MOST_SUM, whole)


def joined(table: LedgerTable, parts: Sequence[LedgerRows]) -> LedgerRows:
    """Return all rows of some parts of a table, as they are."""
    if not parts:
        nothing = np.empty((0, N_LEDGER_COLUMNS), dtype=np.int64)
        return LedgerRows(np.empty(0, dtype=np.int64), np.empty(0, dtype=KEYS[table]), nothing)
    return LedgerRows(
        np.concatenate([part.spans for part in parts]),
        np.concatenate([part.keys for part in parts]),
        np.concatenate([part.values for part in parts]),
    )


def packed(values: NDArray[np.int64]) -> list[bytes]:
    """Return (n, N_LEDGER_COLUMNS) sums as they are stored: a mask, then what is not 0.

    Each sum is a LEB128 number; none is below 0.
    """
    n = len(values)
    if not n:
        return []
    used = np.flatnonzero(values.any(axis=0))  # mostly a third
    sums = values[:, used].astype(np.uint64)
    n_bytes = (int(sums.max(initial=0)).bit_length() + 6) // 7
    masks = ((sums != 0) @ (1 << used)).astype("<u4")
    widths = np.zeros(sums.shape, dtype=np.int64)
    for k in range(n_bytes):
        widths += sums >> np.uint64(7 * k) != 0
    lengths = widths.sum(axis=1) + MASK_BYTES
    ends = np.cumsum(lengths)
    out = np.zeros(int(ends[-1]), dtype=np.uint8)
    begins = ends - lengths
    for byte, of_mask in enumerate(masks.view(np.uint8).reshape(n, 4).T[:MASK_BYTES]):
        out[begins + byte] = of_mask
    places = begins[:, None] + MASK_BYTES + np.cumsum(widths, axis=1) - widths
    for k in range(n_bytes):
        mine = widths > k
        low = (sums[mine] >> np.uint64(7 * k)).astype(np.uint8) & 0x7F
        out[places[mine] + k] = low | ((widths[mine] > k + 1) * 0x80).astype(np.uint8)
    whole = out.tobytes()
    return [whole[a:b] for a, b in zip(begins.tolist(), ends.tolist(), strict=True)]


def unpacked(rows: Sequence[bytes | None]) -> NDArray[np.int64]:
    """Return the sums of stored rows, (n, N_LEDGER_COLUMNS); 0 of one that is not there."""
    out = np.zeros((len(rows), N_LEDGER_COLUMNS), dtype=np.int64)
    for begin in range(0, len(rows), UNPACKED_AT_ONCE):
        _unpack(rows[begin : begin + UNPACKED_AT_ONCE], out[begin : begin + UNPACKED_AT_ONCE])
    return out


def sum_in(row: bytes | None, column: int) -> int:
    """Return one sum of a stored row, without the others; 0 of one that is not there."""
    mask = int.from_bytes(row[:MASK_BYTES], "little") if row else 0
    if not row or not mask >> column & 1:
        return 0
    at = MASK_BYTES
    for _ in range((mask & ((1 << column) - 1)).bit_count()):  # those before it
        while row[at] >= 0x80:
            at += 1
        at += 1
    out = shift = 0
    while row[at] >= 0x80:
        out |= (row[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return out | row[at] << shift


def _unpack(rows: Sequence[bytes | None], out: NDArray[np.int64]) -> None:
    """Put the sums of stored rows into `out`, (n, N_LEDGER_COLUMNS) of 0."""
    whole = b"".join(row or b"" for row in rows)
    if not whole:
        return
    data = np.frombuffer(whole, dtype=np.uint8)
    lengths = np.array([len(row) if row else 0 for row in rows], dtype=np.int64)
    (there,) = lengths.nonzero()
    ends = np.cumsum(lengths)[there]
    begins = ends - lengths[there]
    masks = sum(data[begins + byte].astype(np.int64) << (8 * byte) for byte in range(MASK_BYTES))
    is_number = np.ones(len(data), dtype=bool)
    for byte in range(MASK_BYTES):
        is_number[begins + byte] = False
    body = data[is_number].astype(np.uint64)
    (last,) = (body < 0x80).nonzero()
    starts = np.zeros(len(last), dtype=np.intp)
    starts[1:] = last[:-1] + 1
    shifts = np.arange(len(body)) - np.repeat(starts, last - starts + 1)
    parts = (body & np.uint64(0x7F)) << (shifts * 7).astype(np.uint64)
    numbers = np.add.reduceat(parts, starts) if len(body) else np.empty(0, dtype=np.uint64)
    bits = (np.asarray(masks)[:, None] >> np.arange(N_LEDGER_COLUMNS)) & 1 > 0
    found = np.zeros(bits.shape, dtype=np.int64)
    found[bits] = numbers.astype(np.int64)
    out[there] = found
