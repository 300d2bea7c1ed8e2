"""What lies at a provider is asked for, and gone on from, where it was made: and nowhere else."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Iterator
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
    Seen,
    Sidecar,
    endpoint,
    event,
    serving,
)

from router.config.compiled import Configuration, compile_text
from router.decision.store_line import MAX_UNWRITTEN
from router.decision.stored_ids import StoredIds
from router.dialects.stored import StoredId, StoredKind
from router.dispatch.passing import stored_path
from router.endpoints.entries import Dialect
from router.endpoints.providers import Provider as Place
from router.errors import RequestRejected, StoreAway
from router.policy.makers import Unknown, as_provider, maker_name, server_of, sole_maker
from telemetry import keys, stored_ids
from telemetry.embedded import PrivateServer
from telemetry.store import Address

NOWHERE = Address("unix:///nowhere/store.sock")
SPEAKS = {"dialects": ["responses"]}
NUMBERS = itertools.count()
JSON = {"content-type": "application/json"}


class Keeping:
    """A provider of Responses that knows what it made itself, and nothing else."""

    def __init__(self, provider: Provider, host: str) -> None:
        self.host = host
        self.made: dict[str, dict[str, Any]] = {}
        self.seen: list[Seen] = []
        self.delay_s = 0.0
        provider.on(host, self.reply)

    def reply(self, call: Seen) -> Reply:
        self.seen.append(call)
        parts = call.path.partition("?")[0].split("/")[3:]
        asked = call.json if call.body else {}
        if len(parts) == 1 and call.method == "POST":
            return self._made(parts[0], asked)
        if len(parts) == 2 and parts[1] in ("compact", "input_tokens"):
            return self._ok({"object": "response.input_tokens", "input_tokens": 1})
        found = self.made.get(parts[1])
        if found is None:
            return self._missing()
        if parts[2:] == ["cancel"]:
            found["status"] = "cancelled"
        if parts[2:] and parts[2] in ("input_items", "items"):
            return self._ok({"object": "list", "data": [], "has_more": False})
        if call.method == "DELETE":
            del self.made[parts[1]]
            return self._ok({"id": parts[1], "object": "response", "deleted": True})
        return self._ok(found)

    def _made(self, kind: str, asked: dict[str, Any]) -> Reply:
        within = asked.get("conversation")
        within = within["id"] if isinstance(within, dict) else within
        if any(id_ and id_ not in self.made for id_ in (asked.get("previous_response_id"), within)):
            return self._missing()
        if kind == "conversations":
            made = {"id": f"conv_{self.host}{next(NUMBERS)}", "object": "conversation"}
            self.made[made["id"]] = made
            return self._ok(made)
        response = {
            "id": f"resp_{self.host}{next(NUMBERS)}",
            "object": "response",
            "created_at": 1,
            "status": "queued" if asked.get("background") else "completed",
            "model": asked["model"],
            "output": [] if asked.get("background") else [MESSAGE],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": None if asked.get("background") else USAGE,
        }
        if asked.get("store") is not False:
            self.made[response["id"]] = response
        if not asked.get("stream"):
            return self._ok(response)
        begun = response | {"status": "in_progress", "output": [], "usage": None}
        said = {"type": "response.output_text.delta", "item_id": "m", "delta": "hello"}
        end = {"type": "response.completed", "response": response}
        events = [{"type": "response.created", "response": begun}, said, said, end]
        chunks = [event(one | {"sequence_number": i}) for i, one in enumerate(events)]
        return Reply(chunks=chunks, chunk_delay_s=self.delay_s)

    @staticmethod
    def _ok(value: object) -> Reply:
        return Reply(body=json.dumps(value).encode())

    @staticmethod
    def _missing() -> Reply:
        said = {"message": "not here", "type": "invalid_request_error", "param": None, "code": None}
        return Reply(404, json.dumps({"error": said}).encode())


MESSAGE = {
    "type": "message",
    "id": "m",
    "status": "completed",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "hello", "annotations": []}],
}
USAGE = {
    "input_tokens": 10,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 15,
}


def two(provider: Provider, **more: Any) -> dict[str, Any]:
    """A configuration of two endpoints that keep their own."""
    endpoints = [endpoint(provider, name, **SPEAKS) for name in "ab"]
    return {"endpoints": endpoints, "strategies": LEARN, "apps": ROUTED, **more}


def apps(*names: str, **more: Any) -> dict[str, Any]:
    """Apps with a key each."""
    return {n: {"mode": "route", "strategy": "learn", "keys": [{"env": n}], **more} for n in names}


def sdk(sidecar: Sidecar, key: str = "any") -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{sidecar.url}/v1",
        api_key=key,
        max_retries=0,
        http_client=httpx.Client(timeout=10),
    )


def ask(sidecar: Sidecar, model: str = "auto", key: str = "any", **more: Any) -> httpx.Response:
    body = {"model": model, "input": "hi", **more}
    headers = {"authorization": f"Bearer {key}"}
    return sidecar.http.post("/v1/responses", json=body, headers=headers)


def get(sidecar: Sidecar, path: str, key: str = "any", method: str = "GET") -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"}
    return sidecar.http.request(method, f"/v1/{path}", headers=headers)


def code(got: httpx.Response) -> str:
    return str(got.json()["error"]["code"])


@pytest.fixture
def kept(provider: Provider) -> dict[str, Keeping]:
    return {name: Keeping(provider, name) for name in "ab"}


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ann", "bob"):
        monkeypatch.setenv(name, f"key-{name}")


# -- calls that go on ---------------------------------------------------------------------------


def test_what_goes_on_goes_to_whoever_made_it_and_so_does_every_question(
    provider: Provider, state_dir: Path, address: Address, kept: dict[str, Keeping]
) -> None:
    with serving(two(provider), state_dir, address) as sidecar, sdk(sidecar) as client:
        for name in "abab":
            first = client.responses.create(model=name, input="hi")
            raw = client.responses.with_raw_response.create(
                model="auto", input="and?", previous_response_id=first.id
            )
            second = raw.parse()
            third = client.responses.create(
                model="auto", input="and?", previous_response_id=second.id
            )

            assert raw.headers["x-router-endpoint"] == name
            assert raw.headers["x-router-propensity"] == "1"
            assert {r.model for r in (first, second, third)} == {name}
            assert client.responses.retrieve(third.id).output_text == "hello"
            assert client.responses.input_items.list(third.id).data == []
            assert client.responses.cancel(third.id).status == "cancelled"
            client.responses.delete(third.id)
            with pytest.raises(openai.NotFoundError, match="not here"):  # in its own words
                client.responses.retrieve(third.id)


def test_the_query_and_the_answers_bytes_of_a_question_travel(
    provider: Provider, state_dir: Path, address: Address, kept: dict[str, Keeping]
) -> None:
    with serving(two(provider), state_dir, address) as sidecar:
        made = ask(sidecar, "b").json()["id"]
        got = get(sidecar, f"responses/{made}?include[]=x&starting_after=3")

        assert got.content == json.dumps(kept["b"].made[made]).encode()
        assert got.headers["x-router-endpoint"] == "b/responses/*"
        assert get(sidecar, f"responses/{made}/input_items").headers["x-router-endpoint"] == (
            "b/responses/*/input_items"
        )
    assert kept["b"].seen[-2].path == f"/b/v1/responses/{made}?include[]=x&starting_after=3"
    assert kept["b"].seen[-2].method == "GET"


def test_a_streamed_response_can_be_asked_for_as_soon_as_its_id_was_told(
    provider: Provider, state_dir: Path, address: Address, kept: dict[str, Keeping]
) -> None:
    kept["a"].delay_s = 0.5
    with serving(two(provider), state_dir, address) as sidecar, sdk(sidecar) as client:
        stream = client.responses.create(model="a", input="hi", stream=True, background=True)
        created = next(iter(stream))
        assert created.type == "response.created"
        assert client.responses.cancel(created.response.id).status == "cancelled"
        stream.close()

        again = client.responses.create(
            model="auto", input="and?", previous_response_id=created.response.id, stream=True
        )
        assert [e.type for e in again][-1] == "response.completed"
    assert not kept["b"].seen


def test_a_response_in_the_background_is_kept_though_it_says_nothing_yet(
    provider: Provider, state_dir: Path, address: Address, kept: dict[str, Keeping]
) -> None:
    with serving(two(provider), state_dir, address) as sidecar, sdk(sidecar) as client:
        made = client.responses.create(model="b", input="hi", background=True)

        assert made.status == "queued"
        assert client.responses.retrieve(made.id).status == "queued"
        assert client.responses.cancel(made.id).status == "cancelled"


def test_what_is_not_stored_is_in_no_index(
    provider: Provider, state_dir: Path, address: Address, kept: dict[str, Keeping]
) -> None:
    with serving(two(provider), state_dir, address) as sidecar:
        made = ask(sidecar, "a", store=False).json()["id"]
        got = ask(sidecar, previous_response_id=made)

        assert got.status_code == 404
        assert code(got) == "previous_response_not_found"
        assert got.json()["error"]["param"] == "previous_response_id"
        assert "more than one endpoint or provider may have made it" in got.text
        assert get(sidecar, f"responses/{made}").status_code == 404
        assert sidecar.app.ids.n_known == 0


def test_an_explanation_says_why_nothing_was_drawn(
    provider: Provider, state_dir: Path, address: Address, kept: dict[str, Keeping]
) -> None:
    with serving(two(provider), state_dir, address) as sidecar:
        got = ask(sidecar, previous_response_id=ask(sidecar, "b").json()["id"])
        decision = got.headers["x-router-decision-id"]
        sidecar.until(lambda: get(sidecar, f"router/decisions/{decision}").status_code == 200)
        found = get(sidecar, f"router/decisions/{decision}").json()

    assert found["note"] == "goes on from what lies at this endpoint"
    assert (found["drawn"], found["routed"], found["propensity"]) == ("b", False, 1.0)


def test_hard_constraints_hold_for_what_goes_on(
    provider: Provider, state_dir: Path, address: Address, kept: dict[str, Keeping]
) -> None:
    with serving(two(provider), state_dir, address) as sidecar:
        made = ask(sidecar, "a").json()["id"]
        restricted = {"router": {"data_class": "restricted"}}
        got = ask(sidecar, previous_response_id=made, **restricted)
        headers = {"x-router-data-class": "restricted"}
        asked = sidecar.http.get(f"/v1/responses/{made}", headers=headers)

    assert (got.status_code, code(got)) == (409, "no_eligible_endpoint")
    assert got.json()["error"]["exclusions"] == {"a": "data_class"}
    assert (asked.status_code, code(asked)) == (409, "no_eligible_endpoint")
    assert len(kept["a"].seen) == 1


def test_whoever_made_it_is_out_then_nobody_else_is_asked(
    provider: Provider, state_dir: Path, address: Address, kept: dict[str, Keeping]
) -> None:
    with serving(two(provider), state_dir, address) as sidecar:
        made = ask(sidecar, "a").json()["id"]
        provider.on("a", Reply(503, b'{"error":{"message":"down"}}'))
        got = ask(sidecar, previous_response_id=made)

    assert got.status_code == 503
    assert not kept["b"].seen


def test_two_things_to_go_on_from_are_refused(
    provider: Provider, state_dir: Path, address: Address, kept: dict[str, Keeping]
) -> None:
    with serving(two(provider), state_dir, address) as sidecar:
        got = ask(sidecar, previous_response_id="resp_a", conversation="conv_b")

    assert (got.status_code, code(got)) == (400, "invalid_request")


# -- apps ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("secrets")
def test_what_another_app_was_told_of_is_not_there(
    provider: Provider, state_dir: Path, address: Address, kept: dict[str, Keeping]
) -> None:
    one = {"endpoints": [endpoint(provider, "a", **SPEAKS)], "strategies": LEARN}
    with serving(one | {"apps": apps("ann", "bob")}, state_dir, address) as sidecar:
        made = ask(sidecar, key="key-ann").json()["id"]
        n_seen = len(kept["a"].seen)
        for got in (
            ask(sidecar, key="key-bob", previous_response_id=made),
            get(sidecar, f"responses/{made}", "key-bob"),
            get(sidecar, f"responses/{made}", "key-bob", "DELETE"),
            get(sidecar, f"responses/{made}/cancel", "key-bob", "POST"),
            get(sidecar, f"responses/{made}/input_items", "key-bob"),
        ):
            assert got.status_code == 404
            assert "serves other apps under the same key" in got.text
        assert len(kept["a"].seen) == n_seen
        assert get(sidecar, f"responses/{made}", "key-ann").status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/v1/Responses/{}", "/v1/responses;x/{}", "/v1/RESPONSES/{}/cancel", "/v1/Conversations/{}"],
)
def test_no_other_spelling_leads_past_the_index(path: str) -> None:
    with pytest.raises(RequestRejected, match="write /v1/"):
        stored_path("GET", path.format("resp_1"))


def test_verbs_below_responses_are_no_ids() -> None:
    assert stored_path("POST", "/v1/responses/compact") is None
    assert stored_path("POST", "/v1/responses") is None
    assert stored_path("GET", "/v1/files/file_1") is None
    found = stored_path("POST", "/v1/conversations/conv_1/items/msg_9")
    assert found is not None
    assert found.stored == StoredId(StoredKind.CONVERSATION, "conv_1")
    assert found.shown == "conversations/*/items/*"


@pytest.mark.usefixtures("secrets")
def test_an_id_in_no_index_goes_where_it_can_only_have_been_made(
    provider: Provider, state_dir: Path, address: Address, kept: dict[str, Keeping]
) -> None:
    """Made without us: one place, for this app alone, or under the caller's own key."""
    kept["a"].made["resp_before"] = {"id": "resp_before", "object": "response", "output": []}
    one = {"endpoints": [endpoint(provider, "a", **SPEAKS)], "strategies": LEARN}
    with serving(one | {"apps": ROUTED}, state_dir / "x", address) as sidecar:
        assert ask(sidecar, previous_response_id="resp_before").status_code == 200
        assert get(sidecar, "responses/resp_before").status_code == 200

    theirs = {"endpoints": [endpoint(provider, "a", auth="client", **SPEAKS)], "strategies": LEARN}
    shared = theirs | {"apps": apps("ann", "bob")}
    with serving(shared, state_dir / "y", address) as sidecar:
        headers = {"x-router-key": "key-bob", "authorization": "Bearer theirs"}
        got = sidecar.http.get("/v1/responses/resp_before", headers=headers)
        assert got.status_code == 200
    assert kept["a"].seen[-1].headers["authorization"] == "Bearer theirs"


def compiled(text: str) -> Configuration:
    return compile_text(text, file="test.yaml")


@pytest.mark.usefixtures("secrets")
def test_who_alone_can_have_made_something() -> None:
    at_a = 'base_url: "http://a/v1", dialects: [responses]'
    keys_ = "apps: {ann: {keys: [{env: ann}]}, bob: {keys: [{env: bob}]%s}}"

    def sole(*endpoints: str, more: str = "") -> str:
        listed = "".join(f"  - {{{one}}}\n" for one in endpoints)
        found = compiled(f"endpoints:\n{listed}{more}")
        maker = sole_maker(found, next(iter(found.apps.values())), StoredKind.RESPONSE)
        return maker.name if isinstance(maker, Unknown) else maker_name(maker)

    first, beside = f"id: x, model: x, {at_a}", f"id: y, model: y, {at_a}"
    elsewhere = 'id: z, model: z, base_url: "http://b/v1", dialects: [responses]'
    passing = 'providers: {p: {base_url: "http://a/v1", passthrough: true}}\n'
    assert sole(first) == "x"
    assert sole(first, beside) == "x"  # one address, one key
    assert sole(first, beside, more=passing) == "x"
    assert sole(first, more=passing.replace("//a", "//c")) == "SEVERAL"
    assert sole(first, elsewhere) == "SEVERAL"
    assert sole('id: x, model: x, base_url: "http://a/v1"') == "NOBODY"
    assert sole('id: x, model: x, base_url: "http://a/v1"', more=passing) == "p"
    assert sole(first, more=keys_ % "") == "SHARED"
    assert sole(f"{first}, auth: client", more=keys_ % "") == "x"
    confined = keys_ % ", regions: [eu]"
    other = 'id: c, model: c, base_url: "http://c/v1", region: eu'
    assert sole(first, other, more=confined) == "x"  # bob may never go there


# -- which model --------------------------------------------------------------------------------


def test_a_model_that_the_maker_does_not_have_is_the_callers_own_affair(
    provider: Provider, state_dir: Path, address: Address, kept: dict[str, Keeping]
) -> None:
    with serving(two(provider), state_dir, address) as sidecar:
        made = ask(sidecar, "a").json()["id"]
        got = ask(sidecar, "b", previous_response_id=made)
        again = ask(sidecar, "auto", previous_response_id=got.json()["id"])

    assert got.headers["x-router-endpoint"] == "a/b"
    assert [call.json["model"] for call in kept["a"].seen] == ["a", "b", "a"]
    assert again.status_code == 200
    assert not kept["b"].seen


def test_by_which_endpoint_a_call_that_goes_on_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"plain": "mode: route", "maps": "map_models: true", "falls": "fallback: any"}
    own["pins"] = "mode: pinned, endpoint: y"
    for name in own:
        monkeypatch.setenv(name, f"key-{name}")
    written = ", ".join(
        f"{name}: {{{said}, keys: [{{env: {name}}}]}}" for name, said in own.items()
    )
    found = compiled(
        'providers: {p: {base_url: "http://a/v1", passthrough: true}}\n'
        "endpoints:\n"
        "  - {id: x, model: large, upstream_model: large-1, provider: p, dialects: [responses]}\n"
        "  - {id: y, model: small, provider: p, dialects: [responses]}\n"
        '  - {id: z, model: other, base_url: "http://b/v1", dialects: [responses]}\n'
        f"apps: {{{written}}}\n"
    )
    catalog = found.catalog
    x, z, p = catalog.by_id["x"], catalog.by_id["z"], catalog.claims.rest
    assert p is not None

    def served(maker: Any, model: str, app: str = "plain") -> str:
        return maker_name(server_of(maker, model, found.apps[app], found, Dialect.RESPONSES))

    assert [served(x, m) for m in ("auto", "auto:quality", "large", "large-1", "x")] == ["x"] * 5
    assert served(x, "small") == "y"  # under the same key, and listed
    assert served(x, "other") == served(x, "unlisted") == "x"  # as the caller's own name
    assert [served(x, "other", app) for app in ("maps", "falls")] == ["x", "x"]
    assert served(z, "large", "pins") == "z"
    assert served(p, "auto") == "x"
    assert served(p, "small") == "y"
    assert served(p, "unlisted") == served(p, "other") == "p"


def test_a_provider_without_endpoints_is_never_sent_a_reserved_name() -> None:
    found = compiled(
        'providers: {p: {base_url: "http://a/v1", passthrough: true}}\n'
        'endpoints: [{id: z, model: other, base_url: "http://b/v1", dialects: [responses]}]\n'
    )
    provider = found.catalog.claims.rest
    assert provider is not None

    with pytest.raises(RequestRejected, match="lies at p, of which no endpoint is listed"):
        server_of(provider, "auto", next(iter(found.apps.values())), found, Dialect.RESPONSES)


def test_where_an_endpoints_paths_are() -> None:
    found = compiled(
        "endpoints:\n"
        '  - {id: x, model: x, base_url: "https://h.example/base/v1/", dialects: [chat, responses]}'
    )

    at = as_provider(found.catalog.by_id["x"], Dialect.RESPONSES)

    assert isinstance(at, Place)
    assert (at.base_url, at.query, at.name) == ("https://h.example/base/v1", b"", "x")


# -- pass-through -------------------------------------------------------------------------------


@pytest.fixture
def passing(
    provider: Provider, state_dir: Path, address: Address, kept: dict[str, Keeping]
) -> Iterator[Sidecar]:
    """A provider that takes the rest, with an endpoint beside it; and one elsewhere."""
    value = {
        "providers": {"prov": {"base_url": provider.url("a"), "passthrough": True}},
        "endpoints": [
            {"id": "x", "model": "small", "provider": "prov", **SPEAKS},
            endpoint(provider, "b", **SPEAKS),
        ],
        "strategies": LEARN,
        "apps": ROUTED,
    }
    with serving(value, state_dir, address) as found:
        yield found


@pytest.mark.parametrize("stream", [False, True])
def test_what_was_passed_through_is_found_where_it_went(
    passing: Sidecar, kept: dict[str, Keeping], stream: bool
) -> None:
    with sdk(passing) as client:
        if stream:
            events = list(client.responses.create(model="gpt-9", input="hi", stream=True))
            made = events[0].response.id  # type: ignore[union-attr]
        else:
            made = client.responses.create(model="gpt-9", input="hi").id

        assert client.responses.retrieve(made).id == made
        raw = client.responses.with_raw_response.create
        plain = raw(model="gpt-9", input="and?", previous_response_id=made)
        own = raw(model="small", input="and?", previous_response_id=made)
        drawn = raw(model="auto", input="and?", previous_response_id=made)
        names = [got.headers["x-router-endpoint"] for got in (plain, own, drawn)]
        assert names == ["prov/gpt-9", "x", "x"]
    assert not kept["b"].seen


@pytest.mark.parametrize("cut", [False, True])
def test_a_long_answer_is_found_by_the_id_at_its_head(
    passing: Sidecar, kept: dict[str, Keeping], provider: Provider, cut: bool
) -> None:
    """Of 9 MiB, more than anybody reads; and of one that breaks off once its id has passed."""
    picture = json.dumps({"id": "resp_long", "object": "response", "big": "x" * (9 << 20)}).encode()
    chunks = [picture[:1000], picture[1000:]]
    provider.on("a", Reply(chunks=chunks[: 1 if cut else 2], cut=cut, headers=JSON))
    body = {"model": "gpt-9", "input": "draw"}
    if cut:
        with pytest.raises(httpx.TransportError):
            passing.http.post("/v1/responses", json=body)
    else:
        assert len(passing.http.post("/v1/responses", json=body).content) == len(picture)
    provider.on("a", kept["a"].reply)
    kept["a"].made["resp_long"] = {"id": "resp_long", "object": "response"}

    assert get(passing, "responses/resp_long").json()["id"] == "resp_long"


def test_the_usage_of_what_is_passed_through_is_counted_once(passing: Sidecar) -> None:
    booked: list[Any] = []
    booking = passing.app.routes._services.passing._passthrough._booking
    write = booking.write
    booking.write = lambda token, ending, **how: (  # type: ignore[method-assign]
        booked.append(ending), write(token, ending, **how))  # fmt: skip

    made = ask(passing, "gpt-9").json()["id"]
    ask(passing, "gpt-9", stream=True)
    get(passing, f"responses/{made}")

    counted = [(e.usage.prompt_tokens, e.usage.completion_tokens) for e in booked[:2]]
    assert counted == [(10, 5), (10, 5)]
    assert booked[2].usage is None
    assert len(booked) == 3


def test_a_stream_that_is_wanted_whole_is_found_as_well(
    provider: Provider, state_dir: Path, address: Address, kept: dict[str, Keeping]
) -> None:
    buffered = {"default": ROUTED["default"] | {"stream": "buffered"}}
    with serving(two(provider, apps=buffered), state_dir, address) as sidecar:
        got = ask(sidecar, "b", stream=True)
        made = next(iter(kept["b"].made))
        assert made in got.text
        assert get(sidecar, f"responses/{made}").status_code == 200


def test_conversations_stay_where_they_were_made(
    passing: Sidecar, kept: dict[str, Keeping]
) -> None:
    with sdk(passing) as client:
        for _ in range(5):
            made = client.conversations.create()
            for within in (made.id, {"id": made.id}):
                got = client.responses.with_raw_response.create(
                    model="auto",
                    input="hi",
                    conversation=within,  # type: ignore[arg-type]
                )
                assert got.headers["x-router-endpoint"] == "x"
            assert client.conversations.retrieve(made.id).id == made.id
            assert client.conversations.items.list(made.id).data == []
        assert get(passing, "conversations/conv_none").status_code == 404
        assert ask(passing, conversation="conv_none").status_code == 404
    assert not kept["b"].seen


def test_a_verb_below_responses_goes_where_what_it_names_lies(
    passing: Sidecar, kept: dict[str, Keeping]
) -> None:
    made = ask(passing, "b").json()["id"]
    body = {"model": "b", "previous_response_id": made}
    got = passing.http.post("/v1/responses/input_tokens", json=body)

    assert got.headers["x-router-endpoint"] == "b/b"
    assert kept["b"].seen[-1].path == "/b/v1/responses/input_tokens"
    body = {"model": "b", "previous_response_id": "resp_none"}
    assert passing.http.post("/v1/responses/input_tokens", json=body).status_code == 404


# -- the store ----------------------------------------------------------------------------------


def test_another_process_finds_it_and_one_that_is_gone_is_named(
    provider: Provider, state_dir: Path, address: Address, kept: dict[str, Keeping]
) -> None:
    with serving(two(provider), state_dir / "x", address) as first:
        made = ask(first, "b").json()["id"]
        first.until(lambda: first.app.ids.n_unwritten == 0)
        with serving(two(provider), state_dir / "y", address) as second:
            got = ask(second, previous_response_id=made)
            assert got.headers["x-router-endpoint"] == "b"
    left = two(provider)
    left["endpoints"].pop()
    with serving(left, state_dir / "z", address) as third:
        for got in (ask(third, previous_response_id=made), get(third, f"responses/{made}")):
            assert got.status_code == 404
            assert "not configured any more" in got.text


def test_with_the_store_away_what_is_known_here_goes_on_and_the_rest_is_for_later(
    provider: Provider, state_dir: Path, kept: dict[str, Keeping]
) -> None:
    with serving(two(provider), state_dir, NOWHERE) as sidecar, sdk(sidecar) as client:
        made = client.responses.create(model="b", input="hi")
        assert client.responses.retrieve(made.id).id == made.id
        for got in (
            ask(sidecar, previous_response_id="resp_unknown"),
            get(sidecar, "responses/resp_unknown"),
            ask(sidecar, conversation="conv_unknown"),
        ):
            assert (got.status_code, code(got)) == (503, "store_away")
            assert got.headers["retry-after"] == "1"
        assert sidecar.app.ids.n_unwritten == 2  # the response, and its item


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def response(i: int) -> StoredId:
    return StoredId(StoredKind.RESPONSE, f"resp_{i}")


def test_what_came_about_without_the_store_is_written_once_it_is_there(
    address: Address, client: Any
) -> None:
    async def run() -> None:
        first, second = StoredIds(address), StoredIds(address)
        for i in range(1200):
            first.note("app", response(i), 2**64 - 1 - i)
        with pytest.raises(StoreAway):
            await second.find("app", response(0))
        first.start()
        second.start()
        await until(lambda: first.n_unwritten == 0)

        assert [await second.find("app", response(i)) for i in (0, 7, 1199)] == [
            2**64 - 1,
            2**64 - 8,
            2**64 - 1200,
        ]
        assert await second.find("other", response(0)) is None
        assert await second.find("app", StoredId(StoredKind.CONVERSATION, "resp_0")) is None
        await first.stop()
        await second.stop()

    asyncio.run(asyncio.wait_for(run(), 30))


def test_what_was_noted_first_holds(address: Address) -> None:
    async def run() -> None:
        first, second = StoredIds(address), StoredIds(address)
        for ids, maker in ((first, 1), (second, 2)):
            ids.start()
            ids.note("app", response(0), maker)
            await until(lambda ids=ids: ids.n_unwritten == 0)  # type: ignore[misc]
        first.note("app", response(0), 3)

        assert await first.find("app", response(0)) == await second.find("app", response(0)) == 1
        await first.stop()
        await second.stop()

    asyncio.run(asyncio.wait_for(run(), 30))


def test_a_store_without_room_is_told_nothing_new_and_it_is_known_here(
    address: Address, client: Any
) -> None:
    async def run() -> None:
        ids = StoredIds(address, has_room=lambda: False)
        ids.start()
        ids.note("app", response(0), 5)

        assert ids.n_unwritten == 0
        assert await ids.find("app", response(0)) == 5
        assert await ids.find("app", response(1)) is None
        await ids.stop()

    asyncio.run(asyncio.wait_for(run(), 30))
    assert client.dbsize() == 0


def test_beyond_a_bound_the_oldest_ids_are_not_written() -> None:
    ids = StoredIds(NOWHERE, most=2)
    for i in range(MAX_UNWRITTEN + 100):
        ids.note("app", response(i), i)

    assert ids.n_unwritten == MAX_UNWRITTEN
    assert ids.n_known == 2


def test_ids_are_kept_for_thirty_days_and_end_by_themselves(
    store: PrivateServer, address: Address, client: Any
) -> None:
    day_s = 86_400
    key = stored_ids.key_of("app", "responses", "resp_1")
    late = stored_ids.key_of("app", "responses", "resp_2")
    ttl_ms = 30 * day_s * 1000
    assert client.execute_command(*stored_ids.note(key, b"12345678", ttl_ms=ttl_ms)) == b"12345678"
    a_day_ms = day_s * 1000  # of a note that the store is told of after 29 days
    client.execute_command(*stored_ids.note(late, b"87654321", ttl_ms=a_day_ms))

    assert client.execute_command(*stored_ids.look_up(key)) == b"12345678"
    assert client.execute_command(*stored_ids.look_up(late)) == b"87654321"
    names = {name: client.ttl(name) for name in client.scan_iter("*")}
    assert all(keys.is_stored_id(name) and not keys.is_draw(name) for name in names)
    most_s = 31 * day_s + stored_ids.SPREAD_S
    assert all(day_s - 5 < left_s <= most_s for left_s in names.values())
    assert sum(left_s > 30 * day_s - 5 for left_s in names.values()) >= 2


def test_a_look_up_over_thirty_full_days_is_quick(
    store: PrivateServer, address: Address, client: Any
) -> None:
    """Each look-up asks every span: it stays within a small part of what it may take."""
    for day in range(31):
        pipeline = client.pipeline(transaction=False)
        for i in range(300):
            key = stored_ids.key_of("app", "responses", f"resp_{day}_{i}")
            ttl_ms = (stored_ids.KEPT_S + day * stored_ids.SPAN_S) * 1000
            pipeline.execute_command(*stored_ids.note(key, bytes(8), ttl_ms=ttl_ms))
        pipeline.execute()
    command = stored_ids.look_up(stored_ids.key_of("app", "responses", "resp_30_7"))
    client.execute_command(*command)
    began = time.perf_counter()
    for _ in range(100):
        assert client.execute_command(*command) == bytes(8)

    assert (time.perf_counter() - began) / 100 < 0.02


def test_an_id_of_another_endpoint_is_no_model_of_where_a_response_lies(
    provider: Provider, state_dir: Path, address: Address, kept: dict[str, Keeping]
) -> None:
    value = two(provider)
    for one in value["endpoints"]:
        one["model"] = f"model-{one['id']}"
    with serving(value, state_dir, address) as sidecar:
        made = ask(sidecar, "a").json()["id"]
        asked = len(provider.calls)
        got = ask(sidecar, "b", previous_response_id=made)
        assert (got.status_code, code(got)) == (404, "model_not_found")
        assert "that is at a" in got.json()["error"]["message"]
        assert len(provider.calls) == asked
        assert ask(sidecar, "a", previous_response_id=made).status_code == 200


def test_an_unknown_response_may_have_been_translated_and_that_is_said(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with serving(two(provider), state_dir, address) as sidecar:
        got = ask(sidecar, previous_response_id="chatcmpl-1")

    message = got.json()["error"]["message"]
    assert "this app was told of no response 'chatcmpl-1' that is kept" in message
    assert "answers that are translated are kept nowhere" in message
