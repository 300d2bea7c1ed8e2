"""Tables in files, parquet or CSV, whole and as meant, or refused by line or column.

A table of recorded outcomes is one thing: a row less is a prompt less, for every endpoint. So a
line that cannot be read refuses the file, where `pointsman ingest` would go on without it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from telemetry.columns import BadColumns, check, stripped
from telemetry.lines import BadCsv, CsvReader
from telemetry.names import TEXT_OR_WHOLE, WHOLE, fault_of
from telemetry.numbers import EXACT, PLAIN, brief

CHUNK_ROWS = 50_000
"""Rows of CSV that are Python strings at a time."""
PROBE_ROWS = 10_000
"""Rows of parquet that are read at a time where it is only seen whether that can be done."""
_PROBE = """
import sys
import polars as pl
path, rows = sys.argv[1], int(sys.argv[2])
try:
    frame = pl.scan_parquet(path)
    for start in range(0, frame.select(pl.len()).collect().item(), rows):
        frame.slice(start, rows).collect()
except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
    print(str(error).partition(chr(10))[0][:400])
    raise SystemExit(1)
"""
_found_sound: set[tuple[object, ...]] = set()
"""Files as they were when they were read whole: none is read for that again while it stays so."""


class Unsound(Exception):
    """A parquet file is damaged; the message says what its reader said."""


class BadTable(Exception):
    """The table cannot be used; the message names column, value and fix."""


def read(path: Path, *, needed: Sequence[str], names: Sequence[str], known: Collection[str]) -> Any:
    """Return a table as a polars frame; of CSV every column is text, empty cells are null.

    Args:
        needed: columns without which it cannot be used.
        names: columns of text, of which the first is an id; numbers are never made of them.
        known: columns that mean something; what looks like one that is not there is asked about.

    Raises:
        BadTable: it cannot be read, a column is missing, there twice, misspelt, or no text.
    """
    import polars as pl  # only here: nothing else pays for its start

    try:
        is_csv = path.suffix.lower() == ".csv"
        if not is_csv:
            require_sound(path)
        frame = _csv(path, known) if is_csv else pl.read_parquet(path)
        columns = stripped(frame.columns)
        frame.columns = columns
        check(columns, known)
    except (
        OSError,
        BadCsv,
        Unsound,
        pl.exceptions.PolarsError,
        pl.exceptions.PanicException,
    ) as error:
        reason = str(error).splitlines()[0]
        raise BadTable(f"{path}: cannot be read as parquet or CSV ({reason})") from None
    except BadColumns as error:
        raise BadTable(f"{path}: {error}") from None
    missing = [c for c in needed if c not in columns]
    if missing:
        raise BadTable(f"{path}: no column {missing[0]!r}; needed are {', '.join(needed)}")
    for column in names:
        frame = frame.with_columns(_text(frame, column, path.name))
    if is_csv and names:
        frame = frame.with_columns(pl.col(names[0]).str.replace(WHOLE, "$1"))
    return frame


def require_sound(path: Path) -> None:
    """Read a parquet file in a process of its own, and nothing here where that fails.

    Once found sound it is not read again for that, until it changes.

    Over a file that was cut or overwritten polars panics, with a trace on stderr, or asks for
    exabytes: then it takes the process along, and no exception is left to say why.

    Raises:
        Unsound: it cannot be read; the message says why.
    """
    as_it_is = _identity(path)
    if as_it_is in _found_sound:
        return
    probe = [sys.executable, "-P", "-c", _PROBE, str(path), str(PROBE_ROWS)]
    nothing = subprocess.DEVNULL
    found = subprocess.run(  # noqa: S603 - our own program
        probe, stdin=nothing, stdout=subprocess.PIPE, stderr=nothing, check=False
    )
    if found.returncode:
        said = found.stdout.decode("utf-8", "replace").strip()
        raise Unsound(said or "it is damaged: its reader broke down over it; write it anew")
    if as_it_is is not None:
        _found_sound.add(as_it_is)


def _identity(path: Path) -> tuple[object, ...] | None:
    """Return what changes when a file does; None where it cannot be told."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def numbers_in(frame: Any, column: str) -> tuple[Any, Any]:
    """Return two expressions: whether a cell says anything, and its number (null where none)."""
    import polars as pl

    cell, kind = pl.col(column), frame.schema[column]
    if kind == pl.String:
        text = cell.str.strip_chars()
        number = pl.when(text.str.contains(PLAIN)).then(text).cast(pl.Float64, strict=False)
        return cell.is_not_null() & (text != ""), number
    if kind.is_numeric() or kind == pl.Null:
        return cell.is_not_null(), cell.cast(pl.Float64, strict=False)
    return cell.is_not_null(), pl.lit(None, dtype=pl.Float64)  # true and false are no numbers


def _csv(path: Path, known: Collection[str]) -> Any:
    import polars as pl

    chunks: list[Any] = []
    rows: list[list[str]] = []
    with path.open("rb") as file:
        reader = CsvReader(file)
        check(reader.columns, known)
        schema = dict.fromkeys(reader.columns, pl.String)
        for row in reader:
            if row.reason:
                raise BadTable(f"{path}: line {row.number}: {row.reason}")
            rows.append(row.cells)
            if len(rows) == CHUNK_ROWS:
                chunks.append(pl.DataFrame(rows, schema=schema, orient="row"))
                rows = []
    chunks.append(pl.DataFrame(rows, schema=schema, orient="row"))
    return pl.concat(chunks).with_columns(pl.all().replace("", None))


def _text(frame: Any, column: str, name: str) -> Any:
    """Return an expression of a column's text; whole floats read as their integers."""
    import polars as pl

    cell, kind = pl.col(column), frame.schema[column]
    if kind in (pl.String, pl.Categorical, pl.Enum, pl.Null) or kind.is_integer():
        return cell.cast(pl.String)
    if kind.is_numeric():
        number = cell.cast(pl.Float64)
        odd = frame.filter(
            (number != number.round()) | ~number.is_finite() | (number.abs() > EXACT)
        )
        if odd.is_empty():
            return number.cast(pl.Int64).cast(pl.String)
        raise BadTable(f"{name}: {column} {fault_of(odd[column][0])}")
    given = frame[column].drop_nulls().head(1).to_list()
    shown = f"is {brief(given[0])}" if given else "has no text"
    raise BadTable(f"{name}: {column} {shown}; {TEXT_OR_WHOLE}")
