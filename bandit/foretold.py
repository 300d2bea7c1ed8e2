"""What a call would have cost another endpoint, by its tokens: worked out, before any is compared.

A call's own tokens in and out, as who served it counted them, times how many the other endpoint
makes of the same: learned per task from slices of time in which both were drawn, so that
tokenizers and wordiness are the task's own; at the other's price in force then. What is worked out
sets how slices differ; the booked costs of its own calls set the level (`carried`).

Tokens out go by the length of the call's own answer: on recorded tables, with calls that became six
times as long, or the longest instead of the shortest, the error is 5 to 13 and 5 to 38 %; by tokens
in alone 7 to 11 and 14 to 75 %, by the mean of the other's answers 48 to 70 and 4 to 48 %.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bandit.carried import SliceSums, Values, noise_of

TokenPrices = Mapping[int, Sequence[tuple[int, float, float]]]
"""By endpoint: from which day since the epoch on, what a token in and one out costs, ascending."""
SPREAD_IN, SPREAD_OUT = 0.25, 0.7
"""Sd of the log of how many tokens one endpoint makes of another's, before any is seen: of 49
recorded endpoints of ten makers the middle nine tenths. UNVALIDATED elsewhere."""
OUT_BY_IN = 4.0
"""A token out by one in, where calls of the endpoint do not tell its prices apart."""
FEW = 10.0
"""With so many draws a slice tells as much of its own level as what is worked out does."""
LEAST_OFF, MOST_OFF, HALF_WAY = 0.03, 0.24, 0.5
"""Sd of what is worked out, where nothing of the endpoint's own corrects it: with calls as long as
before, and with any others; half way with 1.6 times as long, of which the log is `HALF_WAY`. Set on
recorded tables, with the shortest calls before and the longest after. UNVALIDATED elsewhere."""
MOST_SDS = 3.0
"""So far from the middle slice chance takes what a slice tells of how two endpoints count."""
CHANCE = 4.0
"""Squares of two sd: sizes of both sides' calls that differ by less differ by chance."""
NO_MATTER = 1e-4
"""Square of a difference in size of a hundredth."""
TINY = 1e-30


@dataclass(frozen=True, slots=True)
class SliceTokens:
    """Sums over units by slice, (n_slices,) each, of calls whose tokens are told."""

    calls: Values  # all that are priced
    units: Values
    told: Values
    told2: Values
    tokens_in: Values
    in_n: Values
    in2: Values
    tokens_out: Values
    out_n: Values
    out2: Values

    def of_in(self) -> SliceSums:
        """Return what is told of tokens in."""
        return SliceSums(self.units, self.told, self.told2, self.tokens_in, self.in_n, self.in2)

    def of_out(self) -> SliceSums:
        """Return what is told of tokens out."""
        return SliceSums(self.units, self.told, self.told2, self.tokens_out, self.out_n, self.out2)


@dataclass(frozen=True, slots=True)
class WorkedOut:
    """What a call of each slice is worked out to cost, and how far that may be off."""

    own: Values  # (n_slices,) of the endpoint's own calls
    onto: Values  # (n_slices,) of the others'
    is_known: NDArray[np.bool_]  # (n_slices,) whether of the others' anything can be said
    off: Values  # (n_slices,) sd of the log, the same error in all
    ratio_off: (
        Values  # (n_others, n_slices) sd of the log by who served, the same error in each row
    )

    def variance(self, onto: Values) -> float:
        """Return the variance of what so many calls of each slice are worked out to cost."""
        usd = onto * self.onto
        return float((usd @ self.off) ** 2 + ((self.ratio_off @ usd) ** 2).sum())


def foretell(own: SliceTokens, others: Sequence[SliceTokens], prices: Values) -> WorkedOut:
    """Return what calls are worked out to cost an endpoint.

    Args:
        own: of calls that it was drawn for.
        others: of those that others were drawn for, by who was.
        prices: (2, n_slices) of a token in and one out.
    """
    pairs, shape = [_ratios(own, other) for other in others], (len(others), len(own.calls))
    usd = np.array(
        [_a_call(other, prices, pair) for other, pair in zip(others, pairs, strict=True)]
    ).reshape(shape)
    counts = np.where(usd > 0, np.array([other.calls for other in others]).reshape(shape), 0.0)
    usd_own = _a_call(own, prices, (ALIKE, ALIKE))
    n_own, n_onto = np.where(usd_own > 0, own.calls, 0.0), counts.sum(axis=0)
    of_onto, n_all = (counts * usd).sum(axis=0), max(float(own.calls.sum()), 1.0)
    level = _divided(n_own * usd_own + of_onto, n_own + n_onto)
    usual = float(level @ (n_own + n_onto)) / max(float((n_own + n_onto).sum()), 1.0)
    level = np.where(level > 0, level, usual or 1.0)  # of slices that tell no tokens
    usd_own, usd_onto = (
        np.where(n > 0, each, level)
        for n, each in ((n_own, usd_own), (n_onto, _divided(of_onto, n_onto)))
    )
    apart = _apart(
        usd_onto / usd_own, n_own, n_onto, max(_cv2_of(own.of_in()), _cv2_of(own.of_out()))
    )
    elsewhere = 1 - own.calls / n_all
    unseen = np.maximum(FEW / (FEW + own.calls) * elsewhere, apart)
    shares = _divided(counts * usd, (n_own + n_onto) * level)
    usual_shares = shares @ own.calls / n_all
    sd = np.array([_sd(other, prices, pair) for other, pair in zip(others, pairs, strict=True)])
    change = _change(own, others, pairs)
    return WorkedOut(
        own=usd_own**apart * level ** (1 - apart),
        onto=usd_onto**apart * level ** (1 - apart),
        is_known=(own.calls > 0) | (n_onto > 0),
        off=unseen * (LEAST_OFF + (MOST_OFF - LEAST_OFF) * change / (HALF_WAY + change)),
        ratio_off=sd.reshape(shape) * (shares - usual_shares[:, None]) * unseen,
    )


def _apart(ratio: Values, n_own: Values, n_onto: Values, cv2: float) -> Values:
    """Return (n_slices,) how far two sides' sizes differ by more than chance: 0 not, 1 wholly.

    Draws are blind to the size of a call, but units that began before a release stay where they
    were, and their calls may be others.

    Args:
        ratio: of what a call of each side is worked out to cost.
        cv2: squared coefficient of variation of calls.
    """
    seen = (n_own > 0) & (n_onto > 0)
    by_chance = cv2 * (1 / np.maximum(n_own, 1.0) + 1 / np.maximum(n_onto, 1.0)) + NO_MATTER
    share = 1 - CHANCE * by_chance / np.maximum(np.log(ratio) ** 2, TINY)
    return np.where(seen, np.maximum(share, 0.0), 0.0)


@dataclass(frozen=True, slots=True)
class _Ratio:
    value: float
    variance: float  # of its log


ALIKE = _Ratio(1.0, 0.0)


def _ratios(own: SliceTokens, other: SliceTokens) -> tuple[_Ratio, _Ratio]:
    """Return how many tokens in, and out, the endpoint makes of another's."""
    return (
        _ratio(own.of_in(), other.of_in(), SPREAD_IN),
        _ratio(own.of_out(), other.of_out(), SPREAD_OUT),
    )


def _ratio(own: SliceSums, other: SliceSums, spread: float) -> _Ratio:
    """Return a ratio of means over slices in which both were drawn; without any, about 1.

    Slices that tell another one than most do, by more than chance, are left out: there the two
    had different calls.

    Ref: Mantel and Haenszel (1959), JNCI 22, for the weights.
    """
    both = (own.y > 0) & (other.y > 0)
    if not both.any():
        return _Ratio(1.0, spread**2)
    n, m = own.n[both], other.n[both]
    mean, beside, k = own.y[both] / n, other.y[both] / m, n * m / (n + m)
    noise = _cv2_of(own) / n + _cv2_of(other) / m
    log = np.log(mean / beside)
    order = np.argsort(log)
    half_way = np.searchsorted(np.cumsum(k[order]), k.sum() / 2)
    usual = (log - log[order[half_way]]) ** 2 <= MOST_SDS**2 * noise + NO_MATTER
    k = np.where(usual, k, 0.0)
    seen = float(k**2 @ noise) / float(k.sum()) ** 2
    weight = spread**2 / (spread**2 + seen)
    value = np.exp(weight * np.log(float(k @ mean) / float(k @ beside)))
    return _Ratio(float(value), spread**2 * (1 - weight))


def _cv2_of(sums: SliceSums) -> float:
    """Return the squared coefficient of variation that a call adds, with its unit's."""
    noise, _ = noise_of(sums)
    mean = float(sums.y.sum()) / max(float(sums.n.sum()), 1.0)
    return noise / mean**2 if mean > 0 else 1.0


def _a_call(tokens: SliceTokens, prices: Values, pair: tuple[_Ratio, _Ratio]) -> Values:
    """Return (n_slices,) what a call is worked out to cost, 0 where no tokens are told."""
    return _parts(tokens, prices, pair).sum(axis=0)


def _parts(tokens: SliceTokens, prices: Values, pair: tuple[_Ratio, _Ratio]) -> Values:
    """Return (2, n_slices) what a call's input and its output are worked out to cost."""
    a_call = np.stack([tokens.tokens_in, tokens.tokens_out]) / np.maximum(tokens.told, 1.0)
    return np.asarray(prices * a_call * np.array([[ratio.value] for ratio in pair]))


def _sd(tokens: SliceTokens, prices: Values, pair: tuple[_Ratio, _Ratio]) -> Values:
    """Return (n_slices,) the sd of the log of what a call is worked out to cost."""
    parts = _parts(tokens, prices, pair)
    shares = _divided(parts, parts.sum(axis=0))
    return np.asarray(np.sqrt(shares.T**2 @ np.array([ratio.variance for ratio in pair])))


def _divided(values: Values, by: Values) -> Values:
    """Return a quotient, 0 where there is nothing to divide by."""
    return np.asarray(np.divide(values, by, where=by > 0, out=np.zeros(np.shape(values))))


def _change(
    own: SliceTokens,
    others: Sequence[SliceTokens],
    pairs: Sequence[tuple[_Ratio, _Ratio]],
) -> Values:
    """Return (n_slices,) by how much the others' calls differ in length from all of its own."""
    nothing = np.zeros(len(own.calls))
    told, out = sum((other.told for other in others), nothing), nothing.copy()
    for k, name in enumerate(("tokens_in", "tokens_out")):
        usual = float(getattr(own, name).sum()) / max(float(own.told.sum()), 1.0)
        tokens = (getattr(o, name) * p[k].value for o, p in zip(others, pairs, strict=True))
        mean = _divided(sum(tokens, nothing), told)
        seen = (mean > 0) & (usual > 0)
        out[seen] = np.maximum(out[seen], np.abs(np.log(mean[seen] / usual)))
    return out


def learned_prices(cost_usd: Values, tokens_in: Values, tokens_out: Values) -> tuple[float, float]:
    """Return what a token in and one out costs, by sums of calls that are booked.

    Least squares; as far as calls do not tell the two apart, one out costs `OUT_BY_IN` in.
    """
    together = float((tokens_in + OUT_BY_IN * tokens_out).sum())
    usual = max(float(cost_usd.sum()) / together if together > 0 else 0.0, TINY)
    tokens = np.stack([tokens_in, OUT_BY_IN * tokens_out], axis=1)
    square = tokens.T @ tokens
    ridge = np.eye(2) * max(1e-6 * float(np.trace(square)), TINY)
    off = np.linalg.solve(square + ridge, tokens.T @ (cost_usd - usual * tokens.sum(axis=1)))
    found = usual + off
    if (found <= 0).any():
        found = np.array([usual, usual])
    return float(found[0]), float(OUT_BY_IN * found[1])
