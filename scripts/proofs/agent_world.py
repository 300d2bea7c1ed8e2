"""Hours of many agents' sessions and some users' days, at handed-in times: who calls when.

In the middle it becomes known by labels that one of two endpoints is better.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from msgspec import Struct

from router.config.compiled import Configuration, compile_entries
from router.config.entries import File
from router.decision.context import Moment
from scripts.proofs.agent_hosts import BETTER, HOSTS, PRICES, WORSE
from scripts.proofs.agent_talk import CODER, TITLES, TITLES_AT, TURNS, Spoken, calls_of
from scripts.proofs.policy_clock import NOON
from scripts.proofs.steady_requests import AskedPrompt, Asker, ClientKind
from scripts.proofs.within import SentRequest

BEGIN_WITHIN_S = 7200.0
"""Sessions begin at any moment of two hours,"""
UNDER_WAY, UNDER_WAY_S = 0.6, 900.0
"""but for so many that are under way when it becomes known: they begin so shortly before."""
KNOWN_FROM_S = 3600.0
"""Then the first labels come."""
LABELS_A_MINUTE = 6
"""In each task, of each endpoint."""
QUALITY = {WORSE: 0.5, BETTER: 0.85}
VALUE_USD = 0.02
"""Of a success: so that what a better endpoint gains in the rest of a session is about what a long
conversation's cache is worth, and less of a short one's."""
USERS, USER_EVERY_S = 24, 300.0
TASKS = {CODER: "code", TITLES: "titles", "": "general"}
"""By role."""
SESSION_CALLS = TURNS + len(TITLES_AT)


class DueCall(Struct, frozen=True):
    """A call, and when it is made."""

    at_s: float  # since the begin
    kind: str  # session or user
    who: str
    role: str
    request: SentRequest


class SetClock:
    """Epoch seconds that are set; what a sidecar takes for monotonic goes on with them."""

    def __init__(self) -> None:
        self.passed_s = 0.0
        self._began_s = time.monotonic()

    def now_s(self) -> float:
        """Return what time it is."""
        return NOON + self.passed_s

    def moment(self) -> Moment:
        """Return it as a sidecar takes it."""
        return Moment(self.now_s(), self._began_s + self.passed_s)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Have everybody in this process go by it."""
        with patch("time.time", self.now_s):
            yield


def configuration(state_dir: Path) -> Configuration:
    """Return the configuration of one app with two roles."""
    prices = {
        "input_usd_per_mtok": float(PRICES.fresh),
        "cached_input_usd_per_mtok": float(PRICES.cached),
        "cache_write_usd_per_mtok": float(PRICES.written),
        "output_usd_per_mtok": float(PRICES.out),
    }
    spoken = ["chat", "messages", "responses"]
    value = {
        "server": {"state_dir": str(state_dir)},
        "providers": {
            host: {"base_url": f"http://{host}.test/v1", "auth": "none", "dialects": spoken}
            for host in HOSTS
        },
        "endpoints": [
            {"id": host, "model": host, "provider": host, "prices": prices} for host in HOSTS
        ],
        "tasks": {"code": None, "titles": None},
        "roles": {CODER: {"tasks": ["code"]}, TITLES: {"tasks": ["titles"]}},
        "strategies": {
            "learn": {"objective": "quality", "incumbent": "none", "value_usd": VALUE_USD}
        },
        "apps": {"default": {"mode": "route", "strategy": "learn", "fallback": "any"}},
    }
    return compile_entries(File.model_validate(value), version=1, secrets=True)


def observed(passed_s: float) -> dict[str, Any]:
    """Return what is known of both endpoints, by task, so long after the begin."""
    minutes = max(int((passed_s - KNOWN_FROM_S) // 60), 0)
    labels = minutes * LABELS_A_MINUTE
    return {
        task: {
            host: {"labels": labels, "good": round(labels * QUALITY[host]), "calls": labels + 10}
            for host in HOSTS
        }
        for task in TASKS.values()
    }


def due_calls(sessions: int, seed: int, *, users: int = USERS) -> Iterator[DueCall]:
    """Yield all calls in the order of their times; what a session sends is made as it is due."""
    lines = [_session(n, Random(f"{seed}/{n}")) for n in range(sessions)]  # noqa: S311
    lines += [_user(n, Random(f"{seed}/user {n}")) for n in range(users)]  # noqa: S311
    return heapq.merge(*lines, key=lambda call: call.at_s)


def _session(number: int, random: Random) -> Iterator[DueCall]:
    at_s = random.uniform(0, BEGIN_WITHIN_S)
    if random.random() < UNDER_WAY:
        at_s = random.uniform(KNOWN_FROM_S - UNDER_WAY_S, KNOWN_FROM_S)
    for call in calls_of(number, random):
        at_s += call.pause_s
        yield DueCall(at_s, "session", call.session, call.role, call.request)


def _user(number: int, random: Random) -> Iterator[DueCall]:
    """Yield what one user asks all the while, without a session."""
    asker = Asker(ClientKind.SDK_CHAT, "default", user=f"user-{number}")
    spoken, at_s = Spoken(random), random.uniform(0, USER_EVERY_S)
    while at_s < BEGIN_WITHIN_S:
        prompt = AskedPrompt("general", (spoken.text(300),))
        yield DueCall(at_s, "user", asker.user, "", asker.request(prompt))
        at_s += random.uniform(0.5, 1.5) * USER_EVERY_S
