"""Who is routed and how: strategies, apps and modes, and the one function that merges them.

Only the `model` field, the app's mode and `map_models` decide whether a call is routed; hints
never do.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct, structs

from bandit.assignment import Assignment
from bandit.draws import LEARNING, Law
from router.config.compiled import Strategy
from router.config.entries import AUTO, CLAUDE_AUTO, CLAUDE_ROLE, ROLE, Fallback, Mode, is_reserved
from router.config.strategies import Exchangeable
from router.endpoints.catalog import Catalog, Endpoint, speakers
from router.endpoints.entries import Dialect
from router.errors import RequestRejected
from router.policy.standing import AppStanding
from telemetry.numbers import brief, clipped

CHALLENGED = tuple(dialect for dialect in Dialect if dialect is not Dialect.EMBEDDINGS)
"""Dialects of which a choice may change: vectors of two models do not mix."""


class Route(Struct, frozen=True):
    """How one call is routed.

    `law` None means that nothing is drawn: `first` serves it, or the first eligible of `listed`
    where a hint of the call forbids that one. `groups` names those that may be drawn or fallen
    back to; None is all.
    """

    strategy: Strategy
    law: Law | None
    first: Endpoint | None
    groups: frozenset[int] | None
    fallback: Fallback
    routed: bool
    by_name: bool  # the caller named a model or endpoint
    listed: tuple[Endpoint, ...]  # whom the `model` field may mean, as listed
    goes_on: bool = False  # from what lies at `first`
    preferred: frozenset[int] | None = None  # arms that are drawn, where any of them may serve
    price: float = 0.0  # of money, in successes a USD, beside what the strategy says it is worth
    barred: frozenset[int] = frozenset()  # arms that are not drawn: a budget is too near its end
    assignment: Assignment | None = None  # by which its units come to a side, where they may

    @property
    def is_guarded(self) -> bool:
        """Whether an incumbent is challenged: choices apply, and change by releases."""
        return self.law is not None and not self.law.is_learning and self.groups is None


class ModelField(Struct, frozen=True):
    """What a `model` field asks for."""

    name: str
    automatic: bool = False
    strategy: str | None = None
    task: str | None = None
    role: str | None = None


def parse_model(model: str) -> ModelField:
    """Return what `auto`, `auto:<strategy>`, `auto/<task>`, `role:<role>` or a name asks for.

    `claude-auto`, `claude-auto-<strategy>` and `claude-role-<role>` are the same by other names.

    Raises:
        RequestRejected: the name is ours, and means nothing.
    """
    if not is_reserved(model):
        return ModelField(model)
    for prefix in (ROLE, CLAUDE_ROLE):
        if model.startswith(prefix):
            return ModelField(model, automatic=True, role=model.removeprefix(prefix))
    rest = model.removeprefix("claude-").removeprefix(AUTO)
    if model.startswith(f"{CLAUDE_AUTO}-"):
        return ModelField(model, automatic=True, strategy=rest[1:])
    if not rest:
        return ModelField(model, automatic=True)
    if rest.startswith("/"):
        return ModelField(model, automatic=True, task=rest[1:])
    if rest.startswith(":"):
        strategy, _, task = rest[1:].partition("/")
        return ModelField(model, automatic=True, strategy=strategy, task=task or None)
    raise RequestRejected(
        "model_not_found",
        f"names that begin with {CLAUDE_AUTO} are ours, and {brief(model)} is none that we know; "
        f"write {CLAUDE_AUTO} or {CLAUDE_AUTO}-<strategy>",
        param="model",
    )


def no_such_model(model: str) -> RequestRejected:
    """Return the refusal of a model that nobody takes, or of a call that names none."""
    if not model:
        return RequestRejected("invalid_request", "model is missing; name one", param="model")
    return RequestRejected(
        "model_not_found",
        f"no endpoint that takes this dialect lists the model {brief(model)}; GET /v1/models "
        "shows what there is, "
        "and a provider with passthrough would take it unlisted",
        param="model",
    )


def require_meant(model: str, path: str, *, at: str = "model") -> None:
    """Refuse a name of ours where nothing is routed: to a provider it would mean nothing.

    Args:
        at: where in the body it stands.

    Raises:
        RequestRejected: it is one.
    """
    if is_reserved(model):
        raise RequestRejected(
            "model_not_found",
            f"{brief(model)} is a name of this sidecar's, and calls of {clipped(path)} are not "
            "routed; name a model of the provider that takes them",
            param=at,
        )


def require_spoken(model: str, dialect: Dialect, catalog: Catalog) -> None:
    """Refuse an endpoint's id in a dialect that it does not take: it is no provider's model.

    Raises:
        RequestRejected: it is one, and nothing else that is listed has the name.
    """
    named = catalog.by_id.get(model)
    if named is None or named.takes(dialect) or model in catalog.by_model:
        return
    taken = ", ".join(one for one in Dialect if named.takes(one))
    raise RequestRejected(
        "model_not_found",
        f"{brief(model)} is an endpoint that takes {taken}, and no calls of {dialect}",
        param="model",
    )


def find_route(
    target: ModelField,
    standing: AppStanding,
    catalog: Catalog,
    *,
    dialect: Dialect,
    share: float,
    off: bool,
    maps: bool = False,
) -> Route | None:
    """Return how the call is routed; None means that no endpoint lists the model.

    An endpoint that does not take the call's dialect lists nothing for it: where a provider takes
    what is not listed, that one may well speak it.

    Args:
        share: the unit's own uniform in [0, 1), against the app's percentage.
        off: routing is switched off for everybody.
        maps: a model that is named is the incumbent, as under `map_models`.

    Raises:
        RequestRejected: the call names an endpoint that does not take its dialect.
    """
    entry, strategy = standing.app.entry, standing.strategy
    require_spoken(target.name, dialect, catalog)
    if dialect is Dialect.EMBEDDINGS:
        draws = entry.mode is Mode.ROUTE and not off and share * 100 < entry.percent
        return _vectors(target, standing, catalog, draws=draws)
    pinned = catalog.by_id.get(target.name)
    if pinned is None and entry.mode is Mode.PINNED and not off:
        pinned = catalog.by_id[entry.endpoint or ""]
    if pinned is not None and (pinned.takes(dialect) or target.automatic):
        fallback = entry.fallback or Fallback.NONE
        return _straight(strategy, pinned, (pinned,), fallback, by_name=True)
    draws = entry.mode is Mode.ROUTE and not off and share * 100 < entry.percent
    if strategy.exchange is not Exchangeable.ANY:
        return _kept(target, standing, catalog, dialect=dialect, draws=draws)
    beyond = entry.fallback or (Fallback.GROUP if entry.locked else Fallback.ANY)
    if target.automatic:
        incumbent = incumbent_of(standing, dialect)
        if not draws:
            return _straight(strategy, incumbent, catalog.endpoints, beyond, by_name=False)
        return _drawn(strategy, incumbent, catalog.endpoints, None, beyond, by_name=False)
    listed = speakers(catalog.by_model.get(target.name, ()), dialect)
    if not listed:
        return None
    first = first_permitted(standing, listed)
    if not draws:
        fallback = entry.fallback or Fallback.GROUP
        return _straight(strategy, first, listed, fallback, by_name=True)
    if entry.map_models or maps:
        return _drawn(strategy, first, listed, None, beyond, by_name=True)
    own = frozenset(e.group for e in listed)
    fallback = entry.fallback or Fallback.GROUP
    route = _drawn(strategy, first, listed, own, fallback, by_name=True)
    served = _sound_host(standing, first, listed, catalog).group
    return structs.replace(route, law=Law(incumbent=served, current=served, stay=1.0))


def _kept(
    target: ModelField,
    standing: AppStanding,
    catalog: Catalog,
    *,
    dialect: Dialect,
    draws: bool,
) -> Route | None:
    """Return how a call is routed that stays with its incumbent, or with equivalents of it.

    Who is named stays although it does not speak the call's dialect; then nobody serves it. A
    failure leaves the equivalents only where the app says so.
    """
    first: Endpoint | None
    listed: Sequence[Endpoint]
    if target.automatic:
        listed, first = catalog.endpoints, incumbent_of(standing, dialect)
    else:
        listed = speakers(catalog.by_model.get(target.name, ()), dialect)
        if not listed:
            return None
        first = first_permitted(standing, listed)
    entry, strategy, by_name = standing.app.entry, standing.strategy, not target.automatic
    if first is None:  # nobody may serve at all: that is said
        return _straight(strategy, None, catalog.endpoints, Fallback.NONE, by_name=by_name)
    if strategy.exchange is Exchangeable.NONE:
        fallback = entry.fallback or Fallback.NONE
        return _straight(strategy, first, (first,), fallback, by_name=by_name)
    fallback = entry.fallback or Fallback.GROUP
    return _among_kin(standing, first, listed, catalog, fallback, draws=draws, by_name=by_name)


def _among_kin(
    standing: AppStanding,
    first: Endpoint,
    listed: Sequence[Endpoint],
    catalog: Catalog,
    fallback: Fallback,
    *,
    draws: bool,
    by_name: bool,
) -> Route:
    """Return the route over those of whom are listed that are equivalent to the first."""
    kin, strategy = catalog.kin[first.group], standing.strategy
    hosts = tuple(e for e in listed if e.group in kin)
    if not draws:
        return _straight(strategy, first, hosts, fallback, by_name=by_name)
    own = frozenset(e.group for e in hosts)
    route = _drawn(strategy, first, hosts, own, fallback, by_name=by_name)
    served = _sound_host(standing, first, hosts, catalog).group
    return structs.replace(route, law=Law(incumbent=served, current=served, stay=1.0))


def _vectors(
    target: ModelField, standing: AppStanding, catalog: Catalog, *, draws: bool
) -> Route | None:
    """Return how a call for vectors is routed: over hosts of one model, for good.

    Vectors of two models do not mix. So nothing is learned, tried or fallen back to beyond the
    group of the incumbent, or of the first that has the model that is named. A mode or a switch
    changes the model as little: who is pinned means the pinned endpoint's by `auto` alone.
    """
    entry, strategy = standing.app.entry, standing.strategy
    spoken = [e for e in catalog.endpoints if Dialect.EMBEDDINGS in e.dialects]
    named = catalog.by_model.get(target.name, ())
    if target.name in catalog.by_id:
        named = (catalog.by_id[target.name],)
    listed = spoken if target.automatic else [e for e in spoken if e in named]
    if not listed and target.automatic:  # nobody: that is said, and no provider asked for `auto`
        return _straight(strategy, None, catalog.endpoints, Fallback.NONE, by_name=False)
    if not listed:
        return None
    incumbent = incumbent_of(standing, Dialect.EMBEDDINGS) if target.automatic else None
    first = incumbent if incumbent in listed else first_permitted(standing, listed)
    pinned = catalog.by_id.get(entry.endpoint or "")
    if target.automatic and entry.mode is Mode.PINNED and pinned in spoken:
        first = pinned
    by_name, is_pinned = not target.automatic, strategy.exchange is Exchangeable.NONE
    fallback = entry.fallback or (Fallback.NONE if is_pinned else Fallback.GROUP)
    if fallback is Fallback.ANY:
        fallback = Fallback.GROUP
    if is_pinned:
        return _straight(strategy, first, (first,), fallback, by_name=by_name)
    return _among_kin(standing, first, listed, catalog, fallback, draws=draws, by_name=by_name)


def _sound_host(
    standing: AppStanding, first: Endpoint, listed: Sequence[Endpoint], catalog: Catalog
) -> Endpoint:
    """Return whose group a call that names its model is drawn from.

    Where the first host was split off, that is one of the others: they are the model, too.
    """
    if not first.is_split:
        return first
    like = [e for e in listed if e.group in catalog.kin[first.group] and not e.is_split]
    return next((e for e in like if e in standing.permitted), first)


def route_to(strategy: Strategy, endpoint: Endpoint) -> Route:
    """Return the route of a call that goes on from what lies at an endpoint: nobody else has it."""
    return structs.replace(straight_to(strategy, endpoint), goes_on=True)


def straight_to(strategy: Strategy, endpoint: Endpoint) -> Route:
    """Return the route of a call that one endpoint serves, or nobody."""
    return _straight(strategy, endpoint, (endpoint,), Fallback.NONE, by_name=True)


def incumbent_of(standing: AppStanding, dialect: Dialect = Dialect.CHAT) -> Endpoint | None:
    """Return who serves `auto` until another is shown better; None in learning mode.

    The one that is named, else the first listed; in either case one that the standing constraints
    permit, so that it is the same in every mode, and while routing is off. Where that one does not
    speak the call's dialect, the first that does; where none speaks it, the first that translates
    it. Where none is permitted at all, the first listed, which no call then comes to.

    Who is named by a strategy that exchanges it for no other model stays, whatever it speaks.
    """
    named = standing.named
    if isinstance(named, str):
        return None
    if named is not None and standing.strategy.exchange is not Exchangeable.ANY:
        return named
    candidates = standing.wanted
    if not candidates:
        return named
    first = named if named is not None and named in standing.permitted else candidates[0]
    if dialect in first.dialects:
        return first
    return next(iter(speakers(candidates, dialect)), first)


def incumbents_of(standing: AppStanding) -> list[str]:
    """Return the incumbents of `auto`: one of all dialects, unless it does not speak each.

    Of dialects that nobody speaks there is none, and vectors have none that is challenged.
    """
    taken = [d for d in CHALLENGED if any(e.takes(d) for e in standing.permitted)]
    found = [incumbent_of(standing, dialect) for dialect in taken]
    return list(dict.fromkeys(one.id for one in found if one is not None))


def rivals_of(standing: AppStanding, incumbent: Endpoint) -> list[Endpoint]:
    """Return who can serve what an incumbent does, among those permitted and preferred.

    Who makes nothing but vectors is no rival of who chats, whatever it costs.
    """
    served = [d for d in CHALLENGED if incumbent.takes(d)]
    wanted = (*standing.wanted, incumbent) if incumbent in standing.permitted else standing.wanted
    rivals = (e for e in standing.permitted if e in wanted)
    return [endpoint for endpoint in rivals if any(endpoint.takes(d) for d in served)]


def first_permitted(standing: AppStanding, listed: Sequence[Endpoint]) -> Endpoint:
    """Return the first endpoint that the standing constraints permit; else the first."""
    return next((e for e in listed if e in standing.permitted), listed[0])


def _straight(
    strategy: Strategy,
    first: Endpoint | None,
    listed: tuple[Endpoint, ...],
    fallback: Fallback,
    *,
    by_name: bool,
) -> Route:
    return Route(strategy, None, first, None, fallback, False, by_name, listed)


def _drawn(
    strategy: Strategy,
    incumbent: Endpoint | None,
    listed: tuple[Endpoint, ...],
    groups: frozenset[int] | None,
    fallback: Fallback,
    *,
    by_name: bool,
) -> Route:
    """Where the choices of a release key are not known, its incumbent keeps everything."""
    if incumbent is None:
        law = LEARNING
    else:
        law = Law(incumbent=incumbent.group, current=incumbent.group, stay=1.0)
    return Route(strategy, law, incumbent, groups, fallback, True, by_name, listed)
