"""What an endpoint really does, by at most five tiny calls of it.

The first says whether it is there, takes our key and knows our model; only then the others are
made. They go through a sidecar of our own, under an app's rules, and are no traffic of that app.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import httpx
from msgspec import Struct, field, structs

from router.dispatch.booking import RESULT_NAMES
from router.endpoints.capabilities import Capability, Reasoning
from router.endpoints.catalog import CALL_PATHS, Endpoint
from router.endpoints.entries import Dialect
from router.endpoints.key_pieces import MOST_READ, holds_piece, without_key
from router.profiling.heard import BEGUN, HeardComplaints, HeardLog
from router.profiling.live_calls import (
    TOOL,
    Body,
    LiveAnswer,
    Probe,
    body_of,
    manner_of,
    path_of,
    read_answer,
    words_in,
)
from router.profiling.live_findings import LiveFinding, of_cut, of_json, of_stream
from router.profiling.live_prices import (
    MOST_CALLS,
    call_nano,
    most_calls,
    over_of,
    probes_of,
    spent_nano,
)
from router.profiling.live_redirects import Redirect, told_of
from router.profiling.live_words import (
    AN_ERROR,
    IN_WORDS,
    OURS,
    STREAM_CUT,
    in_short,
    no_answer_in,
    why_cut,
    with_words,
)
from router.profiling.refused_fields import OF_FIELDS, change_for

BEGUN_NAMES = frozenset(RESULT_NAMES[result] for result in BEGUN)
REPEATED = frozenset({"server", "rate_limit"})
"""Results that may well be others in a moment."""
MOMENT_S, LONGEST_MOMENT_S = 0.5, 5.0
AT_A_TIME = 4
"""Endpoints; of each one call after the other."""
UNFIT = frozenset({400, 404, 405, 415, 422, 501})
"""Statuses that say that a call does not fit its endpoint."""
STREAM_USAGE = "stream_usage"
HEADERS = {"x-router-profile": "1"}
MOST_BYTES = 4 << 20
"""Of an answer; the longest that is asked for takes some kilobytes."""
REPORT_IT = "that is a fault of Pointsman's: please report it"
LATE = "deadline_exceeded"
NOBODY_ANSWERED = ("all_endpoints_failed", "endpoint_misconfigured", LATE)
"""Codes by which our sidecar says that an endpoint failed."""
GRACE_S = 0.5
"""Beyond what our sidecar waits for content, until an answer that goes on has taken too long."""


class LiveResult(Struct):
    """What was found of one endpoint."""

    endpoint: str
    app: str
    dialect: Dialect
    reason: str = ""  # why it cannot be used; "": it can be
    fix: str = ""
    served: str | None = None  # the model that its answers name
    found: dict[str, LiveFinding] = field(default_factory=dict)  # capabilities, and `STREAM_USAGE`
    calls: int = 0
    cost_nano: int = 0
    is_estimated: bool = False  # an answer did not say what it used: what it may use at most
    over: str = ""  # what answers report that they may not have used

    @property
    def is_reachable(self) -> bool:
        """Whether it answered a call."""
        return not self.reason


class NoCallLeft(Exception):
    """As many calls as an endpoint gets were made."""


class OwnSidecar(NamedTuple):
    """A sidecar of our own, as its calls are made and heard of."""

    client: httpx.AsyncClient  # it lets calls of `app` in
    app: str
    heard: HeardLog  # what it logs
    complaints: HeardComplaints  # what it was told in place of answers
    answer_s: float  # as long as it waits for an answer


async def check_endpoints(
    sidecar: OwnSidecar, endpoints: Sequence[Endpoint], *, at_s: float
) -> list[LiveResult]:
    """Return what was found of endpoints, in their order; one that cannot be told spoils no other.

    Args:
        at_s: when prices hold, in epoch seconds.
    """
    room = asyncio.Semaphore(AT_A_TIME)

    async def look(endpoint: Endpoint) -> LiveResult:
        async with room:
            one = _Look(sidecar, endpoint, at_s)
            try:
                return await one.all()
            except Exception as error:  # of ours; what others found was paid for
                one.result.reason, one.result.fix = _of_ours(error), REPORT_IT
                return one.result

    return list(await asyncio.gather(*map(look, endpoints)))


class _Look:
    """The look at one endpoint."""

    def __init__(self, sidecar: OwnSidecar, endpoint: Endpoint, at_s: float) -> None:
        self._sidecar, self._endpoint, self._at_s = sidecar, endpoint, at_s
        self._manner = manner_of(endpoint)
        self._refused_limits: set[str] = set()
        self._pause_s = MOMENT_S  # before a call is made again
        self._since = 0  # lines of the log before the last call
        self.result = LiveResult(endpoint.id, sidecar.app, self._manner.dialect)

    async def all(self) -> LiveResult:
        """Return what all calls showed."""
        result = self.result
        first, *others = probes_of(self._endpoint)
        answer = await self._reach(first)
        if answer is None:
            return result
        result.served = answer.model
        if first is Probe.PLAIN:
            result.found[STREAM_USAGE] = of_stream(answer)
        elif self._manner.dialect is Dialect.EMBEDDINGS:
            result.found[Capability.EMBEDDINGS.value] = LiveFinding(True)
        for probe in others:
            try:
                result.found[probe.value] = await _LOOKS[probe](self)
            except NoCallLeft:
                result.found[probe.value] = LiveFinding(None, f"{MOST_CALLS} calls were made")
            except Exception as error:
                result.found[probe.value] = LiveFinding(None, _of_ours(error))
        return result

    async def _reach(self, probe: Probe) -> LiveAnswer | None:
        """Return the first answer; None, and the reason in the result, where there is none."""
        answer = await self._ask(probe)
        why = self._why(answer)
        if self._has_left and self._is_plain_refusal(answer) and probe is Probe.PLAIN:
            unstreamed = await self._ask(Probe.UNSTREAMED)
            if unstreamed.status == 200 and unstreamed.is_sound:
                detail = f"it refuses streamed calls ({in_short(answer.error)})"
                self.result.found[STREAM_USAGE] = LiveFinding(None, detail)
                return unstreamed
        if answer.status == 200 and answer.is_sound:
            return answer
        self.result.reason, self.result.fix = why
        return None

    async def tools(self) -> LiveFinding:
        """Look whether a tool that is offered is called."""
        answer = await self._ask(Probe.TOOLS)
        if self._is_plain_refusal(answer) and "tool_choice" in answer.error:
            self._manner.forces_tools = False
            answer = await self._ask(Probe.TOOLS)
        if (cannot := self._cannot(answer)) is not None:
            return cannot
        for name, arguments in answer.calls:
            if name == TOOL:
                return of_json(arguments, "its arguments are no JSON that fits the tool's schema")
        return of_cut(answer) or LiveFinding(
            False, "the tool that it was told to call was not called"
        )

    async def schema(self) -> LiveFinding:
        """Look whether an answer fits the schema that was asked for."""
        answer = await self._ask(Probe.SCHEMA)
        if (cannot := self._cannot(answer)) is not None:
            return cannot
        found = of_json(answer.text, "its answer is no JSON that fits the schema")
        return found if found.is_there else of_cut(answer) or found

    async def reasoning(self) -> LiveFinding:
        """Look whether it takes how much to think, and thinks."""
        speaks = self._endpoint.dialects
        if Dialect.MESSAGES in speaks and Dialect.CHAT not in speaks:
            self._manner = structs.replace(self._manner, dialect=Dialect.MESSAGES)
        answer = await self._ask(Probe.REASONING)
        if self._is_plain_refusal(answer) and "adaptive" in answer.error:
            self._manner.thinking = Reasoning.ADAPTIVE
            answer = await self._ask(Probe.REASONING)
        if (cannot := self._cannot(answer)) is not None:
            return cannot
        if "reasoning" in answer.left_out or "thinking" in answer.left_out:
            return LiveFinding(False, "it does not take how much to think")
        tokens = answer.usage.reasoning_tokens if answer.usage is not None else 0
        if tokens or answer.thought:
            by = f"asked for by {self._manner.thinking.value}"
            how = [by] if self._manner.dialect is Dialect.MESSAGES else []
            return LiveFinding(
                True, ", ".join([*how, *([f"{tokens} reasoning tokens"] * bool(tokens))])
            )
        return LiveFinding(None, "it took how much to think, and told of no reasoning tokens")

    async def _ask(self, probe: Probe) -> LiveAnswer:
        """Make a call; once more where it is refused for the name of its limit, or for a moment.

        Raises:
            NoCallLeft: there were as many as there may be.
        """
        answer = await self._send(probe)
        if self._has_left and self._line().get("result") in REPEATED:
            if self._pause_s > LONGEST_MOMENT_S:
                return answer
            await asyncio.sleep(self._pause_s)
            answer = await self._send(probe)
        if not self._has_left or answer.status not in OF_FIELDS:
            return answer
        body = body_of(probe, self._endpoint.id, self._manner)
        change = change_for(body, answer.error, tried=frozenset(self._refused_limits))
        if change is not None and change.field == self._manner.limit and change.becomes:
            self._refused_limits.add(change.field)
            self._manner.limit = change.becomes
            answer = await self._send(probe)
        return answer

    @property
    def _has_left(self) -> bool:
        return self.result.calls < most_calls(self._endpoint)

    async def _send(self, probe: Probe) -> LiveAnswer:
        """Make a call.

        Raises:
            NoCallLeft: there were as many as there may be.
        """
        if not self._has_left:
            raise NoCallLeft
        self.result.calls += 1
        self._since = len(self._sidecar.heard.lines)
        self._sidecar.complaints.forget(self._endpoint.id)
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._sidecar.answer_s + GRACE_S):
                answer = await self._got(body_of(probe, self._endpoint.id, self._manner))
        except TimeoutError:
            answer = LiveAnswer(0, is_sound=False, failed="timeout")
        except httpx.HTTPError:  # our sidecar cannot say within a whole answer that it was cut
            answer = LiveAnswer(0, is_sound=False, failed="cut")
        self._count(probe, answer, time.monotonic() - began)
        return answer

    async def _got(self, body: Body) -> LiveAnswer:
        """Send a body; return what came, without our key."""
        path, raw, key = path_of(self._manner), bytearray(), self._endpoint.auth_header
        async with self._sidecar.client.stream("POST", path, json=body, headers=HEADERS) as got:
            async for piece in got.aiter_bytes():
                raw += piece
                if len(raw) > MOST_BYTES:
                    return LiveAnswer(got.status_code, is_sound=False, failed="endless")
        self._pause_s = _pause_of(got)
        left_out = got.headers.get("x-router-left-out", "")
        answer = read_answer(self._manner, got.status_code, bytes(raw), left_out=left_out)
        error = answer.error
        if answer.code in NOBODY_ANSWERED:  # that says little, in words of ours
            error = words_in(self._sidecar.complaints.said.get(self._endpoint.id, b""))
        model, endpoint = answer.model, self._endpoint
        is_own = model in (endpoint.upstream_model, *(endpoint.served_as or ()))
        if model is not None and not is_own and holds_piece(model[:MOST_READ], key):
            model = without_key(model, key)
        return structs.replace(answer, error=without_key(error, key), model=model)

    def _count(self, probe: Probe, answer: LiveAnswer, seconds: float) -> None:
        """Add what a call cost: all that it may, where nobody says what it used."""
        was_begun = (
            answer.status == 200 or answer.failed or self._line().get("result") in BEGUN_NAMES
        )
        if not was_begun:
            return
        self.result.over = over_of(self._endpoint, probe, self._manner, answer.usage) or (
            self.result.over
        )
        nano = spent_nano(self._endpoint, answer.usage, self._at_s, seconds=seconds)
        if nano is None:
            answer_s, self.result.is_estimated = self._sidecar.answer_s, True
            nano = call_nano(self._endpoint, probe, self._manner, self._at_s, answer_s=answer_s)
        self.result.cost_nano += nano or 0

    def _is_plain_refusal(self, answer: LiveAnswer) -> bool:
        """Return whether a call was turned down for what it asks, and not for key or model."""
        return answer.status in UNFIT and not self._complaint()

    def _cannot(self, answer: LiveAnswer) -> LiveFinding | None:
        """Return what a call shows that got no answer."""
        if answer.status == 200 and answer.is_sound:
            return None
        if self._is_plain_refusal(answer) or self._line().get("setting") == "upstream_model":
            return LiveFinding(False, with_words("it refuses the call", answer.error))
        return LiveFinding(None, self._why(answer)[0])

    def _why(self, answer: LiveAnswer) -> tuple[str, str]:
        """Return why a call got no answer, and what to do."""
        line, seconds = self._line(), self._sidecar.answer_s
        is_late = answer.code in NOBODY_ANSWERED and line.get("result") == "timeout"
        if is_late or answer.failed == "timeout" or answer.code == LATE:
            return no_answer_in(seconds)
        if answer.failed:
            return IN_WORDS[answer.failed]
        if (moved := self._sidecar.complaints.moved.get(self._endpoint.id)) is not None:
            return self._why_moved(moved, line)
        if "setting" in line:
            status = f" ({line['status']})" if line.get("status") else ""
            return with_words(f"{line['reason']}{status}", answer.error), line["fix"]
        if answer.code == STREAM_CUT:
            return why_cut(answer.error, seconds)
        result = line.get("result", "")
        if answer.error and (result == "bad_reply" or answer.status == 200):
            return with_words(AN_ERROR[0], answer.error), AN_ERROR[1]
        if result in IN_WORDS:
            reason, fix = IN_WORDS[result]
            return with_words(reason, answer.error or str(line.get("detail", ""))), fix
        if answer.status == 200:
            return IN_WORDS["bad_reply"]
        if answer.code in OURS:
            fix = f"the rules of app {self.result.app} say so; nothing was sent"
            return in_short(answer.error), fix
        said = answer.error or "no word of why"
        fix = "correct dialects, params or upstream_model of the endpoint"
        return with_words(f"it refuses the call ({answer.status})", said), fix

    def _why_moved(self, moved: Redirect, line: dict[str, Any]) -> tuple[str, str]:
        """Return where an endpoint redirects to, and the address to write."""
        dialect = self._endpoint.spoken_for(self._manner.dialect)
        there, fix = told_of(moved, CALL_PATHS[dialect], self._endpoint.auth_header)
        to = f" to {there}" if there else ""
        return f"it redirects{to} ({line.get('status', 'a redirect')})", fix

    def _complaint(self) -> bool:
        return "setting" in self._line()

    def _line(self) -> dict[str, Any]:
        return self._sidecar.heard.last_of(self._endpoint.id, after=self._since) or {}


_LOOKS = {
    Probe.TOOLS: _Look.tools,
    Probe.SCHEMA: _Look.schema,
    Probe.REASONING: _Look.reasoning,
}


def _pause_of(got: httpx.Response) -> float:
    """Return how long an endpoint asks to be left alone, in seconds."""
    try:
        return max(float(got.headers.get("retry-after", "")), 0.0)
    except ValueError:
        return MOMENT_S


def _of_ours(error: Exception) -> str:
    return f"it could not be told: {type(error).__name__} in this command"
