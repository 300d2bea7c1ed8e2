"""Where jobs are asked for, and by which names; without rq, which few processes need."""

from __future__ import annotations

import os

from telemetry.address import parse_topology
from telemetry.errors import StoreUnavailable
from telemetry.store import Address, parse_address

RQ_JOB = "rq:job:"
"""Before an id: where rq keeps a job."""


def queue_name(archive: str) -> str:
    """Return the name of the queue of one archive's jobs."""
    return f"pointsman-{archive}"


def job_id(queue: str, name: str, period: int) -> str:
    """Return the id of a job in one of its periods; who comes later sees that it was asked for."""
    return f"{queue}-{name}-{period}"


def jobs_address(store: Address) -> Address:
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
