"""A sidecar over real HTTP, a real worker that folds into a real store, the real SDK.

What needs no worker has no real store either.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from conftest import (
    LEARN,
    ROUTED,
    Provider,
    Reply,
    Running,
    Sidecar,
    answer,
    chunks,
    endpoint,
    event,
    learning,
    pointsman,
    serving,
)

from router.decision.context import Moment
from router.decision.units import APP_SLOT_S
from router.net.exchange import Exchange
from telemetry import keys
from telemetry.embedded import PrivateServer
from telemetry.store import Address, connect
from workers.folding.learner import Learner


@pytest.fixture
def learner(store: PrivateServer, learner: Learner) -> Learner:
    return learner


def sdk(sidecar: Sidecar, **more: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{sidecar.url}/v1", api_key="any", max_retries=0, **more)


# -- the real SDK -------------------------------------------------------------------------------


def test_the_sdk_chats_streams_calls_tools_and_lists_models(
    sidecar: Sidecar, provider: Provider
) -> None:
    with sdk(sidecar) as client:
        messages: Any = [{"role": "user", "content": "hi"}]
        plain = client.chat.completions.create(model="auto", messages=messages)
        assert plain.choices[0].message.content == "hello"
        assert plain.model in ("a", "b")

        with client.chat.completions.create(model="auto", messages=messages, stream=True) as found:
            words = [c.choices[0].delta.content or "" for c in found if c.choices]
        assert "".join(words) == "hello"

        tools: Any = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
        call = {"id": "t1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        body = json.loads(answer())
        body["choices"] = [{"index": 0, "message": message, "finish_reason": "tool_calls"}]
        for host in "ab":
            provider.on(host, Reply(body=json.dumps(body).encode()))
        used = client.chat.completions.create(model="auto", messages=messages, tools=tools)
        assert used.choices[0].message.tool_calls[0].function.name == "look"
        assert provider.calls[-1].json["tools"] == tools

        names = {m.id for m in client.models.list()}
        assert {"auto", "auto:learn", "a", "b"} <= names


@pytest.mark.parametrize("streamed", [False, True])
def test_the_sdk_gives_feedback_in_three_lines(
    sidecar: Sidecar, learner: Any, streamed: bool
) -> None:
    with sdk(sidecar) as client:
        messages: Any = [{"role": "user", "content": "hi"}]
        if streamed:
            with client.chat.completions.create(
                model="auto", messages=messages, stream=True
            ) as found:
                answer_id = [chunk.id for chunk in found][-1]
        else:
            answer_id = client.chat.completions.create(model="auto", messages=messages).id

        body = {"response_id": answer_id, "passed": True}
        client.post("/feedback", body=body, cast_to=object)

    sidecar.until(lambda: sidecar.labels_known() == 1)


def test_an_sdk_error_has_openais_shape(sidecar: Sidecar) -> None:
    with sdk(sidecar) as client, pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-9", messages=[{"role": "user", "content": "x"}])

    assert caught.value.code == "model_not_found"
    assert "gpt-9" in caught.value.message


# -- bytes --------------------------------------------------------------------------------------


def test_an_answers_bytes_pass_unchanged(sidecar: Sidecar, provider: Provider) -> None:
    body = b'{ "id":"x",  "choices":[{"x":1.0e0}], "huge": 12345678901234567890123, "\\u00e9":1}'
    provider.on("a", Reply(body=body, headers={"openai-processing-ms": "7"}))

    got = sidecar.chat("a")

    assert got.content == body
    assert got.headers["openai-processing-ms"] == "7"
    assert got.headers["x-router-endpoint"] == "a"
    assert got.headers["x-router-attempts"] == "1"
    assert got.headers["x-router-propensity"] == "1"
    assert "decide;dur=" in got.headers["server-timing"]


@pytest.mark.parametrize("asked", [False, True])
def test_a_streams_bytes_pass_but_for_the_usage_chunk_that_only_we_asked_for(
    sidecar: Sidecar, provider: Provider, asked: bool
) -> None:
    sent = [b": hi\n\n", *chunks("ä", "b", usage=True)]
    provider.on("a", Reply(chunks=sent, chunk_delay_s=0.002))

    more = {"stream_options": {"include_usage": True}} if asked else {}
    got = sidecar.chat("a", stream=True, **more)

    expected = [c for c in sent if asked or b'"usage"' not in c]
    assert got.content == b"".join(expected)
    assert got.headers["content-type"].startswith("text/event-stream")
    assert provider.calls[-1].json["stream_options"] == {"include_usage": True}


def test_a_requests_bytes_pass_unchanged_where_nothing_must_change(
    sidecar: Sidecar, provider: Provider
) -> None:
    body = b'{"messages" : [ {"role":"user","content":"\\u00e9"} ],"model":"a","seed":1e2,"x":[9]}'

    sidecar.http.post("/v1/chat/completions", content=body)

    assert provider.calls[-1].body == body


def test_only_the_callers_harmless_headers_travel(sidecar: Sidecar, provider: Provider) -> None:
    headers = {
        "authorization": "Bearer sk-secret",
        "cookie": "c=1",
        "x-router-task": "code",
        "openai-organization": "org",
        "ocp-apim-subscription-key": "sub",
        "openai-beta": "assistants=v2",
        "traceparent": "00-1",
    }

    sidecar.chat("a", headers=headers)

    seen = provider.calls[-1].headers
    assert "authorization" not in seen
    assert "cookie" not in seen
    assert not any(name.startswith("x-router") for name in seen)
    assert "openai-organization" not in seen  # it belongs to the caller's key, not to ours
    assert "ocp-apim-subscription-key" not in seen
    assert seen["openai-beta"] == "assistants=v2"
    assert seen["traceparent"] == "00-1"
    assert seen["accept-encoding"] == "identity"


# -- routing ------------------------------------------------------------------------------------


def test_the_loop_closes(sidecar: Sidecar, learner: Any) -> None:
    """Calls are dispatched, outcomes fold, and the next calls are chosen by them."""
    for i in range(40):
        got = sidecar.chat("auto/code", headers={"x-router-session-id": f"s{i}"})
        good = got.headers["x-router-endpoint"] == "b"
        said = sidecar.feedback(
            decision_id=got.headers["x-router-decision-id"], score=0.9 if good else 0.1
        )
        assert said.status_code == 202
    sidecar.until(lambda: sidecar.calls_known() == 40 and sidecar.labels_known() == 40)

    later = Counter(
        sidecar.chat("auto/code", headers={"x-router-session-id": f"t{i}"}).headers[
            "x-router-endpoint"
        ]
        for i in range(40)
    )

    assert later["b"] >= 36
    report = sidecar.http.get("/v1/router/posteriors").json()
    rows = {r["endpoint"]: r for r in report["rows"] if r["category"] == "code"}
    assert rows["b"]["p_best"] > 0.95
    assert rows["a"]["calls"] + rows["b"]["calls"] >= 40


def test_a_session_stays_put_and_sessions_differ(sidecar: Sidecar) -> None:
    served: dict[int, set[str]] = {}
    for i in range(60):
        session = i % 20
        got = sidecar.chat(headers={"x-router-session-id": f"s{session}"}, text=f"word {i}")
        served.setdefault(session, set()).add(got.headers["x-router-endpoint"])

    assert all(len(endpoints) == 1 for endpoints in served.values())
    assert len(set.union(*served.values())) == 2


def test_a_session_id_of_any_length_and_script_keeps_its_session(sidecar: Sidecar) -> None:
    for session in ("s" * 300, "t" * 5000, "Gespräch №7".encode()):
        headers: Any = {"x-router-session-id": session}
        got = [sidecar.chat(headers=headers, text=f"word {i}") for i in range(6)]

        assert {r.status_code for r in got} == {200}
        assert len({r.headers["x-router-endpoint"] for r in got}) == 1


@pytest.mark.slow
def test_one_changed_word_never_changes_endpoint_or_task(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    value = {
        "endpoints": [endpoint(provider, name, "a") for name in "abcdef"],
        "tasks": {"code": {"match": {"tools": ["edit"]}}, "law": {"match": {"system": ["legal"]}}},
        "strategies": LEARN,
        "apps": ROUTED,
    }
    text = "please look at the signal box near junction {} and tell me what the code of law says"
    with serving(value, state_dir, address) as sidecar:
        left_s = APP_SLOT_S - time.time() % APP_SLOT_S
        time.sleep(left_s if left_s < 20 else 0)  # the slot must not end here
        got = {
            (r.headers["x-router-endpoint"], r.headers["x-router-task"])
            for r in (sidecar.chat(text=text.format(f"word{i}")) for i in range(500))
        }

    assert len(got) == 1


def test_a_conversation_without_a_session_keeps_its_endpoint_in_the_next_slot(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    value = {
        "endpoints": [endpoint(provider, name, "a") for name in "abcdefgh"],
        "strategies": LEARN,
        "apps": ROUTED,
    }
    clock = 1_790_000_000.0
    with serving(
        value, state_dir, address, clock=lambda: Moment(clock, time.monotonic())
    ) as sidecar:
        first: list[dict[str, str]] = [{"role": "user", "content": "first question"}]
        before = sidecar.chat(messages=first).headers["x-router-endpoint"]
        kept, fresh = set(), set()
        for slot in range(1, 9):
            clock += 700
            turns = [*first, {"role": "assistant", "content": "hello"}]
            turns.append({"role": "user", "content": f"and {slot}?"})
            kept.add(sidecar.chat(messages=turns).headers["x-router-endpoint"])
            fresh.add(sidecar.chat(text=f"new {slot}").headers["x-router-endpoint"])

    assert kept == {before}
    assert len(fresh) > 1


@pytest.mark.usefixtures("store")  # several at once
def test_two_processes_give_a_session_the_same_endpoint(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    value = {
        "endpoints": [endpoint(provider, name, "a") for name in "abcdef"],
        "strategies": LEARN,
        "apps": ROUTED,
    }
    with (
        serving(value, state_dir, address) as one,
        serving(value, state_dir, address) as two,
    ):
        for i in range(30):
            headers = {"x-router-session-id": f"s{i}"}
            assert (
                one.chat(headers=headers).headers["x-router-endpoint"]
                == two.chat(headers=headers).headers["x-router-endpoint"]
            )


@pytest.mark.slow
@pytest.mark.usefixtures("store")  # a worker folds
def test_an_incumbent_without_feedback_keeps_everything(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    value = {
        "endpoints": [
            endpoint(provider, "inc-a", "a", model="inc"),
            endpoint(provider, "inc-b", "b", model="inc"),
            endpoint(
                provider, "cheap", "c", prices={"input_usd_per_mtok": 0, "output_usd_per_mtok": 0}
            ),
        ],
        "apps": {"default": {"mode": "route", "strategy": "quality"}},
    }
    with serving(value, state_dir, address) as sidecar, learning(state_dir, address):
        served = Counter()
        for i in range(800):
            got = sidecar.chat(headers={"x-router-session-id": f"s{i}"})
            served[got.headers["x-router-endpoint"]] += 1
        assert not any(
            r["quality"] for r in sidecar.http.get("/v1/router/posteriors").json()["rows"]
        )

    assert set(served) <= {"inc-a", "inc-b"}
    assert sum(served.values()) == 800


@pytest.mark.slow
@pytest.mark.usefixtures("store")  # a worker folds
@pytest.mark.parametrize("strategy", ["priced", "quality"])
def test_new_sessions_leave_the_slower_of_two_equal_hosts(
    provider: Provider, state_dir: Path, address: Address, strategy: str
) -> None:
    provider.on("slow", lambda _: Reply(body=answer(), delay_s=0.15))
    provider.on("quick", lambda _: Reply(body=answer()))
    value = {
        "endpoints": [
            endpoint(provider, "slow", model="same"),
            endpoint(provider, "quick", model="same"),
        ],
        "strategies": {"priced": {"objective": "balanced", "value_usd": 0.05}},
        "apps": {"default": {"mode": "route", "strategy": strategy}},
    }
    with serving(value, state_dir, address) as sidecar, learning(state_dir, address):
        for i in range(40):
            sidecar.chat(headers={"x-router-session-id": f"w{i}"})
        sidecar.until(lambda: sidecar.calls_known() == 40)
        served = Counter(
            sidecar.chat(headers={"x-router-session-id": f"s{i}"}).headers["x-router-endpoint"]
            for i in range(100)
        )

    assert served["quick"] >= 80


def test_a_share_of_sessions_is_routed(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    value = {
        "endpoints": [endpoint(provider, "a"), endpoint(provider, "b")],
        "strategies": LEARN,
        "apps": {"default": {"mode": "route", "strategy": "learn", "percent": 40}},
    }
    with serving(value, state_dir, address) as sidecar:
        served = Counter(
            sidecar.chat(headers={"x-router-session-id": f"s{i}"}).headers["x-router-endpoint"]
            for i in range(300)
        )

    assert served["b"] / 300 == pytest.approx(0.2, abs=0.09)  # half of the forty per cent


def test_observe_serves_the_named_model_and_draws_nothing(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    value = {
        "endpoints": [
            endpoint(provider, "a"),
            endpoint(provider, "b1", model="b"),
            endpoint(provider, "b2", model="b"),
        ]
    }
    with serving(value, state_dir, address) as sidecar:
        named = {sidecar.chat("b", text=str(i)).headers["x-router-endpoint"] for i in range(20)}
        auto = {sidecar.chat(text=str(i)).headers["x-router-endpoint"] for i in range(20)}

    assert named == {"b1"}
    assert auto == {"a"}


def test_the_dry_run_explains_and_sends_nothing(sidecar: Sidecar, provider: Provider) -> None:
    body = {"model": "auto/code", "messages": [{"role": "user", "content": "x"}]}

    got = sidecar.http.post("/v1/router/decide", json=body).json()

    assert provider.calls == []
    assert sum(got["propensities"].values()) == pytest.approx(1)
    assert got["task"] == "code"
    assert got["learning_mode"] is True
    assert got["endpoint"] in ("a", "b")
    assert sidecar.chat("auto/code", text="x").headers["x-router-endpoint"] == got["endpoint"]


def test_an_unknown_task_is_served_with_a_warning(sidecar: Sidecar) -> None:
    got = sidecar.chat(headers={"x-router-task": "poetry"})

    assert got.status_code == 200
    assert got.headers["x-router-task"] == "general"
    assert "poetry" in got.headers["x-router-warning"]


# -- failures -----------------------------------------------------------------------------------

FAULTS = {
    "429": Reply(status=429, body=b"{}", headers={"retry-after": "1"}),
    "500": Reply(status=500, body=b"{}"),
    "503": Reply(status=503, body=b"oops"),
    "reset": Reply(reset=True),
    "no answer in it": Reply(body=b'{"error": {"message": "x"}}'),
    "html": Reply(body=b"<html>"),
}


MOMENTARY = {"429", "500", "503", "reset"}
"""What may well be over in a moment: the same endpoint is asked once more."""


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_failure_goes_on_to_the_next_endpoint(
    provider: Provider, state_dir: Path, address: Address, fault: str, streamed: bool
) -> None:
    provider.on("a", FAULTS[fault])
    value = {"endpoints": [endpoint(provider, "a"), endpoint(provider, "b")]}
    with serving(value, state_dir, address) as sidecar:
        got = sidecar.chat(stream=streamed)

        assert got.status_code == 200
        asked = ["a", "a", "b"] if fault in MOMENTARY else ["a", "b"]
        assert got.headers["x-router-endpoint"] == "b"
        assert got.headers["x-router-attempts"] == str(len(asked))
        assert provider.hosts() == asked


@pytest.mark.parametrize("model", ["m", "auto", "a"])
@pytest.mark.parametrize("mode", ["observe", "route"])
def test_an_endpoint_that_stays_down_is_an_error_never_a_crash(
    provider: Provider, state_dir: Path, address: Address, mode: str, model: str
) -> None:
    provider.on("a", Reply(status=500, body=b"{}"))
    value = {
        "endpoints": [endpoint(provider, "a", model="m")],
        "apps": {"default": {"mode": mode}},
    }
    with serving(value, state_dir, address) as sidecar:
        headers = {"x-router-session-id": "s"}
        got = [sidecar.chat(model, headers=headers) for _ in range(8)]

    assert {(r.status_code, r.content) for r in got} == {(500, b"{}")}
    assert not any("x-should-retry" in r.headers for r in got)
    assert len(provider.calls) <= 1.2 * len(got) + 3


@pytest.mark.parametrize("odd", [{"id": 7}, {"usage": {"prompt_tokens": "3"}}, {"usage": 5}])
@pytest.mark.parametrize("huge", [2**70, -1, 3.5])
def test_odd_figures_of_a_provider_cost_no_answer(
    sidecar: Sidecar, provider: Provider, learner: Any, odd: dict[str, Any], huge: float
) -> None:
    body = {**json.loads(answer()), "usage": {"prompt_tokens": huge}, **odd}
    provider.on("a", Reply(body=json.dumps(body).encode()))

    assert sidecar.chat("a").status_code == 200
    sidecar.until(lambda: sidecar.calls_known() == 1)


def test_every_choice_of_a_stream_is_waited_for(sidecar: Sidecar, provider: Provider) -> None:
    def piece(index: int, delta: dict[str, str], reason: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "finish_reason": reason}
        return event({"id": "c", "choices": [choice]})

    sent = [piece(0, {"content": "x"}), piece(0, {}, "stop"), piece(1, {"content": "y"})]
    provider.on("a", Reply(chunks=sent, cut=True))

    assert b"stream_cut" in sidecar.chat("a", stream=True, n=2).content


def test_a_stream_cut_inside_an_event_still_tells_of_it(
    sidecar: Sidecar, provider: Provider
) -> None:
    provider.on("a", Reply(chunks=[*chunks("one", finish=False), b'data: {"cho'], cut=True))

    got = sidecar.chat("a", stream=True, stream_options={"include_usage": True})

    last = got.content.strip().split(b"\n\n")[-1]
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "stream_cut"


def test_fallback_any_reaches_beyond_a_named_models_hosts_when_routed(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", Reply(status=500, body=b"{}"))
    value = {
        "endpoints": [endpoint(provider, "a", model="m"), endpoint(provider, "b")],
        "apps": {"default": {"mode": "route", "fallback": "any"}},
    }
    with serving(value, state_dir, address) as sidecar:
        assert sidecar.chat("m").headers["x-router-endpoint"] == "b"


def test_a_host_that_is_not_there_is_a_failure_too(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    nobody = endpoint(provider, "a", base_url="http://127.0.0.1:9/v1")
    with serving({"endpoints": [nobody, endpoint(provider, "b")]}, state_dir, address) as sidecar:
        assert sidecar.chat().headers["x-router-endpoint"] == "b"


@pytest.mark.parametrize(
    ("app", "model", "tried"),
    [
        ({"mode": "observe"}, "m", ["a", "b"]),
        ({"mode": "observe", "fallback": "any"}, "m", ["a", "b", "c"]),
        ({"mode": "observe", "fallback": "none"}, "m", ["a"]),
        ({"mode": "pinned", "endpoint": "a"}, "m", ["a"]),
        ({"mode": "observe"}, "auto", ["a", "b", "c"]),
        ({"mode": "observe"}, "a", ["a"]),
    ],
)
def test_how_far_a_failed_call_may_go(
    provider: Provider,
    state_dir: Path,
    address: Address,
    app: dict[str, Any],
    model: str,
    tried: list[str],
) -> None:
    for host in "abc":
        provider.on(host, Reply(status=404, body=host.encode()))  # of its key or its model
    value = {
        "endpoints": [
            endpoint(provider, "a", model="m"),
            endpoint(provider, "b", model="m"),
            endpoint(provider, "c", model="n"),
        ],
        "apps": {"default": app},
    }
    with serving(value, state_dir, address) as sidecar:
        got = sidecar.chat(model)

    assert got.status_code == 502
    error = got.json()["error"]
    assert error["code"] == "endpoint_misconfigured"
    assert f"endpoint {tried[-1]} " in error["message"]
    assert provider.hosts() == tried


def test_the_callers_own_error_is_passed_on_and_tried_nowhere_else(
    sidecar: Sidecar, provider: Provider
) -> None:
    body = b'{"error":{"message":"bad temperature"}}'
    for host in "ab":
        provider.on(host, Reply(status=400, body=body))

    got = sidecar.chat(temperature="hot")

    assert got.status_code == 400
    assert got.content == body
    assert len(provider.calls) == 1


def test_a_stream_that_is_cut_is_told_and_never_a_success(
    sidecar: Sidecar, provider: Provider, learner: Any
) -> None:
    provider.on("a", Reply(chunks=chunks("one", "two", finish=False), cut=True))

    got = sidecar.chat("a", stream=True)

    assert got.status_code == 200
    assert b"one" in got.content
    assert b'"code":"stream_cut"' in got.content
    assert b"[DONE]" not in got.content
    sidecar.until(lambda: sidecar.calls_known() == 1)
    metrics = sidecar.http.get("/metrics").text
    assert 'result="cut"' in metrics


def test_a_stream_cut_before_its_first_content_falls_back(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", Reply(chunks=chunks(finish=False), cut=True))
    value = {"endpoints": [endpoint(provider, "a"), endpoint(provider, "b")]}
    with serving(value, state_dir, address) as sidecar:
        got = sidecar.chat(stream=True)

        assert got.headers["x-router-endpoint"] == "b"
        assert got.content.endswith(b"data: [DONE]\n\n")


def test_a_silent_endpoint_is_given_up_in_time(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", Reply(body=answer(), delay_s=30))
    silent = endpoint(provider, "a", timeouts={"first_token_s": 0.3})
    value = {"endpoints": [silent, endpoint(provider, "b")]}
    with serving(value, state_dir, address) as sidecar:
        began = time.monotonic()
        got = sidecar.chat(stream=True)

        assert got.headers["x-router-endpoint"] == "b"
        assert time.monotonic() - began < 5
        sidecar.until(lambda: provider.closed_early == 1)


@pytest.mark.slow
def test_one_deadline_binds_the_whole_call(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    for host in "ab":
        provider.on(host, Reply(body=answer(), delay_s=30))
    value = {
        "server": {"deadline_s": 1.0},
        "endpoints": [endpoint(provider, "a"), endpoint(provider, "b")],
    }
    with serving(value, state_dir, address) as sidecar:
        began = time.monotonic()
        got = sidecar.chat()

        assert got.status_code in (502, 504)
        assert time.monotonic() - began < 3


@pytest.mark.slow
def test_a_stopping_sidecar_says_so_to_whoever_still_waits(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", Reply(body=answer(), delay_s=30))
    with serving({"endpoints": [endpoint(provider, "a")]}, state_dir, address) as sidecar:
        got: list[httpx.Response] = []
        thread = threading.Thread(target=lambda: got.append(sidecar.chat()))
        thread.start()
        sidecar.until(lambda: len(provider.calls) == 1)
        sidecar.app.routes.draining = True
        sidecar.running.stop()
        thread.join(5)

    assert got[0].status_code == 503
    assert got[0].json()["error"]["code"] == "draining"


@pytest.mark.parametrize("streamed", [False, True])
def test_a_client_that_leaves_closes_the_upstream_call(
    sidecar: Sidecar, provider: Provider, streamed: bool
) -> None:
    if streamed:
        reply = Reply(chunks=chunks(*["w"] * 500), chunk_delay_s=0.05)
    else:
        reply = Reply(body=answer(), delay_s=30)
    provider.on("a", reply)
    body = json.dumps(
        {"model": "a", "messages": [{"role": "user", "content": "x"}], "stream": streamed}
    ).encode()
    with socket.create_connection(("127.0.0.1", sidecar.port)) as raw:
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}"
        )
        raw.sendall(head.encode() + b"\r\n\r\n" + body)
        sidecar.until(lambda: len(provider.calls) == 1)
        time.sleep(0.2)
    left = time.monotonic()

    sidecar.until(lambda: provider.closed_early == 1, within_s=3)

    assert time.monotonic() - left < 1.5
    assert {breaker.in_flight for breaker in sidecar.app.health.breakers.values()} == {0}


# -- pass-through -------------------------------------------------------------------------------


def passing(provider: Provider, **more: Any) -> dict[str, Any]:
    entry = {"base_url": provider.url("p"), "passthrough": True, "auth": "client", **more}
    return {"endpoints": [endpoint(provider, "a")], "providers": {"prov": entry}}


@pytest.mark.usefixtures("store")  # a worker folds
def test_what_nobody_lists_goes_unchanged_to_the_passthrough_provider(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with serving(passing(provider), state_dir, address) as sidecar, learning(state_dir, address):
        body = b'{"model":"gpt-9","messages":[{"role":"user","content":"x"}],  "odd" : 1e999}'
        key = {"authorization": "Bearer sk-own"}
        got = sidecar.http.post("/v1/chat/completions?a=b", content=body, headers=key)
        embedded = sidecar.http.get("/v1/files", headers=key)

        assert got.status_code == embedded.status_code == 200
        first, second = provider.calls
        assert first.body == body
        assert first.path == "/p/v1/chat/completions?a=b"
        assert first.headers["authorization"] == "Bearer sk-own"
        assert second.path == "/p/v1/files"
        assert got.headers["x-router-endpoint"] == "prov/gpt-9"

        said = sidecar.feedback(response_id=got.json()["id"], passed=True)
        assert said.status_code == 202
        client = connect(address)
        sidecar.until(lambda: b"prov/gpt-9" in client.hvals(keys.NAMES))


def test_what_a_providers_connection_names_stays_on_its_hop(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    said = {"connection": "x-hop", "x-hop": "z", "x-end": "1"}
    provider.on("p", Reply(body=b"{}", headers=said))
    with serving(passing(provider), state_dir, address) as sidecar:
        got = sidecar.chat("gpt-9", headers={"authorization": "Bearer sk-own"})

    assert got.headers["x-end"] == "1"
    assert "x-hop" not in got.headers


@pytest.mark.parametrize(
    "path", ["/v1/../admin", "/v1/../../x", "/v1/%2e%2e/admin", "/v1/a/%2E./b", "/v1/%252e%252e/x"]
)
def test_no_path_leaves_the_providers_base_url(
    provider: Provider, state_dir: Path, address: Address, path: str
) -> None:
    with (
        serving(passing(provider), state_dir, address) as sidecar,
        socket.create_connection(("127.0.0.1", sidecar.port)) as raw,
    ):
        raw.settimeout(5)
        head = f"GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer k\r\n\r\n"
        raw.sendall(head.encode())
        assert b" 404 " in raw.recv(1000)

    assert provider.calls == []


def test_a_key_of_ours_is_never_passed_on(
    provider: Provider, state_dir: Path, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_KEY", "app-secret")
    value = {**passing(provider), "apps": {"mine": {"keys": [{"env": "APP_KEY"}]}}}
    with serving(value, state_dir, address) as sidecar:
        bearer = {"authorization": "Bearer app-secret"}
        assert sidecar.chat("gpt-9", headers=bearer).status_code == 401
        assert provider.calls == []

        both = {"x-router-key": "app-secret", "authorization": "Bearer sk-own"}
        assert sidecar.chat("gpt-9", headers=both).status_code == 200
        assert "app-secret" not in str(provider.calls[0].headers)

        assert sidecar.chat("a").status_code == 401
        assert sidecar.chat("a", headers=bearer).status_code == 200


def test_privacy_holds_for_what_is_passed_through(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with serving(passing(provider), state_dir, address) as sidecar:
        secret = {"x-router-data-class": "confidential"}

        assert (
            sidecar.chat("gpt-9", headers=secret).json()["error"]["code"] == "no_eligible_endpoint"
        )
        assert sidecar.chat("a", headers=secret).json()["error"]["code"] == "no_eligible_endpoint"
        assert provider.calls == []


@pytest.mark.usefixtures("store")  # a worker folds
def test_hints_for_us_are_followed_and_stripped_on_the_way_through(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with (
        serving(passing(provider, auth="none"), state_dir, address) as sidecar,
        learning(state_dir, address),
    ):
        refused = sidecar.chat("gpt-9", router={"data_class": "restricted"})
        assert refused.json()["error"]["code"] == "no_eligible_endpoint"
        assert provider.calls == []

        sidecar.chat("gpt-9", router={"ref": "mine"}, metadata={"router_task": "x"})
        assert "router" not in provider.calls[0].json
        assert "metadata" not in provider.calls[0].json
        client = connect(address)
        sidecar.until(lambda: sum(client.hlen(keys.rows(s)) for s in (0, 1)) > 0)
        said = sidecar.feedback(ref="mine", passed=True)
        assert said.json()["results"][0]["status"] == "accepted"


def test_a_model_name_cannot_inject_headers(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with serving(passing(provider, auth="none"), state_dir, address) as sidecar:
        got = sidecar.chat("gpt\r\nx-evil: 1")

    assert "x-evil" not in got.headers
    assert got.headers["x-router-endpoint"] == "prov/gpt??x-evil: 1"


def test_a_client_that_leaves_a_passed_on_stream_closes_it(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("p", Reply(chunks=chunks(*["w"] * 500), chunk_delay_s=0.05))
    with serving(passing(provider, auth="none"), state_dir, address) as sidecar:
        body = {"model": "gpt-9", "messages": [{"role": "user", "content": "x"}], "stream": True}
        with sidecar.http.stream("POST", CHAT, json=body) as found:
            next(found.iter_raw())
        sidecar.until(lambda: provider.closed_early == 1, within_s=3)


def test_the_callers_key_never_reaches_another_host(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    other = Provider()
    running = Running(other)
    other.port = running.port
    provider.on("a", Reply(status=500, body=b"{}"))
    value = {
        "endpoints": [
            endpoint(provider, "a", auth="client"),
            endpoint(other, "b", auth="client"),
            endpoint(provider, "c", auth="client"),
        ]
    }
    try:
        with serving(value, state_dir, address) as sidecar:
            headers = {"authorization": "Bearer sk-own", "x-goog-api-key": "own-too"}
            got = sidecar.chat(headers=headers)
    finally:
        running.stop()

    assert got.headers["x-router-endpoint"] == "c"
    assert other.calls == []
    assert all("own-too" in str(call.headers) for call in provider.calls), "as sent directly"


def test_a_clients_wrong_key_is_no_fault_of_the_endpoint(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", Reply(status=401, body=b"{}"))
    with serving({"endpoints": [endpoint(provider, "a", auth="client")]}, state_dir, address) as s:
        headers = {"authorization": "Bearer wrong"}
        assert {s.chat(headers=headers).status_code for _ in range(8)} == {401}


# -- keys and apps ------------------------------------------------------------------------------


def test_apps_see_their_own_decisions_only_and_the_owner_everything(
    provider: Provider, state_dir: Path, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ONE", "TWO", "ADMIN"):
        monkeypatch.setenv(name, f"key-{name}")
    value = {
        "server": {"host": "127.0.0.1", "admin_key": {"env": "ADMIN"}},
        "endpoints": [endpoint(provider, "a")],
        "apps": {"one": {"keys": [{"env": "ONE"}]}, "two": {"keys": [{"env": "TWO"}]}},
    }
    one, two = ({"authorization": f"Bearer key-{n}"} for n in ("ONE", "TWO"))
    with serving(value, state_dir, address) as sidecar:
        decision = sidecar.chat(headers=one).headers["x-router-decision-id"]
        body = {"decision_id": decision, "passed": True}

        stolen = sidecar.http.post("/v1/feedback", json=body, headers=two)
        own = sidecar.http.post("/v1/feedback", json=body, headers=one)

        assert (stolen.status_code, stolen.json()["error"]["code"]) == (404, "decision_not_found")
        assert own.status_code == 202


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/metrics"),
        ("GET", "/v1/router/posteriors"),
        ("GET", "/v1/router/decisions/d-any"),
        ("POST", "/v1/router/decide"),
        ("GET", "/v1/router/endpoints"),
    ],
)
def test_where_an_admin_key_is_set_the_owners_routes_want_it_on_loopback_too(
    provider: Provider,
    state_dir: Path,
    address: Address,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    path: str,
) -> None:
    for name in ("APP", "ADMIN"):
        monkeypatch.setenv(name, f"key-{name}")
    value = {
        "server": {"admin_key": {"env": "ADMIN"}},
        "endpoints": [endpoint(provider, "a")],
        "apps": {"one": {"keys": [{"env": "APP"}]}},
    }
    with serving(value, state_dir, address) as sidecar:

        def status(**headers: str) -> int:
            body = {"json": GOOD} if method == "POST" else {}
            return sidecar.http.request(method, path, headers=headers, **body).status_code

        assert status() == 401
        assert status(authorization="Bearer wrong") == 401
        assert status(authorization="Bearer key-APP") == (401, 200)[path.endswith("endpoints")]
        found = 400 if "decisions" in path else 200  # no such id
        assert status(authorization="Bearer key-ADMIN") == found
        assert status(**{"x-router-key": "key-ADMIN"}) == found


# -- bad input ----------------------------------------------------------------------------------

GOOD = {"model": "auto", "messages": [{"role": "user", "content": "x"}]}
CHAT, FEEDBACK = "/v1/chat/completions", "/v1/feedback"


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "code", "param"),
    [
        (CHAT, b"not json", {}, 400, "invalid_json", None),
        (CHAT, b"x" * ((64 << 20) + 1), {}, 413, "body_too_large", None),
        (FEEDBACK, b"x" * (5 << 20), {}, 413, "body_too_large", None),
        (CHAT, {**GOOD, "model": "gpt-9"}, {}, 404, "model_not_found", "model"),
        (CHAT, {"model": "auto"}, {}, 400, "invalid_request", "messages"),
        (CHAT, {"model": "auto", "messages": [5]}, {}, 400, "invalid_request", "messages"),
        (CHAT, b'{"model":"auto","messages":[{"content":"\xff"}]}', {}, 400, "invalid_json", None),
        (CHAT, {**GOOD, "model": "auto:"}, {}, 400, "unknown_strategy", "strategy"),
        (CHAT, {**GOOD, "router": {"tsk": "x"}}, {}, 400, "unknown_field", "router"),
        (CHAT, {**GOOD, "model": "auto:nope"}, {}, 400, "unknown_strategy", "strategy"),
        (CHAT, GOOD, {"x-router-data-class": "top"}, 400, "invalid_request", "data_class"),
        (CHAT, GOOD, {"origin": "https://evil.example"}, 403, "forbidden_origin", None),
        (CHAT, GOOD, {"host": "evil.example"}, 403, "forbidden_host", None),
        (FEEDBACK, b"{", {}, 400, "invalid_json", None),
        (
            FEEDBACK,
            {"decision_id": "d-forged", "score": 1},
            {},
            400,
            "bad_decision_id",
            "decision_id",
        ),
        (FEEDBACK, {"ref": "x", "score": 1, "passed": True}, {}, 400, "bad_feedback", "passed"),
        (FEEDBACK, {"ref": "x", "score": 1.5}, {}, 400, "bad_feedback", "score"),
        ("/v1/nowhere", {}, {}, 404, "not_found", None),
        ("/v1/models", {}, {}, 405, "method_not_allowed", None),
    ],
)
def test_bad_input_gets_its_clear_error(
    sidecar: Sidecar,
    provider: Provider,
    path: str,
    body: Any,
    headers: dict[str, str],
    status: int,
    code: str,
    param: str | None,
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    got = sidecar.http.post(path, content=content, headers=headers)

    error = got.json()["error"]
    assert (got.status_code, error["code"], error["param"]) == (status, code, param)
    assert error["message"]
    assert provider.calls == []


def test_a_forged_decision_id_is_refused_whatever_is_changed(sidecar: Sidecar) -> None:
    good = sidecar.chat().headers["x-router-decision-id"]
    forged = good[:40] + ("A" if good[40] != "A" else "B") + good[41:]

    assert sidecar.feedback(decision_id=forged, passed=True).status_code == 400
    assert sidecar.feedback(decision_id=good, passed=True).status_code == 202


def test_an_ambiguous_reference_lists_its_candidates(sidecar: Sidecar, learner: Any) -> None:
    for text in ("one", "two"):
        sidecar.chat(text=text, headers={"x-router-ref": "ticket-7"})
    sidecar.until(lambda: sidecar.calls_known() == 2)

    refused = sidecar.feedback(ref="ticket-7", passed=True)
    candidates = refused.json()["error"]["candidates"]

    assert refused.status_code == 409
    assert len(candidates) == 2
    assert sidecar.feedback(decision_id=candidates[0], passed=True).status_code == 202
    assert (
        sidecar.feedback(ref="ticket-7", passed=True, match="all").json()["results"][0]["decisions"]
        == 2
    )
    assert sidecar.feedback(ref="ticket-8", passed=True).json()["results"][0]["status"] == "held"


def test_a_reference_in_the_metadata_is_ours_and_is_joined_later(
    sidecar: Sidecar, provider: Provider, learner: Any
) -> None:
    held = sidecar.feedback(ref="later", passed=True)
    assert held.json()["results"][0]["status"] == "held"

    sidecar.chat(metadata={"router_ref": "later", "own": "kept"})

    assert provider.calls[-1].json["metadata"] == {"own": "kept"}
    sidecar.until(lambda: sidecar.labels_known() == 1)


def test_pipelined_calls_are_answered_in_order_and_the_last_may_close(
    sidecar: Sidecar, provider: Provider
) -> None:
    def call(name: str, *more: str) -> bytes:
        body = json.dumps({"model": name, "messages": [{"role": "user", "content": "x"}]})
        head = ["POST /v1/chat/completions HTTP/1.1", "host: localhost", *more]
        return "\r\n".join([*head, f"content-length: {len(body)}", "", body]).encode()

    provider.on("a", Reply(body=answer("first"), delay_s=0.1))
    provider.on("b", Reply(body=answer("second")))
    with socket.create_connection(("127.0.0.1", sidecar.port)) as raw:
        raw.settimeout(10)
        raw.sendall(call("a") + call("b", "connection: close"))
        got = b"".join(iter(lambda: raw.recv(1 << 16), b""))

    assert got.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert 0 < got.index(b"first") < got.index(b"second")
    assert got.count(b"connection: close\r\n") == 1


def test_calls_leave_nothing_to_the_garbage_collector(sidecar: Sidecar, provider: Provider) -> None:
    """A call that held itself would be looked at by every collection until one takes it."""
    provider.on("a", Reply(body=answer()))
    sidecar.chat("a")
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            assert sidecar.chat("a").status_code == 200
        alive = [o for o in gc.get_objects() if isinstance(o, Exchange)]
    finally:
        gc.enable()

    assert len(alive) <= 2


def test_a_trickled_request_and_endless_headers_are_cut_off(
    sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.net.inbound.HEADER_S", 0.3)  # patched: else this takes ten seconds
    with socket.create_connection(("127.0.0.1", sidecar.port)) as raw:
        raw.settimeout(5)
        raw.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: loc")
        assert b"408" in raw.recv(1000)
    with socket.create_connection(("127.0.0.1", sidecar.port)) as raw:
        raw.settimeout(5)
        raw.sendall(b"GET /livez HTTP/1.1\r\n" + b"x-a: b\r\n" * 5000 + b"\r\n")
        assert b" 400 " in raw.recv(1000)


# -- off, and parts that die --------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("store")  # it is frozen
def test_off_works_within_a_second_while_the_store_is_frozen(
    sidecar: Sidecar, state_dir: Path
) -> None:
    pid = int((state_dir / "store" / "server.pid").read_text())
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(1)
        (state_dir / "off").touch()
        sidecar.until(lambda: sidecar.app.keeper.off, within_s=1.0)
    finally:
        os.kill(pid, signal.SIGCONT)


def test_off_works_with_store_and_worker_dead(provider: Provider, state_dir: Path) -> None:
    server = PrivateServer(state_dir / "store")
    with server:
        address = Address(f"unix://{server.socket_path}")
        value = {
            "endpoints": [endpoint(provider, "a"), endpoint(provider, "b")],
            "strategies": LEARN,
            "apps": ROUTED,
        }
        context = serving(value, state_dir, address)
        sidecar = context.__enter__()
    try:
        config = state_dir / "pointsman.yaml"
        config.write_text(json.dumps({**value, "server": {"state_dir": str(state_dir)}}))
        for verb in ("off", "on"):
            assert pointsman(verb, "--config", config).exit_code == 0
            sidecar.until(lambda off=verb == "off": sidecar.app.keeper.off is off, within_s=1.0)
            served = {
                sidecar.chat(headers={"x-router-session-id": f"{verb}{i}"}).headers[
                    "x-router-endpoint"
                ]
                for i in range(30)
            }
            assert served == ({"a"} if verb == "off" else {"a", "b"})
    finally:
        context.__exit__(None, None, None)


def test_a_sidecar_starts_and_serves_without_a_store(provider: Provider, state_dir: Path) -> None:
    nowhere = Address(f"unix://{state_dir}/nowhere.sock")
    value = {"endpoints": [endpoint(provider, "a")], "apps": ROUTED, "strategies": LEARN}
    with serving(value, state_dir, nowhere) as sidecar:
        assert sidecar.chat().status_code == 200
        ready = sidecar.http.get("/readyz?verbose")
        assert ready.status_code == 200
        assert ready.json()["degraded"] is True


def test_health_and_metrics_tell_what_is_so(sidecar: Sidecar, learner: Any) -> None:
    sidecar.chat("a")
    sidecar.until(lambda: sidecar.calls_known() == 1)

    metrics = sidecar.http.get("/metrics").text

    assert sidecar.http.get("/livez").json() == {"alive": True}
    assert sidecar.http.get("/readyz").json() == {"ready": True, "degraded": False}
    line = 'router_attempts_total{endpoint="a",result="ok",task="general"} 1.0'
    assert line in metrics
    for reason in ("disk", "full", "shard", "malformed"):
        assert f'router_events_dropped_total{{reason="{reason}"}} 0.0' in metrics
    assert "router_snapshot_age_seconds" in metrics
    assert "gen_ai_client_operation_duration_seconds_bucket" in metrics


def test_events_hold_neither_prompts_nor_keys(
    sidecar: Sidecar, learner: Any, state_dir: Path
) -> None:
    headers = {
        "authorization": "Bearer sk-CANARY-KEY",
        "x-router-user": "CANARY-USER",
        "x-router-ref": "CANARY-REF",
    }
    sidecar.chat(text="CANARY-PROMPT", headers=headers)
    sidecar.until(lambda: sidecar.calls_known() == 1)

    everything = b"".join(p.read_bytes() for p in state_dir.rglob("*") if p.is_file())

    assert len(everything) > 1000
    assert b"CANARY" not in everything


def test_an_error_event_before_content_falls_back(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", Reply(chunks=[event({"error": {"message": "overloaded"}})]))
    value = {"endpoints": [endpoint(provider, "a"), endpoint(provider, "b")]}
    with serving(value, state_dir, address) as sidecar:
        assert sidecar.chat(stream=True).headers["x-router-endpoint"] == "b"
