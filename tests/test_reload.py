"""A changed configuration goes into force while calls go on, or is refused and changes nothing."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from conftest import (
    LEARN,
    SHARDS,
    Provider,
    Reply,
    Sidecar,
    answer,
    chunks,
    endpoint,
    pointsman,
    serving,
)

from router.beliefs import keeper
from router.config import watch
from router.config.compiled import compile_text
from router.config.reload import take
from router.config.watch import WatchedFile
from router.endpoints.breaker import RULES, Trouble
from router.endpoints.health import Health
from router.errors import ConfigError
from telemetry.events import Result
from telemetry.store import Address

PACE_S, LOOK_S, STILL_S = keeper.LOOK_EVERY_S, watch.LOOK_EVERY_S, watch.STILL_S
"""As they are in service."""


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "STILL_S", 0.05)
    monkeypatch.setattr(watch, "LOOK_EVERY_S", 0.05)


@pytest.fixture
def file(state_dir: Path) -> Path:
    return state_dir / "pointsman.yaml"


def entries(provider: Provider, *names: str, **more: Any) -> dict[str, Any]:
    apps = {"default": {"mode": "route", "strategy": "learn"}}
    listed = [endpoint(provider, name) for name in names]
    return {"endpoints": listed, "strategies": LEARN, "apps": apps, **more}


def write(file: Path, value: dict[str, Any] | str) -> None:
    """Write as an editor does, with what `serving` adds."""
    text = value
    if isinstance(value, dict):
        same = {"server": {"port": 0, "state_dir": str(file.parent)}, "store": {"shards": SHARDS}}
        text = yaml.safe_dump({**same, **value}, sort_keys=False)
    fresh = file.with_suffix(".tmp")
    fresh.write_text(str(text))
    fresh.replace(file)


def state(sidecar: Sidecar) -> dict[str, Any]:
    found: dict[str, Any] = sidecar.http.get("/readyz?verbose").json()["configuration"]
    return found


def listed(sidecar: Sidecar) -> list[str]:
    return [e.id for e in sidecar.app.keeper.current.configuration.catalog.endpoints]


@dataclass
class Load:
    """Clients that call without pause, each with a session that it changes now and then."""

    sidecar: Sidecar
    failed: list[str] = field(default_factory=list)
    n_calls: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self, name: int) -> None:
        with httpx.Client(base_url=self.sidecar.url, trust_env=False, verify=False) as http:
            n = 0
            while not self.stop.is_set():
                n += 1
                body = {
                    "model": "auto",
                    "messages": [{"role": "user", "content": "x"}],
                    "stream": n % 3 == 0,
                }
                headers = {"x-router-session-id": f"{name}-{n // 7}"}
                try:
                    got = http.post("/v1/chat/completions", json=body, headers=headers, timeout=30)
                except httpx.HTTPError as error:
                    self.failed.append(repr(error))
                    continue
                self.n_calls += 1
                if got.status_code != 200 or (body["stream"] and "[DONE]" not in got.text):
                    self.failed.append(got.text)


def rewritten_under_load(provider: Provider, sidecar: Sidecar, file: Path) -> Load:
    """Rewrite the file ten times, each time until it is judged, while eight clients call."""
    load = Load(sidecar)
    threads = [threading.Thread(target=load.run, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    valid: list[tuple[str, ...]] = [("a", "b", "c"), ("c", "a", "b"), ("b",), ("b", "d"), ("a",)]
    try:
        for names in valid:
            write(file, entries(provider, *names, tasks={f"t{len(names)}": None}))
            sidecar.until(lambda names=names: listed(sidecar) == list(names))
            write(file, "endpoints: [" if len(names) > 1 else {"endpoints": []})
            sidecar.until(lambda: state(sidecar)["refused"] is not None)
            assert listed(sidecar) == list(names)
    finally:
        load.stop.set()
        for thread in threads:
            thread.join()
    return load


@pytest.mark.slow
@pytest.mark.usefixtures("store")
def test_no_call_fails_while_the_file_is_rewritten_under_load(
    provider: Provider, state_dir: Path, address: Address, file: Path
) -> None:
    slow = {name: Reply(body=answer(), delay_s=0.03) for name in "bd"}
    for name, reply in slow.items():
        provider.on(name, lambda call, of=reply: of if not call.json.get("stream") else _streamed())
    with serving(entries(provider, "a", "b"), state_dir, address, file=file) as sidecar:
        load = rewritten_under_load(provider, sidecar, file)

        assert load.failed == []
        assert load.n_calls > 100
        assert sum(b.in_flight for b in sidecar.app.health.breakers.values()) == 0


def _streamed() -> Reply:
    return Reply(chunks=chunks("a", "b"), chunk_delay_s=0.01)


@pytest.mark.slow
def test_a_change_is_taken_within_seconds_and_not_while_it_is_written(
    monkeypatch: pytest.MonkeyPatch,
    provider: Provider,
    state_dir: Path,
    address: Address,
    file: Path,
) -> None:
    monkeypatch.setattr(watch, "STILL_S", 1.0)
    monkeypatch.setattr(watch, "LOOK_EVERY_S", 1.0)
    with serving(entries(provider, "a"), state_dir, address, file=file) as sidecar:
        since_ms = state(sidecar)["since_ms"]
        half = yaml.safe_dump({**yaml.safe_load(file.read_text()), **entries(provider, "a", "b")})
        end = time.monotonic() + 3.0
        while time.monotonic() < end:  # it is never the same for a second
            file.write_text(half + "#" * int(10 * (end - time.monotonic())))
            assert listed(sidecar) == ["a"]
            time.sleep(0.2)
        sidecar.until(lambda: listed(sidecar) == ["a", "b"], within_s=5)

        assert state(sidecar)["refused"] is None
        assert state(sidecar)["since_ms"] > since_ms


def test_a_call_under_way_ends_under_the_configuration_that_it_began_with(
    provider: Provider, state_dir: Path, address: Address, file: Path
) -> None:
    provider.on("a", Reply(body=answer("late"), delay_s=4))
    got: list[httpx.Response] = []
    with serving(entries(provider, "a"), state_dir, address, file=file) as sidecar:
        call = threading.Thread(target=lambda: got.append(sidecar.chat()))
        call.start()
        sidecar.until(lambda: bool(provider.calls))
        write(file, entries(provider, "b"))
        sidecar.until(lambda: listed(sidecar) == ["b"])
        assert not got
        call.join()

        assert got[0].headers["x-router-endpoint"] == "a"
        assert sidecar.chat().headers["x-router-endpoint"] == "b"


def test_a_removed_endpoint_ends_its_stored_draws_and_no_others(
    provider: Provider, state_dir: Path, address: Address, file: Path
) -> None:
    def drawn(sidecar: Sidecar) -> list[str]:
        replies = [sidecar.chat(headers={"x-router-session-id": f"s{i}"}) for i in range(20)]
        return [r.headers["x-router-endpoint"] for r in replies]

    with serving(entries(provider, "a", "b", "c"), state_dir, address, file=file) as sidecar:
        before = drawn(sidecar)
        write(file, entries(provider, "c", "b"))
        sidecar.until(lambda: listed(sidecar) == ["c", "b"])
        after = drawn(sidecar)

    assert set(before) == {"a", "b", "c"}
    assert [n for n, was in zip(after, before, strict=True) if was != "a"] == [
        was for was in before if was != "a"
    ]
    assert set(after) == {"b", "c"}


def test_a_bad_file_changes_nothing_and_every_error_is_told(
    provider: Provider,
    state_dir: Path,
    address: Address,
    file: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with serving(entries(provider, "a"), state_dir, address, file=file) as sidecar:
        sidecar.until((state_dir / watch.KEPT_FILE).exists)
        good, before = file.read_text(), state(sidecar)
        broken = {**entries(provider, "a", "a"), "tasks": {"bad name": None}, "color": "s3cret"}
        write(file, broken)
        sidecar.until(lambda: state(sidecar)["refused"] is not None)
        refused = state(sidecar)
        shown = sidecar.http.get("/v1/router/posteriors").json()["configuration"]
        assert sidecar.chat().status_code == 200
        report = pointsman("report", "--all", "--config", file)
        as_json = json.loads(pointsman("report", "--config", file, "--json").stdout)
        file.write_text(good)
        sidecar.until(lambda: state(sidecar)["refused"] is None)
        again = state(sidecar)
    assert before["file"] == str(file)
    assert again == before
    assert {**refused, "refused": None} == before
    assert refused["refused"]["n_errors"] == len(refused["refused"]["errors"]) == 3
    assert shown == as_json["configuration"] == refused
    assert "is refused since" in " ".join(report.stdout.split())
    assert "3 errors:" in " ".join(report.stdout.split())
    assert "s3cret" not in str(refused)
    said = capfd.readouterr()
    assert all(
        error.split(": ")[1] in said.out + said.err for error in refused["refused"]["errors"]
    )


@pytest.mark.parametrize("how", ["gone", "empty", "binary", "huge"])
def test_no_file_at_all_is_refused_like_a_bad_one(
    how: str, provider: Provider, state_dir: Path, address: Address, file: Path
) -> None:
    with serving(entries(provider, "a"), state_dir, address, file=file) as sidecar:
        match how:
            case "gone":
                file.unlink()
            case "empty":
                file.write_text("")
            case "binary":
                file.write_bytes(b"\xff\xfe\x00")
            case "huge":
                file.write_text("#" * (5 << 20))
        sidecar.until(lambda: state(sidecar)["refused"] is not None)

        assert sidecar.chat().status_code == 200


def test_what_needs_a_restart_is_named_and_the_rest_is_taken(
    provider: Provider, state_dir: Path, address: Address, file: Path
) -> None:
    with serving(entries(provider, "a"), state_dir, address, file=file) as sidecar:
        value = {
            **entries(provider, "a", "b"),
            "server": {"port": 1, "state_dir": "/elsewhere", "deadline_s": 7},
            "store": {"shards": 64},
            "archive": {"keep_days": 1},
        }
        write(file, value)
        sidecar.until(lambda: listed(sidecar) == ["a", "b"])
        found = sidecar.app.keeper.current.configuration

        assert set(state(sidecar)["needs_restart"]) == {
            "server.port",
            "server.state_dir",
            "store.shards",
            "archive.keep_days",
        }
        assert found.server.deadline_s == 7
        assert found.server.port == 0
        assert sidecar.chat().status_code == 200


def test_keys_may_not_go_while_the_sidecar_listens_beyond_this_machine(
    monkeypatch: pytest.MonkeyPatch, provider: Provider
) -> None:
    monkeypatch.setenv("APP", "key")
    keyed = {"default": {"keys": [{"env": "APP"}]}}
    wide = {**entries(provider, "a"), "apps": keyed, "server": {"host": "0.0.0.0"}}
    running = compile_text(yaml.safe_dump(wide), file="t")

    with pytest.raises(ConfigError, match="bound beyond this machine"):
        take(yaml.safe_dump(entries(provider, "a")), file="t", running=running)


def test_a_rotated_key_file_is_taken_when_asked(
    provider: Provider, state_dir: Path, address: Address, file: Path
) -> None:
    key = state_dir / "key"
    key.write_text("one")
    value = entries(provider)
    value["endpoints"] = [endpoint(provider, "a", auth={"file": str(key)})]
    with serving(value, state_dir, address, file=file) as sidecar:
        sidecar.chat()
        key.write_text("two")
        since_ms = state(sidecar)["since_ms"]
        assert sidecar.app.keeper.file is not None
        sidecar.app.keeper.file.ask()
        sidecar.until(lambda: state(sidecar)["since_ms"] > since_ms)
        sidecar.chat()

    assert [c.headers["authorization"] for c in provider.calls] == ["Bearer one", "Bearer two"]


def test_a_change_is_taken_with_the_store_away(
    provider: Provider, state_dir: Path, file: Path
) -> None:
    nowhere = Address(f"unix://{state_dir}/nobody.sock")
    with serving(entries(provider, "a"), state_dir, nowhere, file=file) as sidecar:
        write(file, entries(provider, "b"))
        sidecar.until(lambda: listed(sidecar) == ["b"])

        assert sidecar.chat().headers["x-router-endpoint"] == "b"


def test_breakers_follow_their_endpoints_and_a_new_key_gets_another_chance(
    monkeypatch: pytest.MonkeyPatch, provider: Provider
) -> None:
    monkeypatch.setenv("KEY", "one")
    value = entries(provider)
    a, b = endpoint(provider, "a"), endpoint(provider, "b", auth={"env": "KEY"})

    def catalog(*listed: dict[str, Any]) -> Any:
        return compile_text(yaml.safe_dump({**value, "endpoints": list(listed)}), file="t").catalog

    first = catalog(a, b)
    health = Health()
    health.follow(first, 0.0)
    of_a, of_b = (e.digest for e in first.endpoints)
    for digest in (of_a, of_b):
        for _ in range(RULES[Trouble.FAILING].failures):
            health.begin(digest, 0.0)
            health.end(digest, Result.CONNECT, 0.0)
    health.begin(of_b, 0.0)

    health.follow(catalog(b, endpoint(provider, "c"), a), 0.1)
    assert health.is_blocked(of_a, 0.5)
    assert health.is_blocked(of_b, 0.5)

    monkeypatch.setenv("KEY", "two")
    health.follow(catalog(a, b), 0.1)
    assert health.is_blocked(of_a, 0.5)
    assert not health.is_blocked(of_b, 0.5)
    assert health.breakers[of_b].in_flight == 1

    health.follow(catalog(endpoint(provider, "c")), 0.1)
    assert set(health.breakers) == {of_b}  # a call is under way there
    health.end(of_b, Result.OK, 0.6)
    health.follow(catalog(endpoint(provider, "c")), 0.1)
    assert not health.breakers


def test_an_idle_sidecar_takes_a_change_within_two_seconds_and_no_file_that_is_being_written(
    monkeypatch: pytest.MonkeyPatch, provider: Provider, tmp_path: Path
) -> None:
    """It looks as often as the thread that looks at the store has nothing else to do."""
    monkeypatch.setattr(watch, "LOOK_EVERY_S", LOOK_S)
    monkeypatch.setattr(watch, "STILL_S", STILL_S)
    file = tmp_path / "pointsman.yaml"
    file.write_text(yaml.safe_dump(entries(provider, "a")))
    running = compile_text(file.read_text(), file="t")
    watched = WatchedFile(file, running, tmp_path)
    looks = iter(n * PACE_S for n in range(100))
    for _ in range(5):
        assert watched.look(changed_at := next(looks), running) is None

    for n in range(4):  # at every look it is longer
        file.write_text(yaml.safe_dump(entries(provider, "a", "b")) + n * "#")
        assert watched.look(changed_at := next(looks), running) is None
    file.write_text(yaml.safe_dump(entries(provider, "a", "b")))
    taken_at = next(at for at in looks if watched.look(at, running) is not None)

    assert taken_at - changed_at <= 2.0


def test_an_idle_file_is_looked_at_once_a_second_and_read_once(
    monkeypatch: pytest.MonkeyPatch, provider: Provider, tmp_path: Path
) -> None:
    monkeypatch.setattr(watch, "LOOK_EVERY_S", 1.0)
    monkeypatch.setattr(watch, "STILL_S", 1.0)
    file = tmp_path / "pointsman.yaml"
    file.write_text(yaml.safe_dump(entries(provider, "a")))
    running = compile_text(file.read_text(), file="t")
    watched, counts = WatchedFile(file, running, tmp_path), {"stat": 0, "read": 0}
    stat, read = watch._stamp, watch.read

    def counted(name: str, call: Callable[[Path], Any]) -> Callable[[Path], Any]:
        def count(path: Path) -> Any:
            counts[name] += 1
            return call(path)

        return count

    monkeypatch.setattr(watch, "_stamp", counted("stat", stat))
    monkeypatch.setattr(watch, "read", counted("read", read))
    for half_second in range(200):
        assert watched.look(half_second / 2, running) is None
    os.utime(file, (1, 1))  # touched, and the same
    for half_second in range(200, 210):
        assert watched.look(half_second / 2, running) is None

    assert counts["read"] == 2
    assert counts["stat"] <= 105 + 2


def test_a_draw_outside_of_what_a_strategy_now_exchanges_ends(
    provider: Provider, state_dir: Path, address: Address, file: Path
) -> None:
    bare = {"capabilities": {"tools": False}}
    tools = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    value = {
        "endpoints": [endpoint(provider, "a", **bare), endpoint(provider, "b")],
        "strategies": {"mine": {"incumbent": "a"}},
        "apps": {"default": {"mode": "route", "strategy": "mine"}},
    }
    session = {"x-router-session-id": "s"}
    with serving(value, state_dir, address, file=file) as sidecar:
        sidecar.chat(headers=session, tools=tools)  # what one call needs binds no later one
        sidecar.chat(headers=session)
        write(file, {**value, "strategies": {"mine": {"extends": "same-model", "incumbent": "a"}}})
        keeper = sidecar.app.keeper
        sidecar.until(
            lambda: keeper.current.configuration.strategies["mine"].exchange == "equivalents"
        )
        sidecar.chat(headers=session)

    assert provider.hosts() == ["b", "b", "a"]
