"""Faults in our own parts, made on purpose: what breaks has words of a call in its message.

Each process of a stack loads this as it starts (`arm`, by a `sitecustomize` of its own) and breaks
where it is asked to. A fault that nobody foresaw is like that, and its traceback goes to the log.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

HEADER = b"x-prove-fault"
HANDLER, TASK, CALLBACK, THREAD = "handler", "task", "callback", "thread"
FAULTS = (HANDLER, TASK, CALLBACK, THREAD)
OBSERVER_WORD = b"the observer is to break on this"
JOB = "workers.jobs.calibrate"
SECRET = "PROVE_FAULT_SECRET"  # noqa: S105 - a variable's name
ONCE = "PROVE_FAULT_ONCE"
"""Variables: a directory in which it is noted what broke already, and what workers break with."""
SITE = "from scripts.proofs.faulty_parts import arm\n\narm()\n"


class Fault(Exception):
    """Nothing of ours expects it."""


def arm() -> None:
    """Make this process one that breaks, whichever part it is."""
    words = sys.orig_argv
    if ONCE not in os.environ:
        return
    if "serve" in words:
        _arm_router()
    elif "workers.observer.__main__" in words:
        _arm_observer()
    elif "workers" in words:
        _arm_worker("jobs" if "--jobs" in words else "worker")


def _break(words: object) -> NoReturn:
    raise Fault(f"cannot go on with {words!r}") from KeyError(words)


def _arm_router() -> None:
    from router.dispatch.call import Calls

    serve = Calls.serve

    async def faulty(self: Calls, context: Any, exchange: Any) -> None:
        asked = exchange.headers.get(HEADER, b"").decode()
        words = (context.request.body, dict(exchange.headers))
        loop = asyncio.get_running_loop()
        if asked == HANDLER:
            _break(words)
        elif asked == TASK:
            loop.create_task(_die(words))  # noqa: RUF006 - that nobody holds it is the fault
        elif asked == CALLBACK:
            loop.call_soon(_break, words)
        elif asked == THREAD:
            threading.Thread(target=_break, args=(words,)).start()
        await serve(self, context, exchange)

    Calls.serve = faulty  # type: ignore[method-assign]


async def _die(words: object) -> None:
    _break(words)


def _arm_observer() -> None:
    from workers.observer import rewards

    derive = rewards.derive

    def faulty(call: Any, memory: Any) -> Any:
        if OBSERVER_WORD in call.request:
            _break((call.request, call.answer))
        return derive(call, memory)

    rewards.derive = faulty


def _arm_worker(name: str) -> None:
    """Break a worker as it begins, once; after that, one of its jobs."""
    done = Path(os.environ[ONCE]) / name
    if done.exists():
        if name == "jobs":
            from workers.jobs import jobs  # noqa: F401 - it fills the list
            from workers.jobs.worker import ALLOWED

            _, every_s = ALLOWED[JOB]
            ALLOWED[JOB] = (_break_with_secret, every_s)
        return
    done.touch()
    if name == "jobs":
        from workers.jobs import schedule

        schedule.run_told = _break_with_secret  # type: ignore[assignment]
    else:
        from workers.folding.learner import Learner

        Learner.run = _break_with_secret  # type: ignore[method-assign,assignment]


def _break_with_secret(*_: object) -> NoReturn:
    _break(os.environ[SECRET])
