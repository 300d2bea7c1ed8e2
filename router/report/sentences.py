"""Verdicts in words. Pure.

In this order: not worth it here, gains, a trade, not shown yet. A sentence never claims what its
intervals do not carry, and says of what it is: a trial or a hold-out, dated once that is over.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bandit.compared import Measure
from bandit.report import Signal
from bandit.verdict import Basis, Difference, Verdict, VerdictKind
from telemetry.dates import utc_day

MOST_SIGNALS = 3
"""Of these the most numerous are named."""


@dataclass(frozen=True, slots=True)
class ComparedNames:
    """Of what a verdict is, by names."""

    incumbent: str
    challenger: str = ""  # empty: an app's whole map
    app: str = ""
    task: str = ""  # empty: the app's all
    names_app: bool = False  # several are shown together
    units: str = "sessions"


def sentence(verdict: Verdict, of: ComparedNames) -> str:
    """Return what a verdict says, as one sentence."""
    where = _where(of)
    said = f"{where}: {_said(verdict, of)}" if where else _said(verdict, of)
    return f"{said[0].upper()}{said[1:]}{_basis(verdict, of.units)}."


def clause(verdict: Verdict, of: ComparedNames) -> str:
    """Return it as a few words beside a task: which verdict, and by what."""
    by = "hold-out" if verdict.basis is Basis.HOLDOUT else "trial"
    ended = f" of {utc_day(verdict.ended_ms)}" if verdict.ended_ms else ""
    match verdict.kind:
        case VerdictKind.KEEP:
            return f"{by}{ended}: not worth it, keep {of.incumbent}"
        case VerdictKind.GAINS:
            return f"{by}{ended}: gains {', '.join(_figure(d) for d in _better(verdict))}"
        case VerdictKind.TRADE:
            return f"{by}{ended}: a trade"
        case VerdictKind.NOT_SHOWN:
            return f"{by}: {not_shown(verdict)}"


def not_shown(verdict: Verdict, units: str = "sessions") -> str:
    """Return how far it is until something is shown."""
    if verdict.ended_ms:
        return "not shown, and over"
    if verdict.needed is None:
        return "not shown yet"
    return f"not shown yet, about {_rounded(verdict.needed):,} {units} more"


def checked_line(verdict: Verdict) -> str:
    """Return what the cross-check of a comparison comes to; or nothing."""
    if verdict.checked is None:
        return ""
    what = "hold-out" if verdict.basis is Basis.HOLDOUT else "trial"
    found = _one(100 * verdict.checked, "+")
    return f"cross-check of the {what} by logged propensities: {found} pp in quality"


def signals_line(signals: Sequence[Signal]) -> str:
    """Return what figures rest on: `by 12,400 tool-call checks and 210 thumbs`; or nothing."""
    named = [f"{one.n:,} {one.counted_name}" for one in signals[:MOST_SIGNALS]]
    rest = sum(one.n for one in signals[MOST_SIGNALS:])
    if rest:
        named.append(f"{rest:,} others")
    if not named:
        return ""
    return "by " + (f"{', '.join(named[:-1])} and {named[-1]}" if len(named) > 1 else named[0])


def _where(of: ComparedNames) -> str:
    if of.task:
        return f"app {of.app}, {of.task}" if of.names_app and of.app else f"in {of.task}"
    return f"app {of.app}" if of.app else ""


def _said(verdict: Verdict, of: ComparedNames) -> str:
    match verdict.kind:
        case VerdictKind.KEEP:
            tried = f"{of.challenger} is at" if of.challenger else "routing is at"
            figures = _figures(verdict.differences)
            kept = of.incumbent or "the incumbent"
            return f"not worth it here: keep {kept}" + (f"; {tried} {figures}" if figures else "")
        case VerdictKind.GAINS:
            better = _better(verdict)
            others = [d for d in verdict.differences if d not in better]
            beside = f" ({_figures(others)})" if others else ""
            who = f"{of.challenger} " if of.challenger else "routing "
            against = f"against your incumbent {of.incumbent}".rstrip()
            return f"{who}gains {_gains(better)} {against}{beside}"
        case VerdictKind.TRADE:
            return _trade(verdict, of)
        case VerdictKind.NOT_SHOWN:
            told = f" ({_figures(verdict.differences)})" if verdict.differences else ""
            who = f"whether {of.challenger} is better: " if of.challenger else ""
            return f"{who}{not_shown(verdict, of.units)}{told}"


def _trade(verdict: Verdict, of: ComparedNames) -> str:
    better = _better(verdict)
    worse = [d for d in verdict.differences if _is_worse(d)]
    others = [d for d in verdict.differences if d not in better and d not in worse]
    who = f"{of.challenger} is a trade" if of.challenger else "a trade"
    beside = f" ({_figures(others)})" if others else ""
    return f"{who}: {_figures(better)} for {_figures(worse)}{beside}"


def _basis(verdict: Verdict, units: str) -> str:
    """Return of what it is, in brackets."""
    control, treated = verdict.units
    if verdict.basis is Basis.NOTHING:
        return ""
    by = "hold-out" if verdict.basis is Basis.HOLDOUT else "trial"
    ended = f" that ended {utc_day(verdict.ended_ms)}" if verdict.ended_ms else ""
    return f" ({by}{ended}: {treated:,} {units} against {control:,})"


def _better(verdict: Verdict) -> list[Difference]:
    """Return the differences that are shown to be to the better."""
    return [d for d in verdict.differences if (d.low > 0 if d.is_better_higher else d.high < 0)]


def _is_worse(difference: Difference) -> bool:
    is_higher = difference.is_better_higher
    return difference.high < 0 if is_higher else difference.low > 0


def _gains(better: Iterable[Difference]) -> str:
    return " and ".join(_figure(d) for d in better)


def _figures(differences: Iterable[Difference]) -> str:
    return ", ".join(_signed(d) for d in differences)


UNITS = {
    Measure.UTILITY: ("%", "of a success's value"),
    Measure.QUALITY: ("pp", "in quality"),
    Measure.COST_PER_SUCCESS: ("%", "cost per success"),
    Measure.WALL_TIME: ("%", "wall time"),
}
"""Unit of a hundredth, and of what it is."""


def _signed(difference: Difference) -> str:
    """Return `+3.1 pp [1.2, 5.0] in quality`."""
    unit, of_what = UNITS[difference.measure]
    mean, low, high = (100 * x for x in (difference.mean, difference.low, difference.high))
    return f"{_one(mean, '+')} {unit} [{_one(low)}, {_one(high)}] {of_what}"


def _figure(difference: Difference) -> str:
    """Return a gain as one: `38.0 % [31.0, 44.0] in cost per success`."""
    unit, of_what = UNITS[difference.measure]
    sign = 1 if difference.is_better_higher else -1
    ends = sorted((sign * 100 * difference.low, sign * 100 * difference.high))
    of_what = of_what if difference.is_better_higher else f"less {of_what}"
    return (
        f"{_one(sign * 100 * difference.mean)} {unit} [{_one(ends[0])}, {_one(ends[1])}] {of_what}"
    )


def _one(value: float, sign: str = "") -> str:
    """Return one decimal; what rounds to nothing is 0.0, without a sign."""
    text = format(value, f"{sign}.1f")
    return "0.0" if float(text) == 0 else text


def _rounded(n: int) -> int:
    """Return two leading digits: it is an estimate."""
    step: int = 10 ** max(len(str(max(n, 1))) - 2, 0)
    return -(-n // step) * step
