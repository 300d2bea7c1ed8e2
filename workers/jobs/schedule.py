"""When jobs run: each process asks for what is due, and of several one gets it.

A job's id is its name and the number of its period; so it runs once a period however many ask,
and what nobody ran in time is not made up for.
"""

from __future__ import annotations

import logging
import os
import time

import structlog
from redis import RedisError
from rq import Queue
from rq.exceptions import DuplicateJobError
from rq.serializers import JSONSerializer

from telemetry.address import parse_topology
from telemetry.errors import StoreUnavailable
from telemetry.store import Address, Client, StoreErrors, connect, parse_address
from telemetry.trouble import trouble_of
from workers.archive.archive import identity
from workers.jobs.jobs import Place, work_at
from workers.jobs.worker import ALLOWED, AllowedJob, JobWorker

log = structlog.get_logger()

LOOK_EVERY_S = 1.0
AWAY_S = 1.0
KEPT_S = 600
"""How long a result is kept: by its id others see that the job has run."""
FAILURE_KEPT_S = 86_400
TIMEOUT_S = 3600
WORKER_TTL_S = 20
"""rq derives the connection's time-out from it: 15 s."""


def run_jobs(place: Place) -> None:
    """Enqueue and run jobs until `place.stop`; a store that is away is waited for."""
    os.nice(10)  # calls and folding come first
    for name in ("rq.worker", "rq.job", "rq.queue"):
        logging.getLogger(name).addHandler(logging.NullHandler())
        logging.getLogger(name).propagate = False  # its lines are no JSON
    work_at(place)
    try:
        client = connect(_jobs_address(place.address))
    except StoreUnavailable as error:
        log.error("no jobs are run", reason=str(error))
        place.stop.wait()  # to end would only be started again
        return
    queue = open_queue(client, identity(place.root))
    worker: JobWorker | None = None  # to make one takes a store that answers
    asked: dict[str, int] = {}
    away = False
    while not place.stop.is_set():
        try:
            enqueue_due(queue, asked, now_s=time.time())
            worker = worker or JobWorker(
                [queue], connection=client, serializer=JSONSerializer, worker_ttl=WORKER_TTL_S
            )
            if queue.count:
                worker.work(burst=True, logging_level="ERROR")
            if away:
                log.info("store is back")
            away = False
        except (RedisError, *StoreErrors) as error:
            if not away:
                trouble = trouble_of(error)
                what = "store takes nothing" if trouble.answers else "store is away"
                log.warning(f"{what}: no jobs", **trouble.told())
            away = True
            worker = None  # the store may hold its name for one that lives, and refuse it
        place.stop.wait(AWAY_S if away else LOOK_EVERY_S)


def open_queue(client: Client, archive: str) -> Queue:
    """Return the queue of one archive's jobs; what travels in it is JSON, never pickle."""
    return Queue(
        f"pointsman-{archive}",
        connection=client,
        serializer=JSONSerializer,
        job_class=AllowedJob,
        default_timeout=TIMEOUT_S,
    )


def enqueue_due(queue: Queue, asked: dict[str, int], *, now_s: float) -> list[str]:
    """Ask for every job whose period has begun; return those that nobody had asked for yet.

    Args:
        asked: by job the period that this process asked for last; is kept up to date.
    """
    new = []
    for name, (_, every_s) in ALLOWED.items():
        period = int(now_s // every_s)
        if asked.get(name) == period:
            continue
        try:
            queue.enqueue(
                name,
                job_id=f"{queue.name}-{name.rpartition('.')[2]}-{period}",
                unique=True,
                result_ttl=max(KEPT_S, int(2 * every_s)),
                failure_ttl=FAILURE_KEPT_S,
                ttl=max(60, int(every_s)),
            )
            new.append(name)
        except DuplicateJobError:
            pass
        asked[name] = period
    return new


def _jobs_address(store: Address) -> Address:
    """Return where the jobs' queue is.

    Raises:
        StoreUnavailable: that would be a cluster, on which rq does not run.
    """
    url = os.environ.get("RQ_REDIS_URL")
    chosen = parse_address(url, named="RQ_REDIS_URL") if url else store
    if parse_topology(chosen.url).is_cluster:
        raise StoreUnavailable(
            f"rq does not run on a cluster ({chosen.shown}): set RQ_REDIS_URL to one server, "
            "such as redis://host:6379; until then nothing is archived"
        )
    return chosen
