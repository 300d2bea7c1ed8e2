"""The draws of a month in the store: written as the router writes them, and ended by hand.

Their time to live runs by the store's own clock, to which a month of the bench is minutes. So the
bench deletes what would have ended, at the time at which it would have: a session half an hour
after its last call, a user's slot with the day, an app's after ten minutes, hashes of conversations
a day after their span. At this rate no session of the mix is called twice.

Conversations are noted 32 days late, as the store would end at once what should have ended.
"""

from __future__ import annotations

import hashlib
import socket
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from router.decision.shared_draws import STORED
from router.decision.units import APP_SLOT_S, SESSION_IDLE_S
from scripts.benches.growth_traffic import N_ENDPOINTS, N_TASKS, N_USERS, TrafficStep
from telemetry import keys
from telemetry.conversations import GROUPS, KEPT_S, LUA_NOTE, SPAN_S, SPREAD_S
from telemetry.generations import MOST_PARTS
from telemetry.packed import NAME_BYTES
from telemetry.scripts import CLAIM

DAY_MS = 86_400_000
AT_ONCE = 1000
TIMEOUT_S = 60.0
LATER_S = 32 * 86_400
PART_DIGITS = 5
CONVERSATION_BYTES = 25
"""Endpoint, propensity, time with step, and three bytes of version."""
CONVERSATIONS, SESSIONS, USER_SLOTS, APP_SLOTS = "conversation", "session", "user_slot", "app_slot"
KEY_BYTES = 16
DRAW = np.dtype(
    [
        ("endpoint", "<u8"),
        ("propensity", "<f8"),
        ("at_ms", "<u8"),
        ("version", "<u8"),
        ("step", "u1"),
    ]
)
"""As `STORED` lays it out."""


@dataclass(slots=True)
class LyingDraws:
    """What of the draws lies in the store."""

    socket_path: Path
    chance: np.random.Generator = field(default_factory=lambda: np.random.default_rng(1))
    _line: socket.socket = field(init=False)
    _lying: dict[str, deque[tuple[int, NDArray[np.uint8]]]] = field(default_factory=dict)
    _seen: NDArray[np.bool_] = field(init=False)  # user and task: whether they drew today
    _noted: Counter[int] = field(default_factory=Counter)  # conversations, by span
    _hashes: set[tuple[int, int, int]] = field(default_factory=set)  # group, span, its parts
    _sha: bytes = hashlib.sha1(LUA_NOTE.encode()).hexdigest().encode()  # noqa: S324 - as servers do

    def __post_init__(self) -> None:
        self._line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._line.settimeout(TIMEOUT_S)
        self._line.connect(str(self.socket_path))
        self._seen = np.zeros((N_USERS + 1) * N_TASKS, dtype=bool)
        self._lying = {sort: deque() for sort in (SESSIONS, USER_SLOTS, APP_SLOTS)}
        self._ask(_packed(b"SCRIPT", b"LOAD", LUA_NOTE.encode()))

    def close(self) -> None:
        """Let go of the store."""
        self._line.close()

    @property
    def n_lying(self) -> Counter[str]:
        """How many there are, by sort."""
        each = {sort: sum(len(own) for _, own in those) for sort, those in self._lying.items()}
        return Counter({CONVERSATIONS: self._noted.total(), **each})

    def write(self, step: TrafficStep, now_ms: int, *, day_ends_ms: int) -> None:
        """Write what the calls of a step draw, and what their conversations go by."""
        drawing = np.unique(step.user_slots)
        drawing = drawing[~self._seen[drawing]]
        self._seen[drawing] = True
        n_told = len(step.user_slots) + len(step.app_slots)
        self._note(n_told, now_ms)
        self._claim(SESSIONS, step.n_sessions, now_ms, int(SESSION_IDLE_S * 1000))
        self._claim(USER_SLOTS, len(drawing), now_ms, day_ends_ms - now_ms)
        self._claim(APP_SLOTS, len(np.unique(step.app_slots)), now_ms, APP_SLOT_S * 1000)

    def end(self, now_ms: int) -> None:
        """Delete what has ended by a time."""
        for those in self._lying.values():
            while those and those[0][0] <= now_ms:
                self._delete(those.popleft()[1])
        self._end_conversations(now_ms // 1000 + LATER_S)

    def begin_day(self) -> None:
        """Let users draw anew."""
        self._seen[:] = False

    def end_all_conversations(self) -> int:
        """Delete all of them; return how many there were."""
        n = self._noted.total()
        self._end_conversations(1 << 40)
        return n

    def end_all(self) -> int:
        """Delete all but conversations; return how many there were."""
        n = self.n_lying.total() - self._noted.total()
        for those in self._lying.values():
            while those:
                self._delete(those.popleft()[1])
        return n

    def _claim(self, sort: str, n: int, now_ms: int, ttl_ms: int) -> None:
        """Write draws of new units."""
        if not n:
            return
        units = np.frombuffer(self.chance.bytes(n * KEY_BYTES), dtype=np.uint8).reshape(n, -1)
        draws = np.zeros(n, dtype=DRAW)
        draws["endpoint"] = self.chance.integers(0, N_ENDPOINTS, n)
        draws["propensity"], draws["at_ms"] = self.chance.random(n), now_ms
        draws["version"], draws["step"] = self.chance.integers(0, 1 << 40, n), 3
        key, raw = keys.draw("0" * 2 * KEY_BYTES).encode(), b"\1" * STORED.size
        command = _packed(b"EVAL", CLAIM.encode(), b"1", key, raw, b"%d" % ttl_ms, b"")
        places = {command.index(key) + len(key) - 2 * KEY_BYTES: _hex(units)}
        places[command.index(raw)] = draws.view(np.uint8).reshape(n, -1)
        for part in range(0, n, AT_ONCE):
            some = {at: columns[part : part + AT_ONCE] for at, columns in places.items()}
            n_some = min(AT_ONCE, n - part)
            self._send(_tiled(command, some, n_some), n_some * len(_bulk(raw)))
        self._lying[sort].append((now_ms + ttl_ms, units))

    def _note(self, n: int, now_ms: int) -> None:
        """Note new conversations, each of the groups as many."""
        at_s = now_ms // 1000 + LATER_S
        ttl_ms = int((KEPT_S + at_s + 1 - time.time()) * 1000)  # the store counts whole seconds
        values = self.chance.integers(0, 256, (n, CONVERSATION_BYTES), dtype=np.uint8)
        fields = self.chance.integers(0, 256, (n, NAME_BYTES), dtype=np.uint8)
        parts = self.chance.integers(0, MOST_PARTS, n)
        powers = 10 ** np.arange(PART_DIGITS - 1, -1, -1)
        digits = (parts[:, None] // powers % 10 + ord("0")).astype(np.uint8)
        for group in range(GROUPS):
            index = keys.conversations(group).encode()
            base = keys.conversations_of(group, "").encode()
            part, name = b"9" * PART_DIGITS, b"\1" * NAME_BYTES
            raw = b"\2" * CONVERSATION_BYTES
            command = _packed(
                b"EVALSHA", self._sha, b"1", index, base, part, name, raw, b"%d" % ttl_ms
            )
            own = slice(group, None, GROUPS)
            places = {
                command.index(_bulk(part)) + len(_bulk(part)) - 2 - len(part): digits[own],
                command.index(name): fields[own],
                command.index(raw): values[own],
            }
            n_own = len(values[own])
            if n_own:
                self._send(_tiled(command, places, n_own), n_own * len(_bulk(raw)))
        self._noted[at_s // SPAN_S] += n

    def _end_conversations(self, now_s: int) -> None:
        """Delete the hashes of spans that have ended, as the store itself would."""
        over = [span for span in self._noted if (span + 1) * SPAN_S + KEPT_S + SPREAD_S <= now_s]
        if self._noted:
            self._look_at_spans()
        for span in over:
            del self._noted[span]
            for group, own, parts in sorted(key for key in self._hashes if key[1] == span):
                base = keys.conversations_of(group, f"{own}:{parts}.")
                names = [f"{base}{part}".encode() for part in range(parts)]
                for first in range(0, parts, AT_ONCE):
                    self._ask(_packed(b"DEL", *names[first : first + AT_ONCE]))
                self._hashes.discard((group, own, parts))

    def _look_at_spans(self) -> None:
        """Note which hashes conversations lie in."""
        for group in range(GROUPS):
            found = self._ask(
                _packed(b"HGET", keys.conversations(group).encode(), b"spans")
            ).partition(b"\r\n")[2]
            for generation in found.split():
                span, parts = generation.split(b":")
                self._hashes.add((group, int(span), int(parts)))

    def _ask(self, command: bytes) -> bytes:
        """Return the reply to one command, which is short."""
        self._line.sendall(command)
        reply = self._line.recv(1 << 16)
        if not reply or reply.startswith(b"-"):
            raise RuntimeError(f"the store says {reply[:100]!r}")
        return reply

    def _delete(self, units: NDArray[np.uint8]) -> None:
        key = keys.draw("0" * 2 * KEY_BYTES).encode()
        for part in range(0, len(units), AT_ONCE):
            some = units[part : part + AT_ONCE]
            begin = b"*%d\r\n%b" % (1 + len(some), _bulk(b"DEL"))
            at = _bulk(key).index(key) + len(key) - 2 * KEY_BYTES
            names = _tiled(_bulk(key), {at: _hex(some)}, len(some))
            self._send(begin + names, len(b":%d\r\n" % len(some)))

    def _send(self, commands: bytes, n_bytes: int) -> None:
        """Send commands, and wait for as many bytes of replies as they have if all goes well."""
        self._line.sendall(commands)
        while n_bytes > 0:
            reply = self._line.recv(min(n_bytes, 1 << 20))
            if not reply or reply.startswith(b"-"):
                raise RuntimeError(f"the store says {reply[:100]!r}")
            n_bytes -= len(reply)


def _packed(*arguments: bytes) -> bytes:
    return b"*%d\r\n" % len(arguments) + b"".join(map(_bulk, arguments))


def _bulk(argument: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(argument), argument)


def _tiled(pattern: bytes, places: dict[int, NDArray[np.uint8]], n: int) -> bytes:
    """Return a pattern `n` times, each with bytes of its own at some places: (n, n_bytes)."""
    out = np.tile(np.frombuffer(pattern, dtype=np.uint8), (n, 1))
    for at, columns in places.items():
        out[:, at : at + columns.shape[1]] = columns
    return out.tobytes()


def _hex(units: NDArray[np.uint8]) -> NDArray[np.uint8]:
    digits = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
    return digits[np.stack([units >> 4, units & 15], axis=2)].reshape(len(units), -1)
