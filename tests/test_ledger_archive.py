"""What the ledger says is what the archive's records add up to, to the nano-dollar."""

from __future__ import annotations

import random
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_ledger_fold import KNOWN
from test_ledger_packing import BEGIN_MS, CALLS, FIRST, USERS, Days, at

from telemetry import decoding, frames, keys
from telemetry.events import Flag, Kind, PriceSource
from telemetry.ledger_questions import Dimension, LedgerQuestion
from telemetry.ledger_reading import read_ledger
from telemetry.ledger_rows import DAY_MS, HOUR_MS, LedgerColumn, LedgerRows
from workers.archive import files as archive_files
from workers.archive.restore import restore

ASKED = (
    *(LedgerColumn.ATTEMPTS, LedgerColumn.COST, LedgerColumn.COST_ESTIMATED),
    *(LedgerColumn.UNPRICED, LedgerColumn.TOKENS_IN, LedgerColumn.TOKENS_OUT),
)
EPOCH = date(1970, 1, 1).toordinal()
Group = tuple[int, ...]
Rows = dict[Group, list[int]]


@pytest.fixture
def days(client: Any, state_dir: Path) -> Days:
    return Days(client, state_dir / "archive")


def some(dice: random.Random, first: int, *, day: float) -> list[bytes]:
    """Attempts of two apps: most known, some estimated, some unpriced, some of days before."""
    out = []
    for nonce in range(first, first + 25):
        how = dice.random()
        flags = KNOWN if how < 0.8 else int(Flag.FINAL | Flag.ESTIMATED)
        source = PriceSource.NONE if how > 0.9 else PriceSource.OWN
        priced = 0 if source is PriceSource.NONE else dice.randint(1, 10**11)
        more = {"tokens_in": dice.randint(0, 9**5), "tokens_out": dice.randint(0, 9)}
        more |= {"user": dice.randint(0, 3), "app": dice.randint(1, 2)}
        more |= {"spend_tag": dice.randint(0, 2), "served_model": dice.randint(1, 2)}
        when = max(day - dice.choice((0, 0, 0.1, 3)), 0)
        out.append(at(when, nonce, flags=flags, price_source=source, cost_nano=priced, **more))
    return out


def archived(days: Days) -> list[np.void]:
    """Each outcome that any file of the archive holds, once."""
    found: dict[tuple[bytes, int], np.void] = {}
    for file in archive_files.list_files(days.archive.directory(0)):
        for frame in archive_files.read(file).entries.values():
            records, _ = decoding.decode(frames.unpack(frame).body)
            for record in records[records["kind"] == Kind.OUTCOME]:
                found[bytes(record["token"]["nonce"]), int(record["attempt"])] = record
    return list(found.values())


def summed(records: list[np.void], *names: str) -> Rows:
    """Add them up, one by one."""
    out: dict[Group, Counter[LedgerColumn]] = {}
    for record in records:
        token, cost = record["token"], int(record["cost_nano"])
        at_ms = int(token["decided_at_ms"])
        known = {"hour": at_ms // HOUR_MS, "day": at_ms // DAY_MS + EPOCH, "app": token["app"]}
        known |= {"user": token["user"], "tag": record["spend_tag"]}
        known |= {"model": record["served_model"]}
        is_estimated = bool(record["flags"] & Flag.ESTIMATED)
        sums = out.setdefault(tuple(int(known[name]) for name in names), Counter())
        sums[LedgerColumn.ATTEMPTS] += 1
        sums[LedgerColumn.COST] += cost
        sums[LedgerColumn.COST_ESTIMATED] += cost * is_estimated
        sums[LedgerColumn.UNPRICED] += int(record["price_source"] == PriceSource.NONE)
        sums[LedgerColumn.TOKENS_IN] += int(record["tokens_in"])
        sums[LedgerColumn.TOKENS_OUT] += int(record["tokens_out"])
    return {group: [sums[column] for column in ASKED] for group, sums in out.items()}


def read(days: Days, *names: str) -> Rows:
    """What the ledger says; whoever is not named goes by 0."""
    by = tuple(Dimension(name) for name in names)
    until_ms = BEGIN_MS + 100 * DAY_MS
    found = read_ledger(days.client, 1, LedgerQuestion(BEGIN_MS, until_ms, by, columns=ASKED))
    parts = [found.rows] if found.unnamed is None else [found.rows, found.unnamed]
    return {
        tuple(part_of(rows, i, name) for name in names): values[list(ASKED)].tolist()
        for rows in parts
        for i, values in enumerate(rows.values)
    }


def part_of(rows: LedgerRows, i: int, name: str) -> int:
    if name in ("day", "hour"):
        return int(rows.spans[i])
    field = "name" if name in ("user", "tag") else name
    return int(rows.keys[i][field]) if field in (rows.keys.dtype.names or ()) else 0


def test_the_archives_records_and_the_ledgers_rows_agree_to_the_nano_dollar(days: Days) -> None:
    """Loose and packed, late, repeated, and restored."""
    dice, n = random.Random(7), 0
    for day in (0.5, 0.9, 1.5, 2.4, 4.2, 4.6, 5.1):
        raw, at_ms = some(dice, n, day=day), BEGIN_MS + int(day * DAY_MS)
        n += len(raw)
        frame = days.tell(*raw[:10], at_ms=at_ms)
        days.client.xadd(keys.stream(0), {"f": frame}, id=f"{at_ms}-{days.n + 1}")
        days.day(day + 0.01, *raw[10:])
        days.check()
    assert (days.block(USERS) is None, days.block(CALLS, FIRST + 1) is None) == (False, False)
    assert (USERS, FIRST + 5) in days.days_with_rows()
    records = archived(days)
    assert len(records) == n
    asked = (
        *((), ("app",), ("app", "model", "day"), ("hour",)),
        *(("app", "user", "day"), ("app", "tag"), ("user",), ("tag", "day")),
    )

    for names in asked:
        assert read(days, *names) == summed(records, *names), names

    days.client.flushall()
    assert restore(days.archive).damaged == 0
    for names in asked:
        assert read(days, *names) == summed(records, *names), names
