"""Where jobs are asked for, and by which names; without rq, which few processes need."""

from __future__ import annotations

import os

from telemetry.address import parse_topology
from telemetry.errors import StoreUnavailable
from telemetry.store import Address, parse_address
from telemetry.trouble import STORE_VARIABLE

QUEUE_VARIABLE = "RQ_REDIS_URL"
"""Where it is set, the queue has a server of its own."""
RQ_JOB = "rq:job:"
"""Before an id: where rq keeps a job."""


def queue_name(archive: str) -> str:
    """Return the name of the queue of one archive's jobs."""
    return f"pointsman-{archive}"


def job_id(queue: str, name: str, period: int) -> str:
    """Return the id of a job in one of its periods; who comes later sees that it was asked for."""
    return f"{queue}-{name}-{period}"


def queue_variable() -> str:
    """Return the environment variable that names the server of the jobs' queue."""
    return QUEUE_VARIABLE if os.environ.get(QUEUE_VARIABLE) else STORE_VARIABLE


def jobs_address(store: Address) -> Address:
    """Return where the jobs' queue is.

    Raises:
        StoreUnavailable: that would be a cluster, on which rq does not run.
    """
    url = os.environ.get(QUEUE_VARIABLE)
    chosen = parse_address(url, named=QUEUE_VARIABLE) if url else store
    if parse_topology(chosen.url).is_cluster:
        raise StoreUnavailable(
            f"rq does not run on a cluster ({chosen.shown}): set RQ_REDIS_URL to one server, "
            "such as redis://host:6379; until then nothing is archived"
        )
    return chosen
