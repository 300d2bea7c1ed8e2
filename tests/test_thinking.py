"""Conversations keep what was thought where they stay, and leave it behind where they move."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Provider, Reply, Seen, Sidecar, endpoint, event, serving
from thinking import ALL, DIALECTS, Signing, SigningMessages, SigningResponses

from router.decision import stored_ids
from router.translation.carried import BOUND
from telemetry.store import Address

STEADY = {"x-router-session-id": "s1", "x-router-explore": "0"}
NOWHERE = Address("unix:///nowhere/store.sock")


@pytest.fixture(params=ALL, ids=lambda kind: kind.path)
def kind(request: pytest.FixtureRequest) -> type[Signing]:
    found: type[Signing] = request.param
    return found


@pytest.fixture
def hosts(provider: Provider, kind: type[Signing]) -> dict[str, Signing]:
    return {name: kind(provider, name) for name in "ab"}


def two(provider: Provider, kind: type[Signing], **more: Any) -> dict[str, Any]:
    """A configuration in which `a` serves, and `b` where that fails."""
    endpoints = [endpoint(provider, name, dialects=DIALECTS[kind]) for name in "ab"]
    return {
        "endpoints": endpoints,
        "strategies": {"learn": {"objective": "quality", "incumbent": "a"}},
        "apps": {"default": {"mode": "route", "strategy": "learn"}},
        **more,
    }


def ask(
    sidecar: Sidecar, kind: type[Signing], asked: dict[str, Any], **headers: str
) -> httpx.Response:
    content = json.dumps(asked, separators=(",", ":")).encode()
    sent = STEADY | {"content-type": "application/json"} | headers
    return sidecar.http.post(kind.path, content=content, headers=sent)


def told(kind: type[Signing], asked: dict[str, Any], got: httpx.Response) -> dict[str, Any]:
    assert got.status_code == 200, got.text
    found: dict[str, Any] = kind.whole(got.content) if asked.get("stream") else got.json()
    return found


def go_on(
    sidecar: Sidecar, kind: type[Signing], asked: dict[str, Any], **headers: str
) -> tuple[httpx.Response, dict[str, Any]]:
    """Ask, and return the answer with what is asked next."""
    got = ask(sidecar, kind, asked, **headers)
    return got, kind.going_on(asked, told(kind, asked, got))


@pytest.mark.parametrize("stream", [False, True])
def test_a_conversation_that_stays_is_byte_for_byte_the_same(
    provider: Provider,
    state_dir: Path,
    address: Address,
    kind: type[Signing],
    hosts: dict[str, Signing],
    stream: bool,
) -> None:
    with serving(two(provider, kind), state_dir, address) as sidecar:
        asked = kind.first(model="a", stream=stream, stream_options={"include_usage": True})
        for _ in range(4):
            got, following = go_on(sidecar, kind, asked)

            assert hosts["a"].seen[-1].body == json.dumps(asked, separators=(",", ":")).encode()
            assert "x-router-left-out" not in got.headers
            asked = following
    assert len(kind.signatures(asked)) >= 4
    assert len(hosts["a"].seen) == 4


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("with_tools", [False, True])
def test_a_conversation_goes_on_elsewhere_and_comes_home(
    provider: Provider,
    state_dir: Path,
    address: Address,
    kind: type[Signing],
    hosts: dict[str, Signing],
    stream: bool,
    with_tools: bool,
) -> None:
    for host in hosts.values():
        host.with_tools = with_tools
    with serving(two(provider, kind), state_dir, address) as sidecar:
        asked = kind.first(stream=stream)
        for _ in range(2):
            got, asked = go_on(sidecar, kind, asked)
            assert got.headers["x-router-endpoint"] == "a"

        hosts["a"].fails = True
        got, asked = go_on(sidecar, kind, asked)
        assert got.headers["x-router-endpoint"] == "b"
        assert got.headers["x-router-left-out"] == "thinking"
        assert not kind.signatures(hosts["b"].last)
        assert len(hosts["b"].seen) == 1  # nothing was refused

        hosts["a"].fails = False
        n_seen = len(hosts["a"].seen)
        got, _ = go_on(sidecar, kind, asked)
        assert got.headers["x-router-endpoint"] == "a"
        assert got.headers["x-router-left-out"] == "thinking"
        assert len(hosts["a"].seen) == n_seen + 1
        own = [one for one in kind.signatures(asked) if "-a-" in one]
        assert kind.signatures(hosts["a"].last) == own


def test_who_thought_it_outlives_the_process(
    provider: Provider,
    state_dir: Path,
    address: Address,
    kind: type[Signing],
    hosts: dict[str, Signing],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stored_ids, "LOOK_UP_THOUGHTS_S", 5.0)  # this machine may be busy
    with serving(two(provider, kind), state_dir, address) as sidecar:
        _, asked = go_on(sidecar, kind, kind.first(stream=True))
    with serving(two(provider, kind), state_dir, address) as sidecar:
        hosts["a"].fails = True
        got, _ = go_on(sidecar, kind, asked)

        assert got.headers["x-router-endpoint"] == "b"
        assert len(hosts["b"].seen) == 1


def test_a_thought_of_nobody_that_is_known_goes_as_it_came_and_once_more_without_it(
    provider: Provider, state_dir: Path, kind: type[Signing], hosts: dict[str, Signing]
) -> None:
    """The store is away, and the process is another: only the endpoint can tell."""
    with serving(two(provider, kind), state_dir, NOWHERE) as sidecar:
        _, asked = go_on(sidecar, kind, kind.first())
    with serving(two(provider, kind), state_dir, NOWHERE) as sidecar:
        got, following = go_on(sidecar, kind, asked)
        assert "x-router-left-out" not in got.headers

        got, _ = go_on(sidecar, kind, {**following, "model": "b"})

        assert got.headers["x-router-endpoint"] == "b"
        assert got.headers["x-router-attempts"] == "1"
        assert got.headers["x-router-left-out"] == "thinking"
        first, second = hosts["b"].seen
        assert len(kind.signatures(first.json)) < len(kind.signatures(following))
        assert kind.signatures(first.json)
        assert not kind.signatures(second.json)
        assert sidecar.app.health.breakers[sidecar.digest("b")].is_calm(0.0)

        got, _ = go_on(sidecar, kind, {**following, "model": "b"})
        assert got.headers["x-router-left-out"] == "thinking"
        assert len(hosts["b"].seen) == 3  # what it refused, it is not sent again


def test_what_another_app_was_told_is_unknown(
    provider: Provider,
    state_dir: Path,
    address: Address,
    kind: type[Signing],
    hosts: dict[str, Signing],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("ann", "bob"):
        monkeypatch.setenv(name, f"key-{name}")
    apps = {n: {"mode": "route", "strategy": "learn", "keys": [{"env": n}]} for n in ("ann", "bob")}
    with serving(two(provider, kind, apps=apps), state_dir, address) as sidecar:
        _, asked = go_on(sidecar, kind, kind.first(), authorization="Bearer key-ann")
        moved = {**asked, "model": "b"}

        ask(sidecar, kind, moved, authorization="Bearer key-bob")
        assert len(hosts["b"].seen) == 2  # as it came, and without it

        ask(sidecar, kind, moved, authorization="Bearer key-ann")
        assert len(hosts["b"].seen) == 3


def test_a_refusal_of_what_the_endpoint_thought_itself_is_the_clients(
    provider: Provider,
    state_dir: Path,
    address: Address,
    kind: type[Signing],
    hosts: dict[str, Signing],
) -> None:
    with serving(two(provider, kind), state_dir, address) as sidecar:
        _, asked = go_on(sidecar, kind, kind.first(model="a"))
        hosts["a"].host = "changed"  # its key to all that it signed

        got = ask(sidecar, kind, asked)

        assert got.status_code == 400
        assert got.content == kind.refused
        assert len(hosts["a"].seen) == 2
        assert not hosts["b"].seen


def test_what_is_refused_without_thoughts_too_is_a_failure_like_any_other(
    provider: Provider,
    state_dir: Path,
    address: Address,
    kind: type[Signing],
    hosts: dict[str, Signing],
) -> None:
    with serving(two(provider, kind), state_dir, NOWHERE) as sidecar:
        _, asked = go_on(sidecar, kind, kind.first(model="a"))
    hosts["b"].refuses = True
    with serving(two(provider, kind), state_dir, address) as sidecar:
        got = ask(sidecar, kind, {**asked, "model": "b"})

        assert got.status_code == 400
        assert got.content == kind.refused
        assert len(hosts["b"].seen) == 2


# -- what must go back ---------------------------------------------------------------------------

ENABLED = {"thinking": {"type": "enabled", "budget_tokens": 1024}}


@pytest.fixture
def signing(provider: Provider) -> dict[str, Signing]:
    return {name: SigningMessages(provider, name) for name in "ab"}


def test_a_tool_loop_that_began_with_thinking_waits_for_whoever_thought_it(
    provider: Provider, state_dir: Path, address: Address, signing: dict[str, Signing]
) -> None:
    kind = SigningMessages
    with serving(two(provider, kind), state_dir, address) as sidecar:
        _, asked = go_on(sidecar, kind, kind.first(**ENABLED))
        for _ in range(2):  # also deep in the loop
            signing["a"].fails = True
            failed = ask(sidecar, kind, asked)
            signing["a"].fails = False

            assert failed.status_code == 500
            assert not signing["b"].seen
            _, asked = go_on(sidecar, kind, asked)

        closed = [*asked["messages"][:-1], {"role": "user", "content": "never mind"}]
        signing["a"].fails = True
        got = ask(sidecar, kind, {**asked, "messages": closed})
        assert got.headers["x-router-endpoint"] == "b"


def test_a_tool_loop_that_began_elsewhere_ends_there_and_the_session_comes_home(
    provider: Provider, state_dir: Path, address: Address, signing: dict[str, Signing]
) -> None:
    kind = SigningMessages
    with serving(two(provider, kind), state_dir, address) as sidecar:
        signing["a"].with_tools = False
        _, asked = go_on(sidecar, kind, kind.first(**ENABLED))
        signing["a"].fails = True
        _, asked = go_on(sidecar, kind, asked)
        signing["a"].fails = False

        for _ in range(2):  # results of tools
            got, asked = go_on(sidecar, kind, asked)
            assert got.headers["x-router-endpoint"] == "b"
        signing["b"].with_tools = False
        _, asked = go_on(sidecar, kind, asked)
        got, _ = go_on(sidecar, kind, asked)

        assert got.headers["x-router-endpoint"] == "a"
        assert all("-a-" in one for one in kind.signatures(signing["a"].last))
        assert len(kind.signatures(signing["a"].last)) == 2


def test_a_tool_loop_goes_where_its_caller_says_without_what_another_thought(
    provider: Provider, state_dir: Path, address: Address, signing: dict[str, Signing]
) -> None:
    """Whether that can go on is the provider's to say, as it would be directly."""
    kind = SigningMessages
    with serving(two(provider, kind), state_dir, address) as sidecar:
        _, asked = go_on(sidecar, kind, kind.first(**ENABLED))

        got, _ = go_on(sidecar, kind, {**asked, "model": "b"})

        assert got.headers["x-router-endpoint"] == "b"
        assert got.headers["x-router-left-out"] == "thinking"


def test_what_a_dry_run_says_of_a_tool_loop_names_the_thought(
    provider: Provider, state_dir: Path, address: Address, signing: dict[str, Signing]
) -> None:
    kind = SigningMessages
    with serving(two(provider, kind), state_dir, address) as sidecar:
        _, asked = go_on(sidecar, kind, kind.first(**ENABLED))
        headers = {"anthropic-version": "2023-06-01"}
        dry = sidecar.http.post("/v1/router/decide", json=asked, headers=headers).json()

        assert dry["exclusions"] == {"b": f"thinking: {BOUND}"}
        assert dry["left_out"] == []


def test_an_endpoint_that_thinks_adaptively_by_its_own_settings_takes_a_tool_loop(
    provider: Provider, state_dir: Path, address: Address, signing: dict[str, Signing]
) -> None:
    kind = SigningMessages
    value = two(provider, kind)
    value["endpoints"][1]["params"] = {"thinking": {"type": "adaptive"}}
    with serving(value, state_dir, address) as sidecar:
        _, asked = go_on(sidecar, kind, kind.first(**ENABLED))

        got, _ = go_on(sidecar, kind, {**asked, "model": "b"})

        assert got.headers["x-router-left-out"] == "thinking"


def test_what_a_conversation_was_made_compact_into_stays_with_its_maker(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    kind = SigningResponses
    hosts = {name: kind(provider, name) for name in "ab"}
    with serving(two(provider, kind), state_dir, address) as sidecar:
        got = ask(sidecar, kind, kind.first())
        (thought, *_) = got.json()["output"]
        compact = {"type": "compaction", "encrypted_content": thought["encrypted_content"]}
        asked = kind.first(input=[compact, {"role": "user", "content": "and then?"}])

        hosts["a"].fails = True
        assert ask(sidecar, kind, asked).status_code == 500
        assert not hosts["b"].seen


# -- beside calls --------------------------------------------------------------------------------


def test_tokens_are_counted_of_what_would_be_sent(
    provider: Provider, state_dir: Path, address: Address, signing: dict[str, Signing]
) -> None:
    kind = SigningMessages
    with serving(two(provider, kind), state_dir, address) as sidecar:
        _, asked = go_on(sidecar, kind, kind.first())
        for name, carried in (("a", 2), ("b", 0)):
            counted = {**asked, "model": name}
            got = sidecar.http.post("/v1/messages/count_tokens", json=counted)

            assert got.status_code == 200
            assert len(kind.signatures(signing[name].last)) == carried


def test_a_client_that_leaves_was_told_what_was_thought_so_far(
    provider: Provider, state_dir: Path, address: Address, signing: dict[str, Signing]
) -> None:
    kind = SigningMessages
    signing["a"].chunk_delay_s = 0.1
    with serving(two(provider, kind), state_dir, address) as sidecar:
        asked = kind.first(stream=True)
        with sidecar.http.stream("POST", kind.path, json=asked, headers=STEADY) as got:
            said = b""
            for chunk in got.iter_raw():
                said += chunk
                if b"data-sig" in said:
                    break
        sidecar.until(lambda: sidecar.app.thoughts.n_known == 1)
        answer = kind.whole(said)
        answer["content"] = answer["content"][:1]

        got_b, _ = go_on(sidecar, kind, {**kind.going_on(asked, answer), "model": "b"})

        assert got_b.headers["x-router-left-out"] == "thinking"
        assert len(signing["b"].seen) == 1


def test_explanations_name_what_was_left_out(
    provider: Provider, state_dir: Path, address: Address, signing: dict[str, Signing]
) -> None:
    kind = SigningMessages
    with serving(two(provider, kind), state_dir, address) as sidecar:
        _, asked = go_on(sidecar, kind, kind.first())
        got, _ = go_on(sidecar, kind, {**asked, "model": "b"})
        shown = f"/v1/router/decisions/{got.headers['x-router-decision-id']}"
        sidecar.until(lambda: sidecar.http.get(shown).status_code == 200)

        assert sidecar.http.get(shown).json()["left_out"] == ["thinking"]


# -- between dialects ----------------------------------------------------------------------------

ASKS_TO_THINK = {
    SigningMessages: {"thinking": {"type": "adaptive"}},
    SigningResponses: {"reasoning": {"effort": "low", "summary": "auto"}},
}


def thinking_aloud(call: Seen) -> Reply:
    """Answer a call of Chat Completions with words of thought, which nobody signs."""
    said = {"role": "assistant", "reasoning_content": "They greet me.", "content": "hello"}
    about = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m"}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    ends = {"index": 0, "finish_reason": "stop"}
    if not call.json.get("stream"):
        choice = ends | {"message": said}
        return Reply(body=json.dumps(about | {"choices": [choice], "usage": usage}).encode())
    pieces: list[dict[str, Any]] = [{"delta": {name: value}} for name, value in said.items()]
    chunks = [event(about | {"choices": [{"index": 0} | piece]}) for piece in pieces]
    chunks.append(event(about | {"choices": [ends | {"delta": {}}], "usage": usage}))
    return Reply(chunks=[*chunks, b"data: [DONE]\n\n"])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", [SigningMessages, SigningResponses])
def test_thoughts_cross_no_dialect_in_either_direction(
    provider: Provider, state_dir: Path, address: Address, kind: type[Signing], stream: bool
) -> None:
    native = kind(provider, "n")
    native.with_tools = False
    provider.on("t", thinking_aloud)
    of_chat = {"from": ["messages", "responses"], "drop": ["store"]}
    value = {
        "models": {"gpt": {"reasoning": "effort"}, "n": {}},
        "endpoints": [
            endpoint(provider, "n", dialects=DIALECTS[kind]),
            endpoint(provider, "t", model="gpt", dialects=["chat"], translate=of_chat),
        ],
    }
    with serving(value, state_dir, address) as sidecar:
        asked = kind.first(model="t", stream=stream, **ASKS_TO_THINK[kind])
        _, asked = go_on(sidecar, kind, asked)
        assert "They greet me." in json.dumps(asked)

        got, asked = go_on(sidecar, kind, {**asked, "model": "n"})
        assert got.headers["x-router-left-out"] == "thinking"
        assert len(native.seen) == 1  # nothing was refused
        assert "They greet me." not in native.seen[0].body.decode()

        got, _ = go_on(sidecar, kind, {**asked, "model": "t"})
        sent = provider.calls[-1].body.decode()
        assert "sig-n-" in json.dumps(asked)
        assert "They greet me." not in sent
        assert not any(one in sent for one in ("sig-n-", "signature", "encrypted", "rs_"))
