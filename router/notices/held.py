"""Troubles in the store: who has one first tells that it began, who has it last that it is over.

Who has a trouble says so in its own word every ten seconds (`telemetry.routers`), so nobody keeps
count: it is over once this router has it no more and no other one says that it does. What a router
left behind that was killed is over two minutes later, as far as anybody can tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
from msgspec import Struct

from bandit.report import ChangeKind
from router.endpoints.breaker import Trouble
from router.notices.troubles import SUSPENDED
from telemetry import changes
from telemetry.changes import ChangeRecord, change_id
from telemetry.damaged import DAMAGED, Moment
from telemetry.routers import RouterPresence, RouterTrouble
from telemetry.store import Client

FIELD = "trouble:"
"""What is known of a trouble, by its key."""
OUTAGES = frozenset(trouble.value for trouble in Trouble)
LEFT_AFTER_S = 120.0
"""A router that began so long ago has met what it shares with others, or it is over."""


class HeldTrouble(Struct, frozen=True):
    """A trouble that was told, and is not over."""

    since_ms: Moment
    subject: str
    text: str
    kind: str


def is_told(trouble: RouterTrouble) -> bool:
    """Return whether beginning and end of a trouble are events: those of endpoints are."""
    return trouble.kind in OUTAGES or trouble.kind.startswith(SUSPENDED)


class HeldTroubles:
    """Those of this router, as it last told of them; not for several threads."""

    def __init__(self, name: str) -> None:
        """Hold none.

        Args:
            name: of this router.
        """
        self._name = name
        self._held: dict[str, bytes] = {}  # by key: as it lies in the store

    def settle(
        self,
        client: Client,
        troubles: Iterable[RouterTrouble],
        others: Iterable[RouterPresence],
        *,
        now_ms: int,
    ) -> list[ChangeRecord]:
        """Tell what began and what is over; return what was told here.

        Args:
            troubles: all that there are here now.
            others: all routers of the store; asked for where one of ours is over.

        Raises:
            redis.RedisError, OSError: the store is away; it is told at a later look.
        """
        now = {one.key: one for one in troubles if is_told(one)}
        told: list[ChangeRecord] = []
        for key, trouble in now.items():
            if key not in self._held:
                told += self._begin(client, trouble)
        over = self._held.keys() - now.keys()
        if over:
            elsewhere = self._of_others(others)
            for key in over:
                value = self._held[key]
                if key not in elsewhere:
                    told += _end(client, key, value, now_ms=now_ms, was_seen=True)
                del self._held[key]
        return told

    def sweep(
        self,
        client: Client,
        known: dict[str, bytes],
        others: Iterable[RouterPresence],
        *,
        now_ms: int,
    ) -> list[ChangeRecord]:
        """Tell of what nobody has any more, but who had it could not say so; return what was told.

        Args:
            known: what the store knows, by field.

        Raises:
            redis.RedisError, OSError: the store is away.
        """
        held = self._of_others(others) | self._held.keys()
        left = {f.removeprefix(FIELD): v for f, v in known.items() if f.startswith(FIELD)}
        told: list[ChangeRecord] = []
        for key, value in left.items():
            if key not in held:
                told += _end(client, key, value, now_ms=now_ms, was_seen=False)
        return told

    def _begin(self, client: Client, trouble: RouterTrouble) -> list[ChangeRecord]:
        held = HeldTrouble(trouble.since_ms, trouble.subject, trouble.text, trouble.kind)
        value = msgspec.json.encode(held)
        is_suspension = trouble.kind.startswith(SUSPENDED)
        kind = ChangeKind.SUSPENDED if is_suspension else ChangeKind.OUTAGE
        record = ChangeRecord(
            id=change_id(kind, trouble.subject, f"{trouble.kind}:{trouble.since_ms}"),
            at_ms=trouble.since_ms,
            kind=kind.value,
            subject=trouble.subject,
            text=trouble.text,
            reason="" if is_suspension else trouble.fix,
        )
        is_first = changes.note(
            client, f"{FIELD}{trouble.key}", seen=b"", value=value, records=[record]
        )
        # Of one that another router told, what lies there is needed for its end.
        known = value if is_first else _known(client, trouble.key)
        if known:
            self._held[trouble.key] = known
        return [record] if is_first else []

    def _of_others(self, routers: Iterable[RouterPresence]) -> set[str]:
        """Return the keys of troubles that other routers have."""
        others = (one for one in routers if one.name != self._name)
        return {trouble.key for one in others for trouble in one.troubles}


def _known(client: Client, key: str) -> bytes:
    return changes.read_known(client).get(f"{FIELD}{key}", b"")


def _end(
    client: Client, key: str, value: bytes, *, now_ms: int, was_seen: bool
) -> Iterator[ChangeRecord]:
    """Yield what was told of the end, if nobody was faster.

    Args:
        was_seen: that it is over; else nobody says any more that it is not.
    """
    record = _ended(value, now_ms, was_seen=was_seen)
    if changes.note(client, f"{FIELD}{key}", seen=value, value=b"", records=record) and record:
        yield from record


def _ended(value: bytes, now_ms: int, *, was_seen: bool) -> list[ChangeRecord]:
    try:
        held = msgspec.json.decode(value, type=HeldTrouble)
    except DAMAGED:
        return []  # nobody can say of what
    is_suspension = held.kind.startswith(SUSPENDED)
    kind = ChangeKind.SUSPENDED if is_suspension else ChangeKind.RECOVERY
    took = duration_words(max(now_ms - held.since_ms, 0) / 1000)
    if is_suspension:
        what = held.kind.removeprefix(f"{SUSPENDED}:")
        text = f"is asked again with {what}" if was_seen else f"no router avoids {what} any more"
    elif was_seen:
        text = f"serves again after {took} ({held.text})"
    else:
        text = f"no router says any more that it is out ({held.text}); it was for {took} at most"
    return [
        ChangeRecord(
            id=change_id(kind, held.subject, f"{held.kind}:{held.since_ms}:over"),
            at_ms=now_ms,
            kind=kind.value,
            subject=held.subject,
            text=text,
        )
    ]


def duration_words(seconds: float) -> str:
    """Return a span of time as people say it: `40 s`, `14 min`, `3 h`, `2 days`."""
    for length, word, below in ((1, "s", 120), (60, "min", 7200), (3600, "h", 172_800)):
        if seconds < below:
            return f"{seconds / length:.0f} {word}"
    return f"{seconds / 86_400:.0f} days"
