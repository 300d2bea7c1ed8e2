"""The worker process: `python -m workers`, a composition root."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from telemetry.processes import calm_collector, end_with_parent, sparing

with sparing():  # before anything else imports them
    import redis  # noqa: F401
    import structlog  # noqa: F401

from telemetry import keys, logs
from telemetry.crashes import tell_without_words
from telemetry.errors import StoreUnavailable
from telemetry.memory import max_mb_of
from telemetry.store import Address, open_store

if TYPE_CHECKING:
    from workers.jobs.place import Place


def main(argv: list[str] | None = None) -> int:
    """Run a learner, the jobs, or both, until SIGTERM or SIGINT; return the exit code."""
    options = _options(argv)
    logs.configure()
    end_with_parent()
    url = os.environ.get(options.store_url_env) if options.store_url_env else None
    stop, line = threading.Event(), _line(options.told)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _ask_to_stop(stop, line))
    try:
        named, prefix = options.store_url_env, options.prefix
        with open_store(options.state_dir, url=url, named=named, prefix=prefix) as address:
            if line is not None:
                _run_told(options, address, stop, line)
            elif options.jobs:
                _run_jobs(options, address, stop)
            else:
                with _jobs_beside(options, address, stop) if options.with_jobs else nullcontext():
                    _learn(options, address, stop)
    except StoreUnavailable as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m workers", description=main.__doc__)
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--shards", type=int, required=True)
    parser.add_argument("--store-url-env", default=None, help="variable that holds the URL")
    parser.add_argument("--prefix", default=keys.DEFAULT_PREFIX, help="of every key in the store")
    parser.add_argument("--young-hours", type=int, default=24, help="kept in the store itself")
    parser.add_argument("--max-mb", type=int, default=None, help="of memory for the store")
    parser.add_argument("--jobs", action="store_true", help="run the periodic jobs instead")
    parser.add_argument("--with-jobs", action="store_true", help="run them as well")
    parser.add_argument("--told", type=int, default=None, help="descriptor: run what comes there")
    parser.add_argument("--archive-days", type=float, default=30, help="0: keep no archive")
    parser.add_argument("--archive-max-bytes", type=int, default=8 << 30)
    parser.add_argument("--archive-every-s", type=float, default=3600, help="a file at least")
    parser.add_argument("--trail-days", type=float, default=400, help="of the audit trail")
    options = parser.parse_args(argv)
    given = sys.argv[1:] if argv is None else argv
    plain = [word for word in given if word not in ("--jobs", "--with-jobs")]
    options.runner = [sys.executable, "-m", "workers", *plain, "--jobs"]
    return options


def _line(descriptor: int | None) -> socket.socket | None:
    return None if descriptor is None else socket.socket(fileno=descriptor)


def _ask_to_stop(stop: threading.Event, line: socket.socket | None) -> None:
    stop.set()
    if line is not None:
        with suppress(OSError):
            line.shutdown(socket.SHUT_RD)  # who waits for more is to wait no longer


def _learn(options: argparse.Namespace, address: Address, stop: threading.Event) -> None:
    from workers.folding.learner import Learner

    calm_collector()
    journals, hours = options.state_dir / "journal", options.young_hours
    max_mb = max_mb_of(options.max_mb, is_private=address.private is not None)
    Learner(address, options.shards, journals, stop, young_hours=hours, max_mb=max_mb).run()


@contextmanager
def _jobs_beside(
    options: argparse.Namespace, address: Address, stop: threading.Event
) -> Iterator[None]:
    """Look after the jobs in a thread; whatever ends the learner ends it as well."""

    def look_after() -> None:
        try:
            _run_jobs(options, address, stop)
        finally:
            stop.set()  # without them no worker goes on: both are started again

    jobs = threading.Thread(target=look_after, name="jobs")
    jobs.start()
    try:
        yield
    finally:
        stop.set()
        jobs.join()


def _run_jobs(options: argparse.Namespace, address: Address, stop: threading.Event) -> None:
    from workers.jobs.clock import JobClock

    JobClock(_place(options, address, stop), options.runner).run()


def _run_told(
    options: argparse.Namespace, address: Address, stop: threading.Event, line: socket.socket
) -> None:
    from workers.jobs.schedule import run_told

    run_told(_place(options, address, stop), line)


def _place(options: argparse.Namespace, address: Address, stop: threading.Event) -> Place:
    from workers.archive.retention import Keep
    from workers.jobs.place import Place

    keep = Keep(options.archive_days, options.archive_max_bytes)
    root, every_s = options.state_dir / "archive", options.archive_every_s
    return Place(address, root, options.shards, keep, every_s, options.trail_days, stop)


if __name__ == "__main__":
    tell_without_words()
    raise SystemExit(main())
