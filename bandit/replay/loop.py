"""The whole loop in memory: draw, fold, infer, review, with the code that the sidecar runs.

A replay plays sidecar, store and worker in one. Evidence is folded in small batches, as a worker
does; between two batches banks and tables stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from bandit import incumbent, orders, pacing
from bandit.draws import (
    LEARNING,
    Draw,
    Law,
    Table,
    Uniforms,
    draw,
    propensities,
    tabulate,
)
from bandit.evidence import Evidence, discounted
from bandit.families import N_COLUMNS, Family
from bandit.grid import Grid
from bandit.incumbent import Books, Release, Standings
from bandit.limits import Limit, Limits, within
from bandit.pacing import Price
from bandit.posterior import Arms, Bank, Posterior, infer
from bandit.utility import Objective, Order, arm_scores
from bandit.watcher import Watcher

MAX_BATCH = 20
"""Labels folded at once; a worker's own batches hold more, in less time."""
CALLS_PER_BATCH = 100
"""The batch grows by one with so many calls: while little is known, each label counts at once."""
PACING_ROWS = 8
"""Every so-manieth row of the banks goes into the price of money: 32 of 256 fix it to a percent."""
CALLS_A_DAY = 200
"""What a replay takes for a day of traffic: most recordings hold a few thousand calls."""
LEAST_LATENCY_S = 1e-5
"""Below the clock's use; keeps the logarithm finite."""
NANO = 1e9
UNIT_PRICE_USD_PER_MTOK = 1e6 / NANO
"""A recorded cost is kept as nano-dollars at list price, in the place of output tokens."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a replay asks of the loop; money in USD."""

    objective: Objective = field(default_factory=Objective)
    incumbent: int | None = None  # None is learning mode
    release_every: int = 200  # calls
    floor: float = 0.0
    holdout: float = 0.0
    holdout_arm: int | None = None
    declared: tuple[tuple[int, ...], ...] | None = None  # by category: see `Law.declared`
    limits: Limits = field(default_factory=Limits)
    budget_usd: float | None = None  # mean a call
    sharpness: float | None = None
    """η of the quality draws in learning mode: their variance is the posterior's ÷ η, so that 1 is
    exact Thompson sampling, to compare with. None are the draws that the sidecar decides by.
    Beside an incumbent draws are exact in any case."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Prompts that endpoints answered beforehand, graded."""

    category: NDArray[np.intp]  # (n,)
    reward: NDArray[np.float64]  # (n, n_arms)
    cost_usd: NDArray[np.float64]  # (n, n_arms), at list price
    latency_s: NDArray[np.float64] | None  # (n, n_arms)
    profiled: NDArray[np.bool_]  # (n_arms,) endpoints that took part


@dataclass(slots=True)
class Pending:
    """Records that wait to be folded, by family."""

    category: list[int] = field(default_factory=list)
    arm: list[int] = field(default_factory=list)
    at_ms: list[int] = field(default_factory=list)
    columns: list[tuple[float, ...]] = field(default_factory=list)

    def add(self, category: int, arm: int, at_ms: int, columns: tuple[float, ...]) -> None:
        """Append one record; missing columns are 0."""
        self.category.append(category)
        self.arm.append(arm)
        self.at_ms.append(at_ms)
        self.columns.append(columns + (0.0,) * (N_COLUMNS - len(columns)))


class Loop:
    """A policy for replays: everything that Pointsman decides by."""

    def __init__(
        self,
        *,
        n_categories: int,
        n_arms: int,
        rules: Rules,
        rng: np.random.Generator,
        profile: Profile | None = None,
        prior: Profile | None = None,
        n_calls: int = 0,
    ) -> None:
        price = np.full(n_arms, UNIT_PRICE_USD_PER_MTOK)
        self.rules = rules
        self.releases: list[tuple[int, Release]] = []
        self.alarms: list[tuple[int, int]] = []  # (call, arm)
        self.last: Draw | None = None
        self.law: Law = LEARNING
        self.posterior: Posterior
        self._arms = Arms(np.arange(n_arms), np.arange(n_arms), np.zeros(n_arms), price)
        self._n_categories = n_categories
        self._grid = Grid(n_categories, n_arms)
        self._watcher = Watcher(n_categories, n_arms)
        self._pending = {family: Pending() for family in Family}
        self._rng = rng
        self._now_ms = 0
        self._price = np.ones(n_arms)
        self._tables: dict[tuple[int, Law, bytes, float], Table] = {}
        self._banks: dict[int, Bank] = {}
        self._tables_used: list[tuple[Table, float]] = []
        self._since = 0
        self._n_calls = 0
        shape = (n_categories, n_arms)
        self._books = Books(*(np.zeros(s) for s in (n_categories, shape, shape, shape)))
        self._standings: Standings | None = None
        if rules.incumbent is not None:
            self._standings = incumbent.begin(rules.incumbent, n_categories)
        self._room = 0.0
        self._hour, self._settled = 0, np.zeros(n_categories, dtype=bool)
        self._departures = orders.Departures.none(n_categories, n_arms)
        self._order = rng.permutation(n_arms).astype(float)
        self._horizon = n_calls
        self._spent_usd = 0.0
        self._n_slow = 0
        self._dearest_usd = np.zeros(n_arms)  # at list price
        self._seen = np.zeros(n_categories)  # calls of each category
        self._shadow = Price()
        self._use = np.zeros((n_categories, n_arms))
        self._explored = np.zeros(n_categories, dtype=bool)
        self._available = np.ones(n_arms, dtype=bool)  # at the last call
        self._certain_at = np.full(n_categories, -CALLS_A_DAY)  # call of the last such release
        self._prior: Evidence | None = None
        if prior is not None:
            self._know(prior)
            self._fold()
            self._prior = discounted(self._evidence())
            self._grid, self._watcher = Grid(*shape), Watcher(*shape)
        if profile is not None:
            self._know(profile)
        self._refresh()

    # What the sidecar does

    def choose(self, call: int, category: int, available: NDArray[np.bool_]) -> int:
        """Return the arm that serves the call."""
        self._available = available
        self._review(call, available)
        if self._since >= min(1 + self._n_calls // CALLS_PER_BATCH, MAX_BATCH):
            self._refresh()
        self.law = self._law(category)
        eligible = available
        if self.rules.budget_usd is not None:
            eligible = self._affordable(category, available)
        prices = {self._shadow.low: self._shadow.p_low}
        if self._shadow.p_low < 1:
            prices[self._shadow.high] = 1 - self._shadow.p_low
        self._tables_used = [
            (self._table(category, self.law, eligible, price), p) for price, p in prices.items()
        ]
        at = 0 if self._rng.random() < self._shadow.p_low else -1
        self.last = draw(self.law, self._tables_used[at][0], Uniforms(*self._rng.random(7)))
        return self.last.arm

    def propensities(self) -> NDArray[np.float64]:
        """Return (n_arms,) exact probabilities of the last draw, over both prices of money."""
        return np.asarray(sum(p * propensities(self.law, t) for t, p in self._tables_used))

    def _law(self, category: int) -> Law:
        rules = self.rules
        probed, share = self._watcher.probe()
        if self._standings is None:
            if probed is not None and share > rules.floor:
                return Law(
                    rules.holdout_arm,
                    None,
                    None,
                    holdout=rules.holdout,
                    floor=share,
                    declared=(probed,),
                )
            if not rules.floor and not rules.holdout:
                return LEARNING
            declared = () if rules.declared is None else rules.declared[category]
            return Law(
                rules.holdout_arm,
                None,
                None,
                holdout=rules.holdout,
                floor=rules.floor,
                declared=declared,
            )
        if rules.objective.order is not Order.UTILITY:
            return orders.law(self._standings, category, floor=rules.floor)
        return incumbent.law(
            self._standings,
            self.posterior,
            rules.objective,
            category,
            room=self._room,
            explored=bool(self._explored[category]),
            floor=rules.floor,
            holdout=rules.holdout,
        )

    def _bank(self, category: int) -> Bank:
        found = self._banks.get(category)
        if found is None:
            # Among two or three candidates that are worth a trial, as often as they may be better.
            sharpness = 1.0 if self._standings is not None else self.rules.sharpness
            found = self._banks[category] = self.posterior.bank(category, sharpness=sharpness)
        return found

    def _affordable(self, category: int, available: NDArray[np.bool_]) -> NDArray[np.bool_]:
        assert self.rules.budget_usd is not None
        return pacing.affordable(
            category,
            # Whoever is away costs more than there is: the cheapest of those present may serve.
            cost_usd=np.where(available, self.posterior.cost_usd, np.inf),
            dearest_usd=self._dearest_usd * self._price,
            traffic=self._traffic(),
            left_usd=self.rules.budget_usd * self._horizon - self._spent_usd,
            left_calls=max(self._horizon - self._n_calls, 1),
        )

    def _traffic(self) -> NDArray[np.float64]:
        """Return (n_categories,) shares of the calls to come, one made-up call in each."""
        return (1 + self._seen) / (1 + self._seen).sum()

    def _scarce(self) -> tuple[NDArray[np.float64], float] | None:
        """Return what each call uses up of what is rationed, and how much there was for all calls.

        Money, (n_categories, n_arms) expected USD; else, under a soft latency limit, lateness: the
        probability of a slow answer. The limit is then kept over all calls together, so that a
        task whose fast endpoints are bad may be late a little more often than one whose are good.
        """
        if self.rules.budget_usd is not None:
            return self.posterior.cost_usd, self.rules.budget_usd * self._horizon
        if self._rations_lateness:
            limits = self.rules.limits
            assert limits.latency_s is not None
            late = [
                1 - self.posterior.latency.within(c, limits.latency_s)
                for c in range(self._n_categories)
            ]
            return np.stack(late), (1 - limits.latency_prob) * self._horizon
        return None

    @property
    def _rations_lateness(self) -> bool:
        limits = self.rules.limits
        soft = limits.latency_s is not None and Limit.LATENCY not in limits.hard
        return soft and self.rules.budget_usd is None

    def _solve_price(self) -> None:
        """Work out what is rationed, and the price at which the rest of it lasts."""
        found = self._scarce()
        if found is None:
            return
        self._use, total = found
        used = self._spent_usd if self.rules.budget_usd is not None else self._n_slow
        scores = np.stack(
            [
                arm_scores(self._bank(c), self.rules.objective)[::PACING_ROWS]
                for c in range(self._n_categories)
            ],
            axis=1,
        ).astype(np.float64)
        self._shadow = pacing.solve(
            scores,
            self._use,
            self._traffic(),
            target=max(total - used, 0.0) / max(self._horizon - self._n_calls, 1),
        )

    def _table(self, category: int, law: Law, available: NDArray[np.bool_], price: float) -> Table:
        key = (category, law, available.tobytes(), price)
        found = self._tables.get(key)
        if found is None:
            eligible = available
            if self.rules.limits.asked and not self._rations_lateness:
                eligible, _ = within(self.posterior, category, self.rules.limits, available)
                if not eligible.any():
                    eligible = available
            found = self._tables[key] = tabulate(
                self._bank(category),
                objective=self.rules.objective,
                law=law,
                eligible=eligible,
                penalty=price * self._use[category] if price else None,
            )
        return found

    def set_time(self, now_ms: int, price: NDArray[np.float64]) -> None:
        """Move the clock; prices are configuration, so that a change of theirs acts at once."""
        self._now_ms = now_ms
        if raised := self._watcher.close(now_ms, self.posterior):
            self.alarms += [(self._n_calls, arm) for arm in raised]
            self._refresh()
            standings = self._standings
            by_belief = self.rules.objective.order is Order.UTILITY
            if (
                standings is not None
                and by_belief
                and set(raised) & set(standings.current.tolist())
            ):
                self._release(np.ones(len(price), dtype=bool))
        if not np.array_equal(price, self._price):
            self._price = price
            arms = self._arms
            usd = price * UNIT_PRICE_USD_PER_MTOK
            self._arms = replace(arms, output_usd_per_mtok=usd)
            self._refresh()

    # What reaches the workers

    def answered(
        self, category: int, arm: int, *, ok: bool, cost_usd: float, latency_s: float | None
    ) -> None:
        """Note what the sidecar saw of a call."""
        at = self._now_ms
        usage = _usage(cost_usd / self._price[arm], ok=ok)
        self._pending[Family.USAGE].add(category, arm, at, usage)
        self._pending[Family.RELIABILITY].add(category, arm, at, (1.0,) if ok else (0.0, 0.0, 1.0))
        if latency_s is not None and ok:
            self._pending[Family.LATENCY].add(category, arm, at, _latency(latency_s))
        self._n_calls += 1
        self._since += 1
        self._seen[category] += 1
        self._spent_usd += cost_usd
        limit = self.rules.limits.latency_s
        self._n_slow += limit is not None and (latency_s or 0.0) > limit
        self._dearest_usd[arm] = max(self._dearest_usd[arm], cost_usd / self._price[arm])
        self._books.routed[category] += 1
        if arm != self.rules.incumbent:
            self._books.unlabelled[category, arm] += 1

    def judged(self, call: int, category: int, arm: int, reward: float, at_ms: int) -> None:
        """Note a label."""
        self._watcher.hear(category, arm, reward)
        self._pending[Family.QUALITY].add(category, arm, at_ms, (1.0, 1.0, reward, reward**2))
        self._since += 1
        if self._standings is not None and arm != self._standings.current[category]:
            self._since += MAX_BATCH  # a trial's outcome decides on the next one
        if arm != self.rules.incumbent:
            self._books.unlabelled[category, arm] -= 1
            self._books.labelled[category, arm] += 1
            self._books.reward[category, arm] += reward

    def _know(self, profile: Profile) -> None:
        """Take in a profile, in the same cells as what the loop sees by itself."""
        self._dearest_usd = np.maximum(
            self._dearest_usd, np.where(profile.profiled, profile.cost_usd.max(axis=0), 0.0)
        )
        self._seen += np.bincount(profile.category, minlength=self._n_categories)
        for arm in np.flatnonzero(profile.profiled):
            for i, c in enumerate(profile.category.tolist()):
                x = float(profile.reward[i, arm])
                self._pending[Family.QUALITY].add(c, int(arm), 0, (1.0, 1.0, x, x * x))
                usage = _usage(float(profile.cost_usd[i, arm]), ok=True)
                self._pending[Family.USAGE].add(c, int(arm), 0, usage)
                if profile.latency_s is not None:
                    lat = _latency(float(profile.latency_s[i, arm]))
                    self._pending[Family.LATENCY].add(c, int(arm), 0, lat)

    def _fold(self) -> None:
        """Fold what waits."""
        for family, pending in self._pending.items():
            if pending.category:
                grid = self._grid if family is not Family.QUALITY else self._watcher
                grid.add(
                    family,
                    category=np.array(pending.category, dtype=np.intp),
                    arm=np.array(pending.arm, dtype=np.intp),
                    at_ms=np.array(pending.at_ms, dtype=np.int64),
                    columns=np.array(pending.columns),
                )
                self._pending[family] = Pending()

    def _evidence(self) -> Evidence:
        """Return all evidence as of now, what was known beforehand included."""
        now_ms = self._now_ms
        found = replace(
            self._grid.read(now_ms=now_ms), quality=self._watcher.quality(now_ms=now_ms)
        )
        return found if self._prior is None else self._prior + found

    def _refresh(self) -> None:
        """Fold what waits, and infer anew."""
        self._fold()
        self.posterior = infer(self._evidence(), self._arms)
        self._tables.clear()
        self._banks.clear()
        self._since = 0
        self._solve_price()
        if self._standings is not None:
            self._weigh(self._standings)

    def _weigh(self, standings: Standings) -> None:
        """Work out whom the law may try now, and what that may cost."""
        everybody = np.ones(len(self._price), dtype=bool)
        objective = self.rules.objective
        if objective.order is not Order.UTILITY:
            standings, released, settled = orders.review(
                standings,
                self.posterior,
                objective,
                everybody,
                self._due(),
                lost=np.zeros(self._n_categories, dtype=bool),
                departures=self._departures,
                now_ms=self._now_ms,
            )
            self._departures = self._departures.after(released, now_ms=self._now_ms)
            self._settled |= settled
            self.releases += [(self._n_calls, r) for r in released]
            self._standings = orders.choose_challengers(
                standings, self.posterior, objective, everybody, self._order
            )
            return
        standings, released = incumbent.certain(
            standings,
            self.posterior,
            objective,
            self._available,
            self._n_calls >= self._certain_at + CALLS_A_DAY,
        )
        self._certain_at[[r.task for r in released]] = self._n_calls
        self.releases += [(self._n_calls, r) for r in released]
        self._room = incumbent.room(self._books, self.posterior, objective, standings.incumbent)
        self._standings = incumbent.choose_challengers(
            standings, self.posterior, objective, everybody, self._order
        )
        routed = self._books.routed + 1  # one made-up call in each
        self._explored = incumbent.explored_tasks(
            self._standings,
            self.posterior,
            objective,
            CALLS_A_DAY * routed / routed.sum(),
            room=self._room,
        )

    def _due(self) -> NDArray[np.bool_]:
        """Return (n_categories,) tasks that an order reviews: hourly, and until first settled."""
        hour = self._now_ms // int(1000 * orders.REVIEW_EVERY_S)
        if hour != self._hour:
            self._hour, self._settled = hour, np.zeros_like(self._settled)
        return ~self._settled

    def _review(self, call: int, available: NDArray[np.bool_]) -> None:
        if self._standings is not None and call and not call % self.rules.release_every:
            self._release(available)

    def _release(self, available: NDArray[np.bool_]) -> None:
        if self.rules.objective.order is not Order.UTILITY:
            return  # orders are reviewed by the hour
        assert self._standings is not None
        self._standings, released = incumbent.review(
            self._standings, self.posterior, self.rules.objective, available
        )
        self.releases += [(self._n_calls, r) for r in released]


def _usage(list_usd: float, *, ok: bool) -> tuple[float, ...]:
    """Return the columns of USAGE for a call of that cost at list price."""
    tokens = float(round(list_usd * NANO))
    ln = float(np.log(max(tokens, 1.0)))
    spoke = float(tokens > 0)
    return (1.0, float(not ok), 1.0, 0.0, tokens, spoke, ln * spoke, ln * ln * spoke)


def _latency(seconds: float) -> tuple[float, ...]:
    """Return the columns of LATENCY for an answer of that duration."""
    ln = float(np.log(max(seconds, LEAST_LATENCY_S)))
    return (1.0, ln, ln * ln)
