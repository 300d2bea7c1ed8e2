"""How a run stands: each endpoint, and all of it."""

from __future__ import annotations

from msgspec import Struct

from router.endpoints.catalog import Endpoint
from router.profiling.asking import Got
from router.profiling.plan import Ask, most_at_once
from router.profiling.refused_fields import FieldChange

LONGEST_BACKOFF_S = 16.0
"""Between two calls to an endpoint that has no room and does not say until when."""


class EndpointState:
    """How an endpoint does in this run."""

    def __init__(self, endpoint: Endpoint, *, answered_before: bool = False) -> None:
        """Begin; `answered_before`: in an earlier run."""
        self.answered_before = answered_before
        self.changes: list[FieldChange] = []  # how calls are said there
        self.turned_down: list[tuple[Ask, Got]] = []  # before any answer came
        self.said: dict[str, str] = {}  # by why: a provider's own words, which are not kept
        self.most = most_at_once(endpoint)
        self.under_way = 0
        self.answered = False
        self.faults = 0
        self.rests = 0
        self.rested_s = 0.0
        self.rests_until = 0.0
        self.stopped = ""  # why nothing more is sent there
        self.why = ""  # no answer came, the last time that none did

    @property
    def room(self) -> int:
        """How many calls it may have under way: one that hangs holds a single worker."""
        return self.most if self.answered else 1

    @property
    def answers(self) -> bool:
        """Whether an answer of it came, ever."""
        return self.answered or self.answered_before

    def note_answer(self) -> None:
        """Take note that it answers."""
        self.answered, self.faults, self.rests, self.rested_s = True, 0, 0, 0.0

    def rest(self, asked_s: float, now: float) -> None:
        """Send nothing for a while; calls that were under way together rest once."""
        if now < self.rests_until:
            return
        rest_s = min(asked_s * 2**self.rests, max(asked_s, LONGEST_BACKOFF_S))
        self.rests += 1
        self.rested_s += rest_s
        self.rests_until = now + rest_s


class ProfileProgress(Struct, frozen=True):
    """How far a run is."""

    done: int
    total: int
    spent_usd: float
    under_way: int
    resting: dict[str, float]  # endpoints without room, for so many seconds
