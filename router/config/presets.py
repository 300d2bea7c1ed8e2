"""Strategies that there are without a line of configuration."""

from __future__ import annotations

from router.config.policies import Stakes
from router.config.strategies import Exchangeable, ObjectiveKind, StrategyEntry
from router.endpoints.capabilities import Capability

CODING_CONTEXT_TOKENS = 32_000
"""What a few files and their tests take. Both that are called 32k, 32,000 and 32,768, have it."""

PRESETS = {
    "quality": StrategyEntry(objective=ObjectiveKind.QUALITY),
    "cheapest": StrategyEntry(objective=ObjectiveKind.CHEAPEST),
    "fastest": StrategyEntry(objective=ObjectiveKind.FASTEST),
    "same-model": StrategyEntry(exchange=Exchangeable.EQUIVALENTS),
    "pinned": StrategyEntry(exchange=Exchangeable.NONE),
    "private": StrategyEntry(private=True),
    "coding": StrategyEntry(
        objective=ObjectiveKind.CHEAPEST,
        require=[Capability.TOOLS, Capability.SCHEMA, Capability.PROMPT_CACHE],
        min_context_tokens=CODING_CONTEXT_TOKENS,
    ),
    "legal": StrategyEntry(
        stakes=Stakes.HIGH,
        keep_nothing=True,
        require_jurisdictions=True,
        usual_retention_days=0,
    ),
}
"""By name, as they could be written. Whatever is written under one of these names extends it."""
ALIASES = {"performance": "quality", "privacy": "private"}
"""Other names of presets, unless they are written as one's own."""
STARTS = {**PRESETS, ObjectiveKind.BALANCED.value: StrategyEntry(objective=ObjectiveKind.BALANCED)}
"""What may be extended without being written. `balanced` has no trade of its own to be used by."""


def preset_named(name: str) -> StrategyEntry | None:
    """Return the preset that a name means, whatever is written under it; None where it is none."""
    return STARTS.get(ALIASES.get(name, name))
