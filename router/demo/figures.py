"""What a run of the demo showed, in figures and one sentence."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandit.matrix import ReportRow
from router.demo.budgeted import budget_line
from router.demo.client import ClientLedger, DemoSettings
from router.demo.simulator import fraction
from router.demo.spent import DemoSpend
from router.report import screen
from router.report.matrix_table import print_matrix
from telemetry.recorded import Recorded

CLEARLY = 0.2
ENOUGH = 30
"""Endpoints are compared whose valid shares differ so much, and that served so many calls."""


@dataclass(slots=True)
class LoopCounts:
    """What was folded, by cell."""

    outcomes: NDArray[np.int64]  # (n_categories, n_endpoints)
    labels: NDArray[np.int64]
    derived: NDArray[np.int64]  # what was read off tool calls


@dataclass(slots=True)
class DemoResult:
    """The figures of a run."""

    table: Recorded
    figures: dict[str, Any]
    rows: list[ReportRow]
    sentence: str
    spend: DemoSpend

    def as_json(self) -> dict[str, Any]:
        """Return the figures as one object."""
        return self.figures

    @property
    def is_sound(self) -> bool:
        """Whether every call was answered, nothing lost or doubled, and the ledger is right."""
        wrong = ("lost", "doubled", "failed_calls", "failed_feedback")
        is_right = not self.spend.difference or self.spend.n_estimated > 0
        return is_right and not any(self.figures[name] for name in wrong)


def result_of(
    table: Recorded,
    ledger: ClientLedger,
    answers: NDArray[np.int64],
    counts: LoopCounts,
    rows: list[ReportRow],
    spend: DemoSpend,
    settings: DemoSettings,
) -> DemoResult:
    """Return the figures of a run, held against both ledgers."""
    incumbent = settings.incumbent
    sent = _labels_sent(table, ledger) if settings.feedback else np.zeros_like(answers)
    quarter = slice(3 * len(ledger.served) // 4, None)
    prompts, served = ledger.prompts[quarter], ledger.served[quarter]
    answered = served >= 0
    prompts, served = prompts[answered], served[answered]
    would = table.quality[prompts]  # (n, n_endpoints)
    category = table.category[prompts]
    best = np.zeros(len(prompts))
    for c in np.unique(category):
        best[category == c] = would[category == c].mean(axis=0).max()
    figures = {
        "requests": len(ledger.served),
        "attempts": int(answers.sum()),
        "outcomes_folded": int(counts.outcomes.sum()),
        "feedback_sent": ledger.feedback,
        "feedback_folded": int(counts.labels.sum()),
        "lost": _above(answers, counts.outcomes) + _above(sent, counts.labels),
        "doubled": _above(counts.outcomes, answers) + _above(counts.labels, sent),
        "quality_last_quarter": _mean(would[np.arange(len(prompts)), served]),
        "quality_random": _mean(would),
        "quality_best_single": float(would.mean(axis=0).max()) if len(would) else None,
        "quality_best_per_category": _mean(best),
        "endpoints": table.endpoints,
        "categories": [_category(table, c, counts, rows) for c in range(len(table.categories))],
        "failed_calls": len(ledger.failures),
        "failed_feedback": ledger.feedback_failures,
        "synthetic": table.synthetic,
        "learning_mode": incumbent is None,
        "incumbent": incumbent,
        **spend.as_json(),
        **_against_incumbent(table, ledger, incumbent),
        **(_derived(table, counts, rows) if settings.tool_calls else {}),
    }
    sentence = _sentence(table, figures)
    if settings.tool_calls and not settings.feedback:
        sentence = _derived_sentence(figures)
    return DemoResult(table, figures, rows, sentence, spend)


def _derived(table: Recorded, counts: LoopCounts, rows: list[ReportRow]) -> dict[str, Any]:
    """Return how well what was read off tool calls orders the endpoints by validity."""
    n_prompts, n_endpoints = table.quality.shape
    luck = np.array([[fraction(p, e) for e in range(n_endpoints)] for p in range(n_prompts)])
    valid = luck < table.quality
    right = pairs = 0
    for c, category in enumerate(table.categories):
        found = {row.endpoint: row.reliability for row in rows if row.category == category}
        truth = valid[table.category == c].mean(axis=0)
        known = [e for e in range(n_endpoints) if counts.derived[c, e] >= ENOUGH]
        for a, b in combinations(known, 2):
            if abs(truth[a] - truth[b]) >= CLEARLY:
                first, second = found[table.endpoints[a]], found[table.endpoints[b]]
                pairs += 1
                right += (first > second) == bool(truth[a] > truth[b])
    return {
        "derived_folded": int(counts.derived.sum()),
        "quality_signal": bool(counts.labels.any()),
        "validity_pairs": pairs,
        "validity_pairs_right": right,
        "usable": {
            c: {r.endpoint: r.usable for r in rows if r.category == c} for c in table.categories
        },
    }


def _derived_sentence(figures: dict[str, Any]) -> str:
    return (
        f"No feedback was given: no quality signal. From {figures['derived_folded']} tool calls "
        "the sidecar read by itself whether they fitted the tools that were offered; in the "
        f"reliability posterior {figures['validity_pairs_right']} of {figures['validity_pairs']} "
        "pairs of endpoints with clearly different validity are in the right order."
    )


def _against_incumbent(
    table: Recorded, ledger: ClientLedger, incumbent: str | None
) -> dict[str, float | None]:
    """Return what the incumbent would have earned on the same calls, and how many it kept."""
    if incumbent is None:
        return {"quality": None, "quality_incumbent": None, "incumbent_kept": None}
    answered = ledger.served >= 0
    prompts, served = ledger.prompts[answered], ledger.served[answered]
    place = table.endpoints.index(incumbent)
    return {
        "quality": _mean(table.quality[prompts, served]),
        "quality_incumbent": _mean(table.quality[prompts, place]),
        "incumbent_kept": _mean((served == place).astype(float)),
    }


def _labels_sent(table: Recorded, ledger: ClientLedger) -> NDArray[np.int64]:
    """Return how many labels the client sent, by cell; every answered call has one."""
    sent = np.zeros((len(table.categories), len(table.endpoints)), dtype=np.int64)
    answered = ledger.served >= 0
    category = table.category[ledger.prompts[answered]]
    np.add.at(sent, (category, ledger.served[answered]), 1)
    return sent


def _above(a: NDArray[np.int64], b: NDArray[np.int64]) -> int:
    return int(np.maximum(a - b, 0).sum())


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if values.size else None


def _category(table: Recorded, c: int, counts: LoopCounts, rows: list[ReportRow]) -> dict[str, Any]:
    name = table.categories[c]
    own = [row for row in rows if row.category == name]
    chosen = max(own, key=lambda row: row.share or 0.0, default=None)
    truth = table.quality[table.category == c].mean(axis=0)
    return {
        "category": name,
        "calls": int(counts.outcomes[c].sum()),
        "most_used": chosen.endpoint if chosen else None,
        "share": chosen.share if chosen else None,
        "p_best": {row.endpoint: row.p_best for row in own},
        "recorded_best": table.endpoints[int(truth.argmax())],
        "recorded_quality": dict(zip(table.endpoints, truth.round(4).tolist(), strict=True)),
    }


def _sentence(table: Recorded, figures: dict[str, Any]) -> str:
    served, single = figures["quality_last_quarter"], figures["quality_best_single"]
    if served is None or single is None:
        return "No call was answered, so nothing was learned."
    if figures["incumbent"] is not None and figures["quality"] is not None:
        ahead = (figures["quality"] - figures["quality_incumbent"]) * 100
        return (
            f"Guarded by {figures['incumbent']}: over all {figures['requests']} calls quality "
            f"{figures['quality']:.3f}, {ahead:+.1f} points against the incumbent alone; it kept "
            f"{figures['incumbent_kept']:.0%} of the calls. The last quarter was served with "
            f"{served:.3f}; the best single endpoint in hindsight has {single:.3f}."
        )
    n = sum(c["most_used"] == c["recorded_best"] for c in figures["categories"])
    gain = (served - single) * 100
    verdict = f"{gain:+.1f} points against the best single endpoint in hindsight ({single:.3f})"
    return (
        f"Learned from {figures['requests']} calls: the last quarter was served with quality "
        f"{served:.3f}, {verdict}; random gives {figures['quality_random']:.3f}, the best "
        f"endpoint of each category {figures['quality_best_per_category']:.3f}; the most used "
        f"endpoint is the recorded best in {n} of {len(table.categories)} categories."
    )


def print_result(result: DemoResult) -> None:
    """Print the report and what was learned."""
    console = screen.console()
    print_matrix(result.rows, console)
    figures = result.figures
    console.print(
        f"calls {figures['requests']}, attempts {figures['attempts']}, "
        f"outcomes folded {figures['outcomes_folded']}, labels folded "
        f"{figures['feedback_folded']} of {figures['feedback_sent']}, "
        f"lost {figures['lost']}, doubled {figures['doubled']}"
    )
    if result.table.synthetic:
        console.print("The outcomes are synthetic: an invented table that ships with the program.")
    console.print(result.sentence, style="bold")
    console.print(result.spend.line())
    if "budget_usd" in figures:
        console.print(budget_line(figures))
