"""Streams of Anthropic's Messages: named events, a reason for the end, and one that stops it."""

from __future__ import annotations

from typing import Any

import msgspec

from router.dialects.stream import NamedEventStream
from telemetry.wire.messages import MessagesEvent, merged_usage, parse_messages_event
from telemetry.wire.pieces import MESSAGES, read_piece, size_of
from telemetry.wire.said import bytes_said
from telemetry.wire.thoughts import block_mark
from telemetry.wire.usage import id_of

DELTAS = {"text": "text_delta", "thinking": "thinking_delta"}
"""Of blocks that come in pieces of text, under the block's own name."""
THOUGHTS = ("thinking", "redacted_thinking")
PIECE = b"event: content_block_delta\ndata: {"
"""How nearly all events of an answer begin."""


class _Thought:
    """A block of thinking, as far as it has come: its signature is in pieces, as its words are."""

    __slots__ = ("_begun", "_pieces")

    def __init__(self, begun: dict[str, Any]) -> None:
        self._begun = begun
        self._pieces: dict[str, list[str]] = {"signature": [], "thinking": []}
        self.add(begun)

    def add(self, piece: dict[str, Any]) -> None:
        for name, pieces in self._pieces.items():
            if isinstance(piece.get(name), str):
                pieces.append(piece[name])

    def add_words(self, thinking: str | None, signature: str | None) -> None:
        self.add({"thinking": thinking, "signature": signature})

    @property
    def mark(self) -> str | None:
        said = {name: "".join(pieces) for name, pieces in self._pieces.items()}
        return block_mark(self._begun | said)


class MessagesStream(NamedEventStream[MessagesEvent]):
    """What one stream has shown so far."""

    __slots__ = ("_finished", "_thought", "_usage")

    done_ends = True

    def __init__(self) -> None:
        super().__init__()
        self._finished = False
        self._usage: Any = None  # as the begin said
        self._thought: _Thought | None = None  # which comes just now

    @property
    def finished(self) -> bool:
        """Whether there was a reason for its end."""
        return self._finished

    def _goes_on(self, event: bytes) -> bool:
        if not event.startswith(PIECE) or event.count(b"\n") != 1:
            return False
        piece = read_piece(MESSAGES, event[len(PIECE) - 1 :])
        if piece is None:
            return False
        said, thought = piece.delta, self._thought
        if thought is not None:
            thought.add_words(said.thinking, said.signature)
        if said.text or said.partial_json or said.thinking or said.signature:
            self.spoke = True
            self.n_pieces += 1
            self.said_bytes += (
                size_of(said.text) + size_of(said.partial_json) + size_of(said.thinking)
            )
        return True

    def _parse(self, data: bytes) -> MessagesEvent | None:
        return parse_messages_event(data)

    def _note(self, event: MessagesEvent) -> None:
        if event.says_something:
            self.spoke = True
            self.n_pieces += 1
            self.said_bytes += bytes_said(event.delta or event.content_block)
        self.container = event.container or self.container
        if event.type == "message_start" and event.message is not None:
            self.id, self.model = id_of(event.message.get("id")), id_of(event.message.get("model"))
            self._usage = event.message.get("usage")
            self.begun = merged_usage(self._usage, None)
        elif event.type == "message_delta":
            self._finished |= bool(event.stop_reason)
            self.usage = merged_usage(self._usage, event.usage) or self.usage
        elif event.type == "message_stop":
            self.done = True
        elif event.type == "content_block_start":
            block = event.content_block or {}
            self._thought = _Thought(block) if block.get("type") in THOUGHTS else None
        elif self._thought is not None:
            self._follow(self._thought, event)

    def _follow(self, thought: _Thought, event: MessagesEvent) -> None:
        if event.type == "content_block_delta":
            thought.add(event.delta or {})
        elif event.type == "content_block_stop":
            mark = thought.mark
            self.thoughts += (mark,) if mark else ()
            self._thought = None


def message_as_stream(body: bytes) -> bytes:
    """Return a whole answer as the events that say the same."""
    answer = msgspec.json.decode(body, type=dict[str, Any])
    blocks = answer.get("content") or []
    usage = answer.get("usage") or {}
    start = answer | {"content": [], "stop_reason": None, "stop_sequence": None}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": start}]
    for index, block in enumerate(blocks):
        begin, pieces = _in_pieces(block)
        events.append({"type": "content_block_start", "index": index, "content_block": begin})
        events += [{"type": "content_block_delta", "index": index, "delta": p} for p in pieces]
        events.append({"type": "content_block_stop", "index": index})
    end = {name: answer.get(name) for name in ("stop_reason", "stop_sequence")}
    events.append({"type": "message_delta", "delta": end, "usage": usage})
    events.append({"type": "message_stop"})
    return b"".join(named_event(event) for event in events)


def named_event(event: dict[str, Any]) -> bytes:
    """Return an event under the name of its type."""
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), msgspec.json.encode(event))


def _in_pieces(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return a block as it begins, and what comes after that."""
    kind = block.get("type")
    if kind in DELTAS:
        pieces = [{"type": DELTAS[kind], kind: block.get(kind, "")}]
        if block.get("signature"):
            pieces.append({"type": "signature_delta", "signature": block["signature"]})
        pieces += [{"type": "citations_delta", "citation": c} for c in block.get("citations") or []]
        begin = {name: v for name, v in block.items() if name not in ("signature", "citations")}
        if "signature" in block:
            begin["signature"] = ""
        return begin | {kind: ""}, pieces
    if isinstance(block.get("input"), dict):  # a call of a tool
        said = msgspec.json.encode(block["input"]).decode()
        return block | {"input": {}}, [{"type": "input_json_delta", "partial_json": said}]
    return block, []
