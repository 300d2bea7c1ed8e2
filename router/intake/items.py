"""Items of feedback as they come in, each checked whole.

One field names what is judged, another says what is thought of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import msgspec

from router.errors import RequestRejected
from telemetry.columns import BadColumns, meant, once
from telemetry.events import FeedbackKind, Match
from telemetry.names import NotText, text_of
from telemetry.numbers import brief, is_number, unsendable, whole_of
from telemetry.wire.lenient import read_as_written

MAX_BATCH = 1000
MAX_NAME = 4096
EPISODES = ("session_id", "episode_id")
"""Names of a whole: a declared session is an episode."""
NAMES = ("decision_id", "response_id", "ref", *EPISODES)
VALUES = ("score", "passed", "thumb", "edit_ratio", "retried")
OPTIONS = ("kind", "revision", "match")
KIND_OF = {
    "score": FeedbackKind.JUDGE,
    "passed": FeedbackKind.TEST,
    "thumb": FeedbackKind.HUMAN,
    "edit_ratio": FeedbackKind.EDIT,
    "retried": FeedbackKind.DERIVED,
}
KINDS = {kind.name.lower(): kind for kind in FeedbackKind}


@dataclass(frozen=True, slots=True)
class FeedbackItem:
    """One feedback, checked."""

    name: str  # which of NAMES
    id: str
    kind: FeedbackKind
    value: float | None  # in [0, 1]; None retracts
    revision: int
    match: Match
    at: str = ""  # its place in a batch


def parse(body: bytes, *, episode: str | None = None) -> list[FeedbackItem]:
    """Return the items in a body: one object, or an array of them.

    Args:
        episode: that all of them are about; then none names a decision.

    Raises:
        RequestRejected: names the field at fault.
    """
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _no_json(body, error) from None
    try:
        json.loads(body, object_pairs_hook=once)
    except BadColumns as error:
        raise bad_feedback(str(error), error.name) from None
    except (ValueError, RecursionError) as error:
        raise bad_feedback(f"this is JSON that not every reader takes: {error}", "") from None
    if isinstance(value, dict):
        return [parse_item(value, "", episode=episode)]
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_BATCH:
        raise RequestRejected(
            "bad_feedback", f"send one object, or an array of 1 to {MAX_BATCH} of them"
        )
    return [parse_item(item, f"[{i}].", episode=episode) for i, item in enumerate(value)]


def parse_item(raw: object, at: str, *, episode: str | None = None) -> FeedbackItem:
    """Return one item; `at` is its place, for messages.

    Args:
        episode: as `parse` has it.

    Raises:
        RequestRejected: names the field at fault.
    """
    if not isinstance(raw, dict):
        raise bad_feedback(f"{at or 'the body'} is no object", at.rstrip("."))
    unknown = [k for k in raw if k not in NAMES + VALUES + OPTIONS]
    if unknown:
        known = ", ".join(NAMES + VALUES + OPTIONS)
        near = meant(unknown[0], NAMES + VALUES + OPTIONS)
        hint = f"did you mean {near}? known" if near else "known"
        raise bad_feedback(f"unknown field {brief(unknown[0])}; {hint}: {known}", at + unknown[0])
    name, identifier = _named(raw, at) if episode is None else _of_episode(raw, at, episode)
    said = _only(raw, VALUES, at, "say what is thought of it by exactly one of")
    kind = KIND_OF[said]
    if "kind" in raw:
        named = KINDS.get(raw["kind"].lower()) if isinstance(raw["kind"], str) else None
        if named is None:
            wrong = f"kind {brief(raw['kind'])} is unknown"
            raise bad_feedback(f"{wrong}; known: {', '.join(KINDS)}", at + "kind")
        kind = named
    revision = whole_of(raw.get("revision", 0))
    if revision is None or not 0 <= revision < 2**32:
        wrong = f"revision is {brief(raw['revision'])}"
        raise bad_feedback(f"{wrong}; it must be a whole number from 0", at + "revision")
    match = _match(raw, name, at)
    value = value_of(said, raw[said], at + said)
    return FeedbackItem(name, identifier, kind, value, revision, match, at)


def _named(raw: dict[str, Any], at: str) -> tuple[str, str]:
    """Return which of NAMES an item has, and what it says."""
    name = _only(raw, NAMES, at, "name the decision by exactly one of")
    try:
        identifier = text_of(raw[name])
    except NotText as error:
        raise bad_feedback(f"{name} {error}", at + name) from None
    counted = identifier.strip() if name in EPISODES else identifier
    if not 0 < len(counted) <= MAX_NAME:
        wrong = f"{name} has {len(counted)} characters"
        raise bad_feedback(f"{wrong}; it must be a string of 1 to {MAX_NAME}", at + name)
    return name, identifier


def _of_episode(raw: dict[str, Any], at: str, episode: str) -> tuple[str, str]:
    """Return the name of an episode that the request's path names, and no item."""
    for name in NAMES:
        if name in raw:
            raise bad_feedback(f"leave out {name}: the path names the episode", at + name)
    if not 0 < len(episode.strip()) <= MAX_NAME:
        wrong = f"the episode's id has {len(episode.strip())} characters"
        raise bad_feedback(f"{wrong}; it must have 1 to {MAX_NAME}", "episode_id")
    return "episode_id", episode


def _match(raw: dict[str, Any], name: str, at: str) -> Match:
    match = raw.get("match")
    if match not in (None, "last", "all"):
        raise bad_feedback(f"match is {brief(match)}; it must be last or all", at + "match")
    if name in EPISODES:
        if match is not None:
            why = f"leave out match: {name} means the first decision of each role and endpoint"
            raise bad_feedback(why, at + "match")
        return Match.EPISODE
    return {None: Match.ONE, "last": Match.LAST, "all": Match.ALL}[match]


def _only(raw: dict[str, Any], names: tuple[str, ...], at: str, ask: str) -> str:
    given = [n for n in names if n in raw]
    if len(given) != 1:
        got = f"; got {', '.join(given)}" if given else ""
        raise bad_feedback(f"{ask} {', '.join(names)}{got}", at + (given[1] if given else names[0]))
    return given[0]


def value_of(said: str, value: object, field: str) -> float | None:
    """Return what was said as a reward in [0, 1].

    Raises:
        RequestRejected: `value` is none that `said` may have.
    """
    if value is None:
        return None
    match said:
        case "passed" if isinstance(value, bool):
            return float(value)
        case "thumb" if value in ("up", "down"):
            return float(value == "up")
        case "retried" if value is True:
            return 0.0
        case "score" | "edit_ratio":
            if is_number(value) and 0 <= value <= 1:
                return 1.0 - value if said == "edit_ratio" else float(value)
    hint = {
        "passed": "true or false",
        "thumb": "up or down",
        "retried": "true (leave it out otherwise)",
        "score": "a number from 0 to 1",
        "edit_ratio": "a number from 0 (kept as it was) to 1",
    }[said]
    raise bad_feedback(f"{field} is {brief(value)}; it must be {hint}, or null to retract", field)


def _no_json(body: bytes, error: Exception) -> RequestRejected:
    """Return the refusal of what is no JSON; by its field where only a number makes it none."""
    try:
        said = unsendable(read_as_written(body))
    except (ValueError, RecursionError):
        said = ""
    if said:
        return bad_feedback(said, said.partition(" is ")[0])
    return RequestRejected("invalid_json", f"the body is not JSON: {error}")


def bad_feedback(message: str, field: str) -> RequestRejected:
    """Return the refusal of an item, by the field at fault."""
    return RequestRejected("bad_feedback", message, param=field)
