"""Running a plan: workers that take calls by turns, with one eye on the money.

What is set aside for calls under way and what is spent never come to more than is allowed, so that
only calls which cost more than was guessed can exceed it: one a worker at most.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import httpx
import msgspec

from router.endpoints.catalog import Endpoint
from router.endpoints.machine_time import MachineTime
from router.profiling.asking import Came, Got, ask
from router.profiling.fitting import ask_as_taken
from router.profiling.grading import Grade, Judge, grade
from router.profiling.log import LogLine, RunLog
from router.profiling.money import cost_usd
from router.profiling.no_answer import NoAnswer
from router.profiling.plan import Ask, ProfilePlan, fair
from router.profiling.refused_fields import is_of_shape
from router.profiling.results import ProfileResult
from router.profiling.states import EndpointState, ProfileProgress

FAULTS = 3
"""So many calls in a row, of which none can succeed, end an endpoint's part."""
MOST_REST_S = 300.0
"""So long in all an endpoint that has no room is waited for, from one answer to the next."""
BAD_JUDGEMENTS = 5
"""So many answers a judge may leave ungraded before it has graded any."""


class Runner:
    """Runs a plan; what it did is in the log."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        plan: ProfilePlan,
        log: RunLog,
        *,
        max_usd: float,
        workers: int,
        on_progress: Callable[[ProfileProgress], None] = lambda _: None,
        why: Callable[[Endpoint, Got], NoAnswer] = lambda _, got: NoAnswer(got.said, ""),
        lost: Callable[[str], int] = lambda _: 0,
    ) -> None:
        """Prepare.

        Args:
            lost: says how many attempts at an endpoint failed since, and may be paid for.
        """
        self.judge = Judge(client, plan.judge, why=why) if plan.judge is not None else None
        answering = log.logged.answering
        self.states = {
            e.id: EndpointState(e, answered_before=e.id in answering) for e in plan.endpoints
        }
        self.dropped: Counter[str] = Counter()  # calls that our own rules refused, by why
        self.odd: Counter[str] = Counter()  # grades that say more than they count
        self.out_of_money = False
        self.n_estimated = 0
        self._client, self._plan, self._log = client, plan, log
        self._max_usd, self._workers = max_usd, workers
        self._pending = list(plan.asks)
        self._total = len(plan.asks)
        self._done = 0
        self._under_way: dict[tuple[str, str], Ask] = {}
        self._reserved_usd = 0.0
        self._is_tight = plan.spent_usd + plan.usd > max_usd
        self._machines = MachineTime()
        self._changed = asyncio.Condition()
        self.is_stopping = False
        self._on_progress, self._why, self._lost = on_progress, why, lost

    async def run(self) -> None:
        """Send what is to be sent; end early once asked to, or out of money.

        Raises:
            OSError: the log cannot be written.
        """
        working = [asyncio.create_task(self._work()) for _ in range(self._workers)]
        ended = await asyncio.gather(*working, return_exceptions=True)
        for each in ended:
            if isinstance(each, BaseException):
                raise each  # the others have finished what they had begun

    async def stop(self) -> None:
        """Begin nothing more."""
        self.is_stopping = True
        async with self._changed:
            self._changed.notify_all()

    @property
    def progress(self) -> ProfileProgress:
        """How far it is."""
        now = time.monotonic()
        resting = {i: s.rests_until - now for i, s in self.states.items() if s.rests_until > now}
        spent = self._log.logged.spent_usd
        return ProfileProgress(self._done, self._total, spent, len(self._under_way), resting)

    @property
    def left(self) -> list[Ask]:
        """What was not sent, of endpoints that may still answer."""
        return [a for a in self._pending if not self.states[a.endpoint.id].stopped]

    async def _work(self) -> None:
        while (taken := await self._take()) is not None:
            state = self.states[taken.endpoint.id]
            try:
                await self._call(taken, state)
            except Exception:
                self.is_stopping = True
                raise
            finally:
                async with self._changed:
                    state.under_way -= 1
                    del self._under_way[taken.cell]
                    self._reserved_usd -= taken.reserved_usd
                    self._changed.notify_all()
            self._on_progress(self.progress)

    async def _take(self) -> Ask | None:
        """Return the next call, once there is room for it; None: there is none any more."""
        async with self._changed:
            while True:
                if self.is_stopping or self.out_of_money:
                    return None
                found = self._next()
                if found is not None and self._is_affordable(found):
                    self._pending.remove(found)
                    self._under_way[found.cell] = found
                    self.states[found.endpoint.id].under_way += 1
                    self._reserved_usd += found.reserved_usd
                    return found
                if found is not None and not self._under_way:
                    self.out_of_money = True
                    self._changed.notify_all()
                    return None
                if not self._pending and not self._under_way:
                    return None
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._rest_s()):
                        await self._changed.wait()

    def _next(self) -> Ask | None:
        """Return the first call whose endpoint has room."""
        now = time.monotonic()
        self._pending = self.left
        last = fair(self._pending, self._under_way.values()) if self._is_tight else None
        for each in self._pending:
            state = self.states[each.endpoint.id]
            if last is not None and each.turn > last:
                return None
            if state.under_way < state.room and state.rests_until <= now:
                return each
        return None

    def _is_affordable(self, each: Ask) -> bool:
        spent = self._log.logged.spent_usd  # of what is judged now twice: too much, for a moment
        return spent + self._reserved_usd + each.reserved_usd <= self._max_usd

    def _rest_s(self) -> float | None:
        now = time.monotonic()
        left = [s.rests_until - now for s in self.states.values() if s.rests_until > now]
        return min(left, default=None)

    async def _call(self, taken: Ask, state: EndpointState) -> None:
        prompt, endpoint = taken.prompt, taken.endpoint
        self._write("begin", taken, usd=taken.usd or 0.0)
        began = time.monotonic()
        machine = self._machines.begin(endpoint.digest, began)
        send = partial(self._send, taken, state)
        got, changes = await ask_as_taken(send, prompt.body, state.changes)
        machine_s = self._machines.end(endpoint.digest, time.monotonic(), machine)
        self._note_lost(taken, endpoint, taken.usd)
        if got.came is Came.ANSWER:
            state.note_answer()
            for refused in state.turned_down:
                self._failed(*refused, state)
            state.turned_down.clear()
            await self._answered(taken, got, machine_s, tuple(map(str, changes)))
        elif got.came is Came.FAILURE or (got.came is Came.TURNED_DOWN and state.answers):
            self._failed(taken, got, state)
        else:
            self._put_back(taken, state, got)

    def _note_lost(self, taken: Ask, endpoint: Endpoint, usd: float | None) -> None:
        """Count what attempts may have cost of which no answer came; each at its estimate."""
        n = self._lost(endpoint.id)
        if n and usd:
            self._write("lost", taken, usd=n * usd)

    async def _send(self, taken: Ask, state: EndpointState, body: dict[str, Any]) -> Got:
        digest, name = taken.cell
        return await ask(
            self._client,
            taken.endpoint,
            body,
            task=taken.task,
            data_class=taken.prompt.data_class,
            reference=f"profile:{self._log.logged.run}:{digest}:{name}"[:128],
            may_fault=not state.answered,
        )

    def _failed(self, taken: Ask, got: Got, state: EndpointState) -> None:
        """End a call that got no answer: of quality 0, as its user would have found it.

        A refusal of how it was said is no word on quality, and counts neither way.
        """
        why = self._why(taken.endpoint, got)
        state.why, state.said[why.kept] = str(why), why.said
        if got.came is Came.TURNED_DOWN and is_of_shape(got.said, got.code, got.param):
            self._end(taken, None, got, why=why.kept)
            return
        digest, name = taken.cell
        self._end(
            taken,
            ProfileResult(digest, taken.task, name, 0.0, 0.0, got.seconds, ok=False, why=why.kept),
            got,
        )

    def _put_back(self, taken: Ask, state: EndpointState, got: Got) -> None:
        """Have a call that came to nothing be made later, or by a later run."""
        self._write("back", taken)
        if got.came is Came.REFUSED:
            self.dropped[f"{taken.endpoint.id}: {got.said}"] += 1
            self._done += 1
            return
        state.why = str(self._why(taken.endpoint, got))
        if got.came in (Came.FAULT, Came.TURNED_DOWN):
            state.faults += 1
            if state.faults >= FAULTS:
                state.stopped = state.why
        else:
            state.rest(got.rest_s, time.monotonic())
            if state.rested_s > MOST_REST_S:
                state.stopped = f"no room for {MOST_REST_S / 60:.0f} minutes: {state.why}"
        if got.came is Came.TURNED_DOWN:
            state.turned_down.append((taken, got))  # another prompt may fare better
        elif not state.stopped:
            self._pending.insert(0, taken)

    async def _answered(
        self, taken: Ask, got: Got, machine_s: float, changes: tuple[str, ...]
    ) -> None:
        prompt, endpoint = taken.prompt, taken.endpoint
        usd = self._usd(taken, got, machine_s)
        usage = got.usage
        result = ProfileResult(
            prompt.digest,
            taken.task,
            endpoint.id,
            None,
            usd,
            got.seconds,
            tokens_in=usage.prompt_tokens if usage else 0,
            tokens_out=usage.completion_tokens if usage else 0,
        )
        if prompt.grader is not None and prompt.grader.kind != "check":
            found = await grade(prompt, got.message, got.text)
            self._end(taken, _graded(result, found), got, changes=changes)
            return
        self._write(
            "answer",
            taken,
            usd=usd,
            answer=msgspec.json.encode(got.message).decode(),
            decision=got.decision,
            result=result,
            changes=changes,
        )
        await self.grade_kept(taken)

    def _usd(self, taken: Ask, got: Got, machine_s: float) -> float:
        tier = taken.endpoint.params.get("service_tier")
        usd = cost_usd(
            taken.endpoint,
            got.usage,
            at_s=time.time(),
            machine_s=machine_s,
            asked_tier=json.loads(tier) if tier else None,
        )
        if usd is None and taken.usd is not None:
            self.n_estimated += 1
        return usd if usd is not None else taken.usd or 0.0

    async def grade_kept(self, taken: Ask) -> None:
        """Grade an answer that the log keeps."""
        kept = self._log.logged.answered[taken.cell]
        if kept.result is None:
            return
        message = msgspec.json.decode(kept.answer)
        text = message.get("content") if isinstance(message.get("content"), str) else ""
        if taken.prompt.grader is not None:
            found = await grade(taken.prompt, message, text)
        elif taken.cell in self._log.logged.judged:
            cut_off = self._log.logged.judged[taken.cell]
            found = Grade(None, "judge", cut_off, "its judgement was cut off")
        else:
            judged = await self._judged(taken, text or kept.answer)
            if judged is None:
                return
            found = judged
        if found.said:
            self.odd[found.said] += 1
        got = Got(Came.ANSWER, kept.result.latency_s, decision=kept.decision)
        self._end(taken, _graded(kept.result, found), got, changes=kept.changes)

    async def _judged(self, taken: Ask, text: str) -> Grade | None:
        judge = self.judge
        if judge is None or judge.fault:
            return None
        self._write("judge", taken, usd=taken.judge_usd)
        found = await judge.grade(taken.prompt, text, guess_usd=taken.judge_usd)
        self._note_lost(taken, judge.endpoint, taken.judge_usd)
        if found is None:
            self._write("unjudge", taken)
        failing = judge.asked >= BAD_JUDGEMENTS and not judge.graded
        if judge.fault or failing:
            await self.stop()
        return found

    def _end(self, taken: Ask, result: ProfileResult | None, got: Got, **more: object) -> None:
        self._done += 1
        self._write("end", taken, result=result, decision=got.decision, **more)

    def _write(self, do: str, taken: Ask, **more: object) -> None:
        prompt, endpoint = taken.cell
        entry = LogLine(do, time.time(), prompt=prompt, endpoint=endpoint, **more)  # type: ignore[arg-type]
        self._log.write(entry)


def _graded(result: ProfileResult, found: Grade) -> ProfileResult:
    return msgspec.structs.replace(
        result, quality=found.quality, graded_by=found.by, judge_usd=found.judge_usd
    )
