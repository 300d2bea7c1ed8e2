"""What a live check is said to cost at most is more than it can cost."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from router.config.compiled import compile_text
from router.endpoints.catalog import Endpoint
from router.profiling.live_prices import most_calls, most_nano, spent_nano
from router.profiling.money import estimated_usd
from telemetry.wire.usage import Usage

AT_S = 1_800_000_000.0  # 2027-01-15
PRICES = {"input_usd_per_mtok": 0, "output_usd_per_mtok": 100}
PRIORITY = {"priority": {**PRICES, "output_usd_per_mtok": 200}}
FLEX = {"flex": {**PRICES, "output_usd_per_mtok": 50}}
NEXT = {**PRICES, "output_usd_per_mtok": 300, "from": "2027-01-16"}
WRITTEN = 16 + 200 + 200 + 2 * 2048
"""Tokens of five calls, the dearest twice."""


def one(prices: Any = PRICES, **more: Any) -> Endpoint:
    entry = {"id": "a", "model": "m", "base_url": "http://h/v1", "prices": prices, **more}
    return compile_text(yaml.safe_dump({"endpoints": [entry]}), file="a").catalog.endpoints[0]


@pytest.mark.parametrize(
    ("prices", "params", "usd"),
    [
        (PRICES, {}, WRITTEN * 100e-6),
        (PRICES, {"max_tokens": 100_000}, 5 * 100_000 * 100e-6),
        (PRICES, {"max_tokens": 100_000, "n": 8}, 5 * 8 * 100_000 * 100e-6),
        (PRICES, {"max_completion_tokens": 100_000}, 5 * 100_000 * 100e-6),
        (PRICES, {"max_completion_tokens": 5, "n": 2}, 2 * WRITTEN * 100e-6),
        (PRICES, {"max_tokens": 5}, 5 * 5 * 100e-6),
        ({**PRICES, "reasoning_usd_per_mtok": 500}, {}, WRITTEN * 500e-6),
        ({**PRICES, "reasoning_usd_per_mtok": 1}, {}, WRITTEN * 100e-6),
        ({**PRICES, "tiers": PRIORITY}, {"service_tier": "priority"}, WRITTEN * 200e-6),
        ({**PRICES, "tiers": PRIORITY}, {}, WRITTEN * 200e-6),
        ({**PRICES, "tiers": FLEX}, {"service_tier": "flex"}, WRITTEN * 100e-6),
        ({"usd_per_hour": 3600}, {}, 5 * 60.0),
    ],
)
def test_it_is_bound_by_params_tiers_thoughts_and_hours(
    prices: Any, params: dict[str, Any], usd: float
) -> None:
    found = most_nano(one(prices, params=params), AT_S, answer_s=60.0)
    assert found is not None
    assert found / 1e9 == pytest.approx(usd)


def test_prices_of_soon_count_and_those_of_later_do_not() -> None:
    day_s = 1_800_057_600.0  # NEXT
    found = one([PRICES, NEXT])
    for before_s, usd in ((60.0, 300e-6), (7200.0, 100e-6)):
        nano = most_nano(found, day_s - before_s, answer_s=60.0)
        assert nano is not None
        assert nano / 1e9 == pytest.approx(WRITTEN * usd)


def test_what_is_read_costs_at_most_what_writing_it_to_a_cache_does() -> None:
    dear = {**PRICES, "output_usd_per_mtok": 0, "cache_write_1h_usd_per_mtok": 10}
    assert most_nano(one(dear), AT_S, answer_s=60.0) == (20 + 3 * 120 + 40) * 10_000


def test_without_a_limit_there_is_no_bound_but_what_the_endpoint_can_write() -> None:
    free = {"max_tokens": None}
    assert most_nano(one(params=free), AT_S, answer_s=60.0) is None
    nano = most_nano(one(params=free, output_tokens=1000), AT_S, answer_s=60.0)
    assert nano == 5 * 1000 * 100_000
    assert most_nano(one(None), AT_S, answer_s=60.0) is None
    assert most_nano(one(billing="subscription"), AT_S, answer_s=60.0) == 0


def test_who_makes_vectors_is_called_once_and_once_more() -> None:
    vectors = one({**PRICES, "input_usd_per_mtok": 1}, dialects=["embeddings"])
    assert most_calls(vectors) == 2
    assert most_nano(vectors, AT_S, answer_s=60.0) == 2 * 20 * 1000


def test_an_answer_costs_what_its_tier_and_its_time_do() -> None:
    usage = Usage(0, 1000, 0, 0)
    tiered = one({**PRICES, "tiers": PRIORITY}, params={"service_tier": "priority"})
    assert spent_nano(tiered, usage, AT_S, seconds=3.0) == 1000 * 200_000
    assert spent_nano(one({"usd_per_hour": 3600}), None, AT_S, seconds=3.0) == 3_000_000_000
    assert spent_nano(one(), None, AT_S, seconds=3.0) is None


@pytest.mark.parametrize(
    ("prices", "params", "usd"),
    [
        (PRICES, {}, 100e-6 * 500),
        (PRICES, {"max_tokens": 100_000, "n": 2}, 100e-6 * 200_000),
        (PRICES, {"max_tokens": 5}, 100e-6 * 500),
        ({**PRICES, "reasoning_usd_per_mtok": 500}, {}, 500e-6 * 500),
        ({**PRICES, "tiers": PRIORITY}, {"service_tier": "priority"}, 200e-6 * 500),
    ],
)
def test_a_profile_sets_aside_what_params_ask_for(
    prices: Any, params: dict[str, Any], usd: float
) -> None:
    assert estimated_usd(one(prices, params=params), 10, 500, at_s=AT_S) == pytest.approx(usd)
