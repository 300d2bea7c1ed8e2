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
from telemetry.budget_accounts import BudgetPeriod
from telemetry.budget_spends import BudgetSpend, spend_record
from telemetry.events import FeedbackKind, Flag, Match, Result
from telemetry.forgetting import forget_record
from telemetry.frames import Frame
from telemetry.repeats import Repeat, repeated
from telemetry.store import prepare
from telemetry.tokens import Token
from workers.folding.batch import Entries, position
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


def rarer_record(dice: random.Random, shard: int) -> bytes:
    """Return what few records are: of budgets, of old decisions, by reference, or of who goes."""
    of = random.Random(nonce := dice.randint(1, 30))
    mine = token(of, shard, (nonce << 8 | shard) << 48, rated=False)
    what, name = dice.randint(0, 4), bytes([dice.randint(1, 4)]) * 16
    said: dict[str, Any] = {
        "kind": dice.choice(list(FeedbackKind)),
        "value": dice.choice([None, 0.0, 1.0]),
        "revision": dice.randint(0, 3),
        "event": dice.randbytes(16),
        "received_at_ms": NOW_MS - DAY_MS,
    }
    if what == 0:
        periods = [BudgetPeriod(n, NOW_MS // 1000, 3600) for n in dice.sample(range(4), 2)]
        spends = [BudgetSpend(one, dice.randint(-5, 100), dice.random() < 0.5) for one in periods]
        return spend_record(mine, b"h" * 16, spends)
    if what == 1:
        return events.feedback(mine, **said, flags=int(Flag.THAWED))
    if what == 2:
        match = dice.choice(list(Match))
        return events.feedback(None, **said, reference=name, app=6, shard=shard, match=match)
    if what == 3 and dice.random() < 0.3:
        user = dice.randint(1, 3)
        return forget_record(
            app=6,
            user=user.to_bytes(8, "little"),
            n_shards=SHARDS,
            at_ms=NOW_MS,
            event=dice.randbytes(16),
            beside=(shard - user) % SHARDS,
        )
    named = int(Flag.FINAL | Flag.PROMISED | Flag.NAMES_EPISODE)
    return events.outcome(
        mine,
        result=Result.OK,
        attempt=1,
        status=200,
        flags=named,
        reference=name,
        episode=dice.randint(1, 3),
        spend_tag=dice.randint(0, 3),
        said=dice.choice([None, (FeedbackKind.HUMAN, 0.5)]),
    )


def rarer_entries(seed: int) -> list[dict[int, Entries]]:
    """Return rounds of numbered frames of two producers, with gaps and some that came before."""
    dice = random.Random(seed)
    following: dict[tuple[int, bytes], int] = {}
    rounds = []
    for number in range(8):
        found: dict[int, Entries] = {}
        for shard in range(SHARDS):
            for i in range(dice.randint(0, 3)):
                makes = [dice.choice([record, rarer_record]) for _ in range(dice.randint(1, 9))]
                body = b"".join(
                    record(dice, shard, rated=False)
                    if make is record
                    else rarer_record(dice, shard)
                    for make in makes
                )
                producer = dice.choice([b"p" * 16, b"q" * 16])
                first = following.get((shard, producer), 0) + dice.choice([0, 0, 0, 3])
                following[shard, producer] = first + len(makes)
                raw = frames.pack(Frame(producer, shard, first, body))
                raw = dice.choice([raw] * 9 + [b"no frame"])
                again = dice.choice([1, 1, 1, 2])
                ids = [b"%d-%d" % (NOW_MS + number, 2 * i + n) for n in range(again)]
                found.setdefault(shard, []).extend((entry, {b"f": raw}) for entry in ids)
        rounds.append(found)
    return rounds


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


def shards_of(client: Any, **settings: Any) -> dict[int, tuple[Shard, Lease]]:
    prepare(client, shards=SHARDS)
    client.set(keys.SECRET, bytes(range(32)))
    out = {}
    for number in range(SHARDS):
        shard, lease = Shard(client, number, **settings), Lease(client, number)
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


def behind(shard: Shard, part: Entries) -> Entries:
    """Return what is left of entries: one that has somebody forgotten ends a round."""
    return [entry for entry in part if position(entry[0]) > position(shard.mark)]


@pytest.mark.parametrize("seed", range(6))
def test_budgets_old_decisions_references_and_who_is_forgotten_are_folded_as_each_alone(
    seed: int,
) -> None:
    stores = [fakeredis.FakeRedis(), fakeredis.FakeRedis()]
    # So that what was said of yesterday's calls is cold, and names soon have no row of their own.
    settings: dict[str, Any] = {"young_hours": 6, "most_names": 2}
    together, alone = (shards_of(store, **settings) for store in stores)

    for found in rarer_entries(seed):
        left = found
        while left:
            work = [(together[n][0], part, together[n][1].token) for n, part in left.items()]
            counts = fold_together(stores[0], work)
            each = [alone[n][0].fold(part, token=alone[n][1].token) for n, part in left.items()]
            assert counts == each
            rest = {n: behind(together[n][0], part) for n, part in left.items()}
            left = {n: part for n, part in rest.items() if part}

    assert content(stores[0]) == content(stores[1])
    counted = [shard.counters for shard, _ in together.values()]
    assert counted == [shard.counters for shard, _ in alone.values()]
    for what in ("cold", "held", "forgotten", "repeated", "missing"):
        assert sum(counters[what] for counters in counted), what
    assert stores[0].keys("*budget*")


def test_a_shard_that_is_anothers_by_now_keeps_the_others_of_its_round_from_nothing() -> None:
    stores = [fakeredis.FakeRedis(), fakeredis.FakeRedis()]
    together, alone = map(shards_of, stores)
    rounds = [found for found in rarer_entries(3) if len(found) == SHARDS]
    stores[0].delete(keys.lease(1))
    taken, lease = Shard(stores[0], 1), Lease(stores[0], 1)
    assert lease.take()  # who held it was frozen meanwhile
    taken.load()

    first = rounds[0]
    work = [(together[n][0], part, together[n][1].token) for n, part in first.items()]
    counts = fold_together(stores[0], work)
    each = {n: alone[n][0].fold(part, token=alone[n][1].token) for n, part in first.items()}
    assert counts == [each[n] if n == 0 else None for n in first]
    assert together[1][0].version == 0
    assert taken.fold(first[1], token=lease.token) == each[1]

    leaves, expected = map(content, stores)
    for number in range(SHARDS):  # the second holder's token is another one
        for left in (leaves, expected):
            for field in (b"fence", b"token"):
                left[keys.meta(number).encode()].pop(field)
    assert leaves == expected
    assert taken.rows == alone[1][0].rows


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
