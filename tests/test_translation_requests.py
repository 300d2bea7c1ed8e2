"""Requests said in another dialect: there and back they are equal, or the field is named."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import anthropic.types.message_create_params as anthropic_params
import msgspec
import openai.types.chat.completion_create_params as openai_params
import pytest
from msgspec.structs import replace
from pydantic import TypeAdapter
from test_clients import EACH_ROUTED, OF_CLIENTS, Recorded
from translating import (
    DIRECTIONS,
    TELLERS,
    Json,
    Untold,
    is_closed,
    judged,
    manner,
    mutated,
    normal,
    story,
)

from router.endpoints.entries import Dialect
from router.translation.advisory import ADVISORY, LOST_IN
from router.translation.efforts import BUDGETS, effort_of
from router.translation.prompt import Manner, Prompt, Reasoning, Untranslatable, Written
from router.translation.requests import read, write

CONVERSATIONS = 5_000
MUTATIONS = 4_000
WAYS = pytest.mark.parametrize(("from_", "to"), DIRECTIONS, ids=str)
EACH_DIALECT = pytest.mark.parametrize("dialect", list(TELLERS), ids=str)
OPEN = Manner(output_tokens=64_000, drop=frozenset({"web_search", "store", "reasoning"}))
"""An endpoint that lets go what may be let go."""


def told(dialect: Dialect, rng: random.Random) -> Json:
    """A made-up conversation, in a dialect that can tell it."""
    while True:
        try:
            return TELLERS[dialect](story(rng))
        except Untold:
            continue


def said_again(
    body: Any, from_: Dialect, to: Dialect, how: Manner
) -> tuple[Prompt, Written] | Untranslatable:
    """What a body says, and how it is said in another dialect; or why it is not."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        prompt = read(from_, raw)
        return prompt, write(prompt, to, how)
    except Untranslatable as error:
        return error


@WAYS
def test_made_up_conversations_are_equal_there_and_back_or_name_what_is_not(
    from_: Dialect, to: Dialect
) -> None:
    """There is no third outcome, and both of them are frequent."""
    rng = random.Random(f"{from_} {to}")
    counts: Counter[str] = Counter()
    for _ in range(CONVERSATIONS):
        body, how = told(from_, rng), manner(rng)
        found = said_again(body, from_, to, how)
        if isinstance(found, Untranslatable):
            assert found.field, body
            assert found.why, body
            counts["refused"] += 1
            continue
        counts["translated"] += 1
        prompt, written = found
        assert is_closed(written)
        back = read(to, msgspec.json.encode(written.body))
        lost = written.left_out
        assert normal(back, to, how, lost) == normal(prompt, to, how, lost)

    assert counts["translated"] > 0.3 * CONVERSATIONS, counts
    assert counts["refused"] > 0.2 * CONVERSATIONS, counts


def test_one_story_reads_the_same_in_whatever_dialect_it_is_told() -> None:
    rng = random.Random(17)
    n_compared = 0
    for _ in range(CONVERSATIONS):
        made_up = story(rng)
        prompts = []
        for dialect, tell in TELLERS.items():
            try:
                prompts.append(read(dialect, json.dumps(tell(made_up)).encode()))
            except (Untold, Untranslatable):
                continue
        said = [normal(p, Dialect.MESSAGES, OPEN, frozenset()) for p in prompts]
        said = [replace(p, max_tokens=made_up.settings["max_tokens"]) for p in said]
        said = [replace(p, verbosity=None) for p in said]
        assert all(one == other for one, other in pairwise(said)), made_up
        n_compared += len(said) > 1

    assert n_compared > 0.3 * CONVERSATIONS


@EACH_DIALECT
def test_a_key_that_nobody_knows_is_never_overlooked(dialect: Dialect) -> None:
    """Wherever it stands, but for what is the client's own, like schemas."""
    rng = random.Random(f"unknown {dialect}")
    n_tried = 0
    while n_tried < MUTATIONS // 2:
        body = told(dialect, rng)
        try:
            read(dialect, json.dumps(body).encode())
        except Untranslatable:
            continue
        n_tried += 1
        rng.choice(judged(body))["frobnicate"] = rng.choice([None, 1, {}])
        with pytest.raises(Untranslatable) as error:
            read(dialect, json.dumps(body).encode())
        assert error.value.field.endswith("frobnicate")


@WAYS
def test_whatever_comes_is_said_or_refused(from_: Dialect, to: Dialect) -> None:
    """Bodies that are broken anywhere: no other outcome, what is said is JSON, and reasons show
    no more of a body than names."""
    rng = random.Random(f"broken {from_} {to}")
    counts: Counter[bool] = Counter()
    for _ in range(MUTATIONS):
        found = said_again(mutated(told(from_, rng), rng), from_, to, manner(rng))
        counts[isinstance(found, Untranslatable)] += 1
        if isinstance(found, Untranslatable):
            assert len(found.field) < 200, "it may stand in a header"
            assert len(found.why) < 300
        else:
            assert msgspec.json.decode(msgspec.json.encode(found[1].body)) is not None

    assert min(counts.values()) > 0.02 * MUTATIONS


@WAYS
def test_bytes_that_are_no_json_are_said_or_refused(from_: Dialect, to: Dialect) -> None:
    rng = random.Random(f"bytes {from_} {to}")
    for _ in range(MUTATIONS // 4):
        raw = bytearray(json.dumps(told(from_, rng), ensure_ascii=False).encode())
        for _ in range(rng.randint(1, 3)):
            raw[rng.randrange(len(raw))] = rng.choice(b'{}[]",:\\0e-x\xff')
        found = said_again(bytes(raw), from_, to, OPEN)
        assert isinstance(found, tuple) or found.why


@EACH_DIALECT
@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b"\xff",
        b'{"messages": NaN}',
        b'{"temperature": 1e999}',
        b'{"model": "\\ud83d"}',
        b'{"model": "a", "model": "b"}',
        b'{"input": ' + b"[" * 100_000,
        b'{"messages": ' + b'{"a":' * 5_000 + b"1" + b"}" * 5_001,
        b'{"max_tokens": ' + b"1" * 5_000 + b"}",
    ],
    ids=lambda raw: repr(raw[:24]),
)
def test_a_body_that_cannot_be_said_again_exactly_is_refused(dialect: Dialect, raw: bytes) -> None:
    with pytest.raises(Untranslatable) as error:
        read(dialect, raw)

    assert error.value.field


@EACH_DIALECT
def test_a_number_that_is_too_long_is_refused_in_our_own_words(dialect: Dialect) -> None:
    read(dialect, b'{"metadata": {"n": ' + b"-" + b"1" * 4300 + b"}}")

    with pytest.raises(Untranslatable, match=r"is not JSON: a number of more than 4300 digits$"):
        read(dialect, b'{"metadata": {"n": ' + b"1" * 5000 + b"}}")


@pytest.mark.parametrize(
    ("named", "expected"),
    [("image/jpg", "image/jpeg"), ("image/PNG", "image/png"), ("IMAGE/JPG", "image/jpeg")],
)
def test_a_pictures_type_is_named_as_providers_know_it(named: str, expected: str) -> None:
    url = {"url": f"data:{named};base64,iVBORw0KGgo="}
    source = {"type": "base64", "media_type": named, "data": "iVBORw0KGgo="}
    parts = {
        Dialect.CHAT: {"type": "image_url", "image_url": url},
        Dialect.MESSAGES: {"type": "image", "source": source},
    }
    said = {}
    for from_, to in ((Dialect.CHAT, Dialect.MESSAGES), (Dialect.MESSAGES, Dialect.CHAT)):
        found = said_again(
            {"messages": [{"role": "user", "content": [parts[from_]]}]}, from_, to, OPEN
        )
        assert isinstance(found, tuple)
        said[to] = found[1].body["messages"][0]["content"][0]

    assert said[Dialect.MESSAGES]["source"]["media_type"] == expected
    assert said[Dialect.CHAT]["image_url"]["url"] == f"data:{expected};base64,iVBORw0KGgo="


def test_numbers_of_any_size_survive() -> None:
    call = {"id": "a", "type": "function"}
    arguments = '{"big": 123456789012345678901234567890, "small": 1e-300, "half": 0.1}'
    function = {"name": "f", "arguments": arguments}
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "tool_calls": [call | {"function": function}]},
        {"role": "tool", "tool_call_id": "a", "content": "b"},
    ]

    found = said_again({"messages": messages}, Dialect.CHAT, Dialect.MESSAGES, OPEN)

    assert isinstance(found, tuple)
    block = found[1].body["messages"][1]["content"][0]
    assert block["input"] == json.loads(arguments)


@pytest.mark.parametrize(
    ("dialect", "said", "tokens", "shows"),
    [
        (Dialect.MESSAGES, {"thinking": {"type": "enabled", "budget_tokens": 4000}}, 4000, True),
        (Dialect.MESSAGES, {"thinking": {"type": "adaptive"}}, None, True),
        (Dialect.MESSAGES, {"thinking": {"type": "adaptive", "display": "omitted"}}, None, False),
        (Dialect.MESSAGES, {"thinking": {"type": "disabled"}}, None, False),
        (Dialect.MESSAGES, {"output_config": {"effort": "low"}}, None, False),
        (Dialect.CHAT, {"reasoning_effort": "low"}, None, False),
        (Dialect.RESPONSES, {"reasoning": {"effort": "low"}}, None, False),
        (Dialect.RESPONSES, {"reasoning": {"summary": "auto"}}, None, True),
    ],
)
def test_who_asks_to_see_what_is_thought_is_known(
    dialect: Dialect, said: Json, tokens: int | None, shows: bool
) -> None:
    prompt = read(dialect, json.dumps(said).encode())

    assert (prompt.thinking_tokens, prompt.shows_thinking) == (tokens, shows)


@pytest.mark.parametrize(
    ("said", "is_kept"),
    [({}, True), ({"store": None}, True), ({"store": True}, True), ({"store": False}, False)],
)
def test_a_response_is_kept_unless_it_says_otherwise(said: Json, is_kept: bool) -> None:
    assert read(Dialect.RESPONSES, json.dumps(said).encode()).is_kept is is_kept


def test_nothing_is_said_in_dialects_that_no_request_is_translated_to() -> None:
    prompt = read(Dialect.CHAT, b'{"messages": [{"role": "user", "content": "hi"}]}')

    for dialect in (Dialect.RESPONSES, Dialect.EMBEDDINGS):
        with pytest.raises(Untranslatable):
            write(prompt, dialect, OPEN)
    with pytest.raises(Untranslatable):
        read(Dialect.EMBEDDINGS, b'{"input": "hi"}')


# -- transcripts, written by hand -----------------------------------------------------------------

TRANSCRIPTS = Path(__file__).parent / "data" / "translation"
GOLDEN = [
    pytest.param(whole, case, id=f"{whole['from']} {whole['to']}: {case['about']}")
    for file in sorted(TRANSCRIPTS.glob("request_*.json"))
    for whole in [json.loads(file.read_text())]
    for case in whole["cases"]
]
"""What a case leaves open is as it stands at the head of its file; null: not said at all."""


def golden_manner(said: Json) -> Manner:
    reasoning = said.get("reasoning")
    return Manner(
        output_tokens=said.get("output_tokens"),
        reasoning=reasoning and Reasoning(reasoning),
        drop=frozenset(said.get("drop", ())),
    )


@pytest.mark.parametrize(("whole", "case"), GOLDEN)
def test_a_request_is_said_as_its_transcript_has_it(whole: Json, case: Json) -> None:
    how = golden_manner(case.get("manner", whole["manner"]))
    from_, to = Dialect(whole["from"]), Dialect(whole["to"])

    found = said_again(whole["asked"] | case["asked"], from_, to, how)

    if "refused" in case:
        assert isinstance(found, Untranslatable), found
        assert found.field == case["refused"]
        assert case["why"] in found.why
        return
    assert isinstance(found, tuple), found
    expected = {k: v for k, v in (whole["said"] | case["said"]).items() if v is not None}
    assert json.loads(json.dumps(found[1].body)) == expected
    assert sorted(found[1].left_out) == case.get("left_out", [])


def test_transcripts_cover_all_that_may_be_left_out() -> None:
    shown: dict[tuple[str, bool], set[str]] = {}
    for param in GOLDEN:
        whole, case = param.values
        for key in ((whole["from"], True), (whole["to"], False)):
            shown.setdefault(key, set()).update(case.get("left_out", ()))

    for dialect, rows in ADVISORY.items():
        assert {row.name for row in rows} <= shown[dialect, True]
    for dialect, names in LOST_IN.items():
        assert set(names) <= shown[dialect, False]


# -- what the documents say -----------------------------------------------------------------------

PAGE = (Path(__file__).parents[1] / "docs" / "translation.md").read_text()


def cells(*head: str) -> list[list[str]]:
    """The rows of the table with this head, without the marks of code."""
    table = PAGE.split("\n| " + " | ".join(head) + " |\n", 1)[1].split("\n\n", 1)[0]
    lines = table.splitlines()[1:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


def test_the_documented_advisory_fields_are_all_and_the_only_ones() -> None:
    documented = {
        (dialect, field, place, name, why)
        for field, place, dialects, name, why in cells(
            "field", "in", "of a request in", "named", "why it may go"
        )
        for dialect in dialects.split(", ")
    }
    lost = cells("named", "why it may go")

    assert documented == {
        (str(dialect), row.field, row.place, row.name, row.why)
        for dialect, rows in ADVISORY.items()
        for row in rows
    }
    assert {name: why for name, why in lost} == LOST_IN[Dialect.MESSAGES]


def test_the_documented_budgets_are_those_that_are_written_and_read() -> None:
    rows = cells("effort", "budget that is written", "budgets that are read so")

    assert {word: int(budget) for word, budget, _ in rows} == BUDGETS
    for word, _, span in rows[1:]:
        ends = [int(number) for number in re.findall(r"\d+", span)]
        assert {effort_of(end) for end in ends} == {word}


# -- what providers' own packages say of a body ---------------------------------------------------

SHAPES: dict[Dialect, TypeAdapter[Any]] = {
    Dialect.CHAT: TypeAdapter(openai_params.CompletionCreateParams),
    Dialect.MESSAGES: TypeAdapter(anthropic_params.MessageCreateParams),
}


def exhausted(value: Any) -> None:
    """Look at all of a validated value: lists are judged as they are looked at."""
    if isinstance(value, dict):
        for each in value.values():
            exhausted(each)
    elif not isinstance(value, str) and hasattr(value, "__iter__"):
        for each in value:
            exhausted(each)


@WAYS
def test_what_is_said_has_the_shape_that_the_providers_own_package_sends(
    from_: Dialect, to: Dialect
) -> None:
    rng = random.Random(f"shape {from_} {to}")
    n_said = 0
    for _ in range(MUTATIONS // 8):
        found = said_again(told(from_, rng), from_, to, manner(rng))
        if isinstance(found, tuple):
            body = json.loads(json.dumps(found[1].body | {"model": "m"}))
            exhausted(SHAPES[to].validate_python(body))
            n_said += 1

    assert n_said > 0.3 * (MUTATIONS // 8)


# -- real clients ---------------------------------------------------------------------------------

PATHS = {
    "/v1/chat/completions": Dialect.CHAT,
    "/v1/messages": Dialect.MESSAGES,
    "/v1/responses": Dialect.RESPONSES,
}
NOT_SAID = {("ai-6.0.326__post_v1_chat_completions__schema", Dialect.MESSAGES): "response_format"}
"""Recorded requests that have no counterpart, and the field that says why."""
LETS_GO = frozenset({"namespace", "web_search", "store"})


@OF_CLIENTS
@EACH_ROUTED
def test_requests_of_real_clients_are_said_in_every_other_dialect(request_: Recorded) -> None:
    from_ = PATHS.get(request_.path.partition("?")[0], Dialect.MESSAGES)
    raw = json.dumps(request_.body).encode()
    for to, reasoning in ((Dialect.CHAT, Reasoning.EFFORT), (Dialect.MESSAGES, Reasoning.ADAPTIVE)):
        if to is from_:
            continue
        how = Manner(output_tokens=64_000, reasoning=reasoning, drop=LETS_GO)
        found = said_again(raw, from_, to, how)
        if isinstance(found, Untranslatable):
            assert NOT_SAID[request_.name, to] == found.field
            continue
        prompt, written = found
        back = read(to, json.dumps(written.body).encode())
        lost = written.left_out
        assert normal(back, to, how, lost) == normal(prompt, to, how, lost)
        assert (request_.name, to) not in NOT_SAID
