"""Reading several shards' streams at once, on one server as on a cluster."""

from __future__ import annotations

from telemetry import keys
from telemetry.store import Client
from telemetry.topology import spans_slots

Entries = list[tuple[bytes, dict[bytes, bytes]]]
"""Entry ids with their fields, oldest first."""


def read_streams(
    client: Client, marks: dict[int, bytes], *, count: int, block_ms: int
) -> dict[int, Entries]:
    """Return up to `count` next entries of each shard after its mark; without any it is left out.

    Waits up to `block_ms` for the first one; 0 does not wait. On a cluster no command waits for
    streams of several slots: there it never does, and its caller has to rest.

    Raises:
        redis.RedisError: the store is away.
    """
    if spans_slots(client):
        return _look(client, marks, count)
    shard_of = {keys.stream(shard).encode(): shard for shard in marks}
    streams = {name: marks[shard] for name, shard in shard_of.items()}
    replies = client.xread(streams, count=count, block=block_ms or None)
    if isinstance(replies, dict):  # by the third version of the protocol
        return {shard_of[name]: entries[0] for name, entries in replies.items()}
    return {shard_of[name]: entries for name, entries in replies or []}


def _look(client: Client, marks: dict[int, bytes], count: int) -> dict[int, Entries]:
    pipeline = client.pipeline(transaction=False)
    for shard, mark in marks.items():  # no XREAD: for that one the client asks where keys lie
        pipeline.xrange(keys.stream(shard), min=b"(" + mark, count=count)
    found = dict(zip(marks, pipeline.execute(), strict=True))
    return {shard: entries for shard, entries in found.items() if entries}
