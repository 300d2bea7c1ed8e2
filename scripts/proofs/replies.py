"""The bytes of a provider's replies: heads, chunk frames, events, answers, refusals."""

from __future__ import annotations

import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from scripts.proofs.provider import Send

TEXT = (
    "a harbour pilot boards each ship before the bar and stands beside the wheel until the last "
    "buoy is behind her he knows the shoals by the colour of the water and the tide by the sound "
    "of the chain and when fog comes down he counts slow breaths between two bells then nods and "
    "the great hull turns seaward"
)
"""Every healthy answer is this text: a cut one cannot pass for whole."""
WORDS = TEXT.split()
LAST_FRAME = b"0\r\n\r\n"
DONE = b"data: [DONE]\n\n"

Headers = Sequence[tuple[str, str]]


def head(status: int, headers: Headers, *, version: str = "1.1") -> bytes:
    """Return status line and headers."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:  # 529
        phrase = "Overloaded"
    lines = [f"HTTP/{version} {status} {phrase}", *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def frame(data: bytes) -> bytes:
    """Return one frame of a chunked body; nothing for no bytes, which would end it."""
    return b"%x\r\n%s\r\n" % (len(data), data) if data else b""


def event(value: object) -> bytes:
    """Return one event."""
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def stream_head() -> bytes:
    """Return the head of a stream in frames."""
    return head(200, [("content-type", "text/event-stream"), ("transfer-encoding", "chunked")])


def whole(status: int, value: object, headers: Headers = ()) -> Send:
    """Return a reply with a body of known length."""
    body = json.dumps(value).encode()
    common = [("content-type", "application/json"), ("content-length", str(len(body)))]
    return Send(head(status, [*common, *headers]) + body)


def error(message: str, *, code: str | None = None, kind: str = "server_error") -> dict[str, Any]:
    """Return the body of a refusal."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def usage(prompt_tokens: int, completion_tokens: int = len(WORDS)) -> dict[str, int]:
    """Return the usual three counts."""
    total = prompt_tokens + completion_tokens
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": total,
    }


def answer(model: str, text: str, counts: dict[str, int]) -> dict[str, Any]:
    """Return an answer that came in one piece."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {
        "id": f"chatcmpl-{model}",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": model,
        "choices": [choice],
        "usage": counts,
    }


def piece(model: str, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    """Return one chunk of a stream of one choice."""
    return {
        "id": f"chatcmpl-{model}",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": model,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
