"""The task category of a call: hint, app default, structure, else `general`.

A pure function of what does not change inside a conversation: hints, system prompt, tool names,
presence of a schema or image. So no word of a message can flip it.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from router.config.entries import GENERAL, MatchEntry, TaskEntry
from router.dialects.request import Structure
from telemetry.numbers import brief


class Task(Struct, frozen=True):
    """The category that a call was given, and a warning where a hint was not known."""

    name: str
    warning: str | None = None


def categorize(
    hint: str | None,
    default: str | None,
    structure: Structure,
    tasks: dict[str, TaskEntry],
) -> Task:
    """Return the task of a call; an unknown hint runs as `general`, with a warning."""
    if hint is not None:
        if hint in tasks:
            return Task(hint)
        return Task(GENERAL, f"unknown task {brief(hint)}; served as {GENERAL}")
    if default is not None:
        return Task(default)
    for name, entry in tasks.items():
        if entry.match is not None and matches(entry.match, structure):
            return Task(name)
    return Task(GENERAL)


def matches(rule: MatchEntry, structure: Structure) -> bool:
    """Return whether every part of the rule holds."""
    return (
        (rule.tools is None or _has_tool(rule.tools, structure.tools))
        and (rule.schema_ is None or rule.schema_ == structure.has_schema)
        and (rule.image is None or rule.image == structure.has_image)
        and (rule.system is None or _says(rule.system, structure.system))
    )


def _has_tool(wanted: list[str] | bool, present: Sequence[str]) -> bool:
    if isinstance(wanted, bool):
        return wanted == bool(present)
    return any(name in present for name in wanted)


def _says(wanted: list[str], system: str) -> bool:
    lower = system.lower()
    return any(phrase.lower() in lower for phrase in wanted)
