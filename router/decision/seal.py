"""The decision id: a sealed token that carries the decision itself.

The client keeps it and sends it back with feedback; nobody has to look anything up, and nobody
can make one up. Whoever knows the key opens it: every router of a store.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode
from binascii import Error as Base64Error
from binascii import b2a_base64
from collections.abc import Callable
from hashlib import blake2b

from router.errors import RequestRejected
from telemetry import narrow
from telemetry.errors import MalformedEvent
from telemetry.tokens import TOKEN_SIZE, Token, under_key

PREFIX = "d-"
SEAL_BYTES = 16
KEY_ID = slice(4, 8)
_TO_URL = bytes.maketrans(b"+/", b"-_")
KEY_ID_PLACES = {TOKEN_SIZE: KEY_ID, narrow.TOKEN_SIZE: slice(1, 2)}
"""Where a token says which key sealed it, by its length: of today's, and of earlier ones."""


class Seal:
    """Seals and opens decision ids. Keys come and go: a token is sealed by the key that it names.

    Two keys may have one id: then each is tried.
    """

    def __init__(self, keys: Callable[[], tuple[bytes, ...]]) -> None:
        """Seal by keys that are asked for at each use.

        Args:
            keys: all that open, first the one that seals; another tuple where they changed.
        """
        self._keys = keys
        self._known: tuple[bytes, ...] = ()
        self._by_id: dict[bytes, list[bytes]] = {}
        self._key_id = 0
        self._sealing_id, self._sealing = b"", blake2b()  # of the key that seals

    @property
    def key_id(self) -> int:
        """Which key seals."""
        self._follow()
        return self._key_id

    def close(self, body: bytes) -> str:
        """Return the decision id of a packed token; of a key that has gone, under today's."""
        self._follow()
        if body[KEY_ID] == self._sealing_id:  # nearly always
            state = self._sealing.copy()
        else:
            if not self._named(body):
                body = under_key(body, self._key_id)
            state = _keyed(self._named(body)[0])
        state.update(body)
        return (
            PREFIX
            + b2a_base64(body + state.digest(), newline=False).translate(_TO_URL, b"=").decode()
        )

    def open(self, decision_id: str) -> tuple[Token, bytes]:
        """Return the token in a decision id, and its packed body; both in today's layout.

        Raises:
            RequestRejected: none of our keys sealed it.
        """
        raw = _raw(decision_id) or b""
        body, seal = raw[:-SEAL_BYTES], raw[-SEAL_BYTES:]
        keys = self._named(body)
        if not any([hmac.compare_digest(seal, _seal(body, key)) for key in keys]):
            raise _not_ours(decision_id)
        if narrow.is_token(body):
            body = narrow.widened_token(body)
        try:
            return Token.unpack(body), body
        except MalformedEvent:
            raise _not_ours(decision_id) from None

    def is_of_unknown_key(self, decision_id: str) -> bool:
        """Return whether an id has the shape of one, and names a key that is not among ours."""
        body = (_raw(decision_id) or b"")[:-SEAL_BYTES]
        return len(body) in KEY_ID_PLACES and not self._named(body)

    def _named(self, body: bytes) -> list[bytes]:
        """Return the keys that a token may have been sealed by, the one that seals now first."""
        self._follow()
        place = KEY_ID_PLACES.get(len(body))
        return self._by_id.get(body[place], []) if place else []

    def _follow(self) -> None:
        known = self._keys()
        if known is self._known:
            return
        by_id: dict[bytes, list[bytes]] = {}
        for key in dict.fromkeys(known):
            for n_bytes in (4, 1):  # today's tokens, and those of earlier versions
                by_id.setdefault(_id_of(key, n_bytes), []).append(key)
        self._by_id, self._known = by_id, known
        self._sealing_id, self._sealing = _id_of(known[0], 4), _keyed(known[0])
        self._key_id = int.from_bytes(self._sealing_id, "little")


def unsealed(decision_id: str) -> Token:
    """Return the token in a decision id at its word, whoever sealed it.

    Raises:
        RequestRejected: it has not the shape of a decision id.
    """
    body = (_raw(decision_id) or b"")[:-SEAL_BYTES]
    try:
        return Token.unpack(narrow.widened_token(body) if narrow.is_token(body) else body)
    except MalformedEvent:
        raise _not_ours(decision_id) from None


def _raw(decision_id: str) -> bytes | None:
    """Return the bytes of a decision id; None where it is none."""
    if not decision_id.startswith(PREFIX) or "=" in decision_id:
        return None
    text = decision_id[len(PREFIX) :]
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (Base64Error, ValueError):
        return None


def _seal(body: bytes, key: bytes) -> bytes:
    state = _keyed(key)
    state.update(body)
    return state.digest()


def _keyed(key: bytes) -> blake2b:
    return blake2b(key=key, digest_size=SEAL_BYTES)


def _id_of(key: bytes, n_bytes: int) -> bytes:
    return blake2b(key, digest_size=n_bytes, person=b"key id").digest()


def _not_ours(decision_id: str) -> RequestRejected:
    return RequestRejected(
        "bad_decision_id",
        f"{decision_id[:24]!r} is no decision id of this sidecar; "
        "send back x-router-decision-id unchanged, or use response_id",
        param="decision_id",
    )
