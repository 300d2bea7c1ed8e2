"""The report of a store, gathered from whatever is there.

Without configuration, store or data it says what is missing, and how to begin.
"""

from __future__ import annotations

import json
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bandit import cells
from bandit.families import N_COLUMNS
from bandit.matrix import ReportRow
from router.beliefs.alarms import Alarms
from router.beliefs.beliefs import Beliefs, believe
from router.beliefs.kept_switch import read_store
from router.beliefs.prompts import PromptVersions, prompt_rows
from router.beliefs.releases import Releases
from router.beliefs.review_keys import known_review_keys
from router.beliefs.served import ServedModels
from router.beliefs.switch import SwitchFile, switch_of
from router.beliefs.trials import under_trials
from router.config.compiled import Configuration, compile_text
from router.config.file import read
from router.config.places import NoHome, places, state_problem
from router.config.watch import read_kept
from router.errors import ConfigError
from router.policy.standing import usual_strategy
from router.report import views
from router.report.budgets import BudgetTable, read_budgets
from router.report.catalog import catalog_warnings
from router.report.costs import availability_rows, list_cost_rows, published_prices
from router.report.episodes import episode_section
from router.report.exploring import StoredStandings, ceiling_rows, with_ceilings
from router.report.ledger_wish import read_wish
from router.report.price_truth import find_doubts
from router.report.savings import savings_section
from router.report.served import served_rows
from router.report.suggestions import suggestion_rows
from router.report.unlisted import Unlisted, unlisted_calls
from telemetry import keys
from telemetry.errors import TelemetryError
from telemetry.memory import MemoryUse, ask_servers
from telemetry.reader import NO_RATERS, RaterCounts, Reader, fates_of_references
from telemetry.store import Address, Client, StoreErrors, connect, open_store, probe
from telemetry.trials import read_trials
from telemetry.trouble import StoreTrouble, trouble_of

NO_BUDGETS = BudgetTable()


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
    missing: list[str] = field(default_factory=list)
    bad_input: str = ""
    failed: bool = False  # there is no configuration, or no store that answers

    def as_json(self) -> dict[str, Any]:
        """Return the report as one object."""
        others = [{"category": u.category, "name": u.name, "calls": u.calls} for u in self.unlisted]
        jobs = {"audit": self.audit, "calibration": self.calibration}
        raters = {"raters": self.raters._asdict(), "budgets": self.budgets.as_json()}
        store = self.store.as_json() if self.store is not None else None
        memory = self.memory.as_json() if self.memory is not None else None
        rest = {"store": store, "memory": memory, "missing": self.missing}
        return {**self.posteriors, "unlisted": others, **raters, **jobs, **rest}


def gather(file: Path, strategy: str | None) -> Report:
    """Return the report of a configuration's store."""
    report = Report(posteriors={"rows": [], "categories": [], "choices": []})
    if not file.exists():
        report.failed = True
        report.missing.append(
            f"no configuration at {file}: start from docs/examples/pointsman.yaml, "
            "or see the whole loop with `pointsman demo`"
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
    state_dir = configuration.server.state_directory()
    report.posteriors |= views.switch_row(switch_of(SwitchFile(state_dir).read(), None))
    try:
        store = configuration.store
        named, prefix = store.url_env, store.prefix
        with open_store(state_dir, url=store.url(), named=named, prefix=prefix) as address:
            _fill(report, configuration, address, chosen, file)
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
    return report


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
) -> tuple[Beliefs, cells.Terms, dict[str, str], RaterCounts]:
    """Return what the store supports right now, its rows, its names by digest, and its raters.

    Raises:
        redis.RedisError: the store is away.
    """
    with closing(connect(address)) as client:
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
        trials = read_trials(client)
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
    return beliefs, rows, names, reader.raters


def _fill(
    report: Report, configuration: Configuration, address: Address, strategy: str, file: Path
) -> None:
    beliefs, rows, names, report.raters = read_beliefs(configuration, address)
    n_shards = configuration.store.shards
    in_file = SwitchFile(configuration.server.state_directory()).read()
    with closing(connect(address)) as client:
        told = (keys.AUDIT, keys.CALIBRATION, keys.AVAILABILITY, keys.EPISODES, keys.SUGGESTIONS)
        found = [json.loads(value) if value else None for value in map(client.get, told)]
        switch = switch_of(in_file, read_store(client))
        use = MemoryUse.parse(client.get(keys.MEMORY))
        report.memory = use.as_of(ask_servers(client)) if use is not None else None
        references = fates_of_references(client, n_shards)
        served = ServedModels()
        served.read(client)
        prompts = PromptVersions()
        prompts.take(client.hgetall(keys.PROMPTS))
        report.store = _refusal(client)
        now_ms = int(time.time() * 1000)
        ceilings = ceiling_rows(configuration, StoredStandings(client), at_ms=now_ms)
        period = read_wish({}, now_s=time.time())
        report.posteriors["savings"] = savings_section(
            client,
            configuration,
            period,
            {int(digest, 16): name for digest, name in names.items()}
            | views.names_of(configuration),
        )
        report.budgets = read_budgets(client, configuration, now_s=time.time())
        doubts = find_doubts(
            client, configuration.catalog, n_shards=n_shards, now_s=time.time(), file=file
        )
    report.posteriors |= views.posteriors(beliefs, strategy) | views.switch_row(switch)
    report.posteriors = with_ceilings(report.posteriors, ceilings)
    report.posteriors["references"] = references
    report.posteriors["prompts"] = prompt_rows(prompts.known)
    report.posteriors["served"] = served_rows(configuration.catalog, served)
    report.audit, report.calibration, counted, episodes, suggested = found
    report.posteriors["episodes"] = episode_section(episodes, configuration, names)
    report.posteriors["suggestions"] = suggestion_rows(suggested, configuration)
    report.posteriors["availability"] = availability_rows(counted, configuration.catalog)
    report.posteriors["published_prices"] = published_prices(configuration.catalog)
    report.posteriors["list_costs"] = list_cost_rows(beliefs, time.time())
    report.posteriors["price_alarms"] = [doubt.as_json() for doubt in doubts]
    report.posteriors["agreements"] = catalog_warnings(configuration.catalog, time.time())
    if report.store is not None:
        report.missing.append(f"the store takes nothing: {report.store.shown}")
    report.rows = views.report_rows(beliefs, strategy)
    report.unlisted = unlisted_calls(rows, configuration, beliefs.names)
    if not report.unlisted and not any(row.is_of_traffic or row.damaged for row in report.rows):
        report.missing.append("no call was recorded yet: point a client at the sidecar")
    for category in report.posteriors["categories"]:
        if not category["signal"]:
            report.missing.append(_no_signal(category))


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
