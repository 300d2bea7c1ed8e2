"""`bench http --mix ordinary`: what a call costs at 20 and at 150 a second, and at saturation.

Open loop at the rates, beside nginx over the same upstream. Whatever a stack does while nobody
calls is booked to the few calls that there are.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from router.demo.stack import stack
from scripts.benches.http import FOLDED_S, Samples, shown
from scripts.benches.http_targets import (
    OTHER_CORE,
    Subject,
    cpu_us,
    pinned,
    python_used,
    require,
    say,
    targets,
)
from scripts.benches.ordinary_calls import TASKS, Callers

RATES_RPS = (150, 20)
AT_ONCE = 128
"""Calls under way at saturation: an answer takes some 70 ms."""
WARM_S = 4.0
MAX_FAILED = 1e-3
"""Providers fail a part of their calls: now and then whoever is asked next does as well."""


def run_bench(*, rounds: int, seconds: float) -> dict[str, Any]:
    """Measure; return medians and ratios.

    Args:
        seconds: at each rate, in each round.

    Raises:
        MissingProgram: as of `bench http`.
    """
    require()
    samples = Samples()
    with tempfile.TemporaryDirectory(prefix="pointsman-bench-") as temporary:
        directory = Path(temporary)
        with pinned(OTHER_CORE), stack(directory) as processes:
            upstream = processes.listen("upstream", "scripts.benches.ordinary_upstream")
            configuration = eight_endpoints(upstream)
            with targets(directory, processes, configuration, upstream) as subjects:
                for number in range(rounds):
                    say(f"round {number + 1} of {rounds}")
                    for target in subjects[1:]:
                        asyncio.run(_round(target, samples, seconds))
    return _summary(samples, rounds=rounds, seconds=seconds)


def eight_endpoints(upstream: int) -> dict[str, Any]:
    """Return a learning sidecar with eight endpoints and eight tasks."""
    endpoints = [
        {
            "id": name,
            "model": name,
            "base_url": f"http://127.0.0.1:{upstream}/{name}/v1",
            "prices": {"input_usd_per_mtok": i + 1, "output_usd_per_mtok": 2 * i + 2},
        }
        for i, name in enumerate("abcdefgh")
    ]
    return {
        "endpoints": endpoints,
        "tasks": dict.fromkeys(TASKS),
        "strategies": {"learn": {"objective": "quality", "incumbent": "none"}},
        "apps": {"default": {"mode": "route", "strategy": "learn"}},
    }


async def _round(target: Subject, samples: Samples, seconds: float) -> None:
    """Measure one target at saturation, then at each rate."""
    callers = Callers(target.port, tells=bool(target.helpers()))
    await callers.saturate(WARM_S, n_at_once=AT_ONCE)
    with _booked(target, samples, "full", callers):
        await callers.saturate(seconds / 2, n_at_once=AT_ONCE)
    for rps in RATES_RPS:
        await callers.at_rate(1.0, rps)
        with _booked(target, samples, str(rps), callers):
            await callers.at_rate(seconds, rps)
    callers.close()
    if callers.failures.total() > MAX_FAILED * callers.n_calls:
        raise RuntimeError(f"{target.name}: of {callers.n_calls} calls failed {callers.failures}")


@contextmanager
def _booked(target: Subject, samples: Samples, what: str, callers: Callers) -> Iterator[None]:
    """Book what a target's processes use meanwhile to the calls that are made."""
    time.sleep(FOLDED_S)
    n, began, before = callers.n_calls, time.monotonic(), _used_us(target)
    yield
    if target.helpers():
        time.sleep(FOLDED_S)
    n, passed_us = callers.n_calls - n, (time.monotonic() - began) * 1e6
    own, all_of_it = (now - then for now, then in zip(_used_us(target), before, strict=True))
    samples.add(target.name, f"cpu_us_{what}", own / n)
    samples.add(target.name, f"cpu_us_{what}_all", all_of_it / n)
    samples.add(target.name, f"core_share_{what}_all", all_of_it / passed_us)
    samples.add(target.name, f"rps_{what}", n / passed_us * 1e6)


def _used_us(target: Subject) -> tuple[float, float]:
    """Return the CPU of the proxy, and of all that belongs to it."""
    own = cpu_us(target.pids())
    return own, own + cpu_us(target.helpers())


def _summary(samples: Samples, *, rounds: int, seconds: float) -> dict[str, Any]:
    def against_full(what: str, *, of: str = "pointsman", kind: str = "") -> float | None:
        measure, full = f"cpu_us_{what}{kind}", f"cpu_us_full{kind}"
        return shown(samples.ratio(measure, of, of, than=full))

    out: dict[str, Any] = {}
    for what in map(str, RATES_RPS):
        out[f"cpu_ratio_{what}"] = against_full(what, kind="_all")
        out[f"cpu_ratio_{what}_router"] = against_full(what)
        out[f"cpu_ratio_{what}_of_nginx"] = against_full(what, of="nginx")
    for what in ("full", *map(str, RATES_RPS)):
        out[f"cpu_ratio_to_nginx_{what}"] = shown(samples.ratio(f"cpu_us_{what}"))
        out[f"cpu_ratio_to_nginx_{what}_all"] = shown(samples.ratio(f"cpu_us_{what}_all"))
    told = {
        target: {
            measure: {
                "median": shown(sorted(v)[len(v) // 2]),
                "min": shown(min(v)),
                "max": shown(max(v)),
            }
            for measure, v in measures.items()
        }
        for target, measures in samples.values.items()
    }
    return {**out, "rounds": rounds, "seconds": seconds, "python": python_used(), "targets": told}
