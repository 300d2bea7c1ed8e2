"""What `pointsman profile` says before it spends, and after."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from router.profiling.money import DEFAULT_OUTPUT_TOKENS
from router.profiling.results import ProfileResult

FIX = (
    "Correct its key, model or address (`pointsman check --live` says which); "
    "the same command goes on"
)


def shown_commands(commands: Sequence[Sequence[str]]) -> list[str]:
    """Return what is run, command by command."""
    out = [f"{len(commands)} check commands, each run once an answer, for 10 s at most:"]
    return out + [f"  {shlex.join(words)}" for words in commands]


def shown_plan(plan: Mapping[str, Any], *, judges_itself: bool) -> list[str]:
    """Return what will be sent where, and what it costs."""
    out = []
    tasks = ", ".join(f"{n} of {task}" for task, n in plan["tasks"].items())
    out.append(f"prompts: {tasks or 'none'}")
    width = max(len(row["endpoint"]) for row in plan["endpoints"])
    for row in plan["endpoints"]:
        out += _row(row, width)
    if plan["judge"] is not None:
        out.append(
            f"judge {plan['judge']} ({plan['judge_place']}) reads prompts and answers: "
            f"about {plan['judge_usd']:.4f} USD"
        )
        if judges_itself:
            out.append(f"note: {plan['judge']} judges its own answers, too")
    if plan["done"]:
        out.append(
            f"done before: {plan['done']} calls, {plan['spent_usd']:.4f} USD; not sent again"
        )
    if plan["kept"]:
        out.append(f"{plan['kept']} answers of an earlier run are graded first")
    if plan["interrupted"]:
        out.append(
            f"interrupted: {plan['interrupted']} calls ended with their process. Whether they "
            "were paid is not known: they count at their estimate and are not sent again"
        )
    out += [f"note: {note}" for note in plan["notes"]]
    out.append(
        f"in all: {plan['calls']} calls, about {plan['estimated_usd']:.4f} USD and "
        f"{plan['estimated_s']:,.0f} s (prompts without a limit counted at "
        f"{DEFAULT_OUTPUT_TOKENS} tokens of answer); at most {plan['max_usd']:g} USD"
    )
    if plan["affordable_calls"] < plan["calls"]:
        cut = plan["calls"] - plan["affordable_calls"]
        out.append(
            f"that is more than --max-usd: about {cut} calls will be cut, evenly over all tasks "
            "and endpoints"
        )
    return out


def _row(row: Mapping[str, Any], width: int) -> list[str]:
    price = f"about {row['estimated_usd']:.4f} USD"
    if not row["has_price"]:
        price = "no price is known: --max-usd does not bound it"
    name = f"{row['endpoint']:<{width}}"
    out = [f"  {name}  {row['calls']} calls, {price}, {row['estimated_s']:,.0f} s ({row['place']})"]
    out += [f"  {'':<{width}}  not {n} of the prompts: {why}" for why, n in row["excluded"].items()]
    return out


def shown_end(
    plan: Mapping[str, Any], end: Mapping[str, Any], results: Sequence[ProfileResult]
) -> tuple[list[str], str]:
    """Return what is to be said of a run beside its results, and why it failed, else ""."""
    out = []
    for name, why in end["stopped"].items():
        out.append(f"{name}: nothing more was sent there: {why}. {FIX}")
    for why, n in end["dropped"].items():
        out.append(f"{n} calls were not sent: {why}")
    failed = Counter(result.endpoint for result in results if not result.ok)
    out += [f"{name}: {n} calls failed; they count as quality 0" for name, n in failed.items()]
    if end["usage_unknown"]:
        out.append(f"{end['usage_unknown']} answers do not say what they used: at their estimate")
    if end["out_of_money"]:
        out.append(f"--max-usd is reached: {end['left']} calls were not made")
    ungraded = sum(result.ok and result.quality is None for result in results)
    if ungraded:
        out.append(f"{ungraded} answers were not graded")
    if end["labels"]:
        out.append(
            f"{end['labels']} verdicts are labels now (at most 50 a task and endpoint); the next "
            "`pointsman up` counts them"
        )
    if end["why_not"]:
        out.append(f"not all labels were taken: {end['why_not']}; the same command sends the rest")
    return out, _failure(plan, end, results)


def _failure(
    plan: Mapping[str, Any], end: Mapping[str, Any], results: Sequence[ProfileResult]
) -> str:
    judged = [r for r in results if r.ok and r.graded_by in ("", "judge")]
    if end["judge_fault"]:
        return f"the judge {plan['judge']} cannot grade: {end['judge_fault']}. {FIX}"
    if judged and end["judge_asked"] and not any(r.quality is not None for r in judged):
        return f"the judge graded 0 of {len(judged)}: name another by --judge"
    if end["asked_to_stop"]:
        return f"stopped: {end['left']} calls are left; the same command goes on"
    if not any(result.ok for result in results):
        return "no endpoint answered"
    return ""
