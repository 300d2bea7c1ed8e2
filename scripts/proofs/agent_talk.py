"""What two coding agents send in a session of twenty turns: shapes as recorded, words made up.

Claude Code speaks Messages, Codex Responses. Both send all of a conversation with each turn, tools
and system prompts first, under a session id of their own; beside that a small model is asked for
titles, in the same session and another role.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any

from msgspec import Struct

from scripts.proofs.replies import WORDS
from scripts.proofs.within import SentRequest

TURNS = 20
TITLES_AT = (0, 7, 14)
"""Turns beside which a title is asked for."""
CODER, TITLES = "coder", "titles"
CLAUDE_TOOLS = {
    "Agent": 1227,
    "Bash": 1196,
    "Edit": 360,
    "Glob": 424,
    "Grep": 1030,
    "NotebookEdit": 619,
    "Read": 838,
    "Skill": 1713,
    "TaskCreate": 2146,
    "TaskUpdate": 2243,
    "WebFetch": 374,
    "WebSearch": 311,
    "Workflow": 18780,
    "Write": 240,
}
"""Names of tools and the lengths of their descriptions, in characters."""
CODEX_TOOLS = {"exec_command": 82, "write_stdin": 80, "view_image": 124, "update_goal": 1541}
CLAUDE_SYSTEM = (74, 62, 5857, 6062)
CODEX_SYSTEM = (16979, 2131)
RESULT_CHARACTERS = (300, 5000)
"""What a tool brings home."""
PAUSE_S = (8.0, 75.0)
"""Between two turns: the tool runs, the user reads."""
LONG_PAUSE_S, LONG_PAUSE_IN = 420.0, 40
"""One pause of so many is longer than a cache is kept."""


class AgentCall(Struct, frozen=True):
    """One call of a session."""

    session: str
    role: str
    request: SentRequest
    pause_s: float  # before it


class Spoken:
    """Texts of a given length: so much of the same words, from another place each time."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self._words = " ".join(random.choices(WORDS, k=8000))

    def text(self, n: int) -> str:
        """Return a text of so many characters that no other begins with."""
        begin = self.random.randrange(len(self._words) // 3)
        return f"{self.random.getrandbits(40):010x} {self._words[begin : begin + n - 11]}"


class ClaudeSession:
    """A session of Claude Code."""

    path = "/v1/messages"

    def __init__(self, name: str, spoken: Spoken) -> None:
        self.name, self._spoken = name, spoken
        said = Random("claude code")  # noqa: S311 - the same of all its sessions
        fixed = Spoken(said)
        self._system = [{"type": "text", "text": fixed.text(n)} for n in CLAUDE_SYSTEM]
        self._tools = [
            {"name": tool, "description": fixed.text(n), "input_schema": _schema()}
            for tool, n in CLAUDE_TOOLS.items()
        ]
        first = [_text(spoken.text(306)), _text(spoken.text(200))]
        self._messages: list[dict[str, Any]] = [{"role": "user", "content": first}]

    @property
    def headers(self) -> dict[str, str]:
        """What comes with each request."""
        return {
            "accept": "application/json",
            "user-agent": "claude-cli/2.1.197 (external, sdk-cli)",
            "x-claude-code-session-id": self.name,
            "x-stainless-lang": "js",
            "x-stainless-retry-count": "0",
            "anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14",
            "anthropic-version": "2023-06-01",
            "x-app": "cli",
        }

    def turn(self) -> dict[str, Any]:
        """Return the body of the next turn, and go on."""
        *before, last = self._messages
        *blocks, end = last["content"]
        marked = {**last, "content": [*blocks, {**end, "cache_control": {"type": "ephemeral"}}]}
        body = {
            "model": f"claude-role-{CODER}",
            "system": self._system,
            "tools": self._tools,
            "messages": [*before, marked],
            "max_tokens": 32000,
            "stream": True,
        }
        call: dict[str, Any] = {"type": "tool_use", "id": f"toolu_{len(before)}", "name": "Bash"}
        call["input"] = {"command": self._spoken.text(60)}
        result = {"type": "tool_result", "tool_use_id": call["id"]}
        result["content"] = self._spoken.text(self._spoken.random.randint(*RESULT_CHARACTERS))
        said = [_text(self._spoken.text(120)), call]
        self._messages += [
            {"role": "assistant", "content": said},
            {"role": "user", "content": [result]},
        ]
        return body

    def title(self) -> dict[str, Any]:
        """Return the body of a call for a title."""
        return {
            "model": f"claude-role-{TITLES}",
            "system": [_text("Write a title of at most six words.")],
            "messages": [{"role": "user", "content": self._spoken.text(400)}],
            "max_tokens": 64,
            "stream": False,
        }


class CodexSession:
    """A session of Codex."""

    path = "/v1/responses"

    def __init__(self, name: str, spoken: Spoken) -> None:
        self.name, self._spoken = name, spoken
        said = Random("codex")  # noqa: S311 - the same of all its sessions
        fixed = Spoken(said)
        self._tools = [
            {
                "type": "function",
                "name": tool,
                "description": fixed.text(n),
                "strict": False,
                "parameters": _schema(),
            }
            for tool, n in CODEX_TOOLS.items()
        ]
        self._items: list[dict[str, Any]] = [
            *(_item("developer", fixed.text(n)) for n in CODEX_SYSTEM),
            _item("user", spoken.text(421)),
        ]

    @property
    def headers(self) -> dict[str, str]:
        """What comes with each request."""
        return {
            "accept": "text/event-stream",
            "originator": "codex_exec",
            "user-agent": "codex_exec/0.171.0 (Debian 12.0.0; x86_64) xterm",
            "session-id": self.name,
            "thread-id": self.name,
        }

    def turn(self) -> dict[str, Any]:
        """Return the body of the next turn, and go on."""
        body = {
            **self._common(CODER),
            "stream": True,
            "input": list(self._items),
            "tools": self._tools,
            "tool_choice": "auto",
            "parallel_tool_calls": True,
        }
        called = f"call_{len(self._items)}"
        arguments = json.dumps({"cmd": self._spoken.text(60)})
        result = self._spoken.text(self._spoken.random.randint(*RESULT_CHARACTERS))
        self._items += [
            {
                "type": "function_call",
                "call_id": called,
                "name": "exec_command",
                "arguments": arguments,
            },
            {"type": "function_call_output", "call_id": called, "output": result},
        ]
        return body

    def title(self) -> dict[str, Any]:
        """Return the body of a call for a title."""
        asked = _item("user", self._spoken.text(400))
        return {**self._common(TITLES), "stream": False, "input": [asked]}

    def _common(self, role: str) -> dict[str, Any]:
        return {
            "model": f"role:{role}",
            "store": False,
            "include": ["reasoning.encrypted_content"],
            "prompt_cache_key": self.name,
        }


def calls_of(number: int, random: Random) -> Iterator[AgentCall]:
    """Yield the calls of one session; every second one is of Claude Code.

    Each is made when it is asked for: what is sent grows.
    """
    spoken = Spoken(random)
    made = ClaudeSession if number % 2 else CodexSession
    session = made(f"session-{number}-{random.getrandbits(48):012x}", spoken)

    def call(role: str, body: dict[str, Any], pause_s: float) -> AgentCall:
        request = SentRequest(session.path, session.headers, json.dumps(body).encode())
        return AgentCall(session.name, role, request, pause_s)

    for turn in range(TURNS):
        pause_s = random.uniform(*PAUSE_S) if turn else 0.0
        if random.randrange(LONG_PAUSE_IN) == 0:
            pause_s += LONG_PAUSE_S
        yield call(CODER, session.turn(), pause_s)
        if turn in TITLES_AT:
            yield call(TITLES, session.title(), 0.5)


def _text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def _item(role: str, said: str) -> dict[str, Any]:
    content = [{"type": "input_text", "text": said}]
    return {"type": "message", "role": role, "content": content}


def _schema() -> dict[str, Any]:
    properties = {f"p{i}": {"type": "string"} for i in range(5)}
    return {"type": "object", "properties": properties, "required": ["p0"]}
