"""Feedback as it comes in over HTTP: checked whole, then written to the journal.

Three ways to name the decision: its id, the answer's own id, the caller's reference. One field
says what is thought of it. What is named by id goes to its decision; what a reference means is for
a worker to find out, who knows what all processes had decided when it was received. Here it is
only refused where it is known already to mean several.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from router.decision.seal import Seal
from router.dispatch.recent import RecentNames
from router.errors import RequestRejected
from router.policy.callers import Caller
from router.policy.hints import short_name
from telemetry import events
from telemetry.columns import BadColumns, meant, once
from telemetry.digests import name_digest
from telemetry.events import FeedbackKind, Flag, Match
from telemetry.keyring import Keyring
from telemetry.names import NotText, text_of
from telemetry.numbers import brief, is_number, unsendable, whole_of
from telemetry.references import MAX_REFERENCES, choose, in_order, is_full, look_up, up_to
from telemetry.store import Client, StoreErrors
from telemetry.tokens import Token, under_key
from telemetry.wire.lenient import read_as_written
from telemetry.writer import Writer

MAX_BATCH = 1000
MAX_NAME = 4096
MAX_AGE_MS = 30 * 86_400_000
NAMES = ("decision_id", "response_id", "ref")
VALUES = ("score", "passed", "thumb", "edit_ratio", "retried")
OPTIONS = ("kind", "revision", "match")
KIND_OF = {
    "score": FeedbackKind.JUDGE,
    "passed": FeedbackKind.TEST,
    "thumb": FeedbackKind.HUMAN,
    "edit_ratio": FeedbackKind.EDIT,
    "retried": FeedbackKind.DERIVED,
}
KINDS = {kind.name.lower(): kind for kind in FeedbackKind}


@dataclass(frozen=True, slots=True)
class FeedbackItem:
    """One feedback, checked."""

    name: str  # which of NAMES
    id: str
    kind: FeedbackKind
    value: float | None  # in [0, 1]; None retracts
    revision: int
    match: Match
    at: str = ""  # its place in a batch


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

    async def take(self, body: bytes, caller: Caller) -> list[dict[str, Any]]:
        """Write everything in `body`, or nothing; return what became of each item.

        Raises:
            RequestRejected: an item is wrong; names its field, and its place in a batch.
        """
        items = parse(body)
        now_ms = self._writer.clock.now_ms()
        addressed = await self.address(items, caller, now_ms)
        out = []
        for item, tokens in zip(items, addressed, strict=True):
            if isinstance(tokens, RequestRejected):
                raise tokens
            out.append((item, tokens, events.new_event_id(now_ms)))
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
        raise _bad(
            f"{item.name} {brief(item.id)}: an app with raters takes no derived label (retried, or "
            "kind: derived), as those are not bounded by rater; send score, passed, thumb or "
            "edit_ratio, of another kind",
            item.name,
        )


def parse(body: bytes) -> list[FeedbackItem]:
    """Return the items in a body: one object, or an array of them.

    Raises:
        RequestRejected: names the field at fault.
    """
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _no_json(body, error) from None
    try:
        json.loads(body, object_pairs_hook=once)
    except BadColumns as error:
        raise _bad(str(error), error.name) from None
    except (ValueError, RecursionError) as error:
        raise _bad(f"this is JSON that not every reader takes: {error}", "") from None
    if isinstance(value, dict):
        return [parse_item(value, "")]
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_BATCH:
        raise RequestRejected(
            "bad_feedback", f"send one object, or an array of 1 to {MAX_BATCH} of them"
        )
    return [parse_item(item, f"[{i}].") for i, item in enumerate(value)]


def parse_item(raw: object, at: str) -> FeedbackItem:
    """Return one item; `at` is its place, for messages.

    Raises:
        RequestRejected: names the field at fault.
    """
    if not isinstance(raw, dict):
        raise _bad(f"{at or 'the body'} is no object", at.rstrip("."))
    unknown = [k for k in raw if k not in NAMES + VALUES + OPTIONS]
    if unknown:
        known = ", ".join(NAMES + VALUES + OPTIONS)
        near = meant(unknown[0], NAMES + VALUES + OPTIONS)
        hint = f"did you mean {near}? known" if near else "known"
        raise _bad(f"unknown field {brief(unknown[0])}; {hint}: {known}", at + unknown[0])
    name = _only(raw, NAMES, at, "name the decision by exactly one of")
    said = _only(raw, VALUES, at, "say what is thought of it by exactly one of")
    try:
        identifier = text_of(raw[name])
    except NotText as error:
        raise _bad(f"{name} {error}", at + name) from None
    if not 0 < len(identifier) <= MAX_NAME:
        wrong = f"{name} has {len(identifier)} characters"
        raise _bad(f"{wrong}; it must be a string of 1 to {MAX_NAME}", at + name)
    kind = KIND_OF[said]
    if "kind" in raw:
        named = KINDS.get(raw["kind"].lower()) if isinstance(raw["kind"], str) else None
        if named is None:
            wrong = f"kind {brief(raw['kind'])} is unknown"
            raise _bad(f"{wrong}; known: {', '.join(KINDS)}", at + "kind")
        kind = named
    revision = whole_of(raw.get("revision", 0))
    if revision is None or not 0 <= revision < 2**32:
        wrong = f"revision is {brief(raw['revision'])}"
        raise _bad(f"{wrong}; it must be a whole number from 0", at + "revision")
    match = raw.get("match")
    if match not in (None, "last", "all"):
        raise _bad(f"match is {brief(match)}; it must be last or all", at + "match")
    chosen = {None: Match.ONE, "last": Match.LAST, "all": Match.ALL}[match]
    value = value_of(said, raw[said], at + said)
    return FeedbackItem(name, identifier, kind, value, revision, chosen, at)


def _only(raw: dict[str, Any], names: tuple[str, ...], at: str, ask: str) -> str:
    given = [n for n in names if n in raw]
    if len(given) != 1:
        got = f"; got {', '.join(given)}" if given else ""
        raise _bad(f"{ask} {', '.join(names)}{got}", at + (given[1] if given else names[0]))
    return given[0]


def value_of(said: str, value: object, field: str) -> float | None:
    """Return what was said as a reward in [0, 1].

    Raises:
        RequestRejected: `value` is none that `said` may have.
    """
    if value is None:
        return None
    match said:
        case "passed" if isinstance(value, bool):
            return float(value)
        case "thumb" if value in ("up", "down"):
            return float(value == "up")
        case "retried" if value is True:
            return 0.0
        case "score" | "edit_ratio":
            if is_number(value) and 0 <= value <= 1:
                return 1.0 - value if said == "edit_ratio" else float(value)
    hint = {
        "passed": "true or false",
        "thumb": "up or down",
        "retried": "true (leave it out otherwise)",
        "score": "a number from 0 to 1",
        "edit_ratio": "a number from 0 (kept as it was) to 1",
    }[said]
    raise _bad(f"{field} is {brief(value)}; it must be {hint}, or null to retract", field)


def journal_full() -> RequestRejected:
    """Return the refusal of what cannot be made safe."""
    return RequestRejected("telemetry_full", "the journal is full; try again later")


def _no_json(body: bytes, error: Exception) -> RequestRejected:
    """Return the refusal of what is no JSON; by its field where only a number makes it none."""
    try:
        said = unsendable(read_as_written(body))
    except (ValueError, RecursionError):
        said = ""
    if said:
        return _bad(said, said.partition(" is ")[0])
    return RequestRejected("invalid_json", f"the body is not JSON: {error}")


def _bad(message: str, field: str) -> RequestRejected:
    return RequestRejected("bad_feedback", message, param=field)
