"""What models can do where they are hosted, as rows and as lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from router.endpoints.capabilities import Reasoning
from router.endpoints.catalog import Catalog
from router.endpoints.profile import Provenance
from router.endpoints.verified import NOTHING, Verified


def profile_rows(
    catalog: Catalog, verified: Mapping[int, Verified] = NOTHING
) -> list[dict[str, Any]]:
    """Return the profile of every endpoint, each value beside where it comes from.

    Args:
        verified: by digest, what live checks found.
    """
    return [
        {"endpoint": e.id, "model": e.model, **e.profile.as_json(verified.get(e.digest))}
        for e in catalog.endpoints
    ]


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
    told |= {c: row["capabilities"][c] for c in row["capabilities"] if _disagrees(row, c)}
    if able := [f"{c}{_mark(found)}" for c, found in told.items() if found["value"]]:
        yield f"can {', '.join(able)}"
    if unable := [f"{c}{_mark(found)}" for c, found in told.items() if not found["value"]]:
        yield f"cannot {', '.join(unable)}"
    if row["reasoning"]["value"] not in (None, Reasoning.NEVER):  # of which it is said above
        yield f"reasoning by {row['reasoning']['value']}"


def _disagrees(row: dict[str, Any], capability: str) -> bool:
    """Return whether a live check found something else than what holds."""
    told = row["capabilities"][capability]
    checked = told.get("checked")  # a sidecar of an earlier version says nothing of it
    return checked is not None and checked["found"] is not told["value"]


def _mark(told: dict[str, Any]) -> str:
    """Return what a live check says of a capability, and when."""
    checked = told.get("checked")
    if checked is None:
        return ""
    agrees = checked["found"] is told["value"]
    return f" (verified {checked['on']})" if agrees else f" (disagrees, checked {checked['on']})"
