"""Verdicts travel as plain values, between versions."""

from __future__ import annotations

import json
import math

import pytest

from bandit.compared import Measure
from bandit.told_verdicts import from_plain, to_plain
from bandit.verdict import Basis, Difference, Lack, Verdict, VerdictKind

WHOLE = Verdict(
    VerdictKind.TRADE,
    Basis.HOLDOUT,
    (
        Difference(Measure.QUALITY, 0.05, 0.01, 0.09, is_better_higher=True),
        Difference(Measure.COST_PER_SUCCESS, 0.2, 0.1, 0.3, is_better_higher=False),
    ),
    units=(210, 300),
    labelled=(200, 290),
    needed=40,
    checked=0.04,
    at_ms=1_800_000_000_000,
    ended_ms=1_700_000_000_000,
)


@pytest.mark.parametrize(
    "verdict",
    [
        WHOLE,
        Verdict(VerdictKind.NOT_SHOWN, Basis.NOTHING),
        Verdict(VerdictKind.NOT_SHOWN, Basis.TRIAL, lacks=Lack.LABELS),
    ],
)
def test_a_verdict_comes_back_as_it_was_told(verdict: Verdict) -> None:
    assert from_plain(json.loads(json.dumps(to_plain(verdict)))) == verdict


def test_what_is_not_known_is_left_out_and_what_is_missing_has_its_default() -> None:
    told = json.loads(json.dumps(to_plain(WHOLE))) | {"later": 1, "lacks": "patience"}
    told["differences"] += [{"measure": "luck", "mean": 1, "low": 0, "high": 2}, {"mean": 3}, 7]
    del told["needed"], told["units"]

    found = from_plain(told)

    assert found is not None
    assert found.differences == WHOLE.differences
    assert (found.needed, found.units, found.lacks) == (None, (0, 0), None)
    assert from_plain({"kind": "keep", "basis": "trial"}) == Verdict(VerdictKind.KEEP, Basis.TRIAL)


@pytest.mark.parametrize(
    "value", [None, 7, [], {}, {"kind": "keep"}, {"kind": "perhaps", "basis": "trial"}]
)
def test_what_says_nothing_is_no_verdict(value: object) -> None:
    assert from_plain(value) is None


def test_odd_values_are_taken_for_missing() -> None:
    told = to_plain(WHOLE) | {"needed": math.inf, "checked": "x", "units": [1], "at_ms": True}
    found = from_plain(told | {"labelled": [None, "n"], "differences": "none"})
    assert found is not None
    assert (found.needed, found.checked, found.units, found.at_ms) == (None, None, (0, 0), 0)
    assert (found.labelled, found.differences) == ((0, 0), ())
