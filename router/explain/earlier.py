"""Decisions in files as earlier versions kept them: whole bodies, and numbers row by row."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec

from bandit.steps import Step
from router.decision.reasons import Reason
from router.explain.kept import Parts
from router.explain.rows import NONCE_BYTES, UNIT_BYTES, DecisionRow

BEGINS = b"x"
"""A zlib stream does; a batch of today's layout never."""
MISSING: Mapping[str, Any] = {
    "task_found_by": None,
    "objective": None,
    "host": None,
    "then": [],
    "configuration": None,
    "known": None,
    "way": None,
    "ended": None,
}
"""What was not kept then."""


class _EarlierRow(msgspec.Struct, frozen=True, array_like=True):
    nonce: bytes
    decided_at_ms: int
    unit: bytes
    body: bytes
    draw: bytes | None
    exclusions: bytes | None


class EarlierBatch:
    """A batch of an earlier layout."""

    def __init__(self, packed: bytes, parts: Parts) -> None:
        self._packed = packed
        self._parts = parts

    @cached_property
    def _bodies(self) -> dict[bytes, _EarlierRow]:
        try:
            own = msgspec.msgpack.decode(zlib.decompress(self._packed), type=list[_EarlierRow])
        except (zlib.error, msgspec.MsgspecError) as error:
            raise ValueError("a batch of decisions is damaged") from error
        return {row.nonce[:NONCE_BYTES]: row for row in own}

    def named(self, beginning: bytes) -> list[DecisionRow]:
        """Return the rows whose nonce begins so."""
        return [row for row in self.rows() if row.nonce.startswith(beginning)]

    def rows(self) -> list[DecisionRow]:
        """Return all rows.

        Raises:
            ValueError: they are damaged.
        """
        return [_today(row) for row in self._bodies.values()]

    def made_at(self, at_ms: int) -> list[DecisionRow]:
        """Return the rows of decisions that were made in a millisecond."""
        return [row for row in self.rows() if row.decided_at_ms == at_ms]

    def of_sessions(self, sessions: Sequence[bytes]) -> list[DecisionRow]:
        """Return no rows: of which session a decision was, was not kept then."""
        return []

    def body(self, row: DecisionRow) -> dict[str, Any]:
        """Return what a row says, as today's rows do.

        Raises:
            ValueError: a part is damaged.
        """
        own = self._bodies[row.nonce]
        body = json.loads(own.body)
        body |= {"draw": self.part(own.draw), "exclusions": self.part(own.exclusions)}
        return {"reason": _reason(body).value, **MISSING, **body}

    def part(self, digest: bytes | None) -> Any:
        """Return a part, None where none is named.

        Raises:
            ValueError: it is damaged.
        """
        text = self._parts([digest]).get(digest) if digest is not None else None
        try:
            return None if text is None else json.loads(zlib.decompress(text))
        except zlib.error as error:
            raise ValueError("a part of a decision is damaged") from error


def _today(row: _EarlierRow) -> DecisionRow:
    nonce, unit = row.nonce[:NONCE_BYTES], row.unit[:UNIT_BYTES]
    return DecisionRow(nonce, row.decided_at_ms, b"", unit, row.draw or b"")


def _reason(body: dict[str, Any]) -> Reason:
    """Return the word for what was kept, which does not tell a named model from the incumbent."""
    law = body["draw"]["law"] if body["draw"] else {}
    if body.get("stands_in_for") or body["step"] == Step.FAILOVER:
        return Reason.FAILOVER
    match body["step"]:
        case None:
            return Reason.PINNED if body["note"] != "not routed" else Reason.INCUMBENT
        case Step.HOLDOUT:
            return Reason.HOLDOUT
        case Step.FLOOR:
            return Reason.EXPLORING
        case Step.ONLY_ALLOWED:
            return Reason.ONLY
    if body["drawn"] == law.get("incumbent"):
        return Reason.INCUMBENT
    if body["step"] == Step.STAY or body["drawn"] == law.get("current"):
        return Reason.BEST
    return Reason.BEST if body["propensity"] >= 0.5 else Reason.EXPLORING
