"""Events that others send, as CloudEvents 1.0: outcomes of calls that they dispatched, feedback.

The models are what is taken; the schemas under `telemetry/schemas/` are made from them. Fields are
only ever added, with a default: `tests/data/events_v1.jsonl` must parse for ever.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)

from telemetry.columns import BadColumns, check, meant, once
from telemetry.errors import BadEvent
from telemetry.events import Result
from telemetry.names import text_of
from telemetry.numbers import brief, clipped, whole_of

OUTCOME_TYPE = "pointsman.outcome.v1"
FEEDBACK_TYPE = "pointsman.feedback.v1"
MAX_EVENTS = 1000
"""In one request."""
MAX_NAME = 256
MAX_AGE_S = 30 * 86_400
MAX_AHEAD_S = 300
"""Clocks differ by seconds; what is further off is in another unit, or of another year."""
EPISODES = ("session_id", "episode_id")
"""Names of a whole: a declared session is an episode."""
REFERENCES = ("decision_id", "response_id", "ref", *EPISODES)
LABELS = ("score", "passed", "thumb", "edit_ratio", "retried")

ResultName = Literal[
    "ok",
    "client_error",
    "client_gone",
    "rate_limit",
    "server",
    "timeout",
    "connect",
    "cut",
    "refused",
    "bad_reply",
    "overtaken",
]
Share = Annotated[float, Field(ge=0, le=1)]


def _as_whole(value: object) -> object:
    """Return a whole number as such, however it is written; others for the type to refuse."""
    whole = whole_of(value)
    return value if whole is None else whole


WHOLE = BeforeValidator(_as_whole)
"""`120.0` and `1.2e2` are 120: some languages know no other numbers. A fraction is refused."""
Count = Annotated[
    int,
    Field(ge=0, le=1_000_000_000, description="a whole number from 0 to 1e9"),
    WHOLE,
]
Text = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_NAME,
        pattern=r"^[^\x00-\x1f\x7f]+$",
        description=f"a string of 1 to {MAX_NAME} characters, no control characters",
    ),
]


def _as_text(value: object) -> object:
    """Return a whole number as text; what is neither stays as it is, for the type to refuse.

    Raises:
        NotText: a number that is none of a name; the type could only say that it is no text.
    """
    is_numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return text_of(value) if is_numeric else value


Id = Annotated[Text, BeforeValidator(_as_text)]
"""Text as written; `7` and `7.0` are told as `"7"`, whatever the sender's language made of them."""
Reference = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
Usd = Annotated[float, Field(ge=0, le=1000, description="USD for this call, from 0 to 1000")]
Tags = Annotated[
    str | dict[str, Any],
    Field(description="an object of values by key, or `key=value, key=value`"),
]
Score = Annotated[Share, Field(description="a number from 0 to 1")]
Passed = Annotated[bool, Field(description="true or false")]
Thumb = Annotated[Literal["up", "down"], Field(description="up or down")]
EditRatio = Annotated[Share, Field(description="a number from 0 (kept as it was) to 1")]
Retried = Annotated[Literal[True], Field(description="true (leave it out otherwise)")]
KindName = Annotated[
    Literal["derived", "judge", "edit", "human", "test"],
    Field(description="derived, judge, edit, human or test"),
]


class _Data(BaseModel):
    """What an event says; a field that is not known is an error, and no value is converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Outcome(_Data):
    """One upstream call that an app dispatched by itself, and what its answer was worth."""

    endpoint: Annotated[Text, Field(description="the id of an endpoint of the configuration")]
    task: Text | None = None
    result: ResultName | None = Field(
        default=None,
        description=", ".join(r.name.lower() for r in Result) + "; else as `status` says, else ok",
    )
    status: (
        Annotated[int, Field(ge=0, le=599, description="the HTTP status, 0 to 599"), WHOLE] | None
    ) = None
    attempt: (
        Annotated[int, Field(ge=1, le=255, description="a whole number from 1 to 255"), WHOLE]
        | None
    ) = None
    final: (
        Annotated[bool, Field(description="true or false: whether its call ended with it")] | None
    ) = None
    latency_s: (
        Annotated[float, Field(gt=0, le=3600, description="seconds, above 0 and up to 3600")] | None
    ) = None
    ttft_s: (
        Annotated[float, Field(gt=0, le=3600, description="seconds, above 0 and up to 3600")] | None
    ) = None
    streamed: Annotated[bool, Field(description="true or false")] | None = None
    tokens_in: Count | None = None
    tokens_out: Count | None = None
    tokens_cached: Count | None = None
    tokens_reasoning: Count | None = None
    tokens_cache_write: Count | None = None
    service_tier: Text | None = None
    cost_usd: Usd | None = None
    reported_cost_usd: Usd | None = None
    user: Id | None = None
    tags: Tags | None = None
    response_id: Id | None = None
    ref: Id | None = None
    session_id: Id | None = None
    episode_id: Id | None = None
    score: Score | None = None
    passed: Passed | None = None
    thumb: Thumb | None = None
    edit_ratio: EditRatio | None = None
    retried: Retried | None = None
    kind: KindName | None = None

    @property
    def episode(self) -> str | None:
        """The episode or session that it was part of; of both the episode, as of a call."""
        return self.episode_id or self.session_id

    @property
    def ended(self) -> Result:
        """How the call ended."""
        if self.result is not None:
            return Result[self.result.upper()]
        if self.status is None or 0 < self.status < 400:
            return Result.OK
        if self.status == 0:
            return Result.CONNECT
        if self.status == 429:
            return Result.RATE_LIMIT
        return Result.SERVER if self.status >= 500 else Result.CLIENT_ERROR

    @property
    def ends_call(self) -> bool:
        """Whether the call that it was an attempt of ended with it, as far as it says.

        A failure that is numbered may have been followed by another attempt.
        """
        if self.ended in (Result.OVERTAKEN, Result.CLIENT_GONE):
            return False
        if self.final is not None:
            return self.final
        return self.ended is Result.OK or self.attempt is None


def _exactly_one(schema: dict[str, Any]) -> None:
    """Say in a schema what the types cannot: one way to name what is judged, one word on it."""
    for entry in schema["properties"].values():
        entry.pop("default", None)
    schema["allOf"] = [
        {"oneOf": [{"required": [name]} for name in names]} for names in (REFERENCES, LABELS)
    ]
    several = {"properties": {"match": {"type": "string"}}}
    schema["allOf"] += [{"not": {"required": [name, "match"], **several}} for name in EPISODES]


class Feedback(_Data):
    """A word on an answer; the body of `POST /v1/feedback`. Null takes back what was said."""

    model_config = ConfigDict(json_schema_extra=_exactly_one)

    decision_id: Reference = Field(default="", description="x-router-decision-id, unchanged")
    response_id: Reference = Field(default="", description="the answer's own id")
    ref: Reference = Field(default="", description="the caller's own reference")
    session_id: Reference = Field(default="", description="the session of calls judged together")
    episode_id: Reference = Field(default="", description="the same: a session is an episode")
    score: Score | None = None
    passed: Passed | None = None
    thumb: Thumb | None = None
    edit_ratio: EditRatio | None = None
    retried: Retried | None = None
    kind: KindName = "judge"
    revision: Annotated[int, Field(ge=0, lt=2**32, description="a whole number from 0")] = 0
    match: Annotated[Literal["last", "all"], Field(description="last or all")] | None = None


class _Envelope(BaseModel):
    """The context attributes of a CloudEvent; those not named here are let pass."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    specversion: Annotated[Literal["1.0"], Field(description="1.0")]
    id: Id
    source: Text
    datacontenttype: (
        Annotated[
            str,
            Field(pattern=r"^application/json(;.*)?$", description="application/json, or left out"),
        ]
        | None
    ) = None
    time: AwareDatetime | None = Field(default=None, description="RFC 3339 with its offset")


class OutcomeEvent(_Envelope):
    """Tells of one call. Without `time` it is taken to be of now."""

    type: Literal["pointsman.outcome.v1"]
    data: Outcome


class FeedbackEvent(_Envelope):
    """Tells what an answer was worth. Of two the one with the later `time` holds."""

    type: Literal["pointsman.feedback.v1"]
    time: AwareDatetime = Field(
        description="RFC 3339 with its offset: of two words on one answer the later holds"
    )
    data: Annotated[dict[str, Any], WithJsonSchema(Feedback.model_json_schema())]
    """Read by the parser of `POST /v1/feedback`, which has more to say of what is wrong."""


Event = OutcomeEvent | FeedbackEvent
_ATTRIBUTES = frozenset(OutcomeEvent.model_fields)
_EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Discriminator("type")])


def parse(raw: bytes) -> Event:
    """Return the event in a JSON object.

    Raises:
        BadEvent: names the first field at fault, its value, and what it must be.
    """
    try:
        event = _EVENT.validate_json(raw)
    except ValidationError as error:
        raise _explained(error) from None
    try:
        # An event has attributes that are not ours; a misspelt `time` would be one of them.
        attributes = json.loads(raw, object_pairs_hook=once)
        if not attributes.keys() <= _ATTRIBUTES:
            check(attributes, _ATTRIBUTES, what="attribute")
    except BadColumns as error:
        raise BadEvent(error.name, str(error)) from None
    except (ValueError, RecursionError) as error:
        raise BadEvent("", f"this is JSON that not every reader takes: {error}") from None
    if isinstance(event, OutcomeEvent):
        _check_together(event.data)
    return event


def _check_together(data: Outcome) -> None:
    """Refuse fields that contradict each other."""
    said = [name for name in LABELS if getattr(data, name) is not None]
    if len(said) > 1:
        raise BadEvent(f"data.{said[1]}", f"send one of {', '.join(said)}; they say the same thing")
    if data.kind is not None and not said:
        raise BadEvent("data.kind", f"data.kind goes with one of {', '.join(LABELS)}")
    if data.ttft_s is not None and data.latency_s is not None and data.ttft_s > data.latency_s:
        shown = f"data.ttft_s is {data.ttft_s:g}, beyond latency_s {data.latency_s:g}"
        raise BadEvent("data.ttft_s", f"{shown}; both count from the start of the request")
    if (data.tokens_in is None) != (data.tokens_out is None):
        missing = "tokens_in" if data.tokens_in is None else "tokens_out"
        raise BadEvent(f"data.{missing}", f"data.{missing} is missing; send both counts, or none")


def _explained(error: ValidationError) -> BadEvent:
    """Return a validation's first problem as field, value and fix."""
    first = error.errors(include_url=False, include_context=True)[0]
    kind, value = first["type"], first["input"]
    path = [str(part) for part in first["loc"]]
    tag = path.pop(0) if path and path[0] in (OUTCOME_TYPE, FEEDBACK_TYPE) else ""
    field = ".".join(path[:2] if path[:1] == ["data"] else path[:1])
    if kind == "json_invalid":
        return BadEvent("", f"this is not JSON: {first['msg']}")
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        given = value.get("type") if isinstance(value, dict) else None
        shown = "is missing" if given is None else f"is {brief(given)}"
        return BadEvent("type", f"type {shown}; it must be {OUTCOME_TYPE} or {FEEDBACK_TYPE}")
    if kind == "extra_forbidden":
        known = ", ".join(Outcome.model_fields)
        near = meant(path[-1], Outcome.model_fields)
        hint = f"did you mean data.{near}? known" if near else "known"
        return BadEvent(field, f"unknown field {clipped(field)}; {hint}: {known}")
    if kind == "value_error":  # said by `text_of`
        return BadEvent(field, f"{field} {first['ctx']['error']}")
    wanted = _wanted(tag, path)
    hint = f"; it must be {wanted}" if wanted else f" ({first['msg'].lower()})"
    if kind == "missing":
        return BadEvent(field, f"{field} is missing{hint}")
    if not field:
        return BadEvent("", "an event must be a JSON object")
    return BadEvent(field, f"{field} is {brief(value)}{hint}")


def _wanted(tag: str, path: list[str]) -> str:
    """Return what the field at `path` must be, in the words of its schema."""
    if path == ["data"]:
        return "an object"
    if path[:1] == ["data"]:
        return _descriptions(Outcome).get(path[1], "")
    model = FeedbackEvent if tag == FEEDBACK_TYPE else OutcomeEvent
    return _descriptions(model).get(path[0], "") if path else ""


@lru_cache(maxsize=8)
def _descriptions(model: type[BaseModel]) -> dict[str, str]:
    out = {}
    for name, entry in model.model_json_schema()["properties"].items():
        parts = [entry, *entry.get("anyOf", [])]
        out[name] = next((p["description"] for p in parts if "description" in p), "")
    return out
