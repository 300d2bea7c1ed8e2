"""A sidecar in this process that serves recorded outcomes under a budget, on a clock of its own.

It makes real decisions, watches the budget as it does in service, and learns from records as a
worker folds them. Nothing refuses a call here: what is spent is what pacing makes of it.
"""

from __future__ import annotations

import json
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from bandit import cells
from bandit.cells import Terms
from bandit.families import N_COLUMNS, Family, Q
from bandit.replay.loop import Loop, Rules
from router.beliefs.beliefs import believe
from router.budgets.claims import BudgetClaim
from router.budgets.standings import BudgetStanding
from router.budgets.turned_away import Turnings
from router.budgets.watch import BudgetWatch
from router.config.compiled import Configuration, compile_text
from router.decision.context import Moment
from router.demo.run import configuration_text, list_prices
from router.dialects import chat
from router.endpoints.catalog import Endpoint
from router.policy.callers import Caller
from router.server import Sidecar
from telemetry import keys
from telemetry.budget_rows import FoldedSpend, account_field, day_of, pack_account
from telemetry.decoding import decode
from telemetry.events import Flag, PriceSource, Result, outcome
from telemetry.recorded import Recorded
from telemetry.store import Address, connect
from telemetry.tokens import Token
from workers.folding.terms import outcome_terms

NOWHERE = Address("unix:///nowhere/store.sock")
BEGINS_S = 20_000 * 86_400.0
HOUR_S = 3600.0
LOOK_EVERY_S = 10.0
"""So that a batch of labels is what a replay's is: of some ten calls."""
BUDGET, APP, STRATEGY = "demo", "default", "quality"
NANO = 1e9
SECRET = b"s" * 32
NO_CLIENT: Any = None


@dataclass(slots=True)
class PacedRun:
    """What was served under a budget."""

    prompt: NDArray[np.intp]  # (n_calls,)
    arm: NDArray[np.intp]
    at_s: NDArray[np.float64]
    cost_usd: NDArray[np.float64]
    reward: NDArray[np.float64]
    budget_usd: float
    prices: list[tuple[float, float]]  # at each look: seconds, and successes a USD

    @property
    def spent_share(self) -> float:
        """What was spent, as a share of the budget."""
        return float(self.cost_usd.sum() / self.budget_usd)


class PacedWorld:
    """A sidecar whose clock, labels and books are told."""

    def __init__(
        self, table: Recorded, address: Address, state_dir: Path, *, budget_usd: float
    ) -> None:
        value = yaml.safe_load(configuration_text(table, 1, state_dir))
        value["apps"][APP]["unit"] = "call"
        value["budgets"] = {BUDGET: {"per": "hour", "usd": float(budget_usd)}}
        self.table, self.now_s, self.spent = table, BEGINS_S, FoldedSpend()
        self.configuration: Configuration = compile_text(yaml.safe_dump(value), file="t")
        self.app = Sidecar(self.configuration, NOWHERE)
        self.keeper = self.app.keeper
        for secret in (self.keeper.secrets.users, self.keeper.secrets.draws):
            secret.agree(NO_CLIENT, SECRET)  # the same luck every time
        self.decider = self.app.calls.decider
        self.claims: dict[Any, BudgetClaim] = {}
        self.watch = BudgetWatch(
            address,
            self,
            self.decider.contexts.prices,
            n_shards=self.configuration.store.shards,
            beliefs=lambda: self.keeper.current,
            now_s=lambda: self.now_s,
            warned=Counter(),
            turnings=Turnings(Counter()),
        )
        self._client = connect(address)
        self._rows: Terms = cells.from_bytes(b"", b"")
        self._news: list[Terms] = []
        self._version = 0
        self.usd = booked_usd(table)
        self.believe()

    # -- of whoever reserves -------------------------------------------------------------------

    def active(self) -> list[BudgetClaim]:
        """Return the accounts in use."""
        return list(self.claims.values())

    def standing(self, claim: BudgetClaim) -> BudgetStanding:
        """Return what was spent of an account."""
        return BudgetStanding(spent=self.spent.amount)

    # -- the loop --------------------------------------------------------------------------------

    def believe(self) -> None:
        """Fold what came, and believe what follows."""
        self._rows = cells.merge([self._rows, *self._news])
        self._news.clear()
        self._version += 1
        self.keeper.current = believe(
            self.configuration, self._rows, version=self._version, now_ms=int(self.now_s * 1000)
        )

    async def look(self) -> None:
        """Fold, tell the store what is spent, and have the watch look."""
        self.believe()
        for claim in self.claims.values():
            account = claim.account
            row = pack_account(self.spent, account.length_s)
            name = keys.budget_rows(0, day_of(account))
            self._client.hset(name, account_field(account), row)
        await self.watch.look()

    async def call(self, prompt: int) -> int:
        """Decide one call, serve it as recorded and label it; return who served it."""
        table = self.table
        body = {"model": "auto", "messages": [{"role": "user", "content": f"{prompt}"}]}
        request = chat.parse(json.dumps(body).encode())
        task = table.categories[table.category[prompt]]
        headers = {b"x-router-task": task.encode()}
        at, beliefs = Moment(self.now_s, self.now_s), self.keeper.current
        caller = Caller(self.configuration.apps[APP])
        context = await self.decider.contexts.of(beliefs, caller, headers, request, at)
        assert context is not None
        decision = await self.decider.decide(context)
        for claim in context.claims:
            self.claims[claim.account] = claim
        drawn = decision.plan.drawn
        self._book(drawn, prompt, context.task.name)
        return drawn.index

    def _book(self, endpoint: Endpoint, prompt: int, task: str) -> None:
        table, arm = self.table, endpoint.index
        app, at_ms = self.configuration.apps[APP], int(self.now_s * 1000)
        category, nano = app.categories[task], round(float(self.usd[prompt, arm]) * NANO)
        token = Token(
            key_id=0,
            shard=0,
            flags=0,
            nonce=self.spent.n_calls.to_bytes(16, "little"),
            decided_at_ms=at_ms,
            category=category,
            drawn=endpoint.digest,
            executed=endpoint.digest,
            strategy=self.configuration.strategies[STRATEGY].digest,
            app=app.digest,
            release_key=0,
            session=0,
            propensity=1.0,
            predicted=0.5,
            predicted_sd=0.1,
        ).pack()
        record = outcome(
            token,
            result=Result.OK,
            attempt=1,
            status=200,
            flags=int(Flag.FINAL | Flag.PRICED | Flag.USAGE_KNOWN | Flag.ROUTED),
            tokens_in=int(table.tokens_in[prompt, arm]),
            tokens_out=int(table.tokens_out[prompt, arm]),
            cost_nano=nano,
            price_source=PriceSource.OWN,
        )
        records, bad = decode(record)
        assert not bad
        reward = float(table.quality[prompt, arm])
        columns = np.zeros((1, N_COLUMNS))
        columns[0, [Q.LABELS, Q.N, Q.R, Q.R2]] = 1, 1, reward, reward**2
        label = cells.terms(
            Family.QUALITY,
            category=np.array([category], dtype=np.uint64),
            endpoint=np.array([endpoint.digest], dtype=np.uint64),
            at_ms=np.array([at_ms]),
            columns=columns,
        )
        self._news += [*outcome_terms(records), label]
        self.spent = FoldedSpend(self.spent.amount + nano, self.spent.n_calls + 1)

    def close(self) -> None:
        """Let go of the store."""
        self._client.close()


def booked_usd(table: Recorded) -> NDArray[np.float64]:
    """Return (n_prompts, n_endpoints) tokens at list price, which need not be the recorded cost."""
    prices = np.array([list_prices(table, e) for e in range(len(table.endpoints))])
    return np.asarray((table.tokens_in * prices[:, 0] + table.tokens_out * prices[:, 1]) / 1e6)


def dearness(table: Recorded) -> NDArray[np.float64]:
    """Return (n_endpoints,) what list prices alone tell of them, on average 1."""
    prices = np.array([list_prices(table, e) for e in range(len(table.endpoints))])
    usd = prices @ np.array([table.tokens_in.mean(), table.tokens_out.mean()])
    return np.asarray(usd / usd.mean())


async def play(
    table: Recorded,
    address: Address,
    state_dir: Path,
    *,
    prompts: NDArray[np.intp],
    at_s: NDArray[np.float64],
    budget_usd: float,
) -> PacedRun:
    """Return what becomes of an hour's calls under an hour's budget.

    Args:
        at_s: (n_calls,) when each comes, in seconds of the hour, rising.
    """
    world = PacedWorld(table, address, state_dir, budget_usd=budget_usd)
    arms, prices = np.zeros(len(prompts), dtype=np.intp), []
    next_s = LOOK_EVERY_S
    with closing(world):
        for i, (prompt, when) in enumerate(zip(prompts.tolist(), at_s.tolist(), strict=True)):
            while next_s <= when:
                world.now_s = BEGINS_S + next_s
                await world.look()
                price = world.decider.contexts.prices.expected(tuple(world.claims.values()))
                prices.append((next_s, price))
                next_s += LOOK_EVERY_S
            world.now_s = BEGINS_S + when
            arms[i] = await world.call(prompt)
    return PacedRun(
        prompts,
        arms,
        at_s,
        world.usd[prompts, arms],
        table.quality[prompts, arms],
        budget_usd,
        prices,
    )


def replayed(
    table: Recorded, usd: NDArray[np.float64], prompts: NDArray[np.intp], budget_usd: float
) -> tuple[float, float]:
    """Return the quality that a replay reaches on the same calls, and its share of the budget.

    Args:
        usd: (n_prompts, n_endpoints) what is booked of each call.
    """
    n, everybody = len(prompts), np.ones(len(table.endpoints), dtype=bool)
    price = dearness(table)  # as the sidecar knows list prices before the first call
    loop = Loop(
        n_categories=len(table.categories),
        n_arms=len(table.endpoints),
        rules=Rules(budget_usd=budget_usd / n),
        rng=np.random.default_rng(0),
        n_calls=n,
    )
    reward = spent = 0.0
    for i, prompt in enumerate(prompts.tolist()):
        category = int(table.category[prompt])
        loop.set_time(i * 1000, price)
        arm = loop.choose(i, category, everybody)
        cost, earned = float(usd[prompt, arm]), float(table.quality[prompt, arm])
        loop.answered(category, arm, ok=True, cost_usd=cost, latency_s=None)
        loop.judged(i, category, arm, earned, i * 1000)
        reward, spent = reward + earned, spent + cost
    return reward / n, spent / budget_usd
