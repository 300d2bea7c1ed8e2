"""The proof that no word and no frame changes what a prompt looks like. `scripts/prove classify`.

Two sets of exemplars, written for this: what developers ask, and what an office asks; six tasks of
forty each. Each third is held out in turn. The prompts of it are asked alone, and joined to longer
ones, a thousand in all. Of each that looks like a task one word is changed at random; the one is
exchanged that harms most; marks are put in; and the frames of coding agents and frameworks are
wrapped around it, filled with exemplars of another task.

faults: changes to another task. Silence is no fault, and is counted. Beside it stands how often the
task is right, for each set, beside a majority guess and keyword rules.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from msgspec import Struct

from router.classify.classifier import Classifier
from router.classify.evaluate import THIRDS, evaluate, split
from scripts.proofs.classify_changes import Changer
from scripts.proofs.classify_harness import WRAPS
from scripts.proofs.classify_sabotage import ClassifySabotage, broken

DATA = Path(__file__).parent / "data"
SETS = ("team", "desk")
PROMPTS, RANDOM, QUICK_RANDOM = 1_000, 50, 5
LEAST_SAID = 300
"""Of a thousand; with fewer there is nothing that could change."""
SHOWN = 5
Exemplars = dict[str, list[str]]


class ClassifySettings(Struct, frozen=True):
    """What to play."""

    n_random: int = RANDOM  # random changes of each prompt
    n_prompts: int = PROMPTS
    seed: int = 0
    sabotage: ClassifySabotage | None = None


class HeldOutPrompt(Struct, frozen=True):
    """A prompt, who knows nothing of it, and text of another task."""

    classifier: Classifier
    changer: Changer
    task: str
    text: str
    beside: str


def prove_classify(settings: ClassifySettings) -> dict[str, Any]:
    """Ask about all prompts, as they are and changed; return the figures."""
    with broken(settings.sabotage):
        random = Random(settings.seed)  # noqa: S311 - figures, no secrets
        tried, silent, shown = Counter[str](), Counter[str](), list[dict[str, Any]]()
        n_prompts = n_said = n_right = 0
        for asked in _asked(random, settings.n_prompts):
            n_prompts += 1
            task = _said(asked.classifier, asked.text)
            if task is None:
                continue
            n_said, n_right = n_said + 1, n_right + (task == asked.task)
            for kind, text in _changes(asked, task, settings.n_random):
                now = _said(asked.classifier, text)
                tried[kind] += 1
                silent[kind] += now is None
                if now not in (task, None):
                    shown.append({"kind": kind, "was": task, "is": now, "text": text[-300:]})
        return {
            "prompts": n_prompts,
            "said": n_said,
            "said_rightly": n_right,
            "changes": tried.total(),
            "faults": len(shown),
            "fell_silent": {kind: [silent[kind], n] for kind, n in tried.items()},
            "sets": {name: evaluate(exemplars_of(name)).as_json() for name in SETS},
            "shown": shown[:SHOWN],
        }


def exemplars_of(name: str) -> Exemplars:
    """Return a set of exemplars, by task."""
    found: Exemplars = {}
    for line in (DATA / f"prompts_{name}.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found.setdefault(row["task"], []).append(row["text"])
    return found


def _asked(random: Random, n_left: int) -> Iterator[HeldOutPrompt]:
    """Yield so many prompts: all alone, then joined by two and by three."""
    thirds = []
    for name in SETS:
        for third in range(THIRDS):
            taught, held = split(exemplars_of(name), third)
            classifier = Classifier(taught)
            thirds.append((classifier, Changer(classifier, random), held))
    for n_joined in (1, 2, 3):
        for classifier, changer, held in thirds:
            for task, texts in held.items():
                for text in texts[:n_left]:
                    n_left -= 1
                    more = random.sample([t for t in texts if t != text], n_joined - 1)
                    other = random.choice([t for t in held if t != task])
                    beside = " ".join(random.sample(held[other], 4))
                    yield HeldOutPrompt(classifier, changer, task, "\n".join([text, *more]), beside)


def _changes(asked: HeldOutPrompt, task: str, n_random: int) -> Iterator[tuple[str, str]]:
    for _ in range(n_random):
        yield "a word at random", asked.changer.at_random(asked.text)
    for text in asked.changer.harmful(asked.text, task):
        yield "the word that harms most", text
    for text in asked.changer.marked(asked.text):
        yield "a mark", text
    for name, wrap in WRAPS.items():
        yield name, wrap(asked.text, asked.beside)


def _said(classifier: Classifier, text: str) -> str | None:
    likeness = classifier.like(text)
    return likeness.said if likeness else None


def print_figures(figures: dict[str, Any]) -> None:
    """Print what a reader looks for, a line each."""
    print(f"{figures['prompts']} prompts, {figures['said']} look like a task")
    print(f"{figures['changes']} changes, {figures['faults']} to another task; fell silent:")
    for kind, (n, of) in figures["fell_silent"].items():
        print(f"  {kind}: {n} of {of} ({n / of:.1%})")
    for name, shares in figures["sets"].items():
        print(
            f"{name}, held out: right in {shares['accuracy_where_said']:.1%} where a task is said,"
            f" which is of {shares['coverage']:.1%}; the likeliest is right in"
            f" {shares['likeliest']:.1%}, a majority guess in {shares['majority']:.1%},"
            f" keyword rules in {shares['keywords']:.1%}"
        )


def main(argv: Sequence[str]) -> int:
    """Change a word of each prompt, and wrap it; return the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/prove classify", description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_RANDOM} random changes each")
    parser.add_argument("--seed", type=int, default=0, help="of all that is left to chance")
    parser.add_argument("--sabotage", choices=list(ClassifySabotage), help="break it on purpose")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    sabotage = ClassifySabotage(options.sabotage) if options.sabotage else None
    n_random = QUICK_RANDOM if options.quick else RANDOM
    began = time.monotonic()
    figures = prove_classify(ClassifySettings(n_random, seed=options.seed, sabotage=sabotage))
    print(f"took {time.monotonic() - began:.0f} s", file=sys.stderr)
    for one in figures.pop("shown"):
        print(json.dumps(one, ensure_ascii=False), file=sys.stderr)
    if options.json:
        print(json.dumps(figures, ensure_ascii=False))
    else:
        print_figures(figures)
    return verdict(figures)


def verdict(figures: dict[str, Any]) -> int:
    """Return the exit code: 1 for faults, or where too few prompts look like a task."""
    if figures["said"] < LEAST_SAID:
        print(f"only {figures['said']} look like a task: nothing is shown", file=sys.stderr)
    return int(figures["faults"] > 0 or figures["said"] < LEAST_SAID)
