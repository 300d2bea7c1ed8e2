"""Watches over endpoints in the store: closed every five seconds by whichever router comes first.

Labels are sums that only grow; a bucket is what came since the last look, which is kept beside
the watches. So each label counts in exactly one bucket, however late it came, and nobody has to
hold an office: a look names the bucket that it goes on from, and of two routers one writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np
import structlog
from numpy.typing import NDArray

from bandit import watcher
from bandit.cells import Terms
from bandit.drift import BUCKET_MS, CALM, Alarm, AlarmKind, News, Watch
from bandit.incumbent import Standings
from bandit.posterior import Posterior
from bandit.regimes import FIRST, Regimes
from bandit.utility import may_judge
from bandit.watcher import Watched
from router.beliefs import looked_at
from router.beliefs.levels import AllTasks
from router.beliefs.splits import SplitNotice, ended_alike, split_now
from router.config.compiled import Configuration
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
MOST_AHEAD = 50
"""Buckets; a clock that is further ahead than that is wrong, and not waited for."""
FORMER_BUCKETS = 5
"""Buckets of today in one of those that were counted before, of five seconds."""
FIRST_BUCKET = 1_000_000_000
"""Numbers below are of those: buckets of a second have had ten digits since 2001."""


@dataclass(frozen=True, slots=True)
class AlarmNotice:
    """A change as it is announced."""

    kind: AlarmKind
    at_ms: int
    since_ms: int  # when the evidence began
    labels: float  # since then
    mean_residual: float  # of those, in sd of a coin flip at the level expected
    factor: float  # by which rewards moved


@dataclass(frozen=True, slots=True)
class EndpointWatch:
    """What is known of one endpoint."""

    watch: Watch = CALM
    regimes: Regimes = FIRST
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
        self._quiet: int | None = None  # version of rows that showed nothing new

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

    def is_due(self, incarnation: bytes, *, now_ms: int, version: int | None = None) -> bool:
        """Return whether a bucket is over since the last look, or the store is another one.

        Whose clock is behind waits for it to catch up, so that two do not take turns all the time.

        Args:
            version: of the rows; those that showed nothing new are not looked at again. None
                looks in any case.
        """
        bucket, seen = _parse_closed(self._raw.get(CLOSED, b""))
        ahead = bucket - now_ms // BUCKET_MS
        if seen == incarnation and version is not None and version == self._quiet:
            return False
        return seen != incarnation or not 0 <= ahead <= MOST_AHEAD

    def close(
        self,
        rows: Terms,
        posterior: Posterior,
        configuration: Configuration,
        incarnation: bytes,
        *,
        now_ms: int,
        version: int | None = None,
        splits: Mapping[int, SplitNotice] = MappingProxyType({}),
    ) -> bool:
        """Close the bucket that is over; return whether an endpoint is known anew.

        Args:
            rows, posterior: as of now.
            incarnation: which store the rows are of. After a new one's sums nothing can be told of
                how they came about: what was known stays, and the next bucket begins with them.
            version: of the rows.
            splits: whom the labels split off now from the other hosts of its group, by arm.
        Raises:
            redis.RedisError: the store is away; nothing was written, or the next look shows it.
        """
        seen, closed = self._raw.get(CLOSED, b""), _closed(incarnation, now_ms)
        goes_on = bool(seen) and _parse_closed(seen)[1] == incarnation
        catalog = configuration.catalog
        fresh: dict[int, EndpointWatch] = {}
        labels: dict[int, bytes] = {}
        kinds: dict[int, AlarmKind] = {}
        for arm, sums, news in self._heard(rows, posterior, configuration, splits, now_ms):
            digest = catalog.endpoints[arm].digest
            labels[digest] = sums
            if goes_on:
                was, worse = self.known.get(digest, UNKNOWN), splits.get(arm)
                fresh[digest], kind = _closed_over(was, news, worse, catalog, arm, now_ms)
                if kind is not None:
                    kinds[arm] = kind
        if goes_on and not labels:
            self._quiet = version
            return False
        self._rejoin(catalog, fresh, kinds)
        changed = {d: known for d, known in fresh.items() if known != self.known.get(d, UNKNOWN)}
        told = []
        for digest, known in changed.items():
            was = self.known.get(digest, UNKNOWN)
            told += _announced(catalog.by_digest[digest].id, was, known)
        return self._write(seen, closed, changed, labels, told)

    def _heard(
        self,
        rows: Terms,
        posterior: Posterior,
        configuration: Configuration,
        splits: Mapping[int, SplitNotice],
        now_ms: int,
    ) -> Iterator[tuple[int, bytes, News]]:
        """Yield the arms with news: their sums, and what came since the last look."""
        before: dict[bytes, bytes] = self._client.hgetall(keys.LOOKED_AT)
        now = looked_at.rows_by_endpoint(rows)
        tasks = configuration.derive(AllTasks)
        for arm, endpoint in enumerate(configuration.catalog.endpoints):
            digest, was = endpoint.digest, self.known.get(endpoint.digest, UNKNOWN)
            then, later = before.get(_name(digest), b""), now.get(digest, b"")
            if then == later and not was.watch.suspect and arm not in splits:
                continue
            news = looked_at.news(
                then,
                later,
                endpoint=digest,
                tasks=tasks.digests,
                regimes=was.regimes,
                believed=posterior.quality.mean[tasks.rows, posterior.arms.group[arm]],
                now_ms=now_ms,
            )
            if news is not None:  # else damaged: what was known stays, until the sums are whole
                yield arm, later, news

    def _rejoin(
        self, catalog: Catalog, fresh: dict[int, EndpointWatch], kinds: Mapping[int, AlarmKind]
    ) -> None:
        """End the splits of hosts that all changed alike."""
        after = [
            fresh.get(e.digest) or self.known.get(e.digest, UNKNOWN) for e in catalog.endpoints
        ]
        for arm in ended_alike(catalog, [known.split for known in after], kinds):
            fresh[catalog.endpoints[arm].digest] = replace(after[arm], split=None)

    def _write(
        self,
        seen: bytes,
        closed: bytes,
        fresh: Mapping[int, EndpointWatch],
        labels: Mapping[int, bytes],
        alarms: list[dict[str, Any]],
    ) -> bool:
        watches = {_name(digest): msgspec.json.encode(known) for digest, known in fresh.items()}
        if not close_bucket(
            self._client,
            seen=seen,
            closed=closed,
            watches=watches,
            looked_at={_name(digest): rows for digest, rows in labels.items()},
            alarms=[msgspec.json.encode(alarm) for alarm in alarms],
            keep=MAX_ALARMS,
        ):
            return False
        self.known.update(fresh)
        self._raw = {**self._raw, **watches, CLOSED: closed}
        for alarm in alarms:
            is_split = alarm["kind"] == SPLIT
            log.warning("a host was split off" if is_split else "an endpoint changed", **alarm)
        return bool(fresh)


def _closed_over(
    was: EndpointWatch,
    news: News,
    worse: SplitNotice | None,
    catalog: Catalog,
    arm: int,
    now_ms: int,
) -> tuple[EndpointWatch, AlarmKind | None]:
    """Return what is known of an endpoint once a bucket is over, and what alarm was raised."""
    bucket = now_ms // BUCKET_MS - 1
    watched, found = watcher.close(Watched(was.watch, was.regimes), bucket, news)
    known = replace(was, watch=watched.watch, regimes=watched.regimes)
    if found is not None:
        known = replace(known, alarm=_notice(found, now_ms))
    kind = found.kind if found else None
    split = split_now(was.split, kind, worse, catalog, arm, now_ms=now_ms)
    return replace(known, split=split), kind


def _announced(name: str, was: EndpointWatch, known: EndpointWatch) -> list[dict[str, Any]]:
    """Return what is to be announced of an endpoint: an alarm, or that it was split off."""
    told: list[dict[str, Any]] = []
    if known.alarm and known.alarm != was.alarm:
        told.append({"endpoint": name, **asdict(known.alarm)})
    if known.split and known.split != was.split:
        told.append({"endpoint": name, "kind": SPLIT, **asdict(known.split)})
    return told


def by_arm(catalog: Catalog, known: Mapping[int, EndpointWatch]) -> tuple[EndpointWatch, ...]:
    """Return what is known of each endpoint of a catalog."""
    return tuple(known.get(digest, UNKNOWN) for digest in catalog.digests.tolist())


def by_group(catalog: Catalog, known: Iterable[EndpointWatch]) -> list[int]:
    """Return when the last alarm named a host of each group, in epoch ms; 0: never."""
    at_ms = [one.alarmed_at_ms for one in known]
    return [max(at_ms[arm] for arm in arms) for arms in catalog.group_members]


def fallen_by_group(catalog: Catalog, known: Sequence[EndpointWatch]) -> list[int]:
    """Return when a host of each group fell, as its last alarm says, in epoch ms; 0: it did not."""
    is_down = [one.alarm is not None and one.alarm.kind is AlarmKind.DOWN for one in known]
    return by_group(
        catalog, [one if down else UNKNOWN for one, down in zip(known, is_down, strict=True)]
    )


def stands_at_alarmed(
    standings: Standings,
    posterior: Posterior,
    named: NDArray[np.bool_],
    decides: NDArray[np.bool_],
) -> bool:
    """Return whether a task stands at a group that an alarm named, and that can be judged again."""
    enough = may_judge(posterior)
    tasks = np.arange(len(standings.current))
    named = decides & named[standings.current]
    return bool((named & enough[tasks, standings.current]).any())


def _closed(incarnation: bytes, now_ms: int) -> bytes:
    """Return what says that all buckets before this moment's are closed, and of which store."""
    return b"%d %s" % (now_ms // BUCKET_MS, incarnation)


def _parse_closed(value: bytes) -> tuple[int, bytes]:
    """Return the first bucket that is not closed, and the store's incarnation."""
    bucket, _, incarnation = value.partition(b" ")
    return int(bucket) if bucket.isdigit() else 0, incarnation


def _name(digest: int) -> bytes:
    return b"%016x" % digest


def _notice(found: Alarm, now_ms: int) -> AlarmNotice:
    since_ms = found.from_bucket * BUCKET_MS
    return AlarmNotice(found.kind, now_ms, since_ms, found.labels, found.mean_residual, found.level)


def _in_buckets_of_today(watch: Watch) -> Watch:
    """Return a watch whose numbers of buckets are of today's, also where it is of before."""

    def today(number: int) -> int:
        return FORMER_BUCKETS * number if 0 < number < FIRST_BUCKET else number

    sums = tuple(replace(one, since=today(one.since)) for one in watch.sums)
    recall = replace(watch.recall, since=today(watch.recall.since))
    next_probe = today(watch.next_probe)
    gap = watch.gap if next_probe == watch.next_probe else FORMER_BUCKETS * watch.gap
    return replace(watch, sums=sums, recall=recall, next_probe=next_probe, gap=gap)


def _parse(name: bytes, raw: bytes) -> EndpointWatch | None:
    """Return a stored watch; None, and a line in the log, where it cannot be read."""
    try:
        int(name, 16)
        found = msgspec.json.decode(raw, type=EndpointWatch)
        return replace(found, watch=_in_buckets_of_today(found.watch))
    except (ValueError, msgspec.DecodeError) as error:
        log.error("a watch cannot be read", name=name.decode("latin-1"), error=type(error).__name__)
        return None
