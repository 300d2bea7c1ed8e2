"""What lies at a provider under an id, and how a body names it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Raw, Struct

from router.endpoints.entries import Dialect


class StoredKind(StrEnum):
    """What may lie at a provider under an id."""

    RESPONSE = "responses"
    CONVERSATION = "conversations"
    THREAD = "threads"  # of Messages, under the id of its latest answer
    CONTAINER = "containers"  # in which the provider runs tools of Messages
    ITEM = "items"  # of a response: a later call may hold its name alone

    @property
    def dialect(self) -> Dialect:
        """The dialect in which calls go on from it."""
        return Dialect.MESSAGES if self in OF_MESSAGES else Dialect.RESPONSES

    @property
    def made_at(self) -> str:
        """The path at which a POST makes it."""
        return f"/v1/{self}" if self in HAVE_PATHS else f"/v1/{self.dialect}"


OF_MESSAGES = frozenset({StoredKind.THREAD, StoredKind.CONTAINER})
HAVE_PATHS = frozenset({StoredKind.RESPONSE, StoredKind.CONVERSATION})
"""Those that can be asked for by a path: `/v1/<kind>/<id>`."""


class StoredId(Struct, frozen=True):
    """What names something that lies at a provider."""

    kind: StoredKind
    id: str


class _Item(Struct):
    """An item as far as it takes to see whether it is the name of one alone."""

    id: Any = None
    type: Any = None
    role: Any = None
    content: Any = None
    result: Any = None


_ITEM = msgspec.json.Decoder(_Item)
_ITEMS = msgspec.json.Decoder(list[Raw])


def references_of(items: Iterable[Raw]) -> tuple[StoredId, ...]:
    """Return what these items name without saying it: the provider looks it up where it lies.

    That is an `item_reference`, whose type may be left out, and a picture by its call.
    """
    named = dict.fromkeys(_named_by(raw) for raw in items)
    return tuple(StoredId(StoredKind.ITEM, id_) for id_ in named if id_)


def references_in(path: str, fields: Mapping[str, Raw]) -> tuple[StoredId, ...]:
    """Return the items that a body which comes at a path holds the names of only."""
    if path.split("/")[2:3] not in ([StoredKind.RESPONSE], [StoredKind.CONVERSATION]):
        return ()
    found: list[Raw] = []
    for name in ("input", "items"):
        try:
            found += _ITEMS.decode(fields[name])
        except (KeyError, msgspec.DecodeError, RecursionError):  # text, or nothing
            continue
    return references_of(found)


def _named_by(raw: Raw) -> str | None:
    try:
        item = _ITEM.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    is_name = (
        item.type == "item_reference"
        or (item.type == "image_generation_call" and not item.result)
        or (item.type is None and item.role is None and item.content is None)
    )
    return item.id if is_name and isinstance(item.id, str) else None


def continued_of(previous_response_id: Any, conversation: Any) -> StoredId | None:
    """Return what a call of Responses goes on from, by these fields of its body."""
    if isinstance(previous_response_id, str) and previous_response_id:
        return StoredId(StoredKind.RESPONSE, previous_response_id)
    return _by_id(StoredKind.CONVERSATION, conversation)


def continued_thread(thread: Any, container: Any) -> StoredId | None:
    """Return what a call of Messages goes on from, by these fields of its body.

    A thread says where its container is, too.
    """
    if isinstance(thread, dict):
        previous = thread.get("previous_message_id")
        if isinstance(previous, str) and previous:
            return StoredId(StoredKind.THREAD, previous)
    return _by_id(StoredKind.CONTAINER, container)


def continued_in(path: str, fields: Mapping[str, Any]) -> StoredId | None:
    """Return what a body that comes at a path goes on from, by those fields of it that say so."""
    parts = path.split("/")[2:3]
    if parts == [Dialect.MESSAGES]:
        return continued_thread(fields.get("thread"), fields.get("container"))
    if parts == [Dialect.RESPONSES]:
        return continued_of(fields.get("previous_response_id"), fields.get("conversation"))
    return None


def kept_at(path: str, fields: Mapping[str, Any]) -> StoredKind | None:
    """Return what the answer to a body that comes at a path may be at the provider, by its id."""
    if path == StoredKind.THREAD.made_at:
        return kept_thread(fields.get("thread"))
    return next((kind for kind in HAVE_PATHS if kind.made_at == path), None)


def kept_thread(thread: Any) -> StoredKind | None:
    """Return what an answer of Messages is at the provider, by this field of its request."""
    return StoredKind.THREAD if isinstance(thread, dict) else None


def left_behind(
    kept: StoredKind | None,
    answer_id: str | None,
    container: str | None,
    items: Iterable[str] = (),
) -> Iterator[StoredId]:
    """Yield what an answer leaves at the provider.

    Args:
        kept: what it is there itself, under its id.
        container: in which it ran tools.
        items: ids of what it consists of.
    """
    if kept is StoredKind.RESPONSE:
        yield from (StoredId(StoredKind.ITEM, id_) for id_ in items)
    if kept is not None and answer_id:
        yield StoredId(kept, answer_id)
    if container:
        yield StoredId(StoredKind.CONTAINER, container)


def _by_id(kind: StoredKind, value: Any) -> StoredId | None:
    """Return what is named by an id, or by an object that has one."""
    if isinstance(value, dict):
        value = value.get("id")
    return StoredId(kind, value) if isinstance(value, str) and value else None
