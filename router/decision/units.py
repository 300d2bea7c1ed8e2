"""Units: who shares a draw.

A unit is a declared session, else the slot of a user (a day) or of an app (ten minutes), in one
task under one strategy. Its first call draws, and later ones follow.

A session is an app's, whoever its calls name as their user, and some name nobody: what one call
drew holds for all. Only a `prompt_cache_key` is a session together with a user.

Units go by keyed hashes: nothing that is kept tells who a user is, nor lets guesses be tried. That
of a user's unit begins with the user's own, so that all that is kept of one can be found.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from hashlib import blake2b

from msgspec import Struct, structs

from bandit.draws import Uniforms
from telemetry.secret import UnitSecrets, digest_with

USER_SLOT_S = 86_400
APP_SLOT_S = 600
EARLIER_MS = 25 * 3_600_000
"""No unit lasts longer: so long after units began to go by another secret, what the store holds
under their earlier keys is looked for."""
USER_BYTES = 8
USER_END_BYTES = 4
"""Of a conversation's key: with the other bytes by which it is told, as many as tell two apart."""
_PURPOSES = struct.Struct("<7Q")
_UNIT = 2.0**-64


class Unit(Struct, frozen=True):
    """Who shares a draw; `key` None is a stateless call that shares it with nobody."""

    key: bytes | None
    is_session: bool
    ends_at: float  # epoch seconds at which a slot's span ends
    is_day: bool = False  # the slot is a user's
    user: bytes = b""  # keyed hash of app and user; empty where none is named
    earlier: bytes | None = None  # the key under which it may have begun; None: by now none can
    since_ms: int = 0  # in epoch milliseconds: what began before then went by `earlier`
    former: bytes | None = None  # the key that a version of before gave it
    is_part: bool = False  # of a locked episode, in which another part may go on while it rests

    @property
    def idle_s(self) -> float:
        """For how long without a call a session's draw holds."""
        return SESSION_S if self.is_part else SESSION_IDLE_S

    @property
    def began_ms(self) -> float | None:
        """Epoch milliseconds at which a slot's span began; None of what has none."""
        span_s = USER_SLOT_S if self.is_day else APP_SLOT_S
        return (self.ends_at - span_s) * 1000 if self.ends_at else None

    def seed(self, began_ms: float | None) -> bytes | None:
        """Return what its share follows from, which does not change while it runs."""
        if self.earlier is not None and began_ms is not None and began_ms < self.since_ms:
            return self.earlier
        return self.key

    def session(self, nonce: bytes) -> bytes:
        """Return the 8 bytes by which decisions of one unit are told; of a call's own its nonce."""
        return nonce[:8] if self.key is None else self.key[-8:]

    def ttl_s(self, now: float) -> float:
        """How long a draw of this unit holds from now on."""
        return self.idle_s if self.is_session else max(self.ends_at - now, 1.0)


def unit_of(
    *,
    secrets: UnitSecrets,
    app: str,
    app_digest: int,
    user: str | None,
    session: str | None,
    stateless: bool,
    now: float,
    draw_key: str,
    is_users: bool = False,
    is_part: bool = False,
    looks_back: bool = False,
) -> Unit:
    """Return the unit of a call.

    Args:
        secrets: what keys are hashed with.
        app: its name.
        session: a declared session id, if any.
        stateless: the app says that every call stands for itself.
        now: epoch seconds.
        draw_key: task, strategy and whatever else a draw is stored under.
        is_users: the session id is one of its user's alone.
        is_part: it plays a part of a locked episode.
        looks_back: a session may have begun under a version of before.
    """
    who = b"" if user is None else user_hash(secrets.now, app, user)
    if session is not None and user is not None and not is_users:
        found = _of_all(
            secrets, app, app_digest, user, session, who, draw_key, now=now, looks_back=looks_back
        )
        return structs.replace(found, is_part=is_part)
    if session is not None:
        what, ends_at = f"s\x1f{app_digest}\x1f{user}\x1f{session}\x1f{draw_key}", 0.0
    elif stateless:
        return Unit(None, False, 0.0, user=who)
    else:
        span = APP_SLOT_S if user is None else USER_SLOT_S
        slot = int(now // span)
        what = f"u\x1f{app_digest}\x1f{user}\x1f{slot}\x1f{draw_key}"
        ends_at = (slot + 1.0) * span
    key, earlier = _key(secrets.now, who, what), None
    if now * 1000 - secrets.since_ms < EARLIER_MS:
        earlier = _earlier_key(secrets.before, app, user, what)
    is_day = session is None and user is not None
    is_declared = session is not None
    found = Unit(key, is_declared, ends_at, is_day, who, earlier, secrets.since_ms)
    return structs.replace(found, is_part=True) if is_part else found


def _of_all(
    secrets: UnitSecrets,
    app: str,
    app_digest: int,
    user: str,
    session: str,
    who: bytes,
    draw_key: str,
    *,
    now: float,
    looks_back: bool,
) -> Unit:
    """Return the unit of a session that is the app's, of a call that names a user.

    Versions of before drew for that user's calls alone, under a key with the user in it.
    """
    of_all = f"s\x1f{app_digest}\x1f{None}\x1f{session}\x1f{draw_key}"
    of_one, earlier = f"s\x1f{app_digest}\x1f{user}\x1f{session}\x1f{draw_key}", None
    if now * 1000 - secrets.since_ms < EARLIER_MS:
        what = of_one if secrets.before is None else of_all
        earlier = _earlier_key(secrets.before, app, None, what)
    key = _key(secrets.now, b"", of_all)
    former = _key(secrets.now, who, of_one) if looks_back else None
    return Unit(key, True, 0.0, False, who, earlier, secrets.since_ms, former=former)


def session_keys(secrets: UnitSecrets, app_digest: int, session: str, *, now: float) -> list[bytes]:
    """Return the key of what a session said, then the one under which it may have begun.

    Args:
        now: epoch seconds.
    """
    what = f"said\x1f{app_digest}\x1f{session}"
    out = [_key(secrets.now, b"", what)]
    if secrets.before is not None and now * 1000 - secrets.since_ms < EARLIER_MS:
        out.append(_key(secrets.before, b"", what))
    return out


def user_hash(secret: bytes, app: str, user: str) -> bytes:
    """Return the keyed hash of an app's user, as tokens carry it: 8 bytes."""
    return digest_with(secret, b"user", app, user).to_bytes(USER_BYTES, "little")


def is_of_user(key: bytes, user: bytes) -> bool:
    """Return whether a key is that of a unit, stand-in or conversation of this user.

    One key of another's in 2^32 passes for one: it is drawn for anew then.
    """
    return key.startswith(user) or key.endswith(user[:USER_END_BYTES])


def uniforms(secret: bytes, unit: bytes, draw_key: str) -> Uniforms:
    """Return one number in [0, 1) for each purpose; the same wherever it is computed.

    So two processes that race for a unit agree while their posteriors do.
    """
    digest = blake2b(unit + draw_key.encode(), key=secret, digest_size=56).digest()
    return Uniforms(*[n * _UNIT for n in _PURPOSES.unpack(digest)])


def conversation(app: int, messages: Sequence[bytes], draw_key: str, *, user: bytes = b"") -> bytes:
    """Return the key under which a conversation without a session id is known.

    Args:
        user: keyed hash of the user whose it is; of nobody's it is the app's. A user's ends with
            some of it, by which what the store holds of that user is found.
    """
    h = blake2b(f"c\x1f{app}\x1f{draw_key}".encode(), digest_size=16, key=user)
    for message in messages:
        h.update(message)
        h.update(b"\x1f")
    digest = h.digest()
    return digest[:-USER_END_BYTES] + user[:USER_END_BYTES] if user else digest


def _earlier_key(before: bytes | None, app: str, user: str | None, what: str) -> bytes:
    """Return the key that a unit had by the secret before, or in earlier versions: by none."""
    if before is None:
        return blake2b(what.encode(), digest_size=16).digest()
    return _key(before, b"" if user is None else user_hash(before, app, user), what)


def _key(secret: bytes, user: bytes, what: str) -> bytes:
    size = 16 - len(user)
    return user + blake2b(what.encode(), key=secret, digest_size=size, person=b"unit").digest()


SESSION_IDLE_S = 30 * 60.0
SESSION_S = 24 * 3600.0
