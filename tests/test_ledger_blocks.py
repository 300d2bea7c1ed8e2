"""Rows of the ledger, loose and as blocks: what goes in comes out, and sums stay within bounds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry.ledger_blocks import BlockEntry, DamagedBlock, LedgerBlock, block_of, day_of
from telemetry.ledger_rows import (
    KEYS,
    MOST_SUM,
    N_LEDGER_COLUMNS,
    UNPACKED_AT_ONCE,
    LedgerColumn,
    LedgerRows,
    LedgerTable,
    joined,
    packed,
    sum_in,
    unpacked,
)

FEW = settings(max_examples=20, deadline=None)
COST, CALLS = LedgerColumn.COST, LedgerColumn.CALLS
NUMBERS = st.one_of(st.integers(0, 300), st.integers(0, MOST_SUM))


@st.composite
def ledger_rows(draw: st.DrawFn) -> tuple[LedgerTable, LedgerRows]:
    table = draw(st.sampled_from(LedgerTable))
    n, names = draw(st.integers(0, 6)), KEYS[table].names or ()
    found = np.zeros(n, dtype=KEYS[table])
    for name in names:
        of_it = draw(st.lists(st.sampled_from((0, 1, 2**64 - 1)), min_size=n, max_size=n))
        found[name] = np.array(of_it, dtype=np.uint64)
    values = np.zeros((n, N_LEDGER_COLUMNS), dtype=np.int64)
    for column in draw(st.sets(st.sampled_from(LedgerColumn), max_size=3)):
        values[:, column] = draw(st.lists(NUMBERS, min_size=n, max_size=n))
    spans = np.array(draw(st.lists(st.integers(48, 71), min_size=n, max_size=n)), dtype=np.int64)
    return table, LedgerRows(spans, found, values)


def sums(rows: LedgerRows) -> dict[tuple[int, bytes], list[int]]:
    """Return what rows add up to, counted one by one."""
    out: dict[tuple[int, bytes], list[int]] = {}
    for span, key, values in zip(rows.spans.tolist(), rows.keys, rows.values, strict=True):
        place = (span, key.tobytes())
        before = out.get(place, [0] * N_LEDGER_COLUMNS)
        out[place] = [min(a + b, MOST_SUM) for a, b in zip(before, values.tolist(), strict=True)]
    return out


@FEW
@given(ledger_rows(), st.randoms())
def test_a_block_holds_its_rows_and_is_the_same_in_whichever_order_they_come(
    rows: tuple[LedgerTable, LedgerRows], random: object
) -> None:
    table, those = rows
    data = block_of(those, table)
    backwards = LedgerRows(those.spans[::-1], those.keys[::-1], those.values[::-1])

    block = LedgerBlock(data, table)

    assert sums(block.rows()) == sums(those)
    assert block_of(backwards, table) == data
    entry = BlockEntry.of(data, block)
    parsed = BlockEntry.parse(entry.pack())
    assert (parsed.digest, parsed.sums.tolist()) == (entry.digest, block.sums().tolist())
    whole = LedgerRows(those.spans * 0, those.keys.copy(), those.values)
    whole.keys[:] = np.zeros(1, dtype=KEYS[table])
    assert [block.sums().tolist()] == [*sums(whole).values()] or not len(those.keys)


@FEW
@given(ledger_rows(), st.booleans())
def test_a_block_groups_by_what_is_asked_for(
    rows: tuple[LedgerTable, LedgerRows], by_span: bool
) -> None:
    table, those = rows
    block = LedgerBlock(block_of(those, table), table)
    coarse = replace(those, keys=np.zeros(len(those.keys), dtype=KEYS[table]))
    field = (KEYS[table].names or ())[0]
    coarse.keys[field] = those.keys[field]
    first = int(those.spans.min()) if len(those.spans) else 0
    coarse = coarse if by_span else replace(coarse, spans=those.spans * 0 + first)

    found = block.grouped(None, [field], by_span=by_span)
    costs = block.grouped([COST], [field], by_span=by_span)

    assert sums(found) == sums(coarse)
    assert len(found.keys) == len(sums(coarse))  # one row each
    assert costs.values[:, COST].tolist() == found.values[:, COST].tolist()
    assert not costs.values[:, CALLS].any()


@FEW
@given(ledger_rows())
def test_loose_rows_are_stored_as_they_are(rows: tuple[LedgerTable, LedgerRows]) -> None:
    _, those = rows

    assert unpacked(packed(those.values)).tolist() == those.values.tolist()
    assert unpacked([None, *packed(those.values)])[1:].tolist() == those.values.tolist()
    for row, sums in zip(packed(those.values), those.values.tolist(), strict=True):
        assert [sum_in(row, column) for column in LedgerColumn] == sums
    assert sum_in(None, LedgerColumn.ROWS) == 0


def test_more_rows_than_are_unpacked_at_once_come_in_their_order() -> None:
    values = np.zeros((2 * UNPACKED_AT_ONCE + 3, len(LedgerColumn)), dtype=np.int64)
    values[:, LedgerColumn.COST] = np.arange(len(values))
    rows: list[bytes | None] = list(packed(values))
    rows[UNPACKED_AT_ONCE] = None
    values[UNPACKED_AT_ONCE] = 0

    assert (unpacked(rows) == values).all()


def test_hours_roll_up_to_the_first_of_their_day() -> None:
    table = LedgerTable.CALLS
    key = np.zeros(3, dtype=KEYS[table])
    values = np.full((3, N_LEDGER_COLUMNS), 7, dtype=np.int64)
    rows = LedgerRows(np.array([48, 71, 50]), key, values)

    block = LedgerBlock(block_of(rows, table, is_daily=True), table)

    assert (block.is_daily, block.n_rows, block.rows().spans.tolist()) == (True, 1, [48])
    assert block.sums().tolist() == [21] * N_LEDGER_COLUMNS
    assert [day_of(table, span) for span in (47, 48, 71)] == [1, 2, 2]


def test_what_is_no_block_is_said_to_be_none() -> None:
    key = np.ones(3, dtype=KEYS[LedgerTable.USERS])
    rows = LedgerRows(np.arange(3), key, np.ones((3, N_LEDGER_COLUMNS), dtype=np.int64))
    data = block_of(joined(LedgerTable.USERS, [rows, rows]), LedgerTable.USERS)

    for wrong in (b"", data[:20], data[:-1], data + b"x", b"XXXX" + data[4:]):
        with pytest.raises(DamagedBlock):
            LedgerBlock(wrong, LedgerTable.USERS)
    with pytest.raises(DamagedBlock):
        LedgerBlock(data, LedgerTable.TAGS)
    with pytest.raises(DamagedBlock):
        LedgerBlock(data[:-3] + b"abc", LedgerTable.USERS).rows()
