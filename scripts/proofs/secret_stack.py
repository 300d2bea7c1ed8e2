"""The stack of which nothing may get out: `pointsman up`, a store with a password, and their keys.

What is given (configuration, key files) lies apart from what the parts write: only the latter is
searched.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
import yaml

from router.demo.stack import DidNotStart, Stack, stack
from scripts.proofs import faulty_parts
from scripts.proofs.canaries import Canaries
from scripts.proofs.chaos import listens
from scripts.proofs.secret_provider import BEHAVIOURS, SILENT
from telemetry.embedded import server_program
from telemetry.kept_secrets import SECRET_BYTES, KeptKey, KeptSecrets, SecretsFile
from telemetry.store import Address, connect

START_S = 60.0
ARCHIVE_EVERY_S = 1.0
MAX_BODY_BYTES = 1 << 20
ROOT = Path(__file__).resolve().parents[2]
STORE_URL, KEY, APP_KEY, ADMIN_KEY, SEAL = (
    f"PROVE_{name}" for name in ("STORE_URL", "PROVIDER_KEY", "APP_KEY", "ADMIN_KEY", "SEAL")
)
ALONE, AFTER, BUFFERED, ROUTED = "alone", "after", "buffered", "routed"
"""Apps: whose failed calls go nowhere else, go on to others, come whole, and are routed."""
APPS = (ALONE, AFTER, BUFFERED, ROUTED)


@dataclass(slots=True)
class GivenSecrets:
    """What the parts are given to keep."""

    canaries: Canaries
    given: Path
    environment: dict[str, str] = field(default_factory=dict)
    store_password: str = ""
    app_keys: dict[str, str] = field(default_factory=dict)
    admin_key: str = ""

    def __post_init__(self) -> None:
        plant = self.canaries.plant
        self.store_password = plant("password of the store")
        self.admin_key = plant("admin key")
        self.app_keys = {app: plant(f"key of the app {app}") for app in APPS}
        self.environment |= {
            KEY: plant("provider's key in a variable"),
            ADMIN_KEY: self.admin_key,
            SEAL: plant("secret that sealed decision ids"),
            **{f"{APP_KEY}_{app.upper()}": key for app, key in self.app_keys.items()},
        }

    def key_file(self, name: str, secret: str) -> str:
        """Return the path of a file that holds a secret."""
        path = self.given / name
        path.touch(mode=0o600)
        path.write_text(secret)
        return str(path)


def configuration(secrets: GivenSecrets, provider: str, seen: Path, port: int) -> dict[str, Any]:
    """Return the configuration of the stack: an endpoint for each behaviour, and four apps."""
    plant = secrets.canaries.plant
    user, password = plant("user in base_url"), plant("password in base_url")
    salt = plant("value of a parameter in the configuration")
    (seen / "state").mkdir(parents=True, exist_ok=True, mode=0o700)
    of_users, of_draws, seal = (
        plant(f"secret of the store: {name}").ljust(SECRET_BYTES, "=").encode()
        for name in ("users", "draws", "seal")
    )
    key = KeptKey(seal, int(time.time() * 1000))
    kept = KeptSecrets(users=of_users, draws=of_draws, seal=seal, keys=[key])
    SecretsFile(seen / "state").change(lambda _: kept)
    key_file = secrets.key_file("provider.key", plant("provider's key in a file"))
    app_file = secrets.key_file("app.key", secrets.app_keys[ROUTED])
    hosting: dict[str, dict[str, Any]] = {name: {"auth": {"env": KEY}} for name in BEHAVIOURS}
    hosting["by-file"] = {"auth": {"file": key_file, "header": "x-api-key"}}
    hosting["by-user"] = {"base_url": provider.replace("://", f"://{user}:{password}@")}
    hosting["by-client"] = {"auth": "client"}
    providers = {
        name: {"base_url": f"{entry.get('base_url', provider)}/{name}/v1"}
        | {k: v for k, v in entry.items() if k != "base_url"}
        for name, entry in hosting.items()
    }
    providers["by-client"]["passthrough"] = True
    apps: dict[str, dict[str, Any]] = {
        ALONE: {"mode": "observe", "fallback": "none"},
        AFTER: {"mode": "observe", "fallback": "any", "incumbent": "by-env"},
        BUFFERED: {"mode": "observe", "fallback": "any", "stream": "buffered"},
        ROUTED: {"mode": "route", "strategy": "learn"},
    }
    for app, entry in apps.items():
        entry["keys"] = [{"env": f"{APP_KEY}_{app.upper()}"}]
    apps[ROUTED]["keys"] = [{"file": app_file}]
    return {
        "server": {
            "port": port,
            "state_dir": str(seen / "state"),
            "admin_key": {"env": ADMIN_KEY},
            "seal_secret_before": {"env": SEAL},
            "max_body_bytes": MAX_BODY_BYTES,
            "drain_s": 1,
            "drain_most_s": 2,
        },
        "store": {"url_env": STORE_URL},
        "archive": {"every_s": ARCHIVE_EVERY_S},
        "providers": providers,
        "endpoints": [
            _endpoint(name) | ({"params": {"salt": salt}} if name == "by-file" else {})
            for name in BEHAVIOURS
        ],
        "strategies": {"learn": {"objective": "quality", "incumbent": "none"}},
        "apps": apps,
    }


def _endpoint(name: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": name, "model": name, "provider": name}
    if name == SILENT:
        entry["timeouts"] = {"first_token_s": 0.3, "answer_s": 0.3}
    return entry


@dataclass(slots=True)
class GivenStore:
    """A server with a password, given to the stack by its address."""

    directory: Path
    password: str
    port: int = field(default_factory=lambda: free_port())
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> Address:
        """Where it is."""
        return Address(f"redis://:{self.password}@127.0.0.1:{self.port}/0")

    def start(self) -> None:
        """Start it; the password goes in by stdin, not by its command line.

        Raises:
            DidNotStart: it does not answer.
        """
        self.directory.mkdir(exist_ok=True)
        settings = {
            "bind": "127.0.0.1",
            "port": self.port,
            "dir": self.directory,
            "logfile": self.directory / "server.log",
            "appendonly": "yes",
            "rdbcompression": "no",  # what is compressed cannot be searched
            "save": '""',
            "requirepass": self.password,
        }
        self.process = subprocess.Popen(  # noqa: S603 - our own server
            [server_program(), "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        assert self.process.stdin is not None
        with self.process.stdin as written:
            written.write("\n".join(f"{k} {v}" for k, v in settings.items()).encode())
        deadline = time.monotonic() + START_S
        with closing(connect(self.address)) as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.ConnectionError as error:
                    if time.monotonic() > deadline:
                        raise DidNotStart("the store does not answer") from error
                    time.sleep(0.02)

    def stop(self) -> None:
        """End it, its file on the disk."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)


@dataclass(frozen=True, slots=True)
class SecretStack:
    """The running parts, and where what they write lies."""

    secrets: GivenSecrets
    config: Path
    seen: Path
    port: int
    store: GivenStore
    processes: Stack

    @property
    def url(self) -> str:
        """Where the sidecar is."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def secret_stack(directory: Path, canaries: Canaries, provider: str) -> Iterator[SecretStack]:
    """Yield the running stack; `directory` is given to it, `directory/seen` is what it writes.

    Raises:
        DidNotStart: a part never came up.
    """
    seen, site = directory / "seen", directory / "site"
    for path in (seen, site, directory / "broke"):
        path.mkdir(parents=True)
    (site / "sitecustomize.py").write_text(faulty_parts.SITE)
    secrets = GivenSecrets(canaries, directory)
    store, port = GivenStore(seen / "store", secrets.store_password), free_port()
    secrets.environment |= {
        STORE_URL: store.address.url,
        "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)]),
        "PYTHONASYNCIODEBUG": "1",  # the most that is ever logged
        faulty_parts.ONCE: str(directory / "broke"),
        faulty_parts.SECRET: canaries.plant("message of a fault in a worker"),
    }
    config = directory / "pointsman.yaml"
    config.write_text(yaml.safe_dump(configuration(secrets, provider, seen, port), sort_keys=False))
    with _set(secrets.environment), stack(seen) as processes:
        store.start()
        try:
            up = processes.start(
                "up", "router.cli", "up", "--config", str(config), "--longest-pause", "0.5"
            )
            deadline = time.monotonic() + START_S
            while not listens(port):
                if up.poll() is not None or time.monotonic() > deadline:
                    raise DidNotStart(f"up did not start:\n{processes.log('up')}")
                time.sleep(0.05)
            yield SecretStack(secrets, config, seen, port, store, processes)
            processes.stop_all()
        finally:
            processes.stop_all()
            store.stop()


@contextmanager
def _set(environment: dict[str, str]) -> Iterator[None]:
    """Have variables set meanwhile: the parts inherit them."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
