"""A breaker: who keeps failing rests, is probed, and comes back slowly. Pure, `now` is passed in.

What goes wrong at an endpoint is of three kinds, and one says nothing of another: it has nothing
left for us, it fails, or it turns our key or model down. Each has a circuit of its own. Times are
monotonic seconds.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from router.endpoints.headroom import RateHeaders
from router.endpoints.suspensions import Suspensions
from telemetry.events import Result


class Trouble(StrEnum):
    """What is wrong with an endpoint."""

    FAILING = "failing"  # no connection, 5xx, silence, cuts, answers without an answer
    EXHAUSTED = "exhausted"  # 429
    MISCONFIGURED = "misconfigured"  # our key or model was turned down


class Rule(NamedTuple):
    """When a circuit opens, and how long it rests before the first probe and before any."""

    failures: int  # in a row
    first_rest_s: float
    longest_rest_s: float


LONGEST_REST_S = 15.0
"""With calls every few seconds an endpoint is back within half a minute of its recovery."""
MAX_REFUSED_THOUGHTS = 4096
"""Those of the conversations of an hour or so; a megabyte at most."""
RULES = {
    # Where one call in a hundred fails by itself, five in a row come once in 10^10 calls.
    Trouble.FAILING: Rule(5, 1.0, LONGEST_REST_S),
    Trouble.EXHAUSTED: Rule(5, 1.0, LONGEST_REST_S),
    # A wrong key does not mend itself: one refusal is enough, and probes are rare.
    Trouble.MISCONFIGURED: Rule(1, 30.0, 600.0),
}
LONGEST_PAUSE_S = 60.0
"""An announced pause, or a limit's reset, is honoured up to this: announcements may be wrong."""
PROBE_LOST_S = LONGEST_REST_S
"""A probe that never reported back does not hold the door for longer than a rest."""
OUTAGE_S = 60.0
"""A breaker that is open for so long makes sessions and users' days draw a stand-in."""
SLOW_START_S = 10.0
"""After this any herd is back: 2 calls at once double each second, to two thousand."""
FIRST_BACK = 2
"""Calls at once that an endpoint gets when its breaker has just closed."""
_TROUBLES = {
    Result.RATE_LIMIT: Trouble.EXHAUSTED,
    Result.SERVER: Trouble.FAILING,
    Result.TIMEOUT: Trouble.FAILING,
    Result.CONNECT: Trouble.FAILING,
    Result.CUT: Trouble.FAILING,
    Result.BAD_REPLY: Trouble.FAILING,
    Result.REFUSED: Trouble.MISCONFIGURED,
}
NEVER = float("-inf")


@dataclass(slots=True)
class Circuit:
    """One kind of trouble at an endpoint."""

    failures: int = 0  # in a row
    rest_s: float = 0.0
    open_since: float | None = None
    open_until: float = NEVER  # from then on it may be probed
    n_opened: int = 0

    def fail(self, rule: Rule, began_at: float, now: float, announced_s: float | None) -> None:
        """Note a failure; only what was asked after a rest lengthens the next one."""
        self.failures += 1
        if self.open_since is None:
            if self.failures < rule.failures and announced_s is None:
                return
            self.open_since, self.rest_s = now, rule.first_rest_s
            self.n_opened += 1
        elif began_at >= self.open_until:
            self.rest_s = min(2 * self.rest_s, rule.longest_rest_s)
        elif announced_s is None:
            return
        self.open_until = max(self.open_until, now + (announced_s or self.rest_s))

    def succeed(self, began_at: float) -> None:
        """Note an answer: it closes the circuit unless it was asked for before that opened."""
        if self.open_since is None or began_at >= self.open_since:
            self.failures, self.open_since, self.open_until = 0, None, NEVER


def _circuits() -> dict[Trouble, Circuit]:
    return {trouble: Circuit() for trouble in Trouble}


@dataclass(slots=True)
class Breaker:
    """All that this process knows of how one endpoint is doing."""

    circuits: dict[Trouble, Circuit] = field(default_factory=_circuits)
    in_flight: int = 0
    open_since: float | None = None  # of the first circuit that opened; None while all are closed
    probing_since: float | None = None
    failed_at: float = NEVER
    closed_at: float = NEVER
    slow_until: float = NEVER
    outage_ended_at: float = NEVER  # when it closed after having been open for `OUTAGE_S`
    rate_headers: RateHeaders = ()  # the last that it sent
    empty_until: float = NEVER  # it said itself that nothing is left until then
    spent_until: float = NEVER  # the same, however long that is
    suspensions: Suspensions = field(default_factory=Suspensions)
    refuses_stream_options: bool = False
    refused_with: int = 0  # status with which key or model was last turned down
    refused_thoughts: set[str] = field(default_factory=set)  # by marks

    @property
    def rests_until(self) -> float:
        """When it may be asked again; long past where it does not rest."""
        return max(self.empty_until, *(c.open_until for c in self.circuits.values()))

    @property
    def has_marks(self) -> bool:
        """Whether any circuit counts failures."""
        return any(circuit.failures for circuit in self.circuits.values())

    def is_calm(self, now: float) -> bool:
        """Return whether nothing holds calls back."""
        return self.open_since is None and now >= self.slow_until and now >= self.empty_until

    def is_blocked(self, now: float) -> bool:
        """Return whether the endpoint may not be called now, while another one may serve."""
        if now < self.rests_until:
            return True
        if self.open_since is not None:
            probing = self.probing_since
            return probing is not None and now - probing < PROBE_LOST_S
        return now < self.slow_until and self.in_flight >= calls_back(now - self.closed_at)

    def is_out(self, now: float) -> bool:
        """Return whether it has been open for so long that stand-ins are drawn."""
        return self.open_since is not None and now - self.open_since >= OUTAGE_S

    def begin(self, now: float) -> None:
        """Note that a call starts; through an open breaker it is a probe."""
        self.in_flight += 1
        if self.open_since is not None:
            self.probing_since = now

    def end(self, result: Result, now: float, began_at: float, retry_after_s: float | None) -> None:
        """Note how a call ended."""
        self.in_flight -= 1
        probed = self.probing_since is not None and began_at >= self.probing_since
        if probed:
            self.probing_since = None
        trouble = _TROUBLES.get(result)
        if trouble is not None:
            self.failed_at = now
            if began_at >= self.closed_at:  # else it tells of the outage that is over
                self._fail(trouble, began_at, now, retry_after_s)
        elif result is Result.OK:
            for circuit in self.circuits.values():
                circuit.succeed(began_at)
        elif result is Result.CLIENT_ERROR:  # it answers; of key and quota that says nothing
            self.circuits[Trouble.FAILING].succeed(began_at)
        self._settle(now, probed)

    def note_refused_thoughts(self, marks: Collection[str]) -> None:
        """Note which thoughts are not the endpoint's own, so that it is not sent them again."""
        if len(self.refused_thoughts) > MAX_REFUSED_THOUGHTS:
            self.refused_thoughts.clear()
        self.refused_thoughts.update(marks)

    def reconfigure(self, now: float, *, new_key: bool) -> None:
        """Forget what another configuration may have mended: key and model, and with a new key all.

        What it was learnt to refuse is tried again as well.
        """
        self.suspensions, self.refuses_stream_options = Suspensions(), False
        for trouble, circuit in self.circuits.items():
            if new_key or trouble is Trouble.MISCONFIGURED:
                circuit.succeed(now)
        if new_key:
            self.empty_until = self.spent_until = NEVER
        self._settle(now, probed=False)

    def renew_key(self, now: float) -> None:
        """Forget what the key before was refused for: of how the endpoint does a new one says none.

        What it was learnt to refuse stays: keys of some hours are renewed all day.
        """
        for trouble in (Trouble.MISCONFIGURED, Trouble.EXHAUSTED):
            self.circuits[trouble].succeed(now)
        self.empty_until = self.spent_until = NEVER
        self._settle(now, probed=False)

    def _fail(
        self, trouble: Trouble, began_at: float, now: float, retry_after_s: float | None
    ) -> None:
        announced_s = None
        if trouble is Trouble.EXHAUSTED and retry_after_s:
            announced_s = min(retry_after_s, LONGEST_PAUSE_S)
        self.circuits[trouble].fail(RULES[trouble], began_at, now, announced_s)

    def _settle(self, now: float, probed: bool) -> None:
        """Open or close as a whole; what a probe did not mend rests again."""
        still_open = [c for c in self.circuits.values() if c.open_since is not None]
        if still_open:
            if self.open_since is None:
                self.open_since = now
            for circuit in still_open if probed else ():
                circuit.open_until = max(circuit.open_until, now + circuit.rest_s)
        elif self.open_since is not None:
            was_open_s = now - self.open_since
            self.open_since, self.probing_since, self.closed_at = None, None, now
            self.slow_until = now + min(was_open_s, SLOW_START_S)
            if was_open_s >= OUTAGE_S:
                self.outage_ended_at = now


def calls_back(closed_for_s: float) -> float:
    """Return how many calls at once an endpoint may have so long after its breaker closed.

    A lone caller never notices; of a herd each second twice as many come back.
    """
    return FIRST_BACK * math.pow(2.0, closed_for_s)
