"""How budgets stand, as gauges: of the accounts in use in this process, summed by budget."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from router.budgets.standings import as_written
from router.config.compiled import Configuration
from telemetry.metrics import EndpointGauge

ALLOWED = "What its accounts in use here may spend in this period: USD, tokens or calls."
FOLDED = "What is folded of these accounts in this period, whichever sidecar spent it."


def budget_gauges(
    configuration: Configuration, totals: Mapping[str, tuple[int, int]]
) -> Iterator[EndpointGauge]:
    """Yield limit and spend of each budget; no user is named in them.

    Args:
        totals: by budget, limits and spends of the accounts in use, in the integers of its unit.
    """
    limits, spends = dict[tuple[str, ...], float](), dict[tuple[str, ...], float]()
    for budget in configuration.budgets:
        labels = budget.name, budget.unit.value
        limit, spent = totals.get(budget.name, (None, None))
        if limit is None and not budget.each:
            limit = budget.limit
        if limit is not None:
            limits[labels] = as_written(limit, budget.unit)
        if spent is not None:
            spends[labels] = as_written(spent, budget.unit)
    yield EndpointGauge("router_budget_limit", ALLOWED, "unit", limits, of="budget")
    yield EndpointGauge("router_budget_spent", FOLDED, "unit", spends, of="budget")
