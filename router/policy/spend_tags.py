"""By what else an app books its spend: the one tag that it declares, as a call names it.

Any other tag of a call is passed over, and kept nowhere. What is wrong with a tag holds no call:
it goes on without, and its answer says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from msgspec import Struct, structs

from router.config.compiled import App
from router.policy.hints import Hints
from telemetry.digests import spend_tag_digest
from telemetry.names import NotText, text_of
from telemetry.numbers import brief

HEADER = "x-router-tags"
MAX_TAGS = 16
MAX_VALUE = 128
"""Characters of a tag's value."""
MAX_LINE = 4096
FORM = "write key=value, key=value"


class SpendTag(Struct, frozen=True):
    """The declared tag of a call."""

    digest: int = 0  # 0: it names none
    name: str = ""  # key=value
    warning: str | None = None  # why what was said of it does not count


NO_TAG = SpendTag()


class _Wrong(Exception):
    """What was said cannot be a tag; the message says what, and the fix."""


def tag_of(app: App, hints: Hints) -> SpendTag:
    """Return the declared tag of a call of an app."""
    return NO_TAG if hints.tags is None else spend_tag_of(app, hints.tags)


def spend_tag_of(app: App, said: Any) -> SpendTag:
    """Return the declared tag of a call of an app.

    Args:
        said: its tags: a line `key=value, key=value`, or values by key.
    """
    key = app.spend_tag
    if key is None or said is None:
        return NO_TAG  # most often
    try:
        values = _of_line(key, said) if isinstance(said, str) else _of_body(key, said)
        if not values:
            return NO_TAG
        _require_bounds(key, values[0])
    except _Wrong as wrong:
        return SpendTag(warning=f"{wrong}; booked under no tag")
    found = _made(app.name, key, values[0])
    if any(value != values[0] for value in values):
        warning = f"tag {key} is there {len(values)} times; booked under the first"
        return structs.replace(found, warning=warning)
    return found


@lru_cache(maxsize=8192)
def _made(app: str, key: str, value: str) -> SpendTag:
    return SpendTag(spend_tag_digest(app, key, value), f"{key}={value}")


def _of_line(key: str, line: str) -> list[str]:
    if len(line) > MAX_LINE:
        raise _Wrong(f"{HEADER} has {len(line)} characters, more than {MAX_LINE}")
    return [value for name, value in _pairs(line) if name == key]


def _pairs(line: str) -> Iterator[tuple[str, str]]:
    parts = [part for part in line.split(",") if part.strip()]
    if len(parts) > MAX_TAGS:
        raise _Wrong(f"{HEADER} names {len(parts)} tags, more than {MAX_TAGS}")
    for part in parts:
        name, equals, value = part.partition("=")
        if not equals:
            raise _Wrong(f"{HEADER} holds {brief(part.strip())}; {FORM}")
        yield name.strip(), value.strip()


def _of_body(key: str, said: Any) -> list[str]:
    if not isinstance(said, dict):
        raise _Wrong(f"tags is {brief(said)}; it must be an object of values by key")
    if len(said) > MAX_TAGS:
        raise _Wrong(f"tags names {len(said)} tags, more than {MAX_TAGS}")
    value = said.get(key)
    try:
        return [] if value is None else [text_of(value).strip()]
    except NotText as error:
        raise _Wrong(f"tags.{key} {error}") from None


def _require_bounds(key: str, value: str) -> None:
    if not value:
        raise _Wrong(f"tag {key} is empty; give it a value, or leave it out")
    if len(value) > MAX_VALUE:
        raise _Wrong(f"tag {key} has {len(value)} characters, more than {MAX_VALUE}")
    if not value.isprintable():
        raise _Wrong(f"tag {key} is {brief(value)}; it must be printable")
