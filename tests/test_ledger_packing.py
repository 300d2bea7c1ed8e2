"""Closed days of the ledger: packed, rolled up, without who is forgotten; no nano-dollar goes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_ledger_fold import AT_ONCE, Books, attempt, named

from telemetry import keys
from telemetry.forgetting import forget_record
from telemetry.ledger_blocks import LedgerBlock, block_field
from telemetry.ledger_rows import (
    DAY_MS,
    HOUR_MS,
    NAMED_KEY,
    LedgerColumn,
    LedgerRows,
    LedgerTable,
)
from telemetry.memory import MemoryKind
from workers.archive.audit import audit_state
from workers.archive.restore import restore
from workers.folding.keeping import kept
from workers.folding.lease import Lease
from workers.folding.measuring import shares
from workers.jobs.spenders import name_spenders, top_of

FIRST = 20_000
"""A day."""
BEGIN_MS = FIRST * DAY_MS
CALLS, USERS, TAGS, PRICES = LedgerTable
KEPT = (CALLS, USERS, TAGS)
"""Of which these days have rows."""
COST, ROWS = LedgerColumn.COST, LedgerColumn.ROWS


class Days(Books):
    """Books whose stream goes on by days."""

    def day(self, days: float, *records: bytes) -> None:
        """Tell something at this time since the beginning, and tidy up."""
        self.tell(*records, at_ms=BEGIN_MS + int(days * DAY_MS))
        self.fold()
        self.prune()

    def prune(self, clock: float = 0, keep: Callable[[], object] | None = None) -> None:
        """Tidy up; at this time of the store's clock, in days since the beginning."""
        clock_ms = BEGIN_MS + int(clock * DAY_MS) if clock else 0
        self.shard.prune(token=self.lease.token, clock_ms=clock_ms, keep=keep)

    def block(self, table: LedgerTable, day: int = FIRST) -> LedgerBlock | None:
        data = self.client.get(keys.spent_block(0, table, day))
        return None if data is None else LedgerBlock(data, table)

    def costs(self, table: LedgerTable, day: int = FIRST) -> dict[bytes, int]:
        """What a block says that keys cost."""
        block = self.block(table, day)
        assert block is not None
        rows, out = block.rows(), dict[bytes, int]()
        for key, cost in zip(rows.keys, rows.values[:, COST].tolist(), strict=True):
            out[key.tobytes()] = out.get(key.tobytes(), 0) + cost
        return out

    def days_with_rows(self) -> set[tuple[LedgerTable, int]]:
        return {(table, s // 24 if table is CALLS else s) for table, s in self.loose()}

    def check(self) -> None:
        found = audit_state(self.archive)
        assert found.equal, found.difference
        self.archive.take(now_ms=2**53, limits=AT_ONCE)


@pytest.fixture
def days(client: Any, state_dir: Path) -> Days:
    return Days(client, state_dir / "archive")


def at(days: float, nonce: int, **more: Any) -> bytes:
    return attempt(nonce, at_ms=BEGIN_MS + int(days * DAY_MS), **more)


def first_day() -> list[bytes]:
    """Users 1 to 5 of one app spend 1, 2, 4, 8, 16; one of another spends 32."""
    own = [at(n / 10, n, user=n + 1, spend_tag=9, cost_nano=1 << n) for n in range(5)]
    return [*own, at(0.9, 6, app=2, user=1, cost_nano=32)]


def test_a_closed_day_is_packed_with_a_row_for_whoever_spent_most(days: Days) -> None:
    days.day(0.95, *first_day())
    days.day(2.9, at(2.9, 7, user=1, cost_nano=64))
    assert days.block(CALLS) is None
    assert name_spenders(days.client, 1, now_ms=BEGIN_MS + int(1.9 * DAY_MS)) == 0
    assert name_spenders(days.client, 1, now_ms=BEGIN_MS + int(2.1 * DAY_MS), most=2) == 2
    days.check()

    days.day(3.1, at(3.1, 8, user=1, cost_nano=128))

    calls, users, tags = (days.block(table) for table in (CALLS, USERS, TAGS))
    assert calls is not None
    assert sorted(calls.rows().spans - FIRST * 24) == [0, 2, 4, 7, 9, 21]
    assert days.costs(USERS) == {named(1, 5): 16, named(1, 4): 8, named(1, 0): 7,
                                 named(2, 1): 32, named(2, 0): 0}  # fmt: skip
    assert users is not None
    assert users.sums()[ROWS] == 3
    assert days.costs(TAGS) == {named(1, 9): 31, named(1, 0): 0}
    assert tags is not None
    assert days.days_with_rows() == {(t, FIRST + d) for t in (CALLS, USERS) for d in (2, 3)}
    days.check()

    late = [at(0.5, 9, user=3, cost_nano=256), at(0.5, 10, user=5, cost_nano=512)]
    days.day(3.5, *late)
    assert (USERS, FIRST) in days.days_with_rows()  # within the hour
    days.check()
    days.begin()
    days.day(3.6)
    assert (USERS, FIRST) not in days.days_with_rows()
    assert days.costs(USERS)[named(1, 5)] == 16 + 512
    assert days.costs(USERS)[named(1, 0)] == 7 + 256
    assert sum(days.costs(CALLS).values()) == 63 + 768
    days.check()


def test_a_day_that_nobody_ranked_is_packed_a_day_later_with_all_names(days: Days) -> None:
    days.day(0.95, *first_day())
    days.day(3.9)
    assert (days.block(CALLS) is not None, days.block(USERS)) == (True, None)
    days.day(4.1)

    assert len(days.costs(USERS)) == 8
    assert not days.loose()
    days.check()


def test_an_idle_shards_days_are_packed_by_the_stores_clock(days: Days) -> None:
    """Nothing comes that would move its mark; audit and restore go by what is packed."""
    days.day(0.95, *first_day())
    days.check()
    days.prune(2.9)
    assert days.loose()
    days.prune(4.1, keep=lambda: None)

    assert not days.loose()
    assert [sum(days.costs(table).values()) for table in KEPT] == [63, 63, 31]
    packed = {table: days.costs(table) for table in KEPT}
    assert audit_state(days.archive).equal
    days.prune(900)
    block = days.block(CALLS)
    assert block is not None  # what goes for good waits for the mark
    assert (block.is_daily, sum(days.costs(CALLS).values())) == (True, 63)
    assert audit_state(days.archive).equal

    days.client.flushall()
    assert restore(days.archive).damaged == 0
    days.lease = Lease(days.client, 0)
    assert days.lease.take()
    days.begin()
    assert audit_state(days.archive).equal
    days.prune(4.2)
    assert {table: days.costs(table) for table in KEPT} == packed
    days.day(4.3, at(0.5, 9, user=3, cost_nano=64))
    days.check()
    assert sum(days.costs(CALLS).values()) == 63
    days.prune(4.5)
    assert sum(days.costs(CALLS).values()) == 127
    days.check()


def test_leases_are_kept_beside_what_takes_long_and_each_step_is_had_alone() -> None:
    kept_twice, n_kept, begun = threading.Event(), 0, list[int]()

    def keep() -> None:
        nonlocal n_kept
        n_kept += 1
        if n_kept == 2:
            kept_twice.set()

    def steps() -> Iterator[int]:
        for number in range(3):
            begun.append(number)
            assert number or kept_twice.wait(10)
            yield number
        raise ConnectionError

    found = kept(steps(), keep)

    assert next(found) == 0
    assert (n_kept, begun) == (2, [0])
    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(ConnectionError):
        next(found)
    assert list(kept([], keep)) == []


def test_hours_roll_up_after_35_days_and_days_go_after_800(days: Days) -> None:
    days.day(0.95, *first_day())
    days.day(5)
    days.check()
    days.day(36.1)
    block = days.block(CALLS)
    assert block is not None
    assert (block.is_daily, block.n_rows) == (True, 2)
    assert sum(days.costs(CALLS).values()) == 63
    days.check()
    days.day(36.2, at(0.5, 9, cost_nano=64))
    days.day(36.3)
    assert sum(days.costs(CALLS).values()) == 127
    days.check()
    days.day(801)
    assert [days.block(table) for table in KEPT] == [None, None, None]
    assert not days.client.exists(keys.spent_blocks(0))
    days.check()


def test_who_is_forgotten_counts_as_others_in_blocks_too(days: Days) -> None:
    days.day(0.95, *first_day())
    days.day(4.1, at(4.1, 20, user=2, cost_nano=64))
    gone = forget_record(
        app=1, user=(2).to_bytes(8, "little"), n_shards=1, at_ms=0, event=bytes(16)
    )
    days.tell(gone, at_ms=BEGIN_MS + int(4.2 * DAY_MS))
    days.fold()
    days.check()
    assert days.client.smembers(keys.spent_gone(0)) == {(2).to_bytes(8, "little")}
    days.begin()  # whoever takes over goes on with it
    days.prune()

    assert not days.client.exists(keys.spent_gone(0))
    costs = days.costs(USERS)
    assert (costs.get(named(1, 2)), costs[named(1, 0)], sum(costs.values())) == (None, 2, 63)
    assert set(days.loose()[USERS, FIRST + 4]) == {named(1, 0)}
    days.check()


def test_blocks_are_restored_and_a_lost_one_is_told(days: Days) -> None:
    days.day(0.95, *first_day())
    days.day(4.1, at(4.1, 20, user=2, cost_nano=64))
    days.check()
    before = {table: days.costs(table) for table in KEPT}, days.loose()
    days.client.flushall()

    assert restore(days.archive).damaged == 0
    assert ({table: days.costs(table) for table in KEPT}, days.loose()) == before
    days.lease = Lease(days.client, 0)
    assert days.lease.take()
    days.begin()
    days.day(4.2, at(4.2, 21, user=2, cost_nano=1))
    days.check()

    (days.archive.directory(0) / "spent").rename(days.archive.root / "away")
    days.client.flushall()
    assert restore(days.archive).damaged == 3
    assert days.client.hgetall(keys.spent_blocks(0)) == {}


def test_a_block_that_is_not_what_was_written_stays_out_of_it(days: Days) -> None:
    days.day(0.95, *first_day())
    days.day(4.1)
    days.client.set(keys.spent_block(0, CALLS, FIRST), b"x")
    days.day(4.2, at(0.5, 9, cost_nano=64))
    days.day(4.3)

    assert (CALLS, FIRST) in days.days_with_rows()  # what comes later is not lost with it
    days.day(37)
    assert days.client.get(keys.spent_block(0, CALLS, FIRST)) == b"x"


def test_who_spent_most_is_told_over_all_shards_app_by_app() -> None:
    def rows(*spent: tuple[int, int, int]) -> LedgerRows:
        values = np.zeros((len(spent), len(LedgerColumn)), dtype=np.int64)
        values[:, COST] = [cost for *_, cost in spent]
        own = np.array([(app, name) for app, name, _ in spent], dtype=NAMED_KEY)
        return LedgerRows(np.full(len(spent), FIRST), own, values)

    one = rows((1, 1, 5), (1, 2, 4), (1, 0, 99), (2, 1, 1), (2, 2, 1))
    other = rows((1, 2, 4), (1, 3, 6), (2, 1, 1))

    assert top_of(USERS, [one, other], 2) == named(1, 2) + named(1, 3)
    assert top_of(USERS, [], 2) == b""
    assert block_field(USERS, FIRST) == b"u:20000"
    assert HOUR_MS * 24 == DAY_MS


def test_what_the_ledger_takes_of_the_store_is_told(store: object, days: Days) -> None:
    assert store
    days.day(0.95, *first_day())
    before = int(days.client.info("memory")["used_memory"])
    own = [at(0.9, 100 + n, user=n + 1, spend_tag=n + 1, cost_nano=1) for n in range(900)]
    days.day(0.96, *own)
    loose = shares(days.client, 1, now_ms=BEGIN_MS).by_kind[MemoryKind.LEDGER]
    grew = int(days.client.info("memory")["used_memory"]) - before
    days.day(4.1)
    packed = shares(days.client, 1, now_ms=BEGIN_MS).by_kind[MemoryKind.LEDGER]

    assert 1800 * 60 < loose < grew
    assert 0 < packed < loose / 5
