"""Events of a stream that is over: read all at once where each stands in a line. Pure.

Nearly all events of a stream bring a piece of one text, and are the same but for it. A run of them
means what a single one with all their pieces does, and is read as that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat as _each
from typing import NamedTuple, TypeVar

import msgspec

from telemetry.wire.reading import is_text
from telemetry.wire.sse import DONE, payloads

T = TypeVar("T")
_BETWEEN = re.compile(rb"\n\n(?:event: [a-z_.]+\n)?data: ")
"""Between the data of two events: line breaks stand in no JSON that is written in a line."""
_BLANK = b"\n\n"
_END = _BLANK + b"data: " + DONE
PROBE = "~probe~"
"""Stands for a piece where an event is looked at without any."""
_REST_OF_STRING = re.compile(rb'(?:[^"\\\n]|\\[^\n])*+"')
_STRINGS = re.compile(
    rb'(?:[^"\\]++|\\(?:["\\/bfnrt]|u(?![Dd][89A-Fa-f])[0-9A-Fa-f]{4}))*+', re.DOTALL
)
"""Insides of strings, a line each. Halves of a surrogate pair mean something else once joined."""


class Piecewise(NamedTuple):
    """How the events of a dialect bring a text in pieces."""

    begins: re.Pattern[bytes]  # what stands in such an event before its piece
    adds_alone: Callable[[bytes], bool]
    """Whether an event whose piece is PROBE adds that to what came before, and does nothing that
    doing it once more would not leave as it is."""


def events_in(
    text: bytes,
    all_of: Callable[[bytes], Sequence[T]],
    one_of: Callable[[bytes], T | None],
    piecewise: Piecewise | None = None,
) -> Iterable[T | None]:
    """Return what is read of each event of a stream, in order; None for one that nobody can read.

    Args:
        all_of: reads a list of events. One decoding takes a third of what one for each does.
        one_of: reads the data of one, also where it takes leniency.
        piecewise: which events in a row may be read as one.
    """
    listed = _as_list(text, piecewise)
    if listed is not None:
        try:
            return all_of(listed)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            pass
    return map(one_of, payloads(text))


def _as_list(text: bytes, piecewise: Piecewise | None) -> bytes | None:
    """Return the data of all events as one list of JSON; None where they are not plainly that."""
    if not is_text(text):
        return None
    end = len(text) - len(_BLANK) * text.endswith(_BLANK)
    end -= len(_END) * text.endswith(_END, 0, end)
    told = b"".join((_BLANK, memoryview(text)[:end]))
    if piecewise is not None:
        told = _in_fewer(told, piecewise)
    is_named = text.startswith(b"event: ")
    events = _BETWEEN.sub(b",", told) if is_named else told.replace(b"\n\ndata: ", b",")
    if b"\n" in events or b"\r" in events or not events.startswith(b",{"):
        return None
    return b"[" + events[1:] + b"]"


def _in_fewer(told: bytes, piecewise: Piecewise) -> bytes:
    """Return the same with a run of events as one, where there is one; each after its begin.

    Every event of the run is `before`, the inside of a string, and `after`: that is seen of the
    bytes. The one in their place has all insides.
    """
    shape = _shape_amid(told, piecewise)
    if shape is None:
        return told
    begin, before, after = shape
    events = told.split(begin)
    insides = [
        *map(bytes.removesuffix, map(bytes.removeprefix, events, _each(before)), _each(after))
    ]
    around = len(before) + len(after)
    first, end = 0, len(events)
    while first < end and len(events[first]) - len(insides[first]) != around:
        first += 1
    while end > first and len(events[end - 1]) - len(insides[end - 1]) != around:
        end -= 1
    n, run = end - first, insides[first:end]
    pieces = b"\n".join(run)
    are_alike = sum(map(len, events[first:end])) - sum(map(len, run)) == n * around
    if n < 2 or not are_alike or pieces.count(b"\n") != n - 1:
        return told
    if (b'"' in pieces or b"\\" in pieces) and _STRINGS.fullmatch(pieces) is None:
        return told
    if not piecewise.adds_alone(before + PROBE.encode() + after):
        return told
    events[first:end] = [before + b"".join(run) + after]
    return begin.join(events)


def _shape_amid(told: bytes, piecewise: Piecewise) -> tuple[bytes, bytes, bytes] | None:
    """Return how two events in the middle look: their begin, and data before and after a piece."""
    between = _BETWEEN.search(told, len(told) // 2)
    if between is None:
        return None
    begin, end = between[0], told.find(_BLANK, between.end())
    found = piecewise.begins.search(told, between.end(), max(end, 0))
    rest = _REST_OF_STRING.match(told, found.end()) if found is not None else None
    if found is None or rest is None:
        return None
    before, after = told[between.end() : found.end()], told[rest.end() - 1 : end]
    next_end = told.find(_BLANK, end + len(_BLANK))
    is_next = told.startswith(begin + before, end)
    if not is_next or not told.endswith(after, end, next_end if next_end >= 0 else len(told)):
        return None  # there is more in which they differ: all of them would be gone through in vain
    around = before + after
    if b"\\" in around or PROBE.encode() in around:
        return None  # a name could be written in two ways, or the probe be read elsewhere
    return begin, before, after
