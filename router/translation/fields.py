"""Objects of a request, read so that nothing in them is overlooked.

Each field is taken, is advisory, has a value that says nothing, or makes the request
untranslatable: there is no fifth way.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar

from router.dialects.fields import ROUTER_KEYS
from router.endpoints.entries import Dialect
from router.translation.advisory import Advisory, advisory_of
from router.translation.prompt import Untranslatable

Nothing = Mapping[str, tuple[Any, ...]]
"""Fields without a counterpart, with the values that say nothing; null never does."""
NO_FIELDS: Nothing = {}
SHOWN = 64
"""Characters of a name that an error shows; a client may write anything there."""
W = TypeVar("W", bound=StrEnum)
_advisory = cache(advisory_of)


class StrictFields:
    """The fields of one object, each of which must be accounted for.

    What is taken is accounted for; `close` judges the rest.

    Attributes:
        path: where the object stands in the request; "" of the request itself.
        left_out: names of the advisory fields met so far, anywhere in the request.
    """

    __slots__ = ("_dialect", "_rest", "left_out", "path")

    def __init__(self, value: Any, path: str, dialect: Dialect, left_out: set[str]) -> None:
        if not isinstance(value, dict):
            raise Untranslatable(path or "body", "is no object")
        self._rest = dict(value)
        self._dialect = dialect
        self.path = path
        self.left_out = left_out

    def at(self, name: str) -> str:
        """Return where a field stands in the request."""
        return f"{self.path}.{name}" if self.path else name

    def refusal(self, name: str, why: str) -> Untranslatable:
        """Return the error that says why a field cannot be said."""
        return Untranslatable(self.at(name), why)

    def has(self, name: str) -> bool:
        """Return whether a field is there, be it null, and was not taken."""
        return name in self._rest

    def take(self, name: str) -> Any:
        """Return a field, whatever it holds; None where it is absent."""
        return self._rest.pop(name, None)

    def text(self, name: str) -> str | None:
        """Return a field that holds text."""
        value = self.take(name)
        if value is not None and not isinstance(value, str):
            raise self.refusal(name, "is no text")
        return value

    def some_text(self, name: str) -> str:
        """Return a field that must hold text that is not empty."""
        value = self.text(name)
        if not value:
            raise self.refusal(name, "is missing")
        return value

    def any_text(self, name: str) -> str:
        """Return a field that must hold text, be it empty."""
        value = self.text(name)
        if value is None:
            raise self.refusal(name, "is missing")
        return value

    def alone(self, name: str) -> str | None:
        """Return a field if it holds text; what holds something else is not taken."""
        return self.text(name) if isinstance(self._rest.get(name), str) else None

    def kind(self, known: Collection[str], name: str = "type") -> str:
        """Return what says which kind of object this is: one of those that translations know."""
        kind = self.some_text(name)
        if kind not in known:
            ours = ", ".join(known)
            raise self.refusal(name, f"{kind[:SHOWN]!r} has no counterpart; this may be {ours}")
        return kind

    def flag(self, name: str) -> bool | None:
        """Return a field that holds true or false."""
        value = self.take(name)
        if value is not None and not isinstance(value, bool):
            raise self.refusal(name, "is neither true nor false")
        return value

    def number(self, name: str) -> float | None:
        """Return a field that holds a number."""
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.refusal(name, "is no number")
        if isinstance(value, float) and not math.isfinite(value):
            raise self.refusal(name, "is no number")
        return value

    def count(self, name: str) -> int | None:
        """Return a field that holds a whole number above 0."""
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.refusal(name, "is no whole number above 0")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a field that holds a list of texts, none of them empty."""
        values = self.take(name)
        if values is None:
            return ()
        if not isinstance(values, list) or not all(isinstance(v, str) and v for v in values):
            raise self.refusal(name, "is no list of texts")
        return tuple(values)

    def texts_or_one(self, name: str) -> tuple[str, ...]:
        """Return a field that holds texts, or one of them alone."""
        one = self.alone(name)
        if one == "":
            raise self.refusal(name, "is empty")
        return self.texts(name) if one is None else (one,)

    def word(self, name: str, words: type[W]) -> W | None:
        """Return a field that holds one of these words."""
        value = self.text(name)
        try:
            return None if value is None else words(value)
        except ValueError:
            raise self.refusal(name, f"is none of {', '.join(words)}") from None

    def mapping(self, name: str) -> dict[str, Any] | None:
        """Return a field that holds an object of the caller's own: nothing in it is judged."""
        value = self.take(name)
        if value is not None and not isinstance(value, dict):
            raise self.refusal(name, "is no object")
        return value

    def within(self, name: str, value: Any) -> StrictFields:
        """Return the fields of an object that stands here under this name."""
        return StrictFields(value, self.at(name), self._dialect, self.left_out)

    def inner(self, name: str) -> StrictFields | None:
        """Return the fields of an object; None where it is absent or null."""
        value = self.take(name)
        return None if value is None else self.within(name, value)

    def must(self, name: str) -> StrictFields:
        """Return the fields of an object that must be there."""
        inner = self.inner(name)
        if inner is None:
            raise self.refusal(name, "is missing")
        return inner

    def each(self, name: str) -> Iterator[StrictFields]:
        """Yield the fields of each object of a list."""
        values = self.take(name)
        if values is None:
            return
        if not isinstance(values, list):
            raise self.refusal(name, "is no list")
        for i, value in enumerate(values):
            yield self.within(f"{name}[{i}]", value)

    def parts(self, name: str, kind: str) -> Iterator[StrictFields]:
        """Yield the fields of each part of some content; text alone is one part of type `kind`."""
        text = self.alone(name)
        if text is None:
            yield from self.each(name)
        else:
            yield self.within(name, {"type": kind, "text": text})

    def close(self, place: str, nothing: Nothing = NO_FIELDS) -> None:
        """Judge what was not taken: see the head of this file.

        Raises:
            Untranslatable: a field is not known, or it has no counterpart and says something.
        """
        advisory = _advisory(self._dialect, place)
        for name, value in self._rest.items():
            if name in advisory:
                self._leave_out(advisory[name], value)
            elif name not in nothing:
                raise self.refusal(name[:SHOWN], "no translation knows this field")
            elif value is not None and not _is_among(value, nothing[name]):
                raise self.refusal(name, "has no counterpart in another dialect")
        self._rest.clear()

    def _leave_out(self, field: Advisory, value: Any) -> None:
        if value not in (None, False, "", [], {}) and value != field.default:
            self.left_out.add(field.name)


def _is_among(value: Any, values: Collection[Any]) -> bool:
    """Return whether a value is one of these: `true` is not 1."""
    return any(value == one and isinstance(value, bool) is isinstance(one, bool) for one in values)


def opened(body: dict[str, Any], dialect: Dialect) -> StrictFields:
    """Return the fields of a request, without its model and without what is for us."""
    rest = {name: value for name, value in body.items() if name not in ("model", "router")}
    metadata = rest.get("metadata")
    if isinstance(metadata, dict):
        rest["metadata"] = {k: v for k, v in metadata.items() if not k.startswith(ROUTER_KEYS)}
    return StrictFields(rest, "", dialect, set())
