"""What a call keeps at its provider is told by name; what nobody asked for can be forced off."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from anthropic.types.beta.beta_tool_union_param import BetaToolUnionParam
from anthropic.types.beta.message_create_params import MessageCreateParamsNonStreaming
from conftest import Provider, endpoint
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat.chat_completion_tool_union_param import ChatCompletionToolUnionParam
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from openai.types.responses.tool_param import ToolParam
from translating import DIRECTIONS, TELLERS, Untold, manner, story

from router.config.compiled import compile_text
from router.dialects import chat, completions, embeddings, messages, responses
from router.dialects.fields import top_level
from router.dialects.keeping import (
    FIELDS,
    KEEP_NOTHING,
    NAMES,
    Keeping,
    keeping_in,
    keeps,
    with_store_off,
)
from router.dialects.opaque import take_hints
from router.dialects.request import CallRequest
from router.dialects.tool_keeping import UNKNOWN_TOOL
from router.endpoints.catalog import Catalog
from router.endpoints.droppable import checked_droppable
from router.endpoints.entries import Dialect
from router.endpoints.tool_types import (
    CALLERS_OF_ANTHROPIC,
    CALLERS_OF_OPENAI,
    CARRIED,
    GROUPS,
    KEEPING_TOOLS,
    UNNAMED_TOOLS,
    undated,
)
from router.translation.prompt import Untranslatable
from router.translation.requests import read, write
from router.translation.translations import Translations

ROOT = Path(__file__).parent.parent
TURN: dict[Dialect, dict[str, Any]] = {
    Dialect.CHAT: {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
    Dialect.MESSAGES: {
        "model": "m",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "hi"}],
    },
    Dialect.RESPONSES: {"model": "m", "input": "hi", "store": False},
    Dialect.COMPLETIONS: {"model": "m", "prompt": "hi"},
    Dialect.EMBEDDINGS: {"model": "m", "input": "hi"},
}
PARSE: dict[Dialect, Callable[[bytes], CallRequest]] = {
    Dialect.CHAT: chat.parse,
    Dialect.MESSAGES: messages.parse,
    Dialect.RESPONSES: responses.parse,
    Dialect.COMPLETIONS: completions.parse,
    Dialect.EMBEDDINGS: embeddings.parse,
}
PATHS = {
    Dialect.CHAT: "/v1/chat/completions",
    Dialect.MESSAGES: "/v1/messages",
    Dialect.RESPONSES: "/v1/responses",
    Dialect.COMPLETIONS: "/v1/completions",
    Dialect.EMBEDDINGS: "/v1/embeddings",
}
CHAT, MESSAGES, RESPONSES = Dialect.CHAT, Dialect.MESSAGES, Dialect.RESPONSES
OF_CHAT = {"type": "function", "function": {"name": "f"}}


def definition(tool: Any) -> dict[str, Any]:
    """A tool that a turn of Messages brings."""
    return {"type": "tool_definition", "definition": tool}


def parsed(dialect: Dialect, **more: Any) -> CallRequest:
    return PARSE[dialect](json.dumps(TURN[dialect] | more).encode())


def names(dialect: Dialect, **more: Any) -> list[str]:
    """What a request keeps that asks for it; read as one of ours and as one that is passed on."""
    body = json.dumps(TURN[dialect] | more).encode()
    found = PARSE[dialect](body).keeping
    assert tuple(found) == tuple(take_hints(body, PATHS[dialect]).keeping)
    assert all(one.asked for one in found)
    return [one.name for one in found]


# -- fields ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", TURN)
def test_a_plain_call_keeps_nothing(dialect: Dialect) -> None:
    assert names(dialect) == []


@pytest.mark.parametrize(
    ("dialect", "more", "kept"),
    [
        (CHAT, {"store": True}, "store"),
        (CHAT, {"store": "yes"}, "store"),
        (CHAT, {"web_search_options": {}}, "web_search"),
        (CHAT, {"search_parameters": {"mode": "auto"}}, "web_search"),
        (CHAT, {"enable_search": True}, "web_search"),
        (CHAT, {"plugins": [{"id": "web"}]}, "web_search"),
        (CHAT, {"plugins": [{"id": "file-parser"}]}, "tool:file-parser"),
        (CHAT, {"plugins": ["web"]}, UNKNOWN_TOOL),
        (CHAT, {"plugins": {"id": "web"}}, "web_search"),
        (CHAT, {"modalities": ["text", "audio"]}, "audio"),
        (CHAT, {"audio": {"voice": "alloy"}}, "audio"),
        (MESSAGES, {"thread": {"type": "create"}}, "conversation"),
        (MESSAGES, {"container": "c1"}, "container"),
        (MESSAGES, {"container": {"skills": [{"skill_id": "s"}]}}, "container"),
        (MESSAGES, {"mcp_servers": [{"type": "url", "url": "https://a"}]}, "mcp"),
        (RESPONSES, {"store": True}, "store"),
        (RESPONSES, {"store": 1}, "store"),
        (RESPONSES, {"background": True}, "background"),
        (RESPONSES, {"conversation": "conv_1"}, "conversation"),
        (RESPONSES, {"conversation": {"id": "conv_1"}}, "conversation"),
        (RESPONSES, {"prompt": {"id": "pmpt_1"}}, "prompt"),
        (Dialect.COMPLETIONS, {"store": True}, "store"),
    ],
)
def test_a_field_that_keeps_something_is_named(
    dialect: Dialect, more: dict[str, Any], kept: str
) -> None:
    assert names(dialect, **more) == [kept]


@pytest.mark.parametrize(
    ("dialect", "more"),
    [
        (CHAT, {"store": False}),
        (CHAT, {"store": None, "plugins": [], "modalities": ["text"], "audio": None}),
        (CHAT, {"search_parameters": {"mode": "off"}, "enable_search": False}),
        (CHAT, {"prompt_cache_key": "k", "prompt_cache_retention": "24h", "user": "u"}),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "file", "file_id": "f"}]}]}),
        (MESSAGES, {"thread": None, "container": None, "mcp_servers": []}),
        (MESSAGES, {"cache_control": {"type": "ephemeral", "ttl": "1h"}}),
        (RESPONSES, {"background": False, "conversation": None, "prompt": None}),
        (RESPONSES, {"previous_response_id": "resp_1"}),
        (RESPONSES, {"input": '[{"type":"x","tools":[{"type":"mcp"}]}]'}),
        (Dialect.COMPLETIONS, {"prompt": ["a", "b"]}),
    ],
)
def test_what_lies_there_already_and_what_is_off_keeps_nothing(
    dialect: Dialect, more: dict[str, Any]
) -> None:
    assert names(dialect, **more) == []


@pytest.mark.parametrize("said", [{}, {"store": None}])
def test_responses_are_kept_by_default_alone(said: dict[str, Any]) -> None:
    body = {"model": "m", "input": "hi", **said}

    assert responses.parse(json.dumps(body).encode()).keeping == (Keeping("store", asked=False),)


def test_what_is_worked_out_in_the_background_is_kept_because_it_was_asked_for() -> None:
    request = parsed(RESPONSES, store=None, background=True)

    assert set(request.keeping) == {Keeping("background"), Keeping("store")}
    assert request.kept_nowhere() is request


def test_each_thing_is_named_once() -> None:
    tools = [{"type": "web_search"}, {"type": "web_search_preview"}, {"type": "mcp"}]

    assert names(RESPONSES, store=True, tools=tools) == ["store", "web_search", "mcp"]


# -- tools -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dialect", "tool"),
    [
        (CHAT, OF_CHAT),
        (CHAT, {"type": "custom", "custom": {"name": "c"}}),
        (CHAT, {"function": {"name": "f"}}),
        (RESPONSES, {"type": "function", "name": "exec_command"}),
        (RESPONSES, {"type": "custom", "name": "apply_patch"}),
        (RESPONSES, {"type": "namespace", "name": "n", "tools": [{"type": "function"}]}),
        (RESPONSES, {"type": "namespace", "name": "n"}),
        (RESPONSES, {"type": "local_shell"}),
        (RESPONSES, {"type": "shell", "environment": {"type": "local"}}),
        (RESPONSES, {"type": "apply_patch"}),
        (RESPONSES, {"type": "computer"}),
        (RESPONSES, {"type": "computer_use_preview"}),
        (RESPONSES, {"type": "tool_search", "execution": "client"}),
        (MESSAGES, {"name": "Agent", "input_schema": {}}),
        (MESSAGES, {"name": "Bash", "type": None, "input_schema": {}}),
        (MESSAGES, {"type": "custom", "name": "f"}),
        (MESSAGES, {"type": "bash_20250124", "name": "bash"}),
        (MESSAGES, {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"}),
        (MESSAGES, {"type": "computer_20251124", "name": "computer"}),
        (MESSAGES, {"type": "memory_20250818", "name": "memory"}),
        (MESSAGES, {"type": "computer_toolset_20260801"}),
        (MESSAGES, {"type": "browser_toolset_20260801"}),
    ],
)
def test_tools_that_the_caller_runs_keep_nothing(dialect: Dialect, tool: dict[str, Any]) -> None:
    assert names(dialect, tools=[tool]) == []


@pytest.mark.parametrize(
    ("dialect", "tool", "kept"),
    [
        (RESPONSES, {"type": "web_search", "external_web_access": False}, "web_search"),
        (RESPONSES, {"type": "web_search_2025_08_26"}, "web_search"),
        (RESPONSES, {"type": "web_search_preview_2025_03_11"}, "web_search"),
        (RESPONSES, {"type": "file_search", "vector_store_ids": ["vs"]}, "file_search"),
        (RESPONSES, {"type": "code_interpreter", "container": {"type": "auto"}}, "code_execution"),
        (RESPONSES, {"type": "programmatic_tool_calling"}, "code_execution"),
        (RESPONSES, {"type": "shell"}, "code_execution"),
        (RESPONSES, {"type": "shell", "environment": {"type": "container_auto"}}, "code_execution"),
        (RESPONSES, {"type": "mcp", "server_url": "https://a"}, "mcp"),
        (RESPONSES, {"type": "image_generation"}, "tool:image_generation"),
        (RESPONSES, {"type": "tool_search"}, "tool:tool_search"),
        (RESPONSES, {"type": "bash_20250124"}, "tool:bash"),
        (RESPONSES, {"type": "of_tomorrow_20291231"}, "tool:of_tomorrow"),
        (RESPONSES, {"name": "f"}, UNKNOWN_TOOL),
        (RESPONSES, {"type": "namespace", "tools": [{"type": "mcp"}]}, "mcp"),
        (RESPONSES, {"type": "namespace", "tools": "odd"}, UNKNOWN_TOOL),
        (MESSAGES, {"type": "web_search_20250305", "name": "web_search"}, "web_search"),
        (MESSAGES, {"type": "web_search_20260318", "name": "web_search"}, "web_search"),
        (MESSAGES, {"type": "web_fetch_20250910", "name": "web_fetch"}, "web_fetch"),
        (MESSAGES, {"type": "code_execution_20250825", "name": "c"}, "code_execution"),
        (MESSAGES, {"type": "mcp_toolset", "mcp_server_name": "a"}, "mcp"),
        (MESSAGES, {"type": "advisor_20260301", "name": "advisor"}, "tool:advisor"),
        (MESSAGES, {"type": "tool_search_tool_regex_20251119"}, "tool:tool_search_tool_regex"),
        (MESSAGES, {"type": "memory_store_20290101"}, "tool:memory_store"),
        (MESSAGES, {"type": "namespace", "tools": []}, "tool:namespace"),
        (MESSAGES, {"type": ["custom"]}, UNKNOWN_TOOL),
        (CHAT, {"type": "openrouter:web_search"}, "web_search"),
        (CHAT, {"type": "web_search_premium"}, "web_search"),
        (CHAT, {"type": "browser_search"}, "web_search"),
        (CHAT, {"type": "x_search"}, "web_search"),
        (CHAT, {"type": "builtin_function", "function": {"name": "$s"}}, "tool:builtin_function"),
        (CHAT, {"type": "x:function", "function": {"name": "f"}}, "tool:function"),
        (CHAT, {"type": "local_shell"}, "tool:local_shell"),
        (CHAT, {"google_search": {}}, UNKNOWN_TOOL),
        (CHAT, {"type": "words of\nthe caller's"}, UNKNOWN_TOOL),
        (CHAT, {"type": "x" * 65}, UNKNOWN_TOOL),
    ],
)
def test_tools_that_the_provider_runs_are_named(
    dialect: Dialect, tool: dict[str, Any], kept: str
) -> None:
    assert names(dialect, tools=[tool]) == [kept]


@pytest.mark.parametrize("tools", ["odd", {"type": "web_search"}, [1], True])
@pytest.mark.parametrize("dialect", [CHAT, MESSAGES, RESPONSES])
def test_tools_that_cannot_be_read_count(dialect: Dialect, tools: Any) -> None:
    assert names(dialect, tools=tools) == [UNKNOWN_TOOL]


def test_tools_that_only_lenient_readers_take_are_read() -> None:
    turn = '{"model":"m","messages":[{"role":"user"}],"tools":['
    tool = '{"type":"function","function":{"name":"f","description":"\\ud83d","x":NaN}}'
    search = ',{"type":"web_search"}'

    assert chat.parse(f"{turn}{tool}]}}".encode()).keeping == ()
    assert chat.parse(f"{turn}{tool}{search}]}}".encode()).keeping == (Keeping("web_search"),)


@pytest.mark.parametrize(
    ("item", "kept"),
    [
        ({"type": "tool_search_output", "tools": [{"type": "mcp"}]}, ["mcp"]),
        ({"type": "additional_tools", "tools": [{"type": "web_search"}]}, ["web_search"]),
        ({"type": "tool_search_output", "tools": [{"type": "function"}]}, []),
        ({"type": "mcp_list_tools", "tools": [{"name": "f"}]}, []),
        ({"role": "user", "content": "tools"}, []),
    ],
)
def test_tools_that_items_bring_later_count(item: dict[str, Any], kept: list[str]) -> None:
    assert names(RESPONSES, input=[item]) == kept


@pytest.mark.parametrize(
    ("tool", "kept"),
    [
        (definition({"type": "mcp_toolset", "mcp_server_name": "a"}), ["mcp"]),
        (definition({"type": "web_search_20260318", "name": "web_search"}), ["web_search"]),
        (definition({"name": "f", "input_schema": {}}), []),
        (definition(None), [UNKNOWN_TOOL]),
        ({"type": "tool_definition"}, [UNKNOWN_TOOL]),
        ({"type": "tool_reference", "tool_name": "f"}, []),
    ],
)
def test_tools_that_messages_bring_later_count(tool: dict[str, Any], kept: list[str]) -> None:
    turns: list[dict[str, Any]] = [{"role": "user", "content": "tool_definition"}]
    turns += [{"role": "system", "content": [{"type": "tool_addition", "tool": tool}]}]

    assert names(MESSAGES, messages=turns) == kept


def test_words_that_are_written_in_escapes_are_read() -> None:
    item = '{"type":"additional_tools","t\\u006fols":[{"type":"m\\u0063p"}]}'
    tool = '{"type":"tool\\u005fdefinition","definition":{"type":"mcp_toolset"}}'
    part = f'{{"type":"tool_addition","tool":{tool}}}'
    of_responses = f'{{"model":"m","store":false,"input":[{item}]}}'
    of_messages = f'{{"model":"m","messages":[{{"role":"user","content":[{part}]}}]}}'

    assert responses.parse(of_responses.encode()).keeping == (Keeping("mcp"),)
    assert messages.parse(of_messages.encode()).keeping == (Keeping("mcp"),)


def test_groups_in_groups_are_read_to_a_depth_and_count_beyond() -> None:
    tool: dict[str, Any] = {"type": "function"}
    for _ in range(4):
        tool = {"type": "namespace", "tools": [tool]}

    assert names(RESPONSES, tools=[tool]) == []
    assert names(RESPONSES, tools=[{"type": "namespace", "tools": [tool]}]) == ["tool:namespace"]


@pytest.mark.parametrize("union", [ToolParam, ChatCompletionToolUnionParam, BetaToolUnionParam])
def test_every_type_of_tool_that_the_sdks_know_is_in_the_table(union: Any) -> None:
    known = KEEPING_TOOLS.keys() | UNNAMED_TOOLS | CARRIED | GROUPS
    known |= CALLERS_OF_OPENAI | CALLERS_OF_ANTHROPIC

    for shape in get_args(union):
        for kind in _texts(get_type_hints(shape)["type"]):
            assert undated(kind) in known, kind


def _texts(annotation: Any) -> list[str]:
    parts = get_args(annotation)
    return [text for part in parts for text in ([part] if isinstance(part, str) else _texts(part))]


JUDGED = {
    *("access_programs", "background_options", "betas", "billing_policy", "cache_control"),
    *("compaction", "context_management", "diagnostics", "fallback_credit_token", "fallbacks"),
    *("frequency_penalty", "function_call", "functions", "image", "include", "inference_geo"),
    *("instructions", "logit_bias", "logprobs", "max_completion_tokens", "max_output_tokens"),
    *("max_tokens", "max_tool_calls", "metadata", "model", "moderation", "n", "output_config"),
    *("parallel_tool_calls", "prediction", "presence_penalty", "previous_response_id"),
    *("prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "reasoning"),
    *("reasoning_effort", "response_format", "safety_identifier", "seed", "service_tier", "speed"),
    *("stop", "stop_sequences", "stream", "stream_options", "system", "temperature", "text"),
    *("thinking", "tool_choice", "top_logprobs", "top_p", "truncation", "user"),
    *("user_profile_id", "verbosity", "workspace_id"),
}
"""Fields that keep nothing: they set, bound or shape an answer, name somebody, or cache prompts."""


@pytest.mark.parametrize(
    "params",
    [
        ResponseCreateParamsNonStreaming,
        CompletionCreateParamsNonStreaming,
        MessageCreateParamsNonStreaming,
    ],
)
def test_every_field_that_the_sdks_know_was_judged(params: Any) -> None:
    assert set(get_type_hints(params)) - FIELDS - JUDGED == set()


def test_every_name_of_a_tool_is_one_of_the_table_and_may_be_dropped_in_translation() -> None:
    assert set(KEEPING_TOOLS.values()) <= set(NAMES)
    for kind in KEEPING_TOOLS:
        assert checked_droppable(kind) == kind


@given(
    st.dictionaries(st.text(), st.none() | st.booleans() | st.text()), st.sampled_from(list(TURN))
)
def test_no_tool_of_any_shape_breaks_the_reading(tool: dict[str, Any], dialect: Dialect) -> None:
    found = keeping_in(dialect, {"tools": json.dumps([tool, {"type": tool}]).encode()})

    assert all(one.name.startswith("tool:") or one.name in NAMES for one in found)


# -- the default, forced off -----------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
SPACES = st.sampled_from([None, 1, "\t"])


@given(
    more=st.dictionaries(st.text().filter(lambda name: name != "store"), VALUES, max_size=4),
    indent=SPACES,
    bom=st.booleans(),
    ascii_=st.booleans(),
)
def test_forcing_the_default_off_adds_a_field_and_changes_no_other_byte(
    more: dict[str, Any], indent: Any, bom: bool, ascii_: bool
) -> None:
    text = json.dumps(more, indent=indent, ensure_ascii=ascii_)
    body = b"\xef\xbb\xbf" * bom + text.encode(errors="replace")

    changed = with_store_off(body)

    added = b'"store":false' + (b"," if more else b"")
    assert changed.replace(added, b"", 1) == body
    assert json.loads(changed.decode("utf-8-sig")) == {"store": False} | json.loads(
        body.decode("utf-8-sig")
    )


@given(before=VALUES, after=VALUES, indent=SPACES)
def test_a_null_is_turned_to_false_in_its_place(before: Any, after: Any, indent: Any) -> None:
    body = json.dumps({"a": before, "store": None, "z": after}, indent=indent).encode()

    changed = with_store_off(body)

    is_alone = body.count(b'"store": null') == 1
    assert json.loads(changed) == {"a": before, "store": False, "z": after}
    if is_alone:
        assert changed == body.replace(b'"store": null', b'"store": false')


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": {"store": null}, "store": null}',
        b'{"a": {"store": null}, "st\\u006fre": null}',
        b'{"a": "\\"store\\": null", "store":null}',
        b'{"store": true, "store": null}',
    ],
)
def test_only_the_outermost_null_is_turned(body: bytes) -> None:
    changed = json.loads(with_store_off(body))

    assert changed == json.loads(body) | {"store": False}


@pytest.mark.parametrize("said", [{}, {"store": None}])
def test_a_response_that_nobody_asked_to_keep_is_kept_nowhere(said: dict[str, Any]) -> None:
    asked = {"model": "m", "input": [{"role": "user", "content": "hi"}], "x": 1 << 70, **said}
    body = json.dumps(asked).encode()
    request, passed = responses.parse(body), take_hints(body, "/v1/responses")

    for found in (request.kept_nowhere(), passed.kept_nowhere()):
        assert found.kept is None
        assert found.keeping == ()
        assert isinstance(found.body, bytes)
        assert json.loads(found.body) == asked | {"store": False}
    assert request.kept_nowhere().repeatable
    assert request.kept_nowhere().conversation() == request.conversation()


def test_what_was_asked_for_stays_beside_what_is_forced_off() -> None:
    body = {"model": "m", "input": "hi", "tools": [{"type": "web_search"}], "conversation": "c"}
    found = responses.parse(json.dumps(body).encode()).kept_nowhere()

    assert found.keeping == (Keeping("conversation"), Keeping("web_search"))
    assert found.kept is None


@pytest.mark.parametrize(
    ("dialect", "more"),
    [
        (RESPONSES, {"store": True}),
        (RESPONSES, {"store": False}),
        (RESPONSES, {"store": None, "background": True}),
        (CHAT, {}),
        (CHAT, {"store": True}),
        (MESSAGES, {"thread": {"type": "create"}}),
        (Dialect.EMBEDDINGS, {}),
        (Dialect.COMPLETIONS, {}),
    ],
)
def test_a_call_of_which_nothing_is_kept_by_default_goes_as_it_came(
    dialect: Dialect, more: dict[str, Any]
) -> None:
    request = parsed(dialect, **more)
    passed = take_hints(request.body, PATHS[dialect])

    assert request.kept_nowhere() is request
    assert passed.kept_nowhere() is passed


def test_a_call_without_its_thoughts_stays_one_that_is_kept_nowhere() -> None:
    thought = {"type": "reasoning", "id": "rs_1", "encrypted_content": "e" * 40, "summary": []}
    said = {"type": "message", "role": "assistant", "content": "hi"}
    body = {"model": "m", "input": [{"role": "user", "content": "hi"}, thought, said]}
    request = responses.parse(json.dumps(body).encode())
    assert request.thoughts

    one = request.kept_nowhere().without_thoughts(request.thoughts)
    other = request.without_thoughts(request.thoughts).kept_nowhere()

    assert one.left_out == other.left_out == ("thinking",)
    assert json.loads(one.body) == json.loads(other.body)
    assert json.loads(one.body)["store"] is False
    assert one.kept is other.kept is None


# -- by endpoint -----------------------------------------------------------------------------------


def catalog(provider: Provider, *entries: dict[str, Any]) -> Catalog:
    models = {"m": {"output_tokens": 4000}}
    text = json.dumps({"models": models, "endpoints": list(entries)})
    return compile_text(text, file="test.yaml").catalog


def test_params_of_an_endpoint_ask_for_more_or_less(provider: Provider) -> None:
    hosts = catalog(
        provider,
        *(
            endpoint(provider, name, model="m", dialects=["responses"], params=params)
            for name, params in {
                "plain": {"temperature": 1},
                "off": {"store": False},
                "on": {"store": True},
                "searches": {"tools": [{"type": "web_search"}]},
            }.items()
        ),
    )
    by_default = responses.parse(b'{"model":"m","input":"hi"}')

    def kept_at(request: CallRequest, name: str) -> list[tuple[str, bool]]:
        kept = Translations(request, begun_at_s=0).keeping(hosts.by_id[name])
        assert tuple(kept) == tuple(request.keeping_at(hosts.by_id[name]))
        return [(one.name, one.asked) for one in kept]

    assert kept_at(by_default, "plain") == [("store", False)]
    assert kept_at(by_default, "off") == []
    assert kept_at(by_default, "on") == [("store", True)]
    assert kept_at(by_default.kept_nowhere(), "on") == [("store", True)]
    assert kept_at(by_default.kept_nowhere(), "searches") == [("web_search", True)]


def test_what_goes_out_keeps_what_is_told_of_it(provider: Provider) -> None:
    entry = endpoint(provider, "e", model="m", dialects=["responses"], params={"store": True})
    host = catalog(provider, entry).by_id["e"]
    request = responses.parse(b'{"model":"m","input":"hi"}').kept_nowhere()

    sent, _ = request.rewritten(host)

    assert keeping_in(RESPONSES, top_level(sent)) == tuple(request.keeping_at(host))


def test_a_translation_keeps_nothing_but_by_params(provider: Provider) -> None:
    of_chat = {"from": ["messages", "responses"], "drop": ["web_search", "store"]}
    of_messages = {"from": ["chat", "responses"], "drop": ["web_search", "store"]}
    storing: dict[str, Any] = {"params": {"store": True}}
    calling: dict[str, Any] = {"params": {"mcp_servers": [{"type": "url"}]}}
    hosts = catalog(
        provider,
        endpoint(provider, "c", model="m", dialects=["chat"], translate=of_chat),
        endpoint(provider, "m1", model="m", dialects=["messages"], translate=of_messages),
        endpoint(provider, "c2", model="m", dialects=["chat"], translate=of_chat, **storing),
        endpoint(
            provider, "m2", model="m", dialects=["messages"], translate=of_messages, **calling
        ),
    )
    tools = [{"type": "web_search"}, {"type": "function", "name": "f", "parameters": {}}]
    request = responses.parse(json.dumps({"model": "m", "input": "hi", "tools": tools}).encode())
    translations = Translations(request, begun_at_s=0)

    for name, kept in {"c": [], "m1": [], "c2": ["store"], "m2": ["mcp"]}.items():
        host = hosts.by_id[name]
        out = translations.outgoing(host)
        body, _ = out.rewritten(host)
        assert out.is_translated
        assert [one.name for one in translations.keeping(host)] == kept
        assert tuple(out.keeping_at(host)) == tuple(translations.keeping(host))
        assert keeping_in(out.dialect, top_level(body)) == tuple(translations.keeping(host))


@pytest.mark.parametrize(("from_", "to"), DIRECTIONS, ids=str)
def test_no_writer_of_a_dialect_asks_to_keep(from_: Dialect, to: Dialect) -> None:
    rng, n_written = random.Random(7), 0
    while n_written < 300:
        try:
            body = TELLERS[from_](story(rng))
            written = write(read(from_, json.dumps(body).encode()), to, manner(rng))
        except (Untold, Untranslatable):
            continue
        fields = {name: json.dumps(value).encode() for name, value in written.body.items()}
        assert keeping_in(to, fields) == ()
        n_written += 1


# -- paths -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(KEEP_NOTHING))
def test_generation_keeps_nothing_by_its_path(path: str) -> None:
    assert not keeps("POST", f"/v1/{path}")


@pytest.mark.parametrize(
    "path",
    [
        *("files", "batches", "messages/batches", "uploads", "vector_stores", "assistants"),
        *("vector_stores/vs/files", "threads", "threads/t/runs", "threads/runs", "conversations"),
        *("conversations/c/items", "fine_tuning/jobs", "evals", "evals/e/runs", "containers"),
        *("containers/c/files", "videos", "skills", "realtime/sessions", "of_tomorrow"),
        *("Responses", "responses/", "responses/r/cancel", "chat/completions/c", ""),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "MKCOL"])
def test_whatever_else_is_written_is_kept(path: str, method: str) -> None:
    assert keeps(method, f"/v1/{path}")


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE"])
@pytest.mark.parametrize("path", ["files", "files/f/content", "responses/r", "of_tomorrow"])
def test_reading_and_deleting_keeps_nothing(path: str, method: str) -> None:
    assert not keeps(method, f"/v1/{path}")


@pytest.mark.parametrize("path", PATHS.values())
def test_a_body_that_cannot_be_read_counts_where_bodies_say_it(path: str) -> None:
    assert take_hints(b"--multipart", path).keeping == (Keeping("unread"),)
    assert take_hints(b"--multipart", "/v1/audio/transcriptions").keeping == ()


def test_fields_of_pictures_are_no_switches() -> None:
    body = b'{"prompt":"a cat","background":"transparent"}'

    assert take_hints(body, "/v1/images/generations").keeping == ()


# -- docs ---------------------------------------------------------------------------------------


def test_the_docs_have_every_name() -> None:
    text = (ROOT / "docs" / "security.md").read_text()
    section = text.partition("## What keeps content")[2].partition("\n## ")[0]
    rows = [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| `")]

    assert rows == [f"`{name}`" for name in (*NAMES, "tool:<type>")]
