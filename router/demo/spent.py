"""What the demo's ledger says was spent, held against the simulated endpoints' own books."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from router.config.compiled import Configuration
from router.demo.simulator import ProviderBooks
from router.report.ledger import answer, summed
from router.report.ledger_table import usd
from router.report.ledger_wish import read_wish
from telemetry.ledger_rows import LedgerColumn
from telemetry.store import Address, connect


@dataclass(frozen=True, slots=True)
class DemoSpend:
    """Nano-USD by endpoint, as `pointsman spend` has them and as the endpoints bill them."""

    booked: dict[str, int]
    billed: dict[str, int]
    n_estimated: int = 0  # attempts whose usage nobody told: of them the two may differ

    @property
    def difference(self) -> int:
        """By how much they differ, endpoint by endpoint."""
        names = self.booked.keys() | self.billed.keys()
        return sum(abs(self.booked.get(name, 0) - self.billed.get(name, 0)) for name in names)

    def as_json(self) -> dict[str, Any]:
        """Return the figures."""
        return {
            "spent_nano_usd": sum(self.booked.values()),
            "billed_nano_usd": sum(self.billed.values()),
            "spend_difference_nano_usd": self.difference,
            "spend_estimated": self.n_estimated,
        }

    def line(self) -> str:
        """Return it as one line."""
        booked, billed = (usd(sum(x.values())) for x in (self.booked, self.billed))
        guessed = f"; {self.n_estimated} attempts are estimated" if self.n_estimated else ""
        return (
            f"spend: {booked} USD by the ledger, {billed} USD by the simulated endpoints' own "
            f"books: difference {usd(self.difference)}{guessed}"
        )


def read_spend(
    address: Address, configuration: Configuration, books: ProviderBooks, endpoints: Sequence[str]
) -> DemoSpend:
    """Return what `pointsman spend --by endpoint` says, beside what the endpoints bill.

    Raises:
        redis.RedisError: the store is away.
    """
    wish = read_wish({"by": "endpoint"}, now_s=time.time())
    with closing(connect(address)) as client:
        found = answer(client, configuration, wish)
    booked = {str(row.labels[0]): int(row.sums[LedgerColumn.COST]) for row in found.rows}
    billed = np.zeros(len(endpoints), dtype=np.int64)
    np.add.at(billed, books.bills[:, 1], books.bills[:, 3])
    n_estimated = int(summed(found.rows)[LedgerColumn.ESTIMATED])
    return DemoSpend(booked, dict(zip(endpoints, billed.tolist(), strict=True)), n_estimated)
