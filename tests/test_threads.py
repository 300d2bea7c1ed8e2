"""A thread of Messages goes on where it is held, or begins anew: nobody answers without it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest
from anthropic import beta_tool
from conftest import LEARN, ROUTED, Provider, Reply, Seen, Sidecar, endpoint, serving

from router.config.compiled import compile_text
from router.dialects import messages
from router.dialects.opaque import is_repeatable, take_hints
from router.dialects.stored import StoredId, StoredKind
from router.dispatch.passing import stored_path
from router.policy.makers import Unknown, maker_name, sole_maker
from telemetry.store import Address

NOWHERE = Address("unix:///nowhere/store.sock")
SPEAKS = {"dialects": ["messages"]}
CREATE = {"type": "create"}
NUMBERS = itertools.count()
EXECUTION = [{"type": "code_execution_20250825", "name": "code_execution"}]


class Holding:
    """A provider of Messages that holds its own threads and containers, and nobody else's."""

    def __init__(self, provider: Provider, host: str) -> None:
        self.host = host
        self.threads: dict[str, tuple[list[Any], list[Any]]] = {}  # messages and tools
        self.containers: set[str] = set()
        self.seen: list[Seen] = []
        provider.on(host, self.reply)

    def reply(self, call: Seen) -> Reply:
        self.seen.append(call)
        asked = call.json
        thread, container = asked.get("thread") or {}, asked.get("container")
        before, tools = self.threads.get(thread.get("previous_message_id", ""), ([], []))
        tools = tools or asked.get("tools", [])
        if thread.get("type") == "continue" and not before:
            return refused("thread_not_found")
        if isinstance(container, dict):
            container = container.get("id")
        if container and container not in self.containers:
            return refused("container_not_found")
        said = before + asked["messages"]
        if "/count_tokens" in call.path:
            return Reply(body=json.dumps({"input_tokens": len(said)}).encode())
        content = self._content(tools, said)
        answer = {
            "id": f"msg_{self.host}{next(NUMBERS)}",
            "type": "message",
            "role": "assistant",
            "model": asked["model"],
            "content": [content],
            "stop_reason": "tool_use" if content["type"] == "tool_use" else "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 10, "output_tokens": 5},
        }
        if thread:
            self.threads[answer["id"]] = [*said, {"role": "assistant", "content": [content]}], tools
        if any(tool["name"] == "code_execution" for tool in tools):
            container = container or f"container_{self.host}{next(NUMBERS)}"
            self.containers.add(container)
            answer["container"] = {"id": container, "expires_at": "2030-01-01T00:00:00Z"}
        if asked.get("stream"):
            return Reply(chunks=streamed(answer))
        return Reply(body=json.dumps(answer).encode())

    def _content(self, tools: list[Any], said: list[Any]) -> dict[str, Any]:
        results = sum("tool_result" in json.dumps(message["content"]) for message in said)
        if results < 2 and any(tool["name"] == "read" for tool in tools):
            use = {"type": "tool_use", "id": f"toolu_{next(NUMBERS)}", "name": "read"}
            return use | {"input": {"file": "notes"}}
        return {"type": "text", "text": f"{self.host} knows {len(said)}"}


def refused(code: str) -> Reply:
    error = {"type": "not_found_error", "message": code.replace("_", " ")}
    said = {"type": "error", "error": error | {"details": {"error_code": code}}}
    return Reply(404, json.dumps(said).encode())


def streamed(answer: dict[str, Any]) -> list[bytes]:
    """A whole answer as events; its container is told of at the end."""
    (block,) = answer["content"]
    begin: dict[str, Any] = block | {"text": ""}
    piece = {"type": "text_delta", "text": block.get("text", "")}
    if block["type"] == "tool_use":
        begin = block | {"input": {}}
        piece = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
    end = {"stop_reason": answer["stop_reason"], "container": answer.get("container")}
    head = {k: v for k, v in answer.items() if k != "container"}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": head | {"content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": begin},
        {"type": "content_block_delta", "index": 0, "delta": piece},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": end, "usage": answer["usage"]},
        {"type": "message_stop"},
    ]
    return [f"event: {e['type']}\ndata: {json.dumps(e)}\n\n".encode() for e in events]


def two(provider: Provider, **more: Any) -> dict[str, Any]:
    """A configuration of two endpoints that hold their own."""
    endpoints = [endpoint(provider, name, **SPEAKS) for name in "ab"]
    return {"endpoints": endpoints, "strategies": LEARN, "apps": ROUTED, **more}


def ask(
    sidecar: Sidecar, model: str = "auto", key: str = "any", path: str = "messages", **more: Any
) -> httpx.Response:
    body = {"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}
    return sidecar.http.post(f"/v1/{path}", json=body | more, headers=headers)


def go_on(previous: httpx.Response | str) -> dict[str, Any]:
    id_ = previous if isinstance(previous, str) else previous.json()["id"]
    return {"type": "continue", "previous_message_id": id_}


def sdk(sidecar: Sidecar, key: str = "any") -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=sidecar.url, api_key=key, max_retries=0, timeout=10)


def own_loop(client: anthropic.Anthropic, between: Any = lambda: None, **more: Any) -> Any:
    """Let the SDK call a tool twice; `between` runs with each call of it."""

    @beta_tool
    def read(file: str) -> str:
        """Read a file."""
        between()
        return "a word"

    how: Any = {"max_tokens": 2000, "messages": [{"role": "user", "content": "go"}]}
    how |= {"model": "claude-auto", "tools": [read]} | more
    runner = client.beta.messages.tool_runner(**how)
    if more.get("stream"):
        return [stream.get_final_message() for stream in runner][-1]
    return runner.until_done()


@pytest.fixture
def held(provider: Provider) -> dict[str, Holding]:
    return {name: Holding(provider, name) for name in "ab"}


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ann", "bob"):
        monkeypatch.setenv(name, f"key-{name}")


# -- where it goes on ---------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_the_sdks_own_loop_stays_with_whoever_holds_its_thread(
    provider: Provider, state_dir: Path, address: Address, held: dict[str, Holding], stream: bool
) -> None:
    by_the_call = {"default": ROUTED["default"] | {"unit": "call"}}
    with (
        serving(two(provider, apps=by_the_call), state_dir, address) as sidecar,
        sdk(sidecar) as client,
    ):
        hosts: set[str] = set()
        while hosts != {"a", "b"}:  # drawn anew by each first call
            n_before = {name: len(one.seen) for name, one in held.items()}
            last = own_loop(client, stream=stream)
            asked = {n: len(one.seen) - n_before[n] for n, one in held.items()}
            (host,) = [name for name, n in asked.items() if n]
            assert asked[host] == 3  # nobody refused, nothing was sent again
            assert last.content[0].text == f"{host} knows 5"
            hosts.add(host)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ["a", "b"])
def test_what_continues_is_drawn_from_nobody_and_counted_where_it_lies(
    provider: Provider,
    state_dir: Path,
    address: Address,
    held: dict[str, Holding],
    name: str,
    stream: bool,
) -> None:
    with serving(two(provider), state_dir, address) as sidecar:
        ask(sidecar, name, thread=CREATE, stream=stream)
        (made,) = held[name].threads
        got = ask(sidecar, thread=go_on(made))
        counted = ask(sidecar, path="messages/count_tokens", thread=go_on(got))

        assert got.headers["x-router-endpoint"] == name
        assert got.headers["x-router-propensity"] == "1"
        assert got.json()["content"][0]["text"] == f"{name} knows 3"
        assert counted.json() == {"input_tokens": 5}
        assert counted.headers["x-router-endpoint"] == name
        assert sidecar.app.ids.n_known == 2
    (other,) = {"a", "b"} - {name}
    assert not held[other].seen


def test_a_call_without_a_thread_leaves_no_id(
    provider: Provider, state_dir: Path, address: Address, held: dict[str, Holding]
) -> None:
    with serving(two(provider), state_dir, address) as sidecar:
        ask(sidecar)
        ask(sidecar, thread=None)
        ask(sidecar, stream=True)

        assert sidecar.app.ids.n_known == 0


def test_a_thread_begins_elsewhere_where_the_first_is_out_and_goes_on_there(
    provider: Provider, state_dir: Path, address: Address, held: dict[str, Holding]
) -> None:
    down = b'{"type":"error","error":{"type":"api_error","message":"down"}}'
    provider.on("a", Reply(503, down))
    falls = ROUTED["default"] | {"fallback": "any"}
    with serving(two(provider, apps={"default": falls}), state_dir, address) as sidecar:
        made = ask(sidecar, "a", thread=CREATE)
        provider.on("a", held["a"].reply)  # back before the next turn
        got = ask(sidecar, "a", thread=go_on(made))

    assert made.headers["x-router-endpoint"] == got.headers["x-router-endpoint"] == "b"
    assert got.json()["content"][0]["text"] == "b knows 3"


# -- where it cannot go on ----------------------------------------------------------------------


def test_whoever_holds_it_is_out_then_that_is_said_and_nobody_else_is_asked(
    provider: Provider, state_dir: Path, address: Address, held: dict[str, Holding]
) -> None:
    with serving(two(provider), state_dir, address) as sidecar, sdk(sidecar) as client:
        down = Reply(503, b'{"type":"error","error":{"type":"api_error","message":"down"}}')
        with pytest.raises(anthropic.InternalServerError, match="down"):
            own_loop(client, lambda: provider.on("a", down), model="a")

        provider.on("a", held["a"].reply)  # once it is back, so is the thread
        assert ask(sidecar, thread=go_on(next(iter(held["a"].threads)))).status_code == 200
    assert not held["b"].seen


def test_a_thread_in_no_index_is_refused_in_the_words_by_which_sdks_begin_anew(
    provider: Provider, state_dir: Path, address: Address, held: dict[str, Holding]
) -> None:
    with serving(two(provider), state_dir, address) as sidecar, sdk(sidecar) as client:
        got = ask(sidecar, thread=go_on("msg_unknown"))
        error = got.json()["error"]
        with pytest.raises(anthropic.NotFoundError) as raised:
            client.beta.messages.create(
                model="auto",
                max_tokens=9,
                messages=[{"role": "user", "content": "hi"}],
                thread={"type": "continue", "previous_message_id": "msg_unknown"},
            )
        count = ask(sidecar, path="messages/count_tokens", thread=go_on("msg_unknown"))

    assert got.status_code == count.status_code == 404
    assert (error["type"], error["code"]) == ("not_found_error", "thread_not_found")
    assert error["param"] == "thread.previous_message_id"
    assert "more than one endpoint or provider may have made it" in error["message"]
    assert raised.value.error_code == "thread_not_found"
    assert not held["a"].seen
    assert not held["b"].seen


def test_the_sdk_sends_all_of_it_where_the_holder_is_not_configured_any_more(
    provider: Provider, state_dir: Path, address: Address, held: dict[str, Holding]
) -> None:
    left = two(provider)
    del left["endpoints"][0]
    with serving(two(provider), state_dir / "x", address) as first, sdk(first) as client:
        thread = client.beta.messages.thread(model="a", max_tokens=9)
        thread.send({"role": "user", "content": "one"})
        first.until(lambda: first.app.ids.n_unwritten == 0)
        with serving(left, state_dir / "y", address) as second:
            client.base_url = second.url
            last = thread.send({"role": "user", "content": "two"}, model="auto")

    assert last.content[0].text == "b knows 3"  # type: ignore[union-attr]
    assert [call.json["thread"] for call in held["b"].seen] == [CREATE]


@pytest.mark.usefixtures("secrets")
def test_what_another_app_was_told_of_is_not_there(
    provider: Provider, state_dir: Path, address: Address, held: dict[str, Holding]
) -> None:
    apps = {n: {"mode": "route", "strategy": "learn", "keys": [{"env": n}]} for n in ("ann", "bob")}
    one = {"endpoints": [endpoint(provider, "a", **SPEAKS)], "strategies": LEARN, "apps": apps}
    with serving(one, state_dir, address) as sidecar:
        made = ask(sidecar, key="key-ann", thread=CREATE)
        counts = {"path": "messages/count_tokens"}
        others = [ask(sidecar, key="key-bob", thread=go_on(made), **more) for more in ({}, counts)]
        own = ask(sidecar, key="key-ann", thread=go_on(made))

    assert [got.status_code for got in others] == [404, 404]
    assert all("serves other apps under the same key" in got.text for got in others)
    assert own.json()["content"][0]["text"] == "a knows 3"
    assert len(held["a"].seen) == 2


def test_data_class_holds_for_a_thread(
    provider: Provider, state_dir: Path, address: Address, held: dict[str, Holding]
) -> None:
    with serving(two(provider), state_dir, address) as sidecar:
        made = ask(sidecar, "a", thread=CREATE)
        got = ask(sidecar, thread=go_on(made), router={"data_class": "restricted"})

    assert (got.status_code, got.json()["error"]["code"]) == (409, "no_eligible_endpoint")
    assert len(held["a"].seen) == 1


# -- the store ----------------------------------------------------------------------------------


def test_another_process_finds_it(
    provider: Provider, state_dir: Path, address: Address, held: dict[str, Holding]
) -> None:
    with serving(two(provider), state_dir / "x", address) as first:
        made = ask(first, "b", thread=CREATE)
        first.until(lambda: first.app.ids.n_unwritten == 0)
    with serving(two(provider), state_dir / "y", address) as second:
        got = ask(second, thread=go_on(made))

    assert got.headers["x-router-endpoint"] == "b"
    assert not held["a"].seen


def test_with_the_store_away_what_is_known_here_goes_on_and_the_rest_is_for_later(
    provider: Provider, state_dir: Path, held: dict[str, Holding]
) -> None:
    with serving(two(provider), state_dir, NOWHERE) as sidecar:
        made = ask(sidecar, "b", thread=CREATE)
        assert ask(sidecar, thread=go_on(made)).status_code == 200
        for more in ({"thread": go_on("msg_unknown")}, {"container": "container_unknown"}):
            got = ask(sidecar, **more)
            assert (got.status_code, got.json()["error"]["code"]) == (503, "store_away")
            assert got.headers["retry-after"] == "1"


# -- pass-through -------------------------------------------------------------------------------


@pytest.fixture(params=["beside an endpoint", "alone"])
def passing(
    request: pytest.FixtureRequest,
    provider: Provider,
    state_dir: Path,
    address: Address,
    held: dict[str, Holding],
) -> Iterator[Sidecar]:
    """A provider that takes what is not listed, and an endpoint elsewhere; of Messages, or not."""
    elsewhere = endpoint(provider, "b", **SPEAKS if request.param != "alone" else {})
    value = {
        "providers": {"prov": {"base_url": provider.url("a"), "passthrough": True}},
        "endpoints": [elsewhere],
        "strategies": LEARN,
        "apps": ROUTED,
    }
    with serving(value, state_dir, address) as found:
        yield found


@pytest.mark.parametrize("stream", [False, True])
def test_an_unlisted_models_thread_goes_on_where_it_went(
    passing: Sidecar, held: dict[str, Holding], stream: bool
) -> None:
    ask(passing, "claude-9", thread=CREATE, stream=stream)
    (made,) = held["a"].threads
    got = ask(passing, "claude-9", thread=go_on(made))
    count = ask(passing, "claude-9", path="messages/count_tokens", thread=go_on(got))

    assert got.headers["x-router-endpoint"] == "prov/claude-9"
    assert got.json()["content"][0]["text"] == "a knows 3"
    assert count.json() == {"input_tokens": 5}
    assert passing.app.ids.n_known == 2
    assert not held["b"].seen


def test_a_listed_models_thread_does_not_move_to_where_another_name_goes(
    provider: Provider, state_dir: Path, address: Address, held: dict[str, Holding]
) -> None:
    value = two(provider) | {
        "providers": {"prov": {"base_url": provider.url("b"), "passthrough": True}}
    }
    with serving(value, state_dir, address) as sidecar:
        made = ask(sidecar, "a", thread=CREATE)
        got = ask(sidecar, "claude-9", thread=go_on(made))

    assert got.headers["x-router-endpoint"] == "a/claude-9"
    assert held["a"].seen[-1].json["model"] == "claude-9"
    assert not held["b"].seen


# -- containers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ["a", "b"])
def test_a_container_is_used_where_it_is(
    provider: Provider,
    state_dir: Path,
    address: Address,
    held: dict[str, Holding],
    name: str,
    stream: bool,
) -> None:
    with serving(two(provider), state_dir, address) as sidecar:
        ask(sidecar, name, tools=EXECUTION, stream=stream)
        (container,) = held[name].containers
        got = ask(sidecar, tools=EXECUTION, container=container)
        skilled = {"id": container, "skills": []}
        again = ask(sidecar, tools=EXECUTION, container=skilled)
        unknown = ask(sidecar, tools=EXECUTION, container="container_other")
        drawn = ask(sidecar, tools=EXECUTION, container={"skills": []})

        assert [r.headers["x-router-endpoint"] for r in (got, again)] == [name, name]
        assert (unknown.status_code, unknown.json()["error"]["param"]) == (404, "container")
        assert drawn.status_code == 200
        assert sidecar.app.ids.n_known >= 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_container_of_an_unlisted_model_is_used_where_it_is(
    passing: Sidecar, held: dict[str, Holding], stream: bool
) -> None:
    ask(passing, "claude-9", tools=EXECUTION, stream=stream)
    (container,) = held["a"].containers
    got = ask(passing, "claude-9", tools=EXECUTION, container=container)

    assert got.status_code == 200
    assert passing.app.ids.n_known == 1
    assert not held["b"].seen


def test_a_thread_says_where_its_container_is(
    provider: Provider, state_dir: Path, address: Address, held: dict[str, Holding]
) -> None:
    """The SDK names the container of the last turn in the next one, of itself."""
    with serving(two(provider), state_dir, address) as sidecar, sdk(sidecar) as client:
        thread = client.beta.messages.thread(model="auto", max_tokens=9, tools=EXECUTION)  # type: ignore[arg-type]
        for word in ("one", "two", "three"):
            last = thread.send({"role": "user", "content": word})

    (host,) = [name for name in "ab" if held[name].seen]
    assert last.content[0].text == f"{host} knows 5"  # type: ignore[union-attr]
    assert held[host].seen[-1].json["container"] in held[host].containers


# -- what is read of a call ---------------------------------------------------------------------

TURN = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("more", "continued", "kept"),
    [
        ({}, None, None),
        ({"thread": None}, None, None),
        ({"thread": CREATE}, None, StoredKind.THREAD),
        ({"thread": go_on("m1")}, StoredId(StoredKind.THREAD, "m1"), StoredKind.THREAD),
        ({"thread": {"type": "continue"}}, None, StoredKind.THREAD),
        ({"thread": "odd"}, None, None),
        ({"container": "c1"}, StoredId(StoredKind.CONTAINER, "c1"), None),
        ({"container": {"id": "c1"}}, StoredId(StoredKind.CONTAINER, "c1"), None),
        ({"container": {"id": None, "skills": []}}, None, None),
        (
            {"container": "c1", "thread": go_on("m1")},
            StoredId(StoredKind.THREAD, "m1"),
            StoredKind.THREAD,
        ),
        (
            {"container": "c1", "thread": CREATE},
            StoredId(StoredKind.CONTAINER, "c1"),
            StoredKind.THREAD,
        ),
        ({"previous_response_id": "r1", "diagnostics": {"previous_message_id": "m0"}}, None, None),
    ],
)
def test_what_a_call_goes_on_from_and_leaves_is_read_alike_whoever_lists_its_model(
    more: dict[str, Any], continued: StoredId | None, kept: StoredKind | None
) -> None:
    body = json.dumps(TURN | more).encode()
    read, unread = messages.parse(body), take_hints(body, "/v1/messages")

    assert (read.continued, read.kept) == (unread.continued, unread.kept) == (continued, kept)
    assert read.repeatable is (continued is None and kept is None)
    assert is_repeatable("/v1/messages", body) is read.repeatable


def test_a_field_means_what_it_does_in_its_own_dialect() -> None:
    both = {"thread": go_on("m1"), "container": "c1", "previous_response_id": "r1"}
    body = json.dumps(TURN | both).encode()

    of_responses = take_hints(body, "/v1/responses/input_tokens").continued
    assert of_responses == StoredId(StoredKind.RESPONSE, "r1")
    assert take_hints(body, "/v1/messages/batches").continued == StoredId(StoredKind.THREAD, "m1")
    assert take_hints(body, "/v1/chat/completions").continued is None
    assert take_hints(body, "/v1/responses").kept is StoredKind.RESPONSE
    assert take_hints(body, "/v1/messages/batches").kept is None


@pytest.mark.parametrize(
    "path",
    [
        "/v1/messages/batches",
        "/v1/messages/batches/b1",
        "/v1/messages/msg_1",
        "/v1/threads/msg_1",
        "/v1/containers/cntr_1/files",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_no_path_of_messages_or_containers_is_asked_for_by_id(method: str, path: str) -> None:
    assert stored_path(method, path) is None


def test_who_alone_can_hold_a_thread_is_told_by_its_own_dialect() -> None:
    at = 'id: %s, model: %s, base_url: "http://%s/v1", dialects: [%s]'

    def sole(kind: StoredKind, *endpoints: tuple[str, str]) -> str:
        lines = (f"  - {{{at % (n, n, n, spoken)}}}\n" for n, spoken in endpoints)
        found = compile_text("endpoints:\n" + "".join(lines), file="test.yaml")
        maker = sole_maker(found, next(iter(found.apps.values())), kind)
        return maker.name if isinstance(maker, Unknown) else maker_name(maker)

    one_each = ("x", "messages"), ("y", "responses")
    for kind in (StoredKind.THREAD, StoredKind.CONTAINER):
        assert sole(kind, *one_each) == "x"
        assert sole(kind, ("y", "responses")) == "NOBODY"
        assert sole(kind, *one_each, ("z", "chat, messages")) == "SEVERAL"
    assert sole(StoredKind.RESPONSE, *one_each) == "y"
