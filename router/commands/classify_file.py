"""A file of exemplars: JSON Lines, each `{"task": NAME, "text": PROMPT}`."""

from __future__ import annotations

import json
import os
import re
import select
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from telemetry.columns import BadColumns, fault_of, once
from telemetry.lines import MAX_LINE_BYTES
from telemetry.numbers import brief, clipped

STDIN = "-"
LINES = 10_000
MAX_BYTES = 64 << 20
"""Of all lines: a device has no end."""
WRITER_S = 10.0
"""How long a named pipe may be empty at first: without a writer it stays so for ever."""
CHARACTERS = 4_000
"""Of a text, as in the configuration."""
SHOWN = 10
FIELDS = ("task", "text")
HALF_CHARACTER = re.compile(r"[\ud800-\udfff]")
HALVES = "\\ud800 to \\udfff"


class BadExemplars(Exception):
    """The file cannot be used; the message has a line for each problem, up to ten."""


def read_exemplars(path: Path) -> dict[str, list[str]]:
    """Return exemplars by task, in the order of the file; blank lines are left out.

    Args:
        path: `-` is stdin.

    Raises:
        BadExemplars: there is no such file, or lines of it are no exemplars.
    """
    found: dict[str, list[str]] = {}
    problems: list[str] = []
    try:
        for number, row in _rows(path):
            if problem := _problem(row):
                problems.append(f"{path}:{number}: {problem}")
            else:
                found.setdefault(row["task"], []).append(row["text"])
    except OSError as error:
        raise BadExemplars(f"{path}: cannot be read ({error.strerror})") from None
    if len(problems) > SHOWN:
        problems = [*problems[:SHOWN], f"and {len(problems) - SHOWN} more lines"]
    if problems:
        raise BadExemplars("\n".join(problems))
    return found


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield number and value of each line; of one that is no JSON the problem as a BadExemplars."""
    with _opened(path) as file:
        for number, (line, reason) in enumerate(_lines(file, path), 1):
            if number > LINES:
                raise BadExemplars(f"{path}: over {LINES} lines; keep the most typical ones")
            if reason:
                yield number, BadExemplars(reason)
            elif line.strip():
                yield number, _value(line)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    if str(path) == STDIN:
        yield sys.stdin.buffer
        return
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        if stat.S_ISFIFO(os.fstat(file.fileno()).st_mode):
            pipe = select.poll()
            pipe.register(file, select.POLLIN)
            if not pipe.poll(WRITER_S * 1000):
                wait = f"nothing came in {WRITER_S:g} s"
                raise BadExemplars(f"{path}: a pipe, and {wait}; `-` reads stdin, and waits")
        os.set_blocking(file.fileno(), True)
        yield file


def _lines(file: BinaryIO, path: Path) -> Iterator[tuple[bytes, str]]:
    """Yield lines; of one that is too long its beginning, and what is wrong."""
    total, goes_on = 0, False
    while piece := file.readline(MAX_LINE_BYTES):
        total += len(piece)
        if total > MAX_BYTES:
            raise BadExemplars(f"{path}: over {MAX_BYTES >> 20} MiB; keep the most typical ones")
        is_cut = len(piece) == MAX_LINE_BYTES and not piece.endswith(b"\n")
        if not goes_on:
            yield piece, f"a line of over {MAX_LINE_BYTES} bytes" if is_cut else ""
        goes_on = is_cut


def _value(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8-sig").rstrip(), object_pairs_hook=once)
    except UnicodeDecodeError as error:
        return BadExemplars(f"not UTF-8 (byte {error.start + 1} of the line)")
    except BadColumns as error:
        return BadExemplars(str(error))
    except RecursionError:
        return BadExemplars("nested too deep")
    except ValueError as error:
        example = '{"task": "code", "text": "Fix the bug"}'
        return BadExemplars(f"not JSON ({fault_of(error)}); write {example}")


def _problem(row: Any) -> str:
    from router.config.levels import level_problem
    from router.endpoints.entry import is_name

    if isinstance(row, BadExemplars):
        return str(row)
    if not isinstance(row, dict):
        return f'{brief(row)}: a line must be an object, {{"task": …, "text": …}}'
    for name in row:
        if name not in FIELDS:
            shown = clipped(ascii(name)[1:-1] if HALF_CHARACTER.search(name) else name)
            return f"{shown}: {brief(row[name])}: unknown field; known are task and text"
    for name in FIELDS:
        if name not in row:
            return f"{name}: missing; every line needs task and text"
        if not isinstance(row[name], str) or not row[name].strip():
            return f"{name}: {brief(row[name])}: must be a text that is not empty"
    if not is_name(row["task"]):
        return f"task: {brief(row['task'])}: use 1 to 128 letters, digits and . _ / @ + -"
    if (wrong := level_problem(row["task"])) is not None:
        return f"task: {brief(row['task'])}: {wrong}"
    if HALF_CHARACTER.search(row["text"]):
        return f"text: {brief(row['text'])}: holds half a character ({HALVES}); leave it out"
    if len(row["text"]) > CHARACTERS:
        n = len(row["text"])
        return (
            f"text: {brief(row['text'])}: {n} characters; {CHARACTERS} is the most, so shorten it"
        )
    return ""
