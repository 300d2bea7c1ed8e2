"""The proof that nothing is sent where the policy forbids it. `scripts/prove policy`.

Random calls meet random faults under random configurations, in one process and without sockets:
breakers, refusals, silence, streams that are cut, the switch, and a day that ends in the middle of
a call, and with it agreements. Whoever is reached asks an oracle whether that was permitted, which
works the rules out by itself. Every merged policy is held against each of its levels.

forbidden_bytes: what reached anybody who is forbidden. looser: fields of merged policies in which
they permit more than a level does. What else is counted says that there was something to find;
without any of it the proof fails. What is wrong is printed with its call: `--seed S --only K` plays
that configuration alone.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
from msgspec import Struct, field

from scripts.proofs.policy_play import CALLS_EACH, PolicyPlay
from scripts.proofs.policy_sabotage import PolicySabotage, sabotaged

TRIPLES, QUICK_TRIPLES = 1_000_000, 10_000
CONFIGURATIONS_EACH = 10
"""Configurations that follow one another in one sidecar."""
SHOWN = 5
NEEDED = (
    "fallbacks",
    "second_starts",
    "stand_ins",
    "probes",
    "off",
    "passed_on",
    "counted",
    "forced_off",
    "next_day",
    "refused_409",
    "drawn",
)
"""What must have happened for the proof to mean something."""


class PolicyFound(Struct):
    """What came of some configurations."""

    triples: int = 0
    forbidden_bytes: int = 0
    looser: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    shown: list[dict[str, Any]] = field(default_factory=list)

    def add(self, other: PolicyFound) -> None:
        """Take in what came of others."""
        self.triples += other.triples
        self.forbidden_bytes += other.forbidden_bytes
        self.looser += other.looser
        self.counts += other.counts
        self.shown += other.shown

    @property
    def missing(self) -> list[str]:
        """What never happened."""
        return [name for name in NEEDED if not self.counts[name]]

    def figures(self) -> dict[str, Any]:
        """Return the figures of the proof."""
        keys = ("triples", "forbidden_bytes", "looser")
        found = {name: getattr(self, name) for name in keys}
        return {**found, "exercised": dict(sorted(self.counts.items()))}


class PolicyPart(Struct, frozen=True):
    """Configurations that one sidecar goes by, one after the other."""

    seed: int
    numbers: range
    sabotage: PolicySabotage | None


def prove_part(part: PolicyPart) -> PolicyFound:
    """Return what came of a part."""
    found = PolicyFound()
    with (
        tempfile.TemporaryDirectory(prefix="pm-prove-") as directory,
        sabotaged(part.sabotage),
        without_logs(),
    ):
        play = PolicyPlay(part.seed, Path(directory))
        asyncio.run(play.run(part.numbers))
        arrivals = play.hosts.arrivals
        found.add(
            PolicyFound(
                play.n_calls,
                arrivals.forbidden_bytes,
                play.n_looser,
                arrivals.counts,
                arrivals.shown[:SHOWN],
            )
        )
    gc.collect()
    return found


@contextmanager
def without_logs() -> Iterator[None]:
    """Say nothing of the faults, which are meant, as long as this lasts."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


def prove_policy(
    n: int, *, seed: int = 0, jobs: int = 1, sabotage: PolicySabotage | None = None
) -> PolicyFound:
    """Return what came of so many triples, or a few more.

    Args:
        jobs: processes.
    """
    n_configurations = -(-n // CALLS_EACH)
    starts = range(0, n_configurations, CONFIGURATIONS_EACH)
    parts = [
        PolicyPart(seed, range(at, min(at + CONFIGURATIONS_EACH, n_configurations)), sabotage)
        for at in starts
    ]
    found = PolicyFound()
    if jobs == 1:
        for part in parts:
            found.add(prove_part(part))
        return found
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs, maxtasksperchild=50) as pool:
        for one in pool.imap_unordered(prove_part, parts):
            found.add(one)
    return found


def main(argv: Sequence[str]) -> int:
    """Play random calls under random policies and faults; return the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/prove policy", description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_TRIPLES} triples only")
    parser.add_argument("--triples", type=int, help=f"how many; else {TRIPLES}")
    parser.add_argument("--seed", type=int, default=0, help="of everything")
    parser.add_argument("--only", type=int, help="play this one configuration alone")
    parser.add_argument("--jobs", type=int, help="processes; else 1 with --quick, 2 without")
    parser.add_argument("--sabotage", choices=list(PolicySabotage), help="break a rule on purpose")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    n = QUICK_TRIPLES if options.quick else TRIPLES
    n = n if options.triples is None else options.triples
    jobs = options.jobs or (1 if options.quick else 2)
    if n < 1 or options.seed < 0 or jobs < 1:
        parser.error("--triples and --jobs are whole numbers from 1, --seed one from 0")
    sabotage = PolicySabotage(options.sabotage) if options.sabotage else None
    began = time.monotonic()
    if options.only is None:
        found = prove_policy(n, seed=options.seed, jobs=jobs, sabotage=sabotage)
    else:
        numbers = range(options.only, options.only + 1)
        found = prove_part(PolicyPart(options.seed, numbers, sabotage))
    took_s = time.monotonic() - began
    return _tell(found, took_s, is_whole=options.only is None, as_json=options.json)


def _tell(found: PolicyFound, took_s: float, *, is_whole: bool, as_json: bool) -> int:
    for one in found.shown[:SHOWN]:
        print(json.dumps(one), file=sys.stderr)
    missing = found.missing if is_whole else []
    if missing:
        print(f"never happened: {', '.join(missing)}", file=sys.stderr)
    rate = found.triples / took_s
    print(f"took {took_s:.0f} s, {rate:.0f} triples a second", file=sys.stderr)
    figures = found.figures()
    print(json.dumps(figures) if as_json else ", ".join(f"{k} {v}" for k, v in figures.items()))
    broken = found.forbidden_bytes or found.looser or found.counts["internal_errors"]
    return 1 if broken or missing else 0
