"""Plays faults to the real SDK through the sidecar, and notes what its client sees."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import aiohttp
import openai
from openai import AsyncOpenAI

from scripts.proofs.faults import DOWN, DOWN_S, HEALTHY, SPARE, SixteenFaults
from scripts.proofs.replies import TEXT
from scripts.proofs.verdicts import RETURN_S, CallEnd, CallView, FaultRun

AT_ONCE, QUICK_AT_ONCE = 32, 6
"""Runs of a mode. Where waits are short, so are the limits that they are held to: then what is
measured must not be how busy this machine is."""
HANG_S = 60.0
"""Nobody waits longer; no fault needs as much."""
LEAST_HANG_S = 12.0
"""However short the provider's waits: ours of a few seconds do not shrink."""
CALLS, CALL_EVERY_S = 20, 4.0
"""Of the endpoint that is down for a while."""
WARM_CALLS = 15
"""Each earns a fifth of a repeat: together the three that a fresh process has. So a run finds the
budget of repeats as a sidecar of its own would."""
DOWN_CALLS = 30


@dataclass(frozen=True, slots=True)
class FaultCase:
    """One fault to be played once, under a key and to endpoints of its own."""

    fault: int
    run: int
    streamed: bool = True

    @property
    def model(self) -> str:
        """The primary's name, as endpoint and at the provider."""
        return f"{self.fault}.{self.run}" if self.streamed else f"{self.fault}.{self.run}-whole"

    @property
    def spare(self) -> str:
        """The name of the healthy one beside it."""
        return f"{self.model}.{SPARE}"


@dataclass(slots=True)
class FaultPlayer:
    """Calls one sidecar; the app's key is the name of its primary."""

    url: str
    sdk: AsyncOpenAI
    script: SixteenFaults

    @property
    def scale(self) -> float:
        """How much shorter the provider's waits are."""
        return self.script.scale

    async def play_all(self, cases: Sequence[FaultCase]) -> list[FaultRun]:
        """Play every case, many at once; the longest begin first."""
        gate = asyncio.Semaphore(AT_ONCE if self.scale == 1 else QUICK_AT_ONCE)
        order = sorted(cases, key=lambda case: (case.fault != 15, case.run))

        async def played(case: FaultCase) -> FaultRun:
            async with gate:
                return await self._play(case)

        runs = await asyncio.gather(*(played(case) for case in order))
        return list(runs)

    async def all_down(self) -> tuple[int, int]:
        """Call where every endpoint is down; return how many calls and attempts that made."""
        for _ in range(DOWN_CALLS):
            await self._call(DOWN, streamed=True, began=time.monotonic())
        attempts = self.script.attempts
        n_attempts = sum(len(times) for name, times in attempts.items() if name.startswith(DOWN))
        return DOWN_CALLS, n_attempts

    async def _play(self, case: FaultCase) -> FaultRun:
        await self._warm()
        began = time.monotonic()
        if case.fault == 15:
            calls = await self._call_for_a_while(case, began)
        else:
            calls = [await self._call(case.model, streamed=case.streamed, began=began)]
        seen = self.script.attempts
        return FaultRun(
            fault=case.fault,
            streamed=case.streamed,
            primary_model=case.model,
            calls=tuple(calls),
            primary=tuple(at - began for at in seen[case.model]),
            spare=tuple(at - began for at in seen[case.spare]),
            scale=self.scale,
            alive=await self._is_alive(),
        )

    async def _call_for_a_while(self, case: FaultCase, began: float) -> list[CallView]:
        """Call at a steady pace, until the primary is back or is late."""
        calls: list[CallView] = []
        until_s = DOWN_S * self.scale + RETURN_S
        while True:
            calls.append(await self._call(case.model, streamed=True, began=began))
            is_back = calls[-1].model == case.model
            if len(calls) >= CALLS and (is_back or calls[-1].ended_s > until_s):
                return calls
            due = began + len(calls) * CALL_EVERY_S * self.scale
            await asyncio.sleep(max(due - time.monotonic(), 0))

    async def _call(self, key: str, *, streamed: bool, began: float) -> CallView:
        view = CallView(CallEnd.HANG, time.monotonic() - began, 0.0)
        try:
            async with asyncio.timeout(max(HANG_S * self.scale, LEAST_HANG_S)):
                view = await (self._stream if streamed else self._whole)(key, view)
        except TimeoutError:
            pass
        except openai.APIStatusError as error:
            view = _told(view, error, f"{error.status_code} ")
        except (openai.APIConnectionError, openai.APIResponseValidationError) as error:
            view = replace(view, end=CallEnd.BROKEN, error=type(error).__name__)
        except openai.APIError as error:
            view = _told(view, error, "in-band ")
        except Exception as error:  # whatever an SDK raises that is no error of its own
            view = replace(view, end=CallEnd.BROKEN, error=type(error).__name__)
        return replace(view, ended_s=time.monotonic() - began)

    async def _stream(self, key: str, view: CallView) -> CallView:
        text, finish = "", None
        async for chunk in await self.sdk.with_options(api_key=key).chat.completions.create(
            model="auto",
            messages=[{"role": "user", "content": "tell me of the pilot"}],
            stream=True,
            stream_options={"include_usage": True},
        ):
            view = replace(view, model=chunk.model)
            for choice in chunk.choices:
                text += choice.delta.content or ""
                finish = choice.finish_reason or finish
            if chunk.usage is not None:
                view = replace(view, prompt_tokens=chunk.usage.prompt_tokens)
        is_whole = text == TEXT and finish == "stop"
        return replace(view, end=CallEnd.WHOLE if is_whole else CallEnd.CUT)

    async def _whole(self, key: str, view: CallView) -> CallView:
        reply = await self.sdk.with_options(api_key=key).chat.completions.create(
            model="auto", messages=[{"role": "user", "content": "tell me of the pilot"}]
        )
        is_whole = reply.choices[0].message.content == TEXT
        n_prompt = reply.usage.prompt_tokens if reply.usage else None
        end = CallEnd.WHOLE if is_whole else CallEnd.CUT
        return replace(view, end=end, model=reply.model, prompt_tokens=n_prompt)

    async def _warm(self) -> None:
        body = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
        headers = {"authorization": f"Bearer {HEALTHY}"}
        async with aiohttp.ClientSession() as http:
            for _ in range(WARM_CALLS):
                url = f"{self.url}/chat/completions"
                async with http.post(url, json=body, headers=headers) as reply:
                    await reply.read()

    async def _is_alive(self) -> bool:
        try:
            async with (
                aiohttp.ClientSession() as http,
                http.get(self.url.removesuffix("/v1") + "/livez") as reply,
            ):
                return reply.status == 200
        except aiohttp.ClientError:
            return False


def _told(view: CallView, error: openai.APIError, prefix: str) -> CallView:
    """Return what an error says; one without a word of the provider's or ours is none."""
    has_words = isinstance(error.body, dict) and bool(error.body.get("message"))
    end = CallEnd.ERROR if has_words else CallEnd.BROKEN
    return replace(view, end=end, error=f"{prefix}{error.code}: {error.message}"[:200])
