"""Events of others as they come in over HTTP: all of a batch is taken, or nothing.

`source` and `id` name an event. From them follow an outcome's nonce and shard and a feedback's
event id, so that one told twice, to whichever process, has no second effect.
"""

from __future__ import annotations

import asyncio
import difflib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from router.beliefs.tag_names import TagNames
from router.config.compiled import Configuration
from router.config.entries import GENERAL
from router.decision.seal import Seal
from router.dispatch import booking, records
from router.dispatch.episodes import NamedEpisodes
from router.dispatch.recent import RecentNames
from router.endpoints.catalog import Endpoint
from router.errors import RequestRejected
from router.intake.feedback import FeedbackDesk, journal_full
from router.intake.forms import once_each, split
from router.intake.items import KIND_OF, FeedbackItem, parse_item, value_of
from router.intake.spent import ended_of
from router.policy.callers import Caller
from router.policy.hints import session_id_of, short_name
from router.policy.spend_tags import SpendTag, spend_tag_of
from telemetry import event_ids, ingest
from telemetry.digests import digest16, episode_digest
from telemetry.errors import BadEvent
from telemetry.events import FeedbackKind, Flag, Result
from telemetry.ingest import FeedbackEvent, Outcome, OutcomeEvent
from telemetry.numbers import brief
from telemetry.secret import StoreSecret
from telemetry.writer import Writer

SLICE = 50
"""Events between two looks at what else there is to do: about a millisecond."""
MAX_WARNINGS = 20
INGESTED = int(Flag.INGESTED)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class EventProblem:
    """What is wrong with one event of a batch."""

    index: int
    field: str
    code: str
    message: str


@dataclass(slots=True)
class EventBatch:
    """Events taken apart: records to write, feedback to address, and what is wrong."""

    outcomes: list[bytes] = field(default_factory=list)
    feedback: list[tuple[int, FeedbackItem, bytes]] = field(
        default_factory=list
    )  # index, item, event id
    warnings: Counter[str] = field(default_factory=Counter)
    problems: list[EventProblem] = field(default_factory=list)
    episodes: NamedEpisodes = field(default_factory=NamedEpisodes)  # that it names
    tags: list[SpendTag] = field(default_factory=list)


class EventDesk:
    """Takes events in; one for the process."""

    def __init__(
        self,
        writer: Writer,
        desk: FeedbackDesk,
        recent: RecentNames,
        *,
        seal: Seal,
        secret: StoreSecret,
        tags: TagNames,
        n_shards: int,
    ) -> None:
        self._writer = writer
        self._desk = desk
        self._recent = recent
        self._seal = seal
        self._secret = secret
        self._tags = tags
        self._n_shards = n_shards

    async def take(
        self,
        body: bytes,
        headers: Sequence[tuple[bytes, bytes]],
        caller: Caller,
        configuration: Configuration,
        *,
        dry_run: bool,
    ) -> dict[str, Any]:
        """Write every event in a request, or none; return how many there were.

        Raises:
            RequestRejected: events are wrong, each is named; or the journal is full.
        """
        raws = split(body, once_each(headers))
        batch = EventBatch()
        now_ms = self._writer.clock.now_ms()
        for part in _slices(list(enumerate(raws))):
            for index, raw in part:
                self._read(index, raw, batch, caller, configuration, now_ms)
            await asyncio.sleep(0)
        items = [item for _, item, _ in batch.feedback]
        addressed = []
        for (index, _, _), found in zip(
            batch.feedback, await self._desk.address(items, caller, now_ms), strict=True
        ):
            if isinstance(found, RequestRejected):
                problem = EventProblem(index, found.param or "", found.code, str(found))
                batch.problems.append(problem)
            else:
                addressed.append(found)
        if batch.problems:
            raise _rejected(batch.problems)
        if not dry_run:
            await self._write(batch, addressed, caller, now_ms)
        return _answer(len(raws), batch, dry_run=dry_run)

    def _read(
        self,
        index: int,
        raw: bytes,
        batch: EventBatch,
        caller: Caller,
        configuration: Configuration,
        now_ms: int,
    ) -> None:
        """Add one event to the batch, or what is wrong with it."""
        try:
            event = ingest.parse(raw)
            at_ms = _time(event, now_ms)
            key = digest16(caller.app.name, "event", event.source, event.id)
            if isinstance(event, FeedbackEvent):
                item = parse_item(event.data, "data.")
                batch.feedback.append((index, item, event_ids.ingested_event_id(at_ms, key)))
            else:
                endpoint = _endpoint(event.data, configuration)
                task = _task(event.data, caller, configuration, batch.warnings)
                outcome = self._outcome(event, endpoint, task, key, at_ms, caller, batch)
                batch.outcomes.append(outcome)
        except BadEvent as error:
            batch.problems.append(EventProblem(index, error.field, "bad_event", str(error)))
        except RequestRejected as error:
            problem = EventProblem(index, error.param or "", error.code, str(error))
            batch.problems.append(problem)

    def _outcome(
        self,
        event: OutcomeEvent,
        endpoint: Endpoint,
        task: str,
        key: bytes,
        at_ms: int,
        caller: Caller,
        batch: EventBatch,
    ) -> bytes:
        data = event.data
        user = caller.user(short_name(data.user) if data.user else None)
        tag = spend_tag_of(caller.app, data.tags)
        if tag.digest:
            batch.tags.append(tag)
        if tag.warning is not None:
            batch.warnings[tag.warning] += 1
        token = booking.undrawn_token(
            key,
            key_id=self._seal.key_id,
            n_shards=self._n_shards,
            at_ms=at_ms,
            endpoint=endpoint.digest,
            task=task,
            app=caller.app,
            user=booking.user_digest(self._secret, caller.app, user),
        )
        ended = ended_of(data, endpoint, at_ms=at_ms)
        flags = INGESTED | records.FINAL | (0 if data.ends_call else records.NO_END)
        flags |= records.STREAMED if data.streamed else 0
        episode = _episode(data, caller)
        named = batch.episodes
        if ended.result is Result.OK and named.is_first(episode, token):
            named.note(episode, token)
            if self._recent.episodes.is_first(episode, token):
                flags |= records.NAMES_EPISODE
        return records.outcome(
            token,
            ended,
            app=caller.app.name,
            flags=flags,
            reference=data.ref,
            under=records.BookedUnder(episode=episode, spend_tag=tag.digest),
            said=_said(data),
            event=event_ids.ingested_event_id(at_ms, key),
        )

    async def _write(
        self, batch: EventBatch, addressed: list[list[bytes]], caller: Caller, now_ms: int
    ) -> None:
        """Write what was read. What a full journal cuts short is sent again, without harm."""
        for tag in batch.tags:
            self._tags.note(tag)
        for part in _slices(batch.outcomes):
            for record in part:
                if not self._writer.put(record):
                    raise journal_full()
                self._recent.note(record)
            await asyncio.sleep(0)
        for (_, item, event), tokens in zip(batch.feedback, addressed, strict=True):
            self._desk.write(item, tokens, event, caller, received_ms=now_ms)


def _time(event: OutcomeEvent | FeedbackEvent, now_ms: int) -> int:
    """Return when an event happened; a clock a little ahead of ours is set right."""
    if event.time is None:
        return now_ms
    at_ms = int(event.time.timestamp() * 1000)
    if at_ms > now_ms + ingest.MAX_AHEAD_S * 1000:
        raise BadEvent("time", f"time is {event.time.isoformat()}; that is yet to come")
    if at_ms < now_ms - ingest.MAX_AGE_S * 1000:
        raise BadEvent(
            "time", f"time is {event.time.isoformat()}; what is over 30 days old no longer counts"
        )
    return min(at_ms, now_ms) if isinstance(event, OutcomeEvent) else at_ms


def _episode(data: Outcome, caller: Caller) -> int:
    """Return the digest of the episode that a call was part of; 0 of none."""
    said = data.episode
    return episode_digest(caller.app.name, session_id_of(said)) if said and said.strip() else 0


def _endpoint(data: Outcome, configuration: Configuration) -> Endpoint:
    catalog = configuration.catalog
    endpoint = catalog.by_id.get(data.endpoint)
    if endpoint is None:
        raise BadEvent("data.endpoint", _unlisted(data.endpoint, list(catalog.by_id)))
    return endpoint


def _task(
    data: Outcome, caller: Caller, configuration: Configuration, warnings: Counter[str]
) -> str:
    task = data.task or caller.app.entry.task or GENERAL
    if task in configuration.tasks:
        return task
    warnings[f"unknown task {brief(task)}; booked as {GENERAL}"] += 1
    return GENERAL


def _said(data: Outcome) -> tuple[FeedbackKind, float] | None:
    """Return what an outcome says of its own answer; the models saw to it that it is one word."""
    for name in ingest.LABELS:
        value = value_of(name, getattr(data, name), f"data.{name}")
        if value is not None:
            kind = FeedbackKind[data.kind.upper()] if data.kind else KIND_OF[name]
            return kind, value
    return None


def _unlisted(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3)
    shown = ", ".join(near or sorted(known)[:12])
    what = "did you mean" if near else "listed are"
    return f"data.endpoint {brief(name)} is not in the configuration; {what} {shown}"


def _rejected(problems: list[EventProblem]) -> RequestRejected:
    """Return the refusal of a whole batch, which names every event at fault."""
    problems.sort(key=lambda p: p.index)
    first = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return RequestRejected(
        "bad_event",
        f"event {first.index}: {first.message}{more}; nothing was taken",
        param=f"[{first.index}].{first.field}".rstrip("."),
        details={
            "problems": [
                {"index": p.index, "field": p.field, "code": p.code, "message": p.message}
                for p in problems
            ]
        },
    )


def _answer(n: int, batch: EventBatch, *, dry_run: bool) -> dict[str, Any]:
    warnings = [
        {"message": text, "events": times}
        for text, times in batch.warnings.most_common(MAX_WARNINGS)
    ]
    return {
        "accepted": 0 if dry_run else n,
        "outcomes": len(batch.outcomes),
        "feedback": len(batch.feedback),
        "dry_run": dry_run,
        "warnings": warnings,
    }


def _slices(values: list[T]) -> Iterator[list[T]]:
    for start in range(0, len(values), SLICE):
        yield values[start : start + SLICE]
