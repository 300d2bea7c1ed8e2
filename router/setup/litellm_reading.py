"""A file of LiteLLM's while it is read: its fields, and all of it that is not taken over.

Every field is either taken or named. Values are not repeated, for some of them are keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from router.config.lines import shown
from router.config.masking import HIDDEN, MAX_FIELD, Place, masked
from router.setup.draft import LeftOut
from router.setup.litellm_secrets import A_KEY, VARIABLE, holds_key, is_place_of_key

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
UNKNOWN = "nothing here is known by this name"
SET_IT_HERE = "{name} is read from the environment, and our file fills nothing in: write the value"


class NotImportedError(Exception):
    """An entry cannot be taken over: where that shows, and why."""

    def __init__(self, where: Place, why: str) -> None:
        self.where = where
        self.why = why
        super().__init__(why)


def safe(text: str) -> str:
    """Return a text as it may be shown: no key, one line, of some length."""
    text = masked(text)
    if not text.isprintable():
        text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return text if len(text) <= MAX_FIELD else text[: MAX_FIELD - 1] + "…"


@dataclass(slots=True)
class Reading:
    """What is not taken over, what is to be said, and which names of keys are in use.

    `written` are the variables that the file itself sets.
    """

    app: str
    written: Mapping[str, str] = field(default_factory=dict)
    variables: frozenset[str] = frozenset()  # that the file names anywhere
    keys: frozenset[str] = frozenset()  # that stand in it, where a key does
    credentials: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by their names
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)  # of `left_out`, each
    _names_of_keys: dict[str, str] = field(default_factory=dict)
    _numbers: dict[str, int] = field(default_factory=dict)  # the last of each stem

    def leave(self, where: Place, why: str) -> None:
        """Name what is not taken over."""
        bare = tuple(HIDDEN if part in self.keys else part for part in where)
        self.left_out.append(LeftOut(safe(shown(bare)), why))
        self.places.append(where)

    def holds_key(self, value: object) -> bool:
        """Return whether a value must not be copied."""
        return holds_key(value, self.keys)

    def name_of_key(self, key: str, kind: str) -> str:
        """Return the variable that a key which stands in the file is to be put into."""
        if key not in self._names_of_keys:
            stem = re.sub(r"\W", "_", kind).upper()
            number = self._numbers.get(stem, 0) + 1
            while f"{stem}_KEY_{number}" in self.variables:
                number += 1
            self._numbers[stem] = number
            self._names_of_keys[key] = f"{stem}_KEY_{number}"
        return self._names_of_keys[key]


def variable_in(value: object) -> str | None:
    """Return the name of the variable that a value stands for; None where it is none."""
    if not isinstance(value, str) or not value.startswith(VARIABLE):
        return None
    return value.removeprefix(VARIABLE)


def is_variable(name: str) -> bool:
    """Return whether a text may name a variable of the environment."""
    return _NAME.fullmatch(name) is not None


def holds_variable(value: object) -> bool:
    """Return whether a value, or anything within it, stands for a variable."""
    if isinstance(value, dict):
        return any(holds_variable(each) for each in value.values())
    if isinstance(value, list):
        return any(holds_variable(each) for each in value)
    return isinstance(value, str) and VARIABLE in value


class Fields:
    """A mapping at a place of the file, from which fields are taken; the rest is named."""

    def __init__(self, reading: Reading, where: Place, value: object) -> None:
        self.reading = reading
        self.where = where
        self._left: dict[str, Any] = {}
        if isinstance(value, dict):
            self._left = {name: each for name, each in value.items() if each is not None}
        elif value is not None:
            reading.leave(where, "a mapping belongs here")

    def at(self, name: str) -> Place:
        """Return the place of a field."""
        return (*self.where, name)

    def __contains__(self, name: str) -> bool:
        """Return whether a field is there, and not taken yet."""
        return name in self._left

    def take(self, name: str) -> Any:
        """Return a field's value; None where there is none."""
        return self._left.pop(name, None)

    def left(self) -> dict[str, Any]:
        """Return what nobody took so far."""
        return dict(self._left)

    def leave(self, name: str, why: str) -> None:
        """Name a field that is not taken over, if it is there."""
        if self._left.pop(name, None) is not None:
            self.reading.leave(self.at(name), why)

    def leave_rest(self, why: Mapping[str, str] | None = None, default: str = UNKNOWN) -> None:
        """Name all fields that nobody took."""
        for name in list(self._left):
            self.leave(name, (why or {}).get(name, default))

    def text(self, name: str) -> str | None:
        """Return a text; what the file itself sets as a variable is filled in.

        Raises:
            NotImportedError: it is no text, or stands for a variable of the environment.
        """
        value = self.take(name)
        if value is None:
            return None
        if not isinstance(value, str):
            quotes = "" if isinstance(value, dict | list) else ": put it into quotes"
            raise NotImportedError(self.at(name), f"a text belongs here{quotes}")
        variable = variable_in(value)
        if variable is not None and not is_place_of_key(variable):
            value = self.reading.written.get(variable, value)
        if VARIABLE in value:
            why = SET_IT_HERE.format(name=safe(variable or "a part of it"))
            raise NotImportedError(self.at(name), why)
        if self.reading.holds_key(value):
            raise NotImportedError(self.at(name), A_KEY)
        return value

    def number(self, name: str, *, least: float = 0, most: float = 1e9) -> float | int | None:
        """Return a number; what is none, or no sensible one, is named."""
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            why = "a number belongs here"
            if holds_variable(value):
                why = SET_IT_HERE.format(name=safe(variable_in(value) or "a part of it"))
            self.reading.leave(self.at(name), why)
            return None
        if not least <= value <= most:
            self.reading.leave(self.at(name), f"{value} lies outside of {least:g} to {most:g}")
            return None
        return value

    def whole(self, name: str) -> int | None:
        """Return a whole number from 1."""
        value = self.number(name, least=1)
        if value is None or value == int(value):
            return None if value is None else int(value)
        self.reading.leave(self.at(name), "a whole number belongs here")
        return None

    def truth(self, name: str) -> bool | None:
        """Return whether something is so."""
        value = self.take(name)
        if value is None or isinstance(value, bool):
            return value
        self.reading.leave(self.at(name), "true or false belongs here")
        return None
