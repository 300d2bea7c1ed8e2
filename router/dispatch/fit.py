"""What endpoints do not take, learnt from calls that another one then answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from router.dispatch.attempt import AttemptFailed
from router.endpoints.catalog import Endpoint
from router.endpoints.health import Health
from router.endpoints.suspensions import SUSPENDED_S, Fields, refused_in

log = structlog.get_logger()


def note_answered(
    by: Endpoint,
    failures: Sequence[tuple[Endpoint, AttemptFailed]],
    health: Health,
    *,
    fields: Callable[[Endpoint], Fields],
    now: float,
) -> None:
    """Note that an endpoint took a call, and what others refused of it before.

    Args:
        fields: of the call's body, as it is sent to an endpoint.
        now: monotonic seconds.
    """
    if not failures and not health.suspended:
        return  # most often
    health.note_accepted(by.digest, lambda: fields(by), now)
    for endpoint, failure in failures:
        refusal = failure.refusal
        if refusal is None or not refusal.parameter or endpoint is by:
            continue
        refused = refused_in(fields(endpoint), refusal.parameter, of_value=refusal.of_value)
        if refused is not None and health.note_refusal(endpoint.digest, refused, now):
            log.error(
                "an endpoint refuses what others take: such calls go elsewhere, it is probed later",
                endpoint=endpoint.id,
                parameter=refused.parameter,
                only_a_value=refused.value is not None,
                probed_after_s=SUSPENDED_S,
            )
