"""What routing saved, in words: a few lines of eighty columns. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from router.report.ledger_table import amount, folded
from router.report.savings import LATER

WIDTH = 80
MOST_APPS, MOST_TASKS = 5, 8

Section = Mapping[str, Any]


def savings_lines(section: Section, *, by_task: bool, width: int = WIDTH) -> list[str]:
    """Return what a section says; an app in three or four lines.

    Args:
        by_task: each task has a line of its own.
    """
    return [part for line in _lines(section, by_task) for part in folded(line, width)]


def _lines(section: Section, by_task: bool) -> Iterator[str]:
    if section["reason"] is not None:
        yield f"what routing saved: {section['reason']}"
        return
    first, last = section["days"]
    until = f", up to {section['until']}; {LATER}" if section["until"] else ""
    yield f"what routing saved, {first} to {last} (days of UTC){until}:"
    told = [row for row in section["apps"] if row["reason"] is None]
    for row in sorted(told, key=lambda row: -row["calls"])[:MOST_APPS]:
        yield from _of_app(row)
        if by_task:
            ranked = sorted(row["tasks"], key=lambda task: -task["calls"])
            for task in ranked[:MOST_TASKS]:
                yield f"  task {task['task']}: {_money(task)}; {_quality(task)}"
            if len(ranked) > MOST_TASKS:
                yield f"  {len(ranked) - MOST_TASKS} more tasks: --json"
    if len(told) > MOST_APPS:
        yield f"{len(told) - MOST_APPS} more apps: --json"
    for row in section["apps"]:
        if row["reason"] is not None and len(section["apps"]) <= MOST_APPS:
            yield f"{row['app']}: {row['reason']}"


def _of_app(row: Section) -> Iterator[str]:
    yield f"{row['app']}: {_money(row)}"
    yield f"  {_quality(row)}"
    learning, reliable = row["learning"], row["reliability"]
    if learning["n"] or learning["second_starts_usd"]:
        yield f"  {_learning(learning)}"
    avoided = reliable["failed_avoided"]
    if avoided is not None and (reliable["failed"] or avoided["value"] >= 0.5):
        yield f"  {_failures(reliable)}"
    if row["unpriced"]:
        yield f"  {row['unpriced']:,} of {row['calls']:,} calls have no price, and are left out"


def _money(row: Section) -> str:
    money = row["money"]
    if not money["n"]:
        return f"savings unknown: {_why(money)}"
    saved, share = money["saved_usd"], money["saved_share"]
    word = "saved" if saved["value"] >= 0 else "cost more by"
    sign = 1 if saved["value"] >= 0 else -1
    low, high = sorted((sign * saved["low"], sign * saved["high"]))
    of = f" ({abs(share['value']):.1%})" if share else ""
    left = f", of {row['calls']:,}" if money["n"] < row["calls"] else ""
    return (
        f"{word} {_usd(sign * saved['value'])} USD{of}, {_usd(low)} to {_usd(high)}: "
        f"{_usd(money['served_usd'])} for {money['n']:,} calls{left}; "
        f"the incumbent's {_usd(money['incumbent_usd']['value'])}{_by_tokens(money)}"
    )


def _by_tokens(money: Section) -> str:
    """Return of how many calls the incumbent's cost goes by their tokens alone."""
    n = money["by_tokens"]
    return f", by tokens alone of {n:,} calls that came when it was not drawn" if n else ""


def _quality(row: Section) -> str:
    quality = row["quality"]
    if not quality["n"]:
        return f"quality against it unknown: {_why(quality)}"
    gained = quality["gained"]
    value, low, high = (100 * gained[name] for name in ("value", "low", "high"))
    return (
        f"quality {value:+.1f} points ({low:+.1f} to {high:+.1f}): "
        f"{quality['served']['value']:.3f}, the incumbent's {quality['incumbent']['value']:.3f}; "
        f"{quality['labels']:,} labels, {quality['method']}"
        + (f" ({quality['why']})" if quality["why"] else "")
    )


def _learning(learning: Section) -> str:
    extra, worse, usd = learning["extra_usd"], learning["worse_answers"], learning["usd"]
    limit = learning["limit"]
    if usd is not None:
        most = "" if learning["limit_usd"] is None else f", limit {_usd(learning['limit_usd'])}"
        return (
            f"learning cost {_usd(usd['value'])} USD ({_usd(usd['low'])} to {_usd(usd['high'])}): "
            f"{_usd(extra['value'])} extra calls, "
            f"{_usd(learning['worse_answers_usd']['value'])} estimated from worse answers{most}"
        )
    said = f"learning cost {_usd(extra['value'])} USD of extra calls"
    if worse is None:
        return f"{said}; worse answers unknown: {_why(learning)}"
    most = "" if limit is None else f", limit {limit:,.0f}"
    return (
        f"{said} and {worse['value']:,.1f} successes ({worse['low']:,.1f} to {worse['high']:,.1f})"
        f" estimated from worse answers{most}"
    )


def _failures(reliable: Section) -> str:
    avoided, usd = reliable["failed_avoided"], reliable["failed_avoided_usd"]
    worth = "" if usd is None else f", worth {_usd(usd['value'])} USD"
    repeats = reliable["repeats_avoided_usd"]
    return (
        f"{reliable['failed']:,} calls failed, {avoided['value']:,.0f} "
        f"({avoided['low']:,.0f} to {avoided['high']:,.0f}) fewer than the incumbent's{worth}; "
        f"repeats cost {_usd(reliable['repeats_usd'])} USD, {_usd(repeats['value'])} less"
    )


def _why(figures: Section) -> str:
    unknown = figures["unknown"]
    return unknown[0]["said"] if unknown else "no quality signal"


def _usd(value: float) -> str:
    return f"-{amount(-value)}" if value < 0 else amount(value)
