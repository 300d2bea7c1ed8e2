"""Bodies that are passed on unread: only what is for us is looked for, and taken out."""

from __future__ import annotations

import codecs

import msgspec
from msgspec import Raw

from router.dialects.chat import REFERENCE_KEY, ROUTER_KEYS, strip_hints
from router.dialects.request import NOTHING_DECLARED, BodyHints, Declared
from router.errors import RequestRejected

_TOP = msgspec.json.Decoder(dict[str, Raw])
_ENCODER = msgspec.json.Encoder()


def is_json_object(body: bytes) -> bool:
    """Return whether a body is to be taken as JSON, whatever its media type says."""
    return body.removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"{"


def take_hints(body: bytes) -> tuple[Declared, bytes]:
    """Return what a body says to us, and the body without it; unchanged where it says nothing.

    A body that is no JSON goes on as it came.

    Raises:
        RequestRejected: our own object in it cannot be read: it may hold a constraint.
    """
    if not is_json_object(body):
        return NOTHING_DECLARED, body
    try:
        top = _TOP.decode(body.removeprefix(codecs.BOM_UTF8))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return NOTHING_DECLARED, body
    router, metadata = top.get("router"), _metadata(top)
    ours = any(name.startswith(ROUTER_KEYS) for name in metadata)
    if router is None and not ours:
        return NOTHING_DECLARED, body
    hints = _hints(router) if router is not None else BodyHints()
    reference = _text(metadata.get(REFERENCE_KEY))
    strip_hints(top, ours=ours)
    return Declared(hints, reference=reference), _ENCODER.encode(top)


def _hints(raw: Raw) -> BodyHints:
    try:
        return msgspec.json.decode(raw, type=BodyHints)
    except msgspec.ValidationError as error:
        code = "unknown_field" if "unknown field" in str(error) else "invalid_request"
        raise RequestRejected(code, f"{error} (in router)", param="router") from None


def _metadata(top: dict[str, Raw]) -> dict[str, Raw]:
    try:
        return _TOP.decode(top.get("metadata", b"{}"))
    except (msgspec.DecodeError, RecursionError):
        return {}


def _text(raw: Raw | None) -> str | None:
    try:
        return msgspec.json.decode(raw, type=str) if raw is not None else None
    except msgspec.ValidationError:
        return None
