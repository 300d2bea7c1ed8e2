"""Hosts of one group: whether their answers differ in quality, and which one to learn about.

Quality is pooled over the hosts of a group, so each host has only its difference to the others:

    mean reward of (task, host) = that of the group in the task + δ[host],   δ ~ N(0, HOST_SD²)

Hosts are compared within a task only, and the comparisons of all tasks are averaged by their
precision: tasks of other difficulty, or sent to another host more often, tell no difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bandit.families import Q
from bandit.quality import NOISE_FLOOR, NOISE_PSEUDO_N
from bandit.special import ndtr

HOST_SD = 0.06
"""How far a host differs from the others of its group before anything is seen. No recording holds
one model at two hosts, so it is set by its errors: wider, equal hosts are split off more often
(.08: 2 % of pairs), narrower, a host five points worse is found later (.04: 8,200 labels)."""
WORSE = 0.01
"""A host is worse that is so far below the others: nearer ones are as good as equal."""
SPLIT_LEVEL = 0.995
SPLIT_LABELS = 200.0
"""P(worse), and labels on each side, from which on one of two hosts is split off. Of more hosts
each is held to more, so that a large group errs no more often than a pair."""
HOST_EXPLORED = 0.1
"""Share of a group's draws whose host is taken to learn about it. Without it the host that is
first by cost or latency serves nearly all, and leaves nothing to compare it with."""
HOST_LABELS = 20.0
"""Decayed labels of a group in a task from which on its hosts are compared there: as many as
exploring takes anywhere. A group that is not labelled any more falls below it by itself."""


@dataclass(frozen=True, eq=False)
class HostDifferences:
    """Posterior of how each host differs from the others of its group, over all tasks.

    All (n_arms,). A host without others, or without labels to compare, is at its prior.
    """

    mean: NDArray[np.float64]  # in reward
    sd: NDArray[np.float64]
    labels: NDArray[np.float64]  # its own, in tasks where the others have some
    of_others: NDArray[np.float64]  # the others', in tasks where it has some
    n_hosts: NDArray[np.float64]  # of its group, itself included

    @cached_property
    def p_worse(self) -> NDArray[np.float64]:
        """P(it is at least WORSE below the others)."""
        return np.asarray(ndtr((-WORSE - self.mean) / self.sd))

    @cached_property
    def is_split(self) -> NDArray[np.bool_]:
        """Whether what is known suffices to split it off."""
        enough = np.minimum(self.labels, self.of_others) >= SPLIT_LABELS
        least = 1 - (1 - SPLIT_LEVEL) * 2 / np.maximum(self.n_hosts, 2)
        return np.asarray(enough & (self.p_worse >= least))


def compare(quality: NDArray[np.float64], group: NDArray[np.intp]) -> HostDifferences:
    """Return how hosts differ from the others of their groups.

    Args:
        quality: (n_categories, n_arms, N_COLUMNS) evidence in the columns of QUALITY.
        group: (n_arms,) equivalents share a number, counted from 0.
    """
    labels, n, r, r2 = (quality[..., column] for column in (Q.LABELS, Q.N, Q.R, Q.R2))
    n_others, r_others = _sum(n, group) - n, _sum(r, group) - r
    # What is left of a sum once its only part was taken off is no label.
    both = (n > 0) & (n_others > 1e-9 * n)
    own, others = np.where(both, n, 1.0), np.where(both, n_others, 1.0)
    noise = _noise(n, r, r2, group)
    weight = np.where(both, 1 / (noise * (1 / own + 1 / others)), 0.0)
    apart = (weight * (r / own - r_others / others)).sum(axis=0)
    precision = weight.sum(axis=0) + 1 / HOST_SD**2
    labels_of_others = _sum(labels, group) - labels
    return HostDifferences(
        mean=apart / precision,
        sd=1 / np.sqrt(precision),
        labels=(labels * both).sum(axis=0),
        of_others=(labels_of_others * both).sum(axis=0),
        n_hosts=np.bincount(group)[group].astype(float),
    )


def beside_group(
    found: HostDifferences, n: NDArray[np.float64], group: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return by how much each host's quality differs from its group's, and the sd of that.

    What is believed of a group is the mean of its hosts by their labels; a host differs from that
    by the others' share of its difference to them. Both (n_categories, n_arms); 0 of who is alone.

    Args:
        n: (n_categories, n_arms) decayed labels that the group's quality rests on.
    """
    total = _sum(n, group)
    own = np.divide(n, total, out=np.zeros_like(n), where=total > 0)
    others = np.where(found.n_hosts > 1, 1 - own, 0.0)
    return others * found.mean, others * found.sd


def least_labelled(n: NDArray[np.float64], hosts: NDArray[np.intp]) -> int | None:
    """Return the host to learn about: whoever has the fewest labels; None where it is of no use.

    The comparison is as good as its worse half, so nobody else's label is worth as much.

    Args:
        n: (n_arms,) decayed labels in the task at hand.
        hosts: arms of one group that may serve.
    """
    known = n[hosts]
    if len(hosts) < 2 or known.sum() < HOST_LABELS:
        return None
    return int(hosts[known.argmin()])


def _sum(values: NDArray[np.float64], group: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return (n_categories, n_arms) sums over all hosts of each arm's group, itself included."""
    total = np.zeros((len(values), int(group.max(initial=-1)) + 1))
    np.add.at(total.T, group, values.T)
    return total[:, group]


def _noise(
    n: NDArray[np.float64],
    r: NDArray[np.float64],
    r2: NDArray[np.float64],
    group: NDArray[np.intp],
) -> NDArray[np.float64]:
    """Return (n_categories, n_arms) the variance of single rewards within the hosts of a group."""
    level = (_sum(r, group) + 0.5) / (_sum(n, group) + 1)
    within = _sum(np.maximum(r2 - r * r / np.maximum(n, 1e-9), 0), group)
    freedom = _sum(np.maximum(n - 1, 0), group)
    pooled = (within + NOISE_PSEUDO_N * level * (1 - level)) / (freedom + NOISE_PSEUDO_N)
    return np.maximum(pooled, NOISE_FLOOR)
