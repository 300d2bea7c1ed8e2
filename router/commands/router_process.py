"""The router as a part of a stack: `python -m router.commands.router_process serve …`.

It does what `pointsman serve` does, without the library that reads command lines for people: that
takes 6 MB for as long as the process lives.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from router.commands.early import awaited
from telemetry.crashes import tell_without_words
from telemetry.processes import end_with_parent, sparing


def command(config: Path | None, *more: str) -> list[str]:
    """Return the module and the arguments that a router is started with."""
    named = ["--config", str(config)] if config is not None else []
    return ["-m", "router.commands.router_process", "serve", *named, *more]


def main() -> None:
    """Serve until a signal asks to stop."""
    tell_without_words()
    end_with_parent()
    parser = argparse.ArgumentParser(prog="python -m router.commands.router_process")
    parser.add_argument("verb", choices=["serve"])
    parser.add_argument("--config", type=Path)
    parser.add_argument("--ready", type=Path, help="write the port here once it listens")
    parser.add_argument("--shared", help="its number, and descriptors to listen at: 2:5,6")
    parser.add_argument("--await-ready", type=int, help="descriptor on which --ready comes")
    options = parser.parse_args()
    with sparing():  # before anything else imports them
        import httpx  # noqa: F401
        import redis  # noqa: F401
        import structlog  # noqa: F401

    from router.commands.serve import serve

    ready = options.ready if options.await_ready is None else awaited(options.await_ready)
    serve(options.config, ready, options.shared)


if __name__ == "__main__":
    main()
