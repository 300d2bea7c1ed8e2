"""Files of the archive: what they hold, how they are named, how they make a chain.

A file holds all entries of one shard's stream after one mark up to another, and the shard's state
at the latter. A *base* holds a state, labels and raters but no entries: from it a chain begins
where there is no earlier record. A file appears whole or not at all, and never changes; its name
carries the digest of its bytes, so that damage shows before anything is believed.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from workers.folding.batch import DAY_MS, START, Entries, Window, position
from workers.folding.history import History
from workers.folding.raters import Seat

SUFFIX = ".parquet"
INDEX_SUFFIX = ".index"
UNFINISHED = ".tmp-"
_BASE = "base"
DAY_BYTES = 8
HEARD_SINCE = b"heard_since_ms"
"""Field of a base's `meta`; in that of other files it means nothing."""

Placed = dict[tuple[int, bytes], bytes]
"""Rows by a day or a span, and a name."""


class Damaged(Exception):
    """A file does not hold what was written."""

    def __init__(self, path: Path) -> None:
        super().__init__("its bytes are not those that were written")
        self.path = path


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """One file, as its name tells."""

    path: Path
    start: bytes | None  # it holds all entries after this one; None: it is a base
    mark: bytes  # the last entry in it, and whose state it ends with
    digest: str

    @property
    def is_base(self) -> bool:
        """Whether it holds no entries, but labels and raters."""
        return self.start is None

    @property
    def index_path(self) -> Path:
        """Where its index lies, which belongs to this very file."""
        return self.path.with_suffix(INDEX_SUFFIX)

    @classmethod
    def parse(cls, path: Path) -> ArchiveFile | None:
        """Return what a file's name tells, or None where it is none of ours."""
        span, _, digest = path.name.removesuffix(SUFFIX).partition(".")
        start, _, mark = span.partition("_")
        try:
            file = cls(path, None if start == _BASE else _unpad(start), _unpad(mark), digest)
        except ValueError:
            return None
        forward = file.start is None or position(file.start) < position(file.mark)
        return file if forward else None


@dataclass(slots=True)
class Content:
    """What a file holds."""

    meta: dict[bytes, bytes] = field(default_factory=dict)  # of the shard: mark, counters
    rows: dict[bytes, bytes] = field(default_factory=dict)
    producers: dict[bytes, bytes] = field(default_factory=dict)
    labels: Placed = field(default_factory=dict)  # of a base, by day and nonce, wide
    words: Placed = field(default_factory=dict)  # of a base, by span and last bytes of nonces
    raters: dict[Seat, bytes] = field(default_factory=dict)  # of a base
    thawed: dict[bytes, bytes] = field(default_factory=dict)  # of a base: nonce -> what was said
    cold: dict[bytes, bytes] = field(default_factory=dict)  # of a base: feedback for old decisions
    ingested: dict[bytes, bytes] = field(default_factory=dict)  # of a base: nonce -> span of days
    entries: dict[bytes, bytes] = field(default_factory=dict)  # id -> frame
    standings: dict[bytes, bytes] = field(default_factory=dict)
    watches: dict[bytes, bytes] = field(default_factory=dict)
    prompts: dict[bytes, bytes] = field(default_factory=dict)  # their versions, and epochs of tasks
    names: dict[bytes, bytes] = field(default_factory=dict)
    spent: dict[bytes, bytes] = field(default_factory=dict)  # loose rows of the ledger
    blocks: dict[bytes, bytes] = field(default_factory=dict)  # of it, as `keys.spent_blocks`
    gone: dict[bytes, bytes] = field(default_factory=dict)  # users to be forgotten in blocks
    budgets: Placed = field(default_factory=dict)  # rows of their accounts, by day and field
    tags: dict[bytes, bytes] = field(default_factory=dict)  # with the first shard
    store: dict[bytes, bytes] = field(default_factory=dict)  # shards, schema, incarnation

    @property
    def mark(self) -> bytes:
        """Whose state this is."""
        return self.meta[b"mark"]

    @property
    def heard_since_ms(self) -> int:
        """Of decisions made since then a base has all that was said up to its mark.

        One that was made of a store has what was young there, unless it says otherwise.
        """
        said = self.meta.get(HEARD_SINCE)
        if said is not None:
            return int(said)
        return History.parse(self.meta.get(b"young")).oldest_ms(position(self.mark))

    @property
    def windows(self) -> dict[bytes, Window]:
        """Return the producers' windows."""
        return {name: Window.parse(value) for name, value in self.producers.items()}

    def as_entries(self) -> Entries:
        """Return the entries as the store gives them."""
        return [(entry_id, {b"f": frame}) for entry_id, frame in self.entries.items()]


_PLAIN = (
    *("meta", "rows", "producers", "ingested", "thawed", "cold", "entries"),
    *("standings", "watches", "prompts", "names", "store"),
    *("spent", "blocks", "gone", "tags"),
)
"""Parts of a file that are kept as they are."""
_OF_DAYS = ("labels", "raters", "words", "budgets")
"""Parts that are keyed by a day, or a span, and a name."""


def list_files(directory: Path) -> list[ArchiveFile]:
    """Return the files of one shard, in the order of their marks."""
    found = (ArchiveFile.parse(path) for path in directory.glob(f"*{SUFFIX}"))
    return sorted((u for u in found if u), key=lambda u: (position(u.mark), u.is_base))


def chains(found: list[ArchiveFile]) -> list[list[ArchiveFile]]:
    """Return the chains that the files make, oldest first.

    A chain is followed back from its newest file, each time to the one that ends where the next
    begins. What an archiver left behind that was killed, or was not alone, lies on no chain.
    """
    by_mark = {file.mark: file for file in found}  # of one mark the base, which ends the chain
    out: list[list[ArchiveFile]] = []
    before: bytes | None = None
    for head in reversed(found):
        if before is not None and position(head.mark) > position(before):
            continue
        chain = [head]
        while (start := chain[0].start) is not None and start in by_mark:
            chain.insert(0, by_mark[start])
        out.insert(0, chain)
        before = chain[0].mark if chain[0].start is None else chain[0].start
    return [chain for chain in out if len(chain) > 1 or not chain[0].is_base or chain is out[-1]]


def is_whole(chain: list[ArchiveFile]) -> bool:
    """Return whether a chain has its beginning: a base, or the stream's own first entry."""
    return chain[0].start in (None, START)


def write(directory: Path, content: Content, *, start: bytes | None) -> ArchiveFile:
    """Write a file; it is there in full, and safe from a power cut, or not at all.

    Raises:
        OSError: no space left, for instance; nothing is left behind.
    """
    import polars as pl

    columns = _columns(content)
    unfinished = directory / f"{UNFINISHED}{secrets.token_hex(8)}"
    try:
        with unfinished.open("xb") as file:
            os.fchmod(file.fileno(), 0o600)
            pl.DataFrame(columns).write_parquet(file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        with unfinished.open("rb") as file:
            digest = hashlib.file_digest(file, _digest).hexdigest()
        span = f"{_BASE if start is None else _pad(start)}_{_pad(content.mark)}"
        path = directory / f"{span}.{digest}{SUFFIX}"
        unfinished.rename(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    sync(directory)
    return ArchiveFile(path, start, content.mark, digest)


def read(file: ArchiveFile) -> Content:
    """Return what a file holds.

    Raises:
        Damaged: it is not what was written.
        FileNotFoundError: it is gone.
    """
    import polars as pl

    data = file.path.read_bytes()
    if hashlib.blake2b(data, digest_size=16).hexdigest() != file.digest:
        raise Damaged(file.path)
    try:
        frame = pl.read_parquet(BytesIO(data))
        rows = zip(frame["part"], frame["key"], frame["value"], strict=True)
        content = Content()
        for part, key, value in rows:
            if part in _OF_DAYS:
                day = int.from_bytes(key[:DAY_BYTES], "big", signed=True)
                getattr(content, part)[day, key[DAY_BYTES:]] = value
            elif part in _PLAIN:
                getattr(content, part)[key] = value
    except pl.exceptions.PolarsError as error:
        raise Damaged(file.path) from error
    return content


def delete(file: ArchiveFile) -> None:
    """Delete a file and its index; killed between, it leaves a file whose index is made anew."""
    file.index_path.unlink(missing_ok=True)
    file.path.unlink(missing_ok=True)


def n_bytes(file: ArchiveFile) -> int:
    """Return what a file takes on the disk, its index included."""
    index = file.index_path
    return file.path.stat().st_size + (index.stat().st_size if index.exists() else 0)


def sync(directory: Path) -> None:
    """Make names in a directory safe from a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def age_days(file: ArchiveFile, *, now_ms: int) -> float:
    """Return how long ago a file's last entry came."""
    return (now_ms - position(file.mark)[0]) / DAY_MS


def _columns(content: Content) -> dict[str, list[str] | list[bytes]]:
    parts: list[str] = []
    names: list[bytes] = []
    values: list[bytes] = []
    for part in _PLAIN:
        pairs: dict[bytes, bytes] = getattr(content, part)
        parts += [part] * len(pairs)
        names += pairs.keys()
        values += pairs.values()
    for part in _OF_DAYS:
        rows: dict[tuple[int, bytes], bytes] = getattr(content, part)
        parts += [part] * len(rows)
        names += [day.to_bytes(DAY_BYTES, "big", signed=True) + name for day, name in rows]
        values += rows.values()
    return {"part": parts, "key": names, "value": values}


def _digest() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=16)


def _pad(entry_id: bytes) -> str:
    return "{:015d}-{:010d}".format(*position(entry_id))


def _unpad(text: str) -> bytes:
    return "{}-{}".format(*position(text.encode())).encode()
