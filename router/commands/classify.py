"""`pointsman classify`: how well exemplars tell tasks apart."""

from __future__ import annotations

from pathlib import Path


def classify(file: Path | None, text: str | None, *, config: Path | None, as_json: bool) -> None:
    """Show accuracy and confusion, or what one text looks like."""
    raise NotImplementedError
