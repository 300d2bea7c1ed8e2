"""Plays hours of agents' sessions through one sidecar, and notes who answered and what it cost."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from unittest.mock import patch

from msgspec import Struct

from router.decision import call_units
from router.decision.decide import Decision
from router.decision.units import Unit
from router.dispatch import retries
from router.endpoints.catalog import Endpoint
from router.policy import hints
from scripts.proofs.agent_hosts import BETTER, PRICES, REFUSAL, WORSE, CachingHosts
from scripts.proofs.agent_talk import CODER, TITLES
from scripts.proofs.agent_world import (
    KNOWN_FROM_S,
    QUALITY,
    SESSION_CALLS,
    TASKS,
    USERS,
    VALUE_USD,
    DueCall,
    SetClock,
    configuration,
    due_calls,
    observed,
)
from scripts.proofs.believed import rows_of
from scripts.proofs.policy_clock import NOON
from scripts.proofs.prompt_caches import CachedPrompt
from scripts.proofs.steady_units import ENDINGS, SteadyCall, UnitFound, judge_unit
from scripts.proofs.within import SidecarWithin
from telemetry.kept_secrets import SECRET_BYTES, KeptKey, KeptSecrets, SecretsFile

BACKOFF_S = 0.001
"""Before an endpoint is asked again; nobody waits for longer here."""
OK = 200
NAMES = ("users", "draws", "seal")
"""Secrets of a store."""
MINUTE_S = 60.0
SURE_S = KNOWN_FROM_S + 5 * MINUTE_S
"""From then on nobody doubts which endpoint is better."""


class AgentSabotage(StrEnum):
    """What is broken."""

    ANEW = "anew"  # each call draws for itself
    NAMELESS = "nameless"  # nobody reads the agents' own session headers


class UnitKey(Struct, frozen=True, order=True):
    """A session or a user, in one role."""

    kind: str
    who: str
    role: str


class CountedCall(Struct, frozen=True):
    """An answered call, and what of its prompt was cached."""

    call: SteadyCall
    prompt: CachedPrompt


class AgentPlay:
    """One way of routing all the calls, and what came of it."""

    def __init__(self, state_dir: Path, *, seed: int, has_news: bool) -> None:
        """Make it.

        Args:
            seed: of all draws that follow from what a store keeps secret.
            has_news: labels come after an hour, and users ask beside the agents.
        """
        self.clock = SetClock()
        self.hosts = CachingHosts(self.clock.now_s)
        self.units: defaultdict[UnitKey, list[CountedCall]] = defaultdict(list)
        self.counts: Counter[str] = Counter()
        self._ended = ""  # by what the draw of the last decision's unit did
        self._has_news = has_news
        _keep_secrets(state_dir, seed)
        self._configuration = configuration(state_dir)
        self._within = SidecarWithin(
            self._configuration, state_dir, self.hosts, clock=self.clock.moment
        )

    async def run(self, sessions: int, seed: int) -> None:
        """Play all calls."""
        minute = -1
        with (
            self.clock.installed(),
            patch.object(retries, "FIRST_BACKOFF_S", BACKOFF_S),
            self._within,
        ):
            self._within.sidecar.routes._services.calls.note = self._note_decision
            users = USERS if self._has_news else 0
            for due in due_calls(sessions, seed, users=users):
                while minute < due.at_s // MINUTE_S:
                    minute += 1
                    self.clock.passed_s = minute * MINUTE_S
                    self._learn()
                self.clock.passed_s = due.at_s
                await self._send(due)

    def found(self) -> UnitFound:
        """Return what became of all sessions and days."""
        found = UnitFound()
        for unit, counted in sorted(self.units.items()):
            told = f"{unit.kind} {unit.who}, {unit.role or 'no role'}"
            calls = [one.call for one in counted]
            found.add(judge_unit(told, TASKS[unit.role], calls, lambda *_: False))
        return found

    def _learn(self) -> None:
        """Believe what is known by now, as a sidecar does that follows its store."""
        passed_s = self.clock.passed_s if self._has_news else 0.0
        rows = rows_of(observed(passed_s), self._configuration, self.clock.now_s())
        self._within.follow(self._configuration, rows)
        keeper = self._within.sidecar.keeper
        keeper.history.note(keeper.current, now_ms=int(self.clock.now_s() * 1000))
        keeper.episodes.take(self._remaining())

    def _remaining(self) -> bytes:
        """Return how many calls sessions have left, as the job writes it."""
        app = self._configuration.apps["default"].digest
        left = [[n, SESSION_CALLS - n] for n in range(1, SESSION_CALLS + 1)]
        return json.dumps({"at_ms": 0, "apps": {f"{app:016x}": {"remaining": left}}}).encode()

    def _note_decision(
        self, decision: Decision, answered: Endpoint | None = None, kind: object = None
    ) -> None:
        self._ended = "" if decision.ending is None else decision.ending.value

    async def _send(self, due: DueCall) -> None:
        self.hosts.book = self.hosts.books[due.kind]
        got = await self._within.send(due.request)
        if got.status != OK:  # where both endpoints failed, their refusal is the answer
            self.counts["refused" if got.status == REFUSAL else "unanswered"] += 1
            return
        call = SteadyCall(
            0,
            due.at_s,
            due.at_s,
            got.headers["x-router-endpoint"],
            got.headers["x-router-task"],
            got.headers["x-router-reason"],
            int(got.headers["x-router-attempts"]),
            ended=self._ended,
            told=f"{due.at_s:.0f} s",
        )
        unit = UnitKey(due.kind, due.who, due.role)
        self.units[unit].append(CountedCall(call, self.hosts.last))


def _keep_secrets(state_dir: Path, seed: int) -> None:
    """Have a sidecar draw from this seed on, instead of from what it makes up."""
    users, draws, seal = (
        f"{name} {seed}".encode().ljust(SECRET_BYTES)[:SECRET_BYTES] for name in NAMES
    )
    kept = KeptSecrets(users=users, draws=draws, seal=seal, keys=[KeptKey(seal, int(NOON * 1000))])
    SecretsFile(state_dir).change(lambda _: kept)


def fates_of(play: AgentPlay) -> dict[str, int]:
    """Return what became of those that had drawn the worse endpoint before that was known.

    gain, dominated: draws that ended so, those of sessions by role. stayed_for_cache: sessions of
    which each later call had more to lose with its cache than the calls to come would gain.
    stayed: other sessions. kept: users' days.
    """
    fates: Counter[str] = Counter()
    for unit, counted in sorted(play.units.items()):
        ended = [one for one in counted if one.call.ending]
        for one in ended:
            is_gain = one.call.ending == ENDINGS[0]
            fates[f"gain_{unit.role}" if is_gain else "dominated"] += 1
        first, later = counted[0].call, [n for n, c in enumerate(counted) if _is_late(c)]
        is_held = first.endpoint == WORSE and first.sent_at < KNOWN_FROM_S and later
        if ended or not is_held or unit.role not in (CODER, ""):
            continue
        if unit.kind == "user":
            fates["kept"] += 1
        else:
            worth = all(_loses_more(counted, nth) for nth in later if nth)
            fates["stayed_for_cache" if worth else "stayed"] += 1
    names = (f"gain_{CODER}", f"gain_{TITLES}", "dominated", "stayed_for_cache", "stayed", "kept")
    return {name: fates[name] for name in names}


def _is_late(one: CountedCall) -> bool:
    return one.call.sent_at >= SURE_S


def _loses_more(counted: list[CountedCall], nth: int) -> bool:
    """Return whether the cache was worth more than all calls from the nth on would gain."""
    lost = PRICES.fresh - PRICES.cached + (PRICES.written - PRICES.fresh)
    cache_usd = float(counted[nth - 1].prompt.cached * lost) / 1e6
    gain_usd = VALUE_USD * (QUALITY[BETTER] - QUALITY[WORSE])
    return cache_usd > gain_usd * (len(counted) - nth)


@contextmanager
def sabotaged(kind: AgentSabotage | None) -> Iterator[None]:
    """Break what is to be broken, as long as this lasts."""
    if kind is AgentSabotage.NAMELESS:
        with patch.object(hints, "AGENT_SESSION_HEADERS", ()):
            yield
    elif kind is AgentSabotage.ANEW:
        with patch.object(call_units, "unit_of", lambda **_: Unit(None, False, 0.0)):
            yield
    else:
        yield
