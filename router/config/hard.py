"""The hard constraints of a configuration as one value, and which of them another one loosens.

Whatever forbids an endpoint a call belongs in `hard_constraints`, and its field in `FIELDS`, so
that the audit can say when it was loosened. What stands here is archived: no key, no address.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from router.config.compiled import App, Configuration
from router.endpoints.catalog import Endpoint
from router.endpoints.entries import DataClass
from router.endpoints.providers import Provider

Hard = Mapping[str, Any]
"""`classes`: rank by name; then by kind of thing (`app`, `endpoint`, `provider`) and name its
fields, as JSON has them. A field that is None or not there constrains nothing."""
THINGS = ("app", "endpoint", "provider")
PLACES = ("endpoint", "provider")
"""Where data may go."""


def hard_constraints(configuration: Configuration) -> dict[str, Any]:
    """Return all that forbids a call an endpoint, whatever is preferred."""
    catalog = configuration.catalog
    return {
        "classes": {one.value: one.level for one in DataClass},
        "app": {name: _of_app(app) for name, app in configuration.apps.items()},
        "endpoint": {one.id: _of_place(one) for one in catalog.endpoints},
        "provider": {one.name: _of_place(one) for one in catalog.claims},
    }


def _of_app(app: App) -> dict[str, Any]:
    entry = app.entry
    regions = sorted(entry.regions) if entry.regions else None
    return {"data_class": entry.data_class.value, "regions": regions}


def _of_place(place: Endpoint | Provider) -> dict[str, Any]:
    terms = place.terms
    until = terms.agreed_until
    found = {
        "zone": terms.zone,
        "max_data_class": place.max_data_class.value,
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


def _is_lower_class(change: _Change) -> bool:
    return _is_lower(_ranked(change))


def _is_higher_class(change: _Change) -> bool:
    return _is_higher(_ranked(change))


FLOOR, CEILING = _is_lower_class, _is_higher_class  # of a class
LEAST, MOST = _is_lower, _is_higher  # of a number, or a day
ALLOWED, DENIED = _allows_more, _denies_less  # of a list
MUST, FACT = _is_waived, _is_other
FIELDS: dict[str, Callable[[_Change], bool]] = {
    "data_class": FLOOR,
    "max_data_class": CEILING,
    "regions": ALLOWED,
    "zones": ALLOWED,
    "jurisdictions": ALLOWED,
    "allow": ALLOWED,
    "deny": DENIED,
    "max_retention_days": MOST,
    "zero_retention": MUST,
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
    return [
        *_reordered(*ranks),
        *(
            said
            for thing in THINGS
            for name, fields in after.get(thing, {}).items()
            for said in _of_thing(thing, name, before.get(thing, {}).get(name), fields, ranks)
        ),
    ]


def _of_thing(
    thing: str,
    name: str,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any],
    ranks: tuple[Mapping[str, int], Mapping[str, int]],
) -> Iterator[str]:
    if before is None:
        most, usual = after.get("max_data_class"), DataClass.INTERNAL.value
        if thing in PLACES and ranks[1].get(most or "", 0) > ranks[1].get(usual, -1):
            zone = after.get("zone") or "not declared"
            yield f"{thing} {name}: new, takes up to {most}, zone {zone}"
        return
    for field in dict.fromkeys([*before, *after]):
        change = _Change(before.get(field), after.get(field), ranks)
        if change.before != change.after and FIELDS.get(field, FACT)(change):
            yield f"{thing} {name}: {field} {_shown(change.before)} → {_shown(change.after)}"


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
    return ", ".join(map(str, value)) or "nothing" if isinstance(value, list) else str(value)
