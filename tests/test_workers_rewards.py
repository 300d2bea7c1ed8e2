"""Derived labels: those that must come out, and none that must not."""

from __future__ import annotations

import json
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
from conversations import (
    CONVERSATIONS,
    GOOD_STEPS,
    STEPS,
    WEATHER,
    Q,
    Turn,
    ask,
    calls,
    reply,
    sse,
    user,
    weather,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from observing import SALT, decision, expected, labels, nonce_of, run, spoiled_call, to_call

from telemetry.events import NO_DIGEST, Source
from workers.observer.attempts import MAX_UNIT_SCOPES
from workers.observer.rewards import DerivedLabel, Memory, ObservedCall, derive
from workers.observer.schemas import fits


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_conversation_gives_these_labels_and_no_others(name: str) -> None:
    turns = CONVERSATIONS[name]

    assert labels(turns) == expected(turns)


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_revisions_of_a_decision_count_up_and_each_changes_something(name: str) -> None:
    last: dict[bytes, DerivedLabel] = {}

    for verdict in (v for verdicts in run(CONVERSATIONS[name]) for v in verdicts):
        before = last.get(verdict.decision)
        assert verdict.revision == (before.revision + 1 if before else 0)
        assert before is None or (before.value, before.chain) != (verdict.value, verdict.chain)
        last[verdict.decision] = verdict


def test_a_call_that_is_told_twice_gives_nothing_the_second_time() -> None:
    turn = CONVERSATIONS["schema met"][0]
    memory = Memory(SALT)

    assert len(derive(to_call(turn, 1), memory)) == 1
    assert derive(to_call(turn, 1), memory) == []


def test_a_chain_names_the_first_of_all_attempts_at_one_thing() -> None:
    turns = CONVERSATIONS["retried twice, then regenerated"]

    verdicts = [v for said in run(turns) for v in said]

    assert [v.chain for v in verdicts] == [nonce_of(1)] * 3


def test_the_last_attempt_of_a_chain_says_so_with_its_own_label() -> None:
    turns = CONVERSATIONS["regenerated though the schema was met"]

    first, (again, own) = run(turns)

    assert first[0].chain == NO_DIGEST
    assert again.chain == own.chain == nonce_of(1)
    assert (again.revision, own.revision) == (1, 0)


def test_a_label_taken_back_leaves_what_the_answer_showed_by_itself() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "s", "schema": STEPS}}
    request = ask(Q, response_format=schema)
    turns = [Turn(request, reply(GOOD_STEPS), at_s=60.0 * i, session=True) for i in range(3)]

    back = [v for v in run(turns)[2] if v.decision == decision(1)]

    assert back == [DerivedLabel(decision(1), Source.SCHEMA, 1.0, 2, NO_DIGEST)]


def test_a_program_s_calls_are_no_chain() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "s", "schema": STEPS}}
    request = ask(Q, response_format=schema)
    last: dict[bytes, DerivedLabel] = {}

    turns = [Turn(request, reply(GOOD_STEPS), at_s=60.0 * i, session=True) for i in range(5)]
    for said in run(turns):
        last |= {v.decision: v for v in said}

    assert {(v.source, v.value, v.chain) for v in last.values()} == {
        (Source.SCHEMA, 1.0, NO_DIGEST)
    }


def test_the_order_of_unrelated_calls_does_not_matter() -> None:
    """All are of one app; each conversation has units, ids and some words of its own."""
    every = [(name, turn) for name, turns in CONVERSATIONS.items() for turn in turns]
    told: dict[str, list[ObservedCall]] = {name: [] for name in CONVERSATIONS}
    for number, (name, turn) in enumerate(every, 1):
        told[name].append(_apart(to_call(turn, number), name))
    alone: set[DerivedLabel] = set()
    for own in told.values():
        memory = Memory(SALT)
        alone |= {v for call in own for v in derive(call, memory)}

    for seed in range(5):
        rng = random.Random(seed)
        queues = {name: list(own) for name, own in told.items()}
        memory, together = Memory(SALT), set()
        while queues:
            name = rng.choice(list(queues))
            together |= set(derive(queues[name].pop(0), memory))
            if not queues[name]:
                del queues[name]

        assert together == alone


def _apart(call: ObservedCall, name: str) -> ObservedCall:
    tag = f"{list(CONVERSATIONS).index(name):03}".encode()
    request, answer = call.request, call.answer
    for word in (b"call_", b"toolu_", b"garbage", b"friend"):
        request, answer = request.replace(word, word + tag), answer.replace(word, word + tag)
    return structs.replace(call, request=request, answer=answer, unit=call.unit and call.unit + tag)


def test_memory_is_bounded_by_number_and_the_largest_app_pays() -> None:
    memory = Memory(SALT, max_attempts=50)
    quiet = Turn(ask(Q), reply("a"), app="quiet")
    derive(to_call(quiet, 1), memory)
    for i in range(500):
        loud = Turn(ask(user(f"question {i}")), reply("a"), at_s=i, app="loud")
        derive(to_call(loud, i + 2), memory)

    turn = Turn(ask(Q), reply("a"), app="quiet", at_s=500, session=True)
    again = derive(to_call(turn, 900), memory)

    assert len(memory) == 50
    assert len(memory.of(b"loud").same) == 48  # two calls are the other app's
    assert [v.source for v in again] == [Source.REGENERATED]


def test_tool_calls_are_forgotten_with_their_attempt() -> None:
    memory = Memory(SALT, max_attempts=3)
    for i in range(20):
        turn = Turn(ask(user(f"weather {i}?"), tools=[WEATHER]), calls(weather(f"call_{i:016}")))
        derive(to_call(turn, i + 1), memory)

    assert len(memory.of(b"app").calls) == 3


def test_memory_is_bounded_by_age() -> None:
    memory = Memory(SALT, keep_s=100.0)
    for i in range(100):
        turn = Turn(ask(user(f"question {i}")), reply("a"), at_s=i * 10.0, app=f"app{i % 3}")
        derive(to_call(turn, i + 1), memory)

    assert len(memory) <= 17  # 100 s, and a minute until it is looked at
    assert not memory.of(b"app0").same.keys() - {
        a.whole for a in memory.of(b"app0").attempts.values()
    }


def test_memory_holds_no_text() -> None:
    memory = Memory(SALT)
    for i, turn in enumerate(t for turns in CONVERSATIONS.values() for t in turns):
        derive(to_call(turn, i + 1), memory)

    held = pickle.dumps([memory.of(app) for app in (b"app", b"other")])

    for word in (b"garbage", b"Paris", b"get_weather", b"call_Zk3", b"Error: gone", b"friend"):
        assert word not in held


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)
TURNS = [turn for turns in CONVERSATIONS.values() for turn in turns if turn.answer != ""]


@settings(max_examples=150)
@given(st.randoms(use_true_random=False), st.lists(JSON, max_size=3))
def test_spoiled_calls_never_raise(rng: random.Random, junk: list[Any]) -> None:
    memory = Memory(SALT, max_attempts=5)
    for number in range(8):
        for verdict in derive(spoiled_call(TURNS, number, rng, junk), memory):
            assert verdict.value in (0.0, 1.0, None)


@settings(max_examples=100)
@given(st.binary() | JSON.map(lambda v: json.dumps(v).encode()), st.binary(), st.booleans())
def test_garbage_never_raises(request: bytes, answer: bytes, streamed: bool) -> None:
    call = structs.replace(to_call(TURNS[0], 1), streamed=streamed)

    assert derive(structs.replace(call, request=request), Memory(SALT)) == []
    assert derive(structs.replace(call, answer=answer), Memory(SALT)) == []


@pytest.mark.parametrize("depth", [100, 900, 5000, 200_000])
@pytest.mark.parametrize("where", ["content", "tool_choice", "schema", "arguments", "answer"])
def test_nesting_never_raises(depth: int, where: str) -> None:
    nest = "[" * depth + "]" * depth
    request, answer = json.dumps(ask(Q)), json.dumps(reply("x"))
    if where == "content":
        request = f'{{"messages":[{{"role":"user","content":{nest}}}]}}'
    elif where == "tool_choice":
        request = request[:-1] + f',"tool_choice":{nest}}}'
    elif where == "schema":
        schema = '{"not":' * depth + "{}" + "}" * depth
        form = f'{{"type":"json_schema","json_schema":{{"schema":{schema}}}}}'
        request = request[:-1] + f',"response_format":{form}}}'
        answer = json.dumps(reply("{}"))
    elif where == "arguments":
        made = [{"id": "c", "function": {"name": "f", "arguments": nest}}]
        request = json.dumps(ask(Q, tools=[{"function": {"name": "f"}}]))
        answer = json.dumps(reply(None, tool_calls=made))
    else:
        answer = f'{{"choices":[{{"message":{{"content":{nest}}}}}]}}'

    call = to_call(Turn(ask(Q), reply("x")), 1)
    fields = {f: getattr(call, f) for f in ObservedCall.__slots__}
    derive(
        ObservedCall(**fields | {"request": request.encode(), "answer": answer.encode()}),
        Memory(SALT),
    )


def test_a_piece_of_a_stream_that_is_garbage_leaves_no_label() -> None:
    stream = sse("{", "}").replace("data: ", "data: x", 1)

    assert run([Turn(ask(Q, response_format={"type": "json_object"}), stream)]) == [[]]


def doubling(n: int) -> dict[str, Any]:
    steps = {
        f"a{i}": {"anyOf": [{"$ref": f"#/$defs/a{i + 1}"}, {"$ref": f"#/$defs/a{i + 1}"}]}
        for i in range(n)
    }
    return {"$ref": "#/$defs/a0", "$defs": {**steps, f"a{n}": {"type": "string"}}}


TREE = {
    "type": "object",
    "properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}, "$id": {"type": "string"}},
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("schema", "text", "expected"),
    [
        (STEPS, GOOD_STEPS, True),
        (STEPS, "{}", False),
        (STEPS, "{", False),
        (TREE, '{"left": {"right": {"$id": "a"}}}', True),
        (TREE, '{"left": {"right": {"up": {}}}}', False),
        ({"type": "string", "pattern": "^(a+)+$"}, json.dumps("a" * 50_000 + "!"), False),
        ({"type": "string", "pattern": "(?=a)b"}, '"b"', None),
        ({"type": "string", "format": "email"}, '"none"', True),
        ({"$ref": "file:///etc/passwd"}, "1", None),
        ({"$ref": "other.json", "$id": "http://127.0.0.1:9/"}, "1", None),
        ({"$schema": "http://127.0.0.1:9/meta"}, "1", None),
        ({"$ref": "#/$defs/none"}, "1", None),
        ({"$ref": "#"}, "1", True),
        (doubling(8), "1", False),
        (doubling(40), "1", None),
        ({"enum": list(range(30_000))}, "1", None),
        ({"type": "integer"}, "1" * 5000, None),
        ({"type": "number"}, "NaN", False),
        ({"type": "string"}, '"\\ud800"', None),
        ({"type": "string"}, '"a\nb"', False),
        (doubling(12), json.dumps("a" * 100_000), None),
        ([], "1", None),
        (True, "1", True),
    ],
)
def test_a_schema_is_met_missed_or_not_judged_by(
    schema: Any, text: str, expected: bool | None
) -> None:
    assert fits(json.dumps(schema).encode(), text) is expected


def test_no_file_is_read_for_a_schema(tmp_path: Path) -> None:
    other = tmp_path / "schema.json"
    other.write_text('{"type": "string"}')
    for schema in (
        {"$ref": other.as_uri()},
        {"$schema": other.as_uri(), "type": "string"},
        {"$id": tmp_path.as_uri() + "/", "$ref": "schema.json"},
        {"$id": other.as_uri(), "$ref": "#/$defs/x", "$defs": {"x": {"$ref": "schema.json"}}},
    ):
        assert fits(json.dumps(schema).encode(), "1") is None


def test_a_unit_has_one_secret_however_many_there_are_in_between() -> None:
    memory = Memory(b"a salt of this process")
    units = [number.to_bytes(4, "big") for number in range(MAX_UNIT_SCOPES + 5)]

    once = [memory.unit_scope(b"app", unit) for unit in units]

    assert once == [memory.unit_scope(b"app", unit) for unit in units]
    assert once == [memory.scope(b"app", unit) for unit in units]
    assert len(set(once)) == len(units)
