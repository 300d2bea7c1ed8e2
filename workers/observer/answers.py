"""What an answer holds, whole or put together from the pieces of a stream. Pure.

What is not fully understood gives no answer at all, so that nothing is judged on half of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from telemetry.wire.chat import ChoicePart, parse_part
from telemetry.wire.sse import payloads
from telemetry.wire.usage import reasoning_of
from workers.observer.conversation import MAX_BODY_BYTES, ToolCall, text_of, tool_calls_of

MAX_CHOICES = 128
MAX_CALLS = 128
"""Per choice; more than this is no answer that anybody acts on."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the alternatives in an answer."""

    text: str
    refusal: str
    calls: tuple[ToolCall, ...]
    finish: str
    reasoned: bool  # reasoning was sent along
    has_media: bool  # sound or images: no text is needed


@dataclass(frozen=True, slots=True)
class ReadAnswer:
    """What is read of an answer."""

    choices: tuple[Choice, ...]
    reasoning_tokens: int


@dataclass(slots=True)
class _Pieces:
    """One choice, as it comes in."""

    texts: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    places: dict[Any, int] = field(default_factory=dict)  # a call's index in the stream → in calls
    finish: str = ""
    reasoned: bool = False
    has_media: bool = False


def parse_answer(body: bytes, *, streamed: bool) -> ReadAnswer | None:
    """Return what is read of an answer; None where it is too long, an error, or garbage."""
    if len(body) > MAX_BODY_BYTES:
        return None
    choices: dict[Any, _Pieces] = {}
    reasoning_tokens = 0
    for data in payloads(body) if streamed and body.lstrip()[:1] != b"{" else (body,):
        part = parse_part(data)
        if part is None or part.error is not None:
            return None
        reasoning_tokens = reasoning_of(part.usage) or reasoning_tokens
        for choice in part.choices or ():
            index = choice.index if isinstance(choice.index, int) else 0
            _add(choices.setdefault(index, _Pieces()), choice)
        if len(choices) > MAX_CHOICES:
            return None
    if not choices or any(len(c.calls) > MAX_CALLS for c in choices.values()):
        return None
    return ReadAnswer(tuple(_whole(c) for _, c in sorted(choices.items())), reasoning_tokens)


def _add(pieces: _Pieces, choice: ChoicePart) -> None:
    if isinstance(choice.finish_reason, str) and choice.finish_reason:
        pieces.finish = choice.finish_reason
    said = choice.message or choice.delta
    if said is None:
        return
    text, others = text_of(said.get("content"))
    pieces.texts.append(text)
    # Some servers put their reasoning among the parts of the content.
    thinks = [isinstance(p, dict) and p.get("type") == "thinking" for p in others]
    reasoning = said.get("reasoning_content") or said.get("reasoning")
    pieces.reasoned = bool(pieces.reasoned or reasoning or any(thinks))
    media = said.get("audio") or said.get("images")
    pieces.has_media = bool(pieces.has_media or media or not all(thinks))
    if isinstance(refusal := said.get("refusal"), str):
        pieces.refusals.append(refusal)
    tool_calls = said.get("tool_calls")
    for call in tool_calls if isinstance(tool_calls, list) else ():
        if isinstance(call, dict):
            _add_call(pieces, call, whole=choice.message is not None)
    if isinstance(function_call := said.get("function_call"), dict):
        legacy = {"index": "legacy", "function": function_call}
        _add_call(pieces, legacy, whole=choice.message is not None)


def _add_call(pieces: _Pieces, piece: dict[str, Any], *, whole: bool) -> None:
    """Join a piece to its call: by index; without one, or where the id is another, it is new."""
    id_, index = piece.get("id"), piece.get("index")
    place = None
    if not whole and isinstance(index, (int, str)):
        place = pieces.places.get(index)
    elif not whole and not id_ and pieces.calls:
        place = len(pieces.calls) - 1
    if place is not None and id_ and pieces.calls[place]["id"] not in ("", id_):
        place = None
    if place is None:
        place = len(pieces.calls)
        pieces.calls.append({"id": "", "kind": "function", "name": "", "pieces": []})
        if isinstance(index, (int, str)):
            pieces.places[index] = place
    call = pieces.calls[place]
    call["id"] = id_ if isinstance(id_, str) and id_ else call["id"]
    for kind, key in (("function", "arguments"), ("custom", "input")):
        if isinstance(said := piece.get(kind), dict):
            call["kind"] = kind
            name, arguments = said.get("name"), said.get(key)
            call["name"] = name if isinstance(name, str) and name else call["name"]
            if arguments is not None:
                call["pieces"].append(arguments)


def _whole(pieces: _Pieces) -> Choice:
    calls = []
    for call in pieces.calls:
        said: Any = "".join(p for p in call["pieces"] if isinstance(p, str))
        if not said and call["pieces"] and isinstance(call["pieces"][-1], dict):
            said = call["pieces"][-1]  # some servers send an object
        key = "input" if call["kind"] == "custom" else "arguments"
        calls.append({"id": call["id"], call["kind"]: {"name": call["name"], key: said}})
    return Choice(
        text="".join(pieces.texts),
        refusal="".join(pieces.refusals),
        calls=tuple(tool_calls_of(calls, None)),
        finish=pieces.finish,
        reasoned=pieces.reasoned,
        has_media=pieces.has_media,
    )
