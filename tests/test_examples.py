"""The configurations in `docs/examples/` do what their comments say, call by call."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from conftest import Provider, Sidecar, pointsman, serving
from dialects import speak

from router.config.file import parse
from telemetry.store import Address

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
CALLS: dict[str, list[dict[str, Any]]] = yaml.safe_load(
    (Path(__file__).parent / "data" / "example_calls.yaml").read_text()
)
PATHS = {"chat": "/v1/chat/completions", "messages": "/v1/messages"}


def text_of(name: str) -> str:
    return (EXAMPLES / f"{name}.yaml").read_text()


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CALLS:
        for variable in re.findall(r"env: (\w+)", text_of(name)):
            monkeypatch.setenv(variable, f"fake-{variable}")


@contextmanager
def running(
    name: str, provider: Provider, state_dir: Path, address: Address, file: Path | None = None
) -> Iterator[tuple[Sidecar, dict[str, str]]]:
    """The example with simulated providers in place of its own, and the provider of each endpoint.

    It is served from a `file` where that is given.
    """
    value = yaml.safe_load(text_of(name))
    for host, entry in value["providers"].items():
        entry["base_url"] = provider.url(host)
        provider.on(host, speak)
    with serving(value, state_dir, address, file=file) as sidecar:
        yield sidecar, {one["id"]: one["provider"] for one in value["endpoints"]}


def ask(sidecar: Sidecar, call: dict[str, Any], unit: str, *, dry: bool) -> httpx.Response:
    """Send a call, in a session of its own; it is not explored, else chance would have a say."""
    headers = {f"x-router-{name}": said for name, said in call.get("headers", {}).items()}
    headers |= {"x-router-session-id": unit, "x-router-explore": "0"}
    headers |= {"x-router-dry-run": "1"} if dry else {}
    headers["x-router-key"] = f"fake-{call.get('key', 'NOBODY')}"
    body = {
        "messages": [{"role": "user", "content": "hi"}],
        "model": call["asks"],
        "max_tokens": 99,
    }
    dialect = call.get("dialect", "chat")
    return sidecar.http.post(PATHS[dialect], json=body | call.get("body", {}), headers=headers)


def planned_otherwise(call: dict[str, Any], got: httpx.Response) -> Iterator[str]:
    """Yield what a dry run says otherwise than is expected."""
    if not got.is_success:
        yield got.text
        return
    shown = got.json()
    wanted = {
        "endpoint": call["goes_to"],
        "exclusions": call.get("excluded", {}),
        "role": call.get("role"),
        "task": call.get("task", "general"),
        "strategy": call.get("strategy", "quality"),
    }
    for field, value in wanted.items():
        if shown[field] != value:
            yield f"{field} is {shown[field]}, not {value}"
    for field, value in call.get("policy", {}).items():
        said = shown["policy"].get(field, {"value": None, "said": []})
        found = {"is": said["value"], "by": [one["by"] for one in said["said"]]}
        if found != value:
            yield f"{field} of the policy is {found}, not {value}"


def refused_otherwise(call: dict[str, Any], got: httpx.Response) -> Iterator[str]:
    """Yield what a refusal says otherwise than is expected."""
    error = got.json().get("error")
    if error is None or error["code"] != call["goes_to"]:
        yield f"{got.status_code} {got.text}, not {call['goes_to']}"
        return
    for endpoint, why in call.get("excluded", {}).items():
        if error["exclusions"].get(endpoint) != why:
            yield f"{endpoint}: {error['exclusions'].get(endpoint)}, not {why}"


@pytest.mark.parametrize("name", CALLS)
def test_each_call_of_an_example_goes_where_it_should_and_nowhere_else(
    name: str, provider: Provider, state_dir: Path, address: Address
) -> None:
    wrong: list[str] = []
    with running(name, provider, state_dir, address) as (sidecar, provider_of):
        for i, call in enumerate(CALLS[name]):
            n_before = len(provider.calls)
            planned = ask(sidecar, call, f"s{i}", dry=True)
            called = ask(sidecar, call, f"s{i}", dry=False)
            reached = provider.hosts()[n_before:]
            if call["goes_to"] in provider_of:
                problems = list(planned_otherwise(call, planned))
                served = called.headers.get("x-router-endpoint")
                if served != call["goes_to"] or reached != [provider_of[call["goes_to"]]]:
                    problems.append(f"{called.status_code}, served by {served}, sent to {reached}")
            else:
                problems = [*refused_otherwise(call, planned), *refused_otherwise(call, called)]
                problems += [f"sent to {host}" for host in reached]
            wrong += [f"call {i} ({call['asks']}): {one}" for one in problems]

    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", CALLS)
def test_an_example_is_short_and_sound(name: str) -> None:
    lines = text_of(name).splitlines()

    assert len(lines) <= 60
    assert max(map(len, lines)) <= 120
    parse(text_of(name), file=name)


@pytest.mark.parametrize("name", CALLS)
def test_what_holds_under_an_example_can_be_printed(name: str) -> None:
    said = pointsman("check", "--effective", "--json", "--config", EXAMPLES / f"{name}.yaml")

    assert said.exit_code == 0
    shown = json.loads(said.stdout)
    assert shown["policies"]
    assert shown["warnings"] == []
    assert "fake-" not in said.output


def test_what_the_policy_s_page_shows_is_printed() -> None:
    page = (EXAMPLES.parent / "policy.md").read_text()
    shown = page.partition("$ pointsman check --app support\n")[2].partition("\n  …")[0]
    said = pointsman("check", "--app", "support", "--config", EXAMPLES / "three-apps.yaml")

    assert shown
    assert said.stdout.startswith(shown)


@pytest.mark.usefixtures("store")  # the verb finds it by itself
def test_the_firm_is_told_that_matters_left_and_that_none_left_abroad(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    file = state_dir / "pointsman.yaml"
    with running("law-firm", provider, state_dir, address, file) as (sidecar, _):
        matter, website = CALLS["law-firm"][0], CALLS["law-firm"][-1]
        assert ask(sidecar, matter, "s", dry=False).status_code == 200
        assert ask(sidecar, website, "s", dry=False).status_code == 200
        found = {}
        for zone in ("de-cloud", "ch-cloud"):
            words = ("--above", "internal", "--outside", zone, "--config", file, "--json")
            found[zone] = json.loads(pointsman("audit", "privacy", *words).stdout)

    assert found["de-cloud"]["calls"] == 0
    assert found["ch-cloud"]["calls"] == 1
    assert [row["endpoint"] for row in found["ch-cloud"]["by"]] == ["mistral-de"]
