"""Content codings undone piece by piece, within bounds: gzip, deflate and zstd.

What comes out is all that anybody reads and sends on, so it goes without its content-encoding. A
body that is not exactly what its codings say is damaged: it is never guessed at.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Protocol

import httpx

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from router.net.answer import Header
from router.net.pool import UpstreamResponse

MAX_RATIO = 100
"""Prose, code and even logs shrink less than this; a bomb shrinks a thousand times and more."""
FREE_BYTES = 8 << 20
"""Up to here a ratio says nothing: short texts that repeat themselves shrink like bombs."""
MAX_ANSWER_BYTES = 64 << 20
MAX_CODINGS = 4
"""Nobody codes a body twice; each more is work for us that a short header asks for."""
MAX_MEMBERS = 4096
"""A coded body may be several in a row. Tools that make many make one each 64 KiB."""
WINDOW_LOG = 23
"""zstd's window as a power of two: 8 MiB, all that this content coding may ask for (RFC 9659)."""
ALIASES = {b"x-gzip": b"gzip"}


class CodingDamaged(ValueError):
    """A body is not what its codings say."""


class DecodedTooLarge(ValueError):
    """A body has, or would have, more bytes than it may."""


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _gzip(data: bytes) -> _Decompressor:
    return zlib.decompressobj(16 + zlib.MAX_WBITS)


def _deflate(data: bytes) -> _Decompressor:
    """Both that go by the name: with zlib's header, as the standard says, and without one."""
    has_header = data[0] & 15 == 8 and (data[0] << 8 | data[1]) % 31 == 0
    return zlib.decompressobj(zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)


def _zstd(data: bytes) -> _Decompressor:
    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: WINDOW_LOG}
    return zstd.ZstdDecompressor(options=options)


_BEGIN: dict[bytes, Callable[[bytes], _Decompressor]] = {
    b"gzip": _gzip,
    b"deflate": _deflate,
    b"zstd": _zstd,
}
KNOWN = frozenset(_BEGIN)


def codings_of(headers: Iterable[Header], *, of: bytes = b"content-encoding") -> list[bytes]:
    """Return the codings of a body in the order in which they were applied.

    Args:
        headers: names in lower case.
        of: the header that lists them.
    """
    listed = [value for name, value in headers if name == of]
    if not listed:
        return []
    names = [name.strip().lower() for name in b",".join(listed).split(b",")]
    return [ALIASES.get(name, name) for name in names if name not in (b"", b"identity")]


def are_known(codings: Sequence[bytes]) -> bool:
    """Return whether we can undo these codings, and so many of them."""
    return len(codings) <= MAX_CODINGS and KNOWN.issuperset(codings)


class _Layer:
    """One coding: any number of coded pieces in a row, each whole."""

    def __init__(self, coding: bytes, *, lenient: bool) -> None:
        self._begin = _BEGIN[coding]
        self._may_repeat = coding != b"deflate"
        self._lenient = lenient
        self._current: _Decompressor | None = None
        self._kept = b""  # too little to begin with
        self._n_members = 0
        self._n_out = 0
        self._over = False  # what follows is of no interest

    @property
    def is_whole(self) -> bool:
        if self._over or (self._lenient and self._n_members and self._current is None):
            return True
        return self._current is None and not self._kept

    def feed(self, data: bytes, most: int) -> bytes:
        """Return what `data` decodes to; there may be `most` bytes in all."""
        out: list[bytes] = []
        while data and not self._over:
            if self._current is None:
                data = self._kept + data
                self._kept = data if len(data) < 2 else b""
                if self._kept:
                    break
                self._current = self._next(data)
                continue
            out.append(self._decompress(self._current, data, most))
            if not self._current.eof:
                break
            data, self._current = self._current.unused_data, None
        return out[0] if len(out) == 1 else b"".join(out)

    def _next(self, data: bytes) -> _Decompressor | None:
        self._n_members += 1
        if self._n_members > MAX_MEMBERS:
            raise CodingDamaged("it is in too many parts")
        if self._n_members > 1 and not self._may_repeat:
            self._give_up("there is more behind its end")
            return None
        return self._begin(data)

    def _decompress(self, current: _Decompressor, data: bytes, most: int) -> bytes:
        try:
            piece = current.decompress(data, most - self._n_out + 1)
        except (zlib.error, zstd.ZstdError) as error:
            self._give_up(str(error))
            return b""
        self._n_out += len(piece)
        if self._n_out > most:
            raise DecodedTooLarge
        return piece

    def _give_up(self, why: str) -> None:
        if not self._lenient or self._n_members < 2:
            raise CodingDamaged(why)
        self._over = True


class Decoder:
    """Undoes the codings of one body."""

    def __init__(
        self,
        codings: Sequence[bytes],
        *,
        limit: int,
        max_ratio: int | None = None,
        lenient: bool = False,
    ) -> None:
        """Begin.

        Args:
            codings: all of `KNOWN`, in the order in which they were applied.
            limit: bytes that the body may have, coded and decoded.
            max_ratio: of decoded to coded bytes, once there are more than `FREE_BYTES`.
            lenient: what follows the end of the body is left out, as clients do with answers.
        """
        self._layers = [_Layer(coding, lenient=lenient) for coding in reversed(codings)]
        self._limit = limit
        self._max_ratio = max_ratio
        self._n_in = 0

    def feed(self, data: bytes) -> bytes:
        """Return what the next bytes decode to; that may be nothing yet.

        Raises:
            CodingDamaged: they are not what the codings say.
            DecodedTooLarge: more than the limit, or out of all proportion.
        """
        self._n_in += len(data)
        most = self._limit
        if self._n_in > most:
            raise DecodedTooLarge
        if self._max_ratio is not None:
            most = min(most, max(FREE_BYTES, self._max_ratio * self._n_in))
        for layer in self._layers:
            data = layer.feed(data, most)
        return data

    def end(self) -> None:
        """Say that all bytes are there.

        Raises:
            CodingDamaged: the body ended before its codings did.
        """
        if not all(layer.is_whole for layer in self._layers):
            raise CodingDamaged("it is cut")


class CodedAnswer:
    """An answer in a coding that we do not know: nobody here can judge its body."""

    def __init__(self, response: UpstreamResponse) -> None:
        self.status, self.headers = response.status, response.headers
        self.aclose = response.aclose
        self._response = response

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._response)


class DecodedAnswer:
    """An answer without the codings that it came in, though nobody asked for them."""

    def __init__(self, response: UpstreamResponse, codings: Sequence[bytes]) -> None:
        self.status = response.status
        gone = (b"content-encoding", b"content-length")
        self.headers = [(name, value) for name, value in response.headers if name not in gone]
        self.aclose = response.aclose
        self._chunks = aiter(response)
        self._decoder = Decoder(codings, limit=MAX_ANSWER_BYTES, lenient=True)

    def __aiter__(self) -> DecodedAnswer:
        return self

    async def __anext__(self) -> bytes:
        """Return what has arrived, decoded.

        Raises:
            httpx.RemoteProtocolError: the connection broke, or the codings do not hold.
        """
        try:
            async for chunk in self._chunks:
                decoded = self._decoder.feed(chunk)
                if decoded:
                    return decoded
            self._decoder.end()
        except CodingDamaged as error:
            raise httpx.RemoteProtocolError(f"its coding is damaged: {error}") from None
        except DecodedTooLarge:
            raise httpx.RemoteProtocolError("over 64 MiB once decoded") from None
        raise StopAsyncIteration


def decoded(response: UpstreamResponse) -> UpstreamResponse:
    """Return an answer decoded, if it came in codings, and we know them."""
    codings = codings_of(response.headers)
    if not codings:
        return response
    return DecodedAnswer(response, codings) if are_known(codings) else CodedAnswer(response)
