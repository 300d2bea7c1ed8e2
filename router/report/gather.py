"""The report of a store, gathered from whatever is there.

Without configuration, store or data it says what is missing, and how to begin.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bandit import cells
from bandit.families import N_COLUMNS
from bandit.matrix import ReportRow
from bandit.report import MOST_TASKS, Page
from bandit.task_detail import TaskDetail
from router.beliefs.alarms import Alarms
from router.beliefs.beliefs import Beliefs, believe
from router.beliefs.kept_switch import read_store
from router.beliefs.prompts import PromptVersions, prompt_rows
from router.beliefs.releases import Releases
from router.beliefs.review_keys import known_review_keys
from router.beliefs.served import ServedModels
from router.beliefs.switch import Switch, SwitchFile, switch_of
from router.beliefs.trials import under_trials
from router.config.compiled import Configuration, compile_text
from router.config.file import read
from router.config.places import NoHome, places, state_problem
from router.config.watch import read_kept
from router.errors import ConfigError, RequestRejected
from router.policy.standing import usual_strategy
from router.report import views
from router.report.budgets import ANYBODY, BudgetTable, Only, read_budgets
from router.report.catalog import catalog_warnings
from router.report.costs import availability_rows, list_cost_rows, published_prices
from router.report.episodes import episode_section
from router.report.exploring import StoredStandings, ceiling_rows, with_ceilings
from router.report.ledger_names import known_names
from router.report.ledger_wish import iso
from router.report.narrowed import narrowed
from router.report.page import NO_CALL, PageSource, make_page
from router.report.page_wish import PageWish, page_wish, require_known
from router.report.period import Period
from router.report.price_truth import find_doubts
from router.report.savings import savings_section
from router.report.served import served_rows
from router.report.suggestions import suggestion_rows
from router.report.task_detail import task_detail
from router.report.unlisted import Unlisted, unlisted_calls
from telemetry import keys
from telemetry.damaged import object_of
from telemetry.errors import TelemetryError
from telemetry.memory import MemoryUse, ask_servers
from telemetry.reader import NO_RATERS, RaterCounts, Reader, fates_of_references
from telemetry.store import Address, Client, StoreErrors, connect, open_store, probe
from telemetry.trials import in_force, read_trials
from telemetry.trouble import StoreTrouble, trouble_of

NO_BUDGETS = BudgetTable()
TIMEOUT_S = 10.0
"""Of one round trip: a store that is frozen is no reason to wait for ever."""
ALL_TASKS = 100_000
MOST_DETAILS = 6
"""Of a task in several apps, roles or strategies."""


@dataclass(slots=True)
class Report:
    """Everything that is shown, and what is missing."""

    posteriors: dict[str, Any] = field(default_factory=dict)
    rows: list[ReportRow] = field(default_factory=list)
    unlisted: list[Unlisted] = field(default_factory=list)
    audit: dict[str, Any] | None = None  # what the last one found
    calibration: dict[str, Any] | None = None  # how often predictions held
    raters: RaterCounts = NO_RATERS
    store: StoreTrouble | None = None  # why it does not do what it is asked
    budgets: BudgetTable = NO_BUDGETS
    memory: MemoryUse | None = None  # of the store, as a worker measured it last
    page: Page | None = None
    period: Period | None = None
    details: list[TaskDetail] = field(default_factory=list)  # of the tasks that were asked for
    wish: PageWish | None = None
    missing: list[str] = field(default_factory=list)
    bad_input: str = ""
    failed: bool = False  # there is no configuration, or no store that answers
    shows_all: bool = False  # as many lines as it takes

    @property
    def is_of_month(self) -> bool:
        """Whether it is a month on a page."""
        return self.wish is not None and bool(self.wish.month)

    def as_json(self) -> dict[str, Any]:
        """Return the report as one object."""
        others = [{"category": u.category, "name": u.name, "calls": u.calls} for u in self.unlisted]
        jobs = {"audit": self.audit, "calibration": self.calibration}
        raters = {"raters": self.raters._asdict(), "budgets": self.budgets.as_json()}
        store = self.store.as_json() if self.store is not None else None
        memory = self.memory.as_json() if self.memory is not None else None
        rest = {"store": store, "memory": memory, "missing": self.missing}
        shown = {**self.posteriors, "unlisted": others, **raters, **jobs, **rest}
        return {**narrowed(shown, self.wish), **self.page_json()}

    def page_json(self) -> dict[str, Any]:
        """Return the page alone, with its period and what that comes to."""
        page, period, wish = self.page, self.period, self.wish
        if page is None or period is None or wish is None:
            return {"page": None, "period": None, "totals": None, "tasks": []}
        zone = wish.ledger.zone
        return {
            "page": asdict(page),
            "period": {
                "since": iso(wish.since_ms, zone),
                "until": iso(wish.until_ms, zone),
                "scope": wish.scope,
            },
            "totals": period.total.as_json(),
            "tasks": [{**key._asdict(), **one.as_json()} for key, one in period.lines.items()],
            "details": [asdict(one) for one in self.details],
        }


@dataclass(slots=True, kw_only=True)
class ReportSource:
    """What a report is made from, besides the store: of a command, or of a running router."""

    beliefs: Beliefs
    strategy: str
    wish: PageWish
    switch: Switch
    raters: RaterCounts
    rows: cells.Terms | None = None  # None: whom the configuration does not list is not told
    file: Path | None = None
    this_router: str = ""
    sees_all: bool = True  # else one app's own page
    most_tasks: int = MOST_TASKS
    opens_all: bool = False  # every task that is shown is opened, not just those asked for
    with_rows: bool = True  # every endpoint of every task, which takes most of the time


def gather(
    file: Path,
    strategy: str | None,
    given: Mapping[str, str | None] = MappingProxyType({}),
    *,
    every_task: bool = False,
    opens_all: bool = False,
    with_rows: bool = True,
) -> Report:
    """Return the report of a configuration's store.

    Args:
        strategy: by whose objective endpoints are ranked, and the only one that is told of; None:
            the usual one, and all.
        given: what else is asked, by the names of `page_wish.FIELDS`.
        every_task: none is folded.
        opens_all: every task that is shown is opened.
        with_rows: every endpoint of every task, for programs.
    """
    report = Report(posteriors={"rows": [], "categories": [], "choices": []})
    if not file.exists():
        report.failed = True
        report.missing.append(
            f"no configuration at {file}: make one by `pointsman init`, "
            "or see the whole loop with `pointsman demo --stay`"
        )
        return report
    configuration = _configuration(file, report)
    if configuration is None:
        return report
    chosen = strategy or usual_strategy(configuration)
    if chosen not in configuration.strategies:
        known = ", ".join(configuration.strategies)
        report.bad_input = f"--strategy {chosen}: no such strategy; known: {known}"
        return report
    try:
        report.wish = page_wish({**given, "strategy": strategy}, now_s=time.time())
        require_known(report.wish, configuration)
    except RequestRejected as error:
        report.bad_input = f"--{error}"
        return report
    views_of = {
        "most_tasks": ALL_TASKS if every_task else MOST_TASKS,
        "opens_all": opens_all,
        "with_rows": with_rows,
    }
    _from_store(report, configuration, chosen, file, views_of)
    return report


def _from_store(
    report: Report,
    configuration: Configuration,
    strategy: str,
    file: Path,
    views_of: Mapping[str, Any],
) -> None:
    state_dir = configuration.server.state_directory()
    report.posteriors |= views.switch_row(switch_of(SwitchFile(state_dir).read(), None))
    store = configuration.store
    try:
        named, prefix = store.url_env, store.prefix
        with open_store(state_dir, url=store.url(), named=named, prefix=prefix) as address:
            beliefs, rows, raters = read_beliefs(configuration, address)
            with closing(connect(address, timeout_s=TIMEOUT_S)) as client:
                assert report.wish is not None
                source = ReportSource(
                    beliefs=beliefs,
                    strategy=strategy,
                    wish=report.wish,
                    switch=switch_of(SwitchFile(state_dir).read(), read_store(client)),
                    raters=raters,
                    rows=rows,
                    file=file,
                    **views_of,
                )
                fill(report, client, source)
    except TelemetryError as error:
        report.failed = True
        report.missing.append(f"no store: {error}")
    except StoreErrors as error:
        problem = state_problem(state_dir, error) if isinstance(error, OSError) else None
        if problem is not None:
            report.bad_input = problem
        else:
            report.failed = True
            report.store = trouble_of(error)
            report.missing.append(f"no store: {report.store.shown}")


def _configuration(file: Path, report: Report) -> Configuration | None:
    """Return what is in force: the file, or while a sidecar refuses it, what that one goes by."""
    try:
        kept = read_kept(places(file).state_dir)
        text = read(file)
        if kept is not None and kept.is_refused(text):
            report.posteriors["configuration"] = kept.row()
            return compile_text(kept.text, file=kept.file, secrets=False)
        return compile_text(text, file=str(file), secrets=False)
    except (ConfigError, NoHome) as error:
        report.bad_input = str(error)
        return None


def read_beliefs(
    configuration: Configuration, address: Address
) -> tuple[Beliefs, cells.Terms, RaterCounts]:
    """Return what the store supports right now, its rows, and its raters.

    Raises:
        redis.RedisError: the store is away.
    """
    with closing(connect(address, timeout_s=TIMEOUT_S)) as client:
        reader = Reader(
            client,
            configuration.store.shards,
            key_bytes=cells.KEY.itemsize,
            row_bytes=8 * N_COLUMNS,
        )
        reader.poll()
        rows = cells.from_bytes(*reader.rows())
        names = {k.decode(): v.decode() for k, v in client.hgetall(keys.NAMES).items()}
        releases = Releases(client)
        releases.read()
        watches = Alarms(client)
        watches.take(watches.look())
        prompts = PromptVersions()
        prompts.take(client.hgetall(keys.PROMPTS))
        trials = in_force(read_trials(client), int(time.time() * 1000))
    beliefs = believe(
        configuration,
        rows,
        version=reader.version,
        review_keys=known_review_keys(configuration, releases.kept),
        kept=releases.kept,
        watches=watches.known,
        names={int(digest, 16): name for digest, name in names.items()},
        opened=prompts.opened,
    )
    beliefs.choices = under_trials(beliefs.choices, releases.kept, trials, beliefs.configuration)
    return beliefs, rows, reader.raters


def fill(report: Report, client: Client, source: ReportSource) -> None:
    """Put into a report all that there is to say.

    Raises:
        redis.RedisError: the store is away.
    """
    beliefs, wish, now_s = source.beliefs, source.wish, time.time()
    configuration = beliefs.configuration
    n_shards = configuration.store.shards
    report.wish, report.raters = wish, source.raters
    known = known_names(client, configuration)
    told = (keys.AUDIT, keys.CALIBRATION, keys.AVAILABILITY, keys.EPISODES, keys.SUGGESTIONS)
    found = [object_of(value) or None for value in map(client.get, told)]
    report.audit, report.calibration, counted, episodes, suggested = found
    use = MemoryUse.parse(client.get(keys.MEMORY))
    report.memory = use.as_of(ask_servers(client)) if use is not None else None
    report.store = _refusal(client)
    if report.store is not None:
        report.missing.append(f"the store takes nothing: {report.store.shown}")
    only = ANYBODY if wish.app is None else Only(app=wish.app)
    report.budgets = read_budgets(client, configuration, now_s=now_s, only=only)
    doubts = find_doubts(
        client, configuration.catalog, n_shards=n_shards, now_s=now_s, file=source.file
    )
    shown = _beliefs_told(client, source, report.posteriors)
    shown["savings"] = savings_section(client, configuration, wish.ledger, known)
    shown["references"] = fates_of_references(client, n_shards)
    names = {f"{digest:016x}": name for digest, name in known.items()}
    shown["episodes"] = episode_section(episodes, configuration, names)
    shown["suggestions"] = suggestion_rows(suggested, configuration)
    shown["availability"] = availability_rows(counted, configuration.catalog)
    shown["published_prices"] = published_prices(configuration.catalog)
    shown["list_costs"] = list_cost_rows(beliefs, now_s)
    shown["price_alarms"] = [doubt.as_json() for doubt in doubts]
    shown["agreements"] = catalog_warnings(configuration.catalog, now_s)
    report.posteriors = shown
    if source.rows is not None:
        report.unlisted = unlisted_calls(source.rows, configuration, beliefs.names)
    report.rows = [ReportRow(**row) for row in shown["rows"]]
    if not report.unlisted and not any(row.is_of_traffic or row.damaged for row in report.rows):
        report.missing.append(NO_CALL)
    report.missing += [_no_signal(one) for one in shown["categories"] if not one["signal"]]
    _add_page(report, client, source, known)


def _beliefs_told(
    client: Client, source: ReportSource, before: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what is believed, and what stands beside it, as programs read it."""
    beliefs, now_ms = source.beliefs, int(time.time() * 1000)
    configuration = beliefs.configuration
    served, prompts = ServedModels(), PromptVersions()
    served.read(client)
    prompts.take(client.hgetall(keys.PROMPTS))
    shown = {**before, **views.posteriors(beliefs, source.strategy, with_rows=source.with_rows)}
    ceilings = ceiling_rows(configuration, StoredStandings(client), at_ms=now_ms)
    shown = with_ceilings(shown | views.switch_row(source.switch), ceilings)
    shown["prompts"] = prompt_rows(prompts.known)
    shown["served"] = served_rows(configuration.catalog, served)
    return shown


def _add_page(
    report: Report, client: Client, source: ReportSource, known: Mapping[int, str]
) -> None:
    made = PageSource(
        beliefs=source.beliefs,
        wish=source.wish,
        report=report.posteriors,
        known=known,
        switch=source.switch,
        budgets=report.budgets,
        now_ms=int(time.time() * 1000),
        doubts=report.posteriors["price_alarms"],
        memory=report.memory,
        store=report.store,
        this_router=source.this_router,
        sees_all=source.sees_all,
        most_tasks=source.most_tasks,
    )
    report.page, report.period = make_page(client, made)
    if source.wish.task is not None or source.opens_all:
        most = MOST_TASKS if source.opens_all else MOST_DETAILS
        report.details = [
            task_detail(client, source.beliefs, line, source.wish, known)
            for line in report.page.tasks[:most]
        ]


def _refusal(client: Client) -> StoreTrouble | None:
    """Return why a store that can be read takes nothing, if so."""
    try:
        probe(client)
    except StoreErrors as error:
        return trouble_of(error)
    return None


def _no_signal(category: dict[str, Any]) -> str:
    """Return the line of a category without quality labels; derived ones are no such labels yet."""
    line = f"{category['category']}: no quality signal; send feedback to learn about quality"
    if not category["signals"]:
        return line
    read = ", ".join(f"{name} {n}" for name, n in category["signals"].items())
    return (
        f"{line} (read off calls, for reliability: {read}; {category['pairs']} pairs with "
        "stronger labels)"
    )
