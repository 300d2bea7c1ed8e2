"""What models can do where they are hosted, as rows and as lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from router.endpoints.capabilities import Reasoning
from router.endpoints.catalog import Catalog
from router.endpoints.profile import Provenance


def profile_rows(catalog: Catalog) -> list[dict[str, Any]]:
    """Return the profile of every endpoint, each value beside where it comes from."""
    return [{"endpoint": e.id, "model": e.model, **e.profile.as_json()} for e in catalog.endpoints]


def profile_lines(rows: list[dict[str, Any]]) -> list[str]:
    """Return a line for each profile of which something is known, with the endpoints that have it.

    What nobody said anything of is left out.
    """
    ids: dict[str, list[str]] = {}
    for row in rows:
        if known := "; ".join(known_of(row)):
            ids.setdefault(f"{row['model']}: {known}", []).append(row["endpoint"])
    return [f"profile of {', '.join(names)}, model {said}" for said, names in ids.items()]


def known_of(row: dict[str, Any]) -> Iterator[str]:
    """Yield what is known of a model at one endpoint, in a few words each."""
    default = Provenance.DEFAULT.value
    sizes = (("context", "context_tokens"), ("output", "output_tokens"))
    known = [(name, row[field]["value"]) for name, field in sizes]
    if said := [f"{name} {value:,} tokens" for name, value in known if value is not None]:
        yield ", ".join(said)
    told = {c: found for c, found in row["capabilities"].items() if found["source"] != default}
    if able := [capability for capability, found in told.items() if found["value"]]:
        yield f"can {', '.join(able)}"
    if unable := [capability for capability, found in told.items() if not found["value"]]:
        yield f"cannot {', '.join(unable)}"
    if row["reasoning"]["value"] not in (None, Reasoning.NEVER):  # of which it is said above
        yield f"reasoning by {row['reasoning']['value']}"
