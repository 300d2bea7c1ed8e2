"""What an attempt cost."""

from __future__ import annotations

from collections.abc import Mapping

from router.dispatch.attempt import Attempt


def cost_nano(attempt: Attempt, *, at_s: float) -> int | None:
    """Return what an attempt cost in nano-USD; None where usage or price is not known.

    That is what it cost more than not to make it: nothing where a subscription had room for it,
    and of a machine that is paid by the hour its share while it was busy.

    Args:
        at_s: epoch seconds.
    """
    endpoint, usage = attempt.endpoint, attempt.usage
    prices = endpoint.prices
    if endpoint.terms.is_subscribed and attempt.had_headroom:
        return 0 if usage is not None else None
    if prices is None:
        return None
    if prices.only is not None:
        return None if usage is None else prices.only.nano(usage)
    tier = None
    if prices.has_tiers and attempt.outgoing is not None and usage is not None:
        tier = usage.tier or _asked_tier(attempt.outgoing.fields(endpoint))
    return prices.nano(usage, at_s, tier=tier, machine_s=attempt.machine_s)


def _asked_tier(fields: Mapping[str, bytes]) -> str | None:
    """Return the service tier that a call asks for."""
    return fields.get("service_tier", b"").decode("utf-8", "replace").strip(' "') or None
