"""Which endpoints, prices, words of the switch and allowances are news to the store.

Each look compares with what this process told last; only what differs from that is asked for in
the store, and told there by the first router that comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Struct

from bandit.report import ChangeKind
from router.beliefs.choices import Choices
from router.beliefs.kept import ReviewKey
from router.beliefs.switch import Switch
from router.config.compiled import Configuration
from router.notices.listed import Listed, changes_to, gone_from, listed_of
from router.notices.presence import configuration_digest
from telemetry import changes, keys
from telemetry.changes import ChangeRecord, change_id
from telemetry.damaged import DAMAGED, Moment
from telemetry.routers import RouterPresence
from telemetry.store import Client

CONFIGURATIONS = "configurations"
"""What each configuration that is in force somewhere lists, by its digest; the last taken last."""
IN_FORCE = "in_force:"
"""When a router last said that it goes by a configuration, in epoch ms."""
SWITCH = "switch"
ROOM = "room:"
"""Since when a room for exploring is spent, by review key."""
LEFT_AFTER_MS = 120_000
"""A configuration that nobody went by for so long is in force nowhere: all were restarted since."""
DAY_MS = 86_400_000
MOST_DIGITS = 20
"""Of a moment; what is longer is none."""
ROOM_BACK = 1.0
"""A room is spent until it holds a success again, and for a day at least: at its edge it comes and
goes with every label, and is told of once."""

Configurations = dict[str, Listed]


class _SaidSwitch(Struct, frozen=True):
    """The last word that was told."""

    at_ms: Moment
    off: bool


class ListedEvents:
    """Endpoints and prices of configurations; not for several threads."""

    def __init__(self, name: str) -> None:
        """Know nothing yet.

        Args:
            name: of this router.
        """
        self._name = name
        self._told: tuple[str, Listed] | None = None  # as this process last told
        self._told_on = (0, 0)  # which configuration, and on which day: prices change with days

    def settle(
        self,
        client: Client,
        configuration: Configuration,
        routers: Iterable[RouterPresence],
        *,
        now_ms: int,
    ) -> list[ChangeRecord]:
        """Tell what changed with the configuration in force here; return what was told here.

        Args:
            routers: all of the store; asked for where another configuration went into force here.

        Raises:
            redis.RedisError, OSError: the store is away; it is told at a later look.
        """
        on = configuration.version, now_ms // DAY_MS
        if self._told_on == on:
            return []  # most often
        digest, listed = configuration_digest(configuration), listed_of(configuration, now_ms / 1e3)
        if self._told == (digest, listed):
            self._told_on = on
            return []
        client.hset(keys.CHANGES_KNOWN, f"{IN_FORCE}{digest}", now_ms)
        left = self._told[0] if self._told is not None and self._told[0] != digest else None
        raw = client.hget(keys.CHANGES_KNOWN, CONFIGURATIONS) or b""
        known = _parse(raw)
        told = self._news(known, digest, listed, now_ms)
        after = {**{d: one for d, one in known.items() if d != digest}, digest: listed}
        if left in after and not self._is_held(left, routers):
            dropped = after.pop(left)
            told += gone_from(dropped, after.values(), cause=f"{left}:{now_ms}", at_ms=now_ms)
        if not self._write(client, raw, after, told):
            return []  # another one was faster: the next look compares with what it wrote
        self._told, self._told_on = (digest, listed), on
        return told

    def sweep(
        self, client: Client, known: Mapping[str, bytes], *, now_ms: int
    ) -> list[ChangeRecord]:
        """Tell what went with configurations that nobody goes by any more; return what was told.

        Args:
            known: what the store knows, by field.

        Raises:
            redis.RedisError, OSError: the store is away.
        """
        raw = known.get(CONFIGURATIONS, b"")
        before = _parse(raw)
        at_ms = {digest: _number(known.get(f"{IN_FORCE}{digest}", b"0")) for digest in before}
        own = self._told[0] if self._told is not None else None
        after = {
            digest: listed
            for digest, listed in before.items()
            if digest == own or now_ms - at_ms[digest] < LEFT_AFTER_MS
        }
        told = []
        for digest, left in before.items():
            if digest not in after:
                told += gone_from(left, after.values(), cause=f"{digest}:{now_ms}", at_ms=now_ms)
        if len(after) < len(before) and not self._write(client, raw, after, told):
            return []
        said = (f for f in known if f.startswith(IN_FORCE))
        stale = [f for f in said if f.removeprefix(IN_FORCE) not in after]
        if stale:
            client.hdel(keys.CHANGES_KNOWN, *stale)
        return told

    def _news(
        self, known: Configurations, digest: str, listed: Listed, now_ms: int
    ) -> list[ChangeRecord]:
        if not known:
            return []  # the first one of this store: everything is new, and nothing is news
        # One that is known was told by another router, or is the same text under other prices.
        before = [known[digest]] if digest in known else list(known.values())
        return changes_to(listed, before, cause=f"{digest}:{now_ms}", at_ms=now_ms)

    def _is_held(self, digest: str, routers: Iterable[RouterPresence]) -> bool:
        return any(one.configuration == digest for one in routers if one.name != self._name)

    def _write(
        self, client: Client, seen: bytes, after: Configurations, told: list[ChangeRecord]
    ) -> bool:
        value = msgspec.json.encode(after)
        return value == seen or changes.note(
            client, CONFIGURATIONS, seen=seen, value=value, records=told
        )


class SwitchEvents:
    """Words of the switch; not for several threads."""

    def __init__(self) -> None:
        self._seen: object = None

    def settle(self, client: Client, switch: Switch, *, now_ms: int) -> list[ChangeRecord]:
        """Tell a word that is another one than before; return what was told here.

        Raises:
            redis.RedisError, OSError: the store is away; it is told at a later look.
        """
        word = switch.word
        if word is None or word == self._seen:
            return []
        raw = client.hget(keys.CHANGES_KNOWN, SWITCH) or b""
        before, told = _parse_switch(raw), []
        if before.off != word.off and word.at_ms >= before.at_ms:
            text = "routing is off" if word.off else "routing is on again"
            undo = "pointsman on" if word.off else "pointsman off"
            told = [
                ChangeRecord(
                    id=change_id(ChangeKind.SWITCH, SWITCH, str(word.at_ms)),
                    at_ms=word.at_ms or now_ms,
                    kind=ChangeKind.SWITCH.value,
                    subject="routing",
                    text=text,
                    undo=undo,
                )
            ]
            value = msgspec.json.encode(_SaidSwitch(word.at_ms, word.off))
            if not changes.note(client, SWITCH, seen=raw, value=value, records=told):
                return []
        self._seen = word
        return told


class RoomEvents:
    """Rooms for exploring that are spent; not for several threads."""

    def __init__(self) -> None:
        self._spent: dict[str, bytes] | None = None  # by field: as it lies in the store

    def settle(
        self, client: Client, choices: Mapping[ReviewKey, Choices], *, now_ms: int
    ) -> list[ChangeRecord]:
        """Tell which rooms are spent since the last look; return what was told here.

        Raises:
            redis.RedisError, OSError: the store is away; it is told at a later look.
        """
        rooms = {key: one.room for key, one in choices.items() if one.room is not None}
        if self._spent is None:
            known = changes.read_known(client)
            self._spent = {f: value for f, value in known.items() if f.startswith(ROOM)}
        told = []
        for key, room in rooms.items():
            field = f"{ROOM}{key.digest:016x}"
            if room <= 0 and field not in self._spent:
                told += self._tell(client, field, key, now_ms)
            elif room >= ROOM_BACK and _is_over(self._spent.get(field), now_ms):
                changes.note(client, field, seen=self._spent[field], value=b"")
                del self._spent[field]
        return told

    def _tell(self, client: Client, field: str, key: ReviewKey, now_ms: int) -> list[ChangeRecord]:
        assert self._spent is not None
        part = f", role {key.role}" if key.role else ""
        record = ChangeRecord(
            id=change_id(ChangeKind.BUDGET, field, str(now_ms)),
            at_ms=now_ms,
            kind=ChangeKind.BUDGET.value,
            subject=f"exploring ({key.strategy}{part})",
            text="its allowance is spent: calls hold to the choice",
            reason="what was tried brought less than it cost; it grows again with traffic",
            app=key.app,
        )
        value = b"%d" % now_ms
        is_first = changes.note(client, field, seen=b"", value=value, records=[record])
        self._spent[field] = value if is_first else client.hget(keys.CHANGES_KNOWN, field) or b""
        return [record] if is_first else []


def _is_over(spent_at: bytes | None, now_ms: int) -> bool:
    return spent_at is not None and now_ms >= _number(spent_at) + DAY_MS


def _parse(raw: bytes) -> Configurations:
    try:
        return msgspec.json.decode(raw or b"{}", type=Configurations)
    except DAMAGED:
        return {}


def _parse_switch(raw: bytes) -> _SaidSwitch:
    try:
        return msgspec.json.decode(raw, type=_SaidSwitch)
    except DAMAGED:
        return _SaidSwitch(0, off=False)


def _number(text: bytes) -> int:
    return int(text) if text.isdigit() and len(text) < MOST_DIGITS else 0
