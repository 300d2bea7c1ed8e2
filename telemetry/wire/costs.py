"""What a call cost by the provider's own word, in whichever form it says so.

| form | who |
|---|---|
| `usage.cost` in USD; where the key is ours beside what `cost_details` say | OpenRouter |
| `usage.cost` with a `total_cost` in USD | Perplexity |
| `usage.cost_in_usd_ticks`, ten thousand million a USD | xAI |
| `usage.estimated_cost` in USD | DeepInfra |
| header `x-litellm-response-cost` in USD | LiteLLM, and gateways that follow it |

A usage whose cost is 0 says that the call was free. Not so the header: gateways send a 0 there
for what they know no price of.
"""

from __future__ import annotations

import math
from typing import Any

NANO = 1_000_000_000
TICKS_PER_NANO = 10
MOST_USD = 10_000
"""No single call costs more; beyond it the number is in another unit."""
MOST_DIGITS = 40
"""Of a number that is written as text."""
COSTS = frozenset({"cost", "cost_in_usd_ticks", "estimated_cost"})
"""Names in a usage under which a cost may stand."""
COST_HEADER = b"x-litellm-response-cost"
TIER_HEADER = b"x-gemini-service-tier"
"""Google says there which tier served."""


def reported_nano(usage: dict[str, Any]) -> int | None:
    """Return what a usage says that its call cost, in nano-USD; None where it says nothing."""
    ticks = usage.get("cost_in_usd_ticks")
    if isinstance(ticks, int) and not isinstance(ticks, bool):
        return ticks // TICKS_PER_NANO if 0 <= ticks <= MOST_USD * NANO * TICKS_PER_NANO else None
    cost = usage.get("cost")
    if isinstance(cost, dict):
        return _nano(cost.get("total_cost"))
    if cost is None:
        return _nano(usage.get("estimated_cost"))
    own, details = _nano(cost), usage.get("cost_details")
    upstream = _nano(details.get("upstream_inference_cost")) if isinstance(details, dict) else None
    # Of a call that the upstream provider bills itself the cost is the cut of who passed it on.
    if usage.get("is_byok") is True and upstream is None and not own:
        return None
    is_beside = usage.get("is_byok", (upstream or 0) > (own or 0)) is True
    return (own or 0) + (upstream or 0) if is_beside else own


def nano_in(value: bytes) -> int | None:
    """Return what a header says that the call cost in USD, in nano-USD; None: nothing."""
    return _nano(value.decode("latin-1")) or None


def _nano(usd: Any) -> int | None:
    """Return an amount in nano-USD, also of one that is written as text; None of what is none."""
    if isinstance(usd, str) and len(usd) <= MOST_DIGITS:
        try:
            usd = float(usd)
        except ValueError:
            return None
    if isinstance(usd, bool) or not isinstance(usd, int | float):
        return None
    return round(usd * NANO) if math.isfinite(usd) and 0 <= usd <= MOST_USD else None
