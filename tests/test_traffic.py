"""What is shown as calls is traffic: a profile's and a check's calls make no table, line or way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import LEARN, Provider, Sidecar, endpoint, learning, pointsman, serving
from test_episode_figures import APP, FINAL, OTHER, array, figured, outcome
from test_leaves import ABC, NOW_MS, calls, told
from test_profile_labels import ARM, PROFILE, TASK, records

from bandit import cells
from bandit.families import Family, U
from bandit.teaching import key_of, read_profiled
from router.beliefs import reviews
from router.beliefs.beliefs import believe
from router.beliefs.kept import ReviewKey
from router.config.compiled import Configuration, compile_text
from router.report.leaves import leaf_lines, leaf_rows
from router.report.matrix_table import figure
from router.report.served import served_rows
from router.report.unlisted import Unlisted, unlisted_calls
from telemetry.events import Flag
from telemetry.store import Address
from workers.folding.terms import outcome_terms
from workers.jobs.availability import count_answers
from workers.jobs.episodes import figures

USUAL = int(Flag.FINAL | Flag.USAGE_KNOWN | Flag.PRICED)
DIGESTS = {"categories": np.array([TASK], np.uint64), "endpoints": np.array([ARM], np.uint64)}


def folded(n_traffic: int, n_profile: int) -> cells.Terms:
    """Rows of calls of app 5."""
    flags = [USUAL] * n_traffic + [USUAL | int(Flag.PROFILE)] * n_profile
    return cells.merge([term for one in flags for term in outcome_terms(records(one))])


# -- in the rows ---------------------------------------------------------------------------------


def test_calls_of_a_profile_are_found_in_usage_by_task_and_endpoint() -> None:
    rows = folded(3, 4)

    found = read_profiled(rows, apps=np.array([7, 5, 9], np.uint64), **DIGESTS)

    assert found.tolist() == [[4]]
    assert cells.of_family(rows, Family.USAGE).values[:, U.CALLS].sum() == 7
    assert read_profiled(rows, apps=np.array([6], np.uint64), **DIGESTS).tolist() == [[0]]
    assert read_profiled(folded(3, 0), apps=np.array([5], np.uint64), **DIGESTS).tolist() == [[0]]


def test_of_any_app_and_task_the_task_is_found_by_the_app() -> None:
    rng = np.random.default_rng(1)
    apps, tasks = rng.integers(0, 1 << 64, (2, 20), dtype=np.uint64)
    parts = [
        cells.terms(
            Family.TEACHING,
            category=key_of(np.full(20, app), tasks),
            endpoint=np.full(20, ARM, dtype=np.uint64),
            at_ms=np.full(20, NOW_MS),
            columns=np.tile(np.eye(10)[3], (20, 1)) * np.arange(1, 21)[:, None],
        )
        for app in apps
    ]
    found = read_profiled(
        cells.merge(parts), apps=apps, categories=tasks, endpoints=DIGESTS["endpoints"]
    )

    assert found[:, 0].tolist() == [20 * n for n in range(1, 21)]


def test_calls_of_endpoints_and_apps_that_are_gone_are_told_apart_as_well() -> None:
    of = compiled()
    names = {5: "gone app", TASK: "gone task", ARM: "gone endpoint"}

    assert unlisted_calls(folded(0, 4), of, names) == []
    assert unlisted_calls(folded(3, 4), of, names) == [Unlisted(f"{TASK:016x}", "gone endpoint", 3)]


def compiled() -> Configuration:
    value = {"endpoints": [{"id": "a", "model": "a", "base_url": "http://h/v1"}]}
    return compile_text(json.dumps(value), file="test.yaml", secrets=False)


def test_a_leaf_that_only_a_profile_called_is_told_of_once_it_stands() -> None:
    tried = [("code/hard", "a", 7, 0.5), ("code/hard", "b", 7, 0.5)]
    sent = [("code/easy", "a", 3, 0.5)]
    rows = cells.merge([by_profile(calls(ABC, tried)), calls(ABC, sent)])

    found = leaf_rows(told(rows))

    assert [(row["task"], row["calls"], row["labels"]) for row in found] == [("code/easy", 3, 3)]
    more = by_profile(calls(ABC, [(task, name, 10, q) for task, name, _, q in tried]))
    found = leaf_rows(told(cells.merge([rows, more])))
    assert [(row["task"], row["uses"], row["calls"], row["labels"]) for row in found] == [
        ("code/easy", "code", 3, 3),
        ("code/hard", None, 0, 34),
    ]
    assert leaf_lines(found) == ["code/easy uses code: 3 of 20 labels, 3 calls"]


@pytest.mark.parametrize(
    ("objective", "n", "settled"),
    [("cheapest", 0, {}), ("cheapest", 19, {}), ("cheapest", 20, {"code": "b"})]
    + [("fastest", n, {}) for n in (0, 43)]
    + [("fastest", 44, {"code": "a"})],
)
def test_an_orders_choice_waits_for_traffic_whatever_checks_called(
    objective: str, n: int, settled: dict[str, str]
) -> None:
    endpoints = [
        {
            "id": name,
            "model": name,
            "base_url": f"http://127.0.0.1:1/{name}",
            "prices": {"input_usd_per_mtok": usd, "output_usd_per_mtok": usd},
        }
        for name, usd in (("a", 100), ("b", 1))
    ]
    of = compile_text(
        json.dumps(
            {
                "endpoints": endpoints,
                "tasks": {"code": None},
                "strategies": {"order": {"objective": objective, "incumbent": "a"}},
                "apps": {"default": {"mode": "route", "strategy": "order"}},
            }
        ),
        file="test.yaml",
    )
    checks = [("code", name, 60, 0.0) for name in "ab"]
    checks += [("general", name, 60, 0.0) for name in "ab"]
    rows = by_profile(calls(of, checks, labelled=False))
    if n:
        rows = cells.merge([rows, calls(of, [("code", "a", n, 0.0)], labelled=False)])
    key = ReviewKey("default", "order", "", "a")
    posterior = believe(of, rows, version=1, now_ms=NOW_MS).posterior

    found = reviews.review(key, None, posterior, of, now_ms=NOW_MS)

    kept, changes = found if found is not None else (None, [])
    assert (dict(kept.current) if kept else {}) == settled
    assert [(c.task, c.before, c.after) for c in changes] == [
        (task, "a", name) for task, name in settled.items() if name != "a"
    ]


def by_profile(rows: cells.Terms) -> cells.Terms:
    """Return the rows as a profile's: labels in its place, calls counted apart."""
    keys, values = rows.keys.copy(), rows.values.copy()
    labels = keys["family"] == int(Family.QUALITY)
    keys["window"][labels] |= np.uint32(0xFFFE << 16)
    usage = keys["family"] == int(Family.USAGE)
    apart, counts = keys[usage].copy(), np.zeros_like(values[usage])
    app = np.array([ABC.apps["default"].digest], dtype=np.uint64)
    apart["category"], apart["family"] = key_of(app, apart["category"]), int(Family.TEACHING)
    apart["window"], counts[:, 3] = 0, values[usage][:, U.CALLS]
    kept = keys["family"] != int(Family.BOOKS)
    whole = cells.Terms(keys[kept], values[kept])
    return cells.merge([whole, cells.Terms(apart, counts)])


# -- in what jobs count --------------------------------------------------------------------------


def test_no_way_and_no_episode_counts_a_call_of_a_profile() -> None:
    tried = [outcome(n, 0, flags=FINAL | Flag.PROFILE, routed=False) for n in range(20, 63)]
    tried += [outcome(99, 1, flags=FINAL | Flag.PROFILE)]
    sent = [outcome(1), outcome(2, flags=FINAL | Flag.DRAWN_NOW)]

    found = figured([*sent, *tried])

    assert (sum(found["ways"].values()), found["ways"]["undrawn"]) == (2, 0)
    assert (found["calls"], found["attempts"]) == (2, 2)
    others = [outcome(5, 0, app=OTHER, flags=FINAL | Flag.PROFILE)]
    batches = [array([*sent, *others])]
    assert list(figures(batches, since_ms=0, now_ms=0)) == [f"{APP:016x}"]


def test_availability_is_of_traffic() -> None:
    both = np.concatenate([records(USUAL), records(USUAL | int(Flag.PROFILE))])

    [found] = count_answers([both], since_ms=0)

    assert (found.asked, found.answered) == (1, 1)
    assert count_answers([both[1:]], since_ms=0) == []


# -- as it is shown ------------------------------------------------------------------------------


@pytest.fixture
def sidecar(
    provider: Provider, state_dir: Path, address: Address, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Sidecar]:
    monkeypatch.setenv("REDIS_URL", address.url)
    plan = endpoint(provider, "a", billing="subscription")
    value = {
        "endpoints": [plan, endpoint(provider, "b")],
        "tasks": {"code": None},
        "starter_tasks": True,
        "strategies": LEARN,
        "apps": {"default": {"mode": "route", "strategy": "learn"}},
    }
    file = state_dir / "pointsman.yaml"
    with (
        serving(value, state_dir, address, file=file) as running,
        learning(state_dir / "l", address),
    ):
        yield running


def report(sidecar: Sidecar) -> tuple[str, Any]:
    """Return the report in text, and as JSON."""
    file = sidecar.state_dir / "pointsman.yaml"
    text, whole = (pointsman("report", "--config", file, *more) for more in ([], ["--json"]))
    assert (text.exit_code, whole.exit_code) == (0, 0), text.output
    return text.stdout, json.loads(whole.stdout)


def tried(sidecar: Sidecar, task: str, name: str) -> str:
    got = sidecar.chat(name, headers={**PROFILE, "x-router-task": task})
    assert got.status_code == 200, got.text
    return str(got.headers["x-router-decision-id"])


def test_what_only_a_check_called_is_in_no_table_line_or_count(sidecar: Sidecar) -> None:
    keeper = sidecar.app.keeper
    for task in ("extract", "tools/simple", "tools/simple", "general"):
        for name in "ab":
            tried(sidecar, task, name)
    sidecar.until(lambda: keeper.current.posterior.calls.sum() == 8)

    text, whole = report(sidecar)

    assert whole["missing"] == ["no call was recorded yet: point a client at the sidecar"]
    shown = ("rows", "categories", "leaves", "choices", "unlisted", "list_costs", "served")
    assert {name: whole[name] for name in shown} == {name: [] for name in shown}
    for word in ("extract", "tools", "general", "no quality signal", "subscription"):
        assert word not in text, text


def test_beside_traffic_a_checks_calls_add_to_no_count(sidecar: Sidecar) -> None:
    keeper = sidecar.app.keeper
    for task in ("code", "extract"):
        for name in "aab":
            tried(sidecar, task, name)
    for _ in range(3):
        sidecar.chat("b", headers={"x-router-task": "code"})
    sidecar.until(lambda: keeper.current.posterior.calls.sum() == 9)

    text, whole = report(sidecar)

    assert [(row["category"], row["calls"]) for row in whole["categories"]] == [("code", 3)]
    rows = {row["endpoint"]: row for row in whole["rows"]}
    assert [(rows[name]["calls"], rows[name]["profile_calls"]) for name in "ab"] == [(0, 2), (3, 1)]
    assert (rows["a"]["share"], rows["b"]["share"]) == (0.0, 1.0)
    unknown = ("ok_rate", "cost_usd", "latency_p50_s", "usable", "quality")
    assert {rows["a"][name] for name in unknown} == {None}
    assert rows["b"]["cost_usd"] > 0
    assert whole["list_costs"] == []
    served = served_rows(keeper.current.configuration.catalog, keeper.served)
    assert [(row["endpoint"], [one["calls"] for one in row["models"]]) for row in served] == [
        ("b", [3])
    ]
    assert whole["missing"] == ["code: no quality signal; send feedback to learn about quality"]
    assert "by profile" not in text


def test_labels_of_a_profile_make_a_table_that_says_there_was_no_traffic(
    sidecar: Sidecar,
) -> None:
    keeper = sidecar.app.keeper
    for name, score in (("a", 1.0), ("b", 0.5)):
        for _ in range(2):
            body = {"decision_id": tried(sidecar, "extract", name), "score": score}
            assert sidecar.http.post("/v1/feedback", json=body).status_code == 202
    sidecar.until(lambda: keeper.current.outlooks[0].profiled.sum() == 4)
    sidecar.until(lambda: keeper.current.posterior.calls.sum() == 4)

    _, whole = report(sidecar)

    [category] = whole["categories"]
    assert (category["category"], category["calls"], category["signal"]) == ("extract", 0, True)
    found = [(row["calls"], row["labels"], row["profiled"], row["share"]) for row in whole["rows"]]
    assert found == [(0, 2, 2, None)] * 2
    assert whole["missing"] == ["no call was recorded yet: point a client at the sidecar"]
    file = sidecar.state_dir / "pointsman.yaml"
    opened = pointsman("report", "--task", "extract", "--config", file).stdout
    assert "0/2" in opened
    assert "all labels by profile; no call of traffic" in opened


def test_a_figure_of_zero_is_zero_and_not_blank() -> None:
    found = [figure(0.0, ".0%"), figure(0.0, ".2g"), figure(0.25, ".2g"), figure(None, ".2g")]
    assert found == ["0%", "0", ".25", "–"]


def test_an_explanation_counts_traffic_alone(sidecar: Sidecar) -> None:
    keeper = sidecar.app.keeper
    tried(sidecar, "code", "a")
    for _ in range(2):
        sidecar.chat("b", headers={"x-router-task": "code"})
    sidecar.until(lambda: keeper.current.posterior.calls.sum() == 3)

    got = sidecar.chat("auto/code")
    id_ = got.headers["x-router-decision-id"]
    found = sidecar.http.get("/v1/router/decisions", params={"id": id_}).json()

    known = {row["endpoint"]: row["calls"] for row in found["draw"]["candidates"]}
    assert known == {"a": 0, "b": 2}


def test_money_of_a_profile_stays_in_what_was_spent(sidecar: Sidecar) -> None:
    before = spent(sidecar)
    tried(sidecar, "code", "b")

    assert spent(sidecar) > before


def spent(sidecar: Sidecar) -> float:
    lines = sidecar.http.get("/metrics").text.splitlines()
    found = [line for line in lines if line.startswith('router_cost_usd_total{endpoint="b"}')]
    return sum(float(line.rsplit(" ", 1)[1]) for line in found)
