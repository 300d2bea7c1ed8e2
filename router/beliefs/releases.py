"""The standings in the store: read, and changed by whoever comes first.

A change names the version that it was made from; of two processes that review at the same time
one writes, and the other reads what was written. With the store away the last standings hold.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import structlog

from router.beliefs.kept import Kept, ReleaseNotice, ReviewKey
from telemetry import keys
from telemetry.scripts import change_standings
from telemetry.store import Client

log = structlog.get_logger()

MAX_RELEASES = 10_000
"""Releases kept in the stream, about: years of them."""


class Releases:
    """A copy of all standings; not for several threads."""

    def __init__(self, client: Client) -> None:
        self.kept: dict[ReviewKey, Kept] = {}
        self._client = client
        self._raw: dict[bytes, bytes] = {}

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
        told = [_told(kept, change, now_ms) for change in released]
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
        }
        if not change_standings(
            self._client,
            _name(kept.review_key),
            seen=kept.version - 1,
            value=_json(value),
            released=[_json(one) for one in told],
            keep=MAX_RELEASES,
        ):
            return False
        for one in told:
            log.info("released", **one)
        self.kept[kept.review_key] = kept
        return True


def _name(review_key: ReviewKey) -> str:
    return f"{review_key.digest:016x}"


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def _told(kept: Kept, change: ReleaseNotice, now_ms: int) -> dict[str, Any]:
    review_key = kept.review_key
    return {
        "app": review_key.app,
        "strategy": review_key.strategy,
        "model": review_key.model or None,
        **asdict(change),
        "version": kept.version,
        "at_ms": now_ms,
    }


def _parse(name: bytes, raw: bytes) -> Kept | None:
    """Return stored standings; None, and a line in the log, where they cannot be read."""
    try:
        value = json.loads(raw)
        review_key = ReviewKey(**{k: str(v) for k, v in value["scope"].items()})
        current = {str(task): str(host) for task, host in value["current"].items()}
        hosts = {str(first): tuple(map(str, ids)) for first, ids in value["hosts"].items()}
        version, reviewed_at_ms = int(value["version"]), int(value["reviewed_at_ms"])
        # Earlier versions released nothing between reviews, did not note when a key began, and
        # knew no moves of an order, and no trials.
        certain = _times(value.get("certain_at_ms", {}))
        moved = _times(value.get("moved_at_ms", {}))
        left = {str(task): _times(names) for task, names in value.get("left_at_ms", {}).items()}
        last = {str(t): ReleaseNotice(**told) for t, told in value.get("last", {}).items()}
        won = {str(task): str(trial) for task, trial in value.get("won", {}).items()}
        begun_at_ms = int(value.get("begun_at_ms", reviewed_at_ms))
        kept = Kept(
            review_key,
            version,
            reviewed_at_ms,
            current,
            hosts,
            certain,
            moved,
            left,
            last,
            won,
            begun_at_ms,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.error("standings cannot be read", review_key=name.decode(), error=type(error).__name__)
        return None
    if _name(review_key).encode() != name:
        log.error("standings under a name that is not theirs", review_key=name.decode())
        return None
    return kept


def _times(value: dict[str, Any]) -> dict[str, int]:
    return {str(name): int(ms) for name, ms in value.items()}
