"""`pointsman classify`: how well exemplars tell tasks apart, and what one text looks like."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from router.commands.classify_file import HALF_CHARACTER, HALVES, BadExemplars, read_exemplars
from router.commands.console import BAD_INPUT, fail, print_json
from router.commands.inputs import written

if TYPE_CHECKING:
    from rich.table import Table

    from router.classify.evaluate import Evaluation, Exemplars, Near
    from router.classify.repeated import Repeated

NEAREST = 8
SHOWN_WORDS = 8
NO_EXEMPLARS = (
    "no exemplars of two tasks: list prompts under tasks.<name>.exemplars in the configuration, or"
    ' name a FILE of lines {"task": "code", "text": "Fix the bug"}; ten of a task are enough'
)
UNCLEAR = "part of an agent's boilerplate is missing (an unmatched tag, or half of a set phrase)"


def classify(file: Path | None, text: str | None, *, config: Path | None, as_json: bool) -> None:
    """Show accuracy and confusion, or what one text looks like."""
    from router.classify.evaluate import evaluate, nearest
    from router.classify.repeated import repeated

    exemplars = _exemplars(file, config)
    if sum(1 for texts in exemplars.values() if texts) < 2:
        fail(NO_EXEMPLARS, BAD_INPUT)
    if text is not None:
        if HALF_CHARACTER.search(text):
            fail(f"--text holds bytes that are no UTF-8, or half a character ({HALVES})", BAD_INPUT)
        _show_text(exemplars, text, as_json=as_json)
        return
    found, near = evaluate(exemplars), nearest(exemplars, most=NEAREST)
    shipped = {} if file is not None else _shipped(exemplars)
    if as_json:
        print_json(_as_json(found, near) | _apart(exemplars, shipped))
    else:
        _show(found, near, repeated(exemplars), sum(shipped.values()))


def _exemplars(file: Path | None, config: Path | None) -> dict[str, list[str]]:
    if file is None:
        return configured_exemplars(config)
    try:
        return read_exemplars(file)
    except BadExemplars as error:
        fail(str(error), BAD_INPUT)


def configured_exemplars(config: Path | None) -> dict[str, list[str]]:
    """Return the exemplars of prompts that the configuration lists, by task."""
    from router.config.exemplars import prompt_exemplars

    found = prompt_exemplars(written(config, secrets=False))
    return {name: list(texts) for name, texts in found.items() if texts}


def _shipped(exemplars: Exemplars) -> dict[str, int]:
    """Return by task how many of its exemplars come with the sidecar, where some do."""
    from router.classify.starters import starter_prompts

    theirs = starter_prompts()
    found = {task: len(set(texts) & set(theirs.get(task, ()))) for task, texts in exemplars.items()}
    return {task: n for task, n in found.items() if n}


def _apart(exemplars: Exemplars, shipped: dict[str, int]) -> dict[str, Any]:
    from router.classify.repeated import repeated

    told = [{"text": one.text, "tasks": one.tasks} for one in repeated(exemplars)]
    return {"shipped": shipped, "repeated": told}


def _show_text(exemplars: Exemplars, text: str, *, as_json: bool) -> None:
    from router.classify.boilerplate import without_boilerplate
    from router.classify.classifier import Classifier

    classifier = Classifier(exemplars)
    likeness, words = classifier.like(text), classifier.words_for(text)
    if as_json:
        print_json(
            {
                "said": likeness.said if likeness else None,
                "task": likeness.task if likeness else None,
                "lead": round(likeness.lead, 3) if likeness else None,
                "margin": round(likeness.margin, 3) if likeness else None,
                "words": {word: round(says, 3) for word, says in words},
            }
        )
        return
    if likeness is None:
        unclear = without_boilerplate(text) is None
        print(f"looks like nothing: {UNCLEAR if unclear else 'no word of it is known'}")
        return
    leads = f"leads by {likeness.lead:.2f} words, and must lead by {likeness.margin:.2f}"
    if likeness.said:
        print(f"looks like {likeness.said}: it {leads}")
    else:
        print(f"looks like nothing: {likeness.task} {leads}")
    for sign, label in ((1, "for it"), (-1, "for the next one")):
        told = [f"{w.strip('`')} {abs(s):.2f}" for w, s in words[::sign] if s * sign > 0]
        if told:
            print(f"{label}: {', '.join(told[:SHOWN_WORDS])}")


def _as_json(found: Evaluation, near: list[Near]) -> dict[str, Any]:
    return {
        **found.as_json(),
        "too_few": found.too_few(),
        "nearest_to_another": [
            {"task": n.task, "like": n.like, "lead": round(n.lead, 3), "text": n.text} for n in near
        ],
    }


def _show(found: Evaluation, near: list[Near], twice: list[Repeated], n_shipped: int) -> None:
    from router.report.screen import console

    to = console()

    def tell(line: str, style: str = "") -> None:
        to.print(line, style=style, markup=False, highlight=False)

    shares = found.as_json()
    tell(
        f"{found.n} exemplars of {len(found.asked)} tasks{_whose(found.n, n_shipped)}; each third"
        " was held out in turn, and asked about."
    )
    tell(
        f"{_percent(shares['coverage'])} are said to look like a task, of these"
        f" {_percent(shares['accuracy_where_said'])} rightly; of the others nothing is said."
    )
    tell(
        f"Right of all: {_percent(shares['accuracy_of_all'])}. A majority guess is right in"
        f" {_percent(shares['majority'])}, keyword rules in {_percent(shares['keywords'])}."
    )
    to.print()
    to.print(_table(found))
    if near:
        tell("\nNearest to another task:")
    for one in near:
        looks = f"looks like {one.like}" if one.like != one.task else "hardly looks like it"
        tell(f"  {one.task}, {looks}: {_brief(one.text)}")
    for each in twice[:NEAREST]:
        tell(f"{_brief(each.text)}: {each}", "yellow")
    if len(twice) > NEAREST:
        tell(f"and {len(twice) - NEAREST} more texts are there more than once", "yellow")
    for task, n in found.too_few().items():
        tell(f"{task}: {found.asked[task]} exemplars; write {n} more, ten are the least", "yellow")


def _whose(n: int, n_shipped: int) -> str:
    """Return whose exemplars are measured: what holds for shipped ones need not for yours."""
    if not n_shipped:
        return ""
    if n_shipped == n:
        return ", all shipped with Pointsman: this says nothing of prompts of yours"
    return f", {n_shipped} of them shipped with Pointsman and {n - n_shipped} yours"


def _table(found: Evaluation) -> Table:
    """Return what became of each task's exemplars."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("\ntask", overflow="fold")
    for heading in ("exem-\nplars", "\nright", "noth-\ning"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("\ntaken for", overflow="fold")
    for task, said in found.confusion.items():
        wrong = [f"{other} {n}" for other, n in said.items() if other not in ("", task)]
        counts = (found.asked[task], said.get(task, 0), said.get("", 0))
        table.add_row(task, *map(str, counts), ", ".join(wrong))
    return table


def _brief(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 90 else f"{line[:89]}…"


def _percent(share: Any) -> str:
    return "–" if share is None else f"{share:.1%}"
