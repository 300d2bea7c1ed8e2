"""The ledger as it is read: every row once, in the right span, under whichever layout it lies."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from scripts.benches.ledger import EXACT, FIRST_DAY, N_DAYS, N_SHARDS, QUERIES, fill
from telemetry import keys
from telemetry.ledger_blocks import BlockEntry, LedgerBlock, block_field, block_of, day_of
from telemetry.ledger_questions import Dimension, LedgerQuestion, UnknownTogether, span_name
from telemetry.ledger_reading import LedgerSums, TooManyGroups, read_ledger
from telemetry.ledger_rows import (
    DAY_MS,
    HOUR_MS,
    KEYS,
    N_LEDGER_COLUMNS,
    LedgerColumn,
    LedgerRows,
    LedgerTable,
    packed,
)

CALLS, USERS, TAGS, PRICES = LedgerTable
COST, ATTEMPTS = LedgerColumn.COST, LedgerColumn.ATTEMPTS
D = Dimension
FIRST = 20_000
BEGIN_MS = FIRST * DAY_MS
BERLIN = ZoneInfo("Europe/Berlin")
SHARDS = 2


def rows(table: LedgerTable, *of: tuple[int, dict[str, int], int]) -> LedgerRows:
    """Rows of a span, a key and a cost each."""
    found = np.zeros(len(of), dtype=KEYS[table])
    values = np.zeros((len(of), N_LEDGER_COLUMNS), dtype=np.int64)
    for i, (_, names, cost) in enumerate(of):
        for name, digest in names.items():
            found[name][i] = digest
        values[i, COST], values[i, ATTEMPTS] = cost, 1
    return LedgerRows(np.array([span for span, *_ in of], dtype=np.int64), found, values)


def write_loose(client: Any, shard: int, table: LedgerTable, those: LedgerRows) -> None:
    whole = those.summed()
    for span, key, row in zip(whole.spans.tolist(), whole.keys, packed(whole.values), strict=True):
        client.hset(keys.spent(shard, table, span), key.tobytes(), row)
        client.hset(keys.spent_spans(shard), block_field(table, span), b"1-0")


def write_block(
    client: Any, shard: int, table: LedgerTable, those: LedgerRows, *, is_daily: bool = False
) -> None:
    """Pack the rows of one day, whose loose ones go."""
    (day,) = {day_of(table, span) for span in those.spans.tolist()}
    data = block_of(those, table, is_daily=is_daily)
    client.set(keys.spent_block(shard, table, day), data)
    entry = BlockEntry.of(data, LedgerBlock(data, table)).pack()
    client.hset(keys.spent_blocks(shard), block_field(table, day), entry)
    for span in set(those.spans.tolist()):
        client.delete(keys.spent(shard, table, span))
        client.hdel(keys.spent_spans(shard), block_field(table, span))


def asked(*by: Dimension, days: float = 3, **more: Any) -> LedgerQuestion:
    return LedgerQuestion(BEGIN_MS, BEGIN_MS + int(days * DAY_MS), by, **more)


def costs(sums: LedgerSums, rest: LedgerRows | None = None) -> dict[Any, int]:
    """What each group costs, by its span and the fields of its key that were asked for."""
    found, question = rest or sums.rows, sums.question
    fields = [name for name in question.fields if name in (found.keys.dtype.names or ())]
    out = {}
    for span, key, value in zip(found.spans.tolist(), found.keys, found.values, strict=True):
        time = [] if question.time is None else [span_name(question.time, span, question.zone)]
        out[(*time, *(int(key[name]) for name in fields))] = int(value[COST])
    return out


def test_each_row_counts_once_wherever_it_lies(client: Any) -> None:
    rng, expected = np.random.default_rng(1), Counter[tuple[int, int]]()
    for day in range(FIRST, FIRST + 3):
        for shard in range(SHARDS):
            parts = []
            for _ in range(2):
                of = [
                    (day * 24 + int(rng.integers(24)), {"app": int(a), "task": int(t)}, int(c))
                    for a, t, c in rng.integers(1, 4, size=(40, 3))
                ]
                expected.update(Counter({(n["app"], n["task"]): 0 for _, n, _ in of}))
                for _, names, cost in of:
                    expected[names["app"], names["task"]] += cost
                parts.append(rows(CALLS, *of))
            write_block(client, shard, CALLS, parts[0])
            write_loose(client, shard, CALLS, parts[1])

    found = read_ledger(client, SHARDS, asked(D.APP, D.TASK))

    assert costs(found) == expected
    assert costs(read_ledger(client, SHARDS, asked())) == {(): sum(expected.values())}
    only = read_ledger(client, SHARDS, asked(D.TASK, only={D.APP: frozenset({2})}))
    assert costs(only) == {(t,): n for (a, t), n in expected.items() if a == 2}


@pytest.mark.parametrize("write", [write_loose, write_block], ids=["loose", "packed"])
def test_an_hour_goes_with_the_day_that_it_has_in_the_zone(client: Any, write: Any) -> None:
    at = FIRST * 24
    those = rows(CALLS, (at + 21, {"app": 1}, 1), (at + 22, {"app": 1}, 2), (at + 23, {}, 4))
    write(client, 0, CALLS, those)

    in_utc = costs(read_ledger(client, SHARDS, asked(D.DAY)))
    question = asked(D.DAY, zone=BERLIN)
    in_berlin = costs(read_ledger(client, SHARDS, question))
    since_berlin = replace(question, since_ms=BEGIN_MS + 22 * HOUR_MS)  # summer: two hours ahead

    assert in_utc == {("2024-10-04",): 7}
    assert in_berlin == {("2024-10-04",): 1, ("2024-10-05",): 6}
    assert costs(read_ledger(client, SHARDS, since_berlin)) == {("2024-10-05",): 6}
    assert costs(read_ledger(client, SHARDS, replace(question, by=(D.MONTH,)))) == {("2024-10",): 7}
    by_hour = costs(read_ledger(client, SHARDS, replace(question, by=(D.HOUR,))))
    assert by_hour["2024-10-05T00:00+02:00",] == 2


def test_the_clock_change_gives_a_day_its_25_hours(client: Any) -> None:
    begin = datetime(2024, 10, 27, tzinfo=BERLIN)
    first = int(begin.timestamp()) // 3600
    write_loose(client, 0, CALLS, rows(CALLS, *((first + n, {}, 1) for n in range(-1, 26))))

    found = read_ledger(client, SHARDS, asked(D.DAY, days=60, zone=BERLIN))

    assert costs(found)["2024-10-27",] == 25
    assert begin.astimezone(UTC).hour == 22


def test_a_day_without_hours_counts_whole_and_is_named(client: Any) -> None:
    of = [(FIRST * 24 + hour, {"app": 1}, 1) for hour in range(24)]
    write_block(client, 0, CALLS, rows(CALLS, *of), is_daily=True)

    found = read_ledger(client, SHARDS, asked(D.DAY, zone=BERLIN))

    assert costs(found) == {("2024-10-04",): 24}
    assert (found.days_from, found.days_to) == (FIRST, FIRST)


class _Packing:
    """A client under whose reader a day is packed, right after the first look at what there is."""

    def __init__(self, client: Any, pack: Any) -> None:
        self._client, self._pack, self.looks = client, pack, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def pipeline(self, **how: Any) -> Any:
        self.looks += 1
        if self.looks == 2:
            self._pack()
        return self._client.pipeline(**how)


def test_what_is_packed_meanwhile_is_there_once(client: Any) -> None:
    those = rows(CALLS, *((FIRST * 24 + hour, {"app": 1}, 1) for hour in range(24)))
    write_loose(client, 1, CALLS, those)
    moving = _Packing(client, lambda: write_block(client, 1, CALLS, those))

    assert costs(read_ledger(moving, SHARDS, asked(D.APP))) == {(1,): 24}
    assert moving.looks > 2


@pytest.fixture
def users(client: Any) -> Any:
    """Users 7 and 8 of app 1, others, and calls that name nobody; app 2 has user 7 alone."""
    of = [(FIRST, {"app": 1, "name": 7}, 5), (FIRST, {"app": 1, "name": 8}, 3)]
    of += [(FIRST, {"app": 1}, 2), (FIRST, {"app": 2, "name": 7}, 9)]
    write_block(client, 0, USERS, rows(USERS, *of))
    write_loose(client, 1, USERS, rows(USERS, (FIRST + 1, {"app": 1, "name": 7}, 1)))
    at = FIRST * 24
    calls = [(at, {"app": 1, "task": 4}, 16), (at + 23, {"app": 2}, 9), (at + 30, {"app": 1}, 1)]
    write_loose(client, 0, CALLS, rows(CALLS, *calls))
    return client


def test_what_no_user_is_named_for_is_beside_the_users(users: Any) -> None:
    found = read_ledger(users, SHARDS, asked(D.APP, D.USER))

    assert costs(found) == {(1, 7): 6, (1, 8): 3, (1, 0): 2, (2, 7): 9}
    assert found.unnamed is not None
    assert costs(found, found.unnamed) == {(1,): 6}
    total = int(found.rows.values[:, COST].sum() + found.unnamed.values[:, COST].sum())
    assert costs(read_ledger(users, SHARDS, asked())) == {(): total}


def test_a_user_who_is_forgotten_counts_as_others_at_once(users: Any) -> None:
    users.sadd(keys.spent_gone(0), (7).to_bytes(8, "little"))

    found = costs(read_ledger(users, SHARDS, asked(D.APP, D.USER)))

    assert found == {(1, 7): 1, (1, 8): 3, (1, 0): 7, (2, 0): 9}


def test_others_without_a_sum_are_no_row(client: Any) -> None:
    those = rows(TAGS, (FIRST, {"app": 1, "name": 5}, 3), (FIRST, {"app": 1}, 0))
    those.values[1] = 0
    those.values[1, LedgerColumn.ROWS] = 1
    write_block(client, 0, TAGS, those)

    assert costs(read_ledger(client, SHARDS, asked(D.TAG))) == {(5,): 3}


def test_it_says_since_when_there_is_a_ledger(client: Any) -> None:
    assert read_ledger(client, SHARDS, asked()).since == (0, None)
    write_loose(client, 0, CALLS, rows(CALLS, (FIRST * 24 + 5, {}, 1)))
    client.hset(keys.meta(0), "ledger", b"0-0")
    client.hset(keys.meta(1), "ledger", b"%d-3" % BEGIN_MS)

    assert read_ledger(client, SHARDS, asked()).since == (BEGIN_MS, BEGIN_MS + 5 * HOUR_MS)


def test_what_is_damaged_is_counted_and_the_rest_is_there(client: Any) -> None:
    write_block(client, 0, CALLS, rows(CALLS, (FIRST * 24, {}, 1)))
    write_block(client, 1, CALLS, rows(CALLS, (FIRST * 24, {}, 2)))
    client.set(keys.spent_block(0, CALLS, FIRST), b"nothing")

    found = read_ledger(client, SHARDS, asked())

    assert costs(found) == {(): 2}
    assert found.n_damaged == 1


@pytest.mark.parametrize(
    "by", [(D.USER, D.TASK), (D.USER, D.TAG), (D.TAG, D.HOUR), (D.DAY, D.MONTH)], ids=str
)
def test_what_is_not_kept_together_is_refused(by: tuple[Dimension, ...]) -> None:
    with pytest.raises(UnknownTogether):
        asked(*by)


def test_more_sums_than_an_answer_may_have_are_refused(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("telemetry.ledger_reading.MOST_GROUPS", 2)
    write_loose(client, 0, CALLS, rows(CALLS, *((FIRST * 24, {"app": n}, 1) for n in (1, 2, 3))))

    with pytest.raises(TooManyGroups):
        read_ledger(client, SHARDS, asked(D.APP))
    assert costs(read_ledger(client, SHARDS, asked())) == {(): 3}


def test_a_month_of_blocks_sums_up_to_what_was_packed(client: Any) -> None:
    sums = fill(client, 3000)
    since_ms = FIRST_DAY * DAY_MS
    for by, zone in QUERIES.values():
        question = LedgerQuestion(since_ms, since_ms + N_DAYS * DAY_MS, by, zone)

        found = read_ledger(client, N_SHARDS, question).rows.values

        assert [int(found[:, column].sum()) for column in EXACT] == sums
