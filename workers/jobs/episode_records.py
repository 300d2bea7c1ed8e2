"""What records tell of episodes: attempts of their calls, and words on the whole. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from telemetry.events import Flag, Kind, Match, Result
from workers.folding.hearing import ENTRIES
from workers.jobs.ways import halves_of, ranks_of, starts

ATTEMPT = np.dtype(
    [
        ("app", "<u8"),
        ("episode", "<u8"),
        ("nonce", "<u8"),
        ("nonce_rest", "<u8"),
        ("began_ms", "<i8"),
        ("end_ms", "<f8"),
        ("cost_nano", "<f8"),  # exact up to 9 million USD
        ("role", "<u8"),
        ("executed", "<u8"),
        ("rank", "<u2"),
        ("is_answer", "?"),
        ("is_priced", "?"),
    ]
)
WORD = np.dtype([("nonce", "<u8"), ("nonce_rest", "<u8"), ("word", ENTRIES)])


def attempts_of(outcomes: NDArray[np.void]) -> NDArray[np.void]:
    """Return as ATTEMPT what outcomes tell whose calls are of an episode."""
    own = outcomes.compress(outcomes["episode"] != 0)
    token, flags = own["token"], own["flags"]
    out = np.empty(len(own), dtype=ATTEMPT)
    out["app"], out["episode"] = token["app"], own["episode"]
    out["nonce"], out["nonce_rest"] = halves_of(token["nonce"])
    out["began_ms"] = token["decided_at_ms"]
    out["end_ms"] = token["decided_at_ms"] + own["latency_us"] / 1000
    out["is_priced"] = (flags & Flag.PRICED) > 0
    out["cost_nano"] = np.where(out["is_priced"], own["cost_nano"], 0)
    out["role"], out["executed"] = own["role"], token["executed"]
    out["rank"] = ranks_of(own)
    out["is_answer"] = ((flags & Flag.FINAL) > 0) & (own["result"] == Result.OK)
    return out


def words_of(records: NDArray[np.void]) -> NDArray[np.void]:
    """Return as WORD what records say of episodes as a whole, each beside one of their calls."""
    said = records.compress(
        (records["kind"] == Kind.FEEDBACK) & (records["match"] == Match.EPISODE)
    )
    return words_in(said)


def words_in(said: NDArray[np.void]) -> NDArray[np.void]:
    """Return records that say something of their decision, as WORD."""
    out = np.empty(len(said), dtype=WORD)
    out["nonce"], out["nonce_rest"] = halves_of(said["token"]["nonce"])
    for name in ENTRIES.names or ():
        out["word"][name] = said[name] if name != "event" else _shortened(said["event"])
    return out


def each_once(attempts: NDArray[np.void]) -> NDArray[np.void]:
    """Return attempts by app, episode and call, in each by their rank; told twice they count once.

    Of an attempt that is told in two ways the costlier word holds, so that the order in which they
    come shows nowhere.
    """
    names = ("cost_nano", "executed", "rank", "nonce_rest", "nonce", "episode", "app")
    rows = attempts.take(np.lexsort([attempts[name] for name in names]))
    is_last = np.ones(len(rows), dtype=bool)
    is_last[:-1] = starts(*(rows[name] for name in names[1:]))[1:]
    return rows if is_last.all() else np.asarray(rows.compress(is_last))


def _shortened(events: NDArray[np.void]) -> NDArray[np.void]:
    """Return the first bytes of events, by which words are ordered."""
    size = ENTRIES["event"].itemsize
    parts = np.dtype([("first", f"V{size}"), ("rest", f"V{events.itemsize - size}")])
    return np.asarray(np.ascontiguousarray(events).view(parts)["first"])
