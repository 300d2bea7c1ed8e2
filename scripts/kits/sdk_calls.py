"""Calls with the real SDKs of OpenAI and Anthropic: whole, streamed, with two turns of a tool."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import anthropic
import openai

GREET: Any = [{"role": "user", "content": "greet me"}]
WEATHER: Any = [{"role": "user", "content": "what is the weather?"}]
SCHEMA: Any = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION: Any = {"name": "weather", "description": "d", "parameters": SCHEMA}
RESULT = "20 degrees"
MAX_TOKENS = 100


class SDKClients:
    """Both SDKs at one address, asking for one model; they repeat nothing by themselves."""

    def __init__(self, url: str, model: str) -> None:
        """`url` is without the version."""
        self.model = model
        self.openai = openai.OpenAI(base_url=f"{url}/v1", api_key="sk-none", max_retries=0)
        self.anthropic = anthropic.Anthropic(base_url=url, api_key="sk-none", max_retries=0)
        self.host = ""
        self.session: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.openai.close()
        self.anthropic.close()

    def ask(self, call: str, *, session: str = "") -> tuple[str, Any]:
        """Make a call; return which endpoint served it ("" directly), and what the SDK read.

        Raises:
            openai.OpenAIError, anthropic.AnthropicError: it failed.
        """
        self.session = {"x-router-session-id": session} if session else {}
        answer = _CALLS[call](self)
        return self.host, answer

    def _read(self, raw: Any) -> Any:
        """Note who served, and return what was said."""
        self.host = raw.headers.get("x-router-endpoint", "")
        return raw.parse()


def _chat(sdk: SDKClients, **more: Any) -> Any:
    create = sdk.openai.chat.completions.with_raw_response.create
    how = {"messages": GREET, **more}
    return sdk._read(create(model=sdk.model, extra_headers=sdk.session, **how))


def _chat_whole(sdk: SDKClients) -> Any:
    return _chat(sdk).to_dict()


def _chat_stream(sdk: SDKClients) -> Any:
    options = {"include_usage": True}
    return [chunk.to_dict() for chunk in _chat(sdk, stream=True, stream_options=options)]


def _chat_tools(sdk: SDKClients) -> Any:
    tools: Any = [{"type": "function", "function": FUNCTION}]
    first = _chat(sdk, messages=WEATHER, tools=tools).choices[0].message
    result = {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": RESULT}
    turns = [*WEATHER, first.to_dict(), result]
    return [first.to_dict(), _chat(sdk, messages=turns, tools=tools).to_dict()]


def _responses(sdk: SDKClients, **more: Any) -> Any:
    create = sdk.openai.responses.with_raw_response.create
    how = {"input": GREET, "store": False, **more}
    return sdk._read(create(model=sdk.model, extra_headers=sdk.session, **how))


def _responses_whole(sdk: SDKClients) -> Any:
    return _responses(sdk).to_dict()


def _responses_stream(sdk: SDKClients) -> Any:
    return [event.to_dict() for event in _responses(sdk, stream=True)]


def _responses_tools(sdk: SDKClients) -> Any:
    tools: Any = [{"type": "function", **FUNCTION, "strict": False}]
    first = _responses(sdk, input=WEATHER, tools=tools)
    call = first.output[-1]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": RESULT}
    turns = [*WEATHER, *(item.to_dict() for item in first.output), result]
    return [first.to_dict(), _responses(sdk, input=turns, tools=tools).to_dict()]


def _messages(sdk: SDKClients, **more: Any) -> Any:
    create = sdk.anthropic.messages.with_raw_response.create
    how = {"messages": GREET, "max_tokens": MAX_TOKENS, **more}
    return sdk._read(create(model=sdk.model, extra_headers=sdk.session, **how))


def _messages_whole(sdk: SDKClients) -> Any:
    return _messages(sdk).to_dict()


def _messages_stream(sdk: SDKClients) -> Any:
    return [event.to_dict() for event in _messages(sdk, stream=True)]


def _messages_tools(sdk: SDKClients) -> Any:
    tools: Any = [{"name": "weather", "description": "d", "input_schema": SCHEMA}]
    first = _messages(sdk, messages=WEATHER, tools=tools)
    result = {"type": "tool_result", "tool_use_id": first.content[-1].id, "content": RESULT}
    said = {"role": "assistant", "content": [block.to_dict() for block in first.content]}
    turns = [*WEATHER, said, {"role": "user", "content": [result]}]
    return [first.to_dict(), _messages(sdk, messages=turns, tools=tools).to_dict()]


_CALLS: dict[str, Callable[[SDKClients], Any]] = {
    "chat": _chat_whole,
    "chat, streamed": _chat_stream,
    "chat, with a tool": _chat_tools,
    "responses": _responses_whole,
    "responses, streamed": _responses_stream,
    "responses, with a tool": _responses_tools,
    "messages": _messages_whole,
    "messages, streamed": _messages_stream,
    "messages, with a tool": _messages_tools,
}
SDK_CALLS = tuple(_CALLS)
