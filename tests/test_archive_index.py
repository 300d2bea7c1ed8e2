"""Old decisions and labels: what the archive's indexes find is what the store held."""

from __future__ import annotations

import errno
import random
import resource
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline import named_in_store, said_in_store
from test_version_2 import RECORDS, now
from test_workers_archive import (
    KILLED,
    NOW_MS,
    Life,
    aged,
    command,
    feedback,
    live_through,
    outcome,
    token,
)

from telemetry import digests, events, frames, keys, references
from telemetry.decisions import Decisions
from telemetry.events import NO_DIGEST, FeedbackKind, Flag
from telemetry.frames import Frame
from telemetry.layouts import TOKEN
from telemetry.references import MAX_REFERENCES
from telemetry.tokens import decided_at_ms, nonce_of
from workers.archive import index, indexing, retention
from workers.archive.columns import find, from_end, nonces_in
from workers.archive.lookup import LookedUp, look_up
from workers.archive.restore import restore
from workers.archive.retention import Keep
from workers.archive.upkeep import ensure
from workers.folding import labels
from workers.folding.batch import DAY_MS

OLDEST_MS = NOW_MS - 30 * DAY_MS
FINAL = int(Flag.FINAL | Flag.ROUTED | Flag.USAGE_KNOWN)
TOLD = int(Flag.FINAL | Flag.INGESTED)


@pytest.fixture
def life(store: Any, client: Any, state_dir: Path) -> Life:
    """On a real store: its scripts read all references, which an imitation takes seconds for."""
    return Life(client, state_dir / "archive")


def name(number: int) -> bytes:
    return digests.digest16("app", "ref", str(number))


def nonce(number: int) -> bytes:
    return number.to_bytes(16, "big")


def event_id(number: int) -> bytes:
    return number.to_bytes(10, "big") + bytes(6)


def short(packed: bytes) -> bytes:
    """A token as a decision in an index comes back."""
    return Decisions.of(np.frombuffer(packed, dtype=TOKEN)).to_tokens(packed[2]).tobytes()


def store_references(life: Life) -> dict[bytes, list[bytes]]:
    """All that the store has under any name, by its own look-up."""
    asked = sorted(name.rjust(16, bytes(1)) for name in named_in_store(life.client))
    found = references.look_up(life.client, asked, n_shards=1, now_ms=NOW_MS)
    return dict(zip(asked, found, strict=True))


def store_labels(life: Life) -> dict[bytes, bytes]:
    return said_in_store(life.client)


def ask(life: Life, *nonces: bytes, digests: tuple[bytes, ...] = ()) -> LookedUp:
    return look_up(life.archive, list(digests), list(nonces), oldest_ms=OLDEST_MS)


def check(life: Life) -> None:
    """All that the store holds is found, and nothing else of it."""
    named, said = store_references(life), store_labels(life)
    unknown = [name(-1), nonce(2**100)]

    found = look_up(life.archive, [*named, unknown[0]], [*said, unknown[1]], oldest_ms=OLDEST_MS)

    assert found.named == [[short(t) for t in those] for those in [*named.values(), []]]
    assert (found.marks, found.unread) == ([life.shard.mark], set())
    assert {n: found.labels.get(n, b"") for n in said} == said
    spoken_of = {nonce_of(t) for those in found.named for t in those} | set(said)
    assert set(found.labels) <= spoken_of
    assert found.decisions[-1] is None


def live_with_names(life: Life, dice: random.Random) -> None:
    """As `live_through`, with answer ids, references that name several, and promised ids."""
    for number in range(3):
        records = []
        for n in range(1000 * number + 1, 1000 * number + 80):
            flags = FINAL | (int(Flag.PROMISED) if n % 3 == 0 else 0)
            reference = name(dice.randint(1, 40)) if n % 2 else NO_DIGEST
            at_ms = NOW_MS - dice.randint(0, 20 * DAY_MS)
            response = digests.digest16("app", "response", str(n))
            kwargs = {"response": response, "reference": reference, "at_ms": at_ms}
            records.append(outcome(n, flags=flags, **kwargs))
            records.append(outcome(n + 500, flags=flags & ~Flag.FINAL, **kwargs))
            records.append(feedback(n, dice.random(), at_ms=at_ms, at=dice.randint(0, 9)))
            said = (FeedbackKind.HUMAN, dice.random()) if n % 5 == 0 else None
            records.append(outcome(n + 5000, at_ms=at_ms, said=said, event=event_id(n)))
        dice.shuffle(records)
        for i in range(0, len(records), 7):
            sent = life.send(*records[i : i + 7])
            if dice.random() < 0.2:
                life.again(sent[0])
        life.fold_all(dice)
        life.take()
        life.prune()


def test_all_references_and_labels_of_the_store_are_found(life: Life) -> None:
    dice = random.Random(1)
    live_with_names(life, dice)
    live_through(life, dice)

    check(life)

    assert len(life.files()) == 7
    assert len(store_references(life)) > 300
    assert max(map(len, store_references(life).values())) > 3


def test_a_decision_is_found_by_each_of_its_names_with_what_was_said(life: Life) -> None:
    flags = FINAL | int(Flag.PROMISED)
    life.send(outcome(7, flags=flags, response=name(1), reference=name(2)), feedback(7, 0.25))
    life.fold()
    life.take()

    found = look_up(
        life.archive, [name(2), nonce(7), name(3), name(1)], [nonce(7)], oldest_ms=OLDEST_MS
    )

    known = short(token(7))
    assert found.named == [[known], [known], [], [known]]
    assert found.decisions == [known]
    row = store_labels(life)[nonce(7)]
    assert found.labels == {nonce(7): row}
    assert found.labels == ask(life, digests=(name(1),)).labels


def test_attempts_whose_answer_nobody_got_are_no_decisions(life: Life) -> None:
    life.send(outcome(7, flags=int(Flag.ROUTED), response=name(1)))
    life.fold()
    life.take()

    found = ask(life, nonce(7), digests=(name(1),))

    assert (found.named, found.decisions) == ([[]], [None])


def test_corrections_and_retractions_hold_over_several_files(life: Life) -> None:
    """Whatever file brings what, and in whatever order."""
    dice = random.Random(3)
    words = [(n, kind, r) for n in range(1, 10) for kind in FeedbackKind for r in range(3)]
    dice.shuffle(words)
    for i, (n, kind, revision) in enumerate(words):
        value = dice.choice([None, 0.0, 0.5, 1.0])
        life.send(feedback(n, value, kind=kind, revision=revision, at=dice.randint(0, 3)))
        if i % 20 == 19:
            life.fold()
            life.take()
    life.fold()
    life.take()

    check(life)

    assert len(life.files()) == 7
    row = ask(life, nonce(1)).labels[nonce(1)]
    assert {kind: word.revision for kind, word in labels.parse(row).items()} == dict.fromkeys(
        range(1, 6), 2
    )


def test_a_decision_of_which_nothing_was_said_has_no_row(life: Life) -> None:
    life.send(outcome(1), outcome(2), feedback(2, 0.5))
    life.fold()
    life.take()

    found = ask(life, nonce(1), nonce(2), nonce(3))

    assert [decision is None for decision in found.decisions] == [False, False, True]
    assert list(found.labels) == [nonce(2)]


def test_an_outcome_told_again_says_nothing_new(life: Life) -> None:
    """Nor does it where its word would outrank what counts, in its own file or over all."""

    def told(number: int, value: float, event: int) -> bytes:
        said = (FeedbackKind.HUMAN, value)
        return outcome(number, flags=TOLD, said=said, event=event_id(event))

    life.send(told(1, 0.5, 5), outcome(2, flags=TOLD))
    life.fold()
    life.take()
    life.send(told(1, 0.75, 9), told(2, 0.75, 9), told(3, 0.75, 4))
    life.send(feedback(1, 0.25, kind=FeedbackKind.JUDGE))
    life.send(told(3, 1.0, 9), events.feedback(
        token(2), kind=FeedbackKind.HUMAN, value=0.125, revision=0, event=event_id(3)
    ))  # fmt: skip
    life.fold()
    life.take()

    check(life)

    found = ask(life, nonce(1), nonce(2), nonce(3)).labels
    values = [labels.parse(found[nonce(n)])[FeedbackKind.HUMAN].value_micro for n in (1, 2, 3)]
    assert values == [500_000, 125_000, 750_000]


def test_of_a_reference_that_names_many_the_last_hundred_are_found(life: Life) -> None:
    """Of each span of days, in one file as over several, as in the store."""
    for number in range(4):
        for n in range(130 if number == 1 else 40):
            at_ms = NOW_MS - (n % 2) * 10 * DAY_MS + n
            life.send(outcome(1000 * number + n, at_ms=at_ms, reference=name(1)))
        life.fold()
        life.take()

    (known,) = store_references(life).values()
    (found,) = ask(life, digests=(name(1),)).named

    assert [short(t) for t in known] == found[-len(known) :], "of the last span"
    assert len(known) == MAX_REFERENCES
    assert len(found) == 2 * MAX_REFERENCES
    times = [decided_at_ms(t) for t in found]
    assert times == sorted(times)


def test_decisions_that_are_too_old_are_not_looked_for(life: Life) -> None:
    aged(life, days=6)
    digest = name(1)
    life.send(outcome(901, at_ms=NOW_MS - 5 * DAY_MS, reference=digest))
    life.send(outcome(902, at_ms=NOW_MS - 2 * DAY_MS, reference=digest))
    life.fold()
    life.take()

    nonces = [nonce(901), nonce(902), nonce(41), nonce(21)]
    found = look_up(life.archive, [digest], nonces, oldest_ms=NOW_MS - 3 * DAY_MS)

    assert found.named == [[short(token(902, at_ms=NOW_MS - 2 * DAY_MS))]]
    assert [d is None for d in found.decisions] == [True, False, True, False]
    assert nonce(21) in found.labels


def test_words_of_decisions_over_30_days_old_do_not_count(life: Life) -> None:
    old = NOW_MS - 32 * DAY_MS
    life.send(outcome(1, at_ms=old, reference=name(1)), feedback(1, 0.5, at_ms=old))
    life.fold()
    life.take()

    found = look_up(life.archive, [name(1)], [nonce(1)], oldest_ms=0)

    assert (found.named, found.decisions, found.labels) == ([[]], [None], {})


def test_a_users_decisions_come_back_with_the_user(life: Life) -> None:
    body = np.frombuffer(token(1) + token(2) + token(3), dtype=TOKEN).copy()
    body["user"][[0, 2]] = [77, 2**64 - 1]
    flags = FINAL
    life.send(*(
        events.outcome(t.tobytes(), result=events.Result.OK, attempt=1, status=200, flags=flags)
        for t in body
    ))  # fmt: skip
    life.fold()
    life.take()

    found = ask(life, nonce(3), nonce(2), nonce(1)).decisions

    users = [np.frombuffer(t or b"", dtype=TOKEN)["user"][0] for t in found]
    assert users == [2**64 - 1, 0, 77]


def test_what_version_2_wrote_is_found(life: Life) -> None:
    old = Frame(b"o" * 16, 0, 0, b"".join(now(r) for r in RECORDS), 2)
    life.client.xadd(keys.stream(0), {"f": frames.pack(old)})
    life.fold()
    life.take()

    check(life)

    assert store_references(life)
    assert store_labels(life)


# -- with bases, restored stores and lost ones --------------------------------------------------


def test_the_labels_in_a_base_are_found(life: Life) -> None:
    aged(life, days=6)
    assert retention.prune(life.archive, Keep(days=3.5, max_bytes=1 << 30), now_ms=NOW_MS) == 3
    life.send(feedback(25, None, at=99, at_ms=NOW_MS - 2 * DAY_MS))
    life.send(feedback(44, 0.125, at=99, at_ms=NOW_MS - 4 * DAY_MS))
    life.fold()
    life.take()

    said = store_labels(life)
    found = ask(life, *said)

    assert life.files()[0].is_base
    assert found.labels == said


def test_what_a_base_says_was_told_before_says_nothing_new(life: Life) -> None:
    at_ms = NOW_MS - 3 * DAY_MS
    said = (FeedbackKind.HUMAN, 0.5)
    life.send(outcome(1, at_ms=at_ms, flags=TOLD), entry_id=f"{at_ms}-1")
    life.fold()
    life.take()
    life.send(outcome(2))
    life.fold()
    life.take()
    life.send(outcome(3))
    life.fold()
    life.take()
    assert retention.prune(life.archive, Keep(days=2, max_bytes=1 << 30), now_ms=NOW_MS) == 1
    life.send(outcome(1, at_ms=at_ms, flags=TOLD, said=said, event=event_id(9)))
    life.fold()
    life.take()

    check(life)

    assert life.files()[0].is_base
    assert ask(life, nonce(1)).labels == {}


def test_a_restored_store_and_its_archive_say_the_same(life: Life) -> None:
    dice = random.Random(6)
    live_with_names(life, dice)
    life.client.flushall()
    restore(life.archive)
    again = Life(life.client, life.archive.root)
    again.numbers = life.numbers
    check(again)

    live_through(again, dice, files=2)

    check(again)


def test_what_was_said_to_a_store_that_is_gone_is_not_taken_for_heard(life: Life) -> None:
    """A correction would take back what the new store never counted. The decision is one still."""
    for n in (3, 1):  # the file that begins where the stream did makes way for the new store's
        life.send(outcome(n, reference=name(n)), feedback(n, 0.5))
        life.fold()
        life.take()
    life.client.flushall()
    again = Life(life.client, life.archive.root)
    again.send(outcome(2), feedback(2, 0.5))
    again.fold()
    again.take()

    found = ask(again, nonce(2), digests=(name(1),))

    assert found.named == [[short(token(1))]]
    assert list(found.labels) == [nonce(2)] == list(store_labels(again))


# -- whatever happens to an index ---------------------------------------------------------------


def indexes(life: Life) -> list[Path]:
    return sorted(life.archive.directory(0).glob("*.index"))


def test_an_index_lies_beside_its_file_for_nobody_else_to_read(life: Life) -> None:
    live_through(life, random.Random(4), files=2)

    assert indexes(life) == [file.path.with_suffix(".index") for file in life.files()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in indexes(life)} == {0o600}


@pytest.mark.parametrize("how", ["missing", "empty", "cut", "longer", "of another file", "flipped"])
def test_a_missing_or_damaged_index_is_made_anew_and_never_believed(life: Life, how: str) -> None:
    live_with_names(life, random.Random(5))
    before = [path.read_bytes() for path in indexes(life)]
    dice = random.Random(6)
    for round_ in range(30 if how == "flipped" else 2):
        path, whole = indexes(life)[1], before[1]
        flipped = bytearray(whole)
        flipped[dice.randrange(len(whole)) if round_ else 20] ^= 1 << dice.randrange(8)
        path.unlink()
        wrong = {"empty": b"", "cut": whole[:-8], "longer": whole + bytes(8)}
        if how != "missing":
            path.write_bytes({**wrong, "of another file": before[0]}.get(how, flipped))

        if round_ % 2:
            check(life)
        else:
            assert ensure(life.archive) == 1

        assert [path.read_bytes() for path in indexes(life)] == before
        assert ensure(life.archive) == 0


def test_an_index_of_an_earlier_form_is_made_anew(life: Life) -> None:
    life.send(outcome(1))
    life.fold()
    (file,) = life.take()
    sound = file.index_path.read_bytes()
    earlier = sound[:16] + b"pmindex0" + sound[24:]
    file.index_path.write_bytes(index._checksum(earlier) + earlier[16:])

    assert ensure(life.archive) == 1

    assert file.index_path.read_bytes() == sound


def test_an_archive_from_before_there_were_indexes_gets_them(life: Life) -> None:
    live_with_names(life, random.Random(7))
    for path in indexes(life):
        path.unlink()

    assert ensure(life.archive) == 3

    assert len(indexes(life)) == 3
    check(life)
    assert life.audit().equal


def test_an_index_whose_file_is_gone_goes(life: Life) -> None:
    live_through(life, random.Random(8), files=2)
    life.files()[0].path.unlink()

    ensure(life.archive)

    assert indexes(life) == [file.index_path for file in life.files()]


def test_a_damaged_file_without_an_index_is_left_out(life: Life) -> None:
    live_with_names(life, random.Random(9))
    file = life.files()[1]
    file.index_path.unlink()
    file.path.write_bytes(file.path.read_bytes()[:-1])

    assert ensure(life.archive) == 0

    first = store_references(life)
    found = look_up(life.archive, list(first), [], oldest_ms=OLDEST_MS)
    assert 0 < sum(map(len, found.named)) < sum(map(len, first.values()))
    assert found.unread == {file.path.name}


def test_an_index_that_may_not_be_read_or_written_is_made_in_memory(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that another user made, on a disk that only reads."""
    live_with_names(life, random.Random(9))
    named = store_references(life)

    def refuse(*arguments: Any, **more: Any) -> Any:
        raise PermissionError(errno.EACCES, "not yours")

    monkeypatch.setattr(index, "read_head", refuse)
    monkeypatch.setattr(indexing, "make", refuse)
    found = look_up(life.archive, list(named), [], oldest_ms=OLDEST_MS)

    assert [len(tokens) for tokens in found.named] == [len(own) for own in named.values()]
    assert ensure(life.archive) == 0


def test_retention_deletes_file_and_index(life: Life) -> None:
    aged(life, days=6)

    retention.prune(life.archive, Keep(days=3.5, max_bytes=1 << 30), now_ms=NOW_MS)

    assert len(indexes(life)) == 5
    assert indexes(life) == sorted(file.index_path for file in life.files())
    assert ensure(life.archive) == 0


@contextmanager
def full_disk() -> Iterator[None]:
    """A limit on the size of files stands for the disk's."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("capsys")  # what is logged must not go to a file meanwhile
def test_an_index_that_cannot_be_written_does_no_harm(life: Life) -> None:
    live_with_names(life, random.Random(10))
    for path in indexes(life):
        path.unlink()
    named, said = store_references(life), store_labels(life)

    with full_disk():
        found = look_up(life.archive, list(named), list(said), oldest_ms=OLDEST_MS)

    assert sum(map(len, found.named)) == sum(map(len, named.values()))
    assert {path.suffix for path in life.archive.directory(0).iterdir()} == {".parquet", ""}
    assert not list(life.archive.directory(0).glob(".tmp-*"))
    check(life)
    assert len(indexes(life)) == 3


@pytest.mark.slow
@pytest.mark.usefixtures("store")  # processes connect to it
def test_killed_anywhere_all_is_found_again(life: Life) -> None:
    archivers = subprocess.Popen(command(KILLED, life), stdin=-1, stdout=-1, text=True, bufsize=1)
    assert archivers.stdin
    assert archivers.stdout
    n_without = n_whole = 0
    for number in range(1, 100):
        life.send(outcome(number, reference=name(number)), feedback(number, 0.5))
        life.send(feedback(number // 2, None if number % 3 else 0.25, at=number))
        life.fold()
        archivers.stdin.write(f"{number}\n")
        code = int(archivers.stdout.readline())
        n_without += len(life.files()) != len(indexes(life))
        if code == 0:
            break
        if [file.mark for file in life.files()][-1:] == [life.shard.mark]:
            n_whole += 1
            check(life)
    archivers.communicate(timeout=10)

    assert code == 0
    assert n_without
    assert n_whole
    life.take()
    check(life)
    ensure(life.archive)
    assert indexes(life) == sorted(file.index_path for file in life.files())
    assert not list(life.archive.directory(0).glob(".tmp-*"))


@pytest.mark.usefixtures("store")  # a process works on the same archive
def test_nothing_is_missed_while_files_make_way_for_others(life: Life) -> None:
    """Retention puts a base in the place of files that were listed already."""
    aged(life, days=6)
    nonces = [nonce(n) for day in range(4) for n in range(10 * day + 1, 10 * day + 8)]
    before = ask(life, *nonces)
    script = (
        "import sys; from pathlib import Path; from telemetry.store import *;"
        "from workers.archive.archive import *; from workers.archive.retention import *\n"
        "a = Archive(connect(Address(sys.argv[1])), Path(sys.argv[2]), 1)\n"
        f"for days in (5.5, 4.5, 3.5): prune(a, Keep(days, 1 << 30), now_ms={NOW_MS})"
    )
    process = subprocess.Popen(command(script, life))
    n = 0
    while process.poll() is None or n < 3:
        n += 1
        found = look_up(life.archive, [], nonces, oldest_ms=NOW_MS - 10 * DAY_MS)
        assert found.labels == before.labels

    assert process.returncode == 0
    assert life.files()[0].is_base


# -- columns ------------------------------------------------------------------------------------

few = st.binary(min_size=1, max_size=1).map(lambda raw: raw * 16) | st.builds(
    lambda a, b: bytes([a]) * 8 + bytes([b]) * 8, st.integers(0, 3), st.integers(0, 3)
)


@settings(max_examples=200)
@given(st.lists(few, max_size=40), st.lists(few, max_size=20))
def test_every_place_of_a_name_is_found_in_order(column: list[bytes], names: list[bytes]) -> None:
    """Also where many names share their first half."""
    raw = nonces_in(column)
    placed = raw.in_order()
    kept = [column[place] for place in raw.order().tolist()]

    slots, places = find(placed.first, placed.rest, nonces_in(names))

    assert list(zip(slots.tolist(), places.tolist(), strict=True)) == [
        (i, j) for i, one in enumerate(names) for j, other in enumerate(kept) if one == other
    ]
    assert placed.as_nonces().tobytes() == b"".join(kept)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1))
def test_from_the_end_of_its_group_each_is_counted(those: list[tuple[int, int]]) -> None:
    groups = [np.array(part) for part in zip(*those, strict=True)]

    behind = from_end(groups)

    assert behind.tolist() == [those[i + 1 :].count(one) for i, one in enumerate(those)]
