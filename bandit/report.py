"""The page that people read: state → rows, in the order in which they are asked for. Pure.

Every face shows this one value: the terminal, the file and the live page.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from bandit.verdict import Verdict

MOST_TASKS = 12
"""Rows of tasks; the others are folded, those that cost least."""


class TaskWord(StrEnum):
    """What there is to say of a task, in a word."""

    PROVEN = "proven"
    MOVED = "moved"
    LEARNING = "learning"
    NO_SIGNAL = "no signal"
    PINNED = "pinned"
    OFF = "off"


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
    reason: str = ""


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
    spent_usd: float = 0.0
    unpriced_calls: int = 0
    calls: int = 0
    budgets: tuple[SpendLine, ...] = ()
    savings: Savings | None = None
    troubles: tuple[PageTrouble, ...] = ()
    routers: tuple[RouterLine, ...] = ()
    is_off: bool = False
    notes: tuple[str, ...] = field(default=())  # what is missing, and how to begin
