"""`pointsman check --live`: what endpoints really do, beside what is declared of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import SHARDS, Provider, endpoint, pointsman
from live_model import speaks_all

from telemetry.store import Address

Check = Callable[..., Any]


@pytest.fixture
def check(tmp_path: Path, address: Address, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Write a configuration, and check it."""
    monkeypatch.setenv("REDIS_URL", address.url)
    monkeypatch.setenv("A_KEY", "sk-1")

    def run(value: dict[str, Any], *options: str, yes: bool = True) -> Any:
        whole = {
            "server": {"state_dir": str(tmp_path / "state")},
            "store": {"shards": SHARDS},
            **value,
        }
        file = tmp_path / "pointsman.yaml"
        file.write_text(yaml.safe_dump(whole, sort_keys=False))
        said = ["check", "--live", "--config", file, *options, *(["--yes"] if yes else [])]
        return pointsman(*said)

    return run


def test_all_that_a_model_does_is_found_in_each_dialect(
    check: Check, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    speaks_all(provider, monkeypatch)
    endpoints = [
        endpoint(provider, name, upstream_model="m", dialects=[name])
        for name in ("chat", "messages", "responses")
    ]
    found = check({"endpoints": endpoints}, "--json")
    print(found.stdout, found.stderr)
    assert found.exit_code == 0
