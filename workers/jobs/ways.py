"""Which way calls came by their endpoint: drew, followed, moved on, or ended a draw. Pure."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from telemetry.events import Flag


class CallWay(IntEnum):
    """How one call came by who answered it; of each call one holds."""

    DREW = 0
    FOLLOWED = 1  # the draw of its unit
    FAILOVER = 2  # another one answered than was drawn, or nobody whose turn it was could serve
    STAND_IN = 3  # what was drawn is out, and a second draw serves meanwhile
    GAIN_ENDING = 4  # its session's draw ended, and it drew anew
    DOMINATED_ENDING = 5  # its slot's did
    DREW_ANEW = 7  # what its unit had drawn is gone, or an alarm named it
    UNDRAWN = 6  # nothing was to choose: named, passed on, told of by others, or one alone is left


CALL = np.dtype(
    [
        ("app", "<u8"),
        ("nonce", "<u8"),
        ("nonce_rest", "<u8"),
        ("rank", "<u2"),
        ("way", "u1"),
    ]
)
"""What is known of a call by one of its attempts; that of the highest rank speaks for it."""
FINAL_RANK = 256
"""Above every number of an attempt: whose answer the client got speaks for the call."""


def ways_of(records: NDArray[np.void]) -> NDArray[np.uint8]:
    """Return the way of each outcome's call, were that outcome the one that speaks for it."""
    flags, token = records["flags"], records["token"]
    is_chosen = ((token["token_flags"] & Flag.ROUTED) > 0) | (token["propensity"] != 1)
    is_failover = (token["drawn"] != token["executed"]) | ((flags & Flag.FAILOVER) > 0)
    tests = (
        (is_failover, CallWay.FAILOVER),
        ((flags & Flag.DOMINATED_ENDING) > 0, CallWay.DOMINATED_ENDING),
        ((flags & Flag.GAIN_ENDING) > 0, CallWay.GAIN_ENDING),
        ((flags & Flag.STAND_IN) > 0, CallWay.STAND_IN),
        (~is_chosen, CallWay.UNDRAWN),
        ((flags & Flag.DRAWN_ANEW) > 0, CallWay.DREW_ANEW),
        ((flags & Flag.DRAWN_NOW) > 0, CallWay.DREW),
    )
    holds, ways = zip(*tests, strict=True)
    return np.select(holds, [int(way) for way in ways], int(CallWay.FOLLOWED)).astype(np.uint8)


def ranks_of(records: NDArray[np.void]) -> NDArray[np.uint16]:
    """Return what a call's attempts are ordered by."""
    is_final = (records["flags"] & Flag.FINAL) > 0
    return (records["attempt"] + np.where(is_final, FINAL_RANK, 0)).astype(np.uint16)


def halves_of(nonces: NDArray[np.void]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return (n,) nonces of 16 bytes as two numbers each."""
    both = np.ascontiguousarray(nonces).view("<u8").reshape(-1, 2)
    return both[:, 0], both[:, 1]


def calls_of(outcomes: NDArray[np.void]) -> NDArray[np.void]:
    """Return what each outcome says of its call, as CALL."""
    out = np.empty(len(outcomes), dtype=CALL)
    out["app"] = outcomes["token"]["app"]
    out["nonce"], out["nonce_rest"] = halves_of(outcomes["token"]["nonce"])
    out["rank"], out["way"] = ranks_of(outcomes), ways_of(outcomes)
    return out


def count_ways(calls: NDArray[np.void]) -> dict[int, dict[str, int]]:
    """Return by app how many calls went each way; each call counts once, however often told.

    Args:
        calls: (n,) of CALL, in any order.
    """
    rows = calls.take(np.lexsort((calls["rank"], calls["nonce_rest"], calls["nonce"])))
    speaks = np.ones(len(rows), dtype=bool)
    speaks[:-1] = starts(rows["nonce"], rows["nonce_rest"])[1:]
    own = rows.compress(speaks)
    apps, place = np.unique(own["app"], return_inverse=True)
    way: NDArray[np.uint8] = own["way"]
    cells = np.bincount(place * len(CallWay) + way, minlength=len(apps) * len(CallWay))
    return {
        int(app): {way.name.lower(): int(counts[way]) for way in CallWay}
        for app, counts in zip(apps, cells.reshape(len(apps), len(CallWay)), strict=True)
    }


def starts(*columns: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Return which sorted rows differ from the one before them in one of the columns."""
    out = np.ones(len(columns[0]), dtype=bool)
    out[1:] = False
    for column in columns:
        out[1:] |= column[1:] != column[:-1]
    return out
