"""The proof that a profile pays for nothing twice, whenever it is killed. `scripts/prove profile`.

A provider on loopback bills every request that reaches it, answered or not. `pointsman profile`
runs against it and is killed at random moments, by SIGKILL, and begun again by the same command
until it is done; in three ways at once:

- `command`: the command alone is killed, its calls go on elsewhere: every prompt must have been
  billed once at each endpoint, none twice, none missing.
- `money`: the same, with money for half of it: the bill exceeds it by one call a worker at most,
  and no endpoint has had more than a turn more than the other for each worker.
- `tree`: the command and all its children are killed: nothing is billed twice, what was under way
  is told as interrupted and other prompts take its place.

faults: prompts billed twice or missing, a bill that is too high, an interruption that is not told.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import yaml
from msgspec import Struct

from router.profiling.log import read_log
from scripts.proofs.provider import ProviderRequest, ScriptedProvider, Send, Step, Wait
from scripts.proofs.told_figures import tell_figures

HOSTS = ("small", "large")
TOKENS_IN, TOKENS_OUT = 100, 50
PRICES = {"input_usd_per_mtok": 10, "output_usd_per_mtok": 20}
CALL_USD = (TOKENS_IN * 10 + TOKENS_OUT * 20) / 1e6
WORKERS = 4
LONGEST_S = 0.3
EARLY_SHARE, EARLY_S, LATE_S = 0.25, 2.0, 0.6
"""Of the kills that share comes within so long of the start, the others of the first call."""
START_S = 60.0
RUN_S = 240.0
KILLS, QUICK_KILLS = 40, 4
PROMPTS_A_KILL = 8


class ProfileKills(Struct, frozen=True):
    """One way to kill it."""

    name: str
    kills: int
    tree: bool = False
    share_of_money: float = 2.0


class BillingProvider:
    """Bills every request: who was asked what, how often."""

    def __init__(self, random: Random) -> None:
        self.bill: Counter[tuple[str, str]] = Counter()
        self.ends_at: list[float] = []
        self._random = random

    def __call__(self, request: ProviderRequest) -> Sequence[Step]:
        """Return the answer, some time after it was billed."""
        asked = str(request.body["messages"][-1]["content"])
        self.bill[request.model, asked] += 1
        wait_s = self._random.uniform(LONGEST_S / 3, LONGEST_S)
        self.ends_at.append(request.at + wait_s)
        usage = {"prompt_tokens": TOKENS_IN, "completion_tokens": TOKENS_OUT}
        message = {"role": "assistant", "content": asked.split()[-1]}
        answer = {
            "id": f"chatcmpl-{len(self.ends_at)}",
            "object": "chat.completion",
            "created": 0,
            "model": request.model,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": usage,
        }
        body = json.dumps(answer).encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        return [Wait(wait_s), Send(head.encode() + b"\r\n\r\n" + body)]

    @property
    def under_way(self) -> int:
        """How many answers are not whole yet."""
        now = time.monotonic()
        return sum(end > now for end in self.ends_at)


class ProfilePlay:
    """One way to kill it, from the first start to the run that is done."""

    def __init__(self, kills: ProfileKills, directory: Path, seed: int) -> None:
        self.kills = kills
        self.random = Random(f"{seed} {kills.name}")  # noqa: S311 - a simulation
        self.answers = BillingProvider(self.random)
        self.provider = ScriptedProvider(self.answers)
        self.n = PROMPTS_A_KILL * kills.kills
        self.n_hit = 0  # kills with calls under way
        self.n_ended = 0  # calls of which a result is kept
        self.told: dict[str, Any] = {}
        self.code: int | None = None
        self.max_usd = kills.share_of_money * len(HOSTS) * self.n * CALL_USD
        self._directory = directory
        self._write()

    def _write(self) -> None:
        endpoint = {"base_url": f"{self.provider.url()}/v1", "prices": PRICES}
        value = {
            "server": {"port": 0, "state_dir": str(self._directory / "state")},
            "endpoints": [{"id": name, "model": name, **endpoint} for name in HOSTS],
        }
        (self._directory / "pointsman.yaml").write_text(yaml.safe_dump(value, sort_keys=False))
        n = self.n * 2 if self.kills.tree else self.n  # some to take the place of others
        lines = [{"prompt": f"Say {i}", "expected": str(i), "max_tokens": 50} for i in range(n)]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (self._directory / "prompts.jsonl").write_text(text)

    async def run(self) -> None:
        """Kill it as often as is wanted, then let it end."""
        async with self.provider.listening():
            for _ in range(self.kills.kills):
                command = await self._start()
                await self._wait_to_kill(command)
                self.n_hit += bool(self.answers.under_way) and command.returncode is None
                self._kill(command.pid)
                await command.communicate()
            command = await self._start()
            async with asyncio.timeout(RUN_S):
                said, _ = await command.communicate()
            self.code = command.returncode
            with suppress(ValueError):
                self.told = json.loads(said)
            for log in (self._directory / "state").glob("profiles/*/calls.jsonl"):
                self.n_ended = len(read_log(log.parent).ended)

    async def _wait_to_kill(self, command: asyncio.subprocess.Process) -> None:
        if self.random.random() < EARLY_SHARE:
            await asyncio.sleep(self.random.uniform(0, EARLY_S))
            return
        n_before, deadline = self.answers.bill.total(), time.monotonic() + START_S
        while self.answers.bill.total() == n_before and command.returncode is None:
            if time.monotonic() > deadline:
                return
            await asyncio.sleep(0.01)
        await asyncio.sleep(self.random.uniform(0, LATE_S))

    async def _start(self) -> asyncio.subprocess.Process:
        words = [str(self._directory / "prompts.jsonl"), "--config"]
        words += [str(self._directory / "pointsman.yaml"), "--yes", "--json"]
        words += ["--per-cell", str(self.n), "--max-usd", repr(self.max_usd)]
        words += ["--workers", str(WORKERS)]
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "router.cli", "profile", *words),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )

    def _kill(self, command: int) -> None:
        for each in [command, *(_descendants(command) if self.kills.tree else [])]:
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)

    def figures(self) -> dict[str, Any]:
        """Return what came of it."""
        bill = self.answers.bill
        plan, run = self.told.get("plan", {}), self.told.get("run", {})
        billed = Counter(model for model, _ in bill)
        over_usd = bill.total() * CALL_USD - self.max_usd
        found = {
            "kills": self.kills.kills,
            "hit": self.n_hit,
            "billed": bill.total(),
            "twice": sum(n > 1 for n in bill.values()),
            "interrupted": plan.get("interrupted", 0),
            "exit_code": self.code,
        }
        if self.kills.share_of_money < 1:
            uneven = max(billed.values()) - min(billed.values(), default=0)
            found["uneven"] = uneven
            found["over_calls"] = max(round(over_usd / CALL_USD, 2), 0.0)
            found["faults"] = (over_usd > WORKERS * CALL_USD) + (uneven > WORKERS)
            found["faults"] += not run.get("out_of_money")
        else:
            found["missing"] = abs(len(HOSTS) * self.n - self.n_ended)
            found["faults"] = found["missing"] + (self.code != 0)
        # What was cut off may have been so before it was billed.
        found["untold"] = max(bill.total() - self.n_ended - found["interrupted"], 0)
        found["faults"] += found["twice"] + found["untold"]
        return found


def _descendants(process: int) -> list[int]:
    try:
        own = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return []
    return [each for child in map(int, own) for each in (child, *_descendants(child))]


def prove_profile(kills: int, seed: int) -> dict[str, Any]:
    """Play all three ways at once; return the figures."""
    ways = [
        ProfileKills("command", kills),
        ProfileKills("money", max(kills // 2, 1), share_of_money=0.5),
        ProfileKills("tree", max(kills // 2, 1), tree=True),
    ]
    with tempfile.TemporaryDirectory(prefix="pm-prove-", ignore_cleanup_errors=True) as temporary:
        plays = []
        for way in ways:
            directory = Path(temporary) / way.name
            directory.mkdir()
            plays.append(ProfilePlay(way, directory, seed))

        async def play() -> None:
            await asyncio.gather(*(each.run() for each in plays))

        asyncio.run(play())
    figures: dict[str, Any] = {each.kills.name: each.figures() for each in plays}
    figures["faults"] = sum(figures[way.name]["faults"] for way in ways)
    figures["unanswered"] = 0
    figures["shown"] = [figures[way.name] for way in ways if figures[way.name]["faults"]]
    return figures


def missing_in(figures: dict[str, Any]) -> list[str]:
    """Return what never happened, and must for the proof to mean something."""
    happened = {
        "kills with calls under way": figures["command"]["hit"] > 0,
        "interrupted calls": figures["tree"]["interrupted"] > 0,
    }
    return [name for name, did in happened.items() if not did]


def main(argv: Sequence[str]) -> int:
    """Kill a profile at random moments, and count what it was billed; return the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/prove profile", description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_KILLS} kills only")
    parser.add_argument("--kills", type=int, help=f"how many; else {KILLS}")
    parser.add_argument("--seed", type=int, default=0, help="of all that is left to chance")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    kills = options.kills or (QUICK_KILLS if options.quick else KILLS)
    if kills < 1:
        parser.error("--kills is a whole number from 1")
    began = time.monotonic()
    figures = prove_profile(kills, options.seed)
    print(f"took {time.monotonic() - began:.0f} s", file=sys.stderr)
    return tell_figures(figures, missing_in(figures), as_json=options.json)
