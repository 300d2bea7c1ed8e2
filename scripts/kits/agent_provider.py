"""A provider on loopback with two hosts, behind each of which the scripted agent speaks."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, TypeVar

import uvicorn

from scripts.kits import agent_chat, agent_messages, agent_responses
from scripts.kits.agent import AgentTurn, next_move
from scripts.kits.answers import CACHED, AgentAnswer

MODELS = {"one": "big-1", "two": "small-1"}
"""What each host calls its model, whatever it is asked for: a client may go by that name."""
HOSTS = tuple(MODELS)
DIALECTS: dict[str, tuple[str, ModuleType]] = {
    "chat": ("/chat/completions", agent_chat),
    "messages": ("/messages", agent_messages),
    "responses": ("/responses", agent_responses),
}
START_S = 10.0
REFUSALS = {
    "down": (503, "server_error", "The server is overloaded."),
    "seal": (400, "invalid_request_error", "Invalid signature in thinking block"),
    "encrypted": (400, "invalid_request_error", "The encrypted content could not be verified."),
    "thread_not_found": (404, "not_found_error", "Thread not found."),
    "item": (404, "invalid_request_error", "Item not found."),
    "path": (404, "invalid_request_error", "Not found."),
}
"""Status, type and words by reason; in them providers differ little."""
Sent = tuple[int, bytes, list[bytes]]
"""Status, media type and parts of an answer."""


@dataclass(frozen=True, slots=True)
class ProviderCall:
    """A request as a host saw it, and what it said."""

    host: str
    dialect: str  # "" of a path that no dialect has
    path: str
    body: Mapping[str, Any]
    turn: AgentTurn | None
    answer: AgentAnswer | None
    refused: str = ""  # why, where there is no answer

    @property
    def n_tokens(self) -> int:
        """Tokens in and out that the host told."""
        return self.answer.prompt_tokens + self.answer.output_tokens if self.answer else 0


@dataclass(slots=True)
class AgentProvider:
    """Plays the agent in every dialect; keeps what it was asked.

    As real ones do, a host refuses reasoning that another sealed, and items that lie elsewhere.
    """

    lenient: bool = False  # it takes them
    folder: str = ""  # the client's own
    falls: bool = False  # whoever has the client do something first is down from then on
    calls: list[ProviderCall] = field(default_factory=list)
    port: int = 0
    _down: str = ""
    _threads: dict[str, dict[str, Any]] = field(default_factory=dict)
    _n_answers: int = 0

    def begin(self, folder: str, *, falls: bool) -> None:
        """Begin a session: nobody is down, and nothing was asked yet."""
        self.folder, self.falls, self._down = folder, falls, ""
        self.calls = []

    def forget(self) -> None:
        """Lose what lies here under an id."""
        self._threads.clear()

    def url(self, host: str) -> str:
        """Return a host's base URL, without the version."""
        return f"http://127.0.0.1:{self.port}/{host}"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve `/<host>/v1/…`."""
        if scope["type"] == "lifespan":
            return
        raw, more = b"", True
        while more:
            message = await receive()
            raw += message.get("body", b"")
            more = message.get("more_body", False)
        _, host, *rest = scope["path"].split("/")
        path = "/" + "/".join(rest)
        status, kind, parts = self._reply(host, path, json.loads(raw) if raw else {})
        begun = [(b"content-type", kind), (b"x-request-id", f"req_{host}".encode())]
        await send({"type": "http.response.start", "status": status, "headers": begun})
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b""})

    def _reply(self, host: str, path: str, body: dict[str, Any]) -> Sent:
        named = [name for name, (end, _) in DIALECTS.items() if path.endswith(end)]
        if not named:
            self.calls.append(ProviderCall(host, "", path, body, None, None))
            return _elsewhere(path, body)
        dialect, wire = named[0], DIALECTS[named[0]][1]
        reason = "down" if host == self._down else "" if self.lenient else _foreign(host, body)
        whole, is_lost = self._whole(host, body)
        reason = reason or ("thread_not_found" if is_lost else "")
        turn: AgentTurn = wire.read(whole)
        answer = None if reason else self._answer(host, turn, body)
        if answer and (kept := agent_messages.kept_of(whole, answer)):
            self._threads.update([kept])
        self.calls.append(ProviderCall(host, dialect, path, body, turn, answer, reason))
        if answer is None:
            return _refusal(reason)
        if self.falls and answer.acts and not self._down:
            self._down = host
        if turn.streamed:
            return 200, b"text/event-stream", list(wire.events(answer, body))
        return 200, b"application/json", [json.dumps(wire.whole(answer)).encode()]

    def _whole(self, host: str, body: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """Return a request with what its thread keeps, and whether that is not known here."""
        thread = agent_messages.thread_of(body)
        if not thread:
            return body, False
        kept = self._threads.get(thread) if f"_{host}_" in thread else None
        return (body, True) if kept is None else (agent_messages.with_thread(body, kept), False)

    def _answer(self, host: str, turn: AgentTurn, body: dict[str, Any]) -> AgentAnswer:
        self._n_answers += 1
        move = next_move(turn, host, self.folder)
        return AgentAnswer(
            number=self._n_answers,
            host=host,
            model=MODELS[host],
            move=move,
            prompt_tokens=CACHED + len(json.dumps(body)) // 4,
            output_tokens=len(str(move)) // 4 + 1,
            thinks=turn.thinks,
        )


def _foreign(host: str, body: dict[str, Any]) -> str:
    """Return why a host refuses what another one made; "" where there is none of it."""
    text = json.dumps(body)
    if any(f"sealed-by-{other}-" in text for other in HOSTS if other != host):
        return "encrypted" if "input" in body else "seal"
    items = body.get("input") if isinstance(body.get("input"), list) else []
    lying = [i["id"] for i in items or [] if i.get("type") == "item_reference"]
    return "item" if any(f"_{host}_" not in each for each in lying) else ""


def _refusal(reason: str) -> Sent:
    status, kind, words = REFUSALS[reason]
    error: dict[str, Any] = {"type": kind, "message": words, "code": None, "param": None}
    error["details"] = {"error_code": reason}
    return status, b"application/json", [json.dumps({"type": "error", "error": error}).encode()]


def _elsewhere(path: str, body: dict[str, Any]) -> Sent:
    """Return what a path gets that is no call of a model."""
    if path.endswith("/count_tokens"):
        counted = {"input_tokens": len(json.dumps(body)) // 4}
        return 200, b"application/json", [json.dumps(counted).encode()]
    if path.endswith("/models"):
        models = {"object": "list", "data": [{"id": host, "object": "model"} for host in HOSTS]}
        return 200, b"application/json", [json.dumps(models).encode()]
    return _refusal("path")


Provider = TypeVar("Provider", bound=AgentProvider)


@contextmanager
def agent_provider(*, lenient: bool = False) -> Iterator[AgentProvider]:
    """Yield a provider that listens, in a thread of its own.

    Raises:
        OSError: it does not.
    """
    with listening(AgentProvider(lenient)) as provider:
        yield provider


@contextmanager
def listening(provider: Provider) -> Iterator[Provider]:
    """Have a provider listen meanwhile, in a thread of its own.

    Raises:
        OSError: it does not.
    """
    config = uvicorn.Config(
        provider, host="127.0.0.1", port=0, lifespan="off", ws="none", log_level="critical"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + START_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > until:
            raise OSError("the scripted provider does not listen")
        time.sleep(0.01)
    provider.port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield provider
    finally:
        server.should_exit = True
        thread.join(START_S)
