"""Forward decay in integers: order-free, mergeable, bit-exact.

An observation's weight depends only on when it was decided, counted from the landmark at
which its decay window began; nothing stored is ever rescaled. Reading scales each window's
sums by what has passed since its landmark.

Ref: Cormode, Shkapenyuk, Srivastava, Xu (2009), "Forward decay", ICDE, eq. 4. We deviate by
quantising age to ticks, so that every weight is an integer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TICKS_PER_HALF_LIFE = 16
"""Weights are off by at most 2^(1/32), 2 %, from the exact exponential."""
HALF_LIVES_PER_WINDOW = 8
"""Weights then span 2^8, so that a sum of 10^8 observations still fits 63 bits."""
WINDOWS_READ = 3
"""What lies further back weighs less than 2^-16."""
TICKS_PER_WINDOW = TICKS_PER_HALF_LIFE * HALF_LIVES_PER_WINDOW
WEIGHT_SCALE = 64
"""Weight of an observation at its window's landmark; rounding then errs by under 1 %."""
TABLE = np.array(
    [round(WEIGHT_SCALE * 2 ** (k / TICKS_PER_HALF_LIFE)) for k in range(TICKS_PER_HALF_LIFE)],
    dtype=np.int64,
)


def windows_and_weights(
    at_ms: NDArray[np.int64], half_life_ms: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return each observation's decay window and its integer weight in it.

    Args:
        at_ms: (n,) milliseconds since the Unix epoch, at which the call was decided.
        half_life_ms: a multiple of 16, so that ticks are whole milliseconds.
    Raises:
        ValueError: the half-life is no positive multiple of 16.
    """
    tick = at_ms // _tick_ms(half_life_ms)
    in_window = tick % TICKS_PER_WINDOW
    weight = TABLE[in_window % TICKS_PER_HALF_LIFE] << (in_window // TICKS_PER_HALF_LIFE)
    return tick // TICKS_PER_WINDOW, weight


def window_scale(
    window: NDArray[np.int64] | int, half_life_ms: int, *, now_ms: int
) -> NDArray[np.float64]:
    """Return the factor that turns a window's sums into evidence as of `now_ms`.

    Windows older than the last three count zero.
    """
    return scale_since(landmarks_ms(window, half_life_ms), half_life_ms, now_ms=now_ms)


def landmarks_ms(window: NDArray[np.int64] | int, half_life_ms: int) -> NDArray[np.int64]:
    """Return when windows began, in epoch milliseconds."""
    return np.asarray(window, dtype=np.int64) * (TICKS_PER_WINDOW * _tick_ms(half_life_ms))


def scale_since(
    landmark_ms: NDArray[np.int64], half_life_ms: NDArray[np.int64] | int, *, now_ms: int
) -> NDArray[np.float64]:
    """Return `window_scale` of windows that began at these landmarks, each of its half-life."""
    age = np.maximum(now_ms - landmark_ms, 0) / half_life_ms
    live = age < WINDOWS_READ * HALF_LIVES_PER_WINDOW
    return np.where(live, np.exp2(-age) / WEIGHT_SCALE, 0.0)


def oldest_live_window(half_life_ms: int, *, now_ms: int) -> int:
    """Return the number of the oldest window that `window_scale` still counts."""
    return now_ms // (TICKS_PER_WINDOW * _tick_ms(half_life_ms)) - WINDOWS_READ + 1


def _tick_ms(half_life_ms: int) -> int:
    if half_life_ms <= 0 or half_life_ms % TICKS_PER_HALF_LIFE:
        raise ValueError(f"half_life_ms={half_life_ms} is no positive multiple of 16")
    return half_life_ms // TICKS_PER_HALF_LIFE
