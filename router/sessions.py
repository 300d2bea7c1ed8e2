"""Sessions and slots: what a unit was given, it keeps.

A unit is a declared session, else the slot of a user (a day) or of an app (ten minutes), in one
task under one strategy. Its first call draws; the draw is stored here and in the store, where
the first writer wins. A unit that this process does not know costs one look-up, bounded in time;
with the store away the draw holds here and is written later.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice

from msgspec import Struct

from bandit.draws import Step, Uniforms
from telemetry import keys
from telemetry.scripts import CLAIM
from telemetry.store import Address, AwayErrors, Client, StoreErrors, connect_async

LOOK_UP_S = 0.005
"""The most that an unknown unit may wait for the store."""
SESSION_IDLE_S = 30 * 60.0
SESSION_S = 24 * 3600.0
USER_SLOT_S = 86_400
APP_SLOT_S = 600
MAX_UNITS = 200_000
"""Units remembered in this process; the store knows the others."""
MAX_UNWRITTEN = 50_000
RENEW_S = 300.0
"""How often an active session's time to live is pushed out in the store."""
MAX_LATE = 500
"""Draws written late in one round trip."""
STORE_TIMEOUT_S = 0.5
AWAY_S = 1.0
"""After a failure the store is tried so often, by nobody's call."""
_STORED = struct.Struct("<QdQQB")
_STEPS = list(Step)
_PURPOSES = struct.Struct("<7Q")


@dataclass(slots=True)
class Given:
    """What one unit was given."""

    endpoint: int  # digest
    propensity: float
    decided_at_ms: int
    version: int  # of the posteriors
    step: Step

    def pack(self) -> bytes:
        """Return the draw as it is stored."""
        step = _STEPS.index(self.step)
        return _STORED.pack(self.endpoint, self.propensity, self.decided_at_ms, self.version, step)

    @classmethod
    def unpack(cls, raw: bytes) -> Given | None:
        """Return a stored draw, or None where it cannot be read."""
        if len(raw) != _STORED.size:
            return None
        endpoint, propensity, decided_at_ms, version, step = _STORED.unpack(raw)
        if step >= len(_STEPS):
            return None
        return cls(endpoint, propensity, decided_at_ms, version, _STEPS[step])


class Unit(Struct, frozen=True):
    """Who shares a draw; `key` None is a stateless call that shares it with nobody."""

    key: bytes | None
    is_session: bool
    ends_at: float  # epoch seconds at which a slot's span ends

    def ttl_s(self, now: float) -> float:
        """How long a draw of this unit holds from now on."""
        return SESSION_IDLE_S if self.is_session else max(self.ends_at - now, 1.0)


def unit_of(
    *, app: int, user: str | None, session: str | None, stateless: bool, now: float, draw_key: str
) -> Unit:
    """Return the unit of a call.

    Args:
        app: digest of the app.
        session: a declared session id, if any.
        stateless: the app says that every call stands for itself.
        now: epoch seconds.
        draw_key: task, strategy and whatever else a draw is stored under.
    """
    if session is not None:
        return Unit(_hash(f"s\x1f{app}\x1f{user}\x1f{session}\x1f{draw_key}"), True, 0.0)
    if stateless:
        return Unit(None, False, 0.0)
    span = APP_SLOT_S if user is None else USER_SLOT_S
    slot = int(now // span)
    key = _hash(f"u\x1f{app}\x1f{user}\x1f{slot}\x1f{draw_key}")
    return Unit(key, False, (slot + 1.0) * span)


def uniforms(secret: bytes, unit: bytes, draw_key: str) -> Uniforms:
    """Return one number in [0, 1) for each purpose; the same wherever it is computed.

    So two processes that race for a unit agree while their posteriors do.
    """
    digest = blake2b(unit + draw_key.encode(), key=secret, digest_size=56).digest()
    return Uniforms(*(n / 2**64 for n in _PURPOSES.unpack(digest)))


def conversation(app: int, messages: Sequence[bytes], draw_key: str) -> bytes:
    """Return the key under which a conversation without a session id is known."""
    h = blake2b(f"c\x1f{app}\x1f{draw_key}".encode(), digest_size=16)
    for message in messages:
        h.update(message)
        h.update(b"\x1f")
    return h.digest()


def _hash(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=16).digest()


@dataclass(slots=True)
class _Known:
    given: Given
    idle_until: float
    ends_at: float
    renewed_at: float
    is_session: bool


@dataclass(frozen=True, slots=True)
class _Unwritten:
    given: Given
    until: float  # epoch seconds
    replaced: bytes  # the draw that it may replace
    correct: Callable[[Given], None] | None


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

    def get(self, key: bytes, *, now: float) -> Given | None:
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

    def keep(self, key: bytes, given: Given, unit: Unit, *, now: float) -> None:
        """Remember a draw in this process."""
        began = given.decided_at_ms / 1000
        ends_at = began + SESSION_S if unit.is_session else unit.ends_at
        idle_until = min(now + SESSION_IDLE_S, ends_at) if unit.is_session else ends_at
        self._known[key] = _Known(given, idle_until, ends_at, now, unit.is_session)
        while len(self._known) > MAX_UNITS:
            self._known.popitem(last=False)

    async def claim(
        self, key: bytes, given: Given, unit: Unit, *, now: float, instead_of: Given | None = None
    ) -> Given:
        """Store a draw unless another process was first; return the one that holds.

        Args:
            instead_of: the draw that has ended and may be replaced.
        """
        ttl_s = unit.ttl_s(now)

        def correct(later: Given) -> None:
            self.keep(key, later, unit, now=now)

        held = await self._shared.claim(
            key, given, ttl_s=ttl_s, instead_of=instead_of, correct=correct
        )
        self.keep(key, held, unit, now=now)
        return held

    def note_conversation(self, key: bytes, given: Given, *, now: float) -> None:
        """Remember which draw a conversation without a session id goes by."""
        unit = Unit(key, False, now + SESSION_S)
        if self.get(key, now=now) is None:
            self.keep(key, given, unit, now=now)
            self._shared.write_later(key, given, ttl_s=SESSION_S)

    async def find_conversation(self, key: bytes, *, now: float) -> Given | None:
        """Return the draw of a conversation, from here or from the store."""
        known = self.get(key, now=now)
        if known is None:
            known = await self._shared.look_up(key)
            if known is not None:
                self.keep(key, known, Unit(key, False, now + SESSION_S), now=now)
        return known


class SharedDraws:
    """The store's side: requests of all calls go out together, nothing is cancelled in flight.

    A store that once took too long is not waited for again before a round trip went well; what
    it was not told, it is told then.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._queue: list[tuple[tuple[object, ...], asyncio.Future[object] | None]] = []
        self._unwritten: OrderedDict[bytes, _Unwritten] = OrderedDict()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._answers = True  # the last round trip went well, in time
        self._retry_at = 0.0  # monotonic seconds; before it nothing is written late
        self._stopping = False
        self.n_disagreed = 0  # units for which another process had been first

    @property
    def n_unwritten(self) -> int:
        """Draws that wait to be written."""
        return len(self._unwritten)

    def start(self) -> None:
        """Begin to serve."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Write what is left and end."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=2)
            self._task.cancel()

    async def claim(
        self,
        key: bytes,
        given: Given,
        *,
        ttl_s: float,
        instead_of: Given | None,
        correct: Callable[[Given], None],
    ) -> Given:
        """Return the draw that holds: the first one written, or ours where the store is away.

        Args:
            correct: called with the draw that holds, should the store say so too late to wait.
        """
        replaced = instead_of.pack() if instead_of else b""
        wanted = _Unwritten(given, time.time() + ttl_s, replaced, correct)

        def heard(reply: object) -> Given:
            if isinstance(reply, bytes):
                return self._settle(wanted, reply)
            self._write_later(key, wanted)
            return given

        command = _claim(key, wanted, int(ttl_s * 1000))
        return heard(await self._ask(command, late=lambda reply: correct(heard(reply))))

    async def look_up(self, key: bytes) -> Given | None:
        """Return a stored draw; None where there is none, or the store takes too long."""
        reply = await self._ask(("GET", keys.draw(key.hex())))
        return Given.unpack(reply) if isinstance(reply, bytes) else None

    def write_later(self, key: bytes, given: Given, *, ttl_s: float) -> None:
        """Write a draw soon, unless one is there; survives the store's absence, bounded."""
        self._write_later(key, _Unwritten(given, time.time() + ttl_s, b"", None))

    def renew(self, key: bytes, ttl_s: float) -> None:
        """Push a draw's end out; nobody waits for it."""
        if self._answers:
            self._queue.append((("PEXPIRE", keys.draw(key.hex()), int(ttl_s * 1000)), None))
            self._wake.set()

    def _write_later(self, key: bytes, wanted: _Unwritten) -> None:
        self._unwritten[key] = wanted
        if len(self._unwritten) > MAX_UNWRITTEN:
            self._unwritten.popitem(last=False)
        self._wake.set()

    def _settle(self, wanted: _Unwritten, reply: bytes) -> Given:
        """Return the draw that holds, by what the store says of ours."""
        if reply == wanted.given.pack():
            return wanted.given
        self.n_disagreed += 1
        return Given.unpack(reply) or wanted.given

    async def _ask(
        self, command: tuple[object, ...], *, late: Callable[[object], object] | None = None
    ) -> object:
        if not self._answers or self._task is None:
            return None
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._queue.append((command, future))
        self._wake.set()
        await asyncio.wait([future], timeout=LOOK_UP_S)
        if future.done():
            return future.result()
        self._answers = False
        if late is not None:
            future.add_done_callback(lambda done: late(done.result()))
        return None

    async def _run(self) -> None:
        client = connect_async(self._address, timeout_s=STORE_TIMEOUT_S)
        while not (self._stopping and not self._queue):
            if not self._queue:
                await self._rest()
            self._wake.clear()
            await self._serve(client)
        await client.aclose()

    async def _rest(self) -> None:
        """Wait for a question, or for the time to try again."""
        tries = self._unwritten or not self._answers
        with suppress(TimeoutError):
            async with asyncio.timeout(
                max(self._retry_at - time.monotonic(), 0.0) if tries else None
            ):
                await self._wake.wait()

    async def _serve(self, client: Client) -> None:
        """Send everything that is waiting in one round trip; without anything, see who is there."""
        asked, self._queue = self._queue, []
        is_due = time.monotonic() >= self._retry_at
        late = self._late() if is_due else []
        if not asked and not late and (self._answers or not is_due):
            return
        pipeline = client.pipeline(transaction=False)
        for command, _ in asked:
            pipeline.execute_command(*command)
        for key, wanted, ttl_ms in late:
            pipeline.execute_command(*_claim(key, wanted, ttl_ms))
        if not asked and not late:
            pipeline.ping()
        try:
            replies = await pipeline.execute(raise_on_error=False)
        except StoreErrors:
            self._answers, self._retry_at = False, time.monotonic() + AWAY_S
            replies = [None] * len(asked)
        else:
            self._answers = True
            self._note_written(late, replies[len(asked) :])
            # What one server's client raises, a cluster's hands out as the reply to each command.
            if any(isinstance(reply, AwayErrors) for reply in replies):
                self._answers, self._retry_at = False, time.monotonic() + AWAY_S
                await client.aclose()  # by then the store may be elsewhere
        for (_, future), reply in zip(asked, replies, strict=False):
            if future is not None and not future.done():
                future.set_result(reply)

    def _late(self) -> list[tuple[bytes, _Unwritten, int]]:
        """Return the draws to write late, with what is left of their time in milliseconds."""
        now, out = time.time(), []
        for key, wanted in list(islice(self._unwritten.items(), MAX_LATE)):
            ttl_ms = int((wanted.until - now) * 1000)
            if ttl_ms > 0:
                out.append((key, wanted, ttl_ms))
            else:
                del self._unwritten[key]
        return out

    def _note_written(
        self, late: list[tuple[bytes, _Unwritten, int]], replies: list[object]
    ) -> None:
        """Forget what was written; where another process was first, its draw holds here too."""
        for (key, wanted, _), reply in zip(late, replies, strict=False):
            if not isinstance(reply, bytes):  # refused: full, read-only
                self._retry_at = time.monotonic() + AWAY_S
                continue
            if self._unwritten.get(key) is wanted:
                del self._unwritten[key]
            held = self._settle(wanted, reply)
            if held is not wanted.given and wanted.correct is not None:
                wanted.correct(held)


def _claim(key: bytes, wanted: _Unwritten, ttl_ms: int) -> tuple[object, ...]:
    name = keys.draw(key.hex())
    return ("EVAL", CLAIM, 1, name, wanted.given.pack(), ttl_ms, wanted.replaced)
