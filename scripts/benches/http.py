"""`bench http`: the sidecar beside nginx as reverse proxy, over the same upstream, in one run.

CPU is what the kernel booked for the processes, so it holds on a busy machine; latencies are
interleaved, call by call, between the targets. Judge by the ratios, never by microseconds.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from router.demo.stack import stack
from scripts.benches import idle
from scripts.benches.http_load import body_of, in_turn, saturate
from scripts.benches.http_targets import (
    OTHER_CORE,
    Subject,
    cpu_us,
    peers,
    pinned,
    pss_mb,
    python_used,
    require,
    say,
    targets,
    ten_endpoints,
)
from scripts.benches.upstream import N_CHUNKS

IDLE_S = 60.0
"""`bench idle` looks for five minutes."""
LATENCY_RPS = 100
TTFT_RPS = 20
WARM_S = 0.5
FOLDED_S = 0.5
"""After a load: the worker has yet to fold the last of it, and the observer to read it."""


@dataclass(slots=True)
class Samples:
    """Figures of all rounds, by target and measure."""

    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, target: str, measure: str, value: float) -> None:
        """Note one round's figure."""
        self.values.setdefault(target, {}).setdefault(measure, []).append(value)

    def ratio(
        self, measure: str, over: str = "nginx", of: str = "pointsman", *, than: str = ""
    ) -> float | None:
        """Return the median of the rounds' own ratios.

        Args:
            than: the measure of the other, where it is not the same.
        """
        ours = self.values.get(of, {}).get(measure, [])
        theirs = self.values.get(over, {}).get(than or measure, [])
        pairs = [a / b for a, b in zip(ours, theirs, strict=False) if b > 0]
        return statistics.median(pairs) if pairs else None


def run_bench(*, rounds: int, seconds: float, others: Sequence[str]) -> dict[str, Any]:
    """Measure; return medians, spreads and ratios.

    Args:
        others: peers that are measured as well.

    Raises:
        MissingProgram: nginx, wrk or taskset is not there, or the machine has one core only.
    """
    require()
    samples = Samples()
    with tempfile.TemporaryDirectory(prefix="pointsman-bench-") as temporary:
        directory = Path(temporary)
        with pinned(OTHER_CORE), stack(directory) as processes:
            upstream = processes.listen("upstream", "scripts.benches.upstream")
            configuration = ten_endpoints(upstream)
            with (
                targets(directory, processes, configuration, upstream) as own,
                peers(directory, upstream, others) as theirs,
            ):
                subjects = [*own, *theirs]
                for number in range(rounds):
                    say(f"round {number + 1} of {rounds}")
                    _round(subjects, samples, directory, seconds)
                for target in subjects[1:]:
                    samples.add(target.name, "memory_mb", sum(map(pss_mb, target.pids())))
                    everything = [*target.pids(), *target.helpers()]
                    samples.add(target.name, "memory_mb_all", sum(map(pss_mb, everything)))
    say(f"an idle stack, for {IDLE_S:g} s once it is calm")
    at_rest = idle.run_bench(seconds=IDLE_S)
    kept = {name: at_rest[name] for name in ("idle_cpu_share", "memory_mb", "start_s")}
    return kept | _summary(samples, rounds=rounds, seconds=seconds, others=others)


def _round(subjects: list[Subject], samples: Samples, directory: Path, seconds: float) -> None:
    """Measure every target once, in turn."""
    for streamed in (False, True):
        for connections in (16, 1):
            for target in subjects[1:]:
                what = f"cpu_us_c{connections}" + ("_stream" if streamed else "")
                body = body_of(streamed=streamed)
                _load(target, samples, directory, what, connections, seconds, body)
    for target in subjects[1:]:
        body = body_of(streamed=True, paced=True)
        _load(target, samples, directory, "cpu_us_paced", 16, seconds, body)
        per_stream = samples.values[target.name]["cpu_us_paced"][-1]
        samples.add(target.name, "cpu_us_chunk", per_stream / N_CHUNKS)
    plain = asyncio.run(in_turn(subjects, LATENCY_RPS, seconds, body_of(streamed=False)))
    paced = body_of(streamed=True, paced=True)
    first = asyncio.run(in_turn(subjects, TTFT_RPS, seconds, paced))
    for name, found in plain.items():
        samples.add(name, "p50_us", _quantile(found, 0.5))
        samples.add(name, "p99_us", _quantile(found, 0.99))
    for name, found in first.items():
        samples.add(name, "ttft_us", _quantile(found, 0.5))
    for target in subjects[1:]:
        for measure in ("p50_us", "p99_us", "ttft_us"):
            own = samples.values[target.name][measure][-1]
            direct = samples.values["direct"][measure][-1]
            samples.add(target.name, f"added_{measure}", own - direct)


def _load(
    target: Subject,
    samples: Samples,
    directory: Path,
    what: str,
    connections: int,
    seconds: float,
    body: bytes,
) -> None:
    """Saturate a target; note the CPU of a call, of the proxy and of all that belongs to it."""
    saturate(target, directory, connections=connections, seconds=WARM_S, body=body)
    before, helpers_before = cpu_us(target.pids()), cpu_us(target.helpers())
    calls = saturate(target, directory, connections=connections, seconds=seconds, body=body)
    if target.helpers():
        time.sleep(FOLDED_S)
    used = cpu_us(target.pids()) - before
    helped = cpu_us(target.helpers()) - helpers_before
    samples.add(target.name, what, used / max(calls, 1))
    samples.add(target.name, f"{what}_all", (used + helped) / max(calls, 1))
    samples.add(target.name, f"{what}_rps", calls / seconds)


def _summary(
    samples: Samples, *, rounds: int, seconds: float, others: Sequence[str]
) -> dict[str, Any]:
    out: dict[str, Any] = {
        "cpu_ratio_c16": shown(samples.ratio("cpu_us_c16")),
        "cpu_ratio_c16_all": shown(samples.ratio("cpu_us_c16_all")),
        "cpu_ratio_c1": shown(samples.ratio("cpu_us_c1")),
        "cpu_ratio_c1_all": shown(samples.ratio("cpu_us_c1_all")),
        "cpu_ratio_chunk": shown(samples.ratio("cpu_us_chunk")),
        "added_p50_ratio": shown(samples.ratio("added_p50_us")),
        "added_ttft_ratio": shown(samples.ratio("added_ttft_us")),
        "added_p99_ratio": shown(samples.ratio("added_p99_us")),
        "cpu_ratio_c16_stream": shown(samples.ratio("cpu_us_c16_stream")),
        "cpu_ratio_c1_stream": shown(samples.ratio("cpu_us_c1_stream")),
        "rounds": rounds,
        "seconds": seconds,
        "python": python_used(),
    }
    measures = ("cpu_us_c16", "cpu_us_c1", "added_p50_us", "cpu_us_chunk", "added_ttft_us")
    out["peers"] = {
        name: {m: shown(samples.ratio(m, over="pointsman", of=name)) for m in measures}
        for name in others
    }
    out["targets"] = {
        target: {
            measure: {
                "median": shown(statistics.median(values)),
                "min": shown(min(values)),
                "max": shown(max(values)),
            }
            for measure, values in measures_of.items()
        }
        for target, measures_of in samples.values.items()
    }
    return out


def shown(value: float | None) -> float | None:
    """Return a figure as it is told."""
    return None if value is None else round(value, 2)


def print_table(result: dict[str, Any]) -> None:
    """Print medians by target, then the ratios."""
    console = Console()
    table = Table(box=None, title="medians (µs a call, µs a chunk, µs added, MB)")
    names = [n for n in result["targets"] if n != "direct"]
    table.add_column("measure")
    for name in names:
        table.add_column(name, justify="right")
    for measure in result["targets"]["pointsman"]:
        cells = [result["targets"][n].get(measure, {}).get("median") for n in names]
        table.add_row(measure, *["–" if c is None else f"{c:g}" for c in cells])
    console.print(table)
    for name, value in result.items():
        if "ratio" in name or name in ("idle_cpu_share", "memory_mb", "start_s", "python"):
            console.print(f"{name} {value}")
    for name, ratios in result.get("peers", {}).items():
        told = ", ".join(f"{measure} {ratio}" for measure, ratio in ratios.items())
        console.print(f"{name} ÷ pointsman: {told}")


def _quantile(values: list[float], q: float) -> float:
    return sorted(values)[min(int(q * len(values)), len(values) - 1)]
