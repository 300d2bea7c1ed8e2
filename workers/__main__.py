"""The worker process: `python -m workers`, a composition root."""

from __future__ import annotations

import argparse
import os
import signal
import threading
from pathlib import Path

from telemetry import logs
from telemetry.processes import end_with_parent
from telemetry.store import open_store
from workers.learner import Learner


def main(argv: list[str] | None = None) -> int:
    """Run a learner until SIGTERM or SIGINT; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m workers", description=main.__doc__)
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--shards", type=int, required=True)
    parser.add_argument("--store-url-env", default=None, help="variable that holds the URL")
    options = parser.parse_args(argv)
    logs.configure()
    end_with_parent()
    url = os.environ.get(options.store_url_env) if options.store_url_env else None
    run(options.state_dir, shards=options.shards, store_url=url)
    return 0


def run(state_dir: Path, *, shards: int, store_url: str | None) -> None:
    """Fold until a signal asks to stop."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with open_store(state_dir, url=store_url) as address:
        Learner(address, shards, state_dir / "journal", stop).run()


if __name__ == "__main__":
    raise SystemExit(main())
