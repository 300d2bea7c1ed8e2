"""`scripts/clients` finds what goes wrong with a client, and says aloud what it could not try."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scripts.kits import installed
from scripts.kits.__main__ import main
from scripts.kits.agent import AgentAction, AgentTurn, OfferedTool, next_move
from scripts.kits.agent_provider import ProviderCall
from scripts.kits.clients import BY_NAME
from scripts.kits.compared import differences
from scripts.kits.installed import bare_environment
from scripts.kits.run import ClientRun, run_client


@pytest.fixture(scope="module")
def run() -> ClientRun:
    """A real program before a real sidecar; its package is in this environment already."""
    client = BY_NAME["pydantic-ai-messages"]
    here = Path(sys.prefix)
    return run_client(client, here, n_sessions=1, translated=False, lenient=False)


@pytest.mark.slow
def test_a_real_program_works_over_two_endpoints_and_nothing_is_wrong(run: ClientRun) -> None:
    figures = run.figures()

    assert figures["faults"] == []
    assert figures["answered"] == figures["sessions"] >= 3  # both endpoints, and one that fell
    assert figures["turns"] == 3 * figures["sessions"]
    assert figures["tool_calls"] == figures["tool_results"] == 2 * figures["sessions"]
    assert set(figures["sessions_by_endpoint"]) == {"one", "two"}
    assert sorted(figures["moved_over"]) == ["one", "two"]
    assert figures["booked_calls"] == sum(figures["calls_by_endpoint"].values())


def faults(run: ClientRun, **changed: Any) -> list[str]:
    """What is found where the first conversation was otherwise."""
    session = replace(run.sessions[0], **changed)
    return replace(run, sessions=[session, *run.sessions[1:]]).faults()


@pytest.mark.slow
def test_each_thing_that_may_go_wrong_is_found(run: ClientRun) -> None:
    calls = run.sessions[0].calls
    other = "two" if calls[0].host == "one" else "one"
    wandered = [replace(calls[0], host=other), *calls[1:]]
    reserved = [replace(calls[0], body={**calls[0].body, "model": "auto"}), *calls[1:]]
    spoilt = [replace(calls[0], body={**calls[0].body, "tools": []}), *calls[1:]]
    book = replace(run.booked["one"], n_tokens=run.booked["one"].n_tokens + 1)

    assert "no answer" in faults(run, answered=False)[0]
    assert "exit code 1" in faults(run, exit_code=1)[0]
    assert "went over" in faults(run, calls=wandered)[0]
    assert "was asked for auto" in faults(run, calls=reserved)[0]
    assert "actions" in faults(run, calls=calls[2:])[0]
    assert any("without .tools[]" in fault for fault in faults(run, calls=spoilt))
    assert "booked" in replace(run, booked={**run.booked, "one": book}).faults()[0]
    alone = [session for session in run.sessions if session.hosts != [other]]
    assert "drew one endpoint" in replace(run, sessions=alone).faults()[0]
    assert run.fallen is not None
    stuck = replace(run.fallen, calls=[c for c in run.fallen.calls if c.host == other])
    assert any("endpoint fell" in fault for fault in replace(run, fallen=stuck).faults())


def call(body: dict[str, Any], path: str = "/v1/messages") -> ProviderCall:
    return ProviderCall("one", "messages", path, body, None, None)


@pytest.mark.parametrize(
    ("direct", "routed", "found"),
    [
        ({"a": 1}, {"a": 2}, []),  # ids and times differ by themselves
        ({"a": 1}, {"a": 1, "stream_options": {"include_usage": True}}, []),
        ({"a": 1}, {"a": "1"}, ["call 1: without .a: int", "call 1: added .a: str"]),
        ({"a": {"b": 1}}, {"a": {}}, ["call 1: without .a.b: int", "call 1: added .a."]),
        ({"a": [1, 2]}, {"a": [1]}, ["call 1: without .a[2]", "call 1: added .a[1]"]),
    ],
)
def test_a_difference_of_requests_is_named_by_its_place(
    direct: dict[str, Any], routed: dict[str, Any], found: list[str]
) -> None:
    assert differences([call(direct)], [call(routed)]) == found


def test_calls_that_are_missing_or_go_elsewhere_are_differences() -> None:
    assert differences([call({})], []) == ["1 calls directly, 0 routed"]
    assert "elsewhere" in differences([call({})], [call({}, path="/elsewhere")])[0]


@pytest.mark.parametrize("host", ["one", "two"])
def test_the_agent_plays_by_whatever_tools_there_are(host: str) -> None:
    kinds = {"n": "integer", "on": "boolean", "s": "string", "x": "number", "l": "array"}
    schema = {"properties": {name: {"type": kind} for name, kind in kinds.items()}}
    schema["properties"] |= {"e": {"enum": ["b"]}, "o": {"type": "object"}, "any": {}}
    turn = AgentTurn([OfferedTool("odd", schema)], n_results=0, said="", prompt="")
    bash = replace(turn, tools=[*turn.tools, OfferedTool("Bash", {}), OfferedTool("Read", {})])
    done = replace(turn, n_results=2, said="it says word-01234567")

    first = next_move(turn, host, "/f")
    assert isinstance(first, AgentAction)
    assert first.arguments == {
        **{"n": 3, "on": True, "s": "notes.txt", "x": 3, "l": []},
        **{"e": "b", "o": {}, "any": "notes.txt"},
    }
    assert next_move(bash, host, "/f") == AgentAction(
        "Bash", {"command": "ls", "description": "List files"}
    )
    assert next_move(replace(bash, n_results=1), host, "/f") == AgentAction(
        "Read", {"file_path": "/f/notes.txt"}
    )
    assert next_move(done, host, "/f") == f"{host} read word-01234567 after 2 turns"


def test_a_program_is_given_nothing_of_this_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_BASE_URL", "REDIS_URL", "PIP_INDEX_URL"):
        monkeypatch.setenv(name, "kept to ourselves")

    found = bare_environment(tmp_path)

    assert "kept to ourselves" not in found.values()
    assert found["HOME"] == str(tmp_path)
    assert found["PATH"].endswith(os.environ["PATH"])


@pytest.mark.slow
def test_what_cannot_be_installed_is_skipped_aloud(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(installed, "CACHE", tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)

    assert main(["pydantic-ai-chat"]) == 0
    said = capsys.readouterr()
    monkeypatch.setattr(installed, "PYTHON", "nothing")  # not even an environment can be made
    assert main(["pydantic-ai-chat", "--require"]) == 1

    assert said.out == ""
    assert said.err.startswith(
        "SKIPPED pydantic-ai-chat: pypi package pydantic-ai-slim[openai,anthropic] "
        "cannot be installed: "
    )
    assert not [path for path in tmp_path.iterdir() if path.name != "home"]
