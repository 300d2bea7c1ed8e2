"""Streams of Anthropic's Messages: read event by event, and said."""

from __future__ import annotations

from typing import Any

from router.dialects.messages_stream import named_event
from router.translation import counts
from router.translation.completion import (
    Arguments,
    Begun,
    CallBegun,
    CallEnded,
    Counted,
    Event,
    Piece,
    Stop,
    Stopped,
)
from router.translation.event_writer import Block, SequentialWriter
from router.translation.messages_answer import (
    arguments_of,
    head,
    input_of,
    name_of,
    reason_of,
    spoken,
    stop_named,
)
from router.translation.prompt import Thought
from telemetry.wire.messages import MessagesEvent, parse_messages_event
from telemetry.wire.usage import id_of


class MessagesEventReader:
    """Reads one stream."""

    def __init__(self) -> None:
        self._usage: dict[str, Any] = {}  # what is said last of each count holds
        self._calls: list[_Called] = []

    def feed(self, data: bytes) -> list[Event] | None:
        """Return what the data of one event says; None where nobody can tell."""
        event = parse_messages_event(data)
        if event is None:
            return None
        match event.type:
            case "message_start":
                return self._begin(event.message or {})
            case "content_block_start":
                return self._open(event)
            case "content_block_delta":
                return self._more(event)
            case "content_block_stop":
                return self._close(event)
            case "message_delta":
                return self._end(event)
            case _:
                return []

    def _begin(self, message: dict[str, Any]) -> list[Event]:
        usage = message.get("usage")
        self._usage = _known(usage)
        its_id, model = id_of(message.get("id")), id_of(message.get("model"))
        return [Begun(its_id, model, counts.count_of(self._usage))]

    def _open(self, event: MessagesEvent) -> list[Event]:
        block = event.content_block or {}
        if block.get("type") == "tool_use":
            place = len(self._calls)
            self._calls.append(_Called(event.index, arguments_of(block)))
            return [CallBegun(place, id_of(block.get("id")) or "", name_of(block))]
        return _pieces(block)

    def _more(self, event: MessagesEvent) -> list[Event]:
        delta = event.delta or {}
        said = delta.get("partial_json")
        if delta.get("type") != "input_json_delta":
            return _pieces(delta)
        place = self._place(event.index)
        if place is None or not isinstance(said, str) or not said:
            return []
        self._calls[place].whole = ""
        return [Arguments(place, said)]

    def _close(self, event: MessagesEvent) -> list[Event]:
        """Return the end of a call, after what it began with where nothing came in pieces."""
        place = self._place(event.index)
        if place is None:
            return []
        whole, self._calls[place].whole = self._calls[place].whole, ""
        return [*([Arguments(place, whole)] if whole else []), CallEnded(place)]

    def _end(self, event: MessagesEvent) -> list[Event]:
        out: list[Event] = []
        if event.stop_reason:
            stop = stop_named(event.stop_reason)
            sequence = (event.delta or {}).get("stop_sequence") if stop is Stop.SEQUENCE else None
            out.append(Stopped(stop, id_of(sequence)))
        self._usage |= _known(event.usage)
        if (count := counts.count_of(self._usage)) is not None:
            out.append(Counted(count))
        return out

    def finish(self) -> list[Event]:
        """Return nothing: whatever begins here is told at once."""
        return []

    def _place(self, index: Any) -> int | None:
        """Return the place of the call that is the block of an index."""
        for place in reversed(range(len(self._calls))):
            if self._calls[place].index == index:
                return place
        return None


class _Called:
    """A block that calls a tool."""

    __slots__ = ("index", "whole")

    def __init__(self, index: Any, whole: str) -> None:
        self.index = index
        self.whole = whole if whole != "{}" else ""  # what it takes, while no piece of it came


def _pieces(said: dict[str, Any]) -> list[Event]:
    """Return what is said in a block that begins, or in a piece of one."""
    part = spoken(said)
    return [Piece(type(part), part.text)] if part is not None and part.text else []


def _known(usage: Any) -> dict[str, Any]:
    return {k: n for k, n in usage.items() if n is not None} if isinstance(usage, dict) else {}


class MessagesEventWriter(SequentialWriter):
    """Says a streamed answer, one block after another.

    What a tool is called with is kept until it is all there: clients read it as an object while it
    grows, and before its end nobody knows whether it becomes one.
    """

    ping = named_event({"type": "ping"})

    def _begin(self, begun: Begun) -> bytes:
        usage = counts.as_messages(begun.count)
        message = {
            **head(begun.id, begun.model),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }
        return named_event({"type": "message_start", "message": message})

    def _open(self, block: Block) -> bytes:
        begin: dict[str, Any] = {"type": "text", "text": ""}
        if block.call is not None:
            call = {"id": block.call.id, "name": block.call.name, "input": {}}
            begin = {"type": "tool_use", **call}
        elif block.of is Thought:
            begin = {"type": "thinking", "thinking": "", "signature": ""}
        begins = {"type": "content_block_start", "index": block.place}
        return named_event({**begins, "content_block": begin})

    def _more(self, block: Block, text: str) -> bytes:
        if block.call is None:
            kind = "thinking" if block.of is Thought else "text"
            return self._delta(block, {"type": f"{kind}_delta", kind: text})
        return b""

    def _close(self, block: Block, *, is_last: bool) -> bytes:
        kept = b""
        if block.call is not None:
            said = bytes(input_of(block.text)).decode()
            kept = self._delta(block, {"type": "input_json_delta", "partial_json": said})
        return kept + named_event({"type": "content_block_stop", "index": block.place})

    def _end(self) -> bytes:
        reason = reason_of(self.stop, declined=self.declined)
        delta = {"stop_reason": reason, "stop_sequence": self.sequence}
        ends = {"type": "message_delta", "delta": delta, "usage": counts.as_messages(self.count)}
        said = self._advance(is_end=True)
        return said + named_event(ends) + named_event({"type": "message_stop"})

    def _delta(self, block: Block, delta: dict[str, Any]) -> bytes:
        return named_event({"type": "content_block_delta", "index": block.place, "delta": delta})
