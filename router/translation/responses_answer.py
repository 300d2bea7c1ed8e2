"""Whole answers of OpenAI's Responses, said. No endpoint that is translated for speaks them.

Every part of an answer is an item of its own, under an id that follows from the answer's.
"""

from __future__ import annotations

from typing import Any

import msgspec

from router.translation import counts
from router.translation.completion import Completion, Count, Declined, Stop
from router.translation.parts import Said, shown, stop_of
from router.translation.prompt import Prompt, Text, Thought, ToolUse

ECHOED: dict[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": None,
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}
"""Fields of a request that its answer repeats, and what they are where it does not have them."""
PREFIXES: dict[type[Said], str] = {Thought: "rs", Text: "msg", Declined: "msg", ToolUse: "fc"}
CUSTOM_PREFIX = "ctc"
SHORTFALLS = {Stop.LENGTH: "max_output_tokens", Stop.REFUSAL: "content_filter"}
"""Why a response is incomplete."""


def write(answer: Completion, asked: Prompt, echo: dict[str, Any], *, created: int) -> bytes:
    """Return the answer as JSON.

    Args:
        asked: what it answers.
        echo: the caller's own request, of which an answer repeats some fields.
        created: when it was made, in seconds since 1970.
    """
    said = shown(answer.parts, thoughts=asked.shows_thinking)
    stop, last = stop_of(answer), len(said) - 1
    items = [
        item(part, item_id(answer.id, part, place), is_short=stop in SHORTFALLS and place == last)
        for place, part in enumerate(said)
    ]
    begun = head(answer.id, answer.model, echo, created=created)
    return msgspec.json.encode(ended(begun, items, stop, answer.count))


def head(
    answer_id: str | None, model: str | None, echo: dict[str, Any], *, created: int
) -> dict[str, Any]:
    """Return a response as it begins. It lies nowhere: nobody can go on from its id."""
    repeated = {name: echo.get(name, default) for name, default in ECHOED.items()}
    if isinstance(repeated["text"], dict):
        repeated["text"] = ECHOED["text"] | repeated["text"]
    for name in ("metadata", "parallel_tool_calls", "tool_choice", "tools", "text", "truncation"):
        if repeated[name] is None:  # may be asked so, and is answered as what it stands for
            repeated[name] = ECHOED[name]
    return {
        "id": answer_id or "",
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "model": model or "",
        "output": [],
        **repeated,
        "store": False,
        "usage": None,
    }


def ended(
    begun: dict[str, Any], items: list[dict[str, Any]], stop: Stop, count: Count | None
) -> dict[str, Any]:
    """Return a response at its end."""
    why = SHORTFALLS.get(stop)
    return begun | {
        "status": "incomplete" if why else "completed",
        "incomplete_details": {"reason": why} if why else None,
        "output": items,
        "usage": counts.as_responses(count) if count is not None else None,
    }


def item_id(answer_id: str | None, part: Said, place: int) -> str:
    """Return the id of an item."""
    is_custom = isinstance(part, ToolUse) and part.is_custom
    prefix = CUSTOM_PREFIX if is_custom else PREFIXES[type(part)]
    return f"{prefix}_{answer_id}_{place}" if answer_id else f"{prefix}_{place}"


def item(part: Said, its_id: str, *, is_short: bool = False) -> dict[str, Any]:
    """Return an item of a response.

    Args:
        is_short: whether the response breaks off in it.
    """
    status = "incomplete" if is_short else "completed"
    match part:
        case Thought():
            summary = [{"type": "summary_text", "text": part.text}]
            return {"type": "reasoning", "id": its_id, "summary": summary}
        case ToolUse(is_custom=True):
            called = {"call_id": part.id, "name": part.name, "input": part.arguments}
            return {"type": "custom_tool_call", "id": its_id, "status": status, **called}
        case ToolUse():
            called = {"call_id": part.id, "name": part.name, "arguments": part.arguments}
            return {"type": "function_call", "id": its_id, "status": status, **called}
        case _:
            shown = {"type": "message", "id": its_id, "status": status, "role": "assistant"}
            return {**shown, "content": [content(part)]}


def content(part: Text | Declined) -> dict[str, Any]:
    """Return what a message says."""
    if isinstance(part, Declined):
        return {"type": "refusal", "refusal": part.text}
    return {"type": "output_text", "text": part.text, "annotations": [], "logprobs": []}
