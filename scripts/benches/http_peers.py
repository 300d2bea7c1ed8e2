"""Gateways of others, as `bench http --peer` runs them: versions and settings, in one place."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml


@dataclass(frozen=True, slots=True)
class Installed:
    """A peer that can be started."""

    command: Sequence[str]
    variables: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)  # that each call needs


@dataclass(frozen=True, slots=True)
class Peer:
    """A gateway of others."""

    package: str
    install: Callable[..., Installed]  # (directory, *, port, upstream)


def _litellm(directory: Path, *, port: int, upstream: int) -> Installed:
    """LiteLLM's proxy: one worker, no database, no logs, no key."""
    environment = directory / "litellm"
    python = environment / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)  # noqa: S603
    install = [str(python), "-m", "pip", "install", "-q", PEERS["litellm"].package]
    subprocess.run(install, check=True)  # noqa: S603
    config = directory / "litellm.yaml"
    parameters = {"model": "openai/m", "api_base": f"http://127.0.0.1:{upstream}/v1"}
    model = {"model_name": "auto", "litellm_params": {**parameters, "api_key": "none"}}
    config.write_text(yaml.safe_dump({"model_list": [model]}))
    program = str(environment / "bin" / "litellm")
    return Installed(
        [program, "--config", str(config), "--host", "127.0.0.1", "--port", str(port)],
        {
            "LITELLM_LOG": "ERROR",
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        },
    )


def _portkey(directory: Path, *, port: int, upstream: int) -> Installed:
    """Portkey's gateway, with a configuration in a header.

    As its package resolves today, @hono/node-server answers every stream with 500; an older one
    does not.
    """
    root = directory / "portkey"
    root.mkdir()
    package = {
        "private": True,
        "dependencies": {"@portkey-ai/gateway": PEERS["portkey"].package.rpartition("@")[2]},
        "overrides": {"@hono/node-server": "1.13.8"},
    }
    (root / "package.json").write_text(json.dumps(package))
    install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]
    subprocess.run(install, cwd=root, check=True)  # noqa: S603
    server = root / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    target = {"provider": "openai", "custom_host": f"http://127.0.0.1:{upstream}/v1"}
    config = {"strategy": {"mode": "loadbalance"}, "targets": [{**target, "api_key": "none"}]}
    return Installed(
        ["node", str(server), f"--port={port}", "--headless"],
        {"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"},
        {"x-portkey-config": json.dumps(config, separators=(",", ":"))},
    )


PEERS = {
    "litellm": Peer("litellm[proxy]==1.106.2", _litellm),
    "portkey": Peer("@portkey-ai/gateway@1.15.2", _portkey),
}
