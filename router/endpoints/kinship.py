"""Whose thoughts an endpoint can go on from: those that it can check, and read."""

from __future__ import annotations

import httpx

from router.endpoints.catalog import Endpoint
from router.endpoints.entries import Dialect


def made_alike(endpoint: Endpoint, maker: Endpoint, dialect: Dialect) -> bool:
    """Return whether an endpoint thinks as another one does: one model, at one place.

    With which settings it is called is all the same.
    """
    if maker.digest == endpoint.digest:
        return True
    if not _both_speak(endpoint, maker, dialect):
        return False
    same_model = maker.upstream_model == endpoint.upstream_model
    return same_model and _place(maker, dialect) == _place(endpoint, dialect)


def can_check(endpoint: Endpoint, maker: Endpoint, dialect: Dialect) -> bool:
    """Return whether an endpoint takes what another one thought, in this dialect.

    A signature of Messages holds for its model wherever that is served: by its maker, and by the
    clouds that host it. What is encrypted only its own place can read.
    """
    if dialect is Dialect.MESSAGES and maker.model == endpoint.model:
        return _both_speak(endpoint, maker, dialect)
    return made_alike(endpoint, maker, dialect)


def _both_speak(endpoint: Endpoint, maker: Endpoint, dialect: Dialect) -> bool:
    return dialect in maker.dialects and dialect in endpoint.dialects


def _place(endpoint: Endpoint, dialect: Dialect) -> tuple[httpx.URL, tuple[bytes, bytes] | None]:
    return endpoint.targets[dialect].url, endpoint.auth_header
