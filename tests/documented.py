"""Blocks of the documents, and two simulated providers who answer the questions in them."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from scripts.kits.agent import AgentTurn
from scripts.kits.agent_provider import listening
from scripts.kits.answers import AgentAnswer
from scripts.proofs.first_day_provider import FirstDayProvider

ROOT = Path(__file__).parent.parent
PAGES = {
    "README.md": ROOT / "README.md",
    **{f"docs/{p.name}": p for p in sorted((ROOT / "docs").glob("*.md"))},
}
TEAMS = {"parcel": "shipping", "invoice": "billing", "password": "tech"}
"""Which team has a ticket, by a word of it."""
RIGHT = {"gpt-6-luna": 0.97, "gpt-6.1-sol": 0.95, "claude-opus-5-5": 0.95}
"""How often a model says the right one; any other: nine times of ten."""


@dataclass(frozen=True, slots=True)
class Block:
    """What stands between two fences."""

    page: str
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[tuple[str, str]]:
        """Each command with what is printed below it; of a script nothing is."""
        if self.language == "sh":
            return [(line, "") for line in self.text.splitlines() if _code(line)]
        found = [part.partition("\n") for part in re.split(r"^\$ ", self.text, flags=re.M)[1:]]
        return [(command, printed) for command, _, printed in found]


def _code(line: str) -> str:
    return line.partition("#")[0].strip()


def blocks() -> list[Block]:
    """Every fenced block of README and docs, in order."""
    fence = re.compile(r"^```([a-z]*)\n(.*?)^```$", re.M | re.S)
    return [
        Block(page, text[: found.start()].count("\n") + 1, found[1], found[2])
        for page, text in ((page, path.read_text()) for page, path in PAGES.items())
        for found in fence.finditer(text)
    ]


class DocumentedProvider(FirstDayProvider):
    """Says which team has a ticket, as often rightly as its model does; else what an agent says."""

    def _answer(self, host: str, turn: AgentTurn, body: dict[str, Any]) -> AgentAnswer:
        said = FirstDayProvider._answer(self, host, turn, body)
        asked = json.dumps(body.get("messages", ""))
        team = next((team for word, team in TEAMS.items() if word in asked), None)
        if team is None:
            return said
        digest = blake2b(asked.encode(), digest_size=8).digest()  # hard for one is hard for all
        is_right = int.from_bytes(digest, "big") / 2**64 < RIGHT.get(said.model, 0.9)
        return replace(said, move=team if is_right else "general")


def tickets(n: int = 60) -> str:
    """The prompts that the README profiles."""
    words = list(TEAMS)
    lines = [
        {
            "prompt": f"Ticket {i}: about my {words[i % 3]}. Which team: billing, shipping, tech?",
            "expected": TEAMS[words[i % 3]],
        }
        for i in range(n)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines)


@contextmanager
def documented_provider() -> Iterator[DocumentedProvider]:
    """Yield both providers, listening in a thread."""
    with listening(DocumentedProvider(lenient=True)) as provider:
        yield provider


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])
