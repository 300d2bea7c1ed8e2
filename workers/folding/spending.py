"""What outcomes add to the ledger's loose rows, and what `forget` does to those. Pure.

Rows are what the store holds: of each table and span a key and packed sums. Learner and audit
share this, so that the same records make the same rows.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from telemetry.events import Flag, Kind
from telemetry.ledger_rows import (
    CALLS_KEY,
    KEYS,
    N_LEDGER_COLUMNS,
    NAMED_KEY,
    OTHERS,
    PRICE_KEY,
    SPAN_MS,
    LedgerColumn,
    LedgerRows,
    LedgerTable,
    added,
    joined,
    packed,
    sum_in,
    unpacked,
)
from workers.folding.amounts import amounts_of, compared_of, costs_of
from workers.folding.batch import Batch, owners_of
from workers.folding.hearing import pieces

MOST_NAMES = 100_000
"""Of an app and a day, over all shards: so many users, and tags, have rows of their own."""
NAMED = (LedgerTable.USERS, LedgerTable.TAGS)
ROWS = int(LedgerColumn.ROWS)

Place = tuple[LedgerTable, int]
"""Table and span."""
Loose = dict[Place, dict[bytes, bytes]]
"""Rows by where they lie, and key."""
Stored = Mapping[Place, Mapping[bytes, bytes | None]]
"""What lies there, of what was asked for."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What a batch adds, one row a table, span and key, and whom it has forgotten."""

    tables: dict[LedgerTable, LedgerRows]
    names: dict[LedgerTable, list[bytes]]  # (n,) the rows' keys as they are stored
    first: dict[LedgerTable, NDArray[np.intp]]  # (n,) at which record each row appeared first
    forgotten: frozenset[bytes]  # keys of rows of users

    def needed(
        self, spans: Collection[Place], known: Container[Place] = ()
    ) -> dict[Place, list[bytes]]:
        """Return the keys of the rows that must be known before this is added.

        Args:
            spans: all that have rows.
            known: places of which everything is known.
        """
        out: dict[Place, list[bytes]] = {}
        for table, rows in self.tables.items():
            for span, own in _by_span(rows):
                if (table, span) in known:
                    continue
                wanted = self.names[table][own]
                if table in NAMED:
                    apps = sorted(set(rows.keys["app"][own].tolist()))
                    wanted = wanted + pieces(_others_of(np.array(apps, dtype=np.uint64)))
                out[table, span] = list(dict.fromkeys(wanted))
        if self.forgotten:
            gone = [*self.forgotten, *map(_others_beside, self.forgotten)]
            for place in {*spans, *out}:
                if place[0] is LedgerTable.USERS and place not in known:
                    out[place] = list(dict.fromkeys([*out.get(place, []), *gone]))
        return out


@dataclass(slots=True)
class BookedRows:
    """Loose rows that change."""

    rows: Loose = field(default_factory=dict)
    gone: dict[Place, list[bytes]] = field(default_factory=dict)


def spent_in(batch: Batch) -> Spent:
    """Return what a batch adds, and whom it has forgotten."""
    return spent_by(batch.of_kind(Kind.OUTCOME), _forgotten_in(batch))


def spent_in_each(batches: Sequence[Batch], whole: Batch) -> list[Spent]:
    """Return what batches add, each to a ledger of its own, and whom they have forgotten.

    Args:
        whole: the records of all of them, in their order.
    """
    forgotten = list(map(_forgotten_in, batches))
    outcomes, owner = whole.of_kind(Kind.OUTCOME), owners_of(batches)
    if owner is not None and len(outcomes) < len(owner):
        owner = owner.compress(whole.records["kind"] == Kind.OUTCOME)
    return spent_by_each(outcomes, owner, forgotten)


def _forgotten_in(batch: Batch) -> frozenset[bytes]:
    """Return the keys of rows of users that a batch has forgotten; mostly none."""
    forgotten = batch.of_kind(Kind.FORGET)["token"]
    if not len(forgotten):
        return frozenset()
    keys = np.zeros(len(forgotten), dtype=NAMED_KEY)
    keys["app"], keys["name"] = forgotten["app"], forgotten["user"]
    return frozenset(pieces(keys))


def begun_ms(batch: Batch) -> int:
    """Return when a ledger begins whose first batch this is: with its entry, or its first call.

    What apps tell of may have been long before.
    """
    outcomes = batch.of_kind(Kind.OUTCOME)
    own = (outcomes["flags"] & Flag.INGESTED) == 0
    decided = outcomes["token"]["decided_at_ms"][own].tolist()
    return min([*decided, *(at for at, _ in batch.entries[:1])], default=0)


def spent_by(outcomes: NDArray[np.void], forgotten: frozenset[bytes] = frozenset()) -> Spent:
    """Return what attempts add to the ledger.

    A user or a tag that is not named has no row: the table of calls has what it spent.

    Args:
        outcomes: (n,) records of the kind OUTCOME, in the order of the stream.
        forgotten: keys of users that are forgotten behind them.
    """
    return spent_by_each(outcomes, None, [forgotten])[0]


def spent_by_each(
    outcomes: NDArray[np.void],
    owner: NDArray[np.uint64] | None,
    forgotten: Sequence[frozenset[bytes]],
) -> list[Spent]:
    """Return what attempts add to ledgers, as `spent_by` does to one.

    Args:
        owner: (n,) to which one each adds, rising; None: all to the first.
        forgotten: of each.
    """
    out = [Spent({}, {}, {}, users) for users in forgotten]
    if not len(outcomes):
        return out
    token, cost = outcomes["token"], costs_of(outcomes)
    values = amounts_of(outcomes, cost)
    at_ms = token["decided_at_ms"]
    calls = np.empty(len(outcomes), dtype=CALLS_KEY)
    for name, of_it in (
        ("app", token["app"]),
        ("role", outcomes["role"]),
        ("task", token["category"]),
        ("strategy", token["strategy"]),
        ("endpoint", token["executed"]),
        ("model", outcomes["served_model"]),
    ):
        calls[name] = of_it
    _put(out, LedgerTable.CALLS, at_ms, calls, values, owner)
    named = ((LedgerTable.USERS, token["user"]), (LedgerTable.TAGS, outcomes["spend_tag"]))
    for table, names in named:
        mine = names != OTHERS
        if not mine.any():
            continue
        keys = np.empty(int(mine.sum()), dtype=NAMED_KEY)
        keys["app"], keys["name"] = token["app"][mine], names[mine]
        _put(out, table, at_ms[mine], keys, values[mine], None if owner is None else owner[mine])
    compared, sums = compared_of(outcomes, cost)
    if len(sums):
        keys = np.empty(len(sums), dtype=PRICE_KEY)
        keys["endpoint"] = token["executed"][compared]
        keys["price"] = outcomes["price"][compared]
        whose = None if owner is None else owner[compared]
        _put(out, LedgerTable.PRICES, at_ms[compared], keys, sums, whose)
    return out


def _put(
    out: Sequence[Spent],
    table: LedgerTable,
    at_ms: NDArray[np.int64],
    keys: NDArray[np.void],
    values: NDArray[np.int64],
    owner: NDArray[np.uint64] | None,
) -> None:
    """Note what attempts add to a table of each owner's."""
    spans = at_ms.astype(np.int64) // SPAN_MS[table]
    rows, first = LedgerRows(spans, keys, values).summed_with_first(owner)
    names = pieces(rows.keys)
    ends = [len(names)]
    if owner is not None:
        of_rows = owner[first].astype(np.intp)
        ends = np.bincount(of_rows, minlength=len(out)).cumsum().tolist()
    for spent, (begin, end) in zip(out, pairwise([0, *ends]), strict=False):
        if begin < end:
            own = slice(begin, end)
            spent.tables[table] = LedgerRows(rows.spans[own], rows.keys[own], rows.values[own])
            spent.names[table], spent.first[table] = names[own], first[own]


def book(spent: Spent, stored: Stored, *, most_names: int) -> BookedRows:
    """Return the rows that change, and those that go.

    Args:
        stored: the rows that `spent.needed` names, as far as there are any.
        most_names: of an app and span so many names have rows of their own; later ones count as
            others.
    """
    return book_each([(spent, stored, most_names)])[0]


def book_each(of_each: Sequence[tuple[Spent, Stored, int]]) -> list[BookedRows]:
    """Return the rows of ledgers that change, as `book` does of one, worked out at once."""
    out = [BookedRows() for _ in of_each]
    places: list[tuple[BookedRows, Place, list[bytes]]] = []
    before: list[bytes | None] = []
    values: list[NDArray[np.int64]] = []
    for booked, (spent, stored, most_names) in zip(out, of_each, strict=True):
        for table, rows in spent.tables.items():
            all_names = spent.names[table]
            if table in NAMED and (new := _new(table, rows, all_names, stored)).any():
                first = spent.first[table]
                rows = _within(table, rows, np.flatnonzero(new), first, stored, most_names)
                all_names = pieces(rows.keys)
            values.append(rows.values)
            for span, own in _by_span(rows):
                names, known = all_names[own], stored.get((table, span), {})
                places.append((booked, (table, span), names))
                before += map(known.get, names)
    if places:
        after = iter(packed(added(unpacked(before), np.concatenate(values))))
        for booked, place, names in places:
            booked.rows[place] = dict(zip(names, after, strict=False))
    for booked, (spent, stored, _) in zip(out, of_each, strict=True):
        if spent.forgotten:
            _forget(booked, spent.forgotten, stored)
    return out


def apply(booked: BookedRows, loose: Loose) -> None:
    """Have whole tables change."""
    for place, rows in booked.rows.items():
        loose.setdefault(place, {}).update(rows)
    for place, names in booked.gone.items():
        for name in names:
            loose[place].pop(name, None)


def rows_of(table: LedgerTable, loose: Mapping[int, Mapping[bytes, bytes]]) -> LedgerRows:
    """Return loose rows of a table, by span, as numbers."""
    parts = []
    for span, rows in loose.items():
        keys = np.frombuffer(b"".join(rows), dtype=KEYS[table])
        spans = np.full(len(keys), span, dtype=np.int64)
        parts.append(LedgerRows(spans, keys, unpacked(list(rows.values()))))
    return joined(table, parts)


def _forget(out: BookedRows, forgotten: Collection[bytes], stored: Stored) -> None:
    """Have the rows of users count as others'."""
    for place in {place for place in (*stored, *out.rows) if place[0] is LedgerTable.USERS}:
        known, rows = stored.get(place, {}), out.rows.get(place, {})
        for name in sorted(forgotten):
            row = rows.get(name) or known.get(name)
            if row is None:
                continue
            others = _others_beside(name)
            mine, theirs = unpacked([row, rows.get(others) or known.get(others)])
            theirs[ROWS] = max(theirs[ROWS] - 1, 0)
            rows.pop(name, None)
            (rows[others],) = packed(added(mine, theirs)[None])
            out.rows[place] = rows
            out.gone.setdefault(place, []).append(name)


def _new(
    table: LedgerTable, rows: LedgerRows, names: list[bytes], stored: Stored
) -> NDArray[np.bool_]:
    """Return which rows are of names that have none yet."""
    out = rows.keys["name"] != OTHERS
    for span, own in _by_span(rows):
        known = stored.get((table, span))
        if known is not None:
            out[own] &= np.array([known.get(name) is None for name in names[own]])
    return np.asarray(out)


def _within(
    table: LedgerTable,
    rows: LedgerRows,
    new: NDArray[np.intp],
    first: NDArray[np.intp],
    stored: Stored,
    most_names: int,
) -> LedgerRows:
    """Return rows in which new names for which there is no room are others'."""
    spans, keys = rows.spans.tolist(), rows.keys
    apps = keys["app"].tolist()
    groups = list(dict.fromkeys((spans[i], apps[i]) for i in new.tolist()))
    others = _others_of(np.array([app for _, app in groups], dtype=np.uint64))
    lying = [
        stored.get((table, span), {}).get(name)
        for (span, _), name in zip(groups, pieces(others), strict=True)
    ]
    taken = {group: sum_in(row, ROWS) for group, row in zip(groups, lying, strict=True)}
    before, keys = dict(taken), keys.copy()
    for i in new[np.argsort(first[new])].tolist():
        group = spans[i], apps[i]
        if taken[group] < most_names:
            taken[group] += 1
        else:
            keys["name"][i] = OTHERS
    counted = np.zeros((len(groups), N_LEDGER_COLUMNS), dtype=np.int64)
    counted[:, ROWS] = [taken[group] - before[group] for group in groups]
    counts = LedgerRows(np.array([span for span, _ in groups], dtype=np.int64), others, counted)
    own = LedgerRows(rows.spans, keys, rows.values)
    return joined(table, [own, counts]).summed()


def _others_of(apps: NDArray[np.uint64]) -> NDArray[np.void]:
    """Return the keys of the rows of others of some apps."""
    keys = np.zeros(len(apps), dtype=NAMED_KEY)
    keys["app"], keys["name"] = apps, OTHERS
    return keys


def _others_beside(name: bytes) -> bytes:
    """Return the key of the row of others beside a user's or tag's."""
    return name[:8] + OTHERS.to_bytes(8, "little")


def _by_span(rows: LedgerRows) -> list[tuple[int, slice]]:
    """Return where each span's rows lie among summed ones."""
    spans = rows.spans.tolist()
    if not spans or spans[0] == spans[-1]:  # they rise
        return [(span, slice(0, len(spans))) for span in spans[:1]]
    starts = [0, *(i for i, pair in enumerate(pairwise(spans), 1) if pair[0] != pair[1])]
    ends = [*starts[1:], len(spans)]
    return [(spans[a], slice(a, b)) for a, b in zip(starts, ends, strict=True)]
