"""How the bytes of an answer travel: coded, framed, in pieces, with pauses, and cut. Pure."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from typing import Protocol

from scripts.proofs.provider import Cut, Send, Step, Wait
from scripts.proofs.replies import LAST_FRAME, frame, head
from scripts.proofs.turns import AnswerCut, AnswerForm

SHORT_S = 0.05
"""Between two pieces of a head, and two signs of life."""
GONE_S = 0.001
"""Between a reply and the end of its idle connection."""
BYTE_BY_BYTE = 40
"""So many bytes of an event travel each in a frame of its own; the rest in one."""
_CLOSED = (AnswerCut.IN_EVENT, AnswerCut.IN_FRAME)
_RESET = (AnswerCut.IN_EVENT_RESET, AnswerCut.BETWEEN_RESET)
_WBITS = {"gzip": 31, "deflate": 15, "raw deflate": -15}


class _Packer(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self, mode: int = ..., /) -> bytes: ...


def _coded(form: AnswerForm, segments: list[bytes]) -> list[bytes]:
    if not form.coding:
        return segments
    packer: _Packer = zlib.compressobj(wbits=_WBITS[form.coding])
    coded = [packer.compress(part) + packer.flush(zlib.Z_SYNC_FLUSH) for part in segments]
    return [*coded[:-1], coded[-1] + packer.flush(zlib.Z_FINISH)]


def written(
    form: AnswerForm, segments: list[bytes], n_core: int, rng: random.Random, *, streamed: bool
) -> list[Step]:
    """Return an answer's steps: head, body in its framing, cut where it is to be, end.

    Args:
        segments: the body in the parts in which it is said.
        n_core: so many of them are needed for the answer to be whole; a cut comes before.
        rng: of the sizes of frames.
    """
    segments = _coded(form, segments)
    start = _head(form, sum(map(len, segments)), streamed=streamed)
    out: list[Step] = [Wait(form.first_pause_s)] if form.first_pause_s else []
    half = len(start) // 2 if form.slow_head else 0
    out += [Send(start[:half]), Wait(SHORT_S), Send(start[half:])] if half else [Send(start)]
    for _ in range(round(form.alive_s / SHORT_S)):
        out += [*_framed(form, b": keep-alive\n\n", rng), Wait(SHORT_S)]
    n_sent, rest = len(segments), b""
    if form.cut is not None:
        n_sent = min(int(form.cut_at * n_core), n_core - 1)
        if form.cut not in (AnswerCut.BETWEEN, AnswerCut.BETWEEN_RESET) or not streamed:
            part = segments[n_sent]
            rest = part[: min(max(int(form.cut_in * len(part)), 1), len(part) - 1)]
    for i, segment in enumerate(segments[:n_sent]):
        if form.pause_s and i == int(form.pause_at * len(segments)):
            out.append(Wait(form.pause_s))
        out += _framed(form, segment, rng)
    if form.cut is AnswerCut.IN_FRAME:
        out.append(Send(b"%x\r\n" % len(segments[n_sent]) + rest))
    elif rest:
        out += _framed(form, rest, rng)
    if form.held_s and form.framing != "length":
        out.append(Wait(form.held_s))
    return _merged(out + _end(form)) if form.sizes == "one" else out + _end(form)


def _merged(steps: list[Step]) -> list[Step]:
    """Return the same with what is sent in a row in one write."""
    out: list[Step] = []
    for step in steps:
        if isinstance(step, Send) and out and isinstance(out[-1], Send):
            out[-1] = Send(out[-1].data + step.data)
        else:
            out.append(step)
    return out


def _head(form: AnswerForm, length: int, *, streamed: bool) -> bytes:
    kind = form.media_type or ("text/event-stream" if streamed else "application/json")
    headers = [("content-type", kind)] if kind != "none" else []
    if form.coding:
        headers.append(("content-encoding", form.coding.removeprefix("raw ")))
    if form.framing == "chunked":
        headers.append(("transfer-encoding", "chunked"))
    if form.framing == "length":
        headers.append(("content-length", str(length)))
    if form.connection_close or form.framing == "close":
        headers.append(("connection", "close"))
    if form.loud_headers:
        headers = [(name.upper(), value) for name, value in headers] + [("X-Policy", "a " * 5000)]
    hints = head(103, [("link", "</style>; rel=preload")]) if form.early_hints else b""
    return hints + head(form.status, headers, version="1.0" if form.http_1_0 else "1.1")


def _framed(form: AnswerForm, data: bytes, rng: random.Random) -> Sequence[Step]:
    if form.framing != "chunked":
        return [Send(data)]
    if form.sizes == "byte":
        parts = [data[i : i + 1] for i in range(min(len(data), BYTE_BY_BYTE))]
        parts.append(data[BYTE_BY_BYTE:])
    elif form.sizes == "odd":
        at = sorted(rng.randrange(len(data) + 1) for _ in range(3))
        parts = [data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True)]
    else:
        parts = [data]
    framed = [frame(part) for part in parts if part]
    if form.extensions:
        framed = [each.replace(b"\r\n", b";note=1\r\n", 1) for each in framed]
    return [Send(each) for each in framed]


def _end(form: AnswerForm) -> list[Step]:
    if form.cut in _RESET:
        return [Wait(GONE_S), Cut.RESET]
    if form.cut in _CLOSED or form.framing == "close":
        return [Cut.CLOSE]
    if form.cut is not None and form.framing == "length":
        return [Cut.CLOSE]
    last = b"0\r\nx-trailer: 1\r\n\r\n" if form.extensions else LAST_FRAME
    said: list[Step] = [Send(last)] if form.framing == "chunked" else []
    return [*said, Cut.CLOSE] if form.connection_close else said
