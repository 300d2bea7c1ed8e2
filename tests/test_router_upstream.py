"""The connection pool against providers that close, stall, lie and flood, on raw sockets."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvloop

from router.net.connection import MAX_HEAD_BYTES, MAX_UNREAD_BYTES, Answer, BodyInPieces
from router.net.pool import MAX_IDLE, Adapted, Pool, Target

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
READ_BYTES = 256_000
"""What uvloop reads at once."""
Serve = Callable[["Provider", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Provider:
    """A server that does as its script says, and counts."""

    def __init__(self, serve: Serve) -> None:
        self.serve = serve
        self.port = 0
        self.n_connections = 0
        self.n_requests = 0
        self.n_gone = 0  # connections that the client closed
        self.seen = b""  # of the last request

    @property
    def target(self) -> Target:
        return target(f"http://127.0.0.1:{self.port}/v1/x")

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.n_connections += 1
        try:
            await self.serve(self, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.n_gone += 1
        finally:
            writer.close()

    async def request(self, reader: asyncio.StreamReader) -> None:
        """Read one request whole."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        self.seen = head + await reader.readexactly(int(length[1]) if length else 0)
        self.n_requests += 1


def always(raw: bytes, *, close: bool = False) -> Serve:
    """Answer every request with the same bytes."""

    async def serve(
        provider: Provider, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            await provider.request(reader)
            writer.write(raw)
            if close:
                await writer.drain()
                return

    return serve


async def silent(
    provider: Provider, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Say nothing until the client has gone."""
    while await reader.read(1 << 16):
        pass
    provider.n_gone += 1


@asynccontextmanager
async def provider(serve: Serve, **how: Any) -> AsyncIterator[Provider]:
    found = Provider(serve)
    host = how.pop("host", "127.0.0.1")
    server = await asyncio.start_server(found.connected, host, 0, **how)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()


@asynccontextmanager
async def pool(**how: Any) -> AsyncIterator[Pool]:
    found = Pool(**{"connect_s": 2.0, **how})
    try:
        yield found
    finally:
        await found.aclose()
        await until(lambda: not found.n_open)


def run(main: Coroutine[Any, Any, None]) -> None:
    uvloop.run(asyncio.wait_for(main, 20))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def target(url: str) -> Target:
    return Target.of(httpx.URL(url))


async def get(of: Pool, where: Target, *, method: str = "POST", body: bytes = b"{}") -> bytes:
    answer = await of.send(method, where, [(b"x-a", b"b")], body)
    return b"".join([chunk async for chunk in answer])


def check(serve: Serve, calls: Callable[[Pool, Provider], Awaitable[None]], **how: Any) -> None:
    """Run `calls` against one provider."""

    async def main() -> None:
        async with provider(serve) as there, pool(**how) as of:
            await calls(of, there)

    run(main())


# -- reuse --------------------------------------------------------------------------------------


def test_a_request_is_one_head_and_its_body_and_connections_are_kept() -> None:
    async def calls(of: Pool, there: Provider) -> None:
        for _ in range(3):
            assert await get(of, there.target) == b"ok"
        assert (there.n_connections, there.n_requests) == (1, 3)
        host = b"host: 127.0.0.1:%d\r\n" % there.port
        assert there.seen == (
            b"POST /v1/x HTTP/1.1\r\n" + host + b"x-a: b\r\ncontent-length: 2\r\n\r\n{}"
        )

    check(always(OK), calls)


def test_a_connection_that_was_closed_while_idle_is_never_given_out() -> None:
    async def calls(of: Pool, there: Provider) -> None:
        for n in range(3):
            assert await get(of, there.target) == b"ok"
            await until(lambda: not of.n_open)
            assert there.n_connections == n + 1

    check(always(OK, close=True), calls)


def test_a_request_that_got_no_answer_is_an_error_and_is_not_sent_again() -> None:
    async def once(
        there: Provider, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await there.request(reader)
        writer.write(OK)
        await there.request(reader)  # and hang up: nobody knows what became of it

    async def calls(of: Pool, there: Provider) -> None:
        assert await get(of, there.target) == b"ok"
        with pytest.raises(httpx.RemoteProtocolError):
            await get(of, there.target)
        assert (there.n_connections, there.n_requests) == (1, 2)

    check(once, calls)


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    ],
)
def test_a_provider_that_wants_to_close_is_not_asked_again(raw: bytes) -> None:
    async def calls(of: Pool, there: Provider) -> None:
        for _ in range(2):
            assert await get(of, there.target) == b"ok"
        assert there.n_connections == 2

    check(always(raw), calls)


def test_idle_connections_expire() -> None:
    async def calls(of: Pool, there: Provider) -> None:
        assert await get(of, there.target) == b"ok"
        assert of.n_open == 1
        await until(lambda: not of.n_open)
        assert await get(of, there.target) == b"ok"
        assert there.n_connections == 2

    check(always(OK), calls, keepalive_s=0.02)


@pytest.mark.slow
def test_only_so_many_idle_connections_are_kept() -> None:
    async def calls(of: Pool, there: Provider) -> None:
        n = MAX_IDLE + 10
        assert await asyncio.gather(*(get(of, there.target) for _ in range(n))) == [b"ok"] * n
        await until(lambda: of.n_open <= MAX_IDLE)

    check(always(OK), calls)


# -- kept connections that their provider closed ------------------------------------------------

RESET = b"\1\0\0\0\0\0\0\0"
"""Of SO_LINGER: a close that resets."""


def hang_up(writer: asyncio.StreamWriter, how: str) -> None:
    """End a connection with FIN or RST, at once."""
    if how == "RST":
        found = writer.get_extra_info("socket")
        with socket.socket(fileno=os.dup(found.fileno())) as own:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()


def ends_second(how: str, *, said: bytes = b"", unread: bool = False) -> Serve:
    """Answer the first request of the first connection; hang up at its second one."""

    async def serve(
        there: Provider, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        first = there.n_connections == 1
        while True:
            await there.request(reader)
            writer.write(OK)
            if first:
                await (reader.read(1) if unread else there.request(reader))
                writer.write(said)
                await writer.drain()
                if said:
                    await asyncio.sleep(0.01)
                hang_up(writer, how)
                return

    return serve


async def send(of: Pool, where: Target, method: str, body: bytes, *, repeatable: bool) -> bytes:
    answer = await of.send(method, where, [], body, repeatable=repeatable)
    return b"".join([chunk async for chunk in answer])


@pytest.mark.parametrize("how", ["FIN", "RST"])
@pytest.mark.parametrize("size", [0, 2, 1 << 20])
@pytest.mark.parametrize("unread", [False, True])
def test_a_call_that_met_the_end_of_its_kept_connection_is_made_again_once(
    how: str, size: int, unread: bool
) -> None:
    async def calls(of: Pool, there: Provider) -> None:
        for _ in range(2):
            assert await send(of, there.target, "POST", bytes(size), repeatable=True) == b"ok"
        assert there.n_connections == 2

    check(ends_second(how, unread=unread), calls)


@pytest.mark.parametrize("how", ["FIN", "RST"])
def test_what_is_not_repeatable_is_an_error_once_it_may_have_arrived(how: str) -> None:
    async def calls(of: Pool, there: Provider) -> None:
        assert await send(of, there.target, "POST", b"{}", repeatable=False) == b"ok"
        with pytest.raises(httpx.RemoteProtocolError):
            await send(of, there.target, "POST", b"{}", repeatable=False)
        assert (there.n_connections, there.n_requests) == (1, 2)

    check(ends_second(how), calls)


@pytest.mark.parametrize("how", ["FIN", "RST"])
def test_what_cannot_have_arrived_whole_is_sent_again_though_it_is_not_repeatable(how: str) -> None:
    async def calls(of: Pool, there: Provider) -> None:
        assert await send(of, there.target, "POST", b"{}", repeatable=False) == b"ok"
        body = bytes(32 << 20)  # more than sockets hold
        assert await send(of, there.target, "POST", body, repeatable=False) == b"ok"
        assert (there.n_connections, there.n_requests) == (2, 2)

    check(ends_second(how, unread=True), calls)


@pytest.mark.parametrize("how", ["FIN", "RST"])
@pytest.mark.parametrize(
    "said", [b"H", OK[:20], OK[:-4], b"HTTP/1.1 100 Continue\r\n\r\n"], ids=len
)
def test_nothing_is_sent_again_once_a_byte_came_back(how: str, said: bytes) -> None:
    async def calls(of: Pool, there: Provider) -> None:
        assert await send(of, there.target, "POST", b"{}", repeatable=True) == b"ok"
        with pytest.raises(httpx.RemoteProtocolError):
            await send(of, there.target, "POST", b"{}", repeatable=True)
        assert (there.n_connections, there.n_requests) == (1, 2)

    check(ends_second(how, said=said), calls)


@pytest.mark.parametrize("how", ["FIN", "RST"])
def test_a_new_connection_is_never_tried_again(how: str) -> None:
    async def always_ends(
        there: Provider, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await there.request(reader)
        if there.n_requests == 1:
            writer.write(OK)
            await there.request(reader)
        hang_up(writer, how)

    async def calls(of: Pool, there: Provider) -> None:
        assert await send(of, there.target, "POST", b"{}", repeatable=True) == b"ok"
        with pytest.raises(httpx.RemoteProtocolError):  # the kept one, then a new one: no third
            await send(of, there.target, "POST", b"{}", repeatable=True)
        assert there.n_connections == 2
        with pytest.raises(httpx.RemoteProtocolError):
            await send(of, there.target, "POST", b"{}", repeatable=True)
        assert (there.n_connections, there.n_requests) == (3, 4)

    check(always_ends, calls)


@pytest.mark.parametrize("repeatable", [True, False])
def test_a_connection_that_ended_this_very_moment_fails_no_call(repeatable: bool) -> None:
    """The end is at our socket, and the loop has not told of it yet."""
    writers: list[asyncio.StreamWriter] = []

    async def keeps(
        there: Provider, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writers.append(writer)
        await always(OK)(there, reader, writer)

    async def calls(of: Pool, there: Provider) -> None:
        for n in range(20):
            assert await send(of, there.target, "POST", b"{}", repeatable=repeatable) == b"ok"
            fd = writers[n].get_extra_info("socket").fileno()
            with socket.socket(fileno=os.dup(fd)) as own:
                own.shutdown(socket.SHUT_RDWR)
        assert there.n_connections == 20

    check(keeps, calls)


# -- bodies in pieces ---------------------------------------------------------------------------


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("length", "wire"),
    [
        (5, b"content-length: 5\r\n\r\nhello"),
        (None, b"transfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
    ],
)
def test_a_body_in_pieces_is_framed_by_its_length_or_in_chunks(
    length: int | None, wire: bytes
) -> None:
    async def reads(
        there: Provider, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        there.seen = await reader.readuntil(b"\r\n\r\n")
        there.seen += await reader.readexactly(len(wire) - wire.index(b"\r\n\r\n") - 4)
        writer.write(OK)
        await reader.read(1)

    async def calls(of: Pool, there: Provider) -> None:
        body = BodyInPieces(pieces(b"he", b"", b"llo"), length)
        answer = await of.send("PUT", there.target, [], body)
        assert b"".join([chunk async for chunk in answer]) == b"ok"
        assert there.seen.endswith(wire)

    check(reads, calls)


@pytest.mark.parametrize("length", [4, 6])
def test_a_body_of_another_length_than_was_said_is_an_error(length: int) -> None:
    async def calls(of: Pool, there: Provider) -> None:
        with pytest.raises(httpx.LocalProtocolError):
            await of.send("PUT", there.target, [], BodyInPieces(pieces(b"he", b"llo"), length))
        await until(lambda: not of.n_open)

    check(silent, calls)


def test_what_goes_wrong_with_a_body_is_raised_as_it_is() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"he"
        raise KeyError("of mine")

    async def calls(of: Pool, there: Provider) -> None:
        with pytest.raises(KeyError):
            await of.send("PUT", there.target, [], BodyInPieces(broken(), None))
        await until(lambda: not of.n_open and there.n_gone > 0)

    check(silent, calls)


def test_pieces_never_go_out_on_a_kept_connection() -> None:
    """They are there once: no call could be made again that met its end."""

    async def calls(of: Pool, there: Provider) -> None:
        assert await get(of, there.target) == b"ok"
        answer = await of.send("PUT", there.target, [], BodyInPieces(pieces(b"{}"), 2))
        assert b"".join([chunk async for chunk in answer]) == b"ok"
        assert (there.n_connections, there.n_requests) == (2, 2)

    check(always(OK), calls)


# -- answers ------------------------------------------------------------------------------------

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("raw", "close", "body"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nlink: x\r\n\r\n" + OK, False, b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", False, b""),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", False, b""),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", False, b""),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", True, b"until the end"),
        (CHUNKED + b"2;a=b\r\nok\r\n0\r\nx-trailer: 1\r\n\r\n", False, b"ok"),
    ],
)
def test_every_way_to_end_an_answer(raw: bytes, close: bool, body: bytes) -> None:
    async def calls(of: Pool, there: Provider) -> None:
        for _ in range(2):
            assert await get(of, there.target) == body
        assert there.n_connections == (2 if close else 1)

    check(always(raw, close=close), calls)


def test_the_answer_to_head_has_no_body() -> None:
    raw = b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n"

    async def calls(of: Pool, there: Provider) -> None:
        assert await get(of, there.target, method="HEAD") == b""

    check(always(raw), calls)


def test_bytes_come_as_they_arrive() -> None:
    go = asyncio.Event()

    async def slowly(
        there: Provider, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await there.request(reader)
        writer.write(CHUNKED + b"5\r\nfirst\r\n")
        await go.wait()
        writer.write(b"6\r\nsecond\r\n0\r\n\r\n")
        await silent(there, reader, writer)

    async def calls(of: Pool, there: Provider) -> None:
        answer = await of.send("POST", there.target, [], b"")
        assert (answer.status, answer.headers) == (200, [(b"transfer-encoding", b"chunked")])
        assert await anext(answer) == b"first"
        go.set()
        assert [chunk async for chunk in answer] == [b"second"]

    check(slowly, calls)


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort",
        CHUNKED + b"9\r\nshort",
        CHUNKED + b"5\r\nshort\r\n",
    ],
)
def test_a_cut_answer_is_an_error_after_its_bytes(raw: bytes) -> None:
    async def calls(of: Pool, there: Provider) -> None:
        answer = await of.send("POST", there.target, [], b"")
        assert await anext(answer) == b"short"
        with pytest.raises(httpx.RemoteProtocolError):
            await anext(answer)

    check(always(raw, close=True), calls)


def test_an_answer_before_the_request_was_sent_counts_and_ends_the_connection() -> None:
    too_large = b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig"

    async def hasty(
        there: Provider, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(too_large)
        await silent(there, reader, writer)

    async def calls(of: Pool, there: Provider) -> None:
        answer = await of.send("POST", there.target, [], bytes(32 << 20))
        assert answer.status == 413
        assert [chunk async for chunk in answer] == [b"big"]
        await until(lambda: not of.n_open)

    check(hasty, calls)


# -- what is no plain answer --------------------------------------------------------------------

HEAD = b"HTTP/1.1 200 OK\r\n"
FLOOD = b"a" * (MAX_HEAD_BYTES + 1)


@pytest.mark.parametrize(
    "raw",
    [
        HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\nok",
        HEAD + b"content-length: 2, 2\r\n\r\nok",
        HEAD + b"content-length: -2\r\n\r\nok",
        HEAD + b"content-length: +2\r\n\r\nok",
        HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: identity\r\n\r\nok",
        HEAD + b"x-folded: a\r\n b\r\ncontent-length: 2\r\n\r\nok",
        HEAD + b"x-nul: a\0b\r\ncontent-length: 2\r\n\r\nok",
        HEAD + b"x-cr: a\rb\r\ncontent-length: 2\r\n\r\nok",
        HEAD + b"content-length : 2\r\n\r\nok",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 " + FLOOD,
        HEAD + b"x-flood: " + FLOOD,
        HEAD + b"x-flood: " + FLOOD + b"\r\ncontent-length: 2\r\n\r\nok",
        HEAD + b"x: y\r\n" * (MAX_HEAD_BYTES // 2) + b"\r\n",
        b"HTTP/1.1 103 Hints\r\nx: y\r\n\r\n" * (MAX_HEAD_BYTES // 2),
    ],
    ids=lambda raw: raw[:60].decode("latin-1"),
)
def test_what_is_no_plain_answer_is_refused_and_ends_the_connection(raw: bytes) -> None:
    async def calls(of: Pool, there: Provider) -> None:
        with pytest.raises(httpx.RemoteProtocolError):
            await of.send("POST", there.target, [], b"")
        await until(lambda: not of.n_open)

    check(always(raw), calls)


IN_CHUNKS = b"2\r\nok\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        HEAD + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n" + IN_CHUNKS,
        HEAD + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n" + IN_CHUNKS,
        HEAD + b"transfer-encoding: chunked\r\n\r\n2  \r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\ncontent-length: 2\n\nok",
        HEAD + b"x-long: " + b"a" * 70_000 + b"\r\ncontent-length: 2\r\n\r\nok",
    ],
    ids=["both", "both turned", "spaces", "bare line feeds", "long head"],
)
def test_what_parsers_of_clients_take_is_taken(raw: bytes) -> None:
    async def calls(of: Pool, there: Provider) -> None:
        answer = await of.send("POST", there.target, [], b"")
        assert b"".join([chunk async for chunk in answer]) == b"ok"

    check(always(raw), calls)


@pytest.mark.parametrize("first", [b"content-length: 2\r\n", b""])
def test_a_connection_whose_answer_had_two_lengths_serves_no_other(first: bytes) -> None:
    raw = HEAD + first + b"transfer-encoding: chunked\r\n\r\n" + IN_CHUNKS

    async def calls(of: Pool, there: Provider) -> None:
        answer = await of.send("POST", there.target, [], b"")
        assert b"".join([chunk async for chunk in answer]) == b"ok"
        await asyncio.sleep(0.05)
        assert of.n_open == (0 if first else 1)

    check(always(raw), calls)


@pytest.mark.parametrize(
    "raw",
    [
        CHUNKED + b"x\r\nok\r\n",
        CHUNKED + b"2\r\nokay\r\n",
        CHUNKED + b"fffffffffffffffff\r\n",
        CHUNKED + b"2;" + FLOOD,
        CHUNKED + b"2\r\nok\r\n0\r\nx-trailer: " + FLOOD * 8,  # more than one read
    ],
    ids=lambda raw: raw[len(CHUNKED) :][:24].decode("latin-1"),
)
def test_a_bad_chunk_breaks_the_answer_and_the_connection(raw: bytes) -> None:
    async def calls(of: Pool, there: Provider) -> None:
        with pytest.raises(httpx.RemoteProtocolError):
            await get(of, there.target)
        await until(lambda: not of.n_open)

    check(always(raw), calls)


@pytest.mark.parametrize("surplus", [OK, b"x", b"HTTP/1.1 200 OK\r\n"])
def test_bytes_after_the_answer_are_nobody_elses_answer(surplus: bytes) -> None:
    async def calls(of: Pool, there: Provider) -> None:
        for n in range(2):
            assert await get(of, there.target) == b"ok"
            await until(lambda: not of.n_open)
            assert there.n_connections == n + 1

    check(always(OK + surplus), calls)


def test_bytes_that_nobody_asked_for_end_an_idle_connection() -> None:
    go = asyncio.Event()

    async def chatty(
        there: Provider, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await there.request(reader)
        writer.write(OK)
        await go.wait()
        writer.write(OK)
        await silent(there, reader, writer)

    async def calls(of: Pool, there: Provider) -> None:
        assert await get(of, there.target) == b"ok"
        assert of.n_open == 1
        go.set()
        await until(lambda: not of.n_open)

    check(chatty, calls)


# -- what we send -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "header"),
    [
        ("POST", b"/x", (b"x-a", b"b\r\nx-c: d")),
        ("POST", b"/x", (b"x-a", b"b\nx-c: d")),
        ("POST", b"/x", (b"x-a", b"b\rx-c: d")),
        ("POST", b"/x", (b"x-a", b"b\0")),
        ("POST", b"/x", (b"x-a: b\r\nx-c", b"d")),
        ("POST", b"/x", (b"x a", b"b")),
        ("POST", b"/x", (b"", b"b")),
        ("POST", b"/x", (b"content-length", b"0")),
        ("POST", b"/x", (b"transfer-encoding", b"chunked")),
        ("POST", b"/x", (b"host", b"elsewhere")),
        ("POST", b"/x HTTP/1.1\r\nx-c: d\r\n\r\n", (b"x-a", b"b")),
        ("POST / HTTP/1.1\r\n\r\nGET", b"/x", (b"x-a", b"b")),
    ],
)
def test_nothing_is_sent_that_could_be_read_as_more_than_one_request(
    method: str, path: bytes, header: tuple[bytes, bytes]
) -> None:
    async def calls(of: Pool, there: Provider) -> None:
        where = there.target
        with pytest.raises(httpx.LocalProtocolError):
            await of.send(
                method, Target(where.url, where.origin, where.authority, path), [header], b""
            )
        assert there.n_connections == 0

    check(always(OK), calls)


def test_hosts_ports_and_paths_of_a_target() -> None:
    six = target("http://[::1]:8080/v1/chat?a=b%20c")
    plain = target("https://user:pass@api.example.com/v1/ü x")

    assert (six.origin, six.authority, six.path) == (
        ("::1", 8080, False),
        b"[::1]:8080",
        b"/v1/chat?a=b%20c",
    )
    assert plain.origin == ("api.example.com", 443, True)
    assert plain.authority == b"api.example.com"
    assert plain.path == b"/v1/%C3%BC%20x"


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6 loopback")
def test_a_host_may_be_an_ipv6_address() -> None:
    async def main() -> None:
        async with provider(always(OK), host="::1") as there, pool() as of:
            assert await get(of, target(f"http://[::1]:{there.port}/")) == b"ok"

    run(main())


# -- time, cancellation, back-pressure ----------------------------------------------------------


def test_nobody_listening_is_a_connect_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        where = target(f"http://127.0.0.1:{taken.getsockname()[1]}/")

        async def main() -> None:
            async with pool() as of:
                with pytest.raises(httpx.ConnectError):
                    await get(of, where)

        run(main())


def test_a_connection_has_a_time_limit_its_handshake_included() -> None:
    async def calls(of: Pool, there: Provider) -> None:
        with pytest.raises(httpx.ConnectTimeout):
            await get(of, target(f"https://127.0.0.1:{there.port}/"))
        await until(lambda: there.n_gone == 1)

    check(silent, calls, connect_s=0.05)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_call_cancelled_while_it_waits_leaves_no_connection(scheme: str) -> None:
    """With https it is the handshake that never ends, with http the answer that never begins."""

    async def calls(of: Pool, there: Provider) -> None:
        where = target(f"{scheme}://127.0.0.1:{there.port}/")
        call = asyncio.create_task(get(of, where))
        await until(lambda: there.n_connections == 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: there.n_gone == 1 and not of.n_open)

    check(silent, calls)


def test_an_answer_given_up_closes_its_connection() -> None:
    async def endless(
        there: Provider, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await there.request(reader)
        writer.write(CHUNKED + b"5\r\nfirst\r\n")
        await silent(there, reader, writer)

    async def calls(of: Pool, there: Provider) -> None:
        answer = await of.send("POST", there.target, [], b"")
        waiting = asyncio.create_task(_drain(answer))
        await until(lambda: bool(answer.n_unread) or there.n_requests == 1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await answer.aclose()
        await until(lambda: there.n_gone == 1 and not of.n_open)

    check(endless, calls)


async def _drain(answer: Answer) -> None:
    async for _ in answer:
        pass


def test_a_slow_reader_holds_the_provider_back() -> None:
    size = 48 << 20

    async def flood(
        there: Provider, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await there.request(reader)
        writer.write(HEAD + b"content-length: %d\r\n\r\n" % size)
        for _ in range(size >> 16):
            writer.write(bytes(1 << 16))
            await writer.drain()
            there.n_requests += 1
        await silent(there, reader, writer)

    async def calls(of: Pool, there: Provider) -> None:
        answer = await of.send("POST", there.target, [], b"")
        await until(lambda: answer.n_unread > MAX_UNREAD_BYTES)
        before = -1
        while before != there.n_requests:  # until the provider can write no more
            before = there.n_requests
            await asyncio.sleep(0.02)
        assert answer.n_unread <= MAX_UNREAD_BYTES + READ_BYTES
        assert there.n_requests < size >> 16
        assert sum([len(chunk) async for chunk in answer]) == size
        assert of.n_open == 1

    check(flood, calls)


# -- TLS ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a CA and a certificate for localhost."""
    directory = tmp_path_factory.mktemp("tls")
    for name, subject, more in (
        ("ca", "/CN=a CA of ours", ["-addext", "keyUsage=critical,keyCertSign"]),
        (
            "host",
            "/CN=localhost",
            ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "subjectAltName=DNS:localhost"],
        ),
    ):
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"]
        command += ["ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", subject]
        command += ["-keyout", f"{name}.key", "-out", f"{name}.pem", *more]
        subprocess.run(command, cwd=directory, check=True, capture_output=True)
    return directory


def _tls_calls(
    certificates: Path, host: str, trusted: ssl.SSLContext | None, *, names: list[str | None]
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "host.pem", certificates / "host.key")

    def note(_: Any, name: str | None, __: Any) -> None:
        names.append(name)

    context.sni_callback = note

    async def main() -> None:
        async with provider(always(OK), ssl=context) as there, pool(tls=trusted) as of:
            where = target(f"https://{host}:{there.port}/")
            for _ in range(2):
                assert await get(of, where) == b"ok"
            assert there.n_connections == 1

    run(main())


def _trust(certificates: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificates / "ca.pem"))


def test_tls_is_verified_names_its_host_and_is_kept(certificates: Path) -> None:
    names: list[str | None] = []
    _tls_calls(certificates, "localhost", _trust(certificates), names=names)
    assert names == ["localhost"]


def test_an_unknown_ca_is_refused(certificates: Path) -> None:
    with pytest.raises(httpx.ConnectError, match="SSLCertVerificationError"):
        _tls_calls(certificates, "localhost", None, names=[])


def test_a_certificate_for_another_name_is_refused(certificates: Path) -> None:
    with pytest.raises(httpx.ConnectError, match="SSLCertVerificationError"):
        _tls_calls(certificates, "127.0.0.1", _trust(certificates), names=[])


# -- the seam -----------------------------------------------------------------------------------


def test_a_transport_of_httpx_plugs_in() -> None:
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(201, headers={"X-A": "b"}, content=b"made")

    async def main() -> None:
        upstream = Adapted(httpx.MockTransport(handle))
        answer = await upstream.send("PUT", target("http://h:81/v1/y"), [(b"x-a", b"b")], b"body")
        assert answer.status == 201
        assert (b"x-a", b"b") in answer.headers
        assert b"".join([chunk async for chunk in answer]) == b"made"
        await answer.aclose()
        await upstream.aclose()

    run(main())
    assert seen[0].content == b"body"
    assert seen[0].headers["host"] == "h:81"
    assert seen[0].headers["content-length"] == "4"
