"""What one release key saved, as figures that add up over tasks and apps."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from bandit.carried import LEAST_UNITS, Uncertain, Values, carry
from bandit.foretold import TokenPrices, WorkedOut, foretell
from bandit.saving_sides import SavingSide, prices_of, slices_of


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
    NO_TOKENS = "no_tokens_of_calls_without_the_incumbent"
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


def part_of(
    rows: NDArray[np.void],
    *,
    days: range,
    value_usd: float | None = None,
    prices: TokenPrices | None = None,
) -> SavingPart:
    """Return what one release key saved in some days.

    Its calls of other days tell of the incumbent as well, as far as days do not differ.

    Args:
        rows: (n,) of SAVING_ROW, all of one release key.
        days: since the epoch, that are asked about.
        value_usd: what a success is worth.
        prices: of endpoints; of one that is not there its booked calls tell.
    """
    slices = slices_of(rows, days)

    def side(mine: NDArray[np.bool_]) -> SavingSide:
        return SavingSide.of(rows, mine, slices)

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
        _compare_money(out, own, others, value_usd, prices or {})
    else:
        out.money_unknown[why] = out.counts["calls"]
    _compare_quality(out, own, others, why)
    _count_learning(out, side(rows["explored"]), side(~rows["explored"]), value_usd)
    return out


def _why_unknown(own: SavingSide) -> Why | None:
    if not len(own.rows):
        return Why.NO_INCUMBENT
    if float(own.rows["units"].sum()) >= LEAST_UNITS:
        return None
    return Why.NO_PRICE if own.rows["unpriced"].sum() >= LEAST_UNITS else Why.FEW_CALLS


def _compare_money(
    out: SavingPart,
    own: SavingSide,
    others: SavingSide,
    value_usd: float | None,
    prices: TokenPrices,
) -> None:
    """Note money of the calls of which it can be known what the incumbent's had cost."""
    served = [each.tokens() for each in others.by_endpoint()]
    foretold = foretell(own.tokens(), served, prices_of(own, prices))
    left = others.only(~foretold.is_known)
    others = others.only(foretold.is_known)
    onto, n = others.told("calls"), out.counts["calls"] - round(left.sum("calls"))
    out.money_unknown[Why.NO_TOKENS] = out.counts["calls"] - n
    failed = carry(own.of_measure("failed"), onto, of_rewards=True) or Uncertain()
    repeats = carry(own.of_measure("repeats"), onto) or Uncertain()
    cost = _cost(own, onto, foretold)
    out.counts["compared"] = n
    out.counts["by_tokens"] = round(float(onto[own.by_slice("calls") == 0].sum()))
    out.usd["compared"] = out.usd["cost"] - left.sum("cost")
    out.amounts[Amount.INCUMBENT_USD] = cost.scaled(1, own.sum("cost"))
    out.amounts[Amount.SAVED_USD] = cost.scaled(1, -others.sum("cost"))
    fewer = failed.scaled(1, -others.sum("failed"))
    out.amounts[Amount.FEWER_FAILED] = fewer
    out.amounts[Amount.FEWER_REPEATS_USD] = repeats.scaled(1, -others.sum("repeats"))
    if value_usd is not None:
        out.amounts[Amount.FEWER_FAILED_USD] = fewer.scaled(value_usd)
        out.counts["failed_valued"] = n


def _cost(own: SavingSide, onto: Values, foretold: WorkedOut) -> Uncertain:
    """Return what calls of others had cost the incumbent."""
    levels = (foretold.own, foretold.onto)
    found = carry(own.of_measure("cost"), onto, foretold=levels) or Uncertain()
    worked_out = float(onto @ foretold.onto)
    if worked_out <= 0:
        return found
    beside = foretold.variance(onto) * (found.value / worked_out) ** 2
    return found + Uncertain(0.0, beside)


def _compare_quality(out: SavingPart, own: SavingSide, others: SavingSide, why: Why | None) -> None:
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


def _count_learning(
    out: SavingPart, tried: SavingSide, kept: SavingSide, value_usd: float | None
) -> None:
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
