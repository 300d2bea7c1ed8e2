"""Values as YAML on one line, for what is written into a configuration or is to be pasted there."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal

from router.endpoints.scalars import FALSE_WORDS, TRUE_WORDS, number_of


def flow(value: object) -> str:
    """Return a value on one line, as it may stand behind a name."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(k)}: {flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(flow(each) for each in value) + "]"
    return scalar(value)


_PLAIN = re.compile(r"[A-Za-z_/.~][A-Za-z0-9_/.~@+:-]*(?<!:)")
"""Text that needs no quotes wherever it stands, if it is no other word."""
_WORDS = TRUE_WORDS | FALSE_WORDS | {"null", "~", ".", "..", "---", "..."}


def scalar(value: object) -> str:
    """Return a value that holds no others, or a name, in quotes where it needs them."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    if isinstance(value, int | float):
        return format(Decimal(repr(value)).normalize(), "f")
    text = str(value)
    plain = _PLAIN.fullmatch(text) and text.lower() not in _WORDS and number_of(text) is None
    return text if plain else json.dumps(text, ensure_ascii=False)
