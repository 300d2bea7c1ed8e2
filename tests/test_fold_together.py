"""Shards of a round are folded in one pass, each as if it were alone."""

from __future__ import annotations

import random
import time
from typing import Any

import fakeredis
import numpy as np
import pytest
from conftest import SHARDS

from bandit import cells, owned
from bandit.families import N_COLUMNS, Family
from bandit.grouping import Grouping
from telemetry import events, frames, keys
from telemetry.events import FeedbackKind, Flag, Result
from telemetry.frames import Frame
from telemetry.repeats import Repeat, repeated
from telemetry.store import prepare
from telemetry.tokens import Token
from workers.folding.batch import Entries
from workers.folding.lease import Lease
from workers.folding.shard import Shard
from workers.folding.together import fold_together

NOW_MS = int(time.time() * 1000)
DAY_MS = 86_400_000


def token(dice: random.Random, shard: int, nonce: int, *, rated: bool) -> bytes:
    """Return one of a few cells, apps and users; some are of a month ago, some of tomorrow."""
    return Token(
        1,
        shard,
        int(Flag.ROUTED) | (int(Flag.RATED) if rated else 0),
        nonce.to_bytes(16, "big"),
        NOW_MS + dice.choice([0, 0, 0, -DAY_MS, -31 * DAY_MS, 3 * DAY_MS, -3_600_000]),
        dice.randint(1, 2),
        3,
        dice.randint(3, 4),
        5,
        dice.randint(6, 7),
        dice.randint(1, 2),
        9,
        0.5,
        0.5,
        0.1,
        dice.choice([0.0, 0.4]),
        dice.randint(0, 3),
    ).pack()


def record(dice: random.Random, shard: int, *, rated: bool) -> bytes:
    """Return a call, a word on one, or one that was asked again."""
    of = random.Random(nonce := dice.randint(1, 30))
    mine = token(of, shard, (nonce << 8 | shard) << 48, rated=rated)
    what = dice.random()
    if what < 0.5:
        return events.outcome(
            mine,
            result=dice.choice([Result.OK, Result.SERVER, Result.TIMEOUT]),
            attempt=dice.randint(1, 2),
            status=200,
            flags=int(Flag.FINAL | Flag.USAGE_KNOWN | Flag.PRICED)
            | dice.choice([0, 0, int(Flag.INGESTED)]),
            tokens_in=dice.randint(0, 9),
            tokens_out=dice.randint(0, 9),
            latency_s=dice.random(),
            cost_nano=dice.choice([5, 1 << 40]),
            response=dice.randbytes(16),
        )
    if what < 0.95:
        return events.feedback(
            mine,
            kind=dice.choice(list(FeedbackKind)),
            value=dice.choice([None, 0.0, 0.5, 1.0]),
            revision=dice.randint(0, 3),
            event=dice.randbytes(16),
        )
    return repeated(Repeat(mine, 3, 4, 7, 0.5), taken_back=dice.random() < 0.5)


def entries(seed: int, *, rated: bool) -> list[dict[int, Entries]]:
    """Return rounds: of each shard the next entries, of some none; one holds a damaged record."""
    dice = random.Random(seed)
    rounds = []
    for number in range(6):
        found: dict[int, Entries] = {}
        for shard in range(SHARDS):
            if n := dice.choice([0, 1, 2]):
                bodies = [
                    b"".join(record(dice, shard, rated=rated) for _ in range(dice.randint(1, 9)))
                    for _ in range(n)
                ]
                if number == 4:
                    bodies[0] = bodies[0][:40] + b"\xff" + bodies[0][41:]
                found[shard] = [
                    (b"%d-%d" % (NOW_MS + number, i), {b"f": frames.pack(frame)})
                    for i, body in enumerate(bodies)
                    for frame in [Frame(frames.UNNUMBERED, shard, 0, body)]
                ]
        rounds.append(found)
    return rounds


def shards_of(client: Any) -> dict[int, tuple[Shard, Lease]]:
    prepare(client, shards=SHARDS)
    client.set(keys.SECRET, bytes(range(32)))
    out = {}
    for number in range(SHARDS):
        shard, lease = Shard(client, number), Lease(client, number)
        assert lease.take()
        shard.load()
        out[number] = shard, lease
    return out


def content(client: Any) -> dict[bytes, Any]:
    """Return all that lies in a store, but for names that are drawn by chance."""
    out: dict[bytes, Any] = {}
    for name in client.scan_iter(count=1000):
        kind = client.type(name)
        if kind == b"hash":
            found = client.hgetall(name)
            for by_chance in (b"owner", b"incarnation", b"id"):
                found.pop(by_chance, None)
            out[name] = found
        elif kind == b"zset":
            out[name] = dict(client.zrange(name, 0, -1, withscores=True))
        elif kind == b"set":
            out[name] = client.smembers(name)
        elif kind == b"stream":
            out[name] = [fields for _, fields in client.xrange(name)]
    return out


@pytest.mark.parametrize("rated", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_a_round_of_several_shards_leaves_what_each_alone_would(seed: int, rated: bool) -> None:
    stores = [fakeredis.FakeRedis(), fakeredis.FakeRedis()]
    together, alone = map(shards_of, stores)

    for found in entries(seed, rated=rated):
        work = [(together[n][0], part, together[n][1].token) for n, part in found.items()]
        counts = fold_together(stores[0], work) if work else []
        each = [alone[n][0].fold(part, token=alone[n][1].token) for n, part in found.items()]
        assert counts == each

    assert content(stores[0]) == content(stores[1])
    for number in range(SHARDS):
        assert together[number][0].counters == alone[number][0].counters
        assert together[number][0].rows == alone[number][0].rows


def stored_in(state: dict[bytes, list[int]]) -> owned.Stored:
    nothing = [0] * N_COLUMNS
    return lambda names: np.array([state.get(name.tobytes(), nothing) for name in names])


def take_over(state: dict[bytes, list[int]], after: cells.Terms) -> None:
    each = zip(after.keys, after.values.tolist(), strict=True)
    state.update((name.tobytes(), row) for name, row in each)


def test_rows_that_one_owner_has_to_carry_are_carried_and_those_of_others_are_not() -> None:
    n = 40
    of = np.arange(n, dtype=np.uint64) % np.uint64(2)
    one = np.ones(n, dtype=np.uint64)
    huge = np.where(of == 0, float(1 << 47), 1.0)
    grouping = Grouping.of(one, one, np.full(n, NOW_MS), owner=of)
    parts = owned.split(cells.merge([grouping.terms(Family.USAGE, {8: huge})]), 2)
    known: list[dict[bytes, Any]] = [{}, {}]
    expected: list[dict[bytes, Any]] = [{}, {}]
    singles = []
    for number in range(2):
        mine = of == number
        single = Grouping.of(one[mine], one[mine], np.full(mine.sum(), NOW_MS))
        singles.append(cells.merge([single.terms(Family.USAGE, {8: huge[mine]})]))

    for _ in range(40):
        for state, after in zip(
            known, owned.add_each(parts, list(map(stored_in, known))), strict=True
        ):
            take_over(state, after)
        for state, terms in zip(expected, singles, strict=True):
            take_over(state, cells.add(terms, stored_in(state)))

    assert known == expected
    assert len(known[0]) == 2
    assert len(known[1]) == 1
