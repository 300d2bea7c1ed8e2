"""Bodies of requests: decoded, bounded, and held within one budget or passed on in pieces."""

from __future__ import annotations

import codecs
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from router.errors import RequestRejected
from router.net.codings import (
    KNOWN,
    MAX_CODINGS,
    MAX_RATIO,
    CodingDamaged,
    DecodedTooLarge,
    Decoder,
    are_known,
)
from telemetry.numbers import brief

Receive = Callable[[], Awaitable[tuple[bytes, bool]]]
"""Returns what has arrived, and whether more will; raises `ClientGone`."""

MAX_NOTE_BYTES = 4 << 20
"""Of feedback and events: a thousand of them at once, and their comments."""
SPACE = b" \t\n\r\x0b\x0c"
WIDE = b"\xff\xfe\x00"
"""What stands before the first character in the wider encodings of Unicode."""


class ClientGone(Exception):
    """The client closed the connection before its request was whole."""


class BodyBudget:
    """The bytes of bodies that are held at once, in the whole process."""

    __slots__ = ("held", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0

    def check(self, n: int) -> None:
        """See whether there is room for `n` bytes more.

        Raises:
            RequestRejected: there is no room now; later there will be.
        """
        if self.held + n > self.limit:
            raise RequestRejected(
                "overloaded",
                f"the bodies of other calls leave no room for this one now (all together "
                f"{self.limit} bytes, server.max_held_bytes)",
            )

    def take(self, n: int) -> None:
        """Hold `n` bytes more. Raises as `check` does."""
        if self.held + n > self.limit:
            self.check(n)
        self.held += n

    def give(self, n: int) -> None:
        """Let go of them."""
        self.held -= n


class RequestBody:
    """The body of one request, decoded as it arrives."""

    __slots__ = (
        "_budget",
        "_declared",
        "_decoder",
        "_limit",
        "_more",
        "_parts",
        "_receive",
        "_size",
        "n_held",
    )

    def __init__(
        self,
        receive: Receive,
        budget: BodyBudget,
        codings: Sequence[bytes] = (),
        *,
        declared: int | None,
        limit: int,
    ) -> None:
        """Begin; nothing is read.

        Args:
            codings: that it came in, in the order in which they were applied.
            declared: its size as it comes, if the client says so.
            limit: bytes that may be held, and that a coded body may decode to.

        Raises:
            RequestRejected: a coding that we do not know.
        """
        self.n_held = 0  # in the budget
        self._budget = budget
        self._receive = receive
        self._limit = limit
        self._declared = declared
        self._decoder = _decoder(codings, limit) if codings else None
        self._more = True
        self._parts: list[bytes] = []
        self._size = 0

    @property
    def length(self) -> int | None:
        """Its size, if that is known before it is whole."""
        return None if self._decoder is not None else self._declared

    @property
    def is_here(self) -> bool:
        """Whether all of it has been received."""
        return not self._more

    async def whole(self) -> bytes:
        """Return all of it; it counts as held until `release`.

        Raises:
            RequestRejected: too large, damaged, or beyond the budget.
            ClientGone: the client left.
        """
        declared = self._declared
        if declared is not None:
            if declared > self._limit:
                raise _too_large(f"has {declared} bytes", self._limit)
            self._budget.check(declared - self.n_held)
        while self._more:
            await self._hold()
        parts, self._parts = self._parts, []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def opens_object(self) -> bool:
        """Return whether its first byte, after a byte order mark and white space, is `{`.

        What was read until that is known is held. Raises as `whole` does.
        """
        head, n_seen = b"", 0
        while True:
            for part in self._parts[n_seen:]:
                head = (head + part).removeprefix(codecs.BOM_UTF8).lstrip(SPACE)
            n_seen = len(self._parts)
            if not self._more or (head and not codecs.BOM_UTF8.startswith(head)):
                return head[:1] == b"{" or head[:4].strip(WIDE)[:1] == b"{"
            await self._hold()

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield what is held, and then each piece as it arrives. Raises as `whole` does."""
        parts, self._parts = self._parts, []
        for part in parts:
            yield part
        self.release()
        while self._more:
            yield await self._next()

    def release(self) -> None:
        """Let go of the budget."""
        if self.n_held:
            self._budget.give(self.n_held)
            self.n_held = 0

    async def _hold(self) -> None:
        part = await self._next()
        self._size += len(part)
        if self._size > self._limit:
            raise _too_large(f"has {self._size} bytes or more", self._limit)
        self._budget.take(len(part))
        self.n_held += len(part)
        self._parts.append(part)

    async def _next(self) -> bytes:
        part, self._more = await self._receive()
        if self._decoder is None:
            return part
        try:
            part = self._decoder.feed(part)
            if not self._more:
                self._decoder.end()
        except DecodedTooLarge:
            what = f"is larger, once decoded, or over {MAX_RATIO} times its coded size"
            raise _too_large(what, self._limit) from None
        except CodingDamaged as error:
            message = f"the body is not what its content-encoding says: {error}"
            raise RequestRejected("invalid_request", message) from None
        return part


def _decoder(codings: Sequence[bytes], limit: int) -> Decoder:
    if not are_known(codings):
        unknown = [coding for coding in codings if coding not in KNOWN]
        shown = brief(unknown[0].decode("latin-1")) if unknown else f"over {MAX_CODINGS} in a row"
        raise RequestRejected(
            "unsupported_media_type",
            f"the coding {shown} is not read here; gzip, deflate and zstd are",
        )
    return Decoder(codings, limit=limit, max_ratio=MAX_RATIO)


def _too_large(what: str, limit: int) -> RequestRejected:
    message = f"the body {what}; {limit} is the limit (server.max_body_bytes)"
    return RequestRejected("body_too_large", message)
