"""Sabotage: one event is lost, or doubled, behind the parts' back; the proof must notice.

What was sent is deleted before anybody folds it, while all workers are frozen; or what was folded
is sent again as from another producer. No part can know of either: only the client's books do.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum

from scripts.proofs.chaos import Chaos
from telemetry import decoding, frames, keys
from telemetry.errors import MalformedEvent
from telemetry.events import Flag, Kind
from telemetry.store import Client, StoreErrors, connect

FIND_S = 20.0
"""Until a whole answer is told of: calls go on meanwhile, and come within moments."""
LOOK_S = 0.02


class Sabotage(StrEnum):
    """What is done."""

    LOSE = "lose"
    DOUBLE = "double"


class NothingToSabotage(Exception):
    """No call was answered in time."""


def answered_in(raw: bytes) -> bytes | None:
    """Return a frame's first record that tells of a whole answer, or None."""
    try:
        records, _ = decoding.decode(frames.unpack(raw).body)
    except MalformedEvent:
        return None
    whole = (records["kind"] == Kind.OUTCOME) & (records["status"] == 200)
    found = records[whole & ((records["flags"] & Flag.FINAL) > 0)]
    return bytes(found[0].tobytes()) if len(found) else None


def lose_one(chaos: Chaos) -> None:
    """Take a frame that tells of an answer out of the stream before any worker has read it."""
    n_before: dict[int, int] = {}  # shard -> entries that came before all were frozen

    def try_it(client: Client) -> bool:
        if freeze():
            n_before.clear()
        for shard in range(chaos.n_shards):
            name, since = keys.stream(shard), client.hget(keys.meta(shard), "mark") or b"0-0"
            waiting = client.xrange(name, min=b"(" + since)
            # The next one is sent to a worker that waits for it, though it cannot read.
            unread = {entry for entry, _ in waiting[n_before.setdefault(shard, len(waiting)) + 1 :]}
            for entry, raw in _told_once(client, shard, waiting):
                # One that was looked at already may be on its way a second time.
                seen = chaos.has_read(shard, entry) or entry not in unread
                if not seen and answered_in(raw) and client.xdel(name, entry):
                    return bool((client.hget(keys.meta(shard), "mark") or b"0-0") == since)
        return False

    with _freezing(chaos) as freeze:
        _until(chaos, try_it)


def _told_once(
    client: Client, shard: int, waiting: list[tuple[bytes, dict[bytes, bytes]]]
) -> list[tuple[bytes, bytes]]:
    """Return the frames that are no copies: of a copy the first one still has its effect."""
    found: dict[tuple[bytes, int], list[tuple[bytes, bytes]]] = {}
    for entry, fields in waiting:
        raw = fields.get(b"f", b"")
        with contextlib.suppress(MalformedEvent):
            frame = frames.unpack(raw)
            found.setdefault((frame.producer, frame.first), []).append((entry, raw))
    once = []
    for (producer, first), copies in found.items():
        known = client.hget(keys.producers(shard), producer) or b"0:0"
        if len(copies) == 1 and first >= int(known.split(b":")[0]):
            once += copies
    return once


def double_one(chaos: Chaos) -> None:
    """Send a record that was folded already, as another producer would."""

    def try_it(client: Client) -> bool:
        chaos.look()
        for shard, raw in chaos.recent:
            record = answered_in(raw)
            if record is not None:
                frame = frames.Frame(secrets.token_bytes(16), shard, 0, record)
                client.xadd(keys.stream(shard), {"f": frames.pack(frame)})
                return True
        return False

    _until(chaos, try_it)


@contextmanager
def _freezing(chaos: Chaos) -> Iterator[Callable[[], bool]]:
    """Yield what stops workers, and tells if there were new ones; they go on at the end."""
    frozen: set[int] = set()

    def freeze() -> bool:
        new = set(chaos.workers()) - frozen
        for pid in new:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                frozen.add(pid)
        return bool(new)

    try:
        yield freeze
    finally:
        for pid in frozen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _until(chaos: Chaos, try_it: Callable[[Client], bool]) -> None:
    until = time.monotonic() + FIND_S
    while time.monotonic() < until:
        with contextlib.suppress(*StoreErrors):
            if try_it(connect(chaos.address)):
                return
        time.sleep(LOOK_S)
    raise NothingToSabotage("no answer was told of in time")


SABOTAGES: dict[Sabotage, Callable[[Chaos], None]] = {
    Sabotage.LOSE: lose_one,
    Sabotage.DOUBLE: double_one,
}
