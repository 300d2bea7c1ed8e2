"""The SDKs of OpenAI and Anthropic, unchanged, at endpoints that do not speak their dialect."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import httpx2
import numpy as np
import openai
import pytest
import yaml
from conftest import SHARDS, Provider, Reply, Seen, Sidecar, endpoint, serving
from dialects import ARGUMENTS, PERSON, SAID, message_error, speak
from pydantic import BaseModel

from router.config.compiled import compile_text
from router.config.entries import GENERAL
from router.dialects.prompt_size import size_of
from router.endpoints.entries import Dialect
from router.errors import ConfigError
from router.policy.route import incumbent_of, rivals_of
from router.policy.standing import PolicyTable
from telemetry import decoding, frames, keys
from telemetry.events import Flag, Result
from telemetry.store import Address, connect

HTTP = httpx2.Client(trust_env=False, verify=False)
ASK = [{"role": "user", "content": "hi"}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
    "additionalProperties": False,
}
OF_ANTHROPIC = [{"name": "weather", "description": "d", "input_schema": SCHEMA}]
OF_CHAT = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
OF_RESPONSES = [{"type": "function", "name": "weather", "parameters": SCHEMA, "strict": True}]
SEARCH = {"type": "web_search"}
USED = {"prompt_tokens": 45, "completion_tokens": 6, "total_tokens": 51}
CACHED = {"prompt_tokens_details": {"cached_tokens": 30}}


@pytest.fixture(scope="module", autouse=True)
def _closed_at_the_end() -> Iterator[None]:
    yield
    HTTP.close()


class Person(BaseModel):
    name: str
    age: int


def chat(call: Seen) -> Reply:
    """Answer a call of Chat Completions: with a tool's call where one is offered, else words."""
    wanted = call.json
    has_result = any(m["role"] == "tool" for m in wanted["messages"])
    text = json.dumps(PERSON) if wanted.get("response_format") else SAID
    said: dict[str, Any] = {"role": "assistant", "content": text}
    if wanted.get("tools") and not has_result:
        function = {"name": "weather", "arguments": json.dumps(ARGUMENTS)}
        said["tool_calls"] = [{"id": "call_1", "type": "function", "function": function}]
    reason = "tool_calls" if "tool_calls" in said else "stop"
    usage = USED | CACHED
    if not wanted.get("stream"):
        choice = {"index": 0, "message": said, "finish_reason": reason}
        body = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m"}
        return Reply(body=json.dumps(body | {"choices": [choice], "usage": usage}).encode())
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": piece} for piece in (text[:5], text[5:])]
    for tool in said.get("tool_calls", ()):
        begin = {**tool, "index": 0, "function": {**tool["function"], "arguments": ""}}
        deltas.append({"tool_calls": [begin]})
        arguments = tool["function"]["arguments"]
        pieces = (arguments[:9], arguments[9:])
        deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": p}}]} for p in pieces]
    return Reply(chunks=[*_chunks(deltas, reason, usage), b"data: [DONE]\n\n"])


def _chunks(deltas: list[dict[str, Any]], reason: str, usage: dict[str, Any]) -> list[bytes]:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    choices = [[{"index": 0, "delta": d, "finish_reason": None}] for d in deltas]
    choices.append([{"index": 0, "delta": {}, "finish_reason": reason}])
    said = [head | {"choices": c} for c in choices] + [head | {"choices": [], "usage": usage}]
    return [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in said]


def anthropics(call: Seen) -> Reply:
    """Answer a call of Messages, and nothing else."""
    assert call.path.partition("?")[0].endswith("/messages")
    return speak(call)


@pytest.fixture
def sidecar(provider: Provider, state_dir: Path, address: Address) -> Iterator[Sidecar]:
    """Two endpoints, each of which takes the other's dialect, and Responses, in translation."""
    provider.on("c", chat)
    provider.on("m", anthropics)
    with serving(configuration(provider), state_dir, address) as found:
        yield found


def configuration(provider: Provider, **more: Any) -> dict[str, Any]:
    drop = ["web_search", "store"]
    of_chat = {"from": ["messages", "responses"], "drop": drop}
    of_messages = {"from": ["chat", "responses"], "drop": drop}
    models = {"gpt": {"output_tokens": 4000}, "claude": {"output_tokens": 4000}}
    models["gpt"]["reasoning"] = "effort"
    models["claude"]["reasoning"] = "adaptive"
    return {
        "models": models,
        "endpoints": [
            endpoint(provider, "c", model="gpt", dialects=["chat"], translate=of_chat),
            endpoint(provider, "m", model="claude", dialects=["messages"], translate=of_messages),
        ],
        "strategies": {"learn": {"objective": "quality", "incumbent": "none"}},
        "apps": {"default": {"mode": "route", "strategy": "learn"}},
        **more,
    }


def claude(sidecar: Sidecar) -> anthropic.Anthropic:
    return anthropic.Anthropic(
        base_url=sidecar.url, http_client=HTTP, max_retries=0, api_key="sk-own"
    )


def gpt(sidecar: Sidecar) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=sidecar.url + "/v1", http_client=HTTP, max_retries=0, api_key="sk-own"
    )


def records(address: Address) -> np.ndarray:
    """All records in the streams; nobody reads them here."""
    client, found = connect(address), [decoding.decode(b"")[0]]
    for shard in range(SHARDS):
        for _, entry in client.xrange(keys.stream(shard)):
            found.append(decoding.decode(frames.unpack(entry[b"f"]).body)[0])
    client.close()
    return np.concatenate(found)


# -- Anthropic's SDK at an endpoint of Chat Completions --------------------------------------------


def test_anthropics_sdk_is_served_by_an_endpoint_of_chat(
    sidecar: Sidecar, provider: Provider
) -> None:
    got = claude(sidecar).messages.with_raw_response.create(
        model="c", max_tokens=100, messages=ASK, system="Be brief.", metadata={"user_id": "u"}
    )

    said = got.parse()
    assert said.content[0].text == SAID
    assert (said.stop_reason, said.id) == ("end_turn", "chatcmpl-1")
    assert (said.usage.input_tokens, said.usage.cache_read_input_tokens) == (15, 30)
    assert got.headers["x-router-translated"] == "messages to chat"
    assert got.headers["x-router-left-out"] == "metadata"
    (call,) = provider.calls
    assert call.json["messages"][0] == {"role": "system", "content": "Be brief."}
    assert "anthropic-version" not in call.headers


def test_a_stream_of_chat_is_a_stream_of_messages_to_anthropics_sdk(sidecar: Sidecar) -> None:
    with claude(sidecar).messages.stream(model="c", max_tokens=100, messages=ASK) as stream:
        text = list(stream.text_stream)
        last = stream.get_final_message()

    assert text == ["hello", " there"]
    assert (last.stop_reason, last.usage.output_tokens) == ("end_turn", 6)


@pytest.mark.parametrize("streamed", [False, True])
def test_two_turns_with_a_tool_work_in_anthropics_sdk(
    streamed: bool, sidecar: Sidecar, provider: Provider
) -> None:
    client = claude(sidecar)
    wants = {"model": "c", "max_tokens": 100, "tools": OF_ANTHROPIC}

    def ask(turns: list[dict[str, Any]]) -> anthropic.types.Message:
        if not streamed:
            return client.messages.create(**wants, messages=turns)
        with client.messages.stream(**wants, messages=turns) as stream:
            return stream.get_final_message()

    first = ask(ASK)
    call = first.content[-1]
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "20 degrees"}
    said = [b.to_dict() for b in first.content]
    turns = [*ASK, {"role": "assistant", "content": said}, {"role": "user", "content": [result]}]
    second = ask(turns)

    assert (call.name, call.input, first.stop_reason) == ("weather", ARGUMENTS, "tool_use")
    assert second.content[-1].text == SAID
    told = provider.calls[1].json["messages"]
    assert [m["role"] for m in told] == ["user", "assistant", "tool"]
    assert json.loads(told[1]["tool_calls"][0]["function"]["arguments"]) == ARGUMENTS
    assert told[2] == {"role": "tool", "tool_call_id": call.id, "content": "20 degrees"}


def test_structured_output_of_messages_comes_from_chat(sidecar: Sidecar) -> None:
    got = claude(sidecar).messages.parse(
        model="c", max_tokens=100, messages=ASK, output_format=Person
    )

    assert got.parsed_output == Person(**PERSON)


def test_tokens_are_estimated_where_the_endpoint_counts_none(sidecar: Sidecar) -> None:
    text = "many words " * 100
    ask = [{"role": "user", "content": text}]
    got = claude(sidecar).messages.with_raw_response.count_tokens(model="c", messages=ask)

    assert 200 < got.parse().input_tokens < 500
    assert got.headers["x-router-warning"].startswith("estimated")


def test_pictures_and_documents_count_in_an_estimate_by_what_they_may_take(
    sidecar: Sidecar,
) -> None:
    def count(*parts: Any) -> int:
        said = [{"type": "text", "text": "many words " * 100}, *parts]
        body = {"model": "c", "messages": [{"role": "user", "content": said}]}
        got = sidecar.http.post("/v1/messages/count_tokens", json=body)
        return int(got.json()["input_tokens"])

    def held(kind: str, media_type: str, size: int) -> dict[str, Any]:
        data = base64.b64encode(bytes(size)).decode()
        source = {"type": "base64", "media_type": media_type, "data": data}
        return {"type": kind, "source": source}

    picture = held("image", "image/png", 300_000)
    linked = {"type": "image", "source": {"type": "url", "url": "https://x.example/y.png"}}
    result = {
        "messages": [{"role": "user", "content": [{"type": "tool_result", "content": [linked]}]}]
    }
    plain = count()

    assert 1600 <= count(picture) - plain < 1700
    assert 3200 <= count(picture, linked) - plain < 3300
    assert size_of(json.dumps(result).encode()).media_tokens == 1600
    assert 3000 <= count(held("document", "application/pdf", 2000)) - plain < 3100
    assert 21_000 <= count(held("document", "application/pdf", 100_000)) - plain < 21_100
    assert 300_000 <= count(held("document", "application/pdf", 5 << 20)) - plain < 300_100


# -- OpenAI's SDK at an endpoint of Messages -------------------------------------------------------


def test_openais_sdk_is_served_by_an_endpoint_of_messages(
    sidecar: Sidecar, provider: Provider
) -> None:
    got = gpt(sidecar).chat.completions.with_raw_response.create(model="m", messages=ASK)

    said = got.parse()
    assert said.choices[0].message.content == SAID
    assert (said.choices[0].finish_reason, said.id) == ("stop", "msg_1")
    assert said.usage.prompt_tokens == 45
    assert got.headers["x-router-translated"] == "chat to messages"
    (call,) = provider.calls
    assert call.json["max_tokens"] == 4000
    assert call.headers["anthropic-version"] == "2023-06-01"


def test_a_stream_of_messages_is_a_stream_of_chat_to_openais_sdk(sidecar: Sidecar) -> None:
    stream = gpt(sidecar).chat.completions.create(
        model="m", messages=ASK, stream=True, stream_options={"include_usage": True}
    )
    got = list(stream)

    assert "".join(c.choices[0].delta.content or "" for c in got if c.choices) == SAID
    assert got[-1].usage.completion_tokens == 6
    assert len({chunk.id for chunk in got}) == 1


def test_two_turns_with_a_tool_work_in_openais_sdk(sidecar: Sidecar, provider: Provider) -> None:
    client = gpt(sidecar)
    first = client.chat.completions.create(model="m", messages=ASK, tools=OF_CHAT)
    said = first.choices[0].message
    (call,) = said.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": "20 degrees"}
    turns = [*ASK, said.to_dict(), result]
    second = client.chat.completions.create(model="m", messages=turns, tools=OF_CHAT)

    assert json.loads(call.function.arguments) == ARGUMENTS
    assert first.choices[0].finish_reason == "tool_calls"
    assert second.choices[0].message.content == SAID
    told = provider.calls[1].json["messages"]
    assert told[1]["content"][-1]["input"] == ARGUMENTS
    assert told[2]["content"][0]["tool_use_id"] == call.id


# -- Responses at both -----------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["c", "m"])
def test_responses_are_served_by_endpoints_of_either_dialect(model: str, sidecar: Sidecar) -> None:
    client = gpt(sidecar)
    whole = client.responses.create(model=model, input="hi", store=False)
    with client.responses.stream(model=model, input="hi", store=False) as stream:
        streamed = stream.get_final_response()

    assert (whole.output_text, streamed.output_text) == (SAID, SAID)
    assert whole.status == streamed.status == "completed"
    assert whole.usage.input_tokens == streamed.usage.input_tokens == 45


@pytest.mark.parametrize("model", ["c", "m"])
def test_two_turns_with_a_tool_work_in_responses(model: str, sidecar: Sidecar) -> None:
    client = gpt(sidecar)
    wants = {"model": model, "tools": OF_RESPONSES, "store": False}
    turns: list[Any] = [*ASK]
    with client.responses.stream(**wants, input=turns) as stream:
        first = stream.get_final_response()
    (call,) = [item for item in first.output if item.type == "function_call"]
    turns += first.output
    turns.append({"type": "function_call_output", "call_id": call.call_id, "output": "20"})
    second = client.responses.create(**wants, input=turns)

    assert json.loads(call.arguments) == ARGUMENTS
    assert second.output_text == SAID


def test_a_response_that_was_to_be_kept_is_not_there_later(sidecar: Sidecar) -> None:
    client = gpt(sidecar)
    got = client.responses.with_raw_response.create(model="c", input="hi", tools=[SEARCH])

    assert got.headers["x-router-left-out"] == "store, tools.web_search"
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(got.parse().id)


@pytest.mark.parametrize(("model", "is_translated"), [("c", True), ("m", False)])
def test_the_books_say_what_was_translated_and_what_it_took(
    model: str, is_translated: bool, sidecar: Sidecar, address: Address
) -> None:
    claude(sidecar).messages.create(model=model, max_tokens=100, messages=ASK)
    sidecar.until(lambda: sidecar.app.writer.counters.sent == 1)

    (found,) = records(address)
    booked = [int(found[f"tokens_{name}"]) for name in ("in", "cached", "out")]
    assert booked == [45, 30, 6]
    assert bool(found["flags"] & Flag.TRANSLATED) is is_translated


# -- What cannot be said ---------------------------------------------------------------------------


def test_what_cannot_be_said_goes_to_who_speaks_the_dialect(
    sidecar: Sidecar, provider: Provider
) -> None:
    for _ in range(10):
        claude(sidecar).messages.create(
            model="auto", max_tokens=9, messages=ASK, extra_body={"top_k": 5}
        )

    assert {call.host for call in provider.calls} == {"m"}


def test_what_nobody_can_be_told_is_refused_with_the_field(sidecar: Sidecar) -> None:
    with pytest.raises(openai.ConflictError) as refused:
        gpt(sidecar).responses.create(
            model="auto", input="hi", store=False, tools=[{"type": "code_interpreter"}]
        )

    assert set(refused.value.body["exclusions"]) == {"c", "m"}
    for reason in refused.value.body["exclusions"].values():
        assert reason.startswith("translation: tools: code_interpreter")


def test_a_dry_run_and_an_explanation_name_what_is_left_out(sidecar: Sidecar) -> None:
    body = {"model": "c", "max_tokens": 9, "messages": ASK, "metadata": {"user_id": "u"}}
    said = {"anthropic-version": "2023-06-01"}
    dry = sidecar.http.post("/v1/router/decide", json=body, headers=said)
    sent = sidecar.http.post("/v1/messages", json=body, headers=said)
    decision_id = sent.headers["x-router-decision-id"]
    kept = sidecar.http.get(f"/v1/router/decisions/{decision_id}")

    for shown in (dry.json(), kept.json()):
        assert (shown["translated"], shown["left_out"]) == ("messages to chat", ["metadata"])


def test_a_body_nested_as_deep_as_may_be_is_answered_or_refused(sidecar: Sidecar) -> None:
    statuses = set()
    for depth in range(100, 1000, 25):
        schema = b'{"a":' * depth + b"{}" + b"}" * depth
        tool = b'{"name":"t","input_schema":{"type":"object","properties":%b}}' % schema
        head = b'{"model":"c","max_tokens":9,"messages":[{"role":"user","content":"hi"}]'
        got = sidecar.http.post("/v1/messages", content=head + b',"tools":[%b]}' % tool)
        statuses.add(got.status_code)

    assert statuses <= {200, 400, 409}
    assert 200 in statuses


# -- Failures --------------------------------------------------------------------------------------


def refusal(status: int, message: str, **headers: str) -> Reply:
    error = {"message": message, "type": "requests", "param": None, "code": "rate_limit_exceeded"}
    return Reply(status=status, body=json.dumps({"error": error}).encode(), headers=headers)


def test_a_refusal_of_chat_is_an_error_of_anthropics_sdk(
    sidecar: Sidecar, provider: Provider
) -> None:
    provider.on("c", refusal(429, "slow down", **{"retry-after": "7"}))

    with pytest.raises(anthropic.RateLimitError) as refused:
        claude(sidecar).messages.create(model="c", max_tokens=9, messages=ASK)

    assert refused.value.body["error"]["type"] == "rate_limit_error"
    assert refused.value.body["error"]["message"] == "slow down"
    assert refused.value.response.headers["retry-after"] == "7"


def test_a_refusal_of_messages_is_an_error_of_openais_sdk(
    sidecar: Sidecar, provider: Provider
) -> None:
    provider.on("m", message_error("invalid_request_error", 400))

    with pytest.raises(openai.BadRequestError) as refused:
        gpt(sidecar).chat.completions.create(model="m", messages=ASK)

    assert refused.value.body["message"] == "no"
    assert refused.value.code == "invalid_request_error"


def broken(call: Seen) -> Reply:
    whole = chat(call)
    return Reply(chunks=(whole.chunks or [])[:3], cut=True)


def test_a_stream_of_chat_that_is_cut_has_no_end_in_messages(
    sidecar: Sidecar, provider: Provider
) -> None:
    provider.on("c", broken)
    body = {"model": "c", "max_tokens": 9, "messages": ASK, "stream": True}

    got = sidecar.http.post("/v1/messages", json=body).text

    assert "hello" in got
    assert "message_stop" not in got
    assert 'stop_reason": "end_turn' not in got
    assert "event: error" in got


def test_an_error_inside_a_stream_of_chat_is_told_in_messages(
    sidecar: Sidecar, provider: Provider
) -> None:
    event = b'data: {"error": {"message": "it broke", "code": 500}}\n\n'
    provider.on("c", lambda call: Reply(chunks=[*(chat(call).chunks or [])[:3], event]))

    with (
        pytest.raises(anthropic.APIStatusError, match="it broke"),
        claude(sidecar).messages.stream(model="c", max_tokens=9, messages=ASK) as stream,
    ):
        stream.get_final_message()


def test_who_fails_is_followed_by_who_translates(sidecar: Sidecar, provider: Provider) -> None:
    provider.on("m", Reply(status=500, body=b"{}"))
    for _ in range(4):
        got = claude(sidecar).messages.create(model="auto", max_tokens=9, messages=ASK)
        assert got.content[0].text == SAID


def test_an_answer_that_cannot_be_read_is_no_answer(sidecar: Sidecar, provider: Provider) -> None:
    provider.on("c", Reply(body=b'{"nothing": "of a completion"}'))

    with pytest.raises(anthropic.InternalServerError):
        claude(sidecar).messages.create(model="c", max_tokens=9, messages=ASK)


IN_CHOICE = {"choices": [{"finish_reason": "error", "error": {"code": 429, "message": "quota"}}]}
OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "quota"}}


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({"error": {"message": "quota exceeded for org"}}, 502),
        ({"error": "quota"}, 502),
        ([{"error": {"message": "quota", "code": 503}}], 503),
        ({"error": {"message": "quota", "type": "insufficient_quota"}, "choices": []}, 429),
        (IN_CHOICE, 429),
        ({"object": "error", "message": "quota", "code": 400}, 400),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_of_chat_in_the_place_of_an_answer_reaches_anthropics_sdk(
    sidecar: Sidecar, provider: Provider, said: Any, status: int, stream: bool
) -> None:
    provider.on("c", Reply(body=json.dumps(said).encode()))

    with pytest.raises(anthropic.APIStatusError, match="quota") as refused:
        claude(sidecar).messages.create(model="c", max_tokens=9, messages=ASK, stream=stream)

    assert refused.value.status_code == status
    assert refused.value.body["type"] == "error"


@pytest.mark.parametrize(
    ("said", "status"), [(OVERLOADED, 529), ({"error": {"message": "quota"}}, 502)]
)
def test_an_error_of_messages_in_the_place_of_an_answer_reaches_openais_sdk(
    sidecar: Sidecar, provider: Provider, said: Any, status: int
) -> None:
    provider.on("m", Reply(body=json.dumps(said).encode()))

    with pytest.raises(openai.APIStatusError, match="quota") as of_chat:
        gpt(sidecar).chat.completions.create(model="m", messages=ASK)
    with pytest.raises(openai.APIStatusError, match="quota") as of_responses:
        gpt(sidecar).responses.create(model="m", input="hi")

    assert of_chat.value.status_code == of_responses.value.status_code == status


def test_who_answers_with_an_error_is_followed_by_another(
    sidecar: Sidecar, provider: Provider
) -> None:
    provider.on("c", Reply(body=b'{"error": {"message": "quota"}}'))
    for _ in range(4):
        got = claude(sidecar).messages.create(model="auto", max_tokens=9, messages=ASK)
        assert got.content[0].text == SAID


def late(call: Seen, pause_s: float = 0.4) -> Reply:
    """An answer behind signs of life, and in two pieces."""
    said = (chat if call.host == "c" else anthropics)(call).body
    pieces = [*[b" "] * 4, said[:40], said[40:]]
    kind = {"content-type": "application/json"}
    return Reply(chunks=pieces, chunk_delay_s=pause_s, headers=kind)


@pytest.mark.parametrize(
    ("model", "path", "more"),
    [
        ("c", "/v1/messages", {"max_tokens": 9, "messages": ASK}),
        ("m", "/v1/chat/completions", {"messages": ASK}),
        ("c", "/v1/responses", {"input": "hi", "store": False}),
    ],
)
def test_a_client_hears_of_a_late_answer_while_it_is_translated(
    sidecar: Sidecar, provider: Provider, model: str, path: str, more: dict[str, Any]
) -> None:
    provider.on(model, late)
    with httpx.Client(base_url=sidecar.url, trust_env=False, timeout=1.5) as client:
        got = client.post(path, json={"model": model, **more})

    assert got.status_code == 200
    assert got.content.startswith(b"  ")
    assert SAID in json.dumps(got.json())
    assert got.headers["x-router-translated"]
    assert got.headers["content-type"].startswith("application/json")


@pytest.mark.parametrize("said", [b'{"error": {"message": "quota"}}', b"{", b'{"choices": []}'])
def test_a_late_answer_that_is_none_ends_in_no_whole_answer(
    sidecar: Sidecar, provider: Provider, said: bytes
) -> None:
    pieces = [*[b" "] * 4, said[:1], said[1:]]
    kind = {"content-type": "application/json"}
    provider.on("c", Reply(chunks=pieces, chunk_delay_s=0.4, headers=kind))
    body = {"model": "c", "max_tokens": 9, "messages": ASK}

    with pytest.raises(httpx.RemoteProtocolError):
        sidecar.http.post("/v1/messages", json=body)


def test_a_late_answer_is_booked_as_any_other(
    sidecar: Sidecar, provider: Provider, address: Address
) -> None:
    provider.on("c", late)
    got = sidecar.http.post("/v1/messages", json={"model": "c", "max_tokens": 9, "messages": ASK})

    assert got.json()["usage"]["output_tokens"] == USED["completion_tokens"]
    sidecar.until(lambda: sidecar.app.writer.counters.sent == 1)
    (record,) = records(address)
    assert (record["result"], record["tokens_out"]) == (Result.OK, USED["completion_tokens"])


# -- Configuration ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"translate": {"from": ["chat"]}}, "the endpoint speaks it"),
        ({"dialects": ["messages"], "translate": {"from": ["embeddings"]}}, "nothing translates"),
        ({"dialects": ["responses"], "translate": {"from": ["chat"]}}, "can be said in messages"),
        ({"translate": {"from": []}}, "the list is empty"),
        ({"translate": {"from": ["messages"], "drop": ["Web Search"]}}, "drop"),
        ({"translate": {"form": ["messages"]}}, "form"),
        *(
            ({"translate": {"from": ["messages"], "drop": ["bash", word]}}, said)
            for word, said in (
                ("resoning", "drop[1]"),
                ("resoning", "did you mean reasoning?"),
                ("stores", "did you mean store?"),
                ("temperature", "only tools that a provider runs"),
                ("function", "such tools are translated"),
                ("web_search_20250305", "write web_search"),
                ("web_search_2025_08_26", "write web_search"),
                ("web_serch", "did you mean web_search?"),
                ("code_interpeter", "did you mean code_interpreter?"),
            )
        ),
    ],
)
def test_what_cannot_be_translated_is_refused_with_its_place(
    more: dict[str, Any], said: str
) -> None:
    file = {"endpoints": [{"id": "e", "model": "m", "base_url": "http://h/v1", **more}]}

    with pytest.raises(ConfigError) as refused:
        compile_text(yaml.safe_dump(file), file="f")

    assert said in str(refused.value)
    assert "translate" in str(refused.value)


def test_the_incumbent_of_a_dialect_speaks_it_where_anybody_does(provider: Provider) -> None:
    found = compile_text(yaml.safe_dump(configuration(provider)), file="f")
    app, strategy = found.apps["default"], found.strategies["quality"]
    standing = found.derive(PolicyTable).of(app, None, GENERAL, strategy)

    incumbents = {d: incumbent_of(standing, d) for d in Dialect}

    assert {d: e.id for d, e in incumbents.items() if e} == {
        Dialect.CHAT: "c",
        Dialect.MESSAGES: "m",
        Dialect.RESPONSES: "c",
        Dialect.EMBEDDINGS: "c",
        Dialect.COMPLETIONS: "c",
    }


def test_what_is_translated_is_listed_to_anthropics_clients(sidecar: Sidecar) -> None:
    listed = [model.id for model in claude(sidecar).models.list(limit=100)]

    assert {"c", "m", "gpt", "claude"} <= set(listed)


def test_a_callers_own_key_stands_where_the_other_dialect_has_it(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("c", chat)
    provider.on("m", anthropics)
    found = configuration(provider)
    for each in found["endpoints"]:
        each["auth"] = "client"
    with serving(found, state_dir, address) as sidecar:
        claude(sidecar).messages.create(model="c", max_tokens=9, messages=ASK)
        gpt(sidecar).chat.completions.create(model="m", messages=ASK)

    to_chat, to_messages = (call.headers for call in provider.calls)
    assert to_chat["authorization"] == "Bearer sk-own"
    assert "x-api-key" not in to_chat
    assert to_messages["x-api-key"] == "sk-own"
    assert "authorization" not in to_messages


@pytest.mark.parametrize("model", ["c", "m"])
def test_labels_are_read_off_what_the_caller_sees(
    model: str, provider: Provider, state_dir: Path, address: Address, learner: Any
) -> None:
    provider.on("c", chat)
    provider.on("m", anthropics)
    schema = {**SCHEMA, "required": ["planet"]}  # which no call of theirs names
    function = {"type": "function", "function": {"name": "weather", "parameters": schema}}
    tool = {"name": "weather", "input_schema": schema}

    def signals() -> dict[str, int]:
        found = sidecar.http.get("/v1/router/posteriors").json()["categories"]
        return found[0]["signals"] if found else {}

    with serving(configuration(provider), state_dir, address, observing=True) as sidecar:
        if model == "c":
            claude(sidecar).messages.create(model="c", max_tokens=9, messages=ASK, tools=[tool])
        else:
            gpt(sidecar).chat.completions.create(model="m", messages=ASK, tools=[function])
        sidecar.until(lambda: signals() == {"tools": 1})


# -- Sessions over dialects ------------------------------------------------------------------------


def in_dialects(provider: Provider, **more: Any) -> dict[str, Any]:
    """Hosts of two addresses, each of its own dialect, that take the caller's own key."""
    found = configuration(provider, **more)
    found["endpoints"] = [
        endpoint(provider, "c", model="gpt", dialects=["chat"], auth="client"),
        endpoint(provider, "m", model="claude", dialects=["messages"], auth="client"),
    ]
    found["endpoints"][1]["base_url"] = found["endpoints"][1]["base_url"].replace(
        "127.0.0.1", "localhost"
    )
    return found


@pytest.mark.parametrize("session", [{}, {"x-router-session-id": "s"}])
def test_a_session_may_speak_several_dialects(
    session: dict[str, str], provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("c", chat)
    provider.on("m", anthropics)
    own = {**session, "authorization": "Bearer sk-own"}
    paths = ["messages", "chat/completions", "messages", "chat/completions"]
    body = {"model": "auto", "max_tokens": 9, "messages": ASK}

    with serving(in_dialects(provider), state_dir, address) as sidecar:
        got = [sidecar.http.post(f"/v1/{path}", json=body, headers=own) for path in paths]

    assert [one.headers["x-router-endpoint"] for one in got] == ["m", "c", "m", "c"]


def test_a_call_that_the_drawn_endpoint_may_not_serve_goes_on_under_the_callers_key(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("c", chat)
    provider.on("m", anthropics)
    found = in_dialects(provider)
    found["endpoints"][0]["translate"] = {"from": ["messages"]}
    own = {"authorization": "Bearer sk-own"}
    body = {"model": "auto", "max_tokens": 9, "messages": ASK}
    drawn = set()

    with serving(found, state_dir, address) as sidecar:
        for number in range(12):
            session = {**own, "x-router-session-id": f"s-{number}"}
            first = sidecar.http.post("/v1/messages", json=body, headers=session)
            odd = sidecar.http.post("/v1/messages", json={**body, "top_k": 4}, headers=session)
            again = sidecar.http.post("/v1/messages", json=body, headers=session)
            drawn.add(first.headers["x-router-endpoint"])
            assert odd.headers["x-router-endpoint"] == "m"
            assert again.headers["x-router-endpoint"] == first.headers["x-router-endpoint"]

    assert drawn == {"c", "m"}


def test_what_cannot_be_said_is_refused_also_where_a_capability_lacks(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    found = configuration(provider)
    found["models"]["claude"]["capabilities"] = {"reasoning": False, "images": False}
    found["models"]["claude"]["reasoning"] = "never"
    found["apps"]["default"]["mode"] = "observe"
    body = {"model": "m", "messages": ASK, "reasoning_effort": "high"}

    with serving(found, state_dir, address) as sidecar:
        got = sidecar.http.post("/v1/chat/completions", json=body)

    assert got.status_code == 409
    assert got.json()["error"]["exclusions"]["m"].startswith("translation: ")


def test_who_makes_vectors_is_no_rival_of_who_chats(provider: Provider) -> None:
    found = configuration(provider)
    found["endpoints"].append(endpoint(provider, "e", model="gpt", dialects=["embeddings"]))
    compiled = compile_text(yaml.safe_dump(found), file="f")
    standing = compiled.derive(PolicyTable).usual(compiled.apps["default"])

    assert {e.id for e in rivals_of(standing, compiled.catalog.by_id["c"])} == {"c", "m"}
