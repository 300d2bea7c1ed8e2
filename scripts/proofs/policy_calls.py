"""Random requests and faults for the proof of the policy."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from random import Random
from typing import Any

from scripts.proofs.policy_world import APPS, ROLES, STRATEGIES, TASKS, TOOLS, USERS
from scripts.proofs.within import SentRequest

CALL_PATHS = ("/v1/chat/completions", "/v1/messages", "/v1/responses")
OTHER_PATHS = (
    ("POST", "/v1/files"),
    ("POST", "/v1/batches"),
    ("POST", "/v1/moderations"),
    ("GET", "/v1/files"),
    ("POST", "/v1/messages/count_tokens"),
    ("POST", "/v1/embeddings"),
)
KEEPING_TOOLS = ("web_search", "mcp", "code_interpreter", "image_generation")
FAULTS = ("ok", "ok", "ok", "refused", "500", "429", "slow", "slow", "cut", "silent")
UNMARKED = b"call-0-"
MUTED = 0.02
"""How often a hint is one that nobody can follow."""


@dataclass(slots=True)
class FaultyCall:
    """A request, and what its attempts meet, one after the other."""

    method: str
    path: str
    key: str
    headers: dict[str, str]
    body: dict[str, Any]
    faults: list[str]
    moves_clock: bool  # its first attempt takes until the next day
    reached: list[str] = field(default_factory=list)  # hosts, in order
    active: int = 0  # attempts under way
    attempts: int = 0
    mark: int = 0  # by which it is known where it comes

    @property
    def request(self) -> SentRequest:
        """The request as a client sends it."""
        headers = {**self.headers, "authorization": f"Bearer {self.key}"}
        body = b"" if self.method == "GET" else json.dumps(self.body).encode()
        body = body.replace(UNMARKED, f"call-{self.mark}-".encode())
        return SentRequest(self.path, headers, body, self.method)

    def told(self) -> dict[str, Any]:
        """Return all that is needed to look into it."""
        shown = {name: getattr(self, name) for name in ("method", "path", "key", "headers", "body")}
        return {**shown, "faults": self.faults, "reached": self.reached}


def faulty_call(random: Random, *, n_endpoints: int, classes: list[str]) -> FaultyCall:
    """Return a random call."""
    method, path = "POST", random.choice(CALL_PATHS)
    if random.random() < 0.12:
        method, path = random.choice(OTHER_PATHS)
    headers, hints = _hints(random, classes)
    body = _body(random, path, n_endpoints)
    if hints:
        body["router"] = hints
    key = random.choice([*(f"key-{app}" for app in APPS), *(f"held-{app}" for app in APPS)])
    if random.random() < 0.15:
        key = "key-u0"
    if method == "GET":
        body = {}
    faults = [random.choice(FAULTS) for _ in range(6)]
    return FaultyCall(method, path, key, headers, body, faults, random.random() < 0.05)


def _hints(random: Random, classes: list[str]) -> tuple[dict[str, str], dict[str, Any]]:
    """Return hints in headers, and those in the body; none is in both."""
    said: dict[str, Any] = {
        "task": random.choice(TASKS),
        "role": _muted(random, random.choice(ROLES[:2]), "idle"),
        "strategy": _muted(random, random.choice(STRATEGIES), "nothing"),
        "user": random.choice((*USERS, "stranger")),
        "data_class": _muted(random, random.choice(classes), "secret"),
        "max_cost_usd": random.choice((0.0001, 0.01, 1.0)),
        "max_latency_ms": random.choice((2_000, 60_000)),
        "explore": random.random() < 0.5,
        "session_id": "session",
        "complexity": random.choice(("easy", "hard")),
    }
    shares = {"max_cost_usd": 0.08, "max_latency_ms": 0.08, "strategy": 0.1, "session_id": 0.7}
    chosen = {k: v for k, v in said.items() if random.random() < shares.get(k, 0.15)}
    if random.random() < 0.5:
        return {}, chosen
    names = {name: f"x-router-{name.replace('_', '-')}" for name in chosen}
    return {names[name]: _written(value) for name, value in chosen.items()}, {}


def _muted(random: Random, usual: str, unknown: str) -> str:
    return unknown if random.random() < MUTED else usual


def _written(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def _body(random: Random, path: str, n_endpoints: int) -> dict[str, Any]:
    model = random.choice(("auto", "auto", "auto", "m0", "m1", "m2", "unlisted", "unlisted-x"))
    if random.random() < 0.1:
        model = f"e{random.randrange(n_endpoints)}"
    if random.random() < 0.1:
        model = f"role:{random.choice(ROLES[:2])}"
    said = [{"role": "user", "content": f"{UNMARKED.decode()}of which nobody may know"}]
    body: dict[str, Any] = {"model": model}
    reads_input = path.endswith(("responses", "embeddings", "moderations"))
    body["input" if reads_input else "messages"] = said
    if path.endswith("/messages") or random.random() < 0.3:
        limit = "max_output_tokens" if path.endswith("/responses") else "max_tokens"
        body[limit] = random.choice((10, 1000))
    if random.random() < 0.5 and path in CALL_PATHS:
        body["stream"] = True
    if path.endswith(("/responses", "/completions")) and random.random() < 0.3:
        body["store"] = random.random() < 0.7
    tools = [_function(random.choice(TOOLS), path)] if random.random() < 0.2 else []
    if path.endswith("/responses") and random.random() < 0.2:
        tools.append({"type": random.choice(KEEPING_TOOLS), "server_label": "x"})
    if path.endswith("/messages") and random.random() < 0.1:
        tools.append({"type": "web_search_20250305", "name": "web_search"})
    if tools:
        body["tools"] = tools
    return body


def _function(name: str, path: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": {}}
    if "/messages" in path:
        return {"name": name, "input_schema": schema}
    if path.endswith("/responses"):
        return {"type": "function", "name": name, "parameters": schema}
    return {"type": "function", "function": {"name": name, "parameters": schema}}
