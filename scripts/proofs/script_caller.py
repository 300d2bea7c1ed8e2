"""The real SDK as the caller of scripts, with its pauses shortened and its raw bytes kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

import httpx2
import openai
from openai import AsyncOpenAI, _base_client

from scripts.proofs.turns import SCALE, FaultScript
from scripts.proofs.views import ScriptView, ViewEnd, view_of_answer, view_of_chunks

HANG_S = 45.0
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
]


@dataclass(slots=True)
class _Raw:
    """The bytes of one call's last reply."""

    data: bytearray = field(default_factory=bytearray)
    broken: bool = False


_RAW: ContextVar[_Raw] = ContextVar("raw")


class _KeptStream(httpx2.AsyncByteStream):
    """A reply's body that is kept as it is read."""

    def __init__(self, inner: httpx2.AsyncByteStream, raw: _Raw) -> None:
        self._inner = inner
        self._raw = raw

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for data in self._inner:
                self._raw.data += data
                yield data
        except httpx2.TransportError:
            self._raw.broken = True
            raise

    async def aclose(self) -> None:
        await self._inner.aclose()


class _KeepingTransport(httpx2.AsyncHTTPTransport):
    """Keeps the raw body of each reply for the call that is under way."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(request)
        raw = _RAW.get()
        raw.data.clear()
        raw.broken = False
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _KeptStream(response.stream, raw)
        return response


def sdk(base_url: str, key: str) -> AsyncOpenAI:
    """Return a client with the SDK's own settings."""
    transport = _KeepingTransport(limits=openai.DEFAULT_CONNECTION_LIMITS)
    http = httpx2.AsyncClient(transport=transport, timeout=openai.DEFAULT_TIMEOUT)
    return AsyncOpenAI(base_url=base_url, api_key=key, http_client=http)


@contextmanager
def shortened_pauses() -> Iterator[None]:
    """Let the SDK pause a tenth as long before it repeats a call."""
    settings = vars(_base_client)
    before = {name: settings[name] for name in ("INITIAL_RETRY_DELAY", "MAX_RETRY_DELAY")}
    settings.update({name: pause_s * SCALE for name, pause_s in before.items()})
    try:
        yield
    finally:
        settings.update(before)


async def call(client: AsyncOpenAI, script: FaultScript) -> ScriptView:
    """Make the script's call; return what its caller saw."""
    raw = _Raw()
    _RAW.set(raw)
    try:
        async with asyncio.timeout(HANG_S):
            view = await _answer(client, script)
    except TimeoutError:
        view = ScriptView(ViewEnd.ERROR, error="hang")
    except openai.APIStatusError as error:
        said = f"{type(error).__name__} {error.status_code} {error.body}"
        view = ScriptView(ViewEnd.REFUSAL, error=said)
    except Exception as error:  # whatever an SDK raises
        view = ScriptView(ViewEnd.ERROR, error=f"{type(error).__name__} {error}")
    return replace(view, raw=bytes(raw.data), broken=raw.broken)


async def _answer(client: AsyncOpenAI, script: FaultScript) -> ScriptView:
    shape = script.shape
    asked: dict[str, Any] = {
        "model": script.name,
        "messages": [{"role": "user", "content": "what does the pilot say?"}],
    }
    if shape.n > 1:
        asked["n"] = shape.n
    if shape.tools:
        asked["tools"] = TOOLS
    if not shape.streamed:
        reply = await client.chat.completions.create(**asked)
        is_object = hasattr(reply, "model_dump")
        return view_of_answer(reply.model_dump() if is_object else reply, b"")
    if shape.asks_usage:
        asked["stream_options"] = {"include_usage": True}
    chunks = [
        chunk.model_dump()
        async for chunk in await client.chat.completions.create(stream=True, **asked)
    ]
    return view_of_chunks(chunks, b"")
