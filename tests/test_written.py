"""What is remembered of what was written: nothing is missed, and most is not asked for."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pipeline import NOW_MS, outcome, said

from telemetry import frames, keys
from telemetry.filling import FILL, SCORE, filled, scored
from telemetry.frames import Frame
from telemetry.scripts import Commit
from telemetry.young import LABELS, REFERENCES, SPAN_MS
from workers.folding.batch import Entries
from workers.folding.lease import Lease
from workers.folding.shard import Shard
from workers.folding.written import BITS_A_NAME, FIRST_BITS, WrittenNames

SPAN = 7


def names_of(numbers: NDArray[np.int64], n_bytes: int = 10) -> NDArray[np.uint8]:
    """Return distinct names that are as good as random."""
    rng = np.random.default_rng(5)
    out = rng.integers(0, 256, (int(numbers.max(initial=-1)) + 1, n_bytes), dtype=np.uint8)
    return np.asarray(out[numbers])


@given(st.lists(st.integers(0, 2000), max_size=300), st.lists(st.integers(0, 2000), max_size=300))
def test_nothing_that_was_written_is_missed(one: list[int], other: list[int]) -> None:
    names = names_of(np.arange(2001))
    written = WrittenNames()
    written.begin(LABELS, SPAN)

    for part in (one, other):
        written.add(LABELS, SPAN, names[part])

    assert written.may_hold(LABELS, SPAN, names[one + other]).all()


def test_few_names_are_taken_for_others_however_many_were_written() -> None:
    n = 30 * (1 << FIRST_BITS) // BITS_A_NAME  # so that it grew twice
    names = names_of(np.arange(2 * n))
    written = WrittenNames()
    written.begin(LABELS, SPAN)
    for begin in range(0, n, 2048):
        written.add(LABELS, SPAN, names[begin : min(begin + 2048, n)])

    assert written.may_hold(LABELS, SPAN, names[:n]).all()
    assert written.may_hold(LABELS, SPAN, names[n:]).mean() < 0.02


def test_of_a_span_that_did_not_begin_here_nothing_is_known() -> None:
    names, written = names_of(np.arange(10)), WrittenNames()
    written.begin(LABELS, SPAN)

    written.add(LABELS, SPAN + 1, names)

    assert not written.may_hold(LABELS, SPAN, names).any()
    assert written.may_hold(LABELS, SPAN + 1, names).all()
    assert written.may_hold(REFERENCES, SPAN, names).all()


def test_where_it_takes_too_much_the_oldest_span_may_hold_anything_again() -> None:
    names = names_of(np.arange(10))
    written = WrittenNames(most_bytes=2 << (FIRST_BITS - 3))
    for span in (SPAN, SPAN + 1, SPAN + 2):
        written.begin(LABELS, span)

        written.add(LABELS, span, names)

    none = names_of(np.arange(20))[10:]
    held = [written.may_hold(LABELS, SPAN + i, none).all() for i in range(3)]
    assert held == [True, False, False]


def test_a_name_that_stands_there_twice_is_not_new() -> None:
    names = names_of(np.array([0, 1, 2, 1, 3]), n_bytes=12)
    written = WrittenNames()
    written.begin(REFERENCES, SPAN)
    written.add(REFERENCES, SPAN, names[2:3])

    assert written.are_new(REFERENCES, SPAN, names).tolist() == [True, False, False, False, True]


# -- what a shard asks --------------------------------------------------------------------------


def entries_of(client: Any, *records: bytes, first: int = 0) -> Entries:
    entry = client.xadd(
        keys.stream(0), {"f": frames.pack(Frame(b"p" * 16, 0, first, b"".join(records)))}
    )
    return [(entry, {b"f": client.xrange(keys.stream(0), entry, entry)[0][1][b"f"]})]


def test_what_was_said_is_asked_for_only_where_something_may_have_been(client: Any) -> None:
    lease, shard = Lease(client, 0), Shard(client, 0)
    assert lease.take()
    shard.load()
    shard.fold(entries_of(client, outcome(2), said(1, 2, 0.5)), token=lease.token)

    fresh = shard.begin(entries_of(client, said(2, 4, 1.0), first=2))
    again = shard.begin(entries_of(client, said(3, 2, 0.1, revision=1), first=2))
    after = Shard(client, 0)
    after.load()
    unknown = after.begin(entries_of(client, said(4, 4, 1.0), first=2))

    assert fresh.said == []
    span = NOW_MS // SPAN_MS
    nonce = (2).to_bytes(16, "big")
    assert [question.decisions for question in again.said] == [[(span, nonce)]]
    assert len(unknown.said) == 1  # it was loaded: what lies there is not known


def test_a_word_that_is_corrected_in_a_later_batch_takes_the_place_of_the_first(
    client: Any,
) -> None:
    lease, shard = Lease(client, 0), Shard(client, 0)
    assert lease.take()
    shard.load()
    rows = []
    for number, value in enumerate((0.5, 0.25, None)):
        word = said(number + 1, 2, value, revision=number)
        shard.fold(entries_of(client, word, first=number), token=lease.token)
        rows.append(client.hgetall(keys.rows(0)))

    assert rows[0] != rows[1] != rows[2]
    other = Shard(client, 1)  # hears all of it at once
    other.load()
    hold = Lease(client, 1)
    assert hold.take()
    words = [said(i + 1, 2, value, revision=i) for i, value in enumerate((0.5, 0.25, None))]
    entry = entries_of(client, *words)
    other.fold(entry, token=hold.token)
    at_once = client.hgetall(keys.rows(1))
    assert {k: v for k, v in rows[2].items() if any(v)} == {
        k: v for k, v in at_once.items() if any(v)
    }


# -- how much is written at once ----------------------------------------------------------------


def test_many_fields_and_members_are_written_as_one_by_one(client: Any) -> None:
    names = [i.to_bytes(4, "big") for i in range(1234)]
    values = [bytes([i % 251]) * (i % 256) for i in range(len(names))]
    commit = Commit("meta")
    sizes = [len(value) for value in values]
    commit.add(FILL, "rows", *filled(4, b"".join(names), sizes, b"".join(values)))
    commit.add(SCORE, "touched", *scored(17, 4, b"".join(names)))

    commit.write(client)

    assert client.hgetall("rows") == dict(zip(names, values, strict=True))
    found = client.zrange("touched", 0, -1, withscores=True)
    assert Counter(found) == Counter((name, 17.0) for name in names)
