"""Whether a strategy's trade between money and quality is said, once, and means something."""

from __future__ import annotations

from collections.abc import Iterator

from router.config.entries import NO_INCUMBENT, File
from router.config.masking import Place
from router.config.policies import PreferencesEntry
from router.config.policy_checks import levels_of
from router.config.strategies import ORDERS, ObjectiveKind, StrategyEntry

BALANCED = ObjectiveKind.BALANCED.value
NOT_SAID = (
    "balanced weighs money against quality, and how is yours to say: write "
    "strategies: {balanced: {pay: 20%, for: 5% better}}, or value_usd, what a success is worth; "
    "quality and cheapest need no trade"
)
NO_ONE_TO_COMPARE = (
    "pay and for compare with the incumbent, and incumbent: none has none; name an endpoint, "
    "or write value_usd"
)


def check_trades(entries: File) -> Iterator[tuple[Place, str, str]]:
    """Yield trades that are missing, half said or said twice: place, value, hint."""
    for name, strategy in entries.all_strategies.items():
        if name in entries.strategies:
            yield from _check_strategy(("strategies", name), strategy)
    for where, named in _named_strategies(entries):
        if named == BALANCED and entries.strategy(named) is None:
            yield where, BALANCED, NOT_SAID
    for name, app in entries.apps.items():
        found = entries.strategy(app.strategy or "")
        if found is not None and found.has_trade and app.incumbent == NO_INCUMBENT:
            yield ("apps", name, "incumbent"), NO_INCUMBENT, NO_ONE_TO_COMPARE


def _named_strategies(entries: File) -> Iterator[tuple[Place, str | None]]:
    for where, entry in levels_of(entries):
        if isinstance(entry, PreferencesEntry):
            yield (*where, "strategy"), entry.strategy
    for name, app in entries.apps.items():
        for task, strategy in app.strategies.items():
            yield ("apps", name, "strategies", task), strategy


def _check_strategy(where: Place, entry: StrategyEntry) -> Iterator[tuple[Place, str, str]]:
    has_value = entry.value_usd is not None
    says_nothing = not has_value and entry.pay is None and entry.for_ is None
    if entry.objective is ObjectiveKind.BALANCED and says_nothing:
        yield (*where, "objective"), BALANCED, NOT_SAID
    if (entry.pay is None) != (entry.for_ is None):
        said, missing = ("pay", "for") if entry.for_ is None else ("for", "pay")
        hint = f"say both, as in pay: 20%, for: 5% better; {missing} is missing"
        yield (*where, said), entry.pay or entry.for_ or "", hint
    if entry.pay is None:
        return
    if has_value:
        hint = "pay and for say what a success is worth, so value_usd says it twice; leave one out"
        yield (*where, "value_usd"), str(entry.value_usd), hint
    if entry.objective in ORDERS:
        hint = f"{entry.objective} is an order, and trades nothing; leave pay and for out"
        yield (*where, "pay"), entry.pay, hint
    if entry.incumbent == NO_INCUMBENT:
        yield (*where, "incumbent"), NO_INCUMBENT, NO_ONE_TO_COMPARE
