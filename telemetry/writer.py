"""The writer: records into the journal at once, frames into the stream soon after.

`put` is all that a call pays. A thread reads the journal back, cuts frames per shard and sends
them; a store that is away only makes the journal longer. A frame is sent until the store
acknowledged it; a repetition is told by its numbers and has no effect. With its frames it says up
to when everything that was put is sent.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter, defaultdict
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from telemetry import frames, journal, keys
from telemetry.clock import StoreClock
from telemetry.ended import tell_end
from telemetry.errors import MalformedEvent
from telemetry.events import INTENT
from telemetry.journal import Dropped
from telemetry.orphans import shorten_orphans
from telemetry.pacer import Bell, Pacer
from telemetry.passed import ProgressTeller
from telemetry.store import Address, Client, StoreErrors, connect, probe
from telemetry.topology import spans_slots
from telemetry.trouble import SCRIPTS, StoreTrouble, trouble_of

log = structlog.get_logger()

READ_RECORDS = 8192
"""What one round reads where there is much: 3 MB."""
FEW_RECORDS = 256
"""What it asks for first: most rounds find a handful, and a longer read copies empty space."""
FRESH_S = 0.04
"""How long records gather into a frame at most, below a thousand events a second."""
ROUND_SHARE = 0.005
"""Of a core, for the fixed cost of rounds: to the store one costs as much again."""
RETRY_S = 0.25
ADOPT_EVERY_S = 5.0


@dataclass(slots=True)
class Counters:
    """What became of the records, for the metrics."""

    sent: int = 0  # but those of the audit trail
    dropped: Counter[str] = field(default_factory=Counter)  # by Dropped
    store_up: bool = True
    trouble: StoreTrouble | None = None  # why it is not


@dataclass(slots=True)
class Writer:
    """Journal and sender of one process."""

    root: Path  # where journals lie
    address: Address
    n_shards: int
    counters: Counters = field(default_factory=Counters)
    max_orphan_bytes: int = journal.MAX_ORPHAN_BYTES
    clock: StoreClock = field(default_factory=StoreClock)
    decides: bool = True  # calls: of a process that decides none nobody asks how far it is
    _journal: journal.Journal | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _bell: Bell = field(default_factory=Bell)
    _thread: threading.Thread | None = None
    _sender: Sender | None = None
    _state: str = "up"  # as it was last logged
    _overflows: bool = False  # the journal's oldest records went unsent, and more would

    def start(self) -> None:
        """Open the journal and begin to send."""
        self._journal = journal.Journal(self.root, self.n_shards, dropped=self.counters.dropped)
        self._journal.open()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def put(self, record: bytes) -> bool:
        """Make one record safe; return whether it is. Never blocks on the store, never raises."""
        assert self._journal is not None
        is_safe = self._journal.append(record)
        self._bell.ring()
        return is_safe

    def put_or_refuse(self, record: bytes) -> bool:
        """Make one record safe that must not be lost; return whether it is.

        It is not where the journal is full: there it would take the place of others like it.
        """
        return not self._overflows and self.put(record)

    @property
    def n_dropped(self) -> int:
        """How many records went that had been safe: of this journal, and of those left behind."""
        dropped = self.counters.dropped
        return sum(dropped[why] for why in (Dropped.FULL, Dropped.ORPHANED, Dropped.MALFORMED))

    @property
    def producer(self) -> bytes:
        """The id under which this process's frames travel."""
        assert self._journal is not None
        return self._journal.producer

    def close(self, *, timeout_s: float = 5.0) -> None:
        """Send what is left, as far as the time allows, and let go of the journal."""
        self._stop.set()
        self._bell.ring()
        if self._thread is not None:
            self._thread.join(timeout_s)
        if self._journal is not None:
            self._journal.close()
            if self._sender is not None and self._sender.is_done(self._journal.current):
                shutil.rmtree(self._journal.directory, ignore_errors=True)

    def _run(self) -> None:
        with closing(connect(self.address)) as client:
            self._send(client)

    def _send(self, client: Client) -> None:
        """Send what comes; asleep where nothing does, but for a look at what others left."""
        assert self._journal is not None
        word = ProgressTeller(self._journal.producer, self.clock)
        told = word if self.decides else None
        sender = self._sender = Sender(self._journal.directory, client, self.counters, told)
        pacer = Pacer(FRESH_S, ROUND_SHARE)
        next_adoption = next_bound = rest_s = 0.0
        while True:
            stopping = self._stop.is_set()
            self._bell.reset()  # before the look: what comes after it rings again
            pacer.begin()
            try:
                is_due = time.monotonic() >= next_adoption and not stopping
                unsent = self._look_at_others(client) if is_due else None
                # Before the look, and without this very millisecond: what was put by then is found.
                at_ms = 0 if unsent else self.clock.now_ms() - 1
                n = sender.send_some(keep=self._journal.current, at_ms=at_ms)
                if unsent is not None:
                    raise unsent
                if is_due or not self.counters.store_up:
                    probe(client)  # after the sending, which may work where a script does not
                if is_due:
                    self._overflows |= sender.shorten(self._journal.max_bytes)
                    next_adoption = time.monotonic() + ADOPT_EVERY_S
                if not n:
                    self._overflows = False  # all of it is sent
                    word.give(client, at_ms, is_look=is_due, is_last=stopping)
                    if stopping:
                        sender.tell_end()
                self._note(up=True)
            except Exception as error:
                self._note(up=False, error=error)
                self._overflows |= sender.shorten(self._journal.max_bytes)
                if stopping:
                    return
                if time.monotonic() >= next_bound:
                    own = self._journal.directory
                    shorten_orphans(
                        self.root, self.counters.dropped, self.max_orphan_bytes, own=own
                    )
                    next_bound = time.monotonic() + ADOPT_EVERY_S
                self._stop.wait(RETRY_S)
                continue
            if stopping and not n:
                return
            if n:
                rest_s = pacer.rest_s(n, is_full=sender.is_behind)
            if stopping or sender.is_behind:
                continue
            wakes_at = min(next_adoption, word.due_at)
            if self._bell.wait(max(wakes_at - time.monotonic(), 0.0)):
                self._stop.wait(rest_s)  # before the look: what comes meanwhile goes with it

    def _look_at_others(self, client: Client) -> Exception | None:
        """Ask for the time, and send what others left; return why that failed.

        Before we say how far we are: who waits for us waits for what an earlier life of ours wrote,
        too. Our own records are sent in any case.
        """
        assert self._journal is not None
        try:
            self.clock.ask(client)
            adopt(self.root, client, self.counters, own=self._journal.directory)
        except Exception as error:
            return error
        return None

    def _note(self, *, up: bool, error: BaseException | None = None) -> None:
        """Log a change of the store's state, once: it is back, away, or takes nothing and why."""
        self.counters.store_up = up
        trouble = trouble_of(error) if isinstance(error, StoreErrors) else None
        self.counters.trouble = trouble
        state = "up" if up else trouble.kind if trouble and trouble.answers else "away"
        if state == self._state:
            return
        self._state = state
        if up:
            log.info("store is back: sending what the journal kept")
        elif trouble is None:
            log.error("sending fails: outcomes wait in the journal", error=type(error).__name__)
        elif trouble.kind == SCRIPTS:
            log.error("store runs no scripts: outcomes are sent, and not folded", **trouble.told())
        elif trouble.answers:
            log.error("store takes nothing: outcomes wait in the journal", **trouble.told())
        else:
            log.warning("store is away: outcomes wait in the journal", **trouble.told())


@dataclass(slots=True)
class CutFrames:
    """Frames that were cut from one segment, and where it stands once all of them were taken."""

    segment: journal.Segment
    n_bytes: int
    n_records: int  # in frames; the others belong to no shard
    n_of_trail: int  # of those in frames: no outcomes and no feedback
    bases: list[int]
    groups: list[list[frames.Frame]]  # each is taken whole or not at all
    passed_ms: int  # everything put by then is in these or was sent before; 0: there is more


@dataclass(slots=True)
class Sender:
    """Sends one journal's records, in order, from where it stands.

    The frames of one shard are taken in order, all or none: were a later one taken without an
    earlier one, the earlier one's numbers would be passed, and its repetition taken for an old
    one. Shards do not wait for each other; so on a cluster, where a transaction reaches one shard
    only, what one node took is not sent to it again because another node is away.
    """

    directory: Path
    client: Client
    counters: Counters
    word: ProgressTeller | None = None  # none of who is gone, or decides nothing
    is_behind: bool = False  # there may be more than the last look took
    _last: journal.Segment | None = None  # that was begun with
    _is_end_told: bool = False
    _segment: journal.Segment | None = None
    _limit: int = FEW_RECORDS
    _batch: CutFrames | None = None

    def send_some(self, *, keep: Path | None = None, at_ms: int = 0) -> int:
        """Send the next records and return how many; finished segments go, except `keep`.

        Args:
            at_ms: a time before `keep` was asked for, on the store's clock: what was put by then
                is found.

        Raises:
            redis.RedisError: the store did not take all of them; the others are sent again.
        """
        segment = self._current()
        if segment is None:
            self.is_behind = False
            return 0
        if self._batch is None or self._batch.segment is not segment:
            self._batch = self._cut(segment, keep, at_ms)
        if self._batch is None:
            # A segment is finished only if a later one exists; that one was begun after it.
            if segment.path != keep and not segment.read(1):
                segment.path.unlink(missing_ok=True)
                self._segment = None
                return self.send_some(keep=keep, at_ms=at_ms)
            return 0
        self._send(self._batch)
        segment.bases = self._batch.bases
        segment.offset += self._batch.n_bytes
        n, n_sent = self._batch.n_bytes // segment.record_size, self._batch.n_records
        self.counters.sent += n_sent - self._batch.n_of_trail
        self._batch = None
        self.counters.dropped[Dropped.SHARD] += n - n_sent
        return n

    def _cut(self, segment: journal.Segment, keep: Path | None, at_ms: int) -> CutFrames | None:
        data = segment.read(self._limit)
        full = len(data) == self._limit * segment.record_size
        self._limit = READ_RECORDS if full else FEW_RECORDS
        self.is_behind = full or segment.path != keep
        if not data:
            return None
        bases = list(segment.bases)
        found = frames.cut(data, segment.producer, bases, version=segment.version)
        groups = [found]
        if spans_slots(self.client):
            by_shard: dict[int, list[frames.Frame]] = defaultdict(list)
            for frame in found:
                by_shard[frame.shard].append(frame)
            groups = list(by_shard.values())
        n_sent = sum(frame.n_records for frame in found)
        n_trail = sum(frame.n_records for frame in found if frame.body[0] >= INTENT)
        passed_ms = 0 if self.is_behind else at_ms
        return CutFrames(segment, len(data), n_sent, n_trail, bases, groups, passed_ms)

    def _send(self, batch: CutFrames) -> None:
        """Send every group that was not taken yet; one that fails does not keep the others back."""
        failed: BaseException | None = None
        is_one_server = not spans_slots(self.client)
        for group in list(batch.groups):
            pipeline = self.client.pipeline(transaction=True)
            for frame in group:
                pipeline.xadd(keys.stream(frame.shard), {"f": frames.pack(frame)})
            if self.word is not None and is_one_server:
                self.word.add(pipeline, batch.passed_ms)
            try:
                pipeline.execute()
                batch.groups.remove(group)
            except StoreErrors as error:
                failed = error
        if failed is not None:
            raise failed
        if self.word is not None and not is_one_server:
            self.word.add(self.client, batch.passed_ms)

    def shorten(self, max_bytes: int) -> bool:
        """Drop the oldest segments beyond `max_bytes`, and return whether there were any.

        What was not sent of them is counted.
        """
        sizes = journal.sizes(self.directory)
        n_before = len(sizes)
        while len(sizes) > 1 and sum(size for _, size in sizes) > max_bytes:
            path, _ = sizes.pop(0)
            self._drop(path, Dropped.FULL)
        return len(sizes) < n_before

    def drop_unreadable(self) -> int:
        """Drop what is left of a journal that was sent: segments without a sound header.

        Return how many records they may have held.
        """
        return sum(self._drop(p, Dropped.MALFORMED) for p in journal.segments(self.directory))

    def tell_end(self) -> None:
        """Say that its process wrote no more than was sent."""
        tell_end(self.client, self._last)
        self._is_end_told = True

    def is_done(self, last: Path) -> bool:
        """Return whether everything up to the end of the segment `last` was sent, and that told.

        Where nothing ever was put, nobody need be told.
        """
        segment = self._segment
        if segment is None or segment.path != last or segment.read(1):
            return False
        return self._is_end_told or not any(segment.bases)

    def _drop(self, path: Path, why: Dropped) -> int:
        own = self._segment
        n = own.n_unsent() if own and own.path == path else journal.n_records(path)
        path.unlink(missing_ok=True)
        self.counters.dropped[why] += n
        if n:
            log.error("records of the journal were dropped", reason=why, records=n)
        return n

    def _current(self) -> journal.Segment | None:
        if self._segment is not None and self._segment.path.exists():
            return self._segment
        self._segment = None
        for path in journal.segments(self.directory):
            try:
                self._segment = self._last = journal.Segment.open(path)
                return self._segment
            except MalformedEvent:
                continue  # its header is still being written, or was cut by a crash
            except FileNotFoundError:
                continue
        return None


def adopt(root: Path, client: Client, counters: Counters, *, own: Path | None = None) -> int:
    """Send what processes that are gone left behind; return how many records."""
    total = 0
    for directory, let_go in journal.orphans(root, own=own):
        try:
            sender = Sender(directory, client, counters)
            while n := sender.send_some():
                total += n
            if not sender.drop_unreadable():
                sender.tell_end()
            shutil.rmtree(directory, ignore_errors=True)
        finally:
            let_go()
    if total:
        log.info("sent the journal of a process that had ended", records=total)
    return total
