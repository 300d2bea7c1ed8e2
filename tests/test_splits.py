"""Hosts that their labels split off: from the comparison to the calls, and back."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import yaml
from conftest import LEARN, Provider, endpoint, learning, serving
from structlog.testing import capture_logs
from test_alarms import BEGAN_MS, PRODUCER, judged, reader_of, token
from test_router_choices import rows

from bandit import cells
from bandit.draws import Law
from bandit.drift import BUCKET_MS, AlarmKind, Watch
from router.beliefs.alarms import Alarms, EndpointWatch
from router.beliefs.beliefs import Beliefs, believe
from router.beliefs.choices import weigh
from router.beliefs.keeper import NOTHING, Keeper
from router.beliefs.kept import Kept, ReviewKey
from router.beliefs.splits import (
    WORSE,
    SplitNotice,
    compare_hosts,
    ended_alike,
    find_splits,
    split_now,
    with_splits,
)
from router.config.compiled import Configuration, compile_text
from router.config.entries import GENERAL
from router.decision import planner
from router.decision.context import Routing, Routings
from router.endpoints.entries import Dialect
from router.policy.callers import Caller
from router.policy.route import incumbent_of
from router.policy.standing import PolicyTable
from router.report import hosts as report_hosts
from router.report.views import report_rows
from telemetry import frames, keys
from telemetry.frames import Frame
from telemetry.reader import Reader
from telemetry.store import Address
from workers.folding.lease import Lease
from workers.folding.shard import Shard


def host(name: str, model: str = "m", **more: Any) -> dict[str, Any]:
    return {"id": name, "model": model, "base_url": f"http://127.0.0.1:1/{name}", **more}


def configuration(*endpoints: dict[str, Any], **more: Any) -> Configuration:
    value = {
        "store": {"shards": 1},
        "endpoints": list(endpoints),
        "tasks": {"code": None, "chat": None},
        "apps": {"default": {"mode": "route", "strategy": "quality"}},
    }
    return compile_text(yaml.safe_dump({**value, **more}), file="test.yaml")


ABC = configuration(host("a"), host("b"), host("c"), host("x", "other"))
NOTICE = SplitNotice(BEGAN_MS, ("a", "c"), WORSE, -0.05, 0.997, 900.0, 9000.0)


def digest(name: str, of: Configuration = ABC) -> int:
    return of.catalog.by_id[name].digest


def split(*names: str, of: Configuration = ABC) -> Configuration:
    return with_splits(of, {digest(name, of): NOTICE for name in names})


def grouping(of: Configuration) -> list[int]:
    return [endpoint.group for endpoint in of.catalog.endpoints]


# -- the catalog --------------------------------------------------------------------------------


def test_a_host_that_is_split_off_has_a_group_of_its_own_in_its_models_family() -> None:
    found = split("b").catalog

    assert grouping(split("b")) == [0, 1, 0, 2]
    assert found.group_members == ((0, 2), (1,), (3,))
    assert found.arms.group.tolist() == [0, 1, 0, 2]
    assert found.arms.family.tolist() == [0, 0, 1]
    assert found.kin == ((0, 1), (1, 0), (2,))
    assert [e.is_split for e in found.endpoints] == [False, True, False, False]
    assert found.digests.tolist() == ABC.catalog.digests.tolist()
    assert found.by_model["m"] == found.endpoints[:3]


def test_what_a_configuration_names_is_of_its_own_catalog() -> None:
    of = configuration(host("a"), host("b"), strategies={"quality": {"incumbent": "b"}})
    found = split("b", of=of)

    endpoints = set(map(id, found.catalog.endpoints))
    table, app = found.derive(PolicyTable), found.apps["default"]
    standing = table.of(app, None, GENERAL, found.strategies["quality"])
    assert {id(e) for e in standing.permitted} == endpoints
    assert incumbent_of(standing) is found.catalog.by_id["b"]
    assert incumbent_of(standing).group == 1


def test_the_same_splits_give_the_same_object_and_none_the_configuration_itself() -> None:
    assert split("b", "c") is split("c", "b")
    assert split() is ABC
    assert with_splits(ABC, {1: NOTICE}) is ABC, "an endpoint that is not listed any more"
    assert ABC.derive(Routings) is not split("b").derive(Routings)


def test_a_host_that_is_said_to_be_equivalent_stays_whatever_its_labels_show() -> None:
    of = configuration(host("a"), host("b", equivalent=True), host("c", equivalent=False))
    found = rows([("code", "a", 5000, 0.8), ("code", "b", 5000, 0.5)], of)
    beliefs = believe(of, found, version=1)

    assert grouping(of) == [0, 0, 1]
    assert split("b", of=of) is of
    assert splits_of(beliefs) == {}


def splits_of(beliefs: Beliefs) -> Mapping[int, SplitNotice]:
    catalog = beliefs.configuration.catalog
    found = compare_hosts(catalog, beliefs.given_labels)
    return find_splits(catalog, found, now_ms=BEGAN_MS)


def test_the_surest_of_a_group_is_split_off_first_and_the_rest_is_compared_anew() -> None:
    counts = [("code", "a", 3000, 0.8), ("code", "b", 3000, 0.5), ("code", "c", 3000, 0.7)]
    labels = rows(counts, ABC)
    first = splits_of(believe(ABC, labels, version=1))
    watches = {digest("b"): EndpointWatch(split=first[1])}
    second = splits_of(believe(ABC, labels, version=1, watches=watches))

    assert list(first) == [1]
    assert (first[1].others, first[1].reason) == (("a", "c"), WORSE)
    assert (first[1].labels, first[1].labels_of_others) == (3000, 6000)
    assert first[1].difference == pytest.approx(-0.25, abs=0.01)
    assert list(second) == [2]
    assert second[2].others == ("a",)


def test_sensitive_calls_try_no_host() -> None:
    labels = rows([("code", "a", 300, 0.8), ("code", "b", 30, 0.8)], ABC)
    beliefs = believe(ABC, labels, version=1)
    category, law = ABC.task_index["code"], Law(0, 0, stay=1.0)
    everybody = np.ones(4, dtype=bool)
    table = beliefs.table(category, ABC.strategies["quality"].objective, law, everybody)

    assert table.asked_host(0) == 2
    held = planner.without_exploring(law, table)
    assert not held.explores_hosts
    names = planner.endpoint_shares(held, table, ABC.catalog)
    asked = planner.endpoint_shares(law, table, ABC.catalog)
    assert sum(names.values()) == pytest.approx(1)
    assert asked["c"] == pytest.approx(0.1 + 0.9 * names.get("c", 0.0))


def test_hosts_that_are_said_to_be_equivalent_are_not_tried_out_of_turn() -> None:
    of = configuration(host("a", equivalent=True), host("b", equivalent=True))
    beliefs = believe(of, rows([("code", "a", 300, 0.8), ("code", "b", 30, 0.8)], of), version=1)
    category, law = of.task_index["code"], Law(0, 0, stay=1.0)
    objective = of.strategies["quality"].objective

    assert beliefs.table(category, objective, law, np.ones(2, dtype=bool)).asked_host(0) is None


def test_hosts_that_change_alike_stay_one_group_whoever_is_told_first() -> None:
    """The model changed: nobody is apart from whom he is like."""
    down, up = AlarmKind.DOWN, AlarmKind.UP
    apart = SplitNotice(BEGAN_MS, ("b", "c"), down.value)
    a_split = split("a").catalog

    assert ended_alike(ABC.catalog, [None] * 4, {0: down, 1: down, 2: down}) == {0, 1, 2}
    assert ended_alike(a_split, [apart, apart, None, None], {2: down}) == {0, 1, 2}
    assert ended_alike(a_split, [apart, None, None, None], {1: down}) == frozenset()
    assert ended_alike(a_split, [apart, apart, None, None], {2: up}) == frozenset()
    assert ended_alike(a_split, [NOTICE, apart, None, None], {2: down}) == frozenset()
    assert ended_alike(ABC.catalog, [None] * 4, {3: down}) == frozenset(), "it has no others"


def test_labels_of_an_app_that_learns_alone_tell_hosts_apart() -> None:
    of = configuration(
        host("a"),
        host("b"),
        apps={"default": {"mode": "route", "strategy": "quality", "learn": "own"}},
    )
    found = rows([("code", "a", 900, 0.9), ("code", "b", 900, 0.5)], of, app="default")
    beliefs = believe(of, found, version=1)

    assert list(splits_of(beliefs)) == [1]
    shown = {r.endpoint: r.quality for r in report_rows(beliefs, "quality") if r.app == "default"}
    assert shown["a"] == pytest.approx(0.9, abs=0.02)
    assert shown["b"] == pytest.approx(0.5, abs=0.02)


def test_the_report_shows_each_hosts_own_quality() -> None:
    labels = rows([("code", "a", 900, 0.8), ("code", "b", 150, 0.6), ("code", "x", 300, 0.7)], ABC)
    shown = {row.endpoint: row for row in report_rows(believe(ABC, labels, version=1), "quality")}

    between = {n: (row.quality_low or 0.0, row.quality_high or 0.0) for n, row in shown.items()}

    for name, truth in (("a", 0.8), ("b", 0.6), ("x", 0.7)):
        low, high = between[name]
        assert low < truth < high
    width = {name: high - low for name, (low, high) in between.items()}
    assert width["c"] > 2 * width["a"], "never called"


def test_a_damaged_cell_splits_nobody_off() -> None:
    labels = rows([("code", "a", 3000, 0.8), ("code", "b", 3000, 0.5)], ABC)
    beliefs = believe(ABC, labels, version=1)
    damaged = np.ones_like(beliefs.posterior.damaged)

    found = compare_hosts(ABC.catalog, [(beliefs.evidence.quality * -1e18, damaged)])

    assert not found.is_split.any()


# -- routes and choices -------------------------------------------------------------------------


def routing(of: Configuration) -> Routing:
    """Return how calls of the default app are routed that name the model."""
    caller, routings = Caller(of.apps["default"]), of.derive(Routings)
    standing = of.derive(PolicyTable).usual(caller.app)
    return routings.of(routings.asked("m", None, caller), standing, Dialect.CHAT)


def test_a_call_that_names_its_model_goes_to_the_sound_hosts() -> None:
    before, first_is_worse, other_is_worse = map(routing, (ABC, split("a"), split("b")))

    assert before.within.law == Law(0, 0, (), stay=1.0)
    assert first_is_worse.within.law == Law(1, 1, (), stay=1.0)
    assert other_is_worse.within.law == Law(0, 0, (), stay=1.0)
    assert first_is_worse.within.groups == {0, 1}
    assert first_is_worse.release == before.release, "stored draws stay"


KEY = ReviewKey("default", "quality", "", "a")


def test_choices_stay_at_the_hosts_that_they_name() -> None:
    kept = Kept(KEY, 3, BEGAN_MS, {"code": "b", "chat": "x"}, {"b": ("a", "b", "c")})
    for of, group in ((ABC, 0), (split("b"), 1), (split("a"), 1)):
        known = believe(of, NOTHING, version=0).posterior
        found = weigh(KEY, kept, known, NOTHING, of, now_ms=BEGAN_MS)

        current = found.standings.current
        assert current[of.task_index["code"]] == group
        assert current[of.task_index["chat"]] == of.catalog.by_id["x"].group


def test_what_a_host_served_for_the_incumbent_was_no_exploring() -> None:
    """Else the room of a group whose cheap host is split off would be spent at once."""
    labels = rows([("code", "a", 900, 0.8), ("code", "b", 9000, 0.6)], review_key=KEY, of=ABC)
    for of in (ABC, split("b")):
        known = believe(of, labels, version=1).posterior
        found = weigh(KEY, None, known, labels, of, now_ms=BEGAN_MS)

        assert found.room is not None
        assert found.room > 90
        assert not found.books.labelled.any()


# -- what is kept -------------------------------------------------------------------------------


def test_a_watch_that_was_kept_before_there_were_splits_is_read_as_it_was() -> None:
    raw = (
        b'{"watch":{"low":{"value":0.0,"since":0,"count":0.0,"residual":0.0},"high":{"value":0.0,'
        b'"since":0,"count":0.0,"residual":0.0},"recall":{"value":0.0,"since":0,"count":0.0,'
        b'"residual":0.0},"suspect":false,"shift":0.0,"gap":4,"next_probe":0,"probing":false},'
        b'"regimes":{"now":0,"full":[0],"reduced":[],"level":1.0,"before":[]},"n":7.0,'
        b'"total":-2.5,"alarm":null}'
    )

    assert msgspec.json.decode(raw, type=EndpointWatch) == EndpointWatch(Watch(gap=4))


@pytest.mark.parametrize(
    ("before", "alarm", "worse", "catalog", "expected"),
    [
        (None, None, None, ABC, None),
        (None, None, NOTICE, ABC, NOTICE),
        (NOTICE, None, None, split("b"), NOTICE),
        (None, AlarmKind.DOWN, None, ABC, SplitNotice(7, ("a", "c"), "down")),
        (None, AlarmKind.UP, None, ABC, SplitNotice(7, ("a", "c"), "up")),
        (None, AlarmKind.RESTORED, None, ABC, None),
        (NOTICE, AlarmKind.DOWN, None, split("b"), NOTICE),
        (NOTICE, AlarmKind.UP, None, split("b"), None),
        (NOTICE, AlarmKind.RESTORED, None, split("b"), None),
    ],
)
def test_when_a_split_begins_and_ends(before, alarm, worse, catalog, expected) -> None:
    found = split_now(before, alarm, worse, catalog.catalog, 1, now_ms=7)

    assert found == expected


def test_an_alarm_splits_off_nobody_who_is_alone_or_said_to_be_equivalent() -> None:
    of = configuration(host("a"), host("b", equivalent=True), host("x", "other"))

    for arm in (1, 2):
        assert split_now(None, AlarmKind.DOWN, None, of.catalog, arm, now_ms=7) is None


# -- from labels to splits, in a store ----------------------------------------------------------

PAIR = configuration(host("a"), host("b"))


@dataclass(slots=True)
class LabelledHosts:
    """Labels of two hosts that are folded into a real store, and minutes that pass by hand."""

    client: Any
    shard: Shard
    lease: Lease
    reader: Reader
    alarms: Alarms
    dice: random.Random = field(default_factory=lambda: random.Random(5))
    minute: int = 0
    nonces: Any = field(default_factory=count)
    sent: int = 0

    def hear(self, **hosts: tuple[int, float]) -> None:
        """Judge calls of hosts, `(n, mean)` each, decided just now by what is believed of them."""
        beliefs, at_ms, records = self.beliefs(), BEGAN_MS + self.minute * BUCKET_MS, []
        for name, (n, mean) in hosts.items():
            catalog, task = beliefs.configuration.catalog, PAIR.task_index["code"]
            endpoint = catalog.by_id[name]
            expected = {
                "expected": float(beliefs.quality_mean[task, endpoint.group]),
                "spread": float(beliefs.quality_spread[task, endpoint.group]),
                "regime": beliefs.known[endpoint.index].regimes.now,
            }
            for _ in range(n):
                body = token(next(self.nonces), endpoint.digest, at_ms=at_ms, **expected)
                good = float(self.dice.random() < mean)
                records.append(judged(body, good, at_ms=at_ms))
        frame = Frame(PRODUCER, 0, self.sent, b"".join(records))
        self.sent += len(records)
        entry = self.client.xadd(keys.stream(0), {"f": frames.pack(frame)})
        self.shard.fold([(entry, {b"f": frames.pack(frame)})], token=self.lease.token)

    def rows(self) -> cells.Terms:
        self.reader.poll()
        return cells.from_bytes(*self.reader.rows())

    def beliefs(self) -> Beliefs:
        return believe(PAIR, self.rows(), version=1, watches=self.alarms.known)

    def close(self) -> None:
        """Let the bucket be over, as a keeper does."""
        self.minute += 1
        now_ms, beliefs = BEGAN_MS + self.minute * BUCKET_MS, self.beliefs()
        self.alarms.close(
            self.rows(),
            beliefs.posterior,
            beliefs.configuration,
            self.reader.incarnation,
            now_ms=now_ms,
            splits=splits_of(beliefs),
        )

    def told(self) -> list[dict[str, Any]]:
        return [json.loads(entry[b"alarm"]) for _, entry in self.client.xrange(keys.ALARMS)]


@pytest.fixture
def labels(client: Any) -> LabelledHosts:
    client.hset(keys.META, "incarnation", "x")
    shard, lease = Shard(client, 0), Lease(client, 0)
    assert lease.take()
    shard.load()
    found = LabelledHosts(client, shard, lease, reader_of(client), Alarms(client))
    found.close()
    return found


def test_a_host_that_is_fifteen_points_worse_is_split_off_and_told_once(
    labels: LabelledHosts,
) -> None:
    with capture_logs() as lines:
        while not labels.told():
            labels.hear(a=(60, 0.85), b=(60, 0.7))
            labels.close()
            assert labels.minute < 30
        for _ in range(5):
            labels.hear(a=(60, 0.85), b=(60, 0.7))
            labels.close()

    (told,) = labels.told()
    assert (told["endpoint"], told["kind"], told["reason"]) == ("b", "split", "worse")
    assert told["others"] == ["a"]
    assert told["labels"] >= 200
    assert told["p_worse"] >= 0.995
    assert -0.25 < told["difference"] < -0.05
    assert [line["event"] for line in lines] == ["a host was split off"]
    after, task = labels.beliefs(), PAIR.task_index["code"]
    assert grouping(after.configuration) == [0, 1]
    assert after.quality_mean[task] == pytest.approx([0.85, 0.7], abs=0.06)
    other = Alarms(labels.client)
    assert other.take(other.look())
    assert other.known == labels.alarms.known


def test_equal_hosts_stay_one_group(labels: LabelledHosts) -> None:
    for _ in range(25):
        labels.hear(a=(40, 0.8), b=(40, 0.8))
        labels.close()

    assert labels.told() == []
    assert grouping(labels.beliefs().configuration) == [0, 0]


def test_hosts_that_are_far_apart_are_split_off_and_raise_no_alarm(labels: LabelledHosts) -> None:
    """Each is held against its own labels: no minute of the worse one's is a change."""
    for _ in range(70):
        labels.hear(a=(18, 0.9), b=(4, 0.3))
        labels.close()

    assert [(told["endpoint"], told["kind"]) for told in labels.told()] == [("b", "split")]
    task = PAIR.task_index["code"]
    assert labels.beliefs().quality_mean[task] == pytest.approx([0.9, 0.3], abs=0.12)


def test_a_host_that_falls_beside_others_is_alarmed_and_split_off_until_it_is_back(
    labels: LabelledHosts,
) -> None:
    for _ in range(20):
        labels.hear(a=(20, 0.9), b=(20, 0.9))
        labels.close()
    assert labels.told() == []
    for _ in range(20):
        labels.hear(a=(20, 0.9), b=(20, 0.3))
        labels.close()

    first, second = labels.told()[:2]
    assert (first["endpoint"], first["kind"]) == ("b", "down")
    assert (second["endpoint"], second["kind"], second["reason"]) == ("b", "split", "down")
    fallen = labels.beliefs()
    assert grouping(fallen.configuration) == [0, 1]
    assert fallen.known[1].regimes.now >= 1
    assert fallen.quality_mean[PAIR.task_index["code"]] == pytest.approx([0.9, 0.3], abs=0.1)
    for _ in range(30):
        labels.hear(a=(20, 0.9), b=(20, 0.9))
        labels.close()
    assert "restored" in [told["kind"] for told in labels.told()]
    assert labels.beliefs().configuration is PAIR


def test_a_keeper_lets_splits_take_effect_and_undoes_them(
    client: Any, address: Address, state_dir: Path
) -> None:
    watches = {f"{digest('b', PAIR):016x}": msgspec.json.encode(EndpointWatch(split=NOTICE))}
    client.hset(keys.DRIFT, mapping=watches)
    keeper = Keeper(PAIR, address, state_dir)
    keeper.start()
    try:
        until(lambda: grouping(keeper.current.configuration) == [0, 1])
        assert keeper.current.posterior.quality.mean.shape[1] == 2
        client.hset(keys.DRIFT, f"{digest('b', PAIR):016x}", msgspec.json.encode(EndpointWatch()))
        until(lambda: keeper.current.configuration is PAIR)
    finally:
        keeper.stop()


def until(condition: Any) -> None:
    deadline = time.monotonic() + 12
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)


def test_a_keeper_splits_off_a_worse_host_by_itself(
    client: Any, address: Address, state_dir: Path
) -> None:
    found = rows([("code", "a", 1000, 0.9), ("code", "b", 1000, 0.6)], PAIR)
    for key, value in zip(found.keys, found.values, strict=True):
        client.hset(keys.rows(0), key.tobytes(), value.astype("<i8").tobytes())
        client.zadd(keys.touched(0), {key.tobytes(): 1})
    client.hset(keys.meta(0), "version", 1)
    client.hset(keys.META, "incarnation", "x")
    keeper = Keeper(PAIR, address, state_dir)
    keeper.start()
    try:
        until(lambda: grouping(keeper.current.configuration) == [0, 1])
    finally:
        keeper.stop()

    ((_, entry),) = client.xrange(keys.ALARMS)
    assert json.loads(entry[b"alarm"])["endpoint"] == "b"


@pytest.mark.slow
@pytest.mark.usefixtures("store")  # end to end: a real one
def test_a_split_moves_new_draws_keeps_stored_ones_and_is_shown(
    provider: Provider, state_dir: Path, address: Address, client: Any
) -> None:
    value = {
        "endpoints": [
            endpoint(provider, "a", model="m"),
            endpoint(provider, "b", model="m"),
        ],
        "tasks": {"code": None},
        "strategies": LEARN,
        "apps": {"default": {"mode": "route", "strategy": "learn"}},
    }
    with serving(value, state_dir, address) as sidecar, learning(state_dir, address):

        def served(session: str) -> str:
            got = sidecar.chat("m", headers={"x-router-session-id": session})
            return str(got.headers["x-router-endpoint"])

        first = {f"s{i}": served(f"s{i}") for i in range(40)}
        assert set(first.values()) == {"a", "b"}
        told = EndpointWatch(split=replace(NOTICE, others=("b",)))
        client.hset(keys.DRIFT, f"{sidecar.digest('a'):016x}", msgspec.json.encode(told))
        keeper = sidecar.app.keeper
        sidecar.until(lambda: grouping(keeper.current.configuration) == [0, 1])

        assert {s: served(s) for s in first} == first, "stored draws stay"
        assert {served(f"t{i}") for i in range(20)} == {"b"}
        provider.on("b", 503)
        assert served("u") == "a", "a worse answer is better than none"
        (shown,) = sidecar.http.get("/v1/router/posteriors").json()["splits"]
        assert (shown["endpoint"], shown["others"], shown["p_worse"]) == ("a", ["b"], 0.997)
        assert "router_hosts_split 1.0" in sidecar.http.get("/metrics").text
        (line,) = report_hosts.split_lines([shown])
        assert line.startswith("a was split off from b 20")
        assert "-5.0 points on 900 labels against 9000, P(a point worse) 0.9970" in line


def test_the_report_shows_how_hosts_differ_before_any_is_split_off() -> None:
    labels = rows([("code", "a", 300, 0.8), ("code", "b", 300, 0.78), ("code", "x", 300, 0.7)], ABC)

    found = report_hosts.host_rows(believe(ABC, labels, version=1))

    assert [row["endpoint"] for row in found] == ["a", "b"]
    assert found[0]["difference"] == pytest.approx(-found[1]["difference"])
    assert found[1]["difference"] < 0 < found[1]["p_worse"] < 0.9
    assert (found[0]["labels"], found[0]["labels_of_others"]) == (300, 300)
