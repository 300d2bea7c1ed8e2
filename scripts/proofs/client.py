"""An app that keeps books: calls, feedback, and what became of each. `python -m`, one process.

It knows the wire protocol as the documentation has it, and nothing else of the sidecar: it
imports nothing of ours. What the sidecar has taken is what it said so, by a whole answer or by
a 2xx. Feedback that was cut is sent again, unchanged, until it is taken; a call that was cut is
not, and stays unresolved.

Its instructions are one JSON file: `url`, `tasks` (names), `calls_per_task`, `levels` (scores
that may be given once per task and endpoint), `calls_per_s`, `seed`. At SIGTERM it stops to
call, gives the feedback that is due, writes its books and ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

CALLERS = 8
POSTERS = 4
STREAMED_SHARE = 0.25
BATCHED_SHARE = 0.2
MOST_DELAY_S = 4.0
"""Long enough that a router, a worker and the store have died in between."""
TRY_AGAIN_S = 0.15
DRAIN_S = 60.0
STRENGTH = ("test", "human", "edit", "judge", "derived")
NAMES = ("decision_id", "response_id", "ref")


@dataclass(slots=True)
class BookEntry:
    """One call in the books."""

    number: int
    answered: bool = False
    model: str = ""
    attempts: int = 1
    label: int = -1  # place among the levels of the label that holds
    derived: bool = False  # whether that is only a derived one
    said: dict[str, tuple[int, int | None]] = field(default_factory=dict)  # kind -> revision, level

    def hear(self, kind: str, revision: int, level: int | None) -> None:
        """Note feedback that was taken: of each kind the highest revision holds."""
        if kind not in self.said or revision >= self.said[kind][0]:
            self.said[kind] = revision, level
        holding = [(self.said[k][1], k) for k in STRENGTH if k in self.said]
        found = next(((level, k) for level, k in holding if level is not None), (-1, ""))
        self.label, self.derived = found[0], found[1] == STRENGTH[-1]


@dataclass(frozen=True, slots=True)
class ClientItem:
    """One feedback to give."""

    entry: BookEntry
    name: str
    id: str
    kind: str
    revision: int
    level: int | None  # None retracts


class Client:
    """The app, and its books."""

    def __init__(self, plan: dict[str, Any], http: aiohttp.ClientSession) -> None:
        self._plan = plan
        self._http = http
        self._rng = random.Random(plan["seed"])  # noqa: S311 - a test's dice
        self._url = plan["url"]
        self._parent = os.getppid()
        n = len(plan["tasks"]) * plan["calls_per_task"]
        self._numbers = self._rng.sample(range(n), n)
        self._due: list[ClientItem] = []
        self._delayed: set[asyncio.TimerHandle] = set()
        self._labelled: Counter[tuple[int, str]] = Counter()
        self._n_posting = 0
        self.stop = asyncio.Event()
        self.entries: list[BookEntry] = []
        self.n_feedback = 0
        self.n_cut = 0

    async def run(self) -> None:
        """Call until told to stop, then give what feedback is left."""
        async with asyncio.TaskGroup() as group:
            callers = [group.create_task(self._call_on()) for _ in range(CALLERS)]
            posters = [group.create_task(self._post_on()) for _ in range(POSTERS)]
            await asyncio.gather(*callers)
            await self.stop.wait()
            async with asyncio.timeout(DRAIN_S):
                while self._due or self._delayed or self._n_posting:  # noqa: ASYNC110 - not one event
                    await asyncio.sleep(0.05)
            for poster in posters:
                poster.cancel()

    # -- calls --------------------------------------------------------------------------------

    async def _call_on(self) -> None:
        pause_s = CALLERS / self._plan["calls_per_s"]
        while self._numbers and not self.stop.is_set():
            if os.getppid() != self._parent:
                raise RuntimeError("whoever wanted this run is gone")
            number = self._numbers.pop()
            if await self._call(number) is None:  # nobody listened: the call was never made
                self._numbers.insert(0, number)
                await asyncio.sleep(TRY_AGAIN_S)
                continue
            await asyncio.sleep(self._rng.uniform(0, 2 * pause_s))

    async def _call(self, number: int) -> BookEntry | None:
        streamed = self._rng.random() < STREAMED_SHARE
        ref = f"call {number}"
        headers = {
            "x-router-task": self._plan["tasks"][number // self._plan["calls_per_task"]],
            "x-router-session-id": f"session {number // 2}",
            "x-router-ref": ref,
            "x-router-tags": f"call={number}",
        }
        # Words of its own: two prompts that are alike would be one, edited and asked again.
        words = " ".join(f"{self._rng.getrandbits(64):x}" for _ in range(8))
        message = {"role": "user", "content": f"{words} {number}"}
        body = {"model": "auto", "messages": [message], "stream": streamed}
        entry = BookEntry(number)
        try:
            url = f"{self._url}/v1/chat/completions"
            async with self._http.post(url, json=body, headers=headers) as reply:
                raw = await reply.read()
                answer = read_answer(raw, streamed=streamed) if reply.status == 200 else None
                decision_id = reply.headers.get("x-router-decision-id", "")
                entry.attempts = int(reply.headers.get("x-router-attempts", "1"))
        except aiohttp.ClientConnectorError:
            return None
        except (aiohttp.ClientError, OSError, TimeoutError):
            answer = None
        self.entries.append(entry)
        if answer is None:
            self.n_cut += 1
            return entry
        entry.answered, (answer_id, entry.model) = True, answer
        self._plan_feedback(entry, dict(zip(NAMES, (decision_id, answer_id, ref), strict=True)))
        return entry

    # -- feedback -----------------------------------------------------------------------------

    def _plan_feedback(self, entry: BookEntry, names: dict[str, str]) -> None:
        """Decide what will be said of an answer, and when; the order is left to chance."""
        cell = entry.number // self._plan["calls_per_task"], entry.model
        level = self._labelled[cell]
        self._labelled[cell] += 1
        other = self._rng.randrange(len(self._plan["levels"]))
        if level >= len(self._plan["levels"]):
            said = [("judge", 0, other), ("judge", 1, None)]  # no score is left to tell it by
        else:
            said = self._rng.choice(
                [
                    [("judge", 0, level)],
                    [("test", 7, level)] * 2,  # repeated
                    [("human", 0, other), ("human", 1, level)],  # corrected
                    [("edit", 0, other), ("edit", 3, None), ("edit", 4, level)],
                    [("judge", 5, other), ("test", 0, level)],  # the stronger kind holds
                    [("derived", 0, level), ("human", 0, other), ("human", 1, None)],
                    [("human", 0, other), ("human", 9, None)],  # retracted
                ]
            )
        loop = asyncio.get_running_loop()
        for kind, revision, what in said:
            name = self._rng.choice(NAMES)
            item = ClientItem(entry, name, names[name], kind, revision, what)
            self._delay(item, loop)

    def _delay(self, item: ClientItem, loop: asyncio.AbstractEventLoop) -> None:
        def fall_due() -> None:
            self._delayed.discard(handle)
            self._due.append(item)

        handle = loop.call_later(self._rng.uniform(0, MOST_DELAY_S), fall_due)
        self._delayed.add(handle)

    async def _post_on(self) -> None:
        while True:
            if not self._due:
                await asyncio.sleep(0.02)
                continue
            self._rng.shuffle(self._due)
            n = 4 if self._rng.random() < BATCHED_SHARE else 1
            items, self._due = self._due[:n], self._due[n:]
            self._n_posting += 1
            taken = await self._post(items)
            self._n_posting -= 1
            if not taken:
                self._due += items
                await asyncio.sleep(TRY_AGAIN_S)

    async def _post(self, items: list[ClientItem]) -> bool:
        """Give feedback; return whether it was taken."""
        bodies = [
            {
                i.name: i.id,
                "score": None if i.level is None else self._plan["levels"][i.level],
                "kind": i.kind,
                "revision": i.revision,
            }
            for i in items
        ]
        body = bodies[0] if len(bodies) == 1 else bodies
        try:
            async with self._http.post(f"{self._url}/v1/feedback", json=body) as reply:
                said = await reply.text()
                status = reply.status
        except aiohttp.ClientConnectorError:
            return False
        except (aiohttp.ClientError, OSError, TimeoutError):
            self.n_cut += 1
            return False
        if status >= 500:
            return False
        if not 200 <= status < 300:
            raise RuntimeError(f"sound feedback was turned down with {status}: {said[:300]}")
        for item in items:
            item.entry.hear(item.kind, item.revision, item.level)
            self.n_feedback += 1
        return True

    def books(self) -> dict[str, Any]:
        """Return what this client knows."""
        calls = [{k: v for k, v in asdict(e).items() if k != "said"} for e in self.entries]
        return {"calls": calls, "n_feedback": self.n_feedback, "n_cut": self.n_cut}


def read_answer(raw: bytes, *, streamed: bool) -> tuple[str, str] | None:
    """Return id and model of an answer, or None where it did not come to its end."""
    if not streamed:
        answer = json.loads(raw)
        return answer["id"], answer["model"]
    events = [e for e in raw.split(b"\n\n") if e]
    if not events or events[-1] != b"data: [DONE]":
        return None
    first = json.loads(events[0].removeprefix(b"data: "))
    return first["id"], first["model"]


async def run(plan: dict[str, Any]) -> dict[str, Any]:
    """Be the app until SIGTERM; return the books."""
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        client = Client(plan, http)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, client.stop.set)
        await client.run()
    return client.books()


if __name__ == "__main__":
    found = asyncio.run(run(json.loads(Path(sys.argv[1]).read_text())))
    Path(sys.argv[2]).write_text(json.dumps(found))
