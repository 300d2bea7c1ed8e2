"""The catalog as rows and as lines: every value, where it comes from, and what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from router.endpoints.catalog import Catalog, Endpoint
from router.endpoints.profile import Provenance, told
from router.endpoints.rates import PriceList
from router.endpoints.terms import Billing, agreement_warnings
from router.endpoints.verified import NOTHING, Verified
from router.report.profiles import known_of

WORTH_SAYING = ("prices", "context_tokens", "zone", "jurisdiction", "retention_days")
"""What rules or figures rest on: it is told where it is missing."""


def catalog_rows(
    catalog: Catalog, at_s: float, verified: Mapping[int, Verified] = NOTHING
) -> list[dict[str, Any]]:
    """Return every endpoint with all that is known of it at a moment, in epoch seconds.

    Args:
        verified: by digest, what live checks found.
    """
    return [_row(endpoint, at_s, verified.get(endpoint.digest)) for endpoint in catalog.endpoints]


def catalog_warnings(catalog: Catalog, at_s: float) -> list[str]:
    """Return a line for each agreement that has ended or soon will."""
    return agreement_warnings(catalog.agreed, at_s)


def _row(endpoint: Endpoint, at_s: float, verified: Verified | None) -> dict[str, Any]:
    terms = {
        name: told(value, None)
        for name, value in endpoint.terms.said(at_s).items()
        if name != "billing"
    }
    row = {
        "endpoint": endpoint.id,
        "model": endpoint.model,
        "upstream_model": endpoint.upstream_model,
        "provider": endpoint.provider or None,
        "host": endpoint.target.authority.decode("latin-1"),
        **endpoint.profile.as_json(verified),
        **terms,
        "max_data_class": _data_class(endpoint, at_s),
        "billing": told(endpoint.terms.said(at_s)["billing"], Billing.TOKENS.value),
        "prices": price_row(endpoint.prices, at_s),
        "limits": {
            "max_output_tokens": told(endpoint.limits.max_output_tokens, None),
            "max_in_flight": told(endpoint.limits.max_in_flight, None),
        },
        "maintenance": told([w.as_json() for w in endpoint.windows] or None, []),
    }
    return {**row, "missing": [name for name in WORTH_SAYING if row[name]["value"] is None]}


def _data_class(endpoint: Endpoint, at_s: float) -> dict[str, Any]:
    """Return the most sensitive class that may go there; what has lapsed is not declared."""
    most = endpoint.class_at(at_s)
    holds = endpoint.says_class and most is endpoint.place.most
    return told(most.name if holds else None, most.name)


def price_row(prices: PriceList | None, at_s: float) -> dict[str, Any]:
    """Return the prices in force, those that follow, and where they come from."""
    if prices is None:
        return {"value": None, "source": None, "next": []}
    now = prices.at(at_s)
    source = Provenance.DECLARED if prices.is_declared else Provenance.DEFAULT
    following = [tariff.as_json() for tariff in prices.tariffs if tariff.from_s > at_s]
    return {"value": now.as_json(), "source": source.value, "next": following}


def catalog_lines(rows: list[dict[str, Any]]) -> list[str]:
    """Return a paragraph for each endpoint."""
    return ["\n  ".join([_head(row), *_facts(row)]) for row in rows]


def _head(row: dict[str, Any]) -> str:
    as_what = "" if row["upstream_model"] == row["model"] else f" as {row['upstream_model']}"
    return f"{row['endpoint']}: {row['model']}{as_what} at {row['provider'] or row['host']}"


def _facts(row: dict[str, Any]) -> Iterator[str]:
    if known := "; ".join(known_of(row)):
        yield known
    yield f"speaks {_of(row['dialects'], ', '.join(row['dialects']['value']))}"
    said = [f"{name} {_shown(row[name]['value'])}" for name in TERMS if _is_said(row[name])]
    said += [f"up to {_of(row['max_data_class'], row['max_data_class']['value'])} data"]
    yield "; ".join(said)
    yield "; ".join(price_parts(row))
    for window in row["maintenance"]["value"]:
        days = window.get("date") or ", ".join(window["days"])
        yield f"maintenance {days} {window['from']}–{window['to']} {window['timezone']}"
    if row["missing"]:
        yield f"not known: {', '.join(row['missing'])}"


TERMS = (
    "region",
    "jurisdiction",
    "zone",
    "retention_days",
    "zero_retention",
    "trains_on_data",
    "agreed_until",
)


def price_parts(row: dict[str, Any]) -> Iterator[str]:
    """Yield what an endpoint costs, in a few words each."""
    if row["billing"]["value"] == Billing.SUBSCRIPTION:
        yield "paid by subscription: a call costs nothing more while something is left of it"
    prices = row["prices"]
    value = prices["value"]
    if value is None:
        if row["billing"]["value"] != Billing.SUBSCRIPTION:
            yield "no price: it counts as dear as the dearest"
    elif "usd_per_hour" in value:
        yield _of(prices, f"{value['usd_per_hour']:g} USD an hour")
    else:
        yield _of(prices, _of_tokens(value))
        for tier, rates in value.get("tiers", {}).items():
            yield f"{tier}: {_of_tokens(rates)}"
    for following in prices["next"]:
        yield f"other prices from {following['from']}"


def _of_tokens(rates: dict[str, Any]) -> str:
    """Return prices of tokens, without those that are the same as what they are part of."""
    usd_in, usd_out = rates["input_usd_per_mtok"], rates["output_usd_per_mtok"]
    parts = [f"{usd_in:g} in, {usd_out:g} out"]
    for name, field, usual in (
        ("cached", "cached_input_usd_per_mtok", usd_in),
        ("written", "cache_write_usd_per_mtok", usd_in),
        ("written for an hour", "cache_write_1h_usd_per_mtok", rates["cache_write_usd_per_mtok"]),
        ("reasoning", "reasoning_usd_per_mtok", usd_out),
    ):
        if rates[field] != usual:
            parts.append(f"{rates[field]:g} {name}")
    longer = [
        f"above {each['above_tokens']:,} tokens {_of_tokens(each)}"
        for each in rates.get("long_prompts", [])
    ]
    return "; ".join([f"{', '.join(parts)} USD a million tokens", *longer])


def _of(value: dict[str, Any], shown: str) -> str:
    return f"{shown} (default)" if value["source"] == Provenance.DEFAULT else shown


def _is_said(value: dict[str, Any]) -> bool:
    return value["value"] is not None


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
