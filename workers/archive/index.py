"""The index of one file of the archive: which decisions it holds, and what was said in it.

Sorted columns beside the file, mapped into memory and searched: which decisions an answer's id or
a caller's reference names, which one has a nonce, and which words hold of it. All of it follows
from the file; so an index that is missing, damaged or of an earlier form is made anew, and nobody
believes one whose checksum is wrong. It knows no other file: what several files say of a decision
is put together by who asks (`lookup`).
"""

from __future__ import annotations

import mmap
import os
import secrets
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from telemetry.decisions import DECISION, KIND, Decisions, decided_at_ms
from workers.archive.columns import (
    DIGEST_REST,
    NamePairs,
    find,
)
from workers.archive.files import UNFINISHED, ArchiveFile
from workers.folding.hearing import ENTRIES

FORM = b"pmindex3"
"""First bytes behind the checksum; an index of another form is made anew."""
FACTS = np.dtype(DECISION.descr[1:])
"""A decision without its nonce, which is a column to search in."""
COLUMNS: dict[str, np.dtype[Any]] = {
    "kinds": KIND,
    "nonces": np.dtype("<u8"),  # of decisions, in rising order
    "nonces_rest": np.dtype("<u8"),
    "facts": FACTS,
    "user_rows": np.dtype("<u4"),  # decisions of named users, in rising order
    "users": np.dtype("<u8"),
    "digests": np.dtype("<u8"),  # of references, in rising order
    "digests_rest": DIGEST_REST,
    "digest_rows": np.dtype("<u4"),  # which decision each names
    "word_nonces": np.dtype("<u8"),  # of words, in rising order
    "word_nonces_rest": np.dtype("<u8"),
    "words": ENTRIES,
    "is_told": np.dtype("u1"),  # whether a word came with an outcome that may be told again
    "told": np.dtype("<u8"),  # nonces of outcomes that were told before, of a base
    "told_rest": np.dtype("<u8"),
    "heard_since_ms": np.dtype("<i8"),  # one: of decisions made since, a base has all words
}
"""As they lie in the file, each from a multiple of 8 bytes on."""
_HEAD = struct.Struct(f"<8s16sqq{len(COLUMNS)}Q")
CHECKSUM_BYTES = 16
KEPT_HEADS = 1 << 14
"""Files of which it is remembered that their index is sound: five times a month of hours at four
shards. To read all of them costs seconds, to look into them a tenth of that."""


class DamagedIndex(Exception):
    """An index is not what was written for its file."""


@dataclass(frozen=True, slots=True)
class Head:
    """What an index says of itself."""

    digest: bytes  # of the file that it belongs to
    oldest_ms: int  # when the first decision in it was made
    newest_ms: int  # and the last; before `oldest_ms` where there is none
    places: Mapping[str, tuple[int, int]]  # of its columns: the first byte, and how many elements


@dataclass(frozen=True, slots=True)
class Index:
    """An index, open; its columns lie in the file."""

    data: bytes | mmap.mmap
    head: Head

    def column(self, name: str) -> NDArray[Any]:
        """Return one of COLUMNS."""
        first, size = self.head.places[name]
        return np.frombuffer(self.data, dtype=COLUMNS[name], count=size, offset=first)

    def named(self, digests: NamePairs) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return which of the digests name which decisions: places in `digests`, and rows."""
        slots, places = find(self.column("digests"), self.column("digests_rest"), digests)
        return slots, self.column("digest_rows")[places].astype(np.intp)

    def of_nonces(self, nonces: NamePairs) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return which of the nonces have a decision here: places in `nonces`, and rows."""
        return find(self.column("nonces"), self.column("nonces_rest"), nonces)

    def said_of(self, nonces: NamePairs) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return of which nonces something is said here: places in `nonces`, and words."""
        return find(self.column("word_nonces"), self.column("word_nonces_rest"), nonces)

    def told_before(self, nonces: NamePairs) -> NDArray[np.intp]:
        """Return which nonces are, by this base, of outcomes that were told earlier: places."""
        return find(self.column("told"), self.column("told_rest"), nonces)[0]

    def decided_at_ms(self, rows: NDArray[np.intp]) -> NDArray[np.int64]:
        """Return when the decisions of some rows were made."""
        return decided_at_ms(self.column("facts").take(rows))

    def tokens(self, rows: NDArray[np.intp], *, shard: int) -> NDArray[np.void]:
        """Return the decisions of some rows as tokens of TOKEN."""
        facts, found = self.column("facts").take(rows), np.empty(len(rows), dtype=DECISION)
        for name in FACTS.names or ():
            found[name] = facts[name]
        nonces = self.column("nonces")[rows], self.column("nonces_rest")[rows]
        found["nonce"] = NamePairs(*nonces).as_nonces()
        users = np.zeros(len(rows), dtype=np.uint64)
        named = self.column("user_rows")
        at = np.searchsorted(named, rows.astype(named.dtype))  # of another type it would be copied
        mine = np.flatnonzero(at < len(named))
        mine = mine[named[at[mine]] == rows[mine]]
        users[mine] = self.column("users")[at[mine]]
        return Decisions(found, self.column("kinds"), users).to_tokens(shard)


def seal(columns: Mapping[str, NDArray[Any]], digest: str, decided_at_ms: NDArray[Any]) -> bytes:
    """Return the index with these columns.

    Args:
        digest: of the file that it belongs to.
        decided_at_ms: when the decisions in it were made, in any order.
    """
    parts = [columns[name].astype(dtype, copy=False) for name, dtype in COLUMNS.items()]
    span = (int(decided_at_ms.min()), int(decided_at_ms.max())) if len(decided_at_ms) else (0, -1)
    sizes = tuple(map(len, parts))
    whole = bytearray(_offsets(sizes)[-1])
    _HEAD.pack_into(whole, CHECKSUM_BYTES, FORM, bytes.fromhex(digest), *span, *sizes)
    for part, at in zip(parts, _offsets(sizes), strict=False):
        whole[at : at + part.nbytes] = part.tobytes()
    whole[:CHECKSUM_BYTES] = _checksum(whole)
    return bytes(whole)


def parse(data: bytes, digest: str) -> Index:
    """Return the index in `data`, which belongs to the file of this digest.

    Raises:
        DamagedIndex: it is not what was written for that file.
    """
    return Index(data, _parse_head(data, digest))


def read(file: ArchiveFile, head: Head) -> Index:
    """Return a file's index, mapped into memory.

    Args:
        head: as it was read before.

    Raises:
        FileNotFoundError: it is gone.
    """
    with file.index_path.open("rb") as opened:
        return Index(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ), head)


def read_head(file: ArchiveFile) -> Head:
    """Return what a file's index says of itself, once all of it was found sound.

    That costs a reading of the whole, the first time; then it is remembered, until the index
    is another one by its size, its times or its number on the disk.

    Raises:
        DamagedIndex: it is not what was written for that file.
        FileNotFoundError: there is none.
    """
    stat = file.index_path.stat()
    seen = (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    return _sound_head(file.index_path, file.digest, seen)


def write(file: ArchiveFile, data: bytes) -> None:
    """Write a file's index; whoever does so holds the lock of its directory.

    It is there in full or, after a power cut, not sound: then it is made anew, and so nothing is
    waited for here.

    Raises:
        OSError: no space left, for instance; nothing is left behind.
    """
    unfinished = file.path.parent / f"{UNFINISHED}{secrets.token_hex(8)}"
    try:
        with unfinished.open("xb") as opened:
            os.fchmod(opened.fileno(), 0o600)
            opened.write(data)
        unfinished.rename(file.index_path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


@lru_cache(maxsize=KEPT_HEADS)
def _sound_head(path: Path, digest: str, seen: tuple[int, ...]) -> Head:
    return _parse_head(path.read_bytes(), digest)


def _parse_head(data: bytes, digest: str) -> Head:
    if len(data) < CHECKSUM_BYTES + _HEAD.size or data[:CHECKSUM_BYTES] != _checksum(data):
        raise DamagedIndex("its bytes are not those that were written")
    form, own, oldest, newest, *sizes = _HEAD.unpack_from(data, CHECKSUM_BYTES)
    if form != FORM or own.hex() != digest or _offsets(tuple(sizes))[-1] != len(data):
        raise DamagedIndex("it is of another form, or of another file")
    places = dict(zip(COLUMNS, zip(_offsets(tuple(sizes)), sizes, strict=False), strict=True))
    return Head(own, oldest, newest, places)


def _checksum(data: bytes | bytearray) -> bytes:
    return blake2b(memoryview(data)[CHECKSUM_BYTES:], digest_size=CHECKSUM_BYTES).digest()


def _offsets(sizes: tuple[int, ...]) -> list[int]:
    """Return where each column begins, and last where the file ends."""
    begin = CHECKSUM_BYTES + _HEAD.size
    dtypes = COLUMNS.values()
    each = (-(-size * dtype.itemsize // 8) * 8 for size, dtype in zip(sizes, dtypes, strict=True))
    return list(accumulate(each, initial=-(-begin // 8) * 8))
