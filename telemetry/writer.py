"""The writer: records into the journal at once, frames into the stream soon after.

`put` is all that a call pays. A thread reads the journal back, cuts frames per shard and sends
them; a store that is away only makes the journal longer. A frame is sent until the store
acknowledged it; a repetition is told by its numbers and has no effect.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from telemetry import frames, journal, keys
from telemetry.errors import MalformedEvent
from telemetry.events import RECORD_SIZE
from telemetry.store import Address, Client, StoreErrors, connect

log = structlog.get_logger()

READ_RECORDS = 8192
"""What one round reads: 1.7 MB."""
LINGER_S = 0.02
"""How long records gather: half of the reader's own interval. A round costs what two calls do."""
RETRY_S = 0.25
ADOPT_EVERY_S = 5.0


@dataclass(slots=True)
class Counters:
    """What became of the records, for the metrics."""

    sent: int = 0
    adopted: int = 0
    dropped: int = 0
    store_up: bool = True


@dataclass(slots=True)
class Writer:
    """Journal and sender of one process."""

    root: Path  # where journals lie
    address: Address
    n_shards: int
    counters: Counters = field(default_factory=Counters)
    _journal: journal.Journal | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _sender: Sender | None = None

    def start(self) -> None:
        """Open the journal and begin to send."""
        self._journal = journal.Journal(self.root, self.n_shards)
        self._journal.open()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def put(self, record: bytes) -> bool:
        """Make one record safe; return whether it is. Never blocks on the store, never raises."""
        assert self._journal is not None
        if self._journal.append(record):
            return True
        self.counters.dropped += 1
        return False

    @property
    def producer(self) -> bytes:
        """The id under which this process's frames travel."""
        assert self._journal is not None
        return self._journal.producer

    def close(self, *, timeout_s: float = 5.0) -> None:
        """Send what is left, as far as the time allows, and let go of the journal."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
        if self._journal is not None:
            self._journal.close()
            if self._sender is not None and self._sender.is_done(self._journal.current):
                shutil.rmtree(self._journal.directory, ignore_errors=True)

    def _run(self) -> None:
        assert self._journal is not None
        client = connect(self.address)
        sender = self._sender = Sender(self._journal.directory, client, self.counters)
        next_adoption = 0.0
        while True:
            stopping = self._stop.is_set()
            try:
                if not self.counters.store_up:
                    client.ping()
                n = sender.send_some(keep=self._journal.current)
                if time.monotonic() >= next_adoption and not stopping:
                    adopt(self.root, client, self.counters, own=self._journal.directory)
                    next_adoption = time.monotonic() + ADOPT_EVERY_S
                self._note(up=True)
            except Exception as error:
                if not isinstance(error, StoreErrors):
                    log.error("sending failed", error=type(error).__name__)
                self._note(up=False, error=error)
                self.counters.dropped += shorten(self._journal.directory, self._journal.max_bytes)
                if stopping:
                    return
                self._stop.wait(RETRY_S)
                continue
            if stopping and not n:
                return
            if n < frames.MAX_RECORDS and not stopping:
                time.sleep(LINGER_S)

    def _note(self, *, up: bool, error: BaseException | None = None) -> None:
        """Log a change of the store's state, once."""
        if up is not self.counters.store_up:
            self.counters.store_up = up
            if up:
                log.info("store is back: sending what the journal kept")
            else:
                log.warning("store is away: outcomes wait in the journal", reason=_shown(error))


@dataclass(slots=True)
class Sender:
    """Sends one journal's records, in order, from where it stands."""

    directory: Path
    client: Client
    counters: Counters
    _segment: journal.Segment | None = None

    def send_some(self, *, keep: Path | None = None) -> int:
        """Send the next records and return how many; finished segments go, except `keep`.

        Raises:
            redis.RedisError: the store did not take them; nothing was marked as sent.
        """
        segment = self._current()
        if segment is None:
            return 0
        data = segment.read(READ_RECORDS)
        if not data:
            # A segment is finished only if a later one exists; that one was begun after it.
            if segment.path != keep and not segment.read(1):
                segment.path.unlink(missing_ok=True)
                self._segment = None
                return self.send_some(keep=keep)
            return 0
        bases = list(segment.bases)
        # All or none: were a later frame taken without an earlier one, the earlier one's numbers
        # would be passed, and its repetition taken for an old one.
        pipeline = self.client.pipeline(transaction=True)
        for frame in cut(data, segment.producer, bases):
            pipeline.xadd(keys.stream(frame.shard), {"f": frames.pack(frame)})
        pipeline.execute()
        segment.bases = bases
        segment.offset += len(data)
        n = len(data) // RECORD_SIZE
        self.counters.sent += n
        return n

    def is_done(self, last: Path) -> bool:
        """Return whether everything up to the end of the segment `last` was sent."""
        segment = self._segment
        return segment is not None and segment.path == last and not segment.read(1)

    def _current(self) -> journal.Segment | None:
        if self._segment is not None and self._segment.path.exists():
            return self._segment
        self._segment = None
        for path in journal.segments(self.directory):
            try:
                self._segment = journal.Segment.open(path)
                return self._segment
            except MalformedEvent:
                continue  # its header is still being written, or was cut by a crash
            except FileNotFoundError:
                continue
        return None


def cut(data: bytes, producer: bytes, bases: list[int]) -> list[frames.Frame]:
    """Return frames of `data` by shard; `bases` advances to the next record of each."""
    by_shard: dict[int, list[bytes]] = defaultdict(list)
    for start in range(0, len(data), RECORD_SIZE):
        record = data[start : start + RECORD_SIZE]
        if record[journal.SHARD_OFFSET] < len(bases):
            by_shard[record[journal.SHARD_OFFSET]].append(record)
    out = []
    for shard, records in by_shard.items():
        for start in range(0, len(records), frames.MAX_RECORDS):
            part = records[start : start + frames.MAX_RECORDS]
            out.append(frames.Frame(producer, shard, bases[shard], b"".join(part)))
            bases[shard] += len(part)
    return out


def adopt(root: Path, client: Client, counters: Counters, *, own: Path | None = None) -> int:
    """Send what processes that are gone left behind; return how many records."""
    total = 0
    for directory, let_go in journal.orphans(root, own=own):
        try:
            sender = Sender(directory, client, counters)
            while n := sender.send_some():
                total += n
            shutil.rmtree(directory, ignore_errors=True)
        finally:
            let_go()
    if total:
        counters.adopted += total
        log.info("sent the journal of a process that had ended", records=total)
    return total


def shorten(directory: Path, max_bytes: int) -> int:
    """Drop the oldest segments beyond `max_bytes`; return how many records went with them."""
    paths = journal.segments(directory)
    sizes = [path.stat().st_size for path in paths]
    dropped = 0
    while len(paths) > 1 and sum(sizes) > max_bytes:
        paths.pop(0).unlink(missing_ok=True)
        dropped += sizes.pop(0) // RECORD_SIZE
    return dropped


def _shown(error: BaseException | None) -> str:
    return type(error).__name__ if error else ""
