"""An answer of the scripted agent, before it is said in a dialect."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scripts.kits.agent import TARGET, AgentAction, Move

CACHED = 10
"""Tokens of each prompt that came out of a cache."""


@dataclass(frozen=True, slots=True)
class AgentAnswer:
    """What is said, and by whom."""

    number: int  # the provider's, of this answer
    host: str
    model: str
    move: Move
    prompt_tokens: int  # those out of the cache included
    output_tokens: int
    thinks: bool

    @property
    def call(self) -> AgentAction | None:
        """The call of a tool, if it is one."""
        return self.move if isinstance(self.move, AgentAction) else None

    @property
    def acts(self) -> bool:
        """Whether the client is to do something: run a tool, or write a file and check it."""
        return self.call is not None or TARGET in self.text

    @property
    def text(self) -> str:
        """The words, if it is none."""
        if isinstance(self.move, AgentAction):
            return ""
        return self.move if isinstance(self.move, str) else json.dumps(self.move)

    @property
    def arguments(self) -> str:
        """The arguments of the call, as text."""
        return json.dumps(self.call.arguments) if self.call else ""

    @property
    def signature(self) -> str:
        """What seals its thinking; no other host takes it."""
        return f"sealed-by-{self.host}-{self.number}"


def pieces(text: str) -> list[str]:
    """Return a text in three parts, as a stream brings it."""
    third = len(text) // 3 + 1
    return [text[i : i + third] for i in range(0, len(text), third)]


def text_of(content: Any) -> str:
    """Return all text of a message's content, in any dialect."""
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping):
        inner = (content.get("text"), content.get("content"), content.get("output"))
        return "".join(text_of(part) for part in inner if part is not None)
    if isinstance(content, Sequence):
        return "\n".join(text_of(part) for part in content)
    return ""


def named_event(value: Mapping[str, Any]) -> bytes:
    """Return an event of a dialect whose events have names."""
    return f"event: {value['type']}\ndata: {json.dumps(value)}\n\n".encode()
