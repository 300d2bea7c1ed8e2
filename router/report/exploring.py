"""How the ceilings of exploring stand, app by app, and which choices they hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from router.budgets.claims import BudgetClaim
from router.budgets.exploring import ceiling_claims, why_spent
from router.budgets.standings import BudgetStanding, told
from router.config.budgets import BudgetUnit
from router.config.compiled import App, Configuration
from telemetry.budget_accounts import BudgetAccounts
from telemetry.store import Client


class KnownStandings(Protocol):
    """Says how accounts stand: a process as it knows them, or the store."""

    def standing(self, claim: BudgetClaim) -> BudgetStanding:
        """Return how the account of a claim stands."""


class StoredStandings:
    """How accounts stand by what the store says."""

    def __init__(self, client: Client) -> None:
        self._accounts = BudgetAccounts(client)

    def standing(self, claim: BudgetClaim) -> BudgetStanding:
        """Return how the account of a claim stands.

        Raises:
            redis.RedisError, OSError: the store is away.
        """
        debited = self._accounts.read(claim.account).debited
        return BudgetStanding(debited=debited, free=claim.limit - debited)


def ceiling_rows(
    configuration: Configuration, accounts: KnownStandings, *, at_ms: int
) -> list[dict[str, Any]]:
    """Return a row for each ceiling of each app, on the day of a moment.

    Args:
        at_ms: epoch milliseconds by the store's clock.
    """
    return [
        row for app in configuration.apps.values() for row in _rows(app, accounts, at_ms / 1000)
    ]


def _rows(app: App, accounts: KnownStandings, at_s: float) -> Iterator[dict[str, Any]]:
    if app.ceilings is None:
        return
    n_calls = None
    claims, others = ceiling_claims(app, app.ceilings, at_s, n_calls=0)
    if others is not None:
        n_calls = sum(accounts.standing(claim).spent_by_all for claim in (claims[-1], others))
        claims, _ = ceiling_claims(app, app.ceilings, at_s, n_calls=n_calls)
    for claim in claims:
        stands = accounts.standing(claim)
        is_used_up = stands.free is not None and stands.free <= 0
        more = {"calls": n_calls} if claim.budget.unit is BudgetUnit.CALLS else {}
        note = why_spent(claim) if is_used_up else ""
        shown = told(claim, BudgetStanding(spent=stands.spent_by_all))  # what is held as well
        del shown["held"]
        yield {"app": app.name, **shown, **more, "used_up": is_used_up, "note": note}


def with_ceilings(shown: Mapping[str, Any], rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a report with these rows, and with why the choices that they hold do not explore."""
    why = {row["app"]: row["note"] for row in rows if row["used_up"]}

    def held(choice: dict[str, Any]) -> dict[str, Any]:
        note = why.get(choice["app"], "") if choice["exploring"] else ""
        return {**choice, "exploring": False, "note": note} if note else choice

    choices = [held(choice) for choice in shown.get("choices", ())]
    return {**shown, "choices": choices, "exploring": list(rows)}


def ceiling_lines(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield a line for each ceiling: what exploring came to today, and of how much."""
    for row in rows:
        until = f"; {row['note']}" if row["note"] else ""
        if row["unit"] == BudgetUnit.MONEY:
            came_to = f"{row['spent']:.2f} of {row['limit']:.2f} USD beyond the choice"
        else:
            came_to = f"{row['spent']} of {row['limit']} calls (of {row['calls']} in all)"
        yield f"exploring of {row['app']} today: {came_to}{until}"
