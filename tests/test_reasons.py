"""Why, in a word: which word a decision gets, and what another strategy would have done."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import LEARN, Provider, Sidecar, endpoint, serving
from msgspec import structs
from test_explanations import TOLD

from bandit.draws import LEARNING, Law
from bandit.steps import Step
from router.config.exclusions import EXCLUSIONS_VERSION
from router.config.strategies import Exchangeable
from router.decision import reasons
from router.decision.ended import EndedDraw
from router.decision.reasons import REASONS_VERSION, Reason, one_in, reason_of
from router.decision.shared_draws import DrawEnding
from router.explain.counterfactual import counterfactual
from router.explain.sentence import finish
from router.explain.told import lines
from router.policy.constraints import Exclusion
from telemetry.store import Address

DOC = (Path(__file__).parent.parent / "docs" / "explain.md").read_text()


def test_the_words_and_codes_of_the_document_are_those_of_the_enums() -> None:
    table = DOC[DOC.index("## Words") : DOC.index("## Exclusion codes")]
    (codes,) = re.findall(r"<!-- exclusions -->\n(.*?)\n<!-- end -->", DOC, re.S)

    assert re.findall(r"^\| `([^`]+)` \|", table, re.M) == [reason.value for reason in Reason]
    assert codes.replace(",\n", ", ") == ", ".join(f"`{each.value}`" for each in Exclusion)
    assert DOC.count(f"Version {REASONS_VERSION}. The list") == 1
    assert DOC.count(f"Version {EXCLUSIONS_VERSION}, closed") == 1


APPS = {
    "observe": {"mode": "observe", "strategy": "quality"},
    "pinned": {"mode": "pinned", "endpoint": "b", "strategy": "quality"},
    "route": {"mode": "route", "strategy": "quality"},
    "learn": {"mode": "route", "strategy": "learn"},
}


def ask(sidecar: Sidecar, model: str, **headers: str) -> tuple[str, dict[str, Any]]:
    got = sidecar.chat(model, headers={name.replace("_", "-"): v for name, v in headers.items()})
    assert got.status_code == 200, got.text
    shown = sidecar.http.get("/v1/router/decisions", params={"id": got.headers["x-request-id"]})
    return got.headers["x-router-reason"], shown.json()


@pytest.mark.parametrize(
    ("mode", "model", "words"),
    [
        ("observe", "auto", {"incumbent"}),
        ("observe", "a", {"pinned"}),
        ("pinned", "auto", {"pinned"}),
        ("route", "auto", {"incumbent"}),
        ("route", "m", {"pinned"}),
        ("learn", "auto", {"exploring", "best so far"}),
    ],
)
def test_a_mode_has_its_words(
    mode: str, model: str, words: set[str], provider: Provider, state_dir: Path, address: Address
) -> None:
    endpoints = [endpoint(provider, name, model="m") for name in "ab"]
    endpoints[1]["model"] = "n"
    value = {"endpoints": endpoints, "strategies": LEARN, "apps": {"default": APPS[mode]}}
    with serving(value, state_dir, address) as sidecar:
        word, found = ask(sidecar, model)

    assert word in words
    assert found["reason"] == word
    assert found["sentence"].startswith(word)
    assert found["task_found_by"] == "general"


def test_who_alone_may_serve_is_said_to_be_the_only_one(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    near = endpoint(provider, "a", region="eu")
    far = endpoint(provider, "b", region="us")
    app = {"mode": "route", "strategy": "learn", "regions": ["eu"]}
    value = {"endpoints": [far, near], "strategies": LEARN, "apps": {"default": app}}
    with serving(value, state_dir, address) as sidecar:
        word, found = ask(sidecar, "auto")

    assert word == "only one allowed"
    assert found["exclusions"] == {"b": "region"}
    assert found["sentence"] == "only one allowed: a alone may serve this call."


def test_how_the_task_was_found_is_told(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    value = {
        "endpoints": [endpoint(provider, "a")],
        "tasks": {"code": None, "tools": {"match": {"tools": True}}},
        "apps": {"default": {"mode": "observe"}},
    }
    with serving(value, state_dir, address) as sidecar:
        hinted = ask(sidecar, "auto", x_router_task="code")[1]
        named = ask(sidecar, "auto/code")[1]

    assert (hinted["task"], hinted["task_found_by"]) == ("code", "hint")
    assert (named["task"], named["task_found_by"]) == ("code", "hint")


def test_what_is_known_of_those_that_might_serve_is_told_also_where_nothing_is_drawn(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    value = {
        "endpoints": [endpoint(provider, name) for name in "ab"],
        "apps": {"default": {"mode": "observe"}},
    }
    with serving(value, state_dir, address) as sidecar:
        found = ask(sidecar, "auto")[1]

    assert found["draw"] is None
    assert [row["endpoint"] for row in found["known"]] == ["a", "b"]
    assert {"quality", "cost_usd", "latency_s", "reliability"} <= set(found["known"][0])
    assert [row["propensity"] for row in found["known"]] == [1.0, 0.0]
    assert found["then"] == ["b"]
    assert found["counterfactual"]["under"]["cheapest"] in ("a", "b")


HOLDOUT, FLOOR, STAY, SAMPLE, FAILOVER, ONLY_ALLOWED, *_ = Step
GUARDED = Law(incumbent=0, current=1, challengers=(2,))


def decided(
    step: Step | None, group: int, *, law: Law | None = GUARDED, share: float = 0.2, **more: Any
) -> Any:
    """As much of a decision as the word depends on; endpoints are groups of their own."""
    drawn = SimpleNamespace(index=group, group=group)
    route = {"law": law, "first": drawn, "by_name": False, "groups": None}
    reasons: list[Any] = [None] * 3
    for arm in more.pop("excluded", ()):
        reasons[arm] = Exclusion.REGION
    eligibility = SimpleNamespace(
        reasons=reasons, mask=np.array([reason is None for reason in reasons])
    )
    stands_in_for, ended = more.pop("stands_in_for", None), more.pop("ended", None)
    held, replaces = more.pop("held", None), more.pop("replaces", False)
    plan = SimpleNamespace(
        drawn=drawn, step=step, propensity=share, drawing=None, eligibility=eligibility
    )
    strategy = SimpleNamespace(exchange=more.pop("exchange", Exchangeable.ANY))
    context = SimpleNamespace(
        route=SimpleNamespace(**route | more), eligibility=eligibility, strategy=strategy
    )
    return SimpleNamespace(
        context=context,
        plan=plan,
        held=held,
        stands_in_for=stands_in_for,
        ended=ended,
        replaces=replaces,
    )


def ended(kind: str, *, by: int) -> Any:
    return SimpleNamespace(kind=DrawEnding(kind), before=SimpleNamespace(index=by))


@pytest.mark.parametrize(
    ("decision", "word"),
    [
        (decided(HOLDOUT, 0), Reason.HOLDOUT),
        (decided(FLOOR, 0), Reason.EXPLORING),
        (decided(Step.TRIAL_INCUMBENT, 0), Reason.TRIAL),
        (decided(Step.TRIAL_CHALLENGER, 2), Reason.TRIAL),
        (decided(Step.BESIDE_STAY, 1), Reason.BEST),
        (decided(Step.BESIDE_FLOOR, 2), Reason.EXPLORING),
        (decided(STAY, 1), Reason.BEST),
        (decided(SAMPLE, 0), Reason.INCUMBENT),
        (decided(SAMPLE, 1), Reason.BEST),
        (decided(SAMPLE, 2), Reason.EXPLORING),
        (decided(STAY, 0, law=Law(incumbent=0, current=0)), Reason.INCUMBENT),
        (decided(FAILOVER, 2), Reason.FAILOVER),
        (decided(FAILOVER, 2, excluded=(0, 1)), Reason.ONLY),
        (decided(ONLY_ALLOWED, 2, excluded=(0, 1)), Reason.ONLY),
        (decided(STAY, 1, excluded=(1,)), Reason.FAILOVER),
        (decided(STAY, 1, stands_in_for=object()), Reason.FAILOVER),
        (decided(SAMPLE, 1, ended=ended("gain", by=0)), Reason.GAIN),
        (decided(STAY, 1, ended=ended("dominated", by=0)), Reason.DOMINATED),
        (decided(STAY, 1, ended=ended("dominated", by=1)), Reason.BEST),  # drew the same again
        (decided(STAY, 1, ended=ended("gain", by=0), excluded=(1,)), Reason.FAILOVER),
        (decided(STAY, 1, replaces=True), Reason.ANEW),
        (decided(STAY, 1, excluded=(0, 1), held=object()), Reason.FAILOVER),
        (decided(SAMPLE, 1, law=LEARNING, share=0.6), Reason.BEST),
        (decided(SAMPLE, 1, law=LEARNING, share=0.4), Reason.EXPLORING),
        (decided(SAMPLE, 1, law=LEARNING, excluded=(0, 2)), Reason.ONLY),
        (decided(STAY, 1, by_name=True, groups=frozenset({1})), Reason.PINNED),
        (decided(STAY, 0, by_name=True), Reason.INCUMBENT),  # map_models
        (decided(None, 1, law=None, by_name=True), Reason.PINNED),
        (decided(None, 1, law=None), Reason.INCUMBENT),
        (decided(None, 1, law=None, exchange=Exchangeable.NONE), Reason.PINNED),
        (decided(None, 1, law=None, first=None), Reason.INCUMBENT),
        (decided(None, 1, law=None, first=object()), Reason.FAILOVER),
        (decided(None, 1, law=None, first=object(), excluded=(0, 2)), Reason.ONLY),
    ],
)
def test_each_step_of_the_law_has_its_word(
    decision: Any, word: Reason, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = SimpleNamespace(index=9, group=9)
    monkeypatch.setattr(reasons, "server_of", lambda plan: other)  # where the drawn one may not

    assert reason_of(decision) is word
    assert reason_of(decision, decision.plan.drawn) is word
    assert reason_of(decision, other) is (word if word is Reason.ONLY else Reason.FAILOVER)  # type: ignore[arg-type]


def test_what_is_passed_on_is_pinned(provider: Provider, state_dir: Path, address: Address) -> None:
    value = {
        "providers": {"p": {"base_url": provider.url("p"), "passthrough": True}},
        "endpoints": [{"id": "a", "model": "a", "provider": "p"}],
    }
    with serving(value, state_dir, address) as sidecar:
        got = sidecar.chat("not-listed")

    assert got.headers["x-router-decision-id"]
    assert got.headers["x-router-reason"] == "pinned"


@pytest.mark.parametrize(("p", "n"), [(0.02, 50), (0.3, 3), (0.9, 2), (0.0, 2)])
def test_one_in_n(p: float, n: int) -> None:
    assert one_in(p) == n


FOUND = EndedDraw(DrawEnding.GAIN, SimpleNamespace(id="b"), SimpleNamespace(id="c"), 0.97)  # type: ignore[arg-type]
ENDED = {
    Reason.GAIN: structs.replace(
        FOUND, gain_usd=0.01, remaining=12.0, cache_usd=0.02, value_usd=0.05, is_assumed=True
    ).told(),
    Reason.DOMINATED: structs.replace(FOUND, kind=DrawEnding.DOMINATED, p_better_since=0.96).told(),
}


@pytest.mark.parametrize("reason", list(Reason))
def test_each_sentence_begins_with_its_word(reason: Reason) -> None:
    told = {**TOLD, "reason": reason.value, "propensity": 0.1, "step": Step.STAY}
    found = finish({**told, "ended": ENDED.get(reason)})

    first = next(lines(found))
    word = "exploring (1 in 10)" if reason is Reason.EXPLORING else reason.value
    assert first == found["sentence"]
    assert re.fullmatch(rf"{re.escape(word)}: [^.]+\.", first)


# -- what another strategy would have done --------------------------------------------------------


def row(name: str, quality: float, cost: float, latency: float, labels: float = 50) -> Any:
    return {
        "endpoint": name, "quality": quality, "reliability": 1.0, "cost_usd": cost,
        "latency_s": latency, "labels": labels,
    }  # fmt: skip


ROWS = [
    row("large", 0.9, 0.02, 4.0),
    row("small", 0.86, 0.002, 2.0),
    row("tiny", 0.5, 0.0001, 0.5),
]
BALANCED = {"order": "utility", "value_usd": 0.05, "latency_usd_per_s": 0.0}


def test_the_counterfactual_is_that_of_the_numbers() -> None:
    found = counterfactual(ROWS, BALANCED, "small")

    assert found is not None
    # tiny is below the floor of .81; .86 - .04 beats .9 - .4
    assert found["under"] == {"cheapest": "small", "fastest": "small", "quality": "large"}
    assert found["trade"] == {"value_usd": 0.05, "half": "small", "double": "small"}
    needs = {each["endpoint"]: each["quality"] for each in found["needs"]}
    assert needs["tiny"] == pytest.approx(0.82 - 0.498)
    assert needs["large"] is None  # it would need 1.22


def test_double_the_trade_may_choose_another() -> None:
    found = counterfactual(ROWS, {**BALANCED, "value_usd": 0.3}, "small")

    assert found is not None
    # .9 - .02 / .6 = .867 and .86 - .002 / .6 = .857; at .15: .767 and .847
    assert found["trade"] == {"value_usd": 0.3, "half": "small", "double": "large"}


def test_under_an_order_the_others_lack_money_or_seconds_or_quality() -> None:
    cheapest = counterfactual(ROWS, {**BALANCED, "order": "cheapest", "value_usd": None}, "small")
    fastest = counterfactual(ROWS, {**BALANCED, "order": "fastest", "value_usd": None}, "small")

    assert cheapest is not None
    assert fastest is not None
    assert cheapest["trade"] is None
    by_cost = {each.pop("endpoint"): each for each in cheapest["needs"]}
    by_time = {each.pop("endpoint"): each for each in fastest["needs"]}
    assert by_cost["large"]["cost_usd"] == pytest.approx(0.002 * 0.9 / 0.86 - 0.02)
    assert by_time["large"]["latency_s"] == pytest.approx(-2.0)
    assert by_cost["tiny"]["quality"] == by_time["tiny"]["quality"] == pytest.approx(0.31)


def test_what_others_lack_is_said_in_words() -> None:
    needs = [
        {"endpoint": "a", "quality": 0.0412},
        {"endpoint": "b", "quality": -0.02},
        {"endpoint": "c", "quality": 1e-9},
        {"endpoint": "d", "quality": None},
        {"endpoint": "e", "cost_usd": -0.0123},
        {"endpoint": "f", "latency_s": 0.1},
    ]
    under = {"cheapest": "b", "fastest": "b", "quality": "a"}
    trade = {"value_usd": 0.05, "half": "b", "double": "a"}
    other = {"under": under, "trade": trade, "needs": needs}

    said = list(lines(finish({**TOLD, "counterfactual": other})))

    assert "under cheapest it would be b" in said[3]
    assert "at half the trade (0.025 USD a success) b; at double a" in said[3]
    assert said[4] == (
        "a needs +0.041 quality; b is ahead by 0.020; c is as good; d cannot by quality alone; "
        "e needs -0.0123 USD a call; f is no worse"
    )


@pytest.mark.parametrize("rows", [ROWS[:1], [], [{"endpoint": "a"}, {"endpoint": "b"}]])
def test_where_nothing_can_be_compared_nothing_is(rows: Any) -> None:
    assert counterfactual(rows, BALANCED, "large") is None
