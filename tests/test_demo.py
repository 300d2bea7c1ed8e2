"""The demo: real processes, recorded outcomes, honest counts."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import until

from router.demo import client as demo_client
from router.demo import run as demo
from router.demo.place import PlaceTaken, place_in
from router.demo.simulator import ProviderBooks, Simulator, place_of
from router.demo.spent import DemoSpend
from telemetry import keys
from telemetry.embedded import PrivateServer
from telemetry.recorded import Selection, load, synthetic
from telemetry.store import Address, connect
from telemetry.tables import BadTable

ROOT = Path(__file__).parent.parent
KEYS = [
    "requests",
    "attempts",
    "outcomes_folded",
    "feedback_sent",
    "feedback_folded",
    "lost",
    "doubled",
    "quality_last_quarter",
    "quality_random",
    "quality_best_single",
    "quality_best_per_category",
    "endpoints",
    "categories",
    "spent_nano_usd",
]
N_CALLS = 900
TABLE = """\
prompt_id,category,model,quality,cost_usd,latency_s,tokens_in,tokens_out,run
p1,math,a,1,0.001,0.5,100,50,x
p1,math,b,0,0.002,0.4,100,60,x
p2,code,a,0.5,0.001,0.5,120,50,x
p2,code,b,1,0.002,0.4,120,60,x
p3,code,a,0.5,,0.5,120,50,x
p3,code,b,1,0.002,0.4,120,60,x
p1,math,c,1,,0.4,100,60,x
"""


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Three demos at the same time: much of each is waiting."""
    table = tmp_path_factory.mktemp("demo") / "table.csv"
    table.write_text(TABLE.replace("math", "general").replace("code", "Légal ☃"))
    demo, pipe = [sys.executable, "-m", "router.cli", "demo", "--json"], subprocess.PIPE
    wanted = {
        "killed": ["--requests", str(N_CALLS), "--seed", "3", "--feedback-delay", "4"],
        "tools": ["--tool-calls", "--no-feedback", "--requests", str(N_CALLS), "--seed", "1"],
        "table": ["--outcomes", str(table), "--where", "run=x", "--requests", "60"],
    }
    found = {
        name: subprocess.Popen([*demo, *arguments], stdout=pipe, stderr=pipe, text=True)
        for name, arguments in wanted.items()
    }
    yield found
    for process in found.values():
        process.terminate()
        process.communicate(timeout=60)


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(out)


def worker_of(parent: int) -> tuple[int, Path] | None:
    """A demo's worker, and the state directory that it works in."""
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        words = Path(f"/proc/{child}/cmdline").read_text().split("\0")
        if "workers" in words:
            return int(child), Path(words[words.index("--state-dir") + 1])
    return None


def n_folded(state_dir: Path) -> int:
    socket = PrivateServer(state_dir / "store").socket_path
    with closing(connect(Address(f"unix://{socket}"))) as client:
        return sum(int(client.hget(keys.meta(n), "n_outcomes") or 0) for n in range(demo.SHARDS))


def kill_while_it_folds(process: subprocess.Popen[str], *, not_this: int = 0) -> int:
    """Kill a demo's worker once it has folded something; return its process id."""
    found: list[tuple[int, Path]] = []

    def has_come() -> bool:
        found[:] = [w for w in [worker_of(process.pid)] if w is not None and w[0] != not_this]
        return bool(found)

    until(has_come, within_s=30)
    ((pid, state_dir),) = found
    before = n_folded(state_dir)
    until(lambda: n_folded(state_dir) > before, within_s=30)
    os.kill(pid, signal.SIGKILL)
    return pid


@pytest.mark.slow
def test_the_demo_loses_and_doubles_nothing_though_its_worker_is_killed(
    demos: dict[str, subprocess.Popen[str]],
) -> None:
    """Twice, each time while it folds: feedback goes on for long enough."""
    killed = kill_while_it_folds(demos["killed"])
    kill_while_it_folds(demos["killed"], not_this=killed)

    found = result(demos["killed"])

    assert [k for k in KEYS if k not in found] == []
    assert found["requests"] == found["attempts"] == found["outcomes_folded"] == N_CALLS
    assert found["feedback_sent"] == found["feedback_folded"] == N_CALLS
    assert (found["lost"], found["doubled"], found["failed_calls"]) == (0, 0, 0)
    assert found["synthetic"] is True
    assert found["spent_nano_usd"] == found["billed_nano_usd"] > 10**9
    assert (found["spend_difference_nano_usd"], found["spend_estimated"]) == (0, 0)


@pytest.mark.slow
def test_tool_calls_alone_order_endpoints_by_validity_in_the_reliability_posterior(
    demos: dict[str, subprocess.Popen[str]],
) -> None:
    found = result(demos["tools"])

    assert found["derived_folded"] == found["attempts"] == N_CALLS
    assert (found["lost"], found["doubled"], found["failed_calls"]) == (0, 0, 0)
    assert found["quality_signal"] is False
    assert found["validity_pairs"] >= 2
    assert found["validity_pairs_right"] == found["validity_pairs"]


@pytest.mark.slow
def test_the_demo_replays_a_table_of_ones_own(demos: dict[str, subprocess.Popen[str]]) -> None:
    found = result(demos["table"])

    assert found["endpoints"] == ["a", "b"]
    assert found["synthetic"] is False
    assert (found["lost"], found["doubled"]) == (0, 0)
    assert {c["category"] for c in found["categories"]} == {"L-gal", "general"}


@pytest.mark.slow
def test_a_demo_that_stays_serves_the_readme_s_app_without_any_key(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(program())
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENAI_API_KEY": "any"}
    ours = {"cwd": tmp_path, "env": environment, "text": True}
    command = [sys.executable, "-m", "router.cli", "demo", "--stay", "--requests", "40"]
    pipe = subprocess.PIPE
    with subprocess.Popen([*command, "--json"], stdout=pipe, stderr=pipe, **ours) as staying:
        assert staying.stdout is not None
        assert json.loads(staying.stdout.readline())["requests"] == 40
        port = yaml.safe_load((tmp_path / "pointsman.yaml").read_text())["server"]["port"]
        environment["OPENAI_BASE_URL"] = f"http://127.0.0.1:{port}/v1"
        run = partial(subprocess.run, stdout=pipe, timeout=60, check=True, **ours)
        id_, model = run([sys.executable, "app.py"]).stdout.split()
        explained = run([sys.executable, "-m", "router.cli", "explain", id_, "--json"]).stdout
        staying.send_signal(signal.SIGINT)
        said = staying.communicate(timeout=60)[1]

    assert json.loads(explained)["drawn"] == model
    assert f"the demo goes on at http://127.0.0.1:{port}" in said
    assert staying.returncode == 0
    assert [p.name for p in tmp_path.iterdir()] == ["app.py"]


def program() -> str:
    """The README's app."""
    return (ROOT / "README.md").read_text().partition("```python\n")[2].partition("```")[0]


@pytest.mark.parametrize("name", ["pointsman.yaml", ".pointsman"])
def test_a_demo_does_not_stay_where_others_files_lie(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")

    with pytest.raises(PlaceTaken, match=f"{re.escape(name)} is there already"):
        place_in(tmp_path).__enter__()

    assert (tmp_path / name).read_text() == "mine"


def test_a_prompt_that_names_no_number_always_stands_for_the_same_recorded_one() -> None:
    assert place_of("replay recorded prompt 17", 400) == 17
    assert place_of("replay recorded prompt 17", 10) == place_of("replay recorded prompt 17", 10)
    assert 0 <= place_of("Hello", 400) < 400
    assert 0 <= place_of("", 400) < 400


def test_rows_endpoints_and_prompts_that_are_not_whole_are_dropped_and_counted(
    tmp_path: Path,
) -> None:
    path = tmp_path / "table.csv"
    path.write_text(TABLE)

    table = load(path, Selection())

    assert table.endpoints == ["a", "b"]
    assert table.prompts == ["p1", "p2"]
    assert table.quality.tolist() == [[1.0, 0.0], [0.5, 1.0]]
    assert table.dropped == {
        "rows_without_cost": 2,
        "endpoints_without_rows": 1,
        "prompts_not_answered_by_all": 1,
    }


@pytest.mark.parametrize(
    ("change", "selection", "says"),
    [
        (("quality", "grade"), Selection(), "no column 'quality'"),
        (("p1,math,a,1,", "p1,math,a,1.5,"), Selection(), "quality 1.5 of a on p1"),
        (("p1,math,a,1,", "p1,math,a,NaN,"), Selection(), "must be a number from 0 to 1"),
        (("p2,code,a", "p1,math,a"), Selection(), "a has several rows for prompt p1"),
        (("", ""), Selection(where=("nope=1",)), "--where nope=1"),
        (("", ""), Selection(where=("run=z",)), "no row has this value"),
        (("", ""), Selection(where=("run",)), "write column=value"),
        (("", ""), Selection(endpoints=("z",)), "--endpoints z: not in the rows selected"),
        (("p1,math,a,1,0.001", "p1,math,a,1,cheap"), Selection(), "cost_usd cheap of a on p1"),
        (
            ("p1,math,a,1,0.001", "p1,math,a,1,-1"),
            Selection(),
            "of a on p1; it must be a number from 0",
        ),
        (("p1,math,a", "p1,,a"), Selection(), "a row has no category"),
        (("p1,math,a", "p1,code,a"), Selection(), "prompt p1 has several categories"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(
    tmp_path: Path, change: tuple[str, str], selection: Selection, says: str
) -> None:
    path = tmp_path / "table.csv"
    path.write_text(TABLE.replace(*change, 1) if change[0] else TABLE)

    with pytest.raises(BadTable, match=r".") as caught:
        load(path, selection)

    assert says in str(caught.value)


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadTable, match="cannot be read"):
        load(tmp_path / "none.parquet", Selection())


def test_sessions_give_out_every_call_and_a_quarter_follow_up_in_their_category() -> None:
    table = synthetic()

    found = list(demo_client.sessions(table, requests=2000, seed=1))

    assert sum(len(s.prompts) for s in found) == 2000
    assert [s.first_call for s in found] == list(
        np.cumsum([0, *[len(s.prompts) for s in found]])[:-1]
    )
    share = np.mean([len(s.prompts) == 2 for s in found])
    assert share == pytest.approx(0.25, abs=0.04)
    assert all(len({int(table.category[p]) for p in s.prompts}) == 1 for s in found)


def test_list_prices_explain_the_recorded_costs() -> None:
    table = synthetic()

    usd_in, usd_out = demo.list_prices(table, 0)

    cost = (table.tokens_in[:, 0] * usd_in + table.tokens_out[:, 0] * usd_out) / 1e6
    assert cost == pytest.approx(table.cost_usd[:, 0], rel=0.01)


def test_simulated_endpoints_bill_what_left_in_full_at_their_list_prices() -> None:
    table = synthetic()
    prices = demo.nano_per_token(table)
    simulator = Simulator(table, time_scale=0.0, prices=prices)
    simulator.answers[3, 1] = 2

    books = ProviderBooks.parse(json.dumps(simulator.books()).encode())

    n_in, n_out = int(table.tokens_in[3, 1]), int(table.tokens_out[3, 1])
    bill = 2 * (n_in * prices[1, 0] + n_out * prices[1, 1])
    assert books.bills.tolist() == [[3, 1, 2, bill]]
    assert books.answers[table.category[3], 1] == books.answers.sum() == 2
    assert prices[1].tolist() == [round(usd * 1000, 9) for usd in demo.list_prices(table, 1)]


def test_spend_says_by_how_much_books_and_ledger_differ() -> None:
    """Endpoint by endpoint: what is missing here does not make up for what is too much there."""
    same = DemoSpend({"a": 5, "b": 1_000_000_007}, {"b": 1_000_000_007, "a": 5})
    other = DemoSpend({"a": 6, "b": 1}, {"a": 5, "b": 2, "c": 3}, n_estimated=2)

    assert (same.difference, other.difference) == (0, 1 + 1 + 3)
    assert same.line() == (
        "spend: 1.000000012 USD by the ledger, 1.000000012 USD by the simulated endpoints' own "
        "books: difference 0.000000000"
    )
    assert other.line().endswith("difference 0.000000005; 2 attempts are estimated")


def test_the_built_in_table_has_real_specialisation() -> None:
    table = synthetic()

    best = {
        int(table.quality[table.category == c].mean(axis=0).argmax())
        for c in range(len(table.categories))
    }

    assert table.synthetic
    assert len(best) >= 3
