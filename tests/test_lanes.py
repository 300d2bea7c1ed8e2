"""Shards beside each other: each as if it were alone, and a lane that fails says so."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import redis
from conftest import SHARDS
from pipeline import outcome, said

from telemetry import frames, keys
from telemetry.frames import Frame
from telemetry.store import Address
from workers.folding import lanes
from workers.folding.lanes import Folded, fold_abreast, fold_round
from workers.folding.learner import Learner
from workers.folding.lease import Lease
from workers.folding.shard import Shard

N_ENTRIES = lanes.READ_ENTRIES + 3
Held = dict[int, tuple[Shard, Lease]]


def send(client: Any, shard: int) -> None:
    """Send more than one round takes: a call and a word on it, an entry."""
    for i in range(N_ENTRIES):
        nonce = SHARDS * i + shard
        body = outcome(nonce) + said(nonce, nonce, 0.5)
        frame = Frame(b"p" * 16, shard, 2 * i, body)
        client.xadd(keys.stream(shard), {"f": frames.pack(frame)})


def held(client: Any) -> Held:
    out = {}
    for number in range(SHARDS):
        send(client, number)
        shard, lease = Shard(client, number), Lease(client, number)
        assert lease.take()
        shard.load()
        out[number] = shard, lease
    return out


def n_folded(client: Any, shard: int) -> tuple[int, int]:
    found = client.hmget(keys.meta(shard), "n_outcomes", "n_feedback")
    return int(found[0] or 0), int(found[1] or 0)


def test_shards_beside_each_other_fold_all_that_waits(client: Any) -> None:
    found = fold_abreast(client, held(client))

    assert found == Folded(SHARDS * 2 * N_ENTRIES)
    assert [n_folded(client, n) for n in range(SHARDS)] == [(N_ENTRIES, N_ENTRIES)] * SHARDS
    last = [client.xrevrange(keys.stream(n), count=1)[0][0] for n in range(SHARDS)]
    assert [client.hget(keys.meta(n), "mark") for n in range(SHARDS)] == last


def test_a_lane_goes_on_no_longer_than_leases_may_wait(client: Any) -> None:
    ticks = itertools.count(0.0, 10.0)

    found = fold_abreast(client, held(client), clock=lambda: next(ticks))

    assert found == Folded(SHARDS * 2 * lanes.READ_ENTRIES, is_full=True)


def test_a_shard_that_is_anothers_stops_and_the_others_go_on(client: Any) -> None:
    mine = held(client)
    client.hincrby(keys.meta(0), "token", 1)  # another one took it

    found = fold_abreast(client, mine)

    assert found.lost == [0]
    assert n_folded(client, 0) == (0, 0)
    assert n_folded(client, 1) == (N_ENTRIES, N_ENTRIES)


class Failing:
    """A client to which the streams of one shard are out of reach."""

    def __init__(self, client: Any, shard: int) -> None:
        self._client, self._name = client, keys.stream(shard).encode()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def xread(self, streams: Any, **more: Any) -> Any:
        if self._name in streams:
            raise redis.ConnectionError("away")
        return self._client.xread(streams, **more)


@pytest.mark.parametrize("shard", range(SHARDS))
def test_what_a_lane_fails_of_is_raised_once_the_other_has_ended(client: Any, shard: int) -> None:
    mine = held(client)

    with pytest.raises(redis.ConnectionError):
        fold_abreast(Failing(client, shard), mine)

    assert n_folded(client, 1 - shard) == (N_ENTRIES, N_ENTRIES)


def test_one_round_takes_so_many_entries_and_says_that_more_wait(client: Any) -> None:
    mine = held(client)

    first = fold_round(client, mine, block_ms=0)
    second = fold_round(client, mine, block_ms=0)
    third = fold_round(client, mine, block_ms=0)

    assert first == Folded(SHARDS * 2 * lanes.READ_ENTRIES, is_full=True)
    assert second == Folded(SHARDS * 2 * (N_ENTRIES - lanes.READ_ENTRIES))
    assert third == Folded()


@pytest.mark.usefixtures("store")  # of two lanes with a connection each
def test_a_learner_whose_rounds_are_full_folds_each_record_once(
    client: Any, address: Address, tmp_path: Path
) -> None:
    for shard in range(SHARDS):
        send(client, shard)
    learner = Learner(address, SHARDS, tmp_path)
    learner.stop.set()  # so that a step waits for nothing

    for _ in range(3):
        learner.step(client)

    assert [n_folded(client, n) for n in range(SHARDS)] == [(N_ENTRIES, N_ENTRIES)] * SHARDS
