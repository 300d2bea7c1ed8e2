"""The proof of `steady` proves something: what flips is noticed, and only a reason excuses it."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from scripts.proofs import steady
from scripts.proofs.steady import SteadySettings, prove_steady
from scripts.proofs.steady_requests import (
    LONG_TEXT_BYTES,
    TASKS,
    AskedPrompt,
    Asker,
    Change,
    ClientKind,
    prompt_of,
)
from scripts.proofs.steady_serve import SteadySabotage
from scripts.proofs.steady_units import (
    ENDING_WORDS,
    ENDINGS,
    SteadyCall,
    UnitFound,
    judge_unit,
    slot_of,
)
from scripts.proofs.told_answers import ToldAnswer, dialect_of
from scripts.proofs.told_figures import tell_figures
from telemetry.wire.usage import usage_of

GAIN, DOMINATED = ENDINGS


def called(at: float, endpoint: str = "a", reason: str = "best so far", **more: Any) -> SteadyCall:
    usual: dict[str, Any] = {"process": 0, "task": "code", "got_at": at + 0.5}
    return SteadyCall(sent_at=at, endpoint=endpoint, reason=reason, **usual | more)


def judged(*calls: SteadyCall, down: tuple[str, ...] = ()) -> UnitFound:
    return judge_unit("u", "code", calls, lambda endpoint, _: endpoint in down)


def faults(*calls: SteadyCall, down: tuple[str, ...] = ()) -> list[str]:
    return [fault["fault"] for fault in judged(*calls, down=down).faults]


def test_a_unit_that_stays_has_no_faults_whatever_word_explains_its_calls() -> None:
    reasons = ("exploring", "best so far", "incumbent")
    found = judged(*(called(at, "a", reason) for at, reason in enumerate(reasons)))

    assert (found.n_units, found.n_calls, found.faults, found.changes) == (1, 3, [], {})


def test_an_endpoint_or_task_that_changes_is_a_fault() -> None:
    assert faults(called(0), called(1, "b"), called(2)) == ["no reason to leave a"]
    assert faults(called(0), called(1, task="review")) == ["task review and not code"]


def test_a_failure_excuses_a_change_only_where_something_failed() -> None:
    away = called(1, "b", "failover")

    assert faults(called(0), away) == ["nothing failed at a"]
    assert judged(called(0), away, down=("a",)).changes == {"failure": 1}
    assert judged(called(0), called(1, "b", "failover", attempts=2)).changes == {"failure": 1}
    assert faults(called(0), called(1, "b", attempts=2)) == ["no reason to leave a"]


def test_a_constraint_excuses_only_the_call_that_has_it() -> None:
    forbids = called(1, "b", "only one allowed", is_constrained=True)

    assert judged(called(0), forbids, called(2)).changes == {"constraint of the call": 1}
    assert faults(called(0), forbids, called(2, "b", "only one allowed")) == ["nothing failed at a"]


def test_a_first_call_that_went_elsewhere_tells_nothing_of_the_draw() -> None:
    first = called(0, "b", "failover", attempts=2)

    assert judged(first, called(1), called(2)).faults == []
    assert faults(first, called(1), called(2, "b")) == ["no reason to leave a"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_draw_ends_once_and_nobody_goes_back(ending: str) -> None:
    moved = called(1, "b", ending)

    found = judged(called(0), moved, called(2, "b"))
    assert (found.faults, found.changes) == ([], {ending: 1})
    assert faults(called(0), moved, called(2, "a")) == ["no reason to leave a"]
    assert faults(called(0), moved, called(2, "c")) == ["no reason to leave a"]
    assert faults(called(0), moved, called(2, "c", ending)) == ["its draw ended twice"]


@pytest.mark.parametrize("kind", ["gain", "dominated"])
def test_a_draw_may_end_at_a_call_that_failed_over(kind: str) -> None:
    ending = called(1, "a", "failover", attempts=2, ended=kind)

    found = judged(called(0), ending, called(2, "b"))
    assert (found.faults, found.changes) == ([], {ENDING_WORDS[kind]: 1})
    assert faults(called(0), ending, called(2, "b"), called(3, "a")) == ["no reason to leave a"]


def test_another_process_follows_an_ended_draw_with_a_call_of_its_own() -> None:
    moved = called(1, "b", DOMINATED)
    late = [called(2, "a", process=1), called(3, "b", process=1)]

    assert faults(called(0), moved, *late) == []
    assert faults(called(0), moved, *late, called(4, "a", process=1)) == ["no reason to leave a"]
    assert faults(called(0), called(0.1, "b", process=1, got_at=0.9), moved) == [
        "no reason to leave a"
    ]


def test_a_process_that_only_failed_over_to_there_has_not_moved() -> None:
    moved = called(1, "b", DOMINATED)
    away = called(2, "b", "failover", process=1, attempts=2)

    assert faults(called(0), moved, away, called(3, "a", process=1)) == []


def test_a_conversation_keeps_its_endpoint_when_the_slots_draw_ends() -> None:
    moved = called(1, "b", DOMINATED)

    assert faults(called(0), moved, called(2, "a", continues=True)) == []
    assert faults(called(0), moved, called(2, "c", continues=True)) == ["no reason to leave a"]


def test_what_is_sent_at_a_slots_end_is_of_neither_slot() -> None:
    assert slot_of("none", 1190, 1199) == 1
    assert slot_of("none", 1199, 1201) is None
    assert slot_of("user", 1199, 1201) == 0
    assert slot_of("user", 86_399, 86_401) is None
    assert slot_of("session", 0, 1e9) == 0


STRUCTURE = ("tools", "system", "instructions", "response_format", "output_config", "text")


def structure(asker: Asker, prompt: AskedPrompt) -> dict[str, Any]:
    body = json.loads(asker.request(prompt).body)
    first = (body.get("messages") or body["input"])[0]
    told = {name: body.get(name) for name in STRUCTURE}
    return told | {"first": first if first["role"] in ("system", "developer") else None}


@pytest.mark.parametrize("kind", list(ClientKind))
def test_no_change_touches_what_a_task_is_told_by(kind: ClientKind) -> None:
    random, asker = Random(1), Asker(kind, "app", session="s")
    for task in TASKS:
        prompt = prompt_of(task, random)
        for change in Change:
            changed = prompt.changed(change, random)
            assert structure(asker, changed) == structure(asker, prompt)
            assert (changed.messages == prompt.messages) == (change is Change.NONE)


def test_a_changed_prompt_differs_by_what_its_change_says() -> None:
    random = Random(2)
    prompt = AskedPrompt("code", ("one two three", "four", "five six"))

    word = prompt.changed(Change.WORD, random).messages
    assert sum(a != b for a, b in zip(word, prompt.messages, strict=True)) == 1
    assert prompt.changed(Change.FIRST, random).messages[1:] == prompt.messages[1:]
    assert len(prompt.changed(Change.TURN, random).messages) == 5
    longer = prompt.changed(Change.LENGTH, random, is_long=True).messages[-1]
    assert len(longer) >= 0.9 * LONG_TEXT_BYTES


@pytest.mark.parametrize("dialect", ["chat", "messages", "responses"])
def test_an_answer_tells_what_was_counted_in_every_dialect(dialect: str) -> None:
    answer = ToldAnswer("x", "m", "said", 1000, 20, cached=600, written=300)
    _, body = answer.bytes_in(dialect, streamed=False)

    usage = usage_of(json.loads(body)["usage"])
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (1000, 20)
    assert usage.cached_tokens == 600
    assert usage.written_tokens == (300 if dialect == "messages" else 0)


def test_a_dialect_is_known_by_its_path() -> None:
    paths = ("/v1/chat/completions", "/v1/messages", "/v1/responses")

    assert [dialect_of(path) for path in paths] == ["chat", "messages", "responses"]


def test_what_never_happened_fails_the_proof(capsys: pytest.CaptureFixture[str]) -> None:
    figures: dict[str, Any] = {
        "units": {"session": 1, "user": 1, "none": 1},
        "faults": 0,
        "unanswered": 0,
        "changes": {"constraint of the call": 1, "failure": 1},
        "versions": [9, 9],
        "share_of_best": [0.2, 0.5],
        "dry_runs": 1,
    }

    assert told(steady, {**figures, "shown": []}, as_json=True) == 0
    assert told(steady, {**figures, "shown": [], "faults": 1}, as_json=True) == 1
    assert told(steady, {**figures, "shown": [], "versions": [9, 1]}, as_json=False) == 1
    assert "never happened: posteriors that moved" in capsys.readouterr().err


@pytest.mark.parametrize("kind", list(SteadySabotage))
def test_what_flips_on_purpose_is_noticed(kind: SteadySabotage) -> None:
    figures = prove_steady(SteadySettings(120, sabotage=kind))

    assert figures["faults"] > 0


def told(proof: Any, figures: dict[str, Any], *, as_json: bool) -> int:
    return tell_figures(figures, proof.missing_in(figures), as_json=as_json)
