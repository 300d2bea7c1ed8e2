"""The store's secrets: one for all routers, kept by each, never shown, and touched by no rotation.

What seals decision ids is in `test_seals.py`.
"""

from __future__ import annotations

import json
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Provider, endpoint, fake_store, serving

from telemetry import keys
from telemetry.kept_secrets import FILE, LOCK_FILE, KeptSecrets, SecretsFile
from telemetry.secret import EVER_MS, NOBODY, DrawsSecret, StoreSecret, raters_key
from telemetry.store import Address


def kept_in(state_dir: Path) -> tuple[SecretsFile, KeptSecrets]:
    file = SecretsFile(state_dir)
    return file, file.open()


def users_of(state_dir: Path) -> StoreSecret:
    return StoreSecret(*kept_in(state_dir))


def met(client: Any, state_dir: Path) -> StoreSecret:
    secret = users_of(state_dir)
    secret.agree(client, client.get(keys.SECRET))
    return secret


def draws_met(client: Any, state_dir: Path) -> DrawsSecret:
    secret = DrawsSecret(*kept_in(state_dir))
    secret.agree(client, client.get(keys.DRAWS_SECRET))
    return secret


def test_two_routers_of_one_store_name_a_user_alike(client: Any, tmp_path: Path) -> None:
    first, second = met(client, tmp_path / "a"), met(client, tmp_path / "b")

    assert first.digest(b"user", "shop", "ann") == second.digest(b"user", "shop", "ann") != NOBODY
    assert first.digest(b"user", "shop", "ann") != first.digest(b"user", "shop", "bob")
    assert first.digest(b"user", "shop", "ann") != first.digest(b"user", "desk", "ann")
    assert first.digest(b"user", "shop", "ann") != first.digest(b"role", "shop", "ann")


def test_the_file_is_its_owners_only(client: Any, tmp_path: Path) -> None:
    met(client, tmp_path / "a")

    mode = (tmp_path / "a" / FILE).stat().st_mode

    assert stat.S_IMODE(mode) == 0o600
    assert {path.name for path in (tmp_path / "a").iterdir()} == {FILE, LOCK_FILE}


def test_without_the_secret_nobody_is_named(tmp_path: Path) -> None:
    assert users_of(tmp_path).digest(b"user", "shop", "ann") == NOBODY


def test_a_router_that_starts_while_the_store_is_away_names_users_as_before(
    client: Any, tmp_path: Path
) -> None:
    before = met(client, tmp_path).digest(b"user", "shop", "ann")

    assert users_of(tmp_path).digest(b"user", "shop", "ann") == before


def test_a_store_that_was_emptied_gets_its_secret_back(client: Any, tmp_path: Path) -> None:
    secret = met(client, tmp_path)
    before = client.get(keys.SECRET)
    client.flushall()

    secret.agree(client, client.get(keys.SECRET))

    assert client.get(keys.SECRET) == before


def test_in_another_store_its_own_secret_counts(client: Any, tmp_path: Path) -> None:
    secret = met(client, tmp_path)
    before = secret.digest(b"user", "shop", "ann")
    client.set(keys.SECRET, b"o" * 32)

    secret.agree(client, client.get(keys.SECRET))

    assert secret.digest(b"user", "shop", "ann") != before
    assert SecretsFile(tmp_path).read().users == b"o" * 32


@pytest.mark.parametrize("held", [b"", b"short", b"x" * 40, b"x" * 100])
def test_what_is_no_secret_is_not_taken_from_a_store(
    client: Any, tmp_path: Path, held: bytes
) -> None:
    secret, draws = met(client, tmp_path), draws_met(client, tmp_path)
    before = secret.digest(b"user", "shop", "ann"), draws.at()

    secret.agree(client, held)
    draws.agree(client, held)

    assert (secret.digest(b"user", "shop", "ann"), draws.at()) == before


@pytest.mark.parametrize(
    "held",
    [b"", b"short", b"{}", b"[]", b"\xff", b'{"users": "c2hvcnQ="}', b'{"users": 7}', b"{" * 9999],
)
def test_a_damaged_file_is_made_anew_from_the_store(
    client: Any, tmp_path: Path, held: bytes
) -> None:
    met(client, tmp_path)
    (tmp_path / FILE).write_bytes(held)

    secret = users_of(tmp_path)

    assert secret.digest(b"user", "shop", "ann") == NOBODY
    secret.agree(client, client.get(keys.SECRET))
    assert SecretsFile(tmp_path).read().users == client.get(keys.SECRET)


def test_a_file_that_others_may_read_is_made_the_owners_only(client: Any, tmp_path: Path) -> None:
    met(client, tmp_path)
    (tmp_path / FILE).chmod(0o644)

    users_of(tmp_path)

    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


def test_what_one_process_keeps_another_of_the_directory_leaves(
    client: Any, tmp_path: Path
) -> None:
    draws = DrawsSecret(*kept_in(tmp_path))
    users = users_of(tmp_path)

    draws.agree(client, None)
    users.agree(client, None)

    kept = SecretsFile(tmp_path).read()
    assert (kept.draws, kept.users) == (client.get(keys.DRAWS_SECRET), client.get(keys.SECRET))


def test_ranks_follow_from_the_secret_whoever_asks_first(client: Any, tmp_path: Path) -> None:
    met(client, tmp_path)
    before = raters_key(client)
    secret = client.get(keys.SECRET)
    client.flushall()

    met(client, tmp_path)

    assert client.get(keys.SECRET) == secret
    assert raters_key(client) == before


def test_a_store_that_is_flushed_under_running_routers_gets_their_secrets_back(
    provider: Provider, state_dir: Path, address: Address, client: Any
) -> None:
    names = (keys.SECRET, keys.DRAWS_SECRET, keys.SEAL)
    with serving({"endpoints": [endpoint(provider, "a")]}, state_dir, address) as sidecar:
        sidecar.until(lambda: all(client.mget(names)))
        before, sealed = client.mget(names), client.hkeys(keys.SEALS)
        sidecar.chat("a")
        client.flushall()

        sidecar.until(lambda: client.mget(names) == before)
        sidecar.until(lambda: client.hkeys(keys.SEALS) == sealed)


# -- of draws -------------------------------------------------------------------------------------


def test_two_routers_of_one_store_draw_by_one_secret(client: Any, tmp_path: Path) -> None:
    first, second = draws_met(client, tmp_path / "a"), draws_met(client, tmp_path / "b")

    assert first.at() == second.at() == client.get(keys.DRAWS_SECRET)
    assert first.at() != client.get(keys.SECRET)


def test_what_began_under_another_secret_of_draws_goes_on_by_it(
    client: Any, tmp_path: Path
) -> None:
    draws_met(client, tmp_path / "a")
    alone = DrawsSecret(*kept_in(tmp_path / "b"))  # it starts while the store is away
    own = alone.at()

    alone.agree(client, client.get(keys.DRAWS_SECRET))

    again = DrawsSecret(*kept_in(tmp_path / "b"))
    for secret in (alone, again):
        assert secret.at() == secret.at(began_ms=9e15) == client.get(keys.DRAWS_SECRET) != own
        assert secret.at(began_ms=1.0) == own


def test_a_router_that_never_drew_has_no_secret_of_its_own_to_go_on_by(
    client: Any, tmp_path: Path
) -> None:
    draws_met(client, tmp_path / "a")

    fresh = draws_met(client, tmp_path / "b")

    assert fresh.at(began_ms=1.0) == client.get(keys.DRAWS_SECRET)


def test_running_slots_keep_their_share_when_the_secret_of_draws_changes(
    provider: Provider, state_dir: Path
) -> None:
    """Half of the users are drawn for; who is, stays so until the day's end."""
    value = {
        "endpoints": [endpoint(provider, "a"), endpoint(provider, "b")],
        "strategies": {"learn": {"objective": "quality", "incumbent": "none"}},
        "apps": {"default": {"mode": "route", "strategy": "learn", "percent": 50}},
    }

    def shares(sidecar: Any, named: str) -> list[bool]:
        said = []
        for i in range(24):
            body = {"model": "auto", "messages": [{"role": "user", "content": "x"}]}
            headers = {f"x-router-{named}": f"{named}-{i}"}
            answer = sidecar.http.post("/v1/router/decide", json=body, headers=headers)
            said.append(json.loads(answer.content)["routed"])
        return said

    def hear(sidecar: Any, client: Any) -> None:
        other = b"o" * 32
        client.set(keys.DRAWS_SECRET, other)
        sidecar.until(lambda: sidecar.app.keeper.secrets.draws.at() == other)

    with fake_store() as address, serving(value, state_dir, address) as sidecar:
        from telemetry.store import connect

        client = connect(address)
        before = shares(sidecar, "user")
        for i in range(24):
            sidecar.chat(headers={"x-router-session-id": f"session-id-{i}"})
        in_sessions = shares(sidecar, "session-id")
        assert len(set(before)) == len(set(in_sessions)) == 2
        hear(sidecar, client)

        assert shares(sidecar, "user") == before
        kept = shares(sidecar, "session-id")
        assert all(now for now, then in zip(kept, in_sessions, strict=True) if then)
        assert shares(sidecar, "user") == before
        client.close()


def test_in_a_new_store_nothing_went_by_another_secret(client: Any, tmp_path: Path) -> None:
    """Neither by that of a version before: no unit is looked for under an earlier key."""
    first, worker = users_of(tmp_path / "a"), users_of(tmp_path / "a")

    worker.agree(client, None)
    first.agree(client, client.get(keys.SECRET))

    assert first.of_units.since_ms == worker.of_units.since_ms == EVER_MS
    assert users_of(tmp_path / "a").of_units.since_ms == EVER_MS, "after a restart as well"


def test_in_a_store_that_others_used_units_may_have_begun_by_another(
    client: Any, tmp_path: Path
) -> None:
    began_ms = int(time.time() * 1000)
    users_of(tmp_path / "a").agree(client, None)
    joined = users_of(tmp_path / "b")

    joined.agree(client, client.get(keys.SECRET))

    assert joined.of_units.since_ms >= began_ms


def test_in_a_directory_of_an_earlier_version_units_may_have_begun_by_none(
    client: Any, tmp_path: Path
) -> None:
    began_ms = int(time.time() * 1000)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "token.key").write_bytes(b"k" * 32)
    found = users_of(tmp_path / "a")

    found.agree(client, None)

    assert found.of_units.since_ms >= began_ms
