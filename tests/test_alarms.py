"""An endpoint that changes is noticed: labels, alarms, regimes, and what ends by them."""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from conftest import LEARN, Provider, endpoint, learning, serving
from hypothesis import given
from hypothesis import strategies as st
from test_router_choices import ABC, BEGUN, SCOPE, WEEK_MS, beliefs, configuration, rows

from bandit import cells, drift
from bandit.derived import checked
from bandit.drift import BUCKET_MS, CALM, PROBE_BUCKETS, AlarmKind, News, Watch
from bandit.families import N_COLUMNS, D, Family, Q
from bandit.regimes import FIRST, count_derived, count_quality
from router.beliefs import reviews
from router.beliefs.alarms import AlarmNotice, Alarms, EndpointWatch
from router.beliefs.beliefs import Beliefs, believe
from router.beliefs.kept import Kept
from router.report import more_lines
from telemetry import decoding, event_ids, events, frames, keys
from telemetry.digests import digest8
from telemetry.events import FeedbackKind
from telemetry.frames import Frame
from telemetry.reader import Reader
from telemetry.store import Address
from telemetry.tokens import FIRST_WORD_SINCE, WATCHED_SINCE, Token
from workers.folding.hearing import LabelStandings, hear
from workers.folding.lease import Lease
from workers.folding.shard import Shard
from workers.folding.terms import label_terms

BEGAN_MS = (int(time.time() * 1000) // BUCKET_MS - 300) * BUCKET_MS
SMALL = configuration("ab", store={"shards": 1})
A, B = (SMALL.catalog.by_id[name].digest for name in "ab")
PRODUCER = b"p" * 16


# -- labels ------------------------------------------------------------------------------------


def token(
    nonce: int,
    of: int = A,
    *,
    expected: float = 0.9,
    spread: float = 0.4,
    regime: int = 0,
    at_ms: int,
) -> bytes:
    raw, task = nonce.to_bytes(16, "big"), digest8("task", "code")
    rest = (4, 5, 6, 7, 0.5, expected, 0.05, spread, regime)
    return Token(1, 0, 0, raw, at_ms, task, of, of, *rest).pack()


def judged(body: bytes, value: float | None, *, at_ms: int, revision: int = 0) -> bytes:
    event = event_ids.new_event_id(at_ms)
    kind = FeedbackKind.JUDGE
    return events.feedback(body, kind=kind, value=value, revision=revision, event=event)


@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.sampled_from([0.0, 0.4]), st.integers(0, 3)), min_size=1
    ),
    st.randoms(),
)
def test_watched_labels_do_not_depend_on_order_and_are_taken_back_exactly(said, dice) -> None:
    bodies = [token(i, spread=s, regime=r, at_ms=BEGAN_MS) for i, (_, s, r) in enumerate(said)]
    raw = b"".join(judged(body, 0.5, at_ms=BEGAN_MS) for body in bodies)
    tokens = decoding.decode(raw)[0]["token"]
    none = LabelStandings.nothing(len(said))
    reward = np.array([value for value, _, _ in said])
    kind = np.full(len(said), 2, dtype=np.uint8)
    held = replace(none, reward=reward, kind=kind, first=reward)
    order = list(range(len(said)))
    dice.shuffle(order)

    whole = cells.merge(label_terms(tokens, none, held))
    single = cells.merge(
        [
            term
            for i in order
            for term in label_terms(tokens[[i]], none.of(pick(i, said)), held.of(pick(i, said)))
        ]
    )
    back = cells.merge([*label_terms(tokens, held, none), whole])

    assert by_name(single) == by_name(whole)
    assert not back.values.any()
    expected = [value for value, spread, _ in said if spread]
    found = watched(whole)
    assert found[Q.LABELS] == len(expected)
    if expected:
        mean = found[Q.R] / found[Q.N]
        assert mean == pytest.approx(sum(expected) / len(expected), abs=1e-4)


def test_labels_of_decisions_that_an_earlier_version_made_are_not_watched() -> None:
    body = bytearray(token(1, at_ms=BEGAN_MS))
    body[1] = WATCHED_SINCE - 1
    tokens = decoding.decode(judged(bytes(body), 1.0, at_ms=BEGAN_MS))[0]["token"]
    none = LabelStandings.nothing(1)
    one = np.ones(1)
    held = replace(none, reward=one, kind=np.full(1, 2, dtype=np.uint8), first=one)

    found = cells.merge(label_terms(tokens, none, held))

    assert watched(found)[Q.LABELS] == 0
    assert Family.QUALITY in found.keys["family"]
    assert Token.unpack(bytes(body)).regime == 0


def test_the_watch_hears_the_first_word_of_an_answer_and_no_later_one() -> None:
    """A judge's words that tests correct later, or that are said anew, are no change."""
    version = FIRST_WORD_SINCE

    def heard(version: int) -> tuple[float, float]:
        body = bytearray(token(1, at_ms=BEGAN_MS))
        body[1] = version
        tests = events.feedback(
            bytes(body),
            kind=FeedbackKind.TEST,
            value=0.0,
            revision=0,
            event=event_ids.new_event_id(BEGAN_MS + 9),
        )
        judge, slot = judged(bytes(body), 0.9, at_ms=BEGAN_MS), np.zeros(1, dtype=np.intp)
        first, second = (decoding.decode(raw)[0] for raw in (judge, tests))
        said = hear([None], slot, first)
        corrected = hear(said.rows, slot, second)
        terms = label_terms(first["token"], said.before, said.after)
        terms += label_terms(second["token"], corrected.before, corrected.after)
        rows = cells.merge(terms)
        quality = cells.of_family(rows, Family.QUALITY).values[:, Q.R].sum()
        sums = watched(rows)
        return float(sums[Q.R] / sums[Q.N]), float(quality)

    found, quality = heard(version)
    assert found == pytest.approx(0.9, abs=1e-4)
    assert quality == 0
    assert heard(version - 1)[0] == 0  # of decisions made before, what holds: sums stay whole


def watched(rows: cells.Terms, of: int = A) -> Any:
    task, endpoints = (np.array([name], dtype=np.uint64) for name in (digest8("task", "code"), of))
    found = cells.read_by_regime(
        rows, Family.WATCH, categories=task, endpoints=endpoints, now_ms=BEGAN_MS
    )
    return sum(found.values())[0, 0]


def pick(i: int, said: list[Any]) -> Any:
    return np.arange(len(said)) == i


def by_name(terms: cells.Terms) -> dict[bytes, list[int]]:
    pairs = zip(terms.keys, terms.values.tolist(), strict=True)
    return {key.tobytes(): value for key, value in pairs if any(value)}


# -- regimes ------------------------------------------------------------------------------------


def quality(n: float, mean: float) -> Any:
    out = np.zeros((1, 1, N_COLUMNS))
    out[..., [Q.LABELS, Q.N]] = n
    out[..., [Q.R, Q.R2]] = n * mean
    return out


def test_after_a_fall_earlier_labels_count_for_two_at_the_new_level() -> None:
    fallen = FIRST.opened(AlarmKind.DOWN, 0.5)

    found = count_quality({0: quality(100, 0.8), 1: quality(10, 0.4)}, [fallen])[0, 0]

    assert (found[Q.LABELS], found[Q.N]) == (12, 12)
    assert found[Q.R] == pytest.approx(10 * 0.4 + 2 * 0.4)


def test_once_restored_the_time_between_is_dropped_and_the_rest_counts_again() -> None:
    back = FIRST.opened(AlarmKind.DOWN, 0.5).opened(AlarmKind.RESTORED, 2.0)

    found = count_quality({0: quality(100, 0.8), 1: quality(10, 0.4), 2: quality(5, 1)}, [back])

    assert found[0, 0, Q.N] == 105
    assert found[0, 0, Q.R] == 85


def test_labels_of_a_regime_that_nobody_told_of_yet_count_in_full() -> None:
    found = count_quality({0: quality(100, 0.8), 1: quality(10, 0.4)}, [FIRST])

    assert found[0, 0, Q.N] == 110


def test_derived_labels_follow_the_regimes_and_pairs_stay() -> None:
    def derived(n: float, good: float) -> Any:
        out = np.zeros((1, 1, N_COLUMNS))
        out[..., D.N], out[..., D.GOOD], out[..., D.PAIRS] = n, good, 60
        return out

    fallen = FIRST.opened(AlarmKind.DOWN, 0.5)
    found = count_derived({0: derived(100, 80), 1: derived(10, 4)}, [fallen])[0, 0]

    assert (found[D.N], found[D.PAIRS]) == (12, 120)
    assert found[D.GOOD] == pytest.approx(4 + 2 * 0.4)


def test_calls_that_were_read_follow_the_regimes_with_the_faults_found_among_them() -> None:
    def derived(seen: float, alone: float, paired: float) -> Any:
        out = np.zeros((1, 1, N_COLUMNS))
        out[..., D.SEEN], out[..., D.N] = seen, alone
        out[..., D.PAIRS] = out[..., D.PAIR_N] = paired
        return out

    fallen = FIRST.opened(AlarmKind.DOWN, 0.5)
    silent = count_derived({0: derived(1000, 0, 0), 1: derived(100, 5, 0)}, [fallen])
    paired = count_derived({0: derived(1000, 10, 10), 1: derived(100, 5, 5)}, [fallen])

    assert [x[0, 0] for x in checked(silent)] == [102, 5]
    # All pairs stay for what they tell of quality, at the share of faults that they were found at.
    assert [x[0, 0] for x in checked(paired)] == [602, 22]


# -- the watch ----------------------------------------------------------------------------------


@dataclass(slots=True)
class World:
    """Labels that are folded into a real store, and buckets that pass by hand."""

    client: Any
    shard: Shard
    lease: Lease
    alarms: Alarms
    reader: Reader
    dice: random.Random = field(default_factory=lambda: random.Random(5))
    bucket: int = 0
    nonces: Any = field(default_factory=count)
    sent: int = 0

    @property
    def now_ms(self) -> int:
        return BEGAN_MS + self.bucket * BUCKET_MS

    def hear(self, n: int, mean: float, of: int = A) -> None:
        """Judge calls that were decided just now, by what is believed of the endpoint."""
        beliefs, arm = self.beliefs(), (A, B).index(of)
        cell = SMALL.task_index["code"], arm
        expected = {
            "expected": float(beliefs.quality_mean[cell]),
            "spread": float(beliefs.quality_spread[cell]),
            "regime": beliefs.known[arm].regimes.now,
        }
        records = []
        for _ in range(n):
            body = token(next(self.nonces), of, at_ms=self.now_ms, **expected)
            good = float(self.dice.random() < mean)
            records.append(judged(body, good, at_ms=self.now_ms))
        self.send(*records)

    def send(self, *records: bytes) -> None:
        frame = Frame(PRODUCER, 0, self.sent, b"".join(records))
        self.sent += len(records)
        entry = self.client.xadd(keys.stream(0), {"f": frames.pack(frame)})
        self.shard.fold([(entry, {b"f": frames.pack(frame)})], token=self.lease.token)

    def rows(self) -> cells.Terms:
        self.reader.poll()
        return cells.from_bytes(*self.reader.rows())

    def beliefs(self) -> Beliefs:
        return believe(SMALL, self.rows(), version=1, watches=self.alarms.known)

    def close(self, alarms: Alarms | None = None) -> bool:
        """Let the bucket be over."""
        self.bucket += 1
        return self.look(alarms or self.alarms)

    def look(self, alarms: Alarms) -> bool:
        rows, posterior = self.rows(), self.beliefs().posterior
        incarnation = self.reader.incarnation
        assert alarms.is_due(incarnation, now_ms=self.now_ms)
        return alarms.close(rows, posterior, SMALL, incarnation, now_ms=self.now_ms)

    def told(self) -> list[dict[str, Any]]:
        return [json.loads(entry[b"alarm"]) for _, entry in self.client.xrange(keys.ALARMS)]

    def kinds(self) -> list[tuple[str, str]]:
        return [(alarm["endpoint"], alarm["kind"]) for alarm in self.told()]


def reader_of(client: Any) -> Reader:
    return Reader(client, 1, key_bytes=cells.KEY.itemsize, row_bytes=8 * N_COLUMNS)


@pytest.fixture
def world(client: Any) -> World:
    client.hset(keys.META, "incarnation", "x")
    shard, lease = Shard(client, 0), Lease(client, 0)
    assert lease.take()
    shard.load()
    found = World(client, shard, lease, Alarms(client), reader_of(client))
    found.look(found.alarms)
    return found


def test_a_fall_is_noticed_within_forty_labels_and_a_recovery_later(world: World) -> None:
    for _ in range(20):
        world.hear(10, 0.9)
        world.hear(10, 0.7, B)
        world.close()
    assert world.kinds() == []
    before = world.beliefs()
    n = 0
    while not world.kinds():
        world.hear(4, 0.3)
        world.close()
        n += 4
        assert n <= 40

    (alarm,) = world.told()
    assert (alarm["endpoint"], alarm["kind"]) == ("a", "down")
    assert alarm["at_ms"] == world.now_ms
    assert alarm["at_ms"] - (n // 4 + 2) * BUCKET_MS <= alarm["since_ms"] < alarm["at_ms"]
    assert alarm["mean_residual"] < -1
    assert alarm["factor"] < 0.7
    after, task = world.beliefs(), SMALL.task_index["code"]
    assert after.quality_mean[task, 0] < 0.7 < before.quality_mean[task, 0]
    assert abs(after.quality_mean[task, 1] - before.quality_mean[task, 1]) < 0.1
    assert (after.known[0].regimes.now, after.known[1].regimes.now) == (1, 0)

    for _ in range(8):  # it stays so: what is believed of it settles
        world.hear(4, 0.3)
        world.close()
    probed = 0
    for _ in range(80 * PROBE_BUCKETS):
        beliefs = world.beliefs()
        if beliefs.learning.floor:
            assert beliefs.learning.declared == (0,)
            world.hear(4, 0.9)
            probed += 1
        world.close()
        if ("a", "restored") in world.kinds():
            break
    assert world.kinds()[:2] == [("a", "down"), ("a", "restored")]
    assert probed < 15
    assert world.beliefs().posterior.labels[task, 0] >= 200


def test_calls_of_others_never_count(world: World) -> None:
    for _ in range(10):
        bodies = [token(next(world.nonces), spread=0.0, at_ms=world.now_ms) for _ in range(30)]
        world.send(*(judged(body, 0.0, at_ms=world.now_ms) for body in bodies))
        world.close()

    assert world.kinds() == []
    assert Alarms(world.client).take(world.alarms.look()) is False


def test_a_damaged_row_raises_no_alarm_and_what_was_known_goes_on(world: World) -> None:
    for _ in range(5):
        world.hear(10, 0.9)
        world.close()
    at = keys.rows(0)
    kept = world.client.hgetall(at)
    damage = np.full(N_COLUMNS, -(2**62), dtype=np.int64).tobytes()
    before = world.alarms.known[A]

    def replace_rows(rows: dict[bytes, bytes]) -> None:
        world.client.hset(at, mapping=rows)
        version = world.client.hincrby(keys.meta(0), "version", 1)
        world.client.zadd(keys.touched(0), dict.fromkeys(rows, version))

    replace_rows(dict.fromkeys(kept, damage))
    world.close()
    assert world.kinds() == []
    assert world.alarms.known[A] == before
    assert not world.beliefs().signals.any()

    replace_rows(kept)
    world.close()
    assert world.kinds() == []
    assert world.alarms.known[A] == before


@pytest.mark.usefixtures("store")  # a script decides
def test_of_two_that_look_at_the_same_time_one_tells(world: World) -> None:
    other = Alarms(world.client)
    other.take(other.look())
    world.hear(60, 0.9)
    world.close(other)
    world.alarms.take(world.alarms.look())
    world.hear(60, 0.0)

    assert world.close() is True
    assert world.look(other) is False
    assert world.kinds() == [("a", "down")]
    assert other.take(other.look()) is True
    assert other.known == world.alarms.known


def test_whose_clock_is_behind_waits_and_one_far_ahead_is_not_believed(world: World) -> None:
    incarnation = world.reader.incarnation
    minutes = {behind: world.now_ms - behind * BUCKET_MS for behind in (-1, 0, 1, 50, 51)}

    due = {n: world.alarms.is_due(incarnation, now_ms=at_ms) for n, at_ms in minutes.items()}

    assert due == {-1: True, 0: False, 1: False, 50: False, 51: True}
    assert world.alarms.is_due(b"another", now_ms=world.now_ms)


def test_a_watch_that_counted_buckets_of_five_seconds_goes_on_in_seconds(world: World) -> None:
    """As the last version left it in the store."""
    now = BEGAN_MS // 5000
    sums = tuple(drift.Sum(3.0, now - 4, 20.0, -5.0, 12.0) for _ in drift.DETECTORS)
    before = Watch(sums, drift.Sum(0.2, now - 2), True, gap=48, next_probe=now + 10)
    name = b"%016x" % A

    world.alarms.take({name: msgspec.json.encode(EndpointWatch(watch=before))})

    found = world.alarms.known[A].watch
    assert {one.since * BUCKET_MS for one in found.sums} == {(now - 4) * 5000}
    assert found.next_probe * BUCKET_MS == (now + 10) * 5000
    assert found.gap * BUCKET_MS == 48 * 5000
    again = Alarms(world.client)
    again.take({name: msgspec.json.encode(EndpointWatch(watch=found))})
    assert again.known[A].watch == found


def test_a_label_that_is_corrected_or_taken_back_is_no_news(world: World) -> None:
    world.hear(50, 0.9)
    body = token(10_007, at_ms=world.now_ms)
    world.send(judged(body, 1.0, at_ms=world.now_ms))
    world.close()
    before = world.alarms.known[A]
    world.send(judged(body, 0.0, at_ms=world.now_ms, revision=1))
    world.close()
    assert world.alarms.known[A] == before
    world.send(judged(body, None, at_ms=world.now_ms, revision=2))
    world.close()
    assert world.alarms.known[A] == before


def test_a_watch_goes_on_where_another_process_left_it(world: World) -> None:
    """Each label counts in one bucket, whoever closes it."""
    reference, before = CALM, watched(world.rows())
    world.hear(40, 0.9)
    for _ in range(6):
        fresh = Alarms(world.client)
        fresh.take(fresh.look())
        posterior = world.beliefs().posterior
        world.close(fresh)
        whole, task = watched(world.rows()), SMALL.task_index["code"]
        n, r = (whole - before)[[Q.LABELS, Q.R]]
        news = News(
            n=np.array([n]),
            r=np.array([n * r / max((whole - before)[Q.N], 1e-9)]),
            known_n=before[[Q.N]],
            known_r=before[[Q.R]],
            known_r2=before[[Q.R2]],
            believed=posterior.quality.mean[[task], 0],
            before=np.array([np.nan]),
        )
        reference = drift.close_bucket(reference, world.now_ms // BUCKET_MS - 1, news, level=1.0)
        world.alarms.take(world.alarms.look())
        found = world.alarms.known[A].watch
        assert [one.count for one in found.sums] == [one.count for one in reference.sums]
        values = [one.value for one in reference.sums]
        assert [one.value for one in found.sums] == pytest.approx(values, abs=1e-3)
        before = whole
        world.hear(2, 0.3)


def test_the_labels_of_another_store_are_no_change(world: World) -> None:
    world.hear(50, 0.9)
    world.close()
    known = world.alarms.known[A]
    world.hear(60, 0.0)
    world.client.hset(keys.META, "incarnation", "y")

    world.close()

    assert world.kinds() == []
    assert world.alarms.known[A] == known
    world.hear(20, 0.9)
    world.close()
    assert ("a", "up") not in world.kinds()[1:]


def test_a_store_with_fewer_labels_than_were_known_shows_no_change(world: World) -> None:
    world.hear(50, 0.9)
    world.close()
    known = world.alarms.known[A]
    seen = world.client.hget(keys.LOOKED_AT, f"{A:016x}")
    more = np.frombuffer(seen, dtype="<i8").copy()
    more[3:] *= 3  # of a single row: behind its key
    world.client.hset(keys.LOOKED_AT, f"{A:016x}", more.tobytes())

    world.close()

    assert world.kinds() == []
    assert world.alarms.known[A] == known
    world.hear(60, 0.0)
    world.close()
    assert world.kinds() == [("a", "down")], "it is watched on, from what the store holds now"


def test_what_the_last_version_knew_of_an_endpoint_goes_on(world: World) -> None:
    """Its sums were of another kind and begin anew; a fall that it found is in force."""
    old = {
        "watch": {"low": {"value": 3.0, "since": 9, "count": 4.0, "residual": -5.0}, "high": {},
                  "recall": {"value": 0.2}, "suspect": True, "shift": 0.9, "gap": 8,
                  "next_probe": 29_000_000, "probing": False},
        "regimes": {"now": 1, "full": [1], "reduced": [0], "level": 0.4, "before": [0]},
        "n": 120.0, "total": -33.0,
        "alarm": {"kind": "down", "at_ms": 5, "since_ms": 4, "labels": 20.0,
                  "mean_residual": -1.5, "factor": 0.4},
    }  # fmt: skip
    world.client.hset(keys.DRIFT, f"{A:016x}", json.dumps(old))
    assert world.alarms.take(world.alarms.look())

    known = world.alarms.known[A]

    assert (known.watch.suspect, known.watch.sums) == (True, CALM.sums)
    assert (known.regimes.now, known.regimes.level) == (1, 0.4)
    assert known.alarm is not None
    assert known.alarm.labels == 20.0
    world.close()
    assert world.alarms.known[A].watch.probing


def test_damaged_watches_count_as_none(world: World) -> None:
    world.client.hset(keys.DRIFT, mapping={f"{A:016x}": "{", "what": "{}", f"{B:016x}": "{}"})

    assert world.alarms.take(world.alarms.look())
    assert world.alarms.known == {B: EndpointWatch()}


# -- what ends by an alarm ----------------------------------------------------------------------


def alarm(at_ms: int, kind: AlarmKind = AlarmKind.DOWN) -> EndpointWatch:
    regimes = FIRST.opened(kind, 0.4)
    told = AlarmNotice(kind, at_ms, at_ms - 2 * BUCKET_MS, 24.0, -1.7, 0.4)
    return EndpointWatch(Watch(suspect=kind is AlarmKind.DOWN), regimes, told)


def test_an_alarm_that_names_the_choice_brings_the_review_forward() -> None:
    kept = Kept(SCOPE, 3, BEGUN.reviewed_at_ms, {"code": "b", "chat": "b", "general": "b"})
    now_ms = kept.reviewed_at_ms + WEEK_MS // 2
    a_is_better = rows([("code", "a", 100, 0.9), ("code", "b", 25, 0.2)])
    few = rows([("code", "a", 100, 0.9), ("code", "b", 5, 0.2)])

    def review(found: cells.Terms, alarmed_at_ms: list[int]) -> Any:
        posterior = beliefs(found).posterior
        return reviews.review(
            SCOPE, kept, posterior, ABC, now_ms=now_ms, alarmed_at_ms=alarmed_at_ms
        )

    assert review(a_is_better, [0, 0, 0]) is None
    assert review(a_is_better, [now_ms, 0, 0]) is None, "it names another"
    assert review(a_is_better, [0, kept.reviewed_at_ms, 0]) is None, "it was reviewed since"
    assert review(few, [0, now_ms, 0]) is None, "too few labels for a verdict: it waits"
    after, released = review(a_is_better, [0, now_ms, 0])
    assert after.reviewed_at_ms == now_ms
    assert ("code", "b", "a", "better") in [(r.task, r.before, r.after, r.reason) for r in released]


@pytest.mark.slow
@pytest.mark.usefixtures("store")  # end to end: a real one
def test_an_alarm_ends_sessions_moves_labels_and_is_shown(
    provider: Provider, state_dir: Path, address: Address, client: Any
) -> None:
    value = {
        "endpoints": [endpoint(provider, "a"), endpoint(provider, "b")],
        "tasks": {"code": None},
        "strategies": LEARN,
        "apps": {"default": {"mode": "route", "strategy": "learn"}},
    }
    with serving(value, state_dir, address) as sidecar, learning(state_dir, address):

        def served(session: str) -> str:
            got = sidecar.chat("auto/code", headers={"x-router-session-id": session})
            name = got.headers["x-router-endpoint"]
            sidecar.feedback(response_id=got.json()["id"], passed=name == "b")
            return str(name)

        first = {f"s{i}": served(f"s{i}") for i in range(40)}
        assert set(first.values()) == {"a", "b"}
        sidecar.until(lambda: sidecar.labels_known() == 40)
        assert {s: served(s) for s in first} == first
        sidecar.until(lambda: sidecar.labels_known() == 80)
        catalog = sidecar.app.keeper.current.configuration.catalog
        digest = catalog.by_id["a"].digest
        told = alarm(int(time.time() * 1000) + 1)
        client.hset(keys.DRIFT, f"{digest:016x}", msgspec.json.encode(told))
        sidecar.until(lambda: sidecar.app.keeper.current.known[0].regimes.now == 1)

        again = {s: served(s) for s in first}

        moved = [s for s in first if first[s] != again[s]]
        assert moved, "new draws, of posteriors that know better"
        assert {first[s] for s in moved} == {"a"}
        n_of_a = list(again.values()).count("a")

        def regimes() -> tuple[set[int], set[int]]:
            """Of the alarmed one's labels, and of the other's."""
            found = cells.from_bytes(*merged(client))
            mine, regime = found.keys["endpoint"] == digest, found.keys["regime"]
            return set(regime[mine].tolist()), set(regime[~mine].tolist())

        sidecar.until(lambda: regimes() == ({0, 1} if n_of_a else {0}, {0}))
        (shown,) = sidecar.http.get("/v1/router/posteriors").json()["alarms"]
        assert (shown["endpoint"], shown["kind"], shown["regime"]) == ("a", "down", 1)
        assert shown["suspect"] is True
        metrics = sidecar.http.get("/metrics").text
        assert "router_drift_alarms 1.0" in metrics
        assert "router_endpoints_suspect 1.0" in metrics
        (line,) = more_lines.alarm_lines([shown])
        assert line.startswith("a fell 20")
        assert line.endswith("rewards × 0.40, watched for a recovery")


def merged(client: Any) -> tuple[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for shard in range(2):
        found |= client.hgetall(keys.rows(shard))
    return b"".join(found), b"".join(found.values())
