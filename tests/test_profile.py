"""`pointsman profile`: what is sent where, what it costs, and what is never paid twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Provider, Reply, Seen, answer, endpoint, pointsman
from typer.testing import Result as Said

from router.profiling.log import read_log
from telemetry.store import Address


def prompts_file(path: Path, lines: list[dict[str, Any]]) -> Path:
    file = path / "prompts.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def capitals(n: int, **more: Any) -> list[dict[str, Any]]:
    return [{"prompt": f"What is {i}?", "expected": str(i), "max_tokens": 50} | more for i in range(n)]


def right(call: Seen) -> Reply:
    asked = call.json["messages"][-1]["content"].split()[-1].rstrip("?")
    return Reply(body=answer(f"It is {asked}.", answer_id=f"c-{time.monotonic_ns()}", model="a"))


@pytest.fixture
def world(
    provider: Provider, state_dir: Path, address: Address, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A configuration of two endpoints: `a` is right, `b` says hello."""
    monkeypatch.setenv("POINTSMAN_STORE_URL", address.url)
    provider.on("a", right)
    return configured(state_dir, [endpoint(provider, "a"), endpoint(provider, "b")])


def configured(state_dir: Path, endpoints: list[dict[str, Any]], **more: Any) -> Path:
    config = state_dir / "pointsman.yaml"
    server = {"port": 0, "state_dir": str(state_dir / "state")}
    value = {"server": server, "endpoints": endpoints, "tasks": {"code": None}, **more}
    config.write_text(yaml.safe_dump(value, sort_keys=False))
    return config


def profile(config: Path, file: Path, *more: object) -> Said:
    return pointsman("profile", file, "--config", config, "--yes", *more)


def logged(config: Path) -> Any:
    (directory,) = (config.parent / "state" / "profiles").glob("*/calls.jsonl")
    return read_log(directory.parent)


def test_each_prompt_goes_once_to_each_endpoint_and_is_graded(
    world: Path, provider: Provider, tmp_path: Path
) -> None:
    file = prompts_file(tmp_path, capitals(5))

    said = profile(world, file, "--json")

    assert said.exit_code == 0, said.stderr
    rows = {row["endpoint"]: row for row in json.loads(said.stdout)["rows"]}
    assert (rows["a"]["quality"], rows["b"]["quality"]) == (1.0, 0.0)
    assert rows["a"]["usd"] == pytest.approx(5 * (10 * 1 + 5 * 2) / 1e6)
    sent = Counter((call.host, call.json["messages"][-1]["content"]) for call in provider.calls)
    assert set(sent.values()) == {1} and len(sent) == 10
