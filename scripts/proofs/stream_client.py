"""A client on a bare socket, and what it sees of a stream: nothing is mended on its behalf."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from dataclasses import dataclass
from typing import Any

from scripts.proofs.samples import PATHS

ENDS_BADLY = ("error", "response.failed")
"""Events that say that there is no answer."""


@dataclass(frozen=True, slots=True)
class StreamView:
    """What came of one stream."""

    text: str  # all pieces of it, joined
    ended_well: bool  # the connection, or its last frame
    has_error: bool  # an event says so
    unreadable: int  # data that is neither JSON nor the terminator

    def passes_for(self, whole: str) -> bool:
        """Return whether it looks whole and is not."""
        return self.ended_well and not self.has_error and self.text != whole


def request(model: str, *, user: str, usage: bool, dialect: str = "chat") -> bytes:
    """Return the bytes of a streamed call."""
    body: dict[str, Any] = {"model": model, "stream": True, "user": user}
    asked = [{"role": "user", "content": "go"}]
    body |= {"input": asked, "store": False} if dialect == "responses" else {"messages": asked}
    if dialect == "messages":
        body["max_tokens"] = 100
    if usage and dialect == "chat":
        body["stream_options"] = {"include_usage": True}
    text = json.dumps(body).encode()
    head = (
        f"POST {PATHS[dialect]} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    )
    return head.encode() + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(text) + text


async def read_all(port: int, sent: bytes, *, within_s: float) -> bytes:
    """Send a request; return all that comes until the connection ends.

    Raises:
        TimeoutError: it does not end.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(within_s):
            writer.write(sent)
            return await _until_end(reader)
    finally:
        writer.close()


async def _until_end(reader: asyncio.StreamReader) -> bytes:
    parts = []
    try:
        while part := await reader.read(65536):
            parts.append(part)
    except ConnectionError:
        parts.append(b"")
    return b"".join(parts)


def leave(writer: asyncio.StreamWriter, *, abruptly: bool) -> None:
    """Close a connection in the middle, with or without a reset."""
    if abruptly:
        line = writer.get_extra_info("socket")
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort() if abruptly else writer.close()


def view(answer: bytes) -> StreamView:
    """Return what a client that reads on over everything sees of an answer's bytes."""
    _, _, rest = answer.partition(b"\r\n\r\n")
    body, ended_well = _unframed(rest)
    words, has_error, unreadable = [], False, 0
    for line in body.decode("utf-8", "replace").splitlines():
        if not line.startswith("data:") or (data := line[5:].strip()) == "[DONE]":
            continue
        try:
            value = json.loads(data)
        except ValueError:
            unreadable += 1
            continue
        has_error |= bool(value.get("error")) or value.get("type") in ENDS_BADLY
        words += _pieces(value)
    return StreamView("".join(words), ended_well, has_error, unreadable)


def _pieces(value: dict[str, Any]) -> list[str]:
    """Return the pieces of text in an event of any dialect."""
    delta = value.get("delta")
    if isinstance(delta, str):
        return [delta]
    if isinstance(delta, dict):
        return [delta.get("text") or ""]
    deltas = [choice.get("delta") or {} for choice in value.get("choices") or ()]
    return [each.get("content") or "" for each in deltas]


def _unframed(rest: bytes) -> tuple[bytes, bool]:
    """Return a body out of its frames, and whether the last one came."""
    parts: list[bytes] = []
    while True:
        line, found, after = rest.partition(b"\r\n")
        try:
            n = int(line, 16)
        except ValueError:
            return b"".join(parts), False
        if not found or len(after) < n + 2:
            return b"".join([*parts, after[:n]]), False
        if n == 0:
            return b"".join(parts), True
        parts.append(after[:n])
        rest = after[n + 2 :]
