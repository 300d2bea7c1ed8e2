"""Calls of Anthropic's Messages, as they are judged. Pure.

A user's message may hold the results of tools, a user's words and an agent's reminders at once:
each is a message of its own here, so that only words that a person may have typed are a user's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Raw, Struct

from telemetry.wire.messages import MessagesEvent, parse_messages_answer, parse_messages_event
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
    text_of,
)
from workers.observer.whole_streams import PROBE, Piecewise, events_in

FINISHES = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "error",  # the provider's own tools are not done: the answer is still to come
}
THOUGHTS = frozenset({"thinking", "redacted_thinking"})
PIECES = {"text_delta": "text", "input_json_delta": "partial_json", "thinking_delta": "thinking"}
"""Where the text is, by type of a block's piece."""
REMINDER = "<system-reminder>"
"""How Claude Code begins what it adds to a user's message by itself."""
BILLING = "x-anthropic-billing-header:"
"""How Claude Code begins a part of the system prompt that is another one at each call."""


NONE = b"null"


class _Tool(Struct):
    name: Any = None
    type: Any = None
    input_schema: Raw = Raw(NONE)  # one of the provider's design has none


class _Format(Struct):
    type: str = ""
    schema: Raw = Raw()


class _Config(Struct):
    format: _Format | None = None


class _Message(Struct):
    role: Any = None
    content: Any = None


class _Body(Struct):
    messages: list[_Message]
    system: Any = None
    model: Any = None
    tools: list[_Tool] | None = None
    tool_choice: Any = None
    output_format: _Format | None = None
    output_config: _Config | None = None
    max_tokens: Any = None
    stop_sequences: Any = None
    temperature: Any = None
    top_p: Any = None
    thread: Any = None


_BODY = msgspec.json.Decoder(_Body)
_EVENT = msgspec.json.Decoder(MessagesEvent)
_EVENTS = msgspec.json.Decoder(list[MessagesEvent])


def read_request(body: bytes) -> ReadRequest:
    """Return what is read of a request.

    Raises:
        msgspec.DecodeError: it is none of this dialect.
    """
    read = _BODY.decode(body)
    form = read.output_format or (read.output_config.format if read.output_config else None)
    choice = read.tool_choice if isinstance(read.tool_choice, dict) else {}
    known = [tool for tool in read.tools or () if bytes(tool.input_schema) != NONE]
    tools = {as_text(tool.name): bytes(tool.input_schema) for tool in known}
    thread = read.thread if isinstance(read.thread, dict) else {}
    before = as_text(thread.get("previous_message_id"))
    holds_tools = bool(before) and read.tools is None  # the provider has them, with the turns
    return ReadRequest(
        messages=[*_system(read.system), *(m for raw in read.messages for m in _messages(raw))],
        tools={**tools},
        n_tools=len(read.tools or ()),
        has_own_tools=holds_tools or len(known) < len(read.tools or ()),
        choice=(choice.get("type"), choice.get("name")) if choice else None,
        demanded=_demanded(choice, tools),
        forbids_tools=choice.get("type") == "none",
        form=form.type if form else "",
        schema=bytes(form.schema) if form else b"",
        limit=read.max_tokens,
        has_stops=bool(read.stop_sequences),
        model=read.model,
        temperature=read.temperature,
        top_p=read.top_p,
        goes_on_from=before,
        is_partial=bool(before),
    )


def read_answer(body: bytes, *, streamed: bool) -> ReadAnswer | None:
    """Return what is read of an answer, whole or as the text of a stream; None where it is none."""
    if streamed:
        return _read_stream(events_in(body, _EVENTS.decode, parse_messages_event, PIECEWISE))
    answer = parse_messages_answer(body)
    if answer is None:
        return None
    return _answer(answer.content, answer.stop_reason, answer.usage)


def _system(content: Any) -> Iterator[Message]:
    if isinstance(content, list):
        content = [part for part in content if not _begins(part, BILLING)]
    if content:
        text, others = text_of(content)
        yield Message("system", text, others)


def _messages(message: _Message) -> Iterator[Message]:
    role, content = as_text(message.role), message.content
    if role == "assistant":
        text, others, calls, _ = _said(content)
        yield Message(role, text, others, calls)
        return
    rest: Any = content
    if isinstance(content, list):
        rest = []
        for part in content:
            if isinstance(part, dict) and part.get("type") == "tool_result":
                yield _result(part)
            elif _begins(part, REMINDER):
                yield Message("system", part["text"])
            else:
                rest.append(part)
    if rest or not content:
        text, others = text_of(rest)
        yield Message(role, text, others)


def _result(part: dict[str, Any]) -> Message:
    text, others = text_of(part.get("content"))
    call_id, failed = as_text(part.get("tool_use_id")), part.get("is_error")
    is_error = failed if isinstance(failed, bool) else None
    return Message("tool", text, others, call_id=call_id, is_error=is_error)


def _said(content: Any) -> tuple[str, list[Any], list[ToolCall], bool]:
    """Return an assistant's text, parts that are none, tool calls, and whether it reasoned."""
    if not isinstance(content, list):
        return *text_of(content), [], False
    rest, calls, reasoned = [], [], False
    for part in content:
        kind = as_text(part.get("type")) if isinstance(part, dict) else ""
        if kind == "tool_use":
            name, arguments = as_text(part.get("name")), arguments_of(part.get("input"))
            calls.append(ToolCall(as_text(part.get("id")), name, arguments))
        elif kind in THOUGHTS:
            reasoned = True
        else:
            rest.append(part)
    return *text_of(rest), calls, reasoned


def _demanded(choice: dict[str, Any], offered: dict[str, bytes]) -> frozenset[str] | None:
    if choice.get("type") == "any":
        return frozenset()
    name = choice.get("name")
    # A tool that the provider runs is called without a call that anybody has to answer.
    named = choice.get("type") == "tool" and isinstance(name, str) and name in offered
    return frozenset((name,)) if named and isinstance(name, str) else None


def _read_stream(events: Iterable[MessagesEvent | None]) -> ReadAnswer | None:
    blocks: dict[Any, dict[str, Any]] = {}
    pieces: dict[Any, list[str]] = {}
    stop_reason: Any = None
    usage: Any = None
    for event in events:
        if event is None or event.is_error:
            return None
        if event.type == "content_block_start" and event.content_block is not None:
            blocks[str(event.index)] = event.content_block
        elif event.type == "content_block_delta":
            if str(event.index) not in blocks:
                return None
            pieces.setdefault(str(event.index), []).append(_piece(event))
        elif event.type == "message_delta":
            stop_reason = event.stop_reason or stop_reason
            usage = event.usage or usage
    if not stop_reason:
        return None  # it never came to its end
    content = [_joined(block, pieces.get(index, [])) for index, block in blocks.items()]
    return _answer(content, stop_reason, usage)


def _piece(event: MessagesEvent) -> str:
    delta = event.delta or {}
    return as_text(delta.get(PIECES.get(as_text(delta.get("type")), "")))


def _adds_alone(data: bytes) -> bool:
    """Return whether an event does no more than to add its piece to its block."""
    try:
        event = _EVENT.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return False
    is_piece = event.type == "content_block_delta" and event.content_block is None
    return is_piece and not event.is_error and _piece(event) == PROBE


PIECEWISE = Piecewise(re.compile(rb'"(?:text|thinking|partial_json)": ?"(?!")'), _adds_alone)


def _joined(block: dict[str, Any], pieces: list[str]) -> dict[str, Any]:
    """Return a block with what came after its begin."""
    said = "".join(pieces)
    if block.get("type") == "tool_use":
        return block | ({"input": said} if said else {})
    return block | ({"text": as_text(block.get("text")) + said} if "text" in block else {})


def _answer(content: Any, stop_reason: Any, usage: Any) -> ReadAnswer | None:
    text, others, calls, reasoned = _said(content)
    if len(calls) > MAX_CALLS:
        return None
    reason = as_text(stop_reason)
    choice = Choice(
        text=text,
        refusal="",
        calls=tuple(calls),
        finish=FINISHES.get(reason, reason),
        reasoned=reasoned,
        has_media=bool(others),
    )
    return ReadAnswer((choice,), reasoning_of(usage))


def _begins(part: Any, mark: str) -> bool:
    """Return whether a part is a text that begins like this."""
    text = part.get("text") if isinstance(part, dict) else None
    return isinstance(text, str) and text.startswith(mark)
