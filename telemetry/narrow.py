"""Records and tokens of version 2, read as the wider ones that came after.

They lie in journals, streams and archives of earlier versions, under references, and in clients
for 30 days. What they could not tell yet is empty.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from telemetry import layouts
from telemetry.events import NARROW_VERSION
from telemetry.tokens import LAYOUT

RECORD_VERSION = NARROW_VERSION
TOKEN_VERSIONS = range(2, 6)

TOKEN = np.dtype(
    [
        ("token_version", "u1"),
        ("key_id", "u1"),
        ("shard", "u1"),
        ("token_flags", "u1"),
        ("nonce", "V16"),
        ("decided_at_ms", "<i8"),
        ("category", "<u8"),
        ("drawn", "<u8"),
        ("executed", "<u8"),
        ("strategy", "<u8"),
        ("app", "<u8"),
        ("release_key", "<u8"),
        ("session", "<u8"),
        ("propensity", "<f4"),
        ("predicted", "<f4"),
        ("predicted_sd", "<f4"),
        ("spread", "<f4"),
        ("regime", "<u4"),
    ]
)
TOKEN_SIZE = TOKEN.itemsize

RECORD = np.dtype(
    [
        ("kind", "u1"),
        ("version", "u1"),
        ("result", "u1"),
        ("attempt", "u1"),
        ("status", "<u2"),
        ("flags", "<u2"),
        ("token", TOKEN),
        ("tokens_in", "<u4"),
        ("tokens_out", "<u4"),
        ("tokens_cached", "<u4"),
        ("tokens_reasoning", "<u4"),
        ("latency_us", "<u4"),
        ("ttft_us", "<u4"),
        ("cost_nano", "<u8"),
        ("response", "V16"),
        ("reference", "V16"),
        ("value_micro", "<i8"),
        ("revision", "<u4"),
        ("feedback_kind", "u1"),
        ("match", "u1"),
        ("source", "u1"),
        ("rules", "u1"),
        ("event", "V16"),
        ("checksum", "<u4"),
        ("padding", "<u4"),
    ]
)
RECORD_SIZE = RECORD.itemsize
_OUTCOME, _REFERENCE_FEEDBACK = 1, 3
_CHANGED = {"version", "token", "response", "checksum", "padding"}


def widened(records: NDArray[np.void], into: np.dtype[np.void]) -> NDArray[np.void]:
    """Return records of version 2 as ones of a wider layout; version and checksum are left out.

    Feedback kept its chain where outcomes have the answer's id, and, without a decision, the time
    of its receipt where others have that of the decision.
    """
    out = np.zeros(len(records), dtype=into)
    for name in set(RECORD.names or ()) - _CHANGED:
        out[name] = records[name]
    out["token"] = widened_tokens(records["token"])
    is_outcome = records["kind"] == _OUTCOME
    out["response"][is_outcome] = records["response"][is_outcome]
    out["chain"][~is_outcome] = records["response"][~is_outcome]
    waits = records["kind"] == _REFERENCE_FEEDBACK
    out["received_at_ms"][waits] = records["token"]["decided_at_ms"][waits]
    out["token"]["decided_at_ms"][waits] = 0
    return out


def widened_tokens(narrow: NDArray[np.void]) -> NDArray[np.void]:
    """Return tokens of version 2 to 5, (n,) of TOKEN, as ones of `layouts.TOKEN`."""
    out = np.zeros(len(narrow), dtype=layouts.TOKEN)
    for name in TOKEN.names or ():
        out[name] = narrow[name]
    out["layout"] = LAYOUT
    return out


def is_token(body: bytes) -> bool:
    """Return whether `body` is a packed token of version 2 to 5."""
    return len(body) == TOKEN_SIZE and body[0] in TOKEN_VERSIONS


def widened_token(body: bytes) -> bytes:
    """Return a packed token of version 2 to 5 as one of today's layout."""
    return widened_tokens(np.frombuffer(body, dtype=TOKEN)).tobytes()
