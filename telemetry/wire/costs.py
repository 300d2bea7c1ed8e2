"""What a call cost by the provider's own word, in whichever form it says so.

| form | who |
|---|---|
| `usage.cost` in USD; where the key is ours beside what `cost_details` say | OpenRouter |
| `usage.cost` with a `total_cost` in USD | Perplexity |
| `usage.cost_in_usd_ticks`, ten thousand million a USD | xAI |
| `usage.estimated_cost` in USD | DeepInfra |
| header `x-litellm-response-cost` in USD | LiteLLM, and gateways that follow it |

A cost of 0 says nothing: it is what some say who do not know the price.
"""

from __future__ import annotations

import math
from typing import Any

NANO = 1_000_000_000
TICKS_PER_NANO = 10
MOST_USD = 10_000
"""No single call costs more; beyond it the number is in another unit."""
COSTS = frozenset({"cost", "cost_in_usd_ticks", "estimated_cost"})
"""Names in a usage under which a cost may stand."""
COST_HEADER = b"x-litellm-response-cost"
TIER_HEADER = b"x-gemini-service-tier"
"""Google says there which tier served."""


def reported_nano(usage: dict[str, Any]) -> int:
    """Return what a usage says that its call cost, in nano-USD; 0 where it says nothing."""
    ticks = usage.get("cost_in_usd_ticks")
    if isinstance(ticks, int) and not isinstance(ticks, bool):
        return ticks // TICKS_PER_NANO if 0 < ticks <= MOST_USD * NANO * TICKS_PER_NANO else 0
    cost = usage.get("cost")
    if isinstance(cost, dict):
        return _nano(cost.get("total_cost"))
    if cost is None:
        return _nano(usage.get("estimated_cost"))
    own, details = _nano(cost), usage.get("cost_details")
    upstream = _nano(details.get("upstream_inference_cost")) if isinstance(details, dict) else 0
    # Of a call that the upstream provider bills itself the cost is the cut of who passed it on.
    is_beside = usage.get("is_byok", upstream > own) is True
    return own + upstream if is_beside else own


def nano_in(value: bytes) -> int:
    """Return what a header says that the call cost in USD, in nano-USD; 0: nothing."""
    try:
        return _nano(float(value))
    except ValueError:
        return 0


def _nano(usd: Any) -> int:
    """Return an amount in nano-USD; 0 of what is none."""
    if isinstance(usd, bool) or not isinstance(usd, int | float):
        return 0
    return round(usd * NANO) if math.isfinite(usd) and 0 < usd <= MOST_USD else 0
