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
from router.beliefs.kept import Kept, ReleaseNotice
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
    """Return both with how many labels each app gave those two between whom a task moved.

    Of an app that goes by its own, what others lent it is not counted.
    """
    catalog, tasks = beliefs.configuration.catalog, beliefs.configuration.task_index
    outlook = beliefs.outlooks[beliefs.configuration.apps[kept.review_key.app].outlook]
    teachers = teachers_of(beliefs, outlook)
    told, last = [], dict(kept.last)
    for one in released:
        both = [catalog.by_id[id_].group for id_ in (one.before, one.after) if id_ in catalog.by_id]
        hosts = np.isin(catalog.arms.group, both)
        counts = {t.app: int(t.labels[tasks[one.task], hosts].sum()) for t in teachers}
        labels = {app: n for app, n in counts.items() if n}
        told.append(replace(one, labels=labels))
        if one.task in last:
            last[one.task] = replace(last[one.task], labels=labels)
    return replace(kept, last=last), told
