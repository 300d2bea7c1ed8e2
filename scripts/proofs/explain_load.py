"""Decisions and outcomes by the hundred thousand, of a router in this process.

They are made, booked and written down by the router's own parts, without HTTP and without a
provider: what is proved is about what is kept of decisions.
"""

from __future__ import annotations

import asyncio
import json
import time

from router.config.compiled import Configuration
from router.decision.context import Moment
from router.decision.decide import Decision
from router.decision.seal import Seal
from router.dialects import chat
from router.dispatch.booking import Booking
from router.dispatch.decision_flags import flags_of
from router.dispatch.recent import RecentNames
from router.dispatch.records import FINAL
from router.policy.callers import Caller
from router.server import Sidecar
from telemetry import events
from telemetry.events import Result
from telemetry.store import Address

CALLS_OF_A_SESSION = 5
AT_ONCE = 250
"""Decisions that are written down together: of a quarter of a second, at a thousand a second."""
BODY = json.dumps({"model": "auto", "messages": [{"role": "user", "content": "?"}]}).encode()
OPEN = 8
"""Calls that are decided at a time: most wait for the store to take their session's draw."""


class ExplainLoad:
    """A router that makes decisions as fast as it can."""

    def __init__(self, configuration: Configuration, address: Address) -> None:
        self.sidecar = app = Sidecar(configuration, address)
        secrets = app.keeper.secrets
        self._decider = app.calls.decider
        self._booking = Booking(
            app.writer,
            Seal(app.sealing.known),
            secrets.users,
            app.metrics,
            RecentNames(),
            app.keeper.served,
            n_shards=configuration.store.shards,
        )
        self._request = chat.parse(BODY)
        self._n = 0

    def run(self, n: int) -> None:
        """Make so many decisions with an outcome each, all of them written down."""
        asyncio.run(self._run(n))

    async def _run(self, n: int) -> None:
        await self.sidecar.start()
        while self._n < n:
            batch = min(AT_ONCE, n - self._n)
            for first in range(0, batch, OPEN):
                await asyncio.gather(
                    *(self._call(self._n + i) for i in range(first, min(first + OPEN, batch)))
                )
            self._n += batch
            await asyncio.to_thread(self.sidecar.decisions.flush)
        await self.sidecar.stop()

    async def _call(self, number: int) -> None:
        beliefs = self.sidecar.keeper.current
        caller = Caller(next(iter(beliefs.configuration.apps.values())))
        at = Moment(time.time(), time.monotonic())
        headers = {b"x-router-session-id": b"%d" % (number // CALLS_OF_A_SESSION)}
        context = await self._decider.contexts.of(beliefs, caller, headers, self._request, at)
        if context is None:
            raise SystemExit("nobody takes `auto`")
        decision = await self._decider.decide(context)
        self.sidecar.decisions.put(decision)
        while not self.sidecar.writer.put(self._outcome(decision, number)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # the journal is full until the worker has caught up

    def _outcome(self, decision: Decision, number: int) -> bytes:
        drawn = decision.plan.drawn
        return events.outcome(
            self._booking.token(decision, drawn),
            result=Result.SERVER if number % 37 == drawn.index else Result.OK,
            attempt=1,
            status=200,
            flags=flags_of(decision) | FINAL,
            tokens_in=100 + number % 50,
            tokens_out=10 + number % 90,
            latency_s=0.2 + (number % 100) / 200 + drawn.index / 20,
            ttft_s=0.1,
            cost_nano=1000 * (1 + drawn.index),
        )
