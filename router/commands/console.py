"""What a verb says, and how it ends: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from typing import NoReturn

FAILED = 1
BAD_INPUT = 2


def print_json(value: object) -> None:
    """Print the one JSON object of a verb."""
    print(json.dumps(value))


def say(text: str) -> None:
    """Tell the user something that is no result."""
    print(text, file=sys.stderr)


class VerbFailed(SystemExit):
    """A verb has ended, and said why."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(code)
        self.text = text


def fail(text: str, code: int) -> NoReturn:
    """End the verb with a word of why; `code` is FAILED or BAD_INPUT."""
    say(text)
    raise VerbFailed(text, code)


def require_consent(question: str, *, no_terminal: str, yes: bool) -> None:
    """Ask before something is done that costs, unless that was agreed to.

    Args:
        no_terminal: what is said where nobody can be asked.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        fail(no_terminal, BAD_INPUT)
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        fail("nothing was sent", FAILED)
