"""`pointsman audit privacy`: did anything above a class leave a zone?

Exit code 0: nothing did, 1: something did, 2: there is no answer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from router.commands.console import BAD_INPUT, FAILED, VerbFailed, fail, print_json
from router.commands.inputs import opened_archive
from router.config.places import find_file
from router.errors import ConfigError
from telemetry import logs

if TYPE_CHECKING:
    from router.config.hard import Hard
    from router.report.privacy import PrivacyAnswer
    from telemetry.trail_content import TrailContent


class AskedPrivacy(NamedTuple):
    """What is asked, as it was written."""

    above: str = ""
    outside: str = ""
    since: str = ""


def audit_privacy(config: Path | None, asked: AskedPrivacy, *, as_json: bool) -> None:
    """Say whether anything above a class left a zone, as far as that is on record."""
    logs.configure()
    from router.report.privacy import PrivacyQuestion, answer

    if not asked.above or not asked.outside:
        fail("say what is asked: --above CLASS --outside ZONE", BAD_INPUT)
    now_ms = int(time.time() * 1000)
    since_ms = _time(asked.since, now_ms=now_ms)
    hard = _constraints(config)
    try:
        trail = _read(config, since_ms=since_ms)
    except VerbFailed as failed:  # 1 would say that something left
        raise VerbFailed(failed.text, BAD_INPUT) from None
    _check_names(asked, hard, trail)
    found = answer(trail, PrivacyQuestion(asked.above, asked.outside, since_ms, now_ms), hard)
    if as_json:
        print_json(found.as_json())
    else:
        print("\n".join(_lines(found)))
    if found.n_left:
        raise SystemExit(FAILED)
    if found.has_left is None:
        raise SystemExit(BAD_INPUT)  # a no would be believed


def _constraints(config: Path | None) -> Hard:
    from router.config.compiled import load
    from router.config.hard import hard_constraints

    try:
        return hard_constraints(load(find_file(config), secrets=False))
    except ConfigError as error:
        fail(str(error), BAD_INPUT)


def _read(config: Path | None, *, since_ms: int) -> TrailContent:
    from workers.archive.trail import Trail
    from workers.archive.trail_reading import read_trail

    with opened_archive(config) as archive:
        trail = Trail(archive.client, archive.root, archive.n_shards)
        return read_trail(trail, archive.root.parent / "journal", since_ms=since_ms)


def _time(written: str, *, now_ms: int) -> int:
    from router.report.privacy import FROM_THE_BEGINNING

    if not written:
        return FROM_THE_BEGINNING
    try:
        at = datetime.fromisoformat(written)
    except ValueError:
        fail(f"--since {written}: write a day or a time, such as 2026-11-01", BAD_INPUT)
    at_ms = int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
    if at_ms > now_ms:
        fail(f"--since {written}: that is yet to come", BAD_INPUT)
    return at_ms


def _check_names(asked: AskedPrivacy, hard: Hard, trail: TrailContent) -> None:
    """Refuse a class or zone that never was: the answer would be a no, or a yes, to nothing."""
    from router.config.hard import PLACES
    from router.endpoints.terms import LOCAL, VENDOR
    from router.report.privacy import constraints_in

    known = [hard, *constraints_in(trail.said).values()]
    classes = {name: rank for one in known for name, rank in one.get("classes", {}).items()}
    if asked.above not in classes:
        fail(f"no class {asked.above}; known: {', '.join(classes)}", BAD_INPUT)
    if classes[asked.above] >= max(classes.values()):
        below = max((rank, name) for name, rank in classes.items() if name != asked.above)[1]
        hint = f"--above {below} asks about it and whatever is above"
        fail(f"nothing is above {asked.above}; {hint}", BAD_INPUT)
    places = [place for one in known for kind in PLACES for place in one.get(kind, {}).values()]
    zones = {LOCAL, VENDOR, *(place["zone"] for place in places if place.get("zone"))}
    if asked.outside not in zones:
        fail(f"no zone {asked.outside}; known: {', '.join(sorted(zones))}", BAD_INPUT)


def _lines(found: PrivacyAnswer) -> Iterator[str]:
    from router.report.privacy import SHOWN, shown

    asked, since = found.question, shown(found.question.since_ms or found.recorded_since_ms)
    what = f"above {asked.above} left zone {asked.outside}"
    known = "" if found.is_complete else ", as far as is known"
    if found.has_left is None:
        yield f"not known whether anything {what}: nothing is on record"
    elif found.n_left:
        yield f"yes: {found.n_left} times something {what} since {since}"
    else:
        yield f"no: nothing {what} since {since}{known}"
    for row in found.left[:SHOWN]:
        times = row["first"] if row["calls"] == 1 else f"{row['first']} to {row['last']}"
        yield (
            f"  {row['calls']} × {row['class']}, app {row['app']} → {row['endpoint']} "
            f"(zone {row['zone'] or 'not declared'}), {times}, configuration {row['configuration']}"
        )
    if len(found.left) > SHOWN:
        yield f"  and {len(found.left) - SHOWN} more kinds: --json lists them"
    if found.n_of_the_class:
        yield f"of class {asked.above} itself {found.n_of_the_class} left it: that was not asked"
    yield f"{found.n_recorded} times sensitive content left for any zone in that time"
    for one in found.loosenings:
        yield f"loosened by a {one['how']} at {one['at']} ({one['before']} → {one['after']}):"
        yield from (f"  {line}" for line in one["what"])
    if not found.loosenings:
        yield "no change of configuration loosened a hard constraint"
    yield from _known_lines(found)


def _known_lines(found: PrivacyAnswer) -> Iterator[str]:
    """Yield what the answer rests on."""
    from router.report.privacy import SHOWN, shown

    if found.recorded_since_ms is None:
        yield "no sidecar of this version has run with this archive"
    else:
        until = shown(found.complete_until_ms)
        yield (
            f"on record since {shown(found.recorded_since_ms)}, complete since "
            f"{shown(found.complete_since_ms)} until {until}"
        )
    yield f"{len(found.gaps)} gaps" + (":" if found.gaps else "")
    for gap in found.gaps[:SHOWN]:
        n = f", {gap.n_records} records" if gap.n_records else ""
        begin = shown(gap.from_ms) if gap.from_ms else "the beginning"
        yield f"  {gap.what}: {begin} to {shown(gap.to_ms)}{n}"
    if found.not_recorded:
        yield f"not recorded at all: calls of class {', '.join(found.not_recorded)}"
    if found.n_unknown:
        yield f"{found.n_unknown} records name a configuration that is not on record"
    yield "looked at: " + "; ".join(found.looked_at)
    for missing in found.not_looked_at:
        yield f"not looked at: {missing}"
