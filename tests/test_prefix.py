"""Two environments on one server: all keys of one begin alike, and neither sees the other's."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from binascii import crc_hqx
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml
from conftest import Provider, endpoint, free_port, pointsman, servers, until
from test_cli import chat, has_come_up

from router.config.compiled import compile_text
from router.config.places import places
from router.errors import ConfigError
from telemetry import keys

ONE = "endpoints:\n  - {id: a, model: m, base_url: http://127.0.0.1:1}\n"


@pytest.fixture(autouse=True)
def _prefix_of_this_process() -> Iterator[None]:
    yield
    keys.use_prefix(keys.DEFAULT_PREFIX)


@contextmanager
def up(config: Path, url: str) -> Iterator[None]:
    command = [sys.executable, "-m", "router.cli", "up", "--config", str(config)]
    process = subprocess.Popen(command, env={**os.environ, "REDIS_URL": url})
    try:
        until(lambda: has_come_up(config), within_s=30)
        yield
    finally:
        process.terminate()
        process.wait(30)


def environment(provider: Provider, directory: Path, prefix: str) -> Path:
    directory.mkdir()
    value = {
        "server": {"port": free_port(), "state_dir": str(directory)},
        "store": {"shards": 2, "prefix": prefix},
        "archive": {"every_s": 1},
        "endpoints": [endpoint(provider, "a")],
    }
    path = directory / "pointsman.yaml"
    path.write_text(yaml.safe_dump(value))
    return path


def calls(config: Path, url: str) -> int:
    said = pointsman("report", "--config", config, "--json", environment={"REDIS_URL": url})
    return sum(row["calls"] for row in json.loads(said.stdout)["rows"])


@pytest.mark.slow
def test_two_environments_share_a_server_and_nothing_else(
    provider: Provider, state_dir: Path
) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(servers(state_dir / "servers"))()
        url = f"redis://127.0.0.1:{server.port}"
        staging = environment(provider, state_dir / "staging", "staging")
        live = environment(provider, state_dir / "live", "live")
        stack.enter_context(up(staging, url))
        stack.enter_context(up(live, url))

        for _ in range(3):
            assert chat(staging).status_code == 200
        assert chat(live).status_code == 200
        until(lambda: calls(staging, url) == 3 and calls(live, url) == 1, within_s=20)
        off = pointsman("off", "--config", staging, environment={"REDIS_URL": url})
        assert "everywhere on its store" in off.stdout

        names = {name.decode() for name in server.client.scan_iter("*")}
        apart = re.compile(r"\{?(staging|live):|rq:")
        assert [name for name in names if not apart.match(name)] == []
        assert "staging:off" in names
        assert "live:off" not in names
        assert {f"{which}:meta" for which in ("staging", "live")} <= names
        for config in (staging, live):
            audit = pointsman("audit", "state", "--config", config, environment={"REDIS_URL": url})
            assert audit.exit_code == 0, audit.stdout


def test_shards_and_conversations_lie_evenly_on_a_cluster_under_any_prefix() -> None:
    for prefix in ("pm", "staging", "a-b_9"):
        keys.use_prefix(prefix)
        slots = [crc_hqx(keys.tag(n).encode(), 0) % keys.SLOTS // 2048 for n in range(8)]
        assert sorted(slots) == list(range(8))
        assert all(keys.tag(n).startswith(f"{prefix}:{n}.") for n in range(8))
        for group in range(keys.CONVERSATION_GROUPS):
            name = keys.conversations(group)
            assert name.startswith(f"{{{prefix}:talks{group}.")
            assert keys.conversations_of(group, "1:2.3") == f"{name}:1:2.3"
            slot = crc_hqx(name.strip("{}").encode(), 0) % keys.SLOTS
            assert slot * keys.CONVERSATION_GROUPS // keys.SLOTS == group
        for group in range(keys.STORED_ID_GROUPS):
            name = keys.stored_ids(group)
            assert name.startswith(f"{{{prefix}:ids{group}.")
            assert keys.stored_ids_of(group, "1:2.3") == f"{name}:1:2.3"
            slot = crc_hqx(name.strip("{}").encode(), 0) % keys.SLOTS
            assert slot * keys.STORED_ID_GROUPS // keys.SLOTS == group


def test_every_fixed_name_begins_with_the_prefix_and_the_default_is_what_it_was() -> None:
    before = {name: getattr(keys, name) for name in ("META", "STANDINGS", "CHANGED", "ALARMS")}
    keys.use_prefix("other")
    assert (keys.META, keys.STANDINGS) == ("other:meta", "{other:choices}:standings")
    assert keys.draw("u") == "other:draw:u"
    assert keys.prefix() == "other"
    keys.use_prefix(keys.DEFAULT_PREFIX)
    assert before == {name: getattr(keys, name) for name in before}
    assert before["META"] == "pm:meta"


@pytest.mark.parametrize("prefix", ["", "A", "a b", "a:b", "a*", "{a}", "a" * 33, "-a"])
def test_a_prefix_that_keys_cannot_have_is_refused_with_what_they_can(prefix: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compile_text(f"{ONE}store: {{prefix: '{prefix}'}}\n", file="f")
    (problem,) = caught.value.problems
    hint = "use 1 to 32 of a-z, 0-9, _ and -; the first a letter or a digit"
    assert (problem.field, problem.hint) == ("store.prefix", hint)


def test_off_finds_the_prefix_in_a_file_that_is_broken_elsewhere(tmp_path: Path) -> None:
    file = tmp_path / "pointsman.yaml"
    file.write_text("store: {prefix: staging}\nendpoints: 3\n")
    assert places(file).store_prefix == "staging"
    file.write_text("store: {prefix: 'a:b'}\n")
    assert places(file).store_prefix == "pm"
