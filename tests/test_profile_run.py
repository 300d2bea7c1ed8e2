"""What a profile's calls come to, against a real sidecar and a provider over HTTP."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Provider, Reply, Seen, answer, endpoint, fake_store
from live_model import refusal

from bandit.utility import Objective
from router.commands.console import VerbFailed
from router.commands.profile_child import ProfileTask, run_task
from router.commands.profile_shown import shown_end, shown_plan
from router.commands.profile_told import CommandGone
from router.config.compiled import load
from router.profiling.figures import table_of
from router.profiling.log import Logged, LogLine, RunLog, read_log
from router.profiling.prompts import read_prompts
from router.profiling.results import ProfileResult
from router.profiling.sentence import sentence_of
from router.profiling.table import spent
from telemetry import keys
from telemetry.store import Address, connect

HOSTS = ("a", "b")


class ToldLine:
    """A command that agrees to everything, and remembers what it was told."""

    def __init__(self, provider: Provider, *, gone_after: int = 1 << 30) -> None:
        self.gone = asyncio.Event()
        self.told: dict[str, dict[str, Any]] = {}
        self._provider, self._gone_after = provider, gone_after

    def tell(self, kind: str, **what: Any) -> None:
        self.told[kind] = what
        if len(self._provider.calls) >= self._gone_after:
            self.gone.set()

    async def wait_for_go(self) -> None:
        return


class ProfileWorld:
    """Two endpoints; `a` is right, and `b` says hello."""

    def __init__(self, provider: Provider, state_dir: Path, address: Address) -> None:
        self.provider, self.state_dir, self.address = provider, state_dir, address
        self.directory = state_dir / "state" / "profiles" / "run"
        self.directory.mkdir(parents=True)
        self.endpoints = {name: endpoint(provider, name) for name in HOSTS}
        self.more: dict[str, Any] = {}
        provider.on("a", right)

    def run(
        self,
        lines: list[dict[str, Any]],
        *,
        gone_after: int = 1 << 30,
        line: ToldLine | None = None,
        **more: Any,
    ) -> dict[str, dict[str, Any]]:
        config = self.state_dir / "pointsman.yaml"
        server = {"port": 0, "state_dir": str(self.state_dir / "state")}
        value = {"server": server, "endpoints": list(self.endpoints.values()), **self.more}
        config.write_text(yaml.safe_dump(value, sort_keys=False))
        loaded = load(config)
        found = read_prompts(
            [json.dumps(each).encode() for each in lines],
            tasks=loaded.tasks,
            classes=loaded.classes.names,
            beside=self.state_dir,
        )
        usual: dict[str, Any] = {
            "config": str(config), "directory": str(self.directory), "app": "default",
            "endpoints": list(HOSTS), "judge": None, "per_cell": 25, "max_usd": 10.0,
            "workers": 4, "again": False, "prompts": found.prompts,
        }  # fmt: skip
        task = ProfileTask(**usual | more)

        async def go() -> dict[str, dict[str, Any]]:
            to = line or ToldLine(self.provider, gone_after=gone_after)
            await run_task(task, to, self.address)  # type: ignore[arg-type]
            return to.told

        return asyncio.run(go())

    @property
    def logged(self) -> Logged:
        return read_log(self.directory)

    @property
    def results(self) -> list[ProfileResult]:
        return self.logged.results()

    def sent(self) -> Counter[tuple[str, str]]:
        return Counter(
            (call.host, call.json["messages"][-1]["content"]) for call in self.provider.calls
        )


def right(call: Seen) -> Reply:
    asked = call.json["messages"][-1]["content"].split()[-1].rstrip("?")
    return Reply(body=answer(f"It is {asked}.", model="a"))


def failing(status: int, **headers: str) -> Reply:
    body = json.dumps({"error": {"message": "no", "code": "no"}}).encode()
    return Reply(status, body, headers=headers)


def questions(n: int, **more: Any) -> list[dict[str, Any]]:
    return [
        {"prompt": f"What is {i}?", "expected": str(i), "max_tokens": 50, **more} for i in range(n)
    ]


def open_questions(n: int) -> list[dict[str, Any]]:
    return [{"prompt": f"Why {i}?", "max_tokens": 50} for i in range(n)]


@pytest.fixture
def world(provider: Provider, state_dir: Path) -> Iterator[ProfileWorld]:
    with fake_store() as address:
        yield ProfileWorld(provider, state_dir, address)


def test_an_attempt_that_was_cut_counts_as_spent_at_its_estimate_and_as_no_cost_of_the_answer(
    world: ProfileWorld,
) -> None:
    n = 0

    def cut_first(call: Seen) -> Reply:
        nonlocal n
        n += 1
        json_ = {"content-type": "application/json"}
        return Reply(chunks=[b'{"id"'], cut=True, headers=json_) if n == 1 else right(call)

    world.provider.on("a", cut_first)
    told = world.run(questions(1), endpoints=["a"])

    (result,) = world.results
    assert (len(world.provider.calls), result.ok) == (2, True)
    estimate = told["plan"]["estimated_usd"]
    assert estimate > result.cost_usd > 0
    assert world.logged.spent_usd == pytest.approx(result.cost_usd + estimate)


def test_what_is_done_is_never_sent_again(world: ProfileWorld) -> None:
    world.run(questions(6))
    labelled = world.logged.labelled

    again = world.run(questions(6))

    assert set(world.sent().values()) == {1}
    assert len(world.sent()) == 12
    assert (again["plan"]["calls"], again["plan"]["done"]) == (0, 12)
    assert len(labelled) == 12


def test_who_is_told_to_stop_finishes_what_is_under_way_and_the_next_run_does_the_rest(
    world: ProfileWorld,
) -> None:
    for host in HOSTS:
        world.provider.on(host, Reply(body=answer("1"), delay_s=0.15))
    first = world.run(questions(12), gone_after=6)
    n_first = len(world.provider.calls)
    assert len(world.results) == n_first < 24
    assert first["done"]["left"] == 24 - n_first

    world.run(questions(12))

    assert set(world.sent().values()) == {1}
    assert len(world.sent()) == 24


def test_a_call_that_was_cut_off_counts_as_spent_and_another_prompt_takes_its_place(
    world: ProfileWorld,
) -> None:
    lines = questions(5)
    world.run(lines, per_cell=1, endpoints=["a"])
    (first,) = world.logged.ended
    (world.directory / "calls.jsonl").unlink()
    log = RunLog(world.directory)
    log.write(LogLine("start", 1.0, run="r"))
    log.write(LogLine("begin", 2.0, prompt=first[0], endpoint="a", usd=0.5))
    log.close()
    world.provider.calls.clear()

    told = world.run(lines, per_cell=1, endpoints=["a"])

    assert told["plan"]["interrupted"] == 1
    assert told["plan"]["spent_usd"] == told["plan"]["perhaps_paid_usd"] == 0.5
    assert told["done"]["perhaps_paid_usd"] == 0.5
    (other,) = world.logged.ended
    assert other != first
    assert len(world.provider.calls) == 1
    shown = shown_plan(told["plan"], judges_itself=False)
    assert any("0.5000 USD (0.0000, and about 0.5000 that may have been paid)" in s for s in shown)
    table = table_of(
        world.results,
        strategy="quality",
        objective=Objective(),
        incumbent=None,
        perhaps_paid_usd=told["done"]["perhaps_paid_usd"],
    )
    log = RunLog(world.directory)  # as the next plan reads it
    assert table.as_json()["spent_usd"] == pytest.approx(log.logged.spent_usd)
    log.close()
    (result,) = world.results
    assert result.cost_usd > 0
    known = f"{result.cost_usd:.2g}"
    assert spent(table) == f"Spent $0.50: ${known}, and about $0.50 that may have been paid."


def test_a_refusal_that_says_the_key_is_told_and_kept_without_it(
    world: ProfileWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "pv-secret-key-1"
    monkeypatch.setenv("A_KEY", key)
    world.endpoints["b"]["auth"] = {"env": "A_KEY"}
    error = {"message": f"no {key[:5]}\u200b{key[5:]}", "code": f"x.{key}"}
    world.provider.on("b", Reply(status=400, body=json.dumps({"error": error}).encode()))

    told = world.run(questions(4))

    assert "no (key)" in json.dumps(told["done"])
    for text in (json.dumps(told), (world.directory / "calls.jsonl").read_text()):
        assert key[5:] not in text


def test_to_begin_anew_forgets_nothing_before_it_was_agreed_to(world: ProfileWorld) -> None:
    world.run(questions(2))
    before = texts(world)

    class Declines(ToldLine):
        async def wait_for_go(self) -> None:
            raise CommandGone

    with pytest.raises(CommandGone):
        world.run(questions(2), again=True, line=Declines(world.provider))
    assert texts(world) == before
    assert len(world.provider.calls) == 4

    told = world.run(questions(2), again=True)
    assert (told["plan"]["calls"], told["plan"]["done"]) == (4, 0)
    assert (len(world.provider.calls), len(world.results)) == (8, 4)


def test_an_app_that_is_pinned_uses_what_it_is_pinned_to(world: ProfileWorld) -> None:
    world.more = {"apps": {"default": {"mode": "pinned", "endpoint": "b"}}}

    assert world.run(questions(1))["plan"]["incumbent"] == "b"


def test_checks_that_end_oddly_are_told(world: ProfileWorld) -> None:
    line = {"prompt": "Why?", "check": ["sh", "-c", "kill -9 $$"]}

    told = world.run([line], endpoints=["a"])

    assert told["done"]["odd"] == {"the check ended by signal 9": 1}
    assert [r.quality for r in world.results] == [0.0]


def test_private_prompts_go_only_where_they_may(world: ProfileWorld) -> None:
    world.endpoints["a"]["max_data_class"] = "confidential"
    told = world.run([*questions(3, data_class="confidential"), *questions(2)])

    rows = {row["endpoint"]: row for row in told["plan"]["endpoints"]}
    assert rows["b"]["excluded"] == {"data_class": 3}
    assert Counter(r.endpoint for r in world.results) == {"a": 5, "b": 2}


def test_where_nobody_may_have_any_prompt_it_says_why_and_sends_nothing(
    world: ProfileWorld,
) -> None:
    with pytest.raises(VerbFailed) as failed:
        world.run(questions(3, data_class="restricted"))

    assert "a: data_class" in failed.value.text
    assert not world.provider.calls


def test_money_ends_evenly_and_is_exceeded_by_one_call_a_worker_at_most(
    world: ProfileWorld,
) -> None:
    price = {"input_usd_per_mtok": 0, "output_usd_per_mtok": 1000}  # 0.005 USD a call
    world.endpoints["a"]["prices"] = world.endpoints["b"]["prices"] = price

    told = world.run(questions(20, max_tokens=5), max_usd=0.06)

    assert told["plan"]["affordable_calls"] < 40
    assert told["done"]["out_of_money"]
    assert 0.05 <= sum(r.cost_usd for r in world.results) <= 0.06 + 4 * 0.005
    counted = Counter(r.endpoint for r in world.results)
    assert abs(counted["a"] - counted["b"]) <= 2


def test_a_busy_endpoint_is_waited_for_and_that_is_no_answer(world: ProfileWorld) -> None:
    n = 0

    def busy(call: Seen) -> Reply:
        nonlocal n
        n += 1
        headers = {"retry-after": "0", "x-should-retry": "false"}
        return failing(429, **headers) if n <= 4 else right(call)

    world.provider.on("a", busy)
    world.run(questions(3), endpoints=["a"])

    assert [(r.ok, r.quality) for r in world.results] == [(True, 1.0)] * 3


def test_a_refused_key_ends_its_endpoint_alone_and_counts_against_nobody(
    world: ProfileWorld,
) -> None:
    world.provider.on("b", failing(401))

    told = world.run(questions(8))

    assert set(told["done"]["stopped"]) == {"b"}
    assert Counter(r.endpoint for r in world.results) == {"a": 8}
    assert world.provider.hosts().count("b") <= 3 + 4
    world.provider.on("b", right)
    world.run(questions(8))
    assert Counter(r.endpoint for r in world.results) == {"a": 8, "b": 8}


def test_what_fails_counts_as_quality_0_at_no_cost(world: ProfileWorld) -> None:
    def filters(call: Seen) -> Reply:
        if "What is 1?" in call.json["messages"][-1]["content"]:
            return refusal(400, "The content was flagged", "content_filter")
        return right(call)

    world.provider.on("b", filters)

    told = world.run(questions(3), endpoints=["b"])["done"]

    (failed,) = (r for r in world.results if not r.ok)
    assert (failed.quality, failed.cost_usd) == (0.0, 0.0)
    assert failed.why == "it turns the call down (status 400 content_filter)"
    assert told["said"] == {"b": {failed.why: "The content was flagged"}}
    (shown,) = (line for line in shown_of(told, world.results) if "calls failed" in line)
    assert shown == (
        f"b: 1 calls failed; they count as quality 0: {failed.why}: The content was flagged"
    )


def shown_of(told: dict[str, Any], results: list[ProfileResult]) -> list[str]:
    return shown_end({"judge": None}, told, results, has_sentence=True)[0]


def test_a_field_that_an_endpoint_refuses_is_said_as_it_takes_it_and_that_is_told(
    world: ProfileWorld,
) -> None:
    def reasons(call: Seen) -> Reply:
        for field in ("max_tokens", "temperature"):
            if field in call.json:
                said = f"Unsupported parameter: '{field}'. Use 'max_completion_tokens'."
                return refusal(400, said, "unsupported_parameter")
        return right(call)

    world.provider.on("a", reasons)

    told = world.run(questions(5, temperature=0.2), workers=1)["done"]

    assert [r.quality for r in world.results if r.endpoint == "a"] == [1.0] * 5
    how = "max_completion_tokens for max_tokens, without temperature"
    assert told["changed"] == {"a": {how: 5}}
    assert any(how in line for line in shown_of(told, world.results))
    to_a = [call.json for call in world.provider.calls if call.host == "a"]
    assert len(to_a) == 2 + 5  # it is learnt once
    assert to_a[-1]["max_completion_tokens"] == 50
    again = world.run(questions(5, temperature=0.2))["done"]
    assert again["changed"] == told["changed"]
    assert len(world.provider.hosts()) == 7 + 5


def test_who_turns_down_every_call_is_stopped_and_no_sentence_compares_with_it(
    world: ProfileWorld,
) -> None:
    world.provider.on("b", refusal(422, "tools are not for this model", "no_such_thing"))
    world.endpoints["c"] = endpoint(world.provider, "c")

    done = world.run(questions(6), endpoints=["a", "b", "c"])["done"]

    why = "it turns the call down (status 422 no_such_thing): tools are not for this model"
    assert (done["stopped"], done["no_answer"]) == ({"b": why}, {"b": why})
    to_b = [c.json["messages"][-1]["content"] for c in world.provider.calls if c.host == "b"]
    assert len(set(to_b)) == len(to_b) == 3
    assert Counter(r.endpoint for r in world.results) == {"a": 6, "c": 6}
    table = table_of(
        world.results, strategy="q", objective=Objective(), incumbent="b", silent=done["no_answer"]
    )
    assert "b, which you use now, gave no answer, and is not compared." in sentence_of(table)
    assert "free" not in sentence_of(table)
    world.provider.on("b", right)
    world.run(questions(6), endpoints=["a", "b", "c"])
    assert Counter(r.endpoint for r in world.results) == {"a": 6, "b": 6, "c": 6}


def test_a_refusal_of_how_a_prompt_is_said_counts_neither_way_where_others_are_answered(
    world: ProfileWorld,
) -> None:
    def picky(call: Seen) -> Reply:
        if "response_format" in call.json:
            return refusal(400, "response_format: json_schema is not for this model")
        return right(call)

    world.provider.on("a", picky)
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}

    done = world.run(
        [*questions(2, response_format=wanted), *questions(5)], endpoints=["a"], workers=1
    )["done"]

    assert [r.quality for r in world.results] == [1.0] * 5
    why = "it turns the call down (status 400 invalid_request_error)"
    assert done["turned_down"] == {"a": {why: 2}}
    (shown,) = (line for line in shown_of(done, world.results) if "neither way" in line)
    assert shown.startswith("a: 2 prompts count neither way, for how they are said: it turns")
    assert not done["no_answer"]


def test_what_an_earlier_version_took_for_failures_of_who_never_answered_is_asked_anew(
    world: ProfileWorld,
) -> None:
    world.run(questions(2), endpoints=["a"])
    lines = [line for line in texts(world) if '"do":"labelled"' not in line]
    old = [line.replace('"quality":1.0', '"quality":0.0') for line in lines]
    old = [line.replace('"ok":true', '"ok":false').replace(',"why":""', "") for line in old]
    (world.directory / "calls.jsonl").write_text("\n".join(old) + "\n")
    assert [e.result.ok for e in world.logged.ended.values() if e.result] == [False, False]

    told = world.run(questions(2), endpoints=["a"])

    assert (told["plan"]["calls"], [r.quality for r in world.results]) == (2, [1.0, 1.0])


def test_a_judge_grades_what_nothing_else_does_and_its_cost_counts(world: ProfileWorld) -> None:
    world.provider.on("b", Reply(body=answer('{"score": 0.75}')))

    told = world.run(open_questions(3), endpoints=["a"], judge="b")

    assert [(r.quality, r.graded_by) for r in world.results] == [(0.75, "judge")] * 3
    assert [r.judge_usd for r in world.results] == [pytest.approx(20e-6)] * 3
    assert told["plan"]["judge_usd"] > 0
    asked = [c.json["messages"][1]["content"] for c in world.provider.calls if c.host == "b"]
    marks = {text.split()[1] for text in asked}
    assert len(marks) == 3  # nobody can foresee them
    assert not any("It is" in line for line in texts(world))  # of answers nothing is kept


def texts(world: ProfileWorld) -> list[str]:
    return (world.directory / "calls.jsonl").read_text().splitlines()


def test_a_judge_that_answers_nonsense_grades_nothing_and_nothing_is_lost(
    world: ProfileWorld,
) -> None:
    told = world.run(open_questions(3), endpoints=["a"], judge="b")

    assert told["done"]["judge_graded"] == 0
    assert [(r.ok, r.quality) for r in world.results] == [(True, None)] * 3
    assert world.provider.hosts().count("b") == 6  # each is asked once more
    assert not world.logged.labelled


def test_a_judge_that_may_not_read_the_prompts_is_refused(world: ProfileWorld) -> None:
    world.endpoints["a"]["max_data_class"] = "confidential"
    lines = [line | {"data_class": "confidential"} for line in open_questions(2)]

    with pytest.raises(VerbFailed, match="2"):
        world.run(lines, endpoints=["a"], judge="b")

    assert not world.provider.calls


def test_an_answer_that_was_paid_and_not_judged_is_judged_by_the_next_run(
    world: ProfileWorld,
) -> None:
    world.provider.on("b", failing(401))
    world.run(open_questions(2), endpoints=["a"], judge="b", workers=1)
    paid = world.provider.hosts().count("a")
    assert len(world.logged.answered) == paid > 0
    world.provider.on("b", Reply(body=answer('{"score": 1}')))

    world.run(open_questions(2), endpoints=["a"], judge="b")

    assert world.provider.hosts().count("a") == 2
    assert [r.quality for r in world.results] == [1.0, 1.0]


def test_a_rule_of_the_configuration_finds_the_task(world: ProfileWorld) -> None:
    world.more = {"tasks": {"code": {"match": {"system": ["programmer"]}}}}

    world.run([*questions(2, system="You are a programmer."), *questions(1)])

    assert Counter(r.task for r in world.results) == {"code": 4, "general": 2}


def test_choices_and_watches_are_left_to_the_sidecars_of_the_app(world: ProfileWorld) -> None:
    """Their configuration is another one: what theirs would say of a choice, ours may not."""
    world.more = {"apps": {"default": {"mode": "route", "strategy": "cheapest"}}}

    world.run(questions(2))

    with closing(connect(world.address, timeout_s=5.0)) as client:
        written = [keys.STANDINGS, keys.RELEASES, keys.DRIFT, keys.LOOKED_AT, keys.PROMPTS]
        assert not client.exists(*written)
        assert client.exists(keys.NAMES)  # it was there, and said what digests stand for
