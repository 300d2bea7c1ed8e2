"""Labels are read off Messages and Responses as they are read off Chat Completions."""

from __future__ import annotations

import json
import os
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
from conversations import CONVERSATIONS, Turn
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from native_conversations import NATIVE
from observing import SALT, expected, labels, run, spoiled_call, to_call
from retold import TELLERS, Unsayable, retell

from router.dialects.body import NativeRequest
from telemetry.observed import DIALECTS
from workers.observer.readers import READERS, parse_answer, parse_request
from workers.observer.rewards import Memory, derive

SOUND = {"spoken answer"}
SAMPLES = {name for name in CONVERSATIONS if name.startswith("n: ")} | {
    "samples: n",
    "samples: seeds",
}
UNSAYABLE = {
    "messages": SOUND
    | SAMPLES
    | {
        "allowed tools, another one called",
        "allowed tools, none needed",
        "azure: filtered",
        "custom tool: its input is free text",
        "extraction: one document, two schemas",
        "filtered, with other line ends",
        "json object",
        "json object: a list",
        "provider broke off in an object",
        "schema left out: no JSON",
        "schema left out: some JSON",
    },
    "responses": SOUND
    | SAMPLES
    | {"code completion with nothing to add", "code completion, cut on purpose"},
}
"""Conversations that a dialect has no words for."""
RETOLD = [(name, dialect) for dialect in TELLERS for name in CONVERSATIONS]
SAYABLE = [(name, dialect) for name, dialect in RETOLD if name not in UNSAYABLE[dialect]]
RECORDED = Path(
    os.environ.get("POINTSMAN_CLIENTS", Path(__file__).parents[2] / "shared" / "data" / "clients")
)


def told(name: str, dialect: str) -> list[Turn]:
    return [retell(turn, dialect) for turn in CONVERSATIONS[name]]


TURNS = [turn for name, dialect in SAYABLE for turn in told(name, dialect) if turn.answer != ""]
TURNS += [turn for turns in NATIVE.values() for turn in turns if turn.answer != ""]


def test_router_and_observer_know_the_same_dialects() -> None:
    assert (
        set(READERS)
        == set(DIALECTS)
        == {request.dialect for request in NativeRequest.__subclasses__() if request.says_something}
    )


@pytest.mark.parametrize(("name", "dialect"), SAYABLE)
def test_a_conversation_gives_the_same_labels_in_another_dialect(name: str, dialect: str) -> None:
    turns = told(name, dialect)

    assert labels(turns) == expected(CONVERSATIONS[name])


@pytest.mark.parametrize("dialect", TELLERS)
def test_every_conversation_is_told_that_the_dialect_has_words_for(dialect: str) -> None:
    untold = set()
    for name in CONVERSATIONS:
        try:
            told(name, dialect)
        except Unsayable:
            untold.add(name)

    assert untold == UNSAYABLE[dialect]


@pytest.mark.parametrize("name", NATIVE)
def test_a_conversation_of_one_dialect_alone_gives_these_labels_and_no_others(name: str) -> None:
    assert labels(NATIVE[name]) == expected(NATIVE[name])


@pytest.mark.parametrize("dialect", TELLERS)
def test_a_conversation_of_one_dialect_is_none_of_another(dialect: str) -> None:
    """What is known of a call is its dialect: nothing is guessed from how a body looks."""
    for turn in told("chat: regenerated in a later turn", dialect):
        call = to_call(turn, 1)
        for other in set(DIALECTS) - {dialect}:
            assert parse_answer(call.answer, other, streamed=call.streamed) is None


@settings(max_examples=150)
@given(st.randoms(use_true_random=False))
def test_spoiled_calls_never_raise(rng: random.Random) -> None:
    memory = Memory(SALT, max_attempts=5)
    for number in range(8):
        for verdict in derive(spoiled_call(TURNS, number, rng, [None, "x", [{}], 3.5]), memory):
            assert verdict.value in (0.0, 1.0, None)


@pytest.mark.parametrize("dialect", TELLERS)
def test_text_that_is_no_utf8_never_raises(dialect: str) -> None:
    (turn, *_) = told("chat: regenerated in a later turn", dialect)
    call = to_call(turn, 1)
    spoiled = structs.replace(call, request=call.request.replace(b"user", b"us\xffer"))

    assert spoiled.request != call.request
    assert derive(spoiled, Memory(SALT)) == []
    assert parse_request(spoiled.request, dialect) is None


@settings(max_examples=50)
@given(st.binary(), st.binary(), st.sampled_from(DIALECTS), st.booleans())
def test_garbage_never_raises(request: bytes, answer: bytes, dialect: str, streamed: bool) -> None:
    call = structs.replace(to_call(TURNS[0], 1), dialect=dialect, streamed=streamed)

    assert derive(structs.replace(call, request=request), Memory(SALT)) == []
    derive(structs.replace(call, answer=answer), Memory(SALT))


@pytest.mark.parametrize("dialect", TELLERS)
@pytest.mark.parametrize("depth", [900, 200_000])
def test_nesting_never_raises(dialect: str, depth: int) -> None:
    nest = "[" * depth + "]" * depth
    field = {"messages": "messages", "responses": "input"}[dialect]
    request = f'{{"{field}":[{{"role":"user","content":{nest}}}]}}'
    answer = f'{{"content":[{nest}],"output":[{nest}],"status":"completed"}}'
    call = structs.replace(to_call(TURNS[0], 1), dialect=dialect, streamed=False)

    derive(structs.replace(call, request=request.encode()), Memory(SALT))
    derive(structs.replace(call, answer=answer.encode()), Memory(SALT))


@pytest.mark.parametrize("name", ["tool call streamed", "schema met, streamed"])
@pytest.mark.parametrize("dialect", TELLERS)
def test_a_stream_cut_anywhere_gives_no_other_label(name: str, dialect: str) -> None:
    call = to_call(told(name, dialect)[0], 1)
    whole = [(v.source, v.value) for v in derive(call, Memory(SALT))]

    for end in range(len(call.answer)):
        said = derive(structs.replace(call, answer=call.answer[:end]), Memory(SALT))
        assert [(v.source, v.value) for v in said] in ([], whole)


def test_revisions_count_up_in_every_dialect() -> None:
    for turns in NATIVE.values():
        last: dict[bytes, int] = {}
        for verdict in (v for said in run(turns) for v in said):
            assert verdict.revision == last.get(verdict.decision, -1) + 1
            last[verdict.decision] = verdict.revision


def test_memory_holds_no_text_of_any_dialect() -> None:
    memory = Memory(SALT)
    for number, turn in enumerate(TURNS):
        derive(to_call(turn, number + 1), memory)

    held = pickle.dumps([memory.of(app) for app in (b"app", b"other")])

    for word in (b"garbage", b"Paris", b"get_weather", b"call_Zk3", b"toolu_", b"resp_1", b"conv_"):
        assert word not in held


def forms(body: dict[str, Any]) -> list[Any]:
    """What a body says of the form of its answer, in any dialect."""
    return [body.get(name) for name in ("response_format", "output_config", "text")]


def recorded() -> list[Path]:
    paths = ("chat_completions", "messages", "responses")
    return sorted(
        each
        for path in paths
        for each in RECORDED.glob(f"*__post_v1_{path}*.json")
        if "count_tokens" not in each.name
    )


def test_requests_of_real_clients_are_read() -> None:
    """Every client that was recorded: its tools, its schema and its messages."""
    if not RECORDED.is_dir():
        pytest.skip(f"NO RECORDED CLIENTS in {RECORDED}: set POINTSMAN_CLIENTS")
    assert recorded()

    for path in recorded():
        found: dict[str, Any] = json.loads(path.read_text())
        dialect = {"chat/completions": "chat"}.get(kind := found["path"][4:].split("?")[0], kind)
        read = parse_request(json.dumps(found["body"]).encode(), dialect)

        assert read is not None, path.name
        assert read.n_tools >= len(found["body"].get("tools") or ()), path.name
        assert bool(read.schema) == ('"schema":' in json.dumps(forms(found["body"]))), path.name
