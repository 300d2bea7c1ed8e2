"""Prompts as real clients send them in three dialects, and what is changed when one comes again.

What a task is told by stays: system prompt, tools, schema. Changed are words of messages, and the
words that come in are those that the rules of tasks look for elsewhere.
"""

from __future__ import annotations

import json
from enum import StrEnum
from random import Random
from typing import Any

from msgspec import Struct, structs

from scripts.proofs.replies import WORDS
from scripts.proofs.samples import PATHS
from scripts.proofs.within import SentRequest

REVIEW, SUPPORT = "You review changes.", "You are the support desk."
"""System prompts by which the tasks are told."""
TEMPTING = ("review", "support desk", "run_tests", "json_schema", "```python")
"""Words that rules look for, where they must not look."""
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
TASKS = ("code", "review", "extract", "support", "general")
LONG_TEXT_BYTES = 40_000
"""More than the endpoint with the shortest context takes."""
TEXT_WORDS = 24


class Change(StrEnum):
    """How a prompt differs from the one before it."""

    NONE = "as it was"
    WORD = "one word"
    FIRST = "first message"
    LENGTH = "fences or length"
    TURN = "another turn"


class ClientKind(StrEnum):
    """Whose requests they are."""

    SDK_CHAT = "openai chat"
    SDK_MESSAGES = "anthropic"
    SDK_RESPONSES = "openai responses"
    CLAUDE_CODE = "claude code"
    CODEX = "codex"

    @property
    def dialect(self) -> str:
        """What it speaks."""
        if self in (ClientKind.SDK_MESSAGES, ClientKind.CLAUDE_CODE):
            return "messages"
        return "chat" if self is ClientKind.SDK_CHAT else "responses"

    @property
    def session_header(self) -> str:
        """In which header its session comes."""
        own = {self.CLAUDE_CODE: "x-claude-code-session-id", self.CODEX: "session-id"}
        return own.get(self, "x-router-session-id")


class AskedPrompt(Struct, frozen=True):
    """What is asked, in no dialect yet; messages are texts, every second one an assistant's."""

    task: str
    messages: tuple[str, ...]
    change: Change = Change.NONE

    def changed(self, change: Change, random: Random, *, is_long: bool = False) -> AskedPrompt:
        """Return the prompt as it comes again.

        Args:
            is_long: of `LENGTH`, so much is added that a short context does not take it.
        """
        messages = list(self.messages)
        if change is Change.WORD:
            at = random.randrange(0, len(messages), 2)
            words = messages[at].split(" ")
            which = random.randrange(len(words))
            words[which] = random.choice([w for w in (*TEMPTING, *WORDS) if w != words[which]])
            messages[at] = " ".join(words)
        elif change is Change.FIRST:
            messages[0] = f"{sentence(random)} {random.choice(TEMPTING)} {messages[0][:40]}"
        elif change is Change.LENGTH:
            fence = "```python\nprint('tide')\n```" if random.random() < 0.5 else sentence(random)
            n = LONG_TEXT_BYTES // len(fence) if is_long else random.randrange(1, 20)
            messages[-1] += ("\n" + fence) * n
        elif change is Change.TURN:
            messages += [sentence(random), f"{random.choice(TEMPTING)} {sentence(random)}"]
        return structs.replace(self, messages=tuple(messages), change=change)


def prompt_of(task: str, random: Random) -> AskedPrompt:
    """Return a new prompt; one in three has turns before it."""
    n = random.choice((1, 1, 3))
    return AskedPrompt(task, tuple(sentence(random) for _ in range(n)))


def sentence(random: Random) -> str:
    """Return words that nobody said before."""
    said = random.choices(WORDS, k=TEXT_WORDS)
    return f"{' '.join(said)} {random.getrandbits(40):x}"


class Asker(Struct, frozen=True):
    """Who sends a prompt: with a session, as a user, or as neither."""

    kind: ClientKind
    app: str  # its name is its key
    session: str = ""
    user: str = ""

    def request(
        self, prompt: AskedPrompt, *, streamed: bool = False, hints: dict[str, str] | None = None
    ) -> SentRequest:
        """Return the bytes of a prompt as this client sends them."""
        headers = {**_HEADERS[self.kind], "authorization": f"Bearer {self.app}"}
        if self.session:
            headers[self.kind.session_header] = self.session
        headers |= hints or {}
        body = {"model": "auto", "stream": streamed, **_BODIES[self.kind.dialect](self, prompt)}
        return SentRequest(PATHS[self.kind.dialect], headers, json.dumps(body).encode())


_STAINLESS = {
    "accept": "application/json",
    "accept-encoding": "gzip, deflate",
    "x-stainless-lang": "python",
    "x-stainless-os": "Linux",
    "x-stainless-retry-count": "0",
}
_HEADERS: dict[ClientKind, dict[str, str]] = {
    ClientKind.SDK_CHAT: {**_STAINLESS, "user-agent": "AsyncOpenAI/Python 3.57.0"},
    ClientKind.SDK_RESPONSES: {**_STAINLESS, "user-agent": "OpenAI/Python 3.57.0"},
    ClientKind.SDK_MESSAGES: {
        **_STAINLESS,
        "user-agent": "Anthropic/Python 2.14.0",
        "anthropic-version": "2023-06-01",
    },
    ClientKind.CLAUDE_CODE: {
        **_STAINLESS,
        "x-stainless-lang": "js",
        "user-agent": "claude-cli/2.1.197 (external, sdk-cli)",
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14",
        "x-app": "cli",
    },
    ClientKind.CODEX: {
        "accept": "text/event-stream",
        "originator": "codex_exec",
        "user-agent": "codex_exec/0.171.0 (Debian 12.0.0; x86_64) xterm (codex_exec; 0.171.0)",
    },
}


def _system(task: str) -> str:
    return {"review": REVIEW, "support": SUPPORT}.get(task, "You help.")


def _tool() -> dict[str, Any]:
    return {"name": "run_tests", "description": "Run all tests."}


def _role(at: int) -> str:
    return "assistant" if at % 2 else "user"


def _chat_body(asker: Asker, prompt: AskedPrompt) -> dict[str, Any]:
    said = [{"role": _role(i), "content": text} for i, text in enumerate(prompt.messages)]
    body: dict[str, Any] = {
        "messages": [{"role": "system", "content": _system(prompt.task)}, *said]
    }
    if prompt.task == "code":
        body["tools"] = [{"type": "function", "function": {**_tool(), "parameters": SCHEMA}}]
    if prompt.task == "extract":
        named = {"name": "found", "schema": SCHEMA}
        body["response_format"] = {"type": "json_schema", "json_schema": named}
    if asker.user:
        body["user"] = asker.user
    return body


def _messages_body(asker: Asker, prompt: AskedPrompt) -> dict[str, Any]:
    said = [
        {"role": _role(i), "content": [{"type": "text", "text": text}]}
        for i, text in enumerate(prompt.messages)
    ]
    said[-1]["content"][0]["cache_control"] = {"type": "ephemeral"}  # type: ignore[index]
    body: dict[str, Any] = {
        "max_tokens": 1024,
        "system": [{"type": "text", "text": _system(prompt.task)}],
        "messages": said,
    }
    if prompt.task == "code":
        body["tools"] = [{**_tool(), "input_schema": SCHEMA}]
    if prompt.task == "extract":
        body["output_config"] = {"format": {"type": "json_schema", "schema": SCHEMA}}
    if asker.user:
        body["metadata"] = {"user_id": asker.user}
    return body


def _responses_body(asker: Asker, prompt: AskedPrompt) -> dict[str, Any]:
    said: list[dict[str, Any]] = [
        {
            "type": "message",
            "role": _role(i),
            "content": [{"type": "output_text" if i % 2 else "input_text", "text": text}],
        }
        for i, text in enumerate(prompt.messages)
    ]
    body: dict[str, Any] = {"store": False, "input": said}
    if asker.kind is ClientKind.CODEX:
        content = [{"type": "input_text", "text": _system(prompt.task)}]
        said.insert(0, {"type": "message", "role": "developer", "content": content})
        body |= {"include": ["reasoning.encrypted_content"], "parallel_tool_calls": True}
        if asker.session:
            body["prompt_cache_key"] = asker.session
    else:
        body["instructions"] = _system(prompt.task)
    if prompt.task == "code":
        body["tools"] = [{"type": "function", **_tool(), "parameters": SCHEMA, "strict": False}]
    if prompt.task == "extract":
        body["text"] = {"format": {"type": "json_schema", "name": "found", "schema": SCHEMA}}
    if asker.user:
        body["safety_identifier"] = asker.user
    return body


_BODIES = {"chat": _chat_body, "messages": _messages_body, "responses": _responses_body}
