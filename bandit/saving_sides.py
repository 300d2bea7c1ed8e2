"""Sums of one release key by slices of time: a day, and what the choice was in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bandit.carried import SliceSums, Values
from bandit.foretold import SliceTokens, TokenPrices, learned_prices
from bandit.saving_sums import TOKENS

MOST_SLICES = 240
"""With more, slices are whole days: what wanders is worked out with a matrix over all of them."""


@dataclass(frozen=True, slots=True)
class Slices:
    """Days, cut where the choice changed."""

    place: NDArray[np.intp]  # (n_rows,) which slice each is of
    day: NDArray[np.intp]  # (n_slices,)
    in_period: NDArray[np.bool_]  # (n_slices,)


def slices_of(rows: NDArray[np.void], days: range) -> Slices:
    """Return the slices of rows of one release key, in order of their days."""
    keys, place = np.unique(rows[["day", "choice"]], return_inverse=True)
    day = keys["day"].astype(np.intp)
    if len(keys) > MOST_SLICES:
        day, place = np.unique(rows["day"].astype(np.intp), return_inverse=True)
    return Slices(place, day, (day >= days.start) & (day < days.stop))


@dataclass(frozen=True, slots=True)
class SavingSide:
    """Rows of one side of a comparison, by slice."""

    rows: NDArray[np.void]
    place: NDArray[np.intp]  # (n,) which of the slices each is of
    slices: Slices

    @classmethod
    def of(cls, rows: NDArray[np.void], mine: NDArray[np.bool_], slices: Slices) -> SavingSide:
        """Return some of the rows that were cut into slices."""
        return cls(rows.compress(mine), slices.place[mine], slices)

    def only(self, known: NDArray[np.bool_]) -> SavingSide:
        """Return those of some slices, (n_slices,)."""
        mine = known[self.place]
        return replace(self, rows=self.rows.compress(mine), place=self.place[mine])

    def by_endpoint(self) -> Iterator[SavingSide]:
        """Yield those of each endpoint that was drawn."""
        for endpoint in np.unique(self.rows["endpoint"]).tolist():
            mine = self.rows["endpoint"] == endpoint
            yield replace(self, rows=self.rows.compress(mine), place=self.place[mine])

    def by_slice(self, name: str) -> Values:
        """Return (n_slices,) sums of a column, of all days."""
        n_slices = len(self.slices.day)
        return np.bincount(self.place, self.rows[name], minlength=n_slices).astype(np.float64)

    def told(self, name: str) -> Values:
        """Return (n_slices,) sums of a column; 0 of days that are not asked about."""
        return np.where(self.slices.in_period, self.by_slice(name), 0.0)

    def sum(self, name: str) -> float:
        """Return the sum over the period."""
        return float(self.told(name).sum())

    def of_measure(self, name: str) -> SliceSums:
        """Return what its calls tell of a measure, on every day."""
        parts = ("units", "calls", "calls2", name, f"{name}_n", f"{name}2")
        return SliceSums(*(self.by_slice(part) for part in parts))

    def of_rewards(self) -> SliceSums:
        """Return what its labelled calls tell of rewards."""
        parts = ("labelled_units", "labels", "labels2", "reward", "reward_n", "reward2")
        return SliceSums(*(self.by_slice(part) for part in parts))

    def tokens(self) -> SliceTokens:
        """Return what is told of the tokens of its calls, on every day."""
        tokens = (name + part for name in TOKENS for part in ("", "_n", "2"))
        parts = ("calls", "units", "told", "told2", *tokens)
        return SliceTokens(*(self.by_slice(part) for part in parts))

    @property
    def unlabelled(self) -> Values:
        """Calls of the period of which nothing is said, by slice."""
        return np.maximum(self.told("calls") - self.told("labels"), 0.0)


def prices_of(own: SavingSide, prices: TokenPrices) -> Values:
    """Return (2, n_slices) what a token in and one out costs the endpoint of a side, by slice.

    Of several hosts the one that was drawn most. One without a known price costs what its own
    booked calls tell.
    """
    rows, days = own.rows, own.slices.day
    names, place = np.unique(rows["endpoint"], return_inverse=True)
    endpoint = int(names[np.argmax(np.bincount(place, rows["calls"]))])
    known = prices.get(endpoint, ())
    if not known:
        pair = learned_prices(rows["cost"], rows["tokens_in"], rows["tokens_out"])
        return np.tile(np.array(pair)[:, None], (1, len(days)))
    since = np.array([day for day, _, _ in known])
    at = np.maximum(np.searchsorted(since, days, side="right") - 1, 0)
    return np.array([[usd[1:] for usd in known][k] for k in at]).T.reshape(2, len(days))
