"""Tools of every kind and dialect: rules that mark tasks see the same ones as those that forbid."""

from __future__ import annotations

import json
from typing import Any

import pytest

from router.dialects.chat import parse as chat
from router.dialects.messages import parse as messages
from router.dialects.offered import offered_tools
from router.dialects.request import Structure
from router.dialects.responses import parse as responses

FUNCTION = {"type": "function", "function": {"name": "run", "parameters": {"type": "object"}}}
CUSTOM = {"type": "custom", "custom": {"name": "patch"}}
SEVEN = [{"type": "function", "name": f"crm_{n}"} for n in range(7)]
NAMESPACE = {"type": "namespace", "name": "crm", "tools": SEVEN}
NAMES = tuple(tool["name"] for tool in SEVEN)
SERVER = {"type": "url", "name": "docs", "url": "https://docs.test/mcp"}


def structure(parse: Any, **fields: Any) -> Structure:
    body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}
    found: Structure = parse(json.dumps(body | {"input": "x"} | fields).encode()).structure(
        read_system=False
    )
    return found


@pytest.mark.parametrize(
    ("parse", "fields", "names", "n"),
    [
        (chat, {"tools": [FUNCTION, CUSTOM]}, ("run", "patch"), 2),
        (chat, {"functions": [{"name": "old"}]}, ("old",), 1),
        (chat, {"tools": [{"type": "web_search"}, {}]}, ("web_search", ""), 2),
        (chat, {"web_search_options": {}}, ("web_search",), 1),
        (chat, {"tools": [FUNCTION], "enable_search": True}, ("run", "web_search"), 2),
        (chat, {"search_parameters": {"mode": "off"}, "enable_search": False}, (), 0),
        (chat, {"tools": [FUNCTION, 7], "functions": "?"}, ("run",), 1),
        (responses, {"tools": [NAMESPACE]}, (*NAMES, "crm"), 7),
        (responses, {"tools": [{"type": "web_search"}, SEVEN[0]]}, ("web_search", "crm_0"), 2),
        (messages, {"tools": [{"name": "read"}]}, ("read",), 1),
        (messages, {"mcp_servers": [SERVER]}, ("docs",), 1),
        (
            messages,
            {"tools": [{"type": "mcp_toolset"}], "mcp_servers": [SERVER]},
            ("mcp_toolset", "docs"),
            1,
        ),
        (messages, {}, (), 0),
    ],
)
def test_rules_of_tasks_see_tools_of_every_kind(
    parse: Any, fields: dict[str, Any], names: tuple[str, ...], n: int
) -> None:
    found = structure(parse, **fields)

    assert (found.tools, found.n_tools) == (names, n)


def test_a_list_of_tools_within_tools_ends() -> None:
    tools: list[Any] = []
    for _ in range(30):
        tools = [{"name": "group", "tools": tools}]

    assert structure(responses, tools=tools).n_tools == 0


def test_a_search_with_all_its_defaults_is_a_tool_that_may_be_forbidden() -> None:
    assert offered_tools(b'{"web_search_options": {}}') == ["web_search"]
    assert offered_tools(b'{"search_parameters": {"mode": "off"}, "enable_search": false}') == []
