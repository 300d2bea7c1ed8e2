"""What the store is asked of decisions, and how its replies are read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any

from telemetry.scripts import Argument
from workers.folding.batch import Decision
from workers.folding.labels import narrowed
from workers.folding.thawed import THAWED_AT_BYTES


@dataclass(slots=True)
class Question:
    """A command that reads what was said of some decisions."""

    command: tuple[Argument, ...]
    decisions: list[Decision]
    is_wide: bool = False  # rows as they were stored up to schema 4
    is_thawed: bool = False
    parts: int = 0  # of the generation that is asked; 0: it is none

    def rows(self, reply: list[Any]) -> Iterable[tuple[Decision, bytes]]:
        """Return the rows in a reply, as they are stored now."""
        rows = chain.from_iterable(reply) if self.parts else reply
        for decision, row in zip(self.decisions, rows, strict=True):
            if row is not None:
                if self.is_thawed:
                    row = row[THAWED_AT_BYTES:]
                yield decision, narrowed(row) if self.is_wide else row
