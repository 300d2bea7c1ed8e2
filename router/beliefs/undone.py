"""What somebody undid by hand, and when it may come back: on newer evidence only. Pure, no I/O.

As many labels as it had when it was undone must have come in the task since, at least 20, and no
more than 200 are asked for. So what brings it back rests on labels of after the undo for a half or
more, or on as many as a certain release takes. Under an order calls take the place of labels.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bandit.incumbent import CERTAIN_LABELS
from bandit.utility import TASK_LABELS
from router.beliefs.cases import ReviewCase
from router.beliefs.kept import Kept, Undone


def evidence_of(case: ReviewCase) -> NDArray[np.float64]:
    """Return (n_tasks, n_groups) what a return takes more of: labels, under an order calls."""
    posterior = case.posterior
    counts = posterior.traffic_calls if case.is_order else posterior.labels
    return np.asarray(posterior.arms.by_group(counts))


def is_newer(then: float, now: float) -> bool:
    """Return whether so much evidence is newer than an undo at `then`.

    Where it is less than it was, counting began anew since (a regime, a version of a prompt).
    """
    since = now - then if now >= then else now
    return since >= min(max(then, TASK_LABELS), CERTAIN_LABELS)


def barred(case: ReviewCase) -> NDArray[np.bool_]:
    """Return (n_tasks, n_groups) whom no review may release: undone, and nothing newer came."""
    index, catalog = case.configuration.task_index, case.configuration.catalog
    out = np.zeros((len(index), len(catalog.group_members)), dtype=bool)
    if not case.kept.undone:
        return out
    now = evidence_of(case)
    for task, names in case.kept.undone.items():
        for name, undone in names.items():
            group = case.group_of(name)
            if task in index and group is not None:
                out[index[task], group] = not is_newer(undone.evidence, now[index[task], group])
    return out


def with_undone(case: ReviewCase, kept: Kept, task: str, name: str, *, now_ms: int) -> Kept:
    """Return what is kept once a task was taken from a group by hand."""
    group, row = case.group_of(name), case.configuration.task_index[task]
    evidence = 0.0 if group is None else float(evidence_of(case)[row, group])
    of_task = {**kept.undone.get(task, {}), name: Undone(now_ms, evidence)}
    return replace(kept, undone={**kept.undone, task: of_task})
