"""Units: who shares a draw.

A unit is a declared session, else the slot of a user (a day) or of an app (ten minutes), in one
task under one strategy. Its first call draws, and later ones follow.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from hashlib import blake2b

from msgspec import Struct

from bandit.draws import Uniforms

USER_SLOT_S = 86_400
APP_SLOT_S = 600
_PURPOSES = struct.Struct("<7Q")


class Unit(Struct, frozen=True):
    """Who shares a draw; `key` None is a stateless call that shares it with nobody."""

    key: bytes | None
    is_session: bool
    ends_at: float  # epoch seconds at which a slot's span ends
    is_day: bool = False  # the slot is a user's

    @property
    def began_ms(self) -> float | None:
        """Epoch milliseconds at which a slot's span began; None of what has none."""
        span_s = USER_SLOT_S if self.is_day else APP_SLOT_S
        return (self.ends_at - span_s) * 1000 if self.ends_at else None

    def ttl_s(self, now: float) -> float:
        """How long a draw of this unit holds from now on."""
        return SESSION_IDLE_S if self.is_session else max(self.ends_at - now, 1.0)


def unit_of(
    *, app: int, user: str | None, session: str | None, stateless: bool, now: float, draw_key: str
) -> Unit:
    """Return the unit of a call.

    Args:
        app: digest of the app.
        session: a declared session id, if any.
        stateless: the app says that every call stands for itself.
        now: epoch seconds.
        draw_key: task, strategy and whatever else a draw is stored under.
    """
    if session is not None:
        return Unit(_hash(f"s\x1f{app}\x1f{user}\x1f{session}\x1f{draw_key}"), True, 0.0)
    if stateless:
        return Unit(None, False, 0.0)
    span = APP_SLOT_S if user is None else USER_SLOT_S
    slot = int(now // span)
    key = _hash(f"u\x1f{app}\x1f{user}\x1f{slot}\x1f{draw_key}")
    return Unit(key, False, (slot + 1.0) * span, is_day=user is not None)


def uniforms(secret: bytes, unit: bytes, draw_key: str) -> Uniforms:
    """Return one number in [0, 1) for each purpose; the same wherever it is computed.

    So two processes that race for a unit agree while their posteriors do.
    """
    digest = blake2b(unit + draw_key.encode(), key=secret, digest_size=56).digest()
    return Uniforms(*(n / 2**64 for n in _PURPOSES.unpack(digest)))


def conversation(app: int, messages: Sequence[bytes], draw_key: str) -> bytes:
    """Return the key under which a conversation without a session id is known."""
    h = blake2b(f"c\x1f{app}\x1f{draw_key}".encode(), digest_size=16)
    for message in messages:
        h.update(message)
        h.update(b"\x1f")
    return h.digest()


def _hash(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=16).digest()


SESSION_IDLE_S = 30 * 60.0
SESSION_S = 24 * 3600.0
