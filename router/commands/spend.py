"""`pointsman spend`: what was spent, by whom and on what; as a table, CSV or one JSON object."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from pathlib import Path
from typing import NoReturn

from router.commands.console import BAD_INPUT, FAILED, fail, print_json, say
from router.commands.inputs import opened_store
from router.config.compiled import Configuration
from router.config.places import find_file
from router.errors import ConfigError, RequestRejected
from router.policy.hints import short_name
from router.report.budget_lines import budget_lines
from router.report.budgets import BudgetTable, Only, read_budgets
from router.report.ledger import LedgerAnswer, answer
from router.report.ledger_names import user_digests, user_in_hex
from router.report.ledger_table import csv_text, table_lines
from router.report.ledger_wish import MOST_LIMIT, LedgerWish, read_wish
from router.report.price_truth import doubts_about, find_doubts
from router.report.savings_lines import savings_lines
from telemetry import logs
from telemetry.ledger_questions import Dimension
from telemetry.store import Client, StoreErrors, connect
from telemetry.trouble import trouble_of

BEGIN = "start `pointsman up`, and point a client at it"
USUAL_BY = "app"
NO_LIMIT = 1 << 30
LOOK_S, TIMEOUT_S = 3.0, 10.0
"""For a word of the store, and for a part of the answer: a day of many users is one reply."""


def spend(
    given: dict[str, str | None], config: Path | None, *, as_csv: bool, as_json: bool
) -> None:
    """Print what was spent; where there is no store or no ledger, how to begin, and end in 1.

    Args:
        given: fields of a `LedgerWish`, as they were written.
    """
    logs.configure()
    if as_csv and as_json:
        fail("--csv and --json: ask for one of the two", BAD_INPUT)
    asked = {name: value for name, value in given.items() if value is not None}
    asked.setdefault("by", USUAL_BY)
    limit = MOST_LIMIT if as_json else NO_LIMIT
    try:
        wish = read_wish(asked, now_s=time.time(), limit=limit)
        file = find_file(config)
        if not file.exists():
            _nothing(f"no configuration at {file}: make one by `pointsman init`", as_json=as_json)
        configuration = _configuration(file, as_json=as_json)
        found, budgets = _answer(configuration, file, wish, as_json=as_json)
    except RequestRejected as error:
        _refuse(f"--{error}", as_json=as_json)
    if found.first_ms is None:
        _nothing(f"nothing is in the ledger yet: {BEGIN}", as_json=as_json, answer=found)
    if as_json:
        print_json({**found.as_json(), "budgets": budgets.as_json()})
    elif as_csv:
        sys.stdout.write(csv_text(found))
    else:
        print("\n".join(table_lines(found)))
        if found.savings is not None:
            print("\n".join(savings_lines(found.savings, by_task=Dimension.TASK in wish.by)))
        for line in budget_lines(budgets, now_s=time.time(), with_warnings=False):
            print(line)


def _configuration(file: Path, *, as_json: bool) -> Configuration:
    from router.config.compiled import load

    try:
        return load(file, secrets=False)
    except ConfigError as error:
        _refuse(str(error), as_json=as_json)


def _answer(
    configuration: Configuration, file: Path, wish: LedgerWish, *, as_json: bool
) -> tuple[LedgerAnswer, BudgetTable]:
    with opened_store(configuration) as address:
        try:
            with closing(connect(address, timeout_s=LOOK_S)) as client:
                client.ping()  # one that is frozen says so at once
            with closing(connect(address, timeout_s=TIMEOUT_S)) as client:
                found = answer(client, configuration, wish)
                doubts = find_doubts(
                    client,
                    configuration.catalog,
                    n_shards=configuration.store.shards,
                    now_s=time.time(),
                    file=file,
                )
                doubts = doubts_about(client, doubts, configuration, wish)
                budgets = _budgets(client, configuration, wish)
        except StoreErrors as error:
            _nothing(f"no store: {trouble_of(error).shown}", as_json=as_json)
    found.alarms = [doubt.as_json() for doubt in doubts]
    return found, budgets


def _budgets(client: Client, configuration: Configuration, wish: LedgerWish) -> BudgetTable:
    """Return how the budgets stand of whom is asked about; of a time that is past, nothing."""
    now_s = time.time()
    if not wish.since_ms <= now_s * 1000 < wish.until_ms:
        return BudgetTable()
    users = None
    if wish.user is not None:
        digests = user_digests(wish.user, wish.app, client, configuration)
        users = frozenset((short_name(wish.user), *map(user_in_hex, digests)))
    only = Only(app=wish.app, user=users, tag=wish.tag)
    return read_budgets(client, configuration, now_s=now_s, only=only)


def _refuse(why: str, *, as_json: bool) -> NoReturn:
    """Say what cannot be meant, as an object as well where one was asked for, and end."""
    if as_json:
        print_json({"rows": [], "missing": [why]})
    fail(why, BAD_INPUT)


def _nothing(why: str, *, as_json: bool, answer: LedgerAnswer | None = None) -> NoReturn:
    """Say why there is nothing to show, and end."""
    if as_json:
        print_json({**(answer.as_json() if answer else {"rows": []}), "missing": [why]})
    else:
        say(why)
    raise SystemExit(FAILED)
