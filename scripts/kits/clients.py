"""The client programs: what each is installed from, and how it is pointed at an address."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.kits.agent import COMPLAINT, NOTES, TARGET
from scripts.kits.installed import Package, node_folder

PROMPT = "List the files in this folder, then read the notes, then say what they say."
AGAIN = "Do the same once more."
PROGRAMS = Path(__file__).parent / "programs"
CHECK = f"""import pathlib, sys
word = pathlib.Path("{NOTES}").read_text().strip()
first = not pathlib.Path("tried").exists()
pathlib.Path("tried").touch()
if first or word not in pathlib.Path("{TARGET}").read_text():
    sys.exit("{COMPLAINT}: not yet" if first else f"{COMPLAINT}: it is to be {{word}}")
"""
"""Fails twice: the second time it says what is wanted."""


@dataclass(frozen=True, slots=True)
class Seat:
    """Where one session of a client takes place."""

    url: str  # of the sidecar or provider, without the version
    session: str  # a name for it, where the client lets its user say one
    folder: Path  # the client's own, with the notes
    home: Path
    installed: Path
    streamed: bool


@dataclass(frozen=True, slots=True)
class ClientProgram:
    """A program, and how it is told where to go; nothing in it is changed."""

    name: str
    package: Package
    dialect: str
    commands: Callable[[Seat], Sequence[Sequence[str]]]  # one after another: one conversation
    environment: Callable[[Seat], Mapping[str, str]] = lambda _: {}
    files: Callable[[Seat], Mapping[Path, str]] = lambda _: {}
    stays: bool = False  # what it sends names items that lie at its endpoint: nobody else has them
    drop: Sequence[str] = ()  # what a translating endpoint may leave out for it


def _claude_code(seat: Seat) -> Sequence[Sequence[str]]:
    claude = [str(seat.installed / "node_modules/.bin/claude"), "-p"]
    how = ["--model", "claude-auto", "--allowedTools", "Bash,Read", "--output-format", "json"]
    return [[*claude, PROMPT, *how], [*claude, AGAIN, "--continue", *how]]


def _claude_code_environment(seat: Seat) -> Mapping[str, str]:
    return {
        "ANTHROPIC_BASE_URL": seat.url,
        "ANTHROPIC_API_KEY": "sk-ant-none",
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": "claude-auto",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }


def _codex(seat: Seat) -> Sequence[Sequence[str]]:
    codex = [str(seat.installed / "node_modules/.bin/codex"), "exec"]
    how = ["--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
    return [[*codex, *how, PROMPT], [*codex, "resume", "--last", *how, AGAIN]]


def _codex_files(seat: Seat) -> Mapping[Path, str]:
    provider = {
        "name": "Pointsman",
        "base_url": f"{seat.url}/v1",
        "env_key": "CODEX_KEY",
        "wire_api": "responses",
    }
    lines = ['model = "auto"', 'model_provider = "pointsman"', "[model_providers.pointsman]"]
    lines += [f"{name} = {json.dumps(value)}" for name, value in provider.items()]
    return {seat.home / ".codex" / "config.toml": "\n".join(lines) + "\n"}


def _javascript(dialect: str) -> Callable[[Seat], Sequence[Sequence[str]]]:
    def commands(seat: Seat) -> Sequence[Sequence[str]]:
        # A module finds its packages beside itself.
        program = seat.installed / "program.mjs"
        program.write_text((PROGRAMS / "javascript_kit.mjs").read_text())
        how = "stream" if seat.streamed else "whole"
        notes = str(seat.folder / NOTES)
        node = str(node_folder() / "node")
        return [[node, str(program), f"{seat.url}/v1", dialect, seat.session, how, notes]]

    return commands


def _pydantic_ai(dialect: str) -> Callable[[Seat], Sequence[Sequence[str]]]:
    def commands(seat: Seat) -> Sequence[Sequence[str]]:
        program = [str(seat.installed / "bin/python"), str(PROGRAMS / "pydantic_agent.py")]
        how = "stream" if seat.streamed else "whole"
        return [[*program, seat.url, dialect, seat.session, how, str(seat.folder / NOTES)]]

    return commands


def _aider(seat: Seat) -> Sequence[Sequence[str]]:
    quiet = ["--no-git", "--no-check-update", "--analytics-disable", "--no-show-model-warnings"]
    quiet += ["--no-show-release-notes", "--yes-always", "--no-pretty", "--map-tokens", "0"]
    where = ["--model", "openai/auto", "--openai-api-base", f"{seat.url}/v1"]
    where += ["--openai-api-key", "sk-none", "--edit-format", "whole"]
    test = ["--auto-test", "--test-cmd", f"{seat.installed}/bin/python check.py"]
    how = "--stream" if seat.streamed else "--no-stream"
    said = ["--message", f"Write into {TARGET} what check.py asks for.", TARGET]
    return [[str(seat.installed / "bin/aider"), *quiet, *where, *test, how, *said]]


def _aider_files(seat: Seat) -> Mapping[Path, str]:
    headers = {"x-router-session-id": seat.session}
    settings = [{"name": "openai/auto", "extra_params": {"extra_headers": headers}}]
    return {
        seat.folder / "check.py": CHECK,
        seat.folder / TARGET: "nothing\n",
        seat.folder / ".aider.model.settings.yml": json.dumps(settings),
    }


KIT = Package("npm", ("ai@7.0.173", "@ai-sdk/openai@4.0.118"))
PYDANTIC = Package("pypi", ("pydantic-ai-slim[openai,anthropic]==2.68.0",))
CODEX_DROPS = ("namespace", "web_search", "reasoning")

CLIENTS = [
    ClientProgram(
        "claude-code",
        Package("npm", ("@anthropic-ai/claude-code@2.1.332",)),
        "messages",
        _claude_code,
        _claude_code_environment,
        drop=("reasoning",),
    ),
    ClientProgram(
        "codex",
        Package("npm", ("@openai/codex@0.171.0",)),
        "responses",
        _codex,
        lambda _: {"CODEX_KEY": "sk-none"},
        _codex_files,
        drop=CODEX_DROPS,
    ),
    ClientProgram(
        "javascript-kit", KIT, "responses", _javascript("responses"), stays=True, drop=("store",)
    ),
    ClientProgram("javascript-kit-chat", KIT, "chat", _javascript("chat")),
    ClientProgram(
        "aider",
        Package("pypi", ("aider-chat==0.86.2",)),
        "chat",
        _aider,
        lambda _: {"LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        _aider_files,
    ),
    ClientProgram("pydantic-ai-chat", PYDANTIC, "chat", _pydantic_ai("chat")),
    ClientProgram(
        "pydantic-ai-responses", PYDANTIC, "responses", _pydantic_ai("responses"), drop=("store",)
    ),
    ClientProgram("pydantic-ai-messages", PYDANTIC, "messages", _pydantic_ai("messages")),
]
BY_NAME = {client.name: client for client in CLIENTS}
