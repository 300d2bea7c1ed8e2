"""`pointsman up` and `pointsman work`: what is checked first, and which parts are run."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from router.commands.console import say
from router.commands.inputs import check_layout, opened_store, require_port, written
from router.commands.supervisor import STOP_MARGIN_S, Part, Plan
from router.config.places import find_file
from telemetry import logs
from telemetry.processes import own_environment

if TYPE_CHECKING:
    from router.config.entries import File
    from router.config.process import ArchiveEntry


def up(config: Path | None, longest_pause_s: float) -> None:
    """Run store, worker, jobs and router until a signal asks to stop."""
    logs.configure()
    entries = written(config)
    server = entries.server
    require_port(server)
    with opened_store(entries) as address:
        check_layout(entries, address)
        command = [sys.executable, "-m", "router.cli", "serve", "--config", str(find_file(config))]
        say(f"pointsman: {server.url}/v1  (state in {server.state_directory()})")
        router = Part("router", command, stop_s=server.drain_s + STOP_MARGIN_S)
        _run([router, *_workers(entries, address)], address, longest_pause_s)


def work(config: Path | None, longest_pause_s: float) -> None:
    """Run a worker and the periodic jobs until a signal asks to stop."""
    logs.configure()
    entries = written(config)
    with opened_store(entries) as address:
        check_layout(entries, address)
        _run(_workers(entries, address), address, longest_pause_s)


def worker_command(state_dir: Path, *, shards: int, store_url: str | None) -> list[str]:
    """Return how a worker is started; the URL may hold a password, so it travels by environment."""
    command = [sys.executable, "-m", "workers", "--state-dir", str(state_dir)]
    command += ["--shards", str(shards)]
    if store_url:
        command += ["--store-url-env", "POINTSMAN_STORE_URL"]
    return command


def jobs_command(worker: list[str], *, archive: ArchiveEntry) -> list[str]:
    """Return how the periodic jobs are started, beside a worker."""
    limits = ["--archive-days", str(archive.keep_days)]
    limits += ["--archive-max-bytes", str(archive.max_bytes)]
    limits += ["--archive-every-s", str(archive.every_s)]
    return [*worker, "--jobs", *limits]


def _workers(entries: File, address: Any) -> list[Part]:
    """Return what folds and archives; the store's URL goes by environment."""
    url = None if address.private else address.url
    if url:
        os.environ["POINTSMAN_STORE_URL"] = url
    state_dir = entries.server.state_directory()
    worker = worker_command(state_dir, shards=entries.store.shards, store_url=url)
    return [Part("worker", worker), Part("jobs", jobs_command(worker, archive=entries.archive))]


def _run(parts: list[Part], address: Any, longest_pause_s: float) -> NoReturn:
    """Become the supervisor: it does nothing that needs what was imported for these checks.

    The store is not stopped by it, and who comes then holds it like anybody else.
    """
    store = address.private.directory if address.private else None
    plan = Plan(parts, str(store) if store else None, longest_pause_s)
    command = [sys.executable, "-m", "router.commands.supervisor", "up", plan.text()]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, command, own_environment())  # noqa: S606 - our own module
