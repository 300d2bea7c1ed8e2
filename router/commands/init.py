"""`pointsman init`: a first configuration."""

from __future__ import annotations

from pathlib import Path


def init(config: Path | None, *, yes: bool, source: str, file: Path | None, as_json: bool) -> None:
    """Write a configuration from what is at hand."""
    raise NotImplementedError
