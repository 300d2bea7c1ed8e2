"""How one upstream call ended, whoever made it."""

from __future__ import annotations

from dataclasses import dataclass

from router.beliefs.served import NOTHING_SEEN, Seen
from telemetry.events import Result
from telemetry.wire.usage import Usage


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
    had_headroom: bool = True  # the endpoint had not said that nothing was left of its limits
