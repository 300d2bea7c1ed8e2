"""OpenAI Chat Completions: what of a request is read, and what of it is rewritten.

Only the top level is ever touched. Everything nested travels as the bytes that came, so tools,
images, unknown fields and integers of any size survive.
"""

from __future__ import annotations

import codecs
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct

from router.dialects.errors import refused_field
from router.dialects.fields import (
    ROUTER_KEYS,
    encoded,
    require_one_router,
    strip_hints,
    top_level,
)
from router.dialects.ours import metadata_of, read_reference, read_router
from router.dialects.request import BodyHints, Declared, Structure
from router.endpoints.catalog import Endpoint
from router.endpoints.entries import Dialect, Needs
from router.errors import RequestRejected
from telemetry.wire.lenient import softened

MAX_MESSAGES = 65_536
"""A bound, not a rule: bodies are bounded in bytes."""
FRAMES = 32
"""How much deeper than here a body is read once more, and then some: how far it may be nested
depends on the calls under way, and what is refused for it is refused before anything is done."""
T = TypeVar("T")
MAX_NUMBER = 1 << 53


class _Function(Struct):
    name: str = ""


class _Tool(Struct):
    function: _Function | None = None


NONE = Raw(b"null")


class ChatBody(Struct):
    """What is read of a request body; everything else passes unread.

    What a provider may take in more forms than one is read as it comes: whether it is right is
    the provider's to say.
    """

    model: str
    messages: list[Raw]
    stream: Any = None
    stream_options: Any = None
    tools: Raw = NONE
    functions: Raw = NONE
    response_format: Any = None
    max_tokens: Any = None
    max_completion_tokens: Any = None
    n: Any = None
    user: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None
    store: Any = None
    metadata: Raw = NONE
    router: Raw = NONE


class _Message(Struct):
    role: str = ""
    content: Any = None


_REQUEST = msgspec.json.Decoder(ChatBody)
_MESSAGE = msgspec.json.Decoder(_Message)
_TOOLS = msgspec.json.Decoder(list[_Tool])
_FUNCTIONS = msgspec.json.Decoder(list[_Function])
_ENCODER = msgspec.json.Encoder()
_NO_HINTS = BodyHints()


class ChatRequest:
    """One request, read as far as anybody looks."""

    __slots__ = ("_body", "_hints", "_reference", "_tags_us", "body", "needs")

    dialect = Dialect.CHAT

    def __init__(self, body: bytes, read: ChatBody, hints: BodyHints | None) -> None:
        metadata = metadata_of(read.metadata)
        self.body = body  # as the client sent it
        self._body = read
        self._hints = hints
        self._reference = read_reference(metadata)
        self._tags_us = any(name.startswith(ROUTER_KEYS) for name in metadata)
        self.needs = _needs(read, body)

    @property
    def model(self) -> str:
        """The `model` field."""
        return self._body.model

    @property
    def streamed(self) -> bool:
        """Whether the answer is to come in pieces."""
        return bool(self._body.stream)

    @property
    def repeatable(self) -> bool:
        """Whether it stores nothing at the provider, so that it may go out twice."""
        return not self._body.store

    @property
    def n_choices(self) -> int:
        """How many alternatives are asked for."""
        return max(_whole(self._body.n) or 1, 1)

    @property
    def output_limit(self) -> int | None:
        """The most tokens that the caller wants."""
        return _whole(self._body.max_completion_tokens) or _whole(self._body.max_tokens)

    @property
    def declared(self) -> Declared:
        """What it says of who asks."""
        read = self._body
        return Declared(
            self._hints or _NO_HINTS,
            _text(read.safety_identifier) or _text(read.user),
            _text(read.prompt_cache_key),
            self._reference,
        )

    @property
    def text_bytes(self) -> int:
        """The size of its text; data of images and sounds does not count."""
        if not self.needs & (Needs.IMAGES | Needs.AUDIO):
            return len(self.body)
        parts = [bytes(m) for m in self._body.messages]
        return sum(len(m) for m in parts if b'"data:' not in m and b'"input_audio"' not in m)

    def structure(self, *, read_system: bool) -> Structure:
        """Return what structural rules may look at; the system prompt only where one does."""
        tools = [t.function.name for t in _listed(_TOOLS, self._body.tools) if t.function]
        tools += [f.name for f in _listed(_FUNCTIONS, self._body.functions)]
        return Structure(
            tools=tuple(tools),
            has_schema=_format(self._body) in ("json_schema", "json_object"),
            has_image=bool(self.needs & Needs.IMAGES),
            system=_system_prompt(self._body.messages) if read_system else "",
        )

    def conversation(self) -> list[bytes]:
        """Return its messages."""
        return [bytes(m) for m in self._body.messages]

    def earlier(self) -> list[bytes] | None:
        """Return what an earlier call of this conversation was asked, if there was one."""
        messages = self._body.messages
        for i in range(len(messages) - 1, 0, -1):
            raw = messages[i]
            if b'"assistant"' in bytes(raw) and _message(raw).role == "assistant":
                return [bytes(m) for m in messages[:i]]
        return None

    def fields(self, endpoint: Endpoint) -> dict[str, bytes]:
        """Return the top-level fields that an endpoint gets, as JSON, without what we add."""
        top = {name: bytes(raw) for name, raw in top_level(self.body).items()}
        return top | endpoint.params

    def rewritten(self, endpoint: Endpoint, *, ask_usage: bool = True) -> tuple[bytes, bool]:
        """Return the body for an endpoint, and whether its usage chunk must be hidden.

        The original bytes are returned where nothing has to change.

        Args:
            ask_usage: ask for the usage of a stream, where the caller does not.
        """
        read = self._body
        ask_usage = (
            ask_usage
            and bool(read.stream)
            and endpoint.stream_usage
            and (read.stream_options is None or isinstance(read.stream_options, dict))
            and not (read.stream_options or {}).get("include_usage")
        )
        ours, same_model = self._tags_us, read.model == endpoint.upstream_model
        hinted = ours or self._hints is not None
        if same_model and not hinted and not ask_usage and not endpoint.params:
            return self.body, False
        top = top_level(self.body)
        top["model"] = Raw(_ENCODER.encode(endpoint.upstream_model))
        strip_hints(top, ours=ours)
        if ask_usage:
            options = {}
            if read.stream_options is not None:
                options = top_level(bytes(top["stream_options"]))
            options["include_usage"] = Raw(b"true")
            top["stream_options"] = Raw(encoded(options))
        for name, value in endpoint.params.items():
            top[name] = Raw(value)
        return encoded(top), ask_usage

    def without_hints(self) -> bytes:
        """Return the body without what is for us; the original bytes where nothing is."""
        ours = self._tags_us
        if not ours and self._hints is None:
            return self.body
        top = top_level(self.body)
        strip_hints(top, ours=ours)
        return encoded(top)


def parse(body: bytes) -> ChatRequest:
    """Return what is read of a request.

    Raises:
        RequestRejected: not JSON, or a field that we read is missing or of the wrong type.
    """
    try:
        if not body.isascii():
            body.decode()  # what is nested is not looked into below
        request = _with_room(body.removeprefix(codecs.BOM_UTF8), FRAMES)
        require_one_router(body)
        hints = read_router(request.router, is_soft=True)
    except msgspec.ValidationError as error:
        raise refused_field(error) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        detail = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise RequestRejected("invalid_json", f"the body is not JSON: {detail}") from None
    if not request.messages or len(request.messages) > MAX_MESSAGES:
        n = len(request.messages)
        message = f"messages has {n} entries; give 1 to {MAX_MESSAGES}"
        raise RequestRejected("invalid_request", message, param="messages")
    if any(bytes(message)[:1] != b"{" for message in request.messages):
        raise RequestRejected("invalid_request", "a message is no object", param="messages")
    return ChatRequest(body, request, hints)


def _with_room(body: bytes, frames: int) -> ChatBody:
    """Return what is read of a body that can be read again `frames` calls further in."""
    return _with_room(body, frames - 1) if frames else _decode(body)


def _decode(body: bytes) -> ChatBody:
    """Return what is read of a body, also of one that only lenient readers take."""
    try:
        return _REQUEST.decode(body)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError as error:
        try:
            softer = softened(body)
        except ValueError:
            raise error from None
        read, top = _REQUEST.decode(softer), top_level(body)
        # What is for us is not softened: a NaN in it would be as if nothing had been said.
        read.router = top.get("router", NONE)
        read.metadata = top.get("metadata", NONE)
        return read


def _needs(request: ChatBody, body: bytes) -> int:
    """Return which capabilities a request needs."""
    bits = 0
    if _holds_any(request.tools) or _holds_any(request.functions):
        bits |= Needs.TOOLS
    if _format(request) == "json_schema":
        bits |= Needs.SCHEMA
    if b'"image_url"' in body and _has_part(request, "image_url"):
        bits |= Needs.IMAGES
    if b'"input_audio"' in body and _has_part(request, "input_audio"):
        bits |= Needs.AUDIO
    return bits


def _holds_any(raw: Raw) -> bool:
    """Return whether a field holds something."""
    return bytes(raw) not in (b"null", b"[]", b"{}", b"false", b'""')


def _listed(decoder: msgspec.json.Decoder[list[T]], raw: Raw) -> list[T]:
    """Return the entries of a field; none where it has another shape than ours."""
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return []


def _format(request: ChatBody) -> str:
    wanted = request.response_format
    kind = wanted.get("type") if isinstance(wanted, dict) else wanted
    return kind if isinstance(kind, str) else ""


def _whole(value: Any) -> int | None:
    """Return a number that is whole, in whatever form it came."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if value == value and abs(value) < MAX_NUMBER and value % 1 == 0 else None


def _text(value: Any) -> str | None:
    """Return what names somebody: text, or a number that an app keeps its users under."""
    if isinstance(value, bool):
        return None
    return str(value) if isinstance(value, str | int) and value != "" else None


def _message(raw: Raw) -> _Message:
    try:
        return _MESSAGE.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return _Message()


def _system_prompt(messages: list[Raw]) -> str:
    """Return the text of leading system and developer messages."""
    texts = []
    for raw in messages:
        message = _message(raw)
        if message.role not in ("system", "developer"):
            break
        if isinstance(message.content, str):
            texts.append(message.content)
        elif isinstance(message.content, list):
            texts += [str(p.get("text", "")) for p in message.content if isinstance(p, dict)]
    return "\n".join(texts)


def _has_part(request: ChatBody, kind: str) -> bool:
    for raw in request.messages:
        content = _message(raw).content
        if isinstance(content, list) and any(
            isinstance(part, dict) and part.get("type") == kind for part in content
        ):
            return True
    return False
