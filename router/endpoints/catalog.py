"""What can be called, compiled: every endpoint in the order in which it is listed."""

from __future__ import annotations

import json
from collections.abc import Sequence, Set
from dataclasses import dataclass, field, replace

import httpx
import numpy as np
from numpy.typing import NDArray

from bandit.posterior import Arms
from router.endpoints.base_url import part_user
from router.endpoints.entries import (
    Auth,
    AuthEntry,
    Capability,
    DataClass,
    Dialect,
    EndpointEntry,
    LimitsEntry,
    ModelEntry,
    ProviderEntry,
    TimeoutsEntry,
    needs_of,
)
from router.endpoints.providers import Claims, Provider, claims_of
from router.net.pool import Target
from telemetry.events import digest8


@dataclass(frozen=True, slots=True, eq=False)
class Endpoint:
    """A compiled endpoint; `index` is its place in every array."""

    index: int
    id: str
    model: str
    upstream_model: str
    provider: str
    dialects: frozenset[Dialect]
    targets: dict[Dialect, Target]  # of each that it speaks
    auth_header: tuple[bytes, bytes] | None
    client_auth: bool
    params: dict[str, bytes]  # name -> JSON
    nano_in: float | None  # nano-USD a token
    nano_out: float | None
    nano_cached: float | None
    region: str | None
    max_data_class: DataClass
    timeouts: TimeoutsEntry
    limits: LimitsEntry
    context_tokens: int | None
    capabilities: int  # bits of Needs
    stream_usage: bool
    digest: int
    group: int
    forwarded: frozenset[bytes]  # names of headers that travel beside the usual ones
    may_split: bool  # its own labels may end its equivalence
    is_split: bool = False  # they did: it has a group of its own

    @property
    def target(self) -> Target:
        """Where it is: that of a dialect which it speaks."""
        return next(iter(self.targets.values()))

    def cost_nano(self, tokens_in: int, tokens_out: int, tokens_cached: int) -> int | None:
        """Return the list price of a call in nano-USD, or None where no price is known."""
        if self.nano_in is None or self.nano_out is None:
            return None
        cached = min(tokens_cached, tokens_in)
        cheap = self.nano_in if self.nano_cached is None else self.nano_cached
        return round(
            (tokens_in - cached) * self.nano_in + cached * cheap + tokens_out * self.nano_out
        )


@dataclass(frozen=True, slots=True, eq=False)
class Catalog:
    """All endpoints, in the order in which they are listed."""

    endpoints: tuple[Endpoint, ...]
    by_id: dict[str, Endpoint]
    by_model: dict[str, tuple[Endpoint, ...]]  # declared and upstream names, as listed
    by_digest: dict[int, Endpoint]
    group_members: tuple[tuple[int, ...], ...]  # arm indices of each group
    kin: tuple[tuple[int, ...], ...]  # by group: itself, then those declared equivalent to it
    claims: Claims  # who takes what is not listed
    key_headers: frozenset[bytes]  # names in which some provider's key travels
    spoken: frozenset[Dialect]  # by some endpoint
    arms: Arms = field(repr=False)

    def passthrough(self, path: str, *, by_anthropics: bool = False) -> Provider | None:
        """Return who takes what is not listed, at a path; None: nobody does."""
        return self.claims.taker(path, by_anthropics=by_anthropics)

    @property
    def digests(self) -> NDArray[np.uint64]:
        """(n_arms,) identity digests."""
        return np.array([e.digest for e in self.endpoints], dtype=np.uint64)


def compile_catalog(
    models: dict[str, ModelEntry],
    providers: dict[str, ProviderEntry],
    entries: Sequence[EndpointEntry],
    *,
    secrets: bool = True,
) -> Catalog:
    """Return the catalog; everything in it was checked before.

    Args:
        secrets: False leaves keys out, for whoever reads reports and sends nothing.

    Raises:
        LookupError: a key is missing.
    """
    groups: dict[tuple[str, ...], int] = {}
    families: dict[str, int] = {}
    family_of_group: list[int] = []
    endpoints: list[Endpoint] = []
    for index, entry in enumerate(entries):
        key = entry.group_key
        if key not in groups:
            groups[key] = len(groups)
            family_of_group.append(families.setdefault(entry.model, len(families)))
        provider = providers.get(entry.provider or "", ProviderEntry())
        model = models.get(entry.model, ModelEntry())
        endpoints.append(_endpoint(index, entry, provider, model, groups[key], secrets))
    claims = claims_of(providers, _compiled_providers(providers, secrets))
    kin = tuple((group,) for group in range(len(groups)))
    return _assembled(endpoints, family_of_group, kin, claims)


def split_off(catalog: Catalog, digests: Set[int]) -> Catalog:
    """Return the catalog in which these endpoints have groups of their own, as if declared so.

    A group's failed calls may still go to whoever was split off from it: a worse answer of the
    same model is better than none.
    """
    keys = [(e.group, e.index if e.digest in digests else -1) for e in catalog.endpoints]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    endpoints = [
        replace(e, group=numbers[key], is_split=e.digest in digests)
        for e, key in zip(catalog.endpoints, keys, strict=True)
    ]
    declared = [group for group, _ in numbers]
    kin = tuple(
        (number, *(n for n, of in enumerate(declared) if of == group and n != number))
        for number, group in enumerate(declared)
    )
    family = [int(catalog.arms.family[group]) for group in declared]
    return _assembled(endpoints, family, kin, catalog.claims)


def _assembled(
    endpoints: list[Endpoint],
    family_of_group: list[int],
    kin: tuple[tuple[int, ...], ...],
    claims: Claims,
) -> Catalog:
    by_model: dict[str, list[Endpoint]] = {}
    for endpoint in endpoints:
        for name in {endpoint.model, endpoint.upstream_model}:
            by_model.setdefault(name, []).append(endpoint)
    group = np.array([e.group for e in endpoints], dtype=np.intp)
    return Catalog(
        endpoints=tuple(endpoints),
        by_id={e.id: e for e in endpoints},
        by_model={name: tuple(found) for name, found in by_model.items()},
        by_digest={e.digest: e for e in endpoints},
        group_members=tuple(
            tuple(int(a) for a in np.flatnonzero(group == g)) for g in range(len(family_of_group))
        ),
        kin=kin,
        claims=claims,
        key_headers=frozenset(to.auth_header[0] for to in (*endpoints, *claims) if to.auth_header),
        spoken=frozenset(dialect for e in endpoints for dialect in e.dialects),
        arms=Arms(
            group=group,
            family=np.array(family_of_group, dtype=np.intp),
            input_usd_per_mtok=_prices([e.nano_in for e in endpoints]),
            output_usd_per_mtok=_prices([e.nano_out for e in endpoints]),
            compared=np.array([e.may_split for e in endpoints], dtype=np.bool_),
        ),
    )


def _endpoint(
    index: int,
    entry: EndpointEntry,
    provider: ProviderEntry,
    model: ModelEntry,
    group: int,
    secrets: bool,
) -> Endpoint:
    base_url, signed_in = part_user(entry.base_url or provider.base_url or "")
    auth = entry.auth or provider.auth or "none"
    upstream_model = entry.upstream_model or entry.model
    params = json.dumps(entry.params, sort_keys=True)
    prices = entry.prices
    cached = prices.cached_input_usd_per_mtok if prices else None
    capabilities = model.capabilities
    dialects = entry.dialects or provider.dialects or [Dialect.CHAT]
    return Endpoint(
        index=index,
        id=entry.id,
        model=entry.model,
        upstream_model=upstream_model,
        provider=entry.provider or "",
        dialects=frozenset(dialects),
        targets={d: Target.of(httpx.URL(_call_url(base_url, auth, d))) for d in dialects},
        auth_header=(signed_in or _auth_header(auth)) if secrets else None,
        client_auth=auth == "client",
        params={name: json.dumps(value).encode() for name, value in entry.params.items()},
        nano_in=float(prices.input_usd_per_mtok) * 1e3 if prices else None,
        nano_out=float(prices.output_usd_per_mtok) * 1e3 if prices else None,
        nano_cached=float(cached) * 1e3 if cached is not None else None,
        region=entry.region or provider.region,
        max_data_class=entry.max_data_class or provider.max_data_class or DataClass.INTERNAL,
        timeouts=entry.timeouts,
        limits=entry.limits,
        context_tokens=model.context_tokens,
        capabilities=needs_of(list(Capability) if capabilities is None else capabilities),
        stream_usage=entry.stream_usage,
        digest=digest8(entry.id, entry.provider or "", base_url, upstream_model, params),
        group=group,
        forwarded=_names(entry.forward_headers or provider.forward_headers),
        may_split=entry.equivalent is None,
    )


CALL_PATHS = {
    Dialect.CHAT: "chat/completions",
    Dialect.MESSAGES: "messages",
    Dialect.RESPONSES: "responses",
    Dialect.EMBEDDINGS: "embeddings",
    Dialect.COMPLETIONS: "completions",
}
"""Below the version."""


def _call_url(base_url: str, auth: Auth, dialect: Dialect) -> str:
    path = CALL_PATHS[dialect]
    if isinstance(auth, AuthEntry) and auth.azure:
        path = f"openai/deployments/{auth.azure.deployment}/{path}"
        return f"{base_url}/{path}?api-version={auth.azure.api_version}"
    return f"{base_url}/{path}"


def _auth_header(auth: Auth) -> tuple[bytes, bytes] | None:
    if not isinstance(auth, AuthEntry):
        return None
    secret = auth.secret()
    if auth.azure:
        return b"api-key", secret.encode()
    if auth.header:
        return auth.header.lower().encode(), secret.encode()
    return b"authorization", b"Bearer " + secret.encode()


def _compiled_providers(entries: dict[str, ProviderEntry], secrets: bool) -> dict[str, Provider]:
    """Return the providers that take something that is not listed."""
    return {
        name: _provider(name, entry, secrets)
        for name, entry in entries.items()
        if entry.passthrough
    }


def _provider(name: str, entry: ProviderEntry, secrets: bool) -> Provider:
    auth = entry.auth or "none"
    base_url, signed_in = part_user(entry.base_url or "")
    return Provider(
        name=name,
        digest=digest8("passthrough", name),
        base_url=base_url,
        auth_header=(signed_in or _auth_header(auth)) if secrets else None,
        client_auth=auth == "client",
        region=entry.region,
        max_data_class=entry.max_data_class or DataClass.INTERNAL,
        forwarded=_names(entry.forward_headers),
        shares_state=entry.passthrough_state == "shared",
    )


def _names(headers: Sequence[str] | None) -> frozenset[bytes]:
    return frozenset(name.lower().encode() for name in headers or ())


def _prices(nano: list[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if n is None else n / 1e3 for n in nano])
