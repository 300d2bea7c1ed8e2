"""What somebody says yes to, or undoes, by hand: the next version of what is kept. Pure, no I/O."""

from __future__ import annotations

from dataclasses import dataclass, replace

from router.beliefs.beliefs import Beliefs
from router.beliefs.cases import ReviewCase
from router.beliefs.choices import available, standings_of
from router.beliefs.kept import Kept, Note, NoteKind, Proposal, ReleaseNotice
from router.beliefs.levels import begun
from router.beliefs.moves import departed
from router.beliefs.proposals import renew, seen_again, why_lapsed
from router.beliefs.reviews import next_version
from router.beliefs.undone import with_undone

UNDONE, ACCEPTED = "undone", "accepted"
"""Reasons of releases by hand; of an accepted one, why it was proposed follows."""


@dataclass(frozen=True, slots=True)
class HandAnswer:
    """What becomes of a word: what is to be written, if anything, and why it was refused, if so."""

    kept: Kept | None = None
    released: tuple[ReleaseNotice, ...] = ()
    refused: str = ""


def case_of(kept: Kept, beliefs: Beliefs) -> ReviewCase:
    """Return what a change of a key's choices by hand starts from."""
    app = beliefs.configuration.apps[kept.review_key.app]
    configuration, posterior = beliefs.configuration, beliefs.posterior_of(app.name)
    kept, decides = begun(kept, configuration, beliefs.places[app.outlook])
    standings, _ = standings_of(kept, configuration, decides)
    return ReviewCase(kept, configuration, posterior, decides, standings)


def accept(case: ReviewCase, proposal: Proposal, *, now_ms: int) -> HandAnswer:
    """Return what becomes of a yes to a proposal; one that lapsed ends, and is refused."""
    task, kept = proposal.task, case.kept
    if refused := _undecided(case, task):
        return HandAnswer(refused=refused)
    waiting = {name: one for name, one in kept.waiting.items() if name != task}
    why = why_lapsed(case, proposal, kept.current.get(task))
    if why is not None:
        note = Note(NoteKind.LAPSED, task, proposal.before, proposal.after, why, proposal.id)
        after = replace(kept, version=kept.version + 1, waiting=waiting, notes=(note,))
        return HandAnswer(after, refused=f"proposal {proposal.id} lapsed: {why}")
    if not _may_serve(case, proposal.after):
        return HandAnswer(refused=f"{proposal.after} may not serve {task} now")
    now = seen_again(case, proposal, now_ms)
    reason = f"{ACCEPTED}: {now.reason}"
    notice = ReleaseNotice(task, now.before, now.after, now.p_better, now.gain, reason, now.labels)
    case = replace(case, kept=replace(kept, waiting=waiting))
    return HandAnswer(_after(case, notice, now_ms), (notice,))


def undo(case: ReviewCase, last: ReleaseNotice, *, now_ms: int) -> HandAnswer:
    """Return what becomes of undoing a task's last release: it goes back to where it stood."""
    task, row = last.task, case.configuration.task_index.get(last.task)
    if refused := _undecided(case, task):
        return HandAnswer(refused=refused)
    assert row is not None
    stands_at = int(case.standings.current[row])
    if case.group_of(last.after) != stands_at:
        return HandAnswer(refused=f"{task} stands at {case.names[stands_at]} now")
    if not _may_serve(case, last.before):
        return HandAnswer(refused=f"{last.before} may not serve {task} any more")
    notice = ReleaseNotice(task, last.after, last.before, None, None, UNDONE)
    after = _after(case, notice, now_ms)
    return HandAnswer(with_undone(case, after, task, last.after, now_ms=now_ms), (notice,))


def _may_serve(case: ReviewCase, name: str) -> bool:
    """Return whether some host of a name's group is a rival."""
    group, arms = case.group_of(name), case.configuration.catalog.arms
    rivals = available(case.kept.review_key, case.configuration)
    return group is not None and bool(rivals[arms.group == group].any())


def _undecided(case: ReviewCase, task: str) -> str:
    """Return why a task has no choice of its own to be changed; empty where it has one."""
    index = case.configuration.task_index
    if task in index and case.decides[index[task]]:
        return ""
    return f"{task} has no choice of its own in this configuration"


def _after(case: ReviewCase, notice: ReleaseNotice, now_ms: int) -> Kept:
    current = {**case.kept.current, notice.task: notice.after}
    catalog = case.configuration.catalog
    after = next_version(case.kept, current, [notice], catalog, now_ms=now_ms)
    waiting, notes = renew(case, current, (), now_ms=now_ms, due=False)
    after = replace(after, waiting=waiting, notes=notes)
    return departed(after, [notice], now_ms=now_ms) if case.is_order else after
