"""Parts for tests: a store, a programmable provider, a sidecar over real HTTP, and the verbs."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import fakeredis
import httpx
import pytest
import redis
import structlog
import uvicorn
import yaml
from fake_stores import fake_store
from hypothesis import settings
from redis.backoff import NoBackoff
from redis.retry import Retry
from typer.testing import CliRunner
from typer.testing import Result as Said

from bandit.decay import TICKS_PER_HALF_LIFE
from router import server
from router.cli import app
from router.config.compiled import compile_text
from router.decision.context import Moment
from router.net.address import bound
from router.routes import now
from router.serving import listener as listener_of
from telemetry import keys, logs
from telemetry.address import SERVER
from telemetry.embedded import PrivateServer, server_program
from telemetry.events import Result, outcome
from telemetry.processes import GC_THRESHOLDS, calm_collector
from telemetry.store import Address, StoreErrors, connect
from telemetry.tokens import Token
from workers.folding.learner import Learner

SHARDS = 2
# How long one example takes says more of the machine than of us: no deadline.
settings.register_profile("ours", deadline=None, print_blob=True)
settings.load_profile("ours")


def pytest_configure(config: pytest.Config) -> None:
    """Keep bytecode in pytest's own cache, where this machine says that none is to be kept.

    Else each process that a test starts compiles every module again, which takes it seconds.
    """
    gc.set_threshold(*GC_THRESHOLDS)
    cache = getattr(config, "cache", None)
    if sys.dont_write_bytecode and cache is not None:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = str(cache.mkdir("bytecode"))
        sys.dont_write_bytecode = False


LONG = ("waiting", "demo", "trial_end_to_end", "docs_run", "anomalies", "overload",
        "store_faults", "held_streams", "prove", "prove_steady", "translation", "cli", "reload",
        "translation_requests", "kits",
        "store_memory", "end_to_end", "dialect_streams", "references", "prove_old", "fates",
        "budget_calls", "budget_shown", "pacing", "reserving", "rate_limits", "chains",
        "exploring_ceilings", "burials", "changes", "release_command",
        "nothing_there", "yaml", "signals", "switch", "spelling", "translation_streams",
        "ingest", "clients", "conformance", "workers_archive", "dialects", "bench_learning",
        "raters", "diagnosis", "yielding", "episode_feedback", "prove_policy", "settling",
        "cluster", "bench_pipeline", "forget", "fuzz_files", "thaw", "telemetry",
        "archive_index", "explanations", "prompt_versions", "addresses", "prove_agent",
        "packed_ids", "bench_growth", "fuzz_doors", "prefix", "health", "engines")  # fmt: skip
"""Files that take longest, first: at the end one process would be left alone with them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files of `LONG` first; of several processes each takes the next file that is left."""
    places = {f"test_{name}": place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONG)))


def pytest_collection_finish() -> None:
    """Leave modules and tests out of every garbage collection, as a sidecar does."""
    calm_collector()


@pytest.fixture(autouse=True)
def _no_stray_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test talks to a store that it did not start, nor to a key of the machine."""
    for name in ("REDIS_URL", "POINTSMAN_STORE_URL", "POINTSMAN_CONFIG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _logs_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A verb that runs in this process sets up no logs: they would be the next tests' as well."""
    monkeypatch.setattr(logs, "configure", lambda **_: None)


@pytest.fixture
def state_dir() -> Iterator[Path]:
    """A short path, so that a unix socket fits into it."""
    with tempfile.TemporaryDirectory(prefix="pm-", dir="/tmp") as path:
        yield Path(path)


@pytest.fixture
def store(state_dir: Path) -> Iterator[PrivateServer]:
    with PrivateServer(state_dir / "store") as server:
        yield server


@pytest.fixture
def address(request: pytest.FixtureRequest) -> Iterator[Address]:
    """Where the store is: a real one for a test that has `store`, else fakeredis.

    Real it is where processes or the store die, where several decide by a script at once, and
    where it is about what a server says, limits or forgets by itself.
    """
    if "store" in request.fixturenames:
        yield Address(f"unix://{request.getfixturevalue('store').socket_path}")
        return
    with fake_store() as found:
        yield found


@pytest.fixture
def client(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A client of that store; of fakeredis without a socket, where nobody has to connect."""
    if {"store", "address"} & set(request.fixturenames):
        found = connect(request.getfixturevalue("address"))
    else:
        found = fakeredis.FakeRedis(server=fakeredis.FakeServer(server_type="valkey"))
    yield found
    found.close()


# -- a provider ---------------------------------------------------------------------------------


def answer(text: str = "hello", *, answer_id: str = "chatcmpl-1", model: str = "m") -> bytes:
    message = {"role": "assistant", "content": text}
    return json.dumps(
        {
            "id": answer_id,
            "object": "chat.completion",
            "created": 1,
            "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
            "big": 12345678901234567890123,
        }
    ).encode()


def event(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def chunks(
    *words: str, answer_id: str = "chatcmpl-1", usage: bool = False, finish: bool = True
) -> list[bytes]:
    """The events of a stream: a role, the words, a finish, the usage, the end."""
    common = {"id": answer_id, "object": "chat.completion.chunk", "created": 1, "model": "m"}

    def choice(delta: dict[str, str], reason: str | None = None) -> dict[str, Any]:
        return {**common, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}

    out = [event(choice({"role": "assistant", "content": ""}))]
    out += [event(choice({"content": word})) for word in words]
    if finish:
        out.append(event(choice({}, "stop")))
        if usage:
            counts = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
            out.append(event({**common, "choices": [], "usage": counts}))
        out.append(b"data: [DONE]\n\n")
    return out


@dataclass
class Reply:
    """What the provider does with a call: wait, then answer, stream, or break off."""

    status: int = 200
    body: bytes = b""
    chunks: list[bytes] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    chunk_delay_s: float = 0.0
    cut: bool = False  # close the connection after the chunks, without an end
    reset: bool = False  # close it before anything


@dataclass
class Seen:
    """A call as the provider saw it."""

    host: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float
    method: str = "POST"

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def default_reply(call: Seen) -> Reply:
    wanted = call.json if call.body else {}
    number = f"chatcmpl-{time.monotonic_ns()}"
    if wanted.get("stream"):
        ask = (wanted.get("stream_options") or {}).get("include_usage", False)
        return Reply(chunks=chunks("hel", "lo", answer_id=number, usage=ask))
    return Reply(body=answer(answer_id=number, model=wanted.get("model", "")))


class Provider:
    """An OpenAI-compatible server on loopback; each host name is a path of its own."""

    def __init__(self) -> None:
        self.calls: list[Seen] = []
        self.replies: dict[str, Callable[[Seen], Reply]] = {}
        self.closed_early = 0
        self.port = 0

    def url(self, host: str = "a") -> str:
        return f"http://127.0.0.1:{self.port}/{host}/v1"

    def on(self, host: str, reply: Reply | Callable[[Seen], Reply]) -> None:
        self.replies[host] = reply if callable(reply) else lambda _: reply

    def hosts(self) -> list[str]:
        return [call.host for call in self.calls]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = {k.decode(): v.decode("latin-1") for k, v in scope["headers"]}
        host = scope["path"].split("/")[1]
        query = scope["query_string"].decode()
        path = scope["path"] + (f"?{query}" if query else "")
        call = Seen(host, path, headers, body, time.monotonic(), scope["method"])
        self.calls.append(call)
        reply = self.replies.get(host, default_reply)(call)
        try:
            await self._answer(reply, send, receive)
        except _Broken:
            scope["state_transport"] = None
            raise

    async def _answer(self, reply: Reply, send: Any, receive: Any) -> None:
        if reply.delay_s:
            gone = asyncio.ensure_future(_disconnected(receive))
            await asyncio.wait([gone], timeout=reply.delay_s)
            if gone.done():
                self.closed_early += 1
                return
            gone.cancel()
        if reply.reset:
            raise _Broken
        kind = "text/event-stream" if reply.chunks is not None else "application/json"
        headers = {"content-type": kind, **reply.headers}
        if reply.chunks is None:
            headers["content-length"] = str(len(reply.body))
        raw = [(k.encode(), v.encode()) for k, v in headers.items()]
        await send({"type": "http.response.start", "status": reply.status, "headers": raw})
        if reply.chunks is None:
            await send({"type": "http.response.body", "body": reply.body})
            return
        gone = asyncio.ensure_future(_disconnected(receive))
        for chunk in reply.chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await asyncio.wait([gone], timeout=reply.chunk_delay_s)
            if gone.done():
                self.closed_early += 1
                return
        gone.cancel()
        if reply.cut:
            raise _Broken
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class _Broken(Exception):
    """Makes the server close the connection without an end."""


async def _disconnected(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class _Server(uvicorn.Server):
    """uvicorn that ends when it is asked to, and not at its next look; draining is its own."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        self.asked = asyncio.Event()
        await super().startup(sockets)

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self.asked.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if not self.server_state.tasks:  # else there is something to wait for
            for server in self.servers:
                server.close()
            for connection in list(self.server_state.connections):
                connection.shutdown()
            with suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    while self.server_state.connections:
                        await asyncio.sleep(0.001)
            if not self.server_state.connections:
                await self.lifespan.shutdown()
                return
        await super().shutdown(sockets)


class Running:
    """An ASGI application served over real HTTP by a thread."""

    def __init__(self, app: Any) -> None:
        config = uvicorn.Config(
            app,
            host="127.0.0.1",
            port=0,
            http="httptools",
            loop="uvloop",
            ws="none",
            lifespan="off",
            log_level="critical",
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=1,
        )
        self.server = _Server(config)
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        while not self.server.started:
            assert self.thread.is_alive()
            time.sleep(0.002)
        self.port: int = self.server.servers[0].sockets[0].getsockname()[1]

    def stop(self) -> None:
        self.server.should_exit = True
        with suppress(RuntimeError):  # it was stopped before: its loop is closed
            self.server.loop.call_soon_threadsafe(self.server.asked.set)
        self.thread.join(15)
        assert not self.thread.is_alive()


class RunningSidecar:
    """A sidecar served over real HTTP by a thread."""

    def __init__(self, app: server.Sidecar) -> None:
        entry = app.keeper.current.configuration.server
        began: list[tuple[asyncio.AbstractEventLoop, int]] = []
        listener = listener_of(
            app, entry, on_listen=lambda port: began.append((asyncio.get_running_loop(), port))
        )
        self.listener = listener
        self.thread = threading.Thread(target=listener.run, args=(bound("127.0.0.1", 0),))
        self.thread.start()
        while not began:
            assert self.thread.is_alive()
            time.sleep(0.002)
        self.loop, self.port = began[0]

    def stop(self) -> None:
        if self.thread.is_alive():
            self.listener.ask_to_stop()
        self.thread.join(15)
        assert not self.thread.is_alive()


class _Stage:
    """One server for the providers of all tests: each call is its own provider's to the end."""

    def __init__(self) -> None:
        self.provider = Provider()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.provider(scope, receive, send)


@pytest.fixture(scope="session")
def _stage() -> Iterator[tuple[_Stage, int]]:
    stage = _Stage()
    running = Running(stage)
    yield stage, running.port
    running.stop()


@pytest.fixture
def provider(_stage: tuple[_Stage, int]) -> Provider:
    stage, port = _stage
    stage.provider = Provider()
    stage.provider.port = port
    return stage.provider


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """A provider on a raw socket: it does with each connection as it is told, one at a time."""
    server = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                connection.settimeout(10)
                with connection, suppress(OSError):
                    serve(connection)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/v1"
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(10)


# -- a sidecar ----------------------------------------------------------------------------------


@dataclass
class Sidecar:
    """A sidecar over real HTTP, with its own state directory."""

    port: int
    app: server.Sidecar
    running: RunningSidecar
    state_dir: Path
    http: httpx.Client

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def chat(self, model: str = "auto", text: str = "hello", **more: Any) -> httpx.Response:
        headers = more.pop("headers", {})
        messages = more.pop("messages", [{"role": "user", "content": text}])
        body = {"model": model, "messages": messages, **more}
        return self.http.post("/v1/chat/completions", json=body, headers=headers)

    def feedback(self, **body: Any) -> httpx.Response:
        return self.http.post("/v1/feedback", json=body)

    def until(self, condition: Callable[[], bool], within_s: float = 10.0) -> None:
        """Wait for something that other threads bring about."""
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, "it did not come about in time"
            time.sleep(0.01)

    def digest(self, name: str) -> int:
        """What an endpoint's state is kept under."""
        return self.app.keeper.current.configuration.catalog.by_id[name].digest

    def calls_known(self) -> int:
        return int(self.app.keeper.current.posterior.calls.sum())

    def labels_known(self) -> int:
        return int(self.app.keeper.current.posterior.labels.sum())


def endpoint(provider: Provider, name: str, host: str | None = None, **more: Any) -> dict[str, Any]:
    """An endpoint of the fake provider."""
    found = {"id": name, "model": name, "base_url": provider.url(host or name)}
    found["prices"] = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
    return {**found, **more}


@contextmanager
def serving(
    value: dict[str, Any],
    state_dir: Path,
    address: Address,
    *,
    observing: bool = False,
    clock: Callable[[], Moment] = now,
    file: Path | None = None,
) -> Iterator[Sidecar]:
    """Serve a configuration given as a dictionary; `file` is written with it, and watched."""
    whole = {**value}
    whole["server"] = {"port": 0, "state_dir": str(state_dir), **value.get("server", {})}
    whole["store"] = {"shards": SHARDS, **value.get("store", {})}
    text = yaml.dump(whole, Dumper=yaml.CSafeDumper, sort_keys=False)
    if file is not None:
        file.write_text(text)
    configuration = compile_text(text, file="test.yaml")
    app = server.Sidecar(configuration, address, observing=observing, clock=clock, file=file)
    running = RunningSidecar(app)
    # Without `verify` it would read all certificates of the machine, for nothing, each time.
    url = f"http://127.0.0.1:{running.port}"
    http = httpx.Client(base_url=url, timeout=30, trust_env=False, verify=False)
    try:
        yield Sidecar(running.port, app, running, state_dir, http)
    finally:
        http.close()
        running.stop()


@contextmanager
def learning(state_dir: Path, address: Address) -> Iterator[Learner]:
    """Fold events in a thread."""
    learner = Learner(address, SHARDS, state_dir / "journal")
    thread = threading.Thread(target=learner.run)
    thread.start()
    try:
        yield learner
    finally:
        learner.stop.set()
        _unblock(address)
        thread.join(10)
        assert not thread.is_alive()


def _unblock(address: Address) -> None:
    """End whatever waits for records there are; of a cluster and a sentinel none are seen to."""
    if address.url.partition("://")[0] not in SERVER:
        return
    with closing(connect(address, timeout_s=0.2)) as client, suppress(*StoreErrors):
        for each in client.client_list():
            if each["cmd"] == "xread":
                client.client_unblock(int(each["id"]))


@pytest.fixture
def learner(state_dir: Path, address: Address) -> Iterator[Learner]:
    with learning(state_dir, address) as found:
        yield found


ROUTED = {"default": {"mode": "route", "strategy": "learn"}}
A_TICK = 1 - 2 ** (-1 / TICKS_PER_HALF_LIFE) + 0.01
"""What a row may have lost within the tick by which evidence fades, and by rounding of weights."""
LEARN = {"learn": {"objective": "quality", "incumbent": "none"}}


@pytest.fixture
def sidecar(provider: Provider, state_dir: Path, address: Address) -> Iterator[Sidecar]:
    """Two endpoints in learning mode; no worker."""
    value = {
        "endpoints": [endpoint(provider, "a"), endpoint(provider, "b")],
        "tasks": {"code": None, "chat": None},
        "strategies": LEARN,
        "apps": ROUTED,
    }
    with serving(value, state_dir, address) as found:
        yield found


REPOSITORY = Path(os.path.dirname(os.path.abspath(__file__))).parent


# -- the command line ---------------------------------------------------------------------------


def pointsman(*arguments: object, environment: dict[str, str] | None = None) -> Said:
    """Run a verb in this process: what it says, and how it ends, is what a shell would get.

    An error that a verb lets through, which a shell would show as a traceback, is raised here.
    """
    before, configure = structlog.get_config(), structlog.configure
    # A verb sets up the logs of its process. Here they are set up while it runs, and no logger
    # keeps what it was given: its stderr is closed afterwards.
    with pytest.MonkeyPatch.context() as logs:
        logs.setattr(structlog, "configure", partial(_configure, configure))
        try:
            words = [str(each) for each in arguments]
            return CliRunner().invoke(app, words, env=environment, catch_exceptions=False)
        finally:
            configure(**before)


def _configure(configure: Callable[..., None], **how: Any) -> None:
    configure(**how | {"cache_logger_on_first_use": False})


# -- records and what became of them ------------------------------------------------------------


def outcome_of(number: int) -> bytes:
    """An outcome that counts as one call."""
    shard = number % SHARDS
    token = Token(
        1,
        shard,
        0,
        number.to_bytes(16, "big"),
        int(time.time() * 1000),
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        0.5,
        0.5,
        0.1,
    )
    return outcome(token.pack(), result=Result.OK, attempt=1, status=200, flags=0)


def folded(client: Any, what: str = "outcomes") -> int:
    """How many records took effect, by the counters of all shards."""
    return sum(int(client.hget(keys.meta(s), f"n_{what}") or 0) for s in range(SHARDS))


def until(condition: Callable[[], object], within_s: float = 10.0) -> None:
    """Wait for something that may fail while the store is away."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            if condition():
                return
        except StoreErrors:
            pass
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)


# -- stores of several servers ------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """A server of a store of several, on a port of loopback."""

    port: int
    process: subprocess.Popen[bytes]
    client: redis.Redis

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def wait_for(self, *condition: str, within_s: float = 10.0) -> None:
        """Wait until `CLUSTER INFO` or `INFO replication` says all of these."""
        deadline = time.monotonic() + within_s
        while True:
            said = self.client.execute_command("INFO", "replication")
            said = {f"{k}:{v}" for k, v in said.items()}
            if condition[0].startswith("cluster_"):
                raw = self.client.execute_command("CLUSTER INFO")
                said = {f"{k}:{v}" for k, v in raw.items()}
            if said.issuperset(condition):
                return
            assert time.monotonic() < deadline, (condition, said)
            time.sleep(0.02)


@contextmanager
def servers(root: Path, program: str | None = None) -> Iterator[Callable[..., Server]]:
    """Yield a function that starts a server with these settings; all end with the context."""
    started: list[Server] = []

    def start(*arguments: str, **settings: str) -> Server:
        port = free_port()
        directory = root / f"server-{port}"
        directory.mkdir(parents=True)
        flags = {"bind": "127.0.0.1", "port": str(port), "dir": str(directory), "save": ""}
        flags |= {"logfile": str(directory / "log")} | settings
        named = [part for k, v in flags.items() for part in (f"--{k.replace('_', '-')}", v)]
        process = subprocess.Popen(
            [program or server_program(), *arguments, *named], stdout=subprocess.DEVNULL
        )
        password = settings.get("requirepass")
        client = redis.Redis(
            port=port, password=password, retry=Retry(NoBackoff(), 0), socket_timeout=5
        )
        started.append(Server(port, process, client))
        deadline = time.monotonic() + 10
        while True:
            try:
                client.ping()
                return started[-1]
            except redis.ConnectionError:
                assert time.monotonic() < deadline
                time.sleep(0.01)

    try:
        yield start
    finally:
        for server in started:
            server.client.close()
            server.process.kill()
        for server in started:
            server.process.wait(10)


NOT_TRIED = {"test_engines": "servers", "test_clients": "clients"}
"""What a file tries that a machine may not have."""


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say aloud what nothing was tried on, even where skips are not shown."""
    skipped = terminalreporter.stats.get("skipped", [])
    for file, what in NOT_TRIED.items():
        missing = sorted({report.longrepr[2] for report in skipped if file in report.nodeid})
        if missing:
            title = f"{what} that were not tried"
            terminalreporter.write_sep("!", title, yellow=True, bold=True)
        for reason in missing:
            terminalreporter.write_line(reason.removeprefix("Skipped: "), yellow=True)
