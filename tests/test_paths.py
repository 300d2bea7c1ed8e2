"""A path is one place for the rules, however it is written."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from conftest import Provider, Reply, endpoint, serving

from router.dialects.opaque import take_hints
from router.errors import RequestRejected
from router.net.paths import below_version, normal_path, shown_path
from telemetry.store import Address


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions",
        "/v1/chat/completions/",
        "//v1/chat/completions",
        "/v1//chat///completions",
        "/v1/v1/chat/completions",
        "/chat/completions",
        "/v1/chat%2Fcompletions",
        "/v1/chat%2fcompletions%2F",
        "/%76%31/chat/completions",
    ],
)
def test_all_ways_to_write_a_path_are_one(path: str) -> None:
    assert normal_path(path.encode()) == "/v1/chat/completions"


@pytest.mark.parametrize(
    "path",
    ["/v1/../x", "/v1/%2e%2e/x", "/v1/a/%2E./b", "/v1/%252e/x", "/v1/a\\b", "/v1/%5c", "/v1/%00",
     "/v1/%ff"],
)  # fmt: skip
def test_a_path_that_means_something_else_further_on_is_refused(path: str) -> None:
    with pytest.raises(RequestRejected):
        normal_path(path.encode())


@pytest.mark.parametrize("path", ["/livez", "/readyz/", "/metrics", "/"])
def test_our_own_paths_have_no_version(path: str) -> None:
    assert not normal_path(path.encode()).startswith("/v1")


def test_what_is_passed_on_keeps_its_encoding() -> None:
    assert below_version(b"/v1//files/a%2Fb/") == "/files/a%2Fb"


def passing(provider: Provider, **app: Any) -> dict[str, Any]:
    entry = {"base_url": provider.url("p"), "passthrough": True}
    value: dict[str, Any] = {"endpoints": [endpoint(provider, "a")], "providers": {"prov": entry}}
    return {**value, "apps": {"default": app}} if app else value


HINTED = {
    "model": "gpt-9",
    "messages": [{"role": "user", "content": "x"}],
    "router": {"data_class": "restricted"},
}


@pytest.mark.parametrize(
    "path",
    ["/v1/chat/completions/", "//v1/chat/completions", "/v1/v1/chat/completions",
     "/v1/chat%2Fcompletions", "/v1/completions", "/v1/responses", "/v1/anything/at/all"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["application/json", "text/plain", ""])
def test_no_way_to_write_a_path_dodges_a_rule(
    provider: Provider, state_dir: Path, address: Address, path: str, kind: str
) -> None:
    body = json.dumps(HINTED).encode()
    with (
        serving(passing(provider), state_dir, address) as sidecar,
        socket.create_connection(("127.0.0.1", sidecar.port)) as raw,
    ):
        raw.settimeout(5)
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\n"
        raw.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        got = raw.recv(4000)

    assert b" 409 " in got.splitlines()[0]
    assert b"no_eligible_endpoint" in got
    assert provider.calls == []


def test_hints_never_reach_a_provider(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    body = {"input": "x", "router": {"task": "code"}, "metadata": {"router_ref": "r", "mine": 1}}
    provider.on("p", Reply(body=b"{}"))
    with serving(passing(provider), state_dir, address) as sidecar:
        assert sidecar.http.post("/v1/responses", json=body).status_code == 200
        assert sidecar.http.post("/v1/files", content=b"\x00{}").status_code == 200
        assert sidecar.http.post("/v1/odd", content=b'{"a": ').status_code == 200

    assert [call.body for call in provider.calls] == [
        b'{"input":"x","metadata":{"mine":1}}',
        b"\x00{}",
        b'{"a": ',
    ]


def test_a_body_without_a_word_to_us_passes_byte_for_byte() -> None:
    odd = b'\xef\xbb\xbf {"metadata": {"a": 1e999}, "x" : 12345678901234567890123 }'

    assert take_hints(odd).body is odd


def test_our_own_object_is_read_whole_or_refused() -> None:
    with pytest.raises(RequestRejected, match="unknown field"):
        take_hints(b'{"router": {"dataclass": "restricted"}}')


def test_both_forms_of_base_url_are_served_and_listed_models_are_ours(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with serving(passing(provider), state_dir, address) as sidecar:
        body = {"model": "a", "messages": [{"role": "user", "content": "x"}]}
        assert sidecar.http.post("/chat/completions", json=body).status_code == 200
        assert sidecar.http.get("/models/a").json()["id"] == "a"
        assert sidecar.http.get("/v1/models/gpt-9").status_code == 200

    assert [call.path for call in provider.calls] == [
        "/a/v1/chat/completions",
        "/p/v1/models/gpt-9",
    ]


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/v1/files", "/v1/files"),
        ("/v1/audio/speech", "/v1/audio/speech"),
        ("/v1/fine_tuning/jobs/ftjob-abc123/events", "/v1/fine_tuning/jobs/*/events"),
        ("/v1/threads/thread_9/messages/msg_1", "/v1/threads/*/messages/*"),
        ("/v1/users/ada@example.com", "/v1/users/*"),
        ("/v1/responses/Resp", "/v1/responses/*"),
        (f"/v1/files/{'a' * 40}", "/v1/files/*"),
    ],
)
def test_ids_in_a_path_are_not_shown(path: str, shown: str) -> None:
    assert shown_path(path) == shown


def test_a_path_is_booked_without_its_ids(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with serving(passing(provider), state_dir, address) as sidecar:
        got = sidecar.http.get("/v1/files/file-Ada1985/content?who=ada")

    assert provider.calls[0].path == "/p/v1/files/file-Ada1985/content?who=ada"
    assert got.headers["x-router-endpoint"] == "prov/files/*/content"
