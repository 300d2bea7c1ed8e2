"""Calls and failed calls of the ledger: each decision once, in the row of who it ended with."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from conftest import Provider, Reply, Sidecar, answer, chunks, endpoint, serving
from test_attempt_costs import records

from telemetry.events import Flag
from telemetry.ledger_rows import LedgerColumn, LedgerTable
from telemetry.store import Address
from workers.folding.spending import spent_by

C = LedgerColumn
REFUSED = json.dumps({"error": {"message": "no such field", "code": "bad"}}).encode()


def counted(found: np.ndarray) -> tuple[int, int, int]:
    """Calls, failed ones, attempts."""
    sums = spent_by(found).tables[LedgerTable.CALLS].values.sum(axis=0)
    return int(sums[C.CALLS]), int(sums[C.FAILED_CALLS]), int(sums[C.ATTEMPTS])


def leave(sidecar: Sidecar, model: str) -> None:
    """Ask for a stream, and leave in the middle."""
    asked = {"model": model, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    with sidecar.http.stream("POST", "/v1/chat/completions", json=asked) as got:
        next(line for line in got.iter_lines() if "word" in line)


def ask(sidecar: Sidecar, model: str) -> None:
    sidecar.chat(model)


def stream(sidecar: Sidecar, model: str) -> None:
    with suppress(httpx.RemoteProtocolError):
        sidecar.chat(model, stream=True)


CUT = Reply(chunks=chunks(*["word"] * 7, finish=False)[:5], cut=True)
LONG = Reply(chunks=chunks(*["word"] * 40), chunk_delay_s=0.05)


@pytest.mark.parametrize(
    ("reply", "how", "expected"),
    [
        (Reply(body=answer()), ask, (1, 0, 1)),
        (Reply(status=400, body=REFUSED), ask, (1, 1, 1)),
        (Reply(status=500), ask, (1, 1, 3)),
        (Reply(status=429, headers={"retry-after": "60"}), ask, (1, 1, 1)),
        (Reply(status=401), ask, (1, 1, 1)),
        (Reply(body=b"{}"), ask, (1, 1, 1)),
        (CUT, stream, (1, 1, 1)),
        (LONG, leave, (0, 0, 1)),
    ],
    ids=["answered", "400", "500", "429", "401", "no answer", "cut", "left"],
)
def test_a_call_counts_once_and_failed_where_its_client_got_no_good_answer(
    provider: Provider,
    state_dir: Path,
    address: Address,
    reply: Reply,
    how: Callable[[Sidecar, str], None],
    expected: tuple[int, int, int],
) -> None:
    provider.on("a", reply)
    with serving({"endpoints": [endpoint(provider, "a")]}, state_dir, address) as sidecar:
        how(sidecar, "a")
        sidecar.until(lambda: sidecar.app.writer.counters.sent >= expected[2])
        found = records(address)

    assert counted(found) == expected
    assert sum(int(one["flags"]) & Flag.UNANSWERED > 0 for one in found) == expected[1]


def test_a_call_that_another_endpoint_answers_is_that_ones(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", Reply(status=401))
    with serving(
        {
            "endpoints": [endpoint(provider, n) for n in "ab"],
            "apps": {"default": {"mode": "observe"}},
        },
        state_dir,
        address,
    ) as sidecar:
        got = sidecar.chat("auto")
        assert (got.status_code, got.headers["x-router-endpoint"]) == (200, "b")
        sidecar.until(lambda: sidecar.app.writer.counters.sent >= 2)
        found = records(address)
        listed = sidecar.app.keeper.current.configuration.catalog.by_digest

    rows = spent_by(found).tables[LedgerTable.CALLS]
    by = {
        listed[int(key["endpoint"])].id: row
        for key, row in zip(rows.keys, rows.values, strict=True)
    }
    assert {name: (int(row[C.CALLS]), int(row[C.FAILED_CALLS])) for name, row in by.items()} == {
        "a": (0, 0),
        "b": (1, 0),
    }
    assert [int(one["attempt"]) for one in found] == [1, 2]


def test_of_a_call_that_nobody_answers_the_last_attempt_is_its_end(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    for name in "ab":
        provider.on(name, Reply(status=500))
    value = {"endpoints": [endpoint(provider, n) for n in "ab"]}
    with serving(value, state_dir, address) as sidecar:
        assert sidecar.chat("auto").status_code == 500
        sidecar.until(lambda: sidecar.app.writer.counters.sent >= len(provider.calls))
        found = records(address)

    assert counted(found)[:2] == (1, 1)
    (end,) = [one for one in found if int(one["flags"]) & Flag.UNANSWERED]
    assert int(end["attempt"]) == len(found)


@pytest.mark.parametrize(
    ("reply", "how", "expected"),
    [
        (Reply(body=answer()), ask, (1, 0, 1)),
        (Reply(status=500), ask, (1, 1, 1)),
        (LONG, leave, (0, 0, 1)),
    ],
    ids=["answered", "500", "left"],
)
def test_a_request_that_is_passed_on_counts_alike(
    provider: Provider,
    state_dir: Path,
    address: Address,
    reply: Reply,
    how: Callable[[Sidecar, str], None],
    expected: tuple[int, int, int],
) -> None:
    provider.on("p", reply)
    value: dict[str, Any] = {"endpoints": [endpoint(provider, "a")]}
    value["providers"] = {"prov": {"base_url": provider.url("p"), "passthrough": True}}
    with serving(value, state_dir, address) as sidecar:
        how(sidecar, "gpt-9")
        sidecar.until(lambda: sidecar.app.writer.counters.sent >= 1)

        assert counted(records(address)) == expected


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([{}], (1, 0, 1)),
        ([{"result": "server"}], (1, 1, 1)),
        (
            [
                {"attempt": 1, "result": "server"},
                {"attempt": 2},
                {"attempt": 3, "result": "overtaken"},
            ],
            (1, 0, 3),
        ),
        (
            [{"attempt": 1, "status": 500}, {"attempt": 2, "status": 500, "final": True}],
            (1, 1, 2),
        ),
        ([{"attempt": 1, "final": False}, {"attempt": 2}], (1, 0, 2)),
        ([{"result": "client_gone"}], (0, 0, 1)),
    ],
    ids=["ok", "failed", "chain", "chain that failed", "not good enough", "left"],
)
def test_a_chain_that_an_app_tells_is_one_call_as_far_as_its_events_say(
    provider: Provider, state_dir: Path, address: Address, told: Any, expected: Any
) -> None:
    with serving({"endpoints": [endpoint(provider, "a")]}, state_dir, address) as sidecar:
        batch = [
            {
                "specversion": "1.0",
                "id": f"e{i}",
                "source": "t",
                "type": "pointsman.outcome.v1",
                "data": {"endpoint": "a", "tokens_in": 1, "tokens_out": 1, **said},
            }
            for i, said in enumerate(told)
        ]
        kind = {"content-type": "application/cloudevents-batch+json"}
        got = sidecar.http.post("/v1/events", content=json.dumps(batch), headers=kind)
        assert got.status_code < 300, got.text
        sidecar.until(lambda: sidecar.app.writer.counters.sent >= len(told))

        assert counted(records(address)) == expected
