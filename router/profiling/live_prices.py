"""What the calls of a live check cost at most, and what they did cost.

At most is meant: an endpoint's own `params` go before what a call says, an answer may come at
any tier that has a price, and a machine is paid for as long as an answer is waited for. Only who
writes more than it is told to, or reads more than it is sent, can cost more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from router.endpoints.capabilities import Reasoning
from router.endpoints.catalog import Endpoint
from router.endpoints.entries import Dialect
from router.endpoints.rates import Rates, Tariff
from router.profiling.live_calls import CallManner, Probe, body_of, manner_of, most_tokens
from router.profiling.money import LIMITS, TIER, counts_in, n_answers, params_of
from telemetry.wire.usage import Usage, tier_of

MOST_CALLS = 5
MOST_OF_ONE = 2
"""Calls of an endpoint of which there is one thing to find."""
OVER_WRITTEN = "reports more than it was allowed to write"
OVER_READ = "reports more than it was sent"
SOON_S = 3600.0
"""A check is over by then: prices from later on are none of its."""
NANO = 1e9


def probes_of(endpoint: Endpoint) -> list[Probe]:
    """Return the calls that are planned of an endpoint; others may follow a refused one."""
    manner = manner_of(endpoint)
    if manner.dialect not in (Dialect.CHAT, Dialect.RESPONSES):
        return [Probe.UNSTREAMED]
    thinks = endpoint.reasoning is not Reasoning.NEVER
    return [
        Probe.PLAIN,
        Probe.TOOLS,
        Probe.SCHEMA,
        *([Probe.REASONING] if thinks else []),
    ]


def most_calls(endpoint: Endpoint) -> int:
    """Return how many calls are made at most, those that are made again among them."""
    return MOST_CALLS if len(probes_of(endpoint)) > 1 else MOST_OF_ONE


def is_priced(endpoint: Endpoint) -> bool:
    """Return whether it is known what calls cost."""
    return endpoint.prices is not None or endpoint.terms.is_subscribed


def most_nano(endpoint: Endpoint, at_s: float, *, answer_s: float) -> int | None:
    """Return what all calls cost at most, in nano-USD; None where no bound is known.

    Who has calls left asks for the dearest again.

    Args:
        at_s: when the prices hold, in epoch seconds.
        answer_s: as long as an answer is waited for.
    """
    manner = manner_of(endpoint)
    found = [
        call_nano(endpoint, one, manner, at_s, answer_s=answer_s) for one in probes_of(endpoint)
    ]
    costs = [nano for nano in found if nano is not None]
    if len(costs) < len(found):
        return None
    return sum(costs) + (most_calls(endpoint) - len(costs)) * max(costs)


def call_nano(
    endpoint: Endpoint, probe: Probe, manner: CallManner, at_s: float, *, answer_s: float
) -> int | None:
    """Return what one call costs at most, in nano-USD; None where no bound is known.

    Args:
        at_s, answer_s: as for `most_nano`.
    """
    if endpoint.terms.is_subscribed:
        return 0
    if endpoint.prices is None:
        return None
    read, written = tokens_of(endpoint, probe, manner)
    tariffs = [endpoint.prices.at(at_s)]
    tariffs += [t for t in endpoint.prices.tariffs if at_s < t.from_s <= at_s + SOON_S]
    costs = [0]
    for tariff in tariffs:
        if tariff.usd_per_hour is not None:
            costs.append(round(tariff.usd_per_s * NANO * answer_s))
        elif written is None:
            return None
        else:
            costs += (_dearest(rates, read, written) for rates in _rates(tariff, read))
    return max(costs)


def spent_nano(
    endpoint: Endpoint, usage: Usage | None, at_s: float, *, seconds: float
) -> int | None:
    """Return what an answer cost, in nano-USD; None where it does not say what it used.

    Args:
        seconds: as long as it took; of a machine that is paid by the hour all of it is counted.
    """
    if endpoint.prices is None or endpoint.terms.is_subscribed:
        return 0
    tier = tier_of(params_of(endpoint).get(TIER))
    return endpoint.prices.nano(usage, at_s, tier=tier, machine_s=seconds)


def over_of(endpoint: Endpoint, probe: Probe, manner: CallManner, usage: Usage | None) -> str:
    """Return what an answer reports that the call did not allow for, in words; else ""."""
    if usage is None:
        return ""
    read, written = tokens_of(endpoint, probe, manner)
    if written is not None and usage.completion_tokens > written:
        return OVER_WRITTEN
    return OVER_READ if usage.prompt_tokens > read else ""


def tokens_of(endpoint: Endpoint, probe: Probe, manner: CallManner) -> tuple[int, int | None]:
    """Return how many tokens a call may read and write at an endpoint; None: without a limit."""
    read, _ = most_tokens(probe, manner)
    read += sum(len(value) for value in endpoint.params.values())  # a token has a byte at least
    if manner.dialect is Dialect.EMBEDDINGS:
        return read, 0
    sent = body_of(probe, endpoint.id, manner)
    said = params_of(endpoint)
    most = max(counts_in({**sent, **said}, LIMITS), default=endpoint.output_limit)
    return read, None if most is None else math.ceil(most * n_answers(said))


def _rates(tariff: Tariff, read: int) -> Iterator[Rates]:
    """Yield what tokens may cost: whatever tier is asked for, an answer says which it came by."""
    for schedule in (tariff.usual, *tariff.tiers.values()):
        yield schedule.rates(read)


def _dearest(rates: Rates, read: int, written: int) -> int:
    """Return what tokens cost where all of them are of the dearest kind."""
    of_input = max(rates.tokens_in, rates.cached, rates.written, rates.written_1h)
    return round(read * of_input + written * max(rates.tokens_out, rates.reasoning))
