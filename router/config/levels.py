"""Task categories of two levels, by their names: `code`, and `code/review` below it.

A category without leaves of its own has three implied ones, by how complex its callers say that a
call is. They cost nothing until labels come: a leaf without evidence is no category of the beliefs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

BETWEEN = "/"


class Complexity(StrEnum):
    """How complex a call is, as its caller says: the second level where nobody wrote another."""

    EASY = "easy"
    NORMAL = "normal"
    HARD = "hard"


def parent_of(name: str) -> str | None:
    """Return the category that a leaf is below; None of one that is at the top."""
    above, between, _ = name.partition(BETWEEN)
    return above if between else None


def level_problem(name: str) -> str | None:
    """Return why a name is none of two levels, and what to write; None where it is sound."""
    above, *below = name.split(BETWEEN)
    if not below or (above and len(below) == 1 and below[0]):
        return None
    parts = [part for part in (above, *below) if part]
    written = BETWEEN.join([parts[0], "-".join(parts[1:])] if len(parts) > 1 else parts)
    return f"a task has at most two levels, such as code/review; write {written}"


def with_parents(names: Iterable[str]) -> list[str]:
    """Return names with each leaf's category, where it is not written, just before the leaf."""
    written = list(names)
    out: dict[str, None] = {}
    for name in written:
        above = parent_of(name)
        if above is not None and above not in written:
            out[above] = None
        out[name] = None
    return list(out)


def written_leaves(names: Iterable[str]) -> dict[str, str]:
    """Return the category of each leaf among these names."""
    return {name: above for name in names if (above := parent_of(name)) is not None}


def complexity_leaves(names: Iterable[str]) -> dict[str, str]:
    """Return the category of each leaf that complexity makes, of all categories at the top."""
    tops = [name for name in names if parent_of(name) is None]
    return {f"{top}{BETWEEN}{one}": top for top in tops for one in Complexity}


def implied_leaves(names: Iterable[str]) -> dict[str, str]:
    """Return those of categories that have no leaves of their own: what callers may name."""
    known = list(names)
    divided = set(written_leaves(known).values())
    return {leaf: top for leaf, top in complexity_leaves(known).items() if top not in divided}


def most_specific_first(names: Iterable[str]) -> list[str]:
    """Return leaves, then what is above them, each in the order given."""
    return sorted(names, key=lambda name: parent_of(name) is None)


def with_complexity(
    task: str, complexity: str | None, known: Mapping[str, object]
) -> tuple[str, str | None]:
    """Return the leaf of a task that a call's complexity means, else the task, and a warning.

    Args:
        known: all names that a call may have.
    """
    if complexity is None:
        return task, None
    if complexity not in list(Complexity):
        return task, f"unknown complexity; ignored (known: {', '.join(Complexity)})"
    leaf = f"{task}{BETWEEN}{complexity}"
    if leaf in known:
        return leaf, None
    return task, f"complexity {complexity} is ignored: {task} has no such level"
