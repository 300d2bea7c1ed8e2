"""The store as one thread follows it: what is looked at beside the rows, and what was seen last."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from bandit import cells
from bandit.cells import Terms
from router.beliefs.alarms import Alarms
from router.beliefs.releases import Releases
from router.beliefs.seen_trials import SeenTrials
from telemetry import keys, store_secrets, trials
from telemetry.reader import Reader
from telemetry.store import Client
from telemetry.store_secrets import SeenSecrets
from telemetry.topology import spans_slots


class SeenState(NamedTuple):
    """What was looked at beside the rows, as it lies in the store."""

    standings: dict[bytes, bytes]
    watches: dict[bytes, bytes]
    off: bytes | None
    on: bytes | None
    memory: bytes | None
    forgotten: dict[bytes, bytes]
    prompts: dict[bytes, bytes]
    episodes: bytes | None
    trials: bytes | None  # their version
    jobs: bytes | None  # why none are run, if so
    secrets: SeenSecrets


N_BESIDE = len(SeenState._fields) - 1
"""What is asked for, in the order of its fields, before the secrets."""


@dataclass(slots=True)
class Followed:
    """The store as one thread follows it."""

    client: Client
    reader: Reader
    releases: Releases
    watches: Alarms
    trials: SeenTrials
    names: dict[int, str] | None = None  # of digests; None: not read yet
    stale: bool = False  # something is known that is not believed yet
    _keys: bytes = b""
    _rows: Terms = field(default_factory=lambda: cells.from_bytes(b"", b""))

    def read_names(self) -> dict[int, str]:
        """Return what digests stand for, as the store knew when it was first looked at.

        Raises:
            redis.RedisError: the store is away.
        """
        if self.names is None:
            found = self.client.hgetall(keys.NAMES)
            self.names = {int(digest, 16): name.decode() for digest, name in found.items()}
        return self.names

    def read_rows(self) -> Terms:
        """Return all rows, as last polled."""
        keys, rows = self.reader.rows()
        found = cells.from_bytes(keys, rows)
        if keys == self._keys:  # most often: what follows from them is known
            found = self._rows.of_same_keys(found.values)
        self._keys, self._rows = keys, found
        return found

    def look(self) -> tuple[SeenState, bool]:
        """Look at standings, watches, switch, secrets and what else is said, and at the rows.

        All of it in one round trip, the rows last: a store that has lost them says so by then. On
        a cluster that takes two. Whether any row changed comes second.

        Raises:
            redis.RedisError: the store is away.
        """
        pipeline = self.client.pipeline(transaction=False)
        pipeline.hgetall(keys.STANDINGS)
        pipeline.hgetall(keys.DRIFT)
        pipeline.get(keys.OFF)
        pipeline.get(keys.ON)
        pipeline.get(keys.MEMORY)
        pipeline.hgetall(keys.FORGOTTEN)
        pipeline.hgetall(keys.PROMPTS)
        pipeline.get(keys.EPISODES)
        pipeline.hget(keys.TRIALS, trials.VERSION)
        pipeline.get(keys.JOBS_TROUBLE)
        store_secrets.ask(pipeline)
        n_beside, is_together = len(pipeline), not spans_slots(self.client)
        if is_together:
            self.reader.ask(pipeline)
        looked = pipeline.execute()
        found = dict(zip(SeenState._fields, looked[:N_BESIDE], strict=False))
        seen = SeenState(**found, secrets=SeenSecrets(*looked[N_BESIDE:n_beside]))
        reader = self.reader
        return seen, reader.take(looked[n_beside:]) if is_together else reader.poll()
