"""What providers call their service tiers: of each word which tier it means."""

from __future__ import annotations

from types import MappingProxyType

from telemetry.events import ServiceTier

TIERS = MappingProxyType(
    {
        **dict.fromkeys(("default", "standard", "auto"), ServiceTier.USUAL),  # OpenAI; Anthropic
        "standard_only": ServiceTier.USUAL,  # Anthropic, as it is asked for
        "on_demand": ServiceTier.USUAL,  # Groq
        "service_tier_standard": ServiceTier.USUAL,  # Google, as its API's enumeration spells it
        "flex": ServiceTier.FLEX,  # OpenAI, Google, Groq
        "service_tier_flex": ServiceTier.FLEX,
        "priority": ServiceTier.PRIORITY,  # OpenAI, Anthropic, Google
        "service_tier_priority": ServiceTier.PRIORITY,
        "fast": ServiceTier.PRIORITY,  # OpenRouter's other word for it
        "performance": ServiceTier.PRIORITY,  # Groq
        "batch": ServiceTier.BATCH,  # Anthropic
        "scale": ServiceTier.SCALE,  # OpenAI
    }
)
"""By the word in lower case."""


def tier_named(word: str | None) -> ServiceTier:
    """Return which tier a provider's word means; OTHER where it is none that is known."""
    if word is None:
        return ServiceTier.USUAL  # most often
    found = TIERS.get(word)
    return TIERS.get(word.lower(), ServiceTier.OTHER) if found is None else found
