"""One notice, signed and sent.

The signature is over time and body, so that a receiver can tell who sent it and that it is fresh:
`HMAC-SHA256(secret, timestamp + "." + body)`, in hexadecimal form. Redirects are not followed and
proxies of the environment not used: nobody but the receiver gets to see it.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from enum import StrEnum

import httpx
import msgspec

from router.config.notices import Receiver
from router.notices.notice import Notice
from telemetry import __version__

TIMEOUT_S = 5.0
"""For the whole of it, however slowly the receiver answers."""
AGAIN = frozenset({408, 425, 429})
"""Statuses below 500 that say: later."""
SIGNATURE, TIMESTAMP, NOTICE_ID = (
    "x-pointsman-signature",
    "x-pointsman-timestamp",
    "x-pointsman-notice",
)


class Delivery(StrEnum):
    """What became of a notice."""

    TAKEN = "taken"
    LATER = "later"  # it is worth another try
    REFUSED = "refused"  # it is not


def signature(secret: bytes, timestamp: int, body: bytes) -> str:
    """Return what a notice is signed with."""
    digest = hmac.new(secret, b"%d.%b" % (timestamp, body), hashlib.sha256).hexdigest()
    return f"v1={digest}"


def signed_headers(receiver: Receiver, notice: Notice, body: bytes, at_s: float) -> dict[str, str]:
    """Return the headers of a notice that is sent now, in epoch seconds."""
    return {
        "content-type": "application/json",
        "user-agent": f"pointsman/{__version__}",
        NOTICE_ID: notice.id,
        TIMESTAMP: str(int(at_s)),
        SIGNATURE: signature(receiver.secret, int(at_s), body),
    }


def send(receiver: Receiver, notice: Notice, *, at_s: float) -> tuple[Delivery, str]:
    """Send a notice once; return what became of it, and why in a word that names no address.

    Args:
        at_s: epoch seconds, by a clock that the receiver's agrees with.
    """
    body = msgspec.json.encode(notice)
    headers = signed_headers(receiver, notice, body, at_s)
    try:
        status = asyncio.run(_post(receiver.url, body, headers))
    except TimeoutError:
        return Delivery.LATER, "no answer in time"
    except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
        return Delivery.LATER, type(error).__name__
    if 200 <= status < 300:
        return Delivery.TAKEN, str(status)
    is_worth_it = status >= 500 or status in AGAIN
    return Delivery.LATER if is_worth_it else Delivery.REFUSED, f"status {status}"


async def _post(url: str, body: bytes, headers: dict[str, str]) -> int:
    """Return the status; the answer's body is not read."""
    async with asyncio.timeout(TIMEOUT_S):
        async with (
            httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False) as client,
            client.stream("POST", url, content=body, headers=headers) as answer,
        ):
            return answer.status_code
