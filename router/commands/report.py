"""`pointsman report`: is it worth it, what changed, what did it cost, what is amiss."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from router.commands.console import BAD_INPUT, FAILED, fail, print_json
from router.config.places import find_file
from router.report.gather import gather
from router.report.terminal import print_report
from telemetry import logs


def report(
    config: Path | None,
    strategy: str | None,
    given: Mapping[str, str | None],
    *,
    shows_all: bool,
    as_json: bool,
) -> None:
    """Print the report of the configured store.

    Args:
        given: what it is narrowed to, by the names of the options.
        shows_all: every task, and as many lines as it takes.
    """
    logs.configure()
    found = gather(find_file(config), strategy, given, every_task=shows_all or as_json)
    if found.bad_input:
        fail(found.bad_input, BAD_INPUT)
    found.shows_all = shows_all
    if as_json:
        print_json(found.as_json())
    else:
        print_report(found)
    if found.failed:
        raise SystemExit(FAILED)
