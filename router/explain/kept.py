"""Decisions found again: in which batches they may lie, and what their rows and parts say.

Two places keep them, the store and a state directory's files. Each yields *groups* of batches, the
likeliest first; what is looked for, and how much of it, is said here once for both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol

from router.explain.parts import unpacked
from router.explain.rows import NONCE_BYTES, UNIT_BYTES, DecisionRow, PackedRows

Parts = Callable[[Iterable[bytes]], Mapping[bytes, bytes]]
"""Bodies by digest, of those that are kept beside a batch."""
SHORT_CHARACTERS = 10
"""Of a decision's id as it is shown short: among a million another has them once in a million."""
MOST_MATCHES = 20
"""Of a short id, that are named."""
MOST_GROUPS = 3
"""In which a draw is looked for: it has no name by which whole groups are passed over."""


class KeptBatch(Protocol):
    """Some decisions that were written down at once."""

    def named(self, beginning: bytes) -> list[DecisionRow]:
        """Return the rows whose nonce begins so."""

    def rows(self) -> list[DecisionRow]:
        """Return all rows."""

    def made_at(self, at_ms: int) -> list[DecisionRow]:
        """Return the rows of decisions that were made in a millisecond."""

    def of_sessions(self, sessions: Sequence[bytes]) -> list[DecisionRow]:
        """Return the rows of decisions of these sessions, and of who answered them."""

    def body(self, row: DecisionRow) -> dict[str, Any]:
        """Return what one of its rows says, with its parts."""

    def part(self, digest: bytes) -> Any:
        """Return a part that one of its rows names."""


class KeptIn(Protocol):
    """A place that keeps decisions."""

    @property
    def name(self) -> str:
        """What it is called where it is told of."""

    def near(self, decided_at_ms: int) -> Iterator[list[KeptBatch]]:
        """Yield groups in which a decision of that time may lie, the likeliest first."""

    def newest(self) -> Iterator[list[KeptBatch]]:
        """Yield all groups, the newest first."""

    def holding(self, sessions: Sequence[bytes]) -> Iterator[list[KeptBatch]]:
        """Yield, of all groups, the batches that may hold decisions of these sessions."""

    def since_ms(self) -> int | None:
        """Return since when it keeps them; None where it keeps none."""


class PackedBatch:
    """A batch of today's layout, with where its parts are."""

    def __init__(self, packed: bytes, parts: Parts) -> None:
        self._batch = PackedRows(packed)
        self._parts = parts

    def named(self, beginning: bytes) -> list[DecisionRow]:
        """Return the rows whose nonce begins so; most often nothing is unpacked for it."""
        places = self._batch.named(beginning)
        return self._batch.rows(places) if places else []

    def rows(self) -> list[DecisionRow]:
        """Return all rows."""
        return self._batch.rows()

    def made_at(self, at_ms: int) -> list[DecisionRow]:
        """Return the rows of decisions that were made in a millisecond."""
        return self._batch.made_at(at_ms)

    def of_sessions(self, sessions: Sequence[bytes]) -> list[DecisionRow]:
        """Return the rows of decisions of these sessions, and of who answered them."""
        places = self._batch.of_sessions(sessions)
        return self._batch.rows(places) if places else []

    def body(self, row: DecisionRow) -> dict[str, Any]:
        """Return what a row says.

        Raises:
            ValueError: a part is damaged, or is not kept.
        """
        frame: dict[str, Any] = self.part(row.frame)
        if row.is_answer:
            return frame
        return _whole(row, frame, self.part)

    def part(self, digest: bytes) -> Any:
        """Return a part that one of its rows names.

        Raises:
            ValueError: it is damaged, or is not kept.
        """
        return unpacked(self._parts([digest]).get(digest, b""))


def _whole(row: DecisionRow, frame: dict[str, Any], read: Callable[[bytes], Any]) -> dict[str, Any]:
    """Return a decision as it is told."""
    parts = {name: read(bytes.fromhex(digest)) for name, digest in frame.pop("parts").items()}
    configuration = parts.pop("configuration")
    follows = None
    if row.follows_ms:
        follows = {"decided_at_ms": row.follows_ms, "posterior_version": row.follows_version}
    drawn = _rows_of(read(row.draw), configuration) if row.draw else None
    has_law = drawn is not None and drawn["law"] is not None
    if drawn is not None and not has_law:  # one part for all whom the same calls may go to
        for candidate in drawn["candidates"]:
            is_it = candidate["endpoint"] == frame["drawn"]
            candidate["propensity"] = row.propensity if is_it else 0.0
    return {
        "decided_at_ms": row.decided_at_ms,
        "posterior_version": row.version,
        "propensity": row.propensity,
        "way": None,  # of those that were written before it was kept
        **frame,
        "follows": follows,
        "configuration": configuration["version"],
        "exclusions": None,
        "ended": None,
        **parts,
        "draw": drawn if has_law else None,
        "known": drawn["candidates"] if drawn is not None and not has_law else None,
    }


def _rows_of(draw: dict[str, Any], configuration: dict[str, Any]) -> dict[str, Any]:
    """Return a draw with a row for each candidate, by its id."""
    listed, columns = configuration["endpoints"], draw["columns"]
    rows = zip(*columns.values(), strict=True)
    more = {name: value for name, value in draw.items() if name not in ("arms", "columns")}
    return {
        **more,
        "candidates": [
            {"endpoint": listed[arm][0], **dict(zip(columns, row, strict=True))}
            for arm, row in zip(draw["arms"], rows, strict=True)
        ],
    }


class Found:
    """One decision that is kept."""

    def __init__(self, row: DecisionRow, batch: KeptBatch) -> None:
        self.row = row
        self.answered_by: str | None = None  # another than the drawn endpoint, where that is kept
        self._batch = batch

    @property
    def short(self) -> str:
        """Its id as it is shown."""
        return self.row.nonce.hex()[:SHORT_CHARACTERS]

    def body(self) -> dict[str, Any]:
        """Return what is kept of it.

        Raises:
            ValueError: that is damaged.
        """
        return {"id": self.short, **self._batch.body(self.row)}


def find(place: KeptIn, nonce: bytes, decided_at_ms: int) -> Found | None:
    """Return a decision and who answered it; None where it is not kept there."""
    found: Found | None = None
    answered: str | None = None
    for group in place.near(decided_at_ms):
        is_last = found is not None
        for batch in group:
            for row in batch.named(nonce[:NONCE_BYTES]):
                if row.decided_at_ms != decided_at_ms:
                    continue
                if row.is_answer:
                    answered = batch.body(row)["answered_by"]
                else:
                    found = found or Found(row, batch)
        if is_last:  # who answered is said in the same group, or in the one after it
            break
    if found is not None:
        found.answered_by = answered
    return found


def find_draw(place: KeptIn, unit: bytes, decided_at_ms: int) -> dict[str, Any] | None:
    """Return the draw that a unit was given then; None where it is not kept there."""
    for group in islice(place.near(decided_at_ms), MOST_GROUPS):
        for batch in group:
            for row in batch.made_at(decided_at_ms):
                if row.draw and row.unit == unit[:UNIT_BYTES]:
                    return batch.body(row)
    return None


def beginning_with(place: KeptIn, beginning: str) -> list[DecisionRow]:
    """Return the decisions whose ids begin so, newest group first, `MOST_MATCHES` at most.

    Args:
        beginning: hexadecimal digits.
    """
    found: dict[tuple[bytes, int], DecisionRow] = {}
    whole = bytes.fromhex(beginning[: len(beginning) // 2 * 2])
    for group in place.newest():
        for batch in group:
            for row in batch.named(whole):
                if not row.is_answer and row.nonce.hex().startswith(beginning):
                    found.setdefault((row.nonce, row.decided_at_ms), row)
            if len(found) >= MOST_MATCHES:
                return list(found.values())[:MOST_MATCHES]
    return list(found.values())


def last_of(place: KeptIn) -> DecisionRow | None:
    """Return the latest decision that is kept there."""
    for group in place.newest():
        rows = [row for batch in group for row in batch.rows() if not row.is_answer]
        if rows:
            return max(rows, key=lambda row: (row.decided_at_ms, row.nonce))
    return None
