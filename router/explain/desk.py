"""Why, for whoever asks: which decision is meant, where it is kept, and what that says.

A decision is named by its id, by the beginning of a short id, by the id of its answer, or by the
caller's reference. It is looked for in this process's files and in the store.
"""

from __future__ import annotations

import re
import sqlite3
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import structlog

from router.config.compiled import App, Configuration
from router.decision.seal import PREFIX, Seal
from router.errors import RequestRejected
from router.explain import kept
from router.explain.counterfactual import counterfactual
from router.explain.explanation import session_name
from router.explain.kept import KeptIn
from router.explain.rows import NONCE_BYTES
from router.explain.sentence import finish
from router.explain.session import SessionDecisions
from router.explain.told import time_of
from router.policy.hints import session_id_of, short_name
from telemetry.digests import episode_digest, name_digest
from telemetry.keyring import Keyring
from telemetry.numbers import brief
from telemetry.references import in_order, look_up
from telemetry.store import Client, StoreErrors
from telemetry.tokens import TOKEN_SIZE, Token

log = structlog.get_logger()

LEAST_SHORT = 4
"""Digits of a short id."""
NONCE_AT = 8
"""Where a token has its nonce."""
WHOLE_CHARACTERS = TOKEN_SIZE * 4 // 3
"""An id of a decision that is shorter than this is the beginning of one."""
BITS_A_CHARACTER, BITS_A_DIGIT = 6, 4
LEAST_CHARACTERS = len(PREFIX) + -(-(NONCE_AT + 1) * 8 // BITS_A_CHARACTER)
"""Of an id of a decision: with less all of a shard and key begin alike, or nearly so."""
WRITTEN_S = 2.0
"""After so long a router has written a decision down where the others find it."""
FOLDED_S = 0.5
"""After so long the store knows mostly what names a decision that another router made."""
AGAIN_S = 0.1
Failures = (*StoreErrors, sqlite3.Error, ValueError, KeyError)


class MeantDecision(NamedTuple):
    """A decision that somebody named."""

    nonce: bytes  # or its first bytes
    decided_at_ms: int
    executed: int = 0  # digest of who answered; 0 where that is not known
    drawn: int = 0


class FoundBody(NamedTuple):
    """What is kept of a decision."""

    body: dict[str, Any]
    unit: bytes
    answered_by: str | None  # another than the drawn endpoint


class ExplainDesk:
    """Explains decisions; every method waits for disk or store, so ask it in a thread."""

    def __init__(
        self,
        places: Sequence[KeptIn],
        client: Client,
        *,
        n_shards: int,
        open_id: Callable[[str], Token],
        flush: Callable[[], None] = lambda: None,
        recent: Callable[[bytes], list[bytes]] = lambda digest: [],
    ) -> None:
        """Make it.

        Args:
            places: where decisions are kept, the nearest first.
            client: of the store, whose index knows references.
            open_id: returns what a decision id carries, or raises RequestRejected.
            flush: has what waits written down.
            recent: returns tokens that a name means and that the store may not know yet.
        """
        self._places = places
        self._client = client
        self._n_shards = n_shards
        self._open = open_id
        self._flush = flush
        self._recent = recent

    def explain(self, name: str, configuration: Configuration) -> dict[str, Any]:
        """Return the explanation of the decision that is named so.

        Raises:
            RequestRejected: none is, several are, or nothing of it is kept.
        """
        self._flush()
        meant = self._meant(name, configuration)
        if len(meant) > 1:
            raise _several(name, meant, configuration)
        return self._told(meant[0], configuration)

    def last(self, configuration: Configuration) -> dict[str, Any]:
        """Return the explanation of the last decision that is kept anywhere.

        Raises:
            RequestRejected: none is kept.
        """
        self._flush()
        found = [row for row in self._ask(kept.last_of) if row is not None]
        if not found:
            raise self._not_kept(configuration)
        row = max(found, key=lambda row: row.decided_at_ms)
        return self._told(MeantDecision(row.nonce, row.decided_at_ms), configuration)

    def session(
        self, id_: str, configuration: Configuration, app: App | None = None
    ) -> dict[str, Any]:
        """Return the decisions of a session or episode, with how often each way is.

        Args:
            app: whose calls alone are meant; None: those of all apps.

        Raises:
            RequestRejected: nothing is kept of it.
        """
        self._flush()
        apps = configuration.apps if app is None else (app.name,)
        said = session_id_of(id_)
        found = SessionDecisions({session_name(episode_digest(app, said)): app for app in apps})
        read = set(self._ask(found.read))
        unread = [place.name for place in self._places if place.name not in read]
        if not found:
            raise self._no_session(id_, unread, configuration)
        told = found.told()
        told["missing"]["unread"] = unread
        since_ms = dict(self._ask(lambda place: (place.name, place.since_ms())))
        return {"session": id_, "since_ms": since_ms, **told}

    def _meant(self, name: str, configuration: Configuration) -> list[MeantDecision]:
        """Return the decisions that a name means, at least one."""
        beginning = beginning_in(name)
        if beginning is None and name.startswith(PREFIX):
            if len(name) < LEAST_CHARACTERS:
                raise _too_short(name)
            token = self._open(name)
            return [_as_meant(token)]
        found = self._named(name, beginning, configuration)
        ends_at = time.monotonic() + FOLDED_S
        while not found and time.monotonic() < ends_at:
            time.sleep(AGAIN_S)  # another router's may be about to be folded
            found = self._named(name, beginning, configuration)
        if not found:
            raise RequestRejected(
                "bad_decision_id" if name.startswith(PREFIX) else "decision_not_found",
                f"{brief(name)} is no decision id, and no answer's id, reference or beginning of "
                "a short id that is known here",
                param="decision_id",
            )
        return found

    def _named(
        self, name: str, beginning: str | None, configuration: Configuration
    ) -> list[MeantDecision]:
        found = self._by_reference(name, configuration)
        if not found and beginning is not None:
            found = self._by_beginning(beginning)
        return found

    def _by_reference(self, name: str, configuration: Configuration) -> list[MeantDecision]:
        """Return what an answer's id or a reference names, of whatever app."""
        digests = [
            name_digest(app, kind, said)
            for app in configuration.apps
            for kind, said in (("response", name), ("ref", short_name(name)))
        ]
        tokens = [token for digest in digests for token in self._recent(digest)]
        try:
            for found in look_up(self._client, digests, n_shards=self._n_shards):
                tokens += found
        except StoreErrors as error:
            log.warning("references cannot be asked for", error=type(error).__name__)
        return [_as_meant(Token.unpack(token)) for token in in_order(tokens)]

    def _by_beginning(self, beginning: str) -> list[MeantDecision]:
        """Return the decisions whose ids begin so: in the store, else in the files."""
        for rows in self._ask(lambda place: kept.beginning_with(place, beginning), backwards=True):
            if rows:
                return [MeantDecision(row.nonce, row.decided_at_ms) for row in rows]
        return []

    def _told(self, meant: MeantDecision, configuration: Configuration) -> dict[str, Any]:
        found = self._find(meant)
        ends_at = min(meant.decided_at_ms / 1000, time.time()) + WRITTEN_S  # whatever clocks say
        while found is None and time.time() < ends_at:
            time.sleep(AGAIN_S)  # another router may be about to write it
            found = self._find(meant)
        if found is None:
            raise self._not_kept(configuration)
        body, unit, answered = found
        executed = configuration.catalog.by_digest.get(meant.executed)
        body["answered_by"] = executed.id if executed else answered or body["drawn"]
        body["draw_of"] = self._draw_of(unit, body["follows"])
        body["counterfactual"] = _otherwise(body)
        return finish(body)

    def _find(self, meant: MeantDecision) -> FoundBody | None:
        found = self._ask(lambda place: _found(place, meant))
        return next((each for each in found if each is not None), None)

    def _draw_of(self, unit: bytes, follows: dict[str, int] | None) -> dict[str, Any] | None:
        """Return the explanation of the draw that a decision follows, where that is kept."""
        if follows is None:
            return None
        draws = self._ask(lambda place: kept.find_draw(place, unit, follows["decided_at_ms"]))
        return next((draw for draw in draws if draw is not None), None)

    def _ask(self, question: Callable[[KeptIn], Any], *, backwards: bool = False) -> Iterator[Any]:
        """Yield what each place says; one that cannot be read says nothing."""
        for place in reversed(self._places) if backwards else self._places:
            try:
                yield question(place)
            except Failures as error:
                log.error("decisions cannot be read", error=type(error).__name__, detail=str(error))

    def _not_kept(self, configuration: Configuration) -> RequestRejected:
        kept, since = self._kept_since(configuration)
        return RequestRejected(
            "decision_not_kept",
            f"of this decision nothing is kept: {kept}; nor is any of a call that was passed "
            "through or told of, or that was cut by a crash",
            param="decision_id",
            details={"since_ms": since},
        )

    def _no_session(
        self, id_: str, unread: list[str], configuration: Configuration
    ) -> RequestRejected:
        kept, since = self._kept_since(configuration)
        also = f"; not all of the {' and the '.join(unread)} was read" if unread else ""
        return RequestRejected(
            "decision_not_kept",
            f"of a session {brief(id_)} nothing is kept: {kept}{also}; nor is any call known here "
            "that was passed through, or that another app made",
            param="session",
            details={"since_ms": since},
        )

    def _kept_since(self, configuration: Configuration) -> tuple[str, int | None]:
        """Return in words and in epoch milliseconds since when decisions are kept."""
        since = min(filter(None, self._ask(lambda place: place.since_ms())), default=None)
        oldest = f"the oldest decision kept here is of {time_of(since)}" if since else "none is"
        days, mb = configuration.server.explain_days, configuration.store.explain_store_mb
        said = f"server.explain_days is {days:g}, store.explain_store_mb {mb}, and {oldest}"
        return said, since


def opener(seal: Seal, keyring: Keyring, client: Client) -> Callable[[str], Token]:
    """Return what opens decision ids of whatever app and age, as any router of the store sealed."""

    def opened(decision_id: str) -> Token:
        if seal.is_of_unknown_key(decision_id):
            keyring.look(client)
        return seal.open(decision_id)[0]

    return opened


def beginning_in(name: str) -> str | None:
    """Return the hexadecimal digits with which a decision's nonce begins, as a short id says.

    That is the beginning of `x-request-id`, or of a decision id as far as its nonce. None where it
    is no beginning.
    """
    if re.fullmatch(rf"[0-9a-fA-F]{{{LEAST_SHORT},32}}", name):
        return name.lower()[: 2 * NONCE_BYTES]
    if not name.startswith(PREFIX) or len(name) - len(PREFIX) >= WHOLE_CHARACTERS:
        return None
    text = name[len(PREFIX) :]
    n_digits = (len(text) * BITS_A_CHARACTER - NONCE_AT * 8) // BITS_A_DIGIT
    if len(name) < LEAST_CHARACTERS or not re.fullmatch(r"[\w-]*", text, re.ASCII):
        return None
    raw = urlsafe_b64decode(text + "A" * (-len(text) % 4))
    return raw[NONCE_AT : NONCE_AT + NONCE_BYTES].hex()[:n_digits]


def _too_short(name: str) -> RequestRejected:
    return RequestRejected(
        "bad_decision_id",
        f"{brief(name)} is too short to tell decisions apart: give the first {LEAST_CHARACTERS} "
        "characters of an id, or more",
        param="decision_id",
    )


def _found(place: KeptIn, meant: MeantDecision) -> tuple[dict[str, Any], bytes, str | None] | None:
    found = kept.find(place, meant.nonce, meant.decided_at_ms)
    return None if found is None else FoundBody(found.body(), found.row.unit, found.answered_by)


def _otherwise(body: dict[str, Any]) -> dict[str, Any] | None:
    """Return what another strategy would have done, by the numbers of its draw."""
    told = body if body["draw"] else body["draw_of"]
    drawn = told["draw"] if told is not None else None
    rows = drawn["candidates"] if drawn is not None else body["known"]
    excluded = body["exclusions"] or {}  # of this call: its draw may have been another's
    allowed = [row for row in rows or [] if row["endpoint"] not in excluded]
    return counterfactual(allowed, body["objective"], body["drawn"])


def _as_meant(token: Token) -> MeantDecision:
    return MeantDecision(token.nonce, token.decided_at_ms, token.executed, token.drawn)


def _several(
    name: str, meant: Sequence[MeantDecision], configuration: Configuration
) -> RequestRejected:
    by_digest = configuration.catalog.by_digest
    drawn = [by_digest.get(each.drawn) for each in meant]
    candidates = [
        {
            "id": each.nonce.hex()[: kept.SHORT_CHARACTERS],
            "decided_at_ms": each.decided_at_ms,
            "drawn": endpoint.id if endpoint is not None else None,
        }
        for each, endpoint in zip(meant, drawn, strict=True)
    ]
    return RequestRejected(
        "ambiguous_reference",
        f"{brief(name)} names {len(meant)} decisions; ask for one of the candidates by its id",
        param="decision_id",
        details={"candidates": candidates},
    )
