"""`prove explain`: a decision is explained the same later, and by another router.

Two routers of one store, each with a state directory of its own, and a worker. The first one makes
forty decisions and explains them. Then come many further decisions with their outcomes, both
routers take a changed configuration, the first one is started anew, and the second one is asked
for the forty, by their ids and by short ones.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from router.config.compiled import load
from router.demo.stack import Stack, stack
from router.explain.rows import PackedRows
from scripts.proofs.explain_load import ExplainLoad
from scripts.proofs.overload import provide
from telemetry import explained
from telemetry.embedded import PrivateServer
from telemetry.memory import MB
from telemetry.store import Address, connect

EVENTS, QUICK_EVENTS = 1_000_000, 20_000
DECISIONS = 40
N_ENDPOINTS = 10
BOUND_MB = 64
MOST_BYTES = 200
MOST_MS = 1000.0
STORE_URL = "PROVE_STORE_URL"
PATH = "/v1/router/decisions"


def configuration(state_dir: Path, provider: int, *, changed: bool = False) -> dict[str, Any]:
    """Return what a router is configured with.

    Args:
        changed: has one task more, as by a reload.
    """
    url = f"http://127.0.0.1:{provider}/v1"
    tasks = {"code": None, "chat": None} | ({"more": None} if changed else {})
    return {
        "server": {"port": 0, "state_dir": str(state_dir)},
        "store": {"url_env": STORE_URL, "explain_store_mb": BOUND_MB},
        "endpoints": [
            {
                "id": f"e{i}",
                "model": f"m{i}",
                "base_url": url,
                "prices": {"input_usd_per_mtok": 1 + i, "output_usd_per_mtok": 2 + i},
            }
            for i in range(N_ENDPOINTS)
        ],
        "tasks": tasks,
        "strategies": {"learn": {"objective": "quality", "incumbent": "none"}},
        "apps": {"default": {"mode": "route", "strategy": "learn"}},
    }


class Routers:
    """Two routers of one store, and what they are asked."""

    def __init__(self, directory: Path, processes: Stack, provider: int) -> None:
        self._directory, self._processes, self._provider = directory, processes, provider
        self.ports = {name: self._start(name) for name in ("one", "other")}

    def _start(self, name: str) -> int:
        file = self._directory / f"{name}.yaml"
        if not file.exists():
            file.write_text(self._text(name, changed=False))
        return self._processes.listen(name, "router.cli", "serve", "--config", str(file))

    def _text(self, name: str, *, changed: bool) -> str:
        value = configuration(self._directory / name, self._provider, changed=changed)
        return yaml.safe_dump(value, sort_keys=False)

    def decide(self) -> list[str]:
        """Return the ids of decisions of the first router, some of one session."""

        def call(number: int) -> str:
            body = {"model": "auto", "messages": [{"role": "user", "content": "?"}]}
            headers = {"x-router-session-id": f"s{number // 2}"}
            url = f"http://127.0.0.1:{self.ports['one']}/v1/chat/completions"
            got = httpx.post(url, json=body, headers=headers, timeout=30, trust_env=False)
            return str(got.headers["x-router-decision-id"])

        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(call, range(DECISIONS)))

    def explain(self, name: str, id_: str) -> tuple[dict[str, Any], float]:
        """Return what a router says of a decision, and after how many ms."""
        url, began = f"http://127.0.0.1:{self.ports[name]}{PATH}", time.monotonic()
        got = httpx.get(url, params={"id": id_}, timeout=30, trust_env=False)
        return got.json(), (time.monotonic() - began) * 1e3

    def reload(self) -> None:
        """Have both take a changed configuration, and wait until they did."""
        for name, port in self.ports.items():
            url = f"http://127.0.0.1:{port}/readyz?verbose"

            def version(url: str = url) -> Any:
                return httpx.get(url, trust_env=False).json()["configuration"]["version"]

            before = version()
            file = self._directory / f"{name}.yaml"
            file.write_text(self._text(name, changed=True))
            deadline = time.monotonic() + 30
            while version() == before:
                if time.monotonic() > deadline:
                    raise SystemExit(f"{name} took no changed configuration")
                time.sleep(0.1)

    def restart(self) -> None:
        """Start the first one anew."""
        self._processes.stop("one")
        self.ports["one"] = self._start("one")


def run(events: int) -> dict[str, Any]:
    """Return the figures of the proof."""
    with tempfile.TemporaryDirectory(prefix="pm-", dir="/tmp") as path, _parts(Path(path)) as parts:
        directory, processes, provider, address = parts
        routers = Routers(directory, processes, provider)
        file = directory / "load.yaml"
        file.write_text(yaml.safe_dump(configuration(directory / "load", provider)))
        processes.start("worker", "router.cli", "work", "--config", str(directory / "one.yaml"))
        ids = routers.decide()
        first = [routers.explain("one", each)[0] for each in ids]
        load_ = ExplainLoad(load(file), address)
        load_.run(events)
        if load_.sidecar.decisions.n_dropped:
            raise SystemExit(f"{load_.sidecar.decisions.n_dropped} decisions were not kept")
        routers.reload()
        routers.restart()
        asked = [*ids, *(each["id"] for each in first if "id" in each)]
        told = [routers.explain("other", each) for each in asked]
        with closing(connect(address, timeout_s=60)) as client:
            kept = _kept(client)
    took = sorted(ms for _, ms in told)
    return {
        "events": events,
        "same": all("draw" in each for each in first) and [each for each, _ in told] == first * 2,
        **kept,
        "p99_ms": round(took[int(len(took) * 0.99)], 1),
    }


def _kept(client: Any) -> dict[str, float]:
    """Return what the store has of decisions."""
    rows, parts = explained.used_bytes(client)
    n = sum(
        len(PackedRows(batch).rows())
        for each in explained.segments(client)
        for batch in each.batches(client)
    )
    return {
        "bytes_per_decision": round(rows / max(n, 1), 1),
        "store_mb": round((rows + parts) / MB, 2),
    }


def passed(found: dict[str, Any]) -> bool:
    """Return whether the figures are those that are promised."""
    return bool(
        found["same"]
        and found["bytes_per_decision"] <= MOST_BYTES
        and found["store_mb"] <= BOUND_MB
        and found["p99_ms"] <= MOST_MS
    )


@contextmanager
def _parts(directory: Path) -> Iterator[tuple[Path, Stack, int, Address]]:
    """Yield a directory, processes in it, a provider's port and a store's address."""
    ours, theirs = multiprocessing.Pipe()
    provider = multiprocessing.get_context("spawn").Process(target=provide, args=(theirs,))
    provider.start()
    try:
        with PrivateServer(directory / "store") as server, stack(directory) as processes:
            address = Address(f"unix://{server.socket_path}")
            with _set(address.url):
                yield directory, processes, ours.recv(), address
                processes.stop_all()
    finally:
        provider.terminate()
        provider.join()


@contextmanager
def _set(url: str) -> Iterator[None]:
    """Have the variable with the store's address set meanwhile: the parts inherit it."""
    os.environ[STORE_URL] = url
    try:
        yield
    finally:
        del os.environ[STORE_URL]


def main(argv: Sequence[str]) -> int:
    """Run the proof; return 0 if it holds."""
    parser = argparse.ArgumentParser(prog="scripts/prove explain", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_EVENTS} events")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--events", type=int, help="further decisions, with an outcome each")
    options = parser.parse_args(argv)
    if options.events is not None and options.events < 1:
        parser.error(f"--events {options.events}: name at least one, or nothing is shown")
    found = run(options.events or (QUICK_EVENTS if options.quick else EVENTS))
    if options.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:<20} {value:g}")
        print("passed" if passed(found) else "FAILED")
    return 0 if passed(found) else 1
