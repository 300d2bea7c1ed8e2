"""`pointsman report`: is it worth it, what changed, what did it cost, what is amiss."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from router.commands.console import BAD_INPUT, FAILED, fail, print_json, say
from router.config.places import find_file
from router.report.gather import Report, gather
from router.report.terminal import print_report
from telemetry import logs


def report(
    config: Path | None,
    strategy: str | None,
    given: Mapping[str, str | None],
    *,
    shows_all: bool,
    as_json: bool,
    html: Path | None = None,
) -> None:
    """Print the report of the configured store.

    Args:
        given: what it is narrowed to, by the names of the options.
        shows_all: every task, and as many lines as it takes.
        html: where the page is kept as a file; `-` is the standard output.
    """
    logs.configure()
    if as_json and html == Path("-"):
        fail("--html -: --json has the output; name a file, or leave one out", BAD_INPUT)
    file, every = find_file(config), shows_all or as_json
    opens = html is not None
    found = gather(file, strategy, given, every_task=every, opens_all=opens, with_rows=as_json)
    if found.bad_input:
        fail(found.bad_input, BAD_INPUT)
    found.shows_all = shows_all
    if html is not None and found.page is not None:
        _keep(found, html)
    if as_json:
        print_json(found.as_json())
    elif html is None or found.page is None:
        print_report(found)
    if found.failed:
        raise SystemExit(FAILED)


def _keep(found: Report, html: Path) -> None:
    """Write the page as a file."""
    from router.report.face.html import page_html
    from router.report.face.keep import STDOUT, keep

    assert found.page is not None
    try:
        keep(page_html(found.page, found.details), html)
    except OSError as error:
        fail(f"--html {html}: {error.strerror}", BAD_INPUT)
    if html != STDOUT:
        say(f"the report is in {html}")
