"""Simulated units: calls that follow a stored draw, by the law's own rules, many at once.

A third of the calls belong to short sessions, the rest to users' days, or to the ten minutes of an
app. A stored draw ends when the span of its unit is over, or when an alarm names its endpoint.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from router.decision.units import APP_SLOT_S, USER_SLOT_S

SHARES = (0.3, 0.42, 0.28)
"""Of calls in sessions, in users' days, and in the app's ten minutes: 30 % name a session, and of
the others 60 % a user."""
SESSION_SPAN_S = 120
CALLS_A_SESSION = 5.0
N_USERS = 2000
"""So few that most calls of a run of 50,000 follow a draw of its first minutes: the hard case."""


class StoredDraws:
    """What every unit was given. Times are epoch milliseconds."""

    def __init__(self, n_tasks: int, calls_a_second: float) -> None:
        in_span = calls_a_second * SESSION_SPAN_S * SHARES[0]
        n_sessions = max(1, round(in_span / CALLS_A_SESSION / n_tasks))
        self._n_units = np.array([n_sessions, N_USERS, 1])  # a task
        self._spans_ms = [1000 * s for s in (SESSION_SPAN_S, USER_SLOT_S, APP_SLOT_S)]
        self._offsets = np.concatenate([[0], np.cumsum(self._n_units * n_tasks)])
        self._seen = [-1, -1, -1]  # the span that each kind is in
        self.arm = np.full(self._offsets[-1], -1)
        self.propensity = np.zeros(self._offsets[-1])
        self.at_ms = np.zeros(self._offsets[-1], dtype=np.int64)

    def end_spans(self, now_ms: int) -> None:
        """Forget the units whose span is over."""
        for kind, span_ms in enumerate(self._spans_ms):
            if now_ms // span_ms != self._seen[kind]:
                self._seen[kind] = now_ms // span_ms
                self.arm[self._offsets[kind] : self._offsets[kind + 1]] = -1

    def units(self, task: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
        """Return which unit each call belongs to: (n_calls,)."""
        kind = np.searchsorted(np.cumsum(SHARES)[:-1], rng.random(len(task)), side="right")
        n = self._n_units[kind]
        return np.asarray(self._offsets[kind] + task * n + (rng.random(len(task)) * n).astype(int))

    def follow(
        self,
        unit: NDArray[np.intp],
        task: NDArray[np.intp],
        alarmed_at_ms: NDArray[np.int64],
        draw: Callable[[NDArray[np.intp]], tuple[NDArray[np.intp], NDArray[np.float64]]],
        *,
        now_ms: int,
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Return each call's drawn endpoint and propensity; the first call of a unit draws.

        Args:
            unit, task: (n_calls,).
            alarmed_at_ms: (n_endpoints,) when the last alarm named each; earlier draws ended.
            draw: endpoints and propensities of fresh draws, given their tasks.
        """
        held = self.arm[unit]
        stands = (held >= 0) & (self.at_ms[unit] >= alarmed_at_ms[held])
        fresh, first = np.unique(unit[~stands], return_index=True)
        self.arm[fresh], self.propensity[fresh] = draw(task[~stands][first])
        self.at_ms[fresh] = now_ms
        return self.arm[unit], self.propensity[unit]
