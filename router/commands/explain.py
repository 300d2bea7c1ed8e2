"""`pointsman explain`: why a decision fell as it did, or which decisions a session had.

A sidecar is asked, by its HTTP; where none runs that was not named by `--url`, the store and the
files of the configuration's own state directory are.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import httpx
from rich.console import Console
from rich.table import Table

from router.commands.console import BAD_INPUT, FAILED, VerbFailed, fail, print_json, say
from router.commands.explain_session import show_session
from router.commands.inputs import (
    NO_POINTSMAN,
    opened_store,
    owners_sidecar,
    reaching,
)
from router.commands.state import state_of
from router.config.places import find_file
from router.report.screen import console

if TYPE_CHECKING:
    from router.config.compiled import Configuration

PATH = "/v1/router/decisions"
ASK_S = 10.0
STORE_S = 5.0
TWO_SIDES = ("trial_incumbent", "trial_challenger")
"""Steps of the law that leave the choice aside."""
COLUMNS = (
    ("propensity", "probability", ".4f"),
    ("quality", "quality", ".3f"),
    ("quality_sd", "± sd", ".3f"),
    ("labels", "labels", ".0f"),
    ("calls", "calls", ".0f"),
    ("reliability", "reliability", ".3f"),
    ("cost_usd", "USD/call", ".6f"),
    ("latency_s", "mean s", ".2f"),
    ("latency_q99_s", "p99 s", ".2f"),
    ("utility", "utility", ".4f"),
)


class AskedDecisions(NamedTuple):
    """What is asked for: a decision, a session's, or where neither is named the last one."""

    id_: str = ""
    session: str = ""


def explain(
    id_: str,
    session: str,
    *,
    last: bool,
    url: str | None,
    key: str,
    config: Path | None,
    as_json: bool,
) -> None:
    """Print what is kept of a decision, or of a session's."""
    if bool(id_) + last + bool(session) != 1:
        fail(
            "name a decision by one ID, or ask for the last one by --last, or for those of a "
            "session or episode by --session ID",
            BAD_INPUT,
        )
    asked = AskedDecisions(id_, session)
    at, headers = owners_sidecar(url, key, config)
    try:
        answer = ask(asked.id_, url=at, headers=headers, session=asked.session)
    except httpx.ConnectError as error:
        if url is not None:
            with reaching(at):
                raise
        say(f"no sidecar at {at} ({type(error).__name__}): the store itself is asked")
        answer = None
    except (httpx.TransportError, httpx.InvalidURL):
        with reaching(at):
            raise
    found = from_store(asked, config) if answer is None else _read(answer, at)
    if as_json:
        print_json(found)
    elif asked.session:
        show_session(found)
    else:
        show(found)


def ask(id_: str, *, url: str, headers: dict[str, str], session: str = "") -> httpx.Response:
    """Return the sidecar's answer; without an id or session it is asked for the last decision.

    Raises:
        httpx.HTTPError, httpx.InvalidURL: it was not reached.
    """
    with httpx.Client(trust_env=False, timeout=ASK_S) as client:
        given = {name: said for name, said in (("id", id_), ("session", session)) if said}
        return client.get(f"{url}{PATH}", params=given, headers=headers)


def _read(answer: httpx.Response, url: str) -> dict[str, Any]:
    """Return the explanation in an answer, or say why there is none."""
    try:
        found = answer.json()
        error = None if answer.is_success else found["error"]
        refused = "" if error is None else str(error["message"])
    except (ValueError, KeyError, TypeError):
        fail(NO_POINTSMAN.format(url, answer.status_code), FAILED)
    if error is not None:
        _fail(refused, error.get("candidates"), is_bad_input=answer.status_code < 500)
    return dict(found)


def from_store(asked: AskedDecisions, config: Path | None) -> dict[str, Any]:
    """Return what the configured store and state directory have, without any sidecar.

    Whoever reads those needs no seal: an id is taken at its word.
    """
    from router.decision.seal import unsealed
    from router.errors import RequestRejected
    from router.explain.desk import ExplainDesk
    from router.explain.files import DecisionFiles
    from router.explain.shared import SharedDecisions
    from telemetry.store import connect

    configuration = _compiled(config)
    server, n_shards = configuration.server, configuration.store.shards
    with ExitStack() as open_now:
        try:
            kept_in = state_of(server) / "decisions"
            address = open_now.enter_context(opened_store(configuration))
        except VerbFailed:  # which said why
            raise SystemExit(FAILED) from None
        client = open_now.enter_context(closing(connect(address, timeout_s=STORE_S)))
        files = DecisionFiles(kept_in, days=server.explain_days, max_bytes=server.explain_max_bytes)
        shared = SharedDecisions(client, bound=lambda: 0, days=server.explain_days)
        desk = ExplainDesk((files, shared), client, n_shards=n_shards, open_id=unsealed)
        try:
            if asked.session:
                return desk.session(asked.session, configuration)
            id_ = asked.id_
            return desk.explain(id_, configuration) if id_ else desk.last(configuration)
        except RequestRejected as error:
            _fail(str(error), error.details.get("candidates"), is_bad_input=error.status < 500)


def _compiled(config: Path | None) -> Configuration:
    """Return the configuration without its secrets: no provider is asked anything."""
    from router.config.compiled import compile_text
    from router.config.file import read
    from router.errors import ConfigError

    file = find_file(config)
    try:
        return compile_text(read(file), file=str(file), secrets=False)
    except ConfigError as error:
        fail(str(error), BAD_INPUT)


def _fail(message: str, candidates: list[dict[str, Any]] | None, *, is_bad_input: bool) -> NoReturn:
    from router.explain.told import time_of

    rows = [
        f"  {row['id']}  {time_of(row['decided_at_ms'])}  {row['drawn'] or ''}".rstrip()
        for row in candidates or ()
    ]
    fail("\n".join([message, *rows]), BAD_INPUT if is_bad_input else FAILED)


def show(found: dict[str, Any], to: Console | None = None) -> None:
    """Print an explanation."""
    from router.explain.told import limit_lines, lines

    to = to or console()
    for line in lines(found):
        to.print(line, markup=False, highlight=False)
    drawing = found if found["draw"] else found["draw_of"]
    if drawing is not None and drawing["draw"]:
        to.print(_candidates(drawing["draw"], found["step"]))
        for line in limit_lines(drawing["draw"]):
            to.print(line, markup=False, highlight=False)
    elif found["known"]:
        to.print(_table(found["known"], "known of those that may serve"))
    for endpoint, reason in (found["exclusions"] or {}).items():
        to.print(f"excluded: {endpoint} ({reason})", markup=False, highlight=False)


def _candidates(draw: dict[str, Any], step: str | None) -> Table:
    law = draw["law"]
    what = "learning mode" if law["learning_mode"] else f"choice: {law['current']}"
    if step in TWO_SIDES:
        what = "the two sides of a trial"  # whose law has the challenger in place of the choice
    masses = ", ".join(f"{name} {law[name]:.3g}" for name in ("holdout", "floor", "stay"))
    rows = sorted(draw["candidates"], key=lambda row: -row["propensity"])
    return _table(rows, f"{what}; {masses}")


def _table(rows: list[dict[str, Any]], title: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("endpoint")
    shown = [column for column in COLUMNS if any(row.get(column[0]) is not None for row in rows)]
    for _, heading, _ in shown:
        table.add_column(heading, justify="right")
    for row in rows:
        cells = [
            "–" if row.get(name) is None else format(row[name], form) for name, _, form in shown
        ]
        table.add_row(row["endpoint"], *cells)
    return table
