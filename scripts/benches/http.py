"""`bench http`: the sidecar beside nginx as reverse proxy, over the same upstream, in one run.

The proxy under test has core 0 for itself; load generator, upstream, store and worker share
core 1. CPU is what the kernel booked for the process, so it holds on a busy machine; latencies
are interleaved, call by call, between the targets. Judge by the ratios, never by microseconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from router.demo.stack import Stack, stack
from scripts.benches.upstream import N_CHUNKS, PACED
from telemetry.store import open_store

N_ENDPOINTS = 10
N_SESSIONS = 500
"""Sessions that the load generator takes turns with: most calls follow a draw, some make one."""
PROXY_CORE, OTHER_CORE = 0, 1
LATENCY_RPS = 100
TTFT_RPS = 20
WARM_S = 1.5
INSTALL = "`apt install nginx wrk` (or `brew install nginx wrk`)"
LITELLM = "litellm[proxy]==1.106.2"

NGINX_CONF = """
{user}
worker_processes 1; daemon off; pid {directory}/nginx.pid; error_log {directory}/nginx.err;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {directory}/b; proxy_temp_path {directory}/p;
  fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
  keepalive_requests 10000000; client_body_buffer_size 64k;
  upstream mock {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 10000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://mock; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""

WRK_SCRIPT = """
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.body = [==[{body}]==]
local n = 0
request = function()
  n = n + 1
  wrk.headers["x-router-session-id"] = "bench-" .. (n % {sessions})
  return wrk.format(nil, "/v1/chat/completions")
end
done = function(summary, latency, requests)
  io.stderr:write(string.format("RESULT %d %d\\n", summary.requests,
    summary.errors.status + summary.errors.read + summary.errors.write + summary.errors.connect))
end
"""


class MissingProgram(Exception):
    """A program that the bench needs is not installed; says how to."""


@dataclass(slots=True)
class Subject:
    """What is measured: where it listens, and which processes' CPU is booked to it."""

    name: str
    port: int
    pids: Callable[[], list[int]]
    helpers: Callable[[], list[int]] = list


@dataclass(slots=True)
class Samples:
    """Figures of all rounds, by target and measure."""

    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, target: str, measure: str, value: float) -> None:
        """Note one round's figure."""
        self.values.setdefault(target, {}).setdefault(measure, []).append(value)

    def median(self, target: str, measure: str) -> float | None:
        """Return the median over the rounds."""
        found = self.values.get(target, {}).get(measure)
        return statistics.median(found) if found else None

    def ratio(self, measure: str, over: str = "nginx", of: str = "pointsman") -> float | None:
        """Return the median of the rounds' own ratios."""
        ours = self.values.get(of, {}).get(measure, [])
        theirs = self.values.get(over, {}).get(measure, [])
        pairs = [a / b for a, b in zip(ours, theirs, strict=False) if b > 0]
        return statistics.median(pairs) if pairs else None


def run_bench(*, rounds: int, seconds: float, peer: str | None) -> dict[str, Any]:
    """Measure; return medians, spreads and ratios.

    Raises:
        MissingProgram: nginx, wrk or taskset is not there, or the machine has one core only.
    """
    _require()
    samples = Samples()
    with tempfile.TemporaryDirectory(prefix="pointsman-bench-") as temporary:
        directory = Path(temporary)
        with (
            _pinned(OTHER_CORE),
            open_store(directory / "state", url=None),
            stack(directory) as processes,
            _targets(directory, processes, peer) as targets,
        ):
            for number in range(rounds):
                _say(f"round {number + 1} of {rounds}")
                _round(targets, samples, directory, seconds)
            for target in targets[1:]:
                samples.add(target.name, "rss_mb", sum(map(_rss_mb, target.pids())))
    return _summary(samples, rounds=rounds, seconds=seconds, peer=peer)


def _require() -> None:
    missing = [p for p in ("nginx", "wrk", "taskset") if shutil.which(p, path=_path()) is None]
    if missing:
        raise MissingProgram(f"bench needs {', '.join(missing)}: {INSTALL}")
    if len(os.sched_getaffinity(0)) < 2:
        raise MissingProgram("bench needs two cores: one for the proxy alone")


def _path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"


@contextmanager
def _pinned(core: int) -> Iterator[None]:
    """Pin this process, and whatever it starts meanwhile, to one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _targets(directory: Path, processes: Stack, peer: str | None) -> Iterator[list[Subject]]:
    """Yield the upstream itself, nginx, the sidecar, and the peer."""
    upstream = processes.listen("upstream", "scripts.benches.upstream")
    config = directory / "pointsman.yaml"
    config.write_text(_configuration(directory / "state", upstream))
    processes.worker(directory / "state", shards=4)
    store_pid = int((directory / "state" / "store" / "server.pid").read_text())
    with _pinned(PROXY_CORE):
        router = processes.router(config)
    router_pid = processes.processes["router"].pid
    worker_pid = processes.processes["worker"].pid
    with _nginx(directory, upstream) as (nginx_port, nginx_pid):
        targets = [
            Subject("direct", upstream, list),
            Subject("nginx", nginx_port, lambda: _tree(nginx_pid)),
            Subject("pointsman", router, lambda: [router_pid], lambda: [worker_pid, store_pid]),
        ]
        if peer is None:
            yield targets
            return
        with _litellm(directory, upstream) as (port, pid):
            yield [*targets, Subject(peer, port, lambda: _tree(pid))]


def _configuration(state_dir: Path, upstream: int) -> str:
    """Return ten endpoints, tasks with rules, prices: policy and telemetry on."""
    endpoints = [
        {
            "id": f"endpoint-{i}",
            "model": f"model-{i}",
            "base_url": f"http://127.0.0.1:{upstream}/v1",
            "prices": {"input_usd_per_mtok": 1 + i, "output_usd_per_mtok": 4 + i},
        }
        for i in range(N_ENDPOINTS)
    ]
    value = {
        "server": {"port": 0, "state_dir": str(state_dir)},
        "models": {f"model-{i}": {"context_tokens": 128_000} for i in range(N_ENDPOINTS)},
        "endpoints": endpoints,
        "tasks": {
            "code": {"match": {"tools": ["edit_file"]}},
            "extract": {"match": {"schema": True}},
        },
        "strategies": {"balanced": {"value_usd": 0.05, "incumbent": "none"}},
        "apps": {"default": {"mode": "route", "strategy": "balanced"}},
    }
    return yaml.safe_dump(value)


@contextmanager
def _nginx(directory: Path, upstream: int) -> Iterator[tuple[int, int]]:
    port = _free_port()
    conf = directory / "nginx.conf"
    # As root nginx would give up its rights, and with them the temporary directory.
    user = "user root;" if os.getuid() == 0 else ""
    conf.write_text(NGINX_CONF.format(user=user, directory=directory, upstream=upstream, port=port))
    program = shutil.which("nginx", path=_path())
    assert program is not None
    with _pinned(PROXY_CORE):
        process = subprocess.Popen([program, "-c", str(conf), "-p", str(directory)])  # noqa: S603
    try:
        _wait_for(port)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _litellm(directory: Path, upstream: int) -> Iterator[tuple[int, int]]:
    """Start LiteLLM's proxy, in an environment of its own."""
    environment = directory / "peer"
    python = environment / "bin" / "python"
    _say(f"installing {LITELLM} into an environment of its own")
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)  # noqa: S603
    install = [str(python), "-m", "pip", "install", "-q", LITELLM]
    if subprocess.run(install, check=False).returncode:  # noqa: S603
        raise MissingProgram(f"{LITELLM} could not be installed; leave out --peer")
    config = directory / "litellm.yaml"
    parameters = {"model": "openai/m", "api_base": f"http://127.0.0.1:{upstream}/v1"}
    model = {"model_name": "auto", "litellm_params": {**parameters, "api_key": "none"}}
    config.write_text(yaml.safe_dump({"model_list": [model]}))
    port = _free_port()
    command = [environment / "bin" / "litellm", "--config", config, "--host", "127.0.0.1"]
    variables = {
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
    }
    with _pinned(PROXY_CORE):
        process = subprocess.Popen(  # noqa: S603
            [*map(str, command), "--port", str(port)],
            env={**os.environ, **variables},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    try:
        _wait_for(port, within_s=60)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()


def _round(targets: list[Subject], samples: Samples, directory: Path, seconds: float) -> None:
    """Measure every target once, in turn."""
    for streamed in (False, True):
        for connections in (16, 1):
            for target in targets[1:]:
                what = f"cpu_us_c{connections}" + ("_stream" if streamed else "")
                _load(target, samples, directory, what, connections, seconds, _body(streamed))
    for target in targets[1:]:
        _load(target, samples, directory, "cpu_us_paced", 16, seconds, _body(True, paced=True))
        per_stream = samples.values[target.name]["cpu_us_paced"][-1]
        samples.add(target.name, "cpu_us_chunk", per_stream / N_CHUNKS)
    plain = asyncio.run(_interleaved(targets, LATENCY_RPS, seconds, _body(False)))
    first = asyncio.run(_interleaved(targets, TTFT_RPS, seconds, _body(True, paced=True)))
    for name, found in plain.items():
        samples.add(name, "p50_us", _quantile(found, 0.5))
        samples.add(name, "p99_us", _quantile(found, 0.99))
    for name, found in first.items():
        samples.add(name, "ttft_us", _quantile(found, 0.5))
    for target in targets[1:]:
        for measure in ("p50_us", "p99_us", "ttft_us"):
            own = samples.values[target.name][measure][-1]
            direct = samples.values["direct"][measure][-1]
            samples.add(target.name, f"added_{measure}", own - direct)


def _load(
    target: Subject,
    samples: Samples,
    directory: Path,
    what: str,
    connections: int,
    seconds: float,
    body: bytes,
) -> None:
    """Saturate a target with wrk; note the CPU of a call."""
    script = directory / "load.lua"
    script.write_text(WRK_SCRIPT.format(body=body.decode(), sessions=N_SESSIONS))
    _wrk(target, script, connections, 0.3)  # warm
    before, helpers_before = _cpu_us(target.pids()), _cpu_us(target.helpers())
    calls, errors = _wrk(target, script, connections, seconds)
    if target.name == "pointsman":
        time.sleep(0.3)  # the worker has yet to fold the last of it
    used = _cpu_us(target.pids()) - before
    helped = _cpu_us(target.helpers()) - helpers_before
    samples.add(target.name, what, used / max(calls, 1))
    samples.add(target.name, f"{what}_all", (used + helped) / max(calls, 1))
    samples.add(target.name, f"{what}_rps", calls / seconds)
    if errors:
        raise RuntimeError(f"{target.name}: {errors} of {calls} calls failed")


def _wrk(target: Subject, script: Path, connections: int, seconds: float) -> tuple[int, int]:
    duration = f"{max(round(seconds), 1)}s"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{duration}", "-s", str(script)]
    command.append(f"http://127.0.0.1:{target.port}")
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    line = next(x for x in done.stderr.splitlines() if x.startswith("RESULT"))
    _, calls, errors = line.split()
    return int(calls), int(errors)


async def _interleaved(
    targets: list[Subject], rps: int, seconds: float, body: bytes
) -> dict[str, list[float]]:
    """Call all targets in turn, each `rps` times a second; return latencies in microseconds.

    Of a stream it is the time to the first content: the role-only chunk does not count.
    """
    found: dict[str, list[float]] = {t.name: [] for t in targets}
    streams = {t.name: await asyncio.open_connection("127.0.0.1", t.port) for t in targets}
    for number in range(int(WARM_S * rps / 3) + int(rps * seconds)):
        for target in targets:
            began = time.perf_counter()
            taken = await _call(*streams[target.name], body, number)
            if number > WARM_S * rps / 3:
                found[target.name].append(taken)
            pause = 1 / rps / len(targets) - (time.perf_counter() - began)
            if pause > 0:
                await asyncio.sleep(pause)
    for _, writer in streams.values():
        writer.close()
    return found


async def _call(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes, number: int
) -> float:
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
        b"content-type: application/json\r\nx-router-session-id: bench-%d\r\n"
        b"content-length: %d\r\n\r\n" % (number % N_SESSIONS, len(body))
    )
    began = time.perf_counter()
    writer.write(head + body)
    answer_head = await reader.readuntil(b"\r\n\r\n")
    if b"chunked" not in answer_head.lower():
        length = int(answer_head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        return (time.perf_counter() - began) * 1e6
    first = 0.0
    while True:
        size = int(await reader.readline(), 16)
        data = await reader.readexactly(size + 2)
        if not first and b"word" in data:
            first = (time.perf_counter() - began) * 1e6
        if size == 0:
            return first


def _body(streamed: bool, *, paced: bool = False) -> bytes:
    """Return a request of 1 kB."""
    mark = PACED.decode() if paced else "burst"
    messages = [
        {"role": "system", "content": f"You are a helpful assistant ({mark}). " + "rule " * 60},
        {"role": "user", "content": "Tell me about the signal box at the junction. " * 9},
    ]
    value = {"model": "auto", "messages": messages, "stream": streamed, "temperature": 0.2}
    return json.dumps(value, separators=(",", ":")).encode()


def _summary(samples: Samples, *, rounds: int, seconds: float, peer: str | None) -> dict[str, Any]:
    def shown(value: float | None) -> float | None:
        return None if value is None else round(value, 2)

    out: dict[str, Any] = {
        "cpu_ratio_c16": shown(samples.ratio("cpu_us_c16")),
        "cpu_ratio_c1": shown(samples.ratio("cpu_us_c1")),
        "added_p50_ratio": shown(samples.ratio("added_p50_us")),
        "cpu_ratio_chunk": shown(samples.ratio("cpu_us_chunk")),
        "added_ttft_ratio": shown(samples.ratio("added_ttft_us")),
        "cpu_ratio_c16_all": shown(_ratio_all(samples)),
        "cpu_ratio_c16_stream": shown(samples.ratio("cpu_us_c16_stream")),
        "cpu_ratio_c1_stream": shown(samples.ratio("cpu_us_c1_stream")),
        "added_p99_ratio": shown(samples.ratio("added_p99_us")),
        "rounds": rounds,
        "seconds": seconds,
    }
    if peer:
        measures = ("cpu_us_c16", "cpu_us_c1", "added_p50_us", "cpu_us_chunk", "added_ttft_us")
        out["peer"] = {"name": peer} | {
            m: shown(samples.ratio(m, over="pointsman", of=peer)) for m in measures
        }
    out["targets"] = {
        target: {
            measure: {
                "median": shown(statistics.median(values)),
                "min": shown(min(values)),
                "max": shown(max(values)),
            }
            for measure, values in measures_of.items()
        }
        for target, measures_of in samples.values.items()
    }
    return out


def _ratio_all(samples: Samples) -> float | None:
    ours = samples.median("pointsman", "cpu_us_c16_all")
    theirs = samples.median("nginx", "cpu_us_c16")
    return ours / theirs if ours and theirs else None


def print_table(result: dict[str, Any]) -> None:
    """Print medians by target, then the ratios."""
    console = Console()
    table = Table(box=None, title="medians (µs a call, µs a chunk, µs added, MB)")
    names = [n for n in result["targets"] if n != "direct"]
    table.add_column("measure")
    for name in names:
        table.add_column(name, justify="right")
    for measure in result["targets"]["pointsman"]:
        cells = [result["targets"][n].get(measure, {}).get("median") for n in names]
        table.add_row(measure, *["–" if c is None else f"{c:g}" for c in cells])
    console.print(table)
    for name, value in result.items():
        if "ratio" in name:
            console.print(f"{name} {value}")


def _tree(pid: int) -> list[int]:
    """Return a process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *[p for c in children for p in _tree(int(c))]]


def _cpu_us(pids: list[int]) -> float:
    """Return the CPU time that all threads of these processes have used, in microseconds."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e3


def _rss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _quantile(values: list[float], q: float) -> float:
    return sorted(values)[min(int(q * len(values)), len(values) - 1)]


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, *, within_s: float = 10) -> None:
    import socket

    deadline = time.monotonic() + within_s
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
