"""What a body holds for us: the object `router`, and `router_ref` in its metadata.

One reading for every dialect. A reference is text or a whole number, as in feedback; what names
nobody is refused here, or feedback by it would be waited for in vain.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw, structs

from router.dialects.errors import refused_field
from router.dialects.fields import REFERENCE_KEY, require_each_once, top_level
from router.dialects.misspelt import require_known_keys
from router.dialects.request import BodyHints
from router.errors import RequestRejected
from telemetry.names import TEXT_OR_WHOLE, NotText, text_of
from telemetry.numbers import Unreadable, brief, clipped
from telemetry.wire.lenient import read_as_written, softened

_WANTED = {"": "an object", "ref": "text or a whole number", "explore": "true or false"}
REFERENCE = f"metadata.{REFERENCE_KEY}"


class _Sent(BodyHints, frozen=True, forbid_unknown_fields=True):
    """The object as it comes, with a reference that may be a number, and tags of any shape."""

    ref: Any = None
    tags: Any = None  # whatever it is, it holds no call


_HINTS: msgspec.json.Decoder[_Sent | None] = msgspec.json.Decoder(_Sent | None)


def read_router(raw: Raw | None, *, is_soft: bool = False) -> BodyHints | None:
    """Return what the object `router` says; None where there is none.

    Args:
        is_soft: take half a surrogate pair, as a question mark.

    Raises:
        RequestRejected: it is no such object, or a field of it is there twice.
    """
    if raw is None or bytes(raw) == b"null":
        return None
    try:
        hints = _decoded(bytes(raw), is_soft=is_soft)
    except msgspec.ValidationError as error:
        raise refused_field(error, "router") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message = f"this is JSON that not every reader takes: {error} (in router)"
        raise RequestRejected("invalid_request", message, param="router") from None
    if hints is None:
        return None
    require_each_once(bytes(raw))
    if hints.ref is None or isinstance(hints.ref, str):
        return hints
    return structs.replace(hints, ref=_text(hints.ref, "router.ref"))


def read_reference(metadata: Mapping[str, Raw]) -> str | None:
    """Return the caller's own reference; None where metadata has none.

    Raises:
        RequestRejected: it is neither text nor a whole number, or misspelt.
    """
    if not metadata:
        return None  # most often
    require_known_keys(metadata)
    if REFERENCE_KEY not in metadata:
        return None
    raw = bytes(metadata[REFERENCE_KEY])
    try:
        said: Any = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        try:
            said = read_as_written(raw)
        except ValueError:
            message = f"{REFERENCE} cannot be read by every reader; {TEXT_OR_WHOLE}"
            raise RequestRejected("invalid_request", message, param=REFERENCE) from None
        if isinstance(said, str):  # half a surrogate pair
            said = msgspec.json.decode(softened(raw))
    return None if said is None else _text(said, REFERENCE)


def metadata_of(raw: Raw | None) -> dict[str, Raw]:
    """Return the metadata of a body by name; nothing where it has another shape."""
    try:
        return top_level(bytes(raw)) if raw is not None and bytes(raw)[:1] == b"{" else {}
    except (msgspec.DecodeError, RecursionError, ValueError):
        return {}


def _decoded(raw: bytes, *, is_soft: bool) -> _Sent | None:
    try:
        return _HINTS.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        _require_numbers(raw)
        if is_soft and not isinstance(error, msgspec.ValidationError):
            return _HINTS.decode(softened(raw))
        raise


def _require_numbers(raw: bytes) -> None:
    """Refuse by its field what only lenient readers take for a number: NaN, `1e400`."""
    try:
        value = read_as_written(raw)
    except ValueError:
        return
    fields = value.items() if isinstance(value, dict) else [("", value)]
    for name, part in fields:
        if isinstance(part, Unreadable):
            field = f"router.{name}".rstrip(".")
            message = f"{clipped(field)} is {brief(part)}; it must be {_WANTED.get(name, 'text')}"
            raise RequestRejected("invalid_request", message, param=field) from None


def _text(said: object, field: str) -> str:
    try:
        return text_of(said)
    except NotText as error:
        raise RequestRejected("invalid_request", f"{field} {error}", param=field) from None
