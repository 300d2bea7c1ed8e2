"""The ledger in the archive: loose rows with each checkpoint, blocks as files of their own.

A block's file is named by its digest, so that it is written once; a checkpoint names its blocks.
One that no checkpoint named for days goes.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from telemetry import keys
from telemetry.ledger_blocks import BlockEntry, block_digest, block_field, day_of, parse_field
from telemetry.ledger_rows import (
    DAY_MS,
    N_LEDGER_COLUMNS,
    LedgerColumn,
    LedgerTable,
    added,
    sums_at,
    unpacked,
)
from telemetry.store import Client
from workers.archive.files import UNFINISHED, Content, sync
from workers.folding.batch import at_ms
from workers.folding.packing import BLOCK_DAYS
from workers.folding.spending import Loose, Place

SPAN_BYTES = 8
DIRECTORY = "spent"
SUFFIX = ".block"
UNNAMED_DAYS = 3
"""For as long an older checkpoint finds its blocks, should the newest be damaged."""
Blocks = dict[Place, BlockEntry]


def ask(pipeline: Client, shard: int, spans: Sequence[bytes]) -> int:
    """Ask for the ledger of a shard, given the fields of `keys.spent_spans`; return how often."""
    pipeline.hkeys(keys.spent_spans(shard))
    pipeline.hgetall(keys.spent_blocks(shard))
    pipeline.smembers(keys.spent_gone(shard))
    for name in spans:
        pipeline.hgetall(keys.spent(shard, *parse_field(name)))
    return 3 + len(spans)


def put_into(content: Content, spans: Sequence[bytes], replies: Sequence[Any]) -> bool:
    """Put what `ask` was told into a checkpoint; return False where other spans have rows now."""
    now, blocks, gone, *rows = replies
    if set(now) != set(spans):
        return False
    loose = {parse_field(name): own for name, own in zip(spans, rows, strict=True)}
    content.spent = {
        _field(place, key): row for place in loose for key, row in loose[place].items()
    }
    content.blocks, content.gone = blocks, dict.fromkeys(gone, b"")
    return True


def loose_of(content: Content) -> Loose:
    """Return the loose rows of a checkpoint."""
    out: Loose = {}
    for name, row in content.spent.items():
        span = int.from_bytes(name[1 : 1 + SPAN_BYTES], "big", signed=True)
        place = LedgerTable(name[:1].decode()), span
        out.setdefault(place, {})[name[1 + SPAN_BYTES :]] = row
    return out


def blocks_of(content: Content) -> Blocks:
    """Return which blocks a checkpoint names."""
    return {parse_field(name): BlockEntry.parse(value) for name, value in content.blocks.items()}


def keep(client: Client, shard: int, directory: Path, content: Content) -> bool:
    """Write the blocks of a checkpoint that have no file yet; return False where one has changed.

    Raises:
        OSError: no space left, for instance.
    """
    there, written = directory / DIRECTORY, False
    for (table, day), entry in blocks_of(content).items():
        path = _path(directory, (table, day), entry.digest)
        if path.exists():
            continue
        data = client.get(keys.spent_block(shard, table, day)) or b""
        if block_digest(data) != entry.digest:
            return False
        there.mkdir(exist_ok=True, mode=0o700)
        _write(path, data)
        written = True
    if written:
        sync(there)
    return True


def sweep(directory: Path, content: Content) -> None:
    """Delete files of blocks that no checkpoint has named for some days; the newest is given."""
    there = directory / DIRECTORY
    named = {_path(directory, place, entry.digest) for place, entry in blocks_of(content).items()}
    now_s = time.time()
    for path in there.glob("*") if there.exists() else ():
        age_s = now_s - path.stat().st_mtime
        if path in named:
            if age_s > DAY_MS / 1000:
                os.utime(path)
        elif age_s > UNNAMED_DAYS * DAY_MS / 1000:
            path.unlink(missing_ok=True)


def read_block(directory: Path, place: Place, entry: BlockEntry) -> bytes | None:
    """Return a block from its file; None where that is gone or damaged."""
    try:
        data = _path(directory, place, entry.digest).read_bytes()
    except FileNotFoundError:
        return None
    return data if block_digest(data) == entry.digest else None


def clear(client: Client, shard: int) -> None:
    """Delete the ledger of a shard."""
    names = [keys.spent(shard, *parse_field(n)) for n in client.hkeys(keys.spent_spans(shard))]
    blocks = map(parse_field, client.hkeys(keys.spent_blocks(shard)))
    names += [keys.spent_block(shard, *place) for place in blocks]
    own = (keys.spent_spans(shard), keys.spent_blocks(shard), keys.spent_gone(shard))
    client.delete(*names, *own)


def restore_blocks(client: Client, shard: int, directory: Path, content: Content) -> int:
    """Write a checkpoint's blocks into the store, and leave out those that are lost; how many."""
    lost = 0
    for (table, day), entry in blocks_of(content).items():
        data = read_block(directory, (table, day), entry)
        if data is None:
            content.blocks.pop(block_field(table, day))
            lost += 1
        else:
            client.set(keys.spent_block(shard, table, day), data)
    return lost


def restore_loose(pipeline: Client, shard: int, content: Content, at_once: int) -> None:
    """Write the rest of a checkpoint's ledger."""
    for place, rows in loose_of(content).items():
        names = list(rows)
        for i in range(0, len(names), at_once):
            mapping = {name: rows[name] for name in names[i : i + at_once]}
            pipeline.hset(keys.spent(shard, *place), mapping=mapping)
        pipeline.hset(keys.spent_spans(shard), block_field(*place), content.mark)
    if content.blocks:
        pipeline.hset(keys.spent_blocks(shard), mapping=content.blocks)
    if content.gone:
        pipeline.sadd(keys.spent_gone(shard), *content.gone)


def difference(
    ours: Loose, our_blocks: Blocks, theirs: Loose, their_blocks: Blocks, mark: bytes
) -> str | None:
    """Return the first row or day in which two ledgers differ; None where they are equal.

    Days whose block changed are compared by what they sum to, block and loose rows together: which
    rows count as others' is settled when a block is made.

    Args:
        ours: by the records, from the checkpoint before on; `our_blocks` are of that checkpoint.
        mark: of both.
    """
    changed = {
        place
        for place in our_blocks.keys() | their_blocks.keys()
        if _digest(our_blocks, place) != _digest(their_blocks, place)
    }
    for place in sorted(ours.keys() | theirs.keys()):
        if (place[0], day_of(*place)) in changed:
            continue
        rows, stored = ours.get(place, {}), theirs.get(place, {})
        for key in sorted(rows.keys() | stored.keys()):
            if rows.get(key) != stored.get(key):
                return _row_differs(place, key, rows.get(key), stored.get(key))
    oldest = at_ms(mark) // DAY_MS - BLOCK_DAYS
    for table, day in sorted(changed):
        if day <= oldest and (table, day) not in their_blocks:
            continue
        known = _day_sums(ours, our_blocks, (table, day))
        kept = _day_sums(theirs, their_blocks, (table, day))
        for column in np.flatnonzero(known != kept)[:1]:
            name = LedgerColumn(int(column)).name.lower()
            where = f"ledger, table {table}, day {day}, {name}"
            return f"{where}: {known[column]} by the records, {kept[column]} stored"
    return None


def _row_differs(place: Place, key: bytes, row: bytes | None, stored: bytes | None) -> str:
    known, kept = unpacked([row, stored])
    columns = np.flatnonzero(known != kept)
    where = f"ledger, table {place[0]}, span {place[1]}, row {key.hex()}"
    if not len(columns):
        return f"{where}: only one of them has it"
    name = LedgerColumn(int(columns[0])).name.lower()
    return f"{where}, {name}: {known[columns[0]]} by the records, {kept[columns[0]]} stored"


def _day_sums(loose: Loose, blocks: Blocks, place: Place) -> NDArray[np.int64]:
    """Return what a day's rows sum to, but for the number of rows."""
    table, day = place
    rows = [
        row
        for own, those in loose.items()
        if own[0] is table and day_of(*own) == day
        for row in those.values()
    ]
    out = np.zeros(N_LEDGER_COLUMNS, dtype=np.int64)
    if rows:
        out = sums_at(unpacked(rows), np.zeros(1, dtype=np.intp)).reshape(-1)
    if place in blocks:
        out = added(out, blocks[place].sums)
    out[LedgerColumn.ROWS] = 0
    return out


def _digest(blocks: Mapping[Place, BlockEntry], place: Place) -> bytes:
    return blocks[place].digest if place in blocks else b""


def _field(place: Place, key: bytes) -> bytes:
    return place[0].encode() + place[1].to_bytes(SPAN_BYTES, "big", signed=True) + key


def _path(directory: Path, place: Place, digest: bytes) -> Path:
    return directory / DIRECTORY / f"{place[0]}-{place[1]}.{digest.hex()}{SUFFIX}"


def _write(path: Path, data: bytes) -> None:
    """Write a file; it is there in full, and safe from a power cut, or not at all."""
    unfinished = path.with_name(f"{UNFINISHED}{secrets.token_hex(8)}")
    try:
        with unfinished.open("xb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
