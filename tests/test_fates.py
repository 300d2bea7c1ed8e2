"""What a refusal is about decides what becomes of the call."""

from __future__ import annotations

import json
import re
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import openai
import pytest
from conftest import LEARN, ROUTED, Provider, Reply, Seen, answer, endpoint, listening, serving

from router.dispatch.attempt import AttemptFailed
from router.dispatch.codes import shown_code
from router.dispatch.fates import Fate, is_about_thoughts, read_refusal, retry_after_s
from router.dispatch.retries import pause_before_repeat_s
from router.endpoints.retries import RetryBudget
from telemetry.events import Result
from telemetry.store import Address

NOW_S = 1_790_000_000.0
SOON = datetime.fromtimestamp(NOW_S + 7, UTC)


def error(code: Any = None, message: str = "no", **more: Any) -> bytes:
    return json.dumps({"error": {"message": message, "code": code, **more}}).encode()


OF_THOUGHTS = [
    "messages.1.content.0: Invalid `signature` in `thinking` block",
    "messages.3.content.13: Invalid signature in thinking block",
    "messages.1.content.0: Invalid `data` in `redacted_thinking` block",
    "messages.1.content.0.thinking.signature: Field required",
    "`thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified.",
    "The encrypted content gAAA...DQ== could not be verified.",
    "The encrypted content for item cmp_3 could not be verified. Reason: it could not be parsed.",
    "Corrupted thought signature.",
    "Invalid value at 'request.contents[3].parts[0].thought_signature' (TYPE_BYTES)",
    "Item with id 'rs_abc' not found. Items are not persisted when `store` is set to false.",
    "Item 'msg_1' of type 'message' was provided without its required 'reasoning' item: 'rs_1'.",
]
OF_OTHERS = [
    "max_tokens must be greater than thinking.budget_tokens",
    "thinking.type: adaptive is not supported on this model",
    "temperature may only be set to 1 when thinking is enabled",
    "Unknown parameter: 'reasoning.effort'",
    "Item with id 'msg_1' not found.",
    "The request signature we calculated does not match the signature you provided",
    "Function call is missing a thought_signature in functionCall parts.",
    "Expected `thinking` or `redacted_thinking`, but found `tool_use`.",
]


@pytest.mark.parametrize("message", OF_THOUGHTS)
def test_a_refusal_of_a_foreign_thought_is_told_by_its_words(message: str) -> None:
    assert is_about_thoughts(400, error("invalid_request_error", message))
    assert not is_about_thoughts(500, error("invalid_request_error", message))
    assert not is_about_thoughts(401, error("invalid_request_error", message))


@pytest.mark.parametrize("message", OF_THOUGHTS)
def test_so_is_one_that_a_gateway_hands_on(message: str) -> None:
    raw = json.dumps({"type": "error", "error": {"message": message}})
    handed_on = error(400, "Provider returned error", metadata={"raw": raw})
    assert is_about_thoughts(400, handed_on)


@pytest.mark.parametrize("message", OF_OTHERS)
def test_other_words_of_thinking_and_signatures_are_no_such_refusal(message: str) -> None:
    assert not is_about_thoughts(400, error("invalid_request_error", message))


@pytest.mark.parametrize(
    ("status", "body", "fate", "result"),
    [
        (429, b"", Fate.MOMENT, Result.RATE_LIMIT),
        (503, b"oops", Fate.MOMENT, Result.SERVER),
        (529, error("overloaded_error"), Fate.MOMENT, Result.SERVER),
        (500, error(), Fate.MOMENT, Result.SERVER),
        (408, b"", Fate.MOMENT, Result.TIMEOUT),
        (302, b"", Fate.ENDPOINT, Result.BAD_REPLY),
        (401, error("invalid_api_key"), Fate.ENDPOINT, Result.REFUSED),
        (402, error("insufficient_credits"), Fate.ENDPOINT, Result.REFUSED),
        (403, error("permission_denied"), Fate.ENDPOINT, Result.REFUSED),
        (404, error("model_not_found"), Fate.ENDPOINT, Result.REFUSED),
        (404, error(message="File not found: file_011abc"), Fate.FIT, Result.CLIENT_ERROR),
        (404, error(message="Item with id 'rs_1' not found."), Fate.FIT, Result.CLIENT_ERROR),
        (404, error(message="Prompt pmpt_1 does not exist"), Fate.FIT, Result.CLIENT_ERROR),
        (404, error(details={"error_code": "thread_not_found"}), Fate.FIT, Result.CLIENT_ERROR),
        (
            404,
            error(message="No endpoints found that support tool use. Try others."),
            Fate.FIT,
            Result.CLIENT_ERROR,
        ),
        (404, error(details={"error_code": "elsewhere"}), Fate.ENDPOINT, Result.REFUSED),
        (404, error(details=["odd"]), Fate.ENDPOINT, Result.REFUSED),
        (404, error("previous_response_not_found"), Fate.FIT, Result.CLIENT_ERROR),
        (404, error(message="model: claude-9"), Fate.ENDPOINT, Result.REFUSED),
        (404, b"<html>not found</html>", Fate.ENDPOINT, Result.REFUSED),
        (
            400,
            error(message="Your credit balance is too low to access the Anthropic API."),
            Fate.ENDPOINT,
            Result.REFUSED,
        ),
        (403, error("moderation_blocked"), Fate.VERDICT, Result.CLIENT_ERROR),
        (403, error(403, "Your input was flagged"), Fate.VERDICT, Result.CLIENT_ERROR),
        (400, error("content_filter"), Fate.VERDICT, Result.CLIENT_ERROR),
        (400, error("content_policy_violation"), Fate.VERDICT, Result.CLIENT_ERROR),
        (
            400,
            error(None, "bad", innererror={"code": "ResponsibleAIPolicyViolation"}),
            Fate.VERDICT,
            Result.CLIENT_ERROR,
        ),
        (400, error("context_length_exceeded"), Fate.CONTEXT, Result.CLIENT_ERROR),
        (400, error(None, "prompt is too long: 9 > 8"), Fate.CONTEXT, Result.CLIENT_ERROR),
        (400, error(None, "maximum context length is 8"), Fate.CONTEXT, Result.CLIENT_ERROR),
        (413, b'{"detail": "Input is too long"}', Fate.CONTEXT, Result.CLIENT_ERROR),
        (400, error("unsupported_parameter"), Fate.FIT, Result.CLIENT_ERROR),
        (400, error("unsupported_value"), Fate.FIT, Result.CLIENT_ERROR),
        (
            400,
            error("unsupported_parameter", "'safety_identifier' is not supported"),
            Fate.FIT,
            Result.CLIENT_ERROR,
        ),
        (422, error(None, "Extra inputs are not permitted"), Fate.FIT, Result.CLIENT_ERROR),
        (400, b'[{"error": {"message": "is not supported"}}]', Fate.FIT, Result.CLIENT_ERROR),
        (
            400,
            error(400, "Function call is missing a thought_signature in functionCall parts."),
            Fate.FIT,
            Result.CLIENT_ERROR,
        ),
        (
            400,
            error(None, "Expected `thinking` or `redacted_thinking`, but found `tool_use`."),
            Fate.FIT,
            Result.CLIENT_ERROR,
        ),
        (
            400,
            error(None, "messages.1.content.0: Invalid `signature` in `thinking` block"),
            Fate.REQUEST,
            Result.CLIENT_ERROR,
        ),
        (400, error("invalid_value", "temperature is hot"), Fate.REQUEST, Result.CLIENT_ERROR),
        (403, error(None, "Content violates usage guidelines."), Fate.VERDICT, Result.CLIENT_ERROR),
        (403, error(None, "blocked by guardrail"), Fate.VERDICT, Result.CLIENT_ERROR),
        (403, error(None, "SAFETY_CHECK_TYPE_BIO"), Fate.VERDICT, Result.CLIENT_ERROR),
        (400, error("model_not_found"), Fate.ENDPOINT, Result.REFUSED),
        (400, error(None, "Model Not Exist"), Fate.ENDPOINT, Result.REFUSED),
        (400, error(None, "x is not a valid model ID"), Fate.ENDPOINT, Result.REFUSED),
        (400, error(None, "property 'foo' is unsupported"), Fate.FIT, Result.CLIENT_ERROR),
        (400, error(None, 'Unknown name "foo": Cannot find'), Fate.FIT, Result.CLIENT_ERROR),
        (
            400,
            b'{"code": "x", "error": "Argument not supported on this model: foo"}',
            Fate.FIT,
            Result.CLIENT_ERROR,
        ),
        (
            400,
            error(None, "exceeds the available context size"),
            Fate.CONTEXT,
            Result.CLIENT_ERROR,
        ),
        (400, error(None, "exceed context limit: 9 > 8"), Fate.CONTEXT, Result.CLIENT_ERROR),
        (422, error(None, "`max_new_tokens` must be <= 8"), Fate.CONTEXT, Result.CLIENT_ERROR),
        (409, b"", Fate.REQUEST, Result.CLIENT_ERROR),
        (400, b"<html>", Fate.REQUEST, Result.CLIENT_ERROR),
        (400, b"[" * 100_000, Fate.REQUEST, Result.CLIENT_ERROR),
    ],
)
def test_a_refusal_is_about_a_moment_an_endpoint_a_fit_or_the_request(
    status: int, body: bytes, fate: Fate, result: Result
) -> None:
    found = read_refusal(status, body, client_auth=False)

    assert (found.fate, found.result) == (fate, result)


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_under_the_callers_own_key_a_refusal_is_between_the_two_of_them(status: int) -> None:
    assert read_refusal(status, error(), client_auth=True).fate is Fate.REQUEST


@pytest.mark.parametrize(
    ("headers", "pause_s"),
    [
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"Retry-After": " 3 "}, 3.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "1e9"}, 60.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
        ({"retry-after": format_datetime(SOON, usegmt=True)}, 7.0),
        ({"retry-after": SOON.strftime("%A, %d-%b-%y %H:%M:%S GMT")}, 7.0),
        ({"retry-after": SOON.strftime("%a %b %d %H:%M:%S %Y")}, 7.0),
        ({"retry-after": format_datetime(SOON - timedelta(days=1), usegmt=True)}, 0.0),
        ({"retry-after": "Wed, 99 Oct 2015 07:28:00 GMT"}, None),
    ],
)  # fmt: skip
def test_an_announced_pause_is_read_in_every_form(
    headers: dict[str, str], pause_s: float | None
) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]

    assert retry_after_s(raw, now_s=NOW_S) == (pytest.approx(pause_s) if pause_s else pause_s)


def pause(failure: AttemptFailed, n_repeats: int = 0, **more: Any) -> float | None:
    given: dict[str, Any] = {"has_others": True, "left_s": 60.0, "random": lambda: 0.5}
    return pause_before_repeat_s(failure, n_repeats, **{**given, **more})


def test_what_is_momentary_is_repeated_once_where_another_could_answer() -> None:
    busy = AttemptFailed(Result.SERVER, "status 503")

    assert pause(busy) == pytest.approx(0.25)
    assert pause(busy, 1) is None
    assert pause(busy, 1, has_others=False) == pytest.approx(0.5)
    assert pause(busy, 2, has_others=False) is None


def test_a_short_announced_pause_is_waited_for_and_a_long_one_is_not() -> None:
    asked = AttemptFailed(Result.RATE_LIMIT, "status 429", retry_after_s=2.0)
    long = AttemptFailed(Result.RATE_LIMIT, "status 429", retry_after_s=30.0)

    assert 2.0 <= (pause(asked) or 0) <= 2.2
    assert pause(asked, left_s=1.0) is None
    assert pause(long, has_others=False) is None


@pytest.mark.parametrize("fate", [Fate.ENDPOINT, Fate.FIT, Fate.CONTEXT])
def test_what_another_moment_does_not_mend_is_not_repeated(fate: Fate) -> None:
    assert pause(AttemptFailed(Result.REFUSED, "status 401", fate=fate)) is None
    assert pause(AttemptFailed(Result.TIMEOUT, "nothing within 8 s")) is None


def test_attempts_beyond_the_first_are_a_fifth_of_the_calls_and_three() -> None:
    budget, made = RetryBudget(), 0
    for _ in range(1000):
        budget.earn()
        while budget.spend():
            made += 1

    assert made <= 0.2 * 1000 + 3
    assert made >= 0.2 * 1000


# -- on running parts ---------------------------------------------------------------------------


def once(fault: Reply) -> Any:
    """A provider that breaks once a call's text, then is well."""
    seen: set[str] = set()

    def reply(call: Seen) -> Reply:
        text = json.dumps(call.json["messages"])
        if text in seen:
            return Reply(body=answer(model=call.json["model"]))
        seen.add(text)
        return fault

    return reply


@pytest.mark.parametrize(
    "fault",
    [
        Reply(status=429, body=error(), headers={"retry-after": "1"}),
        Reply(status=503, body=error()),
        Reply(status=529, body=error()),
        Reply(reset=True),
    ],
    ids=["429", "503", "529", "reset"],
)
@pytest.mark.parametrize("model", ["a", "m"])
def test_a_transient_failure_is_not_made_final(
    provider: Provider, state_dir: Path, address: Address, fault: Reply, model: str
) -> None:
    provider.on("a", once(fault))
    value = {"endpoints": [endpoint(provider, "a", model="m")]}
    with (
        serving(value, state_dir, address) as sidecar,
        openai.OpenAI(base_url=f"{sidecar.url}/v1", api_key="k") as client,
    ):
        said = [
            client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": f"call {n}"}]
            )
            for n in range(4)
        ]

    assert [s.choices[0].message.content for s in said] == ["hello"] * 4


def test_what_cannot_be_repeated_here_is_left_to_the_sdk(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    """The provider's own status, body and hints, and none of ours."""
    headers = {"retry-after": "30", "x-should-retry": "true"}
    provider.on("a", Reply(status=429, body=error("slow"), headers=headers))
    with serving({"endpoints": [endpoint(provider, "a")]}, state_dir, address) as sidecar:
        got = sidecar.chat()

    assert got.status_code == 429
    assert got.json()["error"]["code"] == "slow"
    assert got.headers["retry-after"] == "30"
    assert got.headers["x-should-retry"] == "true"
    assert got.headers["x-router-endpoint"] == "a"
    assert len(provider.calls) == 1


def test_where_no_status_came_back_the_sdk_is_told_to_come_again(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    nobody = endpoint(provider, "a", base_url="http://127.0.0.1:9/v1")
    with serving({"endpoints": [nobody]}, state_dir, address) as sidecar:
        got = sidecar.chat()

    assert got.status_code == 503
    assert got.json()["error"]["code"] == "all_endpoints_failed"
    assert got.headers["retry-after"] == "1"
    assert "x-should-retry" not in got.headers


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_a_broken_endpoint_is_learnt(
    provider: Provider, state_dir: Path, address: Address, learner: Any, status: int
) -> None:
    """In learning mode one of two always turns our key or model down: no call fails for it."""
    provider.on("a", Reply(status=status, body=error("wrong")))
    value = {
        "endpoints": [endpoint(provider, "a"), endpoint(provider, "b")],
        "strategies": LEARN,
        "apps": ROUTED,
    }
    with serving(value, state_dir, address) as sidecar:
        got = [sidecar.chat(text=f"call {n}") for n in range(30)]

    assert {r.status_code for r in got} == {200}
    assert provider.hosts().count("a") <= 3


def test_an_endpoint_that_turns_our_key_down_alone_is_named_without_its_address(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", Reply(status=401, body=error("invalid_api_key", "sk-secret is wrong")))
    with serving({"endpoints": [endpoint(provider, "a")]}, state_dir, address) as sidecar:
        got = sidecar.chat()

    assert got.status_code == 502
    assert got.json()["error"]["code"] == "endpoint_misconfigured"
    assert "endpoint a " in got.text
    assert "127.0.0.1" not in got.text
    assert "sk-secret" not in got.text


def test_under_the_callers_own_key_its_refusal_is_passed_on_and_moves_no_breaker(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", Reply(status=401, body=error("invalid_api_key")))
    value = {"endpoints": [endpoint(provider, "a", auth="client"), endpoint(provider, "b")]}
    with serving(value, state_dir, address) as sidecar:
        key = {"authorization": "Bearer sk-own"}
        got = [sidecar.chat("a", headers=key) for _ in range(8)]

        assert {r.status_code for r in got} == {401}
        assert not sidecar.app.health.troubled


@pytest.mark.parametrize(
    "body",
    [error("unsupported_parameter"), error("context_length_exceeded")],
)
def test_what_one_endpoint_does_not_take_another_may(
    provider: Provider, state_dir: Path, address: Address, body: bytes
) -> None:
    provider.on("a", Reply(status=400, body=body))
    value = {"endpoints": [endpoint(provider, "a"), endpoint(provider, "b")]}
    with serving(value, state_dir, address) as sidecar:
        got = [sidecar.chat(text=f"{n}") for n in range(3)]

        assert {r.status_code for r in got} == {200}
        assert provider.hosts() == ["a", "b"] * 3
        assert not sidecar.app.health.troubled


def test_too_long_a_prompt_goes_only_where_there_is_more_room(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", Reply(status=400, body=error("context_length_exceeded")))
    value = {
        "models": {"a": {"context_tokens": 8000}, "b": {"context_tokens": 4000},
                   "c": {"context_tokens": 128_000}},
        "endpoints": [endpoint(provider, name) for name in "abc"],
    }  # fmt: skip
    with serving(value, state_dir, address) as sidecar:
        assert sidecar.chat().headers["x-router-endpoint"] == "c"

    assert provider.hosts() == ["a", "c"]


def test_nobody_is_routed_around_a_verdict_on_the_content(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    body = error("content_filter", "filtered")
    provider.on("a", Reply(status=400, body=body))
    value = {"endpoints": [endpoint(provider, "a"), endpoint(provider, "b")]}
    with serving(value, state_dir, address) as sidecar:
        got = sidecar.chat()

    assert (got.status_code, got.content) == (400, body)
    assert provider.hosts() == ["a"]


def test_all_down_means_one_attempt_a_call_and_the_providers_own_answer(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    for host in "ab":
        provider.on(host, Reply(status=503, body=error(host)))
    value = {
        "endpoints": [endpoint(provider, "a"), endpoint(provider, "b")],
        "strategies": LEARN,
        "apps": ROUTED,
    }
    with serving(value, state_dir, address) as sidecar:
        got = [sidecar.chat(text=f"call {n}") for n in range(60)]

    assert {r.status_code for r in got} == {503}
    assert {r.json()["error"]["code"] for r in got} <= {"a", "b"}
    assert len(provider.calls) <= 1.2 * len(got) + 3


def test_a_two_hundred_without_an_answer_is_passed_on_where_nobody_else_may_answer(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    body = b'{"choices": [], "odd": true}'
    provider.on("a", Reply(body=body))
    with serving({"endpoints": [endpoint(provider, "a")]}, state_dir, address) as sidecar:
        got = sidecar.chat()

    assert (got.status_code, got.content) == (200, body)


def test_a_call_that_meets_its_providers_idle_close_costs_no_attempt(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    """On pass-through, a POST whose request had left is the client's to repeat."""
    seen: list[bytes] = []

    def answers_once(connection: socket.socket) -> None:
        for _ in range(2):
            reader = connection.makefile("rb")
            head = b"".join(iter(reader.readline, b"\r\n"))
            if not head:
                return
            length = re.search(rb"content-length: (\d+)", head)
            reader.read(int(length[1]) if length else 0)
            seen.append(head.split()[1])
            if len(seen) in (1, 3, 5):
                whole = answer()
                length_line = b"content-length: %d\r\n\r\n" % len(whole)
                connection.sendall(b"HTTP/1.1 200 OK\r\n" + length_line + whole)

    with listening(answers_once) as url:
        value = {
            "endpoints": [endpoint(provider, "a", base_url=url)],
            "providers": {"prov": {"base_url": url, "passthrough": True}},
        }
        with serving(value, state_dir, address) as sidecar:
            assert sidecar.chat("a").headers["x-router-attempts"] == "1"
            assert sidecar.chat("a").headers["x-router-attempts"] == "1"
            assert sidecar.http.get("/v1/files").status_code == 200
            assert sidecar.http.post("/v1/files", json={}).status_code == 503

    chat, files = b"/v1/chat/completions", b"/v1/files"
    assert seen == [chat, chat, chat, files, files, files]


@pytest.mark.parametrize(
    "code",
    [
        "model_not_found",
        "context_length_exceeded",
        "insufficient_quota",
        "rate_limit_exceeded",
        "invalid_request_error",
        "RESOURCE_EXHAUSTED",
        "DeploymentNotFound",
        "ThrottlingException",
        "Throttling.RateQuota",
        "InvalidApiKey",
        "1211",
        "429",
    ],
)
def test_codes_of_providers_are_shown(code: str) -> None:
    assert shown_code(code) == code


@pytest.mark.parametrize(
    "code",
    [
        "",
        "sk-proj-abcdefgh",
        "Bearer sk_live_1234",
        "the patient has a fever",
        "invalid_api_key_sk-abc",
        "invalid_request_error: Ada",
        "model_not_found\nAda",
        "123456",
        "\u0661\u0662",
        "error_" * 20 + "error",
    ],
)
def test_what_may_be_somebodys_words_is_no_code(code: str) -> None:
    assert shown_code(code) == ""
