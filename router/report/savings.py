"""What routing saved, for people and programs: read from the sums in the store, with names.

Sums are kept by whole days of UTC, and by app: of one user or tag nothing is known.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandit.foretold import TokenPrices
from bandit.incumbent_quality import incumbent_quality
from bandit.saving_parts import SavingPart
from bandit.saving_sums import SAVING_ROW
from bandit.savings import AppSavings, figures, savings
from router.config.compiled import Configuration
from router.config.entries import Mode
from router.endpoints.catalog import Catalog
from router.report.ledger_wish import LedgerWish, iso, iso_day
from telemetry import keys
from telemetry.digests import digest8
from telemetry.errors import MalformedEvent
from telemetry.ledger_rows import DAY_MS
from telemetry.saving_state import STATE_FIELD, unpack_day
from telemetry.store import Client

TELLING_DAYS = 30
"""Days before those that are asked about: their calls tell of the incumbent, too."""
NANO = 1e9
NO_ARCHIVE = "archive.keep_days is 0: savings are summed up from the archive"
NOT_YET = "nothing summed up yet: `pointsman work` does it within minutes of the first calls"
NOT_OF_ONE = "savings are kept by app and task, not by user or tag"
NOTHING = "nothing was routed in these days"
LATER = "later calls are not in it yet"
IDLE = {
    Mode.OBSERVE: "mode observe: nothing is routed, so routing saved and lost nothing",
    Mode.PINNED: "mode pinned: nothing is routed",
}

Section = dict[str, Any]


def savings_section(
    client: Client, configuration: Configuration, wish: LedgerWish, known: Mapping[int, str]
) -> Section:
    """Return what routing saved in the days of a wish, by app and task.

    Where nothing can be said `reason` says why.

    Args:
        known: what digests stand for.

    Raises:
        redis.RedisError: the store is away.
    """
    days = range(wish.since_ms // DAY_MS, -(-wish.until_ms // DAY_MS))
    out: Section = {
        "at_ms": None,
        "since_ms": None,
        "days": [iso_day(days.start), iso_day(days.stop - 1)],
        "until": None,
        "reason": None,
        "all": None,
        "apps": [],
    }
    if wish.user is not None or wish.tag is not None:
        return out | {"reason": NOT_OF_ONE}
    if configuration.archive.keep_days == 0:
        return out | {"reason": NO_ARCHIVE}
    rows, state = read_sums(client, days)
    if state is None:
        return out | {"reason": NOT_YET}
    if wish.app is not None:
        rows = rows.compress(rows["app"] == digest8("app", wish.app))
    found = _found(rows, days, configuration)
    until = _until(state, wish)
    nothing = NOTHING if until is None else f"{NOTHING}, up to {until}; {LATER}"
    apps = [_of_app(app, known) for app in found]
    names = {row["app"] for row in apps}
    apps += [
        {"app": name, "reason": IDLE.get(app.entry.mode, nothing)}
        for name, app in configuration.apps.items()
        if name not in names and wish.app in (None, name)
    ]
    out |= {"at_ms": state.get("at_ms"), "since_ms": state.get("since_ms"), "apps": apps}
    whole = _whole(found, rows, days) if found else None
    return out | {"until": until, "reason": None if found else nothing, "all": whole}


def _found(rows: NDArray[np.void], days: range, configuration: Configuration) -> list[AppSavings]:
    values = {
        each.digest: each.objective.value_usd
        for each in configuration.strategies.values()
        if each.trade is None
    }
    return savings(rows, days=days, values_usd=values, prices=token_prices(configuration.catalog))


def token_prices(catalog: Catalog) -> TokenPrices:
    """Return what tokens cost by day, of endpoints that are paid by the token alone.

    Of the others what calls came to tells.
    """
    return {
        endpoint.digest: [
            (tariff.day, rates.tokens_in / NANO, rates.tokens_out / NANO)
            for tariff in endpoint.prices.tariffs
            for rates in [tariff.usual.usual]
        ]
        for endpoint in catalog.endpoints
        if endpoint.prices is not None
        and not endpoint.prices.has_machine
        and not endpoint.terms.is_subscribed
        and all(tariff.usual.usual.tokens_in > 0 for tariff in endpoint.prices.tariffs)
    }


def _until(state: Section, wish: LedgerWish) -> str | None:
    """Return up to when savings are worked out, where calls that are asked about came later."""
    at_ms = state.get("at_ms")
    return None if at_ms is None or at_ms >= wish.until_ms else iso(at_ms, wish.zone)


def read_sums(client: Client, days: range) -> tuple[NDArray[np.void], Section | None]:
    """Return the sums of some days and of those before, and when they were worked out.

    A day that cannot be read is as one of which nothing is known.

    Raises:
        redis.RedisError: the store is away.
    """
    names = [str(day) for day in range(max(days.start - TELLING_DAYS, 0), days.stop)]
    state, *found = client.hmget(keys.SAVINGS, [STATE_FIELD, *names])
    parts = [np.empty(0, dtype=SAVING_ROW)]
    for stored in found:
        if stored is not None:
            try:
                parts.append(unpack_day(stored, SAVING_ROW))
            except MalformedEvent:
                continue
    return np.concatenate(parts), None if state is None else json.loads(state)


def _of_app(found: AppSavings, known: Mapping[int, str]) -> Section:
    def name(digest: int) -> str:
        return known.get(digest) or f"{digest:016x}"

    whole = figures(found.part, found.checked, limit=found.limit, limit_usd=found.limit_usd)
    tasks = [{"task": name(task.task), **figures(task.part, task.checked)} for task in found.tasks]
    return {"app": name(found.app), "reason": None, **whole, "tasks": tasks}


def _whole(found: Iterable[AppSavings], rows: NDArray[np.void], days: range) -> Section:
    part, limit, limit_usd = SavingPart(), 0.0, 0.0
    is_valued = True
    for app in found:
        part.add(app.part)
        limit += app.limit
        is_valued &= app.limit_usd is not None
        limit_usd += app.limit_usd or 0.0
    checked = incumbent_quality(rows, days)
    return figures(part, checked, limit=limit, limit_usd=limit_usd if is_valued else None)
