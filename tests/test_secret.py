"""The store's secret: one for all routers, kept by each, never shown."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from conftest import Provider, endpoint, serving

from telemetry import keys
from telemetry.secret import FILE, NOBODY, StoreSecret, raters_key
from telemetry.store import Address


def met(client: Any, state_dir: Path) -> StoreSecret:
    state_dir.mkdir(exist_ok=True)
    secret = StoreSecret(state_dir)
    secret.agree(client, client.get(keys.SECRET))
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
    assert [path.name for path in (tmp_path / "a").iterdir()] == [FILE]


def test_without_the_secret_nobody_is_named(tmp_path: Path) -> None:
    assert StoreSecret(tmp_path).digest(b"user", "shop", "ann") == NOBODY


def test_a_router_that_starts_while_the_store_is_away_names_users_as_before(
    client: Any, tmp_path: Path
) -> None:
    before = met(client, tmp_path).digest(b"user", "shop", "ann")

    assert StoreSecret(tmp_path).digest(b"user", "shop", "ann") == before


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
    assert (tmp_path / FILE).read_bytes() == b"o" * 32


@pytest.mark.parametrize("held", [b"", b"short", b"x" * 40])
def test_a_damaged_file_is_made_anew_from_the_store(
    client: Any, tmp_path: Path, held: bytes
) -> None:
    met(client, tmp_path)
    (tmp_path / FILE).write_bytes(held)

    secret = StoreSecret(tmp_path)

    assert secret.digest(b"user", "shop", "ann") == NOBODY
    secret.agree(client, client.get(keys.SECRET))
    assert (tmp_path / FILE).read_bytes() == client.get(keys.SECRET)


def test_a_file_that_others_may_read_is_made_the_owners_only(client: Any, tmp_path: Path) -> None:
    met(client, tmp_path)
    (tmp_path / FILE).chmod(0o644)

    StoreSecret(tmp_path)

    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


def test_ranks_follow_from_the_secret_whoever_asks_first(client: Any, tmp_path: Path) -> None:
    met(client, tmp_path)
    before = raters_key(client)
    secret = client.get(keys.SECRET)
    client.flushall()

    met(client, tmp_path)

    assert client.get(keys.SECRET) == secret
    assert raters_key(client) == before


def test_a_store_that_is_flushed_under_running_routers_gets_their_secret_back(
    provider: Provider, state_dir: Path, address: Address, client: Any
) -> None:
    with serving({"endpoints": [endpoint(provider, "a")]}, state_dir, address) as sidecar:
        sidecar.until(lambda: client.get(keys.SECRET) is not None)
        before = client.get(keys.SECRET)
        sidecar.chat("a")
        client.flushall()

        sidecar.until(lambda: client.get(keys.SECRET) == before)
