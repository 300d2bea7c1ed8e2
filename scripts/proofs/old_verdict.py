"""The referees: what must be in the rows once every label of a month was heard.

Two, as different as can be. One adds whole numbers: of each label one, its weight, and its weight
times its reward, where the weight is worked out from what is written of it (a tick is a sixteenth
of the half-life, weights double with each of these, a window is eight). The other folds all calls
and of each decision only the words that hold in the end, as if all of it were young, and must give
every row of every family.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bandit.cells import KEY
from bandit.families import N_COLUMNS, Family, Q
from scripts.proofs.old_words import PARTS, Holding, rewards
from scripts.proofs.old_world import N_SHARDS, OldMonth, cell_of, outcome_of
from telemetry import frames
from telemetry.frames import MAX_RECORDS, UNNUMBERED, Frame
from workers.archive.archive import Archive
from workers.archive.rebuilt import Rebuilt, parse_rows

HALF_LIFE_MS = 14 * 86_400_000
TICK_MS = HALF_LIFE_MS // 16
TICKS_PER_WINDOW = 8 * 16
FIXED_POINT = 1 << 16
Cell = tuple[int, int, int, int]
"""Task, endpoint, regime, window."""


@dataclass(slots=True)
class OldVerdict:
    """How far the rows are from what they must be."""

    lost: int = 0  # labels that count nowhere
    doubled: int = 0  # labels that count too often
    misweighted: int = 0  # cells with as many labels as they should have, and other sums
    rows: int = 0  # of all families
    wrong_rows: int = 0


def weight(at_ms: int) -> int:
    """Return what a label weighs whose decision was made then."""
    halvings, sixteenths = divmod(at_ms // TICK_MS % TICKS_PER_WINDOW, 16)
    return round(64 * 2 ** (sixteenths / 16)) << halvings


def expected_sums(month: OldMonth, held: Holding) -> dict[Cell, NDArray[np.int64]]:
    """Return count, weight, reward and squared reward of the labels of each cell."""
    out: dict[Cell, NDArray[np.int64]] = defaultdict(lambda: np.zeros(4, dtype=np.int64))
    for number, parts in rewards(held).items():
        at_ms = month.decisions[number].at_ms
        own, window = weight(at_ms), at_ms // TICK_MS // TICKS_PER_WINDOW
        reward, squared = FIXED_POINT * parts // PARTS, FIXED_POINT * parts**2 // PARTS**2
        out[(*cell_of(number), window)] += np.array([1, own, own * reward, own * squared])
    return out


def judge_old(archive: Archive, month: OldMonth, held: Holding) -> OldVerdict:
    """Return how far the rows in the store are from what both referees say."""
    verdict = OldVerdict()
    states = [archive.state(shard) for shard in range(N_SHARDS)]
    found: dict[Cell, NDArray[np.int64]] = defaultdict(lambda: np.zeros(4, dtype=np.int64))
    for state in states:
        for name, row in state.rows.items():
            key = np.frombuffer(name, dtype=KEY)[0]
            if key["family"] == Family.QUALITY:
                where = int(key["category"]), int(key["endpoint"])
                sums = np.frombuffer(row, dtype="<i8")[[Q.LABELS, Q.N, Q.R, Q.R2]]
                found[*where, int(key["regime"]), int(key["window"])] += sums
    wanted = expected_sums(month, held)
    for cell in wanted.keys() | found.keys():
        more = found[cell] - wanted[cell]
        verdict.lost += max(-int(more[0]), 0)
        verdict.doubled += max(int(more[0]), 0)
        verdict.misweighted += bool(not more[0] and more.any())
    for shard, state in enumerate(states):
        referee = _as_if_young(month, held, shard)
        stored = Rebuilt(mark=state.mark, rows=parse_rows(state.rows))
        referee.mark = state.mark
        for each in (referee, stored):
            each.forget()
        verdict.rows += len(stored.rows)
        verdict.wrong_rows += _n_different(referee.rows, stored.rows)
    return verdict


def _as_if_young(month: OldMonth, held: Holding, shard: int) -> Rebuilt:
    """Return one shard's state if all that holds had been said at once."""
    out, records = Rebuilt(), []
    for decision in month.decisions[shard::N_SHARDS]:
        records.append((decision.at_ms, outcome_of(decision)))
        for word in held.get(decision.number, {}).values():
            as_its_own = word.addressed(decision.number)
            records.append((decision.at_ms, as_its_own.record(month.decisions)))
    entries = []
    for start in range(0, len(records), MAX_RECORDS):
        part = records[start : start + MAX_RECORDS]
        body = b"".join(record for _, record in part)
        entry = b"%d-%d" % (part[-1][0], start)
        entries.append((entry, {b"f": frames.pack(Frame(UNNUMBERED, shard, 0, body))}))
    out.fold(entries)
    return out


def _n_different(
    ours: dict[bytes, NDArray[np.int64]], theirs: dict[bytes, NDArray[np.int64]]
) -> int:
    """Return how many rows differ; a row of zeros says what a missing one does."""
    zero = np.zeros(N_COLUMNS, dtype=np.int64)
    return sum(
        not np.array_equal(ours.get(name, zero), theirs.get(name, zero))
        for name in ours.keys() | theirs.keys()
    )
