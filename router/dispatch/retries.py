"""After a failure: the same endpoint again, the next one, or the end.

What may well work in a moment is repeated once where another endpoint could answer, and as often
as a call has attempts where none could; an announced pause is waited for if it is short. Attempts
at an endpoint that failed just now come out of one budget for the whole process.
"""

from __future__ import annotations

from collections.abc import Callable

from router.dispatch.attempt import MAX_ATTEMPTS, AttemptFailed
from router.dispatch.fates import Fate
from router.endpoints.catalog import Endpoint
from telemetry.events import Result

FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 8.0
LONGEST_WAIT_S = 10.0
"""A longer announced pause is not waited for: another endpoint, or the caller's own patience."""
MOST_OF_REST = 1 / 3
"""Of what a client still waits: the answer needs its time as well, and a client that would run out
of it does better with the refusal, and a pause of its own."""
JITTER = 0.1
"""Of an announced pause: those who heard it together do not come back together."""


def pause_before_repeat_s(
    failure: AttemptFailed,
    n_repeats: int,
    *,
    has_others: bool,
    left_s: float,
    random: Callable[[], float],
) -> float | None:
    """Return how long to wait before the same endpoint is asked again; None: it is not.

    Args:
        n_repeats: how often it was repeated already.
        has_others: another endpoint may answer instead.
        left_s: until the call's deadline.
        random: uniform in [0, 1).
    """
    if failure.fate is not Fate.MOMENT or failure.result is Result.TIMEOUT:
        return None  # whoever was silent once is not waited for again
    if n_repeats >= (1 if has_others else MAX_ATTEMPTS - 1):
        return None
    asked_s = failure.retry_after_s
    if asked_s is not None:
        wait_s = asked_s * (1 + JITTER * random())
        if asked_s > LONGEST_WAIT_S:
            return None
    else:  # full jitter
        wait_s = random() * min(FIRST_BACKOFF_S * 2**n_repeats, LONGEST_BACKOFF_S)
    return wait_s if wait_s < left_s * MOST_OF_REST else None


def may_take_over(endpoint: Endpoint, from_: Endpoint, fate: Fate) -> bool:
    """Return whether an endpoint may answer what another turned down."""
    if fate is not Fate.CONTEXT or endpoint.context_tokens is None:
        return True
    return from_.context_tokens is not None and endpoint.context_tokens > from_.context_tokens
