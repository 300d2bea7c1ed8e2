"""Old decisions put back, so that what is said of them now is folded as if they were young.

Feedback for an old decision lies in `keys.cold`, and feedback by a reference that means nothing
young waits in `keys.held`. What the archive knows is looked up for both at once. For the former,
what was said so far is put into `keys.thawed` and the record is sent again, in one step; the
learner folds it from there and lets go of it in the same commit. For the latter it is written down
what the reference means, as the learner itself would have; it sends it there, where it is cold.

Killed anywhere, all of it may be done again: what is put back stays as it is, and an event that is
sent twice says nothing new. What no archive knows becomes a dead letter, and is counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from telemetry import frames, keys, references, thawing
from telemetry.decoding import record_of
from telemetry.events import MICRO, FeedbackKind, Flag, Match, Source, feedback
from telemetry.frames import MAX_RECORDS, UNNUMBERED, Frame
from telemetry.store import Client
from workers.archive.archive import Archive
from workers.archive.cold import Cold, Knowledge, note_needs, standing
from workers.archive.lookup import LookedUp, look_up
from workers.folding.batch import DAY_MS, LABEL_DAYS, position
from workers.folding.held import MAX_SENT, sought_in_archive
from workers.folding.resolution import WaitingFeedback
from workers.folding.writing import MAX_DEAD

MAX_ROUND = 2000
"""Of a shard, of both sorts: four shards' are looked up in a few seconds."""
MOST_COLD = 100_000
"""A shard keeps so many, 45 MB; beyond it the oldest become dead letters."""
UNKNOWN = "old: no archive holds its decision"
TOO_MANY = f"old: over {MOST_COLD} wait for the archive"
UNSOUND = "a record with a wrong checksum or field"


@dataclass(slots=True)
class Asked:
    """What was done about one shard before, so that it is not done again each round.

    Nothing rests on it: another process, which does not know it, does the same once more.
    """

    sent: dict[bytes, bytes] = field(default_factory=dict)  # field of `cold` -> entry of the stream
    early: dict[bytes, bytes] = field(default_factory=dict)
    """Field of `cold` -> archived mark then: nothing can be done about it before the next file."""

    def is_due(self, name: bytes, mark: bytes, archived: bytes) -> bool:
        """Return whether something can be done about a field of `cold` now."""
        sent, early = self.sent.get(name), self.early.get(name)
        is_folded = sent is None or position(mark) >= position(sent)
        return is_folded and early != archived


@dataclass(slots=True)
class Thawing:
    """The job of one process, round after round."""

    looked_at: float = float("-inf")  # monotonic seconds
    asked: dict[int, Asked] = field(default_factory=dict)

    def look(self, archive: Archive) -> int:
        """Put back what is asked for, as far as the archive knows it; return for how many words.

        Raises:
            redis.RedisError: the store is away; what was not done is done at another time.
            FileNotFoundError: files go faster than they can be listed.
        """
        client, shards = archive.client, range(archive.n_shards)
        now_ms = _now_ms(client)
        cold = [self._cold(client, shard, now_ms) for shard in shards]
        n_held = MAX_ROUND // 2
        held = [sought_in_archive(client, n, now_ms=now_ms, n=n_held) for n in shards]
        digests = [one.reference for those in held for one in those]
        nonces = list({nonce: None for those in cold for nonce in those.made_ms})
        if not digests and not nonces:
            return 0
        # First what is young: what is not there any more is in the archive.
        young = references.look_up(client, digests, n_shards=archive.n_shards, now_ms=now_ms)
        oldest_ms = now_ms - (LABEL_DAYS + 1) * DAY_MS
        archived = [one.archived for one in cold]
        found = look_up(archive, digests, nonces, oldest_ms=oldest_ms, archived=archived)
        for one in cold:
            one.read_tail(archive, found)
        n = sum(self._put_back(client, one, found) for one in cold)
        both = zip(young, found.named, strict=True)
        named = iter([references.in_order([*old, *known]) for known, old in both])
        for shard, those in enumerate(held):
            n += _choose(client, shard, those, list(islice(named, len(those))), now_ms=now_ms)
        return n

    def give_up(self, client: Client, n_shards: int) -> int:
        """Make dead letters of what waits for an archive, where there is none; return of how many.

        Of feedback by reference it is noted that no archive knows what it means.

        Raises:
            redis.RedisError: the store is away.
        """
        n, now_ms = 0, _now_ms(client)
        for shard in range(n_shards):
            waiting = sought_in_archive(client, shard, now_ms=now_ms, n=MAX_ROUND)
            _note_nowhere(client, shard, [one.event for one in waiting], now_ms)
            names = client.hkeys(keys.cold(shard))[:MAX_ROUND]
            if names:
                n += thawing.give_up(client, shard, names, reason=UNKNOWN, keep=MAX_DEAD)
        return n

    def _of(self, shard: int) -> Asked:
        return self.asked.setdefault(shard, Asked())

    def _cold(self, client: Client, shard: int, now_ms: int) -> Cold:
        """Return the feedback for old decisions that is due, the oldest first."""
        names = sorted(client.hkeys(keys.cold(shard)))  # events begin with their time
        out = standing(client, shard)  # after them: so all of them were cold by its mark
        for start in range(0, len(names) - MOST_COLD, MAX_ROUND):
            gone = names[start : min(start + MAX_ROUND, len(names) - MOST_COLD)]
            thawing.give_up(client, shard, gone, reason=TOO_MANY, keep=MAX_DEAD)
        asked, waiting = self._of(shard), set(names)
        asked.sent = {name: entry for name, entry in asked.sent.items() if name in waiting}
        asked.early = {name: seen for name, seen in asked.early.items() if name in waiting}
        due = [name for name in names if asked.is_due(name, out.mark, out.archived)]
        if not (picked := due[:MAX_ROUND]):
            return out
        for name, raw in zip(picked, client.hmget(keys.cold(shard), picked), strict=True):
            record = record_of(raw or b"")
            if record is not None:
                out.records[name] = record
            elif raw is not None:
                thawing.give_up(client, shard, [name], reason=UNSOUND, keep=MAX_DEAD)
        note_needs(client, out, now_ms)
        return out

    def _put_back(self, client: Client, cold: Cold, found: LookedUp) -> int:
        """Put back and send again what is known, give up what is not; return how many were sent."""
        asked, ready, unknown = self._of(cold.shard), list[bytes](), list[bytes]()
        for name in cold.records:
            knows = cold.knowledge(name, found)
            if knows is Knowledge.KNOWN:
                ready.append(name)
            elif knows is Knowledge.NEVER:
                unknown.append(name)
            else:
                asked.early[name] = cold.archived
        if unknown:
            thawing.give_up(client, cold.shard, unknown, reason=UNKNOWN, keep=MAX_DEAD)
        for start in range(0, len(ready), MAX_RECORDS):
            part = ready[start : start + MAX_RECORDS]
            nonces = {nonce: None for name in part for nonce in cold.needs[name]}
            rows = {nonce: cold.row(nonce, found) for nonce in nonces}
            body = b"".join(as_thawed(cold.records[name]) for name in part)
            frame = frames.pack(Frame(UNNUMBERED, cold.shard, 0, body))
            entry = thawing.put_back(client, cold.shard, rows, frame, archived=cold.archived)
            if entry is None:
                return start  # the archive moved on: the next round looks anew
            asked.sent |= dict.fromkeys(part, entry)
        return len(ready)


def _choose(
    client: Client,
    shard: int,
    waiting: list[WaitingFeedback],
    named: list[list[bytes]],
    *,
    now_ms: int,
) -> int:
    """Write down what references mean, or that the archive does not know; return of how many."""
    n, n_tokens, nowhere = 0, 0, list[bytes]()
    for one, tokens in zip(waiting, named, strict=True):
        meant = one.before(tokens)
        if meant is None:
            nowhere.append(one.event)  # what it means may be yet to come
        elif not meant:
            reason = one.why_not(tokens)
            thawing.refuse(client, shard, one.event, reason=reason, keep=MAX_DEAD)
        elif n_tokens < MAX_SENT:
            n_tokens += len(meant)
            resolution = one.resolution(meant, tokens).pack()
            n += thawing.choose(client, shard, one.event, resolution)
    _note_nowhere(client, shard, nowhere, now_ms)
    return n


def _note_nowhere(client: Client, shard: int, events: list[bytes], now_ms: int) -> None:
    """Note that the archive was asked, and does not know what these mean: look at them now."""
    if events:
        pipeline = client.pipeline(transaction=False)
        pipeline.hset(keys.sought(shard), mapping=dict.fromkeys(events, now_ms))
        pipeline.zadd(keys.due(shard), dict.fromkeys(events, now_ms), xx=True)
        pipeline.execute()


def as_thawed(record: np.void) -> bytes:
    """Return what a record says of its decision, as feedback whose decision was put back.

    An outcome that brought a word was counted as one when it came; only its word was kept.
    """
    value = int(record["value_micro"])
    return feedback(
        record["token"].tobytes(),
        kind=FeedbackKind(int(record["feedback_kind"])),
        value=None if value < 0 else value / MICRO,
        revision=int(record["revision"]),
        event=record["event"].tobytes(),
        match=Match(int(record["match"])),
        source=Source(int(record["source"])),
        rules=int(record["rules"]),
        chain=record["chain"].tobytes(),
        received_at_ms=int(record["received_at_ms"]),
        flags=int(Flag.THAWED),
    )


def _now_ms(client: Client) -> int:
    """Return the time by the store's clock."""
    seconds, micros = client.time()
    return int(seconds) * 1000 + int(micros) // 1000
