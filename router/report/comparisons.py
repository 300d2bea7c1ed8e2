"""Trials and hold-outs beside what they show: which sentence is told, and of which task."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bandit.report import Signal, VerdictLine
from bandit.verdict import Basis, Verdict, VerdictKind
from router.report.period import LineKey
from router.report.sentences import ComparedNames, sentence
from telemetry.trials import Trial, TrialState

MOST_SENTENCES = 4
"""Of apps that have one; the page is to be read."""


@dataclass(frozen=True, slots=True)
class ToldTrial:
    """What was last worked out of a trial, as the store has it."""

    verdict: Verdict | None = None  # by itself: what the sentence on top says
    row: Verdict | None = None  # where all tasks' rows share what may be claimed by chance
    signals: tuple[Signal, ...] = ()
    by_episode: bool = False
    holdout: Verdict | None = None  # of the hold-out that it left
    holdout_row: Verdict | None = None
    holdout_signals: tuple[Signal, ...] = ()


@dataclass(frozen=True, slots=True)
class TrialComparison:
    """A trial with the verdict that is told of it."""

    trial: Trial
    verdict: Verdict
    row: Verdict
    signals: tuple[Signal, ...]
    by_episode: bool = False

    @property
    def key(self) -> LineKey:
        """Of which task's row it is."""
        trial = self.trial
        return LineKey(trial.app, trial.strategy, trial.role, trial.task)

    @property
    def rank(self) -> tuple[bool, bool, bool, int]:
        """Order comparisons of an app: the whole app's first, who runs before who is over."""
        trial = self.trial
        is_shown = self.verdict.kind is not VerdictKind.NOT_SHOWN
        is_over = trial.state is TrialState.ENDED
        return not trial.is_of_app, is_over, not is_shown, -trial.began_ms


def compare(trials: Iterable[Trial], told: Mapping[str, ToldTrial]) -> list[TrialComparison]:
    """Return each trial with its verdict, the latest first.

    A won trial's hold-out is told once it shows something, until then the trial, with its date:
    the two are never pooled.
    """
    return [
        _told_of(trial, told.get(trial.id, ToldTrial()))
        for trial in sorted(trials, key=lambda one: -one.began_ms)
    ]


def _told_of(trial: Trial, told: ToldTrial) -> TrialComparison:
    if told.holdout is not None and told.holdout.kind is not VerdictKind.NOT_SHOWN:
        row, signals = told.holdout_row or told.holdout, told.holdout_signals
        return TrialComparison(trial, told.holdout, row, signals, told.by_episode)
    nothing = Verdict(
        VerdictKind.NOT_SHOWN, Basis.TRIAL, at_ms=trial.began_ms, ended_ms=trial.ended_ms
    )
    verdict = told.verdict or nothing
    return TrialComparison(trial, verdict, told.row or verdict, told.signals, told.by_episode)


def of_line(found: Iterable[TrialComparison], key: LineKey) -> TrialComparison | None:
    """Return the latest comparison of a task's row."""
    return next((one for one in found if one.key == key), None)


def verdict_lines(found: Iterable[TrialComparison], *, names_app: bool) -> list[VerdictLine]:
    """Return a sentence for each app with a comparison, what is shown and runs first."""
    best: dict[str, TrialComparison] = {}
    for one in found:
        best[one.trial.app] = min(best.get(one.trial.app, one), one, key=lambda each: each.rank)
    ranked = sorted(best.values(), key=lambda one: one.rank)[:MOST_SENTENCES]
    return [_line(one, names_app=names_app) for one in ranked]


def _line(one: TrialComparison, *, names_app: bool) -> VerdictLine:
    trial = one.trial
    of = ComparedNames(
        incumbent=trial.incumbent,
        challenger=trial.challenger,
        app=trial.app if names_app or trial.is_of_app else "",
        task=trial.task,
        names_app=names_app,
        units="episodes" if one.by_episode else "sessions",
    )
    runs = trial.state is TrialState.RUNNING
    advice = f"pointsman trial stop {trial.id}" if runs else ""
    return VerdictLine(sentence(one.verdict, of), one.verdict, one.signals, advice)


def trial_command(key: LineKey, challenger: str, *, names_app: bool, is_locked: bool) -> str:
    """Return the command of the trial that would show whether routing is worth it."""
    if is_locked:
        return f"pointsman trial --app {shlex.quote(key.app)}"
    parts = ["pointsman trial", shlex.quote(key.task)]
    if names_app:
        parts.append(f"--app {shlex.quote(key.app)}")
    if key.role:
        parts.append(f"--role {shlex.quote(key.role)}")
    return " ".join([*parts, f"--challenger {shlex.quote(challenger)}"])
