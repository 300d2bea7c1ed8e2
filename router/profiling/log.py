"""The log of a run: what was begun before it costs anything, and what came of it; append only.

A line is on the disk before the next money is spent. What was begun and has no end was cut off
with the process: nobody knows whether it was paid. Texts of answers are in it only until they are
graded, and are dropped once the run is done; else it holds digests and numbers.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from router.profiling.results import ProfileResult

FILE = "calls.jsonl"
ROUNDING_USD = 1e-9
"""Of sums."""
Cell = tuple[str, str]
"""A prompt's digest and an endpoint's id."""


class LogLine(Struct, frozen=True, omit_defaults=True):
    """A line: what was done with a prompt at an endpoint."""

    do: str  # start, begin, lost, back, answer, judge, unjudge, end or labelled
    at: float  # epoch seconds
    prompt: str = ""
    endpoint: str = ""
    run: str = ""  # of start: what events of this run are known by
    usd: float = 0.0  # of begin, lost and judge: at most about so much; of answer: what it cost
    answer: str = ""  # of answer: its text, until it is graded
    decision: str = ""
    is_estimated: bool = False  # the answer did not say what it used
    result: ProfileResult | None = None  # of answer (without quality) and end
    cells: tuple[Cell, ...] = ()  # of labelled
    why: str = ""  # of an end without a result: it counts neither way, in our words alone
    changes: tuple[str, ...] = ()  # of answer and end: how it was said other than asked


_LINE = msgspec.json.Decoder(LogLine)


@dataclass(slots=True)
class Logged:
    """What a log says."""

    run: str = ""
    begun: dict[Cell, float] = field(default_factory=dict)  # without an end, at an estimate
    answered: dict[Cell, LogLine] = field(default_factory=dict)  # and not graded
    judged: dict[Cell, float] = field(default_factory=dict)  # a judge was asked, without an end
    ended: dict[Cell, LogLine] = field(default_factory=dict)
    answering: set[str] = field(default_factory=set)  # endpoints of which an answer came, ever
    labelled: set[Cell] = field(default_factory=set)
    cut_off: dict[Cell, float] = field(default_factory=dict)
    spent_usd: float = 0.0  # of what was begun and has no end only what was cut off

    def take(self, entry: LogLine) -> None:
        """Follow one line."""
        cell = (entry.prompt, entry.endpoint)
        match entry.do:
            case "start":
                self.run = entry.run
            case "begin":
                self.begun[cell] = entry.usd
            case "lost":
                self.spent_usd += entry.usd
            case "back":
                self.begun.pop(cell, None)
            case "answer":
                self.begun.pop(cell, None)
                self.answered[cell] = entry
                self.answering.add(entry.endpoint)
                self.spent_usd += entry.usd
            case "judge":
                self.judged[cell] = entry.usd
                self.spent_usd += entry.usd
            case "unjudge":
                self.spent_usd -= self.judged.pop(cell, 0.0)
            case "end":
                self._end(cell, entry)
            case "labelled":
                self.labelled.update(entry.cells)

    def _end(self, cell: Cell, entry: LogLine) -> None:
        self.begun.pop(cell, None)
        self.spent_usd -= self.judged.pop(cell, 0.0)
        kept = self.answered.pop(cell, None)
        self.spent_usd -= kept.usd if kept is not None else 0.0
        if entry.result is not None:
            self.spent_usd += entry.result.cost_usd + entry.result.judge_usd
            if entry.result.ok:
                self.answering.add(entry.endpoint)
        self.ended[cell] = entry

    def cut(self) -> None:
        """Take what was begun for cut off: its process is gone. It counts at its estimate."""
        self.cut_off |= self.begun
        self.spent_usd += sum(self.begun.values())
        self.begun = {}

    def is_done(self, cell: Cell) -> bool:
        """Return whether a prompt is not to be sent there again.

        What an endpoint refused that never answered says nothing, and may be asked anew.
        """
        return cell in self.answered or (cell in self.ended and cell[1] in self.answering)

    def results(self) -> list[ProfileResult]:
        """Return what came of it, also of answers that nobody graded.

        Of an endpoint that never answered nothing: failures alone say nothing of its quality.
        """
        entries = [*self.ended.values(), *self.answered.values()]
        return [
            entry.result
            for entry in entries
            if entry.result is not None and entry.endpoint in self.answering
        ]

    def answer_usd(self) -> dict[str, float]:
        """Return by endpoint what its answers cost on average, what a judge took included."""
        found = defaultdict[str, list[float]](list)
        for result in self.results():
            if result.ok:
                found[result.endpoint].append(result.cost_usd + result.judge_usd)
        return {name: sum(usd) / len(usd) for name, usd in found.items()}

    @property
    def perhaps_paid_usd(self) -> float:
        """Which part of what was spent is an estimate of calls that may have been paid for.

        Those are the ones that ended with their process, and attempts that were cut or late.
        """
        known = sum(one.cost_usd + one.judge_usd for one in self.results())
        apart = self.spent_usd - known
        return apart if apart > ROUNDING_USD else 0.0

    def turned_down(self) -> dict[str, Counter[str]]:
        """Return by endpoint how many prompts count neither way, and why."""
        return _counted((entry, entry.why) for entry in self.ended.values() if not entry.result)

    def changed(self) -> dict[str, Counter[str]]:
        """Return by endpoint how many calls were said other than asked, and how."""
        entries = [*self.ended.values(), *self.answered.values()]
        return _counted((entry, ", ".join(entry.changes)) for entry in entries if entry.changes)


class RunLog:
    """The log in a directory, open for writing; one process at a time."""

    def __init__(self, directory: Path) -> None:
        """Open it; a last line that a crash cut short is dropped.

        Raises:
            OSError: it cannot be written.
        """
        self._path = directory / FILE
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
        self._file = os.open(self._path, flags, 0o600)
        self._drop_torn_line()
        self.logged = read_log(directory)
        self.logged.cut()

    def write(self, entry: LogLine) -> None:
        """Write a line; it is on the disk once this returns.

        Raises:
            OSError: the disk is full.
        """
        line = msgspec.json.encode(entry) + b"\n"
        written = os.write(self._file, line)
        if written != len(line):
            raise OSError(28, os.strerror(28), str(self._path))
        os.fdatasync(self._file)
        self.logged.take(entry)

    def begin_anew(self) -> None:
        """Forget all that was done."""
        os.ftruncate(self._file, 0)
        os.fdatasync(self._file)
        self.logged = Logged()

    def close(self) -> None:
        """Let go of it."""
        os.close(self._file)

    def drop_texts(self) -> None:
        """Write it anew without the texts of answers that are graded."""
        if not any(b'"answer":' in line for line in self._path.read_bytes().splitlines()):
            return
        ended = self.logged.ended
        fresh = self._path.with_suffix(".new")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            for entry in entries_of(self._path):
                if entry.do == "answer" and (entry.prompt, entry.endpoint) in ended:
                    entry = msgspec.structs.replace(entry, answer="")
                file.write(msgspec.json.encode(entry) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, self._path)
        os.close(self._file)
        self._file = os.open(self._path, os.O_RDWR | os.O_APPEND)

    def _drop_torn_line(self) -> None:
        held = self._path.read_bytes()
        if held and not held.endswith(b"\n"):
            os.ftruncate(self._file, held.rfind(b"\n") + 1)


def _counted(found: Iterable[tuple[LogLine, str]]) -> dict[str, Counter[str]]:
    out: dict[str, Counter[str]] = {}
    for entry, said in found:
        out.setdefault(entry.endpoint, Counter())[said] += 1
    return out


def read_log(directory: Path) -> Logged:
    """Return what the log in a directory says; nothing where there is none.

    What was begun and has no end is not taken for cut off: its process may be at work.
    """
    found = Logged()
    path = directory / FILE
    if path.exists():
        for entry in entries_of(path):
            found.take(entry)
    return found


def entries_of(path: Path) -> Iterator[LogLine]:
    """Yield the lines of a log; what was cut short is none."""
    with path.open("rb") as file:
        for line in file:
            try:
                yield _LINE.decode(line)
            except msgspec.DecodeError:
                continue


def as_told(value: Any) -> bytes:
    """Return a value as one line of JSON."""
    return msgspec.json.encode(value) + b"\n"
