"""What records tell of calls that chance assigned to a side, and of last week's traffic. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from telemetry.events import RETRACTED, Flag, Kind, Match
from workers.archive.columns import NamePairs, find
from workers.folding.hearing import LabelStandings, hear
from workers.jobs.episode_records import WORD, words_in
from workers.jobs.saving_records import NANO, NO_TRAFFIC, known_costs
from workers.jobs.ways import halves_of, ranks_of, starts

_OF_TOKEN = {
    "app": "app",
    "task": "category",
    "release": "release_key",
    "session": "session",
    "user": "user",
    "at_ms": "decided_at_ms",
    "endpoint": "drawn",
    "propensity": "propensity",
    "predicted": "predicted",
}
_FLAGS = {
    "is_routed": Flag.ROUTED,
    "is_assigned": Flag.ASSIGNED,
    "is_control": Flag.CONTROL,
    "by_incumbent": Flag.BY_INCUMBENT,
}
ATTEMPT = np.dtype(
    [
        ("nonce", "<u8"),
        ("nonce_rest", "<u8"),
        *((name, "<u8") for name in ("app", "task", "release", "session", "user", "episode")),
        ("at_ms", "<i8"),
        ("end_ms", "<f8"),
        ("cost_nano", "<f8"),  # exact up to 9 million USD
        ("endpoint", "<u8"),  # that was drawn
        ("propensity", "<f4"),
        ("predicted", "<f4"),
        ("rank", "<u2"),
        *((name, "?") for name in _FLAGS),
        ("is_unpriced", "?"),
    ]
)
COMPARED_CALL = np.dtype(
    [
        *((name, ATTEMPT.fields[name][0]) for name in ("nonce", "nonce_rest", *_OF_TOKEN)),  # type: ignore[index]
        ("episode", "<u8"),
        ("end_ms", "<f8"),  # of the last attempt
        *((name, "?") for name in _FLAGS),
        ("is_priced", "?"),
        ("cost_usd", "<f8"),  # of all attempts
        ("reward", "<f8"),  # NaN: nothing was said of it but what was derived
        ("kind", "u1"),  # which the reward is of; 0: there is none
        ("repeats", "<i4"),  # how often the same was asked again after it
    ]
)
REPEAT = np.dtype(
    [
        ("nonce", "<u8"),
        ("nonce_rest", "<u8"),
        ("endpoint", "<u8"),
        ("cost_nano", "<u8"),
        ("added_ms", "<u4"),
        ("is_back", "?"),
    ]
)


@dataclass(frozen=True, slots=True)
class Told:
    """Calls, each once, sorted by nonce; and what was said of episodes as a whole."""

    calls: NDArray[np.void]  # of COMPARED_CALL
    of_episodes: NDArray[np.void]  # of WORD, each beside one of the episode's calls


def told_in(
    batches: Iterable[NDArray[np.void]],
    *,
    since_ms: int,
    traffic_since_ms: int,
    episodes_of: frozenset[int] = frozenset(),
) -> Told:
    """Return what records tell; told twice it counts once.

    Calls of a profile or a check are no traffic, nor are those that others dispatched.

    Args:
        batches: of RECORD, in any order.
        since_ms: assigned calls that were decided from then on.
        traffic_since_ms: other routed calls that were.
        episodes_of: digests of apps of which all calls of an episode are wanted.
    """
    attempts, words = [np.empty(0, ATTEMPT)], [np.empty(0, WORD)]
    of_episodes, repeats = [np.empty(0, WORD)], [np.empty(0, REPEAT)]
    oldest_ms = min(since_ms, traffic_since_ms)
    apps = np.array(sorted(episodes_of), dtype=np.uint64)
    for records in batches:
        mine = records.compress(records["token"]["decided_at_ms"] >= oldest_ms)
        kind, flags, token = mine["kind"], mine["flags"], mine["token"]
        is_outcome = (kind == Kind.OUTCOME) & ((flags & NO_TRAFFIC) == 0)
        brings = (kind == Kind.OUTCOME) & (mine["feedback_kind"] > 0)
        words.append(words_in(mine.compress((kind == Kind.FEEDBACK) | brings)))
        repeats.append(_repeats(mine.compress(kind == Kind.REPEAT)))
        wanted = (flags & int(Flag.ASSIGNED)) > 0
        wanted |= ((flags & int(Flag.ROUTED)) > 0) & (token["decided_at_ms"] >= traffic_since_ms)
        if len(apps):
            wanted |= (mine["episode"] != 0) & np.isin(token["app"], apps)
            is_whole = (kind == Kind.FEEDBACK) & (mine["match"] == Match.EPISODE)
            of_episodes.append(words_in(mine.compress(is_whole)))
        attempts.append(_attempts(mine.compress(is_outcome & wanted)))
    calls = _calls(_joined(attempts))
    _hear(calls, _joined(words))
    calls["repeats"] = _asked_again(calls, _joined(repeats))
    return Told(calls, _joined(of_episodes))


def heard_of(calls: NDArray[np.void], words: NDArray[np.void]) -> LabelStandings:
    """Return what holds of each call, as the learner hears it.

    Args:
        calls: sorted by nonce.
    """
    said, place = find(calls["nonce"], calls["nonce_rest"], _names(words))
    return hear([None] * len(calls), place, words["word"][said]).after


def _attempts(outcomes: NDArray[np.void]) -> NDArray[np.void]:
    token, flags = outcomes["token"], outcomes["flags"]
    out = np.empty(len(outcomes), dtype=ATTEMPT)
    out["nonce"], out["nonce_rest"] = halves_of(token["nonce"])
    for name, of_token in _OF_TOKEN.items():
        out[name] = token[of_token]
    out["episode"] = outcomes["episode"]
    out["end_ms"] = token["decided_at_ms"] + outcomes["latency_us"] / 1000
    costs = known_costs(outcomes)
    out["cost_nano"], out["is_unpriced"] = costs.nano, costs.is_unpriced
    out["rank"] = ranks_of(outcomes)
    for name, flag in _FLAGS.items():
        out[name] = (flags & int(flag)) > 0
    return out


def _calls(attempts: NDArray[np.void]) -> NDArray[np.void]:
    """Return each call once; of an attempt that is told in two ways the costlier word holds."""
    order = ("cost_nano", "rank", "nonce_rest", "nonce")
    rows = attempts.take(np.lexsort([attempts[name] for name in order]))
    is_last = np.ones(len(rows), dtype=bool)
    is_last[:-1] = starts(*(rows[name] for name in order[1:]))[1:]
    rows = rows.compress(is_last)
    first = np.flatnonzero(starts(rows["nonce"], rows["nonce_rest"]))
    out = np.zeros(len(first), dtype=COMPARED_CALL)
    out["reward"] = np.nan
    if not len(first):
        return out
    last = np.append(first[1:], len(rows)) - 1  # the answer that the client got
    for name in ("nonce", "nonce_rest", *_OF_TOKEN, "episode", *_FLAGS):
        out[name] = rows[name][last]
    out["end_ms"] = np.maximum.reduceat(rows["end_ms"], first)
    out["cost_usd"] = np.add.reduceat(rows["cost_nano"], first) / NANO
    out["is_priced"] = ~np.logical_or.reduceat(rows["is_unpriced"], first)
    return out


def _hear(calls: NDArray[np.void], words: NDArray[np.void]) -> None:
    """Write into calls what holds of them."""
    held = heard_of(calls, words)
    calls["reward"] = np.where(held.is_rewarded, held.reward, np.nan)
    calls["kind"] = held.kind


def _repeats(records: NDArray[np.void]) -> NDArray[np.void]:
    out = np.empty(len(records), dtype=REPEAT)
    out["nonce"], out["nonce_rest"] = halves_of(records["token"]["nonce"])
    out["endpoint"] = records["repeat_endpoint"]
    for name in ("cost_nano", "added_ms"):
        out[name] = records[name]
    out["is_back"] = records["value_micro"] == RETRACTED
    return out


def _asked_again(calls: NDArray[np.void], repeats: NDArray[np.void]) -> NDArray[np.int64]:
    """Return (n_calls,) how often the same was asked again, less what was taken back.

    A repeat has no name of its own: one that is told in the same words is the same.
    """
    names = ("is_back", "added_ms", "cost_nano", "endpoint", "nonce_rest", "nonce")
    rows = repeats.take(np.lexsort([repeats[name] for name in names]))
    is_last = np.ones(len(rows), dtype=bool)  # where one was taken back, that word is its last
    is_last[:-1] = starts(*(rows[name] for name in names[1:]))[1:]
    rows = rows.compress(is_last & ~rows["is_back"])
    _, place = find(calls["nonce"], calls["nonce_rest"], _names(rows))
    return np.bincount(place, minlength=len(calls))


def _names(rows: NDArray[np.void]) -> NamePairs:
    return NamePairs(rows["nonce"].copy(), rows["nonce_rest"].copy())


def _joined(parts: list[NDArray[np.void]]) -> NDArray[np.void]:
    """Return parts as one, and let go of them: there may be millions of rows."""
    whole = np.concatenate(parts)
    parts.clear()
    return whole
