"""The scripted agent: two turns with tools of the client's own, then an answer that quotes them.

It knows no dialect. A word lies in a file of the client's folder, and nowhere in its prompt: an
answer that says the word shows that a tool ran and that its result came back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NOTES = "notes.txt"
"""In the client's folder: one line with the word."""
TARGET = "greeting.txt"
"""What a client without tools is to write the word into."""
WORD = re.compile(r"word-[0-9a-f]{8}")
N_TOOL_TURNS = 2
COMPLAINT = "check says"
"""What begins the words of a check that failed: the result of a client without tools."""
TITLE = "Reading notes"


@dataclass(frozen=True, slots=True)
class OfferedTool:
    """A function that the client would run."""

    name: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AgentTurn:
    """What a request says, in whatever dialect."""

    tools: Sequence[OfferedTool]
    n_results: int  # turns with results since the user last spoke
    said: str  # by the user last, or by the tools since then
    prompt: str  # everything that the user said
    schema: Mapping[str, Any] | None = None  # what the answer is to fit
    thinks: bool = False
    streamed: bool = False

    @property
    def is_of_the_task(self) -> bool:
        """Whether it asks for work; titles and the like are asked for beside it."""
        return bool(self.tools) or TARGET in self.prompt

    @property
    def has_results(self) -> bool:
        """Whether something that the agent had done came back."""
        return self.n_results > 0 or COMPLAINT in self.said


@dataclass(frozen=True, slots=True)
class AgentAction:
    """A call of a tool."""

    name: str
    arguments: dict[str, Any]


Move = AgentAction | dict[str, Any] | str
"""A call of a tool, an object that was asked for by its schema, or words."""


def next_move(turn: AgentTurn, host: str, folder: str) -> Move:
    """Return what the agent does next; `host` is named in all that it says at the end."""
    if turn.schema is not None:
        return example(turn.schema)
    if turn.tools:
        if turn.n_results < N_TOOL_TURNS:
            return tool_use(turn.tools, turn.n_results, folder)
        return f"{host} read {_word(turn.said)} after {turn.n_results} turns"
    if TARGET in turn.prompt:
        return f"I am {host}.\n\n{TARGET}\n```\n{_word(turn.said)}\n```\n"
    return TITLE


def _word(text: str) -> str:
    words: list[str] = WORD.findall(text)
    return words[-1] if words else "nothing"


def tool_use(tools: Sequence[OfferedTool], nth: int, folder: str) -> AgentAction:
    """Return the nth call: of what coding agents offer, else of the nth tool by its own schema."""
    known: list[dict[str, dict[str, Any]]] = [
        {
            "Bash": {"command": "ls", "description": "List files"},
            "exec_command": {"cmd": "ls"},
            "shell": {"command": ["ls"]},
        },
        {
            "Read": {"file_path": f"{folder}/{NOTES}"},
            "exec_command": {"cmd": f"cat {NOTES}"},
            "shell": {"command": ["cat", NOTES]},
        },
    ]
    offered = {tool.name for tool in tools}
    for name, arguments in known[nth].items():
        if name in offered:
            return AgentAction(name, arguments)
    tool = tools[nth % len(tools)]
    return AgentAction(tool.name, example(tool.schema))


def example(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object that a plain schema takes: all that it requires."""
    properties = schema.get("properties") or {}
    wanted = schema.get("required") or list(properties)
    return {name: _example_of(properties.get(name) or {}) for name in wanted}


def _example_of(schema: Mapping[str, Any]) -> Any:
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type")
    if kind == "object":
        return example(schema)
    of_kind = {"integer": 3, "number": 3, "boolean": True, "array": []}
    return of_kind.get(kind, NOTES) if isinstance(kind, str) else NOTES
