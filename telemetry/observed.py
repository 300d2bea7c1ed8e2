"""What the router tells the observer of a finished call: the one place where text travels.

It goes over a socket between two processes of one machine and is never written anywhere: the
observer keeps digests, and hands on verdicts.
"""

from __future__ import annotations

import struct

from msgspec import Struct

from telemetry.errors import MalformedEvent
from telemetry.tokens import TOKEN_SIZE

MAX_PART_BYTES = 1 << 20
"""Of a request or an answer; longer calls are not told of."""
U64_MAX = (1 << 64) - 1
_HEADER = struct.Struct(f"<4s{TOKEN_SIZE}sQ16sBBddQQII")
HEADER_BYTES = _HEADER.size
_SIZES = struct.Struct(f"<4s{TOKEN_SIZE + 25}xB32xII")
"""Of a header, what says where its message ends."""
_MAGIC = b"PMO4"
DIALECTS = ("chat", "messages", "responses")
"""In which a call may be, as the router names them."""
_PLACES = {name: place for place, name in enumerate(DIALECTS)}
STATELESS, ANSWERED, STREAMED, DECLARED, IN_SESSION = 1, 2, 4, 8, 16
"""What a header's flags say of a call, by the names of its fields; DECLARED is that it has a unit.
"""


class Observed(Struct, frozen=True, gc=False):
    """One finished call."""

    decision: bytes  # packed token
    app: int  # digest
    unit: bytes  # key of the session or of a known user's slot; empty where neither was declared
    stateless: bool
    answered: bool  # the client received the answer in full
    streamed: bool
    dialect: str  # one of DIALECTS
    began_at_s: float  # epoch seconds, like the end
    ended_at_s: float
    request: bytes  # as the client sent it
    answer: bytes  # JSON, or the whole text of a stream
    in_session: bool = False  # the unit is a session that the caller declared
    first_endpoint: int = 0  # digest of who its first attempt went to; 0: to nobody
    cost_nano: int = 0  # of all its attempts, as far as it is known


def pack(call: Observed) -> bytes:
    """Return the message that tells of a call."""
    flags = (
        (STATELESS if call.stateless else 0)
        | (ANSWERED if call.answered else 0)
        | (STREAMED if call.streamed else 0)
        | (DECLARED if call.unit else 0)
        | (IN_SESSION if call.in_session else 0)
    )
    head = packed_header(
        *(call.decision, call.app, call.unit, flags, call.dialect),
        *(call.began_at_s, call.ended_at_s),
        *(call.first_endpoint, call.cost_nano, len(call.request), len(call.answer)),
    )
    return head + call.request + call.answer


def packed_header(
    decision: bytes,
    app: int,
    unit: bytes,
    flags: int,
    dialect: str,
    began_at_s: float,
    ended_at_s: float,
    first_endpoint: int,
    cost_nano: int,
    n_request: int,
    n_answer: int,
) -> bytes:
    """Return the header of a call's message; request and answer follow.

    Args:
        flags: DECLARED where `unit` is not empty, and what else is so.
        n_request, n_answer: their bytes; all else is as `Observed` has it.
    """
    return _HEADER.pack(
        _MAGIC,
        decision,
        app,
        unit,
        flags,
        _PLACES[dialect],
        began_at_s,
        ended_at_s,
        first_endpoint,
        cost_nano if cost_nano < U64_MAX else U64_MAX,
        n_request,
        n_answer,
    )


def sizes(header: bytes) -> tuple[int, int]:
    """Return the sizes of request and answer that follow a header.

    Raises:
        MalformedEvent: this is no header, or says more than is allowed.
    """
    magic, dialect, request, answer = _SIZES.unpack(header)
    too_long = request > MAX_PART_BYTES or answer > MAX_PART_BYTES
    if magic != _MAGIC or dialect >= len(DIALECTS) or too_long:
        raise MalformedEvent("no message of a router")
    return request, answer


def unpack(header: bytes, body: bytes) -> Observed:
    """Return the call that a header and what follows it tell of."""
    _, decision, app, unit, flags, dialect, *rest = _HEADER.unpack(header)
    began, ended, first_endpoint, cost_nano, n_request, _ = rest
    return Observed(
        decision=decision,
        app=app,
        unit=unit if flags & DECLARED else b"",
        stateless=bool(flags & STATELESS),
        answered=bool(flags & ANSWERED),
        streamed=bool(flags & STREAMED),
        dialect=DIALECTS[dialect],
        began_at_s=began,
        ended_at_s=ended,
        request=body[:n_request],
        answer=body[n_request:],
        in_session=bool(flags & IN_SESSION),
        first_endpoint=first_endpoint,
        cost_nano=cost_nano,
    )
