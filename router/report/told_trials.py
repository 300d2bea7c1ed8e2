"""What was last worked out of trials and hold-outs, as a job leaves it in the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from bandit.families import GIVEN, S
from bandit.report import Signal, signals_of
from bandit.told_verdicts import from_plain
from router.report.comparisons import ToldTrial
from telemetry import keys
from telemetry.damaged import object_of
from telemetry.store import Client

BY_NAME = {kind.name.lower(): kind for kind in GIVEN}
"""Which signal a label is, by the name of its kind."""


def read_told(client: Client) -> tuple[int, dict[str, ToldTrial]]:
    """Return when trials were last looked at, 0 if never, and what they show by id.

    What cannot be read is as what was never worked out.

    Raises:
        redis.RedisError: the store is away.
    """
    value = client.get(keys.VERDICTS)
    told = object_of(value)
    trials = told.get("trials")
    if not isinstance(trials, dict):
        return 0, {}
    at_ms = told.get("at_ms")
    found = {id_: _told(one) for id_, one in trials.items() if isinstance(one, dict)}
    return at_ms if isinstance(at_ms, int) else 0, found


def _told(one: Mapping[str, Any]) -> ToldTrial:
    beside = one.get("of_holdout")
    after = beside if isinstance(beside, Mapping) else {}
    return ToldTrial(
        verdict=from_plain(one.get("verdict")),
        row=from_plain(one.get("row")),
        signals=_signals(one.get("signals")),
        by_episode=bool(one.get("by_episode")),
        holdout=from_plain(one.get("holdout")),
        holdout_row=from_plain(after.get("row")),
        holdout_signals=_signals(after.get("signals")),
    )


def _signals(told: object) -> tuple[Signal, ...]:
    """Return counts by the names of signals as these are said."""
    if not isinstance(told, Mapping):
        return ()
    counts: Counter[S] = Counter()
    for name, n in told.items():
        if name in BY_NAME and type(n) is int:
            counts[BY_NAME[name]] += n
    return signals_of(counts)
