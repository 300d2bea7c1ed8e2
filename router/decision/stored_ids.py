"""Who made what lies at a provider, by its id: known here, and in the store for 30 days.

What a caller goes on from lies at one endpoint alone, so a wrong guess is an error. An id is
known to the app that it was given to, and to no other. Thoughts are known by their marks in the
same way; of these nobody's call depends on knowing.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Mapping, Sequence

from router.decision.recent import RecentlyUsed
from router.decision.store_line import LateWrites, StoreLine
from router.dialects.stored import StoredId
from router.endpoints.catalog import Catalog, Endpoint
from router.errors import StoreAway
from router.translation.carried import NOBODY
from telemetry import stored_ids
from telemetry.packed import Command
from telemetry.store import Address
from telemetry.stored_ids import KEPT_S, MAKER_BYTES

LOOK_UP_S = 0.5
"""The most that an id which is not known here may wait for the store: ours, a round trip of it. A
draw can be made anew after less, this cannot."""
THOUGHT = "thoughts"
"""Their kind, beside those of what lies at a provider."""
LOOK_UP_THOUGHTS_S = 0.005
"""As for a draw: without knowing, a call goes out as it came."""
MOST_ASKED = 32
"""Thoughts of one call that the store is asked for, the latest of the conversation first: so it is
held up for a millisecond. Which are not known then are asked for with the next call."""
ASKED_AGAIN_S = 60
"""After this the store is asked again for a thought that it did not have: another process may have
told it late. Thoughts of before us are nobody's, and come with every call of their conversation."""
MAX_KNOWN = 65_536
"""Ids known here; half of them at least. Most are gone on from within minutes."""
_UNWRITTEN = struct.Struct(f"<16s{MAKER_BYTES}sd")
"""The key of an id, its maker, and until when it is kept (epoch seconds)."""
_ASKED = struct.Struct("<I")
"""In the place of a maker: when the store was asked in vain (epoch seconds)."""


class StoredIds:
    """All ids that this process knows, backed by the store."""

    def __init__(
        self,
        address: Address,
        *,
        most: int = MAX_KNOWN,
        has_room: Callable[[], bool] = lambda: True,
    ) -> None:
        """Make it; `start` begins to talk to the store.

        Args:
            has_room: whether the store has memory for new ids. Without it they are known here.
        """
        self._known = RecentlyUsed(most)
        self._late = LateWrites(_late_command, self._on_written)
        self._line = StoreLine(address, self._late)
        self._has_room = has_room

    @property
    def n_known(self) -> int:
        """Ids remembered."""
        return len(self._known)

    @property
    def n_unwritten(self) -> int:
        """Ids that wait to be written."""
        return len(self._late)

    def start(self) -> None:
        """Begin to talk to the store: a look-up has no time to wait for a connection."""
        self._line.start()
        self._line.send(("PING",))

    async def stop(self) -> None:
        """Write what is left and end."""
        await self._line.stop()

    def note(self, app: str, stored: StoredId, maker: int) -> None:
        """Remember who made what an app is being told the id of; the store hears of it soon.

        It survives the store's absence, bounded. What was noted first holds.

        Args:
            maker: digest of the endpoint or provider.
        """
        self._note(stored_ids.key_of(app, stored.kind, stored.id), maker)

    def note_thoughts(self, app: str, marks: Sequence[str], maker: int) -> None:
        """Remember who thought what an app is being told, by its marks, as ids are remembered."""
        for mark in marks:
            self._note(stored_ids.key_of(app, THOUGHT, mark), maker)

    def _note(self, key: bytes, maker: int) -> None:
        if _is_maker(self._known.get(key)):
            return
        value = maker.to_bytes(MAKER_BYTES, "little")
        self._known.put(key, value)
        if self._has_room():
            self._late.put(_UNWRITTEN.pack(key, value, time.time() + KEPT_S))
            self._line.wake()

    async def find(self, app: str, stored: StoredId) -> int | None:
        """Return the digest of who made something; None where no index has it for this app.

        Raises:
            StoreAway: it is not known here, and the store does not say.
        """
        return (await self.find_all(app, (stored,)))[0]

    async def find_all(self, app: str, named: Sequence[StoredId]) -> list[int | None]:
        """Return the digests of who made each of these; None as of `find`.

        Raises:
            StoreAway: one is not known here, and the store does not say.
        """
        keys = [stored_ids.key_of(app, one.kind, one.id) for one in named]
        values = [self._known.get(key) for key in keys]
        unknown = [i for i, value in enumerate(values) if value is None]
        if unknown:
            commands = (stored_ids.look_up(keys[i]) for i in unknown)
            replies = await self._line.ask(*commands, within_s=LOOK_UP_S)
            for i, reply in zip(unknown, replies, strict=True):
                if isinstance(reply, bytes):
                    values[i] = reply
                    self._known.put(keys[i], reply)
                elif reply is not None:
                    raise StoreAway(named[i].id)
        return [None if v is None else int.from_bytes(v, "little") for v in values]

    async def find_thoughts(self, app: str, marks: Sequence[str]) -> dict[str, int]:
        """Return by mark the digests of who thought what an app was told, as far as is known."""
        keys = {mark: stored_ids.key_of(app, THOUGHT, mark) for mark in marks}
        now_s = int(time.time())
        known = {mark: self._known.get(key) for mark, key in keys.items()}
        unknown = [mark for mark in reversed(keys) if _is_worth_asking(known[mark], now_s)]
        asked = unknown[:MOST_ASKED]
        if asked:
            commands = (stored_ids.look_up(keys[mark]) for mark in asked)
            replies = await self._line.ask(*commands, within_s=LOOK_UP_THOUGHTS_S)
            for mark, reply in zip(asked, replies, strict=True):
                if isinstance(reply, bytes):
                    known[mark] = reply
                    self._known.put(keys[mark], reply)
                elif reply is None:
                    self._known.put(keys[mark], _ASKED.pack(now_s))
        makers = ((mark, value) for mark, value in known.items() if _is_maker(value))
        return {mark: int.from_bytes(value or b"", "little") for mark, value in makers}

    async def makers_of(
        self, app: str, marks: Sequence[str], catalog: Catalog
    ) -> Mapping[str, Endpoint]:
        """Return by mark the endpoints that thought what an app was told, as far as is known.

        Of what an endpoint made that is not configured any more nobody can say who may check it.
        """
        if not marks:
            return NOBODY  # most often
        found = await self.find_thoughts(app, marks)
        makers = ((mark, catalog.by_digest.get(digest)) for mark, digest in found.items())
        return {mark: maker for mark, maker in makers if maker is not None}

    def _on_written(self, packed: bytes, reply: bytes) -> None:
        """Go by what the store says, should another process have been first."""
        key, value, _ = _UNWRITTEN.unpack(packed)
        if reply != value and self._known.get(key) is not None:
            self._known.put(key, reply)


def _is_maker(value: bytes | None) -> bool:
    """Return whether what is known of a thought is who made it."""
    return value is not None and len(value) == MAKER_BYTES


def _is_worth_asking(value: bytes | None, now_s: int) -> bool:
    """Return whether the store may know who made a thought, by what is known here."""
    if value is None or _is_maker(value):
        return value is None
    return now_s - int(_ASKED.unpack(value)[0]) > ASKED_AGAIN_S


def _late_command(packed: bytes, now: float) -> Command | None:
    """Return what writes an id; None where it is not kept any more."""
    key, value, until = _UNWRITTEN.unpack(packed)
    ttl_ms = int((until - now) * 1000)
    return stored_ids.note(key, value, ttl_ms=ttl_ms) if ttl_ms > 0 else None
