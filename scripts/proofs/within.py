"""A sidecar without sockets: requests go in as they would from a server, and out through a seam.

It has no store, so nothing of it is shared, and no thread but the journal's. Configurations follow
one another as they do by a reload: who stays keeps its breaker, and units keep their draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

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
from router.net.asgi import Exchange, Header, Message
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
        exchange, _ = _exchange(request)
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
        exchange, said = _exchange(request)
        await self.sidecar.routes.serve(exchange)
        return _answer_of(said)


def _exchange(request: SentRequest) -> tuple[Exchange, list[Message]]:
    """Return a request as a server hands it over, and the list of what is said to it."""
    said: list[Message] = []
    headers = {"host": "localhost", "content-type": "application/json", **request.headers}
    scope: dict[str, Any] = {
        "type": "http",
        "method": request.method,
        "path": request.path,
        "raw_path": request.path.encode(),
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }

    async def receive() -> Message:
        return {"type": "http.request", "body": request.body, "more_body": False}

    async def send(message: Message) -> None:
        said.append(message)

    return Exchange(scope, receive, send), said


def _answer_of(said: Sequence[Message]) -> GivenAnswer:
    starts = [message for message in said if message["type"] == "http.response.start"]
    if not starts:
        return GivenAnswer(0, {}, b"")
    headers: Sequence[Header] = starts[0]["headers"]
    shown = {name.decode(): value.decode("latin-1") for name, value in headers}
    body = b"".join(bytes(message.get("body", b"")) for message in said)
    return GivenAnswer(int(starts[0]["status"]), shown, body)
