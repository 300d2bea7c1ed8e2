"""The proof of budgets proves something: money that is spent twice or left over is noticed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scripts.proofs.budget import LIMIT, PROCESSES, faults, report
from scripts.proofs.budget_play import AMOUNT, booked

RUN: dict[str, Any] = {
    "spent": LIMIT - 1,
    "overspend": 0,
    "stranded": 0,
    "overgranted": 0,
    "misbooked": 0,
    "failed": 0,
    "refused_by_store": PROCESSES,
    "forgotten_bytes": 1,
    "missed": 1,
    "buried": 1,
}


def test_a_run_without_faults_has_none() -> None:
    figures = report([RUN, RUN], 10)

    assert faults(figures) == []
    assert figures["reservations"] == 2 * PROCESSES * 10
    assert figures["overspend_usd"] == figures["stranded_usd"] == 0


@pytest.mark.parametrize(
    "change",
    [
        {"overspend": 1},
        {"stranded": 1000},
        {"overgranted": 1},
        {"misbooked": 1},
        {"failed": 1},
        {"spent": LIMIT // 2},
        {"refused_by_store": 0},
        {"forgotten_bytes": 0},
        {"missed": 0},
        {"buried": 0},
    ],
)
def test_whatever_is_wrong_or_never_happened_is_a_fault(change: dict[str, int]) -> None:
    assert len(faults(report([RUN, RUN | change], 10))) == 1


def test_a_book_is_read_to_its_last_whole_entry(tmp_path: Path) -> None:
    (tmp_path / "book").write_bytes(AMOUNT.pack(5) + AMOUNT.pack(7) + b"\1")

    assert booked(tmp_path / "book") == 12
    assert booked(tmp_path / "none") == 0
