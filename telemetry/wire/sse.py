"""Server-sent events: where they end, and what data they carry.

Lines end with CRLF, LF or CR, in any mix; an event ends at a blank line.

Ref: WHATWG HTML, section 9.2.6 (interpreting an event stream).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

DONE = b"[DONE]"
"""The data of the event that ends a stream of OpenAI's."""
BOM = b"\xef\xbb\xbf"
FIELDS = (b":", b"data:", b"event:", b"id:", b"retry:")
"""What a line of an event begins with; a colon alone, a comment."""
LONGEST_FIELD = max(map(len, FIELDS))
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?!\n))")
"""A CR at the end of what is there counts; should a LF follow it, that is one more blank line."""
LONGEST_LINE_ENDS = 3
"""Bytes of a blank line that may have come before its last one."""


class EventSplitter:
    """Cuts a stream into events as its bytes come; each keeps its blank line."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = bytearray()

    def whole(self, data: bytes) -> list[bytes] | None:
        """Return the events in `data`, without their blank lines; None where it is to be fed.

        It is not where it plainly holds whole ones and nothing waits for its end: nearly always.
        """
        if self._rest or b"\r" in data or not data.endswith(b"\n\n"):
            return None
        return data[:-2].split(b"\n\n")

    def feed(self, data: bytes) -> list[bytes]:
        """Return the events that are whole now."""
        events = self.whole(data)
        if events is not None:
            return [data] if len(events) == 1 else [event + b"\n\n" for event in events]
        rest = self._rest
        start = max(len(rest) - LONGEST_LINE_ENDS, 0)
        rest += data
        out, begin = [], 0
        for match in _BLANK_LINE.finditer(rest, start):
            out.append(bytes(rest[begin : match.end()]))
            begin = match.end()
        del rest[:begin]
        return out

    @property
    def n_held(self) -> int:
        """Bytes of the event that is not whole."""
        return len(self._rest)

    def take_rest(self) -> bytes:
        """Return what came after the last whole event, and forget it."""
        rest = bytes(self._rest)
        self._rest.clear()
        return rest


def may_be_events(head: bytes) -> bool:
    """Return whether what begins like this may be a stream of events, whatever it is called."""
    begun = head.removeprefix(BOM).lstrip()[:LONGEST_FIELD]
    return any(begun.startswith(name[: len(begun)]) for name in FIELDS)


def data_of(event: bytes) -> bytes:
    """Return the payload of an event's data lines."""
    body = event.strip(b"\r\n")
    if body.startswith(b"data:") and b"\n" not in body and b"\r" not in body:
        return body[5:].strip()
    lines = _LINE_END.split(body.removeprefix(BOM))
    return b"\n".join(line[5:].strip() for line in lines if line.startswith(b"data:"))


def payloads(text: bytes) -> Iterator[bytes]:
    """Yield the data of each event of a whole stream; terminator and comments are left out."""
    splitter = EventSplitter()
    for event in (*splitter.feed(text), splitter.take_rest()):
        data = data_of(event)
        if data and data != DONE:
            yield data
