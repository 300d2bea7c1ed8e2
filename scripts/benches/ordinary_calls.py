"""Callers of ordinary traffic: streams, sessions, users, references, clients that leave, feedback.

Two calls in five are streamed, a tenth of those is cut by the client; three in five name one of
50,000 users, three in ten a session, half a reference; of two in five it is said how they went.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random

TASKS = ("order", "invoice", "weather", "python", "refund", "poem", "sum", "graph")
STREAMED, CUT, NAMES_USER, IN_SESSION, HAS_REFERENCE, LABELLED = 0.4, 0.1, 0.6, 0.3, 0.5, 0.4
N_USERS = 50_000
N_SESSIONS = 2000
PASSES = 0.8

CHANCE = Random()  # noqa: S311 - nothing secret

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class CallFailed(Exception):
    """An answer that no client should have got."""


@dataclass(slots=True)
class Callers:
    """Who calls one target; connections are kept."""

    port: int
    tells: bool  # feedback is given: only who understands it gets it
    n_calls: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    _idle: list[Connection] = field(default_factory=list)

    async def saturate(self, seconds: float, *, n_at_once: int) -> None:
        """Keep so many calls under way for so long."""
        ends = time.monotonic() + seconds

        async def again() -> None:
            while time.monotonic() < ends:
                await self.call()

        await asyncio.gather(*(again() for _ in range(n_at_once)))

    async def at_rate(self, seconds: float, rps: float) -> None:
        """Begin so many calls a second, whether those before have ended or not."""
        running: set[asyncio.Task[None]] = set()
        began = time.monotonic()
        for number in range(int(seconds * rps)):
            await asyncio.sleep(max(began + number / rps - time.monotonic(), 0.0))
            task = asyncio.create_task(self.call())
            running.add(task)
            task.add_done_callback(running.discard)
        if running:
            await asyncio.wait(running)

    async def call(self) -> None:
        """Make one call, and tell how it went if anybody does."""
        self.n_calls += 1
        streamed = CHANCE.random() < STREAMED
        reference = f"r{CHANCE.getrandbits(96):x}" if CHANCE.random() < HAS_REFERENCE else ""
        cuts = streamed and CHANCE.random() < CUT
        try:
            head, answer = await self._send(
                "/v1/chat/completions", _body(streamed), _headers(reference), cuts=cuts
            )
            if cuts or not self.tells or CHANCE.random() >= LABELLED:
                return
            said: dict[str, object] = {"passed": CHANCE.random() < PASSES}
            if reference and CHANCE.random() < 0.5:
                said["ref"] = reference
            elif not streamed and CHANCE.random() < 0.3:
                said["response_id"] = json.loads(answer)["id"]
            else:
                said["decision_id"] = _header(head, b"x-router-decision-id")
            await self._send("/v1/feedback", json.dumps(said).encode(), "")
        except (CallFailed, OSError, asyncio.IncompleteReadError) as error:
            self.failures[repr(error)[:200]] += 1

    async def _send(
        self, path: str, body: bytes, headers: str, *, cuts: bool = False
    ) -> tuple[bytes, bytes]:
        """Return head and body of an answer; of one that is cut, what came of it."""
        connection = self._idle.pop() if self._idle else None
        reader, writer = connection or await asyncio.open_connection("127.0.0.1", self.port)
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        writer.write(f"{head}{headers}content-length: {len(body)}\r\n\r\n".encode() + body)
        answered = await reader.readuntil(b"\r\n\r\n")
        if cuts:
            await reader.read(1024)
            writer.close()
            return answered, b""
        if b"transfer-encoding: chunked" in answered.lower():
            answer = await _chunks(reader)
        else:
            answer = await reader.readexactly(int(_header(answered.lower(), b"content-length")))
        self._idle.append((reader, writer))
        status = int(answered[9:12])
        # Nobody shields whoever calls without a router from a provider that fails.
        if status >= 300 and (self.tells or status != 503):
            raise CallFailed(status, answer.decode(errors="replace"))
        return answered, answer

    def close(self) -> None:
        """Let go of the connections."""
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while True:
        size = int(await reader.readline(), 16)
        parts.append((await reader.readexactly(size + 2))[:-2])
        if size == 0:
            return b"".join(parts)


def _header(head: bytes, name: bytes) -> str:
    return head.split(b"\r\n" + name + b": ")[1].split(b"\r\n")[0].decode()


def _headers(reference: str) -> str:
    told = f"x-router-task: {CHANCE.choice(TASKS)}\r\n"
    if CHANCE.random() < NAMES_USER:
        told += f"x-router-user: user{CHANCE.randrange(N_USERS)}\r\n"
    if CHANCE.random() < IN_SESSION:
        slot = int(time.time() // 120)
        told += f"x-router-session-id: s{CHANCE.randrange(N_SESSIONS)}-{slot}\r\n"
    return told + (f"x-router-ref: {reference}\r\n" if reference else "")


def _body(streamed: bool) -> bytes:
    text = " ".join(f"{CHANCE.getrandbits(40):x}" for _ in range(30))
    messages = [{"role": "user", "content": text}]
    value = {"model": "auto", "stream": streamed, "messages": messages}
    return json.dumps(value, separators=(",", ":")).encode()
