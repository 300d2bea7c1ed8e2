"""Path to handler: every route is one method, and the call's own route comes first.

A request reads everything from the beliefs that it started with, configuration included.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
from msgspec.structs import asdict

from router.beliefs.beliefs import Beliefs
from router.beliefs.keeper import Keeper
from router.config.entries import is_reserved
from router.decision.context import Moment
from router.decision.decide import Decider
from router.dialects import messages
from router.dialects.errors import break_off, caller_dialect, respond_error
from router.dialects.opaque import OpaqueBody, as_opaque, read_opaque
from router.dialects.parsers import CALLS, COUNT_PATH, PARSERS, parse_alike
from router.dispatch.call import Calls
from router.dispatch.counting import count_tokens
from router.dispatch.headers import request_ids
from router.dispatch.passing import Passing, StoredPath, read_call, stored_path
from router.dispatch.takers import OURS, is_passed_on, nobody_takes, takes_rest
from router.dispatch.time_limits import deadline_s
from router.endpoints.catalog import CALL_PATHS
from router.endpoints.entries import Dialect
from router.endpoints.providers import Provider, dialect_at
from router.errors import DispatchError, RequestRejected
from router.explain.asked import tell
from router.explain.desk import ExplainDesk
from router.intake.doors import counting_refusals, episode_in
from router.intake.events import EventDesk
from router.intake.feedback import FeedbackDesk
from router.intake.forget import ForgetDesk
from router.net.admission import Admission
from router.net.bodies import MAX_NOTE_BYTES, ClientGone
from router.net.exchange import Exchange
from router.net.paths import normal_path, shown_path
from router.net.turns import Turns
from router.policy.callers import Caller, Keys, check_origin, require_single
from router.policy.route import no_such_model, require_meant, require_spoken
from router.report import views
from router.report.face.desk import OPENED, PAGE_PATHS, PageDesk
from router.report.models import find_model, model_list
from router.report.readers import Handler, for_readers
from telemetry.crashes import place_of
from telemetry.metrics import Metrics
from telemetry.numbers import clipped
from telemetry.writer import Counters

log = structlog.get_logger()

MODELS_PATH = "/v1/models/"
DECISIONS_PATH = "/v1/router/decisions"
STOPPING = "the sidecar is stopping"


def now() -> Moment:
    """Return the time on both clocks."""
    return Moment(time.time(), time.monotonic())


@dataclass(slots=True, kw_only=True)
class Services:
    """What the routes are made of."""

    keeper: Keeper
    decider: Decider
    calls: Calls
    passing: Passing
    feedback: FeedbackDesk
    forget: ForgetDesk
    events: EventDesk
    explain: ExplainDesk
    desks: Mapping[str, Handler]  # by path, whoever else answers a GET of the owner's
    page: PageDesk
    metrics: Metrics
    admission: Admission  # of calls
    desk: Admission  # of what others tell: many calls are no reason to turn that away
    sending: Counters  # how the store takes what is written
    clock: Callable[[], Moment]


class Routes:
    """Serves requests; nothing escapes but a closed connection."""

    def __init__(self, services: Services) -> None:
        self.draining = False
        self.under_way: set[Exchange] = set()
        self._turns = Turns()
        self._services = services
        self._routes: dict[tuple[str, str], Handler] = {
            **{("POST", path): self._call for path in PARSERS},
            ("POST", COUNT_PATH): self._count_tokens,
            ("POST", "/v1/feedback"): self._feedback,
            ("POST", "/v1/events"): self._events,
            ("GET", "/v1/models"): self._models,
            ("POST", "/v1/router/decide"): self._decide,
            ("POST", "/v1/router/forget"): self._forget,
            ("GET", DECISIONS_PATH): for_readers(self._decision),
            **{("GET", path): for_readers(tells) for path, tells in services.desks.items()},
            **{("GET", path): for_readers(services.page.tell) for path in PAGE_PATHS},
            ("GET", "/livez"): self._livez,
            ("GET", "/readyz"): for_readers(self._readyz),
        }
        self._methods = {path: method for method, path in self._routes}
        self._usual = {
            (method, path.encode()): (path, handler, CALLS.get(path) if method == "POST" else None)
            for (method, path), handler in self._routes.items()
            if normal_path(path.encode()) == path
        }

    async def serve(self, exchange: Exchange) -> None:
        """Answer one request."""
        beliefs = self._services.keeper.current
        self.under_way.add(exchange)
        try:
            handler = self._find(exchange, beliefs)
            await handler(exchange, beliefs)
        except (RequestRejected, DispatchError) as error:
            await respond_error(exchange, error)
        except ClientGone:
            return
        except asyncio.CancelledError:  # of a client that left, those who serve it see
            with suppress(asyncio.CancelledError):  # told twice: there is no more to say
                await break_off(exchange, RequestRejected("draining", STOPPING))
        except Exception as error:
            if exchange.started and isinstance(error, ConnectionError):
                exchange.cut()  # the provider's answer broke off, and so does ours
                return
            await _fail(exchange, error)
        finally:
            self.under_way.discard(exchange)
            exchange.release()

    def _find(self, exchange: Exchange, beliefs: Beliefs) -> Handler:
        """Return what answers a request that may be asked; its path is known from now on."""
        found = self._usual.get((exchange.method, exchange.raw_path))
        exchange.path = exchange.raw_path.decode("latin-1") if found is None else found[0]
        check_origin(exchange.headers, beliefs.configuration)
        if len(exchange.raw_headers) != len(exchange.headers):
            require_single(exchange.raw_headers)
        catalog = beliefs.configuration.catalog
        if found is not None and (found[2] is None or found[2] in catalog.taken):
            return found[1]  # most often
        exchange.path = normal_path(exchange.raw_path)
        handler = self._routes.get((_read_as(exchange), exchange.path))
        if handler is None or is_passed_on(exchange, catalog):
            return self._other(exchange, beliefs)
        return handler

    # -- calls and feedback -----------------------------------------------------------------

    async def _call(self, exchange: Exchange, beliefs: Beliefs) -> None:
        services, configuration = self._services, beliefs.configuration
        caller = configuration.derive(Keys).caller(exchange.headers)
        if self._turns.is_spent():
            await self._turns.wait()
        self._require_room()
        body = await exchange.body(limit=configuration.server.body_limit)
        request = read_call(body, exchange.path, configuration.catalog)
        admission, passing = services.admission, services.passing
        if not admission.let_in(exchange):
            await admission.enter(exchange)
        try:
            at = services.clock()  # how long the client took for its body is its own affair
            if isinstance(request, OpaqueBody):
                await passing.pass_on(exchange, beliefs, caller, request)
                return
            found = await passing.settle(exchange, beliefs, caller, request, at)
            if isinstance(found, Provider):
                await passing.pass_on(exchange, beliefs, caller, as_opaque(request), to=found)
            elif found.hints.dry_run:
                await exchange.respond_json(200, await services.calls.preview(found))
            else:
                await services.calls.serve(found, exchange)
        finally:
            admission.leave(exchange)

    async def _count_tokens(self, exchange: Exchange, beliefs: Beliefs) -> None:
        caller = _caller(exchange, beliefs)
        self._require_room()
        services, configuration = self._services, beliefs.configuration
        request = messages.parse(await exchange.body(limit=configuration.server.body_limit))
        async with services.admission.place(exchange):
            at, decider, passing = services.clock(), services.decider, services.passing
            found = await passing.settle(exchange, beliefs, caller, request, at, draws=False)
            if isinstance(found, Provider):
                await passing.pass_on(exchange, beliefs, caller, as_opaque(request), to=found)
                return
            if found.hints.dry_run:
                await exchange.respond_json(200, await services.calls.preview(found))
                return
            await count_tokens(
                exchange,
                found,
                await decider.foresee(found),
                services.calls.dispatcher.upstream,
                intents=services.calls.dispatcher.intents,
                sizes=decider.contexts.sizes,
                limit_s=deadline_s(configuration.server.deadline_s, exchange.headers),
            )

    async def _feedback(
        self, exchange: Exchange, beliefs: Beliefs, episode: str | None = None
    ) -> None:
        caller = _caller(exchange, beliefs)
        body = await _note(exchange, beliefs)
        counts = self._services.metrics.feedback
        with counting_refusals(counts):
            async with self._services.desk.place(exchange):
                results = await self._services.feedback.take(body, caller, episode=episode)
        for result in results:
            counts[result["status"]] += 1
        await exchange.respond_json(202, {"accepted": True, "results": results})

    async def _events(self, exchange: Exchange, beliefs: Beliefs) -> None:
        caller = _caller(exchange, beliefs)
        body = await _note(exchange, beliefs)
        dry_run = exchange.headers.get(b"x-router-dry-run") == b"1"
        counts = self._services.metrics.ingested
        with counting_refusals(counts):
            async with self._services.desk.place(exchange):
                taken = await self._services.events.take(
                    body, exchange.raw_headers, caller, beliefs.configuration, dry_run=dry_run
                )
        counts["accepted"] += taken["accepted"]
        await exchange.respond_json(200 if dry_run else 202, taken)

    async def _models(self, exchange: Exchange, beliefs: Beliefs) -> None:
        _caller(exchange, beliefs)
        listed = model_list(beliefs.configuration, caller_dialect(exchange))
        await exchange.respond_json(200, listed)

    async def _model(self, exchange: Exchange, beliefs: Beliefs) -> None:
        _caller(exchange, beliefs)
        model = _listed(exchange, beliefs)
        if model is None:
            raise no_such_model(exchange.path.removeprefix(MODELS_PATH))
        await exchange.respond_json(200, model)

    async def _anything(
        self, exchange: Exchange, beliefs: Beliefs, path: StoredPath | None = None
    ) -> None:
        """Any other `/v1/` path goes to the provider that takes it, or to whoever made its id."""
        caller = _caller(exchange, beliefs)
        if self._turns.is_spent():
            await self._turns.wait()
        self._require_room()
        opaque = await read_opaque(exchange, limit=beliefs.configuration.server.body_limit)
        require_meant(opaque.model, exchange.path)
        for i, model in enumerate(opaque.batched):
            require_meant(model, exchange.path, at=f"requests[{i}].params.model")
        dialect = dialect_at(exchange.path)
        if dialect is not None:
            require_spoken(opaque.model, dialect, beliefs.configuration.catalog)
        async with self._services.admission.place(exchange):
            passing = self._services.passing
            if path is None:
                await passing.pass_on(exchange, beliefs, caller, opaque)
            else:
                await passing.pass_by_id(exchange, beliefs, caller, opaque, path=path)

    def _require_room(self) -> None:
        """Turn a call away before its body is read."""
        if self.draining:
            raise RequestRejected("draining", STOPPING)
        self._services.admission.check()

    # -- for the owner ----------------------------------------------------------------------

    async def _decide(self, exchange: Exchange, beliefs: Beliefs) -> None:
        _keys(beliefs).require_admin(exchange.headers)
        by_anthropics = b"anthropic-version" in exchange.headers
        body = await exchange.body(limit=beliefs.configuration.server.body_limit)
        request = parse_alike(body, by_anthropics=by_anthropics)
        decider, at = self._services.decider, self._services.clock()
        caller = _keys(beliefs).caller_or_first(exchange.headers)
        context = await decider.contexts.of(
            beliefs, caller, exchange.headers, request, at, noting=False
        )
        if context is not None:
            await exchange.respond_json(200, await self._services.calls.preview(context))
            return
        path = f"/v1/{CALL_PATHS[request.dialect]}"
        provider = beliefs.configuration.catalog.passthrough(path)
        if provider is None:
            raise no_such_model(request.model)
        name = f"{provider.name}/{request.model}"
        shown = {"endpoint": name, "routed": False, "passthrough": True}
        await exchange.respond_json(200, shown)

    async def _forget(self, exchange: Exchange, beliefs: Beliefs) -> None:
        _keys(beliefs).require_admin(exchange.headers)
        body = await _note(exchange, beliefs)
        async with self._services.desk.place(exchange):
            deleted = await self._services.forget.take(body, beliefs.configuration)
        await exchange.respond_json(200, asdict(deleted))

    async def _decision(self, exchange: Exchange, beliefs: Beliefs) -> None:
        desk, configuration = self._services.explain, beliefs.configuration
        found = await tell(exchange, DECISIONS_PATH, desk, configuration, _keys(beliefs))
        await exchange.respond_json(200, found)

    async def _livez(self, exchange: Exchange, beliefs: Beliefs) -> None:
        await exchange.respond_json(200, {"alive": True})

    async def _readyz(self, exchange: Exchange, beliefs: Beliefs) -> None:
        services = self._services
        state = views.readiness(services.keeper, services.sending, draining=self.draining)
        verbose = b"verbose" in exchange.query
        if verbose and not beliefs.configuration.server.is_loopback:
            _keys(beliefs).require_admin(exchange.headers)
        shown = state if verbose else {"ready": state["ready"], "degraded": state["degraded"]}
        await exchange.respond_json(200 if state["ready"] else 503, shown)

    # -- the rest ---------------------------------------------------------------------------

    def _other(self, exchange: Exchange, beliefs: Beliefs) -> Handler:
        path = exchange.path
        meant = path.partition(";")[0].lower()
        lookalike = meant.startswith(OURS) and not path.startswith(OURS)
        if lookalike or (meant != path and meant in self._methods):
            raise RequestRejected(
                "not_found", f"there is no {clipped(path)}; write {clipped(meant)}"
            )
        episode = episode_in(exchange.raw_path)
        if episode is not None and exchange.method == "POST":
            return partial(self._feedback, episode=episode)
        allowed = self._methods.get(path) if episode is None else "POST"
        catalog = beliefs.configuration.catalog
        passes_on = takes_rest(exchange, catalog)
        if allowed is not None and not passes_on:
            raise RequestRejected("method_not_allowed", f"{path} takes {allowed} only")
        passes = path.startswith("/v1/") and not path.startswith(OURS)
        if path.startswith(MODELS_PATH) and _read_as(exchange) == "GET":
            is_known = is_reserved(path.removeprefix(MODELS_PATH)) or _listed(exchange, beliefs)
            if is_known or not passes_on:
                return self._model
        stored = stored_path(exchange.method, path) if passes else None
        made_here = Dialect.RESPONSES in catalog.spoken
        if stored is not None and (passes_on or made_here):
            return partial(self._anything, path=stored)
        if passes and passes_on:
            return self._anything
        if path.startswith((f"{DECISIONS_PATH}/", *OPENED)):
            if exchange.method != "GET":
                raise RequestRejected("method_not_allowed", f"{clipped(path)} takes GET only")
            is_page = path.startswith(OPENED)
            return for_readers(self._services.page.tell if is_page else self._decision)
        if passes:
            raise nobody_takes(path)
        raise RequestRejected("not_found", f"there is no {clipped(path)}")


def _read_as(exchange: Exchange) -> str:
    """Return the method by which a request is served: of models HEAD is GET without its body."""
    is_of_models = f"{exchange.path}/".startswith(MODELS_PATH)
    return "GET" if exchange.method == "HEAD" and is_of_models else exchange.method


async def _fail(exchange: Exchange, error: Exception) -> None:
    """Say that the sidecar failed, by an id under which its log has the place, and no more."""
    failure_id = secrets.token_hex(16)
    kind, place, path = type(error).__name__, place_of(error), shown_path(exchange.path)[:128]
    log.error("a request failed", id=failure_id, path=path, error=kind, place=place)
    message = f"internal error in the sidecar; its log has it under {failure_id}"
    rejected = RequestRejected("internal_error", message)
    await break_off(exchange, rejected, extra=request_ids(failure_id.encode()))


def _listed(exchange: Exchange, beliefs: Beliefs) -> dict[str, Any] | None:
    """Return the model that a path names, if it is listed."""
    wanted = exchange.path.removeprefix(MODELS_PATH)
    return find_model(beliefs.configuration, caller_dialect(exchange), wanted)


async def _note(exchange: Exchange, beliefs: Beliefs) -> bytes:
    """Return a body of feedback or events."""
    limit = beliefs.configuration.server.body_limit
    return await exchange.body(limit=min(limit, MAX_NOTE_BYTES))


def _caller(exchange: Exchange, beliefs: Beliefs) -> Caller:
    return _keys(beliefs).caller(exchange.headers)


def _keys(beliefs: Beliefs) -> Keys:
    return beliefs.configuration.derive(Keys)
