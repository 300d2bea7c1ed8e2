"""What one release key saved, as figures that add up over tasks and apps."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from bandit.carried import LEAST_UNITS, SliceSums, Uncertain, carry

Values = NDArray[np.float64]


class Amount(StrEnum):
    """Figures with an interval. Rewards are sums over calls, in successes."""

    INCUMBENT_USD = "incumbent_usd"  # what the calls had cost with the incumbent
    SAVED_USD = "saved_usd"
    SERVED_REWARD = "served_reward"
    INCUMBENT_REWARD = "incumbent_reward"
    GAINED = "gained"  # served less incumbent
    DEARER_USD = "dearer_usd"  # drawn to learn, less what the choice had cost
    WORSE = "worse"  # what the choice had earned, less what was earned by what was drawn to learn
    WORSE_USD = "worse_usd"
    FEWER_FAILED = "fewer_failed"  # calls
    FEWER_FAILED_USD = "fewer_failed_usd"
    FEWER_REPEATS_USD = "fewer_repeats_usd"


class Why(StrEnum):
    """Why a figure cannot be known."""

    NO_INCUMBENT = "no_incumbent"
    FEW_CALLS = "few_calls_of_the_incumbent"
    NO_PRICE = "no_price_of_the_incumbent"
    NO_LABELS = "no_quality_signal"
    FEW_LABELS = "few_labels"
    FEW_OF_CHOICE = "few_calls_of_the_choice"


@dataclass(slots=True)
class SavingPart:
    """Counts, sums and uncertain figures of some calls; two of them add up."""

    counts: Counter[str] = field(default_factory=Counter)
    usd: dict[str, float] = field(default_factory=lambda: defaultdict(float))  # booked: exact
    amounts: dict[Amount, Uncertain] = field(default_factory=dict)
    money_unknown: Counter[Why] = field(default_factory=Counter)  # calls
    quality_unknown: Counter[Why] = field(default_factory=Counter)
    learning_unknown: Counter[Why] = field(default_factory=Counter)

    def add(self, other: SavingPart) -> None:
        """Add another one's."""
        self.counts.update(other.counts)
        for column, usd in other.usd.items():
            self.usd[column] += usd
        for name, amount in other.amounts.items():
            self.amounts[name] = self.amounts.get(name, Uncertain()) + amount
        self.money_unknown.update(other.money_unknown)
        self.quality_unknown.update(other.quality_unknown)
        self.learning_unknown.update(other.learning_unknown)


@dataclass(frozen=True, slots=True)
class _Side:
    """Rows of one side of a comparison, by day."""

    rows: NDArray[np.void]
    place: NDArray[np.intp]  # (n,) which of the days each is of
    in_period: NDArray[np.bool_]  # (n_days,)

    def by_day(self, name: str) -> Values:
        """Return (n_days,) sums of a column, of all days."""
        n_days = len(self.in_period)
        return np.bincount(self.place, self.rows[name], minlength=n_days).astype(np.float64)

    def told(self, name: str) -> Values:
        """Return (n_days,) sums of a column; 0 of days that are not asked about."""
        return np.where(self.in_period, self.by_day(name), 0.0)

    def sum(self, name: str) -> float:
        """Return the sum over the period."""
        return float(self.told(name).sum())

    def of_measure(self, name: str) -> SliceSums:
        """Return what its calls tell of a measure, on every day."""
        parts = ("units", "calls", "calls2", name, f"{name}_n", f"{name}2")
        return SliceSums(*(self.by_day(part) for part in parts))

    def of_rewards(self) -> SliceSums:
        """Return what its labelled calls tell of rewards."""
        parts = ("labelled_units", "labels", "labels2", "reward", "reward_n", "reward2")
        return SliceSums(*(self.by_day(part) for part in parts))

    @property
    def unlabelled(self) -> Values:
        """Calls of the period of which nothing is said, by day."""
        return np.maximum(self.told("calls") - self.told("labels"), 0.0)


def part_of(rows: NDArray[np.void], *, days: range, value_usd: float | None = None) -> SavingPart:
    """Return what one release key saved in some days.

    Its calls of other days tell of the incumbent as well, as far as days do not differ.

    Args:
        rows: (n,) of SAVING_ROW, all of one release key.
        days: since the epoch, that are asked about.
        value_usd: what a success is worth.
    """
    known_days, place = np.unique(rows["day"], return_inverse=True)
    in_period = (known_days >= days.start) & (known_days < days.stop)

    def side(mine: NDArray[np.bool_]) -> _Side:
        return _Side(rows.compress(mine), place[mine], in_period)

    whole = side(np.ones(len(rows), dtype=bool))
    own, others = side(rows["by_incumbent"]), side(~rows["by_incumbent"])
    out = SavingPart()
    for name in ("calls", "units", "unpriced", "attempts", "failed", "labels"):
        out.counts[name] = round(whole.sum(name))
    out.counts["incumbent_calls"] = round(own.sum("calls"))
    out.counts["routed"] = out.counts["calls"] + out.counts["unpriced"]
    for name in ("cost", "estimated_usd", "beside_usd", "repeats"):
        out.usd[name] = whole.sum(name)
    why = _why_unknown(own)
    if why is None:
        _compare_money(out, own, others, value_usd)
    else:
        out.money_unknown[why] = out.counts["calls"]
    _compare_quality(out, own, others, why)
    _count_learning(out, side(rows["explored"]), side(~rows["explored"]), value_usd)
    return out


def _why_unknown(own: _Side) -> Why | None:
    if not len(own.rows):
        return Why.NO_INCUMBENT
    if float(own.rows["units"].sum()) >= LEAST_UNITS:
        return None
    return Why.NO_PRICE if own.rows["unpriced"].sum() >= LEAST_UNITS else Why.FEW_CALLS


def _compare_money(out: SavingPart, own: _Side, others: _Side, value_usd: float | None) -> None:
    onto = others.told("calls")
    cost, failed, repeats = (
        carry(own.of_measure(name), onto, of_rewards=name == "failed") or Uncertain()
        for name in ("cost", "failed", "repeats")
    )
    out.counts["compared"] = out.counts["calls"]
    out.usd["compared"] = out.usd["cost"]
    out.counts["compared_failed"] = out.counts["failed"]
    out.amounts[Amount.INCUMBENT_USD] = cost.scaled(1, own.sum("cost"))
    out.amounts[Amount.SAVED_USD] = cost.scaled(1, -others.sum("cost"))
    fewer = failed.scaled(1, -others.sum("failed"))
    out.amounts[Amount.FEWER_FAILED] = fewer
    out.amounts[Amount.FEWER_REPEATS_USD] = repeats.scaled(1, -others.sum("repeats"))
    if value_usd is not None:
        out.amounts[Amount.FEWER_FAILED_USD] = fewer.scaled(value_usd)
        out.counts["failed_valued"] = out.counts["calls"]


def _compare_quality(out: SavingPart, own: _Side, others: _Side, why: Why | None) -> None:
    n = out.counts["calls"]
    labelled = bool(own.rows["labels"].any() or others.rows["labels"].any())
    if not labelled:
        out.quality_unknown[Why.NO_LABELS] = n
        return
    if why is Why.NO_INCUMBENT:
        out.quality_unknown[why] = n
        return
    said, onto = own.of_rewards(), others.told("calls")
    in_place = carry(said, onto, of_rewards=True)
    whole = carry(said, onto + own.unlabelled, of_rewards=True)
    served = carry(others.of_rewards(), others.unlabelled, of_rewards=True)
    if in_place is None or whole is None or served is None:
        out.quality_unknown[Why.FEW_LABELS] = n
        return
    of_own = carry(said, own.unlabelled, of_rewards=True) or Uncertain()
    served = served.scaled(1, others.sum("reward"))
    out.counts["judged"] = n
    out.counts["judged_labels"] = out.counts["labels"]
    out.amounts[Amount.INCUMBENT_REWARD] = whole.scaled(1, own.sum("reward"))
    out.amounts[Amount.SERVED_REWARD] = served + of_own.scaled(1, own.sum("reward"))
    out.amounts[Amount.GAINED] = served + in_place.scaled(-1)


def _count_learning(out: SavingPart, tried: _Side, kept: _Side, value_usd: float | None) -> None:
    """Note what draws to learn cost beside the choice's of the same days."""
    n = round(tried.sum("calls"))
    out.counts["explored"], out.counts["explored_labels"] = n, round(tried.sum("labels"))
    if not n:
        return
    cost = carry(kept.of_measure("cost"), tried.told("calls"))
    if cost is None:
        out.learning_unknown[Why.FEW_OF_CHOICE] = n
        return
    out.amounts[Amount.DEARER_USD] = cost.scaled(-1, tried.sum("cost"))
    labelled = tried.told("labels")
    earned = carry(kept.of_rewards(), labelled, of_rewards=True)
    if not labelled.sum() or earned is None:
        out.learning_unknown[Why.NO_LABELS] = n
        return
    # Of those without a label the labelled ones tell, as they do of the same draws.
    share = n / float(labelled.sum())
    worse = earned.scaled(share, -share * tried.sum("reward"))
    out.counts["learning_judged"] = n
    out.amounts[Amount.WORSE] = worse
    if value_usd is not None:
        out.counts["learning_valued"] = n
        out.amounts[Amount.WORSE_USD] = worse.scaled(value_usd)
