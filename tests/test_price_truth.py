"""Alarms on prices: of attempts that were booked by the very entry that they accuse."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_ledger_fold import AT_ONCE, DAY, PRICES, Books

from router.config.compiled import Configuration, compile_text
from router.dispatch.booking import undrawn_token
from router.dispatch.costs import settle_price
from router.dispatch.ending import Ending
from router.dispatch.records import outcome
from router.intake.spent import ended_of
from router.report.price_truth import PriceDoubt, find_doubts
from telemetry import keys
from telemetry.events import Flag
from telemetry.ingest import Outcome
from telemetry.ledger_rows import DAY_MS
from telemetry.wire.usage import Usage
from workers.archive.audit import audit_state

NOW_MS = DAY * DAY_MS + DAY_MS // 2
FINAL = int(Flag.FINAL)
WRONG = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
RIGHT = {"input_usd_per_mtok": 1.05, "output_usd_per_mtok": 2.1}
TODAY = time.strftime("%Y-%m-%d", time.gmtime(NOW_MS / 1000))
BILLED_NANO = 100 * 1050 + 10 * 2100
"""What the provider bills of each call."""


def configuration(prices: Any) -> Configuration:
    one = {"id": "or2", "model": "m", "base_url": "http://h/v1", "prices": prices}
    return compile_text(yaml.safe_dump({"endpoints": [one]}), file="t.yaml", secrets=False)


@pytest.fixture
def books(client: Any, state_dir: Path) -> Books:
    return Books(client, state_dir / "archive")


def called(books: Books, by: Configuration, n: int, *, reported: int | None = BILLED_NANO) -> None:
    """Calls that were booked under a configuration."""
    found = by.catalog.by_id["or2"]
    for _ in range(n):
        ended = Ending(usage=Usage(100, 10, 0, 0, reported_nano=reported))
        settle_price(ended, found.prices, at_s=NOW_MS / 1000, tier=None)
        tell(books, by, ended)
    books.fold()


def tell(books: Books, by: Configuration, ended: Ending) -> None:
    token = undrawn_token(
        books.n.to_bytes(16, "big"),
        key_id=1,
        n_shards=1,
        at_ms=NOW_MS,
        endpoint=by.catalog.by_id["or2"].digest,
        task="general",
        app=by.apps["default"],
    )
    books.tell(outcome(token, ended, app="default", flags=FINAL, reference=None))


def doubts(books: Books, by: Configuration) -> list[PriceDoubt]:
    return find_doubts(books.client, by.catalog, n_shards=1, now_s=NOW_MS / 1000)


@pytest.mark.parametrize(
    "corrected", [RIGHT, [WRONG, {**RIGHT, "from": TODAY}]], ids=["in place", "from today"]
)
def test_an_alarm_ends_when_its_price_is_corrected(books: Books, corrected: Any) -> None:
    wrong, right = configuration(WRONG), configuration(corrected)
    called(books, wrong, 111)
    (doubt,) = doubts(books, wrong)

    assert (doubt.attempts, doubt.by_price_usd) == (111, 111 * 120_000 / 1e9)
    assert doubt.reported_usd == 111 * BILLED_NANO / 1e9
    assert doubts(books, right) == []
    called(books, right, 110)
    assert doubts(books, right) == []


def test_a_right_price_that_is_made_wrong_in_place_is_found(books: Books) -> None:
    right, wrong = configuration(RIGHT), configuration(WRONG)
    called(books, right, 5000)
    called(books, wrong, 99)
    assert doubts(books, wrong) == []
    called(books, wrong, 1)

    (doubt,) = doubts(books, wrong)

    assert doubt.attempts == 100
    assert "5.0% more" in doubt.line
    assert doubts(books, right) == []


def test_a_cost_that_an_app_tells_accuses_no_price(books: Books) -> None:
    """What it tells of tokens alone is booked by the price, and may."""
    by = configuration(WRONG)
    found = by.catalog.by_id["or2"]
    told = {"endpoint": "or2", "tokens_in": 100, "tokens_out": 10, "reported_cost_usd": 2}
    for _ in range(120):
        tell(books, by, ended_of(Outcome(cost_usd=1, **told), found, at_ms=NOW_MS))
    books.fold()
    assert doubts(books, by) == []
    for _ in range(120):
        tell(books, by, ended_of(Outcome(**told), found, at_ms=NOW_MS))
    books.fold()

    (doubt,) = doubts(books, by)

    assert (doubt.attempts, doubt.reported_usd) == (120, 240)


def test_a_price_of_what_its_provider_calls_free_is_in_doubt(books: Books) -> None:
    by, free = configuration(WRONG), configuration({**WRONG, **dict.fromkeys(WRONG, 0)})
    called(books, by, 200, reported=None)
    assert doubts(books, by) == []
    called(books, by, 100, reported=0)
    called(books, free, 100, reported=0)

    (doubt,) = doubts(books, by)

    assert "100.0% less" in doubt.line
    assert doubt.attempts == 100
    assert doubts(books, free) == []


def test_sums_of_prices_are_packed_audited_and_read_as_they_were(books: Books) -> None:
    by = configuration(WRONG)
    called(books, by, 100)
    books.archive.take(now_ms=NOW_MS, limits=AT_ONCE)
    before = doubts(books, by)
    assert [len(rows) for (table, _), rows in books.loose().items() if table is PRICES] == [1]
    assert audit_state(books.archive).equal
    books.shard.prune(token=books.lease.token, clock_ms=NOW_MS + 5 * DAY_MS)

    assert books.client.exists(keys.spent_block(0, PRICES, DAY))
    assert doubts(books, by) == before != []
    assert audit_state(books.archive).equal
