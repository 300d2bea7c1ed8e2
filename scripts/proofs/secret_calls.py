"""Requests with a secret in every place that has room for one, and what came back of each."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from scripts.proofs.canaries import Canaries
from scripts.proofs.secret_provider import MARK

OWN_CODES = ("stream_cut", "internal_error", "draining")
"""Of the events by which the sidecar ends a stream that somebody else began."""
SERVE_S = 20.0


@dataclass(frozen=True, slots=True)
class LoadedCall:
    """A request of which every field is a secret."""

    case: str
    method: str
    path: str
    headers: dict[str, str]
    content: bytes


@dataclass(frozen=True, slots=True)
class OwnAnswer:
    """What the sidecar itself said: all of it, or its own part of a provider's answer."""

    place: str
    said: bytes


@dataclass(slots=True)
class LoadedCaller:
    """Makes loaded calls; keeps what the sidecar says of its own."""

    canaries: Canaries
    url: str
    app_key: str
    answers: list[OwnAnswer] = field(default_factory=list)
    decisions: list[str] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)

    def headers(self, case: str, *, key: str | None = None) -> dict[str, str]:
        """Return headers with a secret each, and the key of an app."""
        plant = self.canaries.plant
        return {
            "content-type": "application/json",
            "x-router-key": self.app_key if key is None else key,
            "authorization": f"Bearer {plant(f'bearer token of the caller, {case}')}",
            "x-api-key": plant(f"x-api-key of the caller, {case}"),
            "api-key": plant(f"api-key of the caller, {case}"),
            "x-goog-api-key": plant(f"x-goog-api-key of the caller, {case}"),
            "cookie": f"session={plant(f'cookie, {case}')}",
            "proxy-authorization": f"Basic {self._basic(f'proxy-authorization, {case}')}",
            "x-internal-token": plant(f"header that does not travel, {case}"),
            "user-agent": plant(f"user-agent, {case}"),
            "x-router-user": plant(f"x-router-user, {case}"),
            "x-router-session-id": plant(f"x-router-session-id, {case}"),
            "x-claude-code-session-id": plant(f"session id of an agent, {case}"),
            "x-router-ref": plant(f"x-router-ref, {case}"),
        }

    def _basic(self, name: str) -> str:
        return base64.b64encode(f"me:{self.canaries.plant(name)}".encode()).decode()

    def body(self, case: str, model: str, *, streamed: bool) -> dict[str, Any]:
        """Return a chat completion in which everybody says secrets."""

        def plant(what: str) -> str:
            return self.canaries.plant(f"{what}, {case}")

        image = base64.b64encode(plant("image").encode()).decode()
        called = {"name": "edit_file", "arguments": json.dumps({"path": plant("tool call")})}
        parameters = {"type": "object", "properties": {"path": {"const": plant("tool schema")}}}
        return {
            "model": model,
            "stream": streamed,
            "messages": [
                {"role": "system", "content": plant("system prompt")},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": plant("user prompt")},
                        {
                            "type": "image_url",
                            "image_url": {"url": f"data:image/png;base64,{image}"},
                        },
                    ],
                },
                {
                    "role": "assistant",
                    "content": plant("earlier answer"),
                    "tool_calls": [{"id": "call_0", "type": "function", "function": called}],
                },
                {"role": "tool", "tool_call_id": "call_0", "content": plant("tool result")},
            ],
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "edit_file",
                        "description": plant("description of a tool"),
                        "parameters": parameters,
                    },
                }
            ],
            "user": plant("user"),
            "safety_identifier": plant("safety_identifier"),
            "prompt_cache_key": plant("prompt_cache_key"),
            "metadata": {"user_id": plant("metadata.user_id"), "router_ref": plant("router_ref")},
            "router": {
                "ref": plant("router.ref"),
                "user": plant("router.user"),
                "session_id": plant("router.session_id"),
            },
        }

    def chat(self, case: str, model: str, *, streamed: bool, **headers: str) -> LoadedCall:
        """Return a chat completion, loaded."""
        case = f"{case}{', streamed' if streamed else ''}"
        content = json.dumps(self.body(case, model, streamed=streamed)).encode()
        query = f"?key={self.canaries.plant(f'query, {case}')}"
        given = self.headers(case) | headers
        return LoadedCall(case, "POST", f"/v1/chat/completions{query}", given, content)

    def post(self, case: str, path: str, value: object, **headers: str) -> LoadedCall:
        """Return a POST of a value, or of bytes that are none."""
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        return LoadedCall(case, "POST", path, self.headers(case) | headers, content)

    def get(self, case: str, path: str, **headers: str) -> LoadedCall:
        """Return a GET."""
        query = f"key={self.canaries.plant(f'query, {case}')}"
        joined = f"{path}{'&' if '?' in path else '?'}{query}"
        return LoadedCall(case, "GET", joined, self.headers(case) | headers, b"")

    async def make(
        self, calls: Sequence[LoadedCall], *, leave_after_s: float | None = None
    ) -> None:
        """Make calls one after the other, and keep what the sidecar said.

        Args:
            leave_after_s: hang up so soon after each request; nothing is kept of its answer.
        """
        limits = httpx.Timeout(leave_after_s or SERVE_S)
        async with httpx.AsyncClient(trust_env=False, timeout=limits, base_url=self.url) as client:
            for call in calls:
                try:
                    answer = await client.request(
                        call.method, call.path, headers=call.headers, content=call.content
                    )
                except httpx.TransportError:
                    self.statuses[call.case] = 0
                    continue
                self._keep(call, answer)

    def _keep(self, call: LoadedCall, answer: httpx.Response) -> None:
        self.statuses[call.case] = answer.status_code
        said = own_part(answer.headers, answer.content)
        self.answers.append(OwnAnswer(f"answer: {call.case}", said))
        decision = answer.headers.get("x-router-decision-id")
        if decision is not None:
            self.decisions.append(decision)


def own_part(headers: Mapping[str, str], content: bytes) -> bytes:
    """Return what of an answer the sidecar said: everything, but for what a provider said in it."""
    lines = [f"{name}: {value}" for name, value in headers.items()]
    if headers.get(MARK[0]) != MARK[1]:
        return "\n".join(lines).encode() + b"\n\n" + content
    ours = [line for line in lines if line.startswith("x-router-")]
    codes = tuple(f'"code":"{code}"'.encode() for code in OWN_CODES)
    events = [each for each in content.split(b"\n\n") if any(code in each for code in codes)]
    return "\n".join(ours).encode() + b"\n\n" + b"\n\n".join(events)
