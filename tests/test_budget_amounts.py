"""What a call may come to at most, and what most calls come to."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import yaml

from bandit import cells
from router.beliefs.beliefs import believe
from router.budgets.amounts import (
    ADDED_TOKENS,
    TOOLS_ADDED_TOKENS,
    asked_of,
    most_nano_at,
    most_tokens_at,
    no_bound,
    usual_nano,
    usual_tokens,
)
from router.config.compiled import compile_text
from router.dialects.parsers import PARSERS
from router.endpoints.catalog import Endpoint

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
PLAIN = {"input_usd_per_mtok": 3, "output_usd_per_mtok": 15}
NOW_S = 1.79e9


def endpoint(**more: Any) -> Endpoint:
    one = {"id": "a", "model": "m", "base_url": "http://h/v1", "prices": PLAIN, **more}
    dialects = ["chat", "messages", "responses", "embeddings", "completions"]
    text = yaml.safe_dump({"endpoints": [{"dialects": dialects, **one}]})
    return compile_text(text, file="t.yaml").catalog.endpoints[0]


def most(body: dict[str, Any], path: str = "chat/completions", **of: Any) -> tuple[float, float]:
    request = PARSERS[f"/v1/{path}"](json.dumps(body).encode())
    found = most_tokens_at(asked_of(request), endpoint(**of))
    return found.tokens_in, found.tokens_out


def size(body: dict[str, Any]) -> int:
    return len(json.dumps(body)) + ADDED_TOKENS


def test_a_prompt_has_a_token_a_byte_and_answers_what_was_asked_for() -> None:
    body = {**CHAT, "max_tokens": 50, "n": 3}

    assert most(body) == (size(body), 150)
    assert most(body, context_tokens=100) == (100, 150)  # no prompt is longer


@pytest.mark.parametrize(
    ("of", "tokens_out"),
    [
        ({"output_tokens": 4000}, 4000),
        ({"context_tokens": 9000}, 9000),
        ({}, math.inf),
        ({"params": {"max_tokens": 70}}, 70),
        ({"params": {"max_tokens": 70, "n": 2}}, 140),
    ],
)
def test_a_call_that_sets_no_limit_writes_what_the_model_or_its_endpoint_allows(
    of: dict[str, Any], tokens_out: float
) -> None:
    assert most(CHAT, **of)[1] == tokens_out


@pytest.mark.parametrize(
    ("said", "tokens_out"),
    [
        ({"max_tokens": -1}, 9000),
        ({"max_tokens": 0}, 9000),
        ({"max_tokens": "no"}, 9000),
        ({"max_tokens": 1.5}, 9000),
        ({"max_tokens": True}, 9000),
        ({"max_tokens": -1, "max_completion_tokens": 5}, 9000),
        ({"max_tokens": None, "max_completion_tokens": 5}, 5),
        ({"max_tokens": 4000, "max_completion_tokens": 1}, 4000),
        ({"max_tokens": "40"}, 40),
        ({"max_tokens": 10, "n": "4"}, 40),
        ({"max_tokens": 10, "n": 4.0}, 40),
        ({"max_tokens": 10, "n": None}, 10),
        ({"max_tokens": 10, "n": "four"}, math.inf),
        ({"max_tokens": 10, "n": 10**30}, math.inf),
        ({"max_tokens": 10, "n": -1}, math.inf),
        ({"max_tokens": 10, "n": [2]}, math.inf),
    ],
)
def test_what_is_no_plain_limit_is_none_and_the_larger_of_two_counts(
    said: dict[str, Any], tokens_out: float
) -> None:
    assert most({**CHAT, **said}, context_tokens=100_000, output_tokens=9000)[1] == tokens_out


@pytest.mark.parametrize(
    ("body", "tokens_out"),
    [
        (b'{"model":"m","messages":[{}],"max_tokens":4000,"max_tokens":1}', 4000),
        (b'{"model":"m","messages":[{}],"max_tokens":1,"max_tokens":4000}', 4000),
        (b'{"model":"m","messages":[{}],"max_tokens":4000,"max_t\\u006fkens":1}', 4000),
        (b'{"model":"m", "messages": [{}], "max_tokens":1, "max_tokens": -1}', 9000),
        (b'{"model":"m","messages":[{}],"max_tokens":1,"n":3,"n":1}', 3),
        (b'{"model":"other","model":"m","messages":[{}],"max_tokens":1}', math.inf),
        (b'{"model":"m","messages":[{"n":1},{"n":2}],"max_tokens":1}', 1),
        (b' { "model":"m" , "messages":[{}] , "max_tokens" : 1 } ', 1),
    ],
)
def test_of_a_field_that_stands_twice_the_larger_counts_or_nothing_is_known(
    body: bytes, tokens_out: float
) -> None:
    request = PARSERS["/v1/chat/completions"](body)
    end = endpoint(context_tokens=100_000, output_tokens=9000)

    assert most_tokens_at(asked_of(request), end).tokens_out == tokens_out


IMAGE = {"type": "image_url", "image_url": {"url": "https://h/i.png"}}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("chat/completions", {**CHAT, "messages": [{"role": "user", "content": [IMAGE]}]}),
        ("responses", {"model": "m", "input": "x", "previous_response_id": "resp_1"}),
        ("responses", {"model": "m", "input": [{"type": "item_reference", "id": "msg_1"}]}),
    ],
)
def test_what_is_not_in_the_body_may_fill_the_context(path: str, body: dict[str, Any]) -> None:
    assert most(body, path)[0] == math.inf
    assert most(body, path, context_tokens=9000)[0] == 9000


def test_tools_are_told_of_in_words_of_the_provider() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    body = {**CHAT, "tools": [tool]}

    assert most(body)[0] == size(body) + TOOLS_ADDED_TOKENS


def test_vectors_write_nothing_and_many_prompts_fill_no_one_context() -> None:
    vectors = {"model": "m", "input": ["x" * 500] * 4}
    texts = {"model": "m", "prompt": ["x" * 500, "y"], "max_tokens": 5, "best_of": 2}

    assert most(vectors, "embeddings", context_tokens=100) == (size(vectors), 0)
    assert most(texts, "completions", context_tokens=100) == (size(texts), 20)


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"store": True}, None),
        ({"conversation": "conv_1"}, None),
        ({"background": True}, "background"),
        ({"tools": [{"type": "web_search"}]}, "web_search"),
        ({"tools": [{"type": "mcp", "server_url": "https://h"}]}, "mcp"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
    ],
)
def test_what_a_provider_does_by_itself_has_no_bound(
    more: dict[str, Any], what: str | None
) -> None:
    request = PARSERS["/v1/responses"](json.dumps({"model": "m", "input": "x", **more}).encode())

    assert no_bound(request.keeping) == what


def nano(prices: Any, *, bytes_in: int = 1000, **of: Any) -> float:
    body = {**CHAT, "max_tokens": 10}
    body["messages"] = [{"role": "user", "content": "x" * (bytes_in - size(body) + 5)}]
    request = PARSERS["/v1/chat/completions"](json.dumps(body).encode())
    at = endpoint(prices=prices, **of)
    tokens = most_tokens_at(asked_of(request), at)
    assert tokens.tokens_in == bytes_in
    return most_nano_at(tokens, at, at_s=NOW_S)


def test_the_dearest_rates_count_that_may_apply() -> None:
    priority = {"tiers": {"priority": {"input_usd_per_mtok": 6, "output_usd_per_mtok": 30}}}
    cached = {"cache_write_usd_per_mtok": 3.75, "cache_write_1h_usd_per_mtok": 6}
    longer = {"long_prompts": [{"above_tokens": 900, **PLAIN, "input_usd_per_mtok": 7}]}
    thought = {"reasoning_usd_per_mtok": 40}

    assert nano(PLAIN) == 1000 * 3000 + 10 * 15_000
    assert nano({**PLAIN, **priority}) == 1000 * 6000 + 10 * 30_000
    assert nano({**PLAIN, **cached}) == 1000 * 6000 + 10 * 15_000
    assert nano({**PLAIN, **longer}) == 1000 * 7000 + 10 * 15_000
    assert nano({**PLAIN, **longer}, bytes_in=900) == 900 * 3000 + 10 * 15_000
    assert nano({**PLAIN, **thought}) == 1000 * 3000 + 10 * 40_000


def test_prices_hold_from_their_day_on() -> None:
    dear = {**PLAIN, "from": "2100-01-01", "input_usd_per_mtok": 100}

    assert nano([PLAIN, dear]) == nano(PLAIN)


def test_what_has_no_price_has_no_bound_and_what_costs_nothing_needs_none() -> None:
    free = {"input_usd_per_mtok": 0, "output_usd_per_mtok": 0}
    unbound = asked_of(PARSERS["/v1/chat/completions"](json.dumps(CHAT).encode()))

    assert nano({"usd_per_hour": 2}) == math.inf
    assert nano({"usd_per_hour": 0}) == 0
    for at, expected in ((endpoint(prices=free), 0), (endpoint(), math.inf)):
        tokens = most_tokens_at(unbound, at)
        assert not tokens.is_bound
        assert most_nano_at(tokens, at, at_s=NOW_S) == expected


def test_what_most_calls_come_to_follows_what_they_came_to() -> None:
    at = endpoint()
    text = yaml.safe_dump(
        {"endpoints": [{"id": "a", "model": "m", "base_url": "http://h/v1", "prices": PLAIN}]}
    )
    beliefs = believe(compile_text(text, file="t.yaml"), cells.merge([]), version=0, now_ms=1)
    posterior, task = beliefs.place(0)
    factor = math.exp(1.6449 - 0.5)  # of nobody's calls: ln of tokens has sd 1

    assert usual_nano(posterior, task, at) == pytest.approx(
        posterior.cost_usd[task, 0] * factor * 1e9
    )
    assert usual_tokens(posterior, task, at) == pytest.approx(700 * factor)
    two = [{"id": n, "model": n, "base_url": "http://h/v1"} for n in ("a", "b")]
    text = yaml.safe_dump({"endpoints": [{**two[0], "prices": PLAIN}, two[1]]})
    beliefs = believe(compile_text(text, file="t.yaml"), cells.merge([]), version=0, now_ms=1)
    ends, (posterior, task) = beliefs.configuration.catalog.endpoints, beliefs.place(0)
    assert ends[1].prices is None
    assert usual_nano(posterior, task, ends[1]) == usual_nano(posterior, task, ends[0]) > 0
    assert np.all(posterior.cost_q95_usd > posterior.cost_bound_usd)
