"""Calls of Chat Completions, as they are judged. Pure.

Read as leniently as the servers and clients write: arguments as objects, content in parts, calls
of the older form, pieces without an index.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import Raw, Struct

from telemetry.wire.reading import read_object
from telemetry.wire.usage import reasoning_of
from workers.observer.shapes import (
    MAX_CALLS,
    MAX_CHOICES,
    Choice,
    Message,
    ReadAnswer,
    ReadRequest,
    ToolCall,
    arguments_of,
    as_text,
    text_of,
)
from workers.observer.whole_streams import PROBE, Piecewise, events_in


class _Function(Struct):
    name: str = ""
    parameters: Raw = Raw()


class _Tool(Struct):
    function: _Function | None = None
    custom: _Function | None = None


class _Schema(Struct):
    schema: Raw = Raw()


class _Format(Struct):
    type: str = ""
    json_schema: _Schema | None = None


class _Message(Struct):
    """`reasoning_content` and marks of clients are not read."""

    role: Any = None
    content: Any = None
    tool_calls: Any = None
    function_call: Any = None
    tool_call_id: Any = None
    name: Any = None
    refusal: Any = None


class _Body(Struct):
    messages: list[_Message]
    model: Any = None
    tools: list[_Tool] | None = None
    functions: list[_Function] | None = None
    tool_choice: Any = None
    function_call: Any = None
    response_format: _Format | None = None
    max_tokens: Any = None
    max_completion_tokens: Any = None
    n: Any = None
    seed: Any = None
    temperature: Any = None
    top_p: Any = None
    stop: Any = None


class _Said(Struct):
    """A message of an answer, or a piece of one, as far as it is judged."""

    content: Any = None
    refusal: Any = None
    reasoning: Any = None
    reasoning_content: Any = None
    tool_calls: Any = None
    function_call: Any = None
    audio: Any = None
    images: Any = None


class _ChoicePart(Struct):
    index: Any = 0
    message: _Said | None = None
    delta: _Said | None = None
    finish_reason: Any = None


class _Part(Struct):
    """An answer, or one event of a stream."""

    choices: list[_ChoicePart] | None = None
    usage: Any = None
    error: Any = None


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


_BODY = msgspec.json.Decoder(_Body)
_PART = msgspec.json.Decoder(_Part)
_PARTS = msgspec.json.Decoder(list[_Part])
_ROLES = {"developer": "system", "function": "tool"}
"""Other names of the same."""


def read_request(body: bytes) -> ReadRequest:
    """Return what is read of a request.

    Raises:
        msgspec.DecodeError: it is none of this dialect.
    """
    read = _BODY.decode(body)
    form, tools = read.response_format, read.tools or []
    is_chosen = read.tool_choice is not None or read.function_call is not None
    choice = (read.tool_choice, read.function_call) if is_chosen else None
    return ReadRequest(
        messages=[_message(message) for message in read.messages],
        tools=dict(_offered(read)) if tools or read.functions else {},
        n_tools=len(tools) + len(read.functions or ()),
        has_own_tools=bool(tools) and any(t.function is None and t.custom is None for t in tools),
        choice=choice,
        demanded=_demanded(read) if choice else None,
        forbids_tools=read.tool_choice == "none",
        form=form.type if form else "",
        schema=bytes(form.json_schema.schema) if form and form.json_schema else b"",
        limit=read.max_completion_tokens or read.max_tokens,
        has_stops=bool(read.stop),
        model=read.model,
        temperature=read.temperature,
        top_p=read.top_p,
        varies=(isinstance(read.n, int) and read.n > 1) or read.seed is not None,
    )


def read_answer(body: bytes, *, streamed: bool) -> ReadAnswer | None:
    """Return what is read of an answer, whole or as the text of a stream; None where it is none."""
    if streamed:
        return _read_parts(events_in(body, _PARTS.decode, _parse, PIECEWISE))
    part = _parse(body)
    return _plain(part) or _read_parts((part,))


def _plain(part: _Part | None) -> ReadAnswer | None:
    """Return what is read of an answer that is one text and nothing else; None of any other."""
    if part is None or part.error is not None or not part.choices or len(part.choices) > 1:
        return None
    choice = part.choices[0]
    said, finish = choice.message, choice.finish_reason
    if said is None or type(said.content) is not str or type(finish) is not str:
        return None
    if said.tool_calls or said.refusal or said.reasoning or said.reasoning_content:
        return None
    if said.function_call or said.audio or said.images:
        return None
    return ReadAnswer(
        (Choice(said.content, "", (), finish, False, False),), reasoning_of(part.usage)
    )


def _read_parts(parts: Iterable[_Part | None]) -> ReadAnswer | None:
    choices: dict[Any, _Pieces] = {}
    reasoning_tokens = 0
    for part in parts:
        if part is None or part.error is not None:
            return None
        if part.usage is not None:
            reasoning_tokens = reasoning_of(part.usage) or reasoning_tokens
        for choice in part.choices or ():
            index = choice.index if isinstance(choice.index, int) else 0
            pieces = choices.get(index)
            if pieces is None:
                pieces = choices[index] = _Pieces()
            _add(pieces, choice)
        if len(choices) > MAX_CHOICES:
            return None
    if not choices or any(len(c.calls) > MAX_CALLS for c in choices.values()):
        return None
    return ReadAnswer(tuple(_whole(c) for _, c in sorted(choices.items())), reasoning_tokens)


def _adds_alone(data: bytes) -> bool:
    """Return whether an event does no more than to add its piece to what is said, or thought."""
    try:
        part = _PART.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return False
    if part.error is not None or part.choices is None or len(part.choices) != 1:
        return False
    choice = part.choices[0]
    return choice.message is None and choice.delta in _PROBES


_PROBES = (_Said(content=PROBE), _Said(reasoning_content=PROBE), _Said(reasoning=PROBE))
PIECEWISE = Piecewise(
    re.compile(rb'"(?:content|reasoning_content|reasoning)": ?"(?!")'), _adds_alone
)


def _parse(data: bytes) -> _Part | None:
    return read_object(_PART, data, otherwise=_Part)


def _message(message: _Message) -> Message:
    role, content, calls = (
        message.role,
        message.content,
        message.tool_calls or message.function_call,
    )
    is_plain = type(content) is str and type(role) is str and not calls
    if (
        is_plain
        and message.tool_call_id is None
        and message.name is None
        and message.refusal is None
    ):
        return Message(_ROLES.get(role, role), content)
    text, others = text_of(content)
    role = as_text(role)
    if role == "assistant":
        made = _calls(message.tool_calls, message.function_call) if calls else []
        refusal = as_text(message.refusal)
        return Message(role, text, others, made, "", as_text(message.name), refusal)
    role = _ROLES.get(role, role)
    return Message(role, text, others, [], as_text(message.tool_call_id), as_text(message.name))


def _calls(tool_calls: Any, function_call: Any) -> list[ToolCall]:
    """Return the calls in a message of today's or of the older form."""
    found = []
    for raw in tool_calls if isinstance(tool_calls, list) else ():
        if not isinstance(raw, dict):
            continue
        if isinstance(custom := raw.get("custom"), dict):
            found.append(ToolCall(as_text(raw.get("id")), *_named(custom, "input"), is_custom=True))
        elif isinstance(function := raw.get("function"), dict):
            found.append(ToolCall(as_text(raw.get("id")), *_named(function, "arguments")))
    if isinstance(function_call, dict):
        found.append(ToolCall("", *_named(function_call, "arguments")))
    return found


def _named(function: dict[str, Any], key: str) -> tuple[str, str]:
    return as_text(function.get("name")), arguments_of(function.get(key))


def _offered(body: _Body) -> Iterator[tuple[str, bytes | None]]:
    for tool in body.tools or ():
        if tool.custom is not None:
            yield tool.custom.name, None
        elif tool.function is not None:
            yield tool.function.name, bytes(tool.function.parameters)
    for function in body.functions or ():
        yield function.name, bytes(function.parameters)


def _demanded(body: _Body) -> frozenset[str] | None:
    choice: Any = body.tool_choice
    if choice in ("required", "any"):
        return frozenset()
    if isinstance(body.function_call, dict) and choice is None:
        choice = {"function": body.function_call}
    if not isinstance(choice, dict):
        return None
    allowed = choice.get("allowed_tools")
    if isinstance(allowed, dict):
        tools = allowed.get("tools")
        named = tools if isinstance(tools, list) and allowed.get("mode") == "required" else []
    else:
        named = [choice]
    return frozenset(name for tool in named for name in _names(tool)) or None


def _names(tool: Any) -> Iterator[str]:
    for kind in ("function", "custom"):
        inner = tool.get(kind) if isinstance(tool, dict) else None
        name = inner.get("name") if isinstance(inner, dict) else None
        if isinstance(name, str) and name:
            yield name


def _add(pieces: _Pieces, choice: _ChoicePart) -> None:
    if choice.finish_reason and isinstance(choice.finish_reason, str):
        pieces.finish = choice.finish_reason
    said = choice.message or choice.delta
    if said is None:
        return
    if type(said.content) is str:
        pieces.texts.append(said.content)
    elif said.content is not None:
        text, others = text_of(said.content)
        pieces.texts.append(text)
        # Some servers put their reasoning among the parts of the content.
        thinks = [isinstance(p, dict) and p.get("type") == "thinking" for p in others]
        pieces.reasoned |= any(thinks)
        pieces.has_media |= not all(thinks)
    if said.reasoning_content or said.reasoning:
        pieces.reasoned = True
    if said.audio or said.images:
        pieces.has_media = True
    if said.refusal and isinstance(said.refusal, str):
        pieces.refusals.append(said.refusal)
    if said.tool_calls and isinstance(said.tool_calls, list):
        for call in said.tool_calls:
            if isinstance(call, dict):
                _add_call(pieces, call, whole=choice.message is not None)
    if said.function_call and isinstance(said.function_call, dict):
        legacy = {"index": "legacy", "function": said.function_call}
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
        calls=tuple(_calls(calls, None)),
        finish=pieces.finish,
        reasoned=pieces.reasoned,
        has_media=pieces.has_media,
    )
