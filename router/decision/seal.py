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
from telemetry.errors import MalformedEvent
from telemetry.events import TOKEN_STRUCT, Token

PREFIX = "d-"
SEAL_BYTES = 16
KEY_BYTES = 32
KEY_FILE = "token.key"
OLD_KEY_FILE = "token.key.old"
_LENGTH = TOKEN_STRUCT.size + SEAL_BYTES


class Seal:
    """Seals and opens decision ids; accepts a second, older key while keys are rotated."""

    def __init__(self, key: bytes, old_key: bytes | None = None) -> None:
        self._key = key
        self.key_id = _key_id(key)
        self._keys = {self.key_id: key}
        if old_key:
            self._keys.setdefault(_key_id(old_key), old_key)

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
        """Return the token in a decision id, and its packed body.

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
        body, seal = raw[: TOKEN_STRUCT.size], raw[TOKEN_STRUCT.size :]
        key = self._keys.get(body[1]) if len(raw) == _LENGTH else None
        if key is None:
            raise wrong
        expected = blake2b(body, key=key, digest_size=SEAL_BYTES).digest()
        if not hmac.compare_digest(seal, expected):
            raise wrong
        try:
            return Token.unpack(body), body
        except MalformedEvent:
            raise wrong from None


def _key_id(key: bytes) -> int:
    return blake2b(key, digest_size=1, person=b"key id").digest()[0]
