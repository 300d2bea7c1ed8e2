"""The standings in the store: read, and changed by whoever comes first.

A change names the version that it was made from; of two processes that review at the same time
one writes, and the other reads what was written. With the store away the last standings hold.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import structlog

from router.beliefs.kept import (
    Kept,
    Note,
    NoteKind,
    Proposal,
    ReleaseNotice,
    ReviewKey,
    Undone,
    release_id,
)
from telemetry import keys
from telemetry.damaged import DAMAGED
from telemetry.standings import change_standings
from telemetry.store import Client

log = structlog.get_logger()

RELEASE, NOTE = "release", "note"
"""Fields of the stream's entries, of which each has one: a choice that changed, or what is
announced beside that."""
SAID = {
    NoteKind.PROPOSED: "a release waits for a yes",
    NoteKind.LAPSED: "a proposed release lapsed",
    NoteKind.YIELDED: "the allowance is spent: the incumbent serves",
}
MAX_RELEASES = 10_000
"""Releases kept in the stream, about: years of them."""


class Releases:
    """A copy of all standings; not for several threads."""

    def __init__(self, client: Client, *, logs: bool = True) -> None:
        """Know nothing yet.

        Args:
            logs: write a line for each change; a verb says itself what it did.
        """
        self.kept: dict[ReviewKey, Kept] = {}
        self._client = client
        self._raw: dict[bytes, bytes] = {}
        self._logs = logs

    def read(self) -> bool:
        """Read all standings; return whether any changed.

        Raises:
            redis.RedisError: the store is away; the copy stays.
        """
        return self.take(self.look())

    def look(self) -> dict[bytes, bytes]:
        """Return all standings as they lie in the store, by review key.

        Raises:
            redis.RedisError: the store is away.
        """
        found: dict[bytes, bytes] = self._client.hgetall(keys.STANDINGS)
        return found

    def take(self, raw: dict[bytes, bytes]) -> bool:
        """Take what was looked at for the copy; return whether any changed."""
        if raw == self._raw:
            return False
        self._raw = raw
        found = [_parse(name, value) for name, value in raw.items()]
        self.kept = {kept.review_key: kept for kept in found if kept is not None}
        return True

    def change(self, kept: Kept, released: list[ReleaseNotice], *, now_ms: int) -> bool:
        """Write the next version of a review key's standings; return whether nobody was faster.

        Raises:
            redis.RedisError: the store is away; nothing was written, or the next read shows it.
        """
        told = [as_told(kept, change, now_ms) for change in released]
        noted = [_noted(kept, note, now_ms) for note in kept.notes]
        before = self.kept.get(kept.review_key)
        was_open = {one.id for one in before.waiting.values()} if before else set()
        is_open = {one.id: one for one in kept.waiting.values() if one.id}
        value = {
            "version": kept.version,
            "reviewed_at_ms": kept.reviewed_at_ms,
            "current": dict(kept.current),
            "hosts": dict(kept.hosts),
            "certain_at_ms": dict(kept.certain_at_ms),
            "moved_at_ms": dict(kept.moved_at_ms),
            "left_at_ms": {task: dict(names) for task, names in kept.left_at_ms.items()},
            "last": {task: asdict(notice) for task, notice in kept.last.items()},
            "won": dict(kept.won),
            "begun_at_ms": kept.begun_at_ms,
            "scope": asdict(kept.review_key),
            "waiting": {task: asdict(one) for task, one in kept.waiting.items()},
            "undone": {t: {n: asdict(u) for n, u in of.items()} for t, of in kept.undone.items()},
            "yielded_at_ms": dict(kept.yielded_at_ms),
        }
        if not change_standings(
            self._client,
            _name(kept.review_key),
            seen=kept.version - 1,
            value=_json(value),
            told=[(RELEASE, _json(one)) for one in told] + [(NOTE, _json(one)) for one in noted],
            gone=sorted((was_open - set(is_open)) - {""}),
            proposals={id_: _json(as_proposed(kept, one)) for id_, one in is_open.items()},
            keep=MAX_RELEASES,
        ):
            return False
        for one in told if self._logs else ():
            log.info("released", **one)
        for one in noted if self._logs else ():
            log.info(SAID[NoteKind(one["kind"])], **one)
        self.kept[kept.review_key] = replace(kept, notes=())
        return True


def _name(review_key: ReviewKey) -> str:
    return f"{review_key.digest:016x}"


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def _whose(review_key: ReviewKey) -> dict[str, Any]:
    return {
        "app": review_key.app,
        "strategy": review_key.strategy,
        "model": review_key.model or None,
        "role": review_key.role or None,
    }


def as_told(kept: Kept, change: ReleaseNotice, now_ms: int) -> dict[str, Any]:
    """Return a release as it is announced."""
    change = replace(change, at_ms=now_ms)
    said = {"id": release_id(kept.review_key, change), **asdict(change)}
    return {**_whose(kept.review_key), **said, "version": kept.version}


def _noted(kept: Kept, note: Note, now_ms: int) -> dict[str, Any]:
    waits = kept.waiting.get(note.task)
    is_open = waits is not None and waits.id == note.id
    evidence = asdict(waits) if waits is not None and is_open else {}
    return {**_whose(kept.review_key), **evidence, **asdict(note), "at_ms": now_ms}


def as_proposed(kept: Kept, proposal: Proposal) -> dict[str, Any]:
    """Return a proposal as it lies in the store, and is listed."""
    return {"scope": asdict(kept.review_key), **_whose(kept.review_key), **asdict(proposal)}


def _parse(name: bytes, raw: bytes) -> Kept | None:
    """Return stored standings; None, and a line in the log, where they cannot be read."""
    try:
        value = json.loads(raw)
        review_key = ReviewKey(**{k: str(v) for k, v in value["scope"].items()})
        current = {str(task): str(host) for task, host in value["current"].items()}
        hosts = {str(first): tuple(map(str, ids)) for first, ids in value["hosts"].items()}
        version, reviewed_at_ms = int(value["version"]), int(value["reviewed_at_ms"])
        # Earlier versions released nothing between reviews, did not note when a key began, knew no
        # moves of an order and no trials, held nothing back, and nothing could be undone.
        certain = _times(value.get("certain_at_ms", {}))
        moved = _times(value.get("moved_at_ms", {}))
        left = {str(task): _times(names) for task, names in value.get("left_at_ms", {}).items()}
        last = {str(t): ReleaseNotice(**told) for t, told in value.get("last", {}).items()}
        won = {str(task): str(trial) for task, trial in value.get("won", {}).items()}
        begun_at_ms = int(value.get("begun_at_ms", reviewed_at_ms))
        times = (current, hosts, certain, moved, left, last, won, begun_at_ms)
        waiting = {str(t): Proposal(**told) for t, told in value.get("waiting", {}).items()}
        undone = {str(t): _undone(names) for t, names in value.get("undone", {}).items()}
        yielded = _times(value.get("yielded_at_ms", {}))
        kept = Kept(review_key, version, reviewed_at_ms, *times, waiting, undone, yielded)
    except DAMAGED as error:
        log.error("standings cannot be read", review_key=repr(name), error=type(error).__name__)
        return None
    if _name(review_key).encode() != name:
        log.error("standings under a name that is not theirs", review_key=repr(name))
        return None
    return kept


def _undone(value: dict[str, Any]) -> dict[str, Undone]:
    return {str(n): Undone(int(u["at_ms"]), float(u["evidence"])) for n, u in value.items()}


def _times(value: dict[str, Any]) -> dict[str, int]:
    return {str(name): int(ms) for name, ms in value.items()}
