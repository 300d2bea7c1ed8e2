"""What models thought, told by what only its maker can check.

A thought is known by its *mark*: a digest of its signature, of what is encrypted in it, or, where
it has neither, of its words or its id. A mark says who may be sent the thought again, and nothing
of what was thought.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from typing import Any

import msgspec

MARK_BYTES = 16
Signs = re.Pattern[bytes]
IN_MESSAGES: Signs = re.compile(b'thinking"')
IN_RESPONSES: Signs = re.compile(b'"(?:reasoning|encrypted_content)"')
IN_COMPACT: Signs = re.compile(b'"encrypted_content"')
IN_CHAT: Signs = re.compile(b'"(?:thought_signature|reasoning_details|thinking_blocks)"')
"""By dialect: one of these stands in whatever holds a thought."""
NOT_THOUGHT = tuple(
    b'{"%b":%b"%b"' % (name, space, value)
    for name, values in (
        (b"role", (b"user", b"tool", b"system", b"developer")),
        (b"type", (b"function_call_output", b"custom_tool_call_output")),
    )
    for value in values
    for space in (b"", b" ")
)
"""How messages and items begin that no model wrote: most of a conversation's bytes, and not
looked through. What begins otherwise is."""
SIGNED_LISTS = ("reasoning_details", "thinking_blocks")
"""Of a message of Chat Completions: lists of thoughts (OpenRouter; LiteLLM)."""


def mark_of(text: str) -> str:
    """Return the mark of a thought by what only its maker can check: 32 hexadecimal digits."""
    return blake2b(text.encode(errors="surrogatepass"), digest_size=MARK_BYTES).hexdigest()


def may_hold(said: bytes, signs: Signs) -> bool:
    """Return whether there may be a thought in JSON; most often not, and it is not read."""
    return not said.startswith(NOT_THOUGHT) and signs.search(said) is not None


def marks_in(
    said: Iterable[bytes], signs: Signs, marks_of: Callable[[Any], Iterator[str]]
) -> tuple[str, ...]:
    """Return the marks in messages or items, as JSON, in their order.

    Args:
        signs: one of which stands in whatever holds a thought.
        marks_of: yields the marks in one, once it was read.
    """
    holders = []
    for one in said:  # as `may_hold`, which is not called: there may be hundreds
        if not one.startswith(NOT_THOUGHT) and signs.search(one) is not None:
            holders.append(one)
    if not holders:
        return ()  # most often
    return tuple(mark for one in holders for mark in marks_of(read_thought(one)))


def read_thought(said: bytes) -> Any:
    """Return what is written in JSON; None where it cannot be read, and so is nobody's thought."""
    try:
        return msgspec.json.decode(said)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def block_mark(block: Any) -> str | None:
    """Return the mark of a block of Messages; None where it is no thought."""
    if not isinstance(block, dict):
        return None
    if block.get("type") == "thinking":
        return _mark(block.get("signature") or block.get("thinking"))
    return _mark(block.get("data")) if block.get("type") == "redacted_thinking" else None


def block_marks(message: Any) -> Iterator[str]:
    """Yield the marks in a message of Messages, or in an answer."""
    content = message.get("content") if isinstance(message, dict) else None
    for block in content if isinstance(content, list) else ():
        mark = block_mark(block)
        if mark is not None:
            yield mark


def item_mark(item: Any) -> str | None:
    """Return the mark of an item of Responses; None where there is nothing of its maker's in it."""
    if not isinstance(item, dict):
        return None
    encrypted = item.get("encrypted_content")
    return _mark(encrypted or (item.get("id") if item.get("type") == "reasoning" else None))


def item_marks(item: Any) -> Iterator[str]:
    """Yield the mark of an item, if it has one."""
    mark = item_mark(item)
    if mark is not None:
        yield mark


def compact_marks(item: Any) -> Iterator[str]:
    """Yield the mark of an item that holds what went before it, in the place of all of that."""
    kind = item.get("type") if isinstance(item, dict) else None
    if isinstance(kind, str) and kind.startswith("compaction"):
        yield from item_marks(item)


def message_marks(message: Any) -> Iterator[str]:
    """Yield the marks in a message of Chat Completions, or in a piece of one."""
    if not isinstance(message, dict):
        return
    calls = message.get("tool_calls")
    for holder in (message, *(calls if isinstance(calls, list) else ())):
        mark = extra_mark(holder.get("extra_content") if isinstance(holder, dict) else None)
        if mark is not None:
            yield mark
    for name in SIGNED_LISTS:
        yield from signed_marks(message.get(name))


def extra_mark(extra: Any) -> str | None:
    """Return the mark of what Google signs of a message, or of a call of a tool."""
    google = extra.get("google") if isinstance(extra, dict) else None
    return _mark(google.get("thought_signature")) if isinstance(google, dict) else None


def signed_marks(thoughts: Any) -> Iterator[str]:
    """Yield the marks in a list of thoughts."""
    for one in thoughts if isinstance(thoughts, list) else ():
        mark = _mark(one.get("signature") or one.get("data")) if isinstance(one, dict) else None
        if mark is not None:
            yield mark


def _mark(value: Any) -> str | None:
    return mark_of(value) if isinstance(value, str) and value else None
