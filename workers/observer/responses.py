"""Calls of OpenAI's Responses, as they are judged. Pure.

An answer is a run of items: text, calls, thoughts, what the provider's own tools did. In a later
request the same run is one turn of the assistant. Turns may also lie at the provider, under an id.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Raw, Struct

from telemetry.wire.responses import (
    ResponsesAnswer,
    ResponsesEvent,
    parse_response,
    parse_responses_event,
)
from telemetry.wire.usage import reasoning_of
from workers.observer.shapes import (
    MAX_CALLS,
    Choice,
    Message,
    ReadAnswer,
    ReadRequest,
    ToolCall,
    arguments_of,
    as_text,
    bare,
    text_of,
)
from workers.observer.whole_streams import events_in

CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
"""Items that are calls which the client answers, and where their arguments are."""
OFFERED = ("function", "custom")
RESULTS = ("_output", "_response")
"""How types of items end that a client sends back."""
CUTS = {"max_output_tokens": "length", "content_filter": "content_filter"}
OF_ONE_TIME = frozenset({"id", "status"})
"""What clients drop when they send an item back."""


class _Tool(Struct):
    type: Any = None
    name: Any = None
    parameters: Raw = Raw()
    tools: list[_Tool] | None = None  # of a namespace


class _Format(Struct):
    type: str = ""
    schema: Raw = Raw()


class _Text(Struct):
    format: _Format | None = None


class _Body(Struct):
    input: Any = None
    instructions: Any = None
    prompt: Any = None
    model: Any = None
    tools: list[_Tool] | None = None
    tool_choice: Any = None
    text: _Text | None = None
    max_output_tokens: Any = None
    temperature: Any = None
    top_p: Any = None
    previous_response_id: Any = None
    conversation: Any = None


_BODY = msgspec.json.Decoder(_Body)
_EVENTS = msgspec.json.Decoder(list[ResponsesEvent])


def read_request(body: bytes) -> ReadRequest:
    """Return what is read of a request.

    Raises:
        msgspec.DecodeError: it is none of this dialect.
    """
    read = _BODY.decode(body)
    form = read.text.format if read.text else None
    tools = dict(_offered(read.tools))
    inner = read.conversation.get("id") if isinstance(read.conversation, dict) else None
    return ReadRequest(
        messages=[*_asked_first(read), *_messages(read.input)],
        tools=tools,
        n_tools=max(len(read.tools or ()), len(tools)),
        has_own_tools=any(t.type not in OFFERED for t in read.tools or ()),
        choice=bare(read.tool_choice),
        demanded=_demanded(read.tool_choice),
        forbids_tools=read.tool_choice == "none",
        form=form.type if form else "",
        schema=bytes(form.schema) if form else b"",
        limit=read.max_output_tokens,
        model=read.model,
        temperature=read.temperature,
        top_p=read.top_p,
        goes_on_from=as_text(read.previous_response_id),
        adds_to=as_text(inner or read.conversation),
        is_partial=bool(read.previous_response_id or read.conversation or _refers(read.input)),
    )


def read_answer(body: bytes, *, streamed: bool) -> ReadAnswer | None:
    """Return what is read of an answer, whole or as the text of a stream; None where it is none."""
    if streamed:
        return _read_stream(events_in(body, _EVENTS.decode, parse_responses_event))
    answer = parse_response(body)
    return None if answer is None else _answer(answer, answer.output)


def _asked_first(body: _Body) -> Iterator[Message]:
    if body.instructions:
        text, others = text_of(body.instructions)
        yield Message("system", text, others)
    if body.prompt is not None:  # what it says lies at the provider
        yield Message("system", "", [bare(body.prompt)])


def _messages(items: Any) -> Iterator[Message]:
    if isinstance(items, str):
        yield Message("user", items)
        return
    turn: list[Any] = []
    for item in items if isinstance(items, list) else ():
        if not isinstance(item, dict):
            continue
        role, kind = as_text(item.get("role")), as_text(item.get("type"))
        if role == "assistant" or not (role or kind.endswith(RESULTS)):
            turn.append(item)
            continue
        if turn:
            yield _turn(turn)
            turn = []
        text, others = text_of(item.get("content") if role else item.get("output"))
        role = "system" if role == "developer" else role or "tool"
        yield Message(role, text, others, call_id=as_text(item.get("call_id")))
    if turn:
        yield _turn(turn)


def _refers(items: Any) -> bool:
    """Return whether some items lie at the provider, named here by their ids."""
    items = items if isinstance(items, list) else ()
    return any(isinstance(i, dict) and i.get("type") == "item_reference" for i in items)


def _turn(items: list[Any]) -> Message:
    text, refusal, others, calls, _ = _said(items)
    return Message("assistant", text, others, calls, refusal=refusal)


def _said(items: Any) -> tuple[str, str, list[Any], list[ToolCall], bool]:
    """Return text, refusal, items that are neither, tool calls, and whether there was reasoning."""
    texts, refusals, reasoned = [], [], False
    others: list[Any] = []
    calls: list[ToolCall] = []
    for item in items if isinstance(items, list) else ():
        if not isinstance(item, dict):
            continue
        kind = as_text(item.get("type"))
        if kind in CALLS:
            calls.append(_call(item, kind))
        elif kind == "reasoning":
            reasoned = True
        elif kind in ("message", ""):
            text, parts = text_of(item.get("content"))
            texts.append(text)
            refusals += [as_text(p.get("refusal")) for p in parts if _is_refusal(p)]
            others += [part for part in parts if not _is_refusal(part)]
        elif kind == "item_reference":
            others.append(bare(item))
        else:
            others.append({k: v for k, v in bare(item).items() if k not in OF_ONE_TIME})
    return "".join(texts), "".join(refusals), others, calls, reasoned


def _call(item: dict[str, Any], kind: str) -> ToolCall:
    return ToolCall(
        as_text(item.get("call_id")),
        _within(item.get("namespace"), item.get("name")),
        arguments_of(item.get(CALLS[kind])),
        is_custom=kind == "custom_tool_call",
    )


def _is_refusal(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "refusal"


def _within(namespace: Any, name: Any) -> str:
    """Return by what a tool is known, where two namespaces may each have one of its name."""
    return f"{namespace}.{as_text(name)}" if as_text(namespace) else as_text(name)


def _offered(tools: list[_Tool] | None, within: Any = None) -> Iterator[tuple[str, bytes | None]]:
    for tool in tools or ():
        if tool.type == "namespace" and within is None:
            yield from _offered(tool.tools, as_text(tool.name))
        elif tool.type in OFFERED:
            schema = None if tool.type == "custom" else bytes(tool.parameters)
            yield _within(within, tool.name), schema


def _demanded(choice: Any) -> frozenset[str] | None:
    if choice == "required":
        return frozenset()
    if not isinstance(choice, dict):
        return None
    named: Any = [choice]
    if choice.get("type") == "allowed_tools":
        named = choice.get("tools") if choice.get("mode") == "required" else None
    names = set()
    for tool in named if isinstance(named, list) else ():
        name = tool.get("name") if isinstance(tool, dict) else None
        if not isinstance(name, str) or tool.get("type") not in OFFERED:
            return None  # a tool that the provider runs would do
        names.add(_within(tool.get("namespace"), name))
    return frozenset(names) or None


def _read_stream(events: Iterable[ResponsesEvent | None]) -> ReadAnswer | None:
    done: list[Any] = []
    last: ResponsesAnswer | None = None
    spoke = False
    for event in events:
        if event is None or event.is_error:
            return None
        spoke |= event.says_something
        if event.type == "response.output_item.done":
            done.append(event.item)
        elif event.is_end:
            last = event.response
    if last is None:
        return None
    items = last.output or done  # some servers say it item by item only
    return _answer(last, items if items or not spoke else None)


def _answer(answer: ResponsesAnswer, items: Any) -> ReadAnswer | None:
    if not isinstance(items, list) or answer.status not in (None, "completed", "incomplete"):
        return None  # it failed, was called off, or is still worked on
    text, refusal, others, calls, reasoned = _said(items)
    if len(calls) > MAX_CALLS:
        return None
    finish = "stop"
    if answer.status == "incomplete":
        details = answer.incomplete_details
        reason = details.get("reason") if isinstance(details, dict) else None
        finish = CUTS.get(as_text(reason), "error")
    choice = Choice(
        text=text,
        refusal=refusal,
        calls=tuple(calls),
        finish=finish,
        reasoned=reasoned,
        has_media=bool(others),
    )
    return ReadAnswer((choice,), reasoning_of(answer.usage))
