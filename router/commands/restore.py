"""`pointsman restore`: a lost store, rebuilt from its archive."""

from __future__ import annotations

from pathlib import Path

from router.commands.console import FAILED, fail, print_json
from router.commands.inputs import opened_archive
from telemetry import logs


def restore(config: Path | None, *, as_json: bool) -> None:
    """Rebuild a lost store from the archive; the store must be empty."""
    logs.configure()
    from workers.archive.restore import CannotRestore
    from workers.archive.restore import restore as rebuild

    with opened_archive(config) as archive:
        try:
            found = rebuild(archive)
        except CannotRestore as error:
            fail(str(error), FAILED)
    if as_json:
        print_json(found.as_json())
        return
    print(f"restored {found.rows} rows, {found.labels} labels, {found.references} references")
    if found.left_out:
        print(f"{found.left_out} damaged rows are left out: their cells begin anew")
    if found.damaged:
        print(f"{found.damaged} files of the archive are damaged: their records are lost")
