"""The proof of the first day: from an empty directory to the first calls and back. `scripts/prove
first_day`.

Two simulated providers' keys are in the environment, and their addresses where the SDKs look for
them. `pointsman init --yes` and `pointsman up` run as a person would type them; then two apps, each
with its SDK unchanged, call through the address that `up` printed; then feedback, report, explain
and off. It prints seconds and keystrokes of each command, and the lines of YAML that were written.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from scripts.kits.installed import bare_environment
from scripts.proofs.first_day_provider import KEYS, first_day_provider

MOST_S, MOST_LINES, COMMANDS = 60.0, 25, 3
"""The goal: to the first call through the sidecar, of YAML, to type until then."""
LONGEST_S = 60.0
APPS_KEY = "sk-of-the-app-itself"
"""What the unchanged apps have as theirs; it reaches no provider."""
ROOT = Path(__file__).resolve().parents[2]
OPENAI_APP = """\
from openai import OpenAI

client = OpenAI()
answer = client.chat.completions.create(
    model="auto", messages=[{"role": "user", "content": "Hello"}]
)
print(answer.id, answer.model)
print(client.responses.create(model="auto", input="Hello").model)
print(client.chat.completions.create(
    model="gpt-4o", messages=[{"role": "user", "content": "Hello"}]
).model)
"""
ANTHROPIC_APP = """\
from anthropic import Anthropic

client = Anthropic()
hello = [{"role": "user", "content": "Hello"}]
for model in ("auto", "claude-opus-5-5", "claude-sonnet-5-5"):
    print(client.messages.create(model=model, max_tokens=100, messages=hello).model)
"""
SERVED = ["gpt-6.1-sol", "gpt-6.1-sol", "gpt-4o"]
"""Who answers the first app: the incumbent, and for a model that nobody lists its own provider."""
SERVED_ANTHROPIC = ["claude-opus-5-5", "claude-opus-5-5", "claude-sonnet-5-5"]
"""The second: the incumbent of its dialect; a listed model, and one that is not."""


@dataclass(frozen=True, slots=True)
class TypedCommand:
    """A command that a person typed, and what came of it."""

    line: str
    seconds: float
    code: int
    said: str

    @property
    def keystrokes(self) -> int:
        """Keys, with the last one."""
        return len(self.line) + 1


@dataclass(slots=True)
class FirstDay:
    """What happened, in order."""

    commands: list[TypedCommand] = field(default_factory=list)
    yaml: str = ""
    first_call_s: float = 0.0
    n_until_call: int = 0
    keys_seen: set[tuple[str, str]] = field(default_factory=set)  # provider, key


def judge(day: FirstDay) -> list[str]:
    """Return what is not as it was promised."""
    wrong = [f"{one.line}: exit code {one.code}: {one.said}" for one in day.commands if one.code]
    if day.first_call_s > MOST_S:
        wrong.append(f"the first call took {day.first_call_s:.1f} s, more than {MOST_S:.0f}")
    if (n := len(day.yaml.splitlines())) > MOST_LINES:
        wrong.append(f"{n} lines of YAML, more than {MOST_LINES}")
    if day.n_until_call > COMMANDS:
        wrong.append(f"{day.n_until_call} commands to the first call, more than {COMMANDS}")
    if day.keys_seen != set(KEYS.items()):
        wrong.append(f"providers were called with other keys: {sorted(day.keys_seen)}")
    for name, key in KEYS.items():
        if key in day.yaml or any(key in one.said for one in day.commands):
            wrong.append(f"the key of {name} was shown or written")
    return wrong + list(_misserved(day.commands))


def _misserved(commands: Sequence[TypedCommand]) -> Iterator[str]:
    """Yield the apps that were not served by whom they are to be."""
    for script, models in (("chat.py", SERVED), ("claude.py", SERVED_ANTHROPIC)):
        said = next((one.said for one in commands if one.line.endswith(script)), "")
        served = [line.split()[-1] for line in said.splitlines() if line]
        if served != models:
            yield f"{script} was served by {served}, not by {models}"


def live(folder: Path, provider_url: str) -> FirstDay:
    """Return what a first day is like in an empty folder."""
    day = FirstDay()
    at_home = {
        "OPENAI_API_KEY": KEYS["openai"],
        "OPENAI_BASE_URL": f"{provider_url}/openai/v1",
        "ANTHROPIC_API_KEY": KEYS["anthropic"],
        "ANTHROPIC_BASE_URL": f"{provider_url}/anthropic",
        "PYTHONPATH": str(ROOT),
    }
    environment = bare_environment(folder / "home", more=at_home)
    (folder / "chat.py").write_text(OPENAI_APP)
    (folder / "claude.py").write_text(ANTHROPIC_APP)
    began = time.monotonic()
    _type(day, "pointsman init --yes", folder, environment)
    config = folder / "pointsman.yaml"
    day.yaml = config.read_text() if config.exists() else ""
    with _up(day, folder, environment) as said:
        addresses = dict(re.findall(r"(\w+_BASE_URL)=(\S+)", said))
        _run_app(day, "OPENAI_BASE_URL", addresses, "chat.py", folder, environment)
        day.first_call_s, day.n_until_call = time.monotonic() - began, len(day.commands)
        _run_app(day, "ANTHROPIC_BASE_URL", addresses, "claude.py", folder, environment)
        id_ = next(
            (one.said.split()[0] for one in day.commands if one.line.endswith("chat.py")), ""
        )
        for line in (
            f"pointsman feedback --response-id {id_} --passed",
            "pointsman report",
            f"pointsman explain {id_}",
            "pointsman off",
        ):
            _type(day, line, folder, environment)
    return day


def _type(day: FirstDay, line: str, folder: Path, environment: dict[str, str]) -> None:
    """Run a command as it is typed, and keep what came of it."""
    words, own = line.split(), dict(environment)
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        own[name] = value
    program = [sys.executable] if words[0] == "python" else [sys.executable, "-m", "router.cli"]
    began = time.monotonic()
    done = subprocess.run(  # noqa: S603 - our own verbs and apps
        [*program, *words[1:]],
        cwd=folder,
        env=own,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    said = done.stdout + (done.stderr if done.returncode else "")
    day.commands.append(TypedCommand(line, time.monotonic() - began, done.returncode, said))


def _run_app(
    day: FirstDay,
    variable: str,
    addresses: dict[str, str],
    script: str,
    folder: Path,
    environment: dict[str, str],
) -> None:
    own_keys = dict.fromkeys(("OPENAI_API_KEY", "ANTHROPIC_API_KEY"), APPS_KEY)
    line = f"{variable}={addresses.get(variable, '')} python {script}"
    _type(day, line, folder, environment | own_keys)


@contextmanager
def _up(day: FirstDay, folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """Run `pointsman up`; yield what it says until it has said where clients go."""
    began, log = time.monotonic(), folder / "up.log"
    with log.open("wb") as file:
        up = subprocess.Popen(
            [sys.executable, "-m", "router.cli", "up"],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stderr=file,
        )
    try:
        while "ANTHROPIC_BASE_URL=" not in log.read_text() and up.poll() is None:
            if time.monotonic() - began > LONGEST_S:
                break
            time.sleep(0.02)
        said = log.read_text()
        took_s = time.monotonic() - began
        day.commands.append(TypedCommand("pointsman up", took_s, up.poll() or 0, said))
        yield said
    finally:
        up.send_signal(signal.SIGINT)
        code = up.wait(LONGEST_S)
    if code:
        last = day.commands[1]
        day.commands[1] = TypedCommand(last.line, last.seconds, code, log.read_text())


def shown(day: FirstDay) -> str:
    """Return the figures as a table."""
    rows = [f"{'s':>6}  {'keys':>4}  command"]
    rows += [f"{one.seconds:6.2f}  {one.keystrokes:4d}  {one.line}" for one in day.commands]
    until = day.commands[: day.n_until_call]
    rows.append(
        f"first call after {day.first_call_s:.1f} s, {len(until)} commands and "
        f"{sum(one.keystrokes for one in until)} keystrokes; "
        f"{len(day.yaml.splitlines())} lines of YAML"
    )
    return "\n".join(rows)


def main(argv: Sequence[str]) -> int:
    """Live one first day; return 1 where it is not as promised."""
    parser = argparse.ArgumentParser(prog="scripts/prove first_day", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the same: it takes seconds")
    parser.add_argument("--verbose", action="store_true", help="print what each command said")
    given = parser.parse_args(argv)
    with (
        first_day_provider() as provider,
        tempfile.TemporaryDirectory(prefix="pm-", dir=os.environ.get("TMPDIR")) as folder,
    ):
        day = live(Path(folder), f"http://127.0.0.1:{provider.port}")
        day.keys_seen = set(provider.keys)
    if given.verbose:
        for one in day.commands:
            print(f"$ {one.line}\n{one.said}")
        print(day.yaml)
    print(shown(day))
    wrong = judge(day)
    for line in wrong:
        print(f"WRONG: {line}")
    print("first_day: " + ("as promised" if not wrong else f"{len(wrong)} wrong"))
    return 1 if wrong else 0
