"""Content codings undone: of requests, of routed answers, and of what is passed on."""

from __future__ import annotations

import gzip
import json
import random
import socket
import sys
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Provider, Reply, Sidecar, answer, chunks, endpoint, serving
from hypothesis import given
from hypothesis import strategies as st

from router.net.codings import (
    FREE_BYTES,
    MAX_MEMBERS,
    MAX_RATIO,
    CodingDamaged,
    DecodedTooLarge,
    Decoder,
    codings_of,
)
from telemetry.store import Address

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LIMIT = 64 << 20
Undo = Callable[[bytes], bytes]


def raw_deflate(data: bytes) -> bytes:
    coder = zlib.compressobj(wbits=-15)
    return coder.compress(data) + coder.flush()


GZIP = partial(gzip.compress, mtime=0)  # else its header is another a second later

CODERS: dict[str, tuple[str, Undo]] = {
    "gzip": ("gzip", GZIP),
    "x-gzip": ("X-GZIP", GZIP),
    "zlib": ("deflate", zlib.compress),
    "raw": ("deflate", raw_deflate),
    "zstd": ("zstd", zstd.compress),
}
TWICE: dict[str, tuple[str, Undo]] = {
    "in order": ("gzip, zstd", lambda data: zstd.compress(GZIP(data))),
    "with identity": ("identity, gzip ,identity", GZIP),
    "of one kind": ("deflate,deflate", lambda data: raw_deflate(zlib.compress(data))),
}
ALL = {**CODERS, **TWICE}


def decode(
    names: str, data: bytes, *, size: int = 0, lenient: bool = False, limit: int = LIMIT
) -> bytes:
    codings = codings_of([(b"content-encoding", names.encode())])
    decoder = Decoder(codings, limit=limit, max_ratio=MAX_RATIO, lenient=lenient)
    step = size or len(data) or 1
    out = [decoder.feed(data[i : i + step]) for i in range(0, len(data), step)]
    decoder.end()
    return b"".join(out)


# -- the decoder --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL)
@given(data=st.binary(max_size=3000), size=st.integers(0, 50))
def test_what_was_coded_comes_back_however_it_is_cut(kind: str, data: bytes, size: int) -> None:
    names, code = ALL[kind]

    assert decode(names, code(data), size=size) == data


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_several_in_a_row_are_one_body(kind: str) -> None:
    names, code = CODERS[kind]

    assert decode(names, code(b"one") + code(b"") + code(b"two"), size=5) == b"onetwo"


@pytest.mark.parametrize("kind", ALL)
def test_a_body_that_is_cut_anywhere_is_damaged(kind: str) -> None:
    names, code = ALL[kind]
    coded = code(b"some words, " * 20)

    for n in range(1, len(coded)):
        with pytest.raises(CodingDamaged):
            decode(names, coded[:n], size=7)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("more", [b"x", b"\0\0\0\0", b"garbage, and more of it"])
def test_what_stands_behind_the_end_is_damage_in_requests_alone(kind: str, more: bytes) -> None:
    names, code = ALL[kind]
    coded = code(b"words") + more

    with pytest.raises(CodingDamaged):
        decode(names, coded)
    if kind not in TWICE:
        assert decode(names, coded, lenient=True) == b"words"


@pytest.mark.parametrize("kind", CODERS)
def test_damage_is_never_passed_over(kind: str) -> None:
    names, code = CODERS[kind]
    with pytest.raises(CodingDamaged):
        decode(names, b"these are just words")
    coded = code(bytes(random.Random(1).randbytes(5000)))
    damaged = coded[:100] + b"\xff\xff\xff\xff" + coded[104:]
    if kind not in ("raw", "zstd"):  # which have no sum to check
        with pytest.raises(CodingDamaged):
            decode(names, damaged)


@pytest.mark.parametrize("kind", ALL)
def test_a_bomb_is_not_blown_up(kind: str) -> None:
    names, code = ALL[kind]
    with pytest.raises(DecodedTooLarge):
        decode(names, code(bytes(FREE_BYTES + 1)))
    with pytest.raises(DecodedTooLarge):
        decode(names, code(random.Random(1).randbytes(1001)), size=100, limit=1000)


@pytest.mark.parametrize("kind", ALL)
def test_texts_that_repeat_themselves_are_no_bombs(kind: str) -> None:
    names, code = ALL[kind]
    text = b"word " * (FREE_BYTES // 5)

    assert decode(names, code(text)) == text


def test_empty_parts_have_an_end() -> None:
    with pytest.raises(CodingDamaged):
        decode("gzip", gzip.compress(b"") * (MAX_MEMBERS + 1))


# -- requests -----------------------------------------------------------------------------------

CHAT = {"model": "a", "messages": [{"role": "user", "content": "hello " * 100}]}


def passing(provider: Provider) -> dict[str, Any]:
    entry = {"base_url": provider.url("p"), "passthrough": True}
    return {"endpoints": [endpoint(provider, "a")], "providers": {"prov": entry}}


def post(sidecar: Sidecar, path: str, content: bytes, names: str) -> Any:
    headers = {"content-encoding": names, "content-type": "application/json"}
    return sidecar.http.post(path, content=content, headers=headers)


def test_coded_requests_are_decoded_for_all_who_read_and_go_on_plain(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    plain = json.dumps(CHAT).encode()
    provider.on("p", Reply(body=b"{}"))
    with serving(passing(provider), state_dir, address) as sidecar:
        for names, code in ALL.values():
            for path in ("/v1/chat/completions", "/v1/responses", "/v1/files"):
                content = b"--no json--" * 9000 if path == "/v1/files" else plain
                assert post(sidecar, path, code(content), names).status_code == 200
                seen = provider.calls[-1]
                assert seen.body == content
                assert "content-encoding" not in seen.headers
        note = gzip.compress(json.dumps({"ref": "nobody's", "passed": True}).encode())
        assert post(sidecar, "/v1/feedback", note, "gzip").status_code == 202


def test_hints_in_coded_bodies_are_read_and_stripped(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    restricted = json.dumps({"input": "x", "router": {"data_class": "restricted"}}).encode()
    hinted = json.dumps({"input": "x", "router": {"task": "code"}}).encode()
    with serving(passing(provider), state_dir, address) as sidecar:
        for names, code in ALL.values():
            assert post(sidecar, "/v1/responses", code(restricted), names).status_code == 409
            assert post(sidecar, "/v1/responses", code(hinted), names).status_code == 200

    assert {call.body for call in provider.calls} == {b'{"input":"x"}'}


@pytest.mark.parametrize(
    ("names", "content", "status", "said"),
    [
        ("br", b"\x0b\x02\x80", 415, "'br'"),
        ("gzip, br", b"x", 415, "'br'"),
        ("compress", b"x", 415, "'compress'"),
        ("gzip, gzip, gzip, gzip, gzip", b"x", 415, "over 4"),
        ("gzip", b"plain", 400, "content-encoding"),
        ("gzip", gzip.compress(b"{}", mtime=0)[:-1], 400, "content-encoding"),
        ("gzip", gzip.compress(b"{}", mtime=0) + b"more", 400, "content-encoding"),
        ("deflate", zlib.compress(b"{}") + b"more", 400, "content-encoding"),
        ("zstd", zstd.compress(b"{}")[:-1], 400, "content-encoding"),
        ("zstd", zstd.compress(bytes(256 << 20)), 413, "100 times"),
    ],
)
def test_a_body_that_cannot_be_decoded_is_refused_everywhere(
    provider: Provider,
    state_dir: Path,
    address: Address,
    names: str,
    content: bytes,
    status: int,
    said: str,
) -> None:
    with serving(passing(provider), state_dir, address) as sidecar:
        for path in ("/v1/chat/completions", "/v1/feedback", "/v1/responses"):
            got = post(sidecar, path, content, names)
            assert got.status_code == status, got.text
            assert said in got.json()["error"]["message"]
            assert got.headers["x-should-retry"] == "false"

    assert provider.calls == []


def test_codings_of_the_transfer_come_off_as_well(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    plain = json.dumps({"input": "x", "router": {"data_class": "restricted"}}).encode()
    both = gzip.compress(zstd.compress(plain))
    ways = [
        ("transfer-encoding: gzip, chunked", gzip.compress(plain), 409),
        ("transfer-encoding: gzip\r\ntransfer-encoding: chunked", gzip.compress(plain), 409),
        ("transfer-encoding: gzip, chunked\r\ncontent-encoding: zstd", both, 409),
        ("transfer-encoding: Chunked", plain, 409),
        ("transfer-encoding: br, chunked", plain, 415),
    ]
    with serving(passing(provider), state_dir, address) as sidecar:
        for headers, content, status in ways:
            with socket.create_connection(("127.0.0.1", sidecar.port)) as raw:
                raw.settimeout(10)
                head = f"POST /v1/responses HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n\r\n"
                raw.sendall(head.encode() + b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content))
                assert int(raw.recv(1 << 16).split()[1]) == status, headers

    assert provider.calls == []


def test_an_empty_body_in_a_coding_is_empty(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with serving(passing(provider), state_dir, address) as sidecar:
        assert sidecar.http.get("/v1/files", headers={"content-encoding": "gzip"}).is_success


# -- answers ------------------------------------------------------------------------------------


def coded(reply: bytes, names: str, code: Undo, **more: Any) -> Reply:
    return Reply(body=code(reply), headers={"content-encoding": names}, **more)


def split(data: bytes, size: int = 40) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


def raw_get(sidecar: Sidecar, **more: Any) -> tuple[Any, bytes]:
    """A call whose answer is not decoded by the client."""
    with sidecar.http.stream("POST", "/v1/chat/completions", json={**CHAT, **more}) as got:
        return got, b"".join(got.iter_raw())


def test_coded_answers_to_routed_calls_are_decoded(sidecar: Sidecar, provider: Provider) -> None:
    plain, events = answer("words"), chunks("hel", "lo", usage=True)
    for names, code in ALL.values():
        provider.on("a", coded(plain, names, code))
        got, body = raw_get(sidecar)
        assert body == plain
        assert "content-encoding" not in got.headers
        stream = Reply(chunks=split(code(b"".join(events))), headers={"content-encoding": names})
        provider.on("a", stream)
        got, body = raw_get(sidecar, stream=True, stream_options={"include_usage": True})
        assert body == b"".join(events)
        assert "content-encoding" not in got.headers
        refusal = b'{"error": {"message": "no such thing", "code": "odd"}}'
        provider.on("a", coded(refusal, names, code, status=422))
        got, body = raw_get(sidecar)
        assert (got.status_code, body) == (422, refusal)


def test_a_coded_stream_comes_as_it_arrives(sidecar: Sidecar, provider: Provider) -> None:
    coder = zlib.compressobj(wbits=31)
    pieces = [coder.compress(e) + coder.flush(zlib.Z_SYNC_FLUSH) for e in chunks("hel", "lo")]
    pieces.append(coder.flush())
    headers = {"content-encoding": "gzip"}
    provider.on("a", Reply(chunks=pieces, headers=headers, chunk_delay_s=0.1))
    with sidecar.http.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as got:
        parts = [part for part in got.iter_raw() if part]

    assert b"".join(parts) == b"".join(chunks("hel", "lo"))
    assert len(parts) >= 3


@pytest.mark.parametrize("broken", [True, False], ids=["broken off", "ended"])
def test_a_stream_that_is_cut_inside_its_coding_is_told_of(
    sidecar: Sidecar, provider: Provider, broken: bool
) -> None:
    coder = zlib.compressobj(wbits=31)
    events = chunks("hel", "lo")
    whole = [coder.compress(e) + coder.flush(zlib.Z_SYNC_FLUSH) for e in events]
    for n_bytes in (0, 5):
        cut = [*whole[:2], *([whole[2][:n_bytes]] if n_bytes else [])]
        headers = {"content-encoding": "gzip"}
        provider.on("a", Reply(chunks=cut, headers=headers, cut=broken))
        _, body = raw_get(sidecar, stream=True)
        assert body.startswith(b"".join(events[:2]))
        assert b"stream_cut" in body
        assert b"[DONE]" not in body


def test_a_damaged_answer_is_never_taken_for_one(sidecar: Sidecar, provider: Provider) -> None:
    for content in (b"no gzip", gzip.compress(answer())[:-20]):
        provider.on("a", Reply(body=content, headers={"content-encoding": "gzip"}))
        assert raw_get(sidecar)[0].status_code == 503


def test_an_answer_in_an_unknown_coding_travels_as_it_came(
    sidecar: Sidecar, provider: Provider
) -> None:
    provider.on("a", Reply(body=b"\x0b\x02\x80coded", headers={"content-encoding": "br"}))
    got, body = raw_get(sidecar)
    assert (got.status_code, got.headers["content-encoding"]) == (200, "br")
    assert body == b"\x0b\x02\x80coded"

    pieces = [b"\x0b\x02\x80", b"coded", b"more"]
    provider.on("a", Reply(chunks=pieces, headers={"content-encoding": "br"}))
    got, body = raw_get(sidecar, stream=True)
    assert (got.headers["content-encoding"], body) == ("br", b"".join(pieces))

    provider.on("a", Reply(chunks=pieces, headers={"content-encoding": "br"}, cut=True))
    with pytest.raises(httpx.RemoteProtocolError, match=r"incomplete|closed|peer"):
        raw_get(sidecar, stream=True)


def test_on_pass_through_coded_answers_travel_as_they_came_and_are_read(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with serving(passing(provider), state_dir, address) as sidecar:
        booked: list[Any] = []
        booking = sidecar.app.routes._services.passing._passthrough._booking
        write = booking.write
        booking.write = lambda token, ending, **how: (  # type: ignore[method-assign]
            booked.append(ending), write(token, ending, **how))  # fmt: skip
        for names, code in [*ALL.values(), ("br", bytes)]:
            events = b"".join(chunks("hel", "lo", usage=True))
            provider.on("p", coded(answer(), names, code))
            got, body = raw_get(sidecar, model="gpt-9")
            assert (got.headers["content-encoding"], body) == (names, code(answer()))
            provider.on("p", Reply(chunks=split(code(events)), headers={"content-encoding": names}))
            got, body = raw_get(sidecar, model="gpt-9", stream=True)
            assert (got.headers["content-encoding"], body) == (names, code(events))

    known = [ending.usage for ending in booked[:-2]]
    assert [(u.prompt_tokens, u.completion_tokens) for u in known] == [(10, 5)] * len(known)
    assert [ending.usage for ending in booked[-2:]] == [None, None]
