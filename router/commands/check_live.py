"""`pointsman check --live`: every endpoint called, a few tiny calls each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def check_live(config: Path | None, endpoints: Sequence[str], *, yes: bool, as_json: bool) -> None:
    """Call endpoints, and say what is not as the configuration has it."""
    raise NotImplementedError
