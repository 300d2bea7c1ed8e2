"""What came of one prompt at one endpoint."""

from __future__ import annotations

from msgspec import Struct


class ProfileResult(Struct, frozen=True):
    """One answer, and what it was worth."""

    prompt: str  # digest of the line
    task: str
    endpoint: str
    quality: float | None  # in [0, 1]; None: nothing could grade it
    cost_usd: float
    latency_s: float
    tokens_in: int = 0
    tokens_out: int = 0
    ok: bool = True  # an answer came; one that failed counts as quality 0
    graded_by: str = ""  # expected, schema, check or judge
    judge_usd: float = 0.0
    why: str = ""  # it failed, in our words, with status and code
