"""Whatever comes in over HTTP: taken whole and as meant, or refused by name and without effect.

`FUZZ_TIMES=50 FUZZ_SEED=1 .venv/bin/pytest tests/test_fuzz_doors.py tests/test_fuzz_files.py` tries
fifty times as many inputs, and others.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from fuzzing import (
    DOORS,
    ODD,
    PASSING,
    SEED,
    Answered,
    Inside,
    each,
    inside,
    mutations,
    require_refusal,
    times,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.dialects import chat, opaque
from router.errors import RequestRejected
from router.intake.forms import once_each, split
from router.intake.items import VALUES
from telemetry import schemas
from telemetry.ingest import FEEDBACK_TYPE, OUTCOME_TYPE
from telemetry.numbers import SHOWN, brief, whole_of
from telemetry.store import Address

NOW = datetime.now(UTC).isoformat()
ONE = [(b"content-type", b"application/cloudevents+json")]
MANY = [(b"content-type", b"application/cloudevents-batch+json")]
JSON = [(b"content-type", b"application/json")]
FEEDBACK = (
    b'{"ref":"r-1","score":0.5,"kind":"judge","revision":3,"match":"all"}',
    b'[{"response_id":"x","passed":true},{"ref":7,"thumb":"up"}]',
    b'{"decision_id":"d-AAAA","edit_ratio":0.25}',
    b'{"ref":"q","retried":true}',
    b'{"ref":"q","score":null}',
)
CHAT = json.dumps(
    {
        "model": "auto",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]},
            {"role": "assistant", "content": "x"},
            {"role": "user", "content": "y"},
        ],
        "stream": False,
        "stream_options": {"include_usage": True},
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "response_format": {"type": "json_schema"},
        "max_tokens": 5,
        "n": 1,
        "user": "u",
        "prompt_cache_key": "k",
        "store": False,
        "metadata": {"router_ref": "r", "z": "1"},
        "router": {"task": "code", "strategy": "learn", "data_class": "public", "explore": True},
    },
    separators=(",", ":"),
).encode()
PLAIN_CHAT = b'{"model":"auto","messages":[{"role":"user","content":"x"}]}'

HINTED = {"metadata": {"router_ref": "r", "user_id": "u_session_12345678"}, "router": {"ref": "r"}}
MESSAGES = json.dumps(
    {
        "model": "claude-auto-learn",
        "max_tokens": 5,
        "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": [{"type": "image", "source": {"type": "base64"}}]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "input": {"a": 1}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]},
        ],
        "stream": False,
        "tools": [{"name": "f", "input_schema": {"type": "object"}}],
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "output_config": {"format": {"type": "json_schema", "schema": {}}},
        **HINTED,
    },
    separators=(",", ":"),
).encode()
RESPONSES = json.dumps(
    {
        "model": "auto/code",
        "instructions": "s",
        "input": [
            {"role": "developer", "content": [{"type": "input_text", "text": "d"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image"}]},
        ],
        "stream": False,
        "store": False,
        "tools": [{"type": "function", "name": "f", "parameters": {}}],
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}},
        "max_output_tokens": 5,
        "prompt_cache_key": "k",
        **HINTED,
    },
    separators=(",", ":"),
).encode()
PLAIN_RESPONSES = b'{"model":"auto","input":"x"}'


def outcome_event(**data: Any) -> dict[str, Any]:
    common = {"specversion": "1.0", "id": "1", "source": "/t", "type": OUTCOME_TYPE, "time": NOW}
    return {**common, "data": {"endpoint": "a", **data}}


def feedback_event(**data: Any) -> dict[str, Any]:
    common = {"specversion": "1.0", "id": "2", "source": "/t", "type": FEEDBACK_TYPE, "time": NOW}
    return {**common, "data": {"ref": "r", **data}}


WHOLE = outcome_event(
    task="code",
    result="ok",
    status=200,
    attempt=1,
    latency_s=0.5,
    ttft_s=0.1,
    streamed=True,
    tokens_in=10,
    tokens_out=3,
    tokens_cached=1,
    tokens_reasoning=0,
    cost_usd=0.25,
    response_id="x",
    ref="y",
    score=0.75,
    kind="judge",
)
EVENTS = tuple(
    json.dumps(each).encode()
    for each in (
        WHOLE,
        feedback_event(passed=True, revision=2, match="last"),
        [WHOLE, feedback_event(passed=True)],
    )
)


@pytest.fixture
def door(state_dir: Path, address: Address, store: object) -> Iterator[Inside]:
    with inside(DOORS, state_dir, address) as found:
        yield found


def sent(body: bytes) -> int:
    """How many things a body of JSON tells."""
    value = json.loads(body)
    return len(value) if isinstance(value, list) else 1


def without_effect(door: Inside, got: Answered, given: bytes, before: tuple[int, int]) -> None:
    require_refusal(got, given)
    assert (door.n_written, door.n_upstream) == before, "a refused input had an effect"


# -- random bytes --------------------------------------------------------------------------------


def test_feedback_is_taken_whole_or_refused_without_effect(door: Inside) -> None:
    def check(body: bytes) -> None:
        before, n_refused = door.n_written, sum(door.app.metrics.feedback.values())
        got = door.ask("POST", b"/v1/feedback", body)
        if got.status != 202:
            without_effect(door, got, body, (before, 0))
            assert sum(door.app.metrics.feedback.values()) == n_refused + 1
            return
        results = got.json["results"]
        assert len(results) == sent(body) == door.n_written - before

    each(mutations("feedback", 4000, *FEEDBACK), check)


def told(door: Inside, body: bytes, headers: list[tuple[bytes, bytes]], n: int | None) -> None:
    """Tell events and see that they are taken, all of them, or none."""
    before, accepted = door.n_written, door.app.metrics.ingested["accepted"]
    got = door.ask("POST", b"/v1/events", body, headers)
    if got.status != 202:
        without_effect(door, got, body + b"".join(map(b" ".join, headers)), (before, 0))
        assert door.app.metrics.ingested["accepted"] == accepted
        return
    taken = got.json
    n = sent(body) if n is None else n
    assert taken["accepted"] == taken["outcomes"] + taken["feedback"] == n
    assert door.n_written - before == door.app.metrics.ingested["accepted"] - accepted == n


def test_events_are_taken_all_or_none(door: Inside) -> None:
    def check(body: bytes) -> None:
        told(door, body, MANY if body.lstrip()[:1] == b"[" else ONE, None)

    each(mutations("events", 3500, *EVENTS), check)


def test_an_event_in_headers_is_taken_whole_or_refused(door: Inside) -> None:
    rng = random.Random(f"headers {SEED}")
    data = json.dumps(WHOLE["data"]).encode()
    odd = [o[:300] for o in ODD if b"\n" not in o and b"\r" not in o]
    odd += [b"%", b"%ff", b"%41", b"%00", b"x" * 300, b"\xff", b"", OUTCOME_TYPE.encode()]
    names = ("specversion", "id", "source", "type", "time")
    for body in mutations("binary", 2500, data):
        headers = [(f"ce-{name}".encode(), str(WHOLE[name]).encode()) for name in names]
        headers += rng.choice((JSON, [], [(b"content-type", rng.choice(odd))]))
        for _ in range(rng.choice((0, 1, 1, 2))):
            more = (b"ce-data", b"ce-", b"ce-x", b"ce-datacontenttype", b"content-encoding")
            name = rng.choice([name for name, _ in headers] + [*more])
            headers.insert(rng.randint(0, len(headers)), (name, rng.choice(odd)))

        told(door, body if rng.random() < 0.4 else data, headers, 1)


def test_a_dry_run_of_any_body_answers_and_writes_nothing(door: Inside) -> None:
    def check(body: bytes) -> None:
        got = door.ask("POST", b"/v1/router/decide", body)
        if got.status != 200:
            require_refusal(got, body)
        assert (door.n_written, door.n_upstream) == (0, 0)

    each(mutations("decide", 2500, CHAT, PLAIN_CHAT), check)


def test_a_call_with_any_body_is_made_once_or_refused_without_effect(door: Inside) -> None:
    def check(body: bytes) -> None:
        before = (door.n_written, door.n_upstream)
        got = door.ask("POST", b"/v1/chat/completions", body)
        if got.status != 200:
            without_effect(door, got, body, before)
            return
        assert (door.n_written, door.n_upstream) == (before[0] + 1, before[1] + 1)

    each(mutations("chat", 2500, CHAT, PLAIN_CHAT), check)


@pytest.mark.parametrize(
    ("path", "bodies"),
    [(b"/v1/messages", (MESSAGES, PLAIN_CHAT)), (b"/v1/responses", (RESPONSES, PLAIN_RESPONSES))],
    ids=["messages", "responses"],
)
def test_a_call_of_another_dialect_is_made_once_or_refused_without_effect(
    path: bytes, bodies: tuple[bytes, ...], door: Inside
) -> None:
    def check(body: bytes) -> None:
        before = (door.n_written, door.n_upstream)
        got = door.ask("POST", path, body)
        if got.status != 200:
            without_effect(door, got, body, before)
            return
        assert (door.n_written, door.n_upstream) == (before[0] + 1, before[1] + 1)

    each(mutations(path.decode(), 1500, *bodies), check)


def test_a_count_of_any_body_is_asked_for_or_refused_and_writes_nothing(door: Inside) -> None:
    def check(body: bytes) -> None:
        before = door.n_upstream
        got = door.ask("POST", b"/v1/messages/count_tokens", body)
        if got.status != 200:
            require_refusal(got, body)
        assert door.n_upstream == before + (got.status == 200)
        assert not door.n_written

    each(mutations("count", 1000, MESSAGES, PLAIN_CHAT), check)


def test_what_is_passed_on_may_hold_anything(
    state_dir: Path, address: Address, store: object
) -> None:
    def check(body: bytes) -> None:
        got = door.ask("POST", b"/v1/embeddings", body)
        if got.status != 200:
            require_refusal(got, body)

    unlisted = [body.replace(b'"auto"', b'"embedder"') for body in (CHAT, PLAIN_CHAT)]
    with inside(PASSING, state_dir, address) as door:
        each(mutations("passed", 1000, *unlisted), check)


HINTS = b"user|session-id|ref|explore|task|strategy|data-class|key|dry-run|timeout|deadline"
HEADERS = [b"x-router-" + name for name in HINTS.split(b"|")]
HEADERS += b"authorization|traceparent|origin|accept-encoding|content-encoding".split(b"|")
HEADERS += b"x-stainless-timeout|x-api-key|x-claude-code-session-id|content-type".split(b"|")


def test_odd_headers_are_read_or_refused(door: Inside) -> None:
    rng = random.Random(f"hints {SEED}")
    values = [b"", b"1", b"x" * 300, b"\xff\xfe", b"nan", b"1e400", b"-1", b"9" * 400, b"code"]
    values += [b"auto", b"restricted", b"learn", "é".encode(), b"long value " * 20, b"gzip"]
    for _ in range(times(2000)):
        path = rng.choice((b"/v1/router/decide", b"/v1/chat/completions"))
        headers = [(n, rng.choice(values)) for n in rng.sample(HEADERS, rng.randint(1, 5))]
        before = (door.n_written, door.n_upstream)
        got = door.ask("POST", path, rng.choice((CHAT, PLAIN_CHAT)), headers)
        if got.status != 200:
            without_effect(door, got, b" ".join(map(b" ".join, headers)), before)


PLACES = (
    b"/v1/models/",
    b"/v1/models",
    b"/v1/router/decisions/",
    b"/v1/router/decisions/d-" + b"A" * 80,
    b"/v1/router/posteriors",
    b"/v1/router/endpoints",
    b"/readyz?verbose",
    b"/metrics",
    b"/livez",
    b"/v1/events",
    b"/",
)
PIECES = b"a|/|..|%2e|%2F|%00|%|%ff|%25|;|?|&a=b|?app=x|//|\\|-|_|=|d-|%E2%82%AC|{}|V1/".split(b"|")


@pytest.mark.parametrize("value", [DOORS, PASSING])
def test_odd_paths_and_queries_are_answered(
    value: dict[str, Any], state_dir: Path, address: Address, store: object
) -> None:
    rng = random.Random(f"paths {SEED}")
    with inside(value, state_dir, address) as door:
        for _ in range(times(1200)):
            path = rng.choice(PLACES)
            for _ in range(rng.randint(0, 3)):
                at = rng.randint(0, len(path))
                path = path[:at] + rng.choice((*PIECES, b"A" * 300, b"\xff")) + path[at:]
            method = rng.choice(("GET", "GET", "GET", "POST", "DELETE", "HEAD", "BREW"))
            got = door.ask(method, path)
            if got.status != 200:
                require_refusal(got, path)


# -- one field at a time -------------------------------------------------------------------------

LONG = "a value as long as no message may repeat it, so that it has to be cut somewhere; " * 2
VALUES_OF_JSON = st.one_of(
    st.sampled_from([None, True, False, 0, 1, -1, 0.5, 1.0, 2**31, 2**32, 2**63, "", LONG, [], {}]),
    st.sampled_from(["up", "down", "test", "Judge", "last", "all", "ok", "timeout", "code", "a"]),
    st.integers(-3, 700),
    st.floats(-1, 2),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.none(), max_size=2),
)
ours = settings(
    max_examples=times(1500),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def require_named(error: dict[str, Any], field: str, value: object) -> None:
    """See that a refusal says which field, what it was, and what it must be."""
    message = error["message"]
    assert field in message
    assert error["param"].endswith(field)
    shown = (brief(value), "characters", "cannot be read by every reader", "as decision_id")
    shown += (brief(whole_of(value)),) if whole_of(value) is not None else ()  # `6.0` as 6
    assert any(each in message for each in shown)
    assert "; " in message


def is_right(field: str, value: Any) -> bool:
    """Whether a field of feedback may hold a value, by the wire protocol's own words."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    match field:
        case "score" | "edit_ratio":
            return value is None or (is_number and 0 <= value <= 1)
        case "passed":
            return value is None or isinstance(value, bool)
        case "thumb":
            return value is None or value in ("up", "down")
        case "retried":
            return value is None or value is True
        case "kind":
            kinds = ("derived", "judge", "edit", "human", "test")
            return isinstance(value, str) and value.lower() in kinds
        case "revision":
            return is_number and value == int(value) and 0 <= value < 2**32
        case "match":
            return value in (None, "last", "all")
    return is_id(value) and 0 < len(str(value)) <= 4096


def is_id(value: Any) -> bool:
    if isinstance(value, float):
        return value.is_integer() and abs(value) <= 2**53
    return isinstance(value, str | int) and not isinstance(value, bool)


@ours
@given(
    st.sampled_from((*VALUES, "kind", "revision", "match", "response_id", "ref")), VALUES_OF_JSON
)
def test_a_field_of_feedback_is_taken_as_documented_or_named(
    door: Inside, field: str, value: Any
) -> None:
    item = {"score": 0.5} if field not in VALUES else {}
    item |= {"ref": "r"} if field != "response_id" else {}
    item[field] = value
    body = json.dumps(item).encode()
    before = (door.n_written, door.n_upstream)

    got = door.ask("POST", b"/v1/feedback", body)

    assert (got.status == 202) is is_right(field, value)
    if got.status != 202:
        without_effect(door, got, body, before)
        require_named(got.json["error"], field, value)


SCHEMA = jsonschema_rs.validator_for(schemas.build()["outcome_event.json"])
FIELDS = [name for name in WHOLE["data"] if name != "endpoint"]


@ours
@given(st.sampled_from(FIELDS), VALUES_OF_JSON)
def test_a_field_of_an_event_is_taken_as_its_schema_says_or_named(
    door: Inside, field: str, value: Any
) -> None:
    data = {field: value}
    data |= {"score": 0.5} if field == "kind" else {}
    data |= {"tokens_in": 1, "tokens_out": 1, **data} if field.startswith("tokens") else {}
    event = outcome_event(**data)
    meant = outcome_event(**data)
    if field in ("response_id", "ref") and is_id(value) and not isinstance(value, str):
        meant["data"][field] = str(int(value))  # the one liberty: ids may be numbers
    before = (door.n_written, door.n_upstream)

    got = door.ask("POST", b"/v1/events", json.dumps(event).encode(), ONE)

    if got.status == 202:
        assert SCHEMA.is_valid(meant)
        return
    without_effect(door, got, json.dumps(event).encode(), before)
    pairs = field in ("tokens_in", "tokens_out") or (field == "kind" and value is None)
    assert pairs or not SCHEMA.is_valid(meant)
    if value is not None:
        require_named(got.json["error"], f"data.{field}", value)


# -- what was found so ---------------------------------------------------------------------------


def test_how_deep_a_body_is_nested_is_known_before_anything_is_done(door: Inside) -> None:
    """A body is read again, further in, to be rewritten: what passes here has to pass there."""
    for n in range(700, 1000):
        body = PLAIN_CHAT[:-1] + b',"x":' + b"[" * n + b"1" + b"]" * n + b"}"
        before = (door.n_written, door.n_upstream)
        got = door.ask("POST", b"/v1/chat/completions", body)
        if got.status != 200:
            without_effect(door, got, body, before)


def test_numbers_of_very_many_digits_are_no_fault_of_ours(door: Inside) -> None:
    body = PLAIN_CHAT[:-1] + b',"router":{},"x":["router",' + b"1" * 5000 + b"]}"

    assert door.ask("POST", b"/v1/chat/completions", body).status == 200


def test_a_name_with_half_a_surrogate_pair_travels_as_it_was_written() -> None:
    body = b'{"router":{},"metadata":{"router_ref":"r","\\ud801":2},"\\ud800":1}'

    assert opaque.take_hints(body).body == b'{"metadata":{"\\ud801":2},"\\ud800":1}'


def test_a_call_with_half_a_surrogate_pair_as_a_name_is_made(door: Inside) -> None:
    body = PLAIN_CHAT[:-1] + b',"\\ud800":1}'

    assert door.ask("POST", b"/v1/chat/completions", body).status == 200


def test_a_model_that_is_no_utf8_is_for_its_provider_to_refuse() -> None:
    body = b'{"model":"\xb5","router":{}}'

    passed = opaque.take_hints(body)

    assert (passed.body, passed.model) == (b'{"model":"\xb5"}', "")


TWICE = b'"router":{"data_class":"restricted","data_class":"public"}'


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (TWICE, "field 'data_class' is there twice; drop one (in router)"),
        (
            b'"router":{"tsk":"code"}',
            "unknown field 'tsk'; known: task, complexity, strategy, role",
        ),
        (b'"router":{"strateg":"x"}', "unknown field 'strateg'; did you mean strategy? known: "),
        (b'"router":{"task":7}', "Expected `str | null`, got `int` (in router.task)"),
    ],
)
def test_our_own_object_is_refused_by_name_at_either_door(said: bytes, told: str) -> None:
    body = PLAIN_CHAT[:-1] + b"," + said + b"}"

    for read in (chat.parse, opaque.take_hints):
        with pytest.raises(RequestRejected) as caught:
            read(body)
        assert str(caught.value).startswith(told)
        assert caught.value.param.startswith("router")


@pytest.mark.parametrize(
    ("body", "field", "shown"),
    [
        (b'{"ref":"r","score":1e400}', "score", "score is 1e400; it must be a finite number"),
        (b'[{"ref":"r","edit_ratio":NaN}]', "[0].edit_ratio", "[0].edit_ratio is NaN; it must be"),
        (b'{"ref":-Infinity,"score":1}', "ref", "ref is -Infinity; it must be a finite number"),
    ],
)
def test_feedback_that_only_a_number_keeps_from_being_json_is_refused_by_its_field(
    door: Inside, body: bytes, field: str, shown: str
) -> None:
    got = door.ask("POST", b"/v1/feedback", body)

    error = require_refusal(got, body)
    assert (error["code"], error["param"]) == ("bad_feedback", field)
    assert error["message"].startswith(shown)


FAR = "x" * 300


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/feedback", {"ref": "r", "score": 1, FAR: 1}),
        ("/v1/feedback", {"ref": "r", "score": 1, "kind": FAR}),
        ("/v1/events", outcome_event(**{FAR: 1})),
        ("/v1/events", outcome_event(task=FAR)),
        ("/v1/events", {**outcome_event(), "data": {"endpoint": FAR[:250]}}),
        ("/v1/router/decide", {**json.loads(PLAIN_CHAT), "model": FAR}),
        ("/v1/router/decide", {**json.loads(PLAIN_CHAT), "router": {FAR: 1}}),
        ("/v1/router/decide", {**json.loads(PLAIN_CHAT), "router": {"strategy": FAR}}),
        ("/v1/router/decide", {**json.loads(PLAIN_CHAT), "router": {"data_class": FAR}}),
        ("/v1/models/" + FAR, None),
        ("/v1/" + FAR, None),
        ("/v1/router/decisions/" + FAR, None),
    ],
)
def test_no_answer_repeats_more_than_the_beginning_of_a_wrong_value(
    door: Inside, path: str, body: object
) -> None:
    given = json.dumps(body).encode() if body is not None else path.encode()
    method = "GET" if body is None else "POST"
    got = door.ask(method, path.encode(), given if body is not None else b"", ONE)

    require_refusal(got, given)
    assert "x" * (SHOWN + 1) not in got.body.decode()


def test_a_warning_repeats_no_more_of_it_either(door: Inside) -> None:
    event = json.dumps(outcome_event(task=FAR[:250])).encode()

    got = door.ask("POST", b"/v1/events", event, ONE)

    assert got.status == 202
    assert FAR[:50] in got.body.decode()
    assert "x" * (SHOWN + 1) not in got.body.decode()


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ([(b"ce-id", b"2")], "ce-id"),
        ([(b"content-type", b"text/plain")], "content-type"),
        ([(b"ce-data", b"1")], "ce-data"),
        ([(b"ce-datacontenttype", b"text/plain")], "ce-datacontenttype"),
        ([(b"ce-subject", b"%ff")], "ce-subject"),
        ([(b"ce-subject", "é".encode())], "ce-subject"),
    ],
)
def test_headers_of_an_event_are_read_in_one_way_or_refused_by_name(
    more: list[tuple[bytes, bytes]], param: str
) -> None:
    headers = [*JSON, (b"ce-specversion", b"1.0"), (b"ce-id", b"1")]

    with pytest.raises(RequestRejected) as caught:
        split(b"{}", once_each([*headers, *more]))

    assert caught.value.param == param
    assert param in str(caught.value)
    assert split(b"{}", once_each([*headers, headers[0]]))  # the same twice is one
