"""Streams of OpenAI's Responses: named events, the last of which tells of the whole response."""

from __future__ import annotations

from typing import Any

import msgspec

from router.dialects.messages_stream import named_event
from router.dialects.stream import LINE, NamedEventStream
from telemetry.wire.pieces import RESPONSES, read_piece, size_of
from telemetry.wire.responses import ResponsesEvent, parse_responses_event
from telemetry.wire.said import bytes_said
from telemetry.wire.thoughts import item_mark
from telemetry.wire.usage import id_of, usage_of

BEGINS: dict[Any, dict[str, Any]] = {"message": {"content": []}, "function_call": {"arguments": ""}}
"""What of an item comes in pieces, by its type, and what it is before them."""


class ResponsesStream(NamedEventStream[ResponsesEvent]):
    """What one stream has shown so far."""

    __slots__ = ()

    @property
    def finished(self) -> bool:
        """Whether it has come to its end: nothing else says why it ends."""
        return self.done

    def _goes_on(self, event: bytes) -> bool:
        name, _, line = event.partition(b"\n")
        is_named = name.startswith(b"event: response.") and name.endswith(b".delta")
        if not (is_named and line.startswith(LINE)) or b"\n" in line:
            return False
        piece = read_piece(RESPONSES, line[len(LINE) - 1 :])
        if piece is None or not piece.type.endswith(".delta"):
            return False
        if piece.delta:
            self.spoke = True
            self.n_pieces += 1
            self.said_bytes += size_of(piece.delta)
        if piece.sequence_number is not None:
            self.n_events = piece.sequence_number + 1
        return True

    def _parse(self, data: bytes) -> ResponsesEvent | None:
        return parse_responses_event(data)

    def _note(self, event: ResponsesEvent) -> None:
        if event.says_something:
            self.spoke = True
            if event.delta:  # an item that is done tells what came in pieces
                self.n_pieces += 1
                self.said_bytes += bytes_said(event.delta)
        self.done |= event.is_end
        if isinstance(event.sequence_number, int):
            self.n_events = event.sequence_number + 1
        if event.kind == "response.output_item.done" and (mark := item_mark(event.item)):
            self.thoughts += (mark,)
        if event.kind == "response.output_item.done" and (item_id := id_of(event.item_id)):
            self.item_ids += (item_id,)
        response = event.response
        if response is None:
            return
        self.id, self.model = id_of(response.id) or self.id, id_of(response.model) or self.model
        self.usage = usage_of(response.usage, response.service_tier) or self.usage
        if event.is_end:
            self.thoughts = tuple(dict.fromkeys((*self.thoughts, *response.thoughts)))
            self.item_ids = tuple(dict.fromkeys((*self.item_ids, *response.item_ids)))


def response_as_stream(body: bytes) -> bytes:
    """Return a whole response as the events that say the same."""
    answer = msgspec.json.decode(body, type=dict[str, Any])
    begun = answer | {"status": "in_progress", "output": [], "usage": None}
    events: list[dict[str, Any]] = [{"type": "response.created", "response": begun}]
    for index, item in enumerate(answer.get("output") or []):
        kind = item.get("type")
        begin = item | {name: empty for name, empty in BEGINS.get(kind, {}).items() if name in item}
        events.append({"type": "response.output_item.added", "output_index": index, "item": begin})
        events += _parts(item, index) if kind == "message" else _arguments(item, index)
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    status = answer.get("status")
    end = f"response.{status}" if status in ("incomplete", "cancelled") else "response.completed"
    events.append({"type": end, "response": answer})
    numbered = [event | {"sequence_number": n} for n, event in enumerate(events)]
    return b"".join(named_event(event) for event in numbered)


def _arguments(item: dict[str, Any], index: int) -> list[dict[str, Any]]:
    """Return the events of what a tool is called with."""
    said = item.get("arguments")
    if item.get("type") != "function_call" or not isinstance(said, str):
        return []
    at = {"item_id": item.get("id"), "output_index": index}
    kind = "response.function_call_arguments"
    done = {"type": f"{kind}.done", "name": item.get("name"), "arguments": said}
    return [{"type": f"{kind}.delta", "delta": said} | at, done | at]


def _parts(item: dict[str, Any], index: int) -> list[dict[str, Any]]:
    """Return the events of a message's text."""
    out = []
    for place, part in enumerate(item.get("content") or []):
        at = {"item_id": item.get("id"), "output_index": index, "content_index": place}
        is_text = part.get("type") == "output_text"
        begin = part | {"text": ""} if is_text else part
        out.append({"type": "response.content_part.added", "part": begin} | at)
        if is_text:
            text = part.get("text", "")
            out.append({"type": "response.output_text.delta", "delta": text} | at)
            out.append({"type": "response.output_text.done", "text": text} | at)
        out.append({"type": "response.content_part.done", "part": part} | at)
    return out
