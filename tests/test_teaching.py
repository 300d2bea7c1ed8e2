"""Whose labels count for whom: apps that share, that learn alone, and that only listen."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import (
    LEARN,
    SHARDS,
    Provider,
    Sidecar,
    endpoint,
    learning,
    pointsman,
    serving,
)

from bandit import cells
from bandit.families import N_COLUMNS, B, D, Family, Q, U
from bandit.matrix import ReportRow
from bandit.teaching import MOST_BORROWED_N
from router.beliefs.beliefs import Beliefs, believe
from router.beliefs.choices import weigh_all
from router.beliefs.kept import ReviewKey
from router.beliefs.outlooks import tasks_of
from router.config import watch
from router.config.compiled import Configuration, compile_text
from router.errors import ConfigError
from router.report import matrix_table, views
from router.report.screen import console
from telemetry import keys
from telemetry.digests import digest8
from telemetry.store import Address

APPS = ("first", "second")


def configuration(provider: Provider, **learn: str) -> dict[str, Any]:
    """Apps by how they learn; `first` and `second` share where nothing is said."""
    apps = {**dict.fromkeys(APPS, "share"), **learn}
    return {
        "endpoints": [endpoint(provider, "a"), endpoint(provider, "b")],
        "tasks": {"code": None},
        "strategies": LEARN,
        "apps": {
            name: {
                "mode": "route",
                "strategy": "learn",
                "learn": how,
                "keys": [{"env": f"KEY_OF_{name.upper()}"}],
            }
            for name, how in apps.items()
        },
    }


class Office:
    """Apps that call one sidecar, each with its own key."""

    def __init__(self, sidecar: Sidecar, client: Any) -> None:
        self.sidecar = sidecar
        self.client = client
        self.n_labels = 0

    @property
    def beliefs(self) -> Beliefs:
        return self.sidecar.app.keeper.current

    def ask(self, app: str, model: str = "auto/code", **more: str) -> Any:
        headers = {"x-router-key": key_of(app), "x-router-task": "code", **more}
        return self.sidecar.chat(model, headers=headers)

    def teach(self, app: str, n: int, **passed: bool) -> None:
        """Have an app judge endpoints by name."""
        for name, is_good in passed.items():
            for _ in range(n):
                self.say(app, self.ask(app, name).headers["x-router-decision-id"], is_good)
        self.sidecar.until(lambda: self.labels_folded() == self.n_labels)
        self.sidecar.until(lambda: self.labels_believed() == self.n_labels)

    def say(self, app: str, decision: str, passed: bool) -> None:
        body = {"decision_id": decision, "passed": passed}
        headers = {"x-router-key": key_of(app)}
        got = self.sidecar.http.post("/v1/feedback", json=body, headers=headers)
        assert got.status_code == 202
        self.n_labels += 1

    def rows(self) -> cells.Terms:
        found: dict[bytes, bytes] = {}
        for shard in range(SHARDS):
            for name, row in self.client.hgetall(keys.rows(shard)).items():
                before = np.frombuffer(found.get(name, bytes(len(row))), dtype="<i8")
                found[name] = (before + np.frombuffer(row, dtype="<i8")).tobytes()
        return cells.from_bytes(b"".join(found), b"".join(found.values()))

    def total(self, family: Family, column: int) -> int:
        return int(cells.of_family(self.rows(), family).values[:, column].sum())

    def labels_folded(self) -> int:
        return self.total(Family.QUALITY, Q.LABELS)

    def labels_believed(self) -> int:
        """Whatever is known of labels in the beliefs, whoever's they are."""
        return int(self.beliefs.teaching.values[:, 0].sum())

    def quality(self, app: str) -> list[float]:
        """What an app is told of a and b in `code`."""
        beliefs = self.beliefs
        found = beliefs.configuration.apps[app]
        category = beliefs.category(found, beliefs.configuration.task_index["code"])
        return [float(mean) for mean in beliefs.quality_mean[category]]

    def shown(self, app: str | None = None) -> dict[str, dict[str, Any]]:
        """The rows of the report in `code`, by endpoint."""
        found = self.sidecar.http.get("/v1/router/posteriors").json()["rows"]
        return {r["endpoint"]: r for r in found if r["app"] == app and r["category"] == "code"}


def key_of(app: str) -> str:
    return f"the-key-of-{app}"


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Iterator[ExitStack]:
    for app in (*APPS, "own", "listener"):
        monkeypatch.setenv(f"KEY_OF_{app.upper()}", key_of(app))
    with ExitStack() as found:
        yield found


def office(
    stack: ExitStack, value: dict[str, Any], state_dir: Path, address: Address, client: Any
) -> Office:
    stack.enter_context(learning(state_dir, address))
    return Office(stack.enter_context(serving(value, state_dir, address)), client)


GOOD_A, GOOD_B = {"a": True, "b": False}, {"a": False, "b": True}


# -- end to end ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("store")  # end to end: a real one
def test_apps_that_share_teach_each_other(
    stack: ExitStack, provider: Provider, state_dir: Path, address: Address, client: Any
) -> None:
    at = office(stack, configuration(provider), state_dir, address, client)

    at.teach("first", 12, **GOOD_A)
    a, b = at.quality("second")
    assert a > 0.8 > 0.2 > b

    at.teach("second", 12, **GOOD_B)  # too few to tell a change of mind from one of the endpoint
    assert at.quality("first") == at.quality("second")
    assert at.quality("first") == pytest.approx([0.5, 0.5], abs=0.1)
    row = at.shown()["a"]
    assert row["labels"] == 24
    assert row["apps"] == {"first": 12, "second": 12}
    assert row["rewards"] == {"first": 1.0, "second": 0.0}
    assert row["unnamed"] == 0


@pytest.mark.slow
@pytest.mark.usefixtures("store")
def test_an_app_that_learns_alone_starts_from_what_is_shared_and_keeps_its_labels(
    stack: ExitStack, provider: Provider, state_dir: Path, address: Address, client: Any
) -> None:
    at = office(stack, configuration(provider, own="own"), state_dir, address, client)
    at.teach("first", 60, **GOOD_A)
    shared, before = at.quality("first"), at.quality("own")
    assert before[0] > 0.8 > 0.2 > before[1], "it starts where the others are"
    assert at.shown("own")["a"]["borrowed"] == MOST_BORROWED_N
    watched = at.total(Family.WATCH, Q.LABELS)
    assert watched == 120

    at.teach("own", 60, **GOOD_B)

    a, b = at.quality("own")
    assert a < 0.4 < 0.6 < b, "a few labels of others do not hold 60 of its own"
    assert at.quality("first") == pytest.approx(shared, abs=1e-3)
    assert at.shown()["a"]["labels"] == 60
    assert at.shown()["a"]["apps"] == {"first": 60}
    own = at.shown("own")["a"]
    assert (own["labels"], own["apps"], own["rewards"]) == (60, {"own": 60}, {"own": 0.0})
    assert own["calls"] == at.shown()["a"]["calls"] == 120, "calls are calls"
    assert at.total(Family.WATCH, Q.LABELS) == watched, "its labels raise no alarm for others"
    served = {
        at.ask("own", **{"x-router-session-id": str(i)}).headers["x-router-endpoint"]
        for i in range(20)
    }
    assert served == {"b"}, "it is routed by its own"


@pytest.mark.slow
@pytest.mark.usefixtures("store")
def test_a_listener_is_served_by_what_is_shared_and_moves_nothing(
    stack: ExitStack, provider: Provider, state_dir: Path, address: Address, client: Any
) -> None:
    at = office(stack, configuration(provider, listener="listen"), state_dir, address, client)
    at.teach("first", 40, **GOOD_A)
    shared, watched = at.quality("first"), at.total(Family.WATCH, Q.LABELS)
    assert at.quality("listener") == shared

    at.teach("listener", 80, **GOOD_B)
    for n in range(20):
        got = at.ask("listener", **{"x-router-session-id": str(n)})
        assert got.headers["x-router-endpoint"] == "a", "it goes by what the others say"
        at.say("listener", got.headers["x-router-decision-id"], False)
    at.sidecar.until(lambda: at.labels_believed() == at.n_labels)

    assert at.quality("listener") == pytest.approx(shared, abs=1e-3)
    assert at.quality("first") == at.quality("listener")
    row = at.shown()["a"]
    assert (row["labels"], row["apps"], row["unnamed"]) == (40, {"first": 40}, 0)
    assert at.total(Family.WATCH, Q.LABELS) == watched
    at.sidecar.until(lambda: at.sidecar.calls_known() == 80 + 160 + 20)
    timed = at.beliefs.posterior.timed[at.beliefs.configuration.task_index["code"]]
    assert timed.sum() > 80 + 100, "how fast an endpoint is, is a fact"
    assert at.total(Family.BOOKS, B.CALLS) == 20, "and its allowance is its own"


@pytest.mark.slow
@pytest.mark.usefixtures("store")
def test_what_others_dispatched_counts_for_whom_the_app_says(
    stack: ExitStack, provider: Provider, state_dir: Path, address: Address, client: Any
) -> None:
    at = office(stack, configuration(provider, own="own"), state_dir, address, client)
    data = {"endpoint": "a", "task": "code", "result": "ok", "passed": True}
    told = {"specversion": "1.0", "type": "pointsman.outcome.v1", "source": "test", "data": data}
    kind = {"content-type": "application/cloudevents-batch+json", "x-router-key": key_of("own")}
    events = [{**told, "id": str(n)} for n in range(5)]
    got = at.sidecar.http.post("/v1/events", content=json.dumps(events), headers=kind)
    assert got.status_code == 202, got.text

    at.sidecar.until(lambda: at.labels_believed() == 5)

    assert at.shown("own")["a"]["apps"] == {"own": 5}
    assert at.shown()["a"]["labels"] == 0
    assert at.shown()["a"]["calls"] == 5


@pytest.mark.slow
@pytest.mark.usefixtures("store")
def test_the_report_names_the_apps_behind_its_figures(
    stack: ExitStack,
    provider: Provider,
    state_dir: Path,
    address: Address,
    client: Any,
    tmp_path: Path,
) -> None:
    value = configuration(provider, own="own")
    at = office(stack, value, state_dir, address, client)
    at.teach("first", 6, **GOOD_A)
    at.teach("second", 2, a=False)
    at.teach("own", 3, **GOOD_B)
    server = {"port": 0, "state_dir": str(state_dir)}
    config = tmp_path / "pointsman.yaml"
    config.write_text(
        yaml.safe_dump({**value, "server": server, "store": {"shards": SHARDS}}, sort_keys=False)
    )
    environment = {"REDIS_URL": address.url}

    plain = pointsman(
        "report", "--task", "code", "--config", config, environment=environment
    ).stdout
    whole = json.loads(
        pointsman("report", "--config", config, "--json", environment=environment).stdout
    )

    assert whole["apps"] == {"first": "share", "second": "share", "own": "own"}
    assert "labels: first 12 (.50), second 2 (.00)" in plain
    assert "labels: own 6 (.50), 14 lent by others" in plain
    assert "code (own, " in plain


@pytest.mark.slow
@pytest.mark.usefixtures("store")
def test_an_app_may_learn_otherwise_while_calls_go_on(
    stack: ExitStack,
    provider: Provider,
    state_dir: Path,
    address: Address,
    client: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "STILL_S", 0.05)
    monkeypatch.setattr(watch, "LOOK_EVERY_S", 0.05)
    file = state_dir / "pointsman.yaml"
    stack.enter_context(learning(state_dir, address))
    before = configuration(provider)
    at = Office(stack.enter_context(serving(before, state_dir, address, file=file)), client)
    at.teach("second", 30, **GOOD_A)
    at.ask("second")  # so that a bank is in use, and drawn ahead in each version
    own = yaml.safe_load(file.read_text())
    own["apps"]["second"]["learn"] = "own"

    for text, n_outlooks in ((yaml.safe_dump(own), 2), (file.read_text(), 1)):
        file.write_text(text)
        at.sidecar.until(lambda n=n_outlooks: len(at.beliefs.outlooks) == n)  # type: ignore[misc]
        assert at.ask("second").headers["x-router-endpoint"] == "a"
        at.teach("second", 20, b=n_outlooks == 2)

    row = at.shown()["b"]
    assert (row["labels"], row["rewards"]) == (50, {"second": 0.0}), "20 good ones are its own"


# -- what rows mean -----------------------------------------------------------------------------


@pytest.fixture
def now_ms() -> int:
    return int(time.time() * 1000)


def compiled(**learn: str) -> Configuration:
    value = {
        "endpoints": [
            {"id": name, "model": name, "base_url": f"http://127.0.0.1:1/{name}"} for name in "ab"
        ],
        "tasks": {"code": None, "chat": None},
        "apps": {
            name: {"mode": "route", "strategy": "quality", "learn": how}
            for name, how in {"default": "share", **learn}.items()
        },
    }
    return compile_text(yaml.safe_dump(value), file="test.yaml", secrets=False)


def labels(
    of: Configuration, category: int, name: str, n: int, mean: float, at_ms: int
) -> cells.Terms:
    """Calls with labels, as a version that counted no teaching left them."""
    quality, usage = np.zeros((n, N_COLUMNS)), np.zeros((n, N_COLUMNS))
    reward = (np.arange(n) < round(mean * n)).astype(float)
    quality[:, [Q.LABELS, Q.N]] = 1
    quality[:, Q.R] = quality[:, Q.R2] = reward
    usage[:, U.CALLS] = 1
    where = {
        "category": np.full(n, category, dtype=np.uint64),
        "endpoint": np.full(n, of.catalog.by_id[name].digest, dtype=np.uint64),
        "at_ms": np.full(n, at_ms),
    }
    families = [(Family.QUALITY, quality), (Family.USAGE, usage)]
    return cells.merge([cells.terms(family, columns=c, **where) for family, c in families])


def test_labels_from_before_it_was_counted_who_taught_have_no_name(now_ms: int) -> None:
    of = compiled(other="share")
    beliefs = believe(of, labels(of, digest8("task", "code"), "a", 12, 0.5, now_ms), version=1)

    row = next(r for r in views.report_rows(beliefs, "quality") if r.endpoint == "a")

    assert (row.labels, row.apps, row.unnamed) == (12, {}, 12)
    assert matrix_table.teachers_line([row]) == "labels: 12 of apps not known"


def test_what_a_listeners_answers_show_tells_of_the_endpoint_and_not_of_quality(
    now_ms: int,
) -> None:
    """Here every tenth answer of b could not be used, for whatever labels it got."""
    of = compiled(ear="listen", alone="own")
    shared = of.apps["default"].categories["code"]
    rows = [labels(of, shared, name, 50, 0.8, now_ms) for name in "ab"]
    without = believe(of, cells.merge(rows), version=1, now_ms=now_ms)
    read = np.zeros((1000, N_COLUMNS))
    read[:, D.SEEN] = 1
    read[np.ix_(np.arange(1, 100, 2), [D.PAIRS, D.PAIR_N, D.PAIR_S])] = 1
    arms = [of.catalog.by_id[name].digest for name in "ab"]
    rows.append(
        cells.terms(
            Family.DERIVED,
            category=np.full(1000, of.apps["ear"].categories["code"], dtype=np.uint64),
            endpoint=np.tile(np.array(arms, dtype=np.uint64), 500),
            at_ms=np.full(1000, now_ms),
            columns=read,
        )
    )

    found = believe(of, cells.merge(rows), version=2, now_ms=now_ms)

    code = of.task_index["code"]
    for app in ("default", "alone", "ear"):
        a, b = found.posterior_of(app).reliability.usable[code]
        assert b < 0.93 < 0.98 < a
    assert found.quality_mean.tolist() == without.quality_mean.tolist()
    assert not found.posterior.calibration.pairs.any()
    shown = {r.endpoint: r.usable for r in views.report_rows(found, "quality") if r.app is None}
    assert shown["b"] == pytest.approx(float(found.posterior.reliability.usable[code, 1]))


def test_labels_stay_where_they_were_counted_when_an_app_learns_otherwise(now_ms: int) -> None:
    """And what was measured of endpoints stays in use."""
    alone = compiled(other="own")
    shares = compiled(other="share")
    rows = labels(alone, alone.apps["other"].categories["code"], "a", 40, 1.0, now_ms)

    before = believe(alone, rows, version=1)
    after = believe(shares, rows, version=1)

    code = alone.task_index["code"]
    assert before.posterior_of("other").labels[code].tolist() == [40, 0]
    assert after.posterior_of("other").labels.sum() == 0
    assert [b.posterior.calls[code].tolist() for b in (before, after)] == [[40, 0], [40, 0]]


@pytest.mark.parametrize("how", ["own", "listen"])
def test_what_was_measured_of_an_app_that_is_gone_stays_in_use(how: str, now_ms: int) -> None:
    before, after = compiled(other=how), compiled()
    rows = labels(before, before.apps["other"].categories["code"], "a", 40, 1.0, now_ms)

    found = believe(after, rows, version=1, names=tasks_of(before))

    code = after.task_index["code"]
    assert found.posterior.calls[code].tolist() == [40, 0]
    assert not found.posterior.labels.any(), "its labels were for it alone, or for nobody"


def test_nothing_is_explored_or_released_on_what_others_lent_alone(now_ms: int) -> None:
    of = compiled(other="own")
    shared = [(name, mean) for name, mean in (("a", 0.5), ("b", 0.9))]
    rows = cells.merge(
        [
            labels(of, digest8("task", task), name, 300, mean, now_ms)
            for task in of.task_index
            for name, mean in shared
        ]
    )
    review_key = ReviewKey("other", "quality", "", "a")

    beliefs = believe(of, rows, version=1, review_keys=[review_key])

    choices = beliefs.choices[review_key]
    assert set(choices.notes) == {"no quality signal"}
    assert {law.stay for law in choices.laws} == {1.0}
    mean = beliefs.posterior_of("other").quality.mean[of.task_index["code"]]
    assert mean[1] > mean[0] + 0.2, "it is served by them where no choice is to be made"


def test_choices_follow_from_the_labels_that_their_app_goes_by(now_ms: int) -> None:
    of = compiled(other="own")
    code = of.task_index["code"]
    rows = cells.merge(
        [
            labels(of, of.apps["other"].categories["code"], name, 200, mean, now_ms)
            for name, mean in (("a", 0.5), ("b", 0.9))
        ]
    )
    review_keys = [ReviewKey(app, "quality", "", "a") for app in ("default", "other")]

    beliefs = believe(of, rows, version=1, review_keys=review_keys)

    default, other = (beliefs.choices[key] for key in review_keys)
    assert default.notes[code] == "no quality signal"
    assert other.notes[code] == ""
    assert other.laws[code].challengers == (of.catalog.by_id["b"].group,)
    posteriors = [outlook.posterior for outlook in beliefs.outlooks]
    again = weigh_all(review_keys, {}, posteriors, rows, of, now_ms=now_ms)
    assert again[review_keys[1]].laws == other.laws


def test_banks_and_tables_of_each_outlook_are_its_own(now_ms: int) -> None:
    of = compiled(other="own")
    rows = cells.merge(
        [
            labels(of, of.apps["other"].categories["code"], "a", 60, 0.1, now_ms),
            labels(of, digest8("task", "code"), "a", 60, 0.9, now_ms),
        ]
    )
    beliefs = believe(of, rows, version=1)
    code = of.task_index["code"]

    own = beliefs.bank(beliefs.category(of.apps["other"], code)).quality[:, 0].mean()
    shared = beliefs.bank(beliefs.category(of.apps["default"], code)).quality[:, 0].mean()

    assert own < 0.5 < 0.8 < shared
    assert sorted(beliefs.banks) == [(code, False), (len(of.task_index) + code, False)]


def test_nothing_changes_where_all_share() -> None:
    of = compiled(other="share")
    beliefs = believe(of, cells.merge([]), version=0)

    assert len(beliefs.outlooks) == 1
    assert of.apps["other"].categories["code"] == digest8("task", "code")
    assert beliefs.quality_mean.shape == (len(of.task_index), 2)


def test_a_damaged_label_row_of_an_apps_own_is_told_with_its_app(now_ms: int) -> None:
    of = compiled(other="own")
    rows = labels(of, of.apps["other"].categories["code"], "b", 3, 1.0, now_ms)
    values = rows.values.copy()
    values[rows.keys["family"] == int(Family.QUALITY)] = -5

    beliefs = believe(of, cells.Terms(rows.keys, values), version=1)

    assert views.damaged_rows(beliefs) == [{"category": "code", "endpoint": "b", "app": "other"}]
    assert beliefs.posterior_of("other").labels.sum() == 0
    (own,) = [row for row in views.report_rows(beliefs, "quality") if row.app and row.damaged]
    assert (own.category, own.endpoint, own.app, own.labels) == ("code", "b", "other", 0)


def test_a_table_of_an_apps_own_labels_is_shown_where_it_gave_any(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def row(category: str, app: str | None, n: int) -> ReportRow:
        quality = {"quality": 0.5, "quality_low": 0.4, "quality_high": 0.6, "p_best": 1.0}
        calls = {"ok_rate": 1.0, "usable": None, "reliability": 1.0, "share": 1.0, "signals": {}}
        times = {"latency_p50_s": None, "latency_p95_s": None}
        cost = {"cost_usd": None, "cost_per_success_usd": None}
        return ReportRow(category, "a", 9, n, **quality, **calls, **times, **cost, app=app)

    shown = [("code", None, 9), ("chat", None, 9), ("code", "own", 0), ("chat", "own", 4)]

    matrix_table.print_matrix([row(*each) for each in shown], console())

    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    titles = [line for line in lines if line[:4] in ("code", "chat")]
    assert titles == ["code", "chat", "chat, by labels of own alone"]


def test_what_learn_may_be_is_said() -> None:
    with pytest.raises(ConfigError) as caught:
        compiled(other="alone")

    assert "apps.other.learn" in str(caught.value)
    assert "'share', 'own' or 'listen'" in str(caught.value)
