"""Which tasks the first prompts of `general` look like, by the records of the last days. Pure.

A record says it in its tag, of calls that begin a conversation and that nothing else gave a task.
What a tag means depends on the rules of its time: whoever knows those in force reads the counts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from telemetry.events import Flag, Kind
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
ELSEWHERE = np.dtype([("system_prompt", "<u4"), ("category", "<u8"), ("calls", "<i8")])
"""How many other calls of a category had a system prompt."""


class Guesses:
    """Gathers what records say of prompts, while somebody else reads them."""

    def __init__(self, *, since_ms: int) -> None:
        """Begin.

        Args:
            since_ms: decisions from then on count.
        """
        self._since_ms = since_ms
        self._parts = [np.empty(0, dtype=GUESS)]
        self._elsewhere = [np.empty(0, dtype=ELSEWHERE)]

    def watch(self, batches: Iterable[NDArray[np.void]]) -> Iterator[NDArray[np.void]]:
        """Yield batches of RECORD as they come, having taken note of them."""
        for records in batches:
            is_call = records["kind"] == Kind.OUTCOME
            is_call &= records["token"]["decided_at_ms"] >= self._since_ms
            is_mine = is_call & (records["tag"] != 0)
            if is_mine.any():
                self._parts.append(guesses_of(records.compress(is_mine)))
            is_other = is_call & (records["tag"] == 0) & (records["system_prompt"] != 0)
            is_other &= (records["attempt"] <= 1) & ((records["flags"] & Flag.PROFILE) == 0)
            if is_other.any():
                self._elsewhere.append(elsewhere_of(records.compress(is_other)))
            yield records

    def counts(self) -> dict[str, Any]:
        """Return as `apps` what prompts look like, and as `prompts` who has their system prompts.

        Apps, tags and prompts go by the hex digits of their digests.
        """
        guesses = speaking(np.concatenate(self._parts))
        apps = count_guesses(guesses)
        of_tags = (tag["prompt"] for app in apps.values() for tag in app.values())
        wanted = {prompt for prompt in of_tags if prompt is not None}
        elsewhere = np.concatenate(self._elsewhere)
        return {"apps": apps, "prompts": _who_has(wanted, guesses, elsewhere)}


def guesses_of(outcomes: NDArray[np.void]) -> NDArray[np.void]:
    """Return as GUESS what outcomes with a tag say of their calls."""
    out = np.empty(len(outcomes), dtype=GUESS)
    out["app"] = outcomes["token"]["app"]
    out["nonce"], out["nonce_rest"] = halves_of(outcomes["token"]["nonce"])
    out["rank"], out["tag"] = ranks_of(outcomes), outcomes["tag"]
    out["system_prompt"] = outcomes["system_prompt"]
    out["is_of_session"] = outcomes["episode"] != 0
    return out


def elsewhere_of(outcomes: NDArray[np.void]) -> NDArray[np.void]:
    """Return as ELSEWHERE how many outcomes there are by system prompt and category."""
    prompts, categories = outcomes["system_prompt"], outcomes["token"]["category"]
    order = np.lexsort((categories, prompts))
    prompts, categories = prompts.take(order), categories.take(order)
    first = np.flatnonzero(starts(prompts, categories))
    out = np.empty(len(first), dtype=ELSEWHERE)
    out["system_prompt"], out["category"] = prompts.take(first), categories.take(first)
    out["calls"] = np.diff(first, append=len(order))
    return out


def speaking(guesses: NDArray[np.void]) -> NDArray[np.void]:
    """Return the one guess that speaks for each call, however often it was tried or told.

    Args:
        guesses: (n,) of GUESS, in any order.
    """
    rows = guesses.take(np.lexsort((guesses["rank"], guesses["nonce_rest"], guesses["nonce"])))
    speaks = np.ones(len(rows), dtype=bool)
    speaks[:-1] = starts(rows["nonce"], rows["nonce_rest"])[1:]
    return rows.compress(speaks)


def count_guesses(guesses: NDArray[np.void]) -> dict[str, dict[str, Any]]:
    """Return by app and tag how many calls look like that.

    `sessions` are those of declared sessions, `prompted` those with the system prompt that most of
    them have, which is `prompt`; none where most have none.

    Args:
        guesses: (n,) of GUESS, one a call.
    """
    out = {}
    for app in np.unique(guesses["app"]):
        mine = guesses.compress(guesses["app"] == app)
        out[f"{app:016x}"] = {
            f"{tag:016x}": _of_tag(mine.compress(mine["tag"] == tag))
            for tag in np.unique(mine["tag"])
        }
    return out


def _of_tag(calls: NDArray[np.void]) -> dict[str, Any]:
    prompts, counts = np.unique(calls["system_prompt"], return_counts=True)
    first = int(counts.argmax())
    has_one = bool(prompts[first])
    return {
        "calls": len(calls),
        "sessions": int(calls["is_of_session"].sum()),
        "prompted": int(counts[first]) if has_one else 0,
        "prompt": f"{prompts[first]:08x}" if has_one else None,
    }


def _who_has(
    prompts: Collection[str], guesses: NDArray[np.void], elsewhere: NDArray[np.void]
) -> dict[str, dict[str, Any]]:
    """Return by system prompt its first calls by app and tag, and other calls by category."""
    out = {}
    for prompt in prompts:
        mine = guesses.compress(guesses["system_prompt"] == int(prompt, 16))
        others = elsewhere.compress(elsewhere["system_prompt"] == int(prompt, 16))
        first = {
            app: {tag: one["calls"] for tag, one in tags.items()}
            for app, tags in count_guesses(mine).items()
        }
        n_calls: NDArray[np.int64] = others["calls"]
        of: NDArray[np.uint64] = others["category"]
        categories = {
            f"{category:016x}": int(n_calls[of == category].sum()) for category in np.unique(of)
        }
        out[prompt] = {"first": first, "elsewhere": categories}
    return out
