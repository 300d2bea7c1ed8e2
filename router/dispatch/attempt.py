"""One call to one endpoint: what goes out, and what comes of it, an answer or a failure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct

from router.budgets.leaves import Leave
from router.dialects.request import Outgoing
from router.dispatch.ending import Ending
from router.dispatch.fates import (
    Fate,
    Refusal,
)
from router.dispatch.held import HeldStream, Hold
from router.dispatch.time_limits import TimeLimits
from router.endpoints.catalog import Endpoint
from router.net.answer import Header
from router.net.pool import UpstreamResponse
from telemetry.events import Result
from telemetry.traces import NOT_TRACED, CallTrace

MAX_ATTEMPTS = 3
"""More than one retry storm is not worth anybody's wait."""


class Attempt(Ending):
    """One call to an endpoint."""

    __slots__ = (
        "deadline",
        "deadline_s",
        "endpoint",
        "grant",
        "hold",
        "let_go_s",
        "limits",
        "outgoing",
        "stream",
    )

    endpoint: Endpoint
    limits: TimeLimits
    deadline: float  # monotonic seconds: of the call, for content
    deadline_s: float
    let_go_s: float  # of a client that is less patient: signs of life pass after this
    hold: Hold
    stream: HeldStream | None
    outgoing: Outgoing | None  # as it was sent
    grant: Leave | None  # by the budgets and limits that hold for its call

    def __init__(
        self,
        endpoint: Endpoint,
        limits: TimeLimits,
        number: int,
        deadline: float,
        deadline_s: float,
        let_go_s: float = math.inf,
        hold: Hold = Hold.CONTENT,
        grant: Leave | None = None,
        trace: CallTrace = NOT_TRACED,
    ) -> None:
        """Begin; nothing is sent yet."""
        Ending.__init__(self, number)
        self.endpoint, self.limits, self.grant = endpoint, limits, grant
        self.deadline, self.deadline_s = deadline, deadline_s
        self.let_go_s, self.hold, self.trace = let_go_s, hold, trace
        self.stream = self.outgoing = None

    @property
    def is_translated(self) -> bool:
        """Whether the call was said in another dialect than it came in."""
        return self.outgoing is not None and self.outgoing.is_translated

    @property
    def was_told_all(self) -> bool:
        """Whether the endpoint was sent all that the call says, so that its count is of that."""
        sent = self.outgoing
        return sent is not None and (sent.is_translated or not sent.left_out)

    @property
    def has_spoken(self) -> bool:
        """Whether there is content of its answer, be it held or not."""
        return self.stream is not None and self.stream.state.spoke


class Sending(Struct):
    """What goes out, and how its answer is to be read."""

    headers: list[Header]
    body: bytes
    request: Outgoing
    hide_usage: bool
    query: bytes = b""  # of the client's own URL
    may_shed: bool = False  # it holds thoughts that the endpoint may not have made

    @property
    def streamed(self) -> bool:
        """Whether the answer is to come in pieces."""
        return self.request.streamed


class Reply(Struct):
    """An answer that may go to the client: status, headers, and the body whole or in chunks."""

    attempt: Attempt
    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes | None
    stream: HeldStream | None = None
    response: UpstreamResponse | None = None
    is_events: bool = False  # `body` is of a stream
    is_read: bool = True  # else its body is in a coding that we do not know

    async def aclose(self) -> None:
        """Give it up."""
        if self.response is not None:
            await self.response.aclose()


class AttemptFailed(Exception):
    """One attempt gave no answer that may go to the client.

    `own` is the provider's own refusal, for the client to see where nobody else may answer.
    """

    def __init__(
        self,
        result: Result,
        detail: str,
        *,
        status: int = 0,
        fate: Fate = Fate.MOMENT,
        retry_after_s: float | None = None,
        own: Reply | None = None,
        is_sent: bool = True,
        refusal: Refusal | None = None,
    ) -> None:
        self.result = result
        self.status = status
        self.fate = fate
        self.retry_after_s = retry_after_s
        self.own = own
        self.is_sent = is_sent  # the endpoint may have begun to work on it
        self.refusal = refusal
        super().__init__(detail)


class StreamOptionsRefused(Exception):
    """The endpoint turns down a field that we added: the call is to be sent without it."""
