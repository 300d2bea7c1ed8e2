"""Whose labels are behind what is believed, and behind a release."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bandit.levels import pooled
from bandit.matrix import Teacher
from bandit.teaching import read_teaching
from router.beliefs.beliefs import Beliefs
from router.beliefs.kept import Kept, Proposal, ReleaseNotice
from router.beliefs.levels import AllTasks, all_tasks, within_of
from router.beliefs.outlooks import Outlook
from router.config.compiled import Configuration, category_digest
from router.config.entries import Learn


def teachers_of(beliefs: Beliefs, outlook: Outlook) -> list[Teacher]:
    """Return whose labels an outlook holds: of all apps, as any may have shared before."""
    configuration = beliefs.configuration
    apps, every, found = configuration.apps, all_tasks(configuration), []
    for name in [outlook.app] if outlook.app is not None else apps:
        learn = Learn.OWN if outlook.app is not None else Learn.SHARE
        digests = [category_digest(task, name, learn) for task in every]
        told = read_teaching(
            beliefs.teaching,
            app=apps[name].digest,
            categories=np.array(digests, dtype=np.uint64),
            endpoints=configuration.catalog.digests,
        )
        labels, reward = (_by_row(values, configuration) for values in told)
        found.append(Teacher(name, labels, reward))
    return found


def _by_row(values: NDArray[np.float64], configuration: Configuration) -> NDArray[np.float64]:
    """Return (n_tasks, n_arms): (n_all_tasks, n_arms), those of leaves in both levels' rows."""
    out = np.zeros((len(configuration.task_index), values.shape[1]))
    np.add.at(out, configuration.derive(AllTasks).rows, values)
    return pooled(out, configuration.derive(within_of))


def with_teachers(
    kept: Kept, released: Iterable[ReleaseNotice], beliefs: Beliefs
) -> tuple[Kept, list[ReleaseNotice]]:
    """Return both with how many labels each app gave those two between whom a task moved, or may.

    Of an app that goes by its own, what others lent it is not counted.
    """
    outlook = beliefs.outlooks[beliefs.configuration.apps[kept.review_key.app].outlook]
    teachers = teachers_of(beliefs, outlook)
    told, last = [], dict(kept.last)
    for one in released:
        labels = _labels(one, teachers, beliefs.configuration)
        told.append(replace(one, labels=labels))
        if one.task in last:
            last[one.task] = replace(last[one.task], labels=labels)
    waiting = {
        task: replace(one, labels=_labels(one, teachers, beliefs.configuration))
        for task, one in kept.waiting.items()
    }
    return replace(kept, last=last, waiting=waiting), told


def _labels(
    one: ReleaseNotice | Proposal, teachers: Iterable[Teacher], configuration: Configuration
) -> dict[str, int]:
    """Return how many labels each app gave those two; as it was, where the task is unknown."""
    catalog, row = configuration.catalog, configuration.task_index.get(one.task)
    if row is None:
        return dict(one.labels)
    both = [catalog.by_id[id_].group for id_ in (one.before, one.after) if id_ in catalog.by_id]
    hosts = np.isin(catalog.arms.group, both)
    counts = {t.app: int(t.labels[row, hosts].sum()) for t in teachers}
    return {app: n for app, n in counts.items() if n}
