"""`prove overload`: ten times what a sidecar takes, and the calls that it lets in hardly notice.

A provider answers after 200 ms; the sidecar takes 20 calls at a time, so 100 a second. Clients
arrive at random moments, whatever became of those before them: at half of that, at ten times, and
at half again. Load and provider run in processes of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from telemetry.processes import child_environment

ANSWER_S = 0.2
MAX_IN_FLIGHT = 20
CAPACITY = MAX_IN_FLIGHT / ANSWER_S
BELOW, ABOVE = 0.5, 10.0
"""Of the capacity: what is offered before and after, and meanwhile."""
RECOVERED = 1.1
"""Times the unloaded p99 over a second, and nothing shed: then it is over."""
LONGEST_S = 10.0
PATH = "/v1/chat/completions"


@dataclass(slots=True)
class TimedCall:
    """One call of a client."""

    at: float  # seconds from the begin of the run
    took_s: float
    status: int


@dataclass(slots=True)
class Phases:
    """What was offered when, and what became of it."""

    quiet_s: float
    loud_s: float
    after_s: float
    calls: list[TimedCall] = field(default_factory=list)

    def within(self, begin: float, end: float) -> list[TimedCall]:
        """Return the calls that began then."""
        return [call for call in self.calls if begin <= call.at < end]


def judge(phases: Phases) -> dict[str, float]:
    """Return the figures of the proof."""
    begin, end = phases.quiet_s, phases.quiet_s + phases.loud_s
    unloaded = _p99([c.took_s for c in phases.within(0, begin) if c.status == 200])
    loud = phases.within(begin, end)
    admitted = [c for c in loud if c.status == 200]
    shed = [c.took_s for c in loud if c.status == 503]
    ended = [c for c in phases.calls if c.status == 200 and begin <= c.at + c.took_s < end]
    return {
        "admitted_p99_ratio": round(_p99([c.took_s for c in admitted]) / unloaded, 3),
        "goodput": round(len(ended) / (CAPACITY * phases.loud_s), 3),
        "recovered_s": round(_recovered_s(phases, end, unloaded), 2),
        "shed_p99_ms": round(_p99(shed) * 1e3, 2),
        "unloaded_p99_ms": round(unloaded * 1e3, 1),
        "offered": len(loud),
        "admitted": len(admitted),
        "shed": len(shed),
        "failed": sum(c.status not in (200, 503) for c in phases.calls),
    }


def passed(found: dict[str, float]) -> bool:
    """Return whether the figures are those that are promised."""
    return (
        found["admitted_p99_ratio"] <= 2
        and found["goodput"] >= 0.9
        and found["recovered_s"] <= 5
        and found["shed_p99_ms"] < 10
        and found["failed"] == 0
    )


def _recovered_s(phases: Phases, end: float, unloaded_s: float) -> float:
    """Return after which time a second went by as before."""
    after = end
    while after + 1 <= end + phases.after_s:
        second = phases.within(after, after + 1)
        calm = all(c.status == 200 for c in second)
        if second and calm and _p99([c.took_s for c in second]) <= RECOVERED * unloaded_s:
            return after - end
        after += 0.1
    return float("inf")


def _p99(values: list[float]) -> float:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * 0.99), len(ordered) - 1)] if ordered else float("nan")


# -- the parts ----------------------------------------------------------------------------------


def provide(port: Any) -> None:
    """Answer every call after a while, in a process of its own."""
    message = {"role": "assistant", "content": "yes"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    counts = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    whole = {"id": "x", "object": "chat.completion", "created": 1, "model": "m"}
    body = json.dumps({**whole, "choices": [choice], "usage": counts}).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readexactly(await _read_head(reader))
                await asyncio.sleep(ANSWER_S)
                writer.write(head % len(body) + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def serve() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


async def _read_head(reader: asyncio.StreamReader) -> int:
    """Read a head; return the length of the body after it."""
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 0


async def load(port: int, phases: Phases, *, seed: int) -> None:
    """Offer calls at random moments; each has a connection of its own for as long as it takes."""
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "?"}]}).encode()
    head = f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    request = head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    begun, pick = time.monotonic(), random.Random(seed)  # noqa: S311 - arrivals, no secrets

    async def call() -> None:
        at = time.monotonic()
        status = 0
        try:
            async with asyncio.timeout(LONGEST_S):
                line = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", port)
                line[1].write(request)
                first = await line[0].readuntil(b"\r\n")
                await line[0].readexactly(await _read_head(line[0]))
                status = int(first[9:12])
                idle.append(line)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            status = 0
        phases.calls.append(TimedCall(at - begun, time.monotonic() - at, status))

    under_way: set[asyncio.Task[None]] = set()
    end = phases.quiet_s + phases.loud_s
    at = 0.0
    while at < end + phases.after_s:
        share = ABOVE if phases.quiet_s <= at < end else BELOW
        at += pick.expovariate(CAPACITY * share)
        if (rest_s := begun + at - time.monotonic()) > 0:
            await asyncio.sleep(rest_s)
        task = asyncio.create_task(call())
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    if under_way:
        await asyncio.wait(under_way)
    for _, writer in idle:
        writer.close()


def run(phases: Phases, *, seed: int) -> dict[str, float]:
    """Start the parts, offer the load, and return the figures."""
    ours, theirs = multiprocessing.Pipe()
    provider = multiprocessing.get_context("spawn").Process(target=provide, args=(theirs,))
    provider.start()
    try:
        with tempfile.TemporaryDirectory(prefix="pm-", dir="/tmp") as directory:
            port = ours.recv()
            sidecar, ready = _start(Path(directory), port)
            try:
                asyncio.run(load(_port(sidecar, ready), phases, seed=seed))
            finally:
                sidecar.terminate()
                sidecar.wait(30)
    finally:
        provider.terminate()
        provider.join()
    return judge(phases)


def _start(directory: Path, port: int) -> tuple[subprocess.Popen[bytes], Path]:
    endpoint = {"id": "m", "model": "m", "base_url": f"http://127.0.0.1:{port}/v1"}
    server = {"port": 0, "state_dir": str(directory / "state"), "max_in_flight": MAX_IN_FLIGHT}
    file, ready = directory / "pointsman.yaml", directory / "ready"
    file.write_text(yaml.safe_dump({"server": server, "endpoints": [endpoint]}))
    command = [sys.executable, "-m", "router.cli", "serve", "--config", str(file)]
    log = Path(os.devnull).open("wb")  # noqa: SIM115 - the process keeps it
    with log:
        process = subprocess.Popen(  # noqa: S603 - our own module
            [*command, "--ready", str(ready)], stderr=log, env=child_environment()
        )
    return process, ready


def _port(sidecar: subprocess.Popen[bytes], ready: Path) -> int:
    deadline = time.monotonic() + 30
    while not (ready.exists() and ready.read_text()):
        if sidecar.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("the sidecar does not start")
        time.sleep(0.05)
    return int(ready.read_text())


def main(argv: Sequence[str]) -> int:
    """Run the proof; return 0 if it holds."""
    parser = argparse.ArgumentParser(prog="scripts/prove overload", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a quarter of the time")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seed", type=int, default=0, help="of the arrivals")
    options = parser.parse_args(argv)
    phases = Phases(5, 5, 6) if options.quick else Phases(20, 30, 10)
    found = run(phases, seed=options.seed)
    if options.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:<20} {value:g}")
        print("passed" if passed(found) else "FAILED")
    return 0 if passed(found) else 1
