"""The top level of a body: its fields by name, and those among them that are for us."""

from __future__ import annotations

import codecs
import json
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw

from router.errors import RequestRejected
from telemetry.columns import BadColumns, once
from telemetry.wire.lenient import read_leniently

REFERENCE_KEY = "router_ref"
ROUTER_KEYS = "router_"
"""Prefix of metadata keys that are for us; providers never see them."""
_TOP = msgspec.json.Decoder(dict[str, Raw])
_ENCODER = msgspec.json.Encoder()


def top_level(body: bytes) -> dict[str, Raw]:
    """Return the top level of a body; what is nested is the bytes that came, if they are strict.

    Raises:
        msgspec.DecodeError, ValueError: it is no JSON object.
    """
    body = body.removeprefix(codecs.BOM_UTF8)
    try:
        return _TOP.decode(body)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        value = read_leniently(body)
    if not isinstance(value, dict):
        raise ValueError("no object")
    return {name: Raw(json.dumps(each).encode()) for name, each in value.items()}


def encoded(top: dict[str, Raw]) -> bytes:
    """Return what `top_level` read, changed or not, as JSON again."""
    try:
        return _ENCODER.encode(top)
    except UnicodeEncodeError:  # a name holds half a surrogate pair, which only an escape can say
        fields = [json.dumps(name).encode() + b":" + bytes(raw) for name, raw in top.items()]
        return b"{" + b",".join(fields) + b"}"


def array(entries: Sequence[Raw | bytes]) -> Raw:
    """Return a JSON array of these."""
    return Raw(b"[%b]" % b",".join(map(bytes, entries)))


def require_one_router(body: bytes) -> None:
    """Refuse a body in which our object stands twice: of two constraints none may be lost.

    Raises:
        RequestRejected: it does.
    """
    if body.count(b'"router"') < 2:
        return

    def first_twice(pairs: list[tuple[str, Any]]) -> int:
        return sum(name == "router" for name, _ in pairs)

    # The outermost object comes last. No number is made of digits: there may be too many for one.
    text = body.decode("utf-8-sig")
    if json.loads(text, object_pairs_hook=first_twice, parse_int=len) > 1:
        message = "router stands twice in the body; give it once"
        raise RequestRejected("invalid_request", message, param="router")


def require_each_once(router: bytes) -> None:
    """Refuse our object where a field of it stands twice.

    Raises:
        RequestRejected: one does.
    """
    try:
        json.loads(router, object_pairs_hook=once)
    except BadColumns as error:
        raise RequestRejected("invalid_request", f"{error} (in router)", param="router") from None


def strip_hints(top: dict[str, Raw], *, ours: bool) -> None:
    """Take what is for us out of a body.

    Args:
        top: its top level; changed.
        ours: some of its metadata is for us.
    """
    top.pop("router", None)
    if ours:
        metadata = top_level(bytes(top["metadata"]))
        kept = {k: v for k, v in metadata.items() if not k.startswith(ROUTER_KEYS)}
        if kept:
            top["metadata"] = Raw(encoded(kept))
        else:
            del top["metadata"]
