"""Who may call what: levels of the policy, roles, keys and users, through a running sidecar."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Provider, Sidecar, endpoint, serving
from hypothesis import given
from hypothesis import strategies as st
from looser import loosened

from router.config.compiled import compile_text
from router.config.keys import hashed
from router.config.rules import HARD, Level, PolicyRules, merge
from router.endpoints.data_classes import DataClasses
from router.errors import ConfigError
from telemetry.store import Address

PRICES = {"input_usd_per_mtok": 5, "output_usd_per_mtok": 20}
ASK = {"messages": [{"role": "user", "content": "hi"}]}
CLASSES = DataClasses()


def configured(provider: Provider, **more: Any) -> dict[str, Any]:
    """Three endpoints: a vendor's, one in the EU, and one of one's own."""
    return {
        "endpoints": [
            endpoint(provider, "vendor", model="m", capabilities=["tools"], zone="vendor"),
            endpoint(
                provider,
                "europe",
                model="n",
                region="eu",
                jurisdiction="EU",
                zone="eu-cloud",
                max_data_class="confidential",
                zero_retention=True,
                trains_on_data=False,
            ),
            endpoint(
                provider,
                "own",
                model="o",
                zone="local",
                max_data_class="restricted",
                dialects=["chat", "responses"],
            ),
        ],
        **more,
    }


@pytest.fixture
def plain(provider: Provider, state_dir: Path, address: Address) -> Iterator[Sidecar]:
    roles = {
        "coder": {"tasks": ["code"], "require": ["tools"], "endpoints": ["vendor"]},
        "planner": {"callers": ["m*"], "strategy": "cheapest", "data_class": "public"},
        "asleep": {"active": False},
    }
    value = configured(
        provider,
        tasks={"code": {}, "secret": {"data_class": "restricted"}},
        roles=roles,
        users={"eve": {"data_class": "confidential"}},
        apps={"default": {"mode": "route", "data_class": "public"}},
    )
    with serving(value, state_dir, address) as sidecar:
        yield sidecar


def dry(sidecar: Sidecar, model: str = "auto", /, *, status: int = 200, **hints: str) -> Any:
    headers = {f"x-router-{name.replace('_', '-')}": value for name, value in hints.items()}
    headers["x-router-dry-run"] = "1"
    got = sidecar.http.post("/v1/chat/completions", json={**ASK, "model": model}, headers=headers)
    assert got.status_code == status, got.text
    return got.json()


def test_a_dry_run_answers_with_the_plan_and_calls_nobody(
    plain: Sidecar, provider: Provider
) -> None:
    shown = dry(plain)

    assert shown["endpoint"] == "vendor"
    assert shown["policy"]["data_class"] == {
        "value": "public",
        "said": [{"by": "app", "value": "public"}],
    }
    assert provider.calls == []


@pytest.mark.parametrize(
    ("hints", "endpoint_id", "by"),
    [
        ({}, "vendor", "app"),
        ({"data_class": "confidential"}, "europe", "request"),
        ({"data_class": "restricted"}, "own", "request"),
        ({"task": "secret"}, "own", "task"),
        ({"task": "secret", "data_class": "public"}, "own", "task"),  # it may only raise
        ({"user": "eve"}, "europe", "user"),
        ({"user": "adam"}, "vendor", "app"),
        ({"role": "coder"}, "vendor", "app"),
    ],
)
def test_a_level_raises_the_class_of_data_and_none_lowers_it(
    plain: Sidecar, hints: dict[str, str], endpoint_id: str, by: str
) -> None:
    shown = dry(plain, **hints)

    assert shown["endpoint"] == endpoint_id
    value = shown["policy"]["data_class"]["value"]
    assert {"by": by, "value": value} in shown["policy"]["data_class"]["said"]


def test_a_role_is_asked_for_by_model_or_header_and_has_its_task(plain: Sidecar) -> None:
    for shown in (
        dry(plain, "role:coder"),
        dry(plain, "claude-role-coder"),
        dry(plain, role="coder"),
    ):
        assert (shown["role"], shown["task"], shown["endpoint"]) == ("coder", "code", "vendor")
        assert shown["exclusions"] == {"europe": "not_allowed", "own": "not_allowed"}


def test_a_role_that_its_callers_name_by_a_model_is_routed_from_that_model(plain: Sidecar) -> None:
    shown = dry(plain, "m")

    assert (shown["role"], shown["strategy"], shown["incumbent"]) == (
        "planner",
        "cheapest",
        "vendor",
    )
    assert shown["routed"]
    assert shown["fallback"] == "any"
    assert dry(plain, "n")["role"] is None  # no role's callers name that one


@pytest.mark.parametrize(("role", "says"), [("nobody", "unknown role"), ("asleep", "not active")])
def test_a_role_that_there_is_not_is_refused_and_not_guessed(
    plain: Sidecar, role: str, says: str
) -> None:
    error = dry(plain, role=role, status=400)["error"]

    assert says in error["message"]
    assert error["code"] == "unknown_role"


def test_roles_are_listed_as_models_and_to_anthropics_clients_by_names_like_theirs(
    plain: Sidecar,
) -> None:
    of_openai = plain.http.get("/v1/models").json()
    of_anthropic = plain.http.get("/v1/models", headers={"anthropic-version": "2023-06-01"}).json()

    assert {"role:coder", "role:planner"} <= {m["id"] for m in of_openai["data"]}
    assert {"claude-role-coder", "claude-role-planner"} <= {m["id"] for m in of_anthropic["data"]}
    assert "role:asleep" not in {m["id"] for m in of_openai["data"]}


@pytest.mark.parametrize(
    "hints",
    [
        {"max_cost_usd": "much"},
        {"max_cost_usd": "0"},
        {"max_latency_ms": "-1"},
        {"max_latency_ms": "nan"},
    ],
)
def test_a_limit_that_is_no_number_is_refused_by_its_name(
    plain: Sidecar, hints: dict[str, str]
) -> None:
    error = dry(plain, status=400, **hints)["error"]

    assert error["param"] in hints


@pytest.mark.parametrize(
    ("header", "code"),
    [("x-router-max-cost-usd", "max_cost"), ("x-router-max-latency-ms", "latency")],
)
def test_a_call_of_which_nothing_is_known_is_passed_on_under_no_bound(
    provider: Provider, state_dir: Path, address: Address, header: str, code: str
) -> None:
    rest = {"base_url": provider.url("p"), "passthrough": True}
    with serving(configured(provider, providers={"rest": rest}), state_dir, address) as sidecar:
        got = sidecar.http.post(
            "/v1/chat/completions", json={**ASK, "model": "unlisted"}, headers={header: "5"}
        )

    assert got.status_code == 409
    assert got.json()["error"]["exclusions"] == {"rest": code}
    assert provider.calls == []


def test_what_keeps_content_is_forced_off_or_refused_from_confidential_up(
    plain: Sidecar, provider: Provider
) -> None:
    headers = {"x-router-data-class": "confidential"}
    stored = plain.http.post(
        "/v1/chat/completions", json={**ASK, "model": "n", "store": True}, headers=headers
    )
    searching = plain.http.post(
        "/v1/chat/completions",
        json={**ASK, "model": "n", "web_search_options": {}},
        headers={**headers, "x-router-dry-run": "1"},
    )

    assert stored.status_code == searching.status_code == 409
    assert stored.json()["error"]["code"] == "keeps_content"
    assert stored.json()["error"]["exclusions"]["europe"] == "keeps_content: store"
    assert searching.json()["error"]["exclusions"]["europe"] == "keeps_content: web_search"
    assert provider.calls == []
    at_home = plain.http.post(
        "/v1/chat/completions", json={**ASK, "model": "o", "store": True}, headers=headers
    )
    assert at_home.status_code == 200  # what stays in the zone `local` leaves nothing anywhere


def test_a_key_carries_role_user_and_class(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    value = configured(
        provider,
        tasks={"code": {}},
        roles={"coder": {"tasks": ["code"]}},
        users={"eve": {"zones": ["local"], "app": "one", "keys": [hashed("eves")]}},
        apps={
            "one": {
                "mode": "route",
                "keys": [
                    hashed("plain"),
                    {"key": hashed("coder"), "role": "coder", "data_class": "confidential"},
                ],
            }
        },
    )
    with serving(value, state_dir, address) as sidecar:
        shown = {}
        for key in ("plain", "coder", "eves"):
            sidecar.http.headers["x-router-key"] = key
            shown[key] = dry(sidecar)

    assert [shown[k]["endpoint"] for k in shown] == ["vendor", "europe", "own"]
    assert [shown[k]["role"] for k in shown] == [None, "coder", None]
    said = shown["coder"]["policy"]["data_class"]["said"]
    assert {"by": "key", "value": "confidential"} in said
    assert shown["eves"]["policy"]["zones"]["said"] == [{"by": "user", "value": ["local"]}]


def test_where_users_are_required_who_names_none_has_the_strictest_rules(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    value = configured(
        provider,
        users={"eve": {"zones": ["local"]}, "adam": {"data_class": "internal"}},
        apps={"default": {"mode": "route", "users": "required"}},
    )
    with serving(value, state_dir, address) as sidecar:
        got = [dry(sidecar, **h)["endpoint"] for h in ({}, {"user": "x"}, {"user": "adam"})]

    assert got == ["own", "own", "vendor"]


@pytest.fixture
def strict(provider: Provider, state_dir: Path, address: Address) -> Iterator[Sidecar]:
    value = configured(
        provider,
        providers={"rest": {"base_url": provider.url("p"), "passthrough": True}},
        tasks={
            "law": {"match": {"system": ["legal counsel"]}, "data_class": "restricted"},
            "chat": {},
        },
        roles={"watched": {"callers": ["m"], "zones": ["local"], "tools": ["read"]}},
        strategies={"home": {"zones": ["local"]}},
        apps={
            "plain": {"mode": "route", "keys": [hashed("plain")]},
            "seen": {"mode": "observe", "keys": [hashed("seen")]},
            "legal": {"mode": "route", "task": "law", "keys": [hashed("legal")]},
            "home": {"mode": "route", "strategy": "home", "keys": [hashed("home")]},
            "held": {"mode": "route", "fallback": "none", "keys": [hashed("held")]},
        },
    )
    with serving(value, state_dir, address) as sidecar:
        yield sidecar


@pytest.mark.parametrize(
    ("key", "model", "hints"),
    [
        ("legal", "auto", {"task": "chat"}),
        ("legal", "auto/general", {}),
        ("home", "auto:cheapest", {}),
        ("home", "auto", {"strategy": "quality"}),
        ("plain", "auto", {"task": "law/hard/none"}),
        ("plain", "auto", {"task": "law/nowhere"}),
    ],
)
def test_no_hint_loosens_what_would_hold_without_it(
    strict: Sidecar, key: str, model: str, hints: dict[str, str]
) -> None:
    strict.http.headers["x-router-key"] = key

    assert dry(strict, model, **hints)["endpoint"] == "own"


def test_an_unknown_task_is_refused_where_tasks_hold_constraints(strict: Sidecar) -> None:
    strict.http.headers["x-router-key"] = "plain"
    error = dry(strict, task="lwa", status=400)["error"]

    assert error["code"] == "unknown_task"
    assert "did you mean 'law'" in error["message"]


LEGAL = {"messages": [{"role": "system", "content": "You are legal counsel."}, *ASK["messages"]]}


def test_rules_of_structure_hold_for_what_is_passed_on_and_within_a_session(
    strict: Sidecar, provider: Provider
) -> None:
    strict.http.headers["x-router-key"] = "plain"
    post = strict.http.post
    passed = post("/v1/chat/completions", json={**LEGAL, "model": "unlisted"})
    session = {"x-router-session-id": "s"}
    post("/v1/chat/completions", json={**ASK, "model": "auto"}, headers=session)
    later = post("/v1/chat/completions", json={**LEGAL, "model": "auto"}, headers=session)

    assert passed.status_code == 409
    assert later.headers["x-router-endpoint"] == "own"
    assert [call.host for call in provider.calls] == ["vendor", "own"]


def test_what_nobody_can_read_has_the_rules_of_all_that_a_rule_may_mark(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    """Also those of what a marked leaf is below, and of the strategy that it would have."""
    rest = {"base_url": provider.url("p"), "passthrough": True, "zone": "vendor"}
    marked = {"match": {"tools": ["t"]}}
    held = [
        {"tasks": {"law": {"data_class": "restricted"}, "law/review": marked}},
        {"tasks": {"law": {**marked, "strategy": "home"}}},
        {"tasks": {"law": marked}, "apps": {"default": {"strategies": {"law": "home"}}}},
    ]
    for more in held:
        value = configured(
            provider,
            providers={"rest": rest},
            strategies={"home": {"zones": ["local"]}},
            **more,
        )
        with serving(value, state_dir, address) as sidecar:
            body = b'{"model": "unlisted", "messages": "?", "input": 7}'
            got = sidecar.http.post("/v1/responses", content=body)

        assert got.status_code == 409, more
    assert provider.calls == []


def test_the_hard_limits_of_the_role_that_a_key_carries_hold_in_any_other(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    value = configured(
        provider,
        roles={"frugal": {"limits": {"cost": {"usd": 1e-9, "hard": True}}}, "free": {}},
        apps={"default": {"mode": "route", "keys": [{"key": hashed("k"), "role": "frugal"}]}},
    )
    value["endpoints"] = [{**one, "prices": PRICES} for one in value["endpoints"]]
    with serving(value, state_dir, address) as sidecar:
        sidecar.http.headers["x-router-key"] = "k"
        refused = [dry(sidecar, status=409, **hints) for hints in ({}, {"role": "free"})]

    assert {one["error"]["exclusions"]["own"] for one in refused} == {"cost"}


def test_a_callers_role_only_is_booked_in_observe_and_of_what_is_passed_on(
    strict: Sidecar,
) -> None:
    tool = {"type": "function", "function": {"name": "bash", "parameters": {}}}
    strict.http.headers["x-router-key"] = "seen"
    got = strict.http.post("/v1/chat/completions", json={**ASK, "model": "m", "tools": [tool]})

    assert got.headers["x-router-endpoint"] == "vendor"
    assert dry(strict, "m")["role"] == "watched"


def test_a_class_raised_in_a_session_goes_to_who_may_have_it_whatever_it_may_fall_to(
    strict: Sidecar,
) -> None:
    strict.http.headers.update({"x-router-key": "held", "x-router-session-id": "s"})
    strict.http.post("/v1/chat/completions", json={**ASK, "model": "auto"})
    raised = strict.http.post(
        "/v1/chat/completions",
        json={**ASK, "model": "auto"},
        headers={"x-router-data-class": "confidential"},
    )

    assert raised.headers["x-router-endpoint"] == "europe"
    assert dry(strict)["endpoint"] == "europe"


def test_a_hint_that_comes_twice_is_refused(strict: Sidecar) -> None:
    twice = [("x-router-data-class", "restricted"), ("x-router-data-class", "public")]
    got = strict.http.post(
        "/v1/chat/completions",
        json={**ASK, "model": "auto"},
        headers=[("x-router-key", "plain"), *twice],
    )

    assert got.status_code == 400
    assert "twice" in got.json()["error"]["message"]


def test_a_tool_that_no_rule_names_is_refused(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    tool = {"type": "function", "function": {"name": "delete_all", "parameters": {}}}
    value = configured(provider, apps={"default": {"mode": "route", "tools": ["read_*"]}})
    with serving(value, state_dir, address) as sidecar:
        got = sidecar.http.post(
            "/v1/chat/completions", json={**ASK, "model": "auto", "tools": [tool]}
        )

    assert got.status_code == 403
    assert got.json()["error"]["code"] == "tool_not_allowed"
    assert "delete_all" in got.json()["error"]["message"]


def test_classes_of_ones_own_stand_among_the_usual_ones(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    value = configured(
        provider,
        classes=["public", "internal", "confidential", "secret", "restricted"],
        apps={"default": {"mode": "route"}},
    )
    with serving(value, state_dir, address) as sidecar:
        shown = dry(sidecar, data_class="secret")
        error = dry(sidecar, data_class="mystery", status=400)["error"]

    assert shown["endpoint"] == "own"
    assert "known: public, internal, confidential, secret, restricted" in error["message"]


def app(**more: Any) -> dict[str, Any]:
    return {"apps": {"default": more}}


@pytest.mark.parametrize(
    ("more", "field", "says"),
    [
        ({"classes": ["public", "secret"]}, "classes", "missing"),
        (
            {"apps": {"default": {"data_class": "confidentail"}}},
            "apps.default.data_class",
            "did you mean",
        ),
        ({"roles": {"r": {"tasks": ["cod"]}}, "tasks": {"code": {}}}, "roles.r.tasks[0]", "code"),
        ({"organisation": {"strategy": "quickest"}}, "organisation.strategy", "no such strategy"),
        ({"apps": {"default": {"endpoints": ["vendr"]}}}, "apps.default.endpoints[0]", "vendor"),
        (
            {"apps": {"default": {"endpoints": {"deny": ["*"]}}}},
            "apps.default",
            "no endpoint may serve",
        ),
        ({"apps": {"default": {"zones": ["mars"]}}}, "apps.default.zones[0]", "no such zone"),
        ({"organisation": {"jurisdictions": ["CH"]}}, "apps.default", "jurisdiction is EU"),
        (
            {"roles": {"r": {"zones": ["local"], "incumbent": "vendor"}}},
            "roles.r.incumbent",
            "zone is vendor",
        ),
    ],
)
def test_what_the_policy_mentions_and_there_is_not_is_named_with_the_fix(
    provider: Provider, more: dict[str, Any], field: str, says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        compile_text(yaml.safe_dump(configured(provider, **more)), file="t.yaml")

    assert [p.field for p in caught.value.problems] == [field]
    assert says in caught.value.problems[0].hint


# -- the merge ----------------------------------------------------------------------------------

NAMES = st.frozensets(st.sampled_from(["a", "b", "c"]), max_size=3)
HARD_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "data_class": st.none() | st.sampled_from(CLASSES.all),
    **dict.fromkeys(("regions", "jurisdictions", "zones", "allow"), st.none() | NAMES),
    "retention_days": st.none() | st.integers(0, 90),
    **dict.fromkeys(("no_training", "keep_nothing", "private"), st.booleans()),
    **dict.fromkeys(("high_stakes", "no_exploring"), st.booleans()),
    "context_tokens": st.none() | st.integers(1, 90_000),
    "deny": NAMES,
    **dict.fromkeys(("require", "forbid"), st.integers(0, 1023)),
    "tools": st.frozensets(NAMES, max_size=2),
    **dict.fromkeys(("cost_usd", "latency_ms"), st.none() | st.floats(0.001, 100)),
}
PARTS = st.lists(
    st.tuples(st.sampled_from(Level), st.builds(PolicyRules, **HARD_VALUES)), max_size=5
)


@given(PARTS)
def test_no_merged_policy_is_looser_than_any_of_its_parts(
    parts: list[tuple[Level, PolicyRules]],
) -> None:
    merged = merge(parts).rules

    assert [loosened(part, merged) for _, part in parts] == [[]] * len(parts)


@given(PARTS, st.randoms())
def test_of_hard_constraints_the_order_of_levels_changes_nothing(
    parts: list[tuple[Level, PolicyRules]], random: Any
) -> None:
    shuffled = list(parts)
    random.shuffle(shuffled)

    assert merge(parts).rules == merge(shuffled).rules
    assert merge([*parts, *parts]).rules == merge(parts).rules


def test_of_a_preference_the_first_level_that_sets_it_holds() -> None:
    merged = merge(
        [
            (Level.ROLE, PolicyRules(prefer=1)),
            (Level.APP, PolicyRules(strategy="cheapest", prefer=2)),
            (Level.ORGANISATION, PolicyRules(strategy="quality")),
        ]
    )

    assert (merged.rules.strategy, merged.rules.prefer) == ("cheapest", 1)


def test_every_hard_field_has_values_in_these_tests() -> None:
    assert set(HARD_VALUES) == set(HARD)
