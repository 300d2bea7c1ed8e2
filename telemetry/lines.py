"""Lines of files that people hand over: of bounded length, and CSV that survives a bad line.

Every line that is not blank is part of exactly one row: taken, or rejected with its number and
the reason. After a row that cannot be read the reader goes on at the next line, so that a quote
which is never closed takes its own line along and no other.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from telemetry.columns import stripped

MAX_LINE_BYTES = 64 * 1024
"""Also of a CSV row that spans several lines."""


class BadCsv(Exception):
    """The header cannot be read, so that no row can."""


BLANK = " \t\r\n\v\f"
"""What a blank line may hold. Any other control character is a cell, and no row goes unseen."""


@dataclass(frozen=True, slots=True)
class CsvRow:
    """One row: its cells in the order of the header, or why it has none."""

    number: int  # of its first line, from 1
    cells: list[str]
    reason: str = ""
    raw: str = ""  # of a rejected one its first line, or the beginning


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    text: str
    reason: str
    size: int


@dataclass(slots=True)
class CsvReader:
    """The rows of a CSV file, in order.

    Where names in the header have blanks around them, so have the cells, and both are stripped;
    else cells are text as written.
    """

    file: BinaryIO
    columns: list[str] = field(init=False)
    _is_padded: bool = True  # of the header it is not known before
    _lines: Iterator[_Line] = field(init=False)
    _again: deque[_Line] = field(default_factory=deque)

    def __post_init__(self) -> None:
        """Read the header.

        Raises:
            BadCsv: there is none, or it cannot be read.
            BadColumns: it has a name twice.
        """
        self._lines = _decoded(self.file)
        header = next(self._records(0), None)
        if header is None:
            raise BadCsv("no header line")
        if header.reason:
            raise BadCsv(f"the header cannot be read as CSV ({header.reason})")
        self.columns = stripped(header.cells)
        written = next(csv.reader([header.raw.rstrip("\r\n")]))
        self._is_padded = any(name != name.strip() for name in written)

    def __iter__(self) -> Iterator[CsvRow]:
        """Yield every row that is not blank."""
        for row in self._records(len(self.columns)):
            if self._is_padded and not row.reason:
                yield CsvRow(row.number, [cell.strip() for cell in row.cells])
            else:
                yield row

    def _records(self, width: int) -> Iterator[CsvRow]:
        while (first := self._next()) is not None:
            ahead: list[_Line] = []
            cells: list[str] = []
            reason = first.reason
            if not reason and not first.text.strip(BLANK):
                continue
            if not reason:
                try:
                    text = self._from(first, ahead)
                    cells = next(csv.reader(text, strict=True, skipinitialspace=self._is_padded))
                except csv.Error as error:
                    reason = _said(error)
                if not reason and width and len(cells) != width:
                    reason = f"not {width} fields as in the header, but {len(cells)}"
            if reason:
                self._again.extendleft(reversed(ahead))
                yield CsvRow(first.number, [], reason, first.text[:200].rstrip("\r\n"))
            else:
                yield CsvRow(first.number, cells, raw="" if width else first.text)

    def _next(self) -> _Line | None:
        return self._again.popleft() if self._again else next(self._lines, None)

    def _from(self, first: _Line, ahead: list[_Line]) -> Iterator[str]:
        """Yield a line, and those after it while the CSV reader asks for more."""
        yield first.text
        size = first.size
        while (line := self._next()) is not None:
            ahead.append(line)
            size += line.size
            if line.reason or size > MAX_LINE_BYTES:
                return
            yield line.text


def bounded(file: BinaryIO) -> Iterator[tuple[bytes, str]]:
    """Yield lines of a bounded length; of a longer one its beginning, and what is wrong."""
    while line := file.readline(MAX_LINE_BYTES):
        reason = ""
        if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
            reason = f"a line of over {MAX_LINE_BYTES} bytes"
            while (rest := file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
        yield line, reason


def _decoded(file: BinaryIO) -> Iterator[_Line]:
    for number, (line, reason) in enumerate(bounded(file), 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            text = line.decode("utf-8", "replace")
            reason = reason or f"not UTF-8 (byte {error.start + 1} of the line)"
        yield _Line(number, text, reason, len(line))


def _said(error: csv.Error) -> str:
    """Return why a row is no CSV in words of its writer, not of the reader's."""
    said = str(error)
    if said == "unexpected end of data":
        return "a quote is opened and not closed"
    if "expected after" in said:
        return "text after a closing quote; write a quote inside quotes twice"
    if "new-line" in said:
        return "a carriage return inside the line"
    return f"cannot be read as CSV ({said})"
