"""What attempts add to the columns of the ledger. Pure."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bandit.families import MOST
from telemetry.events import Flag, PriceSource
from telemetry.ledger_rows import N_LEDGER_COLUMNS, LedgerColumn
from workers.folding.terms import are_failures

SUBSCRIBED = int(PriceSource.PAID)
_FINAL, _ENDS = int(Flag.FINAL), int(Flag.FINAL | Flag.NO_END)


class AttemptCosts(NamedTuple):
    """What attempts cost, (n,) each."""

    nano: NDArray[np.int64]
    is_priced: NDArray[np.bool_]
    is_guessed: NDArray[np.bool_]  # the cost as well as the tokens
    reported: NDArray[np.int64]  # by the provider's own word
    is_both: NDArray[np.bool_]  # a price says what it cost, and perhaps the provider


def costs_of(outcomes: NDArray[np.void]) -> AttemptCosts:
    """Return what attempts cost.

    A cost beyond what any call can cost is none: the attempt counts as unpriced.
    """
    flags, source = outcomes["flags"], outcomes["price_source"]
    guessed = ((flags & Flag.ESTIMATED) > 0) & ((flags & Flag.PRICED) == 0)
    priced = ((flags & Flag.PRICED) > 0) | (guessed & (source != PriceSource.NONE))
    priced &= outcomes["cost_nano"] <= MOST
    said = outcomes["reported_cost_nano"]
    return AttemptCosts(
        np.where(priced, outcomes["cost_nano"], 0).astype(np.int64),
        priced,
        guessed,
        np.where(said <= MOST, said, 0).astype(np.int64),
        priced & (said <= MOST) & (source != PriceSource.PROVIDER) & (source != SUBSCRIBED),
    )


def compared_of(
    outcomes: NDArray[np.void], cost: AttemptCosts
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return (n,) of which attempts provider and price entry both tell the cost, and both.

    A cost that an app told is by no entry.

    Returns:
        Beside which attempts (n,), what those add: (n_those, N_LEDGER_COLUMNS).
    """
    mine = cost.is_both & (outcomes["price"] > 0) & ((outcomes["flags"] & Flag.REPORTED) > 0)
    out = np.zeros((int(mine.sum()), N_LEDGER_COLUMNS), dtype=np.int64)
    if not len(out):
        return mine, out
    out[:, LedgerColumn.N_REPORTED] = 1
    out[:, LedgerColumn.REPORTED] = cost.reported[mine]
    out[:, LedgerColumn.REPORTED_BY_PRICE] = cost.nano[mine]
    return mine, out


def amounts_of(outcomes: NDArray[np.void], cost: AttemptCosts) -> NDArray[np.int64]:
    """Return (n, N_LEDGER_COLUMNS) of each attempt.

    Whatever is new in it hangs on a flag that older records do not have: so they add what they did
    when they were folded first.
    """
    flags, source = outcomes["flags"], outcomes["price_source"]
    estimated = (flags & Flag.ESTIMATED) > 0
    told = (flags & Flag.USAGE_KNOWN) > 0
    failed = (flags & Flag.UNANSWERED) > 0
    # Of records from before there was a table of prices.
    both = cost.is_both & (cost.reported > 0) & ((flags & Flag.REPORTED) == 0)
    by_profile = (flags & Flag.PROFILE) > 0
    c = LedgerColumn
    out = np.zeros((len(outcomes), N_LEDGER_COLUMNS), dtype=np.int64)
    for column, of_it in {
        c.CALLS: ((flags & _ENDS) == _FINAL) | failed,
        c.ATTEMPTS: np.ones(len(outcomes), dtype=bool),
        c.FAILED: are_failures(outcomes),
        c.UNPRICED: (told | estimated) & ~cost.is_priced,
        c.ESTIMATED: estimated,
        c.TOKENS_IN: outcomes["tokens_in"],
        c.TOKENS_CACHED: outcomes["tokens_cached"],
        c.TOKENS_CACHE_WRITE: outcomes["tokens_cache_write"],
        c.TOKENS_OUT: outcomes["tokens_out"],
        c.TOKENS_REASONING: outcomes["tokens_reasoning"],
        c.COST: cost.nano,
        c.COST_ESTIMATED: cost.nano * cost.is_guessed,
        c.COST_BY_KNOWN_PRICES: cost.nano * (source == PriceSource.KNOWN),
        c.COST_BY_PROVIDER: cost.nano * (source == PriceSource.PROVIDER),
        c.COST_PROFILED: cost.nano * by_profile,
        c.N_REPORTED: both,
        c.REPORTED: cost.reported * both,
        c.REPORTED_BY_PRICE: cost.nano * both,
        c.LATENCY_US: outcomes["latency_us"],
        c.FAILED_CALLS: failed,
    }.items():
        out[:, column] = of_it
    return out
