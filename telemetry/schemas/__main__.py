"""Writes the schemas anew."""

from __future__ import annotations

from telemetry.schemas import DIRECTORY, build, shown

for name, schema in build().items():
    (DIRECTORY / name).write_text(shown(schema))
