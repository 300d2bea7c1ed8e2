"""The page that people read: state → rows, in the order in which they are asked for. Pure.

Every face shows this one value: the terminal, the file and the live page.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from bandit.families import S
from bandit.matrix import Z90
from bandit.posterior import Posterior
from bandit.verdict import Verdict, VerdictKind

MOST_TASKS = 12
"""Rows of tasks; the others are folded, those that cost least."""


class TaskWord(StrEnum):
    """What there is to say of a task, in a word: the first of these, in this order, that holds."""

    OFF = "off"  # routing is switched off, or its app only observes
    PINNED = "pinned"  # one endpoint: by its app, its strategy, or after a trial without a gain
    NO_SIGNAL = "no signal"  # nothing tells of quality, and no order of the user's decides instead
    PROVEN = "proven"  # a trial or a hold-out of its own has shown something
    MOVED = "moved"  # a release took it from the incumbent to another
    LEARNING = "learning"  # it stands at the incumbent, or there is none


class ChangeKind(StrEnum):
    """What changed."""

    RELEASE = "release"
    PROPOSAL = "proposal"  # a release that waits for a yes
    TRIAL = "trial"
    DRIFT = "drift"
    NEWCOMER = "newcomer"
    GONE = "gone"
    OUTAGE = "outage"
    RECOVERY = "recovery"
    PRICE = "price"
    SUSPENDED = "suspended"
    BUDGET = "budget"
    SWITCH = "switch"


@dataclass(frozen=True, slots=True)
class Signal:
    """What figures rest on: `12,400 tool-call checks`."""

    name: str  # as people say it, in the plural
    n: int

    @property
    def counted_name(self) -> str:
        """Return its name as it stands behind its number: `1 thumb`, `210 thumbs`."""
        return SINGULAR.get(self.name, self.name) if self.n == 1 else self.name


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with what it lies within."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class VerdictLine:
    """A verdict in words, with what it is of and what it rests on."""

    text: str  # the whole sentence, plain
    verdict: Verdict
    signals: tuple[Signal, ...] = ()
    advice: str = ""  # the command that would show it, or that ends it


@dataclass(frozen=True, slots=True)
class SampledSignals:
    """Off what labels are read, where some conversations of an app are left out."""

    share: float | None  # of its conversations; None: as many as a rate of calls allows
    above_calls_per_s: float | None  # that rate: calls of it that each router reads at most
    calls_read: float | None  # of the task's calls of late, whoever's; None: there are none


@dataclass(frozen=True, slots=True)
class TaskLine:
    """One release key's task."""

    task: str
    app: str
    strategy: str
    role: str
    current: str  # endpoint id
    incumbent: str  # empty in learning mode
    quality: Interval | None  # of the choice less the incumbent's, in [-1, 1]; None: not known
    cost_per_success_usd: float | None
    incumbent_cost_per_success_usd: float | None
    spent_usd: float  # in the period
    calls: int
    word: TaskWord
    why: str = ""  # of the word: one clause
    signals: tuple[Signal, ...] = ()
    verdict: Verdict | None = None  # of its own comparison, where it has one
    sampled: SampledSignals | None = None  # off what labels are read; None: off all, or none


@dataclass(frozen=True, slots=True)
class FoldedTasks:
    """Tasks that are not shown."""

    tasks: int
    calls: int
    spent_usd: float


@dataclass(frozen=True, slots=True)
class ChangeLine:
    """Something that changed, with its reason and how to take it back."""

    at_ms: int
    kind: ChangeKind
    subject: str  # endpoint, task or budget
    text: str  # one clause: from what to what, with figures before and after
    reason: str = ""
    undo: str = ""  # one command; empty where there is nothing to undo
    id: str = ""
    app: str = ""


@dataclass(frozen=True, slots=True)
class SpendLine:
    """A budget beside what it holds."""

    name: str
    spent: float
    limit: float
    unit: str  # usd, tokens, calls
    per: str  # hour, day, month
    note: str = ""


@dataclass(frozen=True, slots=True)
class Savings:
    """What routing saved in the period, or why nobody knows."""

    usd: Interval | None
    reason: str = ""  # why nobody knows; of a figure, what it leaves out


@dataclass(frozen=True, slots=True)
class PageTrouble:
    """What needs attention, most urgent first."""

    text: str  # "deepinfra: wrong key"
    since_ms: int = 0  # 0: not known
    fix: str = ""
    is_urgent: bool = True


@dataclass(frozen=True, slots=True)
class RouterLine:
    """A router on this store."""

    name: str
    version: str
    configuration: str  # first 12 hex digits of its digest
    seen_ms: int
    is_this: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """All of it, in order."""

    at_ms: int
    since_ms: int
    scope: str  # in words: "all apps, 7 days", "app shop, task chat"
    sentences: tuple[VerdictLine, ...] = ()  # the first is the verdict; others of further apps
    tasks: tuple[TaskLine, ...] = ()  # at most MOST_TASKS, those that cost most
    folded: FoldedTasks | None = None
    changes: tuple[ChangeLine, ...] = ()  # the newest first
    more_changes: int = 0  # older ones of the period, that are not among them
    spent_usd: float = 0.0
    unpriced_calls: int = 0
    calls: int = 0
    budgets: tuple[SpendLine, ...] = ()
    savings: Savings | None = None
    troubles: tuple[PageTrouble, ...] = ()
    routers: tuple[RouterLine, ...] = ()
    is_off: bool = False
    notes: tuple[str, ...] = field(default=())  # what is missing, and how to begin


SIGNAL_NAMES: Mapping[S, tuple[str, str]] = {
    S.JUDGE: ("judge score", "judge scores"),
    S.EDIT: ("edit", "edits"),
    S.HUMAN: ("thumb", "thumbs"),
    S.TEST: ("test", "tests"),
    S.ANSWER: ("check of an answer", "checks of answers"),
    S.SCHEMA: ("schema check", "schema checks"),
    S.TOOLS: ("tool-call check", "tool-call checks"),
    S.REPEATED: ("question asked again", "questions asked again"),
    S.RETRIED: ("retry", "retries"),
    S.SAID: ("word of a caller", "words of callers"),
}
"""How people say what labels are: of one, of several."""
SINGULAR = {several: one for one, several in SIGNAL_NAMES.values()}


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """What a task's word follows from."""

    why_off: str = ""  # empty: it is not
    why_pinned: str = ""  # empty: it is not
    has_signal: bool = False
    is_order: bool = False  # the user's own order decides, with labels or without
    why_unknown: str = ""  # what would give it a signal, or what an order did not check
    verdict: Verdict | None = None  # of its own trial or hold-out
    verdict_text: str = ""
    moved: str = ""  # when and why; empty: it stands at the incumbent
    note: str = ""  # what else there is to say, where it learns


def word_of(facts: TaskFacts) -> tuple[TaskWord, str]:
    """Return the one word for a task, and why it is that one, in a clause."""
    shown = facts.verdict is not None and facts.verdict.kind is not VerdictKind.NOT_SHOWN
    if facts.why_off:
        return TaskWord.OFF, facts.why_off
    if facts.why_pinned:
        return TaskWord.PINNED, facts.why_pinned
    if not facts.has_signal and not facts.is_order:
        return TaskWord.NO_SIGNAL, facts.why_unknown
    if shown:
        return TaskWord.PROVEN, facts.verdict_text
    if facts.moved:
        unchecked = "" if facts.has_signal else facts.why_unknown
        return TaskWord.MOVED, "; ".join(filter(None, (facts.moved, unchecked)))
    return TaskWord.LEARNING, facts.note


def first_tasks(
    lines: Iterable[TaskLine], most: int = MOST_TASKS
) -> tuple[tuple[TaskLine, ...], FoldedTasks | None]:
    """Return the lines that cost most, the dearest first, and what the others come to together."""
    ranked = sorted(lines, key=lambda line: (-line.spent_usd, -line.calls, line.app, line.task))
    shown, left = ranked[:most], ranked[most:]
    if not left:
        return tuple(shown), None
    calls, spent = sum(line.calls for line in left), sum(line.spent_usd for line in left)
    return tuple(shown), FoldedTasks(len(left), calls, spent)


def quality_difference(
    posterior: Posterior, task: int, group: int, reference: int
) -> Interval | None:
    """Return the posterior difference in quality of two groups, with its central 90 % interval.

    None where both are one, or where nothing tells of one of them in this task.
    """
    if group == reference:
        return None
    judged = posterior.arms.by_group(posterior.judged[[task]].astype(float))[0] > 0
    if not (judged[group] and judged[reference]):
        return None
    mean, sd = posterior.quality.difference(task, reference)
    middle, reach = float(mean[group]), Z90 * float(sd[group])
    return Interval(*(min(max(x, -1.0), 1.0) for x in (middle, middle - reach, middle + reach)))


def signals_of(counts: Mapping[S, int]) -> tuple[Signal, ...]:
    """Return what figures rest on, most first."""
    known = [Signal(SIGNAL_NAMES[kind][1], n) for kind, n in counts.items() if n > 0]
    return tuple(sorted(known, key=lambda signal: (-signal.n, signal.name)))


def added_signals(every: Iterable[Sequence[Signal]]) -> tuple[Signal, ...]:
    """Return what several figures rest on together, most first."""
    total: dict[str, int] = {}
    for signal in (signal for signals in every for signal in signals):
        total[signal.name] = total.get(signal.name, 0) + signal.n
    return tuple(Signal(name, n) for name, n in sorted(total.items(), key=lambda one: -one[1]))


def in_order(troubles: Iterable[PageTrouble]) -> tuple[PageTrouble, ...]:
    """Return each trouble once: the urgent first, of those the newest, what has no time last."""
    once = {trouble.text: trouble for trouble in troubles}
    return tuple(
        sorted(once.values(), key=lambda one: (not one.is_urgent, -one.since_ms, one.text))
    )
