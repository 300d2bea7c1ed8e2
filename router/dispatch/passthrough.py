"""Everything that is not ours to decide: passed on unchanged to the provider that takes it.

So is what is asked of a response or conversation by its id: to whoever made it.

It is booked as `<provider>/<model or path>`, not routed, and counts in no verdict.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Callable
from functools import partial

import httpx

from router.beliefs.names import Names
from router.budgets.leaves import Leave, is_bounded
from router.config.compiled import Configuration
from router.decision.reasons import Reason
from router.dialects.errors import error_event
from router.dialects.opaque import is_repeatable
from router.dispatch.admitted import require_credentials, require_permitted
from router.dispatch.attempt import AttemptFailed
from router.dispatch.booking import Booking
from router.dispatch.copied import MAX_READ_BYTES, AnswerCopy, answered_in
from router.dispatch.diagnosis import Complaints
from router.dispatch.fates import Fate
from router.dispatch.headers import HOP_BY_HOP, forward_headers, named_by_connection
from router.dispatch.intents import Intents, Recipient, is_recorded
from router.dispatch.passed import Passed
from router.dispatch.passed_budgets import PassedBudgets
from router.dispatch.passed_costs import settle_passed
from router.dispatch.passed_models import PassedModels
from router.dispatch.passed_names import PassedNames, passed_digest
from router.dispatch.passed_way import target_of, timed
from router.dispatch.records import FINAL, STREAMED, BookedUnder
from router.dispatch.spending import Spending
from router.endpoints.providers import Provider
from router.errors import AllEndpointsFailed, RequestRejected
from router.net.bodies import ClientGone
from router.net.connection import BodyInPieces
from router.net.deadline import Deadline
from router.net.exchange import DisconnectGuard, Exchange, Header
from router.net.pool import Target, Upstream, UpstreamResponse
from telemetry.events import Result
from telemetry.trail import IntentWay
from telemetry.wire.lenient import is_readable
from telemetry.wire.sse import DONE, EventSplitter, data_of

KEY_REFUSED = (401, 402, 403)
"""Under our key these are about it; a path that is not there is the caller's own choice."""
UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.LocalProtocolError)
CUT = "the stream was cut; the answer above is not whole"


class Passthrough:
    """Passes requests on to providers that take what is not listed."""

    def __init__(
        self,
        upstream: Upstream,
        booking: Booking,
        spending: Spending,
        names: Names,
        intents: Intents,
    ) -> None:
        self.spending = spending
        self._upstream = upstream
        self._intents = intents
        self._booking = booking
        self._names = PassedNames(names)
        self._models = PassedModels(names)
        self._complaints = Complaints()

    async def serve(
        self,
        exchange: Exchange,
        passed: Passed,
        provider: Provider,
        configuration: Configuration,
        *,
        deadline_s: float,
    ) -> None:
        """Pass one request on and its answer back.

        Raises:
            RequestRejected: the provider takes the caller's own key, and that key is ours.
            NoCandidates: the app's data or region rules forbid the provider, or a hard budget
                does, as nobody knows what it may come to.
            BudgetSpent, BudgetAway, RateShareSpent: it does not fit into a budget, or a share.
            AllEndpointsFailed: the provider did not answer.
            AuditUnavailable: that sensitive content leaves cannot be recorded.
        """
        require_permitted(passed.policy, provider)
        require_credentials(passed.caller, provider)
        target = target_of(provider, exchange)
        headers = forward_headers(
            exchange.raw_headers,
            passed.caller,
            provider,
            key_headers=configuration.catalog.key_headers,
        )
        name = self._names.of(provider, exchange, passed.model)
        nonce, digest = os.urandom(16), passed_digest(name)
        at_ms = self._booking.now_ms()
        token = self._booking.foreign_token(
            nonce,
            endpoint=digest,
            at_ms=at_ms,
            task=passed.task,
            caller=passed.caller,
            user=passed.user,
            role=passed.role,
        )
        ours = [
            (b"x-router-decision-id", self._booking.seal.close(token).encode()),
            (b"x-router-endpoint", _printable(name)),
            (b"x-router-reason", Reason.PINNED.encode()),
        ]
        budgets = PassedBudgets(
            self.spending, passed, provider, configuration.catalog, exchange.path
        )
        grant, warnings = await budgets.reserve(at_s=at_ms / 1000)
        if passed.spend_tag.warning is not None:
            warnings = (passed.spend_tag.warning, *warnings)
        if warnings:
            ours.append((b"x-router-warning", _printable("; ".join(warnings))))
        settle = partial(
            settle_passed,
            model=passed.model,
            method=exchange.method,
            path=exchange.path,
            provider=provider,
            catalog=configuration.catalog,
            models=self._models,
            at_s=at_ms / 1000,
        )
        call = _Passing(self, exchange, passed, token, ours, settle, grant)
        try:
            if is_recorded(passed.policy.data_class):
                self._intents.intend(
                    Recipient(digest, name, provider.terms),
                    data_class=passed.policy.data_class,
                    app=passed.caller.app,
                    configuration=configuration,
                    nonce=nonce,
                    way=IntentWay.PASSED,
                )
            if grant is not None:
                self.spending.begin(grant, token)
            await _carry_out(call, exchange, provider, target, headers, limit_s=deadline_s)
        finally:
            call.release()


class _Passing:
    """One request while it is passed on."""

    def __init__(
        self,
        home: Passthrough,
        exchange: Exchange,
        passed: Passed,
        token: bytes,
        ours: list[Header],
        settle: Callable[[AnswerCopy, bytes | None], None],
        grant: Leave | None,
    ) -> None:
        self._grant = grant
        self.copy = AnswerCopy(
            result=Result.CONNECT,
            began_at=time.monotonic(),
            dialect=answered_in(exchange.method, exchange.path),
        )
        self._home = home
        self._exchange = exchange
        self._passed = passed
        self._token = token
        self._ours = ours
        self._settle = settle  # what it used and cost
        self._written = False
        self._told: tuple[str | None, str | None] = (None, None)  # ids of it and its container
        self._events: EventSplitter | None = None  # of a stream in no coding: whole ones pass

    async def run(
        self,
        method: str,
        target: Target,
        headers: list[Header],
        limit: Deadline,
        *,
        provider: Provider,
        silence_s: float,
    ) -> None:
        """Send the request, and every byte of the answer but its end.

        Args:
            limit: of the wait for the provider; moved on while it is not the provider's turn.
            silence_s: how long the provider may send nothing.
        """
        upstream, copy = self._home._upstream, self.copy
        body = self._passed.body
        if isinstance(body, BodyInPieces):
            body = BodyInPieces(timed(body.pieces, limit, silence_s), body.length)
        repeatable = method in ("GET", "HEAD") or is_repeatable(self._exchange.path, body)
        repeatable = repeatable and not is_bounded(self._grant)
        response = await upstream.send(method, target, headers, body, repeatable=repeatable)
        copy.status, copy.result = response.status, _result(response.status)
        if response.status in KEY_REFUSED and provider.key is not None:
            refused = AttemptFailed(
                Result.REFUSED,
                f"status {response.status}",
                status=response.status,
                fate=Fate.ENDPOINT,
            )
            self._home._complaints.say(provider.name, target, refused)
            provider.key.doubt()
        try:
            await self._exchange.start(response.status, self._head(response))
            last = b""
            async for chunk in response:
                limit.move(math.inf)  # what a slow client takes is not the provider's
                copy.read(chunk)
                if copy.stream is not None:
                    self._tell_ids(copy.stream.id, copy.stream.container)
                    if copy.stream.done:
                        self._tell_items()
                        self.write(copy.result)
                elif self._waits:  # its end waits until its ids were read
                    self._tell_ids(copy.early_id(), None)
                    last, chunk = chunk, last
                await self._exchange.part(self._passed_of(chunk))
                limit.move(silence_s)
            if last:
                self._tell_ids(*copy.whole_ids())
                self._tell_items()
            await self._exchange.part(last + self._rest())
        finally:
            await response.aclose()

    def _tell_ids(self, answer_id: str | None, container: str | None) -> None:
        """Say once what the answer is called, if it is one, and its container."""
        tell, told = self._passed.on_ids, self._told
        ids = told[0] or answer_id, told[1] or container
        if tell is not None and ids != told and self.copy.result is Result.OK:
            self._told = ids
            tell(*ids)

    @property
    def _waits(self) -> bool:
        return self._passed.on_ids is not None or self._passed.on_items is not None

    def _tell_items(self) -> None:
        """Say of which items the answer consists, if it is one."""
        tell = self._passed.on_items
        if tell is not None and self.copy.result is Result.OK:
            tell(self.copy.item_ids_here())

    def _passed_of(self, chunk: bytes) -> bytes:
        """Return what of a piece passes now: all, or of a stream the events that are whole."""
        if self._events is None:
            return chunk
        passed = b"".join(self._events.feed(chunk))
        if self._events.n_held > MAX_READ_BYTES:  # no event that anybody reads
            passed, self._events = passed + self._events.take_rest(), None
        return passed

    def _rest(self) -> bytes:
        """Return what stands after the last whole event at a proper end.

        Raises:
            httpx.RemoteProtocolError: it is the begin of an event: the stream was cut.
        """
        rest = self._events.take_rest() if self._events is not None else b""
        data = data_of(rest)
        if not rest.strip() or rest.startswith(b":") or data == DONE or is_readable(data):
            return rest
        raise httpx.RemoteProtocolError("ended inside an event")

    def fail(self, provider: Provider, target: Target, error: Exception) -> None:
        """Book, and say in the log, that the provider did not answer, or broke off."""
        timed_out = isinstance(error, TimeoutError)
        self.copy.was_sent = not isinstance(error, UNSENT)
        if self._exchange.started:
            self.write(Result.CUT)
        else:
            self.write(Result.TIMEOUT if timed_out else self.copy.result)
        self._home._complaints.say(provider.name, target, error)

    def write(self, result: Result) -> None:
        """Book how it ended: once a request, the first word holds."""
        if self._written:
            return
        self._written, copy = True, self.copy
        copy.result = result
        copy.close()
        body = self._passed.body
        if self._passed.is_by_id:
            copy.usage = None
        else:
            self._settle(copy, body if isinstance(body, bytes) else None)
        if self._grant is not None:
            self._home.spending.settle(
                self._grant, copy, self._token, is_call=copy.was_sent, state=copy.stream
            )
        role = self._passed.role
        self._home._booking.write(
            self._token,
            copy,
            app=self._passed.caller.app.name,
            flags=FINAL | (STREAMED if copy.stream else 0),
            reference=self._passed.reference,
            under=BookedUnder(
                role=role.digest if role is not None else 0,
                episode=self._passed.episode,
                prompt=self._passed.prompt,
                spend_tag=self._passed.spend_tag.digest,
            ),
        )

    def release(self) -> None:
        """Give back what was reserved for a request that was never made."""
        if self._grant is not None and self._grant.begun is not None:
            self.write(Result.CLIENT_GONE)  # whatever failed in here, it was sent
        elif self._grant is not None and not self._grant.is_settled:
            self._home.spending.release(self._grant)

    def tell(self, code: str, message: str) -> bytes:
        """Return the event of an error; what was passed on ends with a whole one."""
        return error_event(self._exchange.path, code, message)

    def _head(self, response: UpstreamResponse) -> list[Header]:
        stays = HOP_BY_HOP | named_by_connection(response.headers)
        self.copy.begin(response.headers)
        if self.copy.stream is not None and not any(
            name == b"content-encoding" for name, _ in response.headers
        ):
            self._events, self._exchange.tell = EventSplitter(), self.tell
        return [(k, v) for k, v in response.headers if k not in stays] + self._ours


async def _carry_out(
    call: _Passing,
    exchange: Exchange,
    provider: Provider,
    target: Target,
    headers: list[Header],
    *,
    limit_s: float,
) -> None:
    """Pass the request on and its answer back, and book how that ended."""
    guard = DisconnectGuard(exchange)
    try:
        with Deadline(limit_s) as limit:
            await call.run(
                exchange.method, target, headers, limit, provider=provider, silence_s=limit_s
            )
    except (httpx.TransportError, TimeoutError) as error:
        call.fail(provider, target, error)
        if exchange.started and exchange.tell is None:
            raise ConnectionResetError("the provider broke off") from None
        if exchange.started:
            guard.finish()
            await exchange.end(call.tell("stream_cut", CUT))
            return
        raise AllEndpointsFailed([(provider.name, type(error).__name__)]) from None
    except RequestRejected:  # by what came of the body, on its way
        call.write(Result.CLIENT_ERROR)
        if exchange.started:
            raise ConnectionResetError("the body broke off") from None
        raise
    except (asyncio.CancelledError, ClientGone) as error:
        call.write(Result.CLIENT_GONE)
        if isinstance(error, ClientGone):
            return
        if not guard.client_gone:
            raise
        guard.forgive()
        return
    call.write(call.copy.result)
    guard.finish()
    await exchange.end()


def _printable(name: str) -> bytes:
    """Return a name as a header may carry it: the caller chose it, line breaks and all."""
    return "".join(c if " " <= c <= "~" else "?" for c in name).encode()


def _result(status: int) -> Result:
    if status < 400:
        return Result.OK
    if status == 429:
        return Result.RATE_LIMIT
    return Result.SERVER if status >= 500 else Result.CLIENT_ERROR
