"""A row that no sum of records can be counts as unknown, and everybody who reads is told."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import Provider, Sidecar, endpoint, pointsman, serving
from pipeline import said_in_store
from test_ingest import outcome as outcome_told
from test_ingest import tell
from test_workers_archive import Life, feedback, outcome, run

from bandit.cells import KEY
from bandit.decay import windows_and_weights
from bandit.families import N_COLUMNS, Family, U
from router.config import watch
from router.report import gather, matrix_table, page_troubles, views
from router.report.screen import console
from telemetry import keys
from telemetry.digests import digest8
from telemetry.store import Address
from workers.archive.rebuilt import damaged_rows, named
from workers.archive.restore import restore


def damaged_row(endpoint_digest: int) -> tuple[bytes, bytes]:
    now_ms = np.array([int(time.time() * 1000)])
    window = int(windows_and_weights(now_ms, 14 * 86_400_000)[0][0])
    key = np.array(
        [(digest8("task", "general"), endpoint_digest, int(Family.USAGE), 0, window)], dtype=KEY
    )
    return key.tobytes(), np.full(N_COLUMNS, -5, dtype=np.int64).tobytes()


def write_row(client: Any, key: bytes, row: bytes, *, version: int = 1) -> None:
    client.hset(keys.rows(0), key, row)
    client.zadd(keys.touched(0), {key: version})
    client.hset(keys.meta(0), "version", version)


def is_damaged(sidecar: Sidecar) -> bool:
    return bool(sidecar.app.keeper.current.posterior.damaged.any())


def test_a_damaged_row_falls_back_to_its_prior_with_an_alarm(
    provider: Provider,
    state_dir: Path,
    address: Address,
    client: Any,
    capfd: pytest.CaptureFixture[str],
) -> None:
    value = {"endpoints": [endpoint(provider, "a"), endpoint(provider, "b")]}
    with serving(value, state_dir, address) as sidecar:
        write_row(client, *damaged_row(sidecar.digest("b")))
        sidecar.until(lambda: is_damaged(sidecar))

        posteriors = sidecar.http.get("/v1/router/posteriors").json()
        shown = posteriors["damaged"]
        metrics = sidecar.http.get("/metrics").text
        served = sidecar.chat()

    assert shown == [{"category": "general", "endpoint": "b"}]
    assert "router_cells_damaged 1.0" in metrics
    assert [(r["endpoint"], r["damaged"], r["calls"]) for r in posteriors["rows"]] == [
        ("a", False, 0),
        ("b", True, 0),
    ]
    assert posteriors["rows"][1]["cost_usd"] is None
    assert posteriors["categories"][0]["category"] == "general"
    assert served.status_code == 200
    said = capfd.readouterr()
    assert (said.out + said.err).count("a cell is damaged and counts as unknown") == 1


def test_a_cell_is_told_once_however_often_the_configuration_changes_until_it_is_sound(
    provider: Provider,
    state_dir: Path,
    address: Address,
    client: Any,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "STILL_S", 0.05)
    monkeypatch.setattr(watch, "LOOK_EVERY_S", 0.05)
    value = {"endpoints": [endpoint(provider, "a"), endpoint(provider, "b")]}
    file = state_dir / "pointsman.yaml"

    def told() -> int:
        said = capfd.readouterr()
        lines.append(said.out + said.err)
        return "".join(lines).count("a cell is damaged and counts as unknown")

    lines: list[str] = []
    with serving(value, state_dir, address, file=file) as sidecar:
        key, row = damaged_row(sidecar.digest("b"))
        write_row(client, key, row)
        sidecar.until(lambda: is_damaged(sidecar))
        for n in range(2):
            before = sidecar.app.keeper.current.configuration
            file.write_text(file.read_text() + f"# {n}\n")
            changed = yaml.safe_load(file.read_text())
            changed["endpoints"][0]["prices"]["input_usd_per_mtok"] = 3 + n
            file.write_text(yaml.safe_dump(changed, sort_keys=False))
            sidecar.until(lambda old=before: sidecar.app.keeper.current.configuration is not old)
            assert is_damaged(sidecar)
        assert told() == 1

        write_row(client, key, np.zeros(N_COLUMNS, dtype=np.int64).tobytes(), version=2)
        sidecar.until(lambda: not is_damaged(sidecar))
        write_row(client, key, row, version=3)
        sidecar.until(lambda: is_damaged(sidecar))
        sidecar.until(lambda: told() == 2)


def test_the_report_names_a_damaged_cell_and_what_helps() -> None:
    damaged = [{"category": "general", "endpoint": "b"}]

    (said,) = page_troubles.other_troubles({"damaged": damaged}, (), 0)

    assert said.text == "damaged sums count as unknown: b (general)"
    assert "`pointsman audit state` names the row" in said.fix
    assert "`pointsman restore` puts it right" in said.fix


def test_a_report_shows_a_damaged_cell_at_its_prior(
    provider: Provider, state_dir: Path, address: Address, client: Any
) -> None:
    value = {"endpoints": [endpoint(provider, "a"), endpoint(provider, "b")]}
    with serving(value, state_dir, address) as sidecar:
        write_row(client, *damaged_row(sidecar.digest("b")))
        beliefs, *_ = gather.read_beliefs(sidecar.app.keeper.current.configuration, address)

    with (out := console()).capture() as shown:
        matrix_table.print_matrix(views.report_rows(beliefs, "quality"), out)

    (line,) = [line for line in shown.get().splitlines() if line.startswith("b ")]
    assert line.split()[:2] == ["b", "damaged"]


# -- what helps ---------------------------------------------------------------------------------


def usage_of(life: Life) -> tuple[bytes, bytes]:
    rows = {
        name: row
        for name, row in life.rows().items()
        if np.frombuffer(name, dtype=KEY)["family"][0] == int(Family.USAGE)
    }
    return min(rows.items())


def spoil(life: Life) -> bytes:
    """Let a learner that starts now find a row that no records add up to."""
    name, row = usage_of(life)
    spoilt = np.frombuffer(row, dtype="<i8").copy()
    spoilt[U.TOKENS_OUT] = -5
    life.client.hset(keys.rows(0), name, spoilt.tobytes())
    life.shard.load()
    return name


@pytest.fixture
def life(client: Any, state_dir: Path) -> Life:
    found = Life(client, state_dir / "archive")
    found.send(*(outcome(n) for n in range(1, 40)), feedback(3, 0.5))
    found.fold()
    found.take()
    return found


def restored(life: Life) -> tuple[Life, int]:
    """Everything is stopped, the marks are deleted, and the store restored."""
    life.lease.release()
    life.client.delete(keys.meta(0))
    n_left_out = restore(life.archive).left_out
    again = Life(life.client, life.archive.root)
    again.numbers = life.numbers
    again.fold()
    return again, n_left_out


def test_a_row_that_was_spoilt_in_the_store_is_named_and_restored(life: Life) -> None:
    sound = life.rows()
    name = spoil(life)
    found = life.audit()

    again, n_left_out = restored(life)

    assert not found.equal
    assert found.damaged == [f"shard 0: {named(name)}"]
    assert n_left_out == 0
    assert again.rows() == sound
    assert (again.audit().equal, again.audit().damaged) == (True, [])


def test_a_row_that_the_archive_has_as_damaged_is_left_out_and_begins_anew(life: Life) -> None:
    """As one whose sum wrapped under an earlier version: its records may be gone."""
    labels = said_in_store(life.client)
    name = spoil(life)
    life.send(outcome(100))
    life.fold()
    life.take()

    again, n_left_out = restored(life)
    again.send(*(outcome(n) for n in range(200, 240)))
    again.fold()

    assert n_left_out == 1
    assert damaged_rows(again.rows()) == []
    assert np.frombuffer(again.rows()[name], dtype="<i8")[U.CALLS] > 0
    assert said_in_store(again.client) == labels
    again.take()
    found = again.audit()
    assert found.damaged == []
    # Of the row that was spoilt by hand the old file still says so; nothing else does.
    assert found.different == 1
    assert "in the store" not in str(found.difference)


def test_a_restore_that_was_killed_after_it_left_rows_out_goes_on(life: Life) -> None:
    spoil(life)
    life.send(outcome(100))
    life.fold()
    life.take()
    life.client.delete(keys.meta(0))

    first, second = restore(life.archive), restore(life.archive)

    assert (first.left_out, second.left_out) == (1, 0)
    assert damaged_rows(life.rows()) == []


@pytest.mark.usefixtures("store")  # the commands open the private one
def test_the_commands_name_the_cell_and_say_what_to_do(life: Life, state_dir: Path) -> None:
    life.client.hset(keys.NAMES, mapping={f"{10:016x}": "b", f"{11:016x}": "b"})
    spoil(life)

    as_json = run(state_dir, "audit", "state")
    said = pointsman("audit", "state", "--config", state_dir / "pointsman.yaml")

    assert said.exit_code == as_json.exit_code == 1
    assert "damaged: shard 0: row of category " in said.stdout
    assert "(b), usage" in said.stdout
    assert "`pointsman restore`" in said.stdout
    assert len(json.loads(as_json.stdout)["damaged"]) == 1


# -- the smallest input -------------------------------------------------------------------------


@pytest.mark.usefixtures("learner")
def test_two_thousand_calls_of_a_thousand_dollars_are_reported_as_such(sidecar: Sidecar) -> None:
    for part in range(2):
        told = [outcome_told(1000 * part + n, cost_usd=1000) for n in range(1000)]
        assert tell(sidecar, *told).status_code == 202

    sidecar.until(lambda: sidecar.calls_known() == 2000, 60)

    found = sidecar.http.get("/v1/router/posteriors").json()
    (row,) = [row for row in found["rows"] if row["endpoint"] == "a"]
    assert (row["calls"], row["cost_usd"], row["damaged"]) == (2000, pytest.approx(1000), False)
    assert found["damaged"] == []
