"""A text goes where it fits, as far as answered calls have shown how long texts are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import LEARN, Provider, Reply, Seen, Sidecar, answer, endpoint, serving
from hypothesis import given
from hypothesis import strategies as st

from router.endpoints.token_sizes import (
    ENOUGH_CALLS,
    LAST_CALLS,
    LEAST_BYTES,
    LEAST_TOKENS,
    MARGIN,
    UNKNOWN_BYTES,
    TokenSizes,
)
from telemetry.store import Address

WORDS = {"8k": 8192, "128k": 131_072}


def counting(limit: int, *, tokens_per_word: float = 1.25) -> Callable[[Seen], Reply]:
    """A model that counts words, and refuses what is over its context as OpenAI does."""

    def reply(call: Seen) -> Reply:
        parts = [m["content"] for m in call.json["messages"]]
        text = " ".join(p if isinstance(p, str) else p[0]["text"] for p in parts)
        tokens = int(len(text.split()) * tokens_per_word)
        if tokens > limit:
            error = {"code": "context_length_exceeded", "message": f"{tokens} tokens"}
            return Reply(status=400, body=json.dumps({"error": error}).encode())
        body = json.loads(answer())
        body["usage"] = {
            "prompt_tokens": tokens,
            "completion_tokens": 5,
            "total_tokens": tokens + 5,
        }
        return Reply(body=json.dumps(body).encode())

    return reply


def entries(provider: Provider, *names: str, mode: str = "route", **app: Any) -> dict[str, Any]:
    for name, limit in WORDS.items():
        provider.on(name, counting(limit))
    return {
        "models": {name: {"context_tokens": limit} for name, limit in WORDS.items()},
        "endpoints": [endpoint(provider, name) for name in names],
        "strategies": LEARN,
        "apps": {"default": {"mode": mode, "strategy": "learn", "unit": "call", **app}},
    }


def words(n: int) -> str:
    return "word " * n


def learn(sidecar: Sidecar, model: str, n: int = 2 * ENOUGH_CALLS) -> None:
    for i in range(n):
        assert sidecar.chat(model, words(200 + i)).status_code == 200


def long_hosts(provider: Provider) -> list[str]:
    return [call.host for call in provider.calls if len(call.body) > 40_000]


def test_what_surely_does_not_fit_is_not_sent(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with serving(entries(provider, "8k", "128k"), state_dir, address) as sidecar:
        learn(sidecar, "8k")
        replies = [sidecar.chat("auto", words(9631)) for _ in range(10)]
        dry = sidecar.http.post(
            "/v1/router/decide",
            json={"model": "auto", "messages": [{"role": "user", "content": words(9631)}]},
        ).json()
        short = {sidecar.chat("auto").headers["x-router-endpoint"] for _ in range(30)}

    assert {r.status_code for r in replies} == {200}
    assert long_hosts(provider) == ["128k"] * 10
    assert dry["exclusions"] == {"8k": "context"}
    assert short == {"8k", "128k"}


def test_until_it_is_known_a_refusal_goes_on_to_a_longer_context(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with serving(entries(provider, "8k", "128k"), state_dir, address) as sidecar:
        replies = [sidecar.chat("auto", words(9631)) for _ in range(20)]

    assert {r.status_code for r in replies} == {200}
    assert {r.headers["x-router-endpoint"] for r in replies} == {"128k"}
    assert "8k" in long_hosts(provider)


def test_what_is_wanted_as_answer_counts(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with serving(entries(provider, "8k", "128k"), state_dir, address) as sidecar:
        learn(sidecar, "8k")
        provider.calls.clear()
        for _ in range(10):
            assert sidecar.chat("auto", words(5500), max_tokens=3000).status_code == 200

    assert set(provider.hosts()) == {"128k"}


@pytest.mark.parametrize("model", ["auto", "8k"])
@pytest.mark.parametrize("mode", ["observe", "route"])
def test_an_estimate_alone_refuses_no_call(
    model: str, mode: str, provider: Provider, state_dir: Path, address: Address
) -> None:
    """Where it leaves nobody, whoever takes the longest text is asked, and speaks for itself."""
    with serving(entries(provider, "8k", mode=mode), state_dir, address) as sidecar:
        learn(sidecar, "8k")
        provider.on("8k", counting(8192, tokens_per_word=0.1))  # another tokenizer

        assert sidecar.chat(model, words(9631)).status_code == 200


def test_pictures_teach_nothing_about_text(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    message = {"role": "user", "content": [{"type": "text", "text": words(100)}, picture]}
    with serving(entries(provider, "8k", "128k"), state_dir, address) as sidecar:
        for name in WORDS:
            provider.on(name, counting(10**9, tokens_per_word=100))
        for _ in range(2 * ENOUGH_CALLS):
            assert sidecar.chat("8k", messages=[message]).status_code == 200

        assert sidecar.app.routes._services.decider.contexts.sizes.least == UNKNOWN_BYTES


# -- the estimate ---------------------------------------------------------------------------------


def test_nothing_is_believed_of_few_calls_or_of_short_ones() -> None:
    sizes = TokenSizes()
    for _ in range(ENOUGH_CALLS - 1):
        sizes.learn(1, 400, LEAST_TOKENS)
    for _ in range(100):
        sizes.learn(2, 4, LEAST_TOKENS - 1)

    assert sizes.bytes_per_token(1) == sizes.bytes_per_token(2) == sizes.least == UNKNOWN_BYTES


def test_a_provider_that_adds_to_prompts_leaves_the_estimate_sane() -> None:
    sizes = TokenSizes()
    for _ in range(ENOUGH_CALLS):
        sizes.learn(1, 400, 2000)

    assert sizes.bytes_per_token(1) == MARGIN * LEAST_BYTES


@given(st.lists(st.integers(200, 900), min_size=1, max_size=4 * LAST_CALLS))
def test_the_estimate_is_the_most_that_the_last_calls_took(text_bytes: list[int]) -> None:
    sizes = TokenSizes()
    for n in text_bytes:
        sizes.learn(1, n, 100)

    known = len(text_bytes) >= ENOUGH_CALLS
    most = MARGIN * max(max(text_bytes[-LAST_CALLS:]) / 100, LEAST_BYTES)
    assert sizes.bytes_per_token(1) == (pytest.approx(most) if known else UNKNOWN_BYTES)
    assert sizes.least == pytest.approx(min(UNKNOWN_BYTES, sizes.bytes_per_token(1)))
