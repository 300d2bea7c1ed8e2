"""The proof that no secret gets out notices one, wherever it lies, and a small part of it holds."""

from __future__ import annotations

import asyncio
import base64
import sqlite3
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl
import pytest

from scripts.proofs.canaries import UNKNOWN, Canaries
from scripts.proofs.provider import ScriptedProvider
from scripts.proofs.searched import files_in, in_store
from scripts.proofs.secret_calls import LoadedCaller, own_part
from scripts.proofs.secret_places import ALLOWED, allowance
from scripts.proofs.secret_provider import MARK, SecretProvider
from scripts.proofs.secrets import HAPPENED, SEARCHED, Hits
from scripts.proofs.sidecar import sidecar


@pytest.fixture
def canaries() -> Canaries:
    return Canaries()


@pytest.mark.parametrize("before", [b"", b"m", b"me", b"me:"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_secret_is_found_in_base64_wherever_it_begins(
    canaries: Canaries, before: bytes, encode: Any
) -> None:
    canaries.plant("another")
    secret = canaries.plant("password").encode()

    assert canaries.found_in(b"Basic " + encode(before + secret + b"\xff\xfe")) == {"password"}


def test_a_secret_is_found_plain_percent_encoded_and_in_hex(canaries: Canaries) -> None:
    secret = canaries.plant("key")

    assert canaries.found_in(b'{"a":"' + secret.encode() + b'"}') == {"key"}
    assert canaries.found_in(quote(f"?{secret}").encode()) == {"key"}
    assert canaries.found_in("".join(f"%{ord(c):02X}" for c in secret).encode()) == {"key"}
    assert canaries.found_in(secret.encode().hex().encode()) == {"key"}
    assert canaries.found_in(secret.upper().encode()) == {"key"}


def test_a_part_of_a_secret_is_found_too(canaries: Canaries) -> None:
    secret = canaries.plant("key")

    assert canaries.found_in(secret[:16].encode()) == {"key"}
    assert canaries.found_in(secret[:10].encode()) == {UNKNOWN}
    assert canaries.found_in(b"nothing of it") == set()


def test_what_is_packed_in_files_is_searched(canaries: Canaries, tmp_path: Path) -> None:
    secret = canaries.plant("prompt").encode()
    (tmp_path / "a.log").write_bytes(secret)
    pl.DataFrame({"x": [secret] * 9}).write_parquet(tmp_path / "b.parquet", compression="zstd")
    with sqlite3.connect(tmp_path / "c.sqlite") as database:
        database.execute("create table t (body blob)")
        database.execute("insert into t values (?)", (zlib.compress(secret * 9),))
    database.close()

    found = {name for name, data in files_in(tmp_path) if canaries.found_in(data)}

    assert {"file a.log", "file b.parquet, unpacked", "file c.sqlite, unpacked"} <= found


def test_every_kind_of_value_in_a_store_is_searched(canaries: Canaries, client: Any) -> None:
    secrets = [canaries.plant(str(i)) for i in range(7)]
    client.set("string", base64.b64encode(zlib.compress(secrets[0].encode())))
    client.hset("hash", secrets[1], "x")
    client.xadd("stream", {"f": secrets[2]})
    client.zadd("zset", {secrets[3]: 1})
    client.sadd("set", secrets[4])
    client.rpush("list", zlib.compress(secrets[5].encode()))
    client.set(f"key:{secrets[6]}", "x")

    assert canaries.found_in(b"".join(data for _, data in in_store(client))) == set("0123456")


def test_of_a_providers_answer_only_our_own_words_are_ours() -> None:
    headers = {"x-other": "theirs", "x-router-endpoint": "ours"}
    events = b'data: {"text":"theirs"}\n\ndata: {"error":{"code":"stream_cut"}}\n\n'

    assert own_part(headers, b"theirs").count(b"theirs") == 2
    passed = own_part(headers | {MARK[0]: MARK[1]}, events)
    assert b"ours" in passed
    assert b"stream_cut" in passed
    assert b"theirs" not in passed


@pytest.mark.parametrize(
    "secret",
    [
        "password of the store",
        "admin key",
        "provider's key in a variable",
        "bearer token of the caller, coding",
        "user prompt, coding",
        "user, coding",
        "x-router-session-id, coding",
    ],
)
def test_nothing_is_allowed_to_hold_keys_prompts_or_users(secret: str) -> None:
    for each in ALLOWED:
        assert allowance(secret, each.place.replace("\\", "")) is None
    for place in ("file up.log", "store pm:names", "answer: coding", "/metrics", "verb report"):
        assert allowance(secret, place) is None


def test_what_is_allowed_is_allowed_in_its_own_place_only() -> None:
    assert allowance("password in base_url", "file state/configuration.json") is not None
    assert allowance("password in base_url", "file up.log") is None
    assert allowance("feedback: kind", "answer: feedback, kind") is not None
    assert allowance("feedback: kind", "answer: feedback, match") is None


def test_a_private_file_that_others_may_read_is_a_hit(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text("x")
    (tmp_path / "secrets.json").chmod(0o640)
    hits = Hits()

    hits.check_modes(tmp_path)

    assert hits.figures(0, [])["hits"] == [
        {"secret": "file secrets.json", "where": "may be read by others"}
    ]


def test_a_run_in_which_nothing_happened_proves_nothing() -> None:
    assert Hits().unseen("") == [*HAPPENED, *SEARCHED]


def test_keys_and_words_of_a_call_are_in_no_file_answer_or_metric(
    canaries: Canaries, tmp_path: Path
) -> None:
    """A small part of the proof: a provider that repeats all it was told in its errors."""
    provider = ScriptedProvider(SecretProvider(canaries))
    names = ("by-env", "echo-401", "echo-500", "told", "cut")
    key = tmp_path / "provider.key"
    key.write_text(canaries.plant("provider's key"))
    endpoints = [
        {"id": n, "model": n, "base_url": f"{provider.url()}/{n}/v1", "auth": {"file": str(key)}}
        for n in names
    ]
    with sidecar(tmp_path / "seen", {"endpoints": endpoints}) as running:
        caller = LoadedCaller(canaries, running.url.removesuffix("/v1"), "unused")

        async def play() -> None:
            async with provider.listening():
                calls = [
                    caller.chat(name, name, streamed=streamed)
                    for name in names
                    for streamed in (False, True)
                ]
                paths = ("/metrics", "/v1/router/endpoints", "/readyz?verbose")
                await caller.make([*calls, *(caller.get(path, path) for path in paths)])

        asyncio.run(play())
    hits = Hits()
    hits.search(files_in(tmp_path / "seen"), canaries)
    hits.search([(each.place, each.said) for each in caller.answers], canaries)

    found = hits.figures(len(canaries.names), [])

    assert found["hits"] == []
    assert found["places"] > len(names) + 5
    assert caller.statuses["echo-500"] == 500
