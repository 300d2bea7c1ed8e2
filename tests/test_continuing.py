"""A conversation without a session id keeps task and endpoint, whatever a later turn carries."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Provider, Sidecar, endpoint, serving, until

from telemetry.store import Address

PIXEL = "data:image/png;base64,iVBORw0KGgo="
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
N = 12
"""Conversations; with four endpoints all of them stay by chance once in 4^12."""


def tools(n: int) -> dict[str, Any]:
    functions = [{"name": f"f{i}", "parameters": {"type": "object"}} for i in range(n)]
    return {"tools": [{"type": "function", "function": one} for one in functions]}


def value(provider: Provider) -> dict[str, Any]:
    blind = endpoint(provider, "blind", capabilities={"images": False})
    return {
        "starter_tasks": True,
        "endpoints": [*(endpoint(provider, name) for name in "abc"), blind],
        "tasks": {"secret": {"match": {"tools": ["keep"]}, "tools": ["keep"]}},
        "strategies": {"learn": {"objective": "quality", "incumbent": "none"}},
        "apps": {"default": {"mode": "route", "strategy": "learn"}},
    }


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy this machine is, a store that is there is heard."""
    monkeypatch.setattr("router.decision.shared_draws.LOOK_UP_S", 5.0)


@pytest.fixture
def sidecar(
    provider: Provider, state_dir: Path, address: Address, store: object
) -> Iterator[Sidecar]:
    with serving(value(provider), state_dir / "a", address) as found:
        found.until(lambda: found.app.keeper.store_up)
        yield found


def turn(sidecar: Sidecar, user: str, n: int = 1, then: Any = "go on", **more: Any) -> Any:
    """The n-th turn of a user's conversation, in which all after the first say `then`."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": f"hello, I am {user}"}]
    for i in range(n - 1):
        messages.append({"role": "assistant", "content": f"answer {i}"})
        messages.append({"role": "user", "content": then})
    headers = {"x-router-user": user, **more.pop("headers", {})}
    got = sidecar.chat(messages=messages, headers=headers, **more)
    assert got.status_code == 200, got.text
    said = got.headers
    return said["x-router-endpoint"], said["x-router-task"], said["x-router-task-found-by"]


LOOKS = [{"type": "image_url", "image_url": {"url": PIXEL}}]


@pytest.mark.parametrize(
    ("before", "after", "task", "own"),
    [
        (tools(5), tools(6), "tools/simple", "tools/complex"),
        ({}, tools(1), "general", "tools/simple"),
        ({}, {"response_format": SCHEMA}, "general", "extract/normal"),
        (tools(1), {}, "tools/simple", "general"),
    ],
)
def test_a_turn_of_another_structure_keeps_task_and_endpoint(
    sidecar: Sidecar, before: dict[str, Any], after: dict[str, Any], task: str, own: str
) -> None:
    users = [f"u{i}" for i in range(N)]
    assert turn(sidecar, "other", **after)[1] == own
    first = [turn(sidecar, user, **before) for user in users]
    kept = [(endpoint, task, "session") for endpoint, *_ in first]

    assert {found[1] for found in first} == {task}
    assert [turn(sidecar, user, 2, **after) for user in users] == kept
    assert [turn(sidecar, user, 3, **after)[:2] for user in users] == [one[:2] for one in kept]
    assert [turn(sidecar, user, 4, **before)[:2] for user in users] == [one[:2] for one in kept]


def test_an_image_moves_only_who_cannot_be_served_where_it_was(sidecar: Sidecar) -> None:
    for i in range(N):
        drawn, task, _ = turn(sidecar, f"u{i}")
        later = turn(sidecar, f"u{i}", 2, LOOKS)
        assert task == "general"
        if drawn == "blind":
            assert later[0] != "blind"
            assert later[1].startswith("vision")
        else:
            assert later == (drawn, "general", "session")
        assert turn(sidecar, f"u{i}", 3, LOOKS)[0] == later[0]


def test_what_names_a_task_or_forbids_goes_before(sidecar: Sidecar) -> None:
    turn(sidecar, "u", **tools(5))

    hinted = turn(sidecar, "u", 2, headers={"x-router-task": "prose"}, **tools(6))
    assert hinted[1:] == ("prose", "hint")
    headers = {"x-router-session-id": "s"}
    assert turn(sidecar, "u", 2, headers=headers, **tools(6))[1] == "tools/complex"
    assert turn(sidecar, "v", 2, **tools(6))[1] == "tools/complex", "nobody knows its first turn"
    keep: dict[str, Any] = {"tools": [{"type": "function", "function": {"name": "keep"}}]}
    assert turn(sidecar, "w", **keep)[1] == "secret/normal"
    assert turn(sidecar, "w", 2, **tools(1))[1] == "tools/simple", "its rules take no other tool"


def test_another_router_goes_by_it_too(
    sidecar: Sidecar, provider: Provider, state_dir: Path, address: Address
) -> None:
    first = [turn(sidecar, f"u{i}", **tools(5)) for i in range(N)]
    until(lambda: sidecar.app.draws.shared.n_unwritten == 0)
    with serving(value(provider), state_dir / "b", address) as second:
        users = [one.app.keeper.secrets.users for one in (sidecar, second)]
        second.until(lambda: second.app.keeper.store_up and all(u.is_known for u in users))

        found = [turn(second, f"u{i}", 2, **tools(6)) for i in range(N)]

    assert found == [(endpoint, "tools/simple", "session") for endpoint, *_ in first]


def test_a_conversation_that_an_earlier_version_noted_is_found(
    sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its task beside it, in the task that its own structure says."""
    with monkeypatch.context() as before:
        before.setattr("router.decision.decide.note_task", lambda *_: None)
        first = [turn(sidecar, f"u{i}", **tools(5)) for i in range(N)]

    later = [turn(sidecar, f"u{i}", 2, **tools(4)) for i in range(N)]
    assert [one[:2] for one in later] == [one[:2] for one in first]
    assert turn(sidecar, "u0", 3, **tools(6))[:2] == later[0][:2]


def test_of_the_same_words_each_goes_by_what_was_drawn_in_its_own_task(sidecar: Sidecar) -> None:
    plain, tooled = turn(sidecar, "u"), turn(sidecar, "u", **tools(1))

    assert turn(sidecar, "u", 2) == plain
    assert turn(sidecar, "u", 2, **tools(1)) == tooled
