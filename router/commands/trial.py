"""`pointsman trial`: start a trial, list those there are, stop one, or lift the pin that it left.

It talks to the store alone: routers that run go by it within a second.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from msgspec import structs, to_builtins

from bandit.cells import Terms
from router.beliefs.beliefs import Beliefs
from router.beliefs.kept_switch import read_store
from router.beliefs.releases import Releases
from router.beliefs.switch import SwitchFile, switch_of
from router.beliefs.trials import ended, is_of
from router.commands.console import BAD_INPUT, FAILED, VerbFailed, fail, print_json, say
from router.commands.inputs import opened_store
from router.commands.state import state_of
from router.commands.trial_plan import AskedTrial, plan_trial
from router.commands.trial_power import (
    MOST_PP,
    LabelledTraffic,
    alpha_of,
    books_traffic,
    read_traffic,
)
from router.config.compiled import Configuration, load
from router.config.places import find_file
from router.errors import ConfigError
from router.report.gather import read_beliefs
from router.report.terminal_text import clean
from telemetry import logs
from telemetry.clock import store_now_ms
from telemetry.dates import utc_day
from telemetry.store import Address, Client, StoreErrors, connect
from telemetry.trials import Trial, TrialRefused, TrialState, change, read_trials, start
from telemetry.trouble import trouble_of

TIMEOUT_S = 5.0
LIST, STOP, RESUME = "list", "stop", "resume"
NAMES_NOBODY = "name a TASK, or --app NAME for the whole app; or list, stop ID, resume ID"
BY_HAND = "stopped by hand"


@dataclass(frozen=True, slots=True)
class How:
    """How the verb was asked."""

    config: Path | None
    yes: bool
    as_json: bool


def trial(what: str, id_: str, asked: AskedTrial, how: How) -> None:
    """Do what is asked; ends with 1 where it is refused or the store is away, 2 if mistaken."""
    logs.configure()
    try:
        if what == LIST and id_:
            fail(f"{id_!r}: trial list takes no ID", BAD_INPUT)
        if what in (LIST, STOP, RESUME):
            _known(what, id_, how)
            return
        if id_:
            fail(f"{id_!r}: one TASK at a time", BAD_INPUT)
        if not what and asked.app is None:
            fail(NAMES_NOBODY, BAD_INPUT)
        _check_numbers(asked)
        _start(replace(asked, task=what), how)
    except VerbFailed as error:
        if how.as_json:
            print_json({"started": False, "trial": None, "why": error.text})
        raise


def _check_numbers(asked: AskedTrial) -> None:
    if not (math.isfinite(asked.days) and 1 <= asked.days <= 90):
        fail(f"--days {asked.days:g}: write 1 to 90", BAD_INPUT)
    cap = asked.cap_usd
    if cap is not None and not (math.isfinite(cap) and cap > 0):
        fail(f"--cap-usd {cap:g}: write what it may cost in USD, above 0", BAD_INPUT)


def _start(asked: AskedTrial, how: How) -> None:
    with _opened(how) as (configuration, address):
        _check_switch(configuration, address)
        beliefs, rows, _ = read_beliefs(configuration, address)
        with closing(connect(address, timeout_s=TIMEOUT_S)) as client:
            now_ms = store_now_ms(client)
            planned = plan_trial(asked, beliefs, now_ms=now_ms)
            found = _traffic(client, planned, beliefs, rows, now_ms)
            smallest = found.smallest_pp(asked.days, alpha_of(planned))
            planned = structs.replace(
                planned, smallest_pp=round(smallest, 2) if math.isfinite(smallest) else None
            )
            _tell(planned, found, smallest, asked.days, how)
            if smallest > MOST_PP:
                _too_small(found, smallest, asked, alpha_of(planned))
            if not how.yes:
                _ask()
            begun = store_now_ms(client)
            planned = structs.replace(
                planned, began_ms=begun, ends_ms=begun + planned.ends_ms - planned.began_ms
            )
            try:
                start(client, planned)
            except TrialRefused as error:
                fail(_beside(error.beside, planned), FAILED)
    if how.as_json:
        print_json({"started": True, "trial": to_builtins(planned), "why": None})
    else:
        print(f"trial {planned.id} runs; pointsman trial stop {planned.id} ends it")


def _check_switch(configuration: Configuration, address: Address) -> None:
    with closing(connect(address, timeout_s=TIMEOUT_S)) as client:
        in_store = read_store(client)
    if switch_of(SwitchFile(state_of(configuration.server)).read(), in_store).off:
        fail("not started: routing is off, so nothing is drawn; pointsman on first", FAILED)


def _traffic(
    client: Client, planned: Trial, beliefs: Beliefs, rows: Terms, now_ms: int
) -> LabelledTraffic:
    configuration = beliefs.configuration
    app = configuration.apps[planned.app]
    digest = app.digest if planned.is_of_app else planned.release_key
    told = read_traffic(client, digest, of_app=planned.is_of_app)
    if told is not None:
        return told
    own = [key for key in beliefs.choices if is_of(planned, key)]
    digests = [planned.release_key]
    if planned.is_of_app:
        digests = [d for key in own for d in key.release_keys(configuration.task_index)]
    releases = Releases(client)
    releases.read()
    begun = [releases.kept[key].begun_at_ms or now_ms for key in own if key in releases.kept]
    endpoints = [endpoint.digest for endpoint in configuration.catalog.endpoints]
    return books_traffic(rows, digests, endpoints, age_ms=now_ms - min(begun, default=now_ms))


def _tell(planned: Trial, found: LabelledTraffic, smallest: float, days: float, how: How) -> None:
    other = planned.challenger or "what routing gives"
    what = f"task {planned.task}" if planned.task else "all of it, by episode, else by user"
    role = f" in role {planned.role}" if planned.role else ""
    lines = [
        f"{planned.incumbent} against {other}, half of the units each, for {_days(days)}",
        f"in app {planned.app}{role} under {planned.strategy}: {what}",
        f"labelled units a day: {_count(found.per_day)}"
        + (", by the books of all calls" if found.is_of_books else ", as of the last week"),
    ]
    if math.isfinite(smallest):
        lines.append(f"the smallest difference that it can show: {smallest:.1f} points of quality")
    if planned.cap_usd is not None:
        lines.append(f"it ends once the challenger's side has cost {planned.cap_usd:g} USD")
    for line in lines:
        say(line) if how.as_json else print(line)


def _too_small(
    found: LabelledTraffic, smallest: float, asked: AskedTrial, alpha: float
) -> NoReturn:
    shows = f"only {smallest:.1f} points or more" if math.isfinite(smallest) else "nothing"
    days = found.days_for(MOST_PP, alpha)
    if days is not None:
        advice = f"--days {math.ceil(days)} would show {MOST_PP:g}"
    elif asked.task:
        advice = (
            "label more of its calls (tests, thumbs, a judge; see docs/rewards.md), "
            "or try a task with more traffic, or the whole app: pointsman trial --app NAME"
        )
    else:
        advice = "label more of its calls (tests, thumbs, a judge; see docs/rewards.md)"
    fail(f"not started: in {_days(asked.days)} it could show {shows}; {advice}", FAILED)


def _ask() -> None:
    if not sys.stdin.isatty():
        fail("not started: nobody to ask here; say --yes", BAD_INPUT)
    print("start it? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        fail("not started", FAILED)


def _beside(other: Trial, planned: Trial) -> str:
    if other.is_of_app and planned.task:
        why = f"a trial of the whole app {other.app} runs ({other.id}), and no other beside it"
    elif planned.is_of_app and not other.is_of_app:
        why = f"a trial of its task {other.task} runs ({other.id}), and the whole app's runs alone"
    else:
        why = f"trial {other.id} of it runs"
    return (
        f"not started: {why}; wait until {utc_day(other.ends_ms)}, "
        f"or pointsman trial stop {other.id}"
    )


def _known(what: str, id_: str, how: How) -> None:
    """List the trials, or change one."""
    with _opened(how) as (_, address), closing(connect(address, timeout_s=TIMEOUT_S)) as client:
        trials = read_trials(client)
        if what == LIST:
            _list(list(trials.values()), how)
            return
        found = _named(trials, id_, what)
        after = _stopped(found, store_now_ms(client)) if what == STOP else _resumed(found)
        if not change(client, after):
            fail(f"trial {found.id} has changed meanwhile; look again", FAILED)
    if how.as_json:
        print_json({"trial": to_builtins(structs.replace(after, version=after.version + 1))})
    elif what == RESUME:
        print(f"trial {found.id}: the incumbent is pinned no more")
    elif found.state is TrialState.WON:
        print(f"trial {found.id}: its hold-out has ended; the choice stays")
    else:
        print(f"trial {found.id} has ended")


def _named(trials: dict[str, Trial], id_: str, what: str) -> Trial:
    if not id_:
        fail(f"trial {what} ID: which one? See pointsman trial list", BAD_INPUT)
    found = [one for name, one in trials.items() if name.startswith(id_)]
    if len(found) != 1:
        which = "several begin so" if found else "there is no such trial"
        fail(f"ID {id_!r}: {which}; see pointsman trial list", BAD_INPUT)
    return found[0]


def _stopped(found: Trial, now_ms: int) -> Trial:
    if found.state is TrialState.WON and found.holdout > 0:
        return structs.replace(found, holdout=0.0)
    if found.state is not TrialState.RUNNING:
        fail(f"trial {found.id} has ended already ({found.reason})", FAILED)
    return ended(found, BY_HAND, now_ms=now_ms)


def _resumed(found: Trial) -> Trial:
    if found.state is not TrialState.ENDED or not found.auto_pin:
        fail(f"trial {found.id} pins nobody", FAILED)
    return structs.replace(found, auto_pin=False)


def _list(trials: list[Trial], how: How) -> None:
    if how.as_json:
        print_json({"trials": [to_builtins(one) for one in trials]})
        return
    if not trials:
        print("no trials yet: pointsman trial TASK starts one")
    for one in reversed(trials):
        against = one.challenger or "what routing gives"
        where = f"{one.app}/{one.task}" if one.task else f"{one.app} (all)"
        print(clean(f"{one.id}  {where}: {one.incumbent} against {against}"))
        print(f"    {clean(_state(one))}")


def _state(one: Trial) -> str:
    if one.state is TrialState.RUNNING:
        shows = "" if one.smallest_pp is None else f"; can show {one.smallest_pp:.1f} points"
        return f"runs since {utc_day(one.began_ms)}, until {utc_day(one.ends_ms)}{shows}"
    since = f"{utc_day(one.began_ms)} to {utc_day(one.ended_ms)}: {one.state.value} ({one.reason})"
    if one.state is TrialState.WON and one.holdout > 0:
        who = f"{one.challenger or 'what routing gives'} serves"
        return f"{since}; {100 * one.holdout:g} % of units stay with the incumbent while {who}"
    if one.state is TrialState.ENDED and one.auto_pin:
        return f"{since}; pinned to the incumbent"
    return since


def _count(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"


def _days(days: float) -> str:
    return f"{days:g} day{'' if days == 1 else 's'}"


@contextmanager
def _opened(how: How) -> Iterator[tuple[Any, Any]]:
    """Yield configuration and address of its store; what fails is said in plain words."""
    file = find_file(how.config)
    if not file.exists():
        fail(f"no configuration at {file}: make one by `pointsman init`", BAD_INPUT)
    try:
        configuration = load(file, secrets=False)
    except ConfigError as error:
        fail(str(error), BAD_INPUT)
    with opened_store(configuration) as address:
        try:
            yield configuration, address
        except BrokenPipeError:
            raise  # who reads what is printed has gone: that is not the store
        except StoreErrors as error:
            fail(f"the store: {trouble_of(error).shown}", FAILED)
