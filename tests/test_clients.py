"""Requests as real clients send them, recorded: what reaches the provider is what came.

The recordings lie outside the project. Where they are not there, nothing of this is tried.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY, Provider, Reply, Seen, Sidecar, endpoint, serving
from dialects import speak

from router.dialects.request import NOTHING_DECLARED
from router.dispatch.headers import HOP, TRAVEL, TRAVEL_PREFIXES
from router.policy.hints import read_hints
from telemetry.store import Address

ASIDE = [up / "shared" / "data" / "clients" for up in list(REPOSITORY.parents)[:2]]
"""Beside the checkout, or beside the folder of checkouts that it is in."""
NAMED = os.environ.get("POINTSMAN_CLIENTS")
FOUND = next((place for place in ([Path(NAMED)] if NAMED else ASIDE) if place.is_dir()), None)
MISSING = "no recorded requests of real clients: set POINTSMAN_CLIENTS to where they are"
BLANKED = re.compile(r"text of (\d+) characters")
ROUTED = ("/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/messages/count_tokens")
ALL = ["chat", "messages", "responses"]


@dataclass(frozen=True)
class Recorded:
    """One request of a client."""

    name: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def is_routed(self) -> bool:
        return self.path.partition("?")[0] in ROUTED

    def sent_headers(self) -> dict[str, str]:
        """Its headers; what was blanked is some text."""
        skipped = {"content-length", "host", "connection", "accept-encoding"}
        return {
            name: value.replace("…", "some")
            for name, value in self.headers.items()
            if name not in skipped
        }


def recorded() -> list[Recorded]:
    """All requests with a body of JSON that are for a provider."""
    found = []
    for file in sorted(FOUND.glob("*.json")) if FOUND else ():
        whole = json.loads(file.read_text())
        body, path = whole.get("body"), whole["path"]
        if isinstance(body, dict) and "_raw_bytes" not in body and "feedback" not in path:
            filled = _filled(body)
            found.append(Recorded(file.stem, path, whole["headers"], filled))
    return found


def _filled(value: Any) -> Any:
    """Texts at their length again, with letters of several bytes in them."""
    if isinstance(value, dict):
        return {name: _filled(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_filled(each) for each in value]
    blanked = BLANKED.fullmatch(value) if isinstance(value, str) else None
    return ('aé\n"字 \\ 😀' * int(blanked[1]))[: int(blanked[1])] if blanked else value


REQUESTS = recorded()
OF_CLIENTS = pytest.mark.skipif(not REQUESTS, reason=MISSING)


def each(requests: list[Recorded]) -> Any:
    """A test of each of these requests; a test that is skipped where there are none."""
    found = [pytest.param(request, id=request.name) for request in requests]
    return pytest.mark.parametrize("request_", found or [None])


EACH = each(REQUESTS)
EACH_ROUTED = each([request for request in REQUESTS if request.is_routed])


def test_recordings_of_real_clients_are_there() -> None:
    """It skips aloud: the others of this file would else be missed by nobody."""
    if not REQUESTS:
        pytest.skip(MISSING)
    assert {r.path.partition("?")[0] for r in REQUESTS} >= set(ROUTED)


def answered(call: Seen) -> Reply:
    if call.path.partition("?")[0].endswith(("/messages", "/responses", "/completions", "_tokens")):
        return speak(call)
    return Reply(body=b'{"object":"list","data":[]}')


@contextmanager
def sidecar_for(
    provider: Provider, state_dir: Path, address: Address, *, auth: str
) -> Iterator[Sidecar]:
    provider.on("a", answered)
    provider.on("p", answered)
    entry = endpoint(provider, "a", model="small", upstream_model="small-1", dialects=ALL)
    value = {
        "providers": {"up": {"base_url": provider.url("p"), "passthrough": True, "auth": auth}},
        "endpoints": [{**entry, "auth": auth}],
        "strategies": {"learn": {"objective": "quality", "incumbent": "none"}},
        "apps": {"default": {"mode": "route", "strategy": "learn"}},
    }
    with serving(value, state_dir, address) as found:
        yield found


def send(sidecar: Sidecar, request: Recorded, model: str | None) -> bytes:
    """Send a request as its client does, maybe for another model; return the bytes of its body."""
    body = request.body if model is None else request.body | {"model": model}
    raw = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    got = sidecar.http.post(request.path, content=raw, headers=request.sent_headers())
    assert got.status_code == 200, got.text
    return raw


def without_usage(body: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    """A body without the one field that is added: of a stream of Chat Completions, its usage."""
    if (asked.get("stream_options") or {}).get("include_usage"):
        return body
    options = {k: v for k, v in body.get("stream_options", {}).items() if k != "include_usage"}
    rest = {k: v for k, v in body.items() if k != "stream_options"}
    return rest | ({"stream_options": options} if asked.get("stream_options") else {})


@OF_CLIENTS
@EACH
def test_a_clients_request_is_passed_on_byte_for_byte(
    request_: Recorded, provider: Provider, state_dir: Path, address: Address
) -> None:
    """To the provider that takes what is not listed."""
    with sidecar_for(provider, state_dir, address, auth="client") as sidecar:
        raw = send(sidecar, request_, None)

    (call,) = provider.calls
    assert call.host == "p"
    assert call.body == raw
    assert call.path == "/p" + request_.path


@OF_CLIENTS
@EACH_ROUTED
def test_a_clients_request_is_routed_with_every_field_intact(
    request_: Recorded, provider: Provider, state_dir: Path, address: Address
) -> None:
    with sidecar_for(provider, state_dir, address, auth="client") as sidecar:
        raw = send(sidecar, request_, "auto")

    (call,) = provider.calls
    assert (call.host, call.path) == ("a", "/a" + request_.path)
    came = without_usage(call.json, request_.body)
    assert came == {**request_.body, "model": "small-1"}
    assert list(came) == list({**request_.body, "model": ""})  # in their order, too
    for name, value in request_.body.items():  # what is nested is the bytes that came
        if name not in ("model", "stream_options"):
            said = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
            assert said in call.body
    assert len(call.body) - len(raw) <= len(b',"stream_options":{"include_usage":true}') + 9


@OF_CLIENTS
@EACH
def test_a_clients_headers_travel_under_its_own_key(
    request_: Recorded, provider: Provider, state_dir: Path, address: Address
) -> None:
    with sidecar_for(provider, state_dir, address, auth="client") as sidecar:
        send(sidecar, request_, "auto" if request_.is_routed else None)

    (call,) = provider.calls
    hop = {name.decode() for name in HOP}
    sent = {n: v for n, v in request_.sent_headers().items() if n not in hop}
    assert {name: call.headers.get(name) for name in sent} == sent


@OF_CLIENTS
@EACH
def test_a_clients_headers_travel_under_our_key_as_far_as_they_hold_no_secret(
    request_: Recorded, provider: Provider, state_dir: Path, address: Address
) -> None:
    with sidecar_for(provider, state_dir, address, auth="none") as sidecar:
        send(sidecar, request_, "auto" if request_.is_routed else None)

    (call,) = provider.calls
    sent = request_.sent_headers()
    travels = {n for n in sent if n.encode() in TRAVEL or n.encode().startswith(TRAVEL_PREFIXES)}
    assert {name: call.headers.get(name) for name in travels} == {n: sent[n] for n in travels}
    assert not (set(sent) - travels) & set(call.headers)


@OF_CLIENTS
@each([request for request in REQUESTS if request.name.startswith(("claude-cli", "codex"))])
def test_a_coding_agents_session_is_read_off_its_own_header(request_: Recorded) -> None:
    headers = {name.encode(): value.encode() for name, value in request_.sent_headers().items()}

    assert read_hints(headers, NOTHING_DECLARED).session == "some"
