"""Whole answers of Anthropic's Messages: read, and said.

Sealed thoughts and what tools of the provider's did are not read. A thought that is said has no
seal, and is said to who asked for it alone.
"""

from __future__ import annotations

from typing import Any

import msgspec

from router.translation import counts
from router.translation.completion import Completion, Declined, Stop
from router.translation.parts import Said, is_json_object, joined, shown, stop_of
from router.translation.prompt import Prompt, Text, Thought, ToolUse
from router.translation.tools import INVALID
from telemetry.wire.messages import parse_messages_answer
from telemetry.wire.reading import decode
from telemetry.wire.usage import id_of

STOPS = {
    "end_turn": Stop.END,
    "pause_turn": Stop.LENGTH,  # unfinished
    "stop_sequence": Stop.SEQUENCE,
    "max_tokens": Stop.LENGTH,
    "model_context_window_exceeded": Stop.LENGTH,
    "tool_use": Stop.TOOLS,
    "refusal": Stop.REFUSAL,
}
"""By stop reason."""
REASONS = {
    Stop.END: "end_turn",
    Stop.SEQUENCE: "stop_sequence",
    Stop.LENGTH: "max_tokens",
    Stop.TOOLS: "tool_use",
    Stop.REFUSAL: "refusal",
}
_TOP = msgspec.json.Decoder(dict[str, Any])


def read(body: bytes) -> Completion | None:
    """Return what a whole answer says; None where there is no answer in it."""
    found = parse_messages_answer(body)
    if found is None:
        return None
    parts = list[Said]()
    for block in found.content or ():
        if not isinstance(block, dict):
            continue
        if block.get("type") == "tool_use":
            its_id = id_of(block.get("id")) or ""
            parts.append(ToolUse(its_id, name_of(block), arguments_of(block)))
        elif (said := spoken(block)) is not None:
            parts.append(said)
    stop = stop_named(found.stop_reason)
    sequence = None
    if stop is Stop.SEQUENCE:  # the answer's top does not hold what nobody else looks at
        sequence = id_of((decode(_TOP, body) or {}).get("stop_sequence"))
    answer = Completion(
        id=id_of(found.id),
        model=id_of(found.model),
        parts=joined(parts),
        stop=stop,
        stop_sequence=sequence,
        count=counts.count_of(found.usage),
    )
    return msgspec.structs.replace(answer, stop=stop_of(answer))


def stop_named(reason: Any) -> Stop:
    """Return what a stop reason means."""
    return STOPS.get(reason, Stop.END) if isinstance(reason, str) else Stop.END


def spoken(block: dict[str, Any]) -> Thought | Text | None:
    """Return what is said in a block, or in a piece of one, if it is that."""
    kind = block.get("type")
    if kind in ("text", "text_delta"):
        text = block.get("text")
        return Text(text) if isinstance(text, str) else None
    if kind in ("thinking", "thinking_delta"):
        text = block.get("thinking")
        return Thought(text) if isinstance(text, str) else None
    return None


def name_of(block: dict[str, Any]) -> str:
    """Return the name of the tool that a block calls."""
    return id_of(block.get("name")) or ""


def arguments_of(block: dict[str, Any]) -> str:
    """Return what a block calls its tool with, as JSON text."""
    said = block.get("input")
    return msgspec.json.encode(said).decode() if isinstance(said, dict) else ""


def input_of(arguments: str) -> msgspec.Raw:
    """Return what a tool is called with as an object, with its numbers as they were written."""
    text = arguments.strip()
    if is_json_object(text):
        return msgspec.Raw(text.encode())
    if text in ("", "null"):
        return msgspec.Raw(b"{}")
    return msgspec.Raw(msgspec.json.encode({INVALID: arguments}))


def reason_of(stop: Stop, *, declined: bool) -> str:
    """Return the stop reason; what a model declines in words of its own is a refusal, too."""
    return REASONS[Stop.REFUSAL if declined and stop is Stop.END else stop]


def write(answer: Completion, asked: Prompt) -> bytes:
    """Return the answer as JSON, for who asked that."""
    said = shown(answer.parts, thoughts=asked.shows_thinking)
    declined = any(isinstance(part, Declined) for part in said)
    return msgspec.json.encode(
        {
            **head(answer.id, answer.model),
            "content": [_block(part) for part in said],
            "stop_reason": reason_of(stop_of(answer), declined=declined),
            "stop_sequence": answer.stop_sequence,
            "usage": counts.as_messages(answer.count),
        }
    )


def head(answer_id: str | None, model: str | None) -> dict[str, Any]:
    """Return what a message begins with."""
    return {
        "id": answer_id or "",
        "type": "message",
        "role": "assistant",
        "model": model or "",
    }


def _block(part: Said) -> dict[str, Any]:
    match part:
        case ToolUse():
            called = {"id": part.id, "name": part.name, "input": input_of(part.arguments)}
            return {"type": "tool_use", **called}
        case Thought():
            return {"type": "thinking", "thinking": part.text, "signature": ""}
        case _:
            return {"type": "text", "text": part.text}
