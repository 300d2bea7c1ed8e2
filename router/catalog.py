"""What can be called: models, providers and endpoints, as written and as compiled."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx
import numpy as np
from numpy.typing import NDArray
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from bandit.posterior import Arms
from router.net.pool import Target
from telemetry.events import digest8

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@+-]{0,127}")


def _checked_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("use 1 to 128 letters, digits and . _ / @ + -; no spaces, no colons")
    return value


Name = Annotated[str, AfterValidator(_checked_name)]
"""Ids and names appear in headers and metrics."""


class Entry(BaseModel):
    """Base of all configuration entries: a key that is not known is an error, not a comment."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Dialect(StrEnum):
    """A wire protocol that an endpoint speaks natively."""

    CHAT = "chat"


class Capability(StrEnum):
    """What a request may need of a model."""

    TOOLS = "tools"
    IMAGES = "images"
    AUDIO = "audio"
    SCHEMA = "schema"


class Needs:
    """Capabilities as bits of a plain integer; enum arithmetic has no place in a call's path."""

    TOOLS = 1
    IMAGES = 2
    AUDIO = 4
    SCHEMA = 8


class DataClass(StrEnum):
    """How sensitive a request is, from least to most."""

    PUBLIC = "public"
    INTERNAL = "internal"
    CONFIDENTIAL = "confidential"
    RESTRICTED = "restricted"

    @property
    def level(self) -> int:
        """Order of sensitivity."""
        return _LEVELS[self]

    def tightened(self, other: DataClass | None) -> DataClass:
        """Return the more sensitive of the two; None asks for nothing."""
        return other if other is not None and other.level > self.level else self


_LEVELS = {c: i for i, c in enumerate(DataClass)}
SENSITIVE = DataClass.CONFIDENTIAL
"""From here on nothing is explored."""


class ModelEntry(Entry):
    """A model, wherever it is hosted."""

    context_tokens: Annotated[int, Field(gt=0)] | None = None
    capabilities: list[Capability] | None = None  # unnamed: all


class AzureEntry(Entry):
    """How Azure names a model in the path."""

    deployment: str
    api_version: str


class AuthEntry(Entry):
    """Where an endpoint's key comes from, and how it is sent."""

    env: str | None = None
    file: Path | None = None
    header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")] | None = None
    """Unnamed: `Authorization: Bearer`."""
    azure: AzureEntry | None = None

    @model_validator(mode="after")
    def _one_source(self) -> AuthEntry:
        if (self.env is None) == (self.file is None):
            raise ValueError("name the key's source: exactly one of env and file")
        return self

    def secret(self) -> str:
        """Return the key.

        Raises:
            LookupError: the variable is not set, or the file cannot be read; names the fix.
        """
        if self.env is not None:
            value = os.environ.get(self.env, "").strip()
            if not value:
                raise LookupError(f"environment variable {self.env} is not set; export it")
            return _sound(value, self.env)
        assert self.file is not None
        try:
            value = self.file.read_text().strip()
        except OSError as error:
            raise LookupError(f"{self.file} cannot be read ({error.strerror})") from None
        except UnicodeDecodeError:
            raise LookupError(f"{self.file} holds no text") from None
        if not value:
            raise LookupError(f"{self.file} is empty")
        return _sound(value, str(self.file))


def _sound(secret: str, source: str) -> str:
    if not secret.isascii() or not secret.isprintable():
        raise LookupError(f"{source} holds characters that no header may carry")
    return secret


def _kind_of_auth(value: object) -> str:
    return "word" if isinstance(value, str) else "key"


Auth = Annotated[
    Annotated[AuthEntry, Tag("key")] | Annotated[Literal["client", "none"], Tag("word")],
    Discriminator(_kind_of_auth),
]


class PricesEntry(Entry):
    """List prices; USD a million tokens."""

    input_usd_per_mtok: Annotated[Decimal, Field(ge=0)]
    output_usd_per_mtok: Annotated[Decimal, Field(ge=0)]
    cached_input_usd_per_mtok: Annotated[Decimal, Field(ge=0)] | None = None


class TimeoutsEntry(Entry):
    """Limits of one attempt; the call's own deadline binds as well."""

    connect_s: Annotated[float, Field(gt=0, le=60)] = 3.0
    first_token_s: Annotated[float, Field(gt=0, le=600)] = 15.0
    stall_s: Annotated[float, Field(gt=0, le=600)] = 20.0


class LimitsEntry(Entry):
    """What an endpoint takes at most."""

    max_output_tokens: Annotated[int, Field(gt=0)] | None = None
    max_in_flight: Annotated[int, Field(gt=0)] | None = None


class Hosting(Entry):
    """What a provider says once for all its endpoints, and an endpoint may say for itself."""

    base_url: str | None = None
    auth: Auth | None = None
    dialects: Annotated[list[Dialect], Field(min_length=1)] | None = None
    region: str | None = None
    max_data_class: DataClass | None = None

    @field_validator("base_url")
    @classmethod
    def _is_http(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            url = httpx.URL(value)
        except httpx.InvalidURL as error:
            raise ValueError(f"this is no URL ({error})") from None
        whole = url.scheme in ("http", "https") and url.host and not re.search(r"\s", value)
        if not whole or url.query or url.fragment or (url.port or 0) > MAX_PORT:
            raise ValueError("write a whole URL, such as https://api.openai.com/v1")
        return value


NO_PARAMS = frozenset({"model", "messages", "stream", "stream_options", "router", "metadata"})
MAX_PORT = 65535


class ProviderEntry(Hosting):
    """A provider; `passthrough` marks where unlisted models and paths may go."""

    passthrough: bool = False


class EndpointEntry(Hosting):
    """One callable target."""

    id: Name
    model: Name
    provider: Name | None = None
    upstream_model: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    params: dict[str, Any] = Field(default_factory=dict)
    prices: PricesEntry | None = None
    timeouts: TimeoutsEntry = TimeoutsEntry()
    limits: LimitsEntry = LimitsEntry()
    equivalent: bool = True
    opaque: bool = False
    stream_usage: bool = True

    @field_validator("params")
    @classmethod
    def _are_settings(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if name in NO_PARAMS:
                raise ValueError(f"{name} is the caller's to say; params are settings of the model")
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"params must be JSON ({error})") from None
        return value


@dataclass(frozen=True, slots=True, eq=False)
class Endpoint:
    """A compiled endpoint; `index` is its place in every array."""

    index: int
    id: str
    model: str
    upstream_model: str
    provider: str
    dialects: frozenset[Dialect]
    target: Target  # of chat completions
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
class Provider:
    """Where unlisted models and paths go."""

    name: str
    base_url: str
    auth_header: tuple[bytes, bytes] | None
    client_auth: bool
    region: str | None
    max_data_class: DataClass


@dataclass(frozen=True, slots=True, eq=False)
class Catalog:
    """All endpoints, in the order in which they are listed."""

    endpoints: tuple[Endpoint, ...]
    by_id: dict[str, Endpoint]
    by_model: dict[str, tuple[Endpoint, ...]]  # declared and upstream names, as listed
    by_digest: dict[int, Endpoint]
    group_members: tuple[tuple[int, ...], ...]  # arm indices of each group
    passthrough: Provider | None
    arms: Arms = field(repr=False)

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
    groups: dict[tuple[object, ...], int] = {}
    families: dict[str, int] = {}
    family_of_group: list[int] = []
    endpoints: list[Endpoint] = []
    for index, entry in enumerate(entries):
        identity = (entry.model, json.dumps(entry.params, sort_keys=True))
        key = (entry.id,) if entry.opaque or not entry.equivalent else identity
        if key not in groups:
            groups[key] = len(groups)
            family_of_group.append(families.setdefault(entry.model, len(families)))
        provider = providers.get(entry.provider or "", ProviderEntry())
        model = models.get(entry.model, ModelEntry())
        endpoints.append(_endpoint(index, entry, provider, model, groups[key], secrets))
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
            tuple(int(a) for a in np.flatnonzero(group == g)) for g in range(len(groups))
        ),
        passthrough=_passthrough(providers, secrets),
        arms=Arms(
            group=group,
            family=np.array(family_of_group, dtype=np.intp),
            input_usd_per_mtok=_prices([e.nano_in for e in endpoints]),
            output_usd_per_mtok=_prices([e.nano_out for e in endpoints]),
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
    base_url = (entry.base_url or provider.base_url or "").rstrip("/")
    auth = entry.auth or provider.auth or "none"
    upstream_model = entry.upstream_model or entry.model
    params = json.dumps(entry.params, sort_keys=True)
    prices = entry.prices
    cached = prices.cached_input_usd_per_mtok if prices else None
    capabilities = model.capabilities
    return Endpoint(
        index=index,
        id=entry.id,
        model=entry.model,
        upstream_model=upstream_model,
        provider=entry.provider or "",
        dialects=frozenset(entry.dialects or provider.dialects or [Dialect.CHAT]),
        target=Target.of(httpx.URL(_chat_url(base_url, auth))),
        auth_header=_auth_header(auth) if secrets else None,
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
    )


def needs_of(capabilities: Sequence[Capability]) -> int:
    """Return capabilities as bits."""
    bits = 0
    for capability in capabilities:
        bits |= getattr(Needs, capability.name)
    return bits


def _chat_url(base_url: str, auth: Auth) -> str:
    if isinstance(auth, AuthEntry) and auth.azure:
        path = f"openai/deployments/{auth.azure.deployment}/chat/completions"
        return f"{base_url}/{path}?api-version={auth.azure.api_version}"
    return f"{base_url}/chat/completions"


def _auth_header(auth: Auth) -> tuple[bytes, bytes] | None:
    if not isinstance(auth, AuthEntry):
        return None
    secret = auth.secret()
    if auth.azure:
        return b"api-key", secret.encode()
    if auth.header:
        return auth.header.lower().encode(), secret.encode()
    return b"authorization", b"Bearer " + secret.encode()


def _passthrough(providers: dict[str, ProviderEntry], secrets: bool) -> Provider | None:
    for name, entry in providers.items():
        if entry.passthrough:
            auth = entry.auth or "none"
            return Provider(
                name=name,
                base_url=(entry.base_url or "").rstrip("/"),
                auth_header=_auth_header(auth) if secrets else None,
                client_auth=auth == "client",
                region=entry.region,
                max_data_class=entry.max_data_class or DataClass.INTERNAL,
            )
    return None


def _prices(nano: list[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if n is None else n / 1e3 for n in nano])
