"""What can be called, compiled: every endpoint in the order in which it is listed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field, replace

import httpx
import numpy as np
from numpy.typing import NDArray

from bandit.posterior import Arms
from router.endpoints.base_url import part_user
from router.endpoints.capabilities import Reasoning
from router.endpoints.entries import (
    DEFAULT_DIALECT,
    TRANSLATED,
    Auth,
    AuthEntry,
    DataClass,
    Dialect,
    EndpointEntry,
    LimitsEntry,
    ModelEntry,
    ProviderEntry,
    TimeoutsEntry,
    TranslateEntry,
)
from router.endpoints.model_names import is_same_model
from router.endpoints.profile import ModelProfile, profile_of
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
    served_as: tuple[str, ...] | None  # names that its answers may carry; None: any
    provider: str
    dialects: frozenset[Dialect]
    targets: dict[Dialect, Target]  # of each that it speaks
    translated: dict[Dialect, Dialect]  # of calls that it takes: into which that it speaks
    drop: frozenset[str]  # what a translation may leave out
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
    profile: ModelProfile
    stream_usage: bool
    digest: int
    group: int
    forwarded: frozenset[bytes]  # names of headers that travel beside the usual ones
    may_split: bool  # its own labels may end its equivalence
    is_split: bool = False  # they did: it has a group of its own

    def takes(self, dialect: Dialect) -> bool:
        """Return whether it takes calls of a dialect: as they come, or translated."""
        return dialect in self.dialects or dialect in self.translated

    def spoken_for(self, dialect: Dialect) -> Dialect:
        """Return the dialect in which a call of one that it takes goes to it."""
        return dialect if dialect in self.dialects else self.translated[dialect]

    @property
    def target(self) -> Target:
        """Where it is: that of a dialect which it speaks."""
        return next(iter(self.targets.values()))

    @property
    def context_tokens(self) -> int | None:
        """The most that it takes and writes together."""
        return self.profile.context_tokens

    @property
    def output_tokens(self) -> int | None:
        """The most that its model writes."""
        return self.profile.output_tokens

    @property
    def output_limit(self) -> int | None:
        """The most that it may be asked to write: by its model, and by its own limit."""
        most = self.limits.max_output_tokens, self.profile.output_tokens
        return min(filter(None, most), default=None)

    @property
    def reasoning(self) -> Reasoning | None:
        """How it is told how much to think; None: not known."""
        return self.profile.reasoning

    @property
    def capabilities(self) -> int:
        """What it can do, as bits of `Needs`."""
        return self.profile.capabilities

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
    taken: frozenset[Dialect]  # those, and what is translated into them
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
        taken=frozenset(dialect for e in endpoints for dialect in Dialect if e.takes(dialect)),
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
    said = entry.dialects or provider.dialects
    dialects = said or [DEFAULT_DIALECT]
    translate = entry.translate or provider.translate
    return Endpoint(
        index=index,
        id=entry.id,
        model=entry.model,
        upstream_model=upstream_model,
        served_as=None if entry.opaque else _answer_names(entry, upstream_model),
        provider=entry.provider or "",
        dialects=frozenset(dialects),
        targets={d: Target.of(httpx.URL(_call_url(base_url, auth, d))) for d in dialects},
        translated=_translated(dialects, translate),
        drop=frozenset(translate.drop if translate else ()),
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
        profile=profile_of(model, entry, said),
        stream_usage=entry.stream_usage,
        digest=digest8(entry.id, entry.provider or "", base_url, upstream_model, params),
        group=group,
        forwarded=_names(entry.forward_headers or provider.forward_headers),
        may_split=entry.equivalent is None,
    )


def speakers(endpoints: Iterable[Endpoint], dialect: Dialect) -> tuple[Endpoint, ...]:
    """Return who takes calls of a dialect, as listed: first who speaks it, then who translates."""
    native, translating = [], []
    for endpoint in endpoints:
        if dialect in endpoint.dialects:
            native.append(endpoint)
        elif dialect in endpoint.translated:
            translating.append(endpoint)
    return (*native, *translating)


def _translated(
    dialects: Sequence[Dialect], translate: TranslateEntry | None
) -> dict[Dialect, Dialect]:
    """Return what calls of each dialect that is not spoken are translated into."""
    out = {}
    for dialect in translate.calls_of if translate else ():
        into = next((to for to in TRANSLATED[dialect] if to in dialects), None)
        if into is not None and dialect not in dialects:
            out[dialect] = into
    return out


def _answer_names(entry: EndpointEntry, upstream_model: str) -> tuple[str, ...]:
    """Return the names that its answers may carry.

    The model's own is one where the provider calls it something else, as a deployment is called;
    where the provider's name is one of its versions, no other version is meant.
    """
    names = upstream_model, *entry.served_as
    return names if is_same_model(entry.model, upstream_model) else (*names, entry.model)


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
