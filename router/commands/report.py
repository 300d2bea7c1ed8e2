"""`pointsman report`: what is known of every endpoint, by task category."""

from __future__ import annotations

from pathlib import Path

from router.commands.console import BAD_INPUT, FAILED, fail, print_json
from router.config.places import find_file
from router.report.gather import gather
from router.report.terminal import print_report
from telemetry import logs


def report(config: Path | None, strategy: str | None, *, as_json: bool) -> None:
    """Print the report of the configured store."""
    logs.configure()
    found = gather(find_file(config), strategy)
    if found.bad_input:
        fail(found.bad_input, BAD_INPUT)
    if as_json:
        print_json(found.as_json())
    else:
        print_report(found)
    if found.failed:
        raise SystemExit(FAILED)
