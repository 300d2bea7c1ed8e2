"""How one upstream call ended, whoever made it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from router.beliefs.served import NOTHING_SEEN, Seen
from router.dialects.stream import AnswerStream
from telemetry.events import PriceSource, Result, ServiceTier
from telemetry.traces import NOT_TRACED, CallTrace
from telemetry.wire.costs import COST_HEADER, TIER_HEADER, nano_in
from telemetry.wire.told import read_told
from telemetry.wire.usage import Usage, tier_of


@dataclass(slots=True, eq=False)
class Ending:
    """How one upstream call ended, as far as it has."""

    number: int = 1
    result: Result = Result.OK
    status: int = 0
    began_at: float = 0.0  # monotonic seconds
    latency_s: float = 0.0
    ttft_s: float | None = None
    usage: Usage | None = None
    answer_id: str | None = None
    container: str | None = None  # of the provider's, in which the answer ran tools
    item_ids: tuple[str, ...] = ()  # of what it consists of
    model: str | None = None  # who answered, as the answer says
    fingerprint: str | None = None
    seen: Seen = NOTHING_SEEN  # of these two
    thoughts: tuple[str, ...] = ()  # their marks
    machine_s: float = 0.0  # its share of a machine that is paid by the hour; at first its begin
    was_sent: bool = True  # as far as is known
    had_headroom: bool = True  # the endpoint had not said that nothing was left of its limits
    estimate: Usage | None = None  # what it used, where nobody told
    cost_nano: int | None = None  # by the price named here; None: not known
    is_guessed: bool = False  # that cost rests on the estimate
    price_source: PriceSource = PriceSource.NONE
    price_day: int = 0  # the dated price entry: its first day since the epoch; 0: undated
    price: int = 0  # digest of that entry; 0: the cost is by none
    tier: ServiceTier = ServiceTier.USUAL
    said_tier: str | None = None  # the same as the answer's head calls it
    reported_nano: int | None = None  # what it cost by the provider's own word; None: it has none
    first_endpoint: int = 0  # digest of who the call's first attempt went to; 0: here
    added_s: float = 0.0  # by how much a further attempt prolonged the call
    trace: CallTrace = NOT_TRACED  # of the caller, where spans are made

    def take_told(self, body: bytes) -> None:
        """Take over what a body that holds no answer tells nevertheless: usage, and whose."""
        told = read_told(body)
        if told.usage is not None:
            self.usage, self.model = told.usage, told.model

    def read_head(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Take note of what the head of an answer says of cost and service tier."""
        for name, value in headers:
            if name == COST_HEADER:
                self.reported_nano = nano_in(value)
            elif name == TIER_HEADER:
                self.said_tier = tier_of(value.decode("latin-1"))


def take_said(ended: Ending, said: AnswerStream) -> None:
    """Take over what a stream has said of its answer so far."""
    ended.usage, ended.answer_id, ended.model = said.usage, said.id, said.model
    ended.fingerprint, ended.thoughts = said.fingerprint, said.thoughts
    ended.container, ended.item_ids = said.container, said.item_ids
