"""The draws that this process knows: what a unit was given, it keeps."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from router.decision.shared_draws import SharedDraws, StoredDraw
from router.decision.units import SESSION_IDLE_S, SESSION_S, Unit
from telemetry.store import Address

MAX_UNITS = 200_000
"""Units remembered in this process; the store knows the others."""
RENEW_S = 300.0
"""How often an active session's time to live is pushed out in the store."""


@dataclass(slots=True)
class _Known:
    given: StoredDraw
    idle_until: float
    ends_at: float
    renewed_at: float
    is_session: bool


class Draws:
    """All draws that this process knows, backed by the store."""

    def __init__(self, address: Address) -> None:
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._shared = SharedDraws(address)

    @property
    def n_known(self) -> int:
        """Units remembered."""
        return len(self._known)

    @property
    def shared(self) -> SharedDraws:
        """The store's side."""
        return self._shared

    def start(self) -> None:
        """Begin to talk to the store."""
        self._shared.start()

    async def stop(self) -> None:
        """Write what is left and end."""
        await self._shared.stop()

    def get(self, key: bytes, *, now: float) -> StoredDraw | None:
        """Return what the unit was given, if this process knows; a session stays alive by it."""
        known = self._known.get(key)
        if known is None:
            return None
        if now >= known.ends_at or now >= known.idle_until:
            del self._known[key]
            return None
        if known.is_session:
            known.idle_until = min(now + SESSION_IDLE_S, known.ends_at)
            if now - known.renewed_at > RENEW_S:
                known.renewed_at = now
                self._shared.renew(key, known.idle_until - now)
        return known.given

    def keep(self, key: bytes, given: StoredDraw, unit: Unit, *, now: float) -> None:
        """Remember a draw in this process."""
        began = given.decided_at_ms / 1000
        ends_at = began + SESSION_S if unit.is_session else unit.ends_at
        idle_until = min(now + SESSION_IDLE_S, ends_at) if unit.is_session else ends_at
        self._known[key] = _Known(given, idle_until, ends_at, now, unit.is_session)
        while len(self._known) > MAX_UNITS:
            self._known.popitem(last=False)

    async def claim(
        self,
        key: bytes,
        given: StoredDraw,
        unit: Unit,
        *,
        now: float,
        instead_of: StoredDraw | None = None,
    ) -> StoredDraw:
        """Store a draw unless another process was first; return the one that holds.

        Args:
            instead_of: the draw that has ended and may be replaced.
        """
        ttl_s = unit.ttl_s(now)

        def correct(later: StoredDraw) -> None:
            self.keep(key, later, unit, now=now)

        held = await self._shared.claim(
            key, given, ttl_s=ttl_s, instead_of=instead_of, correct=correct
        )
        self.keep(key, held, unit, now=now)
        return held

    async def find_stand_in(
        self, key: bytes, unit: Unit, *, first: StoredDraw, now: float
    ) -> StoredDraw | None:
        """Return the stand-in for a unit's first draw, from here or from the store.

        The store is asked once: where it knows of none, the first draw is remembered in its place.
        """
        known = self.get(key, now=now)
        if known is None:
            known = await self._shared.look_up(key)
            if known is not None or self._shared.answers:
                self.keep(key, known or first, unit, now=now)
        return None if known == first else known

    def note_conversation(self, key: bytes, given: StoredDraw, *, now: float) -> None:
        """Remember which draw a conversation without a session id goes by."""
        unit = Unit(key, False, now + SESSION_S)
        if self.get(key, now=now) is None:
            self.keep(key, given, unit, now=now)
            self._shared.write_later(key, given, ttl_s=SESSION_S)

    async def find_conversation(self, key: bytes, *, now: float) -> StoredDraw | None:
        """Return the draw of a conversation, from here or from the store."""
        known = self.get(key, now=now)
        if known is None:
            known = await self._shared.look_up(key)
            if known is not None:
                self.keep(key, known, Unit(key, False, now + SESSION_S), now=now)
        return known
