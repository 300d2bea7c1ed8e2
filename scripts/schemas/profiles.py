"""What is known of an endpoint: rows of `pointsman catalog` and of `GET /v1/router/endpoints`."""

from __future__ import annotations

from router.endpoints.breaker import Trouble
from router.endpoints.capabilities import Capability, Reasoning
from router.endpoints.entries import Dialect
from router.endpoints.maintenance import Weekday
from router.endpoints.profile import Provenance
from router.endpoints.rate_limits import RateUnit
from router.endpoints.rates import Rates
from router.endpoints.terms import Billing, HostingTerms
from router.report.catalog import WORTH_SAYING
from scripts.schemas.shapes import (
    COUNT,
    NUMBER,
    PROBABILITY,
    TEXT,
    TRUTH,
    Schema,
    by_name,
    closed,
    many,
    maybe,
    words,
)

STATES = ("closed", "open", "probing", "empty", "starting")
KINDS = {
    "retention_days": COUNT,
    "zero_retention": TRUTH,
    "trains_on_data": TRUTH,
    "billing": words(Billing),
}
"""Of terms that are no text."""


def catalog_row() -> Schema:
    """Return the schema of an endpoint as `pointsman catalog --json` lists it."""
    terms = {name: told(kind) for name, kind in _terms().items()}
    limits = closed({name: told(COUNT) for name in ("max_output_tokens", "max_in_flight")})
    return {
        "title": "Catalog row",
        "description": "All that is known of an endpoint, and where each value comes from",
        **closed(
            {
                "endpoint": TEXT,
                "model": TEXT,
                "upstream_model": TEXT,
                "provider": maybe(TEXT),
                "host": TEXT,
                **_profile(),
                **terms,
                "max_data_class": told(TEXT),
                "prices": _prices(),
                "limits": limits,
                "maintenance": told(many(_window())),
                "missing": many(words(WORTH_SAYING)),
            }
        ),
    }


def endpoint_row() -> Schema:
    """Return the schema of an endpoint as `GET /v1/router/endpoints` shows it."""
    trouble = closed({"since_ms": COUNT, "rests_until_ms": COUNT, "failures": COUNT})
    rate = closed(
        {
            "of": TEXT,
            "unit": words(RateUnit),
            "limit": COUNT,
            "learnt": TRUTH,
            "shares": by_name(COUNT),
        }
    )
    suspended = closed({"parameter": TEXT, "only_a_value": TRUTH, "until_ms": COUNT})
    return {
        "title": "Endpoint row",
        "description": "How an endpoint is doing, in the process that is asked",
        **closed(
            {
                "endpoint": TEXT,
                "profile": closed(_profile()),
                "terms": closed({name: maybe(kind) for name, kind in _terms().items()}),
                "prices": _prices(),
                "in_maintenance": TRUTH,
                "state": words(STATES),
                "troubles": by_name(trouble) | {"propertyNames": words(Trouble)},
                "opened": by_name(COUNT) | {"propertyNames": words(Trouble)},
                "in_flight": COUNT,
                "max_in_flight": maybe(COUNT),
                "headroom": by_name(NUMBER),
                "empty_until_ms": maybe(COUNT),
                "suspended": many(suspended),
                "refuses_stream_options": TRUTH,
                "per_minute": many(rate),
                "served": maybe(_served()),
            }
        ),
    }


def told(value: Schema) -> Schema:
    """Return the schema of a value beside where it comes from; null: not known."""
    return closed({"value": maybe(value), "source": words(Provenance)})


def _profile() -> dict[str, Schema]:
    return {
        "dialects": told(many(words(Dialect))),
        "context_tokens": told(COUNT),
        "output_tokens": told(COUNT),
        "reasoning": told(words(Reasoning)),
        "capabilities": closed({one.value: _capability() for one in Capability}),
    }


def _capability() -> Schema:
    checked = closed({"found": TRUTH, "on": TEXT})
    whole = {"value": TRUTH, "source": words(Provenance), "checked": checked}
    return closed(whole, optional=["checked"])


def _terms() -> dict[str, Schema]:
    return {name: KINDS.get(name, TEXT) for name in HostingTerms().said(0.0)}


def _prices() -> Schema:
    rates = dict.fromkeys(Rates(0, 0, 0, 0, 0, 0, is_plain=True).as_json(), NUMBER)
    day = {"from": maybe(TEXT)}
    long = many(closed({"above_tokens": COUNT, **rates}))
    schedule = {**rates, "long_prompts": long}
    tier = closed(schedule, optional=["long_prompts"])
    whole = {**day, **schedule, "tiers": by_name(tier)}
    by_tokens = closed(whole, optional=["long_prompts", "tiers"])
    prices = {"anyOf": [by_tokens, closed({**day, "usd_per_hour": NUMBER})]}
    source = maybe(words(Provenance))
    return closed({"value": maybe(prices), "source": source, "next": many(prices)})


def _window() -> Schema:
    clock = {"from": TEXT, "to": TEXT, "timezone": TEXT}
    by_day = closed({"days": many(words(Weekday)), **clock})
    return {"anyOf": [by_day, closed({"date": TEXT, **clock})]}


def _served() -> Schema:
    figures = {"calls": COUNT, "share": PROBABILITY, "since_ms": COUNT, "last_ms": COUNT}
    return closed(
        {
            "asked": TEXT,
            "is_checked": TRUTH,
            "models": many(closed({"name": TEXT, "is_other": TRUTH, **figures})),
            "fingerprints": many(closed({"digest": TEXT, **figures})),
        }
    )
