"""Sends prompts and their changes to two processes by turns, and notes who answered."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from msgspec import Struct, structs

from scripts.proofs.line_client import LineClient
from scripts.proofs.steady_requests import TASKS, AskedPrompt, Asker, Change, ClientKind, prompt_of
from scripts.proofs.steady_units import SteadyCall, UnitFound, judge_unit, slot_of
from scripts.proofs.steady_world import APPS, CALM, QUALITY, REFUSAL, SteadyProvider
from scripts.proofs.within import GivenAnswer, SentRequest

ROUNDS = 4
"""Prompts of each asker; all have their first before anybody has a second."""
AT_ONCE = 8
KINDS = ("session", "user", "none")
SHARES = (0.4, 0.3, 0.3)
"""Of all askers, by kind."""
STREAMED = 0.3
LONG_IN, CONFIDENTIAL_IN, LABELLED = 20, 40, 0.6
"""One prompt of so many is too long for one endpoint, or confidential; the share with a label."""
OK = 200
BATCH = 40
"""Labels that are sent together."""
OUT_S = 1.5
BREAKER_S = 60.0
"""So long after an endpoint was down its breaker may be open, or take it back slowly."""
N_DRY = 200
CHANGES = (Change.NONE, Change.WORD, Change.FIRST, Change.LENGTH, Change.TURN)


class UnitName(Struct, frozen=True):
    """By which a unit is told."""

    kind: str
    app: str
    who: str  # session or user; empty of neither
    task: str
    slot: int


class ChangedPrompt(Struct, frozen=True):
    """A prompt as it comes once more."""

    request: SentRequest
    change: Change
    is_constrained: bool  # it, or its session, forbids some endpoints


class SteadyPlay:
    """All calls of a proof, and what they showed."""

    def __init__(self, seed: int, provider: SteadyProvider, ports: Sequence[int]) -> None:
        self.random = Random(seed)  # noqa: S311 - a test's dice
        self.provider = provider
        self.clients = [LineClient(port) for port in ports]
        self.units: defaultdict[UnitName, list[SteadyCall]] = defaultdict(list)
        self.counts: Counter[str] = Counter()
        self.versions: list[set[str]] = [set() for _ in ports]
        self.shares: list[Counter[str]] = [Counter() for _ in range(ROUNDS)]
        self.shown: list[dict[str, Any]] = []
        self._labels: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self._sensitive: set[str] = set()  # sessions

    async def run(self, n_prompts: int) -> None:
        """Play so many prompts, or a few more."""
        askers = list(self._askers(-(-n_prompts // ROUNDS)))
        await self._draw_dry(askers)
        for nth in range(ROUNDS):
            self.random.shuffle(askers)
            waiting = iter(askers)
            outage = asyncio.create_task(self._outage()) if nth == 1 else None
            await asyncio.gather(*(self._work(waiting, nth) for _ in range(AT_ONCE)))
            if outage is not None:
                await outage
        for client in self.clients:
            await client.close()

    def found(self) -> UnitFound:
        """Return what became of all units."""
        found = UnitFound()
        for unit, calls in self.units.items():
            told = f"{unit.kind} {unit.who} of {unit.app}, {unit.task}, {unit.slot}"
            found.add(judge_unit(told, unit.task, calls, self._was_down))
        return found

    def _was_down(self, endpoint: str, call: SteadyCall) -> bool:
        return self.provider.was_down(endpoint, call.sent_at - BREAKER_S, call.got_at)

    def _askers(self, n: int) -> Iterator[tuple[str, Asker, str]]:
        """Yield kind, asker, and the task of its session."""
        for number in range(n):
            random = self.random
            (kind,) = random.choices(KINDS, SHARES)
            client = random.choice(list(ClientKind))
            who = {kind: f"{kind}-{number}-{random.getrandbits(32):x}"}
            asker = Asker(client, random.choice(APPS), who.get("session", ""), who.get("user", ""))
            yield kind, asker, random.choice(TASKS)

    async def _draw_dry(self, askers: Sequence[tuple[str, Asker, str]]) -> None:
        """Hold what both processes would draw for a unit against each other, words changed.

        Nothing is labelled yet: they believe the same.
        """
        for _, asker, task in askers[:N_DRY]:
            prompt, seen = prompt_of(task, self.random), set()
            for client in self.clients:
                for change in (Change.NONE, Change.WORD, Change.FIRST):
                    dry = {"x-router-dry-run": "1"}
                    asked = prompt.changed(change, self.random)
                    got = await client.send(asker.request(asked, hints=dry))
                    told = json.loads(got.body)
                    seen.add((told.get("endpoint"), told.get("task")))
            self.counts["dry_runs"] += 1
            if len(seen) != 1:
                self.counts["dry_differ"] += 1
                self.shown.append({"fault": "dry runs differ", "seen": sorted(map(str, seen))})

    async def _outage(self) -> None:
        await asyncio.sleep(0.5)
        self.provider.out.add(CALM)
        await asyncio.sleep(OUT_S)
        self.provider.out.discard(CALM)

    async def _work(self, waiting: Iterator[tuple[str, Asker, str]], nth: int) -> None:
        for kind, asker, task in waiting:
            task = task if kind == "session" else self.random.choice(TASKS)
            await self._prompt(kind, asker, prompt_of(task, self.random), nth)

    async def _prompt(self, kind: str, asker: Asker, prompt: AskedPrompt, nth: int) -> None:
        """Send a prompt and its changes, by turns at each process."""
        random, slot = self.random, None
        begins = random.randrange(len(self.clients))
        for number, one in enumerate(self._changed(asker, prompt)):
            process = (begins + number) % len(self.clients)
            sent_s, sent_at = time.time(), time.monotonic()
            got = await self.clients[process].send(one.request)
            got_at = time.monotonic()
            self.counts["calls"] += 1
            of_call = slot_of(kind, sent_s, time.time())
            slot = of_call if one.change is Change.NONE else slot
            if got.status != OK:
                self._note_unanswered(got, asker, one.change)
            elif of_call is None or of_call != slot:
                self.counts["at_a_slots_end"] += 1  # another slot, or either of two
            else:
                call = _call(one, got, process, sent_at, got_at, f"{asker.kind}: {one.change}")
                if call.attempts > 1:
                    decision_id = got.headers["x-router-decision-id"]
                    ended = await self._ending_of(asker, process, decision_id)
                    call = structs.replace(call, ended=ended)
                who = asker.session or asker.user
                self.units[UnitName(kind, asker.app, who, prompt.task, slot)].append(call)
                self.versions[process].add(got.headers["x-router-posterior-version"])
                if one.change is Change.NONE:
                    self.shares[nth][call.endpoint] += 1
                await self._label(asker, call, got.headers["x-router-decision-id"])

    def _changed(self, asker: Asker, prompt: AskedPrompt) -> Iterator[ChangedPrompt]:
        """Yield a prompt and its changes; now and then one forbids the endpoint of its unit."""
        random = self.random
        is_long = random.randrange(LONG_IN) == 0
        confidential = random.choice(CHANGES) if random.randrange(CONFIDENTIAL_IN) == 0 else None
        for change in CHANGES:
            hints = {"x-router-data-class": "confidential"} if change is confidential else {}
            if hints and asker.session:
                self._sensitive.add(asker.session)
            asked = prompt.changed(change, random, is_long=is_long)
            request = asker.request(asked, streamed=random.random() < STREAMED, hints=hints)
            forbids = bool(hints) or (change is Change.LENGTH and is_long)
            yield ChangedPrompt(request, change, forbids or asker.session in self._sensitive)

    def _note_unanswered(self, got: GivenAnswer, asker: Asker, change: Change) -> None:
        """Count a call that got no answer; only a provider's refusal may come instead."""
        if got.status == REFUSAL:
            self.counts["refused"] += 1
            return
        self.counts["unanswered"] += 1
        said = got.body[:300].decode(errors="replace")
        self.shown.append({"unanswered": got.status, "sent": f"{asker.kind}: {change}, {said}"})

    async def _ending_of(self, asker: Asker, process: int, decision_id: str) -> str:
        """Return by what a draw ended, as the explanation of the decision has it."""
        path = f"/v1/router/decisions?id={decision_id}"
        headers = {"authorization": f"Bearer {asker.app}"}
        got = await self.clients[process].send(SentRequest(path, headers, b"", "GET"))
        self.counts["explained"] += got.status == OK
        told = json.loads(got.body) if got.status == OK else {}
        return str((told.get("ended") or {}).get("kind", ""))

    async def _label(self, asker: Asker, call: SteadyCall, decision_id: str) -> None:
        """Say of some answers how good they were, in batches."""
        if self.random.random() > LABELLED:
            return
        is_good = self.random.random() < QUALITY[call.endpoint]
        waiting = self._labels[asker.app]
        waiting.append({"decision_id": decision_id, "passed": is_good})
        if len(waiting) >= BATCH:
            items, self._labels[asker.app] = waiting, []
            headers = {"authorization": f"Bearer {asker.app}"}
            body = json.dumps(items).encode()
            sent = SentRequest("/v1/feedback", headers, body)
            got = await self.clients[call.process].send(sent)
            self.counts["labels"] += len(items) if 200 <= got.status < 300 else 0


def _call(
    one: ChangedPrompt,
    got: GivenAnswer,
    process: int,
    sent_at: float,
    got_at: float,
    told: str,
) -> SteadyCall:
    return SteadyCall(
        process,
        sent_at,
        got_at,
        got.headers["x-router-endpoint"],
        got.headers["x-router-task"],
        got.headers["x-router-reason"],
        int(got.headers["x-router-attempts"]),
        one.is_constrained,
        one.change is Change.TURN,
        told=told,
    )
