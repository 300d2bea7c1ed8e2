"""The one transport seam: httpx's own interface, over aiohttp's connection pool.

`handle_async_request` is called directly; an `AsyncClient` around it would cost as much again.
Tests plug in `httpx.MockTransport`. Bytes come out as they arrived: no decompression, no
redirects, no cookies, no proxies from the environment.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import httpx
from yarl import URL

KEEPALIVE_S = 30.0
"""Below the idle time-out of the providers' front ends (60 s and more)."""


MAX_URLS = 4096
"""Parsed URLs remembered: endpoints have one each, passed-on paths a few more."""


class UpstreamTransport(httpx.AsyncBaseTransport):
    """One connection pool for all endpoints."""

    def __init__(self, *, connect_s: float) -> None:
        self._connect_s = connect_s
        self._session: aiohttp.ClientSession | None = None
        self._urls: dict[str, URL] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; return once the response's head is there.

        Raises:
            httpx.ConnectError: no connection could be made.
            httpx.ConnectTimeout: not within the limit.
            httpx.RemoteProtocolError: the connection broke before a response.
        """
        session = self._session or self._open()
        text = str(request.url)
        url = self._urls.get(text)
        if url is None:
            url = URL(text, encoded=True)
            if len(self._urls) < MAX_URLS:
                self._urls[text] = url
        headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in request.headers.raw]
        try:
            response = await session.request(
                request.method,
                url,
                headers=headers,
                data=request.extensions.get("body") or await request.aread() or None,
                allow_redirects=False,
                skip_auto_headers=("user-agent", "accept", "accept-encoding", "content-type"),
            )
        except aiohttp.ConnectionTimeoutError as error:
            raise httpx.ConnectTimeout(str(error)) from error
        except aiohttp.ClientConnectorError as error:
            raise httpx.ConnectError(type(error.os_error).__name__) from error
        except (aiohttp.ClientError, OSError) as error:
            raise httpx.RemoteProtocolError(type(error).__name__) from error
        return httpx.Response(response.status, headers=response.raw_headers, stream=_Body(response))

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_s),
            auto_decompress=False,
            trust_env=False,
        )
        return self._session


class _Body(httpx.AsyncByteStream):
    """A response body, chunk by chunk as it arrives; closing it early closes the connection."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        content: Any = self._response.content
        try:
            while chunk := await content.readany():
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise httpx.RemoteProtocolError(type(error).__name__) from error

    async def aclose(self) -> None:
        if self._response.content.is_eof():
            self._response.release()
        else:
            self._response.close()
