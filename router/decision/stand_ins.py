"""Stand-ins: an outage ends no stored draw. Pure, no I/O.

Once the breaker of the drawn endpoint has been open for a minute, a declared session or a user's
day draws a stand-in, by the law over what is left. It is stored beside the draw, which stays. A
day returns to its first draw; a session stays with its stand-in, because its cache is there.
Slots of ten minutes have none: the plan's next endpoint serves them meanwhile.
"""

from __future__ import annotations

from hashlib import blake2b

from router.decision.context import Moment
from router.decision.shared_draws import StoredDraw
from router.decision.units import SESSION_S, Unit
from router.endpoints.breaker import NEVER, Breaker

RETURN_S = 60.0
"""A breaker that has been closed for so long is taken to stay closed."""
SPREAD_S = 600.0
"""Days return over this time, each at its own moment: a herd would find cold caches all at once."""


def may_serve(unit: Unit, held: StoredDraw, breaker: Breaker, at: Moment) -> bool:
    """Return whether a stand-in serves the unit now, if it has one.

    Args:
        held: the first draw.
        breaker: of the endpoint that was drawn first.
    """
    if breaker.open_since is None and breaker.outage_ended_at == NEVER:
        return False  # most often
    if unit.key is None or not (unit.is_session or unit.is_day):
        return False
    now = at.monotonic_s
    if breaker.open_since is not None and not breaker.is_blocked(now):
        return False  # a probe is due: those whose endpoint it is make it, or nobody might
    if breaker.is_out(now):
        return True
    over_for_s = now - breaker.outage_ended_at
    if unit.is_day:
        return over_for_s < RETURN_S + SPREAD_S * int.from_bytes(unit.key[-4:]) / 2**32
    began_before = (at.store_ms - held.decided_at_ms) / 1000 > over_for_s
    return over_for_s < SESSION_S and began_before


def key_of(unit_key: bytes, held: StoredDraw) -> bytes:
    """Return what the stand-in for a unit's draw is stored under: whose it is shows as there."""
    rest = blake2b(held.pack(), key=unit_key, digest_size=8, person=b"stand-in").digest()
    return unit_key[:8] + rest
