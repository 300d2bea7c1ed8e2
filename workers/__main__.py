"""The worker process: `python -m workers`, a composition root."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

from telemetry import keys, logs
from telemetry.crashes import tell_without_words
from telemetry.errors import StoreUnavailable
from telemetry.memory import max_mb_of
from telemetry.processes import end_with_parent
from telemetry.store import Address, open_store
from workers.folding.learner import Learner


def main(argv: list[str] | None = None) -> int:
    """Run a learner, or the jobs, until SIGTERM or SIGINT; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m workers", description=main.__doc__)
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--shards", type=int, required=True)
    parser.add_argument("--store-url-env", default=None, help="variable that holds the URL")
    parser.add_argument("--prefix", default=keys.DEFAULT_PREFIX, help="of every key in the store")
    parser.add_argument("--young-hours", type=int, default=24, help="kept in the store itself")
    parser.add_argument("--max-mb", type=int, default=None, help="of memory for the store")
    parser.add_argument("--jobs", action="store_true", help="run the periodic jobs instead")
    parser.add_argument("--archive-days", type=float, default=30, help="0: keep no archive")
    parser.add_argument("--archive-max-bytes", type=int, default=8 << 30)
    parser.add_argument("--archive-every-s", type=float, default=3600, help="a file at least")
    parser.add_argument("--trail-days", type=float, default=400, help="of the audit trail")
    options = parser.parse_args(argv)
    logs.configure()
    end_with_parent()
    url = os.environ.get(options.store_url_env) if options.store_url_env else None
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        named, prefix = options.store_url_env, options.prefix
        with open_store(options.state_dir, url=url, named=named, prefix=prefix) as address:
            if options.jobs:
                _run_jobs(options, address, stop)
            else:
                journals, hours = options.state_dir / "journal", options.young_hours
                max_mb = max_mb_of(options.max_mb, is_private=address.private is not None)
                Learner(
                    address, options.shards, journals, stop, young_hours=hours, max_mb=max_mb
                ).run()
    except StoreUnavailable as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _run_jobs(options: argparse.Namespace, address: Address, stop: threading.Event) -> None:
    from workers.archive.retention import Keep
    from workers.jobs.jobs import Place
    from workers.jobs.schedule import run_jobs

    keep = Keep(options.archive_days, options.archive_max_bytes)
    root, every_s = options.state_dir / "archive", options.archive_every_s
    run_jobs(Place(address, root, options.shards, keep, every_s, options.trail_days, stop))


if __name__ == "__main__":
    tell_without_words()
    raise SystemExit(main())
