"""What a call may come to at an endpoint, in money and tokens. Pure.

A hard budget reserves the most that a call can come to: a prompt has no more tokens than its body
has bytes, and an answer no more than was asked for. What is not in the body (addresses, files,
what lies at the provider) may fill the context. Where the provider runs tools it reads what they
find, as often as it likes: of such a call no bound can be told. A soft budget reserves what
nineteen calls of twenty stay below.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec import Struct

from bandit.posterior import Posterior
from router.budgets.said_limits import ANSWERS, LIMITS, count_of, limit_of, said_limits
from router.dialects.keeping import Keeping
from router.dialects.request import CallRequest
from router.endpoints.capabilities import MEDIA_NEEDS, Needs
from router.endpoints.catalog import Endpoint
from router.endpoints.entries import Dialect
from router.endpoints.rates import PriceList, Tariff

ADDED_TOKENS = 128
"""UNVALIDATED: what a provider's template puts around a prompt, beyond the bytes of its JSON."""
TOOLS_ADDED_TOKENS = 1024
"""What a provider adds where tools are offered; Anthropic tells of up to 804."""
BOUNDED = frozenset({"store", "conversation", "container", "audio"})
"""What a call may keep at its provider, and has a bound all the same. In the background it comes
to something when nobody looks any more, and whoever runs tools reads what they find."""
SEVERAL = frozenset({Dialect.EMBEDDINGS, Dialect.COMPLETIONS})
"""Calls with many prompts, each of which may fill the context."""


class AskedTokens(Struct, frozen=True):
    """What of a call its tokens hang on."""

    body_bytes: int
    has_tools: bool
    is_whole: bool  # all that it is about is in the body, as text
    is_one: bool  # prompt, so that the context bounds it
    writes: bool
    most_out: float | None  # tokens of each answer; None: it does not say; infinite: anything
    n_answers: float
    is_plain: bool  # no field stands twice, of which others may read the first one


class MostTokens(Struct, frozen=True):
    """What a call comes to at most; infinite where that has no bound."""

    tokens_in: float
    tokens_out: float

    @property
    def is_bound(self) -> bool:
        """Whether both are."""
        return math.isfinite(self.tokens_in + self.tokens_out)


def asked_of(request: CallRequest) -> AskedTokens:
    """Return what of a call its tokens hang on."""
    said = said_limits(request.body, request.dialect)
    return AskedTokens(
        body_bytes=len(request.body),
        has_tools=bool(request.needs & Needs.TOOLS),
        is_whole=not (request.needs & MEDIA_NEEDS or request.continued or request.references),
        is_one=request.dialect not in SEVERAL,
        writes=request.dialect is not Dialect.EMBEDDINGS,
        most_out=said.most_out,
        n_answers=said.n_answers * request.n_prompts,
        is_plain=said.is_plain,
    )


def no_bound(keeping: Iterable[Keeping]) -> str | None:
    """Return what of a call has no bound, by its name; None: all of it has."""
    return next((one.name for one in keeping if one.name not in BOUNDED), None)


def most_tokens(
    asked: AskedTokens,
    *,
    context_tokens: int | None,
    output_tokens: int | None,
    params: Mapping[str, bytes],
) -> MostTokens:
    """Return what a call comes to at most.

    Args:
        context_tokens: the most that the model takes; None: not known.
        output_tokens: the most that it writes.
        params: what its endpoint says instead of the call, or beside it.
    """
    if not asked.is_plain:
        return MostTokens(math.inf, math.inf)
    context = math.inf if context_tokens is None else context_tokens
    tokens_in = context
    if asked.is_whole:
        added = ADDED_TOKENS + sum(map(len, params.values()))
        added += TOOLS_ADDED_TOKENS if asked.has_tools or "tools" in params else 0
        tokens_in = asked.body_bytes + added
        if asked.is_one:
            tokens_in = min(tokens_in, context)
    if not asked.writes:
        return MostTokens(tokens_in, 0)
    # An endpoint's word goes before the call's, but for one of another name.
    limits = [limit_of(value) for value in _said_of(params, LIMITS)]
    limits += [] if asked.most_out is None else [asked.most_out]
    most = max(limits, default=math.inf)
    if most == math.inf:
        most = context if output_tokens is None else output_tokens
    n_answers = max(asked.n_answers, *map(count_of, _said_of(params, ANSWERS)), 1)
    return MostTokens(tokens_in, n_answers * max(most, 1))


def most_tokens_at(asked: AskedTokens, endpoint: Endpoint) -> MostTokens:
    """Return what a call comes to at most at an endpoint."""
    return most_tokens(
        asked,
        context_tokens=endpoint.context_tokens,
        output_tokens=endpoint.output_tokens,
        params=endpoint.params,
    )


def is_priced(endpoint: Endpoint) -> bool:
    """Return whether anybody knows what calls cost at an endpoint."""
    return endpoint.prices is not None or endpoint.terms.is_subscribed


def most_nano_at(tokens: MostTokens, endpoint: Endpoint, *, at_s: float) -> float:
    """Return what a call costs at most at an endpoint, in nano-USD; infinite without a bound.

    Under a subscription that is what it costs once nothing is left of it, where that is known.
    """
    if endpoint.prices is None:
        return 0.0 if endpoint.terms.is_subscribed else math.inf
    return most_nano(tokens, endpoint.prices, at_s=at_s)


def most_nano(tokens: MostTokens, prices: PriceList, *, at_s: float) -> float:
    """Return what so many tokens cost at most, in nano-USD, at the dearest rates that may apply.

    Of a machine that is paid by the hour nobody can tell, unless it costs nothing.
    """
    tariff = prices.at(at_s)
    if tariff.usd_per_hour:
        return math.inf
    rate_in, rate_out = _dearest(tariff, tokens.tokens_in)
    return _cost(tokens.tokens_in, rate_in) + _cost(tokens.tokens_out, rate_out)


def usual_nano(posterior: Posterior, task: int, endpoint: Endpoint) -> float:
    """Return what nineteen calls of twenty cost at most at an endpoint, in nano-USD.

    Where no price is known, that is as at the dearest, though it is settled as nothing.

    Args:
        task: row of the posterior.
    """
    return float(posterior.cost_q95_usd[task, endpoint.index]) * 1e9


def usual_tokens(posterior: Posterior, task: int, endpoint: Endpoint) -> float:
    """Return how many tokens nineteen calls of twenty have at most at an endpoint."""
    return float(posterior.tokens_q95[task, endpoint.index])


def _dearest(tariff: Tariff, tokens_in: float) -> tuple[float, float]:
    """Return what a token in and a token out costs at most: in any tier, cached, written, thought.

    A prompt may be shorter than its bound, and a longer one cheaper.
    """
    schedules = (tariff.usual, *tariff.tiers.values())
    rates = [
        each
        for schedule in schedules
        for each in (
            schedule.usual,
            *(longer for above, longer in schedule.longer if tokens_in > above),
        )
    ]
    return (
        max(max(r.tokens_in, r.cached, r.written, r.written_1h) for r in rates),
        max(max(r.tokens_out, r.reasoning) for r in rates),
    )


def _cost(tokens: float, rate: float) -> float:
    return tokens * rate if rate else 0.0  # nothing, also of what has no bound


def _said_of(params: Mapping[str, bytes], names: Sequence[str]) -> list[object]:
    """Return what an endpoint says of these, where it says something."""
    found = (msgspec.json.decode(params[name]) for name in names if name in params)
    return [value for value in found if value is not None]
