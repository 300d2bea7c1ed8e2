"""What endpoints take a minute, as far as the headers of their answers tell. Pure.

Headers seldom say of which span a limit is, but they say when it is whole again. A limit is taken
to be one a minute where its name says so, where its reset is most of a minute away, or where what
was used comes back at that pace. One whose reset is further away is of a longer span, and no limit
a minute; what is whole again within a second or two tells nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from router.endpoints.headroom import Headroom, RateHeaders, read_headroom
from router.endpoints.rate_limits import MINUTE_S, RateUnit

OF_A_MINUTE: Mapping[RateUnit, tuple[str, ...]] = {
    RateUnit.REQUESTS: ("requests-minute", "req-minute"),
    RateUnit.TOKENS: ("tokens-minute",),
}
"""What headers call limits that are of a minute by their name; else they go by the unit's."""
LATEST_RESET_S = MINUTE_S + 1.0
SURE_RESET_S = 20.0
"""UNVALIDATED: nobody is known to count in spans of between this and a minute."""
TELLING_RESET_S = 2.0
"""Resets are told in whole seconds by some."""
REFILL_S = (45.0, 75.0)
"""Within which all of a limit comes back, as it does steadily."""
NOTHING: Mapping[RateUnit, int] = {}


class LearntLimits:
    """The limits of those endpoints of which they are asked for, by the endpoint's digest."""

    def __init__(self) -> None:
        self._wanted: frozenset[int] = frozenset()
        self._known: dict[int, dict[RateUnit, int]] = {}

    def follow(self, wanted: Collection[int]) -> None:
        """Learn of these from now on, and forget all others."""
        self._wanted = frozenset(wanted)
        self._known = {digest: own for digest, own in self._known.items() if digest in wanted}

    def of(self, digest: int) -> Mapping[RateUnit, int]:
        """Return the limits of an endpoint, as far as they are known."""
        return self._known.get(digest, NOTHING)

    def hear(self, digest: int, headers: RateHeaders, *, now_s: float) -> None:
        """Take note of what an answer says.

        Args:
            headers: those that tell of limits.
            now_s: epoch seconds.
        """
        if digest not in self._wanted:
            return  # most often
        known = self._known.setdefault(digest, {})
        told = read_headroom(headers, now_s=now_s)
        for unit in RateUnit:
            named = next((told.most[k] for k in OF_A_MINUTE[unit] if k in told.most), None)
            limit = told.most.get(unit.value) if named is None else named
            is_minute = named is not None or _is_a_minute(told, unit)
            if is_minute is False:
                known.pop(unit, None)
            elif limit is not None and limit >= 1 and (is_minute or unit in known):
                known[unit] = int(limit)


def _is_a_minute(told: Headroom, unit: RateUnit) -> bool | None:
    """Return whether a limit is one of a minute; None: this answer does not tell."""
    limit, reset_s = told.most.get(unit.value), told.resets_s.get(unit.value)
    if limit is None or reset_s is None or reset_s < TELLING_RESET_S:
        return None
    if reset_s > LATEST_RESET_S:
        return False
    used = limit - told.left.get(unit.value, limit)
    is_refill = used > 0 and REFILL_S[0] <= reset_s * limit / used <= REFILL_S[1]
    return True if reset_s >= SURE_RESET_S or is_refill else None
