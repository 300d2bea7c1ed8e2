"""What the tools of a call keep at its provider, or have it send on.

A tool that is not known to be run by the caller is run by the provider, and counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct

from router.endpoints.entries import Dialect
from router.endpoints.tool_types import (
    CALLERS_OF_ANTHROPIC,
    CALLERS_OF_OPENAI,
    CARRIED,
    GROUPS,
    KEEPING_TOOLS,
    undated,
)
from telemetry.wire.lenient import softened

OF_TOOL = "tool:"
UNKNOWN_TOOL = "tool:unknown"
"""A tool without a type, or with one that is no word."""
RUN_BY_CALLER = {
    Dialect.CHAT: CARRIED,
    Dialect.MESSAGES: CARRIED | CALLERS_OF_ANTHROPIC,
    Dialect.RESPONSES: CARRIED | CALLERS_OF_OPENAI,
}
T = TypeVar("T")
DEEPEST = 4
"""Groups of tools in groups: nobody nests them at all."""
_ESCAPED = re.compile(rb"\\u00[4-7]")
"""An ASCII letter that is written as nobody writes it: a mark may be behind it."""
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class _Tool(Struct):
    type: Any = None
    function: Any = None
    custom: Any = None
    environment: Any = None
    execution: Any = None
    tools: Raw = Raw(b"null")


class _Item(Struct):
    type: Any = None
    tools: Raw = Raw(b"null")


class _Message(Struct):
    content: Any = None


_TOOLS = msgspec.json.Decoder(list[_Tool])
_ITEMS = msgspec.json.Decoder(list[_Item])
_MESSAGES = msgspec.json.Decoder(list[_Message])


def tools_keep(dialect: Dialect, fields: Mapping[str, Raw | bytes]) -> Iterator[str]:
    """Yield what tools keep, by name, also those that a conversation brings later on."""
    yield from _of_tools(dialect, fields.get("tools", b"null"))
    if dialect is Dialect.RESPONSES:
        yield from _of_items(bytes(fields.get("input", b"")))
    elif dialect is Dialect.MESSAGES:
        yield from _of_messages(bytes(fields.get("messages", b"")))


def _of_items(raw: bytes) -> Iterator[str]:
    if raw[:1] != b"[" or not _may_hold(raw, b'"tools"'):
        return
    items = _decoded(_ITEMS, raw)
    if items is None:
        yield UNKNOWN_TOOL
    for item in items or ():
        if item.type != "mcp_list_tools":  # it only says what a server has
            yield from _of_tools(Dialect.RESPONSES, item.tools)


def _of_messages(raw: bytes) -> Iterator[str]:
    if not _may_hold(raw, b'"tool_definition"'):
        return
    messages = _decoded(_MESSAGES, raw)
    if messages is None:
        yield UNKNOWN_TOOL
    for message in messages or ():
        for part in message.content if isinstance(message.content, list) else ():
            tool = part.get("tool") if isinstance(part, dict) else None
            if isinstance(tool, dict) and tool.get("type") == "tool_definition":
                defined = msgspec.json.encode([tool.get("definition")])
                yield from _of_tools(Dialect.MESSAGES, defined)


def _may_hold(raw: bytes, mark: bytes) -> bool:
    return mark in raw or _ESCAPED.search(raw) is not None


def _of_tools(dialect: Dialect, raw: Raw | bytes, depth: int = 0) -> Iterator[str]:
    if bytes(raw) == b"null":
        return
    tools = _decoded(_TOOLS, raw)
    if tools is None:
        yield UNKNOWN_TOOL
        return
    for tool in tools:
        is_group = isinstance(tool.type, str) and tool.type in GROUPS
        if is_group and dialect is Dialect.RESPONSES and depth < DEEPEST:
            yield from _of_tools(dialect, tool.tools, depth + 1)
        elif not _is_run_by_caller(dialect, tool):
            yield _name_of(tool.type)


def _is_run_by_caller(dialect: Dialect, tool: _Tool) -> bool:
    kind, is_responses = tool.type, dialect is Dialect.RESPONSES
    if kind is None:
        has_body = tool.function is not None or tool.custom is not None
        return dialect is Dialect.MESSAGES or (dialect is Dialect.CHAT and has_body)
    if not isinstance(kind, str):
        return False
    if is_responses and kind == "tool_search":
        return bool(tool.execution == "client")
    if is_responses and kind == "shell":
        return isinstance(tool.environment, dict) and tool.environment.get("type") == "local"
    return undated(kind) in RUN_BY_CALLER.get(dialect, CARRIED)


def _name_of(kind: Any) -> str:
    """Return under which name a tool keeps that the provider runs: `openrouter:web_search`, too."""
    if not isinstance(kind, str):
        return UNKNOWN_TOOL
    plain = undated(kind.rpartition(":")[2])
    for known, name in KEEPING_TOOLS.items():
        if plain == known or plain.startswith(f"{known}_"):
            return name
    return unnamed(plain)


def unnamed(kind: Any) -> str:
    """Return the name of what a tool of this type keeps, where that has no name of its own."""
    is_word = isinstance(kind, str) and _WORD.fullmatch(kind)
    return f"{OF_TOOL}{kind}" if is_word else UNKNOWN_TOOL


def _decoded(decoder: msgspec.json.Decoder[list[T]], raw: Raw | bytes) -> list[T] | None:
    """Return a list; None where it is none."""
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        pass
    try:
        return decoder.decode(softened(bytes(raw)))
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None
