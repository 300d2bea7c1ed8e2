"""A budget for the demo's calls: an hour's, of an hour that ends as they do.

Hours are those of a time zone. The demo makes one whose minutes are such that an hour ends as the
last call is due: so a budget of the usual kind ends within a minute, and nobody waits for a clock.
"""

from __future__ import annotations

import os
import struct
import time
import zoneinfo
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from router.budgets.periods import period_of
from router.config.budgets import NANO
from router.config.compiled import Configuration
from router.demo.client import ClientLedger
from telemetry.budget_accounts import BudgetPeriod
from telemetry.budget_rows import read_folded
from telemetry.recorded import Recorded
from telemetry.store import Address, connect

BUDGET, ZONE = "demo", "Demo/Hour"
START_S = 3.0
"""Until the sidecar has taken the budget over."""
DEFAULT_CALLS_PER_S = 40.0
HOUR_S = 3600


@dataclass(frozen=True, slots=True)
class DemoBudget:
    """What the calls may come to, and when they come."""

    usd: float
    begins_s: float  # epoch seconds
    ends_s: int

    def entry(self) -> dict[str, Any]:
        """Return the budget as it is configured."""
        return {
            BUDGET: {"per": "hour", "timezone": ZONE, "usd": self.usd, "on_spent": "cheapest"},
        }


def plan_budget(usd: float, *, requests: int, calls_per_s: float, directory: Path) -> DemoBudget:
    """Return a budget whose hour ends once the calls are made.

    Args:
        directory: where zones are kept.

    Raises:
        ValueError: the calls take an hour or more.
    """
    lasts_s = requests / calls_per_s
    if lasts_s + START_S >= HOUR_S:
        raise ValueError(f"{requests} calls at {calls_per_s:g} a second take an hour or more")
    ends_s = int(time.time() + START_S + lasts_s) + 1
    file = directory / ZONE
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(zone_file(-ends_s % HOUR_S))
    return DemoBudget(usd, ends_s - lasts_s, ends_s)


def keep_zones_in(directory: Path) -> Path:
    """Have this process and those that it starts find time zones in a directory; return it."""
    paths = [str(directory), *(path for path in zoneinfo.TZPATH if path != str(directory))]
    os.environ["PYTHONTZPATH"] = os.pathsep.join(paths)
    zoneinfo.reset_tzpath(to=paths)
    zoneinfo.ZoneInfo.clear_cache(only_keys=[ZONE])
    return directory


def zone_file(ahead_s: int) -> bytes:
    """Return a compiled time zone that is always so many seconds ahead of UTC.

    Ref: RFC 8536, version 1.
    """
    name = b"DEMO\0"
    counts = struct.pack(">6l", 0, 0, 0, 0, 1, len(name))
    return b"TZif" + bytes(16) + counts + struct.pack(">lBB", ahead_s, 0, 0) + name


def budget_figures(
    address: Address,
    configuration: Configuration,
    budget: DemoBudget | None,
    table: Recorded,
    ledger: ClientLedger,
) -> dict[str, Any]:
    """Return what became of the budget; nothing where there is none.

    Raises:
        redis.RedisError: the store is away.
    """
    if budget is None:
        return {}
    (own,) = configuration.budgets
    account = BudgetPeriod(own.digest, *period_of(own.span, own.timezone, budget.begins_s))
    with closing(connect(address)) as client:
        (folded,) = read_folded(client, configuration.store.shards, [account])
    answered = ledger.served >= 0
    reached = table.quality[ledger.prompts[answered], ledger.served[answered]]
    return {
        "budget_usd": budget.usd,
        "budget_spent_usd": folded.amount / NANO,
        "budget_spent_share": folded.amount / own.limit,
        "budget_calls": folded.n_calls,
        "quality_in_budget": float(np.mean(reached)) if reached.size else None,
    }


def budget_line(figures: dict[str, Any]) -> str:
    """Return it as one line."""
    return (
        f"budget: {figures['budget_spent_usd']:.4f} of {figures['budget_usd']:.4f} USD were spent "
        f"({figures['budget_spent_share']:.1%}) by {figures['budget_calls']} calls, with quality "
        f"{figures['quality_in_budget'] or 0.0:.3f}"
    )
