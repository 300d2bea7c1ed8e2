"""Playing random calls under random configurations, for the proof of the policy."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from router.config.checks import cross_check
from router.config.compiled import Configuration, compile_entries
from router.config.entries import File
from router.config.rules import MergedPolicy
from router.config.standing import check_standing
from router.decision.context import Moment
from router.decision.decide import Decision
from router.dispatch import retries
from router.dispatch.passed import Passed
from router.dispatch.passthrough import Passthrough
from router.endpoints.breaker import RULES, Trouble
from router.endpoints.catalog import Endpoint
from router.endpoints.retries import MOST, SHARE, RetryBudget
from router.policy.telling import told
from scripts.proofs.believed import rows_of
from scripts.proofs.policy_calls import FaultyCall, faulty_call
from scripts.proofs.policy_clock import MovableClock
from scripts.proofs.policy_hosts import CURRENT, CallUnderWay, SimulatedHosts
from scripts.proofs.policy_oracle import CallOracle, PolicyOracle, looser
from scripts.proofs.policy_world import addressed, configuration
from scripts.proofs.within import SidecarWithin
from telemetry.events import Result

CALLS_EACH = 400
"""Calls under one configuration."""
AT_ONCE = 50
BACKOFF_S = 0.01
"""Before an endpoint is asked again; nobody waits for longer here."""
TRIES = 50
"""Configurations that are made until one is sound."""


class PolicyPlay:
    """Some configurations, one after the other in one sidecar, and what came of their calls."""

    def __init__(self, seed: int, state_dir: Path) -> None:
        self.n_calls = self.n_looser = 0
        self.clock = MovableClock()
        self.hosts = SimulatedHosts(self.clock)
        self._seed, self._state_dir = seed, state_dir
        self._number = 0

    async def run(self, numbers: Sequence[int]) -> None:
        """Play the configurations of these numbers."""
        within: SidecarWithin | None = None
        with self.clock.installed(), patch.object(retries, "FIRST_BACKOFF_S", BACKOFF_S):
            for number in numbers:
                random = Random(f"{self._seed}/{number}")  # noqa: S311 - a test's dice
                self._number = number
                written, compiled = sound(random, self._state_dir)
                self.clock.set_back()
                if within is None:
                    within = SidecarWithin(
                        compiled, self._state_dir, self.hosts, clock=self._moment
                    )
                    within.__enter__()
                    within.sidecar.routes._services.calls.note = self._note_decision
                try:
                    await self._play(random, written, compiled, within)
                except BaseException:
                    within.__exit__()
                    raise
            if within is not None:
                within.__exit__()

    def _moment(self) -> Moment:
        return Moment(self.clock.now_s(), time.monotonic())

    async def _play(
        self,
        random: Random,
        written: dict[str, Any],
        compiled: Configuration,
        within: SidecarWithin,
    ) -> None:
        within.follow(compiled, rows_of(_observed(random, written), compiled, self.clock.now_s()))
        hosts, oracle = self.hosts, PolicyOracle(written)
        hosts.health, hosts.catalog = within.sidecar.health, compiled.catalog
        names = {"n_endpoints": len(written["endpoints"]), "classes": written["classes"]}
        with patch.object(Passthrough, "serve", _noting(Passthrough.serve, self._note_policy)):
            for _ in range(CALLS_EACH // AT_ONCE):
                self._change_scene(random, compiled, within)
                calls = [faulty_call(random, **names) for _ in range(AT_ONCE)]
                is_off = within.sidecar.keeper.off
                self.hosts.under_way.clear()
                await asyncio.gather(
                    *(self._send(within, oracle, call, is_off=is_off) for call in calls)
                )

    async def _send(
        self, within: SidecarWithin, oracle: PolicyOracle, call: FaultyCall, *, is_off: bool
    ) -> None:
        self.n_calls += 1
        under_way = CallUnderWay(
            call, CallOracle(oracle, call, is_off=is_off), is_off, self._number
        )
        call.mark, self.hosts.under_way[self.n_calls] = self.n_calls, under_way
        CURRENT.set(under_way)
        answer = await within.send(call.request)
        status = answer.status
        self.hosts.arrivals.counts["refused_409"] += status == 409
        self.hosts.arrivals.counts[f"status_{status}"] += 1
        if status == 500 and b"internal_error" in answer.body:
            self.hosts.arrivals.counts["internal_errors"] += 1
            self.hosts.arrivals.shown.append({"internal_error": True, **under_way.told()})

    def _change_scene(self, random: Random, compiled: Configuration, within: SidecarWithin) -> None:
        """Switch routing off now and then, and open breakers: for a while, or due for a probe."""
        sidecar = within.sidecar
        sidecar.routes._services.calls.budget = _rich()
        sidecar.keeper.switch = sidecar.keeper.switch._replace(off=random.random() < 0.15)
        if random.random() < 0.5:
            self.clock.set_back()
        now = time.monotonic()
        for endpoint in compiled.catalog.endpoints:
            if random.random() > 0.25:
                continue
            health, digest = sidecar.health, endpoint.digest
            for _ in range(RULES[Trouble.FAILING].failures):
                health.begin(digest, now - 70)
                health.end(digest, Result.SERVER, now - 70)
            circuit = health.breakers[digest].circuits[Trouble.FAILING]
            circuit.open_until = now + random.choice((-1, 5, 5))

    def _note_decision(
        self, decision: Decision, answered: Endpoint | None = None, kind: object = None
    ) -> None:
        if answered is not None:
            return  # of one that was noted before
        counts = self.hosts.arrivals.counts
        counts["stand_ins"] += decision.stands_in_for is not None
        counts["drawn"] += decision.plan.drawn_now
        self._note_policy(decision.context.policy)

    def _note_policy(self, policy: MergedPolicy) -> None:
        """Hold a merged policy against all that its levels say."""
        under_way = CURRENT.get()
        oracle = under_way.oracle
        found = looser(oracle.said, told(policy), oracle.oracle)
        self.hosts.arrivals.counts["policies"] += 1
        if found:
            self.n_looser += len(found)
            self.hosts.arrivals.shown.append({"looser": found, **under_way.told()})


def _rich() -> RetryBudget:
    """Return a budget out of which all calls of a while may be repeated."""
    budget = RetryBudget()
    for _ in range(int(MOST / SHARE)):
        budget.earn()
    return budget


def _noting(serve: Any, note: Any) -> Any:
    """Return what passes on as before, and shows the policy under which it does."""

    async def noted(passthrough: Passthrough, exchange: Any, passed: Passed, *of: Any, **by: Any):  # type: ignore[no-untyped-def]
        note(passed.policy)
        await serve(passthrough, exchange, passed, *of, **by)

    return noted


def sound(random: Random, state_dir: Path) -> tuple[dict[str, Any], Configuration]:
    """Return a configuration that may be used, as it is written and compiled.

    Raises:
        ValueError: none of many was sound.
    """
    for _ in range(TRIES):
        written = configuration(random)
        server = {"server": {"state_dir": str(state_dir)}}
        entries = File.model_validate(addressed(written) | server)
        if not any(cross_check(entries)) and not any(check_standing(entries)):
            return written, compile_entries(entries, version=random.getrandbits(63), secrets=True)
    raise ValueError("no configuration was sound")


def _observed(random: Random, written: dict[str, Any]) -> dict[str, Any]:
    """Return what was seen of endpoints: of some tasks nothing."""
    out: dict[str, Any] = {}
    for task in ("general", "t0"):
        if random.random() < 0.5:
            out[task] = {
                endpoint["id"]: {"labels": 40, "good": random.randint(10, 40)}
                for endpoint in written["endpoints"]
            }
    return out
