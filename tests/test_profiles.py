"""What a model can do where it is hosted: as it is written, shown, and kept to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Provider, endpoint, serving

from router.config.compiled import compile_text
from router.config.exclusions import Exclusion
from router.config.rules import PolicyRules
from router.dialects import chat, embeddings, messages, responses
from router.endpoints.capabilities import Capability, Needs, Reasoning
from router.endpoints.catalog import Catalog
from router.endpoints.entries import Dialect
from router.endpoints.health import Health
from router.endpoints.token_sizes import TokenSizes
from router.errors import ConfigError
from router.policy.constraints import Demand, Filter
from router.report.profiles import profile_lines, profile_rows
from router.translation.translations import Translations
from telemetry.store import Address

ALL = sum(getattr(Needs, capability.name) for capability in Capability)


def compiled(value: dict[str, Any]) -> Catalog:
    return compile_text(yaml.safe_dump(value), file="t.yaml").catalog


def catalog(model: dict[str, Any] | None, **host: Any) -> Catalog:
    """One endpoint of a model."""
    one = {"id": "a", "model": "m", "base_url": "http://h/v1", **host}
    return compiled({"models": {"m": model}, "endpoints": [one]})


def excluded(found: Catalog, needs: int = 0, max_tokens: int | None = None) -> Exclusion | None:
    """Why the endpoint may not serve such a call."""
    demand = Demand(
        dialect=Dialect.CHAT,
        needs=needs,
        rules=PolicyRules(),
        has_credential=True,
        text_bytes=100,
        max_tokens=max_tokens,
        translations=Translations(chat.parse(chat_body()), begun_at_s=0.0),
    )
    return Filter(found).apply(demand, Health(), TokenSizes(), 0.0, at_s=0.0).reasons[0]


def chat_body(**more: Any) -> bytes:
    return json.dumps(
        {"model": "m", "messages": [{"role": "user", "content": "x"}], **more}
    ).encode()


def turn(*calls: str) -> list[dict[str, Any]]:
    """A conversation of Chat Completions whose assistant calls tools."""
    made = [
        {"id": c, "type": "function", "function": {"name": "f", "arguments": '{"id": "id"}'}}
        for c in calls
    ]
    results = [{"role": "tool", "tool_call_id": c, "content": "1"} for c in calls]
    user = {"role": "user", "content": 'say "tool_calls" and "id" "id"'}
    return [user, {"role": "assistant", "content": None, "tool_calls": made}, *results]


FILE = {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,A"}}


@pytest.mark.parametrize(
    ("more", "needs"),
    [
        ({"response_format": {"type": "json_object"}}, Needs.JSON),
        ({"response_format": {"type": "json_schema"}}, Needs.SCHEMA),
        ({"messages": [{"role": "user", "content": [FILE]}]}, Needs.DOCUMENTS),
        ({"messages": [{"role": "user", "content": '"file_data" "file"'}]}, 0),
        ({"parallel_tool_calls": True}, 0),
        ({"reasoning_effort": "low"}, Needs.REASONING),
        ({"reasoning_effort": "none"}, 0),
        ({"reasoning_effort": None}, 0),
        ({"reasoning": {"max_tokens": 100}}, Needs.REASONING),
        ({"reasoning": {"effort": "high"}}, Needs.REASONING),
        ({"reasoning": {"enabled": True}}, Needs.REASONING),
        ({"reasoning": {"enabled": False, "effort": "high"}}, 0),
        ({"reasoning": {"exclude": True}}, 0),
    ],
)
def test_what_a_call_of_chat_needs(more: dict[str, Any], needs: int) -> None:
    assert chat.parse(chat_body(**more)).needs == needs


PDF = {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}


@pytest.mark.parametrize(
    ("more", "needs"),
    [
        ({}, 0),
        ({"messages": [{"role": "user", "content": [{"type": "document", "source": PDF}]}]}, 32),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "tool_result",
                                "tool_use_id": "t",
                                "content": [{"type": "document", "source": PDF}],
                            }
                        ],
                    }
                ]
            },
            Needs.DOCUMENTS,
        ),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, Needs.REASONING),
        ({"thinking": {"type": "adaptive"}}, Needs.REASONING),
        ({"thinking": {"type": "disabled"}}, 0),
        ({"output_config": {"effort": "low"}}, Needs.REASONING),
        ({"output_config": {"format": {"type": "json_schema"}}}, Needs.SCHEMA),
    ],
)
def test_what_a_call_of_messages_needs(more: dict[str, Any], needs: int) -> None:
    body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}], **more}

    assert messages.parse(json.dumps(body).encode()).needs == needs


FILES = [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]


@pytest.mark.parametrize(
    ("more", "needs"),
    [
        ({"text": {"format": {"type": "json_object"}}}, Needs.JSON),
        ({"text": {"format": {"type": "json_schema"}}}, Needs.SCHEMA),
        ({"input": FILES}, Needs.DOCUMENTS),
        ({"reasoning": {"effort": "minimal"}}, Needs.REASONING),
        ({"reasoning": {"effort": None, "summary": "auto"}}, 0),
    ],
)
def test_what_a_call_of_responses_needs(more: dict[str, Any], needs: int) -> None:
    body = {"model": "m", "input": "x", **more}

    assert responses.parse(json.dumps(body).encode()).needs == needs


USE = {"type": "tool_use", "id": "t", "name": "f", "input": {"type": "tool_use"}}
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
CUSTOM = {"type": "custom_tool_call", "call_id": "d", "name": "g", "input": "x"}
RESULT = {"type": "function_call_output", "call_id": "c", "output": "function_call"}


@pytest.mark.parametrize(
    ("parse", "said", "is_so"),
    [
        (chat.parse, {"messages": turn("1")}, False),
        (chat.parse, {"messages": turn("1") + turn("2")}, False),
        (chat.parse, {"messages": turn("1") + turn("2", "3")}, True),
        (chat.parse, {"messages": [{"role": "assistant", "tool_calls": None, "id": "id"}]}, False),
        (chat.parse, {"messages": [{"role": "assistant", "tool_calls": "id", "id": 1}]}, False),
        (messages.parse, {"messages": [{"role": "assistant", "content": [USE]}]}, False),
        (messages.parse, {"messages": [{"role": "assistant", "content": [USE, USE]}]}, True),
        (responses.parse, {"input": [CALL, RESULT, CUSTOM, RESULT]}, False),
        (responses.parse, {"input": [{"type": "web_search_call"}, CALL, RESULT]}, False),
        (responses.parse, {"input": [CALL, CUSTOM, RESULT, RESULT]}, True),
    ],
)
def test_a_turn_of_several_tool_calls_is_seen_wherever_it_stands(
    parse: Any, said: dict[str, Any], is_so: bool
) -> None:
    assert parse(json.dumps({"model": "m", **said}).encode()).calls_together() is is_so


def test_what_wants_vectors_needs_embeddings() -> None:
    assert embeddings.parse(b'{"model": "m", "input": "x"}').needs == Needs.EMBEDDINGS


def test_documents_do_not_count_as_text() -> None:
    file = {"filename": "a", "file_data": "data:application/pdf;base64," + "A" * 10_000}
    asked = [{"role": "user", "content": [{"type": "file", "file": file}]}]
    source = {"type": "base64", "media_type": "application/pdf", "data": "A" * 10_000}
    document = [{"role": "user", "content": [{"type": "document", "source": source}]}]
    body = json.dumps({"model": "m", "max_tokens": 5, "messages": document}).encode()

    assert chat.parse(chat_body(messages=asked)).text_bytes == 0
    assert messages.parse(body).text_bytes < 100


YESTERDAY = {
    "gpt-4o": {"context_tokens": 128000, "capabilities": ["tools", "images", "schema"]},
    "qwen3": {"context_tokens": 32768, "capabilities": ["tools"]},
    "bare": {"capabilities": []},
    "o4-mini": {"context_tokens": 200000},
}
"""As configurations had it before most capabilities were asked about."""


@pytest.mark.parametrize("name", YESTERDAY)
def test_a_list_of_yesterday_keeps_away_what_it_did_and_nothing_else(name: str) -> None:
    found = catalog(YESTERDAY[name])
    listed = YESTERDAY[name].get("capabilities", ["tools", "images", "audio", "schema"])

    for capability in Capability:
        was_asked = capability.value in ("tools", "images", "audio", "schema")
        is_kept = was_asked and capability.value not in listed
        reason = Exclusion.CAPABILITY if is_kept else None
        assert excluded(found, getattr(Needs, capability.name)) is reason, capability


@pytest.mark.parametrize(
    ("model", "host", "lacking"),
    [
        ({}, {}, 0),
        ({"capabilities": {"json": False}}, {}, Needs.JSON),
        ({"capabilities": {"tools": True}}, {}, 0),
        ({"capabilities": ["tools", "json"]}, {}, Needs.IMAGES | Needs.AUDIO | Needs.SCHEMA),
        ({"capabilities": {"json": False}}, {"capabilities": {"json": True, "audio": False}}, 4),
        (
            {"capabilities": {"json": False}},
            {"capabilities": ["images"]},
            Needs.JSON | Needs.TOOLS | Needs.AUDIO | Needs.SCHEMA,
        ),
        ({"reasoning": "never"}, {}, Needs.REASONING),
        ({"reasoning": "never"}, {"reasoning": "budget"}, 0),
        ({"reasoning": "budget"}, {"capabilities": {"reasoning": False}}, Needs.REASONING),
    ],
)
def test_a_host_says_of_each_capability_more_than_the_model(
    model: dict[str, Any], host: dict[str, Any], lacking: int
) -> None:
    assert catalog(model, **host).endpoints[0].capabilities == ALL & ~lacking


@pytest.mark.parametrize(
    ("model", "host", "reasoning"),
    [
        ({}, {}, None),
        ({"reasoning": "effort"}, {}, Reasoning.EFFORT),
        ({"reasoning": "effort"}, {"reasoning": "adaptive"}, Reasoning.ADAPTIVE),
        ({"reasoning": "effort"}, {"capabilities": {"reasoning": False}}, Reasoning.NEVER),
        ({"reasoning": "never"}, {"capabilities": ["reasoning"]}, None),
        ({"capabilities": {"reasoning": True}}, {}, None),
    ],
)
def test_how_thinking_is_asked_for_agrees_with_whether_there_is_any(
    model: dict[str, Any], host: dict[str, Any], reasoning: Reasoning | None
) -> None:
    found = catalog(model, **host).endpoints[0]

    assert found.reasoning is reasoning
    assert bool(found.capabilities & Needs.REASONING) is (reasoning is not Reasoning.NEVER)


def test_of_the_two_limits_of_output_the_lower_holds() -> None:
    found = catalog({"output_tokens": 100}, limits={"max_output_tokens": 50})

    assert excluded(found, max_tokens=50) is None
    assert excluded(found, max_tokens=51) is Exclusion.OUTPUT_LIMIT
    assert excluded(catalog({"output_tokens": 100}), max_tokens=101) is Exclusion.OUTPUT_LIMIT
    assert excluded(catalog({"output_tokens": 100}, output_tokens=200), max_tokens=101) is None
    assert excluded(catalog({"output_tokens": 100})) is None


@pytest.mark.parametrize(
    ("model", "place", "hint"),
    [
        ({"capabilities": ["tols"]}, "models.m.capabilities[0]", "Input should be 'tools'"),
        ({"capabilities": {"tols": True}}, "models.m.capabilities.tols", "Input should be"),
        ({"capabilities": {"tools": "yes"}}, "models.m.capabilities.tools", "write true"),
        ({"capabilities": {"tools": 1}}, "models.m.capabilities.tools", "write true or false"),
        ({"capabilities": "tools"}, "models.m.capabilities", "a list belongs here"),
        ({"output_tokens": 0}, "models.m.output_tokens", "greater than 0"),
        ({"reasoning": "hard"}, "models.m.reasoning", "'effort', 'budget', 'adaptive' or 'never'"),
        (
            {"capabilities": {"reasoning": True}, "reasoning": "never"},
            "models.m.reasoning",
            "the opposite",
        ),
        (
            {"capabilities": {"reasoning": False}, "reasoning": "effort"},
            "models.m.reasoning",
            "the opposite",
        ),
    ],
)
def test_what_is_no_profile_is_told_by_its_place(
    model: dict[str, Any], place: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        catalog(model)

    [problem] = caught.value.problems
    assert f" {place}: " in problem.shown("t.yaml")
    assert hint in problem.hint


def test_what_nobody_declared_is_shown_as_default_and_takes_no_line() -> None:
    found = catalog(None)

    [row] = profile_rows(found)

    assert row["context_tokens"] == {"value": None, "source": "default"}
    assert row["dialects"] == {"value": ["chat"], "source": "default"}
    assert row["capabilities"]["documents"] == {"value": True, "source": "default"}
    assert profile_lines([row]) == []


def test_dialects_are_declared_by_the_endpoint_or_its_provider() -> None:
    found = catalog(None, dialects=["messages", "chat"])

    [row] = profile_rows(found)

    assert row["dialects"] == {"value": ["messages", "chat"], "source": "declared"}
    assert json.loads(json.dumps(row)) == row


def test_hosts_of_one_profile_share_a_line() -> None:
    hosts = [
        {"id": name, "model": "m", "base_url": "http://h/v1", **more}
        for name, more in (("a", {}), ("b", {}), ("c", {"context_tokens": 4096}))
    ]
    model = {"context_tokens": 128000, "reasoning": "effort", "capabilities": {"audio": False}}
    found = compiled({"models": {"m": model}, "endpoints": hosts})

    lines = profile_lines(profile_rows(found))

    assert lines == [
        "profile of a, b, model m: context 128,000 tokens; can reasoning; cannot audio; "
        "reasoning by effort",
        "profile of c, model m: context 4,096 tokens; can reasoning; cannot audio; "
        "reasoning by effort",
    ]


PLAIN = {"documents": False, "parallel_tools": False}


def test_a_call_goes_where_its_need_is_met_and_the_owner_sees_why(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    value = {
        "endpoints": [
            endpoint(provider, "plain", capabilities=PLAIN, output_tokens=10),
            endpoint(provider, "reader"),
        ],
        "strategies": {"quality": {"objective": "quality", "incumbent": "plain"}},
        "apps": {"default": {"mode": "route", "strategy": "quality"}},
    }
    asked = [{"role": "user", "content": [FILE]}]
    with serving(value, state_dir, address) as sidecar:
        assert sidecar.chat("auto").headers["x-router-endpoint"] == "plain"
        assert sidecar.chat("auto", messages=asked).headers["x-router-endpoint"] == "reader"
        assert sidecar.chat("auto", max_tokens=11).headers["x-router-endpoint"] == "reader"
        found = sidecar.chat("auto", messages=turn("1", "2"))
        assert found.headers["x-router-endpoint"] == "reader"
        assert sidecar.chat("plain", messages=asked).headers["x-router-endpoint"] == "plain"
        body = {"model": "auto", "messages": asked}
        dry = sidecar.http.post("/v1/router/decide", json=body).json()
        rows = sidecar.http.get("/v1/router/endpoints").json()["endpoints"]
        known = sidecar.http.get("/v1/router/posteriors").json()["profiles"]

    assert dry["exclusions"] == {"plain": "capability: documents"}
    profile = rows[0]["profile"]
    assert profile["output_tokens"] == {"value": 10, "source": "declared"}
    assert profile["capabilities"]["documents"] == {"value": False, "source": "declared"}
    assert profile["capabilities"]["tools"] == {"value": True, "source": "default"}
    assert known[0] == {"endpoint": "plain", "model": "plain", **profile}
