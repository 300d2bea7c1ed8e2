"""Limits of strategies: soft ones give way in order and are told, hard ones hold in every way."""

from __future__ import annotations

import time
from collections import Counter
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from conftest import LEARN, Provider, Reply, Sidecar, endpoint, learning, serving
from rich.console import Console

from bandit.cells import merge
from bandit.draws import LEARNING
from bandit.limits import Limit, Limits
from router.beliefs.beliefs import believe
from router.commands.explain import show
from router.config.compiled import Configuration, compile_text
from router.decision.limiting import drawn_within, with_limits, with_max_cost, worst_costs_usd
from router.endpoints.token_sizes import TokenSizes
from router.errors import ConfigError
from router.policy.constraints import Eligibility, Exclusion
from router.policy.standing import usual_strategy
from router.report.more_lines import choice_lines
from telemetry.store import Address

PRICES = {"dear": 50.0, "cheap": 0.5}
CAP_USD = 0.001
"""Between the two on list prices: before any call a call is 500 tokens in and 200 out."""


def value(provider: Provider, limits: dict[str, Any], **app: Any) -> dict[str, Any]:
    prices = {n: {"input_usd_per_mtok": p, "output_usd_per_mtok": p} for n, p in PRICES.items()}
    return {
        "endpoints": [endpoint(provider, name, prices=prices[name]) for name in PRICES],
        "strategies": {"learn": {**LEARN["learn"], "limits": limits}},
        "apps": {"default": {"mode": "route", "strategy": "learn", "unit": "call", **app}},
    }


def hosts_of(answers: list[httpx.Response]) -> Counter[str]:
    return Counter(a.headers.get("x-router-endpoint", str(a.status_code)) for a in answers)


def preview(sidecar: Sidecar, model: str = "auto") -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": "x"}]}
    return dict(sidecar.http.post("/v1/router/decide", json=body).json())


IN_TIME = {"within_s": 0.01}  # nobody: where nothing was timed the median is a second
CHEAP_ONLY, NOBODY = {"usd": CAP_USD}, {"usd": 1e-7}


@pytest.mark.parametrize(
    ("limits", "served", "relaxed"),
    [
        ({"cost": CHEAP_ONLY}, {"cheap"}, []),
        ({"latency": IN_TIME}, {"dear", "cheap"}, ["latency"]),
        ({"latency": IN_TIME, "cost": CHEAP_ONLY}, {"cheap"}, ["latency"]),
        ({"latency": IN_TIME, "cost": NOBODY}, {"cheap"}, ["latency", "cost"]),
        ({"latency": {"within_s": 30}, "cost": NOBODY}, {"cheap"}, ["latency", "cost"]),
        ({"latency": IN_TIME, "cost": {**CHEAP_ONLY, "hard": True}}, {"cheap"}, ["latency"]),
        ({"quality": {"floor": 0.9, "hard": True}}, {"dear", "cheap"}, []),  # nothing is labelled
    ],
)
def test_soft_limits_give_way_in_order_and_every_answer_says_which(
    limits: dict[str, Any],
    served: set[str],
    relaxed: list[str],
    provider: Provider,
    state_dir: Path,
    address: Address,
) -> None:
    with serving(value(provider, limits), state_dir, address) as sidecar:
        shown = preview(sidecar)
        answers = [sidecar.chat() for _ in range(40)]
        decision_id = answers[0].headers["x-router-decision-id"]
        kept = sidecar.http.get(f"/v1/router/decisions/{decision_id}").json()["draw"]
        counted = sidecar.http.get("/metrics").text

    assert set(hosts_of(answers)) == served
    assert shown["relaxed"] == kept["relaxed"] == relaxed
    assert shown["limits"] == kept["limits"]
    assert list(shown["limits"]) == list(limits)
    outside = set(shown["outside_limits"]) | set(shown.get("exclusions", ()))
    assert outside == {"dear", "cheap"} - served
    assert {name for name, p in shown["propensities"].items() if p > 0} == served
    assert {a.headers.get("x-router-relaxed") for a in answers} == {", ".join(relaxed) or None}
    for limit in Limit:
        line = f'router_limits_relaxed_total{{limit="{limit}",strategy="learn"}} 40.0'
        assert (line in counted) is (limit in relaxed)


HARD = {
    "latency": {"within_s": 0.01, "hard": True},
    "cost": {"usd": 1e-7, "hard": True},
}


@pytest.mark.parametrize("kind", list(HARD))
@pytest.mark.parametrize("mode", ["route", "observe"])
@pytest.mark.parametrize("model", ["auto", "dear"])
def test_a_hard_limit_that_nobody_keeps_is_a_409_with_its_code(
    kind: str, mode: str, model: str, provider: Provider, state_dir: Path, address: Address
) -> None:
    entries = value(provider, {kind: HARD[kind]}, mode=mode)
    with serving(entries, state_dir, address) as sidecar:
        got = sidecar.chat(model)

    assert got.status_code == 409
    assert got.json()["error"]["code"] == "no_eligible_endpoint"
    assert set(got.json()["error"]["exclusions"].values()) == {kind}
    assert provider.calls == []


@pytest.mark.parametrize("fallback", ["group", "any"])
def test_no_failure_and_no_breaker_takes_a_call_beyond_a_hard_limit(
    fallback: str, provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("cheap", Reply(status=500, body=b"{}"))
    limits = {"cost": {**CHEAP_ONLY, "hard": True}}
    entries = value(provider, limits, fallback=fallback)
    with serving(entries, state_dir, address) as sidecar:
        answers = [sidecar.chat() for _ in range(30)]
        breaker = sidecar.app.health.breakers[sidecar.digest("cheap")]

    assert breaker.open_since is not None
    assert not any(a.is_success for a in answers)
    assert "dear" not in provider.hosts()
    assert {a.headers.get("x-router-endpoint") for a in answers} <= {None, "cheap"}


def test_a_failure_goes_beyond_a_soft_limit_last(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("first", Reply(status=500, body=b"{}"))
    prices = {"first": 1.0, "dear": 50.0, "second": 2.0}
    entries = {
        "endpoints": [
            endpoint(provider, name, prices={"input_usd_per_mtok": p, "output_usd_per_mtok": p})
            for name, p in prices.items()
        ],
        "strategies": {"q": {"objective": "quality", "limits": {"cost": {"usd": 0.006}}}},
        "apps": {"default": {"mode": "route", "strategy": "q"}},
    }
    with serving(entries, state_dir, address) as sidecar:
        then = preview(sidecar)["then"]
        got = sidecar.chat()

    assert then == ["second", "dear"]
    assert got.headers["x-router-endpoint"] == "second"


@pytest.mark.usefixtures("store")
def test_a_session_leaves_an_endpoint_that_breaks_a_hard_limit_and_keeps_its_draw(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    """Both keep the floor while nothing is labelled; then who was drawn falls below it."""
    limits = {"quality": {"floor": 0.6, "hard": True}}
    entries = value(provider, limits, unit="session")
    headers = {"x-router-session-id": "one"}
    with serving(entries, state_dir, address) as sidecar, learning(state_dir, address):
        drawn = sidecar.chat(headers=headers).headers["x-router-endpoint"]
        other = "cheap" if drawn == "dear" else "dear"
        for name, score in ((drawn, 0.0), (other, 1.0)):
            for _ in range(60):
                answer = sidecar.chat(name)
                if answer.status_code == 409:
                    break  # it has fallen already
                sidecar.feedback(decision_id=answer.headers["x-router-decision-id"], score=score)
        sidecar.until(lambda: preview(sidecar)["exclusions"] == {drawn: "quality"})
        after = sidecar.chat(headers=headers)
        named = sidecar.chat(drawn)

    assert after.headers["x-router-endpoint"] == other
    assert named.json()["error"]["exclusions"] == {drawn: "quality"}


def test_the_command_explains_who_was_outside_and_what_gave_way(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    limits = {"latency": IN_TIME, "cost": CHEAP_ONLY}
    with serving(value(provider, limits), state_dir, address) as sidecar:
        decision_id = sidecar.chat().headers["x-router-decision-id"]
        found = sidecar.http.get(f"/v1/router/decisions/{decision_id}").json()
    screen = Console(file=StringIO(), width=200)

    show(found, screen)
    for name in ("limits", "relaxed", "outside_limits", "value_usd"):
        del found["draw"][name]  # as it was kept before there were limits
    show(found, screen)

    said = screen.file.getvalue()  # type: ignore[attr-defined]
    assert said.count("nobody kept the limit on latency, so it gave way") == 1
    assert said.count("outside the soft limits: dear") == 1


# -- without I/O --------------------------------------------------------------------------------


def configuration(**more: Any) -> Configuration:
    whole = {
        "endpoints": [
            {
                "id": name,
                "model": name,
                "base_url": "http://127.0.0.1:1/v1",
                "prices": {"input_usd_per_mtok": usd, "output_usd_per_mtok": 2 * usd},
            }
            for name, usd in (("a", 1.0), ("b", 10.0))
        ]
    }
    return compile_text(yaml.safe_dump({**whole, **more}), file="t.yaml")


def nothing_known(found: Configuration) -> Any:
    return believe(found, merge([]), version=1)


def eligibility(*reasons: Exclusion | None) -> Eligibility:
    return Eligibility(np.array([r is None for r in reasons]), reasons)


HARD_COST = Limits(cost_usd=1e-9, hard=frozenset([Limit.COST]))


@pytest.mark.parametrize("reason", list(Exclusion))
def test_a_hard_limit_holds_where_anything_else_would_be_passed_over(reason: Exclusion) -> None:
    """No last resort is asked beyond it; what holds in every mode anyway keeps its own code."""
    beliefs = nothing_known(configuration())

    found = with_limits(eligibility(reason, None), beliefs, 0, HARD_COST)

    passed_over = {
        Exclusion.BREAKER, Exclusion.IN_FLIGHT, Exclusion.MAINTENANCE, Exclusion.CONTEXT,
        Exclusion.OUTPUT_LIMIT, Exclusion.CAPABILITY, Exclusion.THINKING,
    }  # fmt: skip
    assert found.reasons[0] is (Exclusion.COST if reason in passed_over else reason)
    assert found.reasons[1] is Exclusion.COST
    assert not found.mask.any()
    assert found.least_bad(range(2)) is None


def test_without_limits_nothing_is_worked_out() -> None:
    given = eligibility(None, Exclusion.BREAKER)

    assert with_limits(given, nothing_known(configuration()), 0, Limits()) is given


def test_who_keeps_the_limits_is_worked_out_once_for_beliefs_task_limits_and_mask() -> None:
    beliefs = nothing_known(configuration())
    soft = with_limits(eligibility(None, None), beliefs, 0, Limits(cost_usd=0.002))

    first, _ = drawn_within(soft, beliefs, 0, soft.mask)

    assert first.tolist() == [True, False]
    assert drawn_within(soft, beliefs, 0, soft.mask.copy())[0] is first
    began = time.perf_counter()
    for _ in range(1000):
        drawn_within(soft, beliefs, 0, soft.mask)
    assert (time.perf_counter() - began) / 1000 < 50e-6


@pytest.mark.parametrize(
    ("max_usd", "reasons"),
    [
        (0.0060, (None, Exclusion.MAX_COST)),
        (0.0059, (Exclusion.MAX_COST, Exclusion.MAX_COST)),
        (0.0600, (None, None)),
    ],
)
def test_a_call_costs_at_most_its_prompt_and_all_the_output_that_it_asks_for(
    max_usd: float, reasons: tuple[Exclusion | None, ...]
) -> None:
    catalog = configuration().catalog
    asked = {"text_bytes": 7200, "max_tokens": 2000, "sizes": TokenSizes(), "at_s": 0.0}

    costs = worst_costs_usd(catalog, **asked)
    found = with_max_cost(eligibility(None, None), catalog, max_usd=max_usd, **asked)

    assert costs == pytest.approx([2000 * 1e-6 + 2000 * 2e-6, 2000 * 1e-5 + 2000 * 2e-5])
    assert found.reasons == reasons
    assert found.mask.tolist() == [r is None for r in reasons]


def test_where_no_price_is_known_no_cost_is_promised() -> None:
    unpriced = {"id": "x", "model": "x", "base_url": "http://127.0.0.1:1/v1"}
    catalog = configuration(endpoints=[unpriced]).catalog

    costs = worst_costs_usd(catalog, text_bytes=1, max_tokens=1, sizes=TokenSizes(), at_s=0.0)

    assert costs == [float("inf")]


# -- as they are written ------------------------------------------------------------------------


def problems(**more: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        configuration(**more)
    return [f"{p.field}: {p.value}: {p.hint}" for p in caught.value.problems]


def test_limits_are_read_as_they_are_written() -> None:
    limits = {
        "latency": {"within_s": 3, "probability": 0.9},
        "cost": {"usd": 0.02, "hard": True},
        "quality": {"floor": 0.8},
    }
    strategies = {"strict": {"limits": limits}}

    found = configuration(strategies=strategies).strategies

    assert found["strict"].limits == Limits(3.0, 0.9, 0.02, 0.8, frozenset([Limit.COST]))
    assert found["quality"].limits == Limits()


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"latency": {"within_s": 0}}, "limits.latency.within_s: 0"),
        ({"latency": {"within_s": 3, "probability": 95}}, "limits.latency.probability: 95"),
        ({"latency": {}}, "limits.latency.within_s: missing"),
        ({"cost": {"usd": "2 cents"}}, "write a plain number"),
        ({"quality": {"floor": 1.0}}, "limits.quality.floor: 1.0"),
        ({"quality": {"flor": 0.5}}, "did you mean 'floor'?"),
        ({"price": {"usd": 1}}, "limits.price"),
    ],
)
def test_limits_that_mean_nothing_are_refused(limits: dict[str, Any], says: str) -> None:
    assert any(says in p for p in problems(strategies={"s": {"limits": limits}}))


def trading(**strategy: Any) -> dict[str, Any]:
    return {"strategies": {"balanced": strategy}, "apps": {"default": {"strategy": "balanced"}}}


@pytest.mark.parametrize(
    "strategy",
    [
        {"pay": "20%", "for": "5% better"},
        {"pay": "20 %", "for": "5%"},
        {"value_usd": 0.05},
        {"objective": "quality", "pay": "7.5%", "for": "2.5% better"},
    ],
)
def test_a_trade_that_is_said_is_sound(strategy: dict[str, Any]) -> None:
    configuration(**trading(**strategy))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"apps": {"default": {"strategy": "balanced"}}}, "pay: 20%, for: 5% better"),
        (trading(incumbent="a"), "strategies.balanced"),
        ({"strategies": {"s": {"objective": "balanced"}}}, "strategies.s.objective: balanced"),
        (trading(pay="20%"), "for is missing"),
        (trading(**{"for": "5%"}), "pay is missing"),
        (trading(pay="20%", **{"for": "5%"}, value_usd=1), "says it twice"),
        (trading(pay="20%", **{"for": "5%"}, incumbent="none"), "name an endpoint"),
        (trading(pay="20%", **{"for": "5%"}, objective="cheapest"), "is an order"),
        (trading(pay=20, **{"for": "5%"}), "strategies.balanced.pay: 20: write a percentage"),
        (trading(pay="0%", **{"for": "5%"}), "more than 0%"),
        (trading(pay="20%", **{"for": "5 points"}), "such as 5% better"),
    ],
)
def test_a_trade_that_is_not_said_once_is_an_error_of_check(
    more: dict[str, Any], says: str
) -> None:
    assert any(says in p for p in problems(**more)), problems(**more)


def test_an_app_without_an_incumbent_has_nothing_to_trade_against() -> None:
    more = trading(pay="20%", **{"for": "5%"})
    more["apps"]["default"]["incumbent"] = "none"

    assert any(p.startswith("apps.default.incumbent: none") for p in problems(**more))


def test_a_call_that_asks_for_balanced_is_told_how_to_say_its_trade(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with serving({"endpoints": [endpoint(provider, "a")]}, state_dir, address) as sidecar:
        got = sidecar.chat(headers={"x-router-strategy": "balanced"})

    assert got.status_code == 400
    assert got.json()["error"]["code"] == "unknown_strategy"
    assert "pay: 20%, for: 5% better" in got.json()["error"]["message"]


def test_an_app_that_names_no_strategy_goes_by_quality_whose_other_name_is_performance() -> None:
    found = configuration(apps={"default": {}})

    assert usual_strategy(found) == "quality"
    assert found.strategies["performance"] is found.strategies["quality"]
    own = configuration(strategies={"performance": {"objective": "fastest"}}).strategies
    assert own["performance"].name == "performance"
    assert "balanced" not in found.strategies


def test_a_strategy_that_has_a_kinds_name_is_of_that_kind() -> None:
    found = configuration(strategies={"cheapest": {"incumbent": "b"}}).strategies

    assert found["cheapest"].objective == configuration().strategies["cheapest"].objective


# -- the trade in the sidecar -------------------------------------------------------------------


def test_what_a_success_is_worth_follows_from_the_incumbents_cost_and_is_shown(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    entries = value(provider, {}, strategy="balanced")
    entries["strategies"] = {"balanced": {"pay": "20%", "for": "5% better", "incumbent": "cheap"}}
    with serving(entries, state_dir, address) as sidecar, learning(state_dir, address):
        before = preview(sidecar)
        answer = sidecar.chat()
        decision_id = answer.headers["x-router-decision-id"]
        kept = sidecar.http.get(f"/v1/router/decisions/{decision_id}").json()["draw"]
        sidecar.until(lambda: sidecar.calls_known() == 1)
        posteriors = sidecar.http.get("/v1/router/posteriors").json()
        after = preview(sidecar)
        posterior = sidecar.app.keeper.current.posterior
        cost = float(posterior.cost_usd[0, 1])

    assert before["value_usd"] == kept["value_usd"] == pytest.approx(4 * 700 * 0.5e-6)
    assert after["value_usd"] == pytest.approx(4 * cost)
    (choice,) = posteriors["choices"]
    assert "a success is worth" in choice_lines([choice])[0]
    assert choice["value_usd"] == pytest.approx(4 * cost)
    assert posteriors["categories"][0]["value_usd"] == pytest.approx(4 * cost)


def test_a_trade_is_worked_out_once_for_beliefs_task_and_incumbent() -> None:
    trade = {"pay": "50%", "for": "10%"}
    found = configuration(strategies={"balanced": trade}, tasks={"code": None})
    beliefs, strategy = nothing_known(found), found.strategies["balanced"]

    first = beliefs.objective(strategy, 0, 1)

    assert beliefs.objective(strategy, 0, 1) is first
    assert first.value_usd == pytest.approx(5 * beliefs.posterior.cost_usd[0, 1])
    assert beliefs.objective(strategy, 0, 0).value_usd == pytest.approx(first.value_usd / 10)
    table = beliefs.table(0, first, LEARNING, np.ones(2, dtype=bool))
    assert table.shares.sum() == pytest.approx(1)
