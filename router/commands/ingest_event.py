"""Rows of files as CloudEvents.

A row without an id of its own is known by its content and by how many like it came before, so
that a file that is read again, or has grown, tells nothing twice. What a row means and whether it
may be taken is for the sidecar to say; judged here is only what would not reach it as it was meant.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

from telemetry.columns import check, stripped
from telemetry.ingest import (
    EPISODES,
    FEEDBACK_TYPE,
    OUTCOME_TYPE,
    REFERENCES,
    Feedback,
    Outcome,
)
from telemetry.names import NotText, id_in_cell, text_of
from telemetry.numbers import EXACT, brief, number_of, whole_of
from telemetry.recorded import wire_name

RENAMED = {"model": "endpoint", "category": "task", "quality": "score"}
"""Columns of recorded tables; a column that has our own name wins."""
COLUMNS = frozenset(Outcome.model_fields) | frozenset(Feedback.model_fields)
KNOWN = COLUMNS | frozenset(RENAMED) | frozenset(("id", "time"))
IDS = frozenset(("id", *REFERENCES))
CLOSER = frozenset(REFERENCES) - frozenset(EPISODES)
"""What names an answer, and not the whole that it is part of."""
TEXTS = IDS | frozenset(("endpoint", "task", "service_tier", "user"))
TOKENS = ("tokens_in", "tokens_out", "tokens_cached", "tokens_reasoning", "tokens_cache_write")
WHOLE = frozenset((*TOKENS, "status", "attempt", "revision"))
"""A whole float is one; a fraction is sent as it is, and refused."""
NUMBERS = frozenset(("latency_s", "ttft_s", "cost_usd", "reported_cost_usd", "score", "edit_ratio"))
TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
SHAPES = 1000
"""Sets of field names that are remembered; every line of JSON may have its own."""


class BadRow(Exception):
    """A row makes no event; the message names field, value and fix."""


@dataclass(slots=True)
class EventMaker:
    """Makes events of the rows of one file, in order."""

    source: str
    is_typed: bool = True  # its cells have types of their own; those of CSV are text
    left_out: frozenset[str] = frozenset()  # columns that the user said to pass over
    ignored: set[str] = field(default_factory=set)  # columns that mean nothing here
    _seen: set[int] = field(default_factory=set)
    _times: dict[int, int] = field(default_factory=dict)
    _shapes: dict[tuple[str, ...], list[str]] = field(default_factory=dict)
    _plain: dict[tuple[str, str], str] = field(default_factory=dict)

    def event(self, written: dict[str, Any]) -> dict[str, Any]:
        """Return the event in a row.

        Raises:
            BadRow: a cell would not arrive as it was meant.
            BadColumns: a field is there twice, or asked about.
        """
        if "specversion" in written:
            return written
        row = dict(zip(self.names(tuple(written)), written.values(), strict=True))
        data = self._data(row)
        is_feedback = "endpoint" not in data and any(name in data for name in REFERENCES)
        if is_feedback and not data.keys().isdisjoint(CLOSER):  # a word on one answer of them
            data = {name: value for name, value in data.items() if name not in EPISODES}
        at = row.get("time")
        own = row.get("id")
        return {
            "specversion": "1.0",
            "id": self._typed("id", "id", own) if _is_given(own) else self._id(row),
            "source": self.source,
            "type": FEEDBACK_TYPE if is_feedback else OUTCOME_TYPE,
            **({"time": _time(at)} if _is_given(at) else {}),
            "data": data,
        }

    def names(self, written: tuple[str, ...]) -> list[str]:
        """Return the names of columns or fields as they are meant.

        Raises:
            BadColumns: one is there twice, or asked about.
        """
        names = self._shapes.get(written)
        if names is None:
            names = stripped(written)
            meant = [name for name in names if name not in self.left_out]
            check(meant, KNOWN, same=RENAMED, fix="rename it, or pass it over by --ignore")
            if len(self._shapes) < SHAPES:
                self._shapes[written] = names
        return names

    def _data(self, row: dict[str, Any]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for column, value in row.items():
            name = column
            own = RENAMED.get(column)
            if own and (own not in row or own in self.left_out):
                name = own
            if name in COLUMNS and column not in self.left_out:
                if _is_given(value):
                    out[name] = self._typed(column, name, value)
            elif name not in ("id", "time"):
                self.ignored.add(str(column))
        return out

    def _typed(self, column: str, name: str, value: Any) -> Any:
        """Return a cell as its field has it; what does not fit is left for the sidecar to refuse.

        Raises:
            BadRow: an id or a name that is no text, or two names that would be one.
        """
        if name not in TEXTS:
            return _converted(name, value)
        try:
            text = text_of(value)
        except NotText as error:
            raise BadRow(f"{column} {error}") from None
        if not self.is_typed and name in IDS:
            return id_in_cell(text)
        if name == column:
            return text
        plain = wire_name(text) or text
        first = self._plain.setdefault((name, plain), text)
        if first != text:
            both = f"{column} {brief(text)} and {brief(first)} would both be {brief(plain)}"
            raise BadRow(f"{both}; give one of them another name")
        return plain

    def _id(self, row: dict[str, Any]) -> str:
        """Return a name for the row's content, and for which of several alike it is."""
        alike = {column: _alike(column, value) for column, value in row.items()}
        shown = json.dumps(alike, sort_keys=True, default=str).encode()
        digest = blake2b(shown, digest_size=16).digest()
        short = int.from_bytes(digest[:8], "little")
        nth = 0
        if short in self._seen:
            nth = self._times[short] = self._times.get(short, 0) + 1
        self._seen.add(short)
        return f"{digest.hex()}.{nth}"


def _is_given(value: object) -> bool:
    """Return whether a cell says anything: not null, not empty."""
    return value is not None and not (isinstance(value, str) and not value.strip())


def _converted(name: str, value: Any) -> Any:
    """Return a cell as a number or a truth where its field has one, else as it is."""
    if name in ("passed", "streamed", "retried"):
        shown = str(value).strip().lower().removesuffix(".0")
        return TRUTHS.get(shown, value) if isinstance(value, str | bool | int | float) else value
    if name not in NUMBERS and name not in WHOLE:
        return value
    number = number_of(value)
    if number is None:
        return value
    whole = whole_of(number) if name in WHOLE else None
    return number if whole is None else whole


def _alike(column: str, value: Any) -> Any:
    """Return a cell so that it is the same after its column was taken for floats, or was not."""
    name = RENAMED.get(column, column)
    is_number = name in NUMBERS
    if isinstance(value, str) and name in TEXTS - IDS:
        return value
    if isinstance(value, str):
        if not is_number:
            return id_in_cell(value)
        return value + ".0" if value.isascii() and value.lstrip("-").isdigit() else value
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > EXACT:
        return value
    if is_number:
        return float(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _time(value: Any) -> str:
    """Return a time as RFC 3339; without an offset it is UTC, a bare number Unix seconds."""
    try:
        at = value if isinstance(value, datetime) else None
        if at is None and isinstance(value, int | float) and not isinstance(value, bool):
            at = datetime.fromtimestamp(value, UTC)
        if at is None:
            at = datetime.fromisoformat(str(value).strip())
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).isoformat()
    except (ValueError, OverflowError, OSError):
        return str(value)
