"""How sensitive what is sent may be: classes in rising order, four of which everybody has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

PUBLIC, INTERNAL, CONFIDENTIAL, RESTRICTED = "public", "internal", "confidential", "restricted"
USUAL_CLASSES = (PUBLIC, INTERNAL, CONFIDENTIAL, RESTRICTED)
MAX_CLASSES = 32
"""More levels than anybody can tell apart."""


class DataClass(Struct, frozen=True):
    """A class of one configuration."""

    name: str
    level: int  # order of sensitivity, from 0
    is_sensitive: bool  # `confidential` and above: nothing is explored

    def __str__(self) -> str:
        return self.name

    def tightened(self, other: DataClass | None) -> DataClass:
        """Return the more sensitive of the two; None asks for nothing."""
        return other if other is not None and other.level > self.level else self


class DataClasses:
    """The classes of a configuration, from least to most sensitive."""

    def __init__(self, names: Sequence[str] = USUAL_CLASSES) -> None:
        sensitive = names.index(CONFIDENTIAL)
        self.all = tuple(DataClass(name, i, i >= sensitive) for i, name in enumerate(names))
        self.by_name = {one.name: one for one in self.all}
        self.usual = self.by_name[INTERNAL]
        """What a call has that says nothing, and what whoever says nothing may receive."""

    @property
    def names(self) -> list[str]:
        """The names, in rising order."""
        return list(self.by_name)


def problem_of_classes(names: Sequence[str]) -> str | None:
    """Return what is wrong with a list of classes; None where nothing is."""
    if len(names) > MAX_CLASSES:
        return f"{len(names)} classes; {MAX_CLASSES} at most"
    if len(set(names)) < len(names):
        return "a name stands twice; each class has one place in the order"
    missing = [name for name in USUAL_CLASSES if name not in names]
    if missing:
        return f"{_and(missing)} missing: list all in rising order, these four among them"
    if [name for name in names if name in USUAL_CLASSES] != list(USUAL_CLASSES):
        return f"these four keep their order: {', '.join(USUAL_CLASSES)}"
    return None


def _and(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last} are" if first else f"{last} is"
