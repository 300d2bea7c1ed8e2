"""How a call goes by the price of money of its budgets. Pure, no I/O.

A price makes cost count more in what the strategy maximises, and enters nothing else: choices are
reviewed by the strategy's own objective, and the law stays what it is.
"""

from __future__ import annotations

from hashlib import blake2b

from msgspec import structs

from bandit.utility import Order
from router.budgets.call_mix import CallKind
from router.budgets.prices import MoneyPrices, has_money
from router.decision.context import CallContext
from router.decision.held_to import at_cheapest_for
from router.decision.limiting import drawn_within
from router.decision.planner import first_listed, within_groups


def with_price(context: CallContext, prices: MoneyPrices, secret: bytes) -> CallContext:
    """Return a call with what money costs it, and whom what is left does not suffice for.

    Args:
        secret: that of draws.
    """
    route = context.route
    if not context.claims or route.law is None:
        return context
    price = 0.0
    if context.strategy.objective.order is Order.UTILITY:
        price = prices.of(context.claims, lambda: _luck(context, secret))
    barred = frozenset[int]()
    if prices.any_barred and has_money(context.claims):
        barred = prices.barred(kind_of(context))
    if not price and not barred:
        return context
    route = structs.replace(route, price=price, barred=barred)
    return structs.replace(context, route=route)


def note_call(context: CallContext, prices: MoneyPrices) -> None:
    """Take note of a call that is to be served: by what comes, prices are worked out."""
    if context.claims and has_money(context.claims):
        prices.note(kind_of(context), context.at.store_ms / 1000)


def kind_of(context: CallContext) -> CallKind:
    """Return which kind of call it is."""
    route, beliefs, eligibility = context.route, context.beliefs, context.eligibility
    catalog, mask = beliefs.configuration.catalog, eligibility.mask
    law, first = route.law, route.first or first_listed(route, eligibility) or route.listed[0]
    if at_cheapest_for(context.held_to):  # nothing is drawn
        law, first = None, first_listed(route, eligibility) or first
    if law is not None:
        mask = within_groups(route, eligibility, catalog).mask
        mask, _ = drawn_within(eligibility, beliefs, context.category, mask)
    return CallKind(
        app=context.caller.app.name,
        task=context.decided_by,
        strategy=context.strategy,
        compared=(route.first or route.listed[0]).index,
        first=first.index,
        law=law,
        mask=mask,
        catalog=catalog,
        claims=context.claims,
    )


def _luck(context: CallContext, secret: bytes) -> float:
    """Return the unit's own number in [0, 1) for which of two prices it goes by."""
    said = context.seed + context.draw_key.encode()
    digest = blake2b(said, key=secret, digest_size=8, person=b"price").digest()
    return int.from_bytes(digest, "little") / 2.0**64
