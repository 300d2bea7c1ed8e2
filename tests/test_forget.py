"""`forget`: what is kept of a user goes, by the keyed hash that it is kept by; and no name is kept.

Rater rows go by an event, once, at one place of the stream, and the same in an audit.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest
from conftest import (
    LEARN,
    SHARDS,
    Provider,
    Sidecar,
    endpoint,
    learning,
    pointsman,
    serving,
    until,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from test_raters import DAY, KEY, NONCES, NOW_MS, Life, n_counted, said, token
from test_roster import worker

from bandit.steps import Step
from router.decision import shared_draws
from router.decision.context import Routings
from router.decision.draws import Draws
from router.decision.shared_draws import StoredDraw
from router.decision.units import (
    EARLIER_MS,
    Unit,
    conversation,
    is_of_user,
    unit_of,
    user_hash,
)
from router.endpoints.entries import Dialect
from router.policy.callers import Caller
from router.policy.standing import PolicyTable
from telemetry import conversations, decoding, frames, keys
from telemetry.events import Kind
from telemetry.forgetting import (
    drop_conversations,
    drop_draws,
    forget_record,
    note_forgotten,
    read_forgotten,
)
from telemetry.frames import Frame
from telemetry.secret import UnitSecrets
from telemetry.store import Address, prepare
from telemetry.tokens import user_of
from workers.archive.archive import Archive
from workers.archive.audit import audit_state
from workers.archive.rebuilt import Rebuilt, difference
from workers.archive.restore import restore
from workers.folding.batch import Entries
from workers.folding.raters import tokens_in
from workers.folding.shard import Shard

ANN, BOB = (7).to_bytes(8, "little"), (8).to_bytes(8, "little")
EVENT = NOW_MS.to_bytes(6, "big") + bytes(10)


def forgotten(user: bytes = ANN, *, n_shards: int = 1) -> bytes:
    return forget_record(app=6, user=user, n_shards=n_shards, at_ms=NOW_MS, event=EVENT)


def rated(*places: int, user: int = 7, value: float = 1.0, at: int = 0) -> list[bytes]:
    return [said(token(NONCES[n], user=user), value, at=at, revision=at) for n in places]


def entries_of(records: list[list[bytes]]) -> Entries:
    out: Entries = []
    for i, those in enumerate(records):
        frame = frames.pack(Frame(frames.UNNUMBERED, 0, 0, b"".join(those)))
        out.append((b"%d-%d" % (NOW_MS, i), {b"f": frame}))
    return out


def folded(*records: list[bytes]) -> Rebuilt:
    state = Rebuilt(raters_key=KEY)
    state.fold(entries_of(list(records)))
    return state


def whose(rows: dict[Any, bytes]) -> set[bytes]:
    return {user_of(one) for row in rows.values() for one in tokens_in(row)}


# -- the record ---------------------------------------------------------------------------------


@pytest.mark.parametrize("n_shards", [1, 3, 8])
def test_the_event_names_the_user_by_hash_and_goes_where_that_rater_is_folded(
    n_shards: int,
) -> None:
    (record,), bad = decoding.decode(forgotten(n_shards=n_shards))

    assert not bad
    assert (int(record["kind"]), int(record["token"]["user"])) == (Kind.FORGET, 7)
    assert int(record["token"]["app"]) == 6
    assert int(record["token"]["shard"]) == 7 % n_shards
    told = [
        forget_record(app=6, user=ANN, n_shards=n_shards, at_ms=NOW_MS, event=EVENT, beside=beside)
        for beside in range(n_shards)
    ]
    shards = decoding.decode(b"".join(told))[0]["token"]["shard"]
    assert sorted(shards.tolist()) == list(range(n_shards))
    assert int(record["received_at_ms"]) == NOW_MS


def test_a_look_at_a_frame_tells_whether_it_forgets_somebody() -> None:
    plain = frames.pack(Frame(b"p" * 16, 0, 4, b"".join(rated(0, 1, 2))))
    other = frames.pack(Frame(b"p" * 16, 0, 4, b"".join([*rated(0), forgotten(), *rated(1)])))

    assert not frames.holds(plain, Kind.FORGET)
    assert frames.holds(other, Kind.FORGET)
    assert not frames.holds(b"", Kind.FORGET)
    assert not frames.holds(b"PMF1" + other[4:], Kind.FORGET)


# -- raters' rows: pure -------------------------------------------------------------------------


def test_the_rows_of_the_user_go_and_those_of_others_stay() -> None:
    state = folded([*rated(0, 1), *rated(2, 3, user=8)], [forgotten()])

    assert whose(state.raters) == {BOB}
    assert n_counted(state) == 4, "what was counted names nobody, and stays"


def test_the_next_labels_of_the_user_count_as_a_new_raters() -> None:
    before = folded(rated(0, 1, 2, 3))
    after = folded(rated(0, 1, 2, 3), [forgotten()], rated(4, 5, 6, 7))

    assert n_counted(before) == 3
    assert n_counted(after) == 3 + 3
    (row,) = after.raters.values()
    assert tokens_in(row) == tokens_in(next(iter(folded(rated(4, 5, 6, 7)).raters.values())))


def test_what_counted_before_is_counted_once_whatever_is_said_of_it_later() -> None:
    words, again = rated(0, 1, 2), rated(0, 1, 2, value=0.0, at=1)

    state = folded(words, [forgotten()], again)

    assert difference(state, folded(words)) is None
    assert state.raters == {}


def test_it_takes_effect_behind_its_entry_and_before_the_next() -> None:
    first = folded([*rated(0), forgotten(), *rated(1)], rated(2))
    second = folded([*rated(0, 1), forgotten()], rated(2))

    assert first.raters == second.raters
    assert difference(first, second) is None


@settings(max_examples=100)
@given(st.randoms(use_true_random=False))
def test_how_entries_are_grouped_shows_nowhere(dice: random.Random) -> None:
    places = [(dice.randrange(8), i) for i in range(20)]
    told = [rated(place, user=7 + place % 2, at=i) for place, i in places]
    told += [[forgotten(dice.choice([ANN, BOB]))] for _ in range(3)]
    dice.shuffle(told)
    records = []
    while told:
        n = dice.randint(1, 3)
        records.append([one for those in told[:n] for one in those])
        del told[:n]
    entries, parts = entries_of(records), Rebuilt(raters_key=KEY)

    whole = folded(*records)
    while entries:
        n = dice.randint(1, 5)
        parts.fold(entries[:n])
        del entries[:n]

    assert difference(whole, parts) is None
    assert whole.raters == parts.raters


# -- raters' rows: in the store, the archive and after a restore --------------------------------


@pytest.fixture
def life(client: Any, state_dir: Path) -> Life:
    return Life(client, state_dir / "archive")


def rows_in(life: Life) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = life.client.hgetall(keys.raters(0, DAY))
    return found


def count(life: Life, name: str) -> int:
    return int(life.client.hget(keys.meta(0), name) or 0)


def test_in_the_store_the_rows_go_with_the_commit_of_the_event(life: Life) -> None:
    life.fold(*rated(0, 1), *rated(2, user=8))
    life.fold(*rated(3), forgotten())

    assert whose(rows_in(life)) == {BOB}
    assert (count(life, "n_forgotten"), count(life, "n_forgotten_rows")) == (1, 1)
    assert count(life, "n_dead") == 0
    life.fold(*rated(4))
    assert whose(rows_in(life)) == {ANN, BOB}


def test_a_row_that_the_very_entry_makes_goes_too(life: Life) -> None:
    life.fold(forgotten(), *rated(0))

    assert rows_in(life) == {}


def test_entries_behind_the_event_come_with_the_next_round(life: Life) -> None:
    parts = [rated(0), [forgotten()], rated(1)]
    entries: Entries = []
    for part in parts:
        frame = frames.pack(Frame(frames.UNNUMBERED, 0, 0, b"".join(part)))
        entries.append((life.client.xadd(keys.stream(0), {"f": frame}), {b"f": frame}))

    life.shard.fold(entries, token=life.lease.token)
    assert life.shard.mark == entries[1][0]
    assert rows_in(life) == {}

    life.shard.fold(entries[2:], token=life.lease.token)
    assert life.shard.mark == entries[2][0]
    assert whose(rows_in(life)) == {ANN}


def test_a_frame_that_comes_twice_forgets_once(life: Life) -> None:
    """What was rated between the two stays: the repetition is told by its number."""
    frame = frames.pack(Frame(b"p" * 16, 0, 0, forgotten()))

    def come() -> None:
        entry_id = life.client.xadd(keys.stream(0), {"f": frame})
        life.shard.fold([(entry_id, {b"f": frame})], token=life.lease.token)

    life.fold(*rated(0))
    come()
    life.fold(*rated(1))
    come()

    assert whose(rows_in(life)) == {ANN}
    assert count(life, "n_forgotten") == 1
    assert count(life, "n_repeated") == 1


@pytest.mark.parametrize("is_committed", [False, True])
def test_a_kill_before_or_after_the_commit_forgets_exactly_once(
    life: Life, monkeypatch: pytest.MonkeyPatch, is_committed: bool
) -> None:
    life.fold(*rated(0, 1))
    frame = frames.pack(Frame(b"p" * 16, 0, 0, forgotten()))
    entry = (life.client.xadd(keys.stream(0), {"f": frame}), {b"f": frame})
    from workers.folding import together as module

    run_all = module.run_all

    def killed(*arguments: Any) -> Any:
        if is_committed:
            run_all(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "run_all", killed)
        with pytest.raises(KeyboardInterrupt):
            life.shard.fold([entry], token=life.lease.token)

    assert rows_in(life) == {} if is_committed else whose(rows_in(life)) == {ANN}
    life.shard = Shard(life.client, 0)  # whoever takes over begins from what the store says
    life.shard.load()
    left = [e for e in life.client.xrange(keys.stream(0)) if e[0] > life.shard.mark]
    assert len(left) == (not is_committed)
    if left:
        life.shard.fold(left, token=life.lease.token)

    assert rows_in(life) == {}
    assert count(life, "n_forgotten") == 1
    assert audit_state(life.archive).equal


@pytest.mark.slow
@pytest.mark.usefixtures("store")  # workers are killed, and it is what they leave that counts
def test_workers_that_are_killed_forget_each_time_once(
    state_dir: Path, address: Address, client: Any
) -> None:
    """A frame is sent a second time behind labels of after it: those stay."""
    prepare(client, shards=SHARDS)
    users = [(n * SHARDS).to_bytes(8, "little") for n in range(1, 31)]  # all of shard 0
    sent = 0

    def send(*records: bytes) -> bytes:
        nonlocal sent
        frame = frames.pack(Frame(b"p" * 16, 0, sent, b"".join(records)))
        sent += len(records)
        client.xadd(keys.stream(0), {"f": frame})
        return frame

    def label(n: int, user: bytes) -> bytes:
        number = int.from_bytes(user, "little")
        body = token((n << 8 | 1).to_bytes(16, "big"), user=number)
        return said(body[:2] + bytes(2) + body[4:], 1.0)

    for round_, part in enumerate((users[:10], users[10:20], users[20:])):
        with worker(state_dir, address):
            for n, user in enumerate(part):
                send(*(label(1000 * round_ + 10 * n + i, user) for i in range(3)))
                again = send(forget_record(app=6, user=user, n_shards=SHARDS, at_ms=NOW_MS,
                                           event=EVENT))  # fmt: skip
                send(label(1000 * round_ + 10 * n + 4, user))
                client.xadd(keys.stream(0), {"f": again})
            wanted = 10 * round_ + 3
            until(lambda n=wanted: n_in(client, "n_forgotten") >= n, within_s=60)
    with learning(state_dir, address):
        until(lambda: n_in(client, "n_forgotten") == len(users), within_s=60)
        until(lambda: n_in(client, "n_feedback") == 4 * len(users), within_s=60)

    rows = client.hgetall(keys.raters(0, DAY))
    assert sorted(user_of(row) for row in rows.values()) == sorted(users)
    assert {len(tokens_in(row)) for row in rows.values()} == {1}
    assert (n_in(client, "n_forgotten_rows"), n_in(client, "n_dead")) == (len(users), 0)
    result = audit_state(Archive(client, state_dir / "archive", SHARDS))
    assert (result.equal, result.difference) == (True, None)


def n_in(client: Any, name: str) -> int:
    return int(client.hget(keys.meta(0), name) or 0)


def test_an_audit_forgets_as_the_learner_did(life: Life) -> None:
    steps = [rated(0, 1, 2, 3), [forgotten()], rated(4, 5), rated(0, value=0.0, at=1), rated(6, 7)]
    for records in steps:
        life.fold(*records)
        life.take()
    life.fold(*rated(5, value=0.5, at=2), forgotten())

    result = audit_state(life.archive)

    assert (result.equal, result.difference, result.files) == (True, None, 5)


def test_a_restored_store_has_forgotten_too(life: Life) -> None:
    life.fold(*rated(0, 1, 2), *rated(3, user=8))
    life.take()
    life.fold(forgotten())
    life.fold(*rated(4))
    life.take()
    kept = rows_in(life)
    life.client.flushall()

    restore(life.archive)

    assert rows_in(life) == kept
    assert len(kept) == 2
    life.begin()
    life.fold(*rated(5, 6, 7))
    assert n_counted(life.state()) == 3 + 1 + 3


# -- keys of units and conversations ------------------------------------------------------------

SECRETS = UnitSecrets(b"k" * 32, None, since_ms=0)
LATER_S = 1e9


def unit(**more: Any) -> Unit:
    value = {"secrets": SECRETS, "app": "shop", "app_digest": 1, "user": "ann", "session": None}
    value |= {"stateless": False, "now": LATER_S, "draw_key": "t"}
    return unit_of(**{**value, **more})


@pytest.mark.parametrize("session", [None, "chat-1"])
def test_all_units_of_a_user_begin_with_the_hash_that_its_tokens_carry(session: str | None) -> None:
    ann = user_hash(SECRETS.now, "shop", "ann")
    found = [unit(session=session, is_users=True, draw_key=key) for key in ("t", "u", "v")]
    found.append(unit(session=session, is_users=True, now=LATER_S + 90_000))

    for one in found:
        assert one.key is not None
        assert one.user == ann == one.key[:8]
        assert is_of_user(one.key, ann)
        assert len(one.key) == 16
    assert len({one.session(b"n" * 16) for one in found}) == (3 if session else 4)
    assert not is_of_user(unit(user="bob").key or b"", ann)
    assert not is_of_user(unit(app="desk").key or b"", ann)


def test_no_key_can_be_made_without_the_secret() -> None:
    others = UnitSecrets(b"o" * 32)
    for more in ({}, {"session": "s"}, {"user": None}, {"user": None, "session": "s"}):
        mine, theirs = unit(**more), unit(secrets=others, **more)
        assert mine.key is not None
        assert theirs.key is not None
        assert mine.key != theirs.key
        assert mine.key[8:] != theirs.key[8:]
        assert (mine.key[:8] == theirs.key[:8]) is False
    unkeyed = blake2b(f"u\x1f1\x1fann\x1f{int(LATER_S // 86_400)}\x1ft".encode(), digest_size=16)
    assert unit().key != unkeyed.digest()


def test_for_a_day_after_the_change_a_unit_is_known_by_its_earlier_key() -> None:
    """That is the one of the version before, or the one by the secret before."""
    changed = LATER_S * 1000 - 60_000
    since = UnitSecrets(b"k" * 32, None, since_ms=int(changed))
    moved = UnitSecrets(b"k" * 32, b"b" * 32, since_ms=int(changed))
    slot = int(LATER_S // 86_400)
    unkeyed = blake2b(f"u\x1f1\x1fann\x1f{slot}\x1ft".encode(), digest_size=16).digest()

    assert unit(secrets=since).earlier == unkeyed
    assert unit(secrets=moved).earlier == unit(secrets=UnitSecrets(b"b" * 32)).key
    assert unit(secrets=since, now=(changed + EARLIER_MS) / 1000 + 1).earlier is None
    began = unit(secrets=since)
    assert began.seed(began.began_ms) == unkeyed
    assert began.seed(changed + 1) == began.seed(None) == began.key


def test_a_users_conversation_is_known_by_what_was_said_and_ends_with_the_user() -> None:
    ann, bob = (user_hash(SECRETS.now, "shop", name) for name in ("ann", "bob"))
    keys_of = [conversation(1, [b"hello"], "t", user=user) for user in (ann, bob, b"")]

    assert len(set(keys_of)) == 3
    assert all(len(key) == 16 for key in keys_of)
    assert [is_of_user(key, ann) for key in keys_of] == [True, False, False]
    # Of nobody's it is the one that earlier versions made.
    h = blake2b(b"c\x1f1\x1ft" + b"hello\x1f", digest_size=16)
    assert keys_of[2] == h.digest()


# -- draws in the store -------------------------------------------------------------------------


def draw(endpoint: int = 3) -> StoredDraw:
    return StoredDraw(endpoint, 0.5, NOW_MS, 1, Step.SAMPLE)


@pytest.mark.usefixtures("store")  # a real one: what it keeps, how, and for how long
def test_draws_and_conversations_of_one_user_go_and_all_others_stay(client: Any) -> None:
    ann, bob = (user_hash(SECRETS.now, "shop", name) for name in ("ann", "bob"))
    for user, n in (("ann", 1500), ("bob", 40)):
        for i in range(n):
            own = unit(user=user, session=f"s{i}", is_users=True).key
            assert own is not None
            client.set(keys.draw(own.hex()), draw().pack(), px=60_000)
        for i in range(n):
            key = conversation(1, [b"%d" % i], "t", user=ann if user == "ann" else bob)
            client.execute_command(
                *conversations.note(key, draw().pack_conversation(), ttl_ms=86_400_000)
            )

    assert drop_draws(client, ann) == 1500
    assert drop_conversations(client, ann) == 1500

    assert sum(1 for _ in client.scan_iter(keys.draw("*"))) == 40
    left = [conversation(1, [b"%d" % i], "t", user=bob) for i in range(40)]
    assert all(client.execute_command(*conversations.look_up(key)) for key in left)
    gone = [conversation(1, [b"%d" % i], "t", user=ann) for i in range(1500)]
    assert not any(client.execute_command(*conversations.look_up(key)) for key in gone)
    assert (drop_draws(client, ann), drop_conversations(client, ann)) == (0, 0)


def test_who_was_forgotten_is_known_for_a_day(client: Any) -> None:
    note_forgotten(client, [ANN], now_ms=NOW_MS - 2 * 86_400_000)
    note_forgotten(client, [BOB], now_ms=NOW_MS)

    assert read_forgotten(client.hgetall(keys.FORGOTTEN)) == {BOB: NOW_MS}
    assert 86_400 < client.ttl(keys.FORGOTTEN) <= 26 * 3600
    assert read_forgotten({ANN: b"x"}) == {}


def test_a_process_forgets_draws_and_what_it_was_yet_to_write(address: Address) -> None:
    async def run() -> None:
        draws, now = Draws(Address("unix:///nowhere")), time.time()
        ann = user_hash(SECRETS.now, "shop", "ann")
        for user in ("ann", "bob"):
            for session in ("s", None):
                own = unit(user=user, session=session, now=now, is_users=True)
                assert own.key is not None
                await draws.claim(own.key, draw(), own, now=now)
            mine = user_hash(SECRETS.now, "shop", user)
            talk = conversation(1, [b"x"], "t", user=mine)
            draws.note_conversation(talk, draw(), now=now)
        assert (draws.n_known, draws.shared.n_unwritten) == (6, 6)

        assert draws.forget([ann]) == 3

        assert (draws.n_known, draws.shared.n_unwritten) == (3, 3)
        gone, stays = (unit(user=user, session="s", is_users=True) for user in ("ann", "bob"))
        assert draws.get(gone.key or b"", now=now) is None
        assert draws.get(stays.key or b"", now=now) is not None

    asyncio.run(run())


# -- from a call to the verb --------------------------------------------------------------------


def configuration(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    apps = {}
    for name, is_rated in (("shop", True), ("desk", False)):
        monkeypatch.setenv(f"KEY_OF_{name.upper()}", f"key-of-{name}")
        own = [{"env": f"KEY_OF_{name.upper()}"}]
        apps[name] = {"mode": "route", "strategy": "learn", "raters": is_rated, "keys": own}
    monkeypatch.setenv("ADMIN", "the-admin")
    endpoints = [endpoint(provider, name) for name in "abcd"]
    return {
        "server": {"admin_key": {"env": "ADMIN"}},
        "endpoints": endpoints,
        "tasks": {"code": None, "chat": None},
        "strategies": LEARN,
        "apps": apps,
    }


@pytest.fixture
def shop(
    provider: Provider, state_dir: Path, address: Address, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Sidecar]:
    with serving(configuration(provider, monkeypatch), state_dir, address) as found:
        found.until(lambda: found.app.keeper.store_up)
        yield found


@pytest.fixture
def shop_of_before(
    provider: Provider, state_dir: Path, address: Address, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Sidecar]:
    """Like `shop`, in a directory in which the version before kept the key that sealed."""
    state_dir.mkdir(exist_ok=True)
    (state_dir / "token.key").write_bytes(b"k" * 32)
    with serving(configuration(provider, monkeypatch), state_dir, address) as found:
        found.until(lambda: found.app.keeper.store_up)
        yield found


def call(shop: Sidecar, user: str | None, *, app: str = "shop", **more: Any) -> Any:
    headers = {"x-router-key": f"key-of-{app}", **more.pop("headers", {})}
    if user is not None:
        headers["x-router-user"] = user
    return shop.chat(headers=headers, **more)


def ask(shop: Sidecar, **body: Any) -> Any:
    return shop.http.post(
        "/v1/router/forget", json=body, headers={"authorization": "Bearer the-admin"}
    )


def draws_in(client: Any) -> int:
    return sum(1 for _ in client.scan_iter(keys.draw("*")))


def talk(shop: Sidecar, user: str, **more: Any) -> str:
    first = [{"role": "user", "content": f"I am {user}"}]
    got = call(shop, user, messages=first, **more)
    return str(got.headers["x-router-endpoint"])


@pytest.mark.usefixtures("store")
def test_everything_drawn_for_a_user_goes_and_the_next_call_draws_anew(
    shop: Sidecar, client: Any
) -> None:
    """In all tasks and conversations, whatever the process remembers; others' stays, and sessions'.

    What a session drew is the app's, and tells of no user.
    """
    for user in ("ann", "bob"):
        for task in ("code", "chat"):
            talk(shop, user)
            call(shop, user, headers={"x-router-task": task, "x-router-session-id": "s"})
            call(shop, user, headers={"x-router-task": task})
    call(shop, "ann", app="desk")
    shop.until(lambda: shop.app.draws.shared.n_unwritten == 0)
    before = draws_in(client)
    known = shop.app.draws.n_known + shop.app.sessions.n_known
    # Drawn anew they might come to the endpoint that they had: another one is stored.
    (secret, now) = (shop.app.keeper.secrets.users.of_units.now, time.time())
    app = shop.app.keeper.current.configuration.apps["shop"]

    got = ask(shop, user="ann", app="shop")

    deleted = got.json()
    assert got.status_code == 200, deleted
    assert (deleted["apps"], deleted["rater_rows"]) == (1, 0)
    assert deleted["draws"] == 3
    assert deleted["conversations"] > 0
    assert deleted["in_memory"] == known - shop.app.draws.n_known - shop.app.sessions.n_known
    assert draws_in(client) == before - 3
    ann = user_hash(secret, app.name, "ann")
    assert not list(client.scan_iter(keys.draws_of(ann.hex())))
    assert read_forgotten(client.hgetall(keys.FORGOTTEN))[ann] <= now * 1000 + 5000
    assert sum(shop.app.metrics.decisions.values()) > 0
    n_drawn = sum(shop.app.metrics.decisions.values())
    call(shop, "ann")
    assert sum(shop.app.metrics.decisions.values()) == n_drawn + 1
    call(shop, "bob")
    call(shop, "ann", app="desk")
    assert sum(shop.app.metrics.decisions.values()) == n_drawn + 1
    assert draws_in(client) == before - 2


@pytest.mark.usefixtures("store")
def test_another_router_forgets_within_a_second(
    shop: Sidecar,
    provider: Provider,
    state_dir: Path,
    address: Address,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    value = configuration(provider, monkeypatch)
    with serving(value, state_dir / "other", address) as other:
        other.until(lambda: other.app.keeper.store_up)
        for sidecar in (shop, other):
            call(sidecar, "ann")
            call(sidecar, "bob")
        n_drawn = sum(other.app.metrics.decisions.values())
        began = time.monotonic()

        assert ask(shop, user="ann").json()["draws"] == 1
        other.until(lambda: bool(other.app.keeper.forgotten.since_ms))

        assert time.monotonic() - began < 5
        call(other, "bob")
        assert sum(other.app.metrics.decisions.values()) == n_drawn
        call(other, "ann")
        assert sum(other.app.metrics.decisions.values()) == n_drawn + 1


def test_a_draw_of_before_counts_no_more_wherever_it_is_met(shop: Sidecar, client: Any) -> None:
    """Such as one that another router wrote on while it had not heard yet."""
    call(shop, "ann")
    shop.until(lambda: draws_in(client) == 1)
    (name,) = client.scan_iter(keys.draw("*"))
    stored = client.get(name)
    ask(shop, user="ann")
    shop.until(lambda: bool(shop.app.keeper.forgotten.since_ms))
    client.set(name, stored, px=60_000)

    call(shop, "ann")

    shop.until(lambda: client.get(name) != stored)
    fresh = StoredDraw.unpack(client.get(name))
    old = StoredDraw.unpack(stored)
    assert fresh is not None
    assert old is not None
    assert fresh.decided_at_ms > old.decided_at_ms


@pytest.mark.usefixtures("store")
def test_as_a_rater_the_user_begins_anew(shop: Sidecar, state_dir: Path, client: Any) -> None:
    def rate(user: str, n: int) -> None:
        for _ in range(n):
            got = call(shop, user, headers={"x-router-task": "code"}, model="a")
            body = {"decision_id": got.headers["x-router-decision-id"], "passed": True}
            key = {"x-router-key": "key-of-shop"}
            assert shop.http.post("/v1/feedback", json=body, headers=key).status_code == 202

    def rows() -> dict[bytes, bytes]:
        out: dict[bytes, bytes] = {}
        for shard, day in itertools.product(range(SHARDS), (DAY - 1, DAY, DAY + 1)):
            out |= client.hgetall(keys.raters(shard, day))
        return out

    def counted(name: str) -> int:
        return sum(int(client.hget(keys.meta(n), name) or 0) for n in range(SHARDS))

    with learning(state_dir, shop.app.writer.address):
        rate("ann", 5)
        rate("bob", 1)
        shop.until(lambda: counted("n_feedback") == 6)
        assert (len(rows()), counted("n_not_counted")) == (2, 2)

        deleted = ask(shop, user="ann").json()

        assert (deleted["apps"], deleted["rater_rows"]) == (2, 1)
        assert deleted["rater_rows_left"] == 0
        assert len(rows()) == 1
        rate("ann", 2)
        shop.until(lambda: counted("n_feedback") == 8)
        assert (len(rows()), counted("n_not_counted")) == (2, 2)
    assert counted("n_dead") == 0


def test_without_a_worker_it_says_what_waits(
    shop: Sidecar, monkeypatch: pytest.MonkeyPatch, client: Any
) -> None:
    from router.intake import forget as module

    monkeypatch.setattr(module, "LEARNER_S", 0.3)
    user = user_hash(shop.app.keeper.secrets.users.of_units.now, "shop", "ann")
    number = int.from_bytes(user, "little")
    client.hset(keys.raters(number % SHARDS, DAY), b"s" * 16, token(NONCES[0], user=number))

    deleted = ask(shop, user="ann").json()

    assert (deleted["rater_rows"], deleted["rater_rows_left"]) == (1, 1)


def test_nothing_anywhere_in_the_store_tells_the_users_name(
    shop: Sidecar, state_dir: Path, client: Any
) -> None:
    """Nor the state directory; nor does a hash that needs no secret."""
    name = "ann.unlikely@example.org"
    talk(shop, name)
    call(shop, name, headers={"x-router-session-id": f"of {name}"})
    key = {"x-router-key": "key-of-shop"}
    shop.chat(headers=key, user=name, messages=[{"role": "user", "content": "x"}])
    shop.until(lambda: shop.app.draws.shared.n_unwritten == 0)
    ask(shop, user=name)
    shop.until(lambda: shop.app.writer.counters.sent >= 5)

    guesses = [name.encode(), name.encode().hex().encode()]
    for size in (8, 16, 32):
        for text in (name, f"shop\x1f{name}"):
            raw = blake2b(text.encode(), digest_size=size).digest()
            guesses += [raw, raw.hex().encode()]
    kept = b""
    for key in client.scan_iter("*"):
        kept += key + (client.dump(key) or b"")
    for file in state_dir.rglob("*"):
        kept += str(file).encode() + (file.read_bytes() if file.is_file() else b"")
    assert len(kept) > 1000
    assert [guess for guess in guesses if guess in kept] == []


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "user"),
        ({"user": ""}, "user is empty"),
        ({"user": 7}, "user"),
        ({"user": "ann", "apps": "shop"}, "apps"),
        ({"user": "ann", "app": "shpo"}, "there is no app shpo; there is shop, desk"),
    ],
)
def test_bad_input_is_said(shop: Sidecar, body: dict[str, Any], says: str) -> None:
    got = ask(shop, **body)

    assert (got.status_code, got.json()["error"]["code"]) == (400, "invalid_request")
    assert says in got.json()["error"]["message"]


def test_it_needs_the_admin_key(shop: Sidecar) -> None:
    for key in ("key-of-shop", ""):
        got = shop.http.post(
            "/v1/router/forget", json={"user": "ann"}, headers={"x-router-key": key}
        )
        assert (got.status_code, got.json()["error"]["code"]) == (401, "admin_key_required")


# -- the verb -----------------------------------------------------------------------------------


def verb(shop: Sidecar, *more: str) -> Any:
    return pointsman("forget", *more, "--url", shop.url, "--key", "the-admin")


def test_the_verb_says_what_went_and_what_the_archive_keeps(shop: Sidecar) -> None:
    call(shop, "ann")
    shop.until(lambda: shop.app.draws.shared.n_unwritten == 0)

    got = verb(shop, "ann", "--app", "shop")
    again = verb(shop, "ann", "--json")

    assert got.exit_code == 0, got.stderr
    assert "forgotten in app shop; deleted:" in got.stdout
    assert "draws in the store    1" in got.stdout
    assert "archived records keep it for 30 days (archive.keep_days)" in got.stdout
    found = json.loads(again.stdout)
    assert (again.exit_code, found["apps"], found["draws"]) == (0, 2, 0)
    assert found["archive_keep_days"] == 30


def test_the_verb_ends_in_2_for_bad_input(shop: Sidecar) -> None:
    unknown, empty = verb(shop, "ann", "--app", "shpo"), verb(shop, " ")

    assert (unknown.exit_code, empty.exit_code) == (2, 2)
    assert "there is no app shpo" in unknown.stderr
    assert "USER is empty" in empty.stderr


def test_the_verb_ends_in_1_where_the_store_or_the_sidecar_is_away(
    provider: Provider, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = configuration(provider, monkeypatch)
    nowhere = Address(f"unix://{state_dir}/nothing-here")
    with serving(value, state_dir, nowhere) as found:
        got = verb(found, "ann")

    assert got.exit_code == 1
    assert "the store" in got.stderr
    assert "try again" in got.stderr
    gone = verb(found, "ann")
    assert gone.exit_code == 1
    assert "no sidecar at" in gone.stderr


# -- the change from hashes without a key -------------------------------------------------------


def unkeyed(*parts: object) -> bytes:
    """The key that the version before gave a unit."""
    return blake2b("\x1f".join(map(str, parts)).encode(), digest_size=16).digest()


def test_running_units_keep_their_draw_over_the_change(
    shop_of_before: Sidecar, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user's day, an app's slot and two sessions that the last version stored."""
    shop = shop_of_before
    monkeypatch.setattr(shared_draws, "LOOK_UP_S", 5.0)  # however busy the machine is
    app = shop.app.keeper.current.configuration.apps["shop"].digest
    call(shop, "zoe")
    shop.until(lambda: draws_in(client) == 1)
    context_key = draw_key_of(shop)
    stored = StoredDraw(shop.digest("d"), 0.25, int(time.time() * 1000), 1, Step.SAMPLE).pack()
    day, span = int(time.time() // 86_400), int(time.time() // 600)
    units = [("u", app, "ann", day), ("u", app, None, span), ("s", app, None, "x")]
    units.append(("s", app, "ann", "y"))
    for parts in units:
        client.set(keys.draw(unkeyed(*parts, context_key).hex()), stored, px=600_000)

    served = [call(shop, "ann"), call(shop, None)]
    for user, session in ((None, "x"), ("ann", "y")):
        served.append(call(shop, user, headers={"x-router-session-id": session}))

    assert [got.headers["x-router-endpoint"] for got in served] == ["d"] * 4
    assert [float(got.headers["x-router-propensity"]) for got in served] == [0.25] * 4
    mine = user_hash(shop.app.keeper.secrets.users.of_units.now, "shop", "ann")
    assert sum(1 for _ in client.scan_iter(keys.draws_of(mine.hex()))) == 1, "the day"
    ask(shop, user="ann")
    assert sum(1 for _ in client.scan_iter(keys.draws_of(mine.hex()))) == 0
    shop.until(lambda: bool(shop.app.keeper.forgotten.since_ms))
    n_drawn = sum(shop.app.metrics.decisions.values())
    call(shop, "ann")
    assert sum(shop.app.metrics.decisions.values()) == n_drawn + 1, "what is left counts no more"


def test_a_running_conversation_keeps_its_draw_over_the_change(
    shop_of_before: Sidecar, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = shop_of_before
    monkeypatch.setattr(shared_draws, "LOOK_UP_S", 5.0)
    call(shop, "zoe")
    app = shop.app.keeper.current.configuration.apps["shop"].digest
    asked = {"role": "user", "content": "first"}
    raw = json.dumps(asked, separators=(",", ":")).encode()
    given_ = StoredDraw(shop.digest("d"), 0.25, int(time.time() * 1000), 1, Step.SAMPLE)
    key = conversation(app, [raw], draw_key_of(shop))
    note = conversations.note(key, given_.pack_conversation(), ttl_ms=86_400_000)
    client.execute_command(*note)
    messages = [asked, {"role": "assistant", "content": "x"}, {"role": "user", "content": "y"}]
    body = json.dumps({"model": "auto", "messages": messages}, separators=(",", ":"))
    headers = {"x-router-key": "key-of-shop", "x-router-user": "ann"}

    got = shop.http.post("/v1/chat/completions", content=body, headers=headers)

    assert got.headers["x-router-endpoint"] == "d"


def draw_key_of(shop: Sidecar) -> str:
    """What draws of these calls are stored under, beside their unit."""
    configuration = shop.app.keeper.current.configuration
    caller, routings = Caller(configuration.apps["shop"]), configuration.derive(Routings)
    standing = configuration.derive(PolicyTable).usual(caller.app)
    routing = routings.of(routings.asked("auto", None, caller), standing, Dialect.CHAT)
    return f"general\x1f{routing.release}"
