"""`pointsman up` and `pointsman work`: what is checked first, and which parts are run."""

from __future__ import annotations

import os
import sys
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from router.commands.console import FAILED, fail
from router.commands.greeting import greeting_of
from router.commands.inputs import check_layout, kept_port, opened_store, require_port, written
from router.commands.router_process import command as router_command
from router.commands.state import require_state, state_of
from router.commands.supervisor import STOP_MARGIN_S, Part, ProcessPlan
from router.config.checks import address_problem
from router.config.places import find_file
from router.net.address import SharedPort
from telemetry.keys import DEFAULT_PREFIX
from telemetry.processes import own_environment

if TYPE_CHECKING:
    from router.commands.early import EarlyRouter
    from router.config.entries import File
    from router.config.process import ArchiveEntry, AuditEntry

SPAN_EXPORTER = "opentelemetry-exporter-otlp-proto-http"
"""The package of the extra `otel` that brings all others."""
READY_FILE = "router.port"
"""In the state directory: the router's port, once it listens."""


def up(
    config: Path | None,
    longest_pause_s: float,
    processes: int = 1,
    early: EarlyRouter | None = None,
) -> None:
    """Run store, worker and router until a signal asks to stop.

    Several routers share sockets that are bound here: so a port that is taken is refused, any free
    one is the same for all, and who waits to be let in is not lost with one that dies, as with a
    queue for each (SO_REUSEPORT).

    Whether the store can be used the router finds out: it is started first, and where it does not
    come to listen, nothing else is started.
    """
    entries = written(config)
    server, state_dir = entries.server, state_of(entries.server)
    require_state(state_dir)
    sockets = kept_port(server) if processes > 1 else require_port(server)
    url = entries.store.url() or os.environ.get("REDIS_URL")
    named = entries.store.url_env or "REDIS_URL"
    if url and (problem := address_problem(url, named=named)):
        fail(problem, FAILED)
    ready = state_dir / READY_FILE
    file = find_file(config)
    routers = [
        Part(
            f"router {number}" if sockets else "router",
            [
                sys.executable,
                *router_command(file, *_of_several(number, sockets, ready)),
            ],
            stop_s=max(server.drain_s, server.drain_most_s) + STOP_MARGIN_S,
            reloads=True,
            sockets=sockets,
        )
        for number in range(1, processes + 1)
    ]
    _run(
        ProcessPlan(
            [*routers, *_workers(entries, url)],
            store=None if url else str(state_dir / "store"),
            first_ready=str(ready),
            early=(early.pid, early.line) if early is not None else None,
            greeting=greeting_of(entries, state_dir),
            longest_pause_s=longest_pause_s,
        )
    )


def _of_several(number: int, sockets: list[int], ready: Path) -> list[str]:
    """Return what one of several routers is told; the first one says that it serves."""
    told = ["--ready", str(ready)] if number == 1 else []
    return [*told, "--shared", SharedPort(str(number), sockets).text()] if sockets else told


def work(config: Path | None, longest_pause_s: float) -> None:
    """Run a worker and the periodic jobs until a signal asks to stop."""
    entries = written(config)
    require_state(state_of(entries.server))
    with opened_store(entries) as address:
        check_layout(entries, address)
        url = None if address.private else address.url
        store = str(address.private.directory) if address.private else None
        _run(ProcessPlan(_workers(entries, url), store=store, longest_pause_s=longest_pause_s))


def worker_command(
    state_dir: Path,
    *,
    shards: int,
    store_url: str | None,
    prefix: str = DEFAULT_PREFIX,
    young_hours: int = 24,
    max_mb: int | None = None,
) -> list[str]:
    """Return how a worker is started; the URL may hold a password, so it travels by environment."""
    command = [sys.executable, "-m", "workers", "--state-dir", str(state_dir.absolute())]
    command += ["--shards", str(shards), "--prefix", prefix, "--young-hours", str(young_hours)]
    if max_mb is not None:
        command += ["--max-mb", str(max_mb)]
    if store_url:
        command += ["--store-url-env", "POINTSMAN_STORE_URL"]
    return command


def with_jobs(worker: list[str], *, archive: ArchiveEntry, audit: AuditEntry) -> list[str]:
    """Return how a worker is started that sees to the periodic jobs as well."""
    limits = ["--archive-days", str(archive.keep_days)]
    limits += ["--archive-max-bytes", str(archive.max_bytes)]
    limits += ["--archive-every-s", str(archive.every_s)]
    limits += ["--trail-days", str(audit.keep_days)]
    return [*worker, "--with-jobs", *limits]


def spans_command(worker: list[str]) -> list[str]:
    """Return how calls are told to OpenTelemetry, beside a worker on the same store."""
    try:
        version(SPAN_EXPORTER)
    except PackageNotFoundError:
        fail(
            "otel.spans: install Pointsman with its extra `otel`: packages are missing",
            FAILED,
        )
    known = ("--state-dir", "--shards", "--prefix", "--store-url-env")
    own = [sys.executable, "-m", "workers.spans"]
    for name, value in pairwise(worker):
        own += [name, value] if name in known else []
    return own


def _workers(entries: File, url: str | None) -> list[Part]:
    """Return what folds and archives; the store's URL goes by environment."""
    if url:
        os.environ["POINTSMAN_STORE_URL"] = url
    state_dir = entries.server.state_directory()
    store = entries.store
    worker = worker_command(
        state_dir,
        shards=store.shards,
        store_url=url,
        prefix=store.prefix,
        young_hours=store.young_hours,
        max_mb=store.max_mb,
    )
    folding = with_jobs(worker, archive=entries.archive, audit=entries.audit)
    parts = [Part("worker", folding)]
    return [*parts, Part("spans", spans_command(worker))] if entries.otel.spans else parts


def _run(plan: ProcessPlan) -> NoReturn:
    """Become the supervisor: it does nothing that needs what was imported for these checks.

    A private store that runs is not stopped by it, and who comes then holds it like anybody else.
    """
    command = [sys.executable, "-m", "router.commands.supervisor", "up", plan.text()]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, command, own_environment())  # noqa: S606 - our own module
