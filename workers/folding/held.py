"""Feedback by reference: held until it is settled what had been decided, then sent there.

It means the decisions made up to its receipt, or, where there were none, the one made first in the
day after. What is found is written down before it is sent, under the shard's lease, and marked once
it was sent: so a crash or a second owner never puts one feedback on two different sets.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

import numpy as np
import structlog

from telemetry import frames, keys
from telemetry.decoding import record_of
from telemetry.events import MICRO, FeedbackKind, Match, feedback
from telemetry.references import AHEAD_MS, look_up
from telemetry.scripts import Commit
from telemetry.store import Client
from telemetry.tokens import shard_of
from workers.folding.resolution import Resolution, WaitingFeedback
from workers.folding.settling import Settling
from workers.folding.shard import NotOwner, Shard
from workers.folding.writing import MAX_DEAD

log = structlog.get_logger()

MAX_ROUND = 1000
"""Feedback looked at in a round and shard: half of it the newest, so that a backlog of what never
matches does not stand in its way, and half what has waited longest."""
MAX_SENT = 10_000
"""Decisions a round and shard, about: a reference may name hundreds."""
MOST_S = 30.0
"""A producer that hangs, or a shard without an owner, is waited for no longer."""
GRACE_MS = 250
"""A producer that was idle sends its first record, and is then waited for, in less."""
AGAIN_MS = 200
MOST_AGAIN_MS = 60_000
SOUGHT_MS = 1000
"""While the archive is asked; a job looks every five seconds."""
SOUGHT_AGAIN_MS = 600_000
"""Between two questions to the archive for the same."""


@dataclass(slots=True)
class Round:
    """What one look at a shard's feedback found; it takes effect together."""

    shard: Shard
    token: int  # of its lease
    events: list[bytes]  # that are due
    now_ms: int
    has_archive: bool  # what is old may lie there
    commit: Commit
    waiting: dict[bytes, WaitingFeedback] = field(default_factory=dict)  # by event
    chosen: dict[bytes, Resolution] = field(default_factory=dict)
    ready: list[WaitingFeedback] = field(default_factory=list)  # may be looked for
    sought: dict[bytes, bytes] = field(default_factory=dict)  # event -> what the archive said
    sending: list[tuple[WaitingFeedback, Resolution]] = field(default_factory=list)
    again: dict[bytes, int] = field(default_factory=dict)  # event -> when to look again
    n_changes: int = 0
    n_tokens: int = 0

    @property
    def old(self) -> dict[bytes, Resolution]:
        """What was sent so long ago that it goes."""
        both = self.chosen.items()
        return {e: c for e, c in both if c.sent_ms and self.now_ms >= c.forgotten_at_ms}

    @property
    def digests(self) -> list[bytes]:
        """The references that must be looked up: of `ready`, then of `old`."""
        return [one.reference for part in (self.ready, self.old.values()) for one in part]


@dataclass(slots=True)
class References:
    """Resolves feedback by reference, for the shards that this worker holds."""

    n_shards: int
    clock: Callable[[], float] = time.monotonic
    settling: Settling = field(init=False)
    n_waiting: int = 0  # at the last look, of any age
    is_unsettled: bool = False  # some of it waits for nothing but others to get on
    _since: dict[tuple[bytes, str], float] = field(default_factory=dict)
    _asked: dict[bytes, float] = field(default_factory=dict)  # event -> since the archive was asked

    def __post_init__(self) -> None:
        self.settling = Settling(self.n_shards)

    def begin_anew(self) -> None:
        """Forget what was seen: the store may be another one."""
        self.settling.begin_anew()
        self._since.clear()
        self._asked.clear()

    def look(self, client: Client, owned: list[tuple[Shard, int]], now_ms: int) -> list[int]:
        """Resolve what is due; return the shards that turned out to be another's.

        Args:
            owned: shards with the tokens of their leases.
            now_ms: on the store's clock.
        Raises:
            redis.RedisError: the store is away; what was chosen is sent at a later look.
        """
        pipeline = client.pipeline(transaction=False)
        for shard, _ in owned:
            pipeline.hlen(keys.held(shard.number))
            due, half = keys.due(shard.number), MAX_ROUND // 2
            pipeline.zrevrangebyscore(due, now_ms, "-inf", start=0, num=half)
            pipeline.zrangebyscore(due, "-inf", now_ms, start=0, num=half)
        for number in range(self.n_shards):
            pipeline.hexists(keys.meta(number), "archived")
        replies = pipeline.execute()
        found, archived = replies[: -self.n_shards], replies[-self.n_shards :]
        self.n_waiting = sum(found[::3])
        parts = zip(found[1::3], found[2::3], strict=True)
        # Once anything was archived, what is old is not in the store.
        rounds = [
            Round(shard, token, events, now_ms, any(archived), Commit(keys.meta(shard.number)))
            for (shard, token), (newest, oldest) in zip(owned, parts, strict=True)
            if (events := list(dict.fromkeys(newest + oldest)))
        ]
        lost = self._resolve_all(client, rounds, now_ms) if rounds else []
        self.is_unsettled = bool(self._since)
        return lost

    def _resolve_all(self, client: Client, rounds: list[Round], now_ms: int) -> list[int]:
        """Resolve what is due in shards; return those that turned out to be another's.

        What they hold is read at once, and looked up at once.
        """
        self.settling.look(client, now_ms)  # before references are read
        _read(client, rounds)
        for found in rounds:
            fresh = [one for event, one in found.waiting.items() if event not in found.chosen]
            found.ready = [one for one in fresh if self._may_be_found(one, found)]
        digests = [found.digests for found in rounds]
        tokens = iter(look_up(client, list(chain(*digests)), n_shards=self.n_shards, now_ms=now_ms))
        lost = []
        for found, own in zip(rounds, digests, strict=True):
            try:
                self._resolve(client, found, list(islice(tokens, len(own))))
            except NotOwner:
                lost.append(found.shard.number)
        return lost

    def _resolve(self, client: Client, found: Round, tokens: list[list[bytes]]) -> None:
        """Have what is due in a shard take effect.

        Args:
            tokens: of the decisions that `found.digests` mean, each.
        """
        number, old, meant = found.shard.number, found.old, iter(tokens)
        for one in found.ready:
            self._find(one, next(meant), number, found)
        for event, resolution in old.items():
            _forget(found, number, event, resolution.n_late(next(meant)))
        for event in {*found.events} - {*found.waiting, *found.chosen}:
            _add(found, "HDEL", keys.held(number), event)  # where it cannot be read
            _add(found, "ZREM", keys.due(number), event)
        for event, resolution in found.chosen.items():
            self._asked.pop(event, None)
            if resolution.sent_ms and event not in old:
                if event in found.waiting:  # it was told again
                    _add(found, "HDEL", keys.held(number), event)
                found.again[event] = resolution.forgotten_at_ms
            elif not resolution.sent_ms and event in found.waiting:
                found.sending.append((found.waiting[event], resolution))  # a crash came between
            elif not resolution.sent_ms:
                _forget(found, number, event, 0)  # an earlier version dealt with it
        self._take_effect(client, found)

    def _may_be_found(self, waiting: WaitingFeedback, found: Round) -> bool:
        """Return whether it is settled what had been decided when it was received."""
        if self._is_settled(waiting.event, "receipt", waiting.received_ms, found.now_ms):
            return True
        found.again[waiting.event] = found.now_ms + AGAIN_MS
        return False

    def _is_settled(self, event: bytes, what: str, at_ms: int, now_ms: int) -> bool:
        """Return whether everything up to a time is known, or was waited for long enough."""
        key = event, what
        if self.settling.is_settled(at_ms) and now_ms >= at_ms + GRACE_MS:
            self._since.pop(key, None)
            return True
        now = self.clock()
        return now - self._since.setdefault(key, now) >= MOST_S

    def _find(
        self, waiting: WaitingFeedback, tokens: list[bytes], number: int, found: Round
    ) -> None:
        """Note what becomes of feedback now that it is settled what had been decided."""
        event, now_ms = waiting.event, found.now_ms
        if waiting.match is Match.EPISODE and not self._has_looked_back(event, number, found):
            return
        meant = waiting.before(tokens)
        if meant is None and not waiting.is_beyond(tokens):
            ends_ms = waiting.received_ms + AHEAD_MS
            is_over = now_ms > ends_ms and self._is_settled(event, "end", ends_ms, now_ms)
            if not is_over and not _was_sought(event, number, found):
                return
            meant, decided_ms = waiting.after(tokens)
            if meant and not self._is_settled(event, "first", decided_ms, now_ms):
                found.again[event] = now_ms + AGAIN_MS
                return
            if not meant and not is_over:
                age_ms = now_ms - waiting.received_ms
                found.again[event] = now_ms + min(max(age_ms // 2, AGAIN_MS), MOST_AGAIN_MS)
                return
        for what in ("receipt", "first", "end"):
            self._since.pop((event, what), None)
        if not meant:
            _give_up(found, number, waiting, waiting.why_not(tokens))
        elif found.n_tokens < MAX_SENT:
            resolution = waiting.resolution(meant, tokens)
            found.n_tokens += len(meant)
            found.sending.append((waiting, resolution))
            _add(found, "HSET", keys.chosen(number), event, resolution.pack())

    def _has_looked_back(self, event: bytes, number: int, found: Round) -> bool:
        """Return whether the archive was asked for the old decisions of an episode.

        One goes on for days: what is young of it is not all. Who asks the archive for it then says
        what is meant of both; where nobody does, what is young is, after a while.
        """
        if _was_sought(event, number, found):
            self._asked.pop(event, None)
            return True
        now = self.clock()
        if now - self._asked.setdefault(event, now) < MOST_S:
            return False
        del self._asked[event], found.again[event]
        return True

    def _take_effect(self, client: Client, found: Round) -> None:
        """Write down what was found, send it, and note that it was sent."""
        shard, token, number = found.shard, found.token, found.shard.number
        if found.again:
            client.zadd(keys.due(number), found.again, xx=True)
        if found.n_changes:
            shard.amend(found.commit, token=token)
        if not found.sending:
            return
        pipeline = client.pipeline(transaction=False)  # streams may lie on other servers
        for waiting, resolution in found.sending:
            for meant in resolution.tokens:
                _send(pipeline, meant, _addressed(waiting.record, meant))
            for other in resolution.others:
                _send(pipeline, other, _taken_back(waiting.record, other))
        pipeline.execute()
        commit = Commit(keys.meta(number))
        for waiting, resolution in found.sending:
            sent = resolution.sent(found.now_ms)
            commit.add("HDEL", keys.held(number), waiting.event)
            if waiting.event in found.sought:
                commit.add("HDEL", keys.sought(number), waiting.event)
            commit.add("HSET", keys.chosen(number), waiting.event, sent.pack())
            commit.add("ZADD", keys.due(number), sent.forgotten_at_ms, waiting.event)
        commit.add("HINCRBY", keys.meta(number), "n_resolved", len(found.sending))
        shard.amend(commit, token=token)


def _read(client: Client, rounds: list[Round]) -> None:
    """Read what waits and what was chosen of what is due."""
    pipeline = client.pipeline(transaction=False)
    for found in rounds:
        for key in (keys.held, keys.chosen, keys.sought):
            pipeline.hmget(key(found.shard.number), found.events)
    replies = iter(pipeline.execute())
    for found, raws, resolutions, sought in zip(rounds, *[replies] * 3, strict=True):
        events = found.events
        both = zip(events, sought, strict=True)
        found.sought = {event: said for event, said in both if said is not None}
        for event, raw in zip(events, raws, strict=True):
            record = None if raw is None else record_of(raw)
            if record is not None:
                found.waiting[event] = WaitingFeedback(event, record, raw)
        found.chosen = {
            e: Resolution.parse(c) for e, c in zip(events, resolutions, strict=True) if c
        }


def take_up(client: Client, shard: int) -> None:
    """See to it that all that waits in a shard is looked at: also what an earlier version left."""
    waiting, due = client.hkeys(keys.held(shard)), client.zrange(keys.due(shard), 0, -1)
    missing = sorted({*waiting} - {*due})
    for start in range(0, len(missing), MAX_ROUND):
        part = dict.fromkeys(missing[start : start + MAX_ROUND], 0)
        client.zadd(keys.due(shard), part, nx=True)


def sought_in_archive(client: Client, shard: int, *, now_ms: int, n: int) -> list[WaitingFeedback]:
    """Return feedback by reference that means nothing young, up to about `n`, to look up elsewhere.

    It was looked for once it was settled what had been decided when it came, and nothing was found:
    what it means is an old decision, or one that is yet to come. It is due again after a while, as
    what it means may have come in late, and turned old unseen.

    Args:
        now_ms: on the store's clock.
    """
    name = keys.sought(shard)
    asked = client.hgetall(name)
    due = [e for e, at in asked.items() if not at or now_ms - int(at) >= SOUGHT_AGAIN_MS]
    due.sort(key=lambda event: (asked[event] != b"", event))  # what nobody looked up comes first
    if not (picked := due[:n]):
        return []
    pipeline = client.pipeline(transaction=False)
    pipeline.hmget(keys.held(shard), picked)
    pipeline.hmget(keys.chosen(shard), picked)
    raws, chosen = pipeline.execute()
    out, gone = [], []
    for event, raw, own in zip(picked, raws, chosen, strict=True):
        record = None if own or raw is None else record_of(raw)
        if record is None:
            gone.append(event)
        else:
            out.append(WaitingFeedback(event, record, raw))
    if gone:
        client.hdel(name, *gone)
    return out


def _was_sought(event: bytes, number: int, found: Round) -> bool:
    """Return whether the archive has nothing of a name either; see to it that it is asked.

    Only then is feedback one that came before its decision: what is decided next under a name is
    not what was judged days ago.
    """
    said = found.sought.get(event)
    if said or not found.has_archive:
        return True
    if said is None:
        _add(found, "HSET", keys.sought(number), event, b"")
    found.again[event] = found.now_ms + SOUGHT_MS
    return False


def _add(found: Round, name: str, key: str, *arguments: bytes | str | int) -> None:
    found.commit.add(name, key, *arguments)
    found.n_changes += 1


def _give_up(found: Round, number: int, waiting: WaitingFeedback, reason: str) -> None:
    """Make a dead letter of what cannot be resolved."""
    letter = ("MAXLEN", "~", MAX_DEAD, "*", "reason", reason, "raw", waiting.raw)
    _add(found, "XADD", keys.dead(number), *letter)
    _add(found, "HINCRBY", keys.meta(number), f"n_{reason}", 1)
    _add(found, "HDEL", keys.held(number), waiting.event)
    _add(found, "HDEL", keys.sought(number), waiting.event)
    _add(found, "ZREM", keys.due(number), waiting.event)


def _forget(found: Round, number: int, event: bytes, n_late: int) -> None:
    """Count the decisions that came in too late, and let go of what was resolved."""
    if n_late:
        _add(found, "HINCRBY", keys.meta(number), "n_late", n_late)
    _add(found, "HDEL", keys.chosen(number), event)
    _add(found, "HDEL", keys.held(number), event)
    _add(found, "ZREM", keys.due(number), event)


def _send(pipeline: Any, token: bytes, record: bytes) -> None:
    own = shard_of(token)
    frame = frames.Frame(frames.UNNUMBERED, own, 0, record)
    pipeline.xadd(keys.stream(own), {"f": frames.pack(frame)})


def _taken_back(record: np.void, token: bytes) -> bytes:
    """Return what has a decision lose the word of an episode that another one of it has."""
    return feedback(
        token,
        kind=FeedbackKind(int(record["feedback_kind"])),
        value=None,
        revision=int(record["revision"]),
        event=record["event"].tobytes(),
        match=Match.ONE,
        received_at_ms=int(record["received_at_ms"]),
    )


def _addressed(record: np.void, token: bytes) -> bytes:
    value = int(record["value_micro"])
    return feedback(
        token,
        kind=FeedbackKind(int(record["feedback_kind"])),
        value=None if value < 0 else value / MICRO,
        revision=int(record["revision"]),
        event=record["event"].tobytes(),
        match=Match(int(record["match"])),
        received_at_ms=int(record["received_at_ms"]),
    )
