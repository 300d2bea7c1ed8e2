"""Why no jobs are run, as the worker that asks for them says in the store: their queue may have a
server of its own, which nobody else looks at.

The word runs out by itself: a worker that is gone says nothing. Nothing in it is a secret.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from telemetry import keys
from telemetry.damaged import DAMAGED, Moment
from telemetry.store import Client

SAID_EVERY_S = 10.0
GONE_AFTER_MS = 60_000
"""The time to live of a word: five were missed."""


class JobsTrouble(Struct, frozen=True, kw_only=True):
    """Why no jobs are run."""

    text: str  # a sentence without its full stop
    fix: str
    since_ms: Moment  # by the store's clock; of several workers, of whoever said it last


def say(client: Client, trouble: JobsTrouble) -> None:
    """Say it, for a minute.

    Raises:
        redis.RedisError, OSError: the store is away.
    """
    client.set(keys.JOBS_TROUBLE, msgspec.json.encode(trouble), px=GONE_AFTER_MS)


def take_back(client: Client) -> None:
    """Say that jobs are run again.

    Raises:
        redis.RedisError, OSError: the store is away.
    """
    client.delete(keys.JOBS_TROUBLE)


def parse(value: bytes | None) -> JobsTrouble | None:
    """Return what lies under `keys.JOBS_TROUBLE`; None where there is nothing that can be read."""
    try:
        return None if value is None else msgspec.json.decode(value, type=JobsTrouble)
    except DAMAGED:
        return None
