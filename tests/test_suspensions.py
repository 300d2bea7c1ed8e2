"""What an endpoint refuses and others take: remembered, passed over, probed, and shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import (
    Provider,
    Reply,
    Seen,
    Sidecar,
    answer,
    chunks,
    default_reply,
    endpoint,
    serving,
)

from router.dispatch.fates import Fate, read_refusal
from router.endpoints.suspensions import (
    FORGOTTEN_S,
    MAX_MARKS,
    REFUSALS_TO_SUSPEND,
    SUSPENDED_S,
    Fields,
    Refused,
    Suspensions,
    refused_in,
)
from telemetry.store import Address

BODY: Fields = {"model": b'"m"', "messages": b"[{}]", "temperature": b"0.2", "logprobs": b"true"}


def error(code: str = "", message: str = "", param: str | None = None) -> bytes:
    return json.dumps({"error": {"code": code, "message": message, "param": param}}).encode()


# -- what was refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "parameter", "of_value"),
    [
        (error("unsupported_parameter", "no", "logprobs"), "logprobs", False),
        (error("unsupported_value", "no", "temperature"), "temperature", True),
        (error("unsupported_parameter", "no", "tools[0].function.strict"),
         "tools[0].function.strict", False),
        (error("", "Unsupported parameter: 'max_tokens' is not supported with this model."),
         "max_tokens", False),
        (error("", "Unsupported value: 'temperature' does not support 0.2 with this model."),
         "temperature", True),
        (error("", "Unrecognized request argument supplied: logit_bias"), "logit_bias", False),
        (error("", "Unknown parameter: 'foo'."), "foo", False),
        (error("", "top_k: Extra inputs are not permitted"), "top_k", False),
        (error("", "'seed' is not supported"), "seed", False),
        (error("", "property 'seed' is unsupported"), "seed", False),
        (error("", 'Unknown name "seed": Cannot find field.'), "seed", False),
        (error("", "this model does not support parameter seed."), "seed", False),
        (error("", "Extra inputs are not permitted, field: 'seed'"), "seed", False),
        (b'{"code": "x", "error": "Argument not supported on this model: seed"}', "seed", False),
        (b'{"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}',
         "seed", False),
        (error("", "This model does not support 'tools'"), "tools", False),
        (error("", "This model does not support images"), "", False),
    ],
)  # fmt: skip
def test_the_field_that_does_not_fit_is_read(body: bytes, parameter: str, of_value: bool) -> None:
    found = read_refusal(400, body, client_auth=False)

    assert (found.fate, found.parameter, found.of_value) == (Fate.FIT, parameter, of_value)


def test_under_the_callers_own_key_a_missing_model_says_nothing_of_others() -> None:
    assert read_refusal(400, error("model_not_found"), client_auth=True).parameter == ""


def test_a_caller_s_own_mistake_names_nothing() -> None:
    found = read_refusal(400, error("invalid_type", "no", "temperature"), client_auth=False)

    assert (found.fate, found.parameter) == (Fate.REQUEST, "")


@pytest.mark.parametrize(
    ("path", "of_value", "whole"),
    [
        ("logprobs", False, True),
        ("temperature", True, False),
        ("model", True, True),  # its value is the endpoint's own
        ("tools[0].function.strict", False, False),
        ("response_format.type", False, False),
    ],
)
def test_what_is_refused_is_a_parameter_or_what_it_held(
    path: str, of_value: bool, whole: bool
) -> None:
    found = refused_in({**BODY, "response_format": b"{}", "tools": b"[]"}, path, of_value=of_value)

    assert found is not None
    assert (found.value is None) is whole


@pytest.mark.parametrize(
    "path", ["", "seed", "stream_options", "a b", "x" * 65, "messages", "messages[1].content"]
)
def test_what_says_nothing_of_other_bodies_is_not_remembered(path: str) -> None:
    fields = {**BODY, "a b": b"1", "x" * 65: b"1"}

    assert refused_in(fields, path, of_value=False) is None


# -- the memory ---------------------------------------------------------------------------------


def suspended(refused: Refused, *, at: float = 0.0) -> Suspensions:
    found = Suspensions()
    said = [found.note_refusal(refused, at) for _ in range(REFUSALS_TO_SUSPEND)]
    assert said == [False, False, True]
    return found


def holds(found: Suspensions, now: float, **fields: bytes) -> bool:
    return found.holds(lambda: {**BODY, **fields}, now)


def test_three_refusals_suspend_for_calls_that_carry_the_same() -> None:
    found = suspended(Refused("logprobs"))

    assert holds(found, 1.0)
    assert not found.holds(lambda: {"model": b'"m"'}, 1.0)
    assert not holds(found, SUSPENDED_S)  # then it is probed


def test_a_refused_value_is_remembered_as_that_value_only() -> None:
    refused = refused_in(BODY, "temperature", of_value=True)
    assert refused is not None
    found = suspended(refused)

    assert holds(found, 1.0)
    assert not holds(found, 1.0, temperature=b"1")


def test_a_probe_that_is_refused_suspends_at_once_and_one_that_is_taken_ends_it() -> None:
    found = suspended(Refused("logprobs"))
    assert found.note_refusal(Refused("logprobs"), SUSPENDED_S + 1)
    assert holds(found, SUSPENDED_S + 2)

    found.note_accepted(BODY, SUSPENDED_S + 2)
    assert not holds(found, SUSPENDED_S + 2)
    assert found.marks == {}


def test_what_is_taken_in_between_is_no_rule() -> None:
    found = Suspensions()
    for _ in range(3 * REFUSALS_TO_SUSPEND):
        assert not found.note_refusal(Refused("logprobs"), 0.0)
        found.note_accepted(BODY, 0.0)

    assert not holds(found, 0.0)


def test_what_is_remembered_is_bounded() -> None:
    found = Suspensions()
    for n in range(3 * MAX_MARKS):
        found.note_refusal(Refused("temperature", str(n).encode()), 0.0)

    assert len(found.marks) == MAX_MARKS


def test_what_suspends_is_not_forgotten_for_what_was_refused_once() -> None:
    found = suspended(Refused("logprobs"))
    for n in range(3 * MAX_MARKS):
        found.note_refusal(Refused("temperature", str(n).encode()), 1.0)

    assert holds(found, 1.0)


def test_what_was_not_refused_for_an_hour_is_forgotten() -> None:
    found = Suspensions()
    found.note_refusal(Refused("seed"), 0.0)
    found.note_accepted(BODY, FORGOTTEN_S - 1)
    assert list(found.marks) == [Refused("seed")]
    found.note_accepted(BODY, FORGOTTEN_S)

    assert found.marks == {}


# -- over HTTP ----------------------------------------------------------------------------------


def two(provider: Provider, **more: Any) -> dict[str, Any]:
    """`a` is the incumbent of an app that may fall back anywhere."""
    endpoints = [endpoint(provider, "a", **more), endpoint(provider, "b")]
    return {"endpoints": endpoints, "apps": {"default": {"mode": "route", "fallback": "any"}}}


def refusing(name: str, *, code: str = "unsupported_parameter") -> Callable[[Seen], Reply]:
    def reply(call: Seen) -> Reply:
        if name in call.json:
            return Reply(status=400, body=error(code, "no", name))
        return default_reply(call)

    return reply


def shown(sidecar: Sidecar) -> Any:
    return sidecar.http.get("/v1/router/endpoints").json()["endpoints"][0]["suspended"]


def test_a_refused_parameter_goes_elsewhere_after_three_and_other_calls_do_not(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", refusing("logprobs"))
    with serving(two(provider), state_dir, address) as sidecar:
        got = [sidecar.chat(text=f"{n}", logprobs=True) for n in range(6)]
        plain = sidecar.chat(text="plain")
        rows = shown(sidecar)
        text = sidecar.http.get("/metrics").text

        assert {r.status_code for r in got} == {200}
        assert provider.hosts() == ["a", "b"] * 3 + ["b"] * 3 + ["a"]
        assert plain.headers["x-router-endpoint"] == "a"
        assert [(r["parameter"], r["only_a_value"]) for r in rows] == [("logprobs", False)]
        assert 'router_endpoint_suspensions{endpoint="a"} 1.0' in text
        assert not sidecar.app.health.is_open(sidecar.digest("a"))


def test_a_refused_value_goes_elsewhere_and_another_value_does_not(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    def reply(call: Seen) -> Reply:
        if call.json.get("temperature") == 0.2:
            return Reply(status=400, body=error("unsupported_value", "no", "temperature"))
        return default_reply(call)

    provider.on("a", reply)
    with serving(two(provider), state_dir, address) as sidecar:
        for n in range(4):
            assert sidecar.chat(text=f"{n}", temperature=0.2).status_code == 200
        other = sidecar.chat(temperature=1)
        (row,) = shown(sidecar)

    assert provider.hosts() == ["a", "b"] * 3 + ["b", "a"]
    assert other.headers["x-router-endpoint"] == "a"
    assert row["only_a_value"] is True
    assert "0.2" not in json.dumps(row)


def test_a_model_that_is_not_there_rests_its_endpoint(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", Reply(status=400, body=error("model_not_found", "no such model")))
    with serving(two(provider), state_dir, address) as sidecar:
        for n in range(5):
            assert sidecar.chat(text=f"{n}").status_code == 200

    assert provider.hosts() == ["a", "b"] + ["b"] * 4


def test_what_nobody_takes_suspends_nobody(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    for host in "ab":
        provider.on(host, refusing("logprobs"))
    with serving(two(provider), state_dir, address) as sidecar:
        got = [sidecar.chat(text=f"{n}", logprobs=True).status_code for n in range(5)]
        assert shown(sidecar) == []

    assert got == [400] * 5


def test_where_nobody_else_may_serve_a_suspended_endpoint_still_gets_the_call(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", refusing("logprobs"))
    with serving(two(provider), state_dir, address) as sidecar:
        for n in range(3):
            sidecar.chat(text=f"{n}", logprobs=True)
        assert len(shown(sidecar)) == 1
        provider.on("a", Reply(body=answer()))  # mended meanwhile
        provider.on("b", Reply(status=400, body=error("unsupported_parameter", "no", "logprobs")))
        got = sidecar.chat(text="last", logprobs=True)

        assert got.headers["x-router-endpoint"] == "a"
        assert shown(sidecar) == []  # it took it: no rule any more


# -- a field of ours ----------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize(
    "body",
    [
        error("unsupported_parameter", "no", "stream_options"),
        error("", "Unrecognized request argument supplied: stream_options"),
        error("invalid", "include_usage: unknown"),
        b'{"detail": [{"loc": ["body", "stream_options"], "msg": "Extra inputs"}]}',
        b"stream_options not allowed",
    ],
)
def test_a_stream_whose_usage_cannot_be_asked_for_is_served_all_the_same(
    provider: Provider, state_dir: Path, address: Address, body: bytes, status: int
) -> None:
    def reply(call: Seen) -> Reply:
        if "stream_options" in call.json:
            return Reply(status=status, body=body)
        return Reply(chunks=chunks("hel", "lo"))

    provider.on("a", reply)
    with serving({"endpoints": [endpoint(provider, "a")]}, state_dir, address) as sidecar:
        got = [sidecar.chat(text=f"{n}", stream=True) for n in range(3)]
        row = sidecar.http.get("/v1/router/endpoints").json()["endpoints"][0]
        text = sidecar.http.get("/metrics").text

    assert {r.status_code for r in got} == {200}
    assert all(r.text.endswith("data: [DONE]\n\n") for r in got)
    assert {r.headers["x-router-attempts"] for r in got} == {"1"}
    assert ["stream_options" in call.json for call in provider.calls] == [True] + [False] * 3
    assert row["refuses_stream_options"] is True
    assert 'router_attempts_total{endpoint="a",result="ok",task="general"} 3.0' in text
    assert 'router_cost_usd_total{endpoint="a"}' not in text


def test_stream_options_of_the_callers_own_are_the_callers(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    body = error("unsupported_parameter", "no", "stream_options")
    provider.on("a", Reply(status=400, body=body))
    with serving({"endpoints": [endpoint(provider, "a")]}, state_dir, address) as sidecar:
        asked = {"stream": True, "stream_options": {"include_usage": True}}
        got = sidecar.chat(**asked)
        row = sidecar.http.get("/v1/router/endpoints").json()["endpoints"][0]

    assert (got.status_code, got.content) == (400, body)
    assert len(provider.calls) == 1
    assert row["refuses_stream_options"] is False


def test_options_that_are_refused_without_ours_too_are_no_reason_to_ask_for_less(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    body = error("unsupported_parameter", "no", "stream_options")
    provider.on("a", Reply(status=400, body=body))
    with serving({"endpoints": [endpoint(provider, "a")]}, state_dir, address) as sidecar:
        got = sidecar.chat(stream=True, stream_options={"include_obfuscation": False})
        row = sidecar.http.get("/v1/router/endpoints").json()["endpoints"][0]

    assert (got.status_code, got.content) == (400, body)
    assert row["refuses_stream_options"] is False
