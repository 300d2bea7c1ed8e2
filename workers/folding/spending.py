"""What outcomes add to the ledger. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from telemetry.events import Flag, PriceSource
from telemetry.ledger_rows import (
    CALLS_KEY,
    N_LEDGER_COLUMNS,
    NAMED_KEY,
    SPAN_MS,
    LedgerColumn,
    LedgerRows,
    LedgerTable,
)
from workers.folding.terms import FAILURES

SUBSCRIBED = int(PriceSource.PAID)


@dataclass(frozen=True, slots=True)
class Spent:
    """What a batch adds to each table, one row a span and key."""

    tables: dict[LedgerTable, LedgerRows]


def spent_by(outcomes: NDArray[np.void]) -> Spent:
    """Return what attempts add to the ledger.

    A user or a tag that is not named has no row: the table of calls has what it spent.

    Args:
        outcomes: (n,) records of the kind OUTCOME.
    """
    token, values = outcomes["token"], _values(outcomes)
    at_ms = token["decided_at_ms"]
    calls = np.zeros(len(outcomes), dtype=CALLS_KEY)
    for name, of_it in (
        ("app", token["app"]),
        ("role", outcomes["role"]),
        ("task", token["category"]),
        ("strategy", token["strategy"]),
        ("endpoint", token["executed"]),
        ("model", outcomes["served_model"]),
    ):
        calls[name] = of_it
    tables = {LedgerTable.CALLS: _rows(LedgerTable.CALLS, at_ms, calls, values)}
    named = ((LedgerTable.USERS, token["user"]), (LedgerTable.TAGS, outcomes["spend_tag"]))
    for table, names in named:
        mine = names != 0
        keys = np.zeros(int(mine.sum()), dtype=NAMED_KEY)
        keys["app"], keys["name"] = token["app"][mine], names[mine]
        tables[table] = _rows(table, at_ms[mine], keys, values[mine])
    return Spent(tables)


def _rows(
    table: LedgerTable,
    at_ms: NDArray[np.int64],
    keys: NDArray[np.void],
    values: NDArray[np.int64],
) -> LedgerRows:
    return LedgerRows(at_ms.astype(np.int64) // SPAN_MS[table], keys, values).summed()


def _values(outcomes: NDArray[np.void]) -> NDArray[np.int64]:
    """Return (n, N_LEDGER_COLUMNS) of each attempt."""
    flags, source = outcomes["flags"], outcomes["price_source"]
    estimated = (flags & Flag.ESTIMATED) > 0
    told = (flags & Flag.USAGE_KNOWN) > 0
    guessed = estimated & ((flags & Flag.PRICED) == 0)  # the cost as well as the tokens
    priced = ((flags & Flag.PRICED) > 0) | (guessed & (source != PriceSource.NONE))
    cost = np.where(priced, outcomes["cost_nano"], 0).astype(np.int64)
    reported = outcomes["reported_cost_nano"].astype(np.int64)
    both = (reported > 0) & priced & (source != PriceSource.PROVIDER) & (source != SUBSCRIBED)
    by_profile = (flags & Flag.PROFILE) > 0
    c = LedgerColumn
    out = np.zeros((len(outcomes), N_LEDGER_COLUMNS), dtype=np.int64)
    for column, of_it in {
        c.CALLS: (flags & Flag.FINAL) > 0,
        c.ATTEMPTS: np.ones(len(outcomes), dtype=bool),
        c.FAILED: np.isin(outcomes["result"], FAILURES),
        c.UNPRICED: (told | estimated) & ~priced,
        c.ESTIMATED: estimated,
        c.TOKENS_IN: outcomes["tokens_in"],
        c.TOKENS_CACHED: outcomes["tokens_cached"],
        c.TOKENS_CACHE_WRITE: outcomes["tokens_cache_write"],
        c.TOKENS_OUT: outcomes["tokens_out"],
        c.TOKENS_REASONING: outcomes["tokens_reasoning"],
        c.COST: cost,
        c.COST_ESTIMATED: cost * guessed,
        c.COST_BY_KNOWN_PRICES: cost * (source == PriceSource.KNOWN),
        c.COST_BY_PROVIDER: cost * (source == PriceSource.PROVIDER),
        c.COST_PROFILED: cost * by_profile,
        c.N_REPORTED: both,
        c.REPORTED: reported * both,
        c.REPORTED_BY_PRICE: cost * both,
        c.LATENCY_US: outcomes["latency_us"],
    }.items():
        out[:, column] = of_it
    return out
