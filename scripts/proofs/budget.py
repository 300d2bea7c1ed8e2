"""The proof of budgets: a hard one is never overspent, and nothing of it is left lying about.
`scripts/prove budget`.

Sixteen processes reserve against one hard budget of which so little is left that nearly every
reservation has to be granted by the store itself. Twice: once undisturbed; once a process is
killed, another is stopped for longer than its lease, the store is killed and started again without
what it wrote last, and some say late what they have. What the processes really spent is summed
from books of their own, of which the account knows nothing; and never may the account hold more
than the limit.

At the end each process spends what it can still get, in ever smaller pieces. Stranded is what is
left then, if the least piece that was refused would have fitted into it.

What the proof does not kill together with the store is a process that spent of what the store
forgot: `telemetry/budget_accounts.py` says what bounds that.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, suppress
from ctypes import c_bool, c_longlong
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from scripts.proofs.budget_calls import measured, play_calls
from scripts.proofs.budget_play import (
    LEAST,
    MOST,
    BudgetGame,
    BudgetSignals,
    BudgetTally,
    booked,
    holder_of,
    play_one,
)
from telemetry.budget_accounts import BudgetAccounts, BudgetPeriod
from telemetry.embedded import PID_FILE, PrivateServer
from telemetry.store import Address, StoreErrors, connect

PROCESSES = 16
RESERVATIONS, QUICK_RESERVATIONS = 100_000, 1_000
LIMIT = 20 * 10**9
"""Nano-USD: twenty of the dearest calls, for sixteen processes with four calls each."""
BILLED = 600
"""Times what a reservation is on average: the limit, and as much again as it takes until nothing
but the smallest pieces fit into what is left."""
DISTURBED_AT, BILLED_BEFORE = 0.5, 30
"""When the store is killed, as a part of all reservations, and the same for that run: most of the
limit is left then, and taken within the moment that the store forgets."""
LEASE_S = 1.5
FORGOTTEN_S = 0.8
"""How much of what it wrote last the store forgets."""
LONGEST_SILENCE_S = 5.0
"""How long it is waited for something to forget."""
QUICK_PAUSE_S = 0.003
"""After each reservation, so that a short run lasts long enough to be disturbed."""
LEAST_RESERVATIONS = 100
"""Of a process; of fewer no figure says anything."""
MEASURED = 5_000
"""Reservations at the store that are timed."""
NANO = 10**9
FORK = multiprocessing.get_context("fork")
"""This process has no threads, and sixteen that import everything anew take seconds."""
DEAD, STOPPED, SLOW = 0, 1, range(2, 8)
"""Which process is killed, which stopped for longer than its lease, and which for a part of it."""

AS_CALLS = range(0, PROCESSES, 2)
"""Which processes reserve as the sidecar's calls do, some at once; the others do so one after the
other, by the bare allowance."""


@dataclass(slots=True)
class BudgetRun:
    """One run: the store, the processes and what is done to them."""

    directory: Path
    game: BudgetGame
    server: PrivateServer
    processes: list[BaseProcess] = field(default_factory=list)
    done: list[c_longlong] = field(
        default_factory=lambda: [FORK.RawValue(c_longlong, 0) for _ in range(PROCESSES)]
    )
    shared: BudgetSignals = field(
        default_factory=lambda: BudgetSignals(FORK.Event(), FORK.RawValue(c_bool, False))
    )
    forgotten_bytes: int = 0
    n_buried: int = 0
    overgranted: int = 0

    @property
    def address(self) -> Address:
        """Where the store is."""
        return Address(f"unix://{self.server.socket_path}")

    def start(self, place: int, life: str = "") -> None:
        """Start a process in a place, anew where one was."""
        name = f"holder-{place}{life}"
        of_place = self.directory / name, self.done[place], self.shared
        arguments = self.game, name, self.address, *of_place
        play = play_calls if place in AS_CALLS else play_one
        process = FORK.Process(target=play, args=arguments)
        process.start()
        self.processes[place:] = [process, *self.processes[place + 1 :]]

    def progress(self) -> float:
        """Return which part of all reservations is made."""
        return sum(done.value for done in self.done) / (PROCESSES * self.game.reservations)

    def until(self, progress: float) -> None:
        """Wait for so much progress."""
        while self.progress() < progress and any(p.is_alive() for p in self.processes):
            time.sleep(0.01)

    def disturb(self) -> None:
        """Kill a process, stop another, kill the store and have it forget; then let all go on.

        From the moment on that the store forgets, calls come to all that is reserved for them: what
        is granted twice is spent twice.
        """
        self.until(0.1)
        self._signal(signal.SIGKILL, DEAD)
        self.processes[DEAD].join()
        self.start(DEAD, "-again")
        self._signal(signal.SIGSTOP, STOPPED)
        time.sleep(FORGOTTEN_S + 0.3)  # what these two had is on record by then
        self.until(DISTURBED_AT)
        self.shared.in_full.value = True
        sizes = self._note_sizes()
        self._signal(signal.SIGSTOP, *SLOW)
        store = int((self.server.directory / PID_FILE).read_text())
        os.kill(store, signal.SIGKILL)
        os.waitpid(store, 0)  # until then it may still write, and holds the lock on its files
        self._forget(sizes)
        self.server.revive()
        time.sleep(self.game.lease_s / 3)  # others would be granted what these have
        self._signal(signal.SIGCONT, *SLOW)
        self.watch(until_s=time.monotonic() + 1.5 * self.game.lease_s)  # it grants again by then
        self._bury()  # what it held would hide what is granted twice
        self._signal(signal.SIGCONT, STOPPED)

    def watch(self, *, until_s: float = math.inf) -> None:
        """See to it, till then or till all processes have ended, that no more is granted than is.

        While the account recovers it may hold more than the limit: some have restated what others
        are yet to tell that they gave back.
        """
        with closing(connect(self.address)) as client:
            while time.monotonic() < until_s and any(p.is_alive() for p in self.processes):
                with suppress(*StoreErrors):
                    read = BudgetAccounts(client).read(self.game.period)
                    if not read.is_recovering:
                        self.overgranted = max(self.overgranted, read.debited - self.game.limit)
                time.sleep(0.02)

    def _signal(self, number: int, *places: int) -> None:
        for place in places:
            with suppress(ProcessLookupError):
                os.kill(self.processes[place].pid or 0, number)

    def _log(self) -> Path:
        """The newest part of the append-only file."""
        return max((self.server.directory / "appendonlydir").glob("*.incr.aof"), key=_number)

    def _note_sizes(self) -> deque[tuple[Path, int]]:
        """Return what the append-only file grew by, for as long as is to be forgotten.

        Where all had enough and wrote nothing meanwhile, it takes longer.
        """
        sizes: deque[tuple[float, Path, int]] = deque()
        ends = time.monotonic() + FORGOTTEN_S
        while (now := time.monotonic()) < ends + LONGEST_SILENCE_S:
            with suppress(OSError):
                log = self._log()
                sizes.append((now, log, log.stat().st_size))
            while sizes and sizes[0][0] < now - FORGOTTEN_S:
                sizes.popleft()
            if now >= ends and sizes and sizes[0][1:] != sizes[-1][1:]:
                break
            time.sleep(0.02)
        return deque((path, size) for _, path, size in sizes)

    def _forget(self, sizes: deque[tuple[Path, int]]) -> None:
        """Cut from the append-only file what came after the first of the sizes of its last part."""
        log = self._log()
        size = next((size for path, size in sizes if path == log), log.stat().st_size)
        self.forgotten_bytes = log.stat().st_size - size
        os.truncate(log, size)

    def _bury(self) -> None:
        name, accounts = f"holder-{DEAD}", BudgetAccounts
        holder = holder_of(name).hex()
        with closing(connect(self.address)) as client:
            while True:
                with suppress(*StoreErrors):
                    spent = booked(self.directory / name)
                    if accounts(client).bury(self.game.period, holder, spent=spent) is not None:
                        self.n_buried += 1
                        return
                time.sleep(0.05)

    def figures(self) -> dict[str, Any]:
        """Return what came of it, once all processes have ended."""
        books = [path for path in self.directory.glob("holder-*") if path.suffix != ".tally"]
        spent = sum(booked(book) for book in books)
        with closing(connect(self.address)) as client:
            read = BudgetAccounts(client).read(self.game.period)
        left = self.game.limit - spent
        tallies = [_tally(path) for path in self.directory.glob("*.tally")]
        return {
            "spent": spent,
            "overspend": max(-left, 0),
            "stranded": left if left >= LEAST else 0,
            "overgranted": self.overgranted,
            "misbooked": abs(read.debited - spent),
            "granted": sum(tally.granted for tally in tallies),
            "asked": sum(tally.asked for tally in tallies),
            "missed": sum(tally.missed for tally in tallies),
            "refused_by_store": sum(tally.unfit for tally in tallies),
            "failed": sum(process.exitcode != 0 for process in self.processes),
            "forgotten_bytes": self.forgotten_bytes,
            "buried": self.n_buried,
        }


def _number(path: Path) -> int:
    return int(path.name.split(".")[-3])


def measure(reservations: int) -> dict[str, Any]:
    """Return how long reservations take that are made at the store, in ms."""
    with (
        tempfile.TemporaryDirectory(prefix="pm-prove-", dir="/tmp") as temporary,
        PrivateServer(Path(temporary)) as server,
    ):
        return measured(Address(f"unix://{server.socket_path}"), reservations)


def _tally(path: Path) -> BudgetTally:
    return BudgetTally(*(int(word) for word in path.read_text().split()))


def run_once(reservations: int, *, is_disturbed: bool, pause_s: float) -> dict[str, Any]:
    """Play one run; return its figures, in nano-USD."""
    began = time.monotonic()
    game = BudgetGame(
        period=BudgetPeriod(1, 1_700_000_000, 3600),
        limit=LIMIT,
        lease=LIMIT // 20,
        lease_s=LEASE_S,
        reservations=reservations,
        billed=(BILLED_BEFORE if is_disturbed else BILLED) / (PROCESSES * reservations),
        pause_s=pause_s,
    )
    with tempfile.TemporaryDirectory(prefix="pm-prove-", dir="/tmp") as temporary:
        directory = Path(temporary)
        with PrivateServer(directory / "store") as server:
            run = BudgetRun(directory, game, server)
            for place in range(PROCESSES):
                run.start(place)
            run.shared.begin.set()
            if is_disturbed:
                run.disturb()
            run.watch()
            for process in run.processes:
                process.join()
            return run.figures() | {"took_s": round(time.monotonic() - began, 1)}


def run_both(reservations: int, *, pause_s: float, at_once: bool) -> list[dict[str, Any]]:
    """Return the figures of an undisturbed run, and of one that is disturbed."""
    with ProcessPoolExecutor(1 + at_once, mp_context=FORK) as processes:
        runs = [
            processes.submit(
                run_once, reservations, is_disturbed=disturbed, pause_s=pause_s * disturbed
            )
            for disturbed in (False, True)
        ]
        return [run.result() for run in runs]


def report(runs: Sequence[dict[str, Any]], reservations: int) -> dict[str, Any]:
    """Return the figures of all runs together, in dollars."""
    return {
        "reservations": PROCESSES * reservations * len(runs),
        "overspend_usd": sum(run["overspend"] for run in runs) / NANO,
        "stranded_usd": sum(run["stranded"] for run in runs) / NANO,
        "runs": list(runs),
    }


def faults(figures: dict[str, Any]) -> list[str]:
    """Return what is wrong, or never happened and must for the proof to mean something."""
    found = [name for name in ("overspend_usd", "stranded_usd") if figures[name]]
    calm, disturbed = figures["runs"]
    for run in (calm, disturbed):
        found += [name for name in ("overgranted", "misbooked", "failed") if run[name]]
        if run["spent"] < 0.9 * LIMIT:
            found.append("the money never came to its end")
        if run["refused_by_store"] < PROCESSES:
            found.append("the store refused next to nothing")
    if not disturbed["forgotten_bytes"] or not disturbed["missed"] or not disturbed["buried"]:
        found.append("the store was not killed and made to forget")
    return found


def main(argv: Sequence[str]) -> int:
    """Reserve against a hard budget with little left; return the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/prove budget", description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_RESERVATIONS} a process")
    parser.add_argument("--reservations", type=int, help=f"of a process; else {RESERVATIONS}")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    if options.reservations is not None and options.reservations < LEAST_RESERVATIONS:
        parser.error(f"--reservations {options.reservations}: write {LEAST_RESERVATIONS} or more")
    reservations = options.reservations or (QUICK_RESERVATIONS if options.quick else RESERVATIONS)
    pause_s = QUICK_PAUSE_S * min(QUICK_RESERVATIONS / reservations, 1.0)
    runs = run_both(reservations, pause_s=pause_s, at_once=reservations <= QUICK_RESERVATIONS)
    figures = report(runs, reservations)
    figures["at_the_store_ms"] = measure(min(reservations, MEASURED))
    wrong = faults(figures)
    for one in wrong:
        print(f"wrong: {one}", file=sys.stderr)
    print(json.dumps(figures) if options.json else _shown(figures))
    return 1 if wrong else 0


def _shown(figures: dict[str, Any]) -> str:
    lines = [
        f"{figures['reservations']} reservations of up to ${MOST / NANO:.0f} of ${LIMIT / NANO:.0f}"
        f", overspend ${figures['overspend_usd']:.9f}, stranded ${figures['stranded_usd']:.9f}"
    ]
    lines.append(f"reservations at the store, in ms: {figures['at_the_store_ms']}")
    lines += [
        ", ".join(f"{name} {value}" for name, value in run.items()) for run in figures["runs"]
    ]
    return "\n".join(lines)
