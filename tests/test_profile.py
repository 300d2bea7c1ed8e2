"""`pointsman profile`: what is sent where, what it costs, and what is never paid twice."""

from __future__ import annotations

import json
import os
import re
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

from router.commands.profile_shown import shown_end
from router.config.compiled import load
from router.profiling.log import LogLine, RunLog, read_log
from router.profiling.prompts import read_prompts
from router.profiling.results import ProfileResult
from router.profiling.runs import run_directory
from telemetry.embedded import PID_FILE, PrivateServer
from telemetry.store import Address


def prompts_file(path: Path, lines: list[dict[str, Any]]) -> Path:
    file = path / "prompts.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def capitals(n: int, **more: Any) -> list[dict[str, Any]]:
    return [
        {"prompt": f"What is {i}?", "expected": str(i), "max_tokens": 50} | more for i in range(n)
    ]


def right(call: Seen) -> Reply:
    asked = call.json["messages"][-1]["content"].split()[-1].rstrip("?")
    return Reply(body=answer(f"It is {asked}.", answer_id=f"c-{time.monotonic_ns()}", model="a"))


def failing(status: int, code: str = "no") -> Reply:
    return Reply(status, json.dumps({"error": {"message": "no", "code": code}}).encode())


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
    assert "without a limit" not in said.stderr
    told = json.loads(said.stdout)
    rows = {row["endpoint"]: row for row in told["overall"]}
    assert (rows["a"]["quality"], rows["b"]["quality"]) == (1.0, 0.0)
    assert rows["a"]["cost_usd"] == pytest.approx((10 * 1 + 5 * 2) / 1e6)
    assert (told["weights_from"], told["spent_usd"]) == ("prompts", pytest.approx(2e-4))
    sent = Counter((call.host, call.json["messages"][-1]["content"]) for call in provider.calls)
    assert set(sent.values()) == {1}
    assert len(sent) == 10


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--max-usd", "0"], "--max-usd is 0"),
        (["--max-usd", "nan"], "--max-usd is nan"),
        (["--app", "no"], "--app no: there is none"),
        (["--endpoint", "no"], "--endpoint no: there is none; the configuration has a, b"),
        (["--judge", "no"], "--judge no: there is none"),
        (["--strategy", "no"], "--strategy no: there is none"),
        (["--html", "/no/such/page.html"], "--html /no/such/page.html: cannot be written"),
    ],
)
def test_a_wrong_option_is_told_before_anything_is_sent(
    world: Path, provider: Provider, tmp_path: Path, more: list[str], said: str
) -> None:
    got = profile(world, prompts_file(tmp_path, capitals(1)), *more)

    assert (got.exit_code, got.stdout) == (2, "")
    assert said in got.stderr
    assert not provider.calls


def test_a_malformed_line_among_a_thousand_costs_nothing(
    world: Path, provider: Provider, tmp_path: Path
) -> None:
    file = prompts_file(tmp_path, capitals(1000))
    lines = file.read_text().splitlines()
    lines[499] = lines[499][:-1]
    file.write_text("\n".join(lines))

    said = profile(world, file)

    assert said.exit_code == 2
    assert "line 500: is no JSON" in said.stderr
    assert not provider.calls


def test_prompts_that_nothing_grades_want_a_judge(world: Path, tmp_path: Path) -> None:
    said = profile(world, prompts_file(tmp_path, [{"prompt": "Why?"}, *capitals(1)]))

    assert said.exit_code == 2
    assert "1 prompts say nothing to grade by (lines 1)" in said.stderr
    assert "--judge" in said.stderr


def test_commands_run_only_once_they_were_allowed_and_are_shown(
    world: Path, tmp_path: Path
) -> None:
    file = prompts_file(tmp_path, [{"prompt": "Why?", "check": "sh -c 'exit 0'"}])

    said = profile(world, file)

    assert said.exit_code == 2
    assert "sh -c 'exit 0'" in said.stderr
    assert "--allow-commands" in said.stderr


def test_without_a_terminal_and_without_yes_nothing_is_sent(
    world: Path, provider: Provider, tmp_path: Path
) -> None:
    open_ended = [{"prompt": "Hi", "expected": "1"}]
    said = pointsman("profile", prompts_file(tmp_path, open_ended), "--config", world)

    assert said.exit_code == 2
    assert "2 calls, about" in said.stderr
    assert "prompts without a limit counted at 1000 tokens" in said.stderr
    assert "--yes" in said.stderr
    assert not provider.calls


@pytest.mark.parametrize("content", [None, ""])
def test_a_file_that_is_not_there_or_empty_is_told(
    world: Path, tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "prompts.jsonl"
    if content is not None:
        file.write_text(content)

    said = profile(world, file, "--json")

    assert said.exit_code == 2
    assert json.loads(said.stdout)["failure"] in said.stderr


def test_a_key_that_is_not_there_is_told(world: Path, provider: Provider, tmp_path: Path) -> None:
    state_dir = world.parent
    keyed = endpoint(provider, "a", auth={"env": "NOT_THERE_KEY"})
    configured(state_dir, [keyed])

    said = profile(world, prompts_file(tmp_path, capitals(1)))

    assert said.exit_code == 2
    assert said.stderr.count("NOT_THERE_KEY") == 1


def test_a_state_directory_that_cannot_be_written_is_told(world: Path, tmp_path: Path) -> None:
    (world.parent / "state").write_text("a file")

    said = profile(world, prompts_file(tmp_path, capitals(1)))

    assert said.exit_code == 2
    assert str(world.parent / "state") in said.stderr


def test_where_no_call_was_answered_it_says_of_each_endpoint_why(
    world: Path, provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_KEY", "sk-secret")
    said = {
        "key": (failing(401), "key turned down (401); check A_KEY"),
        "may": (failing(403), "key may not do this (403); check A_KEY, and that it may use m-1"),
        "path": (failing(404), "no such model or path (404); check model m-1, and base_url"),
        "broken": (failing(500), "it fails by itself (500); look again later"),
        "picky": (failing(400), "it turns the call down (status 400 no): no"),
        "broke": (
            failing(429, code="insufficient_quota"),
            "the account has no credit (429 insufficient_quota); pay there, or set A_KEY",
        ),
        "page": (Reply(body=b"<html>"), "what it answers is no answer of its dialect; correct"),
    }
    for name, (reply, _) in said.items():
        provider.on(name, reply)
    more = {"auth": {"env": "A_KEY"}, "upstream_model": "m-1"}
    away = endpoint(provider, "tls", **more) | {"base_url": f"https://127.0.0.1:{provider.port}/v1"}
    nobody = endpoint(provider, "off", **more) | {"base_url": "http://127.0.0.1:9/v1"}
    listed = [endpoint(provider, name, **more) for name in said]
    configured(world.parent, [*listed, away, nobody])

    got = profile(world, prompts_file(tmp_path, capitals(3)))

    assert (got.exit_code, got.stdout) == (1, "")
    for name, (_, why) in said.items():
        assert f"{name}: no answer: {why}" in got.stderr
    assert "tls: no answer: its port speaks no TLS, and base_url says https; write" in got.stderr
    listens = "off: no answer: nothing listens there; start it, or correct host and port"
    assert listens in got.stderr
    assert got.stderr.endswith("no endpoint answered\n")
    assert "sidecar's log" not in got.stderr
    assert "sk-secret" not in got.stderr


def test_money_that_ends_before_a_sentence_is_a_failure_that_says_what_is_enough(
    world: Path, provider: Provider, tmp_path: Path
) -> None:
    file = prompts_file(tmp_path, capitals(20))
    short = profile(world, file, "--max-usd", "0.0002")
    found = re.search(r"too early to advise anything; ([\d.]+) would be enough", short.stderr)
    assert (short.exit_code, bool(found)) == (1, True), short.stderr
    assert "Cannot tell yet" in short.stdout

    enough = profile(world, file, "--max-usd", found[1] if found else "")

    assert enough.exit_code == 0, enough.stderr
    assert "Pin a" in enough.stdout
    assert "would be enough for all" in enough.stderr
    spent = logged(world).spent_usd
    again = profile(world, file, "--max-usd", found[1] if found else "", "--json")
    assert (again.exit_code, json.loads(again.stdout)["failure"]) == (0, None)
    assert logged(world).spent_usd == spent
    assert "verdicts are labels already" in again.stderr
    assert "labels now" not in again.stderr


def test_money_below_the_first_call_is_told_with_its_price(
    world: Path, provider: Provider, tmp_path: Path
) -> None:
    said = profile(world, prompts_file(tmp_path, capitals(5)), "--max-usd", "1e-7", "--json")

    assert said.exit_code == 1
    words = "--max-usd 1e-07 is below what the first call may cost, about 0.00011 USD"
    assert json.loads(said.stdout)["failure"].startswith(words), said.stdout
    assert not provider.calls


def test_where_every_call_was_cut_off_it_says_so(world: Path, tmp_path: Path) -> None:
    file = prompts_file(tmp_path, capitals(1))
    found = load(world)
    prompts = read_prompts(
        file.read_bytes().splitlines(),
        tasks=found.tasks,
        classes=found.classes.names,
        beside=tmp_path,
    ).prompts
    both = found.catalog.endpoints
    where = run_directory(world.parent / "state", prompts, both, judge=None, app="default")
    where.mkdir(parents=True)
    log = RunLog(where)
    for each in both:
        log.write(LogLine("begin", time.time(), prompt=prompts[0].digest, endpoint=each.id))
    log.close()

    said = profile(world, file)

    assert said.exit_code == 1
    assert "2 calls ended with their process" in said.stderr
    assert "--again" in said.stderr


def test_a_killed_command_leaves_no_call_half_done_and_the_next_goes_on(
    world: Path, provider: Provider, tmp_path: Path
) -> None:
    file = prompts_file(tmp_path, capitals(5))
    for host in ("a", "b"):
        provider.on(host, Reply(body=answer("1"), delay_s=0.15))
    command = [sys.executable, "-m", "router.cli", "profile", str(file), "--config", str(world)]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    running = subprocess.Popen(
        [*command, "--yes", "--workers", "2"], env=environment, stderr=subprocess.DEVNULL
    )
    while len(provider.calls) < 3:
        assert running.poll() is None
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()

    said = profile(world, file)

    assert said.exit_code == 0, said.stderr
    sent = Counter((call.host, call.json["messages"][-1]["content"]) for call in provider.calls)
    assert (len(sent), set(sent.values())) == (10, {1})
    assert len(logged(world).ended) == 10
    assert not logged(world).begun


ENDED: dict[str, Any] = {
    "stopped": {}, "dropped": {}, "odd": {}, "usage_unknown": 0, "out_of_money": False, "labels": 0,
    "labels_before": 0, "no_answer": {}, "why_not": "", "turned_down": {}, "changed": {},
    "said": {},
    "judge_fault": "", "judge_asked": 0, "judge_graded": 0, "asked_to_stop": False, "left": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("more", "graded_by", "said"),
    [
        ({"judge_asked": 1}, "judge", "the judge graded 0 of 1: name another by --judge"),
        ({"judge_fault": "no key"}, "judge", "the judge j cannot grade: no key"),
        ({"asked_to_stop": True, "left": 3}, "expected", "stopped: 3 calls are left"),
        ({}, "expected", ""),
    ],
)
def test_what_did_not_come_of_a_run_is_said(
    more: dict[str, Any], graded_by: str, said: str
) -> None:
    quality = 1.0 if graded_by == "expected" else None
    result = ProfileResult("p", "general", "a", quality, 0.1, 1.0, graded_by=graded_by)

    _, failure = shown_end({"judge": "j"}, ENDED | more, [result], has_sentence=True)

    assert failure.startswith(said)
    assert bool(failure) is bool(said)


def test_a_private_store_does_not_get_the_keys_of_providers(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with PrivateServer(state_dir / "other") as other:
        pid = (other.directory / PID_FILE).read_text()
        environment = Path(f"/proc/{pid}/environ")
        if not environment.exists():
            pytest.skip("there is no /proc")
        assert b"sk-secret" not in environment.read_bytes()
