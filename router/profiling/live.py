"""What an endpoint really does, by at most five tiny calls of it.

The first says whether it is there, takes our key and knows our model; only then the others are
made. They go through a sidecar of our own, under an app's rules, and are no traffic of that app.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import httpx
from msgspec import Struct, field, structs

from router.endpoints.capabilities import Capability, Reasoning
from router.endpoints.catalog import Endpoint
from router.endpoints.entries import Dialect
from router.profiling.heard import HeardLog
from router.profiling.live_calls import (
    TOOL,
    LiveAnswer,
    Probe,
    body_of,
    manner_of,
    most_tokens,
    path_of,
    read_answer,
)
from router.profiling.refused_fields import OF_FIELDS, change_for
from telemetry.wire.usage import Usage

MOST_CALLS = 5
MOST_OF_ONE = 2
"""Calls of an endpoint of which there is one thing to find."""
OF_A_MOMENT = frozenset({429, 500, 502, 503, 529})
"""Statuses that may well be others in a moment."""
MOMENT_S, LONGEST_MOMENT_S = 0.5, 5.0
AT_A_TIME = 4
"""Endpoints; of each one call after the other."""
UNFIT = frozenset({400, 404, 405, 415, 422, 501})
"""Statuses that say that a call does not fit its endpoint."""
STREAM_USAGE = "stream_usage"
HEADERS = {"x-router-profile": "1"}
MOST_SAID = 240
"""Characters of what a provider says."""
LATER = "look again later"
IN_WORDS = {
    "rate_limit": ("it takes no more calls now (429)", "wait, or have the key's limits raised"),
    "timeout": ("no answer came in time", "see whether it is up, and not too slow for 60 s"),
    "connect": ("no connection", "see whether it is up, and correct base_url"),
    "server": ("it fails by itself", LATER),
    "cut": ("its answer ended before its end", LATER),
    "bad_reply": (
        "what it answers is no answer of its dialect",
        "correct the path in base_url, or `dialects`",
    ),
}
"""By the name of a result: what is wrong, and what to do."""


class LiveFinding(Struct, frozen=True):
    """Whether an endpoint does something."""

    is_there: bool | None  # None: it could not be told
    detail: str = ""


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

    @property
    def is_reachable(self) -> bool:
        """Whether it answered a call."""
        return not self.reason


class NoCallLeft(Exception):
    """As many calls as an endpoint gets were made."""


def probes_of(endpoint: Endpoint) -> list[Probe]:
    """Return the calls that are planned of an endpoint; others may follow a refused one."""
    manner = manner_of(endpoint)
    if manner.dialect not in (Dialect.CHAT, Dialect.RESPONSES):
        return [Probe.UNSTREAMED]
    thinks = endpoint.reasoning is not Reasoning.NEVER
    return [
        Probe.PLAIN,
        Probe.TOOLS,
        Probe.SCHEMA,
        *([Probe.REASONING] if thinks else []),
    ]


def most_nano(endpoint: Endpoint, at_s: float) -> int | None:
    """Return what all calls cost at most, in nano-USD; None where no price is known.

    Who has calls left asks for the dearest again.

    Args:
        at_s: when the prices hold, in epoch seconds.
    """
    if endpoint.terms.is_subscribed:
        return 0
    if endpoint.prices is None:
        return None
    manner, prices = manner_of(endpoint), endpoint.prices
    costs = [
        prices.nano(Usage(*most_tokens(probe, manner), 0, 0), at_s, machine_s=0.0) or 0
        for probe in probes_of(endpoint)
    ]
    return sum(costs) + (most_calls(endpoint) - len(costs)) * max(costs)


def most_calls(endpoint: Endpoint) -> int:
    """Return how many calls are made at most, those that are made again among them."""
    return MOST_CALLS if len(probes_of(endpoint)) > 1 else MOST_OF_ONE


async def check_endpoints(
    client: httpx.AsyncClient,
    endpoints: Sequence[Endpoint],
    app: str,
    heard: HeardLog,
    *,
    at_s: float,
) -> list[LiveResult]:
    """Return what was found of endpoints, in their order.

    Args:
        client: of a sidecar that lets calls of `app` in.
        heard: what that sidecar logs.
        at_s: when prices hold, in epoch seconds.
    """
    room = asyncio.Semaphore(AT_A_TIME)

    async def look(endpoint: Endpoint) -> LiveResult:
        async with room:
            return await _Look(client, endpoint, app, heard, at_s).all()

    return list(await asyncio.gather(*map(look, endpoints)))


class _Look:
    """The look at one endpoint."""

    def __init__(
        self, client: httpx.AsyncClient, endpoint: Endpoint, app: str, heard: HeardLog, at_s: float
    ) -> None:
        self._client, self._endpoint, self._heard = client, endpoint, heard
        self._at_s = at_s
        self._manner = manner_of(endpoint)
        _, key = endpoint.auth_header or (b"", b"")
        self._secret = key.rpartition(b" ")[2]  # some repeat it in what they refuse
        self._refused_limits: set[str] = set()
        self._pause_s = MOMENT_S  # before a call is made again
        self._since = 0  # lines of the log before the last call
        self.result = LiveResult(endpoint.id, app, self._manner.dialect)

    async def all(self) -> LiveResult:
        """Return what all calls showed."""
        result = self.result
        first, *others = probes_of(self._endpoint)
        answer = await self._reach(first)
        if answer is None:
            return result
        result.served = answer.model
        if first is Probe.PLAIN:
            result.found[STREAM_USAGE] = _of_stream(answer)
        elif self._manner.dialect is Dialect.EMBEDDINGS:
            result.found[Capability.EMBEDDINGS.value] = LiveFinding(True)
        for probe in others:
            try:
                result.found[probe.value] = await _LOOKS[probe](self)
            except NoCallLeft:
                result.found[probe.value] = LiveFinding(None, f"{MOST_CALLS} calls were made")
        return result

    async def _reach(self, probe: Probe) -> LiveAnswer | None:
        """Return the first answer; None, and the reason in the result, where there is none."""
        answer = await self._ask(probe)
        if self._has_left and self._is_plain_refusal(answer) and probe is Probe.PLAIN:
            unstreamed = await self._ask(Probe.UNSTREAMED)
            if unstreamed.status == 200 and unstreamed.is_sound:
                why = f"it refuses streamed calls ({in_short(answer.error)})"
                self.result.found[STREAM_USAGE] = LiveFinding(None, why)
                return unstreamed
        if answer.status == 200 and answer.is_sound:
            return answer
        self.result.reason, self.result.fix = self._why(answer)
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
                return _of_json(arguments, "its arguments are no JSON that fits the tool's schema")
        return _cut(answer) or LiveFinding(
            False, "the tool that it was told to call was not called"
        )

    async def schema(self) -> LiveFinding:
        """Look whether an answer fits the schema that was asked for."""
        answer = await self._ask(Probe.SCHEMA)
        if (cannot := self._cannot(answer)) is not None:
            return cannot
        found = _of_json(answer.text, "its answer is no JSON that fits the schema")
        return found if found.is_there else _cut(answer) or found

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
        in_a_moment = answer.status in OF_A_MOMENT and not self._complaint()
        if self._has_left and in_a_moment and self._pause_s <= LONGEST_MOMENT_S:
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
        self._since = len(self._heard.lines)
        body = body_of(probe, self._endpoint.id, self._manner)
        got = await self._client.post(path_of(self._manner), json=body, headers=HEADERS)
        left_out = got.headers.get("x-router-left-out", "")
        raw = got.content.replace(self._secret, b"(key)") if self._secret else got.content
        answer = read_answer(self._manner, got.status_code, raw, left_out=left_out)
        self._pause_s = _pause_of(got)
        self._count(probe, answer)
        return answer

    def _count(self, probe: Probe, answer: LiveAnswer) -> None:
        """Add what a call cost: all that it may use, where its answer does not say."""
        prices, usage = self._endpoint.prices, answer.usage
        if prices is None or self._endpoint.terms.is_subscribed or answer.status != 200:
            return
        if usage is None:
            usage, self.result.is_estimated = Usage(*most_tokens(probe, self._manner), 0, 0), True
        self.result.cost_nano += prices.nano(usage, self._at_s, machine_s=0.0) or 0

    def _is_plain_refusal(self, answer: LiveAnswer) -> bool:
        """Return whether a call was turned down for what it asks, and not for key or model."""
        return answer.status in UNFIT and not self._complaint()

    def _cannot(self, answer: LiveAnswer) -> LiveFinding | None:
        """Return what a call shows that got no answer."""
        if answer.status == 200 and answer.is_sound:
            return None
        if self._is_plain_refusal(answer) or self._line().get("setting") == "upstream_model":
            return LiveFinding(False, f"it refuses the call: {in_short(answer.error)}")
        return LiveFinding(None, self._why(answer)[0])

    def _why(self, answer: LiveAnswer) -> tuple[str, str]:
        """Return why a call got no answer, and what to do."""
        line = self._line()
        if not line and answer.status >= 500:  # what it said a moment ago is not said again
            line = self._heard.last_of(self._endpoint.id, after=0) or {}
        if "setting" in line:
            status = f" ({line['status']})" if line.get("status") else ""
            return f"{line['reason']}{status}", line["fix"]
        if line.get("result") in IN_WORDS:
            reason, fix = IN_WORDS[line["result"]]
            return f"{reason}: {in_short(str(line.get('detail', '')))}", fix
        if answer.status == 200:
            return IN_WORDS["bad_reply"]
        if answer.code in ("no_eligible_endpoint", "tool_not_allowed", "keeps_content"):
            fix = f"the rules of app {self.result.app} say so; nothing was sent"
            return in_short(answer.error), fix
        said = in_short(answer.error) if answer.error else "no word of why"
        fix = "correct dialects, params or upstream_model of the endpoint"
        return f"it refuses the call ({answer.status}): {said}", fix

    def _complaint(self) -> bool:
        return "setting" in self._line()

    def _line(self) -> dict[str, Any]:
        return self._heard.last_of(self._endpoint.id, after=self._since) or {}


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


def in_short(text: str) -> str:
    """Return what a provider says on one line, as far as it helps."""
    shown = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return shown if len(shown) <= MOST_SAID else f"{shown[: MOST_SAID - 1]}…"


def _of_stream(answer: LiveAnswer) -> LiveFinding:
    if answer.usage is None:
        return LiveFinding(False, "its streams end without usage")
    return LiveFinding(True)


def _of_json(text: str, why: str) -> LiveFinding:
    try:
        value = json.loads(text)
    except ValueError:
        return LiveFinding(False, why)
    fits = isinstance(value, dict) and set(value) == {"ok"} and isinstance(value["ok"], bool)
    return LiveFinding(True) if fits else LiveFinding(False, why)


def _cut(answer: LiveAnswer) -> LiveFinding | None:
    """Return that nothing can be told of an answer that ended before it began."""
    return (
        LiveFinding(None, "the answer was cut before it could be told") if answer.was_cut else None
    )
