"""How often endpoints answered, by what is archived of the last days. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from telemetry.events import Flag, Kind, Result

DAYS = 30
ANSWERED = (Result.OK, Result.CLIENT_ERROR)
"""Whoever turns a request down is there."""
DOWN = (Result.SERVER, Result.TIMEOUT, Result.CONNECT, Result.CUT, Result.BAD_REPLY)
"""A limit that was reached or a key that was refused is no downtime, nor is a client that left."""


@dataclass(slots=True)
class Availability:
    """How often one endpoint was asked, and answered."""

    endpoint: str  # digest of its identity
    asked: int = 0
    answered: int = 0

    def as_json(self) -> dict[str, object]:
        """Return it as one object."""
        return {**asdict(self), "share": self.answered / self.asked}


def count_answers(batches: Iterable[NDArray[np.void]], *, since_ms: int) -> list[Availability]:
    """Return for each endpoint how often it was asked since then by a sidecar, and answered.

    By traffic: what a profile or a check tries may fail on purpose.
    """
    found: dict[int, Availability] = {}
    for records in batches:
        token = records["token"]
        ours = (records["flags"] & int(Flag.INGESTED | Flag.PROFILE)) == 0
        is_ours = (records["kind"] == Kind.OUTCOME) & (token["decided_at_ms"] >= since_ms) & ours
        results, executed = records["result"][is_ours], token["executed"][is_ours]
        up, down = np.isin(results, ANSWERED), np.isin(results, DOWN)
        digests, place = np.unique(executed, return_inverse=True)
        n_up = np.bincount(place, weights=up, minlength=len(digests))
        n_down = np.bincount(place, weights=down, minlength=len(digests))
        for digest, answered, failed in zip(digests, n_up, n_down, strict=True):
            if answered + failed:
                one = found.setdefault(int(digest), Availability(f"{int(digest):016x}"))
                one.asked += int(answered + failed)
                one.answered += int(answered)
    return [found[digest] for digest in sorted(found)]
