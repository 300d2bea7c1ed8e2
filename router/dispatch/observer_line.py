"""Tells the observer of finished calls, so that it can read labels off them.

The observer is a child process: neither a large schema nor a slow pattern can hold up a call, and
what it crashes on costs labels only. Telling never waits. What the observer has no time for is
dropped and counted: a label that is missing is no label.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol, cast

import structlog

from router.decision.decide import Decision
from router.dispatch.rate_shares import RateShares
from telemetry import keys
from telemetry.observed import (
    ANSWERED,
    DECLARED,
    IN_SESSION,
    MAX_PART_BYTES,
    STATELESS,
    STREAMED,
    packed_header,
)
from telemetry.processes import lasting_environment
from telemetry.store import Address

log = structlog.get_logger()

GATHER_S = 0.1
"""Messages gather this long: a write costs a busy router as much as gathering ten of them."""
MAX_GATHERED_BYTES = 128 << 10
"""What the line takes at once; more is not gathered."""
MAX_WAITING_BYTES = 8 << 20
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
STEADY_S = 60.0
STOP_S = 5.0
STORE_URL = "POINTSMAN_STORE_URL"


class ObserverLine(asyncio.Protocol):
    """The line to the observer; one for the process."""

    def __init__(self, state_dir: Path, address: Address, *, n_shards: int) -> None:
        self.n_told = 0
        self.n_dropped = 0
        self.n_restarts = 0  # of an observer that ended
        self.n_sampled_out = 0  # of conversations that no label is read off
        self.rate_shares = RateShares()
        self._command = [
            sys.executable,
            "-m",
            "workers.observer.__main__",
            "--state-dir",
            str(state_dir.absolute()),
        ]
        self._command += ["--shards", str(n_shards), "--prefix", keys.prefix()]
        self._url = None if address.private else address.url
        self._process: subprocess.Popen[bytes] | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._is_due = False  # a time is set at which it is sent
        self._paused = False
        self._stopping = False
        self._pause_s = FIRST_PAUSE_S
        self._started_at = 0.0

    @property
    def is_up(self) -> bool:
        """Whether there is an observer to tell."""
        return self._transport is not None

    @property
    def pid(self) -> int | None:
        """The observer's process, once it was started."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Start the observer."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        environment = lasting_environment()
        if self._url is not None:
            environment[STORE_URL] = self._url  # it may hold a password: not for a command line
        try:
            self._process = subprocess.Popen(  # noqa: S603, ASYNC220 - our own module, at start
                [*self._command, "--socket", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                env=environment,
                pass_fds=(theirs.fileno(),),
            )
        finally:
            theirs.close()
        ours.setblocking(False)
        self._started_at = loop.time()
        await loop.create_connection(lambda: self, sock=ours)

    async def stop(self) -> None:
        """Let the observer finish what it was told, and end."""
        self._stopping = True
        self._flush()
        if self._transport is not None:
            self._transport.close()
        if self._process is not None:
            await asyncio.to_thread(_see_off, self._process)

    def tell(
        self,
        decision: Decision,
        chain: ChainSoFar,
        token: bytes,
        answer: bytes,
        *,
        answered: bool,
    ) -> bool:
        """Tell of a call that ends now, if there is room; return whether it was.

        Never waits, never raises.

        Args:
            chain: all of its attempts.
            token: packed.
            answer: as much of it as there was.
            answered: the client has it in full.
        """
        request = decision.context.request.body
        n_request, n_answer = len(request), len(answer)
        over = n_request > MAX_PART_BYTES or n_answer > MAX_PART_BYTES
        waiting = self._waiting_bytes + n_request + n_answer
        away = self._paused or self._transport is None or self._stopping
        if over or away or waiting > MAX_WAITING_BYTES:
            self.n_dropped += 1
            return False
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_later(GATHER_S, self._due)
        header = _header(decision, chain, token, n_request, n_answer, answered=answered)
        self._waiting += (header, request, answer)
        self._waiting_bytes = waiting
        self.n_told += 1
        if waiting > MAX_GATHERED_BYTES:
            self._flush()
        return True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The observer listens."""
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's is none by name
        self._transport.set_write_buffer_limits(high=MAX_WAITING_BYTES)
        self._paused = False

    def pause_writing(self) -> None:
        """The observer is behind."""
        self._paused = True

    def resume_writing(self) -> None:
        """It has caught up."""
        self._paused = False

    def connection_lost(self, exc: Exception | None) -> None:
        """The observer ended; start it again after a pause, unless we are ending too."""
        self._transport = None
        self._waiting.clear()
        self._waiting_bytes = 0
        if self._stopping:
            return
        loop = asyncio.get_running_loop()
        steady = loop.time() - self._started_at > STEADY_S
        self._pause_s = FIRST_PAUSE_S if steady else min(2 * self._pause_s, LONGEST_PAUSE_S)
        log.warning("the observer ended and is started again", pause_s=self._pause_s)
        loop.call_later(self._pause_s, self._again)

    def _again(self) -> None:
        self.n_restarts += 1
        if self._process is not None:
            self._process.kill()
            self._process.poll()
        if not self._stopping:
            self._starting = asyncio.get_running_loop().create_task(self.start())

    def _due(self) -> None:
        self._is_due = False
        self._flush()

    def _flush(self) -> None:
        if self._waiting and self._transport is not None:
            self._transport.write(b"".join(self._waiting))
        self._waiting.clear()
        self._waiting_bytes = 0


class ChainSoFar(Protocol):
    """What is to be known of a call's attempts."""

    first_endpoint: int
    cost_nano: int


def _header(
    decision: Decision,
    chain: ChainSoFar,
    token: bytes,
    n_request: int,
    n_answer: int,
    *,
    answered: bool,
) -> bytes:
    """Return the header of the message on a call that ends now."""
    context = decision.context
    unit, app, flags = context.unit, context.caller.app, 0
    declared = b""
    if unit.key and (unit.is_session or unit.user):
        declared, flags = unit.key, DECLARED
    if unit.is_session:
        flags |= IN_SESSION
    if answered:
        flags |= ANSWERED
    if context.request.streamed:
        flags |= STREAMED
    if app.is_stateless:
        flags |= STATELESS
    return packed_header(
        token,
        app.digest,
        declared,
        flags,
        context.request.dialect,
        context.at.epoch_s,
        time.time(),
        chain.first_endpoint,
        chain.cost_nano,
        n_request,
        n_answer,
    )


def _see_off(process: subprocess.Popen[bytes]) -> None:
    """Wait for the observer, which ends with its line; see to it if it does not."""
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
