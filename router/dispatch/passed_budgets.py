"""What requests that are passed on reserve in the budgets that hold for them.

Nobody routes them, so no budget makes them cheaper: under `cheapest` they go on as they are, and
under `local` only to a provider that is. A hard budget wants to know what they may come to: of
paths that are no call, and of models without a known price, nobody does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

from router.budgets.amounts import asked_of, most_nano, most_tokens, no_bound
from router.budgets.bounds import ONE_CALL, Bound, amount_of
from router.budgets.claims import BudgetClaim, Claims
from router.budgets.leaves import Leave
from router.budgets.rate_allowances import RateGrant
from router.budgets.told import warning_of
from router.config.budgets import BudgetUnit, OnSpent
from router.config.exclusions import Exclusion
from router.dialects.parsers import PARSERS
from router.dispatch.passed import Passed
from router.dispatch.passed_costs import is_free, prices_of
from router.dispatch.spending import Spending
from router.endpoints.catalog import CALL_PATHS, Catalog, Endpoint
from router.endpoints.entries import Dialect
from router.endpoints.providers import Provider, dialect_at
from router.endpoints.rates import PriceList
from router.endpoints.terms import LOCAL
from router.endpoints.token_sizes import SEED_BYTES
from router.errors import BudgetAway, BudgetSpent, NoCandidates, RequestRejected
from telemetry.wire.usage import Usage

USUAL_OUT = 650
"""UNVALIDATED: tokens that most answers stay below, of models that nothing is known of."""


class PassedBudgets:
    """Reserves for one request."""

    def __init__(
        self, spending: Spending, passed: Passed, provider: Provider, catalog: Catalog, path: str
    ) -> None:
        """Make it.

        Args:
            path: of the request, decoded.
        """
        self._spending = spending
        self._claims = passed.claims
        self._app = passed.caller.app.name
        self._model = passed.model
        self._provider = provider
        self._catalog = catalog
        self._path = path
        self._body = passed.body if isinstance(passed.body, bytes) else None

    async def reserve(self, *, at_s: float) -> tuple[Leave | None, Sequence[str]]:
        """Return leave for the request, and what its client is warned of.

        Args:
            at_s: when it came, in epoch seconds.

        Raises:
            BudgetSpent, BudgetAway, RateShareSpent: it does not fit.
            NoCandidates: a hard budget holds, and nobody knows what it may come to.
        """
        if not self._claims:  # most often
            return await self._spending.reserve((), (), self._rates()), ()
        try:
            return await self._reserve(at_s)
        except (BudgetSpent, BudgetAway) as refusal:
            self._spending.count_refusal(refusal, self._claims)
            raise

    async def preview(self, *, at_s: float) -> list[dict[str, Any]]:
        """Return how the budgets stand that the request counts in; nothing is reserved.

        Raises:
            BudgetSpent, NoCandidates: it would be refused.
        """
        await self._spending.allowances.look(self._claims, afresh=True)
        await self._spent()
        amounts = [amount_of(self._amount(claim, at_s)) for claim in self._claims]
        self._spending.foresee(self._claims, amounts)
        return self._spending.rows_of(self._claims, amounts)

    async def _reserve(self, at_s: float) -> tuple[Leave | None, Sequence[str]]:
        spent = await self._spent()
        amounts = [self._amount(claim, at_s) for claim in self._claims]
        leave = await self._spending.reserve(self._claims, amounts, self._rates())
        return leave, [_warning_of(claim) for claim in spent]

    async def _spent(self) -> Claims:
        """Return the budgets that are used up and say what holds instead, if that lets it pass."""
        spent = await self._spending.spent_of(self._claims)
        is_local = self._provider.terms.zone_at(time.time()) == LOCAL
        for claim in spent:
            if claim.budget.on_spent is OnSpent.LOCAL and not is_local:
                raise self._spending.refusal(claim)
        return spent

    def _amount(self, claim: BudgetClaim, at_s: float) -> int | Bound:
        unit = claim.budget.unit
        is_bound = claim.budget.is_hard and not self._spending.is_off()
        if unit is BudgetUnit.CALLS:
            return ONE_CALL if is_bound else 1
        prices = self._prices
        if is_bound:
            if unit is BudgetUnit.MONEY and prices is None:
                raise self._unknown(Exclusion.UNPRICED)
            return self._most(prices if unit is BudgetUnit.MONEY else None, at_s)
        usage = self._usual
        if unit is BudgetUnit.TOKENS:
            return usage.prompt_tokens + usage.completion_tokens if self._is_call else 0
        if prices is not None:
            return prices.nano(usage, at_s) or 0
        return self._dearest(usage, at_s) if self._is_call else 0

    def _dearest(self, usage: Usage, at_s: float) -> int:
        """Return what a call comes to at the dearest that is known, where no price of its is."""
        known = (e.prices for e in self._catalog.endpoints if e.prices is not None)
        return max((prices.nano(usage, at_s) or 0 for prices in known), default=0)

    def _rates(self) -> RateGrant | None:
        """Take of the provider's limits; other paths than calls are counted apart, if at all."""
        if not self._is_call:
            return None
        tokens = self._usual.prompt_tokens + self._usual.completion_tokens
        return self._spending.rates.take_passed(self._provider, self._app, tokens=tokens)

    @property
    def _usual(self) -> Usage:
        size = len(self._body or b"")
        n_out = 0 if dialect_at(self._path) is Dialect.EMBEDDINGS else USUAL_OUT
        return Usage(round(size / SEED_BYTES), n_out, 0, 0)

    def _most(self, prices: PriceList | None, at_s: float) -> Bound:
        """Return what it comes to at most: by prices, else in tokens."""
        try:
            request = PARSERS[self._path](self._body or b"") if self._is_call else None
        except RequestRejected:
            request = None
        if request is None or no_bound(request.keeping) is not None:
            raise self._unknown(Exclusion.UNBOUNDED)
        listed = self._listed
        tokens = most_tokens(
            asked_of(request),
            context_tokens=None if listed is None else listed.context_tokens,
            output_tokens=None if listed is None else listed.output_tokens,
            params={},
        )
        most = tokens.tokens_in + tokens.tokens_out
        if prices is not None:
            most = most_nano(tokens, prices, at_s=at_s)
        if not math.isfinite(most):
            raise self._unknown(Exclusion.UNBOUNDED)
        return Bound(math.ceil(most), tokens, prices, at_s)

    @property
    def _is_call(self) -> bool:
        dialect = dialect_at(self._path)
        return dialect is not None and self._path == f"/v1/{CALL_PATHS[dialect]}"

    @property
    def _prices(self) -> PriceList | None:
        """What the model costs; of several an unread body may mean, and of other paths, nothing."""
        if not (self._is_call and self._model):
            return None
        return prices_of(self._provider, self._model, self._catalog)

    @property
    def _listed(self) -> Endpoint | None:
        """An endpoint of the provider's that lists the model: of which more is known."""
        found = self._catalog.by_model.get(self._model, ())
        return next((e for e in found if e.provider == self._provider.name), None)

    def _unknown(self, why: Exclusion) -> NoCandidates:
        return NoCandidates({self._provider.name: why})


def _warning_of(claim: BudgetClaim) -> str:
    """Return what is said of a budget that is used up; nobody routes what is passed on."""
    is_cheapest = claim.budget.on_spent is OnSpent.CHEAPEST
    return warning_of(claim, "what is passed on goes on as it is" if is_cheapest else None)


def of_passed(claims: Claims, *, method: str, path: str, is_by_id: bool) -> Claims:
    """Return the budgets that a request counts in: those of its call, unless it costs nothing."""
    return () if is_by_id or method != "POST" or is_free(path) else claims
