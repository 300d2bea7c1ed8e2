"""A request sent on where its server says, within the host or to its TLS, as SDKs do."""

from __future__ import annotations

from router.net.answer import Header
from router.net.pool import Target, Upstream, UpstreamResponse

MAX_REDIRECTS = 3
REDIRECTS = (307, 308)
"""Those that keep method and body."""


async def followed(
    upstream: Upstream,
    response: UpstreamResponse,
    target: Target,
    headers: list[Header],
    body: bytes,
    *,
    repeatable: bool,
    most: int = MAX_REDIRECTS,
) -> UpstreamResponse:
    """Return the head of an answer, of whoever answered in the end.

    Args:
        response: of the first that was asked, at `target`; the rest is what it was asked.
        repeatable: it may go out twice, where a kept connection was lost.
        most: so many redirects are followed.
    """
    for _ in range(most):
        if response.status not in REDIRECTS:
            break
        elsewhere = target.redirected(header_of(response, b"location"))
        if elsewhere is None:
            break
        await response.aclose()
        target = elsewhere
        response = await upstream.send("POST", target, headers, body, repeatable=repeatable)
    return response


def header_of(response: UpstreamResponse, name: bytes) -> bytes:
    """Return a header of an answer; nothing where it is not there."""
    return next((value for key, value in response.headers if key == name), b"")
