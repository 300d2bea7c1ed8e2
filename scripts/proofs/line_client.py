"""A client that keeps its connections, on asyncio's streams: whole answers, streamed or not."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from scripts.proofs.within import GivenAnswer, SentRequest


class LineClient:
    """Sends requests to one port, one after the other on each connection."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def send(self, request: SentRequest) -> GivenAnswer:
        """Return the whole answer to a request.

        Raises:
            OSError, EOFError: the connection broke.
        """
        line = self._idle.pop() if self._idle else None
        reader, writer = line or await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(_bytes_of(request))
        status, headers = _head_of(await reader.readuntil(b"\r\n\r\n"))
        if headers.get("transfer-encoding") == "chunked":
            body = await _read_frames(reader)
        else:
            body = await reader.readexactly(int(headers.get("content-length", "0")))
        if headers.get("connection") == "close":
            writer.close()
        else:
            self._idle.append((reader, writer))
        return GivenAnswer(status, headers, body)

    async def close(self) -> None:
        """Close all connections."""
        for _, writer in self._idle:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


def _bytes_of(request: SentRequest) -> bytes:
    named = {"host": "localhost", "content-type": "application/json", **request.headers}
    lines = [f"{request.method} {request.path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in named.items()]
    lines.append(f"content-length: {len(request.body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + request.body


def _head_of(raw: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
    parted = (line.partition(":") for line in lines)
    return int(first.split(" ")[1]), {name.lower(): value.strip() for name, _, value in parted}


async def _read_frames(reader: asyncio.StreamReader) -> bytes:
    parts: list[bytes] = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")
    return b"".join(parts)
