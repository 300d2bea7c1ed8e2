"""What this router says of itself: who it is, what it goes by, and what is wrong with it."""

from __future__ import annotations

import secrets
import socket
from hashlib import blake2b

import msgspec

from router.config.compiled import App, Configuration
from telemetry import __version__
from telemetry.routers import HEX_DIGITS, RouterPresence, RouterTrouble

NOT_DEFINED_BY = {"keys"}
"""Each machine may take an app's keys from elsewhere."""


def router_name(port: int) -> str:
    """Return the name of a router that begins now; no other one has it."""
    return f"{socket.gethostname()}:{port}-{secrets.token_hex(3)}"


def configuration_digest(configuration: Configuration) -> str:
    """Return by what a configuration is known to people."""
    return f"{configuration.version:016x}"[:HEX_DIGITS]


def presence_of(
    name: str, configuration: Configuration, troubles: list[RouterTrouble], *, now_ms: int
) -> RouterPresence:
    """Return a router's word."""
    return RouterPresence(
        name=name,
        version=__version__,
        configuration=configuration_digest(configuration),
        apps=configuration.derive(_apps),
        seen_ms=now_ms,
        troubles=troubles,
    )


def _apps(configuration: Configuration) -> dict[str, str]:
    return {name: _digest(app) for name, app in configuration.apps.items()}


def _digest(app: App) -> str:
    """Return the digest of what is written of an app: 8 hexadecimal digits."""
    said = app.entry.model_dump(mode="json", by_alias=True, exclude=NOT_DEFINED_BY)
    text = msgspec.json.encode(said, order="deterministic")
    return blake2b(text, digest_size=4).hexdigest()
