"""A provider that is not ours either: aimock of the npm registry, with real SDKs before it.

Each call goes through the sidecar, and once more directly to whoever served it. What the SDK read
must be the same, but for what a provider makes up anew for each answer.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anthropic import AnthropicError
from openai import OpenAIError

from scripts.kits.agent_provider import HOSTS
from scripts.kits.installed import Package, bare_environment, install, node_folder
from scripts.kits.sdk_calls import SDK_CALLS, SDKClients
from scripts.proofs.sidecar import sidecar

AIMOCK = Package("npm", ("@copilotkit/aimock@1.43.0",))
START_S = 20.0
LISTENS = re.compile(r"listening on (http://127\.0\.0\.1:\d+)")
MADE_UP = {"id", "item_id", "call_id", "tool_call_id", "tool_use_id", "created", "created_at"}
N_TIMES = 6
"""Each call, in so many sessions: both endpoints are drawn."""


@dataclass(slots=True)
class ThirdPartyRun:
    """What came of all calls."""

    version: str
    n_calls: int = 0
    by_endpoint: Counter[str] = field(default_factory=Counter)
    n_after_fall: int = 0  # calls that the other endpoint served when one was gone
    faults: list[str] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """Return the figures, as JSON has them."""
        return {
            "client": "third-party",
            "version": self.version,
            "calls": self.n_calls,
            "calls_by_endpoint": self.by_endpoint,
            "calls_after_one_fell": self.n_after_fall,
            "faults": self.faults,
        }


def fixtures(host: str) -> dict[str, Any]:
    """Return what a mock says: a tool is called, its result is told, else a greeting."""
    call = {"name": "weather", "arguments": {"city": "Paris"}}
    return {
        "fixtures": [
            {"match": {"hasToolResult": True}, "response": {"content": f"20 degrees, says {host}"}},
            {"match": {"toolName": "weather"}, "response": {"toolCalls": [call]}},
            {"match": {"userMessage": "greet"}, "response": {"content": f"Greetings from {host}"}},
        ]
    }


@contextmanager
def aimock(installed: Path, directory: Path, host: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield a running mock's address, and what ends it.

    Raises:
        OSError: it ended, or took too long.
    """
    file, log = directory / f"{host}.json", directory / f"{host}.log"
    file.write_text(json.dumps(fixtures(host)))
    program = str(installed / "node_modules/.bin/llmock")
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - a pinned program, no shell
            [str(node_folder() / "node"), program, "-p", "0", "-f", str(file), "--strict"],
            env=bare_environment(directory),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )

    def end() -> None:
        process.terminate()
        process.wait(START_S)

    try:
        until = time.monotonic() + START_S
        while not (said := LISTENS.search(log.read_text())):
            if process.poll() is not None or time.monotonic() > until:
                raise OSError(f"aimock does not listen: {log.read_text()}")
            time.sleep(0.05)
        yield said[1], end
    finally:
        end()


def run_third_party() -> ThirdPartyRun:
    """Make every call in several sessions, then again with one mock gone.

    Raises:
        CannotInstall: the mock is not to be had.
        DidNotStart: the sidecar never came up.
    """
    installed = install(AIMOCK)
    run = ThirdPartyRun(AIMOCK.version)
    with tempfile.TemporaryDirectory(prefix="pm-clients-") as name, ExitStack() as opened:
        directory = Path(name)
        mocks = {h: opened.enter_context(aimock(installed, directory, h)) for h in HOSTS}
        urls = {host: url for host, (url, _) in mocks.items()}
        running = opened.enter_context(sidecar(directory, _configuration(urls)))
        through = opened.enter_context(SDKClients(running.url.removesuffix("/v1"), "auto"))
        direct = {h: opened.enter_context(SDKClients(u, h)) for h, u in urls.items()}
        for number in range(N_TIMES):
            for call in SDK_CALLS:
                run.n_calls += 1
                host, answer = _asked(run, through, call, number)
                if host:
                    run.by_endpoint[host] += 1
                    _compare(run, call, answer, direct[host].ask(call)[1])
        if len(run.by_endpoint) < len(HOSTS):
            run.faults.append(f"{N_TIMES} sessions drew one endpoint")
        mocks[HOSTS[0]][1]()
        for number in range(N_TIMES):
            for call in SDK_CALLS:
                host, _ = _asked(run, through, call, number)
                run.n_after_fall += host == HOSTS[1]
        if run.n_after_fall != run.n_calls:
            run.faults.append(f"{run.n_calls - run.n_after_fall} calls were not served elsewhere")
    return run


def _configuration(urls: Mapping[str, str]) -> dict[str, Any]:
    dialects = ["chat", "messages", "responses"]
    common = {"auth": "none", "dialects": dialects}
    endpoints = [{"id": h, "model": h, "base_url": f"{u}/v1", **common} for h, u in urls.items()]
    return {
        "endpoints": endpoints,
        "strategies": {"learn": {"objective": "quality", "incumbent": "none"}},
        "apps": {"default": {"mode": "route", "strategy": "learn"}},
    }


def _asked(run: ThirdPartyRun, through: SDKClients, call: str, number: int) -> tuple[str, Any]:
    """Return who served a call of a session and what was read; "" where there was an error."""
    try:
        return through.ask(call, session=f"s-{number}")
    except (OpenAIError, AnthropicError) as error:
        run.faults.append(f"{call}: {error}")
        return "", None


def _compare(run: ThirdPartyRun, call: str, answer: Any, direct: Any) -> None:
    if _settled(answer) != _settled(direct):
        run.faults.append(f"{call}: {answer} through the sidecar, {direct} directly")


def _settled(value: Any) -> Any:
    """Return an answer without what is made up anew each time."""
    if isinstance(value, dict):
        return {k: _settled(v) for k, v in value.items() if k not in MADE_UP}
    return [_settled(each) for each in value] if isinstance(value, list) else value
