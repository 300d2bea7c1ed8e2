"""Simulated endpoints for the proof of the policy: they break as they are told, and tell on whom.

Every request that comes here is a byte too many where the oracle forbids it.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import httpx

from router.endpoints.catalog import Catalog
from router.endpoints.health import Health
from scripts.proofs.policy_calls import FaultyCall
from scripts.proofs.policy_clock import MovableClock
from scripts.proofs.policy_oracle import CallOracle

SLOW_S = 0.03
"""Three times after which another endpoint is started beside it."""


@dataclass(slots=True)
class CallUnderWay:
    """A call while it is served, and whoever knows what is permitted of it."""

    call: FaultyCall
    oracle: CallOracle
    is_off: bool
    number: int  # of its configuration

    def told(self) -> dict[str, Any]:
        """Return all that is needed to look into it."""
        return {"only": self.number, **self.call.told()}


CURRENT: ContextVar[CallUnderWay] = ContextVar("current")
"""The call that a task serves."""
MARK = re.compile(rb"call-(\d+)-")
"""Of a call in its own words: a second start is made by nobody's task."""


@dataclass(slots=True)
class Arrivals:
    """What came, and what should not have."""

    counts: Counter[str] = field(default_factory=Counter)
    forbidden_bytes: int = 0
    shown: list[dict[str, Any]] = field(default_factory=list)

    def note_forbidden(self, under_way: CallUnderWay, place: str, why: str, n_bytes: int) -> None:
        """Count what came to a place that is forbidden."""
        self.forbidden_bytes += n_bytes
        self.shown.append({"forbidden": place, "why": why, **under_way.told()})


class SimulatedHosts(httpx.AsyncBaseTransport):
    """All endpoints and providers of a configuration, by host name."""

    def __init__(self, clock: MovableClock) -> None:
        self.arrivals = Arrivals()
        self.under_way: dict[int, CallUnderWay] = {}  # by mark
        self.health: Health | None = None
        self.catalog: Catalog | None = None
        self._clock = clock

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request, or break."""
        body = await request.aread()
        mark = MARK.search(body)
        under_way = self.under_way[int(mark[1])] if mark else CURRENT.get()
        call, host = under_way.call, request.url.host.removesuffix(".test")
        self._judge(under_way, host, request.url.path, body)
        fault = call.faults[min(call.attempts, len(call.faults) - 1)]
        call.attempts += 1
        if call.moves_clock and call.attempts == 1:
            self._clock.move_to_next_day()
            fault = "500" if fault == "ok" else fault
            self.arrivals.counts["next_day"] += 1
        call.active += 1
        self.arrivals.counts["second_starts"] += call.active > 1
        try:
            return await _played(fault, request.url.path, wants_stream=b'"stream": true' in body)
        finally:
            call.active -= 1

    def _judge(self, under_way: CallUnderWay, host: str, path: str, body: bytes) -> None:
        call, counts = under_way.call, self.arrivals.counts
        place = f"{host}/" if host.startswith("p") else host
        counts["arrivals"] += 1
        counts["fallbacks"] += bool(call.reached) and place not in call.reached
        counts["passed_on"] += place.endswith("/")
        counts["off"] += under_way.is_off
        counts["counted"] += path.endswith("count_tokens")
        call.reached.append(place)
        read: dict[str, Any] = json.loads(body) if body else {}
        counts["forced_off"] += read.get("store") is False and "store" not in call.body
        if self.health is not None and self.catalog is not None and place in self.catalog.by_id:
            breaker = self.health.breakers.get(self.catalog.by_id[place].digest)
            counts["probes"] += breaker is not None and breaker.open_since is not None
        why = under_way.oracle.forbids(place, path, read, self._clock.now_s())
        if why is not None:
            self.arrivals.note_forbidden(under_way, place, why, len(body) + len(path))


async def _played(fault: str, path: str, *, wants_stream: bool) -> httpx.Response:
    if fault == "refused":
        raise httpx.ConnectError("refused")
    if fault in ("500", "429"):
        headers = {"retry-after": "0.001"} if fault == "429" else {}
        return httpx.Response(int(fault), headers=headers, json={"error": {"message": "no"}})
    if fault == "slow":
        await asyncio.sleep(SLOW_S)
    if fault == "silent":
        await asyncio.sleep(2 * SLOW_S)
        raise httpx.ReadError("gone")
    if not wants_stream:
        if fault == "cut":
            raise httpx.RemoteProtocolError("cut")
        return httpx.Response(200, json=_answer(path))
    kind = {"content-type": "text/event-stream"}
    return httpx.Response(200, headers=kind, stream=_Events(_events(path), is_cut=fault == "cut"))


class _Events(httpx.AsyncByteStream):
    def __init__(self, events: list[bytes], *, is_cut: bool) -> None:
        self._events, self._is_cut = events, is_cut

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for event in self._events[:1] if self._is_cut else self._events:
            yield event
        if self._is_cut:
            raise httpx.RemoteProtocolError("cut")

    async def aclose(self) -> None:
        """Nothing is open."""


def _answer(path: str) -> dict[str, Any]:
    if path.endswith("/messages"):
        said = [{"type": "text", "text": "yes"}]
        usage = {"input_tokens": 1, "output_tokens": 1}
        whole = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m"}
        return {**whole, "content": said, "stop_reason": "end_turn", "usage": usage}
    if path.endswith("/responses"):
        text = [{"type": "output_text", "text": "yes", "annotations": []}]
        item = {"type": "message", "id": "i", "role": "assistant", "status": "completed"}
        whole = {"id": "resp_1", "object": "response", "status": "completed", "model": "m"}
        return {**whole, "output": [{**item, "content": text}]}
    message = {"role": "assistant", "content": "yes"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}


def _events(path: str) -> list[bytes]:
    if path.endswith("/messages"):
        message = {**_answer(path), "content": [], "stop_reason": None}
        text = {"type": "text_delta", "text": "yes"}
        block = {"type": "text", "text": ""}
        return [
            _named("message_start", {"message": message}),
            _named("content_block_start", {"index": 0, "content_block": block}),
            _named("content_block_delta", {"index": 0, "delta": text}),
            _named("content_block_stop", {"index": 0}),
            _named("message_delta", {"delta": {"stop_reason": "end_turn"}, "usage": {}}),
            _named("message_stop", {}),
        ]
    if path.endswith("/responses"):
        begun = {**_answer(path), "status": "in_progress", "output": []}
        delta = {"item_id": "i", "output_index": 0, "content_index": 0, "delta": "yes"}
        return [
            _named("response.created", {"response": begun}),
            _named("response.output_text.delta", delta),
            _named("response.completed", {"response": _answer(path)}),
        ]
    common = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    said = {"index": 0, "delta": {"role": "assistant", "content": "yes"}, "finish_reason": None}
    ended = {"index": 0, "delta": {}, "finish_reason": "stop"}
    chunks = [json.dumps({**common, "choices": [choice]}) for choice in (said, ended)]
    return [f"data: {data}\n\n".encode() for data in (*chunks, "[DONE]")]


def _named(kind: str, of: dict[str, Any]) -> bytes:
    data = json.dumps({"type": kind, **of})
    return f"event: {kind}\ndata: {data}\n\n".encode()
