"""JSON Schemas of the routing protocol and of the configuration file.

`python -m scripts.schemas` writes them to `docs/schemas/` anew, and the pages `docs/reference*.md`;
a test fails where they have drifted, and holds real answers against them. Schemas of events are
`telemetry/schemas`.

- `shapes`: parts that several of them have
- `hints`: what a caller says beside the request itself
- `profiles`: what is known of endpoints
- `decisions`: what would be decided of a call, why it was, and which ones a session had
- `codes`: the closed lists of words
- `configuration`: the file, with a sentence of each field
- `fields`, `reference`: the pages that list every field of the file
- `__main__`: writes them
"""

from __future__ import annotations

from pathlib import Path

from scripts.schemas.codes import codes
from scripts.schemas.configuration import configuration
from scripts.schemas.decisions import decision, explanation, session
from scripts.schemas.hints import hint_headers, hints
from scripts.schemas.profiles import catalog_row, endpoint_row
from scripts.schemas.shapes import Schema

DIRECTORY = Path(__file__).parent.parent.parent / "docs" / "schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
VERSION = 1
"""Of all of them together: it rises where what was sound before is so no more, or means another
thing. Fields and words may be added without."""


def build() -> dict[str, Schema]:
    """Return every schema by its file's name."""
    found = {
        "hints.json": hints(),
        "hint_headers.json": hint_headers(),
        "catalog_row.json": catalog_row(),
        "endpoint_row.json": endpoint_row(),
        "decision.json": decision(),
        "explanation.json": explanation(),
        "session.json": session(),
        "codes.json": codes(),
        "configuration.json": configuration(),
    }
    return {
        name: {"$schema": DIALECT, "$id": f"pointsman/{name}", "x-version": VERSION, **schema}
        for name, schema in found.items()
    }
