"""The published schemas are those of the code, and take what is really said."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from conftest import Provider, pointsman
from msgspec import to_builtins
from test_examples import CALLS, EXAMPLES, _keys, ask, running  # noqa: F401 - a fixture

from router.config.exclusions import EXCLUSIONS_VERSION, Exclusion
from router.config.rules import Level
from router.decision.reasons import Reason
from scripts.schemas import DIRECTORY, build
from scripts.schemas.reference import pages
from telemetry.schemas import shown
from telemetry.store import Address

ROOT = Path(__file__).parent.parent


def problems(name: str, value: Any) -> list[str]:
    """What of a value its schema does not take."""
    validator = jsonschema_rs.validator_for(build()[f"{name}.json"])
    return [f"{e.instance_path}: {e.message}" for e in validator.iter_errors(value)]


def test_published_schemas_are_those_of_the_code() -> None:
    """Where this fails: `python -m scripts.schemas`, and say in the changelog what moved."""
    files = {p.name: p.read_text() for p in DIRECTORY.glob("*.json")}

    assert files == {name: shown(schema) for name, schema in build().items()}


def test_the_reference_is_that_of_the_code_and_every_field_has_a_sentence() -> None:
    """Where this fails: write what a field means below it; then `python -m scripts.schemas`."""
    made = pages()

    assert {p.name: p.read_text() for p in DIRECTORY.parent.glob("reference*.md")} == made
    rows = [line for text in made.values() for line in text.splitlines() if line.startswith("| `")]
    assert [row for row in rows if not row.endswith((". |", ".`. |"))] == []


@pytest.mark.parametrize("file", sorted(p.name for p in EXAMPLES.glob("*.yaml")))
def test_the_schema_of_the_configuration_takes_every_example(file: str) -> None:
    value = to_builtins(yaml.safe_load((EXAMPLES / file).read_text()), str_keys=True)

    assert problems("configuration", value) == []


def test_the_schema_of_the_configuration_refuses_a_misspelt_field() -> None:
    assert problems("configuration", {"endpoints": [{"id": "a", "modle": "m"}]}) != []


@pytest.mark.parametrize("name", CALLS)
def test_what_the_sidecar_answers_is_sound(
    name: str, provider: Provider, state_dir: Path, address: Address
) -> None:
    """Dry runs, the endpoints' states, and explanations of calls that were made."""
    wrong: list[str] = []
    with running(name, provider, state_dir, address) as (sidecar, provider_of):
        for i, call in enumerate(CALLS[name]):
            if call["goes_to"] not in provider_of:
                continue
            wrong += problems("decision", ask(sidecar, call, f"s{i}", dry=True).json())
            called = ask(sidecar, call, f"s{i}", dry=False)
            id_ = called.headers["x-router-decision-id"]
            why = sidecar.http.get(f"/v1/router/decisions/{id_}")
            assert why.status_code == 200, why.text
            wrong += problems("explanation", why.json())
            own = {"x-router-key": f"fake-{call.get('key')}"}
            listed = sidecar.http.get(why.request.url.path.rpartition("/")[0], headers=own,
                                      params={"session": f"s{i}"})  # fmt: skip
            assert listed.status_code == 200, listed.text
            wrong += problems("session", listed.json())
        key = {"x-router-key": f"fake-{CALLS[name][0].get('key')}"}
        rows = sidecar.http.get("/v1/router/endpoints", headers=key).json()["endpoints"]
        wrong += [one for row in rows for one in problems("endpoint_row", row)]

    assert not wrong, "\n".join(wrong)
    assert rows


def test_a_decision_with_words_of_its_own_is_not_sound(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with running("coding-agent", provider, state_dir, address) as (sidecar, _):
        assert problems("decision", {"endpoint": "p/m", "routed": False, "passthrough": True}) == []
        assert problems("decision", {"endpoint": "p/m", "routed": True}) != []
        shown_ = ask(sidecar, CALLS["coding-agent"][0], "s", dry=True).json()
    assert problems("decision", {**shown_, "more": 1}) != []
    assert problems("decision", {**shown_, "exclusions": {"qwen": "mood"}}) != []


@pytest.mark.parametrize("name", [*CALLS, "pointsman", "minimal"])
def test_rows_of_the_catalog_are_sound(name: str) -> None:
    said = pointsman("catalog", "--json", "--config", EXAMPLES / f"{name}.yaml")
    rows = json.loads(said.stdout)["endpoints"]

    assert [one for row in rows for one in problems("catalog_row", row)] == []
    assert rows


@pytest.mark.parametrize(
    ("said", "is_sound"),
    [
        ({}, True),
        ({"task": "code", "complexity": "hard", "role": "coder", "dry_run": True}, True),
        ({"ref": 7, "explore": False, "max_cost_usd": 0.1, "data_class": None}, True),
        ({"complexity": "huge"}, False),
        ({"max_cost_usd": 0}, False),
        ({"explore": "no"}, False),
        ({"mood": "good"}, False),
    ],
)
def test_hints_in_a_body_are_sound_or_not(said: dict[str, Any], is_sound: bool) -> None:
    assert (problems("hints", said) == []) is is_sound


def test_every_header_that_is_read_as_a_hint_is_in_the_schema() -> None:
    sources = [ROOT / "router" / "policy" / name for name in ("hints.py", "callers.py")]
    text = "".join(path.read_text() for path in sources)
    read = set(re.findall(r'b"(x-router-[a-z-]+|x-claude-[a-z-]+|session-id)"', text))
    read |= {f"x-router-{name}" for name in re.findall(r'said\(b"([a-z-]+)"\)', text)}

    known = set(build()["hint_headers.json"]["properties"])
    assert read == known


def test_lists_of_codes_are_the_codes() -> None:
    lists = build()["codes.json"]["$defs"]

    assert lists["exclusion"]["enum"] == [code.value for code in Exclusion]
    assert lists["exclusion"]["x-version"] == EXCLUSIONS_VERSION
    assert lists["opening_word"]["enum"] == [word.value for word in Reason]
    assert lists["level"]["enum"] == [level.value for level in Level]
