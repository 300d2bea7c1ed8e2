"""What `bench http` measures, started as its users start it: nginx, the sidecar, and peers.

The proxy under test has core 0 for itself; everything else of a stack shares core 1 with the load.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from router.demo.stack import Stack
from scripts.benches.http_peers import PEERS

N_ENDPOINTS = 10
PROXY_CORE, OTHER_CORE = 0, 1
INSTALL = "`apt install nginx wrk` (or `brew install nginx wrk`)"
START_S = 30.0

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


class MissingProgram(Exception):
    """A program that the bench needs is not installed; says how to."""


@dataclass(slots=True)
class Subject:
    """What is measured: where it listens, and which processes' CPU is booked to it."""

    name: str
    port: int
    pids: Callable[[], list[int]]
    helpers: Callable[[], list[int]] = list
    headers: Mapping[str, str] = field(default_factory=dict)  # that its calls need


def require() -> None:
    """See to it that all is there.

    Raises:
        MissingProgram: nginx, wrk or taskset is not there, or the machine has one core only.
    """
    missing = [p for p in ("nginx", "wrk", "taskset") if shutil.which(p, path=_path()) is None]
    if missing:
        raise MissingProgram(f"bench needs {', '.join(missing)}: {INSTALL}")
    if len(os.sched_getaffinity(0)) < 2:
        raise MissingProgram("bench needs two cores: one for the proxy alone")


def python_used() -> str:
    """Return which Python runs this; one built without optimisation takes 10 to 13 % more CPU."""
    flag = "--enable-optimizations"
    has = "with" if flag in str(sysconfig.get_config_var("CONFIG_ARGS")) else "without"
    return f"{'.'.join(map(str, sys.version_info[:3]))}, configured {has} {flag}"


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Pin this process, and whatever it starts meanwhile, to one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def targets(
    directory: Path, processes: Stack, configuration: dict[str, Any], upstream: int
) -> Iterator[list[Subject]]:
    """Yield the upstream itself, nginx, and the sidecar with all that belongs to it."""
    with nginx(directory, upstream) as proxy, sidecar(directory, processes, configuration) as own:
        yield [Subject("direct", upstream, list), proxy, own]


@contextmanager
def peers(directory: Path, upstream: int, names: Sequence[str]) -> Iterator[list[Subject]]:
    """Yield the gateways of others, each installed into a folder of its own."""
    with ExitStack() as running:
        found = []
        for name in names:
            say(f"installing {PEERS[name].package} into a folder of its own")
            port = free_port()
            try:
                peer = PEERS[name].install(directory, port=port, upstream=upstream)
            except (subprocess.CalledProcessError, OSError) as error:
                raise MissingProgram(f"{name} could not be installed ({error})") from None
            process = running.enter_context(_running(peer.command, peer.variables))
            wait_for(port, within_s=60)
            found.append(Subject(name, port, partial(tree, process.pid), headers=peer.headers))
        yield found


def ten_endpoints(upstream: int) -> dict[str, Any]:
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
    return {
        "models": {f"model-{i}": {"context_tokens": 128_000} for i in range(N_ENDPOINTS)},
        "endpoints": endpoints,
        "tasks": {
            "code": {"match": {"tools": ["edit_file"]}},
            "extract": {"match": {"schema": True}},
        },
        "strategies": {"balanced": {"value_usd": 0.05, "incumbent": "none"}},
        "apps": {"default": {"mode": "route", "strategy": "balanced"}},
    }


@contextmanager
def sidecar(directory: Path, processes: Stack, configuration: dict[str, Any]) -> Iterator[Subject]:
    """Run `pointsman up`; its router alone is the proxy, all others are its helpers."""
    state = directory / "state"
    config = directory / "pointsman.yaml"
    server = {"port": 0, "state_dir": str(state)}
    config.write_text(yaml.safe_dump({"server": server, **configuration}))
    up = processes.start("up", "router.cli", "up", "--config", str(config)).pid
    ready, deadline = state / "router.port", time.monotonic() + START_S
    while not (ready.exists() and ready.read_text()):
        if processes.processes["up"].poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the sidecar did not start:\n{processes.log('up')}")
        time.sleep(0.01)
    router = next(pid for pid in tree(up) if b"\0serve\0" in command_of(pid))
    for task in Path(f"/proc/{router}/task").iterdir():
        os.sched_setaffinity(int(task.name), {PROXY_CORE})
    try:
        port = int(ready.read_text())
        yield Subject("pointsman", port, lambda: [router], lambda: others(up, router))
    finally:
        processes.stop("up")


def others(up: int, router: int) -> list[int]:
    """Return every process of a stack but its router."""
    return [pid for pid in tree(up) if pid != router]


@contextmanager
def nginx(directory: Path, upstream: int) -> Iterator[Subject]:
    """Run nginx as a reverse proxy before the upstream."""
    port = free_port()
    conf = directory / "nginx.conf"
    # As root nginx would give up its rights, and with them the temporary directory.
    user = "user root;" if os.getuid() == 0 else ""
    conf.write_text(NGINX_CONF.format(user=user, directory=directory, upstream=upstream, port=port))
    program = shutil.which("nginx", path=_path())
    assert program is not None
    with _running([program, "-c", str(conf), "-p", str(directory)], {}) as process:
        wait_for(port)
        yield Subject("nginx", port, lambda: tree(process.pid))


@contextmanager
def _running(
    command: Sequence[str], variables: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    with pinned(PROXY_CORE):
        process = subprocess.Popen(  # noqa: S603
            list(command),
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def tree(pid: int) -> list[int]:
    """Return a process and all that descends from it."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [c for task in tasks for c in (task / "children").read_text().split()]
    except FileNotFoundError:  # it ended meanwhile
        return []
    return [pid, *[p for c in children for p in tree(int(c))]]


def command_of(pid: int) -> bytes:
    """Return a process's command line, with a NUL after each word."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


def cpu_us(pids: Sequence[int]) -> float:
    """Return the CPU time that these processes have used, in microseconds.

    With that of their children that have ended: a process that comes and goes is booked as well.
    """
    return sum(map(_cpu_us, pids))


def _cpu_us(pid: int) -> float:
    root = Path(f"/proc/{pid}")
    try:
        tasks = [(task / "schedstat").read_text() for task in (root / "task").iterdir()]
        fields = (root / "stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    ended_ticks = int(fields[13]) + int(fields[14])
    own_us = sum(int(told.split()[0]) for told in tasks) / 1e3
    return own_us + ended_ticks * 1e6 / os.sysconf("SC_CLK_TCK")


def pss_mb(pid: int) -> float:
    """Return what a process takes of memory, its part of what it shares included."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except FileNotFoundError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, *, within_s: float = 10) -> None:
    """Wait until somebody listens."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def say(text: str) -> None:
    """Tell whoever waits what is done."""
    print(text, file=sys.stderr, flush=True)


def _path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
