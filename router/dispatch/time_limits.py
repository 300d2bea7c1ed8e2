"""How long a call is waited for.

A configured limit ends an attempt. A learnt one ends nothing: it starts the next endpoint beside
the slow one. What is neither is the deadline's, which bounds the wait for content and never ends
an answer that flows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

from msgspec import Struct

from router.beliefs.beliefs import Beliefs
from router.config.compiled import App, Configuration, Strategy
from router.endpoints.catalog import Endpoint
from router.endpoints.entries import Dialect, TimeoutsEntry
from router.net.pool import Target

DEADLINE_S = 600.0
"""What the SDKs of OpenAI and Anthropic wait, where a client does not say otherwise."""
CLIENT_SAYS = (b"x-stainless-read-timeout", b"x-stainless-timeout")
"""Headers in which SDKs tell how many seconds they wait themselves."""
FEW_CALLS = 30
"""Below this many calls in a cell its quantiles say little, and a fixed wait holds."""
FIRST_TOKEN_UNKNOWN_S = 10.0
FIRST_TOKEN_LEAST_S = 5.0
ANSWER_UNKNOWN_S = 30.0
ANSWER_LEAST_S = 20.0
BESIDE_FACTOR = 2.0
"""Times what 99 % of calls need: a second start is to be rare while nothing is wrong."""


class TimeLimits(Struct, frozen=True):
    """Configured limits of one attempt, in seconds; infinite where there is none."""

    target: Target  # with its limit for connecting
    first_token_s: float
    stall_s: float
    answer_s: float
    beside_first_token_s: float | None  # None: what was learnt
    beside_answer_s: float | None


class TimeLimitTable:
    """The limits under one configuration; worked out once for each kind of call."""

    def __init__(self, configuration: Configuration) -> None:
        self._known: dict[tuple[int, str, str, Dialect], TimeLimits] = {}
        self._beliefs: Beliefs | None = None  # what was learnt last
        self._learnt: dict[tuple[int, int, bool], float] = {}

    def of(self, endpoint: Endpoint, strategy: Strategy, app: App, dialect: Dialect) -> TimeLimits:
        """Return the limits of an app's attempts at an endpoint under a strategy."""
        key = (endpoint.index, strategy.name, app.name, dialect)
        known = self._known.get(key)
        if known is None:
            said = (endpoint.timeouts, strategy.timeouts, app.entry.timeouts)
            target = endpoint.targets[endpoint.spoken_for(dialect)]
            known = self._known[key] = tightest(target, said)
        return known

    def beside_s(
        self, limits: TimeLimits, beliefs: Beliefs, category: int, index: int, *, streamed: bool
    ) -> float:
        """Return after how long without content another endpoint is started beside one.

        What was learnt is looked up once for each version of the beliefs.
        """
        configured = limits.beside_first_token_s if streamed else limits.beside_answer_s
        if configured is not None:
            return configured
        if beliefs is not self._beliefs:
            self._beliefs, self._learnt = beliefs, {}
        key = (category, index, streamed)
        known = self._learnt.get(key)
        if known is None:
            known = self._learnt[key] = _learnt_s(beliefs, category, index, streamed=streamed)
        return known


def tightest(target: Target, said: Iterable[TimeoutsEntry]) -> TimeLimits:
    """Return what holds where endpoint, strategy and app each may have said something."""
    said = list(said)
    return TimeLimits(
        target=replace(target, connect_s=_least(t.connect_s for t in said)),
        first_token_s=_least(t.first_token_s for t in said) or math.inf,
        stall_s=_least(t.stall_s for t in said) or math.inf,
        answer_s=_least(t.answer_s for t in said) or math.inf,
        beside_first_token_s=_least(t.beside_s.first_token for t in said),
        beside_answer_s=_least(t.beside_s.answer for t in said),
    )


def _least(limits: Iterable[float | None]) -> float | None:
    return min((limit for limit in limits if limit is not None), default=None)


def deadline_s(configured: float | None, headers: Mapping[bytes, bytes]) -> float:
    """Return how long a call may wait for content: as configured, else as its client does."""
    return patience_s(configured, client_s(headers))


def patience_s(configured: float | None, said_s: float | None) -> float:
    """Return the same of what a client was read to say."""
    return configured if configured is not None else said_s or DEADLINE_S


def client_s(headers: Mapping[bytes, bytes]) -> float | None:
    """Return how long a client waits between two bytes, where it says so."""
    for name in CLIENT_SAYS:
        value = headers.get(name)
        if value is not None and (seconds := _seconds(value)) is not None:
            return seconds
    return None


def _seconds(value: bytes) -> float | None:
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if 0 < seconds < math.inf else None


def _learnt_s(beliefs: Beliefs, category: int, index: int, *, streamed: bool) -> float:
    posterior, task = beliefs.place(category)
    if posterior.timed[task, index] < FEW_CALLS:
        return FIRST_TOKEN_UNKNOWN_S if streamed else ANSWER_UNKNOWN_S
    if streamed:
        return max(BESIDE_FACTOR * float(beliefs.ttft_q99_s[category, index]), FIRST_TOKEN_LEAST_S)
    return max(BESIDE_FACTOR * float(beliefs.latency_q99_s[category, index]), ANSWER_LEAST_S)
