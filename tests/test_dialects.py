"""The SDKs of OpenAI and Anthropic, unchanged, through a sidecar that routes all their dialects."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import numpy as np
import openai
import pytest
from conftest import SHARDS, Provider, Reply, Seen, Sidecar, endpoint, free_port, serving
from dialects import (
    ARGUMENTS,
    CACHED,
    COUNTED,
    OUTPUT,
    OVERLOADED,
    PERSON,
    PROMPT,
    REASONING,
    SAID,
    SIGNATURE,
    THOUGHT,
    message,
    message_error,
    message_events,
    named,
    response,
    response_events,
    response_failed,
    response_incomplete,
    speak,
)
from pydantic import BaseModel

from router.decision import shared_draws
from telemetry import decoding, frames, keys
from telemetry.store import Address, connect

ALL = ["chat", "messages", "responses"]
ASK = [{"role": "user", "content": "hi"}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
}
NAMES = ["auto", "auto:learn", "auto/code", "claude-auto", "claude-auto-learn", "a", "big"]
"""What `model` may be: the caller's strategy or task, a name for Anthropic's clients, an endpoint,
a model."""


HTTP = httpx2.Client(trust_env=False, verify=False)
"""Of all SDKs here: one that read the machine's certificates each time would take long."""


@pytest.fixture(scope="module", autouse=True)
def _closed_at_the_end() -> Iterator[None]:
    yield
    HTTP.close()


class Person(BaseModel):
    name: str
    age: int


def configuration(provider: Provider, **more: Any) -> dict[str, Any]:
    return {
        "endpoints": [
            endpoint(provider, "a", model="big", upstream_model="big-1", dialects=ALL),
            endpoint(provider, "b", model="small", dialects=ALL),
        ],
        "tasks": {"code": None},
        "strategies": {"learn": {"objective": "quality", "incumbent": "none"}},
        "apps": {"default": {"mode": "route", "strategy": "learn"}},
        **more,
    }


def passing(provider: Provider) -> dict[str, Any]:
    provider.on("p", speak)
    return {"up": {"base_url": provider.url("p"), "passthrough": True}}


@pytest.fixture
def routed(provider: Provider, state_dir: Path, address: Address) -> Iterator[Sidecar]:
    """Two endpoints that speak every dialect, in learning mode."""
    provider.on("a", speak)
    provider.on("b", speak)
    with serving(configuration(provider), state_dir, address) as found:
        yield found


def claude(sidecar: Sidecar, path: str = "", **more: Any) -> anthropic.Anthropic:
    how = {"max_retries": 0, "api_key": "sk-ant", **more}
    return anthropic.Anthropic(base_url=sidecar.url + path, http_client=HTTP, **how)


def gpt(sidecar: Sidecar, path: str = "/v1") -> openai.OpenAI:
    return openai.OpenAI(
        base_url=sidecar.url + path, http_client=HTTP, max_retries=0, api_key="sk-own"
    )


def asked(**more: Any) -> dict[str, Any]:
    """A call of Messages."""
    return {"model": "auto", "max_tokens": 100, "messages": ASK, **more}


def upstream_names(provider: Provider) -> set[tuple[str, str]]:
    return {(call.host, call.json["model"]) for call in provider.calls}


OURS = {("a", "big-1"), ("b", "small")}


# -- Messages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", NAMES)
def test_anthropics_sdk_is_routed_by_every_name(
    model: str, routed: Sidecar, provider: Provider
) -> None:
    got = claude(routed).messages.create(**asked(model=model))

    assert got.content[0].text == SAID
    assert got.stop_reason == "end_turn"
    assert upstream_names(provider) <= OURS


@pytest.mark.parametrize("path", ["", "/v1", "/"])
def test_anthropics_sdk_is_served_with_and_without_the_version_in_its_base_url(
    path: str, routed: Sidecar
) -> None:
    client = claude(routed, path)

    assert client.messages.create(**asked()).content[0].text == SAID
    assert client.messages.count_tokens(model="auto", messages=ASK).input_tokens == COUNTED
    assert client.models.list().data[0].id == "claude-auto"


@pytest.mark.parametrize("path", ["", "/v1"])
def test_openais_sdk_is_served_with_and_without_the_version_in_its_base_url(
    path: str, routed: Sidecar
) -> None:
    assert gpt(routed, path).responses.create(model="auto", input="hi").output_text == SAID


def test_a_stream_of_messages_is_read_event_by_event(routed: Sidecar) -> None:
    with claude(routed).messages.stream(**asked()) as stream:
        text = list(stream.text_stream)
        last = stream.get_final_message()

    assert text == ["hello", " there"]
    assert last.usage.output_tokens == OUTPUT
    assert last.usage.cache_read_input_tokens == CACHED


def test_thinking_and_its_signature_come_whole_in_both_ways(routed: Sidecar) -> None:
    wants = asked(thinking={"type": "enabled", "budget_tokens": 1024}, max_tokens=2000)
    client = claude(routed)

    whole = client.messages.create(**wants)
    with client.messages.stream(**wants) as stream:
        streamed = stream.get_final_message()

    assert whole.content[0].thinking == "".join(THOUGHT)
    assert whole.content[0].signature == SIGNATURE
    assert [b.to_dict() for b in streamed.content] == [
        {k: v for k, v in b.to_dict().items() if v is not None} for b in whole.content
    ]


def test_two_turns_with_a_tool_keep_their_endpoint_and_every_field(
    routed: Sidecar, provider: Provider
) -> None:
    tools = [{"name": "weather", "description": "d", "input_schema": SCHEMA}]
    client, wants = claude(routed), asked(tools=tools, thinking={"type": "adaptive"})

    with client.messages.stream(**wants) as stream:
        first = stream.get_final_message()
    call = first.content[-1]
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "20 degrees"}
    turns = [
        *ASK,
        {"role": "assistant", "content": [b.to_dict() for b in first.content]},
        {"role": "user", "content": [result]},
    ]
    second = client.messages.create(**{**wants, "messages": turns})

    assert (call.name, call.input, first.stop_reason) == ("weather", ARGUMENTS, "tool_use")
    assert second.content[-1].text == SAID
    assert provider.calls[0].host == provider.calls[1].host
    told = provider.calls[1].json["messages"][1]["content"]
    assert told[0] == {
        "type": "thinking",
        "thinking": "".join(THOUGHT),
        "signature": SIGNATURE,
    }
    assert told[-1]["input"] == ARGUMENTS


def test_structured_output_of_messages_is_parsed_by_the_sdk(routed: Sidecar) -> None:
    got = claude(routed).messages.parse(**asked(), output_format=Person)

    assert got.parsed_output == Person(**PERSON)


def test_the_asynchronous_sdks_are_served_alike(routed: Sidecar) -> None:
    async def ask() -> tuple[str, str, str, int]:
        theirs = anthropic.AsyncAnthropic(base_url=routed.url, api_key="k", max_retries=0)
        other = openai.AsyncOpenAI(base_url=f"{routed.url}/v1", api_key="k", max_retries=0)
        async with theirs, other:
            whole = await theirs.messages.create(**asked())
            async with theirs.messages.stream(**asked()) as stream:
                streamed = await stream.get_final_text()
            said = await other.responses.create(model="auto", input="hi")
            counted = await theirs.messages.count_tokens(model="auto", messages=ASK)
        return whole.content[0].text, streamed, said.output_text, counted.input_tokens

    assert asyncio.run(ask()) == (SAID, SAID, SAID, COUNTED)


def test_versions_and_betas_of_anthropics_travel_byte_for_byte(
    routed: Sidecar, provider: Provider
) -> None:
    betas = ["one-2025-01-01", "two-2025-02-02"]
    claude(routed).beta.messages.create(
        **asked(),
        betas=betas,
        extra_query={"beta": "true"},
        extra_headers={"anthropic-version": "2031-01-01"},
    )

    (call,) = provider.calls
    assert call.path.endswith("/v1/messages?beta=true")
    assert call.headers["anthropic-beta"] == "one-2025-01-01,two-2025-02-02"
    assert call.headers["anthropic-version"] == "2031-01-01"
    assert "x-api-key" not in call.headers  # it is the caller's, and no provider's business


def test_a_key_of_ours_goes_where_anthropics_servers_look_for_it(
    provider: Provider, state_dir: Path, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POINTSMAN_TEST_KEY", "sk-ours")
    value = configuration(provider)
    value["endpoints"][0]["auth"] = {"env": "POINTSMAN_TEST_KEY", "header": "x-api-key"}
    provider.on("a", speak)
    with serving(value, state_dir, address) as sidecar:
        claude(sidecar).messages.create(**asked(model="a"))
        claude(sidecar).messages.count_tokens(model="a", messages=ASK)

    assert [call.headers["x-api-key"] for call in provider.calls] == ["sk-ours", "sk-ours"]


# -- Responses -----------------------------------------------------------------------------------


@pytest.mark.parametrize("model", NAMES)
def test_openais_sdk_is_routed_by_every_name_in_responses(
    model: str, routed: Sidecar, provider: Provider
) -> None:
    got = gpt(routed).responses.create(model=model, input="hi", store=False)

    assert got.output_text == SAID
    assert upstream_names(provider) <= OURS


def test_a_stream_of_responses_is_read_event_by_event(routed: Sidecar) -> None:
    wants: dict[str, Any] = {"model": "auto", "input": "hi", "reasoning": {"effort": "low"}}
    with gpt(routed).responses.stream(**wants) as stream:
        kinds = [event.type for event in stream]
        last = stream.get_final_response()

    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert kinds.count("response.output_text.delta") == 2
    assert last.output_text == SAID
    assert last.output[0].encrypted_content == SIGNATURE
    assert last.usage.output_tokens_details.reasoning_tokens == REASONING


def test_a_call_of_a_tool_and_its_result_pass_in_responses(
    routed: Sidecar, provider: Provider
) -> None:
    tools = [{"type": "function", "name": "weather", "parameters": SCHEMA, "strict": False}]
    client = gpt(routed)

    first = client.responses.create(model="auto", input=ASK, tools=tools, store=False)
    call = first.output[-1]
    turns = [
        *ASK,
        *(item.to_dict() for item in first.output),
        {"type": "function_call_output", "call_id": call.call_id, "output": "20 degrees"},
    ]
    second = client.responses.create(model="auto", input=turns, tools=tools, store=False)

    assert json.loads(call.arguments) == ARGUMENTS
    assert second.output_text == SAID
    assert provider.calls[1].json["input"] == turns
    assert provider.calls[0].host == provider.calls[1].host


def test_structured_output_of_responses_is_parsed_by_the_sdk(routed: Sidecar) -> None:
    client = gpt(routed)

    whole = client.responses.parse(model="auto", input="hi", text_format=Person)
    with client.responses.stream(model="auto", input="hi", text_format=Person) as stream:
        streamed = stream.get_final_response()

    assert whole.output_parsed == streamed.output_parsed == Person(**PERSON)


def test_a_response_that_ran_into_its_limit_is_an_answer(
    routed: Sidecar, provider: Provider
) -> None:
    def short(call: Seen) -> Reply:
        found = response_incomplete(response(call.json))
        if call.json.get("stream"):
            return Reply(chunks=[named(event) for event in response_events(found)])
        return Reply(body=json.dumps(found).encode())

    provider.on("a", short)
    client = gpt(routed)

    whole = client.responses.create(model="a", input="hi")
    streamed = list(client.responses.create(model="a", input="hi", stream=True))

    assert whole.status == "incomplete"
    assert whole.incomplete_details.reason == "max_output_tokens"
    assert streamed[-1].type == "response.incomplete"
    assert len(provider.calls) == 2


# -- bytes and books -----------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("path", ["messages", "responses"])
def test_what_the_provider_sends_is_what_the_client_gets(
    path: str, streamed: bool, routed: Sidecar, provider: Provider
) -> None:
    sent: list[Reply] = []

    def keep(call: Seen) -> Reply:
        sent.append(speak(call))
        return sent[-1]

    provider.on("a", keep)
    tools = [{"name": "weather", "input_schema": SCHEMA}]
    body = {"model": "a", "max_tokens": 9, "messages": ASK, "input": ASK, "tools": tools}

    got = routed.http.post(f"/v1/{path}", json={**body, "stream": streamed})

    (reply,) = sent
    assert got.content == (b"".join(reply.chunks) if reply.chunks else reply.body)


def records(address: Address) -> np.ndarray:
    """All records in the streams; nobody reads them here."""
    client, found = connect(address), [decoding.decode(b"")[0]]
    for shard in range(SHARDS):
        for _, entry in client.xrange(keys.stream(shard)):
            found.append(decoding.decode(frames.unpack(entry[b"f"]).body)[0])
    client.close()
    return np.concatenate(found)


@pytest.mark.parametrize("model", ["a", "unlisted"])
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("path", ["messages", "responses"])
def test_usage_and_cost_are_in_the_books(
    path: str,
    streamed: bool,
    model: str,
    provider: Provider,
    state_dir: Path,
    address: Address,
) -> None:
    provider.on("a", speak)
    prices = {"input_usd_per_mtok": 10, "cached_input_usd_per_mtok": 1, "output_usd_per_mtok": 100}
    value = configuration(provider, providers=passing(provider))
    value["endpoints"][0]["prices"] = prices
    body = {"model": model, "max_tokens": 9, "messages": ASK, "input": "hi", "stream": streamed}

    with serving(value, state_dir, address) as sidecar:
        assert sidecar.http.post(f"/v1/{path}", json=body).status_code == 200
        sidecar.until(lambda: sidecar.app.writer.counters.sent == 1)

    (found,) = records(address)
    booked = [int(found[f"tokens_{name}"]) for name in ("in", "cached", "out", "reasoning")]
    assert booked == [PROMPT, CACHED, OUTPUT, REASONING if path == "responses" else 0]
    if model == "a":
        uncached = PROMPT - CACHED
        assert int(found["cost_nano"]) == (uncached * 10 + CACHED * 1 + OUTPUT * 100) * 1000


@pytest.mark.parametrize("model", ["auto", "unlisted"])
def test_feedback_is_taken_by_the_id_of_any_dialects_answer(
    model: str, provider: Provider, state_dir: Path, address: Address
) -> None:
    for host in "ab":
        provider.on(host, speak)
    value = configuration(provider, providers=passing(provider))
    with serving(value, state_dir, address) as sidecar:
        ids = [
            claude(sidecar).messages.create(**asked(model=model)).id,
            gpt(sidecar).responses.create(model=model, input="hi").id,
        ]
        said = [sidecar.feedback(response_id=each, passed=True).json() for each in ids]

    assert ids == ["msg_1", "resp_1"]
    assert [each["results"][0]["status"] for each in said] == ["accepted", "accepted"]


@pytest.mark.parametrize(
    "tell",
    [
        {"extra_headers": {"x-router-ref": "r-7", "x-router-task": "code"}},
        {"extra_body": {"router": {"ref": "r-7", "task": "code"}}},
        {"extra_body": {"metadata": {"router_ref": "r-7"}, "router": {"task": "code"}}},
    ],
    ids=["headers", "router", "metadata"],
)
@pytest.mark.parametrize("path", ["messages", "responses"])
def test_hints_and_references_are_taken_wherever_they_stand(
    path: str, tell: dict[str, Any], routed: Sidecar, provider: Provider
) -> None:
    if path == "messages":
        raw = claude(routed).messages.with_raw_response.create(**asked(), **tell)
    else:
        raw = gpt(routed).responses.with_raw_response.create(model="auto", input="hi", **tell)

    assert raw.headers["x-router-task"] == "code"
    assert routed.feedback(ref="r-7", passed=True).json()["results"][0]["status"] == "accepted"
    (call,) = provider.calls
    assert not {"router", "metadata"} & set(call.json)
    assert not [name for name in call.headers if name.startswith("x-router")]


def test_the_id_of_a_request_is_ours_and_the_providers_goes_back_beside_it(
    routed: Sidecar,
) -> None:
    mine = claude(routed).messages.with_raw_response.create(**asked())
    theirs = gpt(routed).responses.with_raw_response.create(model="auto", input="hi")

    for raw in (mine, theirs):
        assert raw.headers["x-router-upstream-request-id"] == "req_upstream"
        assert raw.headers["x-request-id"] == raw.headers["request-id"] != "req_upstream"
    assert mine.parse()._request_id == mine.headers["request-id"]
    assert theirs.parse()._request_id == theirs.headers["x-request-id"]


# -- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "kind", "status", "name"),
    [
        ({"model": "nobody"}, anthropic.NotFoundError, 404, "not_found_error"),
        ({"model": "auto:no"}, anthropic.BadRequestError, 400, "invalid_request_error"),
        ({"model": "claude-auto-no"}, anthropic.BadRequestError, 400, "invalid_request_error"),
        ({"model": "claude-autoland"}, anthropic.NotFoundError, 404, "not_found_error"),
        ({"messages": []}, anthropic.BadRequestError, 400, "invalid_request_error"),
        (
            {"extra_headers": {"x-router-data-class": "restricted"}},
            anthropic.ConflictError,
            409,
            "invalid_request_error",
        ),
    ],
)
def test_errors_of_ours_are_anthropics_to_its_sdk(
    wrong: dict[str, Any], kind: type[Exception], status: int, name: str, routed: Sidecar
) -> None:
    with pytest.raises(kind) as caught:
        claude(routed).messages.create(**asked(**wrong))

    assert caught.value.status_code == status
    assert caught.value.body["type"] == "error"
    assert caught.value.body["error"]["type"] == name
    assert caught.value.body["error"]["message"]


@pytest.mark.parametrize(
    ("wrong", "kind", "code"),
    [
        ({"model": "nobody"}, openai.NotFoundError, "model_not_found"),
        ({"model": "auto:no"}, openai.BadRequestError, "unknown_strategy"),
        ({"model": "claude-autoland"}, openai.NotFoundError, "model_not_found"),
        ({"input": 7}, openai.BadRequestError, "invalid_request"),
        (
            {"extra_headers": {"x-router-data-class": "restricted"}},
            openai.ConflictError,
            "no_eligible_endpoint",
        ),
    ],
)
def test_errors_of_ours_are_openais_to_its_sdk(
    wrong: dict[str, Any], kind: type[openai.APIStatusError], code: str, routed: Sidecar
) -> None:
    with pytest.raises(kind) as caught:
        gpt(routed).responses.create(**{"model": "auto", "input": "hi", **wrong})

    assert caught.value.code == code


def test_a_wrong_key_is_told_in_the_callers_dialect(
    provider: Provider, state_dir: Path, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POINTSMAN_TEST_KEY", "pm-right")
    value = configuration(provider)
    value["apps"]["default"]["keys"] = [{"env": "POINTSMAN_TEST_KEY"}]
    provider.on("a", speak)
    with serving(value, state_dir, address) as sidecar:
        wrong, right = claude(sidecar), claude(sidecar, api_key="pm-right")
        calls: list[Callable[[], Any]] = [
            lambda: wrong.messages.create(**asked()),
            lambda: wrong.messages.count_tokens(model="auto", messages=ASK),
            lambda: wrong.models.list(),
        ]
        for call in calls:
            with pytest.raises(anthropic.AuthenticationError) as caught:
                call()
            assert caught.value.body["error"]["type"] == "authentication_error"
        with pytest.raises(openai.AuthenticationError):
            gpt(sidecar).responses.create(model="auto", input="hi")
        assert right.messages.create(**asked(model="a")).content[0].text == SAID


@pytest.mark.parametrize(
    ("status", "name", "kind"),
    [
        (400, "invalid_request_error", anthropic.BadRequestError),
        (413, "request_too_large", anthropic.RequestTooLargeError),
        (429, "rate_limit_error", anthropic.RateLimitError),
        (529, "overloaded_error", anthropic.OverloadedError),
    ],
)
def test_a_providers_own_refusal_is_what_the_sdk_sees(
    status: int, name: str, kind: type[Exception], routed: Sidecar, provider: Provider
) -> None:
    for host in "ab":
        provider.on(host, message_error(name, status))

    with pytest.raises(kind) as caught:
        claude(routed).messages.create(**asked(model="a"))

    assert caught.value.body["error"]["type"] == name


def _begin(chunks: list[bytes], last: bytes) -> Reply:
    """A stream that begins with content and then says something else."""
    n = next(i for i, chunk in enumerate(chunks) if b"delta" in chunk) + 1
    return Reply(chunks=[*chunks[:n], last])


def test_an_overload_before_any_content_is_answered_by_another(
    routed: Sidecar, provider: Provider
) -> None:
    provider.on("a", Reply(chunks=[named(OVERLOADED)]))

    for number in range(8):
        session = {"x-router-session-id": f"s{number}"}
        with claude(routed).messages.stream(**asked(), extra_headers=session) as stream:
            assert stream.get_final_text() == SAID

    assert set(provider.hosts()) == {"a", "b"}


def test_an_overload_in_the_middle_is_an_error_of_the_sdk(
    routed: Sidecar, provider: Provider
) -> None:
    chunks = [named(event) for event in message_events(message(asked()))]
    provider.on("a", _begin(chunks, named(OVERLOADED)))

    with (
        claude(routed).messages.stream(**asked(model="a")) as stream,
        pytest.raises(anthropic.APIStatusError) as caught,
    ):
        stream.get_final_message()

    assert caught.value.body["error"]["type"] == "overloaded_error"


@pytest.mark.parametrize("ends", ["cut", "clean"])
def test_a_cut_is_an_error_of_anthropics_sdk(
    ends: str, routed: Sidecar, provider: Provider
) -> None:
    chunks = [named(event) for event in message_events(message(asked()))]
    provider.on("a", Reply(chunks=chunks[:5], cut=ends == "cut"))

    with (
        claude(routed).messages.stream(**asked(model="a")) as stream,
        pytest.raises(anthropic.APIStatusError) as caught,
    ):
        stream.get_final_message()

    assert caught.value.body["error"]["code"] == "stream_cut"


def test_a_response_that_failed_says_so_to_the_sdk(routed: Sidecar, provider: Provider) -> None:
    whole = response({"model": "a", "input": "hi"})
    chunks = [named(event) for event in response_events(whole)]
    provider.on("a", _begin(chunks, named(response_failed(whole))))

    seen = list(gpt(routed).responses.create(model="a", input="hi", stream=True))

    assert seen[-1].type == "response.failed"
    assert seen[-1].response.error.message == "it broke"


@pytest.mark.parametrize("ends", ["cut", "clean"])
def test_a_cut_is_told_to_openais_sdk_in_responses(
    ends: str, routed: Sidecar, provider: Provider
) -> None:
    chunks = [named(event) for event in response_events(response({"model": "a", "input": "hi"}))]
    provider.on("a", Reply(chunks=chunks[:6], cut=ends == "cut"))

    seen = []

    with pytest.raises(openai.APIError, match="not whole"):
        seen += gpt(routed).responses.create(model="a", input="hi", stream=True)

    assert not [event for event in seen if event.type == "response.completed"]


# -- what is not routed --------------------------------------------------------------------------


@contextmanager
def beside_passthrough(provider: Provider, state_dir: Path, address: Address) -> Iterator[Sidecar]:
    value = configuration(provider, providers=passing(provider))
    value["endpoints"][1]["dialects"] = ["chat"]
    with serving(value, state_dir, address) as found:
        yield found


def test_an_unlisted_model_goes_to_the_passthrough_provider(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with beside_passthrough(provider, state_dir, address) as sidecar:
        client = claude(sidecar)
        got = client.messages.with_raw_response.create(**asked(model="claude-9"))
        assert client.messages.count_tokens(model="claude-9", messages=ASK).input_tokens == COUNTED
        said = gpt(sidecar).responses.create(model="gpt-9", input="hi")
        # b is listed, and speaks no Messages: whoever takes what is not listed may.
        elsewhere = client.messages.with_raw_response.create(**asked(model="small"))

    assert got.headers["x-router-endpoint"] == "up/claude-9"
    assert got.parse().content[0].text == said.output_text == SAID
    assert elsewhere.headers["x-router-endpoint"] == "up/small"
    sent = [call.json["model"] for call in provider.calls]
    assert sent == ["claude-9", "claude-9", "gpt-9", "small"]


@pytest.mark.parametrize(
    "model", ["auto", "auto:learn", "auto/code", "auto:no", "claude-auto", "claude-autoland"]
)
@pytest.mark.parametrize(
    "path", ["embeddings", "completions", "moderations", "images/generations", "conversations"]
)
def test_a_name_of_ours_is_never_sent_to_a_provider(
    path: str, model: str, provider: Provider, state_dir: Path, address: Address
) -> None:
    with beside_passthrough(provider, state_dir, address) as sidecar:
        body = {"model": model, "input": "x", "prompt": "x"}
        got = sidecar.http.post(f"/v1/{path}", json=body)
        looked_up = sidecar.http.get(f"/v1/models/{model}")

    assert (got.status_code, got.json()["error"]["param"]) == (404, "model")
    assert "not routed" in got.json()["error"]["message"]
    is_listed = model in ("auto", "auto:learn", "auto/code")
    assert looked_up.status_code == (200 if is_listed else 404)
    assert not provider.calls


def test_where_no_endpoint_speaks_a_dialect_auto_is_refused_there(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    value = configuration(provider, providers=passing(provider))
    for entry in value["endpoints"]:
        entry["dialects"] = ["chat"]
    with serving(value, state_dir, address) as sidecar:
        with pytest.raises(anthropic.NotFoundError, match="not routed"):
            claude(sidecar).messages.create(**asked())
        with pytest.raises(anthropic.NotFoundError):
            claude(sidecar).messages.count_tokens(model="auto", messages=ASK)
        with pytest.raises(openai.NotFoundError):
            gpt(sidecar).responses.create(model="auto", input="hi")
    assert not provider.calls

    del value["providers"]
    with (
        serving(value, state_dir, address) as sidecar,
        pytest.raises(anthropic.ConflictError) as caught,
    ):
        claude(sidecar).messages.create(**asked())
    assert caught.value.body["error"]["exclusions"] == {"a": "dialect", "b": "dialect"}
    assert not provider.calls


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("responses", b'{"model": null, "prompt": {"id": "pmpt_1"}}'),
        ("responses", b'{"model": "other", "input": {"text": "hi"}}'),
        ("messages", b'{"model": "other", "messages": "hi"}'),
        ("messages", b'{"model": "other", "messages": []}'),
    ],
)
def test_what_may_be_asked_of_an_unlisted_model_its_provider_says(
    provider: Provider, state_dir: Path, address: Address, path: str, body: bytes
) -> None:
    value = configuration(provider, providers=passing(provider))
    provider.on("p", Reply(body=b"{}"))
    with serving(value, state_dir, address) as sidecar:
        assert HTTP.post(f"{sidecar.url}/v1/{path}", content=body).status_code == 200
        listed = body.replace(b'"other"', b'"small"').replace(b"null", b'"auto", "input": 7')
        assert HTTP.post(f"{sidecar.url}/v1/{path}", content=listed).status_code == 400

    assert [call.body for call in provider.calls] == [body]


def test_where_no_endpoint_speaks_a_dialect_its_bodies_are_not_read(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    """A provider that takes them as they come gets what it would get directly."""
    value = configuration(provider, providers=passing(provider))
    for entry in value["endpoints"]:
        entry["dialects"] = ["chat"]
    provider.on("p", Reply(body=b"{}"))
    odd = b'{"model": "m", "messages": [], "input": 7, "stream": '
    with serving(value, state_dir, address) as sidecar:
        for path in ("messages", "responses", "embeddings", "messages/count_tokens"):
            got = HTTP.post(f"{sidecar.url}/v1/{path}", content=odd)
            assert got.status_code == 200, path

    assert [call.body for call in provider.calls] == [odd] * 4


# -- the list of models --------------------------------------------------------------------------


def test_models_are_listed_to_each_client_in_its_own_shape(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with beside_passthrough(provider, state_dir, address) as sidecar:
        client = claude(sidecar)
        theirs = [model.id for model in client.models.list()]
        page = client.models.list()
        one = client.models.retrieve("claude-auto-fastest")
        others = [model.id for model in gpt(sidecar).models.list()]
        with pytest.raises(anthropic.NotFoundError) as caught:
            client.models.retrieve("claude-autoland")

    assert theirs[0] == "claude-auto"
    assert {"claude-auto-fastest", "auto", "auto:fastest", "auto/code", "a", "big"} <= set(theirs)
    assert not {"b", "small"} & set(theirs)  # it speaks chat alone
    assert (page.first_id, page.last_id, page.has_more) == (theirs[0], theirs[-1], False)
    assert (one.type, one.display_name) == ("model", "claude-auto-fastest")
    assert {"auto", "a", "b", "small"} <= set(others)
    assert not [name for name in others if name.startswith("claude")]
    assert caught.value.body["error"]["type"] == "not_found_error"
    assert not provider.calls


# -- counting ------------------------------------------------------------------------------------


def test_tokens_are_counted_by_whom_the_unit_drew(routed: Sidecar, provider: Provider) -> None:
    client = claude(routed)
    served, counted = [], []
    for number in range(12):
        session = {"x-router-session-id": f"s{number}"}
        client.messages.create(**asked(), extra_headers=session)
        served.append(provider.calls[-1])
        client.messages.count_tokens(model="auto", messages=ASK, extra_headers=session)
        counted.append(provider.calls[-1])

    assert [call.host for call in counted] == [call.host for call in served]
    assert {call.host for call in served} == {"a", "b"}
    assert {(c.host, c.json["model"]) for c in counted} == OURS
    assert {call.path.partition("/v1/")[2] for call in counted} == {"messages/count_tokens"}


def test_counting_draws_nothing_and_is_in_no_book(routed: Sidecar, provider: Provider) -> None:
    client = claude(routed)
    session = {"x-router-session-id": "s"}
    for _ in range(5):
        client.messages.count_tokens(model="auto", messages=ASK, extra_headers=session)
    before = routed.app.draws.n_known
    client.messages.create(**asked(), extra_headers=session)
    routed.until(lambda: routed.app.writer.counters.sent == 1)

    assert before == 0
    assert {call.host for call in provider.calls[:5]} == {"a"}  # the first as listed
    assert routed.app.writer.counters.sent == 1


def test_a_count_goes_out_as_it_came_but_for_the_models_name(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    """Nor are an endpoint's own parameters added: servers that count know few."""
    value = configuration(provider)
    value["endpoints"][0]["params"] = {"temperature": 0}
    provider.on("a", speak)
    said = b'[{"role":"user","content":"\\u00fc  x"}]'
    body = b'{"messages":%b,"model":"a","n":12345678901234567890}' % said
    with serving(value, state_dir, address) as sidecar:
        got = sidecar.http.post("/v1/messages/count_tokens", content=body)

    assert got.json() == {"input_tokens": COUNTED}
    assert got.headers["x-router-endpoint"] == "a"
    assert got.headers["request-id"] == got.headers["x-request-id"]
    assert provider.calls[0].body == body.replace(b'"a"', b'"big-1"')


def test_what_counts_nothing_says_so_to_the_client(routed: Sidecar, provider: Provider) -> None:
    provider.on("a", message_error("not_found_error", 404))
    with pytest.raises(anthropic.NotFoundError):
        claude(routed).messages.count_tokens(model="a", messages=ASK)
    provider.on("a", message_error("authentication_error", 401))
    with pytest.raises(anthropic.APIStatusError) as misconfigured:
        claude(routed).messages.count_tokens(model="a", messages=ASK)

    assert misconfigured.value.body["error"]["code"] == "endpoint_misconfigured"


LIMITED = {
    "retry-after": "7",
    "anthropic-ratelimit-requests-remaining": "0",
    "x-should-retry": "true",
}


@pytest.mark.parametrize("model", ["big", "auto"])
@pytest.mark.parametrize(
    ("status", "kind", "seen"),
    [
        (400, "invalid_request_error", 400),
        (403, "permission_error", 502),  # about our key
        (404, "not_found_error", 404),
        (413, "request_too_large", 413),
        (429, "rate_limit_error", 429),
        (500, "api_error", 500),
        (529, "overloaded_error", 529),
    ],
)
def test_a_count_is_refused_as_it_would_be_directly(
    status: int, kind: str, seen: int, model: str, routed: Sidecar, provider: Provider
) -> None:
    for host in "ab":
        provider.on(host, message_error(kind, status, **LIMITED))
    got = routed.http.post("/v1/messages/count_tokens", json={"model": model, "messages": ASK})

    assert got.status_code == seen
    if seen == status:
        assert got.json()["error"]["type"] == kind
        assert got.headers["retry-after"] == "7"
        assert got.headers["x-should-retry"] == "true"
        remaining = "anthropic-ratelimit-requests-remaining"
        assert got.headers.get(remaining) == ("0" if model == "big" else None)


def test_a_verdict_on_what_is_counted_is_the_clients(routed: Sidecar, provider: Provider) -> None:
    error = {"type": "permission_error", "message": "flagged by our usage policies"}
    body = json.dumps({"type": "error", "error": error}).encode()
    provider.on("a", Reply(status=403, body=body))
    with pytest.raises(anthropic.PermissionDeniedError):
        claude(routed).messages.count_tokens(model="a", messages=ASK)


def test_a_count_follows_a_redirect_within_the_host(routed: Sidecar, provider: Provider) -> None:
    provider.on("a", Reply(status=307, headers={"location": provider.url("b") + "/count_tokens"}))
    got = claude(routed).messages.count_tokens(model="a", messages=ASK)

    assert got.input_tokens == COUNTED
    assert provider.hosts() == ["a", "b"]


def test_a_count_that_nobody_answers_is_an_error_of_ours(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    value = configuration(provider)
    value["endpoints"][0]["base_url"] = f"http://127.0.0.1:{free_port()}/v1"
    with (
        serving(value, state_dir, address) as sidecar,
        pytest.raises(anthropic.ServiceUnavailableError) as caught,
    ):
        claude(sidecar).messages.count_tokens(model="a", messages=ASK)

    assert caught.value.body["error"]["code"] == "all_endpoints_failed"


def test_tokens_are_counted_by_whom_the_unit_drew_in_another_process(
    provider: Provider, state_dir: Path, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_draws, "LOOK_UP_S", 5.0)  # this machine may be busy
    for host in "ab":
        provider.on(host, speak)
    value, sessions = configuration(provider), [f"s{number}" for number in range(8)]
    with serving(value, state_dir, address) as sidecar:
        for each in sessions:
            session = {"x-router-session-id": each}
            claude(sidecar).messages.create(**asked(), extra_headers=session)
    served = provider.hosts()
    provider.calls.clear()

    with serving(value, state_dir, address) as sidecar:
        sidecar.until(lambda: sidecar.app.draws.shared.answers)
        for each in sessions:
            session = {"x-router-session-id": each}
            client = claude(sidecar)
            client.messages.count_tokens(model="auto", messages=ASK, extra_headers=session)

    assert provider.hosts() == served
    assert set(served) == {"a", "b"}


def test_a_stored_prompt_may_name_the_model(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    """Then no endpoint here can be meant: the provider that takes what is not listed knows."""
    prompt: Any = {"id": "pmpt_1"}
    answered = Reply(body=json.dumps(response({"model": "m", "input": "hi"})).encode())
    with beside_passthrough(provider, state_dir, address) as sidecar:
        provider.on("p", answered)
        got = gpt(sidecar).responses.with_raw_response.create(prompt=prompt)
    with (
        serving(configuration(provider), state_dir, address) as sidecar,
        pytest.raises(openai.BadRequestError, match="model is missing"),
    ):
        gpt(sidecar).responses.create(prompt=prompt)

    assert got.headers["x-router-endpoint"] == "up/responses"
    assert provider.calls[0].json == {"prompt": prompt}


@pytest.mark.parametrize(
    ("headers", "body", "serving_ids"),
    [
        ({}, {"messages": ASK}, {"b"}),
        ({"anthropic-version": "2023-06-01"}, {"messages": ASK, "max_tokens": 9}, {"a"}),
        ({}, {"input": "hi"}, {"a"}),
    ],
    ids=ALL,
)
def test_a_dry_run_knows_the_dialect_of_the_call(
    headers: dict[str, str],
    body: dict[str, Any],
    serving_ids: set[str],
    provider: Provider,
    state_dir: Path,
    address: Address,
) -> None:
    value = configuration(provider)
    value["endpoints"][0]["dialects"] = ["messages", "responses"]
    value["endpoints"][1]["dialects"] = ["chat"]
    with serving(value, state_dir, address) as sidecar:
        asked_for = {"model": "auto", **body}
        got = sidecar.http.post("/v1/router/decide", json=asked_for, headers=headers)

    assert set(got.json()["propensities"]) == serving_ids
