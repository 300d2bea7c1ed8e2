"""What can go wrong, made to go wrong: kills, freezes, repeated frames and poison.

Everything happens in one thread, one thing at a time. So no write of ours is under way when the
store dies by our hand, and what was injected is known exactly. The processes are found as the
operating system shows them (`/proc`, so on Linux), never through the supervisor.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import struct
import time
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from router.demo.stack import DidNotStart, Stack
from telemetry import frames, keys
from telemetry.events import RECORD_SIZE
from telemetry.store import Address, Client, StoreErrors, connect

UP, SECOND = "up", "second worker"
"""`pointsman up` and `pointsman work`: supervisors, whose children work and end with them."""
DUPLICATED_SHARE = 0.2
POISONED_SHARE = 0.01
AWAY_SHARE = 0.25
"""How often something more is killed while the router is away."""
SOONER = 0.3
"""Of a pause, after which a kill is tried that could not be made."""
LATEST_S = 6.0
"""A repeated frame may come after the lease has gone to another worker."""
FREEZE_S = 4.0
"""Beyond the lease of 2.4 s, so that another worker takes the shard meanwhile."""
FREEZE_EVERY = 8
"""Kills between two freezes."""
GROWN_S = 2.0
"""A worker of this age folds; a younger one still imports."""
YOUNG_SHARE = 0.15
"""How often a process may be killed while it starts."""
ARRIVED_S = 5.0
"""Poison not seen by then never left: the store died before."""
LOOK_S = 0.03
RECENT = 200


@dataclass(slots=True)
class FaultCounts:
    """What was done."""

    kills: int = 0
    killed: dict[str, int] = field(default_factory=dict)
    freezes: int = 0
    frames: int = 0
    duplicated: int = 0
    poisoned: int = 0  # dead letters that must come of it


@dataclass(slots=True)
class Chaos:
    """Kills and injects on one running stack."""

    stack: Stack  # holds both supervisors, which are started again
    address: Address
    store_pid: Path
    port: int
    n_shards: int
    rng: random.Random
    every_s: float
    counts: FaultCounts = field(default_factory=FaultCounts)
    recent: deque[tuple[int, bytes]] = field(default_factory=lambda: deque(maxlen=RECENT))
    _client: Client = None
    _read: dict[str, bytes] = field(default_factory=dict)
    _own: set[bytes] = field(default_factory=set)  # entries that we added
    # Poison on its way: bytes -> dead letters that it makes, and when it was sent.
    _poison: dict[bytes, tuple[int, float]] = field(default_factory=dict)
    _later: list[tuple[float, int, bytes]] = field(default_factory=list)
    _seen: dict[int, float] = field(default_factory=dict)
    _frozen: tuple[int, float] | None = None
    _up_killed: bool = False  # or its first router, without which it ends as it is meant to
    _served: bool = False  # since `up` was started
    _waits: bool = True  # with the next kill, until the router is there
    _next_freeze: int = FREEZE_EVERY // 2

    def run(
        self,
        *,
        kills: int,
        at_least_s: float,
        deadline_s: float,
        progress: Callable[[str], None],
    ) -> None:
        """Go on until that many processes were killed and that much time has passed."""
        began = time.monotonic()
        next_kill = began + self.every_s
        while self.counts.kills < kills or time.monotonic() < began + at_least_s:
            now = time.monotonic()
            if now > began + deadline_s:
                break
            self.look_after()
            if self._frozen is not None and now > self._frozen[1]:
                self.thaw()
            if now > next_kill and self.counts.kills < kills:
                pause = self.rng.uniform(0.4, 1.6) * self.every_s
                if self._kill():
                    self._waits = self.rng.random() > AWAY_SHARE
                    progress(f"{self.counts.kills} of {kills} kills")
                else:
                    pause *= SOONER
                next_kill = now + pause
                if self.counts.kills >= self._next_freeze and self._frozen is None:
                    self._freeze()
        self.thaw()

    def look_after(self) -> None:
        """Start supervisors again that were killed, and read on.

        Raises:
            DidNotStart: `up` ended, and nobody had killed it.
        """
        code = self.stack.processes[UP].poll()
        if code is None:
            self._served = self._served or listens(self.port)
        elif not self._up_killed:
            raise DidNotStart(f"up ended by itself, exit code {code}:\n{self.stack.log(UP)}")
        elif not listens(self.port):  # its router ends a moment later
            self._up_killed = not self.stack.revive(UP)
            self._served = False
        self.stack.revive(SECOND)
        self.look()

    # -- processes ----------------------------------------------------------------------------

    def processes(self) -> dict[int, str]:
        """Return what runs now: process id → router, worker, jobs, supervisor, up or store."""
        up, second = (self.stack.processes[name].pid for name in (UP, SECOND))
        found = {pid: _name(pid) for top in (up, second) for pid in _descendants(top)}
        found |= {up: "up", second: "supervisor"}
        with contextlib.suppress(OSError, ValueError):
            found[int(self.store_pid.read_text())] = "store"
        alive = {pid: name for pid, name in found.items() if name and _is_alive(pid)}
        now = time.monotonic()
        self._seen = {pid: self._seen.get(pid, now) for pid in alive}
        return alive

    def _kill(self) -> bool:
        """Kill one process at random, the kinds alike; return whether there was one."""
        if self._waits and not listens(self.port):
            return False  # without calls there is nothing to lose
        young = self.rng.random() < YOUNG_SHARE
        by_kind: dict[str, list[int]] = {}
        for pid, kind in self.processes().items():
            if young or self._is_grown(pid, kind):
                by_kind.setdefault(kind, []).append(pid)
        if not by_kind:
            return False
        kind = self.rng.choice(sorted(by_kind))
        try:
            os.kill(self.rng.choice(by_kind[kind]), signal.SIGKILL)
        except ProcessLookupError:
            return False
        self._up_killed |= kind == "up" or (kind == "router" and not self._served)
        self.counts.kills += 1
        self.counts.killed[kind] = self.counts.killed.get(kind, 0) + 1
        return True

    def _is_grown(self, pid: int, kind: str) -> bool:
        if kind == "store":
            return True
        if kind == "router":
            return listens(self.port) and time.monotonic() - self._seen[pid] > GROWN_S
        return time.monotonic() - self._seen[pid] > GROWN_S

    def workers(self) -> list[int]:
        """Return the workers, the longest seen first: it is the likeliest to hold the leases."""
        found = [pid for pid, name in self.processes().items() if name == "worker"]
        return sorted(found, key=lambda pid: self._seen[pid])

    def _freeze(self) -> None:
        workers = self.workers()
        if len(workers) < 2 or not self._is_grown(workers[1], "worker"):
            return  # nobody could take over
        os.kill(workers[0], signal.SIGSTOP)
        self._frozen = workers[0], time.monotonic() + FREEZE_S
        self.counts.freezes += 1
        self._next_freeze = self.counts.kills + FREEZE_EVERY

    def thaw(self) -> None:
        """Let a frozen worker go on, if it was not killed meanwhile."""
        if self._frozen is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._frozen[0], signal.SIGCONT)
            self._frozen = None

    # -- the stream ---------------------------------------------------------------------------

    def look(self) -> None:
        """Read what is new in the stream, and add to it what does not belong there."""
        try:
            if self._client is None:
                self._client = connect(self.address)
            since = {keys.stream(n): b"0-0" for n in range(self.n_shards)} | self._read
            replies = self._client.xread(since, block=int(LOOK_S * 1000), count=100)
            for name, parts in dict(replies or {}).items():
                for entry, fields in parts[0] if parts and isinstance(parts[0], list) else parts:
                    self._take(name.decode(), entry, fields)
            while self._later and self._later[0][0] < time.monotonic():
                _, shard, raw = self._later[0]
                self._own.add(self._client.xadd(keys.stream(shard), {"f": raw}))
                self.counts.duplicated += 1
                self._later.pop(0)
        except StoreErrors:
            self._client = None
            time.sleep(LOOK_S)

    def has_read(self, shard: int, entry: bytes) -> bool:
        """Return whether an entry was seen here, and so may be repeated."""
        read = self._read.get(keys.stream(shard), b"0-0")
        return _position(entry) <= _position(read)

    def _take(self, stream: str, entry: bytes, fields: dict[bytes, bytes]) -> None:
        self._read[stream] = entry
        raw = fields.get(b"f", b"")
        if raw in self._poison:
            # Counted where it is seen to have arrived: its own reply may have been cut.
            self.counts.poisoned += self._poison.pop(raw)[0]
            return
        if entry in self._own:
            self._own.discard(entry)
            return
        shard = next(n for n in range(self.n_shards) if keys.stream(n) == stream)
        self.counts.frames += 1
        self.recent.append((shard, raw))
        if self.rng.random() < DUPLICATED_SHARE:
            late = self.rng.choice([0.0, self.rng.uniform(0, LATEST_S)])
            self._later.append((time.monotonic() + late, shard, raw))
            self._later.sort(key=lambda item: item[0])
        if self.rng.random() < POISONED_SHARE:
            bad, n_dead = poison(raw, shard, self.rng)
            self._poison[bad] = n_dead, time.monotonic()
            self._client.xadd(keys.stream(shard), {"f": bad})

    def finish(self) -> None:
        """Send what is still to be repeated, and see everything arrive."""
        until = time.monotonic() + LATEST_S + ARRIVED_S
        while (self._later or self._poison) and time.monotonic() < until:
            self.look_after()


def poison(raw: bytes, shard: int, rng: random.Random) -> tuple[bytes, int]:
    """Return an entry that cannot be folded, like `raw`, and how many dead letters it makes.

    Whole records travel under a producer of their own: under their first one they would pass
    for repeated ones, and be dropped unread.
    """
    head, record = raw[:-RECORD_SIZE], raw[-RECORD_SIZE:]
    kind = rng.randrange(5)
    if kind == 0:
        return b"PMF9" + rng.randbytes(4) + raw[8:], 1
    if kind == 1:
        return raw[: len(head) + rng.randrange(1, RECORD_SIZE)], 1
    if kind == 2:
        return rng.randbytes(rng.randrange(8, 400)), 1
    if kind == 3:
        bodies = [_flipped(record, rng) for _ in range(rng.randrange(1, 4))]
    else:
        bodies = [_resealed(record[:1] + bytes([rng.randrange(100, 255)]) + record[2:])]
    frame = frames.Frame(rng.randbytes(16), shard, 0, b"".join(bodies))
    return frames.pack(frame), len(bodies)


def _flipped(record: bytes, rng: random.Random) -> bytes:
    """Return the record with one bit turned over; its last four bytes are padding."""
    place = rng.randrange(RECORD_SIZE - 4)
    bit = bytes([record[place] ^ 1 << rng.randrange(8)])
    return record[:place] + bit + record[place + 1 :]


def _resealed(record: bytes) -> bytes:
    body = record[:-8]
    return body + struct.pack("<II", zlib.crc32(body), 0)


def _position(entry: bytes) -> list[int]:
    return [int(part) for part in entry.split(b"-")]


def listens(port: int) -> bool:
    """Return whether somebody takes connections there."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    for task in _listed(Path(f"/proc/{pid}/task")):
        try:
            children = (task / "children").read_text().split()
        except OSError:
            continue
        for child in children:
            found += [int(child), *_descendants(int(child))]
    return found


def _listed(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except OSError:
        return []


def _name(pid: int) -> str:
    """Return what kind of process this is, by its command line."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    if b"workers" in words:
        return "jobs" if b"--jobs" in words else "worker"
    return "router" if b"serve" in words else ""


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state not in "ZX"
