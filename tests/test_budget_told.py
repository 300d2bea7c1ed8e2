"""What budgets say of themselves: refusals, dry runs and rows have the same words and figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Provider, Sidecar, endpoint, serving

from router.budgets.claims import BudgetClaim
from router.budgets.standings import BudgetStanding, told
from router.budgets.told import refused
from router.config.budgets import Budget, BudgetSpan, BudgetUnit, OnSpent
from telemetry.budget_accounts import BudgetAccounts, BudgetPeriod, TakeAsked
from telemetry.store import Address

pytestmark = pytest.mark.usefixtures("store")
DRY = {"x-router-dry-run": "1"}
HELLO = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
DEAR = {"input_usd_per_mtok": 10, "output_usd_per_mtok": 30}
ONE_CALL_NANO = 10 * 1000 + 5 * 2000
ROUTED = {"default": {"mode": "route", "strategy": "quality"}}
PINNED = {"default": {"mode": "pinned", "endpoint": "a"}}

Under = Callable[..., Any]


@pytest.fixture
def under(provider: Provider, state_dir: Path, address: Address) -> Under:
    def begun(*ends: dict[str, Any], apps: Any = PINNED, **budgets: dict[str, Any]) -> Any:
        value = {
            "endpoints": list(ends) or [endpoint(provider, "a")],
            "apps": apps,
            "budgets": {name: {"per": "day", **said} for name, said in budgets.items()},
        }
        return serving(value, state_dir, address)

    return begun


def error_of(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 402, answer.text
    found: dict[str, Any] = answer.json()["error"]
    assert found["code"] == "budget_spent"
    return found


def rows(sidecar: Sidecar) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = sidecar.http.get("/v1/router/budgets").json()["budgets"]
    return found


# -- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [{"usd": 0.01}, {"tokens": 5000}])
def test_a_call_that_alone_is_too_large_is_told_what_is_left_and_what_would_fit(
    under: Under, provider: Provider, budget: dict[str, Any]
) -> None:
    with under(users={"user": "each", "hard": True, **budget}) as sidecar:
        error = error_of(sidecar.chat(max_tokens=50_000, user="anna"))
        shown, message = error["budget"], error["message"]
        unit = "usd" if "usd" in budget else "tokens"

        assert (shown["spent"], shown["held"]) == (0, 0)
        assert shown["left"] == shown["limit"] == budget[unit]
        assert shown["may_come_to"] > (0.1 if unit == "usd" else 50_000)
        assert message.startswith(f"budget users has {budget[unit]} {unit} left until 20")
        assert f"and this call may come to {shown['may_come_to']}; a max_tokens of " in message
        largest = int(message.split("a max_tokens of ")[1].split()[0])
        assert 2000 < largest < 5000

        error_of(sidecar.chat(max_tokens=50_000 - largest, user="anna"))
        assert not provider.calls
        assert sidecar.chat(max_tokens=largest, user="anna").status_code == 200


def test_no_limit_on_the_answer_is_proposed_where_none_would_let_the_call_through(
    under: Under,
) -> None:
    with under(team={"tokens": 50, "hard": True}) as sidecar:
        message = error_of(sidecar.chat(max_tokens=99))["message"]

    assert "budget team has 50 tokens left" in message
    assert "would fit" not in message


def test_a_budget_of_which_all_is_spent_says_so(under: Under) -> None:
    with under(team={"calls": 1, "hard": True}) as sidecar:
        assert sidecar.chat().status_code == 200
        error = error_of(sidecar.chat())

    assert "budget team is used up: 1 of 1 calls spent" in error["message"]
    assert (error["budget"]["spent"], error["budget"]["left"]) == (1, 0)


def test_who_names_no_user_is_told_whose_account_it_is(under: Under) -> None:
    with under(users={"user": "each", "calls": 1, "hard": True}) as sidecar:
        assert sidecar.chat().status_code == 200
        assert sidecar.chat(user="anna").status_code == 200
        error = error_of(sidecar.chat())

    assert "budget users (calls that name no user) is used up" in error["message"]
    assert error["budget"]["note"] == "calls that name no user"


# -- dry runs ------------------------------------------------------------------------------------


def test_a_dry_run_is_refused_as_the_call_would_be_and_reserves_nothing(under: Under) -> None:
    with under(team={"usd": 0.01, "hard": True}) as sidecar:
        whole = sidecar.http.post("/v1/router/decide", json={**HELLO, "max_tokens": 1000}).json()
        (row,) = whole["budgets"]
        assert (row["fits"], row["used_up"], row["left"]) == (True, False, 0.01)
        assert 0.002 < row["may_come_to"] < 0.003

        dry = sidecar.http.post("/v1/router/decide", json={**HELLO, "max_tokens": 9000})
        assert "and this call may come to 0.01" in error_of(dry)["message"]
        error = error_of(sidecar.chat(max_tokens=9000, headers=DRY))
        assert error == error_of(sidecar.chat(max_tokens=9000))
        assert error["budget"]["held"] == 0


def test_a_dry_run_names_the_endpoint_at_which_the_call_fits(
    under: Under, provider: Provider
) -> None:
    ends = [endpoint(provider, "a", prices=DEAR), endpoint(provider, "b")]
    with under(*ends, apps=ROUTED, team={"usd": 0.01, "hard": True}) as sidecar:
        shown = sidecar.chat(max_tokens=1000, headers=DRY).json()
        (row,) = shown["budgets"]
        served = sidecar.chat(max_tokens=1000)

    assert (shown["endpoint"], served.headers["x-router-endpoint"]) == ("b", "b")
    assert row["fits"]
    assert 0.002 < row["may_come_to"] < 0.003, "at b; at a it is above .03"


def test_in_off_a_dry_run_is_refused_by_no_budget(under: Under) -> None:
    with under(team={"calls": 1, "hard": True}) as sidecar:
        assert sidecar.chat().status_code == 200
        (sidecar.state_dir / "off").touch()
        sidecar.until(lambda: sidecar.app.keeper.off)
        (row,) = sidecar.chat(headers=DRY).json()["budgets"]

    assert (row["may_come_to"], row["fits"]) == (1, False)


# -- one meaning of spent, held and left ---------------------------------------------------------


def claim(limit: int = 1000, unit: BudgetUnit = BudgetUnit.TOKENS) -> BudgetClaim:
    own = Budget("all", 7, {}, unit, limit, {}, BudgetSpan.DAY, "UTC", True, OnSpent.REFUSE)
    return BudgetClaim(own, BudgetPeriod(7, 1_796_000_000, 86_400), limit)


@pytest.mark.parametrize(
    ("standing", "spent", "held", "left"),
    [
        (BudgetStanding(), 0, 0, 1000),
        (BudgetStanding(spent=100, held=300, ready=50, others=200, folded=100), 100, 450, 450),
        (BudgetStanding(spent=100, others=200, folded=250), 250, 50, 700),
        (BudgetStanding(spent=100, others=200), 300, 0, 700),  # nobody looked yet
        (BudgetStanding(spent=1500, folded=1400), 1500, 0, 0),
    ],
)
def test_left_is_the_limit_less_what_is_spent_and_held(
    standing: BudgetStanding, spent: int, held: int, left: int
) -> None:
    shown = told(claim(), standing)
    assert (shown["spent"], shown["held"], shown["left"]) == (spent, held, left)


def test_a_limit_that_is_below_what_is_spent_is_used_up() -> None:
    refusal = refused(claim(10), BudgetStanding(spent=40, debited=40, free=-30), 5)
    assert (refusal.told["spent"], refusal.told["left"]) == (40, 0)
    assert str(refusal).startswith("budget all is used up: 40 of 10 tokens spent")


def test_what_is_held_for_calls_under_way_is_not_said_to_be_spent() -> None:
    refusal = refused(claim(), BudgetStanding(spent=400, held=600, folded=400), 5)
    assert (refusal.told["spent"], refusal.told["held"]) == (400, 600)
    assert "400 of 1000 tokens spent, 600 held by calls under way" in str(refusal)


def test_small_amounts_are_written_without_an_exponent() -> None:
    own = Budget(
        "m", 7, {}, BudgetUnit.MONEY, 10**9, {}, BudgetSpan.DAY, "UTC", True, OnSpent.REFUSE
    )
    of = BudgetClaim(own, BudgetPeriod(7, 1_796_000_000, 86_400), 10**9)
    refusal = refused(of, BudgetStanding(spent=10**9 - 27_000), 30_000)
    assert "has 0.000027 usd left" in str(refusal)
    assert "this call may come to 0.00003" in str(refusal)


def test_what_another_sidecar_holds_is_left_to_nobody_in_route_refusal_and_dry_run(
    under: Under, client: Any
) -> None:
    with under(team={"usd": 0.01, "hard": True}) as sidecar:
        assert sidecar.chat(max_tokens=1000).status_code == 200
        (of,) = sidecar.app.allowances.active()
        account = BudgetAccounts(client)
        least = 4_000_000
        took = account.take(of.account, "f" * 32, TakeAsked(1, 0, least, least, of.limit, 60_000))
        assert took.granted == least

        sidecar.until(lambda: sidecar.app.watch.folded(of.account) is not None)

        error = error_of(sidecar.chat(max_tokens=4500))
        dry = error_of(sidecar.chat(max_tokens=4500, headers=DRY))
        (row,) = rows(sidecar)

    assert [one["spent"] for one in (error["budget"], dry["budget"], row)] == [
        ONE_CALL_NANO / 1e9
    ] * 3
    left = pytest.approx(0.006 - ONE_CALL_NANO / 1e9)
    assert [one["left"] for one in (error["budget"], dry["budget"], row)] == [left] * 3
    assert f"has {0.006 - ONE_CALL_NANO / 1e9:.5f} usd left" in error["message"]
    taken = [one["spent"] + one["held"] for one in (error["budget"], dry["budget"], row)]
    assert taken == [pytest.approx(0.004 + ONE_CALL_NANO / 1e9)] * 3
