"""Keys that stand in a file of LiteLLM's: none is copied, wherever it stands.

A key is what has a key's beginning, or stands in the file where only a key does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from router.config.masking import KEY

VARIABLE = "os.environ/"
SHORTEST = 12
"""Characters of a key that is known by where it stands, a digit among them; `lm-studio` is none."""
_SURE = re.compile(r"(?:sk|rk|gsk|pplx|ghp|gho|glpat|nvapi)[-_]|AIza|AKIA|eyJ")
"""Beginnings that no model's name has."""
_LONG = re.compile(r"[A-Za-z0-9]{16,}")
_PLACE = re.compile(r"(?:.*_)?(?:key|secret|token|password|passwd|credentials)", re.IGNORECASE)
_PART = re.compile(r"[\s/?&=@:]+")
A_KEY = "what looks like a key stands there, and was not copied: write what belongs there"


def is_place_of_key(name: str) -> bool:
    """Return whether a field or a variable of this name holds a key."""
    return _PLACE.fullmatch(name) is not None


def keys_in(value: Any) -> Iterator[str]:
    """Yield the keys that stand where a key does, anywhere in a tree."""
    stack, seen = [value], set()
    while stack:
        each = stack.pop()
        if not isinstance(each, dict | list) or id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, list):
            stack += each
            continue
        for name, held in each.items():
            is_text = isinstance(held, str) and not held.startswith(VARIABLE)
            if is_text and is_place_of_key(name) and _may_be_key(held):
                yield held
            stack.append(held)


def _may_be_key(text: str) -> bool:
    return len(text) >= SHORTEST and any(c.isdigit() for c in text)


def holds_key(value: Any, known: frozenset[str]) -> bool:
    """Return whether a value, or anything within it, is or holds a key."""
    if isinstance(value, dict):
        return any(holds_key(k, known) or holds_key(v, known) for k, v in value.items())
    if isinstance(value, list):
        return any(holds_key(each, known) for each in value)
    return isinstance(value, str) and _is_key(value, known)


def _is_key(text: str, known: frozenset[str]) -> bool:
    if text in known or any(part in known for part in _PART.split(text)):
        return True
    found = KEY.search(text)
    if found is None:
        return False
    is_named = re.match(r"(?:pk|xai|hf|r8|key|sess)[-_]", found[0]) is not None
    return bool(_SURE.match(found[0])) or (is_named and _LONG.search(found[0]) is not None)
