"""The proof of the first day proves something: each broken promise is found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scripts.proofs.first_day import (
    MOST_LINES,
    MOST_S,
    SERVED,
    SERVED_ANTHROPIC,
    FirstDay,
    TypedCommand,
    judge,
    shown,
)
from scripts.proofs.first_day_provider import KEYS


def day() -> FirstDay:
    """One on which all went well."""
    said = ["pointsman.yaml: 22 lines", "listening", "id ".join(["", *(f"{m}\n" for m in SERVED)])]
    lines = ["pointsman init --yes", "pointsman up", "OPENAI_BASE_URL=u python chat.py"]
    commands = [TypedCommand(line, 1.0, 0, text) for line, text in zip(lines, said, strict=True)]
    commands.append(TypedCommand("python claude.py", 1.0, 0, "\n".join(SERVED_ANTHROPIC)))
    return FirstDay(commands, "a: 1\n", 3.0, 3, set(KEYS.items()))


def test_a_day_on_which_all_went_well_is_as_promised() -> None:
    assert judge(day()) == []
    assert "3 commands and 67 keystrokes; 1 lines of YAML" in shown(day())


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ({"first_call_s": MOST_S + 1}, "the first call took"),
        ({"yaml": "a\n" * (MOST_LINES + 1)}, "lines of YAML"),
        ({"n_until_call": 4}, "commands to the first call"),
        ({"keys_seen": {("openai", KEYS["anthropic"])}}, "with other keys"),
        ({"yaml": KEYS["openai"]}, "the key of openai"),
    ],
)
def test_a_broken_promise_is_found(broken: dict[str, object], says: str) -> None:
    (wrong,) = judge(replace(day(), **broken))  # type: ignore[arg-type]

    assert says in wrong


@pytest.mark.parametrize("at", range(4))
def test_a_command_that_fails_is_found(at: int) -> None:
    failed = day()
    failed.commands[at] = replace(failed.commands[at], code=1)

    assert len(judge(failed)) == 1


@pytest.mark.parametrize("at", [2, 3])
def test_an_app_that_somebody_else_served_is_found(at: int) -> None:
    failed = day()
    failed.commands[at] = replace(failed.commands[at], said="another")

    (wrong,) = judge(failed)
    assert "was served by ['another']" in wrong
