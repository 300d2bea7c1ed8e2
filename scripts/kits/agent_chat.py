"""The agent in Chat Completions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from scripts.kits.agent import AgentTurn, OfferedTool
from scripts.kits.answers import CACHED, AgentAnswer, pieces, text_of


def read(body: Mapping[str, Any]) -> AgentTurn:
    """Return what a request says."""
    messages = body.get("messages", [])
    since = _since_the_user(messages)
    n_results = sum(
        m["role"] == "tool" and since[i - 1]["role"] != "tool" for i, m in enumerate(since)
    )
    functions = [t["function"] for t in body.get("tools") or [] if t["type"] == "function"]
    form = body.get("response_format") or {}
    return AgentTurn(
        tools=[OfferedTool(f["name"], f.get("parameters") or {}) for f in functions],
        n_results=n_results,
        said=text_of([m.get("content") or "" for m in since]),
        prompt=text_of([m.get("content") or "" for m in messages if m["role"] == "user"]),
        schema=(form.get("json_schema") or {}).get("schema"),
        streamed=body.get("stream") is True,
    )


def _since_the_user(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    last = max((i for i, m in enumerate(messages) if m["role"] == "user"), default=0)
    return messages[last:]


def whole(answer: AgentAnswer) -> dict[str, Any]:
    """Return the answer in one object."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or None}
    if answer.call:
        message["tool_calls"] = [_call(answer)]
    choice = {"index": 0, "message": message, "finish_reason": _reason(answer)}
    return _head(answer, "chat.completion") | {"choices": [choice], "usage": _usage(answer)}


def events(answer: AgentAnswer, body: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield the answer's stream; its usage where the request asks for it."""
    head = _head(answer, "chat.completion.chunk")

    def chunk(delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return _event(head | {"choices": [choice]})

    yield chunk({"role": "assistant", "content": None if answer.call else ""})
    for piece in pieces(answer.text):
        yield chunk({"content": piece})
    if answer.call:
        begun = _call(answer)
        begun["function"]["arguments"] = ""
        yield chunk({"tool_calls": [{"index": 0, **begun}]})
        for piece in pieces(answer.arguments):
            yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
    yield chunk({}, _reason(answer))
    if (body.get("stream_options") or {}).get("include_usage"):
        yield _event(head | {"choices": [], "usage": _usage(answer)})
    yield b"data: [DONE]\n\n"


def _head(answer: AgentAnswer, kind: str) -> dict[str, Any]:
    number = f"chatcmpl-{answer.host}-{answer.number}"
    return {"id": number, "object": kind, "created": 1, "model": answer.model}


def _call(answer: AgentAnswer) -> dict[str, Any]:
    assert answer.call is not None
    function = {"name": answer.call.name, "arguments": answer.arguments}
    return {"id": f"call_{answer.host}_{answer.number}", "type": "function", "function": function}


def _reason(answer: AgentAnswer) -> str:
    return "tool_calls" if answer.call else "stop"


def _usage(answer: AgentAnswer) -> dict[str, Any]:
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.output_tokens,
        "total_tokens": answer.prompt_tokens + answer.output_tokens,
        "prompt_tokens_details": {"cached_tokens": CACHED},
    }


def _event(value: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"
