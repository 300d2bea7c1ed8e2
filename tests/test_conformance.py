"""The golden decisions hold: configuration, request and posteriors to eligible set and plan."""

from __future__ import annotations

from pathlib import Path

import pytest
from conformance import GoldenDecision, decide, differences, golden_decisions

DECISIONS = list(golden_decisions())


@pytest.mark.parametrize("decision", DECISIONS, ids=[each.name for each in DECISIONS])
def test_a_golden_decision_holds(decision: GoldenDecision, state_dir: Path) -> None:
    found = decide(decision, state_dir)

    assert not differences(decision.expect, found), f"{decision.says}\n{found}"
