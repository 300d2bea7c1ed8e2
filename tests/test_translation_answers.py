"""Answers said in another dialect: what one says the other does, there and back it is equal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from translated import (
    CREATED,
    HIDING,
    IN_CHAT,
    SAMPLES,
    SHOWING,
    answers,
    chat_parts,
    message_parts,
    texts,
)

from router.endpoints.entries import Dialect
from router.translation import chat_answer, messages_answer, responses_answer
from router.translation.answers import translated_answer
from router.translation.completion import CallBegun, Completion, Count, Declined, Stop
from router.translation.counts import count_of
from router.translation.errors import translated_refusal
from router.translation.fitting import Fitting
from router.translation.parts import shown
from router.translation.prompt import (
    Prompt,
    Talk,
    Text,
    Thought,
    Tool,
    ToolResult,
    ToolUse,
    TurnRole,
)
from router.translation.tools import NAME
from telemetry.wire.chat import read_chat_answer
from telemetry.wire.messages import read_messages_answer
from telemetry.wire.responses import read_response


def translated(body: Any, speaks: str, to: str, asked: Prompt = SHOWING, **echo: Any) -> Any:
    """What a caller gets of an endpoint's whole answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    how = {"asked": asked, "echo": echo, "created": CREATED}
    said = translated_answer(data, speaks=Dialect(speaks), to=Dialect(to), **how)
    return None if said is None else json.loads(said)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.stem)
def test_an_answer_is_said_as_the_other_dialect_has_it(path: Path) -> None:
    sample = json.loads(path.read_text())

    for to, expected in sample["whole"].items():
        assert translated(sample["answer"], path.stem.split("_")[0], to) == expected, to


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.stem)
def test_what_is_said_counts_the_same_as_what_is_booked(path: Path) -> None:
    sample, speaks = json.loads(path.read_text()), path.stem.split("_")[0]
    readers = {
        "chat": read_chat_answer,
        "messages": read_messages_answer,
        "responses": read_response,
    }
    booked = readers[speaks](json.dumps(sample["answer"]).encode())

    for to, said in sample["whole"].items():
        again = readers[to](json.dumps(said).encode())
        assert booked is not None
        assert again is not None
        assert (again.id, again.model) == (booked.id, booked.model)
        if booked.usage is not None:
            # In which tier it was served is the provider's own word, and is booked, not told.
            assert again.usage is not None
            assert structs.replace(again.usage, tier=None) == structs.replace(
                booked.usage, tier=None
            )


def test_thoughts_are_shown_to_who_asked_for_them_alone() -> None:
    answer = json.loads(SAMPLES[[p.stem for p in SAMPLES].index("chat_thoughts")].read_text())
    said = answer["answer"]

    shown = {to: json.dumps(translated(said, "chat", to)) for to in ("messages", "responses")}
    hidden = {to: json.dumps(translated(said, "chat", to, HIDING)) for to in shown}

    assert all("They greet me." in text for text in shown.values())
    assert not any("They greet me." in text for text in hidden.values())
    assert all("hello there" in text for text in hidden.values())


def test_a_response_repeats_what_it_was_asked() -> None:
    tools = [{"type": "function", "name": "weather", "parameters": {}}]
    echo = {"instructions": "Be brief.", "tools": tools, "text": {"verbosity": "low"}}
    answer = {"choices": [{"message": {"content": "hello"}}]}

    said = translated(answer, "chat", "responses", store=True, metadata=None, **echo)

    assert (said["instructions"], said["tools"]) == ("Be brief.", tools)
    assert said["text"] == {"format": {"type": "text"}, "verbosity": "low"}
    assert (said["metadata"], said["tool_choice"], said["store"]) == ({}, "auto", False)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b"{}",
        b'{"choices":[]}',
        b'{"choices":null}',
        b'{"choices":[{"message":null}]}',
        b'{"choices":[{}]}',
        b'{"choices":[{"message":"hello"}]}',
        b'{"error":{"message":"no"}}',
        b'{"type":"error","error":{"type":"overloaded_error"}}',
        b'{"choices":[{"message":{"content":"x"},"finish_reason":"error"}]}',
    ],
)
@pytest.mark.parametrize("speaks", ["chat", "messages"])
def test_what_holds_no_answer_is_none(speaks: str, body: bytes) -> None:
    assert translated(body, speaks, "responses") is None


@pytest.mark.parametrize(
    ("finish", "calls", "expected"),
    [
        ("stop", False, "end_turn"),
        ("stop", True, "tool_use"),
        (None, True, "tool_use"),
        ("tool_calls", True, "tool_use"),
        ("tool_calls", False, "end_turn"),
        ("function_call", True, "tool_use"),
        ("length", False, "max_tokens"),
        ("length", True, "max_tokens"),
        ("content_filter", False, "refusal"),
        ("model_length", False, "max_tokens"),
        ("what comes next", False, "end_turn"),
        (["odd"], False, "end_turn"),
        (7, True, "tool_use"),
    ],
)
def test_every_finish_reason_has_its_stop_reason(finish: Any, calls: bool, expected: str) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"content": "x", "tool_calls": [call] if calls else None}

    said = translated(
        {"choices": [{"message": message, "finish_reason": finish}]}, "chat", "messages"
    )

    assert said["stop_reason"] == expected


@pytest.mark.parametrize(
    ("reason", "expected", "status", "why"),
    [
        ("end_turn", "stop", "completed", None),
        ("stop_sequence", "stop", "completed", None),
        ("pause_turn", "length", "incomplete", "max_output_tokens"),
        ("max_tokens", "length", "incomplete", "max_output_tokens"),
        ("model_context_window_exceeded", "length", "incomplete", "max_output_tokens"),
        ("refusal", "content_filter", "incomplete", "content_filter"),
        ("tool_use", "stop", "completed", None),  # without one
        (None, "stop", "completed", None),
        ("what comes next", "stop", "completed", None),
    ],
)
def test_every_stop_reason_has_its_finish_reason(
    reason: Any, expected: str, status: str, why: str | None
) -> None:
    body = {"content": [{"type": "text", "text": "x"}], "stop_reason": reason}

    chat = translated(body, "messages", "chat")
    response = translated(body, "messages", "responses")

    assert chat["choices"][0]["finish_reason"] == expected
    assert response["status"] == status
    assert (response["incomplete_details"] or {}).get("reason") == why


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"a":1}', {"a": 1}),
        (' {"a":1}\n', {"a": 1}),
        ("", {}),
        (" ", {}),
        ("null", {}),
        ("{}", {}),
        ('{"n":12345678901234567890123}', {"n": 12345678901234567890123}),
        ("[1]", {"INVALID_JSON": "[1]"}),
        ('"x"', {"INVALID_JSON": '"x"'}),
        ('{"a":', {"INVALID_JSON": '{"a":'}),
        ('{"a":1}{"b":2}', {"INVALID_JSON": '{"a":1}{"b":2}'}),
        ('{"a":NaN}', {"INVALID_JSON": '{"a":NaN}'}),
        ('{"a":' * 2000 + "1" + "}" * 2000, None),
    ],
)
def test_what_a_tool_is_called_with_is_an_object_in_messages(arguments: str, expected: Any) -> None:
    tool = {"function": {"name": "f", "arguments": arguments}}

    said = translated({"choices": [{"message": {"tool_calls": [tool]}}]}, "chat", "messages")

    given = said["content"][0]["input"]
    assert given == ({"INVALID_JSON": arguments} if expected is None else expected)


def test_numbers_of_arguments_keep_their_digits() -> None:
    tool = {"function": {"name": "f", "arguments": '{"price": 4.10, "small": 1e-9}'}}
    body = json.dumps({"choices": [{"message": {"tool_calls": [tool]}}]}).encode()
    how = {"speaks": Dialect.CHAT, "to": Dialect.MESSAGES, "asked": SHOWING, "created": 7}

    said = translated_answer(body, echo={}, **how)

    assert said is not None
    assert b'"input":{"price": 4.10, "small": 1e-9}' in said


@pytest.mark.parametrize("to", ["messages", "responses"])
def test_blanks_alone_are_no_part_of_an_answer(to: str) -> None:
    call = {"id": "a", "function": {"name": "f", "arguments": "{}"}}
    message = {"content": "\n\n", "reasoning_content": " ", "tool_calls": [call]}

    said = translated({"choices": [{"message": message}]}, "chat", to)

    assert len(said["content" if to == "messages" else "output"]) == 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["a", "b"], ["a", "b"]),
        (["a", "a", "a"], ["a", "call_x_1", "call_x_2"]),
        (["", None, 7], ["call_x_0", "call_x_1", "call_x_2"]),
        (["call_x_1", ""], ["call_x_1", "call_x_2"]),
    ],
)
def test_every_call_of_an_answer_has_an_id_of_its_own(given: list[Any], expected: Any) -> None:
    tools = [{"id": each, "function": {"name": "f", "arguments": "{}"}} for each in given]
    blocks = [{"type": "tool_use", "id": each, "name": "f", "input": {}} for each in given]

    chat = translated({"id": "x", "choices": [{"message": {"tool_calls": tools}}]}, "chat", "chat")
    back = translated({"id": "x", "content": blocks}, "messages", "chat")

    for said in (chat, back):
        calls = said["choices"][0]["message"]["tool_calls"]
        assert [call["id"] for call in calls] == expected


def in_turn(*ids: str) -> tuple[Talk, ...]:
    """A conversation in which these calls were made, one a turn."""
    turns: list[Talk] = [Talk(TurnRole.USER, (Text("hi"),))]
    for each in ids:
        turns.append(Talk(TurnRole.ASSISTANT, (ToolUse(each, "f", "{}"),)))
        turns.append(Talk(TurnRole.USER, (ToolResult(each, ()),)))
    return tuple(turns)


@pytest.mark.parametrize(
    ("answer_id", "before", "given", "expected"),
    [
        ("x", (), "functions.f:0", "call_x_0"),
        ("x", ("call_0",), "call_0", "call_x_0"),
        ("x", ("call_0", "call_x_0"), "call_0", "call_x_1"),
        (None, ("call_0", "call_1"), "call_0", "call_2"),
        ("x", ("other",), "call_0", "call_0"),
    ],
)
@pytest.mark.parametrize("speaks", ["chat", "messages"])
def test_the_id_of_a_call_is_one_that_the_conversation_can_hold(
    speaks: str, answer_id: str | None, before: tuple[str, ...], given: str, expected: str
) -> None:
    asked = Prompt(turns=in_turn(*before))
    tool = {"id": given, "type": "function", "function": {"name": "f", "arguments": "{}"}}
    chat = {"id": answer_id, "choices": [{"message": {"tool_calls": [tool]}}]}
    block = {"type": "tool_use", "id": given, "name": "f", "input": {}}

    if speaks == "chat":
        said = translated(chat, "chat", "messages", asked)["content"][0]
    else:
        message = translated({"id": answer_id, "content": [block]}, "messages", "chat", asked)
        said = message["choices"][0]["message"]["tool_calls"][0]

    assert said["id"] == expected


def test_an_id_made_up_from_a_long_one_fits_where_ids_are_short() -> None:
    said = [
        Fitting(Prompt()).begun(CallBegun(0, "", "f"), f"chatcmpl-{'a' * 40}{end}").id
        for end in ("", "b", "")
    ]

    assert said[0] == said[2] != said[1]
    assert all(len(each) <= 40 and NAME.fullmatch(each) for each in said)


def test_responses_from_chat_keep_ids_of_any_characters() -> None:
    tool = {"id": "functions.f:0", "function": {"name": "f", "arguments": "{}"}}

    said = translated({"choices": [{"message": {"tool_calls": [tool]}}]}, "chat", "responses")

    assert said["output"][0]["call_id"] == "functions.f:0"


@pytest.mark.parametrize(
    ("name", "tools", "expected"),
    [
        ("f", (), "f"),
        ("f.g h", (), "f_g_h"),
        ("f.g h", ("f_g_h",), "f_g_h_1"),
        ("f.g h", ("f_g_h", "f_g_h_1"), "f_g_h_2"),
        ("n" * 80, (), "n" * 64),
        ("n" * 80, ("n" * 80,), "n" * 80),
        ("n" * 80, ("n" * 64,), "n" * 56 + "_1"),
        ("", (), "unnamed"),
        ("", ("unnamed",), "unnamed_1"),
        ("é", (), "_"),
    ],
)
def test_a_name_that_is_made_up_is_a_name_everywhere_and_no_other_tools(
    name: str, tools: tuple[str, ...], expected: str
) -> None:
    asked = Prompt(tools=tuple(Tool(each, None, {}) for each in tools))
    block = {"type": "tool_use", "id": "a", "name": name, "input": {}}

    said = translated({"content": [block]}, "messages", "chat", asked)

    (call,) = said["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == expected


WRITTEN = {"cache_read_input_tokens": 30, "cache_creation_input_tokens": 5}
DETAILED = {"cached_tokens": 8, "cache_write_tokens": 7}
BESIDE = {"completion_tokens_details": {"reasoning_tokens": 4}, "total_tokens": 55}
REPORTED = [
    ({"prompt_tokens": 45, "completion_tokens": 6}, Count(45, 6)),
    ({"input_tokens": 10, "cache_read_input_tokens": 30, "output_tokens": 6}, Count(40, 6, 30)),
    ({"input_tokens": 10, "output_tokens": 6} | WRITTEN, Count(45, 6, 30, 5)),
    ({"prompt_tokens": 45, "prompt_cache_hit_tokens": 30}, Count(45, 0, 30)),
    ({"prompt_tokens": 45, "cached_tokens": 30, "completion_tokens": 6}, Count(45, 6, 30)),
    ({"prompt_tokens": 45, "completion_tokens": 6} | BESIDE, Count(45, 10, reasoning=4)),
    ({"prompt_tokens": 9, "prompt_tokens_details": DETAILED}, Count(9, 0, 8, 1)),
    (
        {"input_tokens": 9, "output_tokens": 6, "output_tokens_details": {"thinking_tokens": 4}},
        Count(9, 6, reasoning=4),
    ),
    ({"completion_tokens": 6}, None),
    ("odd", None),
    ({"prompt_tokens": -1}, None),
    ({"prompt_tokens": True}, None),
]


@pytest.mark.parametrize(("reported", "expected"), REPORTED)
def test_every_form_of_usage_is_read(reported: Any, expected: Count | None) -> None:
    assert count_of(reported) == expected


# -- there and back -----------------------------------------------------------------------------


@settings(max_examples=400, deadline=None)
@given(answers(IN_CHAT, kinds=chat_parts))
def test_an_answer_there_and_back_is_equal(answer: Completion) -> None:
    """Chat, Messages, Chat; where no usage is known Messages says zeros."""
    chat = chat_answer.read(chat_answer.write(answer, created=CREATED))
    assert chat == answer

    back = messages_answer.read(messages_answer.write(chat, SHOWING))
    assert back is not None
    once_more = chat_answer.read(chat_answer.write(back, created=CREATED))

    assert once_more == msgspec.structs.replace(answer, count=answer.count or Count(0, 0))


@settings(max_examples=200, deadline=None)
@given(answers(list(Stop), kinds=message_parts), st.booleans())
def test_messages_say_any_order_of_parts(answer: Completion, shows: bool) -> None:
    read = messages_answer.read(messages_answer.write(answer, Prompt(shows_thinking=shows)))

    assert read is not None
    assert read.parts == shown(answer.parts, thoughts=shows)
    assert read.stop == answer.stop
    assert (read.id, read.model) == (answer.id, answer.model)


anything = st.lists(
    st.one_of(st.builds(Thought, texts), st.builds(Text, texts), st.builds(Declined, texts)),
    max_size=5,
)


@settings(max_examples=200, deadline=None)
@given(answers(list(Stop), kinds=anything))
def test_a_response_has_an_item_a_part_and_no_id_twice(answer: Completion) -> None:
    said = json.loads(responses_answer.write(answer, SHOWING, {}, created=CREATED))

    n_shown = len(shown(answer.parts, thoughts=True))
    assert len(said["output"]) == n_shown
    assert len({item["id"] for item in said["output"]}) == n_shown
    assert (said["status"] == "incomplete") == (answer.stop in (Stop.LENGTH, Stop.REFUSAL))


# -- errors --------------------------------------------------------------------------------------

OPENAI = {
    "error": {
        "message": "too long",
        "type": "invalid_request_error",
        "param": "messages",
        "code": "context_length_exceeded",
    }
}
ANTHROPIC = {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}


def refusal(status: int, body: Any, speaks: str, to: str) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return json.loads(translated_refusal(status, data, Dialect(speaks), Dialect(to)))


def test_an_error_of_chat_reads_as_one_of_messages() -> None:
    said = refusal(400, OPENAI, "chat", "messages")

    assert said["type"] == "error"
    assert said["error"] == {
        "type": "invalid_request_error",
        "message": "too long",
        "param": "messages",
        "code": "context_length_exceeded",
    }


@pytest.mark.parametrize("to", ["chat", "responses"])
def test_an_error_of_messages_reads_as_one_of_openai(to: str) -> None:
    said = refusal(429, ANTHROPIC, "messages", to)

    assert set(said) == {"error"}
    assert said["error"]["message"] == "slow down"
    assert said["error"]["code"] == "rate_limit_error"


@pytest.mark.parametrize(
    ("status", "openai", "anthropic"),
    [
        (400, "invalid_request_error", "invalid_request_error"),
        (401, "authentication_error", "authentication_error"),
        (403, "permission_error", "permission_error"),
        (404, "invalid_request_error", "not_found_error"),
        (429, "rate_limit_error", "rate_limit_error"),
        (500, "api_error", "api_error"),
        (503, "api_error", "overloaded_error"),
        (529, "api_error", "overloaded_error"),
    ],
)
def test_an_error_is_of_the_kind_that_its_status_has(
    status: int, openai: str, anthropic: str
) -> None:
    for to, kind in (("chat", openai), ("responses", openai), ("messages", anthropic)):
        speaks = "chat" if to == "messages" else "messages"
        assert refusal(status, {"error": {"message": "no"}}, speaks, to)["error"]["type"] == kind


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": "no such model"}, "no such model"),
        ({"message": "odd"}, "odd"),
        ({"detail": [{"loc": ["body"]}]}, '[{"loc":["body"]}]'),
        ([{"error": {"message": "Gemini's", "code": 400}}], "Gemini's"),
        (b"upstream connect error", "upstream connect error"),
        (b"x" * 9000, "x" * 1000),
        ("text", "text"),
    ],
)
def test_an_error_of_any_form_keeps_its_words(body: Any, message: str) -> None:
    for speaks, to in (("chat", "messages"), ("messages", "chat")):
        assert refusal(502, body, speaks, to)["error"]["message"] == message


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"null", b"3", b'{"error":{}}', b"\xff"])
def test_an_error_without_words_gets_some(body: bytes) -> None:
    for speaks, to in (("chat", "messages"), ("messages", "chat"), ("chat", "responses")):
        said = refusal(500, body, speaks, to)["error"]
        assert said["message"]
        assert said["code"] == "provider_error"


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([Text("0"), Thought(" "), Text(" ")], [Text("0 ")]),
        ([Text(" "), Thought(" "), Text("x")], [Text("x")]),
        ([Text(" "), Text("x")], [Text(" x")]),
        ([Thought("a"), Text(" "), Thought("b")], [Thought("ab")]),
        ([Text("0"), Text(" ")], [Text("0 ")]),
        ([Text(" "), Thought("a")], [Thought("a")]),
    ],
)
def test_what_blanks_stood_between_is_one_part(parts: list[Any], said: list[Any]) -> None:
    assert shown(parts, thoughts=True) == tuple(said)
