"""What the pipeline is measured beside: the two ways that task queues and counters suggest.

Both do less: neither is exact when a process dies, and neither keeps labels or references.
"""

from __future__ import annotations

import time

from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer

from telemetry.events import RECORD_SIZE
from telemetry.store import Client

BATCH = 1_000
N_CELLS = 100


def count(cell: int) -> int:
    """Do the work of one job: none; the queue itself is what takes the time."""
    return cell


def rq_per_event(client: Client, n: int) -> float:
    """Return events/s with one rq job each, from the first enqueue to the last job's end."""
    queue = Queue("bench", connection=client, serializer=JSONSerializer)
    worker = SimpleWorker([queue], connection=client, serializer=JSONSerializer)
    began = time.monotonic()
    for i in range(n):
        queue.enqueue(count, i % N_CELLS, result_ttl=0)
    worker.work(burst=True, logging_level="ERROR")
    return n / (time.monotonic() - began)


def group_hincrby(client: Client, n: int) -> float:
    """Return events/s through a consumer group: XADD, XREADGROUP, two HINCRBY an event, XACK."""
    client.xgroup_create("bench:events", "fold", id="0", mkstream=True)
    record = bytes(RECORD_SIZE)
    began = time.monotonic()
    for start in range(0, n, BATCH):
        pipeline = client.pipeline(transaction=False)
        for i in range(start, min(start + BATCH, n)):
            pipeline.xadd("bench:events", {"cell": i % N_CELLS, "record": record})
        pipeline.execute()
        ((_, entries),) = client.xreadgroup("fold", "one", {"bench:events": ">"}, count=BATCH)
        pipeline = client.pipeline(transaction=False)
        for _, fields in entries:
            pipeline.hincrby("bench:cells", fields[b"cell"] + b":calls", 1)
            pipeline.hincrby("bench:cells", fields[b"cell"] + b":cost", 2_500_000)
        pipeline.xack("bench:events", "fold", *(entry for entry, _ in entries))
        pipeline.execute()
    return n / (time.monotonic() - began)
