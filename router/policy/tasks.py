"""The task category of a call: what is said of it, in order; else its structure, else `general`.

A pure function of what does not change inside a conversation: hints, what the configuration says
of the caller, system prompt, tool names, presence of a schema or image. So no word of a message
can flip it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum

from msgspec import Struct

from router.config.entries import GENERAL, MatchEntry
from router.config.levels import with_complexity
from router.dialects.request import Structure
from telemetry.numbers import brief


class FoundBy(StrEnum):
    """What said which task a call is of."""

    HINT = "hint"
    ROLE = "role"
    KEY = "key"
    APP = "app"
    SESSION = "session"
    RULE = "rule"
    GENERAL = "general"


class Task(Struct, frozen=True):
    """The category that a call was given, and a warning where a hint was not followed."""

    name: str
    warning: str | None = None
    found_by: FoundBy = FoundBy.GENERAL
    of_session: str | None = None  # what it makes the task of a session that has none yet


Said = tuple[FoundBy, str | None]
"""Who may say what task a call is of, and what is said."""


def categorize(
    said: Iterable[Said],
    structure: Structure,
    *,
    tasks: Mapping[str, object],
    rules: Sequence[tuple[str, MatchEntry]],
    complexity: str | None = None,
) -> Task:
    """Return the task of a call; an unknown hint runs as `general`, with a warning.

    Whatever else is said and not known, such as a session's task that is gone, is passed over.

    Args:
        said: in the order that decides; of the first that says anything it is the task.
        tasks: all that a call may have, by name.
        rules: of structure, in the order in which they are looked at.
        complexity: as the caller says: the second level of a task that has none of its own. What
            is none, or means nothing there, is ignored with a warning.
    """
    found = _task(said, structure, tasks, rules)
    if found.warning is not None:
        return found
    name, warning = with_complexity(found.name, complexity, tasks)
    is_own = found.found_by in (FoundBy.RULE, FoundBy.GENERAL)
    return Task(name, warning, found.found_by, found.name if is_own else None)


def _task(
    said: Iterable[Said],
    structure: Structure,
    tasks: Collection[str],
    rules: Sequence[tuple[str, MatchEntry]],
) -> Task:
    for by, name in said:
        if name is None:
            continue
        if name in tasks:
            return Task(name, None, by)
        if by is FoundBy.HINT:
            return Task(GENERAL, f"unknown task {brief(name)}; served as {GENERAL}")
    for name, rule in rules:
        if matches(rule, structure):
            return Task(name, None, FoundBy.RULE)
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
