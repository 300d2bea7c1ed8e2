"""Keys of callers: how they are made, and how the file names them.

The file holds a key's digest, or says where the key itself is found. A plain digest is as good as
the key has bits: it is for those that are made here, which nobody can guess.
"""

from __future__ import annotations

import re
import secrets
from hashlib import sha256
from typing import Annotated

from pydantic import AfterValidator, Discriminator, Tag
from pydantic_core import PydanticCustomError

from router.config.masking import NO_CALLERS_KEY_HERE
from router.endpoints.auth import AuthEntry
from router.endpoints.entry import Entry, Name

DEFAULT_APP = "default"
"""To which calls belong that come without a key, and keys of users that name no app."""
HASHED = "sha256:"
N_BYTES = 24
MADE_HERE = re.compile(rf"pm-[0-9a-f]{{{2 * N_BYTES}}}".encode())
N_SHOWN = 12
"""Digits of a digest by which people tell keys apart."""


def make_key() -> str:
    """Return a new key, of 192 random bits."""
    return f"pm-{secrets.token_hex(N_BYTES)}"


def digest_of_secret(secret: bytes) -> bytes:
    """Return the digest by which a key is known."""
    return sha256(secret).digest()


def hashed(secret: str) -> str:
    """Return a key as the file names it."""
    return f"{HASHED}{digest_of_secret(secret.encode()).hex()}"


def short_id(digest: str) -> str:
    """Return a digest as it is shown: its beginning."""
    return digest[: len(HASHED) + N_SHOWN]


def is_hashed(text: str) -> bool:
    """Return whether a text is a digest as the file may hold one."""
    return re.fullmatch(rf"(?i:{HASHED}[0-9a-f]{{64}})", text) is not None


def _checked_digest(value: str) -> str:
    digest = value.lower()
    if not digest.startswith(HASHED):
        raise PydanticCustomError("literal_key", NO_CALLERS_KEY_HERE)
    digest = value.lower()
    if not is_hashed(digest):
        raise PydanticCustomError(
            "no_digest", "a digest is sha256: and 64 hexadecimal digits; `pointsman key` prints one"
        )
    if digest == hashed(""):
        raise PydanticCustomError(
            "no_digest", "this is the digest of nothing, and no key; `pointsman key` makes one"
        )
    return digest


def _kind_of_key(value: object) -> str:
    if isinstance(value, str):
        return "digest"
    is_held = isinstance(value, HeldKeyEntry) or (isinstance(value, dict) and "key" in value)
    return "held" if is_held else "source"


KeyDigest = Annotated[str, AfterValidator(_checked_digest)]
PlainKey = Annotated[
    Annotated[AuthEntry, Tag("source")] | Annotated[KeyDigest, Tag("digest")],
    Discriminator(_kind_of_key),
]


class HeldKeyEntry(Entry):
    """A key with what it says of the calls that come with it."""

    key: PlainKey
    """The key: `sha256:…` as `pointsman key` prints it, or where it is."""
    role: Name | None = None
    """The role of calls with this key."""
    task: Name | None = None
    """The task of calls with this key."""
    user: Name | None = None
    """The user of calls with this key."""
    data_class: Name | None = None
    """The class of calls with this key, at least."""


CallersKey = Annotated[
    Annotated[AuthEntry, Tag("source")]
    | Annotated[KeyDigest, Tag("digest")]
    | Annotated[HeldKeyEntry, Tag("held")],
    Discriminator(_kind_of_key),
]


def plain_key(key: AuthEntry | HeldKeyEntry | str) -> AuthEntry | str:
    """Return the key itself, without what it says of calls."""
    return key.key if isinstance(key, HeldKeyEntry) else key


def digest_of(key: AuthEntry | HeldKeyEntry | str) -> bytes:
    """Return the digest of a key, however the file names it.

    Raises:
        LookupError: it is not where the file says that it is; names the fix.
    """
    key = plain_key(key)
    if isinstance(key, str):
        return bytes.fromhex(key.removeprefix(HASHED))
    return digest_of_secret(key.secret().encode())
