"""What a configuration may say of budgets, which accounts a call counts in, and when they end."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from router.budgets.claims import find_claims
from router.budgets.periods import period_of
from router.config.budgets import BudgetSpan, OnSpent
from router.config.compiled import Configuration, compile_text
from router.errors import ConfigError

FILE = """
endpoints:
  - {id: a, model: m, base_url: "http://127.0.0.1:1/v1", auth: none}
apps:
  default: {}
  chat: {spend_tag: matter}
  batch: {}
budgets:
"""
NOTHING = dict.fromkeys(("app", "user", "tag", "role", "strategy"))
NOON = datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp()


def compiled(budgets: str) -> Configuration:
    """Return a configuration with these budgets, one a line."""
    return compile_text(FILE + budgets, file="pointsman.yaml")


def problems(budgets: str) -> str:
    """Return what is said of these budgets."""
    with pytest.raises(ConfigError) as raised:
        compiled(budgets)
    return str(raised.value)


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ("{per: day}", "say how much: one of usd, tokens or calls"),
        ("{per: day, usd: 1, calls: 3}", "usd is said already"),
        ("{per: week, usd: 1}", "budgets.x.per"),
        ("{per: day, usd: 0}", "budgets.x.usd"),
        ("{per: day, usd: 1, timezone: Berlin}", "no such time zone"),
        ("{per: day, usd: 1, app: chta}", "no such app; did you mean 'chat'?"),
        ("{per: day, usd: 1, role: nobody}", "no such role"),
        ("{per: day, usd: 1, strategy: cheap}", "no such strategy"),
        ("{per: day, usd: 1, app: batch, tag: matter=1}", "no app of it declares a tag"),
        ("{per: day, usd: 1, tag: client=1}", "write the tag as it is booked: matter=NAME"),
        ("{per: day, usd: 1, tag: matter}", "write each, for an account of every matter"),
        ("{per: day, usd: 1, tag: matter=each}", "or one of them: matter=NAME"),
        ("{per: day, usd: 1, tag: each, instead: {matter: 2}}", "matter=NAME"),
        ("{per: day, usd: 1, instead: {alice: 2}}", "one field of the budget must say each"),
        ("{per: day, calls: 1, user: each, instead: {alice: 2.5}}", "write a whole number"),
        ("{per: day, usd: 1, hard: true, on_spent: cheapest}", "hard is never exceeded"),
        ("{per: day, usd: 1, on_spent: local}", "no endpoint is of zone local"),
    ],
)
def test_a_budget_that_cannot_be_kept_is_told_with_field_value_and_fix(
    budget: str, said: str
) -> None:
    assert said in problems(f"  x: {budget}\n")


def test_more_budgets_than_one_call_has_room_for_are_refused() -> None:
    lines = [f"  b{i}: {{per: day, usd: 1}}\n" for i in range(7)]
    assert "6 at most do" in problems("".join(lines))
    assert len(compiled("".join(lines[:6])).budgets) == 6


def test_a_call_counts_where_everything_that_is_named_is_so() -> None:
    budgets = compiled(
        "  all: {per: month, usd: 10}\n"
        "  chat: {app: chat, per: day, tokens: 500, on_spent: cheapest}\n"
        "  matter: {tag: matter=7, per: hour, calls: 3, hard: true}\n"
    ).budgets
    claims = find_claims(budgets, {**NOTHING, "app": "chat"}, user_key="", at_s=NOON)
    assert [(c.budget.name, c.limit) for c in claims] == [("all", 10_000_000_000), ("chat", 500)]
    assert claims[1].budget.on_spent is OnSpent.CHEAPEST
    tagged = {**NOTHING, "app": "batch", "tag": "matter=7"}
    claims = find_claims(budgets, tagged, user_key="", at_s=NOON)
    assert [c.budget.name for c in claims] == ["all", "matter"]
    assert claims[1].ends_s == NOON + 3600


def test_each_user_has_an_account_and_some_have_more() -> None:
    budgets = compiled("  users: {user: each, per: day, usd: 1, instead: {alice: 20}}\n").budgets
    found = {}
    for user in ("alice", "bob", None):
        said = {**NOTHING, "app": "chat", "user": user}
        (found[user],) = find_claims(budgets, said, user_key=user or "", at_s=NOON)
    assert [c.limit for c in found.values()] == [20_000_000_000, 1_000_000_000, 1_000_000_000]
    assert len({c.account.digest for c in found.values()}) == 3
    assert found[None].values == (("user", ""),)
    assert (found[None].note, found["bob"].note) == ("calls that name no user", "")


@pytest.mark.parametrize(("field", "value"), [("tag", "matter=7"), ("role", "coder")])
def test_where_each_tag_or_role_has_an_account_calls_without_one_have_none(
    field: str, value: str
) -> None:
    budgets = compiled(f"  x: {{{field}: each, app: each, per: day, usd: 1}}\n").budgets
    said = {**NOTHING, "app": "chat"}
    assert find_claims(budgets, said, user_key="", at_s=NOON) == ()
    (claim,) = find_claims(budgets, {**said, field: value}, user_key="", at_s=NOON)
    assert dict(claim.values) == {field: value, "app": "chat"}


def test_a_day_has_as_many_hours_as_the_calendar_of_its_zone_says() -> None:
    zone = ZoneInfo("Europe/Berlin")
    for month, day, hours in ((3, 29, 23), (10, 25, 25), (7, 1, 24)):
        midnight = datetime(2026, month, day, tzinfo=zone).timestamp()
        for at in (midnight, midnight + 3.5 * 3600, midnight + hours * 3600 - 1):
            assert period_of(BudgetSpan.DAY, str(zone), at) == (midnight, hours * 3600)


def test_periods_follow_one_another_without_a_gap() -> None:
    for zone in ("UTC", "Asia/Kolkata", "America/St_Johns", "Africa/Cairo"):
        for span in BudgetSpan:
            at = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
            for _ in range(30):
                start, length = period_of(span, zone, at)
                assert start <= at < start + length
                assert period_of(span, zone, start + length)[0] == start + length
                at = start + length
