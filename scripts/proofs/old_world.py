"""A month that is over: calls and first words, folded and archived at handed-in times.

The parts that fold and archive are the real ones; only their clock is moved by hand. What is left
is a store in which nothing lies of decisions older than a day, and an archive that has them all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from scripts.proofs.old_words import OldWord
from telemetry import digests, events, frames, keys
from telemetry.events import Flag, Result
from telemetry.frames import MAX_RECORDS, Frame
from telemetry.store import Client, prepare
from telemetry.tokens import Token
from telemetry.young import HOUR_MS
from workers.archive.archive import Archive
from workers.folding.batch import DAY_MS
from workers.folding.lease import Lease
from workers.folding.shard import Shard

N_SHARDS = 4
YOUNG_HOURS = 24
LONGEST_MS = int(29.4 * DAY_MS)
"""The oldest decision's age: files of 30 days ago are deleted while we look."""
OLDEST_MS, YOUNGEST_MS = 29 * DAY_MS, 2 * DAY_MS
"""Age of the decisions that are spoken of late."""
PERIOD_MS, LONG_PERIOD_MS = 8 * HOUR_MS, DAY_MS
"""A file of the archive each; where few labels are sent, fewer files hold as many of each."""
N_TASKS = 40
ENDPOINTS = ("east", "north", "south")
APP = digests.digest8("app", "prove")
SHARING = 3
"""Decisions behind one shared reference."""


@dataclass(frozen=True, slots=True)
class OldDecision:
    """One decision of the month."""

    number: int
    at_ms: int
    token: bytes
    response: bytes  # digest of its answer's id
    reference: bytes  # digest of the caller's reference

    @property
    def shard(self) -> int:
        """Where it is folded."""
        return self.number % N_SHARDS


@dataclass(frozen=True, slots=True)
class OldMonth:
    """Decisions by age, oldest first, and which of them share a reference."""

    decisions: list[OldDecision]
    shared: dict[bytes, list[int]] = field(default_factory=dict)  # digest -> numbers, by age
    old: list[int] = field(default_factory=list)  # numbers of those that may be spoken of late


def make_month(n: int, rng: np.random.Generator, *, now_ms: int) -> OldMonth:
    """Return `n` decisions of the month before `now_ms`; a quarter of the old share references."""
    times = now_ms - np.sort(rng.integers(HOUR_MS, LONGEST_MS, n))[::-1]
    ages = now_ms - times
    old = np.flatnonzero((ages > YOUNGEST_MS) & (ages < OLDEST_MS))
    names = [digests.digest16("prove", "ref", str(number)) for number in range(n)]
    shared: dict[bytes, list[int]] = {}
    picked = rng.permutation(old)[: len(old) // 4 // SHARING * SHARING]
    for group in picked.reshape(-1, SHARING).tolist():
        digest = digests.digest16("prove", "shared", str(group[0]))
        shared[digest] = sorted(group)
        for number in group:
            names[number] = digest
    decisions = [
        OldDecision(
            number,
            at_ms,
            _token(number, at_ms, rng),
            digests.digest16("prove", "response", str(number)),
            names[number],
        )
        for number, at_ms in enumerate(times.tolist())
    ]
    return OldMonth(decisions, shared, old.tolist())


def cell_of(number: int) -> tuple[int, int, int]:
    """Return task, endpoint and regime of a decision, as digests and a number."""
    task, rest = number % N_TASKS, number // N_TASKS
    endpoint = ENDPOINTS[rest % len(ENDPOINTS)]
    regime = rest // len(ENDPOINTS) % 2
    return digests.digest8("task", str(task)), digests.digest8("endpoint", endpoint), regime


def _token(number: int, at_ms: int, rng: np.random.Generator) -> bytes:
    category, endpoint, regime = cell_of(number)
    return Token(
        key_id=1,
        shard=number % N_SHARDS,
        flags=int(Flag.ROUTED),
        nonce=rng.bytes(16),
        decided_at_ms=at_ms,
        category=category,
        drawn=endpoint,
        executed=endpoint,
        strategy=2,
        app=APP,
        release_key=category ^ 1,
        session=number,
        propensity=0.5,
        predicted=0.5,
        predicted_sd=0.1,
        spread=0.4,
        regime=regime,
    ).pack()


def outcome_of(decision: OldDecision) -> bytes:
    """Return the record of a decision's answer."""
    return events.outcome(
        decision.token,
        result=Result.OK,
        attempt=1,
        status=200,
        flags=int(Flag.USAGE_KNOWN | Flag.FINAL | Flag.ROUTED),
        tokens_in=decision.number % 997,
        tokens_out=1 + decision.number % 499,
        latency_s=0.1 + decision.number % 7,
        response=decision.response,
        reference=decision.reference,
    )


def live_through(
    archive: Archive,
    month: OldMonth,
    first_words: Sequence[OldWord],
    *,
    now_ms: int,
    period_ms: int = PERIOD_MS,
) -> int:
    """Fold and archive a month in an empty store; return how many files that took.

    Args:
        first_words: of decisions that were young when they were heard, by their decision's id.
        period_ms: what a file of the archive holds.
    """
    client = archive.client
    prepare(client, shards=N_SHARDS)
    records: dict[int, list[tuple[int, bytes]]] = defaultdict(list)
    for decision in month.decisions:
        records[decision.shard].append((decision.at_ms + 2000, outcome_of(decision)))
    for word in first_words:
        decision = month.decisions[word.meant[0]]
        records[decision.shard].append((word.received_ms, word.record(month.decisions)))
    lives = [_ShardLife(client, n, sorted(records[n])) for n in range(N_SHARDS)]
    n_files = 0
    for until_ms in range(now_ms - LONGEST_MS, now_ms + period_ms, period_ms):
        for life in lives:
            life.live_until(min(until_ms, now_ms))
        n_files += len(archive.take(now_ms=until_ms, every_s=0))
        for life in lives:
            life.shard.prune(token=life.lease.token)
    for life in lives:
        life.lease.release()
    return n_files


class _ShardLife:
    """One shard, and what is to come in it."""

    def __init__(self, client: Client, number: int, records: list[tuple[int, bytes]]) -> None:
        self.client, self.records = client, records
        self.lease = Lease(client, number)
        if not self.lease.take():
            raise AssertionError("somebody else folds in a new store")
        self.shard = Shard(client, number, young_hours=YOUNG_HOURS)
        self.shard.load()
        self.producer, self.n_sent = bytes([number + 1]) * 16, 0

    def live_until(self, until_ms: int) -> None:
        """Have everything up to a time come, an entry an hour or more, and fold it."""
        n = next((i for i, (at, _) in enumerate(self.records) if at > until_ms), None)
        due, self.records = (
            (self.records, [])
            if n is None
            else (
                self.records[:n],
                self.records[n:],
            )
        )
        entries: list[tuple[bytes, dict[bytes, bytes]]] = []
        while due:
            hour = due[0][0] // HOUR_MS
            size = sum(at // HOUR_MS == hour for at, _ in due[:MAX_RECORDS])
            entry = b"%d-%d" % (due[size - 1][0], len(entries))
            body = b"".join(record for _, record in due[:size])
            frame = frames.pack(Frame(self.producer, self.shard.number, self.n_sent, body))
            entries.append((entry, {b"f": frame}))
            self.n_sent += size
            del due[:size]
        if not entries:
            return
        pipeline = self.client.pipeline(transaction=False)
        for entry, fields in entries:
            pipeline.xadd(keys.stream(self.shard.number), fields, id=entry)
        pipeline.execute()
        self.shard.fold(entries, token=self.lease.token)
