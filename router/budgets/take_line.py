"""How holders' words reach the accounts of budgets: all that wait go out in one round trip.

A store that did not answer is tried by the line itself, and by nobody's call: until it answers
again every word is told at once that none came. Nothing is cancelled in flight.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from contextlib import suppress

import structlog
from msgspec import Struct
from redis.exceptions import NoScriptError

from telemetry.budget_accounts import TAKE, BudgetPeriod, TakeAnswer, TakeAsked
from telemetry.direct_line import ExchangeLine, line_to
from telemetry.scripts import Argument
from telemetry.store import Address, AwayErrors, StoreErrors

log = structlog.get_logger()

MAX_AT_ONCE = 500
"""Words in one round trip: a few milliseconds of the store's time."""
STORE_TIMEOUT_S = 0.5
STOP_S = 2.0
"""How long the end waits for the last words to arrive."""
_SHA = hashlib.sha1(TAKE.encode()).hexdigest()  # noqa: S324 - how servers name scripts


class _Waiting(Struct, frozen=True):
    """A command, and who hears the reply; None in its place: none came, or it was refused."""

    command: tuple[Argument, ...]
    hear: Callable[[object], None]
    is_script: bool


class TakeLine:
    """One process's line to the accounts."""

    def __init__(self, address: Address, *, retry_s: float) -> None:
        """Make it; `start` begins to talk.

        Args:
            retry_s: how often a store that is away is tried: what it forgot has to be restated well
                before it grants again, which takes it a lease.
        """
        self._address = address
        self._retry_s = retry_s
        self._queue: list[_Waiting] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._answers = True
        self._retry_at = 0.0  # monotonic seconds
        self._stopping = False
        self._refusal = ""  # as it was last logged

    def start(self) -> None:
        """Begin to serve."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Send what is waiting and end."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=STOP_S)
            self._task.cancel()

    def say(
        self,
        period: BudgetPeriod,
        holder: str,
        asked: TakeAsked,
        hear: Callable[[TakeAnswer | None], None],
    ) -> None:
        """Carry a word to its account; `hear` gets the answer, or None, at once or later."""

        def heard(reply: object) -> None:
            hear(TakeAnswer.parse(reply) if isinstance(reply, list) else None)

        try:
            rest = *period.keys, *asked.arguments(period, holder)
        except ValueError as error:  # amounts that no account can hold
            log.warning("budgets.refused", error=str(error))
            hear(None)
            return
        self._send(_Waiting(("EVALSHA", _SHA, 2, *rest), heard, True))

    def look_up(
        self, period: BudgetPeriod, holder: str, hear: Callable[[bytes | None], None]
    ) -> None:
        """Ask what an account has on record of a holder; `hear` gets it, or None."""

        def heard(reply: object) -> None:
            hear(reply if isinstance(reply, bytes) else None)

        self._send(_Waiting(("HGET", period.keys[0], f"h:{holder}"), heard, False))

    def _send(self, waiting: _Waiting) -> None:
        if not self._answers or self._task is None or self._task.done():
            waiting.hear(None)
            return
        self._queue.append(waiting)
        self._wake.set()

    async def _run(self) -> None:
        line = line_to(self._address, timeout_s=STORE_TIMEOUT_S)
        task = asyncio.current_task()
        assert task is not None
        # A client library may take being cancelled for a connection that broke: then it ends here.
        while not (self._stopping and not self._queue) and not task.cancelling():
            if not self._queue:
                await self._rest()
            self._wake.clear()
            if self._queue:
                await self._serve(line)
            elif not self._answers and time.monotonic() >= self._retry_at:
                await self._try(line)
        await line.close()

    async def _rest(self) -> None:
        """Wait for a word, or for the time to try again."""
        left_s = None if self._answers else max(self._retry_at - time.monotonic(), 0.0)
        with suppress(TimeoutError):
            async with asyncio.timeout(left_s):
                await self._wake.wait()

    async def _try(self, line: ExchangeLine) -> None:
        try:
            (reply,) = await line.exchange([("PING",)])
        except StoreErrors as error:
            reply = error
        if isinstance(reply, Exception):
            self._retry_at = time.monotonic() + self._retry_s
        else:
            self._answers = True

    async def _serve(self, line: ExchangeLine) -> None:
        """Send what is waiting in one round trip, and scripts that a server lacks in a second."""
        waiting, self._queue = self._queue[:MAX_AT_ONCE], self._queue[MAX_AT_ONCE:]
        replies = await self._exchange(line, [one.command for one in waiting])
        lacking = [n for n, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if lacking:
            commands = [("EVAL", TAKE, *waiting[n].command[2:]) for n in lacking]
            for n, reply in zip(lacking, await self._exchange(line, commands), strict=True):
                replies[n] = reply
        if any(isinstance(reply, AwayErrors) for reply in replies):
            with suppress(*StoreErrors):
                await line.close()  # by then the store may be elsewhere
            if all(isinstance(reply, AwayErrors) for reply in replies):
                self._go_away()
        for one, reply in zip(waiting, replies, strict=True):
            is_refused = isinstance(reply, Exception)
            if is_refused and not isinstance(reply, AwayErrors):
                self._note_refusal(str(reply))
            one.hear(None if is_refused else reply)

    def _go_away(self) -> None:
        """Answer whatever else waits, and from here on everything, until the store is back."""
        self._answers, self._retry_at = False, time.monotonic() + self._retry_s
        queue, self._queue = self._queue, []
        for one in queue:
            one.hear(None)

    async def _exchange(
        self, line: ExchangeLine, commands: list[tuple[Argument, ...]]
    ) -> list[object]:
        try:
            return await line.exchange(commands)
        except StoreErrors as error:
            away = error if isinstance(error, AwayErrors) else ConnectionError(str(error))
            return [away] * len(commands)

    def _note_refusal(self, error: str) -> None:
        """Say once what a store answers that takes no words: full, read-only, runs no scripts."""
        if error != self._refusal:
            self._refusal = error
            log.warning("budgets.refused", error=error)
