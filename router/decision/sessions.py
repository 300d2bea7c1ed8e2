"""What the calls of a declared session said, which holds for its later calls as well.

They carry the same conversation: so the highest class of data that one of them named is that of
all after it, and the task in which the first one was found is the session's. Both are known here,
in a table of the sessions used last, and in the store where there is something to say.

Where the words of the first call may give the task, the look-up of a session is what opens it: so
one call is the first, whichever router it comes to, and none where the store did not say so.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable, Sequence

from msgspec import structs

from router.config.compiled import App, Configuration
from router.config.entries import GENERAL
from router.decision import late_notes
from router.decision.recent import RecentlyUsed
from router.decision.said import CallSession, FirstCall, SessionKinds
from router.decision.shared_draws import LOOK_UP_S
from router.decision.store_line import LateWrites, StoreLine
from router.decision.units import SESSION_IDLE_S, SESSION_S, session_keys
from router.endpoints.data_classes import DataClass
from telemetry import session_notes
from telemetry.digests import episode_digest
from telemetry.secret import UnitSecrets
from telemetry.session_notes import BETWEEN, OPENED, SessionNote
from telemetry.store import Address

MAX_SESSIONS = 65_536
"""Sessions remembered in this process, and half of them at least: each in about 200 bytes."""
MAX_KEYS = 8192
"""Keys remembered of sessions under way: to work one out takes longer than all the rest."""
RENEW_S = 300.0
"""How often an active session's time to live is pushed out in the store."""
STEP_S = 30.0
"""How exactly a session's idle time is kept here: so most calls write nothing."""
POLL_S = 0.5
"""How often is asked which sessions' classes were raised by other routers."""
_KNOWN = struct.Struct("<dQII")
"""Epoch seconds at which it ends unless a call comes before; when it began, in ms; epoch seconds at
which the store last heard that it goes on, 0 where it has nothing, and at which it was asked, 0
where it did not say. What the calls said follows, as `SessionKinds.of` takes it."""


class Sessions:
    """All that this process knows of what sessions said, backed by the store."""

    def __init__(
        self,
        address: Address,
        *,
        most: int = MAX_SESSIONS,
        has_room: Callable[[], bool] = lambda: True,
    ) -> None:
        """Make it; `start` begins to talk to the store.

        Args:
            has_room: whether the store has memory for new notes. Without it they are known here.
        """
        self._known = RecentlyUsed(most)
        self._late = LateWrites(late_notes.command_of, self._on_written)
        self._line = StoreLine(address, self._late)
        self._has_room = has_room
        self._secrets: UnitSecrets | None = None
        # Key and episode by app and id, of which no name is kept.
        self._keys: dict[int, tuple[bytes, int]] = {}
        self._polling: asyncio.Task[None] | None = None
        self._told: dict[bytes, float] = {}  # of late: sessions, and when a class rose
        self.on_ended: Callable[[bytes], None] = lambda key: None
        """Hears keys of units whose draw ended at some router of the store, this one as well."""
        self._told_since = 0.0  # epoch seconds since when nothing that was told can be missed

    @property
    def n_known(self) -> int:
        """Sessions remembered."""
        return len(self._known)

    @property
    def n_unwritten(self) -> int:
        """Notes that wait to be written."""
        return len(self._late)

    def start(self) -> None:
        """Begin to talk to the store: a look-up has no time to wait for a connection."""
        self._line.start()
        self._line.send(("PING",))
        self._polling = asyncio.get_running_loop().create_task(self._poll())

    async def stop(self) -> None:
        """Write what is left and end."""
        if self._polling is not None:
            self._polling.cancel()
        await self._line.stop()

    async def of(
        self,
        configuration: Configuration,
        secrets: UnitSecrets,
        app: App,
        session: str,
        *,
        now: float,
        first: FirstCall | None = None,
    ) -> CallSession:
        """Return the session of a call, with what its calls said before.

        One that is not known here costs one look-up, bounded as that of a unit. A store that does
        not answer in time is asked again with the next call.

        Args:
            session: the id that the caller gave it, whoever its user is.
            now: epoch seconds.
            first: what is settled if no call came before; None where nothing hangs on that.
        """
        known = self.known(configuration, secrets, app, session, now, first)
        if known is not None:
            return known
        places = session_keys(secrets, app.digest, session, now=now)
        key, episode = self._note_key(app, session, places[0])
        text, waited_s = self._get(key, now, first), 0.0
        is_first, opened = False, None
        if text is None:
            asked_at = time.monotonic()
            text, is_first, opened = await self._ask(places, now, first)
            waited_s = time.monotonic() - asked_at
        said = configuration.derive(SessionKinds).of(text)
        return CallSession(key, said, waited_s, episode, is_first, first is not None, opened=opened)

    def known(
        self,
        configuration: Configuration,
        secrets: UnitSecrets,
        app: App,
        session: str,
        now: float,
        first: FirstCall | None,
    ) -> CallSession | None:
        """Return what `of` does, where the store need not be asked; else None."""
        if secrets is not self._secrets:
            self._secrets, self._keys = secrets, {}
        found = self._keys.get(hash((app.digest, session)))
        if found is None:
            return None
        key, episode = found
        text = self._get(key, now, first)
        if text is None:
            return None
        said = configuration.derive(SessionKinds).of(text)
        return CallSession(key, said, 0.0, episode, False, first is not None)

    def note(
        self,
        key: bytes,
        *,
        task: str | None,
        data_class: DataClass | None,
        now: float,
        now_ms: int,
        is_settled: bool = False,
    ) -> None:
        """Remember what a call of a session said; the store hears of it soon.

        Args:
            task: that is to be the session's, unless it has one.
            data_class: that holds from now on.
            now: epoch seconds.
            now_ms: epoch milliseconds of the store's clock.
            is_settled: the store is to have the task even if it is `general`, as another router
                might find another one for a later call.
        """
        before, asked_at = self._note_of(key, now)
        names = (data_class.name,) if data_class is not None else ()
        said = SessionNote(now_ms, task or "", names)
        said = before.and_also(said) if before is not None else said
        is_kept = bool(said.classes) or is_settled or said.task not in ("", GENERAL, OPENED)
        self._put(key, said, now=now, renewed_at=int(now) if is_kept else 0, asked_at=asked_at)
        if is_kept and self._has_room():
            head = key, said.began_ms, _until(said, now)
            self._late.put(late_notes.note(*head, task=said.task, data_class="".join(names)))
            if names:
                self._late.put(late_notes.telling(*head))
            self._line.wake()

    def _note_key(self, app: App, session: str, key: bytes) -> tuple[bytes, int]:
        if len(self._keys) >= MAX_KEYS:
            self._keys.clear()
        found = self._keys[hash((app.digest, session))] = key, episode_digest(app.name, session)
        return found

    def _get(self, key: bytes, now: float, first: FirstCall | None) -> bytes | None:
        """Return what is known here of a session that goes on; None where the store is to say."""
        raw = self._known.get(key)
        if raw is None:
            return None
        until, began_ms, renewed_at, asked_at = _KNOWN.unpack_from(raw)
        if now >= until or not asked_at or asked_at < self._told_since:
            return None
        text = raw[_KNOWN.size :]
        if first is not None and not _is_open(text):
            return None
        if until - now < SESSION_IDLE_S - STEP_S:
            until = min(now + SESSION_IDLE_S, began_ms / 1000 + SESSION_S)
            if renewed_at and now - renewed_at > RENEW_S:
                renewed_at = int(now)
                self._prolong(key, until - now)
            self._known.put(key, _KNOWN.pack(until, began_ms, renewed_at, asked_at) + text)
        return text

    async def _ask(
        self, places: Sequence[bytes], now: float, first: FirstCall | None
    ) -> tuple[bytes, bool, SessionNote | None]:
        """Return what the store says of a session, and what is known here; and whether it is new.

        It is new where the store says in time that no call opened it before. Then what this call
        opened it with follows, unless it only asks.
        """
        key, opening = places[0], self._opening(places[0], now, first)
        asks = [session_notes.look_up(place) for place in places]
        opens = opening is not None and self._has_room()
        if opening is not None and opens:
            asks[0] = session_notes.open_first(
                key, at_ms=opening.began_ms, task=opening.task, ttl_ms=int(SESSION_IDLE_S * 1000)
            )
        replies = await self._line.ask(*asks, within_s=LOOK_UP_S)
        is_heard = not any(isinstance(reply, Exception) for reply in replies)
        is_ours, kept = _read(replies, opens=opens)
        said, asked_at = self._note_of(key, now)  # also what came while we waited
        for one in kept:
            said = one.and_also(said) if said is not None else one
        if opening is None:
            is_open = said is not None and bool(said.task)
            is_first = is_heard and first is not None and not first.claims and not is_open
        else:
            is_first = is_heard and is_ours
            if not (is_heard and opens):
                said = self._open_unheard(key, opening, said, now=now, is_sent=opens)
        if is_heard:
            asked_at = int(now)  # else whoever calls next asks again
        elif said is None:
            return b"", False, None
        said = said or SessionNote(int(now * 1000))
        renewed_at = int(now) if kept else 0
        self._put(key, said, now=now, renewed_at=renewed_at, asked_at=asked_at)
        if kept and not is_ours:
            self._prolong(key, _until(said, now) - now)
        before = structs.replace(said, task="") if is_first else said
        return _text(before), is_first, opening if is_first else None

    def _opening(self, key: bytes, now: float, first: FirstCall | None) -> SessionNote | None:
        """Return what a call opens its session with; None of one that does not."""
        if first is None or not first.claims:
            return None
        known, _ = self._note_of(key, now)
        task = None if known is not None and known.task else first.task()
        return None if task is None else SessionNote(first.at_ms, task)

    def _open_unheard(
        self,
        key: bytes,
        opening: SessionNote,
        said: SessionNote | None,
        *,
        now: float,
        is_sent: bool,
    ) -> SessionNote:
        """Return what is known of a session of which it is not known which call is the first.

        No later one is, either. Should the store still hear what this one asked for, that is taken
        back, as it does not go by it.
        """
        mark = SessionNote(opening.began_ms, OPENED)
        said = said.and_also(mark) if said is not None else mark
        if is_sent:
            head = key, opening.began_ms, _until(said, now)
            self._late.put(late_notes.note(*head, task=OPENED, taken_back=opening.task))
            self._line.wake()
        return said

    async def take_back(self, session: CallSession, *, now: float) -> None:
        """Have a session as it was before a call that opened it, and was refused.

        The store has heard of it once this is done, so that the call which comes after the
        refusal, to whichever router, may be the first; where it does not answer, it hears later.
        """
        opened, key = session.opened, session.key
        if opened is None:
            return
        until = _until(opened, now)
        self._late.put(late_notes.note(key, opened.began_ms, until, taken_back=opened.task))
        self._line.wake()
        # It goes out with what is written late, after what this call noted.
        await self._line.ask(("PING",), within_s=LOOK_UP_S)
        known, _ = self._note_of(key, now)
        if known is not None and known.task == opened.task:
            known = structs.replace(known, task="")
            self._put(key, known, now=now, renewed_at=0, asked_at=0)

    def tell_ended(self, unit_key: bytes) -> None:
        """Have all routers ask the store again what a unit was given."""
        self._line.send(session_notes.tell(unit_key))

    async def _poll(self) -> None:
        """Have the store asked again for what another router changed.

        That is which class a session has, or what a unit was given.
        """
        heard_at = 0.0
        while True:
            began_at = time.time()
            (reply,) = await self._line.ask(session_notes.told(), within_s=POLL_S)
            if isinstance(reply, list):
                if began_at - heard_at > session_notes.TOLD_MS / 2000:
                    self._told_since = began_at  # of what was told meanwhile some is gone
                heard_at = began_at
                self._take(dict(session_notes.pairs_in(reply)))
            await asyncio.sleep(POLL_S)

    def _take(self, told: dict[bytes, float]) -> None:
        for key, at_ms in told.items():
            if self._told.get(key) == at_ms:
                continue
            raw = self._known.get(key)
            if raw is None:
                self.on_ended(key)
            else:
                until, began_ms, renewed_at, _ = _KNOWN.unpack_from(raw)
                head = _KNOWN.pack(until, began_ms, renewed_at, 0)
                self._known.put(key, head + raw[_KNOWN.size :])
        self._told = told

    def _prolong(self, key: bytes, ttl_s: float) -> None:
        self._line.send(session_notes.prolong(key, max(int(ttl_s * 1000), 1)))

    def _note_of(self, key: bytes, now: float) -> tuple[SessionNote | None, int]:
        """Return what is known here of a session that goes on, and when the store was asked."""
        raw = self._known.get(key)
        if raw is None:
            return None, 0
        until, began_ms, _, asked_at = _KNOWN.unpack_from(raw)
        if now >= until:
            return None, 0
        task, *classes = raw[_KNOWN.size :].decode().split(BETWEEN)
        return SessionNote(began_ms, task, tuple(classes)), asked_at

    def _put(
        self, key: bytes, said: SessionNote, *, now: float, renewed_at: int, asked_at: int
    ) -> None:
        head = _KNOWN.pack(_until(said, now), said.began_ms, renewed_at, asked_at)
        self._known.put(key, head + _text(said))

    def _on_written(self, packed: bytes, reply: bytes) -> None:
        """Go by what the store says, should another router have said more."""
        key, now = late_notes.noted_of(packed), time.time()
        if key is None:
            return
        held = SessionNote.unpack(reply)
        known, asked_at = self._note_of(key, now)
        if held is not None and known is not None:
            said = held.and_also(known)
            self._put(key, said, now=now, renewed_at=int(now), asked_at=asked_at)


def _until(said: SessionNote, now: float) -> float:
    """Return the epoch seconds at which a session ends unless a call comes before."""
    return min(now + SESSION_IDLE_S, said.began_ms / 1000 + SESSION_S)


def _read(replies: Sequence[object], *, opens: bool) -> tuple[bool, list[SessionNote]]:
    """Return whether the first of the replies says that we opened the session, and what is held.

    A session that went on under an earlier key is not new.
    """
    is_ours, own = False, replies[0]
    if opens and isinstance(own, bytes):
        is_ours, own = own[:1] == session_notes.OURS, own[1:]
    read = (SessionNote.unpack(one) for one in (own, *replies[1:]) if isinstance(one, bytes))
    kept = [note for note in read if note is not None]
    return is_ours and not any(note.task for note in kept[1:]), kept


def _is_open(text: bytes) -> bool:
    """Return whether a session has a task, or a call came that gave it none."""
    return text[:1] not in (b"", BETWEEN.encode())


def _text(said: SessionNote | None) -> bytes:
    if said is None:
        return b""
    return BETWEEN.join((said.task, *said.classes)).encode()
