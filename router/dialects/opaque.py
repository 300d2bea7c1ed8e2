"""Bodies that are passed on unread: only what is for us is looked for, and taken out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct, structs

from router.dialects.fields import (
    ROUTER_KEYS,
    encoded,
    require_one_router,
    strip_hints,
    top_level,
)
from router.dialects.keeping import Keeping, keeping_of, with_store_off
from router.dialects.ours import metadata_of, read_reference, read_router
from router.dialects.request import (
    NOTHING_DECLARED,
    BodyHints,
    CallRequest,
    Declared,
    Structure,
)
from router.dialects.stored import (
    StoredId,
    StoredKind,
    continued_in,
    continued_thread,
    kept_at,
    kept_thread,
    references_in,
)
from router.errors import RequestRejected
from router.net.connection import BodyInPieces
from router.net.exchange import Exchange

STATELESS = frozenset({"/v1/completions", "/v1/embeddings"})
"""Paths of generation that stores nothing."""


BATCHES = "/v1/messages/batches"
"""Where many calls of Messages come in one body."""


class _Batched(Struct):
    params: Any = None


class _Storing(Struct):
    """What of a body may leave something behind at a provider."""

    store: Any = None
    background: Any = None
    conversation: Any = None
    previous_response_id: Any = None
    thread: Any = None
    container: Any = None


class OpaqueBody(Struct, frozen=True):
    """A body on its way to a provider, and what it says to us."""

    body: bytes | BodyInPieces
    declared: Declared = NOTHING_DECLARED
    model: str = ""
    continued: StoredId | None = None  # what it goes on from that lies at a provider
    kept: StoredKind | None = None  # what its answer may be there from then on, under its id
    batched: Sequence[str] = ()  # the model of each call in a batch
    references: Sequence[StoredId] = ()  # what lies there that it holds the names of only
    keeping: Sequence[Keeping] = ()  # what it keeps there, or has passed on; its path aside
    read: Callable[..., Structure] | None = None  # its structure; None: it cannot be read

    def kept_nowhere(self) -> OpaqueBody:
        """Return it with what is kept by default alone forced off; what was asked for stays."""
        found = tuple(one for one in self.keeping if one.asked)
        if len(found) == len(self.keeping) or not isinstance(self.body, bytes):
            return self
        return structs.replace(
            self, body=with_store_off(_as_utf8(self.body)), kept=None, keeping=found
        )


def as_opaque(request: CallRequest) -> OpaqueBody:
    """Return a request that was read, and that nobody here lists the model of."""
    body = request.without_hints()
    return OpaqueBody(
        body,
        request.declared,
        request.model,
        request.continued,
        request.kept,
        references=request.references,
        keeping=request.keeping,
        read=request.structure,
    )


def take_hints(body: bytes, path: str = "") -> OpaqueBody:
    """Return a body that opens an object without what it says to us; else unchanged.

    One that is no JSON goes on as it came.

    Args:
        path: at which it came; it says which of its fields name what lies at a provider.

    Raises:
        RequestRejected: our own object in it cannot be read, or may not have been: it may hold a
            constraint.
    """
    try:
        text = _as_utf8(body)
        top = top_level(text)
        require_one_router(text)
    except RecursionError:
        raise RequestRejected("invalid_json", "the body is nested too deeply") from None
    except (msgspec.DecodeError, ValueError):
        return OpaqueBody(body, kept=kept_at(path, {}), keeping=keeping_of(path, None))
    model = _text(top.get("model")) or ""
    said = {name: _value(top.get(name)) for name in _Storing.__struct_fields__}
    continued, kept, named = continued_in(path, said), kept_at(path, said), references_in(path, top)
    batched = _batched(top.get("requests")) if path == BATCHES else ()
    keeping = keeping_of(path, top)
    router, metadata = top.get("router"), metadata_of(top.get("metadata"))
    ours = any(name.startswith(ROUTER_KEYS) for name in metadata)
    if router is None and not ours:
        return OpaqueBody(body, NOTHING_DECLARED, model, continued, kept, batched, named, keeping)
    hints = read_router(router) or BodyHints()
    reference = read_reference(metadata)
    strip_hints(top, ours=ours)
    declared = Declared(hints, reference=reference)
    return OpaqueBody(encoded(top), declared, model, continued, kept, batched, named, keeping)


async def read_opaque(exchange: Exchange, *, limit: int) -> OpaqueBody:
    """Return the body of a call that is passed on: read whole where it is to be taken as JSON.

    Raises:
        RequestRejected: as of `take_hints`, or of a body that is too large or damaged.
    """
    reading = exchange.reading(limit=limit)
    if await reading.opens_object():
        return take_hints(await reading.whole(), exchange.path)
    kept, keeping = kept_at(exchange.path, {}), keeping_of(exchange.path, None)
    if reading.is_here:
        return OpaqueBody(await reading.whole(), kept=kept, keeping=keeping)
    pieces = BodyInPieces(reading.pieces(), reading.length)
    return OpaqueBody(pieces, kept=kept, keeping=keeping)


def _batched(raw: Raw | None) -> list[str]:
    """Return which model each call of a batch names."""
    try:
        calls = msgspec.json.decode(raw, type=list[_Batched]) if raw is not None else []
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return []
    said = (call.params.get("model") if isinstance(call.params, dict) else None for call in calls)
    return [model if isinstance(model, str) else "" for model in said]


def _as_utf8(body: bytes) -> bytes:
    """Return a body in the one encoding that we read: some servers take any of Unicode's."""
    encoding = json.detect_encoding(body)
    return body if encoding.startswith("utf-8") else body.decode(encoding).encode()


def _text(raw: Raw | None) -> str | None:
    found = _value(raw)
    return found if isinstance(found, str) else None


def _value(raw: Raw | None) -> Any:
    try:
        return msgspec.json.decode(raw) if raw is not None else None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def is_repeatable(path: str, body: bytes | BodyInPieces) -> bool:
    """Return whether a POST may go out twice: it is generation that stores nothing."""
    if not isinstance(body, bytes):
        return False
    if path in STATELESS:
        return True
    try:
        said = msgspec.json.decode(body, type=_Storing)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False
    if path == "/v1/chat/completions":
        return not said.store
    if path == "/v1/messages":
        return not (kept_thread(said.thread) or continued_thread(said.thread, said.container))
    stays = said.background or said.conversation or said.previous_response_id
    return path == "/v1/responses" and said.store is False and not stays
