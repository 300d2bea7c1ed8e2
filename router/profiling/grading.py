"""From an answer to what it is worth."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import httpx
import msgspec
from msgspec import Struct

from router.endpoints.catalog import Endpoint
from router.profiling import judge as judges
from router.profiling.asking import LONGEST_REST_S, Came, Got, ask
from router.profiling.check_command import BY_CODE, refusal_of
from router.profiling.graders import fits, is_expected
from router.profiling.money import cost_usd
from router.profiling.no_answer import NoAnswer
from router.profiling.plan import most_at_once
from router.profiling.prompts import ProfilePrompt

WAITS = 6
"""So often a judge that has no room is waited for."""


class Grade(Struct, frozen=True):
    """What an answer is worth; quality None: nothing could grade it."""

    quality: float | None
    by: str
    judge_usd: float = 0.0
    said: str = ""  # why there is none, or what is odd about it


async def grade(prompt: ProfilePrompt, message: dict[str, object], text: str) -> Grade:
    """Return what a prompt's own grader says of an answer."""
    grader = prompt.grader
    if grader is None:
        raise ValueError("a prompt without a grader is for a judge")
    if grader.kind == "expected":
        return Grade(float(is_expected(grader.accepted, text)), grader.kind)
    if grader.kind == "schema":
        # In a thread: a pattern may take its time, and calls are under way meanwhile.
        return Grade(float(await asyncio.to_thread(fits, grader.schema, text)), grader.kind)
    told = {"messages": prompt.body["messages"], "answer": text, "message": message}
    try:
        why = await refusal_of(grader.command, msgspec.json.encode(told))
        return Grade(
            float(not why),
            grader.kind,
            said="" if why.startswith(BY_CODE) or not why else f"the check {why}",
        )
    except OSError as error:
        return Grade(
            None,
            grader.kind,
            said=f"the check {grader.command[0]} cannot be run ({error.strerror})",
        )


class Judge:
    """The endpoint that grades, and how that went."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        endpoint: Endpoint,
        *,
        why: Callable[[Endpoint, Got], NoAnswer] = lambda _, got: NoAnswer(got.said, ""),
    ) -> None:
        self.endpoint = endpoint
        self.graded = 0
        self.asked = 0
        self.fault = ""  # why it cannot grade anything
        self._client, self._why = client, why
        self._room = asyncio.Semaphore(most_at_once(endpoint))

    async def grade(
        self,
        prompt: ProfilePrompt,
        text: str,
        *,
        guess_usd: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> Grade | None:
        """Return what the judge says; None where it could not be asked now.

        Args:
            guess_usd: what a call costs where its answer does not say what it used.
        """
        self.asked += 1
        spent, waits, tries = 0.0, 0, 0
        body = judges.judging(self.endpoint, prompt.body, text)
        while tries < judges.TRIES:
            got = await self._ask(prompt, body)
            if got.came is Came.LATER and waits < WAITS:
                await sleep(min(got.rest_s * 2**waits, LONGEST_REST_S))
                waits += 1
                continue
            if got.came in (Came.LATER, Came.FAULT):
                if got.came is Came.FAULT:
                    self.fault = str(self._why(self.endpoint, got))
                return None if not tries else Grade(None, "judge", spent, got.said)
            tries += 1
            if got.came is not Came.ANSWER:
                body.pop("temperature", None)  # some take none
                continue
            usd = self._usd(got)
            spent += guess_usd if usd is None else usd
            score = judges.score_of(got.text)
            if score is not None:
                self.graded += 1
                return Grade(score, "judge", spent)
        if got.came is Came.ANSWER:
            return Grade(None, "judge", spent, "the judge gave no score")
        why = self._why(self.endpoint, got).kept
        return Grade(None, "judge", spent, f"the judge did not answer: {why}")

    async def _ask(self, prompt: ProfilePrompt, body: dict[str, object]) -> Got:
        async with self._room:
            return await ask(
                self._client,
                self.endpoint,
                body,
                data_class=prompt.data_class,
                may_fault=not self.graded,
            )

    def _usd(self, got: Got) -> float | None:
        return cost_usd(self.endpoint, got.usage, at_s=time.time(), machine_s=got.seconds)
