"""Vectors: over hosts of one model, for good, whatever strategy, mode and failures say."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from conftest import LEARN, ROUTED, Provider, Reply, Seen, Sidecar, default_reply, endpoint, serving
from test_dialects import records

from router.beliefs.switch import Switch
from telemetry.store import Address

VECTOR = [0.25, -0.5, 1.0]


def speak(call: Seen) -> Reply:
    """Answer with vectors that tell the model."""
    if not call.path.endswith("/embeddings"):
        return default_reply(call)
    asked = call.json
    texts = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
    data = [{"object": "embedding", "index": i, "embedding": VECTOR} for i in range(len(texts))]
    usage = {"prompt_tokens": 7, "total_tokens": 7}
    answer = {"object": "list", "data": data, "model": asked["model"], "usage": usage}
    return Reply(body=json.dumps(answer).encode())


def on_all(provider: Provider, reply: Callable[[Seen], Reply] = speak) -> None:
    for host in ("talks", "a1", "a2", "b", "rest"):
        provider.on(host, reply)


def configuration(provider: Provider, **app: Any) -> dict[str, Any]:
    """Two hosts of one model, another model, and one that chats only."""
    vectors = {"dialects": ["embeddings"]}
    return {
        "endpoints": [
            endpoint(provider, "talks"),
            endpoint(provider, "a1", model="small", **vectors),
            endpoint(provider, "b", model="large", **vectors),
            endpoint(provider, "a2", model="small", **vectors),
        ],
        "strategies": LEARN,
        "apps": {"default": ROUTED["default"] | app},
    }


@pytest.fixture
def sidecar(provider: Provider, state_dir: Path, address: Address) -> Iterator[Sidecar]:
    on_all(provider)
    with serving(configuration(provider), state_dir, address) as found:
        yield found


def gpt(sidecar: Sidecar) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{sidecar.url}/v1", api_key="any", max_retries=0)


def served(client: openai.OpenAI, model: str, text: str, **headers: str) -> str:
    got = client.embeddings.with_raw_response.create(
        model=model, input=text, encoding_format="float", extra_headers=headers
    )
    assert got.parse().data[0].embedding == VECTOR
    return str(got.headers["x-router-endpoint"])


def test_auto_stays_with_the_hosts_of_one_model_for_good(sidecar: Sidecar) -> None:
    """In learning mode, too, where anything else is drawn: by user, session, strategy and text."""
    with gpt(sidecar) as client:
        found = {
            served(client, model, f"text {i}", **{"x-router-user": f"user {i}"})
            for i in range(40)
            for model in ("auto", "auto:learn")
        }

    assert found <= {"a1", "a2"}


def test_a_named_model_has_its_own_hosts_alone(sidecar: Sidecar) -> None:
    with gpt(sidecar) as client:
        assert {served(client, "large", f"text {i}") for i in range(10)} == {"b"}
        assert {served(client, "small", f"text {i}") for i in range(10)} <= {"a1", "a2"}


@pytest.mark.parametrize("fallback", ["any", "group"])
def test_no_failure_brings_vectors_of_another_model(
    provider: Provider, state_dir: Path, address: Address, fallback: str
) -> None:
    def broken(call: Seen) -> Reply:
        if call.json["model"] == "small":
            return Reply(status=503, body=b'{"error": {"message": "busy"}}')
        return speak(call)

    on_all(provider, broken)
    value = configuration(provider, fallback=fallback, map_models=True)
    with serving(value, state_dir, address) as sidecar, gpt(sidecar) as client:
        for model in ("auto", "small"):
            with pytest.raises(openai.APIStatusError):
                served(client, model, "a text")

    assert {call.json["model"] for call in provider.calls} == {"small"}


def test_a_host_that_fails_is_relieved_by_another_of_its_model(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    failed: list[int] = []

    def once(call: Seen) -> Reply:
        failed.append(1)
        return Reply(status=503) if len(failed) == 1 else speak(call)

    on_all(provider, once)
    with serving(configuration(provider), state_dir, address) as sidecar, gpt(sidecar) as client:
        assert served(client, "auto", "a text") in ("a1", "a2")


def test_what_vectors_cost_is_in_the_books(sidecar: Sidecar, address: Address) -> None:
    with gpt(sidecar) as client:
        served(client, "small", "a text")
        sidecar.until(lambda: sidecar.app.writer.counters.sent == 1)

    (found,) = records(address)
    assert (int(found["tokens_in"]), int(found["tokens_out"])) == (7, 0)
    assert int(found["cost_nano"]) > 0


def test_hints_are_taken_out_and_bytes_pass(sidecar: Sidecar, provider: Provider) -> None:
    body = b'{"input": ["a", "b"], "model": "small", "dimensions": 12345678901234567890}'
    got = httpx.post(f"{sidecar.url}/v1/embeddings", content=body)

    assert got.status_code == 200
    assert provider.calls[-1].body == body
    hinted = {"input": "a", "model": "auto", "router": {"user": "u"}, "encoding_format": "base64"}
    assert httpx.post(f"{sidecar.url}/v1/embeddings", json=hinted).status_code == 200
    assert provider.calls[-1].json == {"input": "a", "model": "small", "encoding_format": "base64"}


def test_where_nobody_makes_vectors_auto_is_refused(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    value = configuration(provider)
    value["endpoints"] = value["endpoints"][:1]
    value["providers"] = {"rest": {"base_url": provider.url("rest"), "passthrough": True}}
    on_all(provider)
    with serving(value, state_dir, address) as sidecar, gpt(sidecar) as client:
        with pytest.raises(openai.APIStatusError) as refused:
            served(client, "auto", "a text")
        assert "not routed" in str(refused.value)
        assert not provider.calls
        client.embeddings.create(model="text-embedding-3-small", input="a", encoding_format="float")

    assert [call.json["model"] for call in provider.calls] == ["text-embedding-3-small"]


@pytest.mark.parametrize("off", [False, True])
def test_a_mode_or_a_switch_changes_no_model(
    provider: Provider, state_dir: Path, address: Address, off: bool
) -> None:
    """Who is pinned gets the pinned model by `auto`, and otherwise the one that he names."""
    on_all(provider)
    value = configuration(provider, mode="pinned", endpoint="b", fallback="any")
    value["providers"] = {"rest": {"base_url": provider.url("rest"), "passthrough": True}}
    with serving(value, state_dir, address) as sidecar, gpt(sidecar) as client:
        sidecar.app.keeper.switch = Switch(off=off)
        assert served(client, "auto", "a text") == "b"
        assert served(client, "small", "a text") in ("a1", "a2")
        assert served(client, "a1", "a text") in ("a1", "a2")
        assert served(client, "other", "a text") == "rest/other"

    assert [call.json["model"] for call in provider.calls] == ["large", "small", "small", "other"]


def test_a_pinned_host_that_fails_brings_no_other_model(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    on_all(provider)
    provider.on("b", Reply(status=500))
    value = configuration(provider, mode="pinned", endpoint="b", fallback="any")
    with serving(value, state_dir, address) as sidecar, gpt(sidecar) as client:
        for model in ("auto", "large", "b"):
            with pytest.raises(openai.APIStatusError):
                served(client, model, "a text")

    assert {call.json["model"] for call in provider.calls} == {"large"}
