"""Who made what lies at a provider, and who serves a call that goes on from it. Pure.

What lies under one key at one address lies at one place, whichever of its models is asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

import httpx

from router.config.compiled import App, Configuration
from router.config.entries import Fallback, Mode
from router.config.standing import why_forbidden
from router.dialects.request import StoredId, StoredKind
from router.endpoints.catalog import Catalog, Endpoint, Provider
from router.endpoints.entries import Dialect
from router.errors import RequestRejected
from router.policy.route import parse_model
from telemetry.numbers import brief

Maker = Endpoint | Provider
CALL = Dialect.RESPONSES


class Unknown(StrEnum):
    """Why nobody is asked for an id: it is in no index, or who made it is gone."""

    NOBODY = "no endpoint speaks responses"
    SEVERAL = "more than one endpoint or provider may have made it"
    SHARED = "the one that may have made it serves other apps under the same key"
    GONE = "the endpoint or provider that made it is not configured any more"


def maker_of(digest: int, catalog: Catalog) -> Maker | None:
    """Return who has a digest; None where it is not configured any more."""
    found = catalog.by_digest.get(digest)
    if found is not None:
        return found if CALL in found.dialects else None
    provider = catalog.passthrough
    return provider if provider is not None and provider.digest == digest else None


def sole_maker(configuration: Configuration, app: App) -> Maker | Unknown:
    """Return who alone can have made what is in no index: that is where the call goes directly.

    Under a key of ours only where no other app's may lie at the same place; a caller's own key
    opens nothing else to it.
    """
    makers = list(_makers(configuration.catalog))
    if not makers:
        return Unknown.NOBODY
    if len({_place(maker) for maker in makers}) > 1:
        return Unknown.SEVERAL
    if not makers[0].client_auth:
        others = set(configuration.app_keys.values()) - {app.name}
        if any(_may_reach(configuration.apps[name], m) for name in others for m in makers):
            return Unknown.SHARED
    return next((maker for maker in makers if _may_reach(app, maker)), makers[0])


def server_of(maker: Maker, model: str, app: App, catalog: Catalog) -> Maker:
    """Return who serves a call that goes on from what `maker` made; a provider: it is passed on.

    An endpoint is called by its own model where the call leaves the choice to us, or names that
    model. One that is beside it, under the same key, is asked for a model of its own. Else the
    call is passed on with the model that it names, as it would go directly.

    Raises:
        RequestRejected: a provider made it that has no endpoint, and the call names no model.
    """
    target = parse_model(model)
    listed = catalog.by_model.get(model, ())
    named = (catalog.by_id[model],) if model in catalog.by_id else listed
    if isinstance(maker, Endpoint):
        is_ours = target.automatic or maker in named or (listed and _may_serve_for_others(app))
        if is_ours or app.entry.mode is Mode.PINNED:
            return maker
    if target.automatic:
        named = tuple(e for e in catalog.endpoints if e in app.permitted) or catalog.endpoints
    place = _place(maker)
    beside = (e for e in named if CALL in e.dialects and _place(e) == place)
    found = next(beside, None)
    if found is None and target.automatic:
        raise RequestRejected(
            "model_not_found",
            f"what the call goes on from lies at {maker_name(maker)}, of which no endpoint is "
            f"listed that {brief(model)} could mean: name a model",
            param="model",
        )
    return found or as_provider(maker)


def as_provider(maker: Maker) -> Provider:
    """Return where paths go that are passed on to a maker."""
    if isinstance(maker, Provider):
        return maker
    url = maker.targets[CALL].url
    return Provider(
        name=maker.id,
        digest=maker.digest,
        base_url=str(url.copy_with(query=None)).removesuffix(f"/{CALL}"),
        key=maker.key,
        client_auth=maker.client_auth,
        terms=maker.terms,
        max_data_class=maker.max_data_class,
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
    what = "conversation" if stored.kind is StoredKind.CONVERSATION else "response"
    message = f"this app was told of no {what} {brief(stored.id)} in the last 30 days; {why}"
    if why is Unknown.GONE:
        message = f"{what} {brief(stored.id)} lies where this sidecar cannot ask: {why}"
    if not in_body:
        return RequestRejected("not_found", message)
    if stored.kind is StoredKind.CONVERSATION:
        return RequestRejected("not_found", message, param="conversation")
    return RequestRejected("previous_response_not_found", message, param="previous_response_id")


def _makers(catalog: Catalog) -> Iterator[Maker]:
    yield from (endpoint for endpoint in catalog.endpoints if CALL in endpoint.dialects)
    if catalog.passthrough is not None:
        yield catalog.passthrough


def _place(maker: Maker) -> tuple[httpx.URL, tuple[bytes, bytes] | None, bool]:
    """Return what makers have in common where the one knows what the other made."""
    if isinstance(maker, Endpoint):
        url = maker.targets[CALL].url
    else:
        url = httpx.URL(f"{maker.base_url}/{CALL}")
    return url, maker.auth_header, maker.client_auth


def _may_reach(app: App, maker: Maker) -> bool:
    """Return whether an app's standing constraints let any of its calls go there."""
    if isinstance(maker, Endpoint):
        return maker in app.permitted
    forbidden = why_forbidden(app.entry, region=maker.region, max_data_class=maker.max_data_class)
    return forbidden is None


def _may_serve_for_others(app: App) -> bool:
    """Return whether an app's calls that name a model may be served by another one."""
    return app.entry.map_models or app.entry.fallback is Fallback.ANY
