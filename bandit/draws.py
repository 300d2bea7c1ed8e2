"""The law by which one endpoint is drawn, and the exact probability with which it was.

    with probability h          hold-out   the incumbent
    else with probability ε     floor      uniform over the safe groups
    else with probability s     stay       the current choice
    else                        sample     the best of one bank row over the candidates
    then, inside the group      host       the best of one bank row: by the user's order,
                                           or on cost, latency and reliability; but a tenth
                                           of a group's draws takes the least labelled one

Propensities are counted on the very bank that was drawn from, after masks: they carry no
Monte-Carlo error. Where a step has nobody to serve, its mass moves inwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bandit.families import Q
from bandit.hosts import HOST_EXPLORED, least_labelled
from bandit.posterior import N_DRAWS, Bank
from bandit.steps import Step
from bandit.utility import (
    Objective,
    Order,
    admitted,
    arm_scores,
    bank_cost,
    bank_utility,
    best_first,
    best_hosts,
)


@dataclass(frozen=True, slots=True)
class Law:
    """The numbers of one draw, all of groups.

    `challengers` None is learning mode: every eligible group is a candidate, and there is no
    choice to stay at. A hold-out goes to the incumbent in either.
    """

    incumbent: int | None
    current: int | None
    challengers: tuple[int, ...] | None = ()
    holdout: float = 0.0
    floor: float = 0.0
    stay: float = 0.0
    declared: tuple[int, ...] = ()
    """What declared comparisons would choose: the floor serves one of these groups instead of the
    safe ones, whichever has least otherwise."""
    explores_hosts: bool = True
    """Whether some draws inside a group take a host to learn about it."""
    is_exact: bool = False
    """Whether draws are not sharpened in learning mode either. Where a label is of a whole, what it
    says of a part depends on who played the others, and that changes: whoever was left out while
    they were worse must be tried again."""

    @property
    def is_learning(self) -> bool:
        """Whether every eligible group is a candidate."""
        return self.challengers is None


LEARNING = Law(incumbent=None, current=None, challengers=None)


@dataclass(frozen=True, slots=True)
class Uniforms:
    """One number in [0, 1) for each purpose, so that no step's luck depends on another's."""

    share: float
    arm: float
    holdout: float
    floor: float
    stay: float
    row: float
    host: float


@dataclass(frozen=True, slots=True)
class Draw:
    """What one unit was given."""

    arm: int
    group: int
    propensity: float
    step: Step


class Table:
    """Everything about a bank that a draw needs, after masks; it serves any number of draws."""

    def __init__(
        self,
        bank: Bank,
        objective: Objective,
        law: Law,
        eligible: NDArray[np.bool_],
        penalty: NDArray[np.float64] | None,
    ) -> None:
        self.bank = bank
        self.objective = objective
        self.law = law
        self._arms = arms = bank.posterior.arms
        self._has_hosts = arms.n_groups < len(arms.group)
        self._eligible_arms = eligible
        self._penalty = penalty
        self._hosts: dict[int, NDArray[np.intp]] = {}
        self._asked: dict[int, int | None] = {}
        self._host_shares: dict[tuple[int, int], float] = {}  # by group and arm
        self.eligible = eligible  # (n_groups,) groups with at least one eligible host
        if self._has_hosts:
            self.eligible = np.bincount(self._arms.group, eligible) > 0
        self.candidates = _candidates(law, self.eligible)  # (n_groups,) among whom rows are won
        self.winners = self._winners()  # (n_draws,) best candidate group of each row
        n_groups = self._arms.n_groups
        if self.winners is None:
            self.shares = np.zeros(n_groups)  # (n_groups,) of the rows
        else:
            self.shares = np.bincount(self.winners, minlength=n_groups) / N_DRAWS

    def _winners(self) -> NDArray[np.intp] | None:
        """Return the winner of each row; None where no candidate is eligible."""
        candidates, eligible = self.candidates, self._eligible_arms
        in_play = eligible & candidates[self._arms.group] if self._has_hosts else candidates
        if not self.law.is_learning and not in_play.any():
            return None
        shift = np.where(in_play, np.float32(0), np.float32(-np.inf))
        if self.objective.order is not Order.UTILITY:
            # A candidate that was left out still beats whoever is no candidate at all.
            fit = admitted(self.bank.posterior, self.bank.category, self.objective, eligible)
            shift[in_play & ~fit] = LEFT_OUT
        if self._penalty is not None:
            shift = shift - self._penalty.astype(np.float32)
        best = np.asarray((arm_scores(self.bank, self.objective) + shift).argmax(axis=1))
        return self._arms.group[best] if self._has_hosts else best

    @cached_property
    def utility(self) -> NDArray[np.float64]:
        """(n_groups,) posterior mean utility, or the mean rank of an order; -inf where left out."""
        bank = self.bank
        if self.objective.order is Order.UTILITY:
            mean = bank_utility(bank, self.objective)
        else:
            by_arm = arm_scores(bank, self.objective).mean(axis=0, dtype=np.float64)
            fit = admitted(bank.posterior, bank.category, self.objective, self._eligible_arms)
            mean = np.full(self._arms.n_groups, -np.inf)
            np.maximum.at(mean, self._arms.group[fit], by_arm[fit])
        return np.where(self.eligible, mean, -np.inf)

    @cached_property
    def safe(self) -> NDArray[np.bool_]:
        """(n_groups,) candidates of P(quality ≥ floor) ≥ .5 at no more than 3 × the choice's cost.

        In learning mode the choice is the group of the best posterior mean utility.
        """
        bank = self.bank
        mean = bank.posterior.quality.mean[bank.category]
        usd = bank_cost(bank)
        best = self._first(best_first(bank, mean, "quality"))
        current = self.law.current
        if current is None:
            current = best
            if self.objective.order is not Order.UTILITY:
                current = int(self.utility.argmax())
            elif self.objective.has_value:
                value = bank_utility(bank, self.objective)
                current = self._first(best_first(bank, value, self.objective))
        good = mean >= SAFE_QUALITY_SHARE * mean[best]
        return self.candidates & good & (usd <= SAFE_COST_RATIO * usd[current])

    def _first(self, ranked: list[int]) -> int:
        """Return the first eligible group of a ranking."""
        eligible = self.eligible
        return next(g for g in ranked if eligible[g])

    @cached_property
    def floor(self) -> NDArray[np.float64]:
        """(n_groups,) probabilities of a floor draw; all 0 where it has nobody to serve.

        Spread over all the safe groups a floor of .02 gives each so few calls that no estimate of
        another policy can rest on them; so declared comparisons have it to themselves.
        """
        declared = [g for g in self.law.declared if self.eligible[g]]
        if not declared:
            safe = self.safe
            return np.asarray(safe / max(int(np.count_nonzero(safe)), 1))
        otherwise = (1 - self.law.stay) * self.shares
        for group, mass in (
            (self.law.current, self.law.stay),
            (self.law.incumbent, self.law.holdout),
        ):
            if group is not None:
                otherwise[group] += mass
        share = np.zeros(len(self.eligible))
        share[min(declared, key=lambda g: otherwise[g])] = 1.0
        return share

    def hosts(self, group: int) -> NDArray[np.intp]:
        """Return (n_draws,) the best eligible host of a group in each row.

        One that an order leaves out serves only where it leaves out all of them.
        """
        found = self._hosts.get(group)
        if found is None:
            arms = self._serving(group)
            found = self._hosts[group] = best_hosts(self.bank, self.objective, arms)
        return found

    def asked_host(self, group: int) -> int | None:
        """Return the host that is served to learn about it; None where there is nothing to learn.

        That is the least labelled one, as far as it fails no more and costs no more than a floor
        draw may. An order is the user's own: there no host is tried out of turn. Nor is one where
        the user's word is that all are alike.
        """
        if group not in self._asked:
            found = None
            arms, compared = self._serving(group), self._arms.compared
            of_use = compared is None or bool(compared[arms].any())
            if len(arms) > 1 and of_use and self.objective.order is Order.UTILITY:
                posterior, category = self.bank.posterior, self.bank.category
                ok, usd = posterior.reliability.mean[category, arms], self.bank.cost_usd[arms]
                safe = (ok >= SAFE_QUALITY_SHARE * ok.max()) & (usd <= SAFE_COST_RATIO * usd.min())
                labels = posterior.evidence.quality[category, :, Q.N]
                found = least_labelled(labels, arms[safe])
            self._asked[group] = found
        return self._asked[group]

    def _serving(self, group: int) -> NDArray[np.intp]:
        """Return the hosts of a group among which one is chosen."""
        inside = (self._arms.group == group) & self._eligible_arms
        posterior, category = self.bank.posterior, self.bank.category
        return np.flatnonzero(admitted(posterior, category, self.objective, inside))

    def host(self, group: int, uniform: float, *, explores: bool) -> tuple[int, float]:
        """Return a host of a group and its probability inside it."""
        if not self._has_hosts:
            return group, 1.0
        hosts = self.hosts(group)
        asked = self.asked_host(group) if explores else None
        if asked is None:
            arm = int(hosts[int(uniform * N_DRAWS)])
            return arm, self._share(group, arm)
        chosen = uniform / (1 - HOST_EXPLORED)
        arm = asked if chosen >= 1 else int(hosts[int(chosen * N_DRAWS)])
        share = (1 - HOST_EXPLORED) * self._share(group, arm)
        return arm, share + HOST_EXPLORED * (arm == asked)

    def _share(self, group: int, arm: int) -> float:
        """Return in which share of the rows a host is the best of its group."""
        key = group, arm
        found = self._host_shares.get(key)
        if found is None:
            found = self._host_shares[key] = float((self.hosts(group) == arm).mean())
        return found

    def host_shares(self, group: int, *, explores: bool) -> dict[int, float]:
        """Return the probability of each host inside a group; they sum to 1."""
        if not self._has_hosts:
            return {group: 1.0}
        arms, counts = np.unique(self.hosts(group), return_counts=True)
        shares = dict(zip(arms.tolist(), (counts / N_DRAWS).tolist(), strict=True))
        asked = self.asked_host(group) if explores else None
        if asked is not None:
            shares = {arm: (1 - HOST_EXPLORED) * share for arm, share in shares.items()}
            shares[asked] = shares.get(asked, 0.0) + HOST_EXPLORED
        return shares


def tabulate(
    bank: Bank,
    *,
    objective: Objective,
    law: Law,
    eligible: NDArray[np.bool_],
    penalty: NDArray[np.float64] | None = None,
) -> Table:
    """Return the table of a bank after masks and penalties.

    Args:
        eligible: (n_arms,) endpoints that pass every hard constraint; at least one.
        penalty: (n_arms,) taken off every score, in the objective's own units.
    Raises:
        ValueError: no endpoint is eligible.
    """
    if not eligible.any():
        raise ValueError("no endpoint is eligible, so there is nothing to draw from")
    return Table(bank, objective, law, eligible, penalty)


def draw(law: Law, table: Table, uniforms: Uniforms) -> Draw:
    """Return the endpoint that the law gives to these uniforms, with its exact propensity.

    Args:
        law: the table's own law, or that with other masses.
    """
    masses = masses_of(law, table)
    group, step = _pick_group(law, table, uniforms, masses)
    arm, host_share = table.host(group, uniforms.host, explores=law.explores_hosts)
    return Draw(arm, group, _propensity(law, table, group, masses) * host_share, step)


def propensities(law: Law, table: Table) -> NDArray[np.float64]:
    """Return (n_groups,) the probability of each group under the law; they sum to 1.

    p(g) = h·1[inc] + (1−h)·{ε·1[safe]/|safe| + (1−ε)·[s·1[cur] + (1−s)·count/D]}
    """
    masses = masses_of(law, table)
    return np.array([_propensity(law, table, g, masses) for g in range(len(table.eligible))])


Masses = tuple[float, float, float]
"""h, ε, s as they count once nobody's mass has moved inwards."""


def _propensity(law: Law, table: Table, group: int, masses: Masses) -> float:
    h, floor, stay = masses
    if table.winners is None and not stay:
        inner = float(group == _failover(table))
    else:
        sampled = float(table.shares[group]) if table.winners is not None else 0.0
        inner = stay * (group == law.current) + (1 - stay) * sampled
    if floor:
        inner = floor * float(table.floor[group]) + (1 - floor) * inner
    return h * (group == law.incumbent) + (1 - h) * inner


def _pick_group(law: Law, table: Table, uniforms: Uniforms, masses: Masses) -> tuple[int, Step]:
    h, floor, stay = masses
    if uniforms.holdout < h and law.incumbent is not None:
        return law.incumbent, Step.HOLDOUT
    if uniforms.floor < floor:
        below = np.cumsum(table.floor) <= uniforms.floor / floor
        return int(min(below.sum(), np.flatnonzero(table.floor)[-1])), Step.FLOOR
    if uniforms.stay < stay and law.current is not None:
        return law.current, Step.STAY
    if table.winners is None:
        alone = table.eligible.sum() == 1
        return _failover(table), Step.ONLY_ALLOWED if alone else Step.FAILOVER
    return int(table.winners[int(uniforms.row * N_DRAWS)]), Step.SAMPLE


def masses_of(law: Law, table: Table) -> Masses:
    """Return h, ε and s as they count for a table."""
    inc_in = law.incumbent is not None and bool(table.eligible[law.incumbent])
    cur_in = law.current is not None and bool(table.eligible[law.current])
    stay = 0.0
    if cur_in:
        stay = law.stay if table.winners is not None else 1.0
    return (
        law.holdout if inc_in else 0.0,
        law.floor if law.floor and np.count_nonzero(table.floor) else 0.0,
        stay,
    )


def _candidates(law: Law, present: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return C ∩ E: all of E in learning mode, else the choice, the incumbent, the challengers."""
    if law.challengers is None:
        return present
    named = np.zeros(len(present), dtype=bool)
    named[list(law.challengers)] = True
    if law.incumbent is not None:
        named[law.incumbent] = True
    if law.current is not None:
        named[law.current] = True
    return named & present


def _failover(table: Table) -> int:
    utility = np.where(np.isfinite(table.utility), table.utility, LEFT_OUT)
    return int(np.where(table.eligible, utility, -np.inf).argmax())


LEFT_OUT = -1e30
"""Shift of an eligible arm that a strategy would rather not serve; -inf is nobody's."""
SAFE_QUALITY_SHARE = 0.9
"""The floor of `safe`, as a share of the best posterior mean quality among the eligible."""
SAFE_COST_RATIO = 3.0
"""A floor draw may cost at most this many times the current choice."""
