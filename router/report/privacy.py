"""Whether anything above a class left a zone: the audit trail, asked and answered. Pure.

A no is as good as the record: so the answer says since when there is one, and what is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from router.config.hard import Hard, loosened
from router.endpoints.data_classes import CONFIDENTIAL
from telemetry.trail import InForce, IntentWay, TrailWord
from telemetry.trail_content import Departure, DepartureCount, TrailContent

SILENT_MS = 3_600_000 + 600_000
"""A process says once an hour what it goes by. Of one that did not, nobody knows it."""
FROM_THE_BEGINNING = 0
SHOWN = 20
"""Gaps that are listed; of all there is the count."""


class PrivacyQuestion(NamedTuple):
    """What is asked; the class itself is not meant."""

    above: str
    outside: str
    since_ms: int
    now_ms: int


class TrailGap(NamedTuple):
    """Something that is not known."""

    what: str
    from_ms: int
    to_ms: int
    n_records: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return the gap for people and programs."""
        return {
            "what": self.what,
            "from": shown(self.from_ms),
            "to": shown(self.to_ms),
            "records": self.n_records,
        }


@dataclass(slots=True)
class PrivacyAnswer:
    """What the trail says."""

    question: PrivacyQuestion
    n_recorded: int = 0  # intents since then, of any class
    n_left: int = 0
    n_of_the_class: int = 0  # of the very class that was named, which is not above itself
    left: list[dict[str, Any]] = field(default_factory=list)  # by class, app, endpoint and so on
    loosenings: list[dict[str, Any]] = field(default_factory=list)
    gaps: list[TrailGap] = field(default_factory=list)
    recorded_since_ms: int | None = None
    complete_since_ms: int | None = None
    complete_until_ms: int = 0
    not_recorded: list[str] = field(default_factory=list)  # classes above, but not sensitive
    n_unknown: int = 0  # intents of configurations that are not on record
    looked_at: list[str] = field(default_factory=list)
    not_looked_at: list[str] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Return whether nothing that was asked about may be missing."""
        since, asked_ms = self.complete_since_ms, self.question.since_ms
        if since is None or self.gaps or self.not_recorded or self.n_unknown:
            return False
        return since <= asked_ms or asked_ms == FROM_THE_BEGINNING

    @property
    def has_left(self) -> bool | None:
        """Whether anything left, as far as is known; None where nothing at all is on record."""
        if self.n_left:
            return True
        return None if self.recorded_since_ms is None else False

    def as_json(self) -> dict[str, Any]:
        """Return the answer for programs."""
        asked = self.question
        return {
            "left": self.has_left,
            "above": asked.above,
            "outside": asked.outside,
            "since": shown(asked.since_ms),
            "calls": self.n_left,
            "calls_of_the_class_itself": self.n_of_the_class,
            "recorded": self.n_recorded,
            "by": self.left,
            "loosened": self.loosenings,
            "complete": self.is_complete,
            "recorded_since": shown(self.recorded_since_ms),
            "complete_since": shown(self.complete_since_ms),
            "complete_until": shown(self.complete_until_ms),
            "gaps": len(self.gaps),
            "gaps_listed": [gap.as_json() for gap in self.gaps[:SHOWN]],
            "records_missing": sum(gap.n_records for gap in self.gaps),
            "classes_not_recorded": self.not_recorded,
            "of_unknown_configuration": self.n_unknown,
            "looked_at": self.looked_at,
            "not_looked_at": self.not_looked_at,
        }


def answer(trail: TrailContent, asked: PrivacyQuestion, now: Hard) -> PrivacyAnswer:
    """Return what the trail says.

    Args:
        now: hard constraints of the configuration as it is, for what was recorded under one that
            is not on record.
    """
    told = constraints_in(trail.said)
    out = PrivacyAnswer(asked, looked_at=trail.looked_at, not_looked_at=trail.not_looked_at)
    for departure, count in sorted(trail.left.items(), key=lambda item: -item[1].n):
        known = told.get(departure.configuration)
        out.n_recorded += count.n
        out.n_unknown += count.n if known is None else 0
        if departure.zone == asked.outside.encode():
            continue
        bottom = _level(asked.above, known or now, now)
        if departure.level > bottom:
            out.n_left += count.n
            out.left.append(_row(departure, count))
        elif departure.level == bottom:
            out.n_of_the_class += count.n
    classes: Mapping[str, int] = now.get("classes", {})
    bottom = _level(asked.above, now, now)
    recorded_from = classes.get(CONFIDENTIAL, 0)
    out.not_recorded = [c for c, level in classes.items() if bottom < level < recorded_from]
    out.loosenings = list(_loosenings(trail.said, told, since_ms=asked.since_ms))
    _judge_completeness(out, trail)
    return out


def constraints_in(said: list[InForce]) -> dict[int, Hard]:
    """Return the hard constraints of every configuration that is on record, by its digest."""
    return {
        one.configuration: msgspec.json.decode(one.constraints)
        for one in said
        if one.constraints is not None
    }


def _level(above: str, then: Hard, now: Hard) -> int:
    """Return what level a class had under a configuration; one that it did not have, has now."""
    level: int = then.get("classes", {}).get(above, now.get("classes", {}).get(above, 0))
    return level


def _row(departure: Departure, count: DepartureCount) -> dict[str, Any]:
    return {
        "calls": count.n,
        "class": departure.class_name.decode(),
        "app": departure.app_name.decode(),
        "endpoint": departure.endpoint_name.decode(),
        "endpoint_digest": f"{departure.endpoint:016x}",
        "zone": departure.zone.decode() or None,
        "configuration": f"{departure.configuration:016x}",
        "way": IntentWay(departure.way).name.lower(),
        "first": shown(count.first_ms),
        "last": shown(count.last_ms),
        "first_nonce": count.first_nonce.hex(),
    }


def _loosenings(
    said: list[InForce], told: Mapping[int, Hard], *, since_ms: int
) -> Iterator[dict[str, Any]]:
    """Yield each change of configuration that loosened something, once however many took it.

    Of a process's first configuration the one before is what any other went by last.
    """
    of_process: dict[bytes, int] = {}
    latest: int | None = None
    seen: dict[tuple[int, int], dict[str, Any]] = {}
    for one in said:
        before = of_process.get(one.producer, latest)
        latest = of_process[one.producer] = one.configuration
        if before in (None, one.configuration) or one.at_ms < since_ms:
            continue
        pair = (before or 0, one.configuration)
        if pair in seen:
            seen[pair]["times"] += 1
            continue
        what = loosened(told[pair[0]], told[pair[1]]) if set(pair) <= set(told) else None
        seen[pair] = {
            "at": shown(one.at_ms),
            "before": f"{pair[0]:016x}",
            "after": f"{one.configuration:016x}",
            "how": "start" if one.word is TrailWord.BEGAN else "reload",
            "what": what if what is not None else ["not known: one of them is not on record"],
            "times": 1,
        }
    yield from (one for one in seen.values() if one["what"])


def _judge_completeness(out: PrivacyAnswer, trail: TrailContent) -> None:
    asked = out.question
    if trail.said:
        out.recorded_since_ms = max(trail.said[0].at_ms, trail.kept_since_ms)
    out.complete_until_ms = min([*trail.sent_ms, asked.now_ms])
    gaps = [*_missing(trail), *_dropped(trail.said), *_silent(trail.said, asked.now_ms)]
    gaps += [TrailGap(f"damaged file: {what}", 0, asked.now_ms) for what in trail.damaged]
    if trail.n_mute:
        what = f"{trail.n_mute} running processes of a version that keeps no trail"
        gaps.append(TrailGap(what, 0, asked.now_ms))
    if trail.n_unsound:
        what = "records that cannot be read"
        gaps.append(TrailGap(what, 0, asked.now_ms, trail.n_unsound))
    out.gaps = sorted(gap for gap in gaps if gap.to_ms >= asked.since_ms)
    if out.recorded_since_ms is not None:
        ends = [gap.to_ms for gap in out.gaps]
        out.complete_since_ms = max([out.recorded_since_ms, *ends])


def _missing(trail: TrailContent) -> Iterator[TrailGap]:
    """Yield numbers that are nowhere; the first of who was there before the rest was deleted went
    with it.
    """
    for numbers in trail.numbers.values():
        for hole in numbers.holes():
            was_deleted = not hole.from_ms and hole.to_ms <= trail.kept_since_ms + SILENT_MS
            if not was_deleted:
                began = hole.from_ms or trail.kept_since_ms
                yield TrailGap("records missing", began, hole.to_ms, hole.n_records)


def _dropped(said: list[InForce]) -> Iterator[TrailGap]:
    """Yield what journals lost, as far as the processes that lost it told: of any kind of records,
    so that some of it may be in no trail.
    """
    before: dict[bytes, InForce] = {}
    for one in said:
        last = before.get(one.producer)
        n = one.n_dropped - (last.n_dropped if last else 0)
        if n > 0:
            yield TrailGap("journal dropped", last.at_ms if last else 0, one.at_ms, n)
        before[one.producer] = one


def _silent(said: list[InForce], now_ms: int) -> Iterator[TrailGap]:
    """Yield times in which no process said what it goes by, but those after all ended properly."""
    running: dict[bytes, int] = {}  # when each spoke last
    for one in said:
        yield from _gap_until(one.at_ms, running)
        running = {who: at for who, at in running.items() if at + SILENT_MS >= one.at_ms}
        if one.word is TrailWord.ENDED:
            running.pop(one.producer, None)
        else:
            running[one.producer] = one.at_ms
    yield from _gap_until(now_ms, running)


def _gap_until(at_ms: int, running: Mapping[bytes, int]) -> Iterator[TrailGap]:
    known_until = max(running.values(), default=at_ms) + SILENT_MS
    if known_until < at_ms:
        yield TrailGap("no configuration known", known_until, at_ms)


def shown(at_ms: int | None) -> str | None:
    """Return a time as people write it; None stays None."""
    if at_ms is None:
        return None
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
