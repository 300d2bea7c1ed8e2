"""The proof of old feedback: each late label counts once, whatever dies. `scripts/prove old`.

A month of calls is folded and archived at handed-in times, so that the store holds nothing of
those older than a day. Then the real workers and jobs run, on a private store, and labels of
decisions of 2 to 29 days ago are sent through the streams: by decision id, by answer id and by
reference; some twice, some corrected, some taken back. Workers and jobs are killed meanwhile, at
random and right after something was put back, until all is at rest.

Two referees say what must be in the rows (`old_verdict`). The audit must find the state equal to
its records, and the archive, restored into an empty store, must give the same bytes.

lost, doubled: labels of a cell that are missing, or too many. misweighted: cells whose labels are
as many as they should be, and weigh something else. wrong_rows: of all families.

Does it see anything? `--sabotage forget` empties what is put back before it is read, `--sabotage
lose` takes away a word that waits. Then the run must end with `doubled`, or `lost`, above 0 and an
exit code that is not 0.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from router.demo.stack import DidNotStart, stack
from scripts.proofs.old_run import OldRun
from scripts.proofs.old_sabotage import OLD_SABOTAGES, OldSabotage
from scripts.proofs.old_verdict import judge_old
from scripts.proofs.old_words import OldWord, first_words, holding, late_words
from scripts.proofs.old_world import (
    LONG_PERIOD_MS,
    N_SHARDS,
    PERIOD_MS,
    live_through,
    make_month,
)
from scripts.proofs.sabotage import NothingToSabotage
from telemetry import keys
from telemetry.address import unix_url
from telemetry.embedded import PrivateServer
from telemetry.store import Address, Client, connect
from workers.archive.archive import Archive, ArchiveLimits
from workers.archive.audit import audit_state
from workers.archive.rebuilt import Rebuilt, parse_rows
from workers.archive.restore import restore

FULL_LABELS, QUICK_LABELS, SABOTAGED_LABELS = 10_000, 1500, 200
DECISIONS_PER_LABEL = 4
FULL_KILLS, QUICK_KILLS = 100, 9
"""At most: where all is at rest before, there is nothing left to disturb."""
FULL_PER_S, QUICK_PER_S = 80.0, 200.0
"""Words sent a second, so that many kills fall in between."""
KEPT_S = (35.0, 60.0)
"""So long ago sidecars received what they could not send before: the archive is asked half a minute
after the receipt."""
SETTLE_S = 240.0
SABOTAGED_SETTLE_S = 60.0


@dataclass(frozen=True, slots=True)
class OldSettings:
    """What to run."""

    labels: int
    kills: int
    seed: int
    per_s: float
    kept_share: float  # of the labels, that a sidecar kept for a while before it could send them
    sabotage: OldSabotage | None = None


@dataclass(slots=True)
class OldResult:
    """The figures of a run, and what else was seen."""

    figures: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether every label counts once, at its weight, and the archive knows it."""
        f = self.figures
        wrong = ("lost", "doubled", "misweighted", "wrong_rows", "dead_lettered", "cold", "held")
        return not any(f[name] for name in wrong) and f["audit_equal"] and f["restored_equal"]


def prove_old(settings: OldSettings) -> OldResult:
    """Run the whole proof once; return what it showed.

    Raises:
        DidNotStart: a part never came up.
        NothingToSabotage: nothing was there to make a fault in.
    """
    with tempfile.TemporaryDirectory(prefix="pm-old-") as temporary:
        directory = Path(temporary)
        state_dir = directory / "state"
        with PrivateServer(state_dir / "store") as server, stack(directory) as processes:
            client = connect(Address(unix_url(server.socket_path), server))
            archive = Archive(client, state_dir / "archive", N_SHARDS)
            rng, now_ms = np.random.default_rng(settings.seed), int(time.time() * 1000)
            month = make_month(settings.labels * DECISIONS_PER_LABEL, rng, now_ms=now_ms)
            early = first_words(month, rng)
            period_ms = PERIOD_MS if settings.sabotage is None else LONG_PERIOD_MS
            n_files = live_through(archive, month, early, now_ms=now_ms, period_ms=period_ms)
            late = late_words(month, settings.labels, rng, received_ms=_received(settings, rng))
            dice = random.Random(settings.seed)  # noqa: S311 - a test's dice
            run = OldRun(client, processes, state_dir, month, dice, kills=settings.kills)
            run.start()
            rests, times = _drive(run, early, late, settings)
            found = _figures(archive, run, [*early, *late], directory)
    figures = {
        "labels": settings.labels,
        "words": len(late),
        "decisions": len(month.decisions),
        "files": n_files,
        "kills": run.killed.total(),
        **found,
        **times,
    }
    killed = ", ".join(f"{name} {n}" for name, n in sorted(run.killed.items()))
    notes = [f"killed: {killed or 'none'}; frames {run.n_frames}"]
    return OldResult(figures, notes if rests else [*notes, "it never came to rest"])


def _received(settings: OldSettings, rng: np.random.Generator) -> list[int]:
    """Return when labels were received: about now, or a while ago by a sidecar that kept them."""
    now_ms = int(time.time() * 1000)
    kept = rng.random(settings.labels) < settings.kept_share
    ago_ms = np.where(kept, 1000 * rng.uniform(*KEPT_S, settings.labels), 0)
    return [int(ms) for ms in now_ms - ago_ms]


def _drive(
    run: OldRun, early: list[OldWord], late: list[OldWord], settings: OldSettings
) -> tuple[bool, dict[str, float]]:
    """Send all that is said late, and end the parts; return whether it came to rest, and times."""
    began = time.monotonic()
    if settings.sabotage is None:
        run.send(late, for_s=len(late) / settings.per_s)
    else:
        run.send(late, for_s=0)
        OLD_SABOTAGES[settings.sabotage](run, [*early, *late])
    sent = time.monotonic()
    settle_s = SETTLE_S if settings.sabotage is None else SABOTAGED_SETTLE_S
    rests, settled = run.settle(within_s=settle_s), time.monotonic()
    run.stop()
    return rests, {"sent_s": round(sent - began, 1), "settled_s": round(settled - sent, 1)}


def _figures(
    archive: Archive, run: OldRun, words: list[OldWord], directory: Path
) -> dict[str, Any]:
    """Return what is found once the parts are ended."""
    client, shards = archive.client, range(N_SHARDS)
    verdict = judge_old(archive, run.month, holding(words))
    audited = audit_state(archive)
    archive.take(now_ms=int(time.time() * 1000), limits=ArchiveLimits(every_bytes=0))
    if audited.difference:
        print(f"\nthe audit: {audited.difference}", file=sys.stderr)
    return {
        **asdict(verdict),
        "n_cold": _sum(client, "n_cold"),
        "n_resolved": _sum(client, "n_resolved"),
        "dead_lettered": sum(client.xlen(keys.dead(n)) for n in shards),
        "cold": sum(client.hlen(keys.cold(n)) for n in shards),
        "held": sum(client.hlen(keys.held(n)) for n in shards),
        "audit_equal": audited.equal,
        "restored_equal": _restores(archive, directory),
    }


def _restores(archive: Archive, directory: Path) -> bool:
    """Return whether the archive gives an empty store the rows that are in this one."""
    with PrivateServer(directory / "restored" / "store") as server:
        client = connect(Address(unix_url(server.socket_path), server))
        restored = Archive(client, archive.root, N_SHARDS)
        restore(restored)
        return all(_rows(restored, n) == _rows(archive, n) for n in range(N_SHARDS))


def _rows(archive: Archive, shard: int) -> dict[bytes, bytes]:
    """Return the rows without those of which nothing counts any more: these may be gone or not."""
    state = archive.state(shard)
    counting = Rebuilt(mark=state.mark, rows=parse_rows(state.rows))
    counting.forget()
    return {name: row.tobytes() for name, row in counting.rows.items()}


def _sum(client: Client, name: str) -> int:
    return sum(int(client.hget(keys.meta(shard), name) or 0) for shard in range(N_SHARDS))


def _end(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)


def _settings(options: argparse.Namespace) -> OldSettings:
    labels, kills = (QUICK_LABELS, QUICK_KILLS) if options.quick else (FULL_LABELS, FULL_KILLS)
    if options.sabotage is not None:
        labels, kills = SABOTAGED_LABELS, 0
    return OldSettings(
        labels=labels if options.labels is None else options.labels,
        kills=kills if options.kills is None else options.kills,
        seed=options.seed,
        per_s=QUICK_PER_S if options.quick else FULL_PER_S,
        kept_share=1.0 if options.quick or options.sabotage is not None else 0.5,
        sabotage=options.sabotage,
    )


def main(argv: Sequence[str]) -> int:
    """Prove that late labels count once, at the weight of their time; return the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/prove old", description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_LABELS} labels only")
    parser.add_argument("--labels", type=int, help=f"how many; else {FULL_LABELS}")
    parser.add_argument("--kills", type=int, help=f"how many; else {FULL_KILLS}")
    parser.add_argument("--seed", type=int, default=0, help="of all that is left to chance")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--sabotage", type=OldSabotage, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    settings = _settings(options)
    if settings.labels < 1 or settings.kills < 0 or settings.seed < 0:
        parser.error("--labels is a whole number from 1, --kills and --seed from 0")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)  # everything that was started is stopped on the way out
    try:
        result = prove_old(settings)
    except (DidNotStart, NothingToSabotage) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    print("\n" + "\n".join(result.notes), file=sys.stderr)
    if options.json:
        print(json.dumps(result.figures))
    else:
        print(", ".join(f"{name} {value}" for name, value in result.figures.items()))
    return 0 if result.is_sound else 1
