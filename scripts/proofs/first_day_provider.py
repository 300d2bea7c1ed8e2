"""Two providers on loopback, who answer as the model that they are asked for, and note the keys."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import uvicorn

from scripts.kits.agent import AgentTurn
from scripts.kits.agent_provider import START_S, AgentProvider
from scripts.kits.answers import AgentAnswer

KEYS = {"openai": "sk-first-day-of-openai", "anthropic": "sk-ant-first-day-of-anthropic"}
HOST_OF = {"openai": "one", "anthropic": "two"}
"""The agent's own names of its hosts."""


@dataclass(slots=True)
class FirstDayProvider(AgentProvider):
    """Serves `/openai/v1/…` and `/anthropic/v1/…`."""

    keys: list[tuple[str, str]] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Note who was called with which key, and answer."""
        if scope["type"] == "http":
            name = scope["path"].split("/")[1]
            headers = dict(scope["headers"])
            key = headers.get(b"x-api-key") or headers.get(b"authorization", b"")
            self.keys.append((name, key.decode().removeprefix("Bearer ")))
            path = scope["path"].replace(f"/{name}/", f"/{HOST_OF.get(name, name)}/", 1)
            scope = {**scope, "path": path}
        await AgentProvider.__call__(self, scope, receive, send)

    def _answer(self, host: str, turn: AgentTurn, body: dict[str, Any]) -> AgentAnswer:
        answer = AgentProvider._answer(self, host, turn, body)
        return replace(answer, model=str(body["model"]))


@contextmanager
def first_day_provider() -> Iterator[FirstDayProvider]:
    """Yield both, listening in a thread.

    Raises:
        OSError: they do not.
    """
    provider = FirstDayProvider(lenient=True)
    config = uvicorn.Config(
        provider, host="127.0.0.1", port=0, lifespan="off", ws="none", log_level="critical"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + START_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > until:
            raise OSError("the simulated providers do not listen")
        time.sleep(0.01)
    provider.port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield provider
    finally:
        server.should_exit = True
        thread.join(START_S)
