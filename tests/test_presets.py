"""Strategies that are always there, and those that start from others, through a running sidecar."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from operator import le
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Provider, Reply, Sidecar, endpoint, serving
from hypothesis import given
from hypothesis import strategies as st
from looser import loosened

from bandit.limits import Limits
from bandit.utility import Order
from router.beliefs.review_keys import seeds
from router.config.compiled import Configuration, Strategy, compile_text
from router.config.extending import lineages
from router.config.hard import hard_constraints
from router.config.hard import loosened as loosened_between
from router.config.policies import KnownPlaces
from router.config.presets import PRESETS
from router.config.strategies import Exchangeable, StrategyEntry
from router.endpoints.data_classes import DataClasses
from router.errors import ConfigError
from telemetry.store import Address

ASK = {"messages": [{"role": "user", "content": "hi"}]}
CLASSES = DataClasses()
PLACES = KnownPlaces.of([(name, None) for name in ("one", "two", "cheap", "own")], [])


def configured(provider: Provider, **more: Any) -> dict[str, Any]:
    """Two hosts of one model, a cheaper model, and one of one's own with a small context."""
    eu = {"region": "eu", "jurisdiction": "EU", "zone": "eu-cloud", "trains_on_data": False}
    cheap = {"input_usd_per_mtok": 0.1, "output_usd_per_mtok": 0.2}
    value: dict[str, Any] = {
        "endpoints": [
            endpoint(provider, "one", model="m", **eu, retention_days=30),
            endpoint(provider, "two", model="m", **eu, zero_retention=True),
            endpoint(provider, "cheap", model="n", prices=cheap, capabilities={"schema": False}),
            endpoint(provider, "own", model="o", zone="local", context_tokens=8192),
        ],
        "tasks": {"code": {}},
        "apps": {"default": {"mode": "route"}},
    }
    return {**value, **more}


def app(**more: Any) -> dict[str, Any]:
    return {"apps": {"default": {"mode": "route", **more}}}


def dry(sidecar: Sidecar, model: str = "auto", /, *, status: int = 200, **hints: str) -> Any:
    headers = {f"x-router-{name.replace('_', '-')}": value for name, value in hints.items()}
    headers["x-router-dry-run"] = "1"
    got = sidecar.http.post("/v1/chat/completions", json={**ASK, "model": model}, headers=headers)
    assert got.status_code == status, got.text
    return got.json()


@pytest.fixture
def opened(provider: Provider, state_dir: Path, address: Address) -> Any:
    @contextmanager
    def serve(**more: Any) -> Iterator[Sidecar]:
        with serving(configured(provider, **more), state_dir, address) as sidecar:
            yield sidecar

    return serve


def compiled(**more: Any) -> Configuration:
    provider = Provider()
    provider.port = 1
    return compile_text(yaml.safe_dump(configured(provider, **more)), file="t.yaml")


def problems(**more: Any) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        compiled(**more)
    return [(p.field, p.hint) for p in caught.value.problems]


# -- same-model ---------------------------------------------------------------------------------


def test_same_model_exchanges_equivalents_of_the_incumbent_and_nothing_else(opened: Any) -> None:
    with opened() as sidecar:
        shown = dry(sidecar, "auto:same-model")

    assert set(shown["propensities"]) <= {"one", "two"}
    assert {shown["endpoint"], *shown["then"]} == {"one", "two"}
    assert (shown["routed"], shown["fallback"]) == (True, "group")
    assert (shown["exploring"], shown["challengers"]) == (False, [])
    assert shown["note"] == "only equivalents are exchanged"


def test_same_model_needs_no_labels_and_draws_both_hosts(opened: Any, provider: Provider) -> None:
    with opened() as sidecar:
        for n in range(40):
            headers = {"x-router-session-id": f"s{n}"}
            assert sidecar.chat("auto:same-model", headers=headers).status_code == 200

    assert set(provider.hosts()) == {"one", "two"}


@pytest.mark.parametrize(("says", "served"), [({}, False), ({"fallback": "any"}, True)])
def test_a_failure_leaves_the_equivalents_only_where_the_app_says_so(
    opened: Any, provider: Provider, says: dict[str, str], served: bool
) -> None:
    provider.on("cheap", Reply(status=503, body=b"{}"))  # the only host of its model

    with opened(**app(strategy="same-model", incumbent="cheap", **says)) as sidecar:
        got = sidecar.chat("auto")

    assert (got.status_code == 200) is served
    assert (set(provider.hosts()) != {"cheap"}) is served


def test_who_may_not_serve_a_call_is_replaced_by_an_equivalent_or_by_nobody(opened: Any) -> None:
    with opened(strategies={"same-model": {"max_retention_days": 0}}) as sidecar:
        assert dry(sidecar, "auto:same-model")["endpoint"] == "two"
        refused = dry(sidecar, "auto:same-model", data_class="confidential", status=409)

    assert "own" not in refused["error"]["message"]


def test_under_same_model_a_model_that_is_mapped_is_the_one_that_stays(opened: Any) -> None:
    with opened(**app(strategy="same-model", map_models=True)) as sidecar:
        assert dry(sidecar, "n")["endpoint"] == "cheap"
        assert dry(sidecar, "n")["then"] == []
        assert dry(sidecar, "m")["endpoint"] in ("one", "two")


@pytest.mark.parametrize("strategy", ["same-model", "pinned"])
def test_where_nothing_is_chosen_there_are_no_choices_to_review(strategy: str) -> None:
    assert seeds(compiled(**app(strategy=strategy))) == []
    assert seeds(compiled(**app(strategy="quality"))) != []


def test_who_is_named_stays_whatever_dialect_a_call_is_of(opened: Any) -> None:
    more = {"strategies": {"mine": {"extends": "same-model", "incumbent": "cheap"}}}
    with opened(**app(strategy="mine"), **more) as sidecar:
        assert dry(sidecar)["endpoint"] == "cheap"
        headers = {"x-router-dry-run": "1"}
        body = {**ASK, "model": "auto", "max_tokens": 5}
        got = sidecar.http.post("/v1/messages", json=body, headers=headers)

    assert got.status_code == 409


# -- pinned -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "served"),
    [
        ({}, "one"),  # the incumbent, as ever
        (app(endpoint="cheap"), "cheap"),
        (app(endpoint="cheap", incumbent="own"), "own"),
        ({"strategies": {"pinned": {"incumbent": "two"}}}, "two"),
        (app(incumbent="none"), "one"),
    ],
)
def test_pinned_is_one_endpoint_and_nothing_is_drawn(
    opened: Any, more: dict[str, Any], served: str
) -> None:
    with opened(**more) as sidecar:
        shown = dry(sidecar, "auto:pinned")

    assert (shown["endpoint"], shown["propensity"], shown["step"]) == (served, 1.0, None)
    assert (shown["then"], shown["fallback"], shown["routed"]) == ([], "none", False)
    assert shown["note"] == "pinned by its strategy"


@pytest.mark.parametrize(
    ("says", "others"), [({"fallback": "group"}, ["two"]), ({"fallback": "any"}, None)]
)
def test_pinned_falls_back_only_where_the_app_says_so(
    opened: Any, says: dict[str, str], others: list[str] | None
) -> None:
    with opened(**app(strategy="pinned", **says)) as sidecar:
        then = dry(sidecar)["then"]

    assert then == others if others is not None else set(then) == {"two", "cheap", "own"}


def test_what_a_call_forbids_the_pinned_endpoint_nobody_else_serves(opened: Any) -> None:
    with opened(**app(strategy="pinned")) as sidecar:
        dry(sidecar, data_class="confidential", status=409)


def test_a_pinned_endpoint_that_the_app_forbids_is_refused() -> None:
    more = app(strategy="pinned", endpoint="one", private=True)

    ((field, hint),) = problems(**more)

    assert field == "apps.default.endpoint"
    assert "the app's own constraints forbid it" in hint


@pytest.mark.parametrize("base", ["pinned", "same-model"])
def test_calls_cannot_be_kept_with_an_incumbent_that_there_is_not(base: str) -> None:
    more = {"strategies": {"mine": {"extends": base, "incumbent": "none"}}}

    ((field, hint),) = problems(**more)

    assert field == "strategies.mine.incumbent"
    assert "name an endpoint" in hint


# -- private ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["private", "privacy"])
def test_private_goes_to_ones_own_zone_or_where_nothing_is_kept(opened: Any, name: str) -> None:
    with opened() as sidecar:
        shown = dry(sidecar, f"auto:{name}")

    assert shown["exclusions"] == {"one": "private", "cheap": "private"}
    assert shown["incumbent"] == "two"
    assert shown["strategy"] == "private"


def test_private_is_after_quality_and_no_label_moves_it_elsewhere() -> None:
    found = compiled().strategies

    assert found["private"].objective == found["quality"].objective
    assert found["privacy"] is found["private"]


def test_what_is_written_under_a_presets_name_or_its_other_name_keeps_the_preset() -> None:
    written = {"privacy": {"incumbent": "own"}, "private": {"extends": "cheapest"}}
    found = compiled(strategies=written).strategies

    assert found["privacy"].rules.private
    assert found["private"].rules.private
    assert found["private"].objective.order is Order.CHEAPEST


# -- coding -------------------------------------------------------------------------------------


def test_coding_asks_for_tools_schema_cache_and_a_context_of_those_who_declare_one(
    opened: Any, provider: Provider
) -> None:
    said = [
        endpoint(provider, "no-tools", capabilities={"tools": False}),
        endpoint(provider, "no-schema", capabilities=["tools"]),
        endpoint(provider, "no-cache", capabilities={"prompt_cache": False}),
        endpoint(provider, "small", context_tokens=31_999),
        endpoint(provider, "enough", context_tokens=32_000),
        endpoint(provider, "silent"),
    ]
    with opened(endpoints=said) as sidecar:
        shown = dry(sidecar, "auto:coding")

    assert shown["exclusions"] == {
        "no-tools": "required_capability: tools",
        "no-schema": "required_capability: schema",
        "no-cache": "required_capability: prompt_cache",
        "small": "small_context: 31999 of 32000 tokens",
    }
    assert shown["incumbent"] == "enough"


def test_coding_is_after_the_least_cost_per_success_above_the_floor() -> None:
    found = compiled().strategies["coding"]

    assert found.objective == compiled().strategies["cheapest"].objective
    assert found.release_every_s == compiled().strategies["cheapest"].release_every_s


@pytest.mark.parametrize(
    ("level", "more"),
    [
        ("app", app(min_context_tokens=10_000)),
        ("organisation", {"organisation": {"min_context_tokens": 10_000}}),
        ("task", {"tasks": {"code": {"min_context_tokens": 10_000}}}),
    ],
)
def test_of_several_least_contexts_the_longest_holds(
    opened: Any, level: str, more: dict[str, Any]
) -> None:
    written = {"quality": {"min_context_tokens": 9_000}}
    with opened(**more, strategies=written) as sidecar:
        shown = dry(sidecar, task="code")

    assert shown["exclusions"] == {"own": "small_context: 8192 of 10000 tokens"}
    asked = shown["policy"]["context_tokens"]
    assert asked["value"] == 10_000
    assert {one["by"] for one in asked["said"]} == {level, "strategy"}


def test_a_least_context_holds_as_a_last_resort_too(opened: Any, provider: Provider) -> None:
    only = [endpoint(provider, "own", context_tokens=8192)]
    with opened(endpoints=only, tasks={"code": {"min_context_tokens": 10_000}}) as sidecar:
        refused = sidecar.chat("auto", headers={"x-router-task": "code"})

    assert refused.status_code == 409
    assert "small_context" in refused.text
    assert provider.calls == []


def test_a_least_context_that_is_lowered_is_loosened() -> None:
    before, after = (
        hard_constraints(compiled(**app(min_context_tokens=n))) for n in (8_000, 4_000)
    )

    said = ["app default: min_context_tokens 8000 → 4000"]
    assert loosened_between(before, after) == said
    assert loosened_between(after, before) == []


# -- legal --------------------------------------------------------------------------------------

EU = {"jurisdictions": ["EU"]}


def test_legal_goes_by_jurisdiction_keeps_nothing_and_explores_nothing(opened: Any) -> None:
    with opened(organisation=EU) as sidecar:
        shown = dry(sidecar, "auto:legal")

    assert shown["endpoint"] == "two"
    assert shown["exclusions"] == {
        "one": "retention",
        "cheap": "jurisdiction",
        "own": "jurisdiction",
    }
    assert (shown["note"], shown["exploring"]) == ("high stakes", False)
    policy = shown["policy"]
    assert policy["retention_days"]["said"] == [{"by": "built_in", "value": 0}]
    assert policy["keep_nothing"]["said"] == [{"by": "strategy", "value": True}]


def test_what_a_provider_would_keep_is_forced_off_under_legal(
    opened: Any, provider: Provider
) -> None:
    with opened(organisation=EU) as sidecar:
        got = sidecar.chat("auto:legal", store=True)

    assert (got.status_code, got.json()["error"]["code"]) == (409, "keeps_content")
    assert provider.calls == []


@pytest.mark.parametrize(
    "more",
    [
        app(**EU, max_retention_days=30),
        {"organisation": {**EU, "max_retention_days": 30}},
        {"organisation": EU, "strategies": {"legal": {"max_retention_days": 30}}},
    ],
)
def test_legal_takes_another_retention_where_that_is_said(
    opened: Any, more: dict[str, Any]
) -> None:
    with opened(**more) as sidecar:
        assert set(dry(sidecar, "auto:legal")["exclusions"]) == {"cheap", "own"}


def test_a_call_under_legal_without_a_jurisdiction_is_a_400_with_the_fix(
    opened: Any, provider: Provider
) -> None:
    with opened() as sidecar:
        refusals = [
            dry(sidecar, "auto:legal", status=400),
            dry(sidecar, "unlisted", strategy="legal", status=400),
            sidecar.chat("auto:legal").json(),
        ]

    for refused in refusals:
        assert "write jurisdictions: [EU]" in refused["error"]["message"]
        assert refused["error"]["param"] == "strategy"
    assert provider.calls == []


@pytest.mark.parametrize(
    ("more", "field"),
    [
        (app(strategy="legal"), "apps.default.strategy"),
        (app(strategies={"code": "legal"}), "apps.default.strategies.code"),
        ({"organisation": {"strategy": "legal"}}, "organisation.strategy"),
        ({"tasks": {"code": {"strategy": "legal"}}}, "tasks.code.strategy"),
        ({"roles": {"lawyer": {"strategy": "legal"}}}, "roles.lawyer.strategy"),
        ({"users": {"ann": {"strategy": "legal"}}}, "users.ann.strategy"),
        (
            {**app(strategy="mine"), "strategies": {"mine": {"extends": "legal"}}},
            "apps.default.strategy",
        ),
    ],
)
def test_naming_legal_without_a_jurisdiction_is_an_error_with_the_fix(
    more: dict[str, Any], field: str
) -> None:
    ((found, hint),) = problems(**more)

    assert found == field
    assert "write jurisdictions: [EU]" in hint


@pytest.mark.parametrize(
    "more",
    [
        app(strategy="legal", **EU),
        {**app(strategy="legal"), "organisation": EU},
        {**app(strategy="legal"), "strategies": {"legal": EU}},
        {"tasks": {"code": {"strategy": "legal", **EU}}},
        {"roles": {"lawyer": {"strategy": "legal", **EU}}},
        {"users": {"ann": {"strategy": "legal", **EU}}},
    ],
)
def test_any_level_may_say_the_jurisdiction(more: dict[str, Any]) -> None:
    assert "legal" in compiled(**more).strategies


# -- high stakes --------------------------------------------------------------------------------

HIGH = {"stakes": "high"}


@pytest.mark.parametrize(
    "more",
    [
        {"organisation": HIGH},
        app(**HIGH),
        {"tasks": {"code": HIGH}},
        {"roles": {"judge": HIGH}},
        {"users": {"ann": HIGH}},
        {"strategies": {"quality": HIGH}},
    ],
)
def test_high_stakes_of_any_level_hold_a_call_to_the_choice(
    opened: Any, more: dict[str, Any]
) -> None:
    hints = {"task": "code", "user": "ann"}
    if "roles" in more:
        hints["role"] = "judge"
    with opened(**more) as sidecar:
        shown = dry(sidecar, **hints)

    assert (shown["note"], shown["exploring"], shown["challengers"]) == ("high stakes", False, [])
    assert set(shown["propensities"]) <= {"one", "two"}  # hosts of the incumbent


# -- extends ------------------------------------------------------------------------------------


def strategies(**written: Any) -> dict[str, Strategy]:
    return compiled(strategies=written).strategies


@pytest.mark.parametrize(
    ("written", "field", "says"),
    [
        ({"a": {"extends": "privat"}}, "a.extends", "did you mean 'private'"),
        ({"a": {"extends": "a"}}, "a.extends", "a extends a"),
        ({"a": {"extends": "balanced"}}, "a.objective", "pay: 20%"),
        (
            {
                "a": {"extends": "quality", "limits": {"cost": {"usd": 1, "hard": True}}},
                "b": {"extends": "a", "limits": {"cost": {"usd": 0.5}}},
            },
            "b.limits.cost.hard",
            "hard: true",
        ),
    ],
)
def test_what_cannot_be_extended_is_named_with_the_fix(
    written: dict[str, Any], field: str, says: str
) -> None:
    ((found, hint),) = problems(strategies=written)

    assert found == f"strategies.{field}"
    assert says in hint


def test_a_circle_is_told_where_it_stands() -> None:
    written = {"a": {"extends": "b"}, "b": {"extends": "a"}, "c": {"extends": "b"}}

    found = dict(problems(strategies=written))

    assert set(found) == {"strategies.a.extends", "strategies.b.extends"}
    assert "a extends b extends a" in found["strategies.a.extends"]


def test_own_words_go_before_those_that_are_extended() -> None:
    found = strategies(
        base={"extends": "cheapest", "incumbent": "two", "release_every_s": 60},
        mine={"extends": "base", "incumbent": "own"},
        other={"extends": "mine", "objective": "quality"},
    )

    assert found["mine"].objective.order is Order.CHEAPEST
    assert [found[n].rules.incumbent for n in ("base", "mine")] == ["two", "own"]
    assert found["other"].objective.order is Order.UTILITY
    assert found["other"].release_every_s == 60


def test_a_trade_is_extended_in_the_form_that_is_ones_own() -> None:
    found = strategies(
        balanced={"pay": "20%", "for": "5% better"},
        dearer={"extends": "balanced", "pay": "40%"},
        valued={"extends": "balanced", "value_usd": 2},
        order={"extends": "balanced", "objective": "cheapest"},
        alone={"extends": "valued", "pay": "10%", "for": "5%"},
    )

    dearer, base = found["dearer"].trade, found["balanced"].trade
    assert dearer is not None
    assert base is not None
    assert (dearer.pay, dearer.gain) == (0.4, base.gain)
    assert (found["valued"].trade, found["valued"].objective.value_usd) == (None, 2)
    assert found["order"].trade is None
    assert found["alone"].objective.value_usd is None


def test_hard_limits_tighten_and_soft_ones_are_wishes() -> None:
    latency = {"within_s": 5, "probability": 0.9, "hard": True}
    found = strategies(
        base={"limits": {"latency": latency, "quality": {"floor": 0.9}}},
        mine={
            "extends": "base",
            "limits": {
                "latency": {"within_s": 9, "probability": 0.99, "hard": True},
                "quality": {"floor": 0.5},
            },
        },
    )

    limits: Limits = found["mine"].limits
    assert (limits.latency_s, limits.latency_prob, limits.quality) == (5, 0.99, 0.5)
    assert [kind.value for kind in limits.hard] == ["latency"]


def test_of_timeouts_the_tightest_hold() -> None:
    found = strategies(
        base={"timeouts": {"answer_s": 5, "stall_s": 3}},
        mine={"extends": "base", "timeouts": {"answer_s": 9, "connect_s": 1}},
    )

    timeouts = found["mine"].timeouts
    assert (timeouts.answer_s, timeouts.stall_s, timeouts.connect_s) == (5, 3, 1)


def test_every_field_of_a_strategy_is_one_that_extending_was_asked_about() -> None:
    constraints = set(StrategyEntry.__bases__[0].model_fields)  # type: ignore[attr-defined]
    asked = {"objective", "incumbent", "latency_usd_per_s", "release_every_s"}  # own words
    asked |= {"value_usd", "pay", "for_"}  # one trade
    asked |= {"exchange", "require_jurisdictions", "usual_retention_days", "limits", "timeouts"}

    assert set(StrategyEntry.model_fields) - constraints == asked | {"extends"}


def hard(one: StrategyEntry) -> tuple[int, bool, int]:
    """What of a strategy tightens beside its rules; greater is tighter."""
    days = one.usual_retention_days
    exchange = list(Exchangeable).index(one.exchange)
    return exchange, one.require_jurisdictions, -(99 if days is None else days)


NAMES = st.lists(st.sampled_from(["EU", "US", "CH"]), min_size=1, unique=True)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "regions": NAMES,
    "jurisdictions": NAMES,
    "zones": st.lists(st.sampled_from(["local", "vendor", "eu-cloud"]), min_size=1, unique=True),
    "data_class": st.sampled_from(["public", "internal", "confidential", "restricted"]),
    "max_retention_days": st.integers(0, 60),
    "endpoints": st.lists(st.sampled_from(["one", "t*", "own"]), min_size=1)
    | st.fixed_dictionaries({"deny": st.lists(st.sampled_from(["one", "own"]))}),
    **dict.fromkeys(
        ("no_training", "keep_nothing", "private", "require_jurisdictions", "explore"),
        st.booleans(),
    ),
    **dict.fromkeys(("require", "forbid"), st.lists(st.sampled_from(["tools", "images"]))),
    "tools": st.lists(st.sampled_from(["grep", "ls"]), unique=True),
    "min_context_tokens": st.integers(1, 90_000),
    "max_cost_usd": st.floats(0.01, 9),
    "max_latency_ms": st.floats(1, 99_000),
    "stakes": st.sampled_from(["normal", "high"]),
    "exchange": st.sampled_from([one.value for one in Exchangeable]),
    "usual_retention_days": st.integers(0, 60),
}
ENTRIES = st.fixed_dictionaries({}, optional=FIELDS)


def test_every_constraint_has_values_in_these_tests() -> None:
    soft = {"objective", "incumbent", "latency_usd_per_s", "release_every_s", "value_usd", "pay"}

    asked = {*FIELDS, *soft, "for_", "extends", "limits", "timeouts"}
    assert asked == set(StrategyEntry.model_fields)


@given(st.sampled_from(sorted(PRESETS)), ENTRIES, ENTRIES, st.booleans())
def test_nothing_that_extends_another_is_looser(
    preset: str, base: dict[str, Any], own: dict[str, Any], under_its_name: bool
) -> None:
    name = preset if under_its_name else "base"
    written = {name: {"extends": preset, **base}, "mine": {"extends": name, **own}}
    found = lineages({n: StrategyEntry.model_validate(one) for n, one in written.items()})
    plain = lineages({})[preset]

    for looser, tighter in ((plain, found[name]), (found[name], found["mine"])):
        rules = [one.rules(PLACES, CLASSES) for one in (looser, tighter)]
        assert loosened(*rules) == []
        assert all(map(le, hard(looser.entry), hard(tighter.entry)))
