"""A fixed set of records, and the pipeline stepped by hand: no thread, no sleep."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conftest import SHARDS

from telemetry import digests, events, keys
from telemetry.events import FeedbackKind, Flag, Match, Result
from telemetry.journal import Journal
from telemetry.store import Address, StoreErrors, connect
from telemetry.tokens import Token
from telemetry.writer import Counters, Sender
from telemetry.young import DIGEST_BYTES, YoungSpan
from workers.archive.archive import said_in
from workers.folding.learner import Learner

NOW_MS = int(time.time() * 1000) - 1000  # long enough ago for what was decided to be settled
DAY_MS = 86_400_000
PRODUCER = b"p" * 16


def token(nonce: int, *, at_ms: int = NOW_MS) -> bytes:
    raw = nonce.to_bytes(16, "big")
    shard, category, endpoint = nonce % SHARDS, 1 + nonce % 2, 3 + nonce % 3
    flags = int(Flag.ROUTED)
    body = Token(
        1,
        shard,
        flags,
        raw,
        at_ms,
        category,
        2,
        endpoint,
        4,
        5,
        6,
        7,
        0.5,
        0.5,
        0.1,
        0.4,
        nonce % 2,
    )
    return body.pack()


def said_in_store(client: Any, shard: int = 0) -> dict[bytes, bytes]:
    """What lies in the store of young decisions, by their nonces, whose first bytes are 0 here."""
    out: dict[bytes, bytes] = {}
    for span, part in said_in(client.hgetall(keys.parts(shard))):
        for name, row in client.hgetall(keys.labels(shard, span, part)).items():
            out[name.rjust(16, bytes(1))] = row
    return out


def named_in_store(client: Any, shard: int = 0) -> set[bytes]:
    """The last bytes of the digests that name young decisions."""
    out: set[bytes] = set()
    for span, value in client.hgetall(keys.parts(shard)).items():
        for n in YoungSpan.parse(value).references:
            for part in range(n):
                hash_of_it = keys.references(shard, int(span), f"{n}.{part}")
                out |= {name[:DIGEST_BYTES] for name in client.hkeys(hash_of_it)}
    return out


def outcome(nonce: int, *, at_ms: int = NOW_MS) -> bytes:
    return events.outcome(
        token(nonce, at_ms=at_ms),
        result=Result.SERVER if nonce % 7 == 0 else Result.OK,
        attempt=1,
        status=200,
        flags=int(Flag.USAGE_KNOWN | Flag.FINAL | Flag.PRICED),
        tokens_out=10 + nonce,
        latency_s=0.5 + nonce / 100,
        cost_nano=nonce,
        response=digests.digest16("app", "response", str(nonce)),
        reference=digests.digest16("app", "ref", str(nonce // 10)),
    )


def said(number: int, nonce: int | None, value: float | None, **more: Any) -> bytes:
    more.setdefault("kind", FeedbackKind.HUMAN)
    more.setdefault("revision", 0)
    event = NOW_MS.to_bytes(6, "big") + number.to_bytes(4, "big") + bytes(6)
    body = None if nonce is None else token(nonce)
    return events.feedback(body, value=value, event=event, **more)


def referring(number: int, of: str, name: str, **more: Any) -> bytes:
    digest = digests.digest16("app", of, name)
    return said(number, None, 0.25, reference=digest, app=5, shard=digest[0] % SHARDS, **more)


def records() -> list[bytes]:
    """Forty outcomes and twenty feedbacks, some before their outcome, and one bad record."""
    early = [said(1, 30, 1.0), referring(2, "response", "31"), referring(3, "response", "32")]
    outcomes = [outcome(i) for i in range(37)]
    stale = [outcome(i, at_ms=NOW_MS - 20 * DAY_MS) for i in range(37, 40)]
    rest = [
        *(said(i, i, i / 20) for i in range(4, 10)),
        said(10, 4, 0.9, revision=1),  # corrected
        said(11, 5, None, revision=1),  # retracted
        said(12, 6, 0.1, kind=FeedbackKind.TEST),
        said(13, 7, 0.2, kind=FeedbackKind.JUDGE),
        referring(14, "response", "33"),
        referring(15, "response", "34", kind=FeedbackKind.TEST),
        referring(16, "ref", "1", match=Match.ALL),
        said(17, 8, 0.3, revision=2),
        said(17, 8, 0.3, revision=2),  # said twice
        said(18, 20, 0.4),
    ]
    old = NOW_MS - 2 * DAY_MS
    digest = digests.digest16("app", "ref", "nobody")
    unmatched = events.feedback(
        None,
        kind=FeedbackKind.HUMAN,
        value=1.0,
        revision=0,
        event=old.to_bytes(6, "big") + bytes(10),
        reference=digest,
        app=5,
        shard=digest[0] % SHARDS,
    )
    poison = outcome(40)[:-8] + bytes(8)
    return [*early, *outcomes, *stale, *rest, unmatched, poison]


RECORDS = records()
COUNTED = {"outcomes", "feedback", "held", "dead", "unmatched", "missing"}


@contextmanager
def journalled(root: Path) -> Iterator[Journal]:
    """A journal of several segments with everything in it."""
    journal = Journal(root, SHARDS, segment_bytes=4096, producer=PRODUCER)
    journal.open()
    for record in RECORDS:
        assert journal.append(record)
    yield journal


def send_all(journal: Journal, client: Any) -> None:
    sender = Sender(journal.directory, client, Counters())
    while True:
        try:
            if not sender.send_some(keep=journal.current):
                return
        except StoreErrors:
            continue


class Leap:
    """A clock that makes everything due at every look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 10.0
        return self.now


def fold_all(address: Address, admin: Any, journals: Path) -> None:
    """Step a learner until all is folded and joined, and twice more."""
    asked_to_stop = threading.Event()
    asked_to_stop.set()  # so that no step waits for anything
    learner = Learner(address, SHARDS, journals, asked_to_stop, Leap())
    client = connect(address)
    left = 2
    for _ in range(30):
        learner.step(client)
        left -= is_folded(admin)
        if not left:
            client.close()
            return
    raise AssertionError("it was not all folded")


def is_folded(admin: Any) -> bool:
    for shard in range(SHARDS):
        last = admin.xrevrange(keys.stream(shard), count=1)
        if last and admin.hget(keys.meta(shard), "mark") != last[0][0]:
            return False
        if admin.hlen(keys.held(shard)):
            return False
    return True


def state(admin: Any) -> dict[str, Any]:
    """Return everything that the records brought about."""
    out: dict[str, Any] = {}
    for shard in range(SHARDS):
        out[keys.rows(shard)] = admin.hgetall(keys.rows(shard))
        out[keys.touched(shard)] = set(admin.zrange(keys.touched(shard), 0, -1))
        out[keys.held(shard)] = admin.hgetall(keys.held(shard))
        dead = [(f[b"reason"], f[b"raw"]) for _, f in admin.xrange(keys.dead(shard))]
        out[keys.dead(shard)] = Counter(dead)
        meta = admin.hgetall(keys.meta(shard))
        out[keys.meta(shard)] = {name: meta.get(f"n_{name}".encode()) for name in COUNTED}
    for name in admin.scan_iter("*:labels:*", count=1000):
        out[name.decode()] = admin.hgetall(name)
    for name in admin.scan_iter("*:spent:[cut]:*", count=1000):
        out[name.decode()] = admin.hgetall(name)
    for name in admin.scan_iter("*:ref:*", count=1000):
        out[name.decode()] = admin.lrange(name, 0, -1)
    return out


def reset(admin: Any) -> None:
    admin.flushall()
    admin.script_flush()
