"""A misspelt section or field is told with what was meant, and is the only thing that is wrong."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from router.config.file import parse
from router.errors import ConfigError, Problem

ROOT = Path(__file__).parent.parent
ONE = "endpoints:\n  - {id: a, model: m, base_url: http://h/v1}\n"
NAMED = ("budgets", "models", "providers", "tasks", "roles", "strategies", "users", "apps")
Path_ = tuple[str | int, ...]


class WithoutAliases(yaml.CSafeDumper):
    def ignore_aliases(self, _: Any) -> bool:
        return True


def written(value: Any) -> str:
    return yaml.dump(value, Dumper=WithoutAliases, sort_keys=False)


def problems(text: str) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        parse(text, file="f")
    return caught.value.problems


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A sound configuration with every field that an example shows, and those nested deepest."""
    seals = ("POINTSMAN_SEAL", "POINTSMAN_SEAL_BEFORE")
    monkeypatch.setenv("NOTICES_URL", "https://example.com/notices")
    monkeypatch.setenv("NOTICES_SECRET", "a secret of the receiver's own")
    for name in ("AZURE_KEY", "POINTSMAN_ADMIN_KEY", "MY_APP_KEY", "REDIS_URL", *seals):
        monkeypatch.setenv(name, f"redis://{name}")
    text = (ROOT / "docs/examples/pointsman.yaml").read_text()
    text = re.sub(r"^( *)# ([a-z_-]+: |- id: |  )", r"\1\2", text, flags=re.M)
    value: dict[str, Any] = yaml.safe_load(text.replace("/run/secrets/key", "/dev/null"))
    azure = {"deployment": "d", "api_version": "v"}
    value["endpoints"] = [
        {**each, "auth": {"env": "AZURE_KEY", "header": "x-k", "azure": {**azure}}}
        for each in value["endpoints"]
    ]
    value["endpoints"][0]["translate"] = {"from": ["messages"], "drop": ["store"]}
    value["endpoints"][0]["timeouts"] = {"stall_s": 3, "beside_s": {"first_token": 1, "answer": 2}}
    return value


def fields(node: Any, where: Path_ = ()) -> Iterator[Path_]:
    """Every field that is written; names of entries, tiers, settings and capabilities are none."""
    parts = node.items() if isinstance(node, dict) else enumerate(node)
    for part, value in parts:
        at = (*where, part)
        if "params" in where or "capabilities" in where:
            continue
        is_section = len(where) == 1 and where[0] in NAMED
        is_name = is_section or where[-1:] in (("tiers",), ("instead",))
        if isinstance(part, str) and not is_name:
            yield at
        if isinstance(value, dict | list):
            yield from fields(value, at)


def slips(name: str) -> list[str]:
    swapped = name[:1] + name[2:3] + name[1:2] + name[3:]
    cut = name[:-1] if len(name) > 3 else name
    found = {swapped, cut, f"{name}x", name.upper(), name.replace("_", "-")} - {name}
    return sorted(found)


def test_a_slip_in_any_field_is_one_error_with_what_was_meant(whole: dict[str, Any]) -> None:
    parse(written(whole), file="f")
    n = 0
    for n, (*parents, name) in enumerate(fields(whole)):
        value = copy.deepcopy(whole)
        node: Any = value
        for part in parents:
            node = node[part]
        slip = slips(str(name))[n % len(slips(str(name)))]
        assert slip not in node
        renamed = {slip if key == name else key: held for key, held in node.items()}
        node.clear()
        node.update(renamed)

        found = problems(written(value))

        assert [f"did you mean {name!r}?" in p.hint for p in found] == [True], (parents, slip)
    assert n > 100


def test_what_is_wrong_in_a_misspelt_section_is_found_in_the_same_round() -> None:
    text = "sevrer:\n  port: x\n  hsot: 127.0.0.1\n" + ONE.replace("endpoints", "endpoint")

    assert [(p.line, p.field, p.value) for p in problems(text)] == [
        (1, "sevrer", "sevrer"),
        (2, "server.port", "x"),
        (3, "sevrer.hsot", "hsot"),
        (4, "endpoint", "endpoint"),
    ]


def test_a_slip_that_a_merge_brings_to_several_places_is_told_once() -> None:
    text = """\
endpoints:
  - &a {id: a, model: m, base_url: http://h/v1, regoin: eu}
  - {<<: *a, id: b}
"""
    (problem,) = problems(text)

    assert (problem.line, problem.value) == (2, "regoin")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        # nothing is like it
        ("colour: red\n" + ONE, "unknown key; known: apps"),
        # what is meant is there already
        ("store: {shards: 2, shard: 3}\n" + ONE, "unknown key"),
        # what was guessed may be wrong, so that its value is not held against it
        ("apps: {default: {model: gpt-4o}}\n" + ONE, "did you mean 'mode'?"),
        # an app that has a field's name
        ("apps: {timeouts: {zzz: 1}, default: {}}\n" + ONE, "known: classify, data_class"),
    ],
)
def test_a_name_that_is_no_slip_is_one_error_too(text: str, hint: str) -> None:
    (problem,) = problems(text)

    assert hint in problem.hint


def test_a_slip_beside_a_key_shows_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "h")
    for written in ("{evn: HOME}", "{hunter2: HOME}", "{key: hunter2}"):
        (problem,) = problems(ONE.replace("/v1", f"/v1, auth: {written}"))

        assert problem.field == "endpoints[0].auth"
        assert "{env: NAME}" in problem.hint
        assert ("did you mean 'env'?" in problem.hint) is ("evn" in written)
        assert "hunter2" not in problem.shown("f")


@pytest.mark.parametrize("name", ["api_key", "apiKey", "token", "bearer_token"])
def test_a_key_under_another_programs_name_is_told_where_it_belongs(name: str) -> None:
    (problem,) = problems(ONE.replace("/v1", f"/v1, {name}: hunter2"))

    assert (problem.field, problem.value) == (f"endpoints[0].{name}", name)
    assert "write auth: {env: NAME}" in problem.hint
    assert "hunter2" not in problem.shown("f")


def test_a_provider_that_is_misspelt_leaves_no_address_missing() -> None:
    text = "providers: {openai: {base_url: http://h/v1}}\nendpoints:\n"

    (problem,) = problems(text + "  - {id: a, model: m, provider: opanai}\n")

    assert "did you mean 'openai'?" in problem.hint


def test_many_slips_are_told_in_bounded_time() -> None:
    many = "".join(f"  - {{idd: a{i}, modle: m, bsae_url: http://h/v1}}\n" for i in range(3000))

    assert len(problems("endpoints:\n" + many)) == 9000


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("server:\n\tport: 1\n" + ONE, 2),
        ("server:\n  \tport: 1\n" + ONE, 2),
        ("server: {\n\tport: 1}\n" + ONE, 2),
        ("server:\n  port:\t1\n" + ONE, 2),
        ("server:\n  port: 1\t# it\n" + ONE, 2),
        ("endpoints:\n  - id: a\n\tmodel: m\n", 3),
        ("endpoints:\n  -\tid: a\n", 2),
    ],
)
def test_a_tab_is_named_as_one(text: str, line: int) -> None:
    (problem,) = problems(text)

    assert (problem.line, problem.field, problem.value) == (line, "yaml", "a tab")
    assert "indent with spaces" in problem.hint


def test_tabs_in_texts_and_comments_are_none_of_it() -> None:
    assert parse("#\tit\n" + ONE.replace("/v1", "/v1, region: 'a\tb'"), file="f")


@pytest.mark.parametrize(
    ("text", "value", "hint"),
    [
        ("a: &x 1\nb: &x 2\n" + ONE, "the same anchor (&name) stands twice", "its own name"),
        ("apps: {default: {<<: *no}}\n" + ONE, "found undefined alias 'no'", "needs its anchor"),
        ("server: {port: 1, port: 2}\n" + ONE, "port", "stands twice"),
    ],
)
def test_anchors_and_keys_that_are_not_one_are_told_by_what_they_are(
    text: str, value: str, hint: str
) -> None:
    (problem,) = problems(text)

    assert problem.value == value
    assert hint in problem.hint
