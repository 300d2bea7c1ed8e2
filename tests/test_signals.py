"""Finished calls are told to the observer: labels come of them, and nothing else."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import LEARN, ROUTED, SHARDS, Provider, Reply, Sidecar, endpoint, serving

from bandit.families import D, S
from router.dialects.messages_stream import message_as_stream
from router.dialects.responses_stream import response_as_stream
from telemetry import keys
from telemetry.store import Address
from workers.archive.trail import Trail
from workers.archive.trail_reading import read_trail
from workers.observer.rewards import TYPING_S

TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "parameters": {
            "type": "object",
            "properties": {"id": {"type": "integer"}},
            "required": ["id"],
        },
    },
}
CANARY = "canary-7f3a"
# The observer is a process, and one is killed.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("store")]


def calling(arguments: str) -> bytes:
    """An answer that calls the tool with these arguments."""
    function = {"name": "look_up", "arguments": arguments}
    call = {"id": "call_1", "type": "function", "function": function}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    return json.dumps({"id": "chatcmpl-t", "choices": [choice], "usage": usage}).encode()


def configuration(provider: Provider, **app: Any) -> dict[str, Any]:
    return {
        "endpoints": [endpoint(provider, "a")],
        "strategies": LEARN,
        "apps": {"default": {**ROUTED["default"], **app}},
    }


def ask(sidecar: Sidecar, number: int) -> None:
    session = {"x-router-session-id": f"s-{number}"}
    assert sidecar.chat(text=f"{CANARY} {number}", tools=[TOOL], headers=session).status_code == 200


def signals(sidecar: Sidecar) -> dict[str, int]:
    found = sidecar.http.get("/v1/router/posteriors").json()["categories"]
    return found[0]["signals"] if found else {}


def test_labels_are_read_off_calls_and_no_text_is_written(
    provider: Provider, state_dir: Path, address: Address, learner: Any
) -> None:
    provider.on("a", Reply(body=calling(json.dumps({"id": CANARY}))))
    with serving(configuration(provider), state_dir, address, observing=True) as sidecar:
        for number in range(6):
            ask(sidecar, number)
        sidecar.until(lambda: signals(sidecar) == {"tools": 6})

        posterior = sidecar.app.keeper.current.posterior
        assert posterior.evidence.derived[..., D.N].sum() > 0
        assert (
            posterior.evidence.derived[..., D.SEEN].sum()
            == posterior.evidence.derived[..., D.N].sum()
        )
        assert posterior.reliability.usable.min() < 0.95
        assert not posterior.labels.any()
        assert sidecar.app.keeper.current.signals[..., S.TOOLS].sum() == 6
    written = b"".join(p.read_bytes() for p in state_dir.rglob("*") if p.is_file())
    assert written
    assert CANARY.encode() not in written


def test_the_observer_is_no_process_that_keeps_no_trail(
    provider: Provider, state_dir: Path, address: Address, learner: Any, client: Any
) -> None:
    """It sends labels, no calls: an audit of what left misses nothing of it."""
    provider.on("a", Reply(body=calling(json.dumps({"id": CANARY}))))
    with serving(configuration(provider), state_dir, address, observing=True) as sidecar:
        ask(sidecar, 1)
        sidecar.until(lambda: signals(sidecar) == {"tools": 1})
        trail = Trail(client, state_dir / "archive", SHARDS)

        found = read_trail(trail, state_dir / "journal", since_ms=0)

        assert set(client.hkeys(keys.PASSED)) == {sidecar.app.writer.producer}
    assert found.n_mute == 0
    assert list(found.numbers) == [sidecar.app.writer.producer]


MESSAGES = (
    "/v1/messages",
    {
        "max_tokens": 100,
        "messages": [{"role": "user", "content": CANARY}],
        "tools": [{"name": "look_up", "input_schema": TOOL["function"]["parameters"]}],
    },
    {
        "id": "msg_t",
        "type": "message",
        "content": [{"type": "tool_use", "id": "toolu_1", "name": "look_up", "input": {"id": "a"}}],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 10, "output_tokens": 5},
    },
    message_as_stream,
)
RESPONSES = (
    "/v1/responses",
    {"input": CANARY, "tools": [{"type": "function", **TOOL["function"]}]},
    {
        "id": "resp_t",
        "status": "completed",
        "output": [
            {
                "type": "function_call",
                "call_id": "call_1",
                "name": "look_up",
                "arguments": '{"id": "a"}',
            }
        ],
        "usage": {"input_tokens": 10, "output_tokens": 5},
    },
    response_as_stream,
)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("path", "request_", "answer", "as_stream"), [MESSAGES, RESPONSES])
def test_labels_are_read_off_calls_of_the_other_dialects(
    provider: Provider,
    state_dir: Path,
    address: Address,
    learner: Any,
    path: str,
    request_: dict[str, Any],
    answer: dict[str, Any],
    as_stream: Callable[[bytes], bytes],
    streamed: bool,
) -> None:
    body = json.dumps(answer).encode()
    reply = Reply(chunks=[as_stream(body)]) if streamed else Reply(body=body)
    provider.on("a", reply)
    speaks = {"dialects": [path.removeprefix("/v1/")]}
    told = configuration(provider) | {"endpoints": [endpoint(provider, "a", **speaks)]}
    with serving(told, state_dir, address, observing=True) as sidecar:
        for number in range(3):
            headers = {"x-router-session-id": f"s-{number}"}
            asked = {"model": "auto", "stream": streamed, **request_}
            assert sidecar.http.post(path, json=asked, headers=headers).status_code == 200

        sidecar.until(lambda: signals(sidecar) == {"tools": 3})


def test_silent_answers_are_seen_and_similar_tickets_of_a_user_are_no_fault(
    provider: Provider, state_dir: Path, address: Address, learner: Any
) -> None:
    """Sixty users send two tickets each that are nearly alike, one after the other."""
    with serving(configuration(provider), state_dir, address, observing=True) as sidecar:

        def ticket(day: str, user: int) -> None:
            text = f"My order of last {day} has not arrived yet, what can I do about it?"
            headers = {"x-router-user": f"user-{user}"}
            assert sidecar.chat(text=text, headers=headers).status_code == 200

        began = time.monotonic()
        for user in range(60):
            ticket("Monday", user)
        time.sleep(max(0.0, TYPING_S + 0.5 - (time.monotonic() - began)))
        for user in range(60):
            ticket("Sunday", user)

        def seen() -> float:
            return float(sidecar.app.keeper.current.posterior.evidence.derived[..., D.SEEN].sum())

        sidecar.until(lambda: seen() > 110)
        posterior = sidecar.app.keeper.current.posterior
        assert signals(sidecar) == {}
        assert posterior.reliability.usable.min() == 1
        rows = sidecar.http.get("/v1/router/posteriors").json()["rows"]
        assert [row["usable"] for row in rows] == [1.0]


def test_an_observer_that_dies_costs_no_call_and_is_started_again(
    provider: Provider, state_dir: Path, address: Address, learner: Any
) -> None:
    provider.on("a", Reply(body=calling(json.dumps({"id": 1}))))
    with serving(configuration(provider), state_dir, address, observing=True) as sidecar:
        ask(sidecar, 0)
        sidecar.until(lambda: signals(sidecar) == {"tools": 1})
        line = sidecar.app.observer
        assert line is not None
        first = line.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        ask(sidecar, 1)
        sidecar.until(lambda: line.pid not in (first, None) and line.is_up, within_s=20)

        ask(sidecar, 2)

        sidecar.until(lambda: signals(sidecar).get("tools", 0) >= 2, within_s=20)
        metrics = sidecar.http.get("/metrics").text
        assert "router_observer_restarts 1" in metrics


@pytest.mark.parametrize("app", [{"signals": False}])
def test_an_app_that_wants_no_labels_is_not_told_of(
    provider: Provider, state_dir: Path, address: Address, learner: Any, app: dict[str, Any]
) -> None:
    with serving(configuration(provider, **app), state_dir, address, observing=True) as sidecar:
        ask(sidecar, 0)

        assert sidecar.app.observer is not None
        assert sidecar.app.observer.n_told == 0
        sidecar.until(lambda: sidecar.app.keeper.current.posterior.calls.sum() == 1)
        assert not sidecar.app.keeper.current.posterior.evidence.derived.any()
