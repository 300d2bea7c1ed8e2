"""Calls that hold the names of items alone: an app's own, asked for where they lie."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import LEARN, ROUTED, Provider, Reply, Seen, Sidecar, endpoint, serving
from dialects import speak

from router.dialects.responses import parse
from router.dialects.stored import StoredId, StoredKind, references_in
from telemetry.store import Address
from telemetry.wire.responses import read_item_ids, read_response

SPEAKS = {"dialects": ["responses"]}


class Naming:
    """A provider whose responses and items have ids of its own, two items a response."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.n = 0

    def __call__(self, call: Seen) -> Any:
        asked = json.loads(call.body or b"{}") | {"reasoning": {"effort": "low"}}
        self.n += 1
        reply = speak(call.__class__(**{**vars(call), "body": json.dumps(asked).encode()}))
        reply.body = self._own(reply.body)
        reply.chunks = [self._own(chunk) for chunk in reply.chunks or []] or None
        return reply

    def _own(self, data: bytes) -> bytes:
        for kind in (b"resp_", b"rs_", b"msg_"):
            own = b'"%b%b%d"' % (kind, self.host.encode(), self.n)
            data = data.replace(b'"%b1"' % kind, own)
        return data


def configuration(provider: Provider, *names: str, **more: Any) -> dict[str, Any]:
    for name in names:
        provider.on(name, Naming(name))
    endpoints = [endpoint(provider, name, **SPEAKS) for name in names]
    return {"endpoints": endpoints, "strategies": LEARN, "apps": ROUTED, **more}


@pytest.fixture
def apps(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Two apps with a key each."""
    for name in ("ann", "bob"):
        monkeypatch.setenv(name, f"key-{name}")
    return {name: ROUTED["default"] | {"keys": [{"env": name}]} for name in ("ann", "bob")}


@pytest.fixture
def several(provider: Provider, state_dir: Path, address: Address) -> Iterator[Sidecar]:
    """One app, and responses that may lie at two places."""
    with serving(configuration(provider, "a", "b"), state_dir, address) as found:
        yield found


@pytest.fixture
def shared(
    provider: Provider, state_dir: Path, address: Address, apps: dict[str, Any]
) -> Iterator[Sidecar]:
    """Two apps, and one place where all their responses lie."""
    provider.on("p", Naming("p"))
    more = {"providers": {"p": {"base_url": provider.url("a"), "passthrough": True}}, "apps": apps}
    with serving(configuration(provider, "a", **more), state_dir, address) as found:
        yield found


def post(
    sidecar: Sidecar, app: str = "any", path: str = "responses", **body: Any
) -> httpx.Response:
    return sidecar.http.post(f"/v1/{path}", json=body, headers={"x-router-key": f"key-{app}"})


def reference(id_: str) -> dict[str, Any]:
    return {"type": "item_reference", "id": id_}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "named",
    [
        {"type": "item_reference", "id": "msg_a1"},
        {"type": None, "id": "msg_a1"},
        {"id": "rs_a1"},
        {"type": "image_generation_call", "id": "msg_a1"},
    ],
)
def test_one_app_cannot_name_what_another_was_told_of_at_one_place(
    shared: Sidecar, provider: Provider, named: dict[str, Any], stream: bool
) -> None:
    assert post(shared, "ann", model="auto", input="hi", stream=stream).status_code == 200
    assert post(shared, "bob", model="auto", input="hi").status_code == 200  # makes msg_a2
    asked = len(provider.calls)
    both = [reference("msg_a2"), named]

    for body in (
        {"model": "auto", "input": [named]},
        {"model": "auto", "input": both},
        {"model": "unlisted", "input": [named]},
    ):
        got = post(shared, "bob", **body)
        error = got.json()["error"]
        assert (got.status_code, error["code"], error["param"]) == (404, "not_found", "input")
        assert "serves other apps under the same key" in error["message"]
    for path in ("responses/compact", "responses/input_tokens", "conversations"):
        field = "items" if path == "conversations" else "input"
        assert post(shared, "bob", path, model="a", **{field: [named]}).status_code == 404

    assert len(provider.calls) == asked
    assert post(shared, "ann", model="auto", input=[named]).status_code == 200
    assert post(shared, "bob", model="auto", input=[reference("msg_a2")]).status_code == 200


def test_what_is_passed_on_and_what_is_listed_is_known_by_its_items(
    shared: Sidecar, provider: Provider
) -> None:
    post(shared, "ann", model="unlisted", input="hi")
    post(shared, "ann", model="unlisted", input="hi", stream=True)
    for id_ in ("rs_a1", "msg_a2"):
        body = {"model": "unlisted", "input": [reference(id_)]}
        assert post(shared, "ann", **body).status_code == 200
        assert post(shared, "bob", **body).status_code == 404
    listing = {"object": "list", "data": [{"id": "msg_in", "type": "message"}]}
    provider.on("a", Reply(body=json.dumps(listing).encode()))
    headers = {"x-router-key": "key-ann"}
    assert shared.http.get("/v1/responses/resp_a1/input_items", headers=headers).is_success
    provider.on("a", Naming("a"))
    body = {"model": "auto", "input": [reference("msg_in")]}
    assert post(shared, "ann", **body).status_code == 200
    assert post(shared, "bob", **body).status_code == 404


@pytest.mark.parametrize("stream", [False, True])
def test_where_several_may_have_made_it_a_call_goes_to_who_did(
    several: Sidecar, stream: bool
) -> None:
    for i, host in enumerate("abba", 1):
        made = post(several, model=host, input="hi", stream=stream)
        n = made.text.partition(f"msg_{host}")[2].partition('"')[0]
        for named in ([f"msg_{host}{n}"], [f"rs_{host}{n}"], [f"rs_{host}{n}", f"msg_{host}{n}"]):
            body = {"model": "auto", "input": [reference(one) for one in named]}
            user = {"x-router-user": f"u{i}"}
            got = several.http.post("/v1/responses", json=body, headers=user)
            assert got.headers["x-router-endpoint"] == host


def test_a_name_that_nobody_knows_is_refused_where_several_may_have_made_it(
    several: Sidecar, provider: Provider
) -> None:
    got = post(several, model="auto", input=[reference("msg_none")])

    assert (got.status_code, got.json()["error"]["param"]) == (404, "input")
    assert "more than one endpoint or provider" in got.json()["error"]["message"]
    assert not provider.calls


def test_another_process_finds_items(
    provider: Provider, state_dir: Path, address: Address, apps: dict[str, Any]
) -> None:
    value = configuration(provider, "a", apps=apps)
    with serving(value, state_dir / "x", address) as first:
        post(first, "ann", model="a", input="hi")
        first.until(lambda: first.app.ids.n_unwritten == 0)
    with serving(value, state_dir / "y", address) as second:
        body = {"model": "auto", "input": [reference("rs_a1"), reference("msg_a1")]}
        assert post(second, "ann", **body).status_code == 200
        assert post(second, "bob", **body).status_code == 404


def test_where_one_app_has_one_place_nothing_is_noted_or_looked_up(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with serving(configuration(provider, "a"), state_dir, address) as sidecar:
        post(sidecar, model="a", input="hi")
        assert sidecar.app.ids.n_known == 1
        assert post(sidecar, model="auto", input=[reference("msg_unknown")]).status_code == 200


def test_which_items_are_names_alone() -> None:
    said = {"type": "message", "id": "msg_1", "role": "assistant", "content": []}
    thought = {"type": "reasoning", "id": "rs_1", "summary": []}
    drawn = {"type": "image_generation_call", "id": "ig_1", "result": "aGk="}
    items = [
        *(reference("msg_0"), said, {"id": "msg_2"}, {"id": "msg_3", "type": None}, thought),
        *({"role": "user", "content": "x", "id": "msg_4"}, {"id": 7}, reference(""), drawn),
        *({"type": "function_call_output", "call_id": "c", "output": "x", "id": "fc_1"},),
        {"type": "image_generation_call", "id": "ig_2"},
    ]
    body = json.dumps({"model": "a", "input": items}).encode()
    escaped = body.replace(b"item_reference", b"\\u0069tem_reference")

    names = tuple(StoredId(StoredKind.ITEM, id_) for id_ in ("msg_0", "msg_2", "msg_3", "ig_2"))
    assert parse(body).references == parse(escaped).references == names
    assert references_in("/v1/chat/completions", {}) == ()


def test_of_a_response_or_a_list_all_items_are_known() -> None:
    output = [{"id": "x"}, {"id": "y"}, 7, {}, {"id": "x"}]
    found = read_response(json.dumps({"id": "r", "output": output}).encode())

    assert found is not None
    assert found.item_ids == read_item_ids(json.dumps({"output": output}).encode()) == ("x", "y")
    assert read_item_ids(b'{"data": [{"id": "z"}]}') == ("z",)
    assert read_item_ids(b"no") == ()
