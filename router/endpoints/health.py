"""How all endpoints are doing, as far as this process knows: their breakers, by the digest.

The common call, at an endpoint that is well, pays for a look into a set.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from router.endpoints.breaker import LONGEST_PAUSE_S, Breaker, Trouble
from router.endpoints.catalog import Catalog, Endpoint
from router.endpoints.headroom import RateHeaders, may_be_empty, rate_headers, read_headroom
from router.endpoints.learnt_limits import LearntLimits
from router.endpoints.suspensions import Fields, Refused
from telemetry.events import Result

LOST_S = 600.0
"""Whose breaker is open for so long is lost to whom it serves under an order."""
LATELY_S = 10.0
"""Whoever failed within this time is asked again out of the retry budget only."""


_COUNTS = Result.RATE_LIMIT
"""From it on results count against an endpoint; looked up once."""


class Health:
    """All breakers of this process, by the endpoint's digest: they outlive a configuration."""

    def __init__(self) -> None:
        self.breakers: defaultdict[int, Breaker] = defaultdict(Breaker)
        self.troubled: set[int] = set()  # something may hold calls back
        self.suspended: set[int] = set()  # it refused what others took
        self._marked: set[int] = set()  # troubled, or with failures in a row
        self._keys: dict[int, tuple[bytes, bytes] | None] = {}
        self.learnt = LearntLimits()

    def follow(self, catalog: Catalog, now: float) -> None:
        """Go on under another catalog: who stays keeps its state, but for what a key may mend.

        Who is gone is forgotten, unless a call that began before is still under way there.
        """
        keys = {endpoint.digest: endpoint.auth_header for endpoint in catalog.endpoints}
        for digest, breaker in list(self.breakers.items()):
            if digest in keys:
                breaker.reconfigure(now, new_key=keys[digest] != self._keys.get(digest))
                self._file(digest, now)
                if not breaker.suspensions.marks:
                    self.suspended.discard(digest)
            elif not breaker.in_flight:
                del self.breakers[digest]
                for known in (self.troubled, self.suspended, self._marked):
                    known.discard(digest)
        self._keys = keys
        self.learnt.follow({e.digest for e in catalog.endpoints if e.rates.unsaid})

    def renew_keys(self, catalog: Catalog, now: float) -> None:
        """Take note of keys that are other ones, of the same catalog."""
        for endpoint in catalog.endpoints:
            digest, key = endpoint.digest, endpoint.auth_header
            if key != self._keys.get(digest):
                self._keys[digest] = key
                if digest in self.breakers:
                    self.breakers[digest].renew_key(now)
                    self._file(digest, now)

    def had_headroom(self, digest: int, now: float) -> bool:
        """Return whether the endpoint's last word was not that nothing is left of its limits."""
        found = self.breakers.get(digest)
        return found is None or now >= found.spent_until

    def is_blocked(self, digest: int, now: float) -> bool:
        """Return whether the endpoint may not be called now, while another one may serve."""
        if digest not in self.troubled:
            return False
        blocked = self.breakers[digest].is_blocked(now)
        if not blocked:
            self._file(digest, now)  # it may be well by now
        return blocked

    def is_open(self, digest: int) -> bool:
        """Return whether the breaker is open, be it due for a probe or not."""
        return self.breakers[digest].open_since is not None

    def lost(self, catalog: Catalog, now: float) -> frozenset[str]:
        """Return the ids of endpoints that are away for so long that choices leave them."""
        known = ((e.id, self.breakers.get(e.digest)) for e in catalog.endpoints)
        since = {id_: breaker.open_since for id_, breaker in known if breaker is not None}
        return frozenset(id_ for id_, at in since.items() if at is not None and now - at >= LOST_S)

    def is_full(self, endpoint: Endpoint) -> bool:
        """Return whether as many calls are under way as the endpoint takes."""
        most = endpoint.most_in_flight
        return most is not None and self.breakers[endpoint.digest].in_flight >= most

    def may_repeat(self, digest: int) -> bool:
        """Return whether a call that failed may be sent to the endpoint again.

        Not to one that is out; who announced a pause may be asked after it.
        """
        circuits = self.breakers[digest].circuits
        return all(
            circuits[trouble].open_since is None
            for trouble in (Trouble.FAILING, Trouble.MISCONFIGURED)
        )

    def failed_lately(self, digest: int, now: float) -> bool:
        """Return whether the endpoint failed just now, or is not back since."""
        return now - self.breakers[digest].failed_at < LATELY_S or self.is_open(digest)

    def begin(self, digest: int, now: float) -> None:
        """Note that a call starts; through an open breaker it is a probe."""
        if digest in self.troubled:
            self.breakers[digest].begin(now)
        else:
            self.breakers[digest].in_flight += 1

    def end(
        self,
        digest: int,
        result: Result,
        now: float,
        *,
        began_at: float | None = None,
        retry_after_s: float | None = None,
        status: int = 0,
    ) -> None:
        """Note how a call ended.

        Args:
            began_at: when it was sent; now, where that is not known.
            retry_after_s: the pause that the endpoint asks for.
            status: with which it answered; 0: it did not, or that is not known.
        """
        breaker = self.breakers[digest]
        if digest not in self._marked and result < _COUNTS:
            breaker.in_flight -= 1
            return
        breaker.end(result, now, now if began_at is None else began_at, retry_after_s)
        if result is Result.REFUSED:
            breaker.refused_with = status
        self._file(digest, now)

    def note_headers(self, digest: int, headers: RateHeaders, now: float, *, now_s: float) -> None:
        """Note what an answer says is left; with nothing left, its endpoint rests until the reset.

        Args:
            now_s: the same time in epoch seconds.
        """
        found = rate_headers(headers)
        if not found:
            return
        breaker = self.breakers[digest]
        breaker.rate_headers = found
        self.learnt.hear(digest, found, now_s=now_s)
        if may_be_empty(found):
            empty_for_s = read_headroom(found, now_s=now_s).empty_for_s
            if empty_for_s > 0:
                breaker.empty_until = now + min(empty_for_s, LONGEST_PAUSE_S)
                breaker.spent_until = now + empty_for_s
                self._file(digest, now)

    def note_refusal(self, digest: int, refused: Refused, now: float) -> bool:
        """Note what the endpoint refused and another took; return whether it suspends anew."""
        self.suspended.add(digest)
        return self.breakers[digest].suspensions.note_refusal(refused, now)

    def note_accepted(self, digest: int, fields: Callable[[], Fields], now: float) -> None:
        """Note that the endpoint answered a call with these fields."""
        if digest in self.suspended:
            suspensions = self.breakers[digest].suspensions
            suspensions.note_accepted(fields(), now)
            if not suspensions.marks:
                self.suspended.discard(digest)

    def is_suspended(self, digest: int, fields: Callable[[], Fields], now: float) -> bool:
        """Return whether the endpoint refuses what a call with these fields carries."""
        return digest in self.suspended and self.breakers[digest].suspensions.holds(fields, now)

    def _file(self, digest: int, now: float) -> None:
        """Put the endpoint into the sets that it belongs to now."""
        breaker = self.breakers[digest]
        calm = breaker.is_calm(now)
        (self.troubled.discard if calm else self.troubled.add)(digest)
        (self._marked.discard if calm and not breaker.has_marks else self._marked.add)(digest)
