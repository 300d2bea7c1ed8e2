"""Reports by role: calls, cost, times and labels of whatever part a call plays, counted once."""

from __future__ import annotations

import random
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import SHARDS, Provider, Sidecar, endpoint, serving
from rich.console import Console
from test_roster import worker

from bandit import cells
from bandit.families import Family, P
from bandit.parts import figures_of, key_of, read_roles
from router.report.gather import gather
from router.report.roles import role_key, role_table
from router.report.terminal import print_report
from telemetry import decoding, events, frames
from telemetry.decisions import KIND, Decisions
from telemetry.events import FeedbackKind, Flag, Result
from telemetry.frames import Frame
from telemetry.layouts import TOKEN
from telemetry.store import Address
from telemetry.tokens import Token, role_mark
from workers.archive.archive import Archive
from workers.archive.audit import audit_state
from workers.archive.rebuilt import Rebuilt

NOW_MS = 1_800_000_000_000
CODER, JUDGE = role_mark("coder"), role_mark("judge")


def token(n: int, role: int, *, executed: int = 3) -> bytes:
    nonce = n.to_bytes(16, "big")
    flags = int(Flag.ROUTED)
    return Token(
        *(1, 0, flags, nonce, NOW_MS, 1, executed, executed, 4, 5, 6, 7, 1.0, 0.5, 0.1), role=role
    ).pack()


def outcome(n: int, mark: int, result: Result = Result.OK, **more: Any) -> bytes:
    flags = int(Flag.FINAL | Flag.PRICED)
    told = {"attempt": 1, "status": 200, "latency_s": 2.0, "cost_nano": 500, **more}
    executed = told.pop("executed", 3)
    return events.outcome(token(n, mark, executed=executed), result=result, flags=flags, **told)


def label(n: int, role: int, value: float | None, revision: int = 0) -> bytes:
    event = NOW_MS.to_bytes(6, "big") + n.to_bytes(4, "big") + bytes(6)
    kind = FeedbackKind.HUMAN
    return events.feedback(token(n, role), kind=kind, value=value, revision=revision, event=event)


def folded(*batches: list[bytes]) -> cells.Terms:
    state = Rebuilt(raters_key=b"k" * 32)
    for i, records in enumerate(batches):
        frame = frames.pack(Frame(frames.UNNUMBERED, 0, 0, b"".join(records)))
        state.fold([(b"%d-%d" % (NOW_MS, i), {b"f": frame})])
    keys_of, values = zip(*state.rows.items(), strict=True)
    rows = np.array([list(value) for value in values], dtype=np.int64)
    return cells.Terms(np.frombuffer(b"".join(keys_of), dtype=cells.KEY), rows)


RECORDS = [
    outcome(1, CODER),
    outcome(2, CODER, latency_s=8.0, cost_nano=1500),
    outcome(3, CODER, Result.SERVER, executed=4),
    outcome(4, CODER, Result.CLIENT_GONE),
    outcome(5, JUDGE),
    outcome(6, 0),
    label(1, CODER, 1.0),
    label(2, CODER, 0.5),
    label(6, 0, 0.0),
]


# -- pure -----------------------------------------------------------------------------------------


def test_figures_of_a_role_are_those_of_its_calls() -> None:
    found = read_roles(folded(RECORDS))

    assert set(found) == {role_key("coder"), role_key("judge")}
    mine = found[role_key("coder")]
    assert set(mine) == {3, 4}
    figures = figures_of(mine[3])
    assert (figures.calls, figures.labels) == (3, 2)
    assert figures.quality == pytest.approx(0.75)
    assert figures.ok_rate == 1.0, "a client that left says nothing"
    assert figures.latency_p50_s == pytest.approx(4.0, rel=1e-3)
    assert figures.latency_p95_s == pytest.approx(4 * np.exp(1.6449 * np.log(2)), rel=1e-3)
    assert figures.cost_usd == pytest.approx(2.5e-6)
    assert figures.usd_per_call == pytest.approx(2.5e-6 / 3)
    failed = figures_of(mine[4])
    assert (failed.calls, failed.ok_rate, failed.quality, failed.latency_p50_s) == (
        1,
        0,
        None,
        None,
    )
    whole = figures_of(mine[3] + mine[4])
    assert whole.calls == 4
    assert whole.ok_rate == pytest.approx(2 / 3)


def test_the_order_and_the_batches_of_records_do_not_matter() -> None:
    records = [*RECORDS, label(1, CODER, 0.0, revision=1), label(2, CODER, None, revision=1)]
    dice = random.Random(5)
    wanted = cells.of_family(folded(records), Family.ROLES)
    for _ in range(5):
        dice.shuffle(records)
        found = cells.of_family(folded(*([one] for one in records)), Family.ROLES)
        by_key = dict(zip(found.keys.tolist(), found.values.tolist(), strict=True))
        assert by_key == dict(zip(wanted.keys.tolist(), wanted.values.tolist(), strict=True))


def test_a_label_that_is_taken_back_leaves_nothing() -> None:
    rows = folded([*RECORDS, label(1, CODER, None, 1)], [label(2, CODER, None, 1)])

    sums = read_roles(rows)[role_key("coder")][3]
    assert (sums[P.LABELS], sums[P.REWARD]) == (0, 0)
    assert figures_of(sums).quality is None


def test_calls_in_no_role_are_counted_under_none() -> None:
    rows = folded([outcome(6, 0), label(6, 0, 1.0)])

    assert len(cells.of_family(rows, Family.ROLES).keys) == 0
    assert read_roles(rows) == {}


def test_a_damaged_cell_is_left_out() -> None:
    rows = folded(RECORDS)
    broken = rows.values.copy()
    mine = cells.is_of(rows.keys, Family.ROLES) & (rows.keys["endpoint"] == 4)
    broken[mine, P.CALLS] = -5

    assert set(read_roles(cells.Terms(rows.keys, broken))[role_key("coder")]) == {3}


def test_marks_of_roles_are_never_0_and_have_keys_of_their_own() -> None:
    names = [f"role-{i}" for i in range(300)]
    marks = {role_mark(name) for name in names}

    assert all(0 < mark < 1 << 16 for mark in marks)
    assert len({role_key(name) for name in names}) == len(marks) > 290
    assert key_of(np.array([1, 2], dtype=np.uint16)).tolist() == [
        0x8C5F3A1D77E20001,
        0x8C5F3A1D77E20002,
    ]


def test_the_mark_lies_where_earlier_versions_wrote_nothing() -> None:
    """Tokens, kinds and records have the bytes that they had; of before, all are in no role."""
    body = token(1, CODER)

    assert len(body) == TOKEN.itemsize == 120
    assert KIND.itemsize == 41
    assert Token.unpack(body).role == CODER
    before = body[:-4] + int(Flag.ROUTED | Flag.RATED).to_bytes(4, "little")
    assert Token.unpack(before).role == 0
    assert Token.unpack(before).flags == Flag.ROUTED | Flag.RATED
    array = np.frombuffer(body + before, dtype=TOKEN)
    assert Decisions.of(array).to_tokens()["role_mark"].tolist() == [CODER, 0]
    (record,), _ = decoding.decode(outcome(1, CODER, role=77))
    assert int(record["role"]) == 77
    assert int(record["token"]["role_mark"]) == CODER


# -- from a call to the report --------------------------------------------------------------------


def value(provider: Provider) -> dict[str, Any]:
    return {
        "providers": {
            "outside": {"base_url": provider.url("outside"), "auth": "none", "passthrough": True}
        },
        "endpoints": [endpoint(provider, "a"), endpoint(provider, "b")],
        "tasks": {"code": None},
        "roles": {
            "coder": {"tasks": ["code"]},
            "planner": {"callers": ["b", "unlisted-*"]},
            "never": {},
        },
        "apps": {"default": {"mode": "route"}},
    }


def by_role(sidecar: Sidecar) -> dict[str, Any]:
    found = sidecar.http.get("/v1/router/posteriors").json()["roles"]
    return {row["role"]: row for row in found}


def rate(sidecar: Sidecar, got: Any, *, passed: bool) -> None:
    said = sidecar.feedback(decision_id=got.headers["x-router-decision-id"], passed=passed)
    assert said.json()["results"][0]["status"] == "accepted", said.text


@pytest.mark.parametrize("mode", ["route", "observe"])
@pytest.mark.usefixtures("store")
def test_every_call_in_a_role_is_told_of_under_it(
    provider: Provider, state_dir: Path, address: Address, client: Any, mode: str
) -> None:
    """Routed, only booked, or passed on; each once, as an audit confirms."""
    entries = value(provider)
    entries["apps"]["default"]["mode"] = mode
    with (
        serving(entries, state_dir, address) as sidecar,
        worker(state_dir, address),
    ):
        sidecar.until(lambda: sidecar.app.keeper.store_up)
        coded = [sidecar.chat("role:coder") for _ in range(3)]
        planned = [sidecar.chat("b"), sidecar.chat("b", stream=True)]
        passed_on = sidecar.chat("unlisted-model")
        assert passed_on.status_code == 200
        hinted = sidecar.chat("unlisted-model", headers={"x-router-role": "coder"})
        sidecar.chat("auto")
        for got, good in zip(coded, (True, True, False), strict=True):
            rate(sidecar, got, passed=good)
        rate(sidecar, planned[0], passed=True)
        rate(sidecar, hinted, passed=True)

        def whole() -> bool:
            found = by_role(sidecar)
            told = {role: (row["calls"], row["labels"]) for role, row in found.items()}
            return told == {"coder": (4, 4), "planner": (3, 1)}

        sidecar.until(whole, within_s=20)
        found = by_role(sidecar)
        coder, planner = found["coder"], found["planner"]
        (own,) = [row for row in coder["endpoints"] if row["endpoint"] != "outside/unlisted-model"]
        assert (own["calls"], own["labels"]) == (3, 3)
        assert own["quality"] == pytest.approx(2 / 3, abs=1e-4)
        assert coder["ok_rate"] == planner["ok_rate"] == 1.0
        assert coder["latency_p50_s"] > 0
        assert own["cost_usd"] > 0
        assert own["usd_per_call"] == pytest.approx(own["cost_usd"] / 3)
        named = {row["endpoint"]: row["calls"] for row in planner["endpoints"]}
        if mode == "observe":
            assert named == {"b": 2, "outside/unlisted-model": 1}
        assert named["outside/unlisted-model"] == 1
    result = audit_state(Archive(client, state_dir / "archive", SHARDS))
    assert (result.equal, result.difference) == (True, None)


@pytest.mark.usefixtures("store")
def test_the_report_tells_of_roles_on_a_terminal_and_as_json(
    provider: Provider,
    state_dir: Path,
    address: Address,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STORE", address.url)
    file = tmp_path / "pointsman.yaml"
    entries = value(provider)
    with serving(entries, state_dir, address) as sidecar, worker(state_dir, address):
        sidecar.until(lambda: sidecar.app.keeper.store_up)
        rate(sidecar, sidecar.chat("role:coder"), passed=True)
        sidecar.chat("role:never")
        sidecar.until(
            lambda: sum(row["calls"] + row["labels"] for row in by_role(sidecar).values()) == 3,
            within_s=20,
        )
        entries["server"] = {"state_dir": str(state_dir)}
        entries["store"] = {"shards": SHARDS, "url_env": "STORE"}
        del entries["roles"]["never"]
        file.write_text(yaml.safe_dump(entries))
        report = gather(file, None)

    assert [row["role"] for row in report.as_json()["roles"]] == ["coder", "never"], (
        "one that is gone is known by its name"
    )
    out = StringIO()
    report.shows_all = True
    print_report(report, Console(file=out, width=100))
    lines = out.getvalue().splitlines()
    begin = next(i for i, line in enumerate(lines) if line.strip() == "by role")
    (line,) = [line for line in lines[begin:] if line.startswith("coder")]
    assert line.split()[:5] == ["coder", "a", "1/1", "1.00", "100.0%"]


def test_there_is_no_table_without_roles() -> None:
    assert role_table([]) is None
