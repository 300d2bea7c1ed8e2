"""The attempts of one call as a chain: who it began at, what it cost, and what prolonged it."""

from __future__ import annotations

from router.decision.contexts import Contexts
from router.decision.decide import Decision
from router.dispatch.attempt import Attempt
from router.dispatch.costs import settle_cost
from router.dispatch.ending import Ending
from router.dispatch.estimates import estimated
from router.endpoints.catalog import Endpoint
from telemetry.events import Result

PROLONGS_NOTHING = frozenset((Result.OVERTAKEN, Result.CLIENT_GONE))
"""Ends of attempts for which nobody waited any more."""


class WaitedFor:
    """Up to when a call's attempts were waited for."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until: float | None = None  # monotonic seconds; None: the first one still runs

    def added_s(self, ended: Ending) -> float:
        """Return how long the call went on for an attempt after those before it had ended.

        One beside a first that still runs prolongs nothing.
        """
        ended_at, before = ended.began_at + ended.latency_s, self._until
        if ended.number == 1:
            self._until = ended_at
        elif before is not None and ended.result not in PROLONGS_NOTHING:
            self._until = max(before, ended_at)
            return self._until - before
        return 0.0


class AttemptChain(WaitedFor):
    """What is known of a call's attempts so far; each is settled once, when it ended."""

    __slots__ = ("contexts", "cost_nano", "decision", "first_endpoint")

    def __init__(self, decision: Decision, contexts: Contexts) -> None:
        """Begin; nobody was asked yet."""
        self._until = None
        self.decision, self.contexts = decision, contexts
        self.first_endpoint = 0  # digest of who the first attempt went to; 0: nobody was asked yet
        self.cost_nano = 0  # of all that ended, as far as it is known

    def begin(self, endpoint: Endpoint) -> None:
        """Note that an endpoint is asked."""
        self.first_endpoint = self.first_endpoint or endpoint.digest

    def settle(self, attempt: Attempt, *, heard: bool, answer: bytes | None) -> None:
        """Settle what an attempt used and cost, and by how much it prolonged the call.

        Args:
            heard, answer: as `estimated` has them.
        """
        request = self.decision.context.request
        if attempt.usage is None:
            sizes = self.contexts.sizes
            attempt.estimate = estimated(attempt, request, sizes, heard=heard, answer=answer)
        settle_cost(attempt, at_s=self.decision.decided_at_ms / 1000)
        if attempt.usage is not None and attempt.was_told_all:
            self.contexts.learn_size(attempt.endpoint, request, attempt.usage.prompt_tokens)
        attempt.first_endpoint = self.first_endpoint
        attempt.added_s = self.added_s(attempt)
        self.cost_nano += attempt.cost_nano or 0
