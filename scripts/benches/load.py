"""The processes that the bench of the pipeline starts beside the store and the learner.

A producer puts records through the real writer, as fast as it can or at a rate; a reader follows
the rows as a router does, and notes what it could see when. Each waits for a line on stdin, so
that all begin at once, and ends with one JSON object on stdout.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from bandit import cells
from bandit.families import N_COLUMNS, Family, U
from bandit.posterior import Arms, infer
from router.beliefs.keeper import LOOK_EVERY_S
from telemetry import event_ids, events
from telemetry.events import FeedbackKind, Flag, Result
from telemetry.pacer import Pacer
from telemetry.reader import FRESH_S, Reader
from telemetry.store import Address, connect
from telemetry.tokens import Token
from telemetry.wakeup import Wakeup
from telemetry.writer import Writer

FEEDBACK_LAG = 500
"""Decisions between an outcome and its feedback: seldom in one frame, often in one batch."""
CORRECTED_EVERY = 20
"""One feedback in so many is said a second time, otherwise, in place of another's first."""
TICK_S = 0.001
FLAGS = int(
    Flag.ROUTED | Flag.FINAL | Flag.USAGE_KNOWN | Flag.PRICED | Flag.TTFT_KNOWN | Flag.STREAMED
)
FIRST_CATEGORY, FIRST_ENDPOINT = 1_000, 9_000


def digests(n: int, first: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Return stand-ins for the digests of `n` names."""
    return np.arange(first, first + n, dtype=np.uint64)


def build(
    n: int,
    *,
    n_categories: int,
    n_endpoints: int,
    n_shards: int,
    seed: int,
    n_apps: int = 1,
    n_users: int = 0,
) -> list[bytes]:
    """Return `n` records: outcome, feedback, outcome, feedback, …

    Each call is of any of the apps and, where there are users, by any of them.

    The category tells the shard (category mod shards), so that a reader's counts tell which
    outcome of which shard it saw last.
    """
    rng = np.random.default_rng(seed)
    n_calls = n // 2 + 1
    category = rng.integers(0, n_categories, n_calls)
    endpoint = rng.integers(0, n_endpoints, n_calls) + FIRST_ENDPOINT
    app = rng.integers(0, n_apps, n_calls) + 2
    user = rng.integers(1, n_users + 1, n_calls) if n_users else np.zeros(n_calls, dtype=int)
    latency_s = rng.lognormal(0, 0.5, n_calls)
    value = rng.integers(0, 11, n_calls) / 10
    now_ms = int(time.time() * 1000)
    whose = (category, endpoint, app, user)
    tokens = [
        _token(i, *cell, n_shards=n_shards, now_ms=now_ms)
        for i, cell in enumerate(zip(*map(np.ndarray.tolist, whose), strict=True))
    ]
    out = []
    for i in range(n_calls):
        out.append(_outcome(tokens[i], float(latency_s[i])))
        lag = FEEDBACK_LAG + (i % CORRECTED_EVERY == 0)
        out.append(
            events.feedback(
                tokens[(i - lag) % n_calls],  # the first ones come before their outcomes
                kind=FeedbackKind.HUMAN,
                value=float(value[i]),
                revision=i,
                event=event_ids.new_event_id(now_ms),
            )
        )
    return out[:n]


def _token(
    i: int, category: int, endpoint: int, app: int, user: int, *, n_shards: int, now_ms: int
) -> bytes:
    return Token(
        key_id=1,
        shard=category % n_shards,
        flags=int(Flag.ROUTED),
        nonce=os.urandom(16),
        decided_at_ms=now_ms,
        category=FIRST_CATEGORY + category,
        drawn=endpoint,
        executed=endpoint,
        strategy=1,
        app=app,
        release_key=FIRST_CATEGORY + category,
        session=i,
        propensity=0.5,
        predicted=0.5,
        predicted_sd=0.1,
        spread=0.5,
        user=user,
    ).pack()


def _outcome(token: bytes, latency_s: float) -> bytes:
    return events.outcome(
        token,
        result=Result.OK,
        attempt=1,
        status=200,
        flags=FLAGS,
        tokens_in=400,
        tokens_out=150,
        latency_s=latency_s,
        ttft_s=latency_s / 4,
        cost_nano=2_500_000,
        response=os.urandom(16),
    )


def produce(options: dict[str, Any]) -> dict[str, Any]:
    """Put records through the writer; return when it began and ended, and the CPU that it took."""
    records = build(
        options["n"],
        n_categories=options["n_categories"],
        n_endpoints=options["n_endpoints"],
        n_shards=options["n_shards"],
        seed=options["seed"],
        n_apps=options.get("n_apps", 1),
        n_users=options.get("n_users", 0),
    )
    writer = _writer(options)
    _wait_for_start()
    began, cpu = time.monotonic(), time.process_time()
    if options.get("per_s"):
        put_at = _put_paced(writer, records, options["per_s"])
        outcomes = slice(0, None, 2)
        shards = [record[events.TOKEN_OFFSET + 2] for record in records[outcomes]]
        np.savez(options["out"], put_at=put_at[outcomes], shard=shards)
    else:
        for record in records:
            writer.put(record)
    put_s = time.monotonic() - began
    writer.close(timeout_s=60)
    ended = time.monotonic()
    assert not writer.counters.dropped.total()
    cpu = time.process_time() - cpu
    return {"began": began, "ended": ended, "put_s": put_s, "cpu_s": cpu}


def _put_paced(writer: Writer, records: list[bytes], per_s: float) -> Any:
    """Put records evenly; what a tick was late for is made up for in the next."""
    put_at = np.empty(len(records))
    began, done = time.monotonic(), 0
    while done < len(records):
        now = time.monotonic()
        due = min(int((now - began) * per_s) + 1, len(records))
        for i in range(done, due):
            put_at[i] = time.monotonic()
            writer.put(records[i])
        done = due
        time.sleep(max(TICK_S, (done + 1) / per_s - (time.monotonic() - began)))
    return put_at


def time_calls(options: dict[str, Any]) -> dict[str, Any]:
    """Return what building and putting one outcome takes of a call, in microseconds."""
    rng = np.random.default_rng(0)
    writer = _writer(options)
    _wait_for_start()
    took = []
    for _ in range(options["n"] // options["burst"]):
        began = time.perf_counter_ns()
        for i in range(options["burst"]):
            token = Token(1, i % options["n_shards"], 4, _NONCE, 1, 2, 3, 4, 5, 6, 7, 8, 0.5, 0, 0)
            writer.put(_outcome(token.pack(), 0.7))
        took.append((time.perf_counter_ns() - began) / options["burst"] / 1000)
        time.sleep(float(rng.exponential(TICK_S)))
    writer.close(timeout_s=60)
    return {"writer_us": float(np.mean(took))}


_NONCE = bytes(16)


def follow(options: dict[str, Any]) -> dict[str, Any]:
    """Build posteriors whenever there are news, until stdin ends; note what they held when."""
    address = Address(options["url"])
    n_shards, n_categories = options["n_shards"], options["n_categories"]
    categories = digests(n_categories, FIRST_CATEGORY)
    endpoints = digests(options["n_endpoints"], FIRST_ENDPOINT)
    arms = Arms(*(np.arange(len(endpoints)),) * 2, *(np.ones(len(endpoints)),) * 2)
    reader = Reader(
        connect(address, timeout_s=0.5),
        n_shards,
        key_bytes=cells.KEY.itemsize,
        row_bytes=8 * N_COLUMNS,
    )
    wakeup = Wakeup(connect(address, timeout_s=0.5))
    stop = threading.Event()
    _wait_for_start()
    threading.Thread(target=_stop_at_end_of_input, args=(stop,), daemon=True).start()
    seen_at, counts = [], []
    cpu = time.process_time()
    pacer = Pacer(FRESH_S)
    while not stop.is_set():
        pacer.begin()
        rest_s, before = 0.0, reader.n_events
        if reader.poll():
            rows = cells.from_bytes(*reader.rows())
            now_ms = int(time.time() * 1000)
            evidence = cells.read(rows, categories=categories, endpoints=endpoints, now_ms=now_ms)
            infer(evidence, arms)
            seen_at.append(time.monotonic())
            counts.append(_calls(rows, n_shards))
            rest_s = pacer.rest_s(reader.n_events - before)
        wakeup.wait(stop, at_least_s=rest_s, at_most_s=LOOK_EVERY_S)
    cpu = time.process_time() - cpu
    np.savez(options["out"], seen_at=seen_at, counts=counts)
    return {"cpu_s": cpu, "n_refreshed": len(seen_at)}


def _calls(rows: cells.Terms, n_shards: int) -> list[int]:
    """Return how many outcomes of each shard the rows hold."""
    usage = rows.keys["family"] == int(Family.USAGE)
    shard = (rows.keys["category"][usage] - np.uint64(FIRST_CATEGORY)) % np.uint64(n_shards)
    calls = np.bincount(
        shard.astype(np.intp), weights=rows.values[usage, U.CALLS], minlength=n_shards
    )
    return [int(x) for x in calls]


def _stop_at_end_of_input(stop: threading.Event) -> None:
    sys.stdin.read()
    stop.set()


def _writer(options: dict[str, Any]) -> Writer:
    writer = Writer(Path(options["journals"]), Address(options["url"]), options["n_shards"])
    writer.start()
    return writer


def _wait_for_start() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


ROLES = {"produce": produce, "time_calls": time_calls, "follow": follow}


if __name__ == "__main__":
    print(json.dumps(ROLES[sys.argv[1]](json.loads(sys.argv[2]))), flush=True)
