"""The draws of a month in the store: written as the router writes them, and ended by hand.

Their time to live runs by the store's own clock, to which a month of the bench is minutes. So the
bench deletes what would have ended, at the time at which it would have: a session half an hour
after its last call, a user's slot with the day, an app's after ten minutes, what a conversation
without a session goes by after 24 hours. At this rate no session of the mix is called twice.
"""

from __future__ import annotations

import socket
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from router.decision.shared_draws import STORED
from router.decision.units import APP_SLOT_S, SESSION_IDLE_S, SESSION_S
from scripts.benches.growth_traffic import N_ENDPOINTS, N_TASKS, N_USERS, TrafficStep
from telemetry import keys
from telemetry.scripts import CLAIM

DAY_MS = 86_400_000
AT_ONCE = 1000
TIMEOUT_S = 60.0
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

    def __post_init__(self) -> None:
        self._line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._line.settimeout(TIMEOUT_S)
        self._line.connect(str(self.socket_path))
        self._seen = np.zeros((N_USERS + 1) * N_TASKS, dtype=bool)
        self._lying = {sort: deque() for sort in (CONVERSATIONS, SESSIONS, USER_SLOTS, APP_SLOTS)}

    def close(self) -> None:
        """Let go of the store."""
        self._line.close()

    @property
    def n_lying(self) -> dict[str, int]:
        """How many there are, by sort."""
        return {sort: sum(len(own) for _, own in those) for sort, those in self._lying.items()}

    def write(self, step: TrafficStep, now_ms: int, *, day_ends_ms: int) -> None:
        """Write what the calls of a step draw, and what their conversations go by."""
        drawing = np.unique(step.user_slots)
        drawing = drawing[~self._seen[drawing]]
        self._seen[drawing] = True
        n_told = len(step.user_slots) + len(step.app_slots)
        self._claim(CONVERSATIONS, n_told, now_ms, int(SESSION_S * 1000))
        self._claim(SESSIONS, step.n_sessions, now_ms, int(SESSION_IDLE_S * 1000))
        self._claim(USER_SLOTS, len(drawing), now_ms, day_ends_ms - now_ms)
        self._claim(APP_SLOTS, len(np.unique(step.app_slots)), now_ms, APP_SLOT_S * 1000)

    def end(self, now_ms: int) -> None:
        """Delete what has ended by a time."""
        for those in self._lying.values():
            while those and those[0][0] <= now_ms:
                self._delete(those.popleft()[1])

    def begin_day(self) -> None:
        """Let users draw anew."""
        self._seen[:] = False

    def end_all(self) -> int:
        """Delete all of them; return how many there were."""
        n = sum(self.n_lying.values())
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
