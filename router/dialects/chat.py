"""OpenAI Chat Completions: what of a request is read, and what of it is rewritten.

Only the top level is ever touched. Everything nested travels as the bytes that came, so tools,
images, unknown fields and integers of any size survive.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from router.dialects.request import Structure
from router.endpoints.catalog import Endpoint
from router.endpoints.entries import Needs
from router.errors import RequestRejected

MAX_MESSAGES = 4096
MAX_NAME = 256
"""Longest user, session id or reference: they are hashed, never stored."""
ROUTER_KEYS = "router_"
"""Prefix of metadata keys that are for us; providers never see them."""


class _Function(Struct):
    name: str = ""


class _Tool(Struct):
    function: _Function | None = None


class _Format(Struct):
    type: str = ""


class _StreamOptions(Struct):
    include_usage: bool | None = None


class BodyHints(Struct, forbid_unknown_fields=True):
    """The body object `router`."""

    task: str | None = None
    strategy: str | None = None
    user: str | None = None
    session_id: str | None = None
    ref: str | None = None
    data_class: str | None = None
    explore: bool | None = None


class Request(Struct):
    """What is read of a request body; everything else passes unread."""

    model: str
    messages: list[Raw]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    tools: list[_Tool] | None = None
    functions: list[_Function] | None = None
    response_format: _Format | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    metadata: dict[str, Any] | None = None
    router: BodyHints | None = None

    @property
    def output_limit(self) -> int | None:
        """The most tokens that the caller wants."""
        return self.max_completion_tokens or self.max_tokens


class _Message(Struct):
    role: str = ""
    content: Any = None


_REQUEST = msgspec.json.Decoder(Request)
_MESSAGE = msgspec.json.Decoder(_Message)
_TOP = msgspec.json.Decoder(dict[str, Raw])
_ENCODER = msgspec.json.Encoder()


def parse(body: bytes) -> Request:
    """Return what is read of a request.

    Raises:
        RequestRejected: not JSON, or a field that we read is missing or of the wrong type.
    """
    try:
        if not body.isascii():
            body.decode()  # what is nested is not looked into below
        request = _REQUEST.decode(body)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        missing = message.partition("missing required field `")[2].rstrip("`")
        param = where.strip("`.").removeprefix(".") or missing or None
        code = "unknown_field" if "unknown field" in message else "invalid_request"
        at = f" (in {param})" if param else ""
        raise RequestRejected(code, f"{message}{at}", param=param) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        detail = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise RequestRejected("invalid_json", f"the body is not JSON: {detail}") from None
    if not request.messages or len(request.messages) > MAX_MESSAGES:
        n = len(request.messages)
        message = f"messages has {n} entries; give 1 to {MAX_MESSAGES}"
        raise RequestRejected("invalid_request", message, param="messages")
    if any(bytes(message)[:1] != b"{" for message in request.messages):
        raise RequestRejected("invalid_request", "a message is no object", param="messages")
    return request


def needs(request: Request, body: bytes) -> int:
    """Return which capabilities a request needs."""
    bits = 0
    if request.tools or request.functions:
        bits |= Needs.TOOLS
    if request.response_format is not None and request.response_format.type == "json_schema":
        bits |= Needs.SCHEMA
    if b'"image_url"' in body and _has_part(request, "image_url"):
        bits |= Needs.IMAGES
    if b'"input_audio"' in body and _has_part(request, "input_audio"):
        bits |= Needs.AUDIO
    return bits


def structure(request: Request, found: int, *, read_system: bool) -> Structure:
    """Return what structural rules may look at; the system prompt only where one does."""
    tools = [t.function.name for t in request.tools or [] if t.function]
    tools += [f.name for f in request.functions or []]
    return Structure(
        tools=tuple(tools),
        has_schema=bool(found & Needs.SCHEMA),
        has_image=bool(found & Needs.IMAGES),
        system=_system_prompt(request.messages) if read_system else "",
    )


def text_bytes(request: Request, body: bytes, found: int) -> int:
    """Return the size of the text in a request; data of images and sounds does not count."""
    if not found & (Needs.IMAGES | Needs.AUDIO):
        return len(body)
    parts = [bytes(m) for m in request.messages]
    return sum(len(m) for m in parts if b'"data:' not in m and b'"input_audio"' not in m)


def continued(request: Request) -> list[Raw] | None:
    """Return the messages that an earlier call of this conversation sent, if there was one.

    Everything before the last assistant message is what that call was asked.
    """
    for i in range(len(request.messages) - 1, 0, -1):
        raw = request.messages[i]
        if b'"assistant"' in bytes(raw) and _message(raw).role == "assistant":
            return request.messages[:i]
    return None


def rewrite(body: bytes, request: Request, endpoint: Endpoint) -> tuple[bytes, bool]:
    """Return the body for an endpoint, and whether its usage chunk must be hidden.

    The original bytes are returned where nothing has to change.
    """
    ask_usage = (
        bool(request.stream)
        and endpoint.stream_usage
        and not (request.stream_options and request.stream_options.include_usage)
    )
    ours = _has_our_metadata(request)
    same_model = request.model == endpoint.upstream_model
    if same_model and request.router is None and not ask_usage and not ours and not endpoint.params:
        return body, False
    top = _TOP.decode(body)
    top["model"] = Raw(_ENCODER.encode(endpoint.upstream_model))
    _strip_hints(top, ours=ours)
    if ask_usage:
        options = {}
        if request.stream_options is not None:
            options = msgspec.json.decode(top["stream_options"], type=dict[str, Raw])
        options["include_usage"] = Raw(b"true")
        top["stream_options"] = Raw(_ENCODER.encode(options))
    for name, value in endpoint.params.items():
        top[name] = Raw(value)
    return _ENCODER.encode(top), ask_usage


def without_hints(body: bytes, request: Request) -> bytes:
    """Return the body without what is for us; the original bytes where nothing is."""
    ours = _has_our_metadata(request)
    if request.router is None and not ours:
        return body
    top = _TOP.decode(body)
    _strip_hints(top, ours=ours)
    return _ENCODER.encode(top)


def _has_our_metadata(request: Request) -> bool:
    return request.metadata is not None and any(
        name.startswith(ROUTER_KEYS) for name in request.metadata
    )


def _strip_hints(top: dict[str, Raw], *, ours: bool) -> None:
    top.pop("router", None)
    if ours:
        metadata = msgspec.json.decode(top["metadata"], type=dict[str, Raw])
        kept = {k: v for k, v in metadata.items() if not k.startswith(ROUTER_KEYS)}
        if kept:
            top["metadata"] = Raw(_ENCODER.encode(kept))
        else:
            del top["metadata"]


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


def _has_part(request: Request, kind: str) -> bool:
    for raw in request.messages:
        content = _message(raw).content
        if isinstance(content, list) and any(
            isinstance(part, dict) and part.get("type") == kind for part in content
        ):
            return True
    return False
