"""Which headers travel: a client's to the provider, a provider's to the client."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Protocol

from router.endpoints.entries import Dialect
from router.net.exchange import Header
from router.policy.callers import Caller

HOP = frozenset(
    b"host connection content-length transfer-encoding keep-alive te trailer upgrade expect "
    b"proxy-authorization proxy-connection proxy-authenticate http2-settings accept-encoding "
    b"content-encoding".split()
)
"""Of this hop, or written anew for the next one: they travel nowhere."""
CREDENTIALS = frozenset(b"authorization x-api-key api-key x-goog-api-key".split())
"""Where a caller's key may be; which of them goes on is the caller's credential."""
STAYS = HOP | CREDENTIALS
KEYS_IN_QUERIES = frozenset(b"key api_key api-key access_token token".split())
TRAVEL = frozenset(
    b"accept accept-language content-type user-agent idempotency-key anthropic-version "
    b"anthropic-beta openai-beta traceparent tracestate x-request-id x-client-request-id "
    b"http-referer x-title".split()
)
"""What goes to a provider that is called under our key: whatever else a client sends may be a
secret of another provider's. `forward_headers` adds to it."""
TRAVEL_PREFIXES = (b"x-stainless-",)
OF_A_DIALECT = (b"anthropic-", b"openai-", b"x-stainless-")
"""What says something to providers of one dialect only."""
BEARER = b"Bearer "
ANTHROPIC_VERSION = b"2023-06-01"
"""The only one that there is; a call without it is refused."""
OURS = b"x-router-"
RATE_HEADERS = (b"x-ratelimit-", b"anthropic-ratelimit-")
"""Passed back only to a caller who named the model: of an unnamed one they say nothing."""
OF_THE_SITE = frozenset(
    b"content-length alt-svc strict-transport-security set-cookie via vary cf-ray".split()
)
"""What a provider's site says of itself to browsers and caches; the length is written anew."""
OF_BROWSERS = b"access-control-"
REQUEST_IDS = frozenset((b"x-request-id", b"request-id"))
"""Where OpenAI's and Anthropic's clients look for the id of a request: ours, so that the
provider's goes back under another name."""
_NAMES_OF_IDS = sorted(REQUEST_IDS, reverse=True)
UPSTREAM_REQUEST_ID = b"x-router-upstream-request-id"
MAX_KINDS = 128
"""Kinds of clients by the names of their headers, whose way on is remembered."""
NOTHING_NAMED = frozenset[bytes]()
HOP_BY_HOP = frozenset(
    b"connection keep-alive transfer-encoding te trailer upgrade proxy-authenticate set-cookie "
    b"server date".split()
)


IDENTITY: Header = (b"accept-encoding", b"identity")
_NAME = itemgetter(0)


class Destination(Protocol):
    """Where a request goes: an endpoint, or the provider that takes what is not listed."""

    @property
    def auth_header(self) -> Header | None:
        """The key that it is called with, if that is ours."""

    @property
    def client_auth(self) -> bool:
        """Whether it takes the caller's own key."""

    @property
    def forwarded(self) -> frozenset[bytes]:
        """Names of headers that it gets beside the usual ones."""


def forward_headers(
    headers: Sequence[Header],
    caller: Caller,
    to: Destination,
    *,
    key_headers: frozenset[bytes],
) -> list[Header]:
    """Return the headers that go to a provider.

    Under our key those that are known to hold no secret; under the caller's own, everything but
    what is of this hop or for us. Repeated headers stay repeated. One that `Connection` names is
    for this hop only.

    Args:
        key_headers: names that carry a provider's key: whoever sends one means another provider.
    """
    names = tuple(map(_NAME, headers))
    hop = named_by_connection(headers) if b"connection" in names else NOTHING_NAMED
    travelling = _travelling(names, hop, key_headers, to.forwarded, to.client_auth)
    out, key = [*travelling(headers), IDENTITY], to.auth_header
    if key is not None:
        out.append(key)
    elif to.client_auth:
        out += caller.credentials
    return out


@lru_cache(MAX_KINDS)
def _travelling(
    names: tuple[bytes, ...],
    hop: frozenset[bytes],
    key_headers: frozenset[bytes],
    forwarded: frozenset[bytes],
    client_auth: bool,
) -> Callable[[Sequence[Header]], tuple[Header, ...]]:
    """Return what takes those that go to a provider: by names alone, of which few differ."""
    places = [
        place
        for place, name in enumerate(names)
        if name not in STAYS
        and name not in key_headers
        and name not in hop
        and not name.startswith(OURS)
        and (client_auth or name in TRAVEL or name in forwarded or name.startswith(TRAVEL_PREFIXES))
    ]
    if len(places) > 1:
        return itemgetter(*places)  # of one it would return that, not a row
    return _alone_at(places[0]) if places else lambda _: ()


def _alone_at(place: int) -> Callable[[Sequence[Header]], tuple[Header, ...]]:
    return lambda headers: (headers[place],)


def headers_in(dialect: Dialect, headers: Sequence[Header], to: Destination) -> list[Header]:
    """Return what of the headers to a provider means something in another dialect as well.

    The caller's own key stays one, in the header where the dialect has it.
    """
    out = []
    for name, value in headers:
        if name.startswith(OF_A_DIALECT):
            continue
        if to.client_auth and dialect is Dialect.MESSAGES and value.startswith(BEARER):
            name, value = b"x-api-key", value.removeprefix(BEARER)
        elif to.client_auth and dialect is not Dialect.MESSAGES and name == b"x-api-key":
            name, value = b"authorization", BEARER + value
        out.append((name, value))
    if dialect is Dialect.MESSAGES:
        out.append((b"anthropic-version", ANTHROPIC_VERSION))
    return out


def request_ids(value: bytes) -> list[Header]:
    """Return an id of ours under each name that clients look for."""
    return [(name, value) for name in _NAMES_OF_IDS]


def forward_query(query: bytes, to: Destination) -> bytes:
    """Return what of a client's query goes to a provider: without keys, unless they are its."""
    if not query or to.client_auth:
        return query
    parts = query.split(b"&")
    return b"&".join(p for p in parts if p.partition(b"=")[0].lower() not in KEYS_IN_QUERIES)


def returned_headers(headers: Sequence[Header], *, named: bool) -> list[Header]:
    """Return what of a provider's headers a client is to see of a decided call.

    Args:
        named: the caller named the model, so that limits of that provider say something.
    """
    names = tuple(map(_NAME, headers))
    if b"connection" in names and (hop := named_by_connection(headers)):
        headers = [header for header in headers if header[0] not in hop]
        names = tuple(map(_NAME, headers))
    return [(name, headers[place][1]) for place, name in _returned(names, named)]


@lru_cache(maxsize=4096)
def _returned(names: tuple[bytes, ...], named: bool) -> tuple[tuple[int, bytes], ...]:
    """Return which headers of an answer go back, by their places, and under which names.

    Of ids of requests the first.
    """
    out, told = [], False
    for place, name in enumerate(names):
        if name in HOP_BY_HOP or name in OF_THE_SITE:
            continue
        if name.startswith((OURS, OF_BROWSERS)) or (not named and name.startswith(RATE_HEADERS)):
            continue
        if name in REQUEST_IDS:
            if told:
                continue
            name, told = UPSTREAM_REQUEST_ID, True
        out.append((place, name))
    return tuple(out)


def named_by_connection(headers: Sequence[Header]) -> frozenset[bytes]:
    """Return the names that `Connection` lists: they are for this hop only."""
    named = [value for name, value in headers if name == b"connection"]
    if not named:
        return frozenset()
    return frozenset(part.strip().lower() for value in named for part in value.split(b","))
