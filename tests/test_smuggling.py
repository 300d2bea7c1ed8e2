"""Requests that two readers could read in two ways: each is refused, or there is one way only."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import Provider, Reply, Sidecar, chunks, endpoint, serving

from router.net.exchange import Exchange
from telemetry.store import Address

CHAT = json.dumps({"model": "a", "messages": [{"role": "user", "content": "hello"}]}).encode()
N = len(CHAT)
LENGTH = b"content-length: %d" % N
CODED = b"transfer-encoding: chunked"
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (N, CHAT)
GET = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n"
POST = b"POST /v1/chat/completions HTTP/1.1"


def post(
    *headers: bytes,
    body: bytes = CHAT,
    line: bytes = POST,
    end: bytes = b"\r\n",
    host: tuple[bytes, ...] = (b"host: localhost",),
) -> bytes:
    return end.join([line, *host, *headers]) + end + end + body


def coded(value: bytes) -> bytes:
    return post(b"transfer-encoding: " + value, body=CHUNKED)


def chunked(body: bytes) -> bytes:
    return post(CODED, body=body)


def get(line: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join([line, b"host: localhost", *headers]) + b"\r\n\r\n"


REFUSED = {
    "length and coding": post(LENGTH, CODED, body=CHUNKED),
    "coding and length": post(CODED, LENGTH, body=CHUNKED),
    "a short length and a coding": post(b"content-length: 4", CODED, body=CHUNKED),
    "coding xchunked": coded(b"xchunked"),
    "chunked is not last": coded(b"chunked, identity"),
    "coding identity": coded(b"identity"),
    "coding gzip without chunks": coded(b"gzip"),
    "coding twice": post(CODED, CODED, body=CHUNKED),
    "two codings": post(CODED, b"transfer-encoding: identity", body=CHUNKED),
    "coding behind a vertical tab": coded(b"\x0bchunked"),
    "coding in quotes": coded(b'"chunked"'),
    "coding with a comma": coded(b"chunked,"),
    "coding, space before its colon": post(b"transfer-encoding : chunked", body=CHUNKED),
    "length, space before its colon": post(b"content-length : %d" % N),
    "coding behind a bare line feed": post(b"x: y\ntransfer-encoding: chunked", LENGTH),
    "length twice": post(LENGTH, LENGTH),
    "two lengths": post(LENGTH, b"content-length: 0"),
    "a list of lengths": post(b"content-length: %d, %d" % (N, N)),
    "length +": post(b"content-length: +%d" % N),
    "length -": post(b"content-length: -%d" % N),
    "length in hex": post(b"content-length: 0x%x" % N),
    "length with a space": post(b"content-length: %d %d" % (N // 10, N % 10)),
    "length beyond all": post(b"content-length: 99999999999999999999999"),
    "length empty": post(b"content-length:"),
    "a folded header": post(b"x-a: b\r\n c", LENGTH),
    "a folded coding": post(b"transfer-encoding:\r\n chunked", body=CHUNKED),
    "a first header that is folded": post(b" x-a: b", LENGTH, host=()),
    "bare line feeds": post(LENGTH, end=b"\n"),
    "a head that ends in bare line feeds": b"GET /livez HTTP/1.1\r\nhost: localhost\n\n",
    "a bare carriage return": post(b"x-a: b\rx-c: d", LENGTH),
    "a doubled carriage return": post(b"x-a: b\r", LENGTH),
    "NUL in a value": post(b"x-a: b\0c", LENGTH),
    "NUL in a name": post(b"x-\0a: b", LENGTH),
    "NUL in the target": post(LENGTH, line=b"POST /v1/chat/\0completions HTTP/1.1"),
    "a control character": post(b"x-a: b\x01c", LENGTH),
    "DEL": post(b"x-a: b\x7fc", LENGTH),
    "a name that is not ASCII": post(b"x-\xff: b", LENGTH),
    "no name": post(b": b", LENGTH),
    "no colon": post(b"x-a", LENGTH),
    "a space in a name": post(b"x a: b", LENGTH),
    "chunk size +": chunked(b"+" + CHUNKED),
    "chunk size 0x": chunked(b"0x" + CHUNKED),
    "chunk size -": chunked(b"-" + CHUNKED),
    "space before a chunk size": chunked(b" " + CHUNKED),
    "space after a chunk size": chunked(b"%x \r\n%b\r\n0\r\n\r\n" % (N, CHAT)),
    "chunk size beyond all": chunked(b"1000000000000000" + CHUNKED),
    "no chunk size": chunked(b"\r\n" + CHUNKED),
    "chunks by bare line feeds": chunked(b"%x\n%b\n0\n\n" % (N, CHAT)),
    "a line feed in a chunk extension": chunked(b"%x;a\nb\r\n%b\r\n0\r\n\r\n" % (N, CHAT)),
    "a chunk longer than its size": chunked(b"%x\r\n%b0\r\n\r\n" % (N, CHAT)),
    "a length as a trailer": chunked(CHUNKED[:-2] + b"content-length: 5\r\n\r\n"),
    "a coding as a trailer": chunked(CHUNKED[:-2] + CODED + b"\r\n\r\n"),
    "a target that is not ASCII": get(b"GET /liv\xc3\xa9z HTTP/1.1"),
    "a space in the target": get(b"GET /li vez HTTP/1.1"),
    "tabs in the request line": get(b"GET\t/livez\tHTTP/1.1"),
    "a method in lower case": get(b"get /livez HTTP/1.1"),
    "a method that is none": get(b"FOO /livez HTTP/1.1"),
    "a target without a slash": get(b"GET livez HTTP/1.1"),
    "HTTP/0.9": b"GET /livez\r\n\r\n",
    "HTTP/1.2": get(b"GET /livez HTTP/1.2"),
    "HTTP/2.0": get(b"GET /livez HTTP/2.0"),
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a target of 40,000 bytes": get(b"GET /" + b"a" * 40_000 + b" HTTP/1.1"),
    "a header of 40,000 bytes": post(b"x-a: " + b"b" * 40_000, LENGTH),
    "150 headers": post(*[b"x-%d: b" % i for i in range(150)], LENGTH),
    "trailers of 40,000 bytes": chunked(CHUNKED[:-2] + b"x-a: " + b"b" * 40_000 + b"\r\n\r\n"),
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00",
    "no HTTP": b"hello\r\n\r\n",
}
"""The connection closes after a 400, so that nothing behind it is read as a request."""

READ = {
    "a length": post(LENGTH),
    "chunks": chunked(CHUNKED),
    "identity, then chunks": coded(b"identity, chunked"),
    "a coding in capitals": post(b"Transfer-Encoding: CHUNKED", body=CHUNKED),
    "a coding behind a tab": post(b"transfer-encoding:\tchunked", body=CHUNKED),
    "a coding that is none by its name": post(b"transfer_encoding: chunked", LENGTH),
    "a length with zeros before it": post(b"content-length: 000%d" % N),
    "a length between tabs": post(b"content-length:\t%d\t" % N),
    "a value that is not ASCII": post(b"x-a: b\xffc", LENGTH),
    "a chunk extension": chunked(b"%x;a=b\r\n%b\r\n0\r\n\r\n" % (N, CHAT)),
    "a quoted chunk extension": chunked(b'%x;a="b;c"\r\n%b\r\n0\r\n\r\n' % (N, CHAT)),
    "a trailer": chunked(CHUNKED[:-2] + b"x-router-dry-run: 1\r\n\r\n"),
    "an absolute target": post(LENGTH, line=b"POST http://localhost/v1/chat/completions HTTP/1.1"),
    "a fragment": post(LENGTH, line=b"POST /v1/chat/completions#x HTTP/1.1"),
    "an expectation that we do not know": post(b"expect: something", LENGTH),
    "no host": post(LENGTH, host=()),
    "empty lines before it": b"\r\n\r\n" + post(LENGTH),
}
"""Each is one call, and the request behind it is another."""


def told(sidecar: Sidecar, data: bytes, *, until: int = 0) -> tuple[list[int], bool]:
    """Return which statuses come back for these bytes, and whether the connection closes."""
    got = b""
    with socket.create_connection(("127.0.0.1", sidecar.port)) as connection:
        connection.settimeout(10 if until else 0.3)
        connection.sendall(data)
        try:
            while more := connection.recv(1 << 16):
                got += more
                if until and len(statuses(got)) >= until:
                    return statuses(got), False
        except TimeoutError:
            return statuses(got), False
        except ConnectionError:
            pass
    return statuses(got), True


def statuses(got: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", got)]


@pytest.fixture
def sidecar(provider: Provider, state_dir: Path, address: Address) -> Iterator[Sidecar]:
    with serving({"endpoints": [endpoint(provider, "a")]}, state_dir, address) as found:
        yield found


def test_what_could_be_read_in_two_ways_is_refused_and_nothing_behind_it_is_read(
    sidecar: Sidecar, provider: Provider
) -> None:
    for name, data in REFUSED.items():
        assert told(sidecar, data + GET) == ([400], True), name
    assert provider.calls == []


def test_it_is_refused_as_well_where_it_comes_in_pieces(sidecar: Sidecar) -> None:
    for name in ("length and coding", "two lengths", "NUL in a value", "a folded coding"):
        with socket.create_connection(("127.0.0.1", sidecar.port)) as connection:
            connection.settimeout(10)
            for i in range(0, len(REFUSED[name]), 7):
                try:
                    connection.sendall(REFUSED[name][i : i + 7])
                except ConnectionError:
                    break
                time.sleep(0.001)
            assert statuses(connection.recv(1 << 16)) == [400], name


def test_a_header_without_an_end_is_cut_off(sidecar: Sidecar) -> None:
    for head in (b"GET /livez HTTP/1.1\r\nx-a: ", b"GET /"):
        got, closed = told(sidecar, head + b"a" * (1 << 20))
        assert closed
        assert got in ([400], [])  # what we did not read may cost the client the answer


@pytest.mark.parametrize("start", [b"0\r\nx-a: ", b"1;x="])
def test_what_stands_behind_a_body_without_an_end_is_cut_off(
    sidecar: Sidecar, start: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", sidecar.port)) as connection:
        connection.settimeout(10)
        connection.sendall(chunked(b"1\r\n{\r\n" + start))
        sent = 0
        with suppress(ConnectionError):
            while sent < 32 << 20:
                connection.sendall(b"a" * (1 << 16))
                sent += 1 << 16
    assert sent < 16 << 20


def test_what_can_be_read_in_one_way_is_one_request(sidecar: Sidecar, provider: Provider) -> None:
    for name, data in READ.items():
        assert told(sidecar, data + GET, until=2) == ([200, 200], False), name
    assert len(provider.calls) == len(READ)
    assert all(call.json["messages"] == json.loads(CHAT)["messages"] for call in provider.calls)


def test_of_two_hosts_none_is_meant(sidecar: Sidecar) -> None:
    for hosts in (
        (b"host: localhost", b"host: evil"),
        (b"host: evil", b"host: localhost"),
        (b"host: localhost", b"host: localhost"),
    ):
        assert told(sidecar, post(LENGTH, host=hosts), until=1)[0] in ([400], [403]), hosts


def test_a_body_is_asked_for_where_it_is_expected_to_be_and_not_where_it_is_too_large(
    sidecar: Sidecar, provider: Provider
) -> None:
    expects = b"expect: 100-continue"
    with socket.create_connection(("127.0.0.1", sidecar.port)) as connection:
        connection.settimeout(10)
        connection.sendall(post(expects, LENGTH, body=b""))
        assert connection.recv(1 << 16) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(CHAT)
        assert statuses(connection.recv(1 << 16)) == [200]

    assert told(sidecar, post(expects, b"content-length: 99999999", body=b""), until=1)[0] == [413]
    # A body that is here already is not asked for.
    assert told(sidecar, post(expects, LENGTH), until=1)[0] == [200]
    assert len(provider.calls) == 2


def test_an_old_client_gets_no_chunks_and_a_stream_that_ends_with_the_connection(
    sidecar: Sidecar, provider: Provider
) -> None:
    provider.on("a", Reply(chunks=chunks("hel", "lo")))
    body = json.dumps({**json.loads(CHAT), "stream": True}).encode()
    line = b"POST /v1/chat/completions HTTP/1.0"
    with socket.create_connection(("127.0.0.1", sidecar.port)) as connection:
        connection.settimeout(10)
        connection.sendall(post(b"content-length: %d" % len(body), line=line, body=body) + GET)
        got = b"".join(iter(lambda: connection.recv(1 << 16), b""))

    head, _, said = got.partition(b"\r\n\r\n")
    assert b"connection: close" in head
    assert b"transfer-encoding" not in head
    assert said.startswith(b"data: {")
    assert said.endswith(b"data: [DONE]\n\n")


def test_an_answer_to_head_has_the_length_but_nothing_of_the_body(sidecar: Sidecar) -> None:
    with socket.create_connection(("127.0.0.1", sidecar.port)) as connection:
        connection.settimeout(10)
        connection.sendall(get(b"HEAD /v1/models HTTP/1.1", b"x-a: b") + GET)
        got = b""
        while got.count(b"HTTP/1.1 200") < 2:
            got += connection.recv(1 << 16)

    first, _, rest = got.partition(b"\r\n\r\n")
    assert int(re.findall(rb"content-length: (\d+)", first)[0]) > 0
    assert rest.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("bad", [b"a\r\nx-b: c", b"a\nb", b"a\rb", b"a\0b"])
def test_no_header_of_an_answer_can_hold_another(
    sidecar: Sidecar, bad: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patched: no header of ours has a line break in it, whatever it is made of."""

    async def livez(exchange: Exchange, beliefs: Any) -> None:
        if exchange.query == b"whole":
            await exchange.respond(200, b"{}", [(b"x-a", bad)])
        else:
            await exchange.start(200, [(b"x-a", bad)])

    routes = sidecar.app.routes
    monkeypatch.setitem(routes._usual, ("GET", b"/livez"), ("/livez", livez, None))
    for query in (b"?whole", b"?start"):
        assert told(sidecar, get(b"GET /livez" + query + b" HTTP/1.1"), until=1)[0] == [500]


def test_a_status_beyond_the_known_classes_is_passed_on(
    sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patched: a provider that says so cannot be had by name."""

    async def livez(exchange: Exchange, beliefs: Any) -> None:
        await exchange.respond(777, b"{}")

    monkeypatch.setitem(sidecar.app.routes._usual, ("GET", b"/livez"), ("/livez", livez, None))
    assert told(sidecar, GET, until=1)[0] == [777]
