"""A batch of one shard on its way: what to ask the store before it can be folded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from telemetry.scripts import Argument, in_parts
from workers.folding.batch import Batch, Decision
from workers.folding.effects import Effects
from workers.folding.ledger import LedgerBooking
from workers.folding.question import Question
from workers.folding.raters import Seat
from workers.folding.young import Changes


@dataclass(slots=True)
class Folding:
    """A batch of one shard on its way: what to ask before it can be folded, what it changes."""

    batch: Batch
    changes: Changes  # of what is young
    decisions: list[Decision]  # of which something is said, perhaps in what was told before
    seats: list[Seat]  # of raters
    nonces: list[bytes]  # of ingested outcomes, perhaps told before
    told_in: list[str]  # sets that hold those told before
    sizes: list[str]  # of generations, that are asked for
    asks: list[tuple[Argument, ...]]  # how
    fields: list[tuple[str, Sequence[Argument]]]  # of hashes
    said: list[Question]  # what was said of decisions; those that came later stand last
    thawed: set[Decision]  # old ones, of which more is said now
    booking: LedgerBooking  # of what was spent
    seated: dict[Seat, bytes | None] = field(default_factory=dict)  # the rows of `seats`
    lying: dict[Decision, int] = field(default_factory=dict)  # in which generation rows lie
    known_rows: dict[str, dict[Argument, bytes | None]] = field(default_factory=dict)
    """By hash and field, what was stored of `fields`."""
    rows: dict[bytes, bytes] = field(default_factory=dict)  # new ones: they count once committed
    effects: Effects | None = None

    def questions(self) -> list[tuple[Argument, ...]]:
        """Return the commands whose replies `Shard.change` needs."""
        out: list[tuple[Argument, ...]] = []
        if self.nonces:
            out += [("SMISMEMBER", name, *self.nonces) for name in self.told_in]
        out += self.asks
        out += [("HMGET", name, *part) for name, part in self.fields]
        return [*out, *(question.command for question in self.said)]

    def told_before(self, replies: list[Any]) -> set[bytes]:
        """Return which ingested outcomes were folded before."""
        if not self.nonces:
            return set()
        found = zip(self.nonces, *replies[: self._n_told], strict=True)
        return {nonce for nonce, *known in found if any(known)}

    def found_sizes(self, replies: list[Any]) -> dict[str, int]:
        """Return how many fields generations have."""
        if not self.asks:
            return {}
        return {
            n: int(size or 0) for n, size in zip(self.sizes, replies[self._n_told], strict=True)
        }

    def known(self, replies: list[Any]) -> dict[str, dict[Argument, bytes | None]]:
        """Return by hash and field what is stored."""
        out: dict[str, dict[Argument, bytes | None]] = {}
        for (name, part), found in zip(self.fields, replies[self._n_before :], strict=False):
            out.setdefault(name, {}).update(zip(part, found, strict=True))
        return out

    def stored(self, replies: list[Any]) -> dict[Decision, bytes | None]:
        """Return what was said of decisions, as far as anything was."""
        out: dict[Decision, bytes | None] = {}
        answers = replies[self._n_before + len(self.fields) :]
        for question, reply in zip(self.said, answers, strict=True):
            for decision, row in question.rows(reply):
                if decision not in out:
                    out[decision] = row
                    if question.parts:
                        self.lying[decision] = question.parts
        return out

    @property
    def _n_told(self) -> int:
        return len(self.told_in) if self.nonces else 0

    @property
    def _n_before(self) -> int:
        return self._n_told + len(self.asks)


def fields_of(wanted: dict[str, list[bytes]]) -> list[tuple[str, Sequence[Argument]]]:
    """Return names of hashes, each with some of the fields that are wanted of it."""
    return [(name, part) for name, names in wanted.items() for part in in_parts(names)]
