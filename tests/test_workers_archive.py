"""The archive: nothing trimmed before it is kept, and the state is what the records say."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Said, pointsman
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline import said_in_store

from bandit import cells
from bandit.families import N_COLUMNS, Family, T
from telemetry import decoding, digests, event_ids, events, frames, keys, references
from telemetry.events import FeedbackKind, Flag, Match, Result
from telemetry.frames import Frame
from telemetry.reader import Reader
from telemetry.store import prepare
from telemetry.tokens import TAUGHT_SINCE, Token, nonce_of
from workers.archive import files as archive_files
from workers.archive import retention
from workers.archive.archive import Archive, ArchiveLimits
from workers.archive.audit import AuditResult, audit_state
from workers.archive.files import ArchiveFile
from workers.archive.rebuilt import Rebuilt, difference
from workers.archive.restore import ABOVE, CannotRestore, restore
from workers.archive.retention import Keep
from workers.folding.batch import DAY_MS, PRODUCER_DAYS, Window, take_apart
from workers.folding.held import References, take_up
from workers.folding.lease import Lease
from workers.folding.shard import Shard
from workers.folding.trimming import MOST_UNARCHIVED_BYTES, most_unarchived
from workers.jobs.calibration import calibrate

NOW_MS = int(time.time() * 1000)
AT_ONCE = ArchiveLimits(every_bytes=0)
PRODUCERS = [bytes([n]) * 16 for n in range(1, 4)]


def token(nonce: int, *, at_ms: int = NOW_MS) -> bytes:
    raw, category, endpoint = nonce.to_bytes(16, "big"), nonce % 3, nonce % 2 + 10
    whole = (raw, at_ms, category, 2, endpoint, 4, 5, 6, 7, 0.5, 0.5, 0.1, 0.4, nonce % 2)
    return Token(1, 0, int(Flag.ROUTED), *whole).pack()


def outcome(nonce: int, *, at_ms: int = NOW_MS, **more: Any) -> bytes:
    flags = more.pop("flags", int(Flag.USAGE_KNOWN | Flag.FINAL | Flag.ROUTED))
    rest = {"attempt": 1, "status": 200, "latency_s": 0.1 + nonce % 7, "tokens_out": nonce}
    return events.outcome(token(nonce, at_ms=at_ms), result=Result.OK, flags=flags, **rest, **more)


def feedback(
    nonce: int, value: float | None, *, at: int = 0, at_ms: int = NOW_MS, **more: Any
) -> bytes:
    said = {"kind": FeedbackKind.JUDGE, "revision": 0, **more}
    event = event_ids.new_event_id(at_ms + at)
    return events.feedback(token(nonce, at_ms=at_ms), value=value, event=event, **said)


class Life:
    """A shard with its learner, its producers and its archive."""

    def __init__(self, client: Any, root: Path) -> None:
        self.client = client
        prepare(client, shards=1)
        self.archive = Archive(client, root, 1)
        self.lease = Lease(client, 0)
        assert self.lease.take()
        self.shard = Shard(client, 0)
        self.shard.load()
        self.numbers = dict.fromkeys(PRODUCERS, 0)

    def send(
        self, *records: bytes, producer: bytes = PRODUCERS[0], entry_id: str = "*"
    ) -> list[bytes]:
        frame = frames.pack(Frame(producer, 0, self.numbers[producer], b"".join(records)))
        self.numbers[producer] += len(records)
        self.client.xadd(keys.stream(0), {"f": frame}, id=entry_id)
        return [frame]

    def again(self, frame: bytes) -> None:
        self.client.xadd(keys.stream(0), {"f": frame})

    def fold(self, count: int = 1000) -> None:
        replies = self.client.xread({keys.stream(0): self.shard.mark}, count=count)
        for _, found in replies.items() if isinstance(replies, dict) else replies:
            entries = found[0] if isinstance(replies, dict) else found
            self.shard.fold(entries, token=self.lease.token)

    def fold_all(self, dice: random.Random) -> None:
        while self.client.xrange(keys.stream(0), min=f"({self.shard.mark.decode()}", count=1):
            self.fold(dice.randint(1, 5))

    def resolve(self) -> None:
        take_up(self.client, 0)
        owned = [(self.shard, self.lease.token)]
        assert References(1).look(self.client, owned, NOW_MS + 60_000) == []

    def prune(self, **more: int) -> None:
        self.shard.prune(token=self.lease.token, **more)

    def take(self) -> list[ArchiveFile]:
        return self.archive.take(now_ms=NOW_MS, limits=AT_ONCE)

    def audit(self) -> AuditResult:
        return audit_state(self.archive)

    def rows(self) -> dict[bytes, bytes]:
        return self.client.hgetall(keys.rows(0))

    def length(self) -> int:
        return int(self.client.xlen(keys.stream(0)))

    def files(self) -> list[ArchiveFile]:
        return archive_files.list_files(self.archive.directory(0))


@pytest.fixture
def life(client: Any, state_dir: Path) -> Life:
    return Life(client, state_dir / "archive")


def live_through(life: Life, dice: random.Random, *, files: int = 4) -> None:
    """Outcomes and feedback: shuffled, corrected, retracted, repeated, with some poison."""
    sent: list[bytes] = []
    for number in range(files):
        nonces = range(100 * number + 1, 100 * number + 60)
        records = [outcome(n) for n in nonces]
        for n in nonces:
            earlier = dice.randint(1, n)  # also of decisions whose outcome is archived already
            records.append(feedback(n, dice.random(), at=dice.randint(0, 50)))
            records.append(feedback(earlier, dice.random(), revision=dice.randint(0, 5)))
            records.append(feedback(earlier, None, at=dice.randint(0, 99)))
            records.append(feedback(n, dice.random(), kind=dice.choice(list(FeedbackKind))))
        poison = bytearray(dice.choice(records))
        poison[40] ^= 1
        records.append(bytes(poison))
        dice.shuffle(records)
        while records:
            n = dice.randint(1, 9)
            sent += life.send(*records[:n], producer=dice.choice(PRODUCERS))
            del records[:n]
            if dice.random() < 0.2:
                life.again(dice.choice(sent))
        life.fold_all(dice)
        life.take()
        life.prune()


def test_the_state_is_what_the_records_say(life: Life) -> None:
    live_through(life, random.Random(1))
    life.send(outcome(7), feedback(7, 0.3))
    life.fold()

    found = life.audit()

    assert (found.equal, found.difference, found.files) == (True, None, 4)
    assert found.records > 1000
    assert found.rows >= len(life.rows())
    assert int(life.client.hget(keys.meta(0), "n_repeated")) > 0


def test_ingested_outcomes_count_once_in_an_audit_and_after_a_restore(life: Life) -> None:
    told = outcome(7, flags=int(Flag.USAGE_KNOWN | Flag.FINAL | Flag.INGESTED))
    life.send(told, told)
    life.fold()
    life.take()
    life.send(told, producer=PRODUCERS[1])
    life.fold()
    assert life.shard.counters["outcomes"] == 1
    assert life.audit().equal

    rows = life.rows()
    life.take()
    life.client.flushall()
    restore(life.archive)
    again = Life(life.client, life.archive.root)
    again.send(told, producer=PRODUCERS[2])
    again.fold()

    assert again.rows() == rows


def test_without_any_file_the_whole_stream_is_audited(life: Life) -> None:
    life.send(outcome(1), feedback(1, 0.5))
    life.fold()

    assert life.audit().as_json() | {"records": 2, "files": 0, "equal": True} == (
        life.audit().as_json()
    )


def test_one_flipped_byte_of_a_file_is_found_and_named(life: Life) -> None:
    live_through(life, random.Random(2))
    path = life.files()[1].path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    found = life.audit()

    assert not found.equal
    assert found.difference == f"{path.name}: its bytes are not those that were written"


def test_one_flipped_byte_of_a_row_in_the_store_is_found_and_named(life: Life) -> None:
    live_through(life, random.Random(3), files=2)
    name, row = sorted(life.rows().items())[0]
    life.client.hset(keys.rows(0), name, bytes([row[0] ^ 1]) + row[1:])

    found = life.audit()

    assert (found.equal, found.different) == (False, 1)
    assert found.difference.startswith("shard 0 in the store: row of category ")
    assert "by the records" in found.difference


def test_a_checkpoint_that_does_not_follow_is_found_and_named(life: Life) -> None:
    live_through(life, random.Random(4))
    unit = life.files()[2]
    content = archive_files.read(unit)
    name, row = sorted(content.rows.items())[0]
    content.rows[name] = bytes([row[0] ^ 1]) + row[1:]
    unit.path.unlink()
    forged = archive_files.write(unit.path.parent, content, start=unit.start)

    found = life.audit()

    assert not found.equal
    assert found.difference.startswith(f"{forged.path.name}: row of category ")


def teaching(life: Life) -> int:
    """Labels in the store that are counted by app."""
    rows = life.rows()
    every = cells.from_bytes(b"".join(rows), b"".join(rows.values()))
    return int(cells.of_family(every, Family.TEACHING).values[:, T.LABELS].sum())


def test_labels_of_decisions_from_before_teaching_was_counted_never_count_there(life: Life) -> None:
    """Whether they came before or come now, stand, are corrected or are taken back."""

    def said(nonce: int, value: float | None, revision: int, version: int) -> bytes:
        body = token(nonce)[:1] + bytes([version]) + token(nonce)[2:]
        event = event_ids.new_event_id(NOW_MS + revision)
        kind = FeedbackKind.JUDGE
        return events.feedback(body, kind=kind, value=value, revision=revision, event=event)

    before, now = TAUGHT_SINCE - 1, TAUGHT_SINCE
    life.send(*(said(n, 0.1, 1, before) for n in range(20)))
    life.fold()
    life.take()
    assert teaching(life) == 0
    life.send(*(said(n, 0.9, 2, before) for n in range(10, 30)))
    life.send(*(said(n, None, 3, before) for n in range(5, 15)))
    life.send(*(said(n, 0.5, 1, now) for n in range(30, 40)))
    life.fold()
    life.take()
    life.send(*(said(n, None, 2, now) for n in range(30, 34)))
    life.fold()

    assert teaching(life) == 6
    found = life.audit()
    assert found.equal, found.difference
    rows = life.rows()
    life.take()
    life.client.flushall()
    restore(life.archive)
    assert life.rows() == rows
    assert life.audit().equal


def test_a_row_that_says_who_taught_is_audited_like_any_other(life: Life) -> None:
    life.send(*(outcome(n) for n in range(4)), *(feedback(n, 0.5) for n in range(4)))
    life.fold()
    rows = life.rows()
    name = next(n for n in rows if np.frombuffer(n, dtype=cells.KEY)["family"] == Family.TEACHING)
    life.client.hset(keys.rows(0), name, bytes([rows[name][0] ^ 1]) + rows[name][1:])

    found = life.audit()

    assert not found.equal
    assert ", teaching, window 0" in found.difference


def test_a_file_that_is_gone_is_found(life: Life) -> None:
    live_through(life, random.Random(5))
    life.files()[1].path.unlink()

    found = life.audit()

    assert not found.equal
    assert "the file before it is missing" in found.difference


def test_trimming_never_passes_the_archived_mark(life: Life) -> None:
    for n in range(1, 300):
        life.send(outcome(n))
    life.fold()
    life.prune()
    assert life.length() == 299

    life.take()
    for n in range(300, 400):
        life.send(outcome(n))
    life.fold()
    life.prune()

    archived = life.client.hget(keys.meta(0), "archived").decode()
    assert life.client.xrange(keys.stream(0), min=f"({archived}", count=1000)[99]
    assert life.length() < 299
    assert life.audit().equal


def test_a_store_that_was_emptied_is_told_as_one_that_began_anew(life: Life) -> None:
    for n in range(1, 300):
        life.send(outcome(n))
    life.fold()
    life.take()
    life.client.flushall()
    life = Life(life.client, life.archive.root)
    for n in range(300, 310):
        life.send(outcome(n))
    life.fold()

    found = life.audit()

    assert not found.equal
    assert "began anew after its last file" in found.difference
    life.take()
    assert life.audit().equal


def test_an_archive_that_cannot_be_written_does_not_fill_the_store(life: Life) -> None:
    for n in range(1, 2000):
        life.send(outcome(n), feedback(n, 0.5))
    life.fold(5000)

    life.prune(most_bytes=100_000)

    assert life.length() < 200  # the node that is being written stays
    assert int(life.client.hget(keys.meta(0), "n_trimmed_unarchived")) > 1700
    found = life.audit()
    assert not found.equal
    assert "went before they were archived" in found.difference

    life.take()  # it can be written again: from a base on
    life.send(feedback(1, None, at=1), feedback(2, 0.7, at=1), outcome(2001))
    life.fold()
    life.take()
    assert [u.is_base for u in life.files()] == [True, False]
    assert life.audit().equal


@pytest.mark.usefixtures("store")  # what the server says of its memory
def test_a_small_store_lets_less_wait_for_the_archive(client: Any) -> None:
    assert most_unarchived(client, 4) == MOST_UNARCHIVED_BYTES
    client.config_set("maxmemory", str(64 << 20))

    assert most_unarchived(client, 4) == 4 << 20


@pytest.mark.slow
@pytest.mark.usefixtures("store")  # processes connect to it
def test_a_full_disk_leaves_nothing_behind(life: Life) -> None:
    """A limit on the size of files stands for the disk's."""
    life.send(outcome(1))
    life.fold()
    directory = life.archive.directory(0)
    directory.mkdir(parents=True)
    (directory / "lock").touch()
    script = (
        "import resource, sys; from pathlib import Path; from telemetry.store import *;"
        "from workers.archive.archive import *; import polars;"
        "sys.dont_write_bytecode = True;"  # it would be cut short, too, for whoever comes next
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "Archive(connect(Address(sys.argv[1])), Path(sys.argv[2]), 1)"
        ".take(now_ms=0, limits=ArchiveLimits(0))"
    )
    started = command(script, life)
    done = subprocess.run(started, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 1
    assert "OSError" in done.stderr or "ComputeError" in done.stderr, done.stderr
    assert life.files() == []
    assert not list(directory.glob(".tmp-*"))
    assert life.client.hget(keys.meta(0), "archived") is None
    assert len(life.take()) == 1


KILLED = """
import os, signal, sys
from pathlib import Path
import redis
from telemetry.store import Address, connect
from workers.archive.archive import Archive, ArchiveLimits
for line in sys.stdin:
    left = [int(line)]
    child = os.fork()  # nothing of polars is used before
    if child == 0:
        break
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    sys.exit(0)
def before(function):
    def called(*arguments, **named):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **named)
    return called
for name in ("fsync", "rename", "link", "unlink", "mkdir", "fchmod"):
    setattr(os, name, before(getattr(os, name)))
connection = redis.connection.AbstractConnection
connection.send_packed_command = before(connection.send_packed_command)
client = connect(Address(sys.argv[1]))
Archive(client, Path(sys.argv[2]), 1).take(now_ms=0, limits=ArchiveLimits(0))
os._exit(0)
"""


def command(script: str, life: Life) -> list[str]:
    url = "unix://" + life.client.connection_pool.connection_kwargs["path"]
    return [sys.executable, "-c", script, url, str(life.archive.root)]


@pytest.mark.usefixtures("store")  # processes connect to it
@pytest.mark.slow
def test_killed_anywhere_it_begins_again(life: Life) -> None:
    nonce = 0
    archivers = subprocess.Popen(command(KILLED, life), stdin=-1, stdout=-1, text=True, bufsize=1)
    assert archivers.stdin
    assert archivers.stdout
    for point in range(1, 100):
        for _ in range(3):
            nonce += 1
            life.send(outcome(nonce), feedback(nonce, 0.5), feedback(nonce // 2, 0.25, at=1))
        life.fold()
        archivers.stdin.write(f"{point}\n")
        code = int(archivers.stdout.readline())
        life.prune()
        if code != -signal.SIGKILL:
            break
        found = life.audit()
        assert found.equal, (point, found)
    archivers.communicate(timeout=10)

    assert code == 0
    assert point > 12
    life.take()
    found = life.audit()
    assert (found.equal, found.records) == (True, 3 * nonce)
    assert not list(life.archive.directory(0).glob(".tmp-*"))


@pytest.mark.slow
@pytest.mark.usefixtures("store")  # processes connect to it
def test_two_archivers_at_once_do_no_harm(life: Life) -> None:
    directory = life.archive.directory(0)
    for n in range(1, 50):
        life.send(outcome(n))
    life.fold()
    script = (
        "import sys; from pathlib import Path; from telemetry.store import *;"
        "from workers.archive.archive import *;"
        "a = Archive(connect(Address(sys.argv[1])), Path(sys.argv[2]), 1)\n"
        "for _ in range(20): a.take(now_ms=0, limits=ArchiveLimits(0))"
    )
    both = [subprocess.Popen(command(script, life)) for _ in range(2)]
    nonce = 100
    while any(process.poll() is None for process in both):
        nonce += 1
        life.send(outcome(nonce), feedback(nonce, 0.5))
        life.fold()
        life.prune()

    assert [process.returncode for process in both] == [0, 0]
    life.take()
    assert life.audit().equal
    assert not list(directory.glob(".tmp-*"))


def test_an_audit_stands_an_archive_that_moves_on(life: Life) -> None:
    """Also where a file takes the place of one that is about to be read."""
    live_through(life, random.Random(8), files=3)
    life.send(outcome(1))
    life.fold()
    before = life.client.hmget(keys.meta(0), ["archived", "archived_bytes"])
    last = life.take()[0]
    # As if it had been killed before the mark moved.
    moved = dict(zip(("archived", "archived_bytes"), before, strict=True))
    life.client.hset(keys.meta(0), mapping=moved)
    rounds = iter(range(1000))

    def go_on() -> None:
        if next(rounds) in (3, 5):
            life.send(outcome(2))
            life.fold()
            life.take()

    found = audit_state(life.archive, between=go_on)

    assert (found.equal, found.difference) == (True, None)
    assert last.path not in [unit.path for unit in life.files()]


def test_an_archive_elsewhere_does_not_take_turns(life: Life, tmp_path: Path) -> None:
    life.send(outcome(1))
    life.fold()
    life.take()
    life.send(outcome(2))
    life.fold()

    assert Archive(life.client, tmp_path, 1).take(now_ms=NOW_MS, limits=AT_ONCE) == []

    life.client.delete(keys.ARCHIVER)  # the first one was silent for long
    (unit,) = Archive(life.client, tmp_path, 1).take(now_ms=NOW_MS, limits=AT_ONCE)
    assert unit.is_base


def test_a_shard_is_due_by_size_or_by_age(life: Life) -> None:
    def n_taken(limits: ArchiveLimits, now_ms: int) -> int:
        return len(life.archive.take(now_ms=now_ms, limits=limits))

    life.send(outcome(1))
    life.fold()
    assert n_taken(ArchiveLimits(), NOW_MS) == 0
    assert n_taken(ArchiveLimits(every_bytes=200), NOW_MS) == 1

    life.send(outcome(2))
    life.fold()
    assert n_taken(ArchiveLimits(), NOW_MS) == 0
    assert n_taken(ArchiveLimits(), NOW_MS + 9_000_000) == 1
    assert n_taken(ArchiveLimits(), NOW_MS + 9_000_000) == 0


# -- how long files stay ------------------------------------------------------------------------


def aged(life: Life, *, days: int) -> None:
    """A file a day, oldest first; feedback reaches back to the day before."""
    for day in range(days, -1, -1):
        at_ms = NOW_MS - day * DAY_MS
        nonces = range(10 * day + 1, 10 * day + 8)
        said = [feedback(n, 0.5, at_ms=at_ms) for n in nonces]
        before = [feedback(n + 10, 0.9, at=9, at_ms=at_ms - DAY_MS) for n in nonces]
        records = [outcome(n, at_ms=at_ms) for n in nonces] + said + before
        life.send(*records, entry_id=f"{at_ms}-1")
        life.fold()
        life.take()
        life.prune()


def test_old_files_go_and_what_stays_can_still_be_audited(life: Life) -> None:
    aged(life, days=6)
    keep = Keep(days=3.5, max_bytes=1 << 30)

    assert retention.prune(life.archive, keep, now_ms=NOW_MS) == 3
    assert retention.prune(life.archive, keep, now_ms=NOW_MS) == 0

    assert [u.is_base for u in life.files()] == [True, False, False, False, False]
    assert life.audit().equal
    assert retention.prune(life.archive, keep, now_ms=NOW_MS + 2 * DAY_MS) == 3
    found = life.audit()
    assert (found.equal, found.files) == (True, 3)


def test_a_full_archive_drops_its_oldest_files_and_counts_them(life: Life) -> None:
    aged(life, days=6)
    sizes = [archive_files.n_bytes(u) for u in life.files()]

    dropped = retention.prune(life.archive, Keep(days=30, max_bytes=sum(sizes[3:])), now_ms=NOW_MS)

    assert dropped == 3
    assert life.client.hget(keys.meta(0), "n_archive_files_dropped") == b"3"
    assert life.audit().equal


def test_the_newest_file_never_goes(life: Life) -> None:
    aged(life, days=2)

    retention.prune(life.archive, Keep(days=0.001, max_bytes=0), now_ms=NOW_MS + 90 * DAY_MS)

    assert [u.is_base for u in life.files()] == [True, False]
    assert life.audit().equal


def test_stale_rows_and_forgotten_producers_are_no_difference(life: Life) -> None:
    aged(life, days=12)  # latency rows of the first days are stale at the end
    before = len(life.rows())
    assert life.audit().equal

    life.send(outcome(999), entry_id=f"{NOW_MS + (PRODUCER_DAYS + 2) * DAY_MS}-1")
    life.fold()
    life.prune()

    assert len(life.rows()) < before
    assert life.audit().equal


def test_a_producer_is_forgotten_by_the_streams_own_time() -> None:
    frame = frames.pack(Frame(PRODUCERS[0], 0, 0, outcome(1)))
    known = {PRODUCERS[0]: Window(1, 1_000)}
    late = 1_000 + PRODUCER_DAYS * DAY_MS

    in_time = take_apart([(b"%d-0" % late, {b"f": frame})], known)
    too_late = take_apart([(b"%d-0" % (late + 1), {b"f": frame})], known)

    assert (in_time.n_repeated, len(in_time.records)) == (1, 0)
    assert (too_late.n_repeated, len(too_late.records)) == (0, 1)


@settings(max_examples=25)
@given(st.randoms(use_true_random=False))
def test_grouping_into_batches_shows_nowhere(dice: random.Random) -> None:
    records = [outcome(n) for n in range(1, 8)]
    for n in range(1, 8):
        for _ in range(4):
            value = dice.choice([None, 0.1, 1 / 3, 1.0])
            records.append(feedback(n, value, at=dice.randint(0, 9), revision=dice.randint(0, 2)))
    dice.shuffle(records)
    entries = [
        (b"%d-%d" % (NOW_MS, i), {b"f": frames.pack(Frame(PRODUCERS[0], 0, i, record))})
        for i, record in enumerate(records)
    ]
    whole, parts = Rebuilt(), Rebuilt()

    whole.fold(entries)
    while entries:
        n = dice.randint(1, 6)
        parts.fold(entries[:n])
        del entries[:n]

    assert difference(whole, parts) is None
    assert whole.said == parts.said


# -- restoring ----------------------------------------------------------------------------------


def reader(client: Any) -> Reader:
    return Reader(client, 1, key_bytes=cells.KEY.itemsize, row_bytes=8 * N_COLUMNS)


def test_a_lost_store_comes_back_as_it_was(life: Life) -> None:
    live_through(life, random.Random(6))
    rows = life.rows()
    windows = life.client.hgetall(keys.producers(0))
    labels = said_in_store(life.client)
    counts = life.client.hgetall(keys.meta(0))
    life.client.hset(keys.STANDINGS, "app/task", "x")
    life.client.hset(keys.DRIFT, "closed", "1 x")
    life.send(outcome(9000))
    life.fold()
    life.take()
    rows = life.rows()
    windows = life.client.hgetall(keys.producers(0))
    life.client.flushall()

    found = restore(life.archive)

    assert (found.rows, found.labels, found.damaged) == (len(rows), len(labels), 0)
    assert life.rows() == rows
    assert life.client.hgetall(keys.producers(0)) == windows
    assert said_in_store(life.client) == labels
    assert all(life.client.ttl(name) > 0 for name in life.client.keys("{pm:0.*}:said:*"))
    assert life.client.hget(keys.STANDINGS, "app/task") == b"x"
    assert life.client.hget(keys.DRIFT, "closed") == b"1 x"
    assert life.client.hget(keys.meta(0), "n_repeated") == counts[b"n_repeated"]
    assert life.audit().equal


def test_frames_sent_again_to_a_restored_store_have_no_effect(life: Life) -> None:
    (frame,) = life.send(outcome(1), feedback(1, 0.5))
    life.fold()
    life.take()
    life.client.flushall()
    restore(life.archive)
    again = Life(life.client, life.archive.root)
    again.numbers = life.numbers
    before = again.rows()

    again.again(frame)
    again.send(feedback(1, 0.25, at=1))
    again.fold()

    assert again.client.hget(keys.meta(0), "n_repeated") == b"2"
    assert again.rows() != before  # the correction took effect, upon what was restored
    again.take()
    assert again.audit().equal
    assert not again.files()[-1].is_base


@pytest.mark.parametrize("left", [["ev"], ["ev", "rows", "touched", "producers", "labels"], ["*"]])
def test_what_the_stream_still_has_is_folded_after_a_restore(life: Life, left: list[str]) -> None:
    """Nothing is lost where only the state is: the stream is trimmed behind the archive alone."""
    dice = random.Random(8)
    live_through(life, dice, files=2)
    ingested = int(Flag.INGESTED | Flag.FINAL)
    life.send(outcome(5001, flags=ingested), feedback(5001, 0.75))
    life.fold()
    life.take()
    life.prune()
    life.send(outcome(5002, flags=ingested), feedback(5002, 0.5), feedback(5001, 0.25, at=1))
    life.send(outcome(5003), feedback(5003, 1.0))
    (not_folded_yet,) = life.send(outcome(5004))
    life.again(not_folded_yet)
    life.fold_all(dice)
    rows, folded = life.rows(), life.client.hget(keys.meta(0), "n_outcomes")
    labels = said_in_store(life.client)
    kept = {name for part in left for name in life.client.keys(f"{{pm:0.*}}:{part}*")}
    gone = set(life.client.keys("{pm:0.*}:*")) - kept | {keys.meta(0).encode()}
    life.client.delete(*gone, keys.META)
    life.lease.release()

    restore(life.archive)
    assert life.rows() != rows
    again = Life(life.client, life.archive.root)
    again.fold_all(dice)

    assert again.rows() == rows
    assert said_in_store(life.client) == labels
    assert life.client.hget(keys.meta(0), "n_outcomes") == folded
    assert again.audit().equal


def test_what_came_by_a_clock_that_is_behind_is_folded_after_a_restore(life: Life) -> None:
    live_through(life, random.Random(9), files=2)
    n_outcomes = int(life.client.hget(keys.meta(0), "n_outcomes"))
    life.client.flushall()
    frame = Frame(b"new producer 16b", 0, 0, outcome(7001) + feedback(7001, 1.0))
    life.client.xadd(keys.stream(0), {"f": frames.pack(frame)}, id="5-1")
    life.lease.release()

    restore(life.archive)
    again = Life(life.client, life.archive.root)
    again.fold_all(random.Random(1))

    assert int(life.client.hget(keys.meta(0), "n_outcomes")) == n_outcomes + 1
    again.take()
    assert again.audit().equal


def test_a_router_takes_a_restored_store_only_when_it_is_whole(life: Life) -> None:
    live_through(life, random.Random(7), files=2)
    router = reader(life.client)
    assert router.poll()
    version = router.version
    rows = dict(life.rows())
    life.client.flushall()
    prepare(life.client, shards=1)
    assert not router.poll()
    assert router.keeping

    restore(life.archive)

    assert router.poll()
    assert not router.keeping
    assert router.version >= version + ABOVE - 1
    names, values = router.rows()
    assert len(names) == cells.KEY.itemsize * len(rows)
    assert len(values) == sum(map(len, rows.values()))


def test_references_and_waiting_feedback_are_restored(life: Life) -> None:
    digest, other = (digests.digest16("app", "ref", name) for name in ("ticket-7", "ticket-8"))
    waiting = events.feedback(
        None,
        kind=FeedbackKind.HUMAN,
        value=1.0,
        revision=0,
        event=event_ids.new_event_id(NOW_MS),
        reference=other,
        app=5,
    )
    life.send(outcome(1, reference=digest), waiting)
    life.fold()
    life.take()
    life.client.flushall()

    assert restore(life.archive).references == 1

    ((found,),) = references.look_up(life.client, [digest], n_shards=1, now_ms=NOW_MS)
    assert nonce_of(found) == (1).to_bytes(16, "big")
    (part,) = life.client.keys("{pm:0.*}:named:*")
    assert 0 < life.client.ttl(part) <= 39 * 86_400
    assert life.client.hlen(keys.held(0)) == 1
    again = Life(life.client, life.archive.root)
    again.numbers = life.numbers
    again.send(outcome(2, reference=other))
    again.fold()
    again.resolve()
    assert life.client.hlen(keys.held(0)) == 0
    assert life.client.hget(keys.meta(0), "n_resolved") == b"1"


def test_what_went_to_a_decision_before_a_restore_goes_to_no_other_one_after_it(life: Life) -> None:
    digest = digests.digest16("app", "ref", "ticket-7")
    said = {"reference": digest, "app": 5, "match": Match.LAST, "kind": FeedbackKind.HUMAN}
    event = event_ids.new_event_id(NOW_MS)
    waiting = events.feedback(None, value=1.0, revision=0, event=event, **said)
    life.send(outcome(1, reference=digest, at_ms=NOW_MS - 2), waiting)
    life.fold()
    life.resolve()
    life.fold()
    life.send(outcome(2, reference=digest, at_ms=NOW_MS - 1))  # it came in too late
    life.fold()
    life.take()
    life.client.flushall()

    restore(life.archive)
    again = Life(life.client, life.archive.root)
    again.resolve()
    again.fold()

    assert list(said_in_store(life.client)) == [(1).to_bytes(16, "big")]
    assert life.client.hlen(keys.held(0)) == 0


def test_it_restores_into_an_empty_store_only(life: Life) -> None:
    life.send(outcome(1))
    life.fold()
    life.take()

    with pytest.raises(CannotRestore, match="not empty"):
        restore(life.archive)

    life.client.flushall()
    restore(life.archive)
    version = life.client.hget(keys.meta(0), "version")
    restore(life.archive)  # once more changes nothing
    assert life.client.hget(keys.meta(0), "version") == version
    with pytest.raises(CannotRestore, match=r"store\.shards: 1"):
        restore(replace(life.archive, n_shards=2))


def test_without_an_archive_there_is_nothing_to_restore(client: Any, tmp_path: Path) -> None:
    with pytest.raises(CannotRestore, match="no archive"):
        restore(Archive(client, tmp_path, 1))


def test_a_damaged_newest_file_leaves_the_one_before(life: Life) -> None:
    aged(life, days=2)
    whole = archive_files.read(life.files()[-2])
    newest = life.files()[-1].path
    newest.write_bytes(newest.read_bytes()[:-1] + b"x")
    life.client.flushall()

    found = restore(life.archive)

    assert found.damaged == 1
    assert life.rows() == whole.rows


def run(state_dir: Path, *arguments: str) -> Said:
    config = state_dir / "pointsman.yaml"
    config.write_text(
        f"server: {{state_dir: {state_dir}}}\nstore: {{shards: 1}}\n"
        "endpoints: [{id: a, model: m, base_url: 'http://127.0.0.1:9/v1'}]\n"
    )
    return pointsman(*arguments, "--config", config, "--json")


@pytest.mark.usefixtures("store")  # the commands open the private one
def test_audit_and_restore_are_commands(life: Life, state_dir: Path) -> None:
    life.send(outcome(1), feedback(1, 0.5))
    life.fold()
    life.take()

    sound = run(state_dir, "audit", "state")
    refused = run(state_dir, "restore")
    life.client.flushall()
    lost = run(state_dir, "audit", "state")
    restored = run(state_dir, "restore")
    again = run(state_dir, "audit", "state")

    assert (sound.exit_code, json.loads(sound.stdout)["equal"]) == (0, True)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "not empty" in refused.stderr
    assert lost.exit_code == 1
    assert json.loads(lost.stdout)["difference"] == "shard 0: the store has less than its archive"
    assert (restored.exit_code, json.loads(restored.stdout)["labels"]) == (0, 1)
    assert (again.exit_code, json.loads(again.stdout)["equal"]) == (0, True)


# -- calibration --------------------------------------------------------------------------------


def test_calibration_tells_intervals_that_hold_from_those_that_do_not() -> None:
    rng = np.random.default_rng(0)
    records = []
    for n in range(1, 2000):
        mean = 0.5 if n % 2 else 0.9  # what was predicted is .5, give or take .1
        value = float(np.clip(rng.normal(mean, 0.2), 0, 1))
        records.append(feedback(n, value))
    decoded, _ = decoding.decode(b"".join(records))

    held = {h.endpoint: h for h in calibrate(decoded)}

    assert (held[f"{11:016x}"].cells, held[f"{11:016x}"].inside) == (3, 3)
    assert (held[f"{10:016x}"].cells, held[f"{10:016x}"].inside) == (3, 0)
    assert calibrate(decoded[:0]) == []
