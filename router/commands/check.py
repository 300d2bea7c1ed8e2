"""`pointsman check`: every problem of the configuration at once."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from router.commands.console import BAD_INPUT, print_json, say
from router.commands.effective import Effective, Wanted
from router.commands.state import problem_of_state
from router.config.bindings import warn_of_inactive
from router.config.checks import address_problem
from router.config.entries import File
from router.config.exemplars import warn_of_exemplars
from router.config.file import parse, read
from router.config.ignored import warn_of_ignored
from router.config.masking import HIDDEN
from router.config.parts import warn_of_shared_parts
from router.config.places import NoHome, find_file
from router.config.standing import warn_of_unreachable
from router.endpoints.terms import agreement_warnings
from router.errors import ConfigError, Problem
from telemetry.embedded import socket_path
from telemetry.errors import StoreUnavailable

STATE_DIR = "server.state_dir"


def check(
    config: Path | None,
    *,
    as_json: bool,
    effective: tuple[str | None, str | None, str | None] | None = None,
) -> None:
    """List every problem, or say how much there is of everything.

    A sound file may still be one that cannot be run here: that counts, too.

    Args:
        effective: app, role and task of which is told what holds, None for all; None: nothing is.
    """
    file = find_file(config)
    try:
        entries = parse(read(file), file=str(file))
        if here := list(problems_here(entries)):
            raise ConfigError(str(file), here)
    except ConfigError as error:
        if as_json:
            problems = [
                {"line": p.line, "field": p.field, "value": p.value, "hint": p.hint}
                for p in error.problems
            ]
            print_json({"ok": False, "file": str(file), "problems": problems})
        else:
            for problem in error.problems:
                say(problem.shown(str(file)))
        raise SystemExit(BAD_INPUT) from None
    counts = {
        "endpoints": len(entries.endpoints),
        "groups": len({endpoint.group_key for endpoint in entries.endpoints}),
        "tasks": len(entries.all_tasks),
        "strategies": len(entries.all_strategies),
        "apps": len(entries.all_apps),
    }
    warnings = [
        *agreement_warnings(_agreed(entries), time.time()),
        *warn_of_unreachable(entries),
        *warn_of_ignored(entries),
        *warn_of_inactive(entries),
        *warn_of_shared_parts(entries),
        *warn_of_exemplars(entries),
    ]
    holds = Effective(file, Wanted(*effective)) if effective is not None else None
    if as_json:
        sound = {"ok": True, "file": str(file), "problems": []}
        print_json({**sound, **counts, "warnings": warnings, **(holds.as_json() if holds else {})})
    else:
        for line in warnings:
            say(line)
        for line in holds.lines() if holds else ():
            print(line)
        print(f"{file}: ok, " + ", ".join(f"{n} {what}" for what, n in counts.items()))


def _agreed(entries: File) -> Iterator[tuple[str, date | None]]:
    """Yield what is used by agreement, and the last day of that."""
    for endpoint in entries.endpoints:
        provider = entries.providers.get(endpoint.provider or "")
        agreement = endpoint.agreement or (provider and provider.agreement)
        yield endpoint.id, agreement.until if agreement else None
    for name, provider in entries.providers.items():
        if provider.passthrough and provider.agreement:
            yield name, provider.agreement.until


def problems_here(entries: File) -> Iterator[Problem]:
    """Yield what keeps a configuration from being run on this machine."""
    url = os.environ.get("REDIS_URL")
    if url and not entries.store.url_env:
        problem = address_problem(url, named="REDIS_URL")
        if problem is not None:
            yield Problem(0, "REDIS_URL", HIDDEN, problem)
    named = entries.server.state_dir or "its default"
    try:
        state_dir = entries.server.state_directory()
        problem = problem_of_state(state_dir)
        if problem is None and not (url or entries.store.url_env):
            socket_path((state_dir / "store").resolve())
    except (NoHome, StoreUnavailable) as error:
        problem = str(error)
    if problem is not None:
        hint = problem.removeprefix(f"{STATE_DIR}: ").removeprefix(f"{named}: ")
        yield Problem(0, STATE_DIR, str(named), hint)
