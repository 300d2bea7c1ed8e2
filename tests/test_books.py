"""One place for the books, and one for headers: whoever serves a call, the same is told."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from conftest import SHARDS, Provider, Reply, answer, endpoint, serving

from router.config.compiled import App
from router.config.entries import AppEntry
from router.config.rules import PolicyRules
from router.dispatch.headers import forward_headers, returned_headers
from router.endpoints.data_classes import DataClasses
from router.endpoints.keys import HeldKey
from router.endpoints.places import Whereabouts
from router.endpoints.providers import Provider as PassthroughProvider
from router.endpoints.terms import HostingTerms
from router.policy.callers import Caller
from telemetry import decoding, frames, keys
from telemetry.digests import digest8
from telemetry.events import Flag
from telemetry.store import Address, connect
from telemetry.wire.chat import read_chat_answer
from telemetry.wire.usage import Usage, usage_of

CALLER = Caller(
    App("default", AppEntry(), 1, PolicyRules(), 0, {}),
    ((b"authorization", b"Bearer sk-own"),),
)
USUAL = DataClasses().usual
PLACE = Whereabouts("p/", USUAL, USUAL, HostingTerms(), 0)
KEYED = (b"x-tenant-key", b"theirs")


def provider_of(
    auth_header: tuple[bytes, bytes] | None = KEYED, *, client_auth: bool = False
) -> PassthroughProvider:
    key = HeldKey(auth_header) if auth_header is not None else None
    return PassthroughProvider("p", "http://h/v1", key, client_auth, PLACE)


def forwarded(*headers: tuple[bytes, bytes], **more: Any) -> list[tuple[bytes, bytes]]:
    to = provider_of(**more)
    names = frozenset([to.auth_header[0]]) if to.auth_header else frozenset()
    return forward_headers(list(headers), CALLER, to, key_headers=names)


def test_a_providers_key_never_travels_beside_the_clients_own_of_that_name() -> None:
    out = forwarded((b"x-tenant-key", b"the client's"), (b"x-title", b"1"))

    assert [value for name, value in out if name == b"x-tenant-key"] == [b"theirs"]
    assert (b"x-title", b"1") in out


def test_repeated_headers_both_go_on_in_their_order() -> None:
    out = forwarded((b"anthropic-beta", b"one"), (b"x", b"y"), (b"anthropic-beta", b"two"))

    assert [v for n, v in out if n == b"anthropic-beta"] == [b"one", b"two"]


@pytest.mark.parametrize("value", [b"x-hop, keep-alive", b"close,X-Hop", b"x-hop"])
def test_what_connection_names_stays_on_its_hop(value: bytes) -> None:
    out = forwarded(
        (b"connection", value),
        (b"x-hop", b"secret"),
        (b"x-end", b"1"),
        client_auth=True,
        auth_header=None,
    )

    assert {name for name, _ in out} == {b"x-end", b"accept-encoding", b"authorization"}


def test_hints_and_credentials_stay_here() -> None:
    ours = [(b"x-router-task", b"code"), (b"x-router-key", b"k"), (b"authorization", b"Bearer k")]

    assert {name for name, _ in forwarded(*ours)} == {b"accept-encoding", b"x-tenant-key"}
    assert (b"authorization", b"Bearer sk-own") in forwarded(auth_header=None, client_auth=True)


SECRETS = (b"ocp-apim-subscription-key", b"helicone-auth", b"cookie", b"x-goog-api-key", b"x-new")


def test_under_our_key_only_headers_travel_that_are_known_to_hold_no_secret() -> None:
    sent = [(name, b"secret") for name in SECRETS]
    sent += [(b"x-stainless-lang", b"python"), (b"anthropic-beta", b"b"), (b"traceparent", b"t")]

    names = {name for name, _ in forwarded(*sent)}

    assert not names & set(SECRETS)
    assert names >= {b"x-stainless-lang", b"anthropic-beta", b"traceparent"}


def test_under_the_callers_own_key_everything_travels_but_what_is_of_the_hop() -> None:
    hop = [(b"upgrade", b"h2c"), (b"http2-settings", b"x"), (b"transfer-encoding", b"chunked")]
    sent = [*((name, b"1") for name in SECRETS), *hop]

    names = {name for name, _ in forwarded(*sent, auth_header=None, client_auth=True)}

    others_key = {b"x-goog-api-key"}  # a second credential: which of them is meant is not known
    assert names == {*SECRETS, b"accept-encoding", b"authorization"} - others_key


def test_the_user_says_which_headers_travel_as_well() -> None:
    to = PassthroughProvider("p", "http://h/v1", None, False, PLACE, frozenset([b"x-new"]))
    out = forward_headers([(b"x-new", b"1"), (b"x-old", b"2")], CALLER, to, key_headers=frozenset())

    assert [name for name, _ in out] == [b"x-new", b"accept-encoding"]


def test_the_same_names_travel_differently_where_key_rules_or_connection_differ() -> None:
    sent = [(b"x-new", b"1"), (b"x-title", b"2"), (b"connection", b"close")]
    plain = PassthroughProvider("p", "http://h/v1", None, False, PLACE)
    told = PassthroughProvider("p", "http://h/v1", None, False, PLACE, frozenset([b"x-new"]))
    own = PassthroughProvider("p", "http://h/v1", None, True, PLACE)

    def passed(
        to: PassthroughProvider, *, keyed: bytes = b"x", hop: bytes = b"close"
    ) -> set[bytes]:
        headers = [*sent[:2], (b"connection", hop)]
        out = forward_headers(headers, CALLER, to, key_headers=frozenset([keyed]))
        return {name for name, _ in out} & {b"x-new", b"x-title"}

    for _ in range(2):  # the second time it is remembered
        assert passed(plain) == {b"x-title"}
        assert passed(told) == passed(own) == {b"x-new", b"x-title"}
        assert passed(told, keyed=b"x-title") == {b"x-new"}
        assert passed(told, hop=b"X-New") == {b"x-title"}


def test_limits_of_a_provider_are_told_to_who_named_its_model_only() -> None:
    said = [(b"x-ratelimit-remaining", b"3"), (b"retry-after", b"1"), (b"set-cookie", b"c")]

    assert [n for n, _ in returned_headers(said, named=False)] == [b"retry-after"]
    assert len(returned_headers(said, named=True)) == 2


def test_of_a_providers_ids_of_a_request_the_first_goes_back_under_another_name() -> None:
    said = [(b"request-id", b"one"), (b"x-request-id", b"two"), (b"x-other", b"1")]

    assert returned_headers(said, named=False) == [
        (b"x-router-upstream-request-id", b"one"),
        (b"x-other", b"1"),
    ]


USAGE = {
    "prompt_tokens": 40,
    "completion_tokens": 30,
    "prompt_tokens_details": {"cached_tokens": 32},
    "completion_tokens_details": {"reasoning_tokens": 21},
}


def records(address: Address) -> np.ndarray:
    """All records in the streams; nobody reads them here."""
    client, found = connect(address), [decoding.decode(b"")[0]]
    for shard in range(SHARDS):
        for _, entry in client.xrange(keys.stream(shard)):
            found.append(decoding.decode(frames.unpack(entry[b"f"]).body)[0])
    client.close()
    return np.concatenate(found)


def test_whoever_serves_a_call_the_books_say_the_same_of_its_usage(
    provider: Provider, state_dir: Any, address: Address
) -> None:
    whole = {**json.loads(answer()), "usage": USAGE}
    event = {
        "specversion": "1.0",
        "type": "pointsman.outcome.v1",
        "source": "test",
        "id": "1",
        "data": {
            "endpoint": "a",
            "status": 200,
            "tokens_in": 40,
            "tokens_out": 30,
            "tokens_cached": 32,
            "tokens_reasoning": 21,
        },
    }
    entry = {"base_url": provider.url("p"), "passthrough": True}
    value = {"endpoints": [endpoint(provider, "a")], "providers": {"prov": entry}}
    for host in "ap":
        provider.on(host, Reply(body=json.dumps(whole).encode()))

    with serving(value, state_dir, address) as sidecar:
        assert sidecar.chat("a").status_code == 200
        assert sidecar.chat("gpt-9").status_code == 200
        kind = {"content-type": "application/cloudevents+json"}
        told = sidecar.http.post("/v1/events", content=json.dumps(event), headers=kind)
        assert told.status_code == 202, told.text
        sidecar.until(lambda: sidecar.app.writer.counters.sent == 3)

    found = records(address)
    assert len(found) == 3
    for column, value in (
        ("tokens_in", 40),
        ("tokens_out", 30),
        ("tokens_cached", 32),
        ("tokens_reasoning", 21),
    ):
        assert found[column].tolist() == [value] * 3, column
    assert all(flags & int(Flag.USAGE_KNOWN | Flag.FINAL) for flags in found["flags"].tolist())


def test_a_user_is_booked_by_a_digest_that_nobody_can_guess_back(
    provider: Provider, state_dir: Any, address: Address
) -> None:
    with serving({"endpoints": [endpoint(provider, "a")]}, state_dir, address) as sidecar:
        for user in ("ann", "bob", "ann", None):
            headers = {"x-router-user": user} if user else {}
            assert sidecar.chat("a", headers=headers).status_code == 200
        sidecar.until(lambda: sidecar.app.writer.counters.sent == 4)
        version = sidecar.app.keeper.current.configuration.version
        guessed = digest8("user", "default", "ann")

    found = records(address)
    users = found["token"]["user"].tolist()
    assert users.count(0) == 1
    assert sorted(users.count(u) for u in set(users)) == [1, 1, 2]
    assert guessed not in users
    assert set(found["configuration"].tolist()) == {version}


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (USAGE, Usage(40, 30, 32, 21)),
        (
            {
                "prompt_tokens": 32,
                "completion_tokens": 9,
                "total_tokens": 323,
                "completion_tokens_details": {"reasoning_tokens": 282},
            },
            Usage(32, 291, 0, 282),
        ),
        (
            {
                "prompt_tokens": 32,
                "completion_tokens": 300,
                "total_tokens": 332,
                "completion_tokens_details": {"reasoning_tokens": 282},
            },
            Usage(32, 300, 0, 282),
        ),
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 5,
                "prompt_cache_hit_tokens": 90,
                "prompt_cache_miss_tokens": 10,
            },
            Usage(100, 5, 90, 0),
        ),
        ({"prompt_tokens": 100, "completion_tokens": 5, "cached_tokens": 64}, Usage(100, 5, 64, 0)),
        (
            {
                "input_tokens": 7,
                "output_tokens": 3,
                "input_tokens_details": {"cached_tokens": 4},
                "output_tokens_details": {"reasoning_tokens": 2},
            },
            Usage(7, 3, 4, 2),
        ),
        (
            {
                "input_tokens": 7,
                "cache_read_input_tokens": 4,
                "output_tokens": 3,
                "output_tokens_details": {"thinking_tokens": 2},
            },
            Usage(11, 3, 4, 2),
        ),
        ({"prompt_tokens": 10.0, "completion_tokens": 5.0}, Usage(10, 5, 0, 0)),
        ({"prompt_tokens": 10, "completion_tokens": -5}, Usage(10, 0, 0, 0)),
        ({"prompt_tokens": 10, "cached_tokens": 99}, Usage(10, 0, 10, 0)),
        ({"prompt_tokens": True}, None),
        ({"completion_tokens": 3}, None),
        ("3", None),
        (None, None),
    ],
)
def test_usage_is_read_in_every_form(said: Any, meant: Usage | None) -> None:
    assert usage_of(said) == meant


@pytest.mark.parametrize("tier", [None, "priority", 7])
@pytest.mark.parametrize(
    "said",
    [
        {"prompt_tokens": 10, "completion_tokens": 5},
        {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": None},
        {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": -1},
        {"prompt_tokens": 10, "completion_tokens": True},
        {"prompt_tokens": 1 << 40, "completion_tokens": 5},
        {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": None},
        {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {}},
        {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 15,
            "prompt_tokens_details": {"cached_tokens": 8, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 3, "audio_tokens": None},
        },
        {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 18,
            "completion_tokens_details": {"reasoning_tokens": 3},
        },
        {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 99},
            "completion_tokens_details": {"reasoning_tokens": 6},
        },
    ],
)
def test_plain_usage_is_read_as_it_is_beside_a_field_that_nobody_knows(
    said: dict[str, Any], tier: Any
) -> None:
    """The quick way for what most report says what the thorough one does."""
    assert usage_of(said, tier) == usage_of({**said, "unknown": 1}, tier)


SAID: dict[str, Any] = {"message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
SIGNED = {"role": "assistant", "content": "x", "reasoning_details": [{"signature": "s"}]}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"id": ""},
        {"id": 7, "model": None},
        {"system_fingerprint": "fp", "service_tier": "flex"},
        {"object": "error"},
        {"error": {}},
        {"error": {"message": "no"}},
        {"choices": []},
        {"choices": None},
        {"choices": [SAID, SAID]},
        {"choices": [{**SAID, "message": SIGNED}]},
        {"choices": [{**SAID, "message": None}]},
        {"choices": [{**SAID, "finish_reason": "error"}]},
        {"choices": [{**SAID, "finish_reason": 3}]},
        {"choices": [{**SAID, "error": ""}]},
        {"choices": [{**SAID, "error": {"code": 1}}]},
        {"choices": [{"finish_reason": "stop"}]},
    ],
)
def test_a_plain_answer_is_read_as_it_is_beside_a_count_that_nobody_knows(
    more: dict[str, Any],
) -> None:
    """The quick way for nearly all answers reads what the thorough one does."""
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    body = {"id": "a", "model": "m", "choices": [SAID], "usage": usage, **more}
    odd = {**body, "usage": {**usage, "unknown": 1}}

    assert read_chat_answer(json.dumps(body).encode()) == read_chat_answer(json.dumps(odd).encode())
