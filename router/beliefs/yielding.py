"""Announces, once, that a task's choice yields to the incumbent as the room is spent. Pure, no I/O.

That is the law of draws and no release: the choice stays, and serves again once there is room, or
once it is better with P = .98. While it comes and goes, it is said once a day at most.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from router.beliefs.books import DAY_MS
from router.beliefs.choices import SPENT, Choices
from router.beliefs.kept import Kept, Note, NoteKind, ReleaseNotice

Yielding = tuple[Kept, list[ReleaseNotice]]


def yielded(
    choices: Choices | None, kept: Kept | None, tasks: Mapping[str, int], *, now_ms: int
) -> Yielding | None:
    """Return the next version of what is kept, with what is to be announced; None: nothing is.

    Args:
        tasks: row by name.
    """
    if choices is None or kept is None or choices.room is None:
        return None
    now = _yielding(choices, tasks) if choices.room <= 0 else []
    now = [task for task in now if task in kept.current]
    said = {
        task: at_ms
        for task, at_ms in kept.yielded_at_ms.items()
        if task in now or now_ms < at_ms + DAY_MS
    }
    notes = tuple(
        Note(NoteKind.YIELDED, task, kept.current[task], kept.review_key.incumbent, SPENT)
        for task in now
        if task not in said
    )
    said |= {note.task: now_ms for note in notes}
    if said == kept.yielded_at_ms:
        return None
    return replace(kept, version=kept.version + 1, yielded_at_ms=said, notes=notes), []


def _yielding(choices: Choices, tasks: Mapping[str, int]) -> list[str]:
    """Return the tasks whose calls go to the incumbent although another is chosen."""
    current = choices.standings.current
    return [task for task, row in tasks.items() if choices.laws[row].current != current[row]]
