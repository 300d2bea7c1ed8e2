"""Writes the schemas, and the pages that are made of them, anew."""

from __future__ import annotations

from scripts.schemas import DIRECTORY, build
from scripts.schemas.reference import pages
from telemetry.schemas import shown

for name, schema in build().items():
    (DIRECTORY / name).write_text(shown(schema))
for name, text in pages().items():
    (DIRECTORY.parent / name).write_text(text)
