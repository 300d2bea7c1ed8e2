"""The proof that no call is worse for going through. `scripts/prove direct`.

Random scripts of a provider are played to the real `openai` SDK with its own repeats, straight and
through a sidecar whose app is in mode `observe`; each script has an endpoint of its own. Success
is the script's answer, whole; where the script ends with a refusal, that refusal.

worse: a success that became a failure. differing: an answer, or a refusal, that is not the same.
truncated_unseen: a cut answer that passes for whole. better: a failure that became a success. What
is not as it should be is printed with its steps; `--seed S --only K` plays it alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from router.demo.stack import DidNotStart
from scripts.proofs.fault_scripts import fault_script
from scripts.proofs.provider import ProviderRequest, ScriptedProvider, Step
from scripts.proofs.replies import error, whole
from scripts.proofs.script_caller import call, sdk, shortened_pauses
from scripts.proofs.script_replies import steps
from scripts.proofs.sidecar import sidecar
from scripts.proofs.turns import FaultScript
from scripts.proofs.views import Comparison, ScriptView, compare

SCRIPTS, QUICK_SCRIPTS = 2000, 200
AT_ONCE = 48
SIDES = ("direct", "through")
FAULTY = (Comparison.WORSE, Comparison.DIFFERING, Comparison.TRUNCATED)
KEY = "sk-of-the-caller"


@dataclass(slots=True)
class ScriptsProvider:
    """Plays each script once for each side, by the path under which it is asked."""

    scripts: dict[str, FaultScript]
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def __call__(self, request: ProviderRequest) -> Sequence[Step]:
        """Return what this attempt gets."""
        side = request.path.split("/")[1]
        script = self.scripts[request.model]
        if script.strict and request.asks_usage and not script.shape.asks_usage:
            message = "Unrecognized request argument supplied: stream_options"
            refusal = error(message, code="unknown_parameter", kind="invalid_request_error")
            return [whole(400, refusal)]
        nth = self.counts[side, script.name]
        self.counts[side, script.name] += 1
        turn = script.turn(nth)
        return steps(script, turn, asks_usage=request.asks_usage, now_s=time.time())


@dataclass(frozen=True, slots=True)
class PlayedScript:
    """A script, and what came of it on both sides."""

    script: FaultScript
    direct: ScriptView
    through: ScriptView
    attempts: tuple[int, int]

    @property
    def comparison(self) -> Comparison:
        """How the two compare."""
        return compare(self.script, self.direct, self.through)

    def told(self) -> str:
        """Return all that is needed to look into it."""
        script = self.script
        return "\n".join(
            [
                f"{self.comparison}: --seed {script.seed} --only {script.number}",
                *(f"    {step}" for step in script.told()),
                f"  direct  ({self.attempts[0]} attempts) {self.direct.told()}",
                f"  through ({self.attempts[1]} attempts) {self.through.told()}",
            ]
        )


def configuration(scripts: Sequence[FaultScript], provider: ScriptedProvider) -> dict[str, Any]:
    """Return the sidecar's configuration: an endpoint for each script, and one app."""
    return {
        "endpoints": [
            {
                "id": script.name,
                "model": script.name,
                "base_url": f"{provider.url(script.number + 1)}/through/v1",
                "auth": "client",
            }
            for script in scripts
        ],
        "apps": {"default": {"mode": "observe"}},
    }


async def play(
    scripts: Sequence[FaultScript], provider: ScriptedProvider, script: ScriptsProvider, url: str
) -> list[PlayedScript]:
    """Play every script on both sides, many at once."""
    gate = asyncio.Semaphore(AT_ONCE)
    async with AsyncExitStack() as opened:
        await opened.enter_async_context(provider.listening())
        client = await opened.enter_async_context(sdk(url, KEY))

        async def played(each: FaultScript) -> PlayedScript:
            straight = client.with_options(base_url=f"{provider.url(each.number + 1)}/direct/v1")
            async with gate:
                views = await asyncio.gather(call(straight, each), call(client, each))
                counts = tuple(script.counts[side, each.name] for side in SIDES)
                return PlayedScript(each, views[0], views[1], (counts[0], counts[1]))

        return list(await asyncio.gather(*(played(each) for each in scripts)))


def prove_direct(scripts: Sequence[FaultScript]) -> list[PlayedScript]:
    """Return what came of the scripts.

    Raises:
        DidNotStart: the sidecar never came up.
    """
    script = ScriptsProvider({each.name: each for each in scripts})
    provider = ScriptedProvider(script)
    with (
        tempfile.TemporaryDirectory(prefix="pm-prove-") as directory,
        sidecar(Path(directory), configuration(scripts, provider)) as running,
        shortened_pauses(),
    ):
        return asyncio.run(play(scripts, provider, script, running.url))


def figures(played: Sequence[PlayedScript]) -> dict[str, int]:
    """Return how many scripts compare in which way."""
    counts = Counter(each.comparison for each in played)
    names = (*FAULTY, Comparison.BETTER)
    return {"scripts": len(played), **{name.value: counts[name] for name in names}}


def main(argv: Sequence[str]) -> int:
    """Play random scripts straight and through the sidecar; return the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/prove direct", description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SCRIPTS} scripts only")
    parser.add_argument("--scripts", type=int, help=f"how many; else {SCRIPTS}")
    parser.add_argument("--seed", type=int, default=0, help="of all scripts")
    parser.add_argument("--only", type=int, help="play this one script alone, and say all")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    n = QUICK_SCRIPTS if options.quick else SCRIPTS
    n = n if options.scripts is None else options.scripts
    if n < 1 or options.seed < 0:
        parser.error("--scripts is a whole number from 1, --seed one from 0")
    numbers = range(n) if options.only is None else [options.only]
    began = time.monotonic()
    try:
        played = prove_direct([fault_script(options.seed, number) for number in numbers])
    except DidNotStart as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    for each in played:
        if each.comparison in FAULTY or options.only is not None:
            print(each.told(), file=sys.stderr)
    print(f"took {time.monotonic() - began:.0f} s", file=sys.stderr)
    found = figures(played)
    print(json.dumps(found) if options.json else ", ".join(f"{k} {v}" for k, v in found.items()))
    return 1 if any(each.comparison in FAULTY for each in played) else 0
