"""The three forms of a request of CloudEvents: one, a batch, or one with its attributes in headers.

Headers are read in one way only: of two that differ none is passed over, and no two texts become
one by their encoding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import msgspec

from router.errors import RequestRejected
from telemetry import ingest
from telemetry.numbers import brief, clipped

ONE = b"application/cloudevents+json"
BATCH = b"application/cloudevents-batch+json"
ATTRIBUTE = b"ce-"


def once_each(headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return headers by name.

    Raises:
        RequestRejected: one that is part of an event is there twice, and not the same.
    """
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if found.setdefault(name, value) != value and name.startswith((b"content-type", ATTRIBUTE)):
            shown = clipped(name.decode("latin-1"))
            message = f"header {shown} is there twice, and not the same; drop one"
            raise RequestRejected("bad_event", message, param=shown)
    return found


def split(body: bytes, headers: Mapping[bytes, bytes]) -> Sequence[bytes]:
    """Return the events of a request as JSON objects, whichever of three forms it has.

    Raises:
        RequestRejected: no form of a CloudEvent, no JSON, or too many events.
    """
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind == BATCH:
        try:
            found = msgspec.json.decode(body, type=list[msgspec.Raw])
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise RequestRejected("invalid_json", f"the body is no JSON array: {error}") from None
        if not 1 <= len(found) <= ingest.MAX_EVENTS:
            wanted = f"send 1 to {ingest.MAX_EVENTS} events a batch"
            raise RequestRejected("bad_event", f"this batch has {len(found)} events; {wanted}")
        return [bytes(raw) for raw in found]
    if kind == ONE:
        return [body]
    if ATTRIBUTE + b"specversion" in headers:
        return [_from_headers(body, headers)]
    raise RequestRejected(
        "unsupported_media_type",
        f"content-type is {brief(kind.decode('latin-1'))}; it must be {ONE.decode()}, "
        f"{BATCH.decode()}, or application/json with ce- headers",
        param="content-type",
    )


def _from_headers(body: bytes, headers: Mapping[bytes, bytes]) -> bytes:
    """Return an event in binary mode, attributes in headers and data as body, as one object."""
    event: dict[str, Any] = {
        name.removeprefix(ATTRIBUTE).decode("latin-1"): _attribute(name, value)
        for name, value in headers.items()
        if name.startswith(ATTRIBUTE)
    }
    if "data" in event:
        message = "header ce-data: the body is the event's data; drop it"
        raise RequestRejected("bad_event", message, param="ce-data")
    if b"content-type" in headers:
        kind = headers[b"content-type"].decode("latin-1")
        if event.setdefault("datacontenttype", kind) != kind:
            message = "header ce-datacontenttype says otherwise than content-type; drop it"
            raise RequestRejected("bad_event", message, param="ce-datacontenttype")
    try:
        event["data"] = msgspec.json.decode(body, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RequestRejected("invalid_json", f"the body is not JSON: {error}") from None
    return msgspec.json.encode(event)


def _attribute(name: bytes, value: bytes) -> str:
    """Return an attribute that came in a header.

    Raises:
        RequestRejected: it cannot be read in one way only, so that two ids might become one.
    """
    try:
        return unquote(value.decode("ascii"), errors="strict")
    except UnicodeDecodeError:
        shown = clipped(name.decode("latin-1"))
        wrong = f"header {shown} is {brief(value.decode('latin-1'))}"
        message = f"{wrong}; percent-encode the UTF-8 of what is not ASCII"
        raise RequestRejected("bad_event", message, param=shown) from None
