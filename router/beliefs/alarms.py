"""Watches over endpoints in the store: closed once a minute by whichever router comes first.

Labels leave their residuals as sums that only grow; a bucket is what came since the last look. So
each label counts in exactly one bucket, however late it came, and nobody has to hold an office: a
look names the bucket that it goes on from, and of two routers one writes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np
import structlog

from bandit import watcher
from bandit.cells import E, Family, Terms, read_plain
from bandit.drift import BUCKET_MS, CALM, AlarmKind, Watch
from bandit.posterior import Posterior
from bandit.regimes import FIRST, Regimes
from bandit.watcher import LevelChange, Watched
from router.beliefs.splits import SplitNotice, never_alike, split_now
from router.endpoints.catalog import Catalog
from telemetry import keys
from telemetry.scripts import close_bucket
from telemetry.store import Client

log = structlog.get_logger()

MAX_ALARMS = 10_000
"""Alarms kept in the stream, about: years of them."""
CLOSED = b"closed"
SPLIT = "split"
"""What is announced of a host that was split off, where an alarm has its kind."""
MOST_AHEAD = 10
"""Buckets; a clock that is further ahead than that is wrong, and not waited for."""
ALL_ENDPOINTS = np.zeros(1, dtype=np.uint64)
"""Residuals are kept under no category."""


@dataclass(frozen=True, slots=True)
class AlarmNotice:
    """A change as it is announced."""

    kind: AlarmKind
    at_ms: int
    since_ms: int  # when the evidence began
    labels: float  # since then
    mean_residual: float  # of those, in sd of a single reward
    factor: float  # by which rewards moved


@dataclass(frozen=True, slots=True)
class EndpointWatch:
    """What is known of one endpoint."""

    watch: Watch = CALM
    regimes: Regimes = FIRST
    n: float = 0.0  # labels with a prediction that were looked at
    total: float = 0.0  # their residuals
    alarm: AlarmNotice | None = None  # the last one
    split: SplitNotice | None = None  # why it has a group of its own

    @property
    def alarmed_at_ms(self) -> int:
        """When its last alarm was raised; 0: never."""
        return self.alarm.at_ms if self.alarm else 0


UNKNOWN = EndpointWatch()


class Alarms:
    """A copy of all watches; not for several threads."""

    def __init__(self, client: Client) -> None:
        self.known: dict[int, EndpointWatch] = {}  # by the endpoint's digest
        self._client = client
        self._raw: dict[bytes, bytes] = {}

    def look(self) -> dict[bytes, bytes]:
        """Return all watches as they lie in the store.

        Raises:
            redis.RedisError: the store is away.
        """
        found: dict[bytes, bytes] = self._client.hgetall(keys.DRIFT)
        return found

    def take(self, raw: dict[bytes, bytes]) -> bool:
        """Take what was looked at for the copy; return whether an endpoint is known anew."""
        if raw == self._raw:
            return False
        before, self._raw = self._raw, raw
        self.known = {}
        for name, value in raw.items():
            if name != CLOSED and (found := _parse(name, value)) is not None:
                self.known[int(name, 16)] = found
        return {**before, CLOSED: b""} != {**raw, CLOSED: b""}

    def is_due(self, incarnation: bytes, *, now_ms: int) -> bool:
        """Return whether a bucket is over since the last look, or the store is another one.

        Whose clock is behind waits for it to catch up, so that two do not take turns all the time.
        """
        bucket, seen = _parse_closed(self._raw.get(CLOSED, b""))
        ahead = bucket - now_ms // BUCKET_MS
        return seen != incarnation or not 0 <= ahead <= MOST_AHEAD

    def close(
        self,
        rows: Terms,
        posterior: Posterior,
        catalog: Catalog,
        incarnation: bytes,
        *,
        now_ms: int,
        splits: Mapping[int, SplitNotice] = MappingProxyType({}),
    ) -> bool:
        """Close the bucket that is over; return whether an endpoint is known anew.

        Args:
            rows, posterior: as of now.
            incarnation: which store the rows are of. After a new one's sums nothing can be told of
                how they came about: what was known stays, and the next bucket begins with them.
            splits: whom the labels split off now from the other hosts of its group, by arm.
        Raises:
            redis.RedisError: the store is away; nothing was written, or the next look shows it.
        """
        seen, closed = self._raw.get(CLOSED, b""), _closed(incarnation, now_ms)
        sums = read_plain(rows, Family.RESIDUALS, names=ALL_ENDPOINTS, endpoints=catalog.digests)[0]
        goes_on = bool(seen) and _parse_closed(seen)[1] == incarnation
        fresh: dict[int, EndpointWatch] = {}
        splits = dict(splits)
        raised: dict[int, LevelChange] = {}
        for arm, digest in enumerate(catalog.digests.tolist()):
            was = self.known.get(digest, UNKNOWN)
            n, total = float(sums[arm, E.N]), float(sums[arm, E.TOTAL])
            if math.isnan(n):
                continue  # damaged: what was known stays, for when the sums are whole again
            now = replace(was, n=n, total=total)
            if goes_on and n >= was.n:  # fewer than were known: not how they came about either
                watched, change = watcher.close(
                    Watched(was.watch, was.regimes),
                    now_ms // BUCKET_MS - 1,
                    count=n - was.n,
                    total=total - was.total,
                    posterior=posterior,
                    arm=arm,
                )
                if change and (split := never_alike(change, posterior, catalog, arm, now_ms)):
                    watched, change, splits[arm] = Watched(regimes=was.regimes), None, split
                now = replace(now, watch=watched.watch, regimes=watched.regimes)
                if change is not None:
                    raised[arm] = change
                    now = replace(now, alarm=_alarm(change, now_ms))
            kind = raised[arm].alarm.kind if arm in raised else None
            found = split_now(was.split, kind, splits.get(arm), catalog, arm, now_ms=now_ms)
            now = replace(now, split=found)
            if now != was:
                fresh[digest] = now
        names = {arm: catalog.endpoints[arm].id for arm in raised}
        told = [*_told(raised, names, now_ms), *self._told_splits(fresh, catalog)]
        return self._write(seen, closed, fresh, told)

    def _told_splits(
        self, fresh: Mapping[int, EndpointWatch], catalog: Catalog
    ) -> Iterator[dict[str, Any]]:
        """Yield the splits that are new, as they are announced among the alarms."""
        for digest, now in fresh.items():
            if now.split and now.split != self.known.get(digest, UNKNOWN).split:
                yield {"endpoint": catalog.by_digest[digest].id, "kind": SPLIT, **asdict(now.split)}

    def _write(
        self,
        seen: bytes,
        closed: bytes,
        fresh: Mapping[int, EndpointWatch],
        alarms: list[dict[str, Any]],
    ) -> bool:
        watches = {f"{digest:016x}": msgspec.json.encode(known) for digest, known in fresh.items()}
        if not close_bucket(
            self._client,
            seen=seen,
            closed=closed,
            watches=watches,
            alarms=[msgspec.json.encode(alarm) for alarm in alarms],
            keep=MAX_ALARMS,
        ):
            return False
        self.known.update(fresh)
        written = {name.encode(): value for name, value in watches.items()}
        self._raw = {**self._raw, **written, CLOSED: closed}
        for alarm in alarms:
            is_split = alarm["kind"] == SPLIT
            log.warning("a host was split off" if is_split else "an endpoint changed", **alarm)
        return bool(fresh)


def by_arm(catalog: Catalog, known: Mapping[int, EndpointWatch]) -> tuple[EndpointWatch, ...]:
    """Return what is known of each endpoint of a catalog."""
    return tuple(known.get(digest, UNKNOWN) for digest in catalog.digests.tolist())


def by_group(catalog: Catalog, known: Iterable[EndpointWatch]) -> list[int]:
    """Return when the last alarm named a host of each group, in epoch ms; 0: never."""
    at_ms = [one.alarmed_at_ms for one in known]
    return [max(at_ms[arm] for arm in arms) for arms in catalog.group_members]


def _closed(incarnation: bytes, now_ms: int) -> bytes:
    """Return what says that all buckets before this moment's are closed, and of which store."""
    return b"%d %s" % (now_ms // BUCKET_MS, incarnation)


def _parse_closed(value: bytes) -> tuple[int, bytes]:
    """Return the first bucket that is not closed, and the store's incarnation."""
    bucket, _, incarnation = value.partition(b" ")
    return int(bucket) if bucket.isdigit() else 0, incarnation


def _alarm(change: LevelChange, now_ms: int) -> AlarmNotice:
    found = change.alarm
    since_ms = found.from_bucket * BUCKET_MS
    return AlarmNotice(
        found.kind, now_ms, since_ms, found.labels, found.mean_residual, change.level
    )


def _told(
    raised: dict[int, LevelChange], names: dict[int, str], now_ms: int
) -> list[dict[str, Any]]:
    return [
        {"endpoint": names[arm], **asdict(_alarm(change, now_ms))} for arm, change in raised.items()
    ]


def _parse(name: bytes, raw: bytes) -> EndpointWatch | None:
    """Return a stored watch; None, and a line in the log, where it cannot be read."""
    try:
        int(name, 16)
        return msgspec.json.decode(raw, type=EndpointWatch)
    except (ValueError, msgspec.DecodeError) as error:
        log.error("a watch cannot be read", name=name.decode("latin-1"), error=type(error).__name__)
        return None
