"""Whether budgets count what there is, say one amount, and can be kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from router.config.budgets import EACH, MAX_HELD, BudgetEntry, BudgetUnit, OnSpent
from router.config.entries import AppEntry, File
from router.config.exploring import ExploringEntry
from router.config.masking import Place
from router.config.named import check_name
from router.endpoints.terms import LOCAL

Wrong = Iterator[tuple[Place, str, str]]
NO_CEILING = "say usd_per_day, share_of_calls or both; {} in an app: it has none"


def check_budgets(entries: File) -> Wrong:
    """Yield what is wrong with budgets: place, value, hint."""
    for name, entry in entries.budgets.items():
        where: Place = ("budgets", name)
        yield from _check_amount(where, entry)
        yield from _check_scope(where, entry, entries)
        yield from _check_instead(where, entry, entries)
        yield from _check_on_spent(where, entry, entries)
    yield from _check_exploring(entries)
    for app in entries.all_apps:
        held = [name for name, entry in entries.budgets.items() if entry.app in (None, EACH, app)]
        if len(held) > MAX_HELD:
            hint = f"budgets {', '.join(held)} may all hold for app {app}; {MAX_HELD} at most do"
            yield ("budgets", held[-1]), str(len(held)), hint


def _check_exploring(entries: File) -> Wrong:
    """Yield the ceilings of exploring that say whose day counts, and not what is counted."""
    said: list[tuple[Place, ExploringEntry | None]] = [
        (("organisation", "exploring"), entries.organisation.exploring),
        *((("apps", name, "exploring"), app.exploring) for name, app in entries.apps.items()),
    ]
    for where, entry in said:
        if entry is not None and entry.model_fields_set == {"timezone"}:
            yield where, "no ceiling", NO_CEILING


def _check_amount(where: Place, entry: BudgetEntry) -> Wrong:
    said = [unit.value for unit in entry.amounts]
    if not said:
        yield where, "no amount", "say how much: one of usd, tokens or calls"
    for field in said[1:]:
        hint = f"{said[0]} is said already; make it a budget of its own"
        yield (*where, field), str(getattr(entry, field)), hint


def _check_scope(where: Place, entry: BudgetEntry, entries: File) -> Wrong:
    for field, value in entry.scope.items():
        yield from _check_value((*where, field), field, value, entry, entries)


def _check_value(at: Place, field: str, value: str, entry: BudgetEntry, entries: File) -> Wrong:
    """Yield what is wrong with the value of a field, unless it is `each`."""
    known: dict[str, Sequence[str]] = {
        "app": list(entries.all_apps),
        "role": list(entries.roles),
        "strategy": [*entries.all_strategies, *entries.aliases],
    }
    if field == "tag":
        yield from _check_tag(at, value, _apps_of(entry, entries), entries)
    elif field in known and value != EACH:
        yield from check_name(at, value, known[field], field)


def _apps_of(entry: BudgetEntry, entries: File) -> list[AppEntry]:
    """Return the apps whose calls may count."""
    apps = entries.all_apps
    return [app for name, app in apps.items() if entry.app in (None, EACH, name)]


def _check_tag(at: Place, value: str, apps: list[AppEntry], entries: File) -> Wrong:
    keys = {app.spend_tag or entries.organisation.spend_tag for app in apps} - {None}
    if not keys:
        yield at, value, "no app of it declares a tag; write spend_tag: matter in the app"
        return
    key, _, name = value.partition("=")
    if value == EACH or (key in keys and name not in ("", EACH)):
        return
    if key in keys and at[-1] == "tag":
        hint = f"write each, for an account of every {key}, or one of them: {key}=NAME"
    else:
        shown = " or ".join(f"{key}=NAME" for key in sorted(filter(None, keys)))
        hint = f"write the tag as it is booked: {shown}"
    yield at, value, hint


def _check_instead(where: Place, entry: BudgetEntry, entries: File) -> Wrong:
    each = [field for field, value in entry.scope.items() if value == EACH]
    for value, amount in entry.instead.items():
        at = (*where, "instead", value)
        if len(each) != 1:
            hint = "one field of the budget must say each, so that it is known whose amount it is"
            yield at, str(amount), hint
            continue
        if BudgetUnit.MONEY not in entry.amounts and amount != int(amount):
            yield at, str(amount), "write a whole number"
        if each[0] != "user" and value != EACH:
            yield from _check_value(at, each[0], value, entry, entries)


def _check_on_spent(where: Place, entry: BudgetEntry, entries: File) -> Wrong:
    at, said = (*where, "on_spent"), entry.on_spent
    if entry.hard and said is OnSpent.CHEAPEST:
        yield at, said.value, "the cheapest costs something, and hard is never exceeded; refuse"
    if said is OnSpent.LOCAL and not _has_local(entries):
        yield at, said.value, "no endpoint is of zone local; write zone: local at its provider"


def _has_local(entries: File) -> bool:
    providers = {name for name, entry in entries.providers.items() if entry.zone == LOCAL}
    return any(e.zone == LOCAL or e.provider in providers for e in entries.endpoints)
