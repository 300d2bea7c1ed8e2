"""What a file says in vain, or for more than was meant, is told, and only that."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import pointsman

from router.config.bindings import warn_of_inactive
from router.config.file import parse
from router.config.ignored import warn_of_ignored
from router.errors import ConfigError

ENDPOINTS = """
endpoints:
  - {id: near, model: m, base_url: "http://10.0.0.1/v1", zone: local, region: eu}
  - {id: far, model: m, base_url: "http://10.0.0.2/v1", zone: vendor, region: us}
"""
DIGEST = "sha256:" + "ab" * 32


def problems(lines: str) -> list[str]:
    try:
        parse(ENDPOINTS + lines, file="t", secrets=False)
    except ConfigError as error:
        return [f"{p.field}: {p.value}: {p.hint}" for p in error.problems]
    return []


def ignored(strategies: str) -> list[str]:
    entries = parse(f"{ENDPOINTS}strategies: {{{strategies}}}", file="t", secrets=False)
    return [line.partition(" is ignored")[0] for line in warn_of_ignored(entries)]


def test_users_that_are_required_must_be_there() -> None:
    (told,) = problems("apps: {default: {users: required}}")

    assert told.startswith("apps.default.users: required: no user is configured")
    assert "add users:" in told
    assert problems("users: {u: {}}\napps: {default: {users: required}}") == []


@pytest.mark.parametrize("section", ["apps: {default: ", "users: {u: "])
def test_a_key_of_a_role_that_is_not_active_is_warned_of(section: str) -> None:
    keys = f"{section}{{keys: [{{key: '{DIGEST}', role: r}}]}}}}\n"

    text = f"{ENDPOINTS}{keys}roles: {{r: {{active: false}}}}"
    (told,) = warn_of_inactive(parse(text, file="t", secrets=False))

    where = section.replace(": {", ".").rstrip(": ")
    assert told.startswith(f"{where}.keys[0].role: r: this role is not active")
    assert "write active: true in roles.r" in told
    active = parse(f"{ENDPOINTS}{keys}roles: {{r: {{}}}}", file="t", secrets=False)
    assert list(warn_of_inactive(active)) == []


def test_a_match_that_says_nothing_is_an_error() -> None:
    (told,) = problems("tasks: {code: {match: {}}, chat: {match: }, law: {match: {schema: true}}}")

    assert told.startswith("tasks.code.match: {}: a match that says nothing holds of every call")


@pytest.mark.parametrize(
    ("strategies", "said"),
    [
        ("a: {extends: private, private: false}", ["strategies.a: private: false"]),
        ("private: {private: false}", ["strategies.private: private: false"]),
        ("a: {extends: legal, stakes: normal}", ["strategies.a: stakes: normal"]),
        ("a: {extends: pinned, exchange: any}", ["strategies.a: exchange: any"]),
        (
            "a: {extends: coding, min_context_tokens: 8000}",
            ["strategies.a: min_context_tokens: 8000"],
        ),
        (
            "a: {extends: legal, usual_retention_days: 30}",
            ["strategies.a: usual_retention_days: 30"],
        ),
        (
            "a: {explore: false, regions: [eu]}, b: {extends: a, explore: true, regions: [eu, us]}",
            ["strategies.b: explore: true", "strategies.b: regions: [eu, us]"],
        ),
        (
            "a: {endpoints: [near]}, b: {extends: a, endpoints: [near, far]}",
            ["strategies.b: endpoints: [near, far]"],
        ),
        ("a: {private: false}", []),
        ("a: {extends: private}", []),
        ("a: {extends: private, private: true}", []),
        ("a: {extends: coding, min_context_tokens: 64000, stakes: normal}", []),
        ("a: {regions: [eu, us]}, b: {extends: a, regions: [eu]}", []),
        ("a: {regions: [eu, us]}, b: {extends: a, regions: [us, asia]}", []),
    ],
)
def test_a_strategy_that_says_less_than_what_it_extends_is_told(
    strategies: str, said: list[str]
) -> None:
    assert ignored(strategies) == said


def test_check_tells_what_is_ignored_and_takes_the_file(tmp_path: Path) -> None:
    file = tmp_path / "pointsman.yaml"
    lines = "strategies: {a: {extends: private, private: false}}\n"
    file.write_text(f"{ENDPOINTS}{lines}server: {{state_dir: {tmp_path}}}\n")

    said = pointsman("check", "--config", file)
    as_json = json.loads(pointsman("check", "--config", file, "--json").stdout)

    line = (
        "strategies.a: private: false is ignored: private, which it extends, says more, and what "
        "constrains only tightens"
    )
    assert said.exit_code == 0
    assert line in said.stderr
    assert (as_json["ok"], as_json["warnings"]) == (True, [line])


# -- one mistake, one line ----------------------------------------------------------------------


def test_a_key_itself_beside_a_role_is_told_once() -> None:
    (told,) = problems("apps: {default: {keys: [{key: sk-abcdefgh12345678, role: x}]}}")

    assert told.startswith("apps.default.keys[0]: …: a key never stands in this file")
    assert "unknown key" not in told


def test_what_stands_beside_a_key_and_is_misspelt_is_no_key() -> None:
    lines = "apps: {default: {keys: [{key: {env: K}, rol: r}]}}\nroles: {r: {}}"

    assert problems(lines) == ["apps.default.keys[0]: rol: unknown key; did you mean 'role'?"]


def test_what_a_key_says_has_its_place_beside_the_key() -> None:
    (told,) = problems("apps: {default: {keys: [{env: K, role: r}]}}\nroles: {r: {}}")

    assert told.endswith("write key: before the source: {key: {env: NAME}, role: …}")


@pytest.mark.parametrize("field", ["endpoints: {allow: []}", "zones: []", "jurisdictions: []"])
def test_an_empty_list_is_told_in_plain_words(field: str) -> None:
    (told,) = problems(f"apps: {{default: {{{field}}}}}")

    assert "the list is empty; name what belongs in it" in told
