"""What grades an answer without a judge: accepted answers, a JSON schema, a command.

An answer is right by `expected` where one of these is an accepted one: all of it, its last line,
what follows the last colon of that line, what its last `\\boxed{…}` holds, or, of an accepted
number, its last number. Texts are compared without blanks around them, quotes, stress marks and a
final stop, in any case; numbers as numbers (`1,000.0` is 1000).
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import msgspec
from jsonschema_rs import RegexOptions, validator_for
from msgspec import Struct

from telemetry.numbers import brief

MAX_ACCEPTED = 100
MAX_SCHEMA_BYTES = 1 << 17
MAX_ARGUMENTS = 64
MAX_DIGITS = 64
_PATTERNS = RegexOptions(size_limit=1 << 20, dfa_size_limit=1 << 20)
_NUMBER = re.compile(r"[-+]?(?:\d[\d,]*\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?")
_BOXED = re.compile(r"\\boxed\s*\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}")
_AROUND = " \t\r\n\"'`*_$"


class Grader(Struct, frozen=True):
    """One of the three; the others are empty."""

    kind: str  # expected, schema or check
    accepted: tuple[str, ...] = ()
    schema: str = ""  # JSON
    command: tuple[str, ...] = ()


class GraderProblem(ValueError):
    """A grader that cannot grade; says why, and the fix."""


def grader_of(kind: str, value: Any, *, beside: Path) -> Grader:
    """Return a grader as a line has it.

    Args:
        kind: the field's name.
        beside: where files that a command names are looked for.

    Raises:
        GraderProblem: it cannot grade anything.
    """
    if kind == "expected":
        return Grader(kind, accepted=_accepted(value))
    if kind == "schema":
        return Grader(kind, schema=_schema(value))
    return Grader(kind, command=_command(value, beside))


def is_expected(accepted: tuple[str, ...], answer: str) -> bool:
    """Return whether an answer is, or ends in, one of the accepted ones."""
    said = {_plain(each) for each in _parts(answer)}
    numbers = {n for n in map(_number, said) if n is not None}
    found = _NUMBER.findall(answer)
    last = _number(found[-1].rstrip(".,")) if found else None
    for each in accepted:
        wanted = _plain(each)
        if wanted in said:
            return True
        number = _number(wanted)
        if number is not None and (number in numbers or number == last):
            return True
    return False


def fits(schema: str, answer: str) -> bool:
    """Return whether an answer is JSON, and nothing else, that fits a schema."""
    try:
        value = json.loads(answer, parse_constant=_no_json)
        return bool(_validator(schema).is_valid(value))
    except (ValueError, RecursionError):
        return False


def _no_json(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


def _accepted(value: Any) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else [value]
    if not 1 <= len(listed) <= MAX_ACCEPTED:
        raise GraderProblem(f"has {len(listed)} answers; list 1 to {MAX_ACCEPTED}")
    out = []
    for each in listed:
        if isinstance(each, bool) or not isinstance(each, str | int | float):
            raise GraderProblem(f"is {brief(each)}; write a text or a number, or a list of them")
        if not _plain(str(each)):
            raise GraderProblem(f"is {brief(each)}; write what a right answer says")
        out.append(str(each))
    return tuple(out)


def _schema(value: Any) -> str:
    if not isinstance(value, dict):
        raise GraderProblem(f"is {brief(value)}; write a JSON schema, an object")
    text = msgspec.json.encode(value, order="deterministic").decode()
    if len(text) > MAX_SCHEMA_BYTES:
        raise GraderProblem(f"is longer than {MAX_SCHEMA_BYTES >> 10} KiB; shorten it")
    try:
        _validator(text)
    except (ValueError, RecursionError) as error:
        first = str(error).strip().splitlines()[0]
        raise GraderProblem(f"is no JSON schema ({first}); correct it") from None
    return text


def _validator(schema: str) -> Any:
    return validator_for(
        json.loads(schema), offline=True, validate_formats=False, pattern_options=_PATTERNS
    )


def _command(value: Any, beside: Path) -> tuple[str, ...]:
    if isinstance(value, str):
        try:
            value = shlex.split(value)
        except ValueError as error:
            raise GraderProblem(f"is {brief(value)}: {error}; or write a list of words") from None
    is_words = isinstance(value, list) and all(isinstance(w, str) and "\0" not in w for w in value)
    if not is_words or not 1 <= len(value) <= MAX_ARGUMENTS or not value[0]:
        raise GraderProblem(f"is {brief(value)}; write a command, a text or a list of words")
    program = _absolute(value[0], beside) if "/" in value[0] else value[0]
    if shutil.which(program) is None:
        raise GraderProblem(f"{brief(value[0])} is no program that can be run; install or name it")
    return (program, *(_absolute(word, beside) for word in value[1:]))


def _absolute(word: str, beside: Path) -> str:
    """Return a word as it is, or the whole path of the file that it names: commands run elsewhere.

    A word without a dot or a slash names no file, whatever lies there.
    """
    if not ("/" in word or "." in word):
        return word
    try:
        path = beside / word
        return str(path.resolve()) if path.is_file() else word
    except (OSError, ValueError):
        return word


def _parts(answer: str) -> Iterator[str]:
    yield answer
    lines = [line for line in answer.splitlines() if line.strip()]
    if lines:
        yield lines[-1]
        yield lines[-1].rpartition(":")[2]
    boxed = _BOXED.findall(answer)
    if boxed:
        yield boxed[-1]


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).strip(_AROUND).rstrip(_AROUND + ".")


def _number(text: str) -> Decimal | None:
    plain = text.replace(",", "").rstrip("%")
    if len(plain) > MAX_DIGITS or not _NUMBER.fullmatch(plain):
        return None
    try:
        return Decimal(plain)
    except InvalidOperation:
        return None
