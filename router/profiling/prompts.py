"""Prompts as a file has them, JSON Lines: all are read and checked before anything is sent.

What is wrong is told by line and field, each with its fix; a file with one bad line is none.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from math import isfinite
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from router.profiling.graders import Grader, GraderProblem, grader_of
from router.profiling.shapes import FOREIGN_FIELDS, message_problem, tool_problem
from telemetry.columns import BadColumns, fault_of, meant, once
from telemetry.numbers import brief, clipped

MAX_LINE_BYTES = 4 << 20
MAX_BYTES = 256 << 20
MAX_PROMPTS = 100_000
SHOWN_PROBLEMS = 20
GRADERS = ("expected", "schema", "check")
PASSED_ON = (
    "tools", "tool_choice", "parallel_tool_calls", "response_format", "max_tokens",
    "max_completion_tokens", "temperature", "top_p", "stop", "seed", "reasoning_effort",
)  # fmt: skip
"""Of Chat Completions: what a call may say beside its messages."""
OURS = ("prompt", "messages", "system", "task", "id", "data_class")
KNOWN = (*OURS, *GRADERS, *PASSED_ON)
_KINDS: dict[str, tuple[type, ...]] = {
    "tools": (list,), "response_format": (dict,), "max_tokens": (int,),
    "max_completion_tokens": (int,), "temperature": (int, float), "top_p": (int, float),
    "seed": (int,), "reasoning_effort": (str,), "stop": (str, list),
    "tool_choice": (str, dict), "parallel_tool_calls": (bool,),
}  # fmt: skip


class ProfilePrompt(Struct, frozen=True):
    """One prompt, and how its answers are graded."""

    digest: str  # of all that is sent and graded by
    line: int
    body: dict[str, Any]  # of Chat Completions, without a model
    task: str | None = None
    data_class: str | None = None
    grader: Grader | None = None  # None: for a judge


@dataclass(frozen=True, slots=True)
class LineProblem:
    """What is wrong with a line, and the fix."""

    line: int
    field: str
    message: str

    def __str__(self) -> str:
        where = f"line {self.line}" + (f", {self.field}" if self.field else "")
        return f"{where}: {self.message}"


class BadPrompts(Exception):
    """The file is no list of prompts; says why, line by line."""

    def __init__(self, problems: list[LineProblem] | str, more: int = 0) -> None:
        self.problems = [] if isinstance(problems, str) else problems
        said = [problems] if isinstance(problems, str) else [str(each) for each in problems]
        said += [f"… and {more} more lines"] if more else []
        super().__init__("\n".join(said))


class _BadLine(Exception):
    def __init__(self, field: str, message: str) -> None:
        self.field, self.message = field, message
        super().__init__(message)


@dataclass(slots=True)
class ReadPrompts:
    """All prompts of a file, in its order."""

    prompts: list[ProfilePrompt] = field(default_factory=list)
    repeated: int = 0  # lines that say what an earlier one says


def read_prompts(
    lines: Iterable[bytes], *, tasks: Collection[str], classes: Collection[str], beside: Path
) -> ReadPrompts:
    """Return the prompts of a file.

    Args:
        lines: as `lines_of` yields them.
        tasks, classes: that the configuration knows.
        beside: the directory in which files that a check command names are looked for.

    Raises:
        BadPrompts: a line is wrong, or there is none.
    """
    found, seen = ReadPrompts(), set[str]()
    problems: list[LineProblem] = []
    n_problems = 0
    for number, line in enumerate(lines, start=1):
        text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if not text.strip():
            continue
        try:
            prompt = _prompt(text, number, tasks=tasks, classes=classes, beside=beside)
        except _BadLine as error:
            n_problems += 1
            if len(problems) < SHOWN_PROBLEMS:
                problems.append(LineProblem(number, error.field, error.message))
            continue
        if prompt.digest in seen:
            found.repeated += 1
            continue
        seen.add(prompt.digest)
        found.prompts.append(prompt)
        if len(found.prompts) > MAX_PROMPTS:
            raise BadPrompts(f"there are more than {MAX_PROMPTS:,} prompts; split the file")
    if n_problems:
        raise BadPrompts(problems, n_problems - len(problems))
    if not found.prompts:
        raise BadPrompts('there is no prompt; write one a line, such as {"prompt": "…"}')
    return found


def lines_of(file: Any) -> Iterator[bytes]:
    """Yield the lines of an open binary file; one that is too long ends it.

    Raises:
        BadPrompts: a line, or all of them, are too long.
    """
    total, number = 0, 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        total += len(line)
        if len(line) > MAX_LINE_BYTES:
            limit = f"is longer than {MAX_LINE_BYTES >> 20} MiB; shorten it, or leave it out"
            raise BadPrompts([LineProblem(number, "", limit)])
        if total > MAX_BYTES:
            raise BadPrompts(f"the file is larger than {MAX_BYTES >> 20} MiB; split it")
        yield line


def _prompt(
    text: bytes, number: int, *, tasks: Collection[str], classes: Collection[str], beside: Path
) -> ProfilePrompt:
    raw = _object(text)
    for name in raw:
        if name not in KNOWN:
            near = meant(name, KNOWN)
            hint = f"did you mean {near}?" if near else f"known: {', '.join(KNOWN)}"
            hint = FOREIGN_FIELDS.get(name, hint)
            raise _BadLine(clipped(name), f"unknown field; {hint}")
    body = {"messages": _messages(raw)}
    for name in PASSED_ON:
        if raw.get(name) is not None:
            body[name] = _passed_on(name, raw[name])
    named = [name for name in GRADERS if raw.get(name) is not None]
    if not named and (empty := next((name for name in GRADERS if name in raw), None)):
        raise _BadLine(empty, "is null; say what grades the answer, or leave it out for a judge")
    if len(named) > 1:
        raise _BadLine(named[1], f"stands beside {named[0]}; keep the one that grades")
    try:
        grader = grader_of(named[0], raw[named[0]], beside=beside) if named else None
    except GraderProblem as error:
        raise _BadLine(named[0], str(error)) from None
    task, data_class = _one_of(raw, "task", tasks), _one_of(raw, "data_class", classes)
    said = [body, task, data_class, msgspec.to_builtins(grader)]
    return ProfilePrompt(digest_of(said), number, body, task, data_class, grader)


def digest_of(value: object) -> str:
    """Return a digest of JSON, whatever the order of its fields."""
    packed = msgspec.json.encode(value, order="deterministic")
    return blake2b(packed, digest_size=10).hexdigest()


def _object(text: bytes) -> dict[str, Any]:
    try:
        raw = json.loads(text.decode("utf-8").rstrip(), object_pairs_hook=once)
    except UnicodeDecodeError as error:
        raise _BadLine("", f"is not UTF-8 (byte {error.start}); save the file as UTF-8") from None
    except BadColumns as error:
        raise _BadLine(error.name, str(error)) from None
    except RecursionError:
        raise _BadLine("", "is nested too deep; write it flatter") from None
    except ValueError as error:
        shown = brief(text.decode("utf-8", "replace").strip())
        wrong = f"is no JSON ({fault_of(error)}): {shown}; write one object a line"
        raise _BadLine("", wrong) from None
    if not isinstance(raw, dict):
        raise _BadLine("", f'is {brief(raw)}; write an object, such as {{"prompt": "…"}}')
    for name, value in raw.items():
        _require_sendable(name, value)
    return raw


def _require_sendable(name: str, value: Any) -> None:
    """Refuse what JSON cannot say, though readers of it take it: NaN, half a character."""
    if (odd := _not_finite(value)) is not None:
        raise _BadLine(clipped(name), f"holds {brief(odd)}; write a number that JSON has")
    try:
        msgspec.json.encode(value)
        name.encode()
    except UnicodeEncodeError:
        wrong = (
            f"is {brief(value)}, which holds half a character (\\ud800 to \\udfff); leave it out"
        )
        raise _BadLine(clipped(ascii(name)[1:-1]), wrong) from None
    except (ValueError, OverflowError, RecursionError) as error:
        raise _BadLine(clipped(name), f"cannot be sent ({error}); write it otherwise") from None


def _not_finite(value: Any) -> float | None:
    """Return a number in it that is none of JSON's, if there is one."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, float) and not isfinite(each):
            return each
        waiting += each.values() if isinstance(each, dict) else each if type(each) is list else ()
    return None


def _messages(raw: Mapping[str, Any]) -> list[dict[str, Any]]:
    prompt, messages, system = raw.get("prompt"), raw.get("messages"), raw.get("system")
    if (prompt is None) == (messages is None):
        said = "both are there; keep one" if prompt is not None else "one of the two is needed"
        raise _BadLine("prompt", f"{said}: prompt (a text) or messages (a list)")
    if messages is None:
        if not isinstance(prompt, str) or not prompt.strip():
            raise _BadLine("prompt", f"is {brief(prompt)}; write a text")
        messages = [{"role": "user", "content": prompt}]
    elif not isinstance(messages, list) or not messages:
        raise _BadLine("messages", f"is {brief(messages)}; write a list of messages")
    for i, each in enumerate(messages):
        if not isinstance(each, dict) or not isinstance(each.get("role"), str):
            wrong = f"is {brief(each)}; write an object with role and content"
            raise _BadLine(f"messages[{i}]", wrong)
        if (problem := message_problem(each)) is not None:
            raise _BadLine(f"messages[{i}]{problem[0]}", problem[1])
    if system is None:
        return messages
    if not isinstance(system, str):
        raise _BadLine("system", f"is {brief(system)}; write a text")
    return [{"role": "system", "content": system}, *messages]


def _passed_on(name: str, value: Any) -> Any:
    kinds = _KINDS[name]
    is_wrong = not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)
    if is_wrong or (name.startswith("max_") and value < 1):
        words = {int: "a whole number", float: "a number", str: "a text", list: "a list",
                 dict: "an object", bool: "true or false"}  # fmt: skip
        wanted = " or ".join(dict.fromkeys(words[kind] for kind in kinds))
        raise _BadLine(name, f"is {brief(value)}; write {wanted}")
    for i, tool in enumerate(value if name == "tools" else ()):
        if (problem := tool_problem(tool)) is not None:
            raise _BadLine(f"tools[{i}]", problem)
    return value


def _one_of(raw: Mapping[str, Any], name: str, known: Collection[str]) -> str | None:
    value = raw.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or value not in known:
        near = meant(value, known) if isinstance(value, str) else ""
        hint = f"did you mean {near}?" if near else f"the configuration has {', '.join(known)}"
        raise _BadLine(name, f"{brief(value)} is unknown; {hint}")
    return value
