"""The page from a real store: what calls, feedback and trials leave there, and what is missing."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import (
    SHARDS,
    Provider,
    Sidecar,
    endpoint,
    learning,
    pointsman,
    serving,
)
from pages import GAINS
from rich.cells import cell_len

from bandit.told_verdicts import to_plain
from router.beliefs.kept import ReviewKey
from telemetry import jobs_trouble, keys
from telemetry.changes import ChangeRecord, append
from telemetry.embedded import PrivateServer
from telemetry.jobs_trouble import JobsTrouble
from telemetry.store import Address, connect
from telemetry.trials import Trial, start

ADMIN, OWN, OTHER = "the-admin's-key", "the-key-of-shop", "the-key-of-desk"
HOSTILE = "\x1b[31m<b>[bold]\n"


def value(provider: Provider) -> dict[str, Any]:
    return {
        "server": {"admin_key": {"env": "ADMIN_KEY"}},
        "endpoints": [endpoint(provider, name, prices=PRICES) for name in ("a", "b")],
        "tasks": {"code": {}},
        "apps": {
            "shop": {"mode": "route", "keys": [{"env": "KEY_OF_SHOP"}]},
            "desk": {"mode": "observe", "keys": [{"env": "KEY_OF_DESK"}]},
        },
    }


PRICES = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 4}


@pytest.fixture
def keyed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, key in (("ADMIN_KEY", ADMIN), ("KEY_OF_SHOP", OWN), ("KEY_OF_DESK", OTHER)):
        monkeypatch.setenv(name, key)


def ask(sidecar: Sidecar, key: str, n: int) -> list[str]:
    headers = {"x-router-key": key, "x-router-task": "code"}
    got = [sidecar.chat(headers={**headers, "x-router-session-id": str(i)}) for i in range(n)]
    return [one.headers["x-router-decision-id"] for one in got]


def report_of(sidecar: Sidecar, key: str, query: str = "") -> Any:
    return sidecar.http.get(f"/v1/router/report{query}", headers={"x-router-key": key})


@pytest.mark.slow
@pytest.mark.usefixtures("store", "keyed")
def test_the_page_tells_what_calls_feedback_trials_and_changes_left(
    provider: Provider, state_dir: Path, address: Address, client: Any, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        stack.enter_context(learning(state_dir, address))
        sidecar = stack.enter_context(serving(value(provider), state_dir, address))
        shop, _ = ask(sidecar, OWN, 6), ask(sidecar, OTHER, 3)
        for decision in shop[:4]:
            body, key = {"decision_id": decision, "thumb": "up"}, {"x-router-key": OWN}
            assert sidecar.http.post("/v1/feedback", json=body, headers=key).status_code == 202
        now_ms = int(time.time() * 1000)
        trial = Trial(
            id="abcdefghij12",
            app="shop",
            strategy="quality",
            task="code",
            incumbent="a",
            challenger="b",
            began_ms=now_ms,
            ends_ms=now_ms + 86_400_000,
            release_key=ReviewKey("shop", "quality", "", "a").release_keys(["code"])[0],
        )
        start(client, trial)
        told = {"verdict": to_plain(GAINS), "row": to_plain(GAINS), "signals": {"human": 4}}
        client.set(keys.VERDICTS, json.dumps({"at_ms": now_ms, "trials": {trial.id: told}}))
        outage = ChangeRecord(
            id="1" * 16, at_ms=now_ms, kind="outage", subject="b", text=f"no answer {HOSTILE}"
        )
        append(client, [outage])
        sidecar.until(lambda: report_of(sidecar, ADMIN).json()["totals"]["calls"] == 9)
        # Labels come with beliefs, which may be a moment behind the ledger.
        sidecar.until(
            lambda: any(one["signal"] for one in report_of(sidecar, ADMIN).json()["categories"])
        )

        whole = report_of(sidecar, ADMIN).json()
        own = report_of(sidecar, OWN)
        narrow = report_of(sidecar, ADMIN, "?app=desk").json()
        refused = report_of(sidecar, OWN, "?app=desk")
        unknown = report_of(sidecar, ADMIN, "?task=cook")
        nobody = report_of(sidecar, "wrong")

    lines = {(one["app"], one["task"]): one for one in whole["page"]["tasks"]}
    code = lines["shop", "code"]
    assert (code["calls"], code["current"], code["word"]) == (6, "a", "proven")
    assert code["why"].startswith("trial: gains 3.1 pp [1.2, 5.0] in quality")
    assert code["signals"] == [{"name": "thumbs", "n": 4}]
    assert code["spent_usd"] > 0
    assert code["cost_per_success_usd"] > 0
    assert lines["desk", "code"]["word"] == "off"
    (sentence,) = whole["page"]["sentences"]
    assert sentence["text"].startswith("App shop, code: b gains 3.1 pp [1.2, 5.0] in quality")
    assert sentence["advice"] == "pointsman trial stop abcdefghij12"
    assert {one["kind"] for one in whole["page"]["changes"]} >= {"trial", "outage"}
    assert whole["period"]["scope"] == "all apps, 7 days"
    assert whole["totals"]["cost_usd"] == pytest.approx(whole["page"]["spent_usd"])
    assert own.status_code == 200
    assert {one["app"] for one in own.json()["page"]["tasks"]} == {"shop"}
    assert own.json().keys() == {"page", "period", "totals", "tasks", "details"}
    assert (own.json()["page"]["routers"], own.json()["page"]["troubles"]) == ([], [])
    assert [one["app"] for one in narrow["page"]["tasks"]] == ["desk"]
    assert refused.status_code == 400
    assert "this key sees app 'shop' alone" in refused.text
    assert unknown.status_code == 400
    assert "no such task" in unknown.text
    assert nobody.status_code == 401

    config = tmp_path / "pointsman.yaml"
    entries = value(provider)
    entries["server"]["state_dir"] = str(state_dir)
    config.write_text(yaml.safe_dump({**entries, "store": {"shards": SHARDS}}))
    environment = {"REDIS_URL": address.url}
    for more in ([], ["--all"], ["--task", "code"], ["--month"], ["--since", "1d"]):
        said = pointsman("report", *more, "--config", config, environment=environment)
        assert said.exit_code == 0, said.output
        assert "\x1b" not in said.stdout
        assert max(map(cell_len, said.stdout.splitlines())) <= 80 or "--all" in more
    opened = pointsman("report", "--task", "code", "--config", config, environment=environment)
    assert "by 4 thumbs" in opened.stdout
    assert any(line.startswith("a*") for line in opened.stdout.splitlines())
    page = pointsman("report", "--config", config, environment=environment).stdout
    assert len(page.splitlines()) <= 40
    assert "no answer ?[31m<b>[bold]" in page


@pytest.mark.usefixtures("store", "keyed")
def test_why_no_jobs_are_run_is_told_wherever_a_store_that_is_away_is(
    provider: Provider, state_dir: Path, address: Address, client: Any
) -> None:
    trouble = JobsTrouble(text="no jobs are run: <b>", fix="start it", since_ms=1_764_513_000_000)
    admin = {"x-router-key": ADMIN}
    with serving(value(provider), state_dir, address) as sidecar:
        ready = sidecar.http.get("/readyz?verbose", headers=admin).json()
        assert ready["jobs"] is None
        assert "router_jobs_stopped 0" in sidecar.http.get("/metrics", headers=admin).text

        jobs_trouble.say(client, trouble)
        sidecar.until(
            lambda: sidecar.http.get("/readyz?verbose", headers=admin).json()["jobs"] is not None
        )

        ready = sidecar.http.get("/readyz?verbose", headers=admin).json()
        metrics = sidecar.http.get("/metrics", headers=admin).text
        (told,) = report_of(sidecar, ADMIN).json()["page"]["troubles"]
        own = report_of(sidecar, OWN).json()["page"]["troubles"]
        page = sidecar.http.get("/", headers=admin).text
        client.set(keys.JOBS_TROUBLE, b'{"text": 3')
        odd = report_of(sidecar, ADMIN).json()["page"]["troubles"]

    assert ready["jobs"] == {
        "text": "no jobs are run: <b>",
        "fix": "start it",
        "since_ms": 1_764_513_000_000,
    }
    assert (ready["ready"], ready["degraded"]) == (True, False)
    assert "router_jobs_stopped 1" in metrics
    assert told == {**ready["jobs"], "is_urgent": True}
    assert own == [], "an app's key sees nothing of what runs"
    assert "no jobs are run: &lt;b&gt;</span> since 30 Nov" in page
    assert odd == []


@pytest.mark.usefixtures("store", "keyed")
def test_without_a_trial_it_is_not_shown_yet_and_names_what_is_missing(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with serving(value(provider), state_dir, address) as sidecar:
        found = report_of(sidecar, ADMIN).json()["page"]

    assert found["sentences"][0]["text"] == "Not shown yet: no call was recorded."
    assert found["sentences"][0]["verdict"]["basis"] == "nothing"
    assert found["notes"][0].startswith("no call was recorded yet")


@pytest.mark.usefixtures("store", "keyed")
def test_without_an_incumbent_it_says_how_one_is_named(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    told = value(provider)
    told["strategies"] = {"quality": {"incumbent": "none"}}
    with learning(state_dir, address), serving(told, state_dir, address) as sidecar:
        ask(sidecar, OWN, 1)
        sidecar.until(lambda: report_of(sidecar, ADMIN).json()["page"]["tasks"] != [])
        found = report_of(sidecar, ADMIN).json()["page"]

    assert "no incumbent" in found["sentences"][0]["text"]
    assert "`apps.shop.incumbent: ENDPOINT`" in found["sentences"][0]["advice"]


def test_a_frozen_store_is_not_waited_for_and_said_on_top(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.report.gather.TIMEOUT_S", 0.5)
    config = tmp_path / "pointsman.yaml"
    with PrivateServer(tmp_path / "store") as server:
        url = f"unix://{server.socket_path}"
        entries = {"endpoints": [endpoint(provider, "a")]}
        entries["server"] = {"state_dir": str(tmp_path / "state")}  # type: ignore[assignment]
        config.write_text(yaml.safe_dump(entries))
        with closing(connect(Address(url))) as client:
            pid = int(client.info("server")["process_id"])
        os.kill(pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            said = pointsman("report", "--config", config, environment={"REDIS_URL": url})
            took_s = time.monotonic() - began
        finally:
            os.kill(pid, signal.SIGCONT)

    assert said.exit_code == 1
    assert said.stdout.startswith("no store: ")
    assert took_s < 15
