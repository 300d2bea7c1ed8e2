"""The process that tells OpenTelemetry of calls: `python -m workers.spans`, a composition root.

Where to, how and as whom its own environment variables say: `OTEL_EXPORTER_OTLP_ENDPOINT`,
`OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_SERVICE_NAME` and the others of its exporter over HTTP.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from functools import partial
from pathlib import Path

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource

from telemetry import __version__, keys, logs
from telemetry.crashes import tell_without_words
from telemetry.errors import StoreUnavailable
from telemetry.processes import end_with_parent
from telemetry.store import Client, open_store
from workers.spans.making import SpanMaker
from workers.spans.names import StoredNames
from workers.spans.telling import tell


def main(argv: list[str] | None = None) -> int:
    """Tell of calls until SIGTERM or SIGINT; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m workers.spans", description=main.__doc__)
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--shards", type=int, required=True)
    parser.add_argument("--store-url-env", default=None, help="variable that holds the URL")
    parser.add_argument("--prefix", default=keys.DEFAULT_PREFIX, help="of every key in the store")
    options = parser.parse_args(argv)
    logs.configure()
    end_with_parent()
    os.nice(10)  # calls and folding come first
    for name in ("opentelemetry.exporter.otlp", "opentelemetry.sdk"):
        logging.getLogger(name).addHandler(logging.NullHandler())
        logging.getLogger(name).propagate = False  # what fails is said here, once
    stop, exporter = threading.Event(), OTLPSpanExporter()

    def end(*_: object) -> None:
        stop.set()
        exporter.shutdown()  # type: ignore[no-untyped-call] # else it tries again for seconds

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    own = {"service.name": os.environ.get("OTEL_SERVICE_NAME", "pointsman")}
    resource = Resource.create(own | {"service.version": __version__})
    named = options.store_url_env
    url = os.environ.get(named) if named else None
    try:
        with open_store(options.state_dir, url=url, named=named, prefix=options.prefix) as address:
            tell(address, options.shards, exporter, partial(_maker, resource), stop)
    except StoreUnavailable as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _maker(resource: Resource, client: Client) -> SpanMaker:
    return SpanMaker(StoredNames(client), resource)


if __name__ == "__main__":
    tell_without_words()
    raise SystemExit(main())
