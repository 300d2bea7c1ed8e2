"""What requests of all dialects have in common: how their bodies are read, and what is rewritten.

Only the top level is ever touched. Everything nested travels as the bytes that came, so tools,
images, unknown fields and integers of any size survive.
"""

from __future__ import annotations

import codecs
from collections.abc import Collection, Sequence
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import msgspec
from msgspec import Raw

from router.dialects.errors import refused_field
from router.dialects.fields import (
    ROUTER_KEYS,
    array,
    encoded,
    require_one_router,
    strip_hints,
    top_level,
)
from router.dialects.keeping import KeepingCall
from router.dialects.ours import metadata_of, read_reference, read_router
from router.dialects.request import (
    NO_HINTS,
    NOTHING_DECLARED,
    BodyHints,
    Declared,
    Opening,
    Structure,
)
from router.dialects.stored import StoredId, StoredKind
from router.endpoints.capabilities import Needs
from router.endpoints.catalog import Endpoint
from router.endpoints.entries import Dialect
from router.errors import RequestRejected
from telemetry.wire.lenient import softened

MAX_MESSAGES = 65_536
"""A bound, not a rule: bodies are bounded in bytes."""
FRAMES = 32
"""How much deeper than here a body is read once more, and then some: how far it may be nested
depends on the calls under way, and what is refused for it is refused before anything is done."""
SHORT = 1400
"""Bytes: half as many levels, as each takes two. Of Python's thousand frames no call has used more
than some hundred by then."""
MAX_NUMBER = 1 << 53
FORMAT_NEEDS = {"json_schema": Needs.SCHEMA, "json_object": Needs.JSON}
"""By the format of an answer that is asked for."""
BRACE = ord("{")
NONE = Raw(b"null")
_ENCODER = msgspec.json.Encoder()
T = TypeVar("T")
THINKING = "thinking"
"""What is left out where thoughts are."""


class BodyFields(Protocol):
    """What is read of a body in every dialect."""

    model: str
    stream: Any
    metadata: Raw
    router: Raw


F = TypeVar("F", bound=BodyFields)


class NativeRequest(KeepingCall):
    """One request, read as far as anybody looks."""

    __slots__ = (
        "_hints",
        "_reference",
        "_tags_us",
        "_thoughts",
        "body",
        "left_out",
        "model",
        "needs",
        "streamed",
    )

    dialect: ClassVar[Dialect]
    is_translated: ClassVar[bool] = False
    says_something: ClassVar[bool] = True
    """Its answer says something that a label may be read off."""

    def __init__(self, body: bytes, read: BodyFields, hints: BodyHints | None, needs: int) -> None:
        self._keeping = None
        metadata = {} if read.metadata is NONE else metadata_of(read.metadata)
        self.body = body  # as the client sent it
        self.model = read.model
        self.streamed = bool(read.stream)
        self.needs = needs  # bits of Needs
        self._hints = hints
        self._reference = read_reference(metadata) if metadata else None
        self.left_out: tuple[str, ...] = ()
        self._thoughts: tuple[str, ...] | None = None  # not looked for yet
        self._tags_us = bool(metadata) and any(one.startswith(ROUTER_KEYS) for one in metadata)

    @property
    def kept(self) -> StoredKind | None:
        """What its answer is at the provider from then on, under its id; None: it is not kept."""
        return None

    @property
    def continued(self) -> StoredId | None:
        """What it goes on from that lies at a provider."""
        return None

    @property
    def references(self) -> Sequence[StoredId]:
        """What lies at a provider that it holds the names of only, in order."""
        return ()

    @property
    def thoughts(self) -> tuple[str, ...]:
        """The marks of thoughts that it carries, in the order of the conversation."""
        if self._thoughts is None:
            self._thoughts = self._read_thoughts()
        return self._thoughts

    def _read_thoughts(self) -> tuple[str, ...]:
        return ()

    def bound_thoughts(self, endpoint: Endpoint) -> tuple[str, ...]:
        """Return the marks of thoughts that an endpoint must be sent, or cannot go on."""
        return ()

    def without_thoughts(self, marks: Collection[str]) -> Self:
        """Return it without these: each dialect that knows thoughts has its own."""
        return self

    def _with(self, field: str, entries: Sequence[Raw]) -> bytes:
        """Return the body with other entries in one of its lists."""
        top = top_level(self.body)
        top[field] = array(entries)
        return encoded(top)

    def _less(self, stripped: R) -> R:
        """Return what is left of it, which says so."""
        stripped.left_out = (THINKING,)
        return stripped

    def fields(self, endpoint: Endpoint) -> dict[str, bytes]:
        """Return the top-level fields that an endpoint gets, as JSON, without what we add."""
        top = {name: bytes(raw) for name, raw in top_level(self.body).items()}
        return top | endpoint.params

    def rewritten(self, endpoint: Endpoint, *, ask_usage: bool = True) -> tuple[bytes, bool]:
        """Return the body for an endpoint, and whether its usage chunk must be hidden.

        The original bytes are returned where nothing has to change.

        Args:
            ask_usage: ask for the usage of a stream, where the caller does not, and the dialect
                does not report it anyway.
        """
        asks = ask_usage and self._must_ask_usage(endpoint)
        ours, same_model = self._tags_us, self.model == endpoint.upstream_model
        hinted = ours or self._hints is not None
        if same_model and not hinted and not asks and not endpoint.params:
            return self.body, False
        top = top_level(self.body)
        top["model"] = Raw(_ENCODER.encode(endpoint.upstream_model))
        strip_hints(top, ours=ours)
        if asks:
            self._ask_usage(top)
        for name, value in endpoint.params.items():
            top[name] = Raw(value)
        return encoded(top), asks

    def as_callers(self, answer: bytes) -> bytes:
        """Return an unstreamed answer as its caller reads it: as it came."""
        return answer

    def refusal_as_callers(self, status: int, body: bytes) -> bytes:
        """Return a provider's refusal as its caller reads it: as it came."""
        return body

    def instead_as_callers(self, status: int, body: bytes) -> tuple[int, bytes]:
        """Return what came for an answer as its caller reads it: as it came."""
        return status, body

    def renamed(self, model: str) -> bytes:
        """Return the body with another model and without what is for us; else as it came."""
        ours, same_model = self._tags_us, self.model == model
        if same_model and not ours and self._hints is None:
            return self.body
        top = top_level(self.body)
        if not same_model:
            top["model"] = Raw(_ENCODER.encode(model))
        strip_hints(top, ours=ours)
        return encoded(top)

    def without_hints(self) -> bytes:
        """Return the body without what is for us; the original bytes where nothing is."""
        return self.renamed(self.model)

    @property
    def n_answers(self) -> int:
        """How many answers the caller wants, each of up to `output_limit` tokens."""
        return 1

    @property
    def n_prompts(self) -> int:
        """How many prompts it has, each of which is answered."""
        return 1

    def _declared(self, user: str | None, session: str | None) -> Declared:
        """Return what it says of who asks."""
        if user is None and session is None and self._reference is None and self._hints is None:
            return NOTHING_DECLARED  # most often
        return Declared(self._hints or NO_HINTS, user, session, self._reference)

    def _must_ask_usage(self, endpoint: Endpoint) -> bool:
        """Return whether the usage of a stream comes only if somebody asks for it."""
        return False

    def _ask_usage(self, top: dict[str, Raw]) -> None:
        """Ask for it."""


R = TypeVar("R", bound=NativeRequest)


class LoneRequest(NativeRequest):
    """A request without turns and tools: each stands for itself, and no label is read off it."""

    __slots__ = ()

    says_something = False
    repeatable = True
    """It stores nothing."""
    kept: StoredKind | None = None
    continued: StoredId | None = None
    references: Sequence[StoredId] = ()

    def structure(self, *, read_system: bool) -> Structure:
        """Return nothing: there are no tools, schemas or images."""
        return Structure()

    def system(self) -> str:
        """Return nothing: it has no system prompt."""
        return ""

    def calls_together(self) -> bool:
        """Return False: there are no tools."""
        return False

    def conversation(self) -> list[bytes]:
        """Return nothing: each call stands for itself."""
        return []

    def earlier(self) -> list[bytes] | None:
        """Return None: nothing came before it."""
        return None

    def opening(self) -> Opening | None:
        """Return None: nobody is asked for an answer."""
        return None


class BodyReader(Generic[F]):
    """Reads bodies of one dialect, also those that only lenient readers take."""

    def __init__(self, kind: type[F]) -> None:
        self._decoder = msgspec.json.Decoder(kind)

    def read(self, body: bytes) -> tuple[F, BodyHints | None]:
        """Return what is read of a body, and what it says to us.

        Raises:
            RequestRejected: not JSON, or a field that we read is missing or of the wrong type.
        """
        try:
            said = body
            if not body.isascii():
                body.decode()  # what is nested is not looked into below
                said = body.removeprefix(codecs.BOM_UTF8)
            found = self._decode(said) if len(body) < SHORT else self._with_room(said, FRAMES)
            if found.router is NONE:
                return found, None  # most often
            require_one_router(body)
            return found, read_router(found.router, is_soft=True)
        except msgspec.ValidationError as error:
            raise refused_field(error) from None
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            detail = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise RequestRejected("invalid_json", f"the body is not JSON: {detail}") from None

    def _with_room(self, body: bytes, frames: int) -> F:
        """Return what is read of a body that can be read again `frames` calls further in."""
        return self._with_room(body, frames - 1) if frames else self._decode(body)

    def _decode(self, body: bytes) -> F:
        try:
            return self._decoder.decode(body)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError as error:
            try:
                softer = softened(body)
            except ValueError:
                raise error from None
            read, top = self._decoder.decode(softer), top_level(body)
            # What is for us is not softened: a NaN in it would be as if nothing had been said.
            read.router = top.get("router", NONE)
            read.metadata = top.get("metadata", NONE)
            return read


def require_messages(messages: Sequence[Raw], field: str) -> None:
    """Refuse a list of messages that is none.

    Raises:
        RequestRejected: it is empty, longer than anybody's, or something in it is no object.
    """
    if not messages or len(messages) > MAX_MESSAGES:
        message = f"{field} has {len(messages)} entries; give 1 to {MAX_MESSAGES}"
        raise RequestRejected("invalid_request", message, param=field)
    for one in messages:
        if bytes(one)[0] != BRACE:
            raise RequestRejected("invalid_request", "a message is no object", param=field)


def has_one_list(body: bytes) -> bool:
    """Return whether a body has one list at most; that of its messages, if they are one."""
    return body.find(b"[", body.find(b"[") + 1) < 0


def holds_any(raw: Raw) -> bool:
    """Return whether a field holds something."""
    if raw is NONE:
        return False  # most often
    return bytes(raw) not in (b"null", b"[]", b"{}", b"false", b'""')


def is_thinking_word(effort: Any) -> bool:
    """Return whether an effort that is asked for is one to think."""
    return isinstance(effort, str) and effort not in ("", "none")


def listed(decoder: msgspec.json.Decoder[list[T]], raw: Raw) -> list[T]:
    """Return the entries of a field; none where it has another shape than ours."""
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return []


def whole(value: Any) -> int | None:
    """Return a number that is whole, in whatever form it came."""
    if value is None:
        return None  # most often
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if value == value and abs(value) < MAX_NUMBER and value % 1 == 0 else None


def named(value: Any) -> str | None:
    """Return what names somebody: text, or a number that an app keeps its users under."""
    if isinstance(value, bool):
        return None
    return str(value) if isinstance(value, str | int) and value != "" else None
