"""`pointsman explain`: asks the sidecar why a decision fell as it did, and prints it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from rich.console import Console
from rich.table import Table

from router.commands.console import BAD_INPUT, FAILED, fail, print_json
from router.commands.inputs import NO_POINTSMAN, owners_sidecar, reaching
from router.report.terminal import console

COLUMNS = (
    ("propensity", "probability", ".4f"),
    ("quality", "quality", ".3f"),
    ("quality_sd", "± sd", ".3f"),
    ("labels", "labels", ".0f"),
    ("calls", "calls", ".0f"),
    ("reliability", "reliability", ".3f"),
    ("cost_usd", "USD/call", ".6f"),
    ("latency_q99_s", "p99 s", ".2f"),
    ("utility", "utility", ".4f"),
)


def explain(
    decision_id: str, *, url: str | None, key: str, config: Path | None, as_json: bool
) -> None:
    """Print what the sidecar says of a decision."""
    url, headers = owners_sidecar(url, key, config)
    with reaching(url):
        answer = ask(decision_id, url=url, headers=headers)
    try:
        found = answer.json()
        refused = None if answer.is_success else found["error"]["message"]
    except (ValueError, KeyError, TypeError):
        fail(NO_POINTSMAN.format(url, answer.status_code), FAILED)
    if refused is not None:
        fail(refused, BAD_INPUT if answer.status_code < 500 else FAILED)
    if as_json:
        print_json(found)
    else:
        show(found)


def ask(decision_id: str, *, url: str, headers: dict[str, str]) -> httpx.Response:
    """Return the sidecar's answer.

    Raises:
        httpx.HTTPError, httpx.InvalidURL: it was not reached.
    """
    with httpx.Client(trust_env=False, timeout=10) as client:
        name = quote(decision_id, safe="")
        return client.get(f"{url}/v1/router/decisions/{name}", headers=headers)


def show(found: dict[str, Any], to: Console | None = None) -> None:
    """Print an explanation."""
    to = to or console()
    for line in _lines(found):
        to.print(line, markup=False, highlight=False)
    drawing = found if found["draw"] else found["draw_of"]
    if drawing is not None and drawing["draw"]:
        to.print(_candidates(drawing["draw"]))
        for line in _limits(drawing["draw"]):
            to.print(line, markup=False, highlight=False)
    for endpoint, reason in (found["exclusions"] or {}).items():
        to.print(f"excluded: {endpoint} ({reason})", markup=False, highlight=False)


def _lines(found: dict[str, Any]) -> list[str]:
    above = found.get("decided_by", found["task"])
    task = found["task"] if above == found["task"] else f"{found['task']} (by {above})"
    lines = [
        f"{_time(found['decided_at_ms'])}: {found['drawn']}, for task {task} of app "
        f"{found['app']} under {found['strategy']}, posteriors {found['posterior_version']}"
    ]
    if not found["routed"] or found["step"] is None:
        lines.append("nothing was drawn: the call was not routed")
    elif found["follows"]:
        at = _time(found["follows"]["decided_at_ms"])
        lines.append(f"it follows the draw of {at}, as a session or slot does")
        if found["draw_of"] is None:
            lines.append("the numbers of that draw are not kept here")
    if found.get("stands_in_for"):
        lines.append(f"it stands in for {found['stands_in_for']}, whose breaker was open")
    if found.get("translated"):
        lines.append(f"translated from {found['translated']}")
    if found.get("left_out"):
        lines.append(f"left out: {', '.join(found['left_out'])}")
    if found["step"] is not None:
        lines.append(f"step of the law: {found['step']}, probability {found['propensity']:.6g}")
    if found["answered_by"] not in (None, found["drawn"]):
        was_asked = found["drawn"] not in (found["exclusions"] or {})
        why = "it failed" if was_asked else "it may not serve this call"
        lines.append(f"{why}, and {found['answered_by']} answered")
    if found["note"]:
        lines.append(f"note: {found['note']}")
    return lines


def _limits(draw: dict[str, Any]) -> list[str]:
    """Return the lines on limits and on money; draws kept by earlier versions tell neither."""
    lines = []
    if outside := draw.get("outside_limits"):
        lines.append(f"outside the soft limits: {', '.join(outside)}")
    if relaxed := draw.get("relaxed"):
        lines.append(f"nobody kept the limit on {', '.join(relaxed)}, so it gave way")
    if value := draw.get("value_usd"):
        lines.append(f"a success was worth {value:.3g} USD")
    return lines


def _candidates(draw: dict[str, Any]) -> Table:
    law = draw["law"]
    what = "learning mode" if law["learning_mode"] else f"choice: {law['current']}"
    masses = ", ".join(f"{name} {law[name]:.3g}" for name in ("holdout", "floor", "stay"))
    table = Table(title=f"{what}; {masses}", title_justify="left")
    table.add_column("endpoint")
    for _, title, _ in COLUMNS:
        table.add_column(title, justify="right")
    for row in sorted(draw["candidates"], key=lambda row: -row["propensity"]):
        cells = ["–" if row[name] is None else format(row[name], form) for name, _, form in COLUMNS]
        table.add_row(row["endpoint"], *cells)
    return table


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
