"""What the books leave out of costs, and availability: as rows and as lines."""

from __future__ import annotations

from typing import Any

import numpy as np

from bandit.families import U
from router.beliefs.beliefs import Beliefs
from router.endpoints.catalog import Catalog


def list_cost_rows(beliefs: Beliefs, at_s: float) -> list[dict[str, Any]]:
    """Return what calls under a subscription would cost by list, of each endpoint with traffic.

    The mean call's tokens at today's prices; what a cache read or wrote is not told apart.
    """
    top = beliefs.posterior.is_top
    usage, traffic = beliefs.evidence.usage[top].sum(axis=0), beliefs.traffic[top].sum(axis=0)
    out = []
    for endpoint in beliefs.configuration.catalog.endpoints:
        known, prices = usage[endpoint.index], endpoint.prices
        calls = int(np.rint(traffic[endpoint.index]))
        if not endpoint.terms.is_subscribed or prices is None or not (calls and known[U.N] > 0):
            continue
        rates = prices.at(at_s).usual.usual
        nano = known[U.TOKENS_IN] * rates.tokens_in + known[U.TOKENS_OUT] * rates.tokens_out
        list_cost = float(nano / known[U.N] / 1e9)
        row = {"endpoint": endpoint.id, "calls": calls, "list_cost_usd": list_cost}
        out.append(row)
    return out


def list_cost_lines(rows: list[dict[str, Any]]) -> list[str]:
    """Return a line for each endpoint that is paid by subscription."""
    return [
        f"{row['endpoint']} is paid by subscription; by list a call would cost "
        f"{row['list_cost_usd']:.3g} USD, all {row['calls']:,} of them "
        f"{row['calls'] * row['list_cost_usd']:,.2f}"
        for row in rows
    ]


def published_prices(catalog: Catalog) -> list[str]:
    """Return whose prices nobody wrote down, and are those that the provider publishes."""
    return [e.id for e in catalog.endpoints if e.prices is not None and not e.prices.is_declared]


def published_lines(ids: list[str]) -> list[str]:
    """Return a line that names them."""
    return [f"costs at published prices, by default: {', '.join(ids)}"] if ids else []


def availability_rows(found: dict[str, Any] | None, catalog: Catalog) -> list[dict[str, Any]]:
    """Return how often each endpoint that is listed answered, as the last count had it."""
    ids = {f"{e.digest:016x}": e.id for e in catalog.endpoints}
    return [
        {**row, "endpoint": ids[row["endpoint"]]}
        for row in (found or {}).get("endpoints", [])
        if row["endpoint"] in ids
    ]


def availability_lines(rows: list[dict[str, Any]]) -> list[str]:
    """Return a line that says how often endpoints answered, the least first."""
    shown = [
        f"{row['endpoint']} {row['share']:.3%} of {row['asked']:,}"
        for row in sorted(rows, key=lambda row: row["share"])
    ]
    return [f"answered in 30 days: {'; '.join(shown)}"] if shown else []
