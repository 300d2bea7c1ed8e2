"""A merged policy as JSON: what holds, and which level said it."""

from __future__ import annotations

from typing import Any

from router.config.rules import MergedPolicy
from router.endpoints.capabilities import names_of
from router.endpoints.data_classes import DataClass

BITS = ("require", "forbid", "prefer")


def told(policy: MergedPolicy) -> dict[str, Any]:
    """Return by field its value and, the nearest to the call first, what each level said of it."""
    out: dict[str, Any] = {}
    for step in policy.trace:
        value = shown_value(step.field, getattr(policy.rules, step.field))
        field = out.setdefault(step.field, {"value": value, "said": []})
        field["said"].append({"by": step.level.value, "value": shown_value(step.field, step.value)})
    return out


def shown_value(field: str, value: Any) -> Any:
    """Return the value of a field of the rules as JSON has it."""
    if field in BITS:
        return names_of(value)
    if field == "tools":
        return [sorted(patterns) for patterns in sorted(value, key=sorted)]
    if isinstance(value, DataClass):
        return value.name
    return sorted(value) if isinstance(value, frozenset) else value
