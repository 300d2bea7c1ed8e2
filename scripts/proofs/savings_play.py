"""Calls of a recorded table under the guarded law, booked as the sidecar books them.

In the world that grows calls are several prompts at once as soon as the choice is another than the
incumbent, which is then drawn no more: none of the long ones was ever its.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
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
from workers.jobs.choices_known import KnownChoices
from workers.jobs.savings import day_sums

DAY_MS = 86_400_000
FIRST_DAY = 20_000
FOLLOW_UP_SHARE = 0.25
"""Of calls a second one of the same session, as in the demo."""
FLOOR = 0.02
NANO = 1e9
APP, STRATEGY = 1, 2
BOOKED = int(Flag.FINAL | Flag.PRICED | Flag.USAGE_KNOWN | Flag.ROUTED)


GROWN = 6
"""Prompts of a call of a world that grew."""
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PlayedCalls:
    """What was called, who served, and what became of it as records."""

    table: Recorded
    incumbent: int
    prompts: NDArray[np.intp]  # (n_calls, n): of each call, all of one task; -1 where it has fewer
    arm: NDArray[np.intp]  # (n_calls,)
    records: NDArray[np.void]
    days: range
    choices: KnownChoices = field(default_factory=KnownChoices)
    list_usd: Values | None = None  # (n_prompts, n_endpoints); None: as the table has them

    @property
    def task(self) -> NDArray[np.str_]:
        """Names of the calls' tasks, (n_calls,)."""
        return np.asarray(np.array(self.table.categories)[self.table.category[self.prompts[:, 0]]])

    @property
    def true_usd(self) -> Values:
        """What calls had cost with the incumbent, (n_calls,)."""
        usd = self.table.cost_usd if self.list_usd is None else self.list_usd
        return np.asarray(self._each(usd, self.incumbent).sum(axis=1))

    @property
    def true_reward(self) -> Values:
        """What the incumbent had earned, (n_calls,)."""
        return self._mean_reward(self.incumbent)

    @property
    def earned(self) -> Values:
        """What who served earned, (n_calls,)."""
        return self._mean_reward(self.arm[:, None])

    def _mean_reward(self, arm: NDArray[np.intp] | int) -> Values:
        reward = self._each(self.table.quality, arm)
        return np.asarray(reward.sum(axis=1) / (self.prompts >= 0).sum(axis=1))

    def _each(self, values: Values, arm: NDArray[np.intp] | int) -> Values:
        return np.where(self.prompts >= 0, values[self.prompts, arm], 0.0)

    def section(self) -> dict[str, Any]:
        """Return what is said of them: summed up, stored, read again and worked out."""
        found = day_sums([self.records], since_ms=0, choices=self.choices)
        stored = [pack_day(rows) for rows in found.values()]
        rows = np.concatenate([unpack_day(day, SAVING_ROW) for day in stored])
        (app,) = savings(rows, days=self.days)
        tasks = [
            {"task": self.table.categories[task.task], **figures(task.part, task.checked)}
            for task in app.tasks
        ]
        return {**figures(app.part, app.checked, limit=app.limit), "tasks": tasks}


def of_one_task(table: Recorded) -> Recorded:
    """Return a table whose prompts are all of one task."""
    return replace(table, categories=["all"], category=np.zeros(len(table.prompts), dtype=np.intp))


@dataclass(slots=True)
class _Unit:
    """What the calls of a session share."""

    session: int
    category: int
    arm: int
    flags: int
    propensity: float
    choice: int


class _Play:
    """Sidecar and callers in one."""

    def __init__(
        self, table: Recorded, incumbent: int, seed: int, n_calls: int, *, grows: bool
    ) -> None:
        self._table, self._incumbent, self._grows = table, incumbent, grows
        self._rng = np.random.default_rng([seed, 5])
        self._loop = Loop(
            n_categories=len(table.categories),
            n_arms=len(table.endpoints),
            rules=Rules(incumbent=incumbent, floor=FLOOR),
            rng=np.random.default_rng([seed, 1]),
            n_calls=n_calls,
        )
        n_tasks = len(table.categories)
        self._of_task = [np.flatnonzero(table.category == c) for c in range(n_tasks)]
        self.changes: dict[tuple[int, int, int], list[tuple[int, int, int]]] = {}
        self._stands = [incumbent] * n_tasks

    def unit(self, call: int, at_ms: int) -> _Unit:
        """Return a new session, with its draw."""
        table, loop = self._table, self._loop
        category = int(table.category[int(self._rng.integers(len(table.prompts)))])
        n = len(table.endpoints)
        loop.set_time(at_ms, np.ones(n))
        arm = loop.choose(call, category, np.ones(n, dtype=bool))
        assert loop.last is not None
        assert loop.law.current is not None
        choice, before = int(loop.law.current), self._stands[category]
        if choice != before:
            known = self.changes.setdefault((APP, STRATEGY, category), [])
            known.append((at_ms, before + 1, choice + 1))
            self._stands[category] = choice
        flags = BOOKED | (int(Flag.BY_INCUMBENT) if arm == self._incumbent else 0)
        flags |= int(Flag.EXPLORED) if choice != loop.last.group else 0
        return _Unit(call + 1, category, arm, flags, loop.last.propensity, choice)

    def call(self, call: int, at_ms: int, unit: _Unit) -> tuple[NDArray[np.intp], bytes]:
        """Return the prompts of a call, and what it and its label are booked as."""
        table, arm = self._table, unit.arm
        is_long = self._grows and unit.choice != self._incumbent
        prompts = self._rng.choice(self._of_task[unit.category], GROWN if is_long else 1)
        cost_usd = float(table.cost_usd[prompts, arm].sum())
        reward = float(table.quality[prompts, arm].mean())
        self._loop.answered(unit.category, arm, ok=True, cost_usd=cost_usd, latency_s=None)
        self._loop.judged(call, unit.category, arm, reward, at_ms)
        token = self._token(call, at_ms, unit)
        return prompts, events.outcome(
            token,
            result=Result.OK,
            attempt=1,
            status=200,
            flags=unit.flags,
            tokens_in=int(table.tokens_in[prompts, arm].sum()),
            tokens_out=int(table.tokens_out[prompts, arm].sum()),
            cost_nano=round(cost_usd * NANO),
            price_source=PriceSource.OWN,
        ) + events.feedback(
            token,
            kind=FeedbackKind.TEST,
            value=reward,
            revision=0,
            event=new_event_id(at_ms),
            received_at_ms=at_ms,
        )

    def _token(self, call: int, at_ms: int, unit: _Unit) -> bytes:
        return Token(
            key_id=0,
            shard=0,
            flags=unit.flags & 0xFFFF,
            nonce=call.to_bytes(16, "little"),
            decided_at_ms=at_ms,
            category=unit.category,
            drawn=unit.arm,
            executed=unit.arm,
            strategy=STRATEGY,
            app=APP,
            release_key=unit.category,
            session=unit.session,
            propensity=unit.propensity,
            predicted=float(self._loop.posterior.quality.mean[unit.category, unit.arm]),
            predicted_sd=0.1,
        ).pack()

    def goes_on(self) -> bool:
        """Return whether a session has a second call."""
        return bool(self._rng.random() < FOLLOW_UP_SHARE)


def play(
    table: Recorded, incumbent: int, seed: int, n_calls: int, *, grows: bool = False
) -> PlayedCalls:
    """Return calls that the sidecar's own loop served, each with a label.

    Args:
        grows: calls are `GROWN` prompts long once the choice is another than the incumbent.
    """
    played = _Play(table, incumbent, seed, n_calls, grows=grows)
    prompts = np.full((n_calls, GROWN), -1, dtype=np.intp)
    arms, found = np.zeros(n_calls, dtype=np.intp), bytearray()
    unit, goes_on = None, False
    for call in range(n_calls):
        at_ms = FIRST_DAY * DAY_MS + call * DAY_MS // CALLS_A_DAY
        if unit is not None and goes_on:
            goes_on = False
        else:
            unit = played.unit(call, at_ms)
            goes_on = played.goes_on()
        own, booked = played.call(call, at_ms, unit)
        prompts[call, : len(own)], arms[call] = own, unit.arm
        found += booked
    records, bad = decoding.decode(bytes(found))
    assert not bad
    days = range(FIRST_DAY, FIRST_DAY + n_calls // CALLS_A_DAY + 1)
    choices = KnownChoices(played.changes)
    return PlayedCalls(table, incumbent, prompts, arms, records, days, choices)
