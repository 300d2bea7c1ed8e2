"""Answers of a provider that says what it counted, in every dialect, whole or streamed. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from scripts.proofs.replies import DONE, event, piece

JSON, STREAM = "application/json", "text/event-stream"


class ToldAnswer(Struct, frozen=True):
    """What is said, and what of it is counted."""

    id: str
    model: str
    text: str
    tokens_in: int  # those out of the cache, and those written to it, included
    tokens_out: int
    cached: int = 0
    written: int = 0

    def bytes_in(self, dialect: str, *, streamed: bool) -> tuple[str, bytes]:
        """Return media type and body as a provider of this dialect sends them."""
        if not streamed:
            return JSON, json.dumps(_WHOLE[dialect](self)).encode()
        return STREAM, b"".join(_STREAMS[dialect](self))


def dialect_of(path: str) -> str:
    """Return the dialect whose path this is."""
    if path.endswith("/messages"):
        return "messages"
    return "responses" if path.endswith("/responses") else "chat"


def _chat_usage(answer: ToldAnswer) -> dict[str, Any]:
    return {
        "prompt_tokens": answer.tokens_in,
        "completion_tokens": answer.tokens_out,
        "total_tokens": answer.tokens_in + answer.tokens_out,
        "prompt_tokens_details": {"cached_tokens": answer.cached},
    }


def _chat(answer: ToldAnswer) -> dict[str, Any]:
    message = {"role": "assistant", "content": answer.text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    head = {"id": answer.id, "object": "chat.completion", "created": 1, "model": answer.model}
    return {**head, "choices": [choice], "usage": _chat_usage(answer)}


def _chat_stream(answer: ToldAnswer) -> Iterator[bytes]:
    named = {"id": answer.id}
    yield event(piece(answer.model, {"role": "assistant", "content": answer.text}) | named)
    yield event(piece(answer.model, {}, "stop") | named)
    usage = {"choices": [], "usage": _chat_usage(answer)}
    yield event(piece(answer.model, {}) | named | usage)
    yield DONE


def _messages_usage(answer: ToldAnswer) -> dict[str, Any]:
    return {
        "input_tokens": answer.tokens_in - answer.cached - answer.written,
        "cache_creation_input_tokens": answer.written,
        "cache_read_input_tokens": answer.cached,
        "output_tokens": answer.tokens_out,
    }


def _messages(answer: ToldAnswer) -> dict[str, Any]:
    head = {"id": answer.id, "type": "message", "role": "assistant", "model": answer.model}
    said = {"content": [{"type": "text", "text": answer.text}], "stop_reason": "end_turn"}
    return {**head, **said, "stop_sequence": None, "usage": _messages_usage(answer)}


def _messages_stream(answer: ToldAnswer) -> Iterator[bytes]:
    begun = _messages(answer) | {"content": [], "stop_reason": None}
    yield _named({"type": "message_start", "message": begun})
    at = {"index": 0}
    yield _named(
        {"type": "content_block_start", **at, "content_block": {"type": "text", "text": ""}}
    )
    delta: dict[str, Any] = {"type": "text_delta", "text": answer.text}
    yield _named({"type": "content_block_delta", **at, "delta": delta})
    yield _named({"type": "content_block_stop", **at})
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    usage = {"output_tokens": answer.tokens_out}
    yield _named({"type": "message_delta", "delta": delta, "usage": usage})
    yield _named({"type": "message_stop"})


def _responses(answer: ToldAnswer) -> dict[str, Any]:
    part = {"type": "output_text", "text": answer.text, "annotations": []}
    item: dict[str, Any] = {"id": f"item_{answer.id}", "type": "message", "role": "assistant"}
    item |= {"status": "completed", "content": [part]}
    head = {"id": answer.id, "object": "response", "model": answer.model, "created_at": 1}
    usage = {
        "input_tokens": answer.tokens_in,
        "input_tokens_details": {"cached_tokens": answer.cached},
        "output_tokens": answer.tokens_out,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": answer.tokens_in + answer.tokens_out,
    }
    return {**head, "status": "completed", "error": None, "output": [item], "usage": usage}


def _responses_stream(answer: ToldAnswer) -> Iterator[bytes]:
    whole = _responses(answer)
    (item,) = whole["output"]
    begun = whole | {"status": "in_progress", "output": [], "usage": None}
    at = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    told = [
        {"type": "response.created", "response": begun},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": item | {"status": "in_progress", "content": []},
        },
        {"type": "response.output_text.delta", **at, "delta": answer.text},
        {"type": "response.output_text.done", **at, "text": answer.text},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": whole},
    ]
    for number, one in enumerate(told):
        yield _named({**one, "sequence_number": number})


def _named(value: dict[str, Any]) -> bytes:
    said = json.dumps(value, separators=(",", ":"))
    return f"event: {value['type']}\ndata: {said}\n\n".encode()


_WHOLE = {"chat": _chat, "messages": _messages, "responses": _responses}
_STREAMS = {"chat": _chat_stream, "messages": _messages_stream, "responses": _responses_stream}
