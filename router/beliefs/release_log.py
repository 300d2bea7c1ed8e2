"""What the store tells of releases and proposals: each entry with the id that it is undone by.

Entries of earlier versions have no id; theirs follows from what they say, as that of any does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import convert

from router.beliefs.by_hand import ACCEPTED, UNDONE
from router.beliefs.choices import REMOVED
from router.beliefs.kept import Kept, ReleaseNotice, ReviewKey, release_id
from router.beliefs.proposals import TRIAL
from router.beliefs.releases import NOTE, RELEASE
from router.beliefs.trials import PINNED
from telemetry import keys
from telemetry.damaged import DAMAGED, Moment
from telemetry.store import Client

NOT_UNDONE = frozenset({REMOVED, UNDONE, PINNED})
"""Reasons of releases that there is nothing to go back from; a pin is lifted with its trial."""
IN_WORDS = {TRIAL: "a trial of it was won", PINNED: "pinned after a trial without a gain"}


def reason_of(told: Mapping[str, Any]) -> str:
    """Return why something was released or proposed, in words."""
    reason = str(told.get("reason") or "better")
    yes = f"{ACCEPTED}: " if reason.startswith(f"{ACCEPTED}: ") else ""
    plain = reason.removeprefix(yes)
    return f"{yes}{IN_WORDS.get(plain, plain)}"


def undo_of(told: Mapping[str, Any]) -> str:
    """Return the command that takes a release back; empty where there is none."""
    id_ = str(told.get("id") or "")
    return f"pointsman release undo {id_}" if id_ and told["reason"] not in NOT_UNDONE else ""


def read_release_log(
    client: Client, kept: Iterable[Kept], *, most: int, since_ms: int = 0
) -> list[dict[str, Any]]:
    """Return releases (`kind: release`) and notes (`proposed`, `lapsed`, `yielded`), newest first.

    Args:
        kept: what the store keeps of review keys, by which earlier entries get their ids.
        most: entries, at most.
        since_ms: by the store's clock; earlier ones are left out.
    Raises:
        redis.RedisError: the store is away.
    """
    review_keys = [one.review_key for one in kept]
    found = client.xrevrange(keys.RELEASES, min=str(since_ms), count=most)
    read = (_entry(fields, review_keys) for _, fields in found)
    return [entry for entry in read if entry is not None]


def _entry(fields: dict[bytes, bytes], review_keys: list[ReviewKey]) -> dict[str, Any] | None:
    """Return an entry; None where it cannot be read."""
    release, note = fields.get(RELEASE.encode()), fields.get(NOTE.encode())
    try:
        value = json.loads(release or note or b"")
        convert(value["at_ms"], Moment)
        if release is None:
            return {**value, "kind": str(value["kind"])}
        told: dict[str, Any] = {
            name: str(value[name]) for name in ("task", "before", "after", "reason")
        }
        p_better = value.get("p_better")
        told["p_better"] = None if p_better is None else float(p_better)
        id_ = value.get("id") or _id_of(value, review_keys)
        return {"kind": RELEASE, "role": None, **value, **told, "id": id_}
    except DAMAGED:
        return None


def _id_of(value: dict[str, Any], review_keys: list[ReviewKey]) -> str:
    """Return the id of an entry without one; empty where it may be of several review keys."""
    whose = (value["app"], value["strategy"], value["model"] or "")
    mine = [key for key in review_keys if (key.app, key.strategy, key.model) == whose]
    if len(mine) != 1:
        return ""
    task, before, after = (str(value[name]) for name in ("task", "before", "after"))
    notice = ReleaseNotice(task, before, after, None, None, "", at_ms=int(value["at_ms"]))
    return release_id(mine[0], notice)
