"""What a month of calls leaves behind, day by day: `scripts/bench growth`.

Thirty days of ten calls a second (`growth_traffic`), told in minutes: entries come under ids of
their own time, so that the real learner prunes by it, and the real archive is taken by it. The
month ends about now, and lies in the past: so at its end the real worker and the real job go on
with it, by the store's own clock. Nothing that the store ends by itself is missed by that, as it
keeps what is young for 37 days at most; draws are ended by the bench (`growth_draws`).

Where it would take hours, the bench does less than what is live, and the last hour of each day is
live: there each record has a frame of its own, as at so few calls it has, and feedback by reference
is resolved by the learner. At other times frames are full, and what a reference means is known to
the bench: the feedback waits, and is then sent to its decision as the learner sends it. The day's
figures are taken at the end of that hour, before the archive takes it: the store is fullest then.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router.config.process import ArchiveEntry, StoreEntry
from scripts.benches import growth_late, growth_router
from scripts.benches.growth_draws import DAY_MS, LyingDraws
from scripts.benches.growth_sizes import StoreSizes, at_100_calls_per_s_mb
from scripts.benches.growth_traffic import N_SHARDS, STEP_MS, Traffic, TrafficStep, by_shard
from telemetry import frames, keys
from telemetry.embedded import PrivateServer
from telemetry.events import NO_DIGEST
from telemetry.frames import MAX_RECORDS, UNNUMBERED, Frame
from telemetry.memory import PRIVATE_MB
from telemetry.store import Address, Client, connect, prepare
from telemetry.streams import read_streams
from telemetry.young import HOUR_MS, SPAN_MS
from workers.archive import files as archive_files
from workers.archive import retention
from workers.archive.archive import Archive
from workers.archive.retention import Keep
from workers.folding.held import GRACE_MS, References
from workers.folding.lease import Lease
from workers.folding.memory import StoreMemory
from workers.folding.shard import Shard
from workers.folding.together import fold_together

TIMEOUT_S = 60.0
PRODUCER = b"growth".ljust(16, b"-")
READ_ENTRIES = 512
"""Entries a shard and round; the worker reads 16, of which a live hour would have thousands."""
LIVE_HOUR = 23
"""Of a day, the last one."""
MB = 1_000_000
"""Megabytes of all figures."""


def run_bench(*, days: int) -> dict[str, Any]:
    """Return what lies where at the end of each day, and what one thing of each kind takes."""
    took: dict[str, float] = defaultdict(float)
    now_ms = int(time.time() * 1000) // SPAN_MS * SPAN_MS
    with tempfile.TemporaryDirectory(prefix="pm-") as directory, month(Path(directory)) as lived:
        lived.took = took
        lived.live(now_ms - days * DAY_MS, days)
        sizes = lived.sizes
        assert sizes is not None
        with _timed(took, "old_feedback"):
            old_feedback_s = growth_late.measure(lived.address, Path(directory), lived.told)
        found = {
            "store_mb_by_day": lived.store_mb,
            "store_most_mb_by_day": lived.store_most_mb,
            "disk_mb_by_day": lived.disk_mb,
            "archive_mb_by_day": lived.archive_mb,
            "dropped_files": lived.n_dropped,
        }
    with _timed(took, "router"):
        found["router_mb"] = growth_router.measure(days)
    found["bytes"] = {name: round(size, 1) for name, size in sizes.bytes_of.items()}
    found["lying"] = sizes.n_lying
    found["old_feedback_s"] = old_feedback_s
    found["at_100_calls_per_s_mb"] = at_100_calls_per_s_mb(sizes)
    found["seconds"] = {name: round(s, 1) for name, s in took.items()}
    return found


def print_figures(found: dict[str, Any]) -> None:
    """Print what was measured."""
    print("day   store MB   most   disk MB")
    rows = (found[name] for name in ("store_mb_by_day", "store_most_mb_by_day", "disk_mb_by_day"))
    for day, row in enumerate(zip(*rows, strict=True), 1):
        print(f"{day:3} {row[0]:10.1f} {row[1]:6.1f} {row[2]:9.1f}")
    for name in ("router_mb", "bytes", "lying", "old_feedback_s", "at_100_calls_per_s_mb"):
        print(f"{name}: {found[name]}")
    print(f"seconds: {found['seconds']}")


@contextmanager
def month(directory: Path, traffic: Traffic | None = None) -> Iterator[Month]:
    """Yield an empty store of its own, with whoever folds and archives there."""
    with PrivateServer(directory / "store") as server:
        address = Address(f"unix://{server.socket_path}", server)
        client, draws = connect(address, timeout_s=TIMEOUT_S), LyingDraws(server.socket_path)
        prepare(client, shards=N_SHARDS)
        lived = Month(address, client, directory, draws, traffic or Traffic())
        yield lived
        draws.close()
        client.close()


@dataclass(slots=True)
class Month:
    """A store, and those who fold and archive, step after step."""

    address: Address
    client: Client
    directory: Path
    draws: LyingDraws
    traffic: Traffic
    archive: Archive = field(init=False)
    shards: list[Shard] = field(init=False)
    leases: list[Lease] = field(init=False)
    references: References = field(init=False)
    memory: StoreMemory = field(init=False)
    told: list[NDArray[np.void]] = field(
        default_factory=list
    )  # an outcome of each step, with a reference
    store_mb: list[float] = field(default_factory=list)
    store_most_mb: list[float] = field(default_factory=list)
    disk_mb: list[float] = field(default_factory=list)
    archive_mb: list[float] = field(default_factory=list)
    sizes: StoreSizes | None = None  # at the end of the last day
    n_dropped: int = 0
    took: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    _last_ms: list[int] = field(default_factory=lambda: [0] * N_SHARDS)  # of each stream
    _sent: list[int] = field(default_factory=lambda: [0] * N_SHARDS)  # of the producer's records
    _resolved: NDArray[np.void] | None = None  # to be sent

    def __post_init__(self) -> None:
        self.archive = Archive(self.client, self.directory / "archive", N_SHARDS)
        self.references = References(N_SHARDS)
        hours = StoreEntry().young_hours
        self.memory = StoreMemory(N_SHARDS, hours, PRIVATE_MB)
        self.shards = [Shard(self.client, n, young_hours=hours) for n in range(N_SHARDS)]
        self.leases = [Lease(self.client, n) for n in range(N_SHARDS)]
        for shard, lease in zip(self.shards, self.leases, strict=True):
            lease.take()
            shard.load()

    def live(self, from_ms: int, days: int) -> None:
        """Live so many days, and note what there is at the end of each."""
        keep = Keep(ArchiveEntry().keep_days, ArchiveEntry().max_bytes)
        for day in range(days):
            begins_ms, most = from_ms + day * DAY_MS, 0
            for hour in range(24):
                self.live_hour(begins_ms, hour)
                used = self._used()
                most = max(most, used)
                if hour == LIVE_HOUR:
                    self._note(used, most)
                if hour == LIVE_HOUR and day == days - 1:
                    with _timed(self.took, "sizes"):
                        self.sizes = StoreSizes.of(self.client, self.draws)
                with _timed(self.took, "measure"):
                    use = self.memory.measure(self.client, now_ms=begins_ms + (hour + 1) * HOUR_MS)
                    if use is None or use.young_hours < use.configured_hours or use.is_full:
                        raise RuntimeError("the store is beyond its budget")
                with _timed(self.took, "archive"):  # entries are up to ten minutes older than full
                    self.archive.take(now_ms=begins_ms + (hour + 1) * HOUR_MS + STEP_MS)
            with _timed(self.took, "retention"):
                now_ms = begins_ms + DAY_MS
                self.n_dropped += retention.prune(self.archive, keep, now_ms=now_ms)
            print(f"day {day + 1}: {self.store_mb[-1]} MB", file=sys.stderr, flush=True)
        self.finish(from_ms + days * DAY_MS)

    def live_hour(self, begins_ms: int, hour: int) -> None:
        """Live an hour of a day; the last one of it as it is live."""
        if hour == 0:
            self.draws.begin_day()
        first_ms = begins_ms + hour * HOUR_MS
        for from_ms in range(first_ms, first_ms + HOUR_MS, STEP_MS):
            with _timed(self.took, "traffic"):
                step = self.traffic.step(from_ms)
            refers = step.calls["reference"] != np.void(NO_DIGEST)
            self.told.append(step.calls.compress(refers)[:1])
            with _timed(self.took, "draws"):
                self.draws.end(from_ms)
                self.draws.write(step, from_ms, day_ends_ms=begins_ms + DAY_MS)
            self.fold(step, from_ms + STEP_MS, is_live=hour == LIVE_HOUR)

    def fold(self, step: TrafficStep, now_ms: int, *, is_live: bool) -> None:
        """Send the records of a step, and fold them; tidy up as the worker does."""
        with _timed(self.took, "send"):
            if self._resolved is not None:
                self._send_resolved(now_ms - STEP_MS)
            self._send(step, 1 if is_live else MAX_RECORDS)
        with _timed(self.took, "fold"):
            self._fold_all()
        with _timed(self.took, "resolve"):
            if not is_live:
                self._take_out(step.waiting)
                self._resolved = step.resolved
            self._resolve(now_ms + GRACE_MS)
        with _timed(self.took, "prune"):
            for shard, lease in zip(self.shards, self.leases, strict=True):
                lease.keep()
                shard.prune(token=lease.token)

    def finish(self, now_ms: int) -> None:
        """Fold what is on its way yet, and let go of the shards."""
        if self._resolved is not None:
            self._send_resolved(now_ms)
        self._fold_all()
        self.archive.take(now_ms=now_ms + HOUR_MS + STEP_MS)
        for lease in self.leases:
            lease.release()

    def counted(self) -> Counter[str]:
        """Return the counters of all shards together."""
        out: Counter[str] = Counter()
        for shard in self.shards:
            for name, value in self.client.hgetall(keys.meta(shard.number)).items():
                if name.startswith(b"n_"):
                    out[name[2:].decode()] += int(value)
        return out

    def _send(self, step: TrafficStep, n_records: int) -> None:
        pipeline = self.client.pipeline(transaction=False)
        for shard, records, at_ms in by_shard(step.records, step.at_ms):
            for first in range(0, len(records), n_records):
                part = records[first : first + n_records]
                frame = Frame(PRODUCER, shard, self._sent[shard], part.tobytes())
                self._sent[shard] += len(part)
                last = min(first + n_records, len(records)) - 1
                self._add(pipeline, frame, int(at_ms[last]))
        pipeline.execute()

    def _send_resolved(self, now_ms: int) -> None:
        """Send feedback by reference to the decisions that it means, each in a frame of its own."""
        pipeline, records = self.client.pipeline(transaction=False), self._resolved
        self._resolved = None
        assert records is not None
        for shard, own, _ in by_shard(records, np.zeros(len(records), dtype=np.int64)):
            for first in range(0, len(own), MAX_RECORDS):
                body = own[first : first + MAX_RECORDS].tobytes()
                self._add(pipeline, Frame(UNNUMBERED, shard, 0, body), now_ms)
        pipeline.execute()

    def _add(self, pipeline: Client, frame: Frame, at_ms: int) -> None:
        self._last_ms[frame.shard] = max(at_ms, self._last_ms[frame.shard])
        entry = f"{self._last_ms[frame.shard]}-*"
        pipeline.xadd(keys.stream(frame.shard), {"f": frames.pack(frame)}, id=entry)

    def _fold_all(self) -> None:
        while True:
            marks = {shard.number: shard.mark for shard in self.shards}
            found = read_streams(self.client, marks, count=READ_ENTRIES, block_ms=0)
            if not found:
                return
            work = [(self.shards[n], own, self.leases[n].token) for n, own in found.items()]
            if None in fold_together(self.client, work):
                raise RuntimeError("somebody else folds here")

    def _take_out(self, waiting: NDArray[np.void]) -> None:
        """Take feedback by reference out of what waits: it is known what it means."""
        pipeline = self.client.pipeline(transaction=False)
        for shard, records, _ in by_shard(waiting, np.zeros(len(waiting), dtype=np.int64)):
            if len(records):
                events = records["event"].tolist()
                pipeline.hdel(keys.held(shard), *events)
                pipeline.zrem(keys.due(shard), *events)
        pipeline.execute()

    def _resolve(self, now_ms: int) -> None:
        """Let the learner find out what waits, and let go of what it found out earlier."""
        owned = [(s, lease.token) for s, lease in zip(self.shards, self.leases, strict=True)]
        client = ClientAt(self.client, max(now_ms, *self._last_ms))
        if self.references.look(client, owned, now_ms):
            raise RuntimeError("somebody else folds here")
        self._last_ms = [client.now_ms] * N_SHARDS

    def _used(self) -> int:
        return int(self.client.info("memory")["used_memory"])

    def _note(self, used: int, most: int) -> None:
        self.store_mb.append(round(used / MB, 1))
        self.store_most_mb.append(round(most / MB, 1))
        directories = [self.archive.directory(n) for n in range(N_SHARDS)]
        listed = [f for own in directories for f in archive_files.list_files(own)]
        archived = sum(archive_files.n_bytes(file) for file in listed)
        store = self.directory / "store"
        logged = sum(path.stat().st_size for path in store.glob("appendonlydir/*"))
        self.archive_mb.append(round(archived / MB, 1))
        self.disk_mb.append(round((archived + logged) / MB, 1))


@dataclass(slots=True)
class ClientAt:
    """A client to which it is some time: what it adds to a stream comes then."""

    client: Client
    now_ms: int

    def pipeline(self, **named: Any) -> Client:
        """Return a pipeline to which it is that time as well."""
        return ClientAt(self.client.pipeline(**named), self.now_ms)

    def xadd(self, name: str, fields: dict[str, bytes]) -> Any:
        """Add an entry of that time."""
        return self.client.xadd(name, fields, id=f"{self.now_ms}-*")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)


@contextmanager
def _timed(took: dict[str, float], what: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    took[what] += time.perf_counter() - began
