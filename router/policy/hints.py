"""What a caller says beside the request itself: in headers, or in the body object `router`."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

from msgspec import Struct

from router.dialects.request import Declared
from router.endpoints.entries import DataClass
from router.errors import RequestRejected
from telemetry.numbers import brief

Headers = Mapping[bytes, bytes]

AGENT_SESSION_HEADERS = (b"x-claude-code-session-id", b"session-id")
"""Session ids that coding agents send by themselves: Claude Code; Codex."""

MAX_HINT = 256


class Hints(Struct, frozen=True):
    """What the caller said beside the request itself; headers come before the body."""

    task: str | None
    complexity: str | None
    strategy: str | None
    user: str | None
    session: str | None
    reference: str | None
    data_class: DataClass | None
    explore: bool


def read_hints(headers: Headers, declared: Declared) -> Hints:
    """Return the hints of a call.

    Raises:
        RequestRejected: a hint that could loosen or misapply a hard constraint.
    """
    hints = declared.hints
    user = _text(headers, b"x-router-user") or hints.user or declared.user
    session = _text(headers, b"x-router-session-id") or hints.session_id
    for name in AGENT_SESSION_HEADERS:
        session = session or _text(headers, name)
    if session is None and user is not None:
        session = declared.cache_key
    reference = _text(headers, b"x-router-ref") or hints.ref
    explore = _text(headers, b"x-router-explore")
    return Hints(
        task=_text(headers, b"x-router-task") or hints.task,
        complexity=_text(headers, b"x-router-complexity") or hints.complexity,
        strategy=_text(headers, b"x-router-strategy") or hints.strategy,
        user=_short(user),
        session=_short(session),
        reference=_short(declared.reference if reference is None else reference),
        data_class=_data_class(_text(headers, b"x-router-data-class") or hints.data_class),
        explore=explore not in ("0", "false") and hints.explore is not False,
    )


def _text(headers: Headers, name: bytes) -> str | None:
    value = headers.get(name, b"").strip(b" \t")
    try:
        return value.decode() or None  # as it would stand in JSON
    except UnicodeDecodeError:
        return value.decode("latin-1")


def short_name(name: str) -> str:
    """Return a user, session id or reference as we use it: long ones go by their hash."""
    if len(name) <= MAX_HINT:
        return name
    return f"#{blake2b(name.encode(errors='surrogatepass'), digest_size=16).hexdigest()}"


def _short(value: str | None) -> str | None:
    return None if value is None else short_name(value)


def _data_class(value: str | None) -> DataClass | None:
    if value is None:
        return None
    try:
        return DataClass(value)
    except ValueError:
        known = ", ".join(DataClass)
        message = f"unknown data class {brief(value)}; known: {known}"
        raise RequestRejected("invalid_request", message, param="data_class") from None
