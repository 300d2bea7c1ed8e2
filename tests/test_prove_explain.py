"""The proof of explanations proves something: each promise that is not kept fails it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from router.config.compiled import compile_text
from scripts.proofs.explain import STORE_URL, _kept, configuration, passed
from scripts.proofs.explain_load import ExplainLoad
from telemetry.embedded import PrivateServer
from telemetry.store import Address

GOOD = {"same": True, "bytes_per_decision": 20.0, "store_mb": 30.0, "p99_ms": 80.0}


@pytest.mark.parametrize(
    ("worse", "holds"),
    [
        ({}, True),
        ({"same": False}, False),
        ({"bytes_per_decision": 201.0}, False),
        ({"store_mb": 64.1}, False),
        ({"p99_ms": 1001.0}, False),
    ],
)
def test_each_figure_has_its_bound(worse: dict[str, Any], holds: bool) -> None:
    assert passed(GOOD | worse) is holds


def test_the_load_is_decided_booked_and_kept(
    store: PrivateServer, address: Address, client: Any, state_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv(STORE_URL, address.url)
    text = yaml.safe_dump(configuration(state_dir / "load", provider=1))
    load = ExplainLoad(compile_text(text, file="load.yaml"), address)

    load.run(600)

    kept = _kept(client)
    assert load.sidecar.decisions.n_written == 600
    assert load.sidecar.writer.counters.sent == 600
    assert 8 < kept["bytes_per_decision"] < 40
    assert load.sidecar.decisions.n_dropped == 0
