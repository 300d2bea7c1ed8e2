"""One seal a store: every router opens what any of them sealed, through whatever happens."""

from __future__ import annotations

import json
import os
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest
from conftest import (
    SHARDS,
    Provider,
    Sidecar,
    endpoint,
    learning,
    pointsman,
    serving,
    until,
)
from msgspec.structs import replace

from router.config.file import parse
from router.decision import seal as sealed_by
from router.decision.seal import Seal
from router.errors import ConfigError, RequestRejected
from scripts.proofs.searched import files_in
from telemetry import keys
from telemetry.embedded import PrivateServer
from telemetry.kept_secrets import FILE, LOCK_FILE, SecretsFile
from telemetry.keyring import KEEP_MS, TELL_EVERY_MS, Keyring, SeenKeys, derived_key
from telemetry.secret import StoreSecret
from telemetry.store import Address, StoreErrors, connect
from telemetry.tokens import Token
from workers.archive.archive import Archive, ArchiveLimits
from workers.archive.restore import restore

DAY_S = 86_400.0
BASE = "endpoints: [{id: a, model: a, base_url: 'http://h/v1'}]\n"


class Clock:
    def __init__(self) -> None:
        self.now = self.began = time.time()

    def __call__(self) -> float:
        return self.now


def keyring(state_dir: Path, clock: Clock | None = None) -> Keyring:
    file = SecretsFile(state_dir)
    return Keyring(file, file.open(), clock=clock or Clock())


def seen(client: Any) -> SeenKeys:
    return SeenKeys(client.get(keys.SEAL), client.hgetall(keys.SEALS))


def agree(client: Any, *rings: Keyring) -> None:
    for ring in rings:
        ring.agree(client, seen(client))


def decision_id(seal: Seal, executed: int = 4) -> str:
    token = Token(seal.key_id, 1, 0, b"n" * 16, 1, 2, 3, executed, 5, 6, 7, 8, 0.5, 0.5, 0.1)
    return seal.close(token.pack())


# -- the keys of a store --------------------------------------------------------------------------


def test_the_stores_first_key_seals_for_all(client: Any, tmp_path: Path) -> None:
    first, second = keyring(tmp_path / "a"), keyring(tmp_path / "b")

    agree(client, first, second)

    assert first.known() == second.known() == (client.get(keys.SEAL),)
    assert client.hkeys(keys.SEALS) == [client.get(keys.SEAL)]


def test_a_router_that_sealed_while_the_store_was_away_publishes_its_key(
    client: Any, tmp_path: Path
) -> None:
    first, alone = keyring(tmp_path / "a"), keyring(tmp_path / "b")
    agree(client, first)
    early = decision_id(Seal(alone.known))

    agree(client, alone, first)

    assert alone.known()[0] == first.known()[0] == client.get(keys.SEAL)
    assert Seal(first.known).open(early)[0].executed == 4
    assert Seal(alone.known).open(early)[0].executed == 4


def test_a_router_that_sealed_nothing_publishes_no_key(client: Any, tmp_path: Path) -> None:
    agree(client, keyring(tmp_path / "a"))
    for i in range(3):
        agree(client, keyring(tmp_path / f"fresh{i}"))

    assert client.hlen(keys.SEALS) == 1


def test_a_store_that_was_emptied_gets_every_key_back(client: Any, tmp_path: Path) -> None:
    first, alone = keyring(tmp_path / "a"), keyring(tmp_path / "b")
    alone.known()
    agree(client, first, alone, first)
    before = client.get(keys.SEAL), set(client.hkeys(keys.SEALS))
    assert len(before[1]) == 2
    client.flushall()

    agree(client, first)

    assert (client.get(keys.SEAL), set(client.hkeys(keys.SEALS))) == before


def test_after_a_restart_every_key_is_known_without_the_store(client: Any, tmp_path: Path) -> None:
    first, alone = keyring(tmp_path / "a"), keyring(tmp_path / "b")
    early = decision_id(Seal(alone.known))
    agree(client, first, alone, first)

    again = keyring(tmp_path / "a")

    assert again.known() == first.known()
    assert Seal(again.known).open(early)
    assert (tmp_path / "a" / FILE).stat().st_mode & 0o777 == 0o600


def test_a_key_set_in_the_store_seals_and_the_one_before_opens_for_thirty_days(
    client: Any, tmp_path: Path
) -> None:
    clock = Clock()
    ring = keyring(tmp_path, clock)
    agree(client, ring)
    old = decision_id(Seal(ring.known))
    clock.now += 90 * DAY_S  # however long it sealed
    agree(client, ring)
    client.set(keys.SEAL, b"n" * 32)
    agree(client, ring)
    assert ring.known()[0] == b"n" * 32

    clock.now += 30 * DAY_S
    agree(client, ring)
    assert Seal(ring.known).open(old)
    assert Seal(keyring(tmp_path, clock).known).open(old)

    clock.now += 2 * DAY_S
    agree(client, ring)
    for known in (ring.known, keyring(tmp_path, clock).known):
        assert known() == (b"n" * 32,)
        with pytest.raises(RequestRejected, match="no decision id"):
            Seal(known).open(old)
    assert client.hkeys(keys.SEALS) == [b"n" * 32]


def test_a_key_that_another_router_still_seals_with_is_kept(client: Any, tmp_path: Path) -> None:
    clock = Clock()
    idle, busy = keyring(tmp_path / "a", clock), keyring(tmp_path / "b", clock)
    agree(client, busy, idle)
    key = client.get(keys.SEAL)
    idle.in_use = False  # a configured secret seals there
    for _ in range(90):
        clock.now += DAY_S
        agree(client, busy, idle)

    assert idle.known() == (key,)


def test_a_key_that_sealed_while_the_store_was_away_for_long_counts_as_used_until_then(
    client: Any, tmp_path: Path
) -> None:
    clock = Clock()
    ring = keyring(tmp_path, clock)
    own = ring.known()[0]
    clock.now += 40 * DAY_S
    client.set(keys.SEAL, b"s" * 32)

    agree(client, ring)

    assert ring.known() == (b"s" * 32, own)
    assert set(client.hkeys(keys.SEALS)) == {b"s" * 32, own}


def test_a_clock_that_was_ahead_takes_no_key_from_others(client: Any, tmp_path: Path) -> None:
    ahead = Clock()
    good, bad = keyring(tmp_path / "a"), keyring(tmp_path / "b", ahead)
    early = decision_id(Seal(good.known))
    client.set(keys.SEAL, b"s" * 32)
    agree(client, good, bad)
    ahead.now += 1000 * DAY_S

    agree(client, bad, good)
    assert Seal(good.known).open(early)
    ahead.now = ahead.began
    agree(client, bad)
    assert Seal(bad.known).open(early)


def test_a_store_is_told_of_use_by_the_hour(client: Any, tmp_path: Path) -> None:
    clock = Clock()
    ring = keyring(tmp_path, clock)
    agree(client, ring)
    key = client.get(keys.SEAL)
    began = int(client.hget(keys.SEALS, key))
    written = (tmp_path / FILE).stat().st_mtime_ns
    clock.now += TELL_EVERY_MS / 1000 - 1
    agree(client, ring)
    assert int(client.hget(keys.SEALS, key)) == began
    assert (tmp_path / FILE).stat().st_mtime_ns == written

    clock.now += 1
    agree(client, ring)

    assert int(client.hget(keys.SEALS, key)) == began + TELL_EVERY_MS
    assert (tmp_path / FILE).stat().st_mtime_ns > written


@pytest.mark.parametrize("held", [b"", b"short", b"x" * 65, b"x" * 4096])
def test_what_is_no_key_is_not_taken_from_a_store(client: Any, tmp_path: Path, held: bytes) -> None:
    ring = keyring(tmp_path)
    agree(client, ring)
    before = ring.known()
    client.set(keys.SEAL, held)
    client.hset(keys.SEALS, mapping={held: b"1", b"k" * 32: b"never", b"l" * 32: b"9" * 30})

    agree(client, ring)

    assert ring.known() == before
    assert Seal(ring.known).open(decision_id(Seal(ring.known)))


def test_a_store_that_takes_no_writes_still_brings_its_keys(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = keyring(tmp_path)
    own = ring.known()[0]
    client.set(keys.SEAL, b"s" * 32)

    def refuse(*_: object, **__: object) -> None:
        raise StoreErrors[0]("OOM command not allowed")

    held = seen(client)
    monkeypatch.setattr(client, "hset", refuse)
    with pytest.raises(StoreErrors):
        ring.agree(client, held)

    assert ring.known() == (b"s" * 32, own)


def test_a_file_that_cannot_be_written_stops_nobody(client: Any, tmp_path: Path) -> None:
    ring = keyring(tmp_path / "a")
    rmtree(tmp_path / "a")

    agree(client, ring)

    assert ring.known() == (client.get(keys.SEAL),)


def test_two_processes_of_one_directory_lose_no_key_of_each_other(
    client: Any, tmp_path: Path
) -> None:
    first, second = keyring(tmp_path), keyring(tmp_path)
    ids = [decision_id(Seal(ring.known)) for ring in (first, second)]

    again = Seal(keyring(tmp_path).known)

    assert [again.open(each)[0].executed for each in ids] == [4, 4]


def test_where_a_configured_secret_seals_a_key_of_before_ends_as_well(
    client: Any, tmp_path: Path
) -> None:
    clock = Clock()
    landed(tmp_path)
    for _ in range(5):
        ring = keyring(tmp_path, clock)
        ring.in_use = False
        agree(client, ring)
        clock.now += 8 * DAY_S

    assert keyring(tmp_path, clock).known()[1:] == ()
    ring.learn(SeenKeys(None, {}))
    assert ring.known() == ()
    ring.in_use = True
    assert len(ring.known()) == 1


def test_a_key_that_is_none_is_told_once(
    client: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ring = keyring(tmp_path)
    client.set(keys.SEAL, "x" * 65)  # hexadecimal digits and a line's end
    for _ in range(3):
        agree(client, ring)

    told = capsys.readouterr().out
    assert told.count("the store's key of decision ids is none") == 1
    assert "16 to 64 random bytes" in told


def test_a_worker_leaves_the_files_of_a_router_of_an_earlier_version(
    client: Any, tmp_path: Path
) -> None:
    key = landed(tmp_path)
    file = SecretsFile(tmp_path)

    StoreSecret(file, file.read()).agree(client, None)

    assert client.get(keys.SECRET) == b"u" * 32
    assert (tmp_path / "token.key").read_bytes() == key
    assert keyring(tmp_path).known() == (key,)


# -- key ids --------------------------------------------------------------------------------------


def test_keys_of_one_id_are_told_apart_by_what_they_sealed(monkeypatch: Any) -> None:
    monkeypatch.setattr(sealed_by, "_id_of", lambda key, n_bytes: b"same"[:n_bytes])
    a, b = b"a" * 32, b"b" * 32
    ids = [decision_id(Seal(lambda key=key: (key,)), executed=n) for n, key in enumerate((a, b), 1)]

    for both in ((a, b), (b, a)):
        seal = Seal(lambda both=both: both)
        assert [seal.open(each)[0].executed for each in ids] == [1, 2]
        alone = Seal(lambda both=both: both[:1])
        assert alone.open(decision_id(seal)), "it seals by the one that seals"
    with pytest.raises(RequestRejected):
        Seal(lambda: (b"c" * 32,)).open(ids[0])


def test_a_call_that_began_under_one_key_is_sealed_by_it_to_the_end() -> None:
    known = [(b"a" * 32,)]
    seal = Seal(lambda: known[0])
    body = Token(seal.key_id, 1, 0, b"n" * 16, 1, 2, 3, 4, 5, 6, 7, 8, 0.5, 0.5, 0.1).pack()

    known[0] = (b"b" * 32, b"a" * 32)
    assert Seal(lambda: (b"a" * 32,)).open(seal.close(body))
    known[0] = (b"b" * 32,)  # a key that nobody has any more
    assert Seal(lambda: (b"b" * 32,)).open(seal.close(body))


# -- real routers ---------------------------------------------------------------------------------


@contextmanager
def router(
    provider: Provider, state_dir: Path, address: Address, **server: Any
) -> Iterator[Sidecar]:
    value = {"endpoints": [endpoint(provider, "a"), endpoint(provider, "b")], "server": server}
    with serving(value, state_dir, address) as found:
        yield found


def decided_by(sidecar: Sidecar) -> str:
    answer = sidecar.chat("a")
    assert answer.status_code == 200, answer.text
    return answer.headers["x-router-decision-id"]


def takes(sidecar: Sidecar, decision: str) -> bool:
    said = sidecar.feedback(decision_id=decision, score=1.0)
    assert said.status_code in (202, 400), said.text
    if said.status_code == 400:
        assert said.json()["error"]["code"] == "bad_decision_id"
    return said.status_code == 202


def test_feedback_by_the_other_routers_decision_id_is_taken_and_counts(
    provider: Provider, state_dir: Path, address: Address, client: Any
) -> None:
    at = partial(router, provider, address=address)
    with at(state_dir / "a") as first, at(state_dir / "b") as second:
        ids = [decided_by(first), decided_by(second)]
        with learning(state_dir / "a", address):
            first.until(lambda: first.calls_known() == 2)

            assert takes(second, ids[0])
            assert takes(first, ids[1])

            first.until(lambda: first.labels_known() == 2)


def test_it_is_taken_of_routers_that_started_while_the_store_was_away(
    provider: Provider, state_dir: Path
) -> None:
    store = PrivateServer(state_dir / "store")
    address = Address(f"unix://{store.socket_path}")
    at = partial(router, provider, address=address)
    with at(state_dir / "a") as first, at(state_dir / "b") as second:
        ids = [decided_by(first), decided_by(second)]
        assert not takes(second, ids[0])
        assert takes(first, ids[0])

        with store, closing(connect(address)) as client:
            until(lambda: client.hlen(keys.SEALS) == 2)
            for sidecar in (first, second):
                until(lambda sidecar=sidecar: all(takes(sidecar, each) for each in ids))
            ids += [decided_by(first), decided_by(second)]
            assert all(takes(sidecar, each) for sidecar in (first, second) for each in ids)

        assert all(takes(sidecar, each) for sidecar in (first, second) for each in ids)


def test_it_is_taken_after_the_store_was_emptied_and_after_a_restart_of_either(
    provider: Provider, state_dir: Path, address: Address, client: Any
) -> None:
    at = partial(router, provider, address=address)
    with at(state_dir / "a") as first:
        with at(state_dir / "b") as second:
            ids = [decided_by(first), decided_by(second)]
            client.flushall()
            first.until(lambda: client.hlen(keys.SEALS) > 0)
            ids += [decided_by(first), decided_by(second)]
            assert all(takes(sidecar, each) for sidecar in (first, second) for each in ids)
        client.flushall()
        with at(state_dir / "b") as second:
            ids.append(decided_by(second))
            assert all(takes(sidecar, each) for sidecar in (first, second) for each in ids)
    with at(state_dir / "a") as first, at(state_dir / "c") as fresh:
        assert all(takes(sidecar, each) for sidecar in (first, fresh) for each in ids)


def test_it_is_taken_while_the_store_is_away_and_when_it_is_back_without_what_it_had(
    provider: Provider, state_dir: Path
) -> None:
    store = PrivateServer(state_dir / "store")
    address = Address(f"unix://{store.socket_path}")
    at = partial(router, provider, address=address)
    with ExitStack() as stack:
        with store:
            first = stack.enter_context(at(state_dir / "a"))
            second = stack.enter_context(at(state_dir / "b"))
        ids = [decided_by(first), decided_by(second)]
        assert all(takes(sidecar, each) for sidecar in (first, second) for each in ids)
        with at(state_dir / "c") as third:  # it never met the store
            ids.append(decided_by(third))
            rmtree(state_dir / "store")
            with PrivateServer(state_dir / "store"), closing(connect(address)) as client:
                until(lambda: client.hlen(keys.SEALS) == 2)
                ids += [decided_by(first), decided_by(second), decided_by(third)]
                for sidecar in (first, second, third):
                    until(lambda sidecar=sidecar: all(takes(sidecar, each) for each in ids))


def test_a_key_that_is_as_young_as_its_id_is_asked_for(
    provider: Provider, state_dir: Path, address: Address, client: Any
) -> None:
    """Nobody waits for the next look at the store."""
    with router(provider, state_dir / "a", address) as first:
        first.until(lambda: client.get(keys.SEAL) is not None)
        alone = keyring(state_dir / "b", None)
        with router(provider, state_dir / "c", address) as second:
            first.app.keeper.stop()
            client.set(keys.SEAL, b"n" * 32)
            second.until(lambda: second.app.keeper.secrets.keyring.known()[0] == b"n" * 32)

            assert takes(first, decided_by(second))
        assert not takes(first, decision_id(Seal(alone.known)))


def test_an_id_under_a_key_that_nobody_knows_is_a_clear_400(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with router(provider, state_dir, address) as sidecar:
        said = sidecar.feedback(decision_id=decision_id(Seal(lambda: (b"z" * 32,))), score=1.0)

    assert said.status_code == 400
    assert said.json()["error"]["code"] == "bad_decision_id"
    assert "send back x-router-decision-id unchanged" in said.json()["error"]["message"]


# -- configured -----------------------------------------------------------------------------------

SECRET, NEXT = "0123456789abcdef-now", "0123456789abcdef-next"


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, str]]:
    monkeypatch.setenv("SEAL", SECRET)
    monkeypatch.setenv("SEAL_NEXT", NEXT)
    return {"now": {"env": "SEAL"}, "next": {"env": "SEAL_NEXT"}}


def test_a_configured_secret_seals_and_is_neither_written_nor_published(
    provider: Provider, state_dir: Path, address: Address, client: Any, named: Any
) -> None:
    at = partial(router, provider, address=address, seal_secret=named["now"])
    with at(state_dir / "a") as first, at(state_dir / "b") as second:
        assert takes(second, decided_by(first))
        first.until(lambda: client.get(keys.DRAWS_SECRET) is not None)
        time.sleep(1.2)  # two looks
        assert client.exists(keys.SEAL, keys.SEALS) == 0
    derived = derived_key(SECRET)
    for path in (state_dir / "a").rglob("*"):
        if path.is_file():
            found = path.read_bytes()
            assert SECRET.encode() not in found
            assert derived not in found
    assert SecretsFile(state_dir / "a").read().keys == []


def test_a_rotated_secret_opens_what_the_one_before_sealed(
    provider: Provider, state_dir: Path, address: Address, named: Any
) -> None:
    at = partial(router, provider, state_dir, address)
    with at() as unnamed:
        ids = [decided_by(unnamed)]
        draws = unnamed.app.keeper.secrets.draws.at()
    with at(seal_secret=named["now"]) as sidecar:
        ids.append(decided_by(sidecar))
        assert all(takes(sidecar, each) for each in ids)
    with at(seal_secret=named["next"], seal_secret_before=named["now"]) as sidecar:
        ids.append(decided_by(sidecar))
        assert all(takes(sidecar, each) for each in ids)
        assert sidecar.app.keeper.secrets.draws.at() == draws
    with at(seal_secret_before=named["next"]) as sidecar:
        ids.append(decided_by(sidecar))
        assert [takes(sidecar, each) for each in ids] == [True, False, True, True]


def test_a_secret_is_rotated_by_a_reload(
    provider: Provider, state_dir: Path, address: Address, tmp_path: Path, named: Any
) -> None:
    file, config = tmp_path / "seal", tmp_path / "pointsman.yaml"
    file.write_text(SECRET)
    value = {
        "endpoints": [endpoint(provider, "a")],
        "server": {"seal_secret": {"file": str(file)}, "seal_secret_before": named["now"]},
    }
    with serving(value, state_dir, address, file=config) as sidecar:
        before = decided_by(sidecar)
        file.write_text(NEXT)
        sidecar.app.keeper.file.ask()  # as SIGHUP does
        after = derived_key(NEXT)
        sidecar.until(lambda: sidecar.app.sealing.known()[0] == after)
        sealed = decided_by(sidecar)

        assert takes(sidecar, before)
        assert takes(sidecar, sealed)
        assert Seal(lambda: (after,)).open(sealed)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("", "is not set"),
        ("short-of-sixteen", None),
        ("short-of-sixtee", "less than 16 characters"),
    ],
)
def test_a_secret_that_can_be_guessed_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str, hint: str | None
) -> None:
    monkeypatch.setenv("SEAL", value)
    for name in ("seal_secret", "seal_secret_before"):
        text = BASE + f"server: {{{name}: {{env: SEAL}}}}"
        parse(text, file="f", secrets=False)
        if hint is None:
            parse(text, file="f")
            continue
        with pytest.raises(ConfigError, match=rf"server\.{name}\.env: .*SEAL.* {hint}"):
            parse(text, file="f")


def test_a_secret_that_is_also_a_callers_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ADMIN", "APP", "SEAL"):
        monkeypatch.setenv(name, SECRET)
    seal = "seal_secret: {env: SEAL}, seal_secret_before: {env: SEAL}"
    parse(BASE + f"server: {{{seal}}}", file="f")

    for text in (
        f"server: {{admin_key: {{env: ADMIN}}, {seal}}}",
        f"server: {{{seal}}}\napps: {{default: {{keys: [{{env: APP}}]}}}}",
    ):
        with pytest.raises(ConfigError, match="could make decision ids up") as caught:
            parse(BASE + text, file="f")
        assert len(caught.value.problems) == 2
        assert SECRET not in str(caught.value)


# -- never in archives, reports and logs ----------------------------------------------------------


def test_no_key_is_part_of_an_archive_a_restore_an_audit_or_a_report(
    provider: Provider, state_dir: Path, store: PrivateServer, address: Address, client: Any
) -> None:
    config = state_dir / "pointsman.yaml"
    value = {"endpoints": [endpoint(provider, "a")]}
    with serving(value, state_dir, address, file=config) as sidecar:
        ids = [decided_by(sidecar) for _ in range(8)]
        with learning(state_dir, address):
            assert all(takes(sidecar, each) for each in ids)
            sidecar.until(lambda: sidecar.labels_known() == 8)
        told = [sidecar.http.get(path).content for path in ("/metrics", "/v1/router/posteriors")]
        told.append(pointsman("report", "--config", config, "--json").output.encode())
    values = [keys.SECRET, keys.DRAWS_SECRET, keys.SEAL]
    hidden = [client.get(name) for name in values]
    assert all(hidden)

    archive = Archive(client, state_dir / "archive", SHARDS)
    assert archive.take(now_ms=int(time.time() * 1000), limits=ArchiveLimits(every_bytes=0))
    told.append(pointsman("audit", "state", "--config", config, "--json").output.encode())
    client.flushall()
    restore(archive)

    assert client.exists(*values, keys.SEALS) == 0
    with serving(value, state_dir, address) as sidecar:
        sidecar.until(lambda: [client.get(name) for name in values] == hidden)
        assert all(takes(sidecar, each) for each in ids)
    private = {FILE}
    for name, data in (*files_in(state_dir), *(("told", each) for each in told)):
        if not name.startswith("file store/") and name.removeprefix("file ") not in private:
            for secret in hidden:
                for form in (secret, secret.hex().encode(), b64encode(secret)):
                    assert form not in data, name


def test_nothing_of_a_key_is_logged(
    client: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ring = keyring(tmp_path / "a")
    own = ring.known()[0]
    rmtree(tmp_path / "a")
    client.set(keys.SEAL, b"s" * 32)

    agree(client, ring)

    told = capsys.readouterr()
    said = told.out + told.err
    assert "the store's secrets cannot be kept" in said
    for key in (own, b"s" * 32):
        for form in (key.hex(), b64encode(key).decode(), repr(key)[2:-1]):
            assert form[:8] not in said


# -- what an upgrade finds ------------------------------------------------------------------------


def landed(state_dir: Path, *, old: bytes | None = None) -> bytes:
    """A state directory as the version before this one has it; return the key that seals."""
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = os.urandom(32)
    files = {"token.key": key, "token.key.old": old, "store.secret": b"u" * 32}
    for name, value in files.items():
        if value is not None:
            (state_dir / name).touch(mode=0o600)
            (state_dir / name).write_bytes(value)
    return key


def test_an_upgrade_opens_what_was_sealed_before_for_thirty_days(
    client: Any, tmp_path: Path
) -> None:
    clock = Clock()
    clock.now = time.time()
    first = landed(tmp_path / "a", old=b"o" * 32)
    second = landed(tmp_path / "b")
    ids = [decision_id(Seal(lambda key=key: (key,))) for key in (first, b"o" * 32, second)]

    rings = [keyring(tmp_path / name, clock) for name in "ab"]
    agree(client, *rings, *rings)

    assert client.get(keys.SEAL) == first
    assert {path.name for path in (tmp_path / "a").iterdir()} == {FILE, LOCK_FILE}
    for passed_s in (0.0, 30 * DAY_S):
        clock.now += passed_s
        agree(client, *rings)
        for ring in (*rings, keyring(tmp_path / "a", clock), keyring(tmp_path / "b", clock)):
            assert all(Seal(ring.known).open(each) for each in ids)
    clock.now += KEEP_MS / 1000
    agree(client, *rings)
    assert all(ring.known() == (first,) for ring in rings)


EARLIER = json.loads((Path(__file__).parent / "data/state_with_a_seal_of_its_own.json").read_text())
"""A state directory of the version before: its key was changed between two calls of a user."""


def earlier_state(state_dir: Path) -> None:
    state_dir.mkdir(parents=True, exist_ok=True)
    for name, value in EARLIER["files"].items():
        (state_dir / name).write_bytes(bytes.fromhex(value))


def as_of_now(decision: str, key: bytes) -> str:
    """The same id, had the call been made now: else feedback for it is too old some day."""
    seal = Seal(lambda: (key,))
    token = replace(seal.open(decision)[0], decided_at_ms=int(time.time() * 1000))
    return seal.close(token.pack())


def test_a_state_directory_of_the_version_before_is_taken_over_whole(
    provider: Provider, state_dir: Path, address: Address, client: Any
) -> None:
    earlier_state(state_dir / "a")
    landed(state_dir / "b")
    made_by = [bytes.fromhex(EARLIER["files"][name]) for name in ("token.key.old", "token.key")]
    ids = [as_of_now(*each) for each in zip(EARLIER["decision_ids"], made_by, strict=True)]
    at = partial(router, provider, address=address)
    with at(state_dir / "a") as first, at(state_dir / "b") as second:
        for sidecar in (first, second):
            until(lambda sidecar=sidecar: all(takes(sidecar, each) for each in ids))
        opened = [Seal(first.app.sealing.known).open(each)[0] for each in EARLIER["decision_ids"]]
        assert [token.nonce.hex() for token in opened] == EARLIER["nonces"]
        sealed = decided_by(first)
        secrets = first.app.keeper.secrets
        assert secrets.users.digest(b"user", "default", "ann") == EARLIER["user"]
        assert secrets.draws.at().hex() == EARLIER["draws"]

    assert Seal(lambda: made_by[1:]).open(sealed), "it goes on sealing as it did"
    assert client.get(keys.SECRET).hex() == EARLIER["files"]["store.secret"]
    assert client.get(keys.DRAWS_SECRET).hex() == EARLIER["draws"]
    for name in EARLIER["files"]:
        assert not (state_dir / "a" / name).exists()


def test_a_key_that_is_laid_there_again_opens_again(client: Any, tmp_path: Path) -> None:
    """A directory that is provisioned, or that an earlier version used once more."""
    agree(client, ring := keyring(tmp_path))
    seals = ring.known()[0]
    key = landed(tmp_path)

    ring = keyring(tmp_path)

    assert ring.known()[0] == seals
    assert Seal(ring.known).open(decision_id(Seal(lambda: (key,))))


def test_running_slots_keep_their_draw_over_the_upgrade(
    provider: Provider,
    state_dir: Path,
    address: Address,
    client: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where another router's secret of draws is the store's by then."""
    monkeypatch.setattr("router.decision.shared_draws.LOOK_UP_S", 5.0)  # however busy this machine
    value = {
        "endpoints": [endpoint(provider, "a"), endpoint(provider, "b")],
        "strategies": {"learn": {"objective": "quality", "incumbent": "none"}},
        "apps": {"default": {"mode": "route", "strategy": "learn"}},
    }

    def served(sidecar: Sidecar) -> list[str]:
        said = [sidecar.chat(headers={"x-router-user": f"u{i}"}) for i in range(12)]
        return [each.headers["x-router-endpoint"] for each in said]

    with serving(value, state_dir / "a", address) as sidecar:
        before = served(sidecar)
        sidecar.until(lambda: len(list(client.scan_iter("pm:draw:*"))) == 12)
    assert len(set(before)) == 2
    client.delete(keys.SEAL, keys.SEALS, keys.DRAWS_SECRET)
    landed(state_dir / "b")

    with serving(value, state_dir / "b", address) as sidecar:
        assert served(sidecar) == before
