"""Which configuration this process goes by, said in the audit trail: at once, hourly, at its end.

What its hard constraints are is said with it, and again once a day, so that whoever reads a part of
the trail knows what was in force. Nothing of it is a secret.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

import msgspec
import structlog

from router.config.compiled import Configuration
from router.config.hard import hard_constraints
from telemetry.trail import TrailWord, pack_configuration
from telemetry.writer import Writer

log = structlog.get_logger()

STILL_EVERY_S = 3600.0
"""Of a process that was silent for longer nobody knows what it went by (`trail_answer`)."""
AGAIN_EVERY_S = 86_400.0
LOOK_EVERY_S = 30.0


class ConfigurationTeller:
    """Says what is in force; not for several threads."""

    def __init__(
        self, writer: Writer, *, n_shards: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._writer = writer
        self._n_shards = n_shards
        self._clock = clock
        self._current: Configuration | None = None
        self._waiting: TrailWord | None = None  # what is to be said of it, and could not be
        self._on_record: set[int] = set()  # whose constraints this process said
        self._n_dropped = 0  # records of the journal, when that was last said
        self._still_at = self._again_at = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self, configuration: Configuration) -> None:
        """Say what this process begins with, and go on saying it."""
        self._change(configuration, TrailWord.BEGAN)
        self._task = asyncio.get_running_loop().create_task(self._go_on(), name="in force")

    def follow(self, configuration: Configuration) -> None:
        """Say that another configuration is in force; before the start nothing is said."""
        known = self._current
        if known is not None and known.version != configuration.version:
            self._change(configuration, TrailWord.TOOK)

    async def stop(self) -> None:
        """Say that nothing is in force here any more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._current is not None:
            self._say(self._current, TrailWord.ENDED)

    def is_on_record(self, configuration: Configuration) -> bool:
        """Return whether what a configuration constrains is on record, and see to it that it is.

        Calls keep the configuration that they began with, which may be about to come or gone.
        """
        self._forget_dropped()
        if configuration.version in self._on_record:
            return True
        current = self._current
        if current is not None and configuration.version == current.version:
            return self.look()
        return self._say(configuration, TrailWord.TOOK, whole=True)

    def look(self) -> bool:
        """Say what is due, or could not be said before; return whether nothing is left to say."""
        now, current = self._clock(), self._current
        if current is None:
            return True
        self._forget_dropped()
        is_unknown = current.version not in self._on_record
        if self._waiting is not None or is_unknown or now >= self._again_at:
            return self._change(current, self._waiting or TrailWord.STILL)
        if now >= self._still_at and self._say(current, TrailWord.STILL):
            self._still_at = now + STILL_EVERY_S
        return True

    def _change(self, configuration: Configuration, word: TrailWord) -> bool:
        """Say the whole of what is in force; where that fails, it is said as soon as it can be."""
        self._current, now = configuration, self._clock()
        if not self._say(configuration, word, whole=True):
            self._waiting = word
            return False
        self._waiting = None
        self._still_at, self._again_at = now + STILL_EVERY_S, now + AGAIN_EVERY_S
        return True

    def _say(self, configuration: Configuration, word: TrailWord, *, whole: bool = False) -> bool:
        records = pack_configuration(
            self._n_shards,
            at_ms=self._writer.clock.now_ms(),
            configuration=configuration.version,
            word=word,
            n_dropped=self._writer.n_dropped,
            constraints=configuration.derive(_told) if whole else b"",
        )
        is_said = all(map(self._writer.put, records))
        if is_said and whole:
            self._on_record.add(configuration.version)
        return is_said

    def _forget_dropped(self) -> None:
        """Say everything anew where the journal lost records: it may have been among them."""
        if self._writer.n_dropped != self._n_dropped:
            self._n_dropped = self._writer.n_dropped
            self._on_record.clear()

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self.look()


def _told(configuration: Configuration) -> bytes:
    return msgspec.json.encode(hard_constraints(configuration), order="deterministic")
