"""What an app says once and for all: which endpoints may ever serve it, whatever a call asks."""

from __future__ import annotations

from collections.abc import Iterator

from router.config.entries import AppEntry, File, Mode
from router.config.masking import Place
from router.endpoints.entries import DataClass, EndpointEntry, ProviderEntry


def why_forbidden(app: AppEntry, *, region: str | None, max_data_class: DataClass) -> str | None:
    """Return why an app's standing constraints forbid an endpoint; None where they permit it."""
    if app.data_class.level > max_data_class.level:
        return f"max_data_class is {max_data_class}, data_class of the app {app.data_class}"
    if app.regions and region not in app.regions:
        return f"region is {region or 'not given'}, regions of the app {', '.join(app.regions)}"
    return None


def check_standing(entries: File) -> Iterator[tuple[Place, str, str]]:
    """Yield apps that nobody may serve, and named endpoints that may not: place, value, hint.

    Nothing is asked of what hints alone may reach: there a call that nobody may serve is refused.
    """
    for name, app in entries.all_apps.items():
        where: Place = ("apps", name)
        forbidden = {
            e.id: why for e in entries.endpoints if (why := _why_forbidden(app, e, entries))
        }
        if len(forbidden) == len(entries.endpoints):
            reasons = "; ".join(f"{id_}: {why}" for id_, why in forbidden.items())
            yield where, name, f"no endpoint may serve this app: {reasons}"
            continue
        named = {"incumbent": app.incumbent}
        if app.mode is Mode.PINNED:
            named["endpoint"] = app.endpoint
        strategy = entries.all_strategies.get(entries.aliases.get(app.strategy, app.strategy))
        if app.incumbent is None and strategy is not None:
            named["strategy"] = strategy.incumbent
        for field, endpoint in named.items():
            if endpoint in forbidden:
                hint = f"the app's own constraints forbid it: {forbidden[endpoint]}"
                yield (*where, field), endpoint, hint


def _why_forbidden(app: AppEntry, endpoint: EndpointEntry, entries: File) -> str | None:
    provider = entries.providers.get(endpoint.provider or "", ProviderEntry())
    return why_forbidden(
        app,
        region=endpoint.region or provider.region,
        max_data_class=endpoint.max_data_class or provider.max_data_class or DataClass.INTERNAL,
    )
