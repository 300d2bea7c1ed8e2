"""Late labels sent to the running parts, which are killed meanwhile, until all is at rest."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from router.demo.stack import Stack
from scripts.proofs.old_words import OldWord
from scripts.proofs.old_world import APP, N_SHARDS, YOUNG_HOURS, OldMonth
from telemetry import frames, keys
from telemetry.frames import Frame
from telemetry.store import Client
from workers.folding.batch import START, position

WORKERS = ("worker", "second")
JOBS = "jobs"
ARCHIVE_EVERY_S = 2.0
"""Instead of an hour, so that the archive moves on while it is asked."""
KILL_EVERY_S = (0.5, 2.5)
AIMED = 0.5
"""Share of the kills that wait until something was put back: before it is folded, or when only a
part of it was sent."""
AIMED_S = 5.5
"""The job looks every five seconds."""
DOWN_S = 0.5
SENT_AGAIN = 0.05
"""Share of the frames that a sidecar sends again, as it does not know that they arrived."""
MOST_IN_FRAME = 40
QUIET_S = 2.0
LOOK_S = 0.01


@dataclass(slots=True)
class OldRun:
    """The parts under test, and who sends to them and kills them."""

    client: Client
    stack: Stack
    state_dir: Path
    month: OldMonth
    dice: random.Random
    kills: int  # to come
    killed: Counter[str] = field(default_factory=Counter)
    n_frames: int = 0
    _numbers: Counter[tuple[bytes, int]] = field(default_factory=Counter)
    _dead: dict[str, float] = field(default_factory=dict)  # when each is started again
    _kill_at: float = 0.0
    _victim: str = ""
    _n_thawed: int = 0  # where a kill waits for more of them

    def start(self) -> None:
        """Start two workers and the jobs."""
        options = ("--state-dir", str(self.state_dir), "--shards", str(N_SHARDS))
        for name in WORKERS:
            self.stack.start(name, "workers", *options, "--young-hours", str(YOUNG_HOURS))
        every_s = ("--archive-every-s", str(ARCHIVE_EVERY_S))
        self.stack.start(JOBS, "workers", *options, "--jobs", *every_s)
        self._choose_victim()

    def send(self, words: Sequence[OldWord], *, for_s: float) -> None:
        """Send words in their order, within a time, in frames of one and of many records."""
        began, at = time.monotonic(), 0
        while at < len(words):
            if time.monotonic() - began >= for_s * at / len(words):
                size = self.dice.randint(1, MOST_IN_FRAME)
                self._send(words[at : at + size])
                at += size
            self.look_after()

    def settle(self, *, within_s: float) -> bool:
        """Return whether all came to rest in time: nothing waits, and everything is folded."""
        deadline, rests_since = time.monotonic() + within_s, float("inf")
        while (now := time.monotonic()) < deadline:
            if self.is_at_rest():
                rests_since = min(rests_since, now)
                if now - rests_since > QUIET_S:
                    return True
            else:
                rests_since = float("inf")
                self.look_after()
            self._revive(now)
            time.sleep(LOOK_S)
        return False

    def is_at_rest(self) -> bool:
        """Return whether nothing waits for the archive or a worker."""
        pipeline = self.client.pipeline(transaction=False)
        for shard in range(N_SHARDS):
            pipeline.hlen(keys.cold(shard))
            pipeline.hlen(keys.held(shard))
            pipeline.xrevrange(keys.stream(shard), count=1)
            pipeline.hget(keys.meta(shard), "mark")
        found = pipeline.execute()
        for cold, held, last, mark in zip(*(found[i::4] for i in range(4)), strict=True):
            if cold or held or (last and position(last[0][0]) > position(mark or START)):
                return False
        return True

    def look_after(self) -> None:
        """Kill who is due, and start again who is dead."""
        now = time.monotonic()
        if self.kills and now >= self._kill_at and self._victim not in self._dead:
            is_aimed = now < self._kill_at + AIMED_S and self._n_thawed >= 0
            if not is_aimed or self._count_thawed() > self._n_thawed:
                self.stack.processes[self._victim].send_signal(signal.SIGKILL)
                self.killed[self._victim] += 1
                self.kills -= 1
                self._dead[self._victim] = now + self.dice.uniform(0, DOWN_S)
                self._choose_victim()
        self._revive(now)
        time.sleep(LOOK_S)

    def watch(self, until: Callable[[], bool], *, for_s: float) -> bool:
        """Wait for something while nothing is killed; return whether it came."""
        deadline = time.monotonic() + for_s
        while time.monotonic() < deadline:
            if until():
                return True
            time.sleep(LOOK_S)
        return False

    def stop(self) -> None:
        """Start again who is dead, so that all can be ended well."""
        self._revive(float("inf"))
        for name in (JOBS, *WORKERS):
            self.stack.stop(name)

    def _choose_victim(self) -> None:
        is_aimed = self.dice.random() < AIMED
        self._victim = self.dice.choice([*WORKERS, JOBS, JOBS])
        self._n_thawed = self._count_thawed() if is_aimed else -1
        self._kill_at = time.monotonic() + self.dice.uniform(*KILL_EVERY_S)

    def _count_thawed(self) -> int:
        return sum(int(self.client.hlen(keys.thawed(shard))) for shard in range(N_SHARDS))

    def _revive(self, now: float) -> None:
        for name, at in list(self._dead.items()):
            if now >= at:
                self.stack.processes[name].wait()
                self.stack.revive(name)
                del self._dead[name]

    def _send(self, words: Sequence[OldWord]) -> None:
        by_shard: dict[int, list[bytes]] = {}
        for word in words:
            shard = word.shard(self.month.decisions, N_SHARDS)
            record = word.record(self.month.decisions, app=APP, shard=shard)
            by_shard.setdefault(shard, []).append(record)
        producer = self.dice.choice([bytes([n]) * 16 for n in (101, 102, 103)])
        for shard, records in by_shard.items():
            first = self._numbers[producer, shard]
            raw = frames.pack(Frame(producer, shard, first, b"".join(records)))
            self._numbers[producer, shard] += len(records)
            for _ in range(1 + (self.dice.random() < SENT_AGAIN)):
                self.client.xadd(keys.stream(shard), {"f": raw})
                self.n_frames += 1
