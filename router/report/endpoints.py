"""How the endpoints are doing, as rows and as gauges; of this process, not of others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from router.beliefs.served import ServedModels
from router.config.compiled import Configuration
from router.decision.context import Moment
from router.endpoints.breaker import Breaker
from router.endpoints.catalog import Endpoint
from router.endpoints.headroom import read_headroom
from router.endpoints.health import Health
from router.endpoints.rate_limits import RateLimit
from router.endpoints.verified import Verified
from router.report.catalog import price_row
from router.report.served import served_row
from router.report.verified import verified_of
from telemetry.metrics import EndpointGauge


def endpoint_rows(
    configuration: Configuration, health: Health, served: ServedModels, at: Moment
) -> dict[str, Any]:
    """Return the state of every endpoint, as JSON; times in epoch milliseconds."""
    verified = verified_of(configuration.server)

    def row(endpoint: Endpoint) -> dict[str, Any]:
        breaker = health.breakers[endpoint.digest]
        found = _row(endpoint, breaker, at, verified.get(endpoint.digest))
        limits = endpoint.rates.with_learnt(health.learnt.of(endpoint.digest))
        rates = [_rate_row(limit, is_learnt=limit not in endpoint.rates.said) for limit in limits]
        return found | {"per_minute": rates, "served": served_row(endpoint, served)}

    return {"endpoints": [row(endpoint) for endpoint in configuration.catalog.endpoints]}


def endpoint_gauges(
    configuration: Configuration, health: Health, at: Moment
) -> Iterator[EndpointGauge]:
    """Yield what is measured of each endpoint."""
    pairs = [(e.id, health.breakers[e.digest]) for e in configuration.catalog.endpoints]
    circuits = [(name, t.value, c) for name, b in pairs for t, c in b.circuits.items()]
    yield EndpointGauge(
        "router_endpoint_open",
        "Whether it rests, by kind of trouble.",
        "trouble",
        {(name, kind): float(c.open_since is not None) for name, kind, c in circuits},
    )
    yield EndpointGauge(
        "router_endpoint_opened",
        "How often its breaker opened, by kind of trouble.",
        "trouble",
        {(name, kind): float(c.n_opened) for name, kind, c in circuits},
    )
    yield EndpointGauge(
        "router_endpoint_in_flight",
        "Calls under way.",
        None,
        {(name,): float(breaker.in_flight) for name, breaker in pairs},
    )
    left = [(name, read_headroom(b.rate_headers, now_s=at.epoch_s).left) for name, b in pairs]
    yield EndpointGauge(
        "router_endpoint_headroom",
        "What it says is left, by kind.",
        "of",
        {(name, kind): n for name, by_kind in left for kind, n in by_kind.items()},
    )
    yield EndpointGauge(
        "router_endpoint_suspensions",
        "Parameters and values that it refuses and others take.",
        None,
        {(name,): float(len(b.suspensions.suspended(at.monotonic_s))) for name, b in pairs},
    )


def _row(
    endpoint: Endpoint, breaker: Breaker, at: Moment, verified: Verified | None
) -> dict[str, Any]:
    now = at.monotonic_s

    def ms(then: float) -> int:
        return int((at.epoch_s + then - now) * 1000)

    return {
        "endpoint": endpoint.id,
        "profile": endpoint.profile.as_json(verified),
        "terms": endpoint.terms.said(at.epoch_s),
        "prices": price_row(endpoint.prices, at.epoch_s),
        "in_maintenance": any(window.holds(at.epoch_s) for window in endpoint.windows),
        "state": _state(breaker, now),
        "troubles": {
            trouble.value: {
                "since_ms": ms(circuit.open_since),
                "rests_until_ms": ms(circuit.open_until),
                "failures": circuit.failures,
            }
            for trouble, circuit in breaker.circuits.items()
            if circuit.open_since is not None
        },
        "opened": {trouble.value: c.n_opened for trouble, c in breaker.circuits.items()},
        "in_flight": breaker.in_flight,
        "max_in_flight": endpoint.limits.max_in_flight,
        "headroom": read_headroom(breaker.rate_headers, now_s=at.epoch_s).left,
        "empty_until_ms": ms(breaker.empty_until) if now < breaker.empty_until else None,
        "suspended": [
            {"parameter": r.parameter, "only_a_value": r.value is not None, "until_ms": ms(until)}
            for r, until in breaker.suspensions.suspended(now)
        ],
        "refuses_stream_options": breaker.refuses_stream_options,
    }


def _rate_row(limit: RateLimit, *, is_learnt: bool) -> dict[str, Any]:
    return {
        "of": limit.owner,
        "unit": limit.unit.value,
        "limit": limit.per_minute,
        "learnt": is_learnt,
        "shares": {app: limit.share_of(app) for app in limit.shares},
    }


def _state(breaker: Breaker, now: float) -> str:
    """Return `open`, `probing` (it rested, the next call probes), `empty`, `starting`, `closed`."""
    if breaker.open_since is not None:
        return "open" if now < breaker.rests_until else "probing"
    if now < breaker.empty_until:
        return "empty"
    return "starting" if now < breaker.slow_until else "closed"
