"""Hosts that are split off from their group, because their own labels show that they differ.

Small differences are found by comparing hosts, large ones by an alarm: it opens a new regime in
which its host has too few labels for a comparison, so it splits that host off by itself.

A split is part of what the store keeps of an endpoint. It takes effect in a configuration whose
catalog gives that endpoint a group of its own; nothing else of it changes, so posteriors, stored
draws and choices, which name endpoints, stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandit import hosts
from bandit.drift import AlarmKind
from bandit.hosts import HostDifferences
from router.config.compiled import Configuration
from router.endpoints.catalog import Catalog, split_off

Labels = tuple[NDArray[np.float64], NDArray[np.bool_]]
"""(n_tasks, n_arms, N_COLUMNS) QUALITY of labels alone, and (n_tasks, n_arms) what is damaged."""
WORSE = "worse"
"""Why a host was split off that is a point worse than the others."""


@dataclass(frozen=True, slots=True)
class SplitNotice:
    """A split as it is announced."""

    at_ms: int
    others: tuple[str, ...]  # ids of the hosts that it is split off from
    reason: str  # WORSE, or the kind of an alarm that named it, which has the evidence
    difference: float | None = None  # in reward, of its own to theirs: below 0
    p_worse: float | None = None  # P(it is a point worse)
    labels: float | None = None  # its own
    labels_of_others: float | None = None


def compare_hosts(catalog: Catalog, labels: Iterable[Labels]) -> HostDifferences:
    """Return how the hosts of each group differ.

    Labels are held against those of the same task and outlook only, so that apps which judge
    otherwise tell no difference. Damaged cells count as unknown.

    Args:
        labels: given in each outlook, and which cells are damaged there.
    """
    sound = [np.where(damaged[..., None], 0.0, quality) for quality, damaged in labels]
    return hosts.compare(np.concatenate(sound), catalog.arms.group)


def find_splits(
    catalog: Catalog, differences: HostDifferences, *, now_ms: int
) -> dict[int, SplitNotice]:
    """Return whom to split off now, by arm: of each group at most one, the surest.

    What is left of a group is compared anew, without that one.
    """
    out = {}
    may = np.array([endpoint.may_split for endpoint in catalog.endpoints])
    p_worse = np.where(differences.is_split & may, differences.p_worse, -1.0)
    for arms in catalog.group_members:
        arm = max(arms, key=lambda a: p_worse[a])
        if p_worse[arm] >= 0:
            out[arm] = SplitNotice(
                now_ms,
                _others(catalog, arm),
                WORSE,
                float(differences.mean[arm]),
                float(p_worse[arm]),
                float(differences.labels[arm]),
                float(differences.of_others[arm]),
            )
    return out


def split_now(
    before: SplitNotice | None,
    alarm: AlarmKind | None,
    worse: SplitNotice | None,
    catalog: Catalog,
    arm: int,
    *,
    now_ms: int,
) -> SplitNotice | None:
    """Return why a host has a group of its own at the end of a bucket; None: it has not.

    Whose quality changed by enough for an alarm is no longer like the others of its group. What it
    was split off for ends when it is as it was before the alarm, or rose: then its group is its
    measure again.

    Args:
        alarm: what was raised of it in this bucket.
        worse: what the comparison of hosts says of it in this bucket.
    """
    if alarm is None:
        return worse or before
    if alarm is AlarmKind.RESTORED:
        return None
    others = _others(catalog, arm)
    if others and catalog.endpoints[arm].may_split:
        return SplitNotice(now_ms, others, alarm.value)
    return before if alarm is AlarmKind.DOWN else None


def ended_alike(
    catalog: Catalog,
    splits: Sequence[SplitNotice | None],
    alarms: Mapping[int, AlarmKind],
) -> frozenset[int]:
    """Return the arms whose splits end, since every host of their model changed in the same way.

    An alarm sets a host apart from those that it was like. Where the others follow, at once or
    later, it was the model that changed: they are one group again, and compared from then on.

    Args:
        splits: by arm, with this bucket's.
        alarms: what was raised in this bucket, by arm.
    """
    out: set[int] = set()
    for arm, kind in alarms.items():
        if kind is AlarmKind.RESTORED:
            continue
        groups = catalog.kin[catalog.endpoints[arm].group]
        kin = [member for group in groups for member in catalog.group_members[group]]
        reasons = {alarms.get(member) or _reason(splits[member]) for member in kin}
        if len(kin) > 1 and reasons == {kind}:
            out.update(kin)
    return frozenset(out)


def _reason(split: SplitNotice | None) -> str | None:
    return None if split is None else split.reason


def _others(catalog: Catalog, arm: int) -> tuple[str, ...]:
    """Return the ids of the other hosts of an arm's group."""
    arms = catalog.group_members[catalog.endpoints[arm].group]
    return tuple(catalog.endpoints[a].id for a in arms if a != arm)


def with_splits(configuration: Configuration, split: Mapping[int, Any]) -> Configuration:
    """Return the configuration in which these endpoints have groups of their own.

    The same splits give the same object, so that what was derived from it is not made anew.

    Args:
        split: by the endpoint's digest; those that are gone, or may not be split, are left out.
    """
    known = configuration.catalog.by_digest
    apart = frozenset(d for d in split if d in known and known[d].may_split)
    return configuration.derive(_Splits).of(apart) if apart else configuration


class _Splits:
    """The configurations that splits make of one."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._known: dict[frozenset[int], Configuration] = {}

    def of(self, apart: frozenset[int]) -> Configuration:
        known = self._known.get(apart)
        if known is None:
            known = self._known[apart] = _regrouped(self._configuration, apart)
        return known


def _regrouped(configuration: Configuration, apart: frozenset[int]) -> Configuration:
    catalog = split_off(configuration.catalog, apart)

    return replace(
        configuration,
        catalog=catalog,
        _derived={},
    )
