"""Making the index of a file: what of its records is found again, and by what names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from telemetry import references
from telemetry.decisions import Decisions
from telemetry.events import Flag, Kind
from workers.archive.columns import digests_of, from_end, nonces_in, nonces_of
from workers.archive.files import ArchiveFile, Content
from workers.archive.index import FACTS, seal, write
from workers.folding import hearing
from workers.folding.batch import DAY_MS, Batch, take_apart
from workers.folding.effects import is_heard
from workers.folding.hearing import ENTRIES, pieces
from workers.folding.history import History
from workers.folding.labels import narrowed
from workers.folding.naming import names_of

NONCE_BYTES = 16

log = structlog.get_logger()


def make(file: ArchiveFile, content: Content) -> bytes:
    """Make and write the index of a file that holds `content`; return it.

    Whoever calls holds the lock of its directory. That it cannot be written is logged and does no
    harm: it is made at another time.
    """
    data = build(file, content)
    try:
        write(file, data)
    except OSError as error:
        log.warning("an index of the archive cannot be written", errno=error.errno)
    return data


def build(file: ArchiveFile, content: Content) -> bytes:
    """Return the index of a file that holds `content`.

    What the file says twice is in it once. What was said in earlier files it cannot know: an
    outcome that was told before is in it again.
    """
    batch = take_apart(content.as_entries(), {})
    batch.drop_told(())
    columns, decided = _decisions(batch)
    columns |= _words(content, batch)
    told = nonces_in(content.ingested).in_order()
    columns |= {"told": told.first, "told_rest": told.rest}
    columns["heard_since_ms"] = np.array([content.heard_since_ms])
    return seal(columns, file.digest, decided)


def _decisions(batch: Batch) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
    """Return the columns of decisions and of what names them, and when they were made.

    Those that were over 30 days old when their outcome came are left out: no feedback counts.
    """
    token = batch.records["token"]
    is_final = (batch.records["kind"] == Kind.OUTCOME) & ((batch.records["flags"] & Flag.FINAL) > 0)
    age = batch.today - token["decided_at_ms"] // DAY_MS
    final = batch.records.compress(is_final & (is_heard(age) | (age < 0)))
    nonces = nonces_of(final["token"]["nonce"])
    order = nonces.order()
    is_new = nonces.take(order).are_new()
    row_of = np.empty(len(order), dtype=np.intp)
    row_of[order] = np.cumsum(is_new) - 1
    order = order[is_new]
    found = Decisions.of(final.take(order)["token"])
    facts = np.empty(len(order), dtype=FACTS)
    for name in FACTS.names or ():
        facts[name] = found.rows[name]
    named = np.flatnonzero(found.users)
    columns = {
        "kinds": found.kinds,
        "nonces": nonces.first[order],
        "nonces_rest": nonces.rest[order],
        "facts": facts,
        "user_rows": named,
        "users": found.users[named],
    }
    return columns | _references(final, row_of), found.decided_at_ms


def _references(final: NDArray[np.void], row_of: NDArray[np.intp]) -> dict[str, NDArray[Any]]:
    """Return the columns of references: under each digest the last hundred of a span of days.

    As the store keeps them (`naming.references_of`, `references.append`), in the order in which
    they came.
    """
    came, named = names_of(final)
    digests = digests_of(named)
    order = digests.order()
    digests, came = digests.take(order), came[order]
    bucket = final["token"]["decided_at_ms"][came] // references.BUCKET_MS
    kept = from_end([digests.first, digests.rest, bucket]) < references.MAX_REFERENCES
    return {
        "digests": digests.first[kept],
        "digests_rest": digests.rest[kept],
        "digest_rows": row_of[came[kept]],
    }


def _words(content: Content, batch: Batch) -> dict[str, NDArray[Any]]:
    """Return the columns of words: of each decision and kind the one that holds in this file.

    Words that came with an ingested outcome are kept apart: where it was told before, in an
    earlier file, they do not count, and must have outranked nobody.
    """
    age = batch.today - batch.records["token"]["decided_at_ms"] // DAY_MS
    history = History.parse(content.meta.get(b"young"))
    said = batch.records.compress(batch.is_said & is_heard(age) & ~batch.is_cold(history))
    is_told = (said["kind"] == Kind.OUTCOME) & ((said["flags"] & Flag.INGESTED) > 0)
    spoken_of = list(zip(pieces(said["token"]["nonce"]), is_told.tolist(), strict=True))
    distinct, slots = hearing.slots_of(spoken_of)
    rows = hearing.hear([None] * len(distinct), slots, said).rows
    names = [nonce for nonce, _ in distinct]
    told = [told for _, told in distinct]
    for of_base, row in _of_base(content):
        names.append(of_base)
        rows.append(row)
        told.append(False)
    sizes = [len(row) // ENTRIES.itemsize for row in rows]
    nonces = nonces_in(names).take(np.repeat(np.arange(len(names)), sizes))
    order = nonces.order()
    nonces = nonces.take(order)
    return {
        "word_nonces": nonces.first,
        "word_nonces_rest": nonces.rest,
        "words": np.frombuffer(b"".join(rows), dtype=ENTRIES).take(order),
        "is_told": np.repeat(np.array(told, dtype=np.uint8), sizes)[order],
    }


def _of_base(content: Content) -> Iterator[tuple[bytes, bytes]]:
    """Yield nonces, or their last bytes behind zeros, and what was said, as it is stored now."""
    for (_, nonce), row in content.labels.items():
        yield nonce, narrowed(row)
    for (_, name), row in content.words.items():
        yield name.rjust(NONCE_BYTES, bytes(1)), row
    yield from content.thawed.items()
