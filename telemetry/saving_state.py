"""Sums of what routing saved, as they lie in the store: a table of one day, named columns. Pure.

Who writes and who reads may be of different versions: a column that is not known is left out, one
that is missing is 0.
"""

from __future__ import annotations

import io
import zlib

import numpy as np
from numpy.typing import NDArray

from telemetry.errors import MalformedEvent

STATE_FIELD = "state"
"""Beside the days: JSON of when they were worked out, since when, and up to which marks."""
MOST_BYTES = 1 << 30


def pack_day(rows: NDArray[np.void]) -> bytes:
    """Return a table with names of its columns."""
    out = io.BytesIO()
    np.save(out, rows, allow_pickle=False)
    return zlib.compress(out.getvalue(), 6)


def unpack_day(data: bytes, dtype: np.dtype[np.void]) -> NDArray[np.void]:
    """Return a table with the columns of `dtype`.

    Raises:
        MalformedEvent: it is none.
    """
    try:
        inflating = zlib.decompressobj()
        raw = inflating.decompress(data, MOST_BYTES)
        found = np.load(io.BytesIO(raw), allow_pickle=False)
        names = set(found.dtype.names or ())
        out = np.zeros(len(found), dtype=dtype)
        for name in dtype.names or ():
            if name in names:
                out[name] = found[name]
    except (zlib.error, ValueError, TypeError, EOFError) as error:
        raise MalformedEvent(f"sums of savings: {error}") from None
    return out
