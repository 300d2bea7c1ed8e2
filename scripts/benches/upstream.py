"""The bench's upstream: a fixed answer at once, or a stream in bursts or at a pace.

Written against asyncio's protocol directly, so that it never is what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import cast

import httptools
import uvloop

from telemetry.processes import end_with_parent

N_CONTENT = 50
N_CHUNKS = N_CONTENT + 2  # the role first, the finish last
PACE_S = 0.005
PACED = b"paced"
"""A request that holds this word is answered with one chunk every 5 ms."""
_COMMON = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 0, "model": "m"}


def _answer() -> bytes:
    message = {"role": "assistant", "content": "word " * 60}
    body = {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 200, "completion_tokens": 60, "total_tokens": 260},
    }
    raw = json.dumps(body).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(raw) + raw


def _chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return _frame({**_COMMON, "service_tier": "default", "choices": [choice]})


def _frame(value: object) -> bytes:
    event = b"data: " + json.dumps(value).encode() + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(event), event)


ANSWER = _answer()
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
CHUNKS = [
    _chunk({"role": "assistant", "content": ""}),
    *[_chunk({"content": f"word{i} "}) for i in range(N_CONTENT)],
    _chunk({}, "stop"),
]
USAGE = {"prompt_tokens": 200, "completion_tokens": 60, "total_tokens": 260}
USAGE_CHUNK = _frame({**_COMMON, "choices": [], "usage": USAGE})
DONE = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


class UpstreamConnection(asyncio.Protocol):
    """One connection of a provider that answers each request by its body."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by name
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""

    def data_received(self, data: bytes) -> None:
        """Parse."""
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """Collect."""
        self._body += body

    def on_message_complete(self) -> None:
        """Answer."""
        body, self._body = self._body, b""
        self.answer(body)

    def answer(self, body: bytes) -> None:
        """Answer a request."""
        raise NotImplementedError


class BenchUpstream(UpstreamConnection):
    """Answers at once, or streams in a burst or at a pace."""

    def answer(self, body: bytes) -> None:
        """Answer a request."""
        if b'"stream":true' not in body and b'"stream": true' not in body:
            self._transport.write(ANSWER)
            return
        end = (USAGE_CHUNK if b"include_usage" in body else b"") + DONE
        if PACED in body:
            # The first content at once: a pause before it would be most of what is measured.
            self._transport.write(STREAM_HEAD + b"".join(CHUNKS[:2]))
            loop = asyncio.get_running_loop()
            loop.call_later(PACE_S, self._send_paced, 2, end)
        else:
            self._transport.write(STREAM_HEAD + b"".join(CHUNKS) + end)

    def _send_paced(self, i: int, end: bytes) -> None:
        if self._transport.is_closing():
            return
        if i == len(CHUNKS):
            self._transport.write(end)
            return
        self._transport.write(CHUNKS[i])
        loop = asyncio.get_running_loop()
        loop.call_later(PACE_S, self._send_paced, i + 1, end)


async def _serve(connection: type[UpstreamConnection], ready: Path) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(connection, "127.0.0.1", 0)
    _write(ready, str(server.sockets[0].getsockname()[1]))
    await server.serve_forever()


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def serve(connection: type[UpstreamConnection]) -> None:
    """Serve until killed; say where in the file that `--ready` names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ready", type=Path, required=True)
    options = parser.parse_args()
    end_with_parent()
    uvloop.run(_serve(connection, options.ready))


if __name__ == "__main__":
    serve(BenchUpstream)
