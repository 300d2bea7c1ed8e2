"""`pointsman profile`: a user's own prompts at every endpoint."""

from __future__ import annotations

from typing import Any


def profile(options: dict[str, Any]) -> None:
    """Run prompts, and say which endpoint to pin or whether to route."""
    raise NotImplementedError
