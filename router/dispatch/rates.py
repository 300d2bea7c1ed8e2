"""What attempts take of the limits of providers, and what they used of them.

An app beyond its share at an endpoint does not go there. An endpoint of which a limit is used up in
this minute is passed over while another may serve; else the call goes there, and its provider
decides, as it would of whoever asks it directly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from router.beliefs.beliefs import Beliefs
from router.budgets.rate_allowances import RateAllowances, RateGrant
from router.budgets.rate_claims import RateClaim, find_rate_claims, whole_claims
from router.decision.context import CallContext
from router.dialects.prompt_size import media_tokens
from router.dialects.request import CallRequest
from router.dispatch.ending import Ending
from router.endpoints.capabilities import MEDIA_NEEDS
from router.endpoints.catalog import Endpoint
from router.endpoints.entries import Dialect
from router.endpoints.learnt_limits import LearntLimits
from router.endpoints.providers import Provider
from router.endpoints.rate_limits import RateLimit, RateUnit
from router.endpoints.token_sizes import TokenSizes
from router.errors import RateShareSpent
from telemetry.events import Result


class ProviderLimits:
    """Takes of all limits, for all calls of the process."""

    def __init__(
        self,
        allowances: RateAllowances,
        learnt: LearntLimits,
        sizes: TokenSizes,
        shares_spent: Counter[tuple[str, str]],
        *,
        is_off: Callable[[], bool],
    ) -> None:
        """Make it.

        Args:
            learnt: what endpoints say that they take.
            sizes: what prompts were counted as.
            shares_spent: counts refusals, by app and whose limit.
            is_off: whether nothing is refused, and nobody passed over.
        """
        self._allowances = allowances
        self._learnt = learnt
        self._sizes = sizes
        self._shares_spent = shares_spent
        self._is_off = is_off

    def take(self, endpoint: Endpoint, context: CallContext) -> RateGrant | None:
        """Return leave for an attempt; None where no limit is known.

        Raises:
            RateShareSpent: the app has had its share.
        """
        limits = self._limits_of(endpoint)
        if not limits:
            return None  # most often
        amounts = {RateUnit.REQUESTS: 1}
        if any(limit.unit is RateUnit.TOKENS for limit in limits):
            request, sizes = context.request, self._sizes
            tokens = usual_tokens_in(request, endpoint, sizes)
            tokens += usual_tokens_out(request, endpoint, context.beliefs, context.category)
            amounts[RateUnit.TOKENS] = tokens
        return self._take(limits, context.caller.app.name, amounts)

    def take_passed(self, provider: Provider, app: str, *, tokens: int) -> RateGrant | None:
        """Return leave for a call that is passed on; None where its provider says no limit.

        Args:
            tokens: that such calls have.

        Raises:
            RateShareSpent: the app has had its share.
        """
        limits = provider.rates.said
        amounts = {RateUnit.REQUESTS: 1, RateUnit.TOKENS: tokens}
        return self._take(limits, app, amounts) if limits else None

    def is_used_up(self, endpoint: Endpoint, app: str) -> bool:
        """Return whether a limit is used up, as far as is known, and the app's share is not."""
        limits = self._limits_of(endpoint)
        if not limits or self._is_off():
            return False  # most often
        at_s, is_spent = self._allowances.now_s, self._allowances.is_spent
        if not any(is_spent(claim) for claim in whole_claims(limits, at_s=at_s)):
            return False
        return not any(
            claim.app is not None and is_spent(claim)
            for claim in find_rate_claims(limits, app, at_s=at_s)
        )

    def settle(self, grant: RateGrant, ended: Ending) -> None:
        """Settle what an attempt used."""
        self._allowances.end(grant, [used_in(claim.of.unit, ended) for claim in grant.claims])

    def release(self, grant: RateGrant) -> None:
        """Give all of it back: nothing was made of it."""
        self._allowances.end(grant, [0] * len(grant.claims))

    def _limits_of(self, endpoint: Endpoint) -> Sequence[RateLimit]:
        rates = endpoint.rates
        return rates.with_learnt(self._learnt.of(endpoint.digest)) if rates.unsaid else rates.said

    def _take(
        self, limits: Sequence[RateLimit], app: str, amounts: Mapping[RateUnit, int]
    ) -> RateGrant:
        now_s = self._allowances.now_s
        claims = find_rate_claims(limits, app, at_s=now_s)
        found = self._allowances.take(
            claims, [amounts[claim.of.unit] for claim in claims], may_refuse=not self._is_off()
        )
        if isinstance(found, RateClaim):
            self._shares_spent[app, found.of.owner] += 1
            # Else its share is held elsewhere, or asked for just now.
            is_spent = self._allowances.is_spent(found)
            raise refusal_of(found, now_s=now_s, is_spent=is_spent)
        return found


def usual_tokens_in(request: CallRequest, endpoint: Endpoint, sizes: TokenSizes) -> int:
    """Return how many tokens a prompt probably has at an endpoint."""
    n_in = sizes.expected(endpoint.digest, request.text_bytes)
    return n_in + (media_tokens(request.body) if request.needs & MEDIA_NEEDS else 0)


def usual_tokens_out(
    request: CallRequest, endpoint: Endpoint, beliefs: Beliefs, category: int
) -> int:
    """Return how many tokens an answer is expected to have at an endpoint."""
    if request.dialect is Dialect.EMBEDDINGS:
        return 0
    posterior, task = beliefs.place(category)
    expected = round(float(posterior.tokens_out[task, endpoint.index]))
    most = request.output_limit
    return expected if most is None else min(expected, most * request.n_answers)


def used_in(unit: RateUnit, ended: Ending) -> int:
    """Return what an attempt used, in a unit; nothing where it was never sent."""
    was_sent = ended.began_at > 0 and (ended.status > 0 or ended.result is not Result.CONNECT)
    if not was_sent:
        return 0
    if unit is RateUnit.REQUESTS:
        return 1
    used = ended.usage or ended.estimate
    return used.prompt_tokens + used.completion_tokens if used is not None else 0


def refusal_of(claim: RateClaim, *, now_s: float, is_spent: bool) -> RateShareSpent:
    """Return the refusal of a call for a share that it does not fit into.

    Args:
        is_spent: it is used up, and not only held elsewhere.
    """
    resets = datetime.fromtimestamp(claim.ends_s, UTC).isoformat().replace("+00:00", "Z")
    told = {
        "app": claim.app,
        "limit_of": claim.of.owner,
        "unit": claim.of.unit.value,
        "per": "minute",
        "limit": claim.of.per_minute,
        "share": claim.limit,
        "resets_at": resets,
    }
    return RateShareSpent(told, after_s=max(claim.ends_s - now_s, 1.0) if is_spent else 1.0)
