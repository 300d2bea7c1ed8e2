"""No sum of a cell wraps, however much is told of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_workers_archive import NOW_MS, Life, outcome

from bandit import cells, exact
from bandit.cells import CARRY, KEY, Terms
from bandit.decay import TABLE
from bandit.exact import UNIT
from bandit.families import MOST, N_COLUMNS, Family, U
from bandit.grid import Grid
from bandit.grouping import Grouping
from bandit.posterior import Arms, infer
from telemetry import keys
from telemetry.events import Flag
from workers.archive.rebuilt import Rebuilt, difference
from workers.archive.restore import restore
from workers.folding.shard import Shard

DAY_MS = 86_400_000
WINDOW_MS = 112 * DAY_MS
FULL_MS = NOW_MS // WINDOW_MS * WINDOW_MS + WINDOW_MS - 1
"""The end of a window, where weights are largest."""
FULL_WEIGHT = int(TABLE[-1]) << 7
PRICED = int(Flag.USAGE_KNOWN | Flag.FINAL | Flag.PRICED)
words = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-9, 9),
    st.sampled_from([UNIT - 1, UNIT, -UNIT, 1 - UNIT, 2**63 - 1, -(2**63)]),
)


def key_of(family: int = Family.USAGE, *, category: int = 1, at_ms: int = FULL_MS) -> np.ndarray:
    window = at_ms // WINDOW_MS
    return np.array([(category, 3, int(family), 0, window)], dtype=KEY)


def row(value: int, column: int = U.COST_NANO) -> np.ndarray:
    out = np.zeros((1, N_COLUMNS), dtype=np.int64)
    out[0, column] = value
    return out


def total(terms: Terms, column: int = U.COST_NANO) -> int:
    """The whole sum of a column, in Python's own integers."""
    return sum(
        int(value[column]) * (UNIT if key["family"] >= CARRY else 1)
        for key, value in zip(terms.keys, terms.values, strict=True)
    )


def as_dict(terms: Terms) -> dict[bytes, bytes]:
    return {k.tobytes(): v.tobytes() for k, v in zip(terms.keys, terms.values, strict=True)}


def costing(usd: float, n: int, *, at_ms: int = FULL_MS) -> Terms:
    """What so many calls of that cost add, one by one."""
    columns = np.zeros((n, N_COLUMNS))
    columns[:, U.CALLS] = columns[:, U.PRICED] = 1
    columns[:, U.COST_NANO] = usd * 1e9
    return cells.terms(
        Family.USAGE,
        category=np.full(n, 1, dtype=np.uint64),
        endpoint=np.full(n, 3, dtype=np.uint64),
        at_ms=np.full(n, at_ms),
        columns=columns,
    )


def usage(rows: Terms, *, now_ms: int = FULL_MS) -> np.ndarray:
    categories, endpoints = np.array([1], dtype=np.uint64), np.array([3], dtype=np.uint64)
    found = cells.read(rows, categories=categories, endpoints=endpoints, now_ms=now_ms)
    return found.usage[0, 0]


# -- the arithmetic -----------------------------------------------------------------------------


@given(st.lists(words, min_size=1, max_size=30), st.integers(0, 29))
def test_sums_are_those_of_integers_without_end(values: list[int], cut: int) -> None:
    starts = sorted({0, cut % len(values)})
    groups = np.split(np.array(values, dtype=np.int64), starts[1:])

    low, high = exact.sums(np.array(values, dtype=np.int64)[:, None], np.array(starts))

    over = np.zeros_like(low) if high is None else high
    for n, group in enumerate(groups):
        wanted = sum(group.tolist())
        assert int(low[n, 0]) + UNIT * int(over[n, 0]) == wanted
        assert abs(int(low[n, 0])) < UNIT
        assert int(low[n, 0]) * wanted >= 0


@given(st.lists(st.lists(st.integers(0, MOST * FULL_WEIGHT), max_size=9), max_size=9))
def test_neither_order_nor_grouping_of_large_terms_shows_in_a_byte(parts: list[list[int]]) -> None:
    def terms(values: list[int]) -> list[Terms]:
        return [Terms(key_of(), row(value)) for value in values]

    every = [value for part in parts for value in part]
    at_once = cells.merge(terms(every))
    in_parts = cells.merge([cells.merge(terms(part)) for part in reversed(parts)])
    rows: dict[bytes, np.ndarray] = {}

    def stored(names: np.ndarray) -> np.ndarray:
        nothing = np.zeros(N_COLUMNS, dtype=np.int64)
        return np.array([rows.get(name.tobytes(), nothing) for name in names])

    for value in every:
        after = cells.add(cells.merge(terms([value])), stored)
        rows |= {k.tobytes(): v for k, v in zip(after.keys, after.values, strict=True)}

    assert total(at_once) == sum(every)
    assert as_dict(at_once) == as_dict(in_parts) == {k: v.tobytes() for k, v in rows.items()}


def test_what_is_taken_back_is_gone_whatever_was_carried() -> None:
    there = cells.merge([Terms(key_of(), row(UNIT - 1)) for _ in range(9)])
    back = Terms(there.keys, -there.values)

    assert total(there) == 9 * (UNIT - 1)
    assert not cells.merge([there, back]).values.any()


def test_many_records_at_once_are_grouped_as_they_are_one_by_one() -> None:
    n, nano = 5000, 1e12
    ones = np.ones(n)
    category, endpoint = np.full(n, 1, dtype=np.uint64), np.full(n, 3, dtype=np.uint64)
    batch = Grouping.of(category, endpoint, np.full(n, FULL_MS))

    grouped = batch.terms(Family.USAGE, {U.CALLS: ones, U.COST_NANO: nano * ones, U.PRICED: ones})

    assert as_dict(cells.merge([grouped])) == as_dict(cells.merge([costing(1000, n)]))
    assert total(grouped) == n * 10**12 * FULL_WEIGHT > 2**63


def test_a_grid_carries_as_rows_do() -> None:
    grid, zero = Grid(1, 1), np.zeros(700, dtype=np.intp)
    columns = np.zeros((700, N_COLUMNS))
    columns[:, U.COST_NANO] = 1e12
    for _ in range(3):
        grid.add(
            Family.USAGE, category=zero, arm=zero, at_ms=np.full(700, FULL_MS), columns=columns
        )
    rows = cells.merge([costing(1000, 700) for _ in range(3)])

    read = grid.read(now_ms=FULL_MS).usage[0, 0]

    assert read[U.COST_NANO] == usage(rows)[U.COST_NANO]
    assert read[U.COST_NANO] == pytest.approx(2100 * 1e12, rel=0.05)


def test_no_record_adds_more_than_a_word_holds() -> None:
    assert MOST * int(TABLE.max() << 7) < UNIT
    with pytest.raises(ValueError, match="beyond"):
        costing(MOST * 2 / 1e9, 1)


# -- what doors accept --------------------------------------------------------------------------


@pytest.mark.parametrize(("usd", "n"), [(1000.0, 2000), (5.0, 10**6)])
def test_dear_calls_are_summed_exactly(usd: float, n: int) -> None:
    """$5 million in a cell, and 2,000 calls at the most that an event may say."""
    part = cells.merge([costing(usd, 1000)])
    rows = cells.merge([part] * (n // 1000))

    assert total(rows) == n * int(usd) * 10**9 * FULL_WEIGHT
    found = usage(rows)
    assert found[U.COST_NANO] / found[U.PRICED] / 1e9 == pytest.approx(usd, rel=1e-12)
    assert not is_damaged(rows)


def is_damaged(rows: Terms) -> bool:
    found = cells.read(
        rows,
        categories=np.array([1], dtype=np.uint64),
        endpoints=np.array([3], dtype=np.uint64),
        now_ms=FULL_MS,
    )
    none = np.zeros(1, dtype=np.intp)
    return bool(infer(found, Arms(none, none, np.ones(1), np.ones(1))).damaged.any())


def test_a_thousand_calls_a_second_at_the_bound_of_every_door_wrap_nothing() -> None:
    """37 days of them, half at the largest cost and counts that an event may tell."""
    most = 1_000_000_000
    ln = math.log(most)
    columns = np.zeros((2, N_COLUMNS))
    columns[:, [U.CALLS, U.N, U.N_LOG, U.PRICED]] = 1
    columns[0, [U.TOKENS_IN, U.TOKENS_OUT, U.COST_NANO]] = most, most, 1e12
    columns[0, [U.LN_OUT, U.LN_OUT2]] = ln, ln * ln
    pair = {"category": np.full(2, 1, dtype=np.uint64), "endpoint": np.full(2, 3, dtype=np.uint64)}
    rows, once = [], cells.merge([])
    for day in range(37):
        at_ms = np.full(2, FULL_MS - day * DAY_MS)
        once = cells.merge([cells.terms(Family.USAGE, at_ms=at_ms, columns=columns, **pair)])
        rows.append(times(once, 500 * 86_400))

    whole = cells.merge(rows)

    found = usage(whole)
    assert found[U.CALLS] == 37 * 86_400_000
    assert found[U.COST_NANO] / found[U.PRICED] == pytest.approx(0.5e12, rel=1e-9)
    assert found[U.TOKENS_OUT] / found[U.N] == pytest.approx(most / 2, rel=1e-9)
    assert found[U.LN_OUT2] / found[U.N_LOG] == pytest.approx(ln * ln / 2, rel=1e-6)
    assert not is_damaged(whole)


def times(once: Terms, n: int) -> Terms:
    """The same terms so many times over, by doubling."""
    out, power = cells.merge([]), once
    while n:
        if n & 1:
            out = cells.merge([out, power])
        n, power = n >> 1, cells.merge([power, power])
    return out


# -- the state ----------------------------------------------------------------------------------


def test_a_carry_goes_with_its_row() -> None:
    old, live = FULL_MS - 4 * WINDOW_MS, FULL_MS
    names = np.concatenate([key_of(Family.USAGE + CARRY, at_ms=at) for at in (old, live)])

    assert cells.is_stale(names, now_ms=FULL_MS).tolist() == [True, False]
    assert cells.is_of(names, Family.USAGE).all()
    renamed = cells.renamed(
        Terms(names, np.ones((2, N_COLUMNS), dtype=np.int64)),
        np.array([1], dtype=np.uint64),
        np.array([5], dtype=np.uint64),
    )
    assert (renamed.keys["category"] == 5).all()


@pytest.fixture
def life(client: Any, state_dir: Path) -> Life:
    return Life(client, state_dir / "archive")


def dear(life: Life, n: int, *, usd: int = 1000, first: int = 0) -> None:
    """Send calls of one cell, 6 nonces apart, as the cell is told by the nonce."""
    records = [
        outcome(6 * (first + k) + 1, at_ms=FULL_MS, flags=PRICED, cost_nano=usd * 10**9)
        for k in range(n)
    ]
    for k in range(0, n, 200):
        life.send(*records[k : k + 200])


def stored(life: Life) -> Terms:
    rows = life.rows()
    found = cells.from_bytes(b"".join(rows), b"".join(rows.values()))
    return cells.of_family(found, Family.USAGE)


def test_a_learner_carries_and_its_audit_and_restore_know_it(life: Life) -> None:
    dear(life, 1200)
    life.fold(count=2)  # in several commits, by several owners
    again = Shard(life.client, 0)
    again.load()
    life.shard = again
    life.fold()
    life.take()
    dear(life, 800, first=1200)
    life.fold()

    assert total(stored(life)) == 2000 * 10**12 * FULL_WEIGHT
    assert (life.audit().equal, life.audit().difference) == (True, None)
    life.take()
    assert life.audit().equal
    rows = life.rows()
    life.client.flushall()
    restore(life.archive)
    assert life.rows() == rows


def test_a_cost_that_no_call_has_is_not_known(life: Life) -> None:
    records = [
        outcome(6 * n + 1, at_ms=FULL_MS, flags=PRICED, cost_nano=cost)
        for n, cost in enumerate([10**9, MOST + 1, 2**64 - 1])
    ]
    life.send(*records)
    life.fold()

    rows = stored(life)
    assert total(rows, U.CALLS) == 3
    assert total(rows, U.PRICED) == FULL_WEIGHT
    assert total(rows) == 10**9 * FULL_WEIGHT


def test_a_row_that_an_earlier_version_filled_to_the_brim_goes_on(life: Life) -> None:
    """It kept up to 63 bits in a row. Both ways of keeping a sum are equal to an audit."""
    dear(life, 1)
    life.fold()
    (name,) = stored(life).keys
    full = row(2**63 - 1)
    full[0, U.CALLS] = 1
    life.client.hset(keys.rows(0), name.tobytes(), full.tobytes())
    life.shard.load()

    dear(life, 1, first=1)
    life.fold()

    assert total(stored(life)) == 2**63 - 1 + 10**12 * FULL_WEIGHT
    one, two = Rebuilt(), Rebuilt()
    whole = cells.merge([Terms(key_of(), row(2**63 - 1))])
    one.rows = {key_of().tobytes(): row(2**63 - 1)[0]}
    two.rows = {k.tobytes(): v for k, v in zip(whole.keys, whole.values, strict=True)}
    assert len(two.rows) == 2
    assert difference(one, two) is None
    two.rows[key_of(Family.USAGE + CARRY).tobytes()] = row(2)[0]
    assert "usage" in str(difference(one, two))
