"""Cells: what is known of one (category, endpoint), as sums of integers only.

A cell has one row per family of statistics and decay window. Rows are keyed by stable digests,
never by position, and folding is addition: the order and the grouping of records do not matter,
and merging two partial states is adding them. No sum wraps: what 62 bits do not hold goes to a
second row, the carry, in whole multiples.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bandit import decay, exact
from bandit.evidence import Evidence
from bandit.exact import UNIT
from bandit.families import (
    BY_REGIME,
    FADING,
    HALF_LIFE_MS,
    HUGE,
    LARGEST,
    MAY_BE_NEGATIVE,
    MOST,
    N_COLUMNS,
    REAL_SCALE,
    RETIRED,
    SCALED,
    UNWEIGHTED,
    Family,
)
from bandit.places import FadingPlaces, RowPlaces, flat, summed
from bandit.terms import Terms as Terms
from bandit.terms import group

CARRY = 1 << 8
"""Added to the family of a row, names its carry: how often the sums hold `UNIT` beyond the row.
Few cells ever have one: of calls at $5 and full weight it takes 59,000."""
KEY = np.dtype(
    [
        ("category", "<u8"),
        ("endpoint", "<u8"),
        ("family", "<u2"),
        ("regime", "<u2"),
        ("window", "<u4"),
    ]
)
"""Names one row: digests of the category's name and of the endpoint's identity.

Of labels the upper half of `window` is the epoch of their task: windows of two weeks' half-life
need the lower half alone for ever.
"""
EPOCH_BITS = 16
"""Below the epoch, in a window as in a token's regime."""
NO_EPOCH = (1 << EPOCH_BITS) - 1

_FIXED_POINT = {family: np.ones(N_COLUMNS) for family in Family}
_WEIGHTED = {family: np.ones(N_COLUMNS, dtype=bool) for family in Family}
for _family in Family:
    _FIXED_POINT[_family][list(SCALED[_family])] = REAL_SCALE
    _WEIGHTED[_family][list(UNWEIGHTED.get(_family, ()))] = False
_BOUND = {family: np.full(N_COLUMNS, HUGE) for family in Family}
for _family, _named in LARGEST.items():
    for _column, _largest in _named.items():
        _BOUND[_family][_column] *= _largest


def terms(
    family: Family,
    *,
    category: NDArray[np.uint64],
    endpoint: NDArray[np.uint64],
    at_ms: NDArray[np.int64],
    columns: NDArray[np.float64],
) -> Terms:
    """Return what each record adds to its cell's row of `family`.

    Args:
        category, endpoint: (n,) digests; of BOOKS the release key's in place of the category's,
            of TEACHING what `teaching.key_of` says, of ROLES what `parts.key_of` does.
        at_ms: (n,) when the decision was made; this alone sets window and weight.
        columns: (n, N_COLUMNS) the record's raw values: 1.0 for a count, the reward, the
            natural logarithm of seconds or tokens, tokens, nano-dollars.
    Raises:
        ValueError: a value is not finite, or beyond `MOST`.
    """
    window, values = windows_and_values(family, at_ms, columns)
    keys = np.zeros(len(at_ms), dtype=KEY)
    keys["category"], keys["endpoint"] = category, endpoint
    keys["family"], keys["window"] = int(family), window
    return Terms(keys, values)


def windows_and_values(
    family: Family, at_ms: NDArray[np.int64], columns: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return each record's decay window and the integers that it adds there."""
    if not np.isfinite(columns).all():
        raise ValueError(f"{family.name}: a record holds a value that is not finite")
    scaled = np.rint(columns * _FIXED_POINT[family])
    if (np.abs(scaled) > MOST).any():
        raise ValueError(f"{family.name}: a record holds a value beyond what a sum of them can be")
    values = scaled.astype(np.int64)
    if family not in HALF_LIFE_MS:
        return np.zeros(len(at_ms), dtype=np.int64), values
    window, weight = decay.windows_and_weights(at_ms, HALF_LIFE_MS[family])
    values[:, _WEIGHTED[family]] *= weight[:, None]
    return window, values


def from_bytes(keys: bytes, rows: bytes) -> Terms:
    """Return rows as they lie in the store: keys and little-endian sums, back to back."""
    return Terms(
        np.frombuffer(keys, dtype=KEY),
        np.frombuffer(rows, dtype="<i8").reshape(-1, N_COLUMNS),
    )


def merge(parts: list[Terms]) -> Terms:
    """Return one term per distinct key and owner, in an order of its own: their sum.

    What a row cannot hold is in the term of its carry.
    """
    parts = [p for p in parts if len(p.keys)]
    if not parts:
        return Terms(np.empty(0, dtype=KEY), np.empty((0, N_COLUMNS), dtype=np.int64))
    # By bytes: numpy would compare the fields of each part's type first.
    keys = np.frombuffer(b"".join([p.keys.tobytes() for p in parts]), dtype=KEY)
    values = np.concatenate([p.values for p in parts])
    words, owners = list(keys.view("<u8").reshape(-1, 3).T), None
    if parts[0].owners is not None:
        words.append(owners := np.concatenate([p.owners for p in parts if p.owners is not None]))
    order, starts = group(words)
    low, high = exact.sums(values[order], starts)
    first = order[starts]
    found = Terms(keys.take(first), low, None if owners is None else owners[first])
    over = _carries(found.keys, high, found.owners)
    return merge([found, over]) if len(over.keys) else found


def add(terms: Terms, stored: Callable[[NDArray[np.void]], NDArray[np.int64]]) -> Terms:
    """Return the rows that terms change, as they are afterwards.

    Args:
        terms: one per key, as `merge` returns them.
        stored: given keys (n,), the rows (n, N_COLUMNS) that are there, 0 where none is.
    """
    if not len(terms.keys):
        return terms
    both = np.stack([stored(terms.keys), terms.values], axis=1).reshape(-1, N_COLUMNS)
    low, high = exact.sums(both, np.arange(0, len(both), 2))
    over = _carries(terms.keys, high)
    if not len(over.keys):
        return Terms(terms.keys, low)
    first = terms.keys["family"] < CARRY
    carried = add(merge([Terms(terms.keys[~first], terms.values[~first]), over]), stored)
    return Terms(
        np.concatenate([terms.keys[first], carried.keys]),
        np.concatenate([low[first], carried.values]),
    )


def _carries(
    keys: NDArray[np.void],
    high: NDArray[np.int64] | None,
    owners: NDArray[np.uint64] | None = None,
) -> Terms:
    """Return the terms of carries, given (n, N_COLUMNS) how often rows hold `UNIT`, if at all."""
    if high is None:
        return Terms(keys[:0], np.empty((0, N_COLUMNS), dtype=np.int64))
    over = high.any(axis=1) & (keys["family"] < CARRY)  # a carry beyond 62 bits is damage
    names = keys[over]
    names["family"] += CARRY
    return Terms(names, high[over], None if owners is None else owners[over])


def is_of(keys: NDArray[np.void], family: Family) -> NDArray[np.bool_]:
    """Return which rows are of a family, carries included."""
    return np.asarray((keys["family"] & (CARRY - 1)) == int(family))


def windows(keys: NDArray[np.void], family: Family) -> NDArray[np.int64]:
    """Return (n,) the decay windows of rows of a family."""
    found = keys["window"].astype(np.int64)
    return found & NO_EPOCH if family in BY_REGIME else found


def read(
    rows: Terms,
    *,
    categories: NDArray[np.uint64],
    endpoints: NDArray[np.uint64],
    now_ms: int,
) -> Evidence:
    """Return the evidence of the named cells as of `now_ms`; other rows are left out.

    Labels count in full, whichever regime they are of; `regimes.count` sets that right.

    Args:
        rows: any number of rows; several of one cell (shards, windows) are added up.
        categories, endpoints: (n_categories,) and (n_arms,) digests, in the order wanted.
    """

    shape = (len(categories), len(endpoints), N_COLUMNS)

    def find() -> FadingPlaces:
        c = positions(rows.keys["category"], categories)
        e = positions(rows.keys["endpoint"], endpoints)
        parts = [_place(rows.keys, family, c, e, len(endpoints)) for family in FADING]
        return FadingPlaces.joined(parts, math.prod(shape))

    places = rows.once("read", (categories, endpoints), find)
    return Evidence(*_faded(rows.values, places, (len(FADING), *shape), now_ms=now_ms))


def renamed(rows: Terms, names: NDArray[np.uint64], to: NDArray[np.uint64]) -> Terms:
    """Return rows with what is under `names` (n,) put under `to` (n,); the same if nothing is.

    What is under its new name already is not touched.
    """
    found: Terms | None = rows.once("renamed", (names, to), lambda: _renamed(rows, names, to))
    return rows if found is None else found.of_same_keys(rows.values)


def _renamed(rows: Terms, names: NDArray[np.uint64], to: NDArray[np.uint64]) -> Terms | None:
    moves = names != to
    at = positions(rows.keys["category"], names[moves])
    mine = at >= 0
    if not mine.any():
        return None
    keys = rows.keys.copy()
    keys["category"][mine] = to[moves][at[mine]]
    return Terms(keys, np.empty((0, N_COLUMNS), dtype=np.int64))


def of_family(rows: Terms, family: Family) -> Terms:
    """Return the rows of one family alone."""

    def find() -> tuple[NDArray[np.intp], Terms]:
        mine = np.flatnonzero(is_of(rows.keys, family))
        return mine, Terms(rows.keys[mine], np.empty((0, N_COLUMNS), dtype=np.int64))

    mine, found = rows.once(f"of {family.name}", (), find)
    return Terms(found.keys, rows.values[mine], known=found.known)


def read_by_regime(
    rows: Terms,
    family: Family,
    *,
    categories: NDArray[np.uint64],
    endpoints: NDArray[np.uint64],
    now_ms: int,
) -> dict[int, NDArray[np.float64]]:
    """Return (n_categories, n_arms, N_COLUMNS) evidence of one family by regime, as `read` would.

    Args:
        family: one of `BY_REGIME`.
    """
    rows = of_family(rows, family)
    c = positions(rows.keys["category"], categories)
    e = positions(rows.keys["endpoint"], endpoints)
    shape = (len(categories), len(endpoints), N_COLUMNS)
    out = {}
    for regime in sorted({0, *rows.keys["regime"].tolist()}):
        own = rows.keys["regime"] == regime
        place = _place(rows.keys[own], family, c[own], e[own], len(endpoints))
        (out[regime],) = _faded(rows.values[own], place, (1, *shape), now_ms=now_ms)
    return out


def _place(
    keys: NDArray[np.void],
    family: Family,
    category: NDArray[np.intp],
    arm: NDArray[np.intp],
    n_arms: int,
) -> FadingPlaces:
    """Return where the rows of one family belong, given where each row does (-1: nowhere)."""
    pick = np.flatnonzero(is_of(keys, family) & (category >= 0) & (arm >= 0))
    # Floats add up in the order of windows, each before its carry, however rows lie.
    pick = pick[np.lexsort((keys["family"][pick], keys["window"][pick]))]
    mine, half_life_ms = keys[pick], HALF_LIFE_MS[family]
    return FadingPlaces(
        pick,
        flat(category[pick], arm[pick], n_arms),
        _units(mine),
        decay.landmarks_ms(windows(mine, family), half_life_ms),
        np.full(len(pick), half_life_ms),
        ((family, len(pick)),),
    )


def _faded(
    values: NDArray[np.int64], places: FadingPlaces, shape: tuple[int, ...], *, now_ms: int
) -> NDArray[np.float64]:
    """Return (n_families, n_categories, n_arms, N_COLUMNS) the evidence of families."""
    scale = decay.scale_since(places.landmark_ms, places.half_life_ms, now_ms=now_ms)
    scale *= places.units
    found, begin = values[places.rows].astype(float), 0
    for family, end in places.ends:
        found[begin:end] *= factor(family, scale[begin:end])
        begin = end
    return summed(found, places.into, shape)


def read_plain(
    rows: Terms,
    family: Family,
    *,
    names: NDArray[np.uint64],
    endpoints: NDArray[np.uint64],
) -> NDArray[np.float64]:
    """Return (n_names, n_arms, N_COLUMNS) the sums of a family that never fades.

    Args:
        rows: any number of rows; several of one cell (shards) are added up.
        family: BOOKS, kept under release keys, SIGNALS, under categories, TEACHING, under
            `teaching.key_of`, or ROLES, under `parts.key_of`.
        names, endpoints: (n_names,) and (n_arms,) digests, in the order wanted.

    A damaged cell, with a value that no sum of records can have, is NaN.
    """
    mine = of_family(rows, family)

    def find() -> RowPlaces:
        k, e = positions(mine.keys["category"], names), positions(mine.keys["endpoint"], endpoints)
        pick = np.flatnonzero((k >= 0) & (e >= 0))
        pick = pick[np.argsort(mine.keys["family"][pick], kind="stable")]  # carries last
        into = flat(k[pick], e[pick], len(endpoints))
        return RowPlaces(pick, into, _units(mine.keys[pick]))

    place = mine.once("plain", (names, endpoints), find)
    values = mine.values[place.rows] * place.units[:, None] / _FIXED_POINT[family]
    out = summed(values, place.into, (len(names), len(endpoints), N_COLUMNS))
    out[damaged(out, family)] = np.nan
    return out


def damaged(values: NDArray[np.float64], family: Family) -> NDArray[np.bool_]:
    """Return which cells (all axes but the last) hold a value that no sum of records can have.

    Args:
        values: (..., N_COLUMNS) sums of a family.
    """
    size = values
    if signed := list(MAY_BE_NEGATIVE.get(family, ())):
        size = values.copy()
        size[..., signed] = np.abs(size[..., signed])
    sound = (size >= 0) & (size < _BOUND[family])  # NaN is neither
    return np.asarray(~sound.all(axis=-1))


def unsound(rows: Terms) -> NDArray[np.bool_]:
    """Return which rows (n,) hold what no sum of records can, carries with the rows they are of."""
    bad = np.zeros(len(rows.keys), dtype=bool)
    scale = _units(rows.keys) / decay.WEIGHT_SCALE  # as of the window's beginning
    for family in Family:
        mine = is_of(rows.keys, family)
        if mine.any():
            values = rows.values[mine] * factor(family, scale[mine])
            bad[mine] = damaged(values, family)
    if bad.any():
        names = rows.keys.copy()
        names["family"] %= CARRY
        bad = np.isin(names, names[bad])
    return bad


def _units(keys: NDArray[np.void]) -> NDArray[np.float64]:
    """Return (n,) what one in each row stands for: `UNIT` in a carry, else 1."""
    return np.where(keys["family"] < CARRY, 1.0, float(UNIT))


def factor(family: Family, scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (n, N_COLUMNS) what turns stored integers into evidence, given (n,) window scales."""
    return np.where(_WEIGHTED[family], scale[:, None], 1.0) / _FIXED_POINT[family]


def is_stale(keys: NDArray[np.void], *, now_ms: int) -> NDArray[np.bool_]:
    """Return which rows no reader counts any more, so that they may be dropped."""
    stale = keys["family"] == RETIRED
    for family, half_life_ms in HALF_LIFE_MS.items():
        oldest = decay.oldest_live_window(half_life_ms, now_ms=now_ms)
        stale |= is_of(keys, family) & (windows(keys, family) < oldest)
    return stale


def positions(digests: NDArray[np.uint64], wanted: NDArray[np.uint64]) -> NDArray[np.intp]:
    """Return where each digest stands in `wanted`, -1 where it does not."""
    if not len(wanted):
        return np.full(len(digests), -1, dtype=np.intp)
    order = np.argsort(wanted)
    slot = np.minimum(np.searchsorted(wanted, digests, sorter=order), len(wanted) - 1)
    found = order[slot]
    return np.where(wanted[found] == digests, found, -1)
