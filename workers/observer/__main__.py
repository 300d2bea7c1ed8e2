"""The observer: reads labels off finished calls, in a process of its own beside the router.

It is told of calls over a socket, keeps digests of them for a while, and writes verdicts to its
own journal, from where they travel like any feedback. Text is never written. It ends with its
router.
"""

from __future__ import annotations

import argparse
import gc
import os
import secrets
import socket
import time
from pathlib import Path

from telemetry.processes import end_with_parent, sparing

with sparing():  # before anything else imports them
    import redis  # noqa: F401
    import structlog

from telemetry import event_ids, events, keys, logs
from telemetry.crashes import tell_without_words
from telemetry.errors import MalformedEvent
from telemetry.events import FeedbackKind
from telemetry.journal import what_helps
from telemetry.observed import HEADER_BYTES, Observed, sizes, unpack
from telemetry.repeats import repeated
from telemetry.store import open_store
from telemetry.writer import Writer
from workers.observer import rewards
from workers.observer.rewards import DerivedLabel, Memory, ObservedCall

log = structlog.get_logger()

BUFFER_BYTES = 256 << 10
"""A read takes what the router gathered."""
GC_THRESHOLD = (50_000, 50, 50)
"""What is remembered of calls holds no cycles, and is long to look through."""


def observe(line: socket.socket, writer: Writer) -> None:
    """Read labels off every call that the router tells of, until it hangs up."""
    memory = Memory(salt=secrets.token_bytes(16))
    with line.makefile("rb", buffering=BUFFER_BYTES) as stream:
        while header := stream.read(HEADER_BYTES):
            if len(header) < HEADER_BYTES:
                return
            n_request, n_answer = sizes(header)
            body = stream.read(n_request + n_answer)
            if len(body) < n_request + n_answer:
                return
            for verdict in rewards.derive(_call(unpack(header, body)), memory):
                writer.put(_record(verdict))
            for repeat, taken_back in memory.take_repeats():
                writer.put(repeated(repeat, taken_back=taken_back))


def _call(told: Observed) -> ObservedCall:
    return ObservedCall(
        decision=told.decision,
        app=told.app.to_bytes(8, "little"),
        unit=told.unit,
        stateless=told.stateless,
        began_at_s=told.began_at_s,
        ended_at_s=told.ended_at_s,
        answered=told.answered,
        streamed=told.streamed,
        dialect=told.dialect,
        request=told.request,
        answer=told.answer,
        in_session=told.in_session,
        first_endpoint=told.first_endpoint,
        cost_nano=told.cost_nano,
    )


def _record(verdict: DerivedLabel) -> bytes:
    return events.feedback(
        verdict.decision,
        kind=FeedbackKind.DERIVED,
        value=verdict.value,
        revision=verdict.revision,
        event=event_ids.new_event_id(int(time.time() * 1000)),
        source=verdict.source,
        rules=rewards.VERSION,
        chain=verdict.chain,
    )


def _begins(writer: Writer) -> bool:
    """Begin to write; where there is no room for it, say so: who ended is started again."""
    try:
        writer.start()
    except OSError as error:
        log.error(
            "the journal cannot be begun: no labels are read off calls",
            path=str(writer.root),
            reason=error.strerror,
            fix=what_helps(error),
        )
        return False
    return True


def main(argv: list[str] | None = None) -> int:
    """Observe until the router hangs up; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m workers.observer", description=main.__doc__)
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--shards", type=int, required=True)
    parser.add_argument("--prefix", default=keys.DEFAULT_PREFIX, help="of every key in the store")
    parser.add_argument("--socket", type=int, required=True, help="inherited descriptor")
    options = parser.parse_args(argv)
    logs.configure()
    end_with_parent()
    url = os.environ.pop("POINTSMAN_STORE_URL", None)
    with (
        open_store(options.state_dir, url=url, prefix=options.prefix) as address,
        socket.socket(fileno=options.socket) as line,
    ):
        writer = Writer(options.state_dir / "journal", address, options.shards, decides=False)
        if not _begins(writer):
            return 1
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLD)
        try:
            observe(line, writer)
        except MalformedEvent as error:
            log.error("the line to the router is out of step", reason=str(error))
            return 1
        finally:
            writer.close()
    return 0


if __name__ == "__main__":
    tell_without_words()
    raise SystemExit(main())
