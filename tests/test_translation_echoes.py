"""What a translation hands out, it takes back: real clients send answers on, turn after turn."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from translated import CREATED

from router.endpoints.entries import Dialect
from router.translation.answers import translated_answer, translated_stream
from router.translation.prompt import Manner, Prompt, ToolUse
from router.translation.requests import read, write
from router.translation.tools import NAME

DIRECTIONS = [("messages", "chat"), ("chat", "messages")]
DIRECTIONS += [("responses", "chat"), ("responses", "messages")]
"""Who calls, and what the endpoint speaks."""
EVERY_WAY = pytest.mark.parametrize(
    ("caller", "speaks", "streamed"),
    [(*way, streamed) for way in DIRECTIONS for streamed in (False, True)],
)
OPEN = Manner(output_tokens=64_000)
N_TURNS = 3

Part = tuple[str, ...]
"""Words, or a call: its id, its name, and what it takes."""
odd_ids = st.sampled_from(["a", "call_0", "functions.f:0", "", "é", "x" * 80, "a b"])
odd_names = st.sampled_from(["f", "f.g h", "n" * 80, "", "é", "unnamed", "g_h", "g.h"])
odd_takes = st.sampled_from(['{"x":1}', "", "{}", '{"x":', "{x:1}", '{"x":NaN}', "[1]", '"x"'])
parts = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["hello", "", " \n", "字"])),
        st.tuples(odd_ids, odd_names, odd_takes),
    ),
    max_size=4,
)


# -- what endpoints send -------------------------------------------------------------------------


def whole_chat(said: list[Part], answer_id: str | None) -> bytes:
    words = [part[0] for part in said if len(part) == 1]
    calls = [
        {"id": part[0], "type": "function", "function": {"name": part[1], "arguments": part[2]}}
        for part in said
        if len(part) == 3
    ]
    message = {"role": "assistant", "content": "".join(words) or None, "tool_calls": calls or None}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}
    return json.dumps({"id": answer_id, "model": "m", "choices": [choice]}).encode()


def chunks(said: list[Part], answer_id: str | None) -> Iterator[bytes]:
    n_calls = 0
    for part in said:
        delta: Any = {"content": part[0]}
        if len(part) == 3:
            function = {"name": part[1], "arguments": part[2]}
            call = {"index": n_calls, "id": part[0], "type": "function", "function": function}
            delta, n_calls = {"tool_calls": [call]}, n_calls + 1
        yield _chunk(answer_id, delta)
    yield _chunk(answer_id, {"content": ""}, "tool_calls" if n_calls else "stop")
    yield b"data: [DONE]\n\n"


def _chunk(answer_id: str | None, delta: Any, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    said = {"id": answer_id, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(said).encode() + b"\n\n"


def whole_message(said: list[Part], answer_id: str | None) -> bytes:
    blocks = [_block(part, taken(part[2])) if len(part) == 3 else _block(part) for part in said]
    reason = "tool_use" if any(len(part) == 3 for part in said) else "end_turn"
    answer = {"id": answer_id, "type": "message", "role": "assistant", "model": "m"}
    return json.dumps(answer | {"content": blocks, "stop_reason": reason}).encode()


def taken(arguments: str) -> Any:
    """What Messages calls a tool with: an object in any case."""
    try:
        found = json.loads(arguments.replace("NaN", "null"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _block(part: Part, takes: Any = None) -> dict[str, Any]:
    if len(part) == 1:
        return {"type": "text", "text": part[0]}
    return {"type": "tool_use", "id": part[0], "name": part[1], "input": takes or {}}


def events(said: list[Part], answer_id: str | None) -> Iterator[bytes]:
    message = {"id": answer_id, "type": "message", "role": "assistant", "model": "m", "content": []}
    yield _event({"type": "message_start", "message": message})
    for index, part in enumerate(said):
        begin = _block(part) if len(part) == 3 else _block(("",))
        yield _event({"type": "content_block_start", "index": index, "content_block": begin})
        delta = {"type": "text_delta", "text": part[0]}
        if len(part) == 3:
            delta = {"type": "input_json_delta", "partial_json": part[2]}
        yield _event({"type": "content_block_delta", "index": index, "delta": delta})
        yield _event({"type": "content_block_stop", "index": index})
    reason = "tool_use" if any(len(part) == 3 for part in said) else "end_turn"
    yield _event({"type": "message_delta", "delta": {"stop_reason": reason}})
    yield _event({"type": "message_stop"})


def _event(said: dict[str, Any]) -> bytes:
    return f"event: {said['type']}\ndata: {json.dumps(said)}\n\n".encode()


# -- clients, which send on what they have -------------------------------------------------------


class Endpoint:
    """Answers every call alike, by way of a translation, and keeps what it was asked."""

    def __init__(self, caller: str, speaks: str, said: list[Part], answer_id: str | None) -> None:
        self.caller, self.speaks = Dialect(caller), Dialect(speaks)
        self.said, self.answer_id = said, answer_id
        self.asked: list[Prompt] = []
        self.http = httpx2.Client(transport=httpx2.MockTransport(self._answer))

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        prompt = read(self.caller, request.content)
        write(prompt, self.speaks, OPEN)
        self.asked.append(prompt)
        how: dict[str, Any] = {"speaks": self.speaks, "to": self.caller, "asked": prompt}
        how |= {"echo": {}, "created": CREATED}
        is_chat = self.speaks is Dialect.CHAT
        if prompt.streamed:
            stream = translated_stream(**how, shows_usage=False)
            sent = (chunks if is_chat else events)(self.said, self.answer_id)
            told = b"".join(stream.feed(each) for each in sent) + stream.flush()
            return httpx2.Response(200, content=told, headers={"content-type": "text/event-stream"})
        sends = whole_chat if is_chat else whole_message
        body = translated_answer(sends(self.said, self.answer_id), **how)
        return httpx2.Response(200, content=body, headers={"content-type": "application/json"})


def talk_messages(endpoint: Endpoint, *, streamed: bool) -> None:
    client = anthropic.Anthropic(api_key="k", http_client=endpoint.http, max_retries=0)
    tool: Any = {"name": "f", "input_schema": {"type": "object"}}
    messages: list[Any] = [{"role": "user", "content": "hi"}]
    for _ in range(N_TURNS):
        ask: Any = {"model": "auto", "max_tokens": 9, "messages": messages, "tools": [tool]}
        if streamed:
            with client.messages.stream(**ask) as stream:
                heard: Any = stream.get_final_message()
        else:
            heard = client.messages.create(**ask)
        results = [
            {"type": "tool_result", "tool_use_id": block.id, "content": "no"}
            for block in heard.content
            if block.type == "tool_use"
        ]
        messages += [{"role": "assistant", "content": heard.content}]
        messages += [{"role": "user", "content": [*results, {"type": "text", "text": "go on"}]}]


def talk_chat(endpoint: Endpoint, *, streamed: bool) -> None:
    client = openai.OpenAI(api_key="k", http_client=endpoint.http, max_retries=0)
    tool: Any = {"type": "function", "function": {"name": "f"}}
    messages: list[Any] = [{"role": "user", "content": "hi"}]
    for _ in range(N_TURNS):
        ask: Any = {"model": "auto", "messages": messages, "tools": [tool]}
        if streamed:
            with client.chat.completions.stream(**ask) as stream:
                heard: Any = stream.get_final_completion()
        else:
            heard = client.chat.completions.create(**ask)
        message = heard.choices[0].message
        messages.append(message)
        for call in message.tool_calls or ():
            messages.append({"role": "tool", "tool_call_id": call.id, "content": "no"})
        messages.append({"role": "user", "content": "go on"})


def talk_responses(endpoint: Endpoint, *, streamed: bool) -> None:
    client = openai.OpenAI(api_key="k", http_client=endpoint.http, max_retries=0)
    tool: Any = {"type": "function", "name": "f", "parameters": {}, "strict": False}
    items: list[Any] = [{"role": "user", "content": "hi"}]
    for _ in range(N_TURNS):
        ask: Any = {"model": "auto", "input": items, "tools": [tool], "store": False}
        if streamed:
            with client.responses.stream(**ask) as stream:
                heard: Any = stream.get_final_response()
        else:
            heard = client.responses.create(**ask)
        items += heard.output
        for item in heard.output:
            if item.type == "function_call":
                result = {"type": "function_call_output", "call_id": item.call_id}
                items.append(result | {"output": "no"})
        items.append({"role": "user", "content": "go on"})


TALKS = {"messages": talk_messages, "chat": talk_chat, "responses": talk_responses}


@EVERY_WAY
@settings(max_examples=25, deadline=None)
@given(parts, st.sampled_from([None, "x", "chatcmpl-" + "a" * 40, "é.1"]))
@example([("a", "f", '{"x":1}'), ("and so",)], "x")
@example([("so",), ("a", "f", "{}"), ("and so",)], "x")
@example([("functions.f:0", "f", "{}"), ("call_0", "f.g h", '{"x":')], "x")
@example([], "x")
@example([(" \n",)], None)
def test_what_a_translation_hands_out_it_takes_back(
    caller: str, speaks: str, streamed: bool, said: list[Part], answer_id: str | None
) -> None:
    endpoint = Endpoint(caller, speaks, said, answer_id)

    TALKS[caller](endpoint, streamed=streamed)

    *_, last = endpoint.asked
    write(last, endpoint.speaks, OPEN)
    spoken = [part for turn in last.turns for part in turn.parts]
    ids = [part.id for part in spoken if isinstance(part, ToolUse)]
    assert len(endpoint.asked) == N_TURNS
    assert len(set(ids)) == len(ids)
    if "messages" in (caller, speaks):
        assert all(NAME.fullmatch(each) for each in ids)
