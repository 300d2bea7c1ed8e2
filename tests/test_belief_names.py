"""What follows from names, and from digests of rows, is made anew only where they change."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from bandit import cells
from bandit.families import N_COLUMNS, Family
from router.beliefs.followed import Followed
from router.beliefs.names import Names

READ = (Family.QUALITY, Family.LATENCY, Family.RELIABILITY, Family.DERIVED)


def test_names_are_the_same_value_until_one_is_new() -> None:
    names, known = Names(), {1: "a"}
    first = names.beside(known)

    assert names.beside(known) is first
    names.add(2, "b")
    second = names.beside(known)
    assert (first, second) == ({1: "a"}, {1: "a", 2: "b"})
    names.add(2, "b")
    assert names.beside(known) is second
    assert names.beside({**known, 3: "c"}) == {1: "a", 2: "b", 3: "c"}
    assert Names().beside(None) == {}


def test_rows_under_their_own_name_are_not_made_anew() -> None:
    n = 3
    rows = cells.terms(
        Family.QUALITY,
        category=np.arange(1, n + 1, dtype=np.uint64),
        endpoint=np.ones(n, dtype=np.uint64),
        at_ms=np.zeros(n, dtype=np.int64),
        columns=np.ones((n, N_COLUMNS)),
    )
    names = np.array([1, 2, 3], dtype=np.uint64)

    assert cells.renamed(rows, names, names) is rows
    moved = cells.renamed(rows, names, np.array([1, 1, 3], dtype=np.uint64))
    assert moved.keys["category"].tolist() == [1, 1, 3]
    assert rows.keys["category"].tolist() == [1, 2, 3]


def test_what_is_known_of_keys_reads_other_values_as_if_they_were_alone() -> None:
    rng = np.random.default_rng(0)
    n, now_ms = 400, 1_790_000_000_000
    parts = [
        cells.terms(
            family,
            category=rng.integers(1, 5, n).astype(np.uint64),
            endpoint=rng.integers(1, 5, n).astype(np.uint64),
            at_ms=now_ms - rng.integers(0, 3_600_000, n),
            columns=np.abs(rng.normal(size=(n, N_COLUMNS))),
        )
        for family in (*READ, Family.SIGNALS)
    ]
    first = cells.merge(parts)
    more = first.of_same_keys(first.values + rng.integers(0, 99, first.values.shape))
    asked = [
        (np.array(c, dtype=np.uint64), np.array(e, dtype=np.uint64))
        for c, e in (([1, 2, 3], [1, 2]), ([3, 1], [4, 2, 9]), ([1, 2, 3], [2, 1]))
    ]
    for later, rows in enumerate((first, more, first, more)):
        for categories, endpoints in asked:
            to = categories[::-1].copy()
            known = cells.renamed(rows, categories, to)
            alone = cells.renamed(cells.Terms(rows.keys, rows.values), categories, to)
            assert (known.keys == alone.keys).all()
            for here, there in ((rows, cells.Terms(rows.keys, rows.values)), (known, alone)):
                found, expected = (
                    cells.read(
                        each, categories=categories, endpoints=endpoints, now_ms=now_ms + later
                    )
                    for each in (here, there)
                )
                for family in ("quality", "latency", "reliability", "derived"):
                    assert np.array_equal(getattr(found, family), getattr(expected, family))
                assert found.quality.any()
                plain, again = (
                    cells.read_plain(each, Family.SIGNALS, names=categories, endpoints=endpoints)
                    for each in (here, there)
                )
                assert np.array_equal(plain, again)
                assert plain.any()


def test_rows_that_are_new_are_seen_whatever_was_known_of_the_others(
    client: Any,
) -> None:
    """The keys' own memory goes with the keys: one more row, and nothing of it is used."""
    reader = Rows()
    followed = Followed(client, cast(Any, reader), *cast(Any, (None, None, None)))
    keys = np.zeros(2, dtype=cells.KEY)
    keys["category"], keys["family"] = [1, 2], int(Family.SIGNALS)
    reader.keys, reader.values = keys[:1], np.ones((1, N_COLUMNS), dtype="<i8")

    first = followed.read_rows()
    first.once("something", (), lambda: 1)
    reader.values = reader.values + 1
    second = followed.read_rows()
    assert second.keys is first.keys
    assert second.once("something", (), lambda: 2) == 1
    assert (second.values == 2).all()
    assert (first.values == 1).all()
    reader.keys, reader.values = keys, np.ones((2, N_COLUMNS), dtype="<i8")
    third = followed.read_rows()
    assert third.once("something", (), lambda: 2) == 2
    assert third.keys["category"].tolist() == [1, 2]


class Rows:
    """In the place of a reader: rows as told."""

    keys: np.ndarray
    values: np.ndarray

    def rows(self) -> tuple[bytes, bytes]:
        return self.keys.tobytes(), self.values.tobytes()
