"""Bodies that are passed on unread: only what is for us is looked for, and taken out."""

from __future__ import annotations

import codecs

import msgspec
from msgspec import Raw, Struct

from router.dialects.chat import REFERENCE_KEY, ROUTER_KEYS, strip_hints, top_level
from router.dialects.request import NOTHING_DECLARED, BodyHints, Declared
from router.errors import RequestRejected
from router.net.connection import BodyInPieces

_ENCODER = msgspec.json.Encoder()


class OpaqueBody(Struct, frozen=True):
    """A body on its way to a provider, and what it says to us."""

    body: bytes | BodyInPieces
    declared: Declared = NOTHING_DECLARED
    model: str = ""


def take_hints(body: bytes) -> OpaqueBody:
    """Return a body that opens an object without what it says to us; else unchanged.

    One that is no JSON goes on as it came.

    Raises:
        RequestRejected: our own object in it cannot be read: it may hold a constraint.
    """
    try:
        top = top_level(body.removeprefix(codecs.BOM_UTF8))
    except (msgspec.DecodeError, RecursionError, ValueError):
        return OpaqueBody(body)
    model = _text(top.get("model")) or ""
    router, metadata = top.get("router"), _metadata(top)
    ours = any(name.startswith(ROUTER_KEYS) for name in metadata)
    if router is None and not ours:
        return OpaqueBody(body, model=model)
    hints = _hints(router) if router is not None else BodyHints()
    reference = _text(metadata.get(REFERENCE_KEY))
    strip_hints(top, ours=ours)
    return OpaqueBody(_ENCODER.encode(top), Declared(hints, reference=reference), model)


def _hints(raw: Raw) -> BodyHints:
    try:
        return msgspec.json.decode(raw, type=BodyHints)
    except msgspec.DecodeError as error:
        code = "unknown_field" if "unknown field" in str(error) else "invalid_request"
        raise RequestRejected(code, f"{error} (in router)", param="router") from None


def _metadata(top: dict[str, Raw]) -> dict[str, Raw]:
    try:
        return top_level(bytes(top.get("metadata", b"{}")))
    except (msgspec.DecodeError, RecursionError, ValueError):
        return {}


def _text(raw: Raw | None) -> str | None:
    try:
        return msgspec.json.decode(raw, type=str) if raw is not None else None
    except msgspec.DecodeError:
        return None
