"""The daily ceilings of exploring: what is counted, and when calls hold to the choice."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Provider, Sidecar, endpoint, learning, serving
from test_budget_calls import spends
from test_endings import PRICED, Router
from test_reserving import until

from bandit.steps import Step
from router.budgets.allowances import Allowances
from router.budgets.exploring import UNKNOWN, CeilingClaims, ExploringCeilings
from router.config.compiled import App, Configuration, compile_text
from router.decision.decide import Decision
from router.dispatch.beyond_choice import BeyondChoice
from router.dispatch.decision_flags import flags_of
from router.errors import ConfigError
from router.report.exploring import (
    StoredStandings,
    ceiling_lines,
    ceiling_rows,
    with_ceilings,
)
from telemetry.budget_accounts import BudgetAccounts
from telemetry.embedded import PrivateServer
from telemetry.events import Flag
from telemetry.store import Address

NOON = datetime(2030, 11, 30, 12, tzinfo=UTC).timestamp()
DAY_S = 86_400.0
HOLDER = b"h" * 16


def compiled(exploring: Any = None, **more: Any) -> Configuration:
    value: dict[str, Any] = {
        "endpoints": [{"id": "a", "model": "m", "base_url": "http://127.0.0.1:1/v1"}],
        "apps": {"default": {}},
        **more,
    }
    if exploring is not None:
        value["apps"]["default"]["exploring"] = exploring
    return compile_text(yaml.safe_dump(value), file="t")


def app_with(**exploring: Any) -> App:
    return compiled(exploring).apps["default"]


# -- what is written ----------------------------------------------------------------------------


def test_what_an_app_says_of_its_ceilings_goes_instead_of_what_the_organisation_does() -> None:
    organisation = {"exploring": {"usd_per_day": 5, "share_of_calls": 0.1}}
    apps: dict[str, Any] = {"default": {}, "own": {"exploring": {"usd_per_day": 1}}}
    apps["none"] = {"exploring": {}}
    found = compiled(organisation=organisation, apps=apps).apps

    assert found["none"].ceilings is None
    plain, own = found["default"].ceilings, found["own"].ceilings
    assert plain is not None
    assert own is not None
    assert plain.money is not None
    assert own.money is not None
    assert (plain.money.limit, own.money.limit) == (5_000_000_000, 1_000_000_000)
    assert plain.most_explored(0) == plain.most_explored(300) == 30
    assert plain.most_explored(1234) == 123
    assert own.explored is own.others is None


def test_without_a_word_there_is_no_ceiling() -> None:
    assert compiled().apps["default"].ceilings is None


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ({"usd_per_day": 0}, "apps.default.exploring.usd_per_day"),
        ({"share_of_calls": 1.5}, "apps.default.exploring.share_of_calls"),
        ({"usd_per_day": 1, "timezone": "Berlin"}, "no such time zone"),
        ({"timezone": "UTC"}, "say usd_per_day, share_of_calls or both"),
        ({"usd_a_day": 1}, "usd_per_day"),
    ],
)
def test_a_ceiling_that_cannot_be_kept_is_told_with_place_and_fix(
    said: dict[str, Any], wrong: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        compiled(said)
    assert wrong in str(raised.value)


# -- accounts -----------------------------------------------------------------------------------


class Process:
    """One sidecar, as far as its ceilings see it."""

    def __init__(self, allowances: Allowances, app: App) -> None:
        self.allowances, self.app = allowances, app
        self.ceilings = ExploringCeilings(allowances)
        self.at_s = NOON
        self.n_explored = 0

    def look(self) -> CeilingClaims:
        found = self.ceilings.of(self.app, self.at_s)
        assert found is not None
        return found

    async def known(self) -> CeilingClaims:
        await until(lambda: self.look().why != UNKNOWN)
        return self.look()

    async def call(self, *, wants: bool = True, nano: int = 0) -> bool:
        """Make a call that explores if it may, and would; return whether it did."""
        found = self.look()
        explores = wants and not found.why
        claims = found.of_call(explores=explores)
        in_money = [claim.budget.unit.value == "usd" for claim in claims]
        reserved = [nano if money else int(explores) for money in in_money]
        grant = await self.allowances.reserve(claims, reserved)
        self.allowances.settle(grant, [nano if money else 1 for money in in_money])
        self.n_explored += explores
        return explores


@asynccontextmanager
async def process(address: Address, app: App, holder: bytes = HOLDER) -> AsyncIterator[Process]:
    allowances = Allowances(address, lambda: holder)
    allowances.start()
    try:
        yield Process(allowances, app)
    finally:
        await allowances.stop()


@pytest.mark.anyio
async def test_nothing_is_explored_before_it_is_known_how_much_is_left(address: Address) -> None:
    async with process(address, app_with(usd_per_day=1)) as one:
        assert one.look().why == UNKNOWN
        assert (await one.known()).why == ""


@pytest.mark.anyio
async def test_of_a_quiet_day_a_share_of_three_hundred_calls_may_explore_and_no_more(
    address: Address,
) -> None:
    async with process(address, app_with(share_of_calls=0.1)) as one:
        await one.known()
        for _ in range(100):
            await one.call()

        assert one.n_explored == 30
        assert one.look().why == "exploring's budget is spent until 2030-12-01T00:00:00Z"


@pytest.mark.anyio
async def test_the_more_calls_an_app_has_the_more_may_explore(address: Address) -> None:
    async with process(address, app_with(share_of_calls=0.1)) as one:
        await one.known()
        for _ in range(400):
            await one.call(wants=False)
        while await one.call():
            pass

        n_calls = 400 + one.n_explored + 1  # the last one did not
        assert one.n_explored == n_calls // 10 == 44


@pytest.mark.anyio
async def test_calls_stop_to_explore_with_the_one_that_reaches_the_ceiling_in_money(
    address: Address, client: Any
) -> None:
    cent = 10_000_000
    async with process(address, app_with(usd_per_day=1)) as one:
        await one.known()
        for _ in range(300):
            await one.call(nano=3 * cent)
        (claim,) = one.look().ceilings

    assert one.n_explored == 34  # 99 cents, and the one that did not fit
    assert BudgetAccounts(client).read(claim.account).debited == 102 * cent


@pytest.mark.anyio
async def test_calls_under_way_beyond_the_ceiling_keep_others_from_exploring(
    address: Address,
) -> None:
    async with process(address, app_with(usd_per_day=1)) as one:
        claims = (await one.known()).ceilings
        grant = await one.allowances.reserve(claims, [2_000_000_000])

        assert one.look().why != ""
        one.allowances.settle(grant, [0])
        assert one.look().why == ""


@pytest.mark.anyio
async def test_the_next_day_begins_anew(address: Address) -> None:
    async with process(address, app_with(share_of_calls=0.1)) as one:
        await one.known()
        for _ in range(40):
            await one.call()
        assert one.n_explored == 30
        one.at_s = NOON + DAY_S
        await one.known()
        for _ in range(40):
            await one.call()

        assert one.n_explored == 60


@pytest.mark.anyio
async def test_what_a_day_came_to_is_known_after_a_restart(address: Address) -> None:
    app = app_with(share_of_calls=0.1)
    async with process(address, app) as one:
        await one.known()
        for _ in range(200):
            await one.call(wants=False)
        while await one.call():
            pass
    async with process(address, app, b"i" * 16) as other:
        await other.known()
        await until(lambda: other.look().ceilings[0].limit == 30)
        for _ in range(40):
            assert not await other.call()

        for _ in range(200):  # beside 231 of the process before and 40 of this one
            await other.call(wants=False)
        assert other.look().why == ""
        assert other.look().ceilings[0].limit == (231 + 240) // 10


@pytest.mark.anyio
async def test_two_sidecars_keep_one_ceiling(address: Address, client: Any) -> None:
    app = app_with(share_of_calls=0.2)
    async with process(address, app) as one, process(address, app, b"i" * 16) as other:
        for each in (one, other):
            await each.known()
        for _ in range(100):
            await one.call()
            await other.call()
        claim = one.look().ceilings[0]

    n_explored = one.n_explored + other.n_explored
    assert min(one.n_explored, other.n_explored) > 0
    assert 59 <= n_explored <= 64  # each may learn it by a call that does not fit, or is late
    assert BudgetAccounts(client).read(claim.account).debited == n_explored


# -- decisions ----------------------------------------------------------------------------------


def guarded(state_dir: Path, **exploring: Any) -> Configuration:
    value: dict[str, Any] = {
        "server": {"state_dir": str(state_dir), "explain_days": 0},
        "endpoints": [
            {"id": n, "model": n, "base_url": f"http://{n}.test/v1", "prices": PRICED}
            for n in ("a", "b", "c")
        ],
        "apps": {"default": {"mode": "route", "strategy": "quality"}},
    }
    if exploring:
        value["apps"]["default"]["exploring"] = exploring
    return compile_text(yaml.safe_dump(value, sort_keys=False), file="t")


def explores(decision: Decision) -> bool:
    return bool(flags_of(decision) & Flag.EXPLORED)


@asynccontextmanager
async def deciding(configuration: Configuration, address: Address) -> AsyncIterator[Router]:
    """A router that has an incumbent with labels, and so may try others."""
    router = Router(configuration, address)
    router.now = NOON
    router.good("a", 100, 0.5)
    router.app.writer.start()
    router.app.allowances.start()
    try:
        yield router
    finally:
        await router.app.allowances.stop()
        router.app.writer.close()


async def at_home(router: Router) -> None:
    """Wait until it is known how much is left."""
    while (decision := await router.call(user="first")).context.ceilings is not None:
        if decision.context.ceilings.why != UNKNOWN:
            return
        await asyncio.sleep(0.01)


async def drawn_of(router: Router, users: range) -> list[tuple[str, float, Step | None]]:
    plans = [(await router.call(user=f"u{user}")).plan for user in users]
    return [(plan.drawn.id, plan.propensity, plan.step) for plan in plans]


@pytest.mark.anyio
async def test_ceilings_that_are_not_reached_change_no_draw(
    tmp_path: Path, address: Address
) -> None:
    ceilings = {"usd_per_day": 1000, "share_of_calls": 1}
    drawn = []
    for n, said in enumerate(({}, ceilings)):
        async with deciding(guarded(tmp_path / str(n), **said), address) as router:
            await at_home(router)
            drawn.append(await drawn_of(router, range(60)))

    assert drawn[0] == drawn[1]
    assert {name for name, _, _ in drawn[0]} == {"a", "b", "c"}


@pytest.mark.anyio
async def test_once_a_ceiling_is_reached_calls_hold_to_the_choice_until_the_next_day(
    tmp_path: Path, address: Address
) -> None:
    async with deciding(guarded(tmp_path, share_of_calls=0.01), address) as router:
        await at_home(router)
        tried = None
        for n in range(200):
            decision = await router.call(session=f"s{n}")
            ceilings = decision.context.ceilings
            assert ceilings is not None
            if ceilings.why:
                break
            if explores(decision):
                tried = n, decision.plan.drawn.id, decision.plan.propensity
                claims = ceilings.of_call(explores=True)
                grant = await router.app.allowances.reserve(claims, [1])
                router.app.allowances.settle(grant, [1])
        assert tried is not None
        held = await drawn_of(router, range(60))
        assert held == [("a", 1.0, Step.STAY)] * 60
        shown = router.decider.preview((await router.call()).context)
        assert (shown["exploring"], shown["propensities"]) == (False, {"a": 1.0})
        assert shown["note"] == "exploring's budget is spent until 2030-12-01T00:00:00Z"

        n, name, propensity = tried  # whoever drew before keeps its draw
        kept = await router.call(session=f"s{n}")
        assert (kept.plan.drawn.id, kept.plan.propensity) == (name, propensity)
        assert explores(kept)

        router.wait(DAY_S / 2)
        await at_home(router)
        assert {name for name, _, _ in await drawn_of(router, range(60))} == {"a", "b", "c"}


@pytest.mark.anyio
async def test_in_learning_mode_a_ceiling_that_is_reached_holds_calls_to_the_best(
    tmp_path: Path, address: Address
) -> None:
    configuration = compile_text(
        yaml.safe_dump(
            {
                "server": {"state_dir": str(tmp_path), "explain_days": 0},
                "endpoints": [
                    {"id": n, "model": n, "base_url": f"http://{n}.test/v1"} for n in "ab"
                ],
                "strategies": {"learn": {"objective": "quality", "incumbent": "none"}},
                "apps": {
                    "default": {
                        "mode": "route",
                        "strategy": "learn",
                        "exploring": {"share_of_calls": 0.01},
                    }
                },
            }
        ),
        file="t",
    )
    async with deciding(configuration, address) as router:
        router.good("b", 20, 0.6)
        await at_home(router)
        assert {name for name, _, _ in await drawn_of(router, range(40))} == {"a", "b"}
        ceilings = (await router.call()).context.ceilings
        assert ceilings is not None
        grant = await router.app.allowances.reserve(ceilings.ceilings, [3])
        router.app.allowances.settle(grant, [3])

        router.wait(60)
        drawn = await drawn_of(router, range(100, 140))
        assert len(set(drawn)) == 1
        assert drawn[0][1] == 1.0


@pytest.mark.anyio
async def test_only_what_all_attempts_cost_beyond_the_choice_is_counted(
    tmp_path: Path, address: Address
) -> None:
    async with deciding(guarded(tmp_path, usd_per_day=1), address) as router:
        context = (await router.call()).context
        choice = context.beliefs.posterior.call_usd[context.category, 0]
        expected = int(choice * 1e9)
        assert expected > 0

        beyond = BeyondChoice(context)
        assert beyond.of(expected + 7) == 7
        assert beyond.settle(expected - 10) == 0
        assert beyond.settle(0) == 0
        assert beyond.of(25) == beyond.settle(25) == 15
        assert beyond.settle(40) == 40


# -- the whole ----------------------------------------------------------------------------------


def value_of(provider: Provider, **exploring: Any) -> dict[str, Any]:
    dear = {"input_usd_per_mtok": 100, "output_usd_per_mtok": 200}
    app = {"mode": "route", "strategy": "quality", "unit": "call", "exploring": exploring}
    return {
        "endpoints": [endpoint(provider, "a"), endpoint(provider, "b", prices=dear)],
        "apps": {"default": app},
    }


def serve(sidecar: Sidecar, dice: random.Random) -> str:
    got = sidecar.chat()
    assert got.status_code == 200
    chosen = str(got.headers["x-router-endpoint"])
    good = dice.random() < {"a": 0.3, "b": 1.0}[chosen]  # so that its allowance lasts
    sidecar.feedback(decision_id=got.headers["x-router-decision-id"], passed=good)
    return chosen


def test_a_sidecar_counts_what_exploring_costs_stops_there_and_says_so(
    provider: Provider, state_dir: Path, address: Address, client: Any, store: PrivateServer
) -> None:
    dice = random.Random(3)
    dear = 10 * 100_000 + 5 * 200_000  # nano-USD of one call
    value = value_of(provider, usd_per_day=4.5 * dear / 1e9, share_of_calls=0.5)

    with serving(value, state_dir, address) as sidecar, learning(state_dir, address):
        n_tried, deadline = 0, time.monotonic() + 60
        while n_tried < 5:  # of which four and a half are allowed
            assert time.monotonic() < deadline
            n_tried += serve(sidecar, dice) == "b"
        sidecar.until(lambda: money_of(sidecar)["used_up"])
        after = [serve(sidecar, dice) for _ in range(40)]
        sidecar.until(lambda: len([s for s in spends(sidecar, address) if s]) >= n_tried + 40)
        written = [each for each in spends(sidecar, address) if each]
        spent = sum(each[0][0] for each in written if len(each) == 2) / 1e9
        sidecar.until(lambda: money_of(sidecar)["spent"] == pytest.approx(spent))
        shown = sidecar.http.get("/v1/router/posteriors").json()

        configuration, now_ms = sidecar.app.keeper.current.configuration, int(time.time() * 1000)
    assert after == ["a"] * 40
    explored = [each for each in written if len(each) == 2]
    assert len(explored) == n_tried
    assert all(counts == (1, True) for _, counts in explored)
    assert all(0 < money <= dear and is_call for (money, is_call), _ in explored)
    assert all(each == [(1, True)] for each in written if len(each) == 1)
    money, calls = shown["exploring"]
    assert money["used_up"]
    assert 4.5 <= money["spent"] * 1e9 / dear <= 5
    assert not calls["used_up"]
    assert (calls["spent"], calls["limit"]) == (n_tried, max(calls["calls"], 300) // 2)
    (choice,) = (row for row in shown["choices"] if row["task"] == "general")
    assert not choice["exploring"]
    assert choice["note"] == money["note"]
    stored = ceiling_rows(configuration, StoredStandings(client), at_ms=now_ms)
    assert [row["spent"] for row in stored] == [money["spent"], calls["spent"]]
    first, second = ceiling_lines(stored)
    assert first.startswith("exploring of default today: 0.01 of 0.01 USD beyond the choice; ")
    assert second.startswith(f"exploring of default today: {n_tried} of ")
    assert with_ceilings({"choices": shown["choices"]}, stored)["exploring"] == stored
    assert choice["note"].startswith("exploring's budget is spent until")


def money_of(sidecar: Sidecar) -> dict[str, Any]:
    found: dict[str, Any] = sidecar.http.get("/v1/router/posteriors").json()["exploring"][0]
    return found
