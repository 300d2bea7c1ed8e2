"""Thoughts are known by marks, wherever they are met, and nothing but them is taken out."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Provider, endpoint
from dialects import message, message_events, named, response, response_events
from hypothesis import given
from hypothesis import strategies as st
from thinking import ALL, Signing

from router.config.compiled import compile_text
from router.decision import stored_ids
from router.decision.stored_ids import MOST_ASKED, StoredIds
from router.dialects import chat, messages, responses
from router.dialects.request import CallRequest
from router.endpoints.catalog import Catalog
from router.endpoints.entries import Dialect
from router.endpoints.kinship import can_check, made_alike
from router.translation.carried import CarriedThoughts
from telemetry.store import Address
from telemetry.wire.chat import read_chat_answer
from telemetry.wire.messages import read_messages_answer
from telemetry.wire.responses import read_response
from telemetry.wire.thoughts import mark_of

PARSE: dict[str, Callable[[bytes], CallRequest]] = {
    "/v1/messages": messages.parse,
    "/v1/responses": responses.parse,
    "/v1/chat/completions": chat.parse,
}
READ = {
    "/v1/messages": read_messages_answer,
    "/v1/responses": read_response,
    "/v1/chat/completions": read_chat_answer,
}
ANYBODY = compile_text(
    '{"endpoints": [{"id": "x", "model": "x", "base_url": "http://x/v1"}]}', file="t.yaml"
).catalog.endpoints[0]
NOWHERE = Address("unix:///nowhere/store.sock")


def parse(path: str, asked: dict[str, Any]) -> CallRequest:
    return PARSE[path](json.dumps(asked).encode())


def less(path: str, asked: dict[str, Any], *signatures: str) -> dict[str, Any]:
    """What is left of a request without these."""
    left = parse(path, asked).without_thoughts({mark_of(one) for one in signatures})
    assert left.left_out == ("thinking",)
    found: dict[str, Any] = json.loads(left.body)
    return found


def in_messages(*turns: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 9, "messages": list(turns)}


def thought(signature: str, text: str = "hm") -> dict[str, str]:
    return {"type": "thinking", "thinking": text, "signature": signature}


# -- marks ---------------------------------------------------------------------------------------


@pytest.fixture(params=ALL, ids=lambda kind: kind.path)
def signing(request: pytest.FixtureRequest, provider: Provider) -> Signing:
    found: Signing = request.param(provider, "a")
    return found


def test_an_answer_and_the_call_that_goes_on_from_it_have_the_same_marks(signing: Signing) -> None:
    asked = signing.first()
    answer = signing.answer(asked, "sig-a-1")
    body = json.dumps(answer).encode()

    whole = READ[signing.path](body)
    request = parse(signing.path, signing.going_on(asked, answer))

    assert whole is not None
    assert whole.thoughts
    assert request.thoughts == whole.thoughts
    assert parse(signing.path, asked).thoughts == ()


def test_a_stream_has_the_marks_of_the_answer_wherever_it_is_cut(signing: Signing) -> None:
    asked = signing.first()
    answer = signing.answer(asked, "sig-a-1")
    events = list(signing.events(answer))
    whole = READ[signing.path](json.dumps(answer).encode())
    assert whole is not None
    said = b"".join(events)
    request = parse(signing.path, asked)
    for size in (1, 7, 100, len(said)):
        stream = request.open_stream(hide_usage=False)
        seen: tuple[str, ...] = ()
        for at in range(0, len(said), size):
            stream.feed(said[at : at + size])
            assert stream.thoughts[: len(seen)] == seen
            seen = stream.thoughts
        assert sorted(seen) == sorted(whole.thoughts)


def test_a_thought_that_is_cut_has_no_mark() -> None:
    answer = message({"model": "m", "messages": [{}], "thinking": {"type": "adaptive"}})
    events = [named(one) for one in message_events(answer)]
    signed = next(i for i, one in enumerate(events) if b"signature_delta" in one)
    stream = parse("/v1/messages", in_messages({})).open_stream(hide_usage=False)
    for one in events[: signed + 1]:
        stream.feed(one)
    assert stream.thoughts == ()

    stream.feed(events[signed + 1])
    assert stream.thoughts == (mark_of(answer["content"][0]["signature"]),)


def test_a_response_that_only_its_last_event_tells_of_has_its_marks() -> None:
    answer = response({"model": "m", "input": "hi", "reasoning": {"effort": "low"}})
    *_, last = response_events(answer)
    stream = parse("/v1/responses", {"model": "m", "input": "hi"}).open_stream(hide_usage=False)
    stream.feed(named(last))
    assert stream.thoughts == (mark_of(answer["output"][0]["encrypted_content"]),)


@pytest.mark.parametrize(
    ("block", "told_by"),
    [
        (thought("sig"), "sig"),
        (thought("", "words"), "words"),
        ({"type": "thinking", "thinking": "words"}, "words"),
        ({"type": "redacted_thinking", "data": "hidden"}, "hidden"),
        (thought("", ""), None),
        ({"type": "thinking", "thinking": None, "signature": 7}, None),
        ({"type": "redacted_thinking", "data": {}}, None),
        ({"type": [], "signature": "sig"}, None),
        ({"type": "text", "text": "thinking", "signature": "sig"}, None),
        ("thinking", None),
        (None, None),
    ],
)
def test_a_thought_is_told_by_what_only_its_maker_can_check(
    block: Any, told_by: str | None
) -> None:
    asked = in_messages({"role": "assistant", "content": [block], "thinking": 1})
    expected = () if told_by is None else (mark_of(told_by),)
    assert parse("/v1/messages", asked).thoughts == expected


@pytest.mark.parametrize(
    ("item", "told_by"),
    [
        ({"type": "reasoning", "id": "rs_1", "encrypted_content": "e"}, "e"),
        ({"type": "reasoning", "id": "rs_1", "encrypted_content": None}, "rs_1"),
        ({"type": "reasoning", "summary": []}, None),
        ({"type": "compaction", "encrypted_content": "e"}, "e"),
        ({"type": "message", "id": "msg_1", "role": "assistant", "content": "reasoning"}, None),
        ({"type": {"reasoning": 1}, "id": "rs_1"}, None),
    ],
)
def test_an_item_is_told_by_what_is_encrypted_in_it_or_its_id(
    item: Any, told_by: str | None
) -> None:
    expected = () if told_by is None else (mark_of(told_by),)
    assert parse("/v1/responses", {"model": "m", "input": [item]}).thoughts == expected


# -- taken out -----------------------------------------------------------------------------------


def test_what_is_taken_out_is_the_blocks_alone() -> None:
    other = '{"role": "user",  "content": "12345678901234567890 \\u00e9"}'
    turn = (
        '{"x": 1.50, "role": "assistant", "content": [THOUGHT, '
        '{"type":  "text", "text": "\\u00e9"}, '
        '{"type": "tool_use", "input": {"n": 12345678901234567890, "f": 1.0}}]}'
    )
    signed = '{"type": "thinking", "thinking": "hm", "signature": "a"}'
    turns = ", ".join((other, turn.replace("THOUGHT", signed), other))
    body = f'{{"model": "m", "max_tokens": 9, "messages": [{turns}]}}'

    left = messages.parse(body.encode()).without_thoughts({mark_of("a")})

    assert other.encode() in left.body
    assert b'{"type":  "text", "text": "\\u00e9"}' in left.body
    assert b'{"n": 12345678901234567890, "f": 1.0}' in left.body
    assert b'"x":1.50' in left.body
    assert b"thinking" not in left.body
    assert left.conversation()[0] == b"null"
    assert len(left.conversation()) == 4


def test_a_turn_that_held_nothing_but_thoughts_goes_as_a_whole() -> None:
    user = {"role": "user", "content": "hi"}
    asked = in_messages(user, {"role": "assistant", "content": [thought("a")]}, user)
    assert less("/v1/messages", asked, "a")["messages"] == [user, user]

    asked = in_messages(user, {"role": "assistant", "content": [thought("a"), thought("b")]}, user)
    kept = {"role": "assistant", "content": [thought("b")]}
    assert less("/v1/messages", asked, "a")["messages"] == [user, kept, user]


def test_ids_of_an_answer_go_with_its_thought_up_to_what_others_say() -> None:
    def reasoning(name: str) -> dict[str, Any]:
        return {"type": "reasoning", "id": f"rs_{name}", "encrypted_content": name}

    def said(name: str, **more: Any) -> dict[str, Any]:
        return {"type": "message", "role": "assistant", "content": [], **more, "name": name}

    user = {"type": "message", "id": "msg_u", "role": "user", "content": "hi"}
    result = {"type": "function_call_output", "id": "fco_1", "call_id": "c", "output": "x"}
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    reference = {"type": "item_reference", "id": "msg_9"}
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    items = [
        user,
        said("before", id="msg_0"),
        reasoning("a"),
        search,
        said("after", id="msg_1"),
        reference,
        call | {"id": "fc_1"},
        result,
        said("of nobody", id="msg_2"),
        reasoning("b"),
        said("of b", id="msg_3"),
        user,
    ]
    left = less("/v1/responses", {"model": "m", "input": items}, "a")["input"]
    assert left == [
        user,
        said("before", id="msg_0"),
        {"type": "web_search_call", "status": "completed"},
        said("after"),
        reference,
        call,
        result,
        said("of nobody", id="msg_2"),
        reasoning("b"),
        said("of b", id="msg_3"),
        user,
    ]


def test_signatures_of_chat_go_and_what_is_signed_stays() -> None:
    def call(signature: str, **more: Any) -> dict[str, Any]:
        function = {"name": "f", "arguments": '{"n": 1.0}'}
        extra = {"google": {"thought_signature": signature, **more}}
        return {"id": "c", "function": function, "extra_content": extra}

    def said(**more: Any) -> dict[str, Any]:
        return {"role": "assistant", "content": "hello", **more}

    bare = {"id": "c", "function": call("")["function"]}
    details = [{"type": "reasoning.summary"}, {"type": "reasoning.encrypted", "data": "a"}]
    messages_ = [
        said(tool_calls=[call("a"), call("b"), call("a", more=1), bare]),
        said(reasoning_details=details, tool_calls=None),
        said(reasoning_details=[{"data": "b"}], thinking_blocks=[thought("a")]),
        said(extra_content={"google": {"thought_signature": "a"}, "x": 1}, tool_calls=[7]),
        said(),
    ]
    left = less("/v1/chat/completions", {"model": "m", "messages": messages_}, "a")["messages"]
    kept = bare | {"extra_content": {"google": {"more": 1}}}
    assert left == [
        said(tool_calls=[bare, call("b"), kept, bare]),
        said(tool_calls=None),
        said(reasoning_details=[{"data": "b"}]),
        said(extra_content={"x": 1}, tool_calls=[7]),
        said(),
    ]


def test_what_is_for_us_and_the_model_are_rewritten_in_what_is_left(provider: Provider) -> None:
    (other,) = catalog(provider, [{"id": "b", "upstream_model": "real"}]).endpoints
    asked = in_messages({"role": "assistant", "content": [thought("a"), {"type": "text"}]})
    asked |= {"router": {"task": "code"}, "metadata": {"router_ref": "r", "user_id": "u"}}

    left = parse("/v1/messages", asked).without_thoughts({mark_of("a")})
    body, _ = left.rewritten(other)

    assert json.loads(body) == {
        "model": "real",
        "max_tokens": 9,
        "messages": [{"role": "assistant", "content": [{"type": "text"}]}],
        "metadata": {"user_id": "u"},
    }


USE = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "t", "content": "x"}


def by(role: str, *content: Any) -> dict[str, Any]:
    return {"role": role, "content": list(content)}


@pytest.mark.parametrize(
    ("turns", "bound"),
    [
        ([by("assistant", thought("a"), USE), by("user", RESULT)], "a"),
        ([by("assistant", thought("a"), USE), by("user", RESULT, {"type": "text"})], "a"),
        (
            [
                by("assistant", thought("a"), USE),
                by("user", RESULT),
                by("assistant", thought("b"), USE),
                by("user", RESULT),
            ],
            "a",
        ),
        (
            [
                by("assistant", thought("a"), USE),
                by("user", RESULT),
                by("user", {"type": "text"}),
                by("assistant", {"type": "redacted_thinking", "data": "b"}, USE),
                by("system", {"type": "text"}),
                by("user", RESULT),
                by("system", {"type": "text"}),
            ],
            "b",
        ),
        ([by("assistant", USE), by("user", RESULT)], None),
        ([by("assistant", thought("a"), USE), by("user", {"type": "text"})], None),
        ([by("user", {"type": "text"}), by("assistant", thought("a"))], None),
        ([by("user", RESULT)], None),
        ([by("assistant"), by("user", RESULT)], None),
        ([{"role": "assistant", "content": "x"}, {"role": "user", "content": "y"}], None),
        ([{"role": ["assistant"]}, {"role": {}, "content": [7]}], None),
    ],
)
def test_a_tool_loop_is_bound_to_the_thought_that_it_began_with(
    turns: list[dict[str, Any]], bound: str | None
) -> None:
    enabled = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    first = by("user", {"type": "text"})
    asked = parse("/v1/messages", in_messages(first, *turns) | enabled)
    assert asked.bound_thoughts(ANYBODY) == (() if bound is None else (mark_of(bound),))

    for other in ({}, {"thinking": {"type": "adaptive"}}, {"thinking": "enabled"}):
        free = parse("/v1/messages", in_messages(first, *turns) | other)
        assert free.bound_thoughts(ANYBODY) == ()


SIGNATURES = st.sampled_from("abcd")
TEXTS = st.text(max_size=5)
BLOCKS = st.one_of(
    st.builds(thought, SIGNATURES),
    st.builds(lambda s: {"type": "redacted_thinking", "data": s}, SIGNATURES),
    st.builds(lambda t: {"type": "text", "text": t}, TEXTS),
    st.builds(lambda t: {"type": "tool_result", "content": t}, TEXTS),
)
TURNS = st.builds(
    lambda role, content: {"role": role, "content": content},
    st.sampled_from(["user", "assistant"]),
    st.one_of(TEXTS, st.lists(BLOCKS, max_size=4)),
)


@given(st.lists(TURNS, min_size=1, max_size=6), st.sets(SIGNATURES))
def test_what_is_left_is_what_was_there_without_them(
    turns: list[dict[str, Any]], gone: set[str]
) -> None:
    """Told another way: what a client would do that leaves them out itself."""
    request = parse("/v1/messages", in_messages(*turns))
    assert CarriedThoughts(request, {}).outgoing(ANYBODY) is request

    left = request.without_thoughts({mark_of(one) for one in gone})

    expected = []
    for turn in turns:
        content = turn["content"]
        if isinstance(content, list) and turn["role"] == "assistant":  # who alone thinks
            held = [b for b in content if b.get("signature", b.get("data")) in gone]
            if held and len(held) == len(content):
                continue
            content = [block for block in content if block not in held]
        expected.append(turn | {"content": content})
    assert json.loads(left.body)["messages"] == expected
    marks = {mark_of(one) for one in gone}
    assert left.thoughts == tuple(m for m in request.thoughts if m not in marks)
    if marks.isdisjoint(request.thoughts):
        assert left.conversation() == request.conversation()


WORDS = st.sampled_from(
    ["thinking", "redacted_thinking", "reasoning", "compaction", "assistant", "user", "tool", "a"]
)
NAMES = st.sampled_from(
    [
        *("type", "role", "id", "content", "signature", "data", "thinking", "encrypted_content"),
        *("tool_calls", "extra_content", "google", "thought_signature", "reasoning_details"),
    ]
)
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=4)),
    max_leaves=12,
)


@pytest.mark.parametrize("path", PARSE)
@given(st.lists(st.dictionaries(NAMES, ANYTHING, max_size=5), min_size=1, max_size=4))
def test_whatever_a_conversation_is_made_of_is_read_and_taken_out(
    path: str, said: list[dict[str, Any]]
) -> None:
    field = "input" if path.endswith("responses") else "messages"
    request = parse(path, {"model": "m", field: said})
    marks = set(request.thoughts)
    request.bound_thoughts(ANYBODY)

    left = request.without_thoughts(marks)

    assert marks.isdisjoint(PARSE[path](left.body).thoughts if _has(left, field) else ())
    assert request.without_thoughts({mark_of("no such")}).conversation() == request.conversation()


def _has(request: CallRequest, field: str) -> bool:
    return bool(json.loads(request.body)[field])


# -- whose they are ------------------------------------------------------------------------------


def catalog(provider: Provider, entries: list[dict[str, Any]]) -> Catalog:
    spoken = ["chat", "messages", "responses"]
    endpoints = [{**endpoint(provider, each["id"], dialects=spoken), **each} for each in entries]
    return compile_text(json.dumps({"endpoints": endpoints}), file="t.yaml").catalog


@pytest.mark.parametrize("dialect", ["chat", "messages", "responses"])
def test_who_can_check_whose_thoughts(provider: Provider, dialect: str) -> None:
    here, there = provider.url("here"), provider.url("there")
    found = catalog(
        provider,
        [
            {"id": "m", "base_url": here},
            {"id": "hot", "model": "m", "base_url": here, "params": {"temperature": 1}},
            {"id": "alias", "upstream_model": "m", "base_url": here},
            {"id": "cloud", "model": "m", "upstream_model": "m@1", "base_url": there},
            {"id": "n", "base_url": here},
            {"id": "mute", "model": "m", "base_url": here, "dialects": ["embeddings"]},
        ],
    )
    maker, spoken = found.by_id["m"], Dialect(dialect)
    able = {e.id for e in found.endpoints if can_check(e, maker, spoken)}
    alike = {e.id for e in found.endpoints if made_alike(e, maker, spoken)}

    assert alike == {"m", "hot", "alias"}
    assert able == (alike | {"cloud"} if dialect == "messages" else alike)


def test_what_another_host_of_the_model_thought_stays_until_the_endpoint_refuses_it(
    provider: Provider,
) -> None:
    found = catalog(provider, [{"id": "m"}, {"id": "cloud", "model": "m"}, {"id": "n"}])
    m, cloud, n = found.endpoints
    asked = in_messages({"role": "assistant", "content": [thought("a"), thought("b"), {}]})
    request = parse("/v1/messages", asked)
    makers = {mark_of("a"): cloud}
    carried = CarriedThoughts(request, makers)

    assert carried.outgoing(m) is request
    assert carried.unsure(m) == {mark_of("a"), mark_of("b")}
    assert carried.bare(m).thoughts == ()
    assert carried.bare(cloud).thoughts == (mark_of("a"),)
    assert carried.outgoing(n).thoughts == (mark_of("b"),)
    assert not CarriedThoughts(request, makers | {mark_of("b"): cloud}).unsure(cloud)


# -- the index -----------------------------------------------------------------------------------


def test_marks_are_kept_by_app_and_found_by_another_process(address: Address) -> None:
    marks = [mark_of(str(n)) for n in range(5)]

    async def run() -> tuple[dict[str, int], dict[str, int]]:
        one, two = StoredIds(address), StoredIds(address)
        one.start()
        two.start()
        one.note_thoughts("ann", marks[:3], 7)
        while one.n_unwritten:
            await asyncio.sleep(0.01)
        found = await two.find_thoughts("ann", marks)
        others = await two.find_thoughts("bob", marks)
        await one.stop()
        await two.stop()
        return found, others

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored_ids, "LOOK_UP_THOUGHTS_S", 5.0)  # this machine may be busy
        found, others = asyncio.run(run())
    assert found == dict.fromkeys(marks[:3], 7)
    assert others == {}


def test_the_store_is_asked_once_and_for_the_latest(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    async def ask(*commands: Any, within_s: float) -> list[object]:
        assert within_s <= 0.005
        asked.append(len(commands))
        return [(7).to_bytes(8, "little")] * len(commands)

    async def run() -> None:
        ids = StoredIds(NOWHERE)
        monkeypatch.setattr(ids._line, "ask", ask)
        marks = [mark_of(str(n)) for n in range(MOST_ASKED + 10)]
        assert set(await ids.find_thoughts("ann", marks)) == set(marks[10:])
        assert set(await ids.find_thoughts("ann", marks)) == set(marks)
        assert len(await ids.find_thoughts("ann", marks)) == len(marks)
        assert asked == [MOST_ASKED, 10]

    asyncio.run(run())


def test_what_the_store_does_not_have_it_is_asked_for_once_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    now_s = time.time()

    async def ask(*commands: Any, within_s: float) -> list[object]:
        asked.append(len(commands))
        return [None] * len(commands)

    async def run() -> None:
        ids = StoredIds(NOWHERE)
        monkeypatch.setattr(ids._line, "ask", ask)
        for later_s in (0, 30, 59, 62):
            monkeypatch.setattr(time, "time", lambda: now_s + later_s)  # noqa: B023
            assert await ids.find_thoughts("ann", ["m"]) == {}
        assert asked == [1, 1]

        ids.note_thoughts("ann", ["m"], 7)
        assert await ids.find_thoughts("ann", ["m"]) == {"m": 7}

    asyncio.run(run())


def test_what_an_endpoint_made_that_is_gone_is_of_nobody(provider: Provider) -> None:
    found = catalog(provider, [{"id": "m"}])
    marks = ["here", "gone"]

    async def run() -> None:
        ids = StoredIds(NOWHERE)
        ids.note_thoughts("ann", marks[:1], found.by_id["m"].digest)
        ids.note_thoughts("ann", marks[1:], 7)
        assert await ids.makers_of("ann", marks, found) == {"here": found.by_id["m"]}
        assert await ids.makers_of("ann", (), found) == {}

    asyncio.run(run())


def test_with_the_store_away_nothing_is_known_and_nobody_waits() -> None:
    async def run() -> float:
        ids = StoredIds(NOWHERE)
        ids.start()
        await asyncio.sleep(0.05)
        began = time.monotonic()
        assert await ids.find_thoughts("ann", [os.urandom(8).hex()]) == {}
        waited_s = time.monotonic() - began
        await ids.stop()
        return waited_s

    assert asyncio.run(run()) < 0.5
