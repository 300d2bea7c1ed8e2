"""The proof that no secret gets out. `scripts/prove secrets`.

The real `pointsman up` runs with a password to its store, keys of every kind, and a provider that
repeats in its errors whatever it was told. Every field of every request is a marked secret, as is
every word of an answer; each is random and known by its name. They go through every door, every
kind of failure, a store that is away, a broken configuration, and faults in our own parts that
nobody foresaw, with a debugging loop. Then every byte that was written is searched: logs, metrics,
answers of the sidecar's own, the state directory with what is packed in it, every key and value of
the store and the file behind it, names of files, command lines, and what the verbs print.

planted: how many secrets. places: how many files, values, answers and printed texts were searched.
hits: which secret, and where; the secret itself is never said. What may hold one is in `allowed`.
unseen: what should have happened and did not, so that nothing was proved.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from router.demo.stack import DidNotStart
from scripts.proofs.canaries import Canaries
from scripts.proofs.provider import ScriptedProvider
from scripts.proofs.searched import (
    Place,
    command_lines,
    files_in,
    in_store,
    names_of_files_in,
)
from scripts.proofs.secret_places import allowance, is_private
from scripts.proofs.secret_provider import BEHAVIOURS, SecretProvider
from scripts.proofs.secret_run import QUICK, play
from scripts.proofs.secret_stack import SecretStack, secret_stack
from telemetry.store import connect

HAPPENED = {
    '"event": "a request failed"': 2,
    '"event": "a thread broke off': 2,
    '"says": "Task exception was never retrieved"': 2,
    '"says": "Exception in callback"': 2,
    '"event": "the process breaks off': 3,  # observer, worker and jobs
    '"event": "a job failed"': 1,
    '"event": "store is away': 2,
    '"event": "attempt failed"': 5,
    '"event": "an endpoint cannot be used as it is configured"': 3,
    '"event": "the configuration file is refused': 1,
}
"""Lines of the log, and how many there are at least."""
SEARCHED = (
    r"file state/archive/.*\.parquet, unpacked",
    r"file state/decisions/.*\.sqlite, unpacked",
    r"file state/journal/.*, store away",
    r"file state/configuration\.json",
    r"file store/.*\.aof",
    r"store pm:draw:.*",
    r"store \{pm:.*\}:ev",
    "command lines",
    "answer: /metrics, store away",
    "verb explain 0",
)
"""Places that are there in any run."""


def prove_secrets(*, quick: bool) -> dict[str, Any]:
    """Play everything, search everything; return the figures.

    Raises:
        DidNotStart: a part never came up.
    """
    canaries, hits = Canaries(), Hits()
    script = SecretProvider(canaries)
    provider = ScriptedProvider(script)
    with tempfile.TemporaryDirectory(prefix="pm-prove-") as temporary:
        with secret_stack(Path(temporary), canaries, provider.url()) as running:
            hits.search(command_lines(), canaries)
            hits.search(asyncio.run(_played(running, provider, quick=quick), debug=False), canaries)
            with closing(connect(running.store.address)) as client:
                hits.search(in_store(client), canaries)
        hits.search(files_in(running.seen), canaries)
        hits.search([names_of_files_in(running.seen)], canaries)
        hits.check_modes(running.seen)
        log = (running.seen / "up.log").read_text()
    unasked = set(QUICK if quick else BEHAVIOURS) - set(script.seen)
    return hits.figures(len(canaries.names), [*hits.unseen(log), *sorted(unasked)])


async def _played(running: SecretStack, provider: ScriptedProvider, *, quick: bool) -> list[Place]:
    async with provider.listening():
        return await play(running, quick=quick)


class Hits:
    """What was found where."""

    def __init__(self) -> None:
        self._places: set[str] = set()
        self._hits: set[tuple[str, str]] = set()
        self._allowed: dict[str, int] = {}

    def search(self, places: Any, canaries: Canaries) -> None:
        """Search places, and note what is there that may not be."""
        for place, data in places:
            self._places.add(place)
            for secret in canaries.found_in(data):
                self._note(secret, place)

    def _note(self, secret: str, place: str) -> None:
        reason = allowance(secret, place)
        if reason is None:
            self._hits.add((secret, place))
        else:
            self._allowed[reason] = self._allowed.get(reason, 0) + 1

    def check_modes(self, root: Path) -> None:
        """Note files that may hold a secret, and that others may read."""
        for path in root.rglob("*"):
            if is_private(path.name) and path.stat().st_mode & 0o077:
                self._hits.add((f"file {path.relative_to(root)}", "may be read by others"))

    def unseen(self, log: str) -> list[str]:
        """Return what was not searched, or did not happen, though it should have."""
        events = [line for line, n in HAPPENED.items() if log.count(line) < n]
        return events + [p for p in SEARCHED if not any(re.fullmatch(p, x) for x in self._places)]

    def figures(self, planted: int, unseen: list[str]) -> dict[str, Any]:
        """Return what was planted, how much was searched, and what was found."""
        return {
            "planted": planted,
            "places": len(self._places),
            "hits": [{"secret": s, "where": w} for s, w in sorted(self._hits)],
            "allowed": dict(sorted(self._allowed.items())),
            "unseen": unseen,
        }


def main(argv: Sequence[str]) -> int:
    """Plant marked secrets everywhere and search whatever is written; return the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/prove secrets", description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer kinds of failure")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    began = time.monotonic()
    try:
        figures = prove_secrets(quick=options.quick)
    except DidNotStart as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    print(f"took {time.monotonic() - began:.0f} s", file=sys.stderr)
    print(json.dumps(figures) if options.json else table(figures))
    return 1 if figures["hits"] or figures["unseen"] else 0


def table(figures: dict[str, Any]) -> str:
    """Return the figures for people."""
    lines = [f"HIT: {hit['secret']}: {hit['where']}" for hit in figures["hits"]]
    lines += [f"NOT SEEN: {what}" for what in figures["unseen"]]
    lines += [f"allowed {n} times: {reason}" for reason, n in figures["allowed"].items()]
    counts = f"{figures['planted']} secrets planted, {figures['places']} places searched"
    return "\n".join([*lines, f"{counts}, {len(figures['hits'])} hits"])
