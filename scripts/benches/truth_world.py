"""Simulated traffic whose truth is known, through the code that folds, infers and watches live.

Calls between two looks at the store are drawn at once, by the exact shares of the tables that a
sidecar would draw from; each carries the prediction and the regime that its token would carry.
Time is simulated. What is left out: sockets, journals, sealed tokens, and failed attempts.
"""

from __future__ import annotations

from collections import deque
from copy import deepcopy
from dataclasses import replace
from typing import Any, NamedTuple

import fakeredis
import numpy as np
from numpy.typing import NDArray

from bandit import cells
from bandit.draws import propensities
from bandit.drift import AlarmKind
from router.beliefs.alarms import Alarms
from router.beliefs.beliefs import believe
from scripts.benches.truth_records import draw_figures, outcomes
from scripts.benches.truth_setting import N_TASKS, Setting, configuration, truth_of
from scripts.benches.truth_units import StoredDraws
from telemetry import keys
from telemetry.events import FeedbackKind, Source
from workers.folding.hearing import LabelStandings
from workers.folding.terms import label_terms, outcome_terms

BEGAN_MS = 1_800_000_000_000
INCARNATION = b"simulated"
VALID, SUCCESS_OF_INVALID = 0.98, 0.2
"""Share of derived labels that find no fault; what a fault leaves of the endpoint's success, where
derived labels tell of it."""
DERIVED_SHARE = 0.5
"""Of the calls that a check can judge."""
STALE_EVERY = 500
"""Looks between two clearings of rows that count no more."""


class Raised(NamedTuple):
    """An alarm."""

    at_ms: int
    arm: int
    kind: AlarmKind


class LateLabels(NamedTuple):
    """Labels that are on their way."""

    due_ms: int
    tokens: NDArray[np.void]
    reward: NDArray[np.float64]
    derived: LabelStandings  # what the sidecar said of the same calls before


class SimulatedWorld:
    """A store, a sidecar and its traffic, look by look."""

    def __init__(
        self, setting: Setting, *, calls_a_second: float, span_s: float, seed: list[int]
    ) -> None:
        """Begin with no evidence.

        Args:
            span_s: how long the run is meant to be; what shifts does so in parts of it.
        """
        self.setting, self.calls_a_second, self.span_s = setting, calls_a_second, span_s
        self.rng = np.random.default_rng(seed)
        self.configuration = configuration(setting.endpoints)
        self.truth = truth_of(setting, self.rng)
        shape = self.truth.shape
        self.calls, self.made, self.labels, self.wins = (np.zeros(shape, int) for _ in range(4))
        self.raised: list[Raised] = []
        self.now_ms = BEGAN_MS
        self.alarms = _alarms()
        self.rows = cells.merge([])
        self._n_looks = 0
        self._stored = StoredDraws(N_TASKS, calls_a_second)
        self._waiting: deque[LateLabels] = deque()
        self._look()

    def fork(self, seed: list[int]) -> SimulatedWorld:
        """Return another world that goes on from here with luck and a store of its own."""
        other = SimulatedWorld(
            self.setting, calls_a_second=self.calls_a_second, span_s=self.span_s, seed=seed
        )
        for name in ("truth", "calls", "made", "labels", "wins", "raised", "_waiting", "_stored"):
            setattr(other, name, deepcopy(getattr(self, name)))
        for name in ("now_ms", "rows", "beliefs", "_n_looks"):
            setattr(other, name, getattr(self, name))
        other.alarms = _alarms(self.alarms.look())
        return other

    def step(self, look_s: float) -> None:
        """Let calls come until the next look at the store, and look."""
        n = int(self.rng.poisson(self.calls_a_second * look_s))
        end_ms = self.now_ms + round(look_s * 1000)
        parts = [self.rows]
        if n:
            parts += self._serve(n, end_ms)
        self.now_ms = end_ms
        while self._waiting and self._waiting[0].due_ms <= end_ms:
            parts += self._tell(self._waiting.popleft())
        self.rows = cells.merge(parts)
        self._n_looks += 1
        if self._n_looks % STALE_EVERY == 0:
            keep = ~cells.is_stale(self.rows.keys, now_ms=self.now_ms)
            self.rows = cells.Terms(self.rows.keys[keep], self.rows.values[keep])
        self._look()

    def _look(self) -> None:
        """Believe, and close the watch's bucket where one is over, as the keeper does."""
        self._believe()
        if not self.alarms.is_due(INCARNATION, now_ms=self.now_ms):
            return
        before = dict(self.alarms.known)
        posterior, of = self.beliefs.posterior, self.configuration
        if self.alarms.close(self.rows, posterior, of, INCARNATION, now_ms=self.now_ms):
            for arm, digest in enumerate(of.catalog.digests.tolist()):
                was, now = before.get(digest), self.alarms.known.get(digest)
                if now is not None and now.alarm and (was is None or now.alarm != was.alarm):
                    self.raised.append(Raised(self.now_ms, arm, now.alarm.kind))
            self._believe()

    def _believe(self) -> None:
        self.beliefs = believe(
            self.configuration,
            self.rows,
            version=self._n_looks,
            watches=self.alarms.known,
            now_ms=self.now_ms,
        )

    def _serve(self, n: int, end_ms: int) -> list[cells.Terms]:
        """Return what `n` calls until `end_ms` add at once; their labels are on their way."""
        task = self._tasks(n)
        drawn, propensity, executed = self._drawn(task)
        np.add.at(self.calls, (task, executed), 1)
        at_ms = np.sort(self.rng.integers(self.now_ms, end_ms, n))
        records = outcomes(
            self.beliefs, task, drawn=drawn, executed=executed, propensity=propensity, at_ms=at_ms
        )
        draw_figures(records, self.rng)
        q = self.truth[task, executed]
        derived, q = self._derived(q)
        terms = outcome_terms(records)
        tokens = np.asarray(records["token"])
        judged = derived.is_derived
        if judged.any():
            fresh = LabelStandings.nothing(int(judged.sum()))
            terms += label_terms(tokens[judged], fresh, derived.of(judged))
        told = self.rng.random(n) < self.setting.labelled
        reward = (self.rng.random(n) < q).astype(float)
        np.add.at(self.made, (task[told], executed[told]), 1)
        due_ms = end_ms + round(self.setting.late_s * 1000)
        self._waiting.append(LateLabels(due_ms, tokens[told], reward[told], derived.of(told)))
        return terms

    def _tell(self, waiting: LateLabels) -> list[cells.Terms]:
        """Return what labels add that have come."""
        tokens, reward, before = waiting.tokens, waiting.reward, waiting.derived
        cell = _places(tokens["category"], self.configuration.task_digests[:N_TASKS])
        arm = _places(tokens["executed"], self.configuration.catalog.digests)
        np.add.at(self.labels, (cell, arm), 1)
        np.add.at(self.wins, (cell, arm), reward.astype(int))
        kind = np.full(len(tokens), FeedbackKind.HUMAN, dtype=np.uint8)
        return label_terms(tokens, before, replace(before, reward=reward, kind=kind, first=reward))

    def _tasks(self, n: int) -> NDArray[np.intp]:
        weight = np.ones(N_TASKS)
        if self.setting.shifting:
            turn = 3 * self._progress + np.arange(N_TASKS) / N_TASKS
            weight += 0.8 * np.sin(2 * np.pi * turn)
        return self.rng.choice(N_TASKS, n, p=weight / weight.sum())

    @property
    def _progress(self) -> float:
        return (self.now_ms - BEGAN_MS) / 1000 / self.span_s

    def up(self) -> NDArray[np.bool_]:
        """Return which endpoints may serve now: in three twelfths of four a third is away."""
        n = self.setting.endpoints
        if not self.setting.shifting:
            return np.ones(n, dtype=bool)
        return np.asarray(np.arange(n) % 3 != int(12 * self._progress) % 4)

    def _drawn(
        self, task: NDArray[np.intp]
    ) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.intp]]:
        """Return drawn endpoint, propensity and executing endpoint of each call."""
        beliefs, up = self.beliefs, self.up()
        objective, law = self.configuration.strategies["learn"].objective, beliefs.learning
        tables = [beliefs.table(c, objective, law, up) for c in range(N_TASKS)]
        shares = np.array([propensities(law, table) for table in tables])  # each group has a host
        ends = np.cumsum(shares, axis=1)[:, :-1]

        def draw(of: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
            arm = (self.rng.random(len(of))[:, None] >= ends[of]).sum(axis=1)
            return arm, shares[of, arm]

        if not self.setting.units:
            arm, propensity = draw(task)
            return arm, propensity, arm
        self._stored.end_spans(self.now_ms)
        unit = self._stored.units(task, self.rng)
        alarmed = np.array([known.alarmed_at_ms for known in beliefs.known])
        arm, propensity = self._stored.follow(unit, task, alarmed, draw, now_ms=self.now_ms)
        return arm, propensity, np.where(up[arm], arm, draw(task)[0])

    def _derived(self, q: NDArray[np.float64]) -> tuple[LabelStandings, NDArray[np.float64]]:
        """Return what is read off calls, and their chance of success given that."""
        n, how = len(q), self.setting.derived
        found = LabelStandings.nothing(n)
        if how is None:
            return found, q
        valid, is_derived = self.rng.random(n) < VALID, self.rng.random(n) < DERIVED_SHARE
        source = np.full(n, Source.SCHEMA, dtype=np.uint8) * is_derived
        found = replace(
            found, derived=(valid & is_derived).astype(float), source=source, is_derived=is_derived
        )
        if how == "telling":
            rest = (1 - (1 - VALID) * SUCCESS_OF_INVALID) / VALID
            q = q * np.where(valid, rest, SUCCESS_OF_INVALID)
        return found, q


def _alarms(known: dict[bytes, bytes] | None = None) -> Alarms:
    """Return watches over a store of their own, which holds what is known already."""
    client: Any = fakeredis.FakeRedis(server=fakeredis.FakeServer())
    if known:
        client.hset(keys.DRIFT, mapping=known)
    out = Alarms(client)
    out.take(out.look())
    return out


def _places(digests: NDArray[np.uint64], names: Any) -> NDArray[np.intp]:
    """Return where each digest stands among names, all of which are there."""
    named = np.array(names, dtype=np.uint64)
    order = np.argsort(named)
    return np.asarray(order[np.searchsorted(named, digests, sorter=order)])
