"""How calls talk to the store: their commands go out together, and nothing is cancelled in flight.

A store that once took too long is not waited for again before a round trip went well; what it was
not told, it is told then, in the order in which it came about.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from telemetry.direct_line import ExchangeLine, line_to
from telemetry.packed import Command
from telemetry.store import Address, AwayErrors, StoreErrors

MAX_UNWRITTEN = 50_000
MAX_LATE = 500
"""Writes of which nobody waits for the reply, in one round trip."""
STORE_TIMEOUT_S = 0.5
AWAY_S = 1.0
"""After a failure the store is tried so often, by nobody's call."""
NO_REPLY = ConnectionError("the store did not reply in time")
"""In the place of a reply."""


class LateWrites:
    """What is to be written soon: packed, bounded, and kept while the store is away."""

    def __init__(
        self,
        command_of: Callable[[bytes, float], Command | None],
        on_written: Callable[[bytes, bytes], None],
    ) -> None:
        """Make an empty queue.

        Args:
            command_of: what writes one, by the epoch seconds that it is; None where it has ended.
            on_written: called with one, and the store's reply.
        """
        self._command_of = command_of
        self._on_written = on_written
        self._waiting: deque[bytes] = deque()
        self._sent: list[bytes] = []

    def __len__(self) -> int:
        """Return how many are not known to be written."""
        return len(self._waiting) + len(self._sent)

    def put(self, packed: bytes) -> None:
        """Take one; beyond `MAX_UNWRITTEN` the oldest go."""
        self._waiting.append(packed)
        while len(self._waiting) > MAX_UNWRITTEN:
            self._waiting.popleft()

    def drop_where(self, is_meant: Callable[[bytes], bool]) -> None:
        """Forget those of which this is so; one that is on its way is written."""
        kept = [packed for packed in self._waiting if not is_meant(packed)]
        self._waiting.clear()
        self._waiting += kept

    @property
    def are_waiting(self) -> bool:
        """Whether there are any that are not on their way."""
        return bool(self._waiting)

    def send(self) -> list[Command]:
        """Return the commands that write what was not; what has ended by now needs none."""
        now = time.time()
        commands: list[Command] = []
        while self._waiting and len(commands) < MAX_LATE:
            packed = self._waiting.popleft()
            command = self._command_of(packed, now)
            if command is not None:
                self._sent.append(packed)
                commands.append(command)
        return commands

    def settle(self, replies: Sequence[object]) -> bool:
        """Forget what was written; return whether that was all."""
        sent, self._sent = self._sent, []
        well = True
        for packed, reply in zip(reversed(sent), reversed(replies), strict=True):
            if isinstance(reply, bytes):
                self._on_written(packed, reply)
            else:  # refused: full, read-only
                self._waiting.appendleft(packed)
                well = False
        return well


class _Asked:
    """Commands that go out together, and who waits for their replies."""

    __slots__ = ("_late", "_replies", "commands")

    def __init__(
        self,
        commands: Sequence[Command],
        replies: asyncio.Future[Sequence[object]] | None = None,
        late: Callable[[object], object] | None = None,
    ) -> None:
        self.commands = commands
        self._replies = replies
        self._late = late

    def take(self, replies: Sequence[object]) -> None:
        """Hand on the replies; to who gave up waiting the last of them, if that is wanted."""
        waiting = self._replies
        if waiting is None or waiting.cancelled():
            return
        if not waiting.done():
            waiting.set_result(replies)
        elif self._late is not None:
            waiting.get_loop().call_soon(self._late, replies[-1])

    def give_up(self) -> bool:
        """Wait no longer; return whether the replies were not there yet."""
        assert self._replies is not None
        if self._replies.done():
            return False
        self._replies.set_result([NO_REPLY] * len(self.commands))
        return True


class StoreLine:
    """One process's line to the store, for one purpose."""

    def __init__(self, address: Address, late: LateWrites) -> None:
        """Make it; `start` begins to talk."""
        self._address = address
        self._late = late
        self._queue: list[_Asked] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._answers = True
        self._gathers: asyncio.TimerHandle | None = None  # until what can wait is written
        self._retry_at = 0.0  # monotonic seconds; before it nothing is written late
        self._stopping = False

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

    def wake(self, within_s: float = 0.0) -> None:
        """Say that there is something to be written.

        Args:
            within_s: how long that can wait for a question with which it goes out together.
        """
        if not within_s:
            self._wake.set()
        elif self._gathers is None:
            self._gathers = asyncio.get_running_loop().call_later(within_s, self._wake.set)

    def send(self, command: Command) -> None:
        """Send a command that nobody waits for, nor misses while the store is away."""
        if self._answers:
            self._queue.append(_Asked((command,)))
            self._wake.set()

    async def ask(
        self,
        *commands: Command,
        within_s: float,
        late: Callable[[object], object] | None = None,
    ) -> Sequence[object]:
        """Return the replies to commands, which go out together; `NO_REPLY` each if it takes long.

        Args:
            late: called with the reply to the last one, should it come after that.
        """
        if not self._answers or self._task is None:
            return [NO_REPLY] * len(commands)
        loop = asyncio.get_running_loop()
        replies: asyncio.Future[Sequence[object]] = loop.create_future()
        asked = _Asked(commands, replies, late)
        self._queue.append(asked)
        self._wake.set()
        timer = loop.call_later(within_s, self._give_up, asked)
        try:
            return await replies
        finally:
            timer.cancel()

    def _give_up(self, asked: _Asked) -> None:
        if asked.give_up():
            self._answers = False

    async def _run(self) -> None:
        line, task = line_to(self._address, timeout_s=STORE_TIMEOUT_S), asyncio.current_task()
        assert task is not None
        # A client library may take being cancelled for a connection that broke: then it ends here.
        while not (self._stopping and not self._queue) and not task.cancelling():
            if not self._queue:
                await self._rest()
            self._wake.clear()
            await self._serve(line)
        await line.close()

    async def _rest(self) -> None:
        """Wait for a question, or for the time to try again."""
        if self._answers and (self._gathers is not None or not self._late.are_waiting):
            await self._wake.wait()  # most often
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(max(self._retry_at - time.monotonic(), 0.0)):
                await self._wake.wait()

    async def _serve(self, line: ExchangeLine) -> None:
        """Send everything that is waiting in one round trip; without anything, see who is there."""
        asked, self._queue = self._queue, []
        if self._gathers is not None:
            self._gathers.cancel()
            self._gathers = None
        is_due = time.monotonic() >= self._retry_at
        late = self._late.send() if is_due else []
        if not asked and not late and (self._answers or not is_due):
            return
        commands = [command for one in asked for command in one.commands]
        n_asked = len(commands)
        commands += late
        try:
            replies = await line.exchange(commands or [("PING",)])
        except StoreErrors:
            self._answers, self._retry_at = False, time.monotonic() + AWAY_S
            replies = [NO_REPLY] * len(commands)
        else:
            self._answers = True
            # Of a cluster a part may be away; a server may say so of itself.
            if any(isinstance(reply, AwayErrors) for reply in replies):
                self._answers, self._retry_at = False, time.monotonic() + AWAY_S
                await line.close()  # by then the store may be elsewhere
        if not self._late.settle(replies[n_asked:][: len(late)]):
            self._retry_at = time.monotonic() + AWAY_S
        at = 0
        for one in asked:
            at, begin = at + len(one.commands), at
            one.take(replies[begin:at])
