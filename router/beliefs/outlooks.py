"""Outlooks: what each set of labels supports. One is of all that share theirs, whoever goes by it;
one more is of each app whose labels count for it alone, and begins where the shared one is.

They are fitted apart, so that no label counts twice in what models are believed to be worth over
all tasks. What is measured of endpoints, and all that follows from it, they have in common.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from bandit import cells, epochs, levels, teaching
from bandit.evidence import Evidence
from bandit.families import C, D, Family, Q
from bandit.posterior import Apart, Marked, Posterior, infer
from router.beliefs.alarms import EndpointWatch
from router.beliefs.levels import LeafDigests, gathering, kinds_of, row_of, within_of
from router.config.compiled import Configuration, category_digest


@dataclass(frozen=True, slots=True, eq=False)
class Outlook:
    """What one set of labels supports, by task."""

    app: str | None  # whose labels these are; None: of all that share
    evidence: Evidence
    posterior: Posterior
    read_signals: Callable[[], NDArray[np.float64]]  # what `signals` are; few ask for them
    borrowed: NDArray[np.float64]  # (n_tasks, n_arms) observations that others' labels count for
    damaged: NDArray[np.bool_]  # (n_tasks, n_arms) cells that are damaged here, and not for all
    given: NDArray[np.float64]  # (n_tasks, n_arms, N_COLUMNS) QUALITY of its labels, none lent
    profiled: NDArray[np.float64]  # (n_tasks, n_arms) how many of its labels are a profile's
    find_share_read: Callable[[], NDArray[np.float64]]  # what `share_read` is; few ask for it

    @property
    def share_read(self) -> NDArray[np.float64]:
        """(n_tasks,) of its calls, whoever's, the part that labels were read off; NaN: no call."""
        return self.find_share_read()

    @property
    def signals(self) -> NDArray[np.float64]:
        """(n_tasks, n_arms, N_COLUMNS) what labels were read off."""
        return self.read_signals()


@dataclass(frozen=True, slots=True)
class Digests:
    """Under what the calls of each task are booked."""

    shared: NDArray[np.uint64]  # (n_tasks,)
    others: NDArray[np.uint64]  # (n, n_tasks) of listeners, and of every app's own

    @classmethod
    def of(cls, configuration: Configuration) -> Digests:
        """Return those of a configuration.

        An app's own are among them whatever it says now: what was measured stays in use when an
        app begins to share.
        """
        others = [
            [category_digest(task, app, learn) for task in configuration.task_index]
            for app, learn in kinds_of(configuration)[1:]
        ]
        shared = np.array(configuration.task_digests, dtype=np.uint64)
        return cls(shared, np.array(others, dtype=np.uint64))


def tasks_of(configuration: Configuration) -> dict[int, str]:
    """Return which task each digest stands for under which calls are booked, leaves as well."""
    digests, leaves = configuration.derive(Digests.of), configuration.derive(LeafDigests)
    booked = [(list(configuration.task_index), [digests.shared, *digests.others])]
    booked.append((leaves.names, list(leaves.own)))
    return {
        digest: task
        for tasks, kinds in booked
        for kind in kinds
        for task, digest in zip(tasks, kind.tolist(), strict=True)
    }


def see(
    configuration: Configuration,
    rows: cells.Terms,
    known: Sequence[EndpointWatch],
    *,
    names: Mapping[int, str],
    present: Mapping[str, int],
    marked: Marked,
    now_ms: int,
) -> tuple[Outlook, ...]:
    """Return every outlook as of `now_ms`: the shared one, and those of `own_apps` in their order.

    Args:
        known: by arm, whether it changed; which labels count since.
        names: of digests. Under those that name a task the calls of apps are booked that are gone:
            what was measured in them stays in use.
        present: the epoch that a task is in, by name; of those not named the first.
        marked: by task, whoever's, which of the calls are no traffic.
    """
    digests, catalog = configuration.derive(Digests.of), configuration.catalog
    within = configuration.derive(within_of)
    labels = epochs.parted(rows, *in_epochs(configuration, names, present))
    renamings = configuration.derive(gathering), configuration.derive(Booked).under(names)
    labels = labels.renamed(*renamings[0])
    every = labels.renamed(*renamings[1])
    places = digests.shared, catalog.digests, within
    share = cache(partial(_share_read, rows, renamings, *places, now_ms))
    rows = labels.rows
    shared = cells.read(
        every.rows, categories=digests.shared, endpoints=catalog.digests, now_ms=now_ms
    )
    read = shared.derived
    if every is not labels or not labels.is_whole or any(one.regimes.now for one in known):
        _, read = _labels(every, digests.shared, catalog.digests, known, now_ms)
        quality, derived = _labels(labels, digests.shared, catalog.digests, known, now_ms)
        shared = replace(shared, quality=quality, derived=derived)
    together = levels.together(shared, within)
    look = partial(
        _outlook, read=read, share=share, rows=rows, configuration=configuration, marked=marked
    )
    out = [look(None, together, shared, shared.quality, categories=digests.shared)]
    by_profile = [_profiled(labels, digests.shared, catalog.digests, known, within, now_ms)]
    lent = teaching.borrowed(together)[0][..., Q.N] if configuration.own_apps else None
    for name in configuration.own_apps:
        categories = configuration.apps[name].categories
        own = np.array([categories[task] for task in configuration.task_index], dtype=np.uint64)
        given = _labels(labels, own, catalog.digests, known, now_ms)
        pooled = [
            levels.pooled_sums(values, family, within)
            for values, family in zip(given, (Family.QUALITY, Family.DERIVED), strict=True)
        ]
        evidence = teaching.with_own_labels(together, *pooled)
        apart = teaching.with_own_labels(shared, *given)
        found = look(name, evidence, apart, given[0], categories=own)
        damaged = found.posterior.damaged & ~out[0].posterior.damaged
        assert lent is not None
        out.append(replace(found, borrowed=lent, damaged=damaged))
        by_profile.append(_profiled(labels, own, catalog.digests, known, within, now_ms))
    return tuple(replace(one, profiled=n) for one, n in zip(out, by_profile, strict=True))


def in_epochs(
    configuration: Configuration, names: Mapping[int, str], present: Mapping[str, int]
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the digests (n,) under which calls of tasks past their first epoch are booked, and
    the epochs (n,) that those are in.

    Args:
        names, present: as of `see`.
    """
    booked = {**names, **configuration.derive(tasks_of)} if present else {}
    found = {digest: present[name] for digest, name in booked.items() if name in present}
    return np.array(list(found), dtype=np.uint64), np.array(list(found.values()), dtype=np.int64)


def present_epochs(
    configuration: Configuration,
    rows: cells.Terms,
    names: Mapping[int, str],
    opened: Mapping[str, int],
) -> dict[str, int]:
    """Return the epoch that each task is in, by name, if it is past the first.

    That is the last one that was opened, or that labels lie in: a store that lost what it knew of
    the former, or one that is written to by a process that knows more, mixes nothing.

    Args:
        opened: by task, as the store has it.
    """
    found, late = dict(opened), epochs.highest(rows)
    booked = configuration.derive(tasks_of) if late else {}
    for digest, epoch in late.items():
        name = booked.get(digest) or names.get(digest)
        if name is not None:
            found[name] = max(epoch, found.get(name, 0))
    return {name: epoch for name, epoch in found.items() if epoch}


class Booked:
    """Under which digests calls of each task are booked; worked out once, read at every look."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._shared = configuration.derive(Digests.of).shared
        self._own = tasks_of(configuration)
        self._names: Mapping[int, str] | None = None
        self._found: tuple[NDArray[np.uint64], NDArray[np.uint64]]

    def under(self, names: Mapping[int, str]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Return all such digests (n,), and the shared one of each one's task (n,).

        Args:
            names: of digests besides the configuration's own; never changed in place.
        """
        if self._names is not names:
            booked = {**names, **self._own}
            rows = {d: row_of(self._configuration, name) for d, name in booked.items()}
            tasks = {digest: row for digest, row in rows.items() if row is not None}
            wanted = np.array(list(tasks), dtype=np.uint64)
            self._names, self._found = names, (wanted, self._shared[list(tasks.values())])
        return self._found


def _labels(
    labels: epochs.Parted,
    categories: NDArray[np.uint64],
    endpoints: NDArray[np.uint64],
    known: Sequence[EndpointWatch],
    now_ms: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what labels are worth in the regimes that count, in columns of QUALITY and DERIVED."""
    regimes = [one.regimes for one in known]
    quality, derived = (
        epochs.read_labels(
            labels, family, regimes, categories=categories, endpoints=endpoints, now_ms=now_ms
        )
        for family in (Family.QUALITY, Family.DERIVED)
    )
    return quality, derived


def _profiled(
    labels: epochs.Parted,
    categories: NDArray[np.uint64],
    endpoints: NDArray[np.uint64],
    known: Sequence[EndpointWatch],
    within: NDArray[np.intp],
    now_ms: int,
) -> NDArray[np.float64]:
    """Return (n_tasks, n_arms) how many labels are a profile's, those of leaves in both levels."""
    regimes = [one.regimes for one in known]
    found = epochs.profile_labels(
        labels, regimes, categories=categories, endpoints=endpoints, now_ms=now_ms
    )
    return levels.pooled(found, within)


def _signals(
    rows: cells.Terms,
    categories: NDArray[np.uint64],
    endpoints: NDArray[np.uint64],
    within: NDArray[np.intp],
) -> NDArray[np.float64]:
    """Return what labels of these categories were read off; nothing of damaged cells."""
    found = cells.read_plain(rows, Family.SIGNALS, names=categories, endpoints=endpoints)
    return levels.pooled(np.nan_to_num(found), within)


def _share_read(
    rows: cells.Terms,
    renamings: Sequence[tuple[NDArray[np.uint64], NDArray[np.uint64]]],
    categories: NDArray[np.uint64],
    endpoints: NDArray[np.uint64],
    within: NDArray[np.intp],
    now_ms: int,
) -> NDArray[np.float64]:
    """Return (n_tasks,) which part of each task's calls was read, whatever has changed since.

    Calls and those that were read fade alike, so that the older ones count for less. In no regime
    and no epoch is it any other.

    Args:
        renamings: which digests stand for which, one after the other.
    """
    for names, to in renamings:
        rows = cells.renamed(rows, names, to)
    found = cells.read(rows, categories=categories, endpoints=endpoints, now_ms=now_ms)
    read, calls = (
        levels.pooled(np.where(cells.damaged(sums, family), 0.0, sums[..., column]), within)
        for family, sums, column in (
            (Family.DERIVED, found.derived, D.SEEN),
            (Family.CHAINS, found.chains, C.CALLS),
        )
    )
    n = calls.sum(axis=1)
    share = np.divide(read.sum(axis=1), n, out=np.full_like(n, np.nan), where=n > 0)
    return np.asarray(np.minimum(share, 1.0))


def _outlook(
    app: str | None,
    evidence: Evidence,
    apart: Evidence,
    given: NDArray[np.float64],
    *,
    read: NDArray[np.float64],
    share: Callable[[], NDArray[np.float64]],
    rows: cells.Terms,
    categories: NDArray[np.uint64],
    configuration: Configuration,
    marked: Marked,
) -> Outlook:
    """Return an outlook to which nobody lent labels.

    Args:
        evidence: with that of leaves in their tasks' rows as well.
        apart: the same, each label in one row.
        given: labels, each in one row.
        read: what was read off all answers, whoever's, likewise: how often they can be used is a
            fact.
        share: finds which part of each task's calls that was.
    """
    catalog, within = configuration.catalog, configuration.derive(within_of)
    said = cells.of_family(rows, Family.SIGNALS)
    signals = cache(partial(_signals, said, categories, catalog.digests, within))
    below = None if levels.tops(within).all() else Apart(within, apart.quality)
    posterior = infer(
        evidence,
        catalog.arms,
        read=levels.pooled_sums(read, Family.DERIVED, within),
        apart=below,
        derived_apart=apart.derived,
        marked=marked,
    )
    nothing = np.zeros(evidence.quality.shape[:2])
    damaged = posterior.damaged
    return Outlook(app, evidence, posterior, signals, nothing, damaged, given, nothing, share)
