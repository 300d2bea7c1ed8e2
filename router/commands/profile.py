"""`pointsman profile`: a user's own prompts at every endpoint.

The command reads, shows and asks; a process of its own makes the calls (`profile_child`). Results
on stdout, everything else on stderr.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from bandit.profiled import AdviceKind
from router.commands.console import (
    BAD_INPUT,
    FAILED,
    VerbFailed,
    fail,
    print_json,
    require_consent,
    say,
)
from router.commands.inputs import compiled
from router.commands.profile_line import ChildLine
from router.commands.profile_shown import shown_commands, shown_end, shown_plan, too_little
from router.commands.state import require_state, state_of
from router.config.compiled import Configuration
from router.config.places import find_file, state_problem
from router.endpoints.catalog import Endpoint
from router.profiling.check_command import hide_environment
from router.profiling.log import read_log
from router.profiling.prompts import BadPrompts, ProfilePrompt, lines_of, read_prompts
from router.profiling.runs import LOG, make_directory, run_directory

NO_TERMINAL = "there is no terminal to ask on: look at the plan above, and say --yes"


def profile(options: dict[str, Any]) -> None:
    """Run prompts, and say which endpoint to pin or whether to route."""
    as_json = bool(options["json_"])
    try:
        _profile(options, as_json=as_json)
    except VerbFailed as error:
        if as_json and error.text:
            print_json({"failure": error.text})
        raise


def _profile(options: dict[str, Any], *, as_json: bool) -> None:
    max_usd = float(options["max_usd"])
    if not (math.isfinite(max_usd) and max_usd > 0):
        fail(f"--max-usd is {max_usd:g}; write how many USD it may cost, such as 10", BAD_INPUT)
    configuration = compiled(options["config"])
    app = _app(configuration, options["app_"])
    endpoints = _endpoints(configuration, options["endpoint"] or ())
    judge = _judge(configuration, options["judge"])
    strategy = _strategy(configuration, app, options["strategy"])
    html: Path | None = options["html"]
    _require_writable(html)
    prompts = _prompts(options["file"], configuration)
    _require_graders(prompts, judge)
    _agree_to_commands(prompts, allowed=options["allow_commands"], yes=options["yes"])
    state_dir = state_of(configuration.server)
    require_state(state_dir)
    directory = run_directory(state_dir, prompts, endpoints, judge=judge, app=app)
    _make(directory, state_dir)
    task = {
        "config": str(find_file(options["config"]).absolute()),
        "directory": str(directory.absolute()),
        "app": app,
        "endpoints": [endpoint.id for endpoint in endpoints],
        "judge": judge.id if judge is not None else None,
        "per_cell": options["per_cell"],
        "max_usd": max_usd,
        "workers": options["workers"],
        "again": options["again"],
        "prompts": prompts,
    }
    with ChildLine(task, directory / LOG) as child:
        plan = child.plan()
        for text in shown_plan(plan, judges_itself=judge in endpoints):
            say(text)
        if not plan["affordable_calls"] and plan["calls"] and not (plan["kept"] or plan["done"]):
            fail(too_little(plan), FAILED)
        if plan["affordable_calls"] or plan["kept"]:
            require_consent(
                f"Send {plan['calls']} calls?", no_terminal=NO_TERMINAL, yes=options["yes"]
            )
        child.go()
        end = child.end()
    _tell_end(directory, plan, end, configuration, strategy, html=html, as_json=as_json)


def _tell_end(
    directory: Path,
    plan: dict[str, Any],
    end: dict[str, Any],
    configuration: Configuration,
    strategy: str,
    *,
    html: Path | None,
    as_json: bool,
) -> None:
    """Print what came of it; end with 1 where that is not all that was wanted."""
    from router.profiling.page import html_of
    from router.profiling.table import lines_of, spent, table_of
    from router.report.screen import console

    results = read_log(directory).results()
    objective = configuration.strategies[strategy].objective
    table = table_of(
        results,
        strategy=strategy,
        objective=objective,
        incumbent=plan["incumbent"],
        silent=end["no_answer"],
        unpriced=_unpriced(configuration),
        perhaps_paid_usd=end["perhaps_paid_usd"],
        weights={task: float(n) for task, n in plan["in_file"].items()},
    )
    has_sentence = table.found.advice.kind is not AdviceKind.NONE
    notes, failure = shown_end(plan, end, results, has_sentence=has_sentence)
    if html is not None:
        try:
            html.write_text(html_of(table), encoding="utf-8")
        except OSError as error:
            failure = failure or f"--html {html}: cannot be written ({error.strerror})"
    for text in notes:
        say(text)
    if as_json:
        whole = {**table.as_json(), "plan": plan, "run": end, "failure": failure or None}
        print_json(whole)
    elif any(result.ok for result in results):
        for text in lines_of(table, console().width):
            print(text)
    elif table.perhaps_paid_usd:
        say(spent(table))
    if failure:
        say(failure)
        raise SystemExit(FAILED)


def _unpriced(configuration: Configuration) -> set[str]:
    """Return endpoints of which nobody knows what a call costs."""
    endpoints = configuration.catalog.endpoints
    return {e.id for e in endpoints if e.prices is None and not e.terms.is_subscribed}


def _app(configuration: Configuration, named: str | None) -> str:
    if named is None:
        return next(iter(configuration.apps))
    if named not in configuration.apps:
        _unknown("app", named, list(configuration.apps))
    return named


def _endpoints(configuration: Configuration, named: Sequence[str]) -> list[Endpoint]:
    catalog = configuration.catalog
    for name in named:
        if name not in catalog.by_id:
            _unknown("endpoint", name, list(catalog.by_id))
    return [e for e in catalog.endpoints if not named or e.id in named]


def _judge(configuration: Configuration, named: str | None) -> Endpoint | None:
    if named is None:
        return None
    if named not in configuration.catalog.by_id:
        _unknown("judge", named, list(configuration.catalog.by_id))
    return configuration.catalog.by_id[named]


def _strategy(configuration: Configuration, app: str, named: str | None) -> str:
    strategies = configuration.strategies
    if named is None:
        own = configuration.apps[app].entry.strategy
        return own if own in strategies else "quality"
    if named not in strategies:
        _unknown("strategy", named, list(strategies))
    return named


def _unknown(option: str, named: str, known: Sequence[str]) -> NoReturn:
    fail(f"--{option} {named}: there is none; the configuration has {', '.join(known)}", BAD_INPUT)


def _prompts(file: Path, configuration: Configuration) -> list[ProfilePrompt]:
    try:
        if str(file) == "-":
            found = _read(sys.stdin.buffer, Path.cwd(), configuration)
        else:
            with file.open("rb") as opened:
                found = _read(opened, file.absolute().parent, configuration)
    except OSError as error:
        fail(f"{file}: cannot be read ({error.strerror})", BAD_INPUT)
    except BadPrompts as error:
        fail(f"{file}: nothing was sent\n{error}", BAD_INPUT)
    return found


def _read(opened: Any, beside: Path, configuration: Configuration) -> list[ProfilePrompt]:
    classes = configuration.classes.names
    found = read_prompts(
        lines_of(opened), tasks=configuration.tasks, classes=classes, beside=beside
    )
    if found.repeated:
        say(f"{found.repeated} lines say what an earlier one says; each counts once")
    return found.prompts


def _require_graders(prompts: Sequence[ProfilePrompt], judge: Endpoint | None) -> None:
    without = [prompt.line for prompt in prompts if prompt.grader is None]
    if without and judge is None:
        shown = ", ".join(map(str, without[:5])) + (" …" if len(without) > 5 else "")
        fix = "give each an expected answer, a schema or a check, or name a judge by --judge"
        fail(f"{len(without)} prompts say nothing to grade by (lines {shown}); {fix}", BAD_INPUT)


def _agree_to_commands(prompts: Sequence[ProfilePrompt], *, allowed: bool, yes: bool) -> None:
    graders = [prompt.grader for prompt in prompts if prompt.grader is not None]
    commands = list(dict.fromkeys(g.command for g in graders if g.command))
    if not commands:
        return
    for text in shown_commands(commands):
        say(text)
    if not allowed:
        fail("the prompts run these commands: look at them, and say --allow-commands", BAD_INPUT)
    require_consent("Run these commands here?", no_terminal=NO_TERMINAL, yes=yes)
    hide_environment()  # the process that runs them has its own hidden


def _require_writable(html: Path | None) -> None:
    """Say before anything is spent that the page cannot be written."""
    if html is None:
        return
    where = html if html.exists() else html.absolute().parent
    if html.is_dir() or not where.exists() or not os.access(where, os.W_OK):
        fail(f"--html {html}: cannot be written there", BAD_INPUT)


def _make(directory: Path, state_dir: Path) -> None:
    try:
        make_directory(directory)
    except OSError as error:
        fail(state_problem(state_dir, error) or f"{directory}: {error.strerror}", BAD_INPUT)
