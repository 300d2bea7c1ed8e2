"""`pointsman audit`: whether the sums are what the records say, and what left for where."""

from __future__ import annotations

import re
from pathlib import Path

from router.commands.audit_privacy import AskedPrivacy, audit_privacy
from router.commands.console import BAD_INPUT, FAILED, fail, print_json
from router.commands.inputs import opened_archive
from telemetry import keys, logs

REPAIR = """to repair: stop everything, put the store aside or delete its shards' marks, run
`pointsman restore`, start again; docs/archive.md, "A damaged cell" """.strip()


def audit(what: str, config: Path | None, asked: AskedPrivacy, *, as_json: bool) -> None:
    """Answer what is asked of the archive."""
    if what == "privacy":
        audit_privacy(config, asked, as_json=as_json)
        return
    if asked != AskedPrivacy():
        fail("--above, --outside and --since are of `pointsman audit privacy`", BAD_INPUT)
    _audit_state(what, config, as_json=as_json)


def _audit_state(what: str, config: Path | None, *, as_json: bool) -> None:
    """Compare the posteriors' sums with the archived records, byte for byte."""
    logs.configure()
    from workers.archive.audit import audit_state

    if what != "state":
        fail(f"there is no audit {what!r}; known: state, privacy", BAD_INPUT)
    with opened_archive(config) as archive:
        found = audit_state(archive)
        names = archive.client.hgetall(keys.NAMES)
    found.difference = found.difference and _with_names(found.difference, names)
    found.damaged = [_with_names(row, names) for row in found.damaged]
    if as_json:
        print_json(found.as_json())
    else:
        print(
            f"{found.shards} shards, {found.files} files, {found.records} records, "
            f"{found.rows} rows compared: {'equal' if found.equal else 'NOT equal'}"
        )
        if found.difference:
            print(f"{found.different} differences; the first: {found.difference}")
        for row in found.damaged:
            print(f"damaged: {row}")
        if found.damaged:
            print(REPAIR)
    if not found.equal or found.damaged:
        raise SystemExit(FAILED)


def _with_names(said: str, names: dict[bytes, bytes]) -> str:
    """Return a finding with the names of what it gives the digests of, as far as they are known."""

    def name(digest: re.Match[str]) -> str:
        found = names.get(digest[1].encode())
        return digest[0] if found is None else f"{digest[0]} ({found.decode()})"

    return re.sub(r"(?<= )([0-9a-f]{16})\b", name, said)
