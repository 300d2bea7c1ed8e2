"""What a body says of how much may be written, as strictly as any provider may take it. Pure.

Providers read numbers that are text, take the first or the last of a field that stands twice, and
have words for "no limit" (-1 of llama.cpp and Ollama). What cannot be told for certain has no
limit here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Raw, Struct

from router.dialects.fields import top_level
from router.endpoints.entries import Dialect

LIMITS = ("max_completion_tokens", "max_output_tokens", "max_tokens")
ANSWERS = ("n", "best_of")
LIMITS_OF = {
    Dialect.CHAT: ("max_completion_tokens", "max_tokens"),
    Dialect.RESPONSES: ("max_output_tokens",),
}
"""Which of them count in a dialect; in the others it is `max_tokens`."""
ANSWERS_OF = {Dialect.CHAT: ("n",), Dialect.COMPLETIONS: ANSWERS}
_NUMBER = re.compile(r"\s*[0-9]{1,9}\s*", re.ASCII)
SPACINGS = ((b",", b":"), (b", ", b": "))
MOST = 10**9
"""No limit is larger: what says more says none."""


class SaidLimits(Struct, frozen=True):
    """What of a body bounds what is written."""

    most_out: float | None  # tokens of each answer; None: it does not say; infinite: anything
    n_answers: float  # for each prompt; infinite: anything
    is_plain: bool = True  # no other field stands twice, so that everybody reads the same


UNREADABLE = SaidLimits(math.inf, math.inf, is_plain=False)


def said_limits(body: bytes, dialect: Dialect) -> SaidLimits:
    """Return what a body says; of what nobody can read, that it may be anything."""
    try:
        said, is_plain = _said(body, {*LIMITS, *ANSWERS})
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return UNREADABLE
    return SaidLimits(
        max(_limits(said, LIMITS_OF.get(dialect, ("max_tokens",))), default=None),
        max(_counts(said, ANSWERS_OF.get(dialect, ())), default=1),
        is_plain,
    )


def limit_of(value: object) -> float:
    """Return a limit of tokens as it was said; infinite where that is none: -1, or unreadable."""
    number = number_of(value)
    return math.inf if number is None or number < 1 else number


def count_of(value: object) -> float:
    """Return a number of answers as it was said; infinite where it cannot be read."""
    number = number_of(value)
    return math.inf if number is None or number < 0 else max(number, 1)


def number_of(value: object) -> int | None:
    """Return a whole number, also one that is text or written as a float; None: it is none."""
    if isinstance(value, str):
        return int(value) if _NUMBER.fullmatch(value) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if abs(value) <= MOST and value % 1 == 0 else None


def _limits(said: dict[str, list[object]], names: Iterable[str]) -> list[float]:
    return [limit_of(value) for name in names for value in said.get(name, ()) if value is not None]


def _counts(said: dict[str, list[object]], names: Iterable[str]) -> list[float]:
    return [count_of(value) for name in names for value in said.get(name, ()) if value is not None]


def _said(body: bytes, names: set[str]) -> tuple[dict[str, list[object]], bool]:
    """Return all values of some fields, and whether no other one stands twice."""
    top = top_level(body)
    if _is_each_once(body, top):  # most often
        found = {name: [msgspec.json.decode(top[name])] for name in names if name in top}
        return found, True

    def pairs_of(pairs: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
        return pairs

    # The outermost object comes last. No number is made of more digits than a limit has.
    pairs = json.loads(
        body.decode("utf-8-sig"),
        object_pairs_hook=pairs_of,
        parse_int=lambda digits: int(digits) if len(digits) < 20 else math.inf,
    )
    out: dict[str, list[object]] = {}
    for name, value in pairs:
        out.setdefault(name, []).append(value)
    is_plain = all(len(values) == 1 for name, values in out.items() if name not in names)
    return {name: values for name, values in out.items() if name in names}, is_plain


def _is_each_once(body: bytes, top: dict[str, Raw]) -> bool:
    """Return whether a body is its fields once each, spaced as most clients do it."""
    fields = [(json.dumps(name).encode(), bytes(raw)) for name, raw in top.items()]
    return any(
        body.strip() == b"{" + comma.join(name + colon + raw for name, raw in fields) + b"}"
        for comma, colon in SPACINGS
    )
