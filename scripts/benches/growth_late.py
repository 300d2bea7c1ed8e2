"""How long feedback for old decisions takes, with a month of archive: from its entry to its fold.

The worker is a process of its own, and the job runs every five seconds, as live. Feedback comes at
random within a minute: a third by decision id, a third by the answer's id, a third by reference.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router.config.process import ArchiveEntry, StoreEntry
from scripts.benches.growth_traffic import N_SHARDS
from telemetry import event_ids, events, frames, keys
from telemetry.decoding import record_of
from telemetry.events import FeedbackKind
from telemetry.frames import UNNUMBERED, Frame
from telemetry.processes import child_environment
from telemetry.store import Address, Client, connect
from workers.archive.retention import Keep
from workers.folding.batch import DAY_MS, cold_field
from workers.jobs import jobs
from workers.jobs.place import Place
from workers.jobs.worker import ALLOWED

N = 300
WITHIN_S = 60.0
LOOK_EVERY_S = 0.05
TIMEOUT_S = 300.0
YOUNGEST_DAYS, OLDEST_DAYS = 2, 29
WAYS = ("decision_id", "answer_id", "reference")


@dataclass(slots=True)
class LateWord:
    """Something that is said of an old decision."""

    way: str
    outcome: np.void
    due_s: float  # after the beginning
    field: bytes = b""  # of `keys.cold`, while it waits there
    sent_at: float = 0.0
    took_s: float | None = None

    @property
    def shard(self) -> int:
        """Where it is folded."""
        return int(self.outcome["token"]["shard"])

    @property
    def nonce(self) -> bytes:
        """Of its decision."""
        return bytes(self.outcome["token"]["nonce"].tobytes())

    def send(self, client: Client) -> None:
        """Send it, as the router does that knows nothing of its decision any more."""
        now_ms, by_id = int(time.time() * 1000), self.way == "decision_id"
        token = self.outcome["token"]
        field = "response" if self.way == "answer_id" else "reference"
        digest = bytes(self.outcome[field].tobytes())
        shard = self.shard if by_id else digest[0] % N_SHARDS
        record = events.feedback(
            token.tobytes() if by_id else None,
            kind=FeedbackKind.HUMAN,
            value=1.0,
            revision=1,
            event=event_ids.new_event_id(now_ms),
            reference=events.NO_DIGEST if by_id else digest,
            app=int(token["app"]),
            shard=shard,
            received_at_ms=now_ms,
        )
        parsed = record_of(record)
        assert parsed is not None
        self.field = parsed["event"].tobytes() + self.nonce
        assert not by_id or self.field == cold_field(parsed)
        self.sent_at = time.monotonic()
        frame = frames.pack(Frame(UNNUMBERED, shard, 0, record))
        client.xadd(keys.stream(shard), {"f": frame})


def measure(
    address: Address,
    state_dir: Path,
    outcomes: list[NDArray[np.void]],
    *,
    within_s: float = WITHIN_S,
    ways: Sequence[str] = WAYS,
) -> dict[str, Any] | None:
    """Return quantiles of the seconds that it takes; None where no decision is old enough.

    Args:
        state_dir: with the store and the archive, whose shards nobody holds.
        outcomes: some of all that were folded, each with a reference.
        within_s: in which feedback comes.
    Raises:
        RuntimeError: something is not folded, or not within minutes.
    """
    words = _words(np.concatenate(outcomes), within_s, ways)
    if not words:
        return None
    client = connect(address)
    keep = Keep(ArchiveEntry().keep_days, ArchiveEntry().max_bytes)
    with _worker(state_dir), _job(Place(address, state_dir / "archive", N_SHARDS, keep)):
        _until(lambda: all(client.exists(keys.lease(shard)) for shard in range(N_SHARDS)))
        began = time.monotonic()
        while any(word.took_s is None for word in words):
            now = time.monotonic()
            for word in words:
                if not word.sent_at and now - began >= word.due_s:
                    word.send(client)
            _look(client, [word for word in words if word.sent_at and word.took_s is None])
            if now - began > TIMEOUT_S:
                raise RuntimeError(f"not folded: {_left(client, words)}")
            time.sleep(LOOK_EVERY_S)
    client.close()
    return _quantiles(words) | {
        way: _quantiles([word for word in words if word.way == way])
        for way in ways
        if any(word.way == way for word in words)
    }


def _words(outcomes: NDArray[np.void], within_s: float, ways: Sequence[str]) -> list[LateWord]:
    """Return words of decisions of all ages, in each of the ways, and when each is due."""
    chance, now_ms = np.random.default_rng(2), int(time.time() * 1000)
    days = (now_ms - outcomes["token"]["decided_at_ms"]) / DAY_MS
    old = outcomes.compress((days > YOUNGEST_DAYS) & (days < OLDEST_DAYS))
    picked = np.sort(chance.permutation(len(old))[:N])
    due = chance.uniform(0, within_s, len(picked)).tolist()
    chosen = zip(picked.tolist(), due, strict=True)
    return [LateWord(ways[i % len(ways)], old[at], s) for i, (at, s) in enumerate(chosen)]


def _look(client: Client, waiting: list[LateWord]) -> None:
    """Note which of them are folded: their decision was put back, and they wait no more."""
    pipeline = client.pipeline(transaction=True)
    for word in waiting:
        pipeline.hexists(keys.thawed(word.shard), word.nonce)
        pipeline.hexists(keys.cold(word.shard), word.field)
    found, now = pipeline.execute(), time.monotonic()
    for word, put_back, is_cold in zip(waiting, found[::2], found[1::2], strict=True):
        if put_back and not is_cold:
            word.took_s = now - word.sent_at


def _quantiles(words: list[LateWord]) -> dict[str, Any]:
    took = [word.took_s for word in words if word.took_s is not None]
    p50, p99 = np.percentile(took, [50, 99])
    return {"p50": round(float(p50), 2), "p99": round(float(p99), 2), "n": len(took)}


def _left(client: Client, words: list[LateWord]) -> str:
    left = sum(word.took_s is None for word in words)
    dead = [client.xrevrange(keys.dead(shard), count=1) for shard in range(N_SHARDS)]
    return f"{left} of {len(words)}; {[fields[b'reason'] for d in dead for _, fields in d]}"


@contextmanager
def _worker(state_dir: Path) -> Iterator[None]:
    """Run the real worker."""
    arguments = ["--state-dir", str(state_dir), "--shards", str(N_SHARDS)]
    arguments += ["--young-hours", str(StoreEntry().young_hours)]
    environment = {k: v for k, v in child_environment().items() if k != "REDIS_URL"}
    process = subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-m", "workers", *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def _job(place: Place) -> Iterator[None]:
    """Run the job that archives and the one that puts back, each five seconds."""
    every_s = ALLOWED["workers.jobs.thaw"][1]
    jobs.work_at(place)

    def run() -> None:
        os.nice(10)  # of this thread alone
        while not place.stop.wait(every_s - time.time() % every_s):
            jobs.take()
            jobs.thaw()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        place.stop.set()
        thread.join()


def _until(condition: Any) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("the worker did not start")
        time.sleep(LOOK_EVERY_S)
