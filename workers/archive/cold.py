"""Feedback for old decisions of one shard, and what must be known before it can be folded.

What was said of a decision up to when it turned old lies in the archive, and as far as it is not
archived yet in the stream; after that nothing was heard of it but what was put back before.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from itertools import compress

import numpy as np

from telemetry import keys
from telemetry.store import Client
from telemetry.tokens import decided_at_ms, nonce_of
from workers.archive.archive import Archive, ingested_spans
from workers.archive.lookup import LookedUp
from workers.archive.tail import Tail, read_tail
from workers.folding.batch import START, position
from workers.folding.history import History
from workers.folding.raters import Seat, is_rated, seats_of, sitting_beside


class Knowledge(Enum):
    """What is known of what was said of an old decision, as of a look-up."""

    KNOWN = 0  # all that was said is known
    LATER = 1  # some of it is not archived yet
    NEVER = 2  # nobody knows all of it

    @classmethod
    def worst(cls, several: Iterable[Knowledge]) -> Knowledge:
        """Return what holds for all of several decisions."""
        return max(several, key=lambda one: one.value)


@dataclass(slots=True)
class Cold:
    """Feedback for old decisions of one shard, and what must be known for it."""

    shard: int
    mark: bytes  # up to which the stream was folded, once all of this was cold
    archived: bytes
    n_waiting: int  # bytes folded between the two
    history: History
    records: dict[bytes, np.void] = field(default_factory=dict)  # by field of `cold`
    needs: dict[bytes, dict[bytes, int]] = field(default_factory=dict)
    """By field: nonces of old decisions, and when these were made: its own, and those beside it."""
    told: set[bytes] = field(default_factory=set)  # nonces among them of which others told
    tail: Tail = field(default_factory=Tail)

    @property
    def made_ms(self) -> dict[bytes, int]:
        """By nonce of which must be known what was said, when the decision was made."""
        return {nonce: at for needs in self.needs.values() for nonce, at in needs.items()}

    def read_tail(self, archive: Archive, found: LookedUp) -> None:
        """Read what was said since the archive's last file, where anything may have been."""
        since = found.marks[self.shard]
        if since is None:
            return
        asked = [n for n, at in self.made_ms.items() if not self._ends_in_archive(n, at, found)]
        if asked and since == self.archived:
            self.tail = read_tail(
                archive,
                self.shard,
                {nonce: found.labels.get(nonce, b"") for nonce in asked},
                after=since,
                upto=self.mark,
                n_bytes=self.n_waiting,
                history=self.history,
            )

    def row(self, nonce: bytes, found: LookedUp) -> bytes:
        """Return what was said of a decision, as far as it is known."""
        return self.tail.labels.get(nonce) or found.labels.get(nonce, b"")

    def knowledge(self, name: bytes, found: LookedUp) -> Knowledge:
        """Return what can be done about one of them."""
        needs = self.needs[name].items()
        return Knowledge.worst(self._knowledge(nonce, at, found) for nonce, at in needs)

    def _knowledge(self, nonce: bytes, made_ms: int, found: LookedUp) -> Knowledge:
        known_to = found.marks[self.shard]
        if known_to is None:
            return Knowledge.LATER  # the archive begins anew with its next file
        if made_ms < found.heard_since_ms[self.shard]:
            return Knowledge.NEVER
        if self._ends_in_archive(nonce, made_ms, found):
            return Knowledge.KNOWN
        if position(known_to) < position(self.archived):
            return Knowledge.NEVER
        if not self.tail.is_whole or nonce in self.tail.unsure:
            return Knowledge.LATER
        is_old = made_ms < self.history.oldest_ms(position(self.mark))
        return Knowledge.KNOWN if is_old else Knowledge.LATER

    def _ends_in_archive(self, nonce: bytes, made_ms: int, found: LookedUp) -> bool:
        """Return whether nothing was heard of a decision after the archive but what was put back.

        It was old by then, and nobody else tells of it, bringing a word of theirs.
        """
        known_to = found.marks[self.shard]
        is_old = known_to is not None and made_ms < self.history.oldest_ms(position(known_to))
        return is_old and nonce not in self.told


def standing(client: Client, shard: int) -> Cold:
    """Return how far a shard is, with no feedback yet."""
    fields = ["mark", "archived", "n_bytes", "archived_bytes", "young"]
    mark, archived, folded, kept, young = client.hmget(keys.meta(shard), fields)
    n_waiting = int(folded or 0) - int(kept or 0)
    return Cold(shard, mark or START, archived or START, n_waiting, History.parse(young))


def note_needs(client: Client, cold: Cold, now_ms: int) -> None:
    """Note of which decisions must be known what was said: also those that may give way.

    What is young still of those that sit beside a rater's decision is read where it lies.
    """
    oldest_ms = cold.history.oldest_ms((now_ms, 0))
    since_ms = cold.history.since_ms or 0
    seated: dict[bytes, Seat] = {}
    for name, record in cold.records.items():
        token = record["token"]
        cold.needs[name] = {token["nonce"].tobytes(): int(token["decided_at_ms"])}
        tokens = np.array([token])
        if is_rated(tokens)[0]:
            (seated[name],) = seats_of(tokens)
    _note_seated(client, cold, seated, since_ms=since_ms, oldest_ms=oldest_ms)
    _note_told(client, cold, now_ms)


def _note_seated(
    client: Client, cold: Cold, seated: dict[bytes, Seat], *, since_ms: int, oldest_ms: int
) -> None:
    if not seated:
        return
    pipeline = client.pipeline(transaction=False)
    for day, seat in seated.values():
        pipeline.hget(keys.raters(cold.shard, day), seat)
    for (name, where), row in zip(seated.items(), pipeline.execute(), strict=True):
        for token in sitting_beside({where: row}, ()).values():
            if since_ms <= decided_at_ms(token) < oldest_ms:
                cold.needs[name][nonce_of(token)] = decided_at_ms(token)


def _note_told(client: Client, cold: Cold, now_ms: int) -> None:
    """Note of which decisions others told: a word may have come with that, however old they are."""
    if not (nonces := list(cold.made_ms)):
        return
    pipeline = client.pipeline(transaction=False)
    for span in ingested_spans(now_ms):
        pipeline.smismember(keys.ingested(cold.shard, span), nonces)
    for known in pipeline.execute():
        cold.told.update(compress(nonces, known))
