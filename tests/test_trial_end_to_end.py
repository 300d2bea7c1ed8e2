"""A trial through the whole stack: verb, calls, labels, fold, job, release, hold-out, page."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import SHARDS, Provider, Sidecar, endpoint, learning, pointsman, serving, until
from msgspec import structs
from test_books import records

from router.beliefs.kept import ReviewKey
from telemetry import keys, trials
from telemetry.events import Flag
from telemetry.saving_state import STATE_FIELD
from telemetry.store import Address
from telemetry.trials import OVERDUE_MS, Trial, TrialState
from workers.archive.retention import Keep
from workers.jobs import jobs
from workers.jobs.jobs import Place
from workers.jobs.sequences_known import SETTLING_MS

pytestmark = [pytest.mark.usefixtures("store"), pytest.mark.slow]
DAY_MS = 86_400_000
CALLS = 2
"""Of a session."""


@dataclass
class Stack:
    """Router, worker and verbs on one store."""

    sidecar: Sidecar
    address: Address
    client: Any
    config: Path
    dice: random.Random = field(default_factory=lambda: random.Random(3))
    n: int = 0

    def verb(self, *words: object) -> Any:
        environment = {"WHOLE_STORE": self.address.url}
        return pointsman(*words, "--config", self.config, environment=environment)

    def told(self, *words: object) -> dict[str, Any]:
        said = self.verb(*words, "--json")
        assert said.exit_code == 0, said.output
        # The sidecar's threads log to where the verb prints.
        return dict(json.loads(said.stdout.splitlines()[-1]))

    def play(self, n: int, quality: dict[str, float], **headers: str) -> Counter[str]:
        """Make sessions of some calls each, and judge each call's answer by chance."""
        served: Counter[str] = Counter()
        for _ in range(n):
            self.n += 1
            names = set()
            for _ in range(CALLS):
                about = {"x-router-session-id": f"s{self.n}", "x-router-user": f"u{self.n}"}
                got = self.sidecar.chat("auto/chat", headers=about | headers)
                assert got.status_code == 200, got.text
                names.add(name := got.headers["x-router-endpoint"])
                good = self.dice.random() < quality[name]
                said = self.sidecar.feedback(
                    decision_id=got.headers["x-router-decision-id"], passed=good
                )
                assert said.status_code == 202
            (name,) = names
            served[name] += 1
        return served

    def compare(self, *, known: bool = True) -> dict[str, Any]:
        """Let what was sent be folded, and the job work out what it shows."""
        if known:
            until(lambda: self.sidecar.labels_known() == self.n * CALLS, within_s=20)
        raw = self.client.hget(keys.COMPARED, STATE_FIELD)
        if raw is not None:  # the next look is due
            state = json.loads(raw) | {"took_s": 0.0, "marks": []}
            self.client.hset(keys.COMPARED, STATE_FIELD, json.dumps(state))
        jobs.take()
        jobs.compare()
        return dict(json.loads(self.client.get(keys.VERDICTS)))

    def trial(self, id_: str) -> Trial:
        return trials.read_trials(self.client)[id_]

    def choice(self) -> dict[str, Any]:
        rows = self.sidecar.http.get("/v1/router/posteriors").json()["choices"]
        return next((row for row in rows if row["task"] == "chat"), {})

    def page(self) -> dict[str, Any]:
        return dict(self.told("report")["page"])

    def begin(self, *words: object, quality: float = 0.3) -> str:
        """Start a trial on some traffic of the incumbent, and wait until the router goes by it."""
        self.play(60, {"a": quality}, **{"x-router-explore": "0"})
        self.compare()
        id_ = str(self.told("trial", *words, "--days", 90, "--yes")["trial"]["id"])
        self.sidecar.until(lambda: self.choice().get("trial") == id_)
        return id_


def configured(provider: Provider, **app: Any) -> dict[str, Any]:
    return {
        "endpoints": [endpoint(provider, "a"), endpoint(provider, "b")],
        "tasks": {"chat": None},
        "strategies": {"guarded": {"objective": "quality"}},
        "apps": {"default": {"mode": "route", "strategy": "guarded", "holdout": 0.03, **app}},
    }


@pytest.fixture
def begun(
    provider: Provider, state_dir: Path, address: Address, client: Any, tmp_path: Path
) -> Iterator[Any]:
    with ExitStack() as stack:

        def begin(*, value_usd: float | None = None, **app: Any) -> Stack:
            value = configured(provider, **app)
            if value_usd is not None:
                value["strategies"]["guarded"] = {"value_usd": value_usd}
            whole = {
                **value,
                "server": {"state_dir": str(state_dir), "port": 0},
                "store": {"url_env": "WHOLE_STORE", "shards": SHARDS},
            }
            config = tmp_path / "pointsman.yaml"
            config.write_text(yaml.safe_dump(whole))
            jobs.work_at(Place(address, state_dir / "archive", SHARDS, Keep(30, 1 << 30)))
            stack.enter_context(learning(state_dir, address))
            sidecar = stack.enter_context(serving(value, state_dir, address))
            return Stack(sidecar, address, client, config)

        yield begin


def now_ms() -> int:
    return int(time.time() * 1000)


def settle(stack: Stack, id_: str) -> None:
    """Let a trial that was won have been so much earlier that no router can be at it any more."""
    won = stack.trial(id_)
    began_ms, ended_ms = won.began_ms - SETTLING_MS, won.ended_ms - SETTLING_MS
    assert trials.change(stack.client, structs.replace(won, began_ms=began_ms, ended_ms=ended_ms))


def bits_since(stack: Stack, since_ms: int, n: int) -> Counter[tuple[bool, bool]]:
    """Count `n` calls since a moment by whether they are assigned, and to the incumbent's side."""
    until(lambda: sum(_bits(stack, since_ms).values()) >= n)
    return _bits(stack, since_ms)


def _bits(stack: Stack, since_ms: int) -> Counter[tuple[bool, bool]]:
    found = records(stack.address)
    mine = found[(found["kind"] == 1) & (found["token"]["decided_at_ms"] >= since_ms)]
    flags = [int(flags) for flags in mine["flags"]]
    return Counter((bool(f & Flag.ASSIGNED), bool(f & Flag.CONTROL)) for f in flags)


def test_a_better_challenger_wins_is_released_and_leaves_a_hold_out(begun: Any) -> None:
    stack = begun()
    id_ = stack.begin("chat", "--challenger", "b")
    began_ms = stack.trial(id_).began_ms
    served = stack.play(480, {"a": 0.3, "b": 0.95})
    assert min(served.values()) > 180

    told = stack.compare()["trials"][id_]

    assert bits_since(stack, began_ms, 480 * CALLS) == {
        (True, True): served["a"] * CALLS,
        (True, False): served["b"] * CALLS,
    }
    assert told["verdict"]["kind"] == told["row"]["kind"] == "gains"
    assert told["verdict"]["units"] == [served["a"], served["b"]]
    assert told["signals"] == {"test": 480 * CALLS}
    quality = told["verdict"]["differences"][0]
    assert told["verdict"]["checked"] == pytest.approx(quality["mean"], abs=0.02)
    won = stack.trial(id_)
    assert (won.state, won.reason, won.holdout) == (TrialState.WON, "gains", 0.03)

    stack.sidecar.until(lambda: stack.choice().get("holdout") == 0.03)
    choice = stack.choice()
    assert (choice["current"], choice["trial"]) == ("b", id_)
    release = choice["last_release"]
    assert (release["before"], release["after"], release["reason"]) == ("a", "b", "trial")
    until(lambda: stack.trial(id_).applied_ms > 0)

    page = stack.page()
    assert page["sentences"][0]["text"].startswith("In chat: b gains ")
    assert "trial that ended" in page["sentences"][0]["text"]
    (line,) = page["tasks"]
    assert (line["current"], line["word"]) == ("b", "proven")
    assert "By 960 tests." in stack.verb("report").stdout
    opened = stack.verb("report", "--task", "chat").stdout
    assert "cross-check of the trial by logged propensities: +" in opened
    until(lambda: stack.client.xlen(keys.CHANGES) >= 1, 15)  # a router told of it, too
    page = stack.page()
    kinds = [c["kind"] for c in page["changes"] if c["kind"] != "budget"]
    assert kinds == ["release", "trial", "trial"]

    settle(stack, id_)
    since_ms = now_ms()
    later = stack.play(300, {"a": 0.3, "b": 0.95})
    sides = bits_since(stack, since_ms, 300 * CALLS)
    assert sides == {(True, True): later["a"] * CALLS, (True, False): later["b"] * CALLS}
    assert 0 < later["a"] < 30
    told = stack.compare()["trials"][id_]
    assert told["holdout"]["basis"] == "hold-out"
    assert told["holdout"]["units"] == [later["a"], later["b"]]
    assert told["holdout"]["kind"] == "not shown yet"
    assert told["verdict"]["units"] == [served["a"], served["b"]], "never pooled"
    assert "trial that ended" in stack.page()["sentences"][0]["text"]

    assert stack.verb("off").exit_code == 0
    stack.sidecar.until(lambda: stack.sidecar.app.keeper.off)
    since_ms = now_ms()
    assert stack.play(5, {"a": 0.3}) == {"a": 5}
    assert bits_since(stack, since_ms, 5 * CALLS) == {(False, False): 5 * CALLS}
    page = stack.page()
    assert page["sentences"][0]["text"].startswith("Routing is off")
    assert page["tasks"][0]["word"] == "off"
    assert stack.verb("on").exit_code == 0
    stack.sidecar.until(lambda: not stack.sidecar.app.keeper.off)

    assert stack.verb("release", "undo", release["id"]).exit_code == 0
    stack.sidecar.until(lambda: stack.choice()["current"] == "a")
    until(lambda: stack.trial(id_).holdout == 0.0)
    stack.sidecar.until(lambda: stack.choice()["holdout"] == 0.0)
    since_ms = now_ms()
    stack.play(5, {"a": 0.3, "b": 0.9})
    assert bits_since(stack, since_ms, 5 * CALLS) == {(False, False): 5 * CALLS}


def test_a_worse_challenger_ends_the_trial_and_the_incumbent_is_pinned(begun: Any) -> None:
    stack = begun(auto_pin=True)
    id_ = stack.begin("chat", "--challenger", "b", quality=0.95)
    stack.play(480, {"a": 0.95, "b": 0.3})

    told = stack.compare()["trials"][id_]

    assert told["verdict"]["kind"] == "keep"
    over = stack.trial(id_)
    assert (over.state, over.reason, over.auto_pin) == (TrialState.ENDED, "not worth it", True)
    stack.sidecar.until(lambda: stack.choice()["note"] == f"pinned after trial {id_}")
    assert stack.play(10, {"a": 0.9}) == {"a": 10}
    page = stack.page()
    assert page["sentences"][0]["text"].startswith("In chat: not worth it here: keep a")
    assert page["tasks"][0]["word"] == "pinned"
    assert "release" not in {c["kind"] for c in page["changes"]}

    assert stack.verb("trial", "resume", id_).exit_code == 0
    stack.sidecar.until(lambda: not stack.choice()["note"].startswith("pinned"))


def test_of_two_alike_nothing_is_shown_and_the_trial_goes_on(begun: Any) -> None:
    stack = begun()
    id_ = stack.begin("chat", "--challenger", "b", quality=0.6)
    stack.play(480, {"a": 0.6, "b": 0.6})

    told = stack.compare()["trials"][id_]

    assert told["verdict"]["kind"] == "not shown yet"
    assert (told["verdict"]["needed"] or 1000) > 100
    assert stack.trial(id_).state is TrialState.RUNNING
    page = stack.page()
    assert "whether b is better: not shown yet" in page["sentences"][0]["text"]
    assert page["sentences"][0]["advice"] == f"pointsman trial stop {id_}"
    (line,) = page["tasks"]
    assert (line["current"], line["word"]) == ("a", "learning")
    assert line["why"].startswith("a trial runs until")

    got = stack.sidecar.chat("auto/chat", headers={"x-router-session-id": "s-new"})
    said = stack.verb("explain", got.headers["x-router-decision-id"], "--url", stack.sidecar.url)
    side = "incumbent" if got.headers["x-router-endpoint"] == "a" else "challenger"
    assert f"by chance alone it is on the {side}'s side of a trial" in said.output
    body = {"model": "auto/chat", "messages": [{"role": "user", "content": "x"}]}
    about = {"x-router-dry-run": "1", "x-router-session-id": "s-new"}
    dry = stack.sidecar.http.post("/v1/chat/completions", json=body, headers=about).json()
    assert (dry["trial"], dry["side"]) == (id_, side)

    assert stack.verb("trial", "stop", id_[:5]).exit_code == 0
    stack.sidecar.until(lambda: stack.choice().get("trial") is None)
    since_ms = now_ms()
    stack.play(10, {"a": 0.6, "b": 0.6})
    assert bits_since(stack, since_ms, 10 * CALLS) == {(False, False): 10 * CALLS}
    dry = stack.sidecar.http.post(
        "/v1/chat/completions", json=body, headers=about | {"x-router-session-id": "s-other"}
    ).json()
    assert (dry["trial"], dry["side"]) == (None, None)


def test_where_releases_wait_a_won_trial_waits_too(begun: Any) -> None:
    stack = begun(releases="ask")
    id_ = stack.begin("chat", "--challenger", "b")
    stack.play(480, {"a": 0.3, "b": 0.95})
    stack.compare()
    assert stack.trial(id_).state is TrialState.WON

    stack.sidecar.until(lambda: bool(stack.choice().get("held_back")))
    held = stack.choice()["held_back"]
    assert (held["before"], held["after"], held["reason"]) == ("a", "b", "trial")
    assert stack.choice()["holdout"] == 0.0
    since_ms = now_ms()
    stack.play(10, {"a": 0.3, "b": 0.95})
    assert (True, True) not in bits_since(stack, since_ms, 10 * CALLS)
    page = stack.page()
    assert page["tasks"][0]["why"].endswith("b waits for a yes")
    proposal = next(c for c in page["changes"] if c["kind"] == "proposal")
    assert proposal["undo"] == f"pointsman release accept {held['id']}"

    assert stack.verb("release", "accept", held["id"]).exit_code == 0
    stack.sidecar.until(lambda: stack.choice().get("holdout") == 0.03)
    assert stack.choice()["current"] == "b"
    told = stack.client.xrange(keys.RELEASES)
    notes = [json.loads(e[1][b"note"])["kind"] for e in told if b"note" in e[1]]
    assert notes == ["proposed"]


def test_an_apps_trial_is_judged_by_its_episodes(begun: Any) -> None:
    stack = begun()
    id_ = stack.begin("--app", "default")
    quality, sides = {"a": 0.3, "b": 0.95}, Counter[str]()
    stack.play(30, quality)
    for n in range(480):
        names = []
        for _ in range(CALLS):
            about = {"x-router-episode-id": f"e{n}"}
            got = stack.sidecar.chat("auto/chat", headers=about)
            names.append(got.headers["x-router-endpoint"])
        stack.sidecar.http.post(
            f"/v1/router/episodes/e{n}/outcome",
            json={"passed": stack.dice.random() < quality[names[0]]},
        ).raise_for_status()
        sides[names[0]] += 1
    stack.sidecar.until(lambda: stack.sidecar.labels_known() == stack.n * CALLS + 480, 20)

    told = stack.compare(known=False)["trials"][id_]

    verdict = told["verdict"]
    assert told["by_episode"]
    assert sum(verdict["units"]) == sum(verdict["labelled"]) == 480
    assert min(verdict["units"]) > 180
    assert told["signals"] == {"test": 480}
    found = {one["measure"]: one for one in verdict["differences"]}
    assert found.keys() == {"quality", "cost per success", "wall time"}
    assert found["quality"]["low"] > 0, "the routed side is served by b as far as that was learnt"
    assert (verdict["kind"], stack.trial(id_).state) == ("not shown yet", TrialState.RUNNING)
    (sentence,) = stack.page()["sentences"]
    assert sentence["text"].startswith("App default: not shown yet")
    assert f"{verdict['units'][1]} episodes against {verdict['units'][0]}" in sentence["text"]
    for words in (("trial", "chat"), ("trial", "--app", "default")):
        refused = stack.verb(*words, "--days", 90, "--yes")
        assert (refused.exit_code, id_ in refused.stderr) == (1, True), refused.output

    won = structs.replace(stack.trial(id_), state=TrialState.WON, ended_ms=now_ms())
    assert trials.change(stack.client, structs.replace(won, reason="gains"))
    stack.sidecar.until(lambda: stack.choice().get("holdout") == 0.03)
    since_ms = now_ms()
    stack.play(100, quality)
    bits = bits_since(stack, since_ms, 100 * CALLS)
    assert bits.keys() <= {(True, True), (True, False)}
    assert bits[True, True] <= 12 * CALLS, "whole episodes, by a small share"
    assert bits[True, True] % CALLS == 0
    last = stack.choice()["last_release"] or {"reason": ""}
    assert last["reason"] != "trial", "an app's trial releases nothing"
    assert stack.verb("trial", "stop", id_).exit_code == 0
    stack.sidecar.until(lambda: stack.choice().get("holdout") == 0.0)


def test_where_a_success_has_a_value_utility_decides(begun: Any) -> None:
    stack = begun(value_usd=0.001)
    id_ = stack.begin("chat", "--challenger", "b")
    stack.play(480, {"a": 0.3, "b": 0.95})

    verdict = stack.compare()["trials"][id_]["verdict"]

    assert [one["measure"] for one in verdict["differences"]] == ["utility"]
    assert (verdict["kind"], stack.trial(id_).state) == ("gains", TrialState.WON)
    assert "of a success's value against your incumbent a" in stack.page()["sentences"][0]["text"]


def started(stack: Stack, **more: Any) -> Trial:
    """Write a trial of `chat` that began a day ago."""
    key = ReviewKey("default", "guarded", "", "a").release_keys(["chat"])[0]
    told: dict[str, Any] = {"id": "abcdefabcdef", "app": "default", "strategy": "guarded"}
    told |= {"task": "chat", "incumbent": "a", "challenger": "b", "release_key": key}
    one = Trial(**told | {"began_ms": now_ms() - DAY_MS, "ends_ms": now_ms() + DAY_MS} | more)
    trials.start(stack.client, one)
    return one


def troubles(stack: Stack) -> list[str]:
    return [str(one["text"]) for one in stack.page()["troubles"]]


def test_a_trial_that_no_job_ends_is_left_and_the_page_says_so(begun: Any) -> None:
    stack = begun()
    one = started(stack, ends_ms=now_ms() - OVERDUE_MS + 3_000)
    stack.sidecar.until(lambda: stack.choice().get("trial") == one.id)

    stack.sidecar.until(lambda: stack.choice().get("trial") is None)

    assert stack.trial(one.id).state is TrialState.RUNNING
    assert stack.play(5, {"a": 0.5}) == {"a": 5}
    (text,) = (text for text in troubles(stack) if one.id in text)
    assert text.startswith(f"trial {one.id} of chat is past its end, and no job ended it")
    stack.compare()
    assert (stack.trial(one.id).state, stack.trial(one.id).reason) == (TrialState.ENDED, "time")
    assert not any(one.id in text for text in troubles(stack))


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ({}, ""),
        ({"endpoints": {"deny": ["b"]}}, "b may not serve these calls"),
        ({"stakes": "high"}, "these calls may not be explored (high stakes)"),
    ],
)
def test_a_trial_with_nobody_to_assign_says_so_on_the_page(
    rules: dict[str, Any], why: str, begun: Any
) -> None:
    stack = begun(**rules)
    one = started(stack)
    stack.play(3, {"a": 0.5, "b": 0.5})

    found = [text for text in troubles(stack) if one.id in text]

    assert len(found) == bool(why)
    assert all(f"trial {one.id} of chat is idle: {why}" in text for text in found)


def test_without_an_archive_no_trial_is_started(begun: Any) -> None:
    stack = begun()
    value = yaml.safe_load(stack.config.read_text())
    stack.config.write_text(yaml.safe_dump(value | {"archive": {"keep_days": 0}}))

    said = stack.verb("trial", "chat", "--challenger", "b", "--yes")

    assert said.exit_code == 2
    assert "archive.keep_days is 0" in said.stderr
    assert "set archive.keep_days to 30" in said.stderr
    assert trials.read_trials(stack.client) == {}
