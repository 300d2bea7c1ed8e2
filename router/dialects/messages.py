"""Anthropic's Messages: what of a request is read."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import msgspec
from msgspec import Raw, Struct, structs

from router.dialects.body import (
    NONE,
    BodyReader,
    NativeRequest,
    holds_any,
    is_thinking_word,
    named,
    require_messages,
    whole,
)
from router.dialects.messages_stream import MessagesStream, message_as_stream
from router.dialects.offered import tools_in
from router.dialects.request import BodyHints, Declared, Opening, Structure
from router.dialects.stored import StoredId, StoredKind, continued_thread, kept_thread
from router.dialects.thoughts import begins_loop, turns_without
from router.dialects.turns import (
    before_answer,
    bytes_without,
    has_part,
    message_of,
    opening_of,
    texts_of,
)
from router.endpoints.capabilities import MEDIA_NEEDS, Needs
from router.endpoints.catalog import Endpoint
from router.endpoints.entries import Dialect
from telemetry.wire.messages import read_messages_answer
from telemetry.wire.thoughts import IN_MESSAGES, block_marks, marks_in
from telemetry.wire.usage import WholeAnswer

IMAGE, DOCUMENT = frozenset({"image"}), frozenset({"document"})
MEDIA = (b'"base64"',)
AGENT_USER = re.compile(r"(?P<user>.*?)_*session_(?P<session>[0-9A-Za-z-]{8,64})$")
"""How Claude Code names user and session in one field."""


class MessagesBody(Struct):
    """What is read of a request body; everything else passes unread."""

    model: str
    messages: list[Raw]
    system: Raw = NONE
    stream: Any = None
    tools: Raw = NONE
    mcp_servers: Raw = NONE
    max_tokens: Any = None
    output_format: Any = None
    output_config: Any = None
    thinking: Any = None
    thread: Any = None
    container: Any = None
    metadata: Raw = NONE
    router: Raw = NONE


class _Metadata(Struct):
    user_id: Any = None


_READER = BodyReader(MessagesBody)
_METADATA = msgspec.json.Decoder(_Metadata)
_SYSTEM = msgspec.json.Decoder(Any)


class MessagesRequest(NativeRequest):
    """One request, read as far as anybody looks."""

    __slots__ = ("_read",)

    dialect = Dialect.MESSAGES

    def __init__(self, body: bytes, read: MessagesBody, hints: BodyHints | None) -> None:
        super().__init__(body, read, hints, _needs(read, body))
        self._read = read

    @property
    def repeatable(self) -> bool:
        """Whether it stores nothing at the provider, so that it may go out twice."""
        return self.kept is None and self.continued is None

    @property
    def kept(self) -> StoredKind | None:
        """What its answer is at the provider from then on: a thread's end, where it has one."""
        return kept_thread(self._read.thread)

    @property
    def continued(self) -> StoredId | None:
        """What it goes on from that lies at a provider: a thread, or a container."""
        return continued_thread(self._read.thread, self._read.container)

    @property
    def output_limit(self) -> int | None:
        """The most tokens that the caller wants."""
        return whole(self._read.max_tokens)

    @property
    def declared(self) -> Declared:
        """What it says of who asks."""
        user, session = _who(self._read.metadata)
        return self._declared(user, session)

    @property
    def text_bytes(self) -> int:
        """The size of its text; data of pictures and documents does not count."""
        if not self.needs & MEDIA_NEEDS:
            return len(self.body)
        return bytes_without(MEDIA, (self._read.system, *self._read.messages))

    def _read_thoughts(self) -> tuple[str, ...]:
        return marks_in(map(bytes, self._read.messages), IN_MESSAGES, block_marks)

    def bound_thoughts(self, endpoint: Endpoint) -> tuple[str, ...]:
        """Return the mark of what led to the tool calls that it brings results of.

        With thinking `enabled` a provider wants that back; where it is `adaptive`, it may be gone.
        """
        thinking = self._read.thinking
        if "thinking" in endpoint.params:
            thinking = msgspec.json.decode(endpoint.params["thinking"])
        if not isinstance(thinking, dict) or thinking.get("type") != "enabled":
            return ()
        mark = begins_loop(self._read.messages)
        return () if mark is None else (mark,)

    def without_thoughts(self, marks: Collection[str]) -> MessagesRequest:
        """Return it without these."""
        messages = turns_without(self._read.messages, marks)
        read = structs.replace(self._read, messages=messages)
        return self._less(MessagesRequest(self._with("messages", messages), read, self._hints))

    def structure(self, *, read_system: bool) -> Structure:
        """Return what structural rules may look at; the system prompt only where one does."""
        found = tools_in(self._read.tools, self._read.mcp_servers)
        return Structure(
            tools=found.names,
            groups=found.groups,
            has_schema=_wants_schema(self._read),
            has_image=bool(self.needs & Needs.IMAGES),
            system=self.system() if read_system else "",
        )

    def system(self) -> str:
        """Return the text of its system prompt."""
        return "\n".join(texts_of(_system(self._read.system)))

    def calls_together(self) -> bool:
        """Return whether some turn in it calls several tools at once."""
        for raw in self._read.messages:
            if bytes(raw).count(b'"tool_use"') > 1:
                content = message_of(raw).content
                parts = content if isinstance(content, list) else []
                if sum(isinstance(p, dict) and p.get("type") == "tool_use" for p in parts) > 1:
                    return True
        return False

    def conversation(self) -> list[bytes]:
        """Return what its system prompt and its messages say."""
        return [_said(raw) for raw in (self._read.system, *self._read.messages)]

    def earlier(self) -> list[bytes] | None:
        """Return what an earlier call of this conversation was asked, if there was one."""
        asked = before_answer(self._read.messages)
        return None if asked is None else [_said(raw) for raw in (self._read.system, *asked)]

    def opening(self) -> Opening | None:
        """Return what its user says, where it begins a conversation; else None."""
        return opening_of(self._read.messages)

    def open_stream(self, *, hide_usage: bool) -> MessagesStream:
        """Return a reader of the streamed answer; its usage is never to be hidden."""
        return MessagesStream()

    def read_answer(self, body: bytes) -> WholeAnswer | None:
        """Return what is read of an unstreamed answer; None where there is no answer in it."""
        return read_messages_answer(body)

    def as_stream(self, answer: bytes) -> bytes:
        """Return a whole answer as a stream, for a client whose stream has begun."""
        return message_as_stream(answer)


def parse(body: bytes) -> MessagesRequest:
    """Return what is read of a request.

    Raises:
        RequestRejected: not JSON, or a field that we read is missing or of the wrong type.
    """
    read, hints = _READER.read(body)
    require_messages(read.messages, "messages")
    return MessagesRequest(body, read, hints)


def _needs(request: MessagesBody, body: bytes) -> int:
    bits = 0
    if holds_any(request.tools):
        bits |= Needs.TOOLS
    if _wants_schema(request):
        bits |= Needs.SCHEMA
    if _thinks(request):
        bits |= Needs.REASONING
    if b'"image"' in body and has_part(request.messages, IMAGE):
        bits |= Needs.IMAGES
    if b'"document"' in body and has_part(request.messages, DOCUMENT):
        bits |= Needs.DOCUMENTS
    return bits


def _thinks(request: MessagesBody) -> bool:
    """Return whether thinking is asked for, or how much of it there should be."""
    thinking, config = request.thinking, request.output_config
    if isinstance(thinking, dict) and thinking.get("type") not in (None, "disabled"):
        return True
    return isinstance(config, dict) and is_thinking_word(config.get("effort"))


def _wants_schema(request: MessagesBody) -> bool:
    config = request.output_config
    wanted = (request.output_format, config.get("format") if isinstance(config, dict) else None)
    return any(isinstance(one, dict) and one.get("type") == "json_schema" for one in wanted)


def _system(raw: Raw) -> Any:
    try:
        return _SYSTEM.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def _said(raw: Raw) -> bytes:
    """Return a message without where its client wants it cached: that moves from call to call."""
    if b'"cache_control"' not in bytes(raw):
        return bytes(raw)
    value = _system(raw)
    return bytes(raw) if value is None else msgspec.json.encode(_without_cache(value))


def _without_cache(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_cache(part) for part in value]
    if not isinstance(value, dict):
        return value
    return {k: _without_cache(v) for k, v in value.items() if k != "cache_control"}


def _who(metadata: Raw) -> tuple[str | None, str | None]:
    """Return the user that metadata names, and the session, where an agent puts it there."""
    try:
        said = _METADATA.decode(metadata).user_id
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None, None
    if isinstance(said, str) and said.startswith("{"):
        return _in_object(said)
    found = AGENT_USER.match(said) if isinstance(said, str) else None
    if found is None:
        return named(said), None
    return named(found["user"]), found["session"]


def _in_object(said: str) -> tuple[str | None, str | None]:
    """Return user and session where both stand in an object that is written as text."""
    try:
        fields = msgspec.json.decode(said, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return named(said), None
    session = named(fields.pop("session_id", None))
    user = named(fields.get("account_uuid")) or named(fields.get("device_id"))
    return user or (None if session else named(said)), session
