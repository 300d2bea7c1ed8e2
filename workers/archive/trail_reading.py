"""The audit trail read from wherever it lies: journals here, then the stream, then the files.

In the order in which records travel, so that one which moves on meanwhile is met where it arrives.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from telemetry import frames, journal, keys
from telemetry.errors import MalformedEvent
from telemetry.passed import Progress
from telemetry.trail import decode_trail
from telemetry.trail_content import TrailContent
from workers.archive import trail_files
from workers.archive.archive import next_id
from workers.archive.trail import Trail
from workers.archive.trail_files import DAY_MS, KEPT_SINCE
from workers.folding.batch import START, position

READ_ENTRIES = 128
BEFORE_MS = 2 * DAY_MS
"""Read before the time that is asked about: what was in force then was said within a day."""


def read_trail(trail: Trail, journals: Path, *, since_ms: int) -> TrailContent:
    """Return the trail; of what is well before `since_ms` only which numbers there were.

    Raises:
        redis.RedisError: the store is away.
    """
    found = TrailContent(since_ms)
    local = _read_journals(journals, trail.n_shards, found)
    words = trail.client.hgetall(keys.PASSED)  # of all that decide calls, and of nobody else
    _read_stream(trail, found)
    _read_files(trail.directory, found, since_ms=since_ms - BEFORE_MS)
    found.n_mute = len(words.keys() - found.numbers.keys())
    _note_others({who: word for who, word in words.items() if who not in local}, found)
    keeper, own = trail.client.get(keys.TRAIL_KEEPER), trail.root / "id"
    if keeper is not None and not (own.exists() and own.read_text() == keeper.decode()):
        found.not_looked_at.append("the files: another archive takes the trail; ask where it is")
    return found


def _read_journals(root: Path, n_shards: int, found: TrailContent) -> set[bytes]:
    """Read what processes on this machine have not sent, or just did; return who they are."""
    local: set[bytes] = set()
    for directory in sorted(root.iterdir()) if root.is_dir() else ():
        if directory.name.startswith(".") or not directory.is_dir():
            continue
        with suppress(ValueError):
            local.add(bytes.fromhex(directory.name))
        for path in journal.segments(directory):
            with suppress(MalformedEvent, FileNotFoundError):
                _read_segment(journal.Segment.open(path), n_shards, found)
    found.looked_at.append(f"journals in {root}")
    return local


def _read_segment(segment: journal.Segment, n_shards: int, found: TrailContent) -> None:
    if len(segment.bases) <= n_shards:
        return  # of a version that kept no trail
    data = segment.read(segment.path.stat().st_size // segment.record_size)
    for frame in frames.cut(data, segment.producer, list(segment.bases), version=segment.version):
        if frame.shard == n_shards:
            first = decode_trail(frame.body[: frame.record_size])
            told = first.intents if len(first.intents) else first.parts
            found.add(frame, int(told["at_ms"][0]) if len(told) else 0)


def _read_stream(trail: Trail, found: TrailContent) -> None:
    """Read what is not archived yet."""
    at = START
    stream = keys.stream(trail.n_shards)
    while entries := trail.client.xrange(stream, min=next_id(at), count=READ_ENTRIES):
        for entry_id, fields in entries:
            try:
                frame = frames.unpack(fields.get(b"f", b""))
            except MalformedEvent:
                found.n_unsound += 1
                continue
            found.add(frame, position(entry_id)[0])
        at = entries[-1][0]
    found.looked_at.append("the store's stream")


def _note_others(words: dict[bytes, bytes], found: TrailContent) -> None:
    """Take note of how far those are whose journals do not lie here."""
    found.sent_ms = [Progress.parse(word).passed_ms for word in words.values()]
    if words:
        found.not_looked_at.append(
            f"journals that are not here: {len(words)} processes elsewhere, or killed lately, may "
            "have left records that are not sent"
        )


def _read_files(directory: Path, found: TrailContent, *, since_ms: int) -> None:
    with suppress(FileNotFoundError, ValueError):
        found.kept_since_ms = int((directory / KEPT_SINCE).read_text())
    for day, path in trail_files.days(directory):
        whole = (day + 1) * DAY_MS > since_ms
        try:
            for block in trail_files.blocks(path, whole=whole):
                if block.is_damaged:
                    found.damaged.append(f"{path.name}: a block cannot be read")
                elif whole:
                    for at_ms, frame in block.frames():
                        found.add(frame, at_ms)
                else:
                    for at_ms, producer, first, n in block.numbers:
                        found.note(producer, first, n, at_ms)
        except FileNotFoundError:  # it is too old by now
            continue
        except MalformedEvent as error:
            found.damaged.append(f"{path.name}: {error}")
    found.looked_at.append(f"files in {directory}")
