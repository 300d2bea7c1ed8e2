"""`pointsman catalog`: every endpoint with all that is known of it, and where that comes from."""

from __future__ import annotations

import time
from pathlib import Path

from router.commands.console import BAD_INPUT, fail, print_json, say
from router.config.compiled import load
from router.config.places import find_file
from router.errors import ConfigError
from router.report.catalog import catalog_lines, catalog_rows, catalog_warnings
from router.report.verified import verified_of


def catalog(config: Path | None, *, as_json: bool) -> None:
    """List the endpoints of a configuration; neither a store nor a key is asked for."""
    file = find_file(config)
    try:
        configuration = load(file, secrets=False)
    except ConfigError as error:
        fail(str(error), BAD_INPUT)
    at_s = time.time()
    found, verified = configuration.catalog, verified_of(configuration.server)
    rows, warnings = catalog_rows(found, at_s, verified), catalog_warnings(found, at_s)
    if as_json:
        print_json({"file": str(file), "endpoints": rows, "warnings": warnings})
        return
    for paragraph in catalog_lines(rows):
        print(paragraph)
    for line in warnings:
        say(line)
