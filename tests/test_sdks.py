"""The SDKs of OpenAI and Anthropic over two endpoints: their own loops, helpers and async forms."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from agents import DIALECTS, WORD, agent_at_work, booked_tokens, hosts, told_tokens
from anthropic import beta_tool
from conftest import LEARN, ROUTED, Provider, Reply, Seen, Sidecar, endpoint, serving
from pydantic import BaseModel

from scripts.kits.agent import NOTES
from scripts.kits.agent_provider import AgentProvider
from scripts.kits.sdk_calls import SDK_CALLS, SDKClients
from telemetry.store import Address

ASK: Any = [{"role": "user", "content": "look, then read the notes"}]
SCHEMA: Any = {"type": "object", "properties": {"file": {"type": "string"}}, "required": ["file"]}
FUNCTIONS: Any = [
    {"type": "function", "name": name, "parameters": SCHEMA, "strict": False}
    for name in ("look", "read")
]
TOOLS: Any = [
    {"type": "function", "function": {"name": f["name"], "parameters": SCHEMA}} for f in FUNCTIONS
]
VECTOR = [0.25, -0.5, 1.0]


class Forecast(BaseModel):
    city: str
    days: int


FORECAST = Forecast(city=NOTES, days=3)
At = tuple[Sidecar, AgentProvider]


@pytest.fixture
def at_work(state_dir: Path, address: Address) -> Iterator[At]:
    with agent_at_work(state_dir, address) as found:
        yield found


def gpt(sidecar: Sidecar) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{sidecar.url}/v1", api_key="k", max_retries=0)


def agpt(sidecar: Sidecar) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{sidecar.url}/v1", api_key="k", max_retries=0)


# -- loops with tools ----------------------------------------------------------------------------


def test_a_loop_of_streamed_chats_ends_with_what_the_tools_said(at_work: At) -> None:
    sidecar, provider = at_work
    turns = list(ASK)
    with gpt(sidecar) as client:
        while True:
            with client.chat.completions.stream(model="auto", messages=turns, tools=TOOLS) as found:
                message = found.get_final_completion().choices[0].message
            turns.append(message.to_dict())
            if not message.tool_calls:
                break
            (call,) = message.tool_calls
            assert json.loads(call.function.arguments) == {"file": NOTES}
            turns.append({"role": "tool", "tool_call_id": call.id, "content": WORD})

    (host,) = hosts(provider)
    assert message.content == f"{host} read {WORD} after 2 turns"


def test_a_loop_of_streamed_responses_ends_with_what_the_tools_said(at_work: At) -> None:
    sidecar, provider = at_work
    turns = list(ASK)
    with gpt(sidecar) as client:
        while True:
            how: Any = {"model": "auto", "input": turns, "tools": FUNCTIONS, "store": False}
            with client.responses.stream(**how) as found:
                response = found.get_final_response()
            turns += [item.to_dict() for item in response.output]
            call = response.output[-1]
            if call.type != "function_call":
                break
            result = {"type": "function_call_output", "call_id": call.call_id, "output": WORD}
            turns.append(result)

    (host,) = hosts(provider)
    assert response.output_text == f"{host} read {WORD} after 2 turns"


def own_loop(
    sidecar: Sidecar, *, streamed: bool, between: Callable[[], None] = lambda: None, **more: Any
) -> Any:
    """Let Anthropic's SDK call tools until there is an answer; `between` runs with the first."""

    @beta_tool
    def look(folder: str) -> str:
        """List a folder."""
        between()
        return NOTES

    @beta_tool
    def read(file: str) -> str:
        """Read a file."""
        return WORD

    with anthropic.Anthropic(base_url=sidecar.url, api_key="k", max_retries=0) as client:
        how: Any = {"model": "claude-auto", "max_tokens": 2000, "messages": ASK, **more}
        how |= {"thinking": {"type": "enabled", "budget_tokens": 1024}, "tools": [look, read]}
        if not streamed:
            return client.beta.messages.tool_runner(**how).until_done()
        streams = client.beta.messages.tool_runner(**how, stream=True)
        return [stream.get_final_message() for stream in streams][-1]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("more", [{}, {"thread": False}], ids=["thread", "history"])
def test_anthropics_own_loop_runs_to_its_end_and_is_booked_to_the_token(
    more: Any, streamed: bool, at_work: At, address: Address
) -> None:
    sidecar, provider = at_work

    last = own_loop(sidecar, streamed=streamed, **more)

    (host,) = hosts(provider)
    assert len(provider.calls) == 3
    assert last.content[0].type == "thinking"
    assert last.content[-1].text == f"{host} read {WORD} after 2 turns"
    sidecar.until(lambda: booked_tokens(sidecar, address) == told_tokens(provider))


def test_a_thread_that_its_endpoint_has_lost_is_begun_again_and_rests_nobody(at_work: At) -> None:
    sidecar, provider = at_work

    last = own_loop(sidecar, streamed=False, between=provider.forget)

    assert WORD in last.content[-1].text
    begun = [call for call in provider.calls if call.body["thread"] == {"type": "create"}]
    assert len(begun) == 2
    assert len(begun[1].body["messages"]) == 3  # all of it once more
    states = sidecar.http.get("/v1/router/endpoints").json()["endpoints"]
    assert {state["state"] for state in states} == {"closed"}


@pytest.mark.parametrize("call", SDK_CALLS)
def test_an_answer_is_to_the_sdk_what_it_is_directly(call: str, at_work: At) -> None:
    sidecar, provider = at_work
    with SDKClients(sidecar.url, "auto") as through:
        host, answer = through.ask(call, session="s")
    answers = [found.number for found in (c.answer for c in provider.calls) if found]
    with SDKClients(provider.url(host), "auto") as direct:
        _, straight = direct.ask(call)

    told = json.dumps(answer)
    for number in answers:  # each answer has its own number
        told = told.replace(f"{host}_{number}", f"{host}_{number + len(answers)}")
        told = told.replace(f"{host}-{number}", f"{host}-{number + len(answers)}")
    counts = ("prompt_tokens", "input_tokens", "total_tokens")  # of a prompt with another name
    assert _without(json.loads(told), counts) == _without(straight, counts)


def _without(value: Any, names: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {k: _without(v, names) for k, v in value.items() if k not in names}
    return [_without(each, names) for each in value] if isinstance(value, list) else value


# -- typed output, async -------------------------------------------------------------------------


def test_typed_output_is_parsed_whole_and_streamed(at_work: At) -> None:
    how: Any = {"model": "auto", "messages": ASK, "response_format": Forecast}
    with gpt(at_work[0]) as client:
        whole = client.chat.completions.parse(**how)
        with client.chat.completions.stream(**how) as stream:
            streamed = stream.get_final_completion()

    assert whole.choices[0].message.parsed == FORECAST
    assert streamed.choices[0].message.parsed == FORECAST


def test_the_asynchronous_forms_stream_parse_and_call_tools_at_once(at_work: At) -> None:
    async def all_at_once() -> list[Any]:
        claude = anthropic.AsyncAnthropic(base_url=at_work[0].url, api_key="k", max_retries=0)
        async with agpt(at_work[0]) as client, claude:
            return await asyncio.gather(_chat(client), _responses(client), _messages(claude))

    async def _chat(client: openai.AsyncOpenAI) -> Any:
        how: Any = {"model": "auto", "messages": ASK, "tools": TOOLS}
        async with client.chat.completions.stream(**how) as stream:
            found = await stream.get_final_completion()
        return found.choices[0].message.tool_calls[0].function.name

    async def _responses(client: openai.AsyncOpenAI) -> Any:
        how: Any = {"model": "auto", "input": ASK, "text_format": Forecast}
        return (await client.responses.parse(**how)).output_parsed

    async def _messages(client: anthropic.AsyncAnthropic) -> Any:
        tools = [{"name": "look", "input_schema": SCHEMA}]
        how: Any = {"model": "auto", "messages": ASK, "tools": tools, "max_tokens": 10}
        async with client.messages.stream(**how) as stream:
            return (await stream.get_final_message()).content[-1].input

    assert asyncio.run(all_at_once()) == ["look", FORECAST, {"file": NOTES}]
    assert sorted(call.dialect for call in at_work[1].calls) == DIALECTS


# -- vectors -------------------------------------------------------------------------------------


def vectors(call: Seen) -> Reply:
    """Base64, as the SDK asks for unless it is told otherwise; else numbers."""
    packed = base64.b64encode(struct.pack("<3f", *VECTOR)).decode()
    vector: Any = packed if call.json.get("encoding_format") == "base64" else VECTOR
    data = [{"object": "embedding", "index": 0, "embedding": vector}]
    usage = {"prompt_tokens": 3, "total_tokens": 3}
    answer = {"object": "list", "data": data, "model": call.json["model"], "usage": usage}
    return Reply(body=json.dumps(answer).encode())


def test_vectors_come_as_the_sdk_asks_for_them_by_itself(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    hosts_of_one: Any = {"model": "small", "dialects": ["embeddings"]}
    value = {
        "endpoints": [endpoint(provider, name, **hosts_of_one) for name in "ab"],
        "strategies": LEARN,
        "apps": ROUTED,
    }
    for name in "ab":
        provider.on(name, vectors)

    async def ask(sidecar: Sidecar) -> list[float]:
        async with agpt(sidecar) as client:
            found = await client.embeddings.create(model="auto", input=["hi"], dimensions=3)
        return found.data[0].embedding

    with serving(value, state_dir, address) as sidecar:
        with gpt(sidecar) as client:
            whole = client.embeddings.create(model="auto", input="hi")
        streamed = asyncio.run(ask(sidecar))

    assert whole.data[0].embedding == streamed == VECTOR
    assert {call.json["encoding_format"] for call in provider.calls} == {"base64"}
