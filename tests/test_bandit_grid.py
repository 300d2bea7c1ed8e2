"""Dense cells: the same evidence as rows, to the bit; and what becomes of damaged ones."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit import cells, reliability
from bandit.cells import Terms
from bandit.evidence import Evidence
from bandit.families import FADING, HALF_LIFE_MS, HUGE, N_COLUMNS, Family, L
from bandit.grid import Grid
from bandit.posterior import Arms, Posterior, infer

DAY_MS = 86_400_000
NOW_MS = 1_790_000_000_000
CATEGORIES = np.array([77, 5, 2**63 + 1], dtype=np.uint64)
ENDPOINTS = np.array([900, 3], dtype=np.uint64)
# As far back as each family's three live windows reach, and a little further.
REACH_MS = {family: 26 * half_life for family, half_life in HALF_LIFE_MS.items()}
Record = tuple[Family, int, int, int, float]
records = st.lists(
    st.tuples(
        st.sampled_from(FADING),
        st.integers(0, 2),
        st.integers(0, 1),
        st.integers(0, 1 << 20),
        st.floats(0, 3),
    ),
    max_size=60,
)


def at_ms(record: Record) -> int:
    return NOW_MS - REACH_MS[record[0]] * record[3] // (1 << 20)


def columns(items: list[Record]) -> np.ndarray:
    return np.array([[1.0, 1.0] + [x] * (N_COLUMNS - 2) for *_, x in items])


def by_family(items: list[Record]) -> dict[Family, list[Record]]:
    return {f: [i for i in items if i[0] is f] for f in FADING if any(i[0] is f for i in items)}


def as_rows(items: list[Record]) -> list[Terms]:
    return [
        cells.terms(
            family,
            category=CATEGORIES[[c for _, c, *_ in part]],
            endpoint=ENDPOINTS[[e for _, _, e, *_ in part]],
            at_ms=np.array([at_ms(r) for r in part]),
            columns=columns(part),
        )
        for family, part in by_family(items).items()
    ]


def fold(grid: Grid, items: list[Record]) -> None:
    for family, part in by_family(items).items():
        grid.add(
            family,
            category=np.array([c for _, c, *_ in part]),
            arm=np.array([e for _, _, e, *_ in part]),
            at_ms=np.array([at_ms(r) for r in part]),
            columns=columns(part),
        )


def bits(evidence: Evidence) -> list[bytes]:
    families = (evidence.quality, evidence.usage, evidence.latency, evidence.reliability)
    return [(values + 0.0).tobytes() for values in families]


@given(records, st.randoms(use_true_random=False), st.integers(0, 60), st.integers(0, 60))
def test_a_grid_reads_as_rows_do_in_any_order_and_split(items, random, one, two) -> None:
    shuffled = list(items)
    random.shuffle(shuffled)
    grid = Grid(len(CATEGORIES), len(ENDPOINTS))
    low, high = sorted((one, two))

    for part in (shuffled[:low], shuffled[low:high], shuffled[high:]):
        fold(grid, part)
    rows = cells.merge(as_rows(items))

    read = cells.read(rows, categories=CATEGORIES, endpoints=ENDPOINTS, now_ms=NOW_MS)
    assert bits(grid.read(now_ms=NOW_MS)) == bits(read)


@pytest.mark.parametrize("seed", range(8))
def test_the_order_in_which_windows_come_changes_no_bit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    now_ms = NOW_MS + seed * DAY_MS // 7
    items: list[Record] = [
        (Family.RELIABILITY, 0, 0, int((windows + rng.random() / 2) * (1 << 20) * 8 / 26), x)
        for windows in (0, 1, 2)
        for x in rng.integers(1, 1000, 4).tolist()
    ]
    forward, backward = Grid(3, 2), Grid(3, 2)

    for item in items:
        fold(forward, [item])
    for item in reversed(items):
        fold(backward, [item])

    assert bits(forward.read(now_ms=now_ms)) == bits(backward.read(now_ms=now_ms))


@pytest.mark.parametrize("family", FADING)
def test_the_order_in_which_rows_lie_changes_no_bit(family: Family) -> None:
    rng = np.random.default_rng(int(family))
    reached = 0
    for _ in range(50):
        ages = (np.arange(12) % 3 + rng.random(12) / 2) * (1 << 20) * 8 / 26
        items: list[Record] = [
            (family, 0, 0, int(age), float(x)) for age, x in zip(ages, rng.random(12), strict=True)
        ]
        grid = Grid(3, 2)
        fold(grid, items)
        rows = cells.merge(as_rows(items))
        reached = max(reached, len(rows.keys))

        found = {
            tuple(bits(cells.read(each, categories=CATEGORIES, endpoints=ENDPOINTS, now_ms=NOW_MS)))
            for order in permutations(range(len(rows.keys)))
            for each in [Terms(rows.keys[list(order)], rows.values[list(order)])]
        }

        assert found == {tuple(bits(grid.read(now_ms=NOW_MS)))}
    assert reached >= 3  # two windows add up the same either way


def test_the_order_of_books_and_their_carries_changes_no_bit() -> None:
    keys = np.zeros(3, dtype=cells.KEY)
    keys["category"], keys["endpoint"] = CATEGORIES[0], ENDPOINTS[0]
    keys["family"] = [int(Family.BOOKS), int(Family.BOOKS), int(Family.BOOKS) + cells.CARRY]
    values = np.array([[1] * N_COLUMNS, [3] * N_COLUMNS, [1] * N_COLUMNS])
    values[:2] += (1 << 61) // 3

    def read(order: tuple[int, ...]) -> bytes:
        rows = Terms(keys[list(order)], values[list(order)])
        out = cells.read_plain(rows, Family.BOOKS, names=CATEGORIES, endpoints=ENDPOINTS)
        return out.tobytes()

    assert len({read(order) for order in permutations(range(3))}) == 1


def test_a_grid_refuses_what_is_not_finite() -> None:
    grid = Grid(1, 1)
    zero = np.array([0])

    with pytest.raises(ValueError, match="not finite"):
        grid.add(
            Family.QUALITY,
            category=zero,
            arm=zero,
            at_ms=np.array([NOW_MS]),
            columns=np.full((1, N_COLUMNS), np.nan),
        )

    assert not grid.read(now_ms=NOW_MS).quality.any()


def test_an_empty_grid_reads_as_nothing() -> None:
    evidence = Grid(2, 3).read(now_ms=NOW_MS)

    assert evidence.quality.shape == (2, 3, N_COLUMNS)
    assert not any(np.frombuffer(b, dtype=float).any() for b in bits(evidence))


# Damaged cells

ARMS = Arms(np.arange(3), np.arange(3), np.ones(3), np.full(3, 4.0))
NAMES = ("quality", "usage", "latency", "reliability", "derived", "chains")


def sound() -> Evidence:
    rng = np.random.default_rng(4)
    families = []
    for _ in NAMES:
        n = rng.integers(20, 60, size=(2, 3, 1)).astype(float)
        families.append(n * rng.uniform(0.4, 0.6, size=(2, 3, N_COLUMNS)))
    return Evidence(*families)


def figures(found: Posterior) -> list[np.ndarray]:
    return [
        found.quality.mean,
        found.quality.sd,
        found.latency.mean,
        found.latency.beta,
        found.ttft.mean,
        found.reliability.mean,
        found.cost_usd,
        found.cost_bound_usd,
        found.bank(0).quality,
        found.bank(0).latency_s,
        found.bank(0).ok,
    ]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1.0, HUGE, -HUGE, 1e300])
@pytest.mark.parametrize("family", NAMES)
def test_a_damaged_cell_counts_as_unknown_and_harms_no_other(family: str, value: float) -> None:
    evidence = sound()
    damaged, without = getattr(evidence, family).copy(), getattr(evidence, family).copy()
    damaged[1, 2, 0 if family in ("latency", "chains") else 1] = value
    without[1, 2] = 0.0

    found = infer(replace(evidence, **{family: damaged}), ARMS)

    expected = infer(replace(evidence, **{family: without}), ARMS)
    assert found.damaged.tolist() == [[False] * 3, [False, False, True]]
    for got, wanted in zip(figures(found), figures(expected), strict=True):
        assert np.isfinite(got).all()
        assert np.array_equal(got, wanted)


def test_a_damaged_reliability_is_the_prior_itself() -> None:
    evidence = sound()
    evidence.reliability[0, 0, 3] = np.nan

    found = infer(evidence, ARMS)

    assert found.reliability.ok[0, 0] == reliability.PRIOR_OK
    assert found.reliability.fail[0, 0] == reliability.PRIOR_FAIL
    assert np.array_equal(found.evidence.quality, evidence.quality)


@pytest.mark.parametrize("column", [L.LN, L.LN_TTFT, L.LN_CENSORED])
def test_a_sum_of_logarithms_may_be_negative(column: int) -> None:
    evidence = sound()
    evidence.latency[0, 0, column] = -5.0

    assert not infer(evidence, ARMS).damaged.any()


def test_damage_leaves_the_evidence_given_as_it_was() -> None:
    evidence = sound()
    evidence.quality[0, 1, 2] = np.nan
    before = evidence.quality.copy()

    infer(evidence, ARMS)

    assert np.array_equal(evidence.quality, before, equal_nan=True)
