"""Thoughts that a conversation carries, taken out of it: what is left stays the bytes that came.

Only messages that held one are written anew, and of these only what held it. Each function takes
marks (`telemetry/wire/thoughts.py`) of what is to go.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from router.dialects.body import NONE, listed
from router.dialects.fields import array, encoded, top_level
from router.dialects.turns import message_of
from telemetry.wire.thoughts import (
    IN_CHAT,
    IN_MESSAGES,
    IN_RESPONSES,
    SIGNED_LISTS,
    Signs,
    block_mark,
    block_marks,
    extra_mark,
    item_mark,
    may_hold,
    message_marks,
    read_thought,
    signed_marks,
)

_LIST = msgspec.json.Decoder(list[Raw])
Marks = Collection[str]
MarksOf = Callable[[Any], Iterator[str]]


# -- Messages ------------------------------------------------------------------------------------


def turns_without(messages: Sequence[Raw], marks: Marks) -> list[Raw]:
    """Return messages of Messages without these blocks.

    A turn that held nothing else goes as a whole, for no provider takes an empty one. Those around
    it are of one side then, which Messages takes as one turn.
    """
    out = []
    for raw in messages:
        if not _holds(raw, IN_MESSAGES, block_marks, marks):
            out.append(raw)
            continue
        turn = top_level(bytes(raw))
        blocks = _LIST.decode(turn["content"])
        left = [one for one in blocks if block_mark(read_thought(bytes(one))) not in marks]
        if left:
            out.append(Raw(encoded(turn | {"content": array(left)})))
    return out


def begins_loop(messages: Sequence[Raw]) -> str | None:
    """Return the mark of the thought that led to the tool calls which a call brings results of.

    The turn that they belong to begins after the last thing that the user said.
    """
    begin, has_results = None, False
    for turn in map(message_of, reversed(messages)):
        if turn.role == "assistant" and has_results:
            begin = turn.content
        elif turn.role == "user" and _are_results(turn.content):
            has_results = True
        elif turn.role != "system":
            break
    return block_mark(begin[0]) if isinstance(begin, list) and begin else None


def _are_results(content: Any) -> bool:
    """Return whether there are results of tools in what a side says."""
    return isinstance(content, list) and any(
        isinstance(block, dict) and block.get("type") == "tool_result" for block in content
    )


# -- Responses -----------------------------------------------------------------------------------


def items_without(items: Sequence[Raw], marks: Marks) -> list[Raw]:
    """Return items of Responses without these thoughts, nor ids of what was said after them.

    An answer is a run of items, and its ids belong together: whoever made none of them takes what
    they name without them, and whoever made them asks for the thought that went before.
    """
    out, is_theirs = [], False
    for raw in items:
        said = bytes(raw)
        item = read_thought(said)
        mark = item_mark(item) if may_hold(said, IN_RESPONSES) else None
        if mark is not None:
            is_theirs = mark in marks
            if is_theirs:
                continue
        elif not is_answer(raw):
            is_theirs = False
        if is_theirs and item.get("id") and item.get("type") != "item_reference":
            top = top_level(said)
            del top["id"]
            raw = Raw(encoded(top))
        out.append(raw)
    return out


def is_answer(raw: Raw) -> bool:
    """Return whether an item is of an answer: an assistant's turn, a call, a thought."""
    item = message_of(raw)
    if item.role:
        return bool(item.role == "assistant")
    return isinstance(item.type, str) and not item.type.endswith("_output")


# -- Chat Completions ----------------------------------------------------------------------------


def messages_without(messages: Sequence[Raw], marks: Marks) -> list[Raw]:
    """Return messages of Chat Completions without these signatures, and what they sign."""
    out = []
    for raw in messages:
        if _holds(raw, IN_CHAT, message_marks, marks):
            message = _unsigned(top_level(bytes(raw)), marks)
            calls = listed(_LIST, message.get("tool_calls", NONE))
            if any(_holds(call, IN_CHAT, _call_marks, marks) for call in calls):
                message["tool_calls"] = array([_call_without(call, marks) for call in calls])
            raw = Raw(encoded(message))
        out.append(raw)
    return out


def _call_marks(call: Any) -> Iterator[str]:
    return message_marks({"tool_calls": [call]})


def _call_without(call: Raw, marks: Marks) -> bytes:
    if not _holds(call, IN_CHAT, _call_marks, marks):
        return bytes(call)
    return encoded(_unsigned(top_level(bytes(call)), marks))


def _unsigned(top: dict[str, Raw], marks: Marks) -> dict[str, Raw]:
    """Return a message, or a call of a tool, without what these marks are of."""
    kept = dict(top)
    for name in SIGNED_LISTS:
        if name in top and any(m in marks for m in signed_marks(read_thought(bytes(top[name])))):
            del kept[name]  # one endpoint made all of it
    extra: Any = read_thought(bytes(top.get("extra_content", NONE)))
    if extra_mark(extra) in marks:
        del extra["google"]["thought_signature"]
        left = {name: value for name, value in extra.items() if value != {}}
        if left:
            kept["extra_content"] = Raw(msgspec.json.encode(left))
        else:
            del kept["extra_content"]
    return kept


def _holds(raw: Raw, signs: Signs, marks_of: MarksOf, marks: Marks) -> bool:
    said = bytes(raw)
    return may_hold(said, signs) and any(m in marks for m in marks_of(read_thought(said)))
