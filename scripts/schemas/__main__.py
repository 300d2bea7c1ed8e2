"""Writes the schemas anew."""

from __future__ import annotations

from scripts.schemas import DIRECTORY, build
from telemetry.schemas import shown

for name, schema in build().items():
    (DIRECTORY / name).write_text(shown(schema))
