"""Verdicts as plain values, as they lie in the store, and back. Pure.

Who writes and who reads may be of different versions: what is not known is left out, what is
missing has its default, and what says nothing at all is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from enum import StrEnum
from typing import Any, TypeVar

from bandit.compared import Measure
from bandit.verdict import Basis, Difference, Lack, Verdict, VerdictKind

Word = TypeVar("Word", bound=StrEnum)
_PAIRS = ("units", "labelled")
_WHOLE = ("at_ms", "ended_ms")


def to_plain(verdict: Verdict) -> dict[str, object]:
    """Return a verdict as what JSON knows."""
    return asdict(verdict)


def from_plain(value: object) -> Verdict | None:
    """Return the verdict that was told, or None where that cannot be read.

    A difference of a measure that is not known here is left out.
    """
    if not isinstance(value, Mapping):
        return None
    kind, basis = _word(VerdictKind, value.get("kind")), _word(Basis, value.get("basis"))
    if kind is None or basis is None:
        return None
    told = value.get("differences")
    differences = [_difference(one) for one in told] if isinstance(told, list | tuple) else []
    more: dict[str, Any] = {name: _pair(value.get(name)) for name in _PAIRS}
    more |= {name: int(_number(value.get(name)) or 0) for name in _WHOLE}
    needed = _number(value.get("needed"))
    return Verdict(
        kind=kind,
        basis=basis,
        differences=tuple(one for one in differences if one is not None),
        needed=None if needed is None else int(needed),
        checked=_number(value.get("checked")),
        lacks=_word(Lack, value.get("lacks")),
        **more,
    )


def _difference(value: object) -> Difference | None:
    if not isinstance(value, Mapping):
        return None
    measure = _word(Measure, value.get("measure"))
    mean, low, high = (_number(value.get(name)) for name in ("mean", "low", "high"))
    if measure is None or mean is None or low is None or high is None:
        return None
    return Difference(measure, mean, low, high, bool(value.get("is_better_higher", True)))


def _pair(value: object) -> tuple[int, int]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        return 0, 0
    first, second = (_number(one) or 0 for one in value)
    return int(first), int(second)


def _number(value: object) -> float | None:
    is_one = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_one and abs(value) < 1e300 else None  # type: ignore[arg-type]


def _word(known: type[Word], value: object) -> Word | None:
    try:
        return known(str(value))
    except ValueError:
        return None
