"""The draws in the store, where the first writer wins.

A unit that this process does not know costs one look-up, bounded in time; with the store away a
draw holds here and is written later. Units have a string each; conversations without a session id,
of which each call notes one, lie packed (`telemetry/conversations.py`).
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from enum import StrEnum
from itertools import product

from msgspec import Struct

from bandit.steps import Step
from router.decision.store_line import LateWrites, StoreLine
from telemetry import conversations, keys
from telemetry.packed import Command
from telemetry.scripts import CLAIM
from telemetry.store import Address

LOOK_UP_S = 0.005
"""The most that an unknown unit may wait for the store."""
PART_LOOK_UP_S = 0.05
"""The same of a part of a locked episode: two routers that draw it apart spoil the whole."""
GATHER_S = 0.1
"""So long a conversation's note may wait for a look-up or claim that it goes out with: its next
call comes after its answer."""
STORED = struct.Struct("<QdQQB")
"""A draw as it lies in the store: the fields of `StoredDraw`. The last byte holds the step, and in
its upper half what ended the draw before: by their places in `STEPS` and `DrawEnding`."""
STEPS = list(Step)
_DRAWN = struct.Struct("<Qd")
_CONVERSATION_SIZE = _DRAWN.size + 6
"""Of a conversation's draw, without its version. Six bytes are the time in milliseconds and, in
their lowest bits, the step: enough until the year 2527."""
_STEP_BITS = 4
KEY_BYTES = 16
_UNWRITTEN = struct.Struct(f"<{KEY_BYTES}s{STORED.size}sd?")
"""Unit, its draw, when it ends, whether the unit claims it, and goes by what the store says, or a
conversation is noted; then, if any, the draw that it may replace."""


class DrawEnding(StrEnum):
    """What ended the draw that a unit had before."""

    NONE = "none"  # it had none, or that ended by configuration, alarm or time
    GAIN = "gain"  # in a session: the gain that is to come is above what its cache is worth
    DOMINATED = "dominated"  # in a slot: labels that came since show another to be better


_LAST_BYTE = {
    (step, ending): place | by << 4
    for (place, step), (by, ending) in product(enumerate(STEPS), enumerate(DrawEnding))
}
LAST_BYTE = {byte: both for both, byte in _LAST_BYTE.items()}
"""Step and ending by the last byte of a stored draw."""


class StoredDraw(Struct, frozen=True, gc=False):
    """What one unit was given."""

    endpoint: int  # digest
    propensity: float
    decided_at_ms: int
    version: int  # of the posteriors
    step: Step
    ending: DrawEnding = DrawEnding.NONE  # a draw that begins by one ends by none; not kept of a
    # conversation

    def pack(self) -> bytes:
        """Return the draw as it is stored."""
        last = _LAST_BYTE[self.step, self.ending]
        return STORED.pack(self.endpoint, self.propensity, self.decided_at_ms, self.version, last)

    @classmethod
    def unpack(cls, raw: bytes) -> StoredDraw | None:
        """Return a stored draw, or None where it cannot be read."""
        if len(raw) != STORED.size:
            return None
        endpoint, propensity, decided_at_ms, version, last = STORED.unpack(raw)
        if last not in LAST_BYTE:
            return None
        return cls(endpoint, propensity, decided_at_ms, version, *LAST_BYTE[last])

    def pack_conversation(self) -> bytes:
        """Return the draw as it is stored of a conversation: the same, in fewer bytes.

        The version comes last, without the bytes that are 0.
        """
        at_and_step = self.decided_at_ms << _STEP_BITS | STEPS.index(self.step)
        return (
            _DRAWN.pack(self.endpoint, self.propensity)
            + at_and_step.to_bytes(_CONVERSATION_SIZE - _DRAWN.size, "little")
            + self.version.to_bytes((self.version.bit_length() + 7) // 8, "little")
        )

    @classmethod
    def unpack_conversation(cls, raw: bytes) -> StoredDraw | None:
        """Return the stored draw of a conversation, or None where it cannot be read."""
        if not _CONVERSATION_SIZE <= len(raw) <= _CONVERSATION_SIZE + 8:
            return None
        endpoint, propensity = _DRAWN.unpack_from(raw)
        at_and_step = int.from_bytes(raw[_DRAWN.size : _CONVERSATION_SIZE], "little")
        step = at_and_step & (1 << _STEP_BITS) - 1
        if step >= len(STEPS):
            return None
        version = int.from_bytes(raw[_CONVERSATION_SIZE:], "little")
        return cls(endpoint, propensity, at_and_step >> _STEP_BITS, version, STEPS[step])


class SharedDraws:
    """The store's side of the draws (`store_line.py`)."""

    def __init__(
        self,
        address: Address,
        correct: Callable[[bytes, StoredDraw], None],
        has_room: Callable[[], bool] = lambda: True,
    ) -> None:
        """Make the store's side of the draws; `start` begins to talk.

        Args:
            correct: called with a unit and the draw that holds for it, should the store name
                another than ours too late for anyone to wait.
            has_room: whether the store has memory for new draws. Without it what the store knows
                still holds, and a new draw holds in this process.
        """
        self._has_room = has_room
        self._correct = correct
        self._late = LateWrites(_late_command, self._written)
        self._line = StoreLine(address, self._late)
        self.n_disagreed = 0  # units for which the store knew another draw

    @property
    def n_unwritten(self) -> int:
        """Draws that wait to be written."""
        return len(self._late)

    @property
    def answers(self) -> bool:
        """Whether the last round trip went well, in time."""
        return self._line.answers

    def start(self) -> None:
        """Begin to serve."""
        self._line.start()

    async def stop(self) -> None:
        """Write what is left and end."""
        await self._line.stop()

    async def claim(
        self,
        key: bytes,
        given: StoredDraw,
        *,
        ttl_s: float,
        instead_of: StoredDraw | None,
        waited_s: float = 0.0,
        is_part: bool = False,
    ) -> StoredDraw:
        """Return the draw that holds: the first one written, or ours where the store is away.

        Args:
            waited_s: how much of the time to wait is gone.
            is_part: of a locked episode, whose parts must not come apart.
        """
        most_s = PART_LOOK_UP_S if is_part else LOOK_UP_S
        if not self._has_room():
            held = await self.look_up(key)
            return given if held is None or held == instead_of else held
        raw, replaced = given.pack(), instead_of.pack() if instead_of else b""

        def late(reply: object) -> None:
            held = self._settle(raw, reply) if isinstance(reply, bytes) else None
            if held is not None:
                self._correct(key, held)

        (reply,) = await self._line.ask(
            _claim(key, raw, int(ttl_s * 1000), replaced),
            within_s=max(most_s - waited_s, 0.0),
            late=late,
        )
        if isinstance(reply, bytes):
            return self._settle(raw, reply) or given
        self._write_later(key, raw, ttl_s, replaced, is_claim=True)
        return given

    async def look_up(self, *places: bytes) -> StoredDraw | None:
        """Return the draw stored under the first of these keys that has one.

        None where there is none, or the store takes too long.
        """
        commands = [("GET", keys.draw(key.hex())) for key in places]
        replies = await self._line.ask(*commands, within_s=LOOK_UP_S)
        found = (StoredDraw.unpack(reply) for reply in replies if isinstance(reply, bytes))
        return next(filter(None, found), None)

    async def look_up_conversation(self, key: bytes) -> StoredDraw | None:
        """Return what a conversation was given, as `look_up`.

        One that an earlier version noted is a string: it came first, and holds until it ends.
        """
        earlier, noted = await self._line.ask(
            ("GET", keys.draw(key.hex())), conversations.look_up(key), within_s=LOOK_UP_S
        )
        found = StoredDraw.unpack(earlier) if isinstance(earlier, bytes) else None
        if found is None and isinstance(noted, bytes):
            found = StoredDraw.unpack_conversation(noted)
        return found

    def note_conversation(self, key: bytes, given: StoredDraw, *, ttl_s: float) -> None:
        """Write soon what a conversation was given, unless that is known.

        It survives the store's absence, bounded.
        """
        self._write_later(key, given.pack(), ttl_s, b"", is_claim=False, within_s=GATHER_S)

    def renew(self, key: bytes, ttl_s: float) -> None:
        """Push a draw's end out; nobody waits for it."""
        self._line.send(("PEXPIRE", keys.draw(key.hex()), int(ttl_s * 1000)))

    def forget(self, is_meant: Callable[[bytes], bool]) -> None:
        """Write nothing any more of units and conversations whose key this is true of."""
        self._late.drop_where(lambda packed: is_meant(packed[:KEY_BYTES]))

    def _write_later(
        self,
        key: bytes,
        raw: bytes,
        ttl_s: float,
        replaced: bytes,
        *,
        is_claim: bool,
        within_s: float = 0.0,
    ) -> None:
        if not self._has_room():
            return
        self._late.put(_UNWRITTEN.pack(key, raw, time.time() + ttl_s, is_claim) + replaced)
        self._line.wake(within_s)

    def _settle(self, raw: bytes, reply: bytes) -> StoredDraw | None:
        """Return the draw that holds instead of ours, by what the store says."""
        if reply == raw:
            return None
        self.n_disagreed += 1
        return StoredDraw.unpack(reply)

    def _written(self, packed: bytes, reply: bytes) -> None:
        """Go by what holds: where another process was first, its draw holds here too."""
        key, raw, _, is_claim = _UNWRITTEN.unpack_from(packed)
        held = self._settle(raw if is_claim else _of_conversation(raw), reply)
        if held is not None and is_claim:
            self._correct(key, held)


def _late_command(packed: bytes, now: float) -> Command | None:
    """Return what writes a draw late; None where it has ended."""
    key, raw, until, is_claim = _UNWRITTEN.unpack_from(packed)
    ttl_ms = int((until - now) * 1000)
    if ttl_ms <= 0:
        return None
    if is_claim:
        return _claim(key, raw, ttl_ms, packed[_UNWRITTEN.size :])
    return conversations.note(key, _of_conversation(raw), ttl_ms=ttl_ms)


def _claim(key: bytes, raw: bytes, ttl_ms: int, replaced: bytes) -> Command:
    return ("EVAL", CLAIM, 1, keys.draw(key.hex()), raw, ttl_ms, replaced)


def _of_conversation(raw: bytes) -> bytes:
    """Return a draw as it is stored of a conversation."""
    given = StoredDraw.unpack(raw)
    assert given is not None  # we packed it
    return given.pack_conversation()
