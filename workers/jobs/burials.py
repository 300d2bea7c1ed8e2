"""Dead holders of budgets' accounts are buried: what they took and did not spend returns.

A process is gone once its journal was sent to its end, and what it spent is known once all of that
is folded. Only then its take is set to what the records sum to. Whoever it is that buries, and how
often, makes no difference.

Accounts are found by looking through the names of all keys: nobody speaks of one any more whose
holders are all gone. It is looked only where somebody is to be buried.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import structlog

from telemetry import keys
from telemetry.budget_accounts import BudgetAccounts, BudgetPeriod, read_takes
from telemetry.budget_rows import read_folded_by
from telemetry.ended import JournalEnd, forget_ends, read_ends
from telemetry.store import Client, servers
from workers.folding.batch import NEVER, Window

Account = TypeVar("Account", BudgetPeriod, tuple[int, int])

log = structlog.get_logger()

AT_ONCE = 500
"""Accounts that are looked at together."""
MOST_HOLDERS = 64
"""A round; each account is asked for all of them."""
SCANNED = 1000
"""Keys of a step of looking, .3 ms of the server's time."""


@dataclass(slots=True)
class Burials:
    """What a round came to."""

    n_buried: int = 0
    returned: int = 0  # in units of each account
    restored: int = 0  # spent, of which the account knew nothing


def bury_dead(client: Client, n_shards: int, *, now_ms: int) -> Burials:
    """Bury the dead holders of running accounts whose journals are folded whole.

    Args:
        now_ms: on the store's clock.

    Raises:
        redis.RedisError: the store is away; what was not done is done at another time.
    """
    done, ends = Burials(), read_ends(client)
    forget_ends(client, {name: end for name, end in ends.items() if end.is_forgotten(now_ms)})
    folded = _folded(client, n_shards, ends)
    dead = dict(islice(((name, ends[name]) for name in folded), MOST_HOLDERS))
    if not dead:
        return done
    living = set[bytes]()  # their leases run yet
    for accounts in _in_parts(_running(client, now_ms)):
        held = _held(client, accounts, list(dead))
        living |= _bury(client, n_shards, held, done)
    forget_ends(client, {name: end for name, end in dead.items() if name not in living})
    if done.n_buried:
        log.info("what dead processes held of budgets is free again", accounts=done.n_buried)
    return done


def _folded(client: Client, n_shards: int, ends: dict[bytes, JournalEnd]) -> list[bytes]:
    """Return whose journals are folded up to their ends in every shard."""
    if not ends:
        return []
    pipeline = client.pipeline(transaction=False)
    for shard in range(n_shards):
        pipeline.hmget(keys.producers(shard), list(ends))
    known = zip(*pipeline.execute(), strict=True)
    out = []
    for (name, end), rows in zip(ends.items(), known, strict=True):
        windows = [Window.parse(row) if row else NEVER for row in rows]
        following = end.following[:n_shards]
        if all(w.following >= n for w, n in zip(windows, following, strict=True)):
            out.append(name)
    return out


def _running(client: Client, now_ms: int) -> Iterator[BudgetPeriod]:
    """Yield the accounts of periods that have not ended, some perhaps twice."""
    for server in servers(client):
        names = server.scan_iter(match=keys.budgets(), count=SCANNED)
        for part in _in_parts(account for account in map(keys.account_of, names) if account):
            pipeline = server.pipeline(transaction=False)
            for account in part:
                pipeline.hget(keys.budget(*account), "length")
            for (digest, start_s), length in zip(part, pipeline.execute(), strict=True):
                period = BudgetPeriod(digest, start_s, int(length or 0))
                if (start_s + period.length_s) * 1000 > now_ms:
                    yield period


def _held(
    client: Client, accounts: Sequence[BudgetPeriod], dead: Sequence[bytes]
) -> dict[tuple[BudgetPeriod, bytes], int]:
    """Return what dead holders have taken of accounts, as far as they are known there."""
    found = read_takes(client, accounts, [name.hex() for name in dead])
    return {
        (account, name): take
        for account, takes in zip(accounts, found, strict=True)
        for name, take in zip(dead, takes, strict=True)
        if take is not None
    }


def _bury(
    client: Client, n_shards: int, held: dict[tuple[BudgetPeriod, bytes], int], done: Burials
) -> set[bytes]:
    """Bury holders in their accounts; return those whose leases run yet."""
    living, accounts = set[bytes](), BudgetAccounts(client)
    spent = read_folded_by(client, n_shards, list(held))
    for ((account, holder), take), amount in zip(held.items(), spent, strict=True):
        if take == amount:
            continue
        back = accounts.bury(account, holder.hex(), spent=amount)
        if back is None:
            living.add(holder)
            continue
        done.n_buried += 1
        done.returned += max(back, 0)
        done.restored += max(-back, 0)
    return living


def _in_parts(accounts: Iterable[Account]) -> Iterator[list[Account]]:
    rest = iter(accounts)
    while part := list(islice(rest, AT_ONCE)):
        yield part
