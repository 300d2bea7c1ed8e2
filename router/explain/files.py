"""Files of decisions: SQLite, a few pieces a day, the oldest deleted first.

A decision lies in a piece of the day on which it was made. A piece that has grown to its size is
followed by another, so that a bound on all of them costs the oldest decisions and never the
newest. Several processes may write to one directory: they agree on the pieces by their names.

Decisions of one second that are written at once are one row, packed: a row for each would cost
three times the CPU and eight times the room. Who looks for one unpacks those of its second.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from pathlib import Path

import structlog

from router.explain.earlier import BEGINS, EarlierBatch
from router.explain.kept import KeptBatch, PackedBatch, Parts
from router.explain.rows import DecisionRow, RowPacking, by_second, holds

log = structlog.get_logger()

PIECES = 32
"""Of so many the bound is made: about that share of it is deleted at once."""
LEAST_PIECE_BYTES = 1 << 16
OPEN_S = 30.0
"""A piece that is written to stays open for so long: to open and close one costs as much as some
hundred decisions."""
BUSY_S = 0.5
"""One writer waits so long for another's batch; then its own is tried again later."""
EXTRA_DAYS = 1
"""A session keeps its draw for a day at most: those who followed it can still name it."""
DAY_MS = 86_400_000
SUFFIX = ".sqlite"
DAMAGED = ".damaged"
LEFT_BEHIND = ("", "-wal", "-shm")
_TABLES = """
create table if not exists batch (second integer, rows blob);
create index if not exists by_second on batch (second);
create table if not exists part (digest blob primary key, body blob);
"""
"""A part lies behind the one before it, and only its digest in the order of digests: with its body
each would touch a page of its own. Pieces of earlier versions have it so, and are kept as they are.
"""


class DecisionFiles:
    """The pieces in one directory. One thread at a time writes; any may read."""

    name = "files"

    def __init__(self, directory: Path, *, days: float, max_bytes: int) -> None:
        self._directory = directory
        self._days, self._max_bytes = days, max_bytes
        self._told = False  # that there are too many
        self._piece_bytes = max(max_bytes // PIECES, LEAST_PIECE_BYTES)
        self._open: _OpenPiece | None = None  # what was written to last
        self.packing = RowPacking()

    def write(self, rows: list[DecisionRow], parts: Mapping[bytes, bytes]) -> None:
        """Write rows down; one that is written twice is found all the same.

        Args:
            parts: text, compressed, of every digest that they name.

        Raises:
            sqlite3.Error, OSError: locked, full, or not ours to write; some may be written.
        """
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        by_day: dict[str, list[DecisionRow]] = {}
        for row in rows:
            by_day.setdefault(day_of(row.decided_at_ms), []).append(row)
        for day, those in sorted(by_day.items()):
            path, is_new = self._piece(day)
            self._write(path, those, parts)
            if is_new:
                self.prune()

    def _write(self, path: Path, rows: list[DecisionRow], parts: Mapping[bytes, bytes]) -> None:
        named = {digest for row in rows for digest in row.parts}
        shared = [(digest, parts[digest]) for digest in named]
        batches = [(second, self.packing.of(those)) for second, those in by_second(rows)]
        piece = self._open
        if piece is not None and (piece.path != path or not piece.is_ours()):
            self.close()
        if self._open is None:
            self._open = _opened_to_write(path)
        piece = self._open
        try:
            piece.insert(batches, shared)
        except sqlite3.DatabaseError as error:
            self.close()
            if isinstance(error, sqlite3.OperationalError):
                raise  # the file itself may be sound
            _put_aside(path, piece.inode)
            self._open = _opened_to_write(path)
            self._open.insert(batches, shared)

    @property
    def is_open(self) -> bool:
        """Whether a piece stays open: `rest` is to be called soon."""
        return self._open is not None

    def rest(self) -> None:
        """Close a piece that was open for long, so that all of it lies in its one file."""
        if self._open is not None and time.monotonic() >= self._open.until:
            self.close()

    def close(self) -> None:
        """Close what is open."""
        piece, self._open = self._open, None
        if piece is not None:
            piece.database.close()

    def near(self, decided_at_ms: int) -> Iterator[list[KeptBatch]]:
        """Yield the batches of a decision's second.

        Raises:
            sqlite3.Error, OSError, ValueError: what should hold it cannot be read.
        """
        yield from self._each(
            self._directory.glob(f"{day_of(decided_at_ms)}.*{SUFFIX}"),
            "select rows from batch where second = ?",
            decided_at_ms // 1000,
        )

    def newest(self) -> Iterator[list[KeptBatch]]:
        """Yield all batches a piece at a time, the newest piece first, as `near` does."""
        yield from self._each(self._newest(), "select rows from batch order by rowid desc")

    def holding(self, sessions: Sequence[bytes]) -> Iterator[list[KeptBatch]]:
        """Yield the batches that may hold decisions of these sessions, as `newest` does."""
        select = "select rows from batch where holds(rows) order by rowid desc"
        yield from self._each(self._newest(), select, holds=partial(holds, sessions=sessions))

    def since_ms(self) -> int | None:
        """Return when the first day begins of which there is a piece; None where there is none."""
        pieces = sorted(self._directory.glob(f"*{SUFFIX}"), key=_order)
        if not pieces:
            return None
        day = datetime.strptime(_order(pieces[0])[0], "%Y-%m-%d").replace(tzinfo=UTC)
        return int(day.timestamp() * 1000)

    def prune(self) -> int:
        """Delete pieces that are too old, then the oldest of too many; return how many."""
        oldest = datetime.now(UTC) - timedelta(days=self._days + EXTRA_DAYS)
        pieces = sorted(self._pieces(), key=_order)
        sizes = {path: _size(path) for path in pieces}
        total, gone = sum(sizes.values()), 0
        for path in pieces:
            is_old = path.name < oldest.strftime("%Y-%m-%d")
            if is_old or (total > self._max_bytes and path is not pieces[-1]):
                if not is_old and not self._told:
                    log.warning("server.explain_max_bytes is reached: the oldest decisions go")
                    self._told = True
                total -= sizes[path]
                gone += 1
                for left in LEFT_BEHIND:
                    path.with_name(path.name + left).unlink(missing_ok=True)
        return gone

    def _piece(self, day: str) -> tuple[Path, bool]:
        """Return the piece to write to, and whether it is to be begun."""
        pieces = sorted(self._directory.glob(f"{day}.*{SUFFIX}"), key=_order)
        if pieces and _size(pieces[-1]) < self._piece_bytes:
            return pieces[-1], False
        number = _order(pieces[-1])[1] + 1 if pieces else 0
        return self._directory / f"{day}.{number}{SUFFIX}", True

    def _pieces(self) -> Iterator[Path]:
        for path in self._directory.glob(f"*{SUFFIX}*"):
            if path.name.removesuffix(DAMAGED).endswith(SUFFIX):
                yield path

    def _newest(self) -> list[Path]:
        return sorted(self._directory.glob(f"*{SUFFIX}"), key=_order, reverse=True)

    def _each(
        self,
        pieces: Iterable[Path],
        select: str,
        *given: int,
        holds: Callable[[bytes], bool] | None = None,
    ) -> Iterator[list[KeptBatch]]:
        problem: Exception | None = None
        for path in pieces:
            try:
                with closing(_opened(path)) as database:
                    if holds is not None:
                        database.create_function("holds", 1, holds, deterministic=True)
                    parts = partial(_parts, path)
                    found = database.execute(select, given).fetchall()
                    batches = [_unpacked(packed, parts) for (packed,) in found]
            except (sqlite3.Error, OSError, ValueError) as error:
                problem = error  # it may lie in another piece
                continue
            yield batches
        if problem is not None:
            raise problem


def _unpacked(packed: bytes, parts: Parts) -> KeptBatch:
    if packed.startswith(BEGINS):
        return EarlierBatch(packed, parts)
    return PackedBatch(packed, parts)


def _parts(path: Path, digests: Iterable[bytes]) -> dict[bytes, bytes]:
    """Return the parts of a piece that have these digests."""
    asked = list(digests)
    marks = ",".join("?" * len(asked))
    with closing(_opened(path)) as database:
        # Only the number of marks is put into the text.
        select = f"select digest, body from part where digest in ({marks})"  # noqa: S608
        return dict(database.execute(select, asked).fetchall())


def _opened(path: Path) -> sqlite3.Connection:
    """Return a piece for reading; one that went meanwhile is not made again."""
    uri = f"{path.absolute().as_uri()}?mode=rw"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_S)


class _OpenPiece:
    """A piece that decisions are written to, and how its file looked when that was done last."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = _connect(path)
        self.until = time.monotonic() + OPEN_S
        self.inode = _inode(path)
        self._seen = _look(path)

    def is_ours(self) -> bool:
        """Return whether nobody else changed the file: then what is known of it holds."""
        return self._seen is not None and self._seen == _look(self.path)

    def insert(self, batches: list[tuple[int, bytes]], parts: list[tuple[bytes, bytes]]) -> None:
        """Write batches by second, and the parts that they name, all or none."""
        with self.database as database:
            database.executemany("insert or ignore into part values (?, ?)", parts)
            database.executemany("insert into batch values (?, ?)", batches)
        self._seen = _look(self.path)


def _opened_to_write(path: Path) -> _OpenPiece:
    """Return a piece to write to; one that is damaged makes way for a new one."""
    seen = _inode(path)
    try:
        return _OpenPiece(path)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise  # the file itself may be sound
        _put_aside(path, seen)
        return _OpenPiece(path)


def _look(path: Path) -> tuple[int, int, int] | None:
    """Return by what a change of a file shows; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=BUSY_S, check_same_thread=False)
    try:
        database.execute("pragma journal_mode = wal")
        database.execute("pragma synchronous = normal")  # a killed process loses nothing by it
        database.executescript(_TABLES)
    except sqlite3.Error:
        database.close()
        raise
    return database


def _put_aside(path: Path, seen: int | None) -> None:
    """Make way for a new file where one is no database any more, unless another did so already.

    Args:
        seen: which file was found damaged.
    """
    with _locked(path.parent):
        if _inode(path) != seen:
            return
        log.error("a file of decisions is damaged and put aside", file=path.name)
        for left in LEFT_BEHIND[1:]:  # first: afterwards they might be those of a new file
            path.with_name(path.name + left).unlink(missing_ok=True)
        path.replace(path.with_name(f"{path.name}{DAMAGED}"))


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def day_of(at_ms: int) -> str:
    """Return the UTC date of a moment."""
    return _date(at_ms // DAY_MS)


@lru_cache(maxsize=64)
def _date(day: int) -> str:
    return datetime.fromtimestamp(day * DAY_MS / 1000, UTC).strftime("%Y-%m-%d")


def _order(path: Path) -> tuple[str, int]:
    """Return what pieces are ordered by: day and number."""
    day, _, rest = path.name.partition(".")
    number = rest.partition(".")[0]
    return day, int(number) if number.isdecimal() else 0


def _size(path: Path) -> int:
    """Return how many bytes a piece takes, what it left behind included."""
    total = 0
    for left in LEFT_BEHIND:
        try:
            total += path.with_name(path.name + left).stat().st_size
        except FileNotFoundError:
            continue
    return total


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None
