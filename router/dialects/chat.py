"""OpenAI Chat Completions: what of a request is read, and what of it is rewritten."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from msgspec import Raw, Struct, structs

from router.dialects.body import (
    FORMAT_NEEDS,
    NONE,
    BodyReader,
    NativeRequest,
    has_one_list,
    holds_any,
    is_thinking_word,
    named,
    require_messages,
    whole,
)
from router.dialects.chat_stream import ChatStream, whole_as_stream
from router.dialects.offered import ToolsOffered, is_wanted, tools_in
from router.dialects.request import PLAIN, BodyHints, Opening, Structure
from router.dialects.stored import StoredId, StoredKind
from router.dialects.stream_options import asking_for_usage, leaves_usage_out
from router.dialects.thoughts import messages_without
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
from telemetry.wire.chat import read_chat_answer
from telemetry.wire.thoughts import IN_CHAT, marks_in, message_marks
from telemetry.wire.usage import WholeAnswer

IMAGE, SOUND = frozenset({"image_url"}), frozenset({"input_audio"})
DOCUMENT = frozenset({"file"})
DOCUMENT_MARKS = (b'"file_data"', b'"file_id"')
"""One of them is in every such part; many a tool has a parameter `file`."""
MEDIA = (b'"data:', b'"input_audio"')


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
    web_search_options: Any = None
    search_parameters: Any = None
    enable_search: Any = None
    response_format: Any = None
    reasoning_effort: Any = None
    reasoning: Any = None  # as aggregators have it
    max_tokens: Any = None
    max_completion_tokens: Any = None
    n: Any = None
    user: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None
    store: Any = None
    metadata: Raw = NONE
    router: Raw = NONE


_READER = BodyReader(ChatBody)
NO_TOOLS = ToolsOffered()
NO_SEARCHES = (None, None, None)


class ChatRequest(NativeRequest):
    """One request, read as far as anybody looks."""

    __slots__ = ("_read", "declared", "output_limit", "repeatable")

    dialect = Dialect.CHAT
    kept: StoredKind | None = None
    continued: StoredId | None = None
    references: Sequence[StoredId] = ()

    def __init__(self, body: bytes, read: ChatBody, hints: BodyHints | None) -> None:
        super().__init__(body, read, hints, _needs(read, body))
        self._read = read
        user = session = None
        if read.safety_identifier is not None or read.user is not None:
            user = named(read.safety_identifier) or named(read.user)
        if read.prompt_cache_key is not None:
            session = named(read.prompt_cache_key)
        self.declared = self._declared(user, session)  # what it says of who asks
        self.output_limit: int | None = None  # the most tokens that the caller wants
        if read.max_completion_tokens is not None or read.max_tokens is not None:
            self.output_limit = whole(read.max_completion_tokens) or whole(read.max_tokens)
        self.repeatable = not read.store  # at the provider, so that it may go out twice

    @property
    def n_choices(self) -> int:
        """How many alternatives are asked for."""
        return max(whole(self._read.n) or 1, 1)

    @property
    def n_answers(self) -> int:
        """How many answers the caller wants, each of up to `output_limit` tokens."""
        return whole(self._read.n) or 1

    @property
    def text_bytes(self) -> int:
        """The size of its text; data of pictures, sounds and documents does not count."""
        if not self.needs & MEDIA_NEEDS:
            return len(self.body)
        return bytes_without(MEDIA, self._read.messages)

    def _read_thoughts(self) -> tuple[str, ...]:
        return marks_in(map(bytes, self._read.messages), IN_CHAT, message_marks)

    def without_thoughts(self, marks: Collection[str]) -> ChatRequest:
        """Return it without these."""
        messages = messages_without(self._read.messages, marks)
        read = structs.replace(self._read, messages=messages)
        return self._less(ChatRequest(self._with("messages", messages), read, self._hints))

    def structure(self, *, read_system: bool) -> Structure:
        """Return what structural rules may look at; the system prompt only where one does."""
        read = self._read
        searches = (read.web_search_options, read.search_parameters, read.enable_search)
        found = NO_TOOLS
        if read.tools is not NONE or read.functions is not NONE or searches != NO_SEARCHES:
            found = tools_in(read.tools, read.functions, searches=any(map(is_wanted, searches)))
        elif not (self.needs or read_system or read.response_format):
            return PLAIN  # most often
        return Structure(
            found.names,
            _format(read) in ("json_schema", "json_object"),
            bool(self.needs & Needs.IMAGES),
            self.system() if read_system else "",
            found.groups,
        )

    def system(self) -> str:
        """Return the text of its leading system and developer messages."""
        return _system_prompt(self._read.messages)

    def calls_together(self) -> bool:
        """Return whether some turn in it calls several tools at once."""
        for raw in self._read.messages:
            written = bytes(raw)
            if b'"tool_calls"' in written and written.count(b'"id"') > 1:
                calls = message_of(raw).tool_calls
                if isinstance(calls, list) and len(calls) > 1:
                    return True
        return False

    def conversation(self) -> list[bytes]:
        """Return its messages."""
        return [bytes(m) for m in self._read.messages]

    def earlier(self) -> list[bytes] | None:
        """Return what an earlier call of this conversation was asked, if there was one."""
        asked = before_answer(self._read.messages)
        return None if asked is None else [bytes(m) for m in asked]

    def opening(self) -> Opening | None:
        """Return what its user says, where it begins a conversation; else None."""
        return opening_of(self._read.messages)

    def open_stream(self, *, hide_usage: bool) -> ChatStream:
        """Return a reader of the streamed answer."""
        return ChatStream(hide_usage=hide_usage, n_choices=self.n_choices)

    def read_answer(self, body: bytes) -> WholeAnswer | None:
        """Return what is read of an unstreamed answer; None where there is no answer in it."""
        return read_chat_answer(body)

    def as_stream(self, answer: bytes) -> bytes:
        """Return a whole answer as a stream, for a client whose stream has begun."""
        return whole_as_stream(answer)

    def _must_ask_usage(self, endpoint: Endpoint) -> bool:
        asks = self.streamed and endpoint.stream_usage
        return asks and leaves_usage_out(self._read.stream_options)

    def _ask_usage(self, top: dict[str, Raw]) -> None:
        top["stream_options"] = asking_for_usage(top.get("stream_options"))


def parse(body: bytes) -> ChatRequest:
    """Return what is read of a request.

    Raises:
        RequestRejected: not JSON, or a field that we read is missing or of the wrong type.
    """
    read, hints = _READER.read(body)
    require_messages(read.messages, "messages")
    return ChatRequest(body, read, hints)


def _needs(request: ChatBody, body: bytes) -> int:
    """Return which capabilities a request needs."""
    bits, tools, older = 0, request.tools, request.functions
    if (tools is not NONE and holds_any(tools)) or (older is not NONE and holds_any(older)):
        bits |= Needs.TOOLS
    if request.response_format is not None:
        bits |= FORMAT_NEEDS.get(_format(request), 0)
    if request.reasoning is not None or request.reasoning_effort is not None:
        bits |= Needs.REASONING if _thinks(request) else 0
    if has_one_list(body):
        return bits  # no message has parts
    if b'"image_url"' in body and has_part(request.messages, IMAGE):
        bits |= Needs.IMAGES
    if b'"input_audio"' in body and has_part(request.messages, SOUND):
        bits |= Needs.AUDIO
    if b'"file"' in body and any(mark in body for mark in DOCUMENT_MARKS):
        bits |= Needs.DOCUMENTS if has_part(request.messages, DOCUMENT) else 0
    return bits


def _thinks(request: ChatBody) -> bool:
    """Return whether thinking is asked for."""
    asked = request.reasoning
    if isinstance(asked, dict) and asked.get("enabled") is not False:
        effort = asked.get("effort")
        if asked.get("enabled") or asked.get("max_tokens") or is_thinking_word(effort):
            return True
    return is_thinking_word(request.reasoning_effort)


def _format(request: ChatBody) -> str:
    wanted = request.response_format
    if wanted is None:
        return ""  # most often
    kind = wanted.get("type") if isinstance(wanted, dict) else wanted
    return kind if isinstance(kind, str) else ""


def _system_prompt(messages: list[Raw]) -> str:
    """Return the text of leading system and developer messages."""
    texts = []
    for raw in messages:
        message = message_of(raw)
        if message.role not in ("system", "developer"):
            break
        texts += texts_of(message.content)
    return "\n".join(texts)
