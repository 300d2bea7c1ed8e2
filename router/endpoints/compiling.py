"""The catalog, made of entries that were checked before."""

from __future__ import annotations

import json
from collections.abc import Sequence

import httpx

from router.endpoints.auth import Auth, AuthEntry
from router.endpoints.base_url import part_user
from router.endpoints.capabilities import bits_of
from router.endpoints.catalog import CALL_PATHS, Catalog, Endpoint, assembled
from router.endpoints.data_classes import DataClasses
from router.endpoints.default_prices import default_prices
from router.endpoints.entries import (
    DEFAULT_DIALECT,
    TRANSLATED,
    Dialect,
    EndpointEntry,
    ModelEntry,
    ProviderEntry,
    TranslateEntry,
)
from router.endpoints.keys import HeldKey, KeyRing
from router.endpoints.maintenance import compile_windows
from router.endpoints.model_names import is_same_model
from router.endpoints.places import Whereabouts
from router.endpoints.profile import profile_of
from router.endpoints.providers import Provider, claims_of
from router.endpoints.rate_limits import rates_of_endpoint, rates_of_provider
from router.endpoints.rates import compile_prices
from router.endpoints.terms import HostingTerms
from router.net.pool import Target
from telemetry.digests import digest8


def compile_catalog(
    models: dict[str, ModelEntry],
    providers: dict[str, ProviderEntry],
    entries: Sequence[EndpointEntry],
    *,
    classes: DataClasses | None = None,
    secrets: bool = True,
    before: KeyRing | None = None,
) -> Catalog:
    """Return the catalog; everything in it was checked before.

    Args:
        classes: of data; None: those that everybody has.
        secrets: False leaves keys out, for whoever reads reports and sends nothing.
        before: the keys of the catalog that this one follows.

    Raises:
        LookupError: a key is missing.
    """
    groups: dict[tuple[str, ...], int] = {}
    families: dict[str, int] = {}
    family_of_group: list[int] = []
    endpoints: list[Endpoint] = []
    keys = KeyRing(before)
    classes = classes or DataClasses()
    for index, entry in enumerate(entries):
        key = entry.group_key
        if key not in groups:
            groups[key] = len(groups)
            family_of_group.append(families.setdefault(entry.model, len(families)))
        provider = providers.get(entry.provider or "", ProviderEntry())
        model = models.get(entry.model, ModelEntry())
        endpoints.append(
            _endpoint(
                index,
                entry,
                provider,
                model,
                groups[key],
                classes,
                keys if secrets else None,
            )
        )
    compiled = _compiled_providers(providers, classes, keys if secrets else None)
    claims = claims_of(providers, compiled)
    kin = tuple((group,) for group in range(len(groups)))
    return assembled(endpoints, family_of_group, kin, claims, keys)


def _endpoint(
    index: int,
    entry: EndpointEntry,
    provider: ProviderEntry,
    model: ModelEntry,
    group: int,
    classes: DataClasses,
    keys: KeyRing | None,
) -> Endpoint:
    base_url, signed_in = part_user(entry.base_url or provider.base_url or "")
    auth = entry.auth or provider.auth or "none"
    upstream_model = entry.upstream_model or entry.model
    params = json.dumps(entry.params, sort_keys=True)
    prices = compile_prices(entry.prices) or default_prices(base_url, upstream_model)
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
        key=_key(auth, signed_in, keys),
        client_auth=auth == "client",
        params={name: json.dumps(value).encode() for name, value in entry.params.items()},
        prices=prices,
        has_machine=prices is not None and prices.has_machine,
        place=place_of(entry, provider, model, classes),
        windows=compile_windows(
            provider.maintenance if entry.maintenance is None else entry.maintenance
        ),
        says_class=(entry.max_data_class or provider.max_data_class) is not None,
        timeouts=entry.timeouts,
        limits=entry.limits,
        profile=profile_of(model, entry, said),
        stream_usage=entry.stream_usage,
        digest=digest8(entry.id, entry.provider or "", base_url, upstream_model, params),
        group=group,
        forwarded=_names(entry.forward_headers or provider.forward_headers),
        may_split=entry.equivalent is None,
        rates=rates_of_endpoint(entry.id, entry.limits, entry.provider or "", provider.limits),
    )


def place_of(
    entry: EndpointEntry, provider: ProviderEntry, model: ModelEntry, classes: DataClasses
) -> Whereabouts:
    """Return an endpoint as rules see it; a class that is not known permits what is usual."""
    most = classes.by_name.get(entry.max_data_class or provider.max_data_class or "")
    capabilities = bits_of(model.said | entry.said)
    terms = HostingTerms.of(entry, provider)
    context = entry.context_tokens or model.context_tokens
    return Whereabouts(entry.id, most or classes.usual, classes.usual, terms, capabilities, context)


def place_of_rest(name: str, entry: ProviderEntry, classes: DataClasses) -> Whereabouts:
    """Return a provider as rules see it that takes what is not listed: what it can do is unknown.

    So it is taken to be able to do all that a rule asks for, or forbids.
    """
    most = classes.by_name.get(entry.max_data_class or "", classes.usual)
    return Whereabouts(f"{name}/", most, classes.usual, HostingTerms.of(entry, entry), bits_of({}))


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


def _call_url(base_url: str, auth: Auth, dialect: Dialect) -> str:
    path = CALL_PATHS[dialect]
    if isinstance(auth, AuthEntry) and auth.azure:
        path = f"openai/deployments/{auth.azure.deployment}/{path}"
        return f"{base_url}/{path}?api-version={auth.azure.api_version}"
    return f"{base_url}/{path}"


def _key(auth: Auth, signed_in: tuple[bytes, bytes] | None, keys: KeyRing | None) -> HeldKey | None:
    """Return the key of an address that may hold one itself; None where keys are left out."""
    if keys is None:
        return None
    return HeldKey(signed_in) if signed_in else keys.key_of(auth)


def _compiled_providers(
    entries: dict[str, ProviderEntry], classes: DataClasses, keys: KeyRing | None
) -> dict[str, Provider]:
    """Return the providers that take something that is not listed."""
    return {
        name: _provider(name, entry, classes, keys)
        for name, entry in entries.items()
        if entry.passthrough
    }


def _provider(
    name: str, entry: ProviderEntry, classes: DataClasses, keys: KeyRing | None
) -> Provider:
    auth = entry.auth or "none"
    base_url, signed_in = part_user(entry.base_url or "")
    if base_url:
        default_prices(base_url, "")  # what is published is read now, and not at the first call
    return Provider(
        name=name,
        digest=digest8("passthrough", name),
        base_url=base_url,
        key=_key(auth, signed_in, keys),
        client_auth=auth == "client",
        place=place_of_rest(name, entry, classes),
        forwarded=_names(entry.forward_headers),
        shares_state=entry.passthrough_state == "shared",
        rates=rates_of_provider(name, entry.limits),
    )


def _names(headers: Sequence[str] | None) -> frozenset[bytes]:
    return frozenset(name.lower().encode() for name in headers or ())
