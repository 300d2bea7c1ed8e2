"""A week of simulated traffic at twenty endpoints and six tasks, seen as the store would see it.

An app goes by an order strategy and gives next to no labels; another one's calls and thumbs fall
where that one's traffic goes. Prices, wordiness, latency and quality differ by endpoint and task;
latency breathes by the day. One endpoint is away for some hours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bandit.evidence import Evidence
from bandit.families import N_COLUMNS, Family, L, Q, R, U
from bandit.grid import Grid
from bandit.posterior import Arms
from bandit.utility import FLOOR_SHARE

N_ENDPOINTS, N_TASKS = 20, 6
HOUR_S = 3600.0
WEEK_S = 7 * 24 * HOUR_S
BEGAN_MS = 1_800_000_000_000
CALLS_AN_HOUR = (200.0, 100.0, 60.0, 30.0, 15.0, 8.0)
"""Of the app whose calls are routed, by task."""
OTHERS_AN_HOUR = 12.0
"""Calls of the other app, in each task."""
SPARSE, PLENTY = 0.002, 0.2
"""Share of the app's calls that are labelled."""
OTHERS_LABELLED = 0.3
TOKENS_LN_SD, SECONDS_LN_SD = 0.6, 0.4
"""Of single calls; between endpoints they are drawn by the world."""
PROBES_A_MINUTE = 4
"""Calls that an endpoint which is away still gets."""


@dataclass(frozen=True, slots=True)
class OrderWorld:
    """What is true, and never told; by (task, endpoint) but for prices and times."""

    usd_in: NDArray[np.float64]  # (n,) USD a million tokens
    usd_out: NDArray[np.float64]
    tokens_in: NDArray[np.float64]  # (n_tasks,)
    tokens_out: NDArray[np.float64]
    seconds: NDArray[np.float64]  # mean over the day
    phase: NDArray[np.float64]  # (n,) radians, of the day at each endpoint
    ok: NDArray[np.float64]
    quality: NDArray[np.float64]
    others: NDArray[np.float64]  # shares of the other app's calls
    incumbent: int

    @classmethod
    def draw(cls, rng: np.random.Generator) -> OrderWorld:
        """Return a world: the dearer tend to be better, and the incumbent is one of the best."""
        n, shape = N_ENDPOINTS, (N_TASKS, N_ENDPOINTS)
        dear = rng.standard_normal(n)
        usd_out = np.exp(np.log(3) + 1.1 * dear)
        skill = 0.76 + 0.04 * dear + 0.06 * rng.standard_normal(n)
        quality = skill + 0.06 * rng.standard_normal((N_TASKS, 1))
        wordy = 0.35 * rng.standard_normal(n) + 0.15 * rng.standard_normal(shape)
        slow = 0.5 * rng.standard_normal(n) + 0.15 * rng.standard_normal(shape)
        length = np.exp(0.6 * rng.standard_normal((N_TASKS, 1)))
        return cls(
            usd_in=usd_out / 4,
            usd_out=usd_out,
            tokens_in=600 * np.exp(0.5 * rng.standard_normal(N_TASKS)),
            tokens_out=300 * length * np.exp(wordy),
            seconds=2 * np.sqrt(length) * np.exp(slow),
            phase=rng.uniform(0, 2 * np.pi, n),
            ok=1 - np.minimum(np.exp(np.log(0.003) + rng.standard_normal(shape)), 0.1),
            quality=np.clip(quality + 0.08 * rng.standard_normal(shape), 0.1, 0.98),
            others=rng.dirichlet(np.full(n, 0.7), N_TASKS),
            incumbent=int(np.argsort(-skill)[rng.integers(0, 5)]),
        )

    @property
    def arms(self) -> Arms:
        """The endpoints, each a group of its own."""
        n = np.arange(N_ENDPOINTS)
        return Arms(n, n, self.usd_in, self.usd_out)

    @property
    def usd(self) -> NDArray[np.float64]:
        """Expected USD a call."""
        tokens_in = self.tokens_in[:, None] * self.usd_in
        return (tokens_in + self.tokens_out * self.usd_out) / 1e6

    @property
    def is_above(self) -> NDArray[np.bool_]:
        """Whose quality is above the floor."""
        best = self.quality.max(axis=1, keepdims=True)
        return np.asarray(self.quality >= FLOOR_SHARE * best)

    def seconds_at(self, at_s: float) -> NDArray[np.float64]:
        """Expected seconds of an answer at a time."""
        by_day = np.exp(0.15 * np.sin(2 * np.pi * at_s / (24 * HOUR_S) + self.phase))
        return np.asarray(self.seconds * by_day)


class OrderTraffic:
    """Calls and labels of a world, folded as a worker does, span by span."""

    def __init__(self, world: OrderWorld, rng: np.random.Generator, *, labelled: float) -> None:
        self.world = world
        self._labelled = labelled
        self._rng = rng
        self._grid = Grid(N_TASKS, N_ENDPOINTS)

    def serve(
        self, share: NDArray[np.float64], at_s: float, span_s: float, away: int | None
    ) -> NDArray[np.float64]:
        """Make the calls of a span; return how many the app made, by (task, endpoint).

        Args:
            share: (n_tasks, n_endpoints) of the app's calls.
            away: an endpoint that answers nothing; it is probed.
        """
        rng, hours = self._rng, span_s / HOUR_S
        by_day = 1 + 0.6 * np.sin(2 * np.pi * at_s / (24 * HOUR_S))
        made = rng.poisson(np.array(CALLS_AN_HOUR)[:, None] * share * hours * by_day)
        others = rng.poisson(OTHERS_AN_HOUR * self.world.others * hours)
        failed = rng.binomial(made + others, 1 - self.world.ok)
        if away is not None:
            others[:, away] = 0
            failed[:, away] = made[:, away] + round(PROBES_A_MINUTE * span_s / 60 / N_TASKS)
        at_ms = BEGAN_MS + round((at_s + span_s / 2) * 1000)
        self._add_calls(np.maximum(made + others - failed, 0), failed, at_s, at_ms)
        labels = rng.binomial(made, self._labelled) + rng.binomial(others, OTHERS_LABELLED)
        self._add_labels(labels, at_ms)
        return np.asarray(made, dtype=np.float64)

    def evidence(self, at_s: float) -> Evidence:
        """Return what is known at a time."""
        return self._grid.read(now_ms=BEGAN_MS + round(at_s * 1000))

    def _add_calls(
        self, ok: NDArray[np.int64], failed: NDArray[np.int64], at_s: float, at_ms: int
    ) -> None:
        tokens_ln = np.log(self.world.tokens_out) - TOKENS_LN_SD**2 / 2
        seconds_ln = np.log(self.world.seconds_at(at_s)) - SECONDS_LN_SD**2 / 2
        usage, latency, reliability = (np.zeros((*ok.shape, N_COLUMNS)) for _ in range(3))
        tokens_in = np.rint(self.world.tokens_in[:, None] * ok)
        calls = [ok + failed, failed, ok, tokens_in]
        usage[..., [U.CALLS, U.FAILED, U.N, U.TOKENS_IN]] = np.stack(calls, axis=-1)
        ln, ln2, tokens = self._sums(ok, tokens_ln, TOKENS_LN_SD)
        out = [np.rint(tokens), ok, ln, ln2]
        usage[..., [U.TOKENS_OUT, U.N_LOG, U.LN_OUT, U.LN_OUT2]] = np.stack(out, axis=-1)
        ln, ln2, _ = self._sums(ok, seconds_ln, SECONDS_LN_SD)
        latency[..., [L.N, L.LN, L.LN2]] = np.stack([ok, ln, ln2], axis=-1)
        reliability[..., [R.OK, R.SERVER]] = np.stack([ok, failed], axis=-1)
        called = ok + failed > 0
        self._fold(Family.USAGE, usage, called, at_ms)
        self._fold(Family.LATENCY, latency, ok > 0, at_ms)
        self._fold(Family.RELIABILITY, reliability, called, at_ms)

    def _add_labels(self, n: NDArray[np.int64], at_ms: int) -> None:
        good = self._rng.binomial(n, self.world.quality)
        columns = np.zeros((*n.shape, N_COLUMNS))
        columns[..., [Q.LABELS, Q.N, Q.R, Q.R2]] = np.stack([n, n, good, good], axis=-1)
        self._fold(Family.QUALITY, columns, n > 0, at_ms)

    def _sums(
        self, n: NDArray[np.int64], ln: NDArray[np.float64], sd: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return Σ ln x, Σ (ln x)² and Σ x of n log-normals in each cell."""
        cells = np.repeat(np.arange(n.size), n.ravel())
        drawn = ln.ravel()[cells] + sd * self._rng.standard_normal(len(cells))
        by_ln, by_ln2, by_x = (
            np.asarray(np.bincount(cells, x, n.size), dtype=np.float64).reshape(n.shape)
            for x in (drawn, drawn**2, np.exp(drawn))
        )
        return by_ln, by_ln2, by_x

    def _fold(
        self, family: Family, columns: NDArray[np.float64], where: NDArray[np.bool_], at_ms: int
    ) -> None:
        task, arm = np.nonzero(where)
        if len(task):
            at = np.full(len(task), at_ms, dtype=np.int64)
            self._grid.add(family, category=task, arm=arm, at_ms=at, columns=columns[where])
