"""How accounts of money come along: what was known of it before, and what is learned of it.

Records are read from the store once, as this process begins; from then on it goes by its own, and
writes them every few seconds. All sidecars of a store count the same calls, so it does not matter
who wrote last.
"""

from __future__ import annotations

from bandit.pacing import Price
from router.budgets.expected_calls import CallsSince
from router.budgets.kept_prices import PaceRecord, first_record, read_records, write_records
from telemetry.budget_accounts import BudgetPeriod
from telemetry.store import Client

KEEP_EVERY_S = 5.0
AT_START_S = 5.0
"""An account first looked at so soon in its period is counted from the beginning."""


class AccountPaces:
    """The pace of each account, by its digest."""

    def __init__(self) -> None:
        self._records: dict[int, PaceRecord] | None = None  # None: not read yet
        self._changed: set[int] = set()
        self._kept_s = 0.0

    def load(self, client: Client, *, now_s: float) -> None:
        """Take over what is kept, once.

        Raises:
            redis.RedisError: the store is away.
        """
        if self._records is None:
            self._records = read_records(client, now_s=now_s)

    def noted(self, account: BudgetPeriod, n_calls: int, at_s: float) -> PaceRecord | None:
        """Return an account's record, with how many calls it has by now; None of an old period."""
        records = self._records if self._records is not None else {}
        found = records.get(account.digest)
        if found is None:
            found = first_record(account, n_calls, at_s)
        elif found.now.start_s < account.start_s:
            found = found.begins_anew(account, n_calls, at_s)
        elif found.now.start_s > account.start_s:
            return None
        if not found.now.n and at_s < account.start_s + AT_START_S:
            found.since = CallsSince(account.start_s, 0)
        found.now.note(n_calls, at_s)
        records[account.digest] = found
        self._changed.add(account.digest)
        return found

    def take(self, digest: int, price: Price, at_s: float) -> None:
        """Take over what was solved for an account."""
        if self._records is not None and digest in self._records:
            self._records[digest].take(price, at_s)

    def prices(self, now_s: float) -> dict[int, Price]:
        """Return with which price each account begins, until one is solved."""
        records = self._records or {}
        found = {digest: record.price_in(now_s) for digest, record in records.items()}
        return {digest: price for digest, price in found.items() if price is not None}

    def of(self, account: BudgetPeriod) -> PaceRecord | None:
        """Return an account's record, if it is of this period."""
        found = (self._records or {}).get(account.digest)
        return found if found is not None and found.now.start_s == account.start_s else None

    def keep(self, client: Client, *, now_s: float, at_once: bool = False) -> None:
        """Write down what changed, every few seconds.

        Raises:
            redis.RedisError: the store is away.
        """
        if self._records is None or not (at_once or now_s - self._kept_s >= KEEP_EVERY_S):
            return
        write_records(client, [(d, self._records[d]) for d in self._changed if d in self._records])
        self._changed.clear()
        self._kept_s = now_s
