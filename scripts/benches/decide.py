"""How long a whole decision takes, from the bytes of a call to its token.

The body is read, the caller known, task and strategy found, the levels of the policy merged,
endpoints filtered, a draw made with its propensity, and the token packed and sealed. Calls differ
as they do in a sidecar: by app, key, task, role, user, class, length and tools; each is a session
of its own, so that every one draws. Posteriors are given, as between two folds. There is no store:
a claim is noted, and not waited for.

Beside it, call by call, something fixed is timed that is none of ours, so that two runs on a busy
machine can be compared: `reference_us`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import tempfile
import time
from hashlib import blake2b, sha256
from pathlib import Path
from random import Random
from typing import Any

import httpx
import msgspec
import numpy as np
import structlog
import yaml

from router.config.compiled import Configuration, compile_text
from router.decision.context import CallContext
from router.dialects.opaque import OpaqueBody
from router.dispatch.passing import read_call
from router.policy.callers import Keys
from router.server import Sidecar
from scripts.proofs.believed import rows_of
from scripts.proofs.within import SidecarWithin
from telemetry.processes import calm_collector

WARM_UP, ROUNDS = 500, 5_000
PATH = "/v1/chat/completions"
TASKS = ("code", "chat", "extract", "plan")
APPS = ("web", "desk", "batch")
SHARED_MODEL = 2
"""Hosts of a model."""


def run_bench(n_endpoints: int) -> dict[str, Any]:
    """Return p50 and p99 of one decision in microseconds, and p50 of the reference."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with tempfile.TemporaryDirectory(prefix="pm-bench-") as directory:
        return asyncio.run(_measure(n_endpoints, Path(directory)))


async def _measure(n_endpoints: int, state_dir: Path) -> dict[str, Any]:
    configuration = _configuration(n_endpoints, state_dir)
    calls = _calls(WARM_UP + ROUNDS)
    transport = httpx.MockTransport(lambda request: httpx.Response(500))
    with SidecarWithin(configuration, state_dir, transport) as within:
        within.follow(configuration, rows_of(_seen(configuration), configuration, time.time()))
        took, beside = np.empty(ROUNDS), np.empty(ROUNDS)
        calm_collector()  # as a sidecar does when it starts
        for i, (headers, body) in enumerate(calls, -WARM_UP):
            began = time.perf_counter_ns()
            _reference(body)
            middle = time.perf_counter_ns()
            await _decide(within.sidecar, headers, body)
            ended = time.perf_counter_ns()
            beside[max(i, 0)], took[max(i, 0)] = middle - began, ended - middle
        gc.unfreeze()
    p50, p99 = np.percentile(took, [50, 99]) / 1000
    return {
        "endpoints": n_endpoints,
        "p50_us": round(float(p50), 1),
        "p99_us": round(float(p99), 1),
        "reference_us": round(float(np.median(beside)) / 1000, 2),
    }


async def _decide(sidecar: Sidecar, headers: dict[bytes, bytes], body: bytes) -> str:
    """Return the sealed token of a call, by all the steps that a route takes before it sends."""
    services = sidecar.routes._services
    beliefs = services.keeper.current
    caller = beliefs.configuration.derive(Keys).caller(headers)
    request = read_call(body, PATH, beliefs.configuration.catalog)
    assert not isinstance(request, OpaqueBody)
    decider, booking = services.decider, services.calls.booking
    context = await decider.contexts.of(beliefs, caller, headers, request, services.clock())
    assert isinstance(context, CallContext)
    decision = await decider.decide(context)
    return booking.seal.close(booking.token(decision, decision.plan.drawn))


def _reference(body: bytes) -> None:
    """Do something fixed, of the kind that decisions are made of."""
    for _ in range(4):
        msgspec.json.decode(body)
        blake2b(body, digest_size=16).digest()
    np.add(_ONES, _ONES).argmax()


_ONES = np.ones(100)


def _configuration(n: int, state_dir: Path) -> Configuration:
    random = Random(0)  # noqa: S311 - figures, no secrets
    endpoints = []
    for i in range(n):
        usd = random.choice((0.1, 1, 10))
        endpoints.append(
            {
                "id": f"e{i}",
                "model": f"m{i // SHARED_MODEL}",
                "base_url": f"http://e{i}.test/v1",
                "region": ("eu", "us")[i % 3 == 2],
                "max_data_class": ("internal", "confidential", "restricted")[i % 3],
                "context_tokens": 128_000,
                "capabilities": {"tools": i % 5 != 4},
                "prices": {"input_usd_per_mtok": usd, "output_usd_per_mtok": 4 * usd},
            }
        )
    value = {
        "server": {"state_dir": str(state_dir)},
        "endpoints": endpoints,
        "organisation": {"no_training": False},
        "tasks": {name: {"data_class": "internal"} for name in TASKS},
        "roles": {"coder": {"tasks": ["code"], "require": ["tools"]}, "critic": {}},
        "users": {"eva": {"regions": ["eu"]}},
        "strategies": {"best": {"objective": "quality", "incumbent": "none"}},
        "apps": {
            name: {
                "mode": "route",
                "strategy": "best" if name == "web" else "quality",
                "keys": [f"sha256:{sha256(name.encode()).hexdigest()}"],
            }
            for name in APPS
        },
    }
    return compile_text(yaml.safe_dump(value, sort_keys=False), file="bench")


def _seen(configuration: Configuration) -> dict[str, Any]:
    """Return what was observed: labels of the first ten endpoints, calls of all."""
    random = Random(1)  # noqa: S311 - figures, no secrets
    ids = [endpoint.id for endpoint in configuration.catalog.endpoints]
    return {
        task: {
            id_: {"labels": 60 if i < 10 else 4, "good": random.randint(1, 4 if i >= 10 else 60)}
            for i, id_ in enumerate(ids)
        }
        for task in TASKS
    }


def _calls(n: int) -> list[tuple[dict[bytes, bytes], bytes]]:
    random, out = Random(2), []  # noqa: S311 - figures, no secrets
    for i in range(n):
        headers = {
            b"authorization": f"Bearer {random.choice(APPS)}".encode(),
            b"content-type": b"application/json",
            b"x-router-session-id": f"session-{i}".encode(),
            b"x-router-task": random.choice(TASKS).encode(),
            b"x-router-user": random.choice(("eva", f"user-{random.randrange(1000)}")).encode(),
        }
        if random.random() < 0.3:
            headers[b"x-router-data-class"] = random.choice((b"internal", b"confidential"))
        if random.random() < 0.3:
            headers[b"x-router-role"] = random.choice((b"coder", b"critic"))
        said = [
            {"role": "system", "content": "You answer questions."},
            {"role": "user", "content": "word " * random.randint(20, 400)},
        ]
        body: dict[str, Any] = {"model": "auto", "messages": said, "max_tokens": 500}
        if random.random() < 0.3:
            tool = {"name": "read", "parameters": {"type": "object", "properties": {}}}
            body["tools"] = [{"type": "function", "function": tool}]
        out.append((headers, json.dumps(body).encode()))
    return out
