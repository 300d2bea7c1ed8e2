"""How budgets stand, as people see it: over HTTP, on a terminal, in the metrics."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import SHARDS, Provider, Sidecar, endpoint, learning, pointsman, serving

from router.budgets.account_names import KEPT_S, AccountName, AccountNames, prune, read_names
from router.budgets.claims import BudgetClaim, account_digest, find_claims
from router.budgets.warnings import BudgetWarning
from router.config.budgets import Budget, BudgetSpan, BudgetUnit, OnSpent
from router.config.compiled import compile_text
from router.decision.units import user_hash
from router.report.budget_lines import MOST_LINES, budget_lines
from router.report.budgets import MAX_ROWS, AccountRow, BudgetTable, account_hex, read_budgets
from telemetry import keys
from telemetry.budget_accounts import BudgetPeriod
from telemetry.budget_rows import FoldedSpend, account_field, day_of, pack_account
from telemetry.store import Address, connect

NANO = 10**9
NOW_S = datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp()
ONE_CALL_USD = 2e-5
KEY_OF_WEB, ADMIN = "key-of-web-0123456789", "key-of-admin-0123456789"


def value_of(provider: Provider, **budgets: dict[str, Any]) -> dict[str, Any]:
    pinned = {"mode": "pinned", "endpoint": "a"}
    return {
        "endpoints": [endpoint(provider, "a")],
        "users": {"anna": {}},
        "apps": {
            "web": {**pinned, "spend_tag": "client", "keys": [{"env": "KEY_OF_WEB"}]},
            "lab": {**pinned, "keys": [{"env": "KEY_OF_LAB"}]},
        },
        "server": {"admin_key": {"env": "KEY_OF_ADMIN"}},
        "budgets": budgets,
    }


@pytest.fixture
def keyed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, key in {"WEB": KEY_OF_WEB, "LAB": "key-of-lab-0123456789", "ADMIN": ADMIN}.items():
        monkeypatch.setenv(f"KEY_OF_{name}", key)


def ask(sidecar: Sidecar, key: str = KEY_OF_WEB, **hints: str) -> int:
    headers = {f"x-router-{name}": value for name, value in hints.items()}
    body = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
    return sidecar.http.post(
        "/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}", **headers}
    ).status_code


def shown(sidecar: Sidecar, key: str = ADMIN) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {key}"}
    found: dict[str, Any] = sidecar.http.get("/v1/router/budgets", headers=headers).json()
    return found


def by_scope(found: dict[str, Any], budget: str) -> dict[str, dict[str, Any]]:
    """Rows of a budget by the last value of what they are of."""
    rows = [row for row in found["budgets"] if row["budget"] == budget]
    return {list(row["scope"].values())[-1]: row for row in rows}


# -- the route ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("store", "keyed")
def test_accounts_of_all_sidecars_are_shown_by_whichever_is_asked(
    provider: Provider, tmp_path: Path, address: Address
) -> None:
    value = value_of(
        provider,
        users={"app": "each", "user": "each", "per": "day", "usd": 1},
        clients={"app": "web", "tag": "each", "per": "hour", "calls": 10},
        all={"per": "month", "usd": 100},
    )
    with (
        serving(value, tmp_path / "one", address) as one,
        serving(value, tmp_path / "two", address) as two,
        learning(tmp_path / "one", address),
    ):
        one.until(lambda: one.app.keeper.store_up and two.app.keeper.store_up)
        assert ask(one, user="bob", tags="client=acme") == 200
        assert ask(two, user="anna", tags="client=acme") == 200
        assert ask(two) == 200
        assert ask(two, "key-of-lab-0123456789", user="carl") == 200
        one.until(lambda: sum(row["calls"] for row in shown(one)["budgets"]) == 4 + 2 + 4, 20)
        found, own = shown(one), shown(one, KEY_OF_WEB)
        secret = one.app.keeper.secrets.users.of_units.now

    users, clients = by_scope(found, "users"), by_scope(found, "clients")
    bob, carl = (user_hash(secret, *who).hex() for who in (("web", "bob"), ("lab", "carl")))
    assert set(users) == {bob, "anna", "", carl}
    assert [row["spent"] for row in users.values()] == pytest.approx([ONE_CALL_USD] * 4)
    assert set(clients) == {"client=acme"}, "who names none does not count"
    assert [row["note"] for row in users.values() if row["note"]] == ["calls that name no user"]
    assert clients["client=acme"]["spent"] == 2
    assert all(
        row["spent"] + row["held"] + row["left"] == pytest.approx(row["limit"])
        for row in found["budgets"]
    )
    assert found["more"] == 0
    (whole,) = [row for row in found["budgets"] if row["budget"] == "all"]
    assert (whole["calls"], whole["hard"], whole["on_spent"]) == (4, False, "refuse")
    assert set(by_scope(own, "users")) == {bob, "anna", ""}, "an app sees its own users"
    assert {row["budget"] for row in own["budgets"]} == {"users", "clients"}


@pytest.mark.usefixtures("keyed")
def test_the_most_used_accounts_are_shown_and_how_many_more_there_are(
    provider: Provider, address: Address
) -> None:
    value = value_of(provider, clients={"tag": "each", "per": "day", "calls": 100})
    configuration = compile_text(yaml.safe_dump(value), file="t")
    (budget,) = configuration.budgets
    said = dict.fromkeys(("app", "user", "tag", "role", "strategy"))
    claims = [
        find_claims([budget], {**said, "tag": f"client={n}"}, user_key="", at_s=NOW_S)[0]
        for n in range(MAX_ROWS + 5)
    ]
    with closing(connect(address)) as client:
        AccountNames().tell(client, claims, now_s=NOW_S)
        for n, claim in enumerate(claims):
            row = pack_account(FoldedSpend(n, n), claim.account.length_s)
            field = account_field(claim.account)
            client.hset(keys.budget_rows(0, day_of(claim.account)), field, row)
        found = read_budgets(client, configuration, now_s=NOW_S)
        tomorrow = read_budgets(client, configuration, now_s=NOW_S + 86_400)

    assert [row.spent for row in found.rows[:3]] == [MAX_ROWS + 4, MAX_ROWS + 3, MAX_ROWS + 2]
    assert (len(found.rows), found.more) == (MAX_ROWS, 5)
    assert tomorrow.rows == ()


@pytest.mark.usefixtures("keyed")
def test_an_account_of_another_unit_of_its_budget_is_not_shown(
    provider: Provider, address: Address
) -> None:
    before, now = (
        compile_text(
            yaml.safe_dump(value_of(provider, clients={"tag": "each", "per": "day", unit: 100})),
            file="t",
        )
        for unit in ("calls", "tokens")
    )
    (budget,) = before.budgets
    said = dict.fromkeys(("app", "user", "role", "strategy")) | {"tag": "client=acme"}
    with closing(connect(address)) as client:
        claims = find_claims([budget], said, user_key="", at_s=NOW_S)
        AccountNames().tell(client, claims, now_s=NOW_S)

        assert len(read_budgets(client, before, now_s=NOW_S).rows) == 1
        assert read_budgets(client, now, now_s=NOW_S).rows == ()


# -- names of accounts ----------------------------------------------------------------------------


def named(user: str = "anna", **more: Any) -> BudgetClaim:
    budget = made(scope={"app": "web", "user": "each"}, **more)
    key = user_hash(b"s" * 32, "", user).hex()
    account = BudgetPeriod(account_digest(budget, [key]), int(NOW_S) - 60, 3600)
    return BudgetClaim(budget, account, budget.limit, (("user", user),), key)


def made(**more: Any) -> Budget:
    given: dict[str, Any] = {
        "name": "anybody",
        "digest": 7,
        "scope": {},
        "unit": BudgetUnit.MONEY,
        "limit": 500 * NANO,
        "instead": {},
        "span": BudgetSpan.HOUR,
        "timezone": "UTC",
        "is_hard": False,
        "on_spent": OnSpent.REFUSE,
    }
    return Budget(**given | more)


def test_no_user_is_named_in_the_store_and_names_go_a_day_after_their_period(
    address: Address,
) -> None:
    with closing(connect(address)) as client:
        AccountNames().tell(client, [named()], now_s=NOW_S)
        kept = str(client.hgetall(keys.BUDGET_NAMES))
        prune(client, now_s=NOW_S - 60 + 3600 + KEPT_S)
        still = read_names(client)
        prune(client, now_s=NOW_S + 3600 + KEPT_S)

        assert "anna" not in kept
        assert [name.account for name in still] == [named().account]
        assert read_names(client) == []


def test_the_store_keeps_so_many_names_of_accounts_and_no_more(address: Address) -> None:
    with closing(connect(address)) as client:
        names = AccountNames(most=2)
        names.tell(client, [named(user) for user in "abc"], now_s=NOW_S)
        names.tell(client, [named("d")], now_s=NOW_S)
        client.hset(keys.BUDGET_NAMES, "nonsense", b"{}")

        assert len(read_names(client)) == 2
        assert all(isinstance(name, AccountName) for name in read_names(client))


@pytest.mark.usefixtures("store", "keyed")
def test_accounts_of_a_user_who_is_forgotten_are_shown_no_more(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    value = value_of(provider, users={"user": "each", "per": "day", "usd": 1})
    with serving(value, state_dir, address) as sidecar:
        sidecar.until(lambda: sidecar.app.keeper.store_up)
        for user in ("anna", "bob", "carl"):
            assert ask(sidecar, user=user) == 200
        sidecar.until(lambda: len(by_scope(shown(sidecar), "users")) == 3)
        for user in ("anna", "bob"):
            admin = {"authorization": f"Bearer {ADMIN}"}
            gone = sidecar.http.post("/v1/router/forget", json={"user": user}, headers=admin)
            assert gone.status_code == 200
        left = by_scope(shown(sidecar), "users")

    assert len(left) == 1
    assert "anna" not in left


# -- metrics --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("store", "keyed")
def test_metrics_sum_accounts_by_budget_and_count_who_is_turned_away(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    value = value_of(
        provider,
        users={"user": "each", "per": "day", "calls": 2, "hard": True},
        all={"per": "month", "usd": 100},
    )
    with running(value, state_dir, address) as sidecar:

        def text() -> str:
            admin = {"authorization": f"Bearer {ADMIN}"}
            return sidecar.http.get("/metrics", headers=admin).text

        said = [ask(sidecar, user="bob") for _ in range(4)]
        assert ask(sidecar, user="carl") == 200
        sidecar.until(lambda: 'router_budget_spent{budget="users",unit="calls"} 3.0' in text(), 20)
        found = text()

    assert said == [200, 200, 402, 402]
    assert 'router_budget_limit{budget="users",unit="calls"} 4.0' in found
    assert 'router_budget_limit{budget="all",unit="usd"} 100.0' in found
    assert 'router_budget_refused_total{budget="users",code="budget_spent"} 2.0' in found
    assert "bob" not in found


# -- on a terminal --------------------------------------------------------------------------------


def row_of(claim: BudgetClaim, spent: int) -> AccountRow:
    return AccountRow(claim, spent, 1, spent)


def month(name: str = "support-month", limit: int = 500 * NANO, **more: Any) -> BudgetClaim:
    budget = made(name=name, timezone="Europe/Berlin", limit=limit, **more)
    begins, ends = (int(datetime(2026, n, 30, 23, tzinfo=UTC).timestamp()) for n in (10, 11))
    return BudgetClaim(budget, BudgetPeriod(budget.digest, begins, ends - begins), limit)


def test_a_line_says_how_much_is_spent_of_what_until_when() -> None:
    table = BudgetTable((row_of(month(), 312_400_000_000),))

    assert budget_lines(table, now_s=NOW_S, with_warnings=True) == [
        "spend against budgets:",
        "support-month  [######----]  312.40 of 500.00 USD (62 %), "
        "resets 2026-12-01 00:00 Europe/Berlin",
    ]


@pytest.mark.parametrize(
    ("limit", "spent", "unit", "words"),
    [
        (20_000_000, 1_000_000, BudgetUnit.MONEY, "[----------]  0.0010 of 0.0200 USD (5 %)"),
        (1_000_000, 999_999, BudgetUnit.TOKENS, "[#########-]  999,999 of 1,000,000 tokens (99 %)"),
        (10, 15, BudgetUnit.CALLS, "[##########]  15 of 10 calls (150 %)"),
    ],
)
def test_amounts_have_the_decimals_that_their_limit_takes(
    limit: int, spent: int, unit: BudgetUnit, words: str
) -> None:
    table = BudgetTable((row_of(month(limit=limit, unit=unit), spent),))

    (_, line) = budget_lines(table, now_s=NOW_S, with_warnings=False)

    assert words in line


def test_eight_accounts_have_lines_and_the_rest_is_a_number() -> None:
    rows = tuple(row_of(named(f"user\x1b[31m{n}"), NANO) for n in range(MOST_LINES + 2))

    lines = budget_lines(BudgetTable(rows, more=3), now_s=NOW_S, with_warnings=False)

    assert len(lines) == MOST_LINES + 2
    assert lines[-1] == "5 more: --json"
    assert lines[1].startswith("anybody (user?[31m0)  [")


def test_the_last_warning_of_today_is_told_of_each_account_by_its_zones_calendar() -> None:
    """In Berlin 22:59 UTC is today, and 22:59 UTC of the day before is not."""
    claim = month()

    def warned(percent: int, at_s: float) -> BudgetWarning:
        return BudgetWarning(
            budget=claim.budget.name,
            account=account_hex(claim),
            period="month",
            start_s=claim.account.start_s,
            ends_s=claim.ends_s,
            unit="usd",
            percent=percent,
            spent=percent * 5 * NANO,
            limit=claim.limit,
            at_s=int(at_s),
        )

    early, late = NOW_S - 13.5 * 3600, NOW_S
    said = (warned(80, late), warned(50, NOW_S - 12.5 * 3600))
    table = BudgetTable((row_of(claim, NANO),), warnings=said, known=(claim,))
    lines = budget_lines(table, now_s=NOW_S, with_warnings=True)
    old = BudgetTable((row_of(claim, NANO),), warnings=(warned(50, early),), known=(claim,))

    assert lines[2:] == ["warned at 13:00: support-month at 80 %: 400.00 of 500.00 USD"]
    assert len(budget_lines(old, now_s=NOW_S, with_warnings=True)) == 2


def test_without_budgets_there_is_no_line() -> None:
    assert budget_lines(BudgetTable(), now_s=NOW_S, with_warnings=True) == []


Spent = Callable[..., str]


@pytest.fixture
def spent(
    provider: Provider,
    state_dir: Path,
    address: Address,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    keyed: None,
    store: object,
) -> Iterator[Callable[[], Any]]:
    """Verbs on a store in which users bob, three times, and anna, once, have spent."""
    monkeypatch.setenv("STORE", address.url)
    value = value_of(provider, users={"app": "web", "user": "each", "per": "day", "calls": 4})
    with running(value, state_dir, address) as sidecar:
        for user in ("bob", "bob", "bob", "anna"):
            assert ask(sidecar, user=user) == 200
        sidecar.until(lambda: sum(r["spent"] for r in shown(sidecar)["budgets"]) == 4, 20)
        sidecar.until(lambda: len(shown(sidecar)["warnings"]) == 1)
        value["server"] = {**value["server"], "state_dir": str(state_dir)}
        value["store"] = {"shards": SHARDS, "url_env": "STORE"}
        file = tmp_path / "pointsman.yaml"
        file.write_text(yaml.safe_dump(value))
        yield lambda verb, *words: pointsman(verb, *words, "--config", file).stdout


@contextmanager
def running(value: dict[str, Any], state_dir: Path, address: Address) -> Iterator[Sidecar]:
    with serving(value, state_dir, address) as sidecar, learning(state_dir, address):
        sidecar.until(lambda: sidecar.app.keeper.store_up)
        yield sidecar


def test_spend_and_report_end_with_how_budgets_stand(spent: Spent) -> None:
    table, report = spent("spend"), spent("report", "--all")

    (first, second) = table.partition("spend against budgets:\n")[2].splitlines()
    assert re.match(r"users \([0-9a-f]{16}\)  \[#######---\]  3 of 4 calls \(75 %\), resets", first)
    assert second.startswith("users (anna)              [##--------]  1 of 4 calls (25 %), resets")
    assert " ".join(first.split()) in " ".join(report.split())
    assert re.search(
        r"^warned at \d\d:\d\d: users \(\w{16}\) at 50 %: [23] of 4 calls$", report, re.M
    )


def test_spend_of_one_user_has_that_users_budgets_and_a_month_that_is_past_none(
    spent: Spent,
) -> None:
    bobs = spent("spend", "--user", "bob", "--by", "user")
    annas = json.loads(spent("spend", "--user", "anna", "--by", "user", "--json"))["budgets"]

    assert bobs.count(" of 4 calls") == 1
    assert "3 of 4 calls" in bobs
    assert [row["scope"]["user"] for row in annas["budgets"]] == ["anna"]
    assert json.loads(spent("spend", "--app", "lab", "--json"))["budgets"]["budgets"] == []
    assert "budgets" not in spent("spend", "--month", "2025-01")
