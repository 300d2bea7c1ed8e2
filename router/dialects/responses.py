"""OpenAI's Responses: what of a request is read."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
from msgspec import Raw, Struct, structs

from router.dialects.body import (
    FORMAT_NEEDS,
    NONE,
    BodyReader,
    NativeRequest,
    holds_any,
    is_thinking_word,
    named,
    require_messages,
    whole,
)
from router.dialects.keeping import with_store_off
from router.dialects.offered import tools_in
from router.dialects.request import BodyHints, Declared, Opening, Structure
from router.dialects.responses_stream import ResponsesStream, response_as_stream
from router.dialects.stored import StoredId, StoredKind, continued_of, references_of
from router.dialects.thoughts import is_answer, items_without
from router.dialects.turns import bytes_without, has_part, message_of, opening_of, texts_of
from router.endpoints.capabilities import MEDIA_NEEDS, Needs
from router.endpoints.catalog import Endpoint
from router.endpoints.entries import Dialect
from router.errors import RequestRejected
from telemetry.wire.responses import read_response
from telemetry.wire.thoughts import (
    IN_COMPACT,
    IN_RESPONSES,
    compact_marks,
    item_marks,
    marks_in,
)
from telemetry.wire.usage import WholeAnswer

IMAGE, SOUND = frozenset({"input_image"}), frozenset({"input_audio"})
DOCUMENT = frozenset({"input_file"})
TOOL_CALLS = ("function_call", "custom_tool_call")
MEDIA = (b'"data:', b'"input_audio"')


class ResponsesBody(Struct):
    """What is read of a request body; everything else passes unread."""

    model: str = ""  # a stored prompt may name it
    input: Raw = NONE
    instructions: Any = None
    stream: Any = None
    tools: Raw = NONE
    text: Any = None
    reasoning: Any = None
    max_output_tokens: Any = None
    user: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None
    store: Any = None
    background: Any = None
    conversation: Any = None
    previous_response_id: Any = None
    metadata: Raw = NONE
    router: Raw = NONE


_READER = BodyReader(ResponsesBody)
_ITEMS = msgspec.json.Decoder(list[Raw])


class ResponsesRequest(NativeRequest):
    """One request, read as far as anybody looks."""

    __slots__ = ("_items", "_read")

    dialect = Dialect.RESPONSES

    def __init__(
        self, body: bytes, read: ResponsesBody, items: list[Raw], hints: BodyHints | None
    ) -> None:
        super().__init__(body, read, hints, _needs(read, items, body))
        self._read = read
        self._items = items

    @property
    def repeatable(self) -> bool:
        """Whether it stores nothing at the provider, so that it may go out twice."""
        read = self._read
        goes_on = read.previous_response_id or read.conversation
        return not (self.kept or goes_on)

    @property
    def kept(self) -> StoredKind | None:
        """What its answer is at the provider from then on: a response, unless it says otherwise."""
        is_kept = self._read.store is not False or bool(self._read.background)
        return StoredKind.RESPONSE if is_kept else None

    def kept_nowhere(self) -> ResponsesRequest:
        """Return it with `store: false` where it says nothing of that.

        A call in the background stays as it is: it asks for what cannot be without.
        """
        if self._read.store is not None or self._read.background:
            return self
        body, read = with_store_off(self.body), structs.replace(self._read, store=False)
        found = ResponsesRequest(body, read, self._items, self._hints)
        found.left_out = self.left_out
        return found

    @property
    def continued(self) -> StoredId | None:
        """What it goes on from that lies at a provider: an earlier response, or a conversation."""
        return continued_of(self._read.previous_response_id, self._read.conversation)

    @property
    def references(self) -> tuple[StoredId, ...]:
        """Items of earlier responses that it holds the names of only, in order."""
        return references_of(self._items)

    @property
    def output_limit(self) -> int | None:
        """The most tokens that the caller wants."""
        return whole(self._read.max_output_tokens)

    @property
    def declared(self) -> Declared:
        """What it says of who asks."""
        read = self._read
        user = named(read.safety_identifier) or named(read.user)
        return self._declared(user, named(read.prompt_cache_key))

    @property
    def text_bytes(self) -> int:
        """The size of its text; data of pictures, sounds and documents does not count."""
        if not self.needs & MEDIA_NEEDS:
            return len(self.body)
        return bytes_without(MEDIA, self._items)

    def _read_thoughts(self) -> tuple[str, ...]:
        return marks_in(map(bytes, self._items), IN_RESPONSES, item_marks)

    def bound_thoughts(self, endpoint: Endpoint) -> tuple[str, ...]:
        """Return the marks of what a conversation was made compact into: nothing stands for it."""
        compact = [bytes(item) for item in self._items if b'"compaction' in bytes(item)]
        return marks_in(compact, IN_COMPACT, compact_marks)

    def without_thoughts(self, marks: Collection[str]) -> ResponsesRequest:
        """Return it without these, nor ids of what was said after them."""
        items = items_without(self._items, marks)
        body = self._with("input", items)
        return self._less(ResponsesRequest(body, self._read, items, self._hints))

    def structure(self, *, read_system: bool) -> Structure:
        """Return what structural rules may look at; the system prompt only where one does."""
        found = tools_in(self._read.tools)
        return Structure(
            tools=found.names,
            groups=found.groups,
            has_schema=_format(self._read) in ("json_schema", "json_object"),
            has_image=bool(self.needs & Needs.IMAGES),
            system=self.system() if read_system else "",
        )

    def system(self) -> str:
        """Return its instructions, and what its leading items of developers say."""
        texts = texts_of(self._read.instructions)
        for raw in self._items:
            item = message_of(raw)
            if item.role not in ("system", "developer"):
                break
            texts += texts_of(item.content)
        return "\n".join(texts)

    def calls_together(self) -> bool:
        """Return whether a tool is called right after another, before either gave a result."""
        was_call = False
        for item in self._items:
            is_call = b'_call"' in bytes(item) and message_of(item).type in TOOL_CALLS
            if was_call and is_call:
                return True
            was_call = is_call
        return False

    def conversation(self) -> list[bytes]:
        """Return what it asks: instructions, then items."""
        return [*self._asked_first(), *(bytes(item) for item in self._items)]

    def earlier(self) -> list[bytes] | None:
        """Return what an earlier call of this conversation was asked, if there was one.

        An answer is a run of items: its first is the first that no caller writes.
        """
        end = next((i for i in range(len(self._items), 0, -1) if self._is_answer(i - 1)), 0)
        begin = next((i for i in range(end, 0, -1) if not self._is_answer(i - 1)), 0)
        if not end or not begin:
            return None
        return [*self._asked_first(), *(bytes(item) for item in self._items[:begin])]

    def opening(self) -> Opening | None:
        """Return what its user says, where it begins a conversation; else None."""
        goes_on = self.continued is not None or any(map(self._is_answer, range(len(self._items))))
        return None if goes_on else opening_of(self._items)

    def _asked_first(self) -> list[bytes]:
        said = self._read.instructions
        return [] if said is None else [msgspec.json.encode(said)]

    def _is_answer(self, place: int) -> bool:
        """Return whether an item is of an answer: an assistant's turn, a call, a thought."""
        return is_answer(self._items[place])

    def open_stream(self, *, hide_usage: bool) -> ResponsesStream:
        """Return a reader of the streamed answer; its usage is never to be hidden."""
        return ResponsesStream()

    def read_answer(self, body: bytes) -> WholeAnswer | None:
        """Return what is read of an unstreamed answer; None where there is no answer in it."""
        return read_response(body)

    def as_stream(self, answer: bytes) -> bytes:
        """Return a whole answer as a stream, for a client whose stream has begun."""
        return response_as_stream(answer)


def parse(body: bytes) -> ResponsesRequest:
    """Return what is read of a request.

    Raises:
        RequestRejected: not JSON, or a field that we read is missing or of the wrong type.
    """
    read, hints = _READER.read(body)
    raw = bytes(read.input)
    items: list[Raw] = []
    if raw[:1] == b"[":
        items = _ITEMS.decode(raw)
        if items:
            require_messages(items, "input")
    elif raw[:1] == b'"':
        items = [Raw(b'{"role":"user","content":%b}' % raw)]
    elif raw != b"null":
        raise RequestRejected("invalid_request", "input is neither text nor a list", param="input")
    if read.previous_response_id and read.conversation:  # they may lie at two places
        message = "give previous_response_id or conversation, not both"
        raise RequestRejected("invalid_request", message, param="previous_response_id")
    return ResponsesRequest(body, read, items, hints)


def _needs(request: ResponsesBody, items: list[Raw], body: bytes) -> int:
    bits = 0
    if holds_any(request.tools):
        bits |= Needs.TOOLS
    bits |= FORMAT_NEEDS.get(_format(request), 0)
    thinking = request.reasoning
    if isinstance(thinking, dict) and is_thinking_word(thinking.get("effort")):
        bits |= Needs.REASONING
    if b'"input_image"' in body and _has_part(items, IMAGE):
        bits |= Needs.IMAGES
    if b'"input_audio"' in body and _has_part(items, SOUND):
        bits |= Needs.AUDIO
    if b'"input_file"' in body and _has_part(items, DOCUMENT):
        bits |= Needs.DOCUMENTS
    return bits


def _has_part(items: list[Raw], kinds: frozenset[str]) -> bool:
    """Return whether some item has a part of one of these types, also in what a tool returned."""
    return has_part(items, kinds) or any(
        b'"output"' in bytes(item) and any(f'"{kind}"'.encode() in bytes(item) for kind in kinds)
        for item in items
    )


def _format(request: ResponsesBody) -> str:
    text = request.text
    wanted = text.get("format") if isinstance(text, dict) else None
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    return kind if isinstance(kind, str) else ""
