"""Forgetting users: what the store holds of them by their keyed hashes, and how processes hear.

Draws go by keys that begin with the hash, and conversations by keys that end with some of it. Who
was forgotten is known for as long as a draw of before may be met anywhere, by a hash and a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from telemetry import conversations, keys
from telemetry.events import RECORD_VERSION, Kind, sealed
from telemetry.layouts import RECORD
from telemetry.store import Client, servers
from telemetry.tokens import Token

KEPT_S = 26 * 3600
"""A draw lasts for a day at most."""
AT_ONCE = 1000
SEAL_BYTES = 8
"""Of a record: what `sealed` puts behind it."""
END_BYTES = 4
"""Of a user's hash, by which the keys of that user's conversations end."""


def forget_record(
    *, app: int, user: bytes, n_shards: int, at_ms: int, event: bytes, beside: int = 0
) -> bytes:
    """Return the record that has a user forgotten.

    It goes to the shard in which all decisions of that rater are folded; others have rows of the
    ledger, and each hears of it by a record of its own. It names the user by the keyed hash alone,
    and takes effect once: behind all that its stream entry holds.

    Args:
        app: its digest.
        user: keyed hash.
        beside: how many shards further it goes.
        at_ms: on the store's clock.
        event: an id of its own.
    """
    number = int.from_bytes(user, "little")
    shard = (number + beside) % n_shards
    body = Token(
        *(0, shard, 0, event, at_ms, 0, 0, 0, 0, app, 0, 0, 0.0, 0.0, 0.0), user=number
    ).pack()
    record = np.zeros(1, dtype=RECORD)
    record["kind"], record["version"] = Kind.FORGET, RECORD_VERSION
    record["token"] = np.frombuffer(body, dtype=RECORD["token"])
    record["received_at_ms"], record["event"] = at_ms, np.void(event)
    return sealed(record.tobytes()[:-SEAL_BYTES])


def note_forgotten(client: Client, users: Iterable[bytes], *, now_ms: int) -> None:
    """Have every process know that these users were forgotten now, and those who start later.

    Args:
        users: keyed hashes.
        now_ms: on the store's clock.

    Raises:
        redis.RedisError: the store is away, or takes no writes.
    """
    known = read_forgotten(client.hgetall(keys.FORGOTTEN))
    old = [user for user, at_ms in known.items() if at_ms < now_ms - KEPT_S * 1000]
    if old:
        client.hdel(keys.FORGOTTEN, *old)
    client.hset(keys.FORGOTTEN, mapping=dict.fromkeys(users, now_ms))
    client.expire(keys.FORGOTTEN, KEPT_S)
    client.publish(keys.CHANGED, "")


def read_forgotten(found: Mapping[bytes, bytes]) -> dict[bytes, int]:
    """Return when users were forgotten, in ms, as the store says; what is no time is left out."""
    return {user: int(at) for user, at in found.items() if at.isdigit()}


def drop_draws(client: Client, user: bytes) -> int:
    """Delete the draws of a user's units, stand-ins among them; return how many.

    Every key of the store is passed by: it holds a hundred thousand of them in 100 ms, and serves
    others meanwhile.

    Raises:
        redis.RedisError: the store is away, or takes no writes; some may be gone.
    """
    n = 0
    for server in servers(client):
        pipeline, waiting = server.pipeline(transaction=False), 0
        for name in server.scan_iter(match=keys.draws_of(user.hex()), count=AT_ONCE):
            pipeline.unlink(name)
            waiting += 1
            if waiting >= AT_ONCE:
                n, waiting = n + sum(pipeline.execute()), 0
        n += sum(pipeline.execute())
    return n


def drop_conversations(client: Client, user: bytes) -> int:
    """Delete the conversations of a user; return how many.

    Raises:
        redis.RedisError: the store is away, or takes no writes; some may be gone.
    """
    return conversations.drop_ending(client, user[:END_BYTES])
