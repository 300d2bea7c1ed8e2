"""`prove streams`: streams that are cut, clients that leave, and very many slow ones.

Three parts: a sample stream of each dialect is cut at every byte, in three ways, as it comes and
where an app wants its streams whole, and no cut passes for a whole answer; clients leave at random
moments, and the provider is left within a second, without a slot, a socket or memory kept; two
thousand streams of an event a second go through one process, and its loop stays quick.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import re
import resource
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from scripts.proofs.provider import Cut, ProviderRequest, ScriptedProvider, Send, Step
from scripts.proofs.replies import frame, head, stream_head
from scripts.proofs.samples import DIALECTS, SAID, sample
from scripts.proofs.sidecar import RunningSidecar, sidecar
from scripts.proofs.slow_provider import SlowProvider
from scripts.proofs.stream_client import leave, read_all, request, view

AT_ONCE = 64
WAYS = ("reset", "clean", "last frame")
"""The connection breaks; it ends properly where its end is the answer's; the last frame comes."""
STAYS_S = 0.3
"""A client stays at most so long."""
LEFT_WITHIN_S = 1.0
LOOP_LAG_S = 0.1
LOOK_EVERY_S = 0.02
MORE_FILES = 10
"""Idle connections to a provider may be kept."""
MORE_MB = 5.0
"""What resident memory may differ by between two looks; 5,000 kept calls are ten times that."""
QUICK = 10
"""Of everything, this part."""
HEAD = head(200, [("content-type", "text/event-stream"), ("connection", "close")])


Cutting = tuple[int, str, str, bool, str]
"""At which byte, in which way, with which line ends, usage asked for, in which dialect."""


def cuts(*, every: int) -> list[Cutting]:
    """Return all cuts; every so many bytes."""
    return [
        (at, way, line_end, usage, dialect)
        for dialect in DIALECTS
        for line_end, usage in (("\n", True), ("\r\n", False))
        for way in WAYS
        for at in range(0, len(sample(dialect, line_end=line_end, usage=usage)), every)
    ]


def cut_stream(sent: ProviderRequest) -> Sequence[Step]:
    """Return the steps of the cut that a call names in its field `user`."""
    at, way, line_end, usage, dialect = json.loads(sent.body["user"])
    begun = sample(dialect, line_end=line_end, usage=usage)[:at]
    if way == "clean":
        return [Send(HEAD + begun), Cut.CLOSE]
    last = b"0\r\n\r\n" if way == "last frame" else b""
    framed = stream_head() + frame(begun) + last
    return [Send(framed)] if last else [Send(framed), Cut.RESET]


async def prove_cuts(port: int, *, every: int) -> dict[str, int]:
    """Cut the samples at every byte; return how many cuts passed for whole answers."""
    found = {"cuts": 0, "false_completions": 0, "unreadable": 0}

    async def one(cut: Cutting) -> None:
        sent = request("cut", user=json.dumps(cut), usage=cut[3], dialect=cut[4])
        seen = view(await read_all(port, sent, within_s=30))
        found["cuts"] += 1
        found["unreadable"] += seen.unreadable
        if seen.passes_for(SAID):
            found["false_completions"] += 1
            print(f"passes for whole: {cut}: {seen}", file=sys.stderr)

    await _all(one, cuts(every=every))
    return found


async def prove_leaving(
    running: RunningSidecar, provider: SlowProvider, *, n: int, seed: int
) -> dict[str, float]:
    """Let clients leave at random moments; return how the sidecar let go of its provider."""
    pick, left_at = random.Random(seed), dict[str, float]()  # noqa: S311 - no secrets
    pid = running.processes.processes["router"].pid
    began = _kept(pid)

    async def one(number: int) -> None:
        user = f"leaver-{number}"
        _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(request("slow", user=user, usage=False))
        await asyncio.sleep(pick.uniform(0, STAYS_S))
        left_at[user] = time.monotonic()
        leave(writer, abruptly=pick.random() < 0.5)

    half = n // 2
    await _all(one, range(half))
    await asyncio.sleep(2 * LEFT_WITHIN_S)
    middle = _kept(pid)
    await _all(one, range(half, n))
    await asyncio.sleep(2 * LEFT_WITHIN_S)
    late = [provider.gone_at[user] - left_at[user] for user in provider.gone_at if user in left_at]
    ended = _kept(pid)
    return {
        "left": n,
        "reached_the_provider": len(late),
        "longest_s": round(max(late), 3),
        "still_under_way": provider.under_way,
        "slots": _gauge(running.port, "router_endpoint_in_flight")
        + _gauge(running.port, "router_calls_under_way"),
        "more_files": ended[0] - began[0],
        "more_mb_first_half": round((middle[1] - began[1]) / 1024, 1),
        "more_mb_second_half": round((ended[1] - middle[1]) / 1024, 1),
    }


async def prove_many(port: int, *, n: int, within_s: float) -> dict[str, float]:
    """Read very many slow streams; return how many broke, and how long the loop kept a look."""
    ours, theirs = multiprocessing.Pipe()
    looker = multiprocessing.get_context("spawn").Process(target=look, args=(port, theirs))
    looker.start()
    broken = 0

    async def one(number: int) -> None:
        nonlocal broken
        await asyncio.sleep(number / n)
        answer = await read_all(
            port, request("many", user=f"s{number}", usage=False), within_s=within_s
        )
        seen = view(answer)
        broken += not seen.ended_well or seen.has_error

    await _all(one, range(n), at_once=n)
    ours.send("stop")
    lags = sorted(await asyncio.to_thread(ours.recv))
    looker.join()
    p99 = lags[int(len(lags) * 0.99)]
    return {"streams": n, "broken": broken, "looks": len(lags), "lag_p99_ms": round(p99 * 1e3, 1)}


def look(port: int, pipe: Any) -> None:
    """Ask for a sign of life again and again: an answer takes as long as the loop is busy."""
    lags = []
    while not pipe.poll():
        began = time.monotonic()
        urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=30).read()
        lags.append(time.monotonic() - began)
        time.sleep(LOOK_EVERY_S)
    pipe.send(lags)


async def _all(
    one: Callable[[Any], Coroutine[Any, Any, None]], of: Iterable[Any], *, at_once: int = AT_ONCE
) -> None:
    places = asyncio.Semaphore(at_once)

    async def within(each: Any) -> None:
        async with places:
            await one(each)

    async with asyncio.TaskGroup() as group:
        for each in of:
            group.create_task(within(each))


def _kept(pid: int) -> tuple[int, int]:
    """Return open files and resident kB of a process."""
    files = len(os.listdir(f"/proc/{pid}/fd"))
    status = Path(f"/proc/{pid}/status").read_text()
    return files, int(re.search(r"VmRSS:\s+(\d+)", status)[1])  # type: ignore[index]


def _gauge(port: int, name: str) -> float:
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


@asynccontextmanager
async def _serving(provider: SlowProvider) -> AsyncIterator[str]:
    server = await asyncio.start_server(provider.answer, "127.0.0.1", 0, backlog=4096)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    server.close()


async def run(directory: Path, *, part: int, seed: int) -> dict[str, dict[str, float]]:
    """Start the parts; return the figures, at one `part`-th of the size."""
    cutter = ScriptedProvider(cut_stream)
    leaving = SlowProvider(every_s=0.02, n_events=3000)
    many = SlowProvider(every_s=1.0, n_events=max(60 // part, 5))
    async with cutter.listening(), _serving(leaving) as slow_url, _serving(many) as many_url:
        urls = {"cut": f"{cutter.url()}/v1", "slow": slow_url, "many": many_url}
        endpoints = [
            {"id": name, "model": name, "base_url": url, "dialects": list(DIALECTS)}
            for name, url in urls.items()
        ]
        app = {"mode": "observe", "unit": "call", "signals": False}
        value = {"endpoints": endpoints, "apps": {"default": app}}
        buffered = {**value, "apps": {"default": {**app, "stream": "buffered"}}}
        with sidecar(directory / "buffered", buffered) as running:
            held = await prove_cuts(running.port, every=part)
        with sidecar(directory, value) as running:
            return {
                "held": dict(held),
                "cut": dict(await prove_cuts(running.port, every=part)),
                "left": await prove_leaving(running, leaving, n=10_000 // part, seed=seed),
                "slow": await prove_many(running.port, n=2000 // part, within_s=many.n_events + 60),
            }


def is_kept(found: dict[str, dict[str, float]]) -> bool:
    """Return whether everything that is claimed was seen."""
    cut, held, left, slow = found["cut"], found["held"], found["left"], found["slow"]
    return (
        cut["false_completions"] == cut["unreadable"] == 0
        and held["false_completions"] == held["unreadable"] == 0
        and left["longest_s"] <= LEFT_WITHIN_S
        and left["still_under_way"] == left["slots"] == 0
        and left["more_files"] <= MORE_FILES
        and left["more_mb_second_half"] <= MORE_MB
        and slow["broken"] == 0
        and slow["lag_p99_ms"] <= LOOP_LAG_S * 1e3
    )


def main(argv: Sequence[str]) -> int:
    """Run the proof; return its exit code."""
    parser = argparse.ArgumentParser(prog="scripts/prove streams", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"one {QUICK}th of everything")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--seed", type=int, default=0)
    settings = parser.parse_args(argv)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 65_536), most))
    part = QUICK if settings.quick else 1
    with tempfile.TemporaryDirectory(prefix="pm-", dir="/tmp") as directory:
        found = asyncio.run(run(Path(directory), part=part, seed=settings.seed))
    if settings.json:
        print(json.dumps(found))
    for name, figures in {} if settings.json else found.items():
        print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in figures.items()))
    return 0 if is_kept(found) else 1
