"""The page: all that a report shows, from what is believed and what lies in the store.

A running router and the command make it alike; the one knows more of itself. Faces show it, and
nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bandit.report import (
    MOST_TASKS,
    Interval,
    Page,
    PageTrouble,
    RouterLine,
    Savings,
    SpendLine,
    TaskLine,
    TaskWord,
    VerdictLine,
    in_order,
)
from bandit.verdict import Basis, Verdict, VerdictKind
from router.beliefs.beliefs import Beliefs
from router.beliefs.switch import Switch
from router.budgets.standings import as_written
from router.config.entries import Mode
from router.report.budgets import BudgetTable
from router.report.comparisons import (
    MOST_SENTENCES,
    TrialComparison,
    compare,
    trial_command,
    verdict_lines,
)
from router.report.page_changes import MOST_CHANGES, page_changes, read_proposals
from router.report.page_troubles import (
    jobs_troubles,
    other_troubles,
    refused_trouble,
    router_troubles,
    store_troubles,
)
from router.report.page_wish import PageWish
from router.report.period import LineKey, Period, read_period
from router.report.savings import NOTHING
from router.report.task_lines import Gathered, task_lines
from router.report.told_trials import read_told
from router.report.trial_troubles import trial_troubles
from telemetry import jobs_trouble, keys
from telemetry.dates import utc_minute
from telemetry.jobs_trouble import JobsTrouble
from telemetry.memory import MemoryUse
from telemetry.routers import RouterPresence, read_routers
from telemetry.store import Client
from telemetry.trials import Trial, read_trials
from telemetry.trouble import StoreTrouble

Section = Mapping[str, Any]
NO_CALL = "no call was recorded yet: point a client at the sidecar"
NONE_IN_PERIOD = "no call in this period"
NO_ROUTER = "no sidecar runs on this store: `pointsman up` starts one"
MOST_BUDGETS = 8
SAID_IN = {"file": "the state directory", "store": "the store"}


@dataclass(slots=True, kw_only=True)
class PageSource:
    """What a page is made from, besides the store."""

    beliefs: Beliefs
    wish: PageWish
    report: Section  # what programs read: choices, damage, served names, and so on
    known: Mapping[int, str]  # what digests stand for
    switch: Switch
    budgets: BudgetTable
    now_ms: int
    doubts: Sequence[Section] = ()  # about prices
    memory: MemoryUse | None = None
    store: StoreTrouble | None = None
    this_router: str = ""  # the name of whoever asks, where it is one
    sees_all: bool = True  # else one app: nothing of other apps, routers and the store
    most_tasks: int = MOST_TASKS
    most_changes: int = MOST_CHANGES


def make_page(client: Client, source: PageSource) -> tuple[Page, Period]:
    """Return the page, and what the ledger has of its period.

    Raises:
        redis.RedisError: the store is away.
    """
    wish, beliefs = source.wish, source.beliefs
    period = read_period(client, beliefs, wish, source.known)
    trials = list(read_trials(client).values())
    compared = compare(trials, read_told(client)[1])
    mine = [one for one in compared if _is_meant(one, wish)]
    routers = read_routers(client, now_ms=source.now_ms) if source.sees_all else []
    gathered = Gathered(
        beliefs,
        period,
        mine,
        source.report.get("choices", []),
        source.switch.off,
        {_key(one): f"{one['after']} waits for a yes" for one in read_proposals(client)},
    )
    lines, folded = task_lines(gathered, wish, source.most_tasks)
    meant = [one.trial for one in mine]
    changes, more_changes = page_changes(client, wish, meant, source.most_changes)
    total = period.total
    page = Page(
        at_ms=source.now_ms,
        since_ms=wish.since_ms,
        scope=wish.scope,
        sentences=_sentences(source, gathered, lines),
        tasks=lines,
        folded=folded,
        changes=changes,
        more_changes=more_changes,
        spent_usd=total.usd,
        unpriced_calls=total.unpriced,
        calls=total.calls,
        budgets=(*_budget_lines(source.budgets), *_ceiling_lines(source)),
        savings=_savings(source.report.get("savings")),
        troubles=in_order(_troubles(source, routers, trials, _jobs(client, source))),
        routers=_router_lines(source, routers),
        is_off=source.switch.off,
        notes=tuple(_notes(source, period, routers, has_lines=bool(lines))),
    )
    return page, period


def _is_meant(one: TrialComparison, wish: PageWish) -> bool:
    trial = one.trial
    if trial.is_of_app:
        return wish.app in (None, trial.app) and wish.task is None
    return wish.admits(app=trial.app, task=trial.task, role=trial.role, strategy=trial.strategy)


def _key(proposal: Section) -> LineKey:
    names = ("app", "strategy", "role", "task")
    return LineKey(*(str(proposal.get(name) or "") for name in names))


def _sentences(
    source: PageSource, gathered: Gathered, lines: Sequence[TaskLine]
) -> tuple[VerdictLine, ...]:
    """Return the verdict of each app that has one, else why there is none and what would show it.

    None of it rests on what is believed.
    """
    apps = source.beliefs.configuration.apps
    found = verdict_lines(gathered.comparisons, names_app=len(apps) > 1)
    if not found:
        found = [_without_trial(source, gathered, lines)]
    if source.switch.off:
        found = [_off_line(source.switch), *found]
    return tuple(found[:MOST_SENTENCES])


def _nothing(text: str, advice: str, at_ms: int) -> VerdictLine:
    return VerdictLine(text, Verdict(VerdictKind.NOT_SHOWN, Basis.NOTHING, at_ms=at_ms), (), advice)


def _off_line(switch: Switch) -> VerdictLine:
    since = f" since {utc_minute(switch.off_since_ms)}" if switch.off_since_ms else ""
    places = " and ".join(SAID_IN[place] for place in switch.said_in)
    said = f" (said in {places})" if places else ""
    text = f"Routing is off{since}{said}: every call goes to your incumbent."
    return _nothing(text, "pointsman on", 0)


def _without_trial(
    source: PageSource, gathered: Gathered, lines: Sequence[TaskLine]
) -> VerdictLine:
    """Return what is missing for a verdict: calls, routing, an incumbent, labels, or the trial."""
    now, beliefs = source.now_ms, source.beliefs
    of, wish = beliefs.configuration, source.wish
    apps = [app for app in of.apps.values() if wish.app in (None, app.name)]
    routed = [app.name for app in apps if app.entry.mode is Mode.ROUTE]
    if not any(line.calls or line.signals for line in lines):
        return _nothing("Not shown yet: no call was recorded.", "", now)
    if not routed:
        text = "Not shown yet: nothing is routed, so there is nothing to compare."
        return _nothing(text, f"apps.{apps[0].name}.mode: route" if apps else "", now)
    best = best_trial(source, [*gathered.choices, *_as_choices(lines)])
    if best is not None:
        key, challenger = best
        text = "Not shown yet: no trial has compared routing with your incumbent."
        command = trial_command(
            key, challenger, names_app=len(of.apps) > 1, is_locked=of.apps[key.app].entry.locked
        )
        return _nothing(text, command, now)
    if not any(beliefs.choices):
        text = "Not shown yet: there is no incumbent to compare with."
        naming = f"name who would serve without routing: `apps.{routed[0]}.incumbent: ENDPOINT`"
        return _nothing(text, naming if source.report.get("learning_mode") else "", now)
    text = "Not shown yet: no quality signal. Send feedback, then run a trial."
    return _nothing(text, "", now)


def best_trial(source: PageSource, choices: Iterable[Section]) -> tuple[LineKey, str] | None:
    """Return the task whose trial would show most, and its best challenger.

    That is the task with most labels; in it the choice, where that is not the incumbent, else who
    is tried first.
    """
    best: tuple[int, int] = (0, 0)
    found = None
    for row in choices:
        key = LineKey(row["app"], row["strategy"], row["role"] or "", row["task"])
        wish = source.wish
        if not wish.admits(app=key.app, task=key.task, role=key.role, strategy=key.strategy):
            continue
        weight = _labels(source.beliefs, key), int(row["calls"])
        challenger = _challenger(source.beliefs, row) if weight[0] else ""
        if challenger and weight > best:
            best, found = weight, (key, challenger)
    return found


def _as_choices(lines: Sequence[TaskLine]) -> list[Section]:
    """Return rows that might be routed and were not called yet, as choices are."""
    mine = [one for one in lines if one.incumbent and one.word is not TaskWord.OFF]
    return [
        {
            "app": one.app,
            "strategy": one.strategy,
            "role": one.role,
            "task": one.task,
            "incumbent": one.incumbent,
            "current": one.incumbent,
            "challengers": [],
            "calls": one.calls,
        }
        for one in mine
    ]


def _labels(beliefs: Beliefs, key: LineKey) -> int:
    of = beliefs.configuration
    app, row = of.apps.get(key.app), of.task_index.get(key.task)
    if app is None or row is None:
        return 0
    return int(beliefs.outlooks[app.outlook].posterior.labels[row].sum())


def _challenger(beliefs: Beliefs, row: Section) -> str:
    if row["current"] != row["incumbent"]:
        return str(row["current"])
    if row["challengers"]:
        return str(row["challengers"][0])
    return _best_beside(beliefs, row)


def _best_beside(beliefs: Beliefs, row: Section) -> str:
    """Return who is believed to be best of the others; empty where there are none."""
    catalog, index = beliefs.configuration.catalog, beliefs.configuration.task_index[row["task"]]
    incumbent = catalog.by_id.get(row["incumbent"])
    if incumbent is None or len(catalog.group_members) < 2:
        return ""
    mean = beliefs.posterior_of(row["app"]).quality.mean[index].copy()
    mean[incumbent.group] = -1.0
    return catalog.endpoints[catalog.group_members[int(mean.argmax())][0]].id


def _budget_lines(table: BudgetTable) -> list[SpendLine]:
    out = []
    for row in table.rows[:MOST_BUDGETS]:
        budget, claim = row.claim.budget, row.claim
        of = ", ".join(value or "no user" for _, value in claim.values)
        spent, limit = (as_written(n, budget.unit) for n in (row.spent, claim.limit))
        out.append(
            SpendLine(
                f"{budget.name} ({of})" if of else budget.name,
                float(spent),
                float(limit),
                budget.unit.value,
                budget.span.value,
                "used up" if row.spent >= claim.limit else "",
            )
        )
    return out


def _ceiling_lines(source: PageSource) -> list[SpendLine]:
    """Return what exploring came to today of what it may."""
    rows = source.report.get("exploring", [])
    mine = [row for row in rows if source.wish.app in (None, row["app"])]
    return [
        SpendLine(
            f"exploring of {row['app']}",
            float(row["spent"]),
            float(row["limit"]),
            str(row["unit"]),
            "day",
            str(row["note"] or ""),
        )
        for row in mine
    ]


def _savings(section: Section | None) -> Savings | None:
    if section is None:
        return None
    if section["all"] is None:
        reason = str(section["reason"] or "nobody knows yet")
        return Savings(None, NOTHING if reason.startswith(NOTHING) else reason)
    money = section["all"]["money"]
    if not money["n"]:
        unknown = money["unknown"]
        return Savings(None, unknown[0]["said"] if unknown else "not known yet")
    saved = money["saved_usd"]
    left = section["all"]["calls"] - money["n"]
    out = f"{left:,} calls are not in it" if left > 0 else ""
    return Savings(Interval(saved["value"], saved["low"], saved["high"]), out)


def _jobs(client: Client, source: PageSource) -> JobsTrouble | None:
    return jobs_trouble.parse(client.get(keys.JOBS_TROUBLE)) if source.sees_all else None


def _troubles(
    source: PageSource,
    routers: Sequence[RouterPresence],
    trials: Sequence[Trial],
    jobs: JobsTrouble | None,
) -> Iterable[PageTrouble]:
    if not source.sees_all:
        return ()
    return (
        *refused_trouble(source.report.get("configuration")),
        *store_troubles(source.store, source.memory),
        *jobs_troubles(jobs),
        *router_troubles(routers),
        *trial_troubles(trials, source.beliefs.configuration, source.now_ms),
        *other_troubles(source.report, source.doubts, source.now_ms),
    )


def _router_lines(source: PageSource, routers: Sequence[RouterPresence]) -> tuple[RouterLine, ...]:
    return tuple(
        RouterLine(
            one.name, one.version, one.configuration, one.seen_ms, one.name == source.this_router
        )
        for one in routers
    )


def _notes(
    source: PageSource, period: Period, routers: Sequence[RouterPresence], *, has_lines: bool
) -> Iterable[str]:
    if not period.is_whole:
        yield "the ledger has too many rows for one page: ask for fewer days, or for one app"
    elif not has_lines:
        ever = bool(source.beliefs.traffic.any())
        yield NONE_IN_PERIOD if ever or source.wish.is_narrow else NO_CALL
    if source.sees_all and not routers and not source.this_router:
        yield NO_ROUTER
