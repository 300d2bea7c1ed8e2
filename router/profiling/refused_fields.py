"""Which field of a request an endpoint refuses, and how it may be said there instead. Pure.

A limit has two names. What only shapes an answer may be left out, so that whoever reads the
figures is told of it; tools, schemas and messages are the question itself and never go.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

OF_FIELDS = frozenset({400, 422})
"""Statuses of a refusal that may come of a field."""
LIMITS = ("max_tokens", "max_completion_tokens")
MAY_GO = (*LIMITS, "temperature", "top_p", "stop", "seed", "reasoning_effort",
          "parallel_tool_calls")  # fmt: skip
QUESTION = ("tools", "tool_choice", "response_format", "tool_calls", "functions")
"""What cannot go: an endpoint that refuses it is not asked the same."""
SHAPE_CODES = frozenset(
    {"unsupported_parameter", "unsupported_value", "unknown_parameter", "extra_forbidden"}
)
CONTENT = re.compile(r"content.?(filter|policy)|moderation|safety|flagged|invalid_prompt", re.I)
"""Of a refusal of what a prompt says: its user would have got it as well."""

TOO_LONG = re.compile(r"context.?(length|window)|too long", re.I)
"""Of a refusal of a prompt's length: without its limit it might be taken, and cost what it may."""
_OTHER_LIMIT = dict(zip(LIMITS, reversed(LIMITS), strict=True))


class FieldChange(Struct, frozen=True):
    """How a field is said where it is refused."""

    field: str
    becomes: str | None = None  # another name; None: left out

    def __str__(self) -> str:
        return f"{self.becomes} for {self.field}" if self.becomes else f"without {self.field}"

    @property
    def is_lasting(self) -> bool:
        """Whether it holds for all calls there: a limit may only have been too large for one."""
        return self.becomes is not None or self.field not in LIMITS

    def applied(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a body as it is said there; one without the field is as it was."""
        out = {name: value for name, value in body.items() if name != self.field}
        if self.becomes is not None and self.field in body:
            out.setdefault(self.becomes, body[self.field])
        return out


def change_for(
    body: Mapping[str, Any], refusal: str, param: str = "", *, tried: frozenset[str] = frozenset()
) -> FieldChange | None:
    """Return what may be tried after a refusal; None: it names nothing that may change.

    Args:
        refusal: what the endpoint says.
        param: the field, where it names one apart.
        tried: names under which something was refused already.
    """
    if CONTENT.search(refusal) or TOO_LONG.search(refusal):
        return None
    field = param if param in MAY_GO and param in body else _first_named(body, refusal)
    if field is None:
        return None
    other = _OTHER_LIMIT.get(field)
    if other is None or other in body or other in tried:
        return FieldChange(field)
    return FieldChange(field, other)


def changes_between(asked: Mapping[str, Any], sent: Mapping[str, Any]) -> list[FieldChange]:
    """Return how what was sent differs from what was asked."""
    found = []
    for field in (name for name in asked if name not in sent):
        other = _OTHER_LIMIT.get(field)
        found.append(FieldChange(field, other if other in sent and other not in asked else None))
    return found


def is_of_shape(refusal: str, code: str, param: str = "") -> bool:
    """Return whether a refusal is of how a call is said, and not of what a prompt says."""
    if any(odd.search(said) for odd in (CONTENT, TOO_LONG) for said in (refusal, code)):
        return False
    fields = (*MAY_GO, *QUESTION)
    top = re.split(r"[.\[]", param)[0]
    return code in SHAPE_CODES or top in fields or any(_names(f, refusal) for f in fields)


def _first_named(body: Mapping[str, Any], refusal: str) -> str | None:
    """Return the field of a body that a refusal names first: a limit by either name."""
    placed = []
    for name in (name for name in MAY_GO if name in body):
        found = _names(name, refusal) or _names(_OTHER_LIMIT.get(name, name), refusal)
        if found is not None:
            placed.append((found.start(), name))
    return min(placed, default=(0, None))[1]


def _names(field: str, refusal: str) -> re.Match[str] | None:
    """Return where a field is named: a word that people use needs marks around it."""
    if "_" in field:
        return re.search(rf"\b{field}\b", refusal)
    return re.search(rf"""(['"`.]){field}['"`]|^{field}\b|\b{field}:""", refusal)
