"""Rules that are broken on purpose, so that it shows whether the proof of the policy notices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any
from unittest.mock import patch

from router.config import rules
from router.decision import planner
from router.dispatch import admitted, asking
from router.policy.constraints import Filter
from router.policy.standing import PolicyTable


class PolicySabotage(StrEnum):
    """Which rule is broken."""

    FALLBACK = "fallback"  # a fallback goes to anybody
    PASSED_ON = "passed_on"  # what is passed on is not looked at
    LAPSE = "lapse"  # nobody looks again after the decision
    USER = "user"  # what a user says is left out of the merge
    LOOSEN = "loosen"  # of two classes the nearer one holds
    KEEP = "keep"  # what a call has kept is not looked at


@contextmanager
def sabotaged(kind: PolicySabotage | None) -> Iterator[None]:
    """Break a rule, as long as this lasts."""
    match kind:
        case None:
            yield
        case PolicySabotage.FALLBACK:
            with patch.object(planner.Plan, "then", _anybody):
                yield
        case PolicySabotage.PASSED_ON:
            with patch.object(admitted, "why_forbidden", lambda *_: None):
                yield
        case PolicySabotage.LAPSE:
            with patch.object(asking, "why_forbidden_now", lambda *_: None):
                yield
        case PolicySabotage.USER:
            with patch.object(PolicyTable, "_users", lambda *_: iter(())):
                yield
        case PolicySabotage.LOOSEN:
            with patch.dict(rules._OPERATORS, {"data_class": lambda a, b: a}):
                yield
        case PolicySabotage.KEEP:
            with patch.object(Filter, "_keeping", lambda *_: {}):
                yield


def _anybody(plan: planner.Plan) -> Iterator[Any]:
    """Yield all other endpoints."""
    for endpoint in plan.beliefs.configuration.catalog.endpoints:
        if endpoint is not plan.drawn:
            yield endpoint
