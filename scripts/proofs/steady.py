"""The proof that neither words nor the clock change who answers. `scripts/prove steady`.

`pointsman serve` runs twice on one store, with a worker behind it. Prompts come as real clients
send them in three dialects, with a session, of a user, and of neither; each is sent again with one
word changed, with its first message edited, with code fences or length added, and with another
turn, by turns at both processes. Labels come meanwhile, so that what is believed moves; attempts
fail, an endpoint is out for a while, and some calls forbid the endpoint of their unit.

All calls of one unit must be of one task and at one endpoint. Changes with a reason are counted by
it: a constraint of the call, a failure, and the two endings of stored draws. What began in another
slot is of another unit. Before anything is labelled, dry runs at both processes must foresee the
same draw whatever the words.

faults: calls that changed without a reason, and draws that the words would have changed. What else
is counted says that there was something to find; without any of it the proof fails.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from msgspec import Struct

from router.config.compiled import load
from router.demo.stack import DidNotStart, Stack, stack
from router.errors import ConfigError
from scripts.proofs.provider import ScriptedProvider
from scripts.proofs.steady_play import ROUNDS, SteadyPlay
from scripts.proofs.steady_serve import VARIABLE, SteadySabotage
from scripts.proofs.steady_units import UnitFound
from scripts.proofs.steady_world import CALM, ENDPOINTS, SteadyProvider, configuration
from scripts.proofs.told_figures import tell_figures
from telemetry.store import open_store

PROMPTS, QUICK_PROMPTS = 10_000, 1_200
PROCESSES = ("first", "second")
SHOWN = 5
LEAST_VERSIONS = 5
"""Of what is believed, at each process: so often it must have moved."""
UNTAUGHT_SHARE = 1 / len(ENDPOINTS)
"""Of the best endpoint, where learning apps draw evenly; guarded ones would stay elsewhere."""


class SteadySettings(Struct, frozen=True):
    """What to play."""

    prompts: int
    seed: int = 0
    sabotage: SteadySabotage | None = None


def prove_steady(settings: SteadySettings) -> dict[str, Any]:
    """Play all prompts; return the figures.

    Raises:
        DidNotStart: a process never came up.
    """
    with tempfile.TemporaryDirectory(prefix="pm-prove-") as temporary:
        directory = Path(temporary)
        answers = SteadyProvider()
        provider = ScriptedProvider(answers)
        config = directory / "pointsman.yaml"
        server = {"port": 0, "state_dir": str(directory / "state")}
        value = {"server": server, **configuration(provider.url(), directory / "keys")}
        config.write_text(yaml.safe_dump(value, sort_keys=False))
        compiled = load(config)
        state_dir = compiled.server.state_directory()
        with (
            _broken(settings.sabotage),
            open_store(state_dir),
            stack(directory) as processes,
        ):
            ports = [_serve(processes, name, config) for name in PROCESSES]
            processes.worker(state_dir, shards=compiled.store.shards)
            play = SteadyPlay(settings.seed, answers, ports)
            asyncio.run(_play(provider, play, settings.prompts))
        return figures_of(play, play.found())


async def _play(provider: ScriptedProvider, play: SteadyPlay, n_prompts: int) -> None:
    async with provider.listening():
        await play.run(n_prompts)


def _serve(processes: Stack, name: str, config: Path) -> int:
    return processes.listen(name, "scripts.proofs.steady_serve", "serve", "--config", str(config))


@contextmanager
def _broken(sabotage: SteadySabotage | None) -> Iterator[None]:
    """Have processes that start meanwhile broken."""
    if sabotage is not None:
        os.environ[VARIABLE] = sabotage
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)


def figures_of(play: SteadyPlay, found: UnitFound) -> dict[str, Any]:
    """Return the figures of the proof."""
    kinds = Counter(unit.kind for unit in play.units)
    shares = [round(by[CALM] / max(by.total(), 1), 3) for by in play.shares]
    return {
        "prompts": sum(by.total() for by in play.shares),
        "calls": play.counts["calls"],
        "units": dict(sorted(kinds.items())),
        "faults": len(found.faults) + play.counts["dry_differ"],
        "changes": dict(sorted(found.changes.items())),
        "refused": play.counts["refused"],
        "unanswered": play.counts["unanswered"],
        "at_a_slots_end": play.counts["at_a_slots_end"],
        "labels": play.counts["labels"],
        "versions": [len(seen) for seen in play.versions],
        "share_of_best": shares,
        "explained": play.counts["explained"],
        "dry_runs": play.counts["dry_runs"],
        "shown": (play.shown + found.faults)[:SHOWN],
    }


def missing_in(figures: dict[str, Any]) -> list[str]:
    """Return what never happened, and must for the proof to mean something."""
    changes = figures["changes"]
    happened = {
        "sessions, users and neither": len(figures["units"]) == 3,
        "constraints": changes.get("constraint of the call", 0) > 0,
        "failures": changes.get("failure", 0) > 0,
        "posteriors that moved": min(figures["versions"]) >= LEAST_VERSIONS,
        "draws that followed": figures["share_of_best"][-1] > UNTAUGHT_SHARE,
        "dry runs": figures["dry_runs"] > 0,
    }
    return [name for name, did in happened.items() if not did]


def main(argv: Sequence[str]) -> int:
    """Send prompts again with words changed, to two processes; return the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/prove steady", description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_PROMPTS} prompts only")
    parser.add_argument("--prompts", type=int, help=f"how many; else {PROMPTS}")
    parser.add_argument("--seed", type=int, default=0, help="of all that is left to chance")
    parser.add_argument("--sabotage", choices=list(SteadySabotage), help="break a rule on purpose")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    prompts = QUICK_PROMPTS if options.quick else PROMPTS
    prompts = prompts if options.prompts is None else options.prompts
    if prompts < ROUNDS or options.seed < 0:
        parser.error(f"--prompts is a whole number from {ROUNDS}, --seed one from 0")
    sabotage = SteadySabotage(options.sabotage) if options.sabotage else None
    began = time.monotonic()
    try:
        figures = prove_steady(SteadySettings(prompts, options.seed, sabotage))
    except (DidNotStart, ConfigError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    print(f"took {time.monotonic() - began:.0f} s", file=sys.stderr)
    return tell_figures(figures, missing_in(figures), as_json=options.json)
