"""What `pointsman profile` says before it spends, and after."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from bandit.profiled import MIN_GRADED
from router.profiling.money import DEFAULT_OUTPUT_TOKENS
from router.profiling.results import ProfileResult

FIX = "`pointsman check --live` shows what an endpoint takes; corrected, the same command goes on"


IN_WORDS = {
    "client_key": "it is called under each caller's own key (auth: client), and there is none here",
    "data_class": "they are more sensitive than what it may have (max_data_class)",
}
"""Of reasons that nobody would guess: the setting."""


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
    if plan["done"] or plan["perhaps_paid_usd"]:
        out.append(
            f"done before: {plan['done']} calls, {plan['spent_usd']:.4f} USD{_perhaps(plan)}; not "
            "sent again"
        )
    if plan["kept"]:
        out.append(f"{plan['kept']} answers of an earlier run are graded first")
    if plan["interrupted"]:
        out.append(
            f"interrupted: {plan['interrupted']} calls ended with their process. Whether they "
            "were paid is not known: they count at their estimate and are not sent again"
        )
    out += [f"note: {note}" for note in plan["notes"]]
    counted = ""
    if plan["without_limit"]:
        counted = f" (prompts without a limit counted at {DEFAULT_OUTPUT_TOKENS} tokens of answer)"
    out.append(
        f"in all: {plan['calls']} calls, about {plan['estimated_usd']:.4f} USD and "
        f"{plan['estimated_s']:,.0f} s{counted}; at most {plan['max_usd']:g} USD"
    )
    if 0 < plan["affordable_calls"] < plan["calls"]:
        cut = plan["calls"] - plan["affordable_calls"]
        out.append(
            f"that is more than --max-usd: about {cut} calls will be cut, evenly over all tasks "
            "and endpoints"
        )
    return out


def _perhaps(plan: Mapping[str, Any]) -> str:
    """Return which part of what was spent may have been paid."""
    perhaps = plan["perhaps_paid_usd"]
    known = plan["spent_usd"] - perhaps
    return f" ({known:.4f}, and about {perhaps:.4f} that may have been paid)" if perhaps else ""


def _row(row: Mapping[str, Any], width: int) -> list[str]:
    price = f"about {row['estimated_usd']:.4f} USD"
    if not row["has_price"]:
        price = "no price is known: --max-usd does not bound it"
    name = f"{row['endpoint']:<{width}}"
    out = [f"  {name}  {row['calls']} calls, {price}, {row['estimated_s']:,.0f} s ({row['place']})"]
    for why, n in row["excluded"].items():
        out.append(f"  {'':<{width}}  not {n} of the prompts: {IN_WORDS.get(why, why)}")
    return out


def too_little(plan: Mapping[str, Any]) -> str:
    """Return that the money is not enough for a single call."""
    return (
        f"--max-usd {plan['max_usd']:g} is below what the first call may cost, about "
        f"{plan['first_usd']:g} USD: nothing was sent; all {plan['calls']} calls may cost "
        f"{plan['estimated_usd']:.2g} USD"
    )


def shown_end(
    plan: Mapping[str, Any],
    end: Mapping[str, Any],
    results: Sequence[ProfileResult],
    *,
    has_sentence: bool,
) -> tuple[list[str], str]:
    """Return what is to be said of a run beside its results, and why it failed, else ""."""
    out = [f"{name}: no answer: {why}" for name, why in end["no_answer"].items()]
    for name, why in end["stopped"].items():
        if name not in end["no_answer"]:
            out.append(f"{name}: nothing more was sent there: {why}")
    if end["stopped"]:
        out.append(FIX)
    for why, n in end["dropped"].items():
        out.append(f"{n} calls were not sent: {why}")
    out += _failures(end, results)
    if end["usage_unknown"]:
        out.append(f"{end['usage_unknown']} answers do not say what they used: at their estimate")
    if end["out_of_money"] and has_sentence:
        out.append(f"{_out_of_money(plan, end)}; {end['all_usd']:g} would be enough for all")
    ungraded = sum(result.ok and result.quality is None for result in results)
    if ungraded:
        out.append(f"{ungraded} answers were not graded")
    out += [f"of {n} answers {said}" for said, n in end["odd"].items()]
    out += _labels(end)
    return out, _failure(plan, end, results, has_sentence=has_sentence)


def _failures(end: Mapping[str, Any], results: Sequence[ProfileResult]) -> list[str]:
    """Return what was said other than asked, and what got no answer and why."""
    out = []
    for name, changed in end["changed"].items():
        for how, n in changed.items():
            out.append(
                f"{name}: {n} calls were sent as it takes them ({how}); calls of your own that say "
                "those fields are refused there"
            )

    def why_of(name: str, why: str) -> str:
        said = end["said"].get(name, {}).get(why)
        return f"{why}: {said}" if said else why or "why was not kept"

    failed = Counter((result.endpoint, result.why) for result in results if not result.ok)
    for (name, why), n in failed.items():
        out.append(f"{name}: {n} calls failed; they count as quality 0: {why_of(name, why)}")
    for name, whys in end["turned_down"].items():
        for why, n in whys.items():
            out.append(
                f"{name}: {n} prompts count neither way, for how they are said: {why_of(name, why)}"
            )
    return out


def _labels(end: Mapping[str, Any]) -> list[str]:
    out, of = [], "(at most 50 a task and endpoint); the next `pointsman up` counts them"
    if end["labels"]:
        out.append(f"{end['labels']} verdicts are labels now {of}")
    elif end["labels_before"]:
        out.append(f"{end['labels_before']} verdicts are labels already")
    if end["why_not"]:
        out.append(f"not all labels were taken: {end['why_not']}; the same command sends the rest")
    return out


def _out_of_money(plan: Mapping[str, Any], end: Mapping[str, Any]) -> str:
    return f"--max-usd {plan['max_usd']:g} is reached: {end['left']} calls were not made"


def _failure(
    plan: Mapping[str, Any],
    end: Mapping[str, Any],
    results: Sequence[ProfileResult],
    *,
    has_sentence: bool,
) -> str:
    judged = [r for r in results if r.ok and r.graded_by in ("", "judge")]
    if end["judge_fault"]:
        return f"the judge {plan['judge']} cannot grade: {end['judge_fault']}. {FIX}"
    if judged and end["judge_asked"] and not any(r.quality is not None for r in judged):
        return f"the judge graded 0 of {len(judged)}: name another by --judge"
    if end["asked_to_stop"]:
        return f"stopped: {end['left']} calls are left; the same command goes on"
    if end["out_of_money"] and not has_sentence:
        return _without_sentence(plan, end)
    if not any(result.ok for result in results):
        return "no endpoint answered"
    return ""


def _without_sentence(plan: Mapping[str, Any], end: Mapping[str, Any]) -> str:
    said = f"{_out_of_money(plan, end)}, too early to advise anything"
    others = {row["endpoint"] for row in plan["endpoints"]} - set(end["stopped"])
    if max(plan["in_file"].values(), default=0) < MIN_GRADED or len(others) < 2:
        return f"{said}; {end['all_usd']:g} would be enough for all of them"
    return f"{said}; {end['enough_usd']:g} would be enough for a sentence"
