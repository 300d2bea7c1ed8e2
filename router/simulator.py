"""Simulated endpoints: OpenAI-compatible servers that replay recorded outcomes.

One process serves all endpoints of a table, each under its own path. A prompt's last word is its
place in the table. Every answer that left in full is in the ledger, which knows nothing of
Pointsman: what was lost or doubled is counted against it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import uvicorn

from router.asgi import Receive, Scope, Send, read_body, respond_json
from telemetry.processes import end_with_parent
from telemetry.recorded import Recorded

ANSWER = "This answer was recorded once and is replayed now, in nine pieces."
MAX_BODY_BYTES = 1 << 20


class _Message(msgspec.Struct):
    content: str = ""


class _Options(msgspec.Struct):
    include_usage: bool = False


class _Request(msgspec.Struct):
    model: str
    messages: list[_Message]
    stream: bool = False
    stream_options: _Options | None = None


class Simulator:
    """All endpoints of one table, as an ASGI application."""

    def __init__(self, table: Recorded, *, time_scale: float) -> None:
        self._table = table
        self._time_scale = time_scale
        self._n_answers = 0
        self.ledger = np.zeros((len(table.categories), len(table.endpoints)), dtype=np.int64)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve `/e/<endpoint>/v1/chat/completions` and `/ledger`."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["path"] == "/ledger":
            await respond_json(send, 200, {"answers": self.ledger.tolist()})
            return
        body = await read_body(receive, dict(scope["headers"]), limit=MAX_BODY_BYTES)
        request = msgspec.json.decode(body, type=_Request)
        endpoint = int(scope["path"].split("/")[2])
        prompt = int(request.messages[-1].content.split()[-1])
        if request.model != self._table.endpoints[endpoint]:
            await respond_json(send, 404, {"error": {"message": "not this endpoint's model"}})
            return
        self._n_answers += 1
        answer_id = f"chatcmpl-{endpoint}-{self._n_answers}"
        wait_s = float(self._table.latency_s[prompt, endpoint]) * self._time_scale
        if request.stream:
            await self._stream(send, request, answer_id, prompt, endpoint, wait_s)
        else:
            await asyncio.sleep(wait_s)
            await respond_json(send, 200, self._answer(answer_id, prompt, endpoint))
        self.ledger[self._table.category[prompt], endpoint] += 1

    def _answer(self, answer_id: str, prompt: int, endpoint: int) -> dict[str, Any]:
        message = {"role": "assistant", "content": ANSWER}
        return {
            "id": answer_id,
            "object": "chat.completion",
            "created": 0,
            "model": self._table.endpoints[endpoint],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": self._usage(prompt, endpoint),
        }

    def _usage(self, prompt: int, endpoint: int) -> dict[str, int]:
        tokens_in = int(self._table.tokens_in[prompt, endpoint])
        tokens_out = int(self._table.tokens_out[prompt, endpoint])
        return {
            "prompt_tokens": tokens_in,
            "completion_tokens": tokens_out,
            "total_tokens": tokens_in + tokens_out,
        }

    async def _stream(
        self,
        send: Send,
        request: _Request,
        answer_id: str,
        prompt: int,
        endpoint: int,
        wait_s: float,
    ) -> None:
        """Send a role, the words over the recorded time, a finish, usage if asked, the end."""
        common = {"id": answer_id, "object": "chat.completion.chunk", "created": 0}
        common["model"] = self._table.endpoints[endpoint]
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

        async def emit(value: object) -> None:
            data = b"data: " + msgspec.json.encode(value) + b"\n\n"
            await send({"type": "http.response.body", "body": data, "more_body": True})

        def choice(delta: dict[str, str], finish: str | None = None) -> dict[str, object]:
            return {"index": 0, "delta": delta, "finish_reason": finish}

        await emit({**common, "choices": [choice({"role": "assistant", "content": ""})]})
        words = ANSWER.split()
        for word in words:
            await asyncio.sleep(wait_s / len(words))
            await emit({**common, "choices": [choice({"content": word + " "})]})
        await emit({**common, "choices": [choice({}, "stop")]})
        if request.stream_options is not None and request.stream_options.include_usage:
            await emit({**common, "choices": [], "usage": self._usage(prompt, endpoint)})
        done = {"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": True}
        await send(done)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def save(table: Recorded, path: Path) -> None:
    """Write a table for the simulator's process; arrays and names only, nothing executable."""
    names = json.dumps([table.name, table.prompts, table.categories, table.endpoints])
    np.savez(
        path,
        names=np.frombuffer(names.encode(), dtype=np.uint8),
        category=table.category,
        quality=table.quality,
        cost_usd=table.cost_usd,
        latency_s=table.latency_s,
        tokens_in=table.tokens_in,
        tokens_out=table.tokens_out,
    )


def restore(path: Path) -> Recorded:
    """Return a table written by `save`."""
    with np.load(path, allow_pickle=False) as data:
        name, prompts, categories, endpoints = json.loads(data["names"].tobytes())
        return Recorded(
            name=name,
            synthetic=False,
            prompts=prompts,
            categories=categories,
            endpoints=endpoints,
            category=data["category"],
            quality=data["quality"],
            cost_usd=data["cost_usd"],
            latency_s=data["latency_s"],
            tokens_in=data["tokens_in"],
            tokens_out=data["tokens_out"],
            dropped={},
        )


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m router.simulator")
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--time-scale", type=float, required=True)
    parser.add_argument("--ready", type=Path, required=True)
    options = parser.parse_args()
    end_with_parent()
    simulator = Simulator(restore(options.table), time_scale=options.time_scale)
    config = uvicorn.Config(
        simulator,
        host="127.0.0.1",
        port=0,
        loop="uvloop",
        ws="none",
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=1,  # recorded latencies may be minutes
    )
    server = uvicorn.Server(config)
    _tell_when_up(server, options.ready)
    server.run()


def _tell_when_up(server: uvicorn.Server, ready: Path) -> None:
    started = server.startup

    async def startup(sockets: Any = None) -> None:
        await started(sockets)
        _write(ready, str(server.servers[0].sockets[0].getsockname()[1]))

    server.startup = startup  # type: ignore[method-assign]


def _write(path: Path, text: str) -> None:
    path.write_text(text)


if __name__ == "__main__":
    main()
