"""Which headers travel: a client's to the provider, a provider's to the client."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from router.net.asgi import Header
from router.policy.callers import Caller

NOT_FORWARDED = frozenset(
    b"host connection content-length transfer-encoding keep-alive te trailer upgrade expect "
    b"proxy-authorization proxy-connection authorization x-api-key api-key cookie origin referer "
    b"x-goog-api-key accept-encoding content-encoding x-forwarded-for x-forwarded-host "
    b"x-forwarded-proto forwarded via x-real-ip".split()
)
OURS = b"x-router-"
PASSED_BACK = frozenset(
    b"content-type content-encoding retry-after retry-after-ms openai-processing-ms".split()
)
RATE_HEADERS = (b"x-ratelimit-", b"anthropic-ratelimit-")
"""Passed back only to a caller who named the model: of an unnamed one they say nothing."""
HOP_BY_HOP = frozenset(
    b"connection keep-alive transfer-encoding te trailer upgrade proxy-authenticate set-cookie "
    b"server date".split()
)


class Destination(Protocol):
    """Where a request goes: an endpoint, or the provider that takes what is not listed."""

    @property
    def auth_header(self) -> Header | None:
        """The key that it is called with, if that is ours."""

    @property
    def client_auth(self) -> bool:
        """Whether it takes the caller's own key."""


def forward_headers(
    headers: Sequence[Header],
    caller: Caller,
    to: Destination,
    *,
    key_headers: frozenset[bytes],
) -> list[Header]:
    """Return the headers that go to a provider: the client's own, less what is ours or a hop's.

    Repeated headers stay repeated. One that `Connection` names is for this hop only.

    Args:
        key_headers: names that carry a provider's key: whoever sends one means another provider.
    """
    hop = named_by_connection(headers)
    out = [
        (name, value)
        for name, value in headers
        if name not in NOT_FORWARDED
        and name not in key_headers
        and name not in hop
        and not name.startswith(OURS)
    ]
    out.append((b"accept-encoding", b"identity"))
    if to.auth_header is not None:
        out.append(to.auth_header)
    elif to.client_auth and caller.credential is not None:
        out.append(caller.credential)
    return out


def returned_headers(headers: Iterable[Header], *, named: bool) -> list[Header]:
    """Return what of a provider's headers a client is to see of a decided call.

    Args:
        named: the caller named the model, so that limits of that provider say something.
    """
    out = []
    for name, value in headers:
        lower = name.lower()
        if lower in PASSED_BACK or (named and lower.startswith(RATE_HEADERS)):
            out.append((lower, value))
        elif lower == b"x-request-id":
            out.append((b"x-router-upstream-request-id", value))
    return out


def named_by_connection(headers: Sequence[Header]) -> frozenset[bytes]:
    """Return the names that `Connection` lists: they are for this hop only."""
    named = [value for name, value in headers if name == b"connection"]
    if not named:
        return frozenset()
    return frozenset(part.strip().lower() for value in named for part in value.split(b","))
