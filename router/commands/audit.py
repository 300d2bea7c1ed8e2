"""`pointsman audit`: whether the sums are what the records say."""

from __future__ import annotations

from pathlib import Path

from router.commands.console import BAD_INPUT, FAILED, fail, print_json
from router.commands.inputs import opened_archive
from telemetry import logs


def audit(what: str, config: Path | None, *, as_json: bool) -> None:
    """Compare the posteriors' sums with the archived records, byte for byte."""
    logs.configure()
    from workers.archive.audit import audit_state

    if what != "state":
        fail(f"there is no audit {what!r}; known: state", BAD_INPUT)
    with opened_archive(config) as archive:
        found = audit_state(archive)
    if as_json:
        print_json(found.as_json())
    else:
        print(
            f"{found.shards} shards, {found.files} files, {found.records} records, "
            f"{found.rows} rows compared: {'equal' if found.equal else 'NOT equal'}"
        )
        if found.difference:
            print(f"{found.different} differences; the first: {found.difference}")
    if not found.equal:
        raise SystemExit(FAILED)
