"""Credit for a whole: one word on an episode counts once for each of its roles and endpoints.

What it is measured by: that word, said by hand of the first decision of each role and endpoint.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from conftest import (
    LEARN,
    ROUTED,
    SHARDS,
    Provider,
    Reply,
    Sidecar,
    endpoint,
    learning,
    pointsman,
    serving,
    until,
)
from pipeline import said_in_store
from test_hooks import claude_code, hook
from test_references import Bench
from test_thaw import OldLife
from test_young import DAY_MS, check, referee

from bandit import cells
from bandit.families import Family, P, Q, S
from bandit.parts import key_of
from router.dispatch.episodes import MOST_PARTS, NamedEpisodes
from router.dispatch.recent import RecentNames
from telemetry import events, frames, keys, references
from telemetry.digests import episode_digest, episode_name
from telemetry.events import FeedbackKind, Flag, Match, Result
from telemetry.frames import Frame
from telemetry.store import Address
from telemetry.tokens import Token, role_mark
from workers.archive import thaw as thaw_module
from workers.archive.rebuilt import Rebuilt, difference, parse_rows
from workers.archive.restore import restore
from workers.folding.held import References, take_up

NOW_MS = int(time.time() * 1000)
EPISODE = episode_digest("app", "e-1")
NAME = episode_name(EPISODE)
HUMAN, TEST, JUDGE = FeedbackKind.HUMAN, FeedbackKind.TEST, FeedbackKind.JUDGE
NAMING = int(Flag.FINAL | Flag.NAMES_EPISODE)


def token(n: int, part: tuple[int, int], at_ms: int) -> bytes:
    """A decision in a role, which is its category, served by an endpoint."""
    role, executed = part
    nonce = n.to_bytes(16, "big")
    return Token(
        *(1, 0, int(Flag.ROUTED), nonce, at_ms, role, 9, executed, 4, 5, 6, 7, 0.5, 0.5, 0.1),
        role=role,
    ).pack()


def outcome(n: int, part: tuple[int, int], at_ms: int, **more: Any) -> bytes:
    given = {"result": Result.OK, "flags": NAMING, "episode": EPISODE, **more}
    return events.outcome(token(n, part, at_ms), attempt=1, status=200, **given)


def event_id(number: int, received_ms: int) -> bytes:
    return received_ms.to_bytes(6, "big") + number.to_bytes(4, "big") + bytes(6)


def word(number: int, value: float | None, received_ms: int, **more: Any) -> bytes:
    """What the door writes of one word on the episode."""
    given = {"kind": HUMAN, "revision": 0, "reference": NAME, **more}
    return events.feedback(
        None,
        value=value,
        event=event_id(number, received_ms),
        app=5,
        match=Match.EPISODE,
        received_at_ms=received_ms,
        **given,
    )


def by_hand(body: bytes, number: int, value: float | None, received_ms: int, **more: Any) -> bytes:
    """The same word, on one decision."""
    given = {"kind": HUMAN, "revision": 0, **more}
    event = event_id(number, received_ms)
    return events.feedback(body, value=value, event=event, received_at_ms=received_ms, **given)


def labels(client: Any, n_shards: int = 1) -> dict[tuple[int, int, int], tuple[int, float]]:
    """Of every cell with labels: family, category or role mark, endpoint -> labels, reward."""
    rows: dict[bytes, bytes] = {}
    out: dict[tuple[int, int, int], tuple[int, float]] = {}
    for shard in range(n_shards):
        rows = client.hgetall(keys.rows(shard))
        found = cells.from_bytes(b"".join(rows), b"".join(rows.values()))
        for family, n, reward in (
            (Family.QUALITY, Q.LABELS, Q.R),
            (Family.ROLES, P.LABELS, P.REWARD),
        ):
            mine = cells.of_family(found, family)
            for key, sums in zip(mine.keys, mine.values, strict=True):
                if sums[n] or sums[reward]:
                    role = int(key["category"])
                    role -= int(key_of(np.uint64(0))) if family is Family.ROLES else 0
                    place = int(family), role, int(key["endpoint"])
                    before = out.get(place, (0, 0.0))
                    out[place] = before[0] + int(sums[n]), before[1] + float(sums[reward])
    return out


def is_alike(bench: Bench, records: list[bytes]) -> None:
    """The stored cells are those of `records`, folded at once."""
    whole, stored = Rebuilt(), Rebuilt()
    frame = frames.pack(Frame(frames.UNNUMBERED, 0, 0, b"".join(records)))
    whole.fold([(bench.shard.mark, {b"f": frame})])
    stored.rows = parse_rows(bench.client.hgetall(keys.rows(0)))
    assert difference(whole, stored) is None


@pytest.fixture
def bench(client: Any) -> Bench:
    return Bench(client)


PARTS = [(role, executed) for role in (1, 2, 3) for executed in (10, 11)]
FIRSTS = [outcome(1 + i, part, NOW_MS - 900 + i) for i, part in enumerate(PARTS)]
LATER = [outcome(11 + i, part, NOW_MS - 800 + i) for i, part in enumerate(PARTS)]
"""As another router named them, that did not know of the others."""


def once_each(value: float, number: int = 1, **more: Any) -> list[bytes]:
    """What one word comes to."""
    return [
        by_hand(token(1 + i, part, NOW_MS - 900 + i), number, value, NOW_MS, **more)
        for i, part in enumerate(PARTS)
    ]


# -- which decisions are meant ------------------------------------------------------------------


def test_one_outcome_is_one_label_for_each_role_and_endpoint(bench: Bench) -> None:
    bench.take(*FIRSTS, *LATER, word(1, 1.0, NOW_MS))
    bench.look()

    found = labels(bench.client)

    assert {place: n for place, (n, _) in found.items()} == {
        (family, role, executed): 1
        for family in (Family.QUALITY, Family.ROLES)
        for role, executed in PARTS
    }
    is_alike(bench, [*FIRSTS, *LATER, *once_each(1.0)])


def test_a_later_word_of_the_same_kind_corrects_and_null_retracts_to_nothing(bench: Bench) -> None:
    bench.take(*FIRSTS, word(1, 1.0, NOW_MS))
    bench.look()
    bench.take(word(2, 0.25, NOW_MS + 1))
    bench.look()
    corrected = labels(bench.client)
    is_alike(bench, [*FIRSTS, *once_each(0.25, 2)])
    bench.take(word(3, None, NOW_MS + 2))
    bench.look()

    assert {n for n, _ in corrected.values()} == {1}
    assert labels(bench.client) == {}
    is_alike(bench, FIRSTS)


def test_kinds_stand_beside_each_other_and_the_strongest_is_the_reward(bench: Bench) -> None:
    """A batch of several, a weaker one afterwards, and the strongest taken back."""
    batch = [word(1, 0.5, NOW_MS, kind=JUDGE), word(2, 1.0, NOW_MS, kind=TEST)]
    bench.take(*FIRSTS, *batch)
    bench.look()
    is_alike(bench, [*FIRSTS, *once_each(1.0, 2, kind=TEST), *once_each(0.5, 1, kind=JUDGE)])
    bench.take(word(3, 0.0, NOW_MS + 1, kind=HUMAN))
    bench.look()
    stronger = labels(bench.client)
    bench.take(word(4, None, NOW_MS + 2, kind=TEST))
    bench.look()

    assert {n for n, _ in stronger.values()} == {1}
    assert all(reward > 0 for _, reward in stronger.values())
    assert {n for n, _ in labels(bench.client).values()} == {1}
    assert all(reward == 0 for _, reward in labels(bench.client).values())


def test_late_decisions_get_credit_from_the_next_word_only(bench: Bench) -> None:
    bench.take(FIRSTS[0], word(1, 1.0, NOW_MS))
    bench.look()
    bench.take(outcome(21, (7, 12), NOW_MS + 5))
    bench.look()
    assert set(labels(bench.client)) == {(Family.QUALITY, 1, 10), (Family.ROLES, 1, 10)}

    bench.take(word(2, 1.0, NOW_MS + 10))
    bench.look()

    assert {n for n, _ in labels(bench.client).values()} == {1}
    assert len(labels(bench.client)) == 4


def test_a_first_answer_that_is_known_late_takes_over_what_a_later_one_was_given(
    bench: Bench,
) -> None:
    """It was under way when the word came; then it is corrected, and taken back."""
    bench.take(LATER[0], word(1, 1.0, NOW_MS))
    bench.look()
    assert {n for n, _ in labels(bench.client).values()} == {1}
    bench.take(FIRSTS[0], word(2, 0.0, NOW_MS + 10))
    bench.look()
    corrected = labels(bench.client)
    bench.take(word(3, None, NOW_MS + 20))
    bench.look()

    assert {value for value in corrected.values()} == {(1, 0.0)}
    assert labels(bench.client) == {}


def test_a_word_before_any_decision_means_the_first_one(bench: Bench) -> None:
    bench.take(word(1, 1.0, NOW_MS))
    bench.look()
    assert bench.n_waiting() == 1

    bench.take(outcome(1, (1, 10), NOW_MS + 20), outcome(2, (2, 10), NOW_MS + 30))
    for _ in range(3):
        bench.look()

    assert set(labels(bench.client)) == {(Family.QUALITY, 1, 10), (Family.ROLES, 1, 10)}


def test_a_word_that_comes_before_what_was_decided_is_folded_waits_for_it(bench: Bench) -> None:
    bench.take(word(1, 1.0, NOW_MS), *FIRSTS)
    bench.look()
    bench.look()

    is_alike(bench, [*FIRSTS, *once_each(1.0)])


def test_the_same_word_told_twice_counts_once(bench: Bench) -> None:
    bench.take(*FIRSTS, word(1, 1.0, NOW_MS), word(1, 1.0, NOW_MS))
    bench.look()
    bench.take(word(1, 1.0, NOW_MS))
    bench.look(20_000)
    bench.look(20_000)

    is_alike(bench, [*FIRSTS, *once_each(1.0)])


def test_what_only_failed_gets_no_credit(bench: Bench) -> None:
    failed = outcome(1, (1, 10), NOW_MS - 900, result=Result.SERVER, flags=int(Flag.FINAL))
    bench.take(failed, word(1, 1.0, NOW_MS))
    for _ in range(3):
        bench.look()

    assert labels(bench.client) == {}
    assert bench.n_waiting() == 1


@pytest.mark.parametrize("n", [101, 150, 400])
def test_of_more_names_than_are_kept_those_that_are_count(bench: Bench, n: int) -> None:
    many = [outcome(1 + i, (1 + i, 10), NOW_MS - 5000 + i) for i in range(n)]
    for start in range(0, n, 50):
        bench.take(*many[start : start + 50])
    bench.take(word(1, 1.0, NOW_MS))
    for _ in range(3):
        bench.look()

    roles = {role for family, role, _ in labels(bench.client) if family == Family.ROLES}
    assert roles == set(range(n - 100, n + 1))
    assert (bench.count("too_many"), bench.n_waiting()) == (0, 0)


def test_a_word_before_more_names_than_are_kept_means_the_first_that_is(bench: Bench) -> None:
    bench.take(word(1, 1.0, NOW_MS - 6000))
    many = [outcome(1 + i, (1 + i, 10), NOW_MS - 5000 + i) for i in range(150)]
    for start in range(0, 150, 50):
        bench.take(*many[start : start + 50])
    for _ in range(3):
        bench.look()

    assert set(labels(bench.client)) == {(Family.QUALITY, 50, 10), (Family.ROLES, 50, 10)}
    assert (bench.count("too_many"), bench.count("unmatched")) == (0, 0)


def test_a_killed_worker_credits_nobody_twice(bench: Bench) -> None:
    bench.take(*FIRSTS, word(1, 1.0, NOW_MS))
    bench.look()
    raw = word(1, 1.0, NOW_MS)
    bench.client.hset(keys.held(0), event_id(1, NOW_MS), raw)  # as if it had not been let go
    bench.client.hdel(keys.chosen(0), event_id(1, NOW_MS))
    bench.begin()
    bench.look()

    is_alike(bench, [*FIRSTS, *once_each(1.0)])


@pytest.mark.parametrize("seed", range(24))
def test_whatever_the_order_the_cells_are_those_of_one_credit_each(bench: Bench, seed: int) -> None:
    """Rounds of calls and words, each in any order and in any batches, told twice now and then."""
    dice = random.Random(seed)
    at_ms, n, said = NOW_MS - 3_600_000, 0, 0
    first: dict[tuple[int, int], bytes] = {}
    whole: list[bytes] = []
    for _ in range(dice.randint(1, 4)):
        records = []
        for _ in range(dice.randint(0, 8)):
            at_ms, n = at_ms + dice.randint(1, 50), n + 1
            part = dice.choice(PARTS)
            first.setdefault(part, token(n, part, at_ms))
            records.append(outcome(n, part, at_ms))
        calls = len(records)
        at_ms += 1
        whole += records
        for _ in range(dice.randint(0, 5) if first else 0):
            at_ms, said = at_ms + 1, said + 1
            value = dice.choice([None, 0.0, 0.25, 1.0])
            how = {"kind": dice.choice([HUMAN, TEST, JUDGE]), "revision": dice.randint(0, 1)}
            records += [word(said, value, at_ms, **how)] * dice.randint(1, 2)
            whole += [by_hand(body, said, value, at_ms, **how) for body in first.values()]
        assert calls <= len(records)
        dice.shuffle(records)
        while records:
            size = dice.randint(1, 6)
            bench.take(*records[:size])
            del records[:size]
        for _ in range(3):
            if dice.random() < 0.3:
                bench.begin()
            bench.look()
        bench.look()

    if whole:
        is_alike(bench, whole)
    assert bench.n_waiting() == 0


def test_an_outcome_that_names_its_episode_is_found_by_it_alone_once() -> None:
    named, other = outcome(1, (1, 10), NOW_MS), outcome(2, (1, 10), NOW_MS, flags=int(Flag.FINAL))
    attempt = outcome(3, (1, 10), NOW_MS, flags=int(Flag.NAMES_EPISODE))
    assert references.names_in(named) == [NAME]
    assert references.names_in(other) == references.names_in(attempt) == []
    assert references.names_in(outcome(1, (1, 10), NOW_MS, episode=0)) == []


def test_what_is_remembered_of_episodes_is_bounded() -> None:
    known, recent = NamedEpisodes(most=4), RecentNames()
    for episode in range(1, 20):
        for n in range(2):
            body = token(n, (1, 10), NOW_MS)
            assert known.is_first(episode, body) == (n == 0)
            known.note(episode, body)
    assert known.is_first(1, token(0, (1, 10), NOW_MS))
    assert not known.is_first(0, token(0, (1, 10), NOW_MS))

    for n in range(MOST_PARTS):
        recent.note(outcome(n, (1 + n, 10), NOW_MS))
    assert not recent.episodes.is_first(EPISODE, token(1, (999, 10), NOW_MS))
    assert recent.episodes.is_first(EPISODE + 1, token(1, (999, 10), NOW_MS))


# -- old decisions, and a lost store --------------------------------------------------------------


@pytest.fixture
def life(client: Any, state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> OldLife:
    life = OldLife(client, state_dir / "archive")
    now = thaw_module._now_ms
    monkeypatch.setattr(thaw_module, "_now_ms", lambda client: now(client) + 60_000)
    return life


def lived(life: OldLife, days: int) -> list[tuple[int, bytes]]:
    at_ms = life.real_ms() - days * DAY_MS
    calls = [(at_ms + i, outcome(1 + i, part, at_ms + i)) for i, part in enumerate(PARTS)]
    twice = [
        (at_ms + 50 + i, outcome(11 + i, part, at_ms + 50 + i)) for i, part in enumerate(PARTS)
    ]
    return calls + twice


def test_an_episode_of_old_decisions_is_credited_from_the_archive(life: OldLife) -> None:
    life.tell_at(lived(life, 5))
    life.come_to_now()
    heard_ms = life.real_ms()
    life.say(word(1, 1.0, heard_ms))
    life.settle()
    first = labels(life.client)
    life.say(word(2, 0.0, heard_ms + 5))
    life.settle()
    second = labels(life.client)
    life.say(word(3, None, heard_ms + 9))
    life.settle()

    assert {n for n, _ in first.values()} == {n for n, _ in second.values()} == {1}
    assert len(first) == len(second) == 2 * len(PARTS)
    assert labels(life.client) == {}
    assert life.client.hlen(keys.held(0)) == life.client.hlen(keys.cold(0)) == 0
    check(life.archive, referee(life))
    assert life.audit().equal


def test_of_an_episode_that_goes_on_for_days_old_and_young_are_credited(life: OldLife) -> None:
    """Also where a part of it was named again: the first answer is the one, at each word."""
    life.tell_at(lived(life, 5))
    life.come_to_now()
    at_ms = life.real_ms() - 1000
    again = [outcome(31 + i, part, at_ms + i) for i, part in enumerate(PARTS[:2])]
    life.tell(*again, outcome(41, (7, 12), at_ms))
    found = []
    for n, value in enumerate([1.0, 0.25, None], start=1):
        life.say(word(n, value, life.real_ms() + n))
        life.settle()
        found.append(labels(life.client))

    assert len(found[0]) == len(found[1]) == 2 * len(PARTS) + 2
    assert {n for n, _ in found[0].values()} == {n for n, _ in found[1].values()} == {1}
    assert found[2] == {}
    assert life.client.hlen(keys.held(0)) == life.client.hlen(keys.cold(0)) == 0
    assert life.client.hlen(keys.sought(0)) == 0
    check(life.archive, referee(life))
    assert life.audit().equal


def test_an_archive_that_nobody_asks_holds_an_episode_up_for_half_a_minute(life: OldLife) -> None:
    life.tell_at(lived(life, 5))
    life.come_to_now()
    at_ms = life.real_ms() - 1000
    life.tell(outcome(41, (7, 12), at_ms))
    life.say(word(1, 1.0, life.real_ms()))
    now = [0.0]
    found, owned = References(1, lambda: now[0]), [(life.shard, life.lease.token)]
    for now[0] in range(1, 40):
        found.look(life.client, owned, life.real_ms() + 60_000 + 1000 * int(now[0]))
        life.fold()
        if now[0] < 30:
            assert labels(life.client) == {}

    assert set(labels(life.client)) == {(Family.QUALITY, 7, 12), (Family.ROLES, 7, 12)}
    assert life.client.hlen(keys.held(0)) == life.client.hlen(keys.sought(0)) == 0
    assert not found.is_unsettled


def test_a_restored_store_credits_the_same_decisions(life: OldLife) -> None:
    """What was said before is corrected, not told beside it; young names are found again."""
    life.tell_at(lived(life, 5))
    life.come_to_now()
    at_ms = life.real_ms() - 1000
    life.tell(*(outcome(31 + i, part, at_ms + i, episode=77) for i, part in enumerate(PARTS)))
    life.say(word(1, 1.0, life.real_ms()), word(2, 1.0, life.real_ms(), reference=episode_name(77)))
    life.settle()
    before = labels(life.client)
    life.take()
    life.client.flushall()

    restore(life.archive)
    life.begin(24)
    life.lease.take()
    take_up(life.client, 0)
    life.settle()
    again = labels(life.client)
    told_ms = life.real_ms() + 5
    life.say(word(3, 0.0, told_ms), word(4, 0.0, told_ms, reference=episode_name(77)))
    life.settle()

    assert again == before
    assert {n for n, _ in before.values()} == {2}
    assert {n for n, _ in labels(life.client).values()} == {2}
    assert all(reward == 0 for _, reward in labels(life.client).values())
    assert life.audit().equal


def test_a_word_that_had_reached_some_when_the_store_was_lost_reaches_all(life: OldLife) -> None:
    life.tell_at(lived(life, 5)[:1])
    life.come_to_now()
    at_ms = life.real_ms() - 1000
    life.tell(*(outcome(31 + i, part, at_ms + i, episode=77) for i, part in enumerate(PARTS)))
    life.say(word(1, 1.0, life.real_ms(), reference=episode_name(77)))
    life.resolve_all()
    life.thaw()
    life.resolve_all()
    life.fold(count=2)
    assert len(labels(life.client)) == 4
    life.take()
    life.client.flushall()

    restore(life.archive)
    life.begin(24)
    life.lease.take()
    life.settle()

    assert len(labels(life.client)) == 2 * len(PARTS)
    assert {n for n, _ in labels(life.client).values()} == {1}


# -- over HTTP ------------------------------------------------------------------------------------

ROLES = ("coder", "judge", "planner")
MARKS = [role_mark(role) for role in ROLES]


def value(provider: Provider) -> dict[str, Any]:
    return {
        "providers": {
            "outside": {"base_url": provider.url("outside"), "auth": "none", "passthrough": True}
        },
        "endpoints": [endpoint(provider, "a"), endpoint(provider, "b")],
        "strategies": LEARN,
        "roles": {role: {} for role in ROLES},
        "apps": ROUTED,
    }


@pytest.fixture
def one(provider: Provider, state_dir: Path, address: Address) -> Iterator[Sidecar]:
    with serving(value(provider), state_dir, address) as found:
        yield found


def in_episode(
    role: str, episode: str = "e-1", name: str = "x-router-episode-id"
) -> dict[str, str]:
    return {"x-router-role": role, name: episode}


def play(sidecar: Sidecar, episode: str = "e-1", **more: Any) -> None:
    """Three roles, each with two calls of both endpoints."""
    for _ in range(2):
        for model in "ab":
            for role in ROLES:
                got = sidecar.chat(model, headers=in_episode(role, episode), **more)
                assert got.status_code == 200, got.text


def told(got: httpx.Response) -> list[tuple[str, int]]:
    assert got.status_code == 202, got.text
    return [(each["status"], each["decisions"]) for each in got.json()["results"]]


def role_labels(client: Any) -> dict[tuple[int, int], tuple[int, float]]:
    found = labels(client, SHARDS)
    return {key[1:]: sums for key, sums in found.items() if key[0] == Family.ROLES}


def quality_labels(client: Any) -> int:
    found = labels(client, SHARDS)
    return sum(n for (family, *_), (n, _) in found.items() if family == Family.QUALITY)


def rewards(client: Any) -> list[float]:
    return [reward for _, reward in role_labels(client).values()]


@pytest.mark.usefixtures("store")
def test_a_word_by_session_episode_or_path_reaches_every_role_once(
    one: Sidecar, state_dir: Path, address: Address, client: Any
) -> None:
    """Told, corrected by the path, and taken back."""
    cells_of = {(mark, one.digest(name)) for mark in MARKS for name in "ab"}
    with learning(state_dir, address):
        play(one)
        assert told(one.feedback(session_id="e-1", passed=False)) == [("accepted", 6)]
        until(lambda: rewards(client) == [0.0] * 6)
        batch = [{"thumb": "down"}, {"passed": True}]
        got = one.http.post("/v1/router/episodes/e-1/outcome", json=batch)
        assert told(got) == [("accepted", 6)] * 2
        until(lambda: len(rewards(client)) == 6 and min(rewards(client)) > 0)
        corrected = role_labels(client)
        n_labels = quality_labels(client)
        taken_back = [{"episode_id": "e-1", "passed": None}, {"episode_id": "e-1", "thumb": None}]
        told(one.http.post("/v1/feedback", json=taken_back))
        until(lambda: labels(client, SHARDS) == {})

    assert set(corrected) == cells_of
    assert {n for n, _ in corrected.values()} == {1}
    assert n_labels == 6


@pytest.mark.usefixtures("store")
def test_two_routers_that_name_the_same_credit_it_once(
    one: Sidecar, provider: Provider, state_dir: Path, address: Address, client: Any
) -> None:
    with (
        serving(value(provider), state_dir / "two", address) as two,
        learning(state_dir, address),
        learning(state_dir / "two", address),
    ):
        for _ in range(2):
            play(one)
            play(two)
        two.feedback(session_id="e-1", passed=True)
        until(lambda: len(role_labels(client)) == 6, within_s=20)
        one.feedback(session_id="e-1", passed=True)
        resolved = [0]

        def are_resolved() -> bool:
            found = [client.hget(keys.meta(s), "n_resolved") for s in range(SHARDS)]
            resolved[0] = sum(int(n or 0) for n in found)
            return resolved[0] == 2

        until(are_resolved, within_s=20)
        time.sleep(0.5)

    assert {n for n, _ in role_labels(client).values()} == {1}
    assert quality_labels(client) == 6


@pytest.mark.usefixtures("store")
def test_after_a_failover_who_answered_is_credited(
    provider: Provider, state_dir: Path, address: Address, client: Any
) -> None:
    provider.on("a", Reply(status=500, body=b"{}"))
    entries = value(provider)
    entries["apps"] = {"default": {"mode": "observe"}}
    with serving(entries, state_dir, address) as sidecar, learning(state_dir, address):
        for _ in range(2):
            got = sidecar.chat(headers=in_episode("coder"))
            assert (got.status_code, got.headers["x-router-endpoint"]) == (200, "b")
        assert told(sidecar.feedback(session_id="e-1", passed=True)) == [("accepted", 1)]
        until(lambda: role_labels(client))

        assert set(role_labels(client)) == {(MARKS[0], sidecar.digest("b"))}
        assert {n for n, _ in role_labels(client).values()} == {1}


@pytest.mark.usefixtures("store")
def test_streams_and_what_is_passed_on_are_part_of_the_whole(
    one: Sidecar, provider: Provider, state_dir: Path, address: Address, client: Any
) -> None:
    with learning(state_dir, address):
        one.chat("a", headers=in_episode("coder"), stream=True)
        passed_on = one.chat("unlisted", headers=in_episode("judge"))
        assert passed_on.status_code == 200
        one.until(lambda: told(one.feedback(session_id="e-1", score=0.5)) == [("accepted", 2)])
        until(lambda: len(role_labels(client)) == 2)

    assert {mark for mark, _ in role_labels(client)} == set(MARKS[:2])


def test_an_app_sees_its_own_episodes_only(
    provider: Provider, state_dir: Path, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONE", "key-one")
    monkeypatch.setenv("TWO", "key-two")
    entries = value(provider)
    entries["apps"] = {
        name: {"mode": "route", "strategy": "learn", "keys": [{"env": name.upper()}]}
        for name in ("one", "two")
    }
    with serving(entries, state_dir, address) as sidecar:
        sidecar.http.headers["x-router-key"] = "key-one"
        play(sidecar)
        assert told(sidecar.feedback(session_id="e-1", passed=True)) == [("accepted", 6)]
        sidecar.http.headers["x-router-key"] = "key-two"
        assert told(sidecar.feedback(session_id="e-1", passed=True)) == [("held", 0)]
        sidecar.http.headers["x-router-key"] = "nobody"
        got = sidecar.http.post("/v1/router/episodes/e-1/outcome", json={"passed": True})
        assert got.status_code == 401


@pytest.mark.parametrize("said", ["e-1", "a b/ü", "7.0", "x" * 300, "a//b", "outcome"])
def test_an_id_in_a_path_is_the_one_in_a_header_or_a_body(one: Sidecar, said: str) -> None:
    one.chat("a", headers={"x-router-session-id": said.encode()})  # type: ignore[dict-item]
    path = f"/v1/router/episodes/{quote(said, safe='')}/outcome"

    assert told(one.http.post(path, json={"passed": True})) == [("accepted", 1)]
    assert told(one.feedback(session_id=said, passed=True)) == [("accepted", 1)]
    assert told(one.feedback(episode_id=said, passed=True)) == [("accepted", 1)]


def test_an_id_is_one_at_every_door_however_a_number_or_blanks_are_written(one: Sidecar) -> None:
    one.chat("a", router={"session_id": " 7.0 "})

    for said in ("7", "7.0", " 7 "):
        path = f"/v1/router/episodes/{quote(said, safe='')}/outcome"
        assert told(one.http.post(path, json={"passed": True})) == [("accepted", 1)]
        assert told(one.feedback(session_id=said, passed=True)) == [("accepted", 1)]
        shown = one.http.get("/v1/router/decisions", params={"session": said}).json()
        assert len(shown["decisions"]) == 1
    assert one.feedback(session_id=" ", passed=True).status_code == 400


def test_a_call_without_a_session_is_of_no_episode(one: Sidecar) -> None:
    one.chat("a", headers={"x-router-role": "coder"})

    assert told(one.feedback(session_id="e-1", passed=True)) == [("held", 0)]


PATH = "/v1/router/episodes/e-1/outcome"
REFUSED: dict[str, tuple[str, Any, str, str]] = {
    "match": (
        "/v1/feedback",
        {"session_id": "e", "passed": True, "match": "all"},
        "match",
        "leave",
    ),
    "both": (
        "/v1/feedback",
        {"session_id": "e", "episode_id": "e", "passed": True},
        "episode_id",
        "exactly one",
    ),
    "beside": (
        "/v1/feedback",
        {"session_id": "e", "ref": "r", "passed": True},
        "session_id",
        "exactly one",
    ),
    "named": (PATH, {"decision_id": "d", "passed": True}, "decision_id", "the path names"),
    "named again": (PATH, {"session_id": "e-1", "passed": True}, "session_id", "the path names"),
    "in a batch": (PATH, [{"passed": True}, {"ref": "r", "passed": True}], "[1].ref", "the path"),
    "path and match": (PATH, {"passed": True, "match": "last"}, "match", "leave out match"),
    "no value": (PATH, {}, "score", "exactly one"),
    "empty": ("/v1/feedback", {"session_id": "", "passed": True}, "session_id", "0 characters"),
    "no text": ("/v1/feedback", {"session_id": 0.5, "passed": True}, "session_id", "whole"),
    "none": (PATH, [], "", "array of 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_with_a_word_on_an_episode_is_named(one: Sidecar, name: str) -> None:
    path, body, field, why = REFUSED[name]

    got = one.http.post(path, json=body)

    error = got.json()["error"]
    assert (got.status_code, error["code"]) == (400, "bad_feedback"), got.text
    assert (error.get("param") or "") == field
    assert why in error["message"]


def test_the_path_of_an_episode_takes_post_alone(one: Sidecar) -> None:
    assert one.http.get(PATH).status_code == 405
    assert one.http.post("/v1/router/episodes/outcome", json={}).status_code == 404
    assert one.http.post("/v1/router/episodes/a/b/outcome", json={}).status_code == 404
    metrics = one.http.get("/metrics").text
    one.http.post(PATH, json={"passed": 3})
    assert 'router_feedback{result="bad_feedback"}' not in metrics
    assert "bad_feedback" in one.http.get("/metrics").text


def test_derived_words_on_an_episode_are_not_taken_where_raters_are_told_apart(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    entries = value(provider)
    entries["apps"] = {"default": ROUTED["default"] | {"raters": True}}
    with serving(entries, state_dir, address) as sidecar:
        play(sidecar)
        refused = sidecar.feedback(session_id="e-1", retried=True)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "bad_feedback")
        assert told(sidecar.feedback(session_id="e-1", passed=True)) == [("accepted", 6)]


@pytest.mark.usefixtures("store")
def test_what_a_coding_agents_hook_reports_is_the_label_of_its_session(
    one: Sidecar, state_dir: Path, address: Address, client: Any
) -> None:
    """Tests that fail, then pass; a commit beside them, and a revert in their place."""
    session = claude_code("pytest")["session_id"]
    acts = [("pytest -q", 1, 0.0, S.TEST), ("pytest -q", 0, 1.0, S.TEST)]
    acts += [("git commit -m x", 0, 1.0, S.TEST), ("git revert --no-edit HEAD", 0, 0.0, S.HUMAN)]
    with learning(state_dir, address):
        for role in ROLES:
            headers = {"x-router-role": role, "x-claude-code-session-id": session}
            assert one.chat("a", headers=headers).status_code == 200
        for n, (command, exit_code, value, kind) in enumerate(acts, start=1):
            assert hook(claude_code(command, exit_code), one.port).returncode == 0
            until(lambda n=n: n_resolved(client) >= n, within_s=20)
            until(lambda kind=kind: kinds(client) == {kind}, within_s=20)
            until(lambda value=value: len(good(client)) == (len(ROLES) if value else 0))

    assert {n for n, _ in role_labels(client).values()} == {1}
    assert n_resolved(client) == len(acts) + 1, "a revert takes back and says"


def n_resolved(client: Any) -> int:
    return sum(int(client.hget(keys.meta(s), "n_resolved") or 0) for s in range(SHARDS))


def good(client: Any) -> list[float]:
    return [reward for reward in rewards(client) if reward > 0]


def kinds(client: Any) -> set[S]:
    """Of which kinds the labels are that are rewards."""
    rows = {k: v for s in range(SHARDS) for k, v in client.hgetall(keys.rows(s)).items()}
    found = cells.from_bytes(b"".join(rows), b"".join(rows.values()))
    sums = cells.of_family(found, Family.SIGNALS).values.sum(axis=0)
    return {kind for kind in S if sums[kind]}


@pytest.mark.parametrize("option", ["--session", "--episode"])
def test_the_verb_names_a_session(one: Sidecar, option: str) -> None:
    play(one)

    said = pointsman("feedback", option, "e-1", "--passed", "--url", one.url, "--json")
    held = pointsman("feedback", option, "e-2", "--thumb", "up", "--url", one.url)

    assert said.exit_code == 0, said.output
    (found,) = json.loads(said.stdout)["results"]
    assert (found["status"], found["decisions"]) == ("accepted", 6)
    assert held.stdout.startswith("held")


# -- calls that others dispatched -----------------------------------------------------------------


def ingested(n: int, **data: Any) -> dict[str, Any]:
    given = {"endpoint": "a", **data}
    given = {name: each for name, each in given.items() if each is not None}
    envelope = {"specversion": "1.0", "id": str(n), "source": "/test"}
    return {**envelope, "type": "pointsman.outcome.v1", "data": given}


def tell(sidecar: Sidecar, *batch: dict[str, Any], **headers: str) -> httpx.Response:
    kind = {"content-type": "application/cloudevents-batch+json"}
    return sidecar.http.post("/v1/events", content=json.dumps(batch), headers=kind | headers)


@pytest.mark.usefixtures("store")
def test_calls_that_others_tell_of_are_of_their_episode(
    one: Sidecar, state_dir: Path, address: Address, client: Any
) -> None:
    """Each endpoint once, whatever is told twice, dry or refused."""
    batch = [
        ingested(1, session_id="e-1", result="server", endpoint="b"),
        ingested(2, session_id="e-1"),
        ingested(3, episode_id="e-1", session_id="other"),
        ingested(4, episode_id="e-1", endpoint="b"),
        ingested(5),
    ]
    with learning(state_dir, address):
        assert tell(one, *batch, **{"x-router-dry-run": "1"}).status_code == 200
        assert tell(one, *batch, ingested(6, endpoint="nobody")).status_code == 400
        for _ in range(2):
            assert tell(one, *batch).status_code == 202
        assert told(one.feedback(session_id="e-1", passed=True)) == [("accepted", 2)]
        assert told(one.feedback(session_id="other", passed=True)) == [("held", 0)]
        until(lambda: quality_labels(client) == 2)

    found = labels(client, SHARDS)
    assert {key[2] for key in found} == {one.digest("a"), one.digest("b")}


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_files_name_sessions(
    one: Sidecar, state_dir: Path, address: Address, client: Any, tmp_path: Path, form: str
) -> None:
    """Rows of calls have a session; a row without an endpoint is a word on one, or on an answer."""
    calls = [
        {"endpoint": "a", "session_id": "7", "ref": "r-1"},
        {"endpoint": "b", "session_id": "7", "ref": "r-2"},
        {"endpoint": "b", "session_id": "8", "ref": "r-3"},
    ]
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    words = [
        {"session_id": "7", "ref": None, "passed": True, "time": now},
        {"session_id": "8", "ref": "r-3", "passed": True, "time": now},
    ]
    with learning(state_dir, address):
        for name, rows in (("calls", calls), ("words", words)):
            path = tmp_path / f"{name}.{form}"
            write(path, rows)
            said = pointsman("ingest", path, "--url", one.url, "--json")
            assert said.exit_code == 0, said.output
            assert json.loads(said.stdout.splitlines()[-1])["accepted"] == len(rows)
        until(lambda: quality_labels(client) == 3)

    assert len(said_everywhere(client)) == 3


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    import polars as pl

    frame = pl.DataFrame(rows)
    match path.suffix:
        case ".csv":
            frame.write_csv(path)
        case ".jsonl":
            frame.write_ndjson(path)
        case _:
            frame.write_parquet(path)


def said_everywhere(client: Any) -> set[bytes]:
    return {name for shard in range(SHARDS) for name in said_in_store(client, shard)}
