"""What it is to permit more, field by field: the referee of merged rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from router.config.rules import PolicyRules

NARROWER = ("regions", "jurisdictions", "zones", "allow")
LESS = ("retention_days", "cost_usd", "latency_ms")
WIDER = ("deny", "tools")
BITS = ("require", "forbid")
WORDS = ("no_training", "keep_nothing", "private", "high_stakes", "no_exploring")
HOLDS: dict[str, Callable[[Any, Any], bool]] = {
    "data_class": lambda before, after: after is not None and after.level >= before.level,
    "context_tokens": lambda before, after: after is not None and after >= before,
    **dict.fromkeys(NARROWER, lambda before, after: after is not None and after <= before),
    **dict.fromkeys(LESS, lambda before, after: after is not None and after <= before),
    **dict.fromkeys(WIDER, lambda before, after: after >= before),
    **dict.fromkeys(BITS, lambda before, after: not before & ~after),
    **dict.fromkeys(WORDS, lambda before, after: after or not before),
}
"""By hard field whether what one value asks for is asked for by another, too."""


def loosened(before: PolicyRules, after: PolicyRules) -> list[str]:
    """Return the names of the hard fields in which other rules permit something more."""
    pairs = {name: (getattr(before, name), getattr(after, name)) for name in HOLDS}
    asked = {name: pair for name, pair in pairs.items() if pair[0] is not None}
    return [name for name, (was, now) in asked.items() if not HOLDS[name](was, now)]
