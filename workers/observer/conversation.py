"""What a request asks for, and the digests by which a later request is known to continue it. Pure.

One conversation has one digest, however a client writes it: as text or as a single text part, with
nulls added, keys in another order, cache marks or reasoning left out. No text outlives the call:
what is handed on are keyed digests.
"""

from __future__ import annotations

import re
import zlib
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import Raw, Struct

from workers.observer.tool_results import is_error

MAX_BODY_BYTES = 1 << 20
"""A longer request or answer is not read: a label is not worth milliseconds of parsing."""
MAX_MESSAGES = 512
MAX_TOOLS = 128
MIN_WORDS, MAX_WORDS = 4, 200
"""What a person types and then corrects; longer texts are pasted or filled in by a template."""
MAX_TYPED_CHARS = 4096
LONG_ID_CHARS = 12
"""Ids from here on are random; shorter ones (`call_0`) mean something in one conversation only."""
_WORD = re.compile(r"\w+")
_SORTED = msgspec.json.Encoder(order="deterministic")  # not msgpack: integers may be of any size


class Function(Struct):
    """A function that the model may call."""

    name: str = ""
    parameters: Raw = Raw()


class Tool(Struct):
    """An entry of `tools`; one that is neither a function nor custom is the provider's own."""

    function: Function | None = None
    custom: Function | None = None


class Schema(Struct):
    """The schema of a response format."""

    schema: Raw = Raw()


class Format(Struct):
    """`response_format`."""

    type: str = ""
    json_schema: Schema | None = None


class Message(Struct):
    """What is read of a message; `reasoning_content` and marks of clients are not."""

    role: Any = None
    content: Any = None
    tool_calls: Any = None
    function_call: Any = None
    tool_call_id: Any = None
    name: Any = None
    refusal: Any = None


class ReadRequest(Struct):
    """What is read of a request."""

    messages: list[Message]
    model: Any = None
    tools: list[Tool] | None = None
    functions: list[Function] | None = None
    tool_choice: Any = None
    function_call: Any = None
    response_format: Format | None = None
    max_tokens: Any = None
    max_completion_tokens: Any = None
    n: Any = None
    seed: Any = None
    temperature: Any = None
    top_p: Any = None
    stop: Any = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call of a model, in a request's history or in an answer."""

    id: str
    name: str
    arguments: str
    is_custom: bool = False  # its arguments are free text

    def canonical(self) -> bytes:
        """Return name and arguments, the same for any way to write them."""
        try:
            arguments = _SORTED.encode(msgspec.json.decode(self.arguments or "{}"))
        except (msgspec.DecodeError, RecursionError):
            arguments = self.arguments.encode()
        return self.name.encode() + b"\0" + arguments


@dataclass(frozen=True, slots=True)
class Conversation:
    """What of a request's messages is compared with other calls."""

    whole: bytes  # digest of all messages
    before_edit: bytes | None  # of those before the last one, where that is a user's
    before_answer: bytes | None  # of what the last assistant message was the answer to
    last_answer: bytes  # of that message
    words: bytes  # of the last message where a person may have typed it: sorted 4-byte hashes
    failed: tuple[bytes, ...]  # keys of the tool calls whose result is an error
    repeated: tuple[bytes, ...]  # calls that the last two turns made alike, with like results
    is_prefilled: bool  # the answer continues an assistant message


_REQUEST = msgspec.json.Decoder(ReadRequest)


def parse_request(body: bytes) -> ReadRequest | None:
    """Return what is read of a request; None where it is too long or not understood."""
    if len(body) > MAX_BODY_BYTES:
        return None
    try:
        request = _REQUEST.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    n_tools = len(request.tools or ()) + len(request.functions or ())
    if not 0 < len(request.messages) <= MAX_MESSAGES or n_tools > MAX_TOOLS:
        return None
    return request


def tool_calls_of(tool_calls: Any, function_call: Any) -> list[ToolCall]:
    """Return the calls in a message of today's or of the older form."""
    found = []
    for raw in tool_calls if isinstance(tool_calls, list) else ():
        if not isinstance(raw, dict):
            continue
        if isinstance(custom := raw.get("custom"), dict):
            found.append(ToolCall(_text(raw.get("id")), *_named(custom, "input"), is_custom=True))
        elif isinstance(function := raw.get("function"), dict):
            found.append(ToolCall(_text(raw.get("id")), *_named(function, "arguments")))
    if isinstance(function_call, dict):
        found.append(ToolCall("", *_named(function_call, "arguments")))
    return found


def text_of(content: Any) -> tuple[str, list[Any]]:
    """Return the text of a message's content, and the parts that are no text."""
    if isinstance(content, str):
        return content, []
    texts, others = [], []
    for part in content if isinstance(content, list) else ():
        if isinstance(part, dict) and isinstance(text := part.get("text"), str):
            texts.append(text)
        elif isinstance(part, str):
            texts.append(part)
        elif part is not None:
            others.append(_bare(part))
    return "".join(texts), others


def call_key(call: ToolCall, asked: bytes, *, app_scope: bytes) -> bytes:
    """Return by what a tool call is known again when its result comes.

    Args:
        asked: digest of the messages that the call was an answer to.
        app_scope: secret of one app, so that ids mean nothing outside it.
    """
    where = b"" if len(call.id) >= LONG_ID_CHARS else asked + call.canonical()
    return blake2b(call.id.encode() + b"\0" + where, key=app_scope, digest_size=16).digest()


def answer_key(text: str, calls: Iterable[ToolCall], *, scope: bytes) -> bytes:
    """Return by what an answer is known again in the history of a later request."""
    made = sorted(call.canonical() for call in calls)
    told = _SORTED.encode((text.strip(), made))
    return blake2b(told, key=scope, digest_size=16).digest()


def read(request: ReadRequest, *, scope: bytes, app_scope: bytes) -> Conversation:
    """Return what of a request's messages is compared with other calls.

    Args:
        scope, app_scope: secrets (up to 64 bytes) of the unit and of its app; digests under
            different ones never match.
    """
    running = blake2b(key=scope, digest_size=16)
    keys: dict[str, bytes] = {}
    failed: list[bytes] = []
    turns: list[tuple[tuple[bytes, ...], list[str]]] = []  # since the user last spoke
    before_edit = before_answer = None
    last_answer = b""
    last = request.messages[-1]
    for message in request.messages:
        text, others = text_of(message.content)
        text = text.strip()
        calls: list[ToolCall] = []
        if message.role == "assistant":
            calls = tool_calls_of(message.tool_calls, message.function_call)
            before_answer = running.digest()
            last_answer = answer_key(text, calls, scope=scope)
            for call in calls:
                keys[call.id or call.name] = call_key(call, before_answer, app_scope=app_scope)
            turns.append((tuple(sorted(call.canonical() for call in calls)), []))
        elif message.role in ("tool", "function"):
            if turns:
                turns[-1][1].append(text)
            key = keys.get(_text(message.tool_call_id) or _text(message.name))
            if key is not None and is_error(text):
                failed.append(key)
        elif message.role == "user":
            turns = []
            if message is last:
                before_edit = running.digest()
        running.update(_canonical(message, text, others, calls))
    return Conversation(
        whole=running.digest(),
        before_edit=before_edit,
        before_answer=before_answer,
        last_answer=last_answer,
        words=b"" if before_edit is None else _words(last, app_scope),
        failed=tuple(failed),
        repeated=turns[-1][0] if len(turns) >= 2 and turns[-1] == turns[-2] else (),
        is_prefilled=last.role == "assistant",
    )


def asked_for(request: ReadRequest) -> bytes:
    """Return a digest of what else makes two requests with the same messages different ones."""
    names = [t.function.name for t in request.tools or () if t.function]
    names += [f.name for f in request.functions or ()]
    form = request.response_format
    schema = bytes(form.json_schema.schema) if form and form.json_schema else b""
    choice = [request.tool_choice, request.function_call]
    told = _SORTED.encode([names, choice, form.type if form else "", schema])
    return blake2b(told, digest_size=16).digest()


def similarity(words: bytes, others: bytes) -> float:
    """Return the Jaccard index of two sets of words; 0 where one of them was not kept."""
    one, other = set(memoryview(words).cast("I")), set(memoryview(others).cast("I"))
    return len(one & other) / len(one | other) if one and other else 0.0


def _canonical(message: Message, text: str, others: list[Any], calls: list[ToolCall]) -> bytes:
    role = "system" if message.role == "developer" else _text(message.role)
    said = [(call.id, call.canonical()) for call in calls]
    names = _text(message.tool_call_id), _text(message.name), _text(message.refusal)
    return _SORTED.encode((role, text, others, said, names))


def _words(message: Message, salt: bytes) -> bytes:
    text, others = text_of(message.content)
    if others or len(text) > MAX_TYPED_CHARS:
        return b""
    seed = int.from_bytes(salt[:4], "big")
    words = {zlib.crc32(word.encode(), seed) for word in _WORD.findall(text.lower())}
    return array("I", sorted(words)).tobytes() if MIN_WORDS <= len(words) <= MAX_WORDS else b""


def _bare(value: Any) -> Any:
    """Return a part without nulls and cache marks, which clients add and drop at will."""
    if isinstance(value, dict):
        return {k: _bare(v) for k, v in value.items() if v is not None and k != "cache_control"}
    return [_bare(v) for v in value] if isinstance(value, list) else value


def _named(function: dict[str, Any], key: str) -> tuple[str, str]:
    """Return name and arguments of a function; some servers send the arguments as an object."""
    arguments = function.get(key)
    if isinstance(arguments, dict):
        arguments = _SORTED.encode(arguments).decode()
    return _text(function.get("name")), _text(arguments)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
