"""Why an endpoint may not serve a call: a closed list of codes."""

from __future__ import annotations

from enum import StrEnum

EXCLUSIONS_VERSION = 3
"""Codes are only ever added, under a new version, and none changes its meaning."""


class Exclusion(StrEnum):
    """Why an endpoint may not serve a call."""

    DIALECT = "dialect"
    TRANSLATION = "translation"  # something of it cannot be said in the endpoint's dialect
    THINKING = "thinking"  # another thought what it would have to go on from
    NOT_ALLOWED = "not_allowed"  # an `endpoints` list leaves it out, or names it in `deny`
    DATA_CLASS = "data_class"
    REGION = "region"
    JURISDICTION = "jurisdiction"
    ZONE = "zone"
    RETENTION = "retention"
    TRAINING = "training"
    PRIVATE = "private"  # neither zone `local` nor zero retention
    REQUIRED = "required_capability"  # that the policy asks for, whatever the call needs
    FORBIDDEN = "forbidden_capability"
    SMALL_CONTEXT = "small_context"  # less than the policy asks for, however long the call is
    KEEPS_CONTENT = "keeps_content"  # the call has the provider keep or forward what it sends
    CLIENT_KEY = "client_key"  # it needs the caller's own key, and there is none to pass on
    CAPABILITY = "capability"
    CONTEXT = "context"
    OUTPUT_LIMIT = "output_limit"
    BREAKER = "breaker"
    IN_FLIGHT = "in_flight"
    MAINTENANCE = "maintenance"
    LATENCY = "latency"  # hard limits of the strategy or the call: believed not to keep them
    COST = "cost"
    QUALITY = "quality"
    MAX_COST = "max_cost"  # with all the output that this call asks for it may cost more
    UNPRICED = "unpriced"  # a budget in money is hard or used up, and nobody knows the price there
    UNBOUNDED = "unbounded"  # a hard budget holds, and nobody knows what it may come to there
    BUDGET_SPENT = "budget_spent"  # a budget is used up, and calls cost less elsewhere


POLICY = frozenset(
    {
        Exclusion.NOT_ALLOWED,
        Exclusion.DATA_CLASS,
        Exclusion.REGION,
        Exclusion.JURISDICTION,
        Exclusion.ZONE,
        Exclusion.RETENTION,
        Exclusion.TRAINING,
        Exclusion.PRIVATE,
        Exclusion.REQUIRED,
        Exclusion.FORBIDDEN,
        Exclusion.SMALL_CONTEXT,
        Exclusion.KEEPS_CONTENT,
    }
)
"""What the rules of a call forbid, by whatever level they were set."""

LIMITS = frozenset(
    {
        *(Exclusion.LATENCY, Exclusion.COST, Exclusion.QUALITY, Exclusion.MAX_COST),
        *(Exclusion.UNPRICED, Exclusion.UNBOUNDED, Exclusion.BUDGET_SPENT),
    }
)
"""Hard limits of role, strategy or call, and what budgets do not allow."""
OF_RULES = POLICY | LIMITS
"""What the rules of a call forbid, or its hard limits."""
BINDING = POLICY | LIMITS | {Exclusion.DIALECT, Exclusion.TRANSLATION, Exclusion.CLIENT_KEY}
"""What holds in every mode, also for a model that the caller named: nobody is asked in spite of it,
routed or not, drawn or not."""
