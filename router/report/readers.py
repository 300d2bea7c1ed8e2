"""Who reads: a route of the owner's that a browser may open, too.

A browser that gets a 401 with a challenge asks its user, and sends what was typed with all that it
asks of us from then on. So only what is read takes that, and whatever acts wants a key as programs
send it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from router.beliefs.beliefs import Beliefs
from router.dialects.errors import respond_error
from router.errors import STATUS, RequestRejected
from router.net.exchange import Exchange
from router.policy.callers import with_password

Handler = Callable[[Exchange, Beliefs], Awaitable[None]]
CHALLENGE = (b"www-authenticate", b'Basic realm="pointsman", charset="UTF-8"')


def for_readers(handler: Handler) -> Handler:
    """Return a handler that takes a typed key as well, and asks for one where it is missing."""

    async def read(exchange: Exchange, beliefs: Beliefs) -> None:
        exchange.headers = with_password(exchange.headers)
        try:
            await handler(exchange, beliefs)
        except RequestRejected as error:
            if STATUS[error.code] != 401:
                raise
            await respond_error(exchange, error, extra=[CHALLENGE])

    return read
