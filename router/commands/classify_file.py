"""A file of exemplars: JSON Lines, each `{"task": NAME, "text": PROMPT}`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from telemetry.columns import BadColumns, fault_of, once
from telemetry.lines import bounded
from telemetry.numbers import brief

LINES = 10_000
CHARACTERS = 4_000
"""Of a text, as in the configuration."""
SHOWN = 10
FIELDS = ("task", "text")


class BadExemplars(Exception):
    """The file cannot be used; the message has a line for each problem, up to ten."""


def read_exemplars(path: Path) -> dict[str, list[str]]:
    """Return exemplars by task, in the order of the file; blank lines are left out.

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
    with path.open("rb") as file:
        for number, (line, reason) in enumerate(bounded(file), 1):
            if number > LINES:
                raise BadExemplars(f"{path}: over {LINES} lines; keep the most typical ones")
            if reason:
                yield number, BadExemplars(reason)
            elif line.strip():
                yield number, _value(line)


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
    from router.endpoints.entry import is_name

    if isinstance(row, BadExemplars):
        return str(row)
    if not isinstance(row, dict):
        return f'{brief(row)}: a line must be an object, {{"task": …, "text": …}}'
    for name in row:
        if name not in FIELDS:
            return f"{name}: {brief(row[name])}: unknown field; known are task and text"
    for name in FIELDS:
        if name not in row:
            return f"{name}: missing; every line needs task and text"
        if not isinstance(row[name], str) or not row[name].strip():
            return f"{name}: {brief(row[name])}: must be a text that is not empty"
    if not is_name(row["task"]):
        return f"task: {brief(row['task'])}: use 1 to 128 letters, digits and . _ / @ + -"
    if len(row["text"]) > CHARACTERS:
        n = len(row["text"])
        return (
            f"text: {brief(row['text'])}: {n} characters; {CHARACTERS} is the most, so shorten it"
        )
    return ""
