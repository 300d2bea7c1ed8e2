"""Simulated raters, a few of whom rate to move traffic, through the code that folds and draws live.

Every label is a feedback record with a token of its own, folded by `effects`; traffic is the exact
share that the law gives each endpoint at a look. What is left out: sockets, journals, seals.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from bandit import cells
from bandit.draws import propensities
from scripts.benches.truth_records import outcomes
from scripts.benches.truth_setting import Setting
from scripts.benches.truth_world import BEGAN_MS, SimulatedWorld
from telemetry.events import MICRO, FeedbackKind, Flag, Kind
from telemetry.layouts import RECORD
from workers.folding.batch import DAY_MS, Batch, Decision
from workers.folding.effects import effects
from workers.folding.raters import Seat

QUALITY = (0.75, 0.70, 0.70, 0.70)
"""The best is five points ahead of everybody: so the one that is praised has least to catch up."""
BEST, PRAISED, TASK = 0, 3, 0
N_RATERS, N_POISONERS = 1000, 10
TIMES_USUAL = 1000
TURNS_A_DAY = 3
"""In each a part of the others rate, then all poisoners in one burst; each is looked at alone."""
BURST_MS = 2000
"""After the others: the watch over changes closes a bucket a second."""


class Raters(StrEnum):
    """What the poisoners do, and whether it is bounded."""

    HONEST = "no poison"
    CAPPED = "poison, capped"
    UNCAPPED = "poison, uncapped"


class Where(StrEnum):
    """Which endpoints are rated. All but the first are rated where the law has them served."""

    EVERYWHERE = "everywhere"  # all of them, by every rater, once a day each
    SLOTS = "slots"  # the one that a rater's day was given, as where calls name no session
    SESSIONS = "sessions"  # the same, but the poisoners begin a session, and draw anew, each time


@dataclass(slots=True)
class _Known:
    """What the store knows of today's decisions."""

    labels: dict[Decision, bytes]
    seats: dict[Seat, bytes]


class RatedWorld(SimulatedWorld):
    """A store, a sidecar and its raters, look by look; in one task."""

    def __init__(self, *, n_days: int, seed: list[int]) -> None:
        setting = Setting(len(QUALITY), 1.0)
        span_s = n_days * DAY_MS / 1000
        super().__init__(setting, calls_a_second=N_RATERS / 86_400, span_s=span_s, seed=seed)
        self.where = Where.EVERYWHERE
        self._day = 0
        self.shares: list[NDArray[np.float64]] = []  # (n_endpoints,) at each look
        self._known = _Known({}, {})
        self._given = np.zeros(N_POISONERS, dtype=np.intp)  # of each, for the day
        self._key = self.rng.bytes(32)

    def live(self, n_days: int, raters: Raters, where: Where) -> None:
        """Let days pass, each with its raters in another order."""
        self.raters, self.where = raters, where
        self._flags = Flag.ROUTED if raters is Raters.UNCAPPED else Flag.ROUTED | Flag.RATED
        for day in range(self._day, self._day + n_days):
            order = self.rng.permutation(N_RATERS)
            self._known = _Known({}, {})  # nobody comes back to what was said yesterday
            self._given = self._given_to(N_POISONERS, self.share())
            for turn, users in enumerate(np.array_split(order, TURNS_A_DAY)):
                self.now_ms = BEGAN_MS // DAY_MS * DAY_MS + day * DAY_MS
                self.now_ms += (turn + 1) * DAY_MS // (TURNS_A_DAY + 1)
                self.shares.append(self.share())
                self._rate(users)
                if raters is not Raters.HONEST:
                    self.now_ms += BURST_MS
                    self._poison(TIMES_USUAL // TURNS_A_DAY)
        self._day += n_days

    def share(self) -> NDArray[np.float64]:
        """Return which share of the calls each endpoint is given now."""
        objective, law = self.configuration.strategies["learn"].objective, self.beliefs.learning
        up = np.ones(len(QUALITY), dtype=bool)
        return np.asarray(propensities(law, self.beliefs.table(TASK, objective, law, up)))

    def _rate(self, users: NDArray[np.intp]) -> None:
        """Let some raters say what they think, each once of what it was served."""
        if self.raters is not Raters.HONEST:
            users = users[users >= N_POISONERS]
        who, arm = users, self._given_to(len(users), self.shares[-1])
        if self.where is Where.EVERYWHERE:
            who = np.repeat(users, len(QUALITY))
            arm = np.tile(np.arange(len(QUALITY)), len(users))
        self._fold(who, arm, self.rng.random(len(arm)) < np.array(QUALITY)[arm])

    def _poison(self, n_times: int) -> None:
        """Let the poisoners rate so often, wherever they were served and mean something by it."""
        who = np.repeat(np.arange(N_POISONERS), n_times)
        match self.where:
            case Where.EVERYWHERE:
                who, arm = np.repeat(who, 2), np.tile([BEST, PRAISED], len(who))
            case Where.SLOTS:
                arm = self._given[who]
            case Where.SESSIONS:
                arm = self._given_to(len(who), self.share())
        meant = (arm == BEST) | (arm == PRAISED)
        self._fold(who[meant], arm[meant], arm[meant] == PRAISED)

    def _given_to(self, n: int, share: NDArray[np.float64]) -> NDArray[np.intp]:
        return np.asarray(self.rng.choice(len(QUALITY), n, p=share))

    def _fold(
        self, who: NDArray[np.intp], arm: NDArray[np.intp], passed: NDArray[np.bool_]
    ) -> None:
        """Fold what raters say of endpoints, and look at it."""
        records = self._feedback(who, arm, passed)
        today, known = records["token"]["decided_at_ms"] // DAY_MS, self._known
        found = effects(
            Batch(records, today), known.labels, seated=known.seats, raters_key=self._key
        )
        known.labels.update(found.labels)
        known.seats.update(found.raters)
        self.rows = cells.merge([self.rows, found.terms])
        self._look()

    def _feedback(
        self, who: NDArray[np.intp], arm: NDArray[np.intp], passed: NDArray[np.bool_]
    ) -> NDArray[np.void]:
        n = len(who)
        served = outcomes(
            self.beliefs,
            np.full(n, TASK),
            drawn=arm,
            executed=arm,
            propensity=self.shares[-1][arm],
            at_ms=np.full(n, self.now_ms),
        )
        out = np.zeros(n, dtype=RECORD)
        out["kind"], out["feedback_kind"] = Kind.FEEDBACK, FeedbackKind.HUMAN
        token = served["token"]
        token["user"], token["token_flags"] = who + 1, self._flags
        token["nonce"], out["event"] = (
            np.frombuffer(self.rng.bytes(16 * n), dtype="V16") for _ in range(2)
        )
        out["token"] = token
        out["value_micro"] = MICRO * passed
        return out
