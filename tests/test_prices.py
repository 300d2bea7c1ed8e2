"""Prices: as they are written, by default, and what a call is booked with."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import Provider, Reply, answer, chunks, endpoint, event, learning, serving, until

from bandit.evidence import Evidence
from bandit.families import Q, U
from bandit.posterior import Arms, infer
from router.config.compiled import compile_text
from router.dialects.chat_stream import ChatStream
from router.dialects.responses_stream import ResponsesStream
from router.endpoints.catalog import Endpoint
from router.endpoints.default_prices import default_prices
from router.endpoints.health import Health
from router.endpoints.machine_time import MachineTime
from router.endpoints.rates import PriceList, begins
from router.errors import ConfigError
from router.report.costs import list_cost_lines, list_cost_rows
from router.report.views import report_rows
from telemetry.store import Address
from telemetry.wire.chat import read_chat_answer
from telemetry.wire.messages import read_messages_answer
from telemetry.wire.responses import read_response
from telemetry.wire.usage import Usage, usage_of

NOW_S = datetime(2026, 12, 1, tzinfo=UTC).timestamp()
PLAIN = {"input_usd_per_mtok": 2, "output_usd_per_mtok": 10}


def compiled(**more: Any) -> Endpoint:
    one = {"id": "a", "model": "m", "base_url": "http://h/v1", **more}
    return compile_text(yaml.safe_dump({"endpoints": [one]}), file="t.yaml").catalog.endpoints[0]


def prices(value: Any) -> PriceList:
    found = compiled(prices=value).prices
    assert found is not None
    return found


def problems(**more: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        compiled(**more)
    return [f"{p.field}: {p.hint}" for p in caught.value.problems]


def used(tokens_in: int = 0, tokens_out: int = 0, **more: Any) -> Usage:
    counts = {"cached_tokens": 0, "reasoning_tokens": 0, **more}
    return Usage(prompt_tokens=tokens_in, completion_tokens=tokens_out, **counts)


# -- what is written ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "usage", "nano"),
    [
        ({}, used(100, 10), 100 * 2_000 + 10 * 10_000),
        ({}, used(100, 10, cached_tokens=40, written_tokens=30), 100 * 2_000 + 10 * 10_000),
        ({"cached_input_usd_per_mtok": 0.5}, used(100, 0, cached_tokens=40), 60 * 2_000 + 40 * 500),
        ({"cached_input_usd_per_mtok": 0}, used(100, 0, cached_tokens=100), 0),
        ({"cached_input_usd_per_mtok": 0}, used(100, 0, cached_tokens=500), 0),
        (
            {"cache_write_usd_per_mtok": 2.5},
            used(100, 0, cached_tokens=40, written_tokens=50),
            50 * 2_000 + 50 * 2_500,
        ),
        (
            {"cache_write_usd_per_mtok": 2.5, "cache_write_1h_usd_per_mtok": 4},
            used(100, 0, written_tokens=50, written_1h_tokens=20),
            50 * 2_000 + 30 * 2_500 + 20 * 4_000,
        ),
        (
            {"cache_write_usd_per_mtok": 2.5},
            used(100, 0, written_tokens=50, written_1h_tokens=20),
            50 * 2_000 + 50 * 2_500,
        ),
        ({"reasoning_usd_per_mtok": 3}, used(0, 10, reasoning_tokens=4), 6 * 10_000 + 4 * 3_000),
        ({"reasoning_usd_per_mtok": 3}, used(0, 10, reasoning_tokens=40), 10 * 3_000),
    ],
)
def test_each_kind_of_token_has_its_price_or_that_of_what_it_is_part_of(
    more: dict[str, float], usage: Usage, nano: int
) -> None:
    assert prices({**PLAIN, **more}).nano(usage, NOW_S) == nano


def test_the_entry_in_force_is_the_last_that_has_begun_and_days_begin_in_utc() -> None:
    cheap, dear = ({"input_usd_per_mtok": usd, "output_usd_per_mtok": 0} for usd in (1, 3))
    found = prices([cheap, {"from": "2026-12-01", **dear}, {"from": "2027-01-01", **cheap}])

    one = used(1)

    assert found.nano(one, NOW_S - 0.001) == 1_000
    assert found.nano(one, NOW_S) == 3_000
    assert found.nano(one, begins(date(2027, 1, 1)) - 1) == 3_000
    assert found.nano(one, begins(date(2030, 1, 1))) == 1_000
    assert found.begin_within(NOW_S - 5, NOW_S)
    assert not found.begin_within(NOW_S, NOW_S + 5)


def test_before_the_first_dated_entry_that_one_holds() -> None:
    assert prices([{"from": "2030-01-01", **PLAIN}]).nano(used(1), NOW_S) == 2_000


def test_a_long_prompt_makes_all_tokens_of_its_call_dearer() -> None:
    longer = {"above_tokens": 1000, "input_usd_per_mtok": 4, "output_usd_per_mtok": 15}
    longest = {"above_tokens": 9000, "input_usd_per_mtok": 8, "output_usd_per_mtok": 30}
    found = prices({**PLAIN, "long_prompts": [longest, longer]})

    assert found.nano(used(1000, 1), NOW_S) == 1000 * 2_000 + 10_000
    assert found.nano(used(1001, 1), NOW_S) == 1001 * 4_000 + 15_000
    assert found.nano(used(9001, 1), NOW_S) == 9001 * 8_000 + 30_000


def test_the_tier_of_the_answer_goes_before_that_of_the_request() -> None:
    flex = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 5}
    found = prices({**PLAIN, "tiers": {"flex": flex}})

    assert found.nano(used(1), NOW_S) == 2_000
    assert found.nano(used(1, tier="flex"), NOW_S) == 1_000
    assert found.nano(used(1), NOW_S, tier="flex") == 1_000
    assert found.nano(used(1, tier="default"), NOW_S, tier="flex") == 2_000
    assert found.nano(used(1), NOW_S, tier="auto") == 2_000


def test_a_machine_costs_the_time_that_a_call_has_of_it() -> None:
    found = prices({"usd_per_hour": 3.6})

    assert found.nano(used(1000, 1000), NOW_S, machine_s=0.5) == 500_000
    assert found.nano(None, NOW_S, machine_s=0.5) == 500_000
    assert found.nano(used(1000, 1000), NOW_S) is None, "nobody knows how long it had it"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"input_usd_per_mtok": 1}, "prices.output_usd_per_mtok: this field is required"),
        ({"usd_per_hour": 1, "input_usd_per_mtok": 1, "output_usd_per_mtok": 1}, "unknown key"),
        ({"usd_per_hour": -1}, "prices.usd_per_hour: "),
        ([PLAIN, PLAIN], "only the first entry may have no day"),
        ([{"from": "2026-02-01", **PLAIN}, {"from": "2026-01-01", **PLAIN}], "the earliest first"),
        ([{"from": "2026-02-01", **PLAIN}, {"from": "2026-02-01", **PLAIN}], "the earliest first"),
        ({"from": "2026-02-30", **PLAIN}, "prices.from: write a day of the calendar"),
        ({"from": 20260201, **PLAIN}, "prices.from: write a day of the calendar"),
        ({**PLAIN, "tiers": {"Flex Tier": PLAIN}}, "prices.tiers"),
        ([], "the list is empty; name"),
    ],
)
def test_a_price_that_is_none_is_told_once_with_its_place(value: Any, says: str) -> None:
    found = problems(prices=value)

    assert len(found) == 1, found
    assert says in found[0]


# -- what nobody wrote --------------------------------------------------------------------------

OPENAI = "https://api.openai.com/v1"


def test_published_prices_hold_where_none_are_written_and_are_shown_as_such() -> None:
    written = compiled(base_url=OPENAI, model="gpt-4o", prices=PLAIN).prices
    unwritten = compiled(base_url=OPENAI, model="mine", upstream_model="gpt-4o-2024-08-06").prices

    assert written is not None
    assert unwritten is not None
    assert (written.is_declared, unwritten.is_declared) == (True, False)
    assert written.nano(used(1), NOW_S) == 2_000
    usual = unwritten.at(NOW_S).usual.usual
    assert usual.tokens_in > 0
    assert usual.tokens_out > usual.tokens_in > usual.cached
    assert "priority" in unwritten.at(NOW_S).tiers


@pytest.mark.parametrize(
    "base_url",
    [
        "http://127.0.0.1:8000/v1",
        "https://localhost/v1",
        "https://10.0.0.7/v1",
        "http://api.openai.com/v1",
        "https://llm.example.com/v1",
        "https://me--vllm.modal.run/v1",
        "https://api.openai.com.example.com/v1",
    ],
)
def test_whoever_runs_a_model_himself_gets_no_published_price(base_url: str) -> None:
    assert default_prices(base_url, "gpt-4o") is None


def test_a_model_that_is_not_published_has_no_price() -> None:
    assert default_prices(OPENAI, "ft:nobody-knows-this-one") is None


def test_published_prices_agree_with_what_their_own_library_works_out() -> None:
    from genai_prices import Usage as TheirUsage
    from genai_prices import calc_price

    models = ("gpt-4o", "gpt-5", "o4-mini", "gpt-4.1")
    others = ("claude-sonnet-4-6", "claude-haiku-4-5", "claude-haiku-5-5")
    asked = [(OPENAI, model) for model in models]
    asked += [("https://api.anthropic.com/v1", model) for model in others]
    for base_url, model in asked:
        ours = default_prices(base_url, model)
        assert ours is not None, model
        for n_in, tier, year in ((1_000, None, 2026), (250_000, None, 2026), (1_000, "flex", 2026)):
            at = datetime(year, 11, 20, tzinfo=UTC)
            theirs = calc_price(
                TheirUsage(
                    input_tokens=n_in,
                    cache_read_tokens=100,
                    cache_write_tokens=50,
                    cache_write_1h_tokens=20,
                    output_tokens=70,
                ),
                model,
                provider_api_url=base_url,
                genai_request_timestamp=at,
                price_context={"service_tier": tier} if tier else None,
            )
            usage = used(n_in, 70, cached_tokens=100, written_tokens=50, written_1h_tokens=20)
            nano = ours.nano(usage, at.timestamp(), tier=tier)
            assert nano == pytest.approx(float(theirs.total_price) * 1e9, abs=1), (model, n_in)


def test_published_prices_ask_no_network_and_are_not_loaded_where_nobody_needs_them() -> None:
    code = """
import socket, sys
def refuse(*_):
    raise AssertionError("it connects")
socket.socket.connect = socket.getaddrinfo = refuse
from router.config.compiled import compile_text
def load(url):
    compile_text(f"endpoints: [{{id: a, model: gpt-4o, base_url: {url}}}]", file="t")
    return "genai_prices" in sys.modules
assert not load("http://127.0.0.1:1/v1")
assert load("https://api.openai.com/v1")
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# -- what is believed and booked ----------------------------------------------------------------


def test_what_is_believed_goes_by_the_price_in_force_and_by_none_under_a_subscription() -> None:
    both = [
        {**PLAIN, "from": "2020-01-01"},
        {"from": "2999-01-01", **PLAIN, "input_usd_per_mtok": 9},
    ]
    listed = [
        {"id": "dated", "model": "m", "base_url": "http://h/v1", "prices": both},
        {"id": "paid", "model": "m", "base_url": "http://h/v1", "prices": PLAIN},
        {"id": "unsaid", "model": "m", "base_url": "http://h/v1"},
        {"id": "hour", "model": "m", "base_url": "http://h/v1", "prices": {"usd_per_hour": 36}},
    ]
    listed[1]["billing"] = "subscription"

    arms = compile_text(yaml.safe_dump({"endpoints": listed}), file="t").catalog.arms

    np.testing.assert_array_equal(arms.input_usd_per_mtok, [2, 0, np.nan, 0])
    np.testing.assert_array_equal(arms.output_usd_per_mtok, [10, 0, np.nan, 0])
    np.testing.assert_allclose(arms.machine_usd_per_s, [0, 0, 0, 0.01])


def test_a_machine_costs_what_its_books_say_and_at_first_a_second_of_its_own() -> None:
    evidence = Evidence.empty(1, 3)
    evidence.usage[0, 1, [U.CALLS, U.PRICED, U.COST_NANO]] = (997, 997, 997 * 2e6)
    each, zero = np.arange(3), np.zeros(3)
    arms = Arms(each, each, zero, zero, machine_usd_per_s=np.array([0.01, 0.01, 0.0]))

    found = infer(evidence, arms).cost_usd[0]

    np.testing.assert_allclose(found, [0.01, (997 * 0.002 + 3 * 0.01) / 1000, 0])


def test_settings_of_one_model_start_from_what_the_first_has_shown() -> None:
    low, high = ({"reasoning_effort": effort} for effort in ("low", "high"))
    listed = [
        {"id": "low", "model": "m", "base_url": "http://h/v1", "params": low},
        {"id": "high", "model": "m", "base_url": "http://h/v1", "params": high},
        {"id": "other", "model": "n", "base_url": "http://h/v1"},
        {"id": "known", "model": "k", "base_url": "http://h/v1"},
    ]
    arms = compile_text(yaml.safe_dump({"endpoints": listed}), file="t").catalog.arms
    evidence = Evidence.empty(1, 4)
    for arm, mean in ((0, 0.9), (3, 0.5)):
        evidence.quality[0, arm, [Q.LABELS, Q.N, Q.R, Q.R2]] = (400, 400, 400 * mean, 400 * mean)

    mean = infer(evidence, arms).quality.mean[0]

    assert mean[1] - mean[2] > 0.05, "the second setting is believed in by the first's labels"


ANSWER = json.loads(answer())


def with_tier(tier: str | None, **usage: Any) -> bytes:
    said = {**ANSWER, "usage": {"prompt_tokens": 10, "completion_tokens": 5, **usage}}
    return json.dumps(said | ({"service_tier": tier} if tier else {})).encode()


def spent_usd(sidecar: Any, name: str) -> float:
    return float(sidecar.app.metrics.cost_usd[name])


FLEX = {"flex": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}}


@pytest.mark.parametrize(
    ("asked", "answered", "nano"),
    [
        ({}, None, 70_000),
        ({"service_tier": "flex"}, None, 15_000),
        ({"service_tier": "flex"}, "flex", 15_000),
        ({"service_tier": "flex"}, "default", 70_000),
        ({}, "flex", 15_000),
        ({"service_tier": "flex", "stream": True}, "default", 70_000),
        ({"stream": True}, "flex", 15_000),
    ],
)
def test_a_call_is_booked_at_the_tier_that_served_it(
    asked: dict[str, Any],
    answered: str | None,
    nano: int,
    provider: Provider,
    state_dir: Path,
    address: Address,
) -> None:
    if asked.get("stream"):
        said = [json.loads(c[6:]) for c in chunks("hi", usage=True)[:-1]]
        provider.on("a", Reply(chunks=[event({**s, "service_tier": answered}) for s in said]))
        expected = provider.replies["a"](None)  # type: ignore[arg-type]
        expected.chunks.append(b"data: [DONE]\n\n")
    else:
        provider.on("a", Reply(body=with_tier(answered)))
    value = {"endpoints": [endpoint(provider, "a", prices={**PLAIN, "tiers": FLEX})]}
    with serving(value, state_dir, address) as sidecar:
        assert sidecar.chat("a", **asked).status_code == 200
        until(lambda: spent_usd(sidecar, "a") > 0)

        assert spent_usd(sidecar, "a") == pytest.approx(nano / 1e9)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "asks"),
    [
        ("/v1/messages", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}),
        ("/v1/completions", {"prompt": "hi"}),
    ],
)
def test_calls_of_other_dialects_are_booked_at_the_tier_that_served_them(
    path: str,
    asks: dict[str, Any],
    stream: bool,
    provider: Provider,
    state_dir: Path,
    address: Address,
) -> None:
    """One is translated, the other is spoken; both ways usage and tier are read off the answer."""
    used = {"prompt_tokens": 10, "completion_tokens": 5}
    said = json.loads(with_tier("flex", **used))
    if path == "/v1/completions":
        said["choices"] = [{"index": 0, "text": "hi", "finish_reason": "stop"}]
    reply = Reply(body=json.dumps(said).encode())
    if stream and path == "/v1/completions":
        reply = Reply(chunks=[event(said), b"data: [DONE]\n\n"])
    elif stream:
        parts = [json.loads(c[6:]) for c in chunks("hi", usage=True)[:-1]]
        events = [event({**part, "service_tier": "flex"}) for part in parts]
        reply = Reply(chunks=[*events, b"data: [DONE]\n\n"])
    provider.on("a", reply)
    more = {"dialects": ["chat", "completions"], "translate": {"from": ["messages"]}}
    listed = endpoint(provider, "a", prices={**PLAIN, "tiers": FLEX}, **more)
    with serving({"endpoints": [listed]}, state_dir, address) as sidecar:
        got = sidecar.http.post(path, json={"model": "a", "stream": stream, **asks})
        assert got.status_code == 200, got.text
        until(lambda: spent_usd(sidecar, "a") > 0)

        assert spent_usd(sidecar, "a") == pytest.approx(15e-6)


def test_settings_of_an_endpoint_ask_for_a_tier_as_callers_do(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    more = {"params": {"service_tier": "flex"}, "prices": {**PLAIN, "tiers": FLEX}}
    value = {"endpoints": [endpoint(provider, "a", **more)]}
    with serving(value, state_dir, address) as sidecar:
        sidecar.chat("a")

        assert spent_usd(sidecar, "a") == pytest.approx(15e-6)


def test_under_a_subscription_calls_cost_nothing_until_it_says_that_nothing_is_left(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    left = iter(["1", "0", "0"])

    def reply(_: object) -> Reply:
        headers = {"x-ratelimit-remaining-requests": next(left)}
        headers["x-ratelimit-reset-requests"] = "5h0m0s"
        return Reply(body=with_tier(None), headers=headers)

    provider.on("a", reply)
    value = {"endpoints": [endpoint(provider, "a", prices=PLAIN, billing="subscription")]}
    with serving(value, state_dir, address) as sidecar:
        costs = []
        for _ in range(3):
            sidecar.chat("a")
            costs.append(spent_usd(sidecar, "a"))

    assert costs == [0.0, 0.0, pytest.approx(70e-6)], "the second was within, the third is beyond"


def test_what_is_left_is_known_for_as_long_as_the_endpoint_said() -> None:
    health = Health()
    headers = [(b"x-ratelimit-remaining-tokens", b"0"), (b"x-ratelimit-reset-tokens", b"5h")]
    health.note_headers(1, headers, 100.0, now_s=0.0)

    assert not health.had_headroom(1, 100.0 + 4 * 3600)
    assert health.had_headroom(1, 100.0 + 5 * 3600)
    assert health.had_headroom(2, 100.0)


def test_calls_at_once_share_the_machine_that_they_are_made_at(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", Reply(body=with_tier(None), delay_s=0.3))
    value = {"endpoints": [endpoint(provider, "a", prices={"usd_per_hour": 3600})]}
    with serving(value, state_dir, address) as sidecar, ThreadPoolExecutor(4) as pool:
        began = time.monotonic()
        list(pool.map(lambda _: sidecar.chat("a"), range(4)))
        took_s = time.monotonic() - began

        assert 0.29 < spent_usd(sidecar, "a") <= took_s, "a dollar a second, however many"


def test_the_shares_of_a_machine_add_up_to_the_time_in_which_it_was_busy() -> None:
    machines = MachineTime()
    first = machines.begin(1, 10.0)
    second = machines.begin(1, 12.0)

    assert machines.end(1, 16.0, first) == 2 + 4 / 2
    assert machines.end(1, 17.0, second) == 4 / 2 + 1
    third = machines.begin(1, 100.0)
    assert machines.end(1, 101.0, third) == 1, "nobody pays for the pause"


def test_the_list_value_of_what_a_subscription_served_is_shown_apart(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", Reply(body=with_tier(None)))
    paid = endpoint(provider, "a", prices=PLAIN, billing="subscription")
    value = {"endpoints": [paid, endpoint(provider, "b")]}
    with serving(value, state_dir, address) as sidecar, learning(state_dir, address):
        sidecar.chat("a")
        sidecar.chat("b")
        sidecar.until(lambda: sidecar.calls_known() == 2)
        beliefs = sidecar.app.keeper.current
        rows, known = list_cost_rows(beliefs, NOW_S), report_rows(beliefs, "quality")

    assert [row["endpoint"] for row in rows] == ["a"]
    assert rows[0]["list_cost_usd"] == pytest.approx(70e-6)
    assert {row.endpoint: row.cost_usd for row in known}["a"] == 0.0
    assert list_cost_lines(rows) == [
        "a is paid by subscription; by list a call would cost 7e-05 USD, all 1 of them 0.00"
    ]


# -- what answers say ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "tier", "usage"),
    [
        (
            {
                "input_tokens": 10,
                "cache_creation_input_tokens": 30,
                "cache_read_input_tokens": 20,
                "cache_creation": {
                    "ephemeral_5m_input_tokens": 10,
                    "ephemeral_1h_input_tokens": 20,
                },
                "output_tokens": 5,
                "service_tier": "priority",
            },
            None,
            Usage(60, 5, 20, 0, 30, 20, "priority"),
        ),
        ({"prompt_tokens": 10, "completion_tokens": 5}, "flex", Usage(10, 5, 0, 0, 0, 0, "flex")),
        ({"prompt_tokens": 10, "completion_tokens": 5}, 7, Usage(10, 5, 0, 0)),
        ({"prompt_tokens": 10, "completion_tokens": 5}, "x" * 33, Usage(10, 5, 0, 0)),
        (
            {"prompt_tokens": 10, "prompt_tokens_details": {"cache_write_tokens": 99}},
            None,
            Usage(10, 0, 0, 0, 10),
        ),
        ({"input_tokens": 10, "cache_creation": 5, "service_tier": {}}, None, Usage(10, 0, 0, 0)),
    ],
)
def test_an_answer_says_what_was_written_to_a_cache_and_who_served(
    value: dict[str, Any], tier: Any, usage: Usage
) -> None:
    assert usage_of(value, tier) == usage


@pytest.mark.parametrize(
    ("read", "answer_of"),
    [
        (read_chat_answer, {"choices": [{"message": {"content": "x"}}], "service_tier": "flex"}),
        (read_response, {"output": [], "service_tier": "flex"}),
        (read_messages_answer, {"content": []}),
    ],
)
def test_the_tier_is_read_where_each_dialect_says_it(read: Any, answer_of: dict[str, Any]) -> None:
    used = {"input_tokens": 3, "output_tokens": 1, "prompt_tokens": 3}
    if "service_tier" not in answer_of:
        used["service_tier"] = "flex"  # type: ignore[assignment]

    found = read(json.dumps({"id": "x", **answer_of, "usage": used}).encode())

    assert found.usage.tier == "flex"


def test_the_tier_of_a_stream_is_read_off_its_last_event_or_off_any_chunk() -> None:
    whole = {"id": "r", "output": [], "service_tier": "flex", "usage": {"input_tokens": 3}}
    responses, chat = ResponsesStream(), ChatStream(hide_usage=False)

    responses.feed(event({"type": "response.completed", "response": whole}))
    chat.feed(event({"id": "c", "choices": [], "service_tier": "flex"}))
    chat.feed(event({"id": "c", "choices": [], "usage": {"prompt_tokens": 3}}))

    assert [s.usage.tier for s in (responses, chat) if s.usage] == ["flex", "flex"]
