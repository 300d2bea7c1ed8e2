"""Bodies of any size: JSON is read whole within a budget, everything else streams through."""

from __future__ import annotations

import gzip
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import Provider, Reply, Sidecar, endpoint, listening, serving

from telemetry.store import Address

LIMIT = 1 << 20
PART = b'--x\r\ncontent-disposition: form-data; name="file"\r\n\r\n' + b"sound" * 1000
UPLOAD = {"content-type": "multipart/form-data; boundary=x"}
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


def passing(url: str, provider: Provider, **server: Any) -> dict[str, Any]:
    return {
        "server": {"max_body_bytes": LIMIT, "max_held_bytes": 3 * LIMIT, **server},
        "endpoints": [endpoint(provider, "a")],
        "providers": {"prov": {"base_url": url, "passthrough": True}},
    }


@pytest.fixture
def there(provider: Provider, state_dir: Path, address: Address) -> Iterator[Sidecar]:
    """A sidecar that passes uploads on to a provider of whole bodies."""
    provider.on("p", lambda call: Reply(body=b"{}"))
    with serving(passing(provider.url("p"), provider), state_dir, address) as sidecar:
        yield sidecar
        sidecar.until(lambda: sidecar.app.budget.held == 0)


def chat(n: int) -> bytes:
    messages = [{"role": "user", "content": "x" * n}]
    return json.dumps({"model": "a", "messages": messages}).encode()


def pieces(data: bytes, size: int = 100_000) -> Iterator[bytes]:
    return (data[i : i + size] for i in range(0, len(data), size))


def slowly(data: bytes) -> Iterator[bytes]:
    """The first bytes one by one."""
    for i in range(4):
        yield data[i : i + 1]
        time.sleep(0.001)
    yield data[4:]


# -- JSON ---------------------------------------------------------------------------------------


def test_long_prompts_are_served_as_far_as_the_default_goes(
    sidecar: Sidecar, provider: Provider
) -> None:
    body = chat(20 << 20)

    assert sidecar.http.post("/v1/chat/completions", content=body).status_code == 200
    assert sidecar.http.post("/v1/chat/completions", content=pieces(body)).status_code == 200
    assert [len(call.body) for call in provider.calls] == [len(body)] * 2
    sidecar.until(lambda: sidecar.app.budget.held == 0)


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=x", ""])
def test_what_opens_an_object_is_json_and_held_to_its_limit(
    there: Sidecar, provider: Provider, kind: str
) -> None:
    headers = {"content-type": kind}
    for lead in (b"", b"\xef\xbb\xbf", b" \r\n\t" * 9):
        for path in ("/v1/chat/completions", "/v1/responses", "/v1/audio/transcriptions"):
            beyond = lead + chat(LIMIT)
            for content in (beyond, pieces(beyond), slowly(beyond)):
                got = there.http.post(path, content=content, headers=headers)
                assert (got.status_code, got.json()["error"]["code"]) == (413, "body_too_large")
    assert provider.calls == []

    for lead in (b"", b"\xef\xbb\xbf", b" \r\n\t" * 9):
        fits = lead + chat(LIMIT - 1000)
        for content in (fits, pieces(fits), slowly(fits)):
            assert there.http.post("/v1/responses", content=content, headers=headers).is_success
    assert all(len(call.headers["content-length"]) for call in provider.calls)


def test_an_object_that_does_not_parse_goes_on_unchanged_where_it_is_not_ours(
    there: Sidecar, provider: Provider
) -> None:
    bad = b'{"model": "a", "messages": [' + b"x" * 200_000
    assert there.http.post("/v1/chat/completions", content=bad).status_code == 400
    assert there.http.post("/v1/embeddings", content=pieces(bad, 7000)).status_code == 200
    restricted = {"x-router-data-class": "restricted"}
    assert there.http.post("/v1/embeddings", content=bad, headers=restricted).status_code == 409

    assert [call.body for call in provider.calls] == [bad]


def test_bodies_share_one_budget_and_what_is_beyond_it_may_come_again(
    there: Sidecar, provider: Provider
) -> None:
    waiting = [socket.create_connection(("127.0.0.1", there.port)) for _ in range(3)]
    body = chat(LIMIT - 1000)
    head = f"POST /v1/responses HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
    for raw in waiting:
        raw.sendall(head.encode() + body[:-1])
    there.until(lambda: there.app.budget.held == 3 * (len(body) - 1))

    got = there.http.post("/v1/chat/completions", content=body)
    assert (got.status_code, got.json()["error"]["code"]) == (503, "overloaded")
    assert int(got.headers["retry-after"]) > 0
    assert there.http.post("/v1/chat/completions", content=pieces(body)).status_code == 503
    assert there.http.post("/v1/chat/completions", content=chat(9)).status_code == 200

    waiting.pop().close()
    there.until(lambda: there.app.budget.held == 2 * (len(body) - 1))
    assert there.http.post("/v1/chat/completions", content=body).status_code == 200
    for raw in waiting:
        raw.sendall(body[-1:])
        assert b" 200 " in raw.recv(100)
        raw.close()


# -- everything else ----------------------------------------------------------------------------


def test_uploads_of_any_size_go_on_byte_for_byte(there: Sidecar, provider: Provider) -> None:
    body = PART * 1000  # five times what may be held
    assert there.http.post("/v1/files", content=body, headers=UPLOAD).status_code == 200
    assert there.http.post("/v1/files", content=pieces(body), headers=UPLOAD).status_code == 200
    assert there.http.put("/v1/files", content=pieces(b"PK" * 99, 1)).status_code == 200
    coded = {**UPLOAD, "content-encoding": "gzip"}
    small = PART * 150
    sent = gzip.compress(small)
    assert there.http.post("/v1/files", content=pieces(sent, 999), headers=coded).status_code == 200

    framing = [(c.headers.get("content-length"), c.headers.get("transfer-encoding"))
               for c in provider.calls]  # fmt: skip
    assert [call.body for call in provider.calls] == [body, body, b"PK" * 99, small]
    assert framing[:3] == [(str(len(body)), None), (None, "chunked"), (None, "chunked")]
    assert provider.calls[0].headers["content-type"] == UPLOAD["content-type"]
    assert "content-encoding" not in provider.calls[3].headers


def test_the_data_class_of_an_upload_is_that_of_its_header(
    there: Sidecar, provider: Provider
) -> None:
    headers = {**UPLOAD, "x-router-data-class": "restricted"}

    assert there.http.post("/v1/files", content=PART * 100, headers=headers).status_code == 409
    assert provider.calls == []


def test_a_damaged_upload_is_refused_on_its_way(there: Sidecar, provider: Provider) -> None:
    coded = {**UPLOAD, "content-encoding": "gzip"}
    sent = gzip.compress(bytes(range(256)) * 3000, 0)

    for bad in (sent[:-5], sent + b"more"):
        got = there.http.post("/v1/files", content=pieces(bad, 60_000), headers=coded)
        assert (got.status_code, got.json()["error"]["code"]) == (400, "invalid_request")
    assert there.http.post("/v1/files", content=sent, headers=coded).status_code == 200
    assert len([c for c in provider.calls if c.body == bytes(range(256)) * 3000]) == 1


def dial(sidecar: Sidecar, length: int) -> socket.socket:
    raw = socket.create_connection(("127.0.0.1", sidecar.port))
    raw.settimeout(10)
    head = f"POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n"
    raw.sendall(head.encode() + PART)
    return raw


def head_of(connection: socket.socket) -> bytes:
    got = b""
    while b"\r\n\r\n" not in got:
        got += connection.recv(1 << 16)
    return got


def test_a_slow_provider_makes_the_client_wait_and_nobody_blames_it(
    provider: Provider, state_dir: Path, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.net.inbound.BODY_S", 0.1)  # patched: else half a minute
    go, size = threading.Event(), 64 << 20

    def slow(connection: socket.socket) -> None:
        n = len(head_of(connection).partition(b"\r\n\r\n")[2])
        go.wait(10)
        while n < size:
            n += len(connection.recv(1 << 20))
        connection.sendall(OK)

    with (
        listening(slow) as url,
        serving(passing(url, provider), state_dir, address) as sidecar,
        dial(sidecar, size) as raw,
    ):
        raw.settimeout(0.5)
        n = len(PART)
        with suppress(TimeoutError):
            while n < size / 2:
                n += raw.send(bytes(1 << 16))
        assert n < size / 2  # what the sockets of this machine take, and no more
        sidecar.until(lambda: sidecar.app.budget.held == 0)
        go.set()
        raw.settimeout(10)
        raw.sendall(bytes(size - n))
        assert raw.recv(100).startswith(b"HTTP/1.1 200")


def test_pieces_go_on_as_they_come(provider: Provider, state_dir: Path, address: Address) -> None:
    seen: list[bytes] = []

    def echo(connection: socket.socket) -> None:
        seen.append(head_of(connection))
        while True:
            seen.append(connection.recv(1 << 16))
            if not seen[-1]:
                return

    with (
        listening(echo) as url,
        serving(passing(url, provider), state_dir, address) as sidecar,
        dial(sidecar, 1 << 20) as raw,
    ):
        sidecar.until(lambda: PART in b"".join(seen))
        raw.sendall(b"and more")
        sidecar.until(lambda: b"and more" in b"".join(seen))


@pytest.mark.parametrize("close", [True, False])
def test_an_answer_that_comes_early_is_passed_on(
    provider: Provider, state_dir: Path, address: Address, close: bool
) -> None:
    refusal = b'{"error": {"message": "no files of that kind"}}'
    done = threading.Event()

    def hasty(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(b"HTTP/1.1 415 No\r\ncontent-length: %d\r\n\r\n" % len(refusal))
        connection.sendall(refusal)
        if not close:
            done.wait(10)

    with (
        listening(hasty) as url,
        serving(passing(url, provider), state_dir, address) as sidecar,
        dial(sidecar, 8 << 20) as raw,
    ):
        got = b""
        while refusal not in got:
            got += raw.recv(1 << 16)
        assert got.startswith(b"HTTP/1.1 415")
        raw.sendall(bytes((8 << 20) - len(PART)))  # and the rest goes nowhere
        raw.sendall(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert raw.recv(1 << 16).startswith(b"HTTP/1.1 200")
        done.set()


def test_a_client_that_breaks_off_its_upload_closes_the_providers_connection(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    ended: list[float] = []

    def patient(connection: socket.socket) -> None:
        try:
            while connection.recv(1 << 16):
                pass
        finally:
            ended.append(time.monotonic())

    with (
        listening(patient) as url,
        serving(passing(url, provider), state_dir, address) as sidecar,
    ):
        for n in range(1, 4):
            raw = dial(sidecar, 8 << 20)
            sidecar.until(lambda: sidecar.app._upstream.n_open == 1)  # type: ignore[union-attr]
            raw.close()
            sidecar.until(lambda n=n: len(ended) == n, within_s=1.0)  # type: ignore[misc]
        sidecar.until(lambda: sidecar.app._upstream.n_open == 0)  # type: ignore[union-attr]


def test_a_provider_that_breaks_off_during_an_upload_is_told_of(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with (
        listening(lambda connection: None) as url,
        serving(passing(url, provider), state_dir, address) as sidecar,
    ):
        got = sidecar.http.post("/v1/files", content=pieces(PART * 400), headers=UPLOAD)

    assert got.status_code == 503
    assert re.search("RemoteProtocolError|ConnectError", got.text)
