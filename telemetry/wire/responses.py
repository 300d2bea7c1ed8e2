"""OpenAI's Responses as they are answered: whole, and event by event."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from telemetry.wire.reading import read_object
from telemetry.wire.thoughts import item_mark
from telemetry.wire.usage import WholeAnswer, id_of, usage_of


class ResponsesAnswer(Struct):
    """The top of a response: unstreamed, or in an event that tells of the whole of it."""

    id: Any = None
    object: Any = None
    status: Any = None
    incomplete_details: Any = None
    model: Any = None
    output: list[Any] | None = None
    usage: Any = None
    service_tier: Any = None
    error: Any = None

    @property
    def thoughts(self) -> tuple[str, ...]:
        """The marks of what it thought."""
        return tuple(mark for mark in map(item_mark, self.output or ()) if mark)

    @property
    def item_ids(self) -> tuple[str, ...]:
        """The ids of what it consists of, by which a later call may name that."""
        return _ids_in(self.output)

    @property
    def has_failed(self) -> bool:
        """Whether it says that it is none."""
        return bool(self.error) or self.status == "failed" or self.object == "error"


class _Holder(Struct):
    """What holds items: a response, or a page of a list."""

    output: list[Any] | None = None
    data: list[Any] | None = None


class ResponsesEvent(Struct):
    """One event of a stream."""

    type: Any = None
    sequence_number: Any = None
    response: ResponsesAnswer | None = None
    item: dict[str, Any] | None = None
    delta: Any = None
    error: Any = None

    @property
    def kind(self) -> str:
        """Its type, where it has one that means anything."""
        return self.type if isinstance(self.type, str) else ""

    @property
    def item_id(self) -> Any:
        """The id of the item that it tells of, if it does."""
        return (self.item or {}).get("id")

    @property
    def is_error(self) -> bool:
        """Whether it says that there will be no answer."""
        return self.kind in FAILURES or bool(self.error)

    @property
    def is_end(self) -> bool:
        """Whether nothing comes after it."""
        return self.kind in ENDS

    @property
    def says_something(self) -> bool:
        """Whether there is content in it: a piece of something, or an item that is a call."""
        kind = self.kind
        if kind.endswith(".delta"):
            return bool(self.delta)
        if kind not in ("response.output_item.added", "response.output_item.done"):
            return False
        of = (self.item or {}).get("type")
        return kind.endswith("done") or of not in ("message", "reasoning")


ENDS = frozenset(
    {"response.completed", "response.incomplete", "response.failed", "response.cancelled", "error"}
)
FAILURES = frozenset({"response.failed", "error"})

_ANSWER = msgspec.json.Decoder(ResponsesAnswer)
_HOLDER = msgspec.json.Decoder(_Holder)
_EVENT = msgspec.json.Decoder(ResponsesEvent)


def parse_response(body: bytes) -> ResponsesAnswer | None:
    """Return the top of an answer, or None where there is no answer in it.

    One that is still worked on, in the background, is an answer: its id is what was asked for.
    """
    found = read_object(_ANSWER, body)
    if found is None or found.has_failed:
        return None
    return found if found.output is not None or id_of(found.id) else None


def read_response(body: bytes) -> WholeAnswer | None:
    """Return what is read of an unstreamed answer, or None where there is no answer in it."""
    found = parse_response(body)
    if found is None:
        return None
    usage = usage_of(found.usage, found.service_tier)
    return WholeAnswer(
        id_of(found.id),
        usage,
        id_of(found.model),
        thoughts=found.thoughts,
        item_ids=found.item_ids,
    )


def read_item_ids(body: bytes) -> tuple[str, ...]:
    """Return the ids of all items that a response holds, or a list of items."""
    found = read_object(_HOLDER, body)
    return () if found is None else _ids_in([*(found.output or ()), *(found.data or ())])


def _ids_in(items: list[Any] | None) -> tuple[str, ...]:
    found = (id_of(item.get("id")) for item in items or () if isinstance(item, dict))
    return tuple(dict.fromkeys(id_ for id_ in found if id_))


def parse_responses_event(data: bytes) -> ResponsesEvent | None:
    """Return one event's data, or None where no client could read it.

    What has another shape than ours is an event of a kind that we do not know.
    """
    return read_object(_EVENT, data, otherwise=ResponsesEvent)
