"""Whether a request may be passed on to a provider, and as what."""

from __future__ import annotations

import time

from router.config.exclusions import Exclusion
from router.config.rules import MergedPolicy, why_forbidden
from router.dialects.keeping import keeps
from router.dialects.opaque import OpaqueBody
from router.endpoints.providers import Provider
from router.endpoints.terms import LOCAL
from router.errors import KEEPS_CONTENT, NoCandidates, RequestRejected
from router.net.paths import shown_path
from router.policy.callers import Caller


def require_permitted(policy: MergedPolicy, provider: Provider) -> None:
    """Refuse to pass on what the rules forbid a provider.

    Raises:
        NoCandidates: they do.
    """
    forbidden = why_forbidden(policy.rules, provider.place, time.time())
    if forbidden is not None:
        raise NoCandidates({provider.name: forbidden})


def require_bounds(policy: MergedPolicy, provider: Provider) -> None:
    """Refuse to pass on a call that may cost or take so much only: neither is known there.

    Raises:
        NoCandidates: its rules bound what it costs, or takes.
    """
    rules = policy.rules
    if rules.cost_usd is not None:
        raise NoCandidates({provider.name: Exclusion.MAX_COST})
    if rules.latency_ms is not None:
        raise NoCandidates({provider.name: Exclusion.LATENCY})


def require_credentials(caller: Caller, provider: Provider) -> None:
    """Refuse to pass on without the caller's own key what a provider takes with it alone.

    Raises:
        RequestRejected: it is missing, or ours.
    """
    if provider.client_auth and not caller.credentials:
        raise RequestRejected(
            "invalid_api_key",
            f"{provider.name} takes the caller's own key, and none came that may be passed "
            "on: send this sidecar's key in x-router-key and the provider's as bearer token",
        )


def kept_nowhere(opaque: OpaqueBody, to: Provider, *, method: str, path: str) -> OpaqueBody:
    """Return a body with what nobody asked for forced off.

    Raises:
        NoCandidates: it, or its path, has the provider keep or forward content.
    """
    if to.terms.zone_at(time.time()) == LOCAL:
        return opaque
    opaque = opaque.kept_nowhere()
    names = [one.name for one in opaque.keeping]
    if keeps(method, path):
        names.append(f"{method} {shown_path(path)}")
    if names:
        raise NoCandidates({to.name: f"{KEEPS_CONTENT}: {', '.join(names)}"})
    return opaque
