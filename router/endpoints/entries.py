"""Models, providers and endpoints as they are written in the configuration."""

from __future__ import annotations

import json
import re
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from router.endpoints.auth import Auth
from router.endpoints.base_url import check_base_url
from router.endpoints.capabilities import LISTED, Capability, Reasoning
from router.endpoints.droppable import checked_droppable
from router.endpoints.entry import Entry, HeaderName, Name, Tokens, list_or_map
from router.endpoints.prices import Prices
from router.endpoints.rate_limits import RateLimitsEntry
from router.endpoints.scalars import as_meant
from router.endpoints.terms import TermsEntry


class Dialect(StrEnum):
    """A wire protocol that an endpoint speaks natively."""

    CHAT = "chat"
    MESSAGES = "messages"
    RESPONSES = "responses"
    EMBEDDINGS = "embeddings"
    COMPLETIONS = "completions"


DEFAULT_DIALECT = Dialect.CHAT


def _truth(value: Any) -> Any:
    return as_meant(value, frozenset({bool}))


Capabilities = Annotated[
    Annotated[list[Capability], Tag("list")]
    | Annotated[dict[Capability, Annotated[bool, BeforeValidator(_truth)]], Tag("map")],
    Discriminator(list_or_map),
]


class ProfileEntry(Entry):
    """What a model can do; what is left out is not known, and keeps nothing away."""

    context_tokens: Tokens | None = None
    """How many tokens prompt and answer may have together."""
    output_tokens: Tokens | None = None
    """The most tokens that it writes."""
    capabilities: Capabilities | None = None
    """What it can do. A list rules out of `tools`, `images`, `audio` and `schema` what it leaves
    out; a map rules out what it calls false."""
    reasoning: Reasoning | None = None
    """How it is told how much to think. `never` rules out calls that ask for thinking."""

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


Seconds = Annotated[float, Field(gt=0, le=86_400)]


class BesideEntry(Entry):
    """After how long the next endpoint is started beside one that has shown nothing yet."""

    first_token: Seconds | None = None
    """Seconds to the first content of a streamed call. Unset, what was learnt."""
    answer: Seconds | None = None
    """Seconds to a whole answer. Unset, what was learnt."""


class TimeoutsEntry(Entry):
    """Limits of one attempt, each optional; of several that apply the tightest holds.

    Unset, the call's own deadline is all that binds; beside a slow endpoint another is then
    started after what was learnt.
    """

    connect_s: Annotated[float, Field(gt=0, le=60)] | None = None
    """How many seconds a connection may take. Unset, 10."""
    first_token_s: Seconds | None = None
    """How many seconds a streamed call may be without content."""
    stall_s: Seconds | None = None
    """How many seconds a stream may send nothing at all."""
    answer_s: Seconds | None = None
    """How many seconds a whole answer may take, of a call that is not streamed."""
    beside_s: BesideEntry = BesideEntry()
    """After how many seconds the next endpoint is started beside one that has shown nothing."""


class LimitsEntry(RateLimitsEntry):
    """What an endpoint takes at most."""

    max_output_tokens: Tokens | None = None
    """The most tokens that a call may ask it for."""
    max_in_flight: Annotated[int, Field(gt=0, le=1_000_000)] | None = None
    """The most calls at a time."""


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
    """The dialects of the calls that it takes."""
    drop: list[Droppable] = Field(default_factory=list)
    """What may be left out though it means something: `store`, `reasoning`, and types of tools that
    the provider runs."""

    @field_validator("calls_of")
    @classmethod
    def _can_be_said(cls, value: list[Dialect]) -> list[Dialect]:
        for dialect in value:
            if dialect not in TRANSLATED:
                known = ", ".join(TRANSLATED)
                raise ValueError(f"nothing translates {dialect}; of {known} name those to take")
        return value


class Hosting(TermsEntry):
    """What a provider says once for all its endpoints, and an endpoint may say for itself."""

    base_url: str | None = None
    """What the path of a call is added to."""
    auth: Auth | None = None
    """Where the key comes from. `client` passes on the caller's own, `none` sends none."""
    dialects: Annotated[list[Dialect], Field(min_length=1)] | None = None
    """The wire protocols that it speaks. Unset, `chat`."""
    translate: TranslateEntry | None = None
    """Which calls it takes that come in a dialect which it does not speak."""
    max_data_class: Name | None = None
    """The most sensitive data that it may receive. Unset, `internal`."""
    forward_headers: list[HeaderName] | None = None
    """Headers of the client that are passed on, beside those that always are."""

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
    """Unlisted models, and all paths, of these dialects."""
    paths: list[ClaimedPath] = Field(default_factory=list)
    """These paths, with all that is below them."""

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
    """What of that which no endpoint lists goes to this provider. `true` is all that no other one
    claims."""
    passthrough_state: Literal["shared"] | None = None
    """With `shared`, apps under one key of yours see what the others keep there. Unset, those paths
    are refused."""
    limits: RateLimitsEntry = RateLimitsEntry()
    """What the account takes a minute, over all endpoints and all sidecars of a store."""


UpstreamName = Annotated[str, Field(min_length=1, max_length=256)]
"""What a provider calls a model."""


class EndpointEntry(Hosting, ProfileEntry):
    """One callable target; what it says of its model holds here, whatever `models` says."""

    id: Name
    """Its name. Calls may ask for it, and reports show it."""
    model: Name
    """The model that it serves. Endpoints of one model with the same `params` are hosts of one
    group."""
    provider: Name | None = None
    """The provider whose settings it has."""
    upstream_model: UpstreamName | None = None
    """What the provider calls the model. Unset, `model`."""
    served_as: list[UpstreamName] = Field(default_factory=list)
    """Names that its answers may carry, beside the model's own and its versions'."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Settings that are added to every request."""
    prices: Prices | None = None
    """What it costs. Unset, what the provider publishes."""
    timeouts: TimeoutsEntry = TimeoutsEntry()
    """Limits of one attempt at it."""
    limits: LimitsEntry = LimitsEntry()
    """What it takes at most."""
    equivalent: bool | None = None
    """Whether it is like the other hosts of its model. Unset, until its labels show otherwise;
    `true`, whatever they show; `false`, never."""
    opaque: bool = False
    """Nobody knows what it serves: it is a group of its own, and the model that its answers name is
    not checked."""
    stream_usage: bool = True
    """Whether it knows `stream_options.include_usage`."""

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
