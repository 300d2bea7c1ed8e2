"""A simulated model behind a real HTTP server, in each dialect, that does or does not do things."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import dialects
import pytest
from conftest import Provider, Reply, Seen, chunks, event

OK = {"ok": True}
REFUSED = 400


@dataclass
class Model:
    """What it does; `calls` are those that it got."""

    name: str | None = "m"
    tools: bool | str = True  # "ignored", "nonsense"
    schema: bool | str = True
    usage: bool = True
    thinks: bool | None = True  # None: it takes it, and says nothing of it
    forced: bool = True
    limit: str = "max_tokens"
    says: str = ""  # beside a refusal
    calls: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, call: Seen) -> Reply:
        """Answer a call of chat."""
        asked = call.json
        self.calls.append(asked)
        if self.limit not in asked:
            message = f"Unsupported parameter: 'max_tokens'. Use '{self.limit}' instead."
            return refusal(REFUSED, message, "unsupported_parameter")
        if "tools" in asked and self.tools is False:
            return refusal(REFUSED, f"this model does not do tools ({self.says})")
        if "tool_choice" in asked and not self.forced:
            return refusal(REFUSED, "tool_choice: only auto is known")
        if "response_format" in asked and self.schema is False:
            return refusal(REFUSED, "response_format: json_schema is not for this model")
        if "reasoning_effort" in asked and self.thinks is False:
            return refusal(REFUSED, "this model does not reason at all")
        if asked.get("stream"):
            return Reply(chunks=[self._renamed(c) for c in chunks("O", "K", usage=self.usage)])
        return Reply(body=json.dumps(self._answer(asked)).encode())

    def _renamed(self, chunk: bytes) -> bytes:
        if not chunk.startswith(b"data: {"):
            return chunk
        said = json.loads(chunk[6:])
        return event({**said, "model": self.name} if self.name else without_model(said))

    def _answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": "OK"}
        counts: dict[str, Any] = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        if "tools" in asked and self.tools != "ignored":
            arguments = json.dumps(OK) if self.tools is True else "{ok"
            function = {"name": "say_ok", "arguments": arguments}
            message["tool_calls"] = [{"id": "c1", "type": "function", "function": function}]
        if "response_format" in asked:
            message["content"] = json.dumps(OK) if self.schema is True else "Sure: ok!"
        if "reasoning_effort" in asked and self.thinks:
            counts["completion_tokens_details"] = {"reasoning_tokens": 4}
        said = {
            "id": "c-1",
            "object": "chat.completion",
            "created": 1,
            "model": self.name,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": counts,
        }
        return said if self.name else without_model(said)


def without_model(said: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in said.items() if name != "model"}


def refusal(status: int, message: str, code: str = "invalid_request_error") -> Reply:
    error = {"message": message, "type": "invalid_request_error", "code": code}
    return Reply(status, json.dumps({"error": error}).encode())


def speaks_all(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have hosts `chat`, `messages` and `responses` do all that is asked for, each in its own."""
    monkeypatch.setattr(dialects, "PERSON", OK)
    monkeypatch.setattr(dialects, "ARGUMENTS", OK)
    provider.on("chat", Model())
    provider.on("messages", dialects.speak)
    provider.on("responses", dialects.speak)
