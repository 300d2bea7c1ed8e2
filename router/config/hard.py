"""The hard constraints of a configuration as one value, and which of them another one loosens.

Whatever forbids an endpoint a call belongs in `hard_constraints`, and its field in `FIELDS`, so
that the audit can say when it was loosened. What stands here is archived: no key, no address.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from msgspec import structs

from router.config.compiled import App, Configuration, KeyHolder, Strategy
from router.config.entries import BUILT_IN_STRATEGY, Users
from router.config.rules import PolicyRules, strictest
from router.endpoints.capabilities import names_of
from router.endpoints.catalog import Endpoint
from router.endpoints.data_classes import INTERNAL
from router.endpoints.providers import Provider

Hard = Mapping[str, Any]
"""`classes`: rank by name; then by kind of thing (`THINGS`) and name its fields, as JSON has them.
A field that is None or not there constrains nothing."""
LEVELS = ("organisation", "app", "task", "role", "strategy", "user", "key")
"""Who sets rules. Keys go by their place in the file."""
OF_TASK = ", task "
"""Between the names of an app and of a task for which it names a strategy of its own."""
THINGS = (*LEVELS, "endpoint", "provider")
PLACES = ("endpoint", "provider")
"""Where data may go."""


def hard_constraints(configuration: Configuration) -> dict[str, Any]:
    """Return all that forbids a call an endpoint, whatever is preferred."""
    catalog = configuration.catalog
    return {
        "classes": {one.name: one.level for one in configuration.classes.all},
        **{
            level: {name: said for name, rules in named.items() if (said := _of_rules(rules))}
            for level, named in _rules(configuration).items()
        },
        "app": {
            name: said
            for app in configuration.apps.values()
            for name, said in _of_app(app, configuration)
        },
        "key": {place: _of_key(place, one) for place, one in configuration.key_holders.items()},
        "endpoint": {one.id: _of_place(one) for one in catalog.endpoints},
        "provider": {one.name: _of_place(one) for one in catalog.claims},
    }


def _rules(configuration: Configuration) -> dict[str, dict[str, PolicyRules]]:
    return {
        "organisation": {"all": configuration.organisation},
        "task": configuration.task_rules,
        "role": {name: role.rules for name, role in configuration.roles.items()},
        "strategy": {  # one that says no retention has its usual one
            name: _of_strategy(one) for name, one in configuration.strategies.items()
        },
        "user": configuration.users,
    }


def _of_app(app: App, configuration: Configuration) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what holds in an app under the strategy that it has, and in tasks with another one."""
    organisation = configuration.organisation
    usual = app.rules.strategy or organisation.strategy or BUILT_IN_STRATEGY
    names = {app.name: usual}
    names |= {f"{app.name}{OF_TASK}{task}": one for task, one in app.entry.strategies.items()}
    rules = app.rules
    if rules.data_class is None:  # one that says no class has the usual one
        least = organisation.data_class or configuration.classes.usual
        rules = structs.replace(rules, data_class=least)
    for name, strategy in names.items():
        held = _of_rules(_under(rules, configuration.strategies[strategy]))
        if app.entry.users is Users.REQUIRED:
            held["users"] = app.entry.users.value
        yield name, held


def _of_key(place: str, holder: KeyHolder) -> dict[str, Any]:
    """Return what a key says of every call that comes with it, beside what its place says."""
    data_class, is_users = holder.data_class, place.startswith("users.")
    found = {
        "data_class": data_class.name if data_class else None,
        "user": None if is_users else holder.user,
    }
    return {name: value for name, value in found.items() if value is not None}


def _of_strategy(strategy: Strategy) -> PolicyRules:
    """Return the rules of a strategy, as they hold where nobody says for how long is kept."""
    return _under(strategy.rules, strategy)


def _under(rules: PolicyRules, strategy: Strategy) -> PolicyRules:
    """Return rules together with a strategy's, and its usual retention where neither says any."""
    both = strictest((rules, strategy.rules))
    says_any = both.retention_days is not None
    return both if says_any else structs.replace(both, retention_days=strategy.usual_retention_days)


def _of_rules(rules: PolicyRules) -> dict[str, Any]:
    """Return the hard constraints of one level by their names in the configuration."""
    found: dict[str, Any] = {
        "data_class": rules.data_class.name if rules.data_class else None,
        **{name: _sorted(getattr(rules, name)) for name in _LISTS},
        "deny": sorted(rules.deny) or None,
        "require": names_of(rules.require) or None,
        "forbid": names_of(rules.forbid) or None,
        "tools": [sorted(patterns) for patterns in sorted(rules.tools, key=sorted)] or None,
        "min_context_tokens": rules.context_tokens,
        "max_retention_days": rules.retention_days,
        "max_cost_usd": rules.cost_usd,
        "max_latency_ms": rules.latency_ms,
        **{name: getattr(rules, name) or None for name in _WORDS},
    }
    return {name: value for name, value in found.items() if value is not None}


_LISTS = ("regions", "jurisdictions", "zones", "allow")
_WORDS = ("no_training", "keep_nothing", "private", "high_stakes", "no_exploring")


def _sorted(names: frozenset[str] | None) -> list[str] | None:
    return None if names is None else sorted(names)


def _of_place(place: Endpoint | Provider) -> dict[str, Any]:
    terms = place.terms
    until = terms.agreed_until
    found = {
        "zone": terms.zone,
        "max_data_class": place.place.most.name,
        "region": terms.region,
        "jurisdiction": terms.jurisdiction,
        "retention_days": terms.retention_days,
        "trains_on_data": terms.trains_on_data,
        "agreed_until": until.isoformat() if until else None,
    }
    return {name: value for name, value in found.items() if value is not None}


class _Change(NamedTuple):
    """One field before and after, and what classes weighed then."""

    before: Any
    after: Any
    ranks: tuple[Mapping[str, int], Mapping[str, int]]


def _is_lower(change: _Change) -> bool:
    return change.after is None or (change.before is not None and change.after < change.before)


def _is_higher(change: _Change) -> bool:
    return change.after is None or (change.before is not None and change.after > change.before)


def _ranked(change: _Change) -> _Change:
    """Return a change of a class as one of its rank; one that is not known is the lowest."""
    then, now = change.ranks
    before = None if change.before is None else then.get(change.before, 0)
    after = None if change.after is None else now.get(change.after, 0)
    return _Change(before, after, change.ranks)


def _allows_more(change: _Change) -> bool:
    """Of a list of all that is allowed: None allows everything, an empty one nothing."""
    return change.after is None or (
        change.before is not None and not set(change.after) <= set(change.before)
    )


def _denies_less(change: _Change) -> bool:
    return not set(change.before or ()) <= set(change.after or ())


def _is_other(change: _Change) -> bool:
    return bool(change.before != change.after)


def _is_waived(change: _Change) -> bool:
    return bool(change.before) and not change.after


def _is_another(change: _Change) -> bool:
    return change.before is not None and change.before != change.after


def _offers_more(change: _Change) -> bool:
    """Of lists of tools, each of which must name a tool: no other one is as tight as one before."""
    now = [set(patterns) for patterns in change.after or ()]
    return not all(any(one <= set(was) for one in now) for was in change.before or ())


def _is_lower_class(change: _Change) -> bool:
    return _is_lower(_ranked(change))


def _is_higher_class(change: _Change) -> bool:
    return _is_higher(_ranked(change))


FLOOR, CEILING = _is_lower_class, _is_higher_class  # of a class
LEAST, MOST = _is_lower, _is_higher  # of a number, or a day
ALLOWED, DENIED = _allows_more, _denies_less  # of a list
TOOLS = _offers_more
MUST, BOUND, FACT = _is_waived, _is_another, _is_other
FIELDS: dict[str, Callable[[_Change], bool]] = {
    "data_class": FLOOR,
    "max_data_class": CEILING,
    "regions": ALLOWED,
    "zones": ALLOWED,
    "jurisdictions": ALLOWED,
    "allow": ALLOWED,
    "deny": DENIED,
    **dict.fromkeys(("require", "forbid"), DENIED),
    "min_context_tokens": LEAST,
    **dict.fromkeys(("max_retention_days", "max_cost_usd", "max_latency_ms"), MOST),
    **dict.fromkeys(("no_training", "keep_nothing", "private", "zero_retention"), MUST),
    **dict.fromkeys(("high_stakes", "no_exploring"), MUST),
    "tools": TOOLS,
    "users": MUST,
    "user": BOUND,
    "agreed_until": MOST,
    "zone": FACT,
    "region": FACT,
    "jurisdiction": FACT,
    "retention_days": MOST,
    "trains_on_data": FACT,
}
"""What loosens a field. Of one that is not here every change is named: better once too often."""


def loosened(before: Hard, after: Hard) -> list[str]:
    """Return each hard constraint that the second configuration loosens, in words.

    What an endpoint is said to be (its zone, its region) is named whenever it changes: rules about
    zones hold for other data then. A new app loosens nothing; a new endpoint does where it may
    receive more than one that says nothing may.
    """
    ranks = before.get("classes", {}), after.get("classes", {})
    said: dict[str, None] = dict.fromkeys(_reordered(*ranks))
    for thing in THINGS:
        for name, was, now in _pairs(thing, before.get(thing, {}), after.get(thing, {})):
            whole, is_part, _ = name.partition(OF_TASK)
            for what in _of_thing(was, now, ranks, is_place=thing in PLACES):
                if not (is_part and f"{thing} {whole}: {what}" in said):  # else of all its tasks
                    said[f"{thing} {name}: {what}"] = None
    return list(said)


def _pairs(
    thing: str, before: Mapping[str, Any], after: Mapping[str, Any]
) -> Iterator[tuple[str, Mapping[str, Any] | None, Mapping[str, Any]]]:
    """Yield what a thing was and is. Rules that went away forbid nothing any more.

    A task for which an app names no strategy has that of the app.
    """
    for name, fields in after.items():
        yield name, before.get(name, before.get(name.partition(OF_TASK)[0])), fields
    for name in before if thing in LEVELS else ():
        if name in after:
            continue
        if thing != "app":
            yield name, before[name], {}
        elif (whole := name.partition(OF_TASK)[0]) in after:  # of an app that went no call comes
            yield name, before[name], after[whole]


def _of_thing(
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any],
    ranks: tuple[Mapping[str, int], Mapping[str, int]],
    *,
    is_place: bool,
) -> Iterator[str]:
    if before is None:
        most, usual = after.get("max_data_class"), INTERNAL
        if is_place and ranks[1].get(most or "", 0) > ranks[1].get(usual, -1):
            zone = after.get("zone") or "not declared"
            yield f"new, takes up to {most}, zone {zone}"
        return
    for field in dict.fromkeys([*before, *after]):
        change = _Change(before.get(field), after.get(field), ranks)
        if change.before != change.after and FIELDS.get(field, FACT)(change):
            yield f"{field} {_shown(change.before)} → {_shown(change.after)}"


def _reordered(before: Mapping[str, int], after: Mapping[str, int]) -> Iterator[str]:
    """Yield each class that no longer stands above one that it stood above."""
    for name in before:
        below = {other for other in before if before[other] < before[name]}
        if name not in after:
            yield f"class {name}: gone"
            continue
        passed = sorted(other for other in below & set(after) if after[other] >= after[name])
        if passed:
            yield f"class {name}: no longer above {', '.join(passed)}"


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if not isinstance(value, list):
        return str(value)
    if value and isinstance(value[0], list):  # of tools: all of these at once
        return " and ".join(map(_shown, value))
    return ", ".join(map(str, value)) or "nothing"
