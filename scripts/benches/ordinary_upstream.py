"""The upstream of ordinary traffic: some 50 ms an answer, thirty words, one in a hundred fails.

It is the mix that traffic in the wild has, on asyncio's protocol, so that it is not what is
measured.
"""

from __future__ import annotations

import asyncio
import json
from random import Random

from scripts.benches.upstream import STREAM_HEAD, UpstreamConnection, serve

CHANCE = Random()  # noqa: S311 - nothing secret
MEAN_S = 0.05
FAILS = 0.01
N_WORDS = 30
BURST = 10
"""Words of a stream that come at once."""
PAUSE_S = 0.01
WORDS = (
    "order",
    "invoice",
    "weather",
    "python",
    "refund",
    "poem",
    "sum",
    "graph",
    "table",
    "river",
)
USAGE = {"prompt_tokens": 40, "completion_tokens": N_WORDS, "total_tokens": 40 + N_WORDS}


def _whole(status: str, value: object) -> bytes:
    """Return a whole answer."""
    raw = json.dumps(value).encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(raw)}"
    return f"{head}\r\n\r\n".encode() + raw


FAILURE = _whole("503 Service Unavailable", {"error": {"message": "busy", "type": "server_error"}})


class OrdinaryUpstream(UpstreamConnection):
    """Answers after a while; now and then it fails."""

    def answer(self, body: bytes) -> None:
        """Answer a request after a while."""
        loop = asyncio.get_running_loop()
        loop.call_later(CHANCE.expovariate(1 / MEAN_S), self._answer, body)

    def _answer(self, body: bytes) -> None:
        if self._transport.is_closing():
            return
        if CHANCE.random() < FAILS:
            self._transport.write(FAILURE)
            return
        words, told = CHANCE.choices(WORDS, k=N_WORDS), f"chatcmpl-{CHANCE.getrandbits(96):x}"
        head = {"id": told, "created": 1, "model": "m"}
        if b'"stream":true' in body:
            head["object"] = "chat.completion.chunk"
            self._transport.write(STREAM_HEAD)
            self._stream(head, words, asks_usage=b"include_usage" in body)
            return
        message = {"role": "assistant", "content": " ".join(words)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        value = {**head, "object": "chat.completion", "choices": [choice], "usage": USAGE}
        self._transport.write(_whole("200 OK", value))

    def _stream(self, head: dict[str, object], words: list[str], *, asks_usage: bool) -> None:
        if self._transport.is_closing():
            return
        for word in words[:BURST]:
            choice = {"index": 0, "delta": {"content": f"{word} "}, "finish_reason": None}
            self._transport.write(_event({**head, "choices": [choice]}))
        rest = words[BURST:]
        if rest:
            loop = asyncio.get_running_loop()
            loop.call_later(PAUSE_S, lambda: self._stream(head, rest, asks_usage=asks_usage))
            return
        end = {"index": 0, "delta": {}, "finish_reason": "stop"}
        parts = [_event({**head, "choices": [end]})]
        if asks_usage:
            parts.append(_event({**head, "choices": [], "usage": USAGE}))
        self._transport.write(b"".join(parts) + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")


def _event(value: object) -> bytes:
    event = b"data: " + json.dumps(value).encode() + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(event), event)


if __name__ == "__main__":
    serve(OrdinaryUpstream)
