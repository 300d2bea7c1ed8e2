"""The sidecar's pure parts: configuration, policy, tasks, constraints, dialect, seals, breakers."""

from __future__ import annotations

import json
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit.steps import Step
from router.config.compiled import Configuration, KeyHolder, compile_text
from router.config.entries import GENERAL, Fallback, MatchEntry, TaskEntry
from router.config.exclusions import Exclusion
from router.config.rules import PolicyRules
from router.decision import units
from router.decision.seal import Seal
from router.decision.shared_draws import StoredDraw
from router.dialects import chat
from router.dialects.chat_stream import ChatStream
from router.dialects.request import Structure
from router.endpoints.breaker import RULES, Trouble
from router.endpoints.capabilities import Capability, Needs
from router.endpoints.data_classes import DataClasses
from router.endpoints.entries import Dialect
from router.endpoints.health import Health
from router.endpoints.token_sizes import TokenSizes
from router.errors import ConfigError, RequestRejected
from router.intake.items import parse as parse_feedback
from router.policy.callers import Keys
from router.policy.constraints import Demand, Filter
from router.policy.route import find_route, incumbent_of, parse_model
from router.policy.standing import AppStanding, PolicyTable
from router.policy.tasks import FoundBy, categorize, matches
from router.report.models import model_list
from router.translation.translations import Translations
from telemetry.events import Result
from telemetry.secret import UnitSecrets
from telemetry.tokens import Token
from telemetry.wire.chat import parse_answer
from telemetry.wire.sse import EventSplitter, data_of, payloads

MINIMAL: dict[str, Any] = {
    "endpoints": [
        {"id": "first", "model": "big", "base_url": "http://127.0.0.1:1/v1"},
        {"id": "second", "model": "big", "base_url": "http://127.0.0.1:2/v1"},
        {"id": "other", "model": "small", "base_url": "http://127.0.0.1:3/v1"},
    ]
}


def configuration(**more: Any) -> Configuration:
    return compile_text(yaml.safe_dump({**MINIMAL, **more}), file="test.yaml")


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        compile_text(text, file="t.yaml")
    return [p.shown("t.yaml") for p in caught.value.problems]


# -- configuration ------------------------------------------------------------------------------

BROKEN = """\
server: {prot: 8787}
providers:
  openai: {base_url: "api.openai.com"}
endpoints:
  - {id: a, model: m, base_url: "http://h/v1", auth: {env: POINTSMAN_TEST_MISSING}}
  - {id: a, model: m, provider: opanai}
  - {id: c, model: m, base_url: "http://h/v1", prices: {input_usd_per_mtok: cheap}}
strategies:
  best: {incumbent: aa}
apps:
  default: {mode: rout, strategy: bset}
"""


def test_every_problem_comes_at_once_with_line_field_value_and_hint() -> None:
    """What is wrong in shape does not hide what one entry wrongly says of another."""
    found = problems(BROKEN)

    assert found[0].startswith("t.yaml:1: server.prot: prot: unknown key; did you mean 'port'?")
    assert any(p.startswith('t.yaml:3: providers.openai.base_url: "api.openai') for p in found)
    assert any("t.yaml:7: endpoints[2].prices.input_usd_per_mtok: cheap:" in p for p in found)
    assert any("t.yaml:7: endpoints[2].prices.output_usd_per_mtok: missing" in p for p in found)
    assert any(p.startswith("t.yaml:11: apps.default.mode: rout:") for p in found)
    assert any("t.yaml:5: endpoints[0].auth.env" in p and "export it" in p for p in found)
    assert any("t.yaml:6: endpoints[1].id: a: another endpoint has this id" in p for p in found)
    assert any("t.yaml:6: endpoints[1].provider" in p and "'openai'?" in p for p in found)
    assert any("t.yaml:9: strategies.best.incumbent: aa" in p for p in found)
    assert any("t.yaml:11: apps.default.strategy" in p and "'best'?" in p for p in found)
    assert len(found) == len(set(found))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"base_url": "http://h:99999/v1"}, "base_url"),
        ({"base_url": "http://[::1/v1"}, "base_url"),
        ({"base_url": "http://exa mple/v1"}, "base_url"),
        ({"base_url": "http://h/v1?x=1"}, "base_url"),
        ({"base_url": "file:///etc/passwd"}, "base_url"),
        ({"params": {"messages": []}}, "params"),
        ({"params": {"x": float("nan")}}, "params.x"),
        ({"dialects": []}, "dialects"),
        ({"upstream_model": ""}, "upstream_model"),
        ({"auth": "cleint"}, "auth"),
        ({"auth": {"env": "A", "file": "b"}}, "auth"),
        ({"auth": {"env": "HOME", "header": "bad header:"}}, "auth.header"),
        ({"auth": {"env": "CONTROL"}}, "auth.env"),
        ({"id": "none"}, "id"),
    ],
)
def test_what_would_fail_at_run_time_fails_the_check(
    change: dict[str, Any], field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTROL", "a\nb")
    entry = {"id": "x", "model": "m", "base_url": "http://h/v1", **change}

    found = problems(yaml.safe_dump({"endpoints": [entry]}))

    assert len(found) == 1, found
    assert f"endpoints[0].{field}:" in found[0]


def test_one_key_for_two_callers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K", "same")
    apps = {"a": {"keys": [{"env": "K"}]}, "b": {"keys": [{"env": "K"}]}}

    found = problems(yaml.safe_dump({**MINIMAL, "apps": apps}))

    assert any("the same key as apps.a.keys[0]" in p for p in found)


def test_reports_need_no_keys() -> None:
    auth = {"env": "POINTSMAN_TEST_MISSING"}
    entry = {"id": "x", "model": "m", "base_url": "http://h/v1", "auth": auth}
    text = yaml.safe_dump({"endpoints": [entry]})

    assert compile_text(text, file="t", secrets=False).catalog.endpoints[0].auth_header is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the file is empty"),
        ("# nothing\n", "the file is empty"),
        ("endpoints: &a [*a]\n", "refers to itself"),
        ("- a\n- b\n", "mapping that begins with endpoints"),
        ("endpoints: [}\n", "t.yaml:1: yaml"),
        ("endpoints: []\n", "the list is empty; name"),
        ("{}\n", "endpoints: missing"),
        ("endpoints:\n  - {id: auto, model: m, base_url: http://h}\n", "a meaning of its own"),
        ("endpoints:\n  - {id: 'a b', model: m, base_url: http://h}\n", "endpoints[0].id"),
        ("a: 1\na: 2\n", "stands twice"),
    ],
)
def test_a_file_that_is_none_gets_a_clear_error(text: str, says: str) -> None:
    assert any(says in p for p in problems(text)), problems(text)


def test_a_minimal_file_of_a_few_lines_works() -> None:
    found = configuration()

    assert [e.group for e in found.catalog.endpoints] == [0, 0, 1]
    incumbent = incumbent_of(standing(found))
    assert incumbent is found.catalog.endpoints[0]
    assert found.apps["default"].entry.mode == "observe"
    assert GENERAL in found.tasks


def test_settings_make_groups_and_models_make_families() -> None:
    low = {"reasoning_effort": "low"}
    found = configuration(
        endpoints=[
            {**MINIMAL["endpoints"][0]},
            {**MINIMAL["endpoints"][1], "params": low},
            {**MINIMAL["endpoints"][2], "model": "big", "params": low, "id": "third"},
            {**MINIMAL["endpoints"][0], "id": "odd", "equivalent": False},
            {**MINIMAL["endpoints"][0], "id": "veiled", "opaque": True},
        ]
    )

    assert [e.group for e in found.catalog.endpoints] == [0, 1, 1, 2, 3]
    assert len(set(found.catalog.arms.family)) == 1


def test_prices_are_no_part_of_an_endpoints_identity() -> None:
    one = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}
    plain = configuration().catalog.endpoints[0]
    priced = configuration(endpoints=[{**MINIMAL["endpoints"][0], "prices": one}])
    moved = configuration(endpoints=[{**MINIMAL["endpoints"][0], "base_url": "http://b/v1"}])

    assert priced.catalog.endpoints[0].digest == plain.digest
    assert moved.catalog.endpoints[0].digest != plain.digest


@pytest.mark.parametrize(
    ("auth", "header", "url"),
    [
        ({"env": "K"}, (b"authorization", b"Bearer s3cret"), "http://h/v1/chat/completions"),
        ({"env": "K", "header": "X-Api-Key"}, (b"x-api-key", b"s3cret"), None),
        (
            {"env": "K", "azure": {"deployment": "d", "api_version": "2026-01-01"}},
            (b"api-key", b"s3cret"),
            "http://h/v1/openai/deployments/d/chat/completions?api-version=2026-01-01",
        ),
        ("none", None, None),
        ("client", None, None),
    ],
)
def test_every_way_to_authenticate(
    auth: Any, header: Any, url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("K", "s3cret")
    entry = {"id": "x", "model": "m", "base_url": "http://h/v1", "auth": auth}

    found = configuration(endpoints=[entry]).catalog.endpoints[0]

    assert found.auth_header == header
    assert found.client_auth is (auth == "client")
    if url:
        assert str(found.target.url) == url


def test_a_key_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-file\n")
    auth = {"file": str(tmp_path / "key")}
    entry = {"id": "x", "model": "m", "base_url": "http://h/v1", "auth": auth}

    found = configuration(endpoints=[entry]).catalog.endpoints[0]

    assert found.auth_header == (b"authorization", b"Bearer from-file")


def test_bound_beyond_this_machine_keys_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    text = yaml.safe_dump({**MINIMAL, "server": {"host": "0.0.0.0"}})
    assert any("every app needs a key" in p for p in problems(text))

    monkeypatch.setenv("APP_KEY", "k")
    app = {"mine": {"keys": [{"env": "APP_KEY"}]}}
    assert configuration(server={"host": "0.0.0.0"}, apps=app).callers_keys == {
        sha256(b"k").digest(): KeyHolder("mine")
    }


def test_secrets_never_show_in_errors_or_representations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("K", "s3cret-value")
    entry = {"id": "x", "model": "m", "base_url": "http://h/v1", "auth": {"env": "K"}}
    text = yaml.safe_dump({"endpoints": [entry], "oops": 1})

    assert "s3cret-value" not in "\n".join(problems(text))


# -- policy -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "strategy", "task"),
    [
        ("auto", None, None),
        ("auto:fastest", "fastest", None),
        ("auto/code", None, "code"),
        ("auto:fastest/code", "fastest", "code"),
        ("claude-auto", None, None),
        ("claude-auto-fastest", "fastest", None),
        ("claude-auto:fastest/code", "fastest", "code"),
        ("claude-auto/code", None, "code"),
    ],
)
def test_what_auto_asks_for(model: str, strategy: str | None, task: str | None) -> None:
    target = parse_model(model)

    assert target.automatic
    assert (target.strategy, target.task) == (strategy, task)


def test_a_name_that_begins_like_ours_and_means_nothing_is_refused() -> None:
    with pytest.raises(RequestRejected, match="claude-auto-<strategy>"):
        parse_model("claude-automatic")


@pytest.mark.parametrize("model", ["automatic", "openrouter/auto", "claude-opus-9", "gpt-auto"])
def test_names_of_others_are_left_to_them(model: str) -> None:
    assert not parse_model(model).automatic


@pytest.mark.parametrize("name", ["auto", "auto/code", "claude-auto", "claude-auto-mine"])
def test_no_endpoint_goes_by_a_name_of_ours(name: str) -> None:
    entry = {"id": name, "model": "m", "base_url": "http://h/v1"}
    with pytest.raises(ConfigError, match="a meaning of its own"):
        compile_text(yaml.safe_dump({"endpoints": [entry]}), file="t")


@pytest.mark.parametrize(
    ("app", "model", "off", "first", "drawn", "fallback"),
    [
        ({"mode": "observe"}, "auto", False, "first", False, Fallback.ANY),
        ({"mode": "observe"}, "small", False, "other", False, Fallback.GROUP),
        ({"mode": "route"}, "auto", False, "first", True, Fallback.ANY),
        ({"mode": "route"}, "big", False, "first", True, Fallback.GROUP),
        ({"mode": "route"}, "small", False, "other", True, Fallback.GROUP),
        ({"mode": "route", "map_models": True}, "small", False, "other", True, Fallback.ANY),
        ({"mode": "route", "percent": 0}, "auto", False, "first", False, Fallback.ANY),
        ({"mode": "route"}, "second", False, "second", False, Fallback.NONE),
        ({"mode": "pinned", "endpoint": "other"}, "auto", False, "other", False, Fallback.NONE),
        ({"mode": "pinned", "endpoint": "other"}, "big", False, "other", False, Fallback.NONE),
        ({"mode": "route"}, "auto", True, "first", False, Fallback.ANY),
        ({"mode": "route"}, "small", True, "other", False, Fallback.GROUP),
        ({"mode": "route", "fallback": "any"}, "big", False, "first", True, Fallback.ANY),
    ],
)
def test_who_is_routed(
    app: dict[str, Any], model: str, off: bool, first: str, drawn: bool, fallback: Fallback
) -> None:
    found = configuration(apps={"default": app})

    got = find_route(
        parse_model(model),
        standing(found),
        found.catalog,
        dialect=Dialect.CHAT,
        share=0.5,
        off=off,
    )

    assert got is not None
    assert got.first is found.catalog.by_id[first]
    assert (got.law is not None) is drawn
    assert got.routed is drawn
    assert got.fallback is fallback


def test_a_named_model_stays_with_its_own_groups_unless_mapped() -> None:
    for mapped in (False, True):
        app = {"default": {"mode": "route", "map_models": mapped}}
        found = configuration(apps=app)
        got = find_route(
            parse_model("small"),
            standing(found),
            found.catalog,
            dialect=Dialect.CHAT,
            share=0.0,
            off=False,
        )
        assert got is not None
        assert got.groups == (None if mapped else frozenset({1}))


def test_a_model_that_nobody_lists_is_not_routed() -> None:
    found = configuration()

    got = find_route(
        parse_model("gpt-9"),
        standing(found),
        found.catalog,
        dialect=Dialect.CHAT,
        share=0,
        off=False,
    )
    assert got is None


# -- tasks --------------------------------------------------------------------------------------

TASKS = {
    "code": TaskEntry(match=MatchEntry(tools=["edit_file"])),
    "see": TaskEntry(match=MatchEntry(image=True)),
    "law": TaskEntry(match=MatchEntry(system=["Counsel"])),
    "form": TaskEntry(match=MatchEntry.model_validate({"schema": True})),
    GENERAL: TaskEntry(),
}


@pytest.mark.parametrize(
    ("hint", "default", "structure", "task"),
    [
        ("law", "code", Structure(has_image=True), "law"),
        (None, "code", Structure(has_image=True), "code"),
        (None, None, Structure(tools=("edit_file", "x")), "code"),
        (None, None, Structure(has_image=True), "see"),
        (None, None, Structure(system="You are legal counsel."), "law"),
        (None, None, Structure(has_schema=True), "form"),
        (None, None, Structure(), GENERAL),
        ("nonsense", "code", Structure(), GENERAL),
    ],
)
def test_hint_then_default_then_structure_then_general(hint, default, structure, task) -> None:
    said = ((FoundBy.HINT, hint), (FoundBy.ROLE, None), (FoundBy.APP, default))
    rules = tuple((name, entry.match) for name, entry in TASKS.items() if entry.match)
    found = categorize(said, structure, tasks=TASKS, rules=rules)

    assert found.name == task
    assert (found.warning is not None) is (hint == "nonsense")


def test_every_part_of_a_rule_must_hold() -> None:
    rule = MatchEntry(tools=True, image=True)

    assert not matches(rule, Structure(tools=("x",)))
    assert matches(rule, Structure(tools=("x",), has_image=True))


# -- constraints --------------------------------------------------------------------------------


def standing(found: Configuration) -> AppStanding:
    """Return what stands for the default app's calls that say nothing."""
    return found.derive(PolicyTable).usual(found.apps["default"])


def of_class(name: str) -> PolicyRules:
    return PolicyRules(data_class=DataClasses().by_name[name])


ASKED = b'{"model":"auto","messages":[{"role":"user","content":"hi"}]}'


def demand(**more: Any) -> Demand:
    value: dict[str, Any] = {
        "dialect": Dialect.CHAT,
        "needs": 0,
        "rules": of_class("internal"),
        "has_credential": False,
        "text_bytes": 100,
        "max_tokens": None,
        "translations": Translations(chat.parse(ASKED), begun_at_s=0.0),
    }
    return Demand(**{**value, **more})


IN_EU = PolicyRules(regions=frozenset({"eu"}))
RICH = {
    "models": {
        "big": {"context_tokens": 1000, "capabilities": ["tools", "images"]},
        "small": {"context_tokens": 100, "capabilities": []},
    },
    "endpoints": [
        {**MINIMAL["endpoints"][0], "region": "eu", "max_data_class": "restricted"},
        {**MINIMAL["endpoints"][1], "limits": {"max_output_tokens": 50, "max_in_flight": 1}},
        {**MINIMAL["endpoints"][2], "auth": "client"},
    ],
}


@pytest.mark.parametrize(
    ("asked", "reasons"),
    [
        ({"has_credential": True}, [None, None, None]),
        ({}, [None, None, Exclusion.CLIENT_KEY]),
        ({"needs": Needs.TOOLS, "has_credential": True}, [None, None, Exclusion.CAPABILITY]),
        ({"needs": Needs.SCHEMA, "has_credential": True}, [Exclusion.CAPABILITY] * 3),
        ({"rules": of_class("confidential")}, [None, "data_class", "data_class"]),
        (
            {"rules": PolicyRules(regions=frozenset({"eu"}))},
            [None, Exclusion.REGION, Exclusion.REGION],
        ),
        ({"text_bytes": 1200, "has_credential": True}, [None, None, Exclusion.CONTEXT]),
        ({"text_bytes": 12_000, "has_credential": True}, [Exclusion.CONTEXT] * 3),
        ({"max_tokens": 60, "has_credential": True}, [None, Exclusion.OUTPUT_LIMIT, None]),
    ],
)
def test_every_exclusion_has_its_reason(asked: dict[str, Any], reasons: list[Any]) -> None:
    catalog = configuration(**RICH).catalog

    found = Filter(catalog).apply(demand(**asked), Health(), TokenSizes(), 0.0, at_s=0.0)

    assert list(found.reasons) == reasons
    assert found.mask.tolist() == [r is None for r in reasons]


def test_open_breakers_and_full_endpoints_are_excluded() -> None:
    catalog = configuration(**RICH).catalog
    health = Health()
    first, second, _ = (endpoint.digest for endpoint in catalog.endpoints)
    for _ in range(RULES[Trouble.FAILING].failures):
        health.begin(first, 0.0)
        health.end(first, Result.SERVER, 0.0)
    health.begin(second, 0.0)

    found = Filter(catalog).apply(demand(has_credential=True), health, TokenSizes(), 0.1, at_s=0.1)

    assert list(found.reasons) == [Exclusion.BREAKER, Exclusion.IN_FLIGHT, None]


# -- dialect ------------------------------------------------------------------------------------

BIG = 123456789012345678901234567890


def request_body(**more: Any) -> bytes:
    return json.dumps(
        {"model": "auto", "messages": [{"role": "user", "content": "hi"}], **more}
    ).encode()


def test_the_original_bytes_pass_where_nothing_must_change() -> None:
    endpoint = configuration().catalog.endpoints[2]
    body = b'{ "messages":[{"role":"user","content":"hi"}],  "model":"small", "x": 1e400 }'

    assert chat.parse(body).rewritten(endpoint) == (body, False)


def test_a_rewrite_touches_the_top_level_only() -> None:
    endpoint = configuration(
        endpoints=[{**MINIMAL["endpoints"][0], "params": {"reasoning_effort": "high"}}]
    ).catalog.endpoints[0]
    nested = '{"a" :  [1.0e0, ' + str(BIG) + ', "\\u00e9"]}'
    body = (
        '{"model":"auto","messages":[{"role":"user","content":"hi"}],"unknown":'
        + nested
        + ',"router":{"task":"code"},"metadata":{"router_ref":"r","mine":"m"},"stream":true}'
    ).encode()

    out, hide = chat.parse(body).rewritten(endpoint)

    top = json.loads(out)
    assert hide is True
    assert nested.encode() in out
    assert top["model"] == "big"
    assert "router" not in top
    assert top["metadata"] == {"mine": "m"}
    assert top["stream_options"] == {"include_usage": True}
    assert top["reasoning_effort"] == "high"


def test_a_client_that_asks_for_usage_gets_its_chunk() -> None:
    endpoint = configuration().catalog.endpoints[0]
    body = request_body(stream=True, stream_options={"include_usage": True, "other": BIG})

    out, hide = chat.parse(body).rewritten(endpoint)

    assert hide is False
    assert str(BIG).encode() in out


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
@settings(max_examples=60)
def test_unknown_fields_survive_a_rewrite(value: Any) -> None:
    endpoint = configuration().catalog.endpoints[0]
    body = request_body(unknown=value)

    out, _ = chat.parse(body).rewritten(endpoint)

    assert json.loads(out)["unknown"] == value


IMAGE = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]


@pytest.mark.parametrize(
    ("more", "needs"),
    [
        ({}, 0),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, Needs.TOOLS),
        ({"response_format": {"type": "json_schema"}}, Needs.SCHEMA),
        ({"response_format": {"type": "text"}}, 0),
        ({"messages": [{"role": "user", "content": IMAGE}]}, Needs.IMAGES),
        ({"messages": [{"role": "user", "content": 'say "image_url"'}]}, 0),
        ({"unknown": {"type": "image_url"}}, 0),
    ],
)
def test_what_a_request_needs(more: dict[str, Any], needs: int) -> None:
    body = request_body(**more)

    assert chat.parse(body).needs == needs


def test_images_do_not_count_as_text() -> None:
    image = [{"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10_000}}]
    body = request_body(messages=[{"role": "user", "content": image}])
    parsed = chat.parse(body)

    assert parsed.text_bytes == 0


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"not json", "invalid_json"),
        (b"\xff\xfe", "invalid_json"),
        (b"[" * 100_000, "invalid_request"),
        (b'{"model":"m","messages":' + b"[" * 100_000, "invalid_json"),
        (b"[]", "invalid_request"),
        (b'{"messages":[]}', "invalid_request"),
        (b'{"model":"m"}', "invalid_request"),
        (b'{"model":7,"messages":[{}]}', "invalid_request"),
        (b'{"model":"m","messages":[]}', "invalid_request"),
        (b'{"model":"m","messages":[{}],"router":{"tsk":"x"}}', "unknown_field"),
    ],
)
def test_bad_bodies_are_refused_by_name(body: bytes, code: str) -> None:
    with pytest.raises(RequestRejected) as caught:
        chat.parse(body)

    assert caught.value.code == code
    assert caught.value.status == 400


def test_a_conversation_continues_before_its_last_assistant_turn() -> None:
    def turn(role: str, text: str) -> dict[str, str]:
        return {"role": role, "content": text}

    first = [turn("system", "s"), turn("user", "u1")]
    second = [*first, turn("assistant", "a1"), turn("user", "u2")]
    asked = chat.parse(request_body(messages=first))
    continued = chat.parse(request_body(messages=second)).earlier()

    assert continued == asked.conversation()
    assert asked.earlier() is None


# -- streams ------------------------------------------------------------------------------------


def sse(*values: Any) -> bytes:
    return b"".join(b"data: " + msgspec.json.encode(v) + b"\n\n" for v in values)


ROLE = {"id": "c1", "choices": [{"delta": {"role": "assistant", "content": ""}}]}
WORD = {"id": "c1", "choices": [{"delta": {"content": "hé"}}]}
FINISH = {"id": "c1", "choices": [{"delta": {}, "finish_reason": "stop"}]}
USAGE = {"id": "c1", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}
WHOLE = sse(ROLE, WORD, WORD, FINISH, USAGE) + b"data: [DONE]\n\n"


LINE_ENDS = (b"\n", b"\r\n", b"\r")


def with_line_ends(data: bytes, ends: list[bytes]) -> bytes:
    """The same stream with other line ends, which may differ from line to line."""
    out, before = b"", b""
    *lines, last = data.split(b"\n")
    for i, line in enumerate(lines):
        end = ends[i % len(ends)]
        if not line and before == b"\r" and end == b"\n":
            end = b"\r\n"  # a CR and a LF behind it would be one line end
        out, before = out + line + end, end
    return out + last


@given(
    st.lists(st.integers(0, 2 * len(WHOLE)), max_size=12),
    st.booleans(),
    st.lists(st.sampled_from(LINE_ENDS), min_size=1, max_size=5),
)
def test_however_a_stream_is_cut_into_pieces_it_reads_the_same(cuts, hide, ends) -> None:
    data = with_line_ends(WHOLE, ends)
    places = sorted({0, len(data), *(min(c, len(data)) for c in cuts)})
    stream = ChatStream(hide_usage=hide)
    passed = b"".join(stream.feed(data[a:b]) for a, b in pairwise(places))
    passed += stream.flush()

    kept = [d for d in payloads(data) if not (hide and b"usage" in d)]
    assert list(payloads(passed)) == kept
    if not hide:
        assert passed == data
    assert stream.id == "c1"
    assert stream.spoke
    assert stream.is_whole(ended_well=False)
    assert stream.usage is not None
    assert stream.usage.completion_tokens == 4


@pytest.mark.parametrize(
    "data",
    [
        b"data: {}\n\n: ping\r\n\r\ndata: {}\n\n",
        b"data: {}\n\r\ndata: {}\r\n\n",
        b"data: {}\r\rdata: {}\r\r",
        b"\xef\xbb\xbfdata: {}\n\ndata: {}\n\n",
        b"event: x\ndata: {}\nid: 1\n\ndata:{}\n\n",
    ],
)
def test_lines_end_as_the_standard_says(data: bytes) -> None:
    splitter = EventSplitter()

    found = [data_of(event) for event in splitter.feed(data)]

    assert [d for d in found if d] == [b"{}", b"{}"]
    assert splitter.n_held == 0


@given(st.integers(0, len(WHOLE) - 1), st.booleans(), st.booleans())
def test_only_whole_events_pass_however_a_stream_is_cut(place, hide, ended_well) -> None:
    stream = ChatStream(hide_usage=hide)
    passed = stream.feed(WHOLE[:place])
    if ended_well:
        passed += stream.flush()

    assert passed == b"" or passed.endswith(b"\n\n")
    assert all(d == b"[DONE]" or msgspec.json.decode(d) for d in payloads(passed))
    told = place >= len(sse(ROLE, WORD, WORD, FINISH)) - (2 if ended_well else 0)
    assert stream.is_whole(ended_well=ended_well) is told


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "x"},
        {"reasoning": "x"},
        {"reasoning_content": "x"},
        {"reasoning_text": "x"},
        {"reasoning_details": [{"text": "x"}]},
        {"refusal": "no"},
        {"tool_calls": [{"index": 0}]},
        {"function_call": {"name": "f"}},
        {"audio": {"data": "AAAA"}},
        {"images": [{"image_url": {"url": "data:,"}}]},
        {"something_new": {"x": 1}},
    ],
)
def test_anything_but_a_role_and_empty_text_is_content(delta: dict[str, Any]) -> None:
    stream = ChatStream(hide_usage=False)
    stream.feed(sse(ROLE))
    stream.feed(sse({"choices": [{"delta": {"content": None, "refusal": None}}]}))
    assert not stream.spoke

    stream.feed(sse({"choices": [{"delta": delta}]}))

    assert stream.spoke


def piece(text: str, finish: str | None = None, index: int = 0) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": {"content": text}, "finish_reason": finish}]}


@pytest.mark.parametrize(
    ("values", "trusted"),
    [
        ([piece("a"), piece("b"), FINISH], True),
        ([piece("a"), piece("b", "stop")], True),
        ([piece("a", "stop")], False),  # with the first content
        ([piece("a", "stop"), piece("b", "stop")], False),  # with every piece
        ([piece("a"), piece("b", "stop"), piece("c")], False),  # content came after it
        ([piece("a"), piece("b")], False),
        ([FINISH], False),  # no content: who knows
    ],
)
def test_a_finish_reason_is_believed_after_content_and_before_none(
    values: list[Any], trusted: bool
) -> None:
    stream = ChatStream(hide_usage=False)
    stream.feed(sse(*values))

    assert stream.trusted is trusted
    assert stream.is_whole(ended_well=False) is trusted


def test_every_choice_has_to_finish() -> None:
    stream = ChatStream(hide_usage=False, n_choices=2)
    stream.feed(sse(piece("a"), piece("b", index=1), piece("", "stop")))
    assert not stream.finished

    stream.feed(sse(piece("", "stop", index=1)))

    assert stream.trusted


def test_nothing_passes_from_an_event_on_that_cannot_be_read() -> None:
    stream = ChatStream(hide_usage=False)

    passed = stream.feed(sse(WORD) + b": comment\n\ndata: {oops\n\n" + sse(WORD))
    later = stream.feed(sse(WORD, FINISH) + b"data: [DONE]\n\n")

    assert passed == sse(WORD) + b": comment\n\n"
    assert later == b""
    assert stream.unreadable
    assert not stream.is_whole(ended_well=True)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"error": {"message": "overloaded"}}, True),
        ({"choices": [{"delta": {}, "error": {"code": 502, "message": "x"}}]}, False),
        ({"choices": [{"delta": {}, "finish_reason": "error"}]}, False),
        ({"choices": [{"delta": {}, "finish_reason": "network_error"}]}, False),
    ],
)
def test_what_says_that_it_failed_is_no_answer(value: dict[str, Any], told: bool) -> None:
    stream = ChatStream(hide_usage=False)
    stream.feed(sse(WORD, value, FINISH) + b"data: [DONE]\n\n")

    assert stream.failed
    assert stream.told is told
    assert not stream.is_whole(ended_well=True)


@pytest.mark.parametrize(
    "choice",
    [
        {"message": None},
        {"finish_reason": "error", "message": {"role": "assistant", "content": ""}},
        {"finish_reason": "network_error", "message": {"content": "x"}},
        {"error": {"message": "x"}, "message": {"content": ""}},
    ],
)
def test_a_whole_answer_that_failed_is_none(choice: dict[str, Any]) -> None:
    good = {"message": {"content": "hello"}, "finish_reason": "stop"}

    assert parse_answer(msgspec.json.encode({"choices": [good]})) is not None
    assert parse_answer(msgspec.json.encode({"choices": [good, choice]})) is None


def test_an_event_that_never_ends_is_not_held_for_ever() -> None:
    stream = ChatStream(hide_usage=False)
    for _ in range(17):
        stream.feed(b"data: " + b"x" * (1 << 20))

    assert stream.unreadable


# -- seals, keys, feedback ------------------------------------------------------------------------

TOKEN = Token(0, 1, 0, b"n" * 16, 1, 2, 3, 4, 5, 6, 7, 8, 0.5, 0.5, 0.1)


def sealed(seal: Seal) -> str:
    return seal.close(msgspec.structs.replace(TOKEN, key_id=seal.key_id).pack())


def seal_of(*keys: bytes) -> Seal:
    return Seal(lambda: keys)


def test_a_decision_id_opens_to_what_was_sealed() -> None:
    seal = seal_of(b"k" * 32)

    token, body = seal.open(sealed(seal))

    assert token.executed == 4
    assert body == token.pack()


@given(st.integers(0, 151), st.sampled_from("ABCDabcd0189-_"))
@settings(max_examples=300)
def test_a_changed_decision_id_is_refused(place: int, character: str) -> None:
    seal = seal_of(b"k" * 32)
    good = sealed(seal)
    place %= len(good)
    bad = good[:place] + character + good[place + 1 :]
    if bad == good:
        return

    with pytest.raises(RequestRejected) as caught:
        seal.open(bad)
    assert caught.value.status == 400


@pytest.mark.parametrize("text", ["", "d-", "d-%%%", "x" * 200, "d-" + "A" * 10_000, "d-é"])
def test_what_is_no_decision_id_is_refused(text: str) -> None:
    with pytest.raises(RequestRejected):
        seal_of(b"k" * 32).open(text)


def test_another_sidecars_ids_are_refused_and_a_rotated_keys_are_not() -> None:
    old, new = seal_of(b"o" * 32), seal_of(b"n" * 32)
    with pytest.raises(RequestRejected):
        new.open(sealed(old))

    assert seal_of(b"n" * 32, b"o" * 32).open(sealed(old))


def test_keys_are_told_apart_and_never_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A", "key-a")
    monkeypatch.setenv("ADMIN", "key-admin")
    found = configuration(
        apps={"a": {"keys": [{"env": "A"}]}}, server={"admin_key": {"env": "ADMIN"}}
    )
    keys = Keys(found)

    assert keys.caller({b"authorization": b"Bearer key-a"}).app.name == "a"
    assert keys.caller({b"authorization": b"Bearer key-a"}).credentials == ()
    mixed = {b"x-router-key": b"key-a", b"authorization": b"Bearer sk-own"}
    assert keys.caller(mixed).credentials == ((b"authorization", b"Bearer sk-own"),)
    both = {b"x-router-key": b"key-a", b"authorization": b"Bearer key-admin"}
    assert keys.caller(both).credentials == ()
    for headers in ({}, {b"authorization": b"Bearer no"}, {b"x-router-key": b"key-admin"}):
        with pytest.raises(RequestRejected):
            keys.caller(headers)


def test_without_keys_any_key_belongs_to_default_and_may_be_passed_on() -> None:
    keys = Keys(configuration())

    caller = keys.caller({b"authorization": b"Bearer sk-own"})

    assert caller.app.name == "default"
    assert caller.credentials == ((b"authorization", b"Bearer sk-own"),)


@pytest.mark.parametrize(
    ("said", "value", "kind"),
    [
        ({"passed": True}, 1.0, "TEST"),
        ({"passed": False}, 0.0, "TEST"),
        ({"thumb": "up"}, 1.0, "HUMAN"),
        ({"thumb": "down"}, 0.0, "HUMAN"),
        ({"score": 0.7}, 0.7, "JUDGE"),
        ({"score": 0}, 0.0, "JUDGE"),
        ({"edit_ratio": 0.2}, 0.8, "EDIT"),
        ({"retried": True}, 0.0, "DERIVED"),
        ({"score": None}, None, "JUDGE"),
        ({"score": 0.3, "kind": "human"}, 0.3, "HUMAN"),
    ],
)
def test_what_feedback_means(said: dict[str, Any], value: float | None, kind: str) -> None:
    (item,) = parse_feedback(json.dumps({"ref": "r", **said}).encode())

    assert item.kind.name == kind
    assert item.value == (None if value is None else pytest.approx(value))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"ref": "r", "score": 1.5}, "score"),
        ({"ref": "r", "score": -0.1}, "score"),
        ({"ref": "r", "score": "5"}, "score"),
        ({"ref": "r", "score": True}, "score"),
        ({"ref": "r", "passed": 1}, "passed"),
        ({"ref": "r", "thumb": "sideways"}, "thumb"),
        ({"ref": "r", "retried": False}, "retried"),
        ({"ref": "r"}, "score"),
        ({"ref": "r", "score": 1, "passed": True}, "passed"),
        ({"ref": "r", "passed": True, "thumb": "up"}, "thumb"),
        ({"score": 1}, "decision_id"),
        ({"ref": "r", "response_id": "x", "score": 1}, "ref"),
        ({"ref": "", "score": 1}, "ref"),
        ({"ref": "r" * 4097, "score": 1}, "ref"),
        ({"ref": 7.5, "score": 1}, "ref"),
        ({"ref": True, "score": 1}, "ref"),
        ({"ref": ["r"], "score": 1}, "ref"),
        ({"ref": "r", "score": 1, "kind": "boss"}, "kind"),
        ({"ref": "r", "score": 1, "kind": "Derıved"}, "kind"),
        ({"ref": "r", "score": 1, "kind": ["test"]}, "kind"),
        ({"ref": "r", "score": 1, "revision": -1}, "revision"),
        ({"ref": "r", "score": 1, "match": "first"}, "match"),
        ({"ref": "r", "score": 1, "comment": "x"}, "comment"),
        ([{"ref": "r", "score": 1}, {"ref": "r", "score": 2}], "[1].score"),
        ([], None),
        ("text", None),
    ],
)
def test_bad_feedback_names_its_field(body: Any, field: str | None) -> None:
    with pytest.raises(RequestRejected) as caught:
        parse_feedback(json.dumps(body).encode())

    assert caught.value.status == 400
    assert caught.value.param == field


@pytest.mark.parametrize("raw", [b'{"ref":"r","score":NaN}', b'{"ref":"r","score":1e999}'])
def test_numbers_that_are_none_are_refused(raw: bytes) -> None:
    with pytest.raises(RequestRejected):
        parse_feedback(raw)


# -- sessions -----------------------------------------------------------------------------------


SECRETS = UnitSecrets(b"k" * 32, None, since_ms=0)


def unit(**more: Any) -> units.Unit:
    value = {
        "secrets": SECRETS,
        "app": "shop",
        "app_digest": 1,
        "user": None,
        "session": None,
        "stateless": False,
        "now": 0.0,
        "draw_key": "s",
    }
    return units.unit_of(**{**value, **more})


def test_units_are_sessions_then_slots_of_users_then_of_apps() -> None:
    assert unit(session="x", now=0.0).key == unit(session="x", now=1e6).key
    assert unit(session="x").key != unit(session="y").key
    assert unit(now=599.0).key == unit(now=1.0).key != unit(now=601.0).key
    assert unit(user="u", now=80_000.0).key == unit(user="u", now=1.0).key
    assert unit(user="u").key != unit(user="v").key
    assert unit(stateless=True).key is None
    assert unit(stateless=True, session="x").key is not None
    assert unit(draw_key="s").key != unit(draw_key="t").key
    assert unit(app_digest=1).key != unit(app_digest=2).key


def test_uniforms_depend_on_the_unit_and_on_nothing_else() -> None:
    first = units.uniforms(b"k" * 32, b"unit", "scope")

    assert first == units.uniforms(b"k" * 32, b"unit", "scope")
    assert first != units.uniforms(b"k" * 32, b"tinu", "scope")
    assert first != units.uniforms(b"x" * 32, b"unit", "scope")
    assert all(0 <= u < 1 for u in (first.row, first.host, first.stay, first.share))


def test_a_stored_draw_comes_back_and_garbage_does_not() -> None:
    given_ = StoredDraw(5, 0.25, 1000, 7, Step.SAMPLE)

    assert StoredDraw.unpack(given_.pack()) == given_
    assert StoredDraw.unpack(b"garbage") is None
    assert StoredDraw.unpack(given_.pack()[:-1] + b"\xff") is None


def test_models_are_listed_as_openai_lists_them() -> None:
    listed = model_list(configuration(), Dialect.CHAT)

    ids = [m["id"] for m in listed["data"]]
    assert listed["object"] == "list"
    assert {"auto", "auto:fastest", "first", "second", "big", "small"} <= set(ids)
    assert len(ids) == len(set(ids))


def test_capabilities_and_their_bits_agree() -> None:
    assert {c.name for c in Capability} == {n for n in vars(Needs) if n.isupper()}


def test_balanced_is_the_same_in_a_replay_as_in_the_sidecar() -> None:
    from workers.replay.command import STRATEGIES

    found = configuration(strategies={"balanced": {"value_usd": 0.05}}).strategies
    for name, objective in STRATEGIES.items():
        assert found[name].objective == objective
