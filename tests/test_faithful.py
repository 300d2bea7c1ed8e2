"""What a client would have got directly, it gets: odd answers, odd requests, odd paths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest
import structlog
from conftest import (
    Provider,
    Reply,
    Seen,
    Sidecar,
    answer,
    chunks,
    event,
    serving,
)
from test_waiting import ask, attempts, configuration, said

from router.dialects.opaque import is_repeatable, take_hints
from router.dispatch.headers import returned_headers
from router.errors import RequestRejected
from telemetry.store import Address
from telemetry.wire.chat import parse_answer, parse_part
from telemetry.wire.usage import usage_of

SAID = "hello"
DONE = b"data: [DONE]\n\n"


def piece(delta: Any, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, **more}
    return event({"id": "c1", "object": "chat.completion.chunk", "choices": [choice]})


# -- errors inside a stream ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "last",
    [
        piece({}, "error"),
        piece({}, "network_error"),
        piece({}, None, error={"message": "no"}),
        event({"object": "error", "message": "no", "code": 500}),
        b'event: error\ndata: {"message": "boom"}\n\n',
        event(
            {"id": "c1", "choices": [], "usage": {"prompt_tokens": 5}, "error": {"message": "x"}}
        ),
    ],
    ids=["finish", "network", "choice", "object", "event", "usage"],
)
@pytest.mark.parametrize("pause_s", [0.0, 0.1])
def test_an_error_after_content_is_told_before_the_terminator(
    pause_s: float, last: bytes, provider: Provider, state_dir: Path, address: Address
) -> None:
    sent = [piece({"content": "hel"}), last, DONE]
    provider.on("a", Reply(chunks=sent if pause_s else [b"".join(sent)], chunk_delay_s=pause_s))
    with serving(configuration(provider, "a"), state_dir, address) as sidecar:
        with pytest.raises(openai.APIError):
            ask(sidecar, stream=True)
        assert attempts(sidecar) == {("a", "bad_reply"): 1}


@pytest.mark.parametrize("falsy", [{}, False, "", None, 0])
def test_an_error_that_is_none_is_none(
    falsy: Any, provider: Provider, state_dir: Path, address: Address
) -> None:
    common = {"id": "c1", "object": "chat.completion.chunk", "error": falsy}
    sent = [
        event({**common, "choices": [{"index": 0, "delta": {"content": SAID}}]}),
        event({**common, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
        DONE,
    ]
    provider.on("a", Reply(chunks=sent))
    provider.on("b", Reply(body=json.dumps({**json.loads(answer(SAID)), "error": falsy}).encode()))
    with serving(configuration(provider, "a", "b"), state_dir, address) as sidecar:
        assert said(sidecar.chat("a", stream=True)) == SAID
        assert sidecar.chat("b").json()["choices"][0]["message"]["content"] == SAID
        assert attempts(sidecar) == {("a", "ok"): 1, ("b", "ok"): 1}


def test_a_cut_after_errors_that_are_none_is_told(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    sent = [
        event({"id": "c1", "error": {}, "choices": [{"index": 0, "delta": {"content": "hel"}}]})
    ]
    provider.on("a", Reply(chunks=sent, cut=True))
    with serving(configuration(provider, "a"), state_dir, address) as sidecar:
        assert '"stream_cut"' in sidecar.chat("a", stream=True).text


@pytest.mark.parametrize("sent", [[DONE], [piece(None, None), DONE]])
def test_an_end_without_an_answer_is_the_next_endpoints(
    sent: list[bytes], provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", Reply(chunks=sent))
    provider.on("b", Reply(chunks=chunks(SAID)))
    with serving(configuration(provider, "a", "b"), state_dir, address) as sidecar:
        assert said(sidecar.chat(stream=True)) == SAID
        alone = sidecar.chat("a", stream=True)
        assert alone.content == b"".join(sent), "as it came, where nobody else may"
        assert attempts(sidecar)["a", "bad_reply"] == 2


def test_where_every_endpoint_begins_with_an_error_the_last_ones_own_is_seen(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    for host in "ab":
        refused = event({"error": {"message": f"quota of {host}", "code": "insufficient_quota"}})
        provider.on(host, Reply(chunks=[refused]))
    with (
        serving(configuration(provider, "a", "b"), state_dir, address) as sidecar,
        pytest.raises(openai.APIError, match="quota of"),
    ):
        ask(sidecar, stream=True)


def test_choices_that_never_came_cut_no_stream(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", Reply(chunks=chunks(SAID)[:-1]))
    with serving(configuration(provider, "a"), state_dir, address) as sidecar:
        got = sidecar.chat("a", stream=True, n=2)

        assert (said(got), "error" in got.text) == (SAID, False)


def test_an_event_of_a_shape_that_we_do_not_know_is_content(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    odd = event({"choices": [{"index": 0, "delta": "two "}]})
    provider.on("a", Reply(chunks=[piece({"content": "one "}), odd, piece({}, "stop"), DONE]))
    with serving(configuration(provider, "a"), state_dir, address) as sidecar:
        got = sidecar.chat("a", stream=True)

        assert odd.decode() in got.text
        assert attempts(sidecar) == {("a", "ok"): 1}
    assert parse_part(b'{"x": "\xff"}') is None


# -- what others find wrong ---------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("status", [400, 401, 409, 422])
def test_what_another_endpoint_refuses_ends_no_call(
    status: int, provider: Provider, state_dir: Path, address: Address
) -> None:
    beside = {"timeouts": {"beside_s": {"answer": 0.2, "first_token": 0.2}}}
    provider.on("a", Reply(body=answer(SAID), delay_s=0.7))
    provider.on("b", Reply(status, b'{"error": {"message": "not here"}}'))
    with serving(configuration(provider, "a", "b", app=beside), state_dir, address) as sidecar:
        got = sidecar.chat()

        assert (got.status_code, got.headers["x-router-endpoint"]) == (200, "a")
        assert provider.hosts() == ["a", "b"]


def test_after_a_failure_of_a_moment_the_clients_sdk_may_ask_again(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    replies = iter([503, 503, 503, 503])
    provider.on("a", lambda _: Reply(next(replies, 200), answer(SAID)))
    provider.on("b", Reply(400, b'{"error": {"message": "not here"}}'))
    with serving(configuration(provider, "a", "b"), state_dir, address) as sidecar:
        assert sidecar.chat().status_code == 503
        with openai.OpenAI(base_url=f"{sidecar.url}/v1", api_key="x", max_retries=3) as sdk:
            messages: Any = [{"role": "user", "content": "x"}]
            got = sdk.chat.completions.create(model="auto", messages=messages)
        assert got.choices[0].message.content == SAID


def test_a_verdict_on_the_content_is_passed_on_whoever_gave_it(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", Reply(503, b"{}"))
    verdict = b'{"error": {"message": "blocked by guardrail", "code": "content_filter"}}'
    provider.on("b", Reply(400, verdict))
    with serving(configuration(provider, "a", "b", "c"), state_dir, address) as sidecar:
        got = sidecar.chat()

        assert (got.status_code, got.content) == (400, verdict)
        assert "c" not in provider.hosts()


def test_what_is_stored_goes_out_once(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", Reply(chunks=[b"{"], cut=True, headers={"content-type": "application/json"}))
    with serving(configuration(provider, "a", "b"), state_dir, address) as sidecar:
        assert sidecar.chat(store=True).status_code == 503
        assert provider.hosts() == ["a"]
        assert sidecar.chat().status_code == 200


@pytest.mark.parametrize("status", [429, 503, 401, 404])
def test_what_is_stored_goes_on_after_a_plain_refusal(
    status: int, provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", Reply(status, b"{}"))
    with serving(configuration(provider, "a", "b"), state_dir, address) as sidecar:
        assert sidecar.chat(store=True).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "repeatable"),
    [
        ("/v1/embeddings", {}, True),
        ("/v1/messages", {}, True),
        ("/v1/completions", {}, True),
        ("/v1/chat/completions", {}, True),
        ("/v1/chat/completions", {"store": True}, False),
        ("/v1/responses", {}, False),
        ("/v1/responses", {"store": False}, True),
        ("/v1/responses", {"store": False, "background": True}, False),
        ("/v1/responses", {"store": False, "conversation": "c"}, False),
        ("/v1/responses", {"store": False, "previous_response_id": "r"}, False),
        ("/v1/files", {}, False),
        ("/v1/batches", {}, False),
    ],
)
def test_generation_that_stores_nothing_may_go_out_twice(
    path: str, body: dict[str, Any], repeatable: bool
) -> None:
    assert is_repeatable(path, json.dumps(body).encode()) is repeatable


# -- limits of endpoints, redirects -------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["observe", "route"])
def test_an_endpoint_never_has_more_calls_than_it_takes(
    mode: str, provider: Provider, state_dir: Path, address: Address
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    for host in "ab":
        provider.on(host, Reply(body=answer(), delay_s=0.4))
    value = configuration(provider, "a", "b", app={"mode": mode, "fallback": "any"})
    value["endpoints"][0]["limits"] = {"max_in_flight": 2}
    with serving(value, state_dir, address) as sidecar, ThreadPoolExecutor(8) as threads:
        got = list(threads.map(lambda _: sidecar.chat(), range(8)))

    assert {each.status_code for each in got} == {200}
    assert provider.hosts().count("a") == 2


@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_within_the_host_is_followed_and_no_other(
    status: int, provider: Provider, state_dir: Path, address: Address
) -> None:
    def moved(call: Seen) -> Reply:
        return Reply(status, headers={"location": call.path.replace("/a/", "/b/")})

    provider.on("a", moved)
    away = {"location": "http://127.0.0.2:1/v1/chat/completions"}
    provider.on("c", Reply(status, headers=away))
    with serving(configuration(provider, "a", "c"), state_dir, address) as sidecar:
        assert sidecar.chat("a").status_code == 200
        assert provider.hosts() == ["a", "b"]
        assert provider.calls[0].body == provider.calls[1].body
        assert sidecar.chat("c").status_code == 502


# -- requests that providers take ---------------------------------------------------------------


@pytest.mark.parametrize(
    "more",
    [
        {"stream": 1},
        {"stream": True, "stream_options": {"include_usage": 1}},
        {"response_format": {"type": None}},
        {"response_format": "json"},
        {"tools": {}},
        {"tools": [{"function": {"name": 7}}]},
        {"metadata": "x"},
        {"metadata": []},
        {"messages": [{"role": "user", "content": "x"}] * 4097},
    ],
    ids=lambda more: json.dumps(more)[:40],
)
def test_what_a_provider_may_take_is_the_providers_to_refuse(
    more: dict[str, Any], provider: Provider, sidecar: Sidecar
) -> None:
    body = {"model": "a", "messages": [{"role": "user", "content": "x"}], **more}

    got = sidecar.http.post("/v1/chat/completions", json=body)

    assert got.status_code == 200
    seen = provider.calls[0].json
    assert {name: seen[name] for name in more if name != "stream_options"} == {
        name: value for name, value in more.items() if name != "stream_options"
    }


def test_a_byte_order_mark_is_no_error(provider: Provider, sidecar: Sidecar) -> None:
    body = b'\xef\xbb\xbf{"model": "auto", "messages": [{"role": "user", "content": "x"}]}'

    assert sidecar.http.post("/v1/chat/completions", content=body).status_code == 200
    assert parse_answer(b"\xef\xbb\xbf" + answer()) is not None


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
def test_hints_are_read_in_every_encoding_of_unicode(encoding: str) -> None:
    body = '{"model": "m", "router": {"data_class": "restricted"}}'.encode(encoding)

    taken = take_hints(body)

    assert taken.declared.hints.data_class == "restricted"
    assert b"router" not in bytes(taken.body).replace(b"\0", b"")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "body",
    [
        '{"router": {"data_class": "restricted"}, "router": {"data_class": "public"}, %s}',
        '{"router": {}, "x": {"router": 1}, "router": {}, %s}',
    ],
)
def test_of_two_objects_of_ours_none_is_lost(
    body: str, provider: Provider, sidecar: Sidecar
) -> None:
    whole = (body % '"model": "a", "messages": [{"role": "user", "content": "x"}]').encode()

    assert sidecar.http.post("/v1/chat/completions", content=whole).status_code == 400
    with pytest.raises(RequestRejected):
        take_hints(whole)
    once = b'{"x": {"router": 1, "router": 2}, "router": {"task": "code"}}'
    assert take_hints(once).declared.hints.task == "code"
    assert not provider.calls


def test_a_body_too_deep_to_be_read_goes_nowhere() -> None:
    deep = (
        b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b', "router": {"data_class": "restricted"}}'
    )

    with pytest.raises(RequestRejected, match="deeply"):
        take_hints(deep)


@pytest.mark.parametrize("path", ["/v1/Chat/Completions", "/V1/chat/completions;a",
                                  "/v1/chat/completions;a", "/v1/ROUTER/decide"])  # fmt: skip
def test_a_path_that_only_looks_like_ours_goes_nowhere(
    path: str, provider: Provider, state_dir: Path, address: Address
) -> None:
    value = configuration(provider, "a")
    value["providers"] = {"p": {"base_url": provider.url("p"), "passthrough": True}}
    with serving(value, state_dir, address) as sidecar:
        assert sidecar.http.post(path, json={"model": "auto"}).status_code == 404
        assert sidecar.http.get("/v1/chat/completions").status_code == 200, "the provider's own"
        assert provider.hosts() == ["p"]


def test_a_providers_own_headers_go_back() -> None:
    theirs = [
        (b"x-prov", b"mine"),
        (b"openai-organization", b"o"),
        (b"set-cookie", b"c"),
        (b"x-router-endpoint", b"forged"),
        (b"access-control-allow-origin", b"*"),
        (b"alt-svc", b"h3"),
        (b"connection", b"x-hop"),
        (b"x-hop", b"1"),
        (b"x-request-id", b"r"),
    ]

    names = [name for name, _ in returned_headers(theirs, named=True)]

    assert names == [b"x-prov", b"openai-organization", b"x-router-upstream-request-id"]


# -- what is used -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        (
            {"prompt_tokens": 32, "completion_tokens": 9,
             "completion_tokens_details": {"reasoning_tokens": 282}},
            (32, 291, 0),
        ),
        ({"input_tokens": 100, "output_tokens": 10, "cache_read_input_tokens": 900},
         (1000, 10, 900)),
        ({"prompt_tokens": 1000, "completion_tokens": 10, "cache_read_input_tokens": 900},
         (1000, 10, 900)),
    ],
)  # fmt: skip
def test_usage_is_read_in_every_form(usage: dict[str, Any], counts: tuple[int, int, int]) -> None:
    found = usage_of(usage)

    assert found is not None
    assert (found.prompt_tokens, found.completion_tokens, found.cached_tokens) == counts


@pytest.mark.parametrize(
    "last",
    [
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop",
                      "usage": {"prompt_tokens": 10, "completion_tokens": 28}}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
         "x_groq": {"usage": {"prompt_tokens": 10, "completion_tokens": 28}}},
    ],
    ids=["choice", "x_groq"],
)  # fmt: skip
def test_usage_is_read_wherever_it_is_reported(
    last: dict[str, Any], provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", Reply(chunks=[piece({"content": SAID}), event(last), DONE]))
    with serving(configuration(provider, "a"), state_dir, address) as sidecar:
        sidecar.chat("a", stream=True)
        text = sidecar.http.get("/metrics").text

    assert 'router_cost_usd_total{endpoint="a"} 6.6e-05' in text


# -- streams that are passed on -----------------------------------------------------------------

MESSAGE = b'event: content_block_delta\ndata: {"type": "content_block_delta", "index": 0}\n\n'


@pytest.mark.parametrize("cut", [True, False])
@pytest.mark.parametrize("path", ["messages", "responses", "completions"])
def test_only_whole_events_of_a_stream_that_is_passed_on_reach_the_client(
    path: str, cut: bool, provider: Provider, state_dir: Path, address: Address
) -> None:
    value = configuration(provider, "a")
    value["providers"] = {"p": {"base_url": provider.url("p"), "passthrough": True}}
    provider.on("p", Reply(chunks=[MESSAGE, MESSAGE[:50]], cut=cut))
    with serving(value, state_dir, address) as sidecar:
        asked = {"messages": [{"role": "user", "content": "x"}]} if path == "messages" else {}
        got = sidecar.http.post(f"/v1/{path}", json={"model": "m", "stream": True, **asked})

    first, told = got.content[: len(MESSAGE)], got.content[len(MESSAGE) :]
    assert first == MESSAGE
    assert MESSAGE[:50] not in told
    assert json.loads(told.split(b"data: ")[1])
    assert b"error" in told


def test_a_stream_that_is_passed_on_whole_is_the_bytes_that_came(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    value = configuration(provider, "a")
    value["providers"] = {"p": {"base_url": provider.url("p"), "passthrough": True}}
    sent = [MESSAGE[:30], MESSAGE[30:] + b": ping\r\n\r\n" + MESSAGE, MESSAGE.rstrip()]
    provider.on("p", Reply(chunks=sent, chunk_delay_s=0.02))
    with serving(value, state_dir, address) as sidecar:
        asked = [{"role": "user", "content": "x"}]
        body = {"model": "m", "stream": True, "messages": asked}
        got = sidecar.http.post("/v1/messages", json=body)

    assert got.content == b"".join(sent)


@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_key_of_ours_that_is_turned_down_on_pass_through_is_in_the_log(
    status: int,
    provider: Provider,
    state_dir: Path,
    address: Address,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OUR_KEY", "sk-ours")
    value = configuration(provider, "a")
    ours = {"base_url": provider.url("p"), "passthrough": True, "auth": {"env": "OUR_KEY"}}
    value["providers"] = {"p": ours}
    provider.on("p", Reply(status, b'{"error": {"message": "no"}}'))
    with (
        structlog.testing.capture_logs() as logs,
        serving(value, state_dir, address) as sidecar,
    ):
        got = sidecar.http.post("/v1/embeddings", json={"model": "m"})

    assert (got.status_code, got.json()) == (status, {"error": {"message": "no"}})
    (line,) = [each for each in logs if each.get("endpoint") == "p"]
    assert line["setting"] == "auth"
    assert "sk-ours" not in str(line)
