"""Closed days of the ledger become blocks; blocks roll up, lose who is forgotten, and go.

Each change is one commit of the shard's owner: rows and block move together or not at all. What a
day adds up to stays as it was: so it does not matter when, and the store's clock says when it is
time, for a shard to which nothing comes as well. What goes for good goes by the mark's own time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import structlog
from numpy.typing import NDArray

from telemetry import keys
from telemetry.ledger_blocks import (
    BlockEntry,
    DamagedBlock,
    LedgerBlock,
    block_digest,
    block_field,
    block_of,
    day_of,
)
from telemetry.ledger_rows import (
    DAY_MS,
    HOUR_MS,
    N_LEDGER_COLUMNS,
    NAMED_KEY,
    OTHERS,
    LedgerColumn,
    LedgerRows,
    LedgerTable,
    joined,
)
from telemetry.scripts import Commit
from telemetry.store import Client
from workers.folding.batch import at_ms
from workers.folding.hearing import pieces
from workers.folding.ledger import LedgerBook
from workers.folding.spending import NAMED, Place, rows_of

PACKED_AFTER_DAYS = 2
"""A day's end lies so far back: what comes later is packed on its own."""
UNNAMED_AFTER_DAYS = 3
"""By then it is packed also where nobody has named who spent most."""
DAILY_AFTER_DAYS = 35
BLOCK_DAYS = 800
MAX_PACKED = 3
"""In a round, each five seconds."""
MANY_ROWS = 20_000
"""Then so many rows are enough: a tenth of a second, far below the lease."""
MAX_SEARCHED = 16
"""Blocks in a round in which users are looked for who are forgotten."""
AT_ONCE = 5000
ROWS = LedgerColumn.ROWS

log = structlog.get_logger()


@dataclass(slots=True)
class Packing:
    """A change of blocks, and what it means for who knows of them."""

    commit: Commit
    blocks: dict[Place, BlockEntry | None] = field(default_factory=dict)  # None: it goes
    spans: list[Place] = field(default_factory=list)  # whose loose rows are in blocks now
    gone: frozenset[bytes] = frozenset()  # users of whom no block has a row any more
    n_rows: int = 0

    def put(self, shard: int, place: Place, data: bytes) -> None:
        """Write a block."""
        block = LedgerBlock(data, place[0])
        entry = self.blocks[place] = BlockEntry.of(data, block)
        self.n_rows = block.n_rows
        self.commit.add("SET", keys.spent_block(shard, *place), data)
        self.commit.add("HSET", keys.spent_blocks(shard), block_field(*place), entry.pack())

    def take_over(self, book: LedgerBook) -> None:
        """Note that it took effect."""
        for place, entry in self.blocks.items():
            if entry is None:
                del book.blocks[place]
            else:
                book.blocks[place] = entry
        for place in self.spans:
            del book.spans[place]
            book.drop(place)
        book.gone -= self.gone


def packings(client: Client, book: LedgerBook, mark: bytes, *, now_ms: int) -> Iterable[Packing]:
    """Yield what is to change now, some of it; each must have taken effect before the next.

    Args:
        mark: of the shard; where the clock is behind its time, that counts.
        now_ms: on the store's clock.
    """
    now_ms = max(now_ms, at_ms(mark))
    if book.gone:
        yield from _forgetting(client, book)
    for place in _old(book, mark)[:MAX_PACKED]:
        change = Packing(Commit(keys.meta(book.shard)), {place: None})
        change.commit.add("UNLINK", keys.spent_block(book.shard, *place))
        change.commit.add("HDEL", keys.spent_blocks(book.shard), block_field(*place))
        yield change
    n = 0
    for place in _due(book, now_ms):
        packed = None
        if place[0] is not LedgerTable.USERS or not book.gone:
            packed = _packed(client, book, place, now_ms)
        if packed is not None:
            n += 1
            yield packed
            if packed.n_rows >= MANY_ROWS:
                return
        if n >= MAX_PACKED:
            return
    for place in _to_roll_up(book, now_ms)[: MAX_PACKED - n]:
        block = _block(client, book, place)
        if block is not None:
            change = Packing(Commit(keys.meta(book.shard)))
            change.put(book.shard, place, block_of(block.rows(), place[0], is_daily=True))
            yield change


def names_in(client: Client, shard: int, place: Place) -> dict[bytes, bytes]:
    """Return the loose rows of a table and span, asked for in parts."""
    name = keys.spent(shard, *place)
    return dict(client.hscan_iter(name, count=AT_ONCE))


def _old(book: LedgerBook, mark: bytes) -> list[Place]:
    """Return the blocks that nobody keeps any longer; by the mark, as the audit tells them."""
    oldest = at_ms(mark) // DAY_MS - BLOCK_DAYS
    return sorted(place for place in book.blocks if place[1] <= oldest)


def _to_roll_up(book: LedgerBook, now_ms: int) -> list[Place]:
    """Return the blocks of calls whose hours are kept no longer."""
    oldest = now_ms // DAY_MS - DAILY_AFTER_DAYS
    return sorted(
        place
        for place, entry in book.blocks.items()
        if place[0] is LedgerTable.CALLS and place[1] < oldest and not entry.is_daily
    )


def _due(book: LedgerBook, now_ms: int) -> list[Place]:
    """Return tables and days that have loose rows and closed long ago, the oldest first."""
    marks: dict[Place, int] = {}
    for place, last in book.spans.items():
        day = place[0], day_of(*place)
        marks[day] = max(marks.get(day, 0), at_ms(last))
    closed = [p for p in marks if now_ms >= (p[1] + 1 + PACKED_AFTER_DAYS) * DAY_MS]
    rest = [p for p in closed if p not in book.blocks or marks[p] <= now_ms - HOUR_MS]
    return sorted(rest, key=lambda place: (place[1], place[0]))


def _packed(client: Client, book: LedgerBook, place: Place, now_ms: int) -> Packing | None:
    """Return how loose rows of a day become a block; None where it must wait."""
    table, day = place
    parts, top = [], None
    if place in book.blocks:
        block = _block(client, book, place)
        if block is None:
            return None
        parts.append(block.rows())
    elif table in NAMED:
        top = client.hget(keys.SPENT_TOP, block_field(*place))
        if top is None and now_ms < (day + 1 + UNNAMED_AFTER_DAYS) * DAY_MS:
            return None
    spans = sorted(own for own in book.spans if own[0] is table and day_of(*own) == day)
    loose = rows_of(table, {own[1]: names_in(client, book.shard, own) for own in spans})
    if table in NAMED:
        loose = _within(loose, parts[0]) if parts else _of_top(loose, top or b"")
    rows = joined(table, [*parts, loose])
    if table in NAMED:
        rows = _counted(table, rows)
    change = Packing(Commit(keys.meta(book.shard)), spans=spans)
    is_daily = table is LedgerTable.CALLS and day < now_ms // DAY_MS - DAILY_AFTER_DAYS
    change.put(book.shard, place, block_of(rows, table, is_daily=is_daily))
    for own in spans:
        change.commit.add("UNLINK", keys.spent(book.shard, *own))
        change.commit.add("HDEL", keys.spent_spans(book.shard), block_field(*own))
    return change


def _of_top(rows: LedgerRows, top: bytes) -> LedgerRows:
    """Return rows of a day in which those beside the named ones count as others.

    Args:
        top: keys of users or tags, of those apps that have more than are named.
    """
    named = np.frombuffer(top, dtype=NAMED_KEY)
    known = set(pieces(named))
    is_limited = np.isin(rows.keys["app"], np.unique(named["app"]))
    is_known = np.fromiter((name in known for name in pieces(rows.keys)), bool, len(rows.keys))
    return _renamed(rows, is_limited & ~is_known)


def _within(rows: LedgerRows, block: LedgerRows) -> LedgerRows:
    """Return later rows of a day, as others where the block has others and not them."""
    has_others = (block.keys["name"] == OTHERS) & (block.values[:, LedgerColumn.ATTEMPTS] > 0)
    is_limited = np.isin(rows.keys["app"], np.unique(block.keys["app"][has_others]))
    known = set(pieces(block.keys))
    is_known = np.fromiter((name in known for name in pieces(rows.keys)), bool, len(rows.keys))
    return _renamed(rows, is_limited & ~is_known)


def _renamed(rows: LedgerRows, are_others: NDArray[np.bool_]) -> LedgerRows:
    """Return rows with some of them others'."""
    names = rows.keys.copy()
    names["name"][are_others] = OTHERS
    return LedgerRows(rows.spans, names, rows.values)


def _counted(table: LedgerTable, rows: LedgerRows) -> LedgerRows:
    """Return the rows of one day, with how many names of each app have rows of their own."""
    values = rows.values.copy()
    values[:, ROWS] = 0
    rows = LedgerRows(rows.spans, rows.keys, values).summed()
    own: NDArray[np.void] = rows.keys[rows.keys["name"] != OTHERS]
    apps, n_own = np.unique(own["app"], return_counts=True)
    others = np.zeros(len(apps), dtype=NAMED_KEY)
    others["app"] = apps
    counts = np.zeros((len(apps), N_LEDGER_COLUMNS), dtype=np.int64)
    counts[:, ROWS] = n_own
    day = rows.spans[:1].repeat(len(apps))
    return joined(table, [rows, LedgerRows(day, others, counts)])


def _forgetting(client: Client, book: LedgerBook) -> Iterable[Packing]:
    """Yield blocks without those who are forgotten, and at the end that no block has them."""
    table, users = LedgerTable.USERS, book.searched_for or frozenset(book.gone)
    if not book.searched_for:
        book.searched_for = users
        book.to_search = sorted(day for own, day in book.blocks if own is table)
    names = np.frombuffer(b"".join(sorted(users)), dtype="<u8")
    days, book.to_search = book.to_search[:MAX_SEARCHED], book.to_search[MAX_SEARCHED:]
    for day in days:
        block = _block(client, book, (table, day))
        if block is None or not np.isin(block.names("name"), names).any():
            continue
        rows = block.rows()
        rows = _counted(table, _renamed(rows, np.isin(rows.keys["name"], names)))
        change = Packing(Commit(keys.meta(book.shard)))
        change.put(book.shard, (table, day), block_of(rows, table))
        yield change
    if not book.to_search:
        change = Packing(Commit(keys.meta(book.shard)), gone=users)
        change.commit.add_all("SREM", keys.spent_gone(book.shard), sorted(users))
        yield change
        book.searched_for = frozenset()


def _block(client: Client, book: LedgerBook, place: Place) -> LedgerBlock | None:
    """Return a block of the store; None where it is not the one that was written."""
    data = client.get(keys.spent_block(book.shard, *place)) or b""
    if block_digest(data) == book.blocks[place].digest:
        try:
            return LedgerBlock(data, place[0])
        except DamagedBlock:
            pass
    if place not in book.damaged:
        book.damaged.add(place)
        log.error("a day of the ledger is damaged", shard=book.shard, table=place[0], day=place[1])
    return None
