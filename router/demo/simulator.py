"""Simulated endpoints: OpenAI-compatible servers that replay recorded outcomes.

One process serves all endpoints of a table, each under its own path. A prompt's last word is its
place in the table; any other text stands for one of them. Every answer that left in full is in
the books and billed by the list price; they know nothing of Pointsman: what was lost or doubled
is counted against them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from router.net.address import bound
from router.net.drain import Drain
from router.net.exchange import Exchange
from router.net.inbound import Reception
from router.net.listener import Listener, serve_until_asked
from telemetry.processes import end_with_parent
from telemetry.recorded import Recorded

ANSWER = "This answer was recorded once and is replayed now, in nine pieces."
MAX_BODY_BYTES = 1 << 20
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "replay",
        "parameters": {
            "type": "object",
            "properties": {"prompt": {"type": "integer"}},
            "required": ["prompt"],
            "additionalProperties": False,
        },
    },
}
"""What a client that asks for tool calls offers; an answer calls it with a number, or does not."""


class _Message(msgspec.Struct):
    role: str = ""
    content: str | None = None


class _Options(msgspec.Struct):
    include_usage: bool = False


class _Request(msgspec.Struct):
    model: str
    messages: list[_Message]
    stream: bool = False
    stream_options: _Options | None = None
    tools: list[Any] | None = None


class Simulator:
    """All endpoints of one table."""

    def __init__(
        self, table: Recorded, *, time_scale: float, prices: NDArray[np.int64] | None = None
    ) -> None:
        """Have answered nothing yet.

        Args:
            prices: (n_endpoints, 2) nano-USD a token in and out; None: nothing is billed.
        """
        self._table = table
        self._time_scale = time_scale
        self._n_answers = 0
        self._prices = no_prices(table) if prices is None else prices
        self.answers = np.zeros((len(table.prompts), len(table.endpoints)), dtype=np.int64)

    async def serve(self, exchange: Exchange) -> None:
        """Serve `/e/<endpoint>/v1/chat/completions` and `/books`."""
        if exchange.raw_path == b"/books":
            await exchange.respond_json(200, self.books())
            return
        body = await exchange.body(limit=MAX_BODY_BYTES)
        request = msgspec.json.decode(body, type=_Request)
        endpoint = int(exchange.raw_path.split(b"/")[2])
        asked = next(m.content or "" for m in reversed(request.messages) if m.role == "user")
        prompt = place_of(asked, len(self._table.prompts))
        if request.model != self._table.endpoints[endpoint]:
            await exchange.respond_json(404, {"error": {"message": "not this endpoint's model"}})
            return
        self._n_answers += 1
        answer_id = f"chatcmpl-{endpoint}-{self._n_answers}"
        wait_s = float(self._table.latency_s[prompt, endpoint]) * self._time_scale
        calls = self._tool_calls(prompt, endpoint) if request.tools else None
        if request.stream:
            await self._stream(exchange, request, answer_id, prompt, endpoint, wait_s, calls)
        else:
            await asyncio.sleep(wait_s)
            await exchange.respond_json(200, self._answer(answer_id, prompt, endpoint, calls))
        self.answers[prompt, endpoint] += 1

    def books(self) -> dict[str, Any]:
        """Return how many answers left in full, and what they are billed at: as `ProviderBooks`."""
        table = self._table
        counts = np.zeros((len(table.categories), len(table.endpoints)), dtype=np.int64)
        np.add.at(counts, table.category, self.answers)
        billed = self.answers * table.tokens_in * self._prices[:, 0]
        billed += self.answers * table.tokens_out * self._prices[:, 1]
        prompts, endpoints = np.nonzero(self.answers)
        cells = [prompts, endpoints, self.answers[prompts, endpoints], billed[prompts, endpoints]]
        return {"answers": counts.tolist(), "bills": np.column_stack(cells).tolist()}

    def _tool_calls(self, prompt: int, endpoint: int) -> list[dict[str, Any]]:
        """Return a call of the demo's tool: valid in proportion to the recorded quality."""
        valid = fraction(prompt, endpoint) < self._table.quality[prompt, endpoint]
        arguments = {"prompt": prompt} if valid else {"prompt": f"number {prompt}"}
        function = {"name": TOOL["function"]["name"], "arguments": json.dumps(arguments)}
        call_id = f"call_{endpoint}_{self._n_answers}"
        return [{"id": call_id, "type": "function", "function": function}]

    def _answer(
        self, answer_id: str, prompt: int, endpoint: int, calls: list[dict[str, Any]] | None
    ) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": ANSWER}
        if calls is not None:
            message = {"role": "assistant", "content": None, "tool_calls": calls}
        finish = "stop" if calls is None else "tool_calls"
        return {
            "id": answer_id,
            "object": "chat.completion",
            "created": 0,
            "model": self._table.endpoints[endpoint],
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
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
        exchange: Exchange,
        request: _Request,
        answer_id: str,
        prompt: int,
        endpoint: int,
        wait_s: float,
        calls: list[dict[str, Any]] | None,
    ) -> None:
        """Send a role, the words over the recorded time, a finish, usage if asked, the end."""
        common = {"id": answer_id, "object": "chat.completion.chunk", "created": 0}
        common["model"] = self._table.endpoints[endpoint]
        headers = [(b"content-type", b"text/event-stream")]
        await exchange.start(200, headers)

        async def emit(value: object) -> None:
            await exchange.part(b"data: " + msgspec.json.encode(value) + b"\n\n")

        def choice(delta: dict[str, Any], finish: str | None = None) -> dict[str, object]:
            return {"index": 0, "delta": delta, "finish_reason": finish}

        await emit({**common, "choices": [choice({"role": "assistant", "content": ""})]})
        deltas: list[dict[str, Any]] = [{"content": word + " "} for word in ANSWER.split()]
        if calls is not None:
            deltas = [{"tool_calls": [{"index": i, **call}]} for i, call in enumerate(calls)]
        for delta in deltas:
            await asyncio.sleep(wait_s / len(deltas))
            await emit({**common, "choices": [choice(delta)]})
        await emit({**common, "choices": [choice({}, "stop" if calls is None else "tool_calls")]})
        if request.stream_options is not None and request.stream_options.include_usage:
            await emit({**common, "choices": [], "usage": self._usage(prompt, endpoint)})
        await exchange.part(b"data: [DONE]\n\n")
        await exchange.end()


def place_of(asked: str, n_prompts: int) -> int:
    """Return which recorded prompt a text stands for: its last word, else what it hashes to."""
    number = asked.split()[-1:]
    if number and number[0].isascii() and number[0].isdigit() and int(number[0]) < n_prompts:
        return int(number[0])
    return int.from_bytes(blake2b(asked.encode(), digest_size=8).digest(), "big") % n_prompts


def fraction(prompt: int, endpoint: int) -> float:
    """Return a number in [0, 1) that is this answer's own luck, the same every time."""
    digest = blake2b(b"%d %d" % (prompt, endpoint), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


@dataclass(frozen=True, slots=True)
class ProviderBooks:
    """What the simulated endpoints answered in full, and bill."""

    answers: NDArray[np.int64]  # (n_categories, n_endpoints)
    bills: NDArray[np.int64]  # (n, 4): prompt, endpoint, answers, nano-USD of all of them

    @classmethod
    def parse(cls, body: bytes) -> ProviderBooks:
        """Return the books that `/books` told."""
        value = json.loads(body)
        bills = np.array(value["bills"], dtype=np.int64).reshape(-1, 4)
        return cls(np.array(value["answers"], dtype=np.int64), bills)


def no_prices(table: Recorded) -> NDArray[np.int64]:
    """Return prices by which nothing costs anything."""
    return np.zeros((len(table.endpoints), 2), dtype=np.int64)


def save(table: Recorded, path: Path, prices: NDArray[np.int64] | None = None) -> None:
    """Write a table for the simulator's process; arrays and names only, nothing executable.

    Args:
        prices: as for `Simulator`.
    """
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
        prices=no_prices(table) if prices is None else prices,
    )


def restore(path: Path) -> tuple[Recorded, NDArray[np.int64]]:
    """Return table and prices written by `save`."""
    with np.load(path, allow_pickle=False) as data:
        name, prompts, categories, endpoints = json.loads(data["names"].tobytes())
        table = Recorded(
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
        return table, data["prices"]


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m router.demo.simulator")
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--time-scale", type=float, required=True)
    parser.add_argument("--ready", type=Path, required=True)
    options = parser.parse_args()
    end_with_parent()
    table, prices = restore(options.table)
    simulator = Simulator(table, time_scale=options.time_scale, prices=prices)
    drain = Drain(set(), silent_s=0.0, most_s=0.0)  # recorded latencies may be minutes
    ready = partial(_write, options.ready)
    listener = Listener(Reception(simulator.serve), drain, on_listen=ready)
    serve_until_asked(listener, bound("127.0.0.1", 0))


def _write(path: Path, port: int) -> None:
    path.write_text(str(port))


if __name__ == "__main__":
    main()
