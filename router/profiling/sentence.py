"""What a profile advises, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bandit.profiled import Advice, AdviceKind, BesideIncumbent
from bandit.utility import FLOOR_SHARE, Order

if TYPE_CHECKING:
    from router.profiling.figures import ProfileTable

NOTHING = {
    "nothing_graded": "Nothing was graded, so there is nothing to advise: give expected answers, "
    "schemas, checks or a judge.",
    "few_prompts": "Cannot tell yet: no task has 5 graded prompts of an endpoint.",
    "none_everywhere": "Cannot tell yet: no endpoint was graded in every task; its cells that are "
    "missing can be asked for by running the profile again.",
    "one_endpoint": "Only one endpoint was graded in every task: there is nothing to compare it "
    "with.",
}
MOST_SAME = 0.05
"""Quality is called the same where neither can be better by more."""
MOST_MAPPED = 6
"""Tasks that a sentence names; the table has them all."""


def sentence_of(table: ProfileTable) -> str:
    """Return the advice: one sentence, and a second one beside the endpoint in use."""
    advice = table.found.advice
    if advice.kind is AdviceKind.NONE:
        return NOTHING[advice.reason]
    if advice.kind is AdviceKind.ROUTE:
        said = _route(table, advice)
    elif table.objective.order is not Order.UTILITY:
        said = _ordered(table, advice)
    else:
        said = _pin(table, advice)
    return f"{said} {_beside(table, advice)}".rstrip()


def judged_by(table: ProfileTable) -> str:
    """Return what endpoints were judged by, and how tasks were weighed."""
    weighed = (
        "tasks weighed by their share of the prompts file"
        if table.weights_known
        else "each task weighed alike"
    )
    objective = table.objective
    if objective.order is Order.CHEAPEST:
        what = f"cost per success, of those not shown to be below {FLOOR_SHARE:g} of the best"
    elif objective.order is Order.FASTEST:
        what = f"mean seconds, of those not shown to be below {FLOOR_SHARE:g} of the best"
    elif not objective.has_value:
        what = "quality"
    else:
        worth = "its own sum in each task"
        if objective.value_usd is not None:
            worth = f"${objective.value_usd:.4g}"
        waiting = f", a second of waiting ${objective.latency_usd_per_s:.4g}"
        what = f"utility (a success is worth {worth}"
        what += f"{waiting if objective.latency_usd_per_s else ''})"
    counts_cost = objective.order is Order.CHEAPEST or objective.has_value
    free = [name for name in table.endpoints if counts_cost and not table.has_cost(name)]
    if free:
        what += f", where the cost of {', '.join(free)} is not known and counts as nothing"
    return f"{what}; {weighed}"


def points(share: float, *, signed: bool = False) -> str:
    """Return hundredths as they are printed."""
    text = f"{100 * share:+.1f}" if signed else f"{100 * share:.1f}"
    return text.replace("-", "−")


def _unit(table: ProfileTable) -> str:
    return "points of utility" if table.objective.has_value else "points"


def _name(table: ProfileTable, arm: int | None) -> str:
    return table.endpoints[arm] if arm is not None else "none"


def _upto(share: float) -> str:
    """Return a bound of hundredths, rounded so that it still bounds."""
    return points(min(share + 0.0005, 1.0)) if share > 0 else "0"


def _pin(table: ProfileTable, advice: Advice) -> str:
    name, lead = _name(table, advice.pin), _upto(advice.lead or 0.0)
    if advice.kind is AdviceKind.UNCLEAR:
        return (
            f"Cannot tell yet: {name} looks best, but another may be better by up to {lead} "
            f"{_unit(table)}; about {advice.more_prompts} more prompts a task would tell."
        )
    said = f"Pin {name}: nothing is better by more than {lead} {_unit(table)}."
    if advice.gain is not None:
        low, high = (points(x, signed=True) for x in (advice.gain.low, advice.gain.high))
        said += f" Routing by task is not shown to gain [{low}, {high}]."
    return said


def _ordered(table: ProfileTable, advice: Advice) -> str:
    name, lead = _name(table, advice.pin), _upto(advice.lead or 0.0)
    cheap = table.objective.order is Order.CHEAPEST
    less = "costs less per success" if cheap else "is faster"
    looks = "the cheapest per success" if cheap else "the fastest"
    rest = "others that are good enough" if len(advice.compared) > 1 else "nothing else"
    if advice.kind is AdviceKind.UNCLEAR:
        return (
            f"Cannot tell yet: {name} looks {looks.removeprefix('the ')}, but of {rest} one may "
            f"be so by up to {lead} %; about {advice.more_prompts} more prompts a task would tell."
        )
    if len(advice.compared) == 1:
        return f"Pin {name}: only it is good enough, all others are shown to be below the floor."
    by = f" by more than {lead} %" if advice.lead else ""
    return f"Pin {name}: {looks}; nothing good enough {less}{by}."


def _route(table: ProfileTable, advice: Advice) -> str:
    assert advice.gain is not None
    mapped = [f"{task} → {endpoint}" for task, endpoint in table.mapped().items()]
    more = f" and {len(mapped) - MOST_MAPPED} more" if len(mapped) > MOST_MAPPED else ""
    rest = ""
    if len(mapped) < len(advice.tasks):
        rest = f", all else to {_name(table, advice.pin)}"
    gain = advice.gain
    low, high = points(gain.low), points(gain.high)
    return (
        f"Route these tasks: {', '.join(mapped[:MOST_MAPPED])}{more}{rest}; expected gain "
        f"{points(gain.value)} [{low}, {high}] {_unit(table)} over pinning "
        f"{_name(table, advice.pin)}."
    )


def _beside(table: ProfileTable, advice: Advice) -> str:
    beside, now = advice.beside_incumbent, table.incumbent
    if now is None:
        return ""
    if beside is None:
        if _name(table, advice.pin) == now and advice.kind is AdviceKind.PIN:
            return "It is what you use now."
        if now in table.endpoints:
            return ""
        why = "gave no answer, and is not compared" if table.is_silent else "was not asked"
        return f"{now}, which you use now, {why}."
    it = "It" if advice.kind is not AdviceKind.ROUTE else "That"
    return f"{it} {_cost_beside(table, beside, now)} {_quality_beside(beside)}."


def _cost_beside(table: ProfileTable, beside: BesideIncumbent, now: str) -> str:
    if beside.cost_ratio is None:
        advised = {_name(table, table.found.advice.pin), *table.mapped().values()}
        if table.found.advice.kind is not AdviceKind.ROUTE:
            advised = {_name(table, table.found.advice.pin)}
        if not table.has_cost(now):
            return f"compares with {now}, which you use now (cost not known),"
        if not all(map(table.has_cost, advised)):
            return f"(cost not known) compares with {now}, which you use now,"
        return f"compares with {now}, which you use now and which is free,"
    change = beside.cost_ratio - 1
    if abs(change) < 0.005:
        return f"costs as much as {now}, which you use now,"
    if change > 1:
        return f"costs {beside.cost_ratio:.1f} times what {now} does, which you use now,"
    way = "less" if change < 0 else "more"
    return f"costs {abs(change):.0%} {way} than {now}, which you use now,".replace("%", " %")


def _quality_beside(beside: BesideIncumbent) -> str:
    low, high = max(beside.quality[0], -1.0), min(beside.quality[1], 1.0)
    same = max(-low, high) <= MOST_SAME
    shown = f"[{points(low, signed=True)}, {points(high, signed=True)}]"
    if low > 0:
        return f"at a better quality {shown}"
    if high < 0:
        return f"at a worse quality {shown}"
    if same:
        return f"at the same quality {shown}"
    return f"at a quality that so few prompts do not tell apart {shown}"
