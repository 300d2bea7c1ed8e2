"""When jobs run: each process asks for what is due, and of several one gets it.

A job's id is its name and the number of its period; so it runs once a period however many ask, and
what nobody ran in time is not made up for. This takes next to nothing, so it may live in a worker:
jobs are run by another process (`schedule`), which is started when there is something to do, told
what, stays while records come, and is gone when they do not.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field

import structlog
from redis import RedisError

from telemetry import jobs_trouble, keys
from telemetry.errors import StoreUnavailable, TelemetryError
from telemetry.jobs_trouble import SAID_EVERY_S, JobsTrouble
from telemetry.processes import child_environment
from telemetry.store import Client, StoreErrors, connect
from telemetry.trouble import STORE_VARIABLE, trouble_of
from workers.archive.archive import identity
from workers.jobs import recent
from workers.jobs.burials import bury_dead
from workers.jobs.place import TIMEOUT_S, Place
from workers.jobs.questions import EVERY_S, OFTEN_S, Questions
from workers.jobs.queue import RQ_JOB, job_id, jobs_address, queue_name, queue_variable

log = structlog.get_logger()

AWAY_S = 1.0
LOOK_EVERY_S = 0.2
"""At whether the process is to end, while a job runs."""
QUIET_S = 75.0
"""After so long without a record the process that runs jobs goes: a minute's are due no more."""
STOP_S = 8.0
FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 300.0
"""Between two starts of a process that fails."""
DONE, AWAY = b".", b"!"
"""What the process answers: that jobs are through, or that it could not reach the store."""


class RunnerFailed(Exception):
    """The process did not run what it was told."""

    def __init__(self, reason: str, *, is_away: bool = False) -> None:
        super().__init__(reason)
        self.is_away = is_away


class QueueAway(Exception):
    """The jobs' queue could not be asked, which may have a server of its own."""


@dataclass(slots=True)
class JobRunner:
    """The process that runs jobs, while there is one."""

    command: Sequence[str]  # without the descriptor of its line
    stopped: Callable[[], bool]
    _process: subprocess.Popen[bytes] | None = None
    _line: socket.socket | None = None

    @property
    def is_there(self) -> bool:
        """Whether there is one."""
        return self._process is not None

    def run(self, names: Sequence[str]) -> None:
        """Have jobs run, and wait until they are through, or we are to stop.

        Raises:
            RunnerFailed: it ended, could not reach the store, or cannot be started.
        """
        self.notice_end()
        try:
            if self._line is None:
                self._start()
            assert self._line is not None
            self._line.sendall(" ".join(names).encode() + b"\n")
            while not self.stopped():
                with suppress(TimeoutError):
                    if (answer := self._line.recv(1)) != DONE:
                        raise RunnerFailed("it ended", is_away=answer == AWAY)
                    return
        except RunnerFailed:
            self.end()
            raise
        except ConnectionError:  # before it was told, or before it read what it was told
            self.end()
            raise RunnerFailed("it ended") from None
        except OSError as error:
            self.end()
            raise RunnerFailed(str(error)) from None

    def notice_end(self) -> None:
        """Take note where one that waited for jobs ended unasked: the next has another."""
        if self._process is not None and self._process.poll() is not None:
            log.warning("the process for jobs ended while it waited", code=self._process.returncode)
            self.end()

    def _start(self) -> None:
        self._line, theirs = socket.socketpair()
        self._line.settimeout(LOOK_EVERY_S)
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [*self.command, "--told", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                env=child_environment(),
                pass_fds=(theirs.fileno(),),
            )

    def end(self) -> None:
        """Have it end what it does, in order, and wait for it."""
        if self._line is not None:
            self._line.close()
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._line = self._process = None


@dataclass(slots=True)
class SaidTrouble:
    """What this process says in the store of why no jobs are run."""

    _since_ms: int = 0  # 0: nothing
    _next: float = 0.0  # monotonic seconds

    def say(self, store: Client, text: str, fix: str) -> None:
        """Say it, now and then.

        Raises:
            redis.RedisError, OSError: the store is away.
        """
        if time.monotonic() < self._next:
            return
        self._since_ms = self._since_ms or int(store.time()[0]) * 1000
        jobs_trouble.say(store, JobsTrouble(text=text, fix=fix, since_ms=self._since_ms))
        self._next = time.monotonic() + SAID_EVERY_S

    def take_back(self, store: Client) -> None:
        """Say that it is over, if it was said.

        Raises:
            redis.RedisError, OSError: the store is away.
        """
        if self._since_ms:
            jobs_trouble.take_back(store)
            self._since_ms, self._next = 0, 0.0


@dataclass(slots=True)
class JobClock:
    """Asks for what is due until `place.stop`; a store that is away is waited for."""

    place: Place
    command: Sequence[str]
    runner: JobRunner = field(init=False)
    _asked: dict[str, int] = field(default_factory=dict)  # by job the period asked for last
    _marks: list[str] = field(default_factory=list)
    _moved_at: float = 0.0  # when records came last
    _pause_s: float = FIRST_PAUSE_S
    _starts_at: float = 0.0  # monotonic seconds: not before is a process started that failed
    _is_away: bool = False
    _word: SaidTrouble = field(default_factory=SaidTrouble)

    def __post_init__(self) -> None:
        self.runner = JobRunner(self.command, self.place.stop.is_set)

    def run(self) -> None:
        """Run until the process is to end."""
        try:
            client = connect(jobs_address(self.place.address), timeout_s=TIMEOUT_S)
        except StoreUnavailable as error:
            log.error("no jobs are run", reason=str(error))
            self._wait_in_vain(f"no jobs are run: {error}")
            return
        archive, trail = self.place.archive(), self.place.trail()
        questions = Questions(archive, trail, self.place.keep.days != 0, self.place.every_s)
        try:
            while not self.place.stop.is_set():
                self.place.stop.wait(self._round(client, questions))
        finally:
            self.runner.end()

    def _wait_in_vain(self, text: str) -> None:
        """Say why no jobs are run until the process is to end; if it did, it would be restarted."""
        while not self.place.stop.is_set():
            with suppress(RedisError, TelemetryError, *StoreErrors):
                client = connect(self.place.address, timeout_s=TIMEOUT_S)
                with closing(client):
                    self._word.say(client, text, "")
            self.place.stop.wait(SAID_EVERY_S)

    def _round(self, client: Client, questions: Questions) -> float:
        """Have run what is due; return how long to rest."""
        rest_s = OFTEN_S - time.time() % OFTEN_S
        self.runner.notice_end()
        try:
            names = self._due(client, questions)
            self._word.take_back(questions.archive.client)
            if names:
                self.runner.run(names)
            self._rest_runner(questions)
        except (RedisError, *StoreErrors) as error:
            self._say_away(error)
            self._forget(questions)
            return AWAY_S
        except QueueAway as away:
            cause, named = away.__cause__ or away, queue_variable()
            self._say_away(cause, named=named)
            if named != STORE_VARIABLE:
                self._tell(questions.archive.client, cause, named)
            self._forget(questions)
            return AWAY_S
        except RunnerFailed as error:
            self._forget(questions)
            if error.is_away:
                return AWAY_S
            log.error("the process for jobs failed", reason=str(error), again_in_s=self._pause_s)
            self._starts_at = time.monotonic() + self._pause_s
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            return rest_s  # what takes no process goes on
        if time.monotonic() >= self._starts_at:
            self._pause_s = FIRST_PAUSE_S
        if self._is_away:
            log.info("store is back")
        self._is_away = False
        return rest_s

    def _tell(self, store: Client, error: BaseException, named: str) -> None:
        """Say in the store that the queue's own is away."""
        trouble = trouble_of(error)
        told, what = trouble.told(named=named), "takes nothing" if trouble.answers else "is away"
        said = f" ({trouble.said})" if trouble.said else ""
        with suppress(RedisError, *StoreErrors):
            text = f"no jobs are run: their own store {what}: {trouble.reason}{said}"
            self._word.say(store, text, told["fix"])

    def _due(self, client: Client, questions: Questions) -> list[str]:
        """Return the jobs whose period has begun, that nobody asked for, and have to do."""
        now_s = time.time()
        periods = {name: int(now_s // every_s) for name, every_s in EVERY_S.items()}
        new = [name for name, period in periods.items() if self._asked.get(name) != period]
        archive = questions.archive
        now_ms = int(archive.client.time()[0]) * 1000
        if "bury" in new and archive.client.hlen(keys.ENDED):
            bury_dead(archive.client, archive.n_shards, now_ms=now_ms)  # it takes no process
        if time.monotonic() < self._starts_at:
            self._asked["bury"] = periods["bury"]
            return []
        names = [name for name in new if name != "bury" and questions.ask(name, now_ms=now_ms)]
        pipeline, queue = client.pipeline(transaction=False), queue_name(identity(self.place.root))
        for name in names:
            pipeline.exists(RQ_JOB + job_id(queue, name, periods[name]))
        try:
            others = pipeline.execute()
        except (RedisError, *StoreErrors) as error:
            raise QueueAway from error
        self._asked |= {name: periods[name] for name in new}
        return [name for name, is_asked in zip(names, others, strict=True) if not is_asked]

    def _rest_runner(self, questions: Questions) -> None:
        """Let the process go when no records come."""
        marks = recent.marks(questions.archive)
        if marks != self._marks:
            first, self._marks = not self._marks, marks
            self._moved_at = 0.0 if first else time.monotonic()
        if self.runner.is_there and time.monotonic() - self._moved_at >= QUIET_S:
            self.runner.end()

    def _forget(self, questions: Questions) -> None:
        questions.forget()
        self._asked.clear()

    def _say_away(self, error: BaseException, *, named: str = STORE_VARIABLE) -> None:
        if not self._is_away:
            trouble = trouble_of(error)
            whose = "store" if named == STORE_VARIABLE else "the jobs' own store"
            what = "takes nothing" if trouble.answers else "is away"
            log.warning(f"{whose} {what}: no jobs", **trouble.told(named=named))
        self._is_away = True
