"""`pointsman check --effective`: what holds for an app, who set it, and which line says so."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import pointsman

from router.config.compiled import compile_text
from router.config.entries import File
from router.config.keys import hashed
from router.config.rules import Level, PolicyRules
from router.policy.effective import effective_policies

FILE = """\
endpoints:
  - {id: vendor, model: m, base_url: "https://user:hunter2secret@one.example/v1"}
  - {id: europe, model: n, base_url: "https://two.example/v1", zone: eu-cloud, auth: {env: EU_KEY},
     region: eu, max_data_class: confidential, zero_retention: true, dialects: [chat, messages]}
  - {id: own, model: o, base_url: "http://127.0.0.1:1/v1", zone: local, max_data_class: restricted}
organisation: {no_training: false, strategy: cheapest, max_cost_usd: 2}
tasks:
  code: {require: [tools]}
  secret: {data_class: restricted}
roles:
  coder: {tasks: [code], strategy: fastest, incumbent: own, endpoints: [own, europe]}
  asleep: {active: false}
apps:
  default: {mode: route, data_class: confidential, max_cost_usd: 1, keys: [KEY]}
  other: {mode: pinned, endpoint: vendor, percent: 50, keys: [{env: OTHER_KEY}]}
""".replace("KEY]", f"{hashed('a key of the test')}]")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("EU_KEY", "OTHER_KEY"):
        monkeypatch.setenv(name, f"secret-of-{name}")
    path = tmp_path / "pointsman.yaml"
    path.write_text(FILE)
    return path


def told(file: Path, *more: str) -> dict[str, Any]:
    said = pointsman("check", "--effective", "--json", "--config", file, *more)
    assert said.exit_code == 0, said.output
    found: dict[str, Any] = json.loads(said.stdout)
    return found


def policy(found: dict[str, Any], app: str, task: str, role: str | None = None) -> dict[str, Any]:
    (one,) = [p for p in found["policies"] if (p["app"], p["task"], p["role"]) == (app, task, role)]
    fields: dict[str, Any] = one["fields"]
    return fields


def test_each_field_of_an_app_comes_with_the_level_that_set_it(file: Path) -> None:
    fields = policy(told(file), "default", "general")

    assert fields["data_class"] == {"value": "confidential", "by": ["app"]}
    assert fields["strategy"] == {"value": "cheapest", "by": ["organisation"]}
    assert fields["cost_usd"] == {"value": 1.0, "by": ["app"]}  # the tighter of two
    assert fields["mode"] == {"value": "route", "by": ["app"]}
    assert fields["retention_days"] == {"value": None, "by": ["built_in"]}
    assert fields["high_stakes"] == {"value": False, "by": ["built_in"]}
    assert fields["permitted"] == {"value": ["europe", "own"], "by": ["app"]}
    assert fields["excluded.vendor"] == {"value": "data_class", "by": ["app"]}
    assert fields["incumbent.chat"] == {"value": "europe", "by": ["built_in"]}
    assert fields["incumbent.messages"] == {"value": "europe", "by": ["built_in"]}
    assert fields["fallback.auto"] == {"value": "any", "by": ["built_in"]}
    assert fields["fallback.named"] == {"value": "group", "by": ["built_in"]}


def test_every_field_of_the_merged_rules_is_there(file: Path) -> None:
    fields = policy(told(file), "default", "general")

    names = set(PolicyRules.__struct_fields__) - {"incumbent"}
    assert names <= set(fields)


def test_tasks_and_roles_are_there_where_they_differ_and_only_there(file: Path) -> None:
    found = told(file, "--app", "default")
    there = [(p["task"], p["role"]) for p in found["policies"]]

    assert there == [("general", None), ("code", None), ("secret", None), ("code", "coder")]
    coder = policy(found, "default", "code", "coder")
    assert coder["strategy"] == {"value": "fastest", "by": ["role"]}
    assert coder["incumbent.chat"] == {"value": "own", "by": ["role"]}
    assert coder["require"] == {"value": ["tools"], "by": ["task"]}
    assert coder["allow"] == {"value": ["europe", "own"], "by": ["role"]}
    secret = policy(found, "default", "secret")
    assert secret["data_class"] == {"value": "restricted", "by": ["task"]}
    assert secret["permitted"]["value"] == ["own"]


def test_what_is_asked_about_is_told_whole(file: Path) -> None:
    said = pointsman("check", "--app", "default", "--role", "coder", "--config", file)

    assert said.exit_code == 0
    lines = said.stdout.splitlines()
    assert lines[0] == "app default, role coder, task code"
    assert "  strategy: fastest (role)" in lines
    assert "  retention_days: not set (built-in)" in lines
    assert "  excluded.vendor: not_allowed (role, app)" in lines


def test_beside_the_app_only_what_differs_is_printed(file: Path) -> None:
    lines = pointsman("check", "--effective", "--config", file).stdout.splitlines()

    at = lines.index("app default, task secret, where it differs")
    rest = lines[at + 1 :]
    own = rest[: next(i for i, line in enumerate(rest) if not line.startswith("  "))]
    assert own[0] == "  incumbent.chat: own (built-in)"
    assert "  data_class: restricted (task)" in own
    assert not any(line.startswith("  mode") for line in own)


def test_a_pinned_app_says_where(file: Path) -> None:
    fields = policy(told(file), "other", "general")

    assert fields["mode"] == {"value": "pinned", "by": ["app"]}
    assert fields["endpoint"] == {"value": "vendor", "by": ["app"]}
    assert fields["fallback.auto"] == {"value": "none", "by": ["built_in"]}


def test_each_field_of_the_file_says_its_line_or_that_it_is_a_default(file: Path) -> None:
    fields = {one["field"]: one for one in told(file)["fields"]}

    assert fields["server.port"] == {"field": "server.port", "value": 8787, "origin": "default"}
    assert fields["server.max_queued"]["value"] == 512  # unset, and an eighth of the other
    assert fields["archive.keep_days"]["origin"] == "default"
    assert fields["store.prefix"]["value"] == "pm"
    assert fields["apps.other.percent"]["value"] == 50
    line = fields["apps.other.percent"]["origin"].removeprefix("line ")
    assert FILE.splitlines()[int(line) - 1].startswith("  other:")
    assert fields["apps.other.signals"] == {
        "field": "apps.other.signals",
        "value": True,
        "origin": "default",
    }
    assert fields["strategies.cheapest.release_every_s"]["value"] == 3600
    assert fields["strategies.quality.release_every_s"]["value"] == 604_800


def test_every_field_that_the_file_may_have_is_told(file: Path) -> None:
    """Of the sections that are always there, and of an app."""
    told_of = {one["field"] for one in told(file)["fields"]}

    for section in ("server", "store", "archive", "audit"):
        names = type(getattr(File.model_construct(), section)).model_fields
        assert {f"{section}.{name}" for name in names} <= told_of
    assert {"apps.other.keys", "apps.other.unit", "apps.other.learn", "classes"} <= told_of


def test_no_secret_is_told(file: Path) -> None:
    for more in ((), ("--json",)):
        said = pointsman("check", "--effective", "--config", file, *more)

        assert "hunter2secret" not in said.output
        assert "secret-of-" not in said.output
        assert not re.search(r"[0-9a-f]{20}", said.output)  # a digest is told by its beginning
        assert "env:EU_KEY" in said.output


@pytest.mark.parametrize("asked", [("--app", "othr"), ("--role", "codr"), ("--task", "secrt")])
def test_a_name_that_there_is_not_is_asked_about(file: Path, asked: tuple[str, str]) -> None:
    said = pointsman("check", "--config", file, *asked)

    assert said.exit_code == 2
    assert f"no such {asked[0].removeprefix('--')}; did you mean" in said.stderr


def test_a_file_with_problems_lists_them_and_nothing_else(file: Path) -> None:
    file.write_text(FILE.replace("mode: route", "mode: rout"))
    said = pointsman("check", "--effective", "--config", file)

    assert said.exit_code == 2
    assert said.stdout == ""


def test_what_ended_by_date_is_excluded_as_of_now() -> None:
    text = FILE.replace("region: eu,", "region: eu, agreement: {until: 2026-01-01},")
    configuration = compile_text(text, file="t.yaml", secrets=False)
    of_app = configuration.apps["default"]

    def fields(at_s: float) -> dict[str, Any]:
        usual, _ = effective_policies(configuration, of_app, at_s)
        return {field.name: field for field in usual.fields}

    before, after = fields(1.7e9), fields(1.9e9)
    assert before["permitted"].value == ["europe", "own"]
    assert after["permitted"].value == ["own"]
    assert after["excluded.europe"].by == (Level.APP,)


def test_in_learning_mode_there_is_no_incumbent_but_of_vectors() -> None:
    text = FILE.replace("dialects: [chat, messages]", "dialects: [chat, embeddings]")
    text = text.replace("strategy: cheapest", "strategy: learn")
    text += "strategies: {learn: {incumbent: none}}\n"
    configuration = compile_text(text, file="t.yaml", secrets=False)

    usual, _ = effective_policies(configuration, configuration.apps["default"], 1.7e9)
    fields = {field.name: field for field in usual.fields}
    assert (fields["incumbent.chat"].value, fields["incumbent.chat"].by) == (
        "none",
        (Level.STRATEGY,),
    )
    assert fields["incumbent.embeddings"].value == "europe"


def test_lists_of_tools_are_told_one_beside_the_other(file: Path) -> None:
    text = FILE.replace("max_cost_usd: 2", "tools: [read_*, edit]")
    file.write_text(text.replace("mode: route,", "mode: route, tools: [read_*],"))

    lines = pointsman("check", "--app", "default", "--config", file).stdout.splitlines()

    assert "  tools: edit, read_* and in read_* (app, organisation)" in lines


def test_starter_tasks_are_told_with_how_many_exemplars_they_have(file: Path) -> None:
    file.write_text(f"starter_tasks: true\n{FILE}")
    found = told(file)

    fields = {one["field"]: one["value"] for one in found["fields"]}
    assert fields["tasks.vision.match.image"] is True
    assert fields["tasks.maths.exemplars"].endswith(" texts")
    assert fields["tasks.code.exemplars"] is None, "it is written"
