"""The page's rows: one for each app's task, by strategy and role, with its one word."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bandit.families import GIVEN, S
from bandit.matrix import ReportRow
from bandit.report import (
    FoldedTasks,
    Interval,
    TaskFacts,
    TaskLine,
    first_tasks,
    quality_difference,
    signals_of,
    word_of,
)
from bandit.utility import Order
from router.beliefs.beliefs import Beliefs
from router.beliefs.choices import UNCHECKED
from router.config.compiled import App, Configuration
from router.config.entries import Mode
from router.config.strategies import Exchangeable
from router.policy.route import incumbent_of
from router.policy.standing import PolicyTable
from router.report.comparisons import TrialComparison, of_line
from router.report.page_wish import PageWish
from router.report.period import LineKey, Period, PeriodSpend
from router.report.sampled import sampled_signals
from router.report.sentences import ComparedNames, clause
from router.report.views import report_rows
from telemetry.dates import utc_day
from telemetry.trials import TrialState

OBSERVES = "the app only observes"
SWITCHED_OFF = "routing is switched off"
PASSED_ON = "passed on as it came"
NOT_THERE = "not in the configuration any more"
NAMED = "its calls name their model"
KEEPS_MODEL = "its strategy keeps the model"
SAYS_NOTHING = "nobody says what was good"
READ_OFF = "read off calls alone, which tells nothing of quality yet"

Choice = Mapping[str, Any]
"""A row of `choices.rows_of`."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """What lines are made of."""

    beliefs: Beliefs
    period: Period
    comparisons: Sequence[TrialComparison]
    choices: Sequence[Choice]
    is_off: bool
    proposals: Mapping[LineKey, str] = field(default_factory=dict)  # what waits for a yes


def task_lines(
    gathered: Gathered, wish: PageWish, most: int
) -> tuple[tuple[TaskLine, ...], FoldedTasks | None]:
    """Return the lines of what is wished, the dearest first, and what the others come to."""
    chosen = _by_key(gathered.choices, wish)
    called = [key for key in gathered.period.lines if _has_traffic(gathered.beliefs, key)]
    keys = dict.fromkeys([*called, *chosen])
    lines = [_line(gathered, key, chosen.get(key)) for key in keys]
    shown, folded = first_tasks(lines, most)
    return tuple(with_figures(gathered.beliefs, shown)), folded


def _by_key(choices: Iterable[Choice], wish: PageWish) -> dict[LineKey, Choice]:
    """Return the row of each key; of those of several callers' models the one with most calls."""
    found: dict[LineKey, Choice] = {}
    for row in choices:
        key = LineKey(row["app"], row["strategy"], row["role"] or "", row["task"])
        if not wish.admits(app=key.app, task=key.task, role=key.role, strategy=key.strategy):
            continue
        if key not in found or row["calls"] > found[key]["calls"]:
            found[key] = row
    return found


def _line(gathered: Gathered, key: LineKey, choice: Choice | None) -> TaskLine:
    spent = gathered.period.lines.get(key, PeriodSpend())
    incumbent = _incumbent(gathered, key, choice)
    current = _current(gathered, choice, incumbent, spent)
    compared = of_line(gathered.comparisons, key)
    facts = _facts(gathered, key, choice, compared)
    word, why = word_of(facts)
    counts = _counting(gathered.beliefs, key)
    app = gathered.beliefs.configuration.apps.get(key.app)
    return TaskLine(
        task=key.task,
        app=key.app,
        strategy=key.strategy,
        role=key.role,
        current=current,
        incumbent=incumbent,
        quality=None,
        cost_per_success_usd=None,
        incumbent_cost_per_success_usd=None,
        spent_usd=spent.usd,
        calls=spent.calls,
        word=word,
        why=why,
        signals=signals_of(counts),
        verdict=compared.row if compared is not None else None,
        sampled=sampled_signals(gathered.beliefs, app, key.task) if app is not None else None,
    )


def _incumbent(gathered: Gathered, key: LineKey, choice: Choice | None) -> str:
    if choice is not None:
        return str(choice["incumbent"])
    of = gathered.beliefs.configuration
    app, strategy = of.apps.get(key.app), of.strategies.get(key.strategy)
    if app is None or strategy is None or key.task not in of.tasks:
        return ""
    standing = of.derive(PolicyTable).of(app, of.roles.get(key.role), key.task, strategy)
    found = incumbent_of(standing) if standing.permitted else None
    return found.id if found is not None else ""


def _current(gathered: Gathered, choice: Choice | None, incumbent: str, spent: PeriodSpend) -> str:
    """Return who serves: the choice, while routing is off the incumbent, else who was called."""
    if choice is not None:
        return incumbent if gathered.is_off else str(choice["current"])
    called = spent.by_endpoint.most_common(1)
    return called[0][0] if called else incumbent


def _facts(
    gathered: Gathered, key: LineKey, choice: Choice | None, compared: TrialComparison | None
) -> TaskFacts:
    configuration = gathered.beliefs.configuration
    app, strategy = configuration.apps.get(key.app), configuration.strategies.get(key.strategy)
    is_order = strategy is not None and strategy.objective.order is not Order.UTILITY
    verdict = compared.row if compared is not None else None
    # Of calls that are routed there is a choice, but in learning mode.
    named = NAMED if choice is None and _incumbent(gathered, key, None) else ""
    told = ""
    if compared is not None and verdict is not None:
        said = clause(verdict, ComparedNames(compared.trial.incumbent, compared.trial.challenger))
        told = "; ".join(filter(None, (said, gathered.proposals.get(key, ""))))
    return TaskFacts(
        why_off=_why_off(gathered, app),
        why_pinned=_why_pinned(configuration, app, key, compared) or named,
        has_signal=_has_signal(gathered.beliefs, key),
        is_order=is_order,
        why_unknown=_why_unknown(gathered.beliefs, key, is_order=is_order),
        verdict=verdict,
        verdict_text=told,
        moved=_moved(choice),
        note=_note(gathered, key, choice, compared),
    )


def _why_off(gathered: Gathered, app: App | None) -> str:
    if gathered.is_off:
        return SWITCHED_OFF
    if app is None:
        return NOT_THERE
    return OBSERVES if app.entry.mode is Mode.OBSERVE else ""


def _why_pinned(
    configuration: Configuration, app: App | None, key: LineKey, compared: TrialComparison | None
) -> str:
    strategy = configuration.strategies.get(key.strategy)
    if app is not None and app.entry.mode is Mode.PINNED:
        return f"app {app.name} is pinned"
    if not key.strategy:
        return PASSED_ON
    if strategy is None:
        return NOT_THERE
    if strategy.exchange is not Exchangeable.ANY:
        return KEEPS_MODEL
    if compared is not None and compared.trial.auto_pin:
        trial = compared.trial
        if trial.state is TrialState.ENDED:
            return f"the trial of {utc_day(trial.began_ms)} ended without a gain"
    return ""


def _task_row(beliefs: Beliefs, key: LineKey) -> tuple[int, int] | None:
    """Return the outlook and the row in which a key's labels are; None where there is none."""
    app = beliefs.configuration.apps.get(key.app)
    row = beliefs.configuration.task_index.get(key.task)
    return None if app is None or row is None else (app.outlook, row)


def _has_traffic(beliefs: Beliefs, key: LineKey) -> bool:
    """Return whether others than a profile or a check called a task, or it has labels of one."""
    row = beliefs.configuration.task_index.get(key.task)
    return row is None or bool(beliefs.traffic[row].any()) or _has_signal(beliefs, key)


def _has_signal(beliefs: Beliefs, key: LineKey) -> bool:
    place = _task_row(beliefs, key)
    if place is None:
        return False
    outlook, row = place
    return bool(beliefs.outlooks[outlook].posterior.labels[row].sum() > 0)


def _signals(beliefs: Beliefs, key: LineKey) -> dict[S, int]:
    place = _task_row(beliefs, key)
    if place is None:
        return {}
    outlook, row = place
    counts = beliefs.outlooks[outlook].signals[row].sum(axis=0)
    return {kind: int(counts[kind]) for kind in S}


def _counting(beliefs: Beliefs, key: LineKey) -> dict[S, int]:
    """Return what the quality figure rests on: derived labels where they are worth anything."""
    counts, place = _signals(beliefs, key), _task_row(beliefs, key)
    if place is None:
        return counts
    outlook, row = place
    is_worth = beliefs.outlooks[outlook].posterior.calibration.worth[row] > 0
    return {kind: n for kind, n in counts.items() if is_worth or kind in GIVEN}


def _why_unknown(beliefs: Beliefs, key: LineKey, *, is_order: bool) -> str:
    if is_order:
        return UNCHECKED
    return READ_OFF if any(_signals(beliefs, key).values()) else SAYS_NOTHING


def _moved(choice: Choice | None) -> str:
    if choice is None or choice["current"] == choice["incumbent"]:
        return ""
    last = choice["last_release"]
    return f"released {utc_day(last['at_ms'])}: {last['reason']}" if last else "by a release"


def _note(
    gathered: Gathered, key: LineKey, choice: Choice | None, compared: TrialComparison | None
) -> str:
    if compared is not None and compared.trial.state is TrialState.RUNNING:
        return f"a trial runs until {utc_day(compared.trial.ends_ms)}"
    if key in gathered.proposals:
        return gathered.proposals[key]
    if choice is None:
        return ""
    if choice["exploring"]:
        return f"trying {', '.join(choice['challengers'])}" if choice["challengers"] else ""
    return str(choice["note"])


def with_figures(beliefs: Beliefs, lines: Sequence[TaskLine]) -> list[TaskLine]:
    """Return lines with what quality and a success's cost are believed to be.

    Only of these tasks anything is worked out: a store has many.
    """
    index = beliefs.configuration.task_index
    strategies = dict.fromkeys(line.strategy for line in lines)
    known: dict[tuple[str, str, str | None, str], ReportRow] = {}
    for strategy in strategies:
        only = {
            index[line.task] for line in lines if line.strategy == strategy and line.task in index
        }
        if strategy in beliefs.configuration.strategies and only:
            for row in report_rows(beliefs, strategy, only=only, with_best=False):
                known[strategy, row.category, row.app, row.endpoint] = row
    return [_with_figures(beliefs, line, known) for line in lines]


def _with_figures(
    beliefs: Beliefs,
    line: TaskLine,
    known: Mapping[tuple[str, str, str | None, str], ReportRow],
) -> TaskLine:
    app = beliefs.configuration.apps.get(line.app)
    if app is None:
        return line
    own = beliefs.outlooks[app.outlook].app

    def cost(endpoint: str) -> float | None:
        """Return the cost per success of the group's host that was called most."""
        rows = [
            known.get((line.strategy, line.task, own, host)) for host in _hosts(beliefs, endpoint)
        ]
        priced = [row for row in rows if row is not None and row.cost_per_success_usd is not None]
        best = max(priced, key=lambda row: row.calls, default=None)
        return best.cost_per_success_usd if best is not None else None

    return replace(
        line,
        quality=_difference(beliefs, app, line),
        cost_per_success_usd=cost(line.current),
        incumbent_cost_per_success_usd=cost(line.incumbent) if line.incumbent else None,
    )


def _hosts(beliefs: Beliefs, endpoint: str) -> list[str]:
    catalog = beliefs.configuration.catalog
    found = catalog.by_id.get(endpoint)
    if found is None:
        return [endpoint]
    return [catalog.endpoints[arm].id for arm in catalog.group_members[found.group]]


def _difference(beliefs: Beliefs, app: App, line: TaskLine) -> Interval | None:
    by_id, row = (
        beliefs.configuration.catalog.by_id,
        beliefs.configuration.task_index.get(line.task),
    )
    current, incumbent = by_id.get(line.current), by_id.get(line.incumbent)
    if row is None or current is None or incumbent is None:
        return None
    posterior = beliefs.outlooks[app.outlook].posterior
    return quality_difference(posterior, row, current.group, incumbent.group)
