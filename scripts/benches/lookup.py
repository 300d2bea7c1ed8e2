"""What it takes to find old decisions in the archive: `scripts/bench lookup`.

Bytes and seconds of an index are those of a real file of 100,000 records. The month that is
looked through is made up: as many indexes, with as many calls in each, beside empty files.
"""

from __future__ import annotations

import random
import secrets
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from telemetry import event_ids, events, frames
from telemetry.decisions import KIND
from telemetry.events import FeedbackKind, Flag, Result
from telemetry.frames import Frame
from telemetry.tokens import Token
from workers.archive import files as archive_files
from workers.archive import index, indexing
from workers.archive.archive import Archive
from workers.archive.columns import digests_of, nonces_of
from workers.archive.files import Content
from workers.archive.index import COLUMNS, FACTS
from workers.archive.lookup import look_up
from workers.folding.batch import DAY_MS

N_RECORDS = 100_000
N_SHARDS = 4
HOURS = 720
HOUR_MS = 3_600_000
N_KINDS = 200
SAID_OF = 5
"""One call of so many has a label."""
ASKED = (1, 1000, 10_000)

dice = random.Random(0)  # noqa: S311 - figures, no secrets


def run_bench(*, calls_per_s: float) -> dict[str, Any]:
    """Return bytes, seconds to make an index, and seconds to look a month up.

    Args:
        calls_per_s: of the month, all shards together; each with an answer id and a reference.
    """
    return {"index": _of_a_file(), "month": _of_a_month(int(calls_per_s * 3600 / N_SHARDS))}


def print_figures(measured: dict[str, Any]) -> None:
    """Print what was measured."""
    own, month = measured["index"], measured["month"]
    sizes = ", ".join(f"{name} {size:.1f}" for name, size in own["bytes"].items())
    print(f"bytes of index: {sizes}")
    print(f"of an archive byte: {own['of_an_archive_byte']:.2f}")
    print(f"an index of {N_RECORDS:,} records: {own['build_s']:.2f} s")
    print(
        f"{month['calls']:,} calls in {month['files']:,} files, {month['index_mb']:,} MB of index"
    )
    for name, seconds in month["seconds"].items():
        print(f"  {name}: {seconds:.2f} s")


def _of_a_file() -> dict[str, Any]:
    plain = [_outcome(i) for i in range(N_RECORDS)]
    both = [_outcome(i, response=_random(), reference=_random()) for i in range(N_RECORDS)]
    said = [_feedback(i) for i in range(N_RECORDS)]
    size_of = {"call": _indexed(plain)[0] / N_RECORDS}
    response = [_outcome(i, response=_random()) for i in range(N_RECORDS)]
    size_of["answer_id"] = _indexed(response)[0] / N_RECORDS - size_of["call"]
    whole, archived, seconds = _indexed(both)
    size_of["reference"] = whole / N_RECORDS - size_of["call"] - size_of["answer_id"]
    size_of["label"] = _indexed(said)[0] / N_RECORDS
    return {"bytes": size_of, "of_an_archive_byte": whole / archived, "build_s": seconds}


def _indexed(records: list[bytes]) -> tuple[int, int, float]:
    """Return bytes of the index and of the file, and seconds to make the former."""
    content, now_ms = Content({b"mark": b"1-0"}), int(time.time() * 1000)
    for first in range(0, len(records), frames.MAX_RECORDS):
        body = b"".join(records[first : first + frames.MAX_RECORDS])
        entry = b"%d-%d" % (now_ms, first + 1)
        content.entries[entry] = frames.pack(Frame(bytes([1] * 16), 0, first, body))
    content.meta[b"mark"] = entry
    with tempfile.TemporaryDirectory(prefix="pm-") as directory:
        file = archive_files.write(Path(directory), content, start=b"0-0")
        started = time.perf_counter()
        indexing.make(file, content)
        seconds = time.perf_counter() - started
        return file.index_path.stat().st_size, file.path.stat().st_size, seconds


def _of_a_month(n_calls: int) -> dict[str, Any]:
    chance = np.random.default_rng(0)
    now_ms = int(time.time() * 1000)
    with tempfile.TemporaryDirectory(prefix="pm-") as directory:
        archive = Archive(None, Path(directory), N_SHARDS)  # no store is asked
        digests, nonces, size = [], [], 0
        for shard in range(N_SHARDS):
            archive.directory(shard).mkdir()
            for hour in range(HOURS):
                start_ms = now_ms - (HOURS - hour) * HOUR_MS
                named, called, written = _hour(archive.directory(shard), start_ms, n_calls, chance)
                digests += named
                nonces += called
                size += written
        seconds: dict[str, float] = {}
        for n in (ASKED[-1], *ASKED):
            some = [digests[i] for i in chance.integers(0, len(digests), n)]
            others = [nonces[i] for i in chance.integers(0, len(nonces), n)]
            started = time.perf_counter()
            found = look_up(archive, some, others, oldest_ms=now_ms - 30 * DAY_MS)
            took = time.perf_counter() - started
            if not (all(found.named) and all(found.decisions) and len(found.labels) >= n // 10):
                raise AssertionError("what was written was not found")
            name = f"{n:,} references and {n:,} nonces"
            seconds[name if seconds else f"{name}, every index read for the first time"] = took
    n_files = N_SHARDS * HOURS
    return {
        "files": n_files,
        "calls": n_files * n_calls,
        "index_mb": size >> 20,
        "seconds": seconds,
    }


def _hour(
    directory: Path, start_ms: int, n: int, chance: np.random.Generator
) -> tuple[list[bytes], list[bytes], int]:
    """Write the index of one hour; return some digests and nonces in it, and its bytes."""
    raw = np.frombuffer(chance.bytes(16 * n), dtype="V16")
    nonces = nonces_of(raw).in_order()
    named = np.frombuffer(chance.bytes(32 * n), dtype="V16")
    order = digests_of(named).order()
    digests = digests_of(named).take(order)
    columns: dict[str, NDArray[Any]] = {name: np.zeros(0, dtype=d) for name, d in COLUMNS.items()}
    facts = np.zeros(n, dtype=FACTS)
    facts["kind"] = chance.integers(0, N_KINDS, n)
    decided = start_ms + chance.integers(0, HOUR_MS, n)
    facts["decided_s"], facts["decided_ms"] = np.divmod(decided, 1000)
    kinds = np.zeros(N_KINDS, dtype=KIND)
    kinds["category"] = np.arange(N_KINDS)
    said = nonces.take(np.arange(0, n, SAID_OF))
    words = np.zeros(len(said.first), dtype=COLUMNS["words"])
    words["feedback_kind"] = FeedbackKind.HUMAN
    columns |= {"kinds": kinds, "nonces": nonces.first, "nonces_rest": nonces.rest, "facts": facts}
    columns |= {"digests": digests.first, "digests_rest": digests.rest, "digest_rows": order // 2}
    columns |= {"word_nonces": said.first, "word_nonces_rest": said.rest, "words": words}
    columns["is_told"] = np.zeros(len(words), dtype=np.uint8)
    span = f"{start_ms:015d}-{1:010d}_{start_ms + HOUR_MS:015d}-{1:010d}"
    path = directory / f"{span}.{secrets.token_hex(16)}{archive_files.SUFFIX}"
    path.touch()
    file = archive_files.ArchiveFile.parse(path)
    if file is None:
        raise AssertionError(path.name)
    data = index.seal(columns, file.digest, decided)
    index.write(file, data)
    return named[:50].tolist(), raw[:50].tolist(), len(data)


def _random() -> bytes:
    return secrets.token_bytes(16)


def _token(number: int) -> bytes:
    now_ms, category = int(time.time() * 1000), 1 + number % N_KINDS
    return Token(1, 0, 4, _random(), now_ms, category, 2, 3, 4, 5, 6, 7, 0.5, 0.5, 0.1).pack()


def _outcome(
    number: int, response: bytes = events.NO_DIGEST, reference: bytes = events.NO_DIGEST
) -> bytes:
    return events.outcome(
        _token(number),
        result=Result.OK,
        attempt=1,
        status=200,
        flags=int(Flag.FINAL | Flag.USAGE_KNOWN | Flag.TTFT_KNOWN | Flag.PRICED),
        latency_s=2 + dice.random(),  # as varied as of real calls, or they pack too well
        ttft_s=0.1 + dice.random(),
        tokens_in=dice.randrange(1000),
        tokens_out=dice.randrange(1000),
        cost_nano=dice.randrange(10**6),
        response=response,
        reference=reference,
    )


def _feedback(number: int) -> bytes:
    event = event_ids.new_event_id(int(time.time() * 1000))
    kind = FeedbackKind.JUDGE
    return events.feedback(_token(number), kind=kind, value=0.5, revision=0, event=event)
