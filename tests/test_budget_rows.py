"""What is folded of the accounts of budgets: how rows are written and read back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import fakeredis
import pytest

from telemetry import keys
from telemetry.budget_accounts import BudgetPeriod
from telemetry.budget_rows import (
    NOTHING_FOLDED,
    FoldedSpend,
    account_field,
    day_of,
    holder_field,
    pack_account,
    period_of_row,
    read_folded,
    read_folded_by,
    read_folded_of,
)

HOUR = BudgetPeriod(7, 86_400 - 3600, 3600)  # ends as a day begins
MONTH = BudgetPeriod(2**64 - 1, 0, 31 * 86_400)
ONE, OTHER = b"1" * 16, b"2" * 16


@pytest.fixture
def client() -> Any:
    return fakeredis.FakeRedis()


def test_an_account_is_what_all_shards_have_of_it(client: Any) -> None:
    client.hset(keys.budget_rows(0, 1), account_field(HOUR), pack_account(FoldedSpend(5, 1), 3600))
    client.hset(keys.budget_rows(1, 1), account_field(HOUR), pack_account(FoldedSpend(7, 2), 3600))
    client.hset(keys.budget_rows(1, 31), account_field(MONTH), b"1:1:2678400")

    found = read_folded(client, 2, [MONTH, HOUR, replace(HOUR, digest=8)])

    assert found == [FoldedSpend(1, 1), FoldedSpend(12, 3), NOTHING_FOLDED]
    assert read_folded(client, 2, []) == []


def test_a_holder_is_told_from_others_of_its_account(client: Any) -> None:
    client.hset(keys.budget_rows(0, 1), holder_field(HOUR, ONE), 5)
    client.hset(keys.budget_rows(1, 1), holder_field(HOUR, ONE), 6)
    client.hset(keys.budget_rows(1, 1), holder_field(HOUR, OTHER), 100)

    assert read_folded_of(client, 2, HOUR, ONE) == 11
    assert read_folded_by(client, 2, [(HOUR, OTHER), (MONTH, ONE), (HOUR, ONE)]) == [100, 0, 11]


def test_more_accounts_than_one_command_asks_for_come_back_in_their_order(client: Any) -> None:
    accounts = [BudgetPeriod(n, 0, 3600 + 86_400 * (n % 2)) for n in range(2500)]
    for account in accounts:
        row = pack_account(FoldedSpend(account.digest, 1), account.length_s)
        client.hset(keys.budget_rows(0, day_of(account)), account_field(account), row)

    found = read_folded(client, 1, accounts)

    assert [spend.amount for spend in found] == list(range(2500))


def test_a_row_names_its_period() -> None:
    row = pack_account(FoldedSpend(5, 1), MONTH.length_s)

    assert period_of_row(account_field(MONTH), row) == MONTH
