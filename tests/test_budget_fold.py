"""What attempts came to in accounts of budgets is folded once, whatever happens on the way."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_ledger_fold import AT_ONCE, NOW_MS, Books, attempt

from telemetry import decoding, keys
from telemetry.budget_accounts import MAX_AMOUNT, BudgetAccounts, BudgetPeriod, TakeAsked
from telemetry.budget_layout import MAX_ACCOUNTS, MAX_LENGTH_S, SPEND_RECORD
from telemetry.budget_rows import FoldedSpend, day_of, holder_field, read_folded, read_folded_of
from telemetry.budget_spends import BudgetSpend, spend_record
from telemetry.events import RECORD_SIZE, sealed
from telemetry.store import prepare
from telemetry.tokens import Token
from workers.archive.audit import audit_state
from workers.archive.restore import restore
from workers.folding.batch import DAY_MS

NOW_S = NOW_MS // 1000
HOUR = BudgetPeriod(7, NOW_S - 900, 3600)  # it outlasts the tests, whatever the time of day
DAY = BudgetPeriod(8, NOW_S - 3600, 86_400)
ONE, OTHER = b"one-one-one-one-", b"other-other-oth\0"
N_AT, FIRST_AT = ((SPEND_RECORD.fields or {})[name][1] for name in ("n", "spends"))
"""Where a record says how many spends it has, and has the first one."""
LENGTH_AT, SUM_AT, IS_CALL_AT, NEXT_AT = (FIRST_AT + n for n in (12, 16, 24, 25))


def spend(nonce: int, *spends: BudgetSpend, holder: bytes = ONE) -> bytes:
    body = Token(
        *(1, 0, 0, nonce.to_bytes(16, "big"), NOW_MS, 3, 2, 10, 4, 1, 6, 7), *(0.5, 0.5, 0.1, 0.4)
    ).pack()
    return spend_record(body, holder, spends)


def changed(record: bytes, at: int, value: bytes) -> bytes:
    """The record with other bytes somewhere, and a checksum that fits."""
    return sealed((record[:at] + value + record[at + len(value) :])[:-8])


@pytest.fixture
def books(client: Any, state_dir: Path) -> Books:
    return Books(client, state_dir / "archive")


def folded(books: Books) -> tuple[list[FoldedSpend], list[int]]:
    each = [(account, holder) for account in (HOUR, DAY) for holder in (ONE, OTHER)]
    rows = read_folded(books.client, 1, [HOUR, DAY])
    return rows, [read_folded_of(books.client, 1, *held) for held in each]


def test_each_account_and_each_of_its_holders_gets_what_records_say_once(books: Books) -> None:
    books.tell(
        spend(1, BudgetSpend(HOUR, 5, True), BudgetSpend(DAY, 7)),
        attempt(1, cost_nano=5),
        spend(2, BudgetSpend(HOUR, 11), holder=OTHER),
    )
    books.fold()
    books.begin()  # another one takes over
    frame = books.tell(spend(3, BudgetSpend(HOUR, 100, True), BudgetSpend(DAY, 0, True)))
    books.client.xadd(keys.stream(0), {"f": frame})  # sent again
    books.fold()

    assert folded(books) == ([FoldedSpend(116, 2), FoldedSpend(7, 1)], [105, 11, 7, 0])
    assert books.client.hget(keys.meta(0), "n_outcomes") == b"1"
    assert not books.client.exists(keys.dead(0))
    assert books.client.hget(keys.meta(0), "n_repeated") == b"1"


def test_however_records_are_grouped_they_add_up_to_the_same(books: Books) -> None:
    dice, sums, n_calls, held = random.Random(3), Counter[int](), Counter[int](), Counter[Any]()
    accounts = [replace(DAY, digest=n) for n in range(MAX_ACCOUNTS)]
    for nonce in range(60):
        some = dice.sample(accounts, dice.randint(1, MAX_ACCOUNTS))
        spends = [BudgetSpend(a, dice.randint(0, 10**12), dice.random() < 0.5) for a in some]
        holder = dice.choice((ONE, OTHER))
        for account, amount, is_call in spends:
            sums[account.digest] += amount
            n_calls[account.digest] += is_call
            held[account.digest, holder] += amount
        books.tell(spend(nonce, *spends, holder=holder))
        if dice.random() < 0.2:
            books.fold()
    books.fold()

    found = read_folded(books.client, 1, accounts)
    assert found == [FoldedSpend(sums[n], n_calls[n]) for n in range(MAX_ACCOUNTS)]
    for (digest, holder), amount in held.items():
        assert read_folded_of(books.client, 1, accounts[digest], holder) == amount


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (N_AT, b"\0"),
        (N_AT, bytes([MAX_ACCOUNTS + 1])),
        (SUM_AT, (-MAX_AMOUNT - 1).to_bytes(8, "little", signed=True)),
        (SUM_AT, (MAX_AMOUNT + 1).to_bytes(8, "little")),
        (LENGTH_AT, bytes(4)),
        (LENGTH_AT, (MAX_LENGTH_S + 1).to_bytes(4, "little")),
        (IS_CALL_AT, b"\2"),
    ],
)
def test_a_record_that_says_what_cannot_be_is_a_dead_letter(
    books: Books, at: int, value: bytes
) -> None:
    sound = spend(1, BudgetSpend(HOUR, 5, True))
    bad = changed(sound, at, value)
    assert bad != sound
    assert len(bad) == RECORD_SIZE

    books.tell(bad, spend(2, BudgetSpend(HOUR, 1)))
    books.fold()

    assert folded(books)[0][0] == FoldedSpend(1, 0)
    ((_, letter),) = books.client.xrange(keys.dead(0))
    assert letter[b"raw"] == bad


def test_what_is_behind_the_last_spend_of_a_record_says_nothing(books: Books) -> None:
    """Room for accounts that an attempt does not count in."""
    ok = changed(spend(1, BudgetSpend(HOUR, 5)), NEXT_AT, b"\xff" * 20)

    records, bad = decoding.decode(ok)

    assert (len(records), bad) == (1, [])


def test_a_sum_stays_at_its_most(books: Books) -> None:
    most = BudgetSpend(HOUR, MAX_AMOUNT, True)
    for _ in range(3):
        books.tell(*(spend(n, *[most] * MAX_ACCOUNTS) for n in range(200)))
    books.fold()

    assert folded(books)[0][0] == FoldedSpend(MAX_AMOUNT, 3 * 200 * MAX_ACCOUNTS)
    assert read_folded_of(books.client, 1, HOUR, ONE) == MAX_AMOUNT


def test_what_is_known_later_takes_the_place_of_what_was_reserved(books: Books) -> None:
    """Whoever was killed meanwhile has all of it in its row."""
    books.tell(spend(1, BudgetSpend(HOUR, 900)), spend(2, BudgetSpend(HOUR, 900)))
    books.fold()
    assert folded(books)[0][0] == FoldedSpend(1800, 0)

    books.tell(spend(2, BudgetSpend(HOUR, 7 - 900, True)), attempt(2, cost_nano=7))
    books.fold()

    assert folded(books) == ([FoldedSpend(907, 1), FoldedSpend()], [907, 0, 0, 0])


def test_a_row_whose_begin_was_lost_is_read_as_nothing(books: Books) -> None:
    books.tell(spend(1, BudgetSpend(HOUR, 7 - 900, True)))
    books.fold()
    assert folded(books) == ([FoldedSpend(0, 1), FoldedSpend()], [0, 0, 0, 0])

    books.tell(spend(2, BudgetSpend(HOUR, 1000)))
    books.fold()

    assert folded(books)[0][0] == FoldedSpend(107, 1)  # however it is grouped


def test_rows_go_a_week_after_their_periods_by_the_time_of_the_stream(books: Books) -> None:
    end_ms = (day_of(HOUR) + 1) * DAY_MS
    books.tell(spend(1, BudgetSpend(HOUR, 5, True)), at_ms=NOW_MS)
    books.fold()
    books.tell(attempt(1), at_ms=end_ms + 7 * DAY_MS - 1)
    books.fold()
    books.shard.prune(token=books.lease.token)
    assert folded(books)[0][0] == FoldedSpend(5, 1)

    books.tell(attempt(2), at_ms=end_ms + 7 * DAY_MS)
    books.fold()
    books.shard.prune(token=books.lease.token)

    assert folded(books)[0][0] == FoldedSpend(0, 0)
    assert not books.client.exists(keys.budget_rows(0, day_of(HOUR)), keys.budget_days(0))


def archive(books: Books) -> None:
    books.archive.take(now_ms=NOW_MS, limits=AT_ONCE)


def test_the_audit_follows_budgets_from_file_to_file_and_sees_a_row_that_is_wrong(
    books: Books,
) -> None:
    for n in range(3):
        books.tell(spend(n, BudgetSpend(HOUR, 5, True), BudgetSpend(DAY, 3)), attempt(n))
        books.fold()
        archive(books)
    books.tell(spend(9, BudgetSpend(HOUR, 5, True)))
    books.fold()
    sound = audit_state(books.archive)
    assert (sound.equal, sound.difference, sound.records) == (True, None, 7)

    books.client.hincrby(keys.budget_rows(0, day_of(DAY)), holder_field(DAY, ONE), 1)

    found = audit_state(books.archive)
    assert not found.equal
    assert found.difference is not None
    assert "9 by the records, 10 stored" in found.difference


def test_an_audit_forgets_with_the_learner(books: Books) -> None:
    books.tell(spend(1, BudgetSpend(HOUR, 5, True)), at_ms=NOW_MS)
    books.fold()
    archive(books)
    late_ms = NOW_MS + 10 * DAY_MS
    books.tell(attempt(2), at_ms=late_ms)
    books.fold()
    assert audit_state(books.archive).equal
    books.shard.prune(token=books.lease.token)

    assert audit_state(books.archive).equal
    books.archive.take(now_ms=late_ms, limits=AT_ONCE)
    assert audit_state(books.archive).equal


def test_a_restored_store_has_rows_and_accounts_know_what_each_holder_spent(books: Books) -> None:
    past = BudgetPeriod(9, NOW_S - 7200, 3600)
    books.tell(
        spend(1, BudgetSpend(HOUR, 5, True), BudgetSpend(DAY, 7), BudgetSpend(past, 1)),
        spend(2, BudgetSpend(HOUR, 11), holder=OTHER),
    )
    books.fold()
    archive(books)
    before = folded(books)
    books.client.flushall()

    restore(books.archive)

    assert folded(books) == before
    accounts = BudgetAccounts(books.client)
    read = accounts.read(HOUR)
    assert (read.debited, read.takes) == (16, {ONE.hex(): 5, OTHER.hex(): 11})
    assert accounts.read(past).takes == {}
    asked = TakeAsked(seq=1, mine=8, want=0, least=0, limit=100, lease_ms=1000)
    accounts.take(HOUR, ONE.hex(), asked)  # it lives, and has more than was archived
    assert accounts.read(HOUR).debited == 19
    books.lease.take()
    books.begin()
    books.tell(spend(3, BudgetSpend(HOUR, 100)))
    books.fold()
    assert folded(books)[0][0] == FoldedSpend(116, 1)
    assert audit_state(books.archive).equal


def test_a_base_holds_what_is_folded_of_budgets(books: Books) -> None:
    books.tell(spend(1, BudgetSpend(DAY, 5, True)))
    books.fold()
    archive(books)
    for path in books.archive.directory(0).glob("*.parquet"):
        path.unlink()
    books.tell(spend(2, BudgetSpend(DAY, 6, True)))
    books.fold()
    archive(books)
    books.client.flushall()
    restore(books.archive)

    assert folded(books)[0][1] == FoldedSpend(11, 2)


def test_a_store_of_schema_7_is_taken_over(books: Books) -> None:
    books.client.hset(keys.META, "schema", "7")
    incarnation = prepare(books.client, shards=1)
    books.begin()
    books.tell(spend(1, BudgetSpend(DAY, 5, True)))
    books.fold()

    assert prepare(books.client, shards=1) == incarnation
    assert books.client.hget(keys.META, "schema") == b"8"
    assert folded(books)[0][1] == FoldedSpend(5, 1)
