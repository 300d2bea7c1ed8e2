"""`pointsman forget`: has the sidecar forget a user, and says what went and what stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from router.commands.console import BAD_INPUT, FAILED, fail, print_json
from router.commands.inputs import NO_POINTSMAN, owners_sidecar, reaching

TIMEOUT_S = 120.0
"""Every draw in the store is looked at."""


def forget(
    user: str, *, app: str | None, url: str | None, key: str, config: Path | None, as_json: bool
) -> None:
    """Ask the sidecar; where it or its store does not answer, end in 1."""
    if not user.strip():
        fail("USER is empty: write the label that its calls carry", BAD_INPUT)
    url, headers = owners_sidecar(url, key, config)
    body = {"user": user} | ({} if app is None else {"app": app})
    with reaching(url), httpx.Client(trust_env=False, timeout=TIMEOUT_S) as client:
        answer = client.post(f"{url}/v1/router/forget", json=body, headers=headers)
    try:
        found = answer.json()
        lines = said(found, app) if answer.is_success else [found["error"]["message"]]
    except (ValueError, KeyError, TypeError):
        fail(NO_POINTSMAN.format(url, answer.status_code), FAILED)
    if not answer.is_success:
        fail(lines[0], BAD_INPUT if answer.status_code < 500 else FAILED)
    if as_json:
        print_json(found)
    else:
        print("\n".join(lines))


def said(found: dict[str, Any], app: str | None) -> list[str]:
    """Return what was deleted and what was not, in lines."""
    where = f"in app {app}" if app is not None else f"in all apps ({found['apps']})"
    rows, left = found["rater_rows"], found["rater_rows_left"]
    lines = [
        f"forgotten {where}; deleted:",
        f"  draws in the store    {found['draws']}",
        f"  conversations there   {found['conversations']}",
        f"  in the router         {found['in_memory']}; other routers within a second",
        f"  rows as a rater       {rows - left}",
    ]
    if left:
        lines.append(f"  {left} rows as a rater go once a worker gets to the event")
    days = found["archive_keep_days"]
    kept = f"keep it for {days:g} days (archive.keep_days)"
    archived = f"archived records {kept}" if days else "there is no archive (archive.keep_days: 0)"
    lines.append(f"decisions of the last day keep the keyed hash; {archived}")
    return lines
