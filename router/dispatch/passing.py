"""Where what is not ours to decide goes, and what lies at a provider: to whoever made it.

Ids of what lies there are an app's own: what another app was told of is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from msgspec import Struct

from router.beliefs.beliefs import Beliefs
from router.config.entries import is_reserved
from router.decision.context import CallContext, Moment, require_tools
from router.decision.contexts import Contexts
from router.decision.held import note_said
from router.decision.ruling import Ruling, nothing_read
from router.decision.rulings import ruled
from router.decision.stored_ids import StoredIds
from router.dialects import chat, responses
from router.dialects.offered import offered_tools
from router.dialects.opaque import OpaqueBody, take_hints
from router.dialects.parsers import PARSERS
from router.dialects.request import CallRequest
from router.dialects.stored import HAVE_PATHS, StoredId, StoredKind, left_behind
from router.dispatch.admitted import kept_nowhere, require_bounds, require_permitted
from router.dispatch.passed import Passed
from router.dispatch.passed_budgets import PassedBudgets, of_passed
from router.dispatch.passthrough import Passthrough
from router.dispatch.prompts import version_digest
from router.dispatch.takers import nobody_takes, taker
from router.dispatch.time_limits import deadline_s
from router.endpoints.catalog import Catalog
from router.endpoints.entries import Dialect
from router.endpoints.providers import Provider, dialect_at
from router.errors import RequestRejected
from router.net.exchange import Exchange
from router.net.paths import shown_path
from router.policy.callers import Caller
from router.policy.hints import read_hints
from router.policy.makers import (
    ItemMakers,
    Maker,
    Unknown,
    as_provider,
    maker_of,
    not_found,
    require_own_state,
    server_of,
    sole_maker,
)
from router.policy.profiled import require_pinned
from router.policy.route import no_such_model
from router.policy.spend_tags import tag_of
from router.policy.telling import told
from telemetry.numbers import clipped


class StoredPath(Struct, frozen=True):
    """A path below something that lies at a provider."""

    stored: StoredId
    shown: str  # without its ids


def stored_path(method: str, path: str) -> StoredPath | None:
    """Return what a path asks for of a response or conversation by its id; None: of neither.

    A POST right below responses has no id there: what may follow is a verb.

    Raises:
        RequestRejected: another spelling of such a path, which a provider may take for it.
    """
    parts = path.split("/")[2:]
    kind = parts[0].partition(";")[0].lower()
    if len(parts) < 2 or kind not in HAVE_PATHS:
        return None
    if kind != parts[0]:
        raise RequestRejected("not_found", f"there is no {clipped(path)}; write /v1/{kind}/…")
    if kind == StoredKind.RESPONSE and method == "POST" and len(parts) == 2:
        return None
    shown = shown_path("/".join([kind, "*", *parts[2:]]))
    return StoredPath(StoredId(StoredKind(kind), parts[1]), shown)


def read_call(body: bytes, path: str, catalog: Catalog) -> CallRequest | OpaqueBody:
    """Return what is read of a call; unread where it is not well formed, and not ours to judge.

    Of a model that no endpoint lists the provider that takes it knows what may be asked.

    Raises:
        RequestRejected: not JSON, or a field that we read is missing or of the wrong type.
    """
    try:
        return PARSERS[path](body)
    except RequestRejected:
        if catalog.passthrough(path) is None or PARSERS[path] is chat.parse:
            raise
        opaque = take_hints(body, path)
        is_listed = opaque.model in catalog.by_id or opaque.model in catalog.by_model
        is_named = bool(opaque.model) or PARSERS[path] is responses.parse  # a prompt may name it
        if is_listed or is_reserved(opaque.model) or not is_named:
            raise
        return opaque


def _gone_on_in(opaque: OpaqueBody) -> Dialect:
    """Return in which dialect a body goes on from something; items are of Responses alone."""
    return opaque.continued.kind.dialect if opaque.continued else StoredKind.ITEM.dialect


def _foreseen(to: Provider, model: str, ruling: Ruling) -> dict[str, Any]:
    """Return what would be done with a request that is passed on: the answer of a dry run."""
    return {
        "endpoint": f"{to.name}/{model}" if model else to.name,
        "routed": False,
        "passthrough": True,
        "task": ruling.task.name,
        "found_by": ruling.task.found_by.value,
        "role": role.name if (role := ruling.asked.role.role) is not None else None,
        "policy": told(ruling.policy),
    }


def _offers_no_tool(path: str, body: object) -> bool:
    """Return whether a body is read, and offers no tool."""
    return dialect_at(path) is not None and isinstance(body, bytes) and not offered_tools(body)


class Passing:
    """Finds who is to get what is passed on, and remembers who made what."""

    def __init__(
        self,
        contexts: Contexts,
        passthrough: Passthrough,
        ids: StoredIds,
        clock: Callable[[], Moment],
    ) -> None:
        self.ids = ids
        self._clock = clock
        self._contexts = contexts
        self._passthrough = passthrough

    async def settle(
        self,
        exchange: Exchange,
        beliefs: Beliefs,
        caller: Caller,
        request: CallRequest,
        at: Moment,
        *,
        draws: bool = True,
    ) -> CallContext | Provider:
        """Return what is settled of a call before a draw, or who gets it as it is.

        Nothing is drawn where it goes on from what lies at a provider: who made that serves it.

        Args:
            draws: whether it is decided; a count of its tokens is not.

        Raises:
            RequestRejected: nobody takes it, or nobody can be asked for what it goes on from.
            StoreAway: who made that is not known while the store is away.
        """
        configuration, made = beliefs.configuration, request.continued
        to: Maker | None = None
        maker: Maker | None = None
        if request.references:
            maker = await self._maker_of_items(beliefs, caller, request)
        if made is not None:
            maker = await self._maker(beliefs, caller, made, in_body=True)
        if maker is not None:
            to = server_of(maker, request.model, caller.app, configuration, request.dialect)
        if isinstance(to, Provider):
            return to
        context = await self._contexts.of(
            beliefs, caller, exchange.headers, request, at, maker=to, draws=draws
        )
        found = context or taker(exchange, configuration.catalog)
        if found is None:
            raise no_such_model(request.model)
        return found

    async def pass_on(
        self,
        exchange: Exchange,
        beliefs: Beliefs,
        caller: Caller,
        opaque: OpaqueBody,
        *,
        to: Provider | None = None,
    ) -> None:
        """Pass on what is not ours to decide.

        Args:
            to: who is to get it; else whoever made what it goes on from, or the pass-through
                provider.

        Raises:
            RequestRejected, DispatchError: nobody can be asked, or nobody answered.
        """
        if to is None:  # else it was settled before
            maker = await self._maker_of_items(beliefs, caller, opaque)
            if opaque.continued is not None:
                maker = await self._maker(beliefs, caller, opaque.continued, in_body=True)
            if maker is not None:
                to = as_provider(maker, _gone_on_in(opaque))
        await self._pass(exchange, beliefs, caller, opaque, to=to)

    async def pass_by_id(
        self,
        exchange: Exchange,
        beliefs: Beliefs,
        caller: Caller,
        opaque: OpaqueBody,
        *,
        path: StoredPath,
    ) -> None:
        """Pass on what is asked of something by its id, to whoever made it.

        Raises:
            RequestRejected, DispatchError: as `pass_on`.
            StoreAway: who made it is not known while the store is away.
        """
        maker = await self._maker(beliefs, caller, path.stored, in_body=False)
        await self._maker_of_items(beliefs, caller, opaque)  # of an app's own alone
        named = OpaqueBody(opaque.body, opaque.declared, path.shown)
        to = as_provider(maker, path.stored.kind.dialect)
        await self._pass(exchange, beliefs, caller, named, to=to, is_by_id=True)

    async def _maker(
        self, beliefs: Beliefs, caller: Caller, stored: StoredId, *, in_body: bool
    ) -> Maker:
        configuration, app = beliefs.configuration, caller.app
        digest = await self.ids.find(app.name, stored)
        if digest is None:
            maker = sole_maker(configuration, app, stored.kind)
        else:
            maker = maker_of(digest, configuration.catalog, stored.kind.dialect) or Unknown.GONE
        if isinstance(maker, Unknown):
            raise not_found(stored, maker, in_body=in_body)
        return maker

    async def _maker_of_items(
        self, beliefs: Beliefs, caller: Caller, said: CallRequest | OpaqueBody
    ) -> Maker | None:
        """Return who made what a call holds the names of only, by the latest; None: any may serve.

        Raises:
            RequestRejected: of none it is known who made it; or of some, where another app's may
                lie at the same place.
            StoreAway: it is not known while the store is away.
        """
        makers = beliefs.configuration.derive(ItemMakers)
        named = said.references if makers.matter_to(caller.app) else ()
        if not named:
            return None  # most often
        found = await self.ids.find_all(caller.app.name, named)
        known = [digest for digest in found if digest is not None]
        if not known or (len(known) < len(found) and makers.are_shared(caller.app)):
            why = Unknown.SEVERAL if makers.are_several else Unknown.SHARED
            raise not_found(named[found.index(None)], why, in_body=True)
        maker = maker_of(known[-1], beliefs.configuration.catalog, StoredKind.ITEM.dialect)
        if maker is None:
            raise not_found(named[found.index(known[-1])], Unknown.GONE, in_body=True)
        return maker

    async def _pass(
        self,
        exchange: Exchange,
        beliefs: Beliefs,
        caller: Caller,
        opaque: OpaqueBody,
        *,
        to: Provider | None,
        is_by_id: bool = False,
    ) -> None:
        configuration, method = beliefs.configuration, exchange.method
        to = to or taker(exchange, configuration.catalog)
        if to is None:
            raise nobody_takes(exchange.path)
        if not is_by_id:
            require_own_state(to, configuration, caller.app, method=method, path=exchange.path)
        hints = read_hints(
            exchange.headers,
            opaque.declared,
            configuration.classes,
            has_user=caller.has_user,
        )
        at = self._clock()
        session = await self._contexts.session_of(configuration, caller, hints, at)
        if not hints.dry_run:  # what is refused was said, too
            note_said(self._contexts.sessions, session, at, data_class=hints.data_class)
        require_pinned(hints, opaque.model, ())
        if hints.is_agents and _offers_no_tool(exchange.path, opaque.body):
            session = session.aside()
        read = opaque.read if dialect_at(exchange.path) is not None else nothing_read
        ruling = ruled(configuration, caller, hints, opaque.model, session.said, read, off=True)
        body = opaque.body
        if isinstance(body, bytes) and (dialect_at(exchange.path) or body.lstrip()[:1] == b"{"):
            require_tools(ruling.policy, partial(offered_tools, body))
        require_permitted(ruling.policy, to)
        if dialect_at(exchange.path) is not None:
            require_bounds(ruling.policy, to)
        if ruling.policy.keeps_nothing:
            opaque = kept_nowhere(opaque, to, method=method, path=exchange.path)
        spend_tag = tag_of(caller.app, hints)
        claims = self._contexts.claims_of(
            configuration, caller, hints, spend_tag, at, standing=ruling.standing, is_routed=False
        )
        claims = of_passed(claims, method=method, path=exchange.path, is_by_id=is_by_id)
        leaves_ids = method == "POST" and any(kind.made_at == exchange.path for kind in StoredKind)
        note = partial(self._note, caller.app.name, opaque.kept, to) if leaves_ids else None
        tells_items = configuration.derive(ItemMakers).matter_to(caller.app) and (
            is_by_id or opaque.kept is StoredKind.RESPONSE
        )
        passed = Passed(
            caller,
            opaque.body,
            opaque.model,
            ruling.task.name,
            ruling.policy,
            hints.reference,
            note,
            partial(self._note_items, caller.app.name, to) if tells_items else None,
            is_by_id,
            ruling.asked.role.role,
            session.episode,
            version_digest(hints),
            hints.user,
            spend_tag,
            claims,
        )
        if hints.dry_run:
            spending, path = self._passthrough.spending, exchange.path
            budgets = PassedBudgets(spending, passed, to, configuration.catalog, path)
            rows = await budgets.preview(at_s=at.epoch_s)
            foreseen = {**_foreseen(to, opaque.model, ruling), "budgets": rows}
            await exchange.respond_json(200, foreseen)
            return
        self._contexts.keeper.tag_names.note(spend_tag)
        await self._passthrough.serve(
            exchange,
            passed,
            to,
            configuration,
            deadline_s=deadline_s(configuration.server.deadline_s, exchange.headers),
        )

    def _note(
        self,
        app: str,
        kept: StoredKind | None,
        maker: Provider,
        answer_id: str | None,
        container: str | None,
    ) -> None:
        """Remember who made what an app is told the ids of."""
        for stored in left_behind(kept, answer_id, container):
            self.ids.note(app, stored, maker.digest)

    def _note_items(self, app: str, maker: Provider, items: Sequence[str]) -> None:
        """Remember who made the items that an app is told of."""
        for id_ in items:
            self.ids.note(app, StoredId(StoredKind.ITEM, id_), maker.digest)
