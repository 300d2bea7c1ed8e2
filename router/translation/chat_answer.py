"""Whole answers of Chat Completions: read, and said.

There is one choice. A chat says its thoughts, its words, its refusal and its calls beside each
other, so their order among these kinds is that one.
"""

from __future__ import annotations

from typing import Any

import msgspec

from router.translation import counts
from router.translation.completion import Completion, Declined, Stop
from router.translation.parts import Said, joined, stop_of
from router.translation.prompt import Text, Thought, ToolUse
from telemetry.wire.chat import parse_answer
from telemetry.wire.reading import decode
from telemetry.wire.usage import id_of

STOPS = {
    "stop": Stop.END,
    "length": Stop.LENGTH,
    "max_tokens": Stop.LENGTH,  # some relays leave Anthropic's word
    "model_length": Stop.LENGTH,  # Mistral: the context is full
    "tool_calls": Stop.TOOLS,
    "function_call": Stop.TOOLS,
    "content_filter": Stop.REFUSAL,
}
"""By finish reason."""
FINISHES = {
    Stop.END: "stop",
    Stop.SEQUENCE: "stop",
    Stop.LENGTH: "length",
    Stop.TOOLS: "tool_calls",
    Stop.REFUSAL: "content_filter",
}
_MESSAGE = msgspec.json.Decoder(dict[str, Any])


def read(body: bytes) -> Completion | None:
    """Return what a whole answer says; None where there is no answer in it."""
    found = parse_answer(body)
    if found is None or not found.choices:
        return None
    choice = found.choices[0]
    message = decode(_MESSAGE, bytes(choice.message))
    if message is None:
        return None
    calls = (
        ToolUse(said.id or "", said.name, said.arguments, said.is_custom)
        for said in map(SaidCall, calls_of(message))
        if said.name or said.arguments
    )
    answer = Completion(
        id=id_of(found.id),
        model=id_of(found.model),
        parts=joined((*spoken(message), *calls)),
        stop=stop_named(choice.finish_reason),
        stop_sequence=id_of(choice.stop_reason),
        count=counts.count_of(found.usage),
    )
    return msgspec.structs.replace(answer, stop=stop_of(answer))


def stop_named(finish: Any) -> Stop:
    """Return what a finish reason means."""
    return STOPS.get(finish, Stop.END) if isinstance(finish, str) else Stop.END


def spoken(message: dict[str, Any]) -> list[Thought | Text | Declined]:
    """Return what is said in a message, or in a piece of one: thoughts, words, a refusal."""
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    thought = message.get("reasoning_content") or message.get("reasoning")
    out: list[Thought | Text | Declined] = [Thought(_text(thought))]
    out += [_part(part) for part in parts if isinstance(part, dict)]
    out.append(Declined(_text(message.get("refusal"))))
    return [part for part in out if part.text]


def _part(part: dict[str, Any]) -> Thought | Text | Declined:
    match part.get("type"):
        case "thinking":  # Mistral
            inner = part.get("thinking")
            pieces = inner if isinstance(inner, list) else [{"text": inner}]
            return Thought("".join(_text(p.get("text")) for p in pieces if isinstance(p, dict)))
        case "refusal":
            return Declined(_text(part.get("refusal")))
        case _:
            return Text(_text(part.get("text")))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def calls_of(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the calls of tools in a message, or in a piece of one; the oldest form, too."""
    found = message.get("tool_calls")
    calls = [call for call in found if isinstance(call, dict)] if isinstance(found, list) else []
    if not calls and isinstance(message.get("function_call"), dict):
        return [{"index": 0, "function": message["function_call"]}]
    return calls


class SaidCall:
    """A call of a tool, or a piece of one, as far as it can be made out."""

    __slots__ = ("arguments", "id", "index", "is_custom", "name")

    def __init__(self, call: dict[str, Any], place: int | None = None) -> None:
        """Read it.

        Args:
            place: its index, where it does not say.
        """
        index, self.id = call.get("index"), id_of(call.get("id"))
        is_number = isinstance(index, int) and not isinstance(index, bool)
        self.index: int | None = index if is_number else place
        self.is_custom = call.get("type") == "custom" or isinstance(call.get("custom"), dict)
        tool = call.get("custom") if self.is_custom else call.get("function")
        tool = tool if isinstance(tool, dict) else {}
        self.name = _text(tool.get("name"))
        said = tool.get("input" if self.is_custom else "arguments")
        if isinstance(said, dict):  # some servers send what should be its text
            said = msgspec.json.encode(said).decode()
        self.arguments = _text(said)


def write(answer: Completion, *, created: int) -> bytes:
    """Return the answer as JSON.

    Args:
        created: when it was made, in seconds since 1970.
    """
    said = joined(answer.parts)
    message: dict[str, Any] = {
        "role": "assistant",
        "content": _all_of(Text, said),
        "refusal": _all_of(Declined, said),
    }
    if thought := _all_of(Thought, said):
        message["reasoning_content"] = thought
    if calls := [_call(part) for part in said if isinstance(part, ToolUse)]:
        message["tool_calls"] = calls
    finish = FINISHES[stop_of(answer)]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    whole: dict[str, Any] = {
        "id": answer.id or "",
        "object": "chat.completion",
        "created": created,
        "model": answer.model or "",
        "choices": [choice],
    }
    if answer.count is not None:
        whole["usage"] = counts.as_chat(answer.count)
    return msgspec.json.encode(whole)


def _all_of(kind: type[Thought | Text | Declined], said: tuple[Said, ...]) -> str | None:
    texts = [part.text for part in said if not isinstance(part, ToolUse) and type(part) is kind]
    return "".join(texts) or None


def _call(part: ToolUse) -> dict[str, Any]:
    if part.is_custom:
        tool = {"name": part.name, "input": part.arguments}
        return {"id": part.id, "type": "custom", "custom": tool}
    tool = {"name": part.name, "arguments": part.arguments}
    return {"id": part.id, "type": "function", "function": tool}
