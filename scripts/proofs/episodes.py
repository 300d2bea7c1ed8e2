"""The proof that credit for the whole finds who fits together. `scripts/prove episodes`.

A simulated agent of three roles plays its episodes through a sidecar, in one process and without
sockets; whether an episode succeeds depends on who plays all of its parts. The ways to route and
to judge are compared on the same luck:

- whole: a locked app, told once of each episode whether it succeeded
- unlocked: the same, where each task of an episode draws for itself
- calls: a locked app, told of each call whether its answer looks good
- guarded: as whole and calls, with those as incumbents who look best in each part
- uniform: a map by chance in each episode; best: the best map in all of them

It fails where the whole does not beat calls and unlocked by a margin, or where a word on an episode
counts otherwise than once for each role and endpoint of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct

from scripts.proofs.episode_play import (
    Arm,
    EpisodePlay,
    EpisodeSetting,
    EpisodesPlayed,
    Words,
    played_by,
)
from scripts.proofs.episode_sabotage import CreditSabotage
from scripts.proofs.episode_world import PARTS, TOGETHER, AgentWorld, RoleMap
from scripts.proofs.policy import without_logs

SEEDS, EPISODES = 20, 1_500
QUICK_SEEDS, QUICK_EPISODES = 3, 400
UNIFORM, BEST = "uniform", "best"
WHOLE, UNLOCKED, CALLS = (
    Arm("whole"),
    Arm("unlocked", locked=False),
    Arm("calls", words=Words.CALLS),
)
GUARDED = Arm("guarded whole", guarded=True)
GUARDED_CALLS = Arm("guarded calls", words=Words.CALLS, guarded=True)
QUICK_ROWS: tuple[tuple[AgentWorld, Arm | str], ...] = (
    (PARTS, WHOLE),
    (PARTS, UNLOCKED),
    (PARTS, CALLS),
    (PARTS, UNIFORM),
    (PARTS, BEST),
)
ROWS = (
    *QUICK_ROWS,
    (PARTS, GUARDED),
    (PARTS, GUARDED_CALLS),
    (TOGETHER, WHOLE),
    (TOGETHER, UNIFORM),
    (TOGETHER, BEST),
)


class Margin(Struct, frozen=True):
    """By how much one arm must succeed more often than another, on the mean over seeds."""

    better: str
    worse: str
    figure: str
    least: float


MARGINS = (
    Margin("whole", "calls", "last_third", 0.15),
    Margin("whole", "unlocked", "all", 0.05),
    Margin("guarded whole", "guarded calls", "last_third", 0.05),
)
"""The best map succeeds .43 more often than the praised one. Of the last third of 1,500 episodes
.40 of that was there, and .18 over one that is not locked of all: a third of each is asked, since
short runs are asked for it as well. Luck alone moves two means over three seeds by .02."""
FOUND = 0.8
"""Share of seeds that end with the best map, of runs of full length; it was all of twenty."""


class EpisodeRow(Struct, frozen=True):
    """What one arm did in one world, a number a seed."""

    world: str
    arm: str
    all: list[float]  # share of episodes that succeeded
    last_third: list[float]  # the same, of the last third
    best_map: list[float]  # share of the last third that the best map played
    regret: list[float]  # successes fewer than the best map's, expected
    ended: dict[str, int]  # seeds by the map that most of their last third was played by
    alarms: int
    released: int
    miscounted: int

    @classmethod
    def of(cls, world: AgentWorld, arm: str, played: Sequence[EpisodesPlayed]) -> EpisodeRow:
        """Return what several seeds came to."""
        lasts = [one.maps[-_third(len(one.maps)) :] for one in played]
        best = world.success_of(world.best)
        return cls(
            world=world.name,
            arm=arm,
            all=[float(one.succeeded.mean()) for one in played],
            last_third=[float(one.succeeded[-_third(len(one.maps)) :].mean()) for one in played],
            best_map=[float(np.mean([m == world.best for m in last])) for last in lasts],
            regret=[float((best - one.worth).sum()) for one in played],
            ended=dict(Counter(_ending(world, last) for last in lasts)),
            alarms=sum(one.alarms for one in played),
            released=sum(one.released for one in played),
            miscounted=sum(one.miscounted for one in played),
        )

    def figures(self) -> dict[str, Any]:
        """Return the figures of the row, each with its sd over seeds."""
        out: dict[str, Any] = {"world": self.world, "arm": self.arm}
        for name in ("all", "last_third", "best_map", "regret"):
            values = getattr(self, name)
            out[name] = float(np.mean(values))
            out[f"{name}_sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
        rest = ("ended", "alarms", "released", "miscounted")
        return {**out, **{name: getattr(self, name) for name in rest}}


class EpisodesFound(Struct, frozen=True):
    """What came of all rows."""

    rows: list[EpisodeRow]
    seeds: int
    episodes: int

    def kept(self) -> dict[str, bool]:
        """Return which promises are kept."""
        by_arm = {row.arm: row for row in self.rows if row.world == PARTS.name}
        out = {"each word counts once": not any(row.miscounted for row in self.rows)}
        for margin in MARGINS:
            if margin.better in by_arm and margin.worse in by_arm:
                better, worse = (
                    float(np.mean(getattr(by_arm[arm], margin.figure)))
                    for arm in (margin.better, margin.worse)
                )
                more = better - worse
                name = f"{margin.better} beats {margin.worse} by {margin.least}: {more:.3f}"
                out[name] = more >= margin.least
        if WHOLE.name in by_arm and self.episodes >= EPISODES:
            found = by_arm[WHOLE.name].ended.get("best", 0)
            out[f"{found} of {self.seeds} find the best map"] = found >= FOUND * self.seeds
        return out

    def figures(self) -> dict[str, Any]:
        """Return the figures of the proof."""
        rows = [row.figures() for row in self.rows]
        return {
            "seeds": self.seeds,
            "episodes": self.episodes,
            "rows": rows,
            "kept": self.kept(),
        }


class EpisodesPart(Struct, frozen=True):
    """One seed of one row."""

    row: int
    world: AgentWorld
    arm: Arm | str
    seed: int
    n_episodes: int
    sabotage: CreditSabotage | None


def play_part(part: EpisodesPart) -> tuple[int, int, EpisodesPlayed]:
    """Return row, seed and what came of them."""
    world, n = part.world, part.n_episodes
    if isinstance(part.arm, str):
        rng, maps = np.random.default_rng([part.seed, n]), world.maps()
        chosen = rng.integers(len(maps), size=n) if part.arm == UNIFORM else np.zeros(n, dtype=int)
        played = [maps[i] if part.arm == UNIFORM else world.best for i in chosen.tolist()]
        return part.row, part.seed, played_by(world, played, part.seed)
    setting = EpisodeSetting(world, part.arm, n, part.sabotage)
    with tempfile.TemporaryDirectory(prefix="pm-prove-") as directory, without_logs():
        played_out = asyncio.run(EpisodePlay(setting, part.seed, Path(directory)).run())
    return part.row, part.seed, played_out


def prove_episodes(
    seeds: int,
    n_episodes: int,
    *,
    rows: Sequence[tuple[AgentWorld, Arm | str]] = ROWS,
    jobs: int = 1,
    sabotage: CreditSabotage | None = None,
) -> EpisodesFound:
    """Return what came of every row; seeds are 0 to `seeds` − 1, so that figures repeat.

    Args:
        jobs: processes.
    """
    parts = [
        EpisodesPart(row, world, arm, seed, n_episodes, sabotage)
        for seed in range(seeds)
        for row, (world, arm) in enumerate(rows)
    ]
    if jobs == 1:
        found = list(map(play_part, parts))
    else:
        context = multiprocessing.get_context("spawn")
        with context.Pool(jobs, maxtasksperchild=20) as pool:
            found = []
            for one in pool.imap_unordered(play_part, parts):
                found.append(one)
                print(f"{len(found)} of {len(parts)} runs", file=sys.stderr, flush=True)
    by_row = [
        [played for of, _, played in sorted(found, key=lambda f: f[:2]) if of == row]
        for row in range(len(rows))
    ]
    names = [arm if isinstance(arm, str) else arm.name for _, arm in rows]
    out = [
        EpisodeRow.of(world, name, played)
        for (world, _), name, played in zip(rows, names, by_row, strict=True)
    ]
    return EpisodesFound(out, seeds, n_episodes)


def main(argv: Sequence[str]) -> int:
    """Play an agent's episodes under several ways to route and to judge; return the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/prove episodes", description=main.__doc__)
    sizes = f"{QUICK_SEEDS} seeds of {QUICK_EPISODES} episodes, in learning mode only"
    parser.add_argument("--quick", action="store_true", help=sizes)
    parser.add_argument("--seeds", type=int, help=f"how many; else {SEEDS}")
    parser.add_argument("--episodes", type=int, help=f"of each seed; else {EPISODES}")
    parser.add_argument("--jobs", type=int, default=2, help="processes; else 2")
    parser.add_argument(
        "--sabotage", choices=list(CreditSabotage), help="credit wrongly on purpose"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    seeds, n_episodes = (QUICK_SEEDS, QUICK_EPISODES) if options.quick else (SEEDS, EPISODES)
    seeds = seeds if options.seeds is None else options.seeds
    n_episodes = n_episodes if options.episodes is None else options.episodes
    if seeds < 1 or n_episodes < 3 or options.jobs < 1:
        parser.error("--seeds and --jobs are whole numbers from 1, --episodes one from 3")
    sabotage = CreditSabotage(options.sabotage) if options.sabotage else None
    rows = QUICK_ROWS if options.quick else ROWS
    began = time.monotonic()
    found = prove_episodes(seeds, n_episodes, rows=rows, jobs=options.jobs, sabotage=sabotage)
    print(f"took {time.monotonic() - began:.0f} s", file=sys.stderr)
    if options.json:
        print(json.dumps(found.figures()))
    else:
        _print_table(found)
    return 0 if all(found.kept().values()) else 1


def _print_table(found: EpisodesFound) -> None:
    print(f"{found.seeds} seeds of {found.episodes} episodes; mean ± sd over seeds")
    print(f"{'world':10}{'arm':15}{'success':>15}{'last third':>15}{'best map':>15}{'regret':>12}")
    for row in found.figures()["rows"]:
        cells = [
            f"{row[name]:.3f} ± {row[f'{name}_sd'] or 0:.3f}"
            for name in ("all", "last_third", "best_map")
        ]
        regret = f"{row['regret']:.0f} ± {row['regret_sd'] or 0:.0f}"
        ended = ", ".join(f"{n} {how}" for how, n in sorted(row["ended"].items()))
        lines = "".join(f"{cell:>15}" for cell in cells)
        print(f"{row['world']:10}{row['arm']:15}{lines}{regret:>12}  ended: {ended}")
    for name, is_kept in found.kept().items():
        print(f"{'kept' if is_kept else 'MISSED'}: {name}")


def _third(n: int) -> int:
    return max(n // 3, 1)


def _ending(world: AgentWorld, last: Sequence[RoleMap | None]) -> str:
    """Return what most of the last episodes were played by."""
    (often, _) = Counter(last).most_common(1)[0]
    if often is None:
        return "mixed"
    if often == world.best:
        return "best"
    return "locally best" if world.is_local(often) else "another"
