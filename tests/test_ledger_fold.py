"""The learner's fold of the ledger: each attempt once, whatever the order and whoever folds."""

from __future__ import annotations

import base64
import json
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit.families import MOST
from telemetry import events, frames, keys
from telemetry.events import Flag, PriceSource, Result
from telemetry.forgetting import forget_record
from telemetry.frames import Frame
from telemetry.layouts import RECORD
from telemetry.ledger_questions import LedgerQuestion
from telemetry.ledger_reading import read_ledger
from telemetry.ledger_rows import (
    DAY_MS,
    HOUR_MS,
    NAMED_KEY,
    LedgerColumn,
    LedgerTable,
    packed,
    unpacked,
)
from telemetry.store import SCHEMA, prepare
from telemetry.tokens import Token
from workers.archive.archive import Archive, ArchiveLimits
from workers.archive.audit import audit_state
from workers.archive.restore import restore
from workers.folding import ledger
from workers.folding.lease import Lease
from workers.folding.shard import Shard
from workers.folding.spending import Loose, apply, book, spent_by

OLD = json.loads((Path(__file__).parent / "data" / "store_of_schema_6.json").read_text())
OF_7 = json.loads((Path(__file__).parent / "data" / "ledger_of_schema_7.json").read_text())
FEW = settings(max_examples=20, deadline=None)
NOW_MS = int(time.time() * 1000)
DAY, HOUR = NOW_MS // DAY_MS, NOW_MS // HOUR_MS
AT_ONCE = ArchiveLimits(every_bytes=0)
CALLS, USERS, TAGS, PRICES = LedgerTable
COST, ROWS, UNPRICED = LedgerColumn.COST, LedgerColumn.ROWS, LedgerColumn.UNPRICED
KNOWN = int(Flag.USAGE_KNOWN | Flag.FINAL | Flag.PRICED)


def attempt(nonce: int, *, app: int = 1, user: int = 0, at_ms: int = NOW_MS, **more: Any) -> bytes:
    body = Token(
        *(1, 0, int(Flag.ROUTED), nonce.to_bytes(16, "big"), at_ms, 3, 2, 10, 4, app, 6, 7),
        *(0.5, 0.5, 0.1, 0.4),
        user=user,
    ).pack()
    rest = {"attempt": 1, "status": 200, "flags": KNOWN, "price_source": PriceSource.OWN, **more}
    return events.outcome(body, result=Result.OK, **rest)


def records_of(*raw: bytes) -> np.ndarray[Any, np.dtype[np.void]]:
    return np.frombuffer(b"".join(raw), dtype=RECORD)


def named(app: int, name: int) -> bytes:
    return np.array([(app, name)], dtype=NAMED_KEY).tobytes()


def cell(row: bytes | None, column: LedgerColumn) -> int:
    return int(unpacked([row])[0][column])


def total(loose: Loose, table: LedgerTable, column: LedgerColumn = COST) -> int:
    rows = [row for (own, _), rows in loose.items() if own is table for row in rows.values()]
    return int(unpacked(rows)[:, column].sum())


class Books:
    """A shard with its learner and archive, in a store of its own."""

    def __init__(self, client: Any, root: Path, *, most_names: int = 1000) -> None:
        self.client, self.archive = client, Archive(client, root, 1)
        self.lease, self.n, self.most_names = Lease(client, 0), 0, most_names
        prepare(client, shards=1)
        assert self.lease.take()
        self.begin()

    def begin(self) -> None:
        """Go on as whoever takes over: from what the store says."""
        self.shard = Shard(self.client, 0, most_names=self.most_names)
        self.shard.load()

    def tell(self, *records: bytes, at_ms: int | None = None) -> bytes:
        frame = frames.pack(Frame(b"p" * 16, 0, self.n, b"".join(records)))
        self.n += len(records)
        name = "*" if at_ms is None else f"{at_ms}-{self.n}"
        self.client.xadd(keys.stream(0), {"f": frame}, id=name)
        return frame

    def fold(self) -> None:
        found = self.client.xrange(keys.stream(0), min=f"({self.shard.mark.decode()}")
        while found:
            done = self.shard.mark
            self.shard.fold(found, token=self.lease.token)
            assert self.shard.mark != done
            found = self.client.xrange(keys.stream(0), min=f"({self.shard.mark.decode()}")

    def loose(self) -> Loose:
        out: Loose = {}
        for name in self.client.hkeys(keys.spent_spans(0)):
            table, span = name.decode().split(":")
            place = LedgerTable(table), int(span)
            out[place] = self.client.hgetall(keys.spent(0, *place))
        return {place: rows for place, rows in out.items() if rows}


@pytest.fixture
def books(client: Any, state_dir: Path) -> Books:
    return Books(client, state_dir / "archive")


def some(dice: random.Random, n: int) -> list[bytes]:
    return [
        attempt(
            i,
            app=dice.randint(1, 2),
            user=dice.randint(0, 5),
            spend_tag=dice.randint(0, 3),
            at_ms=NOW_MS - dice.choice((0, 1, 30)) * HOUR_MS,
            cost_nano=dice.randint(1, 10**9),
            tokens_in=dice.randint(0, 9),
        )
        for i in range(n)
    ]


@FEW
@given(st.randoms(use_true_random=False), st.integers(1, 4))
def test_how_attempts_are_grouped_shows_nowhere(dice: random.Random, most_names: int) -> None:
    """Who comes too late for a row of his own is told by the stream's order alone."""
    raw = some(dice, 40)
    whole, parts = Loose(), Loose()

    apply(book(spent_by(records_of(*raw)), {}, most_names=most_names), whole)
    left = list(raw)
    while left:
        n = dice.randint(1, 9)
        apply(book(spent_by(records_of(*left[:n])), parts, most_names=most_names), parts)
        del left[:n]

    assert parts == whole
    records = records_of(*raw)
    cost = records["cost_nano"]
    assert total(whole, CALLS) == cost.sum()
    assert total(whole, USERS) == cost[records["token"]["user"] > 0].sum()
    assert total(whole, TAGS) == cost[records["spend_tag"] > 0].sum()
    for (table, span), rows in whole.items():
        for app in (1, 2) if table is not CALLS else ():
            own = [name for name in rows if name[:8] == named(app, 0)[:8] and any(name[8:])]
            assert len(own) <= most_names
            assert cell(rows.get(named(app, 0)), ROWS) == len(own)
        hours = records["token"]["decided_at_ms"] // (HOUR_MS if table is CALLS else DAY_MS)
        assert span in hours


def test_a_cost_beyond_what_a_call_can_cost_is_none_and_no_sum_wraps() -> None:
    fair = [attempt(1, cost_nano=MOST), attempt(2, cost_nano=MOST + 1, reported_cost_nano=2**63)]
    loose = Loose()
    apply(book(spent_by(records_of(*fair)), {}, most_names=9), loose)

    assert (total(loose, CALLS), total(loose, CALLS, UNPRICED)) == (MOST, 1)
    assert total(loose, CALLS, LedgerColumn.REPORTED) == 0

    for _ in range(3):
        (rows,) = loose.values()
        (name,) = rows
        huge = spent_by(records_of(*[attempt(1, cost_nano=MOST)] * (1 << 12)))
        for values in (rows.values for rows in huge.tables.values()):
            values[:, COST] = 1 << 61
        apply(book(huge, loose, most_names=9), loose)
    assert cell(rows[name], COST) == (1 << 62) - 1


def test_the_learner_books_each_attempt_once_whoever_goes_on(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what is known to it little stays, and what was sent again counts no second time."""
    monkeypatch.setattr(ledger, "MOST_KNOWN", 12)
    dice, expected = random.Random(3), Loose()
    raw = some(dice, 120)
    for i in range(0, 120, 20):
        frame = books.tell(*raw[i : i + 20])
        if i == 40:
            books.begin()
        books.client.xadd(keys.stream(0), {"f": frame})
        books.fold()
    apply(book(spent_by(records_of(*raw)), {}, most_names=1000), expected)

    assert books.loose() == expected
    assert books.client.hget(keys.meta(0), "ledger") == b"0-0"
    mark = books.shard.mark
    spans = books.client.hgetall(keys.spent_spans(0))
    assert mark in spans.values()
    assert len(spans) == len(expected)


def test_forgetting_moves_a_users_rows_to_others_behind_its_entry(books: Books) -> None:
    def gone(app: int) -> bytes:
        return forget_record(
            app=app, user=(7).to_bytes(8, "little"), n_shards=1, at_ms=NOW_MS, event=bytes(16)
        )

    early = NOW_MS - 2 * DAY_MS
    books.tell(attempt(1, user=7, cost_nano=10, at_ms=early), attempt(2, user=8, cost_nano=5))
    books.tell(attempt(3, user=7, cost_nano=20), attempt(4, app=2, user=7, cost_nano=40))
    books.fold()
    books.begin()
    books.tell(attempt(5, user=7, cost_nano=80), gone(1), attempt(6, user=7, cost_nano=160))
    books.tell(attempt(7, user=7, cost_nano=320))
    books.fold()

    loose = books.loose()
    assert set(loose[USERS, early // DAY_MS]) == {named(1, 0)}
    today = {name: cell(row, COST) for name, row in loose[USERS, DAY].items()}
    assert today == {named(1, 0): 260, named(1, 8): 5, named(1, 7): 320, named(2, 7): 40,
                     named(2, 0): 0}  # fmt: skip
    assert cell(loose[USERS, DAY][named(1, 0)], ROWS) == 2
    assert cell(loose[USERS, early // DAY_MS][named(1, 0)], ROWS) == 0
    assert total(loose, USERS) == total(loose, CALLS) == 635


def test_the_ledger_is_archived_audited_and_restored_as_it_lies(books: Books) -> None:
    dice = random.Random(5)
    for part in range(3):
        books.tell(*some(dice, 40)[part * 10 :])
        books.fold()
        books.archive.take(now_ms=NOW_MS, limits=AT_ONCE)
    books.client.hset(keys.TAG_NAMES, "ab", "client=x")
    books.tell(*some(dice, 10))
    books.fold()
    assert audit_state(books.archive).difference is None
    books.archive.take(now_ms=NOW_MS, limits=AT_ONCE)
    before = books.loose()

    books.client.flushall()
    assert restore(books.archive).damaged == 0

    assert books.loose() == before
    assert books.client.hget(keys.TAG_NAMES, "ab") == b"client=x"
    books.lease = Lease(books.client, 0)
    assert books.lease.take()
    books.begin()
    books.tell(*some(dice, 10))
    books.fold()
    assert audit_state(books.archive).equal
    place, rows = next(iter(books.loose().items()))
    (row,) = packed(unpacked([rows[next(iter(rows))]]) + 1)
    books.client.hset(keys.spent(0, *place), next(iter(rows)), row)
    found = audit_state(books.archive).difference
    assert found is not None
    assert "ledger, table" in found


def test_the_ledger_of_a_store_of_schema_6_begins_at_the_upgrade(
    client: Any, state_dir: Path
) -> None:
    """Its archive is read on, and checked from the first checkpoint that has a ledger."""
    lie_as_schema_6(client, state_dir / "archive")
    books = Books(client, state_dir / "archive")
    books.n, before = 8, books.shard.mark  # six of them were folded
    books.fold()

    assert client.hget(keys.META, "schema").decode() == SCHEMA
    assert client.hget(keys.meta(0), "ledger") == before != books.shard.mark
    assert total(books.loose(), CALLS) == total(books.loose(), USERS) == 10**6 + 10**7
    assert audit_state(books.archive).equal
    books.archive.take(now_ms=2**53, limits=AT_ONCE)
    at_ms = 20_000 * DAY_MS + 5 * HOUR_MS
    books.tell(attempt(20, at_ms=at_ms, cost_nano=7), at_ms=at_ms)
    books.fold()
    assert audit_state(books.archive).equal
    client.delete(keys.spent(0, CALLS, at_ms // HOUR_MS))
    assert not audit_state(books.archive).equal

    client.flushall()
    restore(books.archive)
    assert total(books.loose(), CALLS) == 10**6 + 10**7


def test_a_ledger_of_schema_7_goes_on_and_what_its_records_add_stays_the_same(
    client: Any, state_dir: Path
) -> None:
    """It knew no failed calls and no price entries, and its checkpoints stay what records say."""
    lie_as_left(client, state_dir / "archive", OF_7)
    books = Books(client, state_dir / "archive")
    books.n = 6
    assert audit_state(books.archive).equal
    books.fold()  # a frame that the last version left
    assert audit_state(books.archive).equal
    assert total(books.loose(), CALLS) == 11_110
    columns = LedgerColumn.CALLS, LedgerColumn.FAILED_CALLS, LedgerColumn.N_REPORTED
    assert [total(books.loose(), CALLS, c) for c in columns] == [5, 0, 3]

    flags = int(Flag.REPORTED | Flag.PRICED | Flag.FINAL | Flag.UNANSWERED)
    at_ms = 20_000 * DAY_MS + 6 * HOUR_MS
    more = {"flags": flags, "price": 9, "cost_nano": 5, "reported_cost_nano": 6}
    books.tell(attempt(20, at_ms=at_ms, **more), at_ms=at_ms)
    books.fold()
    books.archive.take(now_ms=2**53, limits=AT_ONCE)

    assert audit_state(books.archive).equal
    assert [total(books.loose(), CALLS, c) for c in columns] == [6, 1, 3]
    sums = (LedgerColumn.N_REPORTED, LedgerColumn.REPORTED, LedgerColumn.REPORTED_BY_PRICE)
    assert [total(books.loose(), PRICES, c) for c in sums] == [1, 6, 5]
    before = books.loose()
    client.flushall()
    restore(books.archive)
    assert books.loose() == before


def lie_as_schema_6(client: Any, root: Path) -> None:
    """Lay out what the last version without a ledger left: eight calls, of which one frame with
    two is not folded yet, and two frames are archived.
    """
    lie_as_left(client, root, OLD)


def lie_as_left(client: Any, root: Path, left: dict[str, Any]) -> None:
    """Lay out the store and archive that an earlier version left."""
    for name, kept in left["keys"].items():
        if kept["type"] == "stream":
            for entry, frame in kept["value"]:
                client.xadd(name, {"f": bytes.fromhex(frame)}, id=entry)
            continue
        value = {bytes.fromhex(k): v for k, v in kept["value"].items()}
        if kept["type"] == "zset":
            client.zadd(name, value)
        else:
            client.hset(name, mapping={k: bytes.fromhex(v) for k, v in value.items()})
    (root / "0").mkdir(parents=True)
    for name, data in left["archive"].items():
        (root / "0" / name).write_bytes(base64.b64decode(data))


def test_the_ledger_runs_since_the_first_call_and_not_since_what_an_app_told_of(
    books: Books,
) -> None:
    told_ms = NOW_MS - 16 * DAY_MS
    books.tell(attempt(1, at_ms=told_ms, flags=KNOWN | int(Flag.INGESTED)), at_ms=NOW_MS)
    books.tell(attempt(2, at_ms=NOW_MS + 5), at_ms=NOW_MS + 10)
    books.fold()

    question = LedgerQuestion(told_ms - DAY_MS, NOW_MS + DAY_MS)
    since = read_ledger(books.client, 1, question).since

    assert since.at_ms == NOW_MS
    assert since.first_ms == told_ms // HOUR_MS * HOUR_MS
    before = books.client.hgetall(keys.meta(0))[b"ledger_begun"]
    books.archive.take(now_ms=NOW_MS, limits=AT_ONCE)
    books.client.flushall()
    restore(books.archive)
    assert books.client.hgetall(keys.meta(0))[b"ledger_begun"] == before
