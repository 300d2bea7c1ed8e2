"""Requests as bytes on a socket: offers of other protocols, and bodies that get on or do not."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from conftest import Provider, Reply, Sidecar, answer

CHAT = json.dumps({"model": "a", "messages": [{"role": "user", "content": "hello"}]}).encode()
H2C = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABkAAQAAP__")


def request(
    *more: str,
    body: bytes = CHAT,
    method: str = "POST",
    path: str = "/v1/chat/completions",
    chunked: bool = False,
) -> bytes:
    length = "transfer-encoding: chunked" if chunked else f"content-length: {len(body)}"
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *more]
    if body:
        lines.append(length)
    if chunked:
        half = len(body) // 2
        parts = (body[:half], body[half:], b"")
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return "\r\n".join([*lines, "", ""]).encode() + body


class Raw:
    """A client that writes bytes as it is told, and reads answers one by one."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.reader = connection.makefile("rb")

    def send(self, data: bytes, *, size: int = 0) -> None:
        step = size or len(data)
        for start in range(0, len(data), step):
            with suppress(ConnectionError):
                self.connection.sendall(data[start : start + step])
            if size:
                time.sleep(0.001)

    def answer(self) -> tuple[int, Any]:
        status = int(self.reader.readline().split()[1])
        head = b"".join(iter(self.reader.readline, b"\r\n"))
        length = re.search(rb"content-length: (\d+)", head)
        assert length is not None
        return status, json.loads(self.reader.read(int(length[1])))

    def ended(self) -> bool:
        with suppress(ConnectionError):
            return self.reader.read(1) == b""
        return True


@contextmanager
def dial(sidecar: Sidecar) -> Iterator[Raw]:
    with socket.create_connection(("127.0.0.1", sidecar.port)) as connection:
        connection.settimeout(10)
        yield Raw(connection)


# -- offers of other protocols ------------------------------------------------------------------

OFFERS = [
    H2C,
    ("Connection: upgrade", "Upgrade: H2C"),
    ("Connection: Upgrade", "Upgrade: TLS/1.0"),
    ("Connection: keep-alive, Upgrade", "Upgrade: TLS/1.2, h2c"),
    ("Connection: Upgrade", "Upgrade: h2c, websocket"),
    ("Upgrade: h2c", "Connection: Upgrade"),
    ("Connection: Upgrade", "Upgrade: h2c", "Upgrade: TLS/1.0"),
    ("Connection: Upgrade", "Upgrade: what/ever"),
    ("Upgrade: h2c",),
    ("Upgrade: websocket",),  # `Connection` does not name it: it was meant for another hop
    ("Connection: Upgrade",),
]


def test_an_offer_of_another_protocol_is_as_if_it_had_not_been_made(
    sidecar: Sidecar, provider: Provider
) -> None:
    ways = [(chunked, size) for chunked in (False, True) for size in (0, 13)]
    for offer in OFFERS:
        with dial(sidecar) as client:
            for chunked, size in ways:
                client.send(request(*offer, chunked=chunked), size=size)
                assert client.answer()[0] == 200, (offer, chunked, size)

    assert len(provider.calls) == len(OFFERS) * len(ways)
    for call in provider.calls:
        assert call.json["messages"] == json.loads(CHAT)["messages"]
        assert not {"upgrade", "http2-settings"} & set(call.headers)


def test_the_head_alone_then_the_body(sidecar: Sidecar, provider: Provider) -> None:
    whole = request(*H2C)
    at = whole.index(b"\r\n\r\n") + 4
    with dial(sidecar) as client:
        client.send(whole[:at])
        time.sleep(0.02)
        client.send(whole[at:])
        assert client.answer()[0] == 200

    assert provider.calls[0].json["messages"] == json.loads(CHAT)["messages"]


def test_pipelined_requests_with_offers_are_answered_in_order(
    sidecar: Sidecar, provider: Provider
) -> None:
    provider.on("a", Reply(body=answer("slow"), delay_s=0.05))
    get = request(*H2C, body=b"", method="GET", path="/v1/models")
    with dial(sidecar) as client:
        client.send(request(*H2C) + get + request(*H2C, chunked=True) + request() + get)
        got = [client.answer()[1] for _ in range(5)]

    assert [value["object"] for value in got] == [
        "chat.completion", "list", "chat.completion", "chat.completion", "list",
    ]  # fmt: skip


def test_the_last_request_with_an_offer_may_close(sidecar: Sidecar) -> None:
    with dial(sidecar) as client:
        client.send(request("Connection: close, Upgrade", "Upgrade: h2c"))
        assert client.answer()[0] == 200
        assert client.ended()


HANDSHAKE = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
             "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")  # fmt: skip


HANDSHAKES = [
    HANDSHAKE,
    ("connection: keep-alive, upgrade", "upgrade: WebSocket"),
    (*H2C, "Upgrade: websocket", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="),
]


def test_a_websocket_handshake_is_refused_by_name(sidecar: Sidecar, provider: Provider) -> None:
    for head in HANDSHAKES:
        for method, body in (("GET", b""), ("POST", CHAT)):
            with dial(sidecar) as client:
                client.send(request(*head, body=body, method=method, path="/v1/realtime?model=a"))
                status, told = client.answer()
                client.send(request())
                assert client.answer()[0] == 200  # the connection is as good as before
            assert (status, told["error"]["code"]) == (501, "upgrade_not_supported")
            assert "websocket" in told["error"]["message"]

    assert len(provider.calls) == 2 * len(HANDSHAKES)


def test_a_handshake_waits_for_its_turn(sidecar: Sidecar, provider: Provider) -> None:
    provider.on("a", Reply(body=answer("slow"), delay_s=0.05))
    with dial(sidecar) as client:
        client.send(request() + request(*HANDSHAKE, body=b"", method="GET") + request())
        assert [client.answer()[0] for _ in range(3)] == [200, 501, 200]


def test_connect_is_refused(sidecar: Sidecar) -> None:
    with dial(sidecar) as client:
        client.send(b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n" + request())
        status, told = client.answer()
        assert (status, told["error"]["code"]) == (405, "method_not_allowed")
        assert client.ended()


def test_what_is_no_request_never_stands_in_an_earlier_answer(
    sidecar: Sidecar, provider: Provider
) -> None:
    provider.on("a", Reply(body=answer("slow"), delay_s=0.05))
    for bad in (b"\x16\x03\x01 no http\r\n\r\n", b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n"):
        with dial(sidecar) as client:
            client.send(request() + bad + request())
            assert client.answer()[0] == 200
            assert client.ended()


def test_a_request_that_breaks_off_takes_nothing_from_those_before_it(
    sidecar: Sidecar, provider: Provider
) -> None:
    provider.on("a", Reply(body=answer("slow"), delay_s=0.5))
    broken = request(chunked=True).partition(b"\r\n\r\n")[0] + b"\r\n\r\nzz\r\n"
    with dial(sidecar) as client:
        client.send(request() + request() + broken)
        assert [client.answer()[0] for _ in range(2)] == [200, 200]
        assert client.ended()
    assert len(provider.calls) == 2


def test_each_target_of_a_connection_is_read_by_itself(sidecar: Sidecar) -> None:
    """The one before is known: one that begins like it, or comes again, is still its own."""
    alive, ready = {"alive": True}, {"ready", "degraded"}
    with dial(sidecar) as client:

        def asked(path: str) -> tuple[int, Any]:
            client.send(request(method="GET", path=path, body=b""))
            return client.answer()

        for _ in range(2):
            assert asked("/livez") == asked("/livez") == asked("/livez?a=1") == (200, alive)
            assert asked("/readyz")[1].keys() == ready
            assert asked("/readyz?verbose")[1].keys() > ready
            assert asked("/readyz")[1].keys() == ready
            assert asked("/livez/x")[0] == 404


def test_what_is_no_url_is_refused(sidecar: Sidecar) -> None:
    for url in (b"http://a:99999999/", b"*", b"//", b"http://", b"a"):
        with dial(sidecar) as client:
            client.send(b"GET " + url + b" HTTP/1.1\r\nhost: a\r\n\r\n")
            assert client.answer()[0] in (400, 403, 404)


# -- bodies that get on -------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patched: else a turn of the clock takes half a minute."""
    monkeypatch.setattr("router.net.inbound.BODY_S", 0.2)


@pytest.mark.usefixtures("clock")
def test_a_body_that_gets_on_may_take_as_long_as_it_takes(sidecar: Sidecar) -> None:
    body = json.dumps({"model": "a", "messages": [{"role": "user", "content": "x" * 200_000}]})
    whole = request(body=body.encode())
    with dial(sidecar) as client:
        for start in range(0, len(whole), 10_000):
            client.send(whole[start : start + 10_000])
            time.sleep(0.05)
        assert client.answer()[0] == 200


@pytest.mark.usefixtures("clock")
def test_a_body_that_trickles_is_cut_off(sidecar: Sidecar) -> None:
    whole = request(body=b'{"a": "' + b"x" * 50_000)
    with dial(sidecar) as client:
        client.send(whole[:1000])
        for n in range(1000, 1100):
            client.send(whole[n : n + 1])
            time.sleep(0.01)
        assert client.answer()[0] == 408
        assert client.ended()


@pytest.mark.usefixtures("clock")
def test_the_rest_of_a_refused_body_is_dropped_for_a_while(sidecar: Sidecar) -> None:
    """So that a client that writes before it reads gets to read its refusal."""
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999\r\n"
    with dial(sidecar) as client:
        client.send(head + b"\r\n")
        client.send(bytes(8 << 20))
        assert client.answer()[0] == 413
        client.send(bytes(1 << 20))
        assert client.ended()


# -- connections on which nobody asks -----------------------------------------------------------


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patched: else they stay for minutes."""
    monkeypatch.setattr("router.net.inbound.HEADER_S", 0.3)
    monkeypatch.setattr("router.net.inbound.KEEPALIVE_S", 0.3)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("asks", [False, True])
def test_blank_lines_keep_no_connection(sidecar: Sidecar, asks: bool) -> None:
    with dial(sidecar) as client:
        if asks:
            client.send(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert client.answer()[0] == 200
        client.send(b"\r\n")
        client.connection.settimeout(4)
        assert client.reader.read(1) == b""


@pytest.mark.usefixtures("short")
def test_the_rest_of_a_refused_body_keeps_no_connection(sidecar: Sidecar) -> None:
    with dial(sidecar) as client:
        client.send(b"POST /nowhere HTTP/1.1\r\nhost: localhost\r\ncontent-length: 6\r\n\r\nabc")
        assert client.answer()[0] == 404
        client.send(b"def")
        client.connection.settimeout(4)
        assert client.reader.read(1) == b""
