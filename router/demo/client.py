"""The demo's client: an app as somebody would write it, that calls, waits and judges."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from router.demo.simulator import TOOL, ProviderBooks
from router.demo.stack import Stack
from telemetry.recorded import Recorded, Selection

FOLLOW_UP_SHARE = 0.25
"""One session in four has a second call."""
STREAMED_SHARE = 0.25
TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """What to run."""

    outcomes: Path | None
    selection: Selection
    requests: int
    seed: int
    concurrency: int
    time_scale: float
    feedback_delay_s: float
    incumbent: str | None = None
    tool_calls: bool = False  # answers call a tool, validly in proportion to their quality
    feedback: bool = True
    budget_usd_per_1k: float | None = None  # of an hour that ends as the calls do
    calls_per_s: float | None = None  # None: as many as come to be made
    begins_s: float = 0.0  # epoch seconds from which on they come, at `calls_per_s`


@dataclass(frozen=True, slots=True)
class Session:
    """Prompts of one conversation, and the places of its calls among all calls."""

    id: str
    prompts: tuple[int, ...]
    first_call: int
    streamed: bool


@dataclass(slots=True)
class ClientLedger:
    """What the client saw: the endpoint that served each call, and the feedback it sent."""

    served: NDArray[np.intp]  # (requests,) endpoint index, -1 where the call failed
    prompts: NDArray[np.intp]  # (requests,)
    failures: list[str] = field(default_factory=list)
    feedback: int = 0
    feedback_failures: int = 0


def sessions(table: Recorded, *, requests: int, seed: int) -> Iterator[Session]:
    """Yield conversations until all calls are given out; a follow-up stays in its category."""
    rng = np.random.default_rng(seed)
    by_category = [np.flatnonzero(table.category == c) for c in range(len(table.categories))]
    call = number = 0
    while call < requests:
        prompts = [int(rng.integers(len(table.prompts)))]
        if rng.random() < FOLLOW_UP_SHARE and call + 1 < requests:
            prompts.append(int(rng.choice(by_category[table.category[prompts[0]]])))
        streamed = bool(rng.random() < STREAMED_SHARE)
        yield Session(f"demo-{seed}-{number}", tuple(prompts), call, streamed)
        call += len(prompts)
        number += 1


async def drive(
    settings: DemoSettings, table: Recorded, ports: tuple[int, int], processes: Stack
) -> tuple[ClientLedger, ProviderBooks]:
    """Run all sessions; return the client's ledger and the simulated endpoints' books."""
    router, simulator = ports
    ledger = ClientLedger(
        np.full(settings.requests, -1, dtype=np.intp), np.zeros(settings.requests, dtype=np.intp)
    )
    waiting = iter(sessions(table, requests=settings.requests, seed=settings.seed))
    base = f"http://127.0.0.1:{router}/v1"
    async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as http:
        judge = asyncio.TaskGroup()
        client = _Client(http, base, table, ledger, settings, judge)
        progress = asyncio.create_task(_progress(ledger, settings.requests))
        nurse = asyncio.create_task(_revive(processes))
        async with judge:
            workers = [
                asyncio.create_task(_work(client, waiting)) for _ in range(settings.concurrency)
            ]
            await asyncio.gather(*workers)
        progress.cancel()
        nurse.cancel()
        told = await http.get(f"http://127.0.0.1:{simulator}/books")
        books = ProviderBooks.parse(told.content)
    say(f"\r{settings.requests} calls, {ledger.feedback} labels sent" + " " * 20)
    return ledger, books


async def _work(client: _Client, waiting: Iterator[Session]) -> None:
    settings = client.settings
    for session in waiting:
        if settings.calls_per_s is not None:
            due_s = settings.begins_s + session.first_call / settings.calls_per_s
            await asyncio.sleep(max(due_s - time.time(), 0.0))
        await client.converse(session)


@dataclass(slots=True)
class _Client:
    """A client as an app would write it: calls, waits, judges."""

    http: httpx.AsyncClient
    base: str
    table: Recorded
    ledger: ClientLedger
    settings: DemoSettings
    judge: asyncio.TaskGroup

    async def converse(self, session: Session) -> None:
        messages: list[dict[str, Any]] = []
        for turn, prompt in enumerate(session.prompts):
            messages.append({"role": "user", "content": f"replay recorded prompt {prompt}"})
            self.ledger.prompts[session.first_call + turn] = prompt
            answer_id, model, said = await self._call(session, prompt, messages)
            if answer_id is None:
                return
            endpoint = self.table.endpoints.index(model)
            self.ledger.served[session.first_call + turn] = endpoint
            if self.settings.feedback:
                self.judge.create_task(self._judge(answer_id, prompt, endpoint))
            messages.append(said)
            for call in said.get("tool_calls", []):
                result = {"role": "tool", "tool_call_id": call["id"], "content": "done"}
                messages.append(result)

    async def _call(
        self, session: Session, prompt: int, messages: list[dict[str, Any]]
    ) -> tuple[str | None, str, dict[str, Any]]:
        """Make one call; return the answer's id, model and message."""
        headers = {
            "x-router-session-id": session.id,
            "x-router-task": self.table.categories[self.table.category[prompt]],
        }
        body: dict[str, Any] = {"model": "auto", "messages": messages, "stream": session.streamed}
        if self.settings.tool_calls:
            body["tools"] = [TOOL]
        url = f"{self.base}/chat/completions"
        reply = await self.http.post(url, json=body, headers=headers)
        raw = reply.content
        if reply.status_code != 200:
            self.ledger.failures.append(raw[:200].decode(errors="replace"))
            return None, "", {}
        if not session.streamed:
            answer = json.loads(raw)
            return answer["id"], answer["model"], answer["choices"][0]["message"]
        chunks = [json.loads(e[6:]) for e in raw.split(b"\n\n") if e and e != b"data: [DONE]"]
        return chunks[0]["id"], chunks[0]["model"], _message(chunks)

    async def _judge(self, answer_id: str, prompt: int, endpoint: int) -> None:
        await asyncio.sleep(self.settings.feedback_delay_s)
        score = float(self.table.quality[prompt, endpoint])
        body = {"response_id": answer_id, "score": score}
        reply = await self.http.post(f"{self.base}/feedback", json=body)
        if reply.status_code == 202:
            self.ledger.feedback += 1
        else:
            self.ledger.feedback_failures += 1


def _message(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the message that a stream's chunks make up; its tool calls come whole."""
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    message = {"role": "assistant", "content": "".join(d.get("content") or "" for d in deltas)}
    calls = [
        {name: value for name, value in call.items() if name != "index"}
        for delta in deltas
        for call in delta.get("tool_calls", [])
    ]
    return {**message, "content": None, "tool_calls": calls} if calls else message


async def _progress(ledger: ClientLedger, requests: int) -> None:
    began = time.monotonic()
    while True:
        n = int((ledger.served >= 0).sum())
        rate = n / max(time.monotonic() - began, 1e-9)
        say(f"\r{n}/{requests} calls, {ledger.feedback} labels, {rate:.0f} a second ", end="")
        await asyncio.sleep(0.5 if sys.stderr.isatty() else 5)


async def _revive(processes: Stack) -> None:
    """Start the worker again should somebody kill it: that is part of what a demo may show."""
    while True:
        if processes.revive("worker"):
            say("\nthe worker died and was started again")
        await asyncio.sleep(0.5)


def say(text: str, end: str = "\n") -> None:
    """Print to stderr: stdout is for results."""
    print(text, end=end, file=sys.stderr, flush=True)
