"""OpenAI's legacy completions, routed: its SDK unchanged, fields, usage, fallbacks, refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from conftest import LEARN, ROUTED, Provider, Reply, Sidecar, endpoint, serving
from dialects import OUTPUT, PROMPT, SAID, completion_events, speak
from test_dialects import records

from router.dialects import completions
from router.dialects.parsers import parse_alike
from router.endpoints.entries import Dialect
from router.errors import RequestRejected
from telemetry.store import Address
from telemetry.wire.completions import read_completion

SPEAKS = {"dialects": ["chat", "completions"]}


def configuration(provider: Provider, **more: Any) -> dict[str, Any]:
    for host in ("a", "b", "talks", "rest"):
        provider.on(host, speak)
    return {
        "endpoints": [
            endpoint(provider, "talks"),
            endpoint(provider, "a", model="big", upstream_model="big-1", **SPEAKS),
            endpoint(provider, "b", model="small", **SPEAKS),
        ],
        "strategies": LEARN,
        "apps": ROUTED,
        **more,
    }


@pytest.fixture
def sidecar(provider: Provider, state_dir: Path, address: Address) -> Iterator[Sidecar]:
    with serving(configuration(provider), state_dir, address) as found:
        yield found


def gpt(sidecar: Sidecar) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{sidecar.url}/v1", api_key="any", max_retries=0)


@pytest.mark.parametrize("model", ["auto", "auto:learn", "claude-auto", "a", "big"])
def test_openais_sdk_is_routed_by_every_name(
    model: str, sidecar: Sidecar, provider: Provider
) -> None:
    with gpt(sidecar) as client:
        for i in range(8):
            got = client.completions.create(model=model, prompt=f"once {i}", max_tokens=5)
            assert got.choices[0].text == SAID
            assert got.choices[0].finish_reason == "length"
            assert got.usage is not None
            assert got.usage.prompt_tokens == PROMPT
            assert got.model in ("big-1", "small")
    hosts = {(call.host, call.json["model"]) for call in provider.calls}
    assert hosts <= {("a", "big-1"), ("b", "small")}


@pytest.mark.parametrize("prompt", ["once", ["once", "twice"], [1, 2, 3], [[1, 2], [3]]])
@pytest.mark.parametrize("asks", [False, True])
def test_a_stream_reaches_openais_sdk_whole_with_the_usage_that_it_asked_for(
    asks: bool, prompt: Any, sidecar: Sidecar, provider: Provider
) -> None:
    more: dict[str, Any] = {"stream_options": {"include_usage": True}} if asks else {}
    with gpt(sidecar) as client:
        events = list(client.completions.create(model="a", prompt=prompt, stream=True, **more))

    said: dict[int, str] = {}
    for part in events:
        for choice in part.choices:
            said[choice.index] = said.get(choice.index, "") + choice.text
    n_prompts = 2 if prompt in (["once", "twice"], [[1, 2], [3]]) else 1
    assert said == dict.fromkeys(range(n_prompts), SAID)
    assert [part.usage is not None for part in events if not part.choices] == [True] * asks
    assert provider.calls[-1].json["stream_options"] == {"include_usage": True}
    assert provider.calls[-1].json["prompt"] == prompt


def test_what_a_stream_cost_is_booked_whoever_asked_for_it(
    sidecar: Sidecar, address: Address
) -> None:
    with gpt(sidecar) as client:
        list(client.completions.create(model="a", prompt="once", stream=True))
    sidecar.until(lambda: sidecar.app.writer.counters.sent == 1)
    (record,) = records(address)

    assert (record["tokens_in"], record["tokens_out"]) == (PROMPT, OUTPUT)


def test_fields_that_nobody_here_reads_pass_as_they_came(
    sidecar: Sidecar, provider: Provider
) -> None:
    body = b'{"model":"b","prompt":"x","suffix":"y","seed":12345678901234567890123,"echo":true}'
    got = sidecar.http.post("/v1/completions", content=body)

    assert got.json()["choices"][0]["text"] == SAID
    assert provider.calls[-1].body == body.replace(b'"b"', b'"small"')


def test_a_call_that_fails_is_answered_by_another_endpoint(
    sidecar: Sidecar, provider: Provider
) -> None:
    provider.on("a", Reply(status=503, body=b"{}"))
    for i in range(4):
        body = {"model": "auto", "prompt": "x", "user": f"u{i}"}
        got = sidecar.http.post("/v1/completions", json=body)
        assert got.headers["x-router-endpoint"] == "b"


def test_a_stream_that_breaks_ends_with_an_error_and_no_terminator(
    sidecar: Sidecar, provider: Provider
) -> None:
    events = completion_events({"model": "a", "prompt": "x", "stream": True})
    provider.on("a", Reply(chunks=events[:1], cut=True))
    body = {"model": "a", "prompt": "x", "stream": True}
    got = sidecar.http.post("/v1/completions", json=body)

    assert b"stream_cut" in got.content
    assert b"[DONE]" not in got.content
    with gpt(sidecar) as client, pytest.raises(openai.APIError):
        list(client.completions.create(model="a", prompt="x", stream=True))


@pytest.mark.parametrize("beside", [True, False])
def test_what_no_endpoint_lists_is_passed_on_unchanged(
    beside: bool, provider: Provider, state_dir: Path, address: Address
) -> None:
    value = configuration(provider)
    value["providers"] = {"rest": {"base_url": provider.url("rest"), "passthrough": True}}
    if not beside:
        value["endpoints"] = value["endpoints"][:1]
    body = b'{"model":"davinci-9","prompt":"x",  "odd" : 1e999}'
    with serving(value, state_dir, address) as sidecar:
        got = sidecar.http.post("/v1/completions", content=body)
        auto = sidecar.http.post("/v1/completions", json={"model": "auto", "prompt": "x"})

    assert got.headers["x-router-endpoint"] == "rest/davinci-9"
    assert provider.calls[0].body == body
    assert auto.status_code == (200 if beside else 404)


def test_where_nobody_speaks_them_the_refusal_says_so(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    value = configuration(provider)
    value["endpoints"] = value["endpoints"][:1]
    with serving(value, state_dir, address) as sidecar:
        auto = sidecar.http.post("/v1/completions", json={"model": "auto", "prompt": "x"})
        named = sidecar.http.post("/v1/completions", json={"model": "talks", "prompt": "x"})

    assert auto.status_code == 409
    assert auto.json()["error"]["exclusions"] == {"talks": "dialect"}
    assert named.status_code == 404


# -- what is read --------------------------------------------------------------------------------


def test_how_many_texts_are_asked_for() -> None:
    def n_choices(**body: Any) -> int:
        request = completions.parse(json.dumps({"model": "a", **body}).encode())
        return request.open_stream(hide_usage=False)._n_choices

    assert n_choices() == n_choices(prompt="x") == n_choices(prompt=[1, 2, 3]) == 1
    assert n_choices(prompt=[]) == n_choices(prompt=None) == 1
    assert n_choices(prompt=["x", "y"], n=3) == 6
    assert n_choices(prompt=[[1], [2]]) == 2


def test_only_one_prompt_says_how_long_it_is() -> None:
    one = completions.parse(b'{"model":"a","prompt":"long"}')
    assert one.text_bytes == len(one.body)
    assert completions.parse(b'{"model":"a","prompt":["x","y"]}').text_bytes == 0


@pytest.mark.parametrize("body", [b"", b"[]", b'{"model":1}', b'{"model":"a","router":{"odd":1}}'])
def test_a_body_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(RequestRejected):
        completions.parse(body)


def test_the_dry_run_knows_them_by_their_prompt() -> None:
    def kind(body: bytes) -> Dialect:
        return parse_alike(body, by_anthropics=False).dialect

    ask = b'"messages":[{"role":"user","content":"hi"}]'
    assert kind(b'{"model":"a","prompt":"x"}') is Dialect.COMPLETIONS
    assert kind(b'{"model":"a","prompt":["x"]}') is Dialect.COMPLETIONS
    assert kind(b'{"model":"a","prompt":{"id":"p"},"input":"x"}') is Dialect.RESPONSES
    assert kind(b'{"model":"a","prompt":"x",%b}' % ask) is Dialect.CHAT


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"{}",
        b'{"choices":[]}',
        b'{"choices":[{}]}',
        b'{"choices":[{"text":null}]}',
        b'{"choices":[{"text":"x","finish_reason":"error"}]}',
        b'{"choices":[{"text":"x","error":{"message":"m"}}]}',
        b'{"error":{"message":"m"},"choices":[{"text":"x"}]}',
        b'{"object":"error","choices":[{"text":"x"}]}',
    ],
)
def test_what_holds_no_text_is_no_answer(body: bytes) -> None:
    assert read_completion(body) is None


def test_an_empty_text_is_an_answer() -> None:
    found = read_completion(b'{"id":"c","choices":[{"text":"","finish_reason":"stop"}]}')
    assert found is not None
    assert found.id == "c"
