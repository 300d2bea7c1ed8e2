"""Server-sent events: where they end, and what data they carry."""

from __future__ import annotations

from collections.abc import Iterator

DONE = b"[DONE]"
"""The data of the event that ends a stream of OpenAI's."""


def last_boundary(buffer: bytes) -> int:
    """Return where the last whole event ends, -1 where none does."""
    plain = buffer.rfind(b"\n\n")
    crlf = buffer.rfind(b"\r\n\r\n")
    if plain < 0 and crlf < 0:
        return -1
    return max(plain + 2 if plain >= 0 else -1, crlf + 4 if crlf >= 0 else -1)


def events(whole: bytes) -> list[bytes]:
    """Split at blank lines; every event keeps its own."""
    separator = b"\r\n\r\n" if b"\r\n\r\n" in whole else b"\n\n"
    parts = whole.split(separator)
    return [part + separator for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def data_of(event: bytes) -> bytes:
    """Return the payload of an event's data lines."""
    body = event.rstrip(b"\r\n")
    if b"\n" not in body and body.startswith(b"data:"):
        return body[5:].strip()
    lines = body.replace(b"\r\n", b"\n").split(b"\n")
    return b"\n".join(line[5:].strip() for line in lines if line.startswith(b"data:"))


def payloads(text: bytes) -> Iterator[bytes]:
    """Yield the data of each event of a whole stream; terminator and comments are left out."""
    for event in text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n\n"):
        data = data_of(event)
        if data and data != DONE:
            yield data
