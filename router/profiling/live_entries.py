"""A configuration as a live check has it: only who is called needs a key, all may be tried."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from msgspec import Struct

from router.config.compiled import Configuration
from router.config.entries import AppEntry, File, UserEntry
from router.config.keys import hashed, make_key
from router.endpoints.auth import Auth, AuthEntry
from router.endpoints.capabilities import Capability
from router.endpoints.entries import Dialect, EndpointEntry, TranslateEntry
from router.policy.standing import PolicyTable

ANSWER_S = 60.0
"""As long as an answer is waited for."""
Holder = TypeVar("Holder", AppEntry, UserEntry)
TRIED = (Capability.TOOLS, Capability.SCHEMA)
FROM_CHAT = TranslateEntry.model_validate({"from": ["chat"]})


class LiveSkipped(Struct, frozen=True):
    """Why an endpoint is not called."""

    reason: str
    fix: str
    is_failure: bool = True


class CheckPlan(Struct, frozen=True):
    """Who is called under which app's rules, and who is not."""

    by_app: dict[str, list[str]]  # ids
    skipped: dict[str, LiveSkipped]  # by id

    @property
    def called(self) -> set[str]:
        """The ids of all that are called."""
        return {one for ids in self.by_app.values() for one in ids}


def plan_check(
    entries: File, configuration: Configuration, wanted: Collection[str], *, by_name: bool
) -> CheckPlan:
    """Return who is called: each under the first app whose rules permit it, else nobody calls it.

    Args:
        configuration: of the entries; keys are not needed.
        wanted: ids.
        by_name: the user named them.
    """
    by_app: dict[str, list[str]] = {}
    skipped: dict[str, LiveSkipped] = {}
    table = configuration.derive(PolicyTable)
    permitted = {
        name: {e.id for e in table.usual(app).permitted} for name, app in configuration.apps.items()
    }
    for endpoint in entries.endpoints:
        if endpoint.id not in wanted:
            continue
        app = next((name for name, ids in permitted.items() if endpoint.id in ids), None)
        why = _why_skipped(endpoint, auth_of(entries, endpoint), app, by_name=by_name)
        if why is not None or app is None:
            skipped[endpoint.id] = why or LiveSkipped("", "")
        else:
            by_app.setdefault(app, []).append(endpoint.id)
    return CheckPlan(by_app, skipped)


def _why_skipped(
    endpoint: EndpointEntry, auth: Auth, app: str | None, *, by_name: bool
) -> LiveSkipped | None:
    if app is None:
        fix = "permit it in an app, or leave it out; nothing is sent where no rules let it go"
        return LiveSkipped("no app's rules permit it", fix, is_failure=by_name)
    if auth == "client":
        fix = "call it once with your own client, or give it a key of its own: auth: {env: …}"
        why = "it is called under each caller's own key, and there is no caller here"
        return LiveSkipped(why, fix, is_failure=by_name)
    if isinstance(auth, AuthEntry):
        try:
            auth.secret()
        except LookupError as error:
            field, name = auth.source
            why = f"no key: {error}".removesuffix("; export it")
            return LiveSkipped(
                why, f"export {name}" if field == "env" else f"see to {field} {name}"
            )
    return None


def auth_of(entries: File, endpoint: EndpointEntry) -> Auth:
    """Return how calls sign in at an endpoint."""
    provider = entries.providers.get(endpoint.provider or "")
    return endpoint.auth or (provider.auth if provider is not None else None) or "none"


def live_entries(entries: File, called: Collection[str]) -> File:
    """Return the entries under which endpoints are tried; nothing that calls them is let in.

    What they are said not to do may be tried; what an endpoint is known by does not change.
    """
    server = entries.server.model_copy(
        update={
            "admin_key": hashed(make_key()),
            "seal_secret": None,
            "seal_secret_before": None,
            "deadline_s": min(entries.server.deadline_s or ANSWER_S, ANSWER_S),
        }
    )
    providers = {
        name: one.model_copy(update={"passthrough": False})
        for name, one in entries.providers.items()
    }
    changes = {
        "server": server,
        "providers": providers,
        "apps": _without_keys(entries.apps),
        "users": _without_keys(entries.users),
        "endpoints": [_tried(one, entries, called) for one in entries.endpoints],
    }
    return entries.model_copy(update=changes)


def _without_keys(holders: Mapping[str, Holder]) -> dict[str, Holder]:
    return {name: one.model_copy(update={"keys": []}) for name, one in holders.items()}


def _tried(endpoint: EndpointEntry, entries: File, called: Collection[str]) -> EndpointEntry:
    """Return an endpoint that may be called, and what it is said not to do tried.

    Whether it thinks is not tried where that is said not to be.
    """
    if endpoint.id not in called:
        return endpoint.model_copy(update={"auth": "none"})
    provider = entries.providers.get(endpoint.provider or "")
    spoken = endpoint.dialects or (provider.dialects if provider is not None else None) or []
    changes: dict[str, Any] = {
        "capabilities": {**endpoint.said, **dict.fromkeys(TRIED, True)},
        "stream_usage": True,
    }
    if Dialect.MESSAGES in spoken and Dialect.CHAT not in spoken:
        changes["translate"] = FROM_CHAT
    return endpoint.model_copy(update=changes)
