"""Calls of a recorded table under the guarded law, booked as the sidecar books them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandit.replay.loop import CALLS_A_DAY, Loop, Rules
from bandit.saving_sums import SAVING_ROW
from bandit.savings import figures, savings
from telemetry import decoding, events
from telemetry.event_ids import new_event_id
from telemetry.events import FeedbackKind, Flag, PriceSource, Result
from telemetry.recorded import Recorded
from telemetry.saving_state import pack_day, unpack_day
from telemetry.tokens import Token
from workers.jobs.savings import day_sums

DAY_MS = 86_400_000
FIRST_DAY = 20_000
FOLLOW_UP_SHARE = 0.25
"""Of calls a second one of the same session, as in the demo."""
FLOOR = 0.02
NANO = 1e9
APP, STRATEGY = 1, 2
BOOKED = int(Flag.FINAL | Flag.PRICED | Flag.USAGE_KNOWN | Flag.ROUTED)


@dataclass(frozen=True, slots=True)
class PlayedCalls:
    """What was called, who served, and what became of it as records."""

    table: Recorded
    usd: NDArray[np.float64]  # (n_prompts, n_endpoints) what a call costs
    prompt: NDArray[np.intp]  # (n_calls,)
    arm: NDArray[np.intp]  # (n_calls,)
    records: NDArray[np.void]
    days: range

    def section(self) -> dict[str, Any]:
        """Return what is said of them: summed up, stored, read again and worked out."""
        found = day_sums([self.records], since_ms=0)
        stored = [pack_day(rows) for rows in found.values()]
        rows = np.concatenate([unpack_day(day, SAVING_ROW) for day in stored])
        (app,) = savings(rows, days=self.days)
        tasks = [
            {"task": self.table.categories[task.task], **figures(task.part, task.checked)}
            for task in app.tasks
        ]
        return {**figures(app.part, app.checked, limit=app.limit), "tasks": tasks}


def play(table: Recorded, incumbent: int, seed: int, n_calls: int) -> PlayedCalls:
    """Return calls that the sidecar's own loop served, each with a label."""
    rng = np.random.default_rng([seed, 5])
    loop = Loop(
        n_categories=len(table.categories),
        n_arms=len(table.endpoints),
        rules=Rules(incumbent=incumbent, floor=FLOOR),
        rng=np.random.default_rng([seed, 1]),
        n_calls=n_calls,
    )
    of_task = [np.flatnonzero(table.category == c) for c in range(len(table.categories))]
    price, everybody = np.ones(len(table.endpoints)), np.ones(len(table.endpoints), dtype=bool)
    prompts, arms = np.zeros(n_calls, dtype=np.intp), np.zeros(n_calls, dtype=np.intp)
    found = bytearray()
    goes_on, flags, propensity, session = False, 0, 1.0, 0
    for call in range(n_calls):
        at_ms = FIRST_DAY * DAY_MS + call * DAY_MS // CALLS_A_DAY
        if goes_on:
            prompt = int(rng.choice(of_task[table.category[prompts[call - 1]]]))
            arm, goes_on = int(arms[call - 1]), False
        else:
            prompt, session = int(rng.integers(len(table.prompts))), call + 1
            loop.set_time(at_ms, price)
            arm = loop.choose(call, int(table.category[prompt]), everybody)
            assert loop.last is not None
            propensity, goes_on = loop.last.propensity, bool(rng.random() < FOLLOW_UP_SHARE)
            flags = BOOKED | (int(Flag.BY_INCUMBENT) if arm == incumbent else 0)
            flags |= int(Flag.EXPLORED) if loop.law.current != loop.last.group else 0
        prompts[call], arms[call] = prompt, arm
        category, reward = int(table.category[prompt]), float(table.quality[prompt, arm])
        cost_usd = float(table.cost_usd[prompt, arm])
        loop.answered(category, arm, ok=True, cost_usd=cost_usd, latency_s=None)
        loop.judged(call, category, arm, reward, at_ms)
        predicted = float(loop.posterior.quality.mean[category, arm])
        token = Token(
            key_id=0,
            shard=0,
            flags=flags & 0xFFFF,
            nonce=call.to_bytes(16, "little"),
            decided_at_ms=at_ms,
            category=category,
            drawn=arm,
            executed=arm,
            strategy=STRATEGY,
            app=APP,
            release_key=category,
            session=session,
            propensity=propensity,
            predicted=predicted,
            predicted_sd=0.1,
        ).pack()
        found += events.outcome(
            token,
            result=Result.OK,
            attempt=1,
            status=200,
            flags=flags,
            cost_nano=round(cost_usd * NANO),
            price_source=PriceSource.OWN,
        )
        found += events.feedback(
            token,
            kind=FeedbackKind.TEST,
            value=reward,
            revision=0,
            event=new_event_id(at_ms),
            received_at_ms=at_ms,
        )
    records, bad = decoding.decode(bytes(found))
    assert not bad
    days = range(FIRST_DAY, FIRST_DAY + n_calls // CALLS_A_DAY + 1)
    return PlayedCalls(table, table.cost_usd, prompts, arms, records, days)
