"""Tasks that come with the sidecar under `starter_tasks`, as somebody would write them.

A task of the same name that is written replaces its starter; where `tools`, or anything below it,
is written, no starter of tools is there beside it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from router.classify.starters import starter_prompts, starter_systems
from router.config.levels import parent_of

MANY_TOOLS = 6
"""From so many on a call is one of an agent, and no question with a look-up. UNVALIDATED."""
TOOLS = "tools"


def starters_beside(written: Collection[str]) -> list[str]:
    """Return the names of starter tasks that hold beside those that are written, in their order."""
    own_tools = any(TOOLS in (name, parent_of(name)) for name in written)
    tools = () if own_tools else (f"{TOOLS}/complex", f"{TOOLS}/simple")
    # Agents' side calls have schemas and pictures, too: what they are for goes before.
    names = ("code", "vision", "extract", "maths", "prose", *tools)
    return [name for name in names if name not in written]


def starter_value(name: str) -> dict[str, Any]:
    """Return a starter task as the file would have it."""
    match name:
        case "vision":
            return {"match": {"image": True}}
        case "extract":
            return {"match": {"schema": True}}
        case "tools/complex":
            return {"match": {"min_tools": MANY_TOOLS}}
        case "tools/simple":
            return {"match": {"tools": True}}
    return {"match": {"like": starter_systems()[name]}, "exemplars": starter_prompts()[name]}
