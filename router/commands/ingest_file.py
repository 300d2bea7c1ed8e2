"""A file of outcomes or feedback as CloudEvents: JSON Lines, CSV or parquet.

Of a CSV or JSON file a line that cannot be read is rejected with its number, and the rest is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from router.commands.ingest_event import BadRow, EventMaker
from telemetry.columns import BadColumns, once
from telemetry.lines import BadCsv, CsvReader, bounded
from telemetry.numbers import as_written
from telemetry.tables import Unsound, require_sound

FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
}
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
    maker: EventMaker
    total: int = 0  # bytes, or rows of parquet
    done: int = 0

    def __iter__(self) -> Iterator[FileLine]:
        """Yield every row.

        Raises:
            BadFile: it is not what its format says, or a column is there twice or misspelt.
        """
        read: dict[str, Callable[[], Iterator[tuple[int, Any, str]]]] = {
            "jsonl": self._json_lines,
            "csv": self._csv,
            "parquet": self._parquet,
        }
        try:
            for number, row, reason in read[self.form]():
                event = None
                if not reason:
                    try:
                        event = self.maker.event(row)
                    except (BadRow, BadColumns) as error:
                        reason = str(error)
                    except RecursionError:
                        reason, row = "nested too deep", "(not shown)"
                yield FileLine(number, row, event, reason)
        except OSError as error:
            raise BadFile(f"{self.path}: cannot be read ({error.strerror})") from None

    def _header(self, columns: list[str]) -> list[str]:
        """Return the columns of a table.

        Raises:
            BadFile: one is there twice, or asked about.
        """
        try:
            return self.maker.names(tuple(columns))
        except BadColumns as error:
            raise BadFile(f"{self.path}: {error}") from None

    def _json_lines(self) -> Iterator[tuple[int, Any, str]]:
        with self.path.open("rb") as file:
            self.total = self.path.stat().st_size
            for number, (line, reason) in enumerate(bounded(file), 1):
                self.done = file.tell()
                if not reason and not line.strip():
                    continue
                row: Any = line.decode("utf-8", "replace").rstrip("\r\n")
                try:
                    row = _read(line) if not reason else row[:200]
                except BadColumns as error:
                    reason = str(error)
                except (ValueError, RecursionError) as error:
                    reason = f"not JSON: {error}"
                if not reason and not isinstance(row, dict):
                    reason, row = (
                        "a line must be a JSON object",
                        line[:200].decode("utf-8", "replace"),
                    )
                yield number, row, reason

    def _csv(self) -> Iterator[tuple[int, Any, str]]:
        with self.path.open("rb") as file:
            self.total = self.path.stat().st_size
            try:
                reader = CsvReader(file)
            except (BadCsv, BadColumns) as error:
                raise BadFile(f"{self.path}: {error}") from None
            columns = self._header(reader.columns)
            for row in reader:
                self.done = file.tell()
                cells = row.raw if row.reason else dict(zip(columns, row.cells, strict=True))
                yield row.number, cells, row.reason

    def _parquet(self) -> Iterator[tuple[int, Any, str]]:
        import polars as pl  # only here: nothing else pays for its start

        try:
            require_sound(self.path)
            frame = pl.scan_parquet(self.path)
            columns = self._header(frame.collect_schema().names())
            self.total = frame.select(pl.len()).collect().item()
            number = 0
            for start in range(0, self.total, ROWS):
                for row in frame.slice(start, ROWS).collect().iter_rows():
                    number += 1
                    self.done = number
                    yield number, dict(zip(columns, row, strict=True)), ""
        except (OSError, Unsound, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            reason = str(error).splitlines()[0]
            raise BadFile(f"{self.path}: cannot be read as parquet ({reason})") from None


def _read(line: bytes) -> Any:
    """Return a line of JSON; NaN and infinities with their text, for messages."""
    return json.loads(line, object_pairs_hook=once, parse_constant=as_written)


def open_rows(
    path: Path, *, form: str | None, source: str | None, ignore: Collection[str] = ()
) -> Rows:
    """Return the rows of a file; its format is told by its suffix, its source by its name.

    Args:
        ignore: columns that mean nothing here, whatever they look like.

    Raises:
        BadFile: there is no such file, or no such format.
    """
    found = form or FORMATS.get(path.suffix.lower(), "")
    if found not in FORMATS.values():
        given = f"--format {form}" if form else str(path)
        raise BadFile(f"{given}: name the format by --format jsonl, csv or parquet")
    if not path.is_file():
        raise BadFile(f"{path}: there is no such file")
    maker = EventMaker(source or path.name, found != "csv", frozenset(ignore))
    return Rows(path, found, maker)
