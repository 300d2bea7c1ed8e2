"""The draws in the store, where the first writer wins.

A unit that this process does not know costs one look-up, bounded in time; with the store away a
draw holds here and is written later.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from bandit.draws import Step
from telemetry import keys
from telemetry.scripts import CLAIM
from telemetry.store import Address, AwayErrors, Client, StoreErrors, connect_async

LOOK_UP_S = 0.005
"""The most that an unknown unit may wait for the store."""
MAX_UNWRITTEN = 50_000
MAX_LATE = 500
"""Draws written late in one round trip."""
STORE_TIMEOUT_S = 0.5
AWAY_S = 1.0
"""After a failure the store is tried so often, by nobody's call."""
_STORED = struct.Struct("<QdQQB")
_STEPS = list(Step)


@dataclass(slots=True)
class StoredDraw:
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
    def unpack(cls, raw: bytes) -> StoredDraw | None:
        """Return a stored draw, or None where it cannot be read."""
        if len(raw) != _STORED.size:
            return None
        endpoint, propensity, decided_at_ms, version, step = _STORED.unpack(raw)
        if step >= len(_STEPS):
            return None
        return cls(endpoint, propensity, decided_at_ms, version, _STEPS[step])


@dataclass(frozen=True, slots=True)
class _Unwritten:
    given: StoredDraw
    until: float  # epoch seconds
    replaced: bytes  # the draw that it may replace
    correct: Callable[[StoredDraw], None] | None


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
        self._answers = True
        self._retry_at = 0.0  # monotonic seconds; before it nothing is written late
        self._stopping = False
        self.n_disagreed = 0  # units for which another process had been first

    @property
    def n_unwritten(self) -> int:
        """Draws that wait to be written."""
        return len(self._unwritten)

    @property
    def answers(self) -> bool:
        """Whether the last round trip went well, in time."""
        return self._answers

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
        given: StoredDraw,
        *,
        ttl_s: float,
        instead_of: StoredDraw | None,
        correct: Callable[[StoredDraw], None],
    ) -> StoredDraw:
        """Return the draw that holds: the first one written, or ours where the store is away.

        Args:
            correct: called with the draw that holds, should the store say so too late to wait.
        """
        replaced = instead_of.pack() if instead_of else b""
        wanted = _Unwritten(given, time.time() + ttl_s, replaced, correct)

        def heard(reply: object) -> StoredDraw:
            if isinstance(reply, bytes):
                return self._settle(wanted, reply)
            self._write_later(key, wanted)
            return given

        command = _claim(key, wanted, int(ttl_s * 1000))
        return heard(await self._ask(command, late=lambda reply: correct(heard(reply))))

    async def look_up(self, key: bytes) -> StoredDraw | None:
        """Return a stored draw; None where there is none, or the store takes too long."""
        reply = await self._ask(("GET", keys.draw(key.hex())))
        return StoredDraw.unpack(reply) if isinstance(reply, bytes) else None

    def write_later(self, key: bytes, given: StoredDraw, *, ttl_s: float) -> None:
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

    def _settle(self, wanted: _Unwritten, reply: bytes) -> StoredDraw:
        """Return the draw that holds, by what the store says of ours."""
        if reply == wanted.given.pack():
            return wanted.given
        self.n_disagreed += 1
        return StoredDraw.unpack(reply) or wanted.given

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
