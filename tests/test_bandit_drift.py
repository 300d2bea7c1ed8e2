"""A change is told from an endpoint's own labels, seldom by chance, and soon where it is true."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bandit import drift
from bandit.drift import CALM, DETECTORS, AlarmKind, News, Watch
from bandit.families import N_COLUMNS
from bandit.regimes import FIRST, count_derived, count_quality
from bandit.watcher import Watched, close

N_CATEGORIES = 8


class Endpoint:
    """Labels of one endpoint, bucket by bucket."""

    def __init__(self, seed: int, believed: float = 0.8) -> None:
        self.rng = np.random.default_rng(seed)
        self.known = np.zeros((3, N_CATEGORIES))
        self.believed = np.full(N_CATEGORIES, believed)
        self.before = np.full(N_CATEGORIES, np.nan)
        self.watched, self.bucket, self.labels = Watched(), 0, 0

    def hear(self, n: int, mean: Any, *, spread: float | None = None) -> AlarmKind | None:
        """Judge `n` calls in one bucket; coin flips, or graded with an sd."""
        category = self.rng.integers(N_CATEGORIES, size=n)
        level = np.broadcast_to(mean, N_CATEGORIES)[category]
        if spread is None:
            reward = (self.rng.random(n) < level).astype(float)
        else:
            reward = np.clip(self.rng.normal(level, spread), 0, 1)
        sums = np.zeros((3, N_CATEGORIES))
        for row, value in zip(sums, (np.ones(n), reward, reward**2), strict=True):
            np.add.at(row, category, value)
        news = News(sums[0], sums[1], *self.known, self.believed, self.before)
        self.watched, found = close(self.watched, self.bucket, news)
        self.known, self.bucket, self.labels = self.known + sums, self.bucket + 1, self.labels + n
        if found is None:
            return None
        if found.kind is AlarmKind.DOWN:
            self.before = self.known[1] / np.maximum(self.known[0], 1)
        self.known[:] = 0
        return found.kind


@pytest.mark.parametrize("quality", [0.5, 0.8, 0.95])
@pytest.mark.parametrize(("size", "labels"), [(1, 2_000), (20, 10_000), (400, 40_000)])
def test_nothing_happens_and_nothing_is_told(quality: float, size: int, labels: int) -> None:
    """From the first label on: a false alarm in 100,000 may be."""
    alarms = 0
    for seed in range(4):
        endpoint = Endpoint(seed, believed=quality - 0.1)
        alarms += sum(endpoint.hear(size, quality) is not None for _ in range(labels // size))
    assert alarms <= 1


def test_tasks_of_another_difficulty_are_no_change() -> None:
    """Each is held against its own labels, however the mix of tasks moves."""
    endpoint, level = Endpoint(3), np.linspace(0.2, 0.95, N_CATEGORIES)
    for _ in range(300):
        assert endpoint.hear(8, level) is None
    for easy in (True, False) * 3:
        only = level[-2:] if easy else level[:2]
        places = slice(-2, None) if easy else slice(2)
        for _ in range(50):
            news = np.zeros((2, N_CATEGORIES))
            news[0, places] = 10
            news[1, places] = endpoint.rng.binomial(10, only)
            said = News(news[0], news[1], *endpoint.known, endpoint.believed, endpoint.before)
            endpoint.watched, found = close(endpoint.watched, endpoint.bucket, said)
            assert found is None
            endpoint.bucket += 1


def test_labels_that_come_all_at_once_against_a_wrong_belief_are_no_change() -> None:
    """As after an hour in which none came: what was believed then was a guess."""
    endpoint = Endpoint(5, believed=0.4)
    assert endpoint.hear(20_000, 0.9) is None
    assert endpoint.hear(20_000, 0.9) is None


@pytest.mark.parametrize(("points", "most"), [(0.1, 600), (0.3, 60)])
def test_a_fall_is_told_after_a_few_of_its_labels(points: float, most: int) -> None:
    needed = []
    for seed in range(20):
        endpoint = Endpoint(seed)
        for _ in range(500):
            endpoint.hear(5, 0.8)
        endpoint.labels = 0
        while (kind := endpoint.hear(5, 0.8 - points)) is None:
            pass
        assert kind is AlarmKind.DOWN
        needed.append(endpoint.labels)
    assert np.median(needed) <= most


def test_a_rise_and_the_end_of_a_fall_are_told() -> None:
    endpoint = Endpoint(1)
    for _ in range(200):
        endpoint.hear(5, 0.6)
    kinds = []
    for level in (0.2, 0.6, 0.95):
        for _ in range(60):
            kinds.append(endpoint.hear(5, level))
    assert [kind for kind in kinds if kind] == [AlarmKind.DOWN, AlarmKind.RESTORED, AlarmKind.UP]


def test_rewards_that_vary_little_show_a_fall_sooner() -> None:
    endpoint = Endpoint(2)
    for _ in range(200):
        assert endpoint.hear(5, 0.8, spread=0.05) is None
    endpoint.labels = 0
    while endpoint.hear(5, 0.7, spread=0.05) is None:
        assert endpoint.labels < 40


def test_an_alarm_says_by_what_factor_rewards_moved() -> None:
    news = News(
        n=np.array([50.0]),
        r=np.array([10.0]),
        known_n=np.array([1e4]),
        known_r=np.array([8e3]),
        known_r2=np.array([8e3]),
        believed=np.array([0.5]),
        before=np.array([np.nan]),
    )
    watch = drift.close_bucket(CALM, 7, news, level=1.0)
    found = drift.alarm(watch)

    assert found is not None
    assert (found.kind, found.from_bucket, found.labels) == (AlarmKind.DOWN, 7, 50)
    assert found.moved == pytest.approx(10 - 50 * 0.8, abs=0.1)
    assert found.level == pytest.approx(1 - 30 / 52 / 0.8, abs=1e-2)
    assert found.mean_residual == pytest.approx(-0.6 / 0.4, abs=0.01)


def test_after_a_fall_an_endpoint_is_probed_for_a_minute_now_and_then() -> None:
    news = News(*np.zeros((5, 1)), np.full(1, 0.8), np.full(1, 0.8))
    watch, probed = Watch(suspect=True, next_probe=drift.FIRST_GAP), []
    for bucket in range(40 * drift.PROBE_BUCKETS):
        watch = drift.close_bucket(watch, bucket, news, level=0.5)
        probed.append(watch.probe_share)

    minutes = np.array(probed).reshape(40, drift.PROBE_BUCKETS)
    assert set(minutes.ravel()) == {0.0, drift.PROBE_SHARE}
    assert 3 <= (minutes > 0).any(axis=1).sum() <= 10
    assert len(DETECTORS) == len(watch.sums)


def test_where_nothing_ever_changed_labels_count_as_they_are_by_any_way_of_counting():
    rng = np.random.default_rng(5)
    shape = (3, 4, N_COLUMNS)
    first = rng.integers(0, 1000, shape).astype(float)

    for count in (count_quality, count_derived):
        alone = count({0: first}, [FIRST] * 4)
        assert (alone == first).all()
        assert (count({0: first, 1: np.zeros(shape)}, [FIRST] * 4) == alone).all()
        assert alone is not first
