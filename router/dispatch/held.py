"""A stream of a provider's until it may be let go, and how long its next byte may take.

Where another endpoint may serve the call, nothing leaves before the first content; where an app
wants its streams whole, nothing before their end.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator
from enum import Enum

import httpx

from router.dialects.stream import AnswerStream
from router.dispatch.fates import Fate
from router.net.answer import Answer, Take
from router.net.deadline import Deadline
from telemetry.events import Result

MAX_HELD_BYTES = 256 << 10
"""What is held of a stream before its first content."""
MAX_WHOLE_BYTES = 64 << 20
"""What is held of a stream that is wanted whole."""
DONE_S = 1.0
"""How long the connection may stay open after the terminator; then we close it."""
FINISHED_S = 5.0
"""How long the terminator may take after a finish reason; some providers never send it."""


class Hold(Enum):
    """How much of a streamed answer must be there before it is let go."""

    NOTHING = "nothing"  # no other endpoint may serve the call
    CONTENT = "content"
    END = "end"  # the app wants streams whole


class StreamFailed(Exception):
    """A stream came to nothing before any of it was let go."""

    def __init__(self, result: Result, why: str, fate: Fate = Fate.MOMENT) -> None:
        self.result = result
        self.fate = fate
        super().__init__(why)


class HeldStream:
    """A stream while it is read."""

    __slots__ = ("_content_by", "_end_by", "_silence_s", "chunks", "held", "spoke_at", "state")

    def __init__(
        self,
        state: AnswerStream,
        chunks: AsyncIterator[bytes],
        first: bytes,
        *,
        content_by: float,
        silence_s: float,
    ) -> None:
        """Begin.

        Args:
            first: what was read of it already.
            content_by: monotonic seconds; no sign of life extends it.
            silence_s: what may pass between two bytes.
        """
        self.state = state
        self.chunks = chunks
        self.spoke_at: float | None = None  # monotonic seconds
        self._content_by = content_by
        self._silence_s = silence_s
        self._end_by = math.inf
        self.held = [self.feed(first)] if first else []

    def feed(self, chunk: bytes) -> bytes:
        """Read on; return the whole events to pass on now."""
        passed = self.state.feed(chunk)
        if self.spoke_at is None and self.state.spoke:
            self.spoke_at = time.monotonic()
        return passed

    async def pour(self, take: Take) -> bool:
        """Have `take` given what comes, until it takes no more; return whether the end came.

        Raises:
            httpx.RemoteProtocolError: the connection broke.
        """
        if isinstance(self.chunks, Answer):
            return await self.chunks.pour(take)
        async for chunk in self.chunks:
            if not take(chunk):
                return False
        return True

    def left_s(self) -> float:
        """Return what the next byte may take from now on, in seconds."""
        state = self.state
        if state.done or state.trusted:
            now = time.monotonic()
            self._end_by = min(self._end_by, now + (DONE_S if state.done else FINISHED_S))
            return max(min(self._end_by - now, self._silence_s), 0.0)
        self._end_by = math.inf
        if state.spoke or self._content_by == math.inf:
            return self._silence_s
        return max(min(self._content_by - time.monotonic(), self._silence_s), 0.0)

    async def hold(
        self, how: Hold, *, let_go_at: float = math.inf, then_by: float = math.inf
    ) -> None:
        """Read until it may be let go.

        Args:
            let_go_at: monotonic seconds, after which signs of life are let go as content is.
            then_by: the same, by when content must come once they were: its client lives on them.

        Raises:
            StreamFailed: it came to nothing before.
        """
        if how is Hold.NOTHING:
            return
        state, is_end, n_held = self.state, False, 0
        if isinstance(self.chunks, Answer) and self.chunks.chunks and not self.held:
            here = self.chunks.taken()  # its begin came with its head, often
            self.held.append(self.feed(here))
            n_held = len(here)
            if how is Hold.CONTENT and self._may_go(how, n_held):
                return
        try:
            with Deadline(self.left_s()) as limit:
                while not (is_end or self._may_go(how, n_held)):
                    if self.held and how is Hold.CONTENT and time.monotonic() > let_go_at:
                        self._content_by = then_by
                        return
                    chunk = await anext(self.chunks, None)
                    is_end = chunk is None
                    self.held.append(state.flush() if chunk is None else self.feed(chunk))
                    n_held += len(chunk or b"")
                    limit.move(self.left_s())
        except TimeoutError:
            if not state.is_whole(ended_well=False):
                why = "silent inside its answer" if state.spoke else "no content in time"
                raise StreamFailed(Result.TIMEOUT, why) from None
            self.held.append(state.close())
        except httpx.RemoteProtocolError as error:
            if not state.is_whole(ended_well=False):
                raise StreamFailed(Result.CUT, f"cut before it could be let go ({error})") from None
            self.held.append(state.close())
        if is_end and not state.is_whole(ended_well=True):
            raise StreamFailed(Result.CUT, "ended before its end")
        if how is Hold.END:
            self.chunks = _nothing()

    def _may_go(self, how: Hold, n_held: int) -> bool:
        state = self.state
        if state.is_empty:
            raise StreamFailed(Result.BAD_REPLY, "an end without an answer", Fate.FIT)
        if (state.failed or state.unreadable) and (how is Hold.END or not state.spoke):
            raise StreamFailed(Result.BAD_REPLY, "an error inside its answer", Fate.FIT)
        if how is Hold.CONTENT:
            return state.spoke or state.done or n_held > MAX_HELD_BYTES
        if n_held > MAX_WHOLE_BYTES:
            raise StreamFailed(Result.BAD_REPLY, "answer over 64 MiB")
        return state.done


async def first_bytes(chunks: AsyncIterator[bytes]) -> bytes:
    """Return what comes first, as far as it takes to see what it is."""
    first = b""
    async for chunk in chunks:
        first += chunk
        if first.strip():
            break
    return first


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
