"""The audit trail: each record once, kept in files, and what is missing is seen."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import pytest
from conftest import outcome_of
from hypothesis import given
from hypothesis import strategies as st

from router.dispatch.in_force import AGAIN_EVERY_S, STILL_EVERY_S
from telemetry import frames, keys
from telemetry.errors import MalformedEvent
from telemetry.events import RECORD_SIZE
from telemetry.frames import Frame
from telemetry.journal import Dropped, Journal
from telemetry.trail import (
    Assembler,
    Intent,
    IntentWay,
    TrailWord,
    decode_trail,
    pack_configuration,
)
from telemetry.trail_content import NumbersSeen, TrailContent
from telemetry.writer import Counters, adopt
from workers.archive import trail_files
from workers.archive.trail import DUE_ENTRIES, Trail
from workers.archive.trail_files import DAY_MS, TrailFrame
from workers.archive.trail_reading import read_trail

SHARDS = 2
ME = b"m" * 16
DAY = 20_000
AT_MS = DAY * DAY_MS + 1000


def intent(number: int, **more: Any) -> bytes:
    said: dict[str, Any] = {
        "at_ms": AT_MS + number,
        "nonce": number.to_bytes(16, "big"),
        "way": IntentWay.CALL,
        "attempt": 1,
        "class_name": "confidential",
        "level": 2,
        "zone": "vendor",
        "endpoint": 5,
        "endpoint_name": "far",
        "app": 6,
        "app_name": "default",
        "configuration": 7,
    }
    return Intent(**{**said, **more}).pack(SHARDS)


def frame(first: int, n: int = 1, *, producer: bytes = ME) -> Frame:
    records = [intent(number, endpoint=number) for number in range(first, first + n)]
    return Frame(producer, SHARDS, first, b"".join(records))


def nonces(found: TrailContent) -> list[int]:
    assert {count.n for count in found.left.values()} <= {1}
    return sorted(one.endpoint for one in found.left)


@pytest.fixture
def trail(client: Any, tmp_path: Path) -> Trail:
    return Trail(client, tmp_path / "archive", SHARDS)


def send(trail: Trail, *sent: Frame) -> None:
    for one in sent:
        entry = f"{AT_MS + one.first}-{len(sent)}"
        trail.client.xadd(keys.stream(SHARDS), {"f": frames.pack(one)}, id=entry)


def read(trail: Trail, tmp_path: Path, *, since_ms: int = AT_MS) -> TrailContent:
    return read_trail(trail, tmp_path / "journal", since_ms=since_ms)


# -- records ------------------------------------------------------------------------------------


def test_an_intent_says_what_leaves_for_where_and_names_are_cut_to_its_room() -> None:
    raw = intent(1, class_name="é" * 40, endpoint_name="e" * 200, zone="")

    (found,) = decode_trail(raw).intents

    assert len(raw) == RECORD_SIZE
    assert found["class_name"].decode() == "é" * 32
    assert found["endpoint_name"] == b"e" * 96
    assert found["zone"] == b""
    assert (int(found["level"]), int(found["configuration"])) == (2, 7)


def test_a_record_with_one_flipped_bit_is_not_believed() -> None:
    for place in (1, 3, 60, RECORD_SIZE - 9):
        raw = bytearray(intent(1))
        raw[place] ^= 1

        found = decode_trail(bytes(raw))

        assert (len(found.intents), found.n_unsound) == (0, 1)


def test_what_a_configuration_constrains_comes_whole_in_any_order_and_once() -> None:
    constraints = os.urandom(3000)
    records = pack_configuration(
        SHARDS,
        at_ms=9,
        configuration=7,
        word=TrailWord.TOOK,
        n_dropped=3,
        constraints=constraints,
    )
    found = Assembler()

    for record in [*reversed(records), *records]:
        found.add(ME, decode_trail(record).parts)

    assert len(records) > 3
    assert [one.constraints for one in found.said] == [constraints]
    assert (found.said[0].word, found.said[0].n_dropped) == (TrailWord.TOOK, 3)
    assert found.n_unfinished == 0


def test_a_configuration_without_one_of_its_parts_is_not_made_up() -> None:
    records = pack_configuration(
        SHARDS,
        at_ms=9,
        configuration=7,
        word=TrailWord.BEGAN,
        n_dropped=0,
        constraints=os.urandom(3000),
    )
    found = Assembler()

    found.add(ME, decode_trail(b"".join(records[1:])).parts)

    assert (found.said, found.n_unfinished) == ([], 1)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 12)), max_size=30))
def test_numbers_are_new_once_and_holes_are_what_nobody_had(
    spans: list[tuple[int, int]],
) -> None:
    seen, known = NumbersSeen(), set[int]()

    for first, n in spans:
        new = {i for a, b in seen.add(first, first + n, 1) for i in range(a, b)}
        assert new == set(range(first, first + n)) - known
        known |= new

    missing = set(range(max(known, default=-1) + 1)) - known
    assert sum(hole.n_records for hole in seen.holes()) == len(missing)


# -- files --------------------------------------------------------------------------------------


def test_what_a_crash_left_of_a_block_is_cut_off_by_the_next(tmp_path: Path) -> None:
    trail_files.add(tmp_path, [TrailFrame(AT_MS, frame(0))])
    path = trail_files.path_of(tmp_path, DAY)
    whole = path.read_bytes()
    for cut in range(1, len(whole), 7):
        path.write_bytes(whole + whole[:cut])

        trail_files.add(tmp_path, [TrailFrame(AT_MS, frame(1))])

        found = [
            one.frame.first for b in trail_files.blocks(path, whole=True) for one in b.frames()
        ]
        assert found == [0, 1]


def test_a_damaged_block_takes_no_other_along(tmp_path: Path, trail: Trail) -> None:
    ends = []
    for first in range(3):
        trail_files.add(tmp_path, [TrailFrame(AT_MS, frame(first))])
        ends.append(trail_files.path_of(tmp_path, DAY).stat().st_size)
    path = trail_files.path_of(tmp_path, DAY)
    data = bytearray(path.read_bytes())
    data[ends[1] - 1] ^= 1
    path.write_bytes(data)

    found = list(trail_files.blocks(path, whole=True))

    assert [block.is_damaged for block in found] == [False, True, False]


def test_nothing_is_added_behind_what_cannot_be_read(tmp_path: Path) -> None:
    trail_files.add(tmp_path, [TrailFrame(AT_MS, frame(0))])
    path = trail_files.path_of(tmp_path, DAY)
    path.write_bytes(path.read_bytes() + b"no block of ours, but long enough to be one")

    trail_files.add(tmp_path, [TrailFrame(AT_MS, frame(1))])

    assert [day for day, _ in trail_files.days(tmp_path)] == [DAY, DAY]
    new, old = (one for _, one in sorted(trail_files.days(tmp_path), key=lambda d: -len(d[1].name)))
    assert [b.numbers[0][2] for b in trail_files.blocks(old, whole=False)] == [1]
    with pytest.raises(MalformedEvent):
        list(trail_files.blocks(new, whole=False))


def test_a_days_records_lie_in_that_days_file_alone(tmp_path: Path) -> None:
    trail_files.add(tmp_path, [TrailFrame(AT_MS, frame(0)), TrailFrame(AT_MS + DAY_MS, frame(1))])

    assert [day for day, _ in trail_files.days(tmp_path)] == [DAY, DAY + 1]
    assert trail_files.path_of(tmp_path, DAY).name == "2024-10-04.trail"


# -- stream to files ----------------------------------------------------------------------------


def test_the_stream_is_trimmed_behind_what_is_in_a_file_and_nothing_is_read_twice(
    trail: Trail, tmp_path: Path
) -> None:
    send(trail, frame(0), frame(1, 3))
    before = nonces(read(trail, tmp_path))

    assert trail.take(now_ms=AT_MS, every_s=3600) == 0, "it is not due yet"
    assert trail.take(now_ms=AT_MS + 99, every_s=0) == 2

    assert trail.client.xlen(keys.stream(SHARDS)) == 0
    assert nonces(read(trail, tmp_path)) == before == [0, 1, 2, 3]


def test_many_entries_do_not_wait_for_the_hour(trail: Trail) -> None:
    for first in range(DUE_ENTRIES):
        entry = {"f": frames.pack(frame(first))}
        trail.client.xadd(keys.stream(SHARDS), entry, id=f"{AT_MS}-{first + 1}")

    assert trail.take(now_ms=AT_MS, every_s=3600) == DUE_ENTRIES


def test_killed_between_file_and_mark_it_begins_again_and_each_record_counts_once(
    trail: Trail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(trail, frame(0), frame(1))
    with monkeypatch.context() as patch:
        patch.setattr(Trail, "_pass", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            trail.take(now_ms=AT_MS + 99, every_s=0)
    send(trail, frame(2))

    trail.take(now_ms=AT_MS + 99, every_s=0)

    assert nonces(read(trail, tmp_path)) == [0, 1, 2]
    assert trail.client.xlen(keys.stream(SHARDS)) == 0


def test_a_full_disk_trims_nothing(
    trail: Trail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(trail, frame(0))
    trail.take(now_ms=AT_MS + 99, every_s=0)
    send(trail, frame(1))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            trail.take(now_ms=AT_MS + 99, every_s=0)

    assert trail.client.xlen(keys.stream(SHARDS)) == 1
    assert nonces(read(trail, tmp_path)) == [0, 1]
    assert trail.take(now_ms=AT_MS + 99, every_s=0) == 1


def test_one_archive_of_two_takes_the_trail(trail: Trail, client: Any, tmp_path: Path) -> None:
    other = Trail(client, tmp_path / "other", SHARDS)
    send(trail, frame(0))
    trail.take(now_ms=AT_MS + 99, every_s=0)
    send(trail, frame(1))

    assert other.take(now_ms=AT_MS + 99, every_s=0) == 0
    assert trail.take(now_ms=AT_MS + 99, every_s=0) == 1


def test_asked_where_another_archive_has_the_files_it_says_so(
    trail: Trail, client: Any, tmp_path: Path
) -> None:
    send(trail, frame(0))
    trail.take(now_ms=AT_MS + 99, every_s=0)

    other = read(Trail(client, tmp_path / "other", SHARDS), tmp_path)

    assert any("another archive" in one for one in other.not_looked_at)
    assert read(trail, tmp_path).not_looked_at == []


def test_a_process_that_sends_outcomes_and_keeps_no_trail_is_seen(
    trail: Trail, client: Any, tmp_path: Path
) -> None:
    send(trail, frame(0))
    for producer in (ME, b"o" * 16):
        client.hset(keys.PASSED, producer, b"%d:%d" % (AT_MS, AT_MS))

    found = read(trail, tmp_path)

    assert (found.n_mute, found.sent_ms) == (1, [AT_MS, AT_MS])


def test_an_entry_that_is_no_frame_is_missing_and_holds_nothing_up(
    trail: Trail, tmp_path: Path
) -> None:
    send(trail, frame(0))
    trail.client.xadd(keys.stream(SHARDS), {"f": b"nonsense"}, id=f"{AT_MS + 1}-5")
    send(trail, frame(2))

    trail.take(now_ms=AT_MS + 99, every_s=0)

    found = read(trail, tmp_path)
    assert nonces(found) == [0, 2]
    assert [hole.n_records for hole in found.numbers[ME].holes()] == [1]


def test_of_days_long_before_only_the_numbers_are_read(trail: Trail, tmp_path: Path) -> None:
    directory = trail.directory
    directory.mkdir(parents=True)
    for day in range(10):
        late = intent(day, endpoint=day, at_ms=AT_MS + 9 * DAY_MS)
        if day != 4:
            one = TrailFrame(AT_MS + day * DAY_MS, Frame(ME, SHARDS, day, late))
            trail_files.add(directory, [one])

    found = read(trail, tmp_path, since_ms=AT_MS + 9 * DAY_MS)

    assert nonces(found) == [7, 8, 9], "none of the others can have left since then"
    holes = list(found.numbers[ME].holes())
    assert [(hole.n_records, hole.from_ms, hole.to_ms) for hole in holes] == [
        (1, AT_MS + 3 * DAY_MS, AT_MS + 5 * DAY_MS)
    ]


def test_files_go_after_their_days_and_it_is_said_since_when_they_are_kept(
    trail: Trail, tmp_path: Path
) -> None:
    trail.directory.mkdir(parents=True)
    for day in range(5):
        trail_files.add(trail.directory, [TrailFrame(AT_MS + day * DAY_MS, frame(day))])

    assert trail.prune(days=2, now_ms=AT_MS + 4 * DAY_MS) == 2

    assert [day - DAY for day, _ in trail_files.days(trail.directory)] == [2, 3, 4]
    assert read(trail, tmp_path).kept_since_ms == (DAY + 2) * DAY_MS


def test_a_journal_of_a_version_that_kept_no_trail_is_sent_and_read_as_ever(
    trail: Trail, tmp_path: Path
) -> None:
    """Its segments say where the numbers of the shards begin, and of nothing else."""
    directory = tmp_path / "journal" / ME.hex()
    directory.mkdir(parents=True)
    head = struct.pack("<4s16sB", b"PMJ2", ME, SHARDS) + struct.pack(f"<{SHARDS}Q", 5, 6)
    outcomes = [outcome_of(number) for number in range(4)]
    (directory / "00000001.seg").write_bytes(head + b"".join(outcomes) + bytes(RECORD_SIZE))

    assert len(read(trail, tmp_path).numbers) == 0
    assert adopt(tmp_path / "journal", trail.client, Counters()) == 4

    streams = [trail.client.xrange(keys.stream(shard)) for shard in range(SHARDS + 1)]
    sent = [[frames.unpack(one[b"f"]) for _, one in entries] for entries in streams]
    assert [[(one.first, one.n_records) for one in found] for found in sent] == [
        [(5, 2)],
        [(6, 2)],
        [],
    ]


def test_no_outcome_gets_into_the_trail_by_a_wrong_shard(tmp_path: Path) -> None:
    log = Journal(tmp_path, SHARDS)
    log.open()
    stray = bytearray(outcome_of(1))
    stray[frames.SHARD_OFFSET] = SHARDS

    assert log.append(intent(1))
    assert not log.append(bytes(stray))

    log.close()
    assert dict(log.dropped) == {Dropped.SHARD: 1}


def test_a_process_says_what_it_goes_by_well_before_it_counts_as_silent() -> None:
    from router.report.privacy import SILENT_MS

    assert STILL_EVERY_S * 1000 < SILENT_MS
    assert AGAIN_EVERY_S <= 86_400
