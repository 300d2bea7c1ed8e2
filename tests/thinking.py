"""Providers that sign what they think, each in its own way, and take back nothing else.

One for each dialect: what it is asked first, what it answers, how a client goes on from that, and
the signatures that a call carries.
"""

from __future__ import annotations

import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from conftest import Provider, Reply, Seen, event
from dialects import named, response_events

NUMBERS = itertools.count(1)
TOOL = {"type": "object", "properties": {"city": {"type": "string"}}}


class Signing(ABC):
    """A host of the fake provider: it takes only thoughts that it signed itself."""

    path: str
    refused: bytes

    def __init__(self, provider: Provider, host: str) -> None:
        self.host = host
        self.seen: list[Seen] = []
        self.fails = False
        self.refuses = False  # whatever it is sent
        self.chunk_delay_s = 0.0
        self.with_tools = True
        provider.on(host, self.reply)

    @property
    def last(self) -> Any:
        return self.seen[-1].json

    def reply(self, call: Seen) -> Reply:
        self.seen.append(call)
        if self.fails:
            return Reply(500, b'{"error": {"message": "down"}}')
        if call.path.endswith("/count_tokens"):
            return Reply(body=b'{"input_tokens": 1}')
        is_own = all(f"sig-{self.host}-" in one for one in self.signatures(call.json))
        if self.refuses or not is_own:
            return Reply(400, self.refused)
        answer = self.answer(call.json, f"sig-{self.host}-{next(NUMBERS)}")
        if not call.json.get("stream"):
            return Reply(body=json.dumps(answer).encode())
        return Reply(chunks=list(self.events(answer)), chunk_delay_s=self.chunk_delay_s)

    @staticmethod
    @abstractmethod
    def first(**more: Any) -> dict[str, Any]:
        """The first turn of a conversation."""

    @abstractmethod
    def answer(self, asked: dict[str, Any], signature: str) -> dict[str, Any]:
        """A whole answer, with what was thought under a signature."""

    @abstractmethod
    def events(self, answer: dict[str, Any]) -> Iterator[bytes]:
        """The same, as it is streamed."""

    @staticmethod
    @abstractmethod
    def whole(stream: bytes) -> dict[str, Any]:
        """What a client makes of the stream."""

    @staticmethod
    @abstractmethod
    def going_on(asked: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        """The next turn."""

    @staticmethod
    @abstractmethod
    def signatures(asked: dict[str, Any]) -> list[str]:
        """The signatures that a call carries."""


def data(stream: bytes) -> list[dict[str, Any]]:
    lines = [line[6:] for line in stream.splitlines() if line.startswith(b"data: {")]
    return [json.loads(line) for line in lines]


class SigningMessages(Signing):
    path = "/v1/messages"
    refused = (
        b'{"type":"error","error":{"type":"invalid_request_error",'
        b'"message":"messages.1.content.0: Invalid `signature` in `thinking` block"}}'
    )

    @staticmethod
    def first(**more: Any) -> dict[str, Any]:
        tools = [{"name": "weather", "input_schema": TOOL}]
        asked = {"model": "auto", "max_tokens": 2048, "tools": tools}
        asked["thinking"] = {"type": "adaptive"}
        return asked | {"messages": [{"role": "user", "content": "hi"}]} | more

    def answer(self, asked: dict[str, Any], signature: str) -> dict[str, Any]:
        hidden = {"type": "redacted_thinking", "data": f"data-{signature}"}
        call = {"type": "tool_use", "id": f"toolu_{signature}", "name": "weather", "input": {}}
        return {
            "id": f"msg_{signature}",
            "type": "message",
            "role": "assistant",
            "model": asked["model"],
            "content": [
                {"type": "thinking", "thinking": "They greet me.", "signature": signature},
                hidden,
                {"type": "text", "text": "hello"},
                *([call] if self.with_tools else []),
            ],
            "stop_reason": "tool_use" if self.with_tools else "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 10, "output_tokens": 5},
        }

    def events(self, answer: dict[str, Any]) -> Iterator[bytes]:
        begun = {"content": [], "stop_reason": None}
        yield named({"type": "message_start", "message": answer | begun})
        for index, block in enumerate(answer["content"]):
            begin, deltas = self._pieces(block)
            yield named({"type": "content_block_start", "index": index, "content_block": begin})
            for delta in deltas:
                yield named({"type": "content_block_delta", "index": index, "delta": delta})
            yield named({"type": "content_block_stop", "index": index})
        end = {"stop_reason": answer["stop_reason"], "stop_sequence": None}
        yield named({"type": "message_delta", "delta": end, "usage": answer["usage"]})
        yield named({"type": "message_stop"})

    @staticmethod
    def _pieces(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        if block["type"] == "text":
            return block | {"text": ""}, [{"type": "text_delta", "text": block["text"]}]
        if block["type"] != "thinking":
            return block, []
        deltas = [{"type": "thinking_delta", "thinking": block["thinking"]}]
        for piece in (block["signature"][:4], block["signature"][4:]):
            deltas.append({"type": "signature_delta", "signature": piece})
        return block | {"thinking": "", "signature": ""}, deltas

    @staticmethod
    def whole(stream: bytes) -> dict[str, Any]:
        blocks: list[dict[str, Any]] = []
        for one in data(stream):
            if one["type"] == "content_block_start":
                blocks.append(dict(one["content_block"]))
            elif one["type"] == "content_block_delta":
                for name in ("thinking", "signature", "text"):
                    if name in one["delta"]:
                        blocks[-1][name] = blocks[-1].get(name, "") + one["delta"][name]
        return {"content": blocks}

    @staticmethod
    def going_on(asked: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        calls = [block["id"] for block in answer["content"] if block["type"] == "tool_use"]
        said: Any = [{"type": "tool_result", "tool_use_id": i, "content": "sun"} for i in calls]
        turns = [{"role": "assistant", "content": answer["content"]}]
        turns.append({"role": "user", "content": said or "and then?"})
        return asked | {"messages": [*asked["messages"], *turns]}

    @staticmethod
    def signatures(asked: dict[str, Any]) -> list[str]:
        turns = [turn["content"] for turn in asked["messages"]]
        blocks = [block for content in turns if isinstance(content, list) for block in content]
        found = [block.get("signature", block.get("data")) for block in blocks]
        return [one for one in found if one is not None]


class SigningResponses(Signing):
    path = "/v1/responses"
    refused = (
        b'{"error":{"message":"The encrypted content sig... could not be verified.",'
        b'"type":"invalid_request_error","param":null,"code":"invalid_encrypted_content"}}'
    )

    @staticmethod
    def first(**more: Any) -> dict[str, Any]:
        tools = [{"type": "function", "name": "weather", "parameters": TOOL}]
        asked = {"model": "auto", "store": False, "tools": tools}
        return asked | {"input": [{"role": "user", "content": "hi"}]} | more

    def answer(self, asked: dict[str, Any], signature: str) -> dict[str, Any]:
        part = {"type": "output_text", "text": "hello", "annotations": []}
        shown = {"type": "message", "id": f"msg_{signature}", "role": "assistant"}
        call = {"type": "function_call", "id": f"fc_{signature}", "call_id": f"call_{signature}"}
        items: list[dict[str, Any]] = [
            {
                "type": "reasoning",
                "id": f"rs_{signature}",
                "summary": [{"type": "summary_text", "text": "They greet me."}],
                "encrypted_content": signature,
            },
            {**shown, "status": "completed", "content": [part]},
        ]
        if self.with_tools:
            items.append({**call, "name": "weather", "arguments": "{}"})
        return {
            "id": f"resp_{signature}",
            "object": "response",
            "created_at": 1,
            "status": "completed",
            "model": asked["model"],
            "output": items,
            "usage": {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15},
        }

    def events(self, answer: dict[str, Any]) -> Iterator[bytes]:
        return map(named, response_events(answer))

    @staticmethod
    def whole(stream: bytes) -> dict[str, Any]:
        done = [one for one in data(stream) if one["type"] == "response.output_item.done"]
        return {"output": [one["item"] for one in done]}

    @staticmethod
    def going_on(asked: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        calls = [item for item in answer["output"] if item["type"] == "function_call"]
        said: list[dict[str, Any]] = [
            {"type": "function_call_output", "call_id": call["call_id"], "output": "sun"}
            for call in calls
        ] or [{"role": "user", "content": "and then?"}]
        return asked | {"input": [*asked["input"], *answer["output"], *said]}

    @staticmethod
    def signatures(asked: dict[str, Any]) -> list[str]:
        items = asked["input"]
        encrypted = [item["encrypted_content"] for item in items if "encrypted_content" in item]
        return encrypted + [item["id"] for item in items if "id" in item]


class SigningChat(Signing):
    path = "/v1/chat/completions"
    refused = (
        b'[{"error":{"code":400,"message":"Corrupted thought signature.","status":"INVALID"}}]'
    )

    @staticmethod
    def first(**more: Any) -> dict[str, Any]:
        tools = [{"type": "function", "function": {"name": "weather", "parameters": TOOL}}]
        asked = {"model": "auto", "tools": tools}
        return asked | {"messages": [{"role": "user", "content": "hi"}]} | more

    def answer(self, asked: dict[str, Any], signature: str) -> dict[str, Any]:
        said: dict[str, Any] = {"role": "assistant", "content": "hello"}
        details = {"type": "reasoning.text", "text": "They greet me.", "index": 0}
        said["reasoning_details"] = [details | {"signature": f"details-{signature}"}]
        if self.with_tools:
            function = {"name": "weather", "arguments": "{}"}
            extra = {"google": {"thought_signature": signature}}
            call = {"id": f"call_{signature}", "type": "function", "function": function}
            said["tool_calls"] = [call | {"index": 0, "extra_content": extra}]
        choice = {"index": 0, "message": said, "finish_reason": "stop"}
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        about = {"id": f"chatcmpl-{signature}", "object": "chat.completion", "created": 1}
        return about | {"model": asked["model"], "choices": [choice], "usage": usage}

    def events(self, answer: dict[str, Any]) -> Iterator[bytes]:
        (choice,) = answer["choices"]
        pieces = [{"delta": {name: value}} for name, value in choice["message"].items()]
        pieces.append({"delta": {}, "finish_reason": "stop"})
        for piece in pieces:
            yield event(answer | {"choices": [{"index": 0, "finish_reason": None} | piece]})
        yield b"data: [DONE]\n\n"

    @staticmethod
    def whole(stream: bytes) -> dict[str, Any]:
        said: dict[str, Any] = {}
        for one in data(stream):
            for choice in one["choices"]:
                said |= choice["delta"]
        return {"choices": [{"message": said}]}

    @staticmethod
    def going_on(asked: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        said = answer["choices"][0]["message"]
        results: list[dict[str, Any]] = [
            {"role": "tool", "tool_call_id": call["id"], "content": "sun"}
            for call in said.get("tool_calls", ())
        ] or [{"role": "user", "content": "and then?"}]
        return asked | {"messages": [*asked["messages"], said, *results]}

    @staticmethod
    def signatures(asked: dict[str, Any]) -> list[str]:
        out = []
        for one in asked["messages"]:
            out += [details["signature"] for details in one.get("reasoning_details", ())]
            for call in one.get("tool_calls", ()):
                if "extra_content" in call:
                    out.append(call["extra_content"]["google"]["thought_signature"])
        return out


ALL: tuple[type[Signing], ...] = (SigningMessages, SigningResponses, SigningChat)
DIALECTS = {
    SigningMessages: ["messages"],
    SigningResponses: ["responses"],
    SigningChat: ["chat"],
}
