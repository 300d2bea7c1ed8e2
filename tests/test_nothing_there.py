"""`report` and `feedback` where there is no configuration, no sidecar, or no store that answers."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Provider, endpoint, free_port, pointsman, serving

from router.report import gather
from telemetry.store import Address

SAID = ("feedback", "--ref", "x", "--passed")
VERBS = (("report",), ("report", "--json"), SAID, (*SAID, "--json"))


@pytest.fixture
def silent() -> Iterator[str]:
    """Host and port of what takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def config(state_dir: Path) -> Path:
    path = state_dir / "pointsman.yaml"
    value = {
        "server": {"state_dir": str(state_dir), "port": free_port()},
        "endpoints": [{"id": "a", "model": "m", "base_url": "http://127.0.0.1:1/v1"}],
    }
    path.write_text(yaml.safe_dump(value))
    return path


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
@pytest.mark.parametrize("how", ["here", "named"])
def test_without_a_configuration_it_is_said_and_ends_in_1(
    how: str, verb: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    named = ["--config", tmp_path / "typo.yaml"] if how == "named" else []

    done = pointsman(*verb, *named)

    assert done.exit_code == 1
    assert "no configuration at" in done.output
    assert verb[0] != "report" or "`pointsman init`" in " ".join(done.output.split())
    assert ("typo.yaml" if named else "pointsman.yaml") in done.output
    if verb == ("report", "--json"):
        assert json.loads(done.stdout)["rows"] == []


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
@pytest.mark.parametrize("kind", ["redis", "rediss", "redis+cluster", "redis+sentinel"])
@pytest.mark.parametrize("where", ["silent", "nobody there"])
def test_with_a_store_that_does_not_answer_it_is_said_in_bounded_time(
    where: str,
    kind: str,
    verb: tuple[str, ...],
    config: Path,
    silent: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gather, "TIMEOUT_S", 1.0)  # else ten seconds each
    host = silent if where == "silent" else "127.0.0.1:1"
    url = f"{kind}://{host}" + ("/main" if kind.endswith("sentinel") else "")
    began = time.monotonic()

    done = pointsman(*verb, "--config", config, environment={"REDIS_URL": url})

    assert time.monotonic() - began < 8
    assert done.exit_code == 1
    said = "no sidecar at" if verb[0] == "feedback" else "no store: "
    assert said in done.output


def test_feedback_that_the_store_does_not_hear_is_kept_and_said(
    provider: Provider, state_dir: Path
) -> None:
    """The sidecar has it in its journal, like every word; whoever says it learns that."""
    nowhere = Address("redis://127.0.0.1:1/0")
    with serving({"endpoints": [endpoint(provider, "a")]}, state_dir, nowhere) as sidecar:
        decision = sidecar.chat().headers["x-router-decision-id"]
        plain, as_json = (
            pointsman(
                "feedback", "--url", sidecar.url, "--decision-id", decision, "--passed", *more
            )
            for more in ([], ["--json"])
        )

    assert plain.exit_code == as_json.exit_code == 1
    assert plain.stdout == "accepted\n"
    found: dict[str, Any] = json.loads(as_json.stdout)
    assert found["results"][0]["status"] == "accepted"
    for done in (plain, as_json):
        assert "the store does not hear it yet" in done.stderr
        assert "nothing listens there" in done.stderr
