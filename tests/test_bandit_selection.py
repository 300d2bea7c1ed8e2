"""Labels that are not given at random are noticed, and counted for what they are worth."""

from __future__ import annotations

import numpy as np
import pytest

from bandit import selection

CALLS = np.full((1, 4), 1000.0)


@pytest.mark.parametrize("quality", [0.6, 0.65, 0.74])
def test_a_favoured_endpoint_gets_its_true_quality_back(quality: float) -> None:
    favoured = np.array([0.9 * quality, 0.3 * (1 - quality)]) * 1000
    labels = np.array([[favoured.sum(), 600.0, 600.0, 600.0]])
    reward = np.array([[favoured[0], 300.0, 420.0, 480.0]])

    success, failure = selection.weights(CALLS, labels, reward)

    corrected = favoured[0] * success[0] / (favoured[0] * success[0] + favoured[1] * failure[0])
    assert corrected == pytest.approx(quality, abs=0.01)
    assert success[1:].tolist() == [1, 1, 1]
    assert failure[1:].tolist() == [1, 1, 1]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_labels_given_alike_to_all_are_left_alone(share: float) -> None:
    labels = share * CALLS

    success, failure = selection.weights(CALLS, labels, 0.7 * labels)

    assert success.tolist() == failure.tolist() == [1, 1, 1, 1]


def test_a_single_endpoint_has_nobody_to_be_compared_with() -> None:
    one = np.full((2, 1), 100.0)

    success, failure = selection.weights(one, 0.5 * one, 0.4 * one)

    assert success.tolist() == failure.tolist() == [1]
