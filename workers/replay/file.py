"""Replay of a file: a table of recorded outcomes in, figures and a plot out.

Seeds run in parallel processes; the figures are the same as without, since every seed has
generators of its own.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandit.replay import baselines, figures
from bandit.replay.baselines import Policy
from bandit.replay.figures import SeedFigures
from bandit.replay.loop import Loop, Profile, Rules
from bandit.replay.run import Hindsight, Pointsman, Trace, fixed_policy, hindsight, run
from bandit.replay.scenarios import Outcomes, Scenario, Stream, make_stream
from telemetry.recorded import Recorded, Selection, load, models
from telemetry.tables import BadTable, numbers_in, read

OURS = "pointsman"
HINDSIGHT = ("best-per-category", "best-single", "lp-mix")
POLICIES = (OURS, *HINDSIGHT, *baselines.LEARNERS)
USUAL = "usual"
"""Name under which our own stationary run is kept, to compare shares with."""


class BadSettings(Exception):
    """The settings do not fit the table; the message names field, value and fix."""


@dataclass(frozen=True, slots=True)
class ReplaySettings:
    """What to replay; arms by name, as the table has them."""

    file: Path
    selection: Selection
    policies: tuple[str, ...]
    strategy: str
    rules: Rules  # without arms: those come by name
    incumbent: str | None
    holdout_endpoint: str | None
    profile: int
    prior_file: Path | None
    prior_where: tuple[str, ...]
    scenario: Scenario
    seeds: int
    repeat: int | None
    calls_per_second: float
    arrivals: Path | None


@dataclass(frozen=True, slots=True)
class World:
    """Everything that a seed needs; sent once to each process."""

    outcomes: Outcomes
    prior: Outcomes | None
    known: Hindsight
    rules: Rules
    settings: ReplaySettings
    median: int
    arrivals_ms: NDArray[np.int64] | None


def prepare(settings: ReplaySettings) -> tuple[World, Recorded]:
    """Return the world that the settings describe, and the table it was made from.

    Raises:
        BadTable: the table, or that of the prior, cannot be used.
        BadSettings: the settings do not fit it.
    """
    selection, prior = settings.selection, None
    if settings.prior_file is not None or settings.prior_where:
        file = settings.prior_file or settings.file
        before = Selection(where=settings.prior_where)
        shared = set(models(file, before)) & set(models(settings.file, selection))
        if not shared:
            raise BadSettings("the prior and the selected rows share no priced endpoint")
        selection = replace(selection, endpoints=tuple(sorted(shared)))
        prior = to_outcomes(load(file, replace(before, endpoints=selection.endpoints)))
    table = load(settings.file, selection)
    outcomes = to_outcomes(table)
    rules = _with_arms(settings, outcomes)
    if outcomes.latency_s is None:  # what was not measured is not priced
        objective = replace(rules.objective, latency_usd_per_s=0.0)
        rules = replace(rules, objective=objective)
    needs_latency = rules.limits.latency_s is not None or settings.strategy == "fastest"
    if needs_latency and outcomes.latency_s is None:
        raise BadSettings(
            f"{table.name}: no column 'latency_s', which this strategy or limit needs"
        )
    by_quality = outcomes.quality.mean(axis=0)
    world = World(
        outcomes=outcomes,
        prior=prior,
        known=hindsight(outcomes, rules),
        rules=rules,
        settings=settings,
        median=int(np.argsort(by_quality, kind="stable")[(len(by_quality) - 1) // 2]),
        arrivals_ms=None if settings.arrivals is None else _arrivals(settings.arrivals),
    )
    if settings.scenario is Scenario.NEWCOMER and len(outcomes.endpoints) < 2:
        raise BadSettings(
            "--scenario newcomer: needs a second endpoint, to serve until it is there"
        )
    n_prompts = np.bincount(outcomes.category)
    if settings.profile and int(n_prompts.min()) < 2:
        raise BadSettings(
            f"--profile {settings.profile}: category {outcomes.categories[n_prompts.argmin()]} has "
            "a single prompt, so none could be graded; leave it out by --where, or --profile 0"
        )
    return world, table


def to_outcomes(table: Recorded) -> Outcomes:
    """Return the arrays of a table."""
    latency = table.latency_s if "latency_s" in table.measured else None
    return Outcomes(
        table.categories, table.endpoints, table.category, table.quality, table.cost_usd, latency
    )


def _with_arms(settings: ReplaySettings, outcomes: Outcomes) -> Rules:
    places = {name: i for i, name in enumerate(outcomes.endpoints)}
    for option, name in (
        ("--incumbent", settings.incumbent),
        ("--holdout-endpoint", settings.holdout_endpoint),
    ):
        if name is not None and name not in places:
            some = ", ".join(outcomes.endpoints[:12])
            raise BadSettings(
                f"{option} {name}: not among the endpoints selected; these are {some}"
            )
    inc = None if settings.incumbent is None else places[settings.incumbent]
    kept = inc if settings.holdout_endpoint is None else places[settings.holdout_endpoint]
    if settings.rules.holdout and kept is None:
        raise BadSettings(
            f"--holdout {settings.rules.holdout}: say whom it keeps by --holdout-endpoint or "
            "--incumbent"
        )
    return replace(settings.rules, incumbent=inc, holdout_arm=kept)


def _arrivals(file: Path) -> NDArray[np.int64]:
    """Return the times of arrival in a file, in milliseconds from the first."""
    try:
        frame = read(file, needed=("offset_s",), names=(), known=("offset_s",))
    except BadTable as error:
        raise BadTable(f"{error}; arrivals have a column 'offset_s'") from None
    seconds: NDArray[np.float64] = (
        frame.select(numbers_in(frame, "offset_s")[1]).to_series().to_numpy()
    )
    if len(seconds) < 2 or not np.isfinite(seconds).all():
        raise BadTable(f"{file}: offset_s needs at least two finite numbers of seconds")
    ms: NDArray[np.int64] = np.sort(np.rint(seconds * 1000)).astype(np.int64)
    return np.asarray(ms - ms[0])


def stream_of(world: World, seed: int, scenario: Scenario) -> Stream:
    """Return the stream of a seed."""
    settings = world.settings
    return make_stream(
        world.outcomes,
        seed=seed,
        scenario=scenario,
        best_single=world.known.ranking[0],
        median=world.median,
        profile=settings.profile,
        repeat=settings.repeat,
        at_ms=world.arrivals_ms,
        calls_per_second=settings.calls_per_second,
    )


def rules_of(world: World, stream: Stream, *, logged: bool) -> Rules:
    """Return the rules of a stream; a log declares the comparison that it is to serve."""
    if not logged:
        return world.rules
    kept = () if world.rules.holdout_arm is None else (world.rules.holdout_arm,)
    declared = [(arm, *kept) for arm in profile_greedy(world, stream.profile).tolist()]
    return replace(world.rules, declared=tuple(declared))


def make_policy(
    world: World, name: str, stream: Stream, rng: np.random.Generator, *, logged: bool = False
) -> Policy:
    """Return a policy at the start of a stream, with what it may know beforehand."""
    found = fixed_policy(name, world.known, world.rules.budget_usd, rng)
    if found is not None:
        return found
    outcomes = world.outcomes
    shape = (len(outcomes.categories), len(outcomes.endpoints))
    profile = profile_of(world, stream)
    if name == OURS:
        loop = Loop(
            n_categories=shape[0],
            n_arms=shape[1],
            rules=rules_of(world, stream, logged=logged),
            rng=rng,
            profile=profile,
            prior=_prior_of(world, stream),
            n_calls=len(stream),
        )
        return Pointsman(loop, stream)
    known = None
    if profile is not None or world.prior is not None:
        known = np.full(shape, np.nan)
        source = profile or _as_profile(world.prior, outcomes.categories)
        for c in np.unique(source.category):
            known[c] = source.reward[source.category == c].mean(axis=0)
        known[:, ~stream.profiled] = np.nan
    price = world.known.price if world.rules.objective.value_usd else None
    return baselines.Learning(baselines.LEARNERS[name], rng, known, shape, price)


def profile_of(world: World, stream: Stream) -> Profile | None:
    """Return the graded prompts of a stream, None where there are none."""
    if not len(stream.profile):
        return None
    outcomes, rows = world.outcomes, stream.profile
    return Profile(
        category=outcomes.category[rows],
        reward=outcomes.quality[rows],
        cost_usd=outcomes.cost_usd[rows],
        latency_s=None if outcomes.latency_s is None else outcomes.latency_s[rows],
        profiled=stream.profiled,
    )


def _prior_of(world: World, stream: Stream) -> Profile | None:
    """Return the other run that is the prior; a newcomer is new to it, too."""
    if world.prior is None:
        return None
    prior = _as_profile(world.prior, world.outcomes.categories)
    return replace(prior, profiled=prior.profiled & stream.profiled)


def profile_greedy(world: World, rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return (n_categories,) the arm of the best mean over the graded prompts `rows`."""
    outcomes = world.outcomes
    best = [
        outcomes.quality[rows[outcomes.category[rows] == c]].mean(axis=0).argmax()
        for c in range(len(outcomes.categories))
    ]
    return np.array(best, dtype=np.intp)


def _as_profile(prior: Outcomes | None, categories: list[str]) -> Profile:
    """Return another run as graded prompts of the categories that both have."""
    assert prior is not None
    place = np.array([categories.index(c) if c in categories else -1 for c in prior.categories])
    category = place[prior.category]
    rows = category >= 0
    return Profile(
        category=category[rows],
        reward=prior.quality[rows],
        cost_usd=prior.cost_usd[rows],
        latency_s=None if prior.latency_s is None else prior.latency_s[rows],
        profiled=np.ones(len(prior.endpoints), dtype=bool),
    )


def trace_of(
    world: World, name: str, seed: int, scenario: Scenario, *, logged: bool = False
) -> tuple[Stream, Trace]:
    """Return what a policy does on the stream of a seed."""
    stream = stream_of(world, seed, scenario)
    rng = np.random.default_rng([seed, 1])
    policy = make_policy(world, name, stream, rng, logged=logged)
    return stream, run(policy, stream, time.perf_counter, logged=logged)


_world: World | None = None


def _enter(world: World | None) -> None:
    global _world
    _world = world


def world() -> World:
    """Return the world of this process of the pool."""
    assert _world is not None
    return _world


def _job(name: str, seed: int) -> SeedFigures:
    return seed_figures(world(), name, seed)


def seed_figures(world: World, name: str, seed: int) -> SeedFigures:
    """Return the figures of one policy and seed."""
    scenario = Scenario.STATIONARY if name == USUAL else world.settings.scenario
    policy = OURS if name == USUAL else name
    stream, trace = trace_of(world, policy, seed, scenario)
    return figures.measure(
        stream, trace, world.rules, favoured=world.median, learned=policy == OURS
    )


def parallel(
    world: World | None, job: Callable[..., Any], tasks: list[tuple[Any, ...]]
) -> Iterator[Any]:
    """Yield the results of `job(*task)` in the order of the tasks, from all cores.

    Args:
        world: what `world()` returns in every process; None where the tasks name theirs.
    """
    n = min(os.cpu_count() or 1, len(tasks))
    if n == 1:
        _enter(world)
        yield from (job(*task) for task in tasks)
        return
    # One thread a process: the pool is what fills the cores. Spawned, since forks of a process
    # with polars in it hang.
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n, context, initializer=_enter, initargs=(world,)) as pool:
        yield from pool.map(job, *zip(*tasks, strict=True))


@dataclass(slots=True)
class ReplayResult:
    """All figures of a replay."""

    summary: dict[str, Any]
    curves: dict[str, NDArray[np.float64]]  # regret so far, mean over seeds
    n_calls: int


def replay(settings: ReplaySettings, *, progress: Callable[[str], None]) -> ReplayResult:
    """Run every policy on every seed.

    Raises:
        BadTable, BadSettings: what was asked for cannot be replayed.
    """
    world, table = prepare(settings)
    progress(describe(table, settings))
    names = [*settings.policies]
    for needed in ("best-single", "best-per-category"):
        if needed not in names:
            names.append(needed)
    if settings.scenario is Scenario.BIASED_LABELS and OURS in names:
        names.append(USUAL)
    tasks = [(name, seed) for seed in range(settings.seeds) for name in names]
    found: dict[str, list[SeedFigures]] = {name: [] for name in names}
    began = time.monotonic()
    for (name, seed), result in zip(tasks, parallel(world, _job, tasks), strict=True):
        found[name].append(result)
        if name == names[-1]:
            progress(f"{seed + 1} of {settings.seeds} seeds, {time.monotonic() - began:.0f} s")
    n_calls = found[names[0]][0].n_calls
    policies = [
        {
            "policy": name,
            **figures.summarise(
                found[name],
                single=found["best-single"],
                per_category=found["best-per-category"],
                usual=found.get(USUAL) if name == OURS else None,
                budget_usd=world.rules.budget_usd,
            ),
        }
        for name in settings.policies
    ]
    summary = {
        "dataset": table.name,
        "requests": n_calls,
        "endpoints": len(table.endpoints),
        "categories": len(table.categories),
        "seeds": settings.seeds,
        "settings": _settings(settings, table),
        "policies": policies,
    }
    curves = {n: np.mean([f.curve for f in found[n]], axis=0) for n in settings.policies}
    return ReplayResult(summary, curves, n_calls)


def _settings(settings: ReplaySettings, table: Recorded) -> dict[str, Any]:
    rules = asdict(settings.rules)
    limits = rules.pop("limits")
    objective = rules.pop("objective")
    for inner in ("incumbent", "holdout_arm", "sharpness"):  # by place, or not to be asked for
        rules.pop(inner)
    return {
        "where": list(settings.selection.where),
        "strategy": settings.strategy,
        "value_usd": objective["value_usd"],
        "latency_slo_s": limits["latency_s"],
        "latency_prob": limits["latency_prob"],
        **rules,
        "incumbent": settings.incumbent,
        "holdout_endpoint": settings.holdout_endpoint,
        "profile": settings.profile,
        "prior": bool(settings.prior_file or settings.prior_where),
        "scenario": settings.scenario.value,
        "repeat": settings.repeat,
        "calls_per_second": settings.calls_per_second,
        "dropped": table.dropped,
    }


def describe(table: Recorded, settings: ReplaySettings) -> str:
    """Return one line on what was selected, and what was not."""
    gone = ", ".join(f"{n} {k.replace('_', ' ')}" for k, n in table.dropped.items() if n)
    shared = "; only endpoints that the prior has, too" if settings.prior_where else ""
    return (
        f"{table.name}: {len(table.endpoints)} endpoints × {len(table.prompts)} prompts, "
        f"{len(table.categories)} categories" + (f"; left out: {gone}" if gone else "") + shared
    )
