"""Records, read back from bytes: the sound ones as an array, the others as they are.

Those of version 2 are read as ones of today (`telemetry/narrow.py`).
"""

from __future__ import annotations

import zlib
from functools import cache

import numpy as np
from numpy.typing import NDArray

from telemetry import narrow
from telemetry.budget_layout import are_sound, spends_of
from telemetry.events import (
    MICRO,
    RECORD_SIZE,
    RECORD_VERSION,
    RETRACTED,
    SEAL,
    FeedbackKind,
    Kind,
    Match,
    Result,
    Source,
    sealed,
)
from telemetry.layouts import RECORD

DTYPES = {narrow.RECORD_VERSION: narrow.RECORD, RECORD_VERSION: RECORD}
"""Layouts that are read, by version; the last is written."""
_OUTCOME, _FEEDBACK, _REFERENCE_FEEDBACK = map(
    int, (Kind.OUTCOME, Kind.FEEDBACK, Kind.REFERENCE_FEEDBACK)
)
_REPEAT, _FORGET, _SPEND = map(int, (Kind.REPEAT, Kind.FORGET, Kind.BUDGET_SPEND))
_KINDS_OF_FEEDBACK = int(min(FeedbackKind)), int(max(FeedbackKind))
_LAST_RESULT, _LAST_MATCH, _LAST_SOURCE = (int(max(of)) for of in (Result, Match, Source))
"""As numbers: an array compares itself with the member of an enumeration at twice the price."""
CHECKED_AT_ONCE = 256
"""Records: as many as a frame holds. One that is damaged has so many looked at one by one."""


def decode(data: bytes, version: int = RECORD_VERSION) -> tuple[NDArray[np.void], list[bytes]]:
    """Return the sound records of `data` as an array of RECORD, and the raw unsound ones.

    Args:
        version: of all of them. Those of version 2 are returned as ones of version 3.
    """
    dtype = DTYPES[version]
    size = dtype.itemsize
    whole = len(data) // size * size
    records = np.frombuffer(data[:whole], dtype=dtype)
    bad = [data[whole:]] if whole != len(data) else []
    sound = _valid(records, version) & _sealed_well(data[:whole], records["checksum"], size)
    bad += [data[i * size : (i + 1) * size] for i in np.flatnonzero(~sound)]
    # A whole record is copied at once by `compress`, and field by field by `records[sound]`.
    found = records if sound.all() else records.compress(sound)
    return found if version == RECORD_VERSION else _widened(found), bad


def record_of(raw: bytes) -> np.void | None:
    """Return one record of any version, as it was kept in the store; None where it is unsound."""
    is_narrow = len(raw) == narrow.RECORD_SIZE
    found, _ = decode(raw, narrow.RECORD_VERSION if is_narrow else RECORD_VERSION)
    return found[0] if len(found) == 1 else None


def _widened(records: NDArray[np.void]) -> NDArray[np.void]:
    """Return records of version 2 as ones of today, sealed anew."""
    out = narrow.widened(records, RECORD)
    out["version"] = RECORD_VERSION
    ends = RECORD_SIZE - SEAL.size
    out["checksum"] = [zlib.crc32(record.tobytes()[:ends]) for record in out]
    return out


def _valid(records: NDArray[np.void], version: int) -> NDArray[np.bool_]:
    """Return which records hold only values that their fields allow."""
    kind, value = records["kind"], records["value_micro"]
    least, most = _KINDS_OF_FEEDBACK
    said = (records["feedback_kind"] <= most) & (value >= RETRACTED) & (value <= MICRO)
    outcome_ok = (kind == _OUTCOME) & (records["result"] <= _LAST_RESULT) & said
    feedback_ok = (
        ((kind == _FEEDBACK) | (kind == _REFERENCE_FEEDBACK))
        & said
        & (records["feedback_kind"] >= least)
        & (records["match"] <= _LAST_MATCH)
        & (records["source"] <= _LAST_SOURCE)
    )
    repeat_ok = (kind == _REPEAT) & ((value == 0) | (value == RETRACTED))
    sound = outcome_ok | feedback_ok | repeat_ok | (kind == _FORGET)
    if version == RECORD_VERSION and (is_spend := kind == _SPEND).any():
        sound[is_spend] = are_sound(spends_of(records.compress(is_spend)))
    return np.asarray((records["version"] == version) & sound)


def _sealed_well(data: bytes, checksums: NDArray[np.uint32], size: int) -> NDArray[np.bool_]:
    """Return which records, each of `size` bytes, carry the checksum of their own bytes."""
    out = np.ones(len(checksums), dtype=bool)
    for first in range(0, len(out), CHECKED_AT_ONCE):
        n = min(CHECKED_AT_ONCE, len(out) - first)
        part = memoryview(data)[first * size : (first + n) * size]
        if zlib.crc32(part) == _checksums_of_sound(size)[n]:
            continue
        ends = range(size - SEAL.size, len(part), size)
        found = [zlib.crc32(part[end + SEAL.size - size : end]) for end in ends]
        out[first : first + n] = checksums[first : first + n] == np.array(found, dtype=np.uint32)
    return out


@cache
def _checksums_of_sound(size: int) -> list[int]:
    """Return the checksum of 0, 1, 2, … sealed records in a row, whatever they hold.

    A CRC is linear, and that of bytes with their own CRC behind them is always the same. So one
    look at many records tells that each is sound: one that is not changes the whole for certain,
    several cancel out as seldom as a single record's checksum errs.
    """
    sound, nothing = zlib.crc32(sealed(bytes(size - SEAL.size))), bytes(size)
    out = [0]
    for _ in range(CHECKED_AT_ONCE):
        out.append(sound ^ zlib.crc32(nothing, out[-1]) ^ zlib.crc32(nothing))
    return out
