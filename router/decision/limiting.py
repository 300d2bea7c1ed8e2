"""Limits of strategies and calls, applied: hard ones exclude, soft ones say who is drawn. Pure.

What is believed of an endpoint changes with the posteriors, so a hard limit excludes beside every
other constraint: fresh draws, draws that are followed, stand-ins, fallbacks and calls that are not
routed alike. It goes before whatever diverts for a while only, such as a breaker, so that a last
resort is within it, too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bandit.limits import Limit, Limits
from router.beliefs.beliefs import Beliefs, Excluded, Within
from router.config.exclusions import Exclusion
from router.config.rules import PolicyRules
from router.endpoints.catalog import Catalog
from router.endpoints.token_sizes import TokenSizes
from router.policy.constraints import Eligibility, exclude
from router.policy.standing import AppStanding


class CallSize(Struct, frozen=True):
    """What a call may cost hangs on."""

    text_bytes: int
    max_tokens: int | None
    sizes: TokenSizes
    at_s: float  # epoch seconds


def within_limits(
    eligibility: Eligibility,
    usual: AppStanding,
    standing: AppStanding,
    rules: PolicyRules,
    beliefs: Beliefs,
    category: int,
    size: CallSize,
) -> Eligibility:
    """Return who may serve a call under all that its rules, role and strategy limit.

    Hard limits of all of them hold. Of soft ones the role's go before the strategy's.
    """
    limits, role = standing.strategy.limits, standing.role
    if usual is not standing:
        for held in (usual.strategy, usual.role):
            if held is not None and held.limits.hard:
                eligibility = with_limits(eligibility, beliefs, category, held.limits)
    if rules.cost_usd is not None or rules.latency_ms is not None:
        caps = caps_of(rules)
        if rules.cost_usd is not None and size.max_tokens is not None:
            eligibility = with_max_cost(
                eligibility,
                beliefs.configuration.catalog,
                max_usd=rules.cost_usd,
                text_bytes=size.text_bytes,
                max_tokens=size.max_tokens,
                sizes=size.sizes,
                at_s=size.at_s,
                believed=_believed_usd(beliefs, category),
            )
            caps = replace(caps, cost_usd=None, hard=caps.hard - {Limit.COST})
        eligibility = with_limits(eligibility, beliefs, category, caps)
    if role is not None and role.limits.asked:
        eligibility = with_limits(eligibility, beliefs, category, limits)
        limits = role.limits
    return with_limits(eligibility, beliefs, category, limits)


def _believed_usd(beliefs: Beliefs, category: int) -> NDArray[np.float64]:
    posterior, task = beliefs.place(category)
    return np.asarray(posterior.cost_bound_usd[task])


def caps_of(rules: PolicyRules) -> Limits:
    """Return what rules limit of one call, all of it hard."""
    latency_s = None if rules.latency_ms is None else rules.latency_ms / 1000
    hard = {Limit.COST: rules.cost_usd, Limit.LATENCY: latency_s}
    return Limits(
        latency_s=latency_s,
        cost_usd=rules.cost_usd,
        hard=frozenset(kind for kind, value in hard.items() if value is not None),
    )


def with_limits(
    eligibility: Eligibility, beliefs: Beliefs, category: int, limits: Limits
) -> Eligibility:
    """Return who may serve under these limits: without those who break a hard one."""
    if not limits.asked:
        return eligibility
    left = eligibility.mask, eligibility.reasons
    if limits.hard:
        left = beliefs.excluded(category, limits, eligibility.reasons)
    return _replaced(eligibility, left, limits)


def with_max_cost(
    eligibility: Eligibility,
    catalog: Catalog,
    *,
    max_usd: float,
    text_bytes: int,
    max_tokens: int,
    sizes: TokenSizes,
    at_s: float,
    believed: NDArray[np.float64] | None = None,
) -> Eligibility:
    """Return who may serve a call that may cost so much, whatever it writes.

    Args:
        max_tokens: the most output that the call asks for; without it there is no such bound, and
            a hard limit on cost holds what nine calls of ten cost.
        at_s: when the prices hold, in epoch seconds.
        believed: (n_arms,) what a call costs at most, of machines that are paid by the hour.
    """
    costs = worst_costs_usd(
        catalog, text_bytes=text_bytes, max_tokens=max_tokens, sizes=sizes, at_s=at_s
    )
    if believed is not None:
        arms = [endpoint.index for endpoint in catalog.endpoints if endpoint.has_machine]
        for arm in arms:
            costs[arm] += float(believed[arm])
    codes = [None if usd <= max_usd else Exclusion.MAX_COST for usd in costs]
    return _replaced(eligibility, exclude(eligibility.reasons, codes), eligibility.limits)


def worst_costs_usd(
    catalog: Catalog, *, text_bytes: int, max_tokens: int, sizes: TokenSizes, at_s: float
) -> list[float]:
    """Return by arm what a call costs at most: prompt tokens and `max_tokens`, at list price.

    The prompt is counted as the endpoint's last calls were, nothing of it as cached, and output at
    the dearer of its prices. Infinite where no price is known: nobody can promise a bound there.
    What a machine of one's own costs does not depend on the call.
    """
    out = []
    for endpoint in catalog.endpoints:
        if endpoint.prices is None:
            out.append(float("inf"))
            continue
        tokens_in = sizes.expected(endpoint.digest, text_bytes)
        rates = endpoint.prices.at(at_s).usual.rates(tokens_in)
        per_token_in = max(rates.tokens_in, rates.written)
        per_token_out = max(rates.tokens_out, rates.reasoning)
        out.append((tokens_in * per_token_in + max_tokens * per_token_out) / 1e9)
    return out


def drawn_within(
    eligibility: Eligibility, beliefs: Beliefs, category: int, mask: NDArray[np.bool_]
) -> Within:
    """Return which of these may be drawn, and which soft limits gave way for it."""
    if not eligibility.limits.asked or not mask.any():
        return mask, ()
    return beliefs.within(category, eligibility.limits, mask)


def without(mask: NDArray[np.bool_], barred: frozenset[int]) -> NDArray[np.bool_]:
    """Return whom budgets suffice for, of these; everybody where they do for nobody."""
    left = mask.copy()
    left[list(barred)] = False
    return left if left.any() else mask


def told_of(limits: Limits) -> dict[str, Any]:
    """Return limits as they are shown, by the names of the configuration; {} where none is set."""
    values: dict[str, dict[str, Any]] = {
        Limit.LATENCY: {"within_s": limits.latency_s, "probability": limits.latency_prob},
        Limit.COST: {"usd": limits.cost_usd},
        Limit.QUALITY: {"floor": limits.quality},
    }
    return {kind.value: {**values[kind], "hard": kind in limits.hard} for kind in limits.asked}


def _replaced(eligibility: Eligibility, left: Excluded, limits: Limits) -> Eligibility:
    """Return the same with others left; written out, as every call comes by here."""
    known = eligibility
    return Eligibility(*left, known.rests_until, known.contexts, known.details, limits)
