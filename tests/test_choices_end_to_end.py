"""The guarded law through the whole stack: calls, feedback, fold, review, release."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import Provider, Sidecar, endpoint, learning, serving

from telemetry import keys
from telemetry.store import Address

pytestmark = pytest.mark.usefixtures("store")  # end to end: a real one
QUALITY_OF = {"a": 0.2, "b": 0.95}


def configured(provider: Provider, **strategy: Any) -> dict[str, Any]:
    return {
        "endpoints": [endpoint(provider, "a"), endpoint(provider, "b")],
        "tasks": {"code": None},
        "strategies": {"guarded": {"objective": "quality", **strategy}},
        "apps": {"default": {"mode": "route", "strategy": "guarded", "unit": "call"}},
    }


@contextmanager
def whole(value: dict[str, Any], state_dir: Path, address: Address) -> Iterator[Sidecar]:
    with serving(value, state_dir, address) as sidecar, learning(state_dir, address):
        yield sidecar


def serve(
    sidecar: Sidecar, n: int, dice: random.Random | None, model: str = "auto/code"
) -> Counter:
    """Make calls, and judge each answer by chance where dice are given."""
    served: Counter[str] = Counter()
    for _ in range(n):
        got = sidecar.chat(model)
        assert got.status_code == 200
        chosen = got.headers["x-router-endpoint"]
        assert 0 < float(got.headers["x-router-propensity"]) <= 1
        served[chosen] += 1
        if dice is not None:
            good = dice.random() < QUALITY_OF[chosen]
            sidecar.feedback(decision_id=got.headers["x-router-decision-id"], passed=good)
    return served


def choice(sidecar: Sidecar, task: str = "code") -> dict[str, Any]:
    rows = sidecar.http.get("/v1/router/posteriors").json()["choices"]
    return next((row for row in rows if row["task"] == task), {})


def preview(sidecar: Sidecar, **headers: str) -> dict[str, Any]:
    body = {"model": "auto/code", "messages": [{"role": "user", "content": "x"}]}
    return dict(sidecar.http.post("/v1/router/decide", json=body, headers=headers).json())


@pytest.mark.slow
def test_a_better_challenger_is_released_and_stays_after_a_restart(
    provider: Provider, state_dir: Path, address: Address, client: Any
) -> None:
    value = configured(provider, release_every_s=0.5)
    dice = random.Random(7)
    with whole(value, state_dir, address) as sidecar:
        assert preview(sidecar)["note"] == "no quality signal"
        first = serve(sidecar, 20, None)
        assert first == {"a": 20}
        deadline = time.monotonic() + 60
        calls = 20
        while choice(sidecar).get("current") != "b":
            assert time.monotonic() < deadline
            serve(sidecar, 10, dice)
            calls += 10
        sidecar.until(lambda: choice(sidecar).get("calls") == calls)
        before = choice(sidecar)
        assert serve(sidecar, 40, None)["b"] >= 35
        sidecar.until(lambda: choice(sidecar)["calls"] == calls + 40)
        before = choice(sidecar)

    told = [json.loads(e[1][b"release"]) for e in client.xrange(keys.RELEASES)]
    assert [(t["before"], t["after"]) for t in told if t["task"] == "code"] == [("a", "b")]
    assert told[0]["p_better"] >= 0.9
    value["strategies"]["guarded"]["release_every_s"] = 1000
    with whole(value, state_dir, address) as sidecar:
        after = choice(sidecar)
        same = ("incumbent", "current", "calls", "explored_calls", "note")
        assert {k: after[k] for k in same} == {k: before[k] for k in same}
        assert after["room"] == pytest.approx(before["room"], abs=0.5)
        shown = preview(sidecar)
        assert (shown["incumbent"], shown["current"]) == ("a", "b")
        assert shown["propensities"]["b"] > 0.9
        assert serve(sidecar, 20, None)["b"] >= 17


@pytest.mark.slow
def test_without_labels_the_incumbent_keeps_every_call(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with whole(configured(provider, release_every_s=0.1), state_dir, address) as sidecar:
        assert serve(sidecar, 300, None) == {"a": 300}
        sidecar.until(lambda: choice(sidecar).get("calls") == 300)
        found = choice(sidecar)
        assert (found["current"], found["explored_calls"], found["exploring"]) == ("a", 0, False)
        assert found["note"] == "no quality signal"


def test_sensitive_calls_and_those_that_ask_do_not_explore(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    value = configured(provider)
    for entry in value["endpoints"]:
        entry["max_data_class"] = "confidential"
    with whole(value, state_dir, address) as sidecar:
        for _ in range(30):
            answer = sidecar.chat("auto/code", headers={"x-router-explore": "0"})
            assert answer.headers["x-router-endpoint"] == "a"
            sidecar.feedback(response_id=answer.json()["id"], passed=False)
        sidecar.until(lambda: preview(sidecar)["exploring"])

        shown = preview(sidecar)
        assert (shown["current"], shown["challengers"], shown["note"]) == ("a", ["b"], "")
        assert shown["room"] > 0
        assert shown["propensities"]["b"] > 0.1
        for headers, note in (
            ({"x-router-explore": "0"}, "asked not to explore"),
            ({"x-router-data-class": "confidential"}, "sensitive data"),
        ):
            held = preview(sidecar, **headers)
            assert held["propensities"] == {"a": 1.0}
            assert (held["exploring"], held["note"]) == (False, note)
            for _ in range(20):
                answer = sidecar.chat("auto/code", headers=headers)
                assert answer.headers["x-router-endpoint"] == "a"


def cheapest(provider: Provider, **usd: float) -> dict[str, Any]:
    """An app that wants the cheapest beside one that only judges."""
    value = configured(provider)
    value["endpoints"] = [
        endpoint(provider, name, prices={"input_usd_per_mtok": price, "output_usd_per_mtok": price})
        for name, price in usd.items()
    ]
    value["apps"]["default"]["strategy"] = "cheapest"
    return value


def test_cheapest_needs_no_labels_but_twenty_calls(
    provider: Provider, state_dir: Path, address: Address, client: Any
) -> None:
    with whole(cheapest(provider, a=2, b=0.1), state_dir, address) as sidecar:
        sidecar.http.headers["x-router-explore"] = "0"
        assert serve(sidecar, 20, None) == {"a": 20}
        del sidecar.http.headers["x-router-explore"]
        sidecar.until(lambda: choice(sidecar).get("current") == "b")
        assert serve(sidecar, 100, None)["b"] >= 90
        sidecar.until(lambda: choice(sidecar).get("calls") == 120)
        found = choice(sidecar)
        assert (found["incumbent"], found["current"], found["room"]) == ("a", "b", None)
        assert found["note"] == "floor not checked: no quality signal"
        last = found["last_release"]
        assert (last["before"], last["after"], last["labels"]) == ("a", "b", {})
        assert last["reason"] == "first in the order"


def test_an_order_stays_calm_on_the_thumbs_of_another_app(
    provider: Provider, state_dir: Path, address: Address, client: Any, monkeypatch: Any
) -> None:
    """Their thumbs once moved it three times in twelve seconds, to the dearest in the end."""
    monkeypatch.setenv("MINE", "mine")
    monkeypatch.setenv("THEIRS", "theirs")
    value = cheapest(provider, a=8, b=0.1, c=0.5, d=2)
    value["apps"]["default"]["keys"] = [{"env": "MINE"}]
    value["apps"]["theirs"] = {"mode": "observe", "keys": [{"env": "THEIRS"}]}
    with whole(value, state_dir, address) as sidecar:
        mine, theirs = ({"x-router-key": key} for key in ("mine", "theirs"))

        def stands_at() -> str:
            return str(choice_of(sidecar, mine).get("current"))

        for _ in range(25):
            sidecar.chat("auto/code", headers=mine)
        sidecar.until(lambda: stands_at() == "b")
        for name, good in (("b", False), ("d", True), ("c", False), ("a", True)):
            for _ in range(25):
                got = sidecar.chat(name, headers={**theirs, "x-router-task": "code"})
                said = {"decision_id": got.headers["x-router-decision-id"], "passed": good}
                sidecar.http.post("/v1/feedback", json=said, headers=theirs)
            for _ in range(5):
                sidecar.chat("auto/code", headers=mine)
        sidecar.until(lambda: labels_of(sidecar, mine) == 100)
        assert stands_at() == "b"  # it moved within the hour already

    told = [json.loads(e[1][b"release"]) for e in client.xrange(keys.RELEASES)]
    moves = [(t["before"], t["after"], t["reason"]) for t in told if t["app"] == "default"]
    assert moves == [("a", "b", "first in the order")]


def test_a_move_says_from_whom_to_whom_why_and_on_whose_labels(
    provider: Provider, state_dir: Path, address: Address, client: Any, monkeypatch: Any
) -> None:
    from router.report.more_lines import choice_lines

    monkeypatch.setenv("MINE", "mine")
    monkeypatch.setenv("THEIRS", "theirs")
    value = cheapest(provider, a=8, b=0.1)
    value["apps"]["default"]["keys"] = [{"env": "MINE"}]
    value["apps"]["theirs"] = {"mode": "observe", "keys": [{"env": "THEIRS"}]}
    with whole(value, state_dir, address) as sidecar:
        mine, theirs = ({"x-router-key": key} for key in ("mine", "theirs"))
        for _ in range(12):
            got = sidecar.chat("b", headers={**theirs, "x-router-task": "code"})
            said = {"decision_id": got.headers["x-router-decision-id"], "passed": True}
            sidecar.http.post("/v1/feedback", json=said, headers=theirs)
        sidecar.until(lambda: labels_of(sidecar, mine) == 12)
        for _ in range(20):
            sidecar.chat("auto/code", headers=mine)
        sidecar.until(lambda: choice_of(sidecar, mine).get("current") == "b")
        row = choice_of(sidecar, mine)

    last = row["last_release"]
    assert (last["before"], last["after"], last["reason"]) == ("a", "b", "first in the order")
    assert last["labels"] == {"theirs": 12}
    (line,) = choice_lines([row])
    assert "from a to b: first in the order with P = " in line
    assert line.endswith("on labels: theirs 12")
    told = [json.loads(e[1][b"release"]) for e in client.xrange(keys.RELEASES)]
    assert [t["labels"] for t in told if t["task"] == "code"] == [{"theirs": 12}]


def choice_of(sidecar: Sidecar, headers: dict[str, str]) -> dict[str, Any]:
    rows = sidecar.http.get("/v1/router/posteriors", headers=headers).json()["choices"]
    return next((r for r in rows if r["task"] == "code" and r["app"] == "default"), {})


def labels_of(sidecar: Sidecar, headers: dict[str, str]) -> int:
    rows = sidecar.http.get("/v1/router/posteriors", headers=headers).json()["rows"]
    return sum(row["labels"] for row in rows if row["category"] == "code")


def test_a_model_that_callers_name_has_choices_of_its_own(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    value = configured(provider)
    value["apps"]["default"]["map_models"] = True
    with whole(value, state_dir, address) as sidecar:
        assert sidecar.chat("b").headers["x-router-endpoint"] == "b"
        value["endpoints"][1]["model"] = "other"
    with whole(value, state_dir, address) as sidecar:
        for _ in range(5):
            assert sidecar.chat("other").headers["x-router-endpoint"] == "b"

        def of_other() -> list[dict[str, Any]]:
            rows = sidecar.http.get("/v1/router/posteriors").json()["choices"]
            return [row for row in rows if row["model"] == "other" and row["calls"] == 5]

        sidecar.until(lambda: bool(of_other()))
        assert [(r["incumbent"], r["task"]) for r in of_other()] == [("b", "general")]


def test_the_report_shows_a_line_for_each_scope(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    import yaml

    from router.config.compiled import compile_text
    from router.report.gather import read_beliefs
    from router.report.more_lines import choice_lines
    from router.report.views import choice_rows

    value = configured(provider)
    with whole(value, state_dir, address) as sidecar:
        serve(sidecar, 12, None)
        sidecar.until(lambda: choice(sidecar).get("calls") == 12)
        text = yaml.safe_dump({**value, "store": {"shards": 2}})
        found, *_ = read_beliefs(compile_text(text, file="test.yaml"), address)

    (line,) = choice_lines(choice_rows(found))
    assert line == "choices of default guarded (version 1, room 1.0): code a (no quality signal)"
