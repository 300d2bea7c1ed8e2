"""A row that no sum of records can be counts as unknown, and everybody who reads is told."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Provider, endpoint, serving

from bandit.cells import KEY, N_COLUMNS, Family
from bandit.decay import windows_and_weights
from router.report import gather, terminal
from telemetry import keys
from telemetry.events import digest8
from telemetry.store import Address


def damaged_row(endpoint_digest: int) -> tuple[bytes, bytes]:
    now_ms = np.array([int(time.time() * 1000)])
    window = int(windows_and_weights(now_ms, 14 * 86_400_000)[0][0])
    key = np.array(
        [(digest8("task", "general"), endpoint_digest, int(Family.USAGE), 0, window)], dtype=KEY
    )
    return key.tobytes(), np.full(N_COLUMNS, -5, dtype=np.int64).tobytes()


def test_a_damaged_row_falls_back_to_its_prior_with_an_alarm(
    provider: Provider,
    state_dir: Path,
    address: Address,
    client: Any,
    capfd: pytest.CaptureFixture[str],
) -> None:
    value = {"endpoints": [endpoint(provider, "a"), endpoint(provider, "b")]}
    with serving(value, state_dir, address) as sidecar:
        digest = sidecar.app.keeper.current.configuration.catalog.endpoints[1].digest
        key, row = damaged_row(digest)
        client.hset(keys.rows(0), key, row)
        client.zadd(keys.touched(0), {key: 1})
        client.hset(keys.meta(0), "version", 1)
        sidecar.until(lambda: bool(sidecar.app.keeper.current.posterior.damaged.any()))

        shown = sidecar.http.get("/v1/router/posteriors").json()["damaged"]
        metrics = sidecar.http.get("/metrics").text
        served = sidecar.chat()

    assert shown == [{"category": "general", "endpoint": "b"}]
    assert "router_cells_damaged 1.0" in metrics
    assert served.status_code == 200
    said = capfd.readouterr()
    assert (said.out + said.err).count("a cell is damaged and counts as unknown") == 1


def test_the_report_names_a_damaged_cell(capsys: pytest.CaptureFixture[str]) -> None:
    damaged = [{"category": "general", "endpoint": "b"}]

    terminal.print_report(gather.Report(posteriors={"damaged": damaged}))

    assert "damaged: b (general) counts as unknown" in capsys.readouterr().out
