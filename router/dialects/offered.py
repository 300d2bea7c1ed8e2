"""Which tools a body offers, by name, in any dialect: for rules that name those which may be.

What has no name goes by its type, and what cannot be read by a name that only `*` means. Rules that
mark tasks see the same tools, but for what cannot be read (`tools_in`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

T = TypeVar("T")
UNREAD = "unread"
SEARCHES = ("web_search_options", "search_parameters", "enable_search")
"""Fields that have a provider search as a tool would."""
SEARCH = "web_search"
TOOLSET = "mcp_toolset"
"""An entry that stands for what a server of `mcp_servers` has."""
DEEPEST = 8


class ToolsOffered(Struct, frozen=True):
    """Names of tools, and of groups of tools, in their order."""

    names: tuple[str, ...] = ()
    groups: int = 0  # of these names; what is in a group is there by itself


class _Tool(Struct):
    """What is read of a tool: its schemas, which are most of it, are passed over."""

    name: Any = None
    type: Any = None
    function: Raw = Raw(b"null")
    custom: Raw = Raw(b"null")
    tools: Raw | UnsetType = UNSET


class _Named(Struct):
    name: Any = None


_LIST = msgspec.json.Decoder(list[Raw])
_TOOL = msgspec.json.Decoder(_Tool)
_NAMED = msgspec.json.Decoder(_Named)


def offered_tools(body: bytes) -> list[str]:
    """Return the names of all tools in a body; `unread` where it is no JSON object."""
    if not body:
        return []
    try:
        encoding = json.detect_encoding(body)
        top = msgspec.json.decode(body if encoding == "utf-8" else body.decode(encoding).encode())
    except (msgspec.DecodeError, ValueError, RecursionError):
        return [UNREAD]
    return list(_of_call(top)) if isinstance(top, dict) else [UNREAD]


def _of_call(call: dict[str, Any]) -> Iterator[str]:
    yield from _of_tools(call.get("tools"))
    yield from _of_tools(call.get("functions"))
    yield from _of_tools(call.get("mcp_servers"))
    if any(is_wanted(call.get(field)) for field in SEARCHES):
        yield SEARCH
    batched = call.get("requests")
    for one in batched if isinstance(batched, list) else ():
        params = one.get("params") if isinstance(one, dict) else None
        if isinstance(params, dict):
            yield from _of_call(params)


def _of_tools(tools: Any, depth: int = 0) -> Iterator[str]:
    if tools is None:
        return
    if not isinstance(tools, list) or depth > DEEPEST:
        yield UNREAD
        return
    for tool in tools:
        if not isinstance(tool, dict):
            yield UNREAD
            continue
        if "tools" in tool:  # a group of them
            yield from _of_tools(tool["tools"], depth + 1)
        inner = [one for key in ("function", "custom") if isinstance(one := tool.get(key), dict)]
        said = [tool.get("name"), *(one.get("name") for one in inner), tool.get("type")]
        yield next((name for name in said if isinstance(name, str) and name), UNREAD)


def is_wanted(search: Any) -> bool:
    """Return whether a field asks for a search: an empty object does, with all its defaults."""
    is_off = isinstance(search, dict) and search.get("mode") == "off"
    return not (search is None or search is False or is_off)


def tools_in(*lists: Raw, searches: bool = False) -> ToolsOffered:
    """Return the tools in fields of a body, as far as they can be read.

    Args:
        lists: of tools, or of servers that have some.
        searches: the provider is asked to search besides.
    """
    names: list[str] = []
    groups = sum(_note(raw, names, 0) for raw in lists)
    if searches:
        names.append(SEARCH)
    return ToolsOffered(tuple(names), groups)


def _note(raw: Raw, names: list[str], depth: int) -> int:
    """Add the names in a list of tools; return how many of them are of groups."""
    tools = _read(_LIST, raw) if depth <= DEEPEST else None
    groups = 0
    for written in tools or ():
        tool = _read(_TOOL, written)
        if tool is None:
            continue
        if tool.tools is not UNSET:
            groups += _note(tool.tools, names, depth + 1)
        groups += tool.tools is not UNSET or tool.type == TOOLSET
        inner = (_read(_NAMED, one) for one in (tool.function, tool.custom))
        said = (tool.name, *(one.name for one in inner if one), tool.type)
        names.append(next((name for name in said if isinstance(name, str) and name), ""))
    return groups


def _read(decoder: msgspec.json.Decoder[T], raw: Raw) -> T | None:
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
