"""Events of a stream that is over: read all at once where each stands in a line. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import msgspec

from telemetry.wire.reading import is_text
from telemetry.wire.sse import DONE, payloads

T = TypeVar("T")
_BETWEEN = re.compile(rb"\n\n(?:event: [a-z_.]+\n)?data: ")
"""Between the data of two events: line breaks stand in no JSON that is written in a line."""
_END = b"\n\ndata: " + DONE


def events_in(
    text: bytes, all_of: Callable[[bytes], Sequence[T]], one_of: Callable[[bytes], T | None]
) -> Iterable[T | None]:
    """Return what is read of each event of a stream, in order; None for one that nobody can read.

    Args:
        all_of: reads a list of events. One decoding takes a third of what one for each does.
        one_of: reads the data of one, also where it takes leniency.
    """
    listed = _as_list(text)
    if listed is not None:
        try:
            return all_of(listed)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            pass
    return map(one_of, payloads(text))


def _as_list(text: bytes) -> bytes | None:
    """Return the data of all events as one list of JSON; None where they are not plainly that."""
    told = b"\n\n" + text.removesuffix(b"\n\n").removesuffix(_END)
    is_named = text.startswith(b"event: ")
    events = _BETWEEN.sub(b",", told) if is_named else told.replace(b"\n\ndata: ", b",")
    if b"\n" in events or b"\r" in events or not events.startswith(b",{") or not is_text(events):
        return None
    return b"[" + events[1:] + b"]"
