"""Which hard constraints a change of the configuration loosened."""

from __future__ import annotations

from typing import Any

import pytest

from router.config.compiled import compile_text
from router.config.hard import FIELDS, hard_constraints, loosened

CLASSES = {"public": 0, "internal": 1, "confidential": 2, "restricted": 3}


def told(**things: Any) -> dict[str, Any]:
    return {"classes": CLASSES, **things}


def app(**fields: Any) -> dict[str, Any]:
    return told(app={"a": fields})


def key(**fields: Any) -> dict[str, Any]:
    return told(key={"apps.a.keys.0": fields})


def place(**fields: Any) -> dict[str, Any]:
    return told(endpoint={"e": fields})


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (app(data_class="restricted"), app(data_class="internal"), "restricted → internal"),
        (app(regions=["eu"]), app(regions=["eu", "us"]), "regions eu → eu, us"),
        (app(regions=["eu"]), app(regions=None), "regions eu → none"),
        (app(allow=["a"]), app(), "allow a → none"),
        (app(deny=["a", "b"]), app(deny=["b"]), "deny a, b → b"),
        (app(deny=["a"]), app(), "deny a → none"),
        (app(zero_retention=True), app(zero_retention=False), "True → False"),
        (app(max_retention_days=0), app(max_retention_days=30), "0 → 30"),
        (app(max_retention_days=0), app(), "0 → none"),
        (app(never_seen=1), app(never_seen=2), "never_seen 1 → 2"),
        (app(tools=[["a"]]), app(), "tools a → none"),
        (app(tools=[["a"]]), app(tools=[["a", "b"]]), "tools a → a, b"),
        (app(tools=[[]]), app(tools=[["a"]]), "tools nothing → a"),
        (app(tools=[["a"], ["b"]]), app(tools=[["b"]]), "tools a and b → b"),
        (app(users="required"), app(), "users required → none"),
        (key(data_class="restricted"), key(data_class="internal"), "restricted → internal"),
        (key(data_class="restricted"), key(), "key apps.a.keys.0: data_class restricted → none"),
        (key(data_class="restricted"), told(key={}), "data_class restricted → none"),
        (key(user="u"), key(user="v"), "user u → v"),
        (key(user="u"), key(), "user u → none"),
        (place(max_data_class="internal"), place(max_data_class="restricted"), "→ restricted"),
        (place(zone="local"), place(zone="vendor"), "zone local → vendor"),
        (place(zone="local"), place(), "zone local → none"),
        (place(region="eu"), place(region="us"), "region eu → us"),
        (place(agreed_until="2026-01-01"), place(agreed_until="2027-01-01"), "agreed_until"),
        (place(agreed_until="2026-01-01"), place(), "agreed_until 2026-01-01 → none"),
    ],
)
def test_what_is_loosened_is_named(before: Any, after: Any, said: str) -> None:
    (found,) = loosened(before, after)

    assert said in found


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (app(data_class="internal"), app(data_class="restricted")),
        (app(regions=["eu", "us"]), app(regions=["us"])),
        (app(regions=None), app(regions=["us"])),
        (app(), app(allow=["a"])),
        (app(deny=["b"]), app(deny=["a", "b"])),
        (app(), app(zero_retention=True)),
        (app(max_retention_days=30), app(max_retention_days=0)),
        (app(), app(tools=[["a"]])),
        (app(), app(tools=[[]])),
        (app(tools=[["a", "b"]]), app(tools=[["a"]])),
        (app(tools=[["a"]]), app(tools=[["a"], ["b"]])),
        (app(), app(users="required")),
        (app(users="required"), told(app={})),
        (key(), key(data_class="restricted", user="u")),
        (key(data_class="internal"), key(data_class="restricted")),
        (told(key={}), key()),
        (told(), key()),  # keys were not told of before
        (place(max_data_class="restricted"), place(max_data_class="internal")),
        (place(agreed_until="2027-01-01"), place(agreed_until="2026-01-01")),
        (place(), place(agreed_until="2026-01-01")),
        (app(data_class="internal"), told(app={})),
        (told(app={}), app(data_class="public")),
        (told(endpoint={}), place(max_data_class="internal", zone="vendor")),
    ],
)
def test_what_is_tightened_or_new_for_no_more_than_usual_is_not(before: Any, after: Any) -> None:
    assert loosened(before, after) == []
    assert loosened(after, after) == []


def test_a_new_endpoint_for_sensitive_data_is_named_with_its_zone() -> None:
    after = place(max_data_class="confidential", zone="vendor")

    assert loosened(told(), after) == ["endpoint e: new, takes up to confidential, zone vendor"]


def test_classes_that_change_places_are_named() -> None:
    after = {"classes": {"public": 0, "confidential": 1, "internal": 2}}

    assert loosened(told(), after) == [
        "class confidential: no longer above internal",
        "class restricted: gone",
    ]


ENDPOINTS = """
endpoints: [{id: near, model: m, base_url: "http://10.0.0.1/v1", zone: local}]
"""


def between(before: str, after: str) -> list[str]:
    """What a change of these lines of a file loosened."""
    compiled = [
        compile_text(ENDPOINTS + lines, file="test.yaml", secrets=False)
        for lines in (before, after)
    ]
    return loosened(*map(hard_constraints, compiled))


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            "apps: {default: {strategy: private}}",
            "apps: {default: {strategy: quality}}",
            ["app default: private True → none"],
        ),
        (
            "organisation: {strategy: private}\napps: {default: {}}",
            "apps: {default: {}}",
            ["app default: private True → none"],
        ),
        (
            "apps: {default: {strategy: private, zones: [local]}}",
            "apps: {default: {strategy: quality, private: true, zones: [local]}}",
            [],
        ),
        ("apps: {default: {strategy: quality}}", "apps: {default: {strategy: private}}", []),
        (
            "tasks: {law: }\napps: {default: {strategies: {law: private}}}",
            "tasks: {law: }\napps: {default: {}}",
            ["app default, task law: private True → none"],
        ),
        (
            "tasks: {law: }\napps: {default: {strategy: private}}",
            "tasks: {law: }\napps: {default: {strategy: private, strategies: {law: quality}}}",
            ["app default, task law: private True → none"],
        ),
        (
            "tasks: {law: }\napps: {default: {strategies: {law: private}}}",
            "tasks: {law: }\napps: {default: {strategy: private}}",
            [],
        ),
        (
            "tasks: {law: }\napps: {default: {min_context_tokens: 9, strategies: {law: private}}}",
            "tasks: {law: }\napps: {default: {strategies: {law: private}}}",
            ["app default: min_context_tokens 9 → none"],
        ),
    ],
)
def test_an_apps_strategy_constrains_its_calls(before: str, after: str, said: list[str]) -> None:
    assert between(before, after) == said


def test_what_keys_say_is_told_by_their_place() -> None:
    keys = "keys: [{env: A}, {key: {env: B}, data_class: restricted, user: u}]"
    digest = "sha256:" + "a" * 64
    lines = f"apps: {{default: {{{keys}}}}}\nusers: {{u: {{keys: ['{digest}']}}}}"

    configuration = compile_text(ENDPOINTS + lines, file="test.yaml", secrets=False)

    found = hard_constraints(configuration)
    assert found["key"] == {
        "apps.default.keys.0": {},
        "apps.default.keys.1": {"data_class": "restricted", "user": "u"},
        "users.u.keys.0": {},
    }
    assert "a" * 64 not in str(found)
    assert {"data_class", "user", "users"} <= set(FIELDS)
    lower = lines.replace("data_class: restricted", "data_class: internal")
    assert between(lines, lower) == ["key apps.default.keys.1: data_class restricted → internal"]
    assert between(lines + "\n", lines) == []


def test_every_field_that_is_told_has_a_side_and_none_of_it_is_a_secret() -> None:
    configuration = compile_text(
        """
providers:
  v: {base_url: "https://v.test/v1", passthrough: true, region: us, auth: {env: V_KEY}}
endpoints:
  - {id: near, model: m, base_url: "http://10.0.0.1/v1", zone: local, max_data_class: restricted,
     region: eu, jurisdiction: DE, retention_days: 0, trains_on_data: false,
     agreement: {until: 2099-01-01}}
apps:
  default: {data_class: restricted, regions: [eu, de]}
""",
        file="test.yaml",
        secrets=False,
    )

    found = hard_constraints(configuration)

    assert found["classes"] == CLASSES
    assert found["app"]["default"] == {"data_class": "restricted", "regions": ["de", "eu"]}
    assert found["endpoint"]["near"] == {
        "zone": "local",
        "max_data_class": "restricted",
        "region": "eu",
        "jurisdiction": "DE",
        "retention_days": 0,
        "trains_on_data": False,
        "agreed_until": "2099-01-01",
    }
    assert found["provider"]["v"] == {"max_data_class": "internal", "region": "us"}
    told_of = {
        f for kind in ("app", "endpoint", "provider") for x in found[kind].values() for f in x
    }
    assert told_of <= set(FIELDS)
    assert "10.0.0.1" not in str(found)
