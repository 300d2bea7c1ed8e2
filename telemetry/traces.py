"""The caller's trace of a call, as its outcomes carry it: W3C's trace id and the caller's span.

An outcome has room for it in fields that only other kinds use: the trace id in `chain`, the span
in `repeat_endpoint`, what was asked for in `match`. All are zero where no trace is told of.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import NamedTuple

from telemetry.digests import digest8


class Operation(IntEnum):
    """What a call asks for, as OpenTelemetry tells operations apart."""

    CHAT = 0
    EMBEDDINGS = 1
    TEXT_COMPLETION = 2


class CallTrace(NamedTuple):
    """Where a call belongs in its caller's trace."""

    trace_id: bytes  # 16 bytes; zeros: none is told of
    span_id: bytes  # 8 bytes: the caller's own span
    operation: Operation


NOT_TRACED = CallTrace(bytes(16), bytes(8), Operation.CHAT)
_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_FIRST_VERSION, _NO_VERSION = b"00", b"ff"
SAMPLED = 1


def parse_traceparent(header: bytes, operation: Operation) -> CallTrace:
    """Return the trace that a header names; NOT_TRACED where it is not sampled, or is malformed.

    Of versions to come, what the first one has is read, as the recommendation asks for.

    Ref: W3C Trace Context (2021), section 3.2.
    """
    found = _TRACEPARENT.fullmatch(header.strip())
    if found is None or found[1] == _NO_VERSION or (found[5] and found[1] == _FIRST_VERSION):
        return NOT_TRACED
    trace_id, span_id = bytes.fromhex(found[2].decode()), bytes.fromhex(found[3].decode())
    if not int(found[4], 16) & SAMPLED or not any(trace_id) or not any(span_id):
        return NOT_TRACED
    return CallTrace(trace_id, span_id, operation)


def model_key(endpoint: int) -> int:
    """Return the digest under which the store has the name of an endpoint's model."""
    return digest8("model of", f"{endpoint:016x}")


def provider_key(endpoint: int) -> int:
    """Return the digest under which the store has the name of an endpoint's provider."""
    return digest8("provider of", f"{endpoint:016x}")
