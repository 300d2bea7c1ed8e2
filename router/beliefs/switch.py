"""The switch: a word, `off` or `on`, with a time. The latest one holds, wherever it was said.

It lies in a file of the state directory, for whoever shares that, and in the store, for everybody
on it. Each place keeps its last word; a sidecar brings the older of the two up to date. A new word
is later than those that are known where it is said, whatever the clocks show.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from router.config.places import DISK_FULL, OFF_FILE, ON_FILE

LEAST_DIGITS, MOST_DIGITS = 13, 16
"""Of a moment in epoch milliseconds since 2001; earlier versions wrote a plain 1."""


class SwitchWord(NamedTuple):
    """What was said of routing, and when."""

    at_ms: int  # epoch; 0: not known
    off: bool
    since_ms: int | None  # of the first of the same words in a row

    @property
    def order(self) -> tuple[int, bool]:
        """Return by what the last of several words is found: of two of one moment it is `off`."""
        return self.at_ms, self.off

    @property
    def text(self) -> bytes:
        """Return how it is written; what else it says, its name does."""
        since = "" if self.since_ms in (None, self.at_ms) else f" {self.since_ms}"
        return f"{self.at_ms}{since}".encode()


class Switch(NamedTuple):
    """Whether routing is off, since when as far as that is known, and by which word."""

    off: bool = False
    since_ms: int | None = None
    word: SwitchWord | None = None
    said_in: tuple[str, ...] = ()  # file, store

    @property
    def off_since_ms(self) -> int | None:
        """Since when it is off; None where it is on, or that is not known."""
        return self.since_ms if self.off else None


def parse_word(text: bytes, *, off: bool, changed_ms: int = 0) -> SwitchWord:
    """Return the word in a file or a value.

    Args:
        changed_ms: its moment where it says none: when it was written, as far as that is known.
    """
    moments = [int(part) for part in text.split() if _is_moment(part)]
    at_ms = moments[0] if moments else changed_ms
    return SwitchWord(at_ms, off, (moments[-1] if moments else changed_ms) or None)


def _is_moment(text: bytes) -> bool:
    return text.isdigit() and LEAST_DIGITS <= len(text) <= MOST_DIGITS


def last_of(words: Iterable[SwitchWord]) -> SwitchWord | None:
    """Return the word that holds, of several; None of none."""
    return max(words, key=lambda word: word.order, default=None)


def word_in_store(off: bytes | None, on: bytes | None) -> SwitchWord | None:
    """Return the store's word, from the values of its two keys."""
    values = ((True, off), (False, on))
    return last_of(parse_word(text, off=is_off) for is_off, text in values if text is not None)


class SwitchFile:
    """The word of a state directory: a file named `off` or `on`."""

    def __init__(self, state_dir: Path) -> None:
        self._files = {True: state_dir / OFF_FILE, False: state_dir / ON_FILE}

    def read(self) -> SwitchWord | None:
        """Return its word. One that cannot be read, or is empty, was said when it was written."""
        found = []
        for off, file in self._files.items():
            with contextlib.suppress(OSError):
                changed_ms, text = file.stat().st_mtime_ns // 1_000_000, b""
                with contextlib.suppress(OSError):
                    text = file.read_bytes()[:64]
                found.append(parse_word(text, off=off, changed_ms=changed_ms))
        return last_of(found)

    def write(self, word: SwitchWord) -> None:
        """Put a word in the place of the one that is there, unless another came meanwhile.

        Raises:
            OSError: it cannot be written. That `on` goes is tried all the same.
        """
        try:
            _write(self._files[word.off], word)
        finally:
            held = self.read()
            if held is None or held.off == word.off or held.order < word.order:
                self._files[not word.off].unlink(missing_ok=True)


def _write(file: Path, word: SwitchWord) -> None:
    """Write a word as a whole; on a full disk as an empty file, which says it by its time."""
    fresh, moment = file.with_suffix(".new"), (word.at_ms * 1_000_000,) * 2
    try:
        fresh.write_bytes(word.text)
        os.utime(fresh, ns=moment)
        fresh.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        if error.errno not in DISK_FULL:
            raise
        file.open("wb").close()
        os.utime(file, ns=moment)


def switch_of(in_file: SwitchWord | None, in_store: SwitchWord | None) -> Switch:
    """Return how the switch stands by the words of both places."""
    said = {"file": in_file, "store": in_store}
    words = sorted((w for w in said.values() if w is not None), key=lambda word: word.order)
    if not words:
        return Switch()
    first, last = words[0], words[-1]
    if first.off == last.off:  # as it was before, it went on to be
        since_ms = min((w.since_ms for w in words if w.since_ms is not None), default=None)
    else:
        is_after = last.since_ms is not None and last.since_ms > first.at_ms
        since_ms = last.since_ms if is_after else last.at_ms or None
    where = tuple(place for place, word in said.items() if word and word.order == last.order)
    return Switch(last.off, since_ms, last._replace(since_ms=since_ms), where)


def next_word(before: Switch, *, off: bool, now_ms: int) -> SwitchWord:
    """Return a word that is said now: later than the one before, whatever the clock says."""
    at_ms = max(now_ms, before.word.at_ms + 1) if before.word is not None else now_ms
    goes_on = before.word is not None and before.off == off and before.since_ms is not None
    return SwitchWord(at_ms, off, before.since_ms if goes_on else at_ms)
