"""Which tools a body offers, by name, in any dialect: for rules that name those which may be.

What has no name goes by its type, and what cannot be read by a name that only `*` means.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec

UNREAD = "unread"
SEARCHES = ("web_search_options", "search_parameters", "enable_search")
"""Fields that have a provider search as a tool would."""
SEARCH = "web_search"
DEEPEST = 8


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
    if any(call.get(field) for field in SEARCHES):
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
