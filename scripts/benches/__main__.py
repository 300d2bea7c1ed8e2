"""`scripts/bench NAME`: runs one bench, prints its figures or one JSON object."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from telemetry import logs

Measured = dict[str, Any]
FIXED_S, ORDINARY_S = 3.0, 20.0
"""How long each measure of `bench http` takes."""


def bounded(least: float, most: float, kind: Callable[[str], float]) -> Callable[[str], float]:
    """Return a parser of options that are numbers in a range."""

    def parse(text: str) -> float:
        value = kind(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text}: from {least} to {most}")
        return value

    parse.__name__ = "number"  # what argparse says that a word is not
    return parse


def main(argv: list[str] | None = None) -> int:
    """Measure the sidecar, a part of it, or how it learns; return the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=main.__doc__)
    known = ["http", "draw", "decide", "pipeline", "memory", "lookup", "derived", "hosts"]
    known += ["growth", "learning", "truth", "raters", "orders", "classify", "ledger", "report"]
    known += ["idle"]
    parser.add_argument("what", nargs="?", choices=known, default="http", help="default: http")
    add = parser.add_argument
    add("--rounds", type=bounded(1, 100, int), default=5, help="of http")
    add("--seconds", type=bounded(0.5, 3600, float), help="of http: 3 each (mix: 20); idle: 300")
    add("--mix", choices=["fixed", "ordinary"], default="fixed", help="of http: which traffic")
    add("--peer", choices=["litellm", "portkey"], action="append", help="of http (fixed): a peer")
    add("--arms", type=bounded(2, 1000, int), default=10, help="of draw: endpoints")
    add("--endpoints", type=bounded(2, 1000, int), default=10, help="of decide")
    add("--calls-per-s", type=bounded(0.1, 1000, float), default=10.0, help="of lookup")
    add("--days", type=bounded(1, 30, int), default=30, help="of growth")
    add("--runs", type=bounded(10, 10_000, int), default=100, help="of hosts")
    add("--quick", action="store_true", help="of pipeline, truth, raters, orders, ledger: less")
    add("--apps", type=bounded(1, 1000, int), help="of pipeline: so many call, and of the ledger")
    add("--users", type=bounded(0, 100_000, int), default=1000, help="of pipeline: in each app")
    add("--weeks", type=bounded(2, 1000, int), default=20, help="of orders: of a row")
    add("--seed", type=bounded(0, 2**32 - 1, int), default=0, help="of truth")
    add("--labels", type=bounded(1000, 1e9, int), help="of truth: in all its worlds together")
    add("--streams", type=bounded(1, 1000, int), default=16, help="of learning, raters: of a row")
    add("--subset-streams", type=bounded(1, 1000, int), default=4, help="of learning: of a subset")
    add("--rows", metavar="NAME,...", help="of learning: only those with one of these in the name")
    add("--data", type=Path, metavar="DIR", help="of learning: default ../shared/data")
    add("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    if options.mix == "ordinary" and options.peer:
        parser.error("argument --peer: of --mix fixed alone")
    runs = {
        "http": _http,
        "draw": _draw,
        "decide": _decide,
        "pipeline": _pipeline,
        "memory": _memory,
        "lookup": _lookup,
        "growth": _growth,
        "derived": _derived,
        "hosts": _hosts,
        "learning": _learning,
        "truth": _truth,
        "raters": _raters,
        "orders": _orders,
        "classify": _classify,
        "ledger": _ledger,
        "report": _report,
        "idle": _idle,
    }
    measured, show = runs[options.what](options)
    if measured is None:
        return 1
    if options.json:
        print(json.dumps(measured))
    else:
        show(measured)
    return int(options.quick and not all(measured.get("kept", {}).values()))


def _http(options: argparse.Namespace) -> tuple[Measured | None, Callable[..., None]]:
    from scripts.benches import http, ordinary
    from scripts.benches.http import print_table
    from scripts.benches.http_targets import MissingProgram

    try:
        if options.mix == "ordinary":
            seconds = options.seconds or ORDINARY_S
            return ordinary.run_bench(rounds=options.rounds, seconds=seconds), print_table
        seconds, peers = options.seconds or FIXED_S, options.peer or ()
        return http.run_bench(rounds=options.rounds, seconds=seconds, others=peers), print_table
    except MissingProgram as error:
        print(error, file=sys.stderr)
        return None, print_table


def _draw(options: argparse.Namespace) -> tuple[Measured, Callable[..., None]]:
    from scripts.benches.draw import run_bench

    def show(measured: dict[str, float]) -> None:
        p50, p99 = measured["p50_us"], measured["p99_us"]
        print(f"{options.arms} endpoints: p50 {p50:.1f} µs, p99 {p99:.1f} µs")

    return run_bench(options.arms), show


def _decide(options: argparse.Namespace) -> tuple[Measured, Callable[..., None]]:
    from scripts.benches.decide import run_bench

    def show(measured: dict[str, float]) -> None:
        p50, p99, beside = (measured[name] for name in ("p50_us", "p99_us", "reference_us"))
        print(f"{options.endpoints} endpoints: p50 {p50} µs, p99 {p99} µs, reference {beside} µs")

    return run_bench(options.endpoints), show


def _hosts(options: argparse.Namespace) -> tuple[Measured, Callable[..., None]]:
    from scripts.benches.hosts import print_table, run_bench

    return run_bench(options.runs), print_table


def _pipeline(options: argparse.Namespace) -> tuple[Measured, Callable[..., None]]:
    from scripts.benches.pipeline import (
        FULL,
        QUICK,
        print_ledger,
        print_table,
        run_bench,
        run_ledger,
    )

    sizes = QUICK if options.quick else FULL
    if options.apps is not None:
        sizes = replace(sizes, n_apps=options.apps, n_users=options.users)
        return run_ledger(sizes), print_ledger
    return run_bench(sizes), print_table


def _memory(options: argparse.Namespace) -> tuple[Measured, Callable[..., None]]:
    from scripts.benches.memory import run_bench

    return run_bench(), lambda measured: print(json.dumps(measured, indent=2))


def _lookup(options: argparse.Namespace) -> tuple[Measured, Callable[..., None]]:
    from scripts.benches.lookup import print_figures, run_bench

    return run_bench(calls_per_s=options.calls_per_s), print_figures


def _growth(options: argparse.Namespace) -> tuple[Measured, Callable[..., None]]:
    from scripts.benches.growth import print_figures, run_bench

    return run_bench(days=options.days), print_figures


def _derived(options: argparse.Namespace) -> tuple[Measured, Callable[..., None]]:
    from scripts.benches.derived import print_figures, run_bench

    return run_bench(), print_figures


def _learning(options: argparse.Namespace) -> tuple[Measured, Callable[..., None]]:
    from scripts.benches.learning import DATA, BadExperiment, print_table, run_bench

    names = [name for part in (options.rows or "").split(",") if (name := part.strip())]
    try:
        found = run_bench(
            data=options.data or DATA,
            streams=options.streams,
            subset_streams=options.subset_streams,
            names=names,
        )
    except BadExperiment as error:
        print(f"scripts/bench learning: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    return found, print_table


def _truth(options: argparse.Namespace) -> tuple[Measured, Callable[..., None]]:
    from scripts.benches.truth import print_table, run_bench

    logs.configure(level=logging.CRITICAL)  # each alarm is a line, and counted here
    measured = run_bench(quick=options.quick, seed=options.seed, n_labels=options.labels)
    return measured, print_table


def _raters(options: argparse.Namespace) -> tuple[Measured, Callable[..., None]]:
    from scripts.benches.raters import print_table, run_bench

    logs.configure(level=logging.CRITICAL)  # an alarm is a line
    return run_bench(runs=options.streams, quick=options.quick), print_table


def _orders(options: argparse.Namespace) -> tuple[Measured, Callable[..., None]]:
    from scripts.benches.orders import print_table, run_bench

    return run_bench(weeks=options.weeks, quick=options.quick), print_table


def _classify(_: argparse.Namespace) -> tuple[Measured, Callable[..., None]]:
    from scripts.benches.classify import print_table, run_bench

    return run_bench(), print_table


def _ledger(options: argparse.Namespace) -> tuple[Measured, Callable[..., None]]:
    from scripts.benches.ledger import print_table, run_bench

    return run_bench(quick=options.quick), print_table


def _report(options: argparse.Namespace) -> tuple[Measured, Callable[..., None]]:
    from scripts.benches.report import print_table, run_bench

    return run_bench(), print_table


def _idle(options: argparse.Namespace) -> tuple[Measured, Callable[..., None]]:
    from scripts.benches.idle import print_table, run_bench

    return run_bench(seconds=options.seconds or 300.0), print_table


if __name__ == "__main__":
    raise SystemExit(main())
