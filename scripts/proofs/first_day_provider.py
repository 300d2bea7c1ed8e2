"""Two providers on loopback, who answer as the model that they are asked for, and note the keys."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from scripts.kits.agent import AgentTurn
from scripts.kits.agent_provider import AgentProvider, listening
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
    with listening(FirstDayProvider(lenient=True)) as provider:
        yield provider
