"""The task category of a call: what is said of it, in order; else its structure, else `general`.

A pure function of what does not change inside a conversation: hints, what the configuration says
of the caller, system prompt, tool names, presence of a schema or image. So no word of a message
can flip it. What a prompt looks like comes after all that, and elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import StrEnum

from msgspec import Struct

from router.config.entries import GENERAL, MatchEntry
from router.config.levels import BETWEEN, parent_of, with_complexity
from router.dialects.request import Structure
from router.policy.complexity import complexity_of
from telemetry.numbers import brief


class FoundBy(StrEnum):
    """What said which task a call is of."""

    HINT = "hint"
    ROLE = "role"
    KEY = "key"
    APP = "app"
    SESSION = "session"
    RULE = "rule"
    EXEMPLARS = "exemplars"  # of system prompts and tool names, by a rule
    CLASSIFIER = "classifier"  # of the first prompt of a declared session
    GENERAL = "general"


class Task(Struct, frozen=True):
    """The category that a call was given, and a warning where a hint was not followed."""

    name: str
    warning: str | None = None
    found_by: FoundBy = FoundBy.GENERAL
    of_session: str | None = None  # what it makes the task of a session that has none yet
    looks_like: str | None = None  # another task, which its prompt looks like
    tag: int = 0  # what records say of that; 0: nobody looked


MARKED = (FoundBy.RULE, FoundBy.EXEMPLARS)
"""By what stays through a conversation."""
OWN = (*MARKED, FoundBy.GENERAL)
"""By the call itself, so that it is its session's from then on."""
Said = tuple[FoundBy, str | None]
"""Who may say what task a call is of, and what is said."""
Looks = Callable[[Structure], str | None]
"""Which task's exemplars a system prompt and tool names look like, if any's."""


def _looks_like_nothing(structure: Structure) -> str | None:
    return None


def categorize(
    said: Iterable[Said],
    structure: Structure,
    *,
    tasks: Mapping[str, object],
    rules: Sequence[tuple[str, MatchEntry]],
    complexity: str | None = None,
    looks: Looks = _looks_like_nothing,
    by_structure: Collection[str] = (),
    implied: Collection[str] = (),
) -> Task:
    """Return the task of a call; an unknown hint runs as `general`, with a warning.

    Whatever else is said and not known, such as a session's task that is gone, is passed over.

    Args:
        said: in the order that decides; of the first that says anything it is the task.
        tasks: all that a call may have, by name.
        rules: of structure, in the order in which they are looked at.
        complexity: as the caller says: the second level of a task that has none of its own. What
            is none, or means nothing there, is ignored with a warning.
        by_structure: leaves that structure says, where nobody says a complexity and a rule marks
            the task. The task of a session is such a leaf.
        implied: leaves that only complexity makes: in a session of one a call may say another.
    """
    found = _task(said, structure, tasks, rules, looks)
    if found.warning is not None:
        return found
    kept, by = found.name, found.found_by
    if complexity is None:
        if by in MARKED and by_structure:
            leaf = f"{kept}{BETWEEN}{complexity_of(structure)}"
            kept = leaf if leaf in by_structure else kept
        return Task(kept, None, by, kept if by in OWN else None)
    if by is FoundBy.SESSION and kept in implied:
        kept = parent_of(kept) or kept
    name, warning = with_complexity(kept, complexity, tasks)
    return Task(name, warning, by, kept if by in OWN else None)


def _task(
    said: Iterable[Said],
    structure: Structure,
    tasks: Collection[str],
    rules: Sequence[tuple[str, MatchEntry]],
    looks: Looks,
) -> Task:
    for by, name in said:
        if name is None:
            continue
        if name in tasks:
            return Task(name, None, by)
        if by is FoundBy.HINT:
            return Task(GENERAL, f"unknown task {brief(name)}; served as {GENERAL}")
    for name, rule in rules:
        if not matches(rule, structure):
            continue
        if rule.like is None:
            return Task(name, None, FoundBy.RULE)
        if looks(structure) == name:
            return Task(name, None, FoundBy.EXEMPLARS)
    return Task(GENERAL)


def matches(rule: MatchEntry, structure: Structure) -> bool:
    """Return whether every part of the rule holds, but for what it is to look like."""
    return (
        (rule.tools is None or _has_tool(rule.tools, structure.tools))
        and (rule.min_tools is None or structure.n_tools >= rule.min_tools)
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
