"""Decisions explained later: the same numbers, of whatever became of the posteriors since."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import LEARN, ROUTED, Provider, Reply, Sidecar, endpoint, learning, serving

from router.decision_log import DecisionLog
from telemetry.store import Address

pytestmark = pytest.mark.slow
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
    rows = database.execute("select * from decision").fetchall()
    database.close()

    assert rows
    assert CANARY.encode() not in kept
    assert CANARY not in repr(rows)


def test_a_damaged_file_is_put_aside_and_calls_go_on(sidecar: Sidecar) -> None:
    explained(sidecar, sidecar.chat("auto"))
    (path,) = files(sidecar)
    for name in (f"{path.name}-wal", f"{path.name}-shm"):
        path.with_name(name).unlink(missing_ok=True)
    path.write_bytes(b"no database at all" * 1000)

    headers = {"x-router-session-id": "next"}
    found = explained(sidecar, sidecar.chat("auto", headers=headers))

    assert found["draw"] is not None
    assert path.with_name(f"{path.name}.damaged").exists()


def test_a_directory_that_cannot_be_written_costs_no_call(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    (state_dir / "decisions").write_text("a file where a directory belongs")
    with serving(two(provider), state_dir, address) as sidecar:
        answer = sidecar.chat("auto")
        assert answer.status_code == 200
        sidecar.until(lambda: sidecar.app.decisions.n_dropped == 1)
        wanted = answer.headers["x-router-decision-id"]
        got = sidecar.http.get(f"/v1/router/decisions/{wanted}")
        assert got.status_code == 404
        assert got.json()["error"]["code"] == "decision_not_kept"


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


def test_old_days_go_and_the_oldest_of_too_many(tmp_path: Path) -> None:
    today = time.strftime("%Y-%m-%d", time.gmtime())
    yesterday = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 86_400))
    for day in ("2020-01-01", yesterday, today):
        (tmp_path / f"{day}.sqlite").write_bytes(bytes(1000))
    log = DecisionLog(tmp_path, days=30, max_bytes=2500)

    assert log.prune() == 1
    assert sorted(p.stem for p in tmp_path.iterdir()) == [yesterday, today]

    small = DecisionLog(tmp_path, days=30, max_bytes=1500)
    assert small.prune() == 1
    assert [p.stem for p in tmp_path.iterdir()] == [today]


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

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "router.cli", "explain", "--url", sidecar.url]
        return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)

    text, one, wrong = run(wanted), run(wanted, "--json"), run("nonsense")

    assert text.returncode == 0
    assert "learning mode" in text.stdout
    assert json.loads(one.stdout)["drawn"] in ("a", "b")
    assert wrong.returncode == 2
    assert "no decision id" in wrong.stderr
