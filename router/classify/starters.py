"""Exemplars that come with the sidecar: of code, mathematics, prose, and of none of these.

They are of two kinds: system prompts with tool names, which decide, and prompts, which suggest.
Under `general` lie texts that look like nothing in particular, so that small talk and generic
assistants are not taken for a task.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

TOOLS = 64
"""Names of tools that are looked at."""
CAMEL = re.compile(r"(?<=[a-zà-ÿ0-9])(?=[A-ZÀ-Þ])|[\W_]+")
TAGS = str.maketrans("<>", "‹›")


def starter_systems() -> dict[str, list[str]]:
    """Return exemplars of system prompts with tool names, by task."""
    return {
        task: [system_text(one["system"], one.get("tools", ())) for one in ones]
        for task, ones in _shipped()["systems"].items()
    }


def starter_prompts() -> dict[str, list[str]]:
    """Return exemplars of prompts, by task."""
    return {task: list(texts) for task, texts in _shipped()["prompts"].items()}


def system_text(system: str, tools: Sequence[str]) -> str:
    """Return one text of a system prompt and the names of tools.

    Names come first, as their words: `read_file` and `ReadFile` are both "read file". Tags are
    structure in a system prompt, and no wrapping of another's, so that they become plain words.
    """
    words = [" ".join(filter(None, CAMEL.split(name[:64]))) for name in tools[:TOOLS]]
    return "\n".join([*words, system.translate(TAGS)])


@cache
def _shipped() -> dict[str, dict[str, Any]]:
    value: dict[str, dict[str, Any]] = json.loads(
        files(__package__).joinpath("starters.json").read_text(encoding="utf-8")
    )
    return value
