"""Decisions explained later: the same numbers, of whatever became of the posteriors since."""

from __future__ import annotations

import io
import json
import math
import random
import resource
import sqlite3
import threading
import time
import zlib
from contextlib import closing
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import msgspec
import pytest
from conftest import LEARN, ROUTED, Provider, Reply, Sidecar, endpoint, learning, pointsman, serving
from rich.console import Console
from test_router_units import configuration

from router.commands.explain import ask, show
from router.decision.seal import PREFIX
from router.errors import RequestRejected
from router.explain.desk import ExplainDesk
from router.explain.files import DecisionFiles
from router.explain.kept import find
from router.explain.parts import MAX_REMEMBERED, PartPacking, packed_numbers
from router.explain.parts import unpacked as unpacked_part
from router.explain.rows import DecisionRow, PackedRows
from router.explain.sentence import finish
from telemetry.store import Address
from telemetry.tokens import Token

CANARY = "canary-7f3a"


def explained(sidecar: Sidecar, answer: httpx.Response) -> dict[str, Any]:
    decision_id = answer.headers["x-router-decision-id"]
    got = sidecar.http.get(f"/v1/router/decisions/{decision_id}")
    assert got.status_code == 200, got.text
    found: dict[str, Any] = got.json()
    return found


def files(sidecar: Sidecar) -> list[Path]:
    return sorted((sidecar.state_dir / "decisions").glob("*.sqlite"))


def two(provider: Provider, **server: Any) -> dict[str, Any]:
    endpoints = [endpoint(provider, "a"), endpoint(provider, "b")]
    return {"endpoints": endpoints, "strategies": LEARN, "apps": ROUTED, "server": server}


def test_an_explanation_is_the_token_s_own_numbers(sidecar: Sidecar) -> None:
    answer = sidecar.chat("auto")

    found = explained(sidecar, answer)

    assert found["drawn"] == answer.headers["x-router-endpoint"]
    assert f"{found['propensity']:.6g}" == answer.headers["x-router-propensity"]
    assert str(found["posterior_version"]) == answer.headers["x-router-posterior-version"]
    shares = {row["endpoint"]: row["propensity"] for row in found["draw"]["candidates"]}
    assert sum(shares.values()) == pytest.approx(1)
    assert shares[found["drawn"]] == pytest.approx(found["propensity"])


def test_it_stays_the_same_when_posteriors_move_on_and_after_a_restart(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    value = two(provider)
    with serving(value, state_dir, address) as sidecar, learning(state_dir, address):
        answer = sidecar.chat("auto")
        first = explained(sidecar, answer)
        for n in range(20):
            got = sidecar.chat("auto", text=f"other {n}")
            sidecar.feedback(decision_id=got.headers["x-router-decision-id"], score=1.0)
        sidecar.until(lambda: sidecar.calls_known() >= 20)
        later = explained(sidecar, sidecar.chat("auto", text="last"))
        assert later["draw"] != first["draw"]
        assert explained(sidecar, answer) == first
    with serving(value, state_dir, address) as sidecar:
        assert explained(sidecar, answer) == first


def test_a_guarded_draw_tells_of_its_choice_and_an_unrouted_call_of_none(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    value = {**two(provider), "apps": {"default": {"mode": "route", "strategy": "quality"}}}
    with serving(value, state_dir, address) as sidecar:
        found = explained(sidecar, sidecar.chat("auto"))
        named = explained(sidecar, sidecar.chat("a"))

    assert found["draw"]["law"]["learning_mode"] is False
    assert found["draw"]["law"]["current"] == found["draw"]["law"]["incumbent"] == "a"
    assert found["note"] == "no quality signal"
    assert (named["step"], named["draw"], named["propensity"]) == (None, None, 1.0)


def test_a_call_that_follows_names_the_draw_it_follows(sidecar: Sidecar) -> None:
    headers = {"x-router-session-id": "one"}
    first = explained(sidecar, sidecar.chat("auto", headers=headers))

    found = explained(sidecar, sidecar.chat("auto", text="again", headers=headers))

    assert found["draw"] is None
    assert found["follows"]["decided_at_ms"] == first["decided_at_ms"]
    assert found["draw_of"]["draw"] == first["draw"]
    assert found["draw_of"]["drawn"] == found["drawn"]


def test_who_answered_in_the_place_of_a_failed_endpoint_is_named(
    sidecar: Sidecar, provider: Provider
) -> None:
    drawn = sidecar.chat("auto").headers["x-router-endpoint"]
    other = "b" if drawn == "a" else "a"
    provider.on(drawn, Reply(status=500, body=b"{}"))

    found = explained(sidecar, sidecar.chat("auto"))

    assert (found["drawn"], found["answered_by"]) == (drawn, other)


def test_nothing_of_prompts_users_or_sessions_is_kept(sidecar: Sidecar) -> None:
    headers = {"x-router-session-id": f"s-{CANARY}", "x-router-ref": f"r-{CANARY}"}
    answer = sidecar.chat("auto", text=CANARY, headers=headers, user=f"u-{CANARY}")
    explained(sidecar, answer)

    kept = b"".join(p.read_bytes() for p in (sidecar.state_dir / "decisions").iterdir())
    (path,) = files(sidecar)
    database = sqlite3.connect(path)
    packed = [rows for (rows,) in database.execute("select rows from batch")]
    texts = [text for (text,) in database.execute("select body from part")]
    database.close()

    assert packed
    rows = repr([PackedRows(each).rows() for each in packed]).encode()
    unpacked = rows + b"".join(json.dumps(unpacked_part(text)).encode() for text in texts)
    assert b'"drawn"' in unpacked
    assert CANARY.encode() not in kept + unpacked


@pytest.mark.parametrize("is_open", [False, True])
def test_a_damaged_file_is_put_aside_and_calls_go_on(sidecar: Sidecar, is_open: bool) -> None:
    """Where it was open then, what it had may be written over the damage instead."""
    explained(sidecar, sidecar.chat("auto"))
    (path,) = files(sidecar)
    if not is_open:
        sidecar.app.decisions.files.close()
    for name in (f"{path.name}-wal", f"{path.name}-shm"):
        path.with_name(name).unlink(missing_ok=True)
    path.write_bytes(b"no database at all" * 1000)

    headers = {"x-router-session-id": "next"}
    found = explained(sidecar, sidecar.chat("auto", headers=headers))

    assert found["draw"] is not None
    assert is_open or path.with_name(f"{path.name}.damaged").exists()


def test_a_piece_that_is_written_to_is_whole_in_its_one_file_soon_after(
    sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.explain.files.OPEN_S", 0.5)
    answer = sidecar.chat("auto")
    explained(sidecar, answer)
    (path,) = files(sidecar)

    sidecar.until(lambda: not path.with_name(f"{path.name}-wal").exists())
    assert not sidecar.app.decisions.files.is_open
    assert explained(sidecar, answer)["drawn"] in ("a", "b")


def test_a_directory_that_cannot_be_written_costs_no_call(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    (state_dir / "decisions").write_text("a file where a directory belongs")
    alone = {**two(provider), "store": {"explain_store_mb": 0}}
    with serving(alone, state_dir, address) as sidecar:
        answer = sidecar.chat("auto")
        assert answer.status_code == 200
        wanted = answer.headers["x-router-decision-id"]
        got = sidecar.http.get(f"/v1/router/decisions/{wanted}")
        assert got.status_code == 404
        assert got.json()["error"]["code"] == "decision_not_kept"
        assert sidecar.app.decisions.n_written == 0
        (state_dir / "decisions").unlink()
        sidecar.until(lambda: sidecar.app.decisions.n_written == 1)
        assert explained(sidecar, answer)["drawn"] in ("a", "b")


def test_zero_days_keep_nothing(provider: Provider, state_dir: Path, address: Address) -> None:
    with serving(two(provider, explain_days=0), state_dir, address) as sidecar:
        answer = sidecar.chat("auto")
        wanted = answer.headers["x-router-decision-id"]
        got = sidecar.http.get(f"/v1/router/decisions/{wanted}")
        assert got.status_code == 404
        assert "explain_days is 0" in got.json()["error"]["message"]
        assert not (state_dir / "decisions").exists()


def test_what_is_no_decision_id_is_said_to_be_none(sidecar: Sidecar) -> None:
    got = sidecar.http.get("/v1/router/decisions/d-nothing")

    assert got.status_code == 400
    assert got.json()["error"]["code"] == "bad_decision_id"


def days_ago(n: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(time.time() - n * 86_400))


def test_old_days_go_and_the_oldest_of_too_many_damaged_ones_too(tmp_path: Path) -> None:
    kept = [f"{days_ago(1)}.{n}.sqlite" for n in (0, 2, 10)] + [f"{days_ago(0)}.0.sqlite"]
    old = [f"{days_ago(32)}.0.sqlite", "2020-01-01.3.sqlite.damaged"]
    for name in [*old, *kept]:
        (tmp_path / name).write_bytes(bytes(1000))
    (tmp_path / f"{old[0]}-wal").write_bytes(bytes(10))
    (tmp_path / kept[0]).rename(tmp_path / f"{kept[0]}.damaged")

    assert DecisionFiles(tmp_path, days=30, max_bytes=10_000).prune() == 2
    assert {p.name for p in tmp_path.iterdir()} == {f"{kept[0]}.damaged", *kept[1:]}

    assert DecisionFiles(tmp_path, days=30, max_bytes=2500).prune() == 2
    assert {p.name for p in tmp_path.iterdir()} == set(kept[2:])


def test_a_draw_of_a_day_before_the_oldest_is_kept_for_those_who_follow_it(tmp_path: Path) -> None:
    name = f"{days_ago(31)}.0.sqlite"
    (tmp_path / name).write_bytes(b"")

    assert DecisionFiles(tmp_path, days=30, max_bytes=1 << 20).prune() == 0


def row(number: int, at_ms: int) -> DecisionRow:
    return DecisionRow(
        number.to_bytes(8, "big"), at_ms, digest_of(number), parts=(digest_of(number),)
    )


def digest_of(number: int) -> bytes:
    return number.to_bytes(8, "little")


def parts_of(rows: list[DecisionRow], size: int = 1000) -> dict[bytes, bytes]:
    return {row.frame: random.Random(row.nonce).randbytes(size) for row in rows}


def kept_row(files: DecisionFiles, number: int, at_ms: int) -> DecisionRow | None:
    found = find(files, number.to_bytes(8, "big"), at_ms)
    return found.row if found is not None else None


def test_what_earlier_versions_kept_is_still_explained(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    """Whole bodies, and parts under digests of 16 bytes, as they were written until then."""
    now_ms, nonce = int(time.time() * 1000) - 5000, bytes(range(16))
    law = {"learning_mode": False, "incumbent": "a", "current": "a", "challengers": ["b"]}
    candidates = [
        {"endpoint": name, "propensity": 0.5, "quality": 0.7, "cost_usd": 0.1} for name in "ab"
    ]
    draw = {"law": law | {"holdout": 0.0, "floor": 0.02, "stay": 0.4}, "candidates": candidates}
    body = {
        **{"decided_at_ms": now_ms, "app": "default", "task": "general", "strategy": "quality"},
        **{"posterior_version": 7, "routed": True, "drawn": "b", "step": "floor"},
        **{"propensity": 0.01, "drawn_now": True, "follows": None, "stands_in_for": None},
        **{"note": "", "translated": None, "left_out": []},
    }
    packed = [nonce, now_ms, b"unitunit", json.dumps(body).encode(), b"d" * 16, b"e" * 16]
    (state_dir / "decisions").mkdir()
    day = time.strftime("%Y-%m-%d", time.gmtime(now_ms / 1000))
    path = state_dir / "decisions" / f"{day}.0.sqlite"
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript(
            "create table batch (second integer, rows blob);"
            "create index by_second on batch (second);"
            "create table part (digest blob primary key, body blob) without rowid;"
        )
        rows = zlib.compress(msgspec.msgpack.encode([packed]), level=1)
        database.execute("insert into batch values (?, ?)", (now_ms // 1000, rows))
        for digest, part in ((b"d" * 16, draw), (b"e" * 16, {"c": "region"})):
            text = zlib.compress(json.dumps(part).encode())
            database.execute("insert into part values (?, ?)", (digest, text))
    with serving(two(provider), state_dir, address) as sidecar:
        got = sidecar.http.get("/v1/router/decisions", params={"id": nonce.hex()})
        found = got.json()
        fresh = explained(sidecar, sidecar.chat("auto"))

    assert got.status_code == 200
    assert {name: found[name] for name in body} == body
    assert (found["draw"], found["exclusions"]) == (draw, {"c": "region"})
    assert found["sentence"].startswith("exploring (1 in 100): b ")
    assert (found["counterfactual"], found["answered_by"]) == (None, "b")
    assert fresh["drawn"] in ("a", "b")
    shown = Console(file=io.StringIO(), width=120)
    show(found, shown)
    assert "excluded: c (region)" in shown.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.slow
def test_numbers_read_as_they_did_when_they_were_kept_as_text() -> None:
    rng = random.Random(3)
    columns = {"quality": [rng.random() for _ in range(20)], "utility": [-math.inf, -0.0, 1e-300]}
    draw = {"law": {"incumbent": None, "floor": 0.02}, "arms": [0, 7], "columns": columns}

    as_text, as_numbers = PartPacking().of(draw), packed_numbers(draw)

    assert unpacked_part(as_numbers[1]) == unpacked_part(as_text[1])
    assert unpacked_part(as_numbers[1])["columns"]["quality"] == columns["quality"]
    assert unpacked_part(as_numbers[1])["columns"]["utility"][0] is None
    assert packed_numbers(draw | {"arms": [0, 8]})[0] != as_numbers[0]


@pytest.mark.parametrize("body", [b"", b"\x01", b"\x01\xc1", b"x", zlib.compress(b"{")])
def test_a_damaged_part_is_told_as_one(body: bytes) -> None:
    with pytest.raises(ValueError, match="damaged"):
        unpacked_part(body)


def test_a_text_that_differs_is_another_part_however_many_are_remembered() -> None:
    packing = PartPacking()

    parts = [packing.of({"reason": str(n)}) for n in range(MAX_REMEMBERED + 9)]

    assert packing.of({"reason": "3"}) == parts[3]
    assert len({digest for digest, _ in parts}) == len(parts)
    assert [unpacked_part(body) for _, body in parts[-2:]] == [
        {"reason": str(n)} for n in (MAX_REMEMBERED + 7, MAX_REMEMBERED + 8)
    ]


def test_many_decisions_do_not_gather_for_long(
    sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Patched: at the real bound it would take more calls than a test should make.
    monkeypatch.setattr("router.explain.log.EVERY_S", 600.0)
    monkeypatch.setattr("router.explain.log.MOST_GATHERED", 5)
    sidecar.until(lambda: not sidecar.app.decisions._queue)
    for n in range(10):
        sidecar.chat("auto", text=str(n))

    sidecar.until(lambda: sidecar.app.decisions.n_written >= 5)


def test_a_full_bound_costs_the_oldest_decisions_and_never_the_newest(tmp_path: Path) -> None:
    files = DecisionFiles(tmp_path, days=30, max_bytes=2 << 20)
    now_ms = int(time.time() * 1000)

    def at_ms(number: int) -> int:
        return now_ms + 10 * number

    for number in range(0, 10_000, 100):
        rows = [row(n, at_ms(n)) for n in range(number, number + 100)]
        files.write(rows, parts_of(rows, size=450))
        assert kept_row(files, number + 99, at_ms(number + 99)) is not None

    total = sum(p.stat().st_size for p in tmp_path.iterdir())
    assert 1 << 20 < total < 3 << 20
    found = [kept_row(files, n, at_ms(n)) is not None for n in range(0, 10_000, 50)]
    assert found == sorted(found), "a gap"
    assert 40 < sum(found) < 180


def test_a_file_that_another_holds_is_tried_again(
    sidecar: Sidecar, capfd: pytest.CaptureFixture[str]
) -> None:
    explained(sidecar, sidecar.chat("auto"))
    (path,) = files(sidecar)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("begin immediate")
        answers = [sidecar.chat("auto", text=str(n)) for n in range(5)]
        sidecar.until(lambda: "cannot be kept" in capfd.readouterr().out)
        other.execute("rollback")

    for answer in answers:
        assert explained(sidecar, answer)["drawn"] in ("a", "b")
    assert sidecar.app.decisions.n_dropped == 0


def test_a_full_disk_costs_no_call_and_decisions_are_kept_once_there_is_room(
    sidecar: Sidecar, capfd: pytest.CaptureFixture[str]
) -> None:
    explained(sidecar, sidecar.chat("auto"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        # No file of this process may grow beyond this; the journal has its room already.
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        answers = [sidecar.chat("auto", text=str(n)) for n in range(20)]
        sidecar.until(lambda: "cannot be kept" in capfd.readouterr().out)
        assert {answer.status_code for answer in answers} == {200}
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    for answer in answers:
        assert explained(sidecar, answer)["drawn"] in ("a", "b")
    assert sidecar.app.decisions.n_dropped == 0
    assert "are kept again" in capfd.readouterr().out


def test_what_waits_is_bounded_in_bytes_and_counted(
    provider: Provider, state_dir: Path, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Patched: to fill the real bound, of 16 MiB, would take some ten thousand calls.
    monkeypatch.setattr("router.explain.log.MAX_WAITING_BYTES", 4000)
    (state_dir / "decisions").write_text("a file where a directory belongs")
    with serving(two(provider), state_dir, address) as sidecar:
        for n in range(30):
            assert sidecar.chat("auto", text=str(n)).status_code == 200
        sidecar.until(lambda: sidecar.app.decisions.n_dropped > 10)
        (state_dir / "decisions").unlink()
        sidecar.until(lambda: sidecar.app.decisions.n_written > 0)
        log = sidecar.app.decisions
        assert log.n_written + log.n_dropped == 30


def test_whatever_goes_wrong_in_the_thread_the_next_decisions_are_kept(sidecar: Sidecar) -> None:
    sidecar.app.decisions.put("no decision")
    sidecar.until(lambda: sidecar.app.decisions.n_dropped == 1)

    assert explained(sidecar, sidecar.chat("auto", text="two"))["drawn"] in ("a", "b")


def test_of_two_that_find_one_damaged_file_one_puts_it_aside(tmp_path: Path) -> None:
    now_ms = int(time.time() * 1000)
    path = tmp_path / f"{days_ago(0)}.0.sqlite"
    for attempt in range(20):
        for left in ("-wal", "-shm"):  # with those of a sound file it would not be damaged for all
            path.with_name(path.name + left).unlink(missing_ok=True)
        path.write_bytes(b"no database at all" * 1000)
        start = threading.Barrier(4)

        def write(number: int, start: threading.Barrier = start) -> None:
            files = DecisionFiles(tmp_path, days=30, max_bytes=1 << 30)
            start.wait()
            while True:
                try:
                    return files.write([one := row(number, now_ms)], parts_of([one]))
                except sqlite3.OperationalError:  # as the log does, the next time
                    continue

        threads = [Thread(target=write, args=(4 * attempt + i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        files = DecisionFiles(tmp_path, days=30, max_bytes=1 << 30)
        for i in range(4):
            assert kept_row(files, 4 * attempt + i, now_ms) is not None


def test_two_sidecars_share_a_directory_and_killed_ones_keep_what_was_written(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with (
        serving(two(provider), state_dir, address) as one,
        serving(two(provider), state_dir, address) as other,
    ):
        answers = [s.chat("auto", text=str(n)) for n in range(20) for s in (one, other)]
        assert all(explained(one, answer) == explained(other, answer) for answer in answers)


def test_explain_prints_the_candidates_or_one_object(sidecar: Sidecar) -> None:
    wanted = sidecar.chat("auto").headers["x-router-decision-id"]
    explain = ("explain", "--url", sidecar.url)

    text, one = pointsman(*explain, wanted), pointsman(*explain, wanted, "--json")
    wrong = pointsman(*explain, "nonsense")

    assert text.exit_code == 0
    assert "learning mode" in text.stdout
    assert json.loads(one.stdout)["drawn"] in ("a", "b")
    assert wrong.exit_code == 2
    assert "no decision id" in wrong.stderr


def test_the_verb_finds_the_admin_key_where_the_configuration_says_and_sends_it_there_alone(
    provider: Provider, state_dir: Path, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OWNER", "key-owner")
    with serving(two(provider, admin_key={"env": "OWNER"}), state_dir, address) as sidecar:
        decision_id = sidecar.chat("auto").headers["x-router-decision-id"]
        owner = {"authorization": "Bearer key-owner"}
        sidecar.until(lambda: ask(decision_id, url=sidecar.url, headers=owner).is_success)
        file = state_dir / "pointsman.yaml"
        server = {"port": sidecar.port, "admin_key": {"env": "OWNER"}}
        value = {"endpoints": [endpoint(provider, "a")], "server": server}
        file.write_text(json.dumps(value))

        found = pointsman("explain", decision_id, "--config", file, "--json")
        elsewhere = pointsman(
            "explain", decision_id, "--config", file, "--url", sidecar.url, "--json"
        )
        monkeypatch.delenv("OWNER")
        without = pointsman("explain", decision_id, "--config", file)

    assert (found.exit_code, json.loads(found.stdout)["drawn"] in "ab") == (0, True)
    assert (elsewhere.exit_code, "admin key" in elsewhere.stderr) == (2, True)
    assert (without.exit_code, "OWNER" in without.stderr) == (2, True)


TOLD: dict[str, Any] = {
    **{"id": "00", "decided_at_ms": 0, "drawn": "a", "task": "general", "app": "x"},
    **{"strategy": "s", "posterior_version": 1, "routed": True, "step": "sample"},
    **{"propensity": 1.0, "answered_by": "a", "note": "", "draw": None, "draw_of": None},
    **{"exclusions": None, "follows": None, "stands_in_for": None, "task_found_by": "general"},
    **{"host": None, "then": [], "translated": None, "left_out": [], "known": None},
    **{"counterfactual": None, "reason": "incumbent", "ended": None},
}


@pytest.mark.parametrize(
    ("exclusions", "said"),
    [
        ({}, "it failed, and b answered"),
        (None, "it failed, and b answered"),
        ({"c": "region"}, "it failed, and b answered"),
        ({"a": "capability"}, "it may not serve this call, and b answered"),
    ],
)
def test_who_was_drawn_and_never_asked_has_not_failed(exclusions: Any, said: str) -> None:
    out = Console(file=io.StringIO(), width=100)

    show(finish({**TOLD, "answered_by": "b", "exclusions": exclusions}), out)

    assert said in out.file.getvalue()  # type: ignore[attr-defined]


def test_a_decision_of_a_clock_that_is_ahead_is_not_waited_for() -> None:
    ahead_ms = int((time.time() + 3600) * 1000)
    token = Token(0, 0, 0, bytes(16), ahead_ms, 0, 0, 0, 0, 0, 0, 0, 1.0, 0.0, 0.0)
    client: Any = None  # an id says whose it is by itself
    desk = ExplainDesk([], client, n_shards=1, open_id=lambda said: token)
    began = time.monotonic()

    with pytest.raises(RequestRejected) as caught:
        desk.explain(PREFIX + "A" * 160, configuration())

    assert caught.value.code == "decision_not_kept"
    assert time.monotonic() - began < 10


def test_an_answers_id_of_another_router_is_waited_for_until_its_call_is_folded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    token = Token(0, 0, 0, bytes(range(16)), 7, 0, 0, 0, 0, 0, 0, 0, 1.0, 0.0, 0.0)
    told = iter([[], [], [[token.pack()]]])
    monkeypatch.setattr("router.explain.desk.look_up", lambda *_, **__: next(told))
    client: Any = None
    desk = ExplainDesk([], client, n_shards=1, open_id=lambda said: token)

    (meant,) = desk._meant("chatcmpl-7", configuration())

    assert meant.nonce == token.nonce
