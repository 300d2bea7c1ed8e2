"""Models, providers and endpoints as they are written in the configuration."""

from __future__ import annotations

import json
import os
import re
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from router.endpoints.base_url import check_base_url
from router.endpoints.capabilities import LISTED, Capability, Reasoning
from router.endpoints.droppable import checked_droppable
from router.endpoints.scalars import as_meant, kinds_of

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@+-]{0,127}")


def _checked_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("use 1 to 128 letters, digits and . _ / @ + -; no spaces, no colons")
    return value


Name = Annotated[str, AfterValidator(_checked_name)]
"""Ids and names appear in headers and metrics."""


class Entry(BaseModel):
    """Base of all configuration entries: a key that is not known is an error, not a comment."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _is_as_meant(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse what only looks like a number or a truth value; others would be read into it."""
        field = cls.model_fields[info.field_name or ""]
        return as_meant(value, kinds_of(field.annotation))


class Dialect(StrEnum):
    """A wire protocol that an endpoint speaks natively."""

    CHAT = "chat"
    MESSAGES = "messages"
    RESPONSES = "responses"
    EMBEDDINGS = "embeddings"
    COMPLETIONS = "completions"


DEFAULT_DIALECT = Dialect.CHAT


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


Tokens = Annotated[int, Field(gt=0, le=1_000_000_000)]
"""A hundred times the longest context that there is."""


def _truth(value: Any) -> Any:
    return as_meant(value, frozenset({bool}))


def _list_or_map(value: object) -> str:
    return "map" if isinstance(value, dict) else "list"


Capabilities = Annotated[
    Annotated[list[Capability], Tag("list")]
    | Annotated[dict[Capability, Annotated[bool, BeforeValidator(_truth)]], Tag("map")],
    Discriminator(_list_or_map),
]


class ProfileEntry(Entry):
    """What a model can do; what is left out is not known, and keeps nothing away."""

    context_tokens: Tokens | None = None
    output_tokens: Tokens | None = None  # the most that it writes
    capabilities: Capabilities | None = None
    reasoning: Reasoning | None = None  # how it is asked for

    @property
    def said(self) -> dict[Capability, bool]:
        """What it can do and what not, as far as that is said."""
        named = self.capabilities
        if isinstance(named, list):
            said = {c: c in named for c in Capability if c in named or c in LISTED}
        else:
            said = dict(named or {})
        if self.reasoning is not None:
            said[Capability.REASONING] = self.reasoning is not Reasoning.NEVER
        return said

    @field_validator("reasoning")
    @classmethod
    def _agrees(cls, value: Reasoning | None, info: ValidationInfo) -> Reasoning | None:
        """Refuse a way of reasoning of a model that is said not to, and the other way round."""
        named = info.data.get("capabilities") or []
        able = named.get(Capability.REASONING) if isinstance(named, dict) else None
        if isinstance(named, list) and Capability.REASONING in named:
            able = True
        if value is not None and able is (value is Reasoning.NEVER):
            raise ValueError("capabilities say the opposite of reasoning; leave one of them out")
        return value


class ModelEntry(ProfileEntry):
    """A model, wherever it is hosted."""


class AzureEntry(Entry):
    """How Azure names a model in the path."""

    deployment: str
    api_version: str


HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")]


class AuthEntry(Entry):
    """Where an endpoint's key comes from, and how it is sent."""

    env: str | None = None
    file: Path | None = None
    header: HeaderName | None = None
    """Unnamed: `Authorization: Bearer`."""
    azure: AzureEntry | None = None

    @model_validator(mode="after")
    def _one_source(self) -> AuthEntry:
        if (self.env is None) == (self.file is None):
            raise ValueError("name the key's source: exactly one of env and file")
        return self

    @property
    def file_exists(self) -> bool:
        """Whether there is such a file."""
        return self.file is not None and os.path.exists(self.file)  # an overlong name is none

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


Price = Annotated[Decimal, Field(ge=0, le=100_000)]
"""USD a million tokens. The dearest that is sold costs some hundreds; the bound keeps out prices of
other units, and costs that no sum of theirs could tell apart."""


class PricesEntry(Entry):
    """List prices; USD a million tokens."""

    input_usd_per_mtok: Price
    output_usd_per_mtok: Price
    cached_input_usd_per_mtok: Price | None = None


Seconds = Annotated[float, Field(gt=0, le=86_400)]


class BesideEntry(Entry):
    """After how long the next endpoint is started beside one that has shown nothing yet."""

    first_token: Seconds | None = None  # of a streamed call
    answer: Seconds | None = None


class TimeoutsEntry(Entry):
    """Limits of one attempt, each optional; of several that apply the tightest holds.

    Unset, the call's own deadline is all that binds; beside a slow endpoint another is then
    started after what was learnt.
    """

    connect_s: Annotated[float, Field(gt=0, le=60)] | None = None
    first_token_s: Seconds | None = None  # of a streamed call: until its first content
    stall_s: Seconds | None = None  # silence inside a stream
    answer_s: Seconds | None = None  # of an unstreamed call, whole
    beside_s: BesideEntry = BesideEntry()


class LimitsEntry(Entry):
    """What an endpoint takes at most."""

    max_output_tokens: Tokens | None = None
    max_in_flight: Annotated[int, Field(gt=0, le=1_000_000)] | None = None


TRANSLATED = {
    Dialect.CHAT: (Dialect.MESSAGES,),
    Dialect.MESSAGES: (Dialect.CHAT,),
    Dialect.RESPONSES: (Dialect.CHAT, Dialect.MESSAGES),
}
"""By the dialect of a call: those that it can be said in, the nearest first."""


Droppable = Annotated[
    str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$"), AfterValidator(checked_droppable)
]


class TranslateEntry(Entry):
    """Which calls an endpoint takes that come in a dialect which it does not speak."""

    calls_of: Annotated[list[Dialect], Field(min_length=1, alias="from")]
    drop: list[Droppable] = []
    """What may be left out though it means something: types of provider-run tools, `store`,
    `reasoning`."""

    @field_validator("calls_of")
    @classmethod
    def _can_be_said(cls, value: list[Dialect]) -> list[Dialect]:
        for dialect in value:
            if dialect not in TRANSLATED:
                known = ", ".join(TRANSLATED)
                raise ValueError(f"nothing translates {dialect}; of {known} name those to take")
        return value


class Hosting(Entry):
    """What a provider says once for all its endpoints, and an endpoint may say for itself."""

    base_url: str | None = None
    auth: Auth | None = None
    dialects: Annotated[list[Dialect], Field(min_length=1)] | None = None
    translate: TranslateEntry | None = None
    region: str | None = None
    max_data_class: DataClass | None = None
    forward_headers: list[HeaderName] | None = None  # beside those that travel anyway

    @field_validator("base_url")
    @classmethod
    def _is_sound(cls, value: str | None) -> str | None:
        return None if value is None else check_base_url(value)


NO_PARAMS = frozenset({"model", "messages", "stream", "stream_options", "router", "metadata"})


OURS = ("/v1/models", "/v1/router", "/v1/feedback", "/v1/events")
"""Paths that no provider takes."""
_PATH = re.compile(r"/v1(?:/[A-Za-z0-9._~-]+)+")


def _claimed_path(path: str) -> str:
    path = path.removesuffix("/")
    if not _PATH.fullmatch(path) or "/." in path:
        raise ValueError("write a path as clients call it, such as /v1/files; no *, no query")
    if any(f"{path}/".startswith(f"{ours}/") for ours in OURS):
        raise ValueError(f"{path} is answered here; no provider takes it")
    return path


ClaimedPath = Annotated[str, AfterValidator(_claimed_path)]


class PassthroughEntry(Entry):
    """What a provider takes of what no endpoint lists."""

    dialects: list[Dialect] = Field(default_factory=list)
    paths: list[ClaimedPath] = Field(default_factory=list)  # each with all that is below it

    @model_validator(mode="after")
    def _takes_something(self) -> PassthroughEntry:
        if not (self.dialects or self.paths):
            raise ValueError("name dialects or paths, or write true for all that nobody claims")
        return self


def _kind_of_passthrough(value: object) -> str:
    return "claims" if isinstance(value, dict | PassthroughEntry) else "word"


class ProviderEntry(Hosting):
    """A provider; `passthrough` says which unlisted models and paths go there."""

    passthrough: Annotated[
        Annotated[PassthroughEntry, Tag("claims")] | Annotated[bool, Tag("word")],
        Discriminator(_kind_of_passthrough),
    ] = False
    """True: all that no other provider claims."""
    passthrough_state: Literal["shared"] | None = None
    """Unsaid: apps under one key of ours see nothing of what others may have left there."""


UpstreamName = Annotated[str, Field(min_length=1, max_length=256)]
"""What a provider calls a model."""


class EndpointEntry(Hosting, ProfileEntry):
    """One callable target; what it says of its model holds here, whatever `models` says."""

    id: Name
    model: Name
    provider: Name | None = None
    upstream_model: UpstreamName | None = None
    served_as: list[UpstreamName] = Field(default_factory=list)
    """Names that its answers may carry, beside that of the model and those of its versions."""
    params: dict[str, Any] = Field(default_factory=dict)
    prices: PricesEntry | None = None
    timeouts: TimeoutsEntry = TimeoutsEntry()
    limits: LimitsEntry = LimitsEntry()
    equivalent: bool | None = None
    """Unsaid: to its like, until its labels show that it is worse; true: whatever they show."""
    opaque: bool = False
    stream_usage: bool = True

    @property
    def group_key(self) -> tuple[str, ...]:
        """What endpoints have in common that are equivalent to one another."""
        if self.opaque or self.equivalent is False:
            return (self.id,)
        return (self.model, json.dumps(self.params, sort_keys=True))

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
