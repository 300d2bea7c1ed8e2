"""Everything that is not ours to decide: passed on unchanged to the provider that takes it.

It is booked as `<provider>/<model or path>`, not routed, and counts in no verdict.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx
import msgspec

from router.decision.seal import Seal
from router.dialects.sse import ChatStream
from router.dispatch.call import NOT_FORWARDED, STARTED, DisconnectGuard
from router.endpoints.catalog import Provider
from router.endpoints.entries import DataClass
from router.errors import AllEndpointsFailed, NoCandidates, RequestRejected
from router.net.asgi import Header, Scope, Send
from router.net.deadline import Deadline
from router.net.pool import Target, Upstream, UpstreamResponse
from router.policy.callers import Caller
from telemetry import events
from telemetry.events import Flag, Result, Token, digest8, digest16
from telemetry.wire.chat import WholeAnswer, id_of, parse_answer, usage_of
from telemetry.writer import Writer

HOP_BY_HOP = frozenset(
    b"connection keep-alive transfer-encoding te trailer upgrade proxy-authenticate set-cookie "
    b"server date".split()
)
STALL_S = 120.0
"""Longest silence: an unstreamed answer of a reasoning model takes this long."""
MAX_NAMES = 1000
"""Distinct names booked; whatever comes beyond them is booked as `<provider>/other`."""
MAX_READ_BYTES = 8 << 20
"""Longer answers pass unread: their usage stays unknown."""


class _Named(msgspec.Struct):
    model: str = ""


@dataclass(slots=True)
class _Booking:
    """What is noted of one passed-on request."""

    token: Token
    app: str
    began_at: float
    reference: str | None
    stream: ChatStream | None = None
    body: bytearray = field(default_factory=bytearray)
    ttft_s: float | None = None

    def read(self, chunk: bytes) -> None:
        """Take a copy of what is needed of a chunk."""
        if self.stream is not None:
            self.stream.feed(chunk)
        elif len(self.body) <= MAX_READ_BYTES:
            self.body += chunk
        if self.ttft_s is None and (self.stream is None or self.stream.spoke):
            self.ttft_s = time.monotonic() - self.began_at

    def record(self, status: int, result: Result) -> bytes:
        """Return the outcome."""
        if self.stream is not None:
            usage, answer_id = self.stream.usage, self.stream.id
        else:
            answer = parse_answer(bytes(self.body)) or WholeAnswer()
            usage, answer_id = usage_of(answer.usage), id_of(answer.id)
        flags = Flag.FINAL | (Flag.STREAMED if self.stream else Flag(0))
        if self.stream is not None and self.ttft_s is not None:
            flags |= Flag.TTFT_KNOWN
        return events.outcome(
            self.token.pack(),
            result=result,
            attempt=1,
            status=status,
            flags=flags | (Flag.USAGE_KNOWN if usage else Flag(0)),
            tokens_in=usage.prompt_tokens if usage else 0,
            tokens_out=usage.completion_tokens if usage else 0,
            latency_s=time.monotonic() - self.began_at,
            ttft_s=self.ttft_s or 0.0,
            response=digest16(self.app, "response", answer_id) if answer_id else events.NO_DIGEST,
            reference=digest16(self.app, "ref", self.reference)
            if self.reference
            else events.NO_DIGEST,
        )


class Passthrough:
    """The provider that is marked `passthrough: true`."""

    def __init__(
        self,
        provider: Provider,
        upstream: Upstream,
        writer: Writer,
        seal: Seal,
        new_names: dict[str, str],
        *,
        n_shards: int,
    ) -> None:
        self.provider = provider
        self._upstream = upstream
        self._writer = writer
        self._seal = seal
        self._new_names = new_names
        self._names: set[str] = set()
        self._n_shards = n_shards

    async def serve(
        self,
        scope: Scope,
        headers: Mapping[bytes, bytes],
        body: bytes,
        caller: Caller,
        send: Send,
        *,
        deadline_s: float,
        task: str,
        data_class: DataClass,
        reference: str | None = None,
    ) -> None:
        """Pass one request on and its answer back.

        Raises:
            RequestRejected: the provider takes the caller's own key, and that key is ours.
            NoCandidates: the app's data or region rules forbid the provider.
            AllEndpointsFailed: the provider did not answer.
        """
        self._check(caller, data_class)
        target, sent = self._target(scope), self._headers(headers, caller)
        name = f"{self.provider.name}/{self._name(scope, body)}"
        booking = self._book(name, caller, task, reference)
        watcher = DisconnectGuard(scope)
        status, result = 0, Result.CONNECT
        began = False
        try:
            with Deadline(min(STALL_S, deadline_s)) as limit:
                response = await self._upstream.send(scope["method"], target, sent, body)
                status, result = response.status, _result(response.status)
                try:
                    scope[STARTED] = True
                    await send(self._start(response, booking, name))
                    began = True
                    async for chunk in response:
                        booking.read(chunk)
                        if booking.stream is None or not booking.stream.done:
                            await send(_body(chunk))
                        else:
                            self._write(booking, status, result)
                            await send(_body(chunk))
                        limit.move(STALL_S)
                finally:
                    await response.aclose()
        except (httpx.TransportError, TimeoutError) as error:
            result = Result.TIMEOUT if isinstance(error, TimeoutError) else result
            self._write(booking, status, Result.CUT if began else result)
            if began:
                raise ConnectionResetError("the provider broke off") from None
            failure = (self.provider.name, type(error).__name__)
            raise AllEndpointsFailed([failure]) from None
        except asyncio.CancelledError:
            self._write(booking, status, Result.CLIENT_GONE)
            if not watcher.client_gone:
                raise
            watcher.forgive()
            return
        self._write(booking, status, result)
        watcher.finish()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _start(self, response: UpstreamResponse, booking: _Booking, name: str) -> dict[str, object]:
        kept = [(k, v) for k, v in response.headers if k not in HOP_BY_HOP]
        if any(k == b"content-type" and b"event-stream" in v for k, v in kept):
            booking.stream = ChatStream(hide_usage=False)
        decision_id = self._seal.close(booking.token.pack()).encode()
        ours = [
            (b"x-router-decision-id", decision_id),
            (b"x-router-endpoint", _printable(name)),
        ]
        return {
            "type": "http.response.start",
            "status": response.status,
            "headers": kept + ours,
        }

    def _write(self, booking: _Booking, status: int, result: Result) -> None:
        if booking.began_at:
            self._writer.put(booking.record(status, result))
            booking.began_at = 0.0  # written: once a request

    def _book(self, name: str, caller: Caller, task: str, reference: str | None) -> _Booking:
        endpoint = digest8("passthrough", name)
        nonce = os.urandom(16)
        token = Token(
            key_id=self._seal.key_id,
            shard=nonce[0] % self._n_shards,
            flags=0,
            nonce=nonce,
            decided_at_ms=int(time.time() * 1000),
            category=digest8("task", task),
            drawn=endpoint,
            executed=endpoint,
            strategy=0,
            app=caller.app.digest,
            release_key=0,
            session=int.from_bytes(nonce[:8], "little"),
            propensity=1.0,
            predicted=0.0,
            predicted_sd=0.0,
        )
        return _Booking(token, caller.app.name, time.monotonic(), reference)

    def _name(self, scope: Scope, body: bytes) -> str:
        """Return the model that a request names, else its path."""
        try:
            name = msgspec.json.decode(body, type=_Named).model if body else ""
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            name = ""
        name = (name or str(scope["path"]).removeprefix("/v1/"))[:128]
        if name not in self._names:
            if len(self._names) >= MAX_NAMES:
                return "other"
            self._names.add(name)
            full = f"{self.provider.name}/{name}"
            self._new_names[f"{digest8('passthrough', full):016x}"] = full
        return name

    def _check(self, caller: Caller, data_class: DataClass) -> None:
        provider, entry = self.provider, caller.app.entry
        if data_class.level > provider.max_data_class.level:
            raise NoCandidates({provider.name: "data_class"})
        if entry.regions and provider.region not in entry.regions:
            raise NoCandidates({provider.name: "region"})
        if provider.client_auth and caller.credential is None:
            raise RequestRejected(
                "invalid_api_key",
                f"{provider.name} takes the caller's own key, and none came that may be passed "
                "on: send this sidecar's key in x-router-key and the provider's as bearer token",
            )

    def _target(self, scope: Scope) -> Target:
        path = scope["raw_path"].decode("latin-1").removeprefix("/v1")
        query = scope.get("query_string", b"").decode("latin-1")
        url = self.provider.base_url + path + (f"?{query}" if query else "")
        try:
            return Target.of(httpx.URL(url))
        except httpx.InvalidURL:
            raise RequestRejected("not_found", "this path is no URL that could be sent") from None

    def _headers(self, headers: Mapping[bytes, bytes], caller: Caller) -> list[Header]:
        kept: list[Header] = [
            (name, value)
            for name, value in headers.items()
            if name not in NOT_FORWARDED and not name.startswith(b"x-router-")
        ]
        kept.append((b"accept-encoding", b"identity"))
        if self.provider.auth_header is not None:
            kept.append(self.provider.auth_header)
        elif self.provider.client_auth and caller.credential is not None:
            kept.append(caller.credential)
        return kept


def is_devious(raw_path: bytes) -> bool:
    """Return whether a path would leave the provider's base URL once its dots are resolved."""
    path = raw_path.lower().replace(b"%2e", b".").replace(b"%2f", b"/").replace(b"\\", b"/")
    return b"%25" in path or any(part in (b".", b"..") for part in path.split(b"/"))


def _printable(name: str) -> bytes:
    """Return a name as a header may carry it: the caller chose it, line breaks and all."""
    return "".join(c if " " <= c <= "~" else "?" for c in name).encode()


def _result(status: int) -> Result:
    if status < 400:
        return Result.OK
    if status == 429:
        return Result.RATE_LIMIT
    return Result.SERVER if status >= 500 else Result.CLIENT_ERROR


def _body(chunk: bytes) -> dict[str, object]:
    return {"type": "http.response.body", "body": chunk, "more_body": True}
