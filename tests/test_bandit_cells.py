"""Decay windows and cells: sums of integers, order-free, mergeable, bit-exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit import cells, decay
from bandit.cells import KEY, Terms
from bandit.families import HALF_LIFE_MS, N_COLUMNS, REAL_SCALE, Family, Q, U

HOUR_MS = 3_600_000
NOW_MS = 1_790_000_000_000
records = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(0, 2),
        st.integers(NOW_MS - 40 * HOUR_MS, NOW_MS),
        st.floats(0, 1),
    ),
    min_size=1,
    max_size=40,
)


def labels(items: list[tuple[int, int, int, float]]) -> Terms:
    columns = np.zeros((len(items), N_COLUMNS))
    for i, (_, _, _, reward) in enumerate(items):
        columns[i, [Q.LABELS, Q.N, Q.R, Q.R2]] = (1, 1, reward, reward**2)
    return cells.terms(
        Family.QUALITY,
        category=np.array([c for c, _, _, _ in items], dtype=np.uint64),
        endpoint=np.array([e for _, e, _, _ in items], dtype=np.uint64),
        at_ms=np.array([t for _, _, t, _ in items], dtype=np.int64),
        columns=columns,
    )


def as_dict(terms: Terms) -> dict[bytes, bytes]:
    return {k.tobytes(): v.tobytes() for k, v in zip(terms.keys, terms.values, strict=True)}


@given(records, st.randoms(use_true_random=False))
def test_the_order_of_records_does_not_matter_to_the_byte(items, random) -> None:
    shuffled = list(items)
    random.shuffle(shuffled)

    assert as_dict(cells.merge([labels(items)])) == as_dict(cells.merge([labels(shuffled)]))


@given(records, st.integers(0, 40))
def test_merging_parts_equals_folding_the_whole(items, cut) -> None:
    parts = [labels(part) for part in (items[:cut], items[cut:]) if part]
    halves = [cells.merge([part]) for part in parts]

    assert as_dict(cells.merge(halves)) == as_dict(cells.merge([labels(items)]))


@given(st.integers(0, 14 * 24 * 6))
@settings(max_examples=50)
def test_a_weight_read_later_is_the_exponential_within_two_percent(tens_of_minutes) -> None:
    half_life = HALF_LIFE_MS[Family.LATENCY]
    at = np.array([NOW_MS - tens_of_minutes * 600_000 % (8 * half_life)])
    window, weight = decay.windows_and_weights(at, half_life)

    read = float(weight[0] * decay.window_scale(int(window[0]), half_life, now_ms=NOW_MS))

    exact = 2 ** (-(NOW_MS - int(at[0])) / half_life)
    assert read == pytest.approx(exact, rel=0.05)


def test_weights_grow_and_start_again_with_each_window() -> None:
    half_life = HALF_LIFE_MS[Family.RELIABILITY]
    at = np.arange(0, 8 * half_life * 2, half_life // 16, dtype=np.int64)
    window, weight = decay.windows_and_weights(at, half_life)

    assert set(window) == {0, 1}
    assert (np.diff(weight[window == 0]) > 0).all()
    assert weight[window == 1][0] == decay.WEIGHT_SCALE


def test_a_half_life_that_ticks_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 16"):
        decay.windows_and_weights(np.array([0]), 1001)


def test_a_label_taken_back_leaves_exactly_nothing() -> None:
    said = labels([(1, 1, NOW_MS, 0.3)])
    taken_back = Terms(said.keys, -said.values)

    assert not cells.merge([said, taken_back]).values.any()


def test_reading_gives_back_what_was_folded() -> None:
    rewards = [0.25, 0.5, 1.0]
    folded = cells.merge([labels([(7, 9, NOW_MS, r) for r in rewards])])

    evidence = cells.read(
        folded,
        categories=np.array([3, 7], dtype=np.uint64),
        endpoints=np.array([9], dtype=np.uint64),
        now_ms=NOW_MS,
    )

    got = evidence.quality[1, 0]
    assert got[Q.LABELS] == 3
    assert got[Q.N] == pytest.approx(3, rel=0.05)
    assert got[Q.R] / got[Q.N] == pytest.approx(np.mean(rewards), abs=1e-3)
    assert not evidence.quality[0].any()


def test_cells_of_unknown_endpoints_are_left_out() -> None:
    folded = cells.merge([labels([(1, 2, NOW_MS, 1.0)])])

    evidence = cells.read(
        folded,
        categories=np.array([1], dtype=np.uint64),
        endpoints=np.array([5, 6], dtype=np.uint64),
        now_ms=NOW_MS,
    )

    assert not evidence.quality.any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_never_gets_into_a_sum(value: float) -> None:
    columns = np.zeros((1, N_COLUMNS))
    columns[0, U.TOKENS_IN] = value
    one = np.array([1], dtype=np.uint64)

    with pytest.raises(ValueError, match="not finite"):
        cells.terms(
            Family.USAGE, category=one, endpoint=one, at_ms=np.array([NOW_MS]), columns=columns
        )


def test_only_windows_that_nobody_reads_are_stale() -> None:
    keys = np.zeros(2, dtype=KEY)
    keys["family"] = Family.RELIABILITY
    window = decay.oldest_live_window(HALF_LIFE_MS[Family.RELIABILITY], now_ms=NOW_MS)
    keys["window"] = [window, window - 1]

    assert cells.is_stale(keys, now_ms=NOW_MS).tolist() == [False, True]


def test_a_hundred_million_labels_at_full_weight_fit() -> None:
    most = np.iinfo(np.int64).max
    heaviest = int(decay.TABLE[-1]) << (decay.HALF_LIVES_PER_WINDOW - 1)

    assert heaviest * REAL_SCALE * 10**8 < most
