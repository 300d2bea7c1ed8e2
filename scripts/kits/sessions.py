"""One conversation of a client program, and what the provider saw of it."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.kits.agent import NOTES, TARGET
from scripts.kits.agent_provider import AgentProvider, ProviderCall
from scripts.kits.clients import ClientProgram, Seat
from scripts.kits.installed import bare_environment

SESSION_S = 240.0
"""A cold start of a coding agent takes up to a minute on a busy machine."""
OUTPUT_END = 2000


@dataclass(frozen=True, slots=True)
class ClientSession:
    """What came of it."""

    name: str
    exit_code: int
    took_s: float
    answered: bool  # the client got the word, by way of a tool and the provider
    calls: Sequence[ProviderCall]
    output: str  # the end of what it printed

    @property
    def model_calls(self) -> list[ProviderCall]:
        """Those that ask a model for something."""
        return [call for call in self.calls if call.dialect]

    @property
    def task_calls(self) -> list[ProviderCall]:
        """Those of them that are of the conversation, and were answered."""
        return [c for c in self.model_calls if c.answer and c.turn and c.turn.is_of_the_task]

    @property
    def hosts(self) -> list[str]:
        """Who answered in the conversation, in this order."""
        return list(dict.fromkeys(call.host for call in self.task_calls))

    @property
    def n_actions(self) -> int:
        """What the client was asked to do: tools to run, files to write and check."""
        return sum(bool(call.answer and call.answer.acts) for call in self.task_calls)

    @property
    def n_results(self) -> int:
        """Rounds in which what came of it was told."""
        return sum(bool(call.turn and call.turn.has_results) for call in self.task_calls)


def run_session(
    client: ClientProgram,
    installed: Path,
    provider: AgentProvider,
    url: str,
    *,
    streamed: bool,
    falls: bool = False,
) -> ClientSession:
    """Run a client against an address, in a folder and a home of its own.

    Args:
        url: of the sidecar or the provider, without the version.
        falls: whoever has the client do something first is down from then on.
    """
    word = f"word-{secrets.token_hex(4)}"
    session = f"session-{secrets.token_hex(6)}"
    with tempfile.TemporaryDirectory(prefix="pm-client-") as directory:
        folder, home = Path(directory, "work").resolve(), Path(directory, "home")
        folder.mkdir()
        home.mkdir()
        (folder / NOTES).write_text(word + "\n")
        seat = Seat(url, session, folder, home, installed, streamed)
        for path, text in client.files(seat).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        provider.begin(str(folder), falls=falls)
        environment = bare_environment(home, more=client.environment(seat))
        began = time.monotonic()
        said, code = "", 0
        for command in client.commands(seat):
            code, output = _run(command, folder, environment)
            said += output
            if code != 0:
                break
        took_s = time.monotonic() - began
        target = folder / TARGET
        written = target.exists() and word in target.read_text()
    answered = written or f"read {word}" in said
    return ClientSession(session, code, took_s, answered, provider.calls, said[-OUTPUT_END:])


def _run(command: Sequence[str], folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Return exit code and output; what takes too long is ended, and what it started with it."""
    process = subprocess.Popen(  # noqa: S603 - a pinned program, no shell
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=SESSION_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        output += f"\nended after {SESSION_S:.0f} s"
    return process.returncode, output
