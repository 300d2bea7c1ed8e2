"""A provider that streams an event now and then, and notes when each of its callers has left."""

from __future__ import annotations

import asyncio
import json
import time

from scripts.proofs.replies import LAST_FRAME, event, frame, piece, stream_head

EVENT = event(piece("slow", {"content": "word "}))


class SlowProvider:
    """One for a proof; calls are known by their field `user`."""

    def __init__(self, *, every_s: float, n_events: int) -> None:
        self.every_s = every_s
        self.n_events = n_events
        self.gone_at: dict[str, float] = {}  # monotonic seconds
        self.under_way = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.lower().split(b"\r\n")
                length = next(int(h[15:]) for h in lines if h.startswith(b"content-length:"))
                user = json.loads(await reader.readexactly(length))["user"]
                await self._stream(user, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.close()

    async def _stream(
        self, user: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.under_way += 1
        gone = asyncio.ensure_future(reader.read(1))
        try:
            writer.write(stream_head() + frame(event(piece("slow", {"role": "assistant"}))))
            for _ in range(self.n_events):
                writer.write(frame(EVENT))
                await asyncio.wait([gone], timeout=self.every_s)
                if gone.done():
                    self.gone_at[user] = time.monotonic()
                    raise ConnectionResetError
            end = frame(event(piece("slow", {}, "stop"))) + frame(b"data: [DONE]\n\n")
            writer.write(end + LAST_FRAME)
        finally:
            self.under_way -= 1
            gone.cancel()
            await asyncio.wait([gone])
