"""Types of tools that requests name beside functions: who runs each, and what becomes of content.

One table for all that asks. Types stand here without their dates (`web_search_20250305` is
`web_search`). A type that is in no row is run by the provider, for all that is known.
"""

from __future__ import annotations

import re

KEEPING_TOOLS = {
    "web_search": "web_search",
    "web_search_preview": "web_search",
    "x_search": "web_search",
    "browser_search": "web_search",
    "google_search": "web_search",
    "web_fetch": "web_fetch",
    "file_search": "file_search",
    "collections_search": "file_search",
    "mcp": "mcp",
    "mcp_toolset": "mcp",
    "code_interpreter": "code_execution",
    "code_execution": "code_execution",
    "programmatic_tool_calling": "code_execution",
    "shell": "code_execution",
}
"""Run by providers: under which name each keeps what it is given, or sends it on."""
UNNAMED_TOOLS = frozenset(
    {
        *("image_generation", "advisor", "tool_search"),
        *("tool_search_tool_regex", "tool_search_tool_bm25"),
    }
)
"""Run by providers, and what they do with content has no name of its own."""
CARRIED = frozenset({"function", "custom"})
"""What is translated: the caller runs it."""
CALLERS_OF_OPENAI = frozenset({"local_shell", "apply_patch", "computer", "computer_use_preview"})
"""Of Responses: the model only says what is to be done, and the caller does it."""
CALLERS_OF_ANTHROPIC = frozenset(
    {"bash", "text_editor", "computer", "memory", "computer_toolset", "browser_toolset"}
)
"""Of Messages, likewise."""
GROUPS = frozenset({"namespace"})
"""They run nothing; what they hold does."""
_DATE = re.compile(r"_(?:\d{8}|\d{4}_\d\d_\d\d)$")


def undated(kind: str) -> str:
    """Return a type of tool without its date: `_20250305`, or `_2025_08_26`."""
    return _DATE.sub("", kind)
