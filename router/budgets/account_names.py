"""What accounts of budgets that say `each` are called, told to the store so that all can show them.

An account's digest tells nobody whose it is. Which ones there are in a period, and of which app,
tag or user, is told once by whoever first sees calls in one; a user by the keyed hash that calls
are booked by. Names go a day after their period, and those of a user who is forgotten at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct

from router.budgets.claims import BudgetClaim
from telemetry import keys
from telemetry.budget_accounts import BudgetPeriod
from telemetry.store import Client

MAX_NAMES = 100_000
"""In the store; accounts beyond them count, and are not shown."""
KEPT_S = 86_400
"""After a period's end: warnings of the day are shown by name."""
PRUNE_EVERY_S = 3600.0
AT_ONCE = 1000


class AccountName(Struct, frozen=True):
    """What an account was called when it was last used."""

    budget: str
    values: tuple[tuple[str, str], ...]  # of the fields that are `each`; a user by its key
    digest: int
    start_s: int
    length_s: int

    @property
    def account(self) -> BudgetPeriod:
        """The account in the period in which it was last used."""
        return BudgetPeriod(self.digest, self.start_s, self.length_s)

    @property
    def field(self) -> str:
        """What it is kept under: whoever forgets a user finds it by its end."""
        return f"{self.digest:016x}:{dict(self.values).get('user', '')}"


def name_of(claim: BudgetClaim) -> AccountName:
    """Return what an account is called."""
    values = tuple((f, claim.user_key if f == "user" else value) for f, value in claim.values)
    return AccountName(claim.budget.name, values, *_parts(claim.account))


class AccountNames:
    """Tells names to the store."""

    def __init__(self, *, most: int = MAX_NAMES) -> None:
        """Have told none.

        Args:
            most: names that the store is to keep.
        """
        self._most = most
        self._pruned_s = 0.0

    def tell(self, client: Client, claims: Sequence[BudgetClaim], *, now_s: float) -> None:
        """Tell what accounts are called, as far as there is room.

        Raises:
            redis.RedisError: the store is away.
        """
        if not claims:
            return  # most often
        if now_s - self._pruned_s >= PRUNE_EVERY_S:
            self._pruned_s = now_s
            prune(client, now_s=now_s)
        room = max(self._most - client.hlen(keys.BUDGET_NAMES), 0)
        pipeline = client.pipeline(transaction=False)
        for name in map(name_of, claims[:room]):
            pipeline.hset(keys.BUDGET_NAMES, name.field, msgspec.json.encode(name))
        pipeline.execute()


def read_names(client: Client) -> list[AccountName]:
    """Return the names that there are; what cannot be read is left out.

    Raises:
        redis.RedisError: the store is away.
    """
    out = []
    for text in client.hvals(keys.BUDGET_NAMES):
        try:
            out.append(msgspec.json.decode(text, type=AccountName))
        except msgspec.MsgspecError:
            continue
    return out


def prune(client: Client, *, now_s: float) -> None:
    """Drop the names of accounts whose periods have ended.

    Raises:
        redis.RedisError: the store is away.
    """
    names = read_names(client)
    _drop(client, (n.field for n in names if now_s > n.start_s + n.length_s + KEPT_S))


def forget_names(client: Client, users: Iterable[str]) -> None:
    """Drop the names of these users' accounts.

    Args:
        users: keyed hashes, in hexadecimal.

    Raises:
        redis.RedisError: the store is away, or takes no writes.
    """
    ends = tuple(f":{user}".encode() for user in users)
    _drop(client, (field for field in client.hkeys(keys.BUDGET_NAMES) if field.endswith(ends)))


def _drop(client: Client, fields: Iterable[str | bytes]) -> None:
    gone = list(fields)
    for i in range(0, len(gone), AT_ONCE):
        client.hdel(keys.BUDGET_NAMES, *gone[i : i + AT_ONCE])


def _parts(account: BudgetPeriod) -> tuple[int, int, int]:
    return account.digest, account.start_s, account.length_s
