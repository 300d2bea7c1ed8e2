"""A file of outcomes or feedback as CloudEvents: JSON Lines, CSV or parquet.

A row without an id of its own is known by its content and by how many like it came before, so
that a file that is read again, or has grown, tells nothing twice. Nothing is judged here: what a
row means and whether it may be taken is for the sidecar to say.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

from telemetry.ingest import FEEDBACK_TYPE, OUTCOME_TYPE, REFERENCES, Feedback, Outcome
from telemetry.recorded import wire_name

FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
}
MAX_LINE_BYTES = 64 * 1024
RENAMED = {"model": "endpoint", "category": "task", "quality": "score"}
"""Columns of recorded tables; a column that has our own name wins."""
COLUMNS = frozenset(Outcome.model_fields) | frozenset(Feedback.model_fields)
TOKENS = ("tokens_in", "tokens_out", "tokens_cached", "tokens_reasoning")
"""Estimated counts have fractions; a token more or less is none."""
WHOLE = frozenset(("status", "attempt", "revision"))
NUMBERS = frozenset(("latency_s", "ttft_s", "cost_usd", "score", "edit_ratio"))
TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
ROWS = 10_000
"""Rows of parquet taken out at a time."""


class BadFile(Exception):
    """The file cannot be read at all; the message says what to do."""


@dataclass(frozen=True, slots=True)
class FileLine:
    """One row: the event that it makes, or why it makes none."""

    number: int  # from 1, as an editor counts; of parquet the row
    row: Any
    event: dict[str, Any] | None
    reason: str = ""


@dataclass(slots=True)
class Rows:
    """The rows of one file, in order, and how far it was read."""

    path: Path
    form: str
    source: str
    total: int = 0  # bytes, or rows of parquet
    done: int = 0
    ignored: set[str] = field(default_factory=set)  # columns that mean nothing here
    _seen: set[int] = field(default_factory=set)
    _times: dict[int, int] = field(default_factory=dict)

    def __iter__(self) -> Iterator[FileLine]:
        """Yield every row.

        Raises:
            BadFile: it is not what its format says.
        """
        read: dict[str, Callable[[], Iterator[tuple[int, Any, str]]]] = {
            "jsonl": self._json_lines,
            "csv": self._csv,
            "parquet": self._parquet,
        }
        for number, row, reason in read[self.form]():
            event = None if reason else self._event(row)
            yield FileLine(number, row, event, reason)

    def _event(self, row: dict[str, Any]) -> dict[str, Any]:
        if "specversion" in row:
            return row
        data = self._data(row)
        is_feedback = "endpoint" not in data and any(name in data for name in REFERENCES)
        at = row.get("time")
        return {
            "specversion": "1.0",
            "id": str(row["id"]) if _is_given(row.get("id")) else self._id(row),
            "source": self.source,
            "type": FEEDBACK_TYPE if is_feedback else OUTCOME_TYPE,
            **({"time": _time(at)} if _is_given(at) else {}),
            "data": data,
        }

    def _data(self, row: dict[str, Any]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for column, value in row.items():
            name = column
            if column in RENAMED and RENAMED[column] not in row:
                name = RENAMED[column]
            if name in COLUMNS:
                if _is_given(value):
                    out[name] = _typed(name, value)
            elif name not in ("id", "time"):
                self.ignored.add(str(column))
        for name in ("endpoint", "task"):
            if isinstance(out.get(name), str) and name not in row:
                out[name] = wire_name(out[name]) or out[name]
        return out

    def _id(self, row: dict[str, Any]) -> str:
        """Return a name for the row's content, and for which of several alike it is."""
        shown = json.dumps(row, sort_keys=True, default=str).encode()
        digest = blake2b(shown, digest_size=16).digest()
        short = int.from_bytes(digest[:8], "little")
        nth = 0
        if short in self._seen:
            nth = self._times[short] = self._times.get(short, 0) + 1
        self._seen.add(short)
        return f"{digest.hex()}.{nth}"

    def _json_lines(self) -> Iterator[tuple[int, Any, str]]:
        with self.path.open("rb") as file:
            self.total = self.path.stat().st_size
            for number, (line, reason) in enumerate(_lines(file), 1):
                self.done = file.tell()
                if not reason and not line.strip():
                    continue
                row: Any = line.decode("utf-8", "replace").rstrip("\r\n")
                try:
                    row = json.loads(line, parse_constant=_no_number) if not reason else row[:200]
                except (ValueError, RecursionError) as error:
                    reason = f"not JSON: {error}"
                if not reason and not isinstance(row, dict):
                    reason = "a line must be a JSON object"
                yield number, row, reason

    def _csv(self) -> Iterator[tuple[int, Any, str]]:
        with self.path.open("rb") as file:
            self.total = self.path.stat().st_size

            def text() -> Iterator[str]:
                for line, reason in _lines(file):
                    self.done = file.tell()
                    if reason:
                        raise BadFile(f"{self.path}: {reason}")
                    yield line.decode("utf-8-sig" if self.done == len(line) else "utf-8")

            try:
                reader = csv.DictReader(text(), strict=True)
                if not reader.fieldnames:
                    raise BadFile(f"{self.path}: no header line")
                for row in reader:
                    odd = None in row or None in row.values()
                    reason = f"not {len(reader.fieldnames)} fields as in the header" if odd else ""
                    yield reader.line_num, {str(k): v for k, v in row.items()}, reason
            except (csv.Error, UnicodeDecodeError) as error:
                raise BadFile(f"{self.path}: cannot be read as CSV ({error})") from None

    def _parquet(self) -> Iterator[tuple[int, Any, str]]:
        import polars as pl  # only here: nothing else pays for its start

        try:
            frame = pl.scan_parquet(self.path)
            columns = frame.collect_schema().names()
            self.total = frame.select(pl.len()).collect().item()
            number = 0
            for start in range(0, self.total, ROWS):
                for row in frame.slice(start, ROWS).collect().iter_rows():
                    number += 1
                    self.done = number
                    yield number, dict(zip(columns, row, strict=True)), ""
        except (OSError, pl.exceptions.PolarsError) as error:
            reason = str(error).splitlines()[0]
            raise BadFile(f"{self.path}: cannot be read as parquet ({reason})") from None


def open_rows(path: Path, *, form: str | None, source: str | None) -> Rows:
    """Return the rows of a file; its format is told by its suffix, its source by its name.

    Raises:
        BadFile: there is no such file, or no such format.
    """
    found = form or FORMATS.get(path.suffix.lower(), "")
    if found not in FORMATS.values():
        given = f"--format {form}" if form else str(path)
        raise BadFile(f"{given}: name the format by --format jsonl, csv or parquet")
    if not path.is_file():
        raise BadFile(f"{path}: there is no such file")
    return Rows(path, found, source or path.name)


def _lines(file: BinaryIO) -> Iterator[tuple[bytes, str]]:
    """Yield lines of a bounded length; of a longer one its beginning, and what is wrong."""
    while line := file.readline(MAX_LINE_BYTES):
        reason = ""
        if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
            reason = f"a line of over {MAX_LINE_BYTES} bytes"
            while (rest := file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
        yield line, reason


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _is_given(value: object) -> bool:
    """Return whether a cell says anything: not null, not empty, not NaN."""
    return value is not None and value != "" and value == value


def _typed(name: str, value: Any) -> Any:
    """Return a cell as its field has it; what does not fit is left for the sidecar to refuse."""
    try:
        if name in WHOLE and not isinstance(value, bool):
            number = float(value)
            return int(number) if number.is_integer() else value
        if name in TOKENS and not isinstance(value, bool):
            return round(float(value))
        if name in NUMBERS and not isinstance(value, bool):
            return float(value)
        if name in ("passed", "streamed", "retried"):
            return TRUTHS.get(str(value).strip().lower().removesuffix(".0"), value)
    except (TypeError, ValueError, OverflowError):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # a whole column of numbers with a gap in it
    return value if isinstance(value, str) else str(value)


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
