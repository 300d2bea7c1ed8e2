"""Versions of prompts: what a new one does to what was learned, and what it leaves alone."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import A_TICK, LEARN, Provider, endpoint, learning, serving
from hypothesis import given
from hypothesis import strategies as st
from test_alarms import BEGAN_MS, judged, reader_of
from test_alarms import SMALL as ALONE
from test_alarms import World as Watched
from test_alarms import world as watched
from test_books import records
from test_workers_archive import Life, life

from bandit import cells, epochs
from bandit.cells import EPOCH_BITS
from bandit.evidence import MOST_PRIOR_N
from bandit.families import Family, Q, T
from bandit.grouping import Grouping
from router.beliefs.beliefs import Beliefs, believe
from router.beliefs.names import Names
from router.beliefs.prompts import PromptVersions, prompt_digest, prompt_rows, share_of_calls
from router.beliefs.versions import MOST_A_DAY, TaskVersions, named
from router.config.compiled import Configuration, compile_text
from router.dialects import chat, messages, responses
from router.dispatch.prompts import SystemPrompts, stable_digest
from router.report.prompts import prompt_lines
from telemetry import decoding, events, frames, keys
from telemetry.digests import digest8
from telemetry.events import Flag, Result
from telemetry.frames import Frame
from telemetry.reader import Reader
from telemetry.store import Address
from telemetry.tokens import COUNTED_SINCE, Token
from workers.archive.restore import restore
from workers.folding.hearing import LabelStandings
from workers.folding.lease import Lease
from workers.folding.shard import Shard
from workers.folding.terms import label_terms

__all__ = ["life", "watched"]
NOW_MS = BEGAN_MS
DAY_MS = 86_400_000
PRODUCER = b"v" * 16
TASKS = ("code", "chat")


def configuration(**learn: str) -> Configuration:
    how = {"big": "share", "small": "share", **learn}
    value = {
        "store": {"shards": 1},
        "endpoints": [
            {"id": name, "model": name, "base_url": f"http://127.0.0.1:1/{name}"} for name in "ab"
        ],
        "tasks": dict.fromkeys(TASKS),
        "apps": {
            name: {"mode": "route", "strategy": "quality", "learn": one, "keys": [{"env": f"K{i}"}]}
            for i, (name, one) in enumerate(how.items())
        },
    }
    return compile_text(json.dumps(value), file="test.yaml", secrets=False)


# -- what a version that is named changes --------------------------------------------------------


def heard(found: TaskVersions, *said: tuple[str, str, float, float]) -> TaskVersions:
    """What is known after apps named versions: app, version, share of the calls, at which day."""
    for app, prompt, share, day in said:
        found = named(found, app, prompt, lambda s=share: s, now_ms=NOW_MS + int(day * DAY_MS))
    return found


NEW = TaskVersions("code")


def test_the_first_version_of_an_app_says_what_is_there_and_changes_nothing() -> None:
    assert heard(NEW, ("big", "v1", 1.0, 0)).epoch == 0
    assert heard(NEW, ("big", "v1", 0.6, 0), ("small", "w1", 0.6, 0)).epoch == 0


def test_a_second_version_opens_an_epoch_from_half_of_the_calls_on() -> None:
    first = heard(NEW, ("big", "v1", 1.0, 0))

    opened = heard(first, ("big", "v2", 0.5, 0.1))

    assert (opened.epoch, opened.app, opened.prompt, opened.before) == (1, "big", "v2", "v1")
    refused = heard(first, ("big", "v2", 0.49, 0))
    assert refused.epoch == 0
    assert heard(refused, ("big", "v2", 1.0, 5), ("big", "v1", 1.0, 6)) == refused  # never again


def test_of_two_within_a_day_the_second_waits_while_it_is_the_newest() -> None:
    once = heard(NEW, ("big", "v1", 1, 0), ("big", "v2", 1, 0), ("big", "v3", 1, 0.9))
    assert (once.epoch, once.prompt) == (1, "v2")
    assert heard(once, ("big", "v3", 1, 0.99)) == once

    after = heard(once, ("big", "v3", 1, 1.0))
    assert (after.epoch, after.prompt, after.before) == (2, "v3", "v2")
    overtaken = heard(once, ("big", "v4", 1, 0.95), ("big", "v3", 1, 1.5))
    assert overtaken.epoch == 1  # v3 is not the newest any more
    assert heard(overtaken, ("big", "v4", 1, 1.6)).prompt == "v4"
    assert heard(once, ("big", "v3", 0.3, 1.1), ("big", "v3", 1, 2)).epoch == 1


def test_a_version_that_was_named_before_is_none_and_goes_back_without_an_epoch() -> None:
    there = heard(NEW, ("big", "v1", 1, 0), ("big", "v2", 1, 0))
    assert heard(there, ("big", "v1", 1, 2), ("big", "v2", 1, 3)) == there


def test_who_names_each_call_differently_fills_nothing() -> None:
    said = [("big", f"v{n}", 1.0, 0.0) for n in range(300)]
    found = heard(NEW, *said)
    assert (found.epoch, len(found.known["big"])) == (1, MOST_A_DAY)
    for day in range(1, 20):
        found = heard(found, *[("big", f"w{n}", 1.0, day * 1.01) for n in range(day * 50, 900)])
    assert len(found.known["big"]) <= 200


# -- a store, two apps, two endpoints ------------------------------------------------------------


@dataclass(slots=True)
class World:
    """Calls and labels that are folded into a store, and routers that hear of versions."""

    client: Any
    shard: Shard
    lease: Lease
    reader: Reader
    configuration: Configuration = field(default_factory=configuration)
    prompts: PromptVersions = field(default_factory=PromptVersions)
    names: Names = field(default_factory=Names)
    now_ms: int = NOW_MS
    nonces: Any = field(default_factory=count)
    sent: int = 0

    def body(self, app: str, task: str, name: str, epoch: int = 0, version: int = 0) -> bytes:
        found = self.configuration.apps[app]
        of = self.configuration.catalog.by_id[name].digest
        packed = Token(
            1,
            0,
            0,
            next(self.nonces).to_bytes(16, "big"),
            self.now_ms,
            found.categories[task],
            of,
            of,
            4,
            found.digest,
            6,
            7,
            0.5,
            0.5,
            0.1,
            0.4,
            epochs.composed(0, epoch),
        ).pack()
        return packed if not version else packed[:1] + bytes([version]) + packed[2:]

    def call(self, app: str, n: int, task: str = "code", *, version: int = 0) -> None:
        ended = {"result": Result.OK, "attempt": 1, "status": 200, "flags": int(Flag.FINAL)}
        bodies = [self.body(app, task, "ab"[i % 2], version=version) for i in range(n)]
        self.send(*(events.outcome(body, **ended) for body in bodies))

    def label(
        self,
        n: int,
        mean: float,
        name: str = "a",
        *,
        app: str = "big",
        task: str = "code",
        epoch: int = 0,
    ) -> None:
        bodies = [self.body(app, task, name, epoch) for _ in range(n)]
        values = [float(i < round(n * mean)) for i in range(n)]
        said = zip(bodies, values, strict=True)
        self.send(*(judged(body, value, at_ms=self.now_ms) for body, value in said))

    def send(self, *records: bytes) -> None:
        for first in range(0, len(records), 256):
            part = records[first : first + 256]
            frame = frames.pack(Frame(PRODUCER, 0, self.sent, b"".join(part)))
            self.sent += len(part)
            entry = self.client.xadd(keys.stream(0), {"f": frame})
            self.shard.fold([(entry, {b"f": frame})], token=self.lease.token)

    def rows(self) -> cells.Terms:
        self.reader.poll()
        return cells.from_bytes(*self.reader.rows())

    def beliefs(self, prompts: PromptVersions | None = None) -> Beliefs:
        opened = (prompts or self.prompts).opened
        return believe(
            self.configuration, self.rows(), version=1, opened=opened, now_ms=self.now_ms
        )

    def name(
        self, app: str, prompt: str, task: str = "code", of: PromptVersions | None = None
    ) -> bool:
        """Have a call name a version, and the router's thread look."""
        prompts = of or self.prompts
        prompts.take(self.client.hgetall(keys.PROMPTS))
        prompts.note(task, app, prompt)
        return self.settle(prompts)

    def settle(self, prompts: PromptVersions) -> bool:
        beliefs = self.beliefs(prompts)
        return prompts.settle(self.client, beliefs, self.rows, self.names, self.now_ms)

    def told(self) -> list[dict[str, Any]]:
        return [json.loads(entry[b"alarm"]) for _, entry in self.client.xrange(keys.ALARMS)]


@pytest.fixture
def world(client: Any) -> World:
    client.hset(keys.META, "incarnation", "x")
    shard, lease = Shard(client, 0), Lease(client, 0)
    assert lease.take()
    shard.load()
    return World(client, shard, lease, reader_of(client))


def cell(beliefs: Beliefs, name: str = "a", task: str = "code", outlook: int = 0) -> Any:
    """Labels, observations, mean and sd of a cell."""
    row = beliefs.configuration.task_index[task]
    arm = beliefs.configuration.catalog.by_id[name].index
    given, found = beliefs.outlooks[outlook].given[row, arm], beliefs.outlooks[outlook].posterior
    group = int(found.arms.group[arm])
    quality = found.quality
    return given[Q.LABELS], given[Q.N], quality.mean[row, group], quality.sd[row, group]


def test_a_new_version_widens_its_task_and_keeps_labels_apart_by_epoch(world: World) -> None:
    world.call("big", 60)
    world.call("small", 40)
    world.label(400, 0.8)
    world.label(400, 0.8, task="chat")
    assert not world.name("big", "v1")
    before, chat_before = cell(world.beliefs()), cell(world.beliefs(), task="chat")

    assert world.name("big", "v2")

    labels, n, mean, sd = cell(world.beliefs())
    assert (before[0], before[1]) == pytest.approx((400, 400), rel=A_TICK)
    assert n == pytest.approx(MOST_PRIOR_N)
    assert labels == pytest.approx(MOST_PRIOR_N, rel=A_TICK)
    assert max(labels, n) <= MOST_PRIOR_N + 1e-9
    assert mean == pytest.approx(before[2], abs=0.05)
    assert sd > 2 * before[3]
    assert cell(world.beliefs(), task="chat")[1] == pytest.approx(chat_before[1])
    world.label(30, 0.2, epoch=1)
    world.label(10, 1.0)  # late ones, of decisions from before
    assert cell(world.beliefs())[1] == pytest.approx(MOST_PRIOR_N + 30, rel=A_TICK)
    rows = cells.of_family(world.rows(), Family.QUALITY)
    code = rows.keys["category"] == digest8("task", "code")
    found = dict(
        zip(epochs.epochs_of(rows.keys[code]).tolist(), rows.values[code].tolist(), strict=True)
    )
    assert {epoch: row[Q.LABELS] for epoch, row in found.items()} == {0: 410, 1: 30}


def test_from_less_than_half_of_the_calls_nothing_changes(world: World) -> None:
    world.call("big", 60)
    world.call("small", 40)
    world.label(400, 0.8)
    before = world.beliefs()

    world.name("small", "v1")
    world.name("small", "v2")

    assert share_of_calls(before, "small", "code") == pytest.approx(0.4)
    assert world.prompts.opened == {}
    assert world.told() == []
    assert cell(world.beliefs())[1] == cell(before)[1]
    assert set(world.prompts.known["code"].known) == {"small"}  # recorded it is


def test_the_first_version_and_no_version_change_nothing(world: World) -> None:
    world.call("big", 100)
    world.label(400, 0.8)
    before = cell(world.beliefs())

    world.prompts.note("code", "big", None)
    assert not world.settle(world.prompts)
    assert world.client.hgetall(keys.PROMPTS) == {}
    world.name("big", "v1")

    assert cell(world.beliefs()) == before


def test_within_a_day_a_task_has_one_new_epoch_and_another_task_its_own(world: World) -> None:
    world.call("big", 100)
    world.call("big", 100, "chat")
    for task in TASKS:
        world.name("big", "v1", task)
    assert world.name("big", "v2")
    assert not world.name("big", "v3")
    assert world.name("big", "v2", "chat")
    assert world.prompts.opened == {"code": 1, "chat": 1}

    world.now_ms += DAY_MS
    assert world.name("big", "v3")

    assert world.prompts.opened == {"code": 2, "chat": 1}
    assert [(one["task"], one["prompt"]) for one in world.told()] == [
        ("code", "v2"),
        ("chat", "v2"),
        ("code", "v3"),
    ]


def test_of_two_routers_that_hear_of_a_version_one_opens_the_epoch(world: World) -> None:
    world.call("big", 100)
    world.name("big", "v1")
    other = PromptVersions()
    other.take(world.client.hgetall(keys.PROMPTS))
    for prompts in (world.prompts, other):
        prompts.note("code", "big", "v2")

    assert world.settle(world.prompts)
    assert not world.settle(other)  # someone was faster: it looks again
    assert other.take(world.client.hgetall(keys.PROMPTS))
    assert not world.settle(other)

    assert [one["kind"] for one in world.told()] == ["prompt"]
    assert world.prompts.opened == other.opened == {"code": 1}


def test_what_changed_is_told_once_with_its_evidence_and_shown(world: World) -> None:
    world.call("big", 10)
    world.label(400, 0.8)
    world.label(6, 0.5, "b")
    world.name("big", "v1")
    world.name("big", "v2")

    (told,) = world.told()

    assert told["kind"] == "prompt"
    assert (told["task"], told["app"], told["prompt"], told["before"]) == (
        "code",
        "big",
        "v2",
        "v1",
    )
    assert told["at_ms"] == world.now_ms
    assert told["observations"]["a"] == pytest.approx([400, 50], rel=A_TICK)
    assert told["observations"]["b"] == pytest.approx([6, 5.5], abs=6 * A_TICK + 0.05)
    (line,) = prompt_lines(prompt_rows(world.prompts.known))
    assert "v2 instead of v1, named by big" in line
    assert f"a 50 of {told['observations']['a'][0]:.0f}" in line
    world.names.tell(world.client)
    assert world.client.hget(keys.NAMES, f"{prompt_digest('v2'):016x}") == b"v2"


def test_an_app_that_goes_by_its_own_labels_follows_the_epoch_of_the_task(world: World) -> None:
    world.configuration = configuration(small="own")
    world.call("big", 60)
    world.call("small", 40)
    world.label(400, 0.8)
    world.label(300, 0.4, app="small")
    assert cell(world.beliefs(), outlook=1)[1] == pytest.approx(300, rel=A_TICK)
    assert share_of_calls(world.beliefs(), "big", "code") == pytest.approx(0.6)
    world.name("big", "v1")

    world.name("big", "v2")

    assert cell(world.beliefs(), outlook=1)[1] == pytest.approx(50, rel=A_TICK)
    world.label(20, 0.9, app="small", epoch=1)
    assert cell(world.beliefs(), outlook=1)[1] == pytest.approx(70, rel=A_TICK)


def test_labels_of_an_epoch_that_is_not_known_yet_mix_with_nothing(world: World) -> None:
    """Of a store that lost what it knew, or of a router that is ahead."""
    world.call("big", 10)
    world.label(400, 0.8)
    world.label(20, 0.3, epoch=3)

    beliefs = world.beliefs()

    assert cell(beliefs)[1] == pytest.approx(70, rel=A_TICK)
    assert beliefs.epochs == {"code": 3}
    assert beliefs.regime("code", 0) == 3 << EPOCH_BITS
    assert beliefs.regime("chat", 0) == 0
    world.name("big", "v1")
    world.name("big", "v2")
    assert world.prompts.opened == {"code": 4}


def test_rows_of_before_are_of_the_first_epoch_and_their_calls_were_not_counted(
    world: World,
) -> None:
    """Of a store and an archive of before: regimes below 2^16, tokens of an earlier version."""
    world.call("big", 30, version=COUNTED_SINCE - 1)
    world.label(200, 0.8)
    plain, regime = world.rows(), np.full(3, 2, dtype=np.uint32)
    grouping = Grouping.of(
        np.full(3, 5, dtype=np.uint64),
        np.full(3, 6, dtype=np.uint64),
        np.full(3, NOW_MS, dtype=np.int64),
        regime,
    )
    term = grouping.terms(Family.QUALITY, {Q.N: np.ones(3)})

    assert not epochs.epochs_of(plain.keys).any()
    assert not epochs.epochs_of(term.keys).any()
    assert term.keys["regime"].tolist() == [2]
    assert int(cells.of_family(plain, Family.TEACHING).values[:, T.CALLS].sum()) == 0
    assert int(cells.of_family(plain, Family.TEACHING).values[:, T.LABELS].sum()) == 200
    assert share_of_calls(world.beliefs(), "big", "code") == 0.0
    world.name("big", "v1")
    assert not world.name("big", "v2")  # half of nothing is nothing
    world.call("big", 1)
    assert share_of_calls(world.beliefs(), "big", "code") == 1.0


def test_unreadable_versions_count_as_none_and_hold_nobody_up(world: World) -> None:
    world.call("big", 10)
    world.client.hset(keys.PROMPTS, b"%016x" % digest8("task", "code"), b"\xff{")
    assert not world.name("big", "v1")
    assert world.name("big", "v2")


# -- alarms --------------------------------------------------------------------------------------


def test_a_prompt_that_moves_all_endpoints_alike_is_no_change_of_any(watched: Watched) -> None:
    """Of an epoch's first labels nothing can be told, and then they are judged by each other."""
    for seed in range(2):
        watched.dice = random.Random(seed)
        raised = _moved(watched, (2 * seed, 2 * seed + 1, 2 * seed + 2))
        assert raised == 0, (seed, watched.kinds())


def test_the_same_move_without_a_new_version_is_noticed(watched: Watched) -> None:
    assert _moved(watched, (0, 0, 0)) >= 2


def _moved(world: Watched, numbers: tuple[int, int, int]) -> int:
    """How many alarms are raised where both endpoints get worse by .1, and better again."""
    before = len(world.told())
    for number, mean in zip(numbers, (0.85, 0.75, 0.85), strict=True):
        for _ in range(25):
            for of in (A, B):
                _hear(world, 40, mean, of, number)
            world.close()
    return len(world.told()) - before


A, B = (ALONE.catalog.by_id[name].digest for name in "ab")


def _hear(world: Watched, n: int, mean: float, of: int, epoch: int) -> None:
    beliefs, arm = world.beliefs(), (A, B).index(of)
    place = ALONE.task_index["code"], arm
    records = []
    for _ in range(n):
        body = Token(
            1,
            0,
            0,
            next(world.nonces).to_bytes(16, "big"),
            world.now_ms,
            digest8("task", "code"),
            of,
            of,
            4,
            5,
            6,
            7,
            0.5,
            float(beliefs.quality_mean[place]),
            0.05,
            float(beliefs.quality_spread[place]),
            epochs.composed(beliefs.known[arm].regimes.now, epoch),
        ).pack()
        records.append(judged(body, float(world.dice.random() < mean), at_ms=world.now_ms))
    world.send(*records)


def test_an_endpoint_that_falls_within_an_epoch_is_noticed_as_ever(watched: Watched) -> None:
    for number, mean in ((0, 0.9), (1, 0.85)):
        for _ in range(30):
            _hear(watched, 10, mean, A, number)
            watched.close()
    assert watched.kinds() == []

    for _ in range(20):
        _hear(watched, 10, 0.45, A, 1)
        watched.close()

    assert watched.kinds() == [("a", "down")]
    assert watched.beliefs().known[0].regimes.now == 1


# -- sums ----------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 4)), min_size=1))
def test_rows_do_not_depend_on_order_and_each_epoch_has_its_own(said: Any) -> None:
    def terms(some: list[tuple[int, int, int]]) -> cells.Terms:
        bodies = [
            Token(
                1, 0, 0, i.to_bytes(16, "big"), NOW_MS + i, 1 + c, 9, 9, 4, 5, 6, 7, 1.0, 0.5, 0.1
            )
            for i, (c, _, _) in enumerate(some)
        ]
        regimes = [epochs.composed(regime, epoch) for _, regime, epoch in some]
        packed = [replace_regime(b, r).pack() for b, r in zip(bodies, regimes, strict=True)]
        raw = b"".join(judged(body, 1.0, at_ms=NOW_MS) for body in packed)
        tokens = decoding.decode(raw)[0]["token"]
        none = LabelStandings.nothing(len(some))
        one = np.ones(len(some))
        held = replace(none, reward=one, kind=np.full(len(some), 2, dtype=np.uint8), first=one)
        order = list(range(len(some)))
        random.Random(len(some)).shuffle(order)
        whole = cells.merge(label_terms(tokens, none, held))
        single = cells.merge(
            [
                term
                for i in order
                for term in label_terms(
                    tokens[[i]],
                    none.of(np.arange(len(some)) == i),
                    held.of(np.arange(len(some)) == i),
                )
            ]
        )
        assert by_name(whole) == by_name(single)
        return whole

    found = cells.of_family(terms(said), Family.QUALITY)
    names = zip(
        found.keys["category"].tolist(),
        found.keys["regime"].tolist(),
        epochs.epochs_of(found.keys).tolist(),
        strict=True,
    )
    assert set(names) == {(1 + c, regime, epoch) for c, regime, epoch in said}
    assert int(found.values[:, Q.LABELS].sum()) == len(said)


def replace_regime(body: Token, regime: int) -> Token:
    values = {name: getattr(body, name) for name in body.__struct_fields__}
    return Token(**{**values, "regime": regime})


def by_name(terms: cells.Terms) -> dict[bytes, list[int]]:
    return {
        key.tobytes(): value for key, value in zip(terms.keys, terms.values.tolist(), strict=True)
    }


def test_windows_of_an_epoch_fade_and_are_dropped_like_any(world: World) -> None:
    world.label(100, 0.8, epoch=7)
    rows = cells.of_family(world.rows(), Family.QUALITY)
    later = NOW_MS + 14 * DAY_MS
    found = cells.read(
        rows,
        categories=np.array([digest8("task", "code")], dtype=np.uint64),
        endpoints=world.configuration.catalog.digests,
        now_ms=later,
    )
    assert found.quality[0, 0, Q.N] == pytest.approx(50, rel=0.05)
    assert not cells.is_stale(rows.keys, now_ms=later).any()
    assert cells.is_stale(rows.keys, now_ms=NOW_MS + 800 * DAY_MS).all()


def test_archive_audit_and_restore_tell_of_epochs_as_the_store_does(life: Life) -> None:
    def said(nonce: int, epoch: int) -> tuple[bytes, bytes]:
        body = Token(
            1,
            0,
            0,
            nonce.to_bytes(16, "big"),
            NOW_MS,
            digest8("task", "code"),
            9,
            9,
            4,
            5,
            6,
            7,
            1.0,
            0.5,
            0.1,
            0.4,
            epochs.composed(1, epoch),
        ).pack()
        ended = {"result": Result.OK, "attempt": 1, "status": 200, "flags": int(Flag.FINAL)}
        return events.outcome(body, **ended), judged(body, 1.0, at_ms=NOW_MS)

    life.client.hset(keys.PROMPTS, "0", "kept")
    for part in range(3):
        life.send(*(one for n in range(20) for one in said(100 * part + n, n % 3)))
        life.fold()
        life.take()
    assert life.audit().equal

    rows = life.rows()
    life.client.flushall()

    restore(life.archive)

    assert life.rows() == rows
    assert life.client.hgetall(keys.PROMPTS) == {b"0": b"kept"}
    every = cells.from_bytes(b"".join(rows), b"".join(rows.values()))
    assert set(epochs.epochs_of(every.keys).tolist()) == {0, 1, 2}
    assert int(cells.of_family(every, Family.TEACHING).values[:, T.CALLS].sum()) == 60


# -- over HTTP -----------------------------------------------------------------------------------


def served(provider: Provider) -> dict[str, Any]:
    return {
        "endpoints": [endpoint(provider, "a"), endpoint(provider, "b")],
        "tasks": {"code": None},
        "strategies": LEARN,
        "apps": {"default": {"mode": "route", "strategy": "learn"}},
    }


def test_calls_that_name_versions_open_an_epoch_at_every_router_and_are_booked(
    provider: Provider, tmp_path: Path, address: Address, client: Any
) -> None:
    value = served(provider)
    with (
        serving(value, tmp_path / "one", address) as one,
        serving(value, tmp_path / "two", address) as two,
        learning(tmp_path / "one", address),
    ):

        def ask(prompt: str | None, at: Any = one, **more: Any) -> Token:
            headers = {"x-router-task": "code", **({"x-router-prompt": prompt} if prompt else {})}
            got = at.chat("auto", headers=headers, **more)
            assert got.status_code == 200
            sealed = got.headers["x-router-decision-id"]
            return at.app.feedback._seal.open(sealed)[0]

        n_before = [ask("v1").regime for _ in range(5)]
        one.until(lambda: "code" in one.app.keeper.prompts.known)
        one.until(lambda: one.app.keeper.current.teaching.values[:, T.CALLS].sum() >= 5)

        ask("v2")

        for router in (one, two):
            router.until(lambda at=router: at.app.keeper.current.epochs == {"code": 1})
        assert n_before == [0] * 5
        assert ask(None).regime == ask("v1", two).regime == 1 << EPOCH_BITS
        shown = one.http.get("/v1/router/posteriors").json()["prompts"]
        assert [(row["prompt"], row["before"]) for row in shown] == [("v2", "v1")]
        assert "router_prompt_changes 1" in one.http.get("/metrics").text
        one.until(lambda: client.hget(keys.NAMES, f"{prompt_digest('v2'):016x}") == b"v2")
        said = [{"role": "system", "content": "You are careful."}, {"role": "user", "content": "x"}]
        ask("v2", messages=said)
        one.until(lambda: len(records(address)) == 9)
        found = records(address)
        found = found[np.argsort(found["token"]["decided_at_ms"], kind="stable")]
        named = [prompt_digest(name) for name in ("v1", "v2")]
        assert sorted(found["prompt"].tolist()) == sorted([0, *[named[0]] * 6, *[named[1]] * 2])
        assert found["system_prompt"].tolist() == [0] * 8 + [stable_digest("You are careful.")]


# -- system prompts ------------------------------------------------------------------------------


AGENT = """x-anthropic-billing-header: cc_version=2.1.197.{n}; cch={n};
You are an agent that edits code.
Never guess, and run the tests.

Working directory: /home/{who}/src
Today's date: 2026-11-{n}
Current branch: {branch}
Status:
{status}
Recent commits:
{commit} Fix the {who} bug
"""


def test_the_digest_of_an_agents_system_prompt_stays_from_day_to_day() -> None:
    one = AGENT.format(n=11, who="ann", branch="main", status="(clean)", commit="7615d82")
    two = AGENT.format(n=29, who="bob", branch="fix", status=" M a.py\n?? b.py", commit="abcdef1a")

    assert stable_digest(one) == stable_digest(two)
    assert stable_digest(one.replace("Never guess", "Guess")) != stable_digest(one)
    assert stable_digest("7 / 9") > 0  # something was there


def test_the_system_prompt_is_read_in_every_dialect_and_of_none_the_digest_is_nothing() -> None:
    text, hi = "You are helpful.", [{"role": "user", "content": "hi"}]
    bodies = [
        chat.parse(packed(model="m", messages=[{"role": "system", "content": text}, *hi])),
        chat.parse(packed(model="m", messages=[{"role": "developer", "content": text}, *hi])),
        messages.parse(packed(model="m", max_tokens=9, messages=hi, system=text)),
        messages.parse(
            packed(model="m", max_tokens=9, messages=hi, system=[{"type": "text", "text": text}])
        ),
        responses.parse(packed(model="m", input="hi", instructions=text)),
    ]
    known = SystemPrompts()

    assert {known.digest_of(body) for body in bodies} == {stable_digest(text)}
    assert known.digest_of(chat.parse(packed(model="m", messages=hi))) == 0
    assert text not in repr(known._known)


def packed(**body: Any) -> bytes:
    return json.dumps(body).encode()
