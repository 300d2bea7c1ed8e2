"""Feedback as it comes in over HTTP: checked whole, then written to the journal.

Four ways to name decisions: by id, the answer's own id, the caller's reference, or the session or
episode that they are of. One field says what is thought of them. What is named by id goes to its
decision; what any other name means is for a worker to find out, who knows what all processes had
decided when it was received. Here it is only refused where it is known already to mean several.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from router.decision.seal import Seal
from router.dispatch.recent import RecentNames
from router.errors import RequestRejected
from router.intake.items import EPISODES, FeedbackItem, bad_feedback, parse
from router.policy.callers import Caller
from router.policy.hints import session_id_of, short_name
from telemetry import event_ids, events
from telemetry.digests import episode_digest, episode_name, name_digest
from telemetry.events import FeedbackKind, Flag, Match
from telemetry.keyring import Keyring
from telemetry.numbers import brief
from telemetry.references import MAX_REFERENCES, choose, in_order, is_full, look_up, up_to
from telemetry.store import Client, StoreErrors
from telemetry.tokens import Token, under_key
from telemetry.writer import Writer

MAX_AGE_MS = 30 * 86_400_000


class FeedbackDesk:
    """Takes feedback in; one for the process.

    A store that is known to be away is not asked what a reference means.
    """

    def __init__(
        self,
        writer: Writer,
        seal: Seal,
        client: Client,
        recent: RecentNames,
        keyring: Keyring,
        *,
        n_shards: int,
        is_store_up: Callable[[], bool] = lambda: True,
    ) -> None:
        self._writer = writer
        self._seal = seal
        self._client = client
        self._recent = recent
        self._keyring = keyring
        self._n_shards = n_shards
        self._is_store_up = is_store_up

    def close(self) -> None:
        """Let go of the store."""
        self._client.close()

    async def take(
        self, body: bytes, caller: Caller, *, episode: str | None = None
    ) -> list[dict[str, Any]]:
        """Write everything in `body`, or nothing; return what became of each item.

        Args:
            episode: that all of it is about, where the request's path names one.

        Raises:
            RequestRejected: an item is wrong; names its field, and its place in a batch.
        """
        items = parse(body, episode=episode)
        now_ms = self._writer.clock.now_ms()
        addressed = await self.address(items, caller, now_ms)
        out = []
        for item, tokens in zip(items, addressed, strict=True):
            if isinstance(tokens, RequestRejected):
                raise tokens
            out.append((item, tokens, event_ids.new_event_id(now_ms)))
        return [
            self.write(item, tokens, event, caller, received_ms=now_ms)
            for item, tokens, event in out
        ]

    async def address(
        self, items: list[FeedbackItem], caller: Caller, received_ms: int
    ) -> list[list[bytes] | RequestRejected]:
        """Return the packed tokens of the decisions that each item means, or what is wrong.

        Of those named by a reference: as far as is known here, folded or not; none at all where it
        is not known yet.

        Args:
            received_ms: when they came, on the store's clock.
        """
        await self._know_keys_of(items)
        named = [self._name_of(item, caller) for item in items]
        asked = [i for i, name in enumerate(named) if name is not None]
        digests = [name for name in named if name is not None]
        if asked and self._is_store_up():
            found = await asyncio.to_thread(self._look_up, digests)
        else:
            found = [[] for _ in asked]
        by_place = {
            i: up_to(in_order([*stored, *self._recent.of(digest)]), received_ms)
            for i, digest, stored in zip(asked, digests, found, strict=True)
        }
        out: list[list[bytes] | RequestRejected] = []
        for i, item in enumerate(items):
            try:
                _require_no_derived(item, caller)
                out.append(self._meant(item, by_place.get(i, []), caller))
            except RequestRejected as error:
                error.param = item.at + item.name
                out.append(error)
        return out

    async def _know_keys_of(self, items: list[FeedbackItem]) -> None:
        """Ask the store for its keys where another router may have sealed by one that is new."""
        ids = [item.id for item in items if item.name == "decision_id"]
        if self._is_store_up() and any(map(self._seal.is_of_unknown_key, ids)):
            await asyncio.to_thread(self._keyring.look, self._client)

    def write(
        self,
        item: FeedbackItem,
        tokens: list[bytes],
        event: bytes,
        caller: Caller,
        *,
        received_ms: int,
    ) -> dict[str, Any]:
        """Write one addressed item; return what became of it.

        Args:
            tokens: as `address` found them.
            received_ms: when it came, on the store's clock.

        Raises:
            RequestRejected: the journal is full.
        """
        if not self._writer.put(self._record(item, tokens, event, caller, received_ms)):
            raise journal_full()
        status = "accepted" if tokens else "held"
        return {"status": status, "event_id": event.hex(), "decisions": len(tokens)}

    def _meant(self, item: FeedbackItem, tokens: list[bytes], caller: Caller) -> list[bytes]:
        if item.name == "decision_id":
            token, body = self._open(item, caller)
            return [body] if token.executed else tokens
        if item.match is Match.ALL and is_full(tokens):
            raise RequestRejected(
                "too_many_decisions",
                f"{item.name} {brief(item.id)} names over {MAX_REFERENCES - 1} decisions, of which "
                "the oldest are not kept; send match: last, or feedback for each decision_id",
                param=item.name,
            )
        meant = choose(tokens, item.match)
        if tokens and not meant:
            candidates = [self._seal.close(under_key(t, self._seal.key_id)) for t in tokens]
            raise RequestRejected(
                "ambiguous_reference",
                f"{item.name} {brief(item.id)} names {len(tokens)} decisions; "
                "send match: last or all, or one of the candidates as decision_id",
                param=item.name,
                details={"candidates": candidates},
            )
        return meant

    def _name_of(self, item: FeedbackItem, caller: Caller) -> bytes | None:
        """Return what the item's decisions are looked up by; None where its id says it all.

        An id that left before it was known who would answer is looked up by its nonce.
        """
        if item.name in EPISODES:
            return episode_name(episode_digest(caller.app.name, session_id_of(item.id)))
        if item.name != "decision_id":
            kind = "response" if item.name == "response_id" else "ref"
            said = short_name(item.id) if kind == "ref" else item.id
            return name_digest(caller.app.name, kind, said)
        try:
            token, _ = self._open(item, caller)
        except RequestRejected:
            return None  # it is told where the item is addressed
        return None if token.executed else token.nonce

    def _open(self, item: FeedbackItem, caller: Caller) -> tuple[Token, bytes]:
        token, body = self._seal.open(item.id)
        if token.app != caller.app.digest or token.shard >= self._n_shards:
            raise RequestRejected(
                "decision_not_found", "no decision of this app has this id", param="decision_id"
            )
        if self._writer.clock.now_ms() - token.decided_at_ms > MAX_AGE_MS:
            raise RequestRejected(
                "too_old",
                "this decision is over 30 days old; feedback no longer counts",
                param="decision_id",
            )
        return token, body

    def _look_up(self, digests: list[bytes]) -> list[list[bytes]]:
        try:
            return look_up(self._client, digests, n_shards=self._n_shards)
        except StoreErrors:
            return [[] for _ in digests]

    def _record(
        self,
        item: FeedbackItem,
        tokens: list[bytes],
        event: bytes,
        caller: Caller,
        received_ms: int,
    ) -> bytes:
        digest = self._name_of(item, caller)
        said = partial(
            events.feedback,
            kind=item.kind,
            value=item.value,
            revision=item.revision,
            event=event,
            received_at_ms=received_ms,
        )
        if digest is None:
            return said(tokens[0])
        shard, known = digest[0] % self._n_shards, int(Flag.KNOWN) if tokens else 0
        return said(
            None,
            reference=digest,
            app=caller.app.digest,
            shard=shard,
            match=item.match,
            flags=known,
        )


def _require_no_derived(item: FeedbackItem, caller: Caller) -> None:
    """Refuse what would pass for read off a call, where what users say is bounded.

    Raises:
        RequestRejected: the app has raters, and the item is a derived label.
    """
    if caller.app.entry.raters and item.kind is FeedbackKind.DERIVED:
        raise bad_feedback(
            f"{item.name} {brief(item.id)}: an app with raters takes no derived label (retried, or "
            "kind: derived), as those are not bounded by rater; send score, passed, thumb or "
            "edit_ratio, of another kind",
            item.name,
        )


def journal_full() -> RequestRejected:
    """Return the refusal of what cannot be made safe."""
    return RequestRejected("telemetry_full", "the journal is full; try again later")
