"""Digests by which names are known: the same in every process and version."""

from __future__ import annotations

from hashlib import blake2b

from telemetry.names import id_in_cell


def digest8(*parts: str) -> int:
    """Return a stable 8-byte digest of names, as an unsigned integer."""
    return int.from_bytes(blake2b("\x1f".join(parts).encode(), digest_size=8).digest(), "little")


def name_digest(app: str, kind: str, said: str) -> bytes:
    """Return the digest by which an answer's id or a caller's reference is known in an app.

    `7.0` is `7`, at whichever door it comes in: some formats cannot tell them apart.
    """
    return digest16(app, kind, id_in_cell(said))


def episode_digest(app: str, said: str) -> int:
    """Return the digest by which an episode is known in an app: of its id, as `name_digest` of one.

    A declared session is an episode, so its id is a session's.
    """
    return int.from_bytes(name_digest(app, "episode", said)[:8], "little")


def episode_name(episode: int) -> bytes:
    """Return under which 16 bytes an episode's decisions are found among references."""
    return episode.to_bytes(8, "little") * 2


def spend_tag_digest(app: str, key: str, value: str) -> int:
    """Return the digest under which an app's spend is booked by a tag of a call."""
    return digest8("spend_tag", app, key, value)


def digest16(*parts: str) -> bytes:
    """Return a stable 16-byte digest of an app and an id or reference."""
    return blake2b("\x1f".join(parts).encode(), digest_size=16).digest()
