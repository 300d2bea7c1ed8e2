"""What needs attention, as the page tells it: of store, file, routers, prices and labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bandit.report import PageTrouble
from router.beliefs.damage import REPAIR
from router.report.served import served_lines
from telemetry.jobs_trouble import JobsTrouble
from telemetry.memory import MemoryUse
from telemetry.routers import RouterPresence, conflicting_apps
from telemetry.trouble import StoreTrouble

Section = Mapping[str, Any]


def refused_trouble(configuration: Section | None) -> list[PageTrouble]:
    """Return that the file is refused, with its first error; else nothing."""
    refused = (configuration or {}).get("refused")
    if configuration is None or not refused:
        return []
    n, errors = refused["n_errors"], refused["errors"]
    more = f" (and {n - 1} more)" if n > 1 else ""
    text = f"{configuration['file']} is refused: {errors[0] if errors else 'it has errors'}{more}"
    return [PageTrouble(text, int(refused["at_ms"]), "mend it: what was before holds")]


def store_troubles(store: StoreTrouble | None, memory: MemoryUse | None) -> Iterator[PageTrouble]:
    """Yield what is amiss with the store."""
    if store is not None:
        yield PageTrouble(f"the store takes nothing: {store.shown}")
    if memory is not None:
        for line in memory.warnings().values():
            yield PageTrouble(f"the store's memory: {line}", is_urgent=memory.is_full)


def jobs_troubles(jobs: JobsTrouble | None) -> Iterator[PageTrouble]:
    """Yield why no jobs are run, if a worker says so."""
    if jobs is not None:
        yield PageTrouble(jobs.text, jobs.since_ms, jobs.fix)


def router_troubles(routers: Iterable[RouterPresence]) -> Iterator[PageTrouble]:
    """Yield what routers say of themselves, each trouble since the first that saw it."""
    routers = list(routers)
    first: dict[str, PageTrouble] = {}
    for router in routers:
        for told in router.troubles:
            text = f"{told.subject}: {told.text}"
            known = first.get(text)
            if known is None or (told.since_ms and told.since_ms < known.since_ms):
                first[text] = PageTrouble(text, told.since_ms, told.fix, told.is_urgent)
    yield from first.values()
    for app, by_digest in conflicting_apps(routers).items():
        named = " and ".join(names[0] for names in by_digest.values())
        yield PageTrouble(
            f"app {app} is defined differently by {named}",
            fix="give them one configuration, or the apps names of their own",
        )


def other_troubles(
    report: Section, doubts: Iterable[Section], now_ms: int
) -> Iterator[PageTrouble]:
    """Yield what is amiss with sums, prices, models and feedback.

    Args:
        report: the sections that programs read.
        doubts: about prices.
    """
    for cell in report.get("damaged", []):
        whose = f", {cell['app']}'s own labels" if "app" in cell else ""
        where = f"{cell['endpoint']} ({cell['category']}{whose})"
        yield PageTrouble(f"damaged sums count as unknown: {where}", fix=REPAIR)
    for doubt in doubts:
        yield PageTrouble(str(doubt["text"]), is_urgent=False)
    for line in served_lines(report.get("served", []), now_ms=now_ms):
        yield PageTrouble(line, is_urgent=False)
    for line in report.get("agreements", []):
        yield PageTrouble(str(line), is_urgent=False)
    if line := references_line(report.get("references", {})):
        yield PageTrouble(line, is_urgent=False)


def references_line(counts: Mapping[str, int]) -> str:
    """Return the line on feedback that reached no decision, or not all; or nothing."""
    meanings = {
        "ambiguous": "ambiguous (send match: last or all)",
        "too_many": "of references with more decisions than are kept (send decision_id)",
        "unmatched": "unmatched (nothing of that name was decided within a day)",
        "late": "of decisions that came in after it was resolved",
        "unknown_old": "of old decisions that no archive holds (see archive.keep_days)",
    }
    found = [f"{counts[name]} {what}" for name, what in meanings.items() if counts.get(name)]
    return f"feedback without effect: {', '.join(found)}" if found else ""
