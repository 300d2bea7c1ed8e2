"""Whole streams of every dialect, to be cut: each says the same words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from scripts.proofs.replies import WORDS, event, piece

DIALECTS = ("chat", "messages", "responses")
PATHS = {
    "chat": "/v1/chat/completions",
    "messages": "/v1/messages",
    "responses": "/v1/responses",
}
SPOKEN = [f"{word} " for word in WORDS[:8]]
SAID = "".join(SPOKEN)
"""What a sample says."""
N_IN, N_OUT = 7, 8


def sample(dialect: str = "chat", *, line_end: str = "\n", usage: bool = True) -> bytes:
    """Return a whole stream, with comments or pings between its words.

    Args:
        usage: of Chat Completions, report the tokens; the others always do.
    """
    if dialect == "chat":
        events = b"".join(_chat(usage))
    else:
        told = _messages() if dialect == "messages" else _responses()
        events = b"".join(_named(one) for one in told)
    return events.replace(b"\n", line_end.encode())


def _named(value: dict[str, Any]) -> bytes:
    said = json.dumps(value, separators=(",", ":"))
    return f"event: {value['type']}\ndata: {said}\n\n".encode()


def _chat(usage: bool) -> Iterator[bytes]:
    yield event(piece("cut", {"role": "assistant", "content": ""}))
    yield b": thinking\n\n"
    for word in SPOKEN:
        yield event(piece("cut", {"content": word}))
    yield event(piece("cut", {}, "stop"))
    if usage:
        counts = {"prompt_tokens": N_IN, "completion_tokens": N_OUT, "total_tokens": N_IN + N_OUT}
        yield event({**piece("cut", {}), "choices": [], "usage": counts})
    yield b"data: [DONE]\n\n"


def _messages() -> Iterator[dict[str, Any]]:
    message = {"id": "msg_cut", "type": "message", "role": "assistant", "model": "cut"}
    begun: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None}
    begun["usage"] = {"input_tokens": N_IN, "output_tokens": 1}
    yield {"type": "message_start", "message": message | begun}
    block = {"type": "text", "text": ""}
    yield {"type": "content_block_start", "index": 0, "content_block": block}
    yield {"type": "ping"}
    for word in SPOKEN:
        delta = {"type": "text_delta", "text": word}
        yield {"type": "content_block_delta", "index": 0, "delta": delta}
    yield {"type": "content_block_stop", "index": 0}
    ends = {"stop_reason": "end_turn", "stop_sequence": None}
    yield {"type": "message_delta", "delta": ends, "usage": {"output_tokens": N_OUT}}
    yield {"type": "message_stop"}


def _responses() -> Iterator[dict[str, Any]]:
    for number, told in enumerate(_unnumbered()):
        yield {**told, "sequence_number": number}


def _unnumbered() -> Iterator[dict[str, Any]]:
    begun: dict[str, Any] = {"id": "resp_cut", "object": "response", "model": "cut"}
    begun |= {"status": "in_progress", "error": None, "output": [], "usage": None}
    item: dict[str, Any] = {"id": "msg_cut", "type": "message", "role": "assistant", "content": []}
    at = {"item_id": "msg_cut", "output_index": 0, "content_index": 0}
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.output_item.added", "output_index": 0, "item": item}
    part = {"type": "output_text", "text": "", "annotations": []}
    yield {"type": "response.content_part.added", "part": part, **at}
    for word in SPOKEN:
        yield {"type": "response.output_text.delta", "delta": word, **at}
    yield {"type": "response.output_text.done", "text": SAID, **at}
    whole = item | {"content": [part | {"text": SAID}]}
    yield {"type": "response.output_item.done", "output_index": 0, "item": whole}
    counts = {"input_tokens": N_IN, "output_tokens": N_OUT, "total_tokens": N_IN + N_OUT}
    done = begun | {"status": "completed", "output": [whole], "usage": counts}
    yield {"type": "response.completed", "response": done}
