"""Which model answers: told where it is another, or no longer the same, and never acted on."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

import fakeredis
import pytest
import structlog
import yaml
from conftest import SHARDS, Provider, Reply, Seen, answer, chunks, endpoint, serving, until
from dialects import message, message_events, named, response, response_events

from router.beliefs.served import HIDDEN_KEY, MAX_NAMES, REST, Imprint, ServedModels, shown_name
from router.config.compiled import compile_text
from router.endpoints.catalog import Endpoint
from router.endpoints.model_names import is_same_model
from router.report.served import served_lines, served_row, served_rows
from telemetry import frames, keys
from telemetry.decoding import decode
from telemetry.digests import digest8
from telemetry.events import Flag
from telemetry.store import Address, connect

DAY_MS = 86_400_000


@pytest.mark.parametrize(
    ("asked", "said", "is_same"),
    [
        ("gpt-x", "gpt-x", True),
        ("gpt-x", "GPT-X", True),
        ("gpt-x", "gpt-x-2026-01-15", True),
        ("gpt-x-2026-01-15", "gpt-x", True),
        ("gpt-x-2026-01-15", "gpt-x-2026-02-20", False),
        ("gpt-4", "gpt-4-0613", True),
        ("gpt-4", "gpt-4-turbo-2024-04-09", False),
        ("gpt-4o", "gpt-4o-mini-2024-07-18", False),
        ("gpt-4", "gpt-4-32k", False),
        ("gpt-4.1", "gpt-4.1-2025-04-14", True),
        ("gpt-5", "gpt-5.1", False),
        ("claude-opus-4", "claude-opus-4-20250514", True),
        ("claude-opus-4", "claude-opus-4-1-20250805", False),
        ("claude-3-5-sonnet-latest", "claude-3-5-sonnet-20241022", True),
        ("claude-3-5-sonnet@20240620", "claude-3-5-sonnet-20240620", True),
        ("us.anthropic.claude-3-5-sonnet-20240620-v1:0", "claude-3-5-sonnet-20240620", True),
        ("us.anthropic.claude-3-5-sonnet-20240620-v1:0", "claude-3-5-sonnet-20241022", False),
        ("models/gemini-2.5-pro", "gemini-2.5-pro", True),
        ("gemini-1.5-pro", "gemini-1.5-pro-002", True),
        ("meta-llama/Llama-3.3-70B", "llama-3.3-70b", True),
        ("accounts/fireworks/models/deepseek-v3", "deepseek-v3", True),
        ("deepseek-v3", "deepseek-v3.1", False),
        ("org/x:free", "org/x", True),
        ("org/x:free", "org/x-2026-01-15:free", True),
        ("llama3:8b", "llama3:70b", False),
        ("llama3", "llama3:latest", True),
        ("llama3:8b", "llama3:latest", True),
        ("text-embedding-3-small", "text-embedding-3-large", False),
        ("text-embedding-004", "text-embedding-005", False),
        ("mistral-large-latest", "mistral-large-2411", True),
        ("command-r", "command-r-08-2024", True),
        ("", "x", False),
        ("x", "", False),
        ("x", "/", False),
    ],
)
def test_names_of_one_model_are_known_by_how_hosts_write_them(
    asked: str, said: str, is_same: bool
) -> None:
    assert is_same_model(asked, said) is is_same
    assert is_same_model(said, asked) is is_same


def one(**more: Any) -> Endpoint:
    """An endpoint of model `m`."""
    entry = {"id": "a", "model": "m", "base_url": "http://h/v1", **more}
    return compile_text(yaml.safe_dump({"endpoints": [entry]}), file="t.yaml").catalog.endpoints[0]


@pytest.mark.parametrize(
    ("host", "said", "is_other"),
    [
        ({}, "m-2026-01-15", False),
        ({}, "n", True),
        ({"served_as": ["n", "o"]}, "o", False),
        ({"served_as": ["n"]}, "n-2026-01-15", False),
        ({"opaque": True}, "n", False),
        ({"upstream_model": "our-deployment"}, "our-deployment", False),
        ({"upstream_model": "our-deployment"}, "m-2026-01-15", False),
        ({"upstream_model": "m-2026-01-15"}, "m", False),
        ({"upstream_model": "m-2026-01-15"}, "m-2026-02-20", True),
        ({}, "has a blank", True),
    ],
)
def test_what_an_endpoint_may_be_called_by_its_answers(
    host: dict[str, Any], said: str, is_other: bool
) -> None:
    assert ServedModels().note(one(**host), said, None).is_other is is_other


def test_another_name_is_told_once_and_counted_each_time() -> None:
    served, found = ServedModels(), one()

    with structlog.testing.capture_logs() as logs:
        seen = [served.note(found, name, None).is_other for name in ("n", "n", "m", "n", "o", "n")]

    assert seen == [True, True, False, True, True, True]
    told = [log["served_as"] for log in logs if "served_as" in log]
    assert told == ["n", "o"]
    assert {name: one.calls for name, one in served.of(found, Imprint.MODEL).items()} == {
        "n": 4,
        "m": 1,
        "o": 1,
    }


def test_a_name_that_fits_is_told_where_it_takes_the_place_of_another() -> None:
    served, found = ServedModels(), one()

    with structlog.testing.capture_logs() as logs:
        for name in ("m-2026-01-15", "m-2026-01-15", "m-2026-02-20", "m-2026-01-15"):
            served.note(found, name, None)

    [log] = logs
    assert (log["log_level"], log["before"], log["now"]) == (
        "warning",
        "m-2026-01-15",
        "m-2026-02-20",
    )


def test_a_new_fingerprint_is_told_by_its_digest_alone() -> None:
    served, found = ServedModels(), one()

    with structlog.testing.capture_logs() as logs:
        for fingerprint in ("fp_1", "fp_1", None, "fp_2", "fp_1"):
            served.note(found, "m", fingerprint)

    [log] = logs
    assert log["log_level"] == "info"
    assert (log["before"], log["now"]) == (f"{digest8('fp_1'):016x}", f"{digest8('fp_2'):016x}")


def test_of_an_opaque_endpoint_nothing_is_told() -> None:
    served, found = ServedModels(), one(opaque=True)

    with structlog.testing.capture_logs() as logs:
        for name in ("n", "o", "p"):
            served.note(found, name, f"fp-{name}")

    assert logs == []
    [*lines] = served_lines([{"endpoint": "a", **(served_row(found, served) or {})}], now_ms=0)
    assert lines == []


def test_names_without_end_take_no_memory_without_end() -> None:
    served, found = ServedModels(), one()

    for n in range(1000):
        assert served.note(found, f"m{n}", f"fp{n}").is_other

    names = served.of(found, Imprint.MODEL)
    assert len(names) == len(served.of(found, Imprint.FINGERPRINT)) == MAX_NAMES + 1
    assert sum(entry.calls for entry in names.values()) == 1000
    assert names[REST].calls == 1000 - MAX_NAMES


@pytest.mark.parametrize("said", ["a b", "x\ny", "x" * 61, "x" * 1_000_000, "ключ", "\x1b[31m"])
def test_what_is_no_name_is_shown_as_a_digest(said: str) -> None:
    served, found = ServedModels(), one()

    assert served.note(found, said, None).is_other

    [shown] = served.of(found, Imprint.MODEL)
    assert shown == shown_name(said)
    assert len(shown) == 17


@pytest.mark.parametrize(
    "said", ["pv-secret-1", "Bearer pv-secret-1", "m-pv-secret-1", "sk-another-0123456789"]
)
def test_a_name_that_holds_a_key_is_not_kept(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "pv-secret-1")
    client, served, found = fakeredis.FakeRedis(), ServedModels(), one(auth={"env": "A_KEY"})

    with structlog.testing.capture_logs() as logs:
        assert served.note(found, said, None).is_other
    served.exchange(client)

    assert list(served.of(found, Imprint.MODEL)) == [HIDDEN_KEY]
    assert {line["served_as"] for line in logs} == {HIDDEN_KEY}
    kept = str([*client.hgetall(keys.SERVED)])
    assert "@key" in kept
    assert "secret" not in kept
    assert "another" not in kept


def test_a_name_that_only_looks_like_a_key_may_be_the_models_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("A_KEY", "m")  # no key, and part of every name
    served, found = ServedModels(), one(auth={"env": "A_KEY"}, served_as=["xai-grok-4-fast"])

    assert not served.note(found, "xai-grok-4-fast", None).is_other
    assert not served.note(found, "xai-grok-4-fast-2026-01-15", None).is_other
    assert not served.note(found, "m-2026-01-15", None).is_other
    names = ["xai-grok-4-fast", HIDDEN_KEY, "m-2026-01-15"]
    assert list(served.of(found, Imprint.MODEL)) == names


def test_names_like_keys_that_were_kept_once_leave_the_store() -> None:
    client, served, found = fakeredis.FakeRedis(), ServedModels(), one()
    place = f"{found.digest:016x}:model"
    for name in ("sk-another-0123456789", "m-2026-01-15"):
        client.hset(keys.SERVED, f"n_stored:{place}:{name}", "3")

    served.read(client)

    assert list(served.of(found, Imprint.MODEL)) == ["m-2026-01-15"]
    assert list(client.hgetall(keys.SERVED)) == [f"n_stored:{place}:m-2026-01-15".encode()]


def test_a_name_that_is_allowed_later_is_judged_anew() -> None:
    served = ServedModels()

    assert served.note(one(), "n", None).is_other
    assert not served.note(one(served_as=["n"]), "n", None).is_other
    assert served.note(one(), "n", None).is_other


def test_routers_sum_what_they_saw_and_a_new_one_knows_what_came_before() -> None:
    client, found = fakeredis.FakeRedis(), one()
    first, second, third = ServedModels(), ServedModels(), ServedModels()

    for _ in range(3):
        first.note(found, "m-2026-01-15", "fp_1")
    first.exchange(client)
    for _ in range(2):
        second.note(found, "m-2026-01-15", None)
    second.exchange(client)
    third.exchange(client)
    with structlog.testing.capture_logs() as logs:
        third.note(found, "m-2026-01-15", "fp_1")
        third.note(found, "m-2026-02-20", "fp_1")

    assert [log["now"] for log in logs] == ["m-2026-02-20"]
    calls = {name: entry.calls for name, entry in third.of(found, Imprint.MODEL).items()}
    assert calls == {"m-2026-01-15": 6, "m-2026-02-20": 1}


def test_a_store_that_is_away_or_spoilt_costs_nothing_but_the_memory_of_it() -> None:
    client, found, served = fakeredis.FakeRedis(), one(), ServedModels()
    client.hset(keys.SERVED, mapping={b"\xff": b"1", b"n_stored:zz:model:m": b"1", b"q": b"1"})
    client.hset(keys.SERVED, f"n_stored:{found.digest:016x}:model:n", "x")
    client.hset(keys.SERVED, f"calls:{found.digest:016x}:model:m", "1")
    served.note(found, "m", None)
    away = fakeredis.FakeRedis(server=fakeredis.FakeServer())
    away.connection_pool.connection_kwargs["server"].connected = False

    served.exchange(away)
    assert served.of(found, Imprint.MODEL)["m"].calls == 1
    served._next = 0.0
    served.exchange(client)

    assert served.of(found, Imprint.MODEL)["m"].calls == 1
    assert client.hget(keys.SERVED, f"n_stored:{found.digest:016x}:model:m") == b"1"


def test_the_report_tells_for_a_week_what_changed_and_as_long_as_another_answers() -> None:
    served, found = ServedModels(), one()
    for name, fingerprint in (("m", "fp_1"), ("m-2026-01-15", "fp_2"), ("n", None), ("n", None)):
        served.note(found, name, fingerprint)
    for n, (_, entry) in enumerate(served._entries()):
        entry.since_ms, entry.last_ms = n * 60_000, DAY_MS
    rows = [{"endpoint": "a", **(served_row(found, served) or {})}]

    assert served_lines(rows, now_ms=7 * DAY_MS) == [
        "a: served as n instead of m since 1970-01-01 00:02 UTC, 50.0% of calls, "
        "last 1970-01-02 00:00 UTC",
        "a: name m-2026-01-15 since 1970-01-01 00:01 UTC, 25.0% of calls; 2 known, "
        "the one before is m",
        f"a: fingerprint {digest8('fp_2'):016x} since 1970-01-01 00:04 UTC, 50.0% of calls; "
        f"2 known, the one before is {digest8('fp_1'):016x}",
    ]
    assert len(served_lines(rows, now_ms=7 * DAY_MS + 3_600_000)) == 1
    assert served_lines(rows, now_ms=9 * DAY_MS) == []


# -- over HTTP ----------------------------------------------------------------------------------


def other(call: Seen) -> Reply:
    """A provider that answers as `impostor`, in each dialect."""
    asked, path = call.json, call.path.partition("?")[0]
    if path.endswith("/embeddings"):
        vectors = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        said = {"object": "list", "data": vectors, "model": "impostor", "usage": usage}
        return Reply(body=json.dumps(said).encode())
    if path.endswith("/chat/completions"):
        if asked.get("stream"):
            return Reply(chunks=[c.replace(b'"m"', b'"impostor"') for c in chunks("hel", "lo")])
        return Reply(body=answer(model="impostor"))
    whole, events = (
        (message, message_events) if path.endswith("/messages") else (response, response_events)
    )
    said = whole(asked) | {"model": "impostor"}
    if asked.get("stream"):
        return Reply(chunks=[named(event) for event in events(said)])
    return Reply(body=json.dumps(said).encode())


CALLS = {
    "chat/completions": {"messages": [{"role": "user", "content": "x"}]},
    "messages": {"messages": [{"role": "user", "content": "x"}], "max_tokens": 5},
    "responses": {"input": "x"},
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", CALLS)
def test_another_model_is_told_in_every_dialect_and_the_answer_is_as_it_came(
    provider: Provider, state_dir: Any, address: Address, path: str, stream: bool
) -> None:
    provider.replies["a"] = other
    value = {
        "endpoints": [endpoint(provider, "a", dialects=["chat", "messages", "responses"])],
        "apps": {"default": {"mode": "route"}},
    }
    with serving(value, state_dir, address) as sidecar:
        got = sidecar.http.post(
            f"/v1/{path}", json={"model": "auto", "stream": stream, **CALLS[path]}
        )
        assert got.status_code == 200
        assert b"impostor" in got.content
        [row] = sidecar.http.get("/v1/router/endpoints").json()["endpoints"]
        metrics = sidecar.http.get("/metrics").text
        until(lambda: written(address))

    [record] = written(address)
    assert record["flags"] & Flag.OTHER_MODEL
    assert record["served_model"] == digest8("impostor")
    [shown] = row["served"]["models"]
    assert (shown["name"], shown["is_other"], shown["calls"]) == ("impostor", True, 1)
    assert 'router_served_other_model_total{endpoint="a"} 1.0' in metrics


def written(address: Address) -> Any:
    """The records that came to the store."""
    with closing(connect(address)) as client:
        entries = [e for shard in range(SHARDS) for e in client.xrange(keys.stream(shard))]
    return [r for _, e in entries for r in decode(frames.unpack(e[b"f"]).body)[0]]


def test_the_store_and_the_report_know_what_answers_and_feedback_goes_on(
    provider: Provider, state_dir: Any, address: Address, client: Any
) -> None:
    """The named model answers, then a new version of it, then vectors of another."""
    names = iter(["a-2026-01-15", "a-2026-01-15", "a-2026-02-20"])

    def reply(call: Seen) -> Reply:
        if call.path.endswith("/embeddings"):
            return other(call)
        whole = json.loads(answer(model=next(names))) | {"system_fingerprint": "fp_secret"}
        return Reply(body=json.dumps(whole).encode())

    provider.replies["a"] = reply
    value = {
        "endpoints": [endpoint(provider, "a", dialects=["chat", "embeddings"])],
        "apps": {"default": {"mode": "route"}},
    }
    with serving(value, state_dir, address) as sidecar:
        for _ in range(3):
            assert sidecar.chat("auto").status_code == 200
        body = {"model": "auto", "input": "x"}
        assert sidecar.http.post("/v1/embeddings", json=body).status_code == 200
        catalog = sidecar.app.keeper.current.configuration.catalog
        sidecar.app.keeper.served._next = 0.0
        until(lambda: client.hlen(keys.SERVED) == 12)
        shown = sidecar.http.get("/v1/router/posteriors").json()["served"]
        until(lambda: len(written(address)) == 4)

    read = ServedModels()
    read.read(client)
    assert served_rows(catalog, read) == shown
    [row] = shown
    found = {one["name"]: (one["calls"], one["is_other"]) for one in row["models"]}
    assert found == {
        "a-2026-01-15": (2, False),
        "a-2026-02-20": (1, False),
        "impostor": (1, True),
    }
    assert [one["calls"] for one in row["fingerprints"]] == [3]
    told = sorted(written(address), key=lambda r: bool(r["flags"] & Flag.OTHER_MODEL))
    assert [bool(r["flags"] & Flag.OTHER_MODEL) for r in told] == [False, False, False, True]
    assert {int(r["fingerprint"]) for r in told[:3]} == {digest8("fp_secret")}
    assert not any(
        b"fp_secret" in part for pair in client.hgetall(keys.SERVED).items() for part in pair
    )
