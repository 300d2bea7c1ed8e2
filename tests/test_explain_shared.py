"""Decisions explained anywhere: another router, a verb without any, by whatever names them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import (
    LEARN,
    ROUTED,
    Provider,
    Reply,
    Sidecar,
    endpoint,
    learning,
    pointsman,
    serving,
    until,
)

from router.decision.reasons import Reason
from router.errors import RequestRejected
from router.explain.asked import asked_name
from router.explain.rows import DecisionRow, PackedRows, pack
from router.explain.shared import bound_now
from telemetry import explained
from telemetry.embedded import PrivateServer
from telemetry.memory import MemoryUse
from telemetry.store import Address, connect

ENDPOINTS = ("a", "b", "c")


def value_of(provider: Provider, **more: Any) -> dict[str, Any]:
    endpoints = [endpoint(provider, name) for name in ENDPOINTS]
    return {"endpoints": endpoints, "strategies": LEARN, "apps": ROUTED, **more}


def told(sidecar: Sidecar, name: str, status: int = 200) -> dict[str, Any]:
    got = sidecar.http.get("/v1/router/decisions", params={"id": name} if name else {})
    assert got.status_code == status, got.text
    found: dict[str, Any] = got.json()
    return found


def id_of(answer: httpx.Response) -> str:
    return str(answer.headers["x-router-decision-id"])


@contextmanager
def two_routers(
    provider: Provider, state_dir: Path, address: Address, **more: Any
) -> Iterator[tuple[Sidecar, Sidecar]]:
    """Two routers of one store, each with a state directory of its own."""
    value = value_of(provider, **more)
    with (
        serving(value, state_dir / "one", address) as one,
        serving(value, state_dir / "other", address) as other,
    ):
        yield one, other


def test_another_router_tells_the_same_numbers_also_after_more_calls_a_reload_and_a_restart(
    provider: Provider, state_dir: Path, store: PrivateServer, address: Address
) -> None:
    value, session = value_of(provider), {"x-router-session-id": "s"}
    one_dir, other_dir = state_dir / "one", state_dir / "other"
    with serving(value, one_dir, address) as one, learning(one_dir, address):
        answers = [one.chat("auto", headers=session) for _ in range(2)]
        answers += [one.chat("auto", text=str(n), headers={"x-router-user": f"u{n}"})
                    for n in range(20)]  # fmt: skip
        answers.append(one.chat("a"))
        first = [told(one, id_of(answer)) for answer in answers]
        for n in range(40):
            got = one.chat("auto", text=f"more {n}", headers={"x-router-user": f"v{n}"})
            one.feedback(decision_id=id_of(got), score=1.0)
        one.until(lambda: one.calls_known() >= 40)
        with serving(value, other_dir, address) as other:
            assert [told(other, id_of(answer)) for answer in answers] == first
    changed = value_of(provider, tasks={"code": None})
    with serving(changed, other_dir, address) as other:
        began = time.monotonic()
        assert [told(other, id_of(answer)) for answer in answers] == first
        assert (time.monotonic() - began) / len(answers) < 1
    assert first[1]["draw_of"]["draw"] == first[0]["draw"]
    assert {one["id"] for one in first} == {a.headers["x-request-id"][:10] for a in answers}
    assert not (other_dir / "decisions").exists()


def test_an_answer_s_id_a_reference_and_a_beginning_name_a_decision(
    provider: Provider, state_dir: Path, store: PrivateServer, address: Address
) -> None:
    with two_routers(provider, state_dir, address) as (one, other):
        with learning(state_dir / "one", address):
            answer = one.chat("auto", headers={"x-router-ref": "ticket/7"})
            said = answer.json()["id"]
            one.until(lambda: one.calls_known() == 1)
        whole = told(other, id_of(answer))
        names = ["ticket/7", said, answer.headers["x-request-id"], whole["id"], whole["id"][:5]]
        names += [id_of(answer)[:n] for n in (40, 18, 17, 16, 15, 14)]

        assert [told(other, name) for name in names] == [whole] * len(names)
        assert told(other, "") == whole


def test_a_beginning_that_tells_nothing_is_refused_with_how_much_is_needed(
    sidecar: Sidecar,
) -> None:
    whole = id_of(sidecar.chat("auto"))

    for n in (8, 12, 13):
        error = told(sidecar, whole[:n], status=400)["error"]
        assert error["code"] == "bad_decision_id"
        assert "give the first 14 characters" in error["message"]


@pytest.mark.parametrize("name", ["a" * 5000, "d-" + "a" * 5000, "d-" + "=" * 5000, "x/" * 2500])
def test_a_name_that_is_very_long_is_not_repeated_in_full(sidecar: Sidecar, name: str) -> None:
    status = 400 if name.startswith("d-") else 404

    assert len(told(sidecar, name, status=status)["error"]["message"]) < 200
    assert len(pointsman("explain", name, "--url", sidecar.url).stderr) < 200


@pytest.mark.parametrize(
    ("path", "query", "name"),
    [
        ("", b"", ""),
        ("/", b"other=1", ""),
        ("", b"id=a%2Fb", "a/b"),
        ("/d-1", b"", "d-1"),
        ("/d-1", b"id=", "d-1"),
    ],
)
def test_a_decision_is_named_in_path_or_query_and_the_last_one_by_neither(
    path: str, query: bytes, name: str
) -> None:
    assert asked_name(path, query) == name


@pytest.mark.parametrize(("query", "what"), [(b"id=", "empty"), (b"id=a&id=b", "there twice")])
def test_an_empty_name_does_not_mean_the_last_decision(query: bytes, what: str) -> None:
    with pytest.raises(RequestRejected, match=f"id is {what}; name a decision") as refused:
        asked_name("", query)

    assert refused.value.status == 400


def test_a_verb_that_asks_a_sidecar_loads_nothing_that_decides(tmp_path: Path) -> None:
    """Of the configuration it reads where the sidecar is, and nothing else."""
    file = tmp_path / "pointsman.yaml"
    file.write_text("server: {port: 8788}\nendpoints: what is wrong here is others' business")
    code = (
        "import sys, router.commands.explain, router.explain.told; from pathlib import Path; "
        f"at, _ = router.commands.explain.owners_sidecar(None, '', Path({str(file)!r})); "
        "assert at == 'http://127.0.0.1:8788', at; "
        "print([n for n in ('numpy', 'scipy', 'redis') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_here_a_reference_is_known_before_it_is_folded(sidecar: Sidecar) -> None:
    answer = sidecar.chat("auto", headers={"x-router-ref": "mine"})

    assert told(sidecar, "mine")["id"] == answer.headers["x-request-id"][:10]


def test_several_that_are_meant_are_named(sidecar: Sidecar) -> None:
    answers = [sidecar.chat("auto", headers={"x-router-ref": "twice"}) for _ in range(2)]
    explain = ("explain", "--url", sidecar.url)

    found = told(sidecar, "twice", status=409)["error"]
    shown = pointsman(*explain, "twice")

    ids = [answer.headers["x-request-id"][:10] for answer in answers]
    assert [each["id"] for each in found["candidates"]] == ids
    assert shown.exit_code == 2
    assert all(each in shown.stderr for each in ids)
    assert pointsman(*explain, ids[0]).exit_code == 0


def test_what_nobody_knows_is_said_to_be_unknown_and_the_oldest_that_is_kept_is_named(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with serving(value_of(provider), state_dir, address) as sidecar:
        assert told(sidecar, "", status=404)["error"]["code"] == "decision_not_kept"
        sidecar.chat("auto")
        told(sidecar, "")
        assert told(sidecar, "nobody", status=404)["error"]["code"] == "decision_not_found"
        passed = told(sidecar, "d-nothing", status=400)["error"]["code"]
        assert passed == "bad_decision_id"


def test_the_verb_needs_no_sidecar(
    provider: Provider, state_dir: Path, store: PrivateServer, address: Address,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with serving(value_of(provider), state_dir / "one", address) as one:
        answer = one.chat("auto")
        first = told(one, id_of(answer))
    file = state_dir / "pointsman.yaml"
    server = {"port": 1, "state_dir": str(state_dir / "elsewhere")}
    (state_dir / "elsewhere").mkdir()
    file.write_text(json.dumps({**value_of(provider), "server": server, "store": {"shards": 2}}))
    monkeypatch.setenv("REDIS_URL", address.url)

    by_id = pointsman("explain", id_of(answer), "--config", file, "--json")
    last = pointsman("explain", "--last", "--config", file, "--json")
    text = pointsman("explain", first["id"], "--config", file)
    wrong = pointsman("explain", "nobody", "--config", file)
    none = pointsman("explain", "--config", file)

    assert json.loads(by_id.stdout) == json.loads(last.stdout) == first
    assert text.stdout.startswith(first["sentence"])
    assert (wrong.exit_code, none.exit_code) == (2, 2)


def test_who_answered_instead_is_known_to_every_router(
    provider: Provider, state_dir: Path, store: PrivateServer, address: Address
) -> None:
    with two_routers(provider, state_dir, address) as (one, other):
        drawn = one.chat("auto").headers["x-router-endpoint"]
        provider.on(drawn, Reply(status=500, body=b"{}"))
        answer = one.chat("auto")
        told(one, id_of(answer))  # written
        found = told(other, answer.headers["x-request-id"])

        assert answer.headers["x-router-reason"] == found["reason"] == "failover"
        assert found["answered_by"] == answer.headers["x-router-endpoint"] != drawn
        assert (
            found["sentence"]
            == f"failover: {drawn} did not answer, and {found['answered_by']} did."
        )
        assert found == told(other, id_of(answer))


def test_zero_megabytes_keep_nothing_in_the_store(
    provider: Provider, state_dir: Path, store: PrivateServer, address: Address, client: Any
) -> None:
    with two_routers(provider, state_dir, address, store={"explain_store_mb": 0}) as (one, other):
        answer = one.chat("auto")
        told(one, id_of(answer))

        assert told(other, id_of(answer), status=404)["error"]["code"] == "decision_not_kept"
        assert explained.segments(client) == []


def test_a_store_that_is_away_costs_no_call_and_is_told_later(
    provider: Provider, state_dir: Path
) -> None:
    with PrivateServer(state_dir / "store") as server:
        address = Address(f"unix://{server.socket_path}")
        with serving(value_of(provider), state_dir / "one", address) as one:
            one.chat("auto")
            with connect(address) as admin:
                admin.execute_command("CLIENT PAUSE", 3000, "ALL")
            answer = one.chat("auto", headers={"x-router-user": "late"})
            assert answer.status_code == 200
            assert told(one, id_of(answer))["drawn"] in ENDPOINTS
            with connect(address) as admin:
                until(lambda: _n_rows(admin) >= 2)


def _n_rows(client: Any) -> int:
    batches = [b for each in explained.segments(client) for b in each.batches(client)]
    return sum(len(PackedRows(batch).rows()) for batch in batches)


# -- the bound ----------------------------------------------------------------------------------


def test_several_writers_stay_within_one_bound_and_lose_the_oldest(
    store: PrivateServer, client: Any
) -> None:
    bound = 1 << 20
    for n in range(3000):
        row = DecisionRow(os.urandom(8), 1000 + n, os.urandom(8))
        parts = {row.frame: os.urandom(700)}
        assert explained.write(
            client, pack([row]), parts, first_ms=1000 + n, max_bytes=bound, keep_s=60
        )
        if n % 300 == 299:
            assert sum(explained.used_bytes(client)) <= explained.counted_bytes(client) <= bound
    kept = [
        (row.decided_at_ms, each.parts(client, [row.frame]))
        for each in explained.segments(client)
        for batch in each.batches(client)
        for row in PackedRows(batch).rows()
    ]

    assert [at for at, _ in kept] == list(range(4000 - len(kept), 4000))
    assert len(kept) > 600
    assert all(len(parts) == 1 for _, parts in kept)


def test_what_is_larger_than_the_bound_is_refused_and_harms_nothing(
    store: PrivateServer, client: Any
) -> None:
    first = pack([DecisionRow(bytes(8), 1, bytes(8))])
    given: dict[str, Any] = {"first_ms": 1, "max_bytes": 1 << 20, "keep_s": 60}
    explained.write(client, first, {bytes(8): b"part"}, **given)

    assert not explained.write(client, first, {b"too large": bytes(1 << 20)}, **given)
    assert [each.batches(client) for each in explained.segments(client)] == [[first]]


def test_segments_that_ended_are_counted_no_more(store: PrivateServer, client: Any) -> None:
    given: dict[str, Any] = {"max_bytes": 1 << 20, "keep_s": 60}
    for n in range(200):
        parts = {n.to_bytes(8): os.urandom(1000)}
        explained.write(client, bytes(100), parts, first_ms=n, **given)
    first = explained.segments(client)[0]
    counted = explained.counted_bytes(client)
    client.delete(f"{{pm:explain}}:r{first.number}", f"{{pm:explain}}:p{first.number}")

    explained.write(client, bytes(100), {}, first_ms=1, **given)

    assert explained.segments(client)[0].number == first.number + 1
    assert explained.counted_bytes(client) < counted - 20_000


@pytest.mark.parametrize(
    ("use", "mb"),
    [
        (None, 64),
        (MemoryUse(1, 0, 0, is_hard=False), 64),
        (MemoryUse(1, 0, 1 << 30, is_hard=False), 64),
        (MemoryUse(1, 0, 128 << 20, is_hard=False), 32),
        (MemoryUse(1, 0, 1 << 30, is_hard=False, keeps_draws=False), 0),
    ],
)
def test_decisions_take_a_quarter_of_the_store_at_most_and_nothing_where_it_is_full(
    use: MemoryUse | None, mb: int
) -> None:
    assert bound_now(64, use) == mb << 20


def test_a_smaller_bound_holds_from_the_next_write_on(store: PrivateServer, client: Any) -> None:
    for n in range(1500):
        row = DecisionRow(os.urandom(8), n, bytes(8))
        parts = {os.urandom(8): os.urandom(700)}
        bound = (1 << 20) if n < 1499 else (1 << 19)
        explained.write(client, pack([row]), parts, first_ms=n, max_bytes=bound, keep_s=60)

    assert sum(explained.used_bytes(client)) <= 1 << 19
    assert explained.segments(client)[-1].since_ms > 1000


# -- what a row takes ---------------------------------------------------------------------------


def rows_like(n: int) -> list[DecisionRow]:
    return [
        DecisionRow(
            os.urandom(8),
            1_800_000_000_000 + 3 * i,
            bytes([i % 7] * 8),
            os.urandom(4),
            bytes([i % 3] * 8) if i % 5 else b"",
            0.25 + i % 4,
            1000 + i // 50,
            1_799_999_000_000 + i if i % 5 == 0 else 0,
            900 if i % 5 == 0 else 0,
            i % 11 == 0,
        )
        for i in range(n)
    ]


@pytest.mark.parametrize("n", [1, 2, 300])
def test_rows_come_back_as_they_were_packed(n: int) -> None:
    rows = rows_like(n)
    packed = PackedRows(pack(rows))

    assert packed.rows() == rows
    assert packed.rows([n - 1]) == rows[-1:]
    assert packed.made_at(rows[-1].decided_at_ms) == rows[-1:]
    assert packed.named(rows[-1].nonce) == [n - 1]
    assert packed.named(rows[-1].nonce[:6]) == [n - 1]


def test_a_row_takes_a_hundred_bytes_alone_and_forty_among_many() -> None:
    assert len(pack(rows_like(1))) <= 100
    assert len(pack(rows_like(300))) / 300 <= 40


@pytest.mark.parametrize("cut", [0, 2, 20, -1])
def test_a_damaged_batch_is_said_to_be_damaged(cut: int) -> None:
    with pytest.raises(ValueError, match="damaged"):
        PackedRows(pack(rows_like(9))[:cut]).rows()


def test_every_answer_with_an_id_carries_its_reason(provider: Provider, sidecar: Sidecar) -> None:
    streamed = sidecar.chat("auto", stream=True)

    assert sidecar.chat("a").headers["x-router-reason"] == "pinned"
    assert streamed.headers["x-router-reason"] in set(Reason)
