"""Tools, and what calls them: what every dialect asks of them, and what an endpoint lets go."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from router.endpoints.tool_types import undated
from router.translation.fields import SHOWN, Nothing, StrictFields
from router.translation.prompt import (
    Choosing,
    CustomTool,
    Manner,
    Prompt,
    ProviderTool,
    Talk,
    Tool,
    ToolChoice,
    ToolUse,
    Untranslatable,
)

NAME = re.compile(r"[a-zA-Z0-9_-]+")
INVALID = "INVALID_JSON"
"""Under this name lies what a tool is called with where it is no object: the name that Anthropic
gives for that. The tool's schema then refuses it, and the model sees what it said."""
TAKES_NOTHING = {"type": "object", "properties": {}}
CALLER: Nothing = {"caller": ({"type": "direct"},), "namespace": (), "toolset_name": ()}
"""Of a call and of its result: the model itself made it."""
PLAIN: Nothing = {"allowed_callers": (["direct"],)}
"""Of a tool: the model itself calls it, and knows it from the beginning."""


def provider_tool(kind: str) -> ProviderTool:
    """Return a tool that the provider runs, by its type."""
    return ProviderTool(undated(kind))


def schema_of(fields: StrictFields, name: str) -> dict[str, Any]:
    """Return what a tool takes; without a word about it, that is nothing."""
    return fields.mapping(name) or TAKES_NOTHING


def let_go(prompt: Prompt, manner: Manner) -> frozenset[str]:
    """Return what an endpoint lets go of a request, by name.

    Raises:
        Untranslatable: it asks for more that has no counterpart.
    """
    if prompt.is_kept and "store" not in manner.drop:
        why = "the answer would not be kept: send store: false, or let the endpoint drop it"
        raise Untranslatable("store", f"{why} (translate.drop)")
    for tool in prompt.provider_tools:
        if tool.type not in manner.drop:
            why = "is run by the provider; an endpoint may drop it (translate.drop)"
            raise Untranslatable("tools", f"{tool.type[:SHOWN]} {why}")
    dropped = {f"tools.{tool.type}" for tool in prompt.provider_tools}
    return frozenset(dropped | ({"store"} if prompt.is_kept else set()))


def choice_of(prompt: Prompt) -> ToolChoice | None:
    """Return whether a tool must be called; None where there are no tools to choose among.

    Raises:
        Untranslatable: it must be one that is not carried.
    """
    choice = prompt.choice
    if choice is None or choice.choosing in (Choosing.AUTO, Choosing.NONE):
        return choice if prompt.tools else None
    if not prompt.tools:
        raise Untranslatable("tool_choice", "demands a tool, and none is carried")
    if choice.name is not None and choice.name not in {tool.name for tool in prompt.tools}:
        why = f"demands {choice.name[:SHOWN]!r}, which is not carried"
        raise Untranslatable("tool_choice", why)
    return choice


def require_names(prompt: Prompt, longest: int) -> None:
    """Refuse names of tools that a dialect does not take.

    Raises:
        Untranslatable: one has other characters than letters, digits, _ and -, or too many.
    """
    for name in _names(prompt.tools, prompt.turns):
        if len(name) > longest or not NAME.fullmatch(name):
            why = f"{name[:SHOWN]!r} is no name there: up to {longest} of letters, digits, _ and -"
            raise Untranslatable("tools", why)


def _names(tools: tuple[Tool | CustomTool, ...], turns: tuple[Talk, ...]) -> Iterator[str]:
    yield from (tool.name for tool in tools)
    for turn in turns:
        yield from (part.name for part in turn.parts if isinstance(part, ToolUse))
