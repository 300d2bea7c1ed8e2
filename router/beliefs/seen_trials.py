"""A copy of the store's trials: read anew where their version changed, and ended where a side is
lost. With the store away the last ones hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import structlog

from router.beliefs.kept import Kept, ReviewKey
from router.beliefs.trials import ends_of
from router.config.compiled import Configuration
from telemetry.store import Client, StoreErrors
from telemetry.trials import OVERDUE_MS, Trial, TrialState, change, in_force, read_trials

log = structlog.get_logger()


class SeenTrials:
    """All trials, as last read; not for several threads."""

    def __init__(self, client: Client) -> None:
        self.known: dict[str, Trial] = {}
        self._client = client
        self._version: bytes | None = None

    def take(self, version: bytes | None) -> bool:
        """Read the trials if theirs is another version; return whether it is.

        Raises:
            redis.RedisError: the store is away; the copy stays.
        """
        if version == self._version:
            return False
        self.known = read_trials(self._client)
        self._version = version
        return True

    def in_force(self, now_ms: int) -> dict[str, Trial]:
        """Return those that calls go by: all but what nobody ended in time."""
        return in_force(self.known, now_ms)

    def when_overdue(self, now_ms: int) -> list[int]:
        """Return when those that run will be overdue, in epoch ms."""
        running = (one for one in self.known.values() if one.state is TrialState.RUNNING)
        return [one.ends_ms + OVERDUE_MS + 1 for one in running if not one.is_overdue(now_ms)]

    def end(
        self,
        kept: Mapping[ReviewKey, Kept],
        configuration: Configuration,
        now_ms: int,
        fallen_at_ms: Iterable[int],
        lost: frozenset[str],
    ) -> None:
        """End what this router sees to be over, and note what took effect; who is first says so."""
        over = ends_of(
            self.known.values(),
            kept,
            configuration,
            now_ms=now_ms,
            fallen_at_ms=np.array(list(fallen_at_ms), dtype=np.int64),
            lost=lost,
        )
        for trial in over:
            try:
                if not change(self._client, trial):
                    continue  # the next look shows it
            except StoreErrors:  # it is away, or full: the next look tries again
                return
            self.known[trial.id] = trial
            if trial.state is TrialState.ENDED:
                log.info("trial ended", trial=trial.id, task=trial.task, reason=trial.reason)
            elif not trial.holdout:
                log.info("hold-out ended", trial=trial.id, task=trial.task)
