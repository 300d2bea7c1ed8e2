"""Who made what lies at a provider, and who serves a call that goes on from it. Pure.

What lies under one key at one address lies at one place, whichever of its models is asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum

import httpx
from msgspec import Struct

from router.config.compiled import App, Configuration
from router.config.entries import Fallback, Mode
from router.config.rules import why_forbidden
from router.config.standing import ALWAYS
from router.dialects.keeping import KEEP_NOTHING
from router.dialects.stored import StoredId, StoredKind
from router.endpoints.catalog import CALL_PATHS, Catalog, Endpoint
from router.endpoints.entries import Dialect
from router.endpoints.providers import Provider
from router.errors import RequestRejected
from router.net.paths import shown_path
from router.policy.route import parse_model
from router.policy.standing import PolicyTable
from telemetry.numbers import brief, clipped

Maker = Endpoint | Provider
STATELESS = KEEP_NOTHING | {StoredKind.CONVERSATION}
"""POSTs that leave nothing that another app could list, change or take away: nothing at all, or
what only its id opens."""


class _Words(Struct, frozen=True):
    """How a call is refused that goes on from something unknown."""

    noun: str
    code: str  # by which SDKs know it, where they do
    param: str
    advice: str = ""


WORDS = {
    StoredKind.RESPONSE: _Words(
        "response",
        "previous_response_not_found",
        "previous_response_id",
        "; answers that are translated are kept nowhere: send all of the conversation",
    ),
    StoredKind.CONVERSATION: _Words("conversation", "not_found", "conversation"),
    StoredKind.THREAD: _Words(
        "thread",
        "thread_not_found",
        "thread.previous_message_id",
        "; send all of the conversation, with thread of type create",
    ),
    StoredKind.CONTAINER: _Words("container", "not_found", "container"),
    StoredKind.ITEM: _Words("item", "not_found", "input", "; send all of the item, not its name"),
}


class Unknown(StrEnum):
    """Why nobody is asked for an id: it is in no index, or who made it is gone."""

    NOBODY = "no endpoint or provider can have made it"
    SEVERAL = "more than one endpoint or provider may have made it"
    SHARED = "the one that may have made it serves other apps under the same key"
    GONE = "the endpoint or provider that made it is not configured any more"


def maker_of(digest: int, catalog: Catalog, dialect: Dialect) -> Maker | None:
    """Return who has a digest, and speaks a dialect; None where it is not configured any more."""
    found = catalog.by_digest.get(digest)
    if found is not None:
        return found if dialect in found.dialects else None
    return next((one for one in catalog.claims if one.digest == digest), None)


def sole_maker(configuration: Configuration, app: App, kind: StoredKind) -> Maker | Unknown:
    """Return who alone can have made what is in no index: that is where the call goes directly.

    Under a key of ours only where no other app's may lie at the same place; a caller's own key
    opens nothing else to it.
    """
    makers = list(_makers(configuration.catalog, kind))
    if not makers:
        return Unknown.NOBODY
    if len({_place(maker, kind.dialect) for maker in makers}) > 1:
        return Unknown.SEVERAL
    if not makers[0].client_auth and _others_reach(configuration, app, makers):
        return Unknown.SHARED
    return next((maker for maker in makers if _may_reach(configuration, app, maker)), makers[0])


class ItemMakers:
    """Whether it matters who made an item of a response that a call holds the name of only.

    It does where responses may lie at several places, or several apps' at one under a key of ours.
    """

    def __init__(self, configuration: Configuration) -> None:
        makers = list(_makers(configuration.catalog, StoredKind.RESPONSE))
        ours = [maker for maker in makers if not maker.client_auth]
        apps = configuration.apps.values()
        self.are_several = len({_place(maker, Dialect.RESPONSES) for maker in makers}) > 1
        self._sharers = {a.name for a in apps if _others_reach(configuration, a, ours)}

    def are_shared(self, app: App) -> bool:
        """Return whether what an app's calls leave lies beside what another's do."""
        return app.name in self._sharers

    def matter_to(self, app: App) -> bool:
        """Return whether items are noted and looked up for an app."""
        return self.are_several or self.are_shared(app)


def server_of(
    maker: Maker, model: str, app: App, configuration: Configuration, dialect: Dialect
) -> Maker:
    """Return who serves a call that goes on from what `maker` made; a provider: it is passed on.

    An endpoint is called by its own model where the call leaves the choice to us, or names that
    model. One that is beside it, under the same key, is asked for a model of its own. Else the
    call is passed on with the model that it names, as it would go directly.

    Raises:
        RequestRejected: a provider made it that has no endpoint, and the call names no model.
    """
    target, catalog = parse_model(model), configuration.catalog
    listed = catalog.by_model.get(model, ())
    named = (catalog.by_id[model],) if model in catalog.by_id else listed
    if isinstance(maker, Endpoint):
        is_ours = target.automatic or maker in named or (listed and _may_serve_for_others(app))
        if is_ours or app.entry.mode is Mode.PINNED:
            return maker
    if target.automatic:
        named = (
            tuple(e for e in catalog.endpoints if _may_reach(configuration, app, e))
            or catalog.endpoints
        )
    place = _place(maker, dialect)
    beside = (e for e in named if dialect in e.dialects and _place(e, dialect) == place)
    found = next(beside, None)
    if found is None and target.automatic:
        raise RequestRejected(
            "model_not_found",
            f"what the call goes on from lies at {maker_name(maker)}, of which no endpoint is "
            f"listed that {brief(model)} could mean: name a model",
            param="model",
        )
    if found is None and model in catalog.by_id and not listed:
        raise RequestRejected(
            "model_not_found",
            f"{brief(model)} is an endpoint where nothing lies that the call goes on from: that is "
            f"at {maker_name(maker)}",
            param="model",
        )
    return found or as_provider(maker, dialect)


def as_provider(maker: Maker, dialect: Dialect) -> Provider:
    """Return where paths go that are passed on to a maker, which speaks a dialect."""
    if isinstance(maker, Provider):
        return maker
    url = maker.targets[dialect].url
    return Provider(
        name=maker.id,
        digest=maker.digest,
        base_url=str(url.copy_with(query=None)).removesuffix(f"/{CALL_PATHS[dialect]}"),
        key=maker.key,
        client_auth=maker.client_auth,
        place=maker.place,
        forwarded=maker.forwarded,
        query=url.query,
    )


def maker_name(maker: Maker) -> str:
    """Return what a maker is called."""
    return maker.id if isinstance(maker, Endpoint) else maker.name


def not_found(stored: StoredId, why: Unknown, *, in_body: bool) -> RequestRejected:
    """Return the refusal of an id that nobody can be asked for.

    Args:
        in_body: a call goes on from it; else it is asked for by its path.
    """
    words = WORDS[stored.kind]
    what = f"{words.noun} {brief(stored.id)}"
    message = f"this app was told of no {what} that is kept, in the last 30 days; {why}"
    if why is Unknown.GONE:
        message = f"{what} lies where this sidecar cannot ask: {why}"
    if not in_body:
        return RequestRejected("not_found", message)
    is_thread = stored.kind is StoredKind.THREAD  # Anthropic's SDKs begin anew by what is in there
    details = {"details": {"error_code": words.code}} if is_thread else None
    return RequestRejected(words.code, message + words.advice, param=words.param, details=details)


def require_own_state(
    provider: Provider, configuration: Configuration, app: App, *, method: str, path: str
) -> None:
    """Refuse a path that keeps state at a provider, where other apps are there under the same key.

    What is not known to keep none counts as state. Responses and conversations are told apart by
    their ids: making one is no affair of others, listing them is.

    Raises:
        RequestRejected: the provider does not say that they may share it.
    """
    if provider.client_auth or provider.shares_state or _keeps_none(method, path):
        return
    catalog = configuration.catalog
    beside: list[Maker] = [one for one in catalog.claims if _is_same_place(one, provider)]
    beside += [endpoint for endpoint in catalog.endpoints if _is_beside(endpoint, provider)]
    if not _others_reach(configuration, app, beside):
        return
    raise RequestRejected(
        "shared_state",
        f"what {clipped(shown_path(path))} keeps at {provider.name} would be seen by all apps that "
        "use it under one key: set passthrough_state: shared on the provider if they may, give "
        "each app a provider and key of its own, or auth: client",
    )


def _keeps_none(method: str, path: str) -> bool:
    name = path.removeprefix("/v1/")
    if method == "POST":
        return name in STATELESS
    return method == "OPTIONS" or (method in ("GET", "HEAD") and name.startswith("models/"))


def _others_reach(configuration: Configuration, app: App, makers: Sequence[Maker]) -> bool:
    """Return whether another app that has a key may go to one of these."""
    others = {holder.app for holder in configuration.callers_keys.values()} - {app.name}
    apps = [configuration.apps[name] for name in others]
    return any(_may_reach(configuration, other, one) for other in apps for one in makers)


def _makers(catalog: Catalog, kind: StoredKind) -> Iterator[Maker]:
    yield from (e for e in catalog.endpoints if kind.dialect in e.dialects)
    provider = catalog.passthrough(kind.made_at)
    if provider is not None:
        yield provider


def _place(maker: Maker, dialect: Dialect) -> tuple[httpx.URL, tuple[bytes, bytes] | None, bool]:
    """Return what makers have in common where the one knows what the other made."""
    if isinstance(maker, Endpoint):
        url = maker.targets[dialect].url
    else:
        url = httpx.URL(f"{maker.base_url}/{CALL_PATHS[dialect]}")
    return url, maker.auth_header, maker.client_auth


def _is_same_place(one: Provider, other: Provider) -> bool:
    """Return whether paths that go to one provider come to where another is, under the same key."""
    if (one.auth_header, one.client_auth) != (other.auth_header, other.client_auth):
        return False
    return httpx.URL(one.base_url) == httpx.URL(other.base_url)


def _is_beside(endpoint: Endpoint, provider: Provider) -> bool:
    """Return whether calls of an endpoint come to where a provider is, under the same key."""
    if (endpoint.auth_header, endpoint.client_auth) != (provider.auth_header, provider.client_auth):
        return False
    at = [httpx.URL(f"{provider.base_url}/{CALL_PATHS[dialect]}") for dialect in endpoint.targets]
    return any(target.url in at for target in endpoint.targets.values())


def _may_reach(configuration: Configuration, app: App, maker: Maker) -> bool:
    """Return whether an app's standing constraints let any of its calls go there."""
    rules = configuration.derive(PolicyTable).usual(app).policy.rules
    return why_forbidden(rules, maker.place, ALWAYS) is None


def _may_serve_for_others(app: App) -> bool:
    """Return whether an app's calls that name a model may be served by another one."""
    return app.entry.map_models or app.entry.fallback is Fallback.ANY
