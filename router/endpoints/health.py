"""Breakers: an endpoint that keeps failing rests, is probed, and comes back. `now` is passed in.

Five failures in a row open the breaker, and so does an announced pause. It stays open for a
second, then twice as long after each failed probe, up to a minute; then one call at a time may
probe.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from router.endpoints.catalog import Catalog
from telemetry.events import Result

FAILURES_TO_OPEN = 5
FIRST_REST_S = 1.0
LONGEST_REST_S = 60.0
PROBE_LOST_S = 30.0
"""A probe that never reported back does not hold the door for ever."""
LATELY_S = 10.0
"""Whoever failed within this time is asked again out of the retry budget only."""
REFUSED_FACTOR = 30.0
"""A wrong key does not mend itself: its endpoint rests so many times longer."""
LONGEST_REFUSED_S = 600.0
LOST_S = 60.0
"""A stored draw ends once its endpoint's breaker has been open this long."""


@dataclass(slots=True)
class Breaker:
    """The state of one endpoint."""

    failures: int = 0
    rest_s: float = FIRST_REST_S
    open_until: float = 0.0
    open_since: float | None = None
    probing_since: float | None = None
    in_flight: int = 0
    failed_at: float = float("-inf")


class Health:
    """All breakers of this process, by the endpoint's digest: it outlives a configuration."""

    def __init__(self) -> None:
        self.breakers: defaultdict[int, Breaker] = defaultdict(Breaker)
        self.troubled: set[int] = set()  # breakers that are not plainly closed
        self._keys: dict[int, tuple[bytes, bytes] | None] = {}

    def follow(self, catalog: Catalog) -> None:
        """Go on under another catalog: who stays keeps its state, but for a key that is new.

        Who is gone is forgotten, unless a call that began before is still under way there.
        """
        keys = {endpoint.digest: endpoint.auth_header for endpoint in catalog.endpoints}
        for digest, breaker in list(self.breakers.items()):
            if digest not in keys:
                self.troubled.discard(digest)
                if not breaker.in_flight:
                    del self.breakers[digest]
            elif keys[digest] != self._keys.get(digest, keys[digest]):
                self._close(digest)
        self._keys = keys

    def is_blocked(self, digest: int, now: float) -> bool:
        """Return whether the endpoint may not be called now."""
        if digest not in self.troubled:
            return False
        breaker = self.breakers[digest]
        if now < breaker.open_until:
            return True
        probing = breaker.probing_since
        return probing is not None and now - probing < PROBE_LOST_S

    def is_lost(self, digest: int, now: float) -> bool:
        """Return whether the breaker is open, and has been so long that stored draws end."""
        breaker = self.breakers[digest]
        since = breaker.open_since
        return since is not None and now < breaker.open_until and now - since >= LOST_S

    def failed_lately(self, digest: int, now: float) -> bool:
        """Return whether the endpoint failed just now, whatever came after."""
        return now - self.breakers[digest].failed_at < LATELY_S

    def begin(self, digest: int, now: float) -> None:
        """Note that a call starts; through a breaker that may be probed it is the probe."""
        breaker = self.breakers[digest]
        breaker.in_flight += 1
        if digest in self.troubled:
            breaker.probing_since = now

    def end(
        self, digest: int, result: Result, now: float, *, retry_after_s: float | None = None
    ) -> None:
        """Note how a call ended."""
        breaker = self.breakers[digest]
        breaker.in_flight -= 1
        probed = breaker.probing_since is not None
        breaker.probing_since = None
        if result is Result.CLIENT_GONE:
            return
        if result < Result.RATE_LIMIT:
            if digest in self.troubled or breaker.failures:
                self._close(digest)
            return
        breaker.failures += 1
        breaker.failed_at = now
        if result is Result.REFUSED:
            self._open(digest, now, min(breaker.rest_s * REFUSED_FACTOR, LONGEST_REFUSED_S))
            breaker.rest_s = min(2 * breaker.rest_s, LONGEST_REST_S)
            return
        if retry_after_s is not None:
            self._open(digest, now, min(retry_after_s, LONGEST_REST_S))
        if breaker.failures >= FAILURES_TO_OPEN and (probed or now >= breaker.open_until):
            self._open(digest, now, breaker.rest_s)
            breaker.rest_s = min(2 * breaker.rest_s, LONGEST_REST_S)

    def _open(self, digest: int, now: float, rest_s: float) -> None:
        breaker = self.breakers[digest]
        breaker.open_until = max(breaker.open_until, now + rest_s)
        if breaker.open_since is None:
            breaker.open_since = now
        self.troubled.add(digest)

    def _close(self, digest: int) -> None:
        was = self.breakers[digest]
        self.breakers[digest] = Breaker(in_flight=was.in_flight, failed_at=was.failed_at)
        self.troubled.discard(digest)
