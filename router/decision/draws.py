"""The draws that this process knows: what a unit was given, it keeps.

They lie packed in a table of those used last. A unit that fell out of it is to this process as one
that it never saw: the store is asked, and says what the unit was given.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable

from router.decision.recent import RecentlyUsed
from router.decision.shared_draws import LAST_BYTE, STORED, SharedDraws, StoredDraw
from router.decision.units import SESSION_IDLE_S, SESSION_S, Unit, is_of_user
from telemetry.store import Address

MAX_UNITS = 174_000
"""Units remembered in this process, and half of them at least; the store knows the others. Each
takes less than 200 bytes."""
RENEW_S = 300.0
"""How often an active session's time to live is pushed out in the store."""
_KNOWN = struct.Struct(f"{STORED.format}dI")
"""The draw as it is stored; epoch seconds at which it ends unless a call comes before, and at
which the store last heard that it goes on. The latter is 0 where no call prolongs it: in a slot.
With two bytes more an entry would take the allocator's next size, which is 16 larger."""
_TIMES = struct.Struct("<dI")
"""The end of `_KNOWN`."""


class Draws:
    """All draws that this process knows, backed by the store."""

    def __init__(
        self,
        address: Address,
        *,
        most: int = MAX_UNITS,
        has_room: Callable[[], bool] = lambda: True,
    ) -> None:
        self._known = RecentlyUsed(most)
        self._shared = SharedDraws(address, self._correct, has_room)

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
        raw = self._known.get(key)
        if raw is None:
            return None
        endpoint, propensity, at_ms, version, last, until, renewed_at = _KNOWN.unpack(raw)
        if now >= until:
            self._known.drop(key)
            return None
        if renewed_at:
            idle, latest = now + SESSION_IDLE_S, at_ms / 1000 + SESSION_S
            if until < idle:
                until = idle
            if until > latest:
                until = latest
            if now - renewed_at > RENEW_S:
                renewed_at = int(now)
                self._shared.renew(key, until - now)
            raw = _KNOWN.pack(endpoint, propensity, at_ms, version, last, until, renewed_at)
            self._known.put(key, raw)
        step, ending = LAST_BYTE[last]
        return StoredDraw(endpoint, propensity, at_ms, version, step, ending)

    def began_ms(self, unit: Unit, *, now: float) -> float | None:
        """Return when a unit began, in epoch milliseconds; None: now, as far as is known here."""
        if unit.key is None or not unit.is_session:
            return unit.began_ms
        held = self.get(unit.key, now=now)
        return held.decided_at_ms if held is not None else None

    async def find(self, key: bytes, unit: Unit, *, now: float) -> StoredDraw | None:
        """Return what the unit was given, from here or from the store; nothing is claimed."""
        known = self.get(key, now=now)
        if known is None:
            known = await self._shared.look_up(key)
            if known is not None:
                self.keep(key, known, unit, now=now)
                self._prolong(key, known, unit, now=now)
        return known

    def keep(self, key: bytes, given: StoredDraw, unit: Unit, *, now: float) -> None:
        """Remember a draw in this process."""
        until, renewed_at = unit.ends_at, 0
        if unit.is_session:
            until, renewed_at = min(now + unit.idle_s, _last_moment(given)), int(now)
        self._known.put(key, given.pack() + _TIMES.pack(until, renewed_at))

    async def claim(
        self,
        key: bytes,
        given: StoredDraw,
        unit: Unit,
        *,
        now: float,
        instead_of: StoredDraw | None = None,
        waited_s: float = 0.0,
    ) -> StoredDraw:
        """Store a draw unless another process was first; return the one that holds.

        Args:
            instead_of: the draw that has ended and may be replaced.
            waited_s: how long the call has waited for the store already.
        """
        ttl_s = unit.ttl_s(now)
        held = await self._shared.claim(
            key,
            given,
            ttl_s=ttl_s,
            instead_of=instead_of,
            waited_s=waited_s,
            is_part=unit.is_part,
        )
        self.keep(key, held, unit, now=now)
        if held != given:
            self._prolong(key, held, unit, now=now)
        return held

    async def take_over(self, key: bytes, unit: Unit, *, now: float) -> StoredDraw | None:
        """Return what a unit was given under its earlier key, which is its draw from now on.

        Args:
            key: the unit's.
        """
        places = [place for place in (unit.earlier, unit.former) if place is not None]
        if not places:
            return None  # most often
        known = (self.get(place, now=now) for place in places)
        given = next(filter(None, known), None) or await self._shared.look_up(*places)
        return None if given is None else await self.claim(key, given, unit, now=now)

    def forget(self, users: Iterable[bytes]) -> int:
        """Know nothing any more of what these users' units were given; return of how many.

        Args:
            users: keyed hashes.
        """
        n = 0
        for user in users:

            def is_theirs(key: bytes, user: bytes = user) -> bool:
                return is_of_user(key, user)

            n += self._known.drop_where(is_theirs)
            self._shared.forget(is_theirs)
        return n

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
            if known is not None:
                self._prolong(key, known, unit, now=now)
        return None if known == first else known

    def ask_again(self, key: bytes) -> None:
        """Know nothing of a unit any more, so that the store is asked what it was given."""
        self._known.drop(key)

    def note_conversation(self, key: bytes, given: StoredDraw, *, now: float) -> None:
        """Remember which draw a conversation without a session id goes by."""
        unit = Unit(key, False, now + SESSION_S)
        if self.get(key, now=now) is None:
            self.keep(key, given, unit, now=now)
            self._shared.note_conversation(key, given, ttl_s=SESSION_S)

    async def find_conversation(self, key: bytes, *, now: float) -> StoredDraw | None:
        """Return the draw of a conversation, from here or from the store."""
        known = self.get(key, now=now)
        if known is None:
            known = await self._shared.look_up_conversation(key)
            if known is not None:
                self.keep(key, known, Unit(key, False, now + SESSION_S), now=now)
        return known

    def _prolong(self, key: bytes, held: StoredDraw, unit: Unit, *, now: float) -> None:
        """Tell the store that a session which it remembered goes on.

        A session may be one of so many that it is out of the table again before it is due.
        """
        if unit.is_session:
            self._shared.renew(key, min(unit.idle_s, _last_moment(held) - now))

    def _correct(self, key: bytes, held: StoredDraw) -> None:
        """Go by what the store says late; what is not known any more is asked for anyway."""
        raw = self._known.get(key)
        if raw is not None:
            until, renewed_at = _TIMES.unpack_from(raw, STORED.size)
            if renewed_at:
                until = min(until, _last_moment(held))
            self._known.put(key, held.pack() + _TIMES.pack(until, renewed_at))


def _last_moment(given: StoredDraw) -> float:
    """Return the epoch seconds at which a session's draw ends, however busy it is."""
    return given.decided_at_ms / 1000 + SESSION_S
