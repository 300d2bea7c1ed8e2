"""The proof of failover: sixteen faults of a provider, and what a client sees of each.
`scripts/prove failover`.

One sidecar (`pointsman serve`) for each way of streaming, each with a provider of its own on
loopback and the real `openai` SDK before it; the SDK repeats nothing, so that every repeat is the
sidecar's. Every run has two endpoints of its own, the one that breaks and a healthy spare, and an
app of its own in mode `observe`, whose incumbent is the first and whose region lets no others in.
So breakers are fresh without a process for each run; the one budget of repeats that all share is
filled before each run by as many healthy calls as make up what a fresh process has.

Before all that, where everything is down, attempts are counted against calls.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from openai import AsyncOpenAI

from router.demo.stack import DidNotStart
from router.errors import ConfigError
from scripts.proofs.attempts import booked_attempts
from scripts.proofs.fault_player import FaultCase, FaultPlayer
from scripts.proofs.faults import DOWN, HEALTHY, NAMES, SixteenFaults
from scripts.proofs.provider import ScriptedProvider
from scripts.proofs.sidecar import RunningSidecar, sidecar
from scripts.proofs.verdicts import FaultRun, FaultVerdict, judge_run, worst

RUNS, QUICK_RUNS = 20, 3
QUICK_SCALE = 0.1
MODES = ("buffered", "live")
TOLD_IN_LIVE = (8, 9, 10, 14)
"""After the first words left, these can only be told."""
BOTH_WAYS = (6,)
"""Tried without a stream too."""
ATTEMPTS_A_CALL, ATTEMPTS_BEYOND = 1.2, 3
"""Where everything is down."""
WORDS = {
    FaultVerdict.PASS: "passed",
    FaultVerdict.PARTIAL: "partial",
    FaultVerdict.SAFE: "safe",
    FaultVerdict.FAIL: "failed",
}


def timeouts(scale: float) -> dict[str, Any]:
    """Return the limits of every endpoint, in seconds."""
    limits = {"connect_s": 3.0, "first_token_s": 8.0, "stall_s": 10.0, "answer_s": 12.0}
    beside = {"first_token": 10.0, "answer": 30.0}
    shrunk: dict[str, Any] = {name: round(s * scale, 3) for name, s in limits.items()}
    return shrunk | {"beside_s": {name: round(s * scale, 3) for name, s in beside.items()}}


def configuration(
    cases: Sequence[FaultCase], provider: str, keys: Path, *, mode: str, scale: float
) -> dict[str, Any]:
    """Return the sidecar's configuration: an app and two endpoints for each case.

    Args:
        keys: a directory for the apps' keys; each is the name of its app's incumbent.
    """
    pairs = {case.model: (case.model, case.spare) for case in cases}
    pairs |= {DOWN: (DOWN, f"{DOWN}-too"), HEALTHY: (HEALTHY, f"{HEALTHY}-too")}
    keys.mkdir(parents=True)
    for name in pairs:
        (keys / name).write_text(name)
    provided = {
        "provider": "loopback",
        "prices": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2},
        "timeouts": timeouts(scale),
    }
    return {
        "providers": {"loopback": {"base_url": f"{provider}/v1", "auth": "none"}},
        "models": {
            model: {"context_tokens": tokens}
            for pair in pairs.values()
            for model, tokens in zip(pair, (8192, 128_000), strict=True)
        },
        "endpoints": [
            {"id": model, "model": model, "region": name, **provided}
            for name, pair in pairs.items()
            for model in pair
        ],
        "apps": {name: _app(name, keys / name, mode) for name in pairs},
    }


def _app(incumbent: str, key: Path, mode: str) -> dict[str, Any]:
    return {
        "keys": [{"file": str(key)}],
        "mode": "observe",
        "incumbent": incumbent,
        "regions": [incumbent],
        "fallback": "any",
        "stream": mode,
    }


def cases_of(faults: Sequence[int], runs: int) -> list[FaultCase]:
    """Return every case that is to be played."""
    ways = [(fault, True) for fault in faults]
    ways += [(fault, False) for fault in faults if fault in BOTH_WAYS]
    return [FaultCase(fault, run, streamed) for fault, streamed in ways for run in range(runs)]


async def play(
    script: SixteenFaults,
    provider: ScriptedProvider,
    running: RunningSidecar,
    cases: list[FaultCase],
) -> tuple[list[FaultRun], tuple[int, int]]:
    """Return the runs of every case, and calls and attempts where everything was down."""
    async with (
        provider.listening(),
        AsyncOpenAI(base_url=running.url, api_key="unused", max_retries=0) as sdk,
    ):
        player = FaultPlayer(running.url, sdk, script)
        down = await player.all_down()
        return await player.play_all(cases), down


async def play_modes(
    parts: dict[str, tuple[SixteenFaults, ScriptedProvider, RunningSidecar]], cases: list[FaultCase]
) -> dict[str, tuple[list[FaultRun], tuple[int, int]]]:
    """Play the cases in every mode at the same time; return what came of each."""
    played = await asyncio.gather(*(play(*parts[mode], cases) for mode in parts))
    return dict(zip(parts, played, strict=True))


def with_books(runs: list[FaultRun], running: RunningSidecar) -> list[FaultRun]:
    """Return the runs with what the sidecar booked of those whose books are looked at."""
    wanted = [run for run in runs if run.fault == 16]
    n_expected = sum(len(run.primary) + len(run.spare) for run in wanted)
    booked = booked_attempts(running, [run.primary_model for run in wanted], n_expected=n_expected)
    return [
        replace(run, booked=tuple(booked.get(run.primary_model, ()))) if run in wanted else run
        for run in runs
    ]


def row(runs: Sequence[FaultRun]) -> dict[str, Any]:
    """Return what is said of one fault in one mode."""
    judged = [(*judge_run(run), run) for run in runs]
    verdict = worst([each for each, _, _ in judged])
    _, why, example = next(item for item in judged if item[0] is verdict)
    times = [call.took_s for run in runs for call in run.calls]
    view = example.calls[-1]
    who = "primary" if view.model == example.primary_model else "spare"
    return {
        "verdict": WORDS[verdict],
        "runs": {word: sum(v is each for v, _, _ in judged) for each, word in WORDS.items()},
        "why": why,
        "client": f"{view.end} ({who})" if view.model else f"{view.end} {view.error}".strip(),
        "attempts": sorted({(len(run.primary), len(run.spare)) for run in runs}),
        "median_s": round(statistics.median(times), 3),
        "longest_s": round(max(times), 3),
    }


def report(played: dict[str, tuple[list[FaultRun], tuple[int, int]]]) -> dict[str, Any]:
    """Return the figures: counts of each mode, a row for each fault."""
    numbers = sorted({run.fault for runs, _ in played.values() for run in runs})
    faults: list[dict[str, Any]] = [
        {"fault": n, "name": NAMES[n]}
        | {mode: row([r for r in runs if r.fault == n]) for mode, (runs, _) in played.items()}
        for n in numbers
    ]
    counts = {
        mode: {word: sum(f[mode]["verdict"] == word for f in faults) for word in WORDS.values()}
        for mode in played
    }
    down = {mode: {"calls": n, "attempts": m} for mode, (_, (n, m)) in played.items()}
    return counts | {"faults": faults, "all_down": down}


def is_sound(figures: dict[str, Any]) -> bool:
    """Return whether everything passed that can."""
    for fault in figures["faults"]:
        allowed = ("passed", "safe") if fault["fault"] in TOLD_IN_LIVE else ("passed",)
        if fault["buffered"]["verdict"] != "passed" or fault["live"]["verdict"] not in allowed:
            return False
    return all(
        down["attempts"] <= ATTEMPTS_A_CALL * down["calls"] + ATTEMPTS_BEYOND
        for down in figures["all_down"].values()
    )


def table(figures: dict[str, Any]) -> str:
    """Return the figures as a table for people; attempts are those at primary + spare."""
    lines = [f"{'fault':40} {'mode':9} {'verdict':8} {'attempts':14} {'median':>7} {'most':>7}"]
    for fault in figures["faults"]:
        for mode in MODES:
            said = fault[mode]
            attempts = " ".join(f"{a}+{b}" for a, b in said["attempts"][:3])
            why = said["why"]
            lines.append(
                f"{fault['fault']:2} {fault['name']:37} {mode:9} {said['verdict']:8} "
                f"{attempts:14} {said['median_s']:6.2f}s {said['longest_s']:6.2f}s  "
                f"{said['client'][:70]}" + (f"; {why[:70]}" if why not in said["client"] else "")
            )
    for mode in MODES:
        counts = ", ".join(f"{n} {word}" for word, n in figures[mode].items())
        down = figures["all_down"][mode]
        lines.append(
            f"{mode}: {counts}; all down: {down['attempts']} attempts, {down['calls']} calls"
        )
    return "\n".join(lines)


def prove_failover(cases: list[FaultCase], scale: float) -> dict[str, Any]:
    """Play all cases in both modes; return the figures.

    Raises:
        DidNotStart: a sidecar never came up.
    """
    with tempfile.TemporaryDirectory(prefix="pm-prove-") as temporary, ExitStack() as started:
        parts: dict[str, tuple[SixteenFaults, ScriptedProvider, RunningSidecar]] = {}
        for mode in MODES:
            script = SixteenFaults(scale)
            provider, directory = ScriptedProvider(script), Path(temporary) / mode
            value = configuration(cases, provider.url(), directory / "keys", mode=mode, scale=scale)
            running = started.enter_context(sidecar(directory, value))
            parts[mode] = script, provider, running
        played = asyncio.run(play_modes(parts, cases))
        return report(
            {mode: (with_books(runs, parts[mode][2]), d) for mode, (runs, d) in played.items()}
        )


def shown_configuration(scale: float) -> str:
    """Return the configuration of one run, as it is printed."""
    with tempfile.TemporaryDirectory(prefix="pm-prove-") as temporary:
        value = configuration(
            [FaultCase(1, 0)], "http://provider", Path(temporary) / "keys", mode="…", scale=scale
        )
    value["endpoints"] = [json.loads(json.dumps(e)) for e in value["endpoints"][:2]]  # no anchors
    value["models"] = {e["id"]: value["models"][e["id"]] for e in value["endpoints"]}
    value["apps"] = {"1.0": value["apps"]["1.0"] | {"keys": [{"file": "…"}]}}
    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True))


def main(argv: Sequence[str]) -> int:
    """Play sixteen faults of a provider to the sidecar; return the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/prove failover", description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help="3 runs, waits a tenth as long")
    parser.add_argument("--runs", type=int, help=f"of each fault; else {RUNS}")
    parser.add_argument("--only", help="numbers of faults, such as 6,7")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    runs = options.runs if options.runs is not None else QUICK_RUNS if options.quick else RUNS
    try:
        faults = sorted({int(n) for n in options.only.split(",")}) if options.only else list(NAMES)
    except ValueError:
        faults = []
    if runs < 1 or not faults or not set(faults) <= set(NAMES):
        parser.error("--runs is a whole number from 1, --only numbers from 1 to 16")
    scale = QUICK_SCALE if options.quick else 1.0
    print(shown_configuration(scale), file=sys.stderr)
    began = time.monotonic()
    try:
        figures = prove_failover(cases_of(faults, runs), scale)
    except (DidNotStart, ConfigError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    print(f"took {time.monotonic() - began:.0f} s", file=sys.stderr)
    print(json.dumps(figures) if options.json else table(figures))
    return 0 if is_sound(figures) else 1
