"""A sidecar without sockets: requests go in as they would from a server, and out through a seam.

It has no store, so nothing of it is shared, and no thread but the journal's. Configurations follow
one another as they do by a reload: who stays keeps its breaker, and units keep their draws.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx
from msgspec import Struct

from bandit.cells import Terms
from router.beliefs.beliefs import believe
from router.beliefs.keeper import NOTHING
from router.beliefs.review_keys import known_review_keys
from router.config.compiled import Configuration
from router.decision.context import CallContext, Moment
from router.dialects.opaque import OpaqueBody, take_hints
from router.dialects.parsers import PARSERS
from router.dispatch.passing import read_call
from router.endpoints.providers import Provider
from router.net.exchange import JSON, Exchange, Header
from router.net.paths import normal_path
from router.policy.callers import Caller, Keys
from router.routes import now
from router.server import Sidecar
from telemetry.store import Address


class SentRequest(Struct, frozen=True):
    """A request of a client."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    method: str = "POST"


class GivenAnswer(Struct, frozen=True):
    """What a client got: all of it, also where it was cut."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Settled(Struct, frozen=True):
    """What is settled of a call before a draw."""

    caller: Caller
    found: CallContext | Provider | OpaqueBody


class SidecarWithin:
    """A sidecar in this process; a context manager."""

    def __init__(
        self,
        configuration: Configuration,
        state_dir: Path,
        transport: httpx.AsyncBaseTransport,
        *,
        clock: Callable[[], Moment] = now,
    ) -> None:
        """Build everything, over a store that is away."""
        away = Address(f"unix://{state_dir}/no-store")
        self.sidecar = Sidecar(configuration, away, transport=transport, clock=clock)
        self.clock = clock
        self._opened = ExitStack()
        self.follow(configuration)

    def __enter__(self) -> SidecarWithin:
        """Open the journal: no call is answered without."""
        self.sidecar.writer.start()
        self._opened.callback(self.sidecar.writer.close)
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self._opened.close()

    def follow(self, configuration: Configuration, rows: Terms = NOTHING) -> None:
        """Go on under another configuration, and with these posteriors."""
        keys = known_review_keys(configuration, ())
        at_ms = int(self.clock().epoch_s * 1000)
        keeper = self.sidecar.keeper
        keeper.current = believe(configuration, rows, version=1, review_keys=keys, now_ms=at_ms)
        self.sidecar._follow(configuration)

    async def settle(self, request: SentRequest) -> Settled:
        """Return what is settled of a call; nothing is drawn, sent or stored.

        Raises:
            RequestRejected: it is refused before anybody is looked for.
        """
        beliefs = self.sidecar.keeper.current
        exchange = _exchange(request)
        exchange.path = normal_path(exchange.raw_path)
        caller = beliefs.configuration.derive(Keys).caller(exchange.headers)
        if exchange.path not in PARSERS:
            return Settled(caller, take_hints(request.body, exchange.path))
        call = read_call(request.body, exchange.path, beliefs.configuration.catalog)
        if isinstance(call, OpaqueBody):
            return Settled(caller, call)
        passing = self.sidecar.routes._services.passing
        return Settled(caller, await passing.settle(exchange, beliefs, caller, call, self.clock()))

    async def send(self, request: SentRequest) -> GivenAnswer:
        """Return what a client gets for a request."""
        exchange = _exchange(request)
        await self.sidecar.routes.serve(exchange)
        return _answer_of(exchange)


class RecordedExchange(Exchange):
    """An exchange without a connection: what was said in it is there afterwards."""

    def __init__(
        self,
        method: str,
        path: bytes,
        headers: Sequence[Header],
        body: bytes,
    ) -> None:
        """Begin, in the task that will serve it."""
        raw_path, _, query = path.partition(b"?")
        super().__init__(method, raw_path, query, list(headers))
        self.path = raw_path.decode("latin-1")
        self.task = asyncio.current_task()
        self.status = 0
        self.said: Sequence[Header] = ()
        self.parts: list[bytes] = []
        self._asked = body

    async def receive(self) -> tuple[bytes, bool]:
        """Return the body."""
        return self._asked, False

    async def respond(
        self, status: int, body: bytes, headers: Sequence[Header] | None = None
    ) -> None:
        """Keep a whole answer."""
        await self.start(status, [JSON] if headers is None else headers)
        await self.end(body)

    async def start(self, status: int, headers: Sequence[Header], first: bytes = b"") -> None:
        """Keep its head."""
        self.started = True
        self.status, self.said = status, headers
        if first:
            await self.part(first)

    async def part(self, data: bytes) -> None:
        """Keep a piece."""
        self.parts.append(data)
        self.n_parts += 1

    async def end(self, data: bytes = b"") -> None:
        """Keep the last piece."""
        self.parts.append(data)


def _exchange(request: SentRequest) -> RecordedExchange:
    """Return a request as a server hands it over."""
    headers = {"host": "localhost", "content-type": "application/json", **request.headers}
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return RecordedExchange(request.method, request.path.encode(), raw, request.body)


def _answer_of(exchange: RecordedExchange) -> GivenAnswer:
    shown = {name.decode(): value.decode("latin-1") for name, value in exchange.said}
    return GivenAnswer(exchange.status, shown, b"".join(exchange.parts))
