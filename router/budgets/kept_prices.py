"""What is known of the pace of accounts of money, as the store keeps it over restarts.

One field an account of a budget, whatever the period: the price as it stands, how its calls came
in this period, and in the one before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec import Struct

from bandit.pacing import Price
from router.budgets.expected_calls import CallCurve, CallsSince
from telemetry import keys
from telemetry.budget_accounts import BudgetPeriod
from telemetry.store import Client

PriceParts = tuple[float, float, float]
KEPT_PERIODS, KEPT_AT_LEAST_S = 3, 2 * 86_400
"""After a period's end; then nobody asks."""
USUAL_UNTIL = 0.9
"""Which part of a period tells what its price usually is: at the end it may be anything."""


class PaceRecord(Struct):
    """An account's pace."""

    now: CallCurve
    since: CallsSince
    last: CallCurve | None = None
    price: PriceParts | None = None  # as solved last in this period
    usual: PriceParts | None = None  # of the part of a period in which most of it is to come

    @property
    def ends_s(self) -> int:
        """When its period ends."""
        return self.now.start_s + self.now.length_s

    def begins_anew(self, account: BudgetPeriod, n_calls: int, at_s: float) -> PaceRecord:
        """Return the record of the same account's next period."""
        last = self.now if self.now.start_s + 2 * self.now.length_s > account.start_s else None
        return PaceRecord(_curve(account), CallsSince(at_s, n_calls), last, None, self.usual)

    def take(self, price: Price, at_s: float) -> None:
        """Take over what was solved."""
        self.price = price.low, price.high, price.p_low
        if at_s < self.now.start_s + USUAL_UNTIL * self.now.length_s:
            self.usual = self.price

    def price_in(self, at_s: float) -> Price | None:
        """Return the price to begin with."""
        parts = self.price if at_s < self.ends_s and self.price is not None else self.usual
        return Price(*parts) if parts is not None else None


def first_record(account: BudgetPeriod, n_calls: int, at_s: float) -> PaceRecord:
    """Return the record of an account of which nothing was known."""
    return PaceRecord(_curve(account), CallsSince(at_s, n_calls))


def _curve(account: BudgetPeriod) -> CallCurve:
    return CallCurve(account.start_s, account.length_s, [])


def read_records(client: Client, *, now_s: float) -> dict[int, PaceRecord]:
    """Return all records by digest of the account; those that are old go.

    Raises:
        redis.RedisError: the store is away.
    """
    found: dict[int, PaceRecord] = {}
    gone = []
    for name, text in client.hgetall(keys.BUDGET_PRICES).items():
        try:
            record = msgspec.json.decode(text, type=PaceRecord)
            digest = int(name, 16)
        except (msgspec.MsgspecError, ValueError):
            gone.append(name)
            continue
        length_s = record.now.length_s
        if now_s > record.ends_s + max(KEPT_PERIODS * length_s, KEPT_AT_LEAST_S):
            gone.append(name)
        else:
            found[digest] = record
    if gone:
        client.hdel(keys.BUDGET_PRICES, *gone)
    return found


def read_prices(client: Client, digests: Sequence[int], *, now_s: float) -> dict[int, Price]:
    """Return the prices of some accounts, as they were last kept; of others there is none.

    Raises:
        redis.RedisError: the store is away.
    """
    if not digests:
        return {}
    found = {}
    texts = client.hmget(keys.BUDGET_PRICES, [f"{digest:016x}" for digest in digests])
    for digest, text in zip(digests, texts, strict=True):
        try:
            price = msgspec.json.decode(text or b"", type=PaceRecord).price_in(now_s)
        except msgspec.MsgspecError:
            continue
        if price is not None:
            found[digest] = price
    return found


def write_records(client: Client, records: Iterable[tuple[int, PaceRecord]]) -> None:
    """Keep records, by digest of the account.

    Raises:
        redis.RedisError: the store is away.
    """
    fields: Mapping[str | bytes, bytes] = {
        f"{digest:016x}": msgspec.json.encode(record) for digest, record in records
    }
    if fields:
        client.hset(keys.BUDGET_PRICES, mapping=dict(fields))
