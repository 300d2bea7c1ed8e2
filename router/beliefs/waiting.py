"""What is read of releases that are held back, beside why a task is not explored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from router.beliefs.kept import Kept, Proposal

HELD = "held back: frozen"


def with_notes(notes: Sequence[str], kept: Kept, tasks: Iterable[str]) -> tuple[str, ...]:
    """Return the same notes of tasks, and of which something is held back."""
    if not kept.waiting:
        return tuple(notes)
    out = []
    for task, note in zip(tasks, notes, strict=True):
        waits = kept.waiting.get(task)
        out.append("; ".join(filter(None, (note, said(waits) if waits else ""))))
    return tuple(out)


def said(proposal: Proposal) -> str:
    """Return what is to be read of something that waits."""
    if not proposal.id:
        return f"{HELD} ({proposal.after}: {proposal.reason})"
    return f"{proposal.after} waits: pointsman release accept {proposal.id}"
