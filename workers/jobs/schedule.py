"""Runs the jobs that it is told to, through rq: `python -m workers --jobs --told DESCRIPTOR`.

Who tells is another process, and this one is there for as long as that has something to tell.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterable

import structlog
from redis import RedisError
from rq import Queue
from rq.exceptions import DuplicateJobError
from rq.serializers import JSONSerializer

from telemetry.store import Client, StoreErrors, connect
from telemetry.trouble import trouble_of
from workers.archive.archive import identity
from workers.jobs.clock import AWAY, DONE
from workers.jobs.jobs import work_at
from workers.jobs.place import Place
from workers.jobs.questions import EVERY_S
from workers.jobs.queue import job_id, jobs_address, queue_name
from workers.jobs.worker import AllowedJob, JobWorker

log = structlog.get_logger()

KEPT_S = 600
"""How long a result is kept: by its id others see that the job has run."""
FAILURE_KEPT_S = 86_400
TIMEOUT_S = 3600
WORKER_TTL_S = 20
"""rq derives the connection's time-out from it: 15 s."""


def run_told(place: Place, line: socket.socket) -> None:
    """Run what the line says, until it ends or `place.stop`."""
    os.nice(10)  # calls and folding come first
    for name in ("rq.worker", "rq.job", "rq.queue"):
        logging.getLogger(name).addHandler(logging.NullHandler())
        logging.getLogger(name).propagate = False  # its lines are no JSON
    work_at(place)
    client = connect(jobs_address(place.address))
    queue = open_queue(client, identity(place.root))
    worker: JobWorker | None = None
    with line.makefile("rb") as stream:
        while not place.stop.is_set() and (told := stream.readline()):
            try:
                enqueue(queue, told.decode().split(), now_s=time.time())
                worker = worker or JobWorker(
                    [queue], connection=client, serializer=JSONSerializer, worker_ttl=WORKER_TTL_S
                )
                if queue.count:
                    worker.work(burst=True, logging_level="ERROR")
            except (RedisError, *StoreErrors) as error:
                log.warning("store is away: jobs end here", **trouble_of(error).told())
                line.sendall(AWAY)
                return  # the next one has another name: the store may hold ours for alive
            line.sendall(DONE)


def open_queue(client: Client, archive: str) -> Queue:
    """Return the queue of one archive's jobs; what travels in it is JSON, never pickle."""
    return Queue(
        queue_name(archive),
        connection=client,
        serializer=JSONSerializer,
        job_class=AllowedJob,
        default_timeout=TIMEOUT_S,
    )


def enqueue(queue: Queue, names: Iterable[str], *, now_s: float) -> list[str]:
    """Ask for jobs in the periods that have begun; return those that nobody had asked for yet."""
    new = []
    for name in names:
        every_s = EVERY_S[name]
        try:
            queue.enqueue(
                f"workers.jobs.{name}",
                job_id=job_id(queue.name, name, int(now_s // every_s)),
                unique=True,
                result_ttl=max(KEPT_S, int(2 * every_s)),
                failure_ttl=FAILURE_KEPT_S,
                ttl=max(60, int(every_s)),
            )
            new.append(name)
        except DuplicateJobError:
            pass
    return new
