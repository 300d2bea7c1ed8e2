"""How long it takes to tell what a text looks like: p50 and p99 by length and number of tasks.

Texts are cut out of this project's own pages, so that most words were in no exemplar, and one in
ten is an exemplar's. Beside it, text by text, `re.findall` looks for words over the same text.
"""

from __future__ import annotations

import gc
import re
import time
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from router.classify.classifier import Classifier
from router.classify.starters import starter_prompts, starter_systems
from scripts.proofs.classify import SETS, exemplars_of

WARM_UP, ROUNDS = 20, 500
KILOBYTES = (1, 8, 64)
N_TASKS = (3, 10, 20)
GOAL_MS = 2.0
"""p99 of 8 kB."""
EXEMPLARS = 50
TEACH_GOAL_S, STARTER_GOAL_S = 1.0, 0.05
DOCS = Path(__file__).parent.parent.parent / "docs"


def run_bench() -> dict[str, Any]:
    """Return milliseconds by number of tasks and kilobytes, and seconds that teaching takes."""
    pages = "\n".join(path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md")))
    rows = []
    for n_tasks in N_TASKS:
        exemplars = _exemplars(n_tasks)
        classifier = Classifier(exemplars)
        texts = [text for of in exemplars.values() for text in of]
        for kilobytes in KILOBYTES:
            rows.append(
                {
                    "tasks": n_tasks,
                    "kb": kilobytes,
                    **_measured(classifier, pages, texts, kilobytes),
                }
            )
    teaching_s = min(_seconds(Classifier, _exemplars(20)) for _ in range(5))
    starters_s = min(
        _seconds(Classifier, starter_prompts()) + _seconds(Classifier, starter_systems())
        for _ in range(5)
    )
    return {
        "rows": rows,
        "teaching_20x50_s": round(teaching_s, 4),
        "teaching_starters_s": round(starters_s, 4),
        "kept": {
            "8 kB": all(row["p99_ms"] <= GOAL_MS for row in rows if row["kb"] == 8),
            "teaching": teaching_s <= TEACH_GOAL_S and starters_s <= STARTER_GOAL_S,
        },
    }


def print_table(measured: dict[str, Any]) -> None:
    """Print what was measured, a row each."""
    print("tasks   kB   p50 ms   p99 ms   reference p50 ms   reference p99 ms")
    for row in measured["rows"]:
        print(
            f"{row['tasks']:5} {row['kb']:4} {row['p50_ms']:8.3f} {row['p99_ms']:8.3f}"
            f" {row['reference_p50_ms']:18.3f} {row['reference_p99_ms']:18.3f}"
        )
    print(
        f"teaching: 20 tasks of 50 exemplars {measured['teaching_20x50_s'] * 1e3:.0f} ms,"
        f" the starters, both kinds, {measured['teaching_starters_s'] * 1e3:.0f} ms"
    )
    kept = [
        f"{name}: {'kept' if is_kept else 'missed'}" for name, is_kept in measured["kept"].items()
    ]
    print(f"goals (p99 of 8 kB ≤ {GOAL_MS} ms; teaching): {', '.join(kept)}")


def _measured(
    classifier: Classifier, pages: str, exemplars: list[str], kilobytes: int
) -> dict[str, float]:
    random = Random(kilobytes)  # noqa: S311 - figures, no secrets
    took, beside = np.empty(ROUNDS), np.empty(ROUNDS)
    gc.collect()
    for i in range(-WARM_UP, ROUNDS):
        text = _text(pages, exemplars, kilobytes * 1000, random)
        began = time.perf_counter_ns()
        re.findall(r"\w+", text)
        middle = time.perf_counter_ns()
        classifier.like(text)
        ended = time.perf_counter_ns()
        beside[max(i, 0)], took[max(i, 0)] = middle - began, ended - middle
    p50, p99 = np.percentile(took, [50, 99]) / 1e6
    reference_p50, reference_p99 = np.percentile(beside, [50, 99]) / 1e6
    return {
        "p50_ms": round(float(p50), 3),
        "p99_ms": round(float(p99), 3),
        "reference_p50_ms": round(float(reference_p50), 3),
        "reference_p99_ms": round(float(reference_p99), 3),
    }


def _text(pages: str, exemplars: list[str], size: int, random: Random) -> str:
    known = " ".join(random.choices(exemplars, k=size // 1000))
    start = random.randrange(len(pages) - size)
    return f"{known}\n{pages[start : start + size]}"[:size]


def _exemplars(n_tasks: int) -> dict[str, list[str]]:
    """Return exemplars of so many tasks; from the 13th on they are dealt out of the twelve."""
    found = {f"{name}/{task}": list(of) for name in SETS for task, of in exemplars_of(name).items()}
    everything = [text for of in found.values() for text in of]
    for i in range(len(found), n_tasks):
        found[f"more/{i}"] = everything[i :: n_tasks - 1]
    for task, texts in found.items():
        found[task] = [texts[i % len(texts)] + f" {task} {i}" for i in range(EXEMPLARS)]
    return dict(list(found.items())[:n_tasks])


def _seconds(make: type[Classifier], exemplars: dict[str, list[str]]) -> float:
    began = time.perf_counter()
    make(exemplars)
    return time.perf_counter() - began
