"""What the store is to hear of sessions soon, packed: notes, and that others are to be told."""

from __future__ import annotations

import struct

from router.decision.shared_draws import KEY_BYTES
from telemetry import session_notes
from telemetry.packed import Command
from telemetry.session_notes import BETWEEN

_HEAD = struct.Struct(f"<{KEY_BYTES}sQd?")
"""A session's key, when it began, when it ends, and whether others are to be told of it, or it is
to be noted: then a task and a class follow, and a task that is taken back."""


def note(
    key: bytes,
    began_ms: int,
    until: float,
    *,
    task: str = "",
    data_class: str = "",
    taken_back: str = "",
) -> bytes:
    """Return a note of what a session said.

    Args:
        until: epoch seconds at which it ends unless a call comes before.
        taken_back: a task that it has only by who opened it with that at `began_ms`.
    """
    said = (task, data_class, taken_back) if taken_back else (task, data_class)
    return _HEAD.pack(key, began_ms, until, False) + BETWEEN.join(said).encode()


def telling(key: bytes, began_ms: int, until: float) -> bytes:
    """Return that others are to ask again what a session said."""
    return _HEAD.pack(key, began_ms, until, True)


def noted_of(packed: bytes) -> bytes | None:
    """Return the key of the session that a note is of; None where others are to be told."""
    key, _, _, is_told = _HEAD.unpack_from(packed)
    return None if is_told else bytes(key)


def command_of(packed: bytes, now: float) -> Command | None:
    """Return what notes something late, or tells others; None where the session has ended."""
    key, began_ms, until, is_told = _HEAD.unpack_from(packed)
    ttl_ms = int((until - now) * 1000)
    if ttl_ms <= 0:
        return None
    if is_told:
        return session_notes.tell(key)
    task, data_class, *taken_back = packed[_HEAD.size :].decode().split(BETWEEN)
    return session_notes.note(
        key,
        began_ms=began_ms,
        task=task,
        data_class=data_class,
        ttl_ms=ttl_ms,
        instead_of="".join(taken_back),
    )
