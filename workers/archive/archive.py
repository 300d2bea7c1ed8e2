"""The archive: what the stream held, kept in files after it was trimmed.

In one step the store gives a shard's state at its mark; then the entries up to that mark are read,
which nobody trims before they are archived; the file is written; last the archived mark moves.
Killed anywhere, it begins again from the mark that stands. Several archivers do no harm: one
directory has one at a time, and of two directories one holds the shard.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from telemetry import keys, scripts
from telemetry.memory import MemoryUse
from telemetry.store import Client
from telemetry.young import YoungSpan
from workers.archive import budgets, indexing, spent
from workers.archive import files as archive_files
from workers.archive.files import HEARD_SINCE, ArchiveFile, Content
from workers.folding.batch import DAY_MS, LABEL_DAYS, SPAN_DAYS, SPANS, START, position
from workers.folding.thawed import THAWED_AT_BYTES
from workers.folding.trimming import most_unarchived
from workers.folding.writing import LAG_DAYS

log = structlog.get_logger()

EVERY_BYTES = 64 << 20
"""300,000 records: a file that one process reads in a second."""
SHARE = 16
"""Of `store.max_mb`: so much of it is records that wait for a file, all shards together."""
SHORT_S = 60.0
"""Where the store's memory is full: what is to go waits for a file that has it."""
EVERY_S = 3600.0
"""What a lost store loses at most, where there is little traffic."""
READ_ENTRIES = 128
"""7 MB a reply."""
HOLDER_TTL_MS = 2 * 3_600_000
"""An archive that was silent this long is gone; another one takes the shard, from a base."""


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """When a file is due."""

    every_bytes: int = EVERY_BYTES
    every_s: float = EVERY_S


@dataclass(frozen=True, slots=True)
class Archive:
    """The archive of one state directory, as its jobs see it."""

    client: Client
    root: Path
    n_shards: int

    def directory(self, shard: int) -> Path:
        """Return where the files of a shard lie."""
        return self.root / str(shard)

    def take(
        self, *, now_ms: int, limits: ArchiveLimits | None = None, every_s: float = EVERY_S
    ) -> list[ArchiveFile]:
        """Archive every shard that is due, if the records are ours to take; return the new files.

        Raises:
            OSError: one cannot be written; its archived mark stays.
        """
        if not self.holds():
            return []
        if limits is None:
            limits = self.limits(every_s)
        written = []
        for shard in range(self.n_shards):
            file = self.take_shard(shard, now_ms=now_ms, limits=limits)
            if file is not None:
                written.append(file)
        return written

    def limits(self, every_s: float) -> ArchiveLimits:
        """Return when a file is due: sooner where memory is short."""
        most = most_unarchived(self.client, self.n_shards)
        use = MemoryUse.parse(self.client.get(keys.MEMORY))
        if use is None:
            return ArchiveLimits(min(EVERY_BYTES, most // 4), every_s)
        if use.is_full:
            every_s = min(every_s, SHORT_S)
        soft = most // 4 if use.is_hard else use.limit_bytes // self.n_shards // SHARE
        return ArchiveLimits(min(EVERY_BYTES, most // 4, soft or EVERY_BYTES), every_s)

    def take_shard(self, shard: int, *, now_ms: int, limits: ArchiveLimits) -> ArchiveFile | None:
        """Archive one shard if it is due and nobody else does; return the new file.

        Raises:
            OSError: it cannot be written; the archived mark stays.
        """
        directory = self.directory(shard)
        with locked(directory) as mine:
            if not mine:
                return None
            for path in directory.glob(f"{archive_files.UNFINISHED}*"):
                path.unlink()  # of one that was killed: the lock is ours
            if not self.is_due(shard, now_ms=now_ms, limits=limits):
                return None
            return self._write(shard, directory)

    def skip(self) -> None:
        """Take everything folded as archived, without keeping it: for who wants no archive."""
        for shard in range(self.n_shards):
            fields = ["archived", "mark", "n_bytes"]
            archived, mark, n_bytes = self.client.hmget(keys.meta(shard), fields)
            if mark and mark != archived:
                n = int(n_bytes or 0)
                scripts.set_archived(
                    self.client, shard, seen=archived or START, mark=mark, n_bytes=n
                )

    def holds(self) -> bool:
        """Return whether this archive is the one that takes the records.

        Of two that took turns each would have holes.
        """
        owner = identity(self.root)
        return scripts.hold(self.client, keys.ARCHIVER, owner=owner, ttl_ms=HOLDER_TTL_MS)

    def is_due(self, shard: int, *, now_ms: int, limits: ArchiveLimits) -> bool:
        """Return whether a file of a shard is due."""
        fields = ["mark", "archived", "n_bytes", "archived_bytes"]
        mark, archived, n_bytes, kept = self.client.hmget(keys.meta(shard), fields)
        if mark is None or mark == archived:
            return False
        if int(n_bytes or 0) - int(kept or 0) >= limits.every_bytes:
            return True
        oldest = self.client.xrange(
            keys.stream(shard), min=next_id(archived or START), max=mark, count=1
        )
        return not oldest or now_ms - position(oldest[0][0])[0] >= limits.every_s * 1000

    def _write(self, shard: int, directory: Path) -> ArchiveFile | None:
        content = self.state(shard)
        archived = content.meta.get(b"archived", START)
        content.entries = self.entries(shard, archived, content.mark)
        missing = n_missing(content, since=content.meta.get(b"archived_bytes", b"0"))
        known = archive_files.list_files(directory)
        start: bytes | None = archived
        if missing or (archived != START and all(u.mark != archived for u in known)):
            start = None
            content = self.state(shard, with_labels=True)
            log.warning("the archive begins anew: a base", shard=shard, missing_bytes=missing)
            self.client.hincrby(keys.meta(shard), "n_archive_bases", 1)
        if not spent.keep(self.client, shard, directory, content):
            return None  # a block changed since: the next round will do
        file = archive_files.write(directory, content, start=start)
        n = _integer(content, b"n_bytes")
        if scripts.set_archived(self.client, shard, seen=archived, mark=file.mark, n_bytes=n):
            for other in known:  # of one killed before the mark moved: all of it is in ours
                if other.start == file.start and not other.is_base and other.path != file.path:
                    archive_files.delete(other)
            spent.sweep(directory, content)
        indexing.make(file, content)
        return file

    def state(self, shard: int, *, with_labels: bool = False) -> Content:
        """Return a shard's state at its mark, read in one step."""
        now_ms = int(self.client.time()[0]) * 1000
        if with_labels:
            return self._whole_state(shard, now_ms)
        while True:
            booked = _Booked(self.client, shard)
            pipeline = self.client.pipeline(transaction=True)
            _ask_state(pipeline, shard)
            booked.ask(pipeline)
            meta, rows, producers, *books = pipeline.execute()
            content = Content({b"mark": START, **meta}, rows, producers)
            if booked.put_into(content, books):
                return self._with_common(content, shard)

    def _whole_state(self, shard: int, now_ms: int) -> Content:
        """Return a state with all that was said, which a base is made of.

        Which hashes there are is read before, and again with what they hold.
        """
        days, spans = label_days(now_ms), ingested_spans(now_ms)
        while True:
            hashes = said_in(self.client.hgetall(keys.parts(shard)))
            booked = _Booked(self.client, shard)
            pipeline = self.client.pipeline(transaction=True)
            _ask_state(pipeline, shard)
            n_asked = booked.ask(pipeline)
            pipeline.hgetall(keys.parts(shard))
            pipeline.hgetall(keys.thawed(shard))
            pipeline.hgetall(keys.cold(shard))
            for day in days:
                pipeline.hgetall(keys.labels_of_day(shard, day))
            for day in days:
                pipeline.hgetall(keys.raters(shard, day))
            for span in spans:
                pipeline.smembers(keys.ingested(shard, span))
            for span, part in hashes:
                pipeline.hgetall(keys.labels(shard, span, part))
            meta, rows, producers, *found_all = pipeline.execute()
            books, (parts, thawed, cold, *others) = found_all[:n_asked], found_all[n_asked:]
            content = Content({b"mark": START, **meta}, rows, producers, cold=cold)
            if said_in(parts) == hashes and booked.put_into(content, books):
                break
        content.meta.pop(HEARD_SINCE, None)  # of a base that the store was restored from
        content.thawed = {nonce: row[THAWED_AT_BYTES:] for nonce, row in thawed.items()}
        found = iter(others)
        for names, placed in ((days, content.labels), (days, content.raters)):
            for day in names:
                placed.update({(day, name): row for name, row in next(found).items()})
        for span in spans:
            content.ingested.update(dict.fromkeys(next(found), b"%d" % span))
        for span, _ in hashes:
            content.words.update({(span, name): row for name, row in next(found).items()})
        return self._with_common(content, shard)

    def _with_common(self, content: Content, shard: int) -> Content:
        """Return a shard's state with what all shards share."""
        content.store = self.client.hgetall(keys.META)
        content.standings = self.client.hgetall(keys.STANDINGS)
        content.watches = self.client.hgetall(keys.DRIFT)
        content.prompts = self.client.hgetall(keys.PROMPTS)
        content.names = self.client.hgetall(keys.NAMES)
        content.tags = {} if shard else self.client.hgetall(keys.TAG_NAMES)
        return content

    def entries(self, shard: int, after: bytes, upto: bytes) -> dict[bytes, bytes]:
        """Return the stream's entries after one mark up to another."""
        found: dict[bytes, bytes] = {}
        while position(after) < position(upto):
            part = self.client.xrange(
                keys.stream(shard), min=next_id(after), max=upto, count=READ_ENTRIES
            )
            if not part:
                break
            found.update((entry_id, fields.get(b"f", b"")) for entry_id, fields in part)
            after = part[-1][0]
        return found


class _Booked:
    """The ledger's rows of a shard, and those of budgets: which there are is asked before."""

    def __init__(self, client: Client, shard: int) -> None:
        self._shard = shard
        self._spans = client.hkeys(keys.spent_spans(shard))
        self._days = budgets.days_of(client, shard)

    def ask(self, pipeline: Client) -> int:
        """Ask for what `put_into` needs; return how often."""
        self._n = spent.ask(pipeline, self._shard, self._spans)
        return self._n + budgets.ask(pipeline, self._shard, self._days)

    def put_into(self, content: Content, replies: list[Any]) -> bool:
        """Put them into a checkpoint; return False where there are others now."""
        has_spent = spent.put_into(content, self._spans, replies[: self._n])
        return has_spent and budgets.put_into(content, self._days, replies[self._n :])


def said_in(parts: Mapping[bytes, bytes]) -> list[tuple[int, str]]:
    """Return span and part of all hashes of labels that there may be, given `keys.parts`."""
    return [
        (int(span), f"{n}.{part}")
        for span, value in sorted(parts.items())
        for n in YoungSpan.parse(value).labels
        for part in range(n)
    ]


def _ask_state(pipeline: Client, shard: int) -> None:
    for name in (keys.meta(shard), keys.rows(shard), keys.producers(shard)):
        pipeline.hgetall(name)


def label_days(now_ms: int) -> list[int]:
    """Return the days of whose decisions labels may be kept."""
    today = now_ms // DAY_MS
    return list(range(today - LABEL_DAYS - LAG_DAYS, today + 3))


def ingested_spans(now_ms: int) -> list[int]:
    """Return the spans of days of whose ingested outcomes nonces may count."""
    span = now_ms // DAY_MS // SPAN_DAYS
    return list(range(span - SPANS + 1, span + 1))


def identity(root: Path) -> str:
    """Return the archive's own name, made once."""
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    name, mine = root / "id", root / f".{secrets.token_hex(8)}"
    if not name.exists():
        mine.write_text(secrets.token_hex(8))
        with suppress(FileExistsError):
            os.link(mine, name)
        mine.unlink()
    return name.read_text()


def n_missing(content: Content, *, since: bytes) -> int:
    """Return how many bytes were folded that `entries` does not hold, since so many were.

    Trimmed beyond the archive, deleted by hand, of a store that came back with less: whatever the
    reason, such entries do not lead from one state to the other.
    """
    folded = _integer(content, b"n_bytes") - int(since)
    return folded - sum(map(len, content.entries.values()))


@contextmanager
def locked(directory: Path, name: str = "lock", *, shared: bool = False) -> Iterator[bool]:
    """Yield whether a lock of the directory is ours; it goes with the process."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(directory / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        yield False
        return
    try:
        yield True
    finally:
        os.close(descriptor)


def next_id(entry_id: bytes) -> str:
    """Return the first id behind an entry's: exclusive ranges are not known to every server."""
    ms, number = position(entry_id)
    return f"{ms}-{number + 1}"


def _integer(content: Content, name: bytes) -> int:
    return int(content.meta.get(name, 0))
