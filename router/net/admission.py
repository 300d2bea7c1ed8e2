"""How many calls are under way, how many wait for them, and who is turned away at once.

Nobody waits in vain: a call waits only where the one whose place it would take is likely to end
soon, and whoever may not wait learns it at once. So an overload lengthens the calls that are let
in by about half of what calls take, however many more there are.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from itertools import islice
from types import TracebackType
from typing import Protocol

from router.errors import SidecarFull
from router.net.bodies import ClientGone

QUEUED_SHARE = 8
"""One call waits for each 8 under way: while calls take what they take, for an eighth of it."""
LONGEST_WAIT_S = 1.0
"""Calls end irregularly; beyond this the client had better come again, as `Retry-After` says."""
STEP = 1.0625
"""Of the typical duration with each call: forty calls make good an error of ten times."""


class Leaver(Protocol):
    """Somebody who waits, and may leave."""

    gone: Callable[[], None] | None  # is called when it does


class Admission:
    """A bound on what is under way, with a short queue before it."""

    def __init__(
        self,
        most: int,
        *,
        max_queued: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Let in `most` at a time.

        Args:
            max_queued: how many may wait; None is an eighth of `most`.
            clock: seconds that only rise.
        """
        self.most = most
        self.max_queued = most // QUEUED_SHARE if max_queued is None else max_queued
        self.n_shed = 0
        self.typical_s = 0.0  # half of all calls take less; 0: none has ended yet
        self._clock = clock
        self._under_way: dict[Leaver, float] = {}  # when each was let in, the oldest first
        self._waiting: dict[Leaver, asyncio.Future[None]] = {}

    @property
    def n_under_way(self) -> int:
        """How many are under way."""
        return len(self._under_way)

    @property
    def n_waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def check(self) -> None:
        """Turn a call away before its body is read, if it would be turned away afterwards.

        Raises:
            SidecarFull: it would be.
        """
        if len(self._under_way) >= self.most and not self._may_wait():
            self.n_shed += 1
            raise SidecarFull(self.most)

    def place(self, who: Leaver) -> CallPlace:
        """Return a context that begins once there is room.

        Raises:
            SidecarFull: there is none, and will be none soon.
            ClientGone: the client left while it waited.
        """
        return CallPlace(self, who)

    def let_in(self, who: Leaver) -> bool:
        """Let a call in, if there is room; `leave` is to follow."""
        if len(self._under_way) >= self.most:
            return False
        self._under_way[who] = self._clock()
        return True

    async def enter(self, who: Leaver) -> None:
        """Let a call in, now or in its turn; `leave` is to follow. Raises as `place` says."""
        if self.let_in(who):
            return
        if not self._may_wait():
            self.n_shed += 1
            raise SidecarFull(self.most)
        turn = asyncio.get_running_loop().create_future()
        self._waiting[who] = turn
        who.gone = lambda: None if turn.done() else turn.set_exception(ClientGone())
        try:
            async with asyncio.timeout(LONGEST_WAIT_S):
                await turn
        except BaseException as error:
            self.leave(who)
            if isinstance(error, TimeoutError):
                self.n_shed += 1
                raise SidecarFull(self.most) from None
            raise
        finally:
            self._waiting.pop(who, None)
            who.gone = None

    def leave(self, who: Leaver) -> None:
        """Note that a call has ended; let in who has waited longest."""
        began_at = self._under_way.pop(who, None)
        if began_at is None:
            return
        now = self._clock()
        took_s = now - began_at
        step = STEP if took_s > self.typical_s else 1 / STEP
        self.typical_s = self.typical_s * step if self.typical_s else took_s
        while self._waiting and len(self._under_way) < self.most:
            first = next(iter(self._waiting))
            turn = self._waiting.pop(first)
            if not turn.done():
                self._under_way[first] = now
                turn.set_result(None)

    def _may_wait(self) -> bool:
        """Return whether the call whose place would come free for one more is about to end."""
        n = len(self._waiting)
        if n >= self.max_queued:
            return False
        began_at = next(islice(self._under_way.values(), n, None), None)
        return began_at is not None and self._clock() - began_at >= self.typical_s / 2


class CallPlace:
    """One call's place among those that are under way."""

    __slots__ = ("_home", "_who")

    def __init__(self, home: Admission, who: Leaver) -> None:
        self._home = home
        self._who = who

    async def __aenter__(self) -> None:
        await self._home.enter(self._who)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._home.leave(self._who)
