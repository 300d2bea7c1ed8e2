"""Which tasks the first prompts of `general` look like, by the records of the last days. Pure.

A record says it in its tag, of calls that begin a conversation and that nothing else gave a task.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from telemetry.events import Kind
from workers.jobs.ways import halves_of, ranks_of, starts

GUESS = np.dtype(
    [
        ("app", "<u8"),
        ("nonce", "<u8"),
        ("nonce_rest", "<u8"),
        ("rank", "<u2"),
        ("tag", "<u8"),
        ("system_prompt", "<u4"),
        ("is_of_session", "?"),
    ]
)
"""What one attempt says of its call's prompt; that of the highest rank speaks for the call."""


class Guesses:
    """Gathers what records say of prompts, while somebody else reads them."""

    def __init__(self, *, since_ms: int) -> None:
        """Begin.

        Args:
            since_ms: decisions from then on count.
        """
        self._since_ms = since_ms
        self._parts = [np.empty(0, dtype=GUESS)]

    def watch(self, batches: Iterable[NDArray[np.void]]) -> Iterator[NDArray[np.void]]:
        """Yield batches of RECORD as they come, having taken note of them."""
        for records in batches:
            is_mine = (
                (records["tag"] != 0)
                & (records["kind"] == Kind.OUTCOME)
                & (records["token"]["decided_at_ms"] >= self._since_ms)
            )
            if is_mine.any():
                self._parts.append(guesses_of(records.compress(is_mine)))
            yield records

    def counts(self) -> dict[str, dict[str, Any]]:
        """Return for each app what its prompts look like, by the 16 hex digits of its digest."""
        return count_guesses(np.concatenate(self._parts))


def guesses_of(outcomes: NDArray[np.void]) -> NDArray[np.void]:
    """Return as GUESS what outcomes with a tag say of their calls."""
    out = np.empty(len(outcomes), dtype=GUESS)
    out["app"] = outcomes["token"]["app"]
    out["nonce"], out["nonce_rest"] = halves_of(outcomes["token"]["nonce"])
    out["rank"], out["tag"] = ranks_of(outcomes), outcomes["tag"]
    out["system_prompt"] = outcomes["system_prompt"]
    out["is_of_session"] = outcomes["episode"] != 0
    return out


def count_guesses(guesses: NDArray[np.void]) -> dict[str, dict[str, Any]]:
    """Return by app its calls, and by tag how many look like that; each counts once.

    `sessions` are those of declared sessions, `prompted` those with the system prompt that most of
    them have, and `prompted_of` all calls of the app with that; none where most have none.

    Args:
        guesses: (n,) of GUESS, in any order.
    """
    rows = guesses.take(np.lexsort((guesses["rank"], guesses["nonce_rest"], guesses["nonce"])))
    speaks = np.ones(len(rows), dtype=bool)
    speaks[:-1] = starts(rows["nonce"], rows["nonce_rest"])[1:]
    own, out = rows.compress(speaks), {}
    for app in np.unique(own["app"]):
        mine = own.compress(own["app"] == app)
        tags = {f"{tag:016x}": _of_tag(mine, tag) for tag in np.unique(mine["tag"])}
        out[f"{app:016x}"] = {"calls": len(mine), "tags": tags}
    return out


def _of_tag(calls: NDArray[np.void], tag: np.uint64) -> dict[str, int]:
    mine = calls.compress(calls["tag"] == tag)
    prompts, counts = np.unique(mine["system_prompt"], return_counts=True)
    first = int(counts.argmax())
    has_one = bool(prompts[first])
    return {
        "calls": len(mine),
        "sessions": int(mine["is_of_session"].sum()),
        "prompted": int(counts[first]) if has_one else 0,
        "prompted_of": int((calls["system_prompt"] == prompts[first]).sum()) if has_one else 0,
    }
