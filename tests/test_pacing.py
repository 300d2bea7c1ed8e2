"""A budget of money lasts until its period ends: its price, when it is solved and what it moves."""

from __future__ import annotations

import asyncio
import zoneinfo
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import yaml
from conftest import Provider, Sidecar, endpoint, learning, serving
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from structlog.testing import capture_logs

from bandit.draws import LEARNING, Law
from bandit.pacing import STEP, Price, on_grid, solve, spend, with_price
from bandit.utility import BALANCED, Objective, Order
from router.budgets.call_mix import MAX_KINDS, CallKind, CallMix
from router.budgets.claims import BudgetClaim
from router.budgets.expected_calls import CallCurve, CallsSince, calls_to_come
from router.budgets.kept_prices import read_records
from router.budgets.periods import period_of
from router.budgets.prices import MoneyPrices
from router.budgets.solving import SolvedPrice, solve_price
from router.budgets.standings import BudgetStanding
from router.budgets.turned_away import Turnings
from router.budgets.warnings import KEPT_S, passed_marks, prune, read_warnings, warning_of
from router.budgets.watch import LINGER_S, BudgetWatch
from router.config.budgets import Budget, BudgetSpan, BudgetUnit, OnSpent
from router.config.compiled import Configuration, compile_text
from router.demo.budgeted import ZONE, keep_zones_in, plan_budget
from router.explain.told import limit_lines
from scripts.proofs.pacing import PacingRun, figures_of, is_sound, one_run
from telemetry import keys
from telemetry.budget_accounts import BudgetPeriod
from telemetry.budget_rows import FoldedSpend, account_field, day_of, pack_account
from telemetry.recorded import synthetic
from telemetry.store import Address, connect

BEGINS_S = 20_000 * 86_400
HOUR = BudgetPeriod(7, BEGINS_S, 3600)
NANO = 10**9


# -- the objective under a price -----------------------------------------------------------------


def test_a_price_is_added_to_what_a_usd_is_worth_in_successes_and_waiting_keeps_its_worth() -> None:
    own = Objective(value_usd=0.05, latency_usd_per_s=0.001)

    dear = with_price(own, 30.0)

    assert dear.value_usd == pytest.approx(1 / (20 + 30))
    assert dear.latency_usd_per_s / dear.value_usd == pytest.approx(0.001 / 0.05)


def test_where_quality_alone_counts_a_price_is_all_that_money_is_worth() -> None:
    assert with_price(Objective(), 40.0) == Objective(value_usd=1 / 40)
    assert with_price(Objective(latency_usd_per_s=0.1), 40.0).latency_usd_per_s == 0


@pytest.mark.parametrize("order", [Order.CHEAPEST, Order.FASTEST])
def test_an_order_and_an_objective_without_price_stay(order: Order) -> None:
    assert with_price(Objective(order), 40.0) == Objective(order)
    assert with_price(BALANCED, 0.0) is BALANCED


def test_a_price_needs_the_value_of_one_category() -> None:
    with pytest.raises(ValueError, match="several values"):
        with_price(Objective(values_usd=(0.1, 0.2)), 1.0)


@given(seed=st.integers(0, 10_000), share=st.floats(0.02, 0.98))
def test_prices_of_the_grid_spend_what_the_solved_one_does(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    cost = 10 ** rng.uniform(-4, -2, size=(3, 4))
    scores = rng.normal(0.5, 0.1, size=(32, 3, 4)) + 0.1 * np.log10(cost)
    traffic = rng.dirichlet(np.ones(3))
    low, high = float(traffic @ cost.min(axis=1)), spend(0.0, scores, cost, traffic)
    target = low + share * (high - low)

    found = on_grid(
        solve(scores, cost, traffic, target=target), scores, cost, traffic, target=target
    )

    spent = [spend(p, scores, cost, traffic) for p in (found.low, found.high)]
    assert found.p_low * spent[0] + (1 - found.p_low) * spent[1] <= target * (1 + 1e-9) + 1e-12
    if 0 < found.p_low < 1:
        assert found.p_low * spent[0] + (1 - found.p_low) * spent[1] == pytest.approx(target)
    steps = np.log([found.low, found.high]) / STEP if found.high else np.zeros(2)
    assert steps == pytest.approx(np.rint(steps), abs=1e-6)


# -- how many calls are to come --------------------------------------------------------------------


def curve(*n: int, start_s: int = BEGINS_S) -> CallCurve:
    return CallCurve(start_s, 2400, list(n))


def test_without_a_period_before_calls_come_at_the_rate_since_the_first() -> None:
    """A sidecar that begins in the middle does not count the silence before."""
    since = CallsSince(BEGINS_S + 600, 40)

    assert calls_to_come(curve(100), None, since, at_s=BEGINS_S + 1200) == pytest.approx(120)
    assert calls_to_come(curve(100), None, since, at_s=BEGINS_S + 601) is None
    assert calls_to_come(curve(43), None, since, at_s=BEGINS_S + 1200) is None


def test_a_young_period_goes_as_the_last_one_went_in_its_hours() -> None:
    """Of 240 calls that all came in the second half, none had come by now, and all are to come."""
    last = curve(*[0] * 12, *range(20, 260, 20), start_s=BEGINS_S - 2400)
    since = CallsSince(BEGINS_S, 0)

    assert calls_to_come(curve(0), last, since, at_s=BEGINS_S + 100) == pytest.approx(240)
    at_half = calls_to_come(curve(*[0] * 11, 20), last, since, at_s=BEGINS_S + 1200)
    assert at_half == pytest.approx(0.5 * 240 * 40 / 20 + 0.5 * 20)
    assert calls_to_come(curve(*[0] * 24), last, since, at_s=BEGINS_S + 2400) == 0


def test_a_curve_counts_calls_up_to_each_part() -> None:
    found = curve()
    for at_s, n in ((50, 3), (99, 7), (350, 9)):
        found.note(n, BEGINS_S + at_s)

    assert found.n == [7, 7, 7, 9]
    assert found.by(1 / 48) == pytest.approx(3.5)
    assert found.by(3.5 / 24) == pytest.approx(8)
    assert found.by(1.0) == found.total == 9


# -- the price of an account -----------------------------------------------------------------------


def configured(usd: float = 1.0, **more: Any) -> Configuration:
    value: dict[str, Any] = {
        "endpoints": [
            {
                "id": name,
                "model": name,
                "base_url": f"http://{name}.test/v1",
                "prices": {"input_usd_per_mtok": 0, "output_usd_per_mtok": price},
            }
            for name, price in (("cheap", 1.0), ("dear", 10.0))
        ],
        "strategies": {"learn": {"objective": "quality", "incumbent": "none"}},
        "apps": {"default": {"mode": "route", "strategy": "learn", "unit": "call"}},
        "budgets": {"all": {"per": "hour", "usd": usd}},
        **more,
    }
    return compile_text(yaml.safe_dump(value, sort_keys=False), file="t")


def believed(configuration: Configuration) -> Any:
    """Beliefs by which the dear endpoint is better in nine rows of ten or so."""
    from bandit import cells
    from bandit.families import N_COLUMNS, Family, Q
    from router.beliefs.beliefs import believe
    from telemetry.digests import digest8

    columns = np.zeros((400, N_COLUMNS))
    good = np.r_[np.arange(200) < 120, np.arange(200) < 150].astype(float)
    columns[:, [Q.LABELS, Q.N]] = 1
    columns[:, Q.R], columns[:, Q.R2] = good, good
    by_id = configuration.catalog.by_id
    rows = cells.terms(
        Family.QUALITY,
        category=np.full(400, digest8("task", "general"), dtype=np.uint64),
        endpoint=np.repeat(
            np.array([by_id["cheap"].digest, by_id["dear"].digest], dtype=np.uint64), 200
        ),
        at_ms=np.full(400, BEGINS_S * 1000),
        columns=columns,
    )
    return believe(configuration, cells.merge([rows]), version=1, now_ms=BEGINS_S * 1000)


def kind_in(configuration: Configuration, *, law: Law | None = LEARNING, **more: Any) -> CallKind:
    return CallKind(
        **{
            "app": "default",
            "task": "general",
            "strategy": configuration.strategies["learn"],
            "compared": 0,
            "first": 1,
            "law": law,
            "mask": np.ones(2, dtype=bool),
            "catalog": configuration.catalog,
            **more,
        }
    )


def free(claims: object) -> float:
    return 0.0


def test_money_is_free_while_it_suffices_and_dear_enough_for_it_to_last_where_it_does_not() -> None:
    configuration = configured()
    beliefs = believed(configuration)
    cost = beliefs.posterior.cost_usd[0]
    mix = [(1.0, kind_in(configuration))]

    rich = solve_price(mix, beliefs, left_usd=100 * cost[1], calls=100, other_prices=free)
    poor = solve_price(mix, beliefs, left_usd=50 * cost.sum(), calls=100, other_prices=free)

    assert rich is not None
    assert rich.price == Price()
    assert poor is not None
    assert 0 < poor.price.low < poor.price.high
    value = [with_price(Objective(), p) for p in (poor.price.low, poor.price.high)]
    expected = 0.0
    for p, objective in zip((poor.price.p_low, 1 - poor.price.p_low), value, strict=True):
        shares = beliefs.table(0, objective, LEARNING, np.ones(2, dtype=bool)).shares
        expected += p * float(shares @ cost)
    assert expected == pytest.approx(cost.mean(), rel=0.05)
    assert not poor.barred


def test_what_the_law_leaves_to_no_draw_is_spent_at_any_price() -> None:
    """With the dear choice kept in .9 of calls a price moves the rest alone."""
    configuration = configured()
    beliefs = believed(configuration)
    cost = beliefs.posterior.cost_usd[0]
    law = Law(incumbent=1, current=1, challengers=(0,), stay=0.9)
    mix = [(1.0, kind_in(configuration, law=law))]

    found = solve_price(mix, beliefs, left_usd=95 * cost[1], calls=100, other_prices=free)
    at_most = solve_price(mix, beliefs, left_usd=10 * cost[1], calls=100, other_prices=free)
    pinned = solve_price(
        [(1.0, kind_in(configuration, law=None))], beliefs, left_usd=0, calls=9, other_prices=free
    )

    assert found is not None
    assert found.price.high > 0
    assert at_most is not None
    assert at_most.price.high > found.price.high
    assert pinned is not None
    assert pinned.price == Price()


def test_what_another_budget_makes_dear_need_not_be_made_so_again() -> None:
    configuration = configured()
    beliefs = believed(configuration)
    cost = beliefs.posterior.cost_usd[0]
    mix = [(1.0, kind_in(configuration))]
    left = 50 * cost.sum()
    alone = solve_price(mix, beliefs, left_usd=left, calls=100, other_prices=free)
    assert alone is not None

    beside = solve_price(
        mix, beliefs, left_usd=left, calls=100, other_prices=lambda claims: 2 * alone.price.high
    )

    assert beside is not None
    assert beside.price == Price()


def test_near_the_end_what_might_cost_more_than_is_left_is_barred_and_the_cheapest_never() -> None:
    configuration = configured()
    beliefs = believed(configuration)
    cost = beliefs.posterior.cost_usd[0]
    kind = kind_in(configuration)

    found = solve_price([(1.0, kind)], beliefs, left_usd=2 * cost[0], calls=2, other_prices=free)

    assert found is not None
    assert found.barred == {kind.key: frozenset({1})}


def test_kinds_of_another_configuration_make_no_price() -> None:
    configuration = configured()
    other = configured(endpoints=[{"id": "x", "model": "x", "base_url": "http://x.test/v1"}])
    gone = [
        kind_in(configuration, catalog=other.catalog),
        kind_in(configuration, app="gone"),
        kind_in(configuration, task="gone"),
    ]

    mix = [(1 / 3, kind) for kind in gone]

    assert solve_price(mix, believed(configuration), left_usd=1, calls=1, other_prices=free) is None


def test_calls_count_half_after_an_eighth_of_the_period_and_the_rarest_kind_makes_room() -> None:
    configuration = configured()
    mix = CallMix(8 * 600)
    mix.note(kind_in(configuration), 1000.0)
    mix.note(kind_in(configuration, task="b"), 1600.0)

    assert [share for share, _ in mix.shares()] == pytest.approx([1 / 3, 2 / 3])
    for i in range(MAX_KINDS):
        mix.note(kind_in(configuration, task=f"t{i}"), 1600.0)
    shares = {kind.task: share for share, kind in mix.shares()}
    assert len(shares) == MAX_KINDS
    assert "general" not in shares
    assert sum(shares.values()) == pytest.approx(1)


# -- what a call goes by ---------------------------------------------------------------------------


def budget(unit: BudgetUnit = BudgetUnit.MONEY, limit: int = NANO, **more: Any) -> Budget:
    plain: dict[str, Any] = {
        "name": "all", "digest": 7, "scope": {}, "unit": unit, "limit": limit, "instead": {},
        "span": BudgetSpan.HOUR, "timezone": "UTC", "is_hard": False, "on_spent": OnSpent.REFUSE,
    }  # fmt: skip
    return Budget(**{**plain, **more})


def claim(account: BudgetPeriod = HOUR, **more: Any) -> BudgetClaim:
    found = budget(**more)
    return BudgetClaim(found, account, found.limit)


def solved(low: float, high: float, p_low: float) -> SolvedPrice:
    return SolvedPrice(Price(low, high, p_low), 0.0, 1.0)


def test_prices_of_a_calls_accounts_of_money_add_up_by_the_units_own_luck() -> None:
    prices, other = MoneyPrices(), BudgetPeriod(8, BEGINS_S, 86_400)
    prices.solved = {HOUR: solved(10, 20, 0.25), other: solved(1, 1, 1.0)}
    both = (claim(), claim(other), claim(unit=BudgetUnit.TOKENS))

    assert prices.of(both, lambda: 0.2) == 11
    assert prices.of(both, lambda: 0.3) == 21
    assert prices.expected(both) == pytest.approx(0.25 * 10 + 0.75 * 20 + 1)
    assert prices.of((claim(BudgetPeriod(9, BEGINS_S, 60)),), lambda: 0.5) == 0


def test_a_period_that_is_not_solved_yet_begins_with_the_price_that_was_kept() -> None:
    prices = MoneyPrices()
    prices.kept = {7: Price(3, 3, 1.0)}

    assert prices.of((claim(BudgetPeriod(7, BEGINS_S + 3600, 3600)),), lambda: 0.5) == 3


# -- the watch -------------------------------------------------------------------------------------


class Accounts:
    """Whoever reserves, as the watch sees it."""

    def __init__(self, *claims: BudgetClaim) -> None:
        self.claims = list(claims)
        self.spent = 0

    def active(self) -> list[BudgetClaim]:
        return self.claims

    def standing(self, claim: BudgetClaim) -> BudgetStanding:
        return BudgetStanding(spent=self.spent)


class Watched:
    """A watch with a clock that is handed in, on a store whose rows are."""

    def __init__(self, address: Address, *claims: BudgetClaim) -> None:
        self.configuration = configured()
        self.beliefs = believed(self.configuration)
        self.accounts, self.prices = Accounts(*claims), MoneyPrices()
        self.now_s = BEGINS_S + 1.0
        self.warned: Counter[tuple[str, str]] = Counter()
        self.turnings = Turnings(Counter())
        self.client = connect(address)
        self.watch = BudgetWatch(
            address,
            self.accounts,
            self.prices,
            n_shards=2,
            beliefs=lambda: self.beliefs,
            now_s=lambda: self.now_s,
            warned=self.warned,
            turnings=self.turnings,
        )

    def fold(self, amount: int, n_calls: int, account: BudgetPeriod = HOUR) -> None:
        row = pack_account(FoldedSpend(amount, n_calls), account.length_s)
        self.client.hset(keys.budget_rows(1, day_of(account)), account_field(account), row)

    def look(self, at_s: float) -> None:
        self.now_s = BEGINS_S + at_s
        asyncio.run(self.watch.look())

    def close(self) -> None:
        asyncio.run(self.watch.stop())
        self.client.close()


@pytest.fixture
def watched(address: Address) -> Iterator[Watched]:
    found = Watched(address, claim())
    yield found
    found.close()


def test_half_four_fifths_and_all_of_a_budget_are_warned_of_once_by_one_sidecar(
    watched: Watched, address: Address
) -> None:
    other = Watched(address, claim())
    with capture_logs() as lines:
        for at_s, amount in ((1, NANO // 3), (2, NANO // 2), (3, NANO * 6 // 10), (4, NANO * 2)):
            watched.fold(amount, 1)
            watched.look(at_s)
            other.look(at_s)
    other.close()

    assert [line["percent"] for line in lines] == [50, 80, 100]
    assert all(line["budget"] == "all" and line["limit"] == NANO for line in lines)
    assert watched.warned == {("all", "50"): 1, ("all", "80"): 1, ("all", "100"): 1}
    assert not other.warned
    assert [one.percent for one in read_warnings(watched.client)] == [100, 80, 50]


def test_under_another_limit_the_warnings_come_again(watched: Watched) -> None:
    watched.fold(NANO * 9 // 10, 1)
    watched.look(1)
    watched.accounts.claims = [structs.replace(claim(), limit=10 * NANO)]
    watched.look(2)
    watched.fold(NANO * 6, 1)
    watched.look(3)

    said = [(one.percent, one.limit // NANO) for one in read_warnings(watched.client)]
    assert sorted(said) == [(50, 1), (50, 10), (80, 1)]
    assert watched.warned == {("all", "50"): 2, ("all", "80"): 1}


def test_what_a_version_before_warned_of_is_not_warned_of_again(watched: Watched) -> None:
    old = warning_of(claim(), 50, NANO // 2, at_s=BEGINS_S)
    watched.client.hset(keys.BUDGET_WARNED, old.old_field, msgspec.json.encode(old))
    watched.fold(NANO * 9 // 10, 1)
    watched.look(1)

    assert watched.warned == {("all", "80"): 1}
    assert set(watched.client.hgetall(keys.BUDGET_WARNED)) == {
        old.field.encode(),
        f"{old.account}:{old.start_s}:80:{NANO}".encode(),
    }
    assert old in read_warnings(watched.client)


def test_a_budget_that_refuses_the_calls_it_is_for_is_warned_of_as_used_up(
    watched: Watched,
) -> None:
    watched.fold(NANO * 7 // 10, 1)
    watched.turnings.note(claim(), NANO // 2, granted=0)
    watched.look(1)
    assert 100 not in {one.percent for one in read_warnings(watched.client)}, "larger than any"
    watched.turnings.note(claim(), NANO // 4, granted=NANO // 2)
    watched.look(2)
    assert 100 not in {one.percent for one in read_warnings(watched.client)}, "only held"

    watched.turnings.note(claim(), NANO * 2 // 5, granted=NANO // 2)
    with capture_logs() as lines:
        watched.look(3)
        watched.look(4)
    (line,) = lines
    assert (line["percent"], line["spent"]) == (100, NANO * 7 // 10)
    assert line["event"] == "a budget has too little left for calls"


def test_from_four_fifths_on_any_refusal_says_that_a_budget_is_used_up(watched: Watched) -> None:
    watched.fold(NANO - 1000, 1)
    watched.turnings.note(claim(), 2000, granted=0)
    watched.look(1)
    assert watched.warned["all", "100"] == 1


def test_warnings_name_no_user(address: Address) -> None:
    own = budget(scope={"user": "each", "app": "chat"}, digest=9)
    found = Watched(address, BudgetClaim(own, HOUR, NANO, (("user", "anna"), ("app", "chat"))))
    with capture_logs() as lines:
        found.fold(NANO, 1)
        found.look(1)
    kept = found.client.hvals(keys.BUDGET_WARNED)
    found.close()

    assert len(lines) == len(kept) == 3
    assert "anna" not in str(lines)
    assert b"anna" not in b"".join(kept)


def test_warnings_stay_for_forty_days(watched: Watched) -> None:
    watched.fold(NANO, 1)
    watched.look(10)

    prune(watched.client, now_s=BEGINS_S + KEPT_S)
    assert len(read_warnings(watched.client)) == 3
    prune(watched.client, now_s=BEGINS_S + 10 + KEPT_S)
    assert not read_warnings(watched.client)


def test_nothing_is_warned_of_while_nothing_is_spent() -> None:
    assert passed_marks(0, 0) == []
    assert passed_marks(1, 0) == [50, 80, 100]
    assert passed_marks(49, 100) == []
    assert passed_marks(80, 100) == [50, 80]


def spending(watched: Watched, at_s: float) -> None:
    """A call a second at the dear endpoint's cost, of a budget for half of an hour of them."""
    cost = float(watched.beliefs.posterior.cost_usd[0, 1])
    own = watched.accounts.claims[0].budget
    limit = int(1800 * cost * 1e9)
    watched.accounts.claims = [BudgetClaim(own, HOUR, limit)]
    kind = kind_in(watched.configuration, claims=(watched.accounts.claims[0],))
    watched.prices.note(kind, BEGINS_S + at_s)
    watched.fold(int(at_s * cost * 1e9), int(at_s))
    watched.look(at_s)


def test_a_price_is_solved_for_what_is_left_and_kept_over_a_restart(
    watched: Watched, address: Address
) -> None:
    for at_s in (1, 10, 20):
        spending(watched, at_s)
    price = watched.prices.solved[HOUR].price
    calls = watched.prices.solved[HOUR].calls

    assert price.high > 0
    assert calls == pytest.approx(3580, rel=0.1)
    again = Watched(address, *watched.accounts.claims)
    again.look(21)
    assert again.prices.of((claim(),), lambda: 0.99) == pytest.approx(
        watched.prices.of((claim(),), lambda: 0.99)
    )
    again.close()


def test_a_price_is_not_solved_again_while_nothing_moved(watched: Watched) -> None:
    for at_s in (1, 10, 20):
        spending(watched, at_s)
    before = watched.prices.solved[HOUR]

    watched.look(21)
    assert watched.prices.solved[HOUR] is before
    watched.beliefs = believed(watched.configuration)
    watched.look(22)
    assert watched.prices.solved[HOUR] is not before


def test_what_this_process_spent_counts_before_it_is_folded(watched: Watched) -> None:
    for at_s in (1, 10, 20):
        spending(watched, at_s)
    before = watched.prices.solved[HOUR].target_usd

    watched.accounts.spent = watched.accounts.claims[0].limit // 2
    watched.look(21)

    assert watched.prices.solved[HOUR].target_usd < 0.6 * before


def test_the_next_period_begins_with_the_usual_price_and_how_the_last_one_went(
    watched: Watched,
) -> None:
    for at_s in (1, 10, 20, 3599):
        spending(watched, at_s)
    following = BudgetPeriod(7, BEGINS_S + 3600, 3600)
    watched.accounts.claims = [claim(following)]
    watched.prices.note(kind_in(watched.configuration, claims=(claim(following),)), 1.0)

    watched.look(3601)
    watched.look(3600 + LINGER_S + 1)

    assert set(watched.watch.watched) == set(watched.prices.solved) == {following}
    assert watched.prices.solved[following].calls == pytest.approx(3599, rel=0.01)
    record = watched.watch.paces.of(following)
    assert record is not None
    assert record.last is not None
    assert record.last.total == 3599


def test_kept_prices_of_accounts_that_ended_long_ago_go(watched: Watched) -> None:
    for at_s in (1, 10, 20):
        spending(watched, at_s)
    asyncio.run(asyncio.to_thread(watched.watch._keep))

    assert set(read_records(watched.client, now_s=BEGINS_S + 86_400)) == {7}
    watched.client.hset(keys.BUDGET_PRICES, "nonsense", b"{}")
    assert read_records(watched.client, now_s=BEGINS_S + 3 * 86_400) == {}
    assert not watched.client.exists(keys.BUDGET_PRICES)


# -- the proof -------------------------------------------------------------------------------------

RUN = PacingRun(0.99, 0.8, 0.99, 0.8)


def test_an_hours_calls_under_a_budget_spend_it_and_reach_what_a_replay_does() -> None:
    run = one_run(synthetic(), 1, 500)

    assert 0.95 <= run.spent_share <= 1.01
    assert run.quality > run.replay_quality - 0.1  # of so few calls chance moves it by some .03


def test_what_overspends_or_buys_too_little_is_not_sound() -> None:
    def runs(**bad: float) -> list[PacingRun]:
        return [RUN] * 11 + [PacingRun(**{**_fields(RUN), **bad})]

    assert is_sound(figures_of(runs()))
    assert not is_sound(figures_of(runs(spent_share=1.02)))
    assert not is_sound(figures_of(runs(spent_share=0.96)))
    assert not is_sound(figures_of(runs(quality=0.6)))


def _fields(run: PacingRun) -> dict[str, float]:
    names = ("spent_share", "quality", "replay_spent_share", "replay_quality")
    return {name: getattr(run, name) for name in names}


# -- in the sidecar --------------------------------------------------------------------------------


def entries(provider: Provider, **more: Any) -> dict[str, Any]:
    return {
        "endpoints": [endpoint(provider, "cheap"), dear(provider)],
        "strategies": {"learn": {"objective": "quality", "incumbent": "none"}},
        "apps": {"default": {"mode": "route", "strategy": "learn", "unit": "call"}},
        "budgets": {"all": {"per": "day", "usd": 5}, "mine": {"per": "hour", "calls": 100}},
        **more,
    }


def dear(provider: Provider) -> dict[str, Any]:
    prices = {"input_usd_per_mtok": 10, "output_usd_per_mtok": 20}
    return endpoint(provider, "dear", prices=prices)


def standing_of(sidecar: Sidecar, name: str = "all") -> dict[str, Any]:
    found = sidecar.http.get("/v1/router/budgets").json()
    return next(row for row in found["budgets"] if row["budget"] == name)


def test_calls_go_by_the_price_of_their_budgets_and_it_is_shown(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    message = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
    with serving(entries(provider), state_dir, address) as sidecar:
        prices = sidecar.app.calls.decider.contexts.prices
        (own, _) = sidecar.app.keeper.current.configuration.budgets
        before = sidecar.http.post("/v1/router/decide", json=message).json()
        prices.kept = {own.digest: Price(1e7, 1e7, 1.0)}
        shown = standing_of(sidecar)["pace"]
        after = sidecar.http.post("/v1/router/decide", json=message).json()
        answer = sidecar.chat()
        decision_id = answer.headers["x-router-decision-id"]
        kept = sidecar.http.get(f"/v1/router/decisions/{decision_id}").json()

    assert before["price_of_money"] == 0
    assert 0.2 < before["propensities"]["dear"] < 0.8
    assert after["price_of_money"] == shown["price"] == pytest.approx(1e7)
    assert after["value_usd"] == pytest.approx(1e-7)
    assert after["propensities"] == {"cheap": 1.0}
    assert answer.headers["x-router-endpoint"] == "cheap"
    assert kept["draw"]["price_of_money"] == pytest.approx(1e7)
    assert any("budgets made money dearer" in line for line in limit_lines(kept["draw"]))


def test_an_order_goes_by_no_price(provider: Provider, state_dir: Path, address: Address) -> None:
    value = entries(provider, strategies={"learn": {"objective": "fastest", "incumbent": "none"}})
    message = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
    with serving(value, state_dir, address) as sidecar:
        prices = sidecar.app.calls.decider.contexts.prices
        (own, _) = sidecar.app.keeper.current.configuration.budgets
        before = sidecar.http.post("/v1/router/decide", json=message).json()
        prices.kept = {own.digest: Price(1e7, 1e7, 1.0)}
        after = sidecar.http.post("/v1/router/decide", json=message).json()

    assert after["price_of_money"] == 0
    assert after["propensities"] == before["propensities"]


def test_whom_a_budgets_rest_does_not_suffice_for_is_not_drawn_but_may_serve_next(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    message = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
    with serving(entries(provider), state_dir, address) as sidecar:
        sidecar.chat()  # so that a kind of calls is known
        prices = sidecar.app.calls.decider.contexts.prices
        ((account, mix),) = prices._mixes.items()
        ((_, kind),) = mix.shares()
        dear_arm = sidecar.app.keeper.current.configuration.catalog.by_id["dear"].index
        barred = {kind.key: frozenset({dear_arm})}
        prices.solved = {account: SolvedPrice(Price(), 0.0, 1.0, barred)}
        dry = sidecar.http.post("/v1/router/decide", json=message).json()

    assert dry["propensities"] == {"cheap": 1.0}
    assert dry["outside_limits"] == ["dear"]
    assert dry["then"] == ["dear"]


def test_what_is_folded_is_shown_and_warned_of(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with serving(entries(provider), state_dir, address) as sidecar, learning(state_dir, address):
        empty = standing_of(sidecar)
        for _ in range(60):
            assert sidecar.chat().status_code == 200
        sidecar.until(lambda: standing_of(sidecar, "mine")["calls"] == 60)
        sidecar.until(lambda: bool(sidecar.http.get("/v1/router/budgets").json()["warnings"]))
        found = sidecar.http.get("/v1/router/budgets").json()
        metrics = sidecar.http.get("/metrics").text

    assert (empty["spent"], empty["limit"], empty["calls"]) == (0, 5, 0)
    by_name = {row["budget"]: row for row in found["budgets"]}
    assert by_name["mine"]["spent"] == 60
    assert [one["percent"] for one in by_name["mine"]["warned"]] == [50]
    assert {one["budget"] for one in found["warnings"]} >= {"mine"}
    assert 'router_budget_warnings_total{budget="mine",percent="50"} 1.0' in metrics


# -- the demo's hour -------------------------------------------------------------------------------


def test_the_demos_hour_ends_as_its_calls_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONTZPATH", "")
    before = zoneinfo.TZPATH
    try:
        budget = plan_budget(
            1.0, requests=100, calls_per_s=10, directory=keep_zones_in(tmp_path / "zones")
        )

        assert budget.ends_s - budget.begins_s == pytest.approx(10)
        begins = period_of(BudgetSpan.HOUR, ZONE, budget.begins_s)
        assert begins == (budget.ends_s - 3600, 3600)
        assert period_of(BudgetSpan.HOUR, ZONE, budget.ends_s)[0] == budget.ends_s
        assert zoneinfo.ZoneInfo("Europe/Berlin").key == "Europe/Berlin"
        with pytest.raises(ValueError, match="an hour or more"):
            plan_budget(1.0, requests=36_000, calls_per_s=10, directory=tmp_path)
    finally:
        zoneinfo.reset_tzpath(to=before)
