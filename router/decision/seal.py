"""The decision id: a sealed token that carries the decision itself.

The client keeps it and sends it back with feedback; nobody has to look anything up, and nobody
can make one up. The key lies in the state directory, readable by its owner only.
"""

from __future__ import annotations

import hmac
import os
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from hashlib import blake2b
from pathlib import Path

from router.errors import RequestRejected
from telemetry import narrow
from telemetry.errors import MalformedEvent
from telemetry.tokens import TOKEN_SIZE, Token

PREFIX = "d-"
SEAL_BYTES = 16
KEY_BYTES = 32
KEY_FILE = "token.key"
OLD_KEY_FILE = "token.key.old"
KEY_ID_PLACES = {TOKEN_SIZE: slice(4, 8), narrow.TOKEN_SIZE: slice(1, 2)}
"""Where a token says which key sealed it, by its length: of today's, and of earlier ones."""


class Seal:
    """Seals and opens decision ids; accepts a second, older key while keys are rotated."""

    def __init__(self, key: bytes, old_key: bytes | None = None) -> None:
        self._key = key
        self.key_id = int.from_bytes(_key_id(key, 4), "little")
        self._keys: dict[bytes, bytes] = {}
        for known in (key, old_key):
            if known:
                self._keys.setdefault(_key_id(known, 4), known)
                self._keys.setdefault(_key_id(known, 1), known)  # of tokens of earlier versions

    @classmethod
    def load(cls, state_dir: Path) -> Seal:
        """Return the seal of a state directory; its key is made on first use."""
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        path, old = state_dir / KEY_FILE, state_dir / OLD_KEY_FILE
        if not path.exists():
            # Written aside and linked: of two processes that start at once one wins, whole.
            fresh = state_dir / f".{KEY_FILE}.{secrets.token_hex(4)}"
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            os.write(descriptor, secrets.token_bytes(KEY_BYTES))
            os.close(descriptor)
            try:
                os.link(fresh, path)
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        return cls(path.read_bytes(), old.read_bytes() if old.exists() else None)

    def secret(self, purpose: bytes) -> bytes:
        """Return a key derived for another purpose; the sealing key itself serves one only."""
        return blake2b(purpose, key=self._key, digest_size=32).digest()

    def close(self, body: bytes) -> str:
        """Return the decision id of a packed token."""
        seal = blake2b(body, key=self._key, digest_size=SEAL_BYTES).digest()
        return PREFIX + urlsafe_b64encode(body + seal).rstrip(b"=").decode()

    def open(self, decision_id: str) -> tuple[Token, bytes]:
        """Return the token in a decision id, and its packed body; both in today's layout.

        Raises:
            RequestRejected: this sidecar did not make it.
        """
        wrong = RequestRejected(
            "bad_decision_id",
            f"{decision_id[:24]!r} is no decision id of this sidecar; "
            "send back x-router-decision-id unchanged, or use response_id",
            param="decision_id",
        )
        if not decision_id.startswith(PREFIX) or "=" in decision_id:
            raise wrong
        try:
            text = decision_id[len(PREFIX) :]
            raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except (Base64Error, ValueError):
            raise wrong from None
        body, seal = raw[:-SEAL_BYTES], raw[-SEAL_BYTES:]
        place = KEY_ID_PLACES.get(len(body))
        key = self._keys.get(body[place]) if place else None
        if key is None:
            raise wrong
        expected = blake2b(body, key=key, digest_size=SEAL_BYTES).digest()
        if not hmac.compare_digest(seal, expected):
            raise wrong
        if narrow.is_token(body):
            body = narrow.widened_token(body)
        try:
            return Token.unpack(body), body
        except MalformedEvent:
            raise wrong from None


def _key_id(key: bytes, n_bytes: int) -> bytes:
    return blake2b(key, digest_size=n_bytes, person=b"key id").digest()
