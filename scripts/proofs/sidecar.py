"""The sidecar that a proof is about: `pointsman serve`, with a private store of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from router.config.compiled import Configuration, load
from router.demo.stack import Stack, stack
from telemetry.store import Address, open_store


@dataclass(frozen=True, slots=True)
class RunningSidecar:
    """One that takes calls."""

    port: int
    configuration: Configuration
    address: Address
    processes: Stack

    @property
    def url(self) -> str:
        """The base URL for an SDK."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def log(self) -> str:
        """The end of what it wrote."""
        return self.processes.log("router")


@contextmanager
def sidecar(directory: Path, value: Mapping[str, Any]) -> Iterator[RunningSidecar]:
    """Yield a sidecar with this configuration; its state lies in `directory`.

    Raises:
        DidNotStart: it ended, or took too long.
    """
    directory.mkdir(parents=True, exist_ok=True)
    server = {"port": 0, "state_dir": str(directory / "state"), **value.get("server", {})}
    config = directory / "pointsman.yaml"
    config.write_text(yaml.safe_dump({**value, "server": server}, sort_keys=False))
    configuration = load(config)
    with (
        open_store(configuration.server.state_directory()) as address,
        stack(directory) as processes,
    ):
        yield RunningSidecar(processes.router(config), configuration, address, processes)
