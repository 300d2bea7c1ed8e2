"""Processes: those that belong together end together, and a long one is spared what costs."""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

PARENT = "POINTSMAN_PARENT"
"""Environment variable with the process id of whoever started this one and keeps it."""
LOOK_EVERY_S = 0.5
"""How often is looked whether the keeper is there, on systems that do not tell."""
SOON_S = 0.02
"""From a process's end to when its children have another parent, far more than it takes."""
GC_THRESHOLDS = (20_000, 20, 50)
THREADS = {"OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS"}
"""Variables by which somebody says how many threads there are to be; it reads them as it loads."""
ALLOCATION = {"MALLOC_ARENA_MAX": "1"}
"""Of glibc, which keeps up to eight heaps a core: our threads mostly wait for each other anyway."""
UNNEEDED = ("click", "opentelemetry", "pygments", "rich")
_keeper: list[str] = []
"""At most one: whose end this process waits for."""


def child_environment() -> dict[str, str]:
    """Return the environment for a child that shall not outlive this process, and is small."""
    return {**ALLOCATION, **one_thread(os.environ), **os.environ, PARENT: str(os.getpid())}


def lasting_environment() -> dict[str, str]:
    """Return that for a child that lives as long as the stack: 4 MB less, by its docstrings.

    Its asserts go with them: they tell the type checker what is known. Where Python may not keep
    what it compiled, each start would compile all anew; there everything stays.
    """
    is_kept = not sys.dont_write_bytecode and os.access(os.path.dirname(__file__), os.W_OK)
    optimised = {"PYTHONOPTIMIZE": "2"} if is_kept or sys.pycache_prefix else {}
    return {**optimised, **child_environment()}


def one_thread(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what keeps numpy's library of linear algebra from starting a thread for each core.

    Nothing here multiplies matrices that are worth it. Where somebody said otherwise, that counts.
    """
    return {} if THREADS & environment.keys() else {"OPENBLAS_NUM_THREADS": "1"}


def own_environment() -> dict[str, str]:
    """Return the environment for another program in this very process."""
    return {**os.environ, **({PARENT: _keeper[0]} if _keeper else {})}


def end_with_parent() -> None:
    """Ask this process to end once its keeper is gone, however that happened."""
    told = os.environ.pop(PARENT, "")
    if told.isdigit():
        _keeper[:] = [told]
        watch = threading.Thread(target=_watch, args=(int(told),), name="keeper", daemon=True)
        watch.start()


def keeper() -> int | None:
    """Return the process whose end this one waits for, while that keeps it; None: there is none."""
    found = int(_keeper[0]) if _keeper else None
    return found if found == os.getppid() else None


def _watch(pid: int) -> None:
    line = _line_to(pid)
    while os.getppid() == pid:
        if line is not None:
            select.select([line], [], [])  # it can be read once the keeper has ended
        time.sleep(LOOK_EVERY_S if line is None else SOON_S)
    os.kill(os.getpid(), signal.SIGTERM)


def _line_to(pid: int) -> int | None:
    """Return what tells of a process's end without being looked at; None where nothing does."""
    try:
        return int(os.pidfd_open(pid))  # of Linux, since 5.3
    except (AttributeError, OSError):
        return None


@contextmanager
def sparing() -> Iterator[None]:
    """Let libraries be imported without what they take only because it is there.

    structlog takes rich, for tracebacks in colour, httpx a command line, and redis OpenTelemetry:
    together 8 MB and .1 s, in each process. What needs them itself can import them after.
    """
    os.environ.update(one_thread(os.environ))
    hidden = [name for name in UNNEEDED if name not in sys.modules]
    sys.modules |= dict.fromkeys(hidden)  # type: ignore[arg-type] # None: it is not there
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def has_terminal() -> bool:
    """Return whether there is a terminal whose end would be this process's.

    A SIGHUP that comes once it is gone says so; any other asks for the configuration anew.
    """
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def calm_collector() -> None:
    """Leave what lives as long as the process out of every garbage collection.

    The libraries alone hold some 200,000 objects; going through them costs a tenth of a call.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
