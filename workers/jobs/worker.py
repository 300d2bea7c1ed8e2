"""Who runs jobs, and refuses what is none of ours.

A job that names anything else than ALLOWED has, or asks for a callback or a web request, is
refused; so whoever can write to the store cannot make this process run code of theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from rq import SimpleWorker
from rq.job import Job

log = structlog.get_logger()

ALLOWED: dict[str, tuple[Callable[[], Any], float]] = {}
"""By name: the job, and how often it is due. `jobs` fills it."""


class JobsStopped(Exception):
    """The process is to end; the job is done again another time."""


class NotAllowed(Exception):
    """A job names a function that no job may name, or asks for more than to run one."""


class AllowedJob(Job):
    """A job that can be nothing but one of ours."""

    @property
    def func(self) -> Callable[[], Any]:
        """Return the function that it names; nothing is imported for it.

        Raises:
            NotAllowed: it is none of ours, or comes with arguments or something to call after it.
        """
        known = ALLOWED.get(self.func_name or "")
        extras = (self.args, self.kwargs, self.instance, self.webhooks)
        callbacks = (
            self._success_callback_name,
            self._failure_callback_name,
            self._stopped_callback_name,
        )
        if known is None or any(extras) or any(callbacks):
            raise NotAllowed(str(self.func_name)[:100])
        return known[0]

    @property
    def success_callback(self) -> None:
        """None: it would be imported by a name from the store."""
        return None

    @property
    def failure_callback(self) -> None:
        """None, as above."""
        return None

    @property
    def stopped_callback(self) -> None:
        """None, as above."""
        return None

    def send_webhooks(self, status: Any, *, exc_string: str | None = None) -> None:
        """Send none."""


class JobWorker(SimpleWorker):
    """Runs jobs in this very process: polars hangs in one that was forked after its import.

    It takes no commands from the store, and leaves signals to the process. Of a job that fails
    again and again it logs the first time, and when it is over.
    """

    job_class = AllowedJob

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._failing: set[str] = set()

    def subscribe(self) -> None:
        """Listen to nobody."""

    def unsubscribe(self) -> None:
        """Nothing to end."""

    def _set_ip_address(self, connection: Any) -> None:
        """Ask for none: the reply names the path of a unix socket, and rq stumbles over a space."""
        self.ip_address = "unknown"

    def _install_signal_handlers(self) -> None:
        """Leave the process's own."""

    def handle_exception(self, job: Job, *exc_info: Any) -> None:
        """Log a failure by its kind: a message may hold what does not belong in a log."""
        name = str(job.func_name)[:100]
        if name not in self._failing and exc_info[0] is not JobsStopped:
            if name in ALLOWED:
                self._failing.add(name)
            kind = exc_info[0].__name__ if exc_info and exc_info[0] else ""
            number = getattr(exc_info[1], "errno", None) if len(exc_info) > 1 else None
            log.error("a job failed", job=name, error=kind, errno=number)

    def handle_job_failure(self, *arguments: Any, **named: Any) -> None:
        """Keep in the store that a job failed, and not with which words: rq keeps a traceback."""
        super().handle_job_failure(*arguments, **named | {"exc_string": ""})

    def handle_job_success(self, *arguments: Any, **named: Any) -> None:
        """Note that a job is well again."""
        super().handle_job_success(*arguments, **named)
        job = named.get("job") or arguments[0]
        if job.func_name in self._failing:
            self._failing.discard(job.func_name)
            log.info("a job works again", job=job.func_name)
